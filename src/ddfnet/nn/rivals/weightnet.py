"""`DwWeightNet` (Ma et al., "WeightNet: Revisiting the Design Space of Weight Networks", ECCV 2020): a row of Table 4."""

from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.filters import PooledConv2d
from ddfnet.nn.layer import check_positive
from ddfnet.nn.rivals.contract import DropIn
from ddfnet.ops.ddf.api import Backend, ddf


class DwWeightNet(DropIn):
    """Predict each sample's depthwise kernel by a grouped linear layer; `ddfnet.ddf` applies it as channel filters.

    Global average pooling, 1x1 to max(16, C / reduction) channels, 1x1 to M*C, sigmoid, and a linear layer in C groups
    without bias: each of a channel's k*k taps is a sum over the channel's M activations. In the paper's terms M here is
    M/G, 1 in the authors' code, where the reduction belongs to the block around the layer.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        reduction: of the pooled channels.
        activations: M, per channel.
        backend: as in `ddfnet.ddf`.

    Shape, raises:
        As `DropIn`.

    Example:
        >>> import torch, ddfnet
        >>> from ddfnet.nn.rivals.weightnet import DwWeightNet
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3, padding=1))
        >>> print(ddfnet.replace_conv2d(model, layer=DwWeightNet))
        layer  old                new          parameters    FLOPs
        1      Conv2d 16->16 3x3  DwWeightNet  2,320 -> 704
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        reduction: int = 16,
        activations: int = 1,
        bias: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        check_positive(reduction=reduction, activations=activations)
        self.reduction = reduction
        self.activations = activations
        self.backend: Backend = backend
        reduced = max(16, channels // reduction)
        self.reduce = PooledConv2d(channels, reduced, 1, **factory)
        self.activate = PooledConv2d(reduced, activations * channels, 1, **factory)
        self.predict = nn.Conv2d(
            activations * channels, channels * kernel_size**2, 1, groups=channels, bias=False, **factory
        )

    def filters(self, x: Tensor) -> Tensor:
        """Return each sample's kernels: (B, C, k, k)."""
        activations = self.activate(self.reduce(x.mean((2, 3), keepdim=True))).sigmoid()
        kernels: Tensor = self.predict(activations)
        return kernels.to(x.dtype).view(-1, self.channels, self.kernel_size, self.kernel_size)

    def convolve(self, x: Tensor) -> Tensor:
        return ddf(x, self.filters(x), stride=self.stride, dilation=self.dilation, backend=self.backend)
