"""NYU Depth v2 (Silberman et al. 2012): its labelled photographs with depth, split as Table 7 is."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ddfnet.data.depth.photographs import RGBDImage, RGBDImages

if TYPE_CHECKING:
    import h5py

IMAGES = 1449
TRAINING = 1000  # the first; the other 449 are the test part
HEIGHT, WIDTH = 480, 640


class NYUDepth(RGBDImages):
    """`nyu_depth_v2_labeled.mat`: images 0-999 to train, 1000-1448 to test, 480x640, depths in metres.

    The depths are those of the file's `depths`: the sensor's, their holes filled by the data set's authors; what is not
    above 0 or not finite is NaN. Items are read from the file on demand, each process by another handle, so that
    workers may be forked or spawned.

    Args:
        path: of the file, 2.8 GB, which is MATLAB's v7.3 and so HDF5.
        part: "train" or "test".

    Raises:
        ValueError: `part` is neither, or the file is not HDF5 or has not the arrays expected.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: Path | str, part: Literal["train", "test"]) -> None:
        if part not in ("train", "test"):
            raise ValueError(f'part: expected "train" or "test", got {part!r}')
        self.path, self.part = Path(path), part
        self._indices = range(TRAINING) if part == "train" else range(TRAINING, IMAGES)
        self._file: h5py.File | None = None
        self._process = -1
        with _opened(self.path) as file:
            _check(file, self.path)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> RGBDImage:
        number = self._indices[self._checked(index)]
        file = self._handle()
        try:
            pixels, depths = file["images"][number], file["depths"][number]  # MATLAB's order: columns before rows
        except OSError as error:
            raise ValueError(f"{self.path}: image {number} cannot be read, the file is damaged ({error})") from None
        depth = np.ascontiguousarray(depths.T, np.float32)
        depth[~np.isfinite(depth) | (depth <= 0)] = np.nan
        return RGBDImage(np.ascontiguousarray(pixels.transpose(2, 1, 0)), depth, f"nyu {number:04}", "m")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file, which cannot be sent to another process."""
        return {**self.__dict__, "_file": None, "_process": -1}

    def _handle(self) -> "h5py.File":
        """Return the file that this process opened: one opened before a fork shares its position with the parent's."""
        if self._file is None or self._process != os.getpid():
            self._file, self._process = _opened(self.path), os.getpid()
        return self._file


def _opened(path: Path) -> "h5py.File":
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected nyu_depth_v2_labeled.mat of NYU Depth v2, found no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 file (MATLAB v7.3), or it is damaged ({error})") from None


def _check(file: "h5py.File", path: Path) -> None:
    """Raise ValueError unless the file has both arrays, in the shape and of the kind that the data set has."""
    for name, shape, kind in (
        ("images", (IMAGES, 3, WIDTH, HEIGHT), "u"),
        ("depths", (IMAGES, WIDTH, HEIGHT), "f"),
    ):
        array = file.get(name)
        if array is None:
            raise ValueError(f"{path}: expected an array {name!r}, got {', '.join(sorted(file)) or 'an empty file'}")
        if getattr(array, "shape", None) != shape:
            raise ValueError(f"{path}: expected {name} of shape {shape}, got {getattr(array, 'shape', 'no array')}")
        if array.dtype.kind != kind:
            expected = "uint8" if kind == "u" else "float"
            raise ValueError(f"{path}: expected {name} of {expected} numbers, got {array.dtype}")
