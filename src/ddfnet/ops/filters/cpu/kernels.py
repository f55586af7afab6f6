"""The filter prediction of a DDF layer as CPU kernels: what `backend.py` calls.

`make_spatial` reads x once: a work item is a block of grid rows of one sample, whose spatial filters it predicts and
normalises and whose channels it adds up for the average pooling. `make_channel` then makes the channel filters of a few
samples, lane by lane: a work item is a block of channels of them.
"""

# numba types these functions from their calls.
# mypy: disable-error-code="no-untyped-def"

from typing import Any, NamedTuple

from ddfnet.ops.cpu.compiling import carray, inlined
from ddfnet.ops.cpu.intrinsics import Rows, add_lanes, copy_rows, fill_zero, read, take_next, transpose, write
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


class Options(NamedTuple):
    """The numbers known when a kernel is compiled."""

    code: int  # of the elements
    group: int  # taps that are predicted together, a divisor of K
    has_spatial: int = 0
    pools: int = 0  # the sums are asked for
    planar: int = 0  # x is NCHW, its pixels side by side; else channels_last
    plain: int = 0  # the stride is 1, so each pixel has a filter

    @property
    def computed(self) -> int:
        """The element code of sums."""
        return compute_code(self.code)

    @property
    def element(self) -> int:
        """Bytes of an element."""
        return element_size(self.code)

    @property
    def size(self) -> int:
        """Bytes of a sum."""
        return element_size(self.computed)

    @property
    def fused(self) -> bool:
        """True if pixels are added up while their filters are predicted."""
        return bool(self.has_spatial and self.pools and self.plain and not self.planar)


class Work(NamedTuple):
    """A work item: rows `first` to `last` of filters of a sample, and where the sums of its channels go."""

    sample: Any
    first: Any
    last: Any
    sums: Any


def _make_pool(o: Options) -> Any:
    """Add up rows of x, a number a channel."""
    code, computed, size = o.code, o.computed, o.size

    @inlined
    def pool_planar(p, x, first, last, sums):
        for c in range(p.channels):
            start = x + c * p.x_c + first * p.x_h
            if p.x_h == p.width * p.x_w:
                total = sum_rows(code, start, 0, 1, (last - first) * p.width)
            else:
                total = sum_rows(code, start, p.x_h, last - first, p.width)
            write(computed, sums + c * size, total)

    @inlined
    def pool(p, x, first, last, sums):
        fill_zero(sums, p.channels * size)
        for i in range(first, last):
            pool_rows(code, x + i * p.x_h, p.x_w, p.width, sums, p.channels)

    return pool_planar if o.planar else pool


def _make_predict_planar(o: Options) -> Any:
    """Predict the raw spatial filters of `rows` rows of pixels; several rows only if their runs in x are side by side."""
    code, group, element, size, plain = o.code, o.group, o.element, o.size, o.plain
    sum_group = sum_taps(code=code, taps=group, relu=0)

    @inlined
    def take_pixels(p, source, rows, staging):
        """Copy the pixels that have a filter, (C, rows, columns)."""
        for c in range(p.channels):
            for i in range(rows):
                place = staging + (c * rows + i) * p.columns * element
                take_every(code, source + c * p.x_c + i * p.stride * p.x_h, p.stride * p.x_w, place, p.columns)

    @inlined
    def predict(p, scratch, x, row, rows):
        source, pitch, columns = x + row * p.stride * p.x_h, p.x_c, rows * p.columns
        weight_pitch, raw = p.channels * size, scratch + p.raw
        if not plain:
            take_pixels(p, source, rows, scratch + p.staging)
            source, pitch = scratch + p.staging, columns * element
        for t in range(0, p.heads * p.taps, group):
            weights, out = Rows(p.weight + t * weight_pitch, weight_pitch), Rows(raw + t * p.raw_pitch, p.raw_pitch)
            sum_group(Rows(source, pitch), p.channels, weights, p.bias + t * size, 1, out, columns)

    return predict


def _make_predict(o: Options) -> Any:
    """Predict the raw spatial filters of one row of pixels; if fused, add its pixels to `sums`."""
    computed, group, size, fused = o.computed, o.group, o.size, o.fused
    dot_first, dot_next = (dot_taps(code=o.code, taps=group, pools=pools) for pools in (int(fused), 0))

    @inlined
    def predict_pixel(p, pixel, out, row_sums):
        weight_pitch, pitch = p.channels * size, p.raw_pitch
        dot_first(pixel, Rows(p.weight, weight_pitch), p.bias, Rows(out, pitch), row_sums, p.channels)
        for t in range(group, p.heads * p.taps, group):
            weights, place = Rows(p.weight + t * weight_pitch, weight_pitch), Rows(out + t * pitch, pitch)
            dot_next(pixel, weights, p.bias + t * size, place, row_sums, p.channels)

    @inlined
    def predict(p, scratch, x, row, sums):
        row_sums = scratch + p.sums  # of a row of pixels: the fewer numbers a sum has, the less it loses
        if fused:
            fill_zero(row_sums, p.channels * size)
        for column in range(p.columns):
            pixel = x + row * p.stride * p.x_h + column * p.stride * p.x_w
            predict_pixel(p, pixel, scratch + p.raw + column * size, row_sums)
        if fused:
            add_lanes(computed, row_sums, sums, p.channels)

    return predict


def _make_normalise_rows(o: Options) -> Any:
    """Normalise the raw filters of `count` pixels from row `row` on (Eq. 3) and write filters and deviations."""
    code, computed, size, planar = o.code, o.computed, o.size, o.planar
    normalise = normalise_taps(code=computed)

    @inlined
    def normalise_rows(p, scratch, b, row, count):
        raw, stds, pitch, filters = scratch + p.raw, scratch + p.stds, p.raw_pitch, p.heads * p.taps
        for head in range(p.heads):
            own = raw + head * p.taps * pitch
            normalise(p.taps, Rows(own, pitch), p.scale, own, stds, count)
            place = (((b * p.heads + head) * p.rows) + row) * p.columns * size
            copy_rows(computed, computed, Rows(stds, 0), Rows(p.spatial_std + place, 0), 1, count)
        out = p.spatial + b * p.spatial_b + row * p.spatial_h
        if planar:
            copy_rows(computed, code, Rows(raw, pitch), Rows(out, p.spatial_t), filters, count)
        else:
            transpose(computed, code, Rows(raw, pitch), Rows(out, p.spatial_w), filters, count)

    return normalise_rows


def _make_predict_rows(o: Options) -> Any:
    """Predict the spatial filters of a work item."""
    plain, normalise_rows = o.plain, _make_normalise_rows(o)
    predict, predict_planar = _make_predict(o), _make_predict_planar(o)

    @inlined
    def predict_rows_planar(p, scratch, x, work):
        run = work.last - work.first if not plain or p.x_h == p.width * p.x_w else 1
        for row in range(work.first, work.last, run):
            predict_planar(p, scratch, x, row, run)
            normalise_rows(p, scratch, work.sample, row, run * p.columns)

    @inlined
    def predict_rows(p, scratch, x, work):
        for row in range(work.first, work.last):
            predict(p, scratch, x, row, work.sums)
            normalise_rows(p, scratch, work.sample, row, p.columns)

    return predict_rows_planar if o.planar else predict_rows


def make_spatial(*options: int) -> Any:
    """Predict spatial filters, and sum each work item's pixels; `options` are those of `Options`."""
    o = Options(*options)
    size, fused, pools, has_spatial = o.size, o.fused, o.pools, o.has_spatial
    pool, predict_rows = _make_pool(o), _make_predict_rows(o)

    def spatial(call):
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.threads_begun) * p.scratch_bytes
        for _ in range(p.items):
            item = take_next(p.items_begun)
            if item >= p.items:
                break
            b, first = item // p.blocks, item % p.blocks * p.block
            work = Work(b, first, min(first + p.block, p.rows), p.partial + item * p.partial_bytes)
            x = p.x + b * p.x_b
            if fused:
                fill_zero(work.sums, p.channels * size)
            elif pools:
                pool(p, x, first * p.stride, min(work.last * p.stride, p.height), work.sums)
            if has_spatial:
                predict_rows(p, scratch, x, work)

    return spatial


def _make_squeeze(o: Options) -> Any:
    """Compute the hidden units of a few samples, (S, samples), from the sums of their work items."""
    computed, size = o.computed, o.size
    pitch = SAMPLES * size
    squeeze_some, squeeze_one = (sum_taps(code=computed, taps=taps, relu=1) for taps in (SQUEEZED, 1))

    @inlined
    def add_up(p, sums, first, samples):
        for sample in range(samples):
            own = sums + sample * p.channels * size
            fill_zero(own, p.channels * size)
            for block in range(p.blocks):
                part = p.partial + ((first + sample) * p.blocks + block) * p.partial_bytes
                add_lanes(computed, part, own, p.channels)

    @inlined
    def squeeze(p, scratch, first, samples):
        sums, pooled, hidden, channels = scratch + p.sums, scratch + p.pooled, scratch + p.hidden, p.channels
        add_up(p, sums, first, samples)
        transpose(computed, computed, Rows(sums, channels * size), Rows(pooled, pitch), samples, channels)
        source, pixels, weight_pitch = Rows(pooled, pitch), p.height * p.width, channels * size
        whole = p.squeezed // SQUEEZED * SQUEEZED
        for s in range(0, whole, SQUEEZED):
            weights, out = Rows(p.squeeze_weight + s * weight_pitch, weight_pitch), Rows(hidden + s * pitch, pitch)
            squeeze_some(source, channels, weights, p.squeeze_bias + s * size, pixels, out, samples)
        for s in range(whole, p.squeezed):
            weights, out = Rows(p.squeeze_weight + s * weight_pitch, weight_pitch), Rows(hidden + s * pitch, pitch)
            squeeze_one(source, channels, weights, p.squeeze_bias + s * size, pixels, out, samples)

    return squeeze


def _make_keep(o: Options) -> Any:
    """Write what the backward pass needs of a few samples: their averages and hidden units."""
    code, computed, element, size = o.code, o.computed, o.element, o.size

    @inlined
    def keep(p, scratch, first, samples):
        sums, channels, squeezed, pixels = scratch + p.sums, p.channels, p.squeezed, p.height * p.width
        for sample in range(samples):
            for c in range(channels):
                mean = read(computed, sums + (sample * channels + c) * size) / pixels
                write(code, p.pooled_out + ((first + sample) * channels + c) * element, mean)
        out = Rows(p.hidden_out + first * squeezed * element, squeezed * element)
        transpose(computed, code, Rows(scratch + p.hidden, SAMPLES * size), out, squeezed, samples)

    return keep


def _make_excite(o: Options) -> Any:
    """Compute the channel filters of `count` channels from `begin` on, of a few samples."""
    code, computed, group, element, size = o.code, o.computed, o.group, o.element, o.size
    pitch = SAMPLES * size
    sum_group, normalise = sum_taps(code=computed, taps=group, relu=0), normalise_taps(code=computed)

    @inlined
    def predict(p, scratch, begin, c, samples):
        hidden, raw, squeezed, taps = scratch + p.hidden, scratch + p.raw, p.squeezed, p.taps
        for t in range(c * taps, (c + 1) * taps, group):
            row = begin * taps + t
            weights = Rows(p.channel_weight + row * squeezed * size, squeezed * size)
            out = Rows(raw + t * pitch, pitch)
            sum_group(Rows(hidden, pitch), squeezed, weights, p.channel_bias + row * size, 1, out, samples)
        own, scales = c * taps * pitch, p.channel_scale + (begin + c) * taps * size
        stds = scratch + p.stds + c * pitch
        normalise(taps, Rows(raw + own, pitch), scales, scratch + p.filters + own, stds, samples)

    @inlined
    def excite(p, scratch, first, samples, begin, count):
        for c in range(count):
            predict(p, scratch, begin, c, samples)
        taps, channels = p.taps, p.channels
        place, step, rows = first * channels + begin, channels * taps, count * taps
        filters = Rows(p.channel + place * taps * element, step * element)
        unit = Rows(p.channel_unit + place * taps * size, step * size)
        stds = Rows(p.channel_std + place * size, channels * size)
        transpose(computed, code, Rows(scratch + p.filters, pitch), filters, rows, samples)
        transpose(computed, computed, Rows(scratch + p.raw, pitch), unit, rows, samples)
        transpose(computed, computed, Rows(scratch + p.stds, pitch), stds, count, samples)

    return excite


def make_channel(*options: int) -> Any:
    """Predict channel filters from the sums that `make_spatial` leaves; `options` are those of `Options`."""
    o = Options(*options)
    squeeze, keep, excite = _make_squeeze(o), _make_keep(o), _make_excite(o)

    def channel(call):
        p = carray(call, 1)[0]
        scratch = p.scratch + take_next(p.channel_threads_begun) * p.scratch_bytes
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
                squeeze(p, scratch, first, samples)
                if item % p.channel_blocks == 0:  # what one thread of those that stage these samples keeps
                    keep(p, scratch, first, samples)
            begin = item % p.channel_blocks * p.channel_block
            excite(p, scratch, first, samples, begin, min(p.channel_block, p.channels - begin))

    return channel
