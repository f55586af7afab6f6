"""Where numba is missing or does not import, plain PyTorch serves, and the reason is told."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddfnet.bench.cases import OpCase
from ddfnet.ops.cpu import available
from ddfnet.ops.ddf import api
from ddfnet.ops.ddf.geometry import check

CALLS = """
import warnings
import torch, ddfnet
x, channel_filter = torch.randn(1, 4, 5, 6), torch.randn(1, 4, 3, 3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = ddfnet.ddf(x, channel_filter)
    ddfnet.DDF(4)(x)
assert torch.equal(found, ddfnet.ddf(x, channel_filter, backend="torch"))
for warning in caught:
    print("warning:", warning.message)
try:
    ddfnet.ddf(x, channel_filter, backend="numba")
except RuntimeError as error:
    print("error:", error)
from ddfnet.cli import info
info.main([])
"""


def run(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CALLS], env=os.environ | environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.splitlines()]


def assert_said(lines: list[str], reason: str) -> None:
    assert [line for line in lines if line.startswith("warning:")] == [
        f"warning: ddfnet's CPU kernels can't be used: {reason}"
    ]
    assert f"error: backend 'numba' can't serve this call: {reason}" in lines
    assert f"numba      no: {reason}" in lines
    assert "torch      yes, the default" in lines


def test_numba_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 2.2 or less')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    reason = "numba is installed but can't be imported: ImportError: Numba needs NumPy 2.2 or less"
    assert_said(run(PYTHONPATH=path), reason)


def test_numba_that_compiles_nothing() -> None:
    pytest.importorskip("numba")
    assert_said(run(NUMBA_DISABLE_JIT="1"), "numba compiles nothing: NUMBA_DISABLE_JIT is set")


def test_missing_numba_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    case = OpCase(1, 4, 5, 6)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    available.missing.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"backend 'numba' can't serve this call: numba is not installed"):
            case.call(*case.inputs(), backend="numba")
        assert api.select("auto", case.inputs()[0], check(*case.inputs())) is api.KERNELS["torch"]
    finally:
        available.missing.cache_clear()
