"""The machine for CPU kernels: vectors, compiling, plans, threads, huge pages."""
