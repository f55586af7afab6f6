"""CIFAR-10: as torchvision downloads it, or in lossless sheets of images."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddfnet.data.splits import InMemorySplit, Splits

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)  # of the 50,000 training images, pixels scaled to 0..1
STD = (0.2470, 0.2435, 0.2616)
HELD_OUT = 5_000  # training images, the last ones
SHEET = 100  # images along each side of a sheet


def cifar10(root: Path, *, augment: bool = True, max_shift: int = 0, seed: int = 0) -> Splits:
    """Return CIFAR-10 as train / val / test splits of 32x32 RGB images, 10 classes: 45,000 / 5,000 / 10,000.

    Args:
        root: a folder with `cifar-10-batches-py`, as torchvision downloads it; or with sheets, `train_0.webp` to
            `train_4.webp` and `test_0.webp` (or .png), each of 100 x 100 images, and their labels in `train_labels.npy` and
            `test_labels.npy`. Images of the first are in the order of their files, so the two hold out different ones.
        augment: flips training images left to right at random and shifts them by up to `max_shift` pixels.
        seed: of the augmentation.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or is not what its name says.
    """
    root = Path(root)
    read = _read_batches if (root / "cifar-10-batches-py").is_dir() else _read_sheets
    (images, labels), test = read(root, "train"), read(root, "test")
    if len(images) <= HELD_OUT:
        raise ValueError(f"{root}: expected 50,000 training images, got {len(images):,}")
    train, val = (images[:-HELD_OUT], labels[:-HELD_OUT]), (images[-HELD_OUT:], labels[-HELD_OUT:])
    return Splits(
        train=InMemorySplit(*train, mean=MEAN, std=STD, augment=augment, max_shift=max_shift, seed=seed),
        val=InMemorySplit(*val, mean=MEAN, std=STD),
        test=InMemorySplit(*test, mean=MEAN, std=STD),
        classes=CLASSES,
        channels=3,
    )


def _read_batches(root: Path, part: str) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import CIFAR10

    try:
        found = CIFAR10(root, train=part == "train")
    except RuntimeError as error:  # a file is missing, or its checksum differs
        raise ValueError(f"{root / 'cifar-10-batches-py'}: expected the files of CIFAR-10 ({error})") from None
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)


def _read_sheets(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, 32, 32) uint8 and labels (N,) int64."""
    sheets = sorted(path for path in root.glob(f"{part}_*") if path.suffix in (".png", ".webp"))
    path = root / f"{part}_labels.npy"
    if not sheets or not path.is_file():
        missing = f"{part}_0.webp" if not sheets else path.name
        raise FileNotFoundError(
            f"{root}: expected cifar-10-batches-py, or sheets of images and labels; no {missing} there"
        )
    images = torch.cat([_read_sheet(sheet) for sheet in sheets])
    try:
        labels = torch.from_numpy(np.load(path)).long()
    except (ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{path}: expected an NPY file of labels ({error})") from None
    if labels.shape != (len(images),) or int(labels.min()) < 0 or int(labels.max()) >= len(CLASSES):
        raise ValueError(
            f"{path}: expected {len(images):,} labels of 0 to 9, got an array of shape {tuple(labels.shape)}"
        )
    return images, labels


def _read_sheet(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except OSError as error:  # Pillow's for damaged files too
        raise ValueError(f"{path}: expected a sheet of images ({error})") from None
    if pixels.shape != (SHEET * 32, SHEET * 32, 3):
        width, height = pixels.shape[1], pixels.shape[0]
        raise ValueError(f"{path}: expected a sheet of {SHEET * 32} x {SHEET * 32} pixels, got {width} x {height}")
    tiles = torch.from_numpy(pixels).view(SHEET, 32, SHEET, 32, 3)
    return tiles.permute(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
