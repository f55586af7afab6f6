"""`DropIn`: the contract of the rivals of `DDF`, so that each can replace a k x k convolution or a DDF layer."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import Layer, check_channels, check_dtype, check_odd, check_positive


class DropIn(Layer, ABC):
    """A layer of C channels in and out, called as `DDF` is; subclasses say how they convolve.

    Args:
        channels: C, in and out.
        kernel_size: k, odd.
        stride, dilation: of the filters; zero padding keeps the size, (H, W) -> (ceil(H / s), ceil(W / s)).
        bias: adds a learned bias per channel, drawn as zero.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s)).

    Raises:
        ValueError: an option or the input's shape is not as described.
        TypeError: the input has another dtype than the layer, without autocast.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        stride: int,
        dilation: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, stride=stride, dilation=dilation)
        check_odd(kernel_size=kernel_size)
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype)) if bias else None

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) -> (B, C, P, Q), without the bias."""

    def draw(self) -> None:
        """Draw the parameters that the layer holds itself, except the bias."""

    def reset_parameters(self) -> None:
        """Draw every parameter again: those of inner layers as they do, the bias as zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        self.draw()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.channels)
        check_dtype(x, next(self.parameters()))
        y = self.convolve(x)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)
