"""`CARAFE`: content-aware reassembly of features (Wang et al., ICCV 2019), DDF-Up's nearest relative, on its operation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.layer import check_divides, check_odd, check_positive
from ddfnet.nn.upsamplers.contract import Upsampler
from ddfnet.ops.ddf.api import Backend
from ddfnet.ops.ddf_up.api import ddf_up


class CARAFE(Upsampler):
    """Upsample by one predicted k x k filter per output pixel, shared by all channels and summing to 1.

    A 1x1 convolution compresses x, a second one encodes it to r*r*G*K values, a pixel shuffle makes G*K of each output
    pixel, softmax over the taps makes them weights; `ddfnet.ddf_up` with spatial filters alone is the reassembly. The
    defaults are the paper's. Parameters are named and laid out as in MMCV's layer.

    Args:
        channels: C, in and out.
        scale_factor: r >= 1.
        kernel_size: k of the filters, odd ("k_up").
        encoder_kernel_size: odd ("k_encoder").
        compressed_channels: out of the first convolution.
        heads: G, groups of channels, each with its filter; divides `channels`.
        backend: as in `ddfnet.ddf`.

    Shape, raises:
        As `Upsampler`; ValueError too where an option is not as described.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        kernel_size: int = 5,
        encoder_kernel_size: int = 3,
        compressed_channels: int = 64,
        heads: int = 1,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scale_factor)
        check_odd(kernel_size=kernel_size, encoder_kernel_size=encoder_kernel_size)
        check_positive(compressed_channels=compressed_channels, heads=heads)
        check_divides(channels, heads=heads)
        self.kernel_size = kernel_size
        self.encoder_kernel_size = encoder_kernel_size
        self.compressed_channels = compressed_channels
        self.heads = heads
        self.backend: Backend = backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1, **factory)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            heads * (kernel_size * scale_factor) ** 2,
            encoder_kernel_size,
            padding=encoder_kernel_size // 2,
            **factory,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights again: filters start near the mean of the taps."""
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        for conv in (self.channel_compressor, self.content_encoder):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def filters(self, x: Tensor) -> Tensor:
        """Return the weights of each output pixel's taps, (B, G, K, r*H, r*W), in x's dtype; they sum to 1."""
        raw = F.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), self.scale_factor)
        taps = raw.unflatten(1, (self.heads, self.kernel_size**2))
        return taps.softmax(2, dtype=torch.promote_types(taps.dtype, torch.float32)).to(x.dtype)

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        return ddf_up(x, None, self.filters(x), scale_factor=self.scale_factor, backend=self.backend)
