"""The data sets: what ships, the original files, folders of images; batches depend on indices and epoch alone."""

import gzip
import shutil
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddfnet.data.fashion_mnist import CLASSES, SAMPLE, fashion_mnist, read_idx
from ddfnet.data.image_folder import image_folder, read_rgb
from ddfnet.data.splits import InMemorySplit


def test_the_sample_is_the_first_ten_thousand_images() -> None:
    splits = fashion_mnist()
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [7_000, 1_000, 2_000]
    assert splits.classes == CLASSES
    assert splits.channels == 1
    images, labels = splits.train.__getitems__([0, 1])
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
    splits = image_folder(make_folder(tmp_path, counts), image_size=16)
    assert (len(splits.train), len(splits.val), len(splits.test)) == expected
    paths = [path for split in (splits.train, splits.val, splits.test) for path, _ in split.samples]  # type: ignore[attr-defined]
    assert len(paths) == len(set(paths))
    images, labels = splits.train.__getitems__([0, len(splits.train) - 1])
    assert images.shape == (2, 3, 16, 16)
    assert labels.tolist() == [0, 1]


def test_folder_augmentation_does_not_depend_on_the_order_or_the_global_state(tmp_path: Path) -> None:
    split = image_folder(make_folder(tmp_path, {"train": 10}), image_size=16).train
    before = torch.get_rng_state()
    a = split.__getitems__([0, 1, 2])[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(a, split.__getitems__([2, 1, 0])[0].flip(0))


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
