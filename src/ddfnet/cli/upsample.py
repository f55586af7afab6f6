"""`ddfnet upsample DEPTH RGB -o OUT`: depth maps at the resolution of the RGB images over them, one pair or a folder."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ddfnet.cli.parsing import Parser

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ddfnet.data.depth.files import DepthMap

DESCRIPTION = """\
Upsamples depth or disparity maps to the size of the RGB images over them, with the weights that ship. Any ratio of the
sizes from 1 up, any unit. Unknown pixels are filled: 0, NaN, inf, a negative value if it is the only one beside positive
ones, 65535 in 16 bits if it is far from all others. With folders, such as the frames of a video, every pair of files of
one name."""
FORMATS_TOLD = "PNG, PGM, PFM, TIFF, EXR, NPY or NPZ"
KIND = re.compile(r"(^|[_.-])(rgb|image|colou?r|depth|disparity|disp)(?=$|[_.-])", re.IGNORECASE)


class Job(NamedTuple):
    """The files of one pair; None for those not wanted."""

    depth: Path
    rgb: Path
    out: Path
    confidence: Path | None = None
    preview: Path | None = None
    point_cloud: Path | None = None
    truth: Path | None = None

    @property
    def written(self) -> dict[str, Path]:
        named = {
            "--out": self.out,
            "--confidence": self.confidence,
            "--preview": self.preview,
            "--point-cloud": self.point_cloud,
        }
        return {name: path for name, path in named.items() if path is not None}


def main(argv: list[str]) -> int:
    options = _parser().parse_args(_joined(argv, "--unknown"))
    if (options.point_cloud is None) != (options.intrinsics is None):
        raise ValueError("--point-cloud, --intrinsics: expected both or neither")
    jobs = _jobs(options) if options.DEPTH.is_dir() else [_job(options)]
    for job in jobs:
        _check_paths(job)

    from PIL import Image

    from ddfnet.models.depth.upsample import TILE

    options.device = _device(options.device)
    options.tile = TILE if options.tile is None else options.tile
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None if options.large else limit
    try:
        if options.DEPTH.is_dir():
            return _run_all(jobs, options)
        with _progress("upsampling") as progress:
            lines = _run(jobs[0], options, progress)
        print("\n".join(lines))
        return 0
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _parser() -> Parser:
    parser = Parser(prog="ddfnet upsample", description=DESCRIPTION)
    add: Callable[..., Any] = parser.add_argument
    add("DEPTH", type=Path, help=f"{FORMATS_TOLD}, or a folder of them")
    add("RGB", type=Path, help="an image of the same view, or a folder of images with the names of the depth maps")
    add("-o", "--out", type=Path, required=True, metavar="OUT", help=f"file to write, {FORMATS_TOLD}; or a folder")
    add(
        "--samples",
        choices=("average", "point"),
        default="average",
        help="what a pixel of DEPTH is: the mean over the image pixels it covers, as of sensors and resizing (default); or"
        " the depth at one image pixel, as subsampling makes it",
    )
    add("--zero-is-known", action="store_true", help="0 is a depth, and does not mark unknown pixels")
    add(
        "--unknown",
        type=float,
        action="append",
        default=[],
        metavar="VALUE",
        help="a further value that marks unknown pixels; repeat the option for each",
    )
    add(
        "--scale",
        type=float,
        metavar="X",
        help="multiply the depths that are written: 1000 makes millimetres of metres",
    )
    add("--format", metavar="SUFFIX", help="of the files in the folder OUT (default: as DEPTH's)")
    add(
        "--confidence",
        type=Path,
        metavar="FILE",
        help="write how far the depths agree that each pixel mixes, 0 to 1 (in PNG and PGM 0 to 255)",
    )
    add("--preview", type=Path, metavar="PNG", help="draw RGB, input, bicubic upsampling and result")
    add("--point-cloud", type=Path, metavar="PLY", help="write coloured points; needs --intrinsics, and a depth")
    add(
        "--intrinsics",
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="of RGB's camera: focal lengths and principal point in pixels",
    )
    add("--truth", type=Path, metavar="FILE", help="full depth in DEPTH's unit: print the error, and draw it")
    add("--large", action="store_true", help="read images above Pillow's limit (179 megapixels), which you trust")
    add("--device", metavar="NAME", help="(default: cuda where there is one, else cpu)")
    add(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="side of what is computed at once (default: 1280); memory grows with its square, and the time with its inverse",
    )
    return parser


def _job(options: argparse.Namespace) -> Job:
    extra = (options.confidence, options.preview, options.point_cloud, options.truth)
    return Job(options.DEPTH, options.RGB, options.out, *extra)


def _jobs(options: argparse.Namespace) -> list[Job]:
    """Pair the files of two folders by their names without suffix and without words such as "depth" and "rgb"."""
    from ddfnet.data.depth.files import FORMATS

    for name in ("DEPTH", "RGB"):
        if not getattr(options, name).is_dir():
            raise ValueError(f"{name}: expected a folder, as the other is one, got {getattr(options, name)}")
    depths, images = _by_name(options.DEPTH, FORMATS), _by_name(options.RGB, ())
    suffix = options.format and "." + options.format.removeprefix(".").lower()
    if suffix and suffix not in FORMATS:
        raise ValueError(f"--format: expected one of {', '.join(FORMATS)}, got {options.format!r}")
    truths = {} if options.truth is None else _by_name(options.truth, FORMATS)
    folders = (options.out, options.confidence, options.preview, options.point_cloud)
    for folder in folders:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def inside(folder: Path | None, name: str) -> Path | None:
        return None if folder is None else folder / name

    jobs = []
    for key, depth in depths.items():
        stem, kind = depth.stem, suffix or depth.suffix
        jobs.append(
            Job(
                depth,
                images.get(key, options.RGB / f"{stem}.*"),
                options.out / f"{stem}{kind}",
                inside(options.confidence, f"{stem}.png"),
                inside(options.preview, f"{stem}.png"),
                inside(options.point_cloud, f"{stem}.ply"),
                truths.get(key, options.truth / f"{stem}.*") if options.truth else None,
            )
        )
    if not jobs:
        raise ValueError(f"DEPTH: expected depth maps in {', '.join(FORMATS)}, found none in {options.DEPTH}")
    for key in sorted(images.keys() - depths.keys()):
        print(f"note: {images[key]} has no depth map of its name", file=sys.stderr)
    return jobs


def _by_name(folder: Path, suffixes: Sequence[str] | Mapping[str, Any]) -> dict[str, Path]:
    """Return a folder's files, with one of the suffixes if any are given, by the part of the name that a pair shares."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or (suffixes and path.suffix.lower() not in suffixes):
            continue
        key = KIND.sub("", path.stem).strip("_.-")
        if key in found:
            raise ValueError(f"{path}: expected one file of the name {key!r}, found {found[key].name} too")
        found[key] = path
    return found


def _run_all(jobs: Sequence[Job], options: argparse.Namespace) -> int:
    """Upsample every pair; name those that fail and go on. Return the exit code: 1 if any failed."""
    failed = 0
    with _progress("pairs") as progress:
        for number, job in enumerate(jobs, 1):
            try:
                print("\n".join(_run(job, options, None)))
            except Exception as error:
                if "DDFNET_TRACEBACK" in os.environ:
                    raise
                failed += 1
                print(f"failed: {job.depth}: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
            progress(number, len(jobs))
    if failed:
        print(f"ddfnet upsample: {failed} of {len(jobs)} pairs failed", file=sys.stderr)
    return int(failed > 0)


def _run(job: Job, options: argparse.Namespace, progress: Callable[[int, int], None] | None) -> list[str]:
    """Upsample one pair and write its files; lines on what was done."""
    import numpy as np

    from ddfnet.data.depth.files import format_of, read_depth, read_rgb, write_depth
    from ddfnet.models.depth.upsample import upsample_depth

    format_of(job.out)
    depth = read_depth(job.depth, unknown=options.unknown, zero_is_known=options.zero_is_known)
    rgb = read_rgb(job.rgb)
    _check_turn(job.rgb, rgb.shape[:2], depth.values.shape)
    truth = _truth(job.truth, rgb.shape[:2], options)
    for note in _notes(job, depth, options.unknown):
        print(f"note: {note}", file=sys.stderr)
    found = upsample_depth(
        depth.values,
        rgb,
        samples=options.samples,
        zero_is_known=True,  # the reader has marked what is unknown
        confidence=job.confidence is not None,
        device=options.device,
        tile=options.tile,
        progress=progress,
    )
    result = found if job.confidence is None else found[0]
    write_depth(job.out, depth.bounded(result), depth, scale=options.scale)
    (h, w), (height, width) = depth.values.shape, result.shape
    unknown = int(np.isnan(depth.values).sum())
    marked = "".join(f", {count} of them {_number(mark)}" for mark, count in depth.marks.items())
    filled = f", {unknown} unknown pixel{'s' * (unknown > 1)} filled{marked}" if unknown else ""
    lines = [f"{job.out}: {height}x{width}, from {h}x{w}{filled}"]
    if job.confidence is not None:
        _write_confidence(job.confidence, found[1])
        lines.append(str(job.confidence))
    if job.point_cloud is not None:
        lines.append(_point_cloud(job.point_cloud, result, rgb, options))
    return lines + _compared(job, depth, rgb, result, truth, options.samples)


def _truth(path: Path | None, size: tuple[int, ...], options: argparse.Namespace) -> "NDArray[np.float32] | None":
    if path is None:
        return None
    import numpy as np

    from ddfnet.data.depth.files import read_depth

    truth = read_depth(path, unknown=options.unknown, zero_is_known=options.zero_is_known).values
    if truth.shape != size:
        expected, got = ("x".join(map(str, shape)) for shape in (size, truth.shape))
        raise ValueError(f"--truth: expected a map of the size of RGB, {expected}, got {got}: {path}")
    if not np.isfinite(truth).any():
        raise ValueError(f"--truth: expected at least one known pixel, got none: {path}")
    return truth


def _write_confidence(path: Path, confidence: "NDArray[np.floating[Any]]") -> None:
    import numpy as np

    from ddfnet.data.depth.files import format_of

    chosen = format_of(path)
    if chosen.dtype(np.dtype("f4")).kind == "f":
        numbers: NDArray[Any] = confidence.astype(np.float32)
    else:
        numbers = np.round(255 * confidence).astype(np.uint8)
    from ddfnet.atomic import whole_or_absent

    with whole_or_absent(path) as partial:
        chosen.write(partial, numbers)


def _point_cloud(
    path: Path, depth: "NDArray[np.floating[Any]]", rgb: "NDArray[np.uint8]", options: argparse.Namespace
) -> str:
    from ddfnet.data.depth.point_cloud import Intrinsics, write_point_cloud

    scaled = depth if options.scale is None else depth * options.scale
    count = write_point_cloud(path, scaled, rgb, Intrinsics(*options.intrinsics))
    return f"{path}: {count} points"


def _compared(
    job: Job,
    depth: "DepthMap",
    rgb: "NDArray[np.uint8]",
    result: "NDArray[np.floating[Any]]",
    truth: "NDArray[np.float32] | None",
    samples: Any,
) -> list[str]:
    """Compare with bicubic upsampling: the errors against the truth, and the picture. Return lines about them."""
    if truth is None and job.preview is None:
        return []
    import numpy as np
    import torch

    from ddfnet.models.depth.upsample import bicubic_depth

    bicubic = bicubic_depth(torch.from_numpy(depth.values), rgb.shape[:2], samples=samples).numpy()
    lines = []
    if truth is not None:
        for name, found in (("bicubic", bicubic), ("ours", result)):
            error = (found - truth).astype(np.float64)
            rmse, mae = np.sqrt(np.nanmean(np.square(error))), np.nanmean(np.abs(error))
            lines.append(f"{name:<8} RMSE {rmse:.6g}  MAE {mae:.6g} {depth.unit}".rstrip())
    if job.preview is not None:
        from ddfnet.tasks.depth.preview import draw_preview

        draw_preview(rgb, depth.values, bicubic, result, job.preview, truth=truth, unit=depth.unit)
        lines.append(str(job.preview))
    return lines


def _check_turn(path: Path, size: tuple[int, ...], low: tuple[int, ...]) -> None:
    """Raise ValueError if the depth map fits the photograph as stored, but not as its EXIF orientation turns it."""
    from ddfnet.data.depth.files import orientation
    from ddfnet.models.depth.upsample import check_sizes

    try:
        check_sizes(low, size)
    except ValueError:
        if orientation(path) < 5:
            raise
        check_sizes(low, size[::-1])  # else that is what is wrong
        stored, shown = ("x".join(map(str, sides)) for sides in (size[::-1], size))
        raise ValueError(
            f"{path}: its EXIF orientation turns it from {stored} to {shown}, and the depth map of"
            f" {'x'.join(map(str, low))} fits it unturned; turn the depth map too, or remove the orientation"
        ) from None


def _notes(job: Job, depth: "DepthMap", named: Sequence[float]) -> Iterator[str]:
    """Yield sentences on what was decided for the user, and on values of DEPTH that may not be depths."""
    import numpy as np

    from ddfnet.data.depth.files import orientation

    turned = orientation(job.rgb)
    if turned != 1:
        yield f"{job.rgb} is turned upright, as its EXIF orientation {turned} says"
    with np.errstate(over="ignore"):
        rounded = {float(np.asarray(value).astype(depth.dtype if depth.dtype.kind == "f" else "f8")) for value in named}
    for value in sorted(rounded - depth.marks.keys()):
        if np.isfinite(value) and value:
            yield f"no pixel of DEPTH is {_number(value)}, which --unknown names"
    for mark in depth.marks.keys() - rounded:
        kind = "the only negative value of DEPTH" if mark < 0 else "far from all other values of DEPTH"
        yield f"{_number(mark)}, {kind}, is taken for unknown"
    known = depth.values[~np.isnan(depth.values)]
    negative = known[known < 0]
    if 0 < 2 * negative.size < known.size:
        span = " to ".join(dict.fromkeys(_number(end) for end in (negative.min(), negative.max())))
        many = f"{negative.size} of {known.size} known pixels"
        yield f"negative depths, {span}, in {many}, taken as they are; --unknown names those that mark unknown pixels"


def _joined(argv: list[str], option: str) -> list[str]:
    """Write `option=-1e4` for `option -1e4`, which argparse would take for another option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == option:
            joined[-1] = f"{option}={argument}"
        else:
            joined.append(argument)
    return joined


def _number(value: float) -> str:
    """Write the fewest digits that identify the number among float32 numbers, or float64 ones if it is none of those."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore"):
        short = np.float32(value)
    return str(short if np.isfinite(short) and short else float(value)).removesuffix(".0")


def _check_paths(job: Job) -> None:
    """Raise ValueError if a file can't be written, or would replace one that is read."""
    taken = {"DEPTH": job.depth, "RGB": job.rgb, **({} if job.truth is None else {"--truth": job.truth})}
    for option, path in job.written.items():
        if not path.parent.is_dir():
            raise ValueError(f"{option}: the folder {path.parent} is not there")
        if path.is_dir():
            raise ValueError(f"{option}: expected a file, found a folder: {path}")
        for name, other in taken.items():
            if other.resolve() == path.resolve():
                raise ValueError(f"{option}: expected another file than {name}, got {path}")
        taken[option] = path
    for option, suffix in (("--preview", ".png"), ("--point-cloud", ".ply")):
        if option in taken and taken[option].suffix.lower() != suffix:
            raise ValueError(f"{option}: expected a name that ends in {suffix}, got {taken[option]}")


def _device(name: str | None) -> "torch.device":
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):  # of PyTorch: no such name; built without it, or none there
        device = torch.device("meta")
    if device.type == "meta":
        raise ValueError(f"--device: expected a device that is there, got {name!r}")
    return device


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on the terminal for the windows or pairs that are done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
