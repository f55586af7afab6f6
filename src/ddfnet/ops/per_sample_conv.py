"""A convolution with a weight for each sample, for layers that predict or mix whole kernels.

The batch is folded into the groups of one convolution. Depthwise kernels need none of this: they are the channel filters of
`ddfnet.ddf`.
"""

import torch.nn.functional as F
from torch import Tensor


def per_sample_conv2d(x: Tensor, weight: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """Apply `F.conv2d` with a weight for each sample and zero padding that keeps the size.

    Args:
        x: (B, C, H, W).
        weight: (B, O, C, k, k), k odd; x's dtype, or autocast.
        stride, dilation: as in `F.conv2d`.

    Returns:
        (B, O, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: a shape is not as described.

    Example:
        >>> import torch
        >>> from ddfnet.ops.per_sample_conv import per_sample_conv2d
        >>> per_sample_conv2d(torch.randn(2, 3, 7, 6), torch.randn(2, 4, 3, 5, 5), stride=2).shape
        torch.Size([2, 4, 4, 3])
    """
    if x.dim() != 4:
        raise ValueError(f"x: expected (B, C, H, W), got {tuple(x.shape)}")
    batch, channels = x.shape[:2]
    fits = weight.dim() == 5 and weight.shape[0] == batch and weight.shape[2] == channels
    if not fits or weight.shape[3] != weight.shape[4] or weight.shape[4] % 2 == 0:
        raise ValueError(f"weight: expected ({batch}, O, {channels}, k, k) with k odd, got {tuple(weight.shape)}")
    padding = weight.shape[4] // 2 * dilation
    if batch == 0:  # there is no convolution of no groups
        return F.conv2d(x, weight.sum(0), None, stride, padding, dilation)
    folded = x.flatten(0, 1).unsqueeze(0)  # (1, B*C, H, W)
    y = F.conv2d(folded, weight.flatten(0, 1), None, stride, padding, dilation, groups=batch)
    return y.unflatten(1, weight.shape[:2])[0]
