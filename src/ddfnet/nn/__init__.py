"""Layers: DDF, its upsampler, rivals, others' layers, what puts them into networks. Names are loaded at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddfnet.nn.ddf import DDF
    from ddfnet.nn.elsewhere.cspn import propagate
    from ddfnet.nn.elsewhere.featup import JBULearnedRange, JBUStack, adaptive_conv
    from ddfnet.nn.elsewhere.kernel_prediction import filter_frames
    from ddfnet.nn.elsewhere.lsnet import LKP, LSConv, ska
    from ddfnet.nn.elsewhere.rednet import RedNetBottleneck
    from ddfnet.nn.filter_norm import FilterNorm
    from ddfnet.nn.replace import Refusal, Replacement, Replacements, replace_conv2d, replace_upsample
    from ddfnet.nn.rivals.attention_augmented import AttentionAugmentedConv
    from ddfnet.nn.rivals.bam import BAM
    from ddfnet.nn.rivals.condconv import CondConv, DwCondConv
    from ddfnet.nn.rivals.contract import DropIn
    from ddfnet.nn.rivals.dynamic_filter import DynamicFilter
    from ddfnet.nn.rivals.dynet import DyNetConv
    from ddfnet.nn.rivals.involution import Involution
    from ddfnet.nn.rivals.odconv import ODConv
    from ddfnet.nn.rivals.pac import PacConv2d, PacConvTranspose2d
    from ddfnet.nn.rivals.self_guided_pac import SelfGuidedPac
    from ddfnet.nn.rivals.weightnet import DwWeightNet
    from ddfnet.nn.upsamplers.carafe import CARAFE
    from ddfnet.nn.upsamplers.contract import Upsampler
    from ddfnet.nn.upsamplers.ddf_up import DDFUp
    from ddfnet.nn.upsamplers.dysample import DySample
    from ddfnet.nn.upsamplers.plain import Bilinear, Deconv, Nearest, PixelShuffle, upsample_layer

__all__ = [
    "BAM",
    "CARAFE",
    "DDF",
    "LKP",
    "AttentionAugmentedConv",
    "Bilinear",
    "CondConv",
    "DDFUp",
    "Deconv",
    "DropIn",
    "DwCondConv",
    "DwWeightNet",
    "DyNetConv",
    "DySample",
    "DynamicFilter",
    "FilterNorm",
    "Involution",
    "JBULearnedRange",
    "JBUStack",
    "LSConv",
    "Nearest",
    "ODConv",
    "PacConv2d",
    "PacConvTranspose2d",
    "PixelShuffle",
    "RedNetBottleneck",
    "Refusal",
    "Replacement",
    "Replacements",
    "SelfGuidedPac",
    "Upsampler",
    "adaptive_conv",
    "filter_frames",
    "propagate",
    "replace_conv2d",
    "replace_upsample",
    "ska",
    "upsample_layer",
]

_NAMES = {
    "ddf": ("DDF",),
    "elsewhere.cspn": ("propagate",),
    "elsewhere.featup": ("JBULearnedRange", "JBUStack", "adaptive_conv"),
    "elsewhere.kernel_prediction": ("filter_frames",),
    "elsewhere.lsnet": ("LKP", "LSConv", "ska"),
    "elsewhere.rednet": ("RedNetBottleneck",),
    "filter_norm": ("FilterNorm",),
    "replace": ("Refusal", "Replacement", "Replacements", "replace_conv2d", "replace_upsample"),
    "rivals.attention_augmented": ("AttentionAugmentedConv",),
    "rivals.bam": ("BAM",),
    "rivals.condconv": ("CondConv", "DwCondConv"),
    "rivals.contract": ("DropIn",),
    "rivals.dynamic_filter": ("DynamicFilter",),
    "rivals.dynet": ("DyNetConv",),
    "rivals.involution": ("Involution",),
    "rivals.odconv": ("ODConv",),
    "rivals.pac": ("PacConv2d", "PacConvTranspose2d"),
    "rivals.self_guided_pac": ("SelfGuidedPac",),
    "rivals.weightnet": ("DwWeightNet",),
    "upsamplers.carafe": ("CARAFE",),
    "upsamplers.contract": ("Upsampler",),
    "upsamplers.ddf_up": ("DDFUp",),
    "upsamplers.dysample": ("DySample",),
    "upsamplers.plain": ("Bilinear", "Deconv", "Nearest", "PixelShuffle", "upsample_layer"),
}
_HOMES = {name: f"ddfnet.nn.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ddfnet.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
