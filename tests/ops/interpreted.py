"""Runs a module that holds kernels to their oracle by Triton's interpreter, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path


def outcomes(module: str, which: str) -> dict[str, str | None]:
    """What `python -m MODULE WHICH` prints: what went wrong, or None, by check."""
    done = subprocess.run(
        [sys.executable, "-m", module, which],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
