"""`DynamicFilter`: "DyFilter" of Table 1, the dense dynamic filter that DDF decouples (Jia et al., NeurIPS 2016)."""

from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.rivals.contract import DropIn
from ddfnet.ops.ddf.api import Backend
from ddfnet.ops.dynamic_filter import dynamic_filter


class DynamicFilter(DropIn):
    """Predict a full C x C x k x k filter for each pixel by one 1x1 convolution, `ddfnet.ops.dynamic_filter`.

    c^3 k^2 weights, n c^3 k^2 multiply-adds and n c^2 k^2 numbers of filters: for small widths and maps only. Filters are
    drawn so that the output's variance is that of the input.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        backend: as in `ddfnet.ddf`.

    Shape, raises:
        As `DropIn`.

    Example:
        >>> import torch, ddfnet
        >>> from ddfnet.nn.rivals.dynamic_filter import DynamicFilter
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3, padding=1))
        >>> print(ddfnet.replace_conv2d(model, layer=DynamicFilter))
        layer  old                new            parameters       FLOPs
        1      Conv2d 16->16 3x3  DynamicFilter  2,320 -> 39,184
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        self.backend: Backend = backend
        self.predict = nn.Conv2d(channels, channels**2 * kernel_size**2, 1, stride=stride, **factory)
        self.reset_parameters()

    def draw(self) -> None:
        nn.init.normal_(self.predict.weight, std=1 / (self.channels * self.kernel_size))
        nn.init.zeros_(self.predict.bias)  # type: ignore[arg-type]

    def filters(self, x: Tensor) -> Tensor:
        """Return the filters predicted for `x`: (B, C, C, K, P, Q), output channels first."""
        raw: Tensor = self.predict(x)
        return raw.to(x.dtype).unflatten(1, (self.channels, self.channels, self.kernel_size**2))

    def convolve(self, x: Tensor) -> Tensor:
        return dynamic_filter(x, self.filters(x), stride=self.stride, dilation=self.dilation, backend=self.backend)
