"""The FLOP formula of the op for `torch.utils.flop_counter.FlopCounterMode` (Table 1's 3nck^2).

n output pixels, c channels, K = k*k taps. A tap costs one operation to combine the two filters, one to multiply and one to
add: 3ncK FLOPs forward and 3ncK for each gradient asked for; with one filter there is nothing to combine: 2ncK.
"""

import gc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

_MODULE = "torch.utils.flop_counter"


def ddf_multiply_adds(
    x_shape: Sequence[int],
    channel_shape: Sequence[int] | None,
    spatial_shape: Sequence[int] | None,
    kernel_size: int | None,
    stride: int,
    dilation: int,
    scale_factor: int,
    *_: Any,
    **__: Any,
) -> int:
    """Multiply-adds of one forward call, one per tap: ncK. Arguments are those of the op, with shapes for tensors."""
    batch, channels, height, width = x_shape
    pixels = -(-height // stride) * -(-width // stride) * scale_factor**2
    taps = channel_shape[-1] ** 2 if channel_shape is not None else spatial_shape[-3] if spatial_shape else 0
    return batch * pixels * channels * taps


def ddf_flops(
    x_shape: Sequence[int],
    channel_shape: Sequence[int] | None,
    spatial_shape: Sequence[int] | None,
    *options: Any,
    **_: Any,
) -> int:
    """FLOPs of one forward call."""
    per_tap = 2 + (channel_shape is not None and spatial_shape is not None)
    return per_tap * ddf_multiply_adds(x_shape, channel_shape, spatial_shape, *options)


def ddf_backward_flops(grad_shape: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """FLOPs of one backward call: those of the forward call for each gradient asked for."""
    return sum(args[-3:]) * ddf_flops(*args, **kwargs)


def register(formulas: dict[str, Callable[..., int]]) -> None:
    """Registers formulas, by the names of ops of `torch.ops.ddfnet`, as soon as PyTorch's FLOP counter is there.

    Counters already made get them too.

    Importing the counter takes longer than all of ddfnet, so it is not imported for this: a finder on `sys.meta_path`
    waits until someone else does, registers, and is gone.
    """
    if _MODULE in sys.modules:
        _register_formulas(formulas)
    else:
        sys.meta_path.insert(0, _RegisterOnImport(formulas))


def _register_formulas(formulas: dict[str, Callable[..., int]]) -> None:
    from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

    ops: dict[Any, Any] = {getattr(torch.ops.ddfnet, name): formula for name, formula in formulas.items()}
    for op, formula in ops.items():
        register_flop_formula(op)(formula)
    # A counter copies the registry when it is made, and would count 0 for an op that came later. Nothing lists the counters
    # there are but the garbage collector: an instance refers to its class.
    for found in gc.get_referrers(FlopCounterMode, *FlopCounterMode.__subclasses__()):
        if isinstance(found, FlopCounterMode):
            found.flop_registry |= {op: flop_registry[op] for op in ops}


class _RegisterOnImport:
    """Finds only the FLOP counter's module, with the ordinary loader, and registers the formulas once it has run."""

    def __init__(self, formulas: dict[str, Callable[..., int]]) -> None:
        self.formulas = formulas
        self.searching = False

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _MODULE or self.searching:
            return None
        self.searching = True
        spec = importlib.util.find_spec(name)
        self.searching = False
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            sys.meta_path.remove(self)
            _register_formulas(self.formulas)

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
