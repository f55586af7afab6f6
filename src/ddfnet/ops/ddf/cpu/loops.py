"""The inner loops of the CPU kernels as LLVM vectors: what numba's own types can't say.

Both layouts run the same two loops. Lanes (neighbouring elements in memory) are channels in channels_last and pixels in
NCHW; of the two filters, one is then a vector over the lanes and the other a scalar that all lanes share:

    layout         lanes      scalar filter     vector filter
    NCHW           pixels     channel filter    spatial filter
    channels_last  channels   spatial filter    channel filter

`weighted_sum` is Eq. 2 and, over output pixels, the gradient of x; `filter_gradients` is the gradient of both filters.
Written as intrinsics because LLVM's own vectoriser stops at the run-time tap tables that make borders, strides,
dilation and upsampling one case. Addresses are int64 byte addresses; integer literals pick the variant at compile time.
"""

from typing import Any

from ddfnet.ops.cpu.intrinsics import constant, emits, entry, scaled
from ddfnet.ops.cpu.vectors import (
    BYTES,
    INT64,
    MUL,
    VECTOR_BYTES,
    Lanes,
    Loop,
    compute_code,
    lane_loops,
    load,
    prefetch,
)


@emits
def weighted_sum(
    b: Any,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
    taps: Any,
    sources: Any,
    scalars: Any,
    vectors: Any,
    offset: Any,
    vector_offset: Any,
    out: Any,
    count: Any,
) -> None:
    """out[lane] = sum over taps t of (scalars[t] (*) vectors[t][lane]) * sources[t][lane], for `count` lanes.

    Args:
        taps: how many, known when it runs.
        sources, scalars, vectors: tables of a source address, a scalar and a vector address per tap.
        offset, vector_offset: bytes to add to each source and vector address.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        loop = Loop(b, constant(0), taps, 1, [lanes.zero() for _ in indices])
        entry = scaled(b, loop.index, 8)
        source = b.add(load(b, b.add(sources, entry), INT64), offset)
        scalar = lanes.broadcast(b.add(scalars, scaled(b, loop.index, computed))) if has_scalar else None
        vector_base = b.add(load(b, b.add(vectors, entry), INT64), vector_offset) if has_vector else None
        totals = []
        for index, total in zip(indices, loop.carried, strict=True):
            x = lanes.load(b.add(source, scaled(b, index, size)), code)
            vector = None
            if has_vector:
                vector = lanes.load(b.add(vector_base, scaled(b, index, computed)), compute_code(code))
            totals.append(lanes.multiply_add(lanes.combine(scalar, vector, combine), x, total))
        for index, total in zip(indices, loop.close(totals), strict=True):
            lanes.store(total, b.add(out, scaled(b, index, size)), code)
        return []

    lane_loops(b, code, count, 4, [], body)


class _Tile:
    """Where the taps of `items` neighbouring items lie in a table of k rows, `step` columns from one item to the next.

    Pixels of a row overlap where `step` < k: a source is then loaded once for all that read it. `step` = k shares none.
    """

    def __init__(self, k: int, rows: int, items: int, step: int) -> None:
        self.width = (items - 1) * step + k
        self.slots = rows * self.width
        self.items, self.taps = items, rows * k
        self.k, self.step = k, step

    def slot(self, item: int, tap: int) -> int:
        u, v = divmod(tap, self.k)
        return u * self.width + item * self.step + v

    def middle_of_last_row(self) -> range:
        """Slots of the last row, without those that the tiles beside have too."""
        margin = self.k // 2 if self.step == 1 else 0
        return range(self.slots - self.width + margin, self.slots - margin)


@emits
def weighted_sum_tile(
    b: Any,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
    prefetches: int,
    k: int,
    items: int,
    step: int,
    sources: Any,
    scalars: Any,
    vectors: Any,
    vector_pitch: Any,
    offset: Any,
    outs: Any,
    source_ahead: Any,
    out_ahead: Any,
    count: Any,
) -> None:
    """`weighted_sum` of k*k taps for a tile of items, unrolled.

    Args:
        sources: table of the tile's source addresses, k rows (see `_Tile`); `offset` bytes are added to each.
        scalars: (items, k*k) numbers of the computing type.
        vectors, vector_pitch: address of the first tap's vector, and bytes to the next tap's.
        outs: table of the items' output addresses.
        source_ahead, out_ahead: with `prefetches`, bytes from the last row of sources and from the outputs to those that
            are needed a row of tiles later, and brought near now: the processor can't foresee so many short reads.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]
    tile = _Tile(k, k, items, step)
    bases = [b.add(entry(b, sources, slot), offset) for slot in range(tile.slots)]
    filters = [b.add(vectors, b.mul(vector_pitch, constant(t))) for t in range(tile.taps)] if has_vector else []
    places = [entry(b, outs, item) for item in range(items)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        (index,) = indices
        at, at_computed = scaled(b, index, size), scaled(b, index, computed)
        loaded: dict[int, Any] = {}
        totals = [lanes.zero()] * items
        if prefetches:
            for slot in tile.middle_of_last_row():
                prefetch(b, b.add(b.add(bases[slot], at), source_ahead), False)
            for place in places:
                prefetch(b, b.add(b.add(place, at), out_ahead), True)
        for t in range(tile.taps):
            vector = lanes.load(b.add(filters[t], at_computed), compute_code(code)) if has_vector else None
            for item in range(items):
                slot = tile.slot(item, t)
                if slot not in loaded:
                    loaded[slot] = lanes.load(b.add(bases[slot], at), code)
                place = b.add(scalars, constant((item * tile.taps + t) * computed))
                scalar = lanes.broadcast(place) if has_scalar else None
                weight = lanes.combine(scalar, vector, combine)
                totals[item] = lanes.multiply_add(weight, loaded[slot], totals[item])
        for item, total in enumerate(totals):
            lanes.store(total, b.add(places[item], at), code)
        return []

    lane_loops(b, code, count, 1, [], body)


@emits
def filter_gradients_tile(
    b: Any,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
    needs_scalar: int,
    needs_vector: int,
    prefetches: int,
    k: int,
    items: int,
    step: int,
    grad_outputs: Any,
    sources: Any,
    scalars: Any,
    scalar_pitch: Any,
    vectors: Any,
    vector_pitch: Any,
    offset: Any,
    grad_scalars: Any,
    grad_vectors: Any,
    grad_pitch: Any,
    grad_ahead: Any,
    source_ahead: Any,
    count: Any,
) -> None:
    """grad_scalars[t] += sum over lanes, grad_vectors[t][lane] += , of grad_output[lane] * sources[t][lane] (* filter).

    For one kernel row of k taps, so that the sums stay in registers, and a table of each item's grad_output.
    grad_scalars lies as the scalars do, `scalar_pitch` bytes from one item to the next; the sums are added to it.
    `prefetches`, grad_ahead and source_ahead are as in `weighted_sum_tile`.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]
    both = combine == MUL and has_scalar and has_vector
    tile = _Tile(k, 1, items, step)
    bases = [b.add(entry(b, sources, slot), offset) for slot in range(tile.slots)]
    grad_bases = [entry(b, grad_outputs, item) for item in range(items)]

    def scalar_at(table: Any, item: int, t: int) -> Any:
        return b.add(b.add(table, b.mul(scalar_pitch, constant(item))), constant(t * computed))

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        (index,) = indices
        at, at_computed = scaled(b, index, size), scaled(b, index, computed)
        sums = list(carried)
        loaded: dict[int, Any] = {}
        grads = [lanes.load(b.add(grad_bases[item], at), code) for item in range(items)]
        if prefetches:
            for base in grad_bases:
                prefetch(b, b.add(b.add(base, at), grad_ahead), False)
            for slot in tile.middle_of_last_row():
                prefetch(b, b.add(b.add(bases[slot], at), source_ahead), False)
        for t in range(tile.taps):
            if needs_vector:
                place = b.add(b.add(grad_vectors, b.mul(grad_pitch, constant(t))), at_computed)
                total = lanes.load(place, compute_code(code))
            if needs_scalar and both:
                vector_place = b.add(b.add(vectors, b.mul(vector_pitch, constant(t))), at_computed)
                vector = lanes.load(vector_place, compute_code(code))
            for item in range(items):
                slot = tile.slot(item, t)
                if slot not in loaded:
                    loaded[slot] = lanes.load(b.add(bases[slot], at), code)
                product = lanes.multiply(grads[item], loaded[slot])
                if needs_vector and both:
                    total = lanes.multiply_add(product, lanes.broadcast(scalar_at(scalars, item, t)), total)
                elif needs_vector:
                    total = lanes.add(total, product)
                own = item * tile.taps + t
                if needs_scalar and both:
                    sums[own] = lanes.multiply_add(product, vector, sums[own])
                elif needs_scalar:
                    sums[own] = lanes.add(sums[own], product)
            if needs_vector:
                lanes.store(total, place, compute_code(code))
        return sums

    lanes = Lanes(b, code, VECTOR_BYTES // computed)
    sums = lane_loops(b, code, count, 1, [lanes.zero()] * (items * tile.taps) if needs_scalar else [], body)
    for own, total in enumerate(sums):
        place = b.inttoptr(scalar_at(grad_scalars, *divmod(own, tile.taps)), lanes.element.as_pointer())
        b.store(b.fadd(b.load(place), lanes.horizontal_sum(total)), place)
