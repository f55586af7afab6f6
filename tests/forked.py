"""Runs Python programs that must each begin in a process where little is imported, for the price of one."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
SCRIPT = """
import os, sys, traceback
{imports}
for program in {programs!r}:
    if os.fork() == 0:
        try:
            exec(program, {{}})
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    print("\\0", flush=True)
"""


def printed(programs: Sequence[str], imports: str = "import torch") -> list[str]:
    """What each program prints, run in a child of one process that has done nothing but `imports`."""
    script = SCRIPT.format(imports=imports, programs=list(programs))
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=keeping)
    return [each.strip() for each in done.stdout.split("\0")[:-1]]
