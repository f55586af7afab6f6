"""Pixel-adaptive convolution, PAC (Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019), and its transpose.

A convolution whose weights are multiplied, at each pixel, by a Gaussian of how far the guide there is from the guide at each
of its neighbours. With o the output pixel, n the tap's pixel and t the tap:

    y[b, :, o] = sum over t of  W[t] x[b, :, n] * exp(-|guide[b, :, n] - guide[b, :, o]|^2 / 2)

Unfolded patches (B, C, K, P, Q) are never stored, in neither direction: the taps' weighted maps are made in a workspace of a
fixed size, a band of rows at a time, multiplied by the weights of all taps at once, and made again in the backward pass. The
three inputs are all that is saved. The transpose is done by phase: output pixels (s*p + i, s*q + j) meet the same taps, so
that they form a convolution at the resolution of x, and nothing is spent on the zeros between its pixels.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import memory_format_of
from ddfnet.ops.pac.geometry import Geometry, geometry, out_size
from ddfnet.ops.pac.plain import pac_backward, pac_forward
from ddfnet.ops.pac.reference import pac_reference
from ddfnet.ops.registry import CALLS, autocast_inputs, define, is_transformed, needs_reference


def pac_conv2d(
    x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Apply a pixel-adaptive convolution: Eq. 3 of the PAC paper, Gaussian kernel, zero padding that keeps the size.

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
        >>> from ddfnet.ops.pac.api import pac_conv2d
        >>> pac_conv2d(torch.randn(1, 8, 10, 12), torch.randn(1, 3, 10, 12), torch.randn(4, 8, 5, 5)).shape
        torch.Size([1, 4, 10, 12])
    """
    x, guide, weight, bias = autocast_inputs(x, guide, weight, bias)
    options = _check_options(weight, stride, dilation, transposed=False)
    _check(x, guide, weight, bias, out_channels=0, size=[(length, length) for length in x.shape[2:]])
    return _pac(x, guide, weight.flatten(2).transpose(1, 2), bias, options)


def pac_conv_transpose2d(
    x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Apply a transposed pixel-adaptive convolution: `pac_conv2d` of x with stride - 1 rows and columns of zeros in between.

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
        >>> from ddfnet.ops.pac.api import pac_conv_transpose2d
        >>> weight = torch.randn(8, 4, 5, 5)
        >>> pac_conv_transpose2d(torch.randn(1, 8, 5, 6), torch.randn(1, 3, 10, 11), weight, stride=2).shape
        torch.Size([1, 4, 10, 11])
    """
    x, guide, weight, bias = autocast_inputs(x, guide, weight, bias)
    options = _check_options(weight, stride, dilation, transposed=True)
    size = [(stride * (length - 1) + 1, stride * length) for length in x.shape[2:]]
    _check(x, guide, weight, bias, out_channels=1, size=size)
    return _pac(x, guide, weight.flatten(2).permute(1, 2, 0), bias, options)


class Options(NamedTuple):
    """The arguments of a call beside its tensors, in the order of the registered op."""

    stride: int
    dilation: int
    transposed: bool


class BackwardOptions(NamedTuple):
    """The arguments of the backward op beside its tensors: the forward call's options, and the gradients asked for."""

    stride: int
    dilation: int
    transposed: bool
    needs_x: bool
    needs_guide: bool
    needs_weight: bool

    @property
    def needs(self) -> tuple[bool, bool, bool]:
        return self.needs_x, self.needs_guide, self.needs_weight


def _pac(x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    """Apply the convolution; the weight is (O, K, C)."""
    dtype, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
    tensors = (x.to(wide), guide.to(wide), weight.to(wide))
    exporting = torch.compiler.is_compiling() and torch.compiler.is_exporting()
    plain = exporting or is_transformed() or needs_reference()
    with _unrounded(x):
        y = pac_reference(*tensors, _laid_out(weight.shape, options)) if plain else pac_op(*tensors, *options)
    if bias is not None:
        y = y + bias.to(wide)[:, None, None] if plain else y.add_(bias.to(wide)[:, None, None])
    return y.to(dtype).contiguous(memory_format=memory_format_of(x))


def _unrounded(x: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast off on the device of `x`, or it would round the products of what was widened."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def _laid_out(weight: Sequence[int], o: Options | BackwardOptions) -> Geometry:
    """Lay out the call of a weight of this shape."""
    return geometry(math.isqrt(weight[1]), o.stride, o.dilation, o.transposed)


# The registered ops: x (B, C, H, W), guide (B, D, ...), weight (O, K, C), all of one dtype, at least float32


def _forward(x: Tensor, guide: Tensor, weight: Tensor, options: Options) -> Tensor:
    with _unrounded(x):
        return pac_forward(x, guide, weight, _laid_out(weight.shape, options))


def _forward_fake(x: Tensor, guide: Tensor, weight: Tensor, options: Options) -> Tensor:
    rows, columns = out_size(x, guide, _laid_out(weight.shape, options))
    return x.new_empty(x.shape[0], weight.shape[0], rows, columns)


def _backward(grad_y: Tensor, x: Tensor, guide: Tensor, weight: Tensor, options: BackwardOptions) -> tuple[Tensor, ...]:
    with _unrounded(x):
        grads = pac_backward(grad_y, x, guide, weight, _laid_out(weight.shape, options), options.needs)
    return tuple(x.new_empty(0) if grad is None else grad for grad in grads)


def _backward_fake(
    grad_y: Tensor, x: Tensor, guide: Tensor, weight: Tensor, options: BackwardOptions
) -> tuple[Tensor, ...]:
    m, (height, width) = _laid_out(weight.shape, options).margin, x.shape[2:]
    around = x.new_empty(*x.shape[:2], height + 2 * m, width + 2 * m)[..., m : m + height, m : m + width]
    grads = (around, torch.empty_like(guide), torch.empty_like(weight))
    return tuple(grad if needed else x.new_empty(0) for grad, needed in zip(grads, options.needs, strict=True))


def _gradient(
    inputs: Sequence[Tensor], options: Options, needs: Sequence[bool], grad_y: Tensor | None
) -> list[Tensor | None]:
    if grad_y is None:
        return [None, None, None]
    if not torch.is_grad_enabled():
        grads = CALLS["pac_backward"](grad_y, *inputs, *options, *needs)
        return [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]
    # These gradients are to be differentiated themselves.
    asked = [tensor for tensor, needed in zip(inputs, needs, strict=True) if needed]
    x, guide, weight = inputs
    with _unrounded(x):
        y = pac_reference(x, guide, weight, _laid_out(weight.shape, options))
        found = iter(torch.autograd.grad(y, asked, grad_y, create_graph=True, materialize_grads=True))
    return [next(found) if needed else None for needed in needs]


def _multiply_adds(x: Sequence[int], guide: Sequence[int], weight: Sequence[int], o: Options | BackwardOptions) -> int:
    g = _laid_out(weight, o)
    step = g.spacing * g.step
    taps = sum(len(p.taps) * len(range(p.row, guide[2], step)) * len(range(p.column, guide[3], step)) for p in g.phases)
    return x[0] * weight[0] * weight[2] * taps


def _flops(x: Sequence[int], guide: Sequence[int], weight: Sequence[int], options: Options) -> int:
    """Count the FLOPs of the matrix products."""
    return 2 * _multiply_adds(x, guide, weight, options)


def _backward_flops(
    grad_y: Sequence[int], x: Sequence[int], guide: Sequence[int], weight: Sequence[int], options: BackwardOptions
) -> int:
    return 2 * (1 + options.needs_weight) * _multiply_adds(x, guide, weight, options)


_INPUTS = ("x", "guide", "weight")
pac_op = define("pac", _INPUTS, Options, kernel=_forward, fake=_forward_fake, backward=_gradient, flops=_flops)
define(
    "pac_backward",
    ("grad_y", *_INPUTS),
    BackwardOptions,
    outputs=3,
    kernel=_backward,
    fake=_backward_fake,
    flops=_backward_flops,
)


# Checks


def _check_options(weight: Tensor, stride: int, dilation: int, *, transposed: bool) -> Options:
    for name, value in (("stride", stride), ("dilation", dilation)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {value!r}")
    k = weight.shape[-1]
    if weight.dim() != 4 or weight.shape[2] != k or k % 2 == 0:
        layout = "(C, O, k, k)" if transposed else "(O, C, k, k)"
        raise ValueError(f"weight: expected {layout} with k odd, got {tuple(weight.shape)}")
    return Options(stride, dilation, transposed)


def _check(
    x: Tensor,
    guide: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    out_channels: int,
    size: list[tuple[int, int]],
) -> None:
    """Check arguments. `out_channels`: the weight's dimension; `size`: least and greatest height and width of the guide."""
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
