"""Palettes, and pure functions from arrays to HoloViews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.models import ColumnDataSource, Scatter, Text
from bokeh.palettes import Cividis256, Inferno256, Viridis256

from explorer.raster import DIM, FULL, LEVELS, MISSING, MISSING_DIM, View

GROUND = "#0a0d12"
INK = "#dfe5ee"
QUIET = "#8a94a6"
LINE = "#232a36"
ACCENT = "#6fe3b1"
WARM = "#ffb454"
STRAY = "#ff5d8f"
GREY = "#6b7280"

#: Paul Tol's "muted" and Okabe–Ito, for dark ground: eleven categories that color-blind eyes tell apart, and "other".
CATEGORIES = [
    "#56b4e9", "#e69f00", "#6fe3b1", "#f0e442", "#cc79a7", "#d55e00",
    "#88ccee", "#ddcc77", "#aa8de0", "#cc6677", "#44aa99", "#9aa4b5",
]  # fmt: skip


def _blend(color: str, ground: str, share: float) -> str:
    a, b = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (color, ground))
    return "#" + "".join(f"{int(v):02x}" for v in np.rint(a * share + b * (1 - share)))


def ramp(color_by: str) -> list[str]:
    """The colours of the levels, lowest first: perceptually uniform, and never as dark as the ground."""
    if color_by == "count":
        source, start = Viridis256, 0.18
    elif color_by.startswith("scores."):
        source, start = Inferno256, 0.28
    else:
        source, start = Cividis256, 0.22
    at = np.linspace(start * 255, 255, LEVELS)
    return [source[round(i)] for i in at]


def palette(color_by: str, n_labels: int = 0) -> list[str]:
    """The 256 colours of a frame's bytes (the table in `explorer.raster`)."""
    levels = ramp(color_by)
    if n_labels:
        levels = (CATEGORIES[:n_labels] + [GREY] * LEVELS)[:LEVELS]
    colors = ["#00000000"] * 256
    colors[MISSING], colors[MISSING_DIM] = GREY, _blend(GREY, GROUND, 0.35)
    for level, color in enumerate(levels):
        colors[FULL + level] = color
        colors[DIM + level] = _blend(_blend(color, GREY, 0.45), GROUND, 0.46)
    return colors


def with_margin(bounds: View) -> View:
    """4 % more on every side."""
    x0, x1, y0, y1 = bounds
    mx, my = 0.04 * (x1 - x0), 0.04 * (y1 - y0)
    return x0 - mx, x1 + mx, y0 - my, y1 + my


def latent_map(view: View, labels: tuple[str, str], hook: Callable[[Any, Any], None]) -> hv.Image:
    """The map as composed once: axes, ranges, and the image that /frame fills.

    Parameters
    ----------
    view
        x0, x1, y0, y1 to open with, data coordinates.
    hook
        Gets the rendered plot: tools and markers are added there.
    """
    x0, x1, y0, y1 = view
    kdims = [hv.Dimension("x", label=labels[0]), hv.Dimension("y", label=labels[1])]
    return hv.Image(np.zeros((2, 2), np.uint8), bounds=(x0, y0, x1, y1), kdims=kdims, vdims="level").opts(
        cmap=palette("count"),
        clim=(0, 255),
        hooks=[hook],
        nodata=None,
        responsive=True,
        xlim=(x0, x1),
        ylim=(y0, y1),
        default_tools=[],
        toolbar=None,
        bgcolor=GROUND,
        apply_ranges=False,
        backend_opts={
            "plot.border_fill_color": GROUND,
            "plot.outline_line_color": None,
            "plot.min_border": 6,
            "plot.xgrid.grid_line_color": None,
            "plot.ygrid.grid_line_color": None,
        },
    )


def add_strays(figure: Any, xy: np.ndarray) -> None:
    """Draw what is off the map, (n, 2), above it: diamonds, for where they lie says little."""
    source = ColumnDataSource({"x": xy[:, 0], "y": xy[:, 1]})
    mark = Scatter(x="x", y="y", marker="diamond", size=11, fill_alpha=0, line_color=STRAY, line_width=1.4)
    figure.add_glyph(source, mark, name="off the map")


def add_markers(figure: Any) -> dict[str, ColumnDataSource]:
    """Draw above the map: rings of a small selection, the ring of the focus, names. Returns each one's source."""
    sources = {name: ColumnDataSource({"x": [], "y": []}) for name in ("selected", "focus")}
    sources["names"] = ColumnDataSource({"x": [], "y": [], "name": []})
    for name, size, color, width in (("selected", 15, "#ffffffb0", 1.2), ("focus", 20, ACCENT, 2.5)):
        ring = Scatter(x="x", y="y", marker="circle", size=size, fill_alpha=0, line_color=color, line_width=width)
        figure.add_glyph(sources[name], ring)
    text = Text(
        x="x", y="y", text="name", x_offset=12, text_baseline="middle", text_color="#ffffffd0", text_font_size="10px"
    )
    figure.add_glyph(sources["names"], text)
    return sources
