"""A network that upsamples depth, run on an image of any size and ratio, window by window, in bounded memory, without seams.

Windows overlap by what the network sees, as far as that counts, and only the inner part of each is kept. What the network
takes from the whole map is computed first. So the result is that of the whole image, up to rounding, whatever the size of
the windows.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ddfnet.models.depth.grid import Axis, Part, Samples, interpolate

Progress = Callable[[int, int], None]
FAR = 1e4  # beyond it, float32 would round the other values
HALO = 256  # pixels of overlap: what lies farther than 192 changed nothing on photographs, beyond rounding


class DepthNetwork(Protocol):
    """The contract of a network that runs in windows.

    Attributes:
        stride: windows begin at its multiples, in pixels of the image.
        reach: how far an output pixel sees, in pixels of the image; a multiple of `stride`.
    """

    @property
    def stride(self) -> int: ...

    @property
    def reach(self) -> int: ...

    def statistics(self, depth: Tensor) -> Any:
        """Return what the network takes from the whole map (1, 1, h, w)."""

    def __call__(self, depth: Tensor, rgb: Tensor, *, samples: Samples, statistics: Any, spread: bool) -> Tensor:
        """Upsample (1, 1, h, w), NaN where unknown, by (1, 3, H, W), 0 to 1, to (1, 1, H, W), with spread (1, 2, H, W)."""


class Grid(NamedTuple):
    """The positions of the pixels of depth map, network and image along both sides."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(
        cls, low: Sequence[int], size: Sequence[int], factor: int, samples: Samples, *, regular: bool = True
    ) -> "Grid":
        """Return the geometry for the heights and widths of a depth map and of an image."""
        sides = zip(low, size, strict=True)
        return cls(*(Axis(short, length, factor, samples, regular) for short, length in sides))

    @property
    def exact(self) -> bool:
        return self.rows.exact and self.columns.exact

    def windows(self, network: DepthNetwork, tile: int) -> "list[Window]":
        """Cut the image into windows of at most `tile` network pixels a side.

        Raises:
            ValueError: `tile` is no longer than what the network sees.
        """
        factor = self.rows.factor
        reach = min(network.reach, HALO // network.stride * network.stride)
        if not self.exact:  # between network pixels, an output needs one more
            reach += network.stride
        if tile < 2 * reach + network.stride:
            raise ValueError(f"tile: expected at least {2 * reach + network.stride} pixels, got {tile}")
        sizes = tile // factor, reach // factor, network.stride // factor
        return [Window(self, row, column) for row in self.rows.parts(*sizes) for column in self.columns.parts(*sizes)]


class Window(NamedTuple):
    """A part of the rows and one of the columns."""

    grid: Grid
    row: Part
    column: Part

    def depth(self, depth: Tensor) -> Tensor:
        """Cut the window out of the map (h, w) -> (1, 1, h', w')."""
        return depth[None, None, self.row.start : self.row.stop, self.column.start : self.column.stop]

    def image(self, rgb: Tensor, device: torch.device) -> Tensor:
        """Cut the window out of the image (3, H, W) and bring it to the network's size and 0 to 1 -> (1, 3, f*h', f*w').

        At the end of an image whose sides were rounded, it may be less.
        """
        sides = zip(self.grid, (self.row, self.column), strict=True)
        rows, columns = (axis.image_positions(axis.factor * p.start, axis.factor * p.stop) for axis, p in sides)
        top, left = int(rows[0]), int(columns[0])
        crop = rgb[:, top : math.ceil(rows[-1]) + 1, left : math.ceil(columns[-1]) + 1].to(device)
        image = crop.float() / 255 if crop.dtype == torch.uint8 else crop.float()
        return image[None] if self.grid.exact else interpolate(image[None], rows - top, columns - left)

    def put(self, output: Tensor, result: Tensor) -> None:
        """Write this window's image pixels into the result (C, H, W), from the network's output (1, C, P, Q)."""
        row, column = self.row, self.column
        part = result[:, row.image_start : row.image_stop, column.image_start : column.image_stop]
        if not part.numel():
            return
        sides = zip(self.grid, (row, column), strict=True)
        rows, columns = (
            axis.network_positions(p.image_start, p.image_stop) - axis.factor * p.start for axis, p in sides
        )
        if self.grid.exact:
            part.copy_(output[0, :, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1])
        else:
            part.copy_(interpolate(output[0], rows, columns))


def upsample_tiled(
    network: DepthNetwork,
    depth: Tensor,
    rgb: Tensor,
    grid: Grid,
    *,
    device: torch.device,
    tile: int,
    spread: bool = False,
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Compute the network's output at the image's pixels.

    Where the ratio of the sizes is not the network's factor f, the image is brought to f times the depth map's size, and the
    output back to the image's: were it the depth that is resized, samples would be lost and edges smeared.

    Args:
        depth: (h, w) float32, about -1 to 1, NaN where unknown; at least one value within -1e4 to 1e4.
        rgb: (3, H, W) uint8, or floating in 0 to 1. Windows are moved to the device.
        grid: of both.
        device: that of the network.
        tile: the longest side of a window, in pixels of the network.
        spread: also give the spread of the depths that each output mixes.
        progress: called after each window.

    Returns:
        (1, H, W) float32 on the device, or (2, H, W) with the spread.

    Raises:
        ValueError: `tile` is no longer than what the network sees.
    """
    windows = grid.windows(network, tile)
    result = torch.empty(1 + spread, *rgb.shape[1:], dtype=torch.float32, device=device)
    with torch.no_grad():
        depth = depth.to(device)
        statistics = network.statistics(depth.where(depth.abs() <= FAR, torch.nan)[None, None])
        for window in windows:
            low, image = window.depth(depth), window.image(rgb, device)
            output = network(low, image, samples=grid.rows.samples, statistics=statistics, spread=spread)
            window.put(output, result)
            if progress is not None:
                progress()
    return result
