"""`FeaturePyramidNetwork`: torchvision's, with the top-down upsampling of your choice (Table 6)."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import feature_pyramid_network as torchvision_fpn

from ddfnet.nn.upsamplers.plain import Upsample, upsample_layer


class FeaturePyramidNetwork(torchvision_fpn.FeaturePyramidNetwork):  # type: ignore[misc]
    """torchvision's feature pyramid, in which a layer of your choice takes the place of nearest upsampling.

    Parameters have torchvision's names, so its weights load; only `upsamplers` are new. With "nearest" there is nothing new,
    and the outputs are torchvision's bit for bit.

    Args:
        in_channels_list: channels of the levels, the largest map first.
        out_channels: of every level of the pyramid.
        extra_blocks, norm_layer: as in torchvision.
        upsample: a name of `upsample_layer`, or a function of channels and scale factor that returns a
            layer called as `layer(x, guide=None, *, size=None)`. A layer whose `guide_channels` is not None is guided
            by the lateral feature that its output is added to, of `out_channels` channels.
        scale_factors: between each level and the next smaller one; one number for all. 1 for levels of the same size, which
            then have no upsampler.

    Shape:
        An ordered dict of maps (B, in_channels, H, W), as in torchvision, to one of maps (B, out_channels, H, W). A level
        may be up to `scale_factor - 1` pixels smaller than the upsampled one, which is then cropped. A level of the size of
        the next one is not upsampled, whatever the scale factor.

    Raises:
        ValueError: unknown upsampler; scale factors that are not one per pair of levels; levels that do not fit them.

    Example:
        >>> import torch
        >>> from ddfnet.models import FeaturePyramidNetwork
        >>> fpn = FeaturePyramidNetwork([8, 16], 4, upsample="ddf")
        >>> maps = fpn({"0": torch.randn(1, 8, 9, 12), "1": torch.randn(1, 16, 5, 6)})
        >>> [tuple(level.shape) for level in maps.values()]
        [(1, 4, 9, 12), (1, 4, 5, 6)]
    """

    def __init__(
        self,
        in_channels_list: Sequence[int],
        out_channels: int,
        extra_blocks: torchvision_fpn.ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
        *,
        upsample: Upsample = "ddf",
        scale_factors: int | Sequence[int] = 2,
    ) -> None:
        super().__init__(list(in_channels_list), out_channels, extra_blocks, norm_layer)
        self._add_upsamplers(out_channels, upsample, scale_factors)

    @classmethod
    def of(
        cls,
        fpn: torchvision_fpn.FeaturePyramidNetwork,
        upsample: Upsample = "ddf",
        *,
        scale_factors: int | Sequence[int] = 2,
    ) -> "FeaturePyramidNetwork":
        """Return a torchvision pyramid's layers and weights, not copied, with another upsampling, on the same device."""
        if not isinstance(fpn, torchvision_fpn.FeaturePyramidNetwork):
            raise TypeError(f"fpn: expected torchvision's FeaturePyramidNetwork, got {type(fpn).__name__}")
        pyramid = cls.__new__(cls)
        nn.Module.__init__(pyramid)
        pyramid.inner_blocks = fpn.inner_blocks
        pyramid.layer_blocks = fpn.layer_blocks
        pyramid.extra_blocks = fpn.extra_blocks
        weight: Tensor = fpn.inner_blocks[0][0].weight
        factory = {"device": weight.device, "dtype": weight.dtype}
        pyramid._add_upsamplers(weight.shape[0], upsample, scale_factors, **factory)
        return pyramid.train(fpn.training)

    def _add_upsamplers(
        self, channels: int, upsample: Upsample, scale_factors: int | Sequence[int], **factory: Any
    ) -> None:
        pairs = len(self.inner_blocks) - 1
        factors = [scale_factors] * pairs if isinstance(scale_factors, int) else list(scale_factors)
        if len(factors) != pairs:
            raise ValueError(f"scale_factors: expected {pairs}, one between each two levels, got {factors}")
        options = {} if callable(upsample) else factory
        layers = [nn.Identity() if r == 1 else upsample_layer(upsample, channels, r, **options) for r in factors]
        self.upsamplers = nn.ModuleList(layer.to(**factory) for layer in layers)

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names, maps = list(x), list(x.values())
        laterals = [block(level) for block, level in zip(self.inner_blocks, maps, strict=True)]
        inner = laterals.pop()
        results = [self.layer_blocks[-1](inner)]
        for i in reversed(range(len(laterals))):
            layer, lateral = self.upsamplers[i], laterals[i]
            guide = lateral if getattr(layer, "guide_channels", None) is not None else None
            same = inner.shape[-2:] == lateral.shape[-2:]
            if isinstance(layer, nn.Identity) and not same:
                sizes = " and ".join("x".join(map(str, level.shape[-2:])) for level in (lateral, inner))
                raise ValueError(f"levels {i} and {i + 1}: expected one size for a scale factor of 1, got {sizes}")
            # A level of one pixel after one of one pixel is upsampled and cropped.
            if not same or max(inner.shape[-2:]) == 1:
                inner = inner if isinstance(layer, nn.Identity) else layer(inner, guide, size=lateral.shape[-2:])
            inner = lateral + inner
            results.insert(0, self.layer_blocks[i](inner))
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, maps, names)
        return OrderedDict(zip(names, results, strict=True))
