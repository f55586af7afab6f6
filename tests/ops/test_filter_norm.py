"""`filter_norm` against Eq. 3 by hand."""

import pytest
import torch

from ddfnet.ops.filter_norm import filter_norm


def test_by_hand() -> None:
    """1..9: mean 5, unbiased variance 60 / 8."""
    filters = torch.arange(1.0, 10.0, dtype=torch.float64)[None, :, None]
    expected = (filters - 5) / 7.5**0.5
    torch.testing.assert_close(filter_norm(filters, dim=1), expected)
    torch.testing.assert_close(filter_norm(filters, 2.0, 0.5, dim=1), 2 * expected + 0.5)
    torch.testing.assert_close(filter_norm(filters.mT, dim=-1), expected.mT)


def test_eps_outside_the_root() -> None:
    filters = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)  # mean 1, std sqrt(3)
    assert filter_norm(filters, dim=0, eps=1.0)[2].item() == pytest.approx(2 / (3**0.5 + 1), rel=1e-12)


def test_constant_filter_comes_out_as_the_shift_without_gradient() -> None:
    filters = torch.full((2, 9), 3.0, requires_grad=True)
    y = filter_norm(filters, 2.0, 0.25, dim=1)
    assert torch.equal(y, torch.full((2, 9), 0.25))
    y.square().sum().backward()
    assert torch.equal(filters.grad, torch.zeros(2, 9))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_normalised_in_float32(dtype: torch.dtype) -> None:
    filters = torch.randn(3, 25, 4).to(dtype)
    y = filter_norm(filters, 0.5, dim=1)
    assert y.dtype == dtype
    assert torch.equal(y, filter_norm(filters.float(), 0.5, dim=1).to(dtype))


def test_gradcheck() -> None:
    filters = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(9, 1, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(1, dtype=torch.float64, requires_grad=True)
    call = lambda f, a, b: filter_norm(f, a, b, dim=1)  # noqa: E731
    assert torch.autograd.gradcheck(call, (filters, scale, shift))
    assert torch.autograd.gradgradcheck(call, (filters, scale, shift))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.7e8, 1e-30])
@pytest.mark.parametrize("taps", [9, 49])
def test_equal_taps_give_zero_and_no_gradient(taps: int, value: float, dtype: torch.dtype) -> None:
    filters = torch.full((3, taps), value, dtype=dtype, requires_grad=True)
    scale = torch.rand(taps, dtype=dtype, requires_grad=True)
    y = filter_norm(filters, scale, dim=1)
    assert not y.any()
    for grad in torch.autograd.grad(y.sum() + (y * torch.arange(taps)).sum(), (filters, scale), create_graph=True):
        assert not grad.any()


def test_taps_that_nearly_agree_are_normalised_as_ever() -> None:
    filters = torch.full((1, 9), 1e-3, dtype=torch.float64)
    filters[0, 4] += 1e-9
    expected = (filters - filters.mean()) / (filters.std() + 1e-10)
    torch.testing.assert_close(filter_norm(filters, dim=1), expected)
    assert filter_norm(filters, dim=1)[0, 4] > 2


def test_a_tap_that_is_no_number_stays_one() -> None:
    filters = torch.randn(1, 9)
    filters[0, 2] = torch.nan
    assert filter_norm(filters, dim=1).isnan().all()
