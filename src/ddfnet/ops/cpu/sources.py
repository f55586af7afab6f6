"""The version of kernel sources, which distinguishes compiled kernels on disk from those of other sources."""

import zlib
from importlib.resources.abc import Traversable


def source_version(*places: Traversable) -> int:
    """Return a number that changes with the given Python files, or with those directly in the given folders.

    numba's disk cache looks at one file; a kernel is made of several. They may lie in a zip.
    """
    return zlib.crc32(b"".join(file.read_bytes() for place in places for file in _python_files(place)))


def _python_files(place: Traversable) -> list[Traversable]:
    if not place.is_dir():
        return [place]
    return sorted((file for file in place.iterdir() if file.name.endswith(".py")), key=lambda file: file.name)
