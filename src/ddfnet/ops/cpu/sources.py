"""The version of kernel sources, which distinguishes compiled kernels on disk from those of other sources."""

import zlib
from functools import cache
from pathlib import Path


@cache
def source_version(*places: Path) -> int:
    """Return a number that changes with the given Python files, or with those directly in the given folders.

    numba's disk cache looks at one file; a kernel is made of several.
    """
    files = (file for place in places for file in (sorted(place.glob("*.py")) if place.is_dir() else [place]))
    return zlib.crc32(b"".join(file.read_bytes() for file in files))
