"""Make an op: `define` gives it its eager function, autograd, autocast, `torch.func`, fake and FLOP rules.

A gradient rule is written once and reaches autograd three ways. It is registered on the op, which is what `torch.compile`
and exported programs see. An eager call that needs gradients goes through an `autograd.Function` around the op, at a third
of the cost on the host (`benchmarks/dispatch.py`). Under `torch.func` and forward-mode derivatives, where rules registered
on an op do not work, an op with a `jvp` rule goes through a Function in the style they ask for, which is the slowest.

This is the only file that uses private names of PyTorch: the questions about its state below have no public answer.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import handle_torch_function, has_torch_function_unary

from ddfnet.ops.flops import add_formula

Rule = Callable[..., Any]

CALLS: dict[str, Rule] = {}  # what `define` returned, by the op's name

_LIBRARY = torch.library.Library("ddfnet", "DEF")
_AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA", "AutocastXPU", "AutocastMPS")
_TYPES = {int: "int", float: "float", str: "str", bool: "bool", int | None: "int?"}


def define(
    name: str,
    tensors: Sequence[str],
    options: type[Any],
    *,
    outputs: int = 1,
    kernel: Rule,
    fake: Rule,
    backward: Rule | None = None,
    saved: Rule | None = None,
    differentiable: int | None = None,
    jvp: Rule | None = None,
    vmap: Rule | None = None,
    autocast: bool = False,
    flops: Rule | None = None,
) -> Rule:
    """Register the op `torch.ops.ddfnet.NAME` and return the function that calls it by its cheapest differentiable way.

    The op takes its tensors, then its options one by one. Its rules take them as (`*tensors, options`), a record.

    Args:
        name: of the op.
        tensors: names of its tensor arguments; "?" at the end marks those that may be None.
        options: a NamedTuple of its other arguments (int, int | None, float, str, bool), in their order.
        outputs: how many tensors it returns; one that is not asked for is empty, since a schema has no optional outputs.
        kernel: computes the outputs: (*tensors, options).
        fake: makes empty outputs of the right shapes, likewise.
        backward: gradients of the tensors: (saved, options, needs, *grad_outputs). A gradient may be None.
        saved: what `backward` needs: (tensors, outputs) -> tensors; the tensors by default.
        differentiable: how many outputs, the first, have gradients; all by default.
        jvp: directional derivative: (saved, options, tangents) -> outputs.
        vmap: the op on batches: (batch_size, in_dims, tensors, options) -> outputs, out_dims.
        autocast: cast the tensors to autocast's dtype.
        flops: FLOPs, for `FlopCounterMode`: (*shapes, options).
    """
    _LIBRARY.define(_schema(name, tensors, options, outputs))
    op, count = getattr(torch.ops.ddfnet, name).default, len(tensors)
    _LIBRARY.impl(name, _with_record(kernel, count, options), "CompositeExplicitAutograd")
    torch.library.register_fake(op, _with_record(fake, count, options), lib=_LIBRARY)
    if vmap is not None:
        torch.library.register_vmap(op, _vmap_rule(vmap, count, options), lib=_LIBRARY)
    if autocast:
        for key in _AUTOCAST_KEYS:
            _LIBRARY.impl(name, _autocast_rule(op, count), key)
    if flops is not None:
        add_formula(name, _with_record(flops, count, options))
    if backward is None:
        CALLS[name] = op
        return op
    save, gradient = _save_rule(saved, count), _gradient_rule(backward, count, options)
    torch.library.register_autograd(op, gradient, setup_context=save, lib=_LIBRARY)
    eager = _eager_function(op, save, gradient, differentiable)
    transformed = eager
    if jvp is not None:
        transformed = _transformed_function(op, save, gradient, _jvp_rule(jvp, count, options))
    CALLS[name] = _call(op, eager, transformed, count if autocast else 0)
    return CALLS[name]


def _call(op: Any, eager: Any, transformed: Any, cast: int) -> Rule:
    """Return a function that calls the op by its cheapest differentiable way, its first `cast` tensors under autocast."""

    name = op.name()

    def call(*args: Any) -> Any:
        if cast and torch._C._is_any_autocast_enabled():
            # Cast before the inputs are saved: the op's autocast rule comes too late for that.
            args = (*autocast_inputs(*args[:cast]), *args[cast:])
        if torch.compiler.is_compiling():
            if is_transformed():
                raise RuntimeError(
                    f"{name} can't serve this call: transforms of torch.func inside torch.compile need "
                    "backend='reference', which 'auto' takes there"
                )
            return op(*args)
        if is_transformed():  # asked first: forward-mode derivatives are taken under no_grad too
            return transformed.apply(*args)
        asked = torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        if asked and not torch._C._is_tracing():  # torch.jit.trace records the op, not the function around it
            return eager.apply(*args)
        return op(*args)

    return call


def _schema(name: str, tensors: Sequence[str], options: type[Any], outputs: int) -> str:
    hints = get_type_hints(options)
    args = [f"Tensor? {t[:-1]}" if t.endswith("?") else f"Tensor {t}" for t in tensors]
    args += [f"{_schema_type(hints[field])} {field}" for field in options._fields]
    returned = "Tensor" if outputs == 1 else f"({', '.join(['Tensor'] * outputs)})"
    return f"{name}({', '.join(args)}) -> {returned}"


def _schema_type(hint: Any) -> str:
    """Return the schema's type for an option's annotation; a Literal is a string."""
    return _TYPES[hint] if hint in _TYPES else _TYPES[type(get_args(hint)[0])]


def _with_record(rule: Rule, count: int, options: type[Any]) -> Rule:
    """Return a rule that takes `count` tensors and then the options one by one, from one that takes a record of them."""
    return lambda *args, **_: rule(*args[:count], options(*args[count:]))


def _save_rule(saved: Rule | None, count: int) -> Rule:
    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept = inputs[:count] if saved is None else saved(inputs[:count], output)
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        ctx.options = inputs[count:]
        ctx.set_materialize_grads(False)

    return save


def _gradient_rule(backward: Rule, count: int, options: type[Any]) -> Rule:
    def gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors  # read once: checkpoints allow no more
        found = backward(kept, options(*ctx.options), ctx.needs_input_grad[:count], *grads)
        return (*found, *(None for _ in ctx.options))

    return gradient


def _jvp_rule(jvp: Rule, count: int, options: type[Any]) -> Rule:
    return lambda ctx, *tangents: jvp(ctx.saved_tensors, options(*ctx.options), tangents[:count])


def _eager_function(op: Any, save: Rule, gradient: Rule, differentiable: int | None) -> Any:
    class Eager(torch.autograd.Function):
        backward = staticmethod(gradient)

        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():  # else the op looks for its rules again
                output = op(*args)
            save(ctx, args, output)
            if differentiable is not None:
                ctx.mark_non_differentiable(*output[differentiable:])
            return output if isinstance(output, Tensor) else tuple(output)

    return Eager


def _transformed_function(op: Any, save: Rule, gradient: Rule, rule: Rule) -> Any:
    class Transformed(torch.autograd.Function):
        generate_vmap_rule = True
        setup_context = staticmethod(save)
        backward = staticmethod(gradient)
        jvp = staticmethod(rule)

        @staticmethod
        def forward(*args: Any) -> Any:
            return op(*args)

    return Transformed


def _autocast_rule(op: Any, count: int) -> Rule:
    def rule(*args: Any) -> Any:
        tensors = autocast_inputs(*args[:count])
        with torch.amp.autocast(args[0].device.type, enabled=False):
            return op(*tensors, *args[count:])

    return rule


def _vmap_rule(vmap: Rule, count: int, options: type[Any]) -> Rule:
    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return vmap(info.batch_size, in_dims[:count], args[:count], options(*args[count:]))

    return rule


# Functions that tensors' subclasses see


def leaf(function: Rule) -> Rule:
    """Make a function of a tensor `x` and more one node of a `torch.fx` graph, whose proxies have no sizes to compare."""

    @functools.wraps(function)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if has_torch_function_unary(x):
            return handle_torch_function(call, (x,), x, *args, **kwargs)
        return function(x, *args, **kwargs)

    return call


# Questions about PyTorch's state


def is_transformed() -> bool:
    """True within a transform of `torch.func` or a level of forward-mode differentiation."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_traced() -> bool:
    """True within `torch.jit.trace`, which the classic ONNX exporter uses too."""
    # PyTorch 2.9 can't compile the second question.
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def needs_reference() -> bool:
    """True where "auto" must be PyTorch's operations: in ONNX programs and in compiled `torch.func` transforms."""
    if torch.compiler.is_compiling() and is_transformed():
        return True
    # torch.onnx takes longer to load than a call may, and whoever exports has loaded it.
    exporting = is_traced() or (torch.compiler.is_compiling() and torch.compiler.is_exporting())
    return exporting and "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


def is_wrapper(tensor: Tensor) -> bool:
    """True of a tensor made of others, such as FSDP's DTensor or a quantised one: no kernel can read its memory."""
    return hasattr(type(tensor), "__tensor_flatten__")


def has_global_hooks() -> bool:
    """True if a hook is registered on all modules."""
    return _has_any_global_hook()


def autocast_inputs(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Cast the tensors to the autocast dtype of their device where autocast is on; float64 and integers stay."""
    if not torch._C._is_any_autocast_enabled():
        return tensors
    device_type = next(t.device.type for t in tensors if t is not None)
    if not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors
    )
