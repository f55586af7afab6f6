"""What the tests of these layers share: unfolded patches, and the comparison of outputs and all gradients in float64."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def unfolded(x: Tensor, k: int, *, padding: int | None = None, stride: int = 1) -> Tensor:
    """(B, C, K, P, Q): what each tap of each pixel reads, 0 outside; `padding` keeps the size by default."""
    padding = k // 2 if padding is None else padding
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n in x.shape[2:])
    return F.unfold(x, k, padding=padding, stride=stride).view(*x.shape[:2], k * k, rows, columns)


def assert_same(found: Tensor, expected: Tensor, inputs: Iterable[Tensor]) -> None:
    """Values, and the gradients of every input and parameter."""
    inputs = list(inputs)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    grads, wanted = (torch.autograd.grad(y, inputs, grad, retain_graph=True) for y in (found, expected))
    for number, (of_found, of_expected) in enumerate(zip(grads, wanted, strict=True)):
        assert of_expected.any(), number
        torch.testing.assert_close(of_found, of_expected, msg=lambda text, number=number: f"input {number}: {text}")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def filled(layer: torch.nn.Module, names: Callable[[str], str] = str) -> dict[str, Tensor]:
    """A stand-in checkpoint: a layer's entries under their published `names`, drawn at random."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, value in layer.state_dict().items():
        drawn = torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.1
        state[names(name)] = drawn if value.is_floating_point() else value.clone()
    return state
