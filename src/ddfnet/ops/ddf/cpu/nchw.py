"""CPU kernels for NCHW, and for any other strides: lanes are pixels, so a channel's filter is K scalars.

A work item is a block of grid rows of one sample. What it reads is first staged in scratch that stays in cache, as
numbers of the computing type: the block's spatial filters once for all channels of a head, then of each channel the
rows of x (or of the gradient) with zeros around. Staged rows follow one another `pitch` lanes apart, so that a tap is
one offset for all lanes of the block, and the zeros right of one row are those left of the next. Strided inputs are
staged as s*s planes, upsampled outputs as r*r planes, one for each phase; then every step in a plane is by one lane.
"""

# numba types these functions from their calls.
# mypy: disable-error-code="no-untyped-def"

from typing import Any

from numba import njit

from ddfnet.ops.cpu.compiling import carray, compile_kernel
from ddfnet.ops.cpu.intrinsics import copy_rows, fill_zero, read, read_address, take_next, write, write_address
from ddfnet.ops.cpu.vectors import compute_code, element_size
from ddfnet.ops.ddf.cpu.call import Call
from ddfnet.ops.ddf.cpu.loops import filter_gradients_tile, weighted_sum, weighted_sum_tile

TILE = 2  # channels, which share each load of a spatial filter


@njit(inline="always")
def _stage(code, computed, size, element, source, pitch, step, out, out_pitch, rows, count):
    """`rows` rows of `count` elements that lie `step` bytes apart, as lanes of the computing type."""
    if step == element:
        copy_rows(code, computed, source, pitch, out, out_pitch, rows, count)
    else:
        for row in range(rows):
            for n in range(count):
                write(computed, out + row * out_pitch + n * size, read(code, source + row * pitch + n * step))


@njit(inline="always")
def _unstage(code, computed, size, element, source, source_pitch, out, pitch, step, rows, count):
    """The reverse of `_stage`."""
    if step == element:
        copy_rows(computed, code, source, source_pitch, out, pitch, rows, count)
    else:
        for row in range(rows):
            for n in range(count):
                write(code, out + row * pitch + n * step, read(computed, source + row * source_pitch + n * size))


@njit(inline="always")
def _plan_windows(p, size, first, rows, windows):
    """What of x a block needs, the same for all channels: a table of the part of each plane that lies in the image.

    There is one plane for each phase of the stride that a tap can have. An entry holds the offset in x, that in the
    planes, the rows and the columns. What lies outside the image is never staged: it was cleared for the item.
    """
    stride = p.stride
    padding = p.kernel_size // 2 * p.dilation
    reach = (p.kernel_size - 1) * p.dilation
    n = 0
    for phase in range(min(stride, reach + 1)):
        top = max(0, -((first * stride + phase - padding) // stride))  # the first staged row inside the image
        i = (first + top) * stride + phase - padding
        height = max(0, min(rows + reach // stride - top, (p.height - 1 - i) // stride + 1))
        for column_phase in range(min(stride, reach + 1)):
            left = max(0, -((column_phase - padding) // stride))
            j = left * stride + column_phase - padding
            width = max(0, min((p.width - 1 - j) // stride + 1, p.pitch - left))
            at = (phase * stride + column_phase) * p.plane + top * p.pitch + left
            write_address(windows + n * 32, i * p.x_h + j * p.x_w)
            write_address(windows + n * 32 + 8, at * size)
            write_address(windows + n * 32 + 16, height)
            write_address(windows + n * 32 + 24, width)
            n += 1
    return n


@njit(inline="always")
def _stage_x(code, computed, size, element, p, image, windows, count, planes):
    """A channel's rows of x that the block's taps touch."""
    x_h, x_w, pitch = p.x_h * p.stride, p.x_w * p.stride, p.pitch * size
    for n in range(count):
        source, out = image + read_address(windows + n * 32), planes + read_address(windows + n * 32 + 8)
        height, width = read_address(windows + n * 32 + 16), read_address(windows + n * 32 + 24)
        _stage(code, computed, size, element, source, x_h, x_w, out, pitch, height, width)


@njit(inline="always")
def _point_taps(p, items, size, planes, filters, sources, vectors):
    """The tables of a tile: the first lane's source for each tap of each channel, and its filters."""
    k, stride = p.kernel_size, p.stride
    for t in range(k * k):
        row, column = t // k * p.dilation, t % k * p.dilation
        own = row % stride * stride + column % stride
        at = own * p.plane + row // stride * p.pitch + column // stride
        for item in range(items):
            place = t // k * items * k + item * k + t % k
            write_address(sources + place * 8, planes + (item * stride * stride * p.plane + at) * size)
        write_address(vectors + t * 8, filters + t * p.lanes * size)


@njit(inline="always")
def _read_scalars(code, computed, size, element, p, items, present, b, c, scalars):
    """Fills (phases, items, K) channel filters, 0 for channels that are not `present`."""
    k = p.kernel_size
    taps = k * k
    dense = p.channel_v == element and p.channel_u == k * element
    for phase in range(p.phases):
        first = p.channel + b * p.channel_b + phase * p.channel_p + c * p.channel_c
        out = scalars + phase * items * taps * size
        fill_zero(out + present * taps * size, (items - present) * taps * size)
        if dense:
            copy_rows(code, computed, first, p.channel_c, out, taps * size, present, taps)
        else:
            for item in range(present):
                for u in range(k):
                    for v in range(k):
                        value = read(code, first + item * p.channel_c + u * p.channel_u + v * p.channel_v)
                        write(computed, out + ((item * k + u) * k + v) * size, value)


def make_forward(code: int, combine: int, has_channel: bool, has_spatial: bool, k: int, source: int) -> Any:
    """y of Eq. 2 and of DDF-Up.

    Args:
        k: the kernel size, or 0 for any.
        source: names the kernels' source code in numba's cache.
    """
    computed = compute_code(code)
    element, size = element_size(code), element_size(computed)
    items = TILE if k else 1

    def forward(call):
        _ = source
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
        r = p.scale
        pitch, lanes = p.pitch, p.lanes
        taps = p.kernel_size * p.kernel_size
        per_head = p.channels // p.heads
        sources, scalars, vectors = scratch + p.sources, scratch + p.scalars, scratch + p.vectors
        filters, planes, result = scratch + p.filters, scratch + p.planes, scratch + p.result
        outs = scratch + p.outs
        parts = scratch + p.windows
        image = p.stride * p.stride * p.plane * size
        group = p.group * items
        _point_taps(p, items, size, planes, filters, sources, vectors)
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            b = item // p.blocks
            first = item % p.blocks * p.block
            rows = min(p.block, p.rows - first)
            fill_zero(planes, group * image)
            windows = _plan_windows(p, size, first, rows, parts)
            for head in range(p.heads):
                if has_spatial:
                    for phase in range(r * r):
                        row = first * r + phase // r
                        for t in range(taps):
                            base = p.spatial + b * p.spatial_b + head * p.spatial_g + t * p.spatial_t
                            _stage(
                                code, computed, size, element,
                                base + row * p.spatial_h + phase % r * p.spatial_w, r * p.spatial_h, r * p.spatial_w,
                                filters + (phase * taps + t) * lanes * size, pitch * size, rows, p.columns,
                            )  # fmt: skip
                end = (head + 1) * per_head
                for c in range(head * per_head, end, group):
                    count = min(group, end - c)
                    for each in range(count):
                        x = p.x + b * p.x_b + (c + each) * p.x_c
                        _stage_x(
                            code, computed, size, element, p, x, scratch + p.windows, windows, planes + each * image
                        )
                    for each in range(0, count, items):
                        if has_channel:
                            present = min(items, count - each)
                            _read_scalars(code, computed, size, element, p, items, present, b, c + each, scalars)
                        for phase in range(r * r):
                            own = scalars + (phase if p.phases > 1 else 0) * items * taps * size
                            vector = phase * taps * lanes * size
                            out = result + (each + phase * group) * lanes * size
                            for own_item in range(items):
                                write_address(outs + own_item * 8, out + own_item * lanes * size)
                            if k:
                                weighted_sum_tile(
                                    computed, combine, has_channel, has_spatial, False, k, items, k, sources, own,
                                    filters + vector, lanes * size, each * image, outs, 0, 0, rows * pitch,
                                )  # fmt: skip
                            else:
                                weighted_sum(
                                    computed, combine, has_channel, has_spatial, taps, sources, own, vectors,
                                    each * image, vector, out, rows * pitch,
                                )  # fmt: skip
                    for i in range(r):
                        for j in range(r):
                            done = result + (i * r + j) * group * lanes * size
                            out = p.y + b * p.y_b + c * p.y_c + (first * r + i) * p.y_h + j * p.y_w
                            for each in range(count):
                                _unstage(
                                    code, computed, size, element, done + each * lanes * size, pitch * size,
                                    out + each * p.y_c, r * p.y_h, r * p.y_w, rows, p.columns,
                                )  # fmt: skip

    return compile_kernel(forward, Call)


def make_backward(
    code: int,
    combine: int,
    has_channel: bool,
    has_spatial: bool,
    k: int,
    needs_x: bool,
    needs_channel: bool,
    needs_spatial: bool,
    plain: bool,
    source: int,
) -> Any:
    """The gradients asked for; that of the channel filter in part, one sum per work item.

    Args:
        k, source: as in `make_forward`, but k > 0.
        plain: stride and scale factor are 1, so the gradient of x is Eq. 2 with the filters of the pixels around.
    """
    computed = compute_code(code)
    element, size = element_size(code), element_size(computed)
    items = TILE
    needs_filters = needs_channel or needs_spatial
    weighs = has_spatial and needs_channel and has_channel and combine == 0  # with the spatial filter

    def backward(call):
        _ = source
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
        r, stride = p.scale, p.stride
        pitch, lanes, grad_plane = p.pitch, p.lanes, p.grad_plane
        taps = k * k
        channels = p.channels
        per_head = channels // p.heads
        padding = k // 2 * p.dilation
        halo = (padding + stride - 1) // stride
        sources, x_sources, vectors = scratch + p.sources, scratch + p.x_sources, scratch + p.vectors
        scalars, grad_scalars, sums = scratch + p.scalars, scratch + p.grad_scalars, scratch + p.sums
        grads, outs, grad_vectors = scratch + p.grads, scratch + p.outs, scratch + p.grad_vectors
        filters, shifted, grad_filters = scratch + p.filters, scratch + p.shifted, scratch + p.grad_filters
        planes, grad_planes, result = scratch + p.planes, scratch + p.grad_planes, scratch + p.result
        parts = scratch + p.windows
        image, grad_image = stride * stride * p.plane * size, r * r * grad_plane * size
        group = p.group * items
        _point_taps(p, items, size, planes, filters, x_sources, vectors)
        if plain:
            for t in range(taps):
                at = t // k * p.dilation * pitch + t % k * p.dilation
                for each in range(items):
                    place = t // k * items * k + each * k + t % k
                    write_address(sources + place * 8, grad_planes + each * grad_image + at * size)
        if weighs:
            fill_zero(filters, r * r * taps * lanes * size)
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            b = item // p.blocks
            first = item % p.blocks * p.block
            rows = min(p.block, p.rows - first)
            top, bottom = max(-halo, -first), min(rows + halo, p.rows - first)
            fill_zero(grad_planes, group * grad_image)
            if needs_filters:
                fill_zero(planes, group * image)
            windows = _plan_windows(p, size, first, rows, parts)
            for head in range(p.heads):
                if has_spatial:
                    for phase in range(r * r):
                        for t in range(taps):
                            base = p.spatial + b * p.spatial_b + head * p.spatial_g + t * p.spatial_t
                            base += phase // r * p.spatial_h + phase % r * p.spatial_w
                            vector = (phase * taps + t) * lanes * size
                            if weighs:
                                _stage(
                                    code, computed, size, element,
                                    base + first * r * p.spatial_h, r * p.spatial_h, r * p.spatial_w,
                                    filters + vector, pitch * size, rows, p.columns,
                                )  # fmt: skip
                            if needs_x:
                                # The filter beside the gradient's pixel, moved to the pixel of x that it serves.
                                down = -((t // k * p.dilation - padding) // stride)
                                right = -((t % k * p.dilation - padding) // stride)
                                upper, lower = max(0, -first - down), min(rows, p.rows - first - down)
                                begin, end = max(0, -right), min(p.columns, p.columns - right)
                                fill_zero(shifted + vector, lanes * size)
                                if upper < lower and begin < end:
                                    row, column = (first + upper + down) * r, (begin + right) * r
                                    _stage(
                                        code, computed, size, element,
                                        base + row * p.spatial_h + column * p.spatial_w,
                                        r * p.spatial_h, r * p.spatial_w,
                                        shifted + vector + (upper * pitch + begin) * size,
                                        pitch * size, lower - upper, end - begin,
                                    )  # fmt: skip
                if needs_spatial:
                    fill_zero(grad_filters, r * r * taps * lanes * size)
                end = (head + 1) * per_head
                for c in range(head * per_head, end, group):
                    count = min(group, end - c)
                    for each in range(count):
                        out = grad_planes + each * grad_image + ((top + halo) * pitch + halo) * size
                        for i in range(r):
                            for j in range(r):
                                row = (first + top) * r + i
                                _stage(
                                    code, computed, size, element,
                                    p.y + b * p.y_b + (c + each) * p.y_c + row * p.y_h + j * p.y_w,
                                    r * p.y_h, r * p.y_w, out + (i * r + j) * grad_plane * size,
                                    pitch * size, bottom - top, p.columns,
                                )  # fmt: skip
                        if needs_filters:
                            x = p.x + b * p.x_b + (c + each) * p.x_c
                            _stage_x(
                                code, computed, size, element, p, x, scratch + p.windows, windows, planes + each * image
                            )
                    for each in range(count, (count + items - 1) // items * items):  # what the last tile lacks
                        fill_zero(grad_planes + each * grad_image, grad_image)
                        if needs_filters:
                            fill_zero(planes + each * image, image)
                    for tile in range(0, count, items):
                        present = min(items, count - tile)
                        if has_channel:
                            _read_scalars(code, computed, size, element, p, items, present, b, c + tile, scalars)
                        if needs_channel:
                            fill_zero(sums, r * r * items * taps * size)
                        if needs_filters:
                            for phase in range(r * r):
                                own = scalars + (phase if p.phases > 1 else 0) * items * taps * size
                                grad = (
                                    grad_planes + tile * grad_image + (phase * grad_plane + halo * pitch + halo) * size
                                )
                                for each in range(items):
                                    write_address(grads + each * 8, grad + each * grad_image)
                                for u in range(k):
                                    vector = (phase * taps + u * k) * lanes * size
                                    filter_gradients_tile(
                                        computed, combine, has_channel, has_spatial, needs_channel, needs_spatial,
                                        False, k, items, k, grads, x_sources + u * items * k * 8,
                                        own + u * k * size, taps * size, filters + vector, lanes * size, tile * image,
                                        sums + (phase * items * taps + u * k) * size,
                                        grad_filters + vector, lanes * size, 0, 0, rows * pitch,
                                    )  # fmt: skip
                        if needs_channel:
                            partial = p.partial + (item * p.phases * taps * channels + c + tile) * size
                            for phase in range(p.phases):
                                for each in range(present):
                                    for t in range(taps):
                                        place = sums + ((phase * items + each) * taps + t) * size
                                        total: Any = read(computed, place)
                                        if p.phases == 1:
                                            for other in range(1, r * r):
                                                total += read(computed, place + other * items * taps * size)
                                        out = partial + ((phase * taps + t) * channels + each) * size
                                        write(computed, out, total)
                        if needs_x and plain:
                            if has_channel:
                                for each in range(items):
                                    for t in range(taps):
                                        value = read(computed, scalars + (each * taps + taps - 1 - t) * size)
                                        write(computed, grad_scalars + (each * taps + t) * size, value)
                            for each in range(items):
                                write_address(outs + each * 8, result + (tile + each) * lanes * size)
                            weighted_sum_tile(
                                computed, combine, has_channel, has_spatial, False, k, items, k, sources, grad_scalars,
                                shifted + (taps - 1) * lanes * size, -lanes * size, tile * grad_image,
                                outs, 0, 0, rows * pitch,
                            )  # fmt: skip
                        if needs_x and not plain:
                            for x_phase in range(stride * stride):
                                i = first * stride + x_phase // stride
                                height = min(rows, (p.height - 1 - i) // stride + 1)
                                width = (p.width - 1 - x_phase % stride) // stride + 1
                                for each in range(present):
                                    n = 0
                                    for t in range(taps):
                                        row = x_phase // stride + padding - t // k * p.dilation
                                        column = x_phase % stride + padding - t % k * p.dilation
                                        if row % stride == 0 and column % stride == 0:
                                            at = (row // stride + halo) * pitch + column // stride + halo
                                            grad = grad_planes + (tile + each) * grad_image + at * size
                                            for phase in range(r * r):
                                                vector = (phase * taps + t) * lanes * size
                                                write_address(sources + n * 8, grad + phase * grad_plane * size)
                                                write_address(grad_vectors + n * 8, shifted + vector)
                                                if has_channel:
                                                    own = (phase if p.phases > 1 else 0) * items + each
                                                    value = read(computed, scalars + (own * taps + t) * size)
                                                    write(computed, grad_scalars + n * size, value)
                                                n += 1
                                    weighted_sum(
                                        computed, combine, has_channel, has_spatial, n, sources, grad_scalars,
                                        grad_vectors, 0, 0, result, rows * pitch,
                                    )  # fmt: skip
                                    out = p.grad_x + b * p.grad_x_b + (c + tile + each) * p.grad_x_c
                                    out += i * p.grad_x_h + x_phase % stride * p.grad_x_w
                                    _unstage(
                                        code, computed, size, element, result, pitch * size,
                                        out, stride * p.grad_x_h, stride * p.grad_x_w, height, width,
                                    )  # fmt: skip
                    if needs_x and plain:
                        for each in range(count):
                            out = p.grad_x + b * p.grad_x_b + (c + each) * p.grad_x_c + first * p.grad_x_h
                            _unstage(
                                code, computed, size, element, result + each * lanes * size, pitch * size,
                                out, p.grad_x_h, p.grad_x_w, rows, p.width,
                            )  # fmt: skip
                if needs_spatial:
                    for phase in range(r * r):
                        for t in range(taps):
                            out = p.grad_spatial + b * p.grad_spatial_b + head * p.grad_spatial_g + t * p.grad_spatial_t
                            out += (first * r + phase // r) * p.grad_spatial_h + phase % r * p.grad_spatial_w
                            _unstage(
                                code, computed, size, element,
                                grad_filters + (phase * taps + t) * lanes * size, pitch * size,
                                out, r * p.grad_spatial_h, r * p.grad_spatial_w, rows, p.columns,
                            )  # fmt: skip

    return compile_kernel(backward, Call)
