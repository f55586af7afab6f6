"""`DyNetConv` (Zhang et al., "DyNet: Dynamic Convolution for Accelerating CNNs", 2020): a row of Table 4."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import check_positive
from ddfnet.nn.rivals.contract import DropIn
from ddfnet.ops.per_sample_conv import per_sample_conv2d


def mix_kernels(weight: Tensor, coefficients: Tensor, kernel_size: int) -> Tensor:
    """Sum fixed kernels (g, O, C*k*k) by each sample's coefficients (B, g, O) into (B, O, C, k, k), Eq. 1."""
    kernels = torch.einsum("bgo,gon->bon", coefficients, weight)
    return kernels.unflatten(2, (-1, kernel_size, kernel_size))


class DyNetConv(DropIn):
    """A dense convolution; each output channel's kernel is a sum of g fixed kernels, with weights predicted for each sample.

    Global average pooling, a linear layer to g*C coefficients and sigmoid. `CondConv` weighs whole kernels, `DyNetConv`
    those of each output channel. g = 6 is the paper's choice. In its networks, `ddfnet.models.classification.dynet`, one
    predictor serves all convolutions of a block.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        group_size: g ("g_t"), fixed kernels per output channel.

    Shape, raises:
        As `DropIn`. Parameters: weight (g, C, C*k*k), output channels before the others; coefficients C -> g*C, g first.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.dynet import DyNetConv
        >>> DyNetConv(16, stride=2)(torch.randn(2, 16, 9, 12)).shape
        torch.Size([2, 16, 5, 6])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        group_size: int = 6,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        check_positive(group_size=group_size)
        self.group_size = group_size
        self.coefficients = nn.Linear(channels, group_size * channels, **factory)
        self.weight = nn.Parameter(torch.empty(group_size, channels, channels * kernel_size**2, **factory))
        self.draw()

    def draw(self) -> None:
        bound = 1 / math.sqrt(self.channels * self.kernel_size**2)  # as nn.Conv2d draws
        nn.init.uniform_(self.weight, -bound, bound)

    def filters(self, x: Tensor) -> Tensor:
        """Return each sample's kernels: (B, C, C, k, k), output channels first."""
        mix = self.coefficients(x.mean((2, 3))).sigmoid().unflatten(1, (self.group_size, self.channels))  # (B, g, C)
        return mix_kernels(self.weight, mix, self.kernel_size)

    def convolve(self, x: Tensor) -> Tensor:
        return per_sample_conv2d(x, self.filters(x), stride=self.stride, dilation=self.dilation)
