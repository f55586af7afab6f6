"""Eq. 2 in plain PyTorch under ordinary autograd: the definition, the fallback and the export path.

    y[b,c,p,q] = sum over taps t=(u,v) of D_ch[b,c,t] (*) D_sp[b,g(c),t,p,q] * x[b, c, p*s + (u-k//2)*d, q*s + (v-k//2)*d]

Written to be read. The combined filter (B, C, K, P, Q) is never stored in the forward pass: one tap lives at a
time. Autograd does keep each tap's factors; the registered op of `api` keeps its three inputs alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.ops.ddf.geometry import Combine, Geometry
from ddfnet.ops.registry import needs_reference


def ddf_reference(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry) -> Tensor:
    """Compute Eq. 2 for `g.scale_factor == 1`, inputs shaped as in `ddfnet.ddf`; half types are summed in float32."""
    k, s, d = g.kernel_size, g.stride, g.dilation
    rows, columns = s * (g.out_height - 1) + 1, s * (g.out_width - 1) + 1
    per_head = (g.heads, g.channels // g.heads)

    dtype = torch.promote_types(x.dtype, torch.float32)
    padded = F.pad(x.to(dtype), (g.padding,) * 4).unflatten(1, per_head)  # (B, G, C/G, H + 2 pad, W + 2 pad)
    if channel_filter is not None:
        channel_filter = channel_filter.to(dtype).unflatten(1, per_head)  # (B, G, C/G, k, k)
    if spatial_filter is not None:
        spatial_filter = spatial_filter.to(dtype)
        if spatial_filter.dim() == 4:
            spatial_filter = spatial_filter.unsqueeze(1)  # (B, G, K, P, Q)

    # An infinite tap that lies outside the image would make NaN of the zero that pads it. ONNX programs leave this out.
    masked = g.padding > 0 and not needs_reference()
    y = x.new_zeros((), dtype=dtype)
    for t in range(g.taps):
        u, v = t // k, t % k  # not divmod, which torch.compile can't trace where k is symbolic
        shifted = padded[..., u * d : u * d + rows : s, v * d : v * d + columns : s]  # (B, G, C/G, P, Q)
        channel_tap = None if channel_filter is None else channel_filter[..., u, v, None, None]  # (B, G, C/G, 1, 1)
        spatial_tap = None if spatial_filter is None else spatial_filter[:, :, None, t]  # (B, G, 1, P, Q)
        if not masked:
            y = y + combined(channel_tap, spatial_tap, g.combine) * shifted
            continue
        inside = _inside(u, v, g, x.device)
        if spatial_tap is not None:  # before too, for the channel filter's gradient
            spatial_tap = spatial_tap.where(inside, 0)
        y = y + combined(channel_tap, spatial_tap, g.combine).where(inside, 0) * shifted
    return y.flatten(1, 2).to(x.dtype).contiguous(memory_format=g.memory_format)  # (B, C, P, Q)


def _inside(u: int, v: int, g: Geometry, device: torch.device) -> Tensor:
    """Return which output pixels find tap (u, v) inside the image: (P, Q)."""
    rows = torch.arange(g.out_height, device=device) * g.stride + (u * g.dilation - g.padding)
    columns = torch.arange(g.out_width, device=device) * g.stride + (v * g.dilation - g.padding)
    return ((rows >= 0) & (rows < g.height))[:, None] & ((columns >= 0) & (columns < g.width))


def combined(channel_tap: Tensor | None, spatial_tap: Tensor | None, combine: Combine) -> Tensor:
    """Apply (*) of Eq. 2: product or sum of the two filters' taps, or the only filter's."""
    if channel_tap is None or spatial_tap is None:
        tap = spatial_tap if channel_tap is None else channel_tap
        if tap is None:
            raise ValueError("channel_tap, spatial_tap: expected at least one of the two, got None for both")
        return tap
    return channel_tap * spatial_tap if combine == "mul" else channel_tap + spatial_tap
