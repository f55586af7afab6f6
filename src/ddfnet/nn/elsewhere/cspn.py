"""Convolutional spatial propagation (Cheng et al., "Depth Estimation via Affinity Learned with CSPN", ECCV 2018)."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ddfnet.ops.ddf.api import Backend, ddf

Centre = Literal["initial", "current"]


def propagate(
    depth: Tensor,
    affinity: Tensor,
    steps: int,
    *,
    known: Tensor | None = None,
    centre: Centre = "initial",
    backend: Backend = "auto",
) -> Tensor:
    """Let each pixel's depth approach that of its neighbours, by their affinity, over some steps: CSPN by iterated `ddf`.

    Affinities are divided by the sum of their magnitudes at each pixel, which keeps the iteration stable. A step is the sum
    of the neighbours' depths with these weights, plus one minus the sum of the weights times the pixel's depth. Then the
    known pixels are put back.

    Args:
        depth: (B, C, H, W), where the iteration starts; C is 1 for depth. Any linear unit.
        affinity: (B, k*k - 1, H, W), k odd, as predicted: of the pixel to its neighbours, row by row without the centre.
        steps: their number; CSPN takes 24.
        known: (B, 1, H, W) or (B, C, H, W), depth in the same unit, 0 where it is not known.
        centre: which depth of the pixel takes part in a step: the "initial" one (CSPN) or the "current" one (NLSPN).
        backend: as in `ddfnet.ddf`.

    Returns:
        (B, C, H, W).

    Raises:
        TypeError, ValueError: dtypes, shapes or options that are not as described.

    Example:
        >>> import torch
        >>> from ddfnet.nn import propagate
        >>> depth, affinity = torch.rand(1, 1, 60, 80), torch.randn(1, 8, 60, 80)
        >>> propagate(depth, affinity, 24, known=depth * (torch.rand(1, 1, 60, 80) < 0.01)).shape
        torch.Size([1, 1, 60, 80])
    """
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps: expected an int >= 0, got {steps!r}")
    if centre not in get_args(Centre):
        raise ValueError(f"centre: expected 'initial' or 'current', got {centre!r}")
    if affinity.dim() != 4 or affinity.shape[1] % 2:
        raise ValueError(f"affinity: expected (B, k*k - 1, H, W) with k odd, got {tuple(affinity.shape)}")
    total = affinity.abs().sum(1, keepdim=True).clamp(min=torch.finfo(affinity.dtype).tiny)
    weights = affinity / total
    rest = 1 - weights.sum(1, keepdim=True)
    before, after = weights.chunk(2, dim=1)
    filters = torch.cat([before, rest if centre == "current" else torch.zeros_like(rest), after], dim=1)
    added = rest * depth if centre == "initial" else None
    y = depth
    for _ in range(steps):
        y = ddf(y, None, filters, backend=backend)
        if added is not None:
            y = y + added
        if known is not None:
            y = torch.where(known == 0, y, known)
    return y
