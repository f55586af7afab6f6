"""Whether CPU kernels can be compiled here, and the dtypes they serve."""

import importlib.util
import sys
from functools import cache

import torch

DTYPE_CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


@cache
def missing() -> str | None:
    """Returns what keeps this machine from compiling CPU kernels, or None."""
    if sys.byteorder != "little":
        return "it needs a little-endian machine"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'ddfnet[cpu]'"
    return None
