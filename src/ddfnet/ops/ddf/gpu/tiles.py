"""The tiles of the GPU kernels: a few shapes, picked from sizes and layout by rule.

A tile is ROWS x COLUMNS pixels x CHANNELS channels. Lanes of a warp lie along channels in channels_last and along columns
else. Rows are written out in the kernel: more of them share more loads, take more registers and fill fewer programs.
The numbers keep every kernel up to k = 5 within its registers (tests/ops/ddf/test_triton_compile.py).
"""

from typing import NamedTuple

import torch

from ddfnet.ops.ddf.geometry import Geometry

_BUSY = 512  # programs that give each multiprocessor of a large GPU a few


class Tile(NamedTuple):
    rows: int
    columns: int  # a power of two
    channels: int  # a power of two
    warps: int


def forward_tile(g: Geometry, size: int) -> Tile:
    """Of y; `size` is that of an element in bytes. Four warps, 16 bytes a lane in channels_last, 4 values a lane else."""
    per_head, width = g.channels // g.heads, g.grid[1] * g.scale_factor
    if g.memory_format == torch.channels_last:
        vector = 16 // size if g.kernel_size <= 3 else 4
        channels = min(64, max(vector, _power_of_two(per_head)))
        columns = 128 * vector // channels
        while columns > 8 and _power_of_two(width) < columns and channels < _power_of_two(per_head):
            columns, channels = columns // 2, channels * 2
    else:
        columns = _least_waste(width, (64, 32, 16) if width > 8 else (8,))
        values = (
            (4 if width > 8 and g.kernel_size <= 3 else 2) * 4 // max(4, size)
        )  # a lane, of a row; small maps need the programs
        channels = min(128 * values // columns, _power_of_two(per_head))
    columns = min(columns, _power_of_two(width))
    others = g.batch * g.heads * -(-per_head // channels) * -(-width // columns) * g.scale_factor
    most = 4 if g.kernel_size <= 3 and g.stride == 1 and columns * channels <= 512 else 2
    return Tile(_rows(g.grid[0], others, most), columns, channels, 4)


def backward_tile(g: Geometry, size: int) -> Tile:
    """Of x. One warp, so that sums over lanes need no shared memory; the more taps, the fewer values a lane."""
    per_head, width = g.channels // g.heads, -(-g.width // g.stride)
    last = g.memory_format == torch.channels_last
    values = 32 * max(1, ((4 if last else 2) if g.kernel_size <= 3 else 1) * 4 // max(4, size))
    if last:
        channels = min(max(32, values // 2), _power_of_two(per_head))
        rows = 1
    else:
        columns = _least_waste(width, (32, 16) if width > 8 else (8,))
        channels = min(max(1, values // columns), _power_of_two(per_head))
        rows = 2 if g.kernel_size <= 3 and g.scale_factor == 1 else 1
    columns = min(max(1, values // channels), _power_of_two(width))
    return Tile(-(-rows // g.stride) * g.stride, columns, channels, 1)


def _power_of_two(n: int) -> int:
    """The least power of two >= n."""
    return 1 << (n - 1).bit_length()


def _least_waste(size: int, candidates: tuple[int, ...]) -> int:
    """The candidate of whose multiples the least that covers `size` is smallest; the first of equals."""
    return min(candidates, key=lambda n: -size % n)


def _rows(height: int, others: int, most: int) -> int:
    """Rows of a tile: as many as leave enough programs and, of those, the number that wastes least."""
    rows = max(1, min(most, height))
    while rows > 1 and others * -(-height // rows) < _BUSY:
        rows = -(-rows // 2)
    tiles = -(-height // rows)
    return -(-height // tiles)
