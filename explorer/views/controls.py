"""The left column: what the map shows, and what is selected on it."""

from __future__ import annotations

import asyncio
import html
from typing import Any, ClassVar
from urllib.parse import urlencode

import numpy as np
import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewer

from explorer.errors import VoorwerpError
from explorer.ledger import Ledger
from explorer.services.colors import CATEGORIES, ramp
from explorer.services.explore import Explore
from explorer.services.export import selection_table
from explorer.services.samp import Samp
from explorer.state import ExplorerState, Selection
from explorer.views.components import ColorKey
from explorer.views.plots import ACCENT, QUIET
from models.mixing import MODE_TITLES, Mode

WIDE = {"sizing_mode": "stretch_width", "margin": (0, 0, 10, 0)}
SMALL = WIDE | {"size": "small"}
QUIET_TOGGLE = {"& .Mui-selected": {"backgroundColor": "#6fe3b122 !important", "color": "#6fe3b1 !important"}}

#: What a selection is taken away as: name on ``/export`` → name on screen.
FORMS = {"csv": "CSV", "parquet": "Parquet", "fits": "FITS", "votable": "VOTable", "regions": "DS9 regions"}
LINK = f"color: {ACCENT}; text-decoration: none"

KEYS = """
<style>
div.keys { color: #8a94a6; font-size: 11px; line-height: 1.9; }
kbd { font: inherit; color: #dfe5ee; border: 1px solid #2c3442; border-radius: 3px; padding: 0 4px; }
</style>
<div class="keys">
<kbd>P</kbd> pan <kbd>L</kbd> lasso <kbd>B</kbd> box <kbd>F</kbd> fit<br>
while drawing <kbd>Shift</kbd> adds, <kbd>Alt</kbd> subtracts<br>
<kbd>U</kbd> undo <kbd>Esc</kbd> clear <kbd>/</kbd> find<br>
<kbd>←</kbd> <kbd>→</kbd> walk the gallery <kbd>Z</kbd> enlarge<br>
<kbd>I</kbd> invert <kbd>O</kbd> outline the network's crop<br>
<kbd>R</kbd> runs and training
</div>
"""


class Slider(pmui.FloatSlider):
    """Panel waits 50 ms before it passes a change on; a slider that moves the map should not be felt."""

    _debounce: ClassVar[int] = 5


def heading(text: str) -> pn.viewable.Viewable:
    """A section's title."""
    styles = {"color": QUIET, "font-size": "11px", "letter-spacing": ".06em"}
    return pn.pane.HTML(text, margin=(6, 0, 8, 0), styles=styles)


class ColorView(Viewer):
    """What the map is coloured by, with its bar."""

    def __init__(self, state: ExplorerState, explore: Explore, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore = state, explore
        self.legend = ColorKey(sizing_mode="stretch_width", margin=(2, 0, 6, 0))
        self.legend.asked = self.select_off_map
        self._color = pmui.Select(label="Color by", **SMALL)
        self._aggregate = pmui.Select(label="Of a pixel", options={"max": "max", "mean": "mean"}, **SMALL)
        self._norm = pmui.Select(
            label="Scale", options={"equalised": "equalised", "linear": "linear", "log": "log"}, **SMALL
        )
        self._lambda = Slider(
            label="λ, weight of feature score", start=0, end=1, step=0.01, size="small",
            sizing_mode="stretch_width", margin=(0, 8, 6, 8),
        )  # fmt: skip
        self._mode = pmui.RadioButtonGroup(
            options={title.capitalize(): mode for mode, title in MODE_TITLES.items()}, size="small",
            margin=(0, 0, 8, 0), sizing_mode="stretch_width", sx=QUIET_TOGGLE,
        )  # fmt: skip
        for widget, name in (
            (self._color, "color"),
            (self._aggregate, "aggregate"),
            (self._norm, "norm"),
            (self._lambda, "lambda_"),
        ):
            widget.value = getattr(state, name)
            widget.param.watch(lambda event, name=name: setattr(state, name, event.new), "value")
            state.param.watch(lambda event, widget=widget: setattr(widget, "value", event.new), name)
        self._mode.value = state.lambda_mode
        self._mode.param.watch(lambda event: self._mix(event.new), "value")
        state.param.watch(lambda event: setattr(self._mode, "value", event.new), "lambda_mode")
        state.param.watch(lambda event: self.refresh(), ["run_id", "map_id"])
        state.param.watch(lambda event: self._fit(), "color")
        self.refresh()

    def refresh(self) -> None:
        """Offer what the survey and the run have now."""
        colors = self.explore.colors(self.state.run_id, self.state.map_id)
        if self.state.color not in colors:
            self.state.color = "count"
        self._color.options = {title: reference for reference, title in colors.items()}
        self._color.value = self.state.color
        map_id = self.state.map_id
        self.legend.param.update(
            n_on_map=self.explore.n_on_map(map_id),
            about=self.explore.about_map(map_id) if map_id else [],
            n_off=len(self.explore.off_map(map_id)),
        )
        self._fit()

    def select_off_map(self) -> None:
        """Select what has a place on the map and belongs nowhere on it; the farthest takes the focus."""
        rows = self.explore.off_map(self.state.map_id)
        if len(rows):
            self.state.select(Selection.of_rows(rows, self.explore.survey.n), "replace")
            self.state.focus = int(rows[0])

    def _mix(self, mode: Mode) -> None:
        """Let λ mix in another way, where the scores allow it."""
        try:
            self.explore.check_mode(self.state.run_id, mode)
        except VoorwerpError as error:
            self.legend.said = str(error)
            self._mode.value = self.state.lambda_mode
            return
        if mode != self.state.lambda_mode:
            self.legend.said = ""
            self.state.lambda_mode = mode

    def _fit(self) -> None:
        """Only what acts on this colouring can be touched; nothing jumps."""
        labels = self.explore.labels(self.state.color)
        number = self.state.color != "count" and not labels
        self._aggregate.disabled = not number
        self._norm.disabled = bool(labels)
        self._lambda.disabled = self._mode.disabled = not self.explore.mixes(self.state.run_id)
        self.legend.colors = CATEGORIES[: len(labels)] if labels else ramp(self.state.color)

    def __panel__(self) -> pn.viewable.Viewable:
        self._aggregate.styles, self._norm.styles = (
            {"flex": "5 1 0", "min-width": "0"},
            {"flex": "6 1 0", "min-width": "0"},
        )
        pair = pn.Row(self._aggregate, self._norm, sizing_mode="stretch_width", margin=0, styles={"gap": "8px"})
        return pn.Column(
            heading("Map"),
            self._color,
            pair,
            self._lambda,
            self._mode,
            self.legend,
            sizing_mode="stretch_width",
            margin=0,
        )


class SelectionView(Viewer):
    """What is selected: counted exactly, kept by name, taken away as a file."""

    def __init__(
        self, state: ExplorerState, explore: Explore, ledger: Ledger, samp: Samp | None, **params: Any
    ) -> None:
        super().__init__(**params)
        self.state, self.explore, self.ledger, self.samp = state, explore, ledger, samp
        n = explore.survey.n
        self._n = n
        self._has_sky = bool(np.isfinite(explore.survey.column("ra")).any())
        self._tool = pmui.RadioButtonGroup(
            options={"Pan": "pan", "Lasso": "lasso", "Box": "box"}, value=state.tool, size="small", margin=(0, 0, 8, 0),
            sizing_mode="stretch_width", sx=QUIET_TOGGLE,
        )  # fmt: skip
        self._mode = pmui.RadioButtonGroup(
            options={"Replace": "replace", "Add": "add", "Subtract": "subtract"}, value=state.mode, size="small",
            margin=(0, 0, 8, 0), sizing_mode="stretch_width", sx=QUIET_TOGGLE,
        )  # fmt: skip
        for widget, name in ((self._tool, "tool"), (self._mode, "mode")):
            widget.param.watch(lambda event, name=name: setattr(state, name, event.new), "value")
            state.param.watch(lambda event, widget=widget: setattr(widget, "value", event.new), name)
        self._count = pn.pane.HTML("", sizing_mode="stretch_width", margin=(0, 0, 6, 0), css_classes=["count"])
        button = {"size": "small", "margin": 0, "sizing_mode": "stretch_width"}
        self._fit = pmui.Button(label="Fit", variant="text", **button)
        self._fit.on_click(lambda event: state.param.trigger("fit"))
        self._undo = pmui.Button(label="Undo", variant="text", **button)
        self._clear = pmui.Button(label="Clear", variant="text", **button)
        self._undo.on_click(lambda event: self._back())
        self._clear.on_click(lambda event: state.clear())
        self._name = pmui.TextInput(
            placeholder="Name this selection", size="small", sizing_mode="stretch_width", margin=0
        )
        self._save = pmui.Button(label="Keep", variant="outlined", size="small", margin=0, width=64)
        self._save.on_click(lambda event: self.save())
        self._name.param.watch(lambda event: self.save(), "enter_pressed")
        self._kept_id = ""
        self._kept = pmui.Select(label="Kept selections", **SMALL | {"margin": (8, 0, 8, 0)})
        self._kept.param.watch(lambda event: self._open(event.new), "value")
        self._said = pn.pane.HTML("", sizing_mode="stretch_width", margin=0, css_classes=["said"])
        self._files = pn.pane.HTML("", sizing_mode="stretch_width", margin=(4, 0, 0, 0), css_classes=["files"])
        self._send = pmui.Button(label="Send by SAMP", variant="text", **button | {"margin": (4, 0, 0, 0)})
        self._send.description = "To TOPCAT, Aladin or DS9 on this machine (Simple Application Messaging Protocol)"
        self._send.visible = samp is not None
        self._send.on_click(self._send_clicked)
        self._sent = pn.pane.HTML("", sizing_mode="stretch_width", margin=0, css_classes=["said"])
        state.param.watch(lambda event: self._tell(), ["selection", "run_id", "map_id", "lambda_", "lambda_mode"])
        self.refresh()
        self._tell()

    def _tell(self) -> None:
        k = self.state.selection.count
        share = f"{100 * k / self._n:.2g} %" if self._n else ""
        self._count.object = f"<b>{k:,}</b> of {self._n:,} selected, {share}" if k else "Nothing selected"
        self._clear.disabled = not k
        self._undo.disabled = not self.state.can_undo
        if self._kept.value and self.state.selection.id != self._kept_id:
            self._kept.value, self._said.object = "", ""
        self._save.disabled = self._name.disabled = not k
        query = {"run": self.state.run_id, "map": self.state.map_id, "lambda": round(self.state.lambda_, 3)}
        query["lambda_mode"] = self.state.lambda_mode
        query["selection"] = self.explore.keep(self.state.selection) if k else ""
        what = f"{k:,} selected" if k else f"all {self._n:,}"
        links = [
            f'<a style="{LINK}" href="export?{urlencode(query | {"format": form})}" download>{title}</a>'
            for form, title in FORMS.items()
            if self._has_sky or form != "regions"
        ]
        self._files.object = f"Export {what}: {' · '.join(links)}"
        self._send.label = f"Send {what} by SAMP"
        self._sent.object = ""

    async def _send_clicked(self, event: Any) -> None:
        await self.send()

    async def send(self) -> None:
        """The selection as a table to TOPCAT, Aladin and whoever else listens on this machine."""
        if self.samp is None:
            return
        state = self.state
        selection = state.selection if state.selection.count else None
        try:
            told = (self.explore, selection, state.run_id, state.map_id, state.lambda_, state.lambda_mode)
            table = await asyncio.to_thread(selection_table, *told)
            clients = await asyncio.to_thread(self.samp.send_table, table, self.explore.survey.info.name)
        except VoorwerpError as error:
            self._sent.object = html.escape(str(error))
            return
        self._sent.object = html.escape(f"{table.num_rows:,} subjects sent to {', '.join(clients)}")

    def _back(self) -> None:
        self.state.undo()

    def refresh(self) -> None:
        """List the kept selections."""
        names = self.ledger.selection_names()
        self._kept.options = {"": "", **{name: name for name in reversed(names)}}
        self._kept.visible = bool(names)

    def save(self) -> None:
        """Keep the selection under the name typed; it is on disk before the screen says so."""
        name = self._name.value.strip()
        survey = self.explore.survey
        if name in self.ledger.selection_names():
            self._said.object = html.escape(f"there is a “{name}” already; choose another name")
            return
        try:
            self.ledger.save_selection(name, self.state.selection.rows(), survey.subject_ids, who="local")
        except VoorwerpError as error:
            self._said.object = html.escape(str(error))
            return
        self._said.object = html.escape(f"kept as “{name}”")
        self._name.value = ""
        self._kept_id = self.state.selection.id
        self.refresh()
        self._kept.value = name

    def _open(self, name: str) -> None:
        if not name:
            return
        try:
            self.select(name)
        except VoorwerpError as error:
            self._said.object = html.escape(str(error))

    def select(self, name: str) -> None:
        """Select a kept selection by name."""
        survey = self.explore.survey
        kept = self.ledger.selection(name, survey.subject_ids)
        selection = Selection.of_rows(survey.rows_of(kept.subject_ids), survey.n)
        self._kept_id = selection.id
        self.state.select(selection, "replace")
        self._kept.value = name

    def __panel__(self) -> pn.viewable.Viewable:
        gap = {"gap": "8px"}
        return pn.Column(
            heading("Selection"),
            self._tool,
            self._mode,
            self._count,
            pn.Row(self._undo, self._clear, self._fit, sizing_mode="stretch_width", margin=(0, 0, 8, 0), styles=gap),
            pn.Row(self._name, self._save, sizing_mode="stretch_width", margin=(0, 0, 4, 0), styles=gap),
            self._said,
            self._kept,
            self._files,
            self._send,
            self._sent,
            pn.pane.HTML(KEYS, sizing_mode="stretch_width", margin=(18, 0, 0, 0)),
            sizing_mode="stretch_width",
            margin=0,
        )
