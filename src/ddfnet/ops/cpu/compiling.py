"""Compiles CPU kernels: functions of one address, that of a record of int64 numbers, kept in numba's cache on disk."""

from collections.abc import Callable
from typing import Any

import numba as _numba
import numpy as np
from numba.core import types as _types
from numba.np.numpy_support import from_dtype

numba: Any = _numba  # not typed
types: Any = _types
carray = numba.carray

_OPTIONS = {"error_model": "numpy"}  # no check of divisors: none is ever 0


def compile_kernel(kernel: Callable[..., None], call: type[tuple[Any, ...]]) -> Any:
    """Compiles a kernel or takes it from numba's cache on disk, beside the source or, as numba does, in the user's cache.

    Args:
        call: the named tuple of int64 numbers whose address the kernel is given.
    """
    record = from_dtype(np.dtype([(name, np.int64) for name in call._fields]))  # type: ignore[attr-defined, arg-type]
    signature = types.void(types.CPointer(record))
    try:
        return numba.cfunc(signature, cache=True, **_OPTIONS)(kernel)
    except (RuntimeError, OSError):  # no folder to write to, a full disk
        return numba.cfunc(signature, **_OPTIONS)(kernel)
