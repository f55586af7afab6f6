"""CPU kernels for channels_last: lanes are the channels of a head, so a pixel's spatial filter is K scalars.

A work item is a block of grid rows of one sample. A row is done in tiles of neighbouring pixels: each has a table of the
addresses that its taps read, with a page of zeros for those outside the image, and its spatial filters. Both are made
for the whole row, then used for one block of channels after the other, so that what a block of channels needs of the
rows and filters around stays in the first-level cache. The channel filters are transposed once per sample to
(phases, K, C), so that they too are vectors.

NCHW maps of many channels are served here too ("planar"): a work item transposes the rows that it needs into scratch,
computes there, and transposes what comes out.
"""

# numba types these functions from their calls.
# mypy: disable-error-code="no-untyped-def"

from typing import Any

from numba import njit

from ddfnet.ops.cpu.compiling import carray, compile_kernel
from ddfnet.ops.cpu.intrinsics import add_lanes, copy_rows, fill_zero, read, take_next, transpose, write, write_address
from ddfnet.ops.cpu.vectors import compute_code, element_size
from ddfnet.ops.ddf.cpu.call import Call
from ddfnet.ops.ddf.cpu.loops import filter_gradients_tile, weighted_sum, weighted_sum_tile

CHANNELS = 512  # done at once


@njit(inline="always")
def _stage_channel_filter(code, computed, size, element, p, b, out):
    """The channel filters of sample b as (phases, K, C) of the computing type."""
    k, channels, pitch = p.kernel_size, p.channels, p.pixel
    dense = p.channel_v == element and p.channel_u == k * element
    for phase in range(p.phases):
        first = p.channel + b * p.channel_b + phase * p.channel_p
        own = out + phase * k * k * pitch
        if dense:
            transpose(code, computed, first, p.channel_c, own, pitch, channels, k * k)
        else:
            for u in range(k):
                for v in range(k):
                    source, place = first + u * p.channel_u + v * p.channel_v, own + (u * k + v) * pitch
                    if p.channel_c == element:
                        copy_rows(code, computed, source, 0, place, 0, 1, channels)
                    else:
                        channel_c = p.channel_c
                        for c in range(channels):
                            write(computed, place + c * size, read(code, source + c * channel_c))


@njit(inline="always")
def _to_channels_last(
    code, computed, size, element, image, stride_c, stride_h, first, rows, width, channels, out, pitch
):
    """Rows `first` to `first + rows` of an NCHW image as (rows, width, C) of the computing type."""
    if stride_h == width * element:
        transpose(code, computed, image + first * stride_h, stride_c, out, pitch, channels, rows * width)
    else:
        for row in range(rows):
            source = image + (first + row) * stride_h
            transpose(code, computed, source, stride_c, out + row * width * pitch, pitch, channels, width)


@njit(inline="always")
def _from_channels_last(
    code, computed, size, element, source, pitch, image, stride_c, stride_h, first, rows, width, channels
):
    """The reverse of `_to_channels_last`."""
    if stride_h == width * element:
        transpose(computed, code, source, pitch, image + first * stride_h, stride_c, rows * width, channels)
    else:
        for row in range(rows):
            out = image + (first + row) * stride_h
            transpose(computed, code, source + row * width * pitch, pitch, out, stride_c, width, channels)


@njit(inline="always")
def _point_taps(
    p, k, items, step, image, stride_h, stride_w, height, width, columns, top, left, stride, zeros, sources
):
    """Fills the tables of a row of tiles: the pixels of `image` that their taps read, `zeros` for those outside."""
    slots = (items - 1) * step + k
    dilation = p.dilation
    overlap = stride == 1 and dilation == 1
    for u in range(k):
        i = top + u * dilation
        row_inside = 0 <= i < height
        row = image + i * stride_h
        for tile in range((columns + items - 1) // items):
            place = sources + (tile * k + u) * slots * 8
            first = left + tile * items * stride
            for slot in range(slots):
                j = first + slot
                if not overlap:
                    j = first + slot // k * stride + slot % k * dilation
                inside = row_inside and 0 <= j < width
                write_address(place + slot * 8, row + j * stride_w if inside else zeros)


@njit(inline="always")
def _read_filters(code, computed, size, element, p, k, first, stride_w, columns, scalars):
    """The spatial filters of a row's pixels, (columns, K)."""
    taps = k * k
    if p.spatial_t == element:
        copy_rows(code, computed, first, stride_w, scalars, taps * size, columns, taps)
    elif stride_w == element:
        transpose(code, computed, first, p.spatial_t, scalars, taps * size, taps, columns)
    else:
        step = p.spatial_t
        for column in range(columns):
            for t in range(taps):
                write(computed, scalars + (column * taps + t) * size, read(code, first + column * stride_w + t * step))


@njit(inline="always")
def _read_filters_around(code, computed, size, p, k, first, i, scalars):
    """What the pixels around those of row i of x weigh them with, (columns, K), 0 where there is none."""
    taps = k * k
    padding = k // 2 * p.dilation
    spatial_t, spatial_w, columns, dilation = p.spatial_t, p.spatial_w, p.columns, p.dilation
    for u in range(k):
        row = i - padding + u * dilation
        for v in range(k):
            t = u * k + v
            shift = v * dilation - padding
            begin, end = min(columns, max(0, -shift)), max(0, min(columns, columns - shift))
            source = first + (taps - 1 - t) * spatial_t + row * p.spatial_h + shift * spatial_w
            place = scalars + t * size
            if row < 0 or row >= p.rows:
                begin, end = columns, columns
            for column in range(begin):
                fill_zero(place + column * taps * size, size)
            for column in range(begin, end):
                write(computed, place + column * taps * size, read(code, source + column * spatial_w))
            for column in range(max(begin, end), columns):
                fill_zero(place + column * taps * size, size)


@njit(inline="always")
def _sum_row(
    code,
    combine,
    has_spatial,
    has_channel,
    size,
    p,
    k,
    items,
    step,
    columns,
    sources,
    scalars,
    vectors,
    filters,
    filter_pitch,
    stride_c,
    out,
    out_w,
    out_c,
    outs,
    spare,
    source_ahead,
    out_ahead,
):
    """Eq. 2 for a row of pixels whose tables are made; k = 0 for any kernel size, with the table `vectors`."""
    taps = p.kernel_size * p.kernel_size
    slots = p.kernel_size * ((items - 1) * step + p.kernel_size) * 8
    per_head = p.channels // p.heads
    for head in range(p.heads):
        for c in range(head * per_head, (head + 1) * per_head, CHANNELS):
            lanes = min(CHANNELS, (head + 1) * per_head - c)
            for tile in range((columns + items - 1) // items):
                to = out + tile * items * out_w + c * out_c
                own = scalars + head * p.row_scalars + tile * items * taps * size
                if k:
                    for item in range(items):
                        write_address(outs + item * 8, to + item * out_w if tile * items + item < columns else spare)
                    weighted_sum_tile(
                        code, combine, has_spatial, has_channel, True, k, items, step,
                        sources + tile * slots, own, filters + c * size, filter_pitch, c * stride_c, outs,
                        source_ahead, out_ahead, lanes,
                    )  # fmt: skip
                else:
                    weighted_sum(
                        code, combine, has_spatial, has_channel, taps,
                        sources + tile * slots, own, vectors, c * stride_c, c * size, to, lanes,
                    )  # fmt: skip


def make_forward(
    code: int,
    combine: int,
    has_channel: bool,
    has_spatial: bool,
    k: int,
    step: int,
    items: int,
    planar: bool,
    source: int,
) -> Any:
    """y of Eq. 2 and of DDF-Up.

    Args:
        k: the kernel size, or 0 for any.
        step: 1 where neighbouring pixels' taps overlap (stride and dilation 1), else k.
        items: pixels of a tile; 1 where k = 0.
        planar: x and y are NCHW; a work item transposes what it needs of them, in scratch.
        source: names the kernels' source code in numba's cache.
    """
    computed, element = compute_code(code), element_size(code)
    size = element_size(computed)
    data = computed if planar else code

    def forward(call):
        _ = source
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
        r, stride, kernel_size = p.scale, p.stride, k or p.kernel_size
        taps = kernel_size * kernel_size
        padding = kernel_size // 2 * p.dilation
        pitch = p.pixel
        sources, scalars, vectors = scratch + p.sources, scratch + p.scalars, scratch + p.vectors
        filters, zeros, spare = scratch + p.filters, scratch + p.planes, scratch + p.result
        fill_zero(scratch + p.scalars, p.heads * p.row_scalars)
        fill_zero(zeros, pitch)
        staged = -1
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            b = item // p.blocks
            first = item % p.blocks * p.block
            if has_channel and b != staged:
                _stage_channel_filter(code, computed, size, element, p, b, filters)
                staged = b
            last = min(first + p.block, p.rows)
            x, x_h, x_w, x_c = p.x + b * p.x_b, p.x_h, p.x_w, p.x_c
            y, y_h, y_w, y_c = p.y + b * p.y_b, p.y_h, p.y_w, p.y_c
            if planar:
                top, bottom = max(0, first * stride - padding), min(p.height, (last - 1) * stride + padding + 1)
                if top < bottom:
                    _to_channels_last(
                        code, computed, size, element, x, x_c, x_h, top, bottom - top, p.width, p.channels,
                        scratch + p.x_rows, p.pixel,
                    )  # fmt: skip
                x_h, x_w, x_c = p.width * p.pixel, p.pixel, size
                x = scratch + p.x_rows - top * x_h
                y_h, y_w, y_c = p.columns * r * p.pixel, p.pixel, size
                y = scratch + p.y_rows - first * r * y_h
            for row in range(first, last):
                _point_taps(
                    p, kernel_size, items, step, x, x_h, x_w, p.height, p.width, p.columns,
                    row * stride - padding, -padding, stride, zeros, sources,
                )  # fmt: skip
                for phase in range(r * r):
                    y_row, y_column = row * r + phase // r, phase % r
                    if has_spatial:
                        spatial = p.spatial + b * p.spatial_b + y_row * p.spatial_h + y_column * p.spatial_w
                        for head in range(p.heads):
                            _read_filters(
                                code, computed, size, element, p, kernel_size,
                                spatial + head * p.spatial_g, r * p.spatial_w, p.columns, scalars + head * p.row_scalars,
                            )  # fmt: skip
                    own = filters + (phase * taps if p.phases > 1 else 0) * pitch
                    if not k:
                        for t in range(taps):
                            write_address(vectors + t * 8, own + t * pitch)
                    _sum_row(
                        data, combine, has_spatial, has_channel, size, p, k, items, step, p.columns, sources, scalars,
                        vectors, own, pitch, x_c, y + y_row * y_h + y_column * y_w, r * y_w, y_c,
                        scratch + p.outs, spare, stride * x_h, r * y_h,
                    )  # fmt: skip
            if planar:
                _from_channels_last(
                    code, computed, size, element, scratch + p.y_rows, p.pixel, p.y + b * p.y_b, p.y_c, p.y_h,
                    first * r, (last - first) * r, p.columns * r, p.channels,
                )  # fmt: skip

    return compile_kernel(forward, Call)


def make_backward(
    code: int,
    combine: int,
    has_channel: bool,
    has_spatial: bool,
    k: int,
    step: int,
    items: int,
    needs_x: bool,
    needs_channel: bool,
    needs_spatial: bool,
    plain: bool,
    planar: bool,
    source: int,
) -> Any:
    """The gradients asked for; that of the channel filter in part, one sum per work item.

    Args:
        k, step, items, planar, source: as in `make_forward`, but k > 0.
        plain: stride and scale factor are 1, so the gradient of x is Eq. 2 with the filters of the pixels around.
    """
    computed, element = compute_code(code), element_size(code)
    size = element_size(computed)
    data = computed if planar else code
    filter_tile = items if k <= 3 else min(items, 4) if k <= 5 else 1  # whose sums fit the registers

    def backward(call):
        _ = source
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
        r, stride = p.scale, p.stride
        channels = p.channels
        taps = k * k
        padding = k // 2 * p.dilation
        per_head = channels // p.heads
        pitch = p.pixel
        sources, scalars, vectors, sums = (
            scratch + p.sources,
            scratch + p.scalars,
            scratch + p.vectors,
            scratch + p.sums,
        )
        filters, zeros, spare = scratch + p.filters, scratch + p.planes, scratch + p.result
        grads = scratch + p.grads
        slots = (filter_tile - 1) * step + k
        halo = (padding + stride - 1) // stride
        staged = -1
        fill_zero(scalars, p.heads * p.row_scalars)
        fill_zero(zeros, pitch)
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            b = item // p.blocks
            first = item % p.blocks * p.block
            last = min(first + p.block, p.rows)
            x, x_h, x_w, x_c = p.x + b * p.x_b, p.x_h, p.x_w, p.x_c
            y, y_h, y_w, y_c = p.y + b * p.y_b, p.y_h, p.y_w, p.y_c
            grad_x, grad_x_h, grad_x_w, grad_x_c = p.grad_x + b * p.grad_x_b, p.grad_x_h, p.grad_x_w, p.grad_x_c
            if planar:
                top, bottom = max(0, first * stride - padding), min(p.height, (last - 1) * stride + padding + 1)
                if top < bottom and (needs_channel or needs_spatial):
                    _to_channels_last(
                        code, computed, size, element, x, x_c, x_h, top, bottom - top, p.width, channels,
                        scratch + p.x_rows, p.pixel,
                    )  # fmt: skip
                x_h, x_w, x_c = p.width * p.pixel, p.pixel, size
                x = scratch + p.x_rows - top * x_h
                above = min(first, halo)
                rows = min(last + halo, p.rows) - first + above
                _to_channels_last(
                    code, computed, size, element, y, y_c, y_h, (first - above) * r, rows * r, p.columns * r, channels,
                    scratch + p.y_rows, p.pixel,
                )  # fmt: skip
                y_h, y_w, y_c = p.columns * r * p.pixel, p.pixel, size
                y = scratch + p.y_rows - (first - above) * r * y_h
                grad_x_h, grad_x_w, grad_x_c = p.width * p.pixel, p.pixel, size
                grad_x = scratch + p.grad_x_rows - first * stride * grad_x_h
            if has_channel and b != staged:
                _stage_channel_filter(code, computed, size, element, p, b, filters)
                staged = b
            partial = p.partial + item * p.phases * taps * pitch
            if needs_channel:
                fill_zero(partial, p.phases * taps * pitch)
            if needs_channel or needs_spatial:
                for row in range(first, last):
                    _point_taps(
                        p, k, filter_tile, step, x, x_h, x_w, p.height, p.width, p.columns,
                        row * stride - padding, -padding, stride, zeros, sources,
                    )  # fmt: skip
                    for phase in range(r * r):
                        own = phase * taps if p.phases > 1 else 0
                        y_row, y_column = row * r + phase // r, phase % r
                        if needs_spatial:
                            fill_zero(sums, p.heads * p.row_scalars)
                        for head in range(p.heads):
                            if has_spatial and needs_channel:
                                spatial = p.spatial + b * p.spatial_b + y_row * p.spatial_h + y_column * p.spatial_w
                                _read_filters(
                                    code, computed, size, element, p, k, spatial + head * p.spatial_g,
                                    r * p.spatial_w, p.columns, scalars + head * p.row_scalars,
                                )  # fmt: skip
                                if p.columns % filter_tile:  # the pixels that the last tile lacks
                                    lacking = (filter_tile - p.columns % filter_tile) * taps * size
                                    fill_zero(scalars + head * p.row_scalars + p.columns * taps * size, lacking)
                            for c in range(head * per_head, (head + 1) * per_head, CHANNELS):
                                lanes = min(CHANNELS, (head + 1) * per_head - c)
                                for tile in range((p.columns + filter_tile - 1) // filter_tile):
                                    column = tile * filter_tile
                                    grad = y + y_row * y_h + (column * r + y_column) * y_w + c * y_c
                                    for each in range(filter_tile):
                                        inside = column + each < p.columns
                                        write_address(grads + each * 8, grad + each * r * y_w if inside else zeros)
                                    at = head * p.row_scalars + column * taps * size
                                    for u in range(k):
                                        vector = (own + u * k) * pitch + c * size
                                        filter_gradients_tile(
                                            data, combine, has_spatial, has_channel, needs_spatial, needs_channel,
                                            True, k, filter_tile, step,
                                            grads, sources + (tile * k + u) * slots * 8,
                                            scalars + at + u * k * size, taps * size, filters + vector, pitch,
                                            c * x_c, sums + at + u * k * size, partial + vector, pitch,
                                            r * y_h, stride * x_h, lanes,
                                        )  # fmt: skip
                            if needs_spatial:
                                own_sums = sums + head * p.row_scalars
                                out = p.grad_spatial + b * p.grad_spatial_b + head * p.grad_spatial_g
                                out += y_row * p.grad_spatial_h + y_column * p.grad_spatial_w
                                pixel = r * p.grad_spatial_w
                                if p.grad_spatial_t == element:
                                    copy_rows(computed, code, own_sums, taps * size, out, pixel, p.columns, taps)
                                elif pixel == element:
                                    transpose(
                                        computed, code, own_sums, taps * size, out, p.grad_spatial_t, p.columns, taps
                                    )
                                else:
                                    for column in range(p.columns):
                                        for t in range(taps):
                                            place = out + column * r * p.grad_spatial_w + t * p.grad_spatial_t
                                            write(code, place, read(computed, own_sums + (column * taps + t) * size))
            if needs_x and plain:
                for i in range(first, last):
                    _point_taps(
                        p, k, items, step, y, y_h, y_w, p.rows, p.columns, p.width,
                        i - padding, -padding, 1, zeros, sources,
                    )  # fmt: skip
                    if has_spatial:
                        for head in range(p.heads):
                            spatial = p.spatial + b * p.spatial_b + head * p.spatial_g
                            _read_filters_around(code, computed, size, p, k, spatial, i, scalars + head * p.row_scalars)
                    _sum_row(
                        data, combine, has_spatial, has_channel, size, p, k, items, step, p.width, sources, scalars,
                        vectors, filters + (taps - 1) * pitch, -pitch, y_c, grad_x + i * grad_x_h, grad_x_w, grad_x_c,
                        scratch + p.outs, spare, y_h, grad_x_h,
                    )  # fmt: skip
            if needs_x and not plain:
                for i in range(first * stride, min(last * stride, p.height)):
                    for j in range(p.width):
                        for head in range(p.heads):
                            n = 0
                            spatial = p.spatial + b * p.spatial_b + head * p.spatial_g
                            for u in range(k):
                                row = i + padding - u * p.dilation
                                if row < 0 or row % stride != 0 or row // stride >= p.rows:
                                    continue
                                for v in range(k):
                                    column = j + padding - v * p.dilation
                                    if column < 0 or column % stride != 0 or column // stride >= p.columns:
                                        continue
                                    t = u * k + v
                                    for phase in range(r * r):
                                        y_row = row // stride * r + phase // r
                                        y_column = column // stride * r + phase % r
                                        write_address(sources + n * 8, y + y_row * y_h + y_column * y_w)
                                        if has_channel:
                                            own = phase if p.phases > 1 else 0
                                            write_address(vectors + n * 8, filters + (own * taps + t) * pitch)
                                        if has_spatial:
                                            at = y_row * p.spatial_h + y_column * p.spatial_w + t * p.spatial_t
                                            write(computed, scalars + n * size, read(code, spatial + at))
                                        n += 1
                            c = head * per_head
                            out = grad_x + i * grad_x_h + j * grad_x_w + c * grad_x_c
                            weighted_sum(
                                data, combine, has_spatial, has_channel, n, sources, scalars, vectors,
                                c * y_c, c * size, out, per_head,
                            )  # fmt: skip
            if needs_x and planar:
                rows = min(last * stride, p.height) - first * stride
                _from_channels_last(
                    code, computed, size, element, scratch + p.grad_x_rows, p.pixel, p.grad_x + b * p.grad_x_b,
                    p.grad_x_c, p.grad_x_h, first * stride, rows, p.width, channels,
                )  # fmt: skip

    return compile_kernel(backward, Call)


def make_reduce(code: int, source: int) -> Any:
    """grad_channel_filter from the sums (blocks, phases, K, C) of each sample's work items."""
    computed = compute_code(code)
    size, element = element_size(computed), element_size(code)

    def reduce(call):
        _ = source
        p = carray(call, 1)[0]
        k, channels = p.kernel_size, p.channels
        taps, pitch = k * k, p.pixel
        block = p.phases * taps * pitch  # bytes of a work item's sums
        dense = p.grad_channel_v == element and p.grad_channel_u == k * element
        for _ in range(p.batch * p.phases):
            n = take_next(p.sums_begun)
            if n >= p.batch * p.phases:
                break
            b, phase = n // p.phases, n % p.phases
            sums = p.partial + b * p.blocks * block + phase * taps * pitch
            for other in range(1, p.blocks):
                add_lanes(computed, sums + other * block, sums, taps * pitch // size)
            out = p.grad_channel + b * p.grad_channel_b + phase * p.grad_channel_p
            if dense:
                transpose(computed, code, sums, pitch, out, p.grad_channel_c, taps, channels)
            else:
                for t in range(taps):
                    for c in range(channels):
                        place = out + t // k * p.grad_channel_u + t % k * p.grad_channel_v + c * p.grad_channel_c
                        write(code, place, read(computed, sums + t * pitch + c * size))

    return compile_kernel(reduce, Call)
