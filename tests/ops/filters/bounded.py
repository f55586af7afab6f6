"""The filter prediction of a DDF layer, forward and backward, with bounds on what rounding can do to each number.

`Bounded` carries values in float64 and, for each, a bound on the error of the same computation in float32: an operation
passes on the errors of its operands and adds its own rounding, u = eps / 2 of the result; a sum of n terms, in any order,
adds at most n u sum|terms|. Twice that, eps, is taken, which covers an implementation that rounds once more.
`prediction` is the definition (Eq. 3 and Sec. 3.2) and its derivatives by hand; nothing of it comes from `ddfnet`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Convolutions and matrix products of float32 in "ieee" or "tf32"."""
    flags = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [each.fp32_precision for each in flags]
    try:
        for each in flags:
            each.fp32_precision = precision
        yield
    finally:
        for each, value in zip(flags, before, strict=True):
            each.fp32_precision = value


@dataclass
class Bounded:
    value: Tensor
    error: Tensor

    @classmethod
    def exact(cls, value: Tensor) -> "Bounded":
        value = value.detach().double().cpu()
        return cls(value, torch.zeros_like(value))

    def __add__(self, other: "Bounded") -> "Bounded":
        value = self.value + other.value
        return Bounded(value, self.error + other.error + EPS * value.abs())

    def __neg__(self) -> "Bounded":
        return Bounded(-self.value, self.error)

    def __sub__(self, other: "Bounded") -> "Bounded":
        return self + -other

    def __mul__(self, other: "Bounded | float") -> "Bounded":
        if not isinstance(other, Bounded):
            return Bounded(self.value * other, self.error * abs(other) + EPS * (self.value * other).abs())
        value = self.value * other.value
        error = self.value.abs() * other.error + self.error * (other.value.abs() + other.error)
        return Bounded(value, error + EPS * value.abs())

    def __truediv__(self, other: "Bounded") -> "Bounded":
        least = other.value.abs() - other.error
        assert (least > 0).all()
        value = self.value / other.value
        return Bounded(value, (self.error + value.abs() * other.error) / least + EPS * value.abs())

    def __matmul__(self, other: "Bounded") -> "Bounded":
        error = self.value.abs() @ other.error + self.error @ (other.value.abs() + other.error)
        terms = self.value.shape[-1]
        return Bounded(self.value @ other.value, error + terms * EPS * (self.value.abs() @ other.value.abs()))

    def sum(self, *dims: int) -> "Bounded":
        terms = 1
        for dim in dims:
            terms *= self.value.shape[dim]
        error = self.error.sum(dims, keepdim=True) + terms * EPS * self.value.abs().sum(dims, keepdim=True)
        return Bounded(self.value.sum(dims, keepdim=True), error)

    def sqrt(self) -> "Bounded":
        least = self.value - self.error
        assert (least > 0).all()
        return Bounded(self.value.sqrt(), self.error / (2 * least.sqrt()) + EPS * self.value.sqrt())

    def positive(self) -> "Bounded":
        assert (self.value.abs() > self.error).all(), "a ReLU whose side rounding decides"
        return Bounded(self.value.clamp_min(0), self.error * (self.value > 0))

    def rounded(self, dtype: torch.dtype) -> "Bounded":
        """Stored in `dtype` on the way."""
        if dtype == torch.float32:
            return self
        unit = torch.finfo(dtype).eps / 2
        return Bounded(self.value, self.error + unit * (self.value.abs() + self.error) + torch.finfo(dtype).tiny * unit)

    def view(self, *shape: int) -> "Bounded":
        return Bounded(self.value.reshape(shape), self.error.reshape(shape))

    @property
    def mT(self) -> "Bounded":  # noqa: N802
        return Bounded(self.value.mT, self.error.mT)

    def excess(self, got: Tensor) -> float:
        """By how many times its bound the worst element of `got` is off; fine up to 1."""
        off = (got.detach().double().cpu().reshape(self.value.shape) - self.value).abs()
        return float((off / self.error.clamp_min(1e-300)).max()) if off.numel() else 0.0


class Normalised:
    """Eq. 3 over the last dimension, without shift."""

    def __init__(self, raw: Bounded, scale: Bounded) -> None:
        self.scale, self.taps = scale, raw.value.shape[-1]
        centred = raw - raw.sum(-1) * (1 / self.taps)
        self.std = ((centred * centred).sum(-1) * (1 / (self.taps - 1))).sqrt()
        self.unit = centred / self.std
        self.filters = self.unit * scale

    def grad_raw(self, grad: Bounded) -> Bounded:
        terms = grad * self.scale
        along = (terms * self.unit).sum(-1) * (1 / (self.taps - 1)) / self.std
        terms = terms / self.std - self.unit * along
        return terms - terms.sum(-1) * (1 / self.taps)


def spatial(
    x: Tensor, weight: Tensor, bias: Tensor, scale: float, grad: Tensor, stride: int, heads: int
) -> tuple[Bounded, tuple[Bounded, Bounded, Bounded]]:
    """The filters (B, P, Q, G, K), and the gradients of x (at the pixels the filters are centred on), weight and bias.

    `grad`, that of the filters, is (B, G, K, P, Q).
    """
    at = Bounded.exact(x[:, :, ::stride, ::stride])
    batch, channels, rows, columns = at.value.shape
    rows_of_x = Bounded.exact(at.value.permute(0, 2, 3, 1).reshape(-1, channels))
    matrix = Bounded.exact(weight.flatten(1))
    raw = rows_of_x @ matrix.mT + Bounded.exact(bias)
    own = Normalised(raw.view(-1, heads, raw.value.shape[1] // heads), Bounded.exact(torch.tensor(scale)))
    grad_raw = own.grad_raw(Bounded.exact(grad.permute(0, 3, 4, 1, 2).reshape(own.filters.value.shape)))
    grad_raw = grad_raw.view(*raw.value.shape)
    grad_x = (grad_raw @ matrix).view(batch, rows, columns, channels)
    grads = (grad_x, grad_raw.mT @ rows_of_x, grad_raw.sum(0))
    return own.filters.view(batch, rows, columns, heads, -1), grads


def channel(
    x: Tensor,
    squeeze_weight: Tensor,
    squeeze_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    grad: Tensor,
    taps: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[Bounded, tuple[Bounded, ...]]:
    """The filters (B, C, K), and the gradients of x (B, C), the same for each pixel, and of the five parameters."""
    batch, channels, height, width = x.shape
    first, second = Bounded.exact(squeeze_weight.flatten(1)), Bounded.exact(weight.flatten(1))
    pooled = (Bounded.exact(x.flatten(2)).sum(2) * (1 / (height * width))).view(batch, channels).rounded(dtype)
    before = pooled @ first.mT + Bounded.exact(squeeze_bias)
    hidden = before.positive().rounded(dtype)
    raw = hidden @ second.mT + Bounded.exact(bias)
    own = Normalised(raw.view(batch, -1, taps), Bounded.exact(scale.view(-1, taps)))
    cotangent = Bounded.exact(grad.flatten(2))
    grad_raw = own.grad_raw(cotangent).view(*raw.value.shape)
    open_ = (before.value > 0).double()
    of_hidden = grad_raw @ second
    of_hidden = Bounded(of_hidden.value * open_, of_hidden.error * open_)
    grads = (
        (of_hidden @ first) * (1 / (height * width)),
        of_hidden.mT @ pooled,
        of_hidden.sum(0),
        grad_raw.mT @ hidden,
        grad_raw.sum(0),
        (cotangent * own.unit).sum(0),
    )
    return own.filters, grads
