"""Our ResNets are timm's after `import ddfnet.models`, in whatever order the two are imported; depth waits for neither."""

import subprocess
import sys

import pytest

LIST = "print(timm.is_model('ddf_mul_resnet50'), timm.is_model('ddf_resnet_mini'), timm.is_model('dynet_resnet50'))"


def printed(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports",
    [
        "import timm, ddfnet.models",
        "import ddfnet.models; from timm.models import resnet; import timm",
        *(
            pytest.param(imports, marks=pytest.mark.release)
            for imports in (
                "import ddfnet.models, timm",
                "import ddfnet.models.classification.rivals, timm",
                "import ddfnet.models.classification.resnet; import timm",
                "import ddfnet; ddfnet.upsample_depth; import timm",
                "from ddfnet.models import load_released; import timm",
            )
        ),
    ],
)
def test_in_any_order(imports: str) -> None:
    assert printed(f"{imports}; {LIST}") == "True True True"


def test_without_timm() -> None:
    """Depth works; what needs timm says that it is missing."""
    script = """
import sys
sys.modules["timm"] = None
del sys.modules["timm"]
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
sys.meta_path.insert(0, Missing())
import ddfnet.models
ddfnet.models.DDFUpNet
try:
    import timm
except ModuleNotFoundError as error:
    print(error)
"""
    assert printed(script) == "No module named 'timm'"


def test_depth_imports_neither_timm_nor_torchvision_nor_dynamo() -> None:
    script = """
import sys
import numpy as np
import ddfnet
ddfnet.upsample_depth(1 + np.random.rand(3, 4), np.zeros((12, 16, 3), np.uint8))
import ddfnet.cli.upsample, ddfnet.data.depth.files
print([name for name in ("timm", "torchvision", "torch._dynamo", "matplotlib", "pytorch_lightning") if name in sys.modules])
"""
    assert printed(script) == "[]"
