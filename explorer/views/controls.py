"""The left column: what the map shows, its colour bar, and what is selected on it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlencode

import numpy as np
import panel as pn
from panel.viewable import Viewer

from explorer.errors import VoorwerpError
from explorer.services.explore import LEARNED, Explore
from explorer.services.export import selection_table
from explorer.services.notes import Notes
from explorer.services.samp import Samp
from explorer.state import COMPONENTS, ExplorerState, Selection
from explorer.views.components import Controls
from models.boundary import classifiers
from models.mixing import MODE_TITLES, Mode

#: What a person sets in the left column: names in the state. λ's mode is apart, for it may be refused.
SET = (
    "x", "y", "solid", "color", "aggregate", "norm", "palette", "lambda_", "lambda_mode", "contours", "places",
    "overlay", "mode",
)  # fmt: skip
#: What decides how many are selected and what is taken away.
TOLD = ("selection", "run_id", "map_id", "lambda_", "lambda_mode", "sort", "descending")
#: The paper's view: feature score against image score.
TWO_SCORES = ("scores.feature_score", "scores.image_score")
GROUPS = {"scores": "Scores", "learned": "Learned", "maps": "Map", "subjects": "Columns"}


def grouped(titles: dict[str, str]) -> list[list[Any]]:
    """References → titles as a list of [group, [[reference, title], …]]; what is in no table is first, ungrouped."""
    found: dict[str, list[list[str]]] = {"": []}
    for reference, title in titles.items():
        found.setdefault(GROUPS.get(reference.partition(".")[0], ""), []).append([reference, title])
    return [[group, options] for group, options in found.items() if options]


class ControlsView(Viewer):
    """Follows the state, and sets it; what is kept by name is in the ledger before the screen says so."""

    def __init__(self, state: ExplorerState, explore: Explore, notes: Notes, samp: Samp | None, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.notes, self.ledger, self.samp = state, explore, notes, notes.ledger, samp
        self._has_sky = bool(np.isfinite(explore.survey.column("ra")).any())
        self._opened = ("", "")  # name and id of the kept selection that is selected
        self._learned = classifiers(state.draft.keep)
        self._last: int | None = None  # the entry that "Undo" beside a sentence takes back
        self.column = Controls(sizing_mode="stretch_width", margin=0)
        self.column.asked = self._hear
        state.param.watch(lambda *_: self._show(), list(SET))
        state.param.watch(lambda *_: self._offer(), ["run_id", "map_id"])
        state.param.watch(lambda *_: self._fit(), "color")
        state.param.watch(lambda *_: self._learn(), "draft")
        state.param.watch(lambda *_: self._tell(), list(TOLD))
        self.refresh()

    # ----------------------------------------------------------------------------------------- session → page
    def refresh(self) -> None:
        """Offer what the survey, the run and the ledger have now."""
        self._list()
        self._offer()
        self._tell()

    def _offer(self) -> None:
        state, explore = self.state, self.explore
        map_id = state.map_id
        drafted = f"Learned score of {state.draft.name or 'the boundary at work'}"
        colors = dict.fromkeys((LEARNED + sha for sha in self._learned), drafted) if state.run_id else {}
        colors, axes = explore.colorings(state.run_id, map_id) | colors, explore.axes(state.run_id, map_id)
        if state.color not in colors:
            state.color = "count"
        self._colors, self._axes = colors, axes
        with pn.io.hold():
            self.column.param.update(
                n_on_map=explore.n_on_map(map_id),
                about=explore.about_map(map_id) if map_id else [],
                n_off=len(explore.off_map(map_id)),
            )
            self._fit()
            self._show()

    def _learn(self) -> None:
        """The boundary at work has other classifiers: they are offered; a map colored by one goes on with its heir."""
        state, before, now = self.state, self._learned, classifiers(self.state.draft.keep)
        if now == before:
            return
        self._learned = now
        gone = state.color.removeprefix(LEARNED)
        if gone in before and gone not in now and now:
            state.color = LEARNED + now[min(before.index(gone), len(now) - 1)]
        self._offer()

    def _fit(self) -> None:
        """Only what acts on this coloring can be touched; nothing jumps."""
        state, explore = self.state, self.explore
        labels = explore.labels(state.color)
        categories = {r: title for r, title in self._colors.items() if explore.is_category(r)}
        kept = [[f"selection:{name}", name] for name, _ in self.column.kept]
        overlays: list[list[Any]] = [["", [["", "none"]]]]
        overlays += [["Categories", [list(pair) for pair in categories.items()]]] if categories else []
        overlays += [["Tags on Talk", [list(pair) for pair in talk.items()]]] if (talk := explore.talk.titles()) else []
        overlays += [["Kept selections", kept]] if kept else []
        self.column.param.update(
            can={
                "axes": grouped(self._axes),
                "colors": grouped(self._colors),
                "overlays": overlays,
                "map": COMPONENTS[0] in self._axes,
                "two": list(TWO_SCORES) if set(TWO_SCORES) <= self._axes.keys() else [],
                "solid": explore.is_solid(state.map_id),
                "number": state.color not in ("count", "share") and not labels,
                "category": bool(labels),
                "mixes": explore.mixes(state.run_id),
            },
        )

    def _show(self) -> None:
        self.column.view = {name: getattr(self.state, name) for name in SET}

    def _tell(self) -> None:
        state = self.state
        k = state.selection.count
        query = {
            "run": state.run_id,
            "map": state.map_id,
            "lambda": round(state.lambda_, 3),
            "lambda_mode": state.lambda_mode,
            "selection": self.explore.keep(state.selection) if k else "",
            "sort": state.sort,
            "descending": int(state.descending),
        }
        opened = self._opened[0] if state.selection.id == self._opened[1] else ""
        self.column.param.update(
            selected={
                "k": k,
                "n": self.explore.survey.n,
                "title": state.selection.title,
                "undo": state.can_undo,
                "redo": state.can_redo,
                "query": urlencode(query),
                "sky": self._has_sky,
                "samp": self.samp is not None,
            },
            opened=opened,
        )

    def _list(self) -> None:
        self.column.kept = [list(kept) for kept in reversed(self.ledger.selection_counts().items())]

    def _say(self, said: str, entry: int | None = None) -> None:
        """One sentence beside the selection, with a way back where there is one."""
        self._last = entry
        self.column.param.update(said=said, can_take_back=entry is not None, answered=self.column.answered + 1)

    # ----------------------------------------------------------------------------------------- page → session
    def _hear(self, message: dict[str, Any]) -> None:
        """What a person did; nonsense (an old page's, say) changes nothing."""
        try:
            match message:
                case {"set": dict(values)}:
                    try:
                        self._set(values)
                    finally:
                        self.column.heard += 1
                case {"do": str(name)}:
                    self._do(name)
                case {"keep": str(name)}:
                    self.save(name)
                case {"open": str(name)}:
                    self.select(name, None)
                case {"rename": [str(name), str(to)]}:
                    entry = self.ledger.rename_selection(name, to, who=self.state.person.name)
                    self._opened = (to if self._opened[0] == name else self._opened[0], self._opened[1])
                    self._changed(f"“{name}” is called “{to}” now", entry.id)
                case {"drop": str(name)}:
                    entry = self.ledger.drop_selection(name, who=self.state.person.name)
                    self._changed(f"“{name}” removed", entry.id)
        except VoorwerpError as error:
            self._say(str(error))

    def _set(self, values: dict[str, Any]) -> None:
        known = {"x": self._axes, "y": self._axes, "color": self._colors, "lambda_mode": MODE_TITLES}
        fits = {k: v for k, v in values.items() if k in SET and (k not in known or str(v) in known[k])}
        if "lambda_mode" in fits:
            self._mix(fits.pop("lambda_mode"))
        with contextlib.suppress(ValueError, TypeError):  # what param does not take
            self.state.param.update(**fits)

    def _do(self, name: str) -> None:
        state = self.state
        match name:
            case "invert":
                state.invert()
            case "undo":
                state.undo()
            case "redo":
                state.redo()
            case "clear":
                state.clear()
            case "off the map":
                self.select_off_map()
            case "take back" if self._last is not None:
                self.ledger.undo(self._last, who=self.state.person.name)
                self._changed("taken back", None)
            case "plane map":
                state.param.update(x=COMPONENTS[0], y=COMPONENTS[1], solid=False)
            case "plane scores" if set(TWO_SCORES) <= self._axes.keys():
                state.param.update(x=TWO_SCORES[0], y=TWO_SCORES[1], solid=False)
            case "plane solid" if self.explore.is_solid(state.map_id):
                state.solid = True
            case "send":
                pn.state.execute(self.send)

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
            self.column.mixing = str(error)
            return
        self.column.mixing = ""
        self.state.lambda_mode = mode

    # ------------------------------------------------------------------------------------------ kept by name
    def _changed(self, said: str, entry: int | None) -> None:
        self._list()
        self._fit()
        self._tell()
        self._say(said, entry)

    def save(self, name: str) -> None:
        """Keep the selection under a name; it is on disk before the screen says so."""
        name, survey = name.strip(), self.explore.survey
        if name in self.ledger.selection_counts():
            self._say(f"there is a “{name}” already; choose another name")
            return
        entry = self.ledger.save_selection(
            name, self.state.selection.rows(), survey.subject_ids, who=self.state.person.name
        )
        self._opened = (name, self.state.selection.id)
        self._changed(f"kept as “{name}”", entry.id)

    def select(self, name: str, mode: str | None = "replace") -> None:
        """Select a kept selection by name; it meets what is selected by `mode`, by the session's where that is None.

        Raises
        ------
        LedgerError
            There is none of that name.
        """
        survey = self.explore.survey
        kept = self.ledger.selection(name, survey.subject_ids)
        selection = Selection.of_rows(survey.rows_of(kept.subject_ids), survey.n)
        self._opened = (name, selection.id)
        self.state.select(selection, mode)
        self._tell()

    async def send(self) -> None:
        """The selection as a table to TOPCAT, Aladin and whoever else listens on this machine."""
        if self.samp is None:
            return
        state = self.state
        selection = state.selection if state.selection.count else None
        try:
            mixed = state.lambda_, state.lambda_mode
            told = (self.explore, selection, state.run_id, state.map_id, *mixed, self.notes)  # as it is downloaded
            table = await asyncio.to_thread(selection_table, *told)
            clients = await asyncio.to_thread(self.samp.send_table, table, self.explore.survey.info.name)
        except VoorwerpError as error:
            self._say(str(error))
            return
        self._say(f"{table.num_rows:,} subjects sent to {', '.join(clients)}")

    def __panel__(self) -> pn.viewable.Viewable:
        return self.column
