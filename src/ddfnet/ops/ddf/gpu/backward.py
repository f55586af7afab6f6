"""GPU kernels of Eq. 2 and of DDF-Up, backward: one pass over x and the output's gradient for all three gradients.

A program takes tiles of x: ROWS rows, COLUMNS neighbouring columns (STRIDE apart, one remainder after the other), CHANNELS
neighbouring channels of a head. For each output pixel whose filter reaches the tile it loads the gradient g once for each
column of the kernel. With tap t between them,

    grad_x   gathers      g * (c_t * s_t)          over the taps, in registers;
    grad_s_t sums         g * x * c_t              over channels: those of the tile, then those of other tiles;
    grad_c_t sums         g * x * s_t              over pixels: those of the tile, then those of other tiles.

What lies side by side in memory lies in the lanes of a warp: sums over it cost shuffles, sums over the rest cost none. So a
program walks along the rest and keeps its sums over it: in channels_last it walks down tiles of rows and keeps grad_c, else
through the channels and keeps grad_s. The other gradient leaves it as partial sums, which `ddf_sum_kernel` adds up in a
fixed order: no atomics, the same bits every time.

A tap that reaches outside the image meets no x: its grad_s is not written here, the caller begins with zeros.
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
def reaches(m, ROWS, K, STRIDE, DILATION):
    """Whether the m-th output row over a tile reaches any of its rows of x.

    Output row p has tap u on row p * STRIDE + u * DILATION - padding of x.
    """
    return any(m * STRIDE == r + K // 2 * DILATION - u * DILATION for r in range(ROWS) for u in range(K))


@triton.constexpr_function
def meet(n, u, K, STRIDE, DILATION):
    """Whether the u-th tap along an axis can lie on the n-th row or column of a tile."""
    return (n + K // 2 * DILATION - u * DILATION) % STRIDE == 0


@triton.constexpr_function
def packs(K, lanes):
    """Tensors of that many lanes that hold K * K taps."""
    return (K * K + lanes - 1) // lanes


@triton.jit
def packed_with(packed, values, tap: tl.constexpr, AXIS: tl.constexpr, LANES: tl.constexpr):
    """The tuple with the sum of `values` along an axis of LANES as the tap's element along it, tensor after tensor."""
    here = tl.expand_dims(tl.arange(0, LANES), 1 - AXIS) == tap % LANES
    total = tl.sum(values, axis=AXIS, keep_dims=True)
    return replaced(packed, tap // LANES, tl.where(here, total, packed[tap // LANES]))


@triton.jit(do_not_specialize=["height", "width", "rows", "column_tiles", "strips", "steps"])
def ddf_backward_kernel(
    x, channel, spatial, grad_y, grad_x, grad_channel, grad_spatial,
    per_head, height, width, rows, columns,
    strips, steps, column_tiles, heads, head_blocks,
    x_b, x_c, x_h, x_w,
    channel_b, channel_p, channel_c, channel_u, channel_v,
    spatial_b, spatial_g, spatial_t, spatial_h, spatial_w,
    grad_y_b, grad_y_c, grad_y_h, grad_y_w,
    grad_x_b, grad_x_c, grad_x_h, grad_x_w,
    grad_channel_n, grad_channel_b, grad_channel_p, grad_channel_c, grad_channel_u, grad_channel_v,
    grad_spatial_n, grad_spatial_b, grad_spatial_g, grad_spatial_t, grad_spatial_h, grad_spatial_w,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, SCALE: tl.constexpr, ADD: tl.constexpr,
    HAS_CHANNEL: tl.constexpr, HAS_SPATIAL: tl.constexpr, OWN_PHASES: tl.constexpr,
    NEEDS_X: tl.constexpr, NEEDS_CHANNEL: tl.constexpr, NEEDS_SPATIAL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, ALONG_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The gradients that `steps` tiles give.

    Args:
        strips: of `steps` tiles of rows each; a program has one of these and one of `column_tiles`.
        ROWS: a multiple of STRIDE, and STRIDE itself with CHANNELS_LAST.
        ALONG_CHANNELS: the steps go through the blocks of a head's channels instead, in one tile of rows; SCALE is 1 and
            lanes lie along columns.
        grad_channel_n, grad_spatial_n: strides between partial sums, over (strip, column tile) and over channel blocks.
        others: as in `ddf_forward_kernel`.
    """
    sums: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    both: tl.constexpr = HAS_CHANNEL and HAS_SPATIAL and not ADD
    padding: tl.constexpr = K // 2 * DILATION
    # A branch around each output row keeps the compiler from holding the terms of all rows until the last has been loaded.
    # Each tap must have one row. Two registers for each of 25 taps leave none for their filters: these are loaded late.
    late: tl.constexpr = sums == tl.float64 and K > 3 and ROWS == STRIDE
    row_by_row: tl.constexpr = CHANNELS_LAST or late
    program = tl.program_id(0)
    first_block = 0
    if not ALONG_CHANNELS:
        first_block, program = program % head_blocks, program // head_blocks
    head, program = (program % heads).to(tl.int64), program // heads
    column_tile, program = program % column_tiles, program // column_tiles
    strip, b = program % strips, (program // strips).to(tl.int64)

    c = first_block * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    lanes = column_tile * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    if not CHANNELS_LAST:  # as in the forward kernel
        lanes = tl.multiple_of(lanes, [1, 1])
    if WIDE:
        c, lanes = c.to(tl.int64), lanes.to(tl.int64)
    # What is added to these pointers in the loops is the same for all lanes: no lane holds an offset for each row or tap.
    x += b * x_b + head * per_head * x_c
    grad_y += b * grad_y_b + head * per_head * grad_y_c
    g_lanes = grad_y + lanes * SCALE * grad_y_w
    if HAS_CHANNEL:
        channel += b * channel_b + head * per_head * channel_c
    if HAS_SPATIAL:
        spatial += b * spatial_b + head * spatial_g
        s_lanes = spatial + lanes * SCALE * spatial_w
    if NEEDS_X:
        grad_x += b * grad_x_b + head * per_head * grad_x_c
    if NEEDS_CHANNEL:
        part = (strip * column_tiles + column_tile).to(tl.int64)
        grad_channel += part * grad_channel_n + b * grad_channel_b + head * per_head * grad_channel_c
    if NEEDS_SPATIAL:
        grad_spatial += first_block.to(tl.int64) * grad_spatial_n if not ALONG_CHANNELS else 0
        grad_spatial += b * grad_spatial_b + head * grad_spatial_g
        s_out_lanes = grad_spatial + lanes * SCALE * grad_spatial_w

    zeros = tl.zeros([COLUMNS, CHANNELS], sums)
    channel_sums = ()
    if NEEDS_CHANNEL:
        for _ in tl.static_range(K * K):
            channel_sums = channel_sums + (zeros,)
    spatial_sums = ()
    if NEEDS_SPATIAL and ALONG_CHANNELS:
        for _ in tl.static_range(ROWS * K * K):
            spatial_sums = spatial_sums + (tl.zeros([COLUMNS, 1], sums),)
    # Sums over lanes, each in a lane of its own: one store where there were K * K, and as many registers fewer.
    packed = ()
    if NEEDS_CHANNEL and ALONG_CHANNELS:
        for _ in tl.static_range(packs(K, COLUMNS)):
            packed = packed + (zeros,)
    if NEEDS_SPATIAL and CHANNELS_LAST:
        for _ in tl.static_range(packs(K, CHANNELS)):
            packed = packed + (zeros,)

    # Filters that are the same in every step.
    held_channel_taps, held_spatial_taps = (), ()
    if HAS_CHANNEL and not ALONG_CHANNELS and not OWN_PHASES and not late:
        held_channel_taps = load_channel_taps(
            channel, 0, channel_u, channel_v, 0, 0, c * channel_c, c < per_head, K, 1, False
        )
    if HAS_SPATIAL and ALONG_CHANNELS:
        held_spatial_taps = _load_spatial_taps(
            spatial, spatial_t, spatial_h, spatial_w, lanes, strip, height, width, rows, columns,
            ROWS, K, STRIDE, DILATION,
        )  # fmt: skip

    for step in range(steps):
        row_tile = strip * steps + step
        if ALONG_CHANNELS:
            row_tile = strip
        in_head = c < per_head
        for remainder in tl.static_range(STRIDE):
            j = lanes * STRIDE + remainder
            in_row = j < width
            pixels, totals = (), ()
            for r in tl.static_range(ROWS):
                i = row_tile * ROWS + r
                if NEEDS_CHANNEL or NEEDS_SPATIAL:
                    x_at = x + i.to(tl.int64) * x_h + (j * x_w + c * x_c)
                    x_inside = (j < tl.where(i < height, width, 0)) & in_head
                    pixels = pixels + (tl.load(x_at, x_inside, other=0).to(sums),)
                totals = totals + (zeros,)
            for phase in range(SCALE * SCALE):
                row_phase, column_phase = phase // SCALE, phase % SCALE
                if OWN_PHASES and NEEDS_CHANNEL:
                    for t in tl.static_range(K * K):
                        channel_sums = replaced(channel_sums, t, zeros)
                own = channel + phase * channel_p if OWN_PHASES else channel
                channel_taps = held_channel_taps
                if HAS_CHANNEL and (ALONG_CHANNELS or OWN_PHASES) and not late:
                    channel_taps = load_channel_taps(
                        own, 0, channel_u, channel_v, 0, 0, c * channel_c, in_head, K, 1, False
                    )
                for m in tl.static_range(-(padding // STRIDE), (ROWS - 1 + padding) // STRIDE + 1):
                    p = row_tile * (ROWS // STRIDE) + m
                    row = (p * SCALE + row_phase).to(tl.int64)
                    there = reaches(m, ROWS, K, STRIDE, DILATION)
                    if there and row_by_row:
                        there = (p >= 0) & (p < rows)
                    if there:
                        for v in tl.static_range(K):
                            if meet(remainder, v, K, STRIDE, DILATION):
                                shift = (remainder + padding - v * DILATION) // STRIDE
                                end = tl.where((p >= 0) & (p < rows), columns, 0)  # a row outside has no columns
                                inside = (lanes + shift >= 0) & (lanes + shift < end) & in_row
                                column = tl.cast(shift * SCALE, tl.int64) + column_phase
                                g_at = g_lanes + c * grad_y_c + (row * grad_y_h + column * grad_y_w)
                                g = tl.load(g_at, inside & in_head, other=0).to(sums)
                                for r in tl.static_range(ROWS):
                                    for u in tl.static_range(K):
                                        if m * STRIDE == r + padding - u * DILATION:
                                            channel_tap, spatial_tap = 0.0, 0.0
                                            if HAS_CHANNEL and late:
                                                channel_tap = load_channel_tap(
                                                    own, 0, channel_u, channel_v, 0, 0, c * channel_c, in_head,
                                                    u, v, 1, False,
                                                )  # fmt: skip
                                            elif HAS_CHANNEL:
                                                channel_tap = channel_taps[u * K + v].to(sums)
                                            if HAS_SPATIAL and ALONG_CHANNELS:
                                                spatial_tap = held_spatial_taps[r * K * K + u * K + v].to(sums)
                                            elif HAS_SPATIAL:
                                                s_at = row * spatial_h + column * spatial_w
                                                s_at = s_lanes + (s_at + tl.cast(u * K + v, tl.int64) * spatial_t)
                                                spatial_tap = tl.load(s_at, inside, other=0).to(sums)
                                            if NEEDS_X:
                                                weight = combined(
                                                    channel_tap, spatial_tap, ADD, HAS_CHANNEL, HAS_SPATIAL
                                                )
                                                totals = added(totals, r, g * weight)
                                            if NEEDS_CHANNEL:
                                                term = g * pixels[r]
                                                if both:
                                                    term = term * spatial_tap
                                                channel_sums = added(channel_sums, u * K + v, term)
                                                if ALONG_CHANNELS and r + STRIDE >= ROWS:  # the tap's last row
                                                    packed = packed_with(
                                                        packed, channel_sums[u * K + v], u * K + v, 0, COLUMNS
                                                    )
                                                    channel_sums = replaced(channel_sums, u * K + v, zeros)
                                            if NEEDS_SPATIAL:
                                                term = g * pixels[r]
                                                if both:
                                                    term = term * channel_tap
                                                if CHANNELS_LAST:
                                                    packed = packed_with(packed, term, u * K + v, 1, CHANNELS)
                                                else:
                                                    total = tl.sum(term, axis=1, keep_dims=True)
                                                    if ALONG_CHANNELS:
                                                        spatial_sums = added(spatial_sums, r * K * K + u * K + v, total)
                                                    else:
                                                        s_at = row * grad_spatial_h + column * grad_spatial_w
                                                        s_at += tl.cast(u * K + v, tl.int64) * grad_spatial_t
                                                        s_end = tl.where(row_tile * ROWS + r < height, width, 0)
                                                        total = total.to(grad_spatial.dtype.element_ty)
                                                        tl.store(s_out_lanes + s_at, total, inside & (j < s_end))
                if OWN_PHASES and NEEDS_CHANNEL:
                    _store_channel_sums(
                        channel_sums, grad_channel + phase * grad_channel_p, grad_channel_c, grad_channel_u, grad_channel_v,
                        c, in_head, K,
                    )  # fmt: skip
                if NEEDS_SPATIAL and CHANNELS_LAST and remainder == STRIDE - 1:
                    _store_packed_spatial_sums(
                        packed, grad_spatial, grad_spatial_t, grad_spatial_h, grad_spatial_w,
                        lanes, row_tile, row_phase, column_phase, height, width, rows, columns,
                        CHANNELS, ROWS, K, STRIDE, DILATION, SCALE,
                    )  # fmt: skip
            if NEEDS_X:
                for r in tl.static_range(ROWS):
                    i = row_tile * ROWS + r
                    x_out_at = grad_x + i.to(tl.int64) * grad_x_h + (j * grad_x_w + c * grad_x_c)
                    x_inside = (j < tl.where(i < height, width, 0)) & in_head
                    tl.store(x_out_at, totals[r].to(grad_x.dtype.element_ty), x_inside)
        if ALONG_CHANNELS:
            if NEEDS_CHANNEL:
                _store_packed_channel_sums(
                    packed, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, in_head, K, COLUMNS
                )
            c += CHANNELS

    if NEEDS_CHANNEL and not ALONG_CHANNELS and not OWN_PHASES:
        _store_channel_sums(
            channel_sums, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, c < per_head, K
        )
    if NEEDS_SPATIAL and ALONG_CHANNELS:
        _store_spatial_sums(
            spatial_sums, grad_spatial, grad_spatial_t, grad_spatial_h, grad_spatial_w,
            lanes, strip, height, width, rows, columns, ROWS, K, STRIDE, DILATION,
        )  # fmt: skip


@triton.jit
def _store_channel_sums(
    channel_sums, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, in_head, K: tl.constexpr
):
    """Adds up the lanes' sums over pixels and stores them, K * K values a channel."""
    for t in tl.static_range(K * K):
        total = tl.sum(channel_sums[t], axis=0, keep_dims=True)
        place = grad_channel + t // K * grad_channel_u + t % K * grad_channel_v + c * grad_channel_c
        tl.store(place, total.to(grad_channel.dtype.element_ty), in_head)


@triton.jit
def _store_packed_channel_sums(
    packed, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, in_head,
    K: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Stores the channels' sums over pixels, which lie along columns."""
    for n in tl.static_range(packs(K, COLUMNS)):
        t = n * COLUMNS + tl.arange(0, COLUMNS)[:, None]
        place = grad_channel + (t // K * grad_channel_u + t % K * grad_channel_v + c * grad_channel_c)
        tl.store(place, packed[n].to(grad_channel.dtype.element_ty), (t < K * K) & in_head)


@triton.jit
def _place(
    spatial, spatial_t, spatial_h, spatial_w, lanes, row_tile, row_phase, column_phase, height, width, rows, columns,
    r, u, v,
    ROWS: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """Where the spatial filters have the taps (u, v) that lie on the r-th row of a tile, and which of them there are.

    Column tap v lies on one of STRIDE neighbouring columns.
    """
    padding: tl.constexpr = K // 2 * DILATION
    remainder = (v * DILATION + (K * DILATION * STRIDE - padding)) % STRIDE  # of a number that is not negative
    p = row_tile * (ROWS // STRIDE) + (r + padding - u * DILATION) // STRIDE
    q = lanes + (remainder + padding - v * DILATION) // STRIDE
    row_end = tl.where((p >= 0) & (p < rows), columns, 0)  # a row outside has no columns
    end = tl.where(row_tile * ROWS + r < height, width, 0)
    inside = (q >= 0) & (q < row_end) & (lanes * STRIDE + remainder < end)
    place = spatial + (p * SCALE + row_phase).to(tl.int64) * spatial_h + tl.cast(u * K + v, tl.int64) * spatial_t
    return place + (q * SCALE + column_phase) * spatial_w, inside


@triton.jit
def _load_spatial_taps(
    spatial, spatial_t, spatial_h, spatial_w, lanes, row_tile, height, width, rows, columns,
    ROWS: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
):  # fmt: skip
    """The taps that lie on a tile, K * K for each of its rows, 0 for those that lie on no pixel of the row."""
    taps = ()
    for r in tl.static_range(ROWS):
        for u in tl.static_range(K):
            for v in tl.static_range(K):
                tap = tl.zeros(lanes.shape, spatial.dtype.element_ty)
                if meet(r, u, K, STRIDE, DILATION):
                    place, inside = _place(
                        spatial, spatial_t, spatial_h, spatial_w, lanes, row_tile, 0, 0, height, width, rows, columns,
                        r, u, v, ROWS, K, STRIDE, DILATION, 1,
                    )  # fmt: skip
                    tap = tl.load(place, inside, other=0)
                taps = taps + (tap,)
    return taps


@triton.jit
def _store_spatial_sums(
    spatial_sums, grad_spatial, grad_spatial_t, grad_spatial_h, grad_spatial_w,
    lanes, row_tile, height, width, rows, columns,
    ROWS: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
):  # fmt: skip
    """Stores the sums over channels, as many as taps lie on a tile."""
    for r in tl.static_range(ROWS):
        for u in tl.static_range(K):
            for v in tl.static_range(K):
                if meet(r, u, K, STRIDE, DILATION):
                    place, inside = _place(
                        grad_spatial, grad_spatial_t, grad_spatial_h, grad_spatial_w,
                        lanes, row_tile, 0, 0, height, width, rows, columns, r, u, v, ROWS, K, STRIDE, DILATION, 1,
                    )  # fmt: skip
                    total = spatial_sums[r * K * K + u * K + v]
                    tl.store(place, total.to(grad_spatial.dtype.element_ty), inside)


@triton.jit
def _store_packed_spatial_sums(
    packed, grad_spatial, grad_spatial_t, grad_spatial_h, grad_spatial_w,
    lanes, row_tile, row_phase, column_phase, height, width, rows, columns,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
    SCALE: tl.constexpr,
):  # fmt: skip
    """Stores the sums over channels, which lie along channels; row tap u lies on one of ROWS = STRIDE rows."""
    for n in tl.static_range(packs(K, CHANNELS)):
        t = n * CHANNELS + tl.arange(0, CHANNELS)[None, :]
        u, v = t // K, t % K
        r = (u * DILATION + (K * DILATION * STRIDE - K // 2 * DILATION)) % STRIDE
        place, inside = _place(
            grad_spatial, grad_spatial_t, grad_spatial_h, grad_spatial_w,
            lanes, row_tile, row_phase, column_phase, height, width, rows, columns,
            r, u, v, ROWS, K, STRIDE, DILATION, SCALE,
        )  # fmt: skip
        tl.store(place, packed[n].to(grad_spatial.dtype.element_ty), inside & (t < K * K))


@triton.jit(do_not_specialize=["parts", "count"])
def ddf_sum_kernel(parts_of, out, parts, count, BLOCK: tl.constexpr):
    """`out`, `count` elements without a gap, = the sum of `parts` such tensors that follow each other, in their order."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = n < count
    total = tl.zeros([BLOCK], parts_of.dtype.element_ty)
    source = parts_of + n
    for _ in range(parts):
        total += tl.load(source, inside, other=0)
        source += count
    tl.store(out + n, total.to(out.dtype.element_ty), inside)
