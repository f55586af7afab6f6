"""Errors of depth maps against loops over pixels, and what counts as an edge."""

import math

import pytest
import torch
from torch import Tensor

from ddfnet.tasks.depth.metrics import EDGE_STEP, depth_edges, depth_errors, reported


def edges_by_loops(truth: Tensor) -> Tensor:
    """The two pixels of every step, and all that touch them."""
    height, width = truth.shape
    known = truth.isfinite()
    step = EDGE_STEP * (truth[known].max() - truth[known].min())
    near: set[tuple[int, int]] = set()
    for i in range(height):
        for j in range(width):
            for a, b in ((i + 1, j), (i, j + 1)):
                if (
                    a < height
                    and b < width
                    and known[i, j]
                    and known[a, b]
                    and (truth[i, j] - truth[a, b]).abs() > step
                ):
                    near |= {(i, j), (a, b)}
    edges = torch.zeros_like(known)
    for i, j in near:
        edges[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2] = True
    return edges


def example(*, unknown: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.linspace(0, 1, 14 * 17).view(14, 17).clone()
    truth[3:9, 5:12] += 4
    truth[torch.rand(14, 17, generator=generator) < 0.2] = unknown
    return truth + torch.randn(14, 17, generator=generator).nan_to_num(), truth


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("border", [0, 2])
def test_errors_are_those_of_loops_over_known_pixels(unknown: float, border: int) -> None:
    depth, truth = example(unknown=unknown)
    depth = torch.where(depth.isfinite(), depth, 9.0)
    edges = edges_by_loops(truth)
    assert torch.equal(depth_edges(truth), edges)
    squares, sizes, at_edges = [], [], []
    for i in range(border, 14 - border):
        for j in range(border, 17 - border):
            if math.isfinite(truth[i, j]):
                error = depth[i, j].item() - truth[i, j].item()
                squares.append(error**2)
                sizes.append(abs(error))
                at_edges += [error**2] * bool(edges[i, j])
    found = depth_errors(depth, truth, border=border)
    # Sums of a few hundred float64 terms.
    assert found.rmse == pytest.approx(math.sqrt(sum(squares) / len(squares)), rel=1e-12)
    assert found.mae == pytest.approx(sum(sizes) / len(sizes), rel=1e-12)
    assert found.edge_rmse == pytest.approx(math.sqrt(sum(at_edges) / len(at_edges)), rel=1e-12)


def test_edges_do_not_depend_on_the_unit() -> None:
    _, truth = example(unknown=math.nan)
    assert torch.equal(depth_edges(truth), depth_edges(truth * 1024))
    assert torch.equal(depth_edges(truth), depth_edges(-truth))
    assert 0 < depth_edges(truth).float().mean() < 0.6


def test_a_map_without_edges_has_no_error_there() -> None:
    flat = torch.ones(9, 9)
    errors = depth_errors(flat + 0.5, flat)
    assert (errors.rmse, errors.mae) == (0.5, 0.5)
    assert math.isnan(errors.edge_rmse)


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(ValueError, match=r"depth: expected \(H, W\) as the truth, \(4, 5\), got \(4, 4\)"):
        depth_errors(torch.zeros(4, 4), torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"truth: expected known pixels inside a border of 2, got none in 4 x 5"):
        depth_errors(torch.zeros(4, 5), torch.zeros(4, 5), border=2)


def test_metres_are_reported_in_centimetres() -> None:
    assert reported("m") == ("cm", 100.0)
    assert reported("px") == ("px", 1.0)
