"""Palettes, and pure functions from arrays to HoloViews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.palettes import Cividis256, Inferno256, Viridis256

from explorer.raster import DIM, FULL, LEVELS, MISSING, MISSING_DIM, View

GROUND = "#0a0d12"
INK = "#dfe5ee"
QUIET = "#8a94a6"
LINE = "#232a36"
ACCENT = "#6fe3b1"
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
        colors[DIM + level] = _blend(_blend(color, GREY, 0.35), GROUND, 0.38)
    return colors


def latent_map(bounds: View, labels: tuple[str, str], hooks: dict[str, Callable[[Any, Any], None]]) -> hv.Overlay:
    """The map as composed once: axes, the image that /frame fills, and the markers above it.

    Parameters
    ----------
    bounds
        Of all placed subjects, data coordinates; 4 % of margin is added.
    hooks
        By layer: "image", "selected", "focus", "names".
    """
    kdims = [hv.Dimension("x", label=labels[0]), hv.Dimension("y", label=labels[1])]
    x0, x1, y0, y1 = bounds
    mx, my = 0.04 * (x1 - x0), 0.04 * (y1 - y0)
    image = hv.Image(np.zeros((2, 2), np.uint8), bounds=(x0, y0, x1, y1), kdims=kdims, vdims="level").opts(
        cmap=palette("count"), clim=(0, 255), hooks=[hooks["image"]], nodata=None
    )
    markers = {"selected": (15, "#ffffffb0", 1.2), "focus": (20, ACCENT, 2.0)}
    layers = [
        hv.Points(([], []), kdims=kdims).opts(
            hooks=[hooks[name]], marker="circle", size=size, fill_alpha=0, line_color=color, line_width=width
        )
        for name, (size, color, width) in markers.items()
    ]
    names = hv.Labels(([], [], []), kdims=kdims, vdims="name").opts(
        hooks=[hooks["names"]], text_color="#ffffffd0", text_font_size="10px", text_align="left",
        text_baseline="middle", xoffset=0, yoffset=0, backend_opts={"glyph.x_offset": 12},
    )  # fmt: skip
    return hv.Overlay([image, *layers, names]).opts(
        hv.opts.Overlay(
            responsive=True,
            xlim=(x0 - mx, x1 + mx),
            ylim=(y0 - my, y1 + my),
            default_tools=[],
            toolbar=None,
            bgcolor=GROUND,
            show_legend=False,
            apply_ranges=False,
            backend_opts={
                "plot.border_fill_color": GROUND,
                "plot.outline_line_color": None,
                "plot.min_border": 6,
                "plot.xaxis.axis_line_color": LINE,
                "plot.yaxis.axis_line_color": LINE,
                "plot.xgrid.grid_line_color": None,
                "plot.ygrid.grid_line_color": None,
            },
        )
    )
