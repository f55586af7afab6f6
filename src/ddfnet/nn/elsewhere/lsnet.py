"""LSNet's large-small convolution (Wang et al., "See Large, Focus Small", CVPR 2025) and the aggregation in it, `ska`."""

from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import Layer, check_channels, check_divides, check_odd, check_positive
from ddfnet.ops.ddf.api import Backend, ddf


def ska(x: Tensor, weights: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Aggregate the k x k pixels around each with weights that every N-th channel shares: LSNet's small-kernel aggregation.

    Channel c has the weights c mod N, where the heads of `ddfnet.ddf` hold neighbouring channels: channels are moved before
    and moved back after.

    Args:
        x: (B, C, H, W).
        weights: (B, N, K, H, W) with K = k*k, k odd, and N a divisor of C.
        backend: as in `ddfnet.ddf`.

    Returns:
        (B, C, H, W).

    Raises:
        TypeError, ValueError: dtypes or shapes that do not fit together.

    Example:
        >>> import torch
        >>> from ddfnet.nn import ska
        >>> ska(torch.randn(2, 32, 14, 14), torch.randn(2, 4, 9, 14, 14)).shape
        torch.Size([2, 32, 14, 14])
    """
    if x.dim() != 4 or weights.dim() != 5 or x.shape[1] % weights.shape[1]:
        shapes = f"{tuple(x.shape)} and {tuple(weights.shape)}"
        raise ValueError(f"x, weights: expected (B, C, H, W) and (B, N, K, H, W) with N a divisor of C, got {shapes}")
    count = weights.shape[1]
    by_weights = x.unflatten(1, (-1, count)).transpose(1, 2).flatten(1, 2)
    y = ddf(by_weights, None, weights, backend=backend)
    return y.unflatten(1, (count, -1)).transpose(1, 2).flatten(1, 2)


class LKP(Layer):
    """Predict the weights of `ska` from a large window: LSNet's large-kernel perception.

    A 1x1 convolution to half the channels, a depthwise one of `large_kernel_size`, two 1x1, then group norm over the taps.
    Parameters are named as in LSNet's checkpoints.

    Args:
        channels: C, even.
        large_kernel_size: of what is seen, odd.
        kernel_size: k of what is aggregated, odd.
        group_channels: channels that share their weights; divides C.

    Shape:
        (B, C, H, W) -> (B, C / group_channels, k*k, H, W).
    """

    def __init__(
        self,
        channels: int,
        large_kernel_size: int = 7,
        kernel_size: int = 3,
        *,
        group_channels: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, group_channels=group_channels)
        check_odd(large_kernel_size=large_kernel_size, kernel_size=kernel_size)
        check_divides(channels, group_channels=group_channels)
        self.channels = channels
        self.large_kernel_size = large_kernel_size
        self.kernel_size = kernel_size
        self.group_channels = group_channels
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        half, count, taps = channels // 2, channels // group_channels, kernel_size**2
        self.cv1 = _ConvNorm(channels, half, 1, **factory)
        self.act = nn.ReLU()
        self.cv2 = _ConvNorm(half, half, large_kernel_size, groups=half, **factory)
        self.cv3 = _ConvNorm(half, half, 1, **factory)
        self.cv4 = nn.Conv2d(half, count * taps, 1, **factory)
        self.norm = nn.GroupNorm(count, count * taps, **factory)

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.channels)
        seen = self.act(self.cv3(self.cv2(self.act(self.cv1(x)))))
        weights: Tensor = self.norm(self.cv4(seen))
        return weights.unflatten(1, (self.channels // self.group_channels, self.kernel_size**2))


class LSConv(Layer):
    """LSNet's large-small convolution: weights seen in a large window by `LKP`, `ska` in a small one, batch norm, the input.

    Args:
        channels, large_kernel_size, kernel_size, group_channels: as in `LKP`; LSNet has its defaults.
        backend: as in `ddfnet.ddf`.

    Shape:
        (B, C, H, W) -> (B, C, H, W).

    Example:
        >>> import torch, ddfnet.nn
        >>> ddfnet.nn.LSConv(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        large_kernel_size: int = 7,
        kernel_size: int = 3,
        *,
        group_channels: int = 8,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.large_kernel_size = large_kernel_size
        self.kernel_size = kernel_size
        self.group_channels = group_channels
        self.backend: Backend = backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.lkp = LKP(channels, large_kernel_size, kernel_size, group_channels=group_channels, **factory)
        self.bn = nn.BatchNorm2d(channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.lkp(x).to(x.dtype)
        y: Tensor = self.bn(ska(x, weights, backend=self.backend))
        return y + x


class _ConvNorm(nn.Sequential):
    """A convolution without bias that keeps the size, `c`, and a batch norm, `bn`."""

    def __init__(self, channels_in: int, channels: int, kernel_size: int, *, groups: int = 1, **factory: Any) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.c = nn.Conv2d(channels_in, channels, kernel_size, padding=padding, groups=groups, bias=False, **factory)
        self.bn = nn.BatchNorm2d(channels, **factory)
