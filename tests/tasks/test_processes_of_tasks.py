"""Detection and depth in two processes: every image is trained on and scored once, by what both found."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.depth_files import write_folder
from tests.tasks.test_processes import ENTRY, free_port

from ddfnet.data.detection.garments import make_garments
from ddfnet.data.samplers import dealt_batches

DEPTH = ["--config=depth/ddf_up_net_x4", "--data.dataset=folder", "--data.crop=16", "--data.crops=1", "--epochs=2"]
DEPTH += ["--trainer.precision=32"]
BOXES = ["--config=garments/nearest", "--epochs=1", "--model.network_args.out_channels=16", "--model.min_size=64"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by name; an odd number of images is scored, so that one process has fewer."""
    folder = tmp_path_factory.mktemp("runs")
    pairs = write_folder(folder / "pairs", {"train": 8, "val": 3, "test": 3})
    make_garments(folder / "garments", images=(8, 3, 3))
    jobs: dict[str, tuple[int, list[str]]] = {
        "depth-one": (1, [*DEPTH, f"--data.root={pairs}", "--data.batch_size=4"]),
        "depth-two": (2, [*DEPTH, f"--data.root={pairs}", "--data.batch_size=2"]),
        "boxes-two": (2, [*BOXES, f"--data.root={folder / 'garments'}", "--data.batch_size=2"]),
    }
    script = f"import sys, json; sys.path.insert(0, {str(ENTRY.parent)!r}); import killable\n"
    script += "import ddfnet.cli.train, ddfnet.cli.experiment, ddfnet.tasks.run.folder\n"
    for name, (processes, options) in jobs.items():
        argv = ["train", f"--run={folder / name}", *options, "--trainer.accelerator=cpu", "--trainer.devices=auto"]
        script += f"print('codes', json.dumps(killable.launch({processes}, {free_port()}, {argv!r})))\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    codes = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("codes ")]
    assert codes == [[[0]], [[0, 0]], [[0, 0]]], done.stdout + done.stderr
    return {name: folder / name for name in jobs}


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


@pytest.mark.release
def test_depth_in_two_processes_is_as_in_one(runs: dict[str, Path]) -> None:
    """Sums over halves of a batch round otherwise."""
    one, two = ([*csv.DictReader((runs[f"depth-{name}"] / "metrics.csv").open())] for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert float(a["train_loss"]) == pytest.approx(float(b["train_loss"]), rel=1e-3)
        assert float(a["val_rmse"]) == pytest.approx(float(b["val_rmse"]), rel=1e-3)
    for name in ("test_rmse", "test_mae", "test_edge_rmse"):
        assert summary(runs["depth-one"])[name] == pytest.approx(summary(runs["depth-two"])[name], rel=1e-3)


def test_a_detector_in_two_processes_is_scored_on_all_images(runs: dict[str, Path]) -> None:
    run = runs["boxes-two"]
    assert summary(run)["data"]["images"] == {"train": 8, "val": 3, "test": 3}
    assert 0 <= summary(run)["test_mAP"] <= 1
    (row,) = csv.DictReader((run / "metrics.csv").open())
    assert int(row["train_images"]) == 4  # of both processes, without the first batch


def test_joined_batches_are_dealt_out_evenly() -> None:
    batches = [[4, 1, 3, 0], [2, 5, 6]]
    assert dealt_batches(batches, rank=0, world=2) == [[4, 3], [2, 6]]
    assert dealt_batches(batches, rank=1, world=2) == [[1, 0], [5, 2]]  # filled up from the start
    assert dealt_batches([[7]], rank=2, world=3) == [[7]]
