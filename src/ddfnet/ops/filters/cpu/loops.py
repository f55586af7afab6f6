"""The inner loops of the filter prediction on the CPU, as LLVM vectors beside those of `ddfnet.ops.ddf.cpu.loops`.

Filters come out as planes: tap t of neighbouring pixels (or samples) side by side, so that Eq. 3 is lanes of filters.
"""

from typing import Any

from llvmlite import ir

from ddfnet.ops.cpu.intrinsics import Rows, constant, emits, scaled
from ddfnet.ops.cpu.vectors import BYTES, FLOAT64, VECTOR_BYTES, Lanes, Loop, compute_code, lane_loops, load
from ddfnet.ops.filter_norm import EPS

_EPSILON = {True: 2.0**-52, False: 2.0**-23}
_TINY = {True: 2.2250738585072014e-308, False: 1.1754943508222875e-38}  # by whether it is of float64


@emits
def dot_taps(
    b: Any,
    source: Any,
    weights: Rows,
    biases: Any,
    out: Rows,
    sums: Any,
    count: Any,
    *,
    code: int,
    taps: int,
    pools: int,
) -> None:
    """Compute out[t] = biases[t] + sum of weights[t][lane] * source[lane]; with `pools`, sums[lane] += source[lane].

    Weights, biases, sums and out are of the computing type; weights and out have a row for each tap.
    """
    size, computed = BYTES[code], BYTES[compute_code(code)]
    rows = [b.add(weights.address, b.mul(weights.pitch, constant(t))) for t in range(taps)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        x = lanes.load(b.add(source, scaled(b, indices[0], size)), code)
        at = scaled(b, indices[0], computed)
        if pools:
            place = b.add(sums, at)
            lanes.store(lanes.add(lanes.load(place, compute_code(code)), x), place, compute_code(code))
        return [
            lanes.multiply_add(lanes.load(b.add(row, at), compute_code(code)), x, total)
            for row, total in zip(rows, carried, strict=True)
        ]

    lanes = Lanes(b, code, VECTOR_BYTES // computed)
    totals = lane_loops(b, code, count, 1, [lanes.zero()] * taps, body)
    for t, total in enumerate(totals):
        bias = load(b, b.add(biases, constant(t * computed)), lanes.element)
        place = b.add(out.address, b.mul(out.pitch, constant(t)))
        b.store(b.fadd(bias, lanes.horizontal_sum(total)), b.inttoptr(place, lanes.element.as_pointer()))


@emits
def pool_rows(b: Any, code: int, source: Any, pitch: Any, rows: Any, sums: Any, count: Any) -> None:
    """Add the sum over `rows` rows of source[row][lane] to sums[lane], of the computing type."""
    size, computed = BYTES[code], BYTES[compute_code(code)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        row = Loop(b, constant(0), rows, 1, [lanes.zero() for _ in indices])
        start = b.add(source, b.mul(row.index, pitch))
        totals = row.close(
            [
                lanes.add(total, lanes.load(b.add(start, scaled(b, index, size)), code))
                for index, total in zip(indices, row.carried, strict=True)
            ]
        )
        for index, total in zip(indices, totals, strict=True):
            place = b.add(sums, scaled(b, index, computed))
            lanes.store(lanes.add(lanes.load(place, compute_code(code)), total), place, compute_code(code))
        return []

    lane_loops(b, code, count, 4, [], body)


@emits
def sum_rows(b: Any, code: int, source: Any, pitch: Any, rows: Any, count: Any) -> float:
    """Return the sum of `rows` rows of `count` elements."""
    lanes = Lanes(b, code, VECTOR_BYTES // BYTES[compute_code(code)])

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        totals = list(carried)
        for v, index in enumerate(indices):
            totals[v] = lanes.add(totals[v], lanes.load(b.add(start, scaled(b, index, BYTES[code])), code))
        return totals

    row = Loop(b, constant(0), rows, 1, [lanes.zero()] * 4)
    start = b.add(source, b.mul(row.index, pitch))
    totals = row.close(lane_loops(b, code, count, 4, row.carried, body))
    return lanes.horizontal_sum(lanes.add(lanes.add(totals[0], totals[1]), lanes.add(totals[2], totals[3])))


@emits
def take_every(b: Any, code: int, source: Any, step: Any, out: Any, count: Any) -> None:
    """Compute out[lane] = source[lane * step / bytes of an element], of one code; `step` in bytes."""
    loop = Loop(b, constant(0), count, 1, [])
    one = Lanes(b, code, 1)
    value = one.load(b.add(source, b.mul(loop.index, step)), code)
    one.store(value, b.add(out, scaled(b, loop.index, BYTES[code])), code)
    loop.close([])


@emits
def sum_taps(
    b: Any,
    source: Rows,
    depth: Any,
    weights: Rows,
    biases: Any,
    divisor: Any,
    out: Rows,
    count: Any,
    *,
    code: int,
    taps: int,
    relu: int,
) -> None:
    """Compute out[t][lane] = biases[t] + sum of weights[t][d] * source[d][lane] / divisor; with `relu`, at least 0.

    The source is of `code`, all else of the computing type.
    """
    size, own = BYTES[code], compute_code(code)
    computed = BYTES[own]
    rows = [b.add(weights.address, b.mul(weights.pitch, constant(t))) for t in range(taps)]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at, at_source = scaled(b, indices[0], computed), scaled(b, indices[0], size)
        loop = Loop(b, constant(0), depth, 1, [lanes.zero()] * taps)
        x = lanes.load(b.add(b.add(source.address, b.mul(loop.index, source.pitch)), at_source), code)
        step = scaled(b, loop.index, computed)
        totals = loop.close(
            [
                lanes.multiply_add(lanes.broadcast(b.add(row, step)), x, total)
                for row, total in zip(rows, loop.carried, strict=True)
            ]
        )
        count_of = lanes.all_lanes(b.sitofp(divisor, lanes.element))
        for t, total in enumerate(totals):
            bias = lanes.broadcast(b.add(biases, constant(t * computed)))
            value = lanes.add(bias, b.fdiv(total, count_of))
            if relu:  # NaN stays
                value = b.select(b.fcmp_ordered("<", value, lanes.zero()), lanes.zero(), value)
            lanes.store(value, b.add(b.add(out.address, b.mul(out.pitch, constant(t))), at), own)
        return []

    lane_loops(b, code, count, 1, [], body)


@emits
def normalise_taps(
    b: Any, taps: Any, planes: Rows, scales: Any, scaled_planes: Any, stds: Any, count: Any, *, code: int
) -> None:
    """Apply Eq. 3, as `filter_norm` does: u = (raw - mean) / (std + eps) replaces raw in `planes`.

    Args:
        scaled_planes: gets scales[t] * u[t]; may be those of `planes`.
        stds: gets the deviations, a lane a filter.
    """
    size = BYTES[code]

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at = b.add(planes.address, scaled(b, indices[0], size))

        def same(number: float) -> Any:
            return ir.Constant(lanes.type, [number] * lanes.lanes)

        count_of = lanes.all_lanes(b.sitofp(taps, lanes.element))
        loop = Loop(b, constant(0), taps, 1, [lanes.zero()])
        (total,) = loop.close([b.fadd(loop.carried[0], lanes.load(b.add(at, b.mul(loop.index, planes.pitch)), code))])
        mean = b.fdiv(total, count_of)
        loop = Loop(b, constant(0), taps, 1, [lanes.zero()])
        centred = b.fsub(lanes.load(b.add(at, b.mul(loop.index, planes.pitch)), code), mean)
        (total,) = loop.close([lanes.multiply_add(centred, centred, loop.carried[0])])
        variance = b.fdiv(total, b.fsub(count_of, same(1.0)))
        least = same(_TINY[code == FLOAT64])
        variance = b.select(b.fcmp_ordered("<", variance, least), least, variance)
        least = b.fmul(b.fmul(count_of, same(_EPSILON[code == FLOAT64])), mean)  # as `filter_norm`: equal taps
        equal = b.fcmp_ordered("<=", total, b.fmul(b.fmul(least, least), b.fsub(count_of, same(1.0))))
        std = b.select(equal, same(float("inf")), _root(b, lanes, variance))
        lanes.store(std, b.add(stds, scaled(b, indices[0], size)), code)
        inverse = b.fdiv(same(1.0), b.fadd(std, same(EPS)))
        loop = Loop(b, constant(0), taps, 1, [])
        row = b.mul(loop.index, planes.pitch)
        unit = b.fmul(b.fsub(lanes.load(b.add(at, row), code), mean), inverse)
        scale = lanes.broadcast(b.add(scales, scaled(b, loop.index, size)))
        lanes.store(unit, b.add(at, row), code)
        lanes.store(b.fmul(scale, unit), b.add(b.add(scaled_planes, scaled(b, indices[0], size)), row), code)
        loop.close([])
        return []

    lane_loops(b, code, count, 1, [], body)


def _root(b: Any, lanes: Lanes, vector: Any) -> Any:
    name = f"llvm.sqrt.v{lanes.lanes}f{32 if isinstance(lanes.element, ir.FloatType) else 64}"
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(lanes.type, [lanes.type]), name)
    return b.call(function, [vector])
