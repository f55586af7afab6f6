"""`DDF`: the decoupled dynamic filter layer, in the place of a k x k convolution with as many channels out as in."""

from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.nn.filter_norm import Affine, FilterNorm
from ddfnet.nn.filters import (
    Branches,
    Init,
    Norm,
    channel_branch,
    channel_parameters,
    check_dtype,
    check_options,
    check_positive,
    finished,
    is_plain,
    normalisation,
    repr_options,
    spatial_parameters,
    start_static,
)
from ddfnet.ops.ddf.api import Backend, ddf
from ddfnet.ops.ddf.geometry import Combine
from ddfnet.ops.filters.api import predict_filters, unsupported


class DDF(nn.Module):
    """Predicts one k x k filter per pixel and one per channel from its input, normalises them and applies Eq. 2.

    Spatial branch: a 1x1 convolution (stride s, bias) to G*K channels, normalised. Channel branch: global average
    pooling, 1x1 to max(1, int(squeeze_ratio * C)) channels, ReLU, 1x1 to C*K channels, normalised. Parameters are named
    as in the authors' checkpoints: `spatial_branch.0`, `channel_branch.1`, `channel_branch.3`, `channel_branch.4.std`.

    Args:
        channels: C, in and out.
        kernel_size: k, odd; at least 3 with norm="filter".
        stride, dilation: of the filters; zero padding keeps the size, (H, W) -> (ceil(H / s), ceil(W / s)).
        heads: G, groups of channels with a spatial filter of their own; divides `channels`; 1 with branches="channel".
        squeeze_ratio: sigma of the channel branch (Table 3c).
        combine: "mul" (the paper) or "add".
        norm: "filter" (Eq. 3), "sigmoid", "batch" (batch norm of the predicted taps) or "none" (Table 3b).
        branches: "both", or "spatial" or "channel" alone (Table 3a).
        affine: of norm="filter": "released" (the authors' code) or "paper" (alpha and beta learned); see `FilterNorm`.
        init: "random" (the authors') or "static", ours: the layer starts as a depthwise convolution with random filters,
            which the content varies by a fifth; for affine="paper", combine="mul" and both branches.
        bias: adds a learned bias per channel; the authors' layer has none.
        backend: as in `ddfnet.ddf`.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s)), in the memory format of the input.

    Raises:
        ValueError: an option or the input's shape is not as described, or `heads` or `affine` is set where it says nothing.

    Example:
        >>> import torch, ddfnet
        >>> layer = ddfnet.DDF(64)  # where nn.Conv2d(64, 64, 3, padding=1) stood
        >>> layer(torch.randn(2, 64, 28, 28)).shape
        torch.Size([2, 64, 28, 28])
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        heads: int = 1,
        squeeze_ratio: float = 0.2,
        combine: Combine = "mul",
        norm: Norm = "filter",
        branches: Branches = "both",
        affine: Affine = "released",
        init: Init = "random",
        bias: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, stride=stride, dilation=dilation, heads=heads)
        check_options(channels, kernel_size, heads, squeeze_ratio, combine, norm, branches, affine, backend)
        if init not in ("random", "static"):
            raise ValueError(f"init: expected 'random' or 'static', got {init!r}")
        if init == "static" and (affine, branches, combine) != ("paper", "both", "mul"):
            raise ValueError(
                "init: expected 'random' unless affine='paper', branches='both' and combine='mul', got 'static' with "
                f"affine={affine!r}, branches={branches!r}, combine={combine!r}"
            )
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.heads = heads
        self.squeeze_ratio = squeeze_ratio
        self.combine: Combine = combine
        self.norm = norm
        self.branches = branches
        self.affine = affine
        self.init = init
        self.backend: Backend = backend

        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        taps = kernel_size**2
        self.spatial_branch: nn.Sequential | None = None
        self.channel_branch: nn.Sequential | None = None
        if branches != "channel":
            predict = nn.Conv2d(channels, heads * taps, 1, stride=stride, **factory)
            normalise = normalisation(norm, heads, kernel_size, "spatial", affine=affine, **factory)
            self.spatial_branch = nn.Sequential(predict, normalise)
        if branches != "spatial":
            normalise = normalisation(norm, channels, kernel_size, "channel", affine=affine, **factory)
            self.channel_branch = channel_branch(channels, channels, kernel_size, squeeze_ratio, normalise, **factory)
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype)) if bias else None
        if init == "static":
            start_static(self.spatial_branch, self.channel_branch)

    def reset_parameters(self) -> None:
        """Draws every parameter anew: the branches' as their own layers do, the bias as zero, then as `init` says."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | FilterNorm):
                module.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.init == "static":
            start_static(self.spatial_branch, self.channel_branch)

    def filters(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The normalised filters predicted for `x`: channel (B, C, k, k), spatial (B, G, K, P, Q).

        In x's dtype, or in autocast's where the branches are run as one (`ddfnet.ops.filters`).
        """
        k = self.kernel_size
        if self._runs_as_one(x):
            branches = spatial_parameters(self.spatial_branch), channel_parameters(self.channel_branch)
            channel, spatial = predict_filters(x, *branches, kernel_size=k, stride=self.stride, heads=self.heads)
            return finished(channel, self.channel_branch), finished(spatial, self.spatial_branch)
        channel_filter = spatial_filter = None
        if self.channel_branch is not None:
            channel_filter = self.channel_branch(x).to(x.dtype).view(x.shape[0], self.channels, k, k)
        if self.spatial_branch is not None:
            spatial_filter = self.spatial_branch(x).to(x.dtype).unflatten(1, (self.heads, k * k))
        return channel_filter, spatial_filter

    def _runs_as_one(self, x: Tensor) -> bool:
        """Whether the branches can be one call in place of a call of each of their modules."""
        return (
            self.norm == "filter"
            and unsupported(x, self.kernel_size, self.heads, self.backend) is None
            and is_plain(self.spatial_branch, self.kernel_size, self.stride)
            and is_plain(self.channel_branch, self.kernel_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x: expected (B, {self.channels}, H, W), got {tuple(x.shape)}")
        weight = (self.channel_branch[1] if self.spatial_branch is None else self.spatial_branch[0]).weight  # type: ignore[index]
        check_dtype(x, weight)
        channel_filter, spatial_filter = self.filters(x)
        y = ddf(
            x,
            channel_filter,
            spatial_filter,
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            combine=self.combine,
            backend=self.backend,
        )
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)

    def extra_repr(self) -> str:
        parts = [str(self.channels), f"kernel_size={self.kernel_size}"]
        defaults = {
            "stride": 1,
            "dilation": 1,
            "heads": 1,
            "squeeze_ratio": 0.2,
            "combine": "mul",
            "norm": "filter",
            "branches": "both",
            "affine": "released",
            "init": "random",
            "backend": "auto",
        }
        parts += repr_options(self, defaults)
        if self.bias is not None:
            parts.append("bias=True")
        return ", ".join(parts)
