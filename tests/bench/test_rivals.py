"""Rivals do what stands in the place of ours: same output shape, no copy where none is meant, bytes counted as said."""

from typing import Any

import pytest
import torch
from tests.cases import SMALL

from ddfnet import DDF, DDFUp
from ddfnet.bench import layer
from ddfnet.bench.cases import OpCase
from ddfnet.bench.measure import Group, Settings
from ddfnet.bench.results import environment
from ddfnet.bench.rivals import ours, rival, rivals_of
from ddfnet.bench.subjects import Subject, copy_entry, entries


def settings(**options: Any) -> Settings:
    defaults: dict[str, Any] = {
        "device": "cpu",
        "seconds": 1e-3,
        "clocks": ("cpu",),
        "directions": ("forward",),
        "dtypes": ("float32",),
        "layouts": ("nchw",),
        "environment": environment("cpu"),
    }
    return Settings(**{**defaults, **options})


@pytest.mark.parametrize("case", [case for case in SMALL if case.batch and case.padding == "same"], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_rivals_give_the_shape_of_the_case(case: OpCase, memory_format: torch.memory_format) -> None:
    tensors = case.inputs(memory_format=memory_format, requires_grad=True)
    for name in rivals_of(case, None):
        if name != "copy":
            subject = rival(name, case, tensors)
            assert subject.function(*subject.inputs).shape == case.out_shape, name


@pytest.mark.parametrize("filters", ["both", "channel", "spatial"])
def test_ours_is_the_operator(filters: Any) -> None:
    case = OpCase(2, 6, 7, 5, filters=filters)
    tensors = case.inputs()
    subject = ours(case, tensors, "auto")
    torch.testing.assert_close(subject.function(*subject.inputs), case.call(*tensors, backend="reference"))
    assert subject.backend
    assert subject.forward_flops == (3 if filters == "both" else 2) * 2 * 6 * 35 * 9


def test_pac_stands_where_a_convolution_stood() -> None:
    case = OpCase(2, 6, 7, 5, kernel_size=5, stride=2, dilation=2)
    tensors = case.inputs(requires_grad=True)
    subject = rival("pac", case, tensors)
    x, guide, weight = subject.inputs
    assert x is tensors[0]
    assert (guide.shape, weight.shape) == ((2, 16, 7, 5), (6, 6, 5, 5))
    assert subject.function(*subject.inputs).shape == case.out_shape
    even = subject.function(x, torch.ones_like(guide), weight)
    torch.testing.assert_close(even, rival("dense", case, tensors).function(x, weight))


def test_rivals_of() -> None:
    assert rivals_of(OpCase(1, 1, 1, 1), None) == ["depthwise", "dense", "reference", "copy"]
    assert rivals_of(OpCase(1, 1, 1, 1), ["pac", "compile"]) == ["pac", "compile"]
    assert rivals_of(OpCase(1, 1, 1, 1, scale_factor=2), ["pac"]) == []
    assert rivals_of(OpCase(1, 1, 1, 1), ["nearest", "copy", "dense"]) == ["copy", "dense"]
    assert rivals_of(OpCase(1, 1, 1, 1, scale_factor=2), ["nearest", "dense"]) == ["nearest"]


@pytest.mark.parametrize(
    "case", [OpCase(1, 4, 5, 6, heads=2), OpCase(1, 4, 3, 4, scale_factor=2, kernel_size=5)], ids=str
)
def test_layers_stand_against_layers_of_their_kind(case: OpCase) -> None:
    rivals = layer.UP_RIVALS if case.scale_factor > 1 else layer.RIVALS
    (rows,) = layer.run([case], settings(), backends=["torch"], skip=pytest.fail)
    by_name = {row.subject: row for row in rows}
    assert list(by_name) == ["ddf:torch", *(name for name in rivals if name != "pac")]
    made = DDFUp(4, 2, kernel_size=5) if case.scale_factor > 1 else DDF(4, heads=2)
    assert by_name["ddf:torch"].parameters == sum(p.numel() for p in made.parameters())
    assert all(row.rival == rivals[0] for row in rows)
    (rows,) = layer.run([case], settings(), rivals=["nearest", "pac"], backends=[], skip=pytest.fail)
    assert [row.subject for row in rows] == ["nearest" if case.scale_factor > 1 else "pac"]
    assert case.scale_factor > 1 or rows[0].parameters == 4 * 4 * 9


def test_bytes_are_those_of_the_floor() -> None:
    case = OpCase(1, 4, 5, 6)
    x, filters = 4 * 5 * 6 * 4, (4 * 9 + 9 * 5 * 6) * 4  # bytes; y has as many as x
    subject = ours(case, case.inputs(requires_grad=True), "auto")
    forward, both = (
        entries([subject], Group("op", "", direction, "float32", "nchw", ""), settings(), pytest.fail)["ddf"].columns
        for direction in ("forward", "forward+backward")
    )
    assert forward["bytes_moved"] == 2 * x + filters
    assert both["bytes_moved"] == (2 * x + filters) + (3 * x + 2 * filters)
    assert forward["extra_bytes"] >= x


def test_a_copy_reads_and_writes_as_many_bytes() -> None:
    copied = copy_entry(4096, torch.bfloat16, "cpu").call()
    assert isinstance(copied, torch.Tensor)
    assert copied.nbytes == 2048


def test_what_can_not_run_is_left_out_and_named() -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel\nand much more")

    said: list[str] = []
    group = Group("op", "case", "forward", "float32", "nchw", "")
    assert entries([Subject("broken", fail, (torch.ones(1),))], group, settings(), said.append) == {}
    assert said == ["case forward float32 nchw: broken left out: no such kernel"]
