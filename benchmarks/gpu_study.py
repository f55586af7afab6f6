"""Train DDF and what it replaces on CIFAR-10 at equal cost, on one GPU, as many seeds as fit: see `gpu_study.sh`.

Each network is a ResNet of three stages of two bottlenecks for 32 x 32 pixels. Inner widths are chosen so that all take
about as many multiply-adds as the dense one. All train by one recipe: AdamW, one cycle to 3e-3, weight decay 0.05, label
smoothing 0.1, crops and flips, bfloat16 autocast. Nothing is chosen by the test images, which are scored once, at the end of
a run.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import ddfnet.models.classification  # noqa: F401 -- registers the networks
from ddfnet.bench.results import environment
from ddfnet.models.complexity import complexity

SIDE = 32
NETWORKS: dict[str, tuple[str, float, dict[str, Any]]] = {  # timm's name, width relative to the dense one's, options
    "dense": ("resnet_mini", 1, {}),
    "depthwise": ("dwresnet_mini", 84 / 64, {}),
    "ddf": ("ddf_resnet_mini", 84 / 64, {}),  # as released
    "ddf_static": ("ddf_resnet_mini", 84 / 64, {"layer_args": {"affine": "paper", "init": "static"}}),
}
COLUMNS = (
    *(
        "network",
        "seed",
        "test_accuracy",
        "train_loss",
        "train_seconds",
        "images_per_second",
        "widths",
        "epochs",
        "steps",
    ),
    *("batch", "train_images", "parameters", "multiply_adds", "command"),
)


@dataclass(frozen=True)
class Images:
    """Images (N, 3, 32, 32) in uint8 and labels (N,), on the device."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def read_sheets(folder: Path, device: str) -> Images:
    """Read the test sheet and whichever training sheets the folder has."""
    found: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for part in ("train", "test"):
        labels = np.load(folder / f"{part}_labels.npy")
        sheets, kept = found.setdefault(part, ([], []))
        for path in sorted(folder.glob(f"{part}_*.webp")):
            sheet = np.asarray(Image.open(path).convert("RGB")).reshape(100, SIDE, 100, SIDE, 3)
            sheets.append(sheet.transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIDE, SIDE))
            first = int(path.stem.rsplit("_", 1)[1]) * 10_000
            kept.append(labels[first : first + 10_000])
        if not sheets:
            raise FileNotFoundError(f"{folder}: expected sheets {part}_*.webp, found none")
    tensors = [torch.from_numpy(np.concatenate(each)).to(device) for part in found.values() for each in part]
    return Images(tensors[0], tensors[1].long(), tensors[2], tensors[3].long())


def scaled(images: Tensor) -> Tensor:
    return ((images.float() - 127.5) / 64).contiguous(memory_format=torch.channels_last)


def augmented(images: Tensor) -> Tensor:
    """Crop at random from images padded by 4 pixels, and flip half of them."""
    count, device = len(images), images.device
    padded = nn.functional.pad(images, (4, 4, 4, 4), value=128)
    top, left = torch.randint(9, (2, count, 1), device=device)
    along = torch.arange(SIDE, device=device)
    columns = torch.where(torch.rand(count, 1, device=device) < 0.5, SIDE - 1 - along, along) + left
    rows = (top + along)[:, None, :, None]
    image = torch.arange(count, device=device)[:, None, None, None]
    colour = torch.arange(3, device=device)[:, None, None]
    return scaled(padded[image, colour, rows, columns[:, None, None]])


def batches(images: Images, epochs: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(epochs):
        for chosen in torch.randperm(len(images.train), device=images.train.device).split(size):
            if len(chosen) == size:
                yield augmented(images.train[chosen]), images.train_labels[chosen]


def train(network: nn.Module, images: Images, args: argparse.Namespace, steps: int) -> float:
    """Train for so many steps; return the loss averaged over the last tenth of these."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    losses = []
    for (x, labels), _ in zip(batches(images, args.epochs, args.batch), range(steps), strict=False):
        with torch.autocast(args.device, torch.bfloat16):
            loss = nn.functional.cross_entropy(network(x), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses[-max(1, steps // 10) :]).mean().item()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, args: argparse.Namespace) -> float:
    network.eval()
    right = 0
    for x, expected in zip(images.split(args.batch), labels.split(args.batch), strict=True):
        with torch.autocast(args.device, torch.bfloat16):
            right += int((network(scaled(x)).argmax(1) == expected).sum())
    return right / len(labels)


def run(name: str, seed: int, images: Images, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one network; return its row."""
    variant, factor, block_args = NETWORKS[name]
    widths = tuple(round(args.width * factor) * 2**stage for stage in range(3))
    torch.manual_seed(seed)
    network = timm.create_model(variant, channels=widths, block_args=block_args)
    cost = complexity(network, (1, 3, SIDE, SIDE))
    network = network.to(args.device, memory_format=torch.channels_last)
    steps = min(args.steps or sys.maxsize, args.epochs * (len(images.train) // args.batch))
    start = time.perf_counter()
    loss = train(network, images, args, steps)  # reading the loss waits for the device
    seconds = time.perf_counter() - start
    score = accuracy(network, images.test, images.test_labels, args)
    return {
        "network": name,
        "seed": seed,
        "test_accuracy": round(score, 4),
        "train_loss": round(loss, 4),
        "train_seconds": round(seconds, 1),
        "images_per_second": round(steps * args.batch / seconds, 1),
        "widths": " ".join(map(str, widths)),
        "epochs": args.epochs,
        "steps": steps,
        "batch": args.batch,
        "train_images": len(images.train),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "command": " ".join(sys.argv),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="CIFAR-10 at equal cost: dense, depthwise, DDF.")
    parser.add_argument("data", type=Path, help="folder of train_*.webp, test_*.webp and their labels")
    parser.add_argument("csv", type=Path, help="a row is added as each run ends")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=270, help="no run begins that would end later (default: 270)")
    parser.add_argument("--seeds", type=int, default=10, help="at most (default: 10)")
    parser.add_argument("--epochs", type=int, default=20, help="(default: 20)")
    parser.add_argument("--batch", type=int, default=256, help="(default: 256)")
    parser.add_argument("--width", type=int, default=64, help="of the dense network's first stage (default: 64)")
    parser.add_argument("--steps", type=int, help="of a run, at most")
    parser.add_argument("--images", type=int, help="of each part, at most")
    return parser.parse_args()


def main() -> None:
    args, begin = arguments(), time.perf_counter()
    images = read_sheets(args.data, args.device)
    images = Images(*(each[: args.images] for each in vars(images).values()))
    where = asdict(environment(args.device)) | {"date": ""}
    longest = dict.fromkeys(NETWORKS, 0.0)
    with args.csv.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *where], lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        for seed in range(args.seeds):
            for name in NETWORKS:
                start = time.perf_counter()
                if start - begin + longest[name] > args.seconds:
                    print(f"{name}, seed {seed}: left out, {args.seconds:.0f} s would not do", flush=True)
                    continue
                row = run(name, seed, images, args)
                longest[name] = max(longest[name], time.perf_counter() - start)
                writer.writerow({**row, **where, "date": datetime.now(UTC).isoformat(timespec="seconds")})
                file.flush()
                print(*(f"{key}={row[key]}" for key in COLUMNS[:6]), flush=True)


if __name__ == "__main__":
    main()
