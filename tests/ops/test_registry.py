"""One way to make an op: where PyTorch's private names are, and what an op of a few lines gets from `define`."""

import re
from pathlib import Path

import torch

from ddfnet.ops import registry

SRC = Path(registry.__file__).parents[1]
PRIVATE = re.compile(
    r"torch(\.\w+)*\._[a-z]|from torch[\w.]* import [^\n]*\b_has|_current_level|torch\._C|get_referrers"
)


def test_private_names_of_pytorch_are_in_one_file() -> None:
    found = [path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py") if PRIVATE.search(path.read_text())]
    assert found == ["ops/registry.py"]


def test_every_op_has_its_rules() -> None:
    import ddfnet.ops.filters.api
    import ddfnet.ops.pac.api  # noqa: F401

    names = {"ddf", "ddf_backward", "ddf_filters", "filter_norm_backward", "pac", "pac_backward"}
    assert set(registry.CALLS) == names
    keys = torch._C._dispatch_dump("ddfnet::ddf")
    assert all(key in keys for key in ("AutocastCPU", "AutocastCUDA", "CompositeExplicitAutograd"))
    schema = str(torch.ops.ddfnet.ddf.default._schema)
    assert schema.startswith(
        "ddfnet::ddf(Tensor x, Tensor? channel_filter, Tensor? spatial_filter, int? kernel_size, int"
    )
