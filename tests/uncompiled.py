"""Leaves out the kernels that are compiled, seconds for each, where it does not matter which kernels serve."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def leave_out_compiled_kernels(patch: Callable[[Any, str, Any], object] = setattr) -> None:
    """Lets `backend="auto"` take PyTorch's own operations on the CPU, by `patch` (object, name, value)."""
    for name in ("ddf", "filters"):
        patch(import_module(f"ddfnet.ops.{name}.cpu.backend"), "missing", lambda: "left out of this test")
