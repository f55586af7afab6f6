"""Backend "numba": Eq. 2 and DDF-Up on the CPU, forward and one fused backward, without a C++ compiler.

This file is the host's side: it picks the kernel of the layout, plans blocks and scratch, and splits the work items over
`torch.get_num_threads()` threads. The kernels are in `nchw.py` and `channels_last.py`, the vector loops that
both share in `loops.py`. numba is imported at the first call, and compiled kernels are kept on disk.

Blocks follow from the shapes alone and sums over them are taken in one order, so results do not depend on the number of
threads. Beside the results, memory is each thread's scratch and, for the channel filter's gradient, one (phases, K, C)
sum per block. Small calls are mostly host work, so all that follows from shapes and strides is planned once and kept.

Taps outside the image read zeros. They contribute nothing as long as their filter is finite; where it is infinite or NaN,
the result is NaN. The backends "torch" and "reference" leave these taps out.
"""

from array import array
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.cpu import threads
from ddfnet.ops.cpu.available import DTYPE_CODES, missing
from ddfnet.ops.cpu.huge_pages import advise
from ddfnet.ops.cpu.plan import Plan, scratch_offsets
from ddfnet.ops.cpu.sources import source_version
from ddfnet.ops.ddf.geometry import Geometry
from ddfnet.ops.ddf.valid import gradients_by_same

_UNROLLED = 7  # the largest kernel whose taps are written out: compiling more takes long
_NCHW_TILE = 2  # channels, which share each load of a spatial filter
_TILES = (7, 4)  # channels_last: pixels done together; the first (NCHW: the last) of those that lack the fewest
_SERIAL_BELOW = 200_000  # multiply-adds that are not worth a second thread
_BLOCK_LANES = 1024  # of a staged block in NCHW, large enough for long reads, small enough for the second-level cache
_GROUP_LANES = 2048  # of channels staged together: loads of what was just stored wait, unless other work lies between
_VECTOR_BYTES = 64  # of channels in a head, or NCHW is served as it is
_TRANSPOSED_BYTES = 2**20  # of NCHW rows that a thread holds transposed, to fit a second-level cache
_TENSORS = ("x", "y", "channel", "spatial", "grad_x", "grad_channel", "grad_spatial")
_COUNTERS = ("threads_begun", "items_begun", "sums_begun")
_AXES = ("bchw", "bchw", "bpcuv", "bgthw", "bchw", "bpcuv", "bgthw")
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
Strides = tuple[int, ...] | None


def unsupported(x: Tensor, g: Geometry) -> str | None:
    """Return why this kernel can't serve the call, or None."""
    if x.device.type != "cpu":
        return f"it runs on the CPU, x is on {x.device.type}"
    return missing()


def ddf_forward(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry) -> Tensor:
    y = advise(torch.empty(g.out_shape, dtype=x.dtype, device=x.device, memory_format=g.memory_format))
    if y.numel():
        if g.memory_format == torch.channels_last:
            x = _unit_channels(x)
        tensors = (x, y, channel_filter, spatial_filter, None, None, None)
        _plan(g, x.dtype, False, *(None if t is None else t.stride() for t in tensors)).run(tensors)
    return y


def ddf_backward(
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    g: Geometry,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    if not g.keeps_size:
        return gradients_by_same(ddf_backward, grad_output, x, channel_filter, spatial_filter, g, needs)
    inputs = (x, channel_filter, spatial_filter)
    grads = [
        advise(torch.empty_like(t)) if needed and t is not None else None
        for t, needed in zip(inputs, needs, strict=True)
    ]
    grad_x, grad_channel, grad_spatial = grads
    if not x.numel() or (grad_x is None and grad_channel is None and grad_spatial is None):
        return grad_x, grad_channel, grad_spatial
    out = grad_x
    if g.memory_format == torch.channels_last:
        x, grad_output = _unit_channels(x), _unit_channels(grad_output)
        if grad_x is not None and grad_x.stride(1) != 1:
            out = torch.empty_like(x)
    tensors = (x, grad_output, channel_filter, spatial_filter, out, grad_channel, grad_spatial)
    _plan(g, x.dtype, True, *(None if t is None else t.stride() for t in tensors)).run(tensors)
    if grad_x is not None and out is not None and out is not grad_x:
        grad_x.copy_(out)
    return grad_x, grad_channel, grad_spatial


def _unit_channels(t: Tensor) -> Tensor:
    """Return (B, C, H, W) with neighbouring channels side by side; a copy if they are not."""
    return t if t.stride(1) == 1 else t.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=1024)
def _plan(g: Geometry, dtype: torch.dtype, backward: bool, *strides: Strides) -> Plan:
    from ddfnet.ops.ddf.cpu.call import Call

    farthest = max(g.height, g.width)  # a tap that reaches so far is outside, and scratch grows with the reach
    dilation = min(g.dilation, farthest)
    padding = g.kernel_size // 2 * dilation if g.keeps_size else g.padding
    g = g._replace(stride=min(g.stride, farthest), dilation=dilation, padding=padding)
    phases = g.scale_factor**2 if strides[2] is not None and len(strides[2]) == 5 else 1
    size = 8 if dtype == torch.float64 else 4
    planar = g.memory_format != torch.channels_last
    channels_last = not planar or _is_worth_transposing(g, size, backward, *(strides[i] for i in (0, 1, 4)))
    options = _options(g, dtype, backward, planar, strides)
    if channels_last:
        sizes, sections = _plan_channels_last(g, phases, size, backward, options["items"], planar)
    else:
        options |= {"step": options["k"], "items": _NCHW_TILE if options["k"] else 1, "planar": 0}
        sizes, sections = _plan_nchw(g, size, backward)
    fields = {**_sizes(g), "phases": phases, "blocks": -(-g.grid[0] // sizes["block"]), **sizes}
    fields["items"] = g.batch * fields["blocks"]
    for tensor, axes, stride in zip(_TENSORS, _AXES, strides, strict=True):
        if stride is not None:
            filled = stride if len(stride) == len(axes) else (stride[0], 0, *stride[1:])
            fields |= {f"{tensor}_{axis}": step * dtype.itemsize for axis, step in zip(axes, filled, strict=True)}
    fields |= scratch_offsets(sections)
    layout, name = "channels_last" if channels_last else "nchw", "backward" if backward else "forward"
    kernels, partial_bytes = [_kernel(layout, name, **options)], 0
    if strides[5] is not None:
        kernels.append(_kernel("channels_last", "reduce", code=options["code"]))
        partial_bytes = fields["items"] * phases * g.taps * fields["pixel"]
    return Plan(
        kernels=tuple(kernels),
        call=array("q", [fields.get(field, 0) for field in Call._fields] + [0] * len(_COUNTERS)),
        tensors=tuple(Call._fields.index(tensor) for tensor in _TENSORS),
        counters=tuple(Call._fields.index(counter) for counter in _COUNTERS),
        partial=Call._fields.index("partial"),
        scratch=Call._fields.index("scratch"),
        partial_bytes=-(-partial_bytes // 64) * 64,
        scratch_bytes=fields["scratch_bytes"],
        serial=g.batch * g.channels * g.out_height * g.out_width * g.taps < _SERIAL_BELOW,
    )


def _options(
    g: Geometry, dtype: torch.dtype, backward: bool, planar: bool, strides: tuple[Strides, ...]
) -> dict[str, int]:
    """Return the fields of an `Options` for the kernels of channels_last."""
    unrolls = g.kernel_size <= _UNROLLED
    k = g.kernel_size if backward or unrolls else 0
    tiles = _TILES[::-1] if planar else _TILES
    needs = [backward and stride is not None for stride in strides[4:]]
    options = {
        "code": DTYPE_CODES[dtype],
        "combine": 0 if g.combine == "mul" else 1,
        "has_channel": strides[2] is not None,
        "has_spatial": strides[3] is not None,
        "k": k,
        "step": 1 if g.stride == 1 and g.dilation == 1 else k,
        "items": min(tiles, key=lambda tile: -g.grid[1] % tile) if k else 1,
        "planar": planar,
        **dict(zip(("needs_x", "needs_channel", "needs_spatial"), needs, strict=True)),
        "plain": backward and unrolls and g.stride == 1 and g.scale_factor == 1,
    }
    return {name: int(value) for name, value in options.items()}


def _sizes(g: Geometry) -> dict[str, int]:
    """Return the fields of a `Call` that every kernel reads."""
    rows, columns = g.grid
    return {
        "batch": g.batch,
        "channels": g.channels,
        "height": g.height,
        "width": g.width,
        "rows": rows,
        "columns": columns,
        "heads": g.heads,
        "kernel_size": g.kernel_size,
        "stride": g.stride,
        "dilation": g.dilation,
        "padding": g.padding,
        "scale": g.scale_factor,
    }


def _is_worth_transposing(g: Geometry, size: int, backward: bool, *strides: Strides) -> bool:
    """True if NCHW tensors go through the channels_last kernels: with channels for whole vectors, and rows that fit."""
    if g.stride > 1 or any(stride is not None and stride[3] != 1 for stride in strides):
        return False
    least = min(g.grid[0], max(1, g.reach // g.stride))  # no more rows around than within
    fits = sum(_transposed_bytes(g, size, backward, least).values()) <= _TRANSPOSED_BYTES
    return g.channels // g.heads * size >= _VECTOR_BYTES and fits


def _transposed_bytes(g: Geometry, size: int, backward: bool, block: int) -> dict[str, int]:
    """Return the bytes of the transposed rows that a work item of `block` grid rows has."""
    rows, columns = g.grid
    reach, halo = g.reach, (g.padding + g.stride - 1) // g.stride if backward else 0
    x_rows = min(g.height, (block - 1) * g.stride + reach + 1)
    y_rows = min(rows, block + 2 * halo) * g.scale_factor
    pixels = {"x_rows": x_rows * g.width, "y_rows": y_rows * columns * g.scale_factor}
    if backward:
        pixels["grad_x_rows"] = min(g.height, block * g.stride) * g.width
    return {name: count * _pixel(g, size) for name, count in pixels.items()}


def _pixel(g: Geometry, size: int) -> int:
    """Return the bytes of a transposed pixel: an odd number of cache lines, so that neighbours lie in other cache sets."""
    return (-(-g.channels * size // 64) | 1) * 64


def _plan_channels_last(
    g: Geometry, phases: int, size: int, backward: bool, items: int, planar: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the sizes of a `Call`, and the bytes of each section of a thread's scratch."""
    rows, columns = g.grid
    entries = g.taps * g.scale_factor**2
    tiled = max(columns, g.width) + max(_TILES)  # pixels of a row, in whole tiles
    row_scalars = tiled * entries * size
    block = max(1, min(rows, rows * g.batch // 16, 8))
    sections = {
        "sources": tiled * entries * 8,
        "vectors": entries * 8,
        "grads": max(_TILES) * 8,
        "outs": items * 8,
        "scalars": g.heads * row_scalars,
        "sums": g.heads * row_scalars if backward else 0,
        "filters": phases * g.taps * _pixel(g, size),
        "planes": _pixel(g, size),
        "result": _pixel(g, size),
    }
    if planar:
        while block > 1 and sum(_transposed_bytes(g, size, backward, block).values()) > _TRANSPOSED_BYTES:
            block -= 1
        sections |= _transposed_bytes(g, size, backward, block)
    return {"block": block, "row_scalars": row_scalars, "pixel": _pixel(g, size)}, sections


def _plan_nchw(g: Geometry, size: int, backward: bool) -> tuple[dict[str, int], dict[str, int]]:
    """Return the same as `_plan_channels_last`."""
    rows, columns = g.grid
    stride, phases = g.stride, g.scale_factor**2
    entries = g.taps * phases
    reach = g.reach // stride  # of the taps, in rows of a staged plane
    halo = (g.padding + stride - 1) // stride
    pitch = max(g.width + g.padding if stride == 1 else columns + reach, columns + halo if backward else 0)
    block = max(1, min(rows, _BLOCK_LANES // (phases * pitch), -(-rows * g.batch // 8)))
    lanes = -(-block * pitch // 16) * 16
    group = max(1, min(4, _GROUP_LANES // (2 * phases * lanes)))
    channels = 2 * group
    plane = -(-((block + reach + 1) * pitch + reach + 32) // 16) * 16
    grad_plane = -(-((block + 2 * halo + 1) * pitch + halo + 32) // 16) * 16
    staged = entries * lanes * size
    sections = {
        "sources": 2 * entries * 8,
        "x_sources": 2 * entries * 8,
        "vectors": entries * 8,
        "grads": 2 * 8,
        "windows": min(stride, g.reach + 1) ** 2 * 32,
        "outs": 2 * 8,
        "scalars": 2 * entries * size,
        "grad_scalars": 2 * entries * size,
        "grad_vectors": entries * 8,
        "sums": 2 * entries * size,
        "filters": staged,
        "shifted": staged if backward else 0,
        "grad_filters": staged if backward else 0,
        "planes": channels * stride * stride * plane * size,
        "grad_planes": channels * phases * grad_plane * size if backward else 0,
        "result": channels * phases * lanes * size,
    }
    sizes = {"block": block, "group": group, "pitch": pitch, "lanes": lanes, "plane": plane, "grad_plane": grad_plane}
    sizes["pixel"] = g.channels * size
    return sizes, sections


@cache
def _version() -> int:
    """Of the kernels' sources as they are when the first is compiled; a package can be upgraded under a process."""
    return source_version(files("ddfnet.ops.ddf.cpu"), files("ddfnet.ops.cpu"))


@cache
def _kernel(layout: str, name: str, **options: int) -> Any:
    """Return the compiled kernel, called with the address of a `Call`; `options` are the fields of an `Options`."""
    from ddfnet.ops.cpu.compiling import compile_kernel
    from ddfnet.ops.ddf.cpu import channels_last, nchw
    from ddfnet.ops.ddf.cpu.call import Call, Options

    make = getattr(channels_last if layout == "channels_last" else nchw, f"make_{name}")
    values = tuple(Options(**options)) if name != "reduce" else tuple(options.values())
    compiled = compile_kernel(make, values, Call, _version())
    return threads.Kernel(compiled, compiled.address)
