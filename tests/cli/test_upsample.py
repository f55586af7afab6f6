"""`ddfnet upsample`: files or folders in, files of any format out; and nothing but a sentence where that can't be."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import ddfnet
from ddfnet.cli import main
from ddfnet.data.depth.files import FORMATS, read_depth
from ddfnet.data.depth.point_cloud import POINT
from ddfnet.models.depth import convex_up_net
from ddfnet.models.depth import upsample as upsample_depth
from ddfnet.models.depth.convex_up_net import ConvexUpNet, save

LOW, SIZE = (9, 12), (36, 47)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    counts = (1,) * 5
    network = ConvexUpNet((8,) * 5, encoder=counts, decoder=counts, embedding=4)
    save(network, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.fixture
def files(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of inputs; untrained weights in the place of those that ship."""
    monkeypatch.setattr(convex_up_net, "WEIGHTS", weights)
    upsample_depth._shipped.cache_clear()
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    depth = 1 + 2 * rng.random(LOW, dtype=np.float32)
    depth[4:6, 5:8] = np.nan
    truth = 1 + 2 * rng.random(SIZE, dtype=np.float32)
    truth[:5] = np.nan
    np.save("depth.npy", depth)
    np.save("double.npy", depth.astype(np.float64))
    np.save("truth.npy", truth)
    np.save("wide.npy", depth[:, :6])
    np.save("vast.npy", np.full(LOW, 1e300))
    np.save("unknown.npy", np.zeros(LOW, np.float32))
    Image.fromarray(np.nan_to_num(1000 * depth).astype(np.uint16)).save("depth.png")
    Image.fromarray(np.nan_to_num(80 * depth).astype(np.uint8)).save("eight.png")
    import tifffile

    tifffile.imwrite("depth.tiff", depth)
    Image.fromarray(depth).save("lzw.tif", compression="tiff_lzw")
    np.save("metres.npy", depth / 1000)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save("rgb.png")
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rgb() -> NDArray[np.uint8]:
    return np.asarray(Image.open("rgb.png"))


@pytest.mark.parametrize(
    ("depth", "out", "dtype"),
    [
        ("depth.npy", "out.npy", np.float32),
        ("double.npy", "out.npy", np.float64),
        ("depth.tiff", "out.tif", np.float32),
        ("lzw.tif", "out.tif", np.float32),
        ("depth.png", "out.PNG", np.uint16),
        ("depth.png", "out.npz", np.uint16),
        ("depth.png", "out.pfm", np.float32),
        ("eight.png", "out.pgm", np.uint8),
    ],
)
def test_the_result_has_the_unit_and_the_dtype_of_the_input(
    files: Path, capsys: pytest.CaptureFixture[str], depth: str, out: str, dtype: Any
) -> None:
    before = names(files)
    assert main(["upsample", depth, "rgb.png", "-o", out, "--device", "cpu"]) == 0
    assert names(files) == before | {out}
    found, given = read_depth(files / out), read_depth(files / depth)
    assert (found.dtype, found.values.shape) == (np.dtype(dtype), SIZE)
    expected = ddfnet.upsample_depth(given.values, rgb())
    if found.dtype.kind == "u":  # 0 marks unknown pixels
        expected = np.round(expected.clip(1, np.iinfo(found.dtype).max))
    assert np.array_equal(found.values, expected)
    assert f"{out}: 36x47, from 9x12, 6 unknown pixels filled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mark", "options", "told", "note"),
    [
        (
            -1,
            [],
            "6 unknown pixels filled, 6 of them -1",
            "-1, the only negative value of DEPTH, is taken for unknown",
        ),
        (65535, ["--unknown", "65535"], "6 unknown pixels filled, 6 of them 65535", ""),
        (
            -3.4e38,
            ["--unknown", "-3.4e38", "--unknown", "7"],
            "6 of them -3.4e+38",
            "no pixel of DEPTH is 7, which --unknown",
        ),
    ],
)
def test_marks_of_unknown_pixels(
    files: Path, capsys: pytest.CaptureFixture[str], mark: float, options: list[str], told: str, note: str
) -> None:
    """Named or known by custom, in DEPTH and in the truth: the result is that of NaN in their place."""
    depth, truth = np.load("depth.npy"), np.load("truth.npy")
    np.save("marked.npy", np.where(np.isnan(depth), np.float32(mark), depth))
    np.save("marked_truth.npy", np.where(np.isnan(truth), np.float32(mark), truth))
    line = ["rgb.png", "--device", "cpu", *options]
    assert main(["upsample", "marked.npy", *line, "-o", "out.npy", "--truth", "marked_truth.npy"]) == 0
    printed = capsys.readouterr()
    assert told in printed.out
    assert printed.err.startswith("note: " + note) if note else not printed.err
    assert printed.err.count("\n") == bool(note)
    assert np.array_equal(np.load("out.npy"), ddfnet.upsample_depth(depth, rgb()))
    assert main(["upsample", "depth.npy", "rgb.png", "--device", "cpu", "-o", "out.npy", "--truth", "truth.npy"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == printed.out.splitlines()[1:]


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (
            {(0, 0): -0.5, (0, 1): -0.25},
            r"negative depths, -0\.5 to -0\.25, in 2 of 102 known pixels, taken as they are",
        ),
        ({}, ""),
    ],
)
def test_notes_on_values_that_may_be_marks(
    files: Path, capsys: pytest.CaptureFixture[str], values: dict[tuple[int, int], float], note: str
) -> None:
    depth = np.load("depth.npy")
    for place, value in values.items():
        depth[place] = value
    np.save("marked.npy", depth)
    line = ["upsample", "marked.npy", "rgb.png", "-o", "out.npy", "--device", "cpu", "--preview", "out.png"]
    assert main(line) == 0
    error = capsys.readouterr().err
    ending = "; --unknown names those that mark unknown pixels\n"
    assert re.fullmatch(f"note: {note}{ending}" if note else "", error)


def test_a_note_on_65535_in_16_bits(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = np.random.default_rng(0).integers(2_000, 6_000, LOW, np.uint16)
    depth[0, :3] = 65535
    Image.fromarray(depth).save("depth.png")
    argv = ["upsample", "depth.png", "rgb.png", "-o", "out.png", "--device", "cpu", "--samples", "point"]
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert printed.err == "note: 65535, far from all other values of DEPTH, is taken for unknown\n"
    assert "3 unknown pixels filled, 3 of them 65535" in printed.out
    assert np.asarray(Image.open("out.png")).max() <= 6000


def test_samples_and_known_zeros(files: Path) -> None:
    depth = np.load("depth.npy")
    depth[0, 0] = 0
    np.save("depth.npy", depth)
    line = ["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu"]
    for samples in ("point", "average"):
        for known in (False, True):
            assert main([*line, "--samples", samples, *["--zero-is-known"] * known]) == 0
            expected = ddfnet.upsample_depth(depth, rgb(), samples=samples, zero_is_known=known)  # type: ignore[arg-type]
            assert np.array_equal(np.load("out.npy"), expected)


def test_metres_become_millimetres(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["upsample", "depth.npy", "rgb.png", "-o", "out.png", "--device", "cpu"]
    assert main(line) == 1
    assert "out.png: expected depths whose range has at least 256 whole numbers" in capsys.readouterr().err
    assert main([*line, "--scale", "1000"]) == 0
    expected = ddfnet.upsample_depth(np.load("depth.npy"), rgb())
    assert np.abs(np.asarray(Image.open("out.png")) - 1000.0 * expected).max() <= 0.51


def test_the_confidence(files: Path) -> None:
    line = ["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu", "--confidence"]
    _, expected = ddfnet.upsample_depth(np.load("depth.npy"), rgb(), confidence=True)
    assert main([*line, "sure.npy"]) == 0
    assert np.array_equal(np.load("sure.npy"), expected)
    assert main([*line, "sure.png"]) == 0
    assert np.array_equal(np.asarray(Image.open("sure.png")), np.round(255 * expected))


def test_the_point_cloud(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu", "--point-cloud", "out.ply"]
    assert main([*line, "--intrinsics", "50", "50", "23", "17.5"]) == 0
    assert f"out.ply: {SIZE[0] * SIZE[1]} points" in capsys.readouterr().out
    points = np.frombuffer(Path("out.ply").read_bytes().partition(b"end_header\n")[2], POINT)
    assert np.array_equal(points["xyz"][:, 2], np.load("out.npy").ravel())
    assert np.array_equal(points["rgb"], rgb().reshape(-1, 3))


@pytest.fixture
def folders(files: Path) -> Path:
    """Three pairs, the second of which is damaged, and an image without a depth map."""
    for folder in ("depths", "images"):
        Path(folder).mkdir()
    for number in range(3):
        np.save(f"depths/frame_{number}_depth.npy", np.load("depth.npy") + number)
        Image.open("rgb.png").save(f"images/frame_{number}.png")
    Path("images/frame_1.png").write_bytes(Path("rgb.png").read_bytes()[:1000])
    Image.open("rgb.png").save("images/frame_9.png")
    return files


def test_a_folder_of_pairs(folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are read once; a pair that fails is named, and the others are done; the exit code says so."""
    reads = []
    monkeypatch.setattr(upsample_depth, "pretrained", lambda: reads.append(1) or convex_up_net.pretrained())
    upsample_depth._shipped.cache_clear()
    line = [
        "upsample",
        "depths",
        "images",
        "-o",
        "out/maps",
        "--device",
        "cpu",
        "--format",
        "tif",
        "--confidence",
        "sure",
    ]
    assert main(line) == 1
    error = capsys.readouterr().err
    assert "failed: depths/frame_1_depth.npy: images/frame_1.png: unreadable or truncated image" in error
    assert "ddfnet upsample: 1 of 3 pairs failed" in error
    assert "note: images/frame_9.png has no depth map of its name" in error
    assert len(reads) == 1
    assert names(folders / "out/maps") == {"frame_0_depth.tif", "frame_2_depth.tif"}
    assert names(folders / "sure") == {"frame_0_depth.png", "frame_2_depth.png"}
    expected = ddfnet.upsample_depth(np.load("depths/frame_2_depth.npy"), rgb())
    assert np.array_equal(read_depth("out/maps/frame_2_depth.tif").values, expected)
    Path("images/frame_1.png").unlink()
    assert main(line) == 1
    assert "images/frame_1_depth.*: expected a photograph, found no such file" in capsys.readouterr().err
    Path("depths/frame_1_depth.npy").unlink()
    assert main(line) == 0


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["depths", "rgb.png", "-o", "out"], "RGB: expected a folder, as the other is one, got rgb.png"),
        (["out", "images", "-o", "new"], "DEPTH: expected depth maps in .png, .pgm, .*, found none in out"),
        (["depths", "images", "-o", "out", "--format", "jpg"], "--format: expected one of .png, .*, got 'jpg'"),
        (["depths", "images", "-o", "depths"], "--out: expected another file than DEPTH, got depths/frame_0_depth.npy"),
    ],
)
def test_folders_that_cannot_be(
    folders: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    Path("out").mkdir()
    assert main(["upsample", *argv]) == 1
    assert re.search(f"^ddfnet upsample: {sentence}", capsys.readouterr().err, re.MULTILINE)


def turned(orientation: int) -> None:
    """turned.png: rgb.png, stored in another orientation, which its EXIF data undo."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = {1: rgb(), 3: rgb()[::-1, ::-1], 6: np.rot90(rgb())}[orientation]
    Image.fromarray(pixels.copy()).save("turned.png", exif=exif)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photograph_is_turned_upright(files: Path, capsys: pytest.CaptureFixture[str], orientation: int) -> None:
    turned(orientation)
    assert main(["upsample", "depth.npy", "turned.png", "-o", "out.npy", "--device", "cpu"]) == 0
    expected = f"note: turned.png is turned upright, as its EXIF orientation {orientation} says\n"
    assert capsys.readouterr().err == expected
    assert np.array_equal(np.load("out.npy"), ddfnet.upsample_depth(np.load("depth.npy"), rgb()))


def test_a_depth_map_of_a_photograph_as_it_is_stored_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned(6)
    np.save("depth.npy", np.rot90(np.load("depth.npy")))
    assert main(["upsample", "depth.npy", "turned.png", "-o", "out.npy"]) == 1
    expected = (
        "turned.png: its EXIF orientation turns it from 47x36 to 36x47, and the depth map of 12x9 fits it unturned;"
    )
    assert expected in capsys.readouterr().err


def test_a_large_photograph(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    line = ["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu"]
    assert main(line) == 1
    assert "rgb.png: Pillow reads at most 0 megapixels" in capsys.readouterr().err
    assert main([*line, "--large"]) == 0
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_error_against_the_truth(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over the pixels that the truth knows; in the preview's titles too, which is a picture of two rows then."""
    line = ["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu", "--preview", "out.png"]
    assert main(line) == 0
    with Image.open("out.png") as image:
        one_row = image.size
        assert image.format == "PNG"
    assert main([*line, "--truth", "truth.npy"]) == 0
    with Image.open("out.png") as image:
        assert image.size[1] > 1.5 * one_row[1]
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    difference = (np.load("out.npy") - np.load("truth.npy"))[5:].astype(np.float64)
    rmse, mae = np.sqrt(np.mean(difference**2)), np.mean(np.abs(difference))
    assert f"ours     RMSE {rmse:.6g}  MAE {mae:.6g}" in capsys.readouterr().out
    assert not list(files.glob(".partial*"))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["wide.npy", "rgb.png"],
            "rgb: expected the aspect of the depth map, got 9x6 and 36x47, ratios of 4 and 7.833",
        ),
        (["unknown.npy", "rgb.png"], "depth: expected at least one known pixel"),
        (
            ["vast.npy", "rgb.png"],
            "vast.npy: expected depths that float32 holds, 1.18e-38 to 3.4e+38 in magnitude, got 1e+300",
        ),
        (["rgb.png", "rgb.png", "-o", "out.png"], "rgb.png: expected a grey PNG"),
        (["depth.npy", "rgb.png", "--point-cloud", "a.ply"], "--point-cloud, --intrinsics: expected both or neither"),
        (
            ["depth.npy", "rgb.png", "--point-cloud", "a.obj", "--intrinsics", "1", "1", "0", "0"],
            "--point-cloud: expected a name that ends in .ply, got a.obj",
        ),
        (
            ["depth.npy", "rgb.png", "--confidence", "out.npy"],
            "--confidence: expected another file than --out, got out",
        ),
        (["nope.npy", "rgb.png"], "nope.npy: expected a depth map, found no such file"),
        (["depth.npy", "nope.png"], "nope.png: expected a photograph, found no such file"),
        (["depth.npy", "."], ".: expected a photograph, found a folder"),
        (["depth.npy", "truth.npy"], "truth.npy: not an image"),
        (["depth.npy", "rgb.png", "-o", "nope/out.npy"], "--out: the folder nope is not there"),
        (["depth.npy", "rgb.png", "-o", "out"], "out: expected a depth map in .png, "),
        (["depth.npy", "rgb.png", "-o", "."], "--out: expected a file, found a folder"),
        (["depth.npy", "rgb.png", "-o", "depth.npy"], "--out: expected another file than DEPTH, got depth.npy"),
        (["depth.npy", "rgb.png", "--preview", "rgb.png"], "--preview: expected another file than RGB, got rgb.png"),
        (["depth.npy", "rgb.png", "--preview", "nope/a.png"], "--preview: the folder nope is not there"),
        (["depth.npy", "rgb.png", "--preview", "a.gif"], "--preview: expected a name that ends in .png, got a.gif"),
        (["depth.npy", "rgb.png", "--truth", "nope.npy"], "nope.npy: expected a depth map, found no such file"),
        (
            ["depth.npy", "rgb.png", "--truth", "depth.tiff"],
            "--truth: expected a map of the size of RGB, 36x47, got 9x12",
        ),
        (["depth.npy", "rgb.png", "--tile", "20"], "tile: expected at least "),
        (["depth.npy", "rgb.png", "--device", "toaster"], "--device: expected a device that is there, got 'toaster'"),
        (["depth.npy", "rgb.png", "--device", "meta"], "--device: expected a device that is there, got 'meta'"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence_and_leaves_no_file(
    files: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    before = names(files)
    assert main(["upsample", *argv, *([] if "-o" in argv else ["-o", "out.npy"])]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ddfnet upsample: {sentence}")
    assert "Traceback" not in error
    assert names(files) == before


@pytest.mark.parametrize("where", ["computing", "writing"])
def test_an_interrupt_leaves_no_file(files: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    def half(path: Path, values: Any) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    if where == "computing":
        monkeypatch.setattr(upsample_depth, "upsample_tiled", interrupt)
    else:
        monkeypatch.setitem(FORMATS, ".npy", FORMATS[".npy"]._replace(write=half))
    before = names(files)
    assert main(["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu"]) == 130
    assert names(files) == before


MEASURED = """
import resource
import numpy as np, torch
import ddfnet
from ddfnet.models.depth.convex_up_net import ConvexUpNet

torch.manual_seed(0)
rng = np.random.default_rng(0)
rgb = rng.integers(0, 256, (4000, 6000, 3), dtype=np.uint8)
depth = 1 + rng.random((250, 375), dtype=np.float32)
result = ddfnet.upsample_depth(depth, rgb, network=ConvexUpNet().eval())
print(result.shape, bool(np.isfinite(result).all()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_24_megapixels_in_2_gigabytes(record_property: Callable[[str, object], None]) -> None:
    """Peak resident memory of the whole process, in GiB."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    shape, _, rest = done.stdout.partition(") ")
    finite, peak = rest.split()
    record_property("peak, GiB", peak)
    assert (shape, finite) == ("(4000, 6000", "True")
    assert float(peak) < 2
