"""GPU kernel of Eq. 2 and of DDF-Up, forward: one source for both layouts, every stride, dilation and scale factor.

A program computes a tile of the output: ROWS rows, COLUMNS neighbouring columns, CHANNELS neighbouring channels of a head.
Its rows are written out at compile time. It loads each row of x that they read once for each column of the kernel, and all
output rows whose filters reach that row use it: with a 3x3 filter 3 * (ROWS + 2) / ROWS loads an output, not 9. Strides say
which lanes lie side by side in memory: channels_last maps are read along channels, others along columns.

For DDF-Up the rows of a tile share one row phase; its columns have every column phase, each with its own channel filter.
"""

# Triton compiles these functions from their syntax; they are not Python to a type checker.
# mypy: ignore-errors

import triton
import triton.language as tl

from ddfnet.ops.ddf.gpu.records import Map, SpatialFilter, Tile
from ddfnet.ops.ddf.gpu.taps import added, combined, load_channel_tap, load_channel_taps, of_head, split, sums_of, zeros


@triton.constexpr_function
def row_tap(m, r, K, STRIDE, DILATION):
    """Return the row u of the taps by which output row r of a tile reads the m-th row of x under the tile, or None."""
    u, rest = divmod(m - r * STRIDE, DILATION)
    return u if rest == 0 and 0 <= u < K else None


@triton.constexpr_function
def is_read(m, ROWS, K, STRIDE, DILATION):
    """Return whether any of a tile's output rows has a tap on the m-th row of x under the tile."""
    return any(m == r * STRIDE + u * DILATION for r in range(ROWS) for u in range(K))


@triton.jit(do_not_specialize=["height", "width"])
def ddf_forward_kernel(x, channel, spatial, y, height, width, o):
    """Compute one tile of y.

    Args:
        x, y: `Map` records.
        channel, spatial: `ChannelFilter` and `SpatialFilter`.
        height, width: those of x.
        o: `KernelOptions`.
    """
    rows = tl.cdiv(height + (2 * o.PADDING - (o.K - 1) * o.DILATION), o.STRIDE)
    columns = o.columns * o.SCALE
    block, program = split(tl.program_id(0), o.head_blocks)
    head, program = split(program, o.heads)
    column_tile, program = split(program, tl.cdiv(columns, o.COLUMNS))
    row_phase, program = split(program, o.SCALE)
    row_tile, b = split(program, tl.cdiv(rows, o.ROWS))
    head, b = head.to(tl.int64), b.to(tl.int64)

    c = block * o.CHANNELS + tl.arange(0, o.CHANNELS)[None, :]
    q = column_tile * o.COLUMNS + tl.arange(0, o.COLUMNS)[:, None]
    in_head, in_row = c < o.per_head, q < columns
    if o.WIDE:
        c, q = c.to(tl.int64), q.to(tl.int64)
    if not o.CHANNELS_LAST:  # one column a lane: shifted by a tap, no group of columns is aligned for a wider load
        q = tl.multiple_of(q, [1, 1])
    tile = Tile(row_tile * o.ROWS, row_phase, q, c, in_row, in_head, rows, height, width)

    first = head * o.per_head
    x = Map(of_head(x.address, x, b, first), x.b, x.c, x.h, x.w)
    y = Map(of_head(y.address, y, b, first), y.b, y.c, y.h, y.w)
    channel_taps = ()
    if channel.address is not None:
        address = of_head(channel.address, channel, b, first)
        if o.OWN_PHASES:
            channel_taps = load_phase_taps(address, channel, tile, o)
        else:
            channel_taps = load_channel_taps(address, channel, tile, o.K)
    if spatial.address is not None:
        place = spatial.address + b * spatial.b + head * spatial.g
        spatial = SpatialFilter(place, spatial.b, spatial.g, spatial.t, spatial.h, spatial.w)

    totals = zeros(o.ROWS, o.COLUMNS, o.CHANNELS, sums_of(o.DOUBLE))
    for m in tl.static_range((o.ROWS - 1) * o.STRIDE + (o.K - 1) * o.DILATION + 1):
        if is_read(m, o.ROWS, o.K, o.STRIDE, o.DILATION):
            totals = with_row(totals, x, channel_taps, spatial, tile, m, o)
    for r in tl.static_range(o.ROWS):
        place = y.address + ((tile.row + r) * o.SCALE + row_phase).to(tl.int64) * y.h + (q * y.w + c * y.c)
        tl.store(place, totals[r].to(y.address.dtype.element_ty), has_columns(tile, r, o) & in_head)


@triton.jit
def load_phase_taps(address, channel, tile, o):
    """Load the K * K taps of the channel filters of a tile's columns, (COLUMNS, CHANNELS), which differ in phase."""
    taps = ()
    first = address + tile.row_phase * o.SCALE * channel.p
    for u in tl.static_range(o.K):
        for v in tl.static_range(o.K):
            tap = load_channel_tap(first, channel, tile, u, v)
            for phase in tl.static_range(1, o.SCALE):
                other = load_channel_tap(first + phase * channel.p, channel, tile, u, v)
                tap = tl.where(tile.q % o.SCALE == phase, other, tap)
            taps = taps + (tap,)
    return taps


@triton.jit
def with_row(totals, x, channel_taps, spatial, tile, m: tl.constexpr, o):
    """Return the totals of the tile's rows with what the m-th row of x under the tile adds to them."""
    sums: tl.constexpr = sums_of(o.DOUBLE)
    i = tile.row * o.STRIDE + (m - o.PADDING)
    end = tl.where((i >= 0) & (i < tile.height), tile.width, 0)  # a row outside has no columns
    for v in tl.static_range(o.K):
        j = tile.q // o.SCALE * o.STRIDE + (v * o.DILATION - o.PADDING)
        inside = (j >= 0) & (j < end) & tile.in_row & tile.in_head
        pixels = tl.load(x.address + i.to(tl.int64) * x.h + (j * x.w + tile.c * x.c), inside, other=0).to(sums)
        for r in tl.static_range(o.ROWS):
            if row_tap(m, r, o.K, o.STRIDE, o.DILATION) is not None:
                # A value that the compiler must know can't be given a name in a loop.
                tap = load_tap(channel_taps, spatial, tile, r, row_tap(m, r, o.K, o.STRIDE, o.DILATION) * o.K + v, o)
                totals = added(totals, r, pixels * tap)
    return totals


@triton.jit
def load_tap(channel_taps, spatial, tile, r: tl.constexpr, t: tl.constexpr, o):
    """Return tap t of Eq. 2's filters for a tile's r-th row; the spatial filter's are loaded here."""
    sums: tl.constexpr = sums_of(o.DOUBLE)
    channel_tap, spatial_tap = None, None
    if len(channel_taps) > 0:
        channel_tap = channel_taps[t].to(sums)
    if spatial.address is not None:
        row = spatial.address + ((tile.row + r) * o.SCALE + tile.row_phase).to(tl.int64) * spatial.h
        place = row + tl.cast(t, tl.int64) * spatial.t + tile.q * spatial.w
        spatial_tap = tl.load(place, has_columns(tile, r, o), other=0).to(sums)
    return combined(channel_tap, spatial_tap, o.ADD)


@triton.jit
def has_columns(tile, r: tl.constexpr, o):
    """Return which columns of a tile's r-th row lie in the output."""
    return tile.q < tl.where(tile.row + r < tile.rows, o.columns * o.SCALE, 0)
