"""DDF-Up as Fig. 5 draws it: r*r DDF operations at the low resolution, stacked and pixel-shuffled."""

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import Geometry
from ddfnet.ops.ddf.reference import ddf_reference


def ddf_up_reference(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry) -> Tensor:
    """Compute DDF-Up for `g.stride == 1`, inputs shaped as in `ddfnet.ddf_up`; half types are summed in float32."""
    r = g.scale_factor
    # Cast here, not in each phase: the phases' gradients of x are then added in float32 too.
    wide = torch.promote_types(x.dtype, torch.float32)
    dtype, x = x.dtype, x.to(wide)
    channel_filter = None if channel_filter is None else channel_filter.to(wide)
    low = g._replace(out_height=g.height, out_width=g.width, scale_factor=1)
    phases = []
    for i in range(r):
        for j in range(r):
            own = channel_filter
            if channel_filter is not None and channel_filter.dim() == 5:  # (B, r*r, C, k, k)
                own = channel_filter[:, i * r + j]
            phase = None if spatial_filter is None else spatial_filter[..., i::r, j::r]
            phases.append(ddf_reference(x, own, phase, low))  # (B, C, H, W)
    # The pixel shuffle; F.pixel_shuffle has no gradient for an empty batch.
    y = torch.stack(phases, dim=-1).unflatten(-1, (r, r)).transpose(3, 4)  # (B, C, H, r, W, r)
    y = y.flatten(4, 5).flatten(2, 3)  # (B, C, r*H, r*W)
    return y.to(dtype).contiguous(memory_format=g.memory_format)
