"""Measure how many images a second are read, decoded and transformed, beside how many the networks take.

The pictures are those of a folder; without one they are made: JPEG files of 500x375 pixels, ImageNet's most frequent size,
enlarged from the sample that ships, with noise that brings them to about ImageNet's bytes a file.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ddfnet.bench.measure import Entry, Group, Settings, compare
from ddfnet.bench.results import Result
from ddfnet.data.classification.fashion_mnist import fashion_mnist
from ddfnet.data.classification.image_folder import Transforms, image_folder
from ddfnet.data.images import central_transform, training_transform

WIDTH, HEIGHT, QUALITY, NOISE = 500, 375, 90, 28.0
CLASSES, FILES = 2, 64
BATCHES = 4  # fetched by each worker in a call
RELEASED = {  # the training images of the authors' code
    "auto_augment": "rand-m7-mstd0.5-inc1",
    "re_prob": 0.4,
    "re_mode": "pixel",
    "re_count": 3,
}


def run(root: Path | None, settings: Settings, *, size: int, batch: int, workers: Sequence[int]) -> list[Result]:
    """Time passes over loaders with each number of workers: testing, crops and flips, and the released code's augmentation.

    Args:
        root: a folder of images, or tar files; None makes some.
        settings: of the run.
        size: side of the crops, in pixels.
        batch: images a batch.
        workers: processes that load; 0 loads in this one.
    """
    with _pictures(root) as (folder, kind):
        test = central_transform(size, interpolation="bicubic")
        kinds = {
            "test": test,
            "crop and flip": training_transform(size, interpolation="bicubic"),
            "released": training_transform(size, RELEASED, interpolation="bicubic"),
        }
        entries: dict[str, Entry] = {}
        for name, transform in kinds.items():
            split = image_folder(folder, Transforms(transform, transform, size, size), test_only=True).test
            for count in workers:
                images = batch * BATCHES * max(1, count)
                order = [index % len(split) for index in range(images)]
                entries[f"{name}, {count} workers"] = _entry(split, order, batch, count)
        group = Group("model", f"{kind}, b{batch} 3x{size}x{size}", "loading", "float32", "nchw", "")
        return compare(group, entries, settings)


def _entry(split: Any, order: list[int], batch: int, workers: int) -> Entry:
    loader: DataLoader[Any] = DataLoader(
        split,
        batch_size=batch,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_as_fetched,
        generator=torch.Generator().manual_seed(0),
    )

    def call() -> int:
        return sum(len(images) for images, *_ in loader)

    return Entry(call, images=len(order))


def _as_fetched(batch: Any) -> Any:
    return batch


@contextmanager
def _pictures(root: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield a folder of images and its name in results: the given one, or a temporary one of made images."""
    if root is not None:
        yield root, root.name
        return
    with tempfile.TemporaryDirectory() as made:
        small, _, _ = fashion_mnist(augment=False).test.__getitems__(list(range(CLASSES * FILES)))
        noise = np.random.default_rng(0)
        for number, image in enumerate(small[:, 0]):
            pixels = ((image - image.min()) / (image.max() - image.min()) * 200 + 20).byte().numpy()
            enlarged = np.asarray(Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
            coloured = enlarged[..., None] * np.array((1.0, 0.8, 0.6), np.float32)
            noisy = coloured + noise.normal(0, NOISE, coloured.shape).astype(np.float32)
            path = Path(made) / f"class{number % CLASSES}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        files = list(Path(made).rglob("*.jpg"))
        kilobytes = sum(path.stat().st_size for path in files) / len(files) / 1e3
        yield Path(made), f"made JPEGs of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB"
