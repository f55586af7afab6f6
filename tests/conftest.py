"""What every test stands on: one thread per pytest-xdist worker, lines that do not wrap, hypothesis without a clock."""

import os

from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # what starts the workers needs no PyTorch
    import torch

    torch.set_num_threads(1)  # a worker a core

os.environ["COLUMNS"] = "1000"  # whatever the terminal, and however long the paths that are printed

settings.register_profile("ddfnet", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ddfnet")
