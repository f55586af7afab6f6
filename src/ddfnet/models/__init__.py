"""Floor 3: networks. Importing this package registers the ResNets with `timm.create_model`.

timm and torchvision take seconds to import, and depth needs neither. So the registration waits for timm: it happens at once
if timm is imported already, else right after `import timm`. Detectors and depth networks are loaded at first use.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ddfnet.models.complexity import Complexity, complexity

if TYPE_CHECKING:
    from ddfnet.models.classification.checkpoints import load_released
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
    "load_released": "ddfnet.models.classification.checkpoints",
}


class _AfterTimm:
    """A finder of modules that registers our networks right after timm is imported; it finds nothing else."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        if name != "timm":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None:
            _register_after(spec)
        return spec


def _register_after(spec: ModuleSpec) -> None:
    loader: Any = spec.loader
    execute = loader.exec_module

    def execute_and_register(module: ModuleType) -> None:
        execute(module)
        import_module("ddfnet.models.classification")

    loader.exec_module = execute_and_register


if "timm" in sys.modules:
    import_module("ddfnet.models.classification")
else:
    sys.meta_path.insert(0, _AfterTimm())


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ddfnet.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
