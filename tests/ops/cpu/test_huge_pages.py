"""Large results are marked for huge pages, small ones left alone."""

import mmap
from pathlib import Path

import pytest
import torch

from ddfnet.ops.cpu import huge_pages
from ddfnet.ops.ddf.cpu import backend
from ddfnet.ops.ddf.geometry import check

on_linux = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no such advice")


def is_marked(address: int) -> bool:
    """Whether the system holds the mapping of `address` for huge pages."""
    inside = False
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            first = line.split(maxsplit=1)[0]
            if "-" in first:
                begin, end = (int(part, 16) for part in first.split("-"))
                inside = begin <= address < end
            elif inside and first == "VmFlags:":
                return "hg" in line.split()
    return False


@on_linux
def test_large_results_are_marked() -> None:
    pytest.importorskip("numba")
    x = torch.zeros(1, 1, 3 * 2048, 2048)  # 48 MiB: memory of its own
    channel, spatial = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 3 * 2048, 2048)
    g = check(x, channel, spatial)
    y = backend.ddf_forward(x, channel, spatial, g)
    assert is_marked(y.data_ptr() + y.nbytes // 2)
    grads = backend.ddf_backward(y, x, channel, spatial, g, (True, False, True))
    for grad in (grads[0], grads[2]):
        assert grad is not None
        assert is_marked(grad.data_ptr() + grad.nbytes // 2)


def unmarked() -> torch.Tensor:
    """64 MiB of memory of their own: what an allocator hands out may have been a large result before."""
    return torch.frombuffer(mmap.mmap(-1, 64 * 2**20), dtype=torch.uint8)


@on_linux
def test_only_the_memory_of_the_tensor_is_marked() -> None:
    pages = unmarked()
    part = pages[2**20 : 33 * 2**20]
    assert huge_pages.advise(part) is part
    assert is_marked(part.data_ptr() + part.nbytes // 2)
    assert not is_marked(part.data_ptr() + part.nbytes + 2 * mmap.PAGESIZE)


@on_linux
def test_small_results_are_left_alone() -> None:
    pages = unmarked()
    huge_pages.advise(pages[2**20 : 2**21])
    assert not is_marked(pages.data_ptr() + 2**20 + 2 * mmap.PAGESIZE)


def test_systems_without_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "_madvise", lambda: None)
    t = torch.empty(2**22, dtype=torch.uint8)
    assert huge_pages.advise(t) is t
