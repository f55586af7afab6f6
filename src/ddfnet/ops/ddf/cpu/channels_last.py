"""CPU kernels for channels_last: lanes are the channels of a head, so a pixel's spatial filter is K scalars.

A work item is a block of grid rows of one sample. A row is done in tiles of neighbouring pixels: each has a table of the
addresses that its taps read, with a page of zeros for those outside the image, and its spatial filters. Both are made
for the whole row, then used for one block of channels after the other, so that what a block of channels needs of the
rows and filters around stays in the first-level cache. The channel filters are transposed once per sample to
(phases, K, C), so that they too are vectors.

NCHW maps of many channels are served here too ("planar"): a work item transposes the rows that it needs into scratch,
computes there, and transposes what comes out.

A function `_make_...` closes a piece of a kernel over what is known when the kernel is compiled.
"""

# numba types these functions from their calls.
# mypy: disable-error-code="no-untyped-def"

from functools import cache
from typing import Any, NamedTuple

from ddfnet.ops.cpu.compiling import called, carray, inlined
from ddfnet.ops.cpu.intrinsics import (
    Rows,
    add_lanes,
    copy_rows,
    fill_zero,
    read,
    take_next,
    transpose,
    write,
    write_address,
)
from ddfnet.ops.cpu.vectors import compute_code, element_size
from ddfnet.ops.ddf.cpu.call import Options
from ddfnet.ops.ddf.cpu.loops import Ahead, Filters, Tables, filter_gradients_tile, weighted_sum, weighted_sum_tile

CHANNELS = 512  # done at once


class Work(NamedTuple):
    """A work item: grid rows `first` to `last` of a sample."""

    sample: Any
    first: Any
    last: Any


class Map(NamedTuple):
    """A map of a sample (or `address` and `width` of one of its rows), strides in bytes."""

    address: Any
    c: Any
    h: Any
    w: Any
    height: Any
    width: Any


class RowTables(NamedTuple):
    """The sources of the pixels of a row: the row's tables, and what is the same for all pixels."""

    sources: Any  # table: addresses of the taps' pixels, tile after tile
    scalars: Any  # (heads, pixels, K) spatial filters
    vectors: Any  # table: addresses of channel filters, for any kernel size
    filters: Any  # address of the first tap's channel filters, for a given kernel size
    pitch: Any  # bytes from one tap's channel filters to the next tap's
    source_c: Any  # bytes from one channel to the next
    outs: Any  # table, to be filled: addresses of a tile's results
    spare: Any  # where the results of pixels go that the last tile lacks
    source_ahead: Any  # see `Ahead`
    out_ahead: Any


@inlined
def _work_of(p, item):
    first = item % p.blocks * p.block
    return Work(item // p.blocks, first, min(first + p.block, p.rows))


@inlined
def _begin(p):
    """Take a thread's part of the scratch and clear what has to be zero."""
    scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
    fill_zero(scratch + p.scalars, p.heads * p.row_scalars)
    fill_zero(scratch + p.planes, p.pixel)
    return scratch


def _make_stage_channel_filter(o: Options) -> Any:
    """Read the channel filters of sample b as (phases, K, C) of the computing type."""
    code, computed, element, size = o.code, o.computed, o.element, o.size

    @inlined
    def copy_tap(p, source, place):
        if p.channel_c == element:
            copy_rows(code, computed, Rows(source, 0), Rows(place, 0), 1, p.channels)
        else:
            channel_c = p.channel_c
            for c in range(p.channels):
                write(computed, place + c * size, read(code, source + c * channel_c))

    @called
    def stage_channel_filter(p, b, out):
        k, pitch = p.kernel_size, p.pixel
        for phase in range(p.phases):
            first = p.channel + b * p.channel_b + phase * p.channel_p
            own = out + phase * k * k * pitch
            if p.channel_v == element and p.channel_u == k * element:
                transpose(code, computed, Rows(first, p.channel_c), Rows(own, pitch), p.channels, k * k)
            else:
                for t in range(k * k):
                    copy_tap(p, first + t // k * p.channel_u + t % k * p.channel_v, own + t * pitch)

    return stage_channel_filter


@cache
def _make_to_channels_last(code: int) -> Any:
    """Transpose rows `first` to `first + rows` of an NCHW image to (rows, width, C) of the computing type."""
    computed, element = compute_code(code), element_size(code)

    @called
    def to_channels_last(image, first, rows, channels, out, pitch):
        if image.h == image.width * element:
            source = Rows(image.address + first * image.h, image.c)
            transpose(code, computed, source, Rows(out, pitch), channels, rows * image.width)
        else:
            for row in range(rows):
                source = Rows(image.address + (first + row) * image.h, image.c)
                transpose(code, computed, source, Rows(out + row * image.width * pitch, pitch), channels, image.width)

    return to_channels_last


@cache
def _make_from_channels_last(code: int) -> Any:
    """Compute `_make_to_channels_last`, reversed."""
    computed, element = compute_code(code), element_size(code)

    @called
    def from_channels_last(source, pitch, image, first, rows, channels):
        if image.h == image.width * element:
            out = Rows(image.address + first * image.h, image.c)
            transpose(computed, code, Rows(source, pitch), out, rows * image.width, channels)
        else:
            for row in range(rows):
                out = Rows(image.address + (first + row) * image.h, image.c)
                transpose(computed, code, Rows(source + row * image.width * pitch, pitch), out, image.width, channels)

    return from_channels_last


@inlined
def _x_image(p, b):
    return Map(p.x + b * p.x_b, p.x_c, p.x_h, p.x_w, p.height, p.width)


@inlined
def _y_image(p, b):
    return Map(p.y + b * p.y_b, p.y_c, p.y_h, p.y_w, p.rows * p.scale, p.columns * p.scale)


@inlined
def _grad_x_image(p, b):
    return Map(p.grad_x + b * p.grad_x_b, p.grad_x_c, p.grad_x_h, p.grad_x_w, p.height, p.width)


def _make_staged(o: Options) -> Any:
    """Describe an image whose rows from `first` on lie transposed at `rows`."""
    size = o.size

    @inlined
    def staged(p, image, rows, first):
        h = image.width * p.pixel
        return Map(rows - first * h, size, h, p.pixel, image.height, image.width)

    return staged


def _make_read_x(o: Options) -> Any:
    """Read x as a work item needs it."""
    to_channels_last, staged = _make_to_channels_last(o.code), _make_staged(o)

    @inlined
    def read_x(p, scratch, work):
        image, reach = _x_image(p, work.sample), (p.kernel_size - 1) * p.dilation
        top = max(0, work.first * p.stride - p.padding)
        bottom = min(p.height, (work.last - 1) * p.stride - p.padding + reach + 1)
        if top < bottom:
            to_channels_last(image, top, bottom - top, p.channels, scratch + p.x_rows, p.pixel)
        return staged(p, image, scratch + p.x_rows, top)

    @inlined
    def read_x_in_place(p, scratch, work):
        return _x_image(p, work.sample)

    return read_x if o.planar else read_x_in_place


def _make_read_grad_y(o: Options) -> Any:
    """Read the output's gradient as a work item reads it: its rows, and those whose taps reach them."""
    to_channels_last, staged = _make_to_channels_last(o.code), _make_staged(o)

    @inlined
    def read_grad_y(p, scratch, work):
        image, r = _y_image(p, work.sample), p.scale
        halo = (p.kernel_size // 2 * p.dilation + p.stride - 1) // p.stride
        top, bottom = work.first - min(work.first, halo), min(work.last + halo, p.rows)
        to_channels_last(image, top * r, (bottom - top) * r, p.channels, scratch + p.y_rows, p.pixel)
        return staged(p, image, scratch + p.y_rows, top * r)

    @inlined
    def read_grad_y_in_place(p, scratch, work):
        return _y_image(p, work.sample)

    return read_grad_y if o.planar else read_grad_y_in_place


def _make_point_taps(k: int, items: int, step: int) -> Any:
    """Fill the tables of a row of tiles: the pixels of `image` that their taps read, zeros for those outside.

    The row's pixels are centred on row `row` of every `stride`th column; k = 0 stands for any kernel size.
    """

    @called
    def point_taps(p, scratch, image, row, columns, stride):
        kernel_size = k or p.kernel_size
        slots = (items - 1) * step + kernel_size
        dilation, padding, zeros, sources = p.dilation, p.padding, scratch + p.planes, scratch + p.sources
        overlap = stride == 1 and dilation == 1
        stride_w, width = image.w, image.width
        for u in range(kernel_size):
            i = row * stride - padding + u * dilation
            row_inside = 0 <= i < image.height
            start = image.address + i * image.h
            for tile in range((columns + items - 1) // items):
                place = sources + (tile * kernel_size + u) * slots * 8
                first = tile * items * stride - padding
                for slot in range(slots):
                    away = slot if overlap else slot // kernel_size * stride + slot % kernel_size * dilation
                    inside = row_inside and 0 <= first + away < width
                    write_address(place + slot * 8, start + (first + away) * stride_w if inside else zeros)

    return point_taps


def _make_read_filters(o: Options) -> Any:
    """Read the spatial filters of the pixels of an output row, (heads, columns, K)."""
    code, computed, element, size, k = o.code, o.computed, o.element, o.size, o.k

    @inlined
    def read_head(p, first, scalars):
        taps = p.kernel_size * p.kernel_size if k == 0 else k * k
        stride_w, columns = p.scale * p.spatial_w, p.columns
        if p.spatial_t == element:
            copy_rows(code, computed, Rows(first, stride_w), Rows(scalars, taps * size), columns, taps)
        elif stride_w == element:
            transpose(code, computed, Rows(first, p.spatial_t), Rows(scalars, taps * size), taps, columns)
        else:
            step = p.spatial_t
            for column in range(columns):
                for t in range(taps):
                    value = read(code, first + column * stride_w + t * step)
                    write(computed, scalars + (column * taps + t) * size, value)

    @called
    def read_filters(p, b, y_row, y_column, scalars):
        spatial = p.spatial + b * p.spatial_b + y_row * p.spatial_h + y_column * p.spatial_w
        for head in range(p.heads):
            read_head(p, spatial + head * p.spatial_g, scalars + head * p.row_scalars)

    return read_filters


def _make_read_filters_around(o: Options) -> Any:
    """Read the weights that the pixels around give those of row i of x, (heads, columns, K), 0 without one."""
    code, computed, size, k = o.code, o.computed, o.size, o.k
    taps = k * k

    @inlined
    def read_tap(p, source, place, begin, end):
        spatial_w = p.spatial_w
        for column in range(begin):
            fill_zero(place + column * taps * size, size)
        for column in range(begin, end):
            write(computed, place + column * taps * size, read(code, source + column * spatial_w))
        for column in range(max(begin, end), p.columns):
            fill_zero(place + column * taps * size, size)

    @called
    def read_filters_around(p, b, i, scalars):
        padding = k // 2 * p.dilation
        for head in range(p.heads):
            first = p.spatial + b * p.spatial_b + head * p.spatial_g
            place = scalars + head * p.row_scalars
            for t in range(taps):
                row, shift = i - padding + t // k * p.dilation, t % k * p.dilation - padding
                begin, end = min(p.columns, max(0, -shift)), max(0, min(p.columns, p.columns - shift))
                if row < 0 or row >= p.rows:
                    begin, end = p.columns, p.columns
                source = first + (taps - 1 - t) * p.spatial_t + row * p.spatial_h + shift * p.spatial_w
                read_tap(p, source, place + t * size, begin, end)

    return read_filters_around


def _make_sum_tile(o: Options) -> Any:
    """Compute Eq. 2 for a tile of pixels and a block of channels whose tables are made."""
    items, size, taps = o.items, o.size, o.k * o.k
    data = o.computed if o.planar else o.code
    options = {"code": data, "combine": o.combine, "has_scalar": o.has_spatial, "has_vector": o.has_channel}

    if not o.k:
        sum_any = weighted_sum(**options)

        @inlined
        def sum_pixel(p, row, out, column, c, lanes, sources, scalars):
            tables = Tables(sources, scalars, row.vectors, c * row.source_c, c * size)
            place = out.address + column * out.w + c * out.c
            sum_any(p.kernel_size * p.kernel_size, tables, place, lanes)

        return sum_pixel

    sum_taps = weighted_sum_tile(**options, prefetches=1, k=o.k, items=items, step=o.step)

    @inlined
    def sum_tile(p, row, out, column, c, lanes, sources, scalars):
        place = out.address + column * out.w + c * out.c
        for item in range(items):
            write_address(row.outs + item * 8, place + item * out.w if column + item < out.width else row.spare)
        filters = Filters(scalars, taps * size, row.filters + c * size, row.pitch)
        sum_taps(sources, c * row.source_c, filters, row.outs, Ahead(row.source_ahead, row.out_ahead), lanes)

    return sum_tile


def _make_sum_row(o: Options) -> Any:
    """Compute Eq. 2 for a row of pixels whose tables are made."""
    k, items, step, size, sum_tile = o.k, o.items, o.step, o.size, _make_sum_tile(o)

    @inlined
    def sum_row(p, row, out):
        kernel_size = k or p.kernel_size
        taps, slots = kernel_size * kernel_size, kernel_size * ((items - 1) * step + kernel_size) * 8
        per_head = p.channels // p.heads
        for head in range(p.heads):
            for c in range(head * per_head, (head + 1) * per_head, CHANNELS):
                lanes = min(CHANNELS, (head + 1) * per_head - c)
                for tile in range((out.width + items - 1) // items):
                    scalars = row.scalars + head * p.row_scalars + tile * items * taps * size
                    sum_tile(p, row, out, tile * items, c, lanes, row.sources + tile * slots, scalars)

    return sum_row


def _make_forward_row(o: Options) -> Any:
    """Compute the outputs of a row of the grid."""
    k, has_spatial = o.k, o.has_spatial
    point_taps, read_filters, sum_row = _make_point_taps(o.k, o.items, o.step), _make_read_filters(o), _make_sum_row(o)

    @inlined
    def point_filters(p, filters, vectors):
        if not k:
            for t in range(p.kernel_size * p.kernel_size):
                write_address(vectors + t * 8, filters + t * p.pixel)

    @inlined
    def forward_row(p, scratch, b, row, x, y):
        r, scalars, vectors = p.scale, scratch + p.scalars, scratch + p.vectors
        point_taps(p, scratch, x, row, p.columns, p.stride)
        for phase in range(r * r):
            y_row, y_column = row * r + phase // r, phase % r
            if has_spatial:
                read_filters(p, b, y_row, y_column, scalars)
            taps = p.kernel_size * p.kernel_size
            filters = scratch + p.filters + (phase * taps if p.phases > 1 else 0) * p.pixel
            point_filters(p, filters, vectors)
            tables = RowTables(
                scratch + p.sources, scalars, vectors, filters, p.pixel, x.c, scratch + p.outs, scratch + p.result,
                p.stride * x.h, r * y.h,
            )  # fmt: skip
            out = y.address + y_row * y.h + y_column * y.w
            sum_row(p, tables, Map(out, y.c, y.h, r * y.w, 1, p.columns))

    return forward_row


def make_forward(*options: int) -> Any:
    """Compute y of Eq. 2 and of DDF-Up; `options` are those of `Options`."""
    o = Options(*options)
    stage_channel_filter, forward_row = _make_stage_channel_filter(o), _make_forward_row(o)
    read_x, staged, from_channels_last = _make_read_x(o), _make_staged(o), _make_from_channels_last(o.code)
    has_channel, planar = o.has_channel, o.planar

    @inlined
    def work_on(p, scratch, work):
        x, image, r = read_x(p, scratch, work), _y_image(p, work.sample), p.scale
        y = image
        if planar:
            y = staged(p, image, scratch + p.y_rows, work.first * r)
        for row in range(work.first, work.last):
            forward_row(p, scratch, work.sample, row, x, y)
        if planar:
            rows = (work.last - work.first) * r
            from_channels_last(scratch + p.y_rows, p.pixel, image, work.first * r, rows, p.channels)

    def forward(call):
        p = carray(call, 1)[0]
        scratch = _begin(p)
        staged = -1
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            work = _work_of(p, item)
            if has_channel and work.sample != staged:
                stage_channel_filter(p, work.sample, scratch + p.filters)
                staged = work.sample
            work_on(p, scratch, work)

    return forward


def _make_add_filter_gradients(o: Options, items: int) -> Any:
    """Add the gradients of the filters that a row of output pixels and one head make."""
    k, step, size, taps = o.k, o.step, o.size, o.k * o.k
    slots = (items - 1) * step + k
    add_tile = filter_gradients_tile(
        code=o.computed if o.planar else o.code,
        combine=o.combine,
        has_scalar=o.has_spatial,
        has_vector=o.has_channel,
        needs_scalar=o.needs_spatial,
        needs_vector=o.needs_channel,
        prefetches=1,
        k=k,
        items=items,
        step=step,
    )

    @inlined
    def point_grads(out, column, c, grads, zeros):
        place = out.address + column * out.w + c * out.c
        for item in range(items):
            write_address(grads + item * 8, place + item * out.w if column + item < out.width else zeros)

    @inlined
    def add_filter_gradients(p, scratch, head, out, source_c, filters, sums, ahead):
        per_head = p.channels // p.heads
        grads, zeros, sources = scratch + p.grads, scratch + p.planes, scratch + p.sources
        filters_pitch, tap = filters.vector_pitch, size
        for c in range(head * per_head, (head + 1) * per_head, CHANNELS):
            lanes = min(CHANNELS, (head + 1) * per_head - c)
            for tile in range((out.width + items - 1) // items):
                point_grads(out, tile * items, c, grads, zeros)
                for u in range(k):
                    scalar = (tile * items * taps + u * k) * tap
                    vector = u * k * filters_pitch + c * size
                    add_tile(
                        grads, sources + (tile * k + u) * slots * 8, c * source_c,
                        Filters(filters.scalars + scalar, taps * size, filters.vectors + vector, filters_pitch),
                        Filters(sums.scalars + scalar, taps * size, sums.vectors + vector, filters_pitch),
                        ahead, lanes,
                    )  # fmt: skip

    return add_filter_gradients


def _make_write_spatial_gradient(o: Options) -> Any:
    """Write a row of the spatial filter's gradient of one head, (columns, K)."""
    code, computed, element, size, taps = o.code, o.computed, o.element, o.size, o.k * o.k

    @called
    def write_spatial_gradient(p, b, head, y_row, y_column, sums):
        out = p.grad_spatial + b * p.grad_spatial_b + head * p.grad_spatial_g
        out += y_row * p.grad_spatial_h + y_column * p.grad_spatial_w
        pixel, source = p.scale * p.grad_spatial_w, Rows(sums, taps * size)
        if p.grad_spatial_t == element:
            copy_rows(computed, code, source, Rows(out, pixel), p.columns, taps)
        elif pixel == element:
            transpose(computed, code, source, Rows(out, p.grad_spatial_t), p.columns, taps)
        else:
            for column in range(p.columns):
                for t in range(taps):
                    place = out + column * pixel + t * p.grad_spatial_t
                    write(code, place, read(computed, sums + (column * taps + t) * size))

    return write_spatial_gradient


def _make_filter_gradients(o: Options) -> Any:
    """Compute the filters' gradients: those of the channel filter as one sum per work item."""
    k, size, taps = o.k, o.size, o.k * o.k
    needs_channel, needs_spatial, reads_filters = o.needs_channel, o.needs_spatial, o.has_spatial and o.needs_channel
    items = o.items if k <= 3 else min(o.items, 4) if k <= 5 else 1  # whose sums fit the registers
    read_x, point_taps, read_filters = _make_read_x(o), _make_point_taps(k, items, o.step), _make_read_filters(o)
    add_filter_gradients, write_spatial_gradient = _make_add_filter_gradients(o, items), _make_write_spatial_gradient(o)

    @inlined
    def read_scalars(p, b, y_row, y_column, scalars):
        read_filters(p, b, y_row, y_column, scalars)
        if p.columns % items:  # the pixels that the last tile lacks
            lacking = (items - p.columns % items) * taps * size
            for head in range(p.heads):
                fill_zero(scalars + head * p.row_scalars + p.columns * taps * size, lacking)

    @inlined
    def head_gradients(p, scratch, work, head, pixels, source_c, vectors, ahead):
        """Compute the gradients of the output pixels of one row and phase."""
        scalars, sums = scratch + p.scalars + head * p.row_scalars, scratch + p.sums + head * p.row_scalars
        filters = Filters(scalars, taps * size, vectors.scalars, p.pixel)
        grads = Filters(sums, taps * size, vectors.vectors, p.pixel)
        add_filter_gradients(p, scratch, head, pixels, source_c, filters, grads, ahead)

    @inlined
    def row_gradients(p, scratch, work, row, phase, x, grad_y, partial):
        r, b = p.scale, work.sample
        y_row, y_column = row * r + phase // r, phase % r
        if reads_filters:
            read_scalars(p, b, y_row, y_column, scratch + p.scalars)
        if needs_spatial:
            fill_zero(scratch + p.sums, p.heads * p.row_scalars)
        own = (phase * taps if p.phases > 1 else 0) * p.pixel
        out = grad_y.address + y_row * grad_y.h + y_column * grad_y.w
        pixels = Map(out, grad_y.c, grad_y.h, r * grad_y.w, 1, p.columns)
        vectors = Filters(scratch + p.filters + own, 0, partial + own, 0)
        for head in range(p.heads):
            head_gradients(p, scratch, work, head, pixels, x.c, vectors, Ahead(p.stride * x.h, r * grad_y.h))
            if needs_spatial:
                write_spatial_gradient(p, b, head, y_row, y_column, scratch + p.sums + head * p.row_scalars)

    @inlined
    def filter_gradients(p, scratch, work, grad_y, partial):
        x = read_x(p, scratch, work)
        if needs_channel:
            fill_zero(partial, p.phases * taps * p.pixel)
        for row in range(work.first, work.last):
            point_taps(p, scratch, x, row, p.columns, p.stride)
            for phase in range(p.scale * p.scale):
                row_gradients(p, scratch, work, row, phase, x, grad_y, partial)

    return filter_gradients


def _make_plain_x_gradient(o: Options) -> Any:
    """Compute the gradient of x for stride and scale factor 1: Eq. 2 with the filters of the pixels around."""
    has_spatial, taps = o.has_spatial, o.k * o.k
    point_taps, sum_row = _make_point_taps(o.k, o.items, o.step), _make_sum_row(o)
    read_filters_around = _make_read_filters_around(o)

    @inlined
    def x_gradient(p, scratch, work, grad_y, grad_x):
        tables = RowTables(
            scratch + p.sources, scratch + p.scalars, scratch + p.vectors, scratch + p.filters + (taps - 1) * p.pixel,
            -p.pixel, grad_y.c, scratch + p.outs, scratch + p.result, grad_y.h, grad_x.h,
        )  # fmt: skip
        for i in range(work.first, work.last):
            point_taps(p, scratch, grad_y, i, p.width, 1)
            if has_spatial:
                read_filters_around(p, work.sample, i, scratch + p.scalars)
            out = grad_x.address + i * grad_x.h
            sum_row(p, tables, Map(out, grad_x.c, grad_x.h, grad_x.w, 1, p.width))

    return x_gradient


def _make_collect_outputs(o: Options) -> Any:
    """Fill the tables of what a pixel (i, j) of x takes part in: output gradients and their filters."""
    code, computed, size, k = o.code, o.computed, o.size, o.k
    has_channel, has_spatial = o.has_channel, o.has_spatial

    @inlined
    def collect_tap(p, scratch, spatial, grad_y, row, column, t, n):
        r = p.scale
        for phase in range(r * r):
            y_row, y_column = row * r + phase // r, column * r + phase % r
            place = grad_y.address + y_row * grad_y.h + y_column * grad_y.w
            write_address(scratch + p.sources + (n + phase) * 8, place)
            if has_channel:
                own = (phase if p.phases > 1 else 0) * k * k + t
                write_address(scratch + p.vectors + (n + phase) * 8, scratch + p.filters + own * p.pixel)
            if has_spatial:
                at = y_row * p.spatial_h + y_column * p.spatial_w + t * p.spatial_t
                write(computed, scratch + p.scalars + (n + phase) * size, read(code, spatial + at))

    @called
    def collect_outputs(p, scratch, spatial, grad_y, i, j):
        stride, padding = p.stride, k // 2 * p.dilation
        n = 0
        for u in range(k):
            row = i + padding - u * p.dilation
            if row < 0 or row % stride != 0 or row // stride >= p.rows:
                continue
            for v in range(k):
                column = j + padding - v * p.dilation
                if column >= 0 and column % stride == 0 and column // stride < p.columns:
                    collect_tap(p, scratch, spatial, grad_y, row // stride, column // stride, u * k + v, n)
                    n += p.scale * p.scale
        return n

    return collect_outputs


def _make_scattered_x_gradient(o: Options) -> Any:
    """Compute the gradient of x for any stride and scale factor, pixel by pixel."""
    size, collect_outputs = o.size, _make_collect_outputs(o)
    sum_any = weighted_sum(
        code=o.computed if o.planar else o.code,
        combine=o.combine,
        has_scalar=o.has_spatial,
        has_vector=o.has_channel,
    )

    @inlined
    def pixel_gradient(p, scratch, b, i, j, grad_y, grad_x):
        per_head = p.channels // p.heads
        for head in range(p.heads):
            n = collect_outputs(p, scratch, p.spatial + b * p.spatial_b + head * p.spatial_g, grad_y, i, j)
            c = head * per_head
            sources, scalars, vectors = scratch + p.sources, scratch + p.scalars, scratch + p.vectors
            tables = Tables(sources, scalars, vectors, c * grad_y.c, c * size)
            sum_any(n, tables, grad_x.address + i * grad_x.h + j * grad_x.w + c * grad_x.c, per_head)

    @inlined
    def x_gradient(p, scratch, work, grad_y, grad_x):
        for i in range(work.first * p.stride, min(work.last * p.stride, p.height)):
            for j in range(p.width):
                pixel_gradient(p, scratch, work.sample, i, j, grad_y, grad_x)

    return x_gradient


def _make_gradient_of_x(o: Options) -> Any:
    """Write a work item's rows of the gradient of x."""
    x_gradient = _make_plain_x_gradient(o) if o.plain else _make_scattered_x_gradient(o)
    staged, from_channels_last = _make_staged(o), _make_from_channels_last(o.code)

    @inlined
    def gradient_of_x(p, scratch, work, grad_y):
        image, first = _grad_x_image(p, work.sample), work.first * p.stride
        x_gradient(p, scratch, work, grad_y, staged(p, image, scratch + p.grad_x_rows, first))
        rows = min(work.last * p.stride, p.height) - first
        from_channels_last(scratch + p.grad_x_rows, p.pixel, image, first, rows, p.channels)

    @inlined
    def gradient_of_x_in_place(p, scratch, work, grad_y):
        x_gradient(p, scratch, work, grad_y, _grad_x_image(p, work.sample))

    return gradient_of_x if o.planar else gradient_of_x_in_place


def make_backward(*options: int) -> Any:
    """Compute the gradients asked for; that of the channel filter in part, one sum per work item.

    `options` are those of `Options`, with k > 0.
    """
    o = Options(*options)
    stage_channel_filter, read_grad_y = _make_stage_channel_filter(o), _make_read_grad_y(o)
    filter_gradients, gradient_of_x = _make_filter_gradients(o), _make_gradient_of_x(o)
    has_channel, needs_x, needs_filters = o.has_channel, o.needs_x, o.needs_channel or o.needs_spatial

    def backward(call):
        p = carray(call, 1)[0]
        scratch = _begin(p)
        staged = -1
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            work = _work_of(p, item)
            if has_channel and work.sample != staged:
                stage_channel_filter(p, work.sample, scratch + p.filters)
                staged = work.sample
            grad_y = read_grad_y(p, scratch, work)
            if needs_filters:
                filter_gradients(p, scratch, work, grad_y, p.partial + item * p.phases * p.kernel_size**2 * p.pixel)
            if needs_x:
                gradient_of_x(p, scratch, work, grad_y)

    return backward


def make_reduce(code: int) -> Any:
    """Sum grad_channel_filter from the sums (blocks, phases, K, C) of each sample's work items."""
    computed = compute_code(code)
    size, element = element_size(computed), element_size(code)

    @inlined
    def write_gradient(p, sums, out):
        k, pitch = p.kernel_size, p.pixel
        if p.grad_channel_v == element and p.grad_channel_u == k * element:
            transpose(computed, code, Rows(sums, pitch), Rows(out, p.grad_channel_c), k * k, p.channels)
        else:
            for t in range(k * k):
                for c in range(p.channels):
                    place = out + t // k * p.grad_channel_u + t % k * p.grad_channel_v + c * p.grad_channel_c
                    write(code, place, read(computed, sums + t * pitch + c * size))

    def reduce(call):
        p = carray(call, 1)[0]
        taps, pitch = p.kernel_size * p.kernel_size, p.pixel
        block = p.phases * taps * pitch  # bytes of a work item's sums
        for _ in range(p.batch * p.phases):
            n = take_next(p.sums_begun)
            if n >= p.batch * p.phases:
                break
            b, phase = n // p.phases, n % p.phases
            sums = p.partial + b * p.blocks * block + phase * taps * pitch
            for other in range(1, p.blocks):
                add_lanes(computed, sums + other * block, sums, taps * pitch // size)
            write_gradient(p, sums, p.grad_channel + b * p.grad_channel_b + phase * p.grad_channel_p)

    return reduce
