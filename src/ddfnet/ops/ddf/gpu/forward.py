"""GPU kernel of Eq. 2 and of DDF-Up, forward: one source for both layouts, every stride, dilation and scale factor.

A program makes a tile of the output: ROWS rows, COLUMNS neighbouring columns, CHANNELS neighbouring channels of a head. Its
rows are written out at compile time. Each row of x that they read is loaded once for each column of the kernel and used by
all output rows whose filters reach it: with a 3x3 filter 3 * (ROWS + 2) / ROWS loads an output, not 9. Which lanes lie
side by side in memory follows from the strides: channels_last maps are read along channels, others along columns.

For DDF-Up the rows of a tile share one row phase; its columns have every column phase, each with channel filters of its own.
"""

# Triton compiles these functions from their syntax; they are not Python to a type checker.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def combined(channel_tap, spatial_tap, ADD: tl.constexpr, HAS_CHANNEL: tl.constexpr, HAS_SPATIAL: tl.constexpr):
    """(*) of Eq. 2: product or sum of the two filters' taps, or the one that is there."""
    if not HAS_CHANNEL:
        tap = spatial_tap
    elif not HAS_SPATIAL:
        tap = channel_tap
    elif ADD:
        tap = channel_tap + spatial_tap
    else:
        tap = channel_tap * spatial_tap
    return tap


@triton.jit
def load_channel_tap(
    channel, channel_p, channel_u, channel_v, row_phase, column_phase, c, in_head,
    u: tl.constexpr, v: tl.constexpr, SCALE: tl.constexpr, OWN_PHASES: tl.constexpr,
):  # fmt: skip
    """Tap (u, v) of a tile's channel filters: (1, CHANNELS), or (COLUMNS, CHANNELS) where columns differ in phase."""
    # Pointers are added to, not offsets: what is constant of them goes into the load and takes no register.
    place = channel + c + tl.cast(u, tl.int64) * channel_u + tl.cast(v, tl.int64) * channel_v
    if not OWN_PHASES:
        tap = tl.load(place, in_head, other=0)
    else:
        tap = tl.load(place + row_phase * SCALE * channel_p, in_head, other=0)
        for phase in tl.static_range(1, SCALE):
            other = tl.load(place + (row_phase * SCALE + phase) * channel_p, in_head, other=0)
            tap = tl.where(column_phase == phase, other, tap)
    return tap


@triton.jit
def load_channel_taps(
    channel, channel_p, channel_u, channel_v, row_phase, column_phase, c, in_head,
    K: tl.constexpr, SCALE: tl.constexpr, OWN_PHASES: tl.constexpr,
):  # fmt: skip
    """All K * K of them."""
    taps = ()
    for u in tl.static_range(K):
        for v in tl.static_range(K):
            tap = load_channel_tap(
                channel, channel_p, channel_u, channel_v, row_phase, column_phase, c, in_head, u, v, SCALE, OWN_PHASES
            )
            taps = taps + (tap,)
    return taps


@triton.jit
def replaced(values, index: tl.constexpr, value):
    """The tuple with `value` in the place of `values[index]`."""
    return values[:index] + (value,) + values[index + 1 :]


@triton.jit
def added(values, index: tl.constexpr, term):
    """The tuple with `term` added to `values[index]`."""
    return values[:index] + (values[index] + term,) + values[index + 1 :]


@triton.constexpr_function
def is_read(m, ROWS, K, STRIDE, DILATION):
    """Whether any of the tile's output rows has a tap on the m-th row of x under it."""
    return any(m == r * STRIDE + u * DILATION for r in range(ROWS) for u in range(K))


@triton.jit(do_not_specialize=["height", "width", "rows", "row_tiles", "column_tiles"])
def ddf_forward_kernel(
    x, channel, spatial, y,
    per_head, height, width, rows, columns,
    row_tiles, column_tiles, heads, head_blocks,
    x_b, x_c, x_h, x_w,
    channel_b, channel_p, channel_c, channel_u, channel_v,
    spatial_b, spatial_g, spatial_t, spatial_h, spatial_w,
    y_b, y_c, y_h, y_w,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, SCALE: tl.constexpr, ADD: tl.constexpr,
    HAS_CHANNEL: tl.constexpr, HAS_SPATIAL: tl.constexpr, OWN_PHASES: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One tile of y.

    Args:
        per_head: channels of a head, in `head_blocks` blocks of CHANNELS.
        rows, columns: of the grid on which filters are centred, (P, Q) / SCALE.
        CHANNELS_LAST: lanes lie along channels, else along columns.
        WIDE: offsets within a tile can pass 2^31 elements; those of its corner always may.
    """
    sums: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    padding: tl.constexpr = K // 2 * DILATION
    program = tl.program_id(0)
    block, program = program % head_blocks, program // head_blocks
    head, program = (program % heads).to(tl.int64), program // heads
    column_tile, program = program % column_tiles, program // column_tiles
    row_phase, program = program % SCALE, program // SCALE
    row_tile, b = program % row_tiles, (program // row_tiles).to(tl.int64)

    c = block * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    q = column_tile * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    in_head, in_row = c < per_head, q < columns * SCALE
    if WIDE:
        c, q = c.to(tl.int64), q.to(tl.int64)
    x += b * x_b + head * per_head * x_c
    y += b * y_b + head * per_head * y_c
    if not CHANNELS_LAST:  # one column a lane: shifted by a tap, no group of columns is aligned for a wider load
        q = tl.multiple_of(q, [1, 1])
    left = q // SCALE * STRIDE - padding
    if HAS_CHANNEL:
        channel += b * channel_b + head * per_head * channel_c
        channel_taps = load_channel_taps(
            channel, channel_p, channel_u, channel_v, row_phase, q % SCALE, c * channel_c, in_head, K, SCALE, OWN_PHASES
        )
    if HAS_SPATIAL:
        spatial += b * spatial_b + head * spatial_g

    totals = ()
    for _ in tl.static_range(ROWS):
        totals = totals + (tl.zeros([COLUMNS, CHANNELS], sums),)
    for m in tl.static_range((ROWS - 1) * STRIDE + (K - 1) * DILATION + 1):
        if is_read(m, ROWS, K, STRIDE, DILATION):
            i = row_tile * (ROWS * STRIDE) + (m - padding)
            end = tl.where((i >= 0) & (i < height), width, 0)  # a row outside has no columns
            for v in tl.static_range(K):
                j = left + v * DILATION
                inside = (j >= 0) & (j < end) & in_row & in_head
                pixels = tl.load(x + i.to(tl.int64) * x_h + (j * x_w + c * x_c), inside, other=0).to(sums)
                for r in tl.static_range(ROWS):
                    for u in tl.static_range(K):
                        if m == r * STRIDE + u * DILATION:
                            channel_tap, spatial_tap = 0.0, 0.0
                            if HAS_CHANNEL:
                                channel_tap = channel_taps[u * K + v].to(sums)
                            if HAS_SPATIAL:
                                row = row_tile * ROWS + r
                                place = spatial + (row * SCALE + row_phase).to(tl.int64) * spatial_h
                                place += tl.cast(u * K + v, tl.int64) * spatial_t
                                here = q < tl.where(row < rows, columns * SCALE, 0)
                                spatial_tap = tl.load(place + q * spatial_w, here, other=0).to(sums)
                            tap = combined(channel_tap, spatial_tap, ADD, HAS_CHANNEL, HAS_SPATIAL)
                            totals = added(totals, r, pixels * tap)
    for r in tl.static_range(ROWS):
        row = row_tile * ROWS + r
        place = y + (row * SCALE + row_phase).to(tl.int64) * y_h + (q * y_w + c * y_c)
        here = q < tl.where(row < rows, columns * SCALE, 0)
        tl.store(place, totals[r].to(y.dtype.element_ty), here & in_head)
