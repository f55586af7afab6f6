"""Several processes train as one does with their joined batch, and a job whose process was killed ends as if none had."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ENTRY = Path(__file__).parent / "killable.py"
REPOSITORY = ENTRY.parents[2]
# No batch norm, whose statistics are each process's own; and the average of the weights.
OPTIONS = [
    "--seed=3",
    "--epochs=3",
    "--trainer.accelerator=cpu",
    "--trainer.devices=auto",
    "--trainer.limit_train_batches=5",
    "--trainer.limit_val_batches=3",
    "--trainer.limit_test_batches=3",
    "--data.max_shift=2",
    "--model.warmup_epochs=0",
    "--model.ema_decay=0.5",
]
NORM = "--model.network_args={norm_layer: groupnorm1}"
DROPOUT = (
    "--model.network_args={norm_layer: groupnorm1, drop_rate: 0.2, drop_path_rate: 0.2}"  # each process draws its own
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in folders: `one` process; `two` with half the batch each; as these, but one of them `killed`."""
    folder = tmp_path_factory.mktemp("runs")
    jobs: list[tuple[str, int, list[str], str]] = [
        ("one", 1, [NORM, *OPTIONS, "--data.batch_size=16"], ""),
        ("two", 2, [NORM, *OPTIONS, "--data.batch_size=8"], ""),
        ("killed", 2, [NORM, *OPTIONS, "--data.batch_size=8"], "1/1/2"),
    ]
    script = "import sys, os, json; from tests.tasks import killable; from tests.uncompiled import *\n"
    script += "leave_out_compiled_kernels()\n"
    script += (
        "import ddfnet.cli.train, ddfnet.cli.experiment, ddfnet.tasks.classification.task, ddfnet.tasks.run.folder\n"
    )
    for name, processes, options, kill in jobs:
        argv = ["train", f"--run={folder / name}", *options]
        script += f"os.environ['DDFNET_TEST_KILL'] = {kill or '-1/0/0'!r}\n"
        script += f"print('codes', json.dumps(killable.launch({processes}, {free_port()}, {argv!r}, restarts=1)))\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    codes = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("codes ")]
    assert codes[:2] == [[[0]], [[0, 0]]], done.stdout + done.stderr
    assert len(codes[2]) == 2, done.stdout + done.stderr
    assert codes[2][0][1] == -9
    assert codes[2][1] == [0, 0], done.stdout + done.stderr
    return folder


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def weights(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return dict(torch.load(run / name, weights_only=True))


def test_the_loss_curve_is_that_of_one_process(runs: Path) -> None:
    """Sums over halves of a batch round otherwise: 15 steps let the difference grow to some 1e-5 of the loss."""
    one, two = rows(runs / "one"), rows(runs / "two")
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert a["lr"] == b["lr"]
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
    assert one[0]["train_loss"] > one[2]["train_loss"]
    assert rows(runs / "two")[0]["train_images"] == 2 * 8 * 4  # of all processes, without the first batch


def test_the_score_is_that_of_one_process(runs: Path) -> None:
    """Three batches of each process are six of the one: scored here on the same images."""
    from ddfnet.data.samplers import scoring_batches

    one = {index for part in scoring_batches(2_000, 16)[:3] for index in part}
    shares = [scoring_batches(2_000, 8, rank=rank, world=2)[:3] for rank in range(2)]
    assert {index for share in shares for part in share for index in part} == one
    a, b = (json.loads((runs / name / "summary.json").read_text()) for name in ("one", "two"))
    assert a["test_accuracy"] == pytest.approx(
        b["test_accuracy"], abs=1.01 / 48
    )  # an image on the edge may fall either way


def test_a_job_whose_process_was_killed_ends_as_if_none_had(runs: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        a, b = weights(runs / "two", name), weights(runs / "killed", name)
        assert a.keys() == b.keys()
        for part in ("state_dict", "current_model_state"):
            for key, value in a.get(part, {}).items():
                assert torch.equal(value, b[part][key]), (name, part, key)
    timed = ("train_seconds",)
    left, right = (
        [{k: v for k, v in row.items() if k not in timed} for row in rows(runs / name)] for name in ("two", "killed")
    )
    assert left == right
    scores = [json.loads((runs / name / "summary.json").read_text())["test_accuracy"] for name in ("two", "killed")]
    assert scores[0] == scores[1]


def test_what_is_saved_is_the_average_of_the_weights(runs: Path) -> None:
    best, last = weights(runs / "two", "best.ckpt"), weights(runs / "two")
    key = "network.fc.weight"
    assert not torch.equal(last["state_dict"][key], last["current_model_state"][key])
    assert best["state_dict"].keys() == last["state_dict"].keys()
    assert "current_model_state" not in best
    if json.loads((runs / "two" / "summary.json").read_text())["best_epoch"] == 3:
        assert torch.equal(best["state_dict"][key], last["state_dict"][key])


@pytest.mark.release
def test_torchrun_brings_a_killed_job_back(tmp_path: Path) -> None:
    """The launcher itself, with --max-restarts; with dropout and stochastic depth."""
    for name, kill in (("undisturbed", "-1/0/0"), ("killed", "1/1/2")):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
        command += ["--standalone", "--", str(ENTRY), "train", f"--run={tmp_path / name}"]
        environment = {**os.environ, "DDFNET_TEST_KILL": kill, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, DROPOUT, *OPTIONS, "--data.batch_size=8"], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert ("Resuming" in done.stdout) == (name == "killed")
    a, b = (weights(tmp_path / name)["state_dict"] for name in ("undisturbed", "killed"))
    assert all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.slow
def test_a_process_without_a_readable_image_holds_nobody_up(tmp_path: Path) -> None:
    """The second process finds no image to score: the job ends, and its scores are those of the first one's images."""
    options = [NORM, *OPTIONS, "--epochs=1", "--data.batch_size=8"]
    argv = ["train", f"--run={tmp_path / 'run'}", *options]
    script = f"""import sys, os, json
sys.path.insert(0, {str(ENTRY.parent)!r})
import killable
from ddfnet.tasks.classification.task import Classification
score = Classification._score
def blind(self, batch, part):
    images, labels, names = batch
    score(self, (images[:0], labels[:0], names) if os.environ["RANK"] == "1" else batch, part)
Classification._score = blind
print("codes", json.dumps(killable.launch(2, {free_port()}, {argv!r})))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert "codes [[0, 0]]" in done.stdout, done.stdout + done.stderr
    accuracy = json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy"]
    assert accuracy * 24 == pytest.approx(round(accuracy * 24), abs=1e-4)  # of three batches of 8, not of six
    assert all(0 < float(row["val_loss"]) < 10 for row in rows(tmp_path / "run"))
