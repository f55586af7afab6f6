"""Windows cover an image once and no more than the tile; and where the pixels of depth, image and network lie."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddfnet.models.depth.convex_up_net import ConvexUpNet
from ddfnet.models.depth.grid import Axis, Samples, interpolate
from ddfnet.models.depth.tiles import Grid, upsample_tiled

CPU = torch.device("cpu")


def test_windows_are_no_larger_than_the_tile_and_begin_at_the_stride(small: ConvexUpNet) -> None:
    sizes, done = [], []

    class Watched:
        stride, reach, statistics = small.stride, small.reach, small.statistics

        def __call__(self, depth: torch.Tensor, rgb: torch.Tensor, **options: object) -> torch.Tensor:
            sizes.append((*depth.shape[2:], *rgb.shape[2:]))
            return depth.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, : rgb.shape[2], : rgb.shape[3]]

    depth, rgb = torch.rand(60, 71), torch.zeros(3, 240, 283, dtype=torch.uint8)
    grid = Grid.of(depth.shape, rgb.shape[1:], 4, "point")
    tile = 2 * small.reach + small.stride + 35
    result = upsample_tiled(Watched(), depth, rgb, grid, device=CPU, tile=tile, progress=lambda: done.append(1))
    assert torch.equal(result[0], depth.repeat_interleave(4, 0).repeat_interleave(4, 1)[:, :283])
    assert len(done) == len(sizes) == len(grid.windows(small, tile)) > 4
    assert max(max(size) for size in sizes) <= tile
    assert all(window.row.start % (small.stride // 4) == 0 for window in grid.windows(small, tile))
    with pytest.raises(ValueError, match=f"tile: expected at least {2 * small.reach + small.stride} pixels, got 9"):
        grid.windows(small, 9)


@given(
    st.integers(1, 60),
    st.integers(1, 300),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(0, 4),
    st.integers(1, 20),
    st.sampled_from(["point", "average"]),
)
def test_parts_cover_a_side_once(low: int, length: int, factor: int, reach: int, inner: int, samples: Samples) -> None:
    axis = Axis(low, length, factor, samples)
    step = max(1, 16 // factor)
    reach, window = reach * step, (2 * reach + inner) * step
    parts = axis.parts(window, reach, step)
    for name, end in (("inner", low), ("image", length)):
        edges = [(getattr(part, f"{name}_start"), getattr(part, f"{name}_stop")) for part in parts]
        assert [edge[0] for edge in edges] == [0, *(edge[1] for edge in edges[:-1])]
        assert edges[-1][1] == end
    for part in parts:
        assert part.stop - part.start <= window
        assert part.start == max(0, part.inner_start - reach)
        assert part.stop == min(low, part.inner_stop + reach)
        assert part.start % step == 0
        pixels = axis.network_positions(part.image_start, part.image_stop)
        assert ((pixels >= factor * part.inner_start) & (pixels < factor * part.inner_stop)).all()


def test_positions_of_subsampling() -> None:
    """PAC-Net's: depth pixel i on image pixel 8i + 3."""
    axis = Axis(5, 37, 8, "point")
    assert axis.exact
    assert axis.depth_positions(0, 37)[3::8].tolist() == [0, 1, 2, 3, 4]
    assert axis.image_positions(0, 40).tolist() == [*range(37), 36, 36, 36]


def test_positions_of_averages() -> None:
    """Depth pixel i in the middle of image pixels 8i to 8i + 7, a half beside 8i + 3."""
    axis = Axis(5, 40, 8, "average")
    assert axis.exact
    assert axis.depth_positions(0, 40)[3::8].tolist() == [0, *(i - 0.0625 for i in range(1, 5))]
    assert not Axis(5, 37, 8, "average").exact  # 37 pixels are five equal parts


@pytest.mark.parametrize("samples", ["point", "average"])
@pytest.mark.parametrize(("low", "length", "factor"), [(10, 25, 4), (10, 65, 8), (10, 9, 1), (93, 375, 4), (5, 40, 8)])
def test_positions_of_other_ratios(low: int, length: int, factor: int, samples: Samples) -> None:
    """The middle of depth pixel i is that of the i-th equal part of the image, and the network's pixels agree with it."""
    axis = Axis(low, length, factor, samples, regular=False)
    assert not axis.exact
    middle = (torch.arange(low, dtype=torch.float64) + 0.5) * length / low - 0.5  # in image pixels
    if samples == "point":
        in_image = axis.image_positions(0, low * factor)[(factor - 1) // 2 :: factor]
        torch.testing.assert_close(in_image, middle.clamp(0, length - 1))
    back = axis.depth_positions(0, length)
    expected = ((torch.arange(length, dtype=torch.float64) + 0.5) * low / length - 0.5).clamp(0, low - 1)
    inside = (back > 0) & (back < low - 1)
    torch.testing.assert_close(back[inside], expected[inside])


def test_interpolation() -> None:
    """Linear: planes, the cubic kernel: parabolas are met exactly; and at whole positions both are the map itself."""
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (8, 9)), indexing="ij")
    at = torch.tensor([1.0, 2.25, 3.5, 5.75], dtype=torch.float64)
    plane, parabola = 2 * rows - columns, rows.square() - rows * columns
    torch.testing.assert_close(interpolate(plane, at, at), 2 * at[:, None] - at)
    torch.testing.assert_close(interpolate(parabola, at, at, cubic=True), at.square()[:, None] - at[:, None] * at)
    x = torch.randn(3, 8, 9)
    for cubic in (False, True):
        whole = torch.arange(2, 7, dtype=torch.float64)
        assert torch.equal(interpolate(x, whole, whole, cubic=cubic), x[:, 2:7, 2:7])
        beyond = interpolate(x, torch.tensor([-1.0, 9.0], dtype=torch.float64), whole, cubic=cubic)
        torch.testing.assert_close(beyond, x[:, [0, 7], 2:7])
