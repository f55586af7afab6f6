"""Crops as the recipe draws them, and a run that goes on where it stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddfnet.models.depth.convex_up_net import ConvexUpNet, save
from ddfnet.tasks.depth import convex_training
from ddfnet.tasks.depth.convex_training import Crops, Options, Run


def images() -> Any:
    rng = np.random.default_rng(0)
    depth = np.repeat(np.repeat(rng.integers(2000, 60000, (2, 12, 16)), 8, 1), 8, 2).astype(np.uint16)

    class Few:
        numbers = (0, 1)
        rgb = rng.integers(0, 256, (2, 96, 128, 3), np.uint8)

        def __len__(self) -> int:
            return 2

    few: Any = Few()
    few.depth = depth
    return few


def test_crops_have_all_ratios_and_both_kinds() -> None:
    torch.manual_seed(0)
    crops = Crops(images(), Options(batch=2, side=64), np.random.default_rng(0))
    seen = set()
    for _ in range(80):
        batch = crops.batch()
        seen.add((batch.factor, batch.samples))
        assert batch.rgb.shape == (2, 3, 64, 64)
        assert batch.depth.shape == (2, 1, 64, 64)
        assert batch.low.shape == batch.clean.shape == (2, 1, 64 // batch.factor, 64 // batch.factor)
        assert batch.depth.isfinite().all()
        assert (~batch.low.isnan()).flatten(1).any(1).all()
        assert 0 <= batch.rgb.min() <= batch.rgb.max() <= 1
    assert {(f, kind) for f in (4, 8, 16) for kind in ("point", "average")} <= seen
    assert (1, "point") in seen


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    options = Options(minutes=60, batch=1, side=32)
    batch = Crops(images(), options, np.random.default_rng(0)).batch()
    run = Run(tmp_path, options)
    before = [parameter.detach().clone() for parameter in run.network.parameters()]
    assert np.isfinite(run.train(batch))
    assert any(not torch.equal(a, b) for a, b in zip(before, run.network.parameters(), strict=True))
    run.save()
    again = Run(tmp_path, options)
    assert (again.step, again.began) == (1, run.began)
    for a, b in zip(run.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_run_begins_with_given_weights(tmp_path: Path) -> None:
    network, path = ConvexUpNet(), tmp_path / "start.safetensors"
    save(network, path, dtype=torch.float32)
    run = Run(tmp_path / "run", Options(seed=1), path)
    assert run.network.training
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


@pytest.mark.parametrize(
    ("step", "share", "factor"), [(0, 0, 1 / 200), (199, 0.1, 1), (999, 0.4, 1), (999, 0.7, 0.501)]
)
def test_the_learning_rate_rises_stays_and_falls(step: int, share: float, factor: float) -> None:
    assert convex_training._schedule(step, share) == pytest.approx(factor, rel=1e-3)
