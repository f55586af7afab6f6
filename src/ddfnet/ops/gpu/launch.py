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

    `view` turns the tensors into the kernel's first arguments, one plain tuple for each of `records`: addresses and strides.
    The kernel reads these tuples by the records' field names. A compiled kernel has no names left, so only a launch that
    compiles pays for building the records.
    """

    kernel: Any  # a triton.jit function
    grid: tuple[int, int, int]
    view: Callable[..., tuple[Any, ...]]
    records: tuple[type[Any], ...] = ()
    numbers: tuple[Any, ...] = ()  # the arguments that follow
    warps: int = 4
    compiled: dict[Any, Callable[..., None]] = field(default_factory=dict)

    def named(self, tensors: tuple[Tensor | None, ...]) -> tuple[Any, ...]:
        """Return all arguments, with the names that the kernel reads."""
        views = self.view(*tensors)
        if not self.records:
            return (*views, *self.numbers)
        return (*(record(*view) for record, view in zip(self.records, views, strict=True)), *self.numbers)

    def run(self, tensors: tuple[Tensor | None, ...]) -> None:
        """Launch the kernel on the current stream of the tensors' device."""
        if interpreted():
            self.kernel[self.grid](*self.named(tensors))
            return
        device = next(t for t in tensors if t is not None).device
        # What Triton compiles depends on the plan, on the tensors' dtypes and on whether addresses are multiples of 16.
        key = (device.index, *(None if t is None else (t.dtype, t.data_ptr() % 16 == 0) for t in tensors))
        launch = self.compiled.get(key)
        elsewhere = device.index != torch.accelerator.current_device_index()
        with torch.accelerator.device_index(device.index) if elsewhere else nullcontext():
            if launch is not None:
                launch(*self.view(*tensors), *self.numbers)
                return
            options = {"num_warps": self.warps, "enable_fp_fusion": True}
            self.compiled[key] = self.kernel[self.grid](*self.named(tensors), **options)[self.grid]
