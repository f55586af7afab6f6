"""`Upsampler`: the contract of every upsampling layer here, so that one can replace another."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.nn.layer import Layer, check_channels, check_dtype, check_positive
from ddfnet.ops.ddf.geometry import memory_format_of
from ddfnet.ops.registry import leaf


class Upsampler(Layer):
    """A layer (B, C, H, W) -> (B, C, r*H, r*W), called as `layer(x, guide=None, size=None)`.

    Subclasses define `upsample(x, guide)`, which may rely on checked inputs; `forward` checks and crops. The one that
    takes a guide says so by `guide_channels`.

    Args:
        channels: C.
        scale_factor: r >= 1.
        guide_channels: channels of the guide; None where there is none.

    Shape:
        x (B, C, H, W); guide (B, guide_channels, any, any); size (height, width) with r*(H-1) < height <= r*H, width alike:
        the output is cropped to it at the bottom and the right, for pyramid levels of odd sizes.

    Raises:
        ValueError: an argument's shape is not as described, a guide where none is expected, or none where one is.
        TypeError: another dtype than the layer's, without autocast.
    """

    def __init__(self, channels: int, scale_factor: int = 2, *, guide_channels: int | None = None) -> None:
        super().__init__()
        check_positive(channels=channels, scale_factor=scale_factor)
        if guide_channels is not None:
            check_positive(guide_channels=guide_channels)
        self.channels = channels
        self.scale_factor = scale_factor
        self.guide_channels = guide_channels

    # The classic ONNX exporter passes every argument by position, so `size` is not keyword-only.
    def forward(self, x: Tensor, guide: Tensor | None = None, size: Sequence[int] | None = None) -> Tensor:
        self._check(x, guide)
        y = self.upsample(x, guide)
        return y if size is None else crop(y, x, self.scale_factor, size)

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        """Upsample (B, C, H, W) -> (B, C, r*H, r*W)."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw every parameter again, as the layers inside do."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and callable(reset):
                reset()

    def _check(self, x: Tensor, guide: Tensor | None) -> None:
        weight = next(self.parameters(), None)
        check_channels(x, self.channels)
        check_dtype(x, weight)
        check_guide(x, guide, self.guide_channels)
        if guide is not None and self.guide_channels is not None:
            check_dtype(guide, weight, "guide")


@leaf
def check_guide(x: Tensor, guide: Tensor | None, channels: int | None) -> None:
    """Raise ValueError unless `guide` is (B, channels, height, width), with batch and device of `x`, or both are None."""
    if guide is None:
        if channels is not None:
            raise ValueError(f"guide: expected (B, {channels}, height, width), got None")
        return
    if channels is None:
        raise ValueError(f"guide: expected None, since guide_channels is None, got {tuple(guide.shape)}")
    if guide.dim() != 4 or guide.shape[0] != x.shape[0] or guide.shape[1] != channels:
        raise ValueError(f"guide: expected ({x.shape[0]}, {channels}, height, width), got {tuple(guide.shape)}")
    if guide.device != x.device:
        raise ValueError(f"guide: expected the device of x, {x.device}, got {guide.device}")


@leaf
def crop(y: Tensor, x: Tensor, scale_factor: int, size: Sequence[int] | None) -> Tensor:
    """Crop `y`, which is `x` upsampled, to `size` at the bottom and the right, by less than a pixel of `x`."""
    if size is None:  # in a traced graph, which has a place for it
        return y
    r = scale_factor
    if len(size) != 2:
        raise ValueError(f"size: expected (height, width), got {tuple(size)}")
    for name, length, asked in zip(("height", "width"), x.shape[2:], size, strict=True):
        if not r * (length - 1) < asked <= r * length:
            raise ValueError(
                f"size: expected a {name} of {r * (length - 1) + 1} to {r * length} for {length} upsampled"
                f" {r} times, got {asked}"
            )
    return y[:, :, : size[0], : size[1]]


@leaf
def resize_like(x: Tensor, other: Tensor, scale: int = 1) -> Tensor:
    """Return `x` at `scale` times the height and width of `other`; see `resize`."""
    return resize(x, [scale * length for length in other.shape[2:]])


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize `x` by bilinear interpolation, antialiased where it shrinks (pixels are areas: no aligned corners).

    At its present size `x` is returned as it is. Half types are interpolated in float32.
    """
    height, width = x.shape[2:]
    # An exported program must take other sizes than those it was traced with: there, no comparison becomes a guard.
    if not torch.compiler.is_exporting() and (height, width) == tuple(size):
        return x
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    y = F.interpolate(wide, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
    return y.to(x.dtype)


@leaf
def shuffle_phases(filters: Tensor, scale_factor: int, like: Tensor) -> Tensor:
    """Move phases into pixels: (B, r*r*N, H, W), phase i*r + j first, to (B, N, r*H, r*W) at (r*p + i, r*q + j).

    As `F.pixel_shuffle` with its channels in the other order, for empty batches too, in one copy. The result has the memory
    format of `like`.
    """
    r = scale_factor
    if r == 1:
        return filters
    phases = filters.unflatten(1, (r, r, filters.shape[1] // (r * r)))  # (B, r, r, N, H, W)
    if memory_format_of(like) == torch.channels_last:
        y = phases.permute(0, 4, 1, 5, 2, 3)  # (B, H, r, W, r, N)
        return y.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    y = phases.permute(0, 3, 4, 1, 5, 2)  # (B, N, H, r, W, r)
    return y.flatten(4, 5).flatten(2, 3)
