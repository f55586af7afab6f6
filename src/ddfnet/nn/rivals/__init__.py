"""Layers that DDF is compared with (Tables 2, 4 and 5)."""
