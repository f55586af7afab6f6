"""NYU Depth v2 and Lu's pairs as folders of photographs and 8-bit depth maps, smoothed within the steps of 8 bits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddfnet.data.depth.photographs import RGBDImage, RGBDImages

IMAGES, TRAINING = 1449, 1000
HEIGHT, WIDTH = 480, 640
STEP = 9.99547 / 255  # metres
SWEEPS = 25
PARTS = 255  # of a step, that the smoothed maps are kept in
# Neighbouring numbers are of one scene; the copy does not name the scenes. So validation holds out whole blocks of numbers,
# and what is within MARGIN of a block is in neither part.
BLOCKS = ((150, 180), (480, 520), (800, 830))
MARGIN = 4

Part = Literal["train", "val", "test"]


class NYUDepth8Bit(RGBDImages):
    """NYU Depth v2 (Silberman et al., ECCV 2012; research use): 1,449 pairs, `rgb/%04d.jpg` and `depth/%04d.png`.

    A value v of the maps stands for (v + 0.5) * 9.99547 / 255 metres: steps of 3.92 cm. They are smoothed within the steps
    (`smoothed`) at the first use, and kept with the photographs as two NumPy files in `cache`, 2.2 GB, which are mapped into
    memory.

    Args:
        root: the folder.
        part: "train", the numbers 0 to 999 but for `BLOCKS` and `MARGIN` around them, 876 pairs; "val", the 100 of `BLOCKS`;
            "test", 1000 to 1448, the test part of PAC-Net and DKN.
        cache: folder of the NumPy files; unless given, `ddfnet/nyu_depth_8_bit` in the user's cache.
        tell: called with the number of pairs that are smoothed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: `part` is none of these, or a file is not as described.
    """

    def __init__(
        self,
        root: Path | str,
        part: Part,
        *,
        cache: Path | str | None = None,
        tell: Callable[[int], None] = lambda done: None,
    ) -> None:
        numbers = range(TRAINING)
        if part == "train":
            near = {i for first, last in BLOCKS for i in range(first - MARGIN, last + MARGIN)}
            self.numbers = [i for i in numbers if i not in near]
        elif part == "val":
            self.numbers = [i for first, last in BLOCKS for i in range(first, last)]
        elif part == "test":
            self.numbers = list(range(TRAINING, IMAGES))
        else:
            raise ValueError(f'part: expected "train", "val" or "test", got {part!r}')
        folder = _cache() / "nyu_depth_8_bit" if cache is None else Path(cache)
        self.rgb, self.depth = _cached(Path(root), folder, tell)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> RGBDImage:
        number = self.numbers[self._checked(index)]
        return RGBDImage(np.array(self.rgb[number]), metres(self.depth[number]), f"nyu {number:04d}", "m")


class Lu(RGBDImages):
    """The six pairs of Lu, Ren and Liu (CVPR 2014), 480x640; depth from 0 to 255 without unknown pixels, not smoothed.

    Args:
        root: the folder with `RGB` and `Depth`.

    Raises:
        FileNotFoundError: a file is missing.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        for number in range(1, 7):
            for path in self._paths(number):
                if not path.is_file():
                    raise FileNotFoundError(f"{path}: no such file")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> RGBDImage:
        number = self._checked(index) + 1
        rgb, depth = (np.asarray(Image.open(path)) for path in self._paths(number))
        return RGBDImage(np.array(rgb[..., :3]), depth.astype(np.float32), f"lu {number}", "of 255")

    def _paths(self, number: int) -> tuple[Path, Path]:
        return (
            self.root / "RGB" / f"RGBD_0{number}_ouput_color.png",
            self.root / "Depth" / f"RGBD_0{number}_output_depth.png",
        )


def metres(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert maps in steps to metres."""
    return values.astype(np.float32) * np.float32(STEP / PARTS)


def smoothed(values: NDArray[np.uint8], sweeps: int = SWEEPS) -> NDArray[np.float32]:
    """Smooth a map in steps (H, W) within each step.

    Begins at v + 0.5, then often replaces each pixel by the mean of its 4 neighbours that differ by at most one step, and
    clips it to [v, v + 1).

    Example:
        >>> smoothed(np.array([[1, 1, 2, 9]], np.uint8), 1)
        array([[1.5   , 1.9999, 2.    , 9.5   ]], dtype=float32)
    """
    steps = values.astype(np.float32)
    sides = [(_shifted(steps, axis, by), axis, by) for axis in (0, 1) for by in (-1, 1)]
    near = [((np.abs(beside - steps) <= 1.5).astype(np.float32), axis, by) for beside, axis, by in sides]
    count = np.sum([mask for mask, _, _ in near], 0)
    found = steps + np.float32(0.5)
    for _ in range(sweeps):
        total = np.zeros_like(found)
        for mask, axis, by in near:
            total += mask * _shifted(found, axis, by, 0.0)
        mean = np.divide(total, count, out=found.copy(), where=count > 0)
        found = np.clip(mean, steps, steps + np.float32(0.9999))
    return found


def _shifted(image: NDArray[np.float32], axis: int, by: int, beyond: float = np.inf) -> NDArray[np.float32]:
    """Return the neighbours of all pixels to one side."""
    moved = np.roll(image, by, axis)
    edge: list[Any] = [slice(None), slice(None)]
    edge[axis] = 0 if by > 0 else -1
    moved[tuple(edge)] = beyond
    return moved


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddfnet"


def _cached(root: Path, folder: Path, tell: Callable[[int], None]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Map all photographs (1449, 480, 640, 3) and smoothed maps (1449, 480, 640), in parts of a step, into memory."""
    rgb_path, depth_path = folder / "rgb.npy", folder / "depth.npy"
    if not depth_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = (rgb_path.with_suffix(f".{os.getpid()}"), depth_path.with_suffix(f".{os.getpid()}"))
        try:
            _write(root, *partial, tell)
            for path, target in zip(partial, (rgb_path, depth_path), strict=True):
                path.replace(target)  # the depth last: where it is, the photographs are
        finally:
            for path in partial:
                path.unlink(missing_ok=True)
    return np.load(rgb_path, mmap_mode="r"), np.load(depth_path, mmap_mode="r")


def _write(root: Path, rgb_path: Path, depth_path: Path, tell: Callable[[int], None]) -> None:
    rgb: Any = np.lib.format.open_memmap(rgb_path, "w+", np.uint8, (IMAGES, HEIGHT, WIDTH, 3))
    depth: Any = np.lib.format.open_memmap(depth_path, "w+", np.uint16, (IMAGES, HEIGHT, WIDTH))
    for number in range(IMAGES):
        photograph = np.asarray(Image.open(root / "rgb" / f"{number:04d}.jpg").convert("RGB"))
        path = root / "depth" / f"{number:04d}.png"
        values = np.asarray(Image.open(path))
        if values.dtype != np.uint8 or values.shape != (HEIGHT, WIDTH) or photograph.shape[:2] != values.shape:
            raise ValueError(
                f"{path}: expected 8 bits of 480x640 and a photograph alike, got {values.dtype} {values.shape}"
            )
        rgb[number] = photograph
        depth[number] = np.round(smoothed(values) * PARTS)
        tell(number + 1)
