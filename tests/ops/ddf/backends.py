"""The backends that this machine can run, and what the tests of all of them share."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from ddfnet.bench.cases import OpCase
from ddfnet.ops.ddf.api import KERNELS
from ddfnet.ops.ddf.geometry import check

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)


def reason_against(backend: str, case: OpCase, dtype: torch.dtype = torch.float32) -> str | None:
    """Why `backend` says it can't serve `case`; None for "reference" and wherever it can."""
    if backend == "reference":
        return None
    x, channel_filter, spatial_filter = case.inputs(dtype=dtype)
    options = (case.kernel_size, case.stride, case.dilation, case.scale_factor, case.combine)
    return KERNELS[backend].unsupported(x, check(x, channel_filter, spatial_filter, *options, padding=case.padding))


BACKENDS = ("reference", *(name for name in KERNELS if reason_against(name, OpCase(1, 4, 5, 6)) is None))
PLAIN = ("reference", "torch")


def compiles(backend: str) -> bool:
    """Whether a backend spends seconds on each combination of dtype, filters and options that it meets first."""
    return backend not in PLAIN


# For backends that compile: between them every kernel of a layout and direction, with either combination and each filter.
COMPILED = (
    OpCase(2, 8, 7, 9),
    OpCase(2, 6, 7, 9, heads=3),
    OpCase(1, 5, 8, 10, stride=2, heads=5, combine="add"),
    OpCase(2, 17, 1, 1),
    OpCase(0, 4, 5, 6),
    OpCase(2, 6, 7, 5, filters="channel"),
    OpCase(2, 6, 7, 5, filters="spatial", combine="add", stride=2),
    OpCase(2, 8, 7, 9, padding="valid"),
    OpCase(2, 6, 5, 4, scale_factor=2),
    OpCase(2, 4, 3, 5, scale_factor=2, heads=2),
)


def marks(backend: str, case: OpCase, dtype: torch.dtype) -> Any:
    """None where the default run makes this call, `release` where the run before a release does, else `slow`."""
    if not compiles(backend) or (dtype == torch.float32 and case in COMPILED):
        return ()
    return pytest.mark.release if dtype == torch.float32 and case.kernel_size == 3 else pytest.mark.slow


def calls(cases: Iterable[OpCase], dtypes: Iterable[torch.dtype], backends: Iterable[str] = BACKENDS) -> list[Any]:
    """Parameters (case, dtype, backend) for `pytest.mark.parametrize`, marked as `marks` says."""
    return [
        pytest.param(
            case,
            dtype,
            backend,
            id=f"{case}-{str(dtype).removeprefix('torch.')}-{backend}",
            marks=marks(backend, case, dtype),
        )
        for case, dtype, backend in itertools.product(cases, dtypes, backends)
    ]


def skip_unless_supported(backend: str, case: OpCase, dtype: torch.dtype = torch.float32) -> None:
    """Skips where a backend refuses; "torch" must serve every call."""
    reason = reason_against(backend, case, dtype)
    if reason is not None:
        assert backend != "torch"
        pytest.skip(f"{backend}: {reason}")


def assert_format_of(y: torch.Tensor, x: torch.Tensor) -> None:
    """y is dense in the memory format of x; in either where x, having only one pixel or one channel, has both."""
    formats = [each for each in MEMORY_FORMATS if x.is_contiguous(memory_format=each)]
    assert any(y.is_contiguous(memory_format=each) for each in formats), f"{y.stride()} for {x.stride()}"
