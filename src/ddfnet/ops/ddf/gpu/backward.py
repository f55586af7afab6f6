"""GPU kernel of Eq. 2 and of DDF-Up, backward: one pass over x and the output's gradient for all three gradients.

A program takes tiles of x: ROWS rows, COLUMNS neighbouring columns (STRIDE apart, one remainder after the other), CHANNELS
neighbouring channels of a head. For each output pixel whose filter reaches the tile it loads the gradient g once for each
column of the kernel. With tap t between them,

    grad_x   gathers      g * (c_t * s_t)          over the taps, in registers;
    grad_s_t sums         g * x * c_t              over channels: those of the tile, then those of other tiles;
    grad_c_t sums         g * x * s_t              over pixels: those of the tile, then those of other tiles.

What lies side by side in memory lies in the lanes of a warp: sums over it cost shuffles, sums over the rest cost none. So a
program walks along the rest and keeps its sums over it: in channels_last it walks down tiles of rows and keeps grad_c, else
through the channels and keeps grad_s. The other gradient leaves it as partial sums, which `ddf_sum_kernel` adds up in a
fixed order: no atomics, the same bits every time. What becomes of each gradient's terms stands in `gradients.py`.
"""

# Triton compiles these functions from their syntax; they are not Python to a type checker.
# mypy: ignore-errors

import triton
import triton.language as tl

from ddfnet.ops.ddf.gpu.gradients import (
    load_spatial_taps,
    meet,
    no_sums,
    spatial_place,
    store_channel_sums,
    store_grad_spatial,
    store_grad_x,
    store_packed_channel_sums,
    store_packed_spatial_sums,
    store_spatial_sums,
    with_grad_channel,
    with_grad_spatial,
    with_grad_x,
)
from ddfnet.ops.ddf.gpu.records import (
    ChannelFilter,
    Columns,
    Map,
    Patch,
    Place,
    SpatialFilter,
    Spot,
    Sums,
    Taps,
    Tensors,
)
from ddfnet.ops.ddf.gpu.taps import load_channel_tap, load_channel_taps, of_head, split, sums_of, zeros


@triton.constexpr_function
def row_tap(m, r, K, STRIDE, DILATION):
    """Return the row u of the taps by which the m-th output row over a patch reaches its r-th row of x, or None.

    Output row p has tap row u on row p * STRIDE + u * DILATION - padding of x.
    """
    u, rest = divmod(r + K // 2 * DILATION - m * STRIDE, DILATION)
    return u if rest == 0 and 0 <= u < K else None


@triton.constexpr_function
def reaches(m, ROWS, K, STRIDE, DILATION):
    """Return whether the m-th output row over a patch reaches any of its rows of x."""
    return any(m * STRIDE == r + K // 2 * DILATION - u * DILATION for r in range(ROWS) for u in range(K))


@triton.constexpr_function
def loads_late(DOUBLE, K, ROWS, STRIDE):
    """Return whether channel taps are loaded when they are used.

    Two registers for each of 25 sums leave none for the taps. Each tap must have one row.
    """
    return DOUBLE and K > 3 and ROWS == STRIDE


@triton.jit(do_not_specialize=["height", "width", "steps"])
def ddf_backward_kernel(x, channel, spatial, grad_y, height, width, steps, o):
    """Compute the gradients that `steps` patches of x give.

    Args:
        x, channel, spatial: `DifferentiatedMap`, `DifferentiatedChannelFilter` and `DifferentiatedSpatialFilter`.
            Partial sums of the channel filter's gradient are over (strip, column tile), of the spatial one's over channel
            blocks.
        grad_y: `Map`.
        height, width: those of x.
        steps: patches of a strip, one below the other; with ALONG_CHANNELS blocks of the head's channels.
        o: `KernelOptions`. ROWS is a multiple of STRIDE, and STRIDE itself with CHANNELS_LAST. With ALONG_CHANNELS, SCALE is
            1 and lanes lie along columns.
    """
    block, program = 0, tl.program_id(0)
    strips = tl.cdiv(height, o.ROWS)
    if not o.ALONG_CHANNELS:
        block, program = split(program, o.head_blocks)
        strips = tl.cdiv(strips, steps)
    head, program = split(program, o.heads)
    column_tile, program = split(program, tl.cdiv(width, o.COLUMNS * o.STRIDE))
    strip, b = split(program, strips)
    part = (strip * tl.cdiv(width, o.COLUMNS * o.STRIDE) + column_tile).to(tl.int64)

    c = block * o.CHANNELS + tl.arange(0, o.CHANNELS)[None, :]
    lanes = column_tile * o.COLUMNS + tl.arange(0, o.COLUMNS)[:, None]
    if not o.CHANNELS_LAST:  # as in the forward kernel
        lanes = tl.multiple_of(lanes, [1, 1])
    if o.WIDE:
        c, lanes = c.to(tl.int64), lanes.to(tl.int64)
    patch = Patch(strip, lanes, c, c < o.per_head, tl.cdiv(height, o.STRIDE), height, width)
    place = Place(b.to(tl.int64), head.to(tl.int64), part, block, lanes)
    tensors = tensors_at(x, channel, spatial, grad_y, place, o)

    sums, held = no_sums(tensors, o), held_taps(tensors, patch, o)
    for step in range(steps):
        index = strip if o.ALONG_CHANNELS else strip * steps + step
        patch = Patch(index, lanes, c, c < o.per_head, patch.rows, height, width)
        for remainder in tl.static_range(o.STRIDE):
            sums = with_columns(sums, held, tensors, patch, remainder, o)
        if o.ALONG_CHANNELS:
            if tensors.grad_channel.address is not None:
                store_packed_channel_sums(sums.packed, tensors.grad_channel, patch, o)
            c += o.CHANNELS
    if tensors.grad_channel.address is not None and not o.ALONG_CHANNELS and not o.OWN_PHASES:
        store_channel_sums(sums.channel, tensors.grad_channel.address, tensors.grad_channel, patch, o)
    if len(sums.spatial) > 0:
        store_spatial_sums(sums.spatial, tensors.grad_spatial, patch, o)


@triton.jit
def tensors_at(x, channel, spatial, grad_y, place, o):
    """Return the program's `Tensors`."""
    # What is added to these addresses in the loops is the same for all lanes: no lane holds an offset for each row or tap.
    first, scale = place.head * o.per_head, o.SCALE
    channel_at, spatial_at, grad_x, grad_channel, grad_spatial = None, None, None, None, None
    if channel.address is not None:
        channel_at = of_head(channel.address, channel, place.b, first)
    if spatial.address is not None:
        spatial_at = spatial.address + place.b * spatial.b + place.head * spatial.g + place.lanes * scale * spatial.w
    if x.grad is not None:
        grad_x = x.grad + place.b * x.grad_b + first * x.grad_c
    if channel.grad is not None:
        grad_channel = channel.grad + place.part * channel.grad_n + place.b * channel.grad_b + first * channel.grad_c
    if spatial.grad is not None:
        grad_spatial = spatial.grad
        if not o.ALONG_CHANNELS:
            grad_spatial += place.block.to(tl.int64) * spatial.grad_n
        grad_spatial += place.b * spatial.grad_b + place.head * spatial.grad_g
    grad_y_at = of_head(grad_y.address, grad_y, place.b, first) + place.lanes * scale * grad_y.w
    return Tensors(
        Map(of_head(x.address, x, place.b, first), x.b, x.c, x.h, x.w),
        ChannelFilter(channel_at, channel.b, channel.p, channel.c, channel.u, channel.v),
        SpatialFilter(spatial_at, spatial.b, spatial.g, spatial.t, spatial.h, spatial.w),
        Map(grad_y_at, grad_y.b, grad_y.c, grad_y.h, grad_y.w),
        Map(grad_x, x.grad_b, x.grad_c, x.grad_h, x.grad_w),
        ChannelFilter(grad_channel, channel.grad_b, channel.grad_p, channel.grad_c, channel.grad_u, channel.grad_v),
        SpatialFilter(grad_spatial, spatial.grad_b, spatial.grad_g, spatial.grad_t, spatial.grad_h, spatial.grad_w),
    )


@triton.jit
def held_taps(tensors, patch, o):
    """Load the taps that are the same in every step."""
    channel_taps, spatial_taps = (), ()
    late: tl.constexpr = loads_late(o.DOUBLE, o.K, o.ROWS, o.STRIDE)
    if tensors.channel.address is not None and not (o.ALONG_CHANNELS or o.OWN_PHASES or late):
        channel_taps = load_channel_taps(tensors.channel.address, tensors.channel, patch, o.K)
    if tensors.spatial.address is not None and o.ALONG_CHANNELS:
        spatial_taps = load_spatial_taps(tensors.spatial, patch, o)
    return Taps(channel_taps, spatial_taps, tensors.channel.address)


@triton.jit
def with_columns(sums, held, tensors, patch, remainder: tl.constexpr, o):
    """Return the sums with what the columns of one remainder modulo STRIDE add; store the gradient of these of x."""
    dtype: tl.constexpr = sums_of(o.DOUBLE)
    j = patch.lanes * o.STRIDE + remainder
    pixels = ()
    for r in tl.static_range(o.ROWS):
        if tensors.grad_channel.address is not None or tensors.grad_spatial.address is not None:
            i = patch.index * o.ROWS + r
            place = tensors.x.address + i.to(tl.int64) * tensors.x.h + (j * tensors.x.w + patch.c * tensors.x.c)
            inside = (j < tl.where(i < patch.height, patch.width, 0)) & patch.in_head
            pixels = pixels + (tl.load(place, inside, other=0).to(dtype),)
        else:
            pixels = pixels + (None,)
    sums = Sums(zeros(o.ROWS, o.COLUMNS, o.CHANNELS, dtype), sums.channel, sums.spatial, sums.packed)
    for phase in range(o.SCALE * o.SCALE):
        row_phase = phase // o.SCALE
        columns = Columns(j < patch.width, pixels, row_phase, phase - row_phase * o.SCALE)
        sums = with_phase(sums, held, tensors, columns, patch, phase, remainder, o)
    if tensors.grad_x.address is not None:
        store_grad_x(sums.x, tensors.grad_x, j, patch, o)
    return Sums((), sums.channel, sums.spatial, sums.packed)


@triton.jit
def with_phase(sums, held, tensors, columns, patch, phase, remainder: tl.constexpr, o):
    """Return the sums with what one phase of the output adds; store the filters' gradients that are this phase's alone."""
    channel, grad_channel = tensors.channel, tensors.grad_channel
    late: tl.constexpr = loads_late(o.DOUBLE, o.K, o.ROWS, o.STRIDE)
    own_sums: tl.constexpr = o.OWN_PHASES and grad_channel.address is not None
    if own_sums:
        zero = zeros(o.K * o.K, o.COLUMNS, o.CHANNELS, sums_of(o.DOUBLE))
        sums = Sums(sums.x, zero, sums.spatial, sums.packed)
    taps = held
    if channel.address is not None:
        address = channel.address + phase * channel.p if o.OWN_PHASES else channel.address
        channel_taps = held.channel
        if (o.ALONG_CHANNELS or o.OWN_PHASES) and not late:
            channel_taps = load_channel_taps(address, channel, patch, o.K)
        taps = Taps(channel_taps, held.spatial, address)
    padding: tl.constexpr = o.K // 2 * o.DILATION
    for m in tl.static_range(-(padding // o.STRIDE), (o.ROWS - 1 + padding) // o.STRIDE + 1):
        if reaches(m, o.ROWS, o.K, o.STRIDE, o.DILATION):
            p = patch.index * (o.ROWS // o.STRIDE) + m
            # A branch around each row keeps the compiler from holding the terms of all rows until the last is loaded.
            if not (o.CHANNELS_LAST or late) or (p >= 0) & (p < patch.rows):
                sums = with_row(sums, taps, tensors, columns, patch, m, remainder, o)
    if own_sums:
        store_channel_sums(sums.channel, grad_channel.address + phase * grad_channel.p, grad_channel, patch, o)
    if tensors.grad_spatial.address is not None and o.CHANNELS_LAST and remainder == o.STRIDE - 1:
        store_packed_spatial_sums(sums.packed, tensors.grad_spatial, columns, patch, o)
    return sums


@triton.jit
def with_row(sums, taps, tensors, columns, patch, m: tl.constexpr, remainder: tl.constexpr, o):
    """Return the sums with what the m-th output row over the patch adds."""
    p = patch.index * (o.ROWS // o.STRIDE) + m
    row = (p * o.SCALE + columns.row_phase).to(tl.int64)
    for v in tl.static_range(o.K):
        if meet(remainder, v, o.K, o.STRIDE, o.DILATION):
            shift = (remainder + o.K // 2 * o.DILATION - v * o.DILATION) // o.STRIDE
            end = tl.where((p >= 0) & (p < patch.rows), o.columns, 0)  # a row outside has no columns
            inside = (patch.lanes + shift >= 0) & (patch.lanes + shift < end) & columns.inside
            column = tl.cast(shift * o.SCALE, tl.int64) + columns.column_phase
            grad_y = tensors.grad_y
            place = grad_y.address + patch.c * grad_y.c + (row * grad_y.h + column * grad_y.w)
            grad = tl.load(place, inside & patch.in_head, other=0).to(sums_of(o.DOUBLE))
            for r in tl.static_range(o.ROWS):
                if row_tap(m, r, o.K, o.STRIDE, o.DILATION) is not None:
                    spot = Spot(grad, columns.pixels[r], row, column, inside)
                    # A value that the compiler must know can't be given a name in a loop.
                    sums = with_tap(
                        sums, taps, tensors, spot, patch, r, row_tap(m, r, o.K, o.STRIDE, o.DILATION) * o.K + v, o
                    )
    return sums


@triton.jit
def with_tap(sums, taps, tensors, spot, patch, r: tl.constexpr, t: tl.constexpr, o):
    """Return the sums with what the output pixels' tap t adds, which lies on the patch's r-th row."""
    dtype: tl.constexpr = sums_of(o.DOUBLE)
    channel_tap, spatial_tap = None, None
    if len(taps.channel) > 0:
        channel_tap = taps.channel[t].to(dtype)
    elif tensors.channel.address is not None:
        channel_tap = load_channel_tap(taps.address, tensors.channel, patch, t // o.K, t % o.K).to(dtype)
    if len(taps.spatial) > 0:
        spatial_tap = taps.spatial[r * o.K * o.K + t].to(dtype)
    elif tensors.spatial.address is not None:
        place = spatial_place(tensors.spatial.address, tensors.spatial, spot.row, spot.column, tl.cast(t, tl.int64))
        spatial_tap = tl.load(place, spot.inside, other=0).to(dtype)
    if tensors.grad_x.address is not None:
        sums = with_grad_x(sums, spot, channel_tap, spatial_tap, r, o)
    if tensors.grad_channel.address is not None:
        sums = with_grad_channel(sums, spot, spatial_tap, r, t, o)
    if tensors.grad_spatial.address is not None:
        if o.ALONG_CHANNELS or o.CHANNELS_LAST:
            sums = with_grad_spatial(sums, spot, channel_tap, r, t, o)
        else:
            store_grad_spatial(spot, channel_tap, tensors.grad_spatial, patch, r, t, o)
    return sums


@triton.jit(do_not_specialize=["parts", "count"])
def ddf_sum_kernel(parts_of, out, parts, count, BLOCK: tl.constexpr):
    """Set `out`, `count` elements without a gap, to the sum of `parts` such tensors, added in the order they lie in."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = n < count
    total = tl.zeros([BLOCK], parts_of.dtype.element_ty)
    source = parts_of + n
    for _ in range(parts):
        total += tl.load(source, inside, other=0)
        source += count
    tl.store(out + n, total.to(out.dtype.element_ty), inside)
