"""The data sets: what ships, the original files, folders of images; batches depend on indices and epoch alone."""

import gzip
import random
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddfnet.data.classification.fashion_mnist import CLASSES, SAMPLE, fashion_mnist, read_idx
from ddfnet.data.classification.image_folder import Transforms, default_transforms, image_folder
from ddfnet.data.decode import read_rgb
from ddfnet.data.images import central_transform, training_transform
from ddfnet.data.splits import InMemorySplit


def test_the_sample_is_the_first_ten_thousand_images() -> None:
    splits = fashion_mnist()
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [7_000, 1_000, 2_000]
    assert splits.classes == CLASSES
    assert splits.channels == 1
    images, labels, _ = splits.train.__getitems__([0, 1])
    assert images.shape == (2, 1, 28, 28)
    assert labels.tolist() == [9, 0]  # the well-known first two: an ankle boot, a T-shirt


def test_the_splits_do_not_overlap_and_keep_the_order() -> None:
    images = read_idx(SAMPLE / "train-10k-images-idx3-ubyte.gz")
    splits = fashion_mnist(augment=False)
    joined = torch.cat([split.images[:, 0] for split in (splits.train, splits.val, splits.test)])  # type: ignore[attr-defined]
    assert torch.equal(joined, images)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("folder", [".", "FashionMNIST/raw"])
def test_the_original_files(tmp_path: Path, compressed: bool, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for stem, count in (("train", 5_010), ("t10k", 7)):
        for kind, header in (
            ("images-idx3", struct.pack(">IIII", 0x803, count, 28, 28)),
            ("labels-idx1", struct.pack(">II", 0x801, count)),
        ):
            data = header + bytes(count * (784 if kind == "images-idx3" else 1))
            path = tmp_path / folder / f"{stem}-{kind}-ubyte"
            if compressed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(data, 1))
            else:
                path.write_bytes(data)
    splits = fashion_mnist(tmp_path)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [10, 5_000, 7]


def test_one_mean_is_that_of_every_channel() -> None:
    images = torch.randint(0, 256, (4, 3, 6, 5), dtype=torch.uint8)
    one, three = (
        InMemorySplit(images, torch.zeros(4), mean=mean, std=std, augment=True, max_shift=2)
        for mean, std in ((0.3, 0.7), ((0.3, 0.3, 0.3), (0.7, 0.7, 0.7)))
    )
    first, second = (split.__getitems__([2, 0]).images for split in (one, three))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the Fashion-MNIST file train-images-idx3-ubyte"):
        fashion_mnist(tmp_path)


def test_labels_and_images_must_agree(tmp_path: Path) -> None:
    shutil.copy(SAMPLE / "train-10k-images-idx3-ubyte.gz", tmp_path / "train-images-idx3-ubyte.gz")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 3) + bytes(3))
    with pytest.raises(ValueError, match=r"expected train images \(N, 28, 28\) and labels \(N,\)"):
        fashion_mnist(tmp_path)


def test_augmentation_depends_on_seed_and_epoch_alone() -> None:
    images = torch.randint(0, 255, (20, 1, 8, 8), dtype=torch.uint8)

    def split(seed: int = 0) -> InMemorySplit:
        return InMemorySplit(images, torch.arange(20), mean=0, std=1, augment=True, max_shift=2, seed=seed)

    a, b = split(), split()
    a.set_epoch(3)
    b.set_epoch(1)
    b.set_epoch(3)
    assert torch.equal(a.__getitems__([4, 7])[0], b.__getitems__([7, 4])[0].flip(0))
    b.set_epoch(4)
    assert not torch.equal(a.__getitems__(list(range(20)))[0], b.__getitems__(list(range(20)))[0])
    c = split(seed=1)
    c.set_epoch(3)
    assert not torch.equal(a.__getitems__(list(range(20)))[0], c.__getitems__(list(range(20)))[0])


def test_shifts_move_the_image_and_fill_with_background() -> None:
    images = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)
    split = InMemorySplit(images, torch.zeros(1), mean=0.5, std=0.25, augment=True, max_shift=1)
    split.flips[:] = False
    split.shifts[:] = torch.tensor([1, -1])  # down by one, left by one
    got = split.__getitems__([0])[0] * 0.25 + 0.5
    expected = torch.tensor([[0, 0, 0], [2, 3, 0], [5, 6, 0]]) / 255
    torch.testing.assert_close(got[0, 0], expected)


def make_folder(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        for label in ("cat", "dog"):
            (root / name / label).mkdir(parents=True)
            for number in range(count):
                value = (number * 7) % 255
                Image.new("RGB", (20, 30), (value, value, 255 - value)).save(root / name / label / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 10, "val": 3, "test": 4}, (20, 6, 8)),
        ({"train": 10, "val": 3}, (18, 2, 6)),
        ({"train": 10}, (16, 2, 2)),
        ({".": 20}, (32, 4, 4)),
    ],
)
def test_image_folders(tmp_path: Path, counts: dict[str, int], expected: tuple[int, ...]) -> None:
    splits = image_folder(make_folder(tmp_path, counts), default_transforms(16))
    assert (len(splits.train), len(splits.val), len(splits.test)) == expected
    paths = [name for split in (splits.train, splits.val, splits.test) for name in split.names]  # type: ignore[attr-defined]
    assert len(paths) == len(set(paths))
    images, labels, _ = splits.train.__getitems__([0, len(splits.train) - 1])
    assert images.shape == (2, 3, 16, 16)
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "validation"), ("TRAIN", "valid", "testing")])
def test_names_that_people_give_the_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = make_folder(tmp_path, dict(zip(names, (10, 3, 4), strict=False)))
    splits = image_folder(root, default_transforms(16))
    assert splits.classes == ("cat", "dog")
    sizes = [len(split) for split in (splits.train, splits.val, splits.test)]
    assert sizes == ([20, 6, 8] if len(names) == 3 else [18, 2, 6])
    assert len(image_folder(root, test_only=True).test) == (8 if len(names) == 3 else 6)


def test_parts_that_are_there_twice_or_without_train(tmp_path: Path) -> None:
    make_folder(tmp_path / "twice", {"train": 3, "val": 3, "valid": 3})
    with pytest.raises(ValueError, match="twice: expected one folder of val, found val and valid"):
        image_folder(tmp_path / "twice")
    make_folder(tmp_path / "half", {"val": 3, "test": 3})
    with pytest.raises(
        ValueError, match=r"expected a folder of images to train on, train or training, got 2 \(test, val\)"
    ):
        image_folder(tmp_path / "half")


def test_hidden_folders_and_files_that_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(tmp_path, {"train": 4, "val": 3})
    image = Image.new("RGB", (20, 30))
    for name in (".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints"):
        (root / "train" / name).mkdir()
        image.save(root / "train" / name / "1.png")
    image.save(root / "train" / "cat" / "._1.png")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / "labels.csv").write_text("no image")
    (root / "drafts").mkdir()
    splits = image_folder(root, default_transforms(16))
    assert splits.classes == ("cat", "dog")
    assert len(splits.train) + len(splits.val) == 8
    assert "train: no images, or hidden, and left out: 6 (.ipynb_checkpoints, __MACOSX, " in caplog.text
    assert "folders beside those of train, val and test are left out: 1 (drafts)" in caplog.text


@pytest.mark.parametrize("packed", [False, True])
def test_images_of_every_kind_that_pillow_reads(tmp_path: Path, packed: bool) -> None:
    kinds = ["gif", "jfif", "JPG", "bmp", "webp", "tga"]
    for label in ("cat", "dog", ".hidden"):
        (tmp_path / "all" / label).mkdir(parents=True)
        for kind in kinds:
            image = Image.new("RGB", (20, 30), (200, 0, 0))
            image.save(tmp_path / "all" / label / f"a.{kind}", format="JPEG" if kind == "jfif" else None)
    root = tmp_path / "all"
    if packed:
        with tarfile.open(tmp_path / "all.tar", "w") as tar:
            tar.add(root, "all")
        root = tmp_path / "all.tar"
    split = image_folder(root, default_transforms(16), test_only=True).test
    batch = split.__getitems__(list(range(len(split))))
    assert not batch.unreadable
    assert sorted(batch.labels.tolist()) == [0] * len(kinds) + [1] * len(kinds)


def test_grey_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"train": 4})
    transforms = default_transforms(16, augment=False)
    grey, colour = (image_folder(root, transforms, channels=channels) for channels in (1, 3))
    assert grey.channels == 1
    images = grey.train.__getitems__([0, 1]).images
    assert images.shape == (2, 1, 16, 16)
    assert not torch.equal(images, colour.train.__getitems__([0, 1]).images[:, :1])  # these are blue
    with Image.open(grey.train.names[0]) as image:  # type: ignore[attr-defined]
        same = image.convert("L").convert("RGB")
    assert torch.equal(images[0], transforms.train(same)[:1])


def test_folder_augmentation_does_not_depend_on_the_order_or_the_global_state(tmp_path: Path) -> None:
    train = training_transform(16, {"auto_augment": "rand-m9-mstd0.5", "re_prob": 0.5, "re_mode": "pixel"})
    transforms = Transforms(train, central_transform(16), 16, 16)
    split = image_folder(make_folder(tmp_path, {"train": 10}), transforms).train
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    a = split.__getitems__([0, 1, 2])[0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    for draw in (torch.rand, random.random, np.random.rand):
        draw(*([3] if draw is torch.rand else []))
    assert torch.equal(a, split.__getitems__([2, 1, 0])[0].flip(0))


def test_a_repeat_of_an_image_is_drawn_differently(tmp_path: Path) -> None:
    train = training_transform(16, {"re_prob": 1.0, "re_mode": "pixel"})
    transforms = Transforms(train, central_transform(16), 16, 16)
    split = image_folder(make_folder(tmp_path, {"train": 10}), transforms).train
    first, again, repeated = split.__getitems__([3, 3, 3 + len(split)]).images
    assert torch.equal(first, again)
    assert not torch.equal(first, repeated)
    assert split.__getitems__([3, 3 + len(split)]).labels.unique().numel() == 1


def test_tar_files_hold_what_folders_hold(tmp_path: Path) -> None:
    """train/: a tar of folders for each shard; val.tar: one tar of folders; test/: a tar for each class."""
    root = make_folder(tmp_path / "folder", {"train": 6, "val": 3, "test": 4})
    (tmp_path / "tar" / "train").mkdir(parents=True)
    (tmp_path / "tar" / "test").mkdir()
    for shard in range(2):
        with tarfile.open(tmp_path / "tar" / "train" / f"shard-{shard}.tar", "w") as tar:
            for path in sorted((root / "train").rglob("*.png"))[shard::2]:
                tar.add(path, path.relative_to(root / "train"))
    with tarfile.open(tmp_path / "tar" / "val.tar", "w") as tar:
        tar.add(root / "val", "val")
    for name in ("cat", "dog"):
        with tarfile.open(tmp_path / "tar" / "test" / f"{name}.tar", "w") as tar:
            for path in sorted((root / "test" / name).iterdir()):
                tar.add(path, path.name)
    a, b = (image_folder(folder, default_transforms(16, augment=False)) for folder in (root, tmp_path / "tar"))
    assert a.classes == b.classes
    for name in ("train", "val", "test"):
        batches = [split.__getitems__(list(range(len(split)))) for split in (getattr(a, name), getattr(b, name))]
        content = [
            sorted((int(label), image.sum().item()) for image, label in zip(batch[0], batch[1], strict=True))
            for batch in batches
        ]
        assert content[0] == content[1], name
    names = [name for split in (b.train, b.val, b.test) for name in split.names]  # type: ignore[attr-defined]
    assert len(set(names)) == len(names) == 26
    (tmp_path / "tar" / "val.tar").write_bytes(b"no tar file")
    with pytest.raises(ValueError, match="expected tar files of images in a folder for each class"):
        image_folder(tmp_path / "tar")


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Another takes its place in training, drawn as it would have been; it is left out of what is scored."""
    root = make_folder(tmp_path, {"train": 6, "val": 3, "test": 4})
    bad = [root / "train" / "cat" / "2.png", root / "test" / "dog" / "1.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-30])
    splits = image_folder(root, default_transforms(16, augment=False))
    train = splits.train.__getitems__(list(range(12)))
    assert train.unreadable == (str(bad[0]),)
    assert torch.equal(train.images[2], train.images[3])
    assert len(train.images) == 12
    test = splits.test.__getitems__([4, 5, 6, 7])
    assert test.unreadable == (str(bad[1]),)
    assert test.labels.tolist() == [1, 1, 1]
    alone = splits.test.__getitems__([5])
    assert alone.images.shape == (0, 3, 16, 16)
    assert alone.labels.dtype == torch.int64
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\.png: not an image; nor could any of the 11 images after it be read"):
        splits.train.__getitems__([0])


def test_a_class_map_orders_and_chooses(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"val": 3})
    (tmp_path / "map.txt").write_text("eel\ndog\ncat\n")
    splits = image_folder(root, class_map=tmp_path / "map.txt", test_only=True)
    assert splits.classes == ("eel", "dog", "cat")
    assert splits.test.__getitems__([0, 5]).labels.tolist() == [2, 1]
    assert len(splits.test) == 6
    (tmp_path / "map.txt").write_text("dog\neel\n")
    assert len(image_folder(root, class_map=tmp_path / "map.txt", test_only=True).test) == 3
    (tmp_path / "map.txt").write_text("eel\nowl\n")
    with pytest.raises(ValueError, match="expected images of classes in the class map"):
        image_folder(root, class_map=tmp_path / "map.txt", test_only=True)


def test_the_test_crop(tmp_path: Path) -> None:
    """crop_pct 1 at the image's size is the image; options that timm does not have are told."""
    pixels = torch.arange(16 * 16 * 3, dtype=torch.uint8).view(16, 16, 3)
    image = Image.fromarray(pixels.numpy())
    whole = central_transform(16, crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1))(image)
    assert torch.equal((whole * 255).round().byte(), pixels.permute(2, 0, 1))
    assert central_transform(12, crop_pct=0.875)(image).shape == (3, 12, 12)
    with pytest.raises(ValueError, match="crop_pct: expected a share above 0"):
        central_transform(12, crop_pct=1.2)
    with pytest.raises(ValueError, match=r"augmentation: expected options of timm\.data\.create_transform"):
        training_transform(12, {"rotate": 3})


def test_differing_classes(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": 4, "val": 3})
    shutil.rmtree(tmp_path / "val" / "dog")
    with pytest.raises(ValueError, match="at least two classes, got cat alone"):
        image_folder(tmp_path)


def test_sixteen_bits_are_scaled_and_floats_refused(tmp_path: Path) -> None:
    values = torch.tensor([[0, 257 * 10], [257 * 100, 65535]], dtype=torch.uint16)
    Image.fromarray(values.numpy()).save(tmp_path / "deep.png")
    image = read_rgb(tmp_path / "deep.png")
    assert [image.getpixel((x, y)) for y in (0, 1) for x in (0, 1)] == [(v, v, v) for v in (0, 10, 100, 255)]
    Image.new("F", (2, 2)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match="expected 8 or 16 bits a channel, got an image of mode 'F'"):
        read_rgb(tmp_path / "float.tiff")
