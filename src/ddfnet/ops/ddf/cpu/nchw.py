"""CPU kernels for NCHW, and for any other strides: lanes are pixels, so a channel's filter is K scalars.

A work item is a block of grid rows of one sample. What it reads is first staged in scratch that stays in cache, as
numbers of the computing type: the block's spatial filters once for all channels of a head, then of each channel the
rows of x (or of the gradient) with zeros around. Staged rows follow one another `pitch` lanes apart, so that a tap is
one offset for all lanes of the block, and the zeros right of one row are those left of the next. Strided inputs are
staged as s*s planes, upsampled outputs as r*r planes, one for each phase; then every step in a plane is by one lane.

A function `_make_...` closes a piece of a kernel over what is known when the kernel is compiled.
"""

# numba types these functions from their calls.
# mypy: disable-error-code="no-untyped-def"

from functools import cache
from typing import Any, NamedTuple

from ddfnet.ops.cpu.compiling import called, carray, inlined
from ddfnet.ops.cpu.intrinsics import Rows, copy_rows, fill_zero, read, read_address, take_next, write, write_address
from ddfnet.ops.cpu.vectors import compute_code, element_size
from ddfnet.ops.ddf.cpu.call import Options
from ddfnet.ops.ddf.cpu.loops import Ahead, Filters, Tables, filter_gradients_tile, weighted_sum, weighted_sum_tile


class Work(NamedTuple):
    """A work item, by number: `rows` grid rows of a sample."""

    item: Any
    sample: Any
    first: Any
    rows: Any
    windows: Any  # how many parts of x it stages, see `_plan_windows`


@inlined
def _begin(p):
    """Take a thread's part of the scratch."""
    return p.scratch + take_next(p.threads_begun) * p.scratch_bytes


def _make_plan_work(o: Options) -> Any:
    """Find out what item number `item` is."""
    size = o.size

    @called
    def plan_windows(p, first, rows, windows):
        """Fill a table of the parts of x that a block needs, the same for all channels; return their number.

        There is one part for each phase of the stride that a tap can have, and each has a plane. An entry holds the
        offset in x, that in the planes, the rows and the columns. What lies outside the image is never staged: it was
        cleared for the item.
        """
        stride = p.stride
        padding, reach = p.padding, (p.kernel_size - 1) * p.dilation
        phases = min(stride, reach + 1)
        for phase in range(phases):
            top = max(0, -((first * stride + phase - padding) // stride))  # the first staged row inside the image
            i = (first + top) * stride + phase - padding
            height = max(0, min(rows + reach // stride - top, (p.height - 1 - i) // stride + 1))
            for column_phase in range(phases):
                left = max(0, -((column_phase - padding) // stride))
                j = left * stride + column_phase - padding
                width = max(0, min((p.width - 1 - j) // stride + 1, p.pitch - left))
                at = (phase * stride + column_phase) * p.plane + top * p.pitch + left
                entry = windows + (phase * phases + column_phase) * 32
                write_address(entry, i * p.x_h + j * p.x_w)
                write_address(entry + 8, at * size)
                write_address(entry + 16, height)
                write_address(entry + 24, width)
        return phases * phases

    @inlined
    def plan_work(p, item, windows):
        first = item % p.blocks * p.block
        rows = min(p.block, p.rows - first)
        return Work(item, item // p.blocks, first, rows, plan_windows(p, first, rows, windows))

    return plan_work


@cache
def _make_stage(code: int) -> Any:
    """Copy `rows` rows of `count` elements that lie `step` bytes apart to lanes of the computing type."""
    computed, element = compute_code(code), element_size(code)
    size = element_size(computed)

    @called
    def stage(source, step, out, rows, count):
        if step == element:
            copy_rows(code, computed, source, out, rows, count)
        else:
            for row in range(rows):
                for n in range(count):
                    value = read(code, source.address + row * source.pitch + n * step)
                    write(computed, out.address + row * out.pitch + n * size, value)

    return stage


@cache
def _make_unstage(code: int) -> Any:
    """Reverse `_make_stage`."""
    computed, element = compute_code(code), element_size(code)
    size = element_size(computed)

    @called
    def unstage(source, out, step, rows, count):
        if step == element:
            copy_rows(computed, code, source, out, rows, count)
        else:
            for row in range(rows):
                for n in range(count):
                    value = read(computed, source.address + row * source.pitch + n * size)
                    write(code, out.address + row * out.pitch + n * step, value)

    return unstage


def _make_stage_x(o: Options) -> Any:
    """Stage the rows of x that the block's taps touch, of channels `c` to `c + count`."""
    size, stage = o.size, _make_stage(o.code)

    @inlined
    def stage_windows(p, x, count, windows, planes):
        x_h, x_w, pitch = p.x_h * p.stride, p.x_w * p.stride, p.pitch * size
        for n in range(count):
            source, out = x + read_address(windows + n * 32), planes + read_address(windows + n * 32 + 8)
            height, width = read_address(windows + n * 32 + 16), read_address(windows + n * 32 + 24)
            stage(Rows(source, x_h), x_w, Rows(out, pitch), height, width)

    @called
    def stage_x(p, scratch, work, c, count):
        image = p.stride * p.stride * p.plane * size
        for each in range(count):
            x = p.x + work.sample * p.x_b + (c + each) * p.x_c
            stage_windows(p, x, work.windows, scratch + p.windows, scratch + p.planes + each * image)

    return stage_x


def _make_point_taps(o: Options) -> Any:
    """Fill the tables of a tile: the first lane's source for each tap of each channel, and its filters."""
    size, items = o.size, o.items

    @called
    def point_taps(p, planes, filters, sources, vectors):
        k, stride = p.kernel_size, p.stride
        for t in range(k * k):
            row, column = t // k * p.dilation, t % k * p.dilation
            own = row % stride * stride + column % stride
            at = own * p.plane + row // stride * p.pitch + column // stride
            for item in range(items):
                place = t // k * items * k + item * k + t % k
                write_address(sources + place * 8, planes + (item * stride * stride * p.plane + at) * size)
            write_address(vectors + t * 8, filters + t * p.lanes * size)

    return point_taps


def _make_read_scalars(o: Options) -> Any:
    """Fill (phases, items, K) channel filters, 0 for channels that are not `present`."""
    code, computed, size, element, items = o.code, o.computed, o.size, o.element, o.items

    @inlined
    def read_filter(p, first, out):
        k = p.kernel_size
        for t in range(k * k):
            write(computed, out + t * size, read(code, first + t // k * p.channel_u + t % k * p.channel_v))

    @called
    def read_scalars(p, present, b, c, scalars):
        k = p.kernel_size
        taps = k * k
        for phase in range(p.phases):
            first = p.channel + b * p.channel_b + phase * p.channel_p + c * p.channel_c
            out = scalars + phase * items * taps * size
            fill_zero(out + present * taps * size, (items - present) * taps * size)
            if p.channel_v == element and p.channel_u == k * element:
                copy_rows(code, computed, Rows(first, p.channel_c), Rows(out, taps * size), present, taps)
            else:
                for item in range(present):
                    read_filter(p, first + item * p.channel_c, out + item * taps * size)

    return read_scalars


def _make_stage_filters(o: Options) -> Any:
    """Read a block's spatial filters of a head, (phases, K, lanes)."""
    size, stage = o.size, _make_stage(o.code)

    @called
    def stage_filters(p, filters, work, head):
        r = p.scale
        taps = p.kernel_size * p.kernel_size
        for phase in range(r * r):
            row = work.first * r + phase // r
            for t in range(taps):
                base = p.spatial + work.sample * p.spatial_b + head * p.spatial_g + t * p.spatial_t
                source = Rows(base + row * p.spatial_h + phase % r * p.spatial_w, r * p.spatial_h)
                out = Rows(filters + (phase * taps + t) * p.lanes * size, p.pitch * size)
                stage(source, r * p.spatial_w, out, work.rows, p.columns)

    return stage_filters


def _make_sum_phase(o: Options) -> Any:
    """Compute the outputs of one phase for a tile of channels that begins `each` channels after the staged group."""
    k, size, items, has_channel = o.k, o.size, o.items, o.has_channel
    options = {"code": o.computed, "combine": o.combine, "has_scalar": has_channel, "has_vector": o.has_spatial}

    if not k:
        sum_any = weighted_sum(**options)

        @inlined
        def sum_any_taps(p, scratch, work, scalars, vector, offset, out):
            tables = Tables(scratch + p.sources, scalars, scratch + p.vectors, offset, vector)
            sum_any(p.kernel_size * p.kernel_size, tables, out, work.rows * p.pitch)

        return sum_any_taps

    sum_tile = weighted_sum_tile(**options, prefetches=0, k=k, items=items, step=k)

    @inlined
    def sum_taps(p, scratch, work, scalars, vector, offset, out):
        lanes, outs = p.lanes * size, scratch + p.outs
        for item in range(items):
            write_address(outs + item * 8, out + item * lanes)
        filters = Filters(scalars, k * k * size, scratch + p.filters + vector, lanes)
        sum_tile(scratch + p.sources, offset, filters, outs, Ahead(0, 0), work.rows * p.pitch)

    return sum_taps


def _make_forward_group(o: Options) -> Any:
    """Compute the outputs of channels `c` to `c + count`, staged together."""
    size, items, has_channel = o.size, o.items, o.has_channel
    stage_x, unstage = _make_stage_x(o), _make_unstage(o.code)
    read_scalars, sum_phase = _make_read_scalars(o), _make_sum_phase(o)

    @inlined
    def sum_tiles(p, scratch, work, c, count):
        r, taps, lanes = p.scale, p.kernel_size * p.kernel_size, p.lanes * size
        image, scalars = p.stride * p.stride * p.plane * size, scratch + p.scalars
        for each in range(0, count, items):
            if has_channel:
                read_scalars(p, min(items, count - each), work.sample, c + each, scalars)
            for phase in range(r * r):
                own = scalars + (phase if p.phases > 1 else 0) * items * taps * size
                out = scratch + p.result + (each + phase * p.group * items) * lanes
                sum_phase(p, scratch, work, own, phase * taps * lanes, each * image, out)

    @inlined
    def forward_group(p, scratch, work, c, count):
        r, lanes = p.scale, p.lanes * size
        stage_x(p, scratch, work, c, count)
        sum_tiles(p, scratch, work, c, count)
        for phase in range(r * r):
            done = scratch + p.result + phase * p.group * items * lanes
            out = p.y + work.sample * p.y_b + c * p.y_c + (work.first * r + phase // r) * p.y_h + phase % r * p.y_w
            for each in range(count):
                source, target = Rows(done + each * lanes, p.pitch * size), Rows(out + each * p.y_c, r * p.y_h)
                unstage(source, target, r * p.y_w, work.rows, p.columns)

    return forward_group


def make_forward(*options: int) -> Any:
    """Compute y of Eq. 2 and of DDF-Up; `options` are those of `Options`."""
    o = Options(*options)
    plan_work, point_taps, stage_filters = _make_plan_work(o), _make_point_taps(o), _make_stage_filters(o)
    forward_group, size, items, has_spatial = _make_forward_group(o), o.size, o.items, o.has_spatial

    @inlined
    def work_on(p, scratch, work):
        group, per_head = p.group * items, p.channels // p.heads
        fill_zero(scratch + p.planes, group * p.stride * p.stride * p.plane * size)
        for head in range(p.heads):
            if has_spatial:
                stage_filters(p, scratch + p.filters, work, head)
            end = (head + 1) * per_head
            for c in range(head * per_head, end, group):
                forward_group(p, scratch, work, c, min(group, end - c))

    def forward(call):
        p = carray(call, 1)[0]
        scratch = _begin(p)
        point_taps(p, scratch + p.planes, scratch + p.filters, scratch + p.sources, scratch + p.vectors)
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            work_on(p, scratch, plan_work(p, item, scratch + p.windows))

    return forward


def _make_shift_filters(o: Options) -> Any:
    """Move the filter beside each pixel of the output's gradient to the pixel of x that it serves; 0 without one."""
    size, k, stage = o.size, o.k, _make_stage(o.code)
    taps = k * k

    @inlined
    def shift_tap(p, work, base, t, out):
        stride, r, padding = p.stride, p.scale, k // 2 * p.dilation
        down, right = -((t // k * p.dilation - padding) // stride), -((t % k * p.dilation - padding) // stride)
        upper, lower = max(0, -work.first - down), min(work.rows, p.rows - work.first - down)
        begin, end = max(0, -right), min(p.columns, p.columns - right)
        fill_zero(out, p.lanes * size)
        if upper < lower and begin < end:
            row, column = (work.first + upper + down) * r, (begin + right) * r
            source = Rows(base + row * p.spatial_h + column * p.spatial_w, r * p.spatial_h)
            target = Rows(out + (upper * p.pitch + begin) * size, p.pitch * size)
            stage(source, r * p.spatial_w, target, lower - upper, end - begin)

    @called
    def shift_filters(p, shifted, work, head):
        r = p.scale
        for phase in range(r * r):
            for t in range(taps):
                base = p.spatial + work.sample * p.spatial_b + head * p.spatial_g + t * p.spatial_t
                base += phase // r * p.spatial_h + phase % r * p.spatial_w
                shift_tap(p, work, base, t, shifted + (phase * taps + t) * p.lanes * size)

    return shift_filters


def _make_stage_grads(o: Options) -> Any:
    """Stage the output's gradient of channels `c` to `c + count`, with the rows around whose taps reach the block."""
    size, k, stage = o.size, o.k, _make_stage(o.code)

    @called
    def stage_grads(p, scratch, work, c, count):
        r, halo = p.scale, (k // 2 * p.dilation + p.stride - 1) // p.stride
        top, bottom = max(-halo, -work.first), min(work.rows + halo, p.rows - work.first)
        for each in range(count):
            image = scratch + p.grad_planes + each * r * r * p.grad_plane * size
            out = image + ((top + halo) * p.pitch + halo) * size
            base = p.y + work.sample * p.y_b + (c + each) * p.y_c + (work.first + top) * r * p.y_h
            for phase in range(r * r):
                source = Rows(base + phase // r * p.y_h + phase % r * p.y_w, r * p.y_h)
                target = Rows(out + phase * p.grad_plane * size, p.pitch * size)
                stage(source, r * p.y_w, target, bottom - top, p.columns)

    return stage_grads


def _make_filter_gradients(o: Options) -> Any:
    """Add what a tile of channels makes of the filters' gradients."""
    size, items, k = o.size, o.items, o.k
    taps = k * k
    add_row = filter_gradients_tile(
        code=o.computed,
        combine=o.combine,
        has_scalar=o.has_channel,
        has_vector=o.has_spatial,
        needs_scalar=o.needs_channel,
        needs_vector=o.needs_spatial,
        prefetches=0,
        k=k,
        items=items,
        step=k,
    )

    @inlined
    def filter_gradients(p, scratch, work, tile):
        r, lanes, grads = p.scale, p.lanes * size, scratch + p.grads
        grad_image, image = r * r * p.grad_plane * size, p.stride * p.stride * p.plane * size
        halo = (k // 2 * p.dilation + p.stride - 1) // p.stride
        for phase in range(r * r):
            own = scratch + p.scalars + (phase if p.phases > 1 else 0) * items * taps * size
            sums = scratch + p.sums + phase * items * taps * size
            grad = scratch + p.grad_planes + tile * grad_image
            grad += (phase * p.grad_plane + halo * p.pitch + halo) * size
            for each in range(items):
                write_address(grads + each * 8, grad + each * grad_image)
            for u in range(k):
                vector = (phase * taps + u * k) * lanes
                add_row(
                    grads, scratch + p.x_sources + u * items * k * 8, tile * image,
                    Filters(own + u * k * size, taps * size, scratch + p.filters + vector, lanes),
                    Filters(sums + u * k * size, taps * size, scratch + p.grad_filters + vector, lanes),
                    Ahead(0, 0), work.rows * p.pitch,
                )  # fmt: skip

    return filter_gradients


def _make_write_channel_sums(o: Options) -> Any:
    """Write a tile's sums of the channel filter's gradient, added over the phases that share a filter."""
    computed, size, items, taps = o.computed, o.size, o.items, o.k * o.k

    @inlined
    def write_sum(p, sums, out):
        total: Any = read(computed, sums)
        if p.phases == 1:
            for other in range(1, p.scale * p.scale):
                total += read(computed, sums + other * items * taps * size)
        write(computed, out, total)

    @called
    def write_channel_sums(p, sums, work, c, present):
        partial = p.partial + (work.item * p.phases * taps * p.channels + c) * size
        for phase in range(p.phases):
            for each in range(present):
                for t in range(taps):
                    out = partial + ((phase * taps + t) * p.channels + each) * size
                    write_sum(p, sums + ((phase * items + each) * taps + t) * size, out)

    return write_channel_sums


def _make_plain_x_gradient(o: Options) -> Any:
    """Compute the gradient of x of a tile of channels, for stride and scale factor 1: Eq. 2 with the filters around."""
    computed, size, items, taps, has_channel = o.computed, o.size, o.items, o.k * o.k, o.has_channel
    sum_tile = weighted_sum_tile(
        code=computed,
        combine=o.combine,
        has_scalar=has_channel,
        has_vector=o.has_spatial,
        prefetches=0,
        k=o.k,
        items=items,
        step=o.k,
    )

    @inlined
    def reverse_scalars(p, scalars, reversed_scalars):
        for each in range(items):
            for t in range(taps):
                value = read(computed, scalars + (each * taps + taps - 1 - t) * size)
                write(computed, reversed_scalars + (each * taps + t) * size, value)

    @inlined
    def x_gradient(p, scratch, work, c, tile, present):
        lanes, outs, scalars = p.lanes * size, scratch + p.outs, scratch + p.grad_scalars
        if has_channel:
            reverse_scalars(p, scratch + p.scalars, scalars)
        for each in range(items):
            write_address(outs + each * 8, scratch + p.result + (tile + each) * lanes)
        filters = Filters(scalars, taps * size, scratch + p.shifted + (taps - 1) * lanes, -lanes)
        sum_tile(scratch + p.sources, tile * p.grad_plane * size, filters, outs, Ahead(0, 0), work.rows * p.pitch)

    return x_gradient


def _make_collect_outputs(o: Options) -> Any:
    """Fill the tables of what the pixels of x of one phase take part in: output gradients and their filters."""
    computed, size, items, k, has_channel = o.computed, o.size, o.items, o.k, o.has_channel
    taps = k * k

    @inlined
    def collect_tap(p, scratch, grad, each, t, n):
        for phase in range(p.scale * p.scale):
            vector = (phase * taps + t) * p.lanes * size
            write_address(scratch + p.sources + (n + phase) * 8, grad + phase * p.grad_plane * size)
            write_address(scratch + p.grad_vectors + (n + phase) * 8, scratch + p.shifted + vector)
            if has_channel:
                own = (phase if p.phases > 1 else 0) * items + each
                value = read(computed, scratch + p.scalars + (own * taps + t) * size)
                write(computed, scratch + p.grad_scalars + (n + phase) * size, value)

    @called
    def collect_outputs(p, scratch, x_phase, tile, each):
        stride, padding = p.stride, k // 2 * p.dilation
        halo = (padding + stride - 1) // stride
        plane = scratch + p.grad_planes + (tile + each) * p.scale * p.scale * p.grad_plane * size
        n = 0
        for t in range(taps):
            row = x_phase // stride + padding - t // k * p.dilation
            column = x_phase % stride + padding - t % k * p.dilation
            if row % stride == 0 and column % stride == 0:
                at = (row // stride + halo) * p.pitch + column // stride + halo
                collect_tap(p, scratch, plane + at * size, each, t, n)
                n += p.scale * p.scale
        return n

    return collect_outputs


def _make_scattered_x_gradient(o: Options) -> Any:
    """Compute the gradient of x of a tile of channels, for any stride and scale factor, phase by phase of the stride."""
    size, unstage, collect_outputs = o.size, _make_unstage(o.code), _make_collect_outputs(o)
    sum_any = weighted_sum(code=o.computed, combine=o.combine, has_scalar=o.has_channel, has_vector=o.has_spatial)

    @inlined
    def sum_phase(p, scratch, work, x_phase, tile, each):
        n = collect_outputs(p, scratch, x_phase, tile, each)
        tables = Tables(scratch + p.sources, scratch + p.grad_scalars, scratch + p.grad_vectors, 0, 0)
        sum_any(n, tables, scratch + p.result, work.rows * p.pitch)

    @inlined
    def x_gradient(p, scratch, work, c, tile, present):
        stride = p.stride
        for x_phase in range(stride * stride):
            i, j = work.first * stride + x_phase // stride, x_phase % stride
            height, width = min(work.rows, (p.height - 1 - i) // stride + 1), (p.width - 1 - j) // stride + 1
            out = p.grad_x + work.sample * p.grad_x_b + (c + tile) * p.grad_x_c + i * p.grad_x_h + j * p.grad_x_w
            for each in range(present):
                sum_phase(p, scratch, work, x_phase, tile, each)
                target = Rows(out + each * p.grad_x_c, stride * p.grad_x_h)
                unstage(Rows(scratch + p.result, p.pitch * size), target, stride * p.grad_x_w, height, width)

    return x_gradient


def _make_write_plain_x_gradient(o: Options) -> Any:
    """Write the gradient of x of channels `c` to `c + count` that `_make_plain_x_gradient` leaves in scratch."""
    size, unstage = o.size, _make_unstage(o.code)

    @inlined
    def write_x_gradient(p, scratch, work, c, count):
        out = p.grad_x + work.sample * p.grad_x_b + c * p.grad_x_c + work.first * p.grad_x_h
        for each in range(count):
            source = Rows(scratch + p.result + each * p.lanes * size, p.pitch * size)
            unstage(source, Rows(out + each * p.grad_x_c, p.grad_x_h), p.grad_x_w, work.rows, p.width)

    return write_x_gradient


def _make_write_spatial_gradient(o: Options) -> Any:
    """Write a block's gradient of the spatial filters of a head."""
    size, taps, unstage = o.size, o.k * o.k, _make_unstage(o.code)

    @called
    def write_spatial_gradient(p, scratch, work, head):
        r = p.scale
        for phase in range(r * r):
            for t in range(taps):
                out = p.grad_spatial + work.sample * p.grad_spatial_b + head * p.grad_spatial_g + t * p.grad_spatial_t
                out += (work.first * r + phase // r) * p.grad_spatial_h + phase % r * p.grad_spatial_w
                source = Rows(scratch + p.grad_filters + (phase * taps + t) * p.lanes * size, p.pitch * size)
                unstage(source, Rows(out, r * p.grad_spatial_h), r * p.grad_spatial_w, work.rows, p.columns)

    return write_spatial_gradient


def _make_tile_gradients(o: Options) -> Any:
    """Compute the gradients of a tile of channels that begins `tile` channels after the staged group's first, `c`."""
    size, items, taps = o.size, o.items, o.k * o.k
    needs_x, needs_channel, needs_filters = o.needs_x, o.needs_channel, o.needs_channel or o.needs_spatial
    has_channel, read_scalars, filter_gradients = o.has_channel, _make_read_scalars(o), _make_filter_gradients(o)
    write_channel_sums = _make_write_channel_sums(o)
    x_gradient = _make_plain_x_gradient(o) if o.plain else _make_scattered_x_gradient(o)

    @inlined
    def tile_gradients(p, scratch, work, c, tile, count):
        present = min(items, count - tile)
        if has_channel:
            read_scalars(p, present, work.sample, c + tile, scratch + p.scalars)
        if needs_channel:
            fill_zero(scratch + p.sums, p.scale * p.scale * items * taps * size)
        if needs_filters:
            filter_gradients(p, scratch, work, tile)
        if needs_channel:
            write_channel_sums(p, scratch + p.sums, work, c + tile, present)
        if needs_x:
            x_gradient(p, scratch, work, c, tile, present)

    return tile_gradients


def _make_backward_group(o: Options) -> Any:
    """Compute the gradients of channels `c` to `c + count`, staged together."""
    size, items, needs_filters, writes_x = o.size, o.items, o.needs_channel or o.needs_spatial, o.needs_x and o.plain
    stage_grads, stage_x, tile_gradients = _make_stage_grads(o), _make_stage_x(o), _make_tile_gradients(o)
    write_x_gradient = _make_write_plain_x_gradient(o)

    @inlined
    def backward_group(p, scratch, work, c, count):
        grad_image, image = p.scale * p.scale * p.grad_plane * size, p.stride * p.stride * p.plane * size
        stage_grads(p, scratch, work, c, count)
        if needs_filters:
            stage_x(p, scratch, work, c, count)
        for each in range(count, (count + items - 1) // items * items):  # what the last tile lacks
            fill_zero(scratch + p.grad_planes + each * grad_image, grad_image)
            if needs_filters:
                fill_zero(scratch + p.planes + each * image, image)
        for tile in range(0, count, items):
            tile_gradients(p, scratch, work, c, tile, count)
        if writes_x:
            write_x_gradient(p, scratch, work, c, count)

    return backward_group


def _make_begin_backward(o: Options) -> Any:
    """Fill the tables that are the same for all work items, and clear what is staged over."""
    size, items, k, plain = o.size, o.items, o.k, o.plain
    taps, point_taps, weighs = k * k, _make_point_taps(o), _weighs(o)

    @inlined
    def begin_backward(p):
        scratch = _begin(p)
        point_taps(p, scratch + p.planes, scratch + p.filters, scratch + p.x_sources, scratch + p.vectors)
        if plain:
            for t in range(taps):
                at = t // k * p.dilation * p.pitch + t % k * p.dilation
                for each in range(items):
                    place = scratch + p.sources + (t // k * items * k + each * k + t % k) * 8
                    write_address(place, scratch + p.grad_planes + (each * p.grad_plane + at) * size)
        if weighs:
            fill_zero(scratch + p.filters, p.scale * p.scale * taps * p.lanes * size)
        return scratch

    return begin_backward


def _weighs(o: Options) -> bool:
    """True if the channel filter's gradient is weighed with the spatial filter."""
    return bool(o.has_spatial and o.needs_channel and o.has_channel and o.combine == 0)


def make_backward(*options: int) -> Any:
    """Compute the gradients asked for; that of the channel filter in part, one sum per work item.

    `options` are those of `Options`, with k > 0.
    """
    o = Options(*options)
    size, items, taps = o.size, o.items, o.k * o.k
    needs_spatial, needs_filters, weighs = o.needs_spatial, o.needs_channel or o.needs_spatial, _weighs(o)
    shifts = o.has_spatial and o.needs_x
    begin_backward, plan_work = _make_begin_backward(o), _make_plan_work(o)
    stage_filters, shift_filters = _make_stage_filters(o), _make_shift_filters(o)
    backward_group, write_spatial_gradient = _make_backward_group(o), _make_write_spatial_gradient(o)

    @inlined
    def head_gradients(p, scratch, work, head):
        group, end = p.group * items, (head + 1) * (p.channels // p.heads)
        if weighs:
            stage_filters(p, scratch + p.filters, work, head)
        if shifts:
            shift_filters(p, scratch + p.shifted, work, head)
        if needs_spatial:
            fill_zero(scratch + p.grad_filters, p.scale * p.scale * taps * p.lanes * size)
        for c in range(head * (p.channels // p.heads), end, group):
            backward_group(p, scratch, work, c, min(group, end - c))
        if needs_spatial:
            write_spatial_gradient(p, scratch, work, head)

    @inlined
    def work_on(p, scratch, work):
        group = p.group * items
        fill_zero(scratch + p.grad_planes, group * p.scale * p.scale * p.grad_plane * size)
        if needs_filters:
            fill_zero(scratch + p.planes, group * p.stride * p.stride * p.plane * size)
        for head in range(p.heads):
            head_gradients(p, scratch, work, head)

    def backward(call):
        p = carray(call, 1)[0]
        scratch = begin_backward(p)
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            work_on(p, scratch, plan_work(p, item, scratch + p.windows))

    return backward
