"""Eq. 2 on the CPU, by numba."""
