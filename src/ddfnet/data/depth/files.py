"""Depth maps in files: 16-bit PNG, TIFF and NPY, read with their unknowns and written back in the same form; photographs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddfnet.atomic import whole_or_absent
from ddfnet.data.decode import read_rgb as decode_rgb
from ddfnet.ops.unknown_depth import unknown_pixels

Kind = Literal["png16", "tiff", "npy"]
KINDS: dict[str, Kind] = {".png": "png16", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy"}
BOUND = np.iinfo(np.uint16)
LEAST = 0.5  # in a file of integers, where 0 says unknown, what is below would be rounded to it


@dataclass(frozen=True)
class DepthMap:
    """A depth map as a file had it.

    Attributes:
        values: (H, W) float32 in the file's own unit; NaN where it is unknown, which the file says by 0, inf, NaN or a mark.
        kind: "png16", "tiff" or "npy".
        dtype: of the file's numbers: uint16 in a PNG, else uint16 or floating.
        marks: how many pixels have each mark, those that were named and the file's only negative value.
    """

    values: NDArray[np.float32]
    kind: Kind
    dtype: np.dtype[Any]
    marks: Mapping[float, int] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """ "mm" of a 16-bit PNG, by its convention; "" where the file can be in any."""
        return "mm" if self.kind == "png16" else ""


def read_depth(path: Path | str, *, unknown: Sequence[float] = ()) -> DepthMap:
    """Reads a depth map: a 16-bit grey PNG in millimetres, or a TIFF or NPY file of one map in any unit.

    0, inf and NaN are unknown, and so is the only negative value of a map that has positive ones too (`unknown_pixels`).
    TIFF and NPY hold float16, float32, float64 or uint16, (H, W) or with one channel.

    Args:
        unknown: further values that mark unknown pixels, such as 65535.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its name or its content is not such a map, it is damaged, or has a depth that float32 does not hold; the
            message says what came instead.
    """
    path = Path(path)
    kind = _kind(path)
    _check_file(path, "a depth map")
    reader = {"png16": _read_png, "tiff": _read_tiff, "npy": _read_npy}[kind]
    numbers = reader(path)
    shape = numbers.shape
    if numbers.ndim == 3 and 1 in (shape[0], shape[2]):
        numbers = numbers[0] if shape[0] == 1 else numbers[..., 0]
    if numbers.ndim != 2 or not numbers.size:
        raise ValueError(f"{path}: expected one depth map (H, W), got an array of shape {shape}")
    if numbers.dtype != np.uint16 and (numbers.dtype.kind != "f" or numbers.dtype.itemsize > 8):
        raise ValueError(f"{path}: expected float or 16-bit unsigned depths, got {numbers.dtype}")
    dtype = numbers.dtype.newbyteorder("=")
    numbers = np.require(numbers, np.float32 if dtype == np.uint16 else dtype, ["C", "W"])
    missing = unknown_pixels(torch.from_numpy(numbers), unknown).numpy()
    with np.errstate(over="ignore", under="ignore"):
        values = numbers.astype(np.float32)
    lost = numbers[~missing & (~np.isfinite(values) | (values == 0))]
    if lost.size:
        limits = np.finfo(np.float32)
        raise ValueError(
            f"{path}: expected depths that float32 holds, {limits.tiny:.3g} to {limits.max:.3g} in magnitude, got"
            f" {float(lost[0])!r}, in {lost.size} of {numbers.size} pixels; what marks unknown ones can be named as unknown"
        )
    marked = numbers[missing & np.isfinite(numbers) & (numbers != 0)]
    marks = {float(mark): int(count) for mark, count in zip(*np.unique(marked, return_counts=True), strict=True)}
    values[missing] = np.nan
    return DepthMap(values, kind, dtype, marks)


def write_depth(path: Path | str, values: NDArray[np.floating[Any]], like: DepthMap) -> None:
    """Writes a depth map in the format and the dtype of another one, and in its unit; whole or not at all.

    Args:
        path: with a suffix of that format.
        values: (H, W) in the unit of `like`; NaN where unknown, which becomes 0 in a file of integers.
        like: what `read_depth` gave.

    Raises:
        ValueError: the suffix is another format's, the shape is not (H, W), or a value does not fit the file's dtype.
    """
    path = Path(path)
    if _kind(path) != like.kind:
        expected = " or ".join(suffix for suffix, kind in KINDS.items() if kind == like.kind)
        raise ValueError(
            f"{path}: expected a name in {expected}, the format of the depth map read, got {path.suffix!r}"
        )
    if values.ndim != 2:
        raise ValueError(f"values: expected a depth map (H, W), got shape {values.shape}")
    numbers = _fitted(values, like.dtype)
    with whole_or_absent(path) as partial:
        if like.kind == "png16":
            Image.fromarray(numbers).save(partial)
        elif like.kind == "tiff":
            import tifffile

            tifffile.imwrite(partial, numbers)
        else:
            np.save(partial, numbers)


def read_rgb(path: Path | str) -> NDArray[np.uint8]:
    """A photograph (H, W, 3) uint8, from any format Pillow reads; as it is stored, not turned by its EXIF orientation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, is truncated, or has more than 16 bits a channel.
    """
    path = Path(path)
    _check_file(path, "a photograph")
    return np.array(decode_rgb(path))


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: expected {expected}, found {found}")


def _kind(path: Path) -> Kind:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: expected a depth map in {', '.join(KINDS)}, got {path.suffix or 'no suffix'}")
    return kind


def _fitted(values: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values in the file's dtype; ValueError where one does not fit."""
    known = values[~np.isnan(values)].astype(np.float64)
    if dtype.kind == "f":
        least, most = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    else:
        least, most = LEAST, float(BOUND.max)
    outside = known[(known < least) | (known > most)]
    if outside.size:
        raise ValueError(
            f"values: expected {least:g} to {most:g}, what {dtype} depths hold,"
            f" got {outside.min():g} to {outside.max():g} at {outside.size} pixels"
        )
    if dtype.kind == "f":
        return values.astype(dtype)
    return np.round(np.nan_to_num(values, nan=0.0)).astype(dtype)


def _read_png(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if not image.mode.startswith("I"):
                names = {"L": "an 8-bit grey", "P": "a colour-mapped", "1": "a 1-bit", "LA": "an 8-bit grey and alpha"}
                got = names.get(image.mode, f"a colour ({image.mode})")
                raise _UnfitError(f"expected a 16-bit grey PNG, depths in millimetres, got {got} one")
            return np.asarray(image).astype(np.uint16)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected a 16-bit grey PNG, got another kind of file") from None
    except _UnfitError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # Pillow raises whatever the damage leads its decoder to
        raise ValueError(f"{path}: unreadable or truncated PNG ({error})") from None


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    try:
        return np.asarray(tifffile.imread(path))
    except Exception as error:  # tifffile too
        if "imagecodecs" in str(error):
            found = re.search(r"COMPRESSION\.(\w+)", str(error))
            raise ValueError(
                f"{path}: expected a TIFF without compression or with deflate, got {found[1] if found else 'another'};"
                " with the package imagecodecs others can be read too"
            ) from None
        raise ValueError(f"{path}: unreadable or truncated TIFF ({error})") from None


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # and NumPy
        raise ValueError(f"{path}: expected an NPY file of one array of numbers ({error})") from None


class _UnfitError(Exception):
    """A PNG of another kind."""
