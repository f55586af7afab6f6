"""Images that are read and decoded on demand, from folders and tar files alike."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform, resolve_data_config  # type: ignore[attr-defined]
from torch import Tensor

from ddfnet.data.decode import read_rgb
from ddfnet.data.splits import Batch

TRIES = 100  # unreadable images in a row after which training gives up
Triple = tuple[float, float, float]
Transform = Callable[[Image.Image], Tensor]


class Images(Protocol):
    """Encoded images with labels, in an order that is always the same."""

    labels: list[int]

    def name(self, index: int) -> str:
        """Return the image's name for messages: unique, and enough to find the image."""

    def open(self, index: int) -> Path | IO[bytes]:
        """Return the encoded image."""


class ImageSplit:
    """A split of encoded images; each one's augmentation is drawn from (seed, epoch, index) alone.

    An image that cannot be read is named in its batch. In training the next one that can be takes its place, drawn as it
    would have been, so that batches keep their size; otherwise it is left out.

    Args:
        images: where the images are.
        chosen: which of them make the split.
        transform: of each image to a tensor (3, size, size).
        size: side of the images after it, in pixels.
        channels: 3 for RGB, 1 for grey images: what the transform makes of them then, in its first channel.
        replace: lets other images replace those that cannot be read.
        seed: of the augmentation.
    """

    def __init__(
        self,
        images: Images,
        chosen: list[int],
        transform: Transform,
        *,
        size: int,
        channels: int = 3,
        replace: bool = False,
        seed: int = 0,
    ) -> None:
        self.images, self.chosen = images, chosen
        self.transform, self.size, self.channels, self.replace, self.seed = transform, size, channels, replace, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def names(self) -> list[str]:
        """The names of all images, in order."""
        return [self.images.name(index) for index in self.chosen]

    def set_epoch(self, epoch: int) -> None:
        """Draw the augmentation of this epoch."""
        self.epoch = epoch

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return the images of `indices`; `index + n * len(self)` is the image of `index`, augmented for the n-th time more.

        Raises:
            ValueError: with `replace`, none of 100 images in a row can be read.
        """
        pixels, labels, unreadable = [], [], []
        for place in indices:
            draw, index = divmod(place, len(self))
            image, label, failed = self._first_readable(self.chosen, index)
            unreadable += failed
            if image is None:
                continue
            with _random_state(f"{self.seed}/{self.epoch}/{index}" + f"/{draw}" * bool(draw)):
                pixels.append(transformed(image, self.transform, self.channels))
            labels.append(label)
        stacked = torch.stack(pixels) if pixels else torch.empty(0, self.channels, self.size, self.size)
        return Batch(stacked, torch.tensor(labels, dtype=torch.int64), tuple(unreadable))

    def _first_readable(self, chosen: list[int], index: int) -> tuple[Image.Image | None, int, list[str]]:
        """Return the image at `index`, or with `replace` the first readable one after it; its label; the unreadable ones."""
        failed: list[str] = []
        first: ValueError | None = None
        for step in range(min(TRIES, len(chosen)) if self.replace else 1):
            at = chosen[(index + step) % len(chosen)]
            try:
                return read_rgb(self.images.open(at), self.images.name(at)), self.images.labels[at], failed
            except ValueError as error:
                failed.append(self.images.name(at))
                first = first or error
        if self.replace:
            raise ValueError(f"{first}; nor could any of the {len(failed) - 1} images after it be read")
        return None, 0, failed


def transformed(image: Image.Image, transform: Transform, channels: int) -> Tensor:
    """Return `transform` of an RGB image with `channels`, 3 or 1: a grey one is transformed as RGB, and one channel kept."""
    if channels == 3:
        return transform(image)
    return transform(image.convert("L").convert("RGB"))[:1]


def training_transform(
    size: int,
    options: dict[str, Any] | None = None,
    *,
    interpolation: str = "bilinear",
    mean: Triple = IMAGENET_DEFAULT_MEAN,
    std: Triple = IMAGENET_DEFAULT_STD,
) -> Transform:
    """Return a crop of random size and place, flipped at random; `options` of `timm.data.create_transform` come on top."""
    given: dict[str, Any] = {"color_jitter": None, "interpolation": interpolation, **(options or {})}
    try:
        made: Transform = create_transform(size, is_training=True, mean=mean, std=std, **given)
    except TypeError as error:
        raise ValueError(
            f"augmentation: expected options of timm.data.create_transform, got {options} ({error})"
        ) from None
    return made


def central_transform(
    size: int,
    *,
    crop_pct: float = 0.875,
    crop_mode: str = "center",
    interpolation: str = "bilinear",
    mean: Triple = IMAGENET_DEFAULT_MEAN,
    std: Triple = IMAGENET_DEFAULT_STD,
) -> Transform:
    """Return the central crop of `size` pixels, of the image brought to `size / crop_pct`; `crop_mode` is timm's."""
    if not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct: expected a share above 0 and at most 1, got {crop_pct}")
    made: Transform = create_transform(
        size, crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation, mean=mean, std=std
    )
    return made


def timm_transform(network: Any) -> Transform:
    """Return the transform of RGB images that timm keeps with a network; three equal channels of a grey one."""
    options = resolve_data_config({}, pretrained_cfg=network.pretrained_cfg)
    options["input_size"] = (3, *options["input_size"][1:])
    for name in ("mean", "std"):
        options[name] = tuple(options[name]) * (3 // len(options[name]))
    made: Transform = create_transform(**options)
    return made


def unit_transform(image: Image.Image) -> Tensor:
    """Return an RGB image as (3, H, W) float32 in 0..1."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return (pixels / 255).permute(2, 0, 1).contiguous()


def hold_out(images: Images, chosen: list[int], share: float) -> tuple[list[int], list[int]]:
    """Return those of `chosen` without and with a share of each class, at least one image each, by a fixed shuffle."""
    kept: list[int] = []
    held: list[int] = []
    by_class: dict[int, list[int]] = {}
    for index in chosen:
        by_class.setdefault(images.labels[index], []).append(index)
    for label, of_class in sorted(by_class.items()):
        if len(of_class) < 2:
            raise ValueError(
                f"{images.name(of_class[0])}: expected at least 3 images a class to hold some out, this one is alone"
            )
        random.Random(label).shuffle(of_class)
        count = max(1, round(share * len(of_class)))
        held += of_class[:count]
        kept += of_class[count:]
    return kept, held


@contextmanager
def _random_state(seed: str) -> Iterator[None]:
    """Draw random numbers (PyTorch's, NumPy's, Python's) from `seed` alone within the block, and leave no trace outside."""
    generator = random.Random(seed)
    number = generator.getrandbits(63)
    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        random.setstate(generator.getstate())
        np.random.seed(number % 2**32)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)
