"""`import ddfnet` costs next to nothing over `import torch`, and its names are what it says they are."""

import json
import os
import subprocess
import sys

import pytest

import ddfnet

TIMED = """
import json, sys, time
import torch
start, cpu = time.perf_counter(), time.process_time()
import ddfnet
ddfnet.DDF, ddfnet.ddf
taken = min(time.perf_counter() - start, time.process_time() - cpu)
print(json.dumps([taken, sorted(name for name in sys.modules if "." not in name)]))
"""


def test_import_adds_at_most_a_tenth_of_a_second() -> None:
    """Best of three, of what the processor spent: other processes on the machine are not ddfnet's.

    Python may keep the modules' bytecode, as it does for a user, whatever the environment of the tests says.
    """
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    best = 1e9
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True, env=keeping)
        taken, modules = json.loads(done.stdout)
        best = min(best, taken)
    heavy = {"numba", "triton", "timm", "pytorch_lightning", "lightning", "matplotlib", "torchvision", "PIL"}
    assert not heavy & set(modules)
    assert best < 0.1


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


def test_names_of_the_layers() -> None:
    import ddfnet.nn

    assert set(ddfnet.nn._HOMES) == set(ddfnet.nn.__all__) <= set(dir(ddfnet.nn))
    for name in ddfnet.nn.__all__:
        assert getattr(ddfnet.nn, name).__module__ == ddfnet.nn._HOMES[name]
    with pytest.raises(AttributeError, match=r"module 'ddfnet\.nn' has no attribute 'DFF'"):
        ddfnet.nn.DFF  # noqa: B018


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'ddfnet' has no attribute 'dff'"):
        ddfnet.dff  # noqa: B018
    assert not hasattr(ddfnet, "__wrapped__")
