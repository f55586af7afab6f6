"""The paper's tables beside ours, for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from ddfnet.bench.paper.ours import Cell
from ddfnet.bench.paper.printed import Column, PaperTable, measuring
from ddfnet.bench.tables import number

Filled = tuple[PaperTable, list[list[Cell]]]

AGREES, DIFFERS, UNPRINTED, MEASURED = "\N{CHECK MARK}", "\N{NOT EQUAL TO}", "\N{MIDDLE DOT}", "*"
LEGEND = (
    f"paper | ours.  {AGREES} exact: counted on the models now, and rounds to the print.  {DIFFERS} exact, and differs:"
    f" the note says why.  {UNPRINTED} exact, nothing printed beside it.  {MEASURED} measured: the source stands below."
)
STYLES = {AGREES: "green", DIFFERS: "yellow", UNPRINTED: "green", MEASURED: "cyan"}


def symbol(cell: Cell, column: Column) -> str:
    """The mark of ours, one character, "" where there is no number."""
    if cell.mark == "exact":
        agrees = cell.agrees(column.digits)
        return UNPRINTED if agrees is None else AGREES if agrees else DIFFERS
    return MEASURED if cell.mark == "measured" else ""


def printed(cell: Cell, column: Column) -> str:
    """The paper's number as it is printed, "-" where it prints none."""
    if cell.printed is None:
        return "-"
    value = f"{cell.printed:,.{column.digits}f}"
    return f"{cell.formula} = {value}" if cell.formula else value


def ours(cell: Cell, column: Column) -> str:
    """Our number, in brackets as the paper counts, with its mark; or why there is none."""
    if cell.ours is None:
        sentences = {"needs": f"needs {cell.data}", "not built": "not built here", "not measured": "not measured"}
        return sentences.get(cell.mark, "-")
    if column.is_measured:
        return f"{number(cell.ours)} {symbol(cell, column)}"
    digits = column.digits if column.source in ("weights", "work", "filters") else max(column.digits + 1, 3)
    if column.source == "score":
        digits = column.digits + 1
    value = f"{cell.ours:,.{digits}f}"
    counted = "" if cell.as_printed is None else f" ({cell.as_printed:,.{digits}f})"
    return f"{value}{counted} {symbol(cell, column)}"


def title(table: PaperTable) -> str:
    """Number and title."""
    return f"Table {table.number}. {table.title}"


def notes(table: PaperTable, cells: list[list[Cell]]) -> list[str]:
    """What stands under a table: its own notes, those of its rows by number, and where the measured cells are from."""
    numbered = dict.fromkeys(row.note for row in table.rows if row.note)
    found = [*table.notes, *(f"[{place}] {note}" for place, note in enumerate(numbered, 1))]
    sources = dict.fromkeys(cell.source for row in cells for cell in row if cell.mark == "measured")
    return [*found, *(f"{MEASURED} {source}" for source in sources)]


def commands(table: PaperTable, cells: list[list[Cell]]) -> list[str]:
    """What makes the cells that need data, a line a row, with what it needs; and those that are measured, or can be."""
    lines: dict[str, None] = {}
    for row, of_row in zip(table.rows, cells, strict=True):
        for cell, column in zip(of_row, table.columns, strict=True):
            if cell.mark == "needs":
                lines[f"{row.label}: {cell.source or f'needs {cell.data}, and this version has no recipe for it'}"] = (
                    None
                )
            elif column.is_measured:
                lines[measuring(table)] = None
    return list(lines)


def labels(table: PaperTable) -> list[str]:
    """Of the rows, with the number of the row's note."""
    numbered = list(dict.fromkeys(row.note for row in table.rows if row.note))
    return [f"{row.label} [{numbered.index(row.note) + 1}]" if row.note else row.label for row in table.rows]


def terminal(table: PaperTable, cells: list[list[Cell]]) -> Table:
    """A column for each quantity: paper | ours."""
    drawn = Table()
    drawn.add_column("", no_wrap=True)
    for column in table.columns:
        drawn.add_column(column.title, justify="right")
    for label, of_row in zip(labels(table), cells, strict=True):
        drawn.add_row(escape(label), *map(_markup, of_row, table.columns))
    return drawn


def markdown(filled: Iterable[Filled]) -> str:
    """All tables, two columns for each quantity, with their notes and commands."""
    lines = ["# The paper's tables beside ours", "", LEGEND, ""]
    for table, cells in filled:
        heads = ["", *(f"{column.title}: {whose}" for column in table.columns for whose in ("paper", "ours"))]
        lines += [f"## {title(table)}", "", _pipes(heads)]
        lines.append(_pipes(["---", *["---:"] * (len(heads) - 1)]))
        for label, of_row in zip(labels(table), cells, strict=True):
            pairs = zip(of_row, table.columns, strict=True)
            lines.append(
                _pipes([label, *(text for c, column in pairs for text in (printed(c, column), ours(c, column)))])
            )
        escaped = (
            note.replace(MEASURED, f"\\{MEASURED}", 1) if note.startswith(MEASURED) else note
            for note in notes(table, cells)
        )
        lines += ["", *(f"- {note}" for note in escaped)]
        made_by = commands(table, cells)
        lines += ["", "Made by:", "", "```", *made_by, "```"] if made_by else []
        lines.append("")
    return "\n".join(lines)


def as_csv(filled: Iterable[Filled]) -> str:
    """A line for each cell that has a number of either side, in the column's unit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = (
        "table",
        "row",
        "column",
        "unit",
        "paper",
        "ours",
        "ours_as_the_paper_counts",
        "mark",
        "agrees",
        "source",
        "note",
    )
    writer.writerow(head)
    for table, cells in filled:
        for row, of_row in zip(table.rows, cells, strict=True):
            for cell, column in zip(of_row, table.columns, strict=True):
                if cell.mark == "none" and cell.printed is None:
                    continue
                mark = (
                    f"needs {cell.data}" if cell.mark == "needs" else "not ours" if cell.mark == "none" else cell.mark
                )
                values = [_plain(value) for value in (cell.printed, cell.ours, cell.as_printed)]
                agrees = {None: "", True: "yes", False: "no"}[cell.agrees(column.digits)]
                line = (
                    table.number,
                    row.label,
                    column.heading,
                    column.unit,
                    *values,
                    mark,
                    agrees,
                    cell.source,
                    row.note,
                )
                writer.writerow(line)
    return text.getvalue()


def _markup(cell: Cell, column: Column) -> str:
    style = STYLES.get(symbol(cell, column), "dim")
    return f"{escape(printed(cell, column))} [dim]|[/dim] [{style}]{escape(ours(cell, column))}[/{style}]"


def _pipes(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"
