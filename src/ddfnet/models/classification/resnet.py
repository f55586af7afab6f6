"""ResNets whose 3x3 convolutions are DDF layers, on timm's ResNet; registered with `timm.create_model`.

timm builds its block, then the block's 3x3 layers are exchanged for what `block_args` ask for: everything else (options,
names of parameters, `features_only`, heads) stays timm's, and parameters are named as in the authors' checkpoints.

    ddf_mul_resnet50/101/152     the paper's networks (Tables 4 and 5)
    ddf_add_resnet50/101/152     filters added in place of multiplied (released code)
    ddf_mul_resnet18/34, add     the paper's R18 (Table 4) was not published: a reconstruction, see `BasicBlock`
    ddf_mul_resnet50_*           the rows of Table 3: spatial, channel; batchnorm, sigmoid; sigma03, sigma04
    ddf_mul_wide_resnet50, d     Table C: inner width doubled as in ResNeXt; then ResNet-D's stem and shortcuts
    *resnet_mini                 small networks for small images
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

from timm import create_model, is_model
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models import resnet as timm_resnet
from torch import nn

from ddfnet.nn.ddf import DDF

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "SmallImageResNet",
    "build_mini",
    "create_model",
    "imagenet_cfg",
    "is_model",
    "mini_cfg",
    "spatial_layer",
]

RUN_PREFIX = "network."  # of the names in the checkpoints of `ddfnet train`
SpatialLayer = Literal["conv", "depthwise", "ddf"] | Callable[..., nn.Module]  # the last called as `DDF` is


def spatial_layer(
    conv: nn.Conv2d, layer: SpatialLayer, layer_args: dict[str, Any] | None = None, *, pointwise: bool = False
) -> nn.Module:
    """Return the layer that stands in for `conv`, a k x k convolution: itself, its depthwise twin, a DDF layer or another.

    Args:
        conv: the convolution, whose stride and dilation are kept.
        layer: which, or what makes it, called as `DDF` is.
        layer_args: options of the new layer; `kernel_size` among them, if it is to have another.
        pointwise: a 1x1 convolution follows, which makes `conv`'s output channels of its input channels.

    Raises:
        ValueError: `layer` is unknown, or `conv` changes the number of channels and `pointwise` is not set.
    """
    if layer == "conv":
        return conv
    if layer not in ("depthwise", "ddf") and not callable(layer):
        raise ValueError(f"layer: expected 'conv', 'depthwise', 'ddf' or what makes a layer, got {layer!r}")
    if conv.in_channels != conv.out_channels and not pointwise:
        raise ValueError(f"layer={layer!r}: expected as many channels out as in, got {conv}")
    channels = conv.in_channels
    (k, _), (stride, _), (dilation, _) = conv.kernel_size, conv.stride, conv.dilation
    factory: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    options = {"kernel_size": k, "stride": stride, "dilation": dilation, **factory, **(layer_args or {})}
    new: nn.Module
    if layer == "depthwise":
        padding = options["kernel_size"] // 2 * dilation
        new = nn.Conv2d(channels, channels, padding=padding, groups=channels, bias=False, **options)
    else:
        new = (layer if callable(layer) else DDF)(channels, **options)
    if not pointwise:
        return new
    return nn.Sequential(new, nn.Conv2d(channels, conv.out_channels, 1, bias=False, **factory))


class Bottleneck(timm_resnet.Bottleneck):
    """timm's bottleneck with `conv2`, its 3x3 layer, made by `spatial_layer(conv2, layer, layer_args)`."""

    def __init__(
        self, *args: Any, layer: SpatialLayer = "conv", layer_args: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.conv2 = spatial_layer(self.conv2, layer, layer_args)  # type: ignore[assignment]


class BasicBlock(timm_resnet.BasicBlock):
    """timm's basic block with both 3x3 layers made by `spatial_layer(conv, layer, layer_args, pointwise=True)`.

    With DDF layers and a squeeze ratio of 0.5, ResNet18 has the 7.7M parameters and 0.4B multiply-adds of Table 4. How
    the authors built theirs was not published.
    """

    def __init__(
        self, *args: Any, layer: SpatialLayer = "conv", layer_args: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.conv1 = spatial_layer(self.conv1, layer, layer_args, pointwise=True)  # type: ignore[assignment]
        self.conv2 = spatial_layer(self.conv2, layer, layer_args, pointwise=True)  # type: ignore[assignment]


class SmallImageResNet(timm_resnet.ResNet):
    """timm's ResNet with a 3x3 stem, no pooling after it and three stages, for images of 28 to 64 pixels.

    Args:
        block, layers, kwargs: timm's.
        stem_stride: 2, or 1 for maps twice as high and wide throughout, at four times the cost.
    """

    def __init__(self, block: Any, layers: tuple[int, ...], *, stem_stride: int = 2, **kwargs: Any) -> None:
        if stem_stride not in (1, 2):
            raise ValueError(f"stem_stride: expected 1 or 2, got {stem_stride}")
        super().__init__(block, layers, **kwargs)
        stem: Any = self.conv1
        device, dtype = stem.weight.device, stem.weight.dtype
        widths = (stem.in_channels, stem.out_channels)
        conv = nn.Conv2d(*widths, 3, stride=stem_stride, padding=1, bias=False, device=device, dtype=dtype)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.conv1 = conv  # type: ignore[assignment]
        self.maxpool = nn.Identity()  # type: ignore[assignment]
        self.layer4 = nn.Identity()
        for place, info in enumerate(self.feature_info):
            info["reduction"] //= (2 if place else 1) * 2 // stem_stride  # type: ignore[operator]


_DEPTHS: dict[int, tuple[type[nn.Module], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
_WIDE = {"base_width": 128}
_RESNET_D = {"stem_width": 32, "stem_type": "deep", "avg_down": True}


def _imagenet_variants() -> Iterator[tuple[str, int, dict[str, Any], dict[str, Any], str]]:
    """Yield name, depth, options of the DDF layers, options of timm's ResNet, and a description."""
    for combine, source in (("mul", "Tables 4 and 5"), ("add", "the released code's sum of the filters")):
        for depth in _DEPTHS:
            basic = depth < 50
            layer_args: dict[str, Any] = {"combine": combine, **({"squeeze_ratio": 0.5} if basic else {})}
            what = f"ResNet{depth} with DDF layers: {source}" + (
                "; a reconstruction, see `BasicBlock`." if basic else "."
            )
            yield f"ddf_{combine}_resnet{depth}", depth, layer_args, {}, what
    ablations: dict[str, tuple[dict[str, Any], str]] = {
        "spatial": ({"branches": "spatial"}, "3a, spatial filters only"),
        "channel": ({"branches": "channel"}, "3a, channel filters only"),
        "batchnorm": ({"norm": "batch"}, "3b, batch norm of the filters"),
        "sigmoid": ({"norm": "sigmoid"}, "3b, sigmoid of the filters"),
        "sigma03": ({"squeeze_ratio": 0.3}, "3c, squeeze ratio 0.3"),
        "sigma04": ({"squeeze_ratio": 0.4}, "3c, squeeze ratio 0.4"),
    }
    for suffix, (layer_args, row) in ablations.items():
        yield f"ddf_mul_resnet50_{suffix}", 50, layer_args, {}, f"`ddf_mul_resnet50` of Table {row}."
    yield "ddf_mul_wide_resnet50", 50, {}, _WIDE, "`ddf_mul_resnet50` with inner widths doubled (Table C)."
    what = "`ddf_mul_wide_resnet50` with ResNet-D's stem and shortcuts (Table C)."
    yield "ddf_mul_wide_resnet50d", 50, {}, {**_WIDE, **_RESNET_D}, what


def build_network(kind: type[nn.Module], name: str, pretrained: bool, **options: Any) -> nn.Module:
    """Call timm's `build_model_with_cfg`; as `checkpoint_path`, the network takes the checkpoints of runs too."""
    model: nn.Module = build_model_with_cfg(kind, name, pretrained, **options)
    model.register_load_state_dict_pre_hook(_without_run_prefix)
    return model


def _without_run_prefix(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename what a run calls `network.fc.weight` to `fc.weight`, in place."""
    run_prefix = prefix + RUN_PREFIX
    for name in [name for name in state if name.startswith(run_prefix)]:
        state[prefix + name.removeprefix(run_prefix)] = state.pop(name)


def imagenet_cfg(first_conv: str) -> dict[str, Any]:
    """Return what timm keeps of a network for ImageNet, without weights."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": first_conv,
        "classifier": "fc",
    }


def mini_cfg() -> dict[str, Any]:
    """Return the configuration of a small network for small images."""
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


_CFGS: dict[str, Any] = {name: mini_cfg() for name in ("ddf_resnet_mini", "resnet_mini", "dwresnet_mini")}
for _variant in _imagenet_variants():
    _CFGS[_variant[0]] = imagenet_cfg("conv1.0" if "stem_type" in _variant[3] else "conv1")
default_cfgs = generate_default_cfgs(_CFGS)


def _imagenet(
    name: str, depth: int, layer_args: dict[str, Any], options: dict[str, Any], what: str
) -> Callable[..., nn.Module]:
    """Return the function that builds a variant, as `timm.register_model` wants it."""
    block, layers = _DEPTHS[depth]

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        asked = kwargs.pop("block_args", {})
        block_args = {"layer": "ddf", **asked, "layer_args": {**layer_args, **asked.get("layer_args", {})}}
        given = {"block": block, "layers": layers, "block_args": block_args, **options, **kwargs}
        return build_network(timm_resnet.ResNet, name, pretrained, **given)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = what
    return build


for _variant in _imagenet_variants():
    globals()[_variant[0]] = register_model(_imagenet(*_variant))


def build_mini(
    variant: str,
    layer: SpatialLayer,
    pretrained: bool,
    *,
    network: type[SmallImageResNet] = SmallImageResNet,
    **kwargs: Any,
) -> nn.Module:
    """Create three stages of two bottlenecks with `layer`, by timm's name; inner widths are `channels`."""
    options: dict[str, Any] = {"num_classes": 10, "channels": (16, 32, 64), **kwargs}
    block_args = {"layer": layer, **options.pop("block_args", {})}
    return build_network(
        network,
        variant,
        pretrained,
        block=Bottleneck,
        layers=(2, 2, 2),
        block_args=block_args,
        feature_cfg={"out_indices": (0, 1, 2, 3)},
        **options,
    )


@register_model
def ddf_resnet_mini(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create three stages of two DDF bottlenecks, inner widths 16, 32, 64, for small images."""
    return build_mini("ddf_resnet_mini", "ddf", pretrained, **kwargs)


@register_model
def resnet_mini(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create `ddf_resnet_mini` with dense 3x3 convolutions."""
    return build_mini("resnet_mini", "conv", pretrained, **kwargs)


@register_model
def dwresnet_mini(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Create `ddf_resnet_mini` with depthwise 3x3 convolutions."""
    return build_mini("dwresnet_mini", "depthwise", pretrained, **kwargs)
