"""Small folders of photographs with depth, for tests of what is trained and scored on them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddfnet.data.depth.photographs import RGBDImage, RGBDImages


class Given(RGBDImages):
    """A data set of the images it is given."""

    def __init__(self, *images: RGBDImage) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> RGBDImage:
        return self.images[self._checked(index)]


def picture(seed: int, size: tuple[int, int] = (48, 64), *, unit: str = "m") -> RGBDImage:
    """Squares before a ramp, some of it unknown; red shows the depth, 10 to 60 in tenths."""
    rng = np.random.default_rng(seed)
    depth: NDArray[np.float32] = np.tile(np.linspace(1, 3, size[1], dtype=np.float32), (size[0], 1))
    for _ in range(3):
        top, left = rng.integers(0, size[0] - 12), rng.integers(0, size[1] - 12)
        depth[top : top + 12, left : left + 12] = rng.uniform(4, 6)
    rgb = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    rgb[..., 0] = np.round(depth * 10)
    depth[rng.random(size) < 0.05] = np.nan
    return RGBDImage(rgb, depth, f"picture {seed}", unit)


def write_folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (48, 64)) -> Path:
    """Pairs below `root`/PART/rgb and `root`/PART/depth, as many as `counts` says."""
    for number, (part, count) in enumerate(counts.items()):
        for kind in ("rgb", "depth"):
            (root / part / kind).mkdir(parents=True)
        for index in range(count):
            image = picture(100 * number + index, size)
            Image.fromarray(image.rgb).save(root / part / "rgb" / f"{index}.png")
            np.save(root / part / "depth" / f"{index}.npy", image.depth)
    return root
