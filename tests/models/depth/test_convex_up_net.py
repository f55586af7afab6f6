"""`ConvexUpNet`: what its outputs are made of, and that the weights that ship beat interpolation on a real pair."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.models.depth.convex_up_net import ConvexUpNet, Samples, load, pretrained, save
from ddfnet.ops.fill_unknown import fill_unknown

ROUNDING = 2e-5  # float32, through a network


@pytest.fixture(scope="module")
def network() -> ConvexUpNet:
    """Small, with weights that are far from those of the start."""
    torch.manual_seed(0)
    network = ConvexUpNet((8, 8, 16), encoder=(1, 1, 1), decoder=(1, 1, 1), embedding=4)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return network.eval()


def pair(factor: int, height: int = 48, width: int = 64, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(factor)
    depth = torch.rand(batch, 1, -(-height // factor), -(-width // factor), generator=generator)
    return depth, torch.rand(batch, 3, height, width, generator=generator)


@pytest.mark.parametrize("samples", ["point", "average"])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (41, 39)])
def test_has_the_photographs_size(network: ConvexUpNet, factor: int, height: int, width: int, samples: Samples) -> None:
    depth, rgb = pair(factor, height, width)
    output = network(depth, rgb, samples=samples)
    assert output.shape == (1, 1, height, width)
    assert output.isfinite().all()


@pytest.mark.parametrize("samples", ["point", "average"])
def test_follows_scale_and_offset_of_the_depth(network: ConvexUpNet, samples: Samples) -> None:
    depth, rgb = pair(4)
    expected = 5 * network(depth, rgb, samples=samples) - 2
    torch.testing.assert_close(network(5 * depth - 2, rgb, samples=samples), expected, rtol=0, atol=5 * ROUNDING)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_stays_within_the_range_of_the_samples_around(network: ConvexUpNet, factor: int) -> None:
    depth, rgb = pair(factor)
    output = network(depth, rgb)
    highest, lowest = (
        sign * F.max_pool2d(F.pad(sign * depth, (1, 1, 1, 1), value=-torch.inf), 3, 1) for sign in (1, -1)
    )
    highest, lowest = (x.repeat_interleave(factor, 2).repeat_interleave(factor, 3) for x in (highest, lowest))
    assert (output <= highest + ROUNDING).all()
    assert (output >= lowest - ROUNDING).all()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_gives_point_samples_back(network: ConvexUpNet, factor: int) -> None:
    depth, rgb = pair(factor)
    first = (factor - 1) // 2
    found = network(depth, rgb)[:, :, first::factor, first::factor]
    torch.testing.assert_close(found, depth, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_gives_averages_back(network: ConvexUpNet, factor: int) -> None:
    depth, rgb = pair(factor)
    found = F.avg_pool2d(network(depth, rgb, samples="average"), factor)
    torch.testing.assert_close(found, depth, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("samples", ["point", "average"])
@pytest.mark.parametrize("factor", [1, 4])
def test_unknown_samples_have_no_weight(network: ConvexUpNet, factor: int, samples: Samples) -> None:
    depth, rgb = pair(factor)
    known = torch.rand(depth.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    outputs = [network(depth.where(known, value), rgb, samples=samples, known=known) for value in (0.0, 1e9, torch.nan)]
    assert outputs[0].isfinite().all()
    for output in outputs[1:]:
        assert torch.equal(output, outputs[0])
    assert torch.equal(network(depth.where(known, torch.nan), rgb, samples=samples), outputs[0])


def test_fills_holes_at_ratio_1_and_keeps_what_is_known(network: ConvexUpNet) -> None:
    depth, rgb = pair(1)
    depth[:, :, 10:30, 20:50] = torch.nan
    known = ~depth.isnan()
    output = network(depth, rgb)
    torch.testing.assert_close(output[known], depth[known], rtol=0, atol=ROUNDING)
    assert output.amin() >= depth[known].amin() - ROUNDING
    assert output.amax() <= depth[known].amax() + ROUNDING


def test_begins_near_bilinear_interpolation() -> None:
    torch.manual_seed(0)
    depth, rgb = pair(4, 64, 64)
    fresh = ConvexUpNet()
    torch.nn.init.zeros_(fresh.embed.weight)
    output = fresh(depth, rgb, samples="point")[:, :, 8:-8, 8:-8]
    bilinear = interpolated(depth, 4, 1, "bilinear")[:, :, 8:-8, 8:-8]
    assert (output - bilinear).abs().max() < 0.1  # 0.01 is added to nine weights
    assert (output - bilinear).abs().mean() < 0.025


def test_a_batch_gives_what_its_images_give(network: ConvexUpNet) -> None:
    depth, rgb = pair(4, batch=3)
    together = network(depth, rgb)
    for i in range(3):
        torch.testing.assert_close(
            together[i : i + 1], network(depth[i : i + 1], rgb[i : i + 1]), rtol=0, atol=ROUNDING
        )


@pytest.mark.parametrize("samples", ["point", "average"])
def test_windows_give_what_the_whole_gives(network: ConvexUpNet, samples: Samples) -> None:
    reach, factor = network.reach, 4
    depth, rgb = pair(factor, 64, 4 * reach + 64)
    statistics = network.statistics(depth, rgb)
    whole = network(depth, rgb, samples=samples)
    first, last = reach + 32, reach + 64  # the part that is kept
    start, stop = first - reach, last + reach
    window = network(
        depth[..., start // factor : stop // factor], rgb[..., start:stop], samples=samples, statistics=statistics
    )
    torch.testing.assert_close(window[..., first - start : last - start], whole[..., first:last], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("samples", ["point", "average"])
def test_gradients_reach_inputs_and_parameters(samples: Samples) -> None:
    torch.manual_seed(0)
    network = ConvexUpNet((8, 8), encoder=(1, 1), decoder=(1, 1), embedding=4)
    network.head.weight.data.normal_(std=0.1)
    depth, rgb = pair(4, 32, 32)
    depth[0, 0, 2, 3] = torch.nan
    depth.requires_grad_()
    rgb.requires_grad_()
    network(depth, rgb, samples=samples).square().mean().backward()
    assert depth.grad is not None
    assert rgb.grad is not None
    assert depth.grad.nan_to_num(0).abs().sum() > 0
    assert rgb.grad.abs().sum() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
        assert parameter.grad is not None or name.startswith("fill"), name


def test_runs_under_autocast(network: ConvexUpNet) -> None:
    depth, rgb = pair(4)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(depth, rgb)
    assert output.dtype == torch.float32
    assert (output - network(depth, rgb)).abs().mean() < 0.05


def test_constants_stay_constant(network: ConvexUpNet) -> None:
    depth, rgb = pair(4)
    output = network(torch.full_like(depth, 7.0), rgb)
    torch.testing.assert_close(output, torch.full_like(output, 7.0), rtol=0, atol=7 * ROUNDING)


def test_names_what_is_wrong(network: ConvexUpNet) -> None:
    depth, rgb = pair(4)
    with pytest.raises(ValueError, match=r"depth: expected the sides of rgb, \(48, 64\), divided by a power of two"):
        network(depth[..., :-1], rgb)
    with pytest.raises(TypeError, match=r"rgb: expected a floating dtype, got torch.uint8"):
        network(depth, rgb.to(torch.uint8))
    with pytest.raises(ValueError, match=r"samples: expected 'point' or 'average', got 'pac'"):
        network(depth, rgb, samples="pac")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"known: expected \(1, 1, 12, 16\), got \(1, 1, 2, 2\)"):
        network(depth, rgb, known=torch.ones(1, 1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"depth: expected at least one known value"):
        network(depth * torch.nan, rgb)
    with pytest.raises(ValueError, match=r"rgb: expected a batch of 1"):
        network(depth, rgb.repeat(2, 1, 1, 1))


def test_files_keep_weights_and_options(network: ConvexUpNet, tmp_path) -> None:  # type: ignore[no-untyped-def]
    depth, rgb = pair(4)
    path = tmp_path / "weights.safetensors"
    save(network, path, dtype=torch.float32, steps=3)
    torch.testing.assert_close(load(path)(depth, rgb), network(depth, rgb), rtol=0, atol=0)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        load(path)


@pytest.mark.parametrize("samples", ["point", "average"])
@pytest.mark.parametrize("factor", [4, 8, 16])
def test_shipped_weights_beat_bicubic_on_a_real_pair(factor: int, samples: Samples) -> None:
    data = pytest.importorskip("skimage.data")
    left, _, disparity = data.stereo_motorcycle()
    rgb = torch.from_numpy(left[:496, 240:736].copy()).permute(2, 0, 1)[None].float() / 255
    true = torch.from_numpy(disparity[:496, 240:736].copy())[None, None].float()
    dense = fill_unknown(true)
    first = (factor - 1) // 2
    depth = dense[..., first::factor, first::factor] if samples == "point" else F.avg_pool2d(dense, factor)
    with torch.inference_mode():
        output = pretrained()(depth, rgb, samples=samples)

    def rmse(x: Tensor) -> float:
        return float((x - true)[true.isfinite()].square().mean().sqrt())

    offset = first if samples == "point" else (factor - 1) / 2
    assert rmse(output) < 0.95 * rmse(interpolated(depth, factor, offset, "bicubic"))


def interpolated(depth: Tensor, factor: int, offset: float, mode: str) -> Tensor:
    """Square depth whose first sample lies on pixel `offset`, `factor` times as large."""
    positions = (torch.arange(factor * depth.shape[2]) - offset) / factor
    grid = torch.stack(torch.meshgrid(positions, positions, indexing="xy"), -1)[None] * 2 / (depth.shape[2] - 1) - 1
    return F.grid_sample(depth, grid, mode=mode, padding_mode="border", align_corners=True)
