"""`CondConv` and `DwCondConv` (Yang et al., "CondConv", NeurIPS 2019): kernels mixed from experts (two rows of Table 4)."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import check_positive
from ddfnet.nn.rivals.contract import DropIn
from ddfnet.ops.ddf.api import Backend, ddf
from ddfnet.ops.per_sample_conv import per_sample_conv2d


class _Mixture(DropIn):
    """The base of both: global average pooling, a linear layer and sigmoid weigh E kernels, whose sum is each sample's."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        stride: int,
        dilation: int,
        experts: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        check_positive(experts=experts)
        self.experts = experts
        self.routing = nn.Linear(channels, experts, **factory)
        self.weight = nn.Parameter(torch.empty(experts, math.prod(self.kernel_shape()), **factory))
        self.draw()

    @abstractmethod
    def kernel_shape(self) -> tuple[int, ...]:
        """Return the shape of one expert's kernel, output channels first."""

    def draw(self) -> None:
        bound = 1 / math.sqrt(math.prod(self.kernel_shape()[1:]))  # as nn.Conv2d draws each expert's
        nn.init.uniform_(self.weight, -bound, bound)

    def filters(self, x: Tensor) -> Tensor:
        """Return each sample's kernel, (B, *kernel_shape)."""
        mix = self.routing(x.mean((2, 3))).sigmoid()  # (B, E)
        return (mix @ self.weight).unflatten(1, self.kernel_shape())


class CondConv(_Mixture):
    """A dense convolution whose kernel is a sum over E experts, with weights predicted for each sample.

    The arithmetic is that of timm's `CondConv2d` with the routing of its block; E = 8 gives Table 4's row. A bias, where
    there is one, is not mixed: it comes after, as in every layer here.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        experts: E.

    Shape, raises:
        As `DropIn`. Parameters: weight (E, C*C*k*k), output channels first, as timm lays it out; routing C -> E.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.condconv import CondConv
        >>> CondConv(16, stride=2)(torch.randn(2, 16, 9, 12)).shape
        torch.Size([2, 16, 5, 6])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        experts: int = 8,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry = {"stride": stride, "dilation": dilation, "experts": experts}
        super().__init__(channels, kernel_size, **geometry, bias=bias, device=device, dtype=dtype)

    def kernel_shape(self) -> tuple[int, ...]:
        return self.channels, self.channels, self.kernel_size, self.kernel_size

    def convolve(self, x: Tensor) -> Tensor:
        return per_sample_conv2d(x, self.filters(x), stride=self.stride, dilation=self.dilation)


class DwCondConv(_Mixture):
    """`CondConv` of depthwise kernels, which `ddfnet.ddf` applies as channel filters.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        experts: E.
        backend: as in `ddfnet.ddf`.

    Shape, raises:
        As `DropIn`. Parameters: weight (E, C*k*k), routing C -> E.

    Example:
        >>> import torch, ddfnet
        >>> from ddfnet.nn.rivals.condconv import DwCondConv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3, padding=1))
        >>> print(ddfnet.replace_conv2d(model, layer=DwCondConv))
        layer  old                new         parameters      FLOPs
        1      Conv2d 16->16 3x3  DwCondConv  2,320 -> 1,304
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        experts: int = 8,
        bias: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry = {"stride": stride, "dilation": dilation, "experts": experts}
        super().__init__(channels, kernel_size, **geometry, bias=bias, device=device, dtype=dtype)
        self.backend: Backend = backend

    def kernel_shape(self) -> tuple[int, ...]:
        return self.channels, self.kernel_size, self.kernel_size

    def convolve(self, x: Tensor) -> Tensor:
        kernels = self.filters(x).to(x.dtype)
        return ddf(x, kernels, stride=self.stride, dilation=self.dilation, backend=self.backend)
