"""Scores of known errors."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddfnet.data.depth.photographs import RGBDImage, RGBDImages
from ddfnet.tasks.depth.benchmark import PROTOCOLS, Scored, bicubic, low_resolution, score, summary, write


class Steps(RGBDImages):
    """One image: a slope from 2 to 3 with a box at 1."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> RGBDImage:
        self._checked(index)
        depth = np.tile(np.linspace(2, 3, 50, dtype=np.float32), (34, 1))
        depth[9:22, 13:31] = 1
        return RGBDImage(np.zeros((34, 50, 3), np.uint8), depth, "steps", "m")


def off_by_1_percent(low: Tensor, rgb: Tensor, factor: int, protocol: str) -> Tensor:
    return 1.01 * truth(low, rgb, factor, protocol)


def truth(low: Tensor, rgb: Tensor, factor: int, protocol: str) -> Tensor:
    return torch.from_numpy(Steps()[0].depth)[None, None, : rgb.shape[2], : rgb.shape[3]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_are_those_of_a_known_result(protocol: str, tmp_path: Path) -> None:
    data = Scored("steps", Steps(), [0], 2, "cm", 100.0)
    methods = {"bicubic": bicubic, "off": off_by_1_percent, "truth": truth}
    scores = list(score(data, methods, factors=[4], protocols=[protocol]))
    base, off, right = scores
    assert base.ratio == pytest.approx(1)
    assert base.outside_2x2 > 0  # its overshoot at the box
    assert off.abs_rel == pytest.approx(0.01, rel=1e-3)
    depth = Steps()[0].depth[2:30, 2:46]
    assert off.rmse == pytest.approx(float(np.sqrt(np.square(depth).mean())), rel=1e-3)
    assert off.mae == pytest.approx(float(depth.mean()), rel=1e-3)
    assert (right.rmse, right.within_1_25, off.within_1_25) == (0, 1, 1)
    rows = list(summary(scores))
    assert [row["method"] for row in rows] == ["bicubic", "off", "truth"]
    assert rows[1]["ratio"] == rows[1]["worst_ratio"] == pytest.approx(off.ratio)
    assert [row["best"] for row in rows] == [0, 0, 1]
    assert [row["best"] for row in summary([base, off])] == [base.rmse < off.rmse, off.rmse < base.rmse]
    write(rows, tmp_path / "scores.csv", {"device": "cpu"})
    with (tmp_path / "scores.csv").open() as file:
        assert [row["device"] for row in csv.DictReader(file)] == ["cpu"] * 3


def test_samples_lie_where_protocols_put_them() -> None:
    depth = torch.arange(64.0).view(1, 1, 8, 8)
    assert low_resolution(depth, 4, "point").flatten().tolist() == [9, 13, 41, 45]
    assert low_resolution(depth, 4, "average").flatten().tolist() == [13.5, 17.5, 45.5, 49.5]
    assert low_resolution(depth, 4, "bicubic").shape == (1, 1, 2, 2)
    with pytest.raises(ValueError, match="protocol: expected one of point, average, bicubic, got 'pac'"):
        low_resolution(depth, 4, "pac")
