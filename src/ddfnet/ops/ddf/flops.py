"""The FLOP formulas of the op (Table 1's 3nck^2).

n output pixels, c channels, K = k*k taps. A tap costs one operation to combine the two filters, one to multiply and one to
add: 3ncK FLOPs forward and 3ncK for each gradient asked for; with one filter there is nothing to combine: 2ncK.
"""

import math
from collections.abc import Sequence

from ddfnet.ops.ddf.geometry import BackwardOptions, Options

Shape = Sequence[int]


def ddf_multiply_adds(x: Shape, channel: Shape | None, spatial: Shape | None, options: Options) -> int:
    """Count the multiply-adds of one forward call on tensors of these shapes, one per tap: ncK."""
    batch, channels, height, width = x
    taps = channel[-1] ** 2 if channel is not None else spatial[-3] if spatial else 0
    lost = (math.isqrt(taps) - 1) * options.dilation if options.padding == "valid" else 0
    rows, columns = (-(-(length - lost) // options.stride) for length in (height, width))
    return batch * rows * columns * options.scale_factor**2 * channels * taps


def ddf_flops(x: Shape, channel: Shape | None, spatial: Shape | None, options: Options) -> int:
    """Count the FLOPs of one forward call."""
    per_tap = 2 + (channel is not None and spatial is not None)
    return per_tap * ddf_multiply_adds(x, channel, spatial, options)


def ddf_backward_flops(
    grad_output: Shape, x: Shape, channel: Shape | None, spatial: Shape | None, options: BackwardOptions
) -> int:
    """Count the FLOPs of one backward call: those of the forward call for each gradient asked for."""
    return sum(options.needs) * ddf_flops(x, channel, spatial, options.forward)
