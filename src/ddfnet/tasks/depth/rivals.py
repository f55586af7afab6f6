"""The classical ways to upsample a depth map: interpolation, and kornia's joint bilateral and guided filters.

All know where the protocol has put the samples (`Protocol.sample_position`): half a pixel off, a rival would be none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from kornia.filters import guided_blur, joint_bilateral_blur
from torch import Tensor

from ddfnet.data.depth.protocols import protocol_of

Mode = Literal["nearest", "bilinear", "bicubic"]
MODES: tuple[Mode, ...] = get_args(Mode)
STRIP = 2**24  # taps that a filter holds at a time: kornia unfolds its windows


class Method(Protocol):
    """A way to upsample low (1, 1, h, w), all finite, under rgb (1, 3, H, W) in 0..1 to (1, 1, H, W), in the unit of low."""

    def __call__(self, low: Tensor, rgb: Tensor, *, factor: int, protocol: str) -> Tensor: ...


def interpolate(low: Tensor, size: tuple[int, int], *, factor: int, protocol: str, mode: Mode) -> Tensor:
    """Interpolate low (B, C, h, w) to `size` (H, W) between where its samples lie; constant beyond the outermost.

    Under protocol "bicubic" this is `F.interpolate`. "nearest" gives a pixel halfway between two samples the first.
    """
    if mode == "nearest":  # under either protocol: halfway under "pac" is the last pixel of a block
        blocks = low.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
        return blocks[..., : size[0], : size[1]]
    offset = protocol_of(protocol).sample_position(factor)
    rows, columns = (
        # The corners are -1 and 1; a single sample is everywhere, wherever the grid points.
        ((torch.arange(length, dtype=torch.float64) - offset) / factor * 2 / max(samples - 1, 1) - 1).to(low)
        for length, samples in zip(size, low.shape[-2:], strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    grid = grid.expand(len(low), *grid.shape)
    return F.grid_sample(low, grid, mode=mode, padding_mode="border", align_corners=True)


@dataclass(frozen=True)
class Interpolation:
    """Interpolation of one kind; the picture is ignored."""

    mode: Mode

    def __call__(self, low: Tensor, rgb: Tensor, *, factor: int, protocol: str) -> Tensor:
        height, width = rgb.shape[-2:]
        return interpolate(low, (height, width), factor=factor, protocol=protocol, mode=self.mode)


@dataclass(frozen=True)
class JointBilateral:
    """Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007), by kornia's filter.

    Args:
        source: what is averaged: "samples", the low-resolution values where they lie, as in the paper, which the protocol
            must have put on pixels ("pac"); or the map interpolated by a mode.
        sigma_space: of the Gaussian of distances, in low-resolution pixels; the window reaches two of them.
        sigma_colour: of the Gaussian of colour differences, sums over the three channels in 0..1.
    """

    source: Literal["samples", "nearest", "bilinear", "bicubic"] = "bilinear"
    sigma_space: float = 0.5
    sigma_colour: float = 0.1

    def __call__(self, low: Tensor, rgb: Tensor, *, factor: int, protocol: str) -> Tensor:
        sigma = self.sigma_space * factor
        reach = math.ceil(2 * sigma)

        def blur(values: Tensor, guide: Tensor, border: str) -> Tensor:
            return joint_bilateral_blur(values, guide, 2 * reach + 1, self.sigma_colour, (sigma, sigma), border)

        height, width = rgb.shape[-2:]
        if self.source != "samples":
            dense = interpolate(low, (height, width), factor=factor, protocol=protocol, mode=self.source)
            return _by_strips(lambda values, guide: blur(values, guide, "replicate"), dense, rgb, reach)
        if not protocol_of(protocol).subsampled:
            raise ValueError(f"source: expected a mode under protocol {protocol!r}, which has no sample on a pixel")
        first = int(protocol_of(protocol).sample_position(factor))
        # A weighted mean over samples alone is the ratio of two means over all pixels.
        values = low.new_zeros(len(low), 2, height, width)
        values[..., first::factor, first::factor] = torch.cat([low, torch.ones_like(low)], 1)
        sums = _by_strips(lambda values, guide: blur(values, guide, "constant"), values, rgb, reach)
        dense = interpolate(low, (height, width), factor=factor, protocol=protocol, mode="bilinear")
        # Where no sample has a weight above float32's rounding, the interpolated value stands.
        return torch.where(sums[:, 1:] > torch.finfo(sums.dtype).tiny * 1e6, sums[:, :1] / sums[:, 1:], dense)


@dataclass(frozen=True)
class GuidedFilter:
    """The guided filter (He et al., ECCV 2010) of the interpolated map, by kornia.

    Args:
        source: how the map is interpolated before.
        radius: of the square window, in low-resolution pixels.
        eps: added to the variance of the guide, in 0..1 squared.
    """

    source: Mode = "bilinear"
    radius: float = 1.0
    eps: float = 1e-3

    def __call__(self, low: Tensor, rgb: Tensor, *, factor: int, protocol: str) -> Tensor:
        height, width = rgb.shape[-2:]
        reach = max(1, round(self.radius * factor))
        dense = interpolate(low, (height, width), factor=factor, protocol=protocol, mode=self.source)
        # In float64: the variance of a flat guide is a difference of large numbers.
        filtered = guided_blur(rgb.double(), dense.double(), 2 * reach + 1, self.eps, "replicate", separable=True)
        return filtered.to(low.dtype)


Filter = JointBilateral | GuidedFilter

# Values that `tune` chooses from.
GRIDS: dict[type, dict[str, tuple[Any, ...]]] = {
    JointBilateral: {
        "source": ("samples", "bilinear", "bicubic"),
        "sigma_colour": (0.03, 0.05, 0.1, 0.2, 0.4),
        "sigma_space": (0.35, 0.5, 0.7, 1.0),
    },
    GuidedFilter: {
        "source": MODES,
        "eps": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        "radius": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
    },
}


def tune(start: Filter, error: Callable[[Filter], float], *, protocol: str) -> tuple[Filter, float]:
    """Return the filter of least error that is found by improving one parameter of `start` after the other over its grid.

    It ends where a whole round improves none.

    Args:
        error: of a filter, on images for training.

    Returns:
        The filter, and its error.
    """
    grid: Mapping[str, Sequence[Any]] = GRIDS[type(start)]
    if not protocol_of(protocol).subsampled:
        grid = {name: [value for value in values if value != "samples"] for name, values in grid.items()}
    tried: dict[Filter, float] = {}

    def error_of(candidate: Filter) -> float:
        if candidate not in tried:
            tried[candidate] = error(candidate)
        return tried[candidate]

    best: Filter = start
    while True:
        found: Filter = best
        for option, values in grid.items():
            varied: list[Filter] = [replace(found, **{option: value}) for value in values]
            found = min([found, *varied], key=error_of)
        if found == best:
            return best, error_of(best)
        best = found


def _by_strips(blur: Callable[[Tensor, Tensor], Tensor], values: Tensor, guide: Tensor, reach: int) -> Tensor:
    """Apply `blur` to the whole by strips of rows that hold `STRIP` taps each, with the rows around that they read."""
    height, width = values.shape[-2:]
    rows = max(1, STRIP // ((2 * reach + 1) ** 2 * width))
    parts = []
    for top in range(0, height, rows):
        first, last = max(0, top - reach), min(height, top + rows + reach)
        part = blur(values[..., first:last, :], guide[..., first:last, :])
        parts.append(part[..., top - first : min(height, top + rows) - first, :])
    return torch.cat(parts, -2)
