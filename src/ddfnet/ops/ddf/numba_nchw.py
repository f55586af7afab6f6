"""CPU kernels for NCHW, and for any other strides: lanes are pixels, so a channel's filter is K scalars.

A work item is a block of grid rows of one sample. What it reads is first staged in scratch that stays in cache, as
numbers of the computing type: the block's spatial filters once for all channels of a head, then of each channel the
rows of x (or of the gradient) with zeros around. Staged rows follow one another `pitch` lanes apart, so that a tap is
one offset for all lanes of the block, and the zeros right of one row are those left of the next. Strided inputs are
staged as s*s planes, upsampled outputs as r*r planes, one for each phase; then every step in a plane is by one lane.
"""

from typing import Any

from numba import cfunc, njit

from ddfnet.ops.ddf.numba_call import SIGNATURE, carray
from ddfnet.ops.ddf.numba_simd import (
    compute_code,
    copy_lanes,
    fill_zero,
    filter_gradients,
    read,
    weighted_sum,
    write,
    write_address,
)


@njit(inline="always")
def _stage(code, computed, size, element, source, step, out, count):  # type: ignore[no-untyped-def]
    """`count` elements that lie `step` bytes apart as lanes of the computing type."""
    if step == element:
        copy_lanes(code, computed, source, out, count)
    else:
        for n in range(count):
            write(computed, out + n * size, read(code, source + n * step))


@njit(inline="always")
def _unstage(code, computed, size, element, source, out, step, count):  # type: ignore[no-untyped-def]
    """The reverse of `_stage`."""
    if step == element:
        copy_lanes(computed, code, source, out, count)
    else:
        for n in range(count):
            write(code, out + n * step, read(computed, source + n * size))


@njit(inline="always")
def _stage_x(code, computed, size, element, p, b, c, first, rows, planes, plane):  # type: ignore[no-untyped-def]
    """Rows of x that the block's taps touch, one plane for each phase of the stride, zeros outside the image."""
    stride, dilation = p.stride, p.dilation
    padding = p.kernel_size // 2 * dilation
    reach = (p.kernel_size - 1) * dilation
    for phase in range(min(stride, reach + 1)):
        for row in range(rows + reach // stride):
            i = (first + row) * stride + phase - padding
            for column_phase in range(min(stride, reach + 1)):
                out = planes + ((phase * stride + column_phase) * plane + row * p.pitch) * size
                left = max(0, -((column_phase - padding) // stride))  # the first column inside the image
                j = left * stride + column_phase - padding
                count = min((p.width - 1 - j) // stride + 1, p.pitch - left)
                if i < 0 or i >= p.height:
                    fill_zero(out, p.pitch * size)
                elif count > 0:
                    source = p.x + b * p.x_b + c * p.x_c + i * p.x_h + j * p.x_w
                    _stage(code, computed, size, element, source, p.x_w * stride, out + left * size, count)


def make_forward(code: int, combine: int, has_channel: bool, has_spatial: bool, source: int) -> Any:
    """y of Eq. 2 and of DDF-Up. `source` names the kernels' source code in numba's cache."""
    computed = compute_code(code)
    element = {0: 4, 1: 8}.get(code, 2)
    size = 8 if element == 8 else 4

    def forward(call, scratch, start, stop):  # type: ignore[no-untyped-def]
        _ = source
        p = carray(call, 1)[0]
        k, r, stride, dilation = p.kernel_size, p.scale, p.stride, p.dilation
        pitch, lanes, plane = p.pitch, p.lanes, p.plane
        taps = k * k
        per_head = p.channels // p.heads
        sources, scalars, vectors = scratch + p.sources, scratch + p.scalars, scratch + p.vectors
        filters, planes, result = scratch + p.filters, scratch + p.planes, scratch + p.result
        fill_zero(planes, stride * stride * plane * size)
        for t in range(taps):
            row, column = t // k * dilation, t % k * dilation
            own = row % stride * stride + column % stride
            at = own * plane + row // stride * pitch + column // stride
            write_address(sources + t * 8, planes + at * size)
            write_address(vectors + t * 8, filters + t * lanes * size)
        for item in range(start, stop):
            b = item // p.blocks
            first = item % p.blocks * p.block
            rows = min(p.block, p.rows - first)
            for head in range(p.heads):
                if has_spatial:
                    for phase in range(r * r):
                        for t in range(taps):
                            base = (
                                p.spatial
                                + b * p.spatial_b
                                + head * p.spatial_g
                                + t * p.spatial_t
                                + phase % r * p.spatial_w
                            )
                            for row in range(rows):
                                out = filters + ((phase * taps + t) * lanes + row * pitch) * size
                                from_row = base + ((first + row) * r + phase // r) * p.spatial_h
                                _stage(code, computed, size, element, from_row, p.spatial_w * r, out, p.columns)
                for c in range(head * per_head, (head + 1) * per_head):
                    _stage_x(code, computed, size, element, p, b, c, first, rows, planes, plane)
                    for phase in range(r * r):
                        if has_channel and (phase == 0 or p.phases > 1):
                            base = p.channel + b * p.channel_b + phase * p.channel_p + c * p.channel_c
                            for t in range(taps):
                                write(
                                    computed,
                                    scalars + t * size,
                                    read(code, base + t // k * p.channel_u + t % k * p.channel_v),
                                )
                        weighted_sum(
                            computed,
                            computed,
                            combine,
                            has_channel,
                            has_spatial,
                            taps,
                            sources,
                            scalars,
                            vectors,
                            0,
                            phase * taps * lanes * size,
                            result,
                            rows * pitch,
                        )
                        for row in range(rows):
                            out = (
                                p.y
                                + b * p.y_b
                                + c * p.y_c
                                + ((first + row) * r + phase // r) * p.y_h
                                + phase % r * p.y_w
                            )
                            _unstage(
                                code, computed, size, element, result + row * pitch * size, out, p.y_w * r, p.columns
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
    element = {0: 4, 1: 8}.get(code, 2)
    size = 8 if element == 8 else 4
    needs_filters = needs_channel or needs_spatial
    stages_filters = has_spatial and needs_channel and has_channel and combine == 0

    def backward(call, scratch, start, stop):  # type: ignore[no-untyped-def]
        _ = source
        p = carray(call, 1)[0]
        k, r, stride, dilation = p.kernel_size, p.scale, p.stride, p.dilation
        pitch, lanes, plane, grad_plane = p.pitch, p.lanes, p.plane, p.grad_plane
        taps = k * k
        channels = p.channels
        per_head = channels // p.heads
        padding = k // 2 * dilation
        halo = (padding + stride - 1) // stride
        sources, scalars, vectors, sums = (
            scratch + p.sources,
            scratch + p.scalars,
            scratch + p.vectors,
            scratch + p.sums,
        )
        x_sources, grad_scalars, grad_vectors = (
            scratch + p.x_sources,
            scratch + p.grad_scalars,
            scratch + p.grad_vectors,
        )
        filters, shifted, grad_filters = scratch + p.filters, scratch + p.shifted, scratch + p.grad_filters
        planes, grad_planes, result = scratch + p.planes, scratch + p.grad_planes, scratch + p.result
        if needs_filters:
            fill_zero(planes, stride * stride * plane * size)
            if has_spatial:
                fill_zero(filters, r * r * taps * lanes * size)
        fill_zero(grad_planes, r * r * grad_plane * size)
        for t in range(taps):
            row, column = t // k * dilation, t % k * dilation
            own = row % stride * stride + column % stride
            at = own * plane + row // stride * pitch + column // stride
            write_address(x_sources + t * 8, planes + at * size)
            write_address(vectors + t * 8, filters + t * lanes * size)
        for item in range(start, stop):
            b = item // p.blocks
            first = item % p.blocks * p.block
            rows = min(p.block, p.rows - first)
            for head in range(p.heads):
                if has_spatial:
                    for phase in range(r * r):
                        for t in range(taps):
                            base = (
                                p.spatial
                                + b * p.spatial_b
                                + head * p.spatial_g
                                + t * p.spatial_t
                                + phase // r * p.spatial_h
                                + phase % r * p.spatial_w
                            )
                            at = (phase * taps + t) * lanes
                            if stages_filters:
                                for row in range(rows):
                                    from_row = base + (first + row) * r * p.spatial_h
                                    _stage(
                                        code,
                                        computed,
                                        size,
                                        element,
                                        from_row,
                                        p.spatial_w * r,
                                        filters + (at + row * pitch) * size,
                                        p.columns,
                                    )
                            if needs_x:
                                # The filter beside the gradient's pixel, moved to the pixel of x that it serves.
                                down = (padding - t // k * dilation) // stride
                                right = (padding - t % k * dilation) // stride
                                if (t // k * dilation - padding) % stride != 0:
                                    down += 1
                                if (t % k * dilation - padding) % stride != 0:
                                    right += 1
                                for row in range(rows):
                                    out = shifted + (at + row * pitch) * size
                                    from_row = first + row + down
                                    begin, end = max(0, -right), min(p.columns, p.columns - right)
                                    fill_zero(out, p.columns * size)
                                    if 0 <= from_row < p.rows and begin < end:
                                        address = base + from_row * r * p.spatial_h + (begin + right) * r * p.spatial_w
                                        _stage(
                                            code,
                                            computed,
                                            size,
                                            element,
                                            address,
                                            p.spatial_w * r,
                                            out + begin * size,
                                            end - begin,
                                        )
                if needs_spatial:
                    fill_zero(grad_filters, r * r * taps * lanes * size)
                for c in range(head * per_head, (head + 1) * per_head):
                    for phase in range(r * r):
                        for row in range(-halo, rows + halo):
                            out = grad_planes + (phase * grad_plane + (row + halo) * pitch) * size
                            if 0 <= first + row < p.rows:
                                address = (
                                    p.y
                                    + b * p.y_b
                                    + c * p.y_c
                                    + ((first + row) * r + phase // r) * p.y_h
                                    + phase % r * p.y_w
                                )
                                _stage(code, computed, size, element, address, p.y_w * r, out + halo * size, p.columns)
                            else:
                                fill_zero(out, pitch * size)
                    if needs_filters:
                        _stage_x(code, computed, size, element, p, b, c, first, rows, planes, plane)
                    if has_channel:
                        for phase in range(p.phases):
                            base = p.channel + b * p.channel_b + phase * p.channel_p + c * p.channel_c
                            for t in range(taps):
                                write(
                                    computed,
                                    scalars + (phase * taps + t) * size,
                                    read(code, base + t // k * p.channel_u + t % k * p.channel_v),
                                )
                    if needs_filters:
                        for phase in range(r * r):
                            own = phase if p.phases > 1 else 0
                            grad = grad_planes + (phase * grad_plane + halo * pitch + halo) * size
                            for t in range(0, taps, chunk):
                                at = phase * taps + t
                                filter_gradients(
                                    computed,
                                    combine,
                                    has_channel,
                                    has_spatial,
                                    needs_channel,
                                    needs_spatial,
                                    chunk,
                                    grad,
                                    x_sources + t * 8,
                                    scalars + (own * taps + t) * size,
                                    vectors + t * 8,
                                    0,
                                    phase * taps * lanes * size,
                                    sums + at * size,
                                    grad_filters + at * lanes * size,
                                    lanes * size,
                                    rows * pitch,
                                )
                        if needs_channel:
                            for at in range(p.phases * taps):
                                total = read(computed, sums + at * size)
                                if p.phases == 1:
                                    for phase in range(1, r * r):
                                        total += read(computed, sums + (phase * taps + at) * size)
                                write(
                                    computed, p.partial + ((item * p.phases * taps + at) * channels + c) * size, total
                                )
                    if needs_x:
                        for x_phase in range(stride * stride):
                            n = 0
                            for t in range(taps):
                                row = x_phase // stride + padding - t // k * dilation
                                column = x_phase % stride + padding - t % k * dilation
                                if row % stride == 0 and column % stride == 0:
                                    for phase in range(r * r):
                                        at = (
                                            phase * grad_plane
                                            + (row // stride + halo) * pitch
                                            + column // stride
                                            + halo
                                        )
                                        write_address(sources + n * 8, grad_planes + at * size)
                                        if has_spatial:
                                            write_address(
                                                grad_vectors + n * 8, shifted + (phase * taps + t) * lanes * size
                                            )
                                        if has_channel:
                                            own = phase if p.phases > 1 else 0
                                            write(
                                                computed,
                                                grad_scalars + n * size,
                                                read(computed, scalars + (own * taps + t) * size),
                                            )
                                        n += 1
                            weighted_sum(
                                computed,
                                computed,
                                combine,
                                has_channel,
                                has_spatial,
                                n,
                                sources,
                                grad_scalars,
                                grad_vectors,
                                0,
                                0,
                                result,
                                rows * pitch,
                            )
                            columns = (p.width - x_phase % stride + stride - 1) // stride
                            for row in range(rows):
                                i = (first + row) * stride + x_phase // stride
                                if i < p.height:
                                    out = (
                                        p.grad_x
                                        + b * p.grad_x_b
                                        + c * p.grad_x_c
                                        + i * p.grad_x_h
                                        + x_phase % stride * p.grad_x_w
                                    )
                                    _unstage(
                                        code,
                                        computed,
                                        size,
                                        element,
                                        result + row * pitch * size,
                                        out,
                                        p.grad_x_w * stride,
                                        columns,
                                    )
                if needs_spatial:
                    for phase in range(r * r):
                        for t in range(taps):
                            base = (
                                p.grad_spatial
                                + b * p.grad_spatial_b
                                + head * p.grad_spatial_g
                                + t * p.grad_spatial_t
                                + phase // r * p.grad_spatial_h
                                + phase % r * p.grad_spatial_w
                            )
                            for row in range(rows):
                                staged = grad_filters + ((phase * taps + t) * lanes + row * pitch) * size
                                _unstage(
                                    code,
                                    computed,
                                    size,
                                    element,
                                    staged,
                                    base + (first + row) * r * p.grad_spatial_h,
                                    p.grad_spatial_w * r,
                                    p.columns,
                                )

    return cfunc(SIGNATURE, cache=True)(backward)
