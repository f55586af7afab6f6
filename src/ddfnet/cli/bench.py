"""`ddfnet bench`: times the operator, the layer and networks against named rivals, and draws the results."""

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddfnet.cli.parsing import PICTURES, Parser, cpu_or_cuda, file_to_write, seconds, whole

if TYPE_CHECKING:
    from ddfnet.bench.cases import OpCase
    from ddfnet.bench.measure import Settings
    from ddfnet.bench.results import Result
    from ddfnet.bench.timers import ClockName

BOTH = "both"
LAYOUTS = ("nchw", "channels_last")
DTYPES = ("float32", "bfloat16", "float16", "float64")
OP_DIRECTIONS = ("forward", "forward+backward")
MODEL_DIRECTIONS = ("inference", "training")
QUICK_SECONDS = 0.05
SECONDS = 1.0

Skip = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """The work that the options ask for, checked."""

    settings: "Settings"
    measurements: int
    run: Callable[[Skip], Iterator[list["Result"]]]


def main(argv: list[str]) -> int:
    parser = Parser(prog="ddfnet bench", description=__doc__)
    _add_arguments(parser)
    args = parser.parse_args(argv)
    if args.benchmark == "plot":
        return _draw(args)
    return _measure(_models_job(args) if args.benchmark == "model" else _cases_job(args), args)


def _add_arguments(parser: Parser) -> None:
    """Add the benchmarks and their options."""
    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="op|layer|model|plot")
    for name, text in (("op", "ddf and ddf_up"), ("layer", "ddfnet.DDF and DDFUp, filter prediction included")):
        command = benchmarks.add_parser(name, help=f"time {text}", description=f"Times {text}, against rivals.")
        command.add_argument(
            "--cases", nargs="+", metavar="SET", help="cpu, table_a, table_2, up, small (default: by device)"
        )
        command.add_argument("--backend", nargs="+", default=["auto"], metavar="NAME", help="of ours (default: auto)")
        command.add_argument(
            "--rivals", nargs="*", metavar="NAME", help="ratios are to the first (default: all but compile and pac)"
        )
        _add_common(command, OP_DIRECTIONS)
    command = benchmarks.add_parser("model", help="time networks", description="Times networks against each other.")
    command.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="timm's names, NAME:free for one whose k x k layers cost nothing, or ddf_up_net_x8 and pac_joint_upsample_x8, "
        "any factor (default: the three mini networks)",
    )
    command.add_argument(
        "--input-size", nargs=3, type=whole(1), metavar=("C", "H", "W"), help="(default: each network's)"
    )
    command.add_argument("--batch", nargs="+", type=whole(1), default=[1, 32], metavar="N", help="(default: 1 32)")
    command.add_argument("--against", metavar="NAME", help="what ratios are to (default: the first that is not ours)")
    command.add_argument("--compile", action="store_true", help="time each network under torch.compile too")
    command.add_argument("--loading", action="store_true", help="time the loading of images beside the networks")
    command.add_argument("--images", type=Path, metavar="DIR", help="folder or tar files to load (default: made JPEGs)")
    command.add_argument("--workers", nargs="+", type=whole(0), metavar="N", help="that load images (default: 0 and 2)")
    _add_common(command, MODEL_DIRECTIONS)
    command = benchmarks.add_parser(
        "plot", help="draw a result file", description="Draws result files of one benchmark."
    )
    command.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="files of --csv or --json")
    command.add_argument(
        "--output", "-o", type=file_to_write(*PICTURES), required=True, metavar="FILE", help=".png, .svg or .pdf"
    )


def _add_common(command: Parser, directions: Sequence[str]) -> None:
    command.add_argument("--device", choices=("cpu", "cuda"), help="(default: cuda where there is one)")
    command.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"], help="(default: float32)")
    command.add_argument("--layout", choices=(*LAYOUTS, BOTH), default=BOTH, help="(default: both)")
    command.add_argument("--direction", choices=(*directions, BOTH), default=BOTH, help="(default: both)")
    command.add_argument(
        "--clock", nargs="+", choices=("queued", "eager", "graph"), help="on cuda; see ddfnet.bench.timers"
    )
    command.add_argument("--threads", type=whole(1), metavar="N", help="of PyTorch on the CPU (default: PyTorch's)")
    command.add_argument("--tf32", action=argparse.BooleanOptionalAction, help="on cuda (default: as PyTorch has it)")
    command.add_argument("--cudnn-benchmark", action="store_true", help="let cuDNN choose by trying")
    command.add_argument("--seconds", type=seconds, metavar="S", help=f"for each thing timed (default: {SECONDS})")
    command.add_argument("--quick", action="store_true", help="a look: the smallest cases, few samples")
    command.add_argument("--csv", type=file_to_write(".csv"), metavar="FILE", help="write the results")
    command.add_argument("--json", type=file_to_write(".json"), metavar="FILE", help="write the results")
    command.add_argument(
        "--plot", type=file_to_write(*PICTURES), metavar="FILE", help="draw the results: .png, .svg or .pdf"
    )


def _cases_job(args: argparse.Namespace) -> Job:
    from ddfnet.bench import layer, op, rivals
    from ddfnet.bench.cases import SETS
    from ddfnet.ops.ddf.api import KERNELS

    settings = _settings(args, OP_DIRECTIONS, ("queued",) if args.benchmark == "op" else ("graph", "eager"))
    is_op = args.benchmark == "op"
    known = dict.fromkeys((*(rivals if is_op else layer).RIVALS, *(rivals if is_op else layer).UP_RIVALS))
    names = args.cases or ["table_a" if settings.device == "cuda" else "cpu"]
    _check_names("--cases", names, SETS)
    _check_names("--backend", args.backend, ("auto", *KERNELS))
    _check_names("--rivals", args.rivals or (), known)
    if args.plot is not None and args.rivals == []:
        raise ValueError("--rivals: expected at least one, since --plot shows ratios, got none")
    cases = [case for name in dict.fromkeys(names) for case in SETS[name] if case.batch]
    if args.quick:
        cases = sorted(cases, key=_work)[:2]
    times = len(settings.dtypes) * len(settings.layouts) * len(settings.directions)
    run = op.run if is_op else layer.run
    return Job(
        settings,
        len(cases) * times,
        lambda skip: run(cases, settings, backends=args.backend, rivals=args.rivals, skip=skip),
    )


def _models_job(args: argparse.Namespace) -> Job:
    from ddfnet.bench import loading, model

    settings = _settings(args, MODEL_DIRECTIONS, ("eager",))
    size = args.input_size or (None if args.models else model.MINI_INPUT)
    networks = [model.create(name, size and tuple(size)) for name in dict.fromkeys(args.models or model.MINI)]
    names = [network.name for network in networks]
    against = args.against or next((name for name in names if not name.startswith("ddf")), names[0])
    _check_names("--against", [against], names)
    batches = sorted({min(args.batch)} if args.quick else set(args.batch))
    rounds = len(model.rounds(settings.directions, batches))
    if not args.loading and (args.images is not None or args.workers is not None):
        raise ValueError("--images and --workers: expected only with --loading")
    if args.images is not None and not args.images.exists():
        raise ValueError(f"--images: expected a folder of images, {args.images} is not there")

    def run(skip: Skip) -> "Iterator[list[Result]]":
        if args.loading:
            on_cpu = replace(settings, clocks=("cpu",))
            side, workers = networks[0].input_size[-1], args.workers or (0, 2)
            yield loading.run(args.images, on_cpu, size=side, batch=max(batches), workers=workers)
        yield from model.run(networks, settings, batches=batches, rival=against, compiled=args.compile, skip=skip)

    measurements = len(settings.dtypes) * len(settings.layouts) * rounds + bool(args.loading)
    return Job(settings, measurements, run)


def _settings(args: argparse.Namespace, directions: tuple[str, ...], clocks: "tuple[ClockName, ...]") -> "Settings":
    import torch

    from ddfnet.bench.measure import Settings
    from ddfnet.bench.results import environment

    device = cpu_or_cuda(args.device)
    if device == "cpu" and args.clock:
        raise ValueError("--clock: chooses among CUDA's clocks; the CPU has one")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.tf32 is not None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = args.cudnn_benchmark
    torch.manual_seed(0)
    return Settings(
        device=device,
        seconds=args.seconds or (QUICK_SECONDS if args.quick else SECONDS),
        clocks=("cpu",) if device == "cpu" else tuple(dict.fromkeys(args.clock or clocks)),
        directions=directions if args.direction == BOTH else (args.direction,),
        dtypes=tuple(dict.fromkeys(args.dtype)),
        layouts=LAYOUTS if args.layout == BOTH else (args.layout,),
        environment=environment(device),
    )


def _measure(job: Job, args: argparse.Namespace) -> int:
    """Run the job with a progress bar; rewrite the files after every measurement, so that a stop loses nothing."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from ddfnet.bench.plots import plot
    from ddfnet.bench.results import write
    from ddfnet.bench.tables import describe, tables

    results: list[Result] = []
    skipped: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Without auto_refresh no thread of the bar runs while something is timed.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        task = progress.add_task(f"bench {args.benchmark}", total=job.measurements)
        progress.refresh()
        for rows in job.run(skipped.append):
            results += rows
            for path in (args.csv, args.json):
                if path is not None:
                    write(results, path)
            progress.update(task, advance=1, refresh=True)

    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(describe(job.settings.environment), style="dim", highlight=False)
    for table in tables(results):
        console.print(table)
    for reason in skipped:
        console.print(reason, style="yellow", highlight=False)
    if args.plot is not None and results:
        plot(results, args.plot)
    for path in (args.csv, args.json, args.plot):
        if path is not None and results:
            console.print(f"wrote {path}", highlight=False)
    return 0 if results else 1


def _draw(args: argparse.Namespace) -> int:
    from ddfnet.bench.plots import plot
    from ddfnet.bench.results import read

    plot([row for path in args.results for row in read(path)], args.output)
    print(f"wrote {args.output}")
    return 0


def _check_names(option: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{option}: expected some of {', '.join(known)}, got {name!r}")


def _work(case: "OpCase") -> int:
    batch, channels, height, width = case.out_shape
    return batch * channels * height * width * case.kernel_size**2
