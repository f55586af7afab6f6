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

from ddfnet.ops.ddf.triton_forward import added, combined, load_channel_tap, replaced


@triton.constexpr_function
def reaches(m, ROWS, K, STRIDE, DILATION):
    """Whether the m-th output row over a tile reaches any of its rows of x.

    Output row p has tap u on row p * STRIDE + u * DILATION - padding of x.
    """
    return any(m * STRIDE == r + K // 2 * DILATION - u * DILATION for r in range(ROWS) for u in range(K))


@triton.jit(do_not_specialize=["height", "width", "rows", "row_tiles", "column_tiles", "strips", "steps"])
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
        ALONG_CHANNELS: the steps go through the blocks of a head's channels instead, in one tile of rows; SCALE is 1.
        grad_channel_n, grad_spatial_n: strides between partial sums, over (strip, column tile) and over channel blocks.
        others: as in `ddf_forward_kernel`; ROWS is a multiple of STRIDE.
    """
    sums: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    both: tl.constexpr = HAS_CHANNEL and HAS_SPATIAL and not ADD
    padding: tl.constexpr = K // 2 * DILATION
    program = tl.program_id(0)
    first_block = 0
    if not ALONG_CHANNELS:
        first_block, program = program % head_blocks, program // head_blocks
    head, program = (program % heads).to(tl.int64), program // heads
    column_tile, program = program % column_tiles, program // column_tiles
    strip, b = program % strips, (program // strips).to(tl.int64)

    lanes = column_tile * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    if not CHANNELS_LAST:  # as in the forward kernel
        lanes = tl.multiple_of(lanes, [1, 1])
    if WIDE:
        lanes = lanes.to(tl.int64)
    x += b * x_b + head * per_head * x_c
    grad_y += b * grad_y_b + head * per_head * grad_y_c
    if HAS_CHANNEL:
        channel += b * channel_b + head * per_head * channel_c
    if HAS_SPATIAL:
        spatial += b * spatial_b + head * spatial_g
    if NEEDS_X:
        grad_x += b * grad_x_b + head * per_head * grad_x_c
    if NEEDS_CHANNEL:
        part = (strip * column_tiles + column_tile).to(tl.int64)
        grad_channel += part * grad_channel_n + b * grad_channel_b + head * per_head * grad_channel_c
    if NEEDS_SPATIAL:
        grad_spatial += first_block.to(tl.int64) * grad_spatial_n if not ALONG_CHANNELS else 0
        grad_spatial += b * grad_spatial_b + head * grad_spatial_g

    channel_sums = ()
    if NEEDS_CHANNEL:
        for _ in tl.static_range(K * K):
            channel_sums = channel_sums + (tl.zeros([COLUMNS, CHANNELS], sums),)
    spatial_sums = ()
    if NEEDS_SPATIAL and ALONG_CHANNELS:
        for _ in tl.static_range(ROWS * K * K):
            spatial_sums = spatial_sums + (tl.zeros([COLUMNS, 1], sums),)

    for step in range(steps):
        block, row_tile = first_block, strip * steps + step
        if ALONG_CHANNELS:
            block, row_tile = step, strip
        c = block * CHANNELS + tl.arange(0, CHANNELS)[None, :]
        in_head = c < per_head
        if WIDE:
            c = c.to(tl.int64)
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
                totals = totals + (tl.zeros([COLUMNS, CHANNELS], sums),)
            for phase in range(SCALE * SCALE):
                row_phase, column_phase = phase // SCALE, phase % SCALE
                own = channel + phase * channel_p if OWN_PHASES else channel
                if OWN_PHASES and NEEDS_CHANNEL:
                    for t in tl.static_range(K * K):
                        channel_sums = replaced(channel_sums, t, tl.zeros([COLUMNS, CHANNELS], sums))
                channel_taps = ()
                if HAS_CHANNEL:
                    for u in tl.static_range(K):
                        for v in tl.static_range(K):
                            tap = load_channel_tap(
                                own, 0, channel_u, channel_v, 0, 0, c * channel_c, in_head, u, v, 1, False
                            )
                            channel_taps = channel_taps + (tap,)
                for m in tl.static_range(-(padding // STRIDE), (ROWS - 1 + padding) // STRIDE + 1):
                    for v in tl.static_range(K):
                        if reaches(m, ROWS, K, STRIDE, DILATION) and (remainder + padding - v * DILATION) % STRIDE == 0:
                            p = row_tile * (ROWS // STRIDE) + m
                            q = lanes + (remainder + padding - v * DILATION) // STRIDE
                            end = tl.where((p >= 0) & (p < rows), columns, 0)  # a row outside has no columns
                            inside = (q >= 0) & (q < end) & in_row
                            row = (p * SCALE + row_phase).to(tl.int64)
                            column = q * SCALE + column_phase
                            g_at = grad_y + row * grad_y_h + (column * grad_y_w + c * grad_y_c)
                            g = tl.load(g_at, inside & in_head, other=0).to(sums)
                            for r in tl.static_range(ROWS):
                                for u in tl.static_range(K):
                                    if m * STRIDE == r + padding - u * DILATION:
                                        channel_tap, spatial_tap = 0.0, 0.0
                                        if HAS_CHANNEL:
                                            channel_tap = channel_taps[u * K + v].to(sums)
                                        if HAS_SPATIAL:
                                            s_at = spatial + row * spatial_h + tl.cast(u * K + v, tl.int64) * spatial_t
                                            spatial_tap = tl.load(s_at + column * spatial_w, inside, other=0).to(sums)
                                        if NEEDS_X:
                                            tap = combined(channel_tap, spatial_tap, ADD, HAS_CHANNEL, HAS_SPATIAL)
                                            totals = added(totals, r, g * tap)
                                        if NEEDS_CHANNEL:
                                            term = g * pixels[r]
                                            if both:
                                                term = term * spatial_tap
                                            channel_sums = added(channel_sums, u * K + v, term)
                                        if NEEDS_SPATIAL:
                                            term = g * pixels[r]
                                            if both:
                                                term = term * channel_tap
                                            total = tl.sum(term, axis=1, keep_dims=True)
                                            if ALONG_CHANNELS:
                                                spatial_sums = added(spatial_sums, r * K * K + u * K + v, total)
                                            else:
                                                s_out_at = (
                                                    grad_spatial
                                                    + row * grad_spatial_h
                                                    + tl.cast(u * K + v, tl.int64) * grad_spatial_t
                                                )
                                                s_inside = inside & (
                                                    j < tl.where(row_tile * ROWS + r < height, width, 0)
                                                )
                                                total = total.to(grad_spatial.dtype.element_ty)
                                                tl.store(s_out_at + column * grad_spatial_w, total, s_inside)
                if OWN_PHASES and NEEDS_CHANNEL:
                    _store_channel_sums(
                        channel_sums, grad_channel + phase * grad_channel_p, grad_channel_c, grad_channel_u, grad_channel_v,
                        c, in_head, K,
                    )  # fmt: skip
            if NEEDS_X:
                for r in tl.static_range(ROWS):
                    i = row_tile * ROWS + r
                    x_out_at = grad_x + i.to(tl.int64) * grad_x_h + (j * grad_x_w + c * grad_x_c)
                    x_inside = (j < tl.where(i < height, width, 0)) & in_head
                    tl.store(x_out_at, totals[r].to(grad_x.dtype.element_ty), x_inside)
        if NEEDS_CHANNEL and ALONG_CHANNELS:
            _store_channel_sums(
                channel_sums, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, in_head, K
            )
            for t in tl.static_range(K * K):
                channel_sums = replaced(channel_sums, t, tl.zeros([COLUMNS, CHANNELS], sums))

    if NEEDS_CHANNEL and not ALONG_CHANNELS and not OWN_PHASES:
        c = first_block * CHANNELS + tl.arange(0, CHANNELS)[None, :]
        _store_channel_sums(
            channel_sums, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, c < per_head, K
        )
    if NEEDS_SPATIAL and ALONG_CHANNELS:
        for r in tl.static_range(ROWS):
            for u in tl.static_range(K):
                if (r + padding - u * DILATION) % STRIDE == 0:
                    p = strip * (ROWS // STRIDE) + (r + padding - u * DILATION) // STRIDE
                    row_end = tl.where((p >= 0) & (p < rows), columns, 0)
                    for v in tl.static_range(K):
                        for remainder in tl.static_range(STRIDE):
                            if (remainder + padding - v * DILATION) % STRIDE == 0:
                                q = lanes + (remainder + padding - v * DILATION) // STRIDE
                                end = tl.where(strip * ROWS + r < height, width, 0)
                                inside = (q >= 0) & (q < row_end) & (lanes * STRIDE + remainder < end)
                                place = (
                                    grad_spatial
                                    + p.to(tl.int64) * grad_spatial_h
                                    + tl.cast(u * K + v, tl.int64) * grad_spatial_t
                                )
                                total = spatial_sums[r * K * K + u * K + v]
                                tl.store(place + q * grad_spatial_w, total.to(grad_spatial.dtype.element_ty), inside)


@triton.jit
def _store_channel_sums(
    channel_sums, grad_channel, grad_channel_c, grad_channel_u, grad_channel_v, c, in_head, K: tl.constexpr
):
    """Adds up the lanes' sums over pixels and stores them, K values a channel."""
    for t in tl.static_range(K * K):
        total = tl.sum(channel_sums[t], axis=0, keep_dims=True)
        place = grad_channel + t // K * grad_channel_u + t % K * grad_channel_v + c * grad_channel_c
        tl.store(place, total.to(grad_channel.dtype.element_ty), in_head)


@triton.jit(do_not_specialize=["parts", "count"])
def ddf_sum_kernel(
    parts_of, out, parts, count, size_1, size_2, size_3, size_4,
    out_0, out_1, out_2, out_3, out_4,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """`out` of sizes (_, size_1, ..., size_4) = the sum of `parts` contiguous tensors of these sizes, in their order."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = n < count
    total = tl.zeros([BLOCK], parts_of.dtype.element_ty)
    source = parts_of + n
    for _ in range(parts):
        total += tl.load(source, inside, other=0)
        source += count
    place = n % size_4 * out_4
    n //= size_4
    place += n % size_3 * out_3
    n //= size_3
    place += n % size_2 * out_2
    n //= size_2
    place += n % size_1 * out_1 + n // size_1 * out_0
    tl.store(out + place, total.to(out.dtype.element_ty), inside)
