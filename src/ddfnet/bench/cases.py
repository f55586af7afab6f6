"""The calls that tests hold to the oracle and benchmarks time: one list, one way to make their inputs."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddfnet.ops.ddf.api import Backend, ddf
from ddfnet.ops.ddf.geometry import Combine
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

    def __str__(self) -> str:
        parts = [f"{self.batch}x{self.channels}x{self.height}x{self.width}", f"k{self.kernel_size}"]
        parts += [f"s{self.stride}"] if self.stride > 1 else []
        parts += [f"d{self.dilation}"] if self.dilation > 1 else []
        parts += [f"g{self.heads}"] if self.heads > 1 else []
        parts += [f"up{self.scale_factor}"] if self.scale_factor > 1 else []
        parts += ["shared"] if self.shared_channel_filter else []
        parts += [self.combine] if self.combine != "mul" else []
        parts += [self.filters] if self.filters != "both" else []
        return "-".join(parts)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        rows, columns = -(-self.height // self.stride), -(-self.width // self.stride)
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
        """x (B, C, H, W), channel filter and spatial filter (B, G, K, P, Q), normal variables drawn on the CPU.

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
        """`ddf` or `ddf_up` on inputs of this case."""
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
            backend=backend,
        )


# Small calls that between them use every option: odd sizes, 1x1 maps, kernels larger than the map, an empty batch.
SMALL = (
    OpCase(2, 8, 7, 9),
    OpCase(2, 6, 8, 5, combine="add"),
    OpCase(2, 6, 7, 9, heads=3),
    OpCase(2, 6, 7, 9, heads=2, combine="add"),
    OpCase(2, 6, 7, 9, heads=6, filters="spatial"),
    OpCase(1, 5, 9, 7, stride=2),
    OpCase(1, 5, 8, 10, stride=2, heads=5, combine="add"),
    OpCase(1, 4, 11, 7, stride=3, dilation=2),
    OpCase(2, 4, 7, 8, dilation=2),
    OpCase(1, 4, 6, 6, dilation=3, combine="add"),
    OpCase(2, 3, 5, 6, kernel_size=1),
    OpCase(2, 3, 5, 6, kernel_size=1, stride=2, combine="add"),
    OpCase(1, 7, 9, 8, kernel_size=5),
    OpCase(1, 4, 9, 11, kernel_size=5, stride=2, heads=2),
    OpCase(1, 4, 9, 8, kernel_size=7, combine="add"),
    OpCase(1, 3, 2, 3, kernel_size=7, dilation=2),
    OpCase(2, 17, 1, 1),
    OpCase(2, 4, 1, 1, kernel_size=5, stride=2),
    OpCase(1, 1, 6, 5),
    OpCase(2, 33, 4, 19),
    OpCase(1, 70, 5, 5, heads=2),
    OpCase(0, 4, 5, 6),
    OpCase(2, 6, 7, 5, filters="channel"),
    OpCase(2, 6, 7, 5, filters="channel", combine="add", stride=2),
    OpCase(2, 6, 7, 5, filters="spatial"),
    OpCase(2, 6, 7, 5, filters="spatial", combine="add", stride=2),
    OpCase(2, 6, 5, 4, scale_factor=2),
    OpCase(2, 6, 5, 4, scale_factor=2, heads=2, combine="add"),
    OpCase(1, 4, 3, 5, scale_factor=3, dilation=2),
    OpCase(1, 6, 4, 5, scale_factor=2, shared_channel_filter=True, heads=3),
    OpCase(1, 4, 4, 5, scale_factor=2, kernel_size=5, filters="spatial"),
    OpCase(1, 4, 3, 4, scale_factor=2, filters="channel", combine="add"),
    OpCase(1, 3, 1, 1, scale_factor=4, kernel_size=3),
    OpCase(1, 2, 4, 3, scale_factor=2, kernel_size=1, combine="add"),
    OpCase(0, 4, 5, 6, scale_factor=2),
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

SETS = {"small": SMALL, "cpu": CPU, "table_a": TABLE_A, "table_2": TABLE_2, "up": UP}
