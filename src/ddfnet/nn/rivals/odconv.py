"""`ODConv` (Li et al., "Omni-Dimensional Dynamic Convolution", ICLR 2022): attention along all four sides of a kernel."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.filters import PooledConv2d
from ddfnet.nn.layer import check_positive
from ddfnet.nn.rivals.contract import DropIn
from ddfnet.ops.per_sample_conv import per_sample_conv2d


class ODConv(DropIn):
    """A dense convolution whose n kernels are weighed for each sample, tap by tap and channel by channel (Eq. 2).

    Global average pooling, 1x1 to max(16, C / reduction) channels, batch norm and ReLU, then four 1x1 heads: of the k*k
    taps, the input channels and the output channels, by sigmoid, and of the n kernels, by softmax. As in the authors' code
    one attention over taps and channels serves all n kernels, and a head whose attention would be over one tap or one
    kernel is left out.

    The paper begins with a temperature of 30 and lowers it to 1 in the first ten epochs; `temperature` may be set during
    training. As in the authors' code it divides the logits of all four attentions.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        kernels: n.
        reduction: of the pooled channels.
        temperature: what logits are divided by.

    Shape, raises:
        As `DropIn`; ValueError, PyTorch's, for a batch of one in training, which batch norm can't do with. Parameters:
        weight (n, C, C*k*k), output channels before the others.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.odconv import ODConv
        >>> ODConv(16, stride=2)(torch.randn(2, 16, 9, 12)).shape
        torch.Size([2, 16, 5, 6])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        kernels: int = 4,
        reduction: int = 16,
        temperature: float = 1.0,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        check_positive(kernels=kernels, reduction=reduction)
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number > 0, got {temperature}")
        self.kernels = kernels
        self.reduction = reduction
        self.temperature = temperature
        width = max(16, channels // reduction)
        self.squeeze = nn.Sequential(
            PooledConv2d(channels, width, 1, bias=False, **factory),
            nn.BatchNorm2d(width, **factory),
            nn.ReLU(inplace=True),
        )
        self.input_head = PooledConv2d(width, channels, 1, **factory)
        self.output_head = PooledConv2d(width, channels, 1, **factory)
        self.tap_head = PooledConv2d(width, kernel_size**2, 1, **factory) if kernel_size > 1 else None
        self.kernel_head = PooledConv2d(width, kernels, 1, **factory) if kernels > 1 else None
        self.weight = nn.Parameter(torch.empty(kernels, channels, channels * kernel_size**2, **factory))
        self.draw()

    def draw(self) -> None:
        """Draw weights as the authors' code does: normal by the fan out, biases 0."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (self.channels * self.kernel_size**2)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def attentions(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Return attentions of input and output channels (B, C, 1, 1), of taps (B, k*k) and of kernels (B, n)."""
        squeezed = self.squeeze(x.mean((2, 3), keepdim=True))

        def logits(head: nn.Module) -> Tensor:
            return head(squeezed) / self.temperature

        return (
            logits(self.input_head).sigmoid(),
            logits(self.output_head).sigmoid(),
            None if self.tap_head is None else logits(self.tap_head).flatten(1).sigmoid(),
            None if self.kernel_head is None else logits(self.kernel_head).flatten(1).softmax(1),
        )

    def convolve(self, x: Tensor) -> Tensor:
        of_inputs, of_outputs, of_taps, of_kernels = self.attentions(x)
        shape = self.channels, self.channels, self.kernel_size, self.kernel_size
        if of_kernels is None:
            mixed = self.weight.view(shape).expand(x.shape[0], *shape)
        else:
            mixed = (of_kernels @ self.weight.flatten(1)).unflatten(1, shape)
        if of_taps is not None:
            mixed = mixed * of_taps.view(-1, 1, 1, *shape[2:])
        # A convolution is linear in its channels: weighing maps costs less than weighing B*C*C*k*k taps.
        y = per_sample_conv2d(x * of_inputs.to(x.dtype), mixed, stride=self.stride, dilation=self.dilation)
        return y * of_outputs.to(y.dtype)
