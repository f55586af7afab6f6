"""The cost of a network: parameters, FLOPs and multiply-adds, counted on meta tensors."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddfnet.ops.ddf.flops import ddf_multiply_adds
from ddfnet.ops.ddf.geometry import Options


@dataclass(frozen=True)
class Complexity:
    """Counts of one forward pass. The first two leave out normalisations, activations and pooling."""

    parameters: int
    flops: int  # 2 per multiply-add of convolutions and matrix products; 3 per DDF tap (Table 1), 2 with one filter
    multiply_adds: int  # of convolutions and matrix products (linear layers, attention), one per DDF tap
    published: int  # these, 2 per element of a batch norm and 1 per element of a ReLU: the counting of Tables 3 to 5


def complexity(model: nn.Module, *input_shapes: Sequence[int]) -> Complexity:
    """Count `model` on inputs of `input_shapes`, each (B, C, H, W), without running or changing the model."""
    on_meta = copy.deepcopy(model).to("meta").eval()
    inputs = [torch.empty(tuple(shape), device="meta") for shape in input_shapes]

    def count(custom: dict[Any, Any] | None = None) -> int:
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=custom) as counter:
            on_meta(*inputs)
        return int(counter.get_total_flops())

    def two_per_multiply_add(x: Any, channel: Any, spatial: Any, *options: Any, **_: Any) -> int:
        return 2 * ddf_multiply_adds(x, channel, spatial, Options(*options))

    elements = 0

    def count_elements(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        nonlocal elements
        elements += (2 if isinstance(module, nn.BatchNorm2d) else 1) * output.numel()

    flops = count()
    hooks = [
        module.register_forward_hook(count_elements)
        for module in on_meta.modules()
        if isinstance(module, nn.BatchNorm2d | nn.ReLU)
    ]
    multiply_adds = count({torch.ops.ddfnet.ddf: two_per_multiply_add}) // 2
    for hook in hooks:
        hook.remove()
    return Complexity(
        parameters=sum(p.numel() for p in model.parameters()),
        flops=flops,
        multiply_adds=multiply_adds,
        published=multiply_adds + elements,
    )
