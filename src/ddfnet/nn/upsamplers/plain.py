"""The plain upsamplers under the contract of `Upsampler`, and `upsample_layer`, which makes any of them by name."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.upsamplers.contract import Upsampler

Name = Literal["ddf", "nearest", "bilinear", "deconv", "pixel_shuffle", "carafe", "dysample"]
Upsample = Name | Callable[[int, int], nn.Module]  # by name, or what makes a layer of channels and scale factor


class _Interpolation(Upsampler):
    mode: str

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scale_factor)

    def forward(self, x: Tensor, guide: Tensor | None = None, size: Sequence[int] | None = None) -> Tensor:
        self._check(x, guide)
        size = [self.scale_factor * length for length in x.shape[2:]] if size is None else tuple(size)
        return F.interpolate(x, size=size, mode=self.mode)


class Nearest(_Interpolation):
    """`F.interpolate(mode="nearest")`, to any `size`. No parameters; `device` and `dtype` do nothing."""

    mode = "nearest"


class Bilinear(_Interpolation):
    """`F.interpolate(mode="bilinear")` with pixels as areas, to any `size`. No parameters; `device`, `dtype` do nothing."""

    mode = "bilinear"


class Deconv(Upsampler):
    """A transposed 3x3 convolution of stride r with bias, C -> C (Dumoulin and Visin, 2016): 9*C^2 multiply-adds a pixel."""

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scale_factor)
        self.conv = nn.ConvTranspose2d(
            channels,
            channels,
            3,
            stride=scale_factor,
            padding=1,
            output_padding=scale_factor - 1,
            device=device,
            dtype=dtype,
        )

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        return self.conv(x)


class PixelShuffle(Upsampler):
    """A 3x3 convolution C -> r*r*C with bias, its channels moved into pixels (Shi et al., CVPR 2016): sub-pixel convolution.

    9*r*r*C^2 multiply-adds a pixel of x.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scale_factor)
        self.conv = nn.Conv2d(channels, scale_factor**2 * channels, 3, padding=1, device=device, dtype=dtype)

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.scale_factor)


_LAYERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # module, class and what sets the named layer off
    "ddf": ("ddfnet.nn.upsamplers.ddf_up", "DDFUp", {}),
    "nearest": (__name__, "Nearest", {}),
    "bilinear": (__name__, "Bilinear", {}),
    "deconv": (__name__, "Deconv", {}),
    "pixel_shuffle": (__name__, "PixelShuffle", {}),
    "carafe": ("ddfnet.nn.upsamplers.carafe", "CARAFE", {}),
    "dysample": ("ddfnet.nn.upsamplers.dysample", "DySample", {"dynamic_scope": True}),
}


def upsample_layer(name: Upsample, channels: int, scale_factor: int = 2, **options: Any) -> nn.Module:
    """Return an upsampling layer by name, of the contract of `ddfnet.nn.upsamplers.contract.Upsampler`.

    Args:
        name: "ddf", "nearest", "bilinear", "deconv" (transposed convolution), "pixel_shuffle", "carafe" or "dysample" (the
            variant with dynamic scope, DySample+, which is the strongest of them on COCO); or a function that makes
            the layer, called `name(channels, scale_factor, **options)`.
        channels: C, in and out.
        scale_factor: r >= 1.
        options: of the layer; each takes `device` and `dtype`.

    Raises:
        ValueError: an unknown name, or options that the layer refuses.

    Example:
        >>> import torch
        >>> from ddfnet.nn.upsamplers.plain import upsample_layer
        >>> upsample_layer("carafe", 16, 3)(torch.randn(1, 16, 4, 5)).shape
        torch.Size([1, 16, 12, 15])
    """
    if callable(name):
        layer: nn.Module = name(channels, scale_factor, **options)
        return layer
    if name not in _LAYERS:
        raise ValueError(f"upsample: expected {', '.join(map(repr, get_args(Name)))} or a function, got {name!r}")
    module, cls, own = _LAYERS[name]
    make: Callable[..., nn.Module] = partial(getattr(import_module(module), cls), channels, scale_factor)
    return make(**{**own, **options})
