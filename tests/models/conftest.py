"""Networks for the tests of `upsample_depth`."""

from pathlib import Path

import pytest
import torch

from ddfnet.models.depth import joint_upsampling
from ddfnet.models.depth.joint_upsampling import DDFUpNet


@pytest.fixture(scope="module")
def network() -> DDFUpNet:
    """Untrained, residual: about a bilinear upsampling."""
    torch.manual_seed(0)
    return DDFUpNet(8, residual=True)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, DDFUpNet]:
    """Untrained networks in the place of those that ship."""
    torch.manual_seed(1)
    networks = {factor: DDFUpNet(factor, residual=True) for factor in (4, 8, 16)}
    for factor, untrained in networks.items():
        joint_upsampling.save(untrained, tmp_path / f"ddf_up_net_x{factor}.safetensors")
    monkeypatch.setattr(joint_upsampling, "WEIGHTS", tmp_path)
    return networks
