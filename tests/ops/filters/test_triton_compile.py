"""The filter prediction's kernels compiled for devices that are not here: registers, spills, width of loads."""

import itertools
import re

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from tests.ops.ddf.backends import MEMORY_FORMATS
from tests.ops.ddf.triton_compile import TARGETS, Usage, forced, launches
from tests.ops.filters.bounded import float32_products

from ddfnet.ops.filters.gpu import backend
from ddfnet.ops.filters.gpu.backend import Options

PLANE, CHANNELS_LAST = MEMORY_FORMATS
KERNELS = {"spatial_filters_kernel", "squeeze_kernel", "channel_filters_kernel", "norm_backward_kernel"}
SHAPES = ((32, 256, 56, 56), (32, 512, 7, 7))  # the largest and the smallest tiles
OPTIONS = (Options(0.5, 3, 1, 1), Options(0.5, 3, 2, 8), Options(0.3, 5, 1, 1), Options(0.2, 7, 1, 2))


def usages(
    target: str, shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, options: Options
) -> list[tuple[str, Usage]]:
    """What each launch takes, forward and backward, with both branches."""
    channels, taps = shape[1], options.taps
    squeezed, spatial = channels // 5, options.heads * taps

    def empty(*sizes: int) -> torch.Tensor:
        return torch.empty(sizes, dtype=dtype, device="meta")

    x = torch.empty(shape, dtype=dtype, device="meta", memory_format=memory_format)
    convolution = empty(spatial, channels, 1, 1), empty(spatial)
    matrices = empty(squeezed, channels, 1, 1), empty(squeezed), empty(channels * taps, squeezed, 1, 1)
    per_tap = empty(channels * taps)
    with launches() as seen:
        out = backend.predict(x, convolution, (*matrices, per_tap, per_tap), options)
        like = torch.empty_like(out.spatial_filter)
        backend.norm_backward(like, out.spatial_filter, out.spatial_std, None, options.spatial_scale)
        of_channels = empty(shape[0], channels, taps)
        backend.norm_backward(of_channels, out.channel_unit, out.channel_std, per_tap, 1.0)
    return [(launch.kernel.__name__, forced(target, launch, tensors)) for launch, tensors in seen]


def assert_fits(found: list[tuple[str, Usage]]) -> None:
    assert {name for name, _ in found} == KERNELS
    for name, usage in found:
        assert usage.spilled == 0, f"{name}: {usage.spilled} bytes spilled, {usage.registers} registers"
        assert not re.search(r"\b(atom|red)\.|_atomic_", usage.assembly)  # sums repeat bit for bit


def test_nvidia() -> None:
    found = usages("sm_90", SHAPES[0], torch.bfloat16, CHANNELS_LAST, OPTIONS[0])
    assert_fits(found)
    text = found[0][1].assembly
    assert "cp.async.cg.shared.global" in text  # x: 16 bytes a lane, on their way while others are multiplied
    assert "mma.sync" in text or "wgmma" in text


def test_amd() -> None:
    found = usages("gfx942", SHAPES[0], torch.float32, PLANE, OPTIONS[0])
    assert_fits(found)
    assert "mfma" in found[0][1].assembly


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"k{o.kernel_size}-s{o.stride}-g{o.heads}")
@pytest.mark.parametrize("target", TARGETS)
def test_every_default_fits(target: str, options: Options, precision: str) -> None:
    over = {}
    dtypes = (torch.float32, torch.bfloat16) if precision == "tf32" else (torch.float32,)
    for shape, dtype, memory_format in itertools.product(SHAPES, dtypes, MEMORY_FORMATS):
        with float32_products(precision):
            found = usages(target, shape, dtype, memory_format, options)
        for name, usage in found:
            if usage.spilled:
                over[name, shape, dtype, memory_format] = usage.registers, usage.spilled
    assert over == {}
