"""The filter prediction of a DDF layer as CPU kernels: what `backend.py` calls.

`make_spatial` reads x once: a work item is a block of grid rows of one sample, whose spatial filters it predicts and
normalises and whose channels it adds up for the average pooling. `make_channel` then makes the channel filters of a few
samples, lane by lane: a work item is a block of channels of them.
"""

# numba types these functions from their calls.
# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

from numba import njit

from ddfnet.ops.cpu.compiling import carray, compile_kernel
from ddfnet.ops.cpu.intrinsics import add_lanes, copy_rows, fill_zero, read, take_next, transpose, write
from ddfnet.ops.cpu.vectors import compute_code, element_size
from ddfnet.ops.filters.cpu.loops import (
    dot_taps,
    normalise_taps,
    pool_rows,
    sum_rows,
    sum_taps,
    take_every,
)

SAMPLES = 16  # whose channel filters are made at once
SQUEEZED = 4  # of the squeezed channels, likewise


class FilterCall(NamedTuple):
    """As `ddfnet.ops.ddf.cpu.call.Call`: sizes in elements, strides in bytes, addresses."""

    batch: int
    channels: int
    height: int
    width: int
    rows: int  # of spatial filters
    columns: int
    heads: int
    taps: int  # of a filter, K
    stride: int
    squeezed: int
    block: int  # rows of filters of a work item of the first kernel
    blocks: int  # of a sample
    items: int
    channel_block: int  # channels of a work item of the second
    channel_blocks: int
    channel_items: int
    x: int
    x_b: int
    x_c: int
    x_h: int
    x_w: int
    spatial: int  # the output (B, G*K, P, Q)
    spatial_b: int
    spatial_t: int
    spatial_h: int
    spatial_w: int
    channel: int  # the output (B, C, K), contiguous as those that follow
    pooled_out: int  # (B, C)
    hidden_out: int  # (B, S)
    channel_unit: int  # (B, C, K) of the computing type
    channel_std: int  # (B, C), likewise
    spatial_std: int  # (B, G, P, Q), likewise
    weight: int  # (G*K, C), of the computing type as all parameters
    bias: int
    scale: int  # (K,)
    squeeze_weight: int  # (S, C)
    squeeze_bias: int
    channel_weight: int  # (C*K, S)
    channel_bias: int
    channel_scale: int
    partial: int  # per work item, the sums of its channels
    partial_bytes: int
    scratch: int  # address of the first thread's
    scratch_bytes: int  # of a thread
    raw: int  # offsets into it: planes of taps
    raw_pitch: int
    filters: int  # the like, of channel filters, scaled
    stds: int
    staging: int  # NCHW: the pixels that have a filter
    sums: int  # (samples, C); in the first kernel, of a row of pixels
    pooled: int  # (C, samples)
    hidden: int  # (S, samples)
    threads_begun: int  # addresses of numbers that threads count up; 0 at the start
    items_begun: int
    channel_threads_begun: int
    channel_items_begun: int


@njit(inline="always")
def _pool(code, computed, size, planar, p, x, first, last, sums):
    """Adds up rows `first` to `last` of a sample, a number a channel."""
    if planar:
        for c in range(p.channels):
            start = x + c * p.x_c + first * p.x_h
            if p.x_h == p.width * p.x_w:
                total = sum_rows(code, start, 0, 1, (last - first) * p.width)
            else:
                total = sum_rows(code, start, p.x_h, last - first, p.width)
            write(computed, sums + c * size, total)
    else:
        fill_zero(sums, p.channels * size)
        for i in range(first, last):
            pool_rows(code, x + i * p.x_h, p.x_w, p.width, sums, p.channels)


@njit(inline="always")
def _predict_planar(code, group, element, size, plain, p, x, row, rows, staging, raw):
    """Raw spatial filters of `rows` rows of pixels, whose runs in x are side by side where that are several."""
    source, pitch, columns = x + row * p.stride * p.x_h, p.x_c, rows * p.columns
    weight_pitch = p.channels * size
    if not plain:
        for c in range(p.channels):
            for i in range(rows):
                place = staging + (c * columns + i * p.columns) * element
                take_every(code, source + c * p.x_c + i * p.stride * p.x_h, p.stride * p.x_w, place, p.columns)
        source, pitch = staging, columns * element
    for t in range(0, p.heads * p.taps, group):
        sum_taps(
            code, group, False, source, pitch, p.channels, p.weight + t * weight_pitch, weight_pitch, p.bias + t * size, 1,
            raw + t * p.raw_pitch, p.raw_pitch, columns,
        )  # fmt: skip


def make_spatial(code: int, group: int, has_spatial: bool, pools: bool, planar: bool, plain: bool, source: int) -> Any:
    """Spatial filters, and the sums over each work item's pixels.

    Args:
        group: taps that are predicted together, a divisor of K.
        pools: the sums are asked for.
        planar: x is NCHW, its pixels side by side; else channels_last.
        plain: the stride is 1, so each pixel has a filter.
        source: names the kernels' source code in numba's cache.
    """
    computed, element = compute_code(code), element_size(code)
    size = element_size(computed)
    fused = has_spatial and pools and plain and not planar

    def spatial(call):
        _ = source
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
        raw, stds, staging = scratch + p.raw, scratch + p.stds, scratch + p.staging
        row_sums = scratch + p.sums  # of a row of pixels: the fewer numbers a sum has, the less it loses
        channels, pitch, filters = p.channels, p.raw_pitch, p.heads * p.taps
        weight_pitch = channels * size
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            b = item // p.blocks
            first = item % p.blocks * p.block
            last = min(first + p.block, p.rows)
            sums = p.partial + item * p.partial_bytes
            x = p.x + b * p.x_b
            if fused:
                fill_zero(sums, channels * size)
            elif pools:
                _pool(code, computed, size, planar, p, x, first * p.stride, min(last * p.stride, p.height), sums)
            if has_spatial:
                run = last - first if planar and (not plain or p.x_h == p.width * p.x_w) else 1
                for row in range(first, last, run):
                    if planar:
                        _predict_planar(code, group, element, size, plain, p, x, row, run, staging, raw)
                    else:
                        if fused:
                            fill_zero(row_sums, channels * size)
                        for column in range(p.columns):
                            pixel = x + row * p.stride * p.x_h + column * p.stride * p.x_w
                            own = raw + column * size
                            dot_taps(
                                code,
                                group,
                                fused,
                                pixel,
                                p.weight,
                                weight_pitch,
                                p.bias,
                                own,
                                pitch,
                                row_sums,
                                channels,
                            )
                            for t in range(group, filters, group):
                                dot_taps(
                                    code, group, False, pixel, p.weight + t * weight_pitch, weight_pitch,
                                    p.bias + t * size, own + t * pitch, pitch, row_sums, channels,
                                )  # fmt: skip
                        if fused:
                            add_lanes(computed, row_sums, sums, channels)
                    count = run * p.columns
                    for head in range(p.heads):
                        own = raw + head * p.taps * pitch
                        normalise_taps(computed, p.taps, own, pitch, p.scale, own, stds, count)
                        place = (((b * p.heads + head) * p.rows) + row) * p.columns * size
                        copy_rows(computed, computed, stds, 0, p.spatial_std + place, 0, 1, count)
                    out = p.spatial + b * p.spatial_b + row * p.spatial_h
                    if planar:
                        copy_rows(computed, code, raw, pitch, out, p.spatial_t, filters, count)
                    else:
                        transpose(computed, code, raw, pitch, out, p.spatial_w, filters, count)

    return compile_kernel(spatial, FilterCall)


def make_channel(code: int, group: int, source: int) -> Any:
    """Channel filters, from the sums that `make_spatial` leaves.

    Args:
        group, source: as in `make_spatial`.
    """
    computed, element = compute_code(code), element_size(code)
    size = element_size(computed)
    pitch = SAMPLES * size

    def channel(call):
        _ = source
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.channel_threads_begun) * p.scratch_bytes
        sums, pooled, hidden, raw = scratch + p.sums, scratch + p.pooled, scratch + p.hidden, scratch + p.raw
        stds, filters = scratch + p.stds, scratch + p.filters
        channels, taps, squeezed = p.channels, p.taps, p.squeezed
        staged = -1
        samples = 0
        for _ in range(p.channel_items):
            item = take_next(p.channel_items_begun)
            if item >= p.channel_items:
                break
            first = item // p.channel_blocks * SAMPLES
            if first != staged:
                staged = first
                samples = min(SAMPLES, p.batch - first)
                for sample in range(samples):
                    own = sums + sample * channels * size
                    fill_zero(own, channels * size)
                    for block in range(p.blocks):
                        part = p.partial + ((first + sample) * p.blocks + block) * p.partial_bytes
                        add_lanes(computed, part, own, channels)
                transpose(computed, computed, sums, channels * size, pooled, pitch, samples, channels)
                pixels = p.height * p.width
                whole = squeezed // SQUEEZED * SQUEEZED
                for s in range(0, whole, SQUEEZED):
                    sum_taps(
                        computed, SQUEEZED, True, pooled, pitch, channels, p.squeeze_weight + s * channels * size,
                        channels * size, p.squeeze_bias + s * size, pixels, hidden + s * pitch, pitch, samples,
                    )  # fmt: skip
                for s in range(whole, squeezed):
                    sum_taps(
                        computed, 1, True, pooled, pitch, channels, p.squeeze_weight + s * channels * size,
                        channels * size, p.squeeze_bias + s * size, pixels, hidden + s * pitch, pitch, samples,
                    )  # fmt: skip
                if item % p.channel_blocks == 0:  # what one thread of those that stage these samples keeps
                    for sample in range(samples):
                        for c in range(channels):
                            mean = read(computed, sums + (sample * channels + c) * size) / pixels
                            write(code, p.pooled_out + ((first + sample) * channels + c) * element, mean)
                    out = p.hidden_out + first * squeezed * element
                    transpose(computed, code, hidden, pitch, out, squeezed * element, squeezed, samples)
            begin = item % p.channel_blocks * p.channel_block
            count = min(p.channel_block, channels - begin)
            for c in range(count):
                for t in range(c * taps, (c + 1) * taps, group):
                    row = begin * taps + t
                    sum_taps(
                        computed, group, False, hidden, pitch, squeezed, p.channel_weight + row * squeezed * size,
                        squeezed * size, p.channel_bias + row * size, 1, raw + t * pitch, pitch, samples,
                    )  # fmt: skip
                own = c * taps * pitch
                scales = p.channel_scale + (begin + c) * taps * size
                normalise_taps(computed, taps, raw + own, pitch, scales, filters + own, stds + c * pitch, samples)
            place, step = first * channels + begin, channels * taps
            out = p.channel + place * taps * element
            transpose(computed, code, filters, pitch, out, step * element, count * taps, samples)
            out = p.channel_unit + place * taps * size
            transpose(computed, computed, raw, pitch, out, step * size, count * taps, samples)
            transpose(computed, computed, stds, pitch, p.channel_std + place * size, channels * size, count, samples)

    return compile_kernel(channel, FilterCall)
