"""The inner loops of the CPU kernels as LLVM vectors, which numba's types can't express.

Both layouts run the same two loops. Lanes (neighbouring elements in memory) are channels in channels_last and pixels in
NCHW; of the two filters, one is then a vector over the lanes and the other a scalar that all lanes share:

    layout         lanes      scalar filter     vector filter
    NCHW           pixels     channel filter    spatial filter
    channels_last  channels   spatial filter    channel filter

`weighted_sum` is Eq. 2 and, over output pixels, the gradient of x; `filter_gradients` is the gradient of both filters.
These loops are intrinsics because LLVM's vectoriser stops at the run-time tap tables that make borders, strides,
dilation and upsampling one case. Addresses are int64 byte addresses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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


class Tables(NamedTuple):
    """The positions of the taps of a weighted sum: tables with an entry for each tap."""

    sources: Any  # addresses
    scalars: Any  # numbers
    vectors: Any  # addresses
    offset: Any  # bytes to add to each source
    vector_offset: Any  # bytes to add to each vector


class Filters(NamedTuple):
    """A scalar for each item and tap, the taps side by side, and a vector for each tap; or the gradients of these."""

    scalars: Any
    scalar_pitch: Any  # bytes from one item to the next
    vectors: Any
    vector_pitch: Any  # bytes from one tap to the next

    def scalar(self, b: Any, item: int, t: int, size: int) -> Any:
        """Return the address of a scalar, of `size` bytes."""
        return b.add(b.add(self.scalars, b.mul(self.scalar_pitch, constant(item))), constant(t * size))

    def vector(self, b: Any, t: int) -> Any:
        """Return the address of a vector."""
        return b.add(self.vectors, b.mul(self.vector_pitch, constant(t)))


class Ahead(NamedTuple):
    """Bytes from what a tile touches to what is needed a row of tiles later.

    That is brought near now, where `prefetches` is set: the processor can't foresee so many short reads.
    """

    source: Any
    output: Any


@emits
def weighted_sum(
    b: Any,
    taps: Any,
    tables: Tables,
    out: Any,
    count: Any,
    *,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
) -> None:
    """Compute out[lane] = sum over taps t of (scalars[t] (*) vectors[t][lane]) * sources[t][lane], for `count` lanes.

    Args:
        taps: their number, known when the kernel runs.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        loop = Loop(b, constant(0), taps, 1, [lanes.zero() for _ in indices])
        place = scaled(b, loop.index, 8)
        source = b.add(load(b, b.add(tables.sources, place), INT64), tables.offset)
        scalar = lanes.broadcast(b.add(tables.scalars, scaled(b, loop.index, computed))) if has_scalar else None
        vector_base = None
        if has_vector:
            vector_base = b.add(load(b, b.add(tables.vectors, place), INT64), tables.vector_offset)
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
    """The positions of the taps of `items` neighbours in a table of k rows, `step` columns from one item to the next.

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
        """Return the slots of the last row that the tiles beside do not have too."""
        margin = self.k // 2 if self.step == 1 else 0
        return range(self.slots - self.width + margin, self.slots - margin)


class _Loads:
    """A cache of loads: each vector is loaded at most once."""

    def __init__(self, load: Callable[[int], Any]) -> None:
        self.load, self.loaded = load, dict[int, Any]()

    def __getitem__(self, slot: int) -> Any:
        if slot not in self.loaded:
            self.loaded[slot] = self.load(slot)
        return self.loaded[slot]


@emits
def weighted_sum_tile(
    b: Any,
    sources: Any,
    offset: Any,
    filters: Filters,
    outs: Any,
    ahead: Ahead,
    count: Any,
    *,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
    prefetches: int,
    k: int,
    items: int,
    step: int,
) -> None:
    """Compute `weighted_sum` of k*k taps for a tile of items, unrolled.

    Args:
        sources: table of the tile's source addresses, k rows (see `_Tile`); `offset` bytes are added to each.
        outs: table of the items' output addresses.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]
    tile = _Tile(k, k, items, step)
    bases = [b.add(entry(b, sources, slot), offset) for slot in range(tile.slots)]
    vectors = [filters.vector(b, t) for t in range(tile.taps)] if has_vector else []
    places = [entry(b, outs, item) for item in range(items)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at, at_computed = scaled(b, indices[0], size), scaled(b, indices[0], computed)
        if prefetches:
            for slot in tile.middle_of_last_row():
                prefetch(b, b.add(b.add(bases[slot], at), ahead.source), False)
            for place in places:
                prefetch(b, b.add(b.add(place, at), ahead.output), True)
        loads = _Loads(lambda slot: lanes.load(b.add(bases[slot], at), code))
        totals = [lanes.zero()] * items
        for t in range(tile.taps):
            vector = lanes.load(b.add(vectors[t], at_computed), compute_code(code)) if has_vector else None
            for item in range(items):
                x = loads[tile.slot(item, t)]
                scalar = lanes.broadcast(filters.scalar(b, item, t, computed)) if has_scalar else None
                totals[item] = lanes.multiply_add(lanes.combine(scalar, vector, combine), x, totals[item])
        for item, total in enumerate(totals):
            lanes.store(total, b.add(places[item], at), code)
        return []

    lane_loops(b, code, count, 1, [], body)


@emits
def filter_gradients_tile(
    b: Any,
    grad_outputs: Any,
    sources: Any,
    offset: Any,
    filters: Filters,
    grads: Filters,
    ahead: Ahead,
    count: Any,
    *,
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
) -> None:
    """Add the gradients of one kernel row of k taps to those in `grads`.

    That of scalar t is the sum over lanes, that of vector t the lanes, of grad_output[lane] * sources[t][lane], times the
    other filter where there are both. One row at a time, so that the sums stay in registers.

    Args:
        grad_outputs: table of the items' output gradients.
        sources, offset: as in `weighted_sum_tile`, of one row.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]
    both = combine == MUL and has_scalar and has_vector
    tile = _Tile(k, 1, items, step)
    bases = [b.add(entry(b, sources, slot), offset) for slot in range(tile.slots)]
    grad_bases = [entry(b, grad_outputs, item) for item in range(items)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at, at_computed = scaled(b, indices[0], size), scaled(b, indices[0], computed)
        outputs = [lanes.load(b.add(base, at), code) for base in grad_bases]
        if prefetches:
            for base in grad_bases:
                prefetch(b, b.add(b.add(base, at), ahead.output), False)
            for slot in tile.middle_of_last_row():
                prefetch(b, b.add(b.add(bases[slot], at), ahead.source), False)
        loads = _Loads(lambda slot: lanes.load(b.add(bases[slot], at), code))
        sums = list(carried)
        for t in range(k):
            place, weights = b.add(grads.vector(b, t), at_computed), b.add(filters.vector(b, t), at_computed)
            total = lanes.load(place, compute_code(code)) if needs_vector else None
            vector = lanes.load(weights, compute_code(code)) if needs_scalar and both else None
            for item in range(items):
                product = lanes.multiply(outputs[item], loads[tile.slot(item, t)])
                if needs_vector:
                    scalar = lanes.broadcast(filters.scalar(b, item, t, computed)) if both else None
                    total = lanes.add_weighted(product, scalar, total)
                if needs_scalar:
                    sums[item * k + t] = lanes.add_weighted(product, vector, sums[item * k + t])
            if needs_vector:
                lanes.store(total, place, compute_code(code))
        return sums

    lanes = Lanes(b, code, VECTOR_BYTES // computed)
    sums = lane_loops(b, code, count, 1, [lanes.zero()] * (items * k) if needs_scalar else [], body)
    for number, total in enumerate(sums):
        place = b.inttoptr(grads.scalar(b, *divmod(number, k), computed), lanes.element.as_pointer())
        b.store(b.fadd(b.load(place), lanes.horizontal_sum(total)), place)
