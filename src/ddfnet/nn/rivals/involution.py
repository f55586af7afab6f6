"""`Involution` (Li et al., "Involution: Inverting the Inherence of Convolution", CVPR 2021): DDF's spatial half alone."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.layer import check_divides, check_positive
from ddfnet.nn.rivals.contract import DropIn
from ddfnet.ops.ddf.api import Backend, ddf


class Involution(DropIn):
    """One k x k filter per pixel and group of channels, predicted from the pixel: `ddfnet.ddf` with spatial filters alone.

    Where the stride is above 1, x is averaged over s x s windows; those that cross the edge average what lies inside. A 1x1
    convolution to C / reduction channels, batch norm and ReLU, then a 1x1 convolution to G*K values, which are the filters:
    nothing normalises them. The published networks use 7x7 filters. `load_state_dict` takes the names of the authors'
    checkpoints too, `conv1.conv`, `conv1.bn` and `conv2.conv` for `reduce.0`, `reduce.1` and `span`.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        group_channels: channels that share a filter; divides `channels`.
        reduction: of the channels between the two convolutions.
        backend: as in `ddfnet.ddf`.

    Shape, raises:
        As `DropIn`.

    Example:
        >>> import torch, ddfnet
        >>> from ddfnet.nn.rivals.involution import Involution
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3, padding=1))
        >>> print(ddfnet.replace_conv2d(model, layer=Involution))
        layer  old                new         parameters    FLOPs
        1      Conv2d 16->16 3x3  Involution  2,320 -> 133
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        group_channels: int = 16,
        reduction: int = 4,
        bias: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        check_positive(group_channels=group_channels, reduction=reduction)
        check_divides(channels, group_channels=group_channels)
        self.group_channels = group_channels
        self.reduction = reduction
        self.heads = channels // group_channels
        self.backend: Backend = backend
        reduced = max(1, channels // reduction)
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, reduced, 1, bias=False, **factory),
            nn.BatchNorm2d(reduced, **factory),
            nn.ReLU(inplace=True),
        )
        self.span = nn.Conv2d(reduced, self.heads * kernel_size**2, 1, **factory)
        self.register_load_state_dict_pre_hook(_rename_released)  # type: ignore[no-untyped-call]

    def filters(self, x: Tensor) -> Tensor:
        """Return the filters predicted for `x`: (B, G, K, P, Q)."""
        pooled = x if self.stride == 1 else F.avg_pool2d(x, self.stride, ceil_mode=True)
        raw: Tensor = self.span(self.reduce(pooled))
        return raw.to(x.dtype).unflatten(1, (self.heads, self.kernel_size**2))

    def convolve(self, x: Tensor) -> Tensor:
        options: dict[str, Any] = {"stride": self.stride, "dilation": self.dilation, "backend": self.backend}
        return ddf(x, None, self.filters(x), kernel_size=self.kernel_size, **options)


_RELEASED = {"conv1.conv.": "reduce.0.", "conv1.bn.": "reduce.1.", "conv2.conv.": "span."}


def _rename_released(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Give the authors' entries of a state that is being loaded our names."""
    for name in [name for name in state if name.startswith(prefix)]:
        for theirs, ours in _RELEASED.items():
            if name.startswith(prefix + theirs):
                state[prefix + ours + name.removeprefix(prefix + theirs)] = state.pop(name)
