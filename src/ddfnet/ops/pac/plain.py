"""Pixel-adaptive convolution and its gradients in plain PyTorch, without autograd and without unfolded patches.

The taps' weighted maps are made in a workspace of a fixed size, a band of rows at a time, and multiplied by the weights of
all taps at once. The backward pass makes them again.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ddfnet.ops.pac.geometry import Geometry, Phase, out_size, padded, window

# Elements of the workspace: what a core's cache holds, and enough to fill a GPU.
WORKSPACE = {"cpu": 2**19}
WORKSPACE_ELSEWHERE = 2**24


def pac_forward(x: Tensor, guide: Tensor, weight: Tensor, g: Geometry) -> Tensor:
    source, near = padded(x, guide, g)
    y = x.new_zeros(x.shape[0], weight.shape[0], *out_size(x, guide, g))
    for phase, centre, samples, first, last in _bands(x, guide, g):
        y_phase = y[phase.pixels(g.spacing)]
        matrix = _matrix(weight, phase)
        band = centre[samples, :, first:last]
        columns = band.new_empty(band.shape[0], len(phase.taps), x.shape[1], *band.shape[2:])
        for n, tap in enumerate(phase.taps):
            at = window(tap, g, samples, first, last, band.shape[3])
            _weigh(source[at], near[at], band, tap.number == g.centre, columns[:, n])
        product = torch.matmul(matrix, columns.flatten(3).flatten(1, 2))
        y_phase[samples, :, first:last] = product.unflatten(2, band.shape[2:])
    return y


def pac_backward(
    grad_y: Tensor, x: Tensor, guide: Tensor, weight: Tensor, g: Geometry, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    source, near = padded(x, guide, g)
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
            at = window(tap, g, samples, first, last, band.shape[3])
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
    """Write a tap's weighted maps to `out`; return the guide's differences and the Gaussian, or None where that is 1."""
    if is_centre:
        out.copy_(x)
        return None, None
    difference = near - centre
    kernel = difference.square().sum(1, keepdim=True).mul_(-0.5).exp_()
    torch.mul(x, kernel, out=out)
    return difference, kernel


def _matrix(weight: Tensor, phase: Phase) -> Tensor:
    """Return the weights (O, T*C) of a phase's taps."""
    return weight[:, [tap.number for tap in phase.taps]].flatten(1)


def _bands(x: Tensor, guide: Tensor, g: Geometry) -> Iterator[tuple[Phase, Tensor, slice, int, int]]:
    """Yield parts of the output whose weighted maps fit the workspace: phase, its centres in the guide, samples, rows."""
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
