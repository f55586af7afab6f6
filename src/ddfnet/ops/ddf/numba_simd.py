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


def _literal_intrinsic(function: Callable[..., Any]) -> Any:
    """numba's intrinsic of a function whose integer constants arrive as literals."""
    return intrinsic(prefer_literal=True)(function)


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


def _lane_loops(b: Any, code: int, count: Any, unroll: int, carried: list[Any], body: Any, width: int = 0) -> list[Any]:
    """Runs `body(lanes, offsets, carried)` over all lanes: unrolled vectors, single vectors, the rest under a mask."""
    lanes = (width or VECTOR_BYTES) // _BYTES[compute_code(code)]
    whole = {}
    for steps in (lanes * unroll, lanes):
        whole[steps] = b.and_(count, ir.Constant(_INT64, -steps)) if steps & (steps - 1) == 0 else None
    start: Any = ir.Constant(_INT64, 0)
    for vectors in (unroll, 1) if unroll > 1 else (1,):
        loop = _Loop(b, start, whole[lanes * vectors], lanes * vectors, carried)
        indices = [b.add(loop.index, ir.Constant(_INT64, v * lanes)) for v in range(vectors)]
        carried = loop.close(body(_Lanes(b, code, lanes), indices, loop.carried))
        start = whole[lanes * vectors]
    loop = _Loop(b, start, count, lanes, carried)
    rest = b.sub(count, loop.index)
    return loop.close(body(_Lanes(b, code, lanes, rest), [loop.index], loop.carried))


def _literals(*arguments: Any) -> list[int] | None:
    if not all(isinstance(a, types.IntegerLiteral | types.BooleanLiteral) for a in arguments):
        return None
    return [int(a.literal_value) for a in arguments]


def _scaled(b: Any, index: Any, size: int) -> Any:
    return b.mul(index, ir.Constant(_INT64, size))


def _void(n_literals: int, arguments: tuple[Any, ...]) -> Any:
    return types.void(*arguments[:n_literals], *(types.int64 for _ in arguments[n_literals:]))


@_literal_intrinsic
def weighted_sum(
    typingctx: Any,
    code: Any,
    out_code: Any,
    combine: Any,
    has_scalar: Any,
    has_vector: Any,
    taps: Any,
    sources: Any,
    scalars: Any,
    vectors: Any,
    offset: Any,
    vector_offset: Any,
    out: Any,
    count: Any,
) -> Any:
    """out[lane] = sum over taps t of (scalars[t] (*) vectors[t][lane]) * sources[t][lane], for `count` lanes.

    Args:
        code, out_code, combine, has_scalar, has_vector: literals.
        taps: how many.
        sources, scalars, vectors: tables of a source address, a scalar and a vector address per tap.
        offset, vector_offset: bytes to add to each source and vector address.
    """
    literals = _literals(code, out_code, combine, has_scalar, has_vector)
    if literals is None:
        return None
    arguments = (
        code,
        out_code,
        combine,
        has_scalar,
        has_vector,
        taps,
        sources,
        scalars,
        vectors,
        offset,
        vector_offset,
        out,
        count,
    )

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        code, out_code, combine, has_scalar, has_vector = literals
        taps, sources, scalars, vectors, offset, vector_offset, out, count = args[5:]
        size, out_size, computed = _BYTES[code], _BYTES[out_code], _BYTES[compute_code(code)]

        def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
            zero = ir.Constant(_INT64, 0)
            loop = _Loop(b, zero, taps, 1, [lanes.zero() for _ in indices])
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
                lanes.store(total, b.add(out, _scaled(b, index, out_size)), out_code)
            return []

        _lane_loops(b, code, count, 4, [], body)
        return context.get_dummy_value()

    return _void(5, arguments), codegen


@_literal_intrinsic
def filter_gradients(
    typingctx: Any,
    code: Any,
    combine: Any,
    has_scalar: Any,
    has_vector: Any,
    needs_scalar: Any,
    needs_vector: Any,
    taps: Any,
    grad_output: Any,
    sources: Any,
    scalars: Any,
    vectors: Any,
    offset: Any,
    vector_offset: Any,
    grad_scalars: Any,
    grad_vectors: Any,
    grad_pitch: Any,
    count: Any,
) -> Any:
    """grad_scalars[t] = sum over lanes, and grad_vectors[t][lane] += , of grad_output[lane] * sources[t][lane] (* filter).

    Args:
        code, combine, has_scalar, has_vector, needs_scalar, needs_vector, taps: literals; the tap loop is unrolled.
        grad_output: address of the first lane, of element code `code`.
        sources, scalars, vectors, offset, vector_offset: as in `weighted_sum`.
        grad_scalars: address of `taps` sums, overwritten.
        grad_vectors, grad_pitch: address of the first tap's vector, and bytes to the next tap's.
    """
    literals = _literals(code, combine, has_scalar, has_vector, needs_scalar, needs_vector, taps)
    if literals is None:
        return None
    arguments = (
        code,
        combine,
        has_scalar,
        has_vector,
        needs_scalar,
        needs_vector,
        taps,
        grad_output,
        sources,
        scalars,
        vectors,
        offset,
        vector_offset,
        grad_scalars,
        grad_vectors,
        grad_pitch,
        count,
    )

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        code, combine, has_scalar, has_vector, needs_scalar, needs_vector, taps = literals
        grad_output, sources, scalars, vectors, offset, vector_offset, grad_scalars, grad_vectors, grad_pitch, count = (
            args[7:]
        )
        size, computed = _BYTES[code], _BYTES[compute_code(code)]
        both = combine == MUL and has_scalar and has_vector

        def constant(number: int) -> Any:
            return ir.Constant(_INT64, number)

        bases, filters, grads = [], [], []
        for t in range(taps):
            bases.append(b.add(_load(b, b.add(sources, constant(8 * t)), _INT64), offset))
            if needs_scalar and both:
                filters.append(b.add(_load(b, b.add(vectors, constant(8 * t)), _INT64), vector_offset))
            grads.append(b.add(grad_vectors, b.mul(grad_pitch, constant(t))))

        def body(lanes: _Lanes, indices: list[Any], sums: list[Any]) -> list[Any]:
            (index,) = indices
            at = _scaled(b, index, size)
            at_computed = _scaled(b, index, computed)
            grad = lanes.load(b.add(grad_output, at), code)
            sums = list(sums)
            for t in range(taps):
                product = lanes.multiply(grad, lanes.load(b.add(bases[t], at), code))
                if needs_vector:
                    place = b.add(grads[t], at_computed)
                    total = lanes.load(place, compute_code(code))
                    if both:
                        total = lanes.multiply_add(
                            product, lanes.broadcast(b.add(scalars, constant(t * computed))), total
                        )
                    else:
                        total = lanes.add(total, product)
                    lanes.store(total, place, compute_code(code))
                if needs_scalar:
                    if both:
                        vector = lanes.load(b.add(filters[t], at_computed), compute_code(code))
                        sums[t] = lanes.multiply_add(product, vector, sums[t])
                    else:
                        sums[t] = lanes.add(sums[t], product)
            return sums

        lanes = _Lanes(b, code, VECTOR_BYTES // computed)
        sums = _lane_loops(b, code, count, 1, [lanes.zero()] * taps if needs_scalar else [], body)
        for t, total in enumerate(sums):
            place = b.inttoptr(b.add(grad_scalars, constant(t * computed)), lanes.element.as_pointer())
            b.store(lanes.horizontal_sum(total), place)
        return context.get_dummy_value()

    return _void(7, arguments), codegen


@_literal_intrinsic
def copy_lanes(
    typingctx: Any,
    code: Any,
    out_code: Any,
    source: Any,
    out: Any,
    count: Any,
) -> Any:
    """out[lane] = source[lane] for `count` lanes, converted from element `code` to `out_code`."""
    literals = _literals(code, out_code)
    if literals is None:
        return None

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        code, out_code = literals
        source, out, count = args[2:]

        def body(lanes: _Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
            for index in indices:
                value = lanes.load(b.add(source, _scaled(b, index, _BYTES[code])), code)
                lanes.store(value, b.add(out, _scaled(b, index, _BYTES[out_code])), out_code)
            return []

        _lane_loops(b, code, count, 1, [], body)
        return context.get_dummy_value()

    return _void(2, (code, out_code, source, out, count)), codegen


@_literal_intrinsic
def fill_zero(typingctx: Any, address: Any, size: Any) -> Any:
    """Zeroes `size` bytes."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        pointer = b.inttoptr(args[0], ir.IntType(8).as_pointer())
        _cgutils.memset(b, pointer, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@_literal_intrinsic
def read(typingctx: Any, code: Any, address: Any) -> Any:
    """The element of code `code` at `address`, as a number of the computing type."""
    literals = _literals(code)
    if literals is None:
        return None
    result = types.float64 if compute_code(literals[0]) == FLOAT64 else types.float32

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        value = _Lanes(b, literals[0], 1).load(args[1], literals[0])
        return b.extract_element(value, ir.Constant(_INT32, 0))

    return result(code, types.int64), codegen


@_literal_intrinsic
def write(typingctx: Any, code: Any, address: Any, value: Any) -> Any:
    """Writes a number of the computing type as an element of code `code`."""
    literals = _literals(code)
    if literals is None:
        return None
    number = types.float64 if compute_code(literals[0]) == FLOAT64 else types.float32

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(b, literals[0], 1)
        lanes.store(lanes._splat(args[2], lanes.element), args[1], literals[0])
        return context.get_dummy_value()

    return types.void(code, types.int64, number), codegen


@_literal_intrinsic
def write_address(typingctx: Any, address: Any, value: Any) -> Any:
    """Writes an int64, an entry of a table of addresses."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        b.store(args[1], b.inttoptr(args[0], _INT64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen
