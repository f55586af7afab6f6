"""Several runs side by side: recipes times seeds, each in a folder, resumed where they were killed.

STUDY/RECIPE-seedN        a run, as `ddfnet train` leaves it
STUDY/RECIPE-seedN.log    what it printed
"""

import csv
import io
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfnet.atomic import write_text
from ddfnet.tasks.run.folder import RunFolder

Row = dict[str, Any]
MEAN, SPREAD = "mean", "std"  # in the place of a seed; the spread is the standard deviation with n - 1


@dataclass(frozen=True)
class Trial:
    """One recipe with one seed."""

    recipe: str
    seed: int
    options: tuple[str, ...]  # further ones of `ddfnet train`
    folder: RunFolder

    @property
    def log(self) -> Path:
        return self.folder.path.with_name(self.folder.path.name + ".log")

    @property
    def arguments(self) -> list[str]:
        """The arguments of `ddfnet train`, for the whole run."""
        return ["--config", self.recipe, "--seed", str(self.seed), *self.options]

    def check(self) -> None:
        """Raise ValueError if the folder holds a run of other options."""
        if not self.folder.config.is_file():
            return
        words = shlex.split(self.folder.config.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "))
        place = words.index("--run") if "--run" in words else len(words)
        found = words[2:place] + words[place + 2 :]
        if found != self.arguments:
            raise ValueError(
                f"{self.folder.path}: holds a run of other options ({shlex.join(found)}); give this study another folder"
            )


def trials(recipes: Sequence[str], seeds: Sequence[int], options: Sequence[str], folder: Path) -> list[Trial]:
    """Return every recipe with the first seed, then with the next: what is done when time runs out compares all of them."""
    return [
        Trial(recipe, seed, tuple(options), RunFolder(folder / f"{recipe.replace('/', '-')}-seed{seed}"))
        for seed in dict.fromkeys(seeds)
        for recipe in dict.fromkeys(recipes)
    ]


def run(todo: Sequence[Trial], *, jobs: int, threads: int, tell: Callable[[str], None]) -> None:
    """Run or resume what is not finished, `jobs` at a time, each on so many threads.

    Raises:
        ValueError: a folder holds another run.
        RuntimeError: a run failed; those at work end, and no other begins.
    """
    for trial in todo:
        trial.check()
    failed: list[str] = []

    def work(trial: Trial) -> None:
        if failed or trial.folder.read_summary() is not None:
            return
        begun = trial.folder.config.is_file()
        tell(f"{trial.folder.path}: {'resumed' if begun else 'begun'}")
        path = str(trial.folder.path)
        arguments = ["--resume", path] if begun else [*trial.arguments, "--run", path]
        trial.folder.path.parent.mkdir(parents=True, exist_ok=True)
        with trial.log.open("a", encoding="utf-8") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "ddfnet", "train", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                start_new_session=True,  # Ctrl-C reaches the study alone, which ends its runs
            )
            children.append(child)
            code = child.wait()
        if code:
            lines = trial.log.read_text(encoding="utf-8").strip().splitlines()
            said = next((line for line in reversed(lines) if line.startswith("ddfnet ")), f"exit code {code}")
            failed.append(f"{trial.log}: the run failed: {said}")
        else:
            tell(f"{trial.folder.path}: finished")

    children: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(work, todo))
        except BaseException:  # interrupted: no run outlives its study
            failed.append("interrupted")
            for child in children:
                child.terminate()
            raise
    if failed:
        raise RuntimeError(failed[0])


def collect(done: Sequence[Trial]) -> list[Row]:
    """Return a row a finished run, then for each recipe the mean and the spread of its scores."""
    rows: list[Row] = []
    for trial in done:
        summary = trial.folder.read_summary()
        if summary is None:
            continue
        scores = {name: value for name, value in summary.items() if name.startswith(("test_", "val_"))}
        counts = (
            "network",
            "best_epoch",
            "epochs",
            "parameters",
            "multiply_adds",
            "images_per_second",
            "train_seconds",
        )
        facts = {name: summary.get(name) for name in (*counts, "device", "threads", "date")}
        command = shlex.join(["ddfnet", "train", *trial.arguments])
        rows.append(
            {
                "recipe": trial.recipe,
                "seed": trial.seed,
                **scores,
                **facts,
                "changes": json.dumps(summary.get("changes")),
                "command": command,
                **summary["versions"],
            }
        )
    rows.sort(key=lambda row: ([trial.recipe for trial in done].index(row["recipe"]), row["seed"]))
    return rows + _spreads(rows)


def _spreads(rows: Sequence[Row]) -> list[Row]:
    """Return the mean of each recipe's scores and, of several runs, their standard deviation."""
    spreads: list[Row] = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        of_recipe = [row for row in rows if row["recipe"] == recipe]
        names = dict.fromkeys(name for row in of_recipe for name in row if name.startswith(("test_", "val_")))
        values = {name: [row[name] for row in of_recipe if name in row] for name in names}
        means = {name: round(statistics.fmean(found), 6) for name, found in values.items()}
        spreads.append({"recipe": recipe, "seed": MEAN, **means})
        if len(of_recipe) > 1:
            deviations = {name: round(statistics.stdev(v), 6) for name, v in values.items() if len(v) > 1}
            spreads.append({"recipe": recipe, "seed": SPREAD, **deviations})
    return spreads


def test_scores(rows: Sequence[Row]) -> list[str]:
    """Return the names of the test scores that any row has: recipes of different tasks have different ones."""
    return list(dict.fromkeys(name for row in rows for name in row if name.startswith("test_")))


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows of `collect` as CSV."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read(path: Path) -> list[Row]:
    """Return the rows that `write` wrote: scores as numbers, seeds as whole ones, what a row does not have left out.

    Raises:
        ValueError: a score or a seed is no number.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows: list[Row] = [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    runs = [row for row in rows if row.get("seed") not in (None, MEAN, SPREAD)]
    for row in runs:
        row |= {name: float(text) for name, text in row.items() if name.startswith(("test_", "val_"))}
        row["seed"] = int(row["seed"])
    return runs + _spreads(runs)
