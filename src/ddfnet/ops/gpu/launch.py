"""One launch of a Triton kernel, planned once and kept down to the compiled kernel."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.gpu.devices import interpreted


@dataclass(frozen=True)
class Launch:
    """All of a launch but its tensors."""

    kernel: Any  # a triton.jit function
    grid: tuple[int, int, int]
    numbers: tuple[int, ...]  # that follow the tensors
    constants: tuple[Any, ...]  # that follow the numbers
    warps: int = 4
    compiled: dict[Any, Callable[..., None]] = field(default_factory=dict)

    def run(self, tensors: tuple[Tensor | None, ...]) -> None:
        arguments = (*tensors, *self.numbers, *self.constants)
        if interpreted():
            self.kernel[self.grid](*arguments)
            return
        device = next(t for t in tensors if t is not None).device
        # What Triton compiles depends on the numbers and constants, which are this plan's; on the tensors' dtypes; and on
        # whether addresses are multiples of 16.
        key = (device.index, *(None if t is None else (t.dtype, t.data_ptr() % 16 == 0) for t in tensors))
        launch = self.compiled.get(key)
        elsewhere = device.index != torch.accelerator.current_device_index()
        with torch.accelerator.device_index(device.index) if elsewhere else nullcontext():
            if launch is not None:
                launch(*arguments)
                return
            options = {"num_warps": self.warps, "enable_fp_fusion": True}
            self.compiled[key] = self.kernel[self.grid](*arguments, **options)[self.grid]
