"""`ddfnet predict RUN IMAGES...`: what a trained network sees in images, as a table, files and pictures."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ddfnet.cli.parsing import Parser, folder_to_write, whole

TOP = 5
LEAST = 0.5


def main(argv: list[str]) -> int:
    parser = Parser(
        prog="ddfnet predict",
        description="Prints what a trained network sees, and writes it as predictions.csv and predictions.json: classes and "
        "scores of a classifier; boxes of a detector, drawn on the images; the full depth maps of a depth upsampler.",
    )
    parser.add_argument("RUN", type=Path, help="folder of a run, its checkpoint, or a folder of `ddfnet export --hub`")
    parser.add_argument("IMAGES", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--depth", type=Path, nargs="+", metavar="FILE", help="of depth: the low map of each image, in order"
    )
    parser.add_argument("--top", type=whole(1), default=TOP, metavar="N", help=f"classes an image (default: {TOP})")
    parser.add_argument("--least", type=float, default=LEAST, metavar="SCORE", help=f"of boxes (default: {LEAST})")
    parser.add_argument("--device", help="(default: cuda where there is one, else cpu)")
    parser.add_argument(
        "-o", "--output", type=folder_to_write, metavar="FOLDER", help="(default: predictions-RUN, by its name)"
    )
    options = parser.parse_args(argv)
    folder = options.output or folder_to_write(f"predictions-{options.RUN.resolve().stem}")
    images = _images(options.IMAGES)

    import torch

    from ddfnet.cli.experiment import quiet
    from ddfnet.tasks import predictions
    from ddfnet.tasks.trained import load

    quiet()
    trained = load(options.RUN).to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if (trained.task == "depth") != (options.depth is not None):
        expected = "the low depth maps of a run of depth" if options.depth is None else "none"
        raise ValueError(f"--depth: expected {expected}, got {options.depth} for a run of {trained.task}")
    folder.mkdir(parents=True, exist_ok=True)
    if trained.task == "classification":
        found = predictions.classify(trained, images, top=options.top)
    elif trained.task == "detection":
        found = predictions.detect(trained, images, folder, least=options.least)
    else:
        found = predictions.upsample(trained, images, options.depth, folder)
    return _report(found, folder)


def _report(found: "predictions.Predictions", folder: Path) -> int:  # type: ignore[name-defined] # noqa: F821
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in found.columns:
        table.add_column(name, overflow="fold")
    for row in found.rows:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
    Console(soft_wrap=True).print(table)
    for path in [*found.write(folder), *found.pictures]:
        print(path)
    for message in found.unreadable:
        print(f"left out: {message}", file=sys.stderr)
    return 1 if found.unreadable else 0


def _images(named: Sequence[Path]) -> list[Path]:
    """Return the named files, and those of the named folders; raise FileNotFoundError if one does not exist."""
    from ddfnet.data.folders import image_suffixes, visible

    found: list[Path] = []
    for path in named:
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in image_suffixes()]
            inside = [file for file in inside if visible(file.relative_to(path))]
            if not inside:
                raise FileNotFoundError(f"{path}: expected images in this folder, found none")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such image")
    return found
