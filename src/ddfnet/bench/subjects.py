"""Something to time on tensors, an operator or a layer: what is called, and what is known about it before it is timed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ddfnet.bench.measure import CANNOT_RUN, Entry, Group, Settings, left_out
from ddfnet.bench.memory import peak_bytes
from ddfnet.bench.timers import Call


@dataclass(frozen=True)
class Subject:
    """Forward: `function(*inputs)`. Backward: the gradient of every input, from a fixed gradient of the output."""

    name: str
    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]  # leaves that require gradients
    backend: str = ""
    forward_flops: int | None = None  # None: PyTorch's FLOP counter is asked
    parameters: int | None = None


def entries(
    subjects: Iterable[Subject], group: Group, settings: Settings, skip: Callable[[str], None]
) -> dict[str, Entry]:
    """Run each subject once and measure what is not time: bytes, FLOPs, peak memory.

    A subject that can't run here (memory, an operation PyTorch lacks for a dtype) is left out, and `skip` gets the reason.
    """
    ready = {}
    for subject in subjects:
        try:
            ready[subject.name] = _entry(subject, group.direction, settings.device)
        except CANNOT_RUN as error:
            skip(left_out(group, subject.name, error))
    return ready


def copy_entry(moved: int, dtype: torch.dtype, device: str) -> Entry:
    """Return a copy between two buffers that reads and writes `moved` bytes together: the physical limit."""
    count = max(1, moved // 2 // dtype.itemsize)
    source, target = torch.randn(count, dtype=dtype, device=device), torch.empty(count, dtype=dtype, device=device)
    return Entry(lambda: target.copy_(source), {"bytes_moved": moved, "forward_flops": 0})


def _entry(subject: Subject, direction: str, device: str) -> Entry:
    with torch.no_grad():
        output = subject.function(*subject.inputs)
        flops = subject.forward_flops
        if flops is None:
            with FlopCounterMode(display=False) as counter:
                subject.function(*subject.inputs)
            flops = counter.get_total_flops()
    inputs, backward = sum(tensor.nbytes for tensor in subject.inputs), direction != "forward"
    # Backward, inputs and output gradient are read and the gradients of the inputs written.
    moved = 3 * inputs + 2 * output.nbytes if backward else inputs + output.nbytes
    call = _call(subject, torch.randn_like(output) if backward else None)
    del output
    columns = {
        "backend": subject.backend,
        "bytes_moved": moved,
        "forward_flops": flops,
        "input_bytes": inputs,
        "extra_bytes": peak_bytes(call, device),
        "parameters": subject.parameters,
    }
    return Entry(call, columns)


def _call(subject: Subject, grad_output: Tensor | None) -> Call:
    def forward() -> Tensor:
        with torch.no_grad():
            return subject.function(*subject.inputs)

    def forward_and_backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(subject.function(*subject.inputs), subject.inputs, grad_output)

    return forward if grad_output is None else forward_and_backward
