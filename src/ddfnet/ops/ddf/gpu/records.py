"""What travels together into a GPU kernel: a tensor's address and strides, and the options of a call.

A field that the kernel must know when it is compiled holds a `tl.constexpr`. Triton (3.5 to 3.9) tells an integer that is 1
or a multiple of 16 apart from others, in records too. It reads records without other records inside.
"""

from typing import Any, NamedTuple


class Map(NamedTuple):
    """A map (B, C, H, W)."""

    address: Any
    b: int
    c: int
    h: int
    w: int


class ChannelFilter(NamedTuple):
    """A channel filter (B, phases, C, k, k); the address is None without one."""

    address: Any
    b: int
    p: int
    c: int
    u: int
    v: int


class SpatialFilter(NamedTuple):
    """A spatial filter (B, G, K, P, Q); the address is None without one."""

    address: Any
    b: int
    g: int
    t: int
    h: int
    w: int


class Tile(NamedTuple):
    """The part of the output, or of x in the backward pass, that a program computes."""

    row: Any  # the first
    row_phase: Any  # of the output, with a scale factor
    q: Any  # (COLUMNS, 1): columns
    c: Any  # (1, CHANNELS): channels within the head
    in_row: Any  # masks of q and c
    in_head: Any
    rows: Any  # of the grid on which filters are centred
    height: Any  # of x
    width: Any


class ForwardOptions(NamedTuple):
    per_head: int  # channels of a head, in `head_blocks` blocks of CHANNELS
    head_blocks: int
    heads: int
    columns: int  # of the grid on which filters are centred
    K: Any  # kernel size
    STRIDE: Any
    DILATION: Any
    PADDING: Any
    SCALE: Any
    ADD: Any  # whether the filters are added
    OWN_PHASES: Any  # whether each phase has a channel filter
    ROWS: Any
    COLUMNS: Any
    CHANNELS: Any
    CHANNELS_LAST: Any  # lanes lie along channels, else along columns
    DOUBLE: Any  # sums are taken in float64, else in float32
    WIDE: Any  # offsets within a tile can pass 2^31 elements; those of its corner always may
