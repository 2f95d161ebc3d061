"""Decode outside images in processes of their own, with limits on memory and time: one bad file never stops the rest.

The parent's half is `Decoders`; the child's is `serve`, started as ``python -m explorer.ingest.decoder``. The child
imports numpy and Pillow only, so that it is at work within 0.2 s; what FITS, HDF5 and Zarr need comes with the first
such file.
"""

import contextlib
import fcntl
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from PIL import Image

from explorer.errors import IngestError
from models.images import (
    CONTEXT,
    MAX_CONTEXT_PX,
    MAX_PIXELS,
    Crop,
    ImageError,
    Linear,
    Prepared,
    Stretch,
    UnknownFormatError,
    corner,
    cut_out,
    decode,
    file_size,
    is_color,
    linear_pixels,
    media_type,
    open_header,
    prepare,
    prepare_linear,
    read_linear,
    reduced,
    rgb_of,
    shown_image,
    thumbnail,
    write_linear,
)

#: Seconds one image may take, and bytes of address space a decoding process may have.
TIME_LIMIT_S = 30.0
MEMORY_LIMIT = 4 << 30
FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".fits.gz", ".fit.gz", ".fts.gz")
ARRAY_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".zarr")
#: Values of one image that `sample` gives.
SAMPLE = 4096

_MEMORY_SAID = "needs more memory to decode than one image may take"


# --------------------------------------------------------------------------------------------------- what is asked for
@dataclass(frozen=True, slots=True)
class Item:
    """Where a subject's image is. A plain str in its place stands for a file that is one image.

    Attributes
    ----------
    paths
        The file; several: one per band, in channel order.
    member
        Place in a stack; None where a file is one image.
    x, y
        Center of a cut from a large image, px; the center of the first pixel, at the top left, is (0, 0). None: whole.
    context
        Side of the wider square around (x, y) that people look at, px.
    """

    paths: tuple[str, ...]
    member: int | None = None
    x: float | None = None
    y: float | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How the files of a survey are read.

    Attributes
    ----------
    hdu
        HDU of FITS files, by name or number; several, separated by commas, are one band each. None: the first image.
    dataset
        Array in npz, HDF5 and Zarr files; None: the only one that can be an image.
    bands
        Names in channel order; () where they are not known yet.
    picks
        Per band the plane of a cube (from 0), or the HDU; () takes all as they are.
    pixel_scale
        arcsec per px, whatever the file says; None: as the file's WCS says.
    extent_arcsec
        Side of the network's square on the sky; None: as the `Crop` says.
    stretch
        Of the survey.
    originals
        "link": nothing is kept of the file.
    roots
        Folders that a symbolic link below them may not leave.
    """

    hdu: str | None = None
    dataset: str | None = None
    bands: tuple[str, ...] = ()
    picks: tuple[str, ...] = ()
    pixel_scale: float | None = None
    extent_arcsec: float | None = None
    stretch: Stretch = Stretch()  # noqa: RUF009 - frozen
    originals: Literal["keep", "link"] = "keep"
    roots: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Where in a file the image is: what ``survey.toml`` keeps, so that later images are read likewise."""
        told = {"hdu": self.hdu, "dataset": self.dataset, "picks": list(self.picks)}
        return {key: value for key, value in told.items() if value}


@dataclass(slots=True)
class Decoded:
    """What became of the images of one block.

    Attributes
    ----------
    good
        Positions in the block, rising; the arrays and lists below are aligned to it.
    crops
        uint8 (len(good), size, size, bands).
    quality
        float32 (len(good), 4): `models.images.QUALITY_COLUMNS`.
    places
        float64 (len(good), 6): `models.images.PLACE_COLUMNS`.
    originals
        What people look at: for a file that is kept as it is, its length as it was decoded (the writer copies the file
        itself); for a cut-out of a picture the PNG, and for linear values the FITS of its wider context. Where
        originals are linked, nothing of use.
    bad
        (position, reason, JPEG thumbnail or None) of the others.
    """

    good: list[int]
    crops: np.ndarray
    quality: np.ndarray
    places: np.ndarray
    digests: list[bytes]
    thumbnails: list[bytes]
    originals: list[int | bytes]
    bad: list[tuple[int, str, bytes | None]]


# ------------------------------------------------------------------------------------------------------- open an image
class Sky(NamedTuple):
    """The sky at a pixel: deg, and `models.images.Linear.cd`."""

    ra: float
    dec: float
    cd: tuple[float, float, float, float]

    @property
    def pixel_scale(self) -> float:
        """arcsec per px, the square root of a pixel's area."""
        return 3600 * math.sqrt(abs(self.cd[0] * self.cd[3] - self.cd[1] * self.cd[2]))


class OpenImage(Protocol):
    """An image of which parts can be read. Row 0 is the top row."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, bands)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The bands' names, where the file says them."""

    @property
    def unit(self) -> str | None:
        """Of the values."""

    @property
    def top(self) -> float | None:
        """Top of the file type's range; None for physical values."""

    @property
    def saturated(self) -> float | None:
        """Value from which on the detector was saturated."""

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """float32 (height, width, bands), NaN where missing, of a box inside the image."""

    def sky(self, x: float, y: float) -> Sky | None:
        """The sky at a pixel, where the file has a WCS that solves."""


@dataclass(slots=True)
class Held:
    """An image in memory."""

    values: np.ndarray
    names: tuple[str, ...] = ()
    unit: str | None = None
    top: float | None = None
    saturated: float | None = None
    is_kept_as_it_is: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, bands)."""
        height, width, n_bands = self.values.shape
        return height, width, n_bands

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """See `OpenImage`."""
        return self.values[top : top + height, left : left + width]

    def sky(self, x: float, y: float) -> Sky | None:
        """See `OpenImage`."""
        return None


class _Bands:
    """One file per band as one image."""

    def __init__(self, images: Sequence[OpenImage], names: Sequence[str]) -> None:
        for image, name in zip(images, names, strict=True):
            height, width, n = image.shape
            if n != 1:
                raise ImageError(f"the file of band {name} has {n} bands; one is read from each")
            if (height, width) != images[0].shape[:2]:
                first = f"{images[0].shape[1]:,} × {images[0].shape[0]:,}"
                raise ImageError(f"band {name} has {width:,} × {height:,} px, band {names[0]} {first} px")
        if len({image.top for image in images}) != 1:
            raise ImageError("the bands' files hold values of unlike types")
        _refuse_apart(images, names)
        self._images = images
        self.shape = (*images[0].shape[:2], len(images))
        self.names = tuple(names)
        self.unit, self.top = images[0].unit, images[0].top
        levels = [image.saturated for image in images]
        self.saturated = None if None in levels else min(level for level in levels if level is not None)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return np.concatenate([image.read(top, left, height, width) for image in self._images], axis=2)

    def sky(self, x: float, y: float) -> Sky | None:
        return self._images[0].sky(x, y)


def _refuse_apart(images: Sequence[OpenImage], names: Sequence[str]) -> None:
    """Refuse bands whose WCS put other sky at their centers, by more than 1 px, or on a pixel, by more than 1 %."""
    skies = [image.sky((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2) for image in images]
    known = [(name, sky) for name, sky in zip(names, skies, strict=True) if sky is not None]
    for name, sky in known[1:]:
        first, at = known[0]
        scale = at.pixel_scale
        if abs(sky.pixel_scale - scale) > 0.01 * scale:
            raise ImageError(f"band {name} has {sky.pixel_scale:.4g} arcsec per px, band {first} {scale:.4g}")
        apart = _separation(at, sky) * 3600 / scale
        if apart > 1:
            raise ImageError(f"band {name} is {apart:,.4g} px away from band {first} on the sky")


def _separation(a: Sky, b: Sky) -> float:
    """The angle between two places on the sky, deg; exact for small ones, too (haversine)."""
    north, south = math.radians(a.dec), math.radians(b.dec)
    half_ra, half_dec = math.radians(b.ra - a.ra) / 2, (south - north) / 2
    chord = math.sin(half_dec) ** 2 + math.cos(north) * math.cos(south) * math.sin(half_ra) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(chord))))


def open_image(item: Item, reading: Reading) -> OpenImage:
    """Open an item's file or files.

    Raises
    ------
    ImageError
        It cannot be an image of this survey.
    OSError
        A file cannot be read.
    """
    if not item.paths or not any(item.paths):
        raise ImageError("the manifest gives no path")
    if len(item.paths) == 1:
        return _open_file(item.paths[0], item.member, reading)
    names = reading.bands or tuple(f"band_{i}" for i in range(1, len(item.paths) + 1))
    if len(names) != len(item.paths):
        raise ImageError(f"has {len(item.paths)} files for {len(names)} bands")
    for path, name in zip(item.paths, names, strict=True):
        if not path:
            raise ImageError(f"the manifest gives no path for band {name}")
    images = []
    for path, name in zip(item.paths, names, strict=True):
        try:
            images.append(_open_file(path, item.member, replace(reading, bands=(), picks=())))
        except ImageError as error:
            raise ImageError(f"band {name}: {error}") from None
    return _Bands(images, names)


def _open_file(path: str, member: int | None, reading: Reading) -> OpenImage:
    _refuse_way_out(path, reading.roots)
    lower = path.lower()
    if lower.endswith(FITS_SUFFIXES):
        from explorer.ingest.fits import open_section_reader

        return open_section_reader(path, reading.hdu, reading.bands, reading.picks)
    if lower.endswith(ARRAY_SUFFIXES):
        from explorer.ingest.stacks import open_member

        return open_member(path, member, reading.dataset, reading.bands, reading.picks)
    return _open_picture(Path(path))


def _open_picture(path: Path) -> Held:
    """A PNG, JPEG or TIFF file as linear values."""
    try:
        with open_header(path) as header:
            color = is_color(header)
            image = decode(header, 3 if color else 1)
            physical = _is_physical(header)
    except UnknownFormatError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        from explorer.ingest.stacks import read_tiff

        return read_tiff(path)
    values, top = linear_pixels(image)
    return Held(values, ("r", "g", "b") if color else (), None, None if physical else top, is_kept_as_it_is=True)


def _is_physical(header: Image.Image) -> bool:
    """Whether a picture holds 32-bit values (a 16-bit PNG may be given as 32-bit integers, too)."""
    return header.mode == "F" or (header.mode == "I" and header.format == "TIFF")


def _refuse_way_out(path: str, roots: tuple[str, ...]) -> None:
    """Refuse a symbolic link to outside of the folder that is read."""
    for root in roots:
        if path.startswith(f"{root}/") and Path(path).is_symlink():
            target = os.path.realpath(path)
            if not target.startswith(f"{os.path.realpath(root)}/"):
                raise ImageError("is a link to outside of the folder; name the file itself in a manifest")


# ------------------------------------------------------------------------------------------------------ decode a block
class _RefusedError(ImageError):
    """An image that was decoded but cannot be a subject."""

    def __init__(self, reason: str, thumbnail: bytes | None) -> None:
        super().__init__(reason)
        self.thumbnail = thumbnail


def decode_block(
    items: Sequence[str | Item], crop: Crop, time_limit_s: float = 0, reading: Reading | None = None
) -> Decoded:
    """Decode files, or cut from images, one after another; what cannot be a subject goes to ``bad`` with its reason.

    Parameters
    ----------
    time_limit_s
        When above 0, an image that takes longer ends this process by SIGALRM: only for a process that may die.
    """
    reading = reading or Reading()
    good: list[int] = []
    made: list[Prepared] = []
    originals: list[int | bytes] = []
    bad: list[tuple[int, str, bytes | None]] = []
    for position, item in enumerate(items):
        if time_limit_s:
            signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        try:
            prepared, original = _prepared(item, crop, reading)
            originals.append(original)
            made.append(prepared)
            good.append(position)
        except _RefusedError as error:
            bad.append((position, str(error), error.thumbnail))
        except ImageError as error:
            bad.append((position, str(error), None))
        except MemoryError:
            bad.append((position, _MEMORY_SAID, None))
        except OSError as error:
            bad.append((position, f"cannot be read ({error.strerror or error})", None))
    if time_limit_s:
        signal.setitimer(signal.ITIMER_REAL, 0)
    crops = np.stack([p.crop for p in made]) if made else np.empty((0, crop.size, crop.size, crop.n_bands), np.uint8)
    quality = np.array([p.quality for p in made], np.float32).reshape(-1, 4)
    places = np.array([p.place for p in made], np.float64).reshape(-1, 6)
    if reading.pixel_scale is not None:
        places[np.isnan(places[:, 2]), 2] = reading.pixel_scale
    thumbnails = [p.thumbnail for p in made]
    return Decoded(good, crops, quality, places, [p.digest for p in made], thumbnails, originals, bad)


def _prepared(item: str | Item, crop: Crop, reading: Reading) -> tuple[Prepared, int | bytes]:
    """One subject, and its original: bytes, or the length of the file that is kept as it is."""
    if isinstance(item, str):
        item = Item((item,))
    if len(item.paths) == 1 and item.paths[0] and reading.stretch.mode == "range" and is_picture(item.paths[0]):
        if item.x is not None and item.y is not None:
            image = _large_picture(item.paths[0], crop.n_bands)
            return cut_out(image, item.x, item.y, item.context or crop.extent or crop.size, crop)
        if not reading.extent_arcsec:
            path = Path(item.paths[0])
            _refuse_way_out(item.paths[0], reading.roots)
            try:
                return prepare(path, crop), file_size(path)
            except UnknownFormatError:
                if path.suffix.lower() not in (".tif", ".tiff"):
                    raise
            except ImageError as error:
                raise _RefusedError(str(error), _thumbnail_of(path)) from None
    return _prepared_linear(item, crop, reading)


def _thumbnail_of(path: Path) -> bytes | None:
    with contextlib.suppress(ImageError, OSError, MemoryError), open_header(path) as header:
        return thumbnail(decode(header, 3 if is_color(header) else 1))
    return None


@lru_cache(maxsize=1)
def _large_picture(path: str, n_bands: int) -> Image.Image:
    """The decoded picture that many cut-outs in a row come from."""
    return decode(open_header(Path(path)), n_bands)


@lru_cache(maxsize=2)
def _large_image(paths: tuple[str, ...], reading: Reading) -> OpenImage:
    """The open image that many cut-outs in a row come from."""
    return open_image(Item(paths), reading)


@lru_cache(maxsize=32)
def _large_fits(paths: tuple[str, ...], reading: Reading) -> OpenImage:
    """The same of FITS, of which nothing is held: a catalogue may go from tile to tile."""
    return open_image(Item(paths), reading)


def _opened(item: Item, reading: Reading) -> OpenImage:
    if item.x is None:
        return open_image(item, reading)
    is_held = not is_fits(item.paths) or any(path.lower().endswith(".gz") for path in item.paths)
    return (_large_image if is_held else _large_fits)(item.paths, reading)


@dataclass(frozen=True, slots=True)
class _Square:
    """The network's square in an image: px, side None for the whole image; x, y its center."""

    left: int
    top: int
    side: int | None
    x: float
    y: float


def _square(image: OpenImage, item: Item, crop: Crop, reading: Reading) -> _Square:
    height, width, _ = image.shape
    x = (width - 1) / 2 if item.x is None else item.x
    y = (height - 1) / 2 if item.y is None else item.y
    if crop.mode == "resize":
        return _Square(0, 0, None, x, y)
    side = crop.extent or crop.size
    if reading.extent_arcsec:
        scale = reading.pixel_scale or _scale(image.sky(x, y))
        if scale is None:
            raise ImageError("its pixel scale is not known (it has no WCS that solves); give it with --pixel-scale")
        side = max(1, round(reading.extent_arcsec / scale))
        if side > 65_535:
            raise ImageError(f"{reading.extent_arcsec:g} arcsec are {side:,} px of it; at most 65,535 are cut")
    if item.x is None:
        return _Square((width - side) // 2, (height - side) // 2, side, x, y)
    return _Square(corner(x, side), corner(y, side), side, x, y)


def _scale(sky: Sky | None) -> float | None:
    return None if sky is None else sky.pixel_scale


def _seen(image: OpenImage, item: Item, square: _Square) -> tuple[int, int, int, int]:
    """What people look at: left, top, right, bottom of the context around the network's square."""
    height, width, _ = image.shape
    if item.context:
        wide, left, top = item.context, corner(square.x, item.context), corner(square.y, item.context)
    else:
        assert square.side is not None
        wide = max(square.side, min(CONTEXT * square.side, MAX_CONTEXT_PX))
        left, top = square.left - (wide - square.side) // 2, square.top - (wide - square.side) // 2
    return max(left, 0), max(top, 0), min(left + wide, width), min(top + wide, height)


def _linear(image: OpenImage, box: tuple[int, int, int, int], pixel_scale: float | None) -> Linear:
    """The values of a box (left, top, right, bottom) inside the image, and where they are on the sky."""
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise ImageError("the crop lies outside the image")
    n_bands = image.shape[2]
    if (right - left) * (bottom - top) * n_bands > MAX_PIXELS:
        sizes = f"{right - left:,} × {bottom - top:,} px of {n_bands} band{'s' * (n_bands > 1)}"
        raise ImageError(f"{sizes} are more than the {MAX_PIXELS:,} values that are read")
    values = image.read(top, left, bottom - top, right - left)
    linear = Linear(values, image.top, pixel_scale, unit=image.unit, saturated=image.saturated)
    sky = image.sky((left + right - 1) / 2, (top + bottom - 1) / 2)
    if sky is not None:
        linear.ra, linear.dec, linear.cd = sky.ra, sky.dec, sky.cd
        linear.pixel_scale = pixel_scale or sky.pixel_scale
    return linear


class _Seen(NamedTuple):
    """What people look at, at the image's own resolution.

    Attributes
    ----------
    linear
        The context around the network's square, or the whole image.
    square
        The network's square in it.
    names
        Of the bands.
    is_file
        It is a file that is kept as it is.
    """

    linear: Linear
    square: _Square
    names: Sequence[str]
    is_file: bool


def _look(item: Item, crop: Crop, reading: Reading) -> _Seen:
    image = _opened(item, reading)
    height, width, n_bands = image.shape
    is_grey = n_bands == 1 and crop.n_bands == 3 and image.top is not None  # a picture among pictures in color
    if n_bands != crop.n_bands and not is_grey:
        raise ImageError(f"has {n_bands} band{'s' * (n_bands > 1)} in a survey of {crop.n_bands}")
    square = _square(image, item, crop, reading)
    is_file = item.x is None and isinstance(image, Held) and image.is_kept_as_it_is
    is_whole = is_file or (item.x is None and square.side is None)
    box = (0, 0, width, height) if is_whole else _seen(image, item, square)
    linear = _linear(image, box, reading.pixel_scale)
    if is_grey:
        linear.values = np.repeat(linear.values, 3, axis=2)
    names = reading.bands or image.names or tuple(f"band_{i}" for i in range(1, crop.n_bands + 1))
    return _Seen(linear, replace(square, left=square.left - box[0], top=square.top - box[1]), names, is_file)


def _prepared_linear(item: Item, crop: Crop, reading: Reading) -> tuple[Prepared, int | bytes]:
    linear, square, names, is_file = _look(item, crop, reading)
    rgb = rgb_of(names)
    try:
        bands = names if linear.top is None else ()  # a picture's colors are no measurements
        made = prepare_linear(linear, square.left, square.top, square.side, crop, reading.stretch, rgb, bands)
    except ImageError as error:
        picture = None
        with contextlib.suppress(ImageError, ValueError):
            picture = thumbnail(shown_image(reduced(linear)[0], reading.stretch, rgb))
        raise _RefusedError(str(error), picture) from None
    if is_file:
        return made, file_size(Path(item.paths[0]))
    kept, n = reduced(linear)
    if n > 1:
        _, _, scale, *in_px = made.place
        ra, dec = (math.nan if value is None else value for value in (kept.ra, kept.dec))
        left, top, side = np.round(np.array(in_px) / n).tolist()  # whole px, NaN stays NaN
        made = replace(made, place=(ra, dec, scale * n, left, top, side))
    return made, b"" if reading.originals == "link" else write_linear(kept, names)


# ------------------------------------------------------------------------------------------- looked at before a survey
@dataclass(frozen=True, slots=True)
class Described:
    """What one image says of itself, for the choice of the survey's bands and stretch."""

    n_bands: int
    names: tuple[str, ...]
    is_physical: bool
    pixel_scale: float | None
    unit: str | None
    choices: tuple[str, ...] = ()  # images in its FITS file, of which nobody told which is meant


def is_fits(paths: Sequence[str]) -> bool:
    """Whether paths, of one kind, name FITS files, by their suffix."""
    return paths[0].lower().endswith(FITS_SUFFIXES)


def is_picture(path: str) -> bool:
    """Whether a path names a picture (PNG, JPEG, TIFF), by its suffix."""
    return not path.lower().endswith(FITS_SUFFIXES + ARRAY_SUFFIXES)


def describe(item: Item, reading: Reading) -> Described:
    """Look at an image without reading more than it takes.

    Raises
    ------
    ImageError, OSError
        It cannot be read.
    """
    if len(item.paths) == 1 and is_picture(item.paths[0]):
        with contextlib.suppress(UnknownFormatError), open_header(Path(item.paths[0])) as header:
            if not _is_physical(header):
                color = is_color(header)
                return Described(3 if color else 1, ("r", "g", "b") if color else (), False, None, None)
    image = _opened(item, reading)
    height, width, n_bands = image.shape
    sky = image.sky((width - 1) / 2, (height - 1) / 2)
    if isinstance(image, Held) and not np.isfinite(image.values).any():
        raise ImageError("every value is missing (NaN or infinite)")
    choices: tuple[str, ...] = ()
    if is_fits(item.paths):
        from explorer.ingest.fits import SectionReader

        with contextlib.suppress(ImageError, OSError):  # what is read is sound
            choices = image.choices() if isinstance(image, SectionReader) else ()
    return Described(n_bands, image.names, image.top is None, _scale(sky), image.unit, choices)


def sample(item: Item, crop: Crop, reading: Reading) -> np.ndarray:
    """Up to `SAMPLE` pixels, at even distances, of what the network sees of an image: float32 (n, bands).

    Raises
    ------
    ImageError, OSError
        It cannot be read.
    """
    image = _opened(item, reading)
    height, width, n_bands = image.shape
    square = _square(image, item, crop, reading)
    side = square.side or max(width, height)
    left, top = max(square.left, 0), max(square.top, 0)
    right, bottom = min(square.left + side, width), min(square.top + side, height)
    values = _linear(image, (left, top, right, bottom), None).values.reshape(-1, n_bands)
    return np.ascontiguousarray(values[:: -(-len(values) // SAMPLE)])


def read_original(link: Mapping[str, Any], crop: Crop, reading: Reading) -> bytes:
    """A linked original as it would be kept: the bytes of a picture, else the values that people look at as FITS.

    Parameters
    ----------
    link
        See `explorer.survey.Link`.
    crop, reading
        Of the survey: `explorer.ingest.calibration.how_made`.

    Raises
    ------
    ImageError
        It cannot be read any more.
    """
    item = Item(tuple(link["link"]), *(link.get(name) for name in ("member", "x", "y", "context")))
    try:
        if item.x is None and len(item.paths) == 1 and is_picture(item.paths[0]):
            with contextlib.suppress(UnknownFormatError), open_header(Path(item.paths[0])):
                return Path(item.paths[0]).read_bytes()
        seen = _look(item, crop, reading)
        return write_linear(reduced(seen.linear)[0], seen.names)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from None


def damage(contents: Sequence[bytes]) -> list[str | None]:
    """What is seen to be wrong with each original that a survey keeps; None where nothing is.

    FITS by the checksum of its gzip, PNG by those of its chunks. JPEG and TIFF have none: they are decoded, and a
    flipped byte that still makes a picture is not seen.
    """
    return [_damage(content) for content in contents]


def _damage(content: bytes) -> str | None:
    try:
        if media_type(content) == "application/gzip":
            read_linear(content)
            return None
        with open_header(content) as header:
            if header.format == "PNG":
                header.verify()
            else:
                decode(header, 3 if is_color(header) else 1)
    except UnknownFormatError as error:
        if media_type(content) != "image/tiff":
            return str(error)
        from explorer.ingest.stacks import read_tiff

        with tempfile.NamedTemporaryFile(suffix=".tif") as file:
            file.write(content)
            file.flush()
            try:
                read_tiff(Path(file.name))
            except ImageError as refusal:
                return str(refusal)
    except ImageError as error:
        return str(error)
    except MemoryError:
        return _MEMORY_SAID
    except Exception as error:  # Pillow raises SyntaxError and others on a broken chunk
        return f"cannot be decoded ({' '.join(str(error).split())})"
    return None


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve(tasks: Connection, answers: Connection) -> None:
    """The child: call what the parent asks for until it hangs up.

    A task is (function, arguments, seconds it may take or 0); the answer is its result, or the `ImageError` it raised.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers.send("ready")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        memory_limit = tasks.recv()
        with contextlib.suppress(ValueError, OSError):  # a lower limit may be set already
            resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
        while True:
            function, arguments, seconds = tasks.recv()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                answer = function(*arguments)
            except ImageError as error:
                answer = error
            except MemoryError:
                answer = ImageError("needs more memory than one image may take")
            except OSError as error:
                answer = ImageError(f"cannot be read ({error.strerror or error})")
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.send(answer)


# ------------------------------------------------------------------------------------------------------- the parent
_ENVIRONMENT = {
    # one thread each: the matrix products are small, and every core has a process of its own
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # memory freed after one image is kept for the next: page faults would take a quarter of the time
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}


class _Child:
    """One decoding process and the pipe to it."""

    def __init__(self, memory_limit: int) -> None:
        self.answers, to_parent = Pipe(duplex=False)
        from_parent, self.tasks = Pipe(duplex=False)
        with contextlib.suppress(OSError, AttributeError):  # room for a whole block, so that the child goes on at once
            fcntl.fcntl(to_parent.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
        theirs = (from_parent.fileno(), to_parent.fileno())
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {**os.environ, **_ENVIRONMENT}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "explorer.ingest.decoder", *map(str, theirs)],
            pass_fds=theirs,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )
        from_parent.close()
        to_parent.close()
        self.ready = False
        self._memory_limit = memory_limit
        self.task: tuple[_Block, list[int]] | None = None

    def greet(self) -> None:
        """Take the "ready" and answer with the limit."""
        self.answers.recv()
        self.ready = True
        self.tasks.send(self._memory_limit)

    def close(self) -> None:
        """End the process: it holds nothing that could be lost."""
        self._hang_up()
        self.process.kill()
        self.process.wait()
        self._stderr.close()

    def _hang_up(self) -> None:
        self.answers.close()
        self.tasks.close()

    def death(self) -> str:
        """Why the process ended, as a reason for the image it was at."""
        self._hang_up()
        code = self.process.wait()
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        self._stderr.close()
        if code == -signal.SIGALRM:
            return "decoding took longer than one image may"
        if code == -signal.SIGKILL:
            return "the process that decoded it was killed, most likely for want of memory"
        return f"the process that decoded it ended with code {code}{': ' + last[0] if last else ''}"


@dataclass(slots=True)
class _Block:
    """A block on its way: answers come in any order, and in pieces when its process died."""

    key: Any
    items: Sequence[str | Item]
    n_left: int
    parts: list[tuple[list[int], Decoded]] = field(default_factory=list)

    def joined(self, crop: Crop) -> Decoded:
        if len(self.parts) == 1 and len(self.parts[0][0]) == len(self.items):
            return self.parts[0][1]
        result = decode_block([], crop)
        parts = sorted(self.parts, key=lambda part: part[0][0])  # after a death each part is one image
        for positions, part in parts:
            result.good += [positions[i] for i in part.good]
            result.bad += [(positions[i], reason, picture) for i, reason, picture in part.bad]
            result.digests += part.digests
            result.thumbnails += part.thumbnails
            result.originals += part.originals
        result.crops = np.concatenate([part.crops for _, part in parts])
        result.quality = np.concatenate([part.quality for _, part in parts])
        result.places = np.concatenate([part.places for _, part in parts])
        return result


class Decoders:
    """Decoding processes, one per core; use as a context manager.

    Parameters
    ----------
    crop
        How the network's input is cut.
    n
        Processes; None takes one per core this process may use.
    time_limit_s, memory_limit
        Per image, and bytes of address space per process.
    reading
        How the files are read.
    """

    def __init__(
        self,
        crop: Crop,
        n: int | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        memory_limit: int = MEMORY_LIMIT,
        reading: Reading | None = None,
    ) -> None:
        self.crop = crop
        self.reading = reading or Reading()
        self._memory_limit = memory_limit
        self._time_limit_s = time_limit_s
        self._children = [_Child(self._memory_limit) for _ in range(n or n_cores())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.close()

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float = TIME_LIMIT_S) -> Any:
        """One call in a child process; not while `decode` is at work.

        Raises
        ------
        ImageError
            What the function raised, or why its process died.
        """
        child = self._children[0]
        try:
            if not child.ready:
                child.greet()
            child.tasks.send((function, arguments, seconds))
            answer = child.answers.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            if not child.ready:
                raise self._cannot_start(child) from None
            reason = child.death()
            self._children[0] = _Child(self._memory_limit)
            raise ImageError(reason) from None
        if isinstance(answer, ImageError):
            raise answer
        return answer

    @staticmethod
    def _cannot_start(child: _Child) -> IngestError:
        return IngestError(f"images cannot be decoded: {child.death().replace('decoded it', 'should decode them')}")

    def decode(self, blocks: Iterable[tuple[Any, Sequence[str | Item]]]) -> Iterator[tuple[Any, Decoded]]:
        """Decode blocks of files or cut-outs on all processes; results come in the order of `blocks`.

        Each block is (key, items); the key comes back with the result. At most three blocks per process are on their
        way, whatever the number of blocks.
        """
        source = iter(blocks)
        order: deque[_Block] = deque()
        retries: deque[tuple[_Block, list[int]]] = deque()
        exhausted = False
        while True:
            for child in self._children:
                if not child.ready or child.task is not None:
                    continue
                if retries:
                    self._hand(child, *retries.popleft())
                elif not exhausted and len(order) < 3 * len(self._children):
                    following = next(source, None)
                    if following is None:
                        exhausted = True
                        continue
                    key, items = following
                    block = _Block(key, items, len(items))
                    order.append(block)
                    self._hand(child, block, list(range(len(items))))
            while order and order[0].n_left == 0:
                done = order.popleft()
                yield done.key, done.joined(self.crop)
            if exhausted and not order:
                return
            if len(order) >= 3 * len(self._children) or exhausted or all(c.task or not c.ready for c in self._children):
                self._receive(retries)

    def _hand(self, child: _Child, block: _Block, positions: list[int]) -> None:
        child.task = (block, positions)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its pipe says so when it is read
            items = [block.items[i] for i in positions]
            child.tasks.send((decode_block, (items, self.crop, self._time_limit_s, self.reading), 0))

    def _receive(self, retries: deque[tuple[_Block, list[int]]]) -> None:
        """Wait for one or more answers; a process that died is replaced and its block goes on image by image."""
        waited = {child.answers: child for child in self._children if child.task or not child.ready}
        for connection in wait(list(waited)):
            child = waited[connection]  # type: ignore[index]
            try:
                if not child.ready:
                    child.greet()
                    continue
                answer = child.answers.recv()
            except (EOFError, ConnectionResetError):
                self._bury(child, retries)
                continue
            assert child.task is not None
            block, positions = child.task
            child.task = None
            if isinstance(answer, ImageError):  # the block as a whole was too much
                self._retry(block, positions, str(answer), retries)
                continue
            block.parts.append((positions, answer))
            block.n_left -= len(positions)

    def _bury(self, child: _Child, retries: deque[tuple[_Block, list[int]]]) -> None:
        if child.task is None:
            raise self._cannot_start(child)
        reason = child.death()
        self._children[self._children.index(child)] = _Child(self._memory_limit)
        self._retry(*child.task, reason, retries)

    def _retry(
        self, block: _Block, positions: list[int], reason: str, retries: deque[tuple[_Block, list[int]]]
    ) -> None:
        """Go on image by image; where it was one image already, that one is bad."""
        if len(positions) > 1:
            retries.extend((block, [i]) for i in positions)
            return
        result = decode_block([], self.crop)
        result.bad.append((0, reason, None))
        block.parts.append((positions, result))
        block.n_left -= 1


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1]), writable=False), Connection(int(sys.argv[2]), readable=False))
