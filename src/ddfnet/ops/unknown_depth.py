"""Find the pixels of a depth map that mark unknown depth."""

from collections.abc import Sequence

import torch
from torch import Tensor

SATURATED = 65535  # the greatest value of 16 bits


def unknown_pixels(
    depth: Tensor, marks: Sequence[float] = (), *, zero_is_known: bool = False, sixteen_bits: bool = False
) -> Tensor:
    """Find the pixels whose depth is unknown: NaN, inf, -inf, 0, named marks, and marks by custom.

    Two values are marks by custom:

    - The only negative value of a map that has positive ones too, -1 or -9999 for example. Several different negative values
      belong to a map of another kind (negated, relative, a height), and are depths.
    - 65535 in a map of 16 bits, if it stands apart: the gap below it is at least as wide as the range of all other values.

    Args:
        depth: one map of a floating dtype, in any shape.
        marks: values that stand for "unknown", rounded to the dtype of `depth` as its values were.
        zero_is_known: True if 0 is a depth.
        sixteen_bits: True if the map was stored as unsigned integers of 16 bits.

    Returns:
        bool, of depth's shape and device.

    Raises:
        TypeError: `depth` is not floating.

    Example:
        >>> import torch
        >>> from ddfnet.ops.unknown_depth import unknown_pixels
        >>> unknown_pixels(torch.tensor([2.0, 0.0, -1.0, 3.0, -1.0, 9.0]), [9])
        tensor([False,  True,  True, False,  True,  True])
        >>> unknown_pixels(torch.tensor([2.0, -1.0, -3.0]))
        tensor([False, False, False])
        >>> unknown_pixels(torch.tensor([0.0, 700.0, 65535.0]), zero_is_known=True, sixteen_bits=True)
        tensor([False, False,  True])
    """
    if not depth.is_floating_point():
        raise TypeError(f"depth: expected a floating dtype, got {depth.dtype}")
    unknown = ~depth.isfinite()
    if not zero_is_known:
        unknown |= depth == 0
    for mark in marks:
        unknown |= depth == torch.tensor(mark, dtype=depth.dtype, device=depth.device)
    negative = ~unknown & (depth < 0)
    found = depth[negative]
    if found.numel() and found.min() == found.max() and (~unknown & (depth > 0)).any():
        unknown |= negative
    if sixteen_bits:
        unknown |= _apart(depth, unknown)
    return unknown


def _apart(depth: Tensor, unknown: Tensor) -> Tensor:
    """Return where the map is 65535, if that stands apart from its other known values; nowhere otherwise."""
    saturated = depth == SATURATED
    others = depth[~unknown & ~saturated]
    if not others.numel() or SATURATED - others.max() < others.max() - others.min():
        return torch.zeros_like(saturated)
    return saturated
