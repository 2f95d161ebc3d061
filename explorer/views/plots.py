"""Pure functions from arrays to HoloViews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.models import ColumnDataSource, Scatter, Text

from explorer.raster import View
from explorer.services.colors import GROUNDS, palette

GROUND = GROUNDS["dark"]
INK = "#dfe5ee"
QUIET = "#8a94a6"
LINE = "#232a36"
ACCENT = "#6fe3b1"
WARM = "#ffb454"
STRAY = "#ff5d8f"


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
