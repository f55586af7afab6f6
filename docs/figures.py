"""Writes the tables of measured figures into README.md and docs/*.md, from the files in `benchmarks/results`.

    python docs/figures.py             # a second
    python docs/figures.py --tables    # and the paper's tables, which are counted on the models: a minute

A table stands between the lines `<!-- figures: NAME -->` and `<!-- end -->`; the rest of a page is left alone.
`tests/docs/test_figures.py` fails where a page no longer says what the files do.
"""

import csv
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = (REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md", *sorted((REPOSITORY / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
LAYOUTS = ("nchw", "channels_last")
DIRECTIONS = ("forward", "forward+backward")

Row = dict[str, str]


def main(arguments: list[str]) -> int:
    if set(arguments) - {"--tables"}:
        print(__doc__, file=sys.stderr)
        return 2
    made = dict(FIGURES)
    if arguments:
        made["tables"] = paper_tables
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = filled(old, made)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(REPOSITORY))
    return 0


def filled(text: str, figures: dict[str, Callable[[], str]]) -> str:
    """A page's text with its tables made anew; those that `figures` lacks stay."""
    return BLOCK.sub(
        lambda block: f"{block[1]}\n{figures[block[2]]()}\n\n{block[3]}" if block[2] in figures else block[0], text
    )


def classification() -> str:
    """Scores by the recipes; parameters and multiply-adds from the networks' benchmark."""
    counts = {row["subject"]: row for row in read("cpu_mini.csv")}
    lines = []
    for name, layer in (("ddf_resnet_mini", "DDF"), ("dwresnet_mini", "depthwise"), ("resnet_mini", "dense")):
        scores, mean = accuracies(name)
        parameters, multiply_adds = (int(counts[name][column]) for column in ("parameters", "multiply_adds"))
        lines.append([f"`{name}`", layer, f"{parameters:,}", f"{multiply_adds / 1e6:.2f} M", scores, f"**{mean}%**"])
    return table(("network", "3x3 layer", "parameters", "multiply-adds", "test accuracy, seeds 0, 1, 2", "mean"), lines)


def op() -> str:
    return against_depthwise("cpu_op.csv")


def op_avx2() -> str:
    return against_depthwise("cpu_op_avx2.csv")


def against_depthwise(file: str) -> str:
    rows = read(file)
    return table(
        ("batch x channels x height x width", "NCHW", "channels_last"),
        ([case, *(ratios(rows, case, layout) for layout in LAYOUTS)] for case in cases(rows, "ddf")),
    )


def table_2() -> str:
    rows = read("cpu_table_2.csv")
    forward, both = ({row["subject"]: row for row in rows if row["direction"] == way} for way in DIRECTIONS)
    return table(
        ("", *(f"{way}: {what}" for way in DIRECTIONS for what in ("ms", "time / depthwise", "peak memory, MB"))),
        ([subject, *measured(forward[subject]), *measured(both[subject])] for subject in forward),
    )


def elsewhere() -> str:
    rows = read("cpu_elsewhere.csv")
    found = {(row["case"], row["direction"], row["subject"]): row for row in rows}
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        line = [case]
        for way in DIRECTIONS:
            forms = [found[case, way, subject] for subject in ("ddf", "unfold and einsum", "unfold and multiply")]
            line += [" / ".join(f"{float(row['median_ms']):,.1f}" for row in forms)]
            line += [" / ".join(f"{float(row['extra_bytes']) / 1e6:,.1f}" for row in forms)]
        lines.append(line)
    headings = (f"{way}: {what}" for way in DIRECTIONS for what in ("ms", "MB"))
    return table(("`ddf` / einsum / product and sum", *headings), lines)


def up() -> str:
    rows = read("cpu_up.csv")
    subjects = ("ddf", "nearest", "bilinear", "pixel_shuffle")
    return table(
        ("low resolution", "layout", "DDF-Up", *subjects[1:]),
        (
            [case, layout, *(ratios(rows, case, layout, subject) for subject in subjects)]
            for case in cases(rows, "ddf")
            for layout in LAYOUTS
        ),
    )


def resnet50() -> str:
    one, two = map(read, ("cpu_resnet50_one_thread.csv", "cpu_resnet50_two_threads.csv"))
    columns = ((one, "nchw"), (one, "channels_last"), (two, "nchw"), (two, "channels_last"))
    networks = dict.fromkeys(row["subject"] for row in two if row["subject"] != "resnet50")
    return table(
        ("", "one thread, NCHW", "one thread, channels_last", "two threads, NCHW", "two threads, channels_last"),
        ([f"`{name}`", *(network_ratio(rows, name, layout) for rows, layout in columns)] for name in networks),
    )


def training() -> str:
    rows = read("cpu_resnet50_training.csv")
    return table(
        ("", "time / `resnet50`'s", "images/s", "peak memory, MB"),
        (
            [
                f"`{row['subject']}`",
                f"{float(row['ratio_to_rival']):.2f}",
                f"{float(row['images_per_second']):.2f}",
                f"{float(row['extra_bytes']) / 1e6:,.0f}",
            ]
            for row in rows
        ),
    )


def joint() -> str:
    inference, step = (
        {row["subject"]: row for row in read("cpu_joint.csv") if row["direction"] == way}
        for way in ("inference", "training")
    )
    kinds = ("ms", "time / PAC-Net's", "peak memory, MB")
    return table(
        ("", *(f"{way}: {what}" for way in ("inference", "training") for what in kinds)),
        ([f"`{name}`", *measured(inference[name]), *measured(step[name])] for name in inference),
    )


def mini() -> str:
    rows = [row for row in read("cpu_mini.csv") if row["subject"] != "resnet_mini"]
    return table(
        ("", "", *(f"`{name}`, {layout}" for name in ("ddf_resnet_mini", "dwresnet_mini") for layout in LAYOUTS)),
        (
            [
                f"batch {case.split()[0].removeprefix('b')}",
                direction,
                *(
                    network_ratio(
                        [row for row in rows if (row["case"], row["direction"]) == (case, direction)], name, layout
                    )
                    for name in ("ddf_resnet_mini", "dwresnet_mini")
                    for layout in LAYOUTS
                ),
            ]
            for case, direction in dict.fromkeys((row["case"], row["direction"]) for row in rows)
        ),
    )


def depth() -> str:
    rows = read("depth_motorcycle.csv")
    factors = list(dict.fromkeys(row["factor"] for row in rows))
    methods: dict[str, dict[str, float]] = {}
    for row in rows:
        name = re.sub(r"[-_]x\d+", "", row["method"]).replace(" (ships)", ", as it ships")
        methods.setdefault(name, {})[row["factor"]] = float(row["rmse"])
    best = {factor: min(scores[factor] for scores in methods.values() if factor in scores) for factor in factors}
    return table(
        (f"RMSE, {unit(rows)}", *(f"{factor}x" for factor in factors)),
        (
            [name, *(bold(f"{scores[f]:.3f}", scores[f] == best[f]) if f in scores else "" for f in factors)]
            for name, scores in methods.items()
        ),
    )


def depth_unseen() -> str:
    """Errors of the weights that ship on pictures that chose nothing, as multiples of bicubic's: mean / worst picture."""
    rows = {(row["dataset"], row["protocol"], row["factor"]): row for row in read("depth_convex_up_net.csv")}
    factors = list(dict.fromkeys(factor for _, _, factor in rows))
    names = {"nyu": "NYU, 8 bits, 45 test pictures", "lu": "Lu, 6 pictures"}
    kinds = {"point": "point samples", "average": "averages", "bicubic": "bicubic (DKN's protocol)"}
    return table(
        ("data set", "samples", *(f"{factor}x" for factor in factors)),
        (
            [
                names[dataset],
                kinds[protocol],
                *(ratio_to_bicubic(rows[dataset, protocol, factor]) for factor in factors),
            ]
            for dataset, protocol in dict.fromkeys((dataset, protocol) for dataset, protocol, _ in rows)
        ),
    )


def ratio_to_bicubic(row: Row) -> str:
    return f"{float(row['ratio']):.2f} / {float(row['worst_ratio']):.2f}"


def small_images() -> str:
    return accuracy_table("fashion_mnist.csv")


def longer_training() -> str:
    return accuracy_table("fashion_mnist_longer.csv")


def network_sizes() -> str:
    """The same recipes on networks half as wide and on maps twice as high and wide."""
    files = {
        "half as wide": "fashion_mnist_narrow.csv",
        "as it is": "fashion_mnist.csv",
        "maps twice as high and wide": "fashion_mnist_large.csv",
    }
    scores = [
        {(row["recipe"], row["seed"]): percent(row, "test_accuracy") for row in read(file)} for file in files.values()
    ]

    def score(recipe: str, found: dict[tuple[str, str], str]) -> str:
        mean, spread = found[recipe, "mean"], found.get((recipe, "std"))
        return f"{mean} ± {spread}" if spread else mean

    recipes = [recipe for recipe, seed in scores[0] if seed == "mean"]
    lines = (
        [f"`{name.removeprefix('fashion_mnist/')}`", *(score(name, found) for found in scores)] for name in recipes
    )
    return table(("recipe", *files), lines)


def accuracy_table(file: str) -> str:
    """Means and spreads of a study of classification, the best first."""
    rows = read(file)
    lines = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        of = {row["seed"]: row for row in rows if row["recipe"] == recipe}
        seeds = [seed for seed in of if seed.isdecimal()]
        spread = f" ± {percent(of['std'], 'test_accuracy')}" if "std" in of else ""
        counts = of[seeds[0]]
        lines.append(
            (
                float(of["mean"]["test_accuracy"]),
                [
                    f"`{recipe.removeprefix('fashion_mnist/')}`",
                    f"{int(counts['parameters']):,}",
                    f"{int(counts['multiply_adds']) / 1e6:.2f} M",
                    f"{percent(of['mean'], 'test_accuracy')}{spread}",
                    str(len(seeds)),
                ],
            )
        )
    headings = ("recipe", "parameters", "multiply-adds", "test accuracy, %", "seeds")
    return table(headings, (line for _, line in sorted(lines, key=lambda line: -line[0])))


def garments() -> str:
    rows = read("garments.csv")
    names = {"ddf_up": "DDF-Up", "carafe": "CARAFE", "dysample": "DySample"}
    lines = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        of = {row["seed"]: row for row in rows if row["recipe"] == recipe}
        seeds = [seed for seed in of if seed.isdecimal()]
        name = recipe.removeprefix("garments/")
        lines.append(
            [
                names.get(name, name),
                f"{int(of[seeds[0]]['parameters']):,}",
                ", ".join(percent(of[seed], "test_mAP") for seed in seeds),
                f"**{percent(of['mean'], 'test_mAP')}** +- {percent(of['std'], 'test_mAP')}",
                *(percent(of["mean"], f"test_mAP_{size}") for size in ("small", "medium", "large")),
            ]
        )
    headings = ("upsampling", "parameters", "mAP of each seed", "mean", "small", "medium", "large")
    return table(headings, sorted(lines, key=lambda line: float(line[3].split("**")[1])))


def summary(word: Callable[[str], str] = str) -> str:
    """The READMEs': a line for each thing that was measured, the better one bold; `word` translates."""
    network = next(row for row in read("cpu_resnet50_one_thread.csv") if row["subject"] == "ddf_mul_resnet50")
    maps = {row["recipe"]: float(percent(row, "test_mAP")) for row in read("garments.csv") if row["seed"] == "mean"}
    depths = {(row["dataset"], row["protocol"], row["factor"]): row for row in read("depth_convex_up_net.csv")}
    accuracy = [float(accuracies(name)[1]) for name in ("ddf_resnet_mini", "resnet_mini")]
    lines = [
        (
            word("time of a ResNet50, one CPU thread"),
            pair(float(network["ratio_to_rival"]), 1.0, "{:.2f}"),
            word("dense 3x3"),
            f"[{word('benchmarks')}](docs/benchmarks.md#networks)",
        ),
        (
            word("mAP of a small detector, %"),
            pair(maps["garments/ddf_up"], maps["garments/carafe"], "{:.2f}", more=True),
            "CARAFE",
            f"[{word('detection')}](docs/detection.md)",
        ),
        (
            word("accuracy on 28-pixel images, %"),
            pair(accuracy[0], accuracy[1], "{:.2f}", more=True),
            word("dense 3x3"),
            f"[{word('classification')}](docs/classification.md)",
        ),
    ]
    lines += [
        (
            word("error of averaged depth upsampled {}x, NYU, cm").format(factor),
            pair(*(float(depths["nyu", "average", factor][column]) for column in ("rmse", "bicubic_rmse")), "{:.2f}"),
            word("bicubic"),
            f"[{word('depth')}](docs/depth.md#beside-other-ways)",
        )
        for factor in dict.fromkeys(factor for _, _, factor in depths)
    ]
    return table(
        map(word, ("measured", "DDF", "beside it", "more")),
        ([what, ours, f"{name}: {theirs}", where] for what, (ours, theirs), name, where in lines),
    )


def summary_zh() -> str:
    return summary(lambda text: CHINESE.get(text, text))


CHINESE = {
    "time of a ResNet50, one CPU thread": "ResNet50 的耗时 (单个 CPU 线程)",
    "dense 3x3": "稠密 3x3 卷积",
    "benchmarks": "基准测试",
    "mAP of a small detector, %": "小型检测器的 mAP (%)",
    "detection": "检测",
    "accuracy on 28-pixel images, %": "28 像素图像上的准确率 (%)",
    "classification": "分类",
    "error of averaged depth upsampled {}x, NYU, cm": "NYU 深度 (均值采样) 上采样 {}x 的误差 (厘米)",
    "bicubic": "双三次插值",
    "depth": "深度",
    "measured": "测量项",
    "beside it": "对照",
    "more": "详情",
}


def paper_tables() -> str:
    """What `ddfnet tables` writes, its headings one level down and without its title."""
    from ddfnet.cli import main as ddfnet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tables.md")
        if ddfnet(["tables", "--results", str(RESULTS), "--markdown", str(path)]) != 0:
            raise RuntimeError("ddfnet tables failed")
        _, _, text = path.read_text(encoding="utf-8").partition("\n")
    return text.strip()


FIGURES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        classification,
        small_images,
        longer_training,
        network_sizes,
        op,
        op_avx2,
        table_2,
        up,
        elsewhere,
        resnet50,
        training,
        joint,
        mini,
        depth,
        depth_unseen,
        garments,
        summary,
        summary_zh,
    )
}


def read(name: str) -> list[Row]:
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(headings: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *lines))


def accuracies(network: str) -> tuple[str, str]:
    """The scores of seeds 0, 1, 2 and their mean in %, by the recipe of Fashion-MNIST as it stands."""
    rows = [row for row in read("recipes.csv") if row["recipe"] == f"fashion_mnist/{network}"]
    if [row["seed"] for row in rows] != ["0", "1", "2"]:
        raise ValueError(f"recipes.csv: expected seeds 0, 1, 2 of fashion_mnist/{network}, got {len(rows)} rows")
    scores = [100 * float(row["test_accuracy"]) for row in rows]
    return ", ".join(f"{score:.2f}%" for score in scores), f"{statistics.fmean(scores):.2f}"


def cases(rows: list[Row], subject: str) -> list[str]:
    return list(dict.fromkeys(row["case"] for row in rows if row["subject"] == subject))


def ratios(rows: list[Row], case: str, layout: str, subject: str = "ddf") -> str:
    """Forward / forward and backward."""
    found = {
        row["direction"]: row for row in rows if (row["case"], row["layout"], row["subject"]) == (case, layout, subject)
    }
    return " / ".join(f"{float(found[way]['ratio_to_rival']):.2f}" for way in DIRECTIONS)


def measured(row: Row) -> tuple[str, str, str]:
    """Milliseconds, the ratio to the rival, megabytes beyond the inputs where there is such a number."""
    return (
        f"{float(row['median_ms']):,.0f}",
        f"{float(row['ratio_to_rival']):.2f}",
        f"{float(row['extra_bytes']) / 1e6:,.0f}" if row["extra_bytes"] else "",
    )


def network_ratio(rows: list[Row], name: str, layout: str) -> str:
    """Of the first measurement of the network, empty without one."""
    found = [row for row in rows if (row["subject"], row["layout"]) == (name, layout)]
    return f"{float(found[0]['ratio_to_rival']):.2f}" if found else ""


def pair(ours: float, theirs: float, shown: str, *, more: bool = False) -> tuple[str, str]:
    """Both numbers, the better one bold: the larger where `more` is better."""
    won = ours > theirs if more else ours < theirs
    return bold(shown.format(ours), won), bold(shown.format(theirs), not won)


def percent(row: Row, column: str) -> str:
    return f"{100 * float(row[column]):.2f}"


def unit(rows: list[Row]) -> str:
    return {"px": "pixels of disparity"}.get(rows[0]["unit"], rows[0]["unit"])


def bold(text: str, when: bool) -> str:
    return f"**{text}**" if when else text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
