"""CIFAR-10 from sheets of images and as torchvision downloads it."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ddfnet.data.classification.cifar10 import CLASSES, MEAN, STD, cifar10
from ddfnet.tasks.classification import Cifar10Data


def write_sheets(root: Path) -> np.ndarray:
    """One sheet of 10,000 images for training and one for testing, image i in the colour (i % 251, i % 241, i % 239)."""
    numbers = np.arange(10_000)
    colours = np.stack([numbers % 251, numbers % 241, numbers % 239], 1).astype(np.uint8)
    sheet = colours.reshape(100, 100, 3).repeat(32, 0).repeat(32, 1)
    for part in ("train", "test"):
        Image.fromarray(sheet).save(root / f"{part}_0.png", compress_level=1)
        np.save(root / f"{part}_labels.npy", (numbers % 10).astype(np.uint8))
    return colours


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sheets")
    write_sheets(root)
    return root


def test_sheets(sheets: Path) -> None:
    splits = cifar10(sheets, augment=False)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [5_000, 5_000, 10_000]
    assert (splits.classes, splits.channels) == (CLASSES, 3)
    images, labels, _ = splits.val.__getitems__([0, 4_999])
    assert images.shape == (2, 3, 32, 32)
    assert labels.tolist() == [0, 9]
    for image, number in zip(images, (5_000, 9_999), strict=True):
        colour = torch.tensor([number % 251, number % 241, number % 239]) / 255
        expected = (colour - torch.tensor(MEAN)) / torch.tensor(STD)
        torch.testing.assert_close(image, expected.view(3, 1, 1).expand(3, 32, 32))


def test_images_are_prepared_as_those_of_the_splits(sheets: Path) -> None:
    data = Cifar10Data(sheets, augment=False, batch_size=4)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
        STD
    ).view(3, 1, 1)
    torch.testing.assert_close(data.transform(Image.fromarray(pixels)), expected)
    assert data.describe()["images"] == {"train": 5_000, "val": 5_000, "test": 10_000}


def test_as_torchvision_downloads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sums = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {"data": rng.integers(0, 256, (1_100, 3072), np.uint8), "labels": [i % 10 for i in range(1_100)]}
        (folder / name).write_bytes(pickle.dumps(batch))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name in sums if name != "test_batch"])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": meta})
    splits = cifar10(tmp_path, augment=False)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [500, 5_000, 1_100]
    first = pickle.loads((folder / "data_batch_1").read_bytes())["data"][0].reshape(3, 32, 32)
    image = splits.train.__getitems__([0]).images[0] * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(
        3, 1, 1
    )
    torch.testing.assert_close(image * 255, torch.from_numpy(first).float())
    (folder / "test_batch").write_bytes(b"")
    with pytest.raises(ValueError, match="cifar-10-batches-py: expected the files of CIFAR-10"):
        cifar10(tmp_path)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root: expected a folder with CIFAR-10"):
        Cifar10Data(batch_size=4).read()
    with pytest.raises(FileNotFoundError, match=r"expected cifar-10-batches-py, or sheets .* no train_0\.webp there"):
        cifar10(tmp_path)
    Image.new("RGB", (64, 32)).save(tmp_path / "train_0.png")
    with pytest.raises(FileNotFoundError, match=r"no train_labels\.npy there"):
        cifar10(tmp_path)
    np.save(tmp_path / "train_labels.npy", np.zeros(10_000, np.uint8))
    with pytest.raises(ValueError, match=r"train_0\.png: expected a sheet of 3200 x 3200 pixels, got 64 x 32"):
        cifar10(tmp_path)
    (tmp_path / "train_0.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"train_0\.png: expected a sheet of images"):
        cifar10(tmp_path)


def test_labels_of_another_count(sheets: Path, tmp_path: Path) -> None:
    for path in sheets.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "test_labels.npy").unlink()
    np.save(tmp_path / "test_labels.npy", np.zeros(3, np.uint8))
    with pytest.raises(
        ValueError, match=r"labels\.npy: expected 10,000 labels of 0 to 9, got an array of shape \(3,\)"
    ):
        cifar10(tmp_path)
