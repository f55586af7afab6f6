"""MMDetection, which the paper used: its registry learns the upsampler `ddf_up` and the neck `FPN_DDF`.

A config needs two things of this module:

    custom_imports = dict(imports=["ddfnet.integrations.mmdet"])
    model = dict(neck=dict(_delete_=True, type="FPN_DDF", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5))

`faster_rcnn_r50_fpn_ddf_up_1x_coco.py` beside this file is the paper's model. mmengine alone is imported here: mmdet's
registry falls back on its. MMDetection's `FPN_CARAFE` takes none but the upsamplers it knows.

Tested with the maintained forks onedl-mmengine 0.10.12, onedl-mmdetection 3.5.1 and onedl-mmcv 2.3.6. The last is built from
source (`MMCV_WITH_OPS=1 pip install --no-build-isolation onedl-mmcv`, PyTorch and ninja first; for PyTorch 2.15 its setup.py
has to say C++20 where it says C++17).
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ddfnet.nn.upsamplers.ddf_up import DDFUp
from ddfnet.nn.upsamplers.plain import upsample_layer

MODELS.register_module("ddf_up", module=DDFUp)  # as in `build_upsample_layer(dict(type="ddf_up", channels=256))`


class _Conv(nn.Module):
    """A convolution under the name that it has in mmcv's `ConvModule`, so that checkpoints of mmdet's `FPN` load."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@MODELS.register_module()
class FPN_DDF(BaseModule):  # type: ignore[misc]  # noqa: N801 - named as mmdet's necks are
    """mmdet's `FPN` with DDF-Up, or another upsampling layer, in its top-down path (Table 6).

    Parameters have the names of mmdet's `FPN`; only `upsamplers` are new.

    Args:
        in_channels: of each level of the backbone, the largest map first.
        out_channels: of every level of the pyramid.
        num_outs: levels out; those beyond the backbone's are the last one subsampled by 2, as in mmdet's Faster R-CNN.
        start_level: the first level used.
        upsample_cfg: `type`, "ddf_up" or a name of `ddfnet.nn.upsamplers.plain.upsample_layer`, and the layer's options.
        init_cfg: of mmengine.

    Shape:
        A sequence of maps (B, in_channels[i], H_i, W_i), each twice as large as the next one (odd sizes rounded up), to a
        tuple of maps (B, out_channels, H, W).

    Raises:
        ValueError: fewer levels out than in, another number of maps than of `in_channels`, or an unknown upsampler.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        upsample_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        levels = len(in_channels) - start_level
        if not 0 < levels <= num_outs:
            raise ValueError(f"num_outs: expected at least the {levels} levels of in_channels, got {num_outs}")
        self.in_channels, self.out_channels = list(in_channels), out_channels
        self.num_outs, self.start_level = num_outs, start_level
        self.lateral_convs = nn.ModuleList(_Conv(channels, out_channels, 1) for channels in in_channels[start_level:])
        self.fpn_convs = nn.ModuleList(_Conv(out_channels, out_channels, 3) for _ in range(levels))
        options = dict(upsample_cfg or {})
        kind = options.pop("type", "ddf_up")
        name: Any = "ddf" if kind == "ddf_up" else kind
        self.upsamplers = nn.ModuleList(upsample_layer(name, out_channels, 2, **options) for _ in range(levels - 1))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(inputs) != len(self.in_channels):
            raise ValueError(f"inputs: expected {len(self.in_channels)} maps, got {len(inputs)}")
        maps = [conv(x) for conv, x in zip(self.lateral_convs, inputs[self.start_level :], strict=True)]
        for i in reversed(range(len(maps) - 1)):
            layer = self.upsamplers[i]
            guide = maps[i] if layer.guide_channels is not None else None
            maps[i] = maps[i] + layer(maps[i + 1], guide, size=maps[i].shape[2:])
        outs = [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=True)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
