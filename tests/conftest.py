"""What every test stands on: one thread per pytest-xdist worker, and hypothesis without a clock."""

import os

import torch
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # a worker a core

settings.register_profile("ddfnet", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ddfnet")
