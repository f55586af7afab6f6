"""One encoded image made pixels, or refused in a sentence."""

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError


def read_rgb(file: Path | IO[bytes], name: str | None = None) -> Image.Image:
    """The image in `file` as RGB; ValueError, naming it, where it is truncated or no image."""
    name = name or str(file)
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I;16"):  # which convert() would clip, not scale
                return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
            if image.mode not in ("I", "F"):
                return image.convert("RGB")
            mode = image.mode
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever the damage leads its decoders to
        raise ValueError(f"{name}: unreadable or truncated image ({error})") from None
    raise ValueError(f"{name}: expected 8 or 16 bits a channel, got an image of mode {mode!r}")
