"""`ddfnet bench model`: networks by their timm names: size, multiply-adds, latency, images/s and memory.

Those for joint depth upsampling have names of ours: "ddf_up_net_x8", "pac_joint_upsample_x8" and other factors. A name with
":free" after it is that network with k x k layers that cost nothing: the bound of what another layer there can gain.
Inference runs in `torch.inference_mode`; training is forward, cross-entropy (of depth: mean squared error), backward and a
step of SGD with momentum (learning rate 0: the weights stay as drawn). Half types run under autocast with float32 weights,
as they are trained.
"""

import re
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
from ddfnet.nn.replace import replace_conv2d

MINI = ("ddf_resnet_mini", "resnet_mini", "dwresnet_mini")
MINI_INPUT = (1, 28, 28)
JOINT = {"ddf_up_net": "DDFUpNet", "pac_joint_upsample": "PacJointUpsample"}  # of ddfnet.models
JOINT_INPUT = (3, 480, 640)  # NYU Depth v2's images
FREE = ":free"


@dataclass(frozen=True)
class Network:
    """A network, and what is known about it before it is timed."""

    name: str
    module: nn.Module
    input_size: tuple[int, int, int]  # (C, H, W)
    classes: int  # 0: it gives an image, and not scores
    parameters: int
    multiply_adds: int
    published: int  # as the paper counts: `Complexity`
    depth_size: tuple[int, int, int] | None = None  # (1, h, w) of the depth that it takes before the image


def create(name: str, input_size: tuple[int, int, int] | None = None) -> Network:
    """Return the network of that name (timm's, ours or one of `JOINT`) with random weights; `input_size` or the default one.

    Raises:
        ValueError: timm knows no such network, it can't take that input, or has no layer to be ":free".
    """
    import timm

    from ddfnet.models.complexity import complexity

    joint = re.fullmatch(rf"({'|'.join(JOINT)})_x(\d+)", name)
    if joint is not None:
        return _joint_upsampler(name, JOINT[joint[1]], int(joint[2]), input_size or JOINT_INPUT)
    timm_name = name.removesuffix(FREE)
    if not timm.is_model(timm_name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ValueError(f"models: expected names that timm knows after `import ddfnet.models`, got {name!r}{hint}")
    options: dict[str, Any] = {} if input_size is None else {"in_chans": input_size[0]}
    module: Any = timm.create_model(timm_name, **options)
    if name.endswith(FREE):
        replace_conv2d(module, layer=_Free)
    size = input_size or module.pretrained_cfg["input_size"]
    try:
        counts = complexity(module, (1, *size))
    except RuntimeError as error:
        raise ValueError(f"models: {name} can't take inputs of size {size}: {error}") from error
    return Network(name, module, size, module.num_classes, counts.parameters, counts.multiply_adds, counts.published)


class _Free(nn.Module):
    """Replace a k x k layer by one that computes nothing."""

    def __init__(self, channels: int, kernel_size: int, *, stride: int = 1, **options: Any) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


def _joint_upsampler(name: str, kind: str, factor: int, input_size: tuple[int, int, int]) -> Network:
    from ddfnet import models

    module: nn.Module = getattr(models, kind)(factor)
    channels, height, width = input_size
    if channels != 3:
        raise ValueError(f"models: {name} takes images of 3 channels, got inputs of size {input_size}")
    depth_size = (1, -(-height // factor), -(-width // factor))
    counts = models.complexity(module, (1, *depth_size), (1, *input_size))
    return Network(name, module, input_size, 0, counts.parameters, counts.multiply_adds, counts.published, depth_size)


def run(
    networks: Sequence[Network],
    settings: Settings,
    *,
    batches: Sequence[int],
    rival: str,
    compiled: bool = False,
    skip: Callable[[str], None],
) -> Iterator[list[Result]]:
    """Time all networks against each other, inference at every batch size and training at the largest; yield each result.

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
    """Return what `run` times: (direction, batch size)."""
    inference = [("inference", batch) for batch in batches if "inference" in directions]
    return inference + ([("training", max(batches))] if "training" in directions else [])


def _entry(network: Network, group: Group, batch: int, device: str, compiled: bool) -> Entry:
    dtype = DTYPES[group.dtype]
    half = dtype if dtype.itemsize == 2 else None
    training = group.direction == "training"
    module = network.module.to(device=device, dtype=torch.float32 if half else dtype)
    module = module.to(memory_format=LAYOUTS[group.layout]).train(training)
    sizes = [network.input_size] if network.depth_size is None else [network.depth_size, network.input_size]
    drawn = (torch.randn(batch, *size, device=device) for size in sizes)
    inputs = [image.to(torch.float32 if half else dtype, memory_format=LAYOUTS[group.layout]) for image in drawn]
    if network.classes:
        target = torch.randint(network.classes, (batch,), device=device)
    else:
        target = torch.rand(batch, 1, *network.input_size[1:], device=device)
    loss = F.cross_entropy if network.classes else F.mse_loss

    if compiled:
        torch.compiler.reset()
    function: Callable[..., Tensor] = torch.compile(module, dynamic=False) if compiled else module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)

    def forward() -> Tensor:
        with torch.autocast(device, half, enabled=half is not None):
            return function(*inputs)

    def inference() -> Tensor:
        with torch.inference_mode():
            return forward()

    def train() -> None:
        loss(forward().float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    call: Call = train if training else inference
    call()  # compiles, and makes the optimizer's state
    tensors: list[Tensor] = [*inputs, *module.parameters(), *module.buffers()]
    tensors += [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    columns: dict[str, Any] = {
        "input_bytes": sum(tensor.nbytes for tensor in tensors),
        "extra_bytes": peak_bytes(call, device),
        "parameters": network.parameters,
        "multiply_adds": network.multiply_adds,
        "published": network.published,
    }
    return Entry(call, columns, images=batch)
