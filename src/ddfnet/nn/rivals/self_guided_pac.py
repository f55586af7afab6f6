"""`SelfGuidedPac`: pixel-adaptive convolution (Su et al., CVPR 2019; Table 2) in place of a k x k convolution or DDF."""

from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import check_positive
from ddfnet.nn.rivals.contract import DropIn
from ddfnet.nn.rivals.pac import PacConv2d


class SelfGuidedPac(DropIn):
    """`PacConv2d` guided by its input, through a 1x1 convolution to D channels.

    The guide of PAC comes from elsewhere in the published networks; how it would enter a classifier was not published. Few
    channels, whatever C, keep the Gaussian of the guide's distances from vanishing; with x itself as the guide, of hundreds
    of channels, only the centre tap would be left.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        guide_channels: D.

    Shape, raises:
        As `DropIn`.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.self_guided_pac import SelfGuidedPac
        >>> SelfGuidedPac(16, stride=2)(torch.randn(2, 16, 9, 12)).shape
        torch.Size([2, 16, 5, 6])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        guide_channels: int = 8,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        check_positive(guide_channels=guide_channels)
        self.guide_channels = guide_channels
        self.guide = nn.Conv2d(channels, guide_channels, 1, bias=False, **factory)  # differences have no bias
        geometry: dict[str, Any] = {"stride": stride, "dilation": dilation}
        self.pac = PacConv2d(channels, channels, kernel_size, **geometry, bias=False, **factory)

    def draw(self) -> None:
        self.pac.reset_parameters()

    def convolve(self, x: Tensor) -> Tensor:
        return self.pac(x, self.guide(x))
