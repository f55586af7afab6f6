"""Any folder of images, a sub-folder a class; or tar files of such folders."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from timm.data.readers.class_map import load_class_map
from timm.data.readers.img_extensions import get_img_extensions, set_img_extensions
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torchvision.datasets import ImageFolder

from ddfnet.data.folders import PARTS, SYNONYMS, image_suffixes, listed, part_folder, visible
from ddfnet.data.images import Images, ImageSplit, Transform, central_transform, hold_out, training_transform
from ddfnet.data.splits import Splits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transforms:
    """The transforms of a data set's images, and the size that these then have, in pixels."""

    train: Transform
    test: Transform
    train_size: int = 224
    test_size: int = 224


def default_transforms(size: int = 224, *, augment: bool = True) -> Transforms:
    """Return random crops and flips for training, and the central crop for testing."""
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
    """Images in tar files, by timm's reader. No file stays open: processes that share one would move its position."""

    def __init__(self, reader: ReaderImageInTar, chosen: list[int], classes: tuple[str, ...]) -> None:
        label_of = {name: label for label, name in enumerate(classes)}  # timm sorts by the numbers in names
        self.reader, self.chosen = reader, chosen
        self.labels = [label_of[reader.class_idx_to_name[int(reader.targets[index])]] for index in chosen]

    def name(self, index: int) -> str:
        member, tar, inner = self.reader.samples[self.chosen[index]]
        place = Path(self.reader.root) / (tar or "")
        return "/".join([str(place), *([inner.name] if inner else []), member.name])

    def open(self, index: int) -> IO[bytes]:
        file: IO[bytes] = self.reader[self.chosen[index]][0]
        return file


def image_folder(
    root: Path,
    transforms: Transforms | None = None,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    class_map: Path | None = None,
    test_only: bool = False,
    channels: int = 3,
) -> Splits:
    """Return the images of `root` as train / val / test splits.

    `root/train`, `root/val` and `root/test` hold a folder a class. They may be called `training`, `valid`, `validation` and
    `testing` too, in capitals or not. Images are the files that Pillow reads, by their endings. Hidden folders and files
    (`.ipynb_checkpoints`, `__MACOSX`) are passed over. What is left out is counted and named in a warning.

    With only `train` and `val` (as in ImageNet), `val` is the test split, scored once, and the images that choices are made
    on are held out of `train`. Without any, `root` itself holds the class folders, and both are held out of these.

    Tar files may replace each of these folders: `root/train.tar`, or a folder of them, `root/train/*.tar`.
    The class of an image is then the folder it lies in, or its tar file where it lies in none.

    Args:
        transforms: of the images to tensors; None crops and flips to 224 pixels.
        held_out: the share held out for each split that has no folder; the same images whatever the seed.
        seed: of the augmentation.
        class_map: a file with the names of the classes, one a line, in the order of their labels; images of others are left
            out. None: the classes found, in alphabetical order.
        test_only: takes `root/test`, else `root/val`, else all of `root` as the test split, and as the others too: for
            scoring a network where there is nothing to train on.
        channels: 3 for RGB, 1 for grey images.

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
    if found and not test_only:
        _check_parts(root, found)

    def split(images: Images, chosen: list[int], *, train: bool = False) -> ImageSplit:
        transform, size = (
            (transforms.train, transforms.train_size) if train else (transforms.test, transforms.test_size)
        )
        return ImageSplit(
            images, chosen, transform, size=size, channels=channels, replace=train, seed=seed if train else 0
        )

    if test_only:
        images, classes = _read(found.get("test") or found.get("val") or root, names)
        test = split(images, list(range(len(images.labels))))
        return Splits(train=test, val=test, test=test, classes=classes, channels=channels)

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
        channels=channels,
    )


def _place(root: Path, part: str) -> Path | None:
    """Return the folder or tar file with the images of `part`; None if there is neither."""
    folder = part_folder(root, part) if root.is_dir() else None
    if folder is not None:
        return folder
    tars = [root / f"{name}.tar" for name in SYNONYMS[part]]
    return next((path for path in tars if path.is_file()), None)


def _check_parts(root: Path, found: dict[str, Path]) -> None:
    """Report what lies beside the parts; raise ValueError if there are parts but no `train` among them."""
    folders = [path for path in root.iterdir() if path.is_dir() and visible(Path(path.name))]
    beside = [path.name for path in folders if path not in found.values()]
    parts = listed(path.name for path in found.values())
    if "train" in found:
        if beside:
            log.warning("%s: folders beside those of train, val and test are left out: %s", root, listed(beside))
    elif beside:
        log.warning("%s: there is no folder train: %s are taken for classes, as all folders are", root, parts)
    else:
        raise ValueError(
            f"{root}: expected a folder of images to train on, {' or '.join(SYNONYMS['train'])}, got {parts}"
        )


class _ClassFolders(ImageFolder):  # type: ignore[misc]
    """torchvision's folders of classes, without hidden files, and with every file that Pillow reads."""

    def __init__(self, place: Path) -> None:
        suffixes = image_suffixes()
        self.left_out: list[str] = []

        def is_image(file: str) -> bool:
            path = Path(file).relative_to(place)
            if path.suffix.lower() in suffixes and visible(path):
                return True
            self.left_out.append(str(path))
            return False

        super().__init__(str(place), is_valid_file=is_image, allow_empty=False)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        entries = sorted(Path(directory).iterdir())
        names = [path.name for path in entries if path.is_dir() and visible(Path(path.name))]
        self.left_out += [path.name for path in entries if path.name not in names]
        if not names:
            raise FileNotFoundError("found no folders")
        return names, {name: label for label, name in enumerate(names)}


def _read(place: Path, names: tuple[str, ...] | None) -> tuple[Images, tuple[str, ...]]:
    """Read the images of a folder, a tar file or a folder of tar files, and the classes; `names` gives their order."""
    if place.suffix == ".tar" or any(place.glob("*.tar")):
        return _read_tars(place, names)
    try:
        folder = _ClassFolders(place)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: expected a folder of images for each class ({error})") from None
    if folder.left_out:
        log.warning("%s: no images, or hidden, and left out: %s", place, listed(folder.left_out))
    if names is None and len(folder.classes) < 2:
        raise ValueError(f"{place}: expected folders of at least two classes, got {folder.classes[0]} alone")
    if names is None:
        return _FolderImages(list(folder.samples)), tuple(folder.classes)
    label_of = {name: label for label, name in enumerate(names)}
    samples = [(path, label_of[name]) for path, n in folder.samples if (name := folder.classes[n]) in label_of]
    if not samples:
        raise ValueError(f"{place}: expected images of classes in the class map, got folders of none of them")
    unknown = [name for name in folder.classes if name not in label_of]
    if unknown:
        log.warning("%s: folders of classes that the class map lacks are left out: %s", place, listed(unknown))
    return _FolderImages(samples), names


def _read_tars(place: Path, names: tuple[str, ...] | None) -> tuple[Images, tuple[str, ...]]:
    class_map = {name: label for label, name in enumerate(names)} if names else ""
    before = get_img_extensions()
    set_img_extensions(sorted(image_suffixes()))  # timm's reader takes no others: a setting of the process
    try:
        reader = ReaderImageInTar(str(place), class_map=class_map, cache_tarfiles=False)
    except Exception as error:  # the reader unpacks nothing where there is nothing, and tarfile raises others
        raise ValueError(f"{place}: expected tar files of images in a folder for each class ({error})") from None
    finally:
        set_img_extensions(before)
    chosen = [index for index, (member, *_) in enumerate(reader.samples) if visible(Path(member.name))]
    if len(chosen) < len(reader.samples):
        hidden = [member.name for member, *_ in reader.samples if not visible(Path(member.name))]
        log.warning("%s: hidden, and left out: %s", place, listed(hidden))
    found = {reader.class_idx_to_name[int(reader.targets[index])] for index in chosen}
    classes = names or tuple(sorted(found))
    if len(classes) < 2:
        raise ValueError(f"{place}: expected images of at least two classes, got {', '.join(classes) or 'none'} alone")
    return _TarImages(reader, chosen, classes), classes


def _class_names(path: Path | None) -> tuple[str, ...] | None:
    """Read the classes of a class map file, one name a line."""
    if path is None:
        return None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such class map; expected a text file with a class a line")
    if path.suffix != ".txt":
        raise ValueError(f"{path}: expected a class map that ends in .txt, with a class a line")
    indices: dict[str, int] = load_class_map(str(path))
    return tuple(sorted(indices, key=lambda name: indices[name]))
