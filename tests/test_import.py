"""`import ddfnet` costs next to nothing over `import torch`, and its names are what it says they are."""

import json
import subprocess
import sys

import pytest
from tests.forked import needs_fork, printed

import ddfnet

TIMED = """
import json, sys, time
start, cpu = time.perf_counter(), time.process_time()
import ddfnet
ddfnet.DDF, ddfnet.ddf
taken = min(time.perf_counter() - start, time.process_time() - cpu)
print(json.dumps([taken, sorted(name for name in sys.modules if "." not in name)]))
"""


@needs_fork
def test_import_adds_at_most_a_tenth_of_a_second() -> None:
    """To PyTorch's; best of three, of what the processor spent: other processes on the machine are not ddfnet's."""
    found = [json.loads(line) for line in printed([TIMED] * 3)]
    heavy = {"numba", "triton", "timm", "pytorch_lightning", "lightning", "matplotlib", "torchvision", "PIL"}
    for _, modules in found:
        assert not heavy & set(modules)
    assert min(taken for taken, _ in found) < 0.1


def test_import_alone_waits_for_nothing() -> None:
    script = "import sys, ddfnet; dir(ddfnet); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names() -> None:
    assert len(set(ddfnet.__all__)) == len(ddfnet.__all__)
    assert set(ddfnet.__all__) <= set(dir(ddfnet))
    assert set(ddfnet._HOMES) == set(ddfnet.__all__)
    for name in ddfnet.__all__:
        value = getattr(ddfnet, name)
        assert value.__module__ == ddfnet._HOMES[name]
        assert value is getattr(ddfnet, name)
        assert value.__doc__


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'ddfnet' has no attribute 'dff'"):
        ddfnet.dff  # noqa: B018
    assert not hasattr(ddfnet, "__wrapped__")
