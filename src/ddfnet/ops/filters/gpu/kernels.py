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
def spatial_filters_kernel(
    x, weight, bias, spatial, std, sums,
    channels, height, width, parts,
    x_b, x_c, x_h, x_w, weight_n, weight_c,
    spatial_b, spatial_g, spatial_t, spatial_h, spatial_w,
    SCALE: tl.constexpr, TAPS: tl.constexpr, HEADS: tl.constexpr, STRIDE: tl.constexpr,
    PREDICTS: tl.constexpr, POOLS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, HEAD_LANES: tl.constexpr, TAP_LANES: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """PIXELS pixels of one sample, all channels.

    Args:
        std: contiguous (B, G, P, Q), of the raw filters.
        sums: contiguous (B, parts, C): a program's sums over its pixels.
        PREDICTS, POOLS: whether the spatial filters and the sums are wanted.
        FLAT: rows of x follow each other without a gap.
    """
    tile, b = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    lanes = tl.arange(0, CHANNELS)
    if WIDE:
        tile, lanes = tile.to(tl.int64), lanes.to(tl.int64)
    n = tile * PIXELS + tl.arange(0, PIXELS)
    inside = n // width < height if WIDE else n < height * width
    i, j = n // width, n % width
    pixel = n * x_w if FLAT else i * x_h + j * x_w
    x += b * x_b
    m = tl.arange(0, HEAD_LANES * TAP_LANES)
    head, tap = m // TAP_LANES, m % TAP_LANES
    row = head * TAPS + tap
    is_row = (head < HEADS) & (tap < TAPS)
    raw = tl.zeros([PIXELS, HEAD_LANES * TAP_LANES], tl.float32)
    for start in range(0, channels, CHANNELS):
        c = start + lanes
        in_x = c < channels
        pixels = tl.load(x + (pixel[:, None] + c[None, :] * x_c), inside[:, None] & in_x[None, :], other=0)
        if PREDICTS:
            place = weight + row[None, :] * weight_n + c[:, None] * weight_c
            weights = tl.load(place, is_row[None, :] & in_x[:, None], other=0).to(pixels.dtype)
            raw = tl.dot(pixels, weights, raw, input_precision=PRECISION)
        if POOLS:
            total = tl.sum(pixels.to(tl.float32), axis=0)
            tl.store(sums + (b * parts + tile) * channels + c, total, in_x)
    if PREDICTS:
        raw += tl.load(bias + row, is_row, other=0).to(tl.float32)[None, :]
        unit, deviation = normalised(raw, HEAD_LANES, TAPS, TAP_LANES)
        p, q = (i // STRIDE).to(tl.int64), j // STRIDE
        rows, columns = tl.cdiv(height, STRIDE), tl.cdiv(width, STRIDE)
        heads = tl.arange(0, HEAD_LANES)[None, :, None].to(tl.int64)
        taps = tl.arange(0, TAP_LANES)[None, None, :].to(tl.int64)
        here = (inside & (i % STRIDE == 0) & (j % STRIDE == 0))[:, None, None] & (heads < HEADS)
        place = spatial + b * spatial_b + (p * spatial_h + q * spatial_w)[:, None, None]
        place += heads * spatial_g + taps * spatial_t
        tl.store(place, (unit * SCALE).to(spatial.dtype.element_ty), here & (taps < TAPS))
        place = std + ((b * HEADS + heads) * rows + p[:, None, None]) * columns + q[:, None, None]
        tl.store(place, deviation, here)


@triton.jit(do_not_specialize=["parts", "pixels"])
def squeeze_kernel(
    sums, weight, bias, pooled, hidden,
    channels, squeezed, parts, pixels, blocks, weight_n, weight_c,
    PARTS: tl.constexpr, CHANNELS: tl.constexpr, SQUEEZED: tl.constexpr,
):  # fmt: skip
    """SQUEEZED of one sample's channels between the two matrices, ReLU included; the first program writes `pooled` too.

    `sums` is contiguous (B, parts, C), `pooled` (B, C), `hidden` (B, squeezed); `pixels` are H * W.
    """
    block, b = tl.program_id(0) % blocks, (tl.program_id(0) // blocks).to(tl.int64)
    s = block * SQUEEZED + tl.arange(0, SQUEEZED)
    raw = tl.load(bias + s, s < squeezed, other=0).to(tl.float32)
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        in_x = c < channels
        total = tl.zeros([CHANNELS], tl.float32)
        for first in range(0, parts, PARTS):
            part = first + tl.arange(0, PARTS)[:, None]
            place = sums + (b * parts + part) * channels + c[None, :]
            total += tl.sum(tl.load(place, (part < parts) & in_x[None, :], other=0), axis=0)
        mean = (total / pixels).to(pooled.dtype.element_ty)
        tl.store(pooled + b * channels + c, mean, c < tl.where(block == 0, channels, 0))
        place = weight + s[:, None] * weight_n + c[None, :] * weight_c
        weights = tl.load(place, (s < squeezed)[:, None] & in_x[None, :], other=0)
        raw += tl.sum(weights.to(tl.float32) * mean.to(tl.float32)[None, :], axis=1)
    raw = tl.maximum(raw, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(hidden + b * squeezed + s, raw.to(hidden.dtype.element_ty), s < squeezed)


@triton.jit(do_not_specialize=["batch"])
def channel_filters_kernel(
    hidden, weight, bias, scale, channel, unit, std,
    batch, filters, squeezed, blocks, weight_n, weight_c,
    TAPS: tl.constexpr, BATCH: tl.constexpr, FILTERS: tl.constexpr, TAP_LANES: tl.constexpr, SQUEEZED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The channel filters of FILTERS channels in BATCH samples.

    `channel` and `unit`, normalised with and without `scale`, are contiguous (B, filters, K); `std` is (B, filters).
    """
    block, group = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    b = (group * BATCH + tl.arange(0, BATCH)).to(tl.int64)
    m = tl.arange(0, FILTERS * TAP_LANES)
    f, tap = block * FILTERS + m // TAP_LANES, m % TAP_LANES
    row = f * TAPS + tap
    is_row = (f < filters) & (tap < TAPS)
    raw = tl.zeros([BATCH, FILTERS * TAP_LANES], tl.float32)
    for start in range(0, squeezed, SQUEEZED):
        s = start + tl.arange(0, SQUEEZED)
        place = hidden + b[:, None] * squeezed + s[None, :]
        inputs = tl.load(place, (b < batch)[:, None] & (s < squeezed)[None, :], other=0)
        place = weight + row[None, :] * weight_n + s[:, None] * weight_c
        weights = tl.load(place, is_row[None, :] & (s < squeezed)[:, None], other=0).to(inputs.dtype)
        raw = tl.dot(inputs, weights, raw, input_precision=PRECISION)
    raw += tl.load(bias + row, is_row, other=0).to(tl.float32)[None, :]
    units, deviation = normalised(raw, FILTERS, TAPS, TAP_LANES)
    f = (block * FILTERS + tl.arange(0, FILTERS))[None, :, None]
    taps = tl.arange(0, TAP_LANES)[None, None, :]
    of_tap, of_filter = f * TAPS + taps, b[:, None, None] * filters + f
    is_tap = (f < filters) & (taps < TAPS)
    scales = tl.load(scale + of_tap, is_tap, other=0).to(tl.float32)
    here = (b < batch)[:, None, None] & is_tap
    tl.store(channel + of_filter * TAPS + taps, (units * scales).to(channel.dtype.element_ty), here)
    tl.store(unit + of_filter * TAPS + taps, units, here)
    tl.store(std + of_filter, deviation, (b < batch)[:, None, None] & (f < filters))


@triton.jit(do_not_specialize=["count", "height"])
def norm_backward_kernel(
    grad, unit, std, scale, grad_raw, grad_scale,
    count, filters, height, width,
    grad_b, grad_n, grad_t, grad_h, grad_w,
    unit_b, unit_n, unit_t, unit_h, unit_w,
    raw_b, raw_n, raw_t, raw_h, raw_w,
    SCALE: tl.constexpr, UNIT_SCALE: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From the gradient of BLOCK normalised filters to that of the raw ones, and of the scales.

    With y_t = scale_t * u_t, u_t = (raw_t - mean) / (std + eps) and h_t = scale_t * grad_t,

        grad_raw = e - mean(e),   e_t = h_t / (std + eps) - u_t * sum(h * u) / ((K - 1) * std)

    Args:
        grad, unit, grad_raw: (B, N, K, P, Q) by their strides; of `count` filters, K taps each.
        unit: u times UNIT_SCALE.
        std: contiguous (B, N, P, Q).
        scale: contiguous (N, K), or None for SCALE.
        grad_scale: contiguous (B, N, K) in float32, with `scale`; P = Q = 1 then.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    q, p = place % width, place // width % height
    n, b = place // width // height % filters, place // width // height // filters
    grad += b * grad_b + n * grad_n + p * grad_h + q * grad_w
    unit += b * unit_b + n * unit_n + p * unit_h + q * unit_w
    grad_raw += b * raw_b + n * raw_n + p * raw_h + q * raw_w
    deviation = tl.load(std + place, inside, other=1)
    inverse = tl.div_rn(1.0, deviation + EPS)
    units, terms = (), ()
    along = tl.zeros([BLOCK], tl.float32)
    for t in tl.static_range(TAPS):
        u = tl.load(unit + t * unit_t, inside, other=0).to(tl.float32) / UNIT_SCALE
        h = tl.load(grad + t * grad_t, inside, other=0).to(tl.float32)
        if scale is not None:
            tl.store(grad_scale + place * TAPS + t, h * u, inside)
            h *= tl.load(scale + n * TAPS + t, inside, other=0).to(tl.float32)
        else:
            h *= SCALE
        along += h * u
        units, terms = units + (u,), terms + (h,)
    along = tl.div_rn(along, (TAPS - 1) * deviation)
    mean = tl.zeros([BLOCK], tl.float32)
    for t in tl.static_range(TAPS):
        mean += terms[t] * inverse - units[t] * along
    mean /= TAPS
    for t in tl.static_range(TAPS):
        result = terms[t] * inverse - units[t] * along - mean
        tl.store(grad_raw + t * raw_t, result.to(grad_raw.dtype.element_ty), inside)
