"""Photographs with depth maps: one form for all sources, folders of files, and the real pair that scikit-image ships."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ddfnet.data.depth.files import read_depth, read_rgb

SIDE_MULTIPLE = 16  # the largest factor: cropped to it, every factor samples the same pixels
TEST_SHARE = 0.4  # of the Motorcycle's width, at its right
GAP = 64  # pixels between the parts, in neither


class RGBDImage(NamedTuple):
    """A photograph and the depth map seen from the same place.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32, in `unit`; NaN where it is unknown. Near and far may be either way round.
        name: of the image, for messages and tables.
        unit: of the depth: "m", "mm", "px" (a disparity), or what its owner calls it.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    name: str
    unit: str


class RGBDImages(Dataset[RGBDImage]):
    """The base of the depth data sets: it has a length and returns the same `RGBDImage` for an index each time."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> RGBDImage:
        raise NotImplementedError

    def _checked(self, index: int) -> int:
        """Count `index` from 0; raise IndexError, which ends a for loop, if there is no such image."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} images, got {index}")
        return index % len(self)


def cropped(image: RGBDImage, multiple: int = SIDE_MULTIPLE) -> RGBDImage:
    """Crop the last rows and columns of the image, so that its sides are multiples of `multiple`.

    Raises:
        ValueError: the image is smaller than `multiple`.
    """
    height, width = (side - side % multiple for side in image.depth.shape)
    if not height or not width:
        raise ValueError(f"{image.name}: expected sides of at least {multiple} pixels, got {image.depth.shape}")
    return image._replace(rgb=image.rgb[:height, :width], depth=image.depth[:height, :width])


class Motorcycle(RGBDImages):
    """Middlebury 2014's Motorcycle, which scikit-image ships at a quarter of its size: one photograph, cut in two.

    The test part is the right 40% of the left view, the training part lies left of a gap of 64 pixels before it; their
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


class RGBDFolder(RGBDImages):
    """A folder of photographs and depth maps, paired by their names and read on demand.

    One of two layouts: `rgb/NAME.*` beside `depth/NAME.*`, at any depth below those two, or `NAME_rgb.*` beside
    `NAME_depth.*` in the folder itself. Photographs are in any format Pillow reads, depth maps in those of
    `ddfnet.data.depth.files.read_depth`. In the order of the names.

    Args:
        root: the folder.
        unit: of the depths; unless given, "mm" of a 16-bit PNG and "file unit" of TIFF and NPY, which do not say.

    Raises:
        FileNotFoundError: there is no such folder, neither layout, or a depth map has no photograph, or it no depth map.
        ValueError: two files claim one name; when an item is read: the two differ in size, or one cannot be read.
    """

    def __init__(self, root: Path | str, *, unit: str | None = None) -> None:
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: expected a folder of photographs and depth maps, found none")
        if (root / "rgb").is_dir() and (root / "depth").is_dir():
            photographs, depths = _by_name(root / "rgb"), _by_name(root / "depth")
        else:
            photographs, depths = _by_suffix(root, "_rgb"), _by_suffix(root, "_depth")
        if not photographs and not depths:
            raise FileNotFoundError(
                f"{root}: expected rgb/NAME.* beside depth/NAME.*, or NAME_rgb.* beside NAME_depth.*, found no such files"
            )
        for name in sorted(photographs.keys() ^ depths.keys()):
            found, missing = (photographs, "a depth map") if name in photographs else (depths, "a photograph")
            raise FileNotFoundError(f"{found[name]}: expected {missing} of the same name beside it, found none")
        self.names = sorted(photographs)
        self.unit = unit
        self._paths = [(photographs[name], depths[name]) for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> RGBDImage:
        index = self._checked(index)
        photograph, map_path = self._paths[index]
        rgb, depth = read_rgb(photograph), read_depth(map_path)
        if rgb.shape[:2] != depth.values.shape:
            raise ValueError(f"{map_path}: expected the photograph's {rgb.shape[:2]} pixels, got {depth.values.shape}")
        return RGBDImage(rgb, depth.values, self.names[index], self.unit or depth.unit or "file unit")


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the files below the folder by their path without suffix."""
    return _unique((path.relative_to(folder).with_suffix("").as_posix(), path) for path in _files(folder.rglob("*")))


def _by_suffix(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files in the folder whose stem ends so, by the part before."""
    return _unique(
        (path.stem.removesuffix(ending), path) for path in _files(folder.iterdir()) if path.stem.endswith(ending)
    )


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


def _unique(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named:
        if name in found:
            raise ValueError(f"{path}: expected one file of the name {name}, found {found[name].name} too")
        found[name] = path
    return found


def _motorcycle() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the left view (500, 741, 3) and its disparity (500, 741), NaN where unknown."""
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
