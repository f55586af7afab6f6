"""`ddfnet predict` and `ddfnet export --hub` end to end: tables, files, pictures, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.trained_runs import classifier, depth_upsampler, detector

import ddfnet
from ddfnet.cli import main
from ddfnet.ops.ddf.cpu import backend


@pytest.fixture(autouse=True)
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernels serve is tested elsewhere; here none need be compiled."""
    monkeypatch.setattr(backend, "unsupported", lambda x, g: "left out in this test")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / ".hidden").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.gif", ".hidden/c.png")):
        Image.effect_noise((60 + seed, 40), 90).save(folder / name)
    return folder


def read(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    written = json.loads((folder / "predictions.json").read_text())
    assert [{name: str(value) for name, value in row.items()} for row in written] == rows
    return rows


def test_a_classifier(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, network = classifier(tmp_path / "run")
    assert main(["predict", str(run), str(images), "--top", "2", "-o", str(tmp_path / "out")]) == 0
    rows = read(tmp_path / "out")
    assert [Path(row["image"]).name for row in rows] == ["a.png", "a.png", "b.gif", "b.gif"]
    trained = ddfnet.load(run)
    scores = network(trained.transform(images / "b.gif")[None])[0].softmax(0).detach()
    best = int(scores.argmax())
    assert rows[2]["class"] == trained.class_names[best]
    assert float(rows[2]["score"]) == pytest.approx(float(scores[best]), abs=1e-4)
    assert trained.class_names[best] in capsys.readouterr().out


def test_a_detector(tmp_path: Path, images: Path) -> None:
    run, network = detector(tmp_path / "run")
    out = tmp_path / "out"
    assert main(["predict", str(run), str(images / "a.png"), "--least", "0.3", "-o", str(out)]) == 0
    rows = read(out)
    with torch.no_grad():
        (expected,) = network([ddfnet.load(run).transform(images / "a.png")])
    sure = expected["scores"] >= 0.3
    assert len(rows) == int(sure.sum()) > 0
    assert rows[0]["class"] == ("dog", "eel")[int(expected["labels"][0]) - 1]
    assert float(rows[0]["right"]) == pytest.approx(float(expected["boxes"][0, 2]), abs=0.01)
    with Image.open(out / "a.png") as drawn:
        assert drawn.width == 400


def test_a_depth_upsampler(tmp_path: Path, images: Path) -> None:
    run, network = depth_upsampler(tmp_path / "run")
    depth = np.random.default_rng(0).uniform(1, 3, (20, 30)).astype(np.float32)
    np.save(tmp_path / "low.npy", depth)
    argv = [
        "predict",
        str(run),
        str(images / "a.png"),
        "--depth",
        str(tmp_path / "low.npy"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(argv) == 0
    rgb = np.asarray(Image.open(images / "a.png").convert("RGB"))
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    least, span = depth.min(), depth.max() - depth.min()
    with torch.no_grad():
        expected = network(torch.from_numpy((depth - least) / span)[None, None], image)[0, 0].numpy() * span + least
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a.npy"), expected, rtol=1e-5)
    assert read(tmp_path / "out")[0]["height"] == "40"


def test_what_cannot_be_read_is_named(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = classifier(tmp_path / "run")
    (images / "a.png").write_bytes(b"no image")
    assert main(["predict", str(run), str(images), "-o", str(tmp_path / "out")]) == 1
    assert "left out: " in (printed := capsys.readouterr()).err
    assert "a.png: not an image" in printed.err
    assert {Path(row["image"]).name for row in read(tmp_path / "out")} == {"b.gif"}


def test_what_is_refused(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = depth_upsampler(tmp_path / "run")
    for argv, sentence in (
        ([str(run), "nowhere.png"], "nowhere.png: no such image"),
        ([str(tmp_path / "nowhere"), str(images)], "nowhere: no such run or file"),
        ([str(run), str(images)], "--depth: expected the low depth maps of a run of depth, got None"),
        ([str(run), str(images), "--top", "0"], "--top: expected an int >= 1, got 0"),
    ):
        assert main(["predict", *argv, "-o", str(tmp_path / "out")]) in (1, 2)
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_to_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = classifier(tmp_path / "run")
    (run / "summary.json").write_text(json.dumps({"test_accuracy": 0.75, "epochs": 1}))
    assert main(["export", str(run), "--hub", str(tmp_path / "hub")]) == 0
    assert str(tmp_path / "hub" / "model.safetensors") in capsys.readouterr().out
    assert "test accuracy: 0.75" in (tmp_path / "hub" / "README.md").read_text()
    assert ddfnet.load(tmp_path / "hub").class_names == ("ant", "bee", "cat")
