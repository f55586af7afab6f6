"""Photographs with depth maps: one form for all sources, and the real pair that scikit-image ships."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

SIDE_MULTIPLE = 16  # the largest factor: cropped to it, every factor samples the same pixels
TEST_SHARE = 0.4  # of the Motorcycle's width, at its right
GAP = 64  # pixels between the parts, in neither


class RGBDImage(NamedTuple):
    """A photograph and the depth map seen from the same place.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32, in `unit`; NaN where it is unknown. Near and far may be either way round.
        name: of the image, for messages and tables.
        unit: of the depth: "m", "mm", "px" (a disparity).
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    name: str
    unit: str


class RGBDImages(Dataset[RGBDImage]):
    """What has a length and gives an `RGBDImage` for every index, and the same one each time; base of the data sets here."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> RGBDImage:
        raise NotImplementedError

    def _checked(self, index: int) -> int:
        """`index` from 0 up; IndexError, which ends a for loop, where there is none."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} images, got {index}")
        return index % len(self)


def cropped(image: RGBDImage, multiple: int = SIDE_MULTIPLE) -> RGBDImage:
    """The image without the last rows and columns that keep its sides from being multiples of `multiple`.

    Raises:
        ValueError: the image is smaller than `multiple`.
    """
    height, width = (side - side % multiple for side in image.depth.shape)
    if not height or not width:
        raise ValueError(f"{image.name}: expected sides of at least {multiple} pixels, got {image.depth.shape}")
    return image._replace(rgb=image.rgb[:height, :width], depth=image.depth[:height, :width])


class Motorcycle(RGBDImages):
    """Middlebury 2014's Motorcycle, which scikit-image ships at a quarter of its size: one photograph, cut in two.

    The test part is the right 40% of the left view, the training part what is left of a gap of 64 pixels before it; their
    sides are multiples of 16. They share no pixel, but they are one scene: a score on the test part says less about
    other photographs than one on other photographs would. The depth is the disparity to the right view in pixels,
    measured with structured light; where it is not known (7%) it is NaN. Each part is one image, so `len` is 1.

    Args:
        part: "train" gives a 496x368 image, "test" a 496x288 one.

    Raises:
        ValueError: `part` is neither.
        FileNotFoundError: scikit-image is installed without its pictures.
    """

    def __init__(self, part: Literal["train", "test"]) -> None:
        if part not in ("train", "test"):
            raise ValueError(f'part: expected "train" or "test", got {part!r}')
        rgb, disparity = _motorcycle()
        start = round((1 - TEST_SHARE) * rgb.shape[1])
        columns = slice(start, None) if part == "test" else slice(None, start - GAP)
        self._image = cropped(RGBDImage(rgb[:, columns], disparity[:, columns], f"motorcycle ({part})", "px"))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> RGBDImage:
        self._checked(index)
        return self._image


def _motorcycle() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The left view (500, 741, 3) and its disparity (500, 741), NaN where unknown."""
    import skimage.data

    loader: Callable[[], Any] = skimage.data.stereo_motorcycle
    try:
        rgb, _, disparity = loader()
    except Exception as error:  # its downloader raises what the network does; without pooch a ModuleNotFoundError
        raise FileNotFoundError(
            "motorcycle_left.png, motorcycle_disp.npz: expected scikit-image's pictures in its package, as its wheels have"
            f" them, or a network to fetch them from ({type(error).__name__}: {error})"
        ) from error
    known = np.isfinite(disparity)
    return np.asarray(rgb, np.uint8), np.where(known, disparity, np.nan).astype(np.float32)
