"""The host's side of the Triton kernels: what it refuses, the tiles it picks, what it keeps."""

import pytest
import torch
from tests.cases import SMALL
from tests.ops.ddf.backends import MEMORY_FORMATS

import ddfnet
from ddfnet.bench.cases import TABLE_A, OpCase
from ddfnet.ops.ddf.geometry import Geometry, check
from ddfnet.ops.ddf.gpu import backend
from ddfnet.ops.ddf.gpu.tiles import backward_tile, forward_tile
from ddfnet.ops.gpu.launch import Launch


def geometry(case: OpCase, memory_format: torch.memory_format = torch.contiguous_format) -> Geometry:
    with torch.device("meta"):  # nothing is drawn
        inputs = case.inputs(device="meta", memory_format=memory_format)
    return check(
        *inputs, case.kernel_size, case.stride, case.dilation, case.scale_factor, case.combine, padding=case.padding
    )


def test_refuses_a_cpu_tensor() -> None:
    with pytest.raises(
        RuntimeError, match=r"'triton' can't serve this call: it runs on CUDA, ROCm and XPU devices, x is"
    ):
        ddfnet.ddf(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3), backend="triton")


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", [*SMALL, *TABLE_A], ids=str)
@pytest.mark.parametrize("size", [2, 4, 8])
def test_tiles(case: OpCase, memory_format: torch.memory_format, size: int) -> None:
    g = geometry(case, memory_format)
    for tile in (forward_tile(g, size), backward_tile(g, size)):
        assert tile.rows >= 1
        assert tile.columns & (tile.columns - 1) == 0 < tile.columns
        assert tile.channels & (tile.channels - 1) == 0 < tile.channels
        assert tile.channels < 2 * max(g.channels // g.heads, 32)
    assert backward_tile(g, size).rows % g.stride == 0


def test_few_tiles() -> None:
    """Kernels are compiled per tile: image sizes share a few."""
    for memory_format in MEMORY_FORMATS:
        sizes = range(17, 300, 3)
        geometries = [geometry(OpCase(8, 256, n, n + 5), memory_format) for n in sizes]
        assert len({forward_tile(g, 4) for g in geometries}) <= 8
        assert len({backward_tile(g, 4) for g in geometries}) <= 4


def test_plans_are_kept() -> None:
    g = geometry(OpCase(2, 8, 5, 6))
    strides = (240, 30, 6, 1)
    plan = backend.plan_forward(g, torch.float32, strides, (72, 9, 3, 1), None, strides)
    assert backend.plan_forward(g, torch.float32, strides, (72, 9, 3, 1), None, strides) is plan


class FakeKernel:
    """Counts compilations and launches in the place of a `triton.jit` function."""

    def __init__(self) -> None:
        self.compiled = self.launched = 0

    def __getitem__(self, grid: tuple[int, int, int]) -> "FakeKernel":
        return self

    def __call__(self, *arguments: object, **options: object) -> "FakeKernel":
        if options:
            self.compiled += 1
        self.launched += 1
        return self


def test_a_kernel_is_compiled_for_each_dtype_and_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: -1)  # that of CPU tensors
    kernel = FakeKernel()
    launch = Launch(kernel, (1, 1, 1), lambda *tensors: tensors)
    memory = torch.zeros(64)
    for dtype in (torch.float32, torch.bfloat16):
        for offset in (0, 4, 1, 0):
            launch.run((memory.to(dtype)[offset:], None))
    assert (kernel.compiled, kernel.launched) == (4, 8)


def test_offsets_past_32_bits_are_seen() -> None:
    strides = (2**33, 2**25, 2**13, 1)
    g = geometry(OpCase(1, 256, 8, 8))._replace(height=2**12, width=2**13, out_height=2**12, out_width=2**13)
    plan = backend.plan_forward(g, torch.float32, strides, (2304, 9, 3, 1), None, strides)
    assert plan.numbers[-1].WIDE.value is True
    small = geometry(OpCase(1, 256, 8, 8))
    small_strides = (256 * 64, 64, 8, 1)
    plan = backend.plan_forward(small, torch.float32, small_strides, (2304, 9, 3, 1), None, small_strides)
    assert plan.numbers[-1].WIDE.value is False


def test_channels_of_five_dimensional_filters_count_as_offsets() -> None:
    case = OpCase(1, 8, 4, 4, scale_factor=2)
    g, x, y = geometry(case), (128, 16, 4, 1), (512, 64, 8, 1)
    for step, wide in ((9, False), (2**28, True)):  # a channel's filter after another
        channel = (8 * 4 * step, 8 * step, step, 3, 1)
        assert backend.plan_forward(g, torch.float32, x, channel, None, y).numbers[-1].WIDE.value is wide
