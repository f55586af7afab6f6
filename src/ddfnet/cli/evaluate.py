"""`ddfnet evaluate`: the test score of a run's best checkpoint, or of any network with weights trained elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfnet.cli.parsing import Parser

if TYPE_CHECKING:
    from rich.console import Console

    from ddfnet.tasks.data import TaskData
    from ddfnet.tasks.task import Task


def main(argv: list[str]) -> int:
    if argv[:1] == ["depth"]:
        from ddfnet.cli import evaluate_depth

        return evaluate_depth.main(argv[1:])

    from rich.console import Console

    from ddfnet.cli.experiment import instantiate, make_parser, quiet, with_config
    from ddfnet.tasks.run.config import read_config
    from ddfnet.tasks.run.launch import rank
    from ddfnet.tasks.run.loading import existing_run

    quiet()
    parser = make_parser(
        "ddfnet evaluate",
        "ddfnet evaluate RUN [--checkpoint best|last|FILE] [--any.option value ...]\n"
        "       ddfnet evaluate NETWORK|FILE --data.root DIR [--weights FILE] [--any.option value ...]\n"
        "       ddfnet evaluate depth [--data.dataset NAME] [--runs RUN ...] (see `ddfnet evaluate depth --help`)",
        "Scores a checkpoint of a run on the test images of its data; or a network of timm or ddfnet, with --weights or its "
        "pretrained ones, or the authors' checkpoint FILE, on the images of DIR, a folder a class or tar files: "
        "those of DIR/test or DIR/val where there is one.",
    )
    parser.add_argument("RUN", help="folder of the run, name of a network, or checkpoint of the authors'")
    parser.add_argument("--checkpoint", default="best", help="best, last or a file (default: best); of a run")
    parser.add_argument("--weights", type=Path, help="checkpoint of the named network; its pretrained weights without")
    parser.add_argument("--combine", default="mul", help="how FILE's filters were combined, mul or add (default: mul)")
    if {"-h", "--help"} & set(argv):
        parser.parse_args(argv)
    own = Parser(add_help=False, allow_abbrev=False)
    own.add_argument("--checkpoint")
    own.add_argument("--weights", type=Path)
    own.add_argument("--combine", default="mul")
    given = own.parse_known_args(argv)[0]
    given.RUN = _positional(argv)
    if given.RUN is None:
        raise ValueError("RUN: expected the folder of a run, the name of a network or a checkpoint of the authors'")
    console = Console(quiet=rank() > 0)
    if Path(given.RUN).is_dir() or not (Path(given.RUN).is_file() or _is_network(given.RUN)):
        folder = existing_run(Path(given.RUN))
        saved = {**read_config(folder.config), "logger": None}  # which holds the training's history
        config = parser.parse_args(with_config(saved, argv))
        checkpoint = {"best": folder.best, "last": folder.last}.get(config.checkpoint, Path(config.checkpoint))
        model, data, trainer_options = instantiate(parser, config)
        scored = str(checkpoint)
    else:
        if given.checkpoint is not None:
            raise ValueError(f"--checkpoint: expected none beside {given.RUN}, which is no run; --weights takes a file")
        network, defaults = _elsewhere(given.RUN, given.weights, given.combine)
        config = parser.parse_args(with_config(defaults, argv))
        model, data, trainer_options = instantiate(parser, config)
        model.adopt(network, data.classes)
        checkpoint, scored = None, f"{given.RUN}{f' with {given.weights}' if given.weights else ''}"
    return _score(console, model, data, checkpoint, trainer_options, scored)


def _score(
    console: "Console", task: "Task", data: "TaskData", checkpoint: Path | None, options: dict[str, Any], scored: str
) -> int:
    """Score the task on its test images and print the scores."""
    from ddfnet.tasks.run.folder import evaluate

    scores = evaluate(task, data, checkpoint, options)
    left_out = sorted(task.unreadable)
    console.print(f"{scored}: {len(data.splits.test) - len(left_out):,} test images", soft_wrap=True)
    for name, score in scores.items():
        console.print(f"{name.replace('_', ' ')}  {score!r}")
    if left_out:
        names = ", ".join(left_out)
        console.print(f"{len(left_out)} more could not be read and are not in the score: {names}", soft_wrap=True)
    return 0


def _positional(argv: list[str]) -> str | None:
    """Return the first argument that is neither an option nor the value after one; None without one."""
    arguments = iter(argv)
    for argument in arguments:
        if not argument.startswith("--"):
            return argument
        if "=" not in argument and argument != "--print_config":  # every other option takes a value
            next(arguments, None)
    return None


def _is_network(name: str) -> bool:
    from ddfnet.models.classification.resnet import is_model

    return is_model(name) or name.startswith(("hf-hub:", "local-dir:"))


def _elsewhere(what: str, weights: Path | None, combine: str) -> tuple[Any, dict[str, Any]]:
    """Return a network with its weights, and the configuration that prepares its images."""
    from ddfnet.models.classification.checkpoints import load_released
    from ddfnet.models.classification.resnet import create_model

    network: Any
    if Path(what).is_file():
        if weights is not None:
            raise ValueError(f"--weights: expected none beside {what}, which holds weights, got {weights}")
        if combine not in ("mul", "add"):
            raise ValueError(f"--combine: expected 'mul' or 'add', got {combine!r}")
        network = load_released(what, combine="add" if combine == "add" else "mul")
    elif weights is not None:
        if not weights.is_file():
            raise FileNotFoundError(f"{weights}: no such checkpoint")
        network = create_model(what, checkpoint_path=str(weights))
    else:
        try:
            network = create_model(what, pretrained=True)
        except Exception as error:
            raise ValueError(f"{what}: expected --weights FILE, since no pretrained weights load ({error})") from None
    prepared = network.pretrained_cfg
    options = {
        "test_only": True,
        "image_size": prepared.get("test_input_size", prepared["input_size"])[-1],
        "crop_pct": prepared.get("test_crop_pct") or prepared["crop_pct"],
        "crop_mode": prepared.get("crop_mode") or "center",
        "interpolation": prepared["interpolation"],
        "mean": list(prepared["mean"]),
        "std": list(prepared["std"]),
    }
    return network, {
        "model": {"class_path": "ddfnet.tasks.classification.Classification"},
        "data": {"class_path": "ddfnet.tasks.classification.ImageFolderData", "init_args": options},
    }
