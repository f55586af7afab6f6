"""Hypothesis over shapes and options: every backend against the oracle by taps."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ops.ddf.backends import BACKENDS, DTYPES, MEMORY_FORMATS, assert_format_of, compiles, reason_against
from tests.oracle import assert_close_to_oracle, oracle_by_taps

from ddfnet.bench.cases import OpCase


@st.composite
def cases(draw: st.DrawFn) -> OpCase:
    heads = draw(st.integers(1, 4))
    scale = draw(st.sampled_from((1, 1, 1, 2, 3)))
    filters = draw(st.sampled_from(("both", "channel", "spatial")))
    return OpCase(
        batch=draw(st.integers(0, 3)),
        channels=heads * draw(st.one_of(st.integers(1, 6), st.integers(15, 20))),  # a CPU vector has up to 16
        height=draw(st.integers(1, 12)),
        width=draw(st.integers(1, 12)),
        kernel_size=draw(st.sampled_from((1, 3, 5, 7))),
        stride=draw(st.integers(1, 4)) if scale == 1 else 1,
        dilation=draw(st.integers(1, 4)),
        heads=heads,
        combine=draw(st.sampled_from(("mul", "add"))),
        filters=filters,
        scale_factor=scale,
        shared_channel_filter=scale > 1 and draw(st.booleans()),
    )


calls = given(
    case=cases(),
    backend=st.sampled_from(BACKENDS),
    dtype=st.sampled_from(DTYPES),
    memory_format=st.sampled_from(MEMORY_FORMATS),
    seed=st.integers(0, 1000),
)
unhurried = {"suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


def hold(case: OpCase, backend: str, dtype: torch.dtype, memory_format: torch.memory_format, seed: int) -> None:
    if backend != "torch" and reason_against(backend, case, dtype) is not None:
        return
    inputs, y, _ = assert_close_to_oracle(backend, case, dtype, memory_format, seed=seed, by=oracle_by_taps)
    assert_format_of(y, inputs[0])


@calls
@settings(max_examples=500, **unhurried)
def test_any_shape(
    case: OpCase, backend: str, dtype: torch.dtype, memory_format: torch.memory_format, seed: int
) -> None:
    hold(case, "torch" if compiles(backend) else backend, dtype, memory_format, seed)


@pytest.mark.release
@calls
@settings(max_examples=500, **unhurried)
def test_any_shape_by_compiled_kernels(
    case: OpCase, backend: str, dtype: torch.dtype, memory_format: torch.memory_format, seed: int
) -> None:
    usual = case.kernel_size == 3 and dtype == torch.float32
    hold(case, backend if usual or not compiles(backend) else "torch", dtype, memory_format, seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))  # 10,000 shapes: side by side, and told as they end
@calls
@settings(max_examples=500, derandomize=False, **unhurried)
def test_any_shape_at_length(
    part: int, case: OpCase, backend: str, dtype: torch.dtype, memory_format: torch.memory_format, seed: int
) -> None:
    hold(case, backend, dtype, memory_format, seed)
