"""`FilterNorm`: Eq. 3 as a layer, with the scales of the authors' checkpoints or those of the paper."""

from typing import Literal

import torch
from torch import Tensor, nn

from ddfnet.ops.filter_norm import filter_norm

Affine = Literal["released", "paper"]
FilterKind = Literal["spatial", "channel"]


class FilterNorm(nn.Module):
    """Normalises each of the N predicted filters over its K = k*k taps (Eq. 3; Table 3b compares it with others).

    `D = scale * (D_raw - mean) / (std + 1e-10) + shift` with the unbiased standard deviation. With `gain` that of
    `torch.nn.init.calculate_gain(nonlinearity)`:

    | affine     | kind      | scale                                                          | shift               |
    |------------|-----------|----------------------------------------------------------------|---------------------|
    | "released" | "spatial" | gain / k, fixed                                                | none                |
    | "released" | "channel" | `std` (N*K,), learned, starts as a normal variable * gain / k  | none                |
    | "paper"    | "spatial" | `alpha` (1,), learned, starts as gain / k                      | `beta` (1,), from 0 |
    | "paper"    | "channel" | `alpha` (N,), learned, starts as gain / k                      | `beta` (N,), from 0 |

    Args:
        filters: N, filters per position: heads for spatial filters, channels for channel filters.
        kernel_size: k >= 3, odd (one tap has no standard deviation).
        kind: "spatial" or "channel".
        affine: "released" (the authors' code and checkpoints) or "paper".
        nonlinearity: "relu" in the DDF layer, "linear" in DDF-Up.

    Shape:
        (B, N*K, ...) -> the same, the K taps of a filter next to each other. Half types are normalised in float32.

    Raises:
        ValueError: an option or the input's shape is not as described.

    Example:
        >>> import torch, ddfnet
        >>> filters = ddfnet.FilterNorm(2)(torch.randn(1, 18, 5, 6)).unflatten(1, (2, 9))  # 2 filters of 9 taps a pixel
        >>> filters.mean(2).abs().max().item() < 1e-6
        True
    """

    std: nn.Parameter | None
    alpha: nn.Parameter | None
    beta: nn.Parameter | None

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        kind: FilterKind = "spatial",
        affine: Affine = "released",
        nonlinearity: Literal["relu", "linear"] = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if filters < 1:
            raise ValueError(f"filters: expected an int >= 1, got {filters}")
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number >= 3, got {kernel_size}")
        if kind not in ("spatial", "channel"):
            raise ValueError(f"kind: expected 'spatial' or 'channel', got {kind!r}")
        if affine not in ("released", "paper"):
            raise ValueError(f"affine: expected 'released' or 'paper', got {affine!r}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.kind = kind
        self.affine = affine
        self.nonlinearity = nonlinearity
        self.init_scale = nn.init.calculate_gain(nonlinearity) / kernel_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        learned = filters if kind == "channel" else 1
        self.std = parameter(filters * kernel_size**2) if affine == "released" and kind == "channel" else None
        self.alpha = parameter(learned) if affine == "paper" else None
        self.beta = parameter(learned) if affine == "paper" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws or sets the scales as the class's table says."""
        if self.std is not None:
            with torch.no_grad():
                self.std.normal_().mul_(self.init_scale)
        if self.alpha is not None and self.beta is not None:
            nn.init.constant_(self.alpha, self.init_scale)
            nn.init.zeros_(self.beta)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.kernel_size**2
        if x.dim() < 2 or x.shape[1] != self.filters * taps:
            raise ValueError(f"x: expected (B, {self.filters * taps}, ...), got {tuple(x.shape)}")
        filters = x.unflatten(1, (self.filters, taps))  # (B, N, K, ...)
        trailing = (1,) * (x.dim() - 2)
        if self.std is not None:
            y = filter_norm(filters, self.std.view(self.filters, taps, *trailing), dim=2)
        elif self.alpha is not None and self.beta is not None:
            y = filter_norm(filters, self.alpha.view(-1, 1, *trailing), self.beta.view(-1, 1, *trailing), dim=2)
        else:
            y = filter_norm(filters, self.init_scale, dim=2)
        return y.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"{self.filters}, kernel_size={self.kernel_size}, kind={self.kind!r}, affine={self.affine!r}"
