"""Floor 3: networks. Importing this package registers the ResNets with `timm.create_model`.

Detectors and what they are made of are loaded at first use: they need torchvision's, which takes its time. So are the
networks that upsample depth.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddfnet.models import dynet, resnet, rivals  # noqa: F401 - register the networks
from ddfnet.models.checkpoints import load_released
from ddfnet.models.complexity import Complexity, complexity

if TYPE_CHECKING:
    from ddfnet.models.faster_rcnn import fasterrcnn_resnet50_fpn_ddf_up
    from ddfnet.models.fpn import FeaturePyramidNetwork
    from ddfnet.models.joint_upsampling import DDFUpNet, PacJointUpsample

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
    "DDFUpNet": "ddfnet.models.joint_upsampling",
    "FeaturePyramidNetwork": "ddfnet.models.fpn",
    "PacJointUpsample": "ddfnet.models.joint_upsampling",
    "fasterrcnn_resnet50_fpn_ddf_up": "ddfnet.models.faster_rcnn",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ddfnet.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
