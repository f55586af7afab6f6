"""What `ddfnet show` looks at: the layer's own filters and maps, of any network, and their clusters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import ddfnet
from ddfnet import recipes
from ddfnet.data.classification.fashion_mnist import CLASSES, MEAN, STD
from ddfnet.models.classification.resnet import create_model
from ddfnet.tasks.classification.filter_pictures import _liveliest, _tiled, draw_all
from ddfnet.tasks.classification.show import Subject, cluster, look, subject

PNG = b"\x89PNG\r\n\x1a\n"


def alone(**options: Any) -> Subject:
    """A network of one DDF layer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), ddfnet.DDF(8, backend="reference", **options)).eval()
    return Subject(network, "alone", "random weights", 3, 12, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def picture(width: int = 15, height: int = 12) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_run(
    folder: Path, *, config: str = "fashion_mnist/ddf_resnet_mini", network: str = "ddf_resnet_mini"
) -> nn.Module:
    """The files of a run that are read, and the network whose weights are in them."""
    torch.manual_seed(1)
    model: nn.Module = create_model(network, in_chans=1)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(recipes.load(config)))
    state = {f"network.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "classes": list(CLASSES)}, folder / "best.ckpt")
    return model


@pytest.mark.parametrize("stride", [1, 2])
def test_the_filters_are_those_that_make_the_map(stride: int) -> None:
    seen_by = alone(stride=stride, heads=1)
    seen = look(seen_by, seen_by.prepare(picture()))
    assert seen.channel is not None
    assert seen.spatial is not None
    x, channel = torch.from_numpy(seen.before)[None], torch.from_numpy(seen.channel)[None]
    spatial = torch.from_numpy(seen.spatial).flatten(2).permute(2, 0, 1)[None].contiguous()
    y = ddfnet.ddf(x, channel, spatial, stride=stride, backend="reference")
    torch.testing.assert_close(torch.from_numpy(seen.after)[None], y)
    assert seen.dense.shape == seen.after.shape
    assert "random weights" in seen.title
    assert "random weights" in seen.dense_title


def test_a_layer_by_name_and_a_dense_one_beside_it() -> None:
    ours, dense = subject("ddf_resnet_mini"), subject("resnet_mini")
    images = ours.prepare(picture(), 16)
    seen = look(ours, images, "layer2.1.conv2", dense)
    module = dict(dense.network.named_modules())["layer2.1.conv2"]
    assert isinstance(module, nn.Conv2d)
    kept: list[torch.Tensor] = []
    module.register_forward_hook(lambda _, args, output: kept.append(output.detach().clone()))
    with torch.no_grad():
        dense.network(images[0])
    assert np.array_equal(seen.dense, kept[0][0].numpy())
    assert seen.dense_title == "resnet_mini, layer2.1.conv2, random weights"


def test_what_cannot_be_looked_at() -> None:
    dense, ours = subject("resnet_mini"), alone()
    with pytest.raises(ValueError, match=r"^--model: expected a network with DDF layers, resnet_mini has none"):
        look(dense, dense.prepare(picture()))
    with pytest.raises(ValueError, match=r"^--layer: expected one of 1, got 'conv9'"):
        look(ours, ours.prepare(picture()), "conv9")
    with pytest.raises(ValueError, match=r"^--beside: expected a network with a layer named 1, resnet_mini has none"):
        look(ours, ours.prepare(picture()), beside=dense)
    with pytest.raises(ValueError, match=r"^--beside: expected a network of images with 3 channels, grey takes 1"):
        look(ours, ours.prepare(picture()), beside=replace(dense, name="grey", channels=1))
    with pytest.raises(ValueError, match=r"^--model: neither a run, a checkpoint nor a network"):
        subject("no_such_network")


def test_an_image_is_scaled_whole_and_normalised() -> None:
    seen_by = alone()
    x, shown = seen_by.prepare(Image.new("RGB", (60, 24), (255, 0, 51)))
    assert x.shape == (1, 3, 12, 30)
    assert shown.shape == (12, 30, 3)
    torch.testing.assert_close(x[0, :, 5, 7], torch.tensor([2.0, -2.0, (0.2 - 0.5) / 0.25]))
    assert seen_by.prepare(Image.new("RGB", (60, 24)), 6)[0].shape == (1, 3, 6, 15)
    assert seen_by.prepare(Image.new("RGB", (500, 1)), 1)[0].shape == (1, 3, 1, 500)


def test_a_run_is_looked_at_without_its_data(tmp_path: Path) -> None:
    model = make_run(tmp_path / "run")
    found = subject(str(tmp_path / "run"))
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), found.network.state_dict().values(), strict=True)
    )
    assert (found.channels, found.size, found.mean, found.std) == (1, 28, (MEAN,), (STD,))
    assert found.weights == "trained weights of run"
    x, shown = found.prepare(Image.new("RGB", (28, 28), (255, 255, 255)))
    assert x.shape == (1, 1, 28, 28)
    assert shown.shape == (28, 28, 3)
    assert look(found, (x, shown)).before.shape == (16, 14, 14)


def test_runs_that_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run here"):
        subject(str(tmp_path))
    make_run(tmp_path / "detector", config="garments/ddf_up")
    with pytest.raises(ValueError, match="expected a run of classification"):
        subject(str(tmp_path / "detector"))
    make_run(tmp_path / "other", network="resnet_mini")
    with pytest.raises(ValueError, match="weights of another network"):
        subject(str(tmp_path / "other"))


def test_clusters_are_found_and_the_largest_comes_first() -> None:
    centres = np.random.default_rng(0).normal(size=(3, 3, 3))
    truth = np.array([[0, 1, 1, 2], [1, 1, 0, 1]])
    filters = (centres[truth] + np.random.default_rng(1).normal(scale=1e-3, size=(2, 4, 3, 3))).astype(np.float32)
    labels, means, shares = cluster(filters, 3)
    assert np.array_equal(labels, np.array([1, 0, 2])[truth])
    assert shares.tolist() == [5 / 8, 2 / 8, 1 / 8]
    for number in range(3):
        assert np.allclose(means[number], filters[labels == number].mean(0), rtol=0, atol=1e-6)


def test_no_more_clusters_than_different_filters() -> None:
    filters = np.zeros((4, 4, 3, 3), dtype=np.float32)
    filters[0, 0] = 1
    labels, means, shares = cluster(filters, 6)
    assert len(means) == len(shares) == 2
    assert (labels == 1).sum() == 1


def test_each_filter_is_drawn_in_the_place_of_its_pixel() -> None:
    filters = np.random.default_rng(0).normal(size=(4, 5, 3, 3))
    assert np.array_equal(_tiled(filters)[3:6, 9:12], filters[1, 3])


def test_the_magnified_square_is_where_filters_differ() -> None:
    filters = np.zeros((9, 10, 3, 3))
    filters[5:7, 7:9] = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    assert _liveliest(filters, 2) == (5, 7)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["channel_filters", "feature_maps", "filter_clusters", "spatial_filters"]),
        ({"branches": "spatial", "heads": 2, "kernel_size": 5}, ["feature_maps", "filter_clusters", "spatial_filters"]),
        ({"branches": "channel", "stride": 2}, ["channel_filters", "feature_maps"]),
    ],
)
def test_pictures_of_what_the_layer_has(tmp_path: Path, options: dict[str, Any], names: list[str]) -> None:
    seen_by = alone(**options)
    paths = draw_all(look(seen_by, seen_by.prepare(picture())), tmp_path, clusters=3)
    assert sorted(path.stem for path in paths) == names
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(PNG) for path in paths)


def test_a_map_of_one_pixel(tmp_path: Path) -> None:
    seen_by = alone()
    assert len(draw_all(look(seen_by, seen_by.prepare(Image.new("RGB", (1, 1)), 1)), tmp_path, clusters=4)) == 4
