"""The map: every subject of the survey, live under the mouse."""

from __future__ import annotations

import html
import json
import weakref
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    CustomJS,
    LassoSelectTool,
    PanTool,
    ResetTool,
    WheelZoomTool,
)
from panel.viewable import Viewer

from explorer.errors import VoorwerpError
from explorer.services.colors import palette
from explorer.services.explore import Explore, Plane
from explorer.state import ExplorerState
from explorer.views.plots import LINE, QUIET, add_markers, add_strays, latent_map, with_margin
from models.artifacts import ArtifactError

#: Up to this many selected subjects are ringed, and up to this many named, on the map.
RINGED, NAMED = 40, 12
#: Up to this many that are off the map are drawn apart, the farthest first.
STRAYS = 2000
FOCUS_RING = (
    ":host(:focus) { outline: none !important }"
    ":host(:focus-visible) { outline: 1px solid #6fe3b155 !important; outline-offset: -1px }"
)
EMPTY = """
### No map yet
A map is drawn once a model has scored the images. In a terminal:

    voorwerp run {path} train
    voorwerp run {path} score
    voorwerp run {path} map

It appears here by itself. Until then the gallery below shows every subject.
"""
EMPTY_TABLE = """
### No map yet
A map is drawn from vectors, and this survey has no images to learn them from. In a terminal:

    voorwerp import-run {path} --latents VECTORS
    voorwerp run {path} map

It appears here by itself. Until then every subject is listed below.
"""


def short(name: str) -> str:
    """A source id that fits beside its point: the end of a long one, which is where ids differ."""
    return name if len(name) <= 9 else f"…{name[-5:]}"


class MapView(Viewer):
    """HoloViews composes axes, tools and markers once; the pixels come from ``/frame``, asked by the page itself.

    `request` carries what is to be shown to the page, `inbox` what was clicked or drawn back to the session: both are
    Bokeh models whose ``tags`` hold one JSON text.
    """

    def __init__(self, state: ExplorerState, explore: Explore, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore = state, explore
        self._request = ColumnDataSource(name="map-request")
        self._inbox = ColumnDataSource(name="map-inbox")
        self._inbox.on_change("tags", lambda attribute, old, new: self._hear(json.loads(new[0])))
        self._handles: dict[str, Any] = {}
        self._tools: dict[str, Any] = {}
        self._body = pn.Column(sizing_mode="stretch_both", margin=0, css_classes=["map"])
        state.param.watch(lambda event: self._compose(), ["map_id", "x", "y", "solid"])
        state.param.watch(
            lambda event: self._ask(), ["color", "run_id", "aggregate", "norm", "lambda_", "lambda_mode", "selection"]
        )
        state.param.watch(lambda event: self._recolor(), ["color"])
        state.param.watch(lambda event: self._mark(), ["focus", "selection"])
        state.param.watch(lambda event: self._activate(), ["tool"])
        state.param.watch(lambda event: self._fit(), ["fit"])
        self._compose()

    @property
    def plane(self) -> Plane:
        """What the map lies in now."""
        state = self.state
        turn = state.turn if state.solid else None
        return Plane(state.map_id, state.x, state.y, state.run_id, state.lambda_, state.lambda_mode, turn)

    @property
    def shows(self) -> bool:
        """Whether there is something to draw: a map, or two columns of the table."""
        plane = self.plane
        return bool(plane.map_id) or not any(axis.startswith("maps.") for axis in (plane.x, plane.y))

    def __panel__(self) -> pn.viewable.Viewable:
        return self._body

    # ---------------------------------------------------------------------------------------------- composition
    def _compose(self) -> None:
        self._handles.clear()
        if not self.shows:
            text = (EMPTY if self.explore.survey.has_images else EMPTY_TABLE).format(path=self.explore.survey.path.name)
            self._body[:] = [
                pn.pane.Markdown(
                    text,
                    sizing_mode="stretch_both",
                    margin=(4, 20),
                    stylesheets=[
                        "pre, code { white-space: pre-wrap; color: #6fe3b1; background: none; line-height: 1.7 }"
                    ],
                )
            ]
            return
        try:
            index = self.explore.index(self.plane)
        except (VoorwerpError, ArtifactError) as error:
            said = f"<p><b>This map cannot be shown.</b></p><p>{html.escape(str(error))}</p>"
            self._body[:] = [pn.pane.HTML(said, styles={"padding": "20vh 12%"}, sizing_mode="stretch_both")]
            return
        self._ask()
        self._tools = {
            "pan": PanTool(),
            "lasso": LassoSelectTool(continuous=False),
            "box": BoxSelectTool(continuous=False),
        }
        view = self.state.view or with_margin(index.bounds)
        titles = self.explore.axes(self.state.run_id, self.state.map_id)
        plot = latent_map(view, (titles[self.state.x], titles[self.state.y]), self._hook())
        self._body[:] = [pn.pane.HoloViews(plot, sizing_mode="stretch_both", margin=0, backend="bokeh")]

    def _hook(self) -> Any:
        """A HoloViews hook; weak, for HoloViews keeps options, and so hooks, after the session is gone."""
        view = weakref.ref(self)

        def hook(plot: Any, element: Any) -> None:
            self = view()
            if self is not None and not self._handles:  # hooks run again at every refresh
                self._attach(plot)

        return hook

    def _attach(self, plot: Any) -> None:
        figure, source = plot.state, plot.handles["source"]
        strays = self.explore.off_map(self.state.map_id)[:STRAYS]
        if len(strays):
            add_strays(figure, self.explore.index(self.plane).at(strays))
        self._handles |= add_markers(figure) | {"figure": figure, "mapper": plot.handles["color_mapper"]}
        figure.name = "map"
        wheel = WheelZoomTool(zoom_on_axis=False)
        figure.tools = [*self._tools.values(), wheel, ResetTool()]
        figure.toolbar.active_scroll = wheel
        for axis in (*figure.xaxis, *figure.yaxis):
            axis.update(
                axis_label_text_color=QUIET, axis_label_text_font_style="normal", axis_label_text_font_size="11px",
                major_label_text_color=QUIET, major_label_text_font_size="10px", major_tick_line_color=LINE,
                minor_tick_line_color=None, axis_line_color=LINE,
            )  # fmt: skip
        figure.lod_threshold = None
        figure.stylesheets = [FOCUS_RING]
        self._style_overlays(plot.handles["glyph_renderer"])
        self._recolor()
        self._activate()
        self._mark()
        given = {"figure": figure, "source": source, "request": self._request, "inbox": self._inbox}
        ask = CustomJS(args=given, code="window.voorwerp.map(figure, source, request, inbox)")
        for model, names in (
            (figure.x_range, ("start", "end")),
            (figure.y_range, ("start", "end")),
            (figure, ("inner_width", "inner_height")),
        ):
            for name in names:
                model.js_on_change(name, ask)
        hear = CustomJS(args={"figure": figure}, code="window.voorwerp.event(figure, cb_obj)")
        for name in ("mousemove", "mouseleave", "tap", "selectiongeometry"):
            figure.js_on_event(name, hear)

    def _style_overlays(self, image: Any) -> None:
        for tool in (self._tools["lasso"], self._tools["box"]):
            tool.renderers = [image]  # the server selects, exactly; the browser has only pixels
            tool.overlay.update(
                fill_color="#6fe3b1", fill_alpha=0.08, line_color="#6fe3b1", line_alpha=0.9, line_width=1.5,
                line_dash="solid",
            )  # fmt: skip

    # ----------------------------------------------------------------------------------- session → page
    def _ask(self) -> None:
        """Tell the page what to show; it fetches the frame itself."""
        state = self.state
        selection = state.selection
        settings = {
            "map": state.map_id,
            "x": state.x,
            "y": state.y,
            "color": state.color,
            "run": state.run_id,
            "aggregate": state.aggregate,
            "norm": state.norm,
            "lambda": round(state.lambda_, 3),
            "lambda_mode": state.lambda_mode,
            "selection": self.explore.keep(selection) if selection.count else "",
        }
        self._request.tags = [json.dumps(settings)]

    def _recolor(self) -> None:
        if "mapper" in self._handles:
            labels = self.explore.labels(self.state.color)
            self._handles["mapper"].palette = palette(self.state.color, len(labels))

    def _fit(self) -> None:
        """Show every subject of the map."""
        if "figure" in self._handles:
            x0, x1, y0, y1 = with_margin(self.explore.index(self.plane).bounds)
            self._handles["figure"].x_range.update(start=x0, end=x1)
            self._handles["figure"].y_range.update(start=y0, end=y1)

    def _activate(self) -> None:
        if "figure" in self._handles:
            self._handles["figure"].toolbar.active_drag = self._tools[self.state.tool]

    def _mark(self) -> None:
        """Ring the focus, and each of a small selection."""
        if "figure" not in self._handles:
            return
        index = self.explore.index(self.plane)
        few = self.state.selection.rows() if self.state.selection.count <= RINGED else np.empty(0, int)
        marked = {"selected": few, "focus": [] if self.state.focus is None else [self.state.focus]}
        for name, rows in marked.items():
            if name in self._handles:
                at = index.at(np.asarray(rows, int))
                self._handles[name].data = {"x": at[:, 0], "y": at[:, 1]}
        if "names" in self._handles:
            few = few if len(few) <= NAMED else few[:0]
            at, names = index.at(few), [short(name) for name in self.explore.survey.source_ids(few)]
            self._handles["names"].data = {"x": at[:, 0], "y": at[:, 1], "name": names}

    # ----------------------------------------------------------------------------------- page → session
    def _hear(self, message: dict[str, Any]) -> None:
        state = self.state
        if message["kind"] == "focus":
            row = int(message["row"])
            if 0 <= row < self.explore.survey.n:
                state.focus = row
        elif message["kind"] == "region":
            polygon = np.column_stack([message["x"], message["y"]]).astype(float)
            region = self.explore.index(self.plane).inside(polygon)
            state.select(region, message["mode"])
        elif message["kind"] == "view":
            state.view = tuple(float(v) for v in message["view"])
        elif message["kind"] == "key":
            key = message["key"]
            tools = {"p": "pan", "l": "lasso", "b": "box"}
            if key in tools:
                state.tool = tools[key]
            elif key == "f":
                state.param.trigger("fit")
            elif key == "u":
                state.undo()
            elif key in ("c", "escape") and state.selection.count:
                state.clear()


def setup() -> None:
    """Once a process: without a GPU a plain canvas paints images twice as fast as WebGL."""
    hv.extension("bokeh")
    hv.renderer("bokeh").webgl = False
