"""`ddf_up` by its relations to what it generalises; the oracle holds it in tests/ops/ddf."""

import pytest
import torch
import torch.nn.functional as F
from tests.ops.ddf.backends import PLAIN

import ddfnet


@pytest.mark.parametrize("backend", PLAIN)
def test_is_ddf_pixel_shuffled(backend: str) -> None:
    """Fig. 5: r*r DDF operations, stacked and pixel-shuffled."""
    r = 3
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    channel = torch.randn(2, r * r, 4, 3, 3, dtype=torch.float64)
    spatial = torch.randn(2, 2, 9, 5 * r, 6 * r, dtype=torch.float64)
    own = F.pixel_unshuffle(spatial.flatten(1, 2), r).unflatten(1, (2, 9, r * r))  # (B, G, K, r*r, H, W)
    operations = [ddfnet.ddf(x, channel[:, i], own[:, :, :, i], backend="reference") for i in range(r * r)]
    expected = F.pixel_shuffle(torch.stack(operations, dim=2).flatten(1, 2), r)
    y = ddfnet.ddf_up(x, channel, spatial, scale_factor=r, backend=backend)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("backend", PLAIN)
def test_spatial_filters_alone_are_carafe(backend: str) -> None:
    """Reassembly: each output pixel a weighted sum of the k x k neighbours of its source, over the nearest upsampling."""
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    spatial = torch.randn(1, 25, 8, 10, dtype=torch.float64).softmax(1)
    patches = F.unfold(x, 5, padding=2).unflatten(-1, (4, 5))
    patches = F.interpolate(patches, scale_factor=2, mode="nearest").unflatten(1, (3, 25))
    y = ddfnet.ddf_up(x, None, spatial, backend=backend)
    torch.testing.assert_close(y, (patches * spatial[:, None]).sum(2))


@pytest.mark.parametrize("backend", PLAIN)
def test_shared_channel_filter(backend: str) -> None:
    x, channel = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 3)
    each = channel[:, None].expand(-1, 4, -1, -1, -1)
    spatial = torch.randn(2, 9, 6, 10)
    for combine in ("mul", "add"):
        y = ddfnet.ddf_up(x, channel, spatial, combine=combine, backend=backend)
        torch.testing.assert_close(y, ddfnet.ddf_up(x, each, spatial, combine=combine, backend=backend))


@pytest.mark.parametrize("backend", PLAIN)
def test_factor_one_is_ddf(backend: str) -> None:
    x, channel, spatial = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 3), torch.randn(2, 9, 3, 5)
    y = ddfnet.ddf_up(x, channel, spatial, scale_factor=1, backend=backend)
    assert torch.equal(y, ddfnet.ddf(x, channel, spatial, backend=backend))
