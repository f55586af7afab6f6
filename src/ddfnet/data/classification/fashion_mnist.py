"""Fashion-MNIST: the sample that ships with the package, or the four original files from a folder."""

import gzip
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ddfnet.data.splits import InMemorySplit, Splits
from ddfnet.package_data import package_folder

SAMPLE = package_folder("data/samples/fashion_mnist")
CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)  # fmt: skip
MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images, pixels scaled to 0..1


def fashion_mnist(root: Path | None = None, *, augment: bool = True, max_shift: int = 0, seed: int = 0) -> Splits:
    """Return Fashion-MNIST as train / val / test splits of 28x28 grey images in 10 classes.

    Args:
        root: a folder with the four original files, gzipped or not (also where torchvision keeps them, in
            `FashionMNIST/raw` below it): 55,000 / 5,000 / 10,000 images, the last being the t10k files. None: the sample
            that ships with the package, the first 10,000 training images: 7,000 / 1,000 / 2,000 in the files' order.
        augment: flips training images left to right at random and shifts them by up to `max_shift` pixels.
        seed: of the augmentation.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or is not what its name says.
    """
    if root is None:
        images, labels = _read_pair(SAMPLE, "train-10k")
        held_out, test = 1_000, (images[-2_000:], labels[-2_000:])
        images, labels = images[:-2_000], labels[:-2_000]
    else:
        images, labels = _read_pair(root, "train")
        held_out, test = 5_000, _read_pair(root, "t10k")
        if len(images) <= held_out:
            raise ValueError(f"{root}: expected 60,000 training images, got {len(images)}")
    train, val = (images[:-held_out], labels[:-held_out]), (images[-held_out:], labels[-held_out:])
    return Splits(
        train=InMemorySplit(*train, mean=MEAN, std=STD, augment=augment, max_shift=max_shift, seed=seed),
        val=InMemorySplit(*val, mean=MEAN, std=STD),
        test=InMemorySplit(*test, mean=MEAN, std=STD),
        classes=CLASSES,
        channels=1,
    )


def _read_pair(root: Path, stem: str) -> tuple[Tensor, Tensor]:
    """Read images (N, 1, 28, 28) uint8 and labels (N,) int64 of `stem`, "train" or "t10k"."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected the Fashion-MNIST files there")
    images = read_idx(_find(root, f"{stem}-images-idx3-ubyte"))
    labels = read_idx(_find(root, f"{stem}-labels-idx1-ubyte"))
    if images.shape[1:] != (28, 28) or labels.dim() != 1 or len(images) != len(labels):
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"{root}: expected {stem} images (N, 28, 28) and labels (N,), got {shapes}")
    if len(labels) and int(labels.max()) >= len(CLASSES):
        raise ValueError(f"{root}: expected {stem} labels 0 to {len(CLASSES) - 1}, got {int(labels.max())}")
    return images.unsqueeze(1), labels.long()


def _find(root: Path, name: str) -> Path:
    for folder in (root, root / "FashionMNIST" / "raw"):
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{root}: expected the Fashion-MNIST file {name}.gz (or {name}) there, found neither")


def read_idx(path: Path) -> Tensor:
    """Read the array in an IDX file of unsigned bytes, gzipped or not; raise ValueError if it is damaged."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from None
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes, got another header")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    values = torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 + 4 * data[3])
    expected = torch.Size(shape).numel()
    if len(values) != expected:
        raise ValueError(f"{path}: truncated: expected {expected} bytes of data, got {len(values)}")
    return values.view(*shape)
