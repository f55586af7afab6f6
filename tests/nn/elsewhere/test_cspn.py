"""`propagate` against its definition, step by step."""

import pytest
import torch
from tests.nn.elsewhere.plain import assert_same, draw, unfolded
from tests.ops.ddf.backends import PLAIN

from ddfnet.nn import propagate


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("centre", ["initial", "current"])
@pytest.mark.parametrize(("k", "channels"), [(3, 1), (5, 2)])
def test_equals_its_definition(k: int, channels: int, centre: str, backend: str) -> None:
    depth, affinity = draw(2, channels, 6, 7), draw(2, k * k - 1, 6, 7, seed=1)
    known = torch.where(torch.rand(2, 1, 6, 7) < 0.2, 5.0, 0.0).double()
    weights = affinity / affinity.abs().sum(1, keepdim=True)
    neighbours = [t for t in range(k * k) if t != k * k // 2]
    y = depth
    for _ in range(4):
        of_neighbours = torch.einsum("btpq,bctpq->bcpq", weights, unfolded(y, k)[:, :, neighbours])
        y = of_neighbours + (1 - weights.sum(1, keepdim=True)) * (depth if centre == "initial" else y)
        y = torch.where(known > 0, known, y)
    options = {"known": known, "centre": centre, "backend": backend}
    assert_same(propagate(depth, affinity, 4, **options), y, (depth, affinity))  # type: ignore[arg-type]


def test_a_plane_stays_inside() -> None:
    """All weights of a pixel sum to 1, so a constant depth is kept where no neighbour is outside."""
    depth = torch.full((1, 1, 9, 9), 3.0)
    y = propagate(depth, torch.randn(1, 8, 9, 9), 2, backend="torch")
    torch.testing.assert_close(y[..., 2:-2, 2:-2], depth[..., 2:-2, 2:-2])


def test_no_affinity_and_no_steps() -> None:
    depth = torch.rand(1, 1, 4, 5)
    torch.testing.assert_close(propagate(depth, torch.zeros(1, 8, 4, 5), 3, backend="torch"), depth)
    assert propagate(depth, torch.ones(1, 8, 4, 5), 0) is depth


def test_errors() -> None:
    depth, affinity = torch.rand(1, 1, 4, 5), torch.rand(1, 8, 4, 5)
    with pytest.raises(ValueError, match="steps: expected an int >= 0, got -1"):
        propagate(depth, affinity, -1)
    with pytest.raises(ValueError, match="centre: expected 'initial' or 'current', got 'x'"):
        propagate(depth, affinity, 1, centre="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"affinity: expected \(B, k\*k - 1, H, W\) with k odd, got \(1, 9, 4, 5\)"):
        propagate(depth, torch.rand(1, 9, 4, 5), 1)
