"""Errors of a depth map: RMSE, MAE and the RMSE near its edges, each of one image; scores are means over images."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EDGE_STEP = 0.05  # of the range of an image's depth: a larger step from a pixel to the next is an edge
EDGE_REACH = 2  # pixels on either side of an edge that are scored as edge

# The unit of scores where it differs from the data's: its name, and how many make one of the data's.
REPORTED = {"m": ("cm", 100.0)}


class DepthErrors(NamedTuple):
    """The errors of one image, in its unit; `edge_rmse` is NaN where it has no edges."""

    rmse: float
    mae: float
    edge_rmse: float


def depth_errors(depth: Tensor, truth: Tensor, *, border: int = 0) -> DepthErrors:
    """Return the errors of an upsampled map (H, W) against the truth (H, W) of the same unit, over the pixels known there.

    Table 7's RMSE is the mean of `rmse` over images.

    Args:
        depth: every pixel finite.
        truth: NaN or infinite where unknown.
        border: so many pixels on every side are not scored.

    Raises:
        ValueError: shapes differ, or no pixel of the truth is known inside the border.

    >>> depth_errors(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, float("nan")]]))
    DepthErrors(rmse=0.0, mae=0.0, edge_rmse=nan)
    """
    if depth.ndim != 2 or depth.shape != truth.shape:
        raise ValueError(f"depth: expected (H, W) as the truth, {tuple(truth.shape)}, got {tuple(depth.shape)}")
    height, width = truth.shape
    inside = (slice(border, height - border), slice(border, width - border))
    known = torch.isfinite(truth)[inside]
    if not known.any():
        raise ValueError(f"truth: expected known pixels inside a border of {border}, got none in {height} x {width}")
    error = (depth[inside].double() - truth[inside].double())[known]
    at_edges = error[depth_edges(truth)[inside][known]]
    return DepthErrors(
        rmse=error.square().mean().sqrt().item(),
        mae=error.abs().mean().item(),
        edge_rmse=at_edges.square().mean().sqrt().item() if len(at_edges) else math.nan,
    )


def depth_edges(truth: Tensor) -> Tensor:
    """Return where a map (H, W) has an edge within 2 pixels: a bool map.

    An edge is a step between neighbours, in a row or a column, of more than 5% of the range of the map, so that it does not
    depend on the unit. Unknown pixels have no neighbours.
    """
    known = torch.isfinite(truth)
    values = truth[known]
    edges = torch.zeros_like(known)
    if not len(values):
        return edges
    step = EDGE_STEP * (values.max() - values.min())
    for axis in (0, 1):
        length = truth.shape[axis] - 1
        first, second = truth.narrow(axis, 0, length), truth.narrow(axis, 1, length)
        is_edge = (first - second).abs() > step  # False where a NaN is in it, but True beside an infinity
        is_edge &= known.narrow(axis, 0, length) & known.narrow(axis, 1, length)
        edges.narrow(axis, 0, length).logical_or_(is_edge)
        edges.narrow(axis, 1, length).logical_or_(is_edge)
    # The two pixels of the step are the first on either side.
    reach = EDGE_REACH - 1
    return F.max_pool2d(edges[None].float(), 2 * reach + 1, stride=1, padding=reach)[0].bool()


def reported(unit: str) -> tuple[str, float]:
    """Return the unit in which scores of data in `unit` are reported, and its factor: metres as centimetres (Table 7)."""
    return REPORTED.get(unit, (unit, 1.0))
