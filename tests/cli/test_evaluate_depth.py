"""`ddfnet evaluate depth`: all methods at all factors on one data set, what they are tuned on, tables, files, errors."""

import csv
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.depth_files import write_folder

from ddfnet.cli import main
from ddfnet.data.depth.photographs import Motorcycle
from ddfnet.data.depth.protocols import low_resolution
from ddfnet.ops.fill_unknown import fill_unknown
from ddfnet.tasks.depth import comparison as depth_comparison
from ddfnet.tasks.depth import rivals as depth_rivals
from ddfnet.tasks.depth.metrics import depth_errors
from ddfnet.tasks.depth.rivals import GuidedFilter, Interpolation, JointBilateral

CLASSICAL = ["nearest", "bilinear", "bicubic", "joint bilateral", "guided filter"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small grid on a small part of the training image."""
    monkeypatch.setattr(depth_comparison, "TUNED_SIDE", 48)
    grids: dict[type, dict[str, tuple[Any, ...]]] = {
        JointBilateral: {"sigma_colour": (0.1, 0.2)},
        GuidedFilter: {"eps": (1e-4, 1e-2)},
    }
    monkeypatch.setattr(depth_rivals, "GRIDS", grids)


def test_scores_files_and_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "pairs", {"train": 2, "val": 1, "test": 2})
    run = tmp_path / "run"
    tiny = ["--data.dataset=folder", f"--data.root={root}", "--data.crop=16", "--data.batch_size=2", "--epochs=1"]
    assert main(["train", "--config=depth/pac_x4", *tiny, f"--run={run}"]) == 0
    capsys.readouterr()
    out = ["--csv", str(tmp_path / "a.csv"), "--picture", str(tmp_path / "a.png")]
    argv = ["evaluate", "depth", "--data.dataset", "folder", "--data.root", str(root / "test"), "--factors", "4", "16"]
    assert main([*argv, "--runs", str(run), *out]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "protocol pac: every factor-th pixel" in printed
    assert "Filters tuned on the Motorcycle's training part" in printed
    assert (tmp_path / "a.png").stat().st_size > 0
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    at_4 = [row["method"] for row in rows if row["factor"] == "4"]
    assert at_4 == [*CLASSICAL, "ConvexUpNet (ships)", "pac-x4 (run)"]
    assert [row["method"] for row in rows if row["factor"] == "16"] == [*CLASSICAL, "ConvexUpNet (ships)"]
    assert {row["unit"] for row in rows} == {"file unit"}
    assert {row["images"] for row in rows} == {"2"}
    assert {row["kornia"] for row in rows} == {metadata.version("kornia")}  # whose filters were scored
    assert "tuned on the Motorcycle's training part" in rows[3]["options"]

    split = depth_comparison.find("folder", root / "test").test
    for row, method in zip(rows[:3], ("nearest", "bilinear", "bicubic"), strict=True):
        errors = []
        for index in range(2):
            rgb, depth = split.tensors(index)
            low = fill_unknown(low_resolution(depth, 4))[None]
            found = Interpolation(method)(low, rgb[None], factor=4, protocol="pac")[0, 0]  # type: ignore[arg-type]
            errors.append(depth_errors(found, depth[0], border=6))
        for place, name in enumerate(("rmse", "mae", "edge_rmse")):
            assert float(row[name]) == pytest.approx(sum(error[place] for error in errors) / 2, abs=1e-6)


def test_filters_are_tuned_on_training_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    tuned = depth_comparison.tuned_filter
    monkeypatch.setattr(
        depth_comparison,
        "tuned_filter",
        lambda start, images, **options: seen.append(images) or tuned(start, images, **options),
    )
    data = depth_comparison.find("motorcycle", None)
    scores = [score for score, _ in depth_comparison.compare(data, {}, factors=[4])]
    assert [images[0].name for images in seen] == ["motorcycle (train)"] * 2
    assert data.test.images[0].name == "motorcycle (test)"
    assert [score.method for score in scores] == CLASSICAL
    assert {score.unit for score in scores} == {"px"}
    by_name = {score.method: score.rmse for score in scores}
    assert by_name["joint bilateral"] < by_name["bicubic"] < by_name["nearest"]


def test_tuning_finds_the_least_error_on_its_images() -> None:
    best = depth_comparison.tuned_filter(GuidedFilter(), Motorcycle("train"), factor=4, protocol="pac")
    errors = {}
    split = depth_comparison.ScoredSplit(Motorcycle("train"), relative=True)
    rgb, depth = (depth_comparison._middle(tensor) for tensor in split.tensors(0))
    assert rgb.shape == (3, 48, 48)
    for eps in (1e-4, 1e-2):
        found = depth_comparison._upsampled(GuidedFilter(eps=eps), rgb, depth, factor=4, protocol="pac")
        errors[eps] = depth_errors(found, depth[0], border=6).rmse
    assert best.eps == min(errors, key=errors.__getitem__)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--protocol", "nope"], "--protocol: invalid choice: 'nope'"),
        (["--factors", "3"], "--factors: invalid choice: 3"),
        (["--images", "0"], "--images: expected an int >= 1, got 0"),
        (["--csv", "nope/a.csv"], "--csv: the folder nope is not there"),
        (["--picture", "a.gif"], "--picture: expected a name that ends in .png, .svg, .pdf"),
        (
            ["--data.dataset", "nyu"],
            "data.root: expected the file nyu_depth_v2_labeled.mat with dataset='nyu', got None",
        ),
        (["--data.root", "x"], "data.root: expected none with dataset='motorcycle', got x"),
        (["--runs", "nope"], "nope: no run here"),
    ],
)
def test_errors(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "depth", *options]) in (1, 2)  # found while options are read, or later
    assert sentence in capsys.readouterr().err


def test_options_that_there_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "depth", "--data.dataset", "kitti"]) == 2
    assert "invalid choice: 'kitti'" in capsys.readouterr().err
    assert main(["evaluate", "depth", "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err
    assert main(["evaluate", "depth", "--help"]) == 0
    assert "Table 7" in capsys.readouterr().out
