"""Any folder of images, a sub-folder a class."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ddfnet.data.splits import Splits

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
Sample = tuple[str, int]  # path, label


def image_folder(
    root: Path, *, image_size: int = 224, augment: bool = True, held_out: float = 0.1, seed: int = 0
) -> Splits:
    """RGB images of `root` as train / val / test splits.

    `root/train`, `root/val` and `root/test` hold a folder a class. Where only `train` and `val` are there (as in ImageNet),
    `val` is the test split, scored once, and what choices are made on is held out of `train`. Where none is there, `root`
    itself holds the class folders and both are held out of it.

    Args:
        image_size: side of the square crops, in pixels.
        augment: crops of random size and place, flipped at random, for training; else the central crop.
        held_out: the share held out for each split that has no folder; the same images whatever the seed.
        seed: of the augmentation.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: the splits' classes differ, or a class is too small to hold out from; in use, an unreadable image.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out: expected a share between 0 and 0.5, got {held_out}")
    train, classes = _samples(root / "train" if (root / "train").is_dir() else root)
    given = {}
    if (root / "train").is_dir():
        for name in ("val", "test"):
            if (root / name).is_dir():
                given[name], found = _samples(root / name)
                if found != classes:
                    differing = ", ".join(sorted(set(found) ^ set(classes)))
                    raise ValueError(
                        f"{root / name}: expected the classes of train; these are in one only: {differing}"
                    )
    test = given.get("test", given.get("val"))
    val = given.get("val") if "test" in given else None
    if test is None:
        train, test = _hold_out(train, held_out)
    if val is None:
        train, val = _hold_out(train, held_out)

    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    central = v2.Compose([v2.Resize(round(image_size / 0.875), antialias=True), v2.CenterCrop(image_size), *to_tensor])
    random_crop = v2.Compose([v2.RandomResizedCrop(image_size, antialias=True), v2.RandomHorizontalFlip(), *to_tensor])
    return Splits(
        train=FolderSplit(train, random_crop if augment else central, seed=seed),
        val=FolderSplit(val, central),
        test=FolderSplit(test, central),
        classes=classes,
        channels=3,
    )


class FolderSplit:
    """Images read from files when asked for; each one's augmentation is drawn from (seed, epoch, index) alone."""

    def __init__(self, samples: list[Sample], transform: Callable[[Image.Image], Tensor], seed: int = 0) -> None:
        self.samples, self.transform, self.seed = samples, transform, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        images = []
        for index in indices:
            image = read_rgb(Path(self.samples[index][0]))
            with _random_state(f"{self.seed}/{self.epoch}/{index}"):
                images.append(self.transform(image))
        return torch.stack(images), torch.tensor([self.samples[index][1] for index in indices])


def read_rgb(path: Path) -> Image.Image:
    """The image in `path` as RGB; ValueError, naming it, where it is truncated or no image."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # which convert() would clip, not scale
                return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
            if image.mode not in ("I", "F"):
                return image.convert("RGB")
            mode = image.mode
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: unreadable or truncated image ({error})") from None
    raise ValueError(f"{path}: expected 8 or 16 bits a channel, got an image of mode {mode!r}")


@contextmanager
def _random_state(seed: str) -> Iterator[None]:
    """Random numbers drawn inside come from `seed` alone and leave no trace outside."""
    number = random.Random(seed).getrandbits(63)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        yield


def _samples(folder: Path) -> tuple[list[Sample], tuple[str, ...]]:
    try:
        found = ImageFolder(str(folder), allow_empty=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: expected a folder of images for each class ({error})") from None
    if len(found.classes) < 2:
        raise ValueError(f"{folder}: expected folders of at least two classes, got {found.classes[0]} alone")
    return list(found.samples), tuple(found.classes)


def _hold_out(samples: list[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """The samples without and with a share of each class, at least one image of it, chosen by a fixed shuffle."""
    kept: list[Sample] = []
    held: list[Sample] = []
    for label in sorted({label for _, label in samples}):
        of_class = [sample for sample in samples if sample[1] == label]
        if len(of_class) < 2:
            raise ValueError(
                f"{of_class[0][0]}: expected at least 3 images a class to hold some out, this one is alone"
            )
        random.Random(label).shuffle(of_class)
        count = max(1, round(share * len(of_class)))
        held += of_class[:count]
        kept += of_class[count:]
    return kept, held
