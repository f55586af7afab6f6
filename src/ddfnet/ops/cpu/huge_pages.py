"""Ask Linux for huge pages behind large results, as NumPy does for its arrays.

The first write to a fresh page costs a fault, several times what the kernels take for its 4 KiB; a huge page is one fault
for 2 MiB. The advice counts where transparent huge pages are set to "madvise", the usual default. It adds no memory: a huge
page lies within the result or is not used.
"""

import ctypes
import mmap
from functools import cache
from typing import Any

from torch import Tensor

_SMALLEST = 2**21  # bytes of a huge page


@cache
def _madvise() -> Any:
    """Return the system's function, or None if there is no such advice."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def advise(t: Tensor) -> Tensor:
    """Return `t`, a tensor without gaps that is about to be written, after asking for huge pages if it is large enough."""
    if t.nbytes >= _SMALLEST and (madvise := _madvise()) is not None:
        begin = -(-t.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        madvise(begin, t.data_ptr() + t.nbytes - begin, mmap.MADV_HUGEPAGE)  # refused, it changes nothing
    return t
