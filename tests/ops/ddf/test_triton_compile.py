"""The Triton kernels compiled for devices that are not here: registers, spills, shared memory, width of loads, rounding."""

import itertools
import re

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from tests.ops.ddf.backends import MEMORY_FORMATS
from tests.ops.ddf.triton_compile import TARGETS, Usage, compile_for, forced, launches_of

from ddfnet.bench.cases import OpCase

PLANE, CHANNELS_LAST = MEMORY_FORMATS
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CASES = (
    OpCase(32, 256, 56, 56),
    OpCase(32, 256, 56, 56, combine="add"),
    OpCase(32, 256, 7, 7),
    OpCase(32, 256, 56, 56, stride=2),
    OpCase(32, 256, 14, 14, heads=4),
    OpCase(32, 256, 28, 28, kernel_size=5),
    OpCase(32, 256, 28, 28, filters="spatial"),
    OpCase(32, 256, 28, 28, filters="channel"),
    OpCase(1, 33, 8192, 8192),
    OpCase(2, 256, 50, 80, scale_factor=2),
    OpCase(2, 256, 50, 80, scale_factor=2, kernel_size=5, filters="spatial"),
)


def usages(
    target: str, case: OpCase, dtype: torch.dtype, memory_format: torch.memory_format, backward: bool
) -> dict[str, Usage]:
    found = launches_of(case, dtype, memory_format, backward=backward)
    return {launch.kernel.__name__: compile_for(target, launch, tensors) for launch, tensors in found}


def assert_fits(found: dict[str, Usage]) -> None:
    for name, usage in found.items():
        assert usage.spilled == 0, f"{name}: {usage.spilled} bytes spilled, {usage.registers} registers"
        if name == "ddf_forward_kernel":
            assert usage.shared == 0, f"{name}: {usage.shared} bytes of shared memory"
        assert "atom" not in usage.assembly
        assert "red.global" not in usage.assembly


@pytest.mark.parametrize(
    ("dtype", "memory_format"), [(torch.float32, PLANE), (torch.bfloat16, CHANNELS_LAST)], ids=["nchw", "nhwc"]
)
def test_forward_and_backward_fit(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    case = OpCase(32, 256, 56, 56)
    for backward in (False, True):
        found = usages("sm_90", case, dtype, memory_format, backward)
        assert found.keys() == ({"ddf_backward_kernel", "ddf_sum_kernel"} if backward else {"ddf_forward_kernel"})
        assert_fits(found)
        if dtype == torch.bfloat16 and not backward:
            text = found["ddf_forward_kernel"].assembly
            assert len(re.findall(r"ld\.global\.v4\.b32", text)) == 12  # x: 16 bytes a lane
            assert re.search(r"cvt\.rn\.(bf16x2|bf16)\.f32", text)  # rounded to nearest
            assert not re.search(r"cvt\.rz\.(bf16x2|bf16)", text)


def test_wide_offsets_fit() -> None:
    """Maps of 2^31 elements and more: offsets of 64 bits."""
    case = OpCase(1, 33, 8192, 8192)
    ((launch, tensors),) = launches_of(case, torch.bfloat16, PLANE, backward=False)
    assert launch.numbers[-1].WIDE.value is True
    assert_fits({launch.kernel.__name__: compile_for("sm_90", launch, tensors)})


def test_amd() -> None:
    assert_fits(usages("gfx942", OpCase(32, 256, 28, 28), torch.float32, CHANNELS_LAST, False))


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("target", TARGETS)
def test_every_default_fits(target: str, case: OpCase, backward: bool) -> None:
    over = {}
    for dtype, memory_format in itertools.product(DTYPES, MEMORY_FORMATS):
        for launch, tensors in launches_of(case, dtype, memory_format, backward=backward):
            usage = forced(target, launch, tensors)
            if usage.spilled:
                over[launch.kernel.__name__, dtype, memory_format] = usage.registers, usage.spilled
    assert over == {}
