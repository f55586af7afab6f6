"""Every backend against the loops of tests/oracle.py, forward and all gradients, with uninitialised memory as NaN."""

from collections.abc import Callable, Iterator

import pytest
import torch
from tests.cases import SMALL
from tests.ops.ddf.backends import BACKENDS, DTYPES, MEMORY_FORMATS, assert_format_of, calls, skip_unless_supported
from tests.oracle import assert_call_close, assert_close_to_oracle, draw, oracle_on
from torch import Tensor

from ddfnet.bench.cases import OpCase


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(7).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("case", "dtype", "backend"), calls(SMALL, DTYPES))
def test_small(case: OpCase, dtype: torch.dtype, backend: str, memory_format: torch.memory_format) -> None:
    skip_unless_supported(backend, case, dtype)
    inputs, y, grads = assert_close_to_oracle(backend, case, dtype, memory_format)
    assert y.shape == case.out_shape
    assert_format_of(y, inputs[0])
    if backend != "reference":  # there autograd chooses
        for tensor, grad in zip(inputs, grads, strict=True):
            assert grad is None or grad.stride() == tensor.stride()


def transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT


def reversed_strides(t: Tensor) -> Tensor:
    order = tuple(reversed(range(t.dim())))
    return t.permute(order).contiguous().permute(order)


def with_gaps(t: Tensor) -> Tensor:
    """Every other element of a larger tensor, from an offset on, NaN between them."""
    around = torch.full([2 * n + 3 for n in t.shape], torch.nan, dtype=t.dtype)
    view = around[tuple(slice(3, None, 2) for _ in t.shape)]
    assert view.storage_offset() > 0
    return view.copy_(t)


def channels_first(t: Tensor) -> Tensor:
    return t.transpose(0, 1).contiguous().transpose(0, 1)


LAYOUTS = (transposed, reversed_strides, with_gaps, channels_first)
STRIDED_CASES = (
    OpCase(2, 6, 7, 9, heads=3),
    OpCase(2, 5, 6, 8, combine="add", stride=2, dilation=2),
    OpCase(2, 4, 5, 4, filters="channel"),
    OpCase(2, 4, 5, 4, filters="spatial", kernel_size=5),
    OpCase(2, 4, 3, 5, scale_factor=2, heads=2),
    OpCase(2, 4, 3, 5, scale_factor=2, shared_channel_filter=True, combine="add"),
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("case", "dtype", "backend"), calls(STRIDED_CASES, (torch.float32, torch.bfloat16)))
def test_strides(case: OpCase, dtype: torch.dtype, backend: str, layout: Callable[[Tensor], Tensor]) -> None:
    skip_unless_supported(backend, case, dtype)
    for memory_format in MEMORY_FORMATS:
        _, y, _ = assert_close_to_oracle(backend, case, dtype, memory_format, layout=layout)
        assert y.is_contiguous() or y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("case", "dtype", "backend"), calls(STRIDED_CASES, (torch.float32,)))
def test_expanded(case: OpCase, dtype: torch.dtype, backend: str) -> None:
    """x shared by the batch, channel filters by the channels, spatial filters and the output's gradient by the pixels."""
    skip_unless_supported(backend, case)
    x, channel, spatial, grad_y = draw(case, dtype)
    x = x[:1].expand_as(x)
    channel = None if channel is None else channel[..., :1, :, :].expand_as(channel)
    spatial = None if spatial is None else spatial[..., :1, :1].expand_as(spatial)
    grad_y = grad_y[:1, :1, :1, :1].expand_as(grad_y)
    expected = oracle_on(case, x, channel, spatial, grad_y)
    leaves = tuple(None if t is None else t.requires_grad_() for t in (x, channel, spatial))
    assert_call_close(lambda *inputs: case.call(*inputs, backend=backend), leaves, grad_y, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_head_in_four_dimensions(backend: str) -> None:
    for case in (OpCase(2, 4, 5, 6), OpCase(2, 4, 5, 6, scale_factor=2)):
        x, channel, spatial, grad_y = draw(case, torch.float32)
        expected = oracle_on(case, x, channel, spatial, grad_y)
        leaves = tuple(t.requires_grad_() for t in (x, channel, spatial.squeeze(1)))
        _, grads = assert_call_close(lambda *inputs, c=case: c.call(*inputs, backend=backend), leaves, grad_y, expected)
        assert grads[2].shape == leaves[2].shape


@pytest.mark.parametrize(
    ("case", "dtype", "backend"), calls((OpCase(1, 2, 6, 5, filters="spatial"),), (torch.float16,))
)
def test_large_and_small_values(case: OpCase, dtype: torch.dtype, backend: str) -> None:
    """Sums near float16's 65504, and results that are subnormal."""
    skip_unless_supported(backend, case, dtype)
    for scale in (3e3, 1e-6):
        x, _, spatial, grad_y = draw(case, torch.float64)
        x, spatial, grad_y = (x * scale).to(dtype), spatial.to(dtype), grad_y.to(dtype)
        expected = oracle_on(case, x, None, spatial, grad_y)
        leaves = (x.requires_grad_(), None, spatial.requires_grad_())
        assert_call_close(lambda *inputs: case.call(*inputs, backend=backend), leaves, grad_y, expected)
