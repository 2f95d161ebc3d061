"""FITS images, whole or in sections: HDUs, cubes, tile compression, gzip, units, missing values, the sky.

Row 0 is the top row on screen, so FITS is flipped: its first row is at the bottom. A WCS that is broken, or does not
solve, is no reason to refuse an image: its coordinates are then unknown.

Standard: Pence et al. 2010, A&A 524, A42; Calabretta & Greisen 2002, A&A 395, 1077.
"""

import io
import math
import os
import stat
import warnings
import weakref
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from explorer.ingest.decoder import Sky
from models.images import MAX_BANDS, MAX_FILE_BYTES, MAX_PIXELS, ImageError, file_size

#: A tile-compressed or gzipped file is held in memory, as far as astropy needs it.
_MAX_SIDE = 1 << 24
_RADIANS = math.pi / 180


def open_section_reader(
    path: str | Path, hdu: str | None = None, bands: Sequence[str] = (), picks: Sequence[str] = ()
) -> "SectionReader":
    """Open an image of a FITS file; its pixels are read when they are asked for.

    Parameters
    ----------
    hdu
        Name or number of the HDU; several, separated by commas, are one band each. None takes those that `picks` or
        `bands` name, else the first image.
    bands
        The bands' names in channel order; where HDUs have these names, each is one band.
    picks
        Per band the plane of a cube (from 0), or the name or number of an HDU.

    Raises
    ------
    ImageError
        No such image, one that is not numbers in a plane or in up to five, or a broken file.
    OSError
        The file cannot be read.
    """
    return SectionReader(Path(path), hdu, tuple(bands), tuple(picks))


class SectionReader:
    """An open FITS image of which sections can be read; `explorer.ingest.decoder.OpenImage`.

    An uncompressed file is read by `os.pread`, row by row: memory does not grow with the file.

    Attributes
    ----------
    shape
        (H, W, bands).
    names
        The bands' names, where the file says them (EXTNAME, FILTER).
    unit, saturated
        BUNIT and SATURATE of the first band.
    wcs
        The celestial `astropy.wcs.WCS` of the first band, in FITS's own pixels (row 0 at the bottom); None where there
        is none.
    pixel_scale
        arcsec per px at the center; None where it is unknown.
    """

    top: float | None = None

    def __init__(self, path: Path, hdu: str | None, bands: tuple[str, ...], picks: tuple[str, ...]) -> None:
        self._handle: int | None = None
        with _refusing():
            self._file = _open(path)
            self._open: list[Callable[[], object]] = [weakref.finalize(self, self._file.close)]
            planes = _planes(self._file, hdu, bands, picks)
        self._planes = planes
        first = planes[0]
        self._path, self._is_told = path, bool(hdu or picks or bands)
        for plane in planes:
            if plane.shape != first.shape:
                sizes = [f"{width:,} × {height:,}" for height, width in (plane.shape, first.shape)]
                raise ImageError(f"HDU {plane.number} has {sizes[0]} px, HDU {first.number} {sizes[1]} px")
        self.shape = (*first.shape, len(planes))
        self.names = tuple(plane.name or "" for plane in planes)
        if not all(self.names) or len(set(self.names)) != len(self.names):
            self.names = ()
        header = first.header
        self.unit = _text(header, "BUNIT")
        levels = [_number(plane.header, "SATURATE") for plane in planes]
        self.saturated = None if None in levels else min(level for level in levels if level is not None)
        self.wcs = _celestial(header, self._file)
        center = self.sky((self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2)
        self.pixel_scale = None if center is None else center.pixel_scale
        if any(plane.offset is not None for plane in planes):
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open.append(weakref.finalize(self, os.close, self._handle))
        if all(plane.offset is not None for plane in planes):
            self._file.close()

    def choices(self) -> tuple[str, ...]:
        """Names of all images in the file, where nobody told which is meant and the first is read; else ().

        Raises
        ------
        ImageError, OSError
            A header further on is broken.
        """
        if self._is_told:
            return ()
        with _refusing():
            if self._handle is None:  # the file is open
                return _images(self._file)
            with _open(self._path) as file:
                return _images(file)

    def close(self) -> None:
        """Let go of the file."""
        for let_go in self._open:
            let_go()

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """float32 (height, width, bands), NaN where missing, of a box inside the image.

        Raises
        ------
        ValueError
            The box is not inside the image.
        ImageError
            The data is broken, or ends too early.
        OSError
            The file cannot be read.
        """
        n_rows, n_columns, n_bands = self.shape
        if not (0 <= top < top + height <= n_rows and 0 <= left < left + width <= n_columns):
            raise ValueError(f"{width} × {height} px at ({left}, {top}) are not inside of {n_columns} × {n_rows} px")
        values = np.empty((height, width, n_bands), np.float32)
        bottom = n_rows - top - height  # in FITS's own rows
        for band, plane in enumerate(self._planes):
            if plane.offset is not None:
                assert self._handle is not None
                rows = plane.pread(self._handle, bottom, left, height, width)
            else:
                with _refusing():
                    rows = plane.section(bottom, left, height, width)
            values[:, :, band] = rows[::-1]
        values[~np.isfinite(values)] = np.nan
        return values

    def sky(self, x: float, y: float) -> Sky | None:
        """The sky at a pixel: x to the right, y down, the center of the first pixel at the top left is (0, 0)."""
        if self.wcs is None:
            return None
        up = self.shape[0] - 1 - y
        with _quiet():
            try:
                ra, dec = _degrees(
                    self.wcs, np.array([x, x + 0.5, x - 0.5, x, x]), np.array([up, up, up, up + 0.5, up - 0.5])
                )
            except Exception:  # wcslib and astropy raise anything on a WCS that does not solve
                return None
        if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
            return None
        east = ((ra - ra[0] + 180) % 360 - 180) * math.cos(dec[0] * _RADIANS)
        cd = (east[1] - east[2], east[3] - east[4], dec[1] - dec[2], dec[3] - dec[4])
        found = Sky(float(ra[0]) % 360, float(dec[0]), (float(cd[0]), float(cd[1]), float(cd[2]), float(cd[3])))
        return found if 0 < found.pixel_scale < 36_000 else None

    def coordinates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination (deg, ICRS) of pixels as in `sky`; NaN where there is no WCS that solves."""
        unknown = np.full(len(x), np.nan)
        if self.wcs is None or len(x) == 0:
            return unknown, unknown
        with _quiet():
            try:
                ra, dec = _degrees(self.wcs, x, self.shape[0] - 1 - y)
            except Exception:  # wcslib and astropy raise anything on a WCS that does not solve
                return unknown, unknown
        return ra % 360, dec

    def pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where coordinates (deg, ICRS) lie: x to the right and y down, px; NaN where they do not lie in the plane.

        Raises
        ------
        ImageError
            The image has no WCS that solves.
        """
        if self.wcs is None:
            raise ImageError("has no WCS that solves: where its pixels lie on the sky is not known")
        ra, dec = np.atleast_1d(np.asarray(ra, np.float64)), np.atleast_1d(np.asarray(dec, np.float64))
        x, up = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
        is_given = np.isfinite(ra) & np.isfinite(dec)
        with _quiet():
            try:
                x[is_given], up[is_given] = _from_degrees(self.wcs, ra[is_given], dec[is_given])
            except Exception as error:  # likewise
                raise ImageError(f"has a WCS that does not solve ({_plain(error)})") from None
            back = np.full((2, len(ra)), np.nan)
            is_there = np.isfinite(x) & np.isfinite(up)
            back[:, is_there] = _degrees(self.wcs, x[is_there], up[is_there])
            # a gnomonic projection maps the far side of the sky onto the image, too
            away = np.hypot((back[0] - ra + 180) % 360 - 180, back[1] - dec)
        is_far = ~(away * np.cos(np.minimum(np.abs(dec), 89) * _RADIANS) < 0.1)
        x[is_far] = up[is_far] = np.nan
        return x, self.shape[0] - 1 - up


# -------------------------------------------------------------------------------------------------------- one plane
class _Plane:
    """One band: a 2-D image, or a plane of a cube."""

    def __init__(self, file: Any, number: int, plane: int, name: str | None) -> None:
        hdu = file[number]
        self.header, self.number, self.name = hdu.header, number, name
        self._hdu, self._plane = hdu, plane
        height, width = hdu.shape[-2:]
        self.shape = (int(height), int(width))
        self.offset: int | None = None
        header = hdu.header
        if isinstance(hdu, fits.CompImageHDU) or isinstance(file._file_for_images, io.BytesIO):
            tiles = getattr(hdu, "tile_shape", ())
            if math.prod(tiles) > MAX_PIXELS:
                raise ImageError(f"is compressed in tiles of {math.prod(tiles):,} px; at most {MAX_PIXELS:,} are read")
            return
        self._type = np.dtype({8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}[int(hdu._bitpix)])
        self._scale, self._zero = float(hdu._orig_bscale), float(hdu._orig_bzero)
        blank = header.get("BLANK")
        self._blank = int(blank) if self._type.kind != "f" and isinstance(blank, int) else None
        self.offset = int(file.fileinfo(number)["datLoc"]) + plane * height * width * self._type.itemsize

    def pread(self, handle: int, bottom: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows from the bottom up, float (height, width), of the uncompressed file."""
        assert self.offset is not None
        size, n_columns = self._type.itemsize, self.shape[1]
        start = self.offset + (bottom * n_columns + left) * size
        if width == n_columns:
            content = _pread(handle, height * width * size, start)
        else:
            content = b"".join(_pread(handle, width * size, start + row * n_columns * size) for row in range(height))
        stored = np.frombuffer(content, self._type).reshape(height, width)
        values: np.ndarray = stored.astype(
            np.float32 if self._type.itemsize <= 2 or self._type.kind == "f" else np.float64
        )
        if self._scale != 1:
            values *= self._scale
        if self._zero != 0:
            values += self._zero
        if self._blank is not None:
            values[stored == self._blank] = np.nan
        return values

    def section(self, bottom: int, left: int, height: int, width: int) -> np.ndarray:
        """The same by astropy: of a compressed file, the tiles that are needed."""
        leading = np.unravel_index(self._plane, self._hdu.shape[:-2]) if len(self._hdu.shape) > 2 else ()
        where = (*(int(i) for i in leading), slice(bottom, bottom + height), slice(left, left + width))
        return np.asarray(self._hdu.section[where]).reshape(height, width)


def _pread(handle: int, n: int, offset: int) -> bytes:
    """Exactly `n` bytes."""
    pieces = []
    while n:
        piece = os.pread(handle, n, offset)
        if not piece:
            raise ImageError("the data ends before the image does (the file is truncated)")
        pieces.append(piece)
        n, offset = n - len(piece), offset + len(piece)
    return b"".join(pieces)


# ------------------------------------------------------------------------------------------------------ which planes
def _open(path: Path) -> Any:
    """The file by astropy, without its data; gzip is unpacked into memory."""
    n_bytes = _stored_size(path)
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    if is_gzip:
        if n_bytes > MAX_FILE_BYTES:
            raise ImageError(f"is gzipped and has {n_bytes:,} bytes; unpack it, or compress it in tiles (.fz)")
        content = io.BytesIO(_unpacked(path))
        opened = fits.open(content, memmap=False, lazy_load_hdus=True)
        opened._file_for_images = content
        return opened
    opened = fits.open(path, memmap=False, lazy_load_hdus=True)
    opened._file_for_images = None
    return opened


def _stored_size(path: Path) -> int:
    """Bytes of a file; a large one is no reason to refuse it, because only sections are read."""
    try:
        return file_size(path)
    except ImageError:
        found = path.stat() if path.exists() else None
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size <= MAX_FILE_BYTES:
            raise
        return found.st_size


def _unpacked(path: Path) -> bytes:
    reader, pieces, n = zlib.decompressobj(31), [], 0
    with path.open("rb") as file:
        while packed := file.read(1 << 20):
            while packed:
                if reader.eof:  # another member follows
                    reader = zlib.decompressobj(31)
                piece = reader.decompress(packed, 1 << 24)
                pieces.append(piece)
                n += len(piece)
                if n > MAX_FILE_BYTES:
                    raise ImageError(f"is gzipped and holds more than {MAX_FILE_BYTES:,} bytes")
                packed = reader.unused_data if reader.eof else reader.unconsumed_tail
    if not reader.eof:
        raise ImageError("the gzipped data is truncated")
    return b"".join(pieces)


def _planes(file: Any, hdu: str | None, bands: tuple[str, ...], picks: tuple[str, ...]) -> list[_Plane]:
    """The planes that are the bands, in order."""
    if hdu is not None and "," in hdu:
        return [_only(file, _number_of(file, name.strip()), name.strip()) for name in hdu.split(",")]
    if hdu is None:
        names = picks or bands
        if len(names) > 1 or picks:
            numbers = [_find(file, name) for name in names]
            if all(number is not None for number in numbers):
                return [_only(file, n, name) for n, name in zip(numbers, bands or names, strict=True) if n is not None]
        number = _first_image(file)
    else:
        number = _number_of(file, hdu)
    shape = _checked(file, number)
    n = math.prod(shape[:-2])
    header = file[number].header
    if picks and all(pick.isdecimal() for pick in picks):
        if outside := [pick for pick in picks if int(pick) >= n]:
            raise ImageError(f"HDU {number} has no plane {outside[0]}; it has {n}, counted from 0")
        return [_Plane(file, number, int(pick), name) for pick, name in zip(picks, bands or picks, strict=True)]
    if picks:
        raise ImageError(f"has no HDU {' or '.join(picks)}; it has {_listed(file)}")
    if n > MAX_BANDS:
        raise ImageError(f"HDU {number} is a cube of {n:,} planes; choose up to {MAX_BANDS} with --bands name=PLANE")
    if n == 1:
        return [_Plane(file, number, 0, _text(header, "FILTER"))]
    return [_Plane(file, number, i, _text(header, f"BAND{i + 1}")) for i in range(n)]


def _only(file: Any, number: int, name: str) -> _Plane:
    """The one plane of an HDU that is a band."""
    shape = _checked(file, number)
    if math.prod(shape[:-2]) != 1:
        raise ImageError(f"HDU {number} is a cube of {math.prod(shape[:-2])} planes, not one band")
    return _Plane(file, number, 0, name)


def _checked(file: Any, number: int) -> tuple[int, ...]:
    """The shape of an HDU that can be an image."""
    hdu = file[number]
    shape = tuple(int(n) for n in (getattr(hdu, "shape", None) or ()))
    if not getattr(hdu, "is_image", False) or not shape:
        raise ImageError(f"HDU {number} holds no image; the file has {_listed(file)}")
    if len(shape) < 2:
        raise ImageError(f"HDU {number} has one axis of {shape[0]:,} values; an image has two")
    if min(shape) < 1 or max(shape) > _MAX_SIDE:
        raise ImageError(f"HDU {number} promises {' × '.join(f'{n:,}' for n in reversed(shape))} px")
    if not isinstance(hdu, fits.CompImageHDU) and file._file_for_images is None:
        needed = math.prod(shape) * abs(int(hdu._bitpix)) // 8
        if file.fileinfo(number)["datLoc"] + needed > Path(file.filename()).stat().st_size:
            raise ImageError("the data ends before the image does (the file is truncated)")
    return shape


def _first_image(file: Any) -> int:
    number = 0
    while True:
        try:
            hdu = file[number]
        except IndexError:
            raise ImageError(f"holds no image; the file has {_listed(file)}") from None
        if _is_image(hdu):
            return number
        number += 1


def _is_image(hdu: Any) -> bool:
    return getattr(hdu, "is_image", False) and len(getattr(hdu, "shape", None) or ()) >= 2


def _images(file: Any) -> tuple[str, ...]:
    return tuple(str(hdu.name).strip() or str(number) for number, hdu in enumerate(file) if _is_image(hdu))


def _find(file: Any, name: str) -> int | None:
    """Number of the HDU of this name; None where there is none."""
    for number, hdu in enumerate(file):
        if str(hdu.name).strip().upper() == name.upper():
            return number
    return None


def _number_of(file: Any, name: str) -> int:
    found = _find(file, name)
    if found is None and name.isdecimal() and int(name) < len(file):
        found = int(name)
    if found is None:
        raise ImageError(f"has no HDU {name}; it has {_listed(file)}")
    return found


def _listed(file: Any) -> str:
    """What is in a file, in few words."""
    said = [f"{i} {hdu.name}".strip() for i, hdu in enumerate(file)]
    return ", ".join(said[:8]) + (" …" if len(said) > 8 else "")


# --------------------------------------------------------------------------------------------------------- the sky
def _celestial(header: Any, file: Any) -> Any:
    with _quiet():
        try:
            wcs = WCS(header, fobj=file if "CPDIS1" in header or "D2IMDIS1" in header else None)
            if not wcs.has_celestial or not _is_anchored(header, wcs.wcs.lng + 1, wcs.wcs.lat + 1):
                return None
            return wcs.celestial
        except Exception:  # wcslib and astropy raise anything on a broken WCS
            return None


def _is_anchored(header: Any, *axes: int) -> bool:
    """Whether the header itself says where the image lies and how large its pixels are: wcslib would make it up."""
    matrices = {kind: [f"{kind}{i}_{j}" for i in axes for j in axes] for kind in ("CD", "PC")}
    for keys in (matrices["CD"], [f"CDELT{i}" for i in axes], matrices["PC"]):
        if scales := [header[key] for key in keys if key in header]:
            break
    places = [header.get(f"CRVAL{i}") for i in axes]
    return any(scales) and all(isinstance(value, int | float) for value in (*places, *scales))


def _degrees(wcs: Any, x: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS coordinates of FITS's own pixels."""
    if _is_equatorial(wcs):
        first, second = wcs.all_pix2world(x, up, 0)
        return np.asarray(first), np.asarray(second)
    sky = wcs.pixel_to_world(x, up).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def _from_degrees(wcs: Any, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FITS's own pixels of ICRS coordinates."""
    if not _is_equatorial(wcs):
        from astropy.coordinates import SkyCoord
        from astropy.wcs.utils import wcs_to_celestial_frame

        sky = SkyCoord(ra, dec, unit="deg").transform_to(wcs_to_celestial_frame(wcs)).spherical
        ra, dec = sky.lon.deg, sky.lat.deg
    x, up = wcs.all_world2pix(ra, dec, 0, quiet=True)
    return np.asarray(x), np.asarray(up)


def _is_equatorial(wcs: Any) -> bool:
    """Right ascension and declination of J2000: FK5 and ICRS differ by less than 0.03 arcsec."""
    equinox = wcs.wcs.equinox
    return (wcs.wcs.lngtyp, wcs.wcs.lattyp) == ("RA", "DEC") and (math.isnan(equinox) or equinox == 2000)


# ------------------------------------------------------------------------------------------------------- broken files
class _quiet(warnings.catch_warnings):
    """Odd headers are no concern here: what matters is checked."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


class _refusing(_quiet):
    """Whatever astropy raises on a broken file becomes an `ImageError`."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if error is None or isinstance(error, ImageError | MemoryError) or not isinstance(error, Exception):
            return
        if isinstance(error, OSError) and error.errno is not None:
            return
        raise ImageError(f"is not a FITS image that can be read ({_plain(error)})") from None


def _plain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the header has no possible {error.args[0] if isinstance(error.args[0], str) else 'BITPIX'}"
    if isinstance(error, TypeError | AttributeError):
        return "the header has a text where a number belongs"
    return " ".join(str(error).split(". ")[0].split())[:200] or type(error).__name__


def _text(header: Any, key: str) -> str | None:
    with _quiet():
        try:
            value = header.get(key)
        except Exception:  # astropy raises anything on a broken card
            return None
    return (value.strip() or None) if isinstance(value, str) else None


def _number(header: Any, key: str) -> float | None:
    with _quiet():
        try:
            value = header.get(key)
        except Exception:  # likewise
            return None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value != 0 else None
