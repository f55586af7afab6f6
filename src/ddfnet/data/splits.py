"""A data set as three splits of batches: what every loader of this package returns and what training asks for."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Images with labels, and the names of those that could not be read."""

    images: Tensor  # (B, C, H, W) float32, normalised
    labels: Tensor  # (B,) int64
    unreadable: tuple[str, ...] = ()


class Split(Protocol):
    """Images with labels, fetched by the batch.

    A batch is a pure function of the indices and the epoch, so that it does not matter how many workers fetch it, or
    whether the run before was killed.
    """

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Draw the augmentation of this epoch."""

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return the images of `indices`, in order; without those that cannot be read."""


@dataclass(frozen=True)
class Splits:
    """A classification data set. The test split is for the one score at the end; choices are made on `val`."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    channels: int


class InMemorySplit:
    """uint8 images held in memory, flipped and shifted at random when `augment` is on."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        mean: float,
        std: float,
        augment: bool = False,
        max_shift: int = 0,
        seed: int = 0,
    ) -> None:
        """images: (N, C, H, W) uint8; labels: (N,) int64; mean and std of pixels scaled to 0..1; max_shift in pixels."""
        self.images, self.labels = images, labels
        self.mean, self.std = mean, std
        self.augment, self.max_shift, self.seed = augment, max_shift, seed
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 3 + 1)  # not the order's stream
        self.flips = torch.rand(len(self), generator=generator) < 0.5
        self.shifts = torch.randint(-self.max_shift, self.max_shift + 1, (len(self), 2), generator=generator)

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.tensor(indices, dtype=torch.int64)
        images = (self.images[chosen].float() / 255 - self.mean) / self.std
        if self.augment:
            images = torch.where(self.flips[chosen].view(-1, 1, 1, 1), images.flip(3), images)
            if self.max_shift:
                images = _shifted(images, self.shifts[chosen], background=-self.mean / self.std)
        return Batch(images, self.labels[chosen])


def _shifted(images: Tensor, shifts: Tensor, background: float) -> Tensor:
    """Return each of the images (B, C, H, W) moved by shifts (B, 2) in pixels, down and right."""
    height, width = images.shape[2:]
    rows = torch.arange(height) - shifts[:, :1]  # (B, H): the row that moves here
    columns = torch.arange(width) - shifts[:, 1:]  # (B, W)
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    batch = torch.arange(len(images))[:, None, None]
    moved = images[batch, :, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return torch.where(inside, moved.permute(0, 3, 1, 2), background)
