"""Backend "numba": Eq. 2 and DDF-Up on the CPU, forward and one fused backward, without a C++ compiler.

This file is the host's side: it picks the kernel of the layout, plans blocks and scratch, and splits the work items over
`torch.get_num_threads()` threads. The kernels are in `numba_nchw.py` and `numba_channels_last.py`, the vector loops that
both share in `numba_simd.py`. numba is imported at the first call, compiled kernels are kept on disk.

Blocks follow from the shapes alone and sums over them are taken in one order, so results do not depend on the number of
threads. Beside the results, memory is each thread's scratch (two staged blocks) and, for the channel filter's gradient,
one (phases, K, C) sum per block.
"""

import importlib.util
import sys
import zlib
from array import array
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.ddf import numba_threads
from ddfnet.ops.ddf.checks import Geometry

_CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_SERIAL_BELOW = 200_000  # multiply-adds of a call that are not worth a second thread
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def unsupported(x: Tensor, g: Geometry) -> str | None:
    """Why this kernel can't serve the call, or None."""
    if x.device.type != "cpu":
        return f"it runs on the CPU, x is on {x.device.type}"
    return _missing()


@cache
def _missing() -> str | None:
    if sys.byteorder != "little":
        return "it needs a little-endian machine"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'ddfnet[cpu]'"
    return None


def ddf_forward(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry) -> Tensor:
    y = torch.empty(g.out_shape, dtype=x.dtype, memory_format=g.memory_format)
    if not y.numel():
        return y
    channels_last = g.memory_format == torch.channels_last
    if channels_last:
        x = _unit_channels(x)
    has = (channel_filter is not None, spatial_filter is not None)
    kernel = _kernel("channels_last" if channels_last else "nchw", "forward", _CODES[x.dtype], g.combine, *has)
    plan = _Plan(x, y, channel_filter, spatial_filter, g, channels_last, backward=False)
    plan.run(kernel, plan.batch_items)
    return y


def ddf_backward(
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    g: Geometry,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    inputs = (x, channel_filter, spatial_filter)
    grads = [torch.empty_like(t) if needed and t is not None else None for t, needed in zip(inputs, needs, strict=True)]
    needs_x, needs_channel, needs_spatial = (grad is not None for grad in grads)
    if not any((needs_x, needs_channel, needs_spatial)) or not x.numel():
        return grads[0], grads[1], grads[2]
    channels_last = g.memory_format == torch.channels_last
    grad_x = grads[0]
    if channels_last:
        x, grad_output = _unit_channels(x), _unit_channels(grad_output)
        if grad_x is not None and grad_x.stride(1) != 1:
            grad_x = torch.empty_like(x)
    has = (channel_filter is not None, spatial_filter is not None)
    layout, code = "channels_last" if channels_last else "nchw", _CODES[x.dtype]
    chunk = g.taps if g.kernel_size <= 3 else g.kernel_size if g.kernel_size <= 7 else 1
    kernel = _kernel(layout, "backward", code, g.combine, *has, needs_x, needs_channel, needs_spatial, chunk)
    plan = _Plan(x, grad_output, channel_filter, spatial_filter, g, channels_last, True, grad_x, grads[1], grads[2])
    plan.run(kernel, plan.batch_items)
    if needs_channel:
        plan.run(_kernel("channels_last", "reduce", code), g.batch)
    if grads[0] is not None and grad_x is not None and grad_x is not grads[0]:
        grads[0].copy_(grad_x)
    return grads[0], grads[1], grads[2]


def _unit_channels(t: Tensor) -> Tensor:
    """(B, C, H, W) with neighbouring channels side by side; a copy where they are not."""
    return t if t.stride(1) == 1 else t.contiguous(memory_format=torch.channels_last)


@cache
def _kernel(layout: str, name: str, code: int, *options: Any) -> Any:
    """The compiled kernel, called with the addresses of a `Call` and of scratch and a range of work items."""
    from ddfnet.ops.ddf import numba_channels_last, numba_nchw
    from ddfnet.ops.ddf.numba_call import CTYPE

    module = numba_channels_last if layout == "channels_last" else numba_nchw
    options = tuple({"mul": 0, "add": 1}.get(option, option) for option in options)
    compiled = getattr(module, f"make_{name}")(code, *options, _source())
    return CTYPE(compiled.address), compiled


@cache
def _source() -> int:
    """A number that changes with the kernels' source: numba's disk cache looks at one file of several."""
    here = Path(__file__).parent
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(here.glob("numba_*.py"))))


class _Plan:
    """Blocks, scratch and the `Call` of one call."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        channel_filter: Tensor | None,
        spatial_filter: Tensor | None,
        g: Geometry,
        channels_last: bool,
        backward: bool,
        grad_x: Tensor | None = None,
        grad_channel: Tensor | None = None,
        grad_spatial: Tensor | None = None,
    ) -> None:
        from ddfnet.ops.ddf.numba_call import Call

        self.g = g
        rows, columns = g.grid
        size = 8 if x.dtype == torch.float64 else 4
        r, taps, stride = g.scale_factor, g.taps, g.stride
        phases = channel_filter.shape[1] if channel_filter is not None and channel_filter.dim() == 5 else 1
        entries = taps * r * r
        reach = (g.kernel_size - 1) * g.dilation // stride
        halo = (g.padding + stride - 1) // stride
        pitch = lanes = plane = grad_plane = 0
        if channels_last:
            block = max(1, min(rows, rows * g.batch // 16, 8))
            sections = {
                "sources": entries * 8,
                "vectors": entries * 8,
                "scalars": entries * size,
                "sums": entries * size,
                "filters": phases * taps * g.channels * size,
                "planes": g.channels * size,
            }
        else:
            pitch = max(g.width + g.padding if stride == 1 else columns + reach, columns + halo if backward else 0)
            block = max(1, min(rows, 512 // (r * r * pitch)))
            lanes = -(-block * pitch // 16) * 16
            plane = -(-((block + reach + 1) * pitch + reach + 32) // 16) * 16
            grad_plane = -(-((block + 2 * halo + 1) * pitch + halo + 32) // 16) * 16
            staged = entries * lanes * size
            sections = {
                "sources": entries * 8,
                "x_sources": entries * 8,
                "vectors": entries * 8,
                "scalars": entries * size,
                "grad_scalars": entries * size,
                "grad_vectors": entries * 8,
                "sums": entries * size,
                "filters": staged,
                "shifted": staged if backward else 0,
                "grad_filters": staged if backward else 0,
                "planes": stride * stride * plane * size,
                "grad_planes": r * r * grad_plane * size if backward else 0,
                "result": lanes * size,
            }
        blocks = -(-rows // block)
        self.batch_items = g.batch * blocks
        partial = None
        if grad_channel is not None:
            partial = torch.empty(self.batch_items * phases * taps * g.channels * size, dtype=torch.uint8)
        offset, offsets = 0, {}
        for name, length in sections.items():
            offsets[name] = offset
            offset += -(-length // 64) * 64
        self.scratch_size = offset
        self.kept = (x, y, channel_filter, spatial_filter, grad_x, grad_channel, grad_spatial, partial)
        call = Call(
            batch=g.batch,
            channels=g.channels,
            height=g.height,
            width=g.width,
            rows=rows,
            columns=columns,
            heads=g.heads,
            kernel_size=g.kernel_size,
            stride=stride,
            dilation=g.dilation,
            scale=r,
            block=block,
            blocks=blocks,
            **_places("x", x, "bchw"),
            **_places("y", y, "bchw"),
            **_places("channel", channel_filter, "bpcuv"),
            phases=phases,
            **_places("spatial", spatial_filter, "bgthw"),
            **_places("grad_x", grad_x, "bchw"),
            **_places("grad_channel", grad_channel, "bpcuv"),
            **_places("grad_spatial", grad_spatial, "bgthw"),
            partial=0 if partial is None else partial.data_ptr(),
            **{name: offsets.get(name, 0) for name in _SECTIONS},
            pitch=pitch,
            lanes=lanes,
            plane=plane,
            grad_plane=grad_plane,
        )
        self.call = array("q", call)

    def run(self, kernel: Any, items: int) -> None:
        function, _ = kernel
        g = self.g
        work = g.batch * g.channels * g.out_height * g.out_width * g.taps
        shares = 1 if work < _SERIAL_BELOW else min(items, torch.get_num_threads())
        size = self.scratch_size
        scratch = torch.empty(size * shares + 64, dtype=torch.uint8)
        base = -(-scratch.data_ptr() // 64) * 64
        call, _ = self.call.buffer_info()

        def share(index: int) -> None:
            function(call, base + index * size, items * index // shares, items * (index + 1) // shares)

        numba_threads.run(share, shares)


_SECTIONS = (
    "sources",
    "x_sources",
    "vectors",
    "scalars",
    "grad_scalars",
    "grad_vectors",
    "sums",
    "filters",
    "shifted",
    "grad_filters",
    "planes",
    "grad_planes",
    "result",
)


def _places(name: str, t: Tensor | None, axes: str) -> dict[str, int]:
    """Address and byte strides of a tensor; a 4-D filter has stride 0 along the axis it lacks."""
    if t is None:
        return {name: 0, **{f"{name}_{axis}": 0 for axis in axes}}
    size = t.element_size()
    strides = [stride * size for stride in t.stride()]
    if len(strides) < len(axes):
        strides.insert(1, 0)
    return {name: t.data_ptr(), **{f"{name}_{axis}": stride for axis, stride in zip(axes, strides, strict=True)}}
