"""The parts of generated scenes."""
