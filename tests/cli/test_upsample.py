"""`ddfnet upsample`: files in, a file of the same format and unit out; and nothing but a sentence where that can't be."""

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
from ddfnet.data.depth.files import read_depth
from ddfnet.models.depth import joint_upsampling
from ddfnet.models.depth import upsample as upsample_depth
from ddfnet.models.depth.joint_upsampling import DDFUpNet, save

LOW, SIZE = (9, 12), (36, 47)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save(DDFUpNet(4, residual=True), folder / "ddf_up_net_x4.safetensors")
    return folder


@pytest.fixture
def files(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of inputs; untrained weights in the place of those that ship."""
    monkeypatch.setattr(joint_upsampling, "WEIGHTS", weights)
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
        ("depth.png", "out.PNG", np.uint16),
    ],
)
def test_the_result_has_the_format_and_the_unit_of_the_input(
    files: Path, capsys: pytest.CaptureFixture[str], depth: str, out: str, dtype: Any
) -> None:
    before = names(files)
    assert main(["upsample", depth, "rgb.png", "-o", out, "--device", "cpu"]) == 0
    assert names(files) == before | {out}
    found, given = read_depth(files / out), read_depth(files / depth)
    assert (found.dtype, found.values.shape) == (np.dtype(dtype), SIZE)
    expected = ddfnet.upsample_depth(given.values, rgb())
    assert np.array_equal(found.values, np.round(expected) if dtype == np.uint16 else expected)
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
        ({(0, 0): 65535.0, (0, 1): 65535.0}, r"far off all else \(1\.\d+ to 2\.\d+\): 65535, in 2 of 102 known pixels"),
        (
            {(0, 0): -0.5, (0, 1): -0.25},
            r"negative depths, -0\.5 to -0\.25, in 2 of 102 known pixels, taken as they are",
        ),
        (
            {(row, column): 65535.0 for row in range(6) for column in range(12)},
            r"65535, far from all else, in 72 of \d+ known pixels, taken as it is",
        ),
        ({(row, column): -1.0 for row in range(9) for column in range(12)}, "-1 in all known pixels, taken as it is"),
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
    ending = "; if that marks unknown pixels, name it by --unknown\n"
    assert re.fullmatch(f"note: {note}{ending}" if note else "", error)


def test_a_note_on_the_greatest_of_16_bits(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = np.random.default_rng(0).integers(20_000, 60_000, LOW, np.uint16)
    depth[0, :3] = 65535
    Image.fromarray(depth).save("depth.png")
    assert main(["upsample", "depth.png", "rgb.png", "-o", "out.png", "--device", "cpu"]) == 0
    expected = (
        "note: 65535, the greatest that 16 bits hold, in 3 of 108 known pixels, taken as it is; if that marks unknown"
    )
    assert capsys.readouterr().err.startswith(expected)


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
        (["eight.png", "rgb.png", "-o", "out.png"], "eight.png: expected a 16-bit grey PNG"),
        (["rgb.png", "rgb.png", "-o", "out.png"], "rgb.png: expected a 16-bit grey PNG"),
        (["nope.npy", "rgb.png"], "nope.npy: expected a depth map, found no such file"),
        (["depth.npy", "nope.png"], "nope.png: expected a photograph, found no such file"),
        (["depth.npy", "."], ".: expected a photograph, found a folder"),
        (["depth.npy", "truth.npy"], "truth.npy: not an image"),
        (
            ["lzw.tif", "rgb.png", "-o", "out.tif"],
            "lzw.tif: expected a TIFF without compression or with deflate, got LZW",
        ),
        (["depth.npy", "rgb.png", "-o", "nope/out.npy"], "--out: the folder nope is not there"),
        (
            ["depth.npy", "rgb.png", "-o", "out"],
            "--out: expected a name that ends in .npy, the format of DEPTH, got out",
        ),
        (
            ["depth.tiff", "rgb.png"],
            "--out: expected a name that ends in .tif or .tiff, the format of DEPTH, got out.npy",
        ),
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
        (["depth.npy", "rgb.png", "--tile", "20"], "tile: expected at least 76 pixels at 4x, got 20"),
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
        monkeypatch.setattr(np, "save", half)
    before = names(files)
    assert main(["upsample", "depth.npy", "rgb.png", "-o", "out.npy", "--device", "cpu"]) == 130
    assert names(files) == before


MEASURED = """
import resource, sys
import numpy as np, torch
import ddfnet
from ddfnet.models.depth.joint_upsampling import DDFUpNet

torch.manual_seed(0)
rng = np.random.default_rng(0)
rgb = rng.integers(0, 256, (4000, 6000, 3), dtype=np.uint8)
depth = 1 + rng.random((250, 375), dtype=np.float32)
result = ddfnet.upsample_depth(depth, rgb, network=DDFUpNet(16, residual=True))
print(result.shape, bool(np.isfinite(result).all()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_24_megapixels_in_4_gigabytes(record_property: Callable[[str, object], None]) -> None:
    """At 16x, where the guidance has the most channels; peak resident memory of the whole process, in GiB."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    shape, _, rest = done.stdout.partition(") ")
    finite, peak = rest.split()
    record_property("peak, GiB", peak)
    assert (shape, finite) == ("(4000, 6000", "True")
    assert float(peak) < 4
