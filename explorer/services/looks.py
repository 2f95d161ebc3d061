"""What graders look at: pictures that say nothing of where they come from. Callable from a script; thread-safe.

A source's file may tell its name, its place or its maker in a comment; a grade is blind to all of it.
"""

from __future__ import annotations

import json
import re
import struct

import numpy as np

from explorer.errors import SurveyError, VoorwerpError
from explorer.services.originals import Originals
from explorer.survey import Survey

#: Segments of a JPEG that its pixels need: JFIF and Adobe's transform of colors beside tables and scans.
_JPEG_KEPT = {0xE0, 0xEE}
_SCAN, _END = 0xDA, 0xD9
#: What ends a scan, in which FF is followed by 00 or a restart.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def bare(content: bytes, kind: str) -> bytes:
    """A JPEG or PNG without comments, EXIF, texts, profiles and what follows its end; its pixels are the same.

    Raises
    ------
    SurveyError
        It is cut short.
    """
    try:
        return _bare_png(content) if kind == "image/png" else _bare_jpeg(content)
    except (struct.error, IndexError):
        raise SurveyError("this original is cut short and cannot be shown") from None


def _bare_jpeg(content: bytes) -> bytes:
    parts, at = [content[:2]], 2
    while True:
        if content[at] != 0xFF:
            raise IndexError
        marker = content[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == _END:
            return b"".join([*parts, content[at : at + 2]])
        (length,) = struct.unpack_from(">H", content, at + 2)
        end = at + 2 + length
        if marker == _SCAN:
            found = _MARKER.search(content, end)
            if found is None:
                raise IndexError
            end = found.start()
        is_said = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_said or marker in _JPEG_KEPT:
            parts.append(content[at:end])
        at = end


def _bare_png(content: bytes) -> bytes:
    parts, at = [content[:8]], 8
    while True:
        length, name = struct.unpack_from(">I4s", content, at)
        if name in _PNG_KEPT:
            parts.append(content[at : at + 12 + length])
        at += 12 + length
        if name == b"IEND":
            return b"".join(parts)


class Looks:
    """Pictures of one survey for those who grade."""

    def __init__(self, survey: Survey, originals: Originals) -> None:
        self.survey, self._originals = survey, originals

    def picture(self, row: int) -> bytes:
        """As `Originals.picture`; where no original can be shown, the network's crop, and the header says ``is_crop``.

        Raises
        ------
        SurveyError
            There is neither.
        """
        try:
            return self._original(row)
        except VoorwerpError:
            if self.survey.images is None:
                raise
            return self._crop(row)

    def _original(self, row: int) -> bytes:
        packed = self._originals.picture(row)
        (length,) = struct.unpack_from("<I", packed)
        header, pixels = json.loads(packed[4 : 4 + length]), packed[4 + length :]
        if header["type"] == "float32":
            return packed
        return _packed(header, bare(pixels, header["type"]))

    def _crop(self, row: int) -> bytes:
        info, crop = self.survey.info, np.asarray(self.survey.images[row])
        height, width, n = crop.shape
        side, scale = (self.survey.column(name)[row] for name in ("crop_side", "pixel_scale_arcsec"))
        scale = scale if scale > 0 else info.pixel_scale_arcsec or float("nan")
        arcsec = float(scale * side / width)
        header = {
            "width": width,
            "height": height,
            "bands": list(info.bands) if len(info.bands) == n else [f"band {k + 1}" for k in range(n)],
            "rgb": list(info.rgb) if n >= 3 else [0, 0, 0],
            "low": [0.0] * n,
            "high": [255.0] * n,
            "stretch": {"mode": "range"},
            "unit": None,
            "crop": None,
            "pixel_scale": arcsec if np.isfinite(arcsec) else None,
            "is_crop": True,
            "type": "float32",
        }
        return _packed(header, np.ascontiguousarray(np.moveaxis(crop, 2, 0), "<f4").tobytes())


def _packed(header: dict[str, object], pixels: bytes) -> bytes:
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 4)  # planes start where a Float32Array may
    return struct.pack("<I", len(head)) + head + pixels
