"""Depth maps in files, read with their unknown pixels and written in any of the formats; photographs."""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ddfnet.atomic import whole_or_absent
from ddfnet.data.decode import read_rgb as decode_rgb
from ddfnet.ops.unknown_depth import SATURATED, unknown_pixels

Numbers = NDArray[Any]
STEPS = 256  # least range of fractional depths that may be rounded to whole numbers
NPZ_NAME = "depth"
PGM_HEADER = re.compile(rb"(P[25])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s")  # kind, width, height, greatest value


@dataclass(frozen=True)
class DepthMap:
    """A depth map as its file had it.

    Attributes:
        values: (H, W) float32 in the file's unit; NaN where it is unknown, which the file says by NaN, inf, 0 or a mark.
        dtype: of the file's numbers.
        unit: "mm" of a 16-bit PNG, by its convention; "" where the file does not say.
        marks: how many pixels have each mark: those that were named, and those known by custom (`unknown_pixels`).
        zero_is_known: whether 0 is a depth.
    """

    values: NDArray[np.float32]
    dtype: np.dtype[Any]
    unit: str = ""
    marks: Mapping[float, int] = field(default_factory=dict)
    zero_is_known: bool = False

    def bounded(self, upsampled: NDArray[Any]) -> NDArray[Any]:
        """Clip a result to the depths that the map's integer dtype holds: averages overshoot them a little."""
        if self.dtype.kind not in "iu":
            return upsampled
        bounds = np.iinfo(self.dtype)
        least = bounds.min if bounds.min else 0 if self.zero_is_known else 1
        return upsampled.clip(least, bounds.max)


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        name: in messages.
        dtypes: what it is written in, by NumPy's codes; empty for all real numbers.
        read, write: of the numbers (H, W) in their dtype.
    """

    name: str
    dtypes: tuple[str, ...]
    read: Callable[[Path], Numbers]
    write: Callable[[Path, Numbers], None]

    def dtype(self, preferred: np.dtype[Any]) -> np.dtype[Any]:
        """Return the preferred dtype if the format holds it, else its widest one."""
        fits = not self.dtypes or preferred.str[1:] in self.dtypes
        return preferred if fits else np.dtype(self.dtypes[-1])


def read_depth(path: Path | str, *, unknown: Sequence[float] = (), zero_is_known: bool = False) -> DepthMap:
    """Read one depth map from a PNG, PGM, PFM, TIFF, EXR, NPY or NPZ file, in any unit.

    NaN, inf and 0 are unknown, and so are marks by custom, such as -1 beside positive values (`unknown_pixels`). An EXR file
    is read by its channel "Z", "depth", "Y" or its only one; an NPZ file by its array "depth" or its only one.

    Args:
        unknown: further values that mark unknown pixels.
        zero_is_known: True if 0 is a depth.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the file is an EXR, and the package OpenEXR is not installed.
        ValueError: its name or its content is not one depth map, it is damaged, or has a depth that float32 does not hold.
    """
    path = Path(path)
    reader = format_of(path).read
    _check_file(path, "a depth map")
    numbers = reader(path)
    shape = numbers.shape
    if numbers.ndim == 3 and 1 in (shape[0], shape[2]):
        numbers = numbers[0] if shape[0] == 1 else numbers[..., 0]
    if numbers.ndim != 2 or not numbers.size:
        raise ValueError(f"{path}: expected one depth map (H, W), got an array of shape {shape}")
    if numbers.dtype.kind not in "fiu" or numbers.dtype.itemsize > 8:
        raise ValueError(f"{path}: expected depths as integers or floats, got {numbers.dtype}")
    dtype = numbers.dtype.newbyteorder("=")
    # PyTorch has few unsigned dtypes; float64 holds all integers below 2^53.
    numbers = np.require(numbers, dtype if dtype.kind == "f" else np.float64, ["C", "W"])
    missing = unknown_pixels(
        torch.from_numpy(numbers), unknown, zero_is_known=zero_is_known, sixteen_bits=dtype == np.uint16
    ).numpy()
    values = _as_float32(path, numbers, missing)
    marked = numbers[missing & np.isfinite(numbers) & (numbers != 0)]
    marks = {float(mark): int(count) for mark, count in zip(*np.unique(marked, return_counts=True), strict=True)}
    unit = "mm" if dtype == np.uint16 and path.suffix.lower() == ".png" else ""
    return DepthMap(values, dtype, unit, marks, zero_is_known)


def write_depth(
    path: Path | str, values: NDArray[np.floating[Any]], like: DepthMap | None = None, *, scale: float | None = None
) -> None:
    """Write a depth map in the format that the suffix names, whole or not at all.

    The file has the dtype of `like` if its format holds that, else 16-bit integers in PNG and PGM, float32 elsewhere.

    Args:
        path: with one of the suffixes of `FORMATS`.
        values: (H, W); NaN where unknown, which becomes 0 in a file of integers.
        like: the map that was read; without it the dtype is that of `values`.
        scale: multiplies the depths: 1000 makes millimetres of metres.

    Raises:
        ImportError: the file is an EXR, and the package OpenEXR is not installed.
        ValueError: the suffix is none of these, the shape is not (H, W), or a depth does not fit: it is beyond the file's
            dtype, would be rounded to the 0 that marks unknown pixels, or fractional depths would be rounded to fewer than
            256 whole numbers.
    """
    path = Path(path)
    chosen = format_of(path)
    if values.ndim != 2:
        raise ValueError(f"values: expected a depth map (H, W), got shape {values.shape}")
    dtype = chosen.dtype(values.dtype if like is None else like.dtype)
    was_whole = like is not None and like.dtype.kind in "iu" and scale is None
    zero_is_known = like is not None and like.zero_is_known
    scaled = values if scale is None else values * np.float64(scale)
    numbers = _fitted(path, scaled, dtype, was_whole=was_whole, zero_is_known=zero_is_known)
    with whole_or_absent(path) as partial:
        chosen.write(partial, numbers)


def read_rgb(path: Path | str) -> NDArray[np.uint8]:
    """Read a photograph (H, W, 3) uint8, of any format Pillow reads, upright as its EXIF orientation says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, is truncated, has more than 16 bits a channel, or more pixels than Pillow's limit.
    """
    path = Path(path)
    _check_file(path, "a photograph")
    return np.array(decode_rgb(path))


def orientation(path: Path | str) -> int:
    """Return a photograph's EXIF orientation, 2 to 8; 1 if none turns it, or if it cannot be read."""
    try:
        with Image.open(path) as image:
            found = image.getexif().get(ExifTags.Base.Orientation, 1)
            return found if image.format != "TIFF" and found in range(2, 9) else 1
    except Exception:  # Pillow raises whatever the damage leads its parser to
        return 1


def format_of(path: Path) -> Format:
    """Return the format that a file's suffix names; raise ValueError if there is none."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise ValueError(f"{path}: expected a depth map in {', '.join(FORMATS)}, got {path.suffix or 'no suffix'}")
    return found


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: expected {expected}, found {found}")
    limit, pixels = Image.MAX_IMAGE_PIXELS, _pixels(path)
    if limit is not None and pixels > 2 * limit:  # at the limit itself, Pillow only warns
        raise ValueError(
            f"{path}: Pillow reads at most {2 * limit / 1e6:.0f} megapixels, since larger files may be made to fill the"
            f" memory, and this one has {pixels / 1e6:.0f}; if you trust it, lift the limit by `--large`, in Python by"
            " PIL.Image.MAX_IMAGE_PIXELS = None"
        )


def _pixels(path: Path) -> int:
    """Return the number of an image's pixels; 0 if Pillow does not know the file, which its reader finds out."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except Exception:
        return 0
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _as_float32(path: Path, numbers: Numbers, missing: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the depths, NaN where `missing`; raise ValueError if float32 makes 0 or inf of one."""
    with np.errstate(over="ignore", under="ignore"):
        values = numbers.astype(np.float32)
    lost = numbers[~missing & (~np.isfinite(values) | ((values == 0) & (numbers != 0)))]
    if lost.size:
        limits = np.finfo(np.float32)
        raise ValueError(
            f"{path}: expected depths that float32 holds, {limits.tiny:.3g} to {limits.max:.3g} in magnitude, got"
            f" {float(lost[0])!r}, in {lost.size} of {numbers.size} pixels; what marks unknown ones can be named as unknown"
        )
    values[missing] = np.nan
    return values


def _fitted(path: Path, values: NDArray[Any], dtype: np.dtype[Any], *, was_whole: bool, zero_is_known: bool) -> Numbers:
    """Convert the values to a file's dtype; raise ValueError if one does not fit."""
    known = values[~np.isnan(values)].astype(np.float64)
    if dtype.kind == "f":
        least, most = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    else:
        bounds = np.iinfo(dtype)
        # 0 says unknown, and what is below a half would be rounded to it.
        least = -0.5 if zero_is_known and not bounds.min else 0.5 if not bounds.min else float(bounds.min)
        most = float(bounds.max)
    outside = known[(known < least) | (known > most)]
    if outside.size:
        raise ValueError(
            f"{path}: expected depths of {least:g} to {most:g}, which {dtype} holds,"
            f" got {outside.min():g} to {outside.max():g} at {outside.size} pixels; another format or scale may hold them"
        )
    if dtype.kind == "f":
        return values.astype(dtype)
    if not was_whole and known.size and np.ptp(known) < STEPS and (known != np.round(known)).any():
        raise ValueError(
            f"{path}: expected depths whose range has at least {STEPS} whole numbers, to which the format rounds them, got"
            f" {known.min():g} to {known.max():g}; a scale makes more of them (1000: metres to millimetres), and .npy, .tif,"
            " .pfm and .exr hold fractions"
        )
    return np.round(np.nan_to_num(values, nan=0.0)).astype(dtype)


class _UnfitError(Exception):
    """The content of a file that is no depth map."""


def _read_image(path: Path) -> Numbers:
    """Read a grey PNG of 8 or 16 bits, or a PFM."""
    kind = path.suffix[1:].upper()
    try:
        with Image.open(path, formats=["PNG", "PPM"]) as image:
            return _grey(image, kind)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected a grey {kind}, got another kind of file") from None
    except _UnfitError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # Pillow raises whatever the damage leads its decoder to
        raise ValueError(f"{path}: unreadable or truncated {kind} ({error})") from None


def _grey(image: Image.Image, kind: str) -> Numbers:
    """Return the values of an opened image of one channel."""
    if getattr(image, "n_frames", 1) > 1:
        raise _UnfitError(f"expected one depth map, got a {kind} of {image.n_frames} images")  # type: ignore[attr-defined]
    if image.mode in ("L", "F"):
        return np.asarray(image)
    if not image.mode.startswith("I"):
        names = {"P": "a colour-mapped", "1": "a 1-bit", "LA": "a grey one with alpha, not a plain"}
        got = names.get(image.mode, f"a colour ({image.mode})")
        raise _UnfitError(f"expected a grey {kind} of 8 or 16 bits, got {got} one")
    numbers = np.asarray(image)
    wide = image.format == "TIFF" and image.mode == "I"
    return numbers if wide else numbers.astype(np.uint16)  # a PNG's mode "I" is 16 bits too


def _read_pgm(path: Path) -> Numbers:
    """Read the values as the file has them: Pillow would scale those whose greatest value is neither 255 nor 65535."""
    data = path.read_bytes()
    header = PGM_HEADER.match(data)
    if header is None:
        raise ValueError(f"{path}: expected a grey PGM (P2 or P5), got another kind of file")
    width, height, greatest = map(int, header.groups()[1:])
    if not 0 < greatest <= SATURATED:
        raise ValueError(f"{path}: expected a PGM whose greatest value is 1 to {SATURATED}, got {greatest}")
    dtype, count = np.dtype("u1" if greatest < 256 else ">u2"), width * height
    try:
        if header[1] == b"P5":
            numbers = np.frombuffer(data, dtype, count, header.end())
        else:
            numbers = np.array(data[header.end() :].split()[:count], dtype=np.float64).astype(dtype)
        return numbers.reshape(height, width)
    except ValueError as error:
        raise ValueError(f"{path}: unreadable or truncated PGM ({error})") from None


def _write_image(path: Path, numbers: Numbers) -> None:
    if path.suffix.lower() == ".pgm" and numbers.dtype == np.uint16:
        numbers = numbers.astype(np.int32)  # Pillow's mode "I", which it writes with 16 bits
    Image.fromarray(numbers).save(path, format="PNG" if path.suffix.lower() == ".png" else "PPM")


def _read_tiff(path: Path) -> Numbers:
    """Read with Pillow, whose wheels know all compressions, or else with tifffile, which knows all dtypes."""
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            return _grey(image, "TIFF")
    except UnidentifiedImageError:
        pass
    except _UnfitError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:
        raise ValueError(f"{path}: unreadable or truncated TIFF ({error})") from None
    import tifffile

    try:
        return np.asarray(tifffile.imread(path))
    except Exception as error:  # tifffile too raises what the damage leads to
        raise ValueError(f"{path}: unreadable or truncated TIFF ({error})") from None


def _write_tiff(path: Path, numbers: Numbers) -> None:
    if numbers.dtype.str[1:] in ("u1", "u2", "f4"):
        Image.fromarray(numbers).save(path, format="TIFF", compression="tiff_lzw")
        return
    import tifffile

    tifffile.imwrite(path, numbers)


def _read_npy(path: Path) -> Numbers:
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # NumPy as well
        raise ValueError(f"{path}: expected an NPY file of one array of numbers ({error})") from None


def _read_npz(path: Path) -> Numbers:
    try:
        with np.load(path) as arrays:
            names = arrays.files
            name = NPZ_NAME if NPZ_NAME in names else names[0] if len(names) == 1 else None
            if name is not None:
                return np.asarray(arrays[name])
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected an NPZ file of arrays of numbers ({error})") from None
    raise ValueError(f"{path}: expected one array, or one named {NPZ_NAME!r}, got {', '.join(names) or 'none'}")


def _write_npz(path: Path, numbers: Numbers) -> None:
    np.savez_compressed(path, depth=numbers)


def _open_exr() -> Any:
    try:
        import OpenEXR
    except ModuleNotFoundError:
        raise ImportError("EXR files need the package OpenEXR, which is not installed: pip install openexr") from None
    return OpenEXR


def _read_exr(path: Path) -> Numbers:
    library = _open_exr()
    try:
        with library.File(str(path), separate_channels=True) as file:
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    except Exception as error:  # the library raises RuntimeError and others
        raise ValueError(f"{path}: unreadable or truncated EXR ({error})") from None
    named = next((name for name in ("Z", "depth", "Y") if name in channels), None)
    if named is None and len({pixels.tobytes() for pixels in channels.values()}) != 1:  # grey may be stored as RGB
        raise ValueError(f"{path}: expected a channel Z, depth or Y, or one alone, got {', '.join(sorted(channels))}")
    return channels[named] if named else next(iter(channels.values()))


def _write_exr(path: Path, numbers: Numbers) -> None:
    library = _open_exr()
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    with library.File(header, {"Z": np.ascontiguousarray(numbers)}) as file:
        file.write(str(path))


_TIFF = Format("TIFF", ("u1", "u2", "f2", "f8", "f4"), _read_tiff, _write_tiff)
FORMATS = {
    ".png": Format("PNG", ("u1", "u2"), _read_image, _write_image),
    ".pgm": Format("PGM", ("u1", "u2"), _read_pgm, _write_image),
    ".pfm": Format("PFM", ("f4",), _read_image, _write_image),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".exr": Format("EXR", ("f2", "f4"), _read_exr, _write_exr),
    ".npy": Format("NPY", (), _read_npy, np.save),
    ".npz": Format("NPZ", (), _read_npz, _write_npz),
}
