"""A synthetic mosaic with a WCS and the catalogue of what is in it, for tests and benchmarks; it is no data."""

import csv
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

ARCSEC_PER_PX = 0.2
#: Places keep this distance from the edge, px.
MARGIN = 64
_STRIP = 512
_REACH = 8  # px that a galaxy's light goes


def write_mosaic(folder: Path, side: int, n: int, *, seed: int = 0) -> tuple[Path, Path]:
    """Write ``mosaic.fits`` (float32, nJy), noise of 1 and `n` galaxies, strip by strip; and ``catalogue.csv`` of them.

    The catalogue has columns id, ra, dec, x, y (0-based pixels of the stored array).
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [side / 2, side / 2]
    wcs.wcs.cdelt = [-ARCSEC_PER_PX / 3600, ARCSEC_PER_PX / 3600]
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", side), ("NAXIS2", side)])
    header.update(wcs.to_header())
    header["BUNIT"] = "nJy"
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(MARGIN, side - MARGIN, (2, n))
    by_row = np.argsort(y)
    up, across = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]
    path = folder / "mosaic.fits"
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        over = np.zeros((2 * _REACH, side), np.float32)  # light that reaches into the next strip
        for first in range(0, side, _STRIP):
            light = np.zeros((_STRIP + 2 * _REACH, side), np.float32)
            light[: 2 * _REACH] = over
            start, stop = np.searchsorted(y[by_row], [first + _REACH, first + _STRIP + _REACH])
            for k in by_row[start:stop]:
                row, column = int(y[k]) - first, int(x[k])
                galaxy = 100 * np.exp(-np.hypot(across - x[k] % 1, up - y[k] % 1) / 2)
                box = np.s_[row - _REACH : row + _REACH + 1, column - _REACH : column + _REACH + 1]
                light[box] += galaxy.astype(np.float32)
            over = light[_STRIP:]
            values = light[:_STRIP] + rng.standard_normal((_STRIP, side), np.float32)
            file.write(values[: side - first].astype(">f4").tobytes())
        file.write(bytes(-file.tell() % 2880))
    ra, dec = wcs.all_pix2world(x, y, 0)
    catalogue = folder / "catalogue.csv"
    with catalogue.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "ra", "dec", "x", "y"])
        writer.writerows([f"g{i}", f"{ra[i]:.9f}", f"{dec[i]:.9f}", f"{x[i]:.4f}", f"{y[i]:.4f}"] for i in range(n))
    return path, catalogue
