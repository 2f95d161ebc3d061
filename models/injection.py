"""Sources planted into copies of real images, so that what a search recovers of them can be counted.

A source is light of total flux 1, drawn by GalSim (Rowe et al. 2015) through a PSF and the pixel; times a flux per band
it is added to the image's values, whatever their unit. Its size is one number in px, which means:

======  ======================================================================  ==========================
kind    light                                                                   size
======  ======================================================================  ==========================
arc     a quarter of a ring, fading at its ends, tangential to the center       radius, as of a lens
ring    a whole ring                                                            radius
tail    exponential profile, axis ratio 1 : 4, pointing away from the center    distance of its middle
double  a second nucleus: Sérsic profile, n = 2, half its light in size / 4     distance from the center
trail   a straight line through the center, as thin as the PSF                  length
======  ======================================================================  ==========================

Rings and arcs are Gaussian across, a quarter of the radius wide (FWHM); half of a tail's light is within size / 2 of
its middle, along it. GalSim is an optional extra: ``pip install 'voorwerp[simulate]'``.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Kind = Literal["arc", "ring", "tail", "double", "trail"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Of the Moffat profile of the PSF, as turbulence gives it (Trujillo et al. 2001, MNRAS 328, 977).
MOFFAT_BETA = 4.765
#: Width across of rings and arcs, FWHM in radii; σ of an arc along it, radians.
RING_WIDTH, ARC_SIGMA = 0.25, 0.4
#: A ring's template has so many pixels to the σ of its width.
_PER_SIGMA = 4


class InjectionError(ValueError):
    """A source that cannot be planted; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is planted.

    Attributes
    ----------
    size
        px; see the module's table.
    psf
        FWHM of the PSF, px.
    angle
        Where it is, or lies along: radians from the x axis (to the right) towards y (down on the screen).
    """

    kind: Kind
    size: float
    psf: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InjectionError(f'there is no kind "{self.kind}"; there are {", ".join(KINDS)}')
        for name, value in (("size", self.size), ("PSF", self.psf)):
            if not 0 < value < math.inf:
                raise InjectionError(f"a {name} of {value:g} px is not possible; it is above 0")
        if not math.isfinite(self.angle):
            raise InjectionError("an angle is a finite number of radians")


def _galsim() -> Any:
    try:
        import galsim
    except ImportError:
        raise InjectionError("planting sources needs GalSim; pip install 'voorwerp[simulate]' brings it") from None
    return galsim


def drawn(form: Form, shape: tuple[int, int], center: tuple[float, float]) -> np.ndarray:
    """How the light of a source falls on the pixels of an image.

    Parameters
    ----------
    shape
        Rows and columns.
    center
        x, y of the host's center, px; the center of the first pixel is (0, 0).

    Returns
    -------
    np.ndarray
        float64 (H, W): shares of the source's flux, not below 0. They add up to 1, less what falls outside of the
        image (and, below 1 %, in the far wings of the PSF).

    Raises
    ------
    InjectionError
        GalSim is not installed, or the source is too large to be drawn.
    """
    galsim = _galsim()
    height, width = shape
    seen = galsim.Convolve([_profile(galsim, form), galsim.Moffat(beta=MOFFAT_BETA, fwhm=form.psf)])
    offset = galsim.PositionD(center[0] - (width - 1) / 2, center[1] - (height - 1) / 2)
    stamp = galsim.Image(width, height, scale=1.0, dtype=np.float64)
    too_large = getattr(galsim, "GalSimFFTSizeWarning", galsim.GalSimWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", too_large)  # older ones raise it
            seen.drawImage(image=stamp, scale=1.0, offset=offset)
    except (galsim.GalSimError, too_large, MemoryError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise InjectionError(f"a {form.kind} of {form.size:g} px cannot be drawn ({first})") from None
    return np.clip(np.array(stamp.array, np.float64), 0, None)  # transforms leave traces below 0


def _profile(galsim: Any, form: Form) -> Any:
    """The source before PSF and pixel: flux 1, px."""
    size, angle = form.size, form.angle * galsim.radians
    away = (size * math.cos(form.angle), size * math.sin(form.angle))
    if form.kind == "trail":
        return galsim.Box(size, 0.05 * form.psf).rotate(angle)
    if form.kind == "double":
        return galsim.Sersic(n=2, half_light_radius=size / 4).shift(*away)
    if form.kind == "tail":
        ratio = 0.25
        # shear keeps the area: the half-light radius along the tail is size / 2
        round_ = galsim.Exponential(half_light_radius=size / 2 * math.sqrt(ratio))
        return round_.shear(q=ratio, beta=angle).shift(*away)
    sigma = RING_WIDTH * size / 2.3548
    step = sigma / _PER_SIGMA
    half = math.ceil((size + 5 * sigma) / step)
    y, x = np.mgrid[-half : half + 1, -half : half + 1] * step
    light = np.exp(-0.5 * ((np.hypot(x, y) - size) / sigma) ** 2)
    if form.kind == "arc":
        light *= np.exp(-0.5 * (np.arctan2(y, x) / ARC_SIGMA) ** 2)  # around the x axis, then turned
    image = galsim.Image(np.ascontiguousarray(light), scale=step)
    return galsim.InterpolatedImage(image, flux=1.0, normalization="flux").rotate(angle)


def add(
    image: np.ndarray,
    light: np.ndarray,
    flux: Sequence[float] | np.ndarray,
    rng: np.random.Generator,
    gain: float | None = None,
) -> np.ndarray:
    """An image with a source in it.

    Parameters
    ----------
    image
        float (H, W, bands), NaN where missing, where it stays so.
    light
        (H, W), as `drawn` gives it.
    flux
        Of the whole source, one per band, in the image's unit (a sum over pixels).
    gain
        Electrons per unit: the source then has the Poisson noise of its own photons. None: it has none.

    Returns
    -------
    np.ndarray
        float32 (H, W, bands).

    Raises
    ------
    InjectionError
        As many fluxes as bands are needed, none below 0; a gain is above 0.
    """
    fluxes = np.asarray(flux, np.float64)
    if fluxes.shape != image.shape[2:] or not (np.isfinite(fluxes).all() and (fluxes >= 0).all()):
        raise InjectionError(f"a flux is needed for each of {image.shape[2]} bands, none below 0")
    added = light[:, :, None] * fluxes
    if gain is not None:
        if not 0 < gain < math.inf:
            raise InjectionError(f"a gain of {gain:g} is not possible; it is above 0")
        added = rng.poisson(added * gain) / gain
    return (image.astype(np.float64) + added).astype(np.float32)


def planted(
    image: np.ndarray,
    kind: Kind,
    flux: Sequence[float] | np.ndarray,
    size: float,
    psf: float,
    rng: np.random.Generator,
    *,
    angle: float | None = None,
    center: tuple[float, float] | None = None,
    gain: float | None = None,
) -> np.ndarray:
    """An image with a source of a kind in it: `drawn` and `add` in one.

    Parameters
    ----------
    angle
        See `Form`; None draws one from `rng`.
    center
        Of the host, px; None takes the image's.
    """
    height, width, _ = image.shape
    turn = float(rng.uniform(0, 2 * math.pi)) if angle is None else angle
    at = ((width - 1) / 2, (height - 1) / 2) if center is None else center
    return add(image, drawn(Form(kind, size, psf, turn), (height, width), at), flux, rng, gain)


def stored(
    values: np.ndarray, top: float | None, rng: np.random.Generator, saturated: float | None = None
) -> np.ndarray:
    """Values as a file of the image's type holds them, float32.

    Of 8 and 16 bits they are whole and within the range. Each is rounded up with the probability of its fraction: what
    is fainter than one step would else be lost without a trace, as it is not in an image with noise. Where a detector
    saturates, values end.

    Parameters
    ----------
    top, saturated
        See `models.images.Linear`.
    """
    if saturated is not None:
        values = np.minimum(values, np.float32(saturated))
    if top is None:
        return values.astype(np.float32)
    if top > 1:
        values = np.floor(values.astype(np.float64) + rng.random(values.shape))
    return np.asarray(np.clip(values, 0, top), np.float32)


def host_flux(values: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Flux of what is in a box above the image's background, per band, float64 (bands,).

    The background is the median of the image's outer frame, an eighth of its sides wide. Missing values count nothing.

    Parameters
    ----------
    values
        float (H, W, bands).
    box
        left, top, right, bottom, within the image.
    """
    height, width, _ = values.shape
    frame = np.ones((height, width), bool)
    down, right = max(1, height // 8), max(1, width // 8)
    frame[down : height - down, right : width - right] = False
    background = np.nanmedian(values[frame].astype(np.float64), axis=0)
    part = values[box[1] : box[3], box[0] : box[2]].astype(np.float64)
    return np.asarray(np.nansum(part - background, axis=(0, 1)))
