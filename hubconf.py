"""`torch.hub.load(REPOSITORY, "ddf_mul_resnet50")`: every DDF network by name, with timm's options."""

import sys
from functools import partial
from pathlib import Path

dependencies = ["torch", "timm"]

sys.path.insert(0, str(Path(__file__).parent / "src"))

import timm  # noqa: E402

import ddfnet.models  # noqa: E402, F401 - registers the networks

for _name in timm.list_models("ddf_*"):
    globals()[_name] = partial(timm.create_model, _name)
