"""Decode, crop, resample: how an image file becomes the network's input. The only place that states units and range.

Pixel values have a *range* fixed by the file's type, never by its content, so that two images stay comparable:

==================  ===========================  =================================================
file                values                       value range 0–1 stands for
==================  ===========================  =================================================
8-bit grey, RGB     0 … 255                      0 … 255
16-bit grey         0 … 65,535                   0 … 65,535 (the full range, whatever was used)
32-bit integer      refused outside 0 … 65,535   0 … 65,535
32-bit float        refused outside 0 … 1        0 … 1, NaN and infinite values are missing
==================  ===========================  =================================================

Palettes are looked up; transparent pixels are laid over black. A network's crop is uint8 (size, size, bands), where 255
stands for the top of the range. Pixel (0, 0) is the upper left as stored; orientation tags are not applied.
"""

import hashlib
import io
import math
import stat
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

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

_MEDIA_TYPES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"II", "image/tiff"),
    (b"MM", "image/tiff"),
)


class ImageError(ValueError):
    """An image that cannot become a subject. The message is the plain reason, without the file's name."""


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
        1 (grey) or 3 (red, green, blue).
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
        saturated_fraction: share of the crop's values (pixels × bands) at the top of the range, before averaging, 0–1.
        nan_fraction: share of the crop's values that are missing, before averaging, 0–1.
        background_rms: 1.4826 × median absolute deviation of the band mean in the outer frame (one eighth of the size
        wide) of the averaged crop, in the value range 0–1: robust noise where the sky should be.
    thumbnail
        JPEG of the whole image, longest side at most `THUMBNAIL_SIDE` px.
    digest
        16 bytes; equal when the crops' pixels are equal.
    """

    crop: np.ndarray
    quality: tuple[float, float, float, float]
    thumbnail: bytes
    digest: bytes


# -------------------------------------------------------------------------------------------------------- decode
def media_type(content: bytes) -> str:
    """The media type of an image file's bytes: ``image/jpeg``, ``image/png``, ``image/tiff``, else octet-stream."""
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
        raise ImageError("is not a PNG, JPEG or TIFF image") from None
    except MemoryError:
        raise
    except Exception as error:  # the format readers raise anything on a broken header
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the image's
        raise ImageError(f"the header cannot be read ({_plain(error)})") from None
    width, height = image.size
    if width * height > max_pixels:
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
    width, height = image.size
    box = (0, 0, width, height) if side is None else (left, top, left + side, top + side)
    inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ImageError("the crop lies outside the image")
    pixels, top_of_range = _pixels(image, inside)
    n_missing = 0
    if pixels.dtype.kind == "f":
        missing = ~np.isfinite(pixels)
        n_missing = int(np.count_nonzero(missing))
        if n_missing == pixels.size:
            raise ImageError("every value is missing (NaN or infinite)")
        if n_missing:
            pixels = np.where(missing, np.median(pixels[~missing]), pixels)
    first = pixels[0, 0]
    if (pixels[0] == first).all() and (pixels == first).all():
        what = "the image" if side is None else "the part that the network sees"
        raise ImageError(f"{what} is constant: every pixel is {', '.join(f'{value:g}' for value in first)}")
    nan_fraction = n_missing / pixels.size
    saturated_fraction = int(np.count_nonzero(pixels == pixels.dtype.type(top_of_range))) / pixels.size
    edge_fraction = 0.0
    if inside != box:
        area = (box[2] - box[0]) * (box[3] - box[1])
        edge_fraction = 1 - pixels.shape[0] * pixels.shape[1] / area
        filled = np.empty((box[3] - box[1], box[2] - box[0], pixels.shape[2]), pixels.dtype)
        filled[:] = np.median(pixels, axis=(0, 1)).astype(pixels.dtype)
        y, x = inside[1] - box[1], inside[0] - box[0]
        filled[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        pixels = filled
    averaged = area_average(pixels, crop.size)
    quality = (edge_fraction, saturated_fraction, nan_fraction, background_rms(averaged) / top_of_range)
    averaged *= 255 / top_of_range
    averaged += 0.5  # rounds half up; the mean of values ≤ 255 stays below 256
    result = averaged.astype(np.uint8)
    if result.shape[2] < crop.n_bands:
        result = np.repeat(result, crop.n_bands, axis=2)
    return result, quality


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
        return Prepared(pixels, (edge, saturated, nan, rms), thumbnail(image), digest(pixels))


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
    return Prepared(pixels, (edge, saturated, nan, rms), thumbnail(wider), digest(pixels)), buffer.getvalue()


def corner(center: float, side: int) -> int:
    """First pixel of `side` pixels whose middle is nearest to `center`."""
    return math.floor(center - (side - 1) / 2 + 0.5)
