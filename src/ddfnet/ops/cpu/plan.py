"""The plan of a call of CPU kernels: all but its tensors' addresses, made once for each shape."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.cpu import threads


@dataclass(frozen=True)
class Plan:
    """A call without its addresses."""

    kernels: tuple[Any, ...]  # run one after the other
    call: "array[int]"  # ends in the numbers that threads count up
    tensors: tuple[int, ...]  # where in `call` the tensors' addresses belong
    counters: tuple[int, ...]  # those of the numbers
    partial: int  # that of the work items' sums
    scratch: int
    partial_bytes: int
    scratch_bytes: int  # of a thread
    serial: bool

    def run(self, tensors: Sequence[Tensor | None]) -> None:
        """Run the kernels, on `torch.get_num_threads()` threads where the call is worth it."""
        call = self.call[:]
        for index, tensor in zip(self.tensors, tensors, strict=True):
            if tensor is not None:
                call[index] = tensor.data_ptr()
        count = 1 if self.serial else torch.get_num_threads()
        buffer = torch.empty(self.partial_bytes + self.scratch_bytes * count + 64, dtype=torch.uint8, device="cpu")
        base = -(-buffer.data_ptr() // 64) * 64
        call[self.partial], call[self.scratch] = base, base + self.partial_bytes
        address, length = call.buffer_info()
        for number, index in enumerate(self.counters, length - len(self.counters)):
            call[index] = address + number * 8
        for kernel in self.kernels:
            threads.run(kernel, address, count)


def scratch_offsets(sections: dict[str, int]) -> dict[str, int]:
    """Return the offset of each section of a thread's scratch, given their bytes, and all bytes as "scratch_bytes"."""
    offsets, total = {}, 0
    for section, length in sections.items():
        offsets[section] = total
        total += -(-length // 64) * 64
    return {**offsets, "scratch_bytes": total}
