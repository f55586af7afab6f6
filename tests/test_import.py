"""`import ddfnet` costs next to nothing over `import torch`, and its names are what it says they are."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from tests.forked import needs_fork, printed

import ddfnet
from ddfnet import recipes

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


@pytest.mark.release
def test_the_tasks_leave_the_callers_figures_alone() -> None:
    """Matplotlib's backend stays, and no figure is left for `plt.show()`."""
    tasks = "classification.task", "classification.filter_pictures", "detection.task", "depth.task", "depth.comparison"
    script = f"""
import matplotlib
matplotlib.use("svg")
from importlib import import_module
from pathlib import Path
import sys
for name in {(*tasks, "depth.preview")!r}:
    import_module(f"ddfnet.tasks.{{name}}")
from ddfnet.tasks.pictures import draw_curves
draw_curves([{{"epoch": 0, "train_loss": 1.0, "val_accuracy": 0.5}}], Path(sys.argv[1]) / "curves.png", "title", 0)
import matplotlib.pyplot as plt
print(matplotlib.get_backend(), plt.get_fignums())
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
        assert (Path(folder) / "curves.png").is_file()
    assert done.stdout.split() == ["svg", "[]"]


def test_what_ships_is_found_in_a_zip(tmp_path: Path) -> None:
    package = Path(ddfnet.__file__).parent
    with zipfile.ZipFile(tmp_path / "ddfnet.zip", "w") as archive:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("ddfnet") / path.relative_to(package))
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import ddfnet, torch
from ddfnet import recipes
from ddfnet.bench.paper import printed
from ddfnet.data.classification.fashion_mnist import fashion_mnist
from ddfnet.models.depth.convex_up_net import pretrained
assert ".zip" in ddfnet.__file__
pretrained()
print(len(recipes.names()), recipes.find("garments/ddf_up").is_file(), len(fashion_mnist().train), printed.FILE.is_file())
print(ddfnet.ddf(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), None, backend="torch").sum().item())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "ddfnet.zip")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout.split() == [str(len(recipes.names())), "True", "7000", "True", "49.0"]
