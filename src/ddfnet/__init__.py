"""ddfnet: decoupled dynamic filters for PyTorch.

    import ddfnet

    layer = ddfnet.DDF(64)                    # stands where nn.Conv2d(64, 64, 3, padding=1) stood
    y = ddfnet.ddf(x, channel_filter, spatial_filter)

Source: Zhou, Jampani, Pi, Liu, Yang, "Decoupled Dynamic Filter Networks", CVPR 2021.

Names are loaded at first use, so `import ddfnet` costs nothing and `ddfnet --help` does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddfnet.ops.flops import watch_for_the_counter

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ddfnet.models.depth.upsample import upsample_depth
    from ddfnet.nn.ddf import DDF
    from ddfnet.nn.filter_norm import FilterNorm
    from ddfnet.nn.replace import replace_conv2d
    from ddfnet.nn.upsamplers.ddf_up import DDFUp
    from ddfnet.ops.ddf.api import ddf, prefer_backend
    from ddfnet.ops.ddf_up.api import ddf_up

__all__ = ["DDF", "DDFUp", "FilterNorm", "ddf", "ddf_up", "prefer_backend", "replace_conv2d", "upsample_depth"]

_HOMES = {
    "DDF": "ddfnet.nn.ddf",
    "DDFUp": "ddfnet.nn.upsamplers.ddf_up",
    "FilterNorm": "ddfnet.nn.filter_norm",
    "ddf": "ddfnet.ops.ddf.api",
    "ddf_up": "ddfnet.ops.ddf_up.api",
    "prefer_backend": "ddfnet.ops.ddf.api",
    "replace_conv2d": "ddfnet.nn.replace",
    "upsample_depth": "ddfnet.models.depth.upsample",
}

watch_for_the_counter()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ddfnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
