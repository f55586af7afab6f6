"""Intrinsics that any CPU kernel can call: reading, writing, copying and transposing elements, as LLVM vectors.

`emits` makes an intrinsic of a Python function that writes LLVM. Addresses are int64 byte addresses.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ddfnet.ops.cpu.vectors import (
    BYTES,
    FLOAT64,
    INT32,
    INT64,
    VECTOR_BYTES,
    Lanes,
    Loop,
    compute_code,
    lane_loops,
    load,
)

_cgutils: Any = cgutils  # not typed


class Rows(NamedTuple):
    """Rows of numbers in memory."""

    address: Any  # of the first row
    pitch: Any  # bytes from one row to the next


def emits(function: Callable[..., Any]) -> Any:
    """Make an intrinsic of `function(builder, ...)`, which writes LLVM for values that are known when it runs.

    The annotation of a parameter says what is passed for it: `int` a literal, a named tuple a record of int64 numbers,
    anything else an int64 number, or one of the computing type (see `compute_code`) of the element code `code`.

    Returns:
        The intrinsic or, where `function` has keyword-only parameters, a factory that takes them, as ints, and returns
        the intrinsic of these options.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    positional = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    if len(positional) == len(parameters):
        return _intrinsic(function, positional, {})

    def with_options(**options: int) -> Any:
        return _intrinsic(function, positional, options)

    return with_options


def _intrinsic(function: Callable[..., Any], parameters: list[inspect.Parameter], options: dict[str, int]) -> Any:
    def typed(typingctx: Any, *arguments: Any) -> Any:
        literals: list[int] = []
        argument_types: list[Any] = []
        for parameter, argument in zip(parameters, arguments, strict=True):
            if parameter.annotation is int:
                if not isinstance(argument, types.IntegerLiteral | types.BooleanLiteral):
                    return None
                literals.append(int(argument.literal_value))
            known = parameter.annotation is int or isinstance(argument, types.BaseTuple)
            number = types.int64 if isinstance(argument, types.Integer) else _number(literals, options)
            argument_types.append(argument if known else number)
        returned = inspect.signature(function).return_annotation
        result = types.void if returned is None else types.int64 if returned is int else _number(literals, options)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            constants = iter(literals)
            given = [
                next(constants) if parameter.annotation is int else _record(context, builder, parameter, kind, value)
                for parameter, kind, value in zip(parameters, signature.args, values, strict=True)
            ]
            emitted = function(builder, *given, **options)
            return context.get_dummy_value() if emitted is None else emitted

        return result(*argument_types), codegen

    first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    typed.__name__ = typed.__qualname__ = function.__name__
    typed.__doc__ = function.__doc__
    return intrinsic(prefer_literal=True)(typed)


def _record(context: Any, b: Any, parameter: inspect.Parameter, kind: Any, value: Any) -> Any:
    """Return the value of an argument, the values of a record as the named tuple of the parameter's annotation."""
    if not isinstance(kind, types.BaseTuple):
        return value
    kinds: Any = kind
    items = _cgutils.unpack_tuple(b, value, len(kinds))
    return parameter.annotation(
        *(context.cast(b, item, each, types.int64) for item, each in zip(items, kinds, strict=True))
    )


def _number(literals: list[int], options: dict[str, int]) -> Any:
    code = options["code"] if "code" in options else literals[0]
    return types.float64 if compute_code(code) == FLOAT64 else types.float32


def constant(number: int) -> Any:
    return ir.Constant(INT64, number)


def scaled(b: Any, index: Any, size: int) -> Any:
    return b.mul(index, constant(size))


def entry(b: Any, table: Any, index: int) -> Any:
    return load(b, b.add(table, constant(8 * index)), INT64)


@emits
def copy_rows(b: Any, code: int, out_code: int, source: Rows, out: Rows, rows: Any, count: Any) -> None:
    """Copy `count` lanes of each of `rows` rows, converted from elements of one code to another's."""

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        for index in indices:
            value = lanes.load(b.add(from_row, scaled(b, index, BYTES[code])), code)
            lanes.store(value, b.add(to_row, scaled(b, index, BYTES[out_code])), out_code)
        return []

    row = Loop(b, constant(0), rows, 1, [])
    from_row, to_row = (
        b.add(source.address, b.mul(row.index, source.pitch)),
        b.add(out.address, b.mul(row.index, out.pitch)),
    )
    lane_loops(b, code, count, 1, [], body)
    row.close([])


@emits
def add_lanes(b: Any, code: int, source: Any, out: Any, count: Any) -> None:
    """Compute out[lane] += source[lane]."""

    def body(lanes: Lanes, indices: list[Any], carried: list[Any]) -> list[Any]:
        at = scaled(b, indices[0], BYTES[code])
        place = b.add(out, at)
        lanes.store(lanes.add(lanes.load(place, code), lanes.load(b.add(source, at), code)), place, code)
        return []

    lane_loops(b, code, count, 1, [], body)


@emits
def transpose(b: Any, code: int, out_code: int, source: Rows, out: Rows, rows: Any, columns: Any) -> None:
    """Compute out[column][row] = source[row][column], converted from elements of one code to another's.

    Square blocks of a vector's lanes are loaded by row, transposed in registers and stored by column.
    """
    name = f"ddfnet_transpose_{code}_{out_code}"
    function = b.module.globals.get(name)
    if function is None:  # once for all calls of a kernel: it is long
        function = ir.Function(b.module, ir.FunctionType(ir.VoidType(), [INT64] * 6), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block())
        address, pitch, out_address, out_pitch, *counts = function.args
        _emit_transpose(body, code, out_code, Rows(address, pitch), Rows(out_address, out_pitch), *counts)
        body.ret_void()
    b.call(function, [*source, *out, rows, columns])


def _emit_transpose(b: Any, code: int, out_code: int, source: Rows, out: Rows, rows: Any, columns: Any) -> None:
    lanes = VECTOR_BYTES // BYTES[compute_code(code)]
    row = Loop(b, constant(0), rows, lanes, [])
    column = Loop(b, constant(0), columns, lanes, [])
    rows_left, columns_left = b.sub(rows, row.index), b.sub(columns, column.index)
    full = b.and_(b.icmp_signed(">=", rows_left, constant(lanes)), b.icmp_signed(">=", columns_left, constant(lanes)))
    first = b.add(b.add(source.address, b.mul(row.index, source.pitch)), scaled(b, column.index, BYTES[code]))
    to = b.add(b.add(out.address, b.mul(column.index, out.pitch)), scaled(b, row.index, BYTES[out_code]))
    with b.if_else(full) as (then, otherwise):
        with then:
            whole = Lanes(b, code, lanes)
            block = [whole.load(b.add(first, b.mul(source.pitch, constant(i))), code) for i in range(lanes)]
            for i, vector in enumerate(_transposed(b, block, lanes)):
                whole.store(vector, b.add(to, b.mul(out.pitch, constant(i))), out_code)
        with otherwise:
            within, across = Lanes(b, code, lanes, columns_left), Lanes(b, code, lanes, rows_left)
            block = []
            for i in range(lanes):  # the last row again for those that are not there
                last = b.icmp_signed("<", rows_left, constant(i + 1))
                at = b.select(last, b.sub(rows_left, constant(1)), constant(i))
                block.append(within.load(b.add(first, b.mul(source.pitch, at)), code))
            for i, vector in enumerate(_transposed(b, block, lanes)):
                with b.if_then(b.icmp_signed(">", columns_left, constant(i))):
                    across.store(vector, b.add(to, b.mul(out.pitch, constant(i))), out_code)
    column.close([])
    row.close([])


def _transposed(b: Any, block: list[Any], lanes: int) -> list[Any]:
    """Return the columns of a square of vectors: quarters of ever larger squares change places."""
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
    """Zero `size` bytes."""
    _cgutils.memset(b, b.inttoptr(address, ir.IntType(8).as_pointer()), size, 0)


@emits
def read(b: Any, code: int, address: Any) -> float:
    """Return the element of code `code` at `address`, as a number of the computing type."""
    return b.extract_element(Lanes(b, code, 1).load(address, code), ir.Constant(INT32, 0))


@emits
def write(b: Any, code: int, address: Any, value: Any) -> None:
    """Write a number of the computing type as an element of code `code`."""
    Lanes(b, code, 1).store(Lanes(b, code, 1).all_lanes(value), address, code)


@emits
def read_address(b: Any, address: Any) -> int:
    """Read an entry of a table of addresses."""
    return load(b, address, INT64)


@emits
def take_next(b: Any, address: Any) -> int:
    """Return the int64 at `address`, which grows by one: a different one for every thread that asks."""
    return b.atomic_rmw("add", b.inttoptr(address, INT64.as_pointer()), constant(1), "monotonic")


@emits
def write_address(b: Any, address: Any, value: Any) -> None:
    """Write an int64, an entry of a table of addresses."""
    b.store(value, b.inttoptr(address, INT64.as_pointer()))
