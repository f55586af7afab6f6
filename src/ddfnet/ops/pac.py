"""Pixel-adaptive convolution, PAC (Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019), and its transpose.

A convolution whose weights are multiplied, at each pixel, by a Gaussian of how far the guide there is from the guide at each
of its neighbours. With o the output pixel, n the tap's pixel and t the tap:

    y[b, :, o] = sum over t of  W[t] x[b, :, n] * exp(-|guide[b, :, n] - guide[b, :, o]|^2 / 2)

Unfolded patches (B, C, K, P, Q) are never stored, in neither direction: the taps' weighted maps are made in a workspace of a
fixed size, a band of rows at a time, multiplied by the weights of all taps at once, and made anew in the backward pass. The
three inputs are all that is saved. The transpose is done by phase: output pixels (s*p + i, s*q + j) meet the same taps, so
that they form a convolution of their own at the resolution of x, and nothing is spent on the zeros between its pixels.
"""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import EllipsisType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.ops.ddf import autograd as transforms
from ddfnet.ops.ddf.geometry import memory_format_of

# Elements of the workspace: what a core's cache holds, and enough to fill a GPU.
WORKSPACE = {"cpu": 2**19}
WORKSPACE_ELSEWHERE = 2**24

Index = tuple[EllipsisType | slice, ...]


class Tap(NamedTuple):
    """A tap and where it reads: at grid pixel (p, q), the source pixel (p * step + row, q * step + column)."""

    number: int
    row: int
    column: int


class Phase(NamedTuple):
    """Output pixels (spacing * p + row, spacing * q + column), which read by the same taps."""

    row: int
    column: int
    taps: tuple[Tap, ...]

    def pixels(self, spacing: int) -> Index:
        return (..., slice(self.row, None, spacing), slice(self.column, None, spacing))


class Geometry(NamedTuple):
    """How output, source (x and the guide where x is) and guide lie to each other."""

    kernel_size: int
    step: int  # of a grid pixel in the source
    spacing: int  # of the source's pixels in the guide, and of a phase's in the output
    phases: tuple[Phase, ...]

    @property
    def margin(self) -> int:
        """Rows and columns of zeros around the source that taps read."""
        return max((max(abs(t.row), abs(t.column)) for phase in self.phases for t in phase.taps), default=0)

    @property
    def centre(self) -> int:
        """The tap that reads its own pixel, and whose Gaussian is 1."""
        return self.kernel_size**2 // 2


def pac_conv2d(
    x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Pixel-adaptive convolution: Eq. 3 of the PAC paper with its Gaussian kernel and zero padding that keeps the size.

    Where the guide is the same everywhere, this is `F.conv2d` with padding k//2 * dilation.

    Args:
        x: (B, C, H, W), of any float dtype; sums of half types are taken in float32.
        guide: (B, D, H, W), scaled so that a distance of 1 is one standard deviation.
        weight: (O, C, k, k), k odd.
        bias: (O,).
        stride, dilation: as in `F.conv2d`.

    Returns:
        (B, O, ceil(H / stride), ceil(W / stride)), in the memory format of `x`.

    Raises:
        TypeError: dtypes that differ, without autocast.
        ValueError: a shape, device or option that is not as described.

    Example:
        >>> import torch
        >>> from ddfnet.ops.pac import pac_conv2d
        >>> pac_conv2d(torch.randn(1, 8, 10, 12), torch.randn(1, 3, 10, 12), torch.randn(4, 8, 5, 5)).shape
        torch.Size([1, 4, 10, 12])
    """
    x, guide, weight, bias = transforms.autocast_inputs(x, guide, weight, bias)
    g = _geometry(weight, stride, dilation, transposed=False)
    _check(x, guide, weight, bias, out_channels=0, size=[(length, length) for length in x.shape[2:]])
    return _pac(x, guide, weight.flatten(2).transpose(1, 2), bias, g)


def pac_conv_transpose2d(
    x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Transposed pixel-adaptive convolution: `pac_conv2d` of x with stride - 1 rows and columns of zeros between its pixels.

    Weights meet those as they do in a convolution, as in the authors' code: where the guide is the same everywhere, this is
    `F.conv_transpose2d` with its weight flipped, padding k//2 * dilation and the output padding that gives the guide's size.

    Args:
        x: (B, C, H, W); its pixel (p, q) lies at (stride * p, stride * q) of the output.
        guide: (B, D, P, Q), at the resolution of the output, stride * (H-1) < P <= stride * H and Q alike.
        weight: (C, O, k, k), k odd.
        bias, stride, dilation: as in `pac_conv2d`.

    Returns:
        (B, O, P, Q), in the memory format of `x`.

    Raises:
        As `pac_conv2d`.

    Example:
        >>> import torch
        >>> from ddfnet.ops.pac import pac_conv_transpose2d
        >>> weight = torch.randn(8, 4, 5, 5)
        >>> pac_conv_transpose2d(torch.randn(1, 8, 5, 6), torch.randn(1, 3, 10, 11), weight, stride=2).shape
        torch.Size([1, 4, 10, 11])
    """
    x, guide, weight, bias = transforms.autocast_inputs(x, guide, weight, bias)
    g = _geometry(weight, stride, dilation, transposed=True)
    size = [(stride * (length - 1) + 1, stride * length) for length in x.shape[2:]]
    _check(x, guide, weight, bias, out_channels=1, size=size)
    return _pac(x, guide, weight.flatten(2).permute(1, 2, 0), bias, g)


def pac_reference(x: Tensor, guide: Tensor, weight: Tensor, g: Geometry) -> Tensor:
    """The definition, tap by tap in plain PyTorch under ordinary autograd, which keeps each tap's maps; weight (O, K, C)."""
    source, near = _source(x, guide, g)
    rows, columns = _out_size(x, guide, g)
    y = x.new_zeros(x.shape[0], weight.shape[0], rows, columns)
    for phase in g.phases:
        centre = guide[phase.pixels(g.spacing * g.step)]
        grid = centre.shape[2:]
        for tap in phase.taps:
            at = _window(tap, g, slice(None), 0, *grid)
            weighted = source[at] * (near[at] - centre).square().sum(1, keepdim=True).mul(-0.5).exp()
            y[phase.pixels(g.spacing)] += torch.einsum("oc,bcpq->bopq", weight[:, tap.number], weighted)
    return y


def _pac(x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry) -> Tensor:
    dtype, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
    tensors = (x.to(wide), guide.to(wide), weight.to(wide))
    plain = transforms.is_transformed() or (torch.compiler.is_compiling() and torch.compiler.is_exporting())
    with _unrounded(x):
        y = pac_reference(*tensors, g) if plain else _Pac.apply(*tensors, g)
    if bias is not None:
        y = y + bias.to(wide)[:, None, None] if plain else y.add_(bias.to(wide)[:, None, None])
    return y.to(dtype).contiguous(memory_format=memory_format_of(x))


class _Pac(torch.autograd.Function):
    """x (B, C, H, W), guide (B, D, ...), weight (O, K, C), all of one dtype, at least float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guide: Tensor, weight: Tensor, g: Geometry) -> Tensor:
        ctx.save_for_backward(x, guide, weight)
        ctx.geometry = g
        return _forward(x, guide, weight, g)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x, guide, weight), needs = ctx.saved_tensors, ctx.needs_input_grad[:3]
        with _unrounded(x):  # backward() may be called within autocast
            if not torch.is_grad_enabled():
                return (*_backward(grad_y, x, guide, weight, ctx.geometry, needs), None)
            # These gradients are to be differentiated themselves.
            asked = [tensor for tensor, needed in zip((x, guide, weight), needs, strict=True) if needed]
            y = pac_reference(x, guide, weight, ctx.geometry)
            grads = iter(torch.autograd.grad(y, asked, grad_y, create_graph=True, materialize_grads=True))
            return (*(next(grads) if needed else None for needed in needs), None)


def _unrounded(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off on the device of `x`: else products of what was widened would be of half types again."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def _forward(x: Tensor, guide: Tensor, weight: Tensor, g: Geometry) -> Tensor:
    source, near = _source(x, guide, g)
    y = x.new_zeros(x.shape[0], weight.shape[0], *_out_size(x, guide, g))
    for phase, centre, samples, first, last in _bands(x, guide, g):
        y_phase = y[phase.pixels(g.spacing)]
        matrix = _matrix(weight, phase)
        band = centre[samples, :, first:last]
        columns = band.new_empty(band.shape[0], len(phase.taps), x.shape[1], *band.shape[2:])
        for n, tap in enumerate(phase.taps):
            at = _window(tap, g, samples, first, last, band.shape[3])
            _weigh(source[at], near[at], band, tap.number == g.centre, columns[:, n])
        product = torch.matmul(matrix, columns.flatten(3).flatten(1, 2))
        y_phase[samples, :, first:last] = product.unflatten(2, band.shape[2:])
    return y


def _backward(
    grad_y: Tensor, x: Tensor, guide: Tensor, weight: Tensor, g: Geometry, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    source, near = _source(x, guide, g)
    grad_source, grad_near = torch.zeros_like(source), torch.zeros_like(near)
    grad_guide, grad_weight = torch.zeros_like(guide), torch.zeros_like(weight)
    for phase, centre, samples, first, last in _bands(x, guide, g):
        matrix = _matrix(weight, phase)
        band = centre[samples, :, first:last]
        grad_centre = grad_guide[phase.pixels(g.spacing * g.step)][samples, :, first:last]
        grad = grad_y[phase.pixels(g.spacing)][samples, :, first:last].flatten(2)  # (b, O, N)
        grad_columns = torch.matmul(matrix.t(), grad)
        grad_columns = grad_columns.unflatten(2, band.shape[2:]).unflatten(1, (len(phase.taps), x.shape[1]))
        columns = torch.empty_like(grad_columns)
        for n, tap in enumerate(phase.taps):
            at = _window(tap, g, samples, first, last, band.shape[3])
            x_tap, grad_tap = source[at], grad_columns[:, n]
            difference, kernel = _weigh(x_tap, near[at], band, tap.number == g.centre, columns[:, n])
            if kernel is None or difference is None:
                grad_source[at] += grad_tap
                continue
            if needs[1]:
                grad_kernel = (grad_tap * x_tap).sum(1, keepdim=True)
                grad_difference = difference.mul_(grad_kernel.mul_(kernel))
                grad_near[at] -= grad_difference
                grad_centre += grad_difference
            if needs[0]:
                grad_source[at] += grad_tap.mul_(kernel)
        if needs[2]:
            found = torch.matmul(grad, columns.flatten(3).flatten(1, 2).transpose(1, 2)).sum(0)  # (O, T*C)
            grad_weight[:, [tap.number for tap in phase.taps]] += found.unflatten(1, (len(phase.taps), x.shape[1]))
    inner = (..., slice(g.margin, g.margin + x.shape[2]), slice(g.margin, g.margin + x.shape[3]))
    if needs[1]:
        grad_guide[..., :: g.spacing, :: g.spacing] += grad_near[inner]
    return grad_source[inner] if needs[0] else None, grad_guide if needs[1] else None, grad_weight if needs[2] else None


def _weigh(
    x: Tensor, near: Tensor, centre: Tensor, is_centre: bool, out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Writes a tap's weighted maps to `out`; gives the guide's differences and the Gaussian, None where that is 1."""
    if is_centre:
        out.copy_(x)
        return None, None
    difference = near - centre
    kernel = difference.square().sum(1, keepdim=True).mul_(-0.5).exp_()
    torch.mul(x, kernel, out=out)
    return difference, kernel


def _source(x: Tensor, guide: Tensor, g: Geometry) -> tuple[Tensor, Tensor]:
    """x and the guide at its pixels, zeros around them for taps beyond the image."""
    around = (g.margin,) * 4
    return F.pad(x.contiguous(), around), F.pad(guide[..., :: g.spacing, :: g.spacing].contiguous(), around)


def _out_size(x: Tensor, guide: Tensor, g: Geometry) -> tuple[int, int]:
    size = x if g.spacing == 1 else guide
    return -(-size.shape[2] // g.step), -(-size.shape[3] // g.step)


def _matrix(weight: Tensor, phase: Phase) -> Tensor:
    """(O, T*C), of a phase's taps."""
    return weight[:, [tap.number for tap in phase.taps]].flatten(1)


def _window(tap: Tap, g: Geometry, samples: slice, first: int, last: int, columns: int) -> tuple[slice, ...]:
    """What a tap reads of the source, all channels of it, for the grid's rows `first` to `last`."""
    top, left = g.margin + first * g.step + tap.row, g.margin + tap.column
    rows = slice(top, top + (last - first - 1) * g.step + 1, g.step)
    return samples, slice(None), rows, slice(left, left + (columns - 1) * g.step + 1, g.step)


def _bands(x: Tensor, guide: Tensor, g: Geometry) -> Iterator[tuple[Phase, Tensor, slice, int, int]]:
    """Parts of the output whose weighted maps fit the workspace: phase, its centres in the guide, samples, rows."""
    limit = WORKSPACE.get(x.device.type, WORKSPACE_ELSEWHERE)
    for phase in g.phases:
        centre = guide[phase.pixels(g.spacing * g.step)]
        rows, columns = centre.shape[2:]
        row = len(phase.taps) * x.shape[1] * columns
        if not row or not rows:
            continue
        samples, height = max(1, limit // (row * rows)), min(rows, max(1, limit // row))
        for sample, first in itertools.product(range(0, x.shape[0], samples), range(0, rows, height)):
            yield phase, centre, slice(sample, sample + samples), first, min(rows, first + height)


def _geometry(weight: Tensor, stride: int, dilation: int, *, transposed: bool) -> Geometry:
    for name, value in (("stride", stride), ("dilation", dilation)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {value!r}")
    k = weight.shape[-1]
    if weight.dim() != 4 or weight.shape[2] != k or k % 2 == 0:
        layout = "(C, O, k, k)" if transposed else "(O, C, k, k)"
        raise ValueError(f"weight: expected {layout} with k odd, got {tuple(weight.shape)}")
    offsets = [Tap(u * k + v, (u - k // 2) * dilation, (v - k // 2) * dilation) for u in range(k) for v in range(k)]
    if not transposed:
        return Geometry(k, stride, 1, (Phase(0, 0, tuple(offsets)),))
    phases = tuple(
        Phase(
            i,
            j,
            tuple(
                Tap(t, (i + u) // stride, (j + v) // stride)
                for t, u, v in offsets
                if not ((i + u) % stride or (j + v) % stride)
            ),
        )
        for i in range(stride)
        for j in range(stride)
    )
    return Geometry(k, 1, stride, phases)


def _check(
    x: Tensor,
    guide: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    out_channels: int,
    size: list[tuple[int, int]],
) -> None:
    """`out_channels`: the dimension of the weight; `size`: the least and the most of the guide's height and width."""
    if x.dim() != 4 or x.shape[1] != weight.shape[1 - out_channels] or 0 in x.shape[1:]:
        raise ValueError(f"x: expected (B, {weight.shape[1 - out_channels]}, H, W), got {tuple(x.shape)}")
    fits = guide.dim() == 4 and guide.shape[0] == x.shape[0] and guide.shape[1] > 0
    if not fits or not all(low <= length <= high for length, (low, high) in zip(guide.shape[2:], size, strict=True)):
        height, width = (str(high) if low == high else f"{low} to {high}" for low, high in size)
        raise ValueError(f"guide: expected ({x.shape[0]}, D, {height}, {width}), got {tuple(guide.shape)}")
    if bias is not None and tuple(bias.shape) != (weight.shape[out_channels],):
        raise ValueError(f"bias: expected ({weight.shape[out_channels]},), got {tuple(bias.shape)}")
    for name, tensor in (("guide", guide), ("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != x.dtype:
            raise TypeError(f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}")
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name}: expected the device of x, {x.device}, got {tensor.device}")
