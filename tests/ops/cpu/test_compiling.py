"""Kernels are compiled once, kept on disk, and compiled again where what lies there is damaged."""

import contextlib
import ctypes
import itertools
import os
import random
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.forked import needs_fork

pytest.importorskip("numba")

from numba.core import config
from numba.core.bytecode import FunctionIdentity

from ddfnet.ops.cpu import compiling
from ddfnet.ops.cpu.compiling import called, carray, compile_kernel, inlined
from ddfnet.ops.cpu.intrinsics import Rows, emits, scaled, write_address


class Call(NamedTuple):
    out: int
    number: int


@emits
def element_address(b: Any, rows: Rows, index: Any, *, code: int) -> int:
    return b.add(b.add(rows.address, rows.pitch), scaled(b, index, 8 * (code + 1)))


def make_kernel(step: int) -> Callable[..., None]:
    address = element_address(code=0)

    @inlined
    def start_of(p):  # type: ignore[no-untyped-def]
        return Rows(p.out, 8)

    @called
    def add(number):  # type: ignore[no-untyped-def]
        if number > 1000:  # never: long enough that LLVM leaves the call
            for i in range(number):
                number ^= number // (i + 7) + number % (i + 11) + number // (i + 13) + number % (i + 17)
                number ^= number // (i + 19) + number % (i + 23) + number // (i + 29) + number % (i + 31)
                number ^= number // (i + 37) + number % (i + 41) + number // (i + 43) + number % (i + 47)
        return number + step

    def kernel(call):  # type: ignore[no-untyped-def]
        p = carray(call, 1)[0]
        write_address(address(start_of(p), 1), add(p.number) + add(p.number - 1) - add(p.number - 2) - 1)

    return kernel


def compiled(step: int = 3, version: int = 0) -> Any:
    """A kernel that writes a number plus `step` into the third place of three, checked."""
    kernel = compile_kernel(make_kernel, (step,), Call, version)
    out = array("q", [0, 0, 0])
    call = array("q", [out.buffer_info()[0], 39])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel.address)(call.buffer_info()[0])
    assert out.tolist() == [0, 0, 39 + step]
    return kernel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_kept_on_disk_by_options(folder: Path) -> None:
    assert [compiled(step).cache_hits for step in (3, 4, 3, 4)] == [0, 0, 1, 1]
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2


def truncated(content: bytes) -> bytes:
    return content[:100]


def emptied(content: bytes) -> bytes:
    return b""


def garbled(content: bytes) -> bytes:
    return random.Random(0).randbytes(len(content))


def altered_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, emptied, garbled, altered_in_the_middle])
def test_a_damaged_file_is_written_again(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    compiled()
    (file,) = folder.rglob("*.nbc")
    file.write_bytes(damage(file.read_bytes()))
    assert [compiled().cache_hits for _ in range(2)] == [0, 1]


def test_another_kernels_file_is_not_taken(folder: Path) -> None:
    compiled(3)
    (three,) = folder.rglob("*.nbc")
    compiled(4)
    (four,) = set(folder.rglob("*.nbc")) - {three}
    four.write_bytes(three.read_bytes())
    assert [compiled(4).cache_hits for _ in range(2)] == [0, 1]


def test_the_file_of_other_sources_is_overwritten(folder: Path) -> None:
    assert [compiled(version=version).cache_hits for version in (1, 2, 2)] == [0, 0, 1]
    assert len(list(folder.rglob("*.nbc"))) == 1


@needs_fork
def test_many_processes_save_at_once(folder: Path) -> None:
    begin, steps = folder / "begin", range(3, 6)
    children = []
    for step in steps:
        child = os.fork()
        if child == 0:
            while not begin.exists():
                time.sleep(0.001)
            with contextlib.suppress(BaseException):
                compiled(step)
                os._exit(0)
            os._exit(1)
        children.append(child)
    begin.touch()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)
    assert [compiled(step).cache_hits for step in steps] == [1] * len(steps)


def test_kernels_of_several_processes_keep_their_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process numbers its functions from 1, so numba names functions of different code alike."""
    for _ in range(2):  # compiled, and loaded
        for step in (3, 4, 5):
            monkeypatch.setattr(FunctionIdentity, "_unique_ids", itertools.count(1))
            compiled(step)


def test_no_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("no locator available")

    monkeypatch.setattr(compiling, "_Cache", refused)
    assert [compiled().cache_hits for _ in range(2)] == [0, 0]


def test_says_so_where_compiling_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "_SECONDS", 0.01)
    with compiling._explained("some.kernel"):
        time.sleep(0.2)
    assert capsys.readouterr().err == (
        "ddfnet: compiling the CPU kernel some.kernel (once for such calls; it is kept on disk)\n"
    )
    monkeypatch.setattr(compiling, "_SECONDS", 60)
    with compiling._explained("some.kernel"):
        time.sleep(0.2)  # no longer long
    assert capsys.readouterr().err == ""
