"""A study: recipes times seeds, resumed where it was killed, with means and spreads that follow from its runs."""

import csv
import json
import os
import signal
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ddfnet.cli import main
from ddfnet.tasks.run import study

RECIPES = ("garments/nearest", "garments/ddf_up")

# A stand-in for `python -m ddfnet train`: what a study is for does not depend on what a run does in between.
TRAIN = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
value = lambda name: words[words.index(name) + 1]
with open("calls.txt", "a") as calls:
    calls.write(" ".join(words) + chr(10))
if "--resume" in words:
    run = Path(value("--resume"))
    words = (run / "config.yaml").read_text().split()[2:]
else:
    run = Path(value("--run"))
    run.mkdir()
    (run / "config.yaml").write_text("# ddfnet train " + " ".join(words[1:]) + chr(10))
seed, recipe = int(value("--seed")), value("--config")
if Path("fail").exists() and recipe.endswith("ddf_up") and seed == 1:
    print("ddfnet train: out of luck")
    sys.exit(1)
score = round(0.1 + 0.01 * seed ** 2 + 0.05 * recipe.endswith("ddf_up"), 6)
scores = {"test_mAP": score, "test_mAP_small": score / 2, "val_mAP": score + 0.01}
(run / "summary.json").write_text(json.dumps({**scores, "network": recipe, "versions": {"torch": "1"}, "seed": seed}))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    popen = study.subprocess.Popen

    def stand_in(command: list[str], **options: Any) -> Any:
        assert command[:4] == [sys.executable, "-m", "ddfnet", "train"]
        return popen([sys.executable, "train.py", *command[3:]], **options)

    monkeypatch.setattr(study.subprocess, "Popen", stand_in)
    return tmp_path


def run(*more: str) -> int:
    return main(["study", *RECIPES, "--folder", "s", "--csv", "s.csv", "--plot", "s.png", *more])


def test_rows_means_and_spreads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--jobs", "2", "--", "--epochs", "3") == 0
    rows = list(csv.DictReader((here / "s.csv").open()))
    assert [(row["recipe"], row["seed"]) for row in rows[:6]] == [(r, str(s)) for r in RECIPES for s in range(3)]
    values = [0.1, 0.11, 0.14]
    assert [float(row["test_mAP"]) for row in rows[:3]] == values
    assert rows[0]["command"] == "ddfnet train --config garments/nearest --seed 0 --epochs 3"
    mean, spread = rows[6], rows[7]
    assert (mean["recipe"], mean["seed"], spread["seed"]) == (RECIPES[0], "mean", "std")
    assert float(mean["test_mAP"]) == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert float(spread["test_mAP"]) == pytest.approx(statistics.stdev(values), abs=1e-6)
    assert (here / "s.png").stat().st_size > 0
    out = capsys.readouterr().out
    assert "0.1167 ± 0.0208" in out
    assert "mAP small" in out
    calls = (here / "calls.txt").read_text().splitlines()
    assert len(calls) == 6
    assert all("--epochs 3" in line for line in calls)


def test_the_first_seed_of_every_recipe_comes_before_the_next() -> None:
    todo = study.trials(RECIPES, [0, 1, 2], [], Path("s"))
    assert [(trial.recipe, trial.seed) for trial in todo] == [(recipe, seed) for seed in range(3) for recipe in RECIPES]


def test_a_study_goes_on_where_it_was(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fail").touch()
    assert run() == 1
    assert "garments-ddf_up-seed1.log: the run failed: ddfnet train: out of luck" in capsys.readouterr().err
    assert len(list(csv.DictReader((here / "s.csv").open()))) == 3 + 3  # what is there; one mean and spread, one mean
    (here / "fail").unlink()
    assert run() == 0
    calls = [line for line in (here / "calls.txt").read_text().splitlines() if "seed1" in line and "ddf_up" in line]
    assert [line.split()[1] for line in calls] == ["--config", "--resume"]
    assert len((here / "calls.txt").read_text().splitlines()) == 7
    assert run("--seeds", "0", "1", "2", "3") == 0
    assert len((here / "calls.txt").read_text().splitlines()) == 9
    assert json.loads((here / "s" / "garments-ddf_up-seed3" / "summary.json").read_text())["seed"] == 3


def test_the_runs_end_with_their_study(here: Path) -> None:
    """Terminated while its first run is at work: the run is gone with it, and the same command goes on."""
    wait = "import os, time; Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    slow = TRAIN.replace("seed, recipe =", wait + chr(10) + "seed, recipe =")
    (here / "train.py").write_text(slow)

    def terminate() -> None:
        while not (here / "pid").exists() or not (here / "pid").read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    handler = signal.getsignal(signal.SIGTERM)
    begun = time.monotonic()
    assert run("--seeds", "0") == 130
    signal.signal(signal.SIGTERM, handler)
    assert time.monotonic() - begun < 50
    with pytest.raises(ProcessLookupError):
        os.kill(int((here / "pid").read_text()), 0)
    (here / "train.py").write_text(TRAIN)
    assert run("--seeds", "0") == 0
    assert "--resume" in (here / "calls.txt").read_text()


def test_runs_of_other_options_are_not_mixed_in(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "0") == 0
    assert run("--seeds", "0", "--", "--epochs", "2") == 1
    assert "holds a run of other options" in capsys.readouterr().err


def test_recipes_with_different_scores(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = 'scores = {"test_accuracy": 0.75, "val_accuracy": 0.5} if recipe.endswith("ddf_up") else {"test_mAP": 0.25}'
    lines = [other if line.startswith("scores =") else line for line in TRAIN.splitlines()]
    (here / "train.py").write_text(chr(10).join(lines))
    assert run("--seeds", "0") == 0
    out = capsys.readouterr().out
    assert "0.2500" in out
    assert "0.7500" in out
    rows = list(csv.DictReader((here / "s.csv").open()))
    assert [(row["test_mAP"], row["test_accuracy"]) for row in rows] == [("0.25", ""), ("", "0.75")] * 2


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nope"], "nope: neither a file nor a recipe"),
        (["garments", "--jobs", "0"], "--jobs: expected an int >= 1, got 0"),
        (["garments", "--csv", "nope/a.csv"], "--csv: the folder nope is not there"),
        (["garments", "--plot", "a.gif"], "--plot: expected a name that ends in .png, .svg, .pdf"),
    ],
)
def test_errors(here: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    assert main(["study", *argv]) in (1, 2)  # found while options are read, or later
    assert sentence in capsys.readouterr().err
    assert not (here / "runs").exists()
