"""`PacConv2d` and `PacConvTranspose2d`: pixel-adaptive convolution (Su et al., CVPR 2019), a rival of DDF (Table 2)."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import Layer, check_dtype, check_odd, check_positive
from ddfnet.ops.pac.api import pac_conv2d, pac_conv_transpose2d


class _Pac(Layer):
    """The parameters of both layers, drawn uniformly up to 1 / sqrt(C * k * k), as the authors draw them."""

    transposed: ClassVar[bool]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels, stride=stride, dilation=dilation)
        check_odd(kernel_size=kernel_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        channels = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = nn.Parameter(torch.empty(*channels, kernel_size, kernel_size, **factory))
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters again."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_size**2)
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        check_dtype(x, self.weight)
        check_dtype(guide, self.weight, "guide")
        convolve = pac_conv_transpose2d if self.transposed else pac_conv2d
        return convolve(x, guide, self.weight, self.bias, stride=self.stride, dilation=self.dilation)


class PacConv2d(_Pac):
    """Pixel-adaptive convolution, `ddfnet.ops.pac.api.pac_conv2d`, with zero padding that keeps the size.

    Args:
        in_channels, out_channels: C and O.
        kernel_size: k, odd.
        stride, dilation, bias: as in `nn.Conv2d`.

    Shape:
        x (B, C, H, W), guide (B, any, H, W) -> (B, O, ceil(H / stride), ceil(W / stride)). Parameters: weight (O, C, k, k),
        bias (O,), named and laid out as in the authors' layer.

    Raises:
        ValueError: an option or an input's shape is not as described.
        TypeError: another dtype than the layer's, without autocast.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.pac import PacConv2d
        >>> PacConv2d(8, 4, 3)(torch.randn(1, 8, 10, 12), torch.randn(1, 16, 10, 12)).shape
        torch.Size([1, 4, 10, 12])
    """

    transposed = False


class PacConvTranspose2d(_Pac):
    """Transposed pixel-adaptive convolution, `ddfnet.ops.pac.api.pac_conv_transpose2d`: upsamples `stride` times.

    Args:
        in_channels, out_channels: C and O.
        kernel_size: k, odd.
        stride, dilation, bias: as in `nn.ConvTranspose2d`.

    Shape:
        x (B, C, H, W), guide (B, any, P, Q) -> (B, O, P, Q) with stride * (H-1) < P <= stride * H, Q alike. Parameters:
        weight (C, O, k, k), bias (O,), named and laid out as in the authors' layer, whose output this is with its padding
        k//2 * dilation and output padding stride - 1.

    Raises:
        ValueError, TypeError: as `PacConv2d`.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.pac import PacConvTranspose2d
        >>> PacConvTranspose2d(8, 4, 5, stride=2)(torch.randn(1, 8, 5, 6), torch.randn(1, 16, 10, 12)).shape
        torch.Size([1, 4, 10, 12])
    """

    transposed = True
