"""The pane of histograms: how any columns are spread, and brushes that select by them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import param
from panel.custom import JSComponent
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.errors import VoorwerpError
from explorer.services.explore import Explore
from explorer.services.histograms import Gate, Histograms, Source
from explorer.state import ExplorerState, Selection
from explorer.views.components import CSS

#: Shown until a person chooses: the run's scores, at most this many.
FIRST = 4
#: Gates at once, and categories in one.
MOST_GATES, MOST_LABELS = 32, 64


class HistogramsPane(JSComponent):
    """Small multiples; `asked` is called with the brushes as they are dragged."""

    shown = param.Boolean(False, doc="Whether the pane is in sight; it fetches nothing while it is not.")
    survey = param.String("", doc="Under which the browser remembers the chosen columns.")
    offered = param.List([], doc='Columns: {"reference", "title", "kind"}.')
    first = param.List([], doc="References of what is shown until a person chooses.")
    wanted = param.String("", doc="The column that another pane asked to see last.")
    total = param.Integer(0, doc="Subjects of the survey.")
    selection_id = param.String("", doc="Id that the server knows; empty when nothing is selected.")
    n_selected = param.Integer(0)
    gates = param.List([], doc='The brushes that made the selection: {"reference", "low", "high", "labels"}.')
    answered = param.Integer(0, doc="Number of the last message that was acted on.")
    said = param.String("", doc="Why a brush could not be followed.")
    run_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    map_id = param.String("")
    plane = param.Dict({}, doc="What the map lies in, as its routes are asked.")
    view = param.List([], doc="x0, x1, y0, y1 of the map on screen; empty for the whole map.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "histograms.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "histograms.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict) and isinstance(msg.get("gates"), list):
            self.asked(msg)


@dataclass(frozen=True)
class Claim:
    """A selection that brushes made: which ones, from what, and how they met what was selected before."""

    gates: tuple[Gate, ...]
    mode: str
    base: Selection
    source: Source

    def holds(self, source: Source) -> bool:
        """Whether the brushed columns are still the same."""
        return all(self.source.of(g.reference) == source.of(g.reference) for g in self.gates)


class HistogramsView(Viewer):
    """Histograms of columns that a person chooses; a brush moves the session's selection while it is dragged.

    Brushes stay as long as the selection is the one they made, and come back with it (undo, redo).
    """

    def __init__(self, state: ExplorerState, explore: Explore, histograms: Histograms, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.histograms = state, explore, histograms
        self.pane = HistogramsPane(
            survey=explore.survey.info.survey_id, total=explore.survey.n, sizing_mode="stretch_both", margin=0
        )
        self.pane.asked = self._hear
        self._claim: Claim | None = None
        self._claims: OrderedDict[str, Claim] = OrderedDict()
        self._ours = False
        state.param.watch(lambda *_: self._select(), "selection")
        state.param.watch(lambda *_: self._follow(), ["lambda_", "lambda_mode", "x", "y", "solid", "turn", "view"])
        state.param.watch(lambda *_: self.refresh(), ["run_id", "map_id"])
        self.refresh()
        self._select()

    def __panel__(self) -> HistogramsPane:
        return self.pane

    def refresh(self) -> None:
        """Offer the columns that the survey, the run and the map have now."""
        run_id, map_id = self.state.run_id, self.state.map_id
        titles = self.explore.axes(run_id, map_id) | self.explore.colors(run_id, map_id)
        kinds = {r: "category" if self.explore.is_category(r) else "number" for r in titles if "." in r}
        scores = [r for r in kinds if r.startswith("scores.")]
        self.pane.param.update(
            offered=[{"reference": r, "title": titles[r], "kind": kind} for r, kind in kinds.items()],
            first=(scores or [r for r in kinds if r.startswith("subjects.")])[:FIRST],
        )
        self._follow()

    def bring(self, reference: str) -> None:
        """Show a column, first of all."""
        self.pane.wanted = ""
        self.pane.wanted = reference

    @property
    def source(self) -> Source:
        """Where the columns come from now."""
        state = self.state
        return Source(state.run_id, state.lambda_, state.lambda_mode, state.map_id)

    # ------------------------------------------------------------------------------------------ session → page
    def _follow(self) -> None:
        """Another run, another λ, another view: other counts; a brush whose column became another is no more."""
        state = self.state
        if self._claim is not None and not self._claim.holds(self.source):
            self._claim = None
        plane = {"x": state.x, "y": state.y} | ({"turn": ",".join(map(str, state.turn))} if state.solid else {})
        self.pane.param.update(
            run_id=state.run_id,
            lambda_=round(state.lambda_, 3),
            lambda_mode=state.lambda_mode,
            map_id=state.map_id,
            plane=plane,
            view=list(state.view or ()),
            gates=self._gates(),
        )

    def _select(self) -> None:
        """Show another selection; the brushes are those that made it, if any did."""
        selection = self.state.selection
        if not self._ours:
            found = self._claims.get(selection.id) if selection.count else None
            self._claim = found if found is not None and found.holds(self.source) else None
        self.pane.param.update(
            selection_id=self.explore.keep(selection) if selection.count else "",
            n_selected=selection.count,
            gates=self._gates(),
        )

    def _gates(self) -> list[dict[str, Any]]:
        return [
            {
                "reference": gate.reference,
                "low": gate.low if math.isfinite(gate.low) else None,
                "high": gate.high if math.isfinite(gate.high) else None,
                "labels": list(gate.labels),
            }
            for gate in (self._claim.gates if self._claim else ())
        ]

    # ------------------------------------------------------------------------------------------ page → session
    def _hear(self, message: dict[str, Any]) -> None:
        said = ""
        try:
            gates = [_gate(given) for given in message["gates"][:MOST_GATES]]
            self.brush(gates, settled=message.get("settled") is True)
        except VoorwerpError as error:
            said = str(error)
        finally:
            number = message.get("number")
            answered = number if isinstance(number, int) else self.pane.answered
            self.pane.param.update(said=said, gates=self._gates(), answered=answered)

    def brush(self, gates: list[Gate], *, settled: bool) -> None:
        """Select by gates, all of which must let a subject through.

        By the session's mode they meet what was selected before the first of them. Another mode than that of the
        brushes before takes what these selected as given, and begins anew.

        Parameters
        ----------
        gates
            Every brush there is; [] takes the brushes away, and what they selected with them.
        settled
            Whether the gesture is over: what it did is one step of undo.
        """
        state, claim = self.state, self._claim
        if claim is None and not gates:
            return
        mode = state.mode
        new = [gate for gate in gates if claim is None or gate not in claim.gates]
        if claim is None or (new and claim.mode != mode):
            base, gates = state.selection, new
        else:
            mode, base = claim.mode, claim.base
        region = self.histograms.gated(gates, self.source) if gates else Selection.empty(base.n)
        met = {"add": base | region, "subtract": base - region, "intersect": base & region if gates else base}
        self._claim = Claim(tuple(gates), mode, base, self.source) if gates else None
        self._ours = True
        try:
            state.sketch(met.get(mode, region), "replace")
            if settled:
                state.settle()
        finally:
            self._ours = False
        if settled and self._claim is not None and state.selection.count:
            self._claims[state.selection.id] = self._claim
            while len(self._claims) > 100:
                self._claims.popitem(last=False)


def _gate(given: Any) -> Gate:
    """A gate as the page sends it.

    Raises
    ------
    VoorwerpError
        It is none.
    """
    low, high, labels = (given.get(name) if isinstance(given, dict) else None for name in ("low", "high", "labels"))
    bounds = (-math.inf if low is None else low, math.inf if high is None else high)
    names = labels or []
    if (
        not isinstance(given, dict)
        or not isinstance(given.get("reference"), str)
        or not all(isinstance(b, int | float) and not isinstance(b, bool) for b in bounds)
        or not (isinstance(names, list) and len(names) <= MOST_LABELS and all(isinstance(n, str) for n in names))
    ):
        raise VoorwerpError("the page sent a brush that is none; reload it")
    return Gate(given["reference"], float(bounds[0]), float(bounds[1]), tuple(names))
