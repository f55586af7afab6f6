"""Load a trained run from its folder alone: its network needs neither the data nor a download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfnet.tasks.data import TaskData
from ddfnet.tasks.datasets import find
from ddfnet.tasks.run.checkpoints import load_checkpoint, load_weights
from ddfnet.tasks.run.config import read_config
from ddfnet.tasks.run.folder import RunFolder
from ddfnet.tasks.run.start import channels_of
from ddfnet.tasks.task import Task


@dataclass(frozen=True)
class LoadedRun:
    """A run as it was trained.

    Attributes:
        task: in eval mode: `task.network` with its weights, `task.classes`, the options as `task.hparams`.
        data: what it was trained on, not read from the disk yet; classification has the test `transform` here.
        folder: the files of the run.
        checkpoint: the file that the weights are from.
        config: `model`, `data`, `trainer`, `seed` and `epochs` as plain data, with today's class paths.
    """

    task: Task
    data: TaskData
    folder: RunFolder
    checkpoint: Path
    config: dict[str, Any]


def load_run(path: Path, checkpoint: Path | None = None) -> LoadedRun:
    """Load a run of any task and any earlier version of ddfnet.

    Args:
        path: the folder of the run.
        checkpoint: the file with the weights; None: those of the best epoch.

    Raises:
        FileNotFoundError: no run, or no checkpoint.
        ValueError: the checkpoint is damaged or is another network's.
    """
    folder = existing_run(path)
    config = read_config(folder.config)
    weights = checkpoint or folder.best
    saved = load_checkpoint(weights)
    kind: Any = find(config["model"]["class_path"])
    task: Task = kind(**kind.without_start(config["model"].get("init_args") or {}))
    data: TaskData = find(config["data"]["class_path"])(**(config["data"].get("init_args") or {}))
    classes = saved.get("classes", ())
    task.adopt(task.create_network(classes, channels_of(saved["state_dict"])), classes)
    load_weights(task, weights)
    return LoadedRun(task.eval(), data, folder, weights, config)


def existing_run(path: Path) -> RunFolder:
    """Return the folder of a run that was begun.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise FileNotFoundError(f"{path}: no run here (expected {folder.config.name} in it)")
    return folder
