"""An original as a small JPEG, for pages that show many of them; called in the decoding process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from models.images import (
    ImageError,
    Stretch,
    decode,
    eight_bit,
    is_color,
    open_header,
    read_linear,
    reduced,
    shown_image,
)


def shown(
    content: bytes, stretch: Mapping[str, Any], rgb: tuple[int, int, int], n_bands: int, longest: int
) -> tuple[bytes, int, int]:
    """The whole original as people look at it: by the survey's stretch, averaged down where it is larger, as JPEG.

    Parameters
    ----------
    content
        What the survey keeps of it: a picture's bytes, or linear values.
    stretch
        The survey's, as `Stretch.to_dict` writes it. Of an original with other bands than the survey's the percentiles
        are its own.
    rgb
        Bands shown as red, green and blue.
    n_bands
        Of the survey.
    longest
        Sides are at most so many px; nothing is enlarged.

    Returns
    -------
    tuple
        The JPEG, and width and height of the original, px.

    Raises
    ------
    ImageError
        It cannot be read.
    """
    told = Stretch.from_dict(stretch)
    if told.mode == "range" and not content.startswith(b"\x1f\x8b"):
        with open_header(content) as header:
            width, height = header.size
            if header.format == "JPEG":
                header.draft(None, (2 * longest, 2 * longest))  # decodes no more than is shown
            image = eight_bit(decode(header, 3 if is_color(header) else 1))
    else:
        linear, names = read_linear(content)
        height, width, n = linear.values.shape
        if n != n_bands:
            told = Stretch("percentile", percentiles=told.percentiles).derived(linear.values.reshape(-1, n))
            rgb = (0, 1, 2) if n == 3 and "r" in names else (0, 0, 0)
        image = shown_image(reduced(linear, 2 * longest)[0], told.fixed(linear.values), rgb)
    if max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    if not np.asarray(image).size:
        raise ImageError("has no pixels")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85, comment=b"")  # Pillow would hand on what a camera or a person wrote
    return out.getvalue(), width, height
