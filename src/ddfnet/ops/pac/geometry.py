"""The positions that the taps of a pixel-adaptive convolution, or of its transpose, read."""

from types import EllipsisType
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Index = tuple[EllipsisType | slice, ...]


class Tap(NamedTuple):
    """A tap and where it reads: at grid pixel (p, q), the source pixel (p * step + row, q * step + column)."""

    number: int
    row: int
    column: int


class Phase(NamedTuple):
    """Output pixels (spacing * p + row, spacing * q + column), which read by the same taps."""

    row: int
    column: int
    taps: tuple[Tap, ...]

    def pixels(self, spacing: int) -> Index:
        return (..., slice(self.row, None, spacing), slice(self.column, None, spacing))


class Geometry(NamedTuple):
    """The positions of output, source (x, and the guide where x is) and guide relative to each other."""

    kernel_size: int
    step: int  # of a grid pixel in the source
    spacing: int  # of the source's pixels in the guide, and of a phase's in the output
    phases: tuple[Phase, ...]

    @property
    def margin(self) -> int:
        """Rows and columns of zeros around the source that taps read."""
        return max((max(abs(t.row), abs(t.column)) for phase in self.phases for t in phase.taps), default=0)

    @property
    def centre(self) -> int:
        """The tap that reads the output's pixel, and whose Gaussian is 1."""
        return self.kernel_size**2 // 2


def geometry(kernel_size: int, stride: int, dilation: int, transposed: bool) -> Geometry:
    """Lay out a convolution, which is one phase, or a transposed one, which has stride * stride phases."""
    k = kernel_size
    offsets = [Tap(u * k + v, (u - k // 2) * dilation, (v - k // 2) * dilation) for u in range(k) for v in range(k)]
    if not transposed:
        return Geometry(k, stride, 1, (Phase(0, 0, tuple(offsets)),))
    phases = tuple(
        Phase(
            i,
            j,
            tuple(
                Tap(t, (i + u) // stride, (j + v) // stride)
                for t, u, v in offsets
                if not ((i + u) % stride or (j + v) % stride)
            ),
        )
        for i in range(stride)
        for j in range(stride)
    )
    return Geometry(k, 1, stride, phases)


def padded(x: Tensor, guide: Tensor, g: Geometry) -> tuple[Tensor, Tensor]:
    """Return x and the guide at its pixels, with zeros around them for taps beyond the image."""
    around = (g.margin,) * 4
    return F.pad(x.contiguous(), around), F.pad(guide[..., :: g.spacing, :: g.spacing].contiguous(), around)


def out_size(x: Tensor, guide: Tensor, g: Geometry) -> tuple[int, int]:
    """Return the height and width of the output."""
    size = x if g.spacing == 1 else guide
    return -(-size.shape[2] // g.step), -(-size.shape[3] // g.step)


def window(tap: Tap, g: Geometry, samples: slice, first: int, last: int, columns: int) -> tuple[slice, ...]:
    """Return the index of what a tap reads of the source, in all its channels, for the grid's rows `first` to `last`."""
    top, left = g.margin + first * g.step + tap.row, g.margin + tap.column
    rows = slice(top, top + (last - first - 1) * g.step + 1, g.step)
    return samples, slice(None), rows, slice(left, left + (columns - 1) * g.step + 1, g.step)
