"""Folders as people lay them out: the names of a data set's parts, what is hidden, and which files are images."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

PARTS = ("train", "val", "test")
SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def image_suffixes() -> frozenset[str]:
    """Return the endings of the images that Pillow reads, such as ".jpg", in lower case."""
    no_images = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # which Pillow knows and cannot decode by itself
    known = Image.registered_extensions()  # imports all of Pillow's plug-ins
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in no_images)


def visible(path: Path) -> bool:
    """True if no part of a relative path is hidden: `.ipynb_checkpoints`, macOS's `__MACOSX` and `._name`."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def part_folder(root: Path, part: str) -> Path | None:
    """Return the folder of `part` ("train", "val" or "test") in `root`, by any of its names, case aside.

    Raises:
        ValueError: two folders have names of the part.
    """
    found = sorted(path for path in root.iterdir() if path.name.lower() in SYNONYMS[part] and path.is_dir())
    if len(found) > 1:
        raise ValueError(f"{root}: expected one folder of {part}, found {' and '.join(path.name for path in found)}")
    return found[0] if found else None


def listed(names: Iterable[str]) -> str:
    """Write names into a sentence: how many there are, and the first five different ones."""
    found = list(names)
    different = sorted(set(found))
    return f"{len(found)} ({', '.join(different[:5])}{', ...' if len(different) > 5 else ''})"
