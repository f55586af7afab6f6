"""Launch a Triton kernel whose plan and compiled form are kept."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.gpu.devices import interpreted


@dataclass(frozen=True)
class Launch:
    """Everything that a launch needs except its tensors.

    `view` turns the tensors into the kernel's first arguments: plain tuples, of addresses and strides, where `records` has a
    record, and tensors where it has None. The kernel reads the tuples by the records' field names. A compiled kernel has no
    names left, and takes addresses as numbers, so only a launch that compiles builds records or hands over tensors.
    """

    kernel: Any  # a triton.jit function
    grid: tuple[int, int, int]
    view: Callable[..., tuple[Any, ...]]
    records: tuple[type[Any] | None, ...] = ()
    numbers: tuple[Any, ...] = ()  # the arguments that follow
    warps: int = 4
    compiled: dict[Any, Callable[..., None]] = field(default_factory=dict)

    def named(self, tensors: tuple[Tensor | None, ...]) -> tuple[Any, ...]:
        """Return all arguments, with the names that the kernel reads."""
        views = self.view(*tensors)
        records = self.records or (None,) * len(views)
        named = (view if record is None else record(*view) for record, view in zip(records, views, strict=True))
        return (*named, *self.numbers)

    def run(self, tensors: tuple[Tensor | None, ...]) -> None:
        """Launch the kernel on the current stream of the tensors' device; the first tensor may not be None."""
        if interpreted():
            self.kernel[self.grid](*self.named(tensors))
            return
        device = tensors[0].get_device()  # type: ignore[union-attr]
        addresses = [None if t is None else t.data_ptr() for t in tensors]
        # What Triton compiles depends on the plan, on the tensors' dtypes and on whether addresses are multiples of 16.
        key = (
            device,
            *[None if t is None else t.dtype for t in tensors],
            *[a is None or a % 16 == 0 for a in addresses],
        )
        launch = self.compiled.get(key)
        elsewhere = device != torch.accelerator.current_device_index()
        if launch is not None and not elsewhere:
            launch(*self.view(*addresses), *self.numbers)
            return
        with torch.accelerator.device_index(device) if elsewhere else nullcontext():
            if launch is not None:
                launch(*self.view(*addresses), *self.numbers)
                return
            options = {"num_warps": self.warps, "enable_fp_fusion": True}
            self.compiled[key] = self.kernel[self.grid](*self.named(tensors), **options)[self.grid]
