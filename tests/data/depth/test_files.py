"""Depth maps in files: read with their unknowns, written in the same form, refused in a sentence, whole or absent."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddfnet.data.depth.files import DepthMap, read_depth, read_rgb, write_depth


def png(path: Path, numbers: object) -> Path:
    Image.fromarray(np.asarray(numbers)).save(path)
    return path


def test_a_png_in_millimetres(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 1000], [65535, 300, 0]], np.uint16)
    depth = read_depth(png(tmp_path / "d.png", numbers))
    assert (depth.kind, depth.dtype, depth.unit) == ("png16", np.uint16, "mm")
    assert depth.values.dtype == np.float32
    np.testing.assert_array_equal(depth.values, np.where(numbers == 0, np.nan, numbers))
    write_depth(tmp_path / "out.png", depth.values.astype(np.float64) + 0.3 * (depth.values < 60000), depth)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), numbers)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".npy"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint16"])
def test_tiff_and_npy_in_any_unit(tmp_path: Path, suffix: str, dtype: str) -> None:
    unknown = [0, 0, 0] if dtype == "uint16" else [0, np.inf, np.nan]
    numbers = np.array([unknown, [1, 2, 300]], dtype)
    path = tmp_path / f"d{suffix}"
    if suffix == ".npy":
        np.save(path, numbers)
    else:
        tifffile.imwrite(path, numbers)
    depth = read_depth(path)
    assert depth.kind == ("npy" if suffix == ".npy" else "tiff")
    assert depth.dtype == np.dtype(dtype).newbyteorder("=")
    assert depth.unit == ""
    np.testing.assert_array_equal(depth.values, [[np.nan] * 3, [1, 2, 300]])
    write_depth(path, depth.values, depth)
    again = read_depth(path)
    assert again.dtype == depth.dtype
    np.testing.assert_array_equal(again.values, depth.values)


def test_marks_are_unknown(tmp_path: Path) -> None:
    """Those that are named, as the file's dtype rounds them, and the only negative value; they are counted."""
    depth = read_depth(png(tmp_path / "d.png", np.array([[0, 65535], [7, 65535]], np.uint16)), unknown=[65535, 1, -1])
    np.testing.assert_array_equal(depth.values, [[np.nan, np.nan], [7, np.nan]])
    assert depth.marks == {65535: 2}
    path = tmp_path / "d.npy"
    np.save(path, np.array([[-1, 2], [-1, 3]], ">f4"))
    depth = read_depth(path)
    np.testing.assert_array_equal(depth.values, [[np.nan, 2], [np.nan, 3]])
    assert depth.marks == {-1: 2}
    np.save(path, np.array([[-1, 2], [-2, 3]], np.float32))
    assert read_depth(path).marks == {}
    assert not np.isnan(read_depth(path).values).any()
    np.save(path, np.array([[-9999, 2], [-1, 0.1]], np.float16))
    depth = read_depth(path, unknown=(-9999, 0.1))
    np.testing.assert_array_equal(depth.values, [[np.nan, 2], [np.nan, np.nan]])
    assert depth.marks == {-10000: 1, -1: 1, float(np.float16(0.1)): 1}


@pytest.mark.parametrize("value", [1e300, -1.7976931348623157e308, 1e-60])
def test_what_float32_does_not_hold_is_refused_unless_it_is_a_mark(tmp_path: Path, value: float) -> None:
    path = tmp_path / "d.npy"
    np.save(path, np.array([[1.0, value], [value, np.inf]]))
    got = re.escape(f"got {value!r}, in 2 of 4 pixels")
    message = rf"d\.npy: expected depths that float32 holds, 1\.18e-38 to 3\.4e\+38 in magnitude, {got}"
    if value > 0:  # else it is the only negative value
        with pytest.raises(ValueError, match=message):
            read_depth(path)
    depth = read_depth(path, unknown=[value])
    np.testing.assert_array_equal(depth.values, [[1, np.nan], [np.nan, np.nan]])
    assert depth.marks == {value: 2}


def test_one_channel_is_no_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 4, 5), np.float32))
    np.save(tmp_path / "b.npy", np.ones((4, 5, 1), np.float32))
    assert read_depth(tmp_path / "a.npy").values.shape == read_depth(tmp_path / "b.npy").values.shape == (4, 5)


def test_what_is_no_depth_map_is_refused(tmp_path: Path) -> None:
    ones = np.ones((4, 5), np.uint8)
    np.save(tmp_path / "three.npy", np.ones((4, 5, 3), np.float32))
    np.save(tmp_path / "int.npy", np.ones((4, 5), np.int64))
    np.save(tmp_path / "long.npy", np.ones((4, 5), np.longdouble))
    np.save(tmp_path / "none.npy", np.ones((0, 5), np.float32))
    np.save(tmp_path / "object.npy", np.array([{}, None]), allow_pickle=True)
    noise = np.random.default_rng(0).integers(1, 2**16, (64, 64), np.uint16)
    whole = png(tmp_path / "whole.png", noise).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("junk.png", "junk.npy", "junk.tif"):
        (tmp_path / name).write_bytes(b"neither")
    Image.fromarray(ones).save(tmp_path / "jpeg.png", "JPEG")
    for name, message in {
        "absent.png": "expected a depth map, found no such file",
        "d.jpg": "expected a depth map in .png, .tif, .tiff, .npy, got .jpg",
        "d": "got no suffix",
        png(
            tmp_path / "eight.png", ones
        ).name: "expected a 16-bit grey PNG, depths in millimetres, got an 8-bit grey one",
        png(tmp_path / "rgb.png", np.stack([ones] * 3, -1)).name: r"got a colour \(RGB\) one",
        "cut.png": "unreadable or truncated PNG",
        "junk.png": "got another kind of file",
        "jpeg.png": "got another kind of file",
        "junk.tif": "unreadable or truncated TIFF",
        "junk.npy": "expected an NPY file of one array of numbers",
        "object.npy": "expected an NPY file of one array of numbers",
        "three.npy": r"expected one depth map \(H, W\), got an array of shape \(4, 5, 3\)",
        "none.npy": r"expected one depth map \(H, W\), got an array of shape \(0, 5\)",
        "long.npy": "expected float or 16-bit unsigned depths, got",
        "int.npy": "expected float or 16-bit unsigned depths, got int64",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
            read_depth(tmp_path / name)
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_refused_and_leaves_what_was_there(tmp_path: Path) -> None:
    like = read_depth(png(tmp_path / "d.png", np.ones((2, 2), np.uint16)))
    before = (tmp_path / "d.png").read_bytes()
    for value, message in {
        65535.4: "got 65535.4 to 65535.4 at 1 pixels",
        -2: "got -2 to -2",
        0.2: "got 0.2",
        np.inf: "inf",
    }.items():
        with pytest.raises(ValueError, match=f"values: expected 0.5 to 65535, what uint16 depths hold, .*{message}"):
            write_depth(tmp_path / "d.png", np.array([[np.nan, 1.0], [2.0, value]]), like)
    half = DepthMap(like.values, "npy", np.dtype(np.float16))
    with pytest.raises(ValueError, match="what float16 depths hold"):
        write_depth(tmp_path / "h.npy", np.array([[1e5]]), half)
    with pytest.raises(ValueError, match=r"expected a name in \.npy, the format of the depth map read, got '\.png'"):
        write_depth(tmp_path / "d.png", np.ones((2, 2)), half)
    with pytest.raises(ValueError, match=r"values: expected a depth map \(H, W\), got shape \(2,\)"):
        write_depth(tmp_path / "d.png", np.ones(2), like)
    assert [path.name for path in tmp_path.iterdir()] == ["d.png"]
    assert (tmp_path / "d.png").read_bytes() == before


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, numbers: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", half)
    with pytest.raises(OSError, match="disk full"):
        write_depth(tmp_path / "d.tif", np.ones((2, 2)), DepthMap(np.ones((2, 2), np.float32), "tiff", np.dtype("f4")))
    assert list(tmp_path.iterdir()) == []


def test_photographs_become_rgb(tmp_path: Path) -> None:
    grey = png(tmp_path / "g.png", np.full((3, 4), 9, np.uint8))
    pixels = read_rgb(grey)
    assert pixels.shape == (3, 4, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 9).all()
    pixels[0] = 0  # theirs to change
    with pytest.raises(FileNotFoundError, match="expected a photograph, found no such file"):
        read_rgb(tmp_path / "absent.jpg")
    (tmp_path / "junk.jpg").write_bytes(b"neither")
    with pytest.raises(ValueError, match=r"junk\.jpg: not an image"):
        read_rgb(tmp_path / "junk.jpg")
