"""From the shapes of the inputs of `ddf` and `ddf_up` to a frozen `Geometry`, or an error that says what came.

One geometry serves both operations: `ddf` has `scale_factor == 1` and any stride, `ddf_up` has `stride == 1` and any
scale factor.
"""

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Combine = Literal["mul", "add"]
Padding = Literal["same", "valid"]

LARGEST = 2**31 - 1  # of an option; products of two fit into 64 bits
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Options(NamedTuple):
    """What a call takes beside its tensors, and the registered op in this order."""

    kernel_size: int | None = None
    stride: int = 1
    dilation: int = 1
    scale_factor: int = 1
    combine: str = "mul"
    backend: str = "auto"
    padding: str = "same"


class BackwardOptions(NamedTuple):
    """What the backward op takes beside its tensors: the options of the forward call, and the gradients asked for."""

    kernel_size: int | None
    stride: int
    dilation: int
    scale_factor: int
    combine: str
    backend: str
    padding: str
    needs_x: bool
    needs_channel_filter: bool
    needs_spatial_filter: bool

    @property
    def forward(self) -> Options:
        return Options._make(self[: len(Options._fields)])

    @property
    def needs(self) -> tuple[bool, bool, bool]:
        return self.needs_x, self.needs_channel_filter, self.needs_spatial_filter


class Geometry(NamedTuple):
    """Sizes and options of one call, checked. Symbols as in the paper: B, C, H, W, P, Q, k, K = k*k, G, s, d, r."""

    batch: int  # B
    channels: int  # C
    height: int  # H
    width: int  # W
    out_height: int  # ceil(H / s) * r, or ceil((H - (k-1)*d) / s) with padding "valid"
    out_width: int
    heads: int  # G
    kernel_size: int  # k
    stride: int  # s
    dilation: int  # d
    scale_factor: int  # r
    combine: Combine
    padding: int  # rows and columns of zeros on each side of x
    memory_format: torch.memory_format  # of the output: that of x

    @property
    def taps(self) -> int:
        return self.kernel_size * self.kernel_size

    @property
    def reach(self) -> int:
        """Pixels of x from a filter's first row or column to its last."""
        return (self.kernel_size - 1) * self.dilation

    @property
    def keeps_size(self) -> bool:
        """True with padding "same"."""
        return 2 * self.padding == self.reach

    @property
    def grid(self) -> tuple[int, int]:
        """Input pixels on which filters are centred: (P, Q), or (P/r, Q/r) for `ddf_up`."""
        return self.out_height // self.scale_factor, self.out_width // self.scale_factor

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.channels, self.out_height, self.out_width


def check_types(
    x: object, channel_filter: object, spatial_filter: object, strings: tuple[object, object, object], *options: object
) -> None:
    """Raise TypeError for arguments that are no tensors, strings or ints.

    ValueError for ints that no kernel could count with. The dispatcher would refuse these, and nested tensors, by pages.

    Args:
        strings: combine, backend and padding.
        options: kernel_size, stride, dilation and scale_factor.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x: expected a torch.Tensor, got {type(x).__name__}")
    for name, value in (("channel_filter", channel_filter), ("spatial_filter", spatial_filter)):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor or None, got {type(value).__name__}")
    if x.is_nested:
        raise TypeError("x: expected a dense tensor, got a nested one")
    for name, value in zip(("combine", "backend", "padding"), strings, strict=True):
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected a string, got {value!r}")
    for name, value in zip(("kernel_size", "stride", "dilation", "scale_factor"), options, strict=True):
        if (not isinstance(value, int) or isinstance(value, bool)) and not (value is None and name == "kernel_size"):
            raise TypeError(f"{name}: expected an int, got {value!r}")
        if value is not None and value > LARGEST:
            raise ValueError(f"{name}: expected an int <= {LARGEST}, got {value}")


def check(
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    kernel_size: int | None = None,
    stride: int = 1,
    dilation: int = 1,
    scale_factor: int = 1,
    combine: str = "mul",
    *,
    padding: str = "same",
) -> Geometry:
    """The geometry of one call.

    Args:
        x: (B, C, H, W) with C, H, W >= 1; B may be 0.
        channel_filter: (B, C, k, k), or (B, r*r, C, k, k) where r = scale_factor > 1, or None.
        spatial_filter: (B, K, P, Q) or (B, G, K, P, Q) with K = k*k and P = ceil(H / s) * r, Q = ceil(W / s) * r, or None;
            with padding "valid", P = ceil((H - (k-1)*d) / s) and Q likewise.

    Raises:
        TypeError: a tensor's dtype is not a supported float, the dtypes differ, or an option has the wrong type.
        ValueError: a shape, a device or an option's value is not as described.
    """
    if channel_filter is None and spatial_filter is None:
        raise ValueError("channel_filter, spatial_filter: expected at least one of the two, got None for both")
    _check_options(stride, dilation, scale_factor, combine, padding)
    _check_input(x)
    batch, channels, height, width = x.shape
    k = _kernel_size(channel_filter, spatial_filter, kernel_size)
    lost = _lost(x, k, dilation, padding)
    # Rounded up without negative numbers, whose quotient ONNX rounds the other way.
    out_height = (height - lost + stride - 1) // stride * scale_factor
    out_width = (width - lost + stride - 1) // stride * scale_factor

    if channel_filter is not None:
        expected: tuple[Any, ...] = (batch, channels, k, k)
        if scale_factor > 1 and channel_filter.dim() == 5:
            expected = (batch, scale_factor * scale_factor, channels, k, k)
        _check_like("channel_filter", channel_filter, expected, x)
    heads = 1
    if spatial_filter is not None:
        expected = (batch, k * k, out_height, out_width)
        if spatial_filter.dim() == 5:
            heads = int(spatial_filter.shape[1])
            if heads < 1 or channels % heads:
                raise ValueError(f"spatial_filter: expected heads that divide {channels} channels, got {heads} heads")
            expected = (batch, heads, k * k, out_height, out_width)
        _check_like("spatial_filter", spatial_filter, expected, x)

    return Geometry(
        batch=batch,
        channels=channels,
        height=height,
        width=width,
        out_height=out_height,
        out_width=out_width,
        heads=heads,
        kernel_size=k,
        stride=stride,
        dilation=dilation,
        scale_factor=scale_factor,
        combine="mul" if combine == "mul" else "add",
        padding=(k // 2 * dilation) if padding == "same" else 0,
        memory_format=memory_format_of(x),
    )


def _check_options(stride: int, dilation: int, scale_factor: int, combine: str, padding: str) -> None:
    if combine not in ("mul", "add"):
        raise ValueError(f"combine: expected 'mul' or 'add', got {combine!r}")
    if padding not in ("same", "valid"):
        raise ValueError(f"padding: expected 'same' or 'valid', got {padding!r}")
    _check_positive("stride", stride)
    _check_positive("dilation", dilation)
    _check_positive("scale_factor", scale_factor)
    if stride > 1 and scale_factor > 1:
        raise ValueError(f"stride, scale_factor: expected one of them to be 1, got {stride} and {scale_factor}")
    if padding == "valid" and scale_factor > 1:
        raise ValueError(f"padding: expected 'same' with scale_factor = {scale_factor}, got 'valid'")


def _lost(x: Tensor, k: int, dilation: int, padding: str) -> int:
    """Rows, and columns, by which the image is larger than the area on which filters are centred."""
    if padding == "same":
        return 0
    lost = (k - 1) * dilation
    if x.shape[2] <= lost or x.shape[3] <= lost:
        raise ValueError(f"x: expected a height and width > {lost} = (k - 1) * dilation, got {_shape(x)}")
    return lost


def _check_input(x: Tensor) -> None:
    if x.dim() != 4 or x.shape[1] < 1 or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f"x: expected (B, C, H, W) with C, H, W >= 1, got {_shape(x)}")
    if x.dtype not in DTYPES:
        raise TypeError(f"x: expected float32, float64, float16 or bfloat16, got {_dtype(x)}")
    if x.layout is not torch.strided:
        raise TypeError(f"x: expected a dense tensor, got one of layout {x.layout}")


def memory_format_of(x: Tensor) -> torch.memory_format:
    """channels_last where the channels of x (B, C, H, W) lie closer together than its columns, else contiguous."""
    if 0 < x.stride(1) < x.stride(3):
        return torch.channels_last
    return torch.contiguous_format


def _kernel_size(channel_filter: Tensor | None, spatial_filter: Tensor | None, given: int | None) -> int:
    """The odd k read off the filters' shapes, the channel filter's first; ValueError where `given` is another."""
    if channel_filter is not None:
        if channel_filter.dim() not in (4, 5):
            raise ValueError(f"channel_filter: expected (B, C, k, k), got {_shape(channel_filter)}")
        k = int(channel_filter.shape[-1])
    if spatial_filter is not None:
        if spatial_filter.dim() not in (4, 5):
            raise ValueError(f"spatial_filter: expected (B, K, P, Q) or (B, G, K, P, Q), got {_shape(spatial_filter)}")
        if channel_filter is None:
            taps = int(spatial_filter.shape[-3])
            k = math.isqrt(taps)
            if k * k != taps:
                shape = _shape(spatial_filter)
                raise ValueError(
                    f"spatial_filter: expected k*k taps with k odd, got {taps} taps in spatial_filter {shape}"
                )
    if given is not None:
        _check_positive("kernel_size", given)
        if given % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {given}")
        if given != k:
            source = _source(channel_filter, spatial_filter)
            raise ValueError(f"kernel_size: expected {k}, the kernel size of {source}, got {given}")
    if k % 2 == 0:
        source = _source(channel_filter, spatial_filter)
        raise ValueError(f"kernel_size: expected an odd number, got {k} from {source}")
    return k


def _source(channel_filter: Tensor | None, spatial_filter: Tensor | None) -> str:
    """The filter that k is read off, for an error."""
    name, tensor = ("spatial_filter", spatial_filter) if channel_filter is None else ("channel_filter", channel_filter)
    return f"{name} {_shape(tensor)}"


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: expected an int >= 1, got {value}")


def _check_like(name: str, tensor: Tensor, expected: tuple[Any, ...], x: Tensor) -> None:
    if tensor.shape != expected:
        raise ValueError(f"{name}: expected ({', '.join(map(str, expected))}), got {_shape(tensor)}")
    if tensor.dtype != x.dtype:
        raise TypeError(f"{name}: expected the dtype of x, {_dtype(x)}, got {_dtype(tensor)}")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got one of layout {tensor.layout}")
    if tensor.device != x.device:
        raise ValueError(f"{name}: expected the device of x, {x.device}, got {tensor.device}")


def _shape(tensor: Tensor | None) -> str:
    return "None" if tensor is None else f"({', '.join(map(str, tensor.shape))})"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
