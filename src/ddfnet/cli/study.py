"""`ddfnet study RECIPE ...`: recipes times seeds, with means and spreads; killed, it goes on where it was."""

import os
import signal
from pathlib import Path

from ddfnet.cli.parsing import PICTURES, Parser, file_to_write, whole


def main(argv: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from ddfnet import recipes

    parser = Parser(
        prog="ddfnet study",
        usage="ddfnet study RECIPE_OR_GROUP ... [--seeds N ...] [--folder DIR] [--jobs N] [--threads N] "
        "[--csv FILE] [--plot FILE] [-- OPTIONS OF ddfnet train]",
        description="Trains every recipe with every seed and prints mean and spread (standard deviation) of the test "
        "scores. The same command again goes on where it was killed and adds seeds. Groups are folders of recipes: "
        f"{', '.join(recipes.groups())}.",
    )
    parser.add_argument("recipes", nargs="+", metavar="RECIPE_OR_GROUP")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    parser.add_argument("--folder", type=Path, help="of the runs (default: runs/study-FIRST, by the first name)")
    parser.add_argument("--jobs", type=whole(1), default=1, help="runs at a time (default: 1)")
    parser.add_argument("--threads", type=whole(1), help="of each run (default: the cores divided by the jobs)")
    parser.add_argument(
        "--csv", type=file_to_write(".csv"), metavar="FILE", help="write a row a run, means and spreads"
    )
    parser.add_argument("--plot", type=file_to_write(*PICTURES), metavar="FILE", help="draw them: .png, .svg or .pdf")
    own, options = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    args = parser.parse_args(own)
    names = [name for given in args.recipes for name in recipes.group(given)]

    from ddfnet.tasks.pictures import draw_study
    from ddfnet.tasks.run import study

    console = Console()
    folder = args.folder or Path("runs") / f"study-{args.recipes[0].replace('/', '-')}"
    todo = study.trials(names, args.seeds, options, folder)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.jobs)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the runs end with their study
    try:
        study.run(todo, jobs=args.jobs, threads=threads, tell=lambda line: console.print(line, soft_wrap=True))
    finally:
        rows = study.collect(todo)
        if rows and args.csv is not None:
            study.write(rows, args.csv)
        if rows and args.plot is not None:
            draw_study(rows, args.plot)
    scores = study.test_scores(rows)
    table = Table(title=f"mean ± standard deviation, seeds {', '.join(map(str, args.seeds))}", title_justify="left")
    for title in ("recipe", *(name.removeprefix("test_").replace("_", " ") for name in scores)):
        table.add_column(title)
    for recipe in dict.fromkeys(names):
        of_recipe = {row["seed"]: row for row in rows if row["recipe"] == recipe}
        mean, spread = of_recipe[study.MEAN], of_recipe.get(study.SPREAD, {})
        texts = {name: f"{mean[name]:.4f}" for name in scores if name in mean}
        texts |= {name: f"{texts[name]} ± {spread[name]:.4f}" for name in scores if name in spread}
        table.add_row(recipe, *(texts.get(name, "") for name in scores))
    console.print(table)
    return 0
