"""The classical rivals: where the samples lie, what the filters compute, and how they are tuned."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.data.depth.protocols import PROTOCOLS, low_resolution
from ddfnet.tasks.depth import rivals as depth_rivals
from ddfnet.tasks.depth.rivals import MODES, GuidedFilter, Interpolation, JointBilateral, interpolate, tune

EPS = torch.finfo(torch.float64).eps


def pair(factor: int, size: tuple[int, int] = (32, 48)) -> tuple[Tensor, Tensor]:
    """A low resolution under "pac" and its picture: one square before a ramp."""
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    square = (rows > 9) & (rows < 25) & (columns > 13) & (columns < 30)
    depth = torch.where(square, 5.0, columns / 20)
    rgb = torch.stack([square.double(), columns / size[1], rows / size[0]])
    return low_resolution(depth, factor)[None, None], rgb[None]


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_ramp_comes_back_where_its_samples_lie(factor: int, protocol: str) -> None:
    """Linear interpolation gives a plane back between the outermost samples; cubic, PyTorch's, at the samples."""
    height, width = 4 * factor, 6 * factor
    ramp = torch.arange(width, dtype=torch.float64) + 3 * torch.arange(height, dtype=torch.float64)[:, None]
    offset = PROTOCOLS[protocol].sample_position(factor)
    at = torch.arange(6, dtype=torch.float64) * factor + offset
    low = at + 3 * at[:4, None]
    inner = tuple(slice(math.ceil(offset), math.floor(offset + (n - 1) * factor) + 1) for n in (4, 6))
    # Positions are found to a few eps of their own size, and a slope of 4 carries that to the values.
    bound = 32 * EPS * ramp.max()
    linear = interpolate(low[None, None], (height, width), factor=factor, protocol=protocol, mode="bilinear")[0, 0]
    assert (linear - ramp)[inner].abs().max() <= bound
    if PROTOCOLS[protocol].subsampled:
        cubic = interpolate(low[None, None], (height, width), factor=factor, protocol=protocol, mode="bicubic")[0, 0]
        first = int(offset)
        assert (cubic[first::factor, first::factor] - low).abs().max() <= bound


@pytest.mark.parametrize("mode", MODES)
def test_under_bicubic_interpolation_is_pytorchs(mode: Any) -> None:
    low = torch.rand(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    corners = {} if mode == "nearest" else {"align_corners": False}
    expected = F.interpolate(low, scale_factor=4, mode=mode, **corners)
    found = interpolate(low, (20, 28), factor=4, protocol="bicubic", mode=mode)
    assert (found - expected).abs().max() <= 64 * EPS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_constant_stays_one_at_any_size(mode: Any, protocol: str) -> None:
    low = torch.full((1, 1, 1, 3), 7.0)
    found = Interpolation(mode)(low, torch.zeros(1, 3, 4, 12), factor=4, protocol=protocol)
    assert found.shape == (1, 1, 4, 12)
    assert (found - 7).abs().max() <= 1e-6 * 7 * 4  # cubic weights sum to 1 within their rounding


def test_joint_bilateral_of_samples_is_kopfs() -> None:
    """Every pixel is the mean of the samples around it, weighted by distance and by colour difference."""
    low, rgb = pair(4)
    method = JointBilateral("samples", sigma_space=0.5, sigma_colour=0.3)
    found = method(low, rgb, factor=4, protocol="pac")[0, 0]
    sigma, reach = 2.0, 4
    for p, q in ((0, 0), (10, 14), (16, 29), (25, 30), (31, 47)):
        top = bottom = 0.0
        for i in range(low.shape[2]):
            for j in range(low.shape[3]):
                row, column = 4 * i + 1, 4 * j + 1
                if max(abs(row - p), abs(column - q)) > reach:
                    continue
                colours = (rgb[0, :, row, column] - rgb[0, :, p, q]).abs().sum().item()
                weight = math.exp(-((row - p) ** 2 + (column - q) ** 2) / (2 * sigma**2) - colours**2 / (2 * 0.3**2))
                top, bottom = top + weight * low[0, 0, i, j].item(), bottom + weight
        assert found[p, q].item() == pytest.approx(top / bottom, rel=1e-9)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    low, rgb = pair(4)
    for source in ("samples", "bicubic"):
        method = JointBilateral(source, sigma_space=0.7, sigma_colour=0.2)  # type: ignore[arg-type]
        whole = method(low, rgb, factor=4, protocol="pac")
        with monkeypatch.context() as patched:
            patched.setattr(depth_rivals, "STRIP", 48 * 13**2 * 5)  # five rows
            strips = method(low, rgb, factor=4, protocol="pac")
        assert (whole - strips).abs().max() <= 64 * EPS * whole.abs().max()


@pytest.mark.parametrize("method", [JointBilateral("bilinear", 0.5, 0.2), GuidedFilter("bilinear", 0.75, 1e-4)])
def test_the_picture_helps(method: Any) -> None:
    low, rgb = pair(4)
    depth = torch.where(rgb[0, 0] > 0.5, 5.0, torch.arange(48) / 20)
    plain = Interpolation("bilinear")(low, rgb, factor=4, protocol="pac")[0, 0]
    found = method(low, rgb, factor=4, protocol="pac")[0, 0]
    assert (found - depth).square().mean() < (plain - depth).square().mean()
    # In another unit the same picture.
    assert torch.allclose(method(1000 * low, rgb, factor=4, protocol="pac")[0, 0], 1000 * found, rtol=1e-9)


def test_samples_off_the_pixels_are_refused() -> None:
    low, rgb = pair(4)
    with pytest.raises(ValueError, match=r"source: expected a mode under protocol 'bicubic'"):
        JointBilateral("samples")(low, rgb, factor=4, protocol="bicubic")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tuning_descends_to_the_best_of_its_grid(protocol: str) -> None:
    tried = []

    def error(candidate: Any) -> float:
        tried.append(candidate)
        sources = ("samples", "bicubic", "bilinear")
        return (
            sources.index(candidate.source) + (candidate.sigma_space - 0.7) ** 2 + (candidate.sigma_colour - 0.05) ** 2
        )

    best, least = tune(JointBilateral(), error, protocol=protocol)
    source = "samples" if protocol == "pac" else "bicubic"
    assert best == JointBilateral(source, sigma_space=0.7, sigma_colour=0.05)  # type: ignore[arg-type]
    assert least == error(best)
    assert len(set(tried)) == len(tried) - 1  # each once, but for the call above
    assert protocol == "pac" or all(candidate.source != "samples" for candidate in tried)
