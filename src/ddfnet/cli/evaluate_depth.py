"""`ddfnet evaluate depth`: every way to upsample depth, classical and learned, at 4x, 8x and 16x on one data set."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ddfnet.cli.parsing import PICTURES, Parser, file_to_write, whole

if TYPE_CHECKING:
    from rich.table import Table

    from ddfnet.models.depth.joint_upsampling import JointUpsampler
    from ddfnet.tasks.depth import comparison


def _parser() -> Parser:
    from ddfnet.data.depth.protocols import PROTOCOLS

    parser = Parser(
        prog="ddfnet evaluate depth",
        usage="ddfnet evaluate depth [--data.dataset NAME] [--data.root PATH] [--factors N ...] [--protocol NAME]\n"
        "       [--runs RUN ...] [--images N] [--csv FILE] [--picture FILE]",
        description="Upsamples the depth of test images by interpolation, by kornia's joint bilateral and guided filters "
        "(tuned on training images), by the ConvexUpNet that ships, and by the networks of runs. Prints "
        "RMSE, MAE and the RMSE near depth edges, means over images. Protocols: "
        + "; ".join(f"{name}: {protocol.description}" for name, protocol in PROTOCOLS.items()),
    )
    parser.add_argument(
        "--data.dataset",
        dest="dataset",
        default="motorcycle",
        choices=("motorcycle", "nyu", "scenes", "folder"),
        help="(default: motorcycle, its test part)",
    )
    parser.add_argument("--data.root", dest="root", type=Path, help="nyu: the .mat file; folder: the folder")
    parser.add_argument(
        "--factors", nargs="+", type=int, choices=(2, 4, 8, 16), default=[4, 8, 16], help="(default: 4 8 16)"
    )
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="pac", help="(default: pac)")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], metavar="RUN", help="their best checkpoints too")
    parser.add_argument("--images", type=whole(1), metavar="N", help="no more than so many test images")
    parser.add_argument("--csv", type=file_to_write(".csv"), metavar="FILE", help="write the scores")
    parser.add_argument(
        "--picture", type=file_to_write(*PICTURES), metavar="FILE", help="draw the first test image: .png, .svg or .pdf"
    )
    return parser


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)

    import platform
    from datetime import UTC, datetime

    import torch
    from rich.console import Console

    from ddfnet.models.depth import convex_up_net
    from ddfnet.tasks.depth import comparison
    from ddfnet.tasks.depth.rivals import Method
    from ddfnet.tasks.run.folder import versions

    console = Console()
    data = comparison.find(args.dataset, args.root, images=args.images)
    shipped = comparison.ByConvexUpNet(convex_up_net.pretrained())
    networks: dict[str, dict[int, Method]] = {"ConvexUpNet (ships)": dict.fromkeys(args.factors, shipped)}
    for path in args.runs:
        name, network = _network_of_run(path)
        networks[f"{name} ({path.name})"] = {network.scale_factor: comparison.ByNetwork(network)}
    command = shlex.join(["ddfnet", "evaluate", "depth", *argv])
    where = {
        "device": f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        **versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    found = []
    with console.status("") as status:
        for scored in comparison.compare(
            data, networks, factors=args.factors, protocol=args.protocol, tell=status.update
        ):
            found.append(scored)
            if args.csv is not None:
                comparison.write([score for score, _ in found], args.csv, where)
    if args.picture is not None:
        comparison.draw(data, found, args.picture)
    console.print(_table(data, [score for score, _ in found]))
    return 0


def _table(data: "comparison.Compared", scores: "list[comparison.Score]") -> "Table":
    """Return a table with a line for each method and a column for each factor: RMSE / MAE / RMSE near edges."""
    from rich.table import Table

    from ddfnet.data.depth.protocols import protocol_of

    protocol = scores[0].protocol
    table = Table(
        title=f"{data.name}, {scores[0].images:,} image{'s' * (scores[0].images > 1)}; protocol {protocol}: "
        f"{protocol_of(protocol).description}",
        caption=f"RMSE / MAE / RMSE near edges in {scores[0].unit}, means over images, without a border of "
        f"{protocol_of(protocol).border} pixels. Filters tuned on {data.tuned_on}.",
        title_justify="left",
        caption_justify="left",
    )
    factors = list(dict.fromkeys(score.factor for score in scores))
    table.add_column("method")
    for factor in factors:
        table.add_column(f"{factor}x", justify="right")
    for method in dict.fromkeys(score.method for score in scores):
        cells = {
            score.factor: f"{score.rmse:.3f} / {score.mae:.3f} / {score.edge_rmse:.3f}"
            for score in scores
            if score.method == method
        }
        table.add_row(method, *(cells.get(factor, "") for factor in factors))
    return table


def _network_of_run(path: Path) -> "tuple[str, JointUpsampler]":
    """Return the name and the network of a depth run, with the weights of its best epoch."""
    from ddfnet.cli.experiment import quiet
    from ddfnet.tasks.depth.task import DepthUpsampling
    from ddfnet.tasks.run.loading import load_run

    quiet()
    task = load_run(path).task
    if not isinstance(task, DepthUpsampling):
        raise ValueError(f"--runs: expected runs that upsample depth, got {path}, of {type(task).__name__}")
    return task.name, task.network
