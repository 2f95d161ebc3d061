"""Decode, crop, resample, stretch: from image to network's input. The only place that states units and range.

Pictures have a *range* fixed by the file's type, never by its content, so that two images stay comparable:

==================  ===========================  =================================================
file                values                       value range 0–1 stands for
==================  ===========================  =================================================
8-bit grey, RGB     0 … 255                      0 … 255
16-bit grey         0 … 65,535                   0 … 65,535 (the full range, whatever was used)
16-bit RGB          TIFF only; PNG is refused    0 … 65,535
32-bit integer      refused outside 0 … 65,535   0 … 65,535
32-bit float        refused outside 0 … 1        0 … 1, NaN and infinite values are missing
==================  ===========================  =================================================

Palettes are looked up; transparent pixels are laid over black. A network's crop is uint8 (size, size, bands), where 255
stands for the top of the range. Pixel (0, 0) is the upper left as stored; orientation tags are not applied.

Measurements (FITS, npy, HDF5, Zarr; pictures too, where it is asked for) are *linear*: physical values as float32, NaN
where missing (`Linear`). They are averaged first; then the survey's one `Stretch` turns them into 0–1.
"""

import hashlib
import io
import math
import stat
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from PIL import Image, UnidentifiedImageError

#: An image whose header promises more pixels is refused before memory is asked for.
MAX_PIXELS = 89_478_485
#: Larger files are refused unread.
MAX_FILE_BYTES = 1 << 30
THUMBNAIL_SIDE = 128
FORMATS = ("JPEG", "PNG", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
QUALITY_COLUMNS = ("edge_fraction", "saturated_fraction", "nan_fraction", "background_rms")
PLACE_COLUMNS = ("ra", "dec", "pixel_scale_arcsec", "crop_left", "crop_top", "crop_side")
#: Side of what is kept for people to look at, in extents of the network's crop …
CONTEXT = 3
#: … and at most this many px, where that is still all of the crop.
MAX_CONTEXT_PX = 1024
MAX_BANDS = 5
#: Where a percentile stretch begins and ends, unless it is told.
PERCENTILES = (0.5, 99.5)
LUPTON_Q = 8.0

_BITS_PER_SAMPLE = 258
_MEDIA_TYPES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"II", "image/tiff"),
    (b"MM", "image/tiff"),
    (b"\x1f\x8b", "application/gzip"),  # a linear original: FITS, compressed
)


class ImageError(ValueError):
    """An image that cannot become a subject. The message is the plain reason, without the file's name."""


class UnknownFormatError(ImageError):
    """Not a PNG, JPEG or TIFF image that Pillow reads, or not without loss."""


@dataclass(frozen=True, slots=True)
class Crop:
    """How the network's input is cut from an image.

    Attributes
    ----------
    size
        Side of the result, px.
    mode
        "center": `extent` px around the center, area-averaged to `size`. "resize": the whole image, area-averaged to
        `size` (an image that is not square is squeezed).
    extent
        Side of the square cut, source px; None cuts `size` px, which leaves the pixels as they are.
    n_bands
        1 to `MAX_BANDS`; pictures have 1 (grey) or 3 (red, green, blue).
    """

    size: int
    mode: Literal["center", "resize"] = "center"
    extent: int | None = None
    n_bands: int = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the survey keeps of one image beside its bytes.

    Attributes
    ----------
    crop
        The network's input, uint8 (size, size, bands).
    quality
        `QUALITY_COLUMNS`, in that order; all of the crop, not of the whole image.

        edge_fraction: share of the crop's area that lies outside the image, 0–1.
        saturated_fraction: share of the crop's values (pixels × bands) at the top of the range, before averaging, 0–1;
        of linear values: at or above the level at which the file says that they saturate (FITS: SATURATE), else at the
        top of the file type's range, else of what the stretch shows as white.
        nan_fraction: share of the crop's values that are missing (NaN or infinite), before averaging, 0–1.
        background_rms: 1.4826 × median absolute deviation of the band mean in the outer frame (one eighth of the size
        wide) of the averaged and stretched crop, in the value range 0–1: robust noise where the sky should be.
    thumbnail
        JPEG of the original that is kept, longest side at most `THUMBNAIL_SIDE` px.
    digest
        16 bytes; equal when the crops' pixels are equal.
    place
        `PLACE_COLUMNS`, NaN where unknown. ra, dec: deg, of the kept original's center; pixel_scale_arcsec: of the kept
        original; crop_left, crop_top, crop_side: the network's square in px of the kept original, may leave it (a NaN
        side: the whole image).
    """

    crop: np.ndarray
    quality: tuple[float, float, float, float]
    thumbnail: bytes
    digest: bytes
    place: tuple[float, float, float, float, float, float] = (math.nan,) * 6


@dataclass(slots=True)
class Linear:
    """A decoded image of physical values.

    Attributes
    ----------
    values
        float32 (H, W, bands), native byte order, NaN where missing. Row 0 is the top row on screen: FITS is flipped
        (its first row is at the bottom); npy, HDF5, Zarr and TIFF are not.
    top
        Top of the file type's range (255, 65535, 1.0); None for physical values.
    pixel_scale
        arcsec per px.
    ra, dec
        deg (ICRS), of the center.
    unit
        Of the values, as the file spells it.
    cd
        The sky around the center: deg east per px to the right and up, then deg north per px to the right and up (the
        FITS matrix CD1_1, CD1_2, CD2_1, CD2_2).
    saturated
        Value from which on the detector was saturated.
    """

    values: np.ndarray
    top: float | None = None
    pixel_scale: float | None = None
    ra: float | None = None
    dec: float | None = None
    unit: str | None = None
    cd: tuple[float, float, float, float] | None = None
    saturated: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """How values become 0–1, for the whole survey.

    Attributes
    ----------
    mode
        "range": the file type's own range, as tabled above. "linear": from `low` to `high`. "percentile": the same,
        where low and high are percentiles of a sample of the survey. "lupton": asinh of the bands' mean, which keeps
        colors; Lupton et al. 2004, PASP 116, 133, equal to `astropy.visualization.make_lupton_rgb` for three bands.
    low, high
        Per band, the values shown as 0 and as 1; one value stands for all bands. Empty: not derived yet.
    percentiles
        Where low and high of "percentile" come from, 0–100.
    per_image
        Percentiles of each image by itself: images can then no longer be compared.
    q, stretch, minimum
        Of "lupton": softening, the scale on which it is linear, and the value shown as 0; the latter two in the
        values' unit.

    Raises
    ------
    ValueError
        Values that are not possible together.
    """

    mode: Literal["range", "linear", "percentile", "lupton"] = "range"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    percentiles: tuple[float, float] | None = None
    per_image: bool = False
    q: float | None = None
    stretch: float | None = None
    minimum: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("range", "linear", "percentile", "lupton"):
            raise ValueError(f'there is no stretch "{self.mode}"; there are range, linear, percentile, lupton')
        numbers = [*self.low, *self.high, *(self.percentiles or ()), self.q, self.stretch, self.minimum]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers if n is not None):
            raise ValueError("a stretch is given by finite numbers")
        if len(self.low) != len(self.high) or any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError("a stretch needs a low and a higher high value for each band")
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles go from 0 to 100, the lower one first")
        if (self.q is not None and self.q <= 0) or (self.stretch is not None and self.stretch <= 0):
            raise ValueError("Q and stretch of a Lupton stretch are above 0")

    @property
    def is_derived(self) -> bool:
        """Whether everything is known that `apply` needs."""
        if self.mode in ("linear", "percentile"):
            return bool(self.low) or self.per_image
        return self.mode == "range" or None not in (self.q, self.stretch, self.minimum)

    def derived(self, sample: np.ndarray) -> Self:
        """This stretch with what it does not say yet, from a sample of the survey's pixels.

        linear: from the lowest to the highest value, per band. percentile: `percentiles` (default `PERCENTILES`), per
        band. lupton: Q is `LUPTON_Q`; with the median m of the bands' mean and its noise s (1.4826 × median absolute
        deviation), minimum is m − 2 s and stretch is 20 s: noise stays dark and a peak of 1,000 s does not reach white.

        Parameters
        ----------
        sample
            float (n, bands), NaN where missing.
        """
        if self.is_derived or self.mode == "range":
            return self
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a band without a value
            if self.mode == "lupton":
                mean = sample.mean(axis=1)
                mean = mean[np.isfinite(mean)]
                median = float(np.median(mean)) if mean.size else 0.0
                noise = 1.4826 * float(np.median(np.abs(mean - median))) if mean.size else 0.0
                noise = noise or (float(np.ptp(mean)) / 1000 if mean.size else 0.0) or 1.0
                minimum = median - 2 * noise if self.minimum is None else self.minimum
                return replace(self, q=self.q or LUPTON_Q, stretch=self.stretch or 20 * noise, minimum=minimum)
            percentiles = (0.0, 100.0) if self.mode == "linear" else (self.percentiles or PERCENTILES)
            low, high = np.nan_to_num(
                np.nanpercentile(np.where(np.isfinite(sample), sample, np.nan), percentiles, axis=0)
            )
        high = np.where(high > low, high, low + np.maximum(1, np.abs(low)))  # a constant or an empty band
        told = percentiles if self.mode == "percentile" else None
        return replace(self, low=_floats(low), high=_floats(high), percentiles=told)

    def fixed(self, values: np.ndarray) -> Self:
        """This stretch; where it is per image, the one of these values, (h, w, bands)."""
        if not self.per_image or self.low:
            return self
        return replace(replace(self, per_image=False).derived(values.reshape(-1, values.shape[-1])), per_image=True)

    def apply(self, values: np.ndarray, top: float | None = None) -> np.ndarray:
        """Values as they are shown.

        Parameters
        ----------
        values
            float (h, w, bands).
        top
            Top of the file type's range: `Linear.top`. Only "range" needs it; None stands for 1.

        Returns
        -------
        np.ndarray
            float32 (h, w, bands), 0–1, NaN where a value is missing.
        """
        if not self.is_derived:
            raise ValueError("the stretch has not been derived from the survey's values yet")
        values = values.astype(np.float32)
        if self.mode == "range":
            values /= np.float32(top or 1.0)
        elif self.mode == "lupton":
            return self._lupton(values)
        else:
            limits = self.fixed(values)
            low, high = np.array(limits.low), np.array(limits.high)
            values -= low.astype(np.float32)
            values /= (high - low).astype(np.float32)
        return np.clip(values, 0, 1, out=values)

    def _lupton(self, values: np.ndarray) -> np.ndarray:
        assert self.q is not None and self.stretch is not None and self.minimum is not None
        planes = np.ascontiguousarray(values.transpose(2, 0, 1)) - np.float32(self.minimum)  # sums over bands are fast
        present = np.isfinite(planes)
        known = np.where(present, planes, np.float32(0))
        slope = 0.1 / math.asinh(0.1 * self.q)
        with np.errstate(invalid="ignore", divide="ignore"):
            intensity = known.sum(axis=0) / present.sum(axis=0, dtype=np.float32)  # of the bands that are there
            factor = slope * np.arcsinh(intensity * np.float32(self.q / self.stretch)) / intensity
        known *= np.where(intensity > 0, factor, np.float32(0))
        np.clip(known, 0, None, out=known)
        known /= np.maximum(known.max(axis=0), 1)
        known[~present] = np.nan
        return np.ascontiguousarray(known.transpose(1, 2, 0), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """What applies, for JSON and TOML."""
        told: dict[str, Any] = {"mode": self.mode}
        for name in ("low", "high", "percentiles"):
            if getattr(self, name):
                told[name] = list(getattr(self, name))
        if self.per_image:
            told["per_image"] = True
        return told | {k: getattr(self, k) for k in ("q", "stretch", "minimum") if getattr(self, k) is not None}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Back from `to_dict`.

        Raises
        ------
        ValueError
            Unknown keys, or values that are not possible.
        """
        unknown = sorted(told.keys() - set(cls.__slots__))
        if unknown:
            raise ValueError(f'a stretch has no "{unknown[0]}"; it has {", ".join(cls.__slots__)}')
        lists = {k: tuple(told[k]) for k in ("low", "high", "percentiles") if told.get(k)}
        return cls(**{**told, **lists})


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def rgb_of(bands: Sequence[str]) -> tuple[int, int, int]:
    """Which bands are shown as red, green and blue, unless a person says otherwise: places in `bands`.

    r, g, b where they are there; i, r, g where they are; else the last, the middle and the first.
    """
    names = [band.lower() for band in bands]
    for wanted in (("r", "g", "b"), ("i", "r", "g")):
        if set(wanted) <= set(names):
            red, green, blue = (names.index(name) for name in wanted)
            return red, green, blue
    return len(names) - 1, (len(names) - 1) // 2, 0


# -------------------------------------------------------------------------------------------------------- decode
def media_type(content: bytes) -> str:
    """The media type of an image file's bytes: ``image/jpeg``, ``image/png``, ``image/tiff``, ``application/gzip``."""
    return next((name for magic, name in _MEDIA_TYPES if content.startswith(magic)), "application/octet-stream")


def open_header(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image's header only: size and mode are known, no memory for pixels is taken.

    Raises
    ------
    ImageError
        Empty, not a PNG, JPEG or TIFF image, or more than `max_pixels`.
    OSError
        The file cannot be read.
    """
    if isinstance(source, bytes):
        if not source:
            raise ImageError("the file is empty")
    else:
        file_size(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no concern; size is checked below, exactly
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"the header promises far more than the {max_pixels:,} pixels that are read") from None
    except UnidentifiedImageError:
        raise UnknownFormatError("is not a PNG, JPEG or TIFF image") from None
    except MemoryError:
        raise
    except Exception as error:  # the format readers raise anything on a broken header
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the image's
        raise ImageError(f"the header cannot be read ({_plain(error)})") from None
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if is_color(image) and np.max(tags.get(_BITS_PER_SAMPLE, 8)) > 8:
        image.close()
        raise UnknownFormatError("holds more than 8 bits a color, of which Pillow keeps 8")
    if image.format == "PNG" and image.mode != "I;16" and any(";16" in str(tile[3]) for tile in image.tile):
        image.close()
        raise ImageError("is a PNG of 16 bits a color, of which only 8 would be read; save it as 16-bit TIFF or FITS")
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise ImageError(f"the header promises {width:,} × {height:,} pixels; at most {max_pixels:,} are read")
    return image


def file_size(path: Path) -> int:
    """Bytes of an image file.

    Raises
    ------
    ImageError
        No such file, not a regular file (a pipe or a device would block for ever), empty, or above `MAX_FILE_BYTES`.
    OSError
        The file cannot be looked at.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("there is no such file") from None
    except ValueError:
        raise ImageError("the path has a zero character in it") from None
    if not stat.S_ISREG(found.st_mode):
        raise ImageError("is not a regular file")
    if found.st_size == 0:
        raise ImageError("the file is empty")
    if found.st_size > MAX_FILE_BYTES:
        raise ImageError(f"the file has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
    return found.st_size


def is_color(image: Image.Image) -> bool:
    """Whether the header says more than one band (a palette counts as color)."""
    return image.mode not in ("1", "L", "LA", "La", "I", "F") and not image.mode.startswith("I;")


def decode(image: Image.Image, n_bands: int) -> Image.Image:
    """Decode pixels into mode L or RGB (8-bit), or, where one band is asked, I;16 or F as they are.

    Raises
    ------
    ImageError
        Truncated or broken data, a color image where one band is asked, or values outside the documented range.
    """
    if n_bands == 1 and is_color(image):
        raise ImageError("is a color image in a survey of grey images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") and image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.new("RGB", rgba.size)
                image.paste(rgba, mask=rgba.getchannel("A"))
            if image.mode in ("1", "LA", "La"):
                image = image.convert("L")
            if image.mode == "I" or image.mode.startswith("I;"):
                return image
            if image.mode == "F":
                return image
            wanted = "L" if n_bands == 1 else "RGB"
            return image if image.mode == wanted else image.convert(wanted)
    except MemoryError:
        raise ImageError("needs more memory to decode than one image may take") from None
    except Exception as error:  # the format readers raise anything on broken data
        raise ImageError(f"cannot be decoded ({_plain(error)})") from None


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _pixels(image: Image.Image, box: tuple[int, int, int, int]) -> tuple[np.ndarray, float]:
    """The box's values (h, w, bands) and the value that stands for the top of the range."""
    region = image if box == (0, 0, *image.size) else image.crop(box)
    pixels = np.asarray(region)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.dtype == np.uint8:
        return pixels, 255.0
    if image.mode == "F":
        finite = pixels[np.isfinite(pixels)]
        if finite.size and (finite.min() < 0 or finite.max() > 1):
            raise ImageError(f"float values from {finite.min():g} to {finite.max():g}; only 0 to 1 is read")
        return pixels, 1.0
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ImageError(f"integer values from {pixels.min()} to {pixels.max()}; only 0 to 65535 is read")
    return pixels, 65535.0


# ------------------------------------------------------------------------------------------------- area averaging
_BLOCK = 8  # output pixels a matrix product makes at once: small, because the weights are a narrow band


@lru_cache(maxsize=64)
def _blocks(source: int, target: int, n_bands: int) -> tuple[tuple[int, int, int, int, np.ndarray], ...]:
    """Weights of the area average along one axis, as dense blocks: (start, stop, first, last, weights).

    Output values [start, stop) are ``weights @ input[first:last]``; with `n_bands` interleaved, all five are in values.
    """
    edges = np.arange(target + 1) * (source / target)
    lower, upper = edges[:-1, None], edges[1:, None]
    blocks = []
    for start in range(0, target, _BLOCK):
        stop = min(start + _BLOCK, target)
        first, last = int(edges[start]), min(source, math.ceil(edges[stop] - 1e-9))
        pixel = np.arange(first, last)[None]
        overlap = np.minimum(upper[start:stop], pixel + 1) - np.maximum(lower[start:stop], pixel)
        weights = np.clip(overlap, 0, None) * (target / source)
        weights = np.kron(weights, np.eye(n_bands)).astype(np.float32)
        blocks.append((start * n_bands, stop * n_bands, first * n_bands, last * n_bands, weights))
    return tuple(blocks)


def area_average(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resample to (size, size): each output pixel is the mean over exactly the area it covers, fractions weighted.

    Parameters
    ----------
    pixels
        (h, w, bands), any real dtype, finite. A smaller image is enlarged by the same rule.
    size
        Side of the result, px.

    Returns
    -------
    np.ndarray
        float32 (size, size, bands), in the input's units.
    """
    height, width, n_bands = pixels.shape
    flat = pixels.reshape(height, width * n_bands)
    rows = np.empty((size, width * n_bands), np.float32)
    for start, stop, first, last, weights in _blocks(height, size, 1):
        np.matmul(weights, flat[first:last].astype(np.float32), out=rows[start:stop])
    result = np.empty((size, size * n_bands), np.float32)
    for start, stop, first, last, weights in _blocks(width, size, n_bands):
        np.matmul(rows[:, first:last], weights.T, out=result[:, start:stop])
    return result.reshape(size, size, n_bands)


# -------------------------------------------------------------------------------------------------- the whole step
_Box = tuple[int, int, int, int]


def cut(image: Image.Image, left: int, top: int, side: int | None, crop: Crop) -> tuple[np.ndarray, tuple[float, ...]]:
    """The network's input from a square of a decoded image, with its quality.

    Where the square leaves the image, the median of the part inside, per band, is filled in; missing values likewise.

    Parameters
    ----------
    image
        As `decode` gives it.
    left, top
        Upper left pixel of the square; may be negative.
    side
        Side of the square, px; None takes the whole image, whatever its shape, and ignores `left` and `top`.

    Returns
    -------
    crop, quality
        As in `Prepared`.

    Raises
    ------
    ImageError
        The square is outside the image, all missing, constant, or out of the documented range.
    """
    box, inside = _boxes(*image.size, left, top, side)
    pixels, top_of_range = _pixels(image, inside)
    pixels, n_missing = _filled(pixels)
    _refuse_constant(pixels, side)
    nan_fraction = n_missing / pixels.size
    saturated_fraction = int(np.count_nonzero(pixels == pixels.dtype.type(top_of_range))) / pixels.size
    pixels, edge_fraction = _surrounded(pixels, box, inside)
    averaged = area_average(pixels, crop.size)
    quality = (edge_fraction, saturated_fraction, nan_fraction, background_rms(averaged) / top_of_range)
    averaged *= 255 / top_of_range
    return _eight_bit_crop(averaged, crop.n_bands), quality


def _boxes(width: int, height: int, left: int, top: int, side: int | None) -> tuple[_Box, _Box]:
    """The network's square and the part of it inside the image: left, top, right, bottom."""
    box = (0, 0, width, height) if side is None else (left, top, left + side, top + side)
    inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ImageError("the crop lies outside the image")
    return box, inside


def _filled(pixels: np.ndarray, instead: Sequence[float] = ()) -> tuple[np.ndarray, int]:
    """Missing values replaced by their band's median, and their number; a band without values becomes `instead`."""
    if pixels.dtype.kind != "f":
        return pixels, 0
    missing = ~np.isfinite(pixels)
    n_missing = int(np.count_nonzero(missing))
    if n_missing == pixels.size:
        raise ImageError("every value is missing (NaN or infinite)")
    if n_missing:
        pixels = pixels.copy()
        for band in np.flatnonzero(missing.any(axis=(0, 1))).tolist():
            gaps, values = missing[:, :, band], pixels[:, :, band]
            values[gaps] = instead[band % len(instead)] if gaps.all() else np.median(values[~gaps])
    return pixels, n_missing


def _refuse_constant(pixels: np.ndarray, side: int | None) -> None:
    first = pixels[0, 0]
    if (pixels[0] == first).all() and (pixels == first).all():
        what = "the image" if side is None else "the part that the network sees"
        raise ImageError(f"{what} is constant: every pixel is {', '.join(f'{value:g}' for value in first)}")


def _refuse_empty_band(pixels: np.ndarray, bands: Sequence[str]) -> None:
    for i, band in enumerate(bands):
        values = pixels[:, :, i]
        values = values[np.isfinite(values)]
        if not values.size:
            raise ImageError(f"band {band} is missing everywhere")
        if values.min() == values.max():
            raise ImageError(f"band {band} is constant: every pixel is {values[0]:g}")


def _surrounded(pixels: np.ndarray, box: _Box, inside: _Box) -> tuple[np.ndarray, float]:
    """The whole box, with each band's median where it leaves the image, and the share of its area that does."""
    if inside == box:
        return pixels, 0.0
    area = (box[2] - box[0]) * (box[3] - box[1])
    edge_fraction = 1 - pixels.shape[0] * pixels.shape[1] / area
    filled = np.empty((box[3] - box[1], box[2] - box[0], pixels.shape[2]), pixels.dtype)
    filled[:] = np.median(pixels, axis=(0, 1)).astype(pixels.dtype)
    y, x = inside[1] - box[1], inside[0] - box[0]
    filled[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return filled, edge_fraction


def _eight_bit_crop(averaged: np.ndarray, n_bands: int) -> np.ndarray:
    """uint8 of values 0 … 255; grey becomes as many equal bands as the survey has."""
    averaged += 0.5  # rounds half up; the mean of values ≤ 255 stays below 256
    result = averaged.astype(np.uint8)
    return np.repeat(result, n_bands, axis=2) if result.shape[2] < n_bands else result


def prepare_linear(
    linear: Linear,
    left: int,
    top: int,
    side: int | None,
    crop: Crop,
    stretch: Stretch,
    rgb: tuple[int, int, int] | None = None,
    bands: Sequence[str] = (),
) -> Prepared:
    """Everything that the survey keeps of linear values, beside the values themselves.

    Parameters
    ----------
    linear
        What people look at: the whole image, or the wider context of a cut.
    left, top, side
        The network's square, as in `cut`; px of `linear`.
    stretch
        Of the whole survey.
    rgb
        Bands shown as red, green and blue on the thumbnail; None takes the last, the middle and the first.
    bands
        Names of bands of which none may be missing or constant in the square: the bands of measurements. (): a picture,
        where one color may well be black.

    Raises
    ------
    ImageError
        The square is outside the image, it or one of `bands` is all missing or constant there, or "range" is asked of
        values outside 0–1.
    """
    height, width, n_bands = linear.values.shape
    box, inside = _boxes(width, height, left, top, side)
    part = linear.values[inside[1] : inside[3], inside[0] : inside[2]]
    stretch = stretch.fixed(part)
    if stretch.mode == "range":
        _refuse_out_of_range(linear.values, linear.top or 1.0)
    black = stretch.low or (stretch.minimum or 0.0,)
    pixels, n_missing = _filled(part, black)
    _refuse_constant(pixels, side)
    _refuse_empty_band(part, bands)
    level = linear.saturated or linear.top
    is_saturated = part >= level if level else stretch.apply(part) >= 1
    saturated_fraction = int(np.count_nonzero(is_saturated)) / part.size
    pixels, edge_fraction = _surrounded(pixels, box, inside)
    shown = stretch.apply(area_average(pixels, crop.size), linear.top)
    quality = (edge_fraction, saturated_fraction, n_missing / part.size, background_rms(shown))
    result = _eight_bit_crop(shown * np.float32(255), crop.n_bands)
    known = [math.nan if value is None else value for value in (linear.ra, linear.dec, linear.pixel_scale)]
    place = (known[0], known[1], known[2], *((left, top, side) if side is not None else (0, 0, math.nan)))
    small, _ = reduced(linear, 2 * THUMBNAIL_SIDE)
    picture = thumbnail(shown_image(small, stretch, rgb or rgb_of([""] * n_bands)))
    return Prepared(result, quality, picture, digest(result), place)


def _refuse_out_of_range(values: np.ndarray, top: float) -> None:
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < 0 or finite.max() > top):
        kind = f"values from {finite.min():g} to {finite.max():g}; only 0 to {top:g} is read"
        raise ImageError(f"{'float' if top == 1 else 'integer'} {kind} unless the survey has a stretch")


def shown_image(linear: Linear, stretch: Stretch, rgb: tuple[int, int, int]) -> Image.Image:
    """Linear values as an 8-bit picture: grey where `rgb` is one band, missing pixels middle grey."""
    shown = _shown(stretch.apply(linear.values, linear.top))
    shown = (shown * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(shown[:, :, 0] if len(set(rgb)) == 1 else shown[:, :, list(rgb)]))


@lru_cache(maxsize=16)
def _frame(size: int) -> np.ndarray:
    """Flat indices of the pixels in the outer frame, one eighth of the size wide."""
    is_inner = np.zeros((size, size), bool)
    width = max(1, size // 8)
    is_inner[width:-width, width:-width] = True
    return np.flatnonzero(~is_inner)


def background_rms(pixels: np.ndarray) -> float:
    """1.4826 × median absolute deviation of the band mean in the outer frame of (size, size, bands), in their units."""
    size, _, n_bands = pixels.shape
    outer = np.take(pixels.reshape(-1, n_bands), _frame(size), axis=0) @ np.full(n_bands, 1 / n_bands, np.float32)
    middle = len(outer) // 2
    median = np.partition(outer, middle)[middle]
    return 1.4826 * float(np.partition(np.abs(outer - median), middle)[middle])


def _shown(pixels: np.ndarray) -> np.ndarray:
    """Missing values as middle grey: they are not 0."""
    return pixels if pixels.dtype.kind != "f" else np.where(np.isfinite(pixels), pixels, np.float32(0.5))


def eight_bit(image: Image.Image) -> Image.Image:
    """A decoded image as 8-bit grey or RGB: its whole range to 0 … 255, missing pixels grey."""
    if image.mode in ("L", "RGB"):
        return image
    pixels, top_of_range = _pixels(image, (0, 0, *image.size))
    return Image.fromarray(np.rint(_shown(pixels[:, :, 0]) * (255 / top_of_range)).astype(np.uint8))


def thumbnail(image: Image.Image) -> bytes:
    """JPEG (quality 85) of a decoded image, longest side at most `THUMBNAIL_SIDE` px; never enlarged."""
    image = eight_bit(image)
    longest = max(image.size)
    if longest > THUMBNAIL_SIDE:
        scale = THUMBNAIL_SIDE / longest
        width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        # whole pixels are averaged down to twice the size at least, and pairs at the end: only the step between picks
        # nearest pixels, which takes a third of the time of one exact average and looks the same
        if (factor := longest // (2 * THUMBNAIL_SIDE)) > 1:
            image = image.reduce((min(factor, image.width), min(factor, image.height)))
        image = image.resize((width, 2 * height), Image.Resampling.NEAREST).reduce((1, 2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def digest(crop: np.ndarray) -> bytes:
    """16 bytes that are equal when two crops' pixels are."""
    return hashlib.blake2b(np.ascontiguousarray(crop).data, digest_size=16).digest()


def prepare(source: Path | bytes, crop: Crop, max_pixels: int = MAX_PIXELS) -> Prepared:
    """Everything that the survey keeps of one image file.

    Raises
    ------
    ImageError
        The image cannot become a subject; the message says why.
    OSError
        The file cannot be read.
    """
    with open_header(source, max_pixels) as header:
        image = decode(header, crop.n_bands)
        width, height = image.size
        side = None if crop.mode == "resize" else (crop.extent or crop.size)
        left, top = ((width - side) // 2, (height - side) // 2) if side else (0, 0)
        pixels, quality = cut(image, left, top, side, crop)
        edge, saturated, nan, rms = quality
        place = (math.nan, math.nan, math.nan, left, top, math.nan if side is None else side)
        return Prepared(pixels, (edge, saturated, nan, rms), thumbnail(image), digest(pixels), place)


def cut_out(image: Image.Image, x: float, y: float, context: int, crop: Crop) -> tuple[Prepared, bytes]:
    """Everything that the survey keeps of one source in a large image.

    Parameters
    ----------
    image
        As `decode` gives it.
    x, y
        The source's center, px; the center of the first pixel is (0, 0).
    context
        Side of the wider square that people look at, px; where it leaves the image, it ends there.

    Returns
    -------
    prepared, original
        The crop of ``crop.extent`` px around the center, and the PNG of the wider square at the image's own resolution.

    Raises
    ------
    ImageError
        As `cut`.
    """
    side = crop.extent or crop.size
    left, top = corner(x, side), corner(y, side)
    pixels, (edge, saturated, nan, rms) = cut(image, left, top, side, crop)
    box = (corner(x, context), corner(y, context))
    inside = (
        max(box[0], 0),
        max(box[1], 0),
        min(box[0] + context, image.width),
        min(box[1] + context, image.height),
    )
    wider = image.crop(inside)
    buffer = io.BytesIO()
    wider.save(buffer, "PNG")
    place = (math.nan, math.nan, math.nan, left - inside[0], top - inside[1], side)
    return Prepared(pixels, (edge, saturated, nan, rms), thumbnail(wider), digest(pixels), place), buffer.getvalue()


def corner(center: float, side: int) -> int:
    """First pixel of `side` pixels whose middle is nearest to `center`."""
    return math.floor(center - (side - 1) / 2 + 0.5)


# ------------------------------------------------------------------------------------- the originals of linear values
_BLOCK_BYTES = 2880  # of a FITS file
_MAX_LINEAR_BYTES = 1 << 28


def write_linear(linear: Linear, bands: Sequence[str]) -> bytes:
    """What ``originals/`` keeps of physical values: a gzipped FITS image, float32, which any viewer opens.

    The same values give the same bytes. Band names and the unit are printable ASCII; other characters become "?".
    """
    height, width, n_bands = linear.values.shape
    sizes = [width, height] if n_bands == 1 else [width, height, n_bands]
    cards: dict[str, str | float | int | bool | None] = {"SIMPLE": True, "BITPIX": -32, "NAXIS": len(sizes)}
    cards |= {f"NAXIS{i}": size for i, size in enumerate(sizes, 1)}
    cards |= {f"BAND{i}": name for i, name in enumerate(bands, 1)}
    cards |= {"BUNIT": linear.unit, "RANGETOP": linear.top, "SATURATE": linear.saturated}
    cards |= {"PIXSCALE": linear.pixel_scale, "RA": linear.ra, "DEC": linear.dec}
    if linear.cd and linear.ra is not None and linear.dec is not None:
        cards |= {"WCSAXES": len(sizes), "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
        cards |= {"CRPIX1": (width + 1) / 2, "CRPIX2": (height + 1) / 2, "CRVAL1": linear.ra, "CRVAL2": linear.dec}
        cards |= {"RADESYS": "ICRS"}
        if n_bands > 1:
            cards |= {"CTYPE3": "BAND", "CRPIX3": 1.0, "CRVAL3": 1.0, "CD3_3": 1.0}
        cards |= dict(zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), linear.cd, strict=True))
    lines = [_card(key, value) for key, value in cards.items() if value is not None]
    header = "".join([*lines, f"{'END':<80}"]).encode()
    values = linear.values[::-1].transpose(2, 0, 1).astype(">f4").tobytes()
    content = b"".join(
        [header, b" " * (-len(header) % _BLOCK_BYTES), values, bytes(-len(values) % _BLOCK_BYTES)],
    )
    # gzip without name and time; noise repeats nothing but runs, and looking for more takes three times as long
    packer = zlib.compressobj(1, wbits=31, strategy=zlib.Z_RLE)
    return packer.compress(content) + packer.flush()


def _card(key: str, value: str | float | int | bool) -> str:
    if isinstance(value, str):
        plain = "".join(c if " " <= c <= "~" and c != "'" else "?" for c in value[:60])
        said = f"'{plain:<8}'"
    elif isinstance(value, bool):
        said = f"{'T' if value else 'F':>20}"
    else:
        said = f"{value:>20}".upper()
    return f"{key:<8}= {said}"[:80].ljust(80)


def read_linear(content: bytes) -> tuple[Linear, list[str]]:
    """The values and band names of an original: what `write_linear` wrote, or the bytes of a PNG, JPEG or TIFF image.

    Raises
    ------
    ImageError
        Neither of them, or broken.
    """
    if content[:2] != b"\x1f\x8b":
        with open_header(content) as header:
            image = decode(header, 3 if is_color(header) else 1)
            values, top = linear_pixels(image)
            return Linear(values, top), ["r", "g", "b"] if values.shape[2] == 3 else ["grey"]
    try:
        reader = zlib.decompressobj(31)
        plain = reader.decompress(content, _MAX_LINEAR_BYTES)
        cards, start = _cards(plain)
        width, height, n_bands = (int(cards.get(f"NAXIS{i}", 1)) for i in (1, 2, 3))
        if not reader.eof or cards["BITPIX"] != -32 or min(width, height, n_bands) < 1:
            raise ValueError("not the layout that is written")
        flat = np.frombuffer(plain, ">f4", width * height * n_bands, start)
    except (zlib.error, ValueError, KeyError) as error:
        raise ImageError(f"is not an original that a survey keeps ({_plain(error)})") from None
    values = np.ascontiguousarray(flat.reshape(n_bands, height, width).transpose(1, 2, 0)[::-1], np.float32)
    names = [str(cards.get(f"BAND{i}", f"band_{i}")) for i in range(1, n_bands + 1)]
    number = {key: float(cards[name]) for key, name in _NUMBERS.items() if name in cards}
    matrix = [float(cards[name]) for name in ("CD1_1", "CD1_2", "CD2_1", "CD2_2") if name in cards]
    cd = (matrix[0], matrix[1], matrix[2], matrix[3]) if len(matrix) == 4 else None
    return Linear(values, unit=str(cards["BUNIT"]) if "BUNIT" in cards else None, cd=cd, **number), names


_NUMBERS = {"top": "RANGETOP", "saturated": "SATURATE", "pixel_scale": "PIXSCALE", "ra": "RA", "dec": "DEC"}


def _cards(content: bytes) -> tuple[dict[str, Any], int]:
    """The header's values, as `write_linear` writes them, and where the data begins."""
    cards: dict[str, Any] = {}
    for at in range(0, len(content) - 79, 80):
        line = content[at : at + 80].decode("ascii")
        key, said = line[:8].strip(), line[10:].strip()
        if key == "END":
            return cards, -(-(at + 80) // _BLOCK_BYTES) * _BLOCK_BYTES
        if said[:1] == "'":
            cards[key] = said[1:-1].rstrip()
        else:
            cards[key] = {"T": True, "F": False}[said] if said in ("T", "F") else float(said)
    raise ValueError("the header has no end")


def linear_pixels(image: Image.Image) -> tuple[np.ndarray, float]:
    """A decoded picture's values, float32 (H, W, bands) and NaN where missing, and the top of its range."""
    pixels = np.asarray(image)
    top = {"u1": 255.0, "f4": 1.0}.get(pixels.dtype.str[1:], 65535.0)
    values = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values, top


def reduced(linear: Linear, longest: int = MAX_CONTEXT_PX) -> tuple[Linear, int]:
    """Whole pixels averaged until no side is above `longest` px, and how many became one along a side.

    The rest of a side that is no multiple is left out, at the right and at the bottom; ra and dec stay the center's.
    """
    height, width, n_bands = linear.values.shape
    n = -(-max(height, width) // longest)
    if n == 1:
        return linear, 1
    rows, columns = max(1, height // n), max(1, width // n)
    tiles = linear.values[: rows * n, : columns * n].reshape(rows, -1, columns, min(n, width), n_bands)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but missing values
        values = np.asarray(np.nanmean(tiles, axis=(1, 3), dtype=np.float32))
    scale = None if linear.pixel_scale is None else linear.pixel_scale * n
    cd = None if linear.cd is None else (linear.cd[0] * n, linear.cd[1] * n, linear.cd[2] * n, linear.cd[3] * n)
    right, up = (min(columns * n, width) - width) / 2, (height - min(rows * n, height)) / 2  # the center's way, px
    ra, dec = _moved(linear, right, up)
    return replace(linear, values=values, pixel_scale=scale, cd=cd, ra=ra, dec=dec), n


def _moved(linear: Linear, right: float, up: float) -> tuple[float | None, float | None]:
    """The sky, deg, so many px from the center, in the plane that touches the sky there."""
    if linear.cd is None or linear.ra is None or linear.dec is None:
        return linear.ra, linear.dec
    east = math.radians(linear.cd[0] * right + linear.cd[1] * up)
    north = math.radians(linear.cd[2] * right + linear.cd[3] * up)
    dec = math.radians(linear.dec)
    to_pole = math.cos(dec) - north * math.sin(dec)
    ra = linear.ra + math.degrees(math.atan2(east, to_pole))
    return ra % 360, math.degrees(math.atan2(math.sin(dec) + north * math.cos(dec), math.hypot(east, to_pole)))
