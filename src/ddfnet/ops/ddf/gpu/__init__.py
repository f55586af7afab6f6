"""Eq. 2 on GPUs, by Triton."""
