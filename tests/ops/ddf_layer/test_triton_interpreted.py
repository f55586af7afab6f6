"""The filter prediction's kernels on the CPU, by Triton's interpreter, within the error bounds of `bounded.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")


def outcomes(which: str) -> dict[str, str | None]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.ops.ddf_layer.interpret", which]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_quick() -> None:
    found = outcomes("quick")
    assert len(found) >= 16
    assert {name: error for name, error in found.items() if error is not None} == {}


@pytest.mark.slow
def test_every_check() -> None:
    found = outcomes("slow")
    assert {name: error for name, error in found.items() if error is not None} == {}
