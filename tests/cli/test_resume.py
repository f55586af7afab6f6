"""A run killed at any moment goes on where it was, and ends with the weights of an undisturbed one."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.uncompiled import leave_out_compiled_kernels

# Every source of randomness: dropout, stochastic depth, shifts and flips; few batches, so that most of the time is spent
# where files are written.
EPOCHS = 8
OPTIONS = [
    "--seed=3",
    f"--epochs={EPOCHS}",
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--model.network_args={drop_rate: 0.1, drop_path_rate: 0.1}",
    "--data.max_shift=2",
]
KILLED_AFTER = (0, 1, 3, 5)  # epochs written, and a while


def train(*options: str) -> int:
    """Trains in a forked child, which need not import everything again; returns its process id."""
    child = os.fork()
    if child == 0:
        from ddfnet.cli import main

        torch.set_num_threads(1)
        os._exit(main(["train", *options]))
    return child


def kill_and_resume(folder: Path) -> int:
    """Trains in children that are killed at random moments after each of `KILLED_AFTER`; returns the kills."""
    delays = random.Random(0)
    kills = 0
    for epochs in (*KILLED_AFTER, None):
        child = (
            train("--resume", str(folder)) if (folder / "config.yaml").exists() else train(f"--run={folder}", *OPTIONS)
        )
        deadline = None
        done, status = 0, 0
        while not done:
            if deadline is None and epochs is not None and epochs_written(folder) >= epochs:
                deadline = time.monotonic() + delays.uniform(0, 1.0)
            if deadline is not None and time.monotonic() >= deadline:
                os.kill(child, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.005)
            done, status = os.waitpid(child, os.WNOHANG)
        kills += os.WIFSIGNALED(status)
        if not os.WIFSIGNALED(status) and status != 0:
            raise RuntimeError(f"a child ended with status {status}")
    return kills


def epochs_written(folder: Path) -> int:
    """Rows of the metrics, which are written whole or not at all."""
    metrics = folder / "metrics.csv"
    return metrics.read_text().count("\n") - 1 if metrics.exists() else 0


def train_undisturbed_and_killed(undisturbed: Path, killed: Path) -> None:
    import ddfnet.cli.experiment
    import ddfnet.cli.train
    import ddfnet.tasks.classification.task  # noqa: F401

    leave_out_compiled_kernels()
    _, status = os.waitpid(train(f"--run={undisturbed}", *OPTIONS), 0)
    print("status", status, "kills", kill_and_resume(killed))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An undisturbed run and one that was killed again and again, by one process that imports everything once."""
    undisturbed, killed = tmp_path_factory.mktemp("runs") / "undisturbed", tmp_path_factory.mktemp("runs") / "killed"
    command = "from tests.cli.test_resume import *; "
    command += f"train_undisturbed_and_killed(Path({str(undisturbed)!r}), Path({str(killed)!r}))"
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    found = re.search(r"status (\d+) kills (\d+)", result.stdout)
    assert found is not None, result.stdout + result.stderr
    assert found[1] == "0", result.stdout + result.stderr
    assert int(found[2]) >= 3, result.stdout
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
    assert len(rows_a) == len(rows_b) == EPOCHS
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
    """A run that lacks its end, moved, goes on as if it had stayed; its best epoch is remembered."""
    from ddfnet.cli import main

    moved = tmp_path / "moved"
    shutil.copytree(runs[0], moved)
    (moved / "summary.json").unlink()
    assert main(["train", "--resume", str(moved)]) == 0
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in (runs[0], moved))
    assert a["command"] == b["command"]
    assert a["test_accuracy"] == b["test_accuracy"]
    epoch = torch.load(moved / "best.ckpt", weights_only=True)["epoch"]
    assert epoch + 1 == b["best_epoch"]


def test_a_finished_run_is_made_longer(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """It goes on from its last epoch, by the schedule of the new length, and is finished again."""
    from ddfnet.cli import main

    shutil.copytree(runs[0], tmp_path / "run")
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "9"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    before = list(csv.DictReader((runs[0] / "metrics.csv").open()))
    assert summary["epochs"] == len(rows) == 9
    assert rows[:8] == before
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 8
    assert "epochs: 9" in (tmp_path / "run" / "config.yaml").read_text()
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "8"]) == 1
