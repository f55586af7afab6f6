"""Decode an image to pixels, upright as it is displayed, or refuse it in one sentence."""

from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

_TURNS = {  # by the orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_rgb(file: Path | IO[bytes], name: str | None = None, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Read the image in `file` as RGB, turned upright as its EXIF orientation says.

    Args:
        name: of the image in messages; the path without.
        size: (width, height) that labels were made for. An image that has this size as it is stored, and another one as
            it is displayed, is left as it is stored.

    Raises:
        ValueError: truncated, or no image.
    """
    name = name or str(file)
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I;16"):  # which convert() would clip, not scale
                return _upright(image, Image.fromarray((np.asarray(image) // 257).astype(np.uint8)), size)
            if image.mode not in ("I", "F"):
                return _upright(image, image, size)
            mode = image.mode
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever the damage leads its decoders to
        raise ValueError(f"{name}: unreadable or truncated image ({error})") from None
    raise ValueError(f"{name}: expected 8 or 16 bits a channel, got an image of mode {mode!r}")


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image after it is turned upright."""
    return image.size[::-1] if _orientation(image) >= 5 else image.size


def _upright(image: Image.Image, pixels: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Turn the `pixels` of the opened `image` as its EXIF says; leave them if `size` is that of the stored image alone."""
    rgb = pixels.convert("RGB")
    if size is not None and size == rgb.size != displayed_size(image):
        return rgb
    turn = _TURNS.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, if there is none or the EXIF data are damaged."""
    if image.format == "TIFF":  # Pillow itself turns these when it loads their pixels
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises whatever the damage leads its parser to
        return 1
    return found if found in _TURNS else 1
