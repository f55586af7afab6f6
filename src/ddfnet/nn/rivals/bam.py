"""`BAM` (Park et al., "BAM: Bottleneck Attention Module", BMVC 2018): a row of Table 5, an attention between stages."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddfnet.nn.filters import PooledConv2d
from ddfnet.nn.layer import Layer, check_channels, check_choice, check_dtype, check_positive

BamCombine = Literal["mul", "add"]


class BAM(Layer):
    """Add to a map itself, weighed by how much its channels and its pixels matter: x + x * sigmoid(channel (*) spatial).

    Channel branch: global average pooling, 1x1 to C / reduction channels, batch norm, ReLU, 1x1 to C channels. Spatial
    branch: 1x1 to C / reduction channels, two 3x3 convolutions of `dilation`, batch norm and ReLU after each of the three,
    1x1 to one channel. The paper adds the two; the authors' code, the default here, multiplies them.

    Args:
        channels: C, in and out.
        reduction, dilation: of the branches.
        combine: "mul" (the authors' code) or "add" (the paper).

    Shape:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: an option or the input's shape is not as described.
        TypeError: the input has another dtype than the layer, without autocast.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.bam import BAM
        >>> BAM(64)(torch.randn(2, 64, 9, 12)).shape
        torch.Size([2, 64, 9, 12])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        combine: BamCombine = "mul",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, reduction=reduction, dilation=dilation)
        check_choice(BamCombine, combine=combine)
        self.channels = channels
        self.reduction = reduction
        self.dilation = dilation
        self.combine: BamCombine = combine
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        width = max(1, channels // reduction)
        around: dict[str, Any] = {"padding": dilation, "dilation": dilation, **factory}

        def normalised(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
            return conv, nn.BatchNorm2d(width, **factory), nn.ReLU(inplace=True)

        self.channel_branch = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *normalised(PooledConv2d(channels, width, 1, **factory)),
            PooledConv2d(width, channels, 1, **factory),
        )
        self.spatial_branch = nn.Sequential(
            *normalised(nn.Conv2d(channels, width, 1, **factory)),
            *normalised(nn.Conv2d(width, width, 3, **around)),
            *normalised(nn.Conv2d(width, width, 3, **around)),
            nn.Conv2d(width, 1, 1, **factory),
        )

    def reset_parameters(self) -> None:
        """Draw every parameter again, as the inner layers do."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.channels)
        check_dtype(x, next(self.parameters()))
        channel, spatial = self.channel_branch(x), self.spatial_branch(x)
        attention = channel * spatial if self.combine == "mul" else channel + spatial
        return x + x * attention.sigmoid().to(x.dtype)
