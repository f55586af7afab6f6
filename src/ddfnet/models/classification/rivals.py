"""ResNets with DDF's rivals: the rows of Tables 4 and 5 that timm lacks, and small ones for small images.

    condconv_resnet50, dwcondconv_resnet50, dwweightnet_resnet50                     Table 4
    bam_resnet50/101, cbam_resnet50/101, aa_resnet50/101                             Table 5
    involution_resnet50          7x7, as in the trunk of RedNet-50 (Li et al., CVPR 2021); in no table
    odconv_resnet50              ODConv (Li et al., ICLR 2022) in the 3x3 layers alone, not in the 1x1; in no table
    *_resnet_mini                `ddf_resnet_mini` with each of them, the dense dynamic filter, PAC or an attention

DyNet's ResNets are in `dynet.py` beside this file. timm has Table 5's others: seresnet50 and legacy_seresnet101,
resnext50_32x4d and resnext101_32x4d, res2net50_14w_8s and res2net101_26w_4s.
"""

from collections.abc import Callable
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models import resnet as timm_resnet
from torch import nn

from ddfnet.models.classification.resnet import (
    Bottleneck,
    SmallImageResNet,
    build_mini,
    build_network,
    imagenet_cfg,
    mini_cfg,
    spatial_layer,
)
from ddfnet.nn.rivals.attention_augmented import AttentionAugmentedConv
from ddfnet.nn.rivals.bam import BAM
from ddfnet.nn.rivals.condconv import CondConv, DwCondConv
from ddfnet.nn.rivals.dynamic_filter import DynamicFilter
from ddfnet.nn.rivals.dynet import DyNetConv
from ddfnet.nn.rivals.involution import Involution
from ddfnet.nn.rivals.odconv import ODConv
from ddfnet.nn.rivals.self_guided_pac import SelfGuidedPac
from ddfnet.nn.rivals.weightnet import DwWeightNet

__all__ = ["AttentionAugmentedResNet", "BamResNet", "SmallAttentionAugmentedResNet", "SmallBamResNet"]


class AttentionAugmentedResNet(timm_resnet.ResNet):
    """timm's ResNet with `AttentionAugmentedConv` in place of the 3x3 convolutions of its last three stages.

    Of the last two, of all four, or with the values of a head rounded up, ResNet50 would not have Table 5's 25.8M
    parameters. The publication shrinks what attention sees where maps are largest; that it did so in the second stage is
    ours to infer: ResNet50 has 4.7 billion multiply-adds without, 4.2 with it, and 4.2 are printed.

    Args:
        img_size: side of the images that embeddings of positions are learned for; on others they are interpolated.
        block_args: as of `Bottleneck`; `layer_args` go to the layers that attend.
    """

    def __init__(self, *args: Any, img_size: int = 224, **kwargs: Any) -> None:
        layer_args = _take_layer_args(kwargs)
        super().__init__(*args, **kwargs)
        _add_attention(self, (2, 3, 4), 16, img_size, layer_args)


class SmallAttentionAugmentedResNet(SmallImageResNet):
    """`AttentionAugmentedResNet` for small images: its three stages all attend, to their maps as they are."""

    def __init__(self, *args: Any, img_size: int = 28, **kwargs: Any) -> None:
        layer_args = _take_layer_args(kwargs)
        super().__init__(*args, **kwargs)
        _add_attention(self, (1, 2, 3), 1, img_size, layer_args)


def _take_layer_args(kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the layers' options out of `block_args`, whose layer stays a convolution; None if they ask for another one."""
    block_args = dict(kwargs.get("block_args") or {})
    if block_args.get("layer", AttentionAugmentedConv) is not AttentionAugmentedConv:
        return None
    block_args.pop("layer", None)
    layer_args: dict[str, Any] = block_args.pop("layer_args", {})
    kwargs["block_args"] = block_args
    return layer_args


def _add_attention(
    network: timm_resnet.ResNet,
    stages: tuple[int, ...],
    least: int,
    img_size: int,
    layer_args: dict[str, Any] | None,
) -> None:
    """Let stages attend to maps of at most 1 / `least` of the image's side."""
    if layer_args is None:
        return
    for stage in stages:
        reduction: Any = network.feature_info[stage]["reduction"]
        shrink = max(1, least // reduction)
        options = {"map_size": -(-img_size // (reduction * shrink)), "shrink": shrink, **layer_args}
        for block in getattr(network, f"layer{stage}"):
            block.conv2 = spatial_layer(block.conv2, AttentionAugmentedConv, options)
            for module in block.conv2.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as timm does


class BamResNet(timm_resnet.ResNet):
    """timm's ResNet with a `BAM` at the end of each stage but the last, the bottlenecks of the module's name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _add_bam(self, 3)


class SmallBamResNet(SmallImageResNet):
    """`BamResNet` for small images: a `BAM` after the first two of three stages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _add_bam(self, 2)


def _add_bam(network: timm_resnet.ResNet, stages: int) -> None:
    for number, info in enumerate(network.feature_info[1 : stages + 1], start=1):
        stage = getattr(network, f"layer{number}")
        parameter = next(stage.parameters())
        channels: Any = info["num_chs"]
        stage.add_module("bam", BAM(channels, device=parameter.device, dtype=parameter.dtype))


_LAYERS: dict[str, tuple[Callable[..., nn.Module], str]] = {  # by the name's beginning
    "condconv": (CondConv, "CondConv layers of eight experts"),
    "dwcondconv": (DwCondConv, "depthwise CondConv layers of eight experts"),
    "dwweightnet": (DwWeightNet, "depthwise WeightNet layers"),
    "dynet": (DyNetConv, "DyNet's convolutions"),
    "involution": (Involution, "involution layers"),
    "odconv": (ODConv, "ODConv layers of four kernels"),
    "dyfilter": (DynamicFilter, "dense dynamic filters (Table 1)"),
    "pac": (SelfGuidedPac, "pixel-adaptive convolutions guided by their input"),
}
_SOURCES = {  # of the networks for ImageNet
    "condconv": "Table 4",
    "dwcondconv": "Table 4",
    "dwweightnet": "Table 4",
    "involution": "7x7 filters, as in RedNet-50's trunk; in no table",
    "odconv": "the publication's has them in place of its 1x1 convolutions too; in no table",
}
_LAYER_ARGS = {"involution": {"kernel_size": 7}}
_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _imagenet(
    name: str, depth: int, what: str, *, network: type[timm_resnet.ResNet] = timm_resnet.ResNet, **block_args: Any
) -> Callable[..., nn.Module]:
    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        asked = _merged(block_args, kwargs.pop("block_args", {}))
        given = {"block": Bottleneck, "layers": _DEPTHS[depth], "block_args": asked, **kwargs}
        return build_network(network, name, pretrained, **given)

    return _named(build, name, f"ResNet{depth} with {what}.")


def _mini(name: str, what: str, *, network: type[SmallImageResNet] = SmallImageResNet, **block_args: Any) -> Any:
    layer = block_args.pop("layer", "conv")

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs["block_args"] = _merged(block_args, kwargs.get("block_args", {}))
        return build_mini(name, layer, pretrained, network=network, **kwargs)

    return _named(build, name, f"`resnet_mini` with {what}.")


def _merged(block_args: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Merge `asked` into `block_args`, and into the options of the layer if it is the same."""
    merged = {**block_args, **asked}
    if "layer_args" in block_args and "layer" not in asked:
        merged["layer_args"] = {**block_args["layer_args"], **asked.get("layer_args", {})}
    return merged


def _named(build: Callable[..., nn.Module], name: str, what: str) -> Callable[..., nn.Module]:
    build.__name__ = build.__qualname__ = name
    build.__doc__ = what
    return build


_BUILDERS: list[Callable[..., nn.Module]] = [
    _imagenet(
        f"{name}_resnet50",
        50,
        f"{_LAYERS[name][1]} in place of its 3x3 convolutions: {source}",
        layer=_LAYERS[name][0],
        layer_args=_LAYER_ARGS.get(name, {}),
    )
    for name, source in _SOURCES.items()
]
for _depth in _DEPTHS:
    _BUILDERS += [
        _imagenet(f"bam_resnet{_depth}", _depth, "BAM between its stages (Table 5)", network=BamResNet),
        _imagenet(f"cbam_resnet{_depth}", _depth, "timm's CBAM in its blocks (Table 5)", attn_layer="cbam"),
        _imagenet(
            f"aa_resnet{_depth}",
            _depth,
            "attention-augmented convolutions in its last three stages (Table 5)",
            network=AttentionAugmentedResNet,
            layer=AttentionAugmentedConv,
        ),
    ]
_BUILDERS += [_mini(f"{name}_resnet_mini", what, layer=layer) for name, (layer, what) in _LAYERS.items()]
_BUILDERS += [
    _mini("se_resnet_mini", "timm's squeeze and excitation in its blocks", attn_layer="se"),
    _mini("cbam_resnet_mini", "timm's CBAM in its blocks", attn_layer="cbam"),
    _mini("bam_resnet_mini", "BAM between its stages", network=SmallBamResNet),
    _mini(
        "aa_resnet_mini",
        "attention-augmented convolutions",
        network=SmallAttentionAugmentedResNet,
        layer=AttentionAugmentedConv,
    ),
]

default_cfgs = generate_default_cfgs(
    {b.__name__: mini_cfg() if b.__name__.endswith("mini") else imagenet_cfg("conv1") for b in _BUILDERS}
)
for _builder in _BUILDERS:
    globals()[_builder.__name__] = register_model(_builder)
