"""`DDFUp`: DDF-Up (Fig. 5), upsampling by r*r decoupled dynamic filter operations and a pixel shuffle."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.filter_norm import Affine
from ddfnet.nn.filters import Branches, ChannelBranch, FilterLayer, Norm, SpatialBranch, is_untouched
from ddfnet.nn.upsamplers.contract import Upsampler, resize_like, shuffle_phases
from ddfnet.ops.ddf.api import Backend
from ddfnet.ops.ddf.geometry import Combine
from ddfnet.ops.ddf_up.api import ddf_up
from ddfnet.ops.registry import has_global_hooks, is_wrapper, leaf


class _SeparableConv2d(nn.Module):
    """One 3x3 depthwise and one 1x1 convolution for each of the r*r operations: (B, C, H, W) -> (B, r*r*N, H, W).

    Each is a grouped convolution. Where both are plain, one operation runs after the other: x then need not be repeated,
    which is up to five times faster on a CPU.
    """

    def __init__(self, channels: int, phases: int, filters: int, **factory: Any) -> None:
        super().__init__()
        self.phases = phases
        wide = phases * channels
        # No bias: that of the 1x1 convolution after it adds all that one here could.
        self.guidance = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False, **factory)
        self.predict = nn.Conv2d(wide, phases * filters, 1, groups=phases, **factory)

    def forward(self, x: Tensor) -> Tensor:
        if self._is_plain():
            return _separable_conv2d(x, self.guidance.weight, self.predict.weight, self.predict.bias, self.phases)
        y: Tensor = self.predict(self.guidance(x.repeat(1, self.phases, 1, 1)))
        return y

    def _is_plain(self) -> bool:
        """True if both convolutions are unmodified and free of hooks."""
        if has_global_hooks():
            return False
        for module, names in ((self.guidance, ("weight",)), (self.predict, ("weight", "bias"))):
            parameters = [module._parameters.get(name) for name in names] if is_untouched(module, nn.Conv2d) else [None]
            if any(parameter is None or is_wrapper(parameter) for parameter in parameters):
                return False
        return True


@leaf
def _separable_conv2d(x: Tensor, guidance: Tensor, predict: Tensor, bias: Tensor, phases: int) -> Tensor:
    parts = zip(guidance.chunk(phases), predict.chunk(phases), bias.chunk(phases), strict=True)
    channels = x.shape[1]
    return torch.cat(
        [F.conv2d(F.conv2d(x, depthwise, padding=1, groups=channels), weight, own) for depthwise, weight, own in parts],
        1,
    )


class DDFUp(Upsampler, FilterLayer):
    """Upsample r times by r*r DDF operations, each with its filters, pixel-shuffled (Fig. 5).

    Channel filters are predicted from x: global average pooling, 1x1 to max(1, int(squeeze_ratio * C)) channels, ReLU,
    1x1 to r*r*C*K channels, normalised. Spatial filters are predicted from a guidance, and normalised:

    | guide_channels | guide_scale | guidance                                | prediction by a 1x1 convolution          |
    |----------------|-------------|-----------------------------------------|------------------------------------------|
    | None           | 1           | a 3x3 depthwise convolution of x, one   | G*K values a pixel of x, each operation's|
    |                |             | per operation (Table 6's FLOPs)         | from guidance                            |
    | an int         | 1           | the guide, brought to x's size          | r*r*G*K values a pixel of x              |
    | an int         | r           | the guide, brought to the output's size | G*K values a pixel of the output         |

    A guide of another size is resized bilinearly, antialiased where it shrinks (`resize` in `contract.py`). Filter
    normalization starts with a gain of 1 ("linear"), where `DDF` has that of a ReLU. As in `DDF`, an image for which all
    hidden units of the channel branch are 0 can have a zero output.

    Args:
        channels: C, in and out.
        scale_factor: r >= 1, of height and width.
        kernel_size: k, odd; at least 3 with norm="filter".
        guide_channels: of the guide that `forward` then expects; None: x guides itself.
        guide_scale: 1 or r: filters come from a guide of x's or of the output's resolution.
        heads: G, groups of channels, each with its spatial filter; divides `channels`.
        dilation, squeeze_ratio, combine, norm, branches, affine, backend: as in `DDF`.

    Shape:
        x (B, C, H, W), guide (B, guide_channels, any, any) -> (B, C, r*H, r*W) in the memory format of x, or cropped at the
        bottom and the right to `size`, with r*(H-1) < height <= r*H and width alike.

    Raises:
        ValueError: an option or an input's shape is not as described; a guide where none is expected, or none where one is.
        TypeError: another dtype than the layer's, without autocast.

    Example:
        >>> import torch, ddfnet
        >>> up = ddfnet.DDFUp(64)
        >>> up(torch.randn(2, 64, 25, 40)).shape
        torch.Size([2, 64, 50, 80])
        >>> up(torch.randn(2, 64, 25, 40), size=(49, 80)).shape  # to a pyramid level of odd height
        torch.Size([2, 64, 49, 80])
        >>> guided = ddfnet.DDFUp(64, scale_factor=4, guide_channels=3, guide_scale=4)
        >>> guided(torch.randn(2, 64, 16, 16), torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 64, 64, 64])
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        kernel_size: int = 3,
        dilation: int = 1,
        guide_channels: int | None = None,
        guide_scale: int = 1,
        heads: int = 1,
        squeeze_ratio: float = 0.2,
        combine: Combine = "mul",
        norm: Norm = "filter",
        branches: Branches = "both",
        affine: Affine = "released",
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scale_factor, guide_channels=guide_channels)
        self._set_options(
            channels,
            kernel_size=kernel_size,
            dilation=dilation,
            heads=heads,
            squeeze_ratio=squeeze_ratio,
            combine=combine,
            norm=norm,
            branches=branches,
            affine=affine,
            backend=backend,
        )
        if guide_scale not in (1, scale_factor):
            raise ValueError(f"guide_scale: expected 1 or scale_factor = {scale_factor}, got {guide_scale!r}")
        if guide_channels is None and guide_scale != 1:
            raise ValueError(f"guide_scale: expected 1, since guide_channels is None, got {guide_scale}")
        if guide_channels is not None and branches == "channel":
            raise ValueError(f"guide_channels: expected None with branches='channel', got {guide_channels}")
        self.guide_scale = guide_scale

        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        phases, taps = scale_factor**2, kernel_size**2
        self.spatial_branch = self.channel_branch = None
        if branches != "channel":
            filters = heads * (phases if guide_scale == 1 else 1)
            predict: nn.Module
            if guide_channels is None:
                predict = _SeparableConv2d(channels, phases, heads * taps, **factory)
            else:
                predict = nn.Conv2d(guide_channels, filters * taps, 1, **factory)
            self.spatial_branch = SpatialBranch(predict, self._normalisation(filters, "spatial", "linear", **factory))
        if branches != "spatial":
            filters = phases * channels
            normalise = self._normalisation(filters, "channel", "linear", **factory)
            squeezed = max(1, int(squeeze_ratio * channels))
            self.channel_branch = ChannelBranch(channels, filters, kernel_size, squeezed, normalise, **factory)

    def filters(self, x: Tensor, guide: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Return the normalised filters for `x` and `guide`, as `ddfnet.ddf_up` takes them, in x's dtype.

        Returns:
            Channel filters (B, r*r, C, k, k) and spatial filters (B, G, K, r*H, r*W); None for a branch that is not there.
        """
        k, r = self.kernel_size, self.scale_factor
        channel_filter = spatial_filter = None
        if self.channel_branch is not None:
            channel_filter = self.channel_branch(x).to(x.dtype).view(x.shape[0], r * r, self.channels, k, k)
        if self.spatial_branch is not None:
            source = x if self.guide_channels is None or guide is None else resize_like(guide, x, self.guide_scale)
            taps = self.spatial_branch(source).to(x.dtype)
            if self.guide_scale == 1:
                taps = shuffle_phases(taps, r, x)
            spatial_filter = taps.unflatten(1, (self.heads, k * k))
        return channel_filter, spatial_filter

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        channel_filter, spatial_filter = self.filters(x, guide)
        return ddf_up(
            x,
            channel_filter,
            spatial_filter,
            scale_factor=self.scale_factor,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            combine=self.combine,
            backend=self.backend,
        )
