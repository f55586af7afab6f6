"""`ddfnet train`: an experiment from a recipe, in a run folder that a killed run resumes from."""

import itertools
import shlex
from pathlib import Path

DEFAULT = "fashion_mnist/ddf_resnet_mini"


def main(argv: list[str]) -> int:
    from rich.console import Console

    from ddfnet.cli.experiment import instantiate, make_parser, print_summary, quiet, run_folder, with_recipe
    from ddfnet.data.atomic import write_text
    from ddfnet.tasks.run import RunFolder, train

    quiet()
    console = Console()
    command = shlex.join(["ddfnet", "train", *argv])
    parser = make_parser("ddfnet train", f"Trains by a recipe (default: {DEFAULT}) and tests the best epoch once.")
    parser.add_argument("--run", type=Path, default=None, help="folder of the run (default: a new one below runs/)")
    parser.add_argument("--resume", metavar="RUN", help="goes on with the run in this folder; takes no other option")

    resumed = _resumed(argv)
    if resumed is not None:
        folder = run_folder(resumed)
        summary = folder.read_summary()
        if summary is not None:
            console.print(f"{folder.path}: this run is finished")
            print_summary(console, summary, folder)
            return 0
        config = parser.parse_args([f"--config={folder.config}"])
        if folder.last.is_file():
            console.print(f"Resuming [bold]{folder.path}[/bold]")
        else:
            console.print(f"Resuming [bold]{folder.path}[/bold], killed in its first epoch: from the start")
    else:
        config = parser.parse_args(with_recipe(argv, DEFAULT))
        network = config.model.init_args.get("network", "run")
        path = config.pop("run") or _new_folder(Path("runs"), f"{network}-seed{config.seed}")
        if RunFolder(path).config.exists():
            raise FileExistsError(
                f"{path}: holds a run; go on with it by `ddfnet train --resume {path}`, or take another"
            )
        folder = RunFolder(path)
        console.print(f"Training [bold]{network}[/bold], seed {config.seed}, in [bold]{path}[/bold]")

    config.pop("run", None)
    config.pop("resume", None)
    model, data, trainer_options = instantiate(parser, config)
    model.build(data)  # before the folder is made: what can't be trained leaves nothing behind
    if resumed is None:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.config, parser.dump(config, skip_validation=True))
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
        console.print(f"\nStopped. `ddfnet train --resume {folder.path}` goes on from the last whole epoch.")
        return 130
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


def _new_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or with the first number after it that is free."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(parent / candidate for candidate in candidates if not (parent / candidate).exists())
