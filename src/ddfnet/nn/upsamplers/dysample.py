"""`DySample`: upsampling by learned sampling points (Liu, Lu, Fu, Cao, ICCV 2023)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.layer import check_choice, check_divides, check_positive
from ddfnet.nn.upsamplers.contract import Upsampler

Style = Literal["lp", "pl"]

STATIC_SCOPE = 0.25  # of the offsets, in pixels of x: what the dynamic scope starts with


class DySample(Upsampler):
    """Sample x bilinearly at one predicted point per output pixel and group of channels; border pixels reach outward.

    The points are those of bilinear interpolation plus offsets in pixels of x: `0.25 * offset(x)`, or with
    `dynamic_scope` `sigmoid(scope(x)) / 2 * offset(x)`. Both are 1x1 convolutions:

    - "lp", linear then pixel shuffle: of x, to 2*g*r*r values a pixel;
    - "pl", pixel shuffle then linear: of x shuffled to C / (r*r) channels, to 2*g values an output pixel.

    "lp" with dynamic scope is the paper's DySample+, without it DySample; "pl" gives DySample-S+ and DySample-S.
    Parameters are named and laid out as in the authors' layer.

    Args:
        channels: C, in and out; divisible by r*r with style "pl".
        scale_factor: r >= 1.
        style: "lp" or "pl".
        groups: g, groups of channels, each with its points; divides `channels`. None: 4, as in the paper, or 1 where 4
            does not divide `channels`.
        dynamic_scope: offsets scaled by a range predicted from x.

    Shape, raises:
        As `Upsampler`; ValueError too where an option is not as described.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        style: Style = "lp",
        groups: int | None = None,
        dynamic_scope: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scale_factor)
        check_choice(Style, style=style)
        groups = groups if groups is not None else 1 if channels % 4 else 4
        check_positive(groups=groups)
        check_divides(channels, groups=groups)
        phases = scale_factor**2
        if style == "pl" and channels % phases:
            raise ValueError(f"channels: expected a multiple of {phases} with style='pl', got {channels}")
        self.style = style
        self.groups = groups
        self.dynamic_scope = dynamic_scope
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        features, offsets = (channels, 2 * groups * phases) if style == "lp" else (channels // phases, 2 * groups)
        self.offset = nn.Conv2d(features, offsets, 1, **factory)
        self.scope = nn.Conv2d(features, offsets, 1, bias=False, **factory) if dynamic_scope else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights again: the layer starts near bilinear interpolation."""
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def offsets(self, x: Tensor) -> Tensor:
        """Return how far each point is from bilinear interpolation's, right and down, in pixels: (B, 2, g, r*H, r*W)."""
        r = self.scale_factor
        source = x if self.style == "lp" else F.pixel_shuffle(x, r)
        offsets = self.offset(source)
        offsets = offsets * (STATIC_SCOPE if self.scope is None else self.scope(source).sigmoid() / 2)
        if self.style == "lp":
            offsets = F.pixel_shuffle(offsets, r)
        return offsets.unflatten(1, (2, self.groups))

    def upsample(self, x: Tensor, guide: Tensor | None) -> Tensor:
        # Points and samples in float32: half types have too few digits for a pixel's place.
        wide = torch.promote_types(x.dtype, torch.float32)
        offsets = self.offsets(x).to(wide)
        steps = []  # x and y, where -1 and 1 are the outer edges of the first and the last pixel
        for axis, length in ((0, x.shape[3]), (1, x.shape[2])):
            size = length * self.scale_factor
            centres = (torch.arange(size, device=x.device, dtype=wide) + 0.5) * (2 / size) - 1
            steps.append((centres if axis == 0 else centres[:, None]) + offsets[:, axis] * (2 / length))
        points = torch.stack(steps, dim=-1).flatten(0, 1)  # (B*g, r*H, r*W, 2)
        groups = x.to(wide).unflatten(1, (self.groups, self.channels // self.groups)).flatten(0, 1)
        y = F.grid_sample(groups, points, mode="bilinear", padding_mode="border", align_corners=False)
        return y.unflatten(0, (x.shape[0], self.groups)).flatten(1, 2).to(x.dtype)
