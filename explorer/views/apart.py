"""The pane "Sets apart": in which columns the selected subjects differ from the others, and what a score goes with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import param
from panel.custom import JSComponent
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.services.explore import Explore
from explorer.state import ExplorerState
from explorer.views.components import CSS


class ApartPane(JSComponent):
    """Two ranked lists, which the page reads from ``/apart`` itself; `asked` is called with what a person clicked."""

    shown = param.Boolean(False, doc="Whether the pane is in sight; it fetches nothing while it is not.")
    selection_id = param.String("", doc="Id that the server knows; empty when nothing is selected.")
    n_selected = param.Integer(0)
    run_id = param.String("")
    map_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    scores = param.List([], doc='What can be correlated with every column: {"reference", "title"}.')
    color = param.String("", doc="What the map is coloured by.")
    read = param.Integer(0, doc="Grows when the same columns are to be read anew.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "apart.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "apart.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class ApartView(Viewer):
    """Compares the session's selection; a column clicked there colors the map, or is opened as a histogram."""

    def __init__(
        self, state: ExplorerState, explore: Explore, show_histogram: Callable[[str], None], **params: Any
    ) -> None:
        super().__init__(**params)
        self.state, self.explore, self._show_histogram = state, explore, show_histogram
        self.pane = ApartPane(sizing_mode="stretch_both", margin=0)
        self.pane.asked = self._hear
        state.param.watch(lambda *_: self._follow(), ["selection", "lambda_", "lambda_mode", "color"])
        state.param.watch(lambda *_: self.refresh(), ["run_id", "map_id"])
        self.refresh()

    def __panel__(self) -> ApartPane:
        return self.pane

    def refresh(self) -> None:
        """Offer the scores that the survey, the run and the map have now, and compare anew."""
        state = self.state
        offered = self.explore.colors(state.run_id, state.map_id)
        numbers = {r: t for r, t in offered.items() if "." in r and not self.explore.is_category(r)}
        self.pane.param.update(
            scores=[{"reference": r, "title": t} for r, t in numbers.items()],
            run_id=state.run_id,
            map_id=state.map_id,
            read=self.pane.read + 1,
        )
        self._follow()

    def _follow(self) -> None:
        state = self.state
        k = state.selection.count
        self.pane.param.update(
            selection_id=self.explore.keep(state.selection) if k else "",
            n_selected=k,
            lambda_=round(state.lambda_, 3),
            lambda_mode=state.lambda_mode,
            color=state.color,
        )

    def _hear(self, message: dict[str, Any]) -> None:
        color, column = (str(message.get(name, "")) for name in ("color", "histogram"))
        offered = self.explore.colors(self.state.run_id, self.state.map_id)
        if color in offered:
            self.state.color = color
        elif column in offered:
            self._show_histogram(column)
