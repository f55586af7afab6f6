"""`ddfnet report [FILE]`: the paper's tables beside ours, all result files and their pictures, as one HTML page."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ddfnet.cli.parsing import Parser, file_to_write
from ddfnet.cli.tables import default_results

if TYPE_CHECKING:
    from ddfnet.bench.paper.evidence import ResultFile


PNG = b"\x89PNG\r\n\x1a\n"  # how one begins


def _parser() -> Parser:
    parser = Parser(
        prog="ddfnet report",
        description="Writes one HTML page that needs nothing beside it: the paper's tables next to ours, every result file, "
        "its rows to sort and search, and its picture.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=file_to_write(".html"),
        default=Path("report.html"),
        metavar="FILE",
        help="(%(default)s)",
    )
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="result files of ddfnet bench, study and evaluate depth, or folders of them (default: benchmarks/results, "
        "where it is). A PNG of the same name is taken as a file's picture; without one it is drawn",
    )
    parser.add_argument("--tables", nargs="+", default=[], metavar="N", help="of the paper, as in ddfnet tables (all)")
    return parser


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)

    from ddfnet.bench.paper.printed import choose

    tables = choose(args.tables)
    results = args.results or default_results()

    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import track

    from ddfnet.atomic import write_text
    from ddfnet.bench.paper.evidence import collect
    from ddfnet.bench.paper.ours import fill
    from ddfnet.bench.report import render, sheet

    console = Console()
    quiet = not console.is_terminal
    files, left_out = collect(results)
    sheets = []
    for file in track(files, "reading and drawing", console=console, transient=True, disable=quiet):
        try:
            sheets.append(sheet(file.path).drawn(_picture(file)))
        except ValueError as error:
            left_out.append(f"left out: {error}")
    counting = track(tables, "counting", console=console, transient=True, disable=quiet)
    filled = [(table, fill(table, files)) for table in counting]
    text = render(filled, sheets, date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    write_text(args.file, text)
    for sentence in left_out:
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    numbers = [
        f"{len(found)} {what}{'s' * (len(found) != 1)}" for found, what in ((filled, "table"), (sheets, "result file"))
    ]
    console.print(
        f"wrote {args.file}: {', '.join(numbers)}, {len(text.encode()) / 1e6:.1f} MB",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _picture(file: "ResultFile") -> bytes | None:
    """Return the PNG beside a result file, or one drawn from it; None if no plot shows rows of this kind."""
    beside = file.path.with_suffix(".png")
    if beside.is_file() and (content := beside.read_bytes()).startswith(PNG):
        return content
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, "drawn.png")
        try:
            if file.kind == "benchmark":
                from ddfnet.bench import plots

                plots.plot(file.rows, drawn)
            elif file.kind == "study":
                from ddfnet.tasks import pictures
                from ddfnet.tasks.run import study

                pictures.draw_study(study.read(file.path), drawn)
        except ValueError:
            return None
        return drawn.read_bytes() if drawn.is_file() else None
