"""Floor 1: tensors in, tensors out. Needs PyTorch alone."""
