"""The operator on a CUDA or ROCm device: every kernel that serves it there, against the oracle and PyTorch's transforms."""

import itertools
import threading
from collections.abc import Iterator

import hypothesis
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cases import SMALL
from tests.ops.ddf.backends import DTYPES, MEMORY_FORMATS, assert_format_of
from tests.ops.ddf.test_shapes import cases, unhurried
from tests.oracle import assert_close_to_oracle, oracle_by_taps

from ddfnet.bench.cases import OpCase
from ddfnet.ops.ddf.api import KERNELS, select
from ddfnet.ops.ddf.geometry import check

pytestmark = pytest.mark.gpu
BACKENDS = ("reference", "triton", "torch")


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def leaves(case: OpCase, memory_format: torch.memory_format, dtype: torch.dtype = torch.float32, seed: int = 0) -> list:
    return [
        None if t is None else t.detach().requires_grad_()
        for t in case.inputs(dtype=dtype, device="cuda", memory_format=memory_format, seed=seed)
    ]


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_small(backend: str, case: OpCase, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    inputs, y, grads = assert_close_to_oracle(backend, case, dtype, memory_format, device="cuda")
    assert_format_of(y, inputs[0])
    if backend != "reference":
        assert all(grad is None or grad.stride() == t.stride() for t, grad in zip(inputs, grads, strict=True))


@pytest.mark.parametrize("part", range(10))  # nearly each example compiles kernels of its own: side by side
def test_any_shape(part: int) -> None:
    @hypothesis.seed(part)
    @given(
        case=cases(),
        dtype=st.sampled_from(DTYPES),
        memory_format=st.sampled_from(MEMORY_FORMATS),
        seed=st.integers(0, 1000),
    )
    @settings(max_examples=4, **unhurried)
    def hold(case: OpCase, dtype: torch.dtype, memory_format: torch.memory_format, seed: int) -> None:
        assert_close_to_oracle("triton", case, dtype, memory_format, device="cuda", seed=seed, by=oracle_by_taps)

    hold()


def test_auto_takes_triton() -> None:
    inputs = OpCase(2, 8, 7, 9).inputs(device="cuda")
    assert select("auto", inputs[0], check(*inputs)) is KERNELS["triton"]


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", [OpCase(2, 4, 4, 5, heads=2), OpCase(1, 2, 3, 2, scale_factor=2)], ids=str)
def test_derivatives_of_both_orders(case: OpCase, memory_format: torch.memory_format) -> None:
    inputs = leaves(case, memory_format, torch.float64)
    assert torch.autograd.gradcheck(lambda *t: case.call(*t, backend="triton"), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: case.call(*t, backend="triton"), inputs)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
def test_opcheck(memory_format: torch.memory_format) -> None:
    inputs = leaves(OpCase(2, 6, 7, 9, heads=3), memory_format)
    torch.library.opcheck(torch.ops.ddfnet.ddf.default, (*inputs, 3, 1, 1, 1, "mul", "triton", "same"))


@pytest.mark.parametrize(("case", "memory_format"), list(itertools.product(
    [OpCase(8, 64, 28, 30), OpCase(8, 64, 28, 30, kernel_size=5), OpCase(4, 64, 14, 15, scale_factor=2)], MEMORY_FORMATS
)), ids=str)  # fmt: skip
def test_repeats_bit_for_bit(case: OpCase, memory_format: torch.memory_format) -> None:
    inputs = leaves(case, memory_format)
    grad_y = torch.randn(case.out_shape, device="cuda")
    runs = []
    for _ in range(3):
        y = case.call(*inputs, backend="triton")
        runs.append((y, *torch.autograd.grad(y, [t for t in inputs if t is not None], grad_y)))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_addresses_that_are_no_multiples_of_16() -> None:
    """A plan keeps one compiled kernel for each alignment of its tensors."""
    case = OpCase(2, 32, 9, 16)
    x, channel, spatial = case.inputs(device="cuda")
    expected = case.call(x, channel, spatial, backend="torch")
    for offset in (0, 1, 4, 0, 2):
        shifted = torch.empty(x.numel() + 8, device="cuda")[offset : offset + x.numel()].view_as(x).copy_(x)
        torch.testing.assert_close(case.call(shifted, channel, spatial, backend="triton"), expected)


def test_threads_and_streams() -> None:
    case = OpCase(4, 32, 20, 21)
    inputs = case.inputs(device="cuda")
    expected = case.call(*inputs, backend="triton")
    torch.cuda.synchronize()
    results: list[torch.Tensor] = []

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            results.extend(case.call(*inputs, backend="triton") for _ in range(20))
            torch.cuda.current_stream().synchronize()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160
    assert all(torch.equal(y, expected) for y in results)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
def test_maps_past_32_bits(memory_format: torch.memory_format) -> None:
    """2^31 elements and more in one map: its last rows, and their gradients, against those of the map cut down to them."""
    free, _ = torch.cuda.mem_get_info()
    if free < 40 * 2**30:
        pytest.skip("needs 40 GiB of free GPU memory")
    channels, height, width = 33, 8192, 8192
    x = torch.randn(1, channels, height, width, device="cuda", dtype=torch.bfloat16).to(memory_format=memory_format)
    x.requires_grad_()
    channel = torch.randn(1, channels, 3, 3, device="cuda", dtype=torch.bfloat16)
    spatial = torch.randn(1, 9, height, width, device="cuda", dtype=torch.bfloat16)
    case = OpCase(1, channels, height, width)
    y = case.call(x, channel, spatial, backend="triton")[:, :, -4:]
    cut = OpCase(1, channels, 8, width).call(x[:, :, -8:], channel, spatial[:, :, -8:], backend="triton")[:, :, -4:]
    assert torch.equal(y, cut)
    ours, of_cut = (torch.autograd.grad(each, x, torch.ones_like(each))[0][:, :, -4:] for each in (y, cut))
    assert torch.equal(ours, of_cut)


def test_forward_allocates_its_output_alone() -> None:
    case = OpCase(2, 256, 100, 150)
    inputs = leaves(case, torch.contiguous_format)
    case.call(*inputs, backend="triton")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = case.call(*inputs, backend="triton")
    assert torch.cuda.max_memory_allocated() - before <= y.nbytes + 2**20
