"""`ddfnet bench layer`: `ddfnet.DDF`, filter prediction included, against `nn.Conv2d`, dense and depthwise.

On request: against PAC (Table 2), guided by another map. Where a case upsamples: `ddfnet.DDFUp` against the other
upsamplers of Table 6 and after it.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.bench.cases import OpCase
from ddfnet.bench.measure import DTYPES, LAYOUTS, Group, Settings, compare
from ddfnet.bench.results import Result
from ddfnet.bench.rivals import ON_REQUEST, pac_guide
from ddfnet.bench.subjects import Subject, entries
from ddfnet.nn.ddf import DDF
from ddfnet.nn.rivals.pac import PacConv2d
from ddfnet.nn.upsamplers.ddf_up import DDFUp
from ddfnet.nn.upsamplers.plain import upsample_layer

RIVALS = ("dense", "depthwise", "pac")
UP_RIVALS = ("carafe", "dysample", "deconv", "pixel_shuffle", "bilinear", "nearest")


def run(
    cases: Sequence[OpCase],
    settings: Settings,
    *,
    backends: Sequence[str] = ("auto",),
    rivals: Sequence[str] | None = None,
    skip: Callable[[str], None],
) -> Iterator[list[Result]]:
    """Time every case in every dtype, layout and direction, and yield the results of each.

    Backward, x and all parameters get gradients.

    Args:
        cases: their filters say which branches the layer has.
        settings, backends, rivals, skip: as `ddfnet.bench.op.run`.
    """
    for case, dtype, layout in product(cases, settings.dtypes, settings.layouts):
        shape = (case.batch, case.channels, case.height, case.width)
        x = torch.randn(shape, device=settings.device).to(DTYPES[dtype], memory_format=LAYOUTS[layout]).requires_grad_()
        fitting = UP_RIVALS if case.scale_factor > 1 else RIVALS
        default = [name for name in fitting if name not in ON_REQUEST]
        names = [name for name in (default if rivals is None else rivals) if name in fitting]
        subjects = [_subject(_name(backend), _ddf(case, backend), x) for backend in backends]
        guides = {"pac": (pac_guide(x),)} if "pac" in names else {}
        subjects += [_subject(name, _rival(case, name), x, *guides.get(name, ())) for name in names]
        for direction in settings.directions:
            group = Group("layer", str(case), direction, dtype, layout, rival=names[0] if names else "")
            yield compare(group, entries(subjects, group, settings, skip), settings)


def _name(backend: str) -> str:
    return "ddf" if backend == "auto" else f"ddf:{backend}"


def _ddf(case: OpCase, backend: str) -> nn.Module:
    options: dict[str, Any] = {
        "dilation": case.dilation,
        "heads": case.heads,
        "combine": case.combine,
        "branches": case.filters,
        "norm": "filter" if case.kernel_size > 1 else "none",
        "backend": backend,
    }
    if case.scale_factor > 1:
        return DDFUp(case.channels, case.scale_factor, kernel_size=case.kernel_size, **options)
    return DDF(case.channels, case.kernel_size, stride=case.stride, **options)


def _rival(case: OpCase, name: str) -> nn.Module:
    if case.scale_factor > 1:
        return upsample_layer(name, case.channels, case.scale_factor)  # type: ignore[arg-type]
    if name == "pac":
        options: dict[str, Any] = {"stride": case.stride, "dilation": case.dilation, "bias": False}
        return PacConv2d(case.channels, case.channels, case.kernel_size, **options)
    return nn.Conv2d(
        case.channels,
        case.channels,
        case.kernel_size,
        stride=case.stride,
        padding=case.kernel_size // 2 * case.dilation,
        dilation=case.dilation,
        groups=case.channels if name == "depthwise" else 1,
        bias=False,
    )


def _subject(name: str, layer: nn.Module, x: Tensor, *guides: Tensor) -> Subject:
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    layer = layer.to(device=x.device, dtype=x.dtype).to(memory_format=memory_format)
    parameters = tuple(layer.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    inputs = (x, *guides)
    return Subject(name, lambda *tensors: layer(*tensors[: len(inputs)]), (*inputs, *parameters), parameters=count)
