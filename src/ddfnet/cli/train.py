"""`ddfnet train`: an experiment from a recipe, in a run folder that a killed run resumes from."""

import itertools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddfnet.tasks.run.folder import RunFolder

DEFAULT = "fashion_mnist/ddf_resnet_mini"
SHARED = "DDFNET_RUN"  # the first process's folder, for those it starts


def main(argv: list[str]) -> int:
    from rich.console import Console

    from ddfnet.atomic import write_text
    from ddfnet.cli.experiment import instantiate, make_parser, print_summary, quiet, with_config, with_recipe
    from ddfnet.tasks.run.config import read_config
    from ddfnet.tasks.run.folder import RunFolder, prepare, train
    from ddfnet.tasks.run.launch import meet_anew, rank, restarted
    from ddfnet.tasks.run.loading import existing_run

    quiet()
    console = Console(quiet=rank() > 0)
    command = shlex.join(["ddfnet", "train", *argv])
    parser = make_parser(
        "ddfnet train",
        "ddfnet train [--config NAME_OR_FILE] [--run DIR] [--seed N] [--epochs N] [--any.option value ...]\n"
        "       ddfnet train --resume RUN",
        f"Trains by a recipe (default: {DEFAULT}) and scores the best epoch once, on the test images. "
        "Options of the network and its training: `ddfnet train --model.help=ddfnet.tasks.classification.Classification`; "
        "of the data: `ddfnet train --data.help=ddfnet.tasks.classification.ClassificationData`; of detectors: "
        "`ddfnet.tasks.detection.Detection` and `ddfnet.tasks.detection.DetectionData`; of depth: "
        "`ddfnet.tasks.depth.task.JointUpsampling` and `ddfnet.tasks.depth.data.JointUpsamplingData`.",
    )
    parser.add_argument("--run", type=Path, default=None, help="folder of the run (default: a new one below runs/)")
    parser.add_argument("--resume", metavar="RUN", help="goes on with the run in this folder; takes no other option")

    resumed, path = _resumed(argv), None
    if resumed is None:
        config = parser.parse_args(with_recipe(argv, DEFAULT))
        path = _shared(config.pop("run"))
        if path is not None and restarted() and RunFolder(path).config.is_file():
            resumed = path  # the same command again, after a failure
        elif path is not None and rank() == 0:
            _check_unused(RunFolder(path))
    if resumed is not None:
        folder = existing_run(resumed)
        summary = folder.read_summary()
        if summary is not None:
            console.print(f"{folder.path}: this run is finished", soft_wrap=True)
            print_summary(console, summary, folder)
            return 0
        config = parser.parse_args(with_config(read_config(folder.config), []))
        command = folder.config.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        if folder.last.is_file():
            console.print(f"Resuming [bold]{folder.path}[/bold]", soft_wrap=True)
        else:
            console.print(
                f"Resuming [bold]{folder.path}[/bold], killed in its first epoch: from the start", soft_wrap=True
            )

    config.pop("run", None)
    config.pop("resume", None)
    model, data, trainer_options = instantiate(parser, config)
    if resumed is None:
        folder = RunFolder(path or _new_folder(Path("runs"), f"{model.name}-seed{config.seed}"))
        os.environ[SHARED] = str(folder.path)
    prepare(model, data, config.seed)  # before the folder is made: what can't be trained leaves nothing behind
    if resumed is None and rank() == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.config, f"# {' '.join(command.split())}\n{parser.dump(config)}")
        console.print(
            f"Training [bold]{model.name}[/bold], seed {config.seed}, in [bold]{folder.path}[/bold]", soft_wrap=True
        )
    meet_anew()
    try:
        summary = train(
            model,
            data,
            folder,
            epochs=config.epochs,
            seed=config.seed,
            command=command,
            trainer_options=trainer_options,
        )
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. `ddfnet train --resume {folder.path}` goes on from the last whole epoch.", soft_wrap=True
        )
        return 130
    except Exception:
        # Where not one epoch was trained there is nothing to go on with.
        if resumed is None and rank() == 0 and not folder.last.exists():
            for path in (folder.config, folder.metrics, folder.best):
                path.unlink(missing_ok=True)
            if not any(folder.path.iterdir()):
                folder.path.rmdir()
        raise
    print_summary(console, summary, folder)
    return 0


def _resumed(argv: list[str]) -> Path | None:
    """The folder after `--resume`, None without it; ValueError where there are options beside it."""
    if not any(argument == "--resume" or argument.startswith("--resume=") for argument in argv):
        return None
    words = list(itertools.chain.from_iterable(argument.split("=", 1) for argument in argv))
    if len(words) != 2 or words[0] != "--resume":
        raise ValueError("--resume: expected the folder of a run and no other option: a run goes on as it began")
    return Path(words[1])


def _shared(asked: Path | None) -> Path | None:
    """The folder asked for; in a process that another one started, that one's; None where a new one is to be made."""
    from ddfnet.tasks.run.launch import launched_processes, rank

    if asked is None and launched_processes() is not None:
        raise ValueError("--run: expected a folder, since the processes that were launched share it, got none")
    return Path(os.environ[SHARED]) if asked is None and rank() > 0 else asked


def _check_unused(folder: "RunFolder") -> None:
    """FileExistsError where the folder can't become that of a new run."""
    if folder.path.exists() and not folder.path.is_dir():
        raise FileExistsError(f"{folder.path}: expected a folder for the run, found a file")
    if folder.begun:
        raise FileExistsError(
            f"{folder.path}: holds a run; go on with it by `ddfnet train --resume {folder.path}`, or take another"
        )


def _new_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or with the first number after it that is free."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(parent / candidate for candidate in candidates if not (parent / candidate).exists())
