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

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ddfnet.ops.cpu.vectors import (
    BYTES,
    FLOAT64,
    INT32,
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

_cgutils: Any = cgutils  # not typed


def emits(function: Callable[..., Any]) -> Any:
    """The intrinsic that `function(builder, ...)` emits: its `int` parameters are literals, the others run-time values.

    Run-time integers are int64; other numbers, the result's too, are of the computing type of the first parameter.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]

    def typed(typingctx: Any, *arguments: Any) -> Any:
        literals: list[int] = []
        argument_types: list[Any] = []
        for parameter, argument in zip(parameters, arguments, strict=True):
            if parameter.annotation is int:
                if not isinstance(argument, types.IntegerLiteral | types.BooleanLiteral):
                    return None
                literals.append(int(argument.literal_value))
                argument_types.append(argument)
            elif isinstance(argument, types.Integer):
                argument_types.append(types.int64)
            else:
                argument_types.append(_number(literals))
        returned = inspect.signature(function).return_annotation
        result = types.void if returned is None else types.int64 if returned is int else _number(literals)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            constants = iter(literals)
            given = zip(parameters, values, strict=True)
            emitted = function(builder, *(next(constants) if p.annotation is int else value for p, value in given))
            return context.get_dummy_value() if emitted is None else emitted

        return result(*argument_types), codegen

    first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    typed.__name__ = typed.__qualname__ = function.__name__
    typed.__doc__ = function.__doc__
    return intrinsic(prefer_literal=True)(typed)


def _number(literals: list[int]) -> Any:
    return types.float64 if compute_code(literals[0]) == FLOAT64 else types.float32


def constant(number: int) -> Any:
    return ir.Constant(INT64, number)


def scaled(b: Any, index: Any, size: int) -> Any:
    return b.mul(index, constant(size))


def _entry(b: Any, table: Any, index: int) -> Any:
    return load(b, b.add(table, constant(8 * index)), INT64)


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
    bases = [b.add(_entry(b, sources, slot), offset) for slot in range(tile.slots)]
    filters = [b.add(vectors, b.mul(vector_pitch, constant(t))) for t in range(tile.taps)] if has_vector else []
    places = [_entry(b, outs, item) for item in range(items)]

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
    bases = [b.add(_entry(b, sources, slot), offset) for slot in range(tile.slots)]
    grad_bases = [_entry(b, grad_outputs, item) for item in range(items)]

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


@emits
def copy_rows(
    b: Any, code: int, out_code: int, source: Any, pitch: Any, out: Any, out_pitch: Any, rows: Any, count: Any
) -> None:
    """`count` lanes of each of `rows` rows, converted from elements of one code to another's."""

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        for index in indices:
            value = lanes.load(b.add(from_row, scaled(b, index, BYTES[code])), code)
            lanes.store(value, b.add(to_row, scaled(b, index, BYTES[out_code])), out_code)
        return []

    row = Loop(b, constant(0), rows, 1, [])
    from_row, to_row = b.add(source, b.mul(row.index, pitch)), b.add(out, b.mul(row.index, out_pitch))
    lane_loops(b, code, count, 1, [], body)
    row.close([])


@emits
def add_lanes(b: Any, code: int, source: Any, out: Any, count: Any) -> None:
    """out[lane] += source[lane]."""

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at = scaled(b, indices[0], BYTES[code])
        place = b.add(out, at)
        lanes.store(lanes.add(lanes.load(place, code), lanes.load(b.add(source, at), code)), place, code)
        return []

    lane_loops(b, code, count, 1, [], body)


@emits
def transpose(
    b: Any, code: int, out_code: int, source: Any, pitch: Any, out: Any, out_pitch: Any, rows: Any, columns: Any
) -> None:
    """out[column][row] = source[row][column], converted from elements of one code to another's.

    Square blocks of a vector's lanes are loaded by row, transposed in registers and stored by column; pitches are the
    bytes from one row to the next.
    """
    name = f"ddfnet_transpose_{code}_{out_code}"
    function = b.module.globals.get(name)
    if function is None:  # once for all calls of a kernel: it is long
        function = ir.Function(b.module, ir.FunctionType(ir.VoidType(), [INT64] * 6), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block())
        _emit_transpose(body, code, out_code, *function.args)
        body.ret_void()
    b.call(function, [source, pitch, out, out_pitch, rows, columns])


def _emit_transpose(
    b: Any, code: int, out_code: int, source: Any, pitch: Any, out: Any, out_pitch: Any, rows: Any, columns: Any
) -> None:
    lanes = VECTOR_BYTES // BYTES[compute_code(code)]
    row = Loop(b, constant(0), rows, lanes, [])
    column = Loop(b, constant(0), columns, lanes, [])
    rows_left, columns_left = b.sub(rows, row.index), b.sub(columns, column.index)
    full = b.and_(b.icmp_signed(">=", rows_left, constant(lanes)), b.icmp_signed(">=", columns_left, constant(lanes)))
    first = b.add(b.add(source, b.mul(row.index, pitch)), scaled(b, column.index, BYTES[code]))
    to = b.add(b.add(out, b.mul(column.index, out_pitch)), scaled(b, row.index, BYTES[out_code]))
    with b.if_else(full) as (then, otherwise):
        with then:
            whole = Lanes(b, code, lanes)
            block = [whole.load(b.add(first, b.mul(pitch, constant(i))), code) for i in range(lanes)]
            for i, vector in enumerate(_transposed(b, block, lanes)):
                whole.store(vector, b.add(to, b.mul(out_pitch, constant(i))), out_code)
        with otherwise:
            within, across = Lanes(b, code, lanes, columns_left), Lanes(b, code, lanes, rows_left)
            block = []
            for i in range(lanes):  # the last row again for those that are not there
                last = b.icmp_signed("<", rows_left, constant(i + 1))
                at = b.select(last, b.sub(rows_left, constant(1)), constant(i))
                block.append(within.load(b.add(first, b.mul(pitch, at)), code))
            for i, vector in enumerate(_transposed(b, block, lanes)):
                with b.if_then(b.icmp_signed(">", columns_left, constant(i))):
                    across.store(vector, b.add(to, b.mul(out_pitch, constant(i))), out_code)
    column.close([])
    row.close([])


def _transposed(b: Any, block: list[Any], lanes: int) -> list[Any]:
    """The columns of a square of vectors: quarters of ever larger squares change places."""
    step = 1
    while step < lanes:
        low = [lane if not lane & step else lanes + lane - step for lane in range(lanes)]
        high = [lane + step if not lane & step else lanes + lane for lane in range(lanes)]
        for i in range(lanes):
            if not i & step:
                above, below = block[i], block[i + step]
                for place, order in ((i, low), (i + step, high)):
                    indices = ir.Constant(ir.VectorType(INT32, lanes), order)
                    block[place] = b.shuffle_vector(above, below, indices)
        step *= 2
    return block


@emits
def fill_zero(b: Any, address: Any, size: Any) -> None:
    """Zeroes `size` bytes."""
    _cgutils.memset(b, b.inttoptr(address, ir.IntType(8).as_pointer()), size, 0)


@emits
def read(b: Any, code: int, address: Any) -> float:
    """The element of code `code` at `address`, as a number of the computing type."""
    return b.extract_element(Lanes(b, code, 1).load(address, code), ir.Constant(INT32, 0))


@emits
def write(b: Any, code: int, address: Any, value: Any) -> None:
    """Writes a number of the computing type as an element of code `code`."""
    Lanes(b, code, 1).store(Lanes(b, code, 1).all_lanes(value), address, code)


@emits
def read_address(b: Any, address: Any) -> int:
    """Reads an entry of a table of addresses."""
    return load(b, address, INT64)


@emits
def take_next(b: Any, address: Any) -> int:
    """The int64 at `address`, which grows by one: a different one for every thread that asks."""
    return b.atomic_rmw("add", b.inttoptr(address, INT64.as_pointer()), constant(1), "monotonic")


@emits
def write_address(b: Any, address: Any, value: Any) -> None:
    """Writes an int64, an entry of a table of addresses."""
    b.store(value, b.inttoptr(address, INT64.as_pointer()))
