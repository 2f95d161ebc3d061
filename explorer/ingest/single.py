"""One outside image that becomes no subject, cut as a survey cuts; called in the decoding process.

What it is goes by its first bytes, not by its name: PNG, JPEG or FITS (gzipped, too).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from explorer.ingest.decoder import Item, Reading, decode_block
from models.images import Crop, ImageError, Stretch, file_size, open_header, prepare_linear, read_linear, rgb_of

#: What is read, by its first bytes: the suffix by which it is then known.
KINDS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"SIMPLE  =", ".fits"),
    (b"\x1f\x8b", ".fits.gz"),
)


@dataclass(frozen=True, slots=True)
class Single:
    """An outside image as a survey's network sees it.

    Attributes
    ----------
    crop
        uint8 (size, size, bands).
    quality
        `models.images.QUALITY_COLUMNS` of it.
    thumbnail
        JPEG of the whole image.
    notes
        Sentences on how it was read, where that is not as a file of the survey would be.
    """

    crop: np.ndarray
    quality: tuple[float, ...]
    thumbnail: bytes
    notes: tuple[str, ...]


def cut_single(path: str, crop: Crop, reading: Reading, pixel_scale: float | None = None) -> Single:
    """Cut an image around its center as a survey cuts; the file gets the suffix of what it is.

    FITS is read as the survey's files are: its bands by their names, its values by the survey's stretch. A picture is
    taken as it is shown: where the survey's images hold physical values, as one that was stretched already. A picture
    of the size of a crop, smaller than what a crop is cut from, is taken as a crop.

    Parameters
    ----------
    crop, reading
        Of the survey: `explorer.ingest.calibration.how_made`.
    pixel_scale
        arcsec per px of the survey's originals, where they have one; what a picture is cut by if the crop is in arcsec.

    Raises
    ------
    ImageError
        It is none of these, broken, or has other bands than the survey.
    """
    file_size(Path(path))
    with Path(path).open("rb") as file:
        head = file.read(16)
    suffix = next((suffix for first, suffix in KINDS if head.startswith(first)), None)
    if suffix is None:
        raise ImageError("it is not a PNG, JPEG or FITS file")
    Path(path).rename(path + suffix)
    is_picture = suffix in (".png", ".jpg")
    try:
        return (_picture if is_picture else _fits)(path + suffix, crop, reading, pixel_scale)
    except ImageError as error:
        reason = str(error)
        if " in a survey of " in reason and reading.bands:
            reason += f" ({', '.join(reading.bands)})"
        raise ImageError(
            f"it {reason}" if reason.startswith(("has ", "is ", "holds ", "cannot ")) else reason
        ) from None


def _picture(path: str, crop: Crop, reading: Reading, pixel_scale: float | None) -> Single:
    if crop.n_bands not in (1, 3):
        named = f" ({', '.join(reading.bands)})" if reading.bands else ""
        raise ImageError(
            f"it is a picture, and this survey's images have {crop.n_bands} bands{named}: give a FITS file"
        )
    with open_header(Path(path)) as header:
        sides = header.size
    notes = []
    is_shown = reading.stretch.mode != "range"
    scale = reading.pixel_scale or pixel_scale
    if reading.extent_arcsec and scale:
        crop = replace(crop, extent=max(1, round(reading.extent_arcsec / scale)))
    square = crop.extent or crop.size
    if crop.mode == "center" and sides == (crop.size, crop.size) and (square > crop.size or reading.extent_arcsec):
        crop = replace(crop, extent=None)
        notes.append(f"It has the size of a crop, {crop.size} × {crop.size} px, and was taken as one.")
    elif reading.extent_arcsec and not scale:
        raise ImageError(
            f"crops of this survey are {reading.extent_arcsec:g} arcsec wide, and a picture has no pixel scale: give a "
            f"FITS file with a WCS, or a crop of {crop.size} × {crop.size} px"
        )
    if is_shown:
        notes.append("A picture holds no physical values: it was taken as one that this survey's stretch had made.")
    single = _decoded(path, crop, Reading(stretch=Stretch(), originals="link"), notes)
    if is_shown and crop.n_bands == 3:  # its red is that of the band which is shown as red
        order = np.argsort(rgb_of(reading.bands))
        single = replace(single, crop=np.ascontiguousarray(single.crop[:, :, order]))
    return single


def _fits(path: str, crop: Crop, reading: Reading, pixel_scale: float | None) -> Single:
    if path.endswith(".gz") and (kept := _kept(path, crop, reading)) is not None:
        return kept
    return _decoded(path, crop, replace(reading, originals="link", roots=()), [])


def _decoded(path: str, crop: Crop, reading: Reading, notes: list[str]) -> Single:
    made = decode_block([Item((path,))], crop, 0, reading)
    if made.bad:
        raise ImageError(made.bad[0][1])
    quality = tuple(map(float, made.quality[0]))
    if quality[0] > 0:
        notes = [*notes, f"{100 * quality[0]:.0f} % of the crop lie outside the image."]
    return Single(made.crops[0], quality, made.thumbnails[0], tuple(notes))


def _kept(path: str, crop: Crop, reading: Reading) -> Single | None:
    """An original as a survey with these bands keeps it: its values were read before; None where it is another file."""
    try:
        linear, names = read_linear(Path(path).read_bytes())
    except ImageError:
        return None
    if tuple(names) != reading.bands or linear.values.shape[2] != crop.n_bands:
        return None
    height, width, _ = linear.values.shape
    side: int | None = None
    if crop.mode == "center":
        side = crop.extent or crop.size
        scale = reading.pixel_scale or linear.pixel_scale
        if reading.extent_arcsec and scale:
            side = max(1, round(reading.extent_arcsec / scale))
    left, top = (0, 0) if side is None else ((width - side) // 2, (height - side) // 2)
    bands = names if linear.top is None else ()
    made = prepare_linear(linear, left, top, side, crop, reading.stretch, rgb_of(names), bands)
    notes = (f"{100 * made.quality[0]:.0f} % of the crop lie outside the image.",) if made.quality[0] > 0 else ()
    return Single(made.crop, tuple(map(float, made.quality)), made.thumbnail, notes)
