"""What PyTorch's transforms do with `torch.ops.ddfnet.ddf`: autograd (to any order), `torch.func`, autocast, vmap.

Derivatives need no formulas beyond the two kernels, because Eq. 2 is linear in x and in each filter (for "add": in x,
and in the two filters together). With cotangent g of y and directions (v_x, v_c, v_s), the op's directional derivative is

    mul:  D = y(v_x, c, s) + y(x, v_c, s) + y(x, c, v_s)
    add:  D = y(v_x, c, s) + y(x, v_c, v_s)

and the backward op's own backward is the gradient of <g, D>: forward calls for g, backward calls for x, c and s. Both ops
being differentiable, so is that, without end.

The same rules reach autograd three ways. They are registered on the ops, which is what `torch.compile` and exported programs
see. An eager call that needs gradients goes through an `autograd.Function` around the op, at a third of the cost on the host
(`benchmarks/dispatch.py`). Under `torch.func` transforms and forward-mode differentiation, where rules registered on an op
do not work, it goes through one written in the style they ask for, the slowest. `torch.compile` can't see into that one:
inside a compiled function the transforms of `torch.func` get the reference.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def register(library: torch.library.Library) -> None:
    """Registers the rules for `ddf` and `ddf_backward` of `library`."""
    torch.library.register_autograd("ddfnet::ddf", _gradient, setup_context=_save_inputs, lib=library)
    torch.library.register_autograd("ddfnet::ddf_backward", _second_gradient, setup_context=_save_all, lib=library)
    torch.library.register_vmap("ddfnet::ddf", _vmap_forward, lib=library)
    torch.library.register_vmap("ddfnet::ddf_backward", _vmap_backward, lib=library)
    for key in ("AutocastCPU", "AutocastCUDA", "AutocastXPU", "AutocastMPS"):
        library.impl("ddf", _autocast, key)


def differentiable(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, *options: Any) -> Tensor:
    """`torch.ops.ddfnet.ddf`, differentiable under every transform."""
    # Cast before the inputs are saved: the op's own autocast rule comes too late for that.
    inputs = autocast_inputs(x, channel_filter, spatial_filter) if torch._C._is_any_autocast_enabled() else None
    if torch.compiler.is_compiling() and is_transformed():
        raise RuntimeError(
            f"backend {options[-1]!r} can't serve this call: transforms of torch.func inside torch.compile need "
            "'reference', which 'auto' takes there"
        )
    y: Tensor = _call("ddf", *(inputs or (x, channel_filter, spatial_filter)), *options)
    return y


def needs_reference() -> bool:
    """Whether "auto" must be made of PyTorch's own operations: ONNX has them, and compiled transforms can see into them."""
    if not torch.compiler.is_compiling():
        return False
    # torch.onnx is loaded at its first use, which takes longer than a call may: ask it only when something is exported.
    return is_transformed() or (torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export())


def is_transformed() -> bool:
    """Whether a transform of `torch.func` or a dual level is in force."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


# Autograd


def _op(name: str) -> Any:
    return getattr(torch.ops.ddfnet, name).default


def _call(name: str, *args: Any) -> Any:
    """The op by the cheapest way that is differentiable under the transforms in force."""
    if torch.compiler.is_compiling():
        return _op(name)(*args)
    # Asked first: forward-mode derivatives are taken under no_grad too.
    if is_transformed():
        return (_TransformedForward if name == "ddf" else _TransformedBackward).apply(*args)
    asked = torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
    if asked and not torch._C._is_tracing():  # torch.jit.trace records the op, not the function around it
        return (_EagerForward if name == "ddf" else _EagerBackward).apply(*args)
    return _op(name)(*args)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.save_for_forward(*inputs[:3])
    ctx.options = inputs[3:]


def _gradient(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    grads = _backward(grad_output, ctx.saved_tensors, ctx.options, ctx.needs_input_grad[:3])
    return (*grads, *(None for _ in ctx.options))


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.save_for_forward(*inputs[:4])
    ctx.options, ctx.needs = inputs[4:-3], inputs[-3:]
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_output, *inputs = ctx.saved_tensors
    combine = ctx.options[-2]
    wanted = tuple(v if needed else None for v, needed in zip(directions, ctx.needs, strict=True))

    grads: list[Tensor | None] = [None] * 4
    for term, original in _directional_derivative(inputs, wanted, combine):
        if ctx.needs_input_grad[0]:
            grads[0] = _sum(grads[0], differentiable(*term, *ctx.options))
        needs = [a and b for a, b in zip(ctx.needs_input_grad[1:4], original, strict=True)]
        for i, grad in enumerate(_backward(grad_output, term, ctx.options, needs), start=1):
            grads[i] = _sum(grads[i], grad)
    return (*grads, *(None for _ in (*ctx.options, *ctx.needs)))


def _directional_derivative(inputs: Any, directions: Any, combine: str) -> list[tuple[Any, tuple[bool, bool, bool]]]:
    """The calls whose sum is D of this file's docstring, each with the places that hold an input and not a direction."""
    x, c, s = inputs
    v_x, v_c, v_s = directions
    terms: list[tuple[Any, tuple[bool, bool, bool]]] = []
    if v_x is not None:
        terms.append(((v_x, c, s), (False, c is not None, s is not None)))
    if combine == "mul":
        if v_c is not None:
            terms.append(((x, v_c, s), (True, False, s is not None)))
        if v_s is not None:
            terms.append(((x, c, v_s), (True, c is not None, False)))
    elif v_c is not None or v_s is not None:
        terms.append(((x, v_c, v_s), (True, False, False)))
    return terms


def _backward(grad_output: Tensor, inputs: Any, options: tuple[Any, ...], needs: Any) -> list[Tensor | None]:
    if not any(needs):
        return [None, None, None]
    grads = _call("ddf_backward", grad_output, *inputs, *options, *needs)
    return [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


class _EagerForward(torch.autograd.Function):
    backward = staticmethod(_gradient)

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():  # else the op looks for its own rules again
            output = _op("ddf")(*args)
        _save_inputs(ctx, args, output)
        return output


class _EagerBackward(torch.autograd.Function):
    backward = staticmethod(_second_gradient)

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            output = _op("ddf_backward")(*args)
        _save_all(ctx, args, output)
        return output


class _TransformedForward(torch.autograd.Function):
    generate_vmap_rule = True
    setup_context = staticmethod(_save_inputs)
    backward = staticmethod(_gradient)

    @staticmethod
    def forward(*args: Any) -> Any:
        return _op("ddf")(*args)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        total: Tensor | None = None
        for term, _ in _directional_derivative(ctx.saved_tensors, tangents[:3], ctx.options[-2]):
            total = _sum(total, differentiable(*term, *ctx.options))
        return total


class _TransformedBackward(torch.autograd.Function):
    generate_vmap_rule = True
    setup_context = staticmethod(_save_all)
    backward = staticmethod(_second_gradient)

    @staticmethod
    def forward(*args: Any) -> Any:
        return _op("ddf_backward")(*args)

    @staticmethod
    def jvp(ctx: Any, grad_tangent: Tensor | None, *tangents: Tensor | None) -> Any:
        grad_output, *inputs = ctx.saved_tensors
        totals: list[Tensor | None] = [None] * 3
        if grad_tangent is not None:
            totals = _backward(grad_tangent, inputs, ctx.options, ctx.needs)
        for term, original in _directional_derivative(inputs, tangents[:3], ctx.options[-2]):
            needs = [a and b for a, b in zip(ctx.needs, original, strict=True)]
            totals = [_sum(a, b) for a, b in zip(totals, _backward(grad_output, term, ctx.options, needs), strict=True)]
        return tuple(grad_output.new_empty(0) if total is None else total for total in totals)


# Autocast


def autocast_inputs(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The tensors in the autocast dtype of their device where autocast is on; float64 and integers stay as they are."""
    device_type = next(t.device.type for t in tensors if t is not None)
    if not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors
    )


def _autocast(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, *options: Any) -> Tensor:
    inputs = autocast_inputs(x, channel_filter, spatial_filter)
    with torch.amp.autocast(x.device.type, enabled=False):
        y: Tensor = torch.ops.ddfnet.ddf(*inputs, *options)
    return y


# vmap: the mapped dimension joins the batch


def _join(size: int, tensors: tuple[Any, ...], in_dims: tuple[int | None, ...]) -> list[Tensor | None]:
    joined: list[Tensor | None] = []
    for t, dim in zip(tensors, in_dims, strict=True):
        if t is None:
            joined.append(None)
        else:
            mapped = t.unsqueeze(0).expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
            joined.append(mapped.flatten(0, 1))
    return joined


def _vmap_forward(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
    y = torch.ops.ddfnet.ddf(*_join(info.batch_size, args[:3], in_dims[:3]), *args[3:])
    return y.unflatten(0, (info.batch_size, y.shape[0] // info.batch_size)), 0


def _vmap_backward(
    info: Any, in_dims: tuple[int | None, ...], *args: Any
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    joined = _join(info.batch_size, args[:4], in_dims[:4])
    grads = torch.ops.ddfnet.ddf_backward(*joined, *args[4:])
    needs = args[-3:]
    split = tuple(
        grad.unflatten(0, (info.batch_size, grad.shape[0] // info.batch_size)) if needed else grad
        for grad, needed in zip(grads, needs, strict=True)
    )
    return split, tuple(0 if needed else None for needed in needs)
