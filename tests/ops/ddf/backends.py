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
    return KERNELS[backend].unsupported(x, check(x, channel_filter, spatial_filter, *options))


BACKENDS = ("reference", *(name for name in KERNELS if reason_against(name, OpCase(1, 4, 5, 6)) is None))
PLAIN = ("reference", "torch")


def quick(backend: str, case: OpCase, dtype: torch.dtype) -> bool:
    """Whether the default run may make this call.

    A backend that compiles needs seconds for each combination of dtype, filters and kernel size it meets for the first
    time; of those the default run meets a few, the slow one all.
    """
    return backend in PLAIN or (case.kernel_size == 3 and dtype == torch.float32)


def calls(cases: Iterable[OpCase], dtypes: Iterable[torch.dtype], backends: Iterable[str] = BACKENDS) -> list[Any]:
    """Parameters (case, dtype, backend) for `pytest.mark.parametrize`, marked slow where they are not quick."""
    return [
        pytest.param(
            case,
            dtype,
            backend,
            id=f"{case}-{str(dtype).removeprefix('torch.')}-{backend}",
            marks=() if quick(backend, case, dtype) else pytest.mark.slow,
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
