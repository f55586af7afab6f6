"""The calls that benchmarks time, and the one way to make the inputs of a call."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddfnet.ops.ddf.api import Backend, ddf
from ddfnet.ops.ddf.geometry import Combine, Padding
from ddfnet.ops.ddf_up.api import ddf_up

Filters = Literal["both", "channel", "spatial"]


@dataclass(frozen=True)
class OpCase:
    """One call of `ddf` (scale_factor 1) or `ddf_up` (scale_factor > 1, or `up`)."""

    batch: int
    channels: int
    height: int
    width: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    heads: int = 1
    combine: Combine = "mul"
    filters: Filters = "both"
    scale_factor: int = 1
    shared_channel_filter: bool = False  # ddf_up: (B, C, k, k) in place of one filter per phase
    padding: Padding = "same"

    def __str__(self) -> str:
        parts = [f"{self.batch}x{self.channels}x{self.height}x{self.width}", f"k{self.kernel_size}"]
        parts += [f"s{self.stride}"] if self.stride > 1 else []
        parts += [f"d{self.dilation}"] if self.dilation > 1 else []
        parts += [f"g{self.heads}"] if self.heads > 1 else []
        parts += [f"up{self.scale_factor}"] if self.scale_factor > 1 else []
        parts += ["shared"] if self.shared_channel_filter else []
        parts += [self.combine] if self.combine != "mul" else []
        parts += [self.filters] if self.filters != "both" else []
        parts += [self.padding] if self.padding != "same" else []
        return "-".join(parts)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        lost = (self.kernel_size - 1) * self.dilation if self.padding == "valid" else 0
        rows, columns = (-(-(length - lost) // self.stride) for length in (self.height, self.width))
        return self.batch, self.channels, rows * self.scale_factor, columns * self.scale_factor

    def inputs(
        self,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
        seed: int = 0,
        requires_grad: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Draw x (B, C, H, W), channel filter and spatial filter (B, G, K, P, Q) from a normal distribution on the CPU.

        In channels_last, the spatial filter has the strides that a channels_last 1x1 convolution would give it.
        """
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)

        k, r = self.kernel_size, self.scale_factor
        x = draw(self.batch, self.channels, self.height, self.width).contiguous(memory_format=memory_format)
        phases = (r * r,) if r > 1 and not self.shared_channel_filter else ()
        channel_filter = draw(self.batch, *phases, self.channels, k, k) if self.filters != "spatial" else None
        spatial_filter = None
        if self.filters != "channel":
            raw = draw(self.batch, self.heads * k * k, *self.out_shape[2:]).contiguous(memory_format=memory_format)
            spatial_filter = raw.unflatten(1, (self.heads, k * k))
        for tensor in (x, channel_filter, spatial_filter):
            if tensor is not None:
                tensor.requires_grad_(requires_grad)
        return x, channel_filter, spatial_filter

    def call(
        self, x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, backend: Backend = "auto"
    ) -> Tensor:
        """Call `ddf` or `ddf_up` on inputs of this case."""
        if self.scale_factor > 1:
            return ddf_up(
                x,
                channel_filter,
                spatial_filter,
                scale_factor=self.scale_factor,
                kernel_size=self.kernel_size,
                dilation=self.dilation,
                combine=self.combine,
                backend=backend,
            )
        return ddf(
            x,
            channel_filter,
            spatial_filter,
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            combine=self.combine,
            padding=self.padding,
            backend=backend,
        )


# The maps of a ResNet's stages, Table 2's input, then stride, kernel size and combination.
CPU = (
    OpCase(2, 256, 200, 300),
    OpCase(8, 256, 56, 56),
    OpCase(8, 512, 28, 28),
    OpCase(32, 256, 14, 14),
    OpCase(32, 512, 7, 7),
    OpCase(8, 256, 56, 56, stride=2),
    OpCase(8, 256, 56, 56, kernel_size=5),
    OpCase(8, 256, 56, 56, combine="add"),
)

# Table A: batch 32, 256 channels.
TABLE_A = tuple(OpCase(32, 256, size, size) for size in (7, 14, 28, 56, 112, 224))

TABLE_2 = (OpCase(2, 256, 200, 300),)

# One level of a detector's pyramid, and the last stage of a depth network.
UP = (OpCase(1, 256, 50, 80, scale_factor=2), OpCase(8, 256, 28, 28, scale_factor=2))

SETS = {"cpu": CPU, "table_a": TABLE_A, "table_2": TABLE_2, "up": UP}
