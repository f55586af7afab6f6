"""Results as tables for the terminal: one table for each dtype, layout, direction and clock, one line a case."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from ddfnet.bench.results import Environment, Result


def describe(environment: Environment) -> str:
    """Return device, threads, versions and date in one line."""
    parts = [environment.device_name, f"{environment.threads} threads", f"torch {environment.torch}"]
    if environment.device == "cuda":
        parts += [f"CUDA {environment.cuda}", f"TF32 {environment.tf32}"]
        parts += ["cuDNN benchmark"] if environment.cudnn_benchmark else []
    parts += [f"{name} {version}" for name in ("numba", "triton") if (version := getattr(environment, name))]
    return ", ".join([*parts, f"ddfnet {environment.ddfnet}", environment.date])


def panels(results: Iterable[Result]) -> dict[tuple[str, ...], list[Result]]:
    """Group results by what a table or a panel of a plot has in common: direction, dtype, layout, clock."""
    parts: dict[tuple[str, ...], list[Result]] = {}
    for row in results:
        parts.setdefault((row.direction, row.dtype, row.layout, row.clock), []).append(row)
    return parts


def rivals(results: Iterable[Result]) -> str:
    """Return the names of the rivals that ratios are taken to."""
    return ", ".join(dict.fromkeys(row.rival for row in results if row.rival))


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the results of one benchmark, a table for each panel."""
    return [
        (_networks if rows[0].benchmark == "model" else _times)(f"{rows[0].benchmark}: {', '.join(part)}", rows)
        for part, rows in panels(results).items()
    ]


def _times(title: str, rows: Sequence[Result]) -> Table:
    """Return a table with a column for each subject: milliseconds, and the ratio to the rival."""
    subjects = list(dict.fromkeys(row.subject for row in rows))
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("case", no_wrap=True)
    for subject in subjects:
        table.add_column(subject, justify="right")
    with_copy = any(row.ratio_to_copy is not None for row in rows)
    for heading in (*(["x copy", "GB/s"] if with_copy else []), "peak MB"):
        table.add_column(heading, justify="right", style="dim")
    served = ", ".join(dict.fromkeys(row.backend for row in rows if row.subject == "ddf" and row.backend))
    table.caption = (
        f"Median ms per call{f', in brackets times {rivals(rows)}' if rivals(rows) else ''}. Right, of {subjects[0]}"
        f"{f' (served by {served})' if served else ''}: "
        f"{'times a copy of the same bytes, GB/s of these bytes, ' if with_copy else ''}peak memory beyond the inputs."
    )
    for case, of_case in _by_case(rows):
        by_subject = {row.subject: row for row in of_case}
        first = by_subject.get(subjects[0], of_case[0])
        table.add_row(
            case,
            *(_time(by_subject[subject]) if subject in by_subject else "" for subject in subjects),
            *([number(first.ratio_to_copy), number(first.gigabytes_per_second)] if with_copy else []),
            number(None if first.extra_bytes is None else first.extra_bytes / 1e6),
        )
    return table


def _networks(title: str, rows: Sequence[Result]) -> Table:
    """Return a table with a line for each network and batch."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        "Medians per call; peak memory beyond weights, optimizer state and images. In brackets, multiply-adds as the paper"
        " counts them: 2 more per element of a batch norm, 1 per element of a ReLU."
    )
    table.add_column("network", no_wrap=True)
    headings = ("batch, input", "parameters", "multiply-adds", "ms", "images/s", "peak MB")
    for heading in (*headings, f"time / {rows[0].rival}" if rows[0].rival else ""):
        table.add_column(heading, justify="right")
    for case, of_case in _by_case(rows):
        for row in of_case:
            table.add_row(
                row.subject,
                case,
                "-" if row.parameters is None else f"{row.parameters / 1e6:.3f} M",
                "-" if row.parameters is None else f"{_millions(row.multiply_adds)} M ({_millions(row.published)})",
                number(row.median_ms),
                f"{row.images_per_second or 0:,.0f}",
                number(None if row.extra_bytes is None else row.extra_bytes / 1e6),
                _ratio(row),
            )
        table.add_section()
    return table


def _millions(count: int | None) -> str:
    return number((count or 0) / 1e6)


def _by_case(rows: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    cases: dict[str, list[Result]] = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    return list(cases.items())


def _time(row: Result) -> str:
    alone = row.ratio_to_rival is None or row.subject in (row.rival, "copy")
    return number(row.median_ms) if alone else f"{number(row.median_ms)} ({_ratio(row)})"


def _ratio(row: Result) -> str:
    if row.ratio_to_rival is None:
        return "-"
    colour = "green" if row.ratio_to_rival <= 1 else "red"
    return f"[{colour}]{number(row.ratio_to_rival)}[/]" if row.subject != row.rival else "1"


def number(value: float | None) -> str:
    """Write three significant digits, or all before the point."""
    if value is None:
        return "-"
    decimals = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{decimals}f}"
