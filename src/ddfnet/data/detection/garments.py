"""A small detection data set in COCO's format, of real pictures: Fashion-MNIST's garments on scikit-image's photographs.

Garments lie over each other at every scale on crops of photographs. No garment image and no photograph is in two splits.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddfnet.data.classification.fashion_mnist import CLASSES, fashion_mnist
from ddfnet.data.splits import InMemorySplit

VERSION = 1  # of the content: changed whenever the same arguments give other bytes
SPLITS = ("train", "val", "test")
IMAGES = (800, 100, 300)
IMAGE_SIZE = 128
PHOTOGRAPHS = {  # in scikit-image's package; both views of the motorcycle are one scene
    "train": (
        "astronaut",
        "camera",
        "cell",
        "clock",
        "coffee",
        "coins",
        "grass",
        "hubble_deep_field",
        "page",
        "stereo_motorcycle",
    ),
    "val": ("brick", "retina", "text"),
    "test": ("cat", "gravel", "immunohistochemistry", "moon", "rocket"),
}
SMALLEST, LARGEST = 12, 0.98  # longer side of a garment: least pixels, and largest share of the image's side
LARGE = 0.1  # share of the garments that are at least four fifths of that
MOST = 6  # garments in an image
COVERED = 0.4  # of a garment may lie under later ones
TRIES = 20  # to find a place for a garment

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Placed:
    label: int
    mask: Mask  # (size, size): its pixels, those under later garments among them


def default_folder() -> Path:
    """Return the default folder of this version of the data set: below `XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddfnet" / f"garments-{VERSION}"


def is_made(folder: Path) -> bool:
    """True if the data set is in `folder`; it is there whole or not at all."""
    return all((folder / "annotations" / f"{split}.json").is_file() for split in SPLITS)


def make_garments(
    folder: Path, *, images: Sequence[int] = IMAGES, image_size: int = IMAGE_SIZE, seed: int = 0
) -> dict[str, dict[str, int]]:
    """Make the data set in `folder`, whole or not at all; the same arguments give the same bytes.

    Args:
        folder: a new one. `folder/train/00000.jpg` and so on, and `folder/annotations/train.json`; val and test alike.
        images: how many in train, val and test.
        image_size: side of the square images, in pixels.
        seed: of everything drawn.

    Returns:
        For each split the number of its images and of its small, medium and large boxes, as COCO divides them.

    Raises:
        FileExistsError: `folder` is there already.
        ValueError: a count below 1, or images below 64 pixels.
    """
    if len(images) != len(SPLITS) or min(images) < 1:
        raise ValueError(f"images: expected three counts >= 1, of {', '.join(SPLITS)}, got {list(images)}")
    if image_size < 64:
        raise ValueError(f"image_size: expected an int >= 64, got {image_size}")
    if folder.exists():
        raise FileExistsError(f"{folder}: expected a new folder, found one")
    garments = fashion_mnist(augment=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".partial-{folder.name}-", dir=folder.parent))
    try:
        counts = {}
        (partial / "annotations").mkdir()
        for number, (name, count) in enumerate(zip(SPLITS, images, strict=True)):
            (partial / name).mkdir()
            content = _make_split(
                partial / name, cast(InMemorySplit, getattr(garments, name)), count, image_size, (seed, number)
            )
            text = json.dumps(content, separators=(",", ":"))
            (partial / "annotations" / f"{name}.json").write_text(text, encoding="utf-8")
            areas = [annotation["area"] for annotation in content["annotations"]]
            counts[name] = {
                "images": count,
                "small": sum(area < 32**2 for area in areas),
                "medium": sum(32**2 <= area < 96**2 for area in areas),
                "large": sum(area >= 96**2 for area in areas),
            }
        partial.chmod(0o755)
        try:
            partial.rename(folder)
        except OSError:
            if not is_made(folder):  # else another process was faster, with the same bytes
                raise
        return counts
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_split(
    folder: Path, garments: InMemorySplit, count: int, image_size: int, seed: tuple[int, int]
) -> dict[str, Any]:
    """Write `count` images to `folder` and return their annotations as COCO has them."""
    photographs = [_photograph(name) for name in PHOTOGRAPHS[folder.name]]
    pictures, labels = garments.images[:, 0].numpy(), garments.labels.tolist()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(count):
        rng = np.random.default_rng((*seed, image_id))
        canvas = _background(rng, photographs[rng.integers(len(photographs))], image_size)
        placed: list[_Placed] = []
        # The largest first: what comes later lies above, and would hide what is smaller.
        for side in sorted(_sides(rng, image_size), reverse=True):
            chosen = int(rng.integers(len(pictures)))
            _place(rng, canvas, placed, pictures[chosen], labels[chosen], side)
        name = f"{image_id:05}.jpg"
        Image.fromarray(canvas).save(folder / name, quality=92, subsampling=0)
        images.append({"id": image_id, "file_name": name, "width": image_size, "height": image_size})
        for garment in placed:
            left, top, right, bottom = _bounds(garment.mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": garment.label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {
            "description": f"Fashion-MNIST garments on scikit-image photographs, {folder.name}",
            "photographs": list(PHOTOGRAPHS[folder.name]),
            "seed": seed[0],
        },
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
    }


def _photograph(name: str) -> Pixels:
    """Return a photograph (H, W, 3) from scikit-image's package."""
    import skimage.data

    loader: Callable[[], Any] = getattr(skimage.data, name)
    loaded = loader()
    pixels = np.asarray(loaded[0] if isinstance(loaded, tuple) else loaded)
    return np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels


def _background(rng: np.random.Generator, photograph: Pixels, size: int) -> Pixels:
    """Return a square crop of the photograph, mirrored and darkened at random."""
    height, width = photograph.shape[:2]
    side = int(rng.integers(min(height, width) // 2, min(height, width) + 1))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = Image.fromarray(photograph[top : top + side, left : left + side]).resize((size, size), Image.Resampling.BOX)
    pixels = np.asarray(crop, np.float32) * rng.uniform(0.6, 1.0)
    return np.ascontiguousarray(pixels.astype(np.uint8)[:, :: int(rng.choice([1, -1]))])


def _sides(rng: np.random.Generator, size: int) -> list[float]:
    """Return the longer sides of an image's garments: every octave alike, and some large ones beside."""
    count, highest = int(rng.integers(1, MOST + 1)), LARGEST * size
    sides = np.exp(rng.uniform(np.log(SMALLEST), np.log(highest), count))
    return np.where(rng.random(count) < LARGE, rng.uniform(0.8 * highest, highest, count), sides).tolist()


def _place(
    rng: np.random.Generator, canvas: Pixels, placed: list[_Placed], picture: Pixels, label: int, side: float
) -> None:
    """Lay a garment on the canvas where it covers no other one too much, if such a place is found."""
    cut, solid = _cut_out(picture)
    if rng.random() < 0.5:
        cut, solid = cut[:, ::-1], solid[:, ::-1]
    scale = side / max(cut.shape)
    wide, high = (max(4, round(length * scale)) for length in cut.shape[::-1])
    grey = np.asarray(Image.fromarray(cut).resize((wide, high), Image.Resampling.BICUBIC), np.float32) / 255
    alpha = np.asarray(
        Image.fromarray(solid.astype(np.uint8) * 255).resize((wide, high), Image.Resampling.BILINEAR), np.float32
    )
    alpha = np.clip(alpha / 255 * 2 - 0.5, 0, 1)  # a border of about a pixel of the picture
    colour = rng.uniform(60, 255, 3).astype(np.float32)
    size = len(canvas)
    for _ in range(TRIES):
        # A garment may reach out of the image by a tenth of its side.
        left, top = (
            int(rng.integers(min(-length // 10, size - length), max(size - length + length // 10, 0) + 1))
            for length in (wide, high)
        )
        mask = np.zeros((size, size), bool)
        rows, columns = slice(max(top, 0), min(top + high, size)), slice(max(left, 0), min(left + wide, size))
        inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        mask[rows, columns] = alpha[inside] >= 0.5
        if not mask.any() or any(_covered(other, placed[place + 1 :], mask) for place, other in enumerate(placed)):
            continue
        opaque = alpha[inside][..., None]
        paint = (0.15 + 0.85 * grey[inside])[..., None] * colour
        canvas[rows, columns] = np.clip(canvas[rows, columns] * (1 - opaque) + paint * opaque, 0, 255).astype(np.uint8)
        placed.append(_Placed(label, mask))
        return


def _covered(garment: _Placed, above: list[_Placed], new: Mask) -> bool:
    """True if too much of the garment would be hidden with the new one on top."""
    hidden = garment.mask & np.logical_or.reduce([other.mask for other in above] + [new])
    return bool(hidden.sum() > COVERED * garment.mask.sum())


def _cut_out(picture: Pixels) -> tuple[Pixels, Mask]:
    """Return the garment's pixels in their tight box, and a mask of the garment, holes inside included."""
    from scipy.ndimage import binary_fill_holes

    solid: Mask = binary_fill_holes(picture > 20)
    left, top, right, bottom = _bounds(solid)
    return picture[top:bottom, left:right], solid[top:bottom, left:right]


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the mask, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
