"""Find galaxies in one large image with `sep` (SExtractor's method), in a child process: numpy, Pillow and sep only.

Source: Bertin & Arnouts 1996, A&AS 117, 393; Barbary 2016, JOSS 1, 58.
"""

from pathlib import Path

import numpy as np
import sep

from models.images import ImageError, decode, open_header

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
#: … and within its semi-major axis at least this many pixels are saturated (at or above `SATURATED`) in every band.
STAR_PIXELS = 5
SATURATED = 250

#: Name of each column of `detect`, and its unit. Positions are 0-based: the center of the first pixel is (0, 0).
COLUMNS = {
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


def detect(path: Path) -> dict[str, np.ndarray]:
    """Galaxies of an image, from top to bottom.

    The luminance (mean of the bands, range 0–1) less its background is searched. Sources cut off by the image's edge,
    smaller than `MIN_PIXELS` or `MIN_SEMI_MAJOR`, and saturated stars are left out.

    Returns
    -------
    dict
        `COLUMNS` → float64 (n,). flux: sum of the luminance above the background over the source's pixels; peak: its
        highest value; semi_major, semi_minor: second moments (1 sigma); position_angle: of the major axis, from x to y.

    Raises
    ------
    ImageError
        The image cannot be read, is constant, or has too many blended sources to tell apart.
    """
    with open_header(path) as header:
        image = decode(header, 3)
        if image.mode != "RGB":
            raise ImageError("is not an 8-bit image; cut-outs are made from 8-bit grey or color images")
        pixels = np.asarray(image)
    luminance = np.ascontiguousarray(pixels.mean(axis=2, dtype=np.float32) / np.float32(255))
    if luminance.min() == luminance.max():
        raise ImageError("is constant: there is nothing to find")
    height, width = luminance.shape
    mesh = max(8, min(MESH, height // 4, width // 4))
    try:
        background = sep.Background(luminance, bw=mesh, bh=mesh)
        above = luminance - background.back()
        noise = max(background.globalrms, 1 / 255 / 4)  # eight bits cannot hold less
        sources = sep.extract(
            above, THRESHOLD_SIGMA, err=noise, minarea=MIN_PIXELS, deblend_nthresh=32, deblend_cont=DEBLEND_CONTRAST
        )
    except Exception as error:  # sep raises its C errors as Exception
        raise ImageError(f"sources cannot be told apart ({error})") from None
    whole = (sources["flag"] & sep.OBJ_TRUNC) == 0
    sources = sources[whole & (sources["npix"] >= MIN_PIXELS) & (sources["a"] >= MIN_SEMI_MAJOR)]
    if len(sources) == 0:
        raise ImageError("no source stands out of the background")
    radius, _ = sep.flux_radius(above, sources["x"], sources["y"], 6 * sources["a"], 0.5, normflux=sources["flux"])
    saturated = (pixels.min(axis=2) >= SATURATED).astype(np.float32)
    n_saturated, _, _ = sep.sum_circle(saturated, sources["x"], sources["y"], sources["a"], subpix=1)
    is_star = (sources["b"] >= STAR_ROUNDNESS * sources["a"]) & (n_saturated >= STAR_PIXELS)
    values = {
        "x": sources["x"],
        "y": sources["y"],
        "flux": sources["flux"],
        "peak": sources["peak"],
        "n_pixels": sources["npix"],
        "semi_major": sources["a"],
        "semi_minor": sources["b"],
        "position_angle": np.degrees(sources["theta"]),
        "half_light_radius": radius,
    }
    order = np.lexsort((sources["x"], sources["y"]))
    order = order[~is_star[order]]
    return {name: np.asarray(values[name], np.float64)[order] for name in COLUMNS}
