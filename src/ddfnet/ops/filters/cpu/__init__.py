"""The filter prediction on the CPU, by numba."""
