"""What becomes of the terms of each gradient in the backward GPU kernel: sums in registers, and their stores."""

# Triton compiles these functions from their syntax; they are not Python to a type checker.
# mypy: ignore-errors

import triton
import triton.language as tl

from ddfnet.ops.ddf.gpu.records import Sums
from ddfnet.ops.ddf.gpu.taps import added, combined, replaced, sums_of, zeros


@triton.constexpr_function
def meet(n, u, K, STRIDE, DILATION):
    """Return whether the u-th tap along an axis can lie on the n-th row or column of a patch."""
    return (n + K // 2 * DILATION - u * DILATION) % STRIDE == 0


@triton.constexpr_function
def packs(K, lanes):
    """Return how many blocks of `lanes` lanes hold K * K taps."""
    return (K * K + lanes - 1) // lanes


@triton.jit
def remainder_of(n, divisor):
    """Return the remainder of n >= 0, a tensor or an integer."""
    return n - n // divisor * divisor  # `%` has no integer to the left of a constant in the interpreter


@triton.jit
def no_sums(tensors, o):
    """Return sums of nothing; those of x begin with each patch."""
    sums: tl.constexpr = sums_of(o.DOUBLE)
    channel, spatial, packed = (), (), ()
    if tensors.grad_channel.address is not None:
        channel = zeros(o.K * o.K, o.COLUMNS, o.CHANNELS, sums)
        if o.ALONG_CHANNELS:
            packed = zeros(packs(o.K, o.COLUMNS), o.COLUMNS, o.CHANNELS, sums)
    if tensors.grad_spatial.address is not None:
        if o.ALONG_CHANNELS:
            spatial = zeros(o.ROWS * o.K * o.K, o.COLUMNS, 1, sums)
        elif o.CHANNELS_LAST:
            packed = zeros(packs(o.K, o.CHANNELS), o.COLUMNS, o.CHANNELS, sums)
    return Sums((), channel, spatial, packed)


@triton.jit
def packed_with(packed, values, t: tl.constexpr, AXIS: tl.constexpr, LANES: tl.constexpr):
    """Return the packed sums with that of `values` along an axis of LANES in the lane of tap t."""
    here = tl.expand_dims(tl.arange(0, LANES), 1 - AXIS) == t % LANES
    total = tl.sum(values, axis=AXIS, keep_dims=True)
    return replaced(packed, t // LANES, tl.where(here, total, packed[t // LANES]))


@triton.jit
def term_of(spot, other_tap, ADD: tl.constexpr):
    """Return the term of a filter's gradient; `other_tap` is the other filter's, or None."""
    term = spot.grad * spot.x
    if other_tap is not None and not ADD:
        term = term * other_tap
    return term


@triton.jit
def with_grad_x(sums, spot, channel_tap, spatial_tap, r: tl.constexpr, o):
    """Return the sums with a tap's term of the gradient of x."""
    term = spot.grad * combined(channel_tap, spatial_tap, o.ADD)
    return Sums(added(sums.x, r, term), sums.channel, sums.spatial, sums.packed)


@triton.jit
def with_grad_channel(sums, spot, spatial_tap, r: tl.constexpr, t: tl.constexpr, o):
    """Return the sums with a term of the gradient of channel tap t, and pack them if it is the tap's last in the step."""
    channel, packed = added(sums.channel, t, term_of(spot, spatial_tap, o.ADD)), sums.packed
    if o.ALONG_CHANNELS and r + o.STRIDE >= o.ROWS:  # the last row that the tap lies on
        packed = packed_with(packed, channel[t], t, 0, o.COLUMNS)
        channel = replaced(channel, t, tl.zeros([o.COLUMNS, o.CHANNELS], sums_of(o.DOUBLE)))
    return Sums(sums.x, channel, sums.spatial, packed)


@triton.jit
def with_grad_spatial(sums, spot, channel_tap, r: tl.constexpr, t: tl.constexpr, o):
    """Return the sums with a term of the gradient of spatial tap t on a patch's r-th row."""
    term = term_of(spot, channel_tap, o.ADD)
    spatial, packed = sums.spatial, sums.packed
    if o.CHANNELS_LAST:
        packed = packed_with(packed, term, t, 1, o.CHANNELS)
    else:
        spatial = added(spatial, r * o.K * o.K + t, tl.sum(term, axis=1, keep_dims=True))
    return Sums(sums.x, sums.channel, spatial, packed)


@triton.jit
def store_grad_spatial(spot, channel_tap, grad_spatial, patch, r: tl.constexpr, t: tl.constexpr, o):
    """Store the gradient of spatial tap t on a patch's r-th row; STRIDE is 1."""
    total = tl.sum(term_of(spot, channel_tap, o.ADD), axis=1, keep_dims=True)
    lanes = grad_spatial.address + patch.lanes * o.SCALE * grad_spatial.w
    place = spatial_place(lanes, grad_spatial, spot.row, spot.column, tl.cast(t, tl.int64))
    in_x = patch.lanes < tl.where(patch.index * o.ROWS + r < patch.height, patch.width, 0)
    tl.store(place, total.to(place.dtype.element_ty), spot.inside & in_x)


@triton.jit
def store_grad_x(totals, grad_x, j, patch, o):
    """Store the gradient of the patch's columns j."""
    for r in tl.static_range(o.ROWS):
        i = patch.index * o.ROWS + r
        place = grad_x.address + i.to(tl.int64) * grad_x.h + (j * grad_x.w + patch.c * grad_x.c)
        inside = (j < tl.where(i < patch.height, patch.width, 0)) & patch.in_head
        tl.store(place, totals[r].to(place.dtype.element_ty), inside)


@triton.jit
def store_channel_sums(sums, address, grad_channel, patch, o):
    """Add up the lanes' sums over pixels and store them, K * K values a channel."""
    for u in tl.static_range(o.K):
        for v in tl.static_range(o.K):
            total = tl.sum(sums[u * o.K + v], axis=0, keep_dims=True)
            place = address + u * grad_channel.u + v * grad_channel.v + patch.c * grad_channel.c
            tl.store(place, total.to(place.dtype.element_ty), patch.in_head)


@triton.jit
def store_packed_channel_sums(packed, grad_channel, patch, o):
    """Store the channels' sums over pixels, which lie along columns."""
    for n in tl.static_range(packs(o.K, o.COLUMNS)):
        t = n * o.COLUMNS + tl.arange(0, o.COLUMNS)[:, None]
        offset = t // o.K * grad_channel.u + t % o.K * grad_channel.v + patch.c * grad_channel.c
        place = grad_channel.address + offset
        tl.store(place, packed[n].to(place.dtype.element_ty), (t < o.K * o.K) & patch.in_head)


@triton.jit
def spatial_place(address, strides, row, column, t):
    """Return the address of tap t of the filters at an output row and a column, counted from `address` on."""
    return address + (row * strides.h + column * strides.w + t * strides.t)


@triton.jit
def spatial_filters_on(patch, r, u, v, o):
    """Return the grid row and, relative to the lanes, column of the filters whose tap (u, v) lies on a patch's r-th row.

    Also return which of them there are. Column tap v lies on one of STRIDE neighbouring columns.
    """
    padding: tl.constexpr = o.K // 2 * o.DILATION
    remainder = remainder_of(v * o.DILATION + (o.K * o.DILATION * o.STRIDE - padding), o.STRIDE)
    p = patch.index * (o.ROWS // o.STRIDE) + (r + padding - u * o.DILATION) // o.STRIDE
    shift = (remainder + padding - v * o.DILATION) // o.STRIDE
    q = patch.lanes + shift
    row_end = tl.where((p >= 0) & (p < patch.rows), o.columns, 0)  # a row outside has no columns
    end = tl.where(patch.index * o.ROWS + r < patch.height, patch.width, 0)
    return p, shift, (q >= 0) & (q < row_end) & (patch.lanes * o.STRIDE + remainder < end)


@triton.jit
def load_spatial_taps(spatial, patch, o):
    """Load the taps that lie on a patch, K * K for each of its rows, 0 for those that lie on no pixel of the row."""
    taps = ()
    for r in tl.static_range(o.ROWS):
        for u in tl.static_range(o.K):
            for v in tl.static_range(o.K):
                tap = tl.zeros(patch.lanes.shape, spatial.address.dtype.element_ty)
                if meet(r, u, o.K, o.STRIDE, o.DILATION):
                    p, shift, inside = spatial_filters_on(patch, r, u, v, o)
                    t = tl.cast(u * o.K + v, tl.int64)
                    place = spatial_place(spatial.address, spatial, p.to(tl.int64), tl.cast(shift, tl.int64), t)
                    tap = tl.load(place, inside, other=0)
                taps = taps + (tap,)
    return taps


@triton.jit
def store_spatial_sums(sums, grad_spatial, patch, o):
    """Store the sums over channels, as many as taps lie on a patch."""
    for r in tl.static_range(o.ROWS):
        for u in tl.static_range(o.K):
            for v in tl.static_range(o.K):
                if meet(r, u, o.K, o.STRIDE, o.DILATION):
                    p, shift, inside = spatial_filters_on(patch, r, u, v, o)
                    t = tl.cast(u * o.K + v, tl.int64)
                    place = spatial_place(grad_spatial.address, grad_spatial, p.to(tl.int64), patch.lanes + shift, t)
                    tl.store(place, sums[r * o.K * o.K + u * o.K + v].to(place.dtype.element_ty), inside)


@triton.jit
def store_packed_spatial_sums(packed, grad_spatial, columns, patch, o):
    """Store the sums over channels, which lie along channels; row tap u lies on one of ROWS = STRIDE rows."""
    for n in tl.static_range(packs(o.K, o.CHANNELS)):
        t = n * o.CHANNELS + tl.arange(0, o.CHANNELS)[None, :]
        u, v = t // o.K, t % o.K
        r = remainder_of(u * o.DILATION + (o.K * o.DILATION * o.STRIDE - o.K // 2 * o.DILATION), o.STRIDE)
        p, shift, inside = spatial_filters_on(patch, r, u, v, o)
        row = (p * o.SCALE + columns.row_phase).to(tl.int64)
        column = (patch.lanes + shift) * o.SCALE + columns.column_phase
        place = spatial_place(grad_spatial.address, grad_spatial, row, column, t.to(tl.int64))
        tl.store(place, packed[n].to(place.dtype.element_ty), inside & (t < o.K * o.K))
