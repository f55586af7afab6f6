"""`ddfnet bench` end to end on the smallest cases: what it writes, draws and refuses. Nothing is asserted of speed."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.cases import SMALL

from ddfnet.bench.cases import SETS
from ddfnet.bench.layer import RIVALS as LAYER_RIVALS
from ddfnet.bench.layer import UP_RIVALS as LAYER_UP_RIVALS
from ddfnet.bench.model import create
from ddfnet.bench.plots import plot
from ddfnet.bench.results import read
from ddfnet.bench.rivals import ON_REQUEST, RIVALS, UP_RIVALS
from ddfnet.cli import main

QUICK = ("--device", "cpu", "--quick", "--seconds", "0.001", "--layout", "nchw")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--cases small`: calls too small to be worth timing, for tests alone."""
    monkeypatch.setitem(SETS, "small", SMALL)


def run(*argv: object) -> int:
    return main(["bench", *map(str, argv)])


@pytest.mark.usefixtures("small")
def test_op(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, json, png = (tmp_path / name for name in ("a.csv", "a.json", "a.png"))
    code = run(
        "op", "--cases", "small", "--backend", "auto", "torch", *QUICK, "--csv", csv, "--json", json, "--plot", png
    )
    assert code == 0
    results = read(csv)
    assert results == read(json)
    assert {row.direction for row in results} == {"forward", "forward+backward"}
    for case in {row.case for row in results}:
        subjects = {row.subject for row in results if row.case == case}
        rivals = UP_RIVALS if "up" in case else RIVALS
        assert subjects == {"ddf", "ddf:torch", *rivals} - set(ON_REQUEST)
    assert all(row.median_ms > 0 and row.samples >= 3 and row.ratio_to_copy for row in results)
    assert all(row.ratio_to_rival == 1 for row in results if row.subject == row.rival)
    assert png.read_bytes().startswith(PNG)
    printed = capsys.readouterr().out
    assert "op: forward, float32, nchw, cpu" in printed
    assert results[0].environment.device_name in printed


@pytest.mark.usefixtures("small")
def test_layer(tmp_path: Path) -> None:
    code = run("layer", "--cases", "table_2", "small", "--backend", "torch", *QUICK, "--csv", tmp_path / "a.csv")
    assert code == 0
    results = read(tmp_path / "a.csv")
    for case in {row.case for row in results}:
        rivals = LAYER_UP_RIVALS if "up" in case else LAYER_RIVALS
        assert {row.subject for row in results if row.case == case} == {"ddf:torch", *rivals} - set(ON_REQUEST)
    assert all(row.parameters for row in results if row.subject not in ("nearest", "bilinear"))


def test_a_network_whose_layers_are_free() -> None:
    """What is left of it: its parameters and multiply-adds without those of the layers."""
    whole, free = create("resnet18"), create("resnet18:free")
    x = torch.randn(1, 3, 64, 64)
    layers = [m for name, m in whole.module.named_modules() if name.endswith(("conv1", "conv2")) and name != "conv1"]
    kept = [m for m in layers if m.in_channels == m.out_channels]
    assert len(kept) == 13
    assert whole.parameters - free.parameters == sum(m.weight.numel() for m in kept)
    assert free.multiply_adds < whole.multiply_adds / 2
    assert free.module.eval()(x).shape == (1, 1000)


def test_model(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = run("model", *QUICK, "--models", "dwresnet_mini", "resnet_mini", "--input-size", 1, 28, 28, "--json", path)
    assert code == 0
    results = read(path)
    assert {row.direction for row in results} == {"inference", "training"}
    by_name = {row.subject: row for row in results}
    assert by_name["resnet_mini"].parameters > by_name["dwresnet_mini"].parameters
    assert by_name["resnet_mini"].multiply_adds > by_name["dwresnet_mini"].multiply_adds
    assert all(row.images_per_second for row in results)
    assert all(row.rival == "dwresnet_mini" for row in results)


def test_joint_upsampling_networks(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    names = ("ddf_up_net_x4", "pac_joint_upsample_x4")
    assert run("model", *QUICK, "--models", *names, "--input-size", 3, 18, 20, "--json", path) == 0
    results = read(path)
    assert {row.direction for row in results} == {"inference", "training"}
    assert {row.subject: row.parameters for row in results} == {names[0]: 151_359, names[1]: 183_489}
    assert all(row.rival == names[1] and row.multiply_adds and row.case == "b1 3x18x20" for row in results)


@pytest.mark.usefixtures("small")
def test_a_plot_is_redrawn_from_the_file_alone(tmp_path: Path) -> None:
    csv, png, svg = (tmp_path / name for name in ("a.csv", "a.png", "a.svg"))
    assert run("op", "--cases", "small", *QUICK, "--direction", "forward", "--rivals", "dense", "--csv", csv) == 0
    assert run("plot", csv, "-o", png) == 0
    assert png.read_bytes().startswith(PNG)
    assert run("plot", csv, csv, "-o", svg) == 0
    picture = svg.read_text()
    assert "<svg" in picture
    with pytest.raises(ValueError, match="expected those of one benchmark, got none"):
        plot([], png)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "the following arguments are required"),
        (["frob"], "invalid choice: 'frob'"),
        (["op", "--frob"], "unrecognized arguments: --frob"),
        (["op", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["op", "--cases", "big"], f"--cases: expected some of {', '.join(SETS)}, got 'big'"),
        (["op", "--backend", "cuda"], "--backend: expected some of auto, "),
        (["op", "--rivals", "lightning"], "--rivals: expected some of depthwise, "),
        (["op", "--rivals", "--plot", "a.png"], "--rivals: expected at least one, since --plot shows ratios, got none"),
        (["op", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["op", "--seconds", "-1"], "--seconds: expected a number > 0, got -1"),
        (["op", "--threads", "0"], "--threads: expected an int >= 1, got 0"),
        (["op", "--device", "cpu", "--clock", "graph"], "--clock: chooses among CUDA's clocks; the CPU has one"),
        (["op", "--csv", "results.txt"], "--csv: expected a name that ends in .csv, got results.txt"),
        (["op", "--json", "nowhere/a.json"], "--json: the folder nowhere is not there"),
        (["op", "--plot", "a.gif"], "--plot: expected a name that ends in .png, .svg, .pdf, got a.gif"),
        (["layer", "--rivals", "copy"], "--rivals: expected some of dense, depthwise, pac, carafe, dysample, "),
        (["model", "--models", "nope"], "got 'nope'"),
        (["model", "--models", "ddf_up_net_x3"], "scale_factor: expected a power of two of at least 2, got 3"),
        (["model", "--models", "ddf_up_net_x4", "--input-size", "1", "8", "8"], "takes images of 3 channels, got"),
        (["model", "--against", "nope"], "--against: expected some of ddf_resnet_mini, resnet_mini, dwresnet_mini"),
        (["model", "--workers", "2"], "--images and --workers: expected only with --loading"),
        (["model", "--loading", "--images", "nowhere"], "--images: expected a folder of images, nowhere is not there"),
        (["model", "--loading", "--workers", "-1"], "--workers: expected an int >= 0, got -1"),
        (["plot", "nowhere.csv", "-o", "a.png"], "nowhere.csv: No such file or directory"),
        (["plot", "nowhere.csv"], "the following arguments are required: --output/-o"),
    ],
)
def test_bad_options(
    argv: Sequence[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*argv) in (1, 2)  # found while options are read, or later
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) <= 2  # the sentence, and where to look
    assert list(tmp_path.iterdir()) == []


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("op", "--help") == 0
    assert "--cases" in capsys.readouterr().out


def test_loading_is_timed_beside_the_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    options = ("--models", "dwresnet_mini", "--input-size", 1, 28, 28, "--direction", "inference", "--batch", 2)
    assert run("model", *QUICK, *options, "--loading", "--workers", 0, "--csv", path, "--plot", tmp_path / "a.png") == 0
    loading = [row for row in read(path) if row.direction == "loading"]
    assert [row.subject for row in loading] == ["test, 0 workers", "crop and flip, 0 workers", "released, 0 workers"]
    assert all(row.images_per_second and row.parameters is None for row in loading)
    assert "made JPEGs of 500x375" in loading[0].case
    assert "model: loading" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
