"""Pixel-adaptive convolution tap by tap, in plain PyTorch under ordinary autograd: the definition."""

import torch
from torch import Tensor

from ddfnet.ops.pac.geometry import Geometry, out_size, padded, window


def pac_reference(x: Tensor, guide: Tensor, weight: Tensor, g: Geometry) -> Tensor:
    """Compute the definition for weight (O, K, C); autograd keeps each tap's maps."""
    source, near = padded(x, guide, g)
    rows, columns = out_size(x, guide, g)
    y = x.new_zeros(x.shape[0], weight.shape[0], rows, columns)
    for phase in g.phases:
        centre = guide[phase.pixels(g.spacing * g.step)]
        grid = centre.shape[2:]
        for tap in phase.taps:
            at = window(tap, g, slice(None), 0, *grid)
            weighted = source[at] * (near[at] - centre).square().sum(1, keepdim=True).mul(-0.5).exp()
            y[phase.pixels(g.spacing)] += torch.einsum("oc,bcpq->bopq", weight[:, tap.number], weighted)
    return y
