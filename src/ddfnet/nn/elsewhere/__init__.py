"""Layers that others published with kernels of their own, on this package's operator. Weights of their checkpoints fit."""
