"""RedNet's residual block (Li et al., "Involution", CVPR 2021): a 7x7 involution in a ResNet's."""

from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import Layer, check_positive
from ddfnet.nn.rivals.involution import Involution
from ddfnet.ops.ddf.api import Backend


class RedNetBottleneck(Layer):
    """Residual block of a RedNet: 1x1 convolution, 7x7 involution of the stride, 1x1 convolution, each with batch norm.

    Parameters are named as in the authors' checkpoints; `load_state_dict` takes their names of the involution's too.

    Args:
        channels_in: C.
        channels_out: four times the channels within; a multiple of 64.
        stride: of the involution and, on the shortcut, of a 1x1 convolution.
        kernel_size: of the involution.
        backend: as in `ddfnet.ddf`.

    Shape:
        (B, C, H, W) -> (B, channels_out, ceil(H / s), ceil(W / s)).

    Example:
        >>> import torch, ddfnet.nn
        >>> ddfnet.nn.RedNetBottleneck(64, 256, kernel_size=3)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 256, 14, 14])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        stride: int = 1,
        kernel_size: int = 7,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(channels_in=channels_in, channels_out=channels_out)
        if channels_out % 64:
            raise ValueError(f"channels_out: expected a multiple of 64, got {channels_out}")
        self.channels_in = channels_in
        self.channels_out = channels_out
        self.stride = stride
        self.kernel_size = kernel_size
        self.backend: Backend = backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        within = channels_out // 4
        self.conv1 = nn.Conv2d(channels_in, within, 1, bias=False, **factory)
        self.bn1 = nn.BatchNorm2d(within, **factory)
        self.conv2 = Involution(within, kernel_size, stride=stride, backend=backend, **factory)
        self.bn2 = nn.BatchNorm2d(within, **factory)
        self.conv3 = nn.Conv2d(within, channels_out, 1, bias=False, **factory)
        self.bn3 = nn.BatchNorm2d(channels_out, **factory)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False, **factory)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out, **factory))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out
