"""`ddfnet tables [N ...]`: the paper's tables beside ours, each cell counted, measured, or with its command."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import ddfnet

if TYPE_CHECKING:
    from rich.console import Console

    from ddfnet.bench.results import Result

RESULTS = Path("benchmarks", "results")
SECONDS = 1.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ddfnet tables", description=__doc__)
    parser.add_argument("numbers", nargs="*", metavar="N", help="1, 2, 3 (or 3a, 3b, 3c), 4 to 7, A, C (default: all)")
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        metavar="PATH",
        help=f"result files of `ddfnet bench` and `ddfnet study`, or folders of them (default: {RESULTS}, where it is)",
    )
    parser.add_argument(
        "--measure",
        nargs="?",
        const=Path(),
        type=Path,
        metavar="FILE",
        help="measure Tables 2 and A now, those asked for; keep the results in FILE.csv",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="of --measure (default: cuda where there is one)")
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch on the CPU (default: its own)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help=f"for each call (default: {SECONDS})"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the cells, one a line")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    return parser


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not fit together."""
    for option, path, ending in (("--csv", args.csv, ".csv"), ("--markdown", args.markdown, ".md")):
        check_file(option, path, ending)
    if args.measure is None and (args.device or args.threads):
        raise ValueError("--device and --threads: expected only with --measure")
    if args.measure is not None and args.measure != Path():
        check_file("--measure", args.measure, ".csv")
    for option, value in (("--threads", args.threads), ("--seconds", args.seconds)):
        if value is not None and value <= 0:
            raise ValueError(f"{option}: expected a number > 0, got {value}")


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    _check(args)

    from ddfnet.bench.paper.printed import choose

    tables = choose(args.numbers)
    if args.measure is not None and not any(table.is_measured for table in tables):
        raise ValueError("--measure: expected Table 2 or A among N, which are what is measured")

    from rich.console import Console

    from ddfnet import recipes
    from ddfnet.bench.paper import beside
    from ddfnet.bench.paper.evidence import collect
    from ddfnet.bench.paper.ours import fill

    console = Console()
    if not console.is_terminal:
        console.width = 160
    evidence, left_out = collect(args.results or default_results())
    if args.measure is not None:
        names = [table.number for table in tables if table.is_measured]
        evidence.benchmarks = _measure(names, args, console)
    filled = []
    for table in tables:
        with console.status("counting", refresh_per_second=2):
            cells = fill(table, evidence, recipes.names())
        filled.append((table, cells))
        console.print(beside.title(table), style="bold", markup=False, highlight=False)
        console.print(beside.terminal(table, cells))
        for note in beside.notes(table, cells):
            console.print(note, style="dim", markup=False, highlight=False)
        for line in beside.commands(table, cells):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        console.print()
    console.print(beside.LEGEND, style="dim", markup=False, highlight=False)
    for sentence in left_out:
        console.print(sentence, style="yellow", markup=False, highlight=False)

    from ddfnet.atomic import write_text

    for path, text in ((args.csv, beside.as_csv), (args.markdown, beside.markdown)):
        if path is not None:
            write_text(path, text(filled))
            console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def check_file(option: str, path: Path | None, ending: str) -> None:
    """ValueError where a file that is to be written has another ending, is a folder, or its folder is not there."""
    if path is None:
        return
    if path.suffix != ending:
        raise ValueError(f"{option}: expected a name that ends in {ending}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"{option}: the folder {path.parent} is not there")
    if path.is_dir():
        raise ValueError(f"{option}: expected a file, {path} is a folder")


def default_results() -> list[Path]:
    """The repository's results, from where we are or, where the package is run from its source, from there."""
    places = (RESULTS, Path(ddfnet.__file__).resolve().parents[2] / RESULTS)
    return next(([place] for place in places if place.is_dir()), [])


def _measure(numbers: list[str], args: argparse.Namespace, console: "Console") -> "dict[str, list[Result]]":
    """The results of a run now, under the file's name, in the place of what other runs left."""
    import torch

    from ddfnet.bench.paper.measuring import measure, settings
    from ddfnet.bench.results import write

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: expected a device that is there, got cuda, and PyTorch sees none")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    results: list[Result] = []
    console.print("measuring", style="dim")  # and no spinner, whose thread would run beside what is timed
    for rows in measure(numbers, settings(device, args.seconds), lambda reason: console.print(reason, style="yellow")):
        results += rows
        if args.measure != Path():
            write(results, args.measure)
    return {"measured now" if args.measure == Path() else args.measure.name: results}
