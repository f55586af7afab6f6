"""The dense dynamic filter against its definition, one term at a time."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddfnet.ops.dynamic_filter import dynamic_filter


@pytest.mark.parametrize(("k", "stride", "dilation"), [(1, 2, 1), (3, 1, 1), (3, 2, 2), (5, 2, 1)])
def test_equals_its_definition(k: int, stride: int, dilation: int) -> None:
    """A term has one rounding, n terms n - 1 additions: off by n u sum|terms|, and the oracle by as much: n eps in all."""
    torch.manual_seed(0)
    rows, columns = -(-5 // stride), -(-4 // stride)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    filters = torch.randn(2, 2, 3, k * k, rows, columns, dtype=torch.float64)
    expected, magnitude = np.zeros((2, 2, rows, columns)), np.zeros((2, 2, rows, columns))
    for b, o, p, q, c, u, v in np.ndindex(2, 2, rows, columns, 3, k, k):
        i, j = p * stride + (u - k // 2) * dilation, q * stride + (v - k // 2) * dilation
        if 0 <= i < 5 and 0 <= j < 4:
            term = float(filters[b, o, c, u * k + v, p, q] * x[b, c, i, j])
            expected[b, o, p, q] += term
            magnitude[b, o, p, q] += abs(term)
    y = dynamic_filter(x, filters, stride=stride, dilation=dilation, backend="torch")
    assert (np.abs(y.numpy() - expected) <= 3 * k * k * np.finfo(np.float64).eps * magnitude).all()


def test_gradients() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    filters = torch.randn(1, 3, 2, 9, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: dynamic_filter(*inputs, stride=2, backend="torch"), (x, filters))


def test_flops_are_those_of_a_convolution() -> None:
    with FlopCounterMode(display=False) as counter:
        dynamic_filter(torch.ones(2, 3, 5, 4, device="meta"), torch.ones(2, 4, 3, 9, 5, 4, device="meta"))
    assert counter.get_total_flops() == 2 * (2 * 20 * 4 * 3 * 9)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"x: expected \(B, C, H, W\), got \(3, 4, 4\)"):
        dynamic_filter(torch.ones(3, 4, 4), torch.ones(1, 2, 3, 9, 4, 4))
    for shape in ((1, 2, 4, 9, 4, 4), (2, 2, 3, 9, 4, 4), (1, 0, 3, 9, 4, 4), (1, 3, 9, 4, 4)):
        with pytest.raises(ValueError, match=r"filters: expected \(1, O, 3, K, P, Q\), got \("):
            dynamic_filter(torch.ones(1, 3, 4, 4), torch.ones(shape))
