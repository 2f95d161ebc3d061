"""What a frame's bytes are painted with, on a dark ground and on a light one."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from bokeh.palettes import Cividis256, Inferno256, Magma256, Viridis256

from explorer.raster import DIM, FULL, LEVELS, MISSING, MISSING_DIM

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = ("dark", "light")

GROUNDS: dict[str, str] = {"dark": "#0a0d12", "light": "#ffffff"}
GREY = "#6b7280"

#: Name → colors, darkest first, and the share of them left out at the end that is near the ground: dark, light.
RAMPS = {
    "viridis": (Viridis256, 0.18, 0.14),
    "inferno": (Inferno256, 0.28, 0.14),
    "cividis": (Cividis256, 0.22, 0.12),
    "magma": (Magma256, 0.28, 0.14),
}
#: The share left out at the dark end on a light ground: black is the ink's.
BLACK = 0.06

#: Paul Tol's "muted" and Okabe–Ito: eleven categories that color-blind eyes tell apart, and "other".
CATEGORIES = [
    "#56b4e9", "#e69f00", "#6fe3b1", "#f0e442", "#cc79a7", "#d55e00",
    "#88ccee", "#ddcc77", "#aa8de0", "#cc6677", "#44aa99", "#9aa4b5",
]  # fmt: skip


def blend(color: str, ground: str, share: float) -> str:
    """So much of a color, the rest of a ground."""
    a, b = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (color, ground))
    return "#" + "".join(f"{int(v):02x}" for v in np.rint(a * share + b * (1 - share)))


def ramp(color_by: str, name: str = "auto", theme: Theme = "dark") -> list[str]:
    """The colors of the levels, lowest first: perceptually uniform, the lowest never as the ground.

    Parameters
    ----------
    color_by
        Reference of the coloring: "auto" has one ramp for counts, one for scores and one for all others.
    theme
        On a light ground the ramp is turned round, so that high values stand out there too.
    """
    if name == "auto":
        name = (
            "viridis"
            if color_by == "count"
            else "inferno"
            if color_by.startswith(("scores.", "learned."))
            else "cividis"
        )
    source, on_dark, on_light = RAMPS[name]
    ends = (on_dark, 1.0) if theme == "dark" else (1 - on_light, BLACK)
    return [source[round(i)] for i in np.linspace(255 * ends[0], 255 * ends[1], LEVELS)]


def palette(color_by: str, n_labels: int = 0, name: str = "auto", theme: Theme = "dark") -> list[str]:
    """The 256 colors of a frame's bytes (the table in `explorer.raster`)."""
    return list(_palette(color_by, n_labels, name, theme))


def packed(colors: list[str]) -> str:
    """A palette as the page takes it: of the bytes from 1 on, six hexadecimal digits each."""
    return "".join(color[1:] for color in colors[1:])


@lru_cache(64)
def _palette(color_by: str, n_labels: int, name: str, theme: Theme) -> list[str]:
    levels, ground = ramp(color_by, name, theme), GROUNDS[theme]
    if n_labels:
        levels = (CATEGORIES[:n_labels] + [GREY] * LEVELS)[:LEVELS]
    colors = ["#00000000"] * 256
    colors[MISSING], colors[MISSING_DIM] = GREY, blend(GREY, ground, 0.35)
    for level, color in enumerate(levels):
        colors[FULL + level] = color
        colors[DIM + level] = blend(blend(color, GREY, 0.45), ground, 0.46)
    return colors
