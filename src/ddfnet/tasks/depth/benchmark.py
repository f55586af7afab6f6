"""Score depth upsampling as its literature does, image by image: NYU Depth v2 and Lu, by three protocols.

    python -m ddfnet.tasks.depth.benchmark --data.root DIR --csv FILE

DIR holds `nyu-depth-v2` and `lu`. Every error stands beside bicubic interpolation's from the same samples.
"""

import argparse
import csv
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ddfnet.atomic import whole_or_absent
from ddfnet.data.depth.eight_bit import Lu, NYUDepth8Bit
from ddfnet.data.depth.photographs import RGBDImages
from ddfnet.models.depth.convex_up_net import ConvexUpNet, load, pretrained
from ddfnet.tasks.depth.comparison import FILTERS, tuned_filter
from ddfnet.tasks.depth.rivals import Filter, interpolate

PROTOCOLS = {
    "point": "every f-th pixel from the ((f-1)//2)-th (PAC-Net's, Table 7)",
    "average": "means of f x f pixels",
    "bicubic": "Pillow's bicubic downsampling, of the image cropped to a multiple of f (DKN's)",
}
# Low (1, 1, h, w) and rgb (1, 3, H, W) -> (1, 1, H, W), by factor and protocol.
Upsample = Callable[[Tensor, Tensor, int, str], Tensor]


@dataclass(frozen=True)
class Score:
    """One method on one image; errors in `unit`."""

    dataset: str
    image: str
    protocol: str
    factor: int
    method: str
    unit: str
    rmse: float
    bicubic_rmse: float
    mae: float
    abs_rel: float  # mean of |error| / depth
    irmse: float  # RMSE of 1 / depth: 1 / km of NYU
    within_1_25: float  # share of pixels with a ratio to the depth below 1.25
    outside_2x2: float  # share of pixels beyond the range of the 2x2 samples around them by more than 0.1%
    outside_3x3: float
    seconds: float  # of CPU time, a megapixel

    @property
    def ratio(self) -> float:
        """RMSE as a multiple of bicubic interpolation's."""
        return self.rmse / self.bicubic_rmse


@dataclass(frozen=True)
class Scored:
    """A data set as it is scored."""

    name: str
    images: RGBDImages
    numbers: Sequence[int]
    border: int  # pixels at each side that are not scored
    unit: str
    parts: float  # of `unit` in the images' unit


def data_sets(root: Path, *, every: int = 1, cache: Path | None = None) -> list[Scored]:
    """Return NYU 1000-1448, every n-th from the first, in cm, without 6 pixels of border; and Lu's six, of 255, whole."""
    nyu, lu = NYUDepth8Bit(root / "nyu-depth-v2", "test", cache=cache), Lu(root / "lu")
    return [
        Scored("nyu", nyu, range(0, len(nyu), every), 6, "cm", 100.0),
        Scored("lu", lu, range(len(lu)), 0, "of 255", 1.0),
    ]


def low_resolution(depth: Tensor, factor: int, protocol: str) -> Tensor:
    """Return (1, 1, H/f, W/f) of (1, 1, H, W), whose sides are multiples of `factor`."""
    if protocol == "point":
        first = (factor - 1) // 2
        return depth[:, :, first::factor, first::factor]
    if protocol == "average":
        return F.avg_pool2d(depth, factor)
    if protocol == "bicubic":
        return _pillow_bicubic(depth, [length // factor for length in depth.shape[2:]])
    raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")


def bicubic(low: Tensor, rgb: Tensor, factor: int, protocol: str) -> Tensor:
    """Interpolate bicubically between where the samples lie: the base of every ratio."""
    size = (rgb.shape[2], rgb.shape[3])
    if protocol == "bicubic":
        return _pillow_bicubic(low, size)
    return interpolate(low, size, factor=factor, protocol="pac" if protocol == "point" else "bicubic", mode="bicubic")


def by_network(network: ConvexUpNet) -> Upsample:
    """Return the network as a method."""
    network = network.eval().to(memory_format=torch.channels_last)

    def upsample(low: Tensor, rgb: Tensor, factor: int, protocol: str) -> Tensor:
        with torch.inference_mode():
            output: Tensor = network(low, rgb, samples="point" if protocol == "point" else "average")
        return output

    return upsample


def by_filter(start: Filter, images: RGBDImages, *, factors: Sequence[int], protocols: Sequence[str]) -> Upsample:
    """Return a classical filter as a method, tuned on `images` for each factor and each kind of samples."""
    kinds = {protocol: "pac" if protocol == "point" else "bicubic" for protocol in protocols}
    tuned = {
        (factor, kind): tuned_filter(start, images, factor=factor, protocol=kind)
        for factor in factors
        for kind in set(kinds.values())
    }

    def upsample(low: Tensor, rgb: Tensor, factor: int, protocol: str) -> Tensor:
        return tuned[factor, kinds[protocol]](low, rgb, factor=factor, protocol=kinds[protocol])

    return upsample


def score(
    data: Scored, methods: Mapping[str, Upsample], *, factors: Sequence[int], protocols: Sequence[str]
) -> Iterator[Score]:
    """Score every method on every image, the images in the outermost loop."""
    for number in data.numbers:
        image = data.images[number]
        for factor in factors:
            height, width = (length - length % factor for length in image.depth.shape)
            depth = torch.from_numpy(image.depth)[None, None, :height, :width]
            rgb = torch.from_numpy(image.rgb[:height, :width]).permute(2, 0, 1)[None].float() / 255
            for protocol in protocols:
                low = low_resolution(depth, factor, protocol)
                base = _rmse(bicubic(low, rgb, factor, protocol) - depth, data)
                for name, method in methods.items():
                    began = time.process_time()
                    found = method(low, rgb, factor, protocol)
                    seconds = (time.process_time() - began) / (height * width) * 1e6
                    yield Score(
                        data.name,
                        image.name,
                        protocol,
                        factor,
                        name,
                        data.unit,
                        bicubic_rmse=base,
                        seconds=seconds,
                        **_errors(found, depth, low, factor, protocol, data),
                    )


def summary(scores: Sequence[Score]) -> Iterator[dict[str, Any]]:
    """Average over the images of each data set, protocol, factor and method.

    "ratio" is that of the means, "worst_ratio" that of one image, "best" the share of images on which no other method has
    a smaller RMSE, bicubic interpolation included.
    """
    least: dict[tuple[str, str, int, str], float] = {}
    for s in scores:
        place = (s.dataset, s.protocol, s.factor, s.image)
        least[place] = min(least.get(place, s.bicubic_rmse), s.rmse)
    keys = dict.fromkeys((s.dataset, s.protocol, s.factor, s.method) for s in scores)
    for key in keys:
        group = [s for s in scores if (s.dataset, s.protocol, s.factor, s.method) == key]
        means = {
            field.name: float(np.mean([getattr(s, field.name) for s in group]))
            for field in fields(Score)
            if field.type is float
        }
        summed = {
            "ratio": means["rmse"] / means["bicubic_rmse"],
            "worst_ratio": max(s.ratio for s in group),
            "best": float(np.mean([s.rmse <= least[s.dataset, s.protocol, s.factor, s.image] for s in group])),
        }
        names = dict(zip(("dataset", "protocol", "factor", "method"), key, strict=True))
        yield names | {"images": len(group), "unit": group[0].unit} | summed | means


def _errors(found: Tensor, depth: Tensor, low: Tensor, factor: int, protocol: str, data: Scored) -> dict[str, float]:
    error = _inner(found - depth, data.border)
    true, made = (_inner(x, data.border).clamp_min(1e-3) for x in (depth, found))
    ratio = torch.maximum(true / made, made / true)
    return {
        "rmse": _rmse(found - depth, data),
        "mae": float(error.abs().mean()) * data.parts,
        "abs_rel": float((error.abs() / true).mean()),
        "irmse": float((1 / true - 1 / made).square().mean().sqrt()) * 1000,
        "within_1_25": float((ratio < 1.25).float().mean()),
        "outside_2x2": _outside(found, low, factor, protocol, 2),
        "outside_3x3": _outside(found, low, factor, protocol, 3),
    }


def _inner(x: Tensor, border: int) -> Tensor:
    return x[..., border : x.shape[2] - border, border : x.shape[3] - border]


def _rmse(error: Tensor, data: Scored) -> float:
    return float(_inner(error, data.border).square().mean().sqrt()) * data.parts


def _outside(found: Tensor, low: Tensor, factor: int, protocol: str, side: int) -> float:
    """Return the share of pixels beyond the range of the side x side samples around them, by > 0.1% of the map's range."""
    bounds = []
    for sign in (1, -1):
        if side == 3:
            most = F.max_pool2d(F.pad(sign * low, (1, 1, 1, 1), mode="replicate"), 3, 1)
            bounds.append(most.repeat_interleave(factor, 2).repeat_interleave(factor, 3))
        else:  # from its sample before to that after
            most = F.max_pool2d(F.pad(sign * low, (1, 1, 1, 1), mode="replicate"), 2, 1)
            fine = most.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
            first = factor - ((factor - 1) // 2 if protocol == "point" else factor // 2)
            bounds.append(fine[:, :, first : first + found.shape[2], first : first + found.shape[3]])
    slack = 1e-3 * float(low.max() - low.min())
    return float(((found > bounds[0] + slack) | (found < -bounds[1] - slack)).float().mean())


def _pillow_bicubic(x: Tensor, size: Sequence[int]) -> Tensor:
    image = Image.fromarray(np.ascontiguousarray(x[0, 0].numpy()))
    return torch.from_numpy(np.array(image.resize((size[1], size[0]), Image.Resampling.BICUBIC)))[None, None]


def write(rows: Sequence[dict[str, Any]], path: Path, where: Mapping[str, Any]) -> None:
    """Write a CSV file with a line for each row, each ending with the columns of `where`."""
    with whole_or_absent(path) as partial, Path(partial).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *where])
        writer.writeheader()
        for row in rows:
            texts = {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
            writer.writerow(texts | dict(where))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.root", dest="root", type=Path, required=True, help="folder with nyu-depth-v2 and lu")
    parser.add_argument("--cache", type=Path, help="folder of NYU's smoothed maps")
    parser.add_argument("--weights", type=Path, help="a file of weights; the one that ships unless given")
    parser.add_argument("--every", type=int, default=1, help="of NYU's test pairs every n-th (default: %(default)s)")
    parser.add_argument("--factors", nargs="+", type=int, default=[4, 8, 16])
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument(
        "--filters", action="store_true", help="the classical filters too, tuned on NYU's held-out blocks"
    )
    parser.add_argument("--csv", type=Path, required=True, help="the means; FILE_images.csv beside it has every image")
    args = parser.parse_args(argv)
    network = pretrained() if args.weights is None else load(args.weights)
    methods: dict[str, Upsample] = {"ConvexUpNet": by_network(network)}
    if args.filters:
        for_tuning = NYUDepth8Bit(args.root / "nyu-depth-v2", "val", cache=args.cache)
        for_tuning.numbers = for_tuning.numbers[::25]  # from all blocks
        for name, start in FILTERS.items():
            methods[name] = by_filter(start, for_tuning, factors=args.factors, protocols=args.protocols)
    where = {
        "device": f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "ddfnet.tasks.depth.benchmark", *argv]),
    }
    scores: list[Score] = []
    for data in data_sets(args.root, every=args.every, cache=args.cache):
        scores += score(data, methods, factors=args.factors, protocols=args.protocols)
    rows = list(summary(scores))
    write(rows, args.csv, where)
    write([asdict(found) for found in scores], args.csv.with_name(f"{args.csv.stem}_images.csv"), where)
    for row in rows:
        print(*(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
