"""The filter prediction on GPUs, by Triton."""
