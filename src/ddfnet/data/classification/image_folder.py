"""Any folder of images, a sub-folder a class; or tar files of such folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

from timm.data.readers.class_map import load_class_map
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torchvision.datasets import ImageFolder

from ddfnet.data.images import Images, ImageSplit, Transform, central_transform, hold_out, training_transform
from ddfnet.data.splits import Splits

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Transforms:
    """What is done to the images of a data set, and the size they then have, in pixels."""

    train: Transform
    test: Transform
    train_size: int = 224
    test_size: int = 224


def default_transforms(size: int = 224, *, augment: bool = True) -> Transforms:
    """Random crops and flips for training, the central crop for testing."""
    central = central_transform(size)
    return Transforms(training_transform(size) if augment else central, central, size, size)


class _FolderImages:
    """Images in files."""

    def __init__(self, samples: list[tuple[str, int]]) -> None:
        self.samples = samples
        self.labels = [label for _, label in samples]

    def name(self, index: int) -> str:
        return self.samples[index][0]

    def open(self, index: int) -> Path:
        return Path(self.samples[index][0])


class _TarImages:
    """Images in tar files, by timm's reader. It keeps no file open: processes that share one would move its position."""

    def __init__(self, reader: ReaderImageInTar, classes: tuple[str, ...]) -> None:
        label_of = {name: label for label, name in enumerate(classes)}  # timm sorts by the numbers in names
        self.reader = reader
        self.labels = [label_of[reader.class_idx_to_name[int(target)]] for target in reader.targets]

    def name(self, index: int) -> str:
        member, tar, inner = self.reader.samples[index]
        place = Path(self.reader.root) / (tar or "")
        return "/".join([str(place), *([inner.name] if inner else []), member.name])

    def open(self, index: int) -> IO[bytes]:
        file: IO[bytes] = self.reader[index][0]
        return file


def image_folder(
    root: Path,
    transforms: Transforms | None = None,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    class_map: Path | None = None,
    test_only: bool = False,
) -> Splits:
    """RGB images of `root` as train / val / test splits.

    `root/train`, `root/val` and `root/test` hold a folder a class. Where only `train` and `val` are there (as in ImageNet),
    `val` is the test split, scored once, and what choices are made on is held out of `train`. Where none is there, `root`
    itself holds the class folders and both are held out of it.

    In the place of each of these folders may stand tar files: `root/train.tar`, or a folder of them, `root/train/*.tar`.
    The class of an image is then the folder it lies in, or its tar file where it lies in none.

    Args:
        transforms: of the images to tensors; None crops and flips to 224 pixels.
        held_out: the share held out for each split that has no folder; the same images whatever the seed.
        seed: of the augmentation.
        class_map: a file with the names of the classes, one a line, in the order of their labels; images of others are left
            out. None: the classes found, in alphabetical order.
        test_only: takes `root/test`, else `root/val`, else all of `root` as the test split, and as the others too: for
            scoring a network where there is nothing to train on.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: the splits' classes differ, or a class is too small to hold out from.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out: expected a share between 0 and 0.5, got {held_out}")
    transforms = transforms or default_transforms()
    names = _class_names(class_map)
    found = {part: place for part in PARTS if (place := _place(root, part)) is not None}

    def split(images: Images, chosen: list[int], *, train: bool = False) -> ImageSplit:
        if train:
            return ImageSplit(images, chosen, transforms.train, size=transforms.train_size, replace=True, seed=seed)
        return ImageSplit(images, chosen, transforms.test, size=transforms.test_size)

    if test_only:
        images, classes = _read(found.get("test") or found.get("val") or root, names)
        test = split(images, list(range(len(images.labels))))
        return Splits(train=test, val=test, test=test, classes=classes, channels=3)

    train_images, classes = _read(found.get("train", root), names)
    train = list(range(len(train_images.labels)))
    given: dict[str, ImageSplit] = {}
    for part in PARTS[1:] if "train" in found else ():
        if part in found:
            images, others = _read(found[part], names)
            if others != classes:
                differing = ", ".join(sorted(set(others) ^ set(classes)))
                raise ValueError(f"{found[part]}: expected the classes of train; these are in one only: {differing}")
            given[part] = split(images, list(range(len(images.labels))))
    held: dict[str, ImageSplit] = {}
    for part, there in (("test", bool(given)), ("val", len(given) == 2)):
        if not there:
            train, indices = hold_out(train_images, train, held_out)
            held[part] = split(train_images, indices)
    return Splits(
        train=split(train_images, train, train=True),
        val=held.get("val") or given["val"],
        test=held.get("test") or given.get("test") or given["val"],
        classes=classes,
        channels=3,
    )


def _place(root: Path, part: str) -> Path | None:
    """Where the images of `part` are: a folder or a tar file; None where there is neither."""
    if (root / part).is_dir():
        return root / part
    return root / f"{part}.tar" if (root / f"{part}.tar").is_file() else None


def _read(place: Path, names: tuple[str, ...] | None) -> tuple[Images, tuple[str, ...]]:
    """The images of a folder, a tar file or a folder of tar files, and the classes; `names` says which, in order."""
    if place.suffix == ".tar" or any(place.glob("*.tar")):
        return _read_tars(place, names)
    try:
        folder = ImageFolder(str(place), allow_empty=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: expected a folder of images for each class ({error})") from None
    if names is None and len(folder.classes) < 2:
        raise ValueError(f"{place}: expected folders of at least two classes, got {folder.classes[0]} alone")
    if names is None:
        return _FolderImages(list(folder.samples)), tuple(folder.classes)
    label_of = {name: label for label, name in enumerate(names)}
    samples = [(path, label_of[name]) for path, n in folder.samples if (name := folder.classes[n]) in label_of]
    if not samples:
        raise ValueError(f"{place}: expected images of classes in the class map, got folders of none of them")
    return _FolderImages(samples), names


def _read_tars(place: Path, names: tuple[str, ...] | None) -> tuple[Images, tuple[str, ...]]:
    class_map = {name: label for label, name in enumerate(names)} if names else ""
    try:
        reader = ReaderImageInTar(str(place), class_map=class_map, cache_tarfiles=False)
    except Exception as error:  # the reader unpacks nothing where there is nothing, and tarfile raises its own
        raise ValueError(f"{place}: expected tar files of images in a folder for each class ({error})") from None
    classes = names or tuple(sorted(reader.class_idx_to_name.values()))
    if len(classes) < 2:
        raise ValueError(f"{place}: expected images of at least two classes, got {classes[0]} alone")
    return _TarImages(reader, classes), classes


def _class_names(path: Path | None) -> tuple[str, ...] | None:
    """The classes of a class map file, one name a line."""
    if path is None:
        return None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such class map; expected a text file with a class a line")
    if path.suffix != ".txt":
        raise ValueError(f"{path}: expected a class map that ends in .txt, with a class a line")
    indices: dict[str, int] = load_class_map(str(path))
    return tuple(sorted(indices, key=lambda name: indices[name]))
