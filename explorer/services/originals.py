"""What people look at: the original of a subject at its own resolution, ready for the page to stretch by itself."""

from __future__ import annotations

import io
import json
import math
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from explorer.errors import SurveyError
from explorer.ingest.calibration import how_made
from explorer.ingest.decoder import Decoders, read_original
from explorer.ingest.shown import shown
from explorer.survey import Link, Survey
from models.images import ImageError, Linear, Stretch, media_type, open_header, read_linear

ENCODED = ("image/jpeg", "image/png")
OURS = "application/gzip"
_ORIENTATION = 0x0112
#: Suffix of a saved original, by media type.
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/tiff": ".tif", "application/gzip": ".fits.gz"}


class Originals:
    """Reads the originals of one survey for many sessions; linked ones are decoded in a process of their own."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self._decoders: Decoders | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the decoding process, if there is one."""
        with self._lock:
            if self._decoders is not None:
                self._decoders.__exit__()
                self._decoders = None

    def source(self, row: int) -> tuple[bytes, str]:
        """The kept bytes of a row and their media type: the source file, or the linear cut as gzip'ed FITS.

        Raises
        ------
        SurveyError
            The survey keeps no originals, or a linked file is gone or was changed.
        """
        content, kind = self.survey.original(row)
        if not content.startswith(b'{"link"'):
            return content, kind
        link = Link.from_bytes(content)
        if problem := link.problem():
            raise SurveyError(f"the original stayed outside of the survey, and {problem}")
        try:
            content = self._outside(read_original, json.loads(content), *how_made(self.survey.info))
        except ImageError as error:
            raise SurveyError(f"the linked original {link.paths[0]} cannot be shown: {error}") from None
        return content, media_type(content)

    def _outside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what opens outside bytes in a process of its own, with limits on memory and time."""
        with self._lock:
            if self._decoders is None:
                self._decoders = Decoders(self.survey.info.cut, n=1)
            return self._decoders.call(function, *arguments)

    def shown(self, row: int, longest: int) -> tuple[bytes, int, int]:
        """A row's whole original as JPEG, sides at most `longest` px, and its own width and height, px.

        Raises
        ------
        SurveyError
            There is no original, or it cannot be shown.
        """
        content, _ = self.source(row)
        info = self.survey.info
        try:
            made: tuple[bytes, int, int] = self._outside(
                shown, content, info.stretch.to_dict(), info.rgb, len(info.bands), longest
            )
        except ImageError as error:
            raise SurveyError(f"this original cannot be shown: {error}") from None
        return made

    def picture(self, row: int) -> bytes:
        """A picture for `assets/viewer.js`: uint32 length of a JSON header, the header, then the pixels.

        The header says width, height, bands, rgb (indices shown as red, green, blue), low and high (values at 0 and 1,
        per band), stretch, unit, pixel_scale (arcsec), crop (left, top, side in px) and type: ``image/jpeg`` or
        ``image/png`` (the source's bytes follow, 8-bit), else ``float32`` (planes follow, one a band).

        Raises
        ------
        SurveyError
            There is no original, or it cannot be shown.
        """
        content, kind = self.source(row)
        try:
            header, pixels = self._decoded(content, kind)
        except ImageError as error:
            raise SurveyError(f"this original cannot be shown: {error}") from None
        header |= self._place(row, header["width"], header["height"])
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 4)  # planes start where a Float32Array may
        return struct.pack("<I", len(head)) + head + pixels

    def _decoded(self, content: bytes, kind: str) -> tuple[dict[str, Any], bytes]:
        info = self.survey.info
        if kind in ENCODED:
            image = open_header(content)
            plain = image.mode in ("L", "RGB", "P") and "transparency" not in image.info and _is_upright(image)
            if plain and (len(info.bands) == 3 or image.mode == "L") and not info.stretch.per_image:
                bands = list(info.bands) if image.mode != "L" else [info.bands[0] if len(info.bands) == 1 else "grey"]
                header = self._header(image.width, image.height, bands, 255.0, None, None)
                return header | {"type": kind}, content
        # what a survey keeps of linear values is its own; a source's bytes are not
        linear, names = read_linear(content) if kind == OURS else self._outside(read_linear, content)
        values = linear.values
        height, width, n_bands = values.shape
        bands = names if len(names) == n_bands else [f"band {k + 1}" for k in range(n_bands)]
        header = self._header(width, height, bands, linear.top, linear.unit, linear)
        planes = np.ascontiguousarray(np.moveaxis(values, 2, 0), "<f4")
        return header | {"type": "float32"}, planes.tobytes()

    def _header(
        self, width: int, height: int, bands: list[str], top: float | None, unit: str | None, linear: Linear | None
    ) -> dict[str, Any]:
        info = self.survey.info
        same = len(bands) == len(info.bands)
        stretch = info.stretch
        n = len(bands)
        if stretch.mode == "lupton" and same:
            assert stretch.q is not None and stretch.stretch is not None and stretch.minimum is not None
            # where the curve of the mean reaches 1
            high = stretch.minimum + stretch.stretch / stretch.q * math.sinh(10 * math.asinh(0.1 * stretch.q))
            low_high = [stretch.minimum] * n, [high] * n
        elif stretch.low and same and not stretch.per_image:
            low_high = list(stretch.low) * (n // len(stretch.low)), list(stretch.high) * (n // len(stretch.high))
        elif top is not None and stretch.mode == "range":
            low_high = [0.0] * n, [top] * n
        else:
            low_high = percentiles_of(linear, stretch)
        return {
            "width": width,
            "height": height,
            "bands": bands,
            "rgb": list(info.rgb) if same else [0, 0, 0],
            "low": low_high[0],
            "high": low_high[1],
            "stretch": stretch.to_dict() if same else Stretch().to_dict(),
            "unit": unit,
        }

    def _place(self, row: int, width: int, height: int) -> dict[str, Any]:
        """Where the network's crop lies, and the scale of the pixels."""
        record = self.survey.subject(row)
        side, left, top = (record[f"crop_{name}"] for name in ("side", "left", "top"))
        crop = None
        if isinstance(side, int):
            left = (width - side) // 2 if left is None else left
            top = (height - side) // 2 if top is None else top
            crop = {"left": left, "top": top, "side": side}
        return {"crop": crop, "pixel_scale": record["pixel_scale_arcsec"] or self.survey.info.pixel_scale_arcsec}


def _is_upright(image: Image.Image) -> bool:
    """Whether a browser shows it as stored; only the header is read (Pillow would decode a PNG to look for more)."""
    return not image.info.get("exif") or image.getexif().get(_ORIENTATION, 1) == 1


def percentiles_of(linear: Linear | None, stretch: Stretch) -> tuple[list[float], list[float]]:
    """Values at 0 and 1 of each band of one image, by the stretch's percentiles."""
    if linear is None:
        return [0.0], [255.0]
    told = Stretch("percentile", percentiles=stretch.percentiles).derived(
        linear.values.reshape(-1, linear.values.shape[2])
    )
    return list(told.low), list(told.high)


def png(pixels: np.ndarray, rgb: tuple[int, int, int]) -> bytes:
    """uint8 (H, W, bands) as PNG: grey, or the bands `rgb` as red, green and blue."""
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., list(rgb)]
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(out, "png", compress_level=1)
    return out.getvalue()
