"""Floor 3: networks. Importing this package registers the ResNets with `timm.create_model`.

Detectors and what they are made of are loaded at first use: they need torchvision's, which takes its time. So are the
networks that upsample depth.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddfnet.models.classification import (  # noqa: F401 - register the networks
    dynet,
    resnet,
    rivals,
)
from ddfnet.models.classification.checkpoints import load_released
from ddfnet.models.complexity import Complexity, complexity

if TYPE_CHECKING:
    from ddfnet.models.depth.joint_upsampling import DDFUpNet, PacJointUpsample
    from ddfnet.models.detection.faster_rcnn import fasterrcnn_resnet50_fpn_ddf_up
    from ddfnet.models.detection.fpn import FeaturePyramidNetwork

__all__ = [
    "Complexity",
    "DDFUpNet",
    "FeaturePyramidNetwork",
    "PacJointUpsample",
    "complexity",
    "fasterrcnn_resnet50_fpn_ddf_up",
    "load_released",
]

_HOMES = {
    "DDFUpNet": "ddfnet.models.depth.joint_upsampling",
    "FeaturePyramidNetwork": "ddfnet.models.detection.fpn",
    "PacJointUpsample": "ddfnet.models.depth.joint_upsampling",
    "fasterrcnn_resnet50_fpn_ddf_up": "ddfnet.models.detection.faster_rcnn",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ddfnet.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
