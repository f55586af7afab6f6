"""The filter prediction on the CPU: the host's side of `kernels.py`.

A work item predicts the spatial filters of some rows, normalises them and adds up what the average pooling needs while the
rows are near; PyTorch's operations read memory eight times for that. The products of a few samples with the channel
branch's matrices, for which PyTorch's have too few rows, are made lane by lane. As in
`ops/ddf/cpu/backend.py`, numba is imported at the first call, work items follow from the shapes alone, and sums over
them are taken in one order, so results do not depend on the number of threads.
"""

from array import array
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops import filter_norm
from ddfnet.ops.cpu import threads
from ddfnet.ops.cpu.available import DTYPE_CODES, missing
from ddfnet.ops.cpu.huge_pages import advise
from ddfnet.ops.cpu.plan import Plan, scratch_offsets
from ddfnet.ops.cpu.sources import source_version
from ddfnet.ops.ddf.geometry import memory_format_of
from ddfnet.ops.filters.outputs import Options, Outputs, outputs

_CHANNELS = 32  # of a work item
_ITEMS = 32  # of a call, about
_RUN = 1024  # pixels of one in NCHW, whose raw filters stay near
_SERIAL_BELOW = 200_000  # multiply-adds that are not worth a second thread
_POINTERS = (
    *("x", "channel", "spatial", "pooled_out", "hidden_out", "channel_unit", "channel_std", "spatial_std", "scale"),
    *("weight", "bias", "squeeze_weight", "squeeze_bias", "channel_weight", "channel_bias", "channel_scale"),
)
_COUNTERS = ("threads_begun", "items_begun", "channel_threads_begun", "channel_items_begun")


def unsupported(x: Tensor) -> str | None:
    """Return why these kernels can't predict filters from `x`, or None."""
    if x.device.type != "cpu":
        return f"it runs on the CPU, x is on {x.device.type}"
    if x.dtype not in DTYPE_CODES:
        return f"it takes floats, x is {str(x.dtype).removeprefix('torch.')}"
    return missing()


def predict(
    x: Tensor,
    spatial: tuple[Tensor, Tensor] | None,
    channel: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None,
    options: Options,
) -> Outputs:
    """Return both kinds of filters of `x`; arguments are as those of `ops/filters/gpu/backend.py: predict`."""
    squeezed, filters = (channel[0].shape[0], channel[2].shape[0] // options.taps) if channel else (None, 0)
    out = outputs(x, spatial is not None, squeezed, filters, options)
    if x.numel():
        planar = memory_format_of(x) != torch.channels_last
        if x.stride(3 if planar else 1) != 1:
            x = x.contiguous(memory_format=memory_format_of(x))
        if spatial is not None:
            advise(out.spatial_filter)
        plan, scale = _plan(tuple(x.shape), x.stride(), planar, x.dtype, options, squeezed or 0, spatial is not None)
        weights = (*(spatial or (None,) * 2), *(channel or (None,) * 5))
        plan.run((x, *out, scale, *(None if t is None else t.to(scale.dtype).contiguous() for t in weights)))
    return out


def norm_backward(
    grad: Tensor, unit: Tensor, std: Tensor, scale: Tensor | None, fixed_scale: float
) -> tuple[Tensor, Tensor]:
    """Compute what `norm_backward` of `ops/filters/gpu/backend.py` does, by the formula of `norm_backward_kernel` there."""
    std, h, u = std.unsqueeze(2), grad.to(std.dtype), unit.to(std.dtype)
    grad_scale = unit.new_empty(0)
    if scale is None:
        u, h = u / fixed_scale, h * fixed_scale
    else:
        grad_scale, h = h * u, h * scale.to(h.dtype).view(u.shape[1:])
    along = (h * u).sum(2, keepdim=True) / ((u.shape[2] - 1) * std)
    raw = h / (std + filter_norm.EPS) - u * along
    return (raw - raw.mean(2, keepdim=True)).to(grad.dtype), grad_scale


@lru_cache(maxsize=1024)
def _plan(
    shape: tuple[int, int, int, int],
    strides: tuple[int, int, int, int],
    planar: bool,
    dtype: torch.dtype,
    o: Options,
    squeezed: int,
    has_spatial: bool,
) -> tuple[Plan, Tensor]:
    """Plan a call; also return the scale of each tap of a spatial filter."""
    from ddfnet.ops.filters.cpu.kernels import SAMPLES, FilterCall

    batch, channels = shape[:2]
    element = dtype.itemsize
    computed = torch.promote_types(dtype, torch.float32)
    size = computed.itemsize
    fields = _sizes(shape, planar, o)
    rows, columns, block, filters = fields["rows"], fields["columns"], fields["block"], o.heads * o.taps
    raw_pitch = -(-(block if planar else 1) * columns * size // 64) * 64
    partial_bytes = -(-channels * size // 64) * 64 if squeezed else 0
    spatial_steps = (rows * columns, columns, 1) if planar else (1, columns * filters, filters)
    sections = {
        "raw": max(filters * raw_pitch if has_spatial else 0, _CHANNELS * o.taps * SAMPLES * size),
        "stds": max(raw_pitch, _CHANNELS * SAMPLES * size),
        "staging": channels * block * columns * element if planar and has_spatial and o.stride > 1 else 0,
        "filters": _CHANNELS * o.taps * SAMPLES * size,
        "sums": SAMPLES * channels * size,
        "pooled": SAMPLES * channels * size,
        "hidden": SAMPLES * squeezed * size,
    }
    fields |= {
        "squeezed": squeezed,
        "channel_items": -(-batch // SAMPLES) * fields["channel_blocks"],
        **{f"x_{axis}": step * element for axis, step in zip("bchw", strides, strict=True)},
        "spatial_b": rows * columns * filters * element,
        **{f"spatial_{axis}": step * element for axis, step in zip("thw", spatial_steps, strict=True)},
        "partial_bytes": partial_bytes,
        "raw_pitch": raw_pitch,
        **scratch_offsets(sections),
    }
    code, index = DTYPE_CODES[dtype], FilterCall._fields.index
    group = o.taps if o.kernel_size == 3 else o.kernel_size
    kernel = _kernel("spatial", code, group, has_spatial, bool(squeezed), planar, o.stride == 1)
    plan = Plan(
        kernels=(kernel, _kernel("channel", code, group)) if squeezed else (kernel,),
        call=array("q", [fields.get(field, 0) for field in FilterCall._fields] + [0] * len(_COUNTERS)),
        tensors=tuple(map(index, _POINTERS)),
        counters=tuple(map(index, _COUNTERS)),
        partial=index("partial"),
        scratch=index("scratch"),
        partial_bytes=fields["items"] * partial_bytes,
        scratch_bytes=fields["scratch_bytes"],
        serial=batch * channels * rows * columns * filters < _SERIAL_BELOW,
    )
    return plan, torch.full((o.taps,), o.spatial_scale, dtype=computed, device="cpu")


def _sizes(shape: tuple[int, int, int, int], planar: bool, o: Options) -> dict[str, int]:
    """Return the fields of a `FilterCall` that follow from the shape of x and the options."""
    batch, channels, height, width = shape
    rows, columns = -(-height // o.stride), -(-width // o.stride)
    block = min(rows, max(1, rows * batch // _ITEMS))
    if planar:
        block = min(block, max(1, _RUN // columns))
    blocks = -(-rows // block)
    return {
        "batch": batch,
        "channels": channels,
        "height": height,
        "width": width,
        "rows": rows,
        "columns": columns,
        "heads": o.heads,
        "taps": o.taps,
        "stride": o.stride,
        "block": block,
        "blocks": blocks,
        "items": batch * blocks,
        "channel_block": _CHANNELS,
        "channel_blocks": -(-channels // _CHANNELS),
    }


@cache
def _version() -> int:
    """As in `ops/ddf/cpu/backend.py`."""
    return source_version(
        files("ddfnet.ops.filters.cpu"), files("ddfnet.ops") / "filter_norm.py", files("ddfnet.ops.cpu")
    )


@cache
def _kernel(name: str, *options: int) -> Any:
    """Return the compiled kernel, called with the address of a `FilterCall`; `options` are the fields of an `Options`."""
    from ddfnet.ops.cpu.compiling import compile_kernel
    from ddfnet.ops.filters.cpu import kernels

    compiled = compile_kernel(getattr(kernels, f"make_{name}"), options, kernels.FilterCall, _version())
    return threads.Kernel(compiled, compiled.address)
