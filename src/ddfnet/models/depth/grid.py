"""The positions of the pixels of a depth map, an image over it and the network between them, and interpolation."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Samples = Literal["point", "average"]


class Part(NamedTuple):
    """A part of a side: its window and its inner part in depth pixels, and the image pixels that it gives."""

    start: int
    stop: int
    inner_start: int
    inner_stop: int
    image_start: int
    image_stop: int


class Axis(NamedTuple):
    """A side of `low` depth pixels, which the network upsamples f times, and of `length` image pixels.

    Depth pixel i is the depth at network pixel i*f + (f-1)//2 ("point"), or the mean over network pixels i*f to (i+1)*f - 1
    ("average"). Where the side is f times the depth's, network pixels are image pixels; a side that subsampling rounded up
    may lack the last ones. Otherwise, or if not `regular`, the depth pixels lie in the middle of `low` equal parts of the
    side, and the network's pixels between them.
    """

    low: int
    length: int
    factor: int
    samples: Samples
    regular: bool = True

    @property
    def exact(self) -> bool:
        """True if network pixels are image pixels."""
        covered = self.low * self.factor
        rounded = self.samples == "point" and self.low == -(-self.length // self.factor)
        return self.regular and (covered == self.length or rounded)

    @property
    def first(self) -> float:
        """The position of depth pixel 0 among the network's pixels."""
        middle = (self.factor - 1) / 2
        return middle // 1 if self.samples == "point" else middle

    def image_positions(self, start: int, stop: int) -> Tensor:
        """Return where network pixels start to stop lie: fractional indices of image pixels, within the image; float64."""
        pixels = torch.arange(start, stop, dtype=torch.float64)
        if not self.exact:
            pixels = (pixels - self.first + self.factor / 2) * self.length / (self.low * self.factor) - 0.5
        return pixels.clamp(0, self.length - 1)

    def network_positions(self, start: int, stop: int) -> Tensor:
        """Return where image pixels start to stop lie among the network's."""
        pixels = torch.arange(start, stop, dtype=torch.float64)
        if not self.exact:
            pixels = (pixels + 0.5) * self.low * self.factor / self.length + self.first - self.factor / 2
        return pixels.clamp(0, self.low * self.factor - 1)

    def depth_positions(self, start: int, stop: int) -> Tensor:
        """Return where image pixels start to stop lie among the depth map's."""
        return ((self.network_positions(start, stop) - self.first) / self.factor).clamp(0, self.low - 1)

    def parts(self, window: int, reach: int, step: int) -> list[Part]:
        """Cut the side into about equal parts, each with a window that extends `reach` beyond it.

        Args:
            window: the longest window, in depth pixels.
            reach: in depth pixels, a multiple of `step`.
            step: windows begin at its multiples.
        """
        blocks, longest, overlap = -(-self.low // step), window // step, reach // step
        count = 1 if blocks <= longest else math.ceil(blocks / (longest - 2 * overlap))
        inner = [min(self.low, blocks * i // count * step) for i in range(count + 1)]
        cuts = torch.tensor(inner[1:-1], dtype=torch.float64) * self.factor
        outer = [0, *torch.searchsorted(self.network_positions(0, self.length), cuts).tolist(), self.length]
        return [
            Part(max(0, inner[i] - reach), min(self.low, inner[i + 1] + reach), *inner[i : i + 2], *outer[i : i + 2])
            for i in range(count)
        ]


def interpolate(x: Tensor, rows: Tensor, columns: Tensor, *, cubic: bool = False) -> Tensor:
    """Interpolate (..., H, W) at all pairs of fractional `rows` (P,) and `columns` (Q,), float64 indices -> (..., P, Q).

    Linearly, or by the cubic kernel of Keys (1981) with a = -1/2. Outside its border a map goes on as it is there.
    """
    kernel, taps = (_cubic, range(-1, 3)) if cubic else (_linear, range(2))
    return _along(_along(x, rows, -2, kernel, taps), columns, -1, kernel, taps)


def _along(x: Tensor, positions: Tensor, dim: int, kernel: Callable[[Tensor], Tensor], taps: Sequence[int]) -> Tensor:
    base = positions.floor()
    y = torch.zeros((), dtype=x.dtype, device=x.device)
    for tap in taps:
        weight = kernel((positions - base - tap).abs()).to(x)
        index = (base.long() + tap).clamp(0, x.shape[dim] - 1).to(x.device)
        y = y + x.index_select(dim, index) * (weight[:, None] if dim == -2 else weight)
    return y


def _linear(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min(0)


def _cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, far)
