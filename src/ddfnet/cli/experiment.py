"""The base of `train` and `evaluate`: the options of an experiment, its recipe, its objects, its table."""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from rich.console import Console
from rich.table import Table

from ddfnet import recipes
from ddfnet.tasks.data import TaskData
from ddfnet.tasks.run.config import updated, with_dataset
from ddfnet.tasks.run.folder import RunFolder
from ddfnet.tasks.run.launch import placed, rank
from ddfnet.tasks.task import Task

# A run sets these itself.
OWN_TRAINER_OPTIONS = {
    "barebones",
    "callbacks",
    "check_val_every_n_epoch",
    "default_root_dir",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "fast_dev_run",
    "logger",
    "max_epochs",
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
    "model_registry",
    "num_sanity_val_steps",
    "overfit_batches",
    "plugins",
    "reload_dataloaders_every_n_epochs",
    "use_distributed_sampler",
    "val_check_interval",
}

ELSEWHERE = (  # options that a score does not depend on
    *("recipe", "run", "resume", "seed", "data.seed", "data.root", "data.workers"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
)


def quiet() -> None:
    """Silence Lightning's advice on settings that we chose; warnings of trouble still show."""
    import logging

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*The number of training batches.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*srun.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # every process computes the same scores
    warnings.filterwarnings("ignore", message=".*WeightAveraging.*")


def make_parser(prog: str, usage: str, description: str) -> ArgumentParser:
    """Return a parser of the options that make an experiment."""
    parser = ArgumentParser(prog=prog, usage=usage, description=description, exit_on_error=False)
    parser.add_argument(
        "--config", action="config", help=f"recipe or YAML file; the recipes: {', '.join(recipes.names())}"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of weights, order and augmentation")
    parser.add_argument("--epochs", type=PositiveInt, default=18, help="passes over the training images")
    parser.add_argument("--model", type=Task, required=True, help="the task and its network")
    parser.add_argument("--data", type=TaskData, required=True, help="the data of the task")
    parser.add_argument("--recipe", type=str | None, default=None, help="set by --config: the recipe of a run")
    parser.add_argument("--logger", type=Logger | None, default=None, help="a logger of Lightning's beside metrics.csv")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, skip=OWN_TRAINER_OPTIONS)
    return parser


def with_recipe(argv: list[str], default: str) -> list[str]:
    """Return the arguments with all `--config NAME` as one configuration, the default recipe's if none is named."""
    configs, others = taken(argv, "--config")
    config: dict[str, Any] = {}
    for name in configs or [default]:
        config = recipes.merged(config, {**updated(recipes.load(name)), "recipe": name})
    return with_config(config, others)


def with_config(config: dict[str, Any], argv: list[str]) -> list[str]:
    """Return the arguments with a configuration before them, so that an option counts; `--data.dataset` names its data."""
    datasets, others = taken(argv, "--data.dataset")
    for name in datasets:
        config, left_out = with_dataset(config, name)
        if left_out and rank() == 0:
            print(f"data: {name} has no {', '.join(left_out)}: left out of the recipe")
    return [f"--config={yaml.safe_dump(config)}", *others]


def taken(argv: list[str], option: str) -> tuple[list[str], list[str]]:
    """Return the values of an option, and the arguments without it.

    Raises:
        ValueError: it has no value.
    """
    values: list[str] = []
    others: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument != option and not argument.startswith(f"{option}="):
            others.append(argument)
            continue
        value = argument.partition("=")[2] or next(arguments, None)
        if value is None:
            raise ValueError(f"{option}: expected a value, got none")
        values.append(value)
    return values, others


def instantiate(parser: ArgumentParser, config: Namespace) -> tuple[Task, TaskData, dict[str, Any]]:
    """Return the task, the data (seeded with the run) and the trainer's options."""
    data = config.data.init_args
    if data.get("seed", 0) is None:
        data.seed = int(config.seed)
    for name, value in data.items():
        if isinstance(value, Path):
            data[name] = value.resolve()  # a run is evaluated and resumed from any folder
    model = config.model.get("init_args") or {}
    for name in ("weights", "weights_backbone", "start"):
        if isinstance(model.get(name), str) and Path(model[name]).exists():
            model[name] = str(Path(model[name]).resolve())
    others = config.clone()
    others.logger = None  # made apart, since an error of its own package would come within three others
    logger = None if config.logger is None else _logger(config.logger)
    objects = parser.instantiate(others)
    return objects.model, objects.data, {**placed(dict(config.trainer)), "logger": logger}


def _logger(config: Namespace) -> Logger:
    """Make a logger of Lightning's; its folder is one path from wherever the run is resumed."""
    module, _, name = config.class_path.rpartition(".")
    if isinstance(config.init_args.get("save_dir"), str | Path):
        config.init_args.save_dir = str(Path(config.init_args.save_dir).resolve())
    try:
        made = getattr(import_module(module), name)(**config.init_args, **(config.get("dict_kwargs") or {}))
    except ModuleNotFoundError as error:
        raise ValueError(f"logger: {name} needs a package that is not installed ({error})") from None
    if not isinstance(made, Logger):
        raise TypeError(f"logger: expected a logger of Lightning's, got {name}")
    return made


def changes(parser: ArgumentParser, config: Namespace) -> dict[str, Any] | None:
    """Return the options of a run that its recipe has otherwise and that a score depends on; None without a recipe."""
    if config.recipe is None or config.recipe not in recipes.names():
        return None
    recipe = parser.parse_args(with_recipe([f"--config={config.recipe}"], ""))
    ours, theirs = (flat(yaml.safe_load(parser.dump(options))) for options in (config, recipe))
    names = [name for name in dict.fromkeys([*ours, *theirs]) if name not in ELSEWHERE]
    return {name: ours.get(name) for name in names if ours.get(name) != theirs.get(name)}


def flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by the names that the command line has for them."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        path = prefix if name == "init_args" else f"{prefix}{name}" + "." * isinstance(value, dict)
        found |= flat(value, path) if isinstance(value, dict) else {path: value}
    return found


def print_summary(console: Console, summary: dict[str, Any], folder: RunFolder) -> None:
    """Print the result as a table, and where its files are."""
    table = Table(title=f"{summary['network']}, seed {summary['seed']}", title_justify="left", show_header=False)
    scores = [name for name in summary if name.startswith("test_")]
    for name in scores:
        unit = f" {summary['unit']}" if "unit" in summary else ""
        table.add_row(name.replace("_", " "), f"[bold]{summary[name]!r}[/bold]{unit}")
    chosen = scores[0].replace("test_", "val_", 1)
    unit_of_validation = f" {summary['unit_of_validation']}" if "unit_of_validation" in summary else ""
    label = chosen.replace("val_", "validation ", 1)
    table.add_row(
        label,
        f"{summary[chosen]!r}{unit_of_validation} (epoch {summary['best_epoch']}, {summary.get('chosen', 'the best')})",
    )
    table.add_row("images", ", ".join(f"{count:,} {name}" for name, count in summary["data"]["images"].items()))
    if summary.get("unreadable"):
        table.add_row("unreadable", f"{len(summary['unreadable'])} images, named in summary.json")
    for file, counts in summary["data"].get("found", {}).items():
        table.add_row(Path(file).name, ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in counts.items() if n))
    table.add_row("parameters", f"{summary['parameters']:,}")
    counted = f" ({summary['counted']})" if "counted" in summary else ""
    table.add_row("FLOPs", f"{summary['flops'] / 1e6:,.2f} M an image{counted}")
    table.add_row("multiply-adds", f"{summary['multiply_adds'] / 1e6:,.2f} M an image{counted}")
    table.add_row("training", f"{summary['images_per_second']:,.0f} images/s, {summary['train_seconds']:.0f} s")
    table.add_row("device", f"{summary['device']}, {summary['threads']} threads")
    console.print(table)
    console.print(f"In [bold]{folder.path}[/bold]:", soft_wrap=True)
    explained = {
        "summary.json": "these numbers and more",
        "metrics.csv": "one row an epoch",
        "curves.png": "losses and scores by epoch",
        "filters.png": "inputs beside the spatial filters predicted for them",
        "detections.png": "what was found beside what is there",
        "depth.png": "test images, their low resolution, bicubic, ours and the errors",
        "detections.json": "what was found on all test images, as COCO's results",
        "network.safetensors": "the network, for `ddfnet.models.depth.joint_upsampling.load`",
        "best.ckpt": "the weights that were tested",
        "last.ckpt": "the state training ended in",
    }
    for name, text in explained.items():
        if (folder.path / name).is_file():
            console.print(f"  {name:<21}{text}", highlight=False, soft_wrap=True)
    console.print(f"`ddfnet evaluate {folder.path}` prints the test scores again.", highlight=False, soft_wrap=True)
