"""Layers that enlarge a feature map: DDF-Up and its rivals (Table 6)."""
