"""Shapes of galaxies measured on pixels: asymmetry, number of peaks, ellipticity.

All take images as float (n, H, W), higher is brighter, in any unit; H and W at least 8. The sky is each image's median
in its outer frame, an eighth of the side wide, and its noise 1.4826 × the median absolute deviation there. An image
with nothing above the sky gives NaN, and no peaks.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

#: Pixels this many standard deviations of the noise above the sky belong to a source, and a peak is this much brighter.
SOURCE_SIGMA = 2.0
PEAK_SIGMA = 5.0
#: Share of the brightest peak that another one needs to be counted.
PEAK_SHARE = 0.2
#: Half-pixel steps around the middle in which the center of rotation is sought, along each axis.
CENTER_STEPS = 2

#: Neighbors within an image, never across two.
_WITHIN = np.pad(np.ones((1, 3, 3), bool), ((1, 1), (0, 0), (0, 0)))


class Shapes(NamedTuple):
    """What `shapes` measures; float32 (n,), `n_peaks` int32 (n,)."""

    asymmetry: np.ndarray
    n_peaks: np.ndarray
    ellipticity: np.ndarray


def shapes(images: np.ndarray) -> Shapes:
    """`asymmetry`, `n_peaks` and `ellipticity` of images."""
    return Shapes(asymmetry(images), n_peaks(images), ellipticity(images))


def sky(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and noise of the sky, each float32 (n, 1, 1), from the outer frame of images (n, H, W)."""
    n, height, width = images.shape
    frame = max(1, min(height, width) // 8)
    is_outer = np.ones((height, width), bool)
    is_outer[frame:-frame, frame:-frame] = False
    outer = np.asarray(images[:, is_outer], np.float32)
    level = np.median(outer, axis=1)
    noise = 1.4826 * np.median(np.abs(outer - level[:, None]), axis=1)
    return level.reshape(n, 1, 1), noise.reshape(n, 1, 1)


def asymmetry(images: np.ndarray) -> np.ndarray:
    """What is left of images when they are turned by 180° and subtracted from themselves, as a share of their light.

    A = min Σ|I − I₁₈₀| / Σ|I| − B, over centers of rotation up to 1 px from the middle; 0 for what is symmetric, up to
    2 for what has nothing on its other side. B is what noise alone gives: the mean absolute difference of two draws
    from a normal distribution is 2σ/√π, for every pixel.

    Returns
    -------
    numpy.ndarray
        float32 (n,).

    References
    ----------
    Conselice, Bershady & Jangren 2000, ApJ 529, 886; in the normalisation of Conselice 2003, ApJS 147, 1, section 3.3.
    """
    level, noise = sky(images)
    light = np.asarray(images, np.float32) - level
    n, height, width = light.shape
    margin = -(-CENTER_STEPS // 2)
    inner = light[:, margin : height - margin, margin : width - margin]
    total = np.abs(inner).sum(axis=(1, 2))
    least = np.full(n, np.inf, np.float32)
    rows, columns = np.arange(margin, height - margin), np.arange(margin, width - margin)
    for down in range(-CENTER_STEPS, CENTER_STEPS + 1):
        # the center lies down / 2 px below the middle of the image, and right / 2 beside it
        turned_rows = np.clip(height - 1 + down - rows, 0, height - 1)
        for right in range(-CENTER_STEPS, CENTER_STEPS + 1):
            turned_columns = np.clip(width - 1 + right - columns, 0, width - 1)
            turned = light[:, turned_rows][:, :, turned_columns]
            np.minimum(least, np.abs(inner - turned).sum(axis=(1, 2)), out=least)
    of_noise = 2 / np.sqrt(np.pi) * noise[:, 0, 0] * inner[0].size
    share = np.divide(least - of_noise, total, out=np.full(n, np.nan, np.float32), where=total > 0)
    return np.asarray(np.maximum(share, 0), np.float32)


def n_peaks(images: np.ndarray) -> np.ndarray:
    """Local maxima of images, int32 (n,): brighter than all within 2 px, than the noise, and a fifth of the brightest.

    The images are smoothed with (1, 2, 1)/4 along both axes before. Equal pixels of a peak that touch are one.
    """
    level, noise = sky(images)
    light = np.asarray(images, np.float32) - level
    for axis in (1, 2):
        light = ndimage.convolve1d(light, np.array([0.25, 0.5, 0.25], np.float32), axis=axis, mode="nearest")
    brightest = light.max(axis=(1, 2), keepdims=True)
    threshold = np.maximum(PEAK_SIGMA * noise, PEAK_SHARE * brightest)
    is_peak = (light == ndimage.maximum_filter(light, size=(1, 5, 5), mode="nearest")) & (light > threshold)
    labels, _ = ndimage.label(is_peak, structure=_WITHIN)
    image = np.nonzero(is_peak)[0]
    first = np.unique(labels[is_peak], return_index=True)[1]  # a pixel of each
    counts: np.ndarray = np.bincount(image[first], minlength=len(light)).astype(np.int32)
    return counts


def ellipticity(images: np.ndarray) -> np.ndarray:
    """1 − b/a of the source in the middle of images, from the second moments of its light; 0 is round, 1 a line.

    The source: pixels brighter than 2σ of the noise and 5 % of the brightest in the central quarter, connected with
    that one.

    Returns
    -------
    numpy.ndarray
        float32 (n,); NaN where the source has fewer than 5 px.

    References
    ----------
    Bertin & Arnouts 1996, A&AS 117, 393 (SExtractor's ELLIPTICITY).
    """
    level, noise = sky(images)
    light = np.asarray(images, np.float32) - level
    n, height, width = light.shape
    top, left = height // 4, width // 4
    central = light[:, top : height - top, left : width - left].reshape(n, -1)
    brightest = central.max(axis=1)
    place = central.argmax(axis=1)
    wide = width - 2 * left
    y0, x0 = place // wide + top, place % wide + left
    is_bright = light > np.maximum(SOURCE_SIGMA * noise, 0.05 * brightest[:, None, None])
    labels, _ = ndimage.label(is_bright, structure=_WITHIN)
    own = labels[np.arange(n), y0, x0]
    weight = np.where((labels == own[:, None, None]) & (own > 0)[:, None, None], light, np.float32(0)).astype(
        np.float64
    )
    n_pixels = (weight > 0).sum(axis=(1, 2))
    total = weight.sum(axis=(1, 2))
    is_measured = n_pixels >= 5
    total = np.where(is_measured, total, 1)
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    cy, cx = (weight * y).sum(axis=(1, 2)) / total, (weight * x).sum(axis=(1, 2)) / total
    dy, dx = y - cy[:, None, None], x - cx[:, None, None]
    yy, xx, xy = (((weight * product).sum(axis=(1, 2)) / total) for product in (dy * dy, dx * dx, dx * dy))
    spread = np.hypot((xx - yy) / 2, xy)
    major, minor = (xx + yy) / 2 + spread, np.maximum((xx + yy) / 2 - spread, 0)
    ratio = np.sqrt(np.divide(minor, major, out=np.ones(n), where=major > 0))
    return np.where(is_measured, 1 - ratio, np.nan).astype(np.float32)
