"""Which measurements stand in the tables' cells, and from where."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddfnet.bench.paper.evidence import by_option, collect, score
from ddfnet.bench.paper.ours import fill
from ddfnet.bench.paper.printed import Column, Row, tables
from ddfnet.bench.results import Environment, Result, write

WHERE = Environment(
    device="cpu",
    device_name="a processor",
    threads=2,
    tf32="off",
    cudnn_benchmark=False,
    ddfnet="0",
    torch="2",
    cuda="",
    cudnn="",
    triton="",
    numba="",
    python="3",
    date="2026-01-02T00:00:00+00:00",
)
STUDY = "recipe,seed,test_accuracy,device,date,changes,command\n"


def result(subject: str, **columns: Any) -> Result:
    told: dict[str, Any] = {
        "benchmark": "layer",
        "case": "2x256x200x300-k3",
        "direction": "forward",
        "dtype": "float32",
        "layout": "nchw",
        "clock": "cpu",
        "median_ms": 8.0,
        "lower_quartile_ms": 7.0,
        "upper_quartile_ms": 9.0,
        "samples": 3,
        "rival": "",
        "input_bytes": 2**20,
        "extra_bytes": 2**21,
        "environment": WHERE,
    }
    return Result(subject=subject, **{**told, **columns})


def table_2(*paths: Path) -> dict[tuple[str, str], Any]:
    table = tables()["2"]
    return {(cell.row.label, cell.column.name): cell for row in fill(table, collect(paths)[0]) for cell in row}


def test_times_and_bytes(tmp_path: Path) -> None:
    write([result("dense"), result("ddf", median_ms=3.0, extra_bytes=None)], tmp_path / "a.csv")
    found = table_2(tmp_path)
    assert (found["Conv", "milliseconds"].mark, found["Conv", "milliseconds"].ours) == ("measured", 8.0)
    assert found["Conv", "megabytes"].ours == 3.0  # 2^20 bytes each, what goes in included
    assert found["DDF", "milliseconds"].ours == 3.0
    assert found["DDF", "megabytes"].mark == "absent"
    assert found["PAC", "milliseconds"].source == "ddfnet tables 2 --measure"
    for told in ("a.csv", "a processor", "2 threads", "2026-01-02"):
        assert told in found["Conv", "milliseconds"].source


@pytest.mark.parametrize(
    "columns",
    [
        {"direction": "forward+backward"},
        {"dtype": "bfloat16"},
        {"case": "2x256x100x300-k3"},
        {"benchmark": "op"},  # Table 2's DDF is the module
    ],
)
def test_what_the_paper_does_not_measure_is_left(tmp_path: Path, columns: dict[str, Any]) -> None:
    write([result("ddf", **columns)], tmp_path / "a.csv")
    assert table_2(tmp_path)["DDF", "milliseconds"].mark == "absent"


def test_a_table_is_of_one_run(tmp_path: Path) -> None:
    """That with most cells, and of those the latest."""
    later = replace(WHERE, date="2026-02-03T00:00:00+00:00")
    write([result("dense", median_ms=1.0, environment=replace(WHERE, date="2027"))], tmp_path / "one.csv")
    write([result("dense", median_ms=2.0), result("depthwise")], tmp_path / "two.csv")
    write(
        [result("dense", median_ms=3.0, environment=later), result("depthwise", environment=later)], tmp_path / "b.json"
    )
    assert table_2(tmp_path)["Conv", "milliseconds"].ours == 2.0  # a folder is searched for CSV files
    assert table_2(tmp_path, tmp_path / "b.json")["Conv", "milliseconds"].ours == 3.0


def test_the_layer_comes_before_the_operator(tmp_path: Path) -> None:
    write([result("dense", benchmark="op", median_ms=1.0), result("dense", median_ms=2.0)], tmp_path / "a.csv")
    assert table_2(tmp_path)["Conv", "milliseconds"].ours == 2.0


def test_scores_of_a_study(tmp_path: Path) -> None:
    command = "ddfnet train --config imagenet/ddf_mul_resnet50 --seed"
    rows = [f"imagenet/ddf_mul_resnet50,{seed},0.7{seed},a GPU,2026-03-04T,{{}},{command} {seed}" for seed in (1, 3)]
    rows += ["imagenet/ddf_mul_resnet50,mean,0.9,,,,", "imagenet/ddf_mul_resnet50,std,0.014142,,,,"]
    (tmp_path / "study.csv").write_text(STUDY + "\n".join(rows))
    filled = fill(tables()["3b"], collect([tmp_path / "study.csv"])[0])
    measured, needed = filled[2][0], filled[1][0]
    assert (measured.mark, measured.printed) == ("measured", 79.1)
    assert measured.ours == pytest.approx(72.0)  # of the seeds' rows
    assert measured.source == f"study.csv: 2 seeds, a GPU, 2026-03-04: {command} 1"
    assert needed.mark == "needs"
    assert filled[2][1].mark == "needs"  # the study has no top-5


NETWORK = {"model.network": "seresnet50"}
ACCURACY = Column(name="top1", source="score", heading="top-1", digits=1, score="test_accuracy", data="ImageNet")


@pytest.mark.parametrize(
    ("changes", "counts_for"),
    [
        ("{}", {}),
        ('"{""model.network"": ""seresnet50""}"', NETWORK),
        ('"{""epochs"": 1}"', None),
        ('"{""model.network"": ""seresnet50"", ""epochs"": 1}"', None),
        ("null", None),  # a run by no recipe
        ("", None),  # a file of an older version, which did not write them
    ],
)
def test_a_run_counts_for_the_row_with_its_changes_alone(tmp_path: Path, changes: str, counts_for: Any) -> None:
    (tmp_path / "a.csv").write_text(f"{STUDY}imagenet/resnet50,0,0.6,a GPU,2026,{changes},ddfnet train")
    files, _ = collect([tmp_path])
    for row in ({}, NETWORK):
        found = score(files, Row(label="x", paper={}, recipe="imagenet/resnet50", changes=row), ACCURACY)
        assert (found is not None and found[0] == 0.6) == (row == counts_for)


def test_files_of_one_name_are_all_evidence(tmp_path: Path) -> None:
    for folder, recipe in (("a", "imagenet/resnet50"), ("b", "imagenet/ddf_mul_resnet50")):
        (tmp_path / folder).mkdir()
        row = f"{recipe},0,0.6,a GPU,2026,{{}},ddfnet train --config {recipe} --seed 0"
        (tmp_path / folder / "same.csv").write_text(STUDY + row)
    files, _ = collect([tmp_path / "a", tmp_path / "b"])
    for recipe in ("imagenet/resnet50", "imagenet/ddf_mul_resnet50"):
        assert score(files, Row(label="x", paper={}, recipe=recipe), ACCURACY) is not None


def test_other_files_of_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    files, left_out = collect([tmp_path])
    assert files == []
    assert len(left_out) == 1
    assert "a.csv: expected a result file" in left_out[0]


@pytest.mark.parametrize("name", ["a.csv", "nothing.csv", "bytes.csv"])
def test_other_files_that_are_named_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=name):
        collect([tmp_path / name])


def test_scores_of_depth_are_no_benchmark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("dataset,protocol,factor,method,rmse\nmotorcycle,pac,4,bicubic,2.3\n")
    files, left_out = collect([tmp_path])
    assert left_out == []
    assert [file.kind for file in files] == ["comparison"]


def test_changes_of_a_row_by_option() -> None:
    """One by one, as runs write them."""
    changes = {"model.network": "resnet101", "model.network_args.block_args": {"attn_layer": "cbam"}}
    one_by_one = {"model.network": "resnet101", "model.network_args.block_args.attn_layer": "cbam"}
    assert by_option(changes) == one_by_one
