"""Networks for the tests of `upsample_depth`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ddfnet.models.depth import convex_up_net, upsample
from ddfnet.models.depth.convex_up_net import ConvexUpNet


def untrained(levels: int = 5) -> ConvexUpNet:
    """A small network with random heads, whose output is far from bilinear interpolation."""
    torch.manual_seed(0)
    counts = (1,) * levels
    network = ConvexUpNet((8,) * levels, encoder=counts, decoder=counts, embedding=4)
    for module in (network.head, *network.fill):
        nn.init.normal_(module.weight, std=0.1)
    return network.eval()


@pytest.fixture(scope="session")
def network() -> ConvexUpNet:
    return untrained()


@pytest.fixture(scope="session")
def small() -> ConvexUpNet:
    """Three levels: it sees less, so that small images have several windows."""
    return untrained(3)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConvexUpNet]:
    """An untrained network in the place of the one that ships."""
    network = untrained()
    convex_up_net.save(network, tmp_path / "weights.safetensors", dtype=torch.float32)
    monkeypatch.setattr(convex_up_net, "WEIGHTS", tmp_path / "weights.safetensors")
    upsample._shipped.cache_clear()
    yield network
    upsample._shipped.cache_clear()
