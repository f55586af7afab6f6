"""The derivatives of `torch.ops.ddfnet.ddf`, to any order, and how it is mapped over a batch dimension (vmap).

Derivatives need no formulas beyond the two kernels, because Eq. 2 is linear in x and in each filter (for "add": in x,
and in the two filters together). With cotangent g of y and directions (v_x, v_c, v_s), the op's directional derivative is

    mul:  D = y(v_x, c, s) + y(x, v_c, s) + y(x, c, v_s)
    add:  D = y(v_x, c, s) + y(x, v_c, v_s)

and the backward of the backward op is the gradient of <g, D>: forward calls for g, backward calls for x, c and s. Both ops
being differentiable, so is that, without end. `registry` brings these rules to autograd and `torch.func`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import BackwardOptions, Options
from ddfnet.ops.registry import CALLS

Inputs = Sequence[Tensor | None]  # x, channel filter, spatial filter, or a direction of each
Needs = Sequence[bool]  # of which of these a gradient is asked for


def gradient(inputs: Inputs, options: Options, needs: Needs, grad_output: Tensor | None) -> list[Tensor | None]:
    """Return the gradients of the op's three inputs."""
    if grad_output is None or not any(needs):
        return [None, None, None]
    grads = CALLS["ddf_backward"](grad_output, *inputs, *options, *needs)
    return [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]


def second_gradient(
    saved: Inputs, options: BackwardOptions, needs: Needs, *directions: Tensor | None
) -> list[Tensor | None]:
    """Return the gradients of the backward op's four inputs, given the cotangents of its three gradients."""
    grad_output, *inputs = saved
    wanted = [v if needed else None for v, needed in zip(directions, options.needs, strict=True)]
    grads: list[Tensor | None] = [None] * 4
    for term, original in _directional_derivative(inputs, wanted, options.combine):
        if needs[0]:
            grads[0] = _sum(grads[0], CALLS["ddf"](*term, *options.forward))
        asked = [a and b for a, b in zip(needs[1:], original, strict=True)]
        for i, grad in enumerate(gradient(term, options.forward, asked, grad_output), start=1):
            grads[i] = _sum(grads[i], grad)
    return grads


def jvp(inputs: Inputs, options: Options, tangents: Inputs) -> Tensor | None:
    """Return the op's directional derivative D."""
    total: Tensor | None = None
    for term, _ in _directional_derivative(inputs, tangents, options.combine):
        total = _sum(total, CALLS["ddf"](*term, *options))
    return total


def backward_jvp(saved: Inputs, options: BackwardOptions, tangents: Inputs) -> tuple[Tensor, ...]:
    """Return the directional derivative of the backward op, which is linear in the cotangent too."""
    grad_output, *inputs = saved
    totals = gradient(inputs, options.forward, options.needs, tangents[0])
    for term, original in _directional_derivative(inputs, tangents[1:], options.combine):
        asked = [a and b for a, b in zip(options.needs, original, strict=True)]
        found = gradient(term, options.forward, asked, grad_output)
        totals = [_sum(a, b) for a, b in zip(totals, found, strict=True)]
    return tuple(grad_output.new_empty(0) if total is None else total for total in totals)  # type: ignore[union-attr]


def _directional_derivative(
    inputs: Inputs, directions: Inputs, combine: str
) -> list[tuple[Inputs, tuple[bool, bool, bool]]]:
    """Return the calls whose sum is D of this file's docstring, each with the places of inputs that are no directions."""
    x, c, s = inputs
    v_x, v_c, v_s = directions
    terms: list[tuple[Inputs, tuple[bool, bool, bool]]] = []
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


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


# vmap: the mapped dimension joins the batch

Dims = Sequence[int | None]


def vmap(size: int, in_dims: Dims, inputs: Inputs, options: Options) -> tuple[Tensor, int]:
    y = torch.ops.ddfnet.ddf(*_joined(size, inputs, in_dims), *options)
    return y.unflatten(0, (size, y.shape[0] // size)), 0


def backward_vmap(
    size: int, in_dims: Dims, inputs: Inputs, options: BackwardOptions
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    grads = torch.ops.ddfnet.ddf_backward(*_joined(size, inputs, in_dims), *options)
    split = tuple(
        grad.unflatten(0, (size, grad.shape[0] // size)) if needed else grad
        for grad, needed in zip(grads, options.needs, strict=True)
    )
    return split, tuple(0 if needed else None for needed in options.needs)


def _joined(size: int, tensors: Inputs, in_dims: Dims) -> list[Any]:
    joined: list[Tensor | None] = []
    for t, dim in zip(tensors, in_dims, strict=True):
        if t is None:
            joined.append(None)
        else:
            mapped = t.unsqueeze(0).expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
            joined.append(mapped.flatten(0, 1))
    return joined
