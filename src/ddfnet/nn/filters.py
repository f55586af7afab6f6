"""The base of `DDF` and `DDFUp`: their options, and the two branches that predict and normalise filters.

A branch is a module that holds parameters and calls its inner modules one after the other. Where both branches are plain,
that is unmodified and free of hooks, `DDF` runs one op on their parameters instead (`ddfnet.ops.filters`).
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.filter_norm import Affine, FilterKind, FilterNorm
from ddfnet.nn.layer import Layer, check_choice, check_divides, check_odd, check_positive
from ddfnet.ops.ddf.api import Backend, check_backend
from ddfnet.ops.ddf.geometry import Combine
from ddfnet.ops.filters.api import ChannelWeights, SpatialWeights
from ddfnet.ops.registry import is_wrapper

Norm = Literal["filter", "sigmoid", "batch", "none"]
Branches = Literal["both", "spatial", "channel"]
Nonlinearity = Literal["relu", "linear"]


class PooledConv2d(nn.Conv2d):
    """A 1x1 convolution of maps (B, C, 1, 1), computed as a matrix product, which is several times faster."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias).unflatten(1, (self.out_channels, 1, 1))


class Branch(nn.Sequential):
    """A branch of a DDF layer; a slice of its modules is a plain `nn.Sequential`."""

    def __getitem__(self, index: slice | int) -> Any:
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)


class SpatialBranch(Branch):
    """Predict a filter for each pixel and head, then normalise it: (B, C, H, W) -> (B, N*K, P, Q)."""

    def __init__(self, predict: nn.Module, normalise: nn.Module) -> None:
        super().__init__(predict, normalise)

    def is_plain(self, kernel_size: int, stride: int) -> bool:
        """True if unmodified and free of hooks, so that an op may bypass the branch's modules."""
        modules = list(self._modules.values())
        return (
            is_untouched(self, SpatialBranch)
            and len(modules) == 2
            and is_plain_conv2d(modules[0], nn.Conv2d, stride)
            and _is_plain_norm(modules[1], "spatial", kernel_size, modules[0])
        )


class ChannelBranch(Branch):
    """Predict N filters for each sample, then normalise them: (B, C, H, W) -> (B, N*K, 1, 1).

    Global average pooling, 1x1 to `squeezed` channels, ReLU, 1x1 to N*K channels, `normalise`.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int,
        squeezed: int,
        normalise: nn.Module,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            PooledConv2d(channels, squeezed, 1, device=device, dtype=dtype),
            nn.ReLU(),  # not in place: its input is a view, on which FSDP's hooks on a single convolution fail
            PooledConv2d(squeezed, filters * kernel_size**2, 1, device=device, dtype=dtype),
            normalise,
        )

    def is_plain(self, kernel_size: int) -> bool:
        """True if unmodified and free of hooks, so that an op may bypass the branch's modules."""
        modules: list[Any] = list(self._modules.values())
        return (
            is_untouched(self, ChannelBranch)
            and len(modules) == 5
            and is_untouched(modules[0], nn.AdaptiveAvgPool2d)
            and modules[0].output_size in (1, (1, 1))
            and is_plain_conv2d(modules[1], PooledConv2d)
            and is_untouched(modules[2], nn.ReLU)
            and is_plain_conv2d(modules[3], PooledConv2d)
            and _is_plain_norm(modules[4], "channel", kernel_size, modules[3])
        )


def is_untouched(module: Any, kind: type[nn.Module]) -> bool:
    """True if `module` is of this very class, has its class's forward, and no hooks.

    A parametrization makes another class; `weight_norm`, pruning and FSDP have hooks.
    """
    return type(module) is kind and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or (not torch.compiler.is_compiling() and "forward" in module.__dict__)
    )


def is_plain_conv2d(module: Any, kind: type[nn.Conv2d], stride: int = 1) -> bool:
    """True of an untouched 1x1 convolution with a bias, whose parameters are ordinary tensors, held by itself."""
    if not is_untouched(module, kind):
        return False
    weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
    return (
        weight is not None
        and bias is not None
        and not is_wrapper(weight)
        and not is_wrapper(bias)
        and module.kernel_size == (1, 1)
        and module.stride == (stride, stride)
        and module.padding == (0, 0)
        and module.groups == 1
    )


def _is_plain_norm(module: Any, kind: FilterKind, kernel_size: int, predict: Any) -> bool:
    """True of an untouched filter normalisation of what the convolution `predict` predicts."""
    if not is_untouched(module, FilterNorm) or module.init_scale == 0:
        return False
    if (module.kind, module.kernel_size, module.filters * kernel_size**2) != (kind, kernel_size, predict.out_channels):
        return False
    if module.affine == "released" and kind == "spatial":
        return True  # its scale is a number
    scale = module._parameters.get("std" if module.affine == "released" else "alpha")
    return scale is not None and scale.dtype == predict._parameters["weight"].dtype and not is_wrapper(scale)


# What the op on a plain branch takes and leaves out


def spatial_parameters(branch: Any) -> SpatialWeights | None:
    """Return what `predict_filters` takes of a plain spatial branch."""
    if branch is None:
        return None
    convolution, normalise = branch
    return SpatialWeights(
        convolution.weight, convolution.bias, 1.0 if normalise.affine == "paper" else normalise.init_scale
    )


def channel_parameters(branch: Any) -> ChannelWeights | None:
    """Return what `predict_filters` takes of a plain channel branch."""
    if branch is None:
        return None
    _, squeeze, _, predict, normalise = branch
    scale = normalise.std
    if normalise.affine == "paper":
        scale = normalise.alpha[:, None].expand(-1, normalise.kernel_size**2).flatten()
    return ChannelWeights(squeeze.weight, squeeze.bias, predict.weight, predict.bias, scale)


def apply_affine(filters: Tensor | None, branch: Any) -> Tensor | None:
    """Apply the affine terms that `predict_filters` skips: beta and, for spatial filters, alpha of affine="paper"."""
    if filters is None or branch[-1].affine == "released":
        return filters
    normalise = branch[-1]
    beta = normalise.beta.to(filters.dtype)
    if normalise.kind == "channel":
        return filters + beta.view(-1, 1, 1)
    return torch.addcmul(beta, filters, normalise.alpha.to(filters.dtype))


class FilterLayer(Layer):
    """The options that `DDF` and `DDFUp` share, checked and kept as attributes, and their two branches."""

    kernel_size: int
    dilation: int
    heads: int
    squeeze_ratio: float
    combine: Combine
    norm: Norm
    branches: Branches
    affine: Affine
    backend: Backend
    spatial_branch: SpatialBranch | None
    channel_branch: ChannelBranch | None

    def _set_options(self, channels: int, **options: Any) -> None:
        """Check the options, keyed by the attributes above, and set them; raise ValueError by the option's name."""
        kernel_size, heads, norm, branches = (options[name] for name in ("kernel_size", "heads", "norm", "branches"))
        check_positive(channels=channels, dilation=options["dilation"], heads=heads)
        check_odd(kernel_size=kernel_size)
        if norm == "filter" and kernel_size == 1:
            raise ValueError(
                "kernel_size: expected 3 or more with norm='filter' (one tap has no standard deviation), got 1"
            )
        check_divides(channels, heads=heads)
        if options["squeeze_ratio"] <= 0:
            raise ValueError(f"squeeze_ratio: expected a number > 0, got {options['squeeze_ratio']}")
        check_choice(Combine, combine=options["combine"])
        check_choice(Norm, norm=norm)
        check_choice(Branches, branches=branches)
        check_choice(Affine, affine=options["affine"])
        check_backend("backend", options["backend"])
        if heads > 1 and branches == "channel":
            raise ValueError(f"heads: expected 1 with branches='channel' (heads share spatial filters), got {heads}")
        if options["affine"] == "paper" and norm != "filter":
            raise ValueError(f"affine: expected 'released' with norm={norm!r} (it is of norm='filter'), got 'paper'")
        for name, value in options.items():
            setattr(self, name, value)

    def _normalisation(self, filters: int, kind: FilterKind, nonlinearity: Nonlinearity, **factory: Any) -> nn.Module:
        """Make what normalises N predicted filters of k*k taps each, (B, N*K, ...): the rows of Table 3b."""
        if self.norm == "filter":
            options: dict[str, Any] = {"kind": kind, "affine": self.affine, "nonlinearity": nonlinearity, **factory}
            return FilterNorm(filters, self.kernel_size, **options)
        if self.norm == "batch":
            return nn.BatchNorm2d(filters * self.kernel_size**2, **factory)
        return nn.Sigmoid() if self.norm == "sigmoid" else nn.Identity()
