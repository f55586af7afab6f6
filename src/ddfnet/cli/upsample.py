"""`ddfnet upsample DEPTH RGB -o OUT`: a depth map at the resolution of the RGB image over it."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ddfnet.data.depth.files import DepthMap


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ddfnet upsample",
        description="Upsamples a depth or disparity map to the size of the RGB image over it, with the weights that ship. "
        "Any ratio of the sizes from 1 up, any unit: the result is in the format and the unit of DEPTH. Unknown pixels (0, "
        "NaN, inf, a negative value if it is the only one beside positive ones) are filled.",
    )
    parser.add_argument("DEPTH", type=Path, help="16-bit PNG, TIFF or NPY")
    parser.add_argument("RGB", type=Path, help="an image of the same view")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="to write, in the format of DEPTH")
    parser.add_argument(
        "--unknown",
        type=float,
        action="append",
        default=[],
        metavar="VALUE",
        help="what else marks unknown pixels, 65535 for one; repeat the option for each such value",
    )
    parser.add_argument("--preview", type=Path, metavar="PNG", help="draw RGB, input, bicubic upsampling and result")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="full depth in DEPTH's unit: tell the error, and draw it"
    )
    parser.add_argument("--device", metavar="NAME", help="(default: cuda where there is one, else cpu)")
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="side of what is computed at once (default: 1536); memory is by its square, and much below 400 time explodes, "
        "for windows overlap",
    )
    options = parser.parse_args(_joined(argv, "--unknown"))
    _check_paths(options)

    import numpy as np

    from ddfnet.data.depth.files import KINDS, read_depth, read_rgb, write_depth

    depth, rgb = read_depth(options.DEPTH, unknown=options.unknown), read_rgb(options.RGB)
    if KINDS.get(options.out.suffix.lower()) != depth.kind:
        endings = " or ".join(suffix for suffix, kind in KINDS.items() if kind == depth.kind)
        raise ValueError(f"--out: expected a name that ends in {endings}, the format of DEPTH, got {options.out}")
    truth = None if options.truth is None else read_depth(options.truth, unknown=options.unknown).values
    if truth is not None and truth.shape != rgb.shape[:2]:
        expected, size = ("x".join(map(str, shape)) for shape in (rgb.shape[:2], truth.shape))
        raise ValueError(f"--truth: expected a map of the size of RGB, {expected}, got {size}: {options.truth}")
    if truth is not None and not np.isfinite(truth).any():
        raise ValueError(f"--truth: expected at least one known pixel, got none: {options.truth}")

    import torch

    from ddfnet.models.depth.upsample import TILE, bicubic_depth, upsample_depth

    device = _device(options.device)
    for note in _notes(depth, options.unknown):
        print(f"note: {note}", file=sys.stderr)
    with _progress() as progress:
        tile = TILE if options.tile is None else options.tile
        result = upsample_depth(depth.values, rgb, device=device, tile=tile, progress=progress)
    write_depth(options.out, result, depth)
    (h, w), (height, width) = depth.values.shape, result.shape
    unknown = int(np.isnan(depth.values).sum())
    marked = "".join(f", {count} of them {_number(mark)}" for mark, count in depth.marks.items())
    filled = f", {unknown} unknown pixel{'s' * (unknown > 1)} filled{marked}" if unknown else ""
    print(f"{options.out}: {height}x{width}, from {h}x{w}{filled}")
    if truth is None and options.preview is None:
        return 0

    from ddfnet.tasks.depth.preview import draw_preview, rmse

    bicubic = bicubic_depth(torch.from_numpy(depth.values), rgb.shape[:2]).numpy()
    if truth is not None:
        for name, found in (("bicubic", bicubic), ("ours", result)):
            error = found - truth
            print(f"{name:<8} RMSE {rmse(error):.6g}  MAE {np.nanmean(np.abs(error)):.6g} {depth.unit}".rstrip())
    if options.preview is not None:
        draw_preview(rgb, depth.values, bicubic, result, options.preview, truth=truth, unit=depth.unit)
        print(options.preview)
    return 0


def _joined(argv: list[str], option: str) -> list[str]:
    """With `option=-1e4` for `option -1e4`, which argparse would take for another option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == option:
            joined[-1] = f"{option}={argument}"
        else:
            joined.append(argument)
    return joined


def _notes(depth: "DepthMap", named: Sequence[float]) -> Iterator[str]:
    """Sentences about values of DEPTH that may not be depths."""
    import numpy as np
    import torch

    from ddfnet.models.depth.range import FAR, inlier_range

    with np.errstate(over="ignore"):
        rounded = {float(np.asarray(value).astype(depth.dtype if depth.dtype.kind == "f" else "f4")) for value in named}
    for value in sorted(rounded - depth.marks.keys()):
        if np.isfinite(value) and value:
            yield f"no pixel of DEPTH is {_number(value)}, which --unknown names"
    for mark in depth.marks.keys() - rounded:
        yield f"{_number(mark)}, the only negative value of DEPTH, is taken for unknown"
    known = depth.values[~np.isnan(depth.values)]
    if not known.size:
        return
    advice = "; if that marks unknown pixels, name it by --unknown"
    negative = known[known < 0]
    if 0 < 2 * negative.size < known.size:
        many = f"{negative.size} of {known.size} known pixels"
        yield f"negative depths, {_span(negative)}, in {many}, taken as they are{advice}"
    least, greatest = inlier_range(torch.from_numpy(known).double())
    inlying = (known >= least) & (known <= greatest)
    far_off = known[~inlying]
    if far_off.size:
        found = f"{_span(far_off)}, in {far_off.size} of {known.size} known pixels"
        yield f"far off all else ({_span(known[inlying])}): {found}{advice}"
    elif depth.dtype == np.uint16 and known.max() == np.iinfo(np.uint16).max > known.min():
        count = int((known == known.max()).sum())
        yield f"65535, the greatest that 16 bits hold, in {count} of {known.size} known pixels, taken as it is{advice}"
    elif known.min() == known.max() and (known[0] < 0 or known[0] == np.iinfo(np.uint16).max):
        yield f"{_number(known[0])} in all known pixels, taken as it is{advice}"
    else:
        for value in (float(known.min()), float(known.max())):
            rest = known[known != value]
            apart = min(abs(float(rest.min()) - value), abs(float(rest.max()) - value)) if rest.size else 0.0
            if 2 * rest.size < known.size and rest.size and apart >= FAR * (float(rest.max()) - float(rest.min())):
                count = known.size - rest.size
                yield f"{_number(value)}, far from all else, in {count} of {known.size} known pixels, taken as it is{advice}"


def _span(values: "NDArray[np.float32]") -> str:
    least, greatest = _number(values.min()), _number(values.max())
    return least if least == greatest else f"{least} to {greatest}"


def _number(value: float) -> str:
    """In as few digits as tell it from other float32 numbers, or from other float64 ones where it is none of those."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore"):
        short = np.float32(value)
    return str(short if np.isfinite(short) and short else float(value)).removesuffix(".0")


def _check_paths(options: argparse.Namespace) -> None:
    """ValueError where what is to be written can't be, or would replace what is to be read."""
    read = {"DEPTH": options.DEPTH, "RGB": options.RGB, "--truth": options.truth}
    for option, path in (("--out", options.out), ("--preview", options.preview)):
        if path is None:
            continue
        if not path.parent.is_dir():
            raise ValueError(f"{option}: the folder {path.parent} is not there")
        if path.is_dir():
            raise ValueError(f"{option}: expected a file, found a folder: {path}")
        for name, other in read.items():
            if other is not None and other.resolve() == path.resolve():
                raise ValueError(f"{option}: expected another file than {name}, got {path}")
        read[option] = path
    if options.preview is not None and options.preview.suffix.lower() != ".png":
        raise ValueError(f"--preview: expected a name that ends in .png, got {options.preview}")


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
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, of the windows done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("upsampling", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
