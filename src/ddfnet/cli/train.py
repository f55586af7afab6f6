"""`ddfnet train`: an experiment from a recipe, in a run folder that a killed run resumes from."""

import itertools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from rich.console import Console

    from ddfnet.tasks.run.folder import RunFolder

DEFAULT = "fashion_mnist/ddf_resnet_mini"
SHARED = "DDFNET_RUN"  # the first process's folder, for those it starts


def main(argv: list[str]) -> int:
    from rich.console import Console

    from ddfnet.cli.experiment import print_summary, quiet, with_recipe
    from ddfnet.tasks.run.folder import RunFolder
    from ddfnet.tasks.run.launch import rank, restarted
    from ddfnet.tasks.run.loading import existing_run

    quiet()
    console = Console(quiet=rank() > 0)
    command, parser = shlex.join(["ddfnet", "train", *argv]), _parser()
    resumed, epochs = _resumed(argv)
    path = None
    if resumed is None:
        config = parser.parse_args(with_recipe(argv, DEFAULT))
        path = _shared(config.run)
        if path is not None and restarted() and RunFolder(path).config.is_file():
            resumed = path  # the same command again, after a failure
        elif path is not None and rank() == 0:
            _check_unused(RunFolder(path))
    if resumed is None:
        return _train(console, parser, config, path, command, new=True)
    folder = existing_run(resumed)
    config = _resume(folder, parser, epochs)
    summary = folder.read_summary()
    if summary is not None:
        console.print(f"{folder.path}: this run is finished", soft_wrap=True)
        print_summary(console, summary, folder)
        return 0
    command = folder.config.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    start = "" if folder.last.is_file() else ", killed in its first epoch: from the start"
    console.print(f"Resuming [bold]{folder.path}[/bold]{start}", soft_wrap=True)
    return _train(console, parser, config, resumed, command, new=False)


def _parser() -> "ArgumentParser":
    from ddfnet.cli.experiment import make_parser

    parser = make_parser(
        "ddfnet train",
        "ddfnet train [--config NAME_OR_FILE] [--run DIR] [--seed N] [--epochs N] [--any.option value ...]\n"
        "       ddfnet train --resume RUN [--epochs N]",
        f"Trains by a recipe (default: {DEFAULT}) and scores the best epoch once, on the test images. "
        "Options of the network and its training: `ddfnet train --model.help=ddfnet.tasks.classification.Classification`, "
        "or `ddfnet.tasks.detection.Detection`, `ddfnet.tasks.depth.task.DepthUpsampling`; of the data: "
        "`ddfnet train --data.help=ddfnet.tasks.classification.FashionMnistData`, or another class of "
        "`ddfnet.tasks.datasets`, which `--data.dataset NAME` takes by name.",
    )
    parser.add_argument("--run", type=Path, default=None, help="folder of the run (default: a new one below runs/)")
    parser.add_argument(
        "--resume", metavar="RUN", help="goes on with the run in this folder; --epochs N makes it longer"
    )
    return parser


def _train(
    console: "Console",
    parser: "ArgumentParser",
    config: "Namespace",
    path: Path | None,
    command: str,
    *,
    new: bool,
) -> int:
    """Train in a new folder, or where the one at `path` stands."""
    from ddfnet.atomic import write_text
    from ddfnet.cli.experiment import changes, instantiate, print_summary
    from ddfnet.tasks.run.folder import RunFolder, prepare, train
    from ddfnet.tasks.run.launch import meet_anew, rank

    for name in ("run", "resume"):
        config.pop(name, None)
    task, data, trainer_options = instantiate(parser, config)
    folder = RunFolder(path or _new_folder(Path("runs"), f"{task.name}-seed{config.seed}"))
    if new:
        os.environ[SHARED] = str(folder.path)
    prepare(task, data, config.seed)  # before the folder is made: what can't be trained leaves nothing behind
    facts: dict[str, Any] = {"recipe": config.recipe, "changes": changes(parser, config), "command": command}
    if new and rank() == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.config, f"# {' '.join(command.split())}\n{parser.dump(config)}")
        console.print(
            f"Training [bold]{task.name}[/bold], seed {config.seed}, in [bold]{folder.path}[/bold]", soft_wrap=True
        )
    meet_anew()
    try:
        summary = train(
            task, data, folder, epochs=config.epochs, seed=config.seed, facts=facts, trainer_options=trainer_options
        )
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. `ddfnet train --resume {folder.path}` goes on from the last whole epoch.", soft_wrap=True
        )
        return 130
    except Exception:
        if new and rank() == 0 and not folder.last.exists():
            _remove(folder)
        raise
    print_summary(console, summary, folder)
    return 0


def _resume(folder: "RunFolder", parser: "ArgumentParser", epochs: int | None) -> "Namespace":
    """Return the options of a run that goes on; with `epochs`, make it longer: its summary is then written again."""
    from ddfnet.atomic import write_text
    from ddfnet.cli.experiment import with_config
    from ddfnet.tasks.run.config import read_config
    from ddfnet.tasks.run.launch import rank

    config: Namespace = parser.parse_args(with_config(read_config(folder.config), []))
    if epochs is None or epochs == config.epochs:
        return config
    if epochs < config.epochs:
        raise ValueError(f"--epochs: expected at least those of the run, {config.epochs}, got {epochs}")
    config.epochs = epochs
    if rank() == 0:
        first = folder.config.read_text(encoding="utf-8").partition("\n")[0]
        saved = config.clone()
        for name in ("run", "resume"):
            saved.pop(name, None)
        write_text(folder.config, f"{first}\n{parser.dump(saved)}")
        folder.summary.unlink(missing_ok=True)
    return config


def _remove(folder: "RunFolder") -> None:
    """Remove the folder of a run in which not one epoch was trained: there is nothing to go on with."""
    for path in (folder.config, folder.metrics, folder.best):
        path.unlink(missing_ok=True)
    if not any(folder.path.iterdir()):
        folder.path.rmdir()


def _resumed(argv: list[str]) -> tuple[Path | None, int | None]:
    """Return the folder after `--resume` and the number after `--epochs` beside it; None without.

    Raises:
        ValueError: there are other options beside it, or the number is none.
    """
    from ddfnet.cli.experiment import taken

    paths, others = taken(argv, "--resume")
    if not paths:
        return None, None
    numbers, others = taken(others, "--epochs")
    if len(paths) > 1 or len(numbers) > 1 or others:
        raise ValueError(
            "--resume: expected the folder of a run and no other option than --epochs: it goes on as it began"
        )
    if numbers and not numbers[0].isdecimal():
        raise ValueError(f"--epochs: expected a whole number, got {numbers[0]}")
    return Path(paths[0]), int(numbers[0]) if numbers else None


def _shared(asked: Path | None) -> Path | None:
    """Return the folder asked for; in a process that another one started, that one's; None if a new one is to be made."""
    from ddfnet.tasks.run.launch import launched_processes, rank

    if asked is None and launched_processes() is not None:
        raise ValueError("--run: expected a folder, since the processes that were launched share it, got none")
    return Path(os.environ[SHARED]) if asked is None and rank() > 0 else asked


def _check_unused(folder: "RunFolder") -> None:
    """Raise FileExistsError if the folder can't become that of a new run."""
    if folder.path.exists() and not folder.path.is_dir():
        raise FileExistsError(f"{folder.path}: expected a folder for the run, found a file")
    if folder.begun:
        raise FileExistsError(
            f"{folder.path}: holds a run; go on with it by `ddfnet train --resume {folder.path}`, or take another"
        )


def _new_folder(parent: Path, name: str) -> Path:
    """Return `parent/name`, or with the first number after it that is free."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(parent / candidate for candidate in candidates if not (parent / candidate).exists())
