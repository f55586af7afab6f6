"""A run killed at any moment goes on where it was, and ends with the weights of an undisturbed one."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

# Every source of randomness: dropout, stochastic depth, shifts and flips; few batches, so that most of the time is spent
# where files are written.
OPTIONS = [
    "--seed=3",
    "--epochs=12",
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--model.network_args={drop_rate: 0.1, drop_path_rate: 0.1}",
    "--data.max_shift=2",
]


def kill_and_resume(folder: Path) -> int:
    """Trains in forked children, killing each after a random delay, until one ends by itself; returns the kills."""
    import ddfnet.cli.experiment
    import ddfnet.cli.train
    import ddfnet.tasks.classification.task  # noqa: F401
    from ddfnet.cli import main

    delays = random.Random(0)
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            begun = (folder / "config.yaml").exists()
            os._exit(main(["train", "--resume", str(folder)] if begun else ["train", "--run", str(folder), *OPTIONS]))
        deadline = time.monotonic() + delays.uniform(0.5, 2.0) + 0.5 * kills  # more and more, so that it ends
        status = None
        while time.monotonic() < deadline and status is None:
            done, code = os.waitpid(child, os.WNOHANG)
            status = code if done else None
            time.sleep(0.005)
        if status is not None:
            if status != 0:
                raise RuntimeError(f"a child ended with status {status}")
            return kills
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An undisturbed run and one that was killed again and again."""
    undisturbed, killed = tmp_path_factory.mktemp("runs") / "undisturbed", tmp_path_factory.mktemp("runs") / "killed"
    command = "import sys, torch; torch.set_num_threads(1); from ddfnet.cli import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", command, "train", "--run", undisturbed, *OPTIONS], check=True)
    command = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_resume import *; "
    command += f"print('kills', kill_and_resume(Path({str(killed)!r})))"
    result = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True)
    assert int(result.stdout.rsplit("kills", 1)[1]) >= 3, result.stdout
    return undisturbed, killed


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_weights_and_optimizer_are_bit_equal(runs: tuple[Path, Path], name: str) -> None:
    a, b = (torch.load(folder / name, weights_only=True) for folder in runs)
    assert a["epoch"] == b["epoch"]
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key
    for state_a, state_b in zip(a.get("optimizer_states", ()), b.get("optimizer_states", ()), strict=True):
        for index, entry in state_a["state"].items():
            for key, value in entry.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(state_b["state"][index][key])), key


def test_scores_and_metrics_are_equal(runs: tuple[Path, Path]) -> None:
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in runs)
    for name in ("test_accuracy", "val_accuracy", "val_loss", "best_epoch", "parameters", "seed"):
        assert a[name] == b[name], name
    rows_a, rows_b = (list(csv.DictReader((folder / "metrics.csv").open())) for folder in runs)
    assert len(rows_a) == len(rows_b) == 12
    for row_a, row_b in zip(rows_a, rows_b, strict=True):
        assert {k: v for k, v in row_a.items() if k != "train_seconds"} == {
            k: v for k, v in row_b.items() if k != "train_seconds"
        }


def test_nothing_else_is_left_behind(runs: tuple[Path, Path]) -> None:
    names = [sorted(path.name for path in folder.iterdir() if not path.name.startswith(".partial-")) for folder in runs]
    assert names[0] == names[1]
    assert set(names[0]) == {
        "best.ckpt",
        "config.yaml",
        "curves.png",
        "filters.png",
        "last.ckpt",
        "metrics.csv",
        "summary.json",
    }


def test_evaluate_prints_what_training_ended_with(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    from ddfnet.cli import main

    accuracy = json.loads((runs[0] / "summary.json").read_text())["test_accuracy"]
    assert main(["evaluate", str(runs[0])]) == 0
    assert f"test accuracy  {accuracy!r}\n" in capsys.readouterr().out


def test_resuming_a_finished_run_shows_its_summary(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    from ddfnet.cli import main

    before = (runs[0] / "last.ckpt").stat().st_mtime_ns
    assert main(["train", "--resume", str(runs[0])]) == 0
    assert "this run is finished" in capsys.readouterr().out
    assert (runs[0] / "last.ckpt").stat().st_mtime_ns == before


def test_a_run_folder_is_not_trained_over(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    from ddfnet.cli import main

    assert main(["train", "--run", str(runs[0])]) == 1
    assert "holds a run; go on with it by `ddfnet train --resume" in capsys.readouterr().err


def test_a_run_folder_can_be_moved(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Half a run, moved, goes on as if it had stayed; its best epoch is remembered."""
    from ddfnet.cli import main

    assert main(["train", "--run", str(tmp_path / "a"), *OPTIONS]) == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name in ("summary.json", "best.ckpt"):
        (tmp_path / "b" / name).unlink()
    shutil.copy(tmp_path / "a" / "best.ckpt", tmp_path / "b" / "best.ckpt")
    assert main(["train", "--resume", str(tmp_path / "b")]) == 0
    a, b = (json.loads((tmp_path / name / "summary.json").read_text()) for name in "ab")
    assert a["command"] == b["command"]
    assert a["test_accuracy"] == b["test_accuracy"]
    epoch = torch.load(tmp_path / "b" / "best.ckpt", weights_only=True)["epoch"]
    assert epoch + 1 == b["best_epoch"]


def test_a_finished_run_is_made_longer(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """It goes on from its last epoch, by the schedule of the new length, and is finished anew."""
    from ddfnet.cli import main

    shutil.copytree(runs[0], tmp_path / "run")
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "13"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    before = list(csv.DictReader((runs[0] / "metrics.csv").open()))
    assert summary["epochs"] == len(rows) == 13
    assert rows[:12] == before
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 12
    assert "epochs: 13" in (tmp_path / "run" / "config.yaml").read_text()
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "12"]) == 1
