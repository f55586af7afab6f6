"""The floors of the house: every import of src/ddfnet, read from its source, goes downward, and heavy ones stay home."""

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "ddfnet"
FLOORS = {
    "atomic": 0,
    "ops": 1,
    "nn": 2,
    "models": 3,
    "data": 3,
    "tasks": 4,
    "bench": 4,
    "recipes": 4,
    "cli": 5,
    "integrations": 5,
    "__main__": 6,
}
TRAINING = ("data.*", "tasks.*", "cli.*", "bench.*", "models.*")  # where what comes with the extras may be used
HOMES = {  # of third-party packages: the modules, relative to ddfnet, that may import them
    "torch": ("*",),
    # Kernel files; that they are loaded at first use is held by tests/test_import.py.
    "numba": ("ops.cpu.*", "ops.*.cpu.*"),
    "llvmlite": ("ops.cpu.*", "ops.*.cpu.*"),
    "numpy": ("ops.cpu.*", "ops.*.cpu.*", *TRAINING),
    "triton": ("ops.gpu.*", "ops.*.gpu.*"),
    "timm": (
        "models.classification.*",
        "models.detection.*",
        "data.*",
        "tasks.classification.*",
        "bench.*",
    ),  # bench: rivals
    "torchvision": ("data.*", "models.detection.*", "tasks.detection.*", "bench.*"),
    "pytorch_lightning": ("tasks.*", "cli.*"),
    "kornia": ("tasks.depth.rivals",),
    "mmdet": ("integrations.mmdet",),
    "mmengine": ("integrations.mmdet",),
}


def modules() -> dict[str, str]:
    """Sources by module name relative to ddfnet; a package's by the package's name, "" for ddfnet itself."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imports(source: str, module: str = "", package: bool = False) -> Iterator[tuple[str, bool]]:
    """Each import as an absolute dotted name, and whether it runs when the module is imported."""
    tree = ast.parse(source)
    deferred = set()
    for node in ast.walk(tree):
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        lazy |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if lazy:
            deferred.update(ast.walk(node))
    here = ["ddfnet", *module.split(".")] if module else ["ddfnet"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = here[: len(here) - node.level + package]
                base = ".".join([*anchor, *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node not in deferred) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from ((str(a.value), node not in deferred) for a in node.args[:1] if isinstance(a, ast.Constant))


def breaches(sources: dict[str, str]) -> list[str]:
    """What the floors forbid, one line each."""
    found = []
    for module, source in sources.items():
        top = module.split(".")[0]
        floor = FLOORS.get(top)
        if module and floor is None:
            found.append(f"{module}: on no floor")
            continue
        for name, immediate in imports(source, module, is_package(module, sources)):
            root, _, rest = name.partition(".")
            if root == "ddfnet":
                target = rest.split(".")[0]
                if (
                    module
                    and target in FLOORS
                    and (FLOORS[target] > floor or (FLOORS[target] == floor and target != top))
                ):
                    found.append(f"{module}: imports {name}, which is not below it")
                elif not module and immediate and not rest.startswith("ops.flops."):  # which imports nothing
                    found.append(f"ddfnet: imports {name} at once")
                elif target == "integrations" and top != "integrations":
                    found.append(f"{module}: imports {name}")
                continue
            if root in sys.stdlib_module_names:
                continue
            allowed = HOMES.get(root, TRAINING)
            if not module and immediate:
                found.append(f"ddfnet: imports {name} at once")
            elif module and not any(fnmatchcase(module, home) or fnmatchcase(module + ".", home) for home in allowed):
                found.append(f"{module}: imports {name}")
    return found


def is_package(module: str, sources: dict[str, str]) -> bool:
    return not module or any(other.startswith(module + ".") for other in sources)


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """The modules of ddfnet that each imports when it is imported."""
    edges: dict[str, set[str]] = {}
    for module, source in sources.items():
        edges[module] = set()
        for name, immediate in imports(source, module, is_package(module, sources)):
            if not immediate or not name.startswith("ddfnet."):
                continue
            target = name.removeprefix("ddfnet.")
            while target and target not in sources:
                target = target.rpartition(".")[0]
            if target and target != module:
                edges[module].add(target)
    return edges


def test_imports_go_downward() -> None:
    assert breaches(modules()) == []


def test_no_circles() -> None:
    list(TopologicalSorter(graph(modules())).static_order())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ops.ddf.api", "from ddfnet.nn import DDF"),
        ("ops.ddf.api", "from ...nn.ddf import DDF"),
        ("ops.ddf.api", "def f():\n    import numpy"),
        ("ops.ddf.api", "import numba"),
        ("ops.ddf.api", "from triton import jit"),
        ("nn.ddf", "import ddfnet.models.classification.resnet"),
        ("nn.ddf", "import timm"),
        ("models.classification.resnet", "import torchvision"),
        ("models.depth.x", "def f():\n    from timm import create_model"),
        ("models.classification.resnet", "import pytorch_lightning"),
        ("models.classification.resnet", "from ddfnet.data import splits"),
        ("data.x", "import ddfnet.tasks"),
        ("tasks.x", "from ddfnet.cli import train"),
        ("tasks.x", "import ddfnet.bench.cases"),
        ("tasks.depth.task", "import timm"),
        ("bench.x", "import pytorch_lightning as pl"),
        ("cli.x", "import ddfnet.integrations.mmdet"),
        ("nn.x", "import importlib\nimportlib.import_module('ddfnet.models')"),
        ("attic.x", ""),
        ("", "import torch"),
        ("", "from ddfnet.nn.ddf import DDF"),
    ],
)
def test_a_breach_is_caught(module: str, source: str) -> None:
    assert len(breaches({module: source})) == 1


def test_a_circle_is_caught() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter(graph({"ops.a": "from ddfnet.ops.b import f", "ops.b": "import ddfnet.ops.a"})).prepare()
