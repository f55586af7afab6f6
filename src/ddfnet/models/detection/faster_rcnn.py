"""Faster R-CNN whose feature pyramid upsamples by DDF-Up, or by one of its rivals (Table 6), on torchvision's."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ddfnet.models.detection.backbone import TimmBackbone
from ddfnet.models.detection.fpn import FeaturePyramidNetwork
from ddfnet.nn.upsamplers.plain import Upsample

COCO_CLASSES = 91  # of torchvision's released detectors, the background among them
OUT_CHANNELS = 256  # of the pyramid
HEAD_CHANNELS = 1024  # of the box head's two layers
POOLED = 7  # side of the pooled regions


class PyramidBackbone(nn.Module):
    """A timm network and a feature pyramid on it, as torchvision's detectors take a backbone.

    Args:
        body: gives maps by stride, each `r` times the one before.
        upsample: of the pyramid; see `FeaturePyramidNetwork`.
        out_channels: of the pyramid.

    Shape:
        (B, 3, H, W) -> {"0": (B, out_channels, H / strides[0], W / strides[0]), ..., "pool": one of twice the last stride}.
    """

    def __init__(self, body: TimmBackbone, upsample: Upsample = "ddf", out_channels: int = OUT_CHANNELS) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            body.channels,
            out_channels,
            LastLevelMaxPool(),
            upsample=upsample,
            scale_factors=[b // a for a, b in zip(body.strides, body.strides[1:], strict=False)],
        )
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn(self.body(x))


def fasterrcnn_resnet50_fpn_ddf_up(
    *,
    weights: Any = None,
    weights_backbone: Any = None,
    num_classes: int | None = None,
    upsample: Upsample = "ddf",
    backbone: str = "resnet50",
    trainable_backbone_layers: int | None = None,
    freeze_norms: bool | None = None,
    strides: Sequence[int] | None = None,
    out_channels: int = OUT_CHANNELS,
    head_channels: int = HEAD_CHANNELS,
    progress: bool = True,
    **kwargs: Any,
) -> FasterRCNN:
    """Create torchvision's Faster R-CNN with another upsampling in its feature pyramid: the detector of Table 6.

    Inputs, targets, losses and predictions are those of `torchvision.models.detection.fasterrcnn_resnet50_fpn`: a list of
    images (3, H, W) in 0..1; in training also targets with "boxes" (N, 4) as x1, y1, x2, y2 in pixels and "labels" (N,)
    from 1, 0 being the background.

    Args:
        weights: None; or with "resnet50" torchvision's or their name ("DEFAULT", "COCO_V1"), for all but the upsamplers.
        weights_backbone: None; torchvision's ResNet50 weights or their name; for a timm network "DEFAULT" or the path of a
            file. Not used where `weights` are given.
        num_classes: with the background; None: 91, as in COCO. If `weights` has another number, the box predictor starts
            with random weights.
        upsample: "ddf", "nearest", "bilinear", "deconv", "pixel_shuffle", "carafe", "dysample", or a function that makes the
            layer; see `ddfnet.models.FeaturePyramidNetwork`. With "nearest" the model is torchvision's.
        backbone: "resnet50", torchvision's, or the name of a timm network, those of `ddfnet.models` among them.
        trainable_backbone_layers: stages, from the deepest, that are trained. "resnet50": as in torchvision 0 to 5, None: 3,
            and always all where there are no weights; a timm network: see `ddfnet.models.detection.backbone.TimmBackbone`.
        freeze_norms: the network's batch norms keep their statistics and weights; None: where there are weights.
        strides: of a timm network's maps; None: those of 4, 8, 16, 32 that it has.
        out_channels: of the pyramid on a timm network.
        head_channels: of the two layers of the box head on a timm network.
        progress: show that of downloads.
        **kwargs: of torchvision's `FasterRCNN`: `min_size`, `max_size`, `box_detections_per_img`, ... For a timm network
            anchors default to 8 strides of their level, as torchvision's are, in three aspect ratios.

    Raises:
        TypeError: an argument that torchvision's `FasterRCNN` does not have.
        ValueError: an unknown network or upsampler, a number of layers that is not there, weights that do not fit.
        FileNotFoundError: a file of weights that is not there.

    Example:
        >>> import torch
        >>> from ddfnet.models import fasterrcnn_resnet50_fpn_ddf_up
        >>> model = fasterrcnn_resnet50_fpn_ddf_up(num_classes=11, min_size=64).eval()
        >>> sorted(model([torch.rand(3, 64, 96)])[0])
        ['boxes', 'labels', 'scores']
    """
    known = {name for kind in (FasterRCNN, GeneralizedRCNNTransform) for name in inspect.signature(kind).parameters}
    unknown = [name for name in kwargs if name not in known]
    if unknown:  # torchvision passes over them in silence
        raise TypeError(f"{unknown[0]}: expected an argument of torchvision's FasterRCNN, which has none of this name")
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes: expected 2 or more, with the background, got {num_classes}")
    if backbone != "resnet50":
        if weights is not None:
            raise ValueError(f"weights: expected None with backbone={backbone!r}, whose weights are weights_backbone")
        body = TimmBackbone(
            backbone,
            weights=weights_backbone,
            strides=strides,
            trainable_layers=trainable_backbone_layers,
            freeze_norms=freeze_norms,
        )
        if head_channels != HEAD_CHANNELS:
            kwargs["box_head"] = TwoMLPHead(out_channels * POOLED**2, head_channels)
            kwargs["box_predictor"] = FastRCNNPredictor(head_channels, num_classes or COCO_CLASSES)
        classes = None if "box_predictor" in kwargs else num_classes or COCO_CLASSES
        return FasterRCNN(PyramidBackbone(body, upsample, out_channels), classes, **{**_levels(body), **kwargs})
    if strides is not None:
        raise ValueError(f"strides: expected None with backbone='resnet50', got {strides}")
    for name, given, own in (
        ("out_channels", out_channels, OUT_CHANNELS),
        ("head_channels", head_channels, HEAD_CHANNELS),
    ):
        if given != own:
            raise ValueError(f"{name}: expected {own} with backbone='resnet50', got {given}")
    model = detection.fasterrcnn_resnet50_fpn(
        weights=weights,
        weights_backbone=weights_backbone,
        num_classes=None if weights is not None else num_classes,
        trainable_backbone_layers=trainable_backbone_layers,
        progress=progress,
        **kwargs,
    )
    if freeze_norms is not None:
        _exchange_norms(model.backbone.body, FrozenBatchNorm2d if freeze_norms else nn.BatchNorm2d)
    model.backbone.fpn = FeaturePyramidNetwork.of(model.backbone.fpn, upsample)
    if weights is not None and num_classes is not None:
        score = model.roi_heads.box_predictor.cls_score
        if num_classes != score.out_features:
            model.roi_heads.box_predictor = FastRCNNPredictor(score.in_features, num_classes)
    return model


def _levels(body: TimmBackbone) -> dict[str, Any]:
    """Return torchvision's anchors and pooling for the strides of a body, whose pyramid has one level more."""
    strides = [*body.strides, 2 * body.strides[-1]]
    anchors = AnchorGenerator(tuple((8 * stride,) for stride in strides), ((0.5, 1.0, 2.0),) * len(strides))
    names = [str(level) for level in range(len(body.strides))]
    return {
        "rpn_anchor_generator": anchors,
        "box_roi_pool": MultiScaleRoIAlign(featmap_names=names, output_size=POOLED, sampling_ratio=2),
    }


def _exchange_norms(module: nn.Module, kind: type[nn.BatchNorm2d] | type[FrozenBatchNorm2d]) -> None:
    """Put norms of the kind in the place of the others of the two, with their weights and statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | FrozenBatchNorm2d) and not isinstance(child, kind):
            new = kind(child.weight.shape[0], eps=child.eps)
            new.load_state_dict(child.state_dict(), strict=False)  # frozen ones count no batches
            setattr(module, name, new.to(child.weight.device).train(child.training))
        else:
            _exchange_norms(child, kind)
