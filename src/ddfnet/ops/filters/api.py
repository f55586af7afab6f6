"""`predict_filters`: the filters of a DDF layer from its input, and the registered op behind it.

    predict_filters --> torch.ops.ddfnet.ddf_filters: three launches on GPUs, two kernels on the CPU; where these run
                    --> reference.py, under ordinary autograd; everywhere else

Backward, the derivative of the normalisation is a kernel (`torch.ops.ddfnet.filter_norm_backward`); what is left are matrix
products and a convolution's gradients, which are PyTorch's. Second derivatives are those of the reference, which is run
again when they are asked for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddfnet.ops.ddf.api import Backend, preferred_backend
from ddfnet.ops.filters.cpu import backend as cpu
from ddfnet.ops.filters.gpu import backend as gpu
from ddfnet.ops.filters.outputs import Options, Outputs, outputs
from ddfnet.ops.filters.reference import channel_filters_reference, spatial_filters_reference
from ddfnet.ops.gpu.devices import unsupported_device
from ddfnet.ops.registry import autocast_inputs, define, is_traced, is_transformed, needs_reference


class SpatialWeights(NamedTuple):
    """Parameters of a spatial branch: a 1x1 convolution, then Eq. 3 with a fixed scale."""

    weight: Tensor  # (G*K, C, 1, 1)
    bias: Tensor  # (G*K,)
    scale: float  # not 0


class ChannelWeights(NamedTuple):
    """Parameters of a channel branch: average pooling, 1x1, ReLU, 1x1, then Eq. 3 with a learned scale for each tap."""

    squeeze_weight: Tensor  # (S, C, 1, 1)
    squeeze_bias: Tensor  # (S,)
    weight: Tensor  # (C*K, S, 1, 1)
    bias: Tensor  # (C*K,)
    scale: Tensor  # (C*K,)


def predict_filters(
    x: Tensor,
    spatial: SpatialWeights | None = None,
    channel: ChannelWeights | None = None,
    *,
    kernel_size: int,
    stride: int = 1,
    heads: int = 1,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the filters that a DDF layer makes for `x`, normalised (Eq. 3), for `ddfnet.ddf`.

    Args:
        x: (B, C, H, W), cast to autocast's dtype where autocast is on.
        spatial, channel: the branches' parameters, of x's dtype or, under autocast, any other; None leaves one out.
        kernel_size: k >= 3, odd; K = k*k.
        stride: s of the spatial branch.
        heads: G.

    Returns:
        Channel filters (B, C, k, k) and spatial filters (B, G, K, P, Q) with P = ceil(H / s), Q = ceil(W / s), or None for a
        branch left out; in the dtype of x, the spatial ones in its memory format.

    Raises:
        TypeError: dtypes that differ, without autocast.
        ValueError: shapes, devices or options that do not fit together, with what was expected and what came.

    Example:
        >>> import torch
        >>> x, one = torch.randn(2, 8, 5, 6), torch.ones(9)
        >>> spatial = SpatialWeights(torch.randn(9, 8, 1, 1), torch.zeros(9), 0.5)
        >>> predict_filters(x, spatial, kernel_size=3)[1].shape
        torch.Size([2, 1, 9, 5, 6])
    """
    _check(x, spatial, channel, kernel_size, stride, heads)
    (x,) = autocast_inputs(x)
    if unsupported(x, kernel_size, heads) is not None:
        return _reference(x, spatial, channel, kernel_size, stride, heads)
    convolution, scale = ((spatial.weight, spatial.bias), spatial.scale) if spatial else ((None, None), 1.0)
    out = filters_op(x, *convolution, *(channel or (None,) * 5), scale, kernel_size, stride, heads)
    return out[0] if channel else None, out[1] if spatial else None


def unsupported(x: Tensor, kernel_size: int, heads: int, backend: Backend | None = None) -> str | None:
    """Return why no kernels, or none of a `backend` as `ddfnet.ddf` takes it, can predict filters from `x`, or None."""
    if needs_reference() or is_transformed():
        return "ONNX, torch.func transforms and forward-mode derivatives go through the reference"
    if backend in (None, "auto") and preferred_backend() in ("torch", "reference"):
        return f"{preferred_backend()!r} is the preferred backend"
    triton = _is_for_triton(x)
    if backend not in (None, "triton" if triton else "numba") and (
        backend != "auto" or (triton and x.device.type == "cpu")
    ):
        return f"backend={backend!r} has no kernels for it on {x.device.type}"
    if triton:
        return gpu.unsupported(x, kernel_size, heads)
    if torch.compiler.is_compiling() or is_traced():
        return "compiled or traced for the CPU, PyTorch's operations run, for which nothing has to be imported"
    return cpu.unsupported(x)


def _is_for_triton(x: Tensor) -> bool:
    """True if Triton's kernels serve x's device: all but the CPU, and that too where its interpreter is on."""
    if x.device.type != "cpu":
        return True
    return not torch.compiler.is_compiling() and unsupported_device(x) is None


def _check(
    x: Tensor, spatial: SpatialWeights | None, channel: ChannelWeights | None, kernel_size: int, stride: int, heads: int
) -> None:
    if x.dim() != 4:
        raise ValueError(f"x: expected (B, C, H, W), got {tuple(x.shape)}")
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"x: expected a pixel or more, got {tuple(x.shape)}")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd number >= 3, got {kernel_size}")
    for name, value in (("stride", stride), ("heads", heads)):
        if value < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {value}")
    channels, taps = x.shape[1], kernel_size**2
    expected: list[tuple[str, Tensor, tuple[int, ...]]] = []
    if spatial is not None:
        if spatial.scale == 0:
            raise ValueError("spatial.scale: expected a number other than 0, got 0")
        expected += [
            ("spatial.weight", spatial.weight, (heads * taps, channels, 1, 1)),
            ("spatial.bias", spatial.bias, (heads * taps,)),
        ]
    if channel is not None:
        squeezed = channel.squeeze_weight.shape[0]
        expected += [
            ("channel.squeeze_weight", channel.squeeze_weight, (squeezed, channels, 1, 1)),
            ("channel.squeeze_bias", channel.squeeze_bias, (squeezed,)),
            ("channel.weight", channel.weight, (channels * taps, squeezed, 1, 1)),
            ("channel.bias", channel.bias, (channels * taps,)),
            ("channel.scale", channel.scale, (channels * taps,)),
        ]
    for name, tensor, shape in expected:
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {tuple(tensor.shape)}")
        if tensor.device != x.device:
            raise ValueError(f"{name}: expected the device of x, {x.device}, got {tensor.device}")
        if tensor.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name}: expected the dtype of x, {x.dtype}, or autocast, got {tensor.dtype}")


def _reference(
    x: Tensor, spatial: SpatialWeights | None, channel: ChannelWeights | None, kernel_size: int, stride: int, heads: int
) -> tuple[Tensor | None, Tensor | None]:
    of_channels = channel_filters_reference(x, *channel, kernel_size=kernel_size) if channel else None
    if spatial is None:
        return of_channels, None
    return of_channels, spatial_filters_reference(x, *spatial, kernel_size=kernel_size, stride=stride, heads=heads)


# The registered ops. Outputs of a branch that is missing are empty.

_SPATIAL = ("spatial_weight?", "spatial_bias?")
_CHANNEL = ("squeeze_weight?", "squeeze_bias?", "channel_weight?", "channel_bias?", "channel_scale?")


class NormOptions(NamedTuple):
    """The arguments of `filter_norm_backward` beside its tensors."""

    fixed_scale: float


def _branches(args: Sequence[Any]) -> tuple[Any, Any, Options]:
    """Sort the op's arguments after x into the branches' parameters, None for a branch that is missing, and options."""
    spatial, channel = args[: len(_SPATIAL)], args[len(_SPATIAL) : -1]
    return None if spatial[0] is None else spatial, None if channel[0] is None else channel, args[-1]


def _forward(x: Tensor, *args: Any) -> Outputs:
    kernels = gpu if _is_for_triton(x) else cpu
    return kernels.predict(x, *_branches(args))


def _forward_fake(x: Tensor, *args: Any) -> Outputs:
    spatial, channel, options = _branches(args)
    squeezed, filters = (channel[0].shape[0], channel[2].shape[0] // options.taps) if channel else (None, 0)
    return outputs(x, spatial is not None, squeezed, filters, options)


def _norm_backward(
    grad: Tensor, unit: Tensor, std: Tensor, scale: Tensor | None, options: NormOptions
) -> tuple[Tensor, Tensor]:
    kernels = gpu if _is_for_triton(grad) else cpu
    return kernels.norm_backward(grad, unit, std, scale, options.fixed_scale)


def _norm_backward_fake(
    grad: Tensor, unit: Tensor, std: Tensor, scale: Tensor | None, options: NormOptions
) -> tuple[Tensor, Tensor]:
    grad_raw = torch.empty_like(unit, dtype=grad.dtype)
    return grad_raw, unit.new_empty(0) if scale is None else torch.empty_like(unit)


class _Saved(NamedTuple):
    """The tensors that the gradients need: the op's, then its outputs but for the channel filters."""

    x: Tensor
    spatial_weight: Tensor
    spatial_bias: Tensor
    squeeze_weight: Tensor
    squeeze_bias: Tensor
    channel_weight: Tensor
    channel_bias: Tensor
    channel_scale: Tensor
    spatial_filter: Tensor
    pooled: Tensor
    hidden: Tensor
    channel_unit: Tensor
    channel_std: Tensor
    spatial_std: Tensor


def _gradient(
    kept: Sequence[Tensor],
    options: Options,
    needs: Sequence[bool],
    grad_channel: Tensor | None,
    grad_spatial: Tensor | None,
    *_: Any,
) -> list[Tensor | None]:
    saved = _Saved(*kept)
    if torch.is_grad_enabled():
        return _differentiable_gradient(saved, grad_channel, grad_spatial, options, needs)
    grads: list[Tensor | None] = [None] * len(needs)
    if grad_spatial is not None:
        grads[:3] = _spatial_gradient(saved, grad_spatial, options, needs)
    if grad_channel is not None:
        grad_x, grads[3:] = _channel_gradient(saved, grad_channel, needs)
        if grad_x is not None:
            grads[0] = grad_x.expand_as(saved.x) if grads[0] is None else grads[0].add_(grad_x)
    return grads


def _spatial_gradient(saved: _Saved, grad: Tensor, options: Options, needs: Sequence[bool]) -> list[Tensor | None]:
    """Return the gradients of x, the convolution's weight and its bias."""
    x, weight, bias, unit, std = (
        saved.x,
        saved.spatial_weight,
        saved.spatial_bias,
        saved.spatial_filter,
        saved.spatial_std,
    )
    raw, _ = torch.ops.ddfnet.filter_norm_backward(grad, unit, std, None, options.spatial_scale)
    raw, stride = raw.flatten(1, 2), [options.stride, options.stride]
    grads = torch.ops.aten.convolution_backward(
        raw, x, weight.to(x.dtype), [raw.shape[1]], stride, [0, 0], [1, 1], False, [0, 0], 1, needs[:3]
    )
    return [
        grad.to(tensor.dtype) if needed else None
        for grad, tensor, needed in zip(grads, (x, weight, bias), needs[:3], strict=True)
    ]


def _channel_gradient(saved: _Saved, grad: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the gradients of x, (B, C, 1, 1), and of the five parameters."""
    x, _, _, squeeze_weight, squeeze_bias, weight, bias, scale, _, pooled, hidden, unit, std, _ = saved
    raw, grad_scale = torch.ops.ddfnet.filter_norm_backward(grad.flatten(2), unit, std, scale, 1.0)
    raw = raw.flatten(1)
    of_hidden = torch.ops.aten.threshold_backward(raw @ weight.flatten(1).to(x.dtype), hidden, 0)
    grads = (
        (of_hidden.t() @ pooled).view_as(squeeze_weight).to(squeeze_weight.dtype) if needs[3] else None,
        of_hidden.sum(0, dtype=squeeze_bias.dtype) if needs[4] else None,
        (raw.t() @ hidden).view_as(weight).to(weight.dtype) if needs[5] else None,
        raw.sum(0, dtype=bias.dtype) if needs[6] else None,
        grad_scale.flatten(1).sum(0).to(scale.dtype) if needs[7] else None,
    )
    pixels = x.shape[2] * x.shape[3]
    grad_x = (of_hidden @ squeeze_weight.flatten(1).to(x.dtype) / pixels)[..., None, None] if needs[0] else None
    return grad_x, list(grads)


def _differentiable_gradient(
    saved: _Saved,
    grad_channel: Tensor | None,
    grad_spatial: Tensor | None,
    options: Options,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Compute the same gradients with a graph: those of the reference, which runs again."""
    # Aliases, so that a gradient is that through this argument alone where inputs depend on each other.
    aliases: list[Any] = [None if t is None else t.view_as(t) for t in saved[: len(needs)]]
    x, *weights = aliases
    spatial = None if grad_spatial is None else SpatialWeights(weights[0], weights[1], options.spatial_scale)
    channel = None if grad_channel is None else ChannelWeights(*weights[2:])
    outputs = [t for t in _reference(x, spatial, channel, *options[1:]) if t is not None]
    cotangents = [t for t in (grad_channel, grad_spatial) if t is not None]
    wanted = [t for t, needed in zip(aliases, needs, strict=True) if needed]
    found = iter(torch.autograd.grad(outputs, wanted, cotangents, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in needs]


def _multiply_adds(x: Sequence[int], *args: Any) -> int:
    """Count the multiply-adds of the convolution and the two matrix products, as the counter does for PyTorch's."""
    spatial, channel, options = _branches(args)
    batch, _, height, width = x
    pixels = -(-height // options.stride) * -(-width // options.stride)
    total = spatial[0][0] * spatial[0][1] * pixels if spatial else 0
    for weight in (channel[0], channel[2]) if channel else ():
        total += weight[0] * weight[1]
    return batch * total


filters_op = define(
    "ddf_filters",
    ("x", *_SPATIAL, *_CHANNEL),
    Options,
    outputs=len(Outputs._fields),
    kernel=_forward,
    fake=_forward_fake,
    backward=_gradient,
    saved=lambda tensors, results: (*tensors, *results[1:]),
    differentiable=2,
    flops=lambda *args: 2 * _multiply_adds(*args),
)
define(
    "filter_norm_backward",
    ("grad", "unit", "std", "scale?"),
    NormOptions,
    outputs=2,
    kernel=_norm_backward,
    fake=_norm_backward_fake,
)
