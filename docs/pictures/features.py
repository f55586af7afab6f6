"""Draws `features.png`: features of a small network at 1/16 of a photograph, upsampled bilinearly and by FeatUp's stack.

uv run python docs/pictures/features.py

The network is the encoder of `ConvexUpNet`, whose weights ship. The stack is trained on the one photograph as FeatUp trains:
what comes out, moved by some pixels and averaged over 16 x 16, must be the network's features of the moved photograph.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.models.depth.convex_up_net import WEIGHTS, load
from ddfnet.nn import JBUStack

SIZE = 256  # of the picture; a multiple of 16
STEPS, RATE = 100, 1e-3
LEVEL = 4  # encoders up to 1/16


def main() -> None:
    torch.manual_seed(0)
    photograph = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None] / 255
    picture = F.interpolate(photograph, size=(SIZE + 16, SIZE + 16), mode="area")
    network = load(WEIGHTS).eval()
    with torch.no_grad():
        centre = features(network, moved(picture, 8, 8))
    scale = centre.std()
    up = trained(JBUStack(centre.shape[1]), network, picture, scale)
    with torch.no_grad():
        fine = up(centre / scale, moved(picture, 8, 8))
    draw(moved(picture, 8, 8), centre / scale, fine)


def features(network: torch.nn.Module, picture: Tensor) -> Tensor:
    """(B, 64, H / 16, W / 16)."""
    y = F.pixel_unshuffle(picture * 4 - 2, 2)
    for encoder in network.encoder[:LEVEL]:  # type: ignore[index, union-attr]
        y = encoder(y)
    return y


def moved(picture: Tensor, down: int, right: int) -> Tensor:
    """The window of SIZE pixels that begins there."""
    return picture[..., down : down + SIZE, right : right + SIZE]


def trained(up: JBUStack, network: torch.nn.Module, picture: Tensor, scale: Tensor) -> JBUStack:
    optimizer = torch.optim.Adam(up.parameters(), RATE)
    with torch.no_grad():
        coarse = features(network, picture) / scale
    for step in range(STEPS):
        down, right = torch.randint(0, 17, (2,)).tolist()
        with torch.no_grad():
            wanted = features(network, moved(picture, down, right)) / scale
        found = F.avg_pool2d(moved(up(coarse, picture), down, right), 16)
        loss = F.mse_loss(found, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == STEPS - 1:
            print(f"step {step}: {loss.item():.4f}", flush=True)
    return up.eval()


def draw(picture: Tensor, coarse: Tensor, fine: Tensor) -> None:
    bilinear = F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
    mean = coarse.mean((0, 2, 3))
    _, _, axes = torch.linalg.svd(coarse[0].flatten(1).T - mean, full_matrices=False)
    limits = components(coarse, mean, axes).flatten(2).quantile(torch.tensor([0.01, 0.99]), dim=2)[..., None, None]
    images = {"photograph": picture}
    for name, maps in {"features, bilinear": bilinear, "features, JBUStack": fine}.items():
        images[name] = (components(maps, mean, axes) - limits[0]) / (limits[1] - limits[0])
    figure, places = plt.subplots(1, 3, figsize=(10.5, 3.8), layout="constrained")
    for place, (name, image) in zip(places, images.items(), strict=True):
        place.imshow(np.clip(image[0].permute(1, 2, 0).numpy(), 0, 1))
        place.set(title=name, xticks=[], yticks=[])
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=100)
    print(path)


def components(maps: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """The first three principal components: (B, 3, H, W)."""
    return torch.einsum("bchw,nc->bnhw", maps - mean[:, None, None], axes[:3])


if __name__ == "__main__":
    main()
