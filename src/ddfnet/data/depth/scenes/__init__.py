"""What generated scenes are drawn with."""
