"""Check whether CPU kernels can be compiled here, and for which dtypes."""

import importlib
import importlib.util
import sys
import warnings
from functools import cache

import torch

DTYPE_CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


@cache
def missing() -> str | None:
    """Return what keeps this machine from compiling CPU kernels, or None.

    The first call imports numba, where it is installed, and warns if numba can't be used.
    """
    if sys.byteorder != "little":
        return "it needs a little-endian machine"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'ddfnet[cpu]'"
    reason = _unusable()
    if reason is not None:
        warnings.warn(f"ddfnet's CPU kernels can't be used: {reason}", RuntimeWarning, stacklevel=2)
    return reason


def _unusable() -> str | None:
    """Return why the numba that is installed can't compile, or None."""
    try:
        numba = importlib.import_module("numba")
        importlib.import_module("ddfnet.ops.cpu.compiling")
    except Exception as error:  # a broken installation raises whatever it runs into
        return f"numba is installed but can't be imported: {type(error).__name__}: {error}"
    if numba.config.DISABLE_JIT:
        return "numba compiles nothing: NUMBA_DISABLE_JIT is set"
    return None
