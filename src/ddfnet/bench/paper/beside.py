"""Write the paper's tables beside ours, for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from ddfnet.bench.paper.ours import Cell, measuring
from ddfnet.bench.paper.printed import PaperTable
from ddfnet.bench.tables import number

Filled = tuple[PaperTable, list[list[Cell]]]

SYMBOLS = {"agrees": "\N{CHECK MARK}", "differs": "\N{NOT EQUAL TO}", "unprinted": "\N{MIDDLE DOT}", "measured": "*"}
STYLES = {"agrees": "green", "differs": "yellow", "unprinted": "green", "measured": "cyan"}
LEGEND = (
    "paper | ours.  {agrees} exact: counted on the models now, and rounds to the print.  {differs} exact, and differs:"
    " the note says why.  {unprinted} exact, nothing printed beside it.  {measured} measured: the source stands below."
).format(**SYMBOLS)
CSV_HEAD = "table,row,column,unit,paper,ours,ours_as_the_paper_counts,mark,agrees,source,note\n"


def printed(cell: Cell) -> str:
    """Return the paper's number as printed, "-" where it prints none."""
    if cell.printed is None:
        return "-"
    value = f"{cell.printed:,.{cell.column.digits}f}"
    return f"{cell.formula} = {value}" if cell.formula else value


def ours(cell: Cell) -> str:
    """Return our number, in brackets as the paper counts, with its mark; or why there is none."""
    if cell.ours is None:
        absent = "not measured" if cell.column.is_measured else "not built here"
        return {"needs": f"needs {cell.column.data}", "absent": absent}.get(cell.mark, "-")
    if cell.column.is_measured:
        return f"{number(cell.ours)} {SYMBOLS[cell.mark]}"
    digits = cell.column.digits
    if cell.column.source == "score":
        digits += 1
    elif not cell.formula:
        digits = max(digits + 1, 3)
    counted = "" if cell.as_printed is None else f" ({cell.as_printed:,.{digits}f})"
    return f"{cell.ours:,.{digits}f}{counted} {SYMBOLS[cell.mark]}"


def title(table: PaperTable) -> str:
    """Return number and title."""
    return f"Table {table.number}. {table.title}"


def labels(table: PaperTable) -> list[str]:
    """Return the labels of the rows, with the numbers of their notes."""
    numbered = _numbered(table)
    return [f"{row.label} [{numbered.index(row.note) + 1}]" if row.note else row.label for row in table.rows]


def notes(table: PaperTable, cells: list[list[Cell]]) -> list[str]:
    """Return a table's notes, those of its rows by number, and where the measured cells are from."""
    sources = dict.fromkeys(cell.source for row in cells for cell in row if cell.mark == "measured")
    numbered = (f"[{place}] {note}" for place, note in enumerate(_numbered(table), 1))
    return [*table.notes, *numbered, *(f"{SYMBOLS['measured']} {source}" for source in sources)]


def commands(table: PaperTable, cells: list[list[Cell]]) -> list[str]:
    """Return the commands that make the cells which need data, by row, and the one that measures the others."""
    every = [cell for row in cells for cell in row]
    needed = dict.fromkeys(f"{cell.row.label}: {cell.source}" for cell in every if cell.mark == "needs")
    return [*needed, *([measuring(table)] if table.is_measured else [])]


def terminal(table: PaperTable, cells: list[list[Cell]]) -> Table:
    """Draw a column for each quantity: paper | ours."""
    drawn = Table()
    drawn.add_column("", no_wrap=True)
    for column in table.columns:
        drawn.add_column(column.title, justify="right")
    for label, row in zip(labels(table), cells, strict=True):
        styled = ((escape(printed(cell)), STYLES.get(cell.mark, "dim"), escape(ours(cell))) for cell in row)
        drawn.add_row(
            escape(label), *(f"{left} [dim]|[/dim] [{style}]{right}[/{style}]" for left, style, right in styled)
        )
    return drawn


def markdown(filled: Iterable[Filled]) -> str:
    """Write all tables, two columns for each quantity, with their notes and commands."""
    lines = ["# The paper's tables beside ours", "", LEGEND, ""]
    for table, cells in filled:
        heads = ["", *(f"{column.title}: {whose}" for column in table.columns for whose in ("paper", "ours"))]
        lines += [f"## {title(table)}", "", _pipes(heads), _pipes(["---", *["---:"] * (len(heads) - 1)])]
        for label, row in zip(labels(table), cells, strict=True):
            lines.append(_pipes([label, *(text for cell in row for text in (printed(cell), ours(cell)))]))
        lines += ["", *(f"- {note}".replace("- *", r"- \*", 1) for note in notes(table, cells))]
        made_by = commands(table, cells)
        lines += ["", "Made by:", "", "```", *made_by, "```"] if made_by else []
        lines.append("")
    return "\n".join(lines)


def as_csv(filled: Iterable[Filled]) -> str:
    """Write a line for each cell that has a number of either side, in the column's unit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(CSV_HEAD)
    for table, cells in filled:
        for cell in (cell for row in cells for cell in row if cell.mark):
            row, column = cell.row, cell.column
            absent = "not measured" if column.is_measured else "not built"
            said = {"measured": "measured", "needs": f"needs {column.data}", "theirs": "not ours", "absent": absent}
            numbers = ("" if each is None else f"{each:.12g}" for each in (cell.printed, cell.ours, cell.as_printed))
            agrees = {"agrees": "yes", "differs": "no"}.get(cell.mark, "")
            where = (table.number, row.label, column.heading, column.unit)
            writer.writerow([*where, *numbers, said.get(cell.mark, "exact"), agrees, cell.source, row.note])
    return text.getvalue()


def _numbered(table: PaperTable) -> list[str]:
    return list(dict.fromkeys(row.note for row in table.rows if row.note))


def _pipes(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
