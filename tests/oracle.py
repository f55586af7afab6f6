"""Eq. 2 and DDF-Up as nested float64 loops, and the error bound to which every backend is held.

`oracle` is the definition, one term at a time; nothing of it comes from `ddfnet`. Beside each output element it returns
the number of its terms and the sum of their magnitudes, from which the bound follows. A term is a product of at most
three numbers (two roundings), n terms take n - 1 additions, so an element is off by at most (n + 1) u sum|terms| with
u = eps / 2, whatever the order of the additions; the oracle itself, in float64, by as much again. For n >= 1 the two
together are at most 2 n eps sum|terms|, and rounding the result to the output's dtype adds half an ulp:

    |y - y64| <= ulp(y) / 2 + 2 n eps sum|terms|,    eps that of float32, or of float64 for float64
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ddfnet.bench.cases import OpCase

C = 2  # of the bound above


@dataclass
class Sums:
    """Sums of terms, with what their error bound needs."""

    value: np.ndarray
    magnitude: np.ndarray  # sum of |term|
    count: np.ndarray  # number of terms

    @classmethod
    def zeros(cls, *shape: int) -> "Sums":
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def add(self, index: tuple, term: float) -> None:
        self.value[index] += term
        self.magnitude[index] += abs(term)
        self.count[index] += 1


@dataclass
class Expected:
    """The output and the gradients of x, channel_filter and spatial_filter; None where there is no such input."""

    y: Sums
    grads: tuple[Sums | None, Sums | None, Sums | None]


def oracle(
    x: np.ndarray,  # (B, C, H, W)
    channel: np.ndarray | None,  # (B, C, k, k) or (B, r*r, C, k, k)
    spatial: np.ndarray | None,  # (B, G, K, P, Q)
    grad_y: np.ndarray,  # (B, C, P, Q)
    *,
    k: int,
    stride: int = 1,
    dilation: int = 1,
    scale: int = 1,
    combine: str = "mul",
    padding: str = "same",
) -> Expected:
    """One term at a time: output pixel (p, q) is centred on input pixel (p // scale * stride, q // scale * stride).

    With padding "valid", the first filter's first tap lies on the first pixel.
    """
    begin = k // 2 * dilation if padding == "same" else 0
    y, grad_x = Sums.zeros(*grad_y.shape), Sums.zeros(*x.shape)
    ch, sp = _filled(x, channel, spatial, grad_y.shape, k, combine)
    grad_ch, grad_sp = Sums.zeros(*ch.shape), Sums.zeros(*sp.shape)
    per_head = x.shape[1] // sp.shape[1]
    for b, c, p, q in np.ndindex(*y.value.shape):
        for u, v in np.ndindex(k, k):
            i = p // scale * stride + u * dilation - begin
            j = q // scale * stride + v * dilation - begin
            if not (0 <= i < x.shape[2] and 0 <= j < x.shape[3]):
                continue
            at_ch = (b, c, u, v) if ch.ndim == 4 else (b, p % scale * scale + q % scale, c, u, v)
            at_sp = (b, c // per_head, u * k + v, p, q)
            at_x, at_y = (b, c, i, j), (b, c, p, q)
            if combine == "mul":
                y.add(at_y, ch[at_ch] * sp[at_sp] * x[at_x])
                grad_x.add(at_x, ch[at_ch] * sp[at_sp] * grad_y[at_y])
                grad_ch.add(at_ch, sp[at_sp] * x[at_x] * grad_y[at_y])
                grad_sp.add(at_sp, ch[at_ch] * x[at_x] * grad_y[at_y])
            else:
                y.add(at_y, (ch[at_ch] + sp[at_sp]) * x[at_x])
                grad_x.add(at_x, (ch[at_ch] + sp[at_sp]) * grad_y[at_y])
                grad_ch.add(at_ch, x[at_x] * grad_y[at_y])
                grad_sp.add(at_sp, x[at_x] * grad_y[at_y])
    return Expected(y, (grad_x, None if channel is None else grad_ch, None if spatial is None else grad_sp))


def oracle_by_taps(
    x: np.ndarray,
    channel: np.ndarray | None,
    spatial: np.ndarray | None,
    grad_y: np.ndarray,
    *,
    k: int,
    stride: int = 1,
    dilation: int = 1,
    scale: int = 1,
    combine: str = "mul",
    padding: str = "same",
) -> Expected:
    """`oracle` with only the taps in a loop, for many shapes; held to `oracle` by tests/ops/test_oracle.py."""
    begin = k // 2 * dilation if padding == "same" else 0
    y, grad_x = Sums.zeros(*grad_y.shape), Sums.zeros(*x.shape)
    ch, sp = _filled(x, channel, spatial, grad_y.shape, k, combine)
    grad_ch, grad_sp = Sums.zeros(*ch.shape), Sums.zeros(*sp.shape)
    b, c, p, q = np.indices(grad_y.shape)
    for u, v in np.ndindex(k, k):
        i = p // scale * stride + u * dilation - begin
        j = q // scale * stride + v * dilation - begin
        inside = (i >= 0) & (i < x.shape[2]) & (j >= 0) & (j < x.shape[3])
        bb, cc, pp, qq, ii, jj = (a[inside] for a in (b, c, p, q, i, j))
        at_ch = (bb, cc, u, v) if ch.ndim == 4 else (bb, pp % scale * scale + qq % scale, cc, u, v)
        at_sp = (bb, cc // (x.shape[1] // sp.shape[1]), u * k + v, pp, qq)
        at_x, at_y = (bb, cc, ii, jj), (bb, cc, pp, qq)
        tap = ch[at_ch] * sp[at_sp] if combine == "mul" else ch[at_ch] + sp[at_sp]
        other_sp, other_ch = (sp[at_sp], ch[at_ch]) if combine == "mul" else (1.0, 1.0)
        terms = (
            (y, at_y, tap * x[at_x]),
            (grad_x, at_x, tap * grad_y[at_y]),
            (grad_ch, at_ch, other_sp * x[at_x] * grad_y[at_y]),
            (grad_sp, at_sp, other_ch * x[at_x] * grad_y[at_y]),
        )
        for sums, index, term in terms:
            np.add.at(sums.value, index, term)
            np.add.at(sums.magnitude, index, np.abs(term))
            np.add.at(sums.count, index, 1)
    return Expected(y, (grad_x, None if channel is None else grad_ch, None if spatial is None else grad_sp))


def _filled(
    x: np.ndarray, channel: np.ndarray | None, spatial: np.ndarray | None, out: tuple, k: int, combine: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both filters, a missing one as all ones ("mul") or all zeros ("add")."""
    neutral = 1.0 if combine == "mul" else 0.0
    channel = np.full((*x.shape[:2], k, k), neutral) if channel is None else channel
    spatial = np.full((x.shape[0], 1, k * k, *out[2:]), neutral) if spatial is None else spatial
    return channel, spatial


def assert_within_bound(actual: Tensor, expected: Sums, name: str = "y") -> None:
    """The bound of this file's docstring, element by element."""
    shape = expected.value.shape
    if actual.dim() == 4 and len(shape) == 5:  # a spatial filter of one head
        actual = actual.unsqueeze(1)
    assert actual.shape == shape, f"{name}: {tuple(actual.shape)} for {shape}"
    assert torch.isfinite(actual).all(), f"{name}: not finite"
    accumulated = torch.float64 if actual.dtype == torch.float64 else torch.float32
    error = np.abs(actual.detach().cpu().double().numpy() - expected.value)
    slack = C * expected.count * torch.finfo(accumulated).eps * expected.magnitude
    # What is rounded is within the slack of the expected value: its ulp may be that of the next power of two.
    bound = half_ulp(np.abs(expected.value) + slack, actual.dtype) * (expected.count > 0) + slack
    excess = error - bound
    if excess.size and excess.max() > 0:
        at = np.unravel_index(excess.argmax(), shape)
        raise AssertionError(
            f"{name}{list(map(int, at))}: {actual[at].item()} for {expected.value[at]}, off by {error[at]:.3e}, "
            f"allowed {bound[at]:.3e}; {int((excess > 0).sum())} of {excess.size} elements are out of bounds"
        )


def half_ulp(value: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Half the distance of neighbouring numbers of `dtype` at each value >= 0; the smallest subnormal's near 0."""
    info = torch.finfo(dtype)
    _, exponent = np.frexp(np.maximum(value, info.tiny))  # value = m * 2**exponent, 1/2 <= m < 1
    return 0.5 * info.eps * np.ldexp(1.0, exponent - 1)


def draw(case: "OpCase", dtype: torch.dtype, seed: int = 0, **options: object) -> tuple[Tensor, ...]:
    """x, channel_filter, spatial_filter and grad_y of one call, as values of `dtype`; `options` go to `case.inputs`."""
    generator = torch.Generator().manual_seed(seed + 1)
    grad_y = torch.randn(case.out_shape, generator=generator, dtype=torch.float64).to(dtype)
    return *case.inputs(dtype=dtype, seed=seed, **options), grad_y


def oracle_on(case: "OpCase", *tensors: Tensor | None, by: Callable[..., Expected] = oracle) -> Expected:
    """The oracle on x, channel_filter, spatial_filter (5-D) and grad_y: the float64 values of what their dtype holds."""
    return by(
        *(None if t is None else t.detach().cpu().double().numpy() for t in tensors),
        k=case.kernel_size,
        stride=case.stride,
        dilation=case.dilation,
        scale=case.scale_factor,
        combine=case.combine,
        padding=case.padding,
    )


@cache
def expected_of(case: "OpCase", dtype: torch.dtype, seed: int = 0) -> Expected:
    """The oracle on what `draw` draws; kept, not to be written to."""
    return oracle_on(case, *draw(case, dtype, seed))


Call = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


def assert_call_close(
    call: Call, inputs: tuple[Tensor | None, ...], grad_y: Tensor, expected: Expected
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Runs `call(*inputs)` and its gradients, holds them to `expected`, returns y and the gradients."""
    y = call(*inputs)
    assert y.dtype == inputs[0].dtype
    assert_within_bound(y, expected.y)
    results = iter(torch.autograd.grad(y, [t for t in inputs if t is not None], grad_y))
    grads = tuple(None if t is None else next(results) for t in inputs)
    names = ("grad_x", "grad_channel_filter", "grad_spatial_filter")
    for name, grad, sums in zip(names, grads, expected.grads, strict=True):
        if grad is not None:
            assert grad.dtype == y.dtype
            assert_within_bound(grad, sums, name)
    return y, grads


def assert_close_to_oracle(
    backend: str,
    case: "OpCase",
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    *,
    layout: Callable[[Tensor], Tensor] = lambda t: t,
    device: str = "cpu",
    seed: int = 0,
    by: Callable[..., Expected] = oracle,
) -> tuple[tuple[Tensor | None, ...], Tensor, tuple[Tensor | None, ...]]:
    """Runs `backend` on `case`, forward and all gradients, and holds it to the oracle.

    Args:
        backend: a name of `ddfnet.ddf`'s backends.
        case, dtype, memory_format, seed: of the inputs. The output's gradient comes in `memory_format` too.
        layout: applied to inputs and output gradient; changes strides and never values.
        by: `oracle`, or `oracle_by_taps` where there are many shapes.

    Returns:
        x, channel_filter, spatial_filter; y; the gradients of the three.
    """
    *inputs, grad_y = draw(case, dtype, seed, memory_format=memory_format)
    expected = expected_of(case, dtype, seed) if by is oracle else oracle_on(case, *inputs, grad_y, by=by)
    leaves = tuple(None if t is None else layout(t.to(device)).requires_grad_() for t in inputs)
    grad_y = layout(grad_y.to(device).contiguous(memory_format=memory_format))
    y, grads = assert_call_close(partial(case.call, backend=backend), leaves, grad_y, expected)
    return leaves, y, grads
