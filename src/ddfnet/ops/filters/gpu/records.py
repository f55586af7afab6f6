"""What travels together into the kernels of the filter prediction, beside the records of `ops/ddf/gpu`.

A field that the kernel must know when it is compiled holds a `tl.constexpr`.
"""

from typing import Any, NamedTuple


class Linear(NamedTuple):
    """A matrix (N, C) and a bias (N,), or addresses None."""

    weight: Any
    bias: Any
    n: int
    c: int


class NormalisedFilter(NamedTuple):
    """Filters (B, N, K, P, Q) normalised by Eq. 3, and the deviations of the raw ones, contiguous (B, N, P, Q)."""

    address: Any
    std: Any
    b: int
    g: int
    t: int
    h: int
    w: int


class SpatialOptions(NamedTuple):
    channels: int
    width: int
    SCALE: Any
    TAPS: Any
    HEADS: Any
    STRIDE: Any
    POOLS: Any  # whether the sums are wanted
    PIXELS: Any
    CHANNELS: Any  # of x that are multiplied at a time
    HEAD_LANES: Any
    TAP_LANES: Any
    FLAT: Any  # rows of x follow each other without a gap
    WIDE: Any  # offsets within a sample can pass 2^31 elements
    PRECISION: Any  # of products in float32


class SqueezeOptions(NamedTuple):
    channels: int
    squeezed: int
    blocks: int  # of SQUEEZED
    PARTS: Any  # sums that are added up at a time, of CHANNELS channels
    CHANNELS: Any
    SQUEEZED: Any


class ChannelOptions(NamedTuple):
    filters: int
    squeezed: int
    blocks: int  # of FILTERS
    TAPS: Any
    BATCH: Any
    FILTERS: Any
    TAP_LANES: Any
    SQUEEZED: Any  # that are multiplied at a time
    PRECISION: Any


class NormOptions(NamedTuple):
    filters: int  # N
    width: int  # Q
    SCALE: Any  # of all filters, where these have none of their own
    UNIT_SCALE: Any  # by which the normalised filters are too large
    TAPS: Any
    BLOCK: Any
