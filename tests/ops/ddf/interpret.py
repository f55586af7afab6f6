"""`python -m tests.ops.ddf.interpret few|quick|slow`: holds the Triton kernels, run by Triton's interpreter, to the oracle.

A process of its own, since TRITON_INTERPRET must be set before Triton is imported. Prints a JSON object: what went wrong, or
null, by call.

No bfloat16: the interpreter casts to it by cutting bits off, where devices round. Kernels differ by dtype in their loads and
stores alone; test_triton_compile.py reads off the machine code that these round.
"""

import itertools
import json
import os
import sys
from collections.abc import Iterator

if __name__ == "__main__":  # not where pytest looks for doctests
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from tests.cases import SMALL
from tests.ops.ddf.backends import MEMORY_FORMATS, assert_format_of
from tests.oracle import assert_close_to_oracle

from ddfnet.bench.cases import OpCase

DTYPES = (torch.float32, torch.float64, torch.float16)
# The interpreter takes a fraction of a second a program: few programs a case, every option of the kernels in some case.
QUICK = (
    OpCase(2, 3, 5, 4),
    OpCase(1, 3, 9, 6, combine="add"),  # rows of tiles, and a ragged last one
    OpCase(1, 4, 3, 5, heads=2),
    OpCase(1, 2, 5, 4, stride=2),
    OpCase(1, 2, 4, 5, stride=3, dilation=2, combine="add"),
    OpCase(1, 2, 4, 4, dilation=2, filters="spatial"),
    OpCase(1, 2, 4, 4, filters="channel"),
    OpCase(1, 2, 3, 2, kernel_size=5),
    OpCase(2, 3, 2, 3, kernel_size=1),
    OpCase(1, 2, 3, 2, scale_factor=2),
    OpCase(1, 2, 2, 2, scale_factor=2, shared_channel_filter=True, combine="add"),
    OpCase(1, 2, 2, 3, scale_factor=3, filters="spatial"),
    OpCase(0, 2, 3, 3),
    OpCase(1, 2, 6, 5, stride=2, padding="valid"),
    OpCase(1, 2, 4, 5, filters="spatial", padding="valid"),
)
FEW = (QUICK[0], QUICK[4], QUICK[5], QUICK[10], QUICK[12])  # each option of the kernels once
BOTH_FORMATS = 5  # of the first QUICK; the rest take turns


def calls(which: str) -> Iterator[tuple[OpCase, torch.dtype, torch.memory_format]]:
    if which == "few":
        for number, case in enumerate(FEW):
            yield case, torch.float32, MEMORY_FORMATS[number % 2]
    elif which == "quick":
        for number, case in enumerate(QUICK):
            formats = MEMORY_FORMATS if number < BOTH_FORMATS else (MEMORY_FORMATS[number % 2],)
            for memory_format in formats:
                yield case, (torch.float32, torch.float16)[number % 7 == 0], memory_format
    else:
        yield from itertools.product((*QUICK, *SMALL), DTYPES, MEMORY_FORMATS)


def outcome(case: OpCase, dtype: torch.dtype, memory_format: torch.memory_format) -> str | None:
    """What was wrong with one call, forward or backward."""
    try:
        inputs, y, grads = assert_close_to_oracle("triton", case, dtype, memory_format)
        assert_format_of(y, inputs[0])
        assert all(grad is None or grad.stride() == t.stride() for t, grad in zip(inputs, grads, strict=True))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def derivatives(memory_format: torch.memory_format) -> str | None:
    """What was wrong with the gradients of both orders, in float64."""
    case = OpCase(1, 2, 2, 2)
    inputs = [t.detach().requires_grad_() for t in case.inputs(dtype=torch.float64, memory_format=memory_format)]
    try:
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            check(lambda *tensors: case.call(*tensors, backend="triton"), inputs, fast_mode=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def gaps(memory_format: torch.memory_format) -> str | None:
    """What was wrong with the gradients of tensors with gaps between their elements; partial sums are added without any."""
    case = OpCase(1, 3, 9, 6)  # several programs for each sum
    inputs = case.inputs(memory_format=memory_format)
    apart = []
    for tensor in inputs:
        wider = torch.stack((tensor, torch.full_like(tensor, torch.nan)), dim=-1)
        apart.append(wider.select(-1, 0).requires_grad_())
    try:
        dense = [t.detach().requires_grad_() for t in inputs]
        grad_y = torch.randn(case.out_shape, generator=torch.Generator().manual_seed(1))
        expected = torch.autograd.grad(case.call(*dense, backend="reference"), dense, grad_y)
        found = torch.autograd.grad(case.call(*apart, backend="triton"), apart, grad_y)
        torch.testing.assert_close(found, expected)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN
    found = {}
    for case, dtype, memory_format in calls(sys.argv[1]):
        name = f"{case} {str(dtype).removeprefix('torch.')} {str(memory_format).removeprefix('torch.')}"
        found[name] = outcome(case, dtype, memory_format)
        print(name, found[name], file=sys.stderr, flush=True)
    for memory_format in MEMORY_FORMATS:
        if sys.argv[1] == "few":
            continue
        if sys.argv[1] == "slow" or memory_format == torch.contiguous_format:
            found[f"gradgradcheck {str(memory_format).removeprefix('torch.')}"] = derivatives(memory_format)
        found[f"gaps {str(memory_format).removeprefix('torch.')}"] = gaps(memory_format)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
