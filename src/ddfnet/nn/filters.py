"""What the DDF layers share: their options, and the branches that predict channel filters and normalise both kinds."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from ddfnet.nn.filter_norm import Affine, FilterKind, FilterNorm
from ddfnet.ops.ddf.api import Backend
from ddfnet.ops.ddf.geometry import Combine
from ddfnet.ops.filters.api import ChannelBranch, SpatialBranch

Norm = Literal["filter", "sigmoid", "batch", "none"]
Branches = Literal["both", "spatial", "channel"]
Nonlinearity = Literal["relu", "linear"]
Init = Literal["random", "static"]


class PooledConv2d(nn.Conv2d):
    """A 1x1 convolution of maps (B, C, 1, 1), as the matrix product that it is: several times faster than as one."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias).unflatten(1, (self.out_channels, 1, 1))


_SPATIAL = (nn.Conv2d, FilterNorm)
_CHANNEL = (nn.AdaptiveAvgPool2d, PooledConv2d, nn.ReLU, PooledConv2d, FilterNorm)


def check_positive(**options: int) -> None:
    """ValueError, by the option's name, unless each is an int >= 1."""
    for name, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {value!r}")


def check_options(
    channels: int,
    kernel_size: int,
    heads: int,
    squeeze_ratio: float,
    combine: Combine,
    norm: Norm,
    branches: Branches,
    affine: Affine,
    backend: Backend,
) -> None:
    """ValueError, by the option's name, where an option that all DDF layers have is not as `DDF` describes it."""
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd number, got {kernel_size!r}")
    if norm == "filter" and kernel_size == 1:
        raise ValueError(
            "kernel_size: expected 3 or more with norm='filter' (one tap has no standard deviation), got 1"
        )
    if channels % heads:
        raise ValueError(f"heads: expected a divisor of channels = {channels}, got {heads}")
    if squeeze_ratio <= 0:
        raise ValueError(f"squeeze_ratio: expected a number > 0, got {squeeze_ratio}")
    if combine not in ("mul", "add"):
        raise ValueError(f"combine: expected 'mul' or 'add', got {combine!r}")
    if norm not in ("filter", "sigmoid", "batch", "none"):
        raise ValueError(f"norm: expected 'filter', 'sigmoid', 'batch' or 'none', got {norm!r}")
    if branches not in ("both", "spatial", "channel"):
        raise ValueError(f"branches: expected 'both', 'spatial' or 'channel', got {branches!r}")
    if affine not in ("released", "paper"):
        raise ValueError(f"affine: expected 'released' or 'paper', got {affine!r}")
    if heads > 1 and branches == "channel":
        raise ValueError(f"heads: expected 1 with branches='channel' (heads share spatial filters), got {heads}")
    if affine == "paper" and norm != "filter":
        raise ValueError(f"affine: expected 'released' with norm={norm!r} (it is of norm='filter'), got 'paper'")
    if backend not in get_args(Backend):
        raise ValueError(f"backend: expected one of {', '.join(map(repr, get_args(Backend)))}, got {backend!r}")


def normalisation(
    norm: Norm,
    filters: int,
    kernel_size: int,
    kind: FilterKind,
    *,
    affine: Affine,
    nonlinearity: Nonlinearity = "relu",
    **factory: Any,
) -> nn.Module:
    """What normalises N predicted filters of k*k taps each, (B, N*K, ...): the rows of Table 3b."""
    if norm == "filter":
        return FilterNorm(filters, kernel_size, kind=kind, affine=affine, nonlinearity=nonlinearity, **factory)
    if norm == "batch":
        return nn.BatchNorm2d(filters * kernel_size**2, **factory)
    return nn.Sigmoid() if norm == "sigmoid" else nn.Identity()


def channel_branch(
    channels: int, filters: int, kernel_size: int, squeeze_ratio: float, normalise: nn.Module, **factory: Any
) -> nn.Sequential:
    """Predicts N channel filters, (B, C, H, W) -> (B, N*K, 1, 1); named as in the authors' checkpoints.

    Global average pooling, 1x1 to max(1, int(squeeze_ratio * C)) channels, ReLU, 1x1 to N*K channels, `normalise`.
    """
    squeezed = max(1, int(squeeze_ratio * channels))
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        PooledConv2d(channels, squeezed, 1, **factory),
        nn.ReLU(inplace=True),
        PooledConv2d(squeezed, filters * kernel_size**2, 1, **factory),
        normalise,
    )


@torch.no_grad()
def start_static(spatial: Any, channel: Any) -> None:
    """Lets the branches of a layer with affine="paper" begin near a depthwise convolution.

    Spatial filters get beta = 1 and alpha = 0.2 (Eq. 3), so a product is the channel's filter varied by a fifth; the bias
    of the convolution that predicts channel filters is drawn as a normal variable times 3, several times what the content
    adds.
    """
    nn.init.constant_(spatial[1].alpha, 0.2)
    nn.init.ones_(spatial[1].beta)
    nn.init.normal_(channel[3].bias, std=3.0)


def is_plain(branch: nn.Sequential | None, kernel_size: int, stride: int = 1) -> bool:
    """Whether a branch of `DDF` is as it was built, and nobody listens to it: its modules may then be passed by.

    Args:
        kernel_size: of the layer, and so of the filters that are normalised.
        stride: of the spatial branch's convolution.
    """
    if branch is None:
        return True
    modules = list(branch)
    kinds = tuple(type(module) for module in modules)
    if kinds not in (_SPATIAL, _CHANNEL) or _has_any_global_hook():
        return False
    steps = (stride, stride) if kinds == _SPATIAL else (1, 1)
    normalise: Any = modules[-1]
    predict: Any = modules[-2]
    scale = normalise.std if normalise.affine == "released" else normalise.alpha
    return (
        normalise.kind == ("spatial" if kinds == _SPATIAL else "channel")
        and (normalise.kernel_size, normalise.filters * kernel_size**2) == (kernel_size, predict.out_channels)
        and normalise.init_scale != 0
        and (kinds == _SPATIAL or modules[0].output_size in (1, (1, 1)))
        and (scale is None or scale.dtype == predict.weight.dtype)
        and all(
            (module.kernel_size, module.stride, module.padding, module.groups) == ((1, 1), steps, (0, 0), 1)
            and module.bias is not None
            for module in modules
            if isinstance(module, nn.Conv2d)
        )
        and not any(
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or (not torch.compiler.is_compiling() and "forward" in vars(module))
            for module in (branch, *modules)
        )
    )


def spatial_parameters(branch: nn.Sequential | None) -> SpatialBranch | None:
    """What `predict_filters` takes of a spatial branch with filter normalisation; `finished` does the rest."""
    if branch is None:
        return None
    convolution, normalise = branch
    predict, scale = (convolution.weight, convolution.bias), normalise.init_scale
    return SpatialBranch(*predict, 1.0 if normalise.affine == "paper" else scale)  # type: ignore[arg-type]


def channel_parameters(branch: nn.Sequential | None) -> ChannelBranch | None:
    """Likewise of a channel branch."""
    if branch is None:
        return None
    modules: Any = branch
    _, squeeze, _, predict, normalise = modules
    scale = normalise.std
    if normalise.affine == "paper":
        scale = normalise.alpha[:, None].expand(-1, normalise.kernel_size**2).flatten()
    return ChannelBranch(squeeze.weight, squeeze.bias, predict.weight, predict.bias, scale)


def finished(filters: Tensor | None, branch: nn.Sequential | None) -> Tensor | None:
    """What `predict_filters` gives for a branch, and of affine="paper" (Eq. 3) what it leaves out.

    That is beta and, of spatial filters, whose scale it takes as a number, alpha.
    """
    normalise: Any = None if branch is None else branch[-1]
    if filters is None or normalise.affine == "released":
        return filters
    beta = normalise.beta.to(filters.dtype)
    if normalise.kind == "channel":
        return filters + beta.view(-1, 1, 1)
    return torch.addcmul(beta, filters, normalise.alpha.to(filters.dtype))


def check_dtype(x: Tensor, weight: Any, name: str = "x") -> None:
    """TypeError unless `x` has the layer's dtype or autocast will give both one."""
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name}: expected {weight.dtype}, the layer's dtype, or autocast, got {x.dtype}")


def repr_options(layer: nn.Module, defaults: dict[str, Any]) -> list[str]:
    """`name=value` of each option of `layer` that is not its default."""
    return [f"{name}={getattr(layer, name)!r}" for name, value in defaults.items() if getattr(layer, name) != value]
