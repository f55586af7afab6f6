"""`AttentionAugmentedConv` against its definition in loops, its embeddings on maps of other sizes, and the contract."""

import itertools
import math

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from torch import Tensor

from ddfnet.nn.rivals.attention_augmented import AttentionAugmentedConv, _relative


def averaged(x: Tensor, factor: int) -> Tensor:
    """3x3 averages of what lies inside, every `factor` pixels."""
    if factor == 1:
        return x
    rows, columns = (range(0, n, factor) for n in x.shape[2:])
    windows = [[x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((2, 3)) for j in columns] for i in rows]
    return torch.stack([torch.stack(row, -1) for row in windows], -2)


def embedding(table: Tensor, offset: int, side: int) -> Tensor:
    """Of an offset on a map of `side`: -(side - 1) is the table's first row, side - 1 its last."""
    half = (len(table) - 1) // 2
    place = half + offset * half / max(side - 1, 1)
    below = min(int(place), len(table) - 1)
    above = min(below + 1, len(table) - 1)
    return table[below] * (1 - (place - below)) + table[above] * (place - below)


def attention(p: dict[str, Tensor], x: Tensor, heads: int, keys: int, values: int) -> Tensor:
    """Pixel by pixel, head by head: (C, P, Q) -> (V, P, Q)."""
    height, width = x.shape[1:]
    query, key, value = torch.einsum("oc,cpq->opq", p["qkv.weight"][..., 0, 0], x).split([keys, keys, values])
    found = []
    for head in range(heads):
        q, k, v = (t.unflatten(0, (heads, -1))[head] for t in (query, key, value))
        outputs = []
        for i, j in itertools.product(range(height), range(width)):
            rows = torch.stack([embedding(p["relative_height"], m - i, height) for m in range(height)], 1)
            columns = torch.stack([embedding(p["relative_width"], n - j, width) for n in range(width)], 1)
            terms = k + rows[:, :, None] + columns[:, None]  # (D, P, Q)
            weights = (torch.einsum("d,dpq->pq", q[:, i, j], terms) / math.sqrt(keys // heads)).exp()
            outputs.append(torch.einsum("dpq,pq->d", v, weights / weights.sum()))
        found.append(torch.stack(outputs, 1))
    joined = torch.cat(found).unflatten(1, (height, width))
    return torch.einsum("oc,cpq->opq", p["project.weight"][..., 0, 0], joined)


def enlarged(y: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear, pixels being areas: a matrix of weights along either axis."""
    matrices = []
    for small, large in zip(y.shape[1:], size, strict=True):
        matrix = torch.zeros(large, small, dtype=y.dtype)
        for i in range(large):
            place = max((i + 0.5) * small / large - 0.5, 0.0)
            below = int(place)
            matrix[i, below] += 1 - (place - below)
            matrix[i, min(below + 1, small - 1)] += place - below
        matrices.append(matrix)
    return torch.einsum("ip,jq,cpq->cij", *matrices, y)


@pytest.mark.parametrize(("k", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("shrink", [1, 2])
def test_equals_its_definition(k: int, stride: int, dilation: int, shrink: int) -> None:
    torch.manual_seed(0)
    size = 7 // stride // shrink, 4  # learned for one of the maps' heights, for none of their widths
    options = {"heads": 2, "head_keys": 3, "value_ratio": 0.7, "map_size": size, "shrink": shrink}
    layer = AttentionAugmentedConv(6, k, stride=stride, dilation=dilation, **options)
    assert (layer.keys, layer.values) == (6, 4)

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        convolved = torch.einsum("oct,bctpq->bopq", p["conv.weight"].flatten(2), patches(x, k, stride, dilation))
        seen = averaged(averaged(x, stride), shrink)
        attended = [enlarged(attention(p, sample, 2, 6, 4), tuple(convolved.shape[2:])) for sample in seen]
        return torch.cat((convolved, torch.stack(attended)), 1)

    equals(layer, plain)


def test_widths_are_the_papers() -> None:
    """0.2 C and 0.1 C in whole heads, but 20 channels of keys and one of values a head at least."""
    for channels, keys, values in ((16, 160, 8), (128, 160, 8), (512, 160, 48), (1024, 200, 96)):
        layer = AttentionAugmentedConv(channels, device="meta")
        assert (layer.keys, layer.values) == (keys, values)
        assert layer.relative_height.shape == (27, keys // 8)


def test_embeddings_on_other_maps() -> None:
    """Twice as far apart on a map of twice the side minus one is the same embedding; one row has but the middle."""
    torch.manual_seed(0)
    layer = AttentionAugmentedConv(16, map_size=(3, 4))
    table = layer.relative_height
    for i, j in itertools.product(range(3), repeat=2):
        assert torch.equal(_relative(table, 3)[i, j], table[j - i + 2])
        torch.testing.assert_close(_relative(table, 5)[2 * i, 2 * j], table[j - i + 2])
    assert torch.equal(_relative(table, 1)[0, 0], table[2])
    torch.testing.assert_close(_relative(table, 5)[0, 1], (table[2] + table[3]) / 2)


def test_contract() -> None:
    own = {"heads": 2, "key_ratio": 0.5, "value_ratio": 0.25, "head_keys": 4, "map_size": (5, 3), "shrink": 2}
    holds(AttentionAugmentedConv, own)


@pytest.mark.release
def test_one_graph_for_all_sizes() -> None:
    torch.manual_seed(0)
    layer = AttentionAugmentedConv(16, stride=2, shrink=2)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in ((2, 16, 9, 12), (3, 16, 20, 31)):
        x = torch.randn(size)
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch.testing.assert_close(compiled(x), layer(x))


def test_export_for_all_sizes() -> None:
    torch.manual_seed(0)
    layer = AttentionAugmentedConv(16, stride=2, shrink=2).eval()
    sides = {2: torch.export.Dim("height", min=8, max=64), 3: torch.export.Dim("width", min=8, max=64)}
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    exported = torch.export.export(layer, (torch.randn(3, 16, 9, 12),), dynamic_shapes=({**batch, **sides},))
    x = torch.randn(5, 16, 20, 31)
    torch.testing.assert_close(exported.module()(x), layer(x))


def test_errors() -> None:
    for name in ("heads", "head_keys", "map_size", "shrink"):
        with pytest.raises(ValueError, match=f"{name}: expected an int >= 1, got 0"):
            AttentionAugmentedConv(16, **{name: 0})
    with pytest.raises(ValueError, match="map_size: expected an int >= 1, got 0"):
        AttentionAugmentedConv(16, map_size=(3, 0))
    for name in ("key_ratio", "value_ratio"):
        with pytest.raises(ValueError, match=f"{name}: expected a number > 0, got 0"):
            AttentionAugmentedConv(16, **{name: 0})
    with pytest.raises(ValueError, match="heads, value_ratio: expected fewer than channels = 8 for attention, got 8"):
        AttentionAugmentedConv(8)
