"""What only the CPU kernels have: tiles, blocks, threads, scratch and the compiled code's place on disk.

That they compute Eq. 2, for every option, dtype and stride, is held by the tests that run all backends.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.oracle import assert_call_close, assert_close_to_oracle, draw, oracle_on
from torch import Tensor

from ddfnet.bench.cases import OpCase
from ddfnet.bench.memory import peak_bytes
from ddfnet.ops.cpu import threads
from ddfnet.ops.ddf.cpu import backend
from ddfnet.ops.ddf.geometry import check

pytest.importorskip("numba")

NCHW, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


def call(case: OpCase) -> Callable[..., Tensor]:
    return lambda *inputs: case.call(*inputs, backend="numba")


def run(code: str, **environment: str) -> str:
    """Runs a Python program that must end well within a minute; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "case",
    [
        OpCase(1, 160, 3, 12),  # more channels than are done at once, tiles of four pixels
        OpCase(1, 160, 3, 11, heads=2),  # a tile that lacks a pixel
        pytest.param(OpCase(1, 160, 3, 13), marks=pytest.mark.release),  # tiles of seven, one of which lacks a pixel
        OpCase(1, 64, 3, 9),  # the last tile lacks most
        pytest.param(OpCase(1, 3, 5, 6, kernel_size=9), marks=pytest.mark.release),  # taps that no kernel writes out
    ],
    ids=str,
)
def test_channels_last_tiles(case: OpCase) -> None:
    assert_close_to_oracle("numba", case, torch.float32, CHANNELS_LAST)


@pytest.mark.parametrize("case", [OpCase(1, 3, 40, 38), OpCase(1, 2, 61, 62, stride=2)], ids=str)
def test_nchw_blocks(case: OpCase) -> None:
    """Maps of several blocks of rows, whose margins are other blocks' rows."""
    assert_close_to_oracle("numba", case, torch.float32, NCHW)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.release)], ids=["fp32", "bf16"]
)
@pytest.mark.parametrize(
    "case",
    [
        OpCase(2, 20, 9, 7),  # channels and pixels that leave parts of a square
        pytest.param(OpCase(1, 64, 40, 41), marks=pytest.mark.release),  # blocks of rows and their neighbours
        OpCase(1, 40, 9, 6, heads=2),
        pytest.param(OpCase(1, 16, 6, 7, dilation=9), marks=pytest.mark.release),  # no tap of another row
        OpCase(1, 16, 4, 5, scale_factor=2),
    ],
    ids=str,
)
def test_nchw_transposed(case: OpCase, dtype: torch.dtype) -> None:
    """Maps whose channels fill vectors go through the kernels of channels_last."""
    assert_close_to_oracle("numba", case, dtype, NCHW)


@pytest.mark.parametrize("x_format", [NCHW, CHANNELS_LAST], ids=["nchw", "nhwc"])
def test_mixed_memory_formats(x_format: torch.memory_format) -> None:
    """x in one format, the spatial filter and the output's gradient in the other; part of a channels_last map as x."""
    other = CHANNELS_LAST if x_format == NCHW else NCHW
    case = OpCase(2, 6, 5, 7, heads=2)
    x, channel, spatial, grad_y = draw(case, torch.float32)
    expected = oracle_on(case, x, channel, spatial, grad_y)
    spatial = spatial.flatten(1, 2).contiguous(memory_format=other).unflatten(1, (2, 9))
    around = torch.full((2, 9, 5, 9), torch.nan).contiguous(memory_format=x_format)
    around[:, 2:8, :, 1:8] = x
    leaves = (around[:, 2:8, :, 1:8], channel, spatial)
    leaves = tuple(t.detach().requires_grad_() for t in leaves)
    _, grads = assert_call_close(call(case), leaves, grad_y.contiguous(memory_format=other), expected)
    for leaf, grad in zip(leaves, grads, strict=True):
        assert grad.stride() == torch.empty_like(leaf).stride()


@pytest.mark.parametrize(
    "memory_format", [pytest.param(NCHW, marks=pytest.mark.release), CHANNELS_LAST], ids=["nchw", "nhwc"]
)
def test_only_what_is_asked_for(memory_format: torch.memory_format) -> None:
    """Each subset of the gradients equals what all three come to."""
    case = OpCase(2, 8, 7, 9)
    *inputs, grad_y = draw(case, torch.float32, memory_format=memory_format)
    g = check(*inputs)
    every = backend.ddf_backward(grad_y, *inputs, g, (True, True, True))
    for needs in [(True, False, False), (False, True, False), (False, False, True), (False, False, False)]:
        some = backend.ddf_backward(grad_y, *inputs, g, needs)
        for needed, one, reference in zip(needs, some, every, strict=True):
            assert (one is not None) == needed
            if needed:
                torch.testing.assert_close(one, reference, rtol=0, atol=0)


@pytest.mark.parametrize("memory_format", [NCHW, CHANNELS_LAST], ids=["nchw", "nhwc"])
def test_threads_do_not_change_results(memory_format: torch.memory_format) -> None:
    case = OpCase(3, 8, 40, 38)
    *inputs, grad_y = draw(case, torch.float32, memory_format=memory_format)
    inputs = tuple(t.requires_grad_() for t in inputs)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = call(case)(*inputs)
            results.append((y, *torch.autograd.grad(y, inputs, grad_y)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_threads_where_openmp_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows: a pool of Python threads computes the same."""
    case = OpCase(3, 8, 40, 38)
    *inputs, grad_y = draw(case, torch.float32)
    g = check(*inputs)
    before = torch.get_num_threads()
    results = []
    try:
        torch.set_num_threads(3)
        for missing in (False, True):
            if missing:
                monkeypatch.setattr(threads, "_gomp_parallel", lambda: None)
            y = backend.ddf_forward(*inputs, g)
            results.append((y, *backend.ddf_backward(grad_y, *inputs, g, (True, True, True))))
            assert (threads._state.pool.threads >= 2) or not missing
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(sys.platform != "linux" or not torch.backends.openmp.is_available(), reason="no OpenMP")
def test_pytorchs_own_openmp_is_found() -> None:
    assert threads._gomp_parallel() is not None


THREADS = """
import threading, torch
from ddfnet.bench.cases import OpCase
torch.set_num_threads(2)
case = OpCase(4, 32, 28, 28)
inputs = tuple(t.requires_grad_() for t in case.inputs())
def both():
    y = case.call(*inputs, backend="numba")
    return y.detach(), *torch.autograd.grad(y, inputs, torch.ones_like(y))
expected = both()
"""


def test_eight_threads_at_once() -> None:
    out = run(
        THREADS
        + """
failures = []
def work():
    for _ in range(20):
        if not all(torch.equal(a, b) for a, b in zip(both(), expected)):
            failures.append(1)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(failures))
"""
    )
    assert out.strip() == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_workers_forked_after_the_parent_called() -> None:
    """As DataLoader's, several, while the parent goes on calling; also a child's child."""
    out = run(
        THREADS
        + """
import os
from torch.utils.data import DataLoader, Dataset
class Calls(Dataset):
    def __len__(self): return 12
    def __getitem__(self, i):
        torch.set_num_threads(2)
        return case.call(*(t.detach() for t in inputs), backend="numba")[0]
for image in DataLoader(Calls(), batch_size=None, num_workers=3, multiprocessing_context="fork"):
    assert torch.equal(image, expected[0][0])
    with torch.no_grad():
        case.call(*inputs, backend="numba")
def child(depth):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    same = torch.equal(Calls()[0], expected[0][0])
    os._exit(0 if same and (depth == 0 or child(depth - 1) == 0) else 1)
print(child(1))
"""
    )
    assert out.strip() == "0"


@pytest.mark.parametrize("memory_format", [NCHW, CHANNELS_LAST], ids=["nchw", "nhwc"])
def test_scratch_is_bounded(memory_format: torch.memory_format) -> None:
    """Beside results, two threads' scratch: no more for a map four times as high."""
    scratch = []
    for height in (64, 256):
        case = OpCase(1, 16, height, 64)
        x, channel, spatial = case.inputs(memory_format=memory_format)
        g = check(x, channel, spatial)
        y = torch.empty(g.out_shape).contiguous(memory_format=memory_format)
        results = sum(t.numel() * 4 for t in (x, channel, spatial))
        backend.ddf_backward(y, x, channel, spatial, g, (True, True, True))
        peak = peak_bytes(lambda y=y, i=(x, channel, spatial), g=g: backend.ddf_backward(y, *i, g, (True,) * 3), "cpu")
        scratch.append(peak - results)
    assert scratch[1] < 2**20
    assert scratch[1] - scratch[0] < 2**17  # a channel filter's sums for each block


@pytest.mark.release
def test_runs_without_a_place_for_its_cache(tmp_path: Path) -> None:
    """A cache folder that can't be made costs time only."""
    (tmp_path / "file").write_text("")
    code = """
from ddfnet.bench.cases import OpCase
case = OpCase(1, 4, 5, 6, filters="channel")
print(tuple(case.call(*case.inputs(), backend="numba").shape))
"""
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache")).strip() == "(1, 4, 5, 6)"


@pytest.mark.release
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_nothing_is_written_beyond_the_results(kernel_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """49 taps leave a vector of one lane, which as bfloat16 LLVM would store with its neighbour."""
    guarded: list[tuple[Tensor, int]] = []

    def guard(t: Tensor) -> Tensor:
        buffer = torch.full((t.nbytes + 128,), 0xA5, dtype=torch.uint8)
        guarded.append((buffer, t.nbytes))
        return buffer[64:-64].view(t.dtype).as_strided(t.shape, t.stride())

    monkeypatch.setattr(backend, "advise", guard)
    case = OpCase(1, 4, 4, 5, kernel_size=kernel_size, heads=2)
    assert_close_to_oracle("numba", case, torch.bfloat16, torch.channels_last)
    assert len(guarded) >= 3  # the output and the gradients
    for buffer, nbytes in guarded:
        assert (buffer[:64] == 0xA5).all()
        assert (buffer[64 + nbytes :] == 0xA5).all()
