"""Depth maps in files: read with their unknowns, written in any format, refused in a sentence, whole or absent."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddfnet.data.depth.files import FORMATS, DepthMap, orientation, read_depth, read_rgb, write_depth


def png(path: Path, numbers: object) -> Path:
    Image.fromarray(np.asarray(numbers)).save(path)
    return path


def test_a_png_in_millimetres(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 40000], [65535, 300, 0]], np.uint16)
    depth = read_depth(png(tmp_path / "d.png", numbers))
    assert (depth.dtype, depth.unit) == (np.uint16, "mm")
    assert depth.values.dtype == np.float32
    np.testing.assert_array_equal(depth.values, np.where(numbers == 0, np.nan, numbers))
    write_depth(tmp_path / "out.png", depth.values.astype(np.float64) + 0.3 * (depth.values < 60000), depth)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), numbers)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".npy", ".npz"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint16", ">u2", "uint8", "int32", "uint32"])
def test_arrays_in_any_unit(tmp_path: Path, suffix: str, dtype: str) -> None:
    numbers = np.array([[0, np.inf, np.nan] if "f" in dtype else [0, 0, 0], [1, 2, 250]], dtype)
    path = tmp_path / f"d{suffix}"
    if suffix == ".npy":
        np.save(path, numbers)
    elif suffix == ".npz":
        np.savez(path, numbers)
    else:
        tifffile.imwrite(path, numbers)
    depth = read_depth(path)
    assert depth.dtype == (
        "int32" if suffix.lower().startswith(".t") and dtype == "uint32" else np.dtype(dtype).newbyteorder("=")
    )
    assert depth.unit == ""
    np.testing.assert_array_equal(depth.values, [[np.nan] * 3, [1, 2, 250]])
    write_depth(path, depth.values, depth)
    again = read_depth(path)
    assert again.dtype == ("float32" if suffix.lower().startswith(".t") and "int32" in dtype else depth.dtype)
    np.testing.assert_array_equal(again.values, depth.values)


@pytest.mark.parametrize("out", FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_any_format_becomes_any_other(tmp_path: Path, out: str, dtype: str) -> None:
    """With the dtype it had, where the format holds that; unknown pixels stay unknown."""
    if out == ".exr":
        pytest.importorskip("OpenEXR")
    numbers = np.arange(300).reshape(10, 30).clip(0, 255 if dtype == "uint8" else None).astype(dtype)
    np.save(tmp_path / "in.npy", numbers)
    depth = read_depth(tmp_path / "in.npy")
    write_depth(tmp_path / f"out{out}", depth.values, depth)
    found = read_depth(tmp_path / f"out{out}")
    expected = {".png": "uint16", ".pgm": "uint16", ".pfm": "float32", ".exr": "float32"}.get(out, dtype)
    assert found.dtype == (dtype if dtype == "uint8" and out in (".png", ".pgm") else expected)
    assert np.isnan(found.values[0, 0])
    np.testing.assert_array_equal(found.values, depth.values)
    assert [path.name for path in tmp_path.glob("*out*")] == [f"out{out}"]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_compressed_tiffs(tmp_path: Path, compression: str, dtype: str) -> None:
    numbers = np.arange(1, 13).reshape(3, 4).astype(dtype)
    Image.fromarray(numbers).save(tmp_path / "d.tif", compression=compression)
    depth = read_depth(tmp_path / "d.tif")
    assert depth.dtype == dtype
    np.testing.assert_array_equal(depth.values, numbers)


def test_a_written_tiff_is_compressed_by_lzw(tmp_path: Path) -> None:
    write_depth(tmp_path / "d.tif", np.ones((64, 64), np.float32))
    with Image.open(tmp_path / "d.tif") as image:
        assert image.info["compression"] == "tiff_lzw"


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (b"P5 2 2 1023\n" + np.array([0, 1, 2, 1000], ">u2").tobytes(), "uint16"),
        (b"P5\n# a camera's\n2 2\n#\n15\n" + bytes([0, 1, 2, 15]), "uint8"),
        (b"P2\n2 2\n65535\n0 1\n2 60000\n", "uint16"),
    ],
)
def test_a_pgm_is_read_as_it_is(tmp_path: Path, data: bytes, dtype: str) -> None:
    """Not scaled by its greatest value: these are depths."""
    (tmp_path / "d.pgm").write_bytes(data)
    depth = read_depth(tmp_path / "d.pgm")
    assert depth.dtype == dtype
    np.testing.assert_array_equal(depth.values.ravel()[:3], [np.nan, 1, 2])
    assert depth.values[1, 1] in (1000, 15, 60000)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pfm_begins_with_its_last_row(tmp_path: Path, order: str) -> None:
    numbers = np.array([[0.5, np.inf], [2.5, 3.5], [4.5, 5.5]], "f4")
    scale = b"-1.0" if order == "<" else b"1.0"
    (tmp_path / "d.pfm").write_bytes(b"Pf\n2 3\n" + scale + b"\n" + numbers[::-1].astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(read_depth(tmp_path / "d.pfm").values, np.where(np.isinf(numbers), np.nan, numbers))


def test_an_npz_of_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=np.ones((2, 3)), rgb=np.zeros((2, 3, 3)))
    assert read_depth(tmp_path / "a.npz").values.shape == (2, 3)
    np.savez(tmp_path / "b.npz", z=np.ones((2, 3)), rgb=np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match=r"b\.npz: expected one array, or one named 'depth', got z, rgb"):
        read_depth(tmp_path / "b.npz")


def test_exr_channels(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenEXR")
    depth, colour = np.array([[0.5, 0], [2.5, np.inf]], "f4"), np.ones((2, 2), np.float16)

    def write(name: str, channels: dict[str, Any]) -> Path:
        header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
        with library.File(header, channels) as file:
            file.write(str(tmp_path / name))
        return tmp_path / name

    expected = [[0.5, np.nan], [2.5, np.nan]]
    for channels in ({"Z": depth, "R": colour}, {"V": depth}, {"R": depth, "G": depth, "B": depth}):
        np.testing.assert_array_equal(read_depth(write("d.exr", channels)).values, expected)
    with pytest.raises(ValueError, match=r"c\.exr: expected a channel Z, depth or Y, or one alone, got G, R"):
        read_depth(write("c.exr", {"R": colour, "G": 2 * colour}))
    (tmp_path / "junk.exr").write_bytes(b"neither")
    with pytest.raises(ValueError, match=r"junk\.exr: unreadable or truncated EXR"):
        read_depth(tmp_path / "junk.exr")


def test_exr_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "OpenEXR", None)
    (tmp_path / "d.exr").write_bytes(b"any")
    with pytest.raises(ImportError, match="EXR files need the package OpenEXR, which is not installed: pip inst"):
        read_depth(tmp_path / "d.exr")


def test_zero_may_be_known(tmp_path: Path) -> None:
    path = png(tmp_path / "d.png", np.array([[0, 7]], np.uint8))
    depth = read_depth(path, zero_is_known=True)
    np.testing.assert_array_equal(depth.values, [[0, 7]])
    write_depth(path, np.array([[0.2, 7]]), depth)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), [[0, 7]])


def test_65535_that_stands_apart_is_unknown(tmp_path: Path) -> None:
    depth = read_depth(png(tmp_path / "d.png", np.array([[500, 65535, 9000]], np.uint16)))
    np.testing.assert_array_equal(depth.values, [[500, np.nan, 9000]])
    assert depth.marks == {65535: 1}
    np.save(tmp_path / "d.npy", np.array([[500, 65535, 9000]], np.float32))
    assert read_depth(tmp_path / "d.npy").marks == {}


def test_metres_in_whole_numbers(tmp_path: Path) -> None:
    """Refused, for they would become 1, 2 and 3; by a scale they are millimetres."""
    metres = np.array([[1.25, 2.5], [np.nan, 3.75]], np.float32)
    with pytest.raises(
        ValueError, match=r"at least 256 whole numbers, .* got 1\.25 to 3\.75; a scale makes more of them"
    ):
        write_depth(tmp_path / "d.png", metres)
    assert not list(tmp_path.iterdir())
    write_depth(tmp_path / "d.png", metres, scale=1000)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "d.png")), [[1250, 2500], [0, 3750]])


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
    np.save(tmp_path / "bool.npy", np.ones((4, 5), bool))
    tifffile.imwrite(tmp_path / "pages.tif", np.ones((2, 4, 5), np.uint8))
    (tmp_path / "zero.pgm").write_bytes(b"P5 1 1 0 1")
    (tmp_path / "cut.pgm").write_bytes(b"P5 2 2 255 1")
    np.save(tmp_path / "long.npy", np.ones((4, 5), np.longdouble))
    np.save(tmp_path / "none.npy", np.ones((0, 5), np.float32))
    np.save(tmp_path / "object.npy", np.array([{}, None]), allow_pickle=True)
    noise = np.random.default_rng(0).integers(1, 2**16, (64, 64), np.uint16)
    whole = png(tmp_path / "whole.png", noise).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("junk.png", "junk.npy", "junk.npz", "junk.tif", "junk.pgm"):
        (tmp_path / name).write_bytes(b"neither")
    Image.fromarray(ones).save(tmp_path / "jpeg.png", "JPEG")
    for name, message in {
        "absent.png": "expected a depth map, found no such file",
        "d.jpg": "expected a depth map in .png, .pgm, .pfm, .tif, .tiff, .exr, .npy, .npz, got .jpg",
        "d": "got no suffix",
        png(tmp_path / "one.png", ones > 0).name: "expected a grey PNG of 8 or 16 bits, got a 1-bit one",
        "zero.pgm": "expected a PGM whose greatest value is 1 to 65535, got 0",
        "cut.pgm": "unreadable or truncated PGM",
        "junk.pgm": "got another kind of file",
        "pages.tif": "expected one depth map, got a TIFF of 2 images",
        "junk.npz": "expected an NPZ file of arrays of numbers",
        png(tmp_path / "rgb.png", np.stack([ones] * 3, -1)).name: r"got a colour \(RGB\) one",
        "cut.png": "unreadable or truncated PNG",
        "junk.png": "got another kind of file",
        "jpeg.png": "got another kind of file",
        "junk.tif": "unreadable or truncated TIFF",
        "junk.npy": "expected an NPY file of one array of numbers",
        "object.npy": "expected an NPY file of one array of numbers",
        "three.npy": r"expected one depth map \(H, W\), got an array of shape \(4, 5, 3\)",
        "none.npy": r"expected one depth map \(H, W\), got an array of shape \(0, 5\)",
        "long.npy": "expected depths as integers or floats, got",
        "bool.npy": "expected depths as integers or floats, got bool",
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
        with pytest.raises(
            ValueError, match=f"d.png: expected depths of 0.5 to 65535, which uint16 holds, .*{message}"
        ):
            write_depth(tmp_path / "d.png", np.array([[np.nan, 1.0], [2.0, value]]), like)
    half = DepthMap(like.values, np.dtype(np.float16))
    with pytest.raises(ValueError, match="which float16 holds"):
        write_depth(tmp_path / "h.npy", np.array([[1e5]]), half)
    with pytest.raises(ValueError, match=r"values: expected a depth map \(H, W\), got shape \(2,\)"):
        write_depth(tmp_path / "d.png", np.ones(2), like)
    assert [path.name for path in tmp_path.iterdir()] == ["d.png"]
    assert (tmp_path / "d.png").read_bytes() == before


def test_what_was_made_of_whole_numbers_stays_within_them(tmp_path: Path) -> None:
    depth = read_depth(png(tmp_path / "d.png", np.ones((2, 2), np.uint16)))
    made = np.array([[-3.0, 0.4], [7.5, 70_000]], np.float32)
    assert depth.bounded(made).tolist() == [[1, 1], [7.5, 65535]]
    assert replace(depth, zero_is_known=True).bounded(made)[0, 0] == 0
    assert replace(depth, dtype=np.dtype(np.float32)).bounded(made) is made


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, numbers: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setitem(FORMATS, ".tif", FORMATS[".tif"]._replace(write=half))
    with pytest.raises(OSError, match="disk full"):
        write_depth(tmp_path / "d.tif", np.ones((2, 2)))
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


def test_a_photograph_above_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = png(tmp_path / "large.png", np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"large\.png: Pillow reads at most 0 megapixels, .* lift the limit by `--large`"
    ):
        read_rgb(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_rgb(path).shape == (5, 5, 3)


def test_a_photograph_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "turned.png"), pixels[::-1, ::-1])
    assert orientation(tmp_path / "turned.png") == 3
    assert orientation(png(tmp_path / "plain.png", pixels)) == 1
