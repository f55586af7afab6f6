"""Train `ConvexUpNet` on NYU Depth v2: one process, one thread, for as long as the options say.

    python -m ddfnet.tasks.depth.convex_training RUN --data.root DIR --minutes 83

Every step draws one ratio and one kind of samples, and crops from random images. It can be stopped and started again; the
learning rate follows the clock since the first start, so a run ends when it should, however slow the machine is.
"""

import argparse
import copy
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddfnet.data.depth.eight_bit import NYUDepth8Bit
from ddfnet.models.depth.convex_up_net import ConvexUpNet, Samples, Statistics, load, save
from ddfnet.tasks.depth.rivals import interpolate

FACTORS = (1, 2, 4, 8, 16, 32)
SHARES = (0.03, 0.05, 0.29, 0.30, 0.29, 0.04)  # of the steps
BORDER = 6  # pixels of NYU's images that crops leave out: their frames are white
STEEP, CANDIDATES = 0.75, 3  # share of crops that are the steepest of so many
WARMUP = 200  # steps
DECAY = 0.6  # share of the time in which the learning rate falls
SAVED = 300  # steps from one checkpoint to the next


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a run.

    Attributes:
        minutes: from its first start.
        lr: of AdamW, after `WARMUP` and until it falls.
        batch, side: crops a step, and their side in pixels, a multiple of 32.
        seed: of the weights and of the crops.
        rmse, mae: their weights in the loss.
    """

    minutes: float = 83.0
    lr: float = 1.5e-3
    batch: int = 4
    side: int = 192
    seed: int = 0
    rmse: float = 1.0
    mae: float = 0.5


class Batch(NamedTuple):
    """Crops of one ratio and one kind of samples."""

    rgb: Tensor  # (B, 3, S, S), 0 to 1
    depth: Tensor  # (B, 1, S, S), in parts of about its image's range
    low: Tensor  # (B, 1, S/f, S/f), with noise and NaN where unknown
    clean: Tensor  # (B, 1, S/f, S/f)
    factor: int
    samples: Samples


def low_resolution(depth: Tensor, factor: int, samples: Samples) -> Tensor:
    """Return (B, 1, H/f, W/f) of (B, 1, H, W): every f-th pixel from the ((f-1)//2)-th, or means of f x f."""
    if samples == "average":
        return F.avg_pool2d(depth, factor)
    first = (factor - 1) // 2
    return depth[:, :, first::factor, first::factor].clone()


class Crops:
    """Random crops, endlessly.

    Args:
        images: the data set.
        rng: what all is drawn from, but for normal noise, which is PyTorch's.
    """

    def __init__(self, images: NYUDepth8Bit, options: Options, rng: np.random.Generator) -> None:
        self.images, self.options, self.rng = images, options, rng

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch()

    def batch(self) -> Batch:
        rng = self.rng
        pairs = [self._pair() for _ in range(self.options.batch)]
        rgb, depth = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
        factor = int(rng.choice(FACTORS, p=SHARES))
        samples: Samples = "average" if rng.random() < 0.5 and factor > 1 else "point"
        clean = low_resolution(depth, factor, samples)
        low = clean
        if rng.random() < 0.08:
            low = low + torch.randn(low.shape) * _log_uniform(rng, 0.001, 0.02)
        if factor == 1 or rng.random() < 0.08:
            unknown = np.stack([_unknown(rng, *low.shape[2:], sparse=factor == 1) for _ in range(len(low))])
            low = low.masked_fill(torch.from_numpy(unknown)[:, None], torch.nan)
        return Batch(rgb.contiguous(memory_format=torch.channels_last), depth, low, clean, factor, samples)

    def _pair(self) -> tuple[Tensor, Tensor]:
        rng, side = self.rng, self.options.side
        zoom = 1.0 if rng.random() < 0.6 else _log_uniform(rng, 0.6, 1.7)
        number, rows, columns = self._place(min(round(side * zoom), min(self.images.depth.shape[1:]) - 2 * BORDER))
        down, right = (0, 0) if rng.random() > 0.08 else rng.integers(-2, 3, 2)
        rgb = self.images.rgb[number, _moved(rows, down), _moved(columns, right)]
        depth = self.images.depth[number, rows, columns].astype(np.float32)
        whole = self.images.depth[number, ::16, ::16].astype(np.float32)
        if rng.random() < 0.5:
            rgb, depth = rgb[:, ::-1], depth[:, ::-1]
        if rng.random() < 0.1:
            rgb, depth = rgb[::-1], depth[::-1]
        if rng.random() < 0.1:
            rgb, depth = rgb.transpose(1, 0, 2), depth.T
        photograph = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
        values = torch.from_numpy(np.ascontiguousarray(depth))[None, None]
        if values.shape[2] != side:
            photograph = F.interpolate(photograph, (side, side), mode="bilinear", antialias=True)
            values = F.interpolate(values, (side, side), mode="nearest-exact")
        return _coloured(photograph, rng), _in_ranges(values, whole, rng)

    def _place(self, side: int) -> tuple[int, slice, slice]:
        """Return an image and a square of it, often the one of three in which the depth has most edges."""
        rng, best = self.rng, None
        for _ in range(CANDIDATES if rng.random() < STEEP else 1):
            number = self.images.numbers[rng.integers(len(self.images))]
            top, left = (
                int(rng.integers(BORDER, length - BORDER - side + 1)) for length in self.images.depth.shape[1:]
            )
            rows, columns = slice(top, top + side), slice(left, left + side)
            found = _steepness(self.images.depth[number, rows, columns])
            if best is None or found > best[0]:
                best = found, (number, rows, columns)
        if best is None:
            raise RuntimeError("CANDIDATES: expected at least 1, got 0")
        return best[1]


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + int(by), part.stop + int(by))


def _steepness(depth: NDArray[np.uint16]) -> float:
    values = depth[::4, ::4].astype(np.float32)
    steps = (np.minimum(np.abs(np.diff(values, axis=axis)), 6000).mean() for axis in (0, 1))
    return float(sum(steps) / (values.max() - values.min() + 4000))


def _log_uniform(rng: np.random.Generator, least: float, greatest: float) -> float:
    return float(np.exp(rng.uniform(np.log(least), np.log(greatest))))


def _coloured(rgb: Tensor, rng: np.random.Generator) -> Tensor:
    """Return rgb with another exposure, white balance and contrast, sometimes grey or with noise."""
    if rng.random() >= 0.8:
        return rgb
    gains = torch.tensor(np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.06, 3)), dtype=torch.float32)
    rgb = rgb.clamp(0, 1) ** float(np.exp(rng.normal(0, 0.2))) * gains.view(1, 3, 1, 1)
    if rng.random() < 0.1:
        rgb = rgb.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if rng.random() < 0.2:
        rgb = rgb + torch.randn(rgb.shape) * float(rng.uniform(0, 0.04))
    return rgb.clamp(0, 1)


def _in_ranges(values: Tensor, whole: NDArray[np.float32], rng: np.random.Generator) -> Tensor:
    """Return depth in parts of about the whole map's range; sometimes as a disparity, or with near and far exchanged."""
    if rng.random() < 0.12:
        values, whole = 1e4 / (values + 500), 1e4 / (whole + 500)
    if rng.random() < 0.2:
        values, whole = -values, -whole
    low, high = np.quantile(whole, (0.05, 0.95))
    scale = (high - low) * _log_uniform(rng, 0.5, 1.5)
    return values / max(float(scale), 0.3 * float(values.max() - values.min()), 1e-6)


def _unknown(rng: np.random.Generator, height: int, width: int, *, sparse: bool) -> NDArray[np.bool_]:
    """Draw holes; in a sparse map also scattered points, or lines as a LiDAR's."""
    holes = np.zeros((height, width), bool)
    if sparse and rng.random() < 0.6:
        if rng.random() < 0.5:
            holes |= rng.random((height, width)) > _log_uniform(rng, 0.01, 0.5)
        else:
            period = int(rng.integers(3, 12))
            holes[:] = True
            holes[int(rng.integers(period)) :: period] = False
            holes |= rng.random((height, width)) < 0.3
    else:
        holes |= rng.random((height, width)) < rng.uniform(0, 0.3)
        for _ in range(int(rng.integers(1, 5))):
            tall, wide = (int(rng.integers(1, max(2, length // 2))) for length in (height, width))
            top, left = int(rng.integers(height)), int(rng.integers(width))
            holes[top : top + tall, left : left + wide] = True
    if holes.all():
        holes[0, 0] = False
    return holes


def loss_of(output: Tensor, batch: Batch, options: Options) -> Tensor:
    """Return RMSE and MAE of each crop, weighted by the options, as parts of about bilinear interpolation's RMSE there.

    Crops that are nearly flat would count too much, so half the batch's mean is added to what a crop is divided by.
    """
    error = output - batch.depth
    base = torch.full((len(error),), 0.05) if batch.factor == 1 else _rmse(_bilinear(batch) - batch.depth) + 1e-3
    base = base + 0.5 * base.mean()
    return ((options.rmse * _rmse(error) + options.mae * error.abs().mean((1, 2, 3))) / base).mean()


def _rmse(error: Tensor) -> Tensor:
    """Of each map; (B, 1, H, W) -> (B,)."""
    return (error.square().mean((1, 2, 3)) + 1e-8).sqrt()


def _bilinear(batch: Batch) -> Tensor:
    protocol = "pac" if batch.samples == "point" else "bicubic"
    size = (batch.depth.shape[2], batch.depth.shape[3])
    return interpolate(batch.clean, size, factor=batch.factor, protocol=protocol, mode="bilinear")


class Run:
    """A network, its moving average and its optimizer, in a folder.

    Args:
        folder: that the checkpoint is in, if the run was started before.
        start: weights to begin with, a file of `ddfnet.models.depth.convex_up_net.save`.
    """

    def __init__(self, folder: Path, options: Options, start: Path | None = None) -> None:
        torch.manual_seed(options.seed)
        self.folder, self.options = folder, options
        network = ConvexUpNet() if start is None else load(start).train()
        self.network = network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=options.lr, weight_decay=1e-3, betas=(0.9, 0.99)
        )
        self.step, self.began = 0, time.time()
        if self._path.is_file():
            state: dict[str, Any] = torch.load(self._path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.began = state["step"], state["began"]

    @property
    def _path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def share(self) -> float:
        """The share of the time that has passed."""
        return (time.time() - self.began) / (60 * self.options.minutes)

    def save(self) -> None:
        partial = self._path.with_suffix(f".{os.getpid()}")
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "began": self.began,
        }
        torch.save(state, partial)
        partial.replace(self._path)

    def train(self, batch: Batch) -> float:
        """Take one step and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * _schedule(self.step, self.share)
        # Crops are in parts of about their image's range already.
        one = batch.low.new_ones(len(batch.low), 1, 1, 1)
        output = self.network(batch.low, batch.rgb, samples=batch.samples, statistics=Statistics(0 * one, one))
        loss = loss_of(output, batch, self.options)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, error_if_nonfinite=True)
        self.optimizer.step()
        self.step += 1
        keep = min(0.998, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(current, 1 - keep)
        return float(loss.detach())


def _schedule(step: int, share: float) -> float:
    """Return the learning rate's factor: a linear start, a flat part, and half a cosine."""
    factor = min(1.0, (step + 1) / WARMUP)
    if share > 1 - DECAY:
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, (share - 1 + DECAY) / DECAY))) + 1e-3
    return factor


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run, to begin or to go on with")
    parser.add_argument(
        "--data.root", dest="root", type=Path, required=True, help="folder with rgb and depth of NYU, 8 bits"
    )
    parser.add_argument("--cache", type=Path, help="folder for the smoothed maps")
    parser.add_argument("--start", type=Path, help="weights to begin with, a .safetensors file (default: random ones)")
    for name, default in vars(Options()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    options = Options(**{name: getattr(args, name) for name in vars(Options())})
    args.run.mkdir(parents=True, exist_ok=True)
    run = Run(args.run, options, args.start)
    images = NYUDepth8Bit(args.root, "train", cache=args.cache)
    losses = []
    for batch in Crops(images, options, np.random.default_rng([options.seed, run.step])):
        if run.share >= 1:
            break
        losses.append(run.train(batch))
        if run.step % 100 == 0:
            print(f"step {run.step:,}, {run.share:.1%} of the time, loss {np.mean(losses):.3f}", flush=True)
            losses = []
        if run.step % SAVED == 0:
            run.save()
    run.save()
    command = shlex.join(["python", "-m", "ddfnet.tasks.depth.convex_training", *argv])
    path = args.run / "convex_up_net.safetensors"
    save(run.average, path, command=command, steps=run.step, seed=options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
