"""Pixel-adaptive convolution, PAC, and its transpose."""
