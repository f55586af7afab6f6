"""One run: a task trained in a folder, resumed where it was killed, scored once at the end.

RUN/config.yaml   its options               RUN/metrics.csv    one row an epoch
RUN/last.ckpt     its present state         RUN/summary.json   its results
RUN/best.ckpt     the epoch chosen          RUN/*.png          pictures
"""

import datetime
import json
import math
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme

import ddfnet
from ddfnet.atomic import write_text
from ddfnet.tasks.data import TaskData
from ddfnet.tasks.pictures import draw_curves
from ddfnet.tasks.run.checkpoints import WholeCheckpointIO, load_weights
from ddfnet.tasks.run.history import Checkpoints, History, SeedEachEpoch
from ddfnet.tasks.task import Task


class RunFolder:
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.last = path / "last.ckpt"
        self.best = path / "best.ckpt"
        self.metrics = path / "metrics.csv"
        self.summary = path / "summary.json"
        self.curves = path / "curves.png"

    @property
    def begun(self) -> bool:
        """True if anything of a run is here."""
        return any(path.exists() for path in (self.config, self.last, self.best, self.metrics, self.summary))

    def read_summary(self) -> dict[str, Any] | None:
        """Return what the finished run wrote, None before it finished."""
        if not self.summary.is_file():
            return None
        try:
            summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.summary}: damaged ({error})") from None
        return summary


def train(
    task: Task,
    data: TaskData,
    folder: RunFolder,
    *,
    epochs: int,
    seed: int,
    facts: dict[str, Any],
    trainer_options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train `task` on `data` from where `folder` stands, test the best epoch once and return the summary written.

    If there are several processes, all of them call this; the first writes the files.

    Args:
        seed: of weights, order and augmentation.
        facts: what the summary says of the run besides, such as the command, the recipe and the changes to it.
        trainer_options: of `pytorch_lightning.Trainer`; its `logger` gets what `metrics.csv` gets.

    Raises:
        ValueError: an option or the data make training impossible, or a score is not finite.
        KeyboardInterrupt: the user stopped it.
    """
    prepare(task, data, seed)
    history, trainer = _fit(task, data, folder, epochs=epochs, seed=seed, trainer_options=trainer_options or {})
    best = history.best
    scores = {
        **evaluate(task, data, folder.best, trainer_options),
        **{name: value for name, value in best.items() if name.startswith("val_")},
    }
    for name, value in scores.items():
        if not math.isfinite(value):
            raise ValueError(f"lr: {name} is {value} after training, expected a finite number; try a lower one")
    summary = {
        **scores,
        "best_epoch": best["epoch"] + 1,
        "chosen": "the last" if task.monitor[0] == "epoch" else "the best",
        "epochs": epochs,
        "seed": seed,
        **task.describe(data),
        "images_per_second": round(history.images_per_second, 1),
        "train_seconds": round(sum(row["train_seconds"] for row in history.rows), 1),
        "device": describe_device(trainer),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **facts,
    }
    if not trainer.is_global_zero:
        return summary
    draw_curves(history.rows, folder.curves, f"{summary['network']}, seed {seed}", best_epoch=int(best["epoch"]))
    pictures = task.draw(data, folder.path)
    summary["pictures"] = ["curves.png", *(path.name for path in pictures.values())]
    write_text(folder.summary, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def _fit(
    task: Task, data: TaskData, folder: RunFolder, *, epochs: int, seed: int, trainer_options: dict[str, Any]
) -> tuple[History, lightning.Trainer]:
    """Train from where `folder` stands to the end, and return what was logged."""
    if epochs < 1:
        raise ValueError(f"epochs: expected an int >= 1, got {epochs}")
    history = History(folder.metrics, *task.monitor)
    callbacks = [SeedEachEpoch(seed), history, Checkpoints(history, folder.best, folder.last)]
    trainer = make_trainer({**trainer_options, "max_epochs": epochs, "reload_dataloaders_every_n_epochs": 1}, callbacks)
    if not trainer.limit_val_batches:
        raise ValueError("trainer.limit_val_batches: expected more than 0, since the best epoch is chosen by them")
    resumed = str(folder.last) if folder.last.is_file() else None
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit:  # how Lightning ends on Ctrl-C
        raise KeyboardInterrupt from None
    if trainer.interrupted:
        raise KeyboardInterrupt
    return history, trainer


def prepare(task: Task, data: TaskData, seed: int) -> None:
    """Draw the weights of `task` from the seed, unless it is built; an error here is one of the options or the data."""
    lightning.seed_everything(seed, verbose=False)
    task.build(data)


def evaluate(
    task: Task, data: TaskData, checkpoint: Path | None, trainer_options: dict[str, Any] | None = None
) -> dict[str, float]:
    """Return the test scores with the weights in `checkpoint`, or with those that `task` has, to six digits."""
    task.build(data)
    if checkpoint is not None:
        load_weights(task, checkpoint)
    trainer = make_trainer(trainer_options or {}, [])
    (scores,) = trainer.test(task, datamodule=data, verbose=False)
    if not scores:
        raise ValueError("data: expected test images that can be read, got none")
    return {name: round(float(value), 6) for name, value in scores.items()}


def make_trainer(options: dict[str, Any], callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """Return a trainer as every run uses it: our checkpoints, a logger if one is named, a progress bar on a terminal."""
    logger = options.get("logger") or False
    bar = [RichProgressBar(theme=RichProgressBarTheme(metrics_format=".4f"))] if sys.stdout.isatty() else []
    return lightning.Trainer(
        logger=logger,
        enable_model_summary=False,
        enable_progress_bar=bool(bar),
        num_sanity_val_steps=0,
        callbacks=[*callbacks, *bar],
        plugins=[WholeCheckpointIO()],
        use_distributed_sampler=False,
        **{name: value for name, value in options.items() if name != "logger"},
    )


def describe_device(trainer: lightning.Trainer) -> str:
    """Return the name by which people know the device."""
    root = trainer.strategy.root_device
    return torch.cuda.get_device_name(root) if root.type == "cuda" else f"{root.type} ({platform.machine()})"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = ("torch", "torchvision", "pytorch-lightning", "timm", "numba", "kornia")
    found = {"ddfnet": ddfnet.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found
