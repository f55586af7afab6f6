"""The dense dynamic filter, "DyFilter" of Table 1: each output pixel has a filter over all input channels.

    y[b,o,p,q] = sum over c and taps t=(u,v) of  F[b,o,c,t,p,q] * x[b, c, p*s + (u-k//2)*d, q*s + (v-k//2)*d]

Its filters take n c^2 k^2 numbers, what DDF's decoupling avoids: this is here to be compared with. It is `ddf` with spatial
filters alone and a head for each pair of channels, summed over the input's.
"""

from torch import Tensor

from ddfnet.ops.ddf.api import Backend, ddf


def dynamic_filter(
    x: Tensor, filters: Tensor, *, stride: int = 1, dilation: int = 1, backend: Backend = "auto"
) -> Tensor:
    """Apply a full filter per pixel, with zero padding that keeps the size.

    Args:
        x: (B, C, H, W).
        filters: (B, O, C, K, P, Q), K = k*k with k odd, P = ceil(H / stride), Q = ceil(W / stride); x's dtype and device.
        stride, dilation, backend: as in `ddfnet.ddf`.

    Returns:
        (B, O, P, Q).

    Raises:
        ValueError: a shape or option that is not as described.
        TypeError: dtypes that differ.

    Example:
        >>> import torch
        >>> from ddfnet.ops.dynamic_filter import dynamic_filter
        >>> dynamic_filter(torch.randn(2, 3, 8, 6), torch.randn(2, 4, 3, 9, 8, 6)).shape
        torch.Size([2, 4, 8, 6])
    """
    if x.dim() != 4:
        raise ValueError(f"x: expected (B, C, H, W), got {tuple(x.shape)}")
    batch, channels, height, width = x.shape
    if filters.dim() != 6 or filters.shape[0] != batch or filters.shape[2] != channels or not filters.shape[1]:
        raise ValueError(f"filters: expected ({batch}, O, {channels}, K, P, Q), got {tuple(filters.shape)}")
    out_channels = filters.shape[1]
    paired = x.unsqueeze(1).expand(batch, out_channels, channels, height, width).flatten(1, 2)  # (B, O*C, H, W)
    terms = ddf(paired, None, filters.flatten(1, 2), stride=stride, dilation=dilation, backend=backend)
    return terms.unflatten(1, (out_channels, channels)).sum(2)
