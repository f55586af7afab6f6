"""`ddfnet tables [N ...]`: the paper's tables beside ours, each cell counted, measured, or with its command."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import ddfnet
from ddfnet.cli.parsing import Parser, cpu_or_cuda, file_to_write, seconds, whole

if TYPE_CHECKING:
    from rich.console import Console

    from ddfnet.bench.paper.evidence import ResultFile
    from ddfnet.bench.results import Result

RESULTS = Path("benchmarks", "results")


def _parser() -> Parser:
    parser = Parser(prog="ddfnet tables", description=__doc__)
    add = parser.add_argument
    add("numbers", nargs="*", metavar="N", help="1, 2, 3 (or 3a, 3b, 3c), 4 to 7, A, C (default: all)")
    results = f"result files of `ddfnet bench` and `ddfnet study`, or folders of them (default: {RESULTS}, where it is)"
    add("--results", nargs="+", type=Path, metavar="PATH", help=results)
    measure = "measure Tables 2 and A now, those asked for; keep the results in FILE.csv"
    add("--measure", nargs="?", const=Path(), type=file_to_write(".csv"), metavar="FILE", help=measure)
    add("--device", choices=("cpu", "cuda"), help="of --measure (default: cuda where there is one)")
    add("--threads", type=whole(1), metavar="N", help="of PyTorch on the CPU (default: PyTorch's choice)")
    add("--seconds", type=seconds, default=1.0, metavar="S", help="for each call (default: 1.0)")
    add("--csv", type=file_to_write(".csv"), metavar="FILE", help="write the cells, one a line")
    add("--markdown", type=file_to_write(".md"), metavar="FILE", help="write the tables as Markdown")
    return parser


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    if args.measure is None and (args.device or args.threads):
        raise ValueError("--device and --threads: expected only with --measure")

    from ddfnet.bench.paper.printed import choose

    tables = choose(args.numbers)
    if args.measure is not None and not any(table.is_measured for table in tables):
        raise ValueError("--measure: expected Table 2 or A among N, which are what is measured")

    from rich.console import Console

    from ddfnet.atomic import write_text
    from ddfnet.bench.paper import beside
    from ddfnet.bench.paper.evidence import collect
    from ddfnet.bench.paper.ours import fill

    console = Console()
    if not console.is_terminal:
        console.width = 160
    files, left_out = collect(args.results or default_results())
    if args.measure is not None:
        files = [file for file in files if file.kind != "benchmark"]
        files.append(_measure([table.number for table in tables if table.is_measured], args, console))
    filled = []
    for table in tables:
        with console.status("counting", refresh_per_second=2):
            cells = fill(table, files)
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
    for path, text in ((args.csv, beside.as_csv), (args.markdown, beside.markdown)):
        if path is not None:
            write_text(path, text(filled))
            console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def default_results() -> list[Path]:
    """Return the repository's results: below the working directory, or beside the source that runs."""
    places = (RESULTS, Path(ddfnet.__file__).resolve().parents[2] / RESULTS)
    return next(([place] for place in places if place.is_dir()), [])


def _measure(numbers: list[str], args: argparse.Namespace, console: "Console") -> "ResultFile":
    """Measure tables now; these results replace those that other runs left."""
    import torch

    from ddfnet.bench.paper.evidence import ResultFile
    from ddfnet.bench.paper.measuring import measure
    from ddfnet.bench.results import write

    device = cpu_or_cuda(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    results: list[Result] = []
    console.print("measuring", style="dim")  # and no spinner, whose thread would run beside what is timed
    for rows in measure(numbers, device, args.seconds, skip=lambda reason: console.print(reason, style="yellow")):
        results += rows
        if args.measure != Path():
            write(results, args.measure)
    return ResultFile(Path("measured now") if args.measure == Path() else args.measure, "benchmark", results)
