"""The plug-in for MMDetection: what mmengine's registry builds, and, marked slow, the whole detector on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ddfnet

mmengine = pytest.importorskip("mmengine")

from ddfnet.integrations.mmdet import FPN_DDF  # noqa: E402 - needs mmengine

CONFIG = Path(ddfnet.__file__).parent / "integrations" / "faster_rcnn_r50_fpn_ddf_up_1x_coco.py"
CHANNELS = [8, 12, 16, 20]


def maps(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, sizes, strict=True)]


def build(**options: Any) -> FPN_DDF:
    from mmengine.registry import MODELS

    neck = MODELS.build({"type": "FPN_DDF", "in_channels": CHANNELS, "out_channels": 4, "num_outs": 5, **options})
    assert isinstance(neck, FPN_DDF)
    return neck


def test_the_registry_builds_the_layer() -> None:
    from mmengine.registry import MODELS

    layer = MODELS.build({"type": "ddf_up", "channels": 8, "scale_factor": 2})
    assert isinstance(layer, ddfnet.DDFUp)


@pytest.mark.parametrize("kind", ["ddf_up", "nearest", "carafe", "dysample"])
def test_the_neck_keeps_the_sizes_of_its_levels(kind: str) -> None:
    neck = build(upsample_cfg={"type": kind})
    outs = neck(maps((13, 9), (7, 5), (4, 3), (2, 2)))
    assert [tuple(out.shape) for out in outs] == [(2, 4, *s) for s in ((13, 9), (7, 5), (4, 3), (2, 2), (1, 1))]
    sum(out.sum() for out in outs).backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())


def test_nearest_is_the_pyramid_of_the_paper_that_made_it() -> None:
    """Lateral 1x1, plus the coarser level repeated, then 3x3: written out for two levels."""
    neck = build(in_channels=[8, 12], num_outs=2, upsample_cfg={"type": "nearest"})
    fine, coarse = maps((6, 4), (3, 2), (1, 1), (1, 1))[:2]
    top = neck.lateral_convs[1].conv(coarse)
    merged = neck.lateral_convs[0].conv(fine) + top.repeat_interleave(2, 2).repeat_interleave(2, 3)
    out = neck([fine, coarse])
    torch.testing.assert_close(out[0], neck.fpn_convs[0].conv(merged))
    torch.testing.assert_close(out[1], neck.fpn_convs[1].conv(top))


def test_errors() -> None:
    with pytest.raises(ValueError, match="num_outs: expected at least the 4 levels of in_channels, got 3"):
        build(num_outs=3)
    with pytest.raises(ValueError, match="inputs: expected 4 maps, got 2"):
        build()(maps((4, 4), (2, 2), (1, 1), (1, 1))[:2])
    with pytest.raises(ValueError, match="upsample: expected 'ddf'"):
        build(upsample_cfg={"type": "nope"})


@pytest.mark.slow
def test_the_detector_of_the_config_trains_and_detects() -> None:
    """Needs mmdet and mmcv with its compiled operators, which is built from source."""
    pytest.importorskip("mmdet")
    pytest.importorskip("mmcv.ops")
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    register_all_modules()
    config = Config.fromfile(CONFIG)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    assert isinstance(model.neck, FPN_DDF)
    sample = DetDataSample(
        metainfo={"img_shape": (128, 192), "ori_shape": (128, 192), "pad_shape": (128, 192), "scale_factor": (1.0, 1.0)}
    )
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[10.0, 20.0, 90.0, 110.0]]), labels=torch.tensor([3]))
    batch = {"inputs": [torch.randint(0, 255, (3, 128, 192), dtype=torch.uint8)], "data_samples": [sample]}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    before = {name: value.clone() for name, value in model.neck.upsamplers.named_parameters()}
    losses = model.train_step(batch, mmengine.optim.OptimWrapper(optimizer))
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert any(not torch.equal(before[name], value) for name, value in model.neck.upsamplers.named_parameters())
    (found,) = model.eval().test_step(batch)
    assert found.pred_instances.bboxes.shape[1] == 4
