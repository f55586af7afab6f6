"""NYU Depth v2: split, orientation and unknowns, on a file of its layout; workers forked and spawned; clear errors."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from ddfnet.data.depth.nyu import NYUDepth
from ddfnet.data.depth.photographs import RGBDImage

LAYOUT = {"images": ((1449, 3, 640, 480), "u1"), "depths": ((1449, 640, 480), "f4")}
WRITTEN = (0, 999, 1000, 1448)


def first(items: list[RGBDImage]) -> RGBDImage:
    return items[0]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1449 places, four of them written; what is not takes no room and reads as 0."""
    path = tmp_path_factory.mktemp("nyu") / "labelled.mat"
    with h5py.File(path, "w") as content:
        for name, (shape, dtype) in LAYOUT.items():
            content.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]))
        columns, rows = np.mgrid[:640, :480]
        for number in WRITTEN:
            content["images"][number] = np.stack([rows % 256, columns % 256, np.full_like(rows, number % 256)])
            depth = 1 + rows / 1000 + columns / 10 + number
            depth[5, 7], depth[5, 8] = 0, np.inf
            content["depths"][number] = depth
    return path


def check(item: RGBDImage, number: int) -> None:
    assert item.rgb.shape == (480, 640, 3)
    assert item.rgb.dtype == np.uint8
    assert item.rgb[300, 500].tolist() == [300 % 256, 500 % 256, number % 256]
    assert item.depth.shape == (480, 640)
    assert item.depth.dtype == np.float32
    assert item.depth[300, 500] == np.float32(1 + 300 / 1000 + 500 / 10 + number)
    assert np.argwhere(np.isnan(item.depth)).tolist() == [[7, 5], [8, 5]]
    assert item.name == f"nyu {number:04}"
    assert item.unit == "m"


def test_the_split_is_table_7s(file: Path) -> None:
    train, test = NYUDepth(file, "train"), NYUDepth(str(file), "test")
    assert (len(train), len(test)) == (1000, 449)
    for dataset, index, number in ((train, 0, 0), (train, 999, 999), (test, 0, 1000), (test, -1, 1448)):
        check(dataset[index], number)
    assert np.isnan(train[1].depth).all()  # a place that is 0: unknown


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_too(file: Path, context: str) -> None:
    dataset = NYUDepth(file, "test")
    check(dataset[0], 1000)  # opened before the workers are there
    loader = DataLoader(
        dataset, sampler=[448, 0], num_workers=1, multiprocessing_context=context, collate_fn=first, batch_size=1
    )
    for item, number in zip(loader, (1448, 1000), strict=True):
        check(item, number)
    check(dataset[0], 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "expected an array 'images', got depths"),
        (
            {"images": ((1449, 3, 480, 640), "u1")},
            r"expected images of shape \(1449, 3, 640, 480\), got \(1449, 3, 480",
        ),
        ({"depths": ((795, 640, 480), "f4")}, r"expected depths of shape \(1449, 640, 480\), got \(795, 640, 480\)"),
        ({"depths": ((1449, 640, 480), "u2")}, "expected depths of float numbers, got uint16"),
        ({"images": None, "depths": None}, "expected an array 'images', got an empty file"),
    ],
)
def test_another_layout_is_told(
    tmp_path: Path, change: dict[str, tuple[tuple[int, ...], str] | None], message: str
) -> None:
    with h5py.File(tmp_path / "other.mat", "w") as content:
        for name, layout in {**LAYOUT, **change}.items():
            if layout is not None:
                content.create_dataset(name, layout[0], layout[1], chunks=(1, *layout[0][1:]))
    with pytest.raises(ValueError, match=rf"other\.mat: {message}"):
        NYUDepth(tmp_path / "other.mat", "train")


def test_errors(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='part: expected "train" or "test", got \'val\''):
        NYUDepth(file, "val")  # type: ignore[arg-type]
    with pytest.raises(
        FileNotFoundError, match=r"expected nyu_depth_v2_labeled\.mat of NYU Depth v2, found no such file"
    ):
        NYUDepth(tmp_path / "absent.mat", "train")
    (tmp_path / "text.mat").write_text("MATLAB 5.0 MAT-file")
    with pytest.raises(ValueError, match=r"expected an HDF5 file \(MATLAB v7\.3\), or it is damaged"):
        NYUDepth(tmp_path / "text.mat", "train")
    with pytest.raises(IndexError, match="index: expected one of 449 images, got 449"):
        NYUDepth(file, "test")[449]
