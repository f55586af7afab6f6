"""`ddfnet bench model`: networks by their timm names: size, multiply-adds, latency, images/s and memory.

Inference runs in `torch.inference_mode`; training is forward, cross-entropy, backward and a step of SGD with momentum
(learning rate 0: the weights stay as drawn). Half types run under autocast with float32 weights, as they are trained.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.bench.measure import CANNOT_RUN, DTYPES, LAYOUTS, Entry, Group, Settings, compare, left_out
from ddfnet.bench.memory import peak_bytes
from ddfnet.bench.results import Result
from ddfnet.bench.timers import Call

MINI = ("ddf_resnet_mini", "resnet_mini", "dwresnet_mini")
MINI_INPUT = (1, 28, 28)


@dataclass(frozen=True)
class Network:
    """A network and what is known of it before it is timed."""

    name: str
    module: nn.Module
    input_size: tuple[int, int, int]  # (C, H, W)
    classes: int
    parameters: int
    multiply_adds: int
    published: int  # as the paper counts: `Complexity`


def create(name: str, input_size: tuple[int, int, int] | None = None) -> Network:
    """The network of that timm name, `ddfnet.models` among them, with random weights; `input_size` (C, H, W) or its own.

    Raises:
        ValueError: timm knows no such network, or it can't take that input.
    """
    import timm

    from ddfnet.models.complexity import complexity

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ValueError(f"models: expected names that timm knows after `import ddfnet.models`, got {name!r}{hint}")
    options: dict[str, Any] = {} if input_size is None else {"in_chans": input_size[0]}
    module: Any = timm.create_model(name, **options)
    size = input_size or module.pretrained_cfg["input_size"]
    try:
        counts = complexity(module, (1, *size))
    except RuntimeError as error:
        raise ValueError(f"models: {name} can't take inputs of size {size}: {error}") from error
    return Network(name, module, size, module.num_classes, counts.parameters, counts.multiply_adds, counts.published)


def run(
    networks: Sequence[Network],
    settings: Settings,
    *,
    batches: Sequence[int],
    rival: str,
    compiled: bool = False,
    skip: Callable[[str], None],
) -> Iterator[list[Result]]:
    """Times all networks against each other, inference at every batch size and training at the largest; yields each.

    Args:
        networks: of `create`.
        settings: of the run.
        batches: images per call.
        rival: the network that ratios are against.
        compiled: times each network under `torch.compile` too.
        skip: as `ddfnet.bench.op.run`.
    """
    for dtype, layout, (direction, batch) in product(
        settings.dtypes, settings.layouts, rounds(settings.directions, batches)
    ):
        sizes = {network.input_size for network in networks}
        case = f"b{batch} " + " ".join("x".join(map(str, size)) for size in sorted(sizes))
        group = Group("model", case, direction, dtype, layout, rival)
        entries = {}
        for network, under_compile in product(networks, (False, True) if compiled else (False,)):
            name = f"{network.name} (compiled)" if under_compile else network.name
            try:
                entries[name] = _entry(network, group, batch, settings.device, under_compile)
            except CANNOT_RUN as error:
                skip(left_out(group, name, error))
        yield compare(group, entries, settings)


def rounds(directions: Sequence[str], batches: Sequence[int]) -> list[tuple[str, int]]:
    """What `run` times: (direction, batch size)."""
    inference = [("inference", batch) for batch in batches if "inference" in directions]
    return inference + ([("training", max(batches))] if "training" in directions else [])


def _entry(network: Network, group: Group, batch: int, device: str, compiled: bool) -> Entry:
    dtype = DTYPES[group.dtype]
    half = dtype if dtype.itemsize == 2 else None
    training = group.direction == "training"
    module = network.module.to(device=device, dtype=torch.float32 if half else dtype)
    module = module.to(memory_format=LAYOUTS[group.layout]).train(training)
    images = torch.randn(batch, *network.input_size, device=device)
    images = images.to(torch.float32 if half else dtype, memory_format=LAYOUTS[group.layout])
    labels = torch.randint(network.classes, (batch,), device=device)

    if compiled:
        torch.compiler.reset()
    function: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False) if compiled else module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)

    def forward() -> Tensor:
        with torch.autocast(device, half, enabled=half is not None):
            return function(images)

    def inference() -> Tensor:
        with torch.inference_mode():
            return forward()

    def train() -> None:
        F.cross_entropy(forward().float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    call: Call = train if training else inference
    call()  # compiles, and makes the optimizer's state
    tensors: list[Tensor] = [images, *module.parameters(), *module.buffers()]
    tensors += [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    columns: dict[str, Any] = {
        "input_bytes": sum(tensor.nbytes for tensor in tensors),
        "extra_bytes": peak_bytes(call, device),
        "parameters": network.parameters,
        "multiply_adds": network.multiply_adds,
        "published": network.published,
    }
    return Entry(call, columns, images=batch)
