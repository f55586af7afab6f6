"""The gradients of a call with padding "valid" by a kernel that keeps the size.

The backward kernels split their work by pixels of x, and need a grid of filters as large as x. A "valid" call is a "same"
call whose outputs near the border nobody asked for: with zero gradients and filters there, it has the same gradients. The
price is a copy of the output's gradient and of the spatial filter with zeros around, and one of its gradient without them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.ops.ddf.geometry import Geometry

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
Backward = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, Geometry, tuple[bool, bool, bool]], Gradients]


def gradients_by_same(
    backward: Backward,
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    g: Geometry,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """Return what `backward` finds for inputs shaped as `g` with padding "valid"; gradients have the inputs' strides."""
    padding, stride = g.reach // 2, g.stride
    shift = -padding % stride  # puts the first pixel with a filter on a multiple of the stride
    height, width = g.height + shift, g.width + shift
    rows, columns = -(-height // stride), -(-width // stride)
    first = (padding + shift) // stride  # row and column of the first filter
    around = (first, columns - first - g.out_width, first, rows - first - g.out_height)
    same = g._replace(height=height, width=width, out_height=rows, out_width=columns, padding=padding)

    grad_x, grad_channel, grad_spatial = backward(
        F.pad(grad_output, around),
        F.pad(x, (shift, 0, shift, 0)) if shift else x,
        channel_filter,
        None if spatial_filter is None else F.pad(spatial_filter, around),
        same,
        needs,
    )
    if shift and grad_x is not None:
        grad_x = torch.empty_like(x).copy_(grad_x[..., shift:, shift:])
    if grad_spatial is not None and spatial_filter is not None:
        inner = grad_spatial[..., first : first + g.out_height, first : first + g.out_width]
        grad_spatial = torch.empty_like(spatial_filter).copy_(inner)
    return grad_x, grad_channel, grad_spatial
