"""ResNets whose 3x3 convolutions are DDF layers, on timm's ResNet; registered with `timm.create_model`.

timm builds its block, then the block's 3x3 layer is exchanged for what `block_args` ask for: everything else (options,
names of parameters, `features_only`, heads) stays timm's.
"""

from typing import Any, Literal

from timm import create_model, is_model
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models import resnet as timm_resnet
from torch import nn

from ddfnet.nn.ddf import DDF

__all__ = ["Bottleneck", "SmallImageResNet", "create_model", "is_model", "spatial_layer"]

SpatialLayer = Literal["conv", "depthwise", "ddf"]


def spatial_layer(conv: nn.Conv2d, layer: SpatialLayer, layer_args: dict[str, Any] | None = None) -> nn.Module:
    """The layer that stands in for `conv`, a k x k convolution: itself, its depthwise twin or a DDF layer.

    Raises:
        ValueError: `layer` is unknown, or `conv` changes the number of channels.
    """
    if layer == "conv":
        return conv
    if conv.in_channels != conv.out_channels:
        raise ValueError(f"layer={layer!r}: expected as many channels out as in, got {conv}")
    (k, _), (stride, _), (dilation, _) = conv.kernel_size, conv.stride, conv.dilation
    common = {"device": conv.weight.device, "dtype": conv.weight.dtype, **(layer_args or {})}
    if layer == "depthwise":
        return nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            k,
            stride=stride,
            padding=k // 2 * dilation,
            dilation=dilation,
            groups=conv.in_channels,
            bias=False,
            **common,
        )
    if layer == "ddf":
        return DDF(conv.in_channels, k, stride=stride, dilation=dilation, **common)
    raise ValueError(f"layer: expected 'conv', 'depthwise' or 'ddf', got {layer!r}")


class Bottleneck(timm_resnet.Bottleneck):
    """timm's bottleneck with `conv2`, its 3x3 layer, made by `spatial_layer(conv2, layer, layer_args)`."""

    def __init__(
        self, *args: Any, layer: SpatialLayer = "conv", layer_args: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.conv2 = spatial_layer(self.conv2, layer, layer_args)  # type: ignore[assignment]


class SmallImageResNet(timm_resnet.ResNet):
    """timm's ResNet with a 3x3 stem of stride 2, no pooling after it and three stages, for images of 28 to 64 pixels."""

    def __init__(self, block: Any, layers: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(block, layers, **kwargs)
        stem: Any = self.conv1
        device, dtype = stem.weight.device, stem.weight.dtype
        conv = nn.Conv2d(
            stem.in_channels, stem.out_channels, 3, stride=2, padding=1, bias=False, device=device, dtype=dtype
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.conv1 = conv  # type: ignore[assignment]
        self.maxpool = nn.Identity()  # type: ignore[assignment]
        self.layer4 = nn.Identity()
        for info in self.feature_info[1:]:
            info["reduction"] //= 2  # type: ignore[operator]


def _mini_cfg() -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "conv1",
        "classifier": "fc",
    }


default_cfgs = generate_default_cfgs(
    {name: _mini_cfg() for name in ("ddf_resnet_mini", "resnet_mini", "dwresnet_mini")}
)


def _mini(variant: str, layer: SpatialLayer, pretrained: bool, **kwargs: Any) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 10, **kwargs}
    block_args = {"layer": layer, **options.pop("block_args", {})}
    model: nn.Module = build_model_with_cfg(
        SmallImageResNet,
        variant,
        pretrained,
        block=Bottleneck,
        layers=(2, 2, 2),
        channels=(16, 32, 64),
        block_args=block_args,
        feature_cfg={"out_indices": (0, 1, 2, 3)},
        **options,
    )
    return model


@register_model
def ddf_resnet_mini(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Three stages of two DDF bottlenecks, inner widths 16, 32, 64, for small images."""
    return _mini("ddf_resnet_mini", "ddf", pretrained, **kwargs)


@register_model
def resnet_mini(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """`ddf_resnet_mini` with dense 3x3 convolutions."""
    return _mini("resnet_mini", "conv", pretrained, **kwargs)


@register_model
def dwresnet_mini(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """`ddf_resnet_mini` with depthwise 3x3 convolutions."""
    return _mini("dwresnet_mini", "depthwise", pretrained, **kwargs)
