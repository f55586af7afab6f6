"""Which pixels of a depth map say that its depth is unknown."""

from collections.abc import Sequence

from torch import Tensor


def unknown_pixels(depth: Tensor, marks: Sequence[float] = ()) -> Tensor:
    """Where a depth map is unknown: NaN, inf, -inf, 0, the marks that are named, and its only negative value.

    A depth or a disparity is positive. One negative value among positive ones, in as many pixels as may be, is a mark, -1 or
    -9999 by custom. Several different ones belong to a map of another kind (negated, relative, a height), and are taken as
    they are; so is a map without positive values.

    Args:
        depth: of a floating dtype, one map in any shape.
        marks: values that stand for "unknown", rounded to the dtype of `depth` as its values were.

    Returns:
        bool, of depth's shape and device.

    Raises:
        TypeError: another dtype.

    Example:
        >>> import torch
        >>> from ddfnet.ops.unknown_depth import unknown_pixels
        >>> unknown_pixels(torch.tensor([2.0, 0.0, -1.0, 3.0, -1.0, 9.0]), [9])
        tensor([False,  True,  True, False,  True,  True])
        >>> unknown_pixels(torch.tensor([2.0, -1.0, -3.0]))
        tensor([False, False, False])
    """
    if not depth.is_floating_point():
        raise TypeError(f"depth: expected a floating dtype, got {depth.dtype}")
    unknown = ~depth.isfinite() | (depth == 0)
    for mark in marks:
        unknown |= depth == depth.new_tensor(mark)
    negative = ~unknown & (depth < 0)
    found = depth[negative]
    if found.numel() and found.min() == found.max() and (~unknown & (depth > 0)).any():
        unknown |= negative
    return unknown
