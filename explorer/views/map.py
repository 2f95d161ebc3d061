"""The map: every subject of the survey, live under the mouse."""

from __future__ import annotations

import asyncio
import html
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource, CustomJS
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.errors import VoorwerpError
from explorer.services.boundaries import Context
from explorer.services.colors import CATEGORIES, packed, palette
from explorer.services.explore import AXES, Explore, Plane
from explorer.services.judge import Judge
from explorer.services.notes import Notes
from explorer.services.regions import drawn_on, joined, reshaped, simplified, without
from explorer.state import EVERYTHING, MODES, TOOLS, ExplorerState, Selection
from explorer.views.plots import latent_map, restyle, with_margin
from models.artifacts import ArtifactError
from models.boundary import OF_CORNERS, BoundaryError, Learned, Path, Region, crosses_itself, leaves

#: Up to this many selected subjects are ringed, and up to this many named, on the map.
RINGED, NAMED = 40, 12
#: Up to this many that are off the map are drawn apart, the farthest first.
STRAYS = 2000
#: Corners of an outline at most; the page draws no more.
CORNERS = 2000
#: Markers of an overlay, as the page draws them.
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "hexagon", "down")
#: What a person asks of a view is one undoable step of the session: parameter → what it may become.
SETTABLE = {"tool": TOOLS} | dict.fromkeys(("solid", "contours", "places", "draws"), (True, False))
#: Tools that draw a region of a boundary.
OUTLINING = ("lasso", "box", "polygon", "ellipse")
#: What is said of an outline that crosses itself.
CROSSES = "the outline crosses itself: a place is inside where it is around it an odd number of times"
#: What a classifier's lines are of.
LEARNED = {"balanced": "Learned score", "probability": "Learned probability"}
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


def _traced(message: dict[str, Any], plane: Plane) -> dict[str, Any]:
    """An outline that was drawn, with few enough corners for a place, and the plane it is on."""
    x, y = message["x"][:CORNERS], message["y"][:CORNERS]
    step = -(-len(x) // 400)
    told: dict[str, Any] = {"map_id": plane.map_id, "run_id": plane.run_id, "x": plane.x, "y": plane.y}
    told |= {"lambda": plane.lambda_, "lambda_mode": plane.mode}
    return told | {"vertices": [[float(a), float(b)] for a, b in zip(x[::step], y[::step], strict=True)]}


def _words(region: Region, is_added: bool) -> str:
    """What a region is, for who cannot see it."""
    of = region.shape if region.shape in OF_CORNERS else f"{region.shape} of {len(region.vertices):,} corners"
    return of if is_added else f"{of}, left out"


class MapView(Viewer):
    """HoloViews composes axes and image once; the pixels come from ``/frame``, asked by the page itself.

    The page's half (``assets/map.js``) takes every gesture and draws what stands above the pixels. `_request` tells it
    what is to be shown, `_marks` and `_overlay` what to draw, `_drawn` which regions of the boundary lie here, `_inbox`
    tells us what was clicked or drawn: Bokeh models whose ``tags`` hold one JSON text.
    """

    def __init__(
        self,
        state: ExplorerState,
        explore: Explore,
        notes: Notes | None = None,
        judge: Judge | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.state, self.explore, self.notes, self.judge = state, explore, notes, judge
        names = ("request", "marks", "overlay", "drawn", "inbox")
        sources = (ColumnDataSource(name=f"map-{n}") for n in names)
        self._request, self._marks, self._overlay, self._drawn, self._inbox = sources
        self._inbox.on_change("tags", lambda attribute, old, new: self._hear(json.loads(new[0])))
        self._handles: dict[str, Any] = {}
        self._waiting: dict[str, Callable[[], None]] = {}
        self._said, self._fits, self._is_news = "", 0, False
        self._removed: int | None = None  # the entry that took the last place away, as long as it can be undone here
        self._heard = 0  # the page's last message on the boundary
        self._newest: tuple[int, Path] = (0, ())  # how many regions were drawn here, and the last
        self._counted: Region | None = None  # what was said is of this region of the draft
        #: What was drawn last on a flat map: its subjects, and its plane and outline.
        self.drawn: tuple[Selection, dict[str, Any]] | None = None
        #: What stands beside the name of a place, by the campaign that graded what is in it.
        self.purity: Callable[[str], str] = lambda campaign: ""
        self._gestures = asyncio.Lock()  # one after the other, in the order they were made
        self._body = pn.Column(sizing_mode="stretch_both", margin=0, css_classes=["map"])
        where = ["map_id", "x", "y", "solid"]
        mixed = ["run_id", "lambda_", "lambda_mode"]
        colored = ["color", "aggregate", "norm"]
        for watched, watch in (
            (where, self._turn_to),
            (
                [*mixed, *colored, "selection", "turn", "tool", "mode", "contours", "places", "side", "draws"],
                self._ask,
            ),
            (["palette", "theme"], self._ask),
            (["draws"], self._take_tool),
            (["draft", "side", *where, *mixed], self._outline),
            (["theme"], self._restyle),
            (["focus", "selection", "places"], self._mark),
            (["overlay"], self._lay_over),
            (["selection"], self._pick_out),
            (mixed, self._shift),
            (["fit"], self._fit),
        ):
            state.param.watch(lambda *_, watch=watch: watch(), list(watched))
        self._compose()

    def _set(self, what: str, act: Callable[[], None]) -> None:
        """Change a Bokeh model with the document's lock, which a message may come without; the last change wins."""
        if self._request.document is None:  # no page yet
            act()
            return
        is_first = not self._waiting
        self._waiting[what] = act
        if is_first:
            pn.state.execute(self._flush, schedule=True)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for act in waiting.values():
            act()

    def _tell(self, what: str, told: Any) -> None:
        """Tell the page: `what` is "request", "marks" or "overlay"."""
        model, text = getattr(self, f"_{what}"), json.dumps(told)
        self._set(what, lambda: setattr(model, "tags", [text]))

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

    @property
    def draws_here(self) -> bool:
        """Whether the boundary is at hand and what is drawn on the map can become a region of it."""
        return self.state.side == "boundary" and not self.state.solid and self.shows

    def __panel__(self) -> pn.viewable.Viewable:
        return self._body

    # ---------------------------------------------------------------------------------------------- composition
    def _compose(self) -> None:
        self._handles.clear()
        if not self.shows:
            text = (EMPTY if self.explore.survey.has_images else EMPTY_TABLE).format(path=self.explore.survey.path.name)
            code = "pre, code { white-space: pre-wrap; color: var(--accent); background: none; line-height: 1.7 }"
            self._body[:] = [pn.pane.Markdown(text, sizing_mode="stretch_both", margin=(4, 20), stylesheets=[code])]
            return
        try:
            home = self._home()
        except (VoorwerpError, ArtifactError) as error:
            said = f"<p><b>This map cannot be shown.</b></p><p>{html.escape(str(error))}</p>"
            self._body[:] = [pn.pane.HTML(said, styles={"padding": "20vh 12%"}, sizing_mode="stretch_both")]
            return
        self._ask()
        self._mark()
        self._lay_over()
        self._outline()
        plot = latent_map(self.state.view or home, self._hook())
        self._body[:] = [pn.pane.HoloViews(plot, sizing_mode="stretch_both", margin=0, backend="bokeh")]

    def _home(self) -> tuple[float, float, float, float]:
        """The view that holds every subject; of a 3-D view the same for every turn."""
        x0, x1, y0, y1 = with_margin(self.explore.extent(self.plane)[0])
        return x0, x1, y0, y1 + 0.09 * (y1 - y0)  # the tools have room above

    def _hook(self) -> Any:
        """A HoloViews hook; weak, for HoloViews keeps options, and so hooks, after the session is gone."""
        view = weakref.ref(self)

        def hook(plot: Any, element: Any) -> None:
            self = view()
            if self is not None and not self._handles:  # hooks run again at every refresh
                self._attach(plot)

        return hook

    def _attach(self, plot: Any) -> None:
        figure = plot.state
        self._handles["figure"] = figure
        figure.name = "map"
        figure.tools = []  # the layer above takes every gesture
        figure.lod_threshold = None
        # the page paints the pixels itself: Bokeh's part is the axes
        for painter in (plot.handles["glyph_renderer"], *figure.center):
            painter.visible = False
        figure.stylesheets = [(ASSETS / "map.css").read_text(encoding="utf-8")]
        self._name_axes()
        self._restyle()
        given = {
            "figure": figure,
            "request": self._request,
            "marks": self._marks,
            "overlay": self._overlay,
            "drawn": self._drawn,
            "inbox": self._inbox,
        }
        ask = CustomJS(args=given, code="window.voorwerp.map(figure, request, marks, overlay, drawn, inbox)")
        for model, names in (
            (figure.x_range, ("start", "end")),
            (figure.y_range, ("start", "end")),
            (figure, ("inner_width", "inner_height")),
        ):
            for name in names:
                model.js_on_change(name, ask)

    # ----------------------------------------------------------------------------------- session → page
    def _turn_to(self) -> None:
        """Another plane: the axes are named anew, and the page shows all of it."""
        self._said = ""
        self.state.view = None  # the page tells where it is once it rests
        try:
            self._home()
        except (VoorwerpError, ArtifactError):
            self._handles.clear()
        if not self._handles or not self.shows:
            self._compose()
            return
        self._ask()
        self._mark()
        self._lay_over()

    def _shift(self) -> None:
        """Another run or λ: where a score is an axis, subjects stand elsewhere."""
        if self._handles and not self.state.solid and "scores." in self.state.x + self.state.y:
            self._mark()
            self._lay_over()

    def _titles(self) -> tuple[str, str]:
        state = self.state
        titles = self.explore.axes(state.run_id, state.map_id)
        x, y = (titles.get(axis, axis) for axis in (state.x, state.y))
        mixed = f" (λ {state.lambda_:.2g})" if self.explore.mixes(state.run_id) else ""
        return tuple(t + mixed if a == "scores.anomaly_score" else t for a, t in ((state.x, x), (state.y, y)))  # type: ignore[return-value]

    def _name_axes(self) -> None:
        if "figure" in self._handles:
            figure, titles, visible = self._handles["figure"], self._titles(), not self.state.solid

            def name() -> None:
                for axis, title in zip((figure.xaxis[0], figure.yaxis[0]), titles, strict=True):
                    axis.update(axis_label=title, visible=visible)
                # the frame stays where it is, however wide the numbers beside it are
                figure.update(min_border_left=70 if visible else 6, min_border_bottom=42 if visible else 6)

            self._set("axes", name)

    def _ask(self) -> None:
        """Tell the page what to show; it fetches the frame itself."""
        state, explore = self.state, self.explore
        if not self.shows:
            return
        try:
            home, n = self._home(), explore.extent(self.plane)[1]
        except (VoorwerpError, ArtifactError):
            return  # the frame says why
        self._name_axes()
        k = state.selection.count
        colored = explore.color_title(state.color, state.run_id, state.map_id)
        axes = "turned in three dimensions" if state.solid else " against ".join(reversed(self._titles()))
        told = {
            "query": {
                "map": state.map_id,
                "x": state.x,
                "y": state.y,
                "run": state.run_id,
                "lambda": round(state.lambda_, 3),
                "lambda_mode": state.lambda_mode,
            },
            "paint": {
                "color": state.color,
                "aggregate": state.aggregate,
                "norm": state.norm,
                "selection": explore.keep(state.selection) if k else "",
            },
            "palette": self._palette(),
            "ramp": state.palette,
            "version": explore.survey.generation,
            "home": home,
            "solid": state.solid,
            "can_solid": bool(state.map_id) and explore.is_solid(state.map_id),
            "turn": state.turn,
            "titles": list(AXES.values()),
            "tool": state.tool,
            "mode": state.mode,
            "contours": state.contours,
            "places": state.places,
            "draws": state.draws and self.draws_here,
            "can_draw": self.draws_here,
            "theme": state.theme,
            "selected": k,
            "fit": self._fits,
            "said": self._said,
            "is_news": self._is_news,
            "removed": self._removed,
            "about": f"Map of {n:,} subjects, {axes}, colored by {colored}; {k:,} selected",
        }
        self._tell("request", told)

    def _palette(self) -> str:
        """Colors of a frame's bytes from 1 on, six hexadecimal digits each."""
        state = self.state
        labels = self.explore.labels(state.color)
        return packed(palette(state.color, len(labels), state.palette, state.theme))  # type: ignore[arg-type]

    def _restyle(self) -> None:
        if "figure" in self._handles:
            figure, theme = self._handles["figure"], self.state.theme
            self._set("palette", lambda: restyle(figure, theme))

    def _fit(self) -> None:
        """Show every subject of the map."""
        self._fits += 1
        self._ask()

    def _at(self, rows: np.ndarray) -> list[list[float]]:
        """Where rows stand, to seven digits; rows without a place are an empty list."""
        at = self.explore.at(self.plane, np.asarray(rows, np.int64))
        return [[float(f"{v:.7g}") for v in p] if np.isfinite(p).all() else [] for p in at]

    def _mark(self) -> None:
        """Ring the focus and each of a small selection; draw apart what is off the map; name places."""
        state, explore = self.state, self.explore
        if not self.shows:
            return
        few = state.selection.rows() if state.selection.count <= RINGED else np.empty(0, int)
        named = few if len(few) <= NAMED else few[:0]
        on_map = state.solid or {state.x, state.y} <= {f"maps.{axis}" for axis in AXES}
        try:
            marks: dict[str, Any] = {
                "focus": self._at(np.array([] if state.focus is None else [state.focus])),
                "selected": self._at(few),
                "strays": self._at(explore.off_map(state.map_id)[:STRAYS] if on_map else few[:0]),
            }
            names = zip(explore.survey.source_ids(named), self._at(named), strict=True)
        except (VoorwerpError, ArtifactError):
            return  # the frame says why
        marks = {key: [p for p in points if p] for key, points in marks.items()}
        marks["names"] = [[short(name), *p] for name, p in names if p]
        marks["places"] = [
            {
                "id": p.id,
                "name": p.name,
                "x": [v[0] for v in p.vertices],
                "y": [v[1] for v in p.vertices],
                "at": p.label,
                "said": self.purity(p.campaign) if p.campaign else "",
            }
            for p in (self.notes.places(self.plane) if self.notes and state.places else [])
        ]
        self._tell("marks", marks)

    def _lay_over(self) -> None:
        """Markers: the rarest categories of a column, a kept selection, or groups of tags."""
        reference, found = self.state.overlay, []
        try:
            if reference and self.notes is not None:
                found = self.notes.overlays(reference)
            placed = [(o, [(p, r) for p, r in zip(self._at(o.rows), o.rows, strict=True) if p]) for o in found]
            told = [
                {
                    "of": reference,
                    "label": o.label[:40],
                    "shape": SHAPES[i],
                    "color": CATEGORIES[o.color],
                    "count": o.count,
                    "drawn": len(o.rows),
                    "points": [p for p, _ in shown],
                    "picked": [int(int(row) in self.state.selection) for _, row in shown],
                }
                for i, (o, shown) in enumerate(placed)
            ]
        except (VoorwerpError, ArtifactError) as error:
            self._say(str(error))
            return
        self._tell("overlay", told)

    def _outline(self) -> None:
        """The regions of the boundary that lie on this plane, and what else of it is drawn here."""
        state, draft, on = self.state, self.state.draft, self.draws_here
        if self._counted is not None and not self._has(self._counted):
            self._say("")
        learned = [leaf for _, leaf in leaves(draft.keep) if isinstance(leaf, Learned)] if on else []
        told: dict[str, Any] = {
            "on": on,
            "heard": self._heard,
            "drawn": self._newest,
            "regions": [
                {
                    "path": d.path,
                    "shape": d.region.shape,
                    "vertices": d.region.vertices,
                    "is_added": d.is_added,
                    "words": _words(d.region, d.is_added),
                }
                for d in (drawn_on(draft.keep, state.x, state.y) if on else [])
            ],
            "learned": [
                {"model": model, "scale": scale, "title": f"{LEARNED[scale]} of {draft.name or 'this boundary'}"}
                for model, scale in dict.fromkeys((leaf.model, leaf.scale) for leaf in learned)
            ],
            "draft": "",
        }
        if on and self.judge is not None and draft.keep != EVERYTHING:
            context = Context(state.run_id, state.map_id, state.lambda_, state.lambda_mode)
            told["draft"] = self.judge.keep(draft, context)
        self._tell("drawn", told)

    def _pick_out(self) -> None:
        """Another selection: its markers stand above the others."""
        if self.state.overlay and self.shows:
            self._lay_over()

    def refresh_places(self) -> None:
        """Draw what was named, renamed, removed or kept meanwhile, in another tab or from a script."""
        self._mark()
        if self.state.overlay.startswith(("selection:", "talk:")):
            self._lay_over()

    def _take_tool(self) -> None:
        """Who turns to drawing into the boundary has a tool that draws, and who turns away from it pans."""
        if not self.state.draws:
            self.state.tool = "pan"
        elif self.state.tool not in OUTLINING:
            self.state.tool = "polygon"

    def _has(self, region: Region) -> bool:
        """Whether a region is in the draft as it is now."""
        return any(leaf == region for _, leaf in leaves(self.state.draft.keep))

    def _say(self, text: str, removed: int | None = None, is_news: bool = False, counted: Region | None = None) -> None:
        self._said, self._removed, self._is_news, self._counted = text, removed, is_news, counted
        self._ask()

    # ----------------------------------------------------------------------------------- page → session
    def _hear(self, message: dict[str, Any]) -> None:
        state, kind = self.state, message.get("kind")
        if kind == "focus":
            row = int(message["row"])
            if 0 <= row < self.explore.survey.n:
                state.focus = row
        elif kind == "region":
            self._said, self._removed = "", None
            mode = message.get("mode")
            pn.state.execute(partial(self._select, message, self.plane, mode if mode in MODES else state.mode))
        elif kind == "view":
            state.view = tuple(float(v) for v in message["view"])
            if message.get("turn"):
                state.turn = tuple(float(v) for v in message["turn"])
        elif kind == "set" and message.get("value") in SETTABLE.get(message.get("name", ""), ()):
            setattr(state, message["name"], message["value"])
        elif kind in ("place", "rename", "remove", "undo"):
            self._decide(message)
        elif kind in ("term", "reshape", "take away"):
            self._heard = int(message["serial"])
            if self.draws_here:
                try:
                    self._draw(message)
                except BoundaryError as error:
                    self._say(str(error))
            self._outline()  # heard, whatever came of it

    def _draw(self, message: dict[str, Any]) -> None:
        """A region drawn, reshaped or taken away: a step of the draft's undo, but while a hand still moves."""
        state, kind, axes = self.state, message["kind"], (self.state.x, self.state.y)
        keep = state.draft.keep
        if kind == "term":
            mode = message.get("mode")
            region, said = self._drawn_region(message)
            keep = joined(keep, region, mode if mode in MODES else state.mode)
            self._newest = self._newest[0] + 1, next(d.path for d in drawn_on(keep, *axes) if d.region is region)
            state.edit(replace(state.draft, keep=keep))
            pn.state.execute(partial(self._count, region, said, self.plane))
            return
        path = tuple(int(k) for k in message["path"])
        if kind == "take away":
            state.edit(replace(state.draft, keep=without(keep, path, *axes)))
            self._say("")
            return
        vertices = message["vertices"]
        state.tune(replace(state.draft, keep=reshaped(keep, path, vertices, *axes)))
        if message.get("done"):
            state.settle_draft()
            self._say(CROSSES if len(vertices) > 2 and crosses_itself(vertices) else "")

    def _drawn_region(self, message: dict[str, Any]) -> tuple[Region, list[str]]:
        """What was drawn as a region of this plane, and what there is to say of it."""
        vertices, said = message["vertices"], []
        if message["shape"] == "freehand":
            per_x, per_y = (abs(float(v)) for v in message["per_pixel"])
            outline, off = simplified(np.array(vertices, np.float64), (per_x, per_y))
            if len(outline) < len(vertices):
                pixels = "1 pixel" if off == 1 else f"{off:.2g} pixels"
                said.append(f"outline simplified from {len(vertices):,} to {len(outline):,} corners, within {pixels}")
            vertices = outline
        region = Region(self.state.x, self.state.y, vertices, message["shape"])
        if region.shape not in OF_CORNERS and crosses_itself(region.vertices):
            said.append(CROSSES)
        return region, said

    async def _count(self, region: Region, said: list[str], plane: Plane) -> None:
        """Say how many subjects a new region holds."""
        try:
            index = await asyncio.to_thread(self.explore.index, plane)
            k = (await asyncio.to_thread(index.inside, region.outline())).count
        except (VoorwerpError, ArtifactError):
            return  # the frame says why
        inside = f"{k:,} of {len(index):,} subjects inside" if k else "no subject is inside this region"
        if self._has(region):  # it may have been undone meanwhile
            self._say("; ".join([inside, *said]), is_news=k > 0 and CROSSES not in said, counted=region)

    async def _select(self, message: dict[str, Any], plane: Plane, mode: str) -> None:
        """Let what was drawn meet the selection; it takes a second where a wide brush went over a million subjects."""
        async with self._gestures:
            try:
                region = await asyncio.to_thread(self._region, message, plane)
            except (VoorwerpError, ArtifactError):
                return  # the frame says why
            self.drawn = None if plane.turn or message.get("shape") == "brush" else (region, _traced(message, plane))
            pn.state.execute(partial(self.state.select, region, mode), schedule=True)  # with the document's lock

    def _region(self, message: dict[str, Any], plane: Plane) -> Selection:
        """The subjects that an outline holds, or a brush touched, on the plane as it was turned then."""
        path = np.column_stack([message["x"][:CORNERS], message["y"][:CORNERS]]).astype(float)
        if plane.turn is not None and message.get("turn"):
            yaw, pitch = (float(v) for v in message["turn"])
            plane = Plane(plane.map_id, turn=(yaw, pitch))
        index = self.explore.index(plane)
        if message.get("shape") == "brush":
            return index.near_path(path, float(message["rx"]), float(message["ry"]))
        return index.inside(path)

    def _decide(self, message: dict[str, Any]) -> None:
        """Name, rename or remove a place, or bring it back: in the ledger, before the page says so."""
        if self.notes is None:
            return
        said, removed = "", None
        try:
            if message["kind"] == "place":
                outline = np.column_stack([message["x"], message["y"]]).astype(float)
                self.notes.add_place(
                    str(message["name"]), self.plane, outline, message["at"], who=self.state.person.name
                )
                self.state.places = True
            elif message["kind"] == "rename":
                self.notes.rename_place(int(message["id"]), str(message["name"]), who=self.state.person.name)
            elif message["kind"] == "remove":
                name = next((p.name for p in self.notes.places(self.plane) if p.id == message["id"]), "the place")
                removed = self.notes.remove_place(int(message["id"]), who=self.state.person.name).id
                said = f"“{name}” removed"
            elif self._removed is not None:
                self.notes.undo(self._removed, who=self.state.person.name)
        except VoorwerpError as error:
            said = str(error)
        self._mark()
        self._say(said, removed)


def setup() -> None:
    """Once a process: without a GPU a plain canvas paints images twice as fast as WebGL."""
    hv.extension("bokeh")
    hv.renderer("bokeh").webgl = False
