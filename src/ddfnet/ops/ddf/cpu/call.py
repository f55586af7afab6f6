"""The record that the host passes to a CPU kernel: sizes, addresses, byte strides and where each piece of scratch begins.

Every kernel has the one signature `kernel(call)`, the address of these numbers, which is what OpenMP's threads can be
given. It takes a part of the scratch for itself, then one work item after another until none is left, both by counting
up numbers that all threads see; so any number of threads can call it at once, and one that is held up does less.
"""

from typing import NamedTuple

from ddfnet.ops.cpu.vectors import compute_code, element_size


class Options(NamedTuple):
    """The numbers known when a kernel is compiled; each combination makes another kernel."""

    code: int  # of the elements
    combine: int
    has_channel: int
    has_spatial: int
    k: int  # the kernel size, or 0 for any
    step: int  # channels_last: 1 where neighbouring pixels' taps overlap (stride and dilation 1), else k
    items: int  # pixels (NCHW: channels) of a tile; 1 where k = 0
    planar: int = 0  # channels_last: x and y are NCHW; a work item transposes what it needs of them, in scratch
    needs_x: int = 0
    needs_channel: int = 0
    needs_spatial: int = 0
    plain: int = 0  # the gradient of x is Eq. 2 with the filters of the pixels around; stride and scale factor are 1

    @property
    def computed(self) -> int:
        """The element code of sums."""
        return compute_code(self.code)

    @property
    def element(self) -> int:
        """Bytes of an element."""
        return element_size(self.code)

    @property
    def size(self) -> int:
        """Bytes of a sum."""
        return element_size(self.computed)


class Call(NamedTuple):
    """Sizes in elements, strides in bytes; an address is 0 where there is no such tensor."""

    batch: int
    channels: int
    height: int
    width: int
    rows: int  # of the grid of input pixels on which filters are centred
    columns: int
    heads: int
    kernel_size: int
    stride: int
    dilation: int
    padding: int
    scale: int
    block: int  # grid rows of a work item
    blocks: int  # work items of a sample
    x: int
    x_b: int
    x_c: int
    x_h: int
    x_w: int
    y: int  # the output, or its gradient
    y_b: int
    y_c: int
    y_h: int
    y_w: int
    channel: int  # channel_filter (B, phases, C, k, k)
    channel_b: int
    channel_p: int
    channel_c: int
    channel_u: int
    channel_v: int
    phases: int  # channel filters of a channel: r*r, or 1 where they are shared
    spatial: int  # spatial_filter (B, G, K, P, Q)
    spatial_b: int
    spatial_g: int
    spatial_t: int
    spatial_h: int
    spatial_w: int
    grad_x: int
    grad_x_b: int
    grad_x_c: int
    grad_x_h: int
    grad_x_w: int
    grad_channel: int
    grad_channel_b: int
    grad_channel_p: int
    grad_channel_c: int
    grad_channel_u: int
    grad_channel_v: int
    grad_spatial: int
    grad_spatial_b: int
    grad_spatial_g: int
    grad_spatial_t: int
    grad_spatial_h: int
    grad_spatial_w: int
    partial: int  # per work item, the channel filter's gradient of that item
    threads_begun: int  # addresses of numbers that threads count up; 0 at the start
    items_begun: int
    sums_begun: int  # of the channel filter's gradient
    items: int
    scratch: int  # address of the first thread's
    scratch_bytes: int  # of a thread
    # Offsets into a thread's scratch, in bytes.
    sources: int  # table of addresses, one per tap
    x_sources: int
    vectors: int
    scalars: int  # table of scalar filters
    grad_scalars: int
    grad_vectors: int
    sums: int
    filters: int
    shifted: int
    grad_filters: int
    planes: int
    grad_planes: int
    result: int
    grads: int  # table of the addresses of a tile's output gradients
    outs: int  # table of the addresses of a tile's results
    windows: int  # NCHW: table of the parts of x to stage
    x_rows: int  # channels_last: the rows of NCHW tensors that a work item needs, transposed
    y_rows: int
    grad_x_rows: int
    pixel: int  # bytes of a transposed pixel
    row_scalars: int  # channels_last: bytes of the scalars of a row of pixels
    group: int  # NCHW: tiles staged at once
    # Sizes of staged planes, in lanes.
    pitch: int  # from one staged row to the next
    lanes: int  # of a block
    plane: int
    grad_plane: int
