"""Vectors in LLVM: loads, stores and arithmetic on lanes, and loops over them, for `intrinsics.py`.

Half types are widened to float32 exactly and rounded to nearest even when stored. The number of lanes is that of the
machine's vectors; on other machines LLVM uses as many instructions as it needs.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

_cgutils: Any = cgutils  # not typed

FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = range(4)  # element codes
MUL, ADD = 0, 1
_CONTRACT = ("contract",)  # multiply-adds may fuse; NaN, infinities and the order of sums stay
INT64 = ir.IntType(64)
INT32 = ir.IntType(32)
_STORED = {FLOAT32: ir.FloatType(), FLOAT64: ir.DoubleType(), BFLOAT16: ir.IntType(16), FLOAT16: ir.HalfType()}
BYTES = {FLOAT32: 4, FLOAT64: 8, BFLOAT16: 2, FLOAT16: 2}


def _vector_bytes() -> int:
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # unknown host
        return 16
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()


def compute_code(code: int) -> int:
    """Return the element code of sums: float32 for half types."""
    return FLOAT64 if code == FLOAT64 else FLOAT32


def element_size(code: int) -> int:
    """Return the bytes of an element."""
    return BYTES[code]


class Lanes:
    """An emitter of loads, stores and arithmetic on vectors of one width, the last vector of a loop under a mask."""

    def __init__(self, builder: Any, code: int, lanes: int, remaining: Any = None) -> None:
        self.builder, self.code, self.lanes = builder, code, lanes
        self.element = _STORED[compute_code(code)]
        self.type = ir.VectorType(self.element, lanes)
        self.mask = None
        if remaining is not None:
            ids = ir.Constant(ir.VectorType(INT64, lanes), list(range(lanes)))
            self.mask = builder.icmp_signed("<", ids, self._splat(remaining, INT64))

    def _splat(self, value: Any, element: Any) -> Any:
        vector = ir.VectorType(element, self.lanes)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def all_lanes(self, number: Any) -> Any:
        """Put a number of the computing type in all lanes."""
        return self._splat(number, self.element)

    def zero(self) -> Any:
        return ir.Constant(self.type, [0.0] * self.lanes)

    def broadcast(self, address: Any) -> Any:
        """Load the scalar of the computing type at `address` into all lanes."""
        return self._splat(load(self.builder, address, self.element), self.element)

    def load(self, address: Any, code: int) -> Any:
        """Load a vector of the computing type; half types are widened exactly."""
        b = self.builder
        stored = ir.VectorType(_STORED[code], self.lanes)
        if self.mask is None:
            raw = load(b, address, stored)
        else:
            raw = self._masked("load", stored, b.inttoptr(address, stored.as_pointer()), self.mask)
        if code == BFLOAT16:
            wide = ir.VectorType(INT32, self.lanes)
            sixteen = ir.Constant(wide, [16] * self.lanes)
            return b.bitcast(b.shl(b.zext(raw, wide), sixteen), self.type)
        return b.fpext(raw, self.type) if code == FLOAT16 else raw

    def store(self, value: Any, address: Any, code: int) -> None:
        """Store a vector, rounded to nearest even."""
        b = self.builder
        mask = self.mask
        if code == BFLOAT16:
            value = _round_to_bfloat16(b, value, self.lanes)
            # LLVM turns a store that it knows to be of one lane into one of the 32 bits before rounding cut them to 16.
            mask = None if mask is None else _hidden(b, mask, self.lanes)
        elif code == FLOAT16:
            value = b.fptrunc(value, ir.VectorType(ir.HalfType(), self.lanes))
        pointer = b.inttoptr(address, value.type.as_pointer())
        if self.mask is None:
            b.store(value, pointer, align=BYTES[code])
        else:
            self._masked("store", value.type, pointer, mask, value)

    def _masked(self, name: str, vector: Any, pointer: Any, mask: Any, *values: Any) -> Any:
        kind = {ir.IntType(16): "i16", ir.HalfType(): "f16", ir.FloatType(): "f32", ir.DoubleType(): "f64"}
        full = f"llvm.masked.{name}.v{self.lanes}{kind[vector.element]}.p0"
        align = ir.Constant(INT32, vector.element.width // 8 if isinstance(vector.element, ir.IntType) else 2)
        mask_type = ir.VectorType(ir.IntType(1), self.lanes)
        if name == "load":
            signature = ir.FunctionType(vector, [pointer.type, INT32, mask_type, vector])
            zero = ir.Constant(vector, None)
            args = [pointer, align, mask, zero]
        else:
            signature = ir.FunctionType(ir.VoidType(), [vector, pointer.type, INT32, mask_type])
            args = [*values, pointer, align, mask]
        return self.builder.call(_cgutils.get_or_insert_function(self.builder.module, signature, full), args)

    def multiply(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_CONTRACT)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_CONTRACT)

    def multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        return self.add(self.multiply(a, b), total)

    def add_weighted(self, value: Any, weight: Any, total: Any) -> Any:
        """Compute total + value * weight, or total + value if the weight is None."""
        return self.add(total, value) if weight is None else self.multiply_add(value, weight, total)

    def combine(self, a: Any, b: Any, combine: int) -> Any:
        """Apply (*) of Eq. 2 if both filters exist; otherwise return the one that does."""
        if a is None or b is None:
            return b if a is None else a
        return self.multiply(a, b) if combine == MUL else self.add(a, b)

    def horizontal_sum(self, vector: Any) -> Any:
        suffix = f"v{self.lanes}f{32 if isinstance(self.element, ir.FloatType) else 64}"
        signature = ir.FunctionType(self.element, [self.element, self.type])
        name = f"llvm.vector.reduce.fadd.{suffix}"
        reduce = _cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(reduce, [ir.Constant(self.element, -0.0), vector], fastmath=("reassoc",))


def load(builder: Any, address: Any, kind: Any) -> Any:
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    width = {ir.FloatType(): 4, ir.DoubleType(): 8, ir.HalfType(): 2}.get(element) or element.width // 8
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=width)


def prefetch(builder: Any, address: Any, to_write: bool) -> None:
    """Bring the cache line at `address` near, for reading or writing; any address is safe."""
    pointer = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [pointer, INT32, INT32, INT32])
    function = _cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    nearest, data = 3, 1
    options = [ir.Constant(INT32, number) for number in (int(to_write), nearest, data)]
    builder.call(function, [builder.inttoptr(address, pointer), *options])


def _hidden(b: Any, mask: Any, lanes: int) -> Any:
    """Pass the mask through an empty instruction that the optimiser does not look into."""
    bits = b.zext(b.bitcast(mask, ir.IntType(lanes)), INT64)
    bits = b.asm(ir.FunctionType(INT64, [INT64]), "", "=r,0", [bits], side_effect=False)
    return b.bitcast(b.trunc(bits, ir.IntType(lanes)), mask.type)


def _round_to_bfloat16(b: Any, value: Any, lanes: int) -> Any:
    """Return the bits of the nearest bfloat16, ties to even, NaN kept."""
    wide = ir.VectorType(INT32, lanes)

    def constant(number: int) -> Any:
        return ir.Constant(wide, [number] * lanes)

    bits = b.bitcast(value, wide)
    odd = b.and_(b.lshr(bits, constant(16)), constant(1))
    rounded = b.add(bits, b.add(odd, constant(0x7FFF)))
    bits = b.select(b.fcmp_unordered("uno", value, value), b.or_(bits, constant(0x400000)), rounded)
    return b.trunc(b.lshr(bits, constant(16)), ir.VectorType(ir.IntType(16), lanes))


class Loop:
    """`for lane in range(0, count, step)` with values carried from one step to the next."""

    def __init__(self, builder: Any, start: Any, stop: Any, step: int, carried: list[Any]) -> None:
        self.builder, self.stop, self.step = builder, stop, ir.Constant(INT64, step)
        before, self.head = builder.block, builder.append_basic_block("loop")
        self.body, self.end = builder.append_basic_block("body"), builder.append_basic_block("end")
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.index = builder.phi(INT64)
        self.index.add_incoming(start, before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", self.index, stop), self.body, self.end)
        builder.position_at_end(self.body)

    def close(self, carried: list[Any]) -> list[Any]:
        """End the body and return the carried values after the loop."""
        b = self.builder
        last = b.block
        self.index.add_incoming(b.add(self.index, self.step), last)
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, last)
        b.branch(self.head)
        b.position_at_end(self.end)
        return self.carried


def lane_loops(b: Any, code: int, count: Any, unroll: int, carried: list[Any], body: Any) -> list[Any]:
    """Run `body(lanes, indices, carried)` over all lanes: unrolled vectors, single vectors, the rest under a mask."""
    lanes = VECTOR_BYTES // BYTES[compute_code(code)]
    start: Any = ir.Constant(INT64, 0)
    for vectors in (unroll, 1) if unroll > 1 else (1,):
        whole = b.and_(count, ir.Constant(INT64, -lanes * vectors))  # lanes and unroll are powers of two
        loop = Loop(b, start, whole, lanes * vectors, carried)
        indices = [b.add(loop.index, ir.Constant(INT64, v * lanes)) for v in range(vectors)]
        carried = loop.close(body(Lanes(b, code, lanes), indices, loop.carried))
        start = whole
    masked = Lanes(b, code, lanes, b.sub(count, start))
    loop = Loop(b, start, count, lanes, carried)
    return loop.close(body(masked, [loop.index], loop.carried))
