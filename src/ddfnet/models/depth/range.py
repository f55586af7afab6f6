"""The range of a depth map without what lies far off: marks such as 65535, strays of a sensor, a far background."""

import torch
from torch import Tensor

FAR = 3.0  # times as wide as the rest: such a gap is no part of a scene's own range
MINORITY = 0.25  # most share of the known pixels that lie behind such a gap, unless they all have one value; then half
STRAYS = 0.01  # most share of strays at either end


def inlier_range(known: Tensor) -> tuple[float, float]:
    """The least and the greatest known depth that do not lie far off from the others.

    A network that sees a depth map in 0 to 1 tells depths apart to a part of that range, so that a single value far off
    hides all others. Values at one end of the range are taken for such where they are few and the rest is much narrower:

    - at most a quarter of all, or up to half if they have one value, behind a gap at least three times as wide as the range
      of the rest, and as wide as theirs;
    - at most a hundredth of all, where the range, in which there may be no gap then, is at least four times as wide as that
      of the rest.

    What is left is asked again, until nothing lies far off, and is always more than half. In most maps nothing does.

    Args:
        known: (N,) floating, finite, N > 0, in any unit and order.

    Returns:
        Two of the values.

    Example:
        >>> inlier_range(torch.tensor([1.5, 2.0, 2.5, 65535.0, 3.0]))
        (1.5, 3.0)
        >>> inlier_range(torch.tensor([1.5, 2.0, 2.5, 3.0, 5.0]))
        (1.5, 5.0)
    """
    kept, everything = known.sort().values, known.numel()
    while True:
        count = kept.numel()
        kept = kept[: _before_a_gap(kept, everything)]
        kept = -(-kept).flip(0)[: _before_a_gap((-kept).flip(0), everything)].flip(0)
        kept = _without_strays(kept, everything)
        if kept.numel() == count:
            return float(kept[0]), float(kept[-1])


def _before_a_gap(ascending: Tensor, everything: int) -> int:
    """How many of the values lie before the widest gap behind which the others are far off; all, where there is none."""
    before = torch.arange(1, len(ascending), device=ascending.device)  # each gap, how many
    behind = len(ascending) - before
    gap = ascending.diff()
    wide = (gap > 0) & (gap >= FAR * (ascending[:-1] - ascending[0])) & (gap >= ascending[-1] - ascending[1:])
    few = (behind <= MINORITY * everything) | (ascending[1:] == ascending[-1])
    far = wide & few & (2 * before > everything)
    return int(gap.where(far, 0).argmax()) + 1 if far.any() else len(ascending)


def _without_strays(ascending: Tensor, everything: int) -> Tensor:
    """The values without the few at either end that widen the range most."""
    few = int(STRAYS * len(ascending))
    least, greatest = ascending[few], ascending[len(ascending) - 1 - few]
    width = greatest - least
    if not few or ascending[-1] - ascending[0] < (FAR + 1) * width:
        return ascending
    margin = width / 2  # what lies nearer is no stray
    left = ascending[(ascending >= least - margin) & (ascending <= greatest + margin)]
    return left if 2 * len(left) > everything else ascending
