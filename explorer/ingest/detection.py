"""Find galaxies in one large image with `sep` (SExtractor's method), in a child process.

Source: Bertin & Arnouts 1996, A&AS 117, 393; Barbary 2016, JOSS 1, 58.
"""

import numpy as np
import sep

from explorer.ingest.decoder import Item, OpenImage, Reading, is_fits, open_image
from explorer.ingest.mosaics import sky_at
from models.images import MAX_PIXELS, ImageError

#: Side of the mesh on which background and noise are estimated, px.
MESH = 64
#: A source's pixels stand this many times the noise above the background, after smoothing …
THRESHOLD_SIGMA = 3.0
#: … and are at least this many, connected.
MIN_PIXELS = 30
#: Overlapping sources are separated where the fainter has this share of the light (SExtractor's DEBLEND_MINCONT).
DEBLEND_CONTRAST = 0.005
#: Galaxies are at least this long (semi-major axis, px): smaller ones are noise and hot pixels.
MIN_SEMI_MAJOR = 1.0
#: A star is round (semi-minor over semi-major at least this) …
STAR_ROUNDNESS = 0.85
#: … and within its semi-major axis at least this many pixels are saturated in every band: in pictures at or above
#: `SATURATED` of 255, in FITS at or above the level that the file says (SATURATE).
STAR_PIXELS = 5
SATURATED = 250

#: Name of each column of `detect`, and its unit. Positions: see `explorer.ingest.mosaics`.
COLUMNS = {
    "ra": "deg",
    "dec": "deg",
    "x": "px",
    "y": "px",
    "flux": "",
    "peak": "",
    "n_pixels": "px",
    "semi_major": "px",
    "semi_minor": "px",
    "position_angle": "deg",
    "half_light_radius": "px",
}


def detect(paths: tuple[str, ...], reading: Reading) -> dict[str, np.ndarray]:
    """Galaxies of an image, from top to bottom.

    The *light* less its background is searched: of a picture the mean of the bands (range 0–1), of measurements the
    one band there is, or the mean of the bands, each less its background and in units of its noise. Missing values are
    masked. Sources cut off by the image's edge, smaller than `MIN_PIXELS` or `MIN_SEMI_MAJOR`, and saturated stars are
    left out.

    Parameters
    ----------
    paths
        The image's file, or one per band.

    Returns
    -------
    dict
        `COLUMNS` → float64 (n,). ra, dec: NaN where the file has no WCS that solves; flux: sum of the light above the
        background over the source's pixels; peak: its highest value; semi_major, semi_minor: second moments (1 sigma);
        position_angle: of the major axis, from x to y.

    Raises
    ------
    ImageError
        The image cannot be read, is constant or too large, or has too many blended sources to tell apart.
    """
    image = open_image(Item(paths), reading)
    height, width, n_bands = image.shape
    if height * width * n_bands > MAX_PIXELS:
        raise ImageError(
            f"has {height * width * n_bands:,} values; sources are found in at most {MAX_PIXELS:,}: say where they are "
            "with --catalogue"
        )
    values = image.read(0, 0, height, width)
    is_missing = np.isnan(values).all(axis=2)
    if is_missing.all():
        raise ImageError("is missing (NaN) all over: there is nothing to find")
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    if lowest == highest:
        raise ImageError("is constant: there is nothing to find")
    mesh = max(8, min(MESH, height // 4, width // 4))
    try:
        light, least_noise = _light(image, values, mesh)
        background = sep.Background(light, mask=is_missing, bw=mesh, bh=mesh)
        above = light - background.back()
        above[is_missing] = 0
        noise = max(background.globalrms, least_noise)
        sep.set_extract_pixstack(max(300_000, light.size // 4))
        sources = sep.extract(
            above,
            THRESHOLD_SIGMA,
            err=noise,
            mask=is_missing,
            minarea=MIN_PIXELS,
            deblend_nthresh=32,
            deblend_cont=DEBLEND_CONTRAST,
        )
    except Exception as error:  # sep raises its C errors as Exception
        raise ImageError(f"sources cannot be told apart ({error})") from None
    whole = (sources["flag"] & sep.OBJ_TRUNC) == 0
    sources = sources[whole & (sources["npix"] >= MIN_PIXELS) & (sources["a"] >= MIN_SEMI_MAJOR)]
    if len(sources) == 0:
        raise ImageError("no source stands out of the background")
    radius, _ = sep.flux_radius(above, sources["x"], sources["y"], 6 * sources["a"], 0.5, normflux=sources["flux"])
    order = np.lexsort((sources["x"], sources["y"]))
    order = order[~_is_star(image, values, sources)[order]]
    sources, radius = sources[order], radius[order]
    y, angle = sources["y"], np.degrees(sources["theta"])
    if is_fits(paths):
        y, angle = height - 1 - y, -angle
    ra, dec = sky_at(paths, reading, sources["x"], y)
    found = {
        "ra": ra,
        "dec": dec,
        "x": sources["x"],
        "y": y,
        "flux": sources["flux"],
        "peak": sources["peak"],
        "n_pixels": sources["npix"],
        "semi_major": sources["a"],
        "semi_minor": sources["b"],
        "position_angle": angle,
        "half_light_radius": radius,
    }
    return {name: np.asarray(found[name], np.float64) for name in COLUMNS}


def _light(image: OpenImage, values: np.ndarray, mesh: int) -> tuple[np.ndarray, float]:
    """What is searched for sources, float32 (H, W), missing values 0; and the least noise that it can have."""
    if image.top is not None:
        light = values.mean(axis=2, dtype=np.float32) / np.float32(image.top)
        least = 1 / image.top / 4 if image.top > 1 else 0.0  # whole numbers cannot hold less
        return np.ascontiguousarray(np.nan_to_num(light)), least
    n_bands = values.shape[2]
    if n_bands == 1:
        scaled = values
    else:
        scaled = np.empty_like(values)
        for k in range(n_bands):
            band = np.ascontiguousarray(values[:, :, k])
            background = sep.Background(np.nan_to_num(band), mask=np.isnan(band), bw=mesh, bh=mesh)
            scaled[:, :, k] = (band - background.back()) / (background.globalrms or 1.0)
    is_there = np.isfinite(scaled)
    light = np.where(is_there, scaled, 0).sum(axis=2) / np.maximum(is_there.sum(axis=2), 1)
    return np.ascontiguousarray(light, np.float32), float(np.ptp(light)) / 2**20


def _is_star(image: OpenImage, values: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Which sources are saturated and round, bool (n,)."""
    level = image.saturated if image.top is None else SATURATED / 255 * image.top
    if level is None:
        return np.zeros(len(sources), bool)
    saturated = (values >= level).all(axis=2).astype(np.float32)
    n_saturated, _, _ = sep.sum_circle(saturated, sources["x"], sources["y"], sources["a"], subpix=1)
    return np.asarray((sources["b"] >= STAR_ROUNDNESS * sources["a"]) & (n_saturated >= STAR_PIXELS))
