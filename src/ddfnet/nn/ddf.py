"""`DDF`: the decoupled dynamic filter layer, in the place of a k x k convolution with as many channels out as in."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.filter_norm import Affine, FilterNorm
from ddfnet.nn.filters import (
    Branches,
    ChannelBranch,
    FilterLayer,
    Norm,
    SpatialBranch,
    apply_affine,
    channel_parameters,
    spatial_parameters,
)
from ddfnet.nn.layer import check_channels, check_choice, check_dtype, check_positive
from ddfnet.ops.ddf.api import Backend, ddf
from ddfnet.ops.ddf.geometry import Combine, Padding
from ddfnet.ops.filters.api import predict_filters, unsupported
from ddfnet.ops.registry import has_global_hooks, leaf

Init = Literal["random", "static", "depthwise"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
LEAST_SQUEEZED = 4  # hidden units of the channel branch with init="depthwise"


class DDF(FilterLayer):
    """Predict one k x k filter per pixel and one per channel from the input, normalise them and apply Eq. 2.

    Spatial branch: a 1x1 convolution (stride s, bias) to G*K channels, normalised. Channel branch: global average
    pooling, 1x1 to max(1, int(squeeze_ratio * C)) channels, ReLU, 1x1 to C*K channels, normalised. Parameters are named
    as in the authors' checkpoints: `spatial_branch.0`, `channel_branch.1`, `channel_branch.3`, `channel_branch.4.std`.

    An image for which all hidden units of the channel branch are 0 gets its channel filters from the last bias alone. If
    that bias is 0, so are the filters, and with combine="mul" the output and the gradients. Zeroed biases make this likely
    in layers of a few channels; `reset_parameters()` draws them again.

    Args:
        channels: C, in and out.
        kernel_size: k, odd; at least 3 with norm="filter".
        stride, dilation: of the filters; (H, W) -> (ceil(H / s), ceil(W / s)).
        heads: G, groups of channels, each with its spatial filter; divides `channels`; 1 with branches="channel".
        squeeze_ratio: sigma of the channel branch (Table 3c).
        combine: "mul" (the paper) or "add".
        norm: "filter" (Eq. 3), "sigmoid", "batch" (batch norm of the predicted taps) or "none" (Table 3b).
        branches: "both", or "spatial" or "channel" alone (Table 3a).
        affine: of norm="filter": "released" (the authors' code) or "paper" (alpha and beta learned); see `FilterNorm`.
        init: "random" (the authors') or "static", ours: the layer starts as a depthwise convolution with random filters,
            which the content varies by a fifth; for affine="paper", combine="mul" and both branches. Or "depthwise", ours:
            the layer starts as the depthwise convolution of its parameter `weight` (C, k, k), and content enters as
            training finds use for it. Channel filters are weight * (1 + E(x)) and spatial filters 1 + S(x), where the
            branches' outputs E and S are 0 at the start; for norm="none" and combine="mul".
        padding: "same" (the authors') or "valid": filters only where all their taps lie inside, P = ceil((H - (k-1)*d) / s).
        padding_mode: what lies outside the image, as in `nn.Conv2d`; "zeros" (the authors') with padding="valid". "reflect"
            takes images larger than k//2 * d, "circular" no smaller ones.
        bias: adds a learned bias per channel; the authors' layer has none.
        backend: as in `ddfnet.ddf`.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s)), in the memory format of the input; less with padding="valid".

    Raises:
        ValueError: an option or the input's shape is not as described, or `heads` or `affine` is set where it has no effect.

    Example:
        >>> import torch, ddfnet
        >>> layer = ddfnet.DDF(64)  # where nn.Conv2d(64, 64, 3, padding=1) stood
        >>> layer(torch.randn(2, 64, 28, 28)).shape
        torch.Size([2, 64, 28, 28])
    """

    weight: nn.Parameter | None
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
        padding: Padding = "same",
        padding_mode: PaddingMode = "zeros",
        bias: bool = False,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, stride=stride)
        self._set_options(
            channels,
            kernel_size=kernel_size,
            dilation=dilation,
            heads=heads,
            squeeze_ratio=squeeze_ratio,
            combine=combine,
            norm=norm,
            branches=branches,
            affine=affine,
            backend=backend,
        )
        _check_padding(padding, padding_mode)
        _check_init(init, norm=norm, affine=affine, branches=branches, combine=combine)
        self.channels = channels
        self.stride = stride
        self.init = init
        self.padding: Padding = padding
        self.padding_mode: PaddingMode = padding_mode

        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.spatial_branch = self.channel_branch = None
        if branches != "channel":
            predict = nn.Conv2d(channels, heads * kernel_size**2, 1, stride=stride, **factory)
            self.spatial_branch = SpatialBranch(predict, self._normalisation(heads, "spatial", "relu", **factory))
        if branches != "spatial":
            normalise = self._normalisation(channels, "channel", "relu", **factory)
            squeezed = max(LEAST_SQUEEZED if init == "depthwise" else 1, int(squeeze_ratio * channels))
            self.channel_branch = ChannelBranch(channels, channels, kernel_size, squeezed, normalise, **factory)
        taps = torch.empty(channels, kernel_size, kernel_size, **factory) if init == "depthwise" else None
        self.weight = None if taps is None else nn.Parameter(taps)
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype)) if bias else None
        self._start()

    def reset_parameters(self) -> None:
        """Draw every parameter again: the branches' as their inner layers do, the bias as zero, then as `init` says."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | FilterNorm):
                module.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Let the layer begin near a depthwise convolution (init="static"), or as one (init="depthwise").

        With "static", spatial filters get beta = 1 and alpha = 0.2 (Eq. 3), so a product is the channel's filter varied by
        a fifth. The bias of the convolution that predicts channel filters is drawn as a normal variable times 3, several
        times what the content adds.
        """
        if self.init == "static":
            spatial: Any = self.spatial_branch
            channel: Any = self.channel_branch
            nn.init.constant_(spatial[1].alpha, 0.2)
            nn.init.ones_(spatial[1].beta)
            nn.init.normal_(channel[3].bias, std=3.0)
        elif self.weight is not None:
            nn.init.normal_(self.weight, std=0.1)
            for branch, place in ((self.spatial_branch, 0), (self.channel_branch, 3)):
                for parameter in [] if branch is None else branch[place].parameters():
                    nn.init.zeros_(parameter)

    def filters(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the normalised filters predicted for `x`: channel (B, C, k, k), spatial (B, G, K, P, Q).

        They have x's dtype, or autocast's where one op predicts both (`ddfnet.ops.filters`).
        """
        k = self.kernel_size
        if self._runs_as_one(x):
            weights = spatial_parameters(self.spatial_branch), channel_parameters(self.channel_branch)
            channel, spatial = predict_filters(x, *weights, kernel_size=k, stride=self.stride, heads=self.heads)
            return apply_affine(channel, self.channel_branch), apply_affine(spatial, self.spatial_branch)
        channel_filter = spatial_filter = None
        if self.channel_branch is not None:
            channel_filter = self.channel_branch(x).to(x.dtype).view(x.shape[0], self.channels, k, k)
        if self.spatial_branch is not None:
            centres = x if self.padding == "same" else _without_border(x, k // 2 * self.dilation)
            spatial_filter = self.spatial_branch(centres).to(x.dtype).unflatten(1, (self.heads, k * k))
        if self.weight is not None:
            return self._departures(x, channel_filter, spatial_filter)
        return channel_filter, spatial_filter

    def _departures(
        self, x: Tensor, channel: Tensor | None, spatial: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the filters of init="depthwise" from the branches' outputs."""
        static: Any = self.weight
        static = static.to(x.dtype).expand(x.shape[0], -1, -1, -1)
        channel = static if channel is None else torch.addcmul(static, static, channel)
        return channel, None if spatial is None else 1 + spatial

    def _runs_as_one(self, x: Tensor) -> bool:
        """True if one op serves `x` and both branches are plain; else they run module by module."""
        spatial, channel = self.spatial_branch, self.channel_branch
        return (
            self.norm == "filter"
            and self.padding == "same"
            and isinstance(x, Tensor)  # a proxy of torch.fx is none
            and unsupported(x, self.kernel_size, self.heads, self.backend) is None
            and not has_global_hooks()
            and (
                spatial is None or (type(spatial) is SpatialBranch and spatial.is_plain(self.kernel_size, self.stride))
            )
            and (channel is None or (type(channel) is ChannelBranch and channel.is_plain(self.kernel_size)))
        )

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.channels)
        check_dtype(x, next(self.parameters(), None))
        channel_filter, spatial_filter = self.filters(x)
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, (self.kernel_size // 2 * self.dilation,) * 4, mode=self.padding_mode)
            padding = "valid"
        y = ddf(
            x,
            channel_filter,
            spatial_filter,
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            combine=self.combine,
            padding=padding,
            backend=self.backend,
        )
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


def _check_init(init: str, **options: str) -> None:
    """Raise ValueError unless the other options are those that `init` is for."""
    check_choice(Init, init=init)
    needed = {
        "static": {"affine": "paper", "branches": "both", "combine": "mul"},
        "depthwise": {"norm": "none", "combine": "mul"},
    }.get(init, {})
    if any(options[name] != value for name, value in needed.items()):
        wanted, found = (", ".join(f"{name}={values[name]!r}" for name in needed) for values in (needed, options))
        raise ValueError(f"init: expected 'random' unless {wanted}, got {init!r} with {found}")


def _check_padding(padding: Padding, padding_mode: PaddingMode) -> None:
    check_choice(Padding, padding=padding)
    check_choice(PaddingMode, padding_mode=padding_mode)
    if padding == "valid" and padding_mode != "zeros":
        raise ValueError(f"padding_mode: expected 'zeros' with padding='valid', got {padding_mode!r}")


@leaf
def _without_border(x: Tensor, margin: int) -> Tensor:
    """The pixels of `x` that lie `margin` or more from its border."""
    if min(x.shape[2:]) <= 2 * margin:
        raise ValueError(f"x: expected a height and width > {2 * margin} = (k - 1) * dilation, got {tuple(x.shape)}")
    return x[..., margin : x.shape[2] - margin, margin : x.shape[3] - margin]
