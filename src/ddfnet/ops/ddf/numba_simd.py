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

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_cgutils: Any = cgutils  # not typed

FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = range(4)  # element codes
MUL, ADD = 0, 1
_CONTRACT = ("contract",)  # multiply-adds may fuse; NaN, infinities and the order of sums stay
_INT64 = ir.IntType(64)
_INT32 = ir.IntType(32)
_STORED = {FLOAT32: ir.FloatType(), FLOAT64: ir.DoubleType(), BFLOAT16: ir.IntType(16), FLOAT16: ir.HalfType()}
_BYTES = {FLOAT32: 4, FLOAT64: 8, BFLOAT16: 2, FLOAT16: 2}


def _vector_bytes() -> int:
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # unknown host
        return 16
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()


def compute_code(code: int) -> int:
    """The element code of sums: float32 for half types."""
    return FLOAT64 if code == FLOAT64 else FLOAT32


def element_size(code: int) -> int:
    """Bytes of an element."""
    return _BYTES[code]


class _Lanes:
    """Emits loads, stores and arithmetic on vectors of one width, the last vector of a loop under a mask."""

    def __init__(self, builder: Any, code: int, lanes: int, remaining: Any = None) -> None:
        self.builder, self.code, self.lanes = builder, code, lanes
        self.element = _STORED[compute_code(code)]
        self.type = ir.VectorType(self.element, lanes)
        self.mask = None
        if remaining is not None:
            ids = ir.Constant(ir.VectorType(_INT64, lanes), list(range(lanes)))
            self.mask = builder.icmp_signed("<", ids, self._splat(remaining, _INT64))

    def _splat(self, value: Any, element: Any) -> Any:
        vector = ir.VectorType(element, self.lanes)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def all_lanes(self, number: Any) -> Any:
        """A number of the computing type in all lanes."""
        return self._splat(number, self.element)

    def zero(self) -> Any:
        return ir.Constant(self.type, [0.0] * self.lanes)

    def broadcast(self, address: Any) -> Any:
        """The scalar of the computing type at `address`, in all lanes."""
        return self._splat(_load(self.builder, address, self.element), self.element)

    def load(self, address: Any, code: int) -> Any:
        """A vector of the computing type; half types are widened exactly."""
        b = self.builder
        stored = ir.VectorType(_STORED[code], self.lanes)
        if self.mask is None:
            raw = _load(b, address, stored)
        else:
            raw = self._masked("load", stored, b.inttoptr(address, stored.as_pointer()))
        if code == BFLOAT16:
            wide = ir.VectorType(_INT32, self.lanes)
            sixteen = ir.Constant(wide, [16] * self.lanes)
            return b.bitcast(b.shl(b.zext(raw, wide), sixteen), self.type)
        return b.fpext(raw, self.type) if code == FLOAT16 else raw

    def store(self, value: Any, address: Any, code: int) -> None:
        """Rounds to nearest even."""
        b = self.builder
        if code == BFLOAT16:
            value = _round_to_bfloat16(b, value, self.lanes)
        elif code == FLOAT16:
            value = b.fptrunc(value, ir.VectorType(ir.HalfType(), self.lanes))
        pointer = b.inttoptr(address, value.type.as_pointer())
        if self.mask is None:
            b.store(value, pointer, align=_BYTES[code])
        else:
            self._masked("store", value.type, pointer, value)

    def _masked(self, name: str, vector: Any, pointer: Any, *values: Any) -> Any:
        kind = {ir.IntType(16): "i16", ir.HalfType(): "f16", ir.FloatType(): "f32", ir.DoubleType(): "f64"}
        full = f"llvm.masked.{name}.v{self.lanes}{kind[vector.element]}.p0"
        align = ir.Constant(_INT32, vector.element.width // 8 if isinstance(vector.element, ir.IntType) else 2)
        mask_type = ir.VectorType(ir.IntType(1), self.lanes)
        if name == "load":
            signature = ir.FunctionType(vector, [pointer.type, _INT32, mask_type, vector])
            zero = ir.Constant(vector, None)
            args = [pointer, align, self.mask, zero]
        else:
            signature = ir.FunctionType(ir.VoidType(), [vector, pointer.type, _INT32, mask_type])
            args = [*values, pointer, align, self.mask]
        return self.builder.call(_cgutils.get_or_insert_function(self.builder.module, signature, full), args)

    def multiply(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_CONTRACT)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_CONTRACT)

    def multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        return self.add(self.multiply(a, b), total)

    def combine(self, a: Any, b: Any, combine: int) -> Any:
        """(*) of Eq. 2 where both filters are there, the one that is there otherwise."""
        if a is None or b is None:
            return b if a is None else a
        return self.multiply(a, b) if combine == MUL else self.add(a, b)

    def horizontal_sum(self, vector: Any) -> Any:
        suffix = f"v{self.lanes}f{32 if isinstance(self.element, ir.FloatType) else 64}"
        signature = ir.FunctionType(self.element, [self.element, self.type])
        name = f"llvm.vector.reduce.fadd.{suffix}"
        reduce = _cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(reduce, [ir.Constant(self.element, -0.0), vector], fastmath=("reassoc",))


def _load(builder: Any, address: Any, kind: Any) -> Any:
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    width = {ir.FloatType(): 4, ir.DoubleType(): 8, ir.HalfType(): 2}.get(element) or element.width // 8
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=width)


def _round_to_bfloat16(b: Any, value: Any, lanes: int) -> Any:
    """Bits of the nearest bfloat16, ties to even, NaN kept."""
    wide = ir.VectorType(_INT32, lanes)

    def constant(number: int) -> Any:
        return ir.Constant(wide, [number] * lanes)

    bits = b.bitcast(value, wide)
    odd = b.and_(b.lshr(bits, constant(16)), constant(1))
    rounded = b.add(bits, b.add(odd, constant(0x7FFF)))
    bits = b.select(b.fcmp_unordered("uno", value, value), b.or_(bits, constant(0x400000)), rounded)
    return b.trunc(b.lshr(bits, constant(16)), ir.VectorType(ir.IntType(16), lanes))


class _Loop:
    """`for lane in range(0, count, step)` with values carried from one step to the next."""

    def __init__(self, builder: Any, start: Any, stop: Any, step: int, carried: list[Any]) -> None:
        self.builder, self.stop, self.step = builder, stop, ir.Constant(_INT64, step)
        before, self.head = builder.block, builder.append_basic_block("loop")
        self.body, self.end = builder.append_basic_block("body"), builder.append_basic_block("end")
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.index = builder.phi(_INT64)
        self.index.add_incoming(start, before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", self.index, stop), self.body, self.end)
        builder.position_at_end(self.body)

    def close(self, carried: list[Any]) -> list[Any]:
        """Ends the body; the carried values after the loop."""
        b = self.builder
        last = b.block
        self.index.add_incoming(b.add(self.index, self.step), last)
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, last)
        b.branch(self.head)
        b.position_at_end(self.end)
        return self.carried


def _lane_loops(b: Any, code: int, count: Any, unroll: int, carried: list[Any], body: Any) -> list[Any]:
    """Runs `body(lanes, indices, carried)` over all lanes: unrolled vectors, single vectors, the rest under a mask."""
    lanes = VECTOR_BYTES // _BYTES[compute_code(code)]
    start: Any = ir.Constant(_INT64, 0)
    for vectors in (unroll, 1) if unroll > 1 else (1,):
        whole = b.and_(count, ir.Constant(_INT64, -lanes * vectors))  # lanes and unroll are powers of two
        loop = _Loop(b, start, whole, lanes * vectors, carried)
        indices = [b.add(loop.index, ir.Constant(_INT64, v * lanes)) for v in range(vectors)]
        carried = loop.close(body(_Lanes(b, code, lanes), indices, loop.carried))
        start = whole
    masked = _Lanes(b, code, lanes, b.sub(count, start))
    loop = _Loop(b, start, count, lanes, carried)
    return loop.close(body(masked, [loop.index], loop.carried))


def _emits(function: Callable[..., Any]) -> Any:
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


def _constant(number: int) -> Any:
    return ir.Constant(_INT64, number)


def _scaled(b: Any, index: Any, size: int) -> Any:
    return b.mul(index, _constant(size))


def _entry(b: Any, table: Any, index: int) -> Any:
    return _load(b, b.add(table, _constant(8 * index)), _INT64)


@_emits
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
    size, computed = _BYTES[code], _BYTES[compute_code(code)]

    def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        loop = _Loop(b, _constant(0), taps, 1, [lanes.zero() for _ in indices])
        entry = _scaled(b, loop.index, 8)
        source = b.add(_load(b, b.add(sources, entry), _INT64), offset)
        scalar = lanes.broadcast(b.add(scalars, _scaled(b, loop.index, computed))) if has_scalar else None
        vector_base = b.add(_load(b, b.add(vectors, entry), _INT64), vector_offset) if has_vector else None
        totals = []
        for index, total in zip(indices, loop.carried, strict=True):
            x = lanes.load(b.add(source, _scaled(b, index, size)), code)
            vector = None
            if has_vector:
                vector = lanes.load(b.add(vector_base, _scaled(b, index, computed)), compute_code(code))
            totals.append(lanes.multiply_add(lanes.combine(scalar, vector, combine), x, total))
        for index, total in zip(indices, loop.close(totals), strict=True):
            lanes.store(total, b.add(out, _scaled(b, index, size)), code)
        return []

    _lane_loops(b, code, count, 4, [], body)


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


@_emits
def weighted_sum_tile(
    b: Any,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
    k: int,
    items: int,
    step: int,
    sources: Any,
    scalars: Any,
    vectors: Any,
    vector_pitch: Any,
    offset: Any,
    outs: Any,
    count: Any,
) -> None:
    """`weighted_sum` of k*k taps for a tile of items, unrolled.

    Args:
        sources: table of the tile's source addresses, k rows (see `_Tile`); `offset` bytes are added to each.
        scalars: (items, k*k) numbers of the computing type.
        vectors, vector_pitch: address of the first tap's vector, and bytes to the next tap's.
        outs: table of the items' output addresses.
    """
    size, computed = _BYTES[code], _BYTES[compute_code(code)]
    tile = _Tile(k, k, items, step)
    bases = [b.add(_entry(b, sources, slot), offset) for slot in range(tile.slots)]
    filters = [b.add(vectors, b.mul(vector_pitch, _constant(t))) for t in range(tile.taps)] if has_vector else []
    places = [_entry(b, outs, item) for item in range(items)]

    def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        (index,) = indices
        at, at_computed = _scaled(b, index, size), _scaled(b, index, computed)
        loaded: dict[int, Any] = {}
        totals = [lanes.zero()] * items
        for t in range(tile.taps):
            vector = lanes.load(b.add(filters[t], at_computed), compute_code(code)) if has_vector else None
            for item in range(items):
                slot = tile.slot(item, t)
                if slot not in loaded:
                    loaded[slot] = lanes.load(b.add(bases[slot], at), code)
                place = b.add(scalars, _constant((item * tile.taps + t) * computed))
                scalar = lanes.broadcast(place) if has_scalar else None
                weight = lanes.combine(scalar, vector, combine)
                totals[item] = lanes.multiply_add(weight, loaded[slot], totals[item])
        for item, total in enumerate(totals):
            lanes.store(total, b.add(places[item], at), code)
        return []

    _lane_loops(b, code, count, 1, [], body)


@_emits
def filter_gradients_tile(
    b: Any,
    code: int,
    combine: int,
    has_scalar: int,
    has_vector: int,
    needs_scalar: int,
    needs_vector: int,
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
    count: Any,
) -> None:
    """grad_scalars[t] += sum over lanes, grad_vectors[t][lane] += , of grad_output[lane] * sources[t][lane] (* filter).

    For one kernel row of k taps, so that the sums stay in registers, and a table of each item's grad_output.
    grad_scalars lies as the scalars do, `scalar_pitch` bytes from one item to the next; the sums are added to it.
    """
    size, computed = _BYTES[code], _BYTES[compute_code(code)]
    both = combine == MUL and has_scalar and has_vector
    tile = _Tile(k, 1, items, step)
    bases = [b.add(_entry(b, sources, slot), offset) for slot in range(tile.slots)]
    grad_bases = [_entry(b, grad_outputs, item) for item in range(items)]

    def scalar_at(table: Any, item: int, t: int) -> Any:
        return b.add(b.add(table, b.mul(scalar_pitch, _constant(item))), _constant(t * computed))

    def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        (index,) = indices
        at, at_computed = _scaled(b, index, size), _scaled(b, index, computed)
        sums = list(carried)
        loaded: dict[int, Any] = {}
        grads = [lanes.load(b.add(grad_bases[item], at), code) for item in range(items)]
        for t in range(tile.taps):
            if needs_vector:
                place = b.add(b.add(grad_vectors, b.mul(grad_pitch, _constant(t))), at_computed)
                total = lanes.load(place, compute_code(code))
            if needs_scalar and both:
                vector_place = b.add(b.add(vectors, b.mul(vector_pitch, _constant(t))), at_computed)
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

    lanes = _Lanes(b, code, VECTOR_BYTES // computed)
    sums = _lane_loops(b, code, count, 1, [lanes.zero()] * (items * tile.taps) if needs_scalar else [], body)
    for own, total in enumerate(sums):
        place = b.inttoptr(scalar_at(grad_scalars, *divmod(own, tile.taps)), lanes.element.as_pointer())
        b.store(b.fadd(b.load(place), lanes.horizontal_sum(total)), place)


@_emits
def copy_rows(
    b: Any, code: int, out_code: int, source: Any, pitch: Any, out: Any, out_pitch: Any, rows: Any, count: Any
) -> None:
    """`count` lanes of each of `rows` rows, converted from elements of one code to another's."""

    def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        for index in indices:
            value = lanes.load(b.add(from_row, _scaled(b, index, _BYTES[code])), code)
            lanes.store(value, b.add(to_row, _scaled(b, index, _BYTES[out_code])), out_code)
        return []

    row = _Loop(b, _constant(0), rows, 1, [])
    from_row, to_row = b.add(source, b.mul(row.index, pitch)), b.add(out, b.mul(row.index, out_pitch))
    _lane_loops(b, code, count, 1, [], body)
    row.close([])


@_emits
def add_lanes(b: Any, code: int, source: Any, out: Any, count: Any) -> None:
    """out[lane] += source[lane]."""

    def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at = _scaled(b, indices[0], _BYTES[code])
        place = b.add(out, at)
        lanes.store(lanes.add(lanes.load(place, code), lanes.load(b.add(source, at), code)), place, code)
        return []

    _lane_loops(b, code, count, 1, [], body)


@_emits
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
        function = ir.Function(b.module, ir.FunctionType(ir.VoidType(), [_INT64] * 6), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block())
        _emit_transpose(body, code, out_code, *function.args)
        body.ret_void()
    b.call(function, [source, pitch, out, out_pitch, rows, columns])


def _emit_transpose(
    b: Any, code: int, out_code: int, source: Any, pitch: Any, out: Any, out_pitch: Any, rows: Any, columns: Any
) -> None:
    lanes = VECTOR_BYTES // _BYTES[compute_code(code)]
    row = _Loop(b, _constant(0), rows, lanes, [])
    column = _Loop(b, _constant(0), columns, lanes, [])
    rows_left, columns_left = b.sub(rows, row.index), b.sub(columns, column.index)
    full = b.and_(b.icmp_signed(">=", rows_left, _constant(lanes)), b.icmp_signed(">=", columns_left, _constant(lanes)))
    first = b.add(b.add(source, b.mul(row.index, pitch)), _scaled(b, column.index, _BYTES[code]))
    to = b.add(b.add(out, b.mul(column.index, out_pitch)), _scaled(b, row.index, _BYTES[out_code]))
    with b.if_else(full) as (then, otherwise):
        with then:
            whole = _Lanes(b, code, lanes)
            block = [whole.load(b.add(first, b.mul(pitch, _constant(i))), code) for i in range(lanes)]
            for i, vector in enumerate(_transposed(b, block, lanes)):
                whole.store(vector, b.add(to, b.mul(out_pitch, _constant(i))), out_code)
        with otherwise:
            within, across = _Lanes(b, code, lanes, columns_left), _Lanes(b, code, lanes, rows_left)
            block = []
            for i in range(lanes):  # the last row again for those that are not there
                last = b.icmp_signed("<", rows_left, _constant(i + 1))
                at = b.select(last, b.sub(rows_left, _constant(1)), _constant(i))
                block.append(within.load(b.add(first, b.mul(pitch, at)), code))
            for i, vector in enumerate(_transposed(b, block, lanes)):
                with b.if_then(b.icmp_signed(">", columns_left, _constant(i))):
                    across.store(vector, b.add(to, b.mul(out_pitch, _constant(i))), out_code)
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
                    indices = ir.Constant(ir.VectorType(_INT32, lanes), order)
                    block[place] = b.shuffle_vector(above, below, indices)
        step *= 2
    return block


@_emits
def fill_zero(b: Any, address: Any, size: Any) -> None:
    """Zeroes `size` bytes."""
    _cgutils.memset(b, b.inttoptr(address, ir.IntType(8).as_pointer()), size, 0)


@_emits
def read(b: Any, code: int, address: Any) -> float:
    """The element of code `code` at `address`, as a number of the computing type."""
    return b.extract_element(_Lanes(b, code, 1).load(address, code), ir.Constant(_INT32, 0))


@_emits
def write(b: Any, code: int, address: Any, value: Any) -> None:
    """Writes a number of the computing type as an element of code `code`."""
    _Lanes(b, code, 1).store(_Lanes(b, code, 1).all_lanes(value), address, code)


@_emits
def read_address(b: Any, address: Any) -> int:
    """Reads an entry of a table of addresses."""
    return _load(b, address, _INT64)


@_emits
def take_next(b: Any, address: Any) -> int:
    """The int64 at `address`, which grows by one: a different one for every thread that asks."""
    return b.atomic_rmw("add", b.inttoptr(address, _INT64.as_pointer()), _constant(1), "monotonic")


@_emits
def write_address(b: Any, address: Any, value: Any) -> None:
    """Writes an int64, an entry of a table of addresses."""
    b.store(value, b.inttoptr(address, _INT64.as_pointer()))
