"""FeatUp's learned joint bilateral upsampling (Fu, Hamilton et al., ICLR 2024): any features, under their picture."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.layer import Layer, check_channels, check_positive
from ddfnet.nn.upsamplers.contract import Upsampler
from ddfnet.ops.correlate import correlate
from ddfnet.ops.ddf.api import Backend, ddf


def adaptive_conv(input: Tensor, filters: Tensor, *, backend: Backend = "auto") -> Tensor:  # noqa: A002 - FeatUp's name
    """Filter each pixel of `input` with its own k x k filter, shared by all channels: FeatUp's `AdaptiveConv.apply`.

    This is `ddfnet.ddf` with a view of the filters and no padding. Nothing is copied, patches are never stored.

    Args:
        input: (B, C, H+k-1, W+k-1), padded as wished.
        filters: (B, H, W, k, k), k odd.
        backend: as in `ddfnet.ddf`.

    Returns:
        (B, C, H, W).

    Raises:
        TypeError, ValueError: dtypes or shapes that do not fit together.

    Example:
        >>> import torch
        >>> from ddfnet.nn import adaptive_conv
        >>> adaptive_conv(torch.randn(1, 384, 18, 18), torch.rand(1, 16, 16, 3, 3)).shape
        torch.Size([1, 384, 16, 16])
    """
    if filters.dim() != 5 or filters.shape[3] != filters.shape[4]:
        raise ValueError(f"filters: expected (B, H, W, k, k), got {tuple(filters.shape)}")
    taps = filters.permute(0, 3, 4, 1, 2).flatten(1, 2)  # (B, K, H, W)
    return ddf(input, None, taps, kernel_size=filters.shape[4], padding="valid", backend=backend)


class JBULearnedRange(Layer):
    """Upsample to the size of a guide by joint bilateral filtering, with a learned idea of which colours are alike.

    `x` is interpolated bicubically to the guide's size. Each pixel then becomes a weighted mean of the k x k around it, with
    k = 2 * radius + 1. The weight is a softmax over the likeness of projected colours times a Gaussian of the distance, made
    to sum to 1, plus a tenth of what two 1x1 convolutions make of weights and colours. Parameters are named as in FeatUp's
    checkpoints.

    Args:
        guide_channels: of the guide, 3 for pictures.
        key_channels: in which colours are compared.
        radius: of the filters.
        backend: as in `ddfnet.ddf`.

    Shape:
        x (B, C, H, W), guide (B, guide_channels, P, Q) with P, Q > radius -> (B, C, P, Q).

    Raises:
        ValueError: an option or a shape is not as described.
    """

    def __init__(
        self,
        guide_channels: int = 3,
        key_channels: int = 32,
        *,
        radius: int = 3,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(guide_channels=guide_channels, key_channels=key_channels, radius=radius)
        self.guide_channels = guide_channels
        self.key_channels = key_channels
        self.radius = radius
        self.backend: Backend = backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        taps = self.kernel_size**2
        self.range_temp = nn.Parameter(torch.tensor(0.0, **factory))
        self.range_proj = _projection(guide_channels, key_channels, **factory)
        self.fixup_proj = _projection(guide_channels + taps, taps, **factory)
        self.sigma_spatial = nn.Parameter(torch.tensor(1.0, **factory))

    @property
    def kernel_size(self) -> int:
        return 2 * self.radius + 1

    def filters(self, guide: Tensor) -> Tensor:
        """Return the weights of each pixel's taps, (B, K, P, Q)."""
        keys = self.range_proj(guide)
        around = F.pad(keys, (self.radius,) * 4, mode="reflect")
        likeness = correlate(around, keys, self.kernel_size, padding="valid", backend=self.backend)
        temperature = self.range_temp.exp().clamp(1e-4, 1e4)
        weights = (temperature * likeness).softmax(1) * self._nearness()
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-7)
        corrected: Tensor = weights + 0.1 * self.fixup_proj(torch.cat([weights, guide], dim=1))
        return corrected

    def _nearness(self) -> Tensor:
        """Return the Gaussian of the taps' distances, of a window from -1 to 1: (K, 1, 1)."""
        steps = torch.linspace(
            -1, 1, self.kernel_size, device=self.sigma_spatial.device, dtype=self.sigma_spatial.dtype
        )
        squares = steps.square()[:, None] + steps.square()
        return (-squares / (2 * self.sigma_spatial**2)).exp().view(-1, 1, 1)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        check_channels(guide, self.guide_channels, "guide")
        if min(guide.shape[2:]) <= self.radius:
            raise ValueError(f"guide: expected a height and width > radius = {self.radius}, got {tuple(guide.shape)}")
        y = F.interpolate(x, size=guide.shape[2:], mode="bicubic", align_corners=False)
        y = F.pad(y, (self.radius,) * 4, mode="reflect")
        return ddf(y, None, self.filters(guide).to(y.dtype), padding="valid", backend=self.backend)


class JBUStack(Upsampler):
    """Upsample features 16 times under their picture by four `JBULearnedRange` of factor 2: FeatUp's "jbu_stack".

    At each step the guide is the picture averaged to the size of the step. A 1x1 convolution at the end adds a tenth of what
    it makes of the result. Parameters are named as in FeatUp's checkpoints, where they follow the prefix "upsampler.".

    Args:
        channels: C, of the features: 384 for DINOv2's small network.
        guide_channels, key_channels, radius: as in `JBULearnedRange`.
        backend: as in `ddfnet.ddf`.

    Shape, raises:
        As `Upsampler`, with a scale factor of 16; x and guide have heights and widths of 2 or more.

    Example:
        >>> import torch, ddfnet.nn
        >>> up = ddfnet.nn.JBUStack(16, radius=1).eval()  # FeatUp's radius is 3
        >>> up(torch.randn(1, 16, 4, 4), torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 16, 64, 64])
    """

    def __init__(
        self,
        channels: int,
        *,
        guide_channels: int = 3,
        key_channels: int = 32,
        radius: int = 3,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, 16, guide_channels=guide_channels)
        self.key_channels = key_channels
        self.radius = radius
        self.backend: Backend = backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options: dict[str, Any] = {"radius": radius, "backend": backend, **factory}
        self.up1 = JBULearnedRange(guide_channels, key_channels, **options)
        self.up2 = JBULearnedRange(guide_channels, key_channels, **options)
        self.up3 = JBULearnedRange(guide_channels, key_channels, **options)
        self.up4 = JBULearnedRange(guide_channels, key_channels, **options)
        self.fixup_proj = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(channels, channels, 1, **factory))

    def reset_parameters(self) -> None:
        """Draw the convolutions again; temperatures and widths become those of the start."""
        super().reset_parameters()
        for up in (self.up1, self.up2, self.up3, self.up4):
            nn.init.zeros_(up.range_temp)
            nn.init.ones_(up.sigma_spatial)

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        picture: Any = guide  # which `forward` has checked
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, F.adaptive_avg_pool2d(picture, (2 * x.shape[2], 2 * x.shape[3])))
        return x + 0.1 * self.fixup_proj(x)


def _projection(channels_in: int, channels: int, **factory: Any) -> nn.Sequential:
    """Make two 1x1 convolutions, numbered as in FeatUp's checkpoints."""
    first, second = (nn.Conv2d(count, channels, 1, **factory) for count in (channels_in, channels))
    return nn.Sequential(first, nn.GELU(), nn.Dropout2d(0.1), second)
