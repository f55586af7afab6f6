"""A logger of Lightning's beside `metrics.csv`."""

import csv
from pathlib import Path

import pytest
from pytorch_lightning.loggers import TensorBoardLogger

from ddfnet.cli import main

SHORT = ["--trainer.accelerator=cpu", *(f"--trainer.limit_{split}_batches=1" for split in ("train", "val", "test"))]
SHORT += ["--config=fashion_mnist/resnet_mini", "--data.batch_size=8"]


def logged(folder: Path) -> dict[str, list[float]]:
    """What Lightning's CSVLogger wrote, by name."""
    rows = [*csv.DictReader((folder / "metrics.csv").open())]
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def test_is_told_what_metrics_csv_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    logger = ["--logger=CSVLogger", "--logger.save_dir=logs", "--logger.name=mine"]
    assert main(["train", "--run=run", "--epochs=2", *SHORT, *logger]) == 0
    rows = [*csv.DictReader((tmp_path / "run" / "metrics.csv").open())]
    found = logged(tmp_path / "logs" / "mine" / "version_0")
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert found[name] == pytest.approx([float(row[name]) for row in rows], abs=1e-6)
    assert len(found["test_accuracy"]) == 1

    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert [path.name for path in (tmp_path / "logs" / "mine").iterdir()] == ["version_0"]
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs=3"]) == 0
    assert len(logged(tmp_path / "logs" / "mine" / "version_1")["train_loss"]) == 1
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(self: TensorBoardLogger, save_dir: str) -> None:
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    monkeypatch.setattr(TensorBoardLogger, "__init__", absent)
    options = ["--logger=TensorBoardLogger", f"--logger.save_dir={tmp_path}"]
    assert main(["train", f"--run={tmp_path / 'run'}", *SHORT, *options]) == 1
    expected = "logger: TensorBoardLogger needs a package that is not installed (Neither `tensorboard` nor"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_that_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"--run={tmp_path / 'run'}", *SHORT, "--logger=Nope"]) == 2
    assert "logger" in capsys.readouterr().err
