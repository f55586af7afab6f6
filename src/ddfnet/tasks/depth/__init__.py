"""Depth upsampling under an RGB image (Table 7). Import the modules: the depth tool uses some, and needs no Lightning."""
