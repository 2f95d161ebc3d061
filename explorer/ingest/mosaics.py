"""What a large image says of its size and its sky, asked in a child process: numpy, Pillow and, for FITS, astropy only.

Positions in a large image are 0-based: the center of the first pixel is (0, 0), x goes right. In FITS, y goes up as in
the stored array; in everything else it goes down.
"""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer.ingest.decoder import Item, OpenImage, Reading, is_fits, is_picture, open_image
from models.images import ImageError, UnknownFormatError, open_header

#: Bands of one mosaic show the same sky at the same pixel, to this many px.
SAME_GRID = 1.0


@dataclass(frozen=True, slots=True)
class Mosaic:
    """One large image: a file, or one per band.

    Attributes
    ----------
    paths
        The files.
    width, height
        px.
    has_sky
        Whether there is a WCS that solves.
    pixel_scale
        arcsec per px at the center; None where it is unknown.
    """

    paths: tuple[str, ...]
    width: int
    height: int
    has_sky: bool = False
    pixel_scale: float | None = None

    def from_top(self, y: Any) -> Any:
        """y counted from the top row, as an `Item` has it; and back."""
        return self.height - 1 - y if is_fits(self.paths) else y


def look(paths: tuple[str, ...], reading: Reading) -> Mosaic:
    """Size and scale of a mosaic.

    Raises
    ------
    ImageError, OSError
        It cannot be read, or its bands are not on one grid.
    """
    if len(paths) == 1 and is_picture(paths[0]):
        with contextlib.suppress(UnknownFormatError), open_header(Path(paths[0])) as header:
            return Mosaic(paths, *header.size)
    height, width, _ = open_image(Item(paths), reading).shape
    first = _sky_of(paths, reading)
    center = first.sky((width - 1) / 2, (height - 1) / 2)
    for path in paths[1:] if center else ():
        other = _sky_of((path,), replace(reading, bands=(), picks=()))
        for x, y in ((0, 0), (width - 1, height - 1)):
            if (there := other.sky(x, y)) is None:
                continue
            at = np.array(_pixels(first, np.array([there.ra]), np.array([there.dec]))).ravel() - (x, y)
            if not np.abs(at).max() <= SAME_GRID:
                raise ImageError(f"the bands are not on one grid: {path} shows other sky than {paths[0]} does there")
    return Mosaic(paths, width, height, center is not None, center.pixel_scale if center else None)


def locate(paths: tuple[str, ...], reading: Reading, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where coordinates (deg, ICRS) lie in a mosaic: x and y, px; NaN where they do not lie in its plane.

    Raises
    ------
    ImageError, OSError
        It cannot be read, or has no WCS that solves.
    """
    image = _sky_of(paths, reading)
    x, y = _pixels(image, ra, dec)
    return x, image.shape[0] - 1 - y if is_fits(paths) else y


def sky_at(paths: tuple[str, ...], reading: Reading, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination (deg, ICRS) of pixels; NaN where the sky is not known.

    Raises
    ------
    ImageError, OSError
        The mosaic cannot be read.
    """
    image = _sky_of(paths, reading)
    if not hasattr(image, "coordinates"):
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    ra, dec = image.coordinates(x, image.shape[0] - 1 - y if is_fits(paths) else y)
    return np.asarray(ra), np.asarray(dec)


def _sky_of(paths: tuple[str, ...], reading: Reading) -> OpenImage:
    """The image that says where the sky is: the first band's."""
    if len(paths) > 1:
        paths, reading = paths[:1], replace(reading, bands=(), picks=())
    return open_image(Item(paths), reading)


def _pixels(image: Any, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not hasattr(image, "pixels"):
        raise ImageError("has no WCS: where its pixels lie on the sky is not known")
    x, y = image.pixels(ra, dec)
    return np.asarray(x), np.asarray(y)
