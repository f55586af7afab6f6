"""GPU kernels of the filter prediction: three forward, and the derivative of the normalisation, Eq. 3.

Forward, x is read once. `spatial_filters_kernel` multiplies a tile of pixels with the 1x1 convolution's matrix, normalises
the taps while they are in registers and sums the tile's pixels for the pooling; `squeeze_kernel` adds up the tiles' sums, in
their order, and makes the first matrix product; `channel_filters_kernel` makes the second and normalises.

Each filter is normalised once, where it is made, and not by whoever loads its taps: for their mean and deviation every block
of channels would load all K taps once more, in the backward pass once for each of the k * k pixels that a filter reaches.
"""

# Triton compiles these functions from their syntax; they are not Python to a type checker.
# mypy: ignore-errors

import triton
import triton.language as tl

from ddfnet.ops import filter_norm

EPS = tl.constexpr(filter_norm.EPS)
EPSILON = tl.constexpr(2.0**-23)  # of float32
TINY = tl.constexpr(1.1754943508222875e-38)  # the least normal float32: clamps the variance as `filter_norm` does


@triton.jit
def normalised(raw, FILTERS: tl.constexpr, TAPS: tl.constexpr, TAP_LANES: tl.constexpr):
    """Eq. 3 with scale 1: (N, FILTERS * TAP_LANES) -> (N, FILTERS, TAP_LANES), and the deviations (N, FILTERS, 1).

    The lanes past a filter's TAPS come out as 0.
    """
    is_tap = (tl.arange(0, TAP_LANES) < TAPS)[None, None, :]
    taps = tl.where(is_tap, tl.reshape(raw, [raw.shape[0], FILTERS, TAP_LANES]), 0.0)
    mean = tl.sum(taps, axis=2, keep_dims=True) / TAPS
    centred = tl.where(is_tap, taps - mean, 0.0)
    variance = tl.sum(centred * centred, axis=2, keep_dims=True) / (TAPS - 1)
    # NaN stays NaN, in a variance as in a filter.
    std = tl.sqrt_rn(tl.maximum(variance, TINY, propagate_nan=tl.PropagateNan.ALL))
    least = TAPS * EPSILON * mean  # as `filter_norm`: equal taps
    std = tl.where(variance <= least * least, float("inf"), std)
    return centred * tl.div_rn(1.0, std + EPS), std


@triton.jit(do_not_specialize=["height", "parts"])
def spatial_filters_kernel(x, convolution, spatial, sums, height, parts, o):
    """Predict the filters of PIXELS pixels of one sample, and sum these pixels in each channel.

    Args:
        x: `Map`.
        convolution: `Linear`, (G * K, C); its addresses are None if only the sums are wanted.
        spatial: `NormalisedFilter`, times SCALE.
        sums: contiguous (B, parts, C), or None.
        height: of x.
        parts: programs of a sample.
        o: `SpatialOptions`.
    """
    tile, b = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    lanes = tl.arange(0, o.CHANNELS)
    if o.WIDE:
        tile, lanes = tile.to(tl.int64), lanes.to(tl.int64)
    n = tile * o.PIXELS + tl.arange(0, o.PIXELS)
    inside = n // o.width < height if o.WIDE else n < height * o.width
    i, j = n // o.width, n % o.width
    pixel = n * x.w if o.FLAT else i * x.h + j * x.w
    m = tl.arange(0, o.HEAD_LANES * o.TAP_LANES)
    head, tap = m // o.TAP_LANES, m % o.TAP_LANES
    row = head * o.TAPS + tap
    is_row = (head < o.HEADS) & (tap < o.TAPS)
    raw = tl.zeros([o.PIXELS, o.HEAD_LANES * o.TAP_LANES], tl.float32)
    for start in range(0, o.channels, o.CHANNELS):
        c = start + lanes
        in_x = c < o.channels
        place = x.address + b * x.b + (pixel[:, None] + c[None, :] * x.c)
        pixels = tl.load(place, inside[:, None] & in_x[None, :], other=0)
        if convolution.weight is not None:
            place = convolution.weight + row[None, :] * convolution.n + c[:, None] * convolution.c
            weights = tl.load(place, is_row[None, :] & in_x[:, None], other=0).to(pixels.dtype)
            raw = tl.dot(pixels, weights, raw, input_precision=o.PRECISION)
        if o.POOLS:
            total = tl.sum(pixels.to(tl.float32), axis=0)
            tl.store(sums + (b * parts + tile) * o.channels + c, total, in_x)
    if convolution.weight is not None:
        raw += tl.load(convolution.bias + row, is_row, other=0).to(tl.float32)[None, :]
        store_spatial_filters(raw, spatial, b, height, i, j, inside, o)


@triton.jit
def store_spatial_filters(raw, spatial, b, height, i, j, inside, o):
    """Normalise and store the filters of the pixels (i, j) on which filters are centred."""
    unit, deviation = normalised(raw, o.HEAD_LANES, o.TAPS, o.TAP_LANES)
    p, q = (i // o.STRIDE).to(tl.int64), j // o.STRIDE
    rows, columns = tl.cdiv(height, o.STRIDE), tl.cdiv(o.width, o.STRIDE)
    heads = tl.arange(0, o.HEAD_LANES)[None, :, None].to(tl.int64)
    taps = tl.arange(0, o.TAP_LANES)[None, None, :].to(tl.int64)
    here = (inside & (i % o.STRIDE == 0) & (j % o.STRIDE == 0))[:, None, None] & (heads < o.HEADS)
    place = spatial.address + b * spatial.b + (p * spatial.h + q * spatial.w)[:, None, None]
    place += heads * spatial.g + taps * spatial.t
    tl.store(place, (unit * o.SCALE).to(spatial.address.dtype.element_ty), here & (taps < o.TAPS))
    place = spatial.std + ((b * o.HEADS + heads) * rows + p[:, None, None]) * columns + q[:, None, None]
    tl.store(place, deviation, here)


@triton.jit(do_not_specialize=["parts", "pixels"])
def squeeze_kernel(sums, linear, pooled, hidden, parts, pixels, o):
    """Compute SQUEEZED of one sample's channels between the two matrices; the first program writes `pooled` too.

    Args:
        sums: contiguous (B, parts, C).
        linear: `Linear`, (S, C).
        pooled: contiguous (B, C).
        hidden: contiguous (B, S), after ReLU.
        pixels: H * W.
        o: `SqueezeOptions`.
    """
    block, b = tl.program_id(0) % o.blocks, (tl.program_id(0) // o.blocks).to(tl.int64)
    s = block * o.SQUEEZED + tl.arange(0, o.SQUEEZED)
    raw = tl.load(linear.bias + s, s < o.squeezed, other=0).to(tl.float32)
    for start in range(0, o.channels, o.CHANNELS):
        c = start + tl.arange(0, o.CHANNELS)
        in_x = c < o.channels
        total = tl.zeros([o.CHANNELS], tl.float32)
        for first in range(0, parts, o.PARTS):
            part = first + tl.arange(0, o.PARTS)[:, None]
            place = sums + (b * parts + part) * o.channels + c[None, :]
            total += tl.sum(tl.load(place, (part < parts) & in_x[None, :], other=0), axis=0)
        mean = (total / pixels).to(pooled.dtype.element_ty)
        tl.store(pooled + b * o.channels + c, mean, c < tl.where(block == 0, o.channels, 0))
        place = linear.weight + s[:, None] * linear.n + c[None, :] * linear.c
        weights = tl.load(place, (s < o.squeezed)[:, None] & in_x[None, :], other=0)
        raw += tl.sum(weights.to(tl.float32) * mean.to(tl.float32)[None, :], axis=1)
    raw = tl.maximum(raw, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(hidden + b * o.squeezed + s, raw.to(hidden.dtype.element_ty), s < o.squeezed)


@triton.jit(do_not_specialize=["batch"])
def channel_filters_kernel(hidden, linear, scale, channel, unit, std, batch, o):
    """Predict the channel filters of FILTERS channels in BATCH samples.

    Args:
        hidden: contiguous (B, S).
        linear: `Linear`, (filters * K, S).
        scale: contiguous (filters * K,).
        channel, unit: contiguous (B, filters, K), normalised with and without `scale`.
        std: contiguous (B, filters), of the raw filters.
        batch: B.
        o: `ChannelOptions`.
    """
    block, group = tl.program_id(0) % o.blocks, tl.program_id(0) // o.blocks
    b = (group * o.BATCH + tl.arange(0, o.BATCH)).to(tl.int64)
    m = tl.arange(0, o.FILTERS * o.TAP_LANES)
    f, tap = block * o.FILTERS + m // o.TAP_LANES, m % o.TAP_LANES
    row = f * o.TAPS + tap
    is_row = (f < o.filters) & (tap < o.TAPS)
    raw = tl.zeros([o.BATCH, o.FILTERS * o.TAP_LANES], tl.float32)
    for start in range(0, o.squeezed, o.SQUEEZED):
        s = start + tl.arange(0, o.SQUEEZED)
        place = hidden + b[:, None] * o.squeezed + s[None, :]
        inputs = tl.load(place, (b < batch)[:, None] & (s < o.squeezed)[None, :], other=0)
        place = linear.weight + row[None, :] * linear.n + s[:, None] * linear.c
        weights = tl.load(place, is_row[None, :] & (s < o.squeezed)[:, None], other=0).to(inputs.dtype)
        raw = tl.dot(inputs, weights, raw, input_precision=o.PRECISION)
    raw += tl.load(linear.bias + row, is_row, other=0).to(tl.float32)[None, :]
    units, deviation = normalised(raw, o.FILTERS, o.TAPS, o.TAP_LANES)
    f = (block * o.FILTERS + tl.arange(0, o.FILTERS))[None, :, None]
    taps = tl.arange(0, o.TAP_LANES)[None, None, :]
    of_tap, of_filter = f * o.TAPS + taps, b[:, None, None] * o.filters + f
    is_tap = (f < o.filters) & (taps < o.TAPS)
    scales = tl.load(scale + of_tap, is_tap, other=0).to(tl.float32)
    here = (b < batch)[:, None, None] & is_tap
    tl.store(channel + of_filter * o.TAPS + taps, (units * scales).to(channel.dtype.element_ty), here)
    tl.store(unit + of_filter * o.TAPS + taps, units, here)
    tl.store(std + of_filter, deviation, (b < batch)[:, None, None] & (f < o.filters))


@triton.jit(do_not_specialize=["count", "height"])
def norm_backward_kernel(grad, unit, scale, grad_raw, grad_scale, count, height, o):
    """Compute the gradient of the raw filters, and of the scales, from that of BLOCK normalised filters.

    With y_t = scale_t * u_t, u_t = (raw_t - mean) / (std + eps) and h_t = scale_t * grad_t,

        grad_raw = e - mean(e),   e_t = h_t / (std + eps) - u_t * sum(h * u) / ((K - 1) * std)

    Args:
        grad, grad_raw: `SpatialFilter`, (B, N, K, P, Q).
        unit: `NormalisedFilter`, (B, N, K, P, Q): u times UNIT_SCALE.
        scale: contiguous (N, K), or None for SCALE.
        grad_scale: contiguous (B, N, K) in float32, with `scale`; P = Q = 1 then.
        count: of filters, B * N * P * Q.
        height: P.
        o: `NormOptions`.
    """
    place = tl.program_id(0).to(tl.int64) * o.BLOCK + tl.arange(0, o.BLOCK)
    inside = place < count
    q, p = place % o.width, place // o.width % height
    n, b = place // o.width // height % o.filters, place // o.width // height // o.filters
    grad_at = grad.address + b * grad.b + n * grad.g + p * grad.h + q * grad.w
    unit_at = unit.address + b * unit.b + n * unit.g + p * unit.h + q * unit.w
    raw_at = grad_raw.address + b * grad_raw.b + n * grad_raw.g + p * grad_raw.h + q * grad_raw.w
    deviation = tl.load(unit.std + place, inside, other=1)
    inverse = tl.div_rn(1.0, deviation + EPS)
    units, terms = (), ()
    along = tl.zeros([o.BLOCK], tl.float32)
    for t in tl.static_range(o.TAPS):
        u = tl.load(unit_at + t * unit.t, inside, other=0).to(tl.float32) / o.UNIT_SCALE
        h = tl.load(grad_at + t * grad.t, inside, other=0).to(tl.float32)
        if scale is not None:
            tl.store(grad_scale + place * o.TAPS + t, h * u, inside)
            h *= tl.load(scale + n * o.TAPS + t, inside, other=0).to(tl.float32)
        else:
            h *= o.SCALE
        along += h * u
        units, terms = units + (u,), terms + (h,)
    along = tl.div_rn(along, (o.TAPS - 1) * deviation)
    mean = tl.zeros([o.BLOCK], tl.float32)
    for t in tl.static_range(o.TAPS):
        mean += terms[t] * inverse - units[t] * along
    mean /= o.TAPS
    for t in tl.static_range(o.TAPS):
        result = terms[t] * inverse - units[t] * along - mean
        tl.store(raw_at + t * grad_raw.t, result.to(grad_raw.address.dtype.element_ty), inside)
