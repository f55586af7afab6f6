"""The filter prediction of a DDF layer (Sec. 3.2, Eq. 3) in plain PyTorch: the fallback, and the second derivatives."""

import torch.nn.functional as F
from torch import Tensor

from ddfnet.ops.filter_norm import filter_norm


def spatial_filters_reference(
    x: Tensor, weight: Tensor, bias: Tensor, scale: float, *, kernel_size: int, stride: int, heads: int
) -> Tensor:
    """Predict (B, C, H, W) -> (B, G, K, P, Q) by a 1x1 convolution, normalised."""
    raw = F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride=stride)
    return filter_norm(raw.unflatten(1, (heads, kernel_size**2)), scale, dim=2)


def channel_filters_reference(
    x: Tensor,
    squeeze_weight: Tensor,
    squeeze_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    *,
    kernel_size: int,
) -> Tensor:
    """Predict (B, C, H, W) -> (B, C, k, k) by global average pooling and two linear maps, normalised."""
    taps = kernel_size**2
    hidden = F.linear(x.mean((2, 3)), squeeze_weight.flatten(1).to(x.dtype), squeeze_bias.to(x.dtype)).relu()
    raw = F.linear(hidden, weight.flatten(1).to(x.dtype), bias.to(x.dtype)).unflatten(1, (-1, taps))
    return filter_norm(raw, scale.unflatten(0, (-1, taps)), dim=2).unflatten(2, (kernel_size, kernel_size))
