"""CPU kernels for channels_last: lanes are the channels of a head, so a pixel's spatial filter is K scalars.

A work item is a block of grid rows of one sample. Of each pixel, the taps that lie inside the image are listed with the
address of what they read; borders, stride, dilation and upsampling differ in the list alone. The channel filters are
transposed once per sample to (phases, K, C), so that they too are vectors over channels.
"""

from typing import Any

from numba import cfunc, njit

from ddfnet.ops.ddf.numba_call import SIGNATURE, carray
from ddfnet.ops.ddf.numba_simd import (
    compute_code,
    fill_zero,
    filter_gradients,
    read,
    weighted_sum,
    write,
    write_address,
)


@njit(inline="always")
def _stage_channel_filter(code, computed, size, p, b, out):  # type: ignore[no-untyped-def]
    """The channel filters of sample b as (phases, K, C) of the computing type."""
    k = p.kernel_size
    channels = p.channels
    step = p.channel_c
    for phase in range(p.phases):
        for u in range(k):
            for v in range(k):
                source = p.channel + b * p.channel_b + phase * p.channel_p + u * p.channel_u + v * p.channel_v
                place = out + (phase * k * k + u * k + v) * channels * size
                for c in range(channels):
                    write(computed, place + c * size, read(code, source + c * step))


def make_forward(code: int, combine: int, has_channel: bool, has_spatial: bool, source: int) -> Any:
    """y of Eq. 2 and of DDF-Up. `source` names the kernels' source code in numba's cache."""
    computed = compute_code(code)
    size = 8 if computed == code and computed else 4

    def forward(call, scratch, start, stop):  # type: ignore[no-untyped-def]
        _ = source
        p = carray(call, 1)[0]
        k, r, stride, dilation = p.kernel_size, p.scale, p.stride, p.dilation
        height, width = p.height, p.width
        taps = k * k
        padding = k // 2 * dilation
        per_head = p.channels // p.heads
        sources, scalars, vectors = scratch + p.sources, scratch + p.scalars, scratch + p.vectors
        filters = scratch + p.filters
        staged = -1
        for item in range(start, stop):
            b = item // p.blocks
            first = item % p.blocks * p.block
            if has_channel and b != staged:
                _stage_channel_filter(code, computed, size, p, b, filters)
                staged = b
            for row in range(first * r, min(first + p.block, p.rows) * r):
                for column in range(p.columns * r):
                    phase = row % r * r + column % r if p.phases > 1 else 0
                    top = row // r * stride - padding
                    left = column // r * stride - padding
                    for head in range(p.heads):
                        n = 0
                        spatial = (
                            p.spatial + b * p.spatial_b + head * p.spatial_g + row * p.spatial_h + column * p.spatial_w
                        )
                        for u in range(k):
                            i = top + u * dilation
                            if 0 <= i < height:
                                for v in range(k):
                                    j = left + v * dilation
                                    if 0 <= j < width:
                                        t = u * k + v
                                        write_address(sources + n * 8, p.x + b * p.x_b + i * p.x_h + j * p.x_w)
                                        if has_channel:
                                            write_address(
                                                vectors + n * 8, filters + (phase * taps + t) * p.channels * size
                                            )
                                        if has_spatial:
                                            write(computed, scalars + n * size, read(code, spatial + t * p.spatial_t))
                                        n += 1
                        c = head * per_head
                        out = p.y + b * p.y_b + row * p.y_h + column * p.y_w + c * p.y_c
                        weighted_sum(
                            code,
                            code,
                            combine,
                            has_spatial,
                            has_channel,
                            n,
                            sources,
                            scalars,
                            vectors,
                            c * p.x_c,
                            c * size,
                            out,
                            per_head,
                        )

    return cfunc(SIGNATURE, cache=True)(forward)


def make_backward(
    code: int,
    combine: int,
    has_channel: bool,
    has_spatial: bool,
    needs_x: bool,
    needs_channel: bool,
    needs_spatial: bool,
    chunk: int,
    source: int,
) -> Any:
    """The gradients asked for; that of the channel filter in part, one sum per work item."""
    computed = compute_code(code)
    size = 8 if computed == code and computed else 4

    def backward(call, scratch, start, stop):  # type: ignore[no-untyped-def]
        _ = source
        p = carray(call, 1)[0]
        k, r, stride, dilation = p.kernel_size, p.scale, p.stride, p.dilation
        height, width, channels = p.height, p.width, p.channels
        taps = k * k
        padding = k // 2 * dilation
        per_head = channels // p.heads
        sources, scalars, vectors, sums = (
            scratch + p.sources,
            scratch + p.scalars,
            scratch + p.vectors,
            scratch + p.sums,
        )
        filters, zeros = scratch + p.filters, scratch + p.planes
        pitch = channels * size
        staged = -1
        fill_zero(zeros, channels * size)
        for item in range(start, stop):
            b = item // p.blocks
            first = item % p.blocks * p.block
            last = min(first + p.block, p.rows)
            if has_channel and b != staged:
                _stage_channel_filter(code, computed, size, p, b, filters)
                staged = b
            if needs_channel:
                partial = p.partial + item * p.phases * taps * pitch
                fill_zero(partial, p.phases * taps * pitch)
            if needs_channel or needs_spatial:
                for row in range(first * r, last * r):
                    for column in range(p.columns * r):
                        phase = row % r * r + column % r if p.phases > 1 else 0
                        top = row // r * stride - padding
                        left = column // r * stride - padding
                        for u in range(k):
                            i = top + u * dilation
                            for v in range(k):
                                j = left + v * dilation
                                t = u * k + v
                                inside = 0 <= i < height and 0 <= j < width
                                address = p.x + b * p.x_b + i * p.x_h + j * p.x_w
                                write_address(sources + t * 8, address if inside else zeros)
                                write_address(vectors + t * 8, filters + (phase * taps + t) * pitch)
                        for head in range(p.heads):
                            c = head * per_head
                            if has_spatial:
                                spatial = (
                                    p.spatial
                                    + b * p.spatial_b
                                    + head * p.spatial_g
                                    + row * p.spatial_h
                                    + column * p.spatial_w
                                )
                                for t in range(taps):
                                    write(computed, scalars + t * size, read(code, spatial + t * p.spatial_t))
                            grad = p.y + b * p.y_b + row * p.y_h + column * p.y_w + c * p.y_c
                            for t in range(0, taps, chunk):
                                place = partial + (phase * taps + t) * pitch + c * size if needs_channel else 0
                                filter_gradients(
                                    code,
                                    combine,
                                    has_spatial,
                                    has_channel,
                                    needs_spatial,
                                    needs_channel,
                                    chunk,
                                    grad,
                                    sources + t * 8,
                                    scalars + t * size,
                                    vectors + t * 8,
                                    c * p.x_c,
                                    c * size,
                                    sums + t * size,
                                    place,
                                    pitch,
                                    per_head,
                                )
                            if needs_spatial:
                                out = (
                                    p.grad_spatial
                                    + b * p.grad_spatial_b
                                    + head * p.grad_spatial_g
                                    + row * p.grad_spatial_h
                                    + column * p.grad_spatial_w
                                )
                                for t in range(taps):
                                    write(code, out + t * p.grad_spatial_t, read(computed, sums + t * size))
            if needs_x:
                for i in range(first * stride, min(last * stride, height)):
                    for j in range(width):
                        for head in range(p.heads):
                            n = 0
                            for u in range(k):
                                row = i + padding - u * dilation
                                if row < 0 or row % stride != 0 or row // stride >= p.rows:
                                    continue
                                for v in range(k):
                                    column = j + padding - v * dilation
                                    if column < 0 or column % stride != 0 or column // stride >= p.columns:
                                        continue
                                    t = u * k + v
                                    for phase in range(r * r):
                                        y_row = row // stride * r + phase // r
                                        y_column = column // stride * r + phase % r
                                        write_address(
                                            sources + n * 8, p.y + b * p.y_b + y_row * p.y_h + y_column * p.y_w
                                        )
                                        if has_channel:
                                            own = phase if p.phases > 1 else 0
                                            write_address(vectors + n * 8, filters + (own * taps + t) * pitch)
                                        if has_spatial:
                                            spatial = (
                                                p.spatial
                                                + b * p.spatial_b
                                                + head * p.spatial_g
                                                + y_row * p.spatial_h
                                                + y_column * p.spatial_w
                                            )
                                            write(computed, scalars + n * size, read(code, spatial + t * p.spatial_t))
                                        n += 1
                            c = head * per_head
                            out = p.grad_x + b * p.grad_x_b + i * p.grad_x_h + j * p.grad_x_w + c * p.grad_x_c
                            weighted_sum(
                                code,
                                code,
                                combine,
                                has_spatial,
                                has_channel,
                                n,
                                sources,
                                scalars,
                                vectors,
                                c * p.y_c,
                                c * size,
                                out,
                                per_head,
                            )

    return cfunc(SIGNATURE, cache=True)(backward)


def make_reduce(code: int, source: int) -> Any:
    """grad_channel_filter of samples start to stop from the sums (blocks, phases, K, C) of their work items."""
    computed = compute_code(code)
    size = 8 if computed == code and computed else 4

    def reduce(call, scratch, start, stop):  # type: ignore[no-untyped-def]
        _ = source
        p = carray(call, 1)[0]
        k = p.kernel_size
        channels = p.channels
        item = p.phases * k * k * channels * size
        for b in range(start, stop):
            for phase in range(p.phases):
                for u in range(k):
                    for v in range(k):
                        row = ((phase * k + u) * k + v) * channels * size
                        first = p.partial + b * p.blocks * item + row
                        out = (
                            p.grad_channel
                            + b * p.grad_channel_b
                            + phase * p.grad_channel_p
                            + u * p.grad_channel_u
                            + v * p.grad_channel_v
                        )
                        for c in range(channels):
                            total: Any = read(computed, first + c * size)
                            for block in range(1, p.blocks):
                                total += read(computed, first + block * item + c * size)
                            write(code, out + c * p.grad_channel_c, total)

    return cfunc(SIGNATURE, cache=True)(reduce)
