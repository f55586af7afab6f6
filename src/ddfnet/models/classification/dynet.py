"""DyNet's ResNets (Zhang et al., "DyNet: Dynamic Convolution for Accelerating CNNs", 2020): two rows of Table 4.

    dynet_resnet18, dynet_resnet50     half as wide as ResNets behind the stem, every convolution of the blocks dynamic

One predictor a block looks at the block's input and weighs the fixed kernels of all its convolutions. A reconstruction
where the publication's text is silent: a ReLU between the predictor's two linear layers, shortcuts that are not dynamic.
The multiply-adds agree with the paper's figures: 67.2% and 71.3% below its ResNets.
"""

import math
from collections.abc import Callable
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models import resnet as timm_resnet
from torch import Tensor, nn

from ddfnet.models.classification.resnet import build_network, imagenet_cfg
from ddfnet.nn.rivals.dynet import mix_kernels
from ddfnet.ops.per_sample_conv import per_sample_conv2d

__all__ = ["DyNetBasicBlock", "DyNetBottleneck", "MixedConv2d"]


class MixedConv2d(nn.Module):
    """`conv` with g fixed kernels per output channel, weighed by coefficients (B, g, O) that come with its input."""

    def __init__(self, conv: nn.Conv2d, group_size: int) -> None:
        super().__init__()
        (self.kernel_size, _), (self.stride, _), (self.dilation, _) = conv.kernel_size, conv.stride, conv.dilation
        self.out_channels = conv.out_channels
        self.group_size = group_size
        self.weight = nn.Parameter(
            conv.weight.new_empty(group_size, conv.out_channels, conv.in_channels * self.kernel_size**2)
        )
        nn.init.normal_(self.weight, std=math.sqrt(2 / (conv.out_channels * self.kernel_size**2)))  # as timm's ResNets

    def forward(self, x: Tensor, coefficients: Tensor) -> Tensor:
        kernels = mix_kernels(self.weight, coefficients, self.kernel_size)
        return per_sample_conv2d(x, kernels, stride=self.stride, dilation=self.dilation)

    def extra_repr(self) -> str:
        inputs = self.weight.shape[2] // self.kernel_size**2
        return f"{inputs}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class _Predictor(nn.Module):
    """Global average pooling, C / 4 channels, ReLU, then sigmoid of a coefficient for each fixed kernel of each layer."""

    def __init__(self, channels: int, layers: list[MixedConv2d]) -> None:
        super().__init__()
        weight = layers[0].weight
        self.sizes = [(layer.group_size, layer.out_channels) for layer in layers]
        factory: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        self.layers = nn.Sequential(
            nn.Linear(channels, max(1, channels // 4), **factory),
            nn.ReLU(inplace=True),
            nn.Linear(max(1, channels // 4), sum(map(math.prod, self.sizes)), **factory),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found: Tensor = self.layers(x.mean((2, 3)))
        parts = found.split([math.prod(size) for size in self.sizes], dim=1)
        return [part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True)]


class DyNetBasicBlock(timm_resnet.BasicBlock):
    """timm's basic block with both convolutions dynamic, g = 6 fixed kernels per output channel."""

    def __init__(self, inplanes: int, *args: Any, group_size: int = 6, **kwargs: Any) -> None:
        super().__init__(inplanes, *args, **kwargs)
        layers = [MixedConv2d(conv, group_size) for conv in (self.conv1, self.conv2)]
        self.conv1, self.conv2 = layers  # type: ignore[assignment]
        self.predictor = _Predictor(inplanes, layers)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.predictor(x)
        y = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x, first)))))  # type: ignore[misc]
        y = self.bn2(self.conv2(y, second))
        z: Tensor = self.act2(_joined(self, x, y))
        return z


class DyNetBottleneck(timm_resnet.Bottleneck):
    """timm's bottleneck with its three convolutions dynamic, g = 6 fixed kernels per output channel."""

    def __init__(self, inplanes: int, *args: Any, group_size: int = 6, **kwargs: Any) -> None:
        super().__init__(inplanes, *args, **kwargs)
        layers = [MixedConv2d(conv, group_size) for conv in (self.conv1, self.conv2, self.conv3)]
        self.conv1, self.conv2, self.conv3 = layers  # type: ignore[assignment]
        self.predictor = _Predictor(inplanes, layers)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.predictor(x)
        y = self.act1(self.bn1(self.conv1(x, first)))
        y = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(y, second)))))  # type: ignore[misc]
        y = self.bn3(self.conv3(y, third))
        z: Tensor = self.act3(_joined(self, x, y))
        return z


def _joined(block: Any, x: Tensor, y: Tensor) -> Tensor:
    """Return the end of a block of timm's: attention, stochastic depth and the shortcut."""
    y = y if block.se is None else block.se(y)
    y = y if block.drop_path is None else block.drop_path(y)
    return y + (x if block.downsample is None else block.downsample(x))


_NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "dynet_resnet18": (DyNetBasicBlock, (2, 2, 2, 2)),
    "dynet_resnet50": (DyNetBottleneck, (3, 4, 6, 3)),
}
default_cfgs = generate_default_cfgs({name: imagenet_cfg("conv1") for name in _NETWORKS})


def _network(name: str) -> Callable[..., nn.Module]:
    block, layers = _NETWORKS[name]

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        given = {"block": block, "layers": layers, "channels": (32, 64, 128, 256), **kwargs}
        return build_network(timm_resnet.ResNet, name, pretrained, **given)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"DyNet's {name.removeprefix('dynet_').replace('resnet', 'ResNet')} (Table 4); a reconstruction."
    return build


for _name in _NETWORKS:
    globals()[_name] = register_model(_network(_name))
