"""`ddfnet evaluate RUN`: the test score of a run's best checkpoint, as its training ended with."""

import argparse
from pathlib import Path


def main(argv: list[str]) -> int:
    from rich.console import Console

    from ddfnet.cli.experiment import instantiate, make_parser, quiet, run_folder
    from ddfnet.tasks.run import evaluate

    quiet()
    parser = make_parser(
        "ddfnet evaluate",
        "ddfnet evaluate RUN [--checkpoint best|last|FILE] [--any.option value ...]",
        "Scores a checkpoint of a run on the test images of its data.",
    )
    parser.add_argument("RUN", type=Path, help="folder of the run")
    parser.add_argument("--checkpoint", default="best", help="best, last or a file (default: best)")
    if {"-h", "--help"} & set(argv):
        parser.parse_args(argv)
    own = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    own.add_argument("--checkpoint")
    own.add_argument("RUN", nargs="?", type=Path)
    where = own.parse_known_args(argv)[0].RUN
    if where is None:
        raise ValueError("RUN: expected the folder of a run")
    folder = run_folder(where)
    config = parser.parse_args([f"--config={folder.config}", *argv])
    checkpoint = {"best": folder.best, "last": folder.last}.get(config.checkpoint, Path(config.checkpoint))
    model, data, trainer_options = instantiate(parser, config)
    scores = evaluate(model, data, checkpoint, trainer_options)
    console = Console()
    console.print(f"{checkpoint}: {len(data.splits.test):,} test images")
    for name, score in scores.items():
        console.print(f"{name.replace('_', ' ')}  {score!r}")
    return 0
