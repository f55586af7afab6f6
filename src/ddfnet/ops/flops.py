"""Register the FLOP formulas of our ops with `torch.utils.flop_counter` when it is imported.

Importing the counter takes longer than all of ddfnet, so ddfnet does not import it: `import ddfnet` puts a finder on
`sys.meta_path` that waits for that import, loads the operators then, and leaves. A counter copies the formulas when it is
made, so one made before `import ddfnet` counts 0 for our ops.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COUNTER = "torch.utils.flop_counter"
OPERATORS = ("ddfnet.ops.ddf.api", "ddfnet.ops.filters.api", "ddfnet.ops.pac.api")

_waiting: dict[str, Callable[..., int]] = {}


def add_formula(name: str, formula: Callable[..., int]) -> None:
    """Register `formula` for `torch.ops.ddfnet.NAME`, now or when the counter is imported."""
    _waiting[name] = formula
    if COUNTER in sys.modules and not _Finder.running:
        _register()


def watch_for_the_counter() -> None:
    """Load the operators, with their formulas, when the counter is imported; at once if it has been."""
    if COUNTER in sys.modules:
        _load_operators()
    else:
        sys.meta_path.insert(0, _Finder())


def _load_operators() -> None:
    for operator in OPERATORS:
        import_module(operator)


def _register() -> None:
    import torch
    from torch.utils.flop_counter import register_flop_formula

    while _waiting:
        name, formula = _waiting.popitem()
        register_flop_formula(getattr(torch.ops.ddfnet, name))(formula)


class _Finder:
    """A finder of the counter's module alone, by the ordinary loader, which registers the formulas once it has run."""

    running = False  # while the counter's module is half made

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != COUNTER or _Finder.running:
            return None
        _Finder.running = True
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            try:
                run(module)
            finally:
                _Finder.running = False
            sys.meta_path.remove(self)
            _load_operators()
            _register()

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
