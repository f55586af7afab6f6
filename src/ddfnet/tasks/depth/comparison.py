"""All ways to upsample depth, scored side by side on one data set by one protocol: Table 7's question, on any images."""

import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddfnet.atomic import whole_or_absent, write_text
from ddfnet.data.depth.generated import GeneratedScenes
from ddfnet.data.depth.nyu import NYUDepth
from ddfnet.data.depth.photographs import Motorcycle, RGBDFolder, RGBDImages
from ddfnet.data.depth.protocols import low_resolution, protocol_of
from ddfnet.models.depth.convex_up_net import ConvexUpNet, Samples
from ddfnet.models.depth.joint_upsampling import JointUpsampler
from ddfnet.ops.fill_unknown import fill_unknown
from ddfnet.tasks.depth.data import FirstImages, ScoredSplit
from ddfnet.tasks.depth.metrics import DepthErrors, depth_errors
from ddfnet.tasks.depth.pictures import draw_line
from ddfnet.tasks.depth.rivals import Filter, GuidedFilter, Interpolation, JointBilateral, Method, tune
from ddfnet.tasks.depth.task import upsample

Dataset = Literal["motorcycle", "nyu", "scenes", "folder"]
UNSEEN_SCENES = 2  # seed of the scenes that "scenes" scores: neither of training nor of validation
SCENES = 32
TUNED_ON = 4  # training images that filters are tuned on, at most,
TUNED_SIDE = 256  # the middle of each
FILTERS: dict[str, Filter] = {
    "joint bilateral": JointBilateral("bicubic", sigma_space=0.5, sigma_colour=0.1),
    "guided filter": GuidedFilter("bicubic", radius=0.5, eps=1e-4),
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One method on one data set: means over images, in `unit`."""

    dataset: str
    images: int
    protocol: str
    factor: int
    method: str
    rmse: float
    mae: float
    edge_rmse: float
    unit: str
    options: str = ""  # a filter's, and what they were tuned on
    seconds: float  # an image


@dataclass(frozen=True)
class Compared:
    """A data set to score on, and the images for training that filters are tuned on."""

    name: str
    test: ScoredSplit
    tuning: RGBDImages
    tuned_on: str


def find(dataset: Dataset, root: Path | None, *, images: int | None = None) -> Compared:
    """Return the test images of a data set.

    Filters are tuned on the training images of the same data set: the first four of NYU, the Motorcycle's training part;
    those of "scenes" and "folder", which have none, on the Motorcycle's. They are never tuned on what is scored.

    Args:
        root: of "nyu" the file, of "folder" the folder.
        images: no more than so many test images.

    Raises:
        ValueError: `root` is missing, or given for a data set that has none.
    """
    if (root is None) == (dataset in ("nyu", "folder")):
        wanted = {"nyu": "the file nyu_depth_v2_labeled.mat", "folder": "a folder of pairs"}.get(dataset, "none")
        raise ValueError(f"data.root: expected {wanted} with dataset={dataset!r}, got {root}")
    test: RGBDImages
    tuning: RGBDImages = Motorcycle("train")
    name, tuned_on, relative = str(dataset), "the Motorcycle's training part", False
    if dataset == "motorcycle":
        name, test = "motorcycle (test)", Motorcycle("test")
    elif dataset == "scenes":
        name, relative = f"scenes (seed {UNSEEN_SCENES})", True
        test = GeneratedScenes(SCENES, seed=UNSEEN_SCENES)
    elif dataset == "nyu" and root is not None:
        name, test, tuning = "nyu (test)", NYUDepth(root, "test"), FirstImages(NYUDepth(root, "train"), TUNED_ON)
        tuned_on = f"the first {len(tuning)} training images"
    elif root is not None:
        test = RGBDFolder(root)
    return Compared(
        name, ScoredSplit(test if images is None else FirstImages(test, images), relative=relative), tuning, tuned_on
    )


def compare(
    data: Compared,
    networks: Mapping[str, Mapping[int, Method]],
    *,
    factors: Sequence[int],
    protocol: str = "pac",
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Score, Tensor]]:
    """Return the scores of every method at every factor, and what it made of the first image (H, W).

    Args:
        networks: by name and factor; at a factor it has none for, a name is left out.
        tell: called with a line about each step.
    """
    for factor in factors:
        methods: dict[str, tuple[Method, str]] = {
            mode: (Interpolation(mode), "") for mode in ("nearest", "bilinear", "bicubic")
        }
        for name, start in FILTERS.items():
            tell(f"{factor}x: tuning the {name}")
            tuned = tuned_filter(start, data.tuning, factor=factor, protocol=protocol)
            options = ", ".join(f"{option}={value}" for option, value in asdict(tuned).items())
            methods[name] = (tuned, f"{options}; tuned on {data.tuned_on}")
        for name, by_factor in networks.items():
            if factor in by_factor:
                methods[name] = (by_factor[factor], "")
        for name, (method, options) in methods.items():
            tell(f"{factor}x: {name}")
            yield _score(data, name, method, options, factor=factor, protocol=protocol)


@dataclass(frozen=True)
class ByConvexUpNet:
    """A `ConvexUpNet` as a `Method`."""

    network: ConvexUpNet

    def __call__(self, low: Tensor, rgb: Tensor, *, factor: int, protocol: str) -> Tensor:
        samples: Samples = "point" if protocol_of(protocol).subsampled else "average"
        device = next(self.network.parameters()).device
        with torch.no_grad():
            found: Tensor = self.network(low.to(device), rgb.to(device), samples=samples)
        return found.cpu()


@dataclass(frozen=True)
class ByNetwork:
    """A `DDFUpNet` or `PacJointUpsample` as a `Method`."""

    network: JointUpsampler

    def __call__(self, low: Tensor, rgb: Tensor, *, factor: int, protocol: str) -> Tensor:
        device = next(self.network.parameters()).device
        with torch.no_grad():
            return upsample(self.network, low.to(device), rgb.to(device)).cpu()


def tuned_filter(start: Filter, images: RGBDImages, *, factor: int, protocol: str) -> Filter:
    """Return the filter of least RMSE, a mean over the middles of the images, each in parts of its range."""
    split = ScoredSplit(FirstImages(images, TUNED_ON), relative=True)
    middles = [tuple(_middle(tensor) for tensor in split.tensors(index)) for index in range(len(split))]

    def error(candidate: Filter) -> float:
        return statistics.fmean(
            depth_errors(
                _upsampled(candidate, rgb, depth, factor=factor, protocol=protocol),
                depth[0],
                border=protocol_of(protocol).border,
            ).rmse
            for rgb, depth in middles
        )

    best, _ = tune(start, error, protocol=protocol)
    return best


def _middle(tensor: Tensor) -> Tensor:
    height, width = (min(length, TUNED_SIDE) for length in tensor.shape[-2:])
    top, left = ((length - side) // 2 for length, side in zip(tensor.shape[-2:], (height, width), strict=True))
    return tensor[..., top : top + height, left : left + width]


def _upsampled(method: Method, rgb: Tensor, depth: Tensor, *, factor: int, protocol: str) -> Tensor:
    """Return (H, W) from rgb (3, H, W) and the low resolution of depth (1, H, W). All methods get the same filled map."""
    low = fill_unknown(low_resolution(depth, factor, protocol))
    return method(low[None], rgb[None], factor=factor, protocol=protocol)[0, 0]


def _score(
    data: Compared, name: str, method: Method, options: str, *, factor: int, protocol: str
) -> tuple[Score, Tensor]:
    errors: list[DepthErrors] = []
    first, seconds = torch.empty(0), 0.0
    for index in range(len(data.test)):
        rgb, depth = data.test.tensors(index)
        since = time.perf_counter()
        found = _upsampled(method, rgb, depth, factor=factor, protocol=protocol)
        seconds += time.perf_counter() - since
        errors.append(depth_errors(found, depth[0], border=protocol_of(protocol).border))
        first = found if index == 0 else first
    means = {
        field: statistics.fmean(values) if values else math.nan
        for field in DepthErrors._fields
        if (values := [value for error in errors if not math.isnan(value := getattr(error, field))]) is not None
    }
    return (
        Score(
            dataset=data.name,
            images=len(data.test),
            protocol=protocol,
            factor=factor,
            method=name,
            **{field: round(value, 6) for field, value in means.items()},
            unit=data.test.unit,
            options=options,
            seconds=round(seconds / len(data.test), 4),
        ),
        first,
    )


def write(scores: Sequence[Score], path: Path, where: Mapping[str, Any]) -> None:
    """Write a row a score as CSV, each with `where` it was measured: device, versions, date, command."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*(field.name for field in fields(Score)), *where], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(score), **where} for score in scores)
    write_text(path, text.getvalue())


def draw(data: Compared, found: Sequence[tuple[Score, Tensor]], path: Path) -> None:
    """Draw the first image: a line a factor, with bicubic, the best of the classical methods and the last network."""
    factors = list(dict.fromkeys(score.factor for score, _ in found))
    lines = []
    for factor in factors:
        of_factor = [(score, depth) for score, depth in found if score.factor == factor]
        by_name = {score.method: depth for score, depth in of_factor}
        classical = [score for score, _ in of_factor if score.method in (*FILTERS, "nearest", "bilinear")]
        names = ["bicubic", min(classical, key=lambda score: score.rmse).method]
        names += [name for name in by_name if name not in (*FILTERS, "nearest", "bilinear", "bicubic")][:1]
        lines.append((factor, {name: by_name[name] for name in names}))
    columns = 3 + 2 * max(len(methods) for _, methods in lines)
    protocol = found[0][0].protocol
    rgb, truth = data.test.tensors(0)
    width = 2.2 * truth.shape[2] / truth.shape[1] * 1.6
    figure = Figure(figsize=(max(1.5, width) * columns, 3.8 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False)
    for line, (factor, methods) in zip(axes, lines, strict=True):
        low = low_resolution(truth, factor, protocol)[0]
        margin = protocol_of(protocol).border
        draw_line(line, rgb, low, truth[0], methods, border=margin, unit=data.test.unit)
        line[0].set_ylabel(f"{factor}x")
    figure.suptitle(f"{data.name}, protocol {protocol}; errors are RMSE in {data.test.unit}")
    with whole_or_absent(path) as partial:
        figure.savefig(partial, dpi=110)
