"""Generated scenes with exact depth: endless training material for joint upsampling, from a seed."""

import numpy as np

from ddfnet.data.depth.photographs import RGBDImage, RGBDImages
from ddfnet.data.depth.scenes.canvas import Canvas
from ddfnet.data.depth.scenes.photograph import photograph
from ddfnet.data.depth.scenes.textures import materials
from ddfnet.data.depth.scenes.worlds import WORLDS

VERSION = 1  # of the content: changed whenever the same arguments give other pixels
OVERSAMPLING = 2  # rays a pixel in each direction: the picture's edges are smooth, the depth's are not
BASELINE = 0.15  # metres, of the disparities


class GeneratedScenes(RGBDImages):
    """Rooms, streets, workbenches and floating shapes, in perspective; item i depends on (seed, i, size) alone.

    Depth edges without contrast (things before their like, in dim light or haze) and contrast without depth edges (prints,
    pictures, photographs on surfaces, shadows), thin structures (wires, legs, bars, spokes, leaves), curved and slanted
    surfaces. The picture is antialiased, blurred, noisy and JPEG-compressed at random; the depth has one sample a pixel
    and no unknowns. Half of the items are depths in metres, the other half disparities in pixels (near is high).

    Args:
        count: how many items.
        seed: of all of them.
        size: of the square items in pixels, a multiple of 64.

    Raises:
        ValueError: a count below 0, a size that is no such multiple.
    """

    def __init__(self, count: int, seed: int, size: int = 256) -> None:
        if count < 0:
            raise ValueError(f"count: expected an int >= 0, got {count}")
        if size < 64 or size % 64:
            raise ValueError(f"size: expected a multiple of 64 pixels, got {size}")
        self.count, self.seed, self.size = count, seed, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> RGBDImage:
        index = self._checked(index)
        rng = np.random.default_rng((VERSION, self.seed, index, self.size))
        world = WORLDS[rng.choice(len(WORLDS), p=[odds for _, odds in WORLDS])][0]
        side = OVERSAMPLING * self.size
        canvas = Canvas(
            side,
            focal=side * rng.uniform(0.7, 1.7),
            height=rng.uniform(0.6, 1.9),
            pitch=rng.normal(0.12, 0.15),
            roll=rng.normal(0, 0.04),
        )
        stock = materials(
            rng, int(rng.integers(3, 24)), contrast=rng.uniform(0.15, 1), scale=0.2 * np.exp(rng.uniform(0, 3))
        )
        world(rng, canvas, len(stock))
        unseen = np.isinf(canvas.depth)
        canvas.depth[unseen] = canvas.depth[~unseen].max()
        first = rng.integers(OVERSAMPLING, size=2)
        depth = canvas.depth[first[0] :: OVERSAMPLING, first[1] :: OVERSAMPLING].copy()
        rgb = photograph(rng, canvas, stock, size=self.size)
        unit = "m"
        if rng.random() < 0.5:
            depth, unit = np.float32(BASELINE * canvas.focal / OVERSAMPLING) / depth, "px"
        return RGBDImage(rgb, depth, f"scene {self.seed}/{index} ({world.__name__})", unit)
