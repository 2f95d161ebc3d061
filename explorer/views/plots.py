"""Pure functions from arrays to HoloViews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np

from explorer.cells import View
from explorer.services.colors import GROUNDS, palette

#: Of labels, and of lines: the page's --quiet and --line, for the figure is painted without style sheets.
AXIS = {"dark": ("#8a94a6", "#232a36"), "light": ("#566072", "#c3cad5")}


def with_margin(bounds: View) -> View:
    """4 % more on every side."""
    x0, x1, y0, y1 = bounds
    mx, my = 0.04 * (x1 - x0), 0.04 * (y1 - y0)
    return x0 - mx, x1 + mx, y0 - my, y1 + my


def latent_map(view: View, hook: Callable[[Any, Any], None]) -> hv.Image:
    """The map as composed once: axes, ranges, and the image that /frame fills.

    Parameters
    ----------
    view
        x0, x1, y0, y1 to open with, data coordinates.
    hook
        Gets the rendered plot.
    """
    x0, x1, y0, y1 = view
    return hv.Image(np.zeros((2, 2), np.uint8), bounds=(x0, y0, x1, y1), kdims=["x", "y"], vdims="level").opts(
        cmap=palette("count"),
        clim=(0, 255),
        hooks=[hook],
        nodata=None,
        responsive=True,
        xlim=(x0, x1),
        ylim=(y0, y1),
        default_tools=[],
        toolbar=None,
        apply_ranges=False,
        backend_opts={
            "plot.outline_line_color": None,
            "plot.min_border": 6,
            "plot.xgrid.grid_line_color": None,
            "plot.ygrid.grid_line_color": None,
        },
    )


def restyle(figure: Any, theme: str) -> None:
    """Give a figure's ground and axes the colors of the page."""
    ground, (quiet, line) = GROUNDS[theme], AXIS[theme]
    figure.update(background_fill_color=ground, border_fill_color=ground)
    for axis in (*figure.xaxis, *figure.yaxis):
        axis.update(
            axis_label_text_color=quiet, axis_label_text_font_style="normal", axis_label_text_font_size="11px",
            major_label_text_color=quiet, major_label_text_font_size="10px", major_tick_line_color=line,
            minor_tick_line_color=None, axis_line_color=line,
        )  # fmt: skip
