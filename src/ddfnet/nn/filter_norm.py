"""`FilterNorm`: Eq. 3 as a layer, with the scales of the authors' checkpoints or those of the paper."""

from typing import Literal

import torch
from torch import Tensor, nn

from ddfnet.nn.layer import Layer, check_choice, check_positive
from ddfnet.ops.filter_norm import filter_norm
from ddfnet.ops.registry import leaf

Affine = Literal["released", "paper"]
FilterKind = Literal["spatial", "channel"]


Gain = Literal["relu", "linear"]


class FilterNorm(Layer):
    """Normalise each of the N predicted filters over its K = k*k taps (Eq. 3; Table 3b compares it with others).

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

    Where the K taps of a filter are equal, so that its std is 0, the output is `shift` and the derivative 0.

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
        nonlinearity: Gain = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive(filters=filters)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number >= 3, got {kernel_size}")
        check_choice(FilterKind, kind=kind)
        check_choice(Affine, affine=affine)
        check_choice(Gain, nonlinearity=nonlinearity)
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
        """Draw or set the scales as the class's table says."""
        if self.std is not None:
            with torch.no_grad():
                self.std.normal_().mul_(self.init_scale)
        if self.alpha is not None and self.beta is not None:
            nn.init.constant_(self.alpha, self.init_scale)
            nn.init.zeros_(self.beta)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.kernel_size**2
        if self.std is not None:
            return _normalised(x, self.filters, taps, self.std.view(self.filters, taps))
        if self.alpha is not None and self.beta is not None:
            return _normalised(x, self.filters, taps, self.alpha.view(-1, 1), self.beta.view(-1, 1))
        return _normalised(x, self.filters, taps, self.init_scale)


@leaf
def _normalised(x: Tensor, filters: int, taps: int, scale: Tensor | float, shift: Tensor | None = None) -> Tensor:
    """Apply Eq. 3 to (B, N*K, ...); scale and shift are (N or 1, K or 1)."""
    if x.dim() < 2 or x.shape[1] != filters * taps:
        raise ValueError(f"x: expected (B, {filters * taps}, ...), got {tuple(x.shape)}")
    trailing = (1,) * (x.dim() - 2)
    if isinstance(scale, Tensor):
        scale = scale.view(*scale.shape, *trailing)
    if shift is not None:
        shift = shift.view(*shift.shape, *trailing)
    return filter_norm(x.unflatten(1, (filters, taps)), scale, shift, dim=2).flatten(1, 2)
