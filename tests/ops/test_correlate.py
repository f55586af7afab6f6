"""`correlate` against products of shifted maps, and its derivatives."""

import pytest
import torch
import torch.nn.functional as F
from tests.ops.ddf.backends import PLAIN
from torch.autograd import gradcheck, gradgradcheck

from ddfnet.ops.correlate import correlate


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_equals_products_of_patches(padding: str, backend: str) -> None:
    lost = 4 if padding == "valid" else 0
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    y = torch.randn(2, 3, 7 - lost, 8 - lost, dtype=torch.float64)
    patches = F.unfold(x, 5, padding=0 if padding == "valid" else 2).view(2, 3, 25, *y.shape[2:])
    found = correlate(x, y, 5, padding=padding, backend=backend)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.einsum("bctpq,bcpq->btpq", patches, y))


@pytest.mark.parametrize("backend", PLAIN)
def test_pixels_of_a_finer_map(backend: str) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    patches = F.unfold(x, 3, padding=1).view(2, 27, 4, 5).repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = torch.einsum("bctpq,bcpq->btpq", patches.view(2, 3, 9, 8, 10), y)
    torch.testing.assert_close(correlate(x, y, 3, scale_factor=2, backend=backend), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_derivatives(padding: str, backend: str) -> None:
    lost = 2 if padding == "valid" else 0
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randn(1, 2, 4 - lost, 5 - lost, dtype=torch.float64, requires_grad=True)

    def call(*inputs: torch.Tensor) -> torch.Tensor:
        return correlate(*inputs, 3, padding=padding, backend=backend)  # type: ignore[arg-type]

    assert gradcheck(call, (x, y))
    assert gradgradcheck(call, (x, y))


@pytest.mark.release
def test_default_backend() -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(1, 40, 6, 5).contiguous(memory_format=memory_format)
        around = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        torch.testing.assert_close(correlate(x, x, 3), correlate(x, x, 3, backend="reference"))
        found, expected = (correlate(around, x, 3, padding="valid", backend=b) for b in ("auto", "reference"))
        torch.testing.assert_close(found, expected)


def test_half_types() -> None:
    x = torch.randn(1, 8, 6, 5)
    assert correlate(x.bfloat16(), x.bfloat16(), 3, backend="torch").dtype == torch.bfloat16


def test_errors() -> None:
    x = torch.randn(1, 2, 6, 5)
    with pytest.raises(ValueError, match=r"y: expected \(1, 2, 4, 3\), got \(1, 2, 6, 5\)"):
        correlate(x, x, 3, padding="valid")
    with pytest.raises(ValueError, match=r"x: expected \(B, C, H, W\), got \(2, 6, 5\)"):
        correlate(x[0], x, 3)
    with pytest.raises(ValueError, match="kernel_size: expected an odd number, got 4"):
        correlate(x, x, 4)
