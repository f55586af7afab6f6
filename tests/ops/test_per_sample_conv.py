"""A weight for each sample, against one convolution a sample."""

import pytest
import torch
import torch.nn.functional as F

from ddfnet.ops.per_sample_conv import per_sample_conv2d


@pytest.mark.parametrize(("k", "stride", "dilation"), [(1, 2, 1), (3, 1, 1), (3, 2, 2), (5, 3, 1)])
def test_equals_a_convolution_a_sample(k: int, stride: int, dilation: int) -> None:
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 4, k, k, dtype=torch.float64, requires_grad=True)
    y = per_sample_conv2d(x, weight, stride=stride, dilation=dilation)
    assert y.shape == (3, 5, -(-7 // stride), -(-6 // stride))
    padding = k // 2 * dilation
    each = [F.conv2d(a[None], w, None, stride, padding, dilation) for a, w in zip(x, weight, strict=True)]
    expected = torch.cat(each)
    torch.testing.assert_close(y, expected)
    grad = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"x: expected \(B, C, H, W\), got \(4, 7, 6\)"):
        per_sample_conv2d(torch.ones(4, 7, 6), torch.ones(1, 5, 4, 3, 3))
    for shape in ((3, 5, 4, 3, 3), (2, 5, 3, 3, 3), (2, 5, 4, 3, 5), (2, 5, 4, 2, 2), (5, 4, 3, 3)):
        with pytest.raises(ValueError, match=r"weight: expected \(2, O, 4, k, k\) with k odd, got \("):
            per_sample_conv2d(torch.ones(2, 4, 7, 6), torch.ones(shape))
