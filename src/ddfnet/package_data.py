"""Files that ship with the package, whether it is installed as a folder or imported from a zip. Below all floors."""

import atexit
import shutil
import tempfile
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


@cache
def package_folder(name: str) -> Path:
    """Return the folder `ddfnet/NAME` on the disk.

    A package that is imported from a zip has none: there the folder is copied once into a temporary one, which is removed
    when Python exits.
    """
    found = files("ddfnet").joinpath(name)
    if isinstance(found, Path):
        return found
    copy = Path(tempfile.mkdtemp(prefix="ddfnet-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    _copy(found, copy)
    return copy


def _copy(folder: Traversable, to: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            (to / entry.name).mkdir()
            _copy(entry, to / entry.name)
        elif not entry.name.endswith((".py", ".pyc")):
            (to / entry.name).write_bytes(entry.read_bytes())
