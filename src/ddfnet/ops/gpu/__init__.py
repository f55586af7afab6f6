"""The machine for GPU kernels: launches and devices."""
