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


class DifferentiatedMap(NamedTuple):
    """A `Map` and its gradient, whose address is None if nobody asks for it."""

    address: Any
    b: int
    c: int
    h: int
    w: int
    grad: Any
    grad_b: int
    grad_c: int
    grad_h: int
    grad_w: int


class DifferentiatedChannelFilter(NamedTuple):
    """A `ChannelFilter` and its gradient, or partial sums of the gradient `grad_n` elements apart."""

    address: Any
    b: int
    p: int
    c: int
    u: int
    v: int
    grad: Any
    grad_n: int
    grad_b: int
    grad_p: int
    grad_c: int
    grad_u: int
    grad_v: int


class DifferentiatedSpatialFilter(NamedTuple):
    """A `SpatialFilter` and its gradient, or partial sums of the gradient `grad_n` elements apart."""

    address: Any
    b: int
    g: int
    t: int
    h: int
    w: int
    grad: Any
    grad_n: int
    grad_b: int
    grad_g: int
    grad_t: int
    grad_h: int
    grad_w: int


class Tile(NamedTuple):
    """The part of the output that a program computes."""

    row: Any  # the first
    row_phase: Any  # of the output, with a scale factor
    q: Any  # (COLUMNS, 1): columns
    c: Any  # (1, CHANNELS): channels within the head
    in_row: Any  # masks of q and c
    in_head: Any
    rows: Any  # of the grid on which filters are centred
    height: Any  # of x
    width: Any


class Patch(NamedTuple):
    """The part of x that a program of the backward pass computes in one step."""

    index: Any  # of its ROWS rows among all such
    lanes: Any  # (COLUMNS, 1): groups of STRIDE columns
    c: Any  # (1, CHANNELS): channels within the head
    in_head: Any  # mask of c
    rows: Any  # of the grid on which filters are centred
    height: Any  # of x
    width: Any


class Place(NamedTuple):
    """Where a program of the backward pass works."""

    b: Any  # sample
    head: Any
    part: Any  # of the channel filter's partial sums
    block: Any  # of channels: part of the spatial filter's partial sums
    lanes: Any


class Tensors(NamedTuple):
    """All that a program of the backward pass reads and writes, from its sample and head on.

    Filters' gradients may be partial sums. Addresses of grad_y and of the spatial filter are those of the patch's lanes.
    """

    x: Any
    channel: Any
    spatial: Any
    grad_y: Any
    grad_x: Any
    grad_channel: Any
    grad_spatial: Any


class Columns(NamedTuple):
    """The columns of a patch with one remainder modulo STRIDE, and the phase of the output that is read with them."""

    inside: Any  # mask of the columns that lie in x
    pixels: Any  # of x, a block for each row
    row_phase: Any
    column_phase: Any


class Taps(NamedTuple):
    """The filters' taps that lie in registers: tuples, empty where taps are loaded when they are used."""

    channel: Any  # K * K
    spatial: Any  # K * K for each row of the patch
    address: Any  # of the phase's channel filters


class Spot(NamedTuple):
    """Pixels of the output, and those of x that one of their taps lies on."""

    grad: Any  # of the output pixels
    x: Any
    row: Any  # of the output
    column: Any  # of the output, relative to the patch's lanes
    inside: Any  # mask of the columns that both lie in their map


class Sums(NamedTuple):
    """What a program of the backward pass has added up: tuples of registers, empty where nobody asks for the gradient.

    Sums over the lanes of a warp are packed: each lies in a lane of its own. That takes one store where there were K * K,
    and as many registers fewer.
    """

    x: Any  # (COLUMNS, CHANNELS) for each row of the patch
    channel: Any  # (COLUMNS, CHANNELS) for each tap
    spatial: Any  # (COLUMNS, 1) for each tap on each row of the patch
    packed: Any  # of the channel filter with ALONG_CHANNELS, of the spatial one with CHANNELS_LAST


class KernelOptions(NamedTuple):
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
    ALONG_CHANNELS: Any  # a program of the backward pass walks through the channels of its head
    DOUBLE: Any  # sums are taken in float64, else in float32
    WIDE: Any  # offsets within a tile can pass 2^31 elements; those of its corner always may
