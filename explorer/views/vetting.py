"""Campaigns of experts: a sheet over the window, which reads ``/campaigns`` itself while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import panel as pn
import param
from panel.custom import JSComponent
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.errors import VoorwerpError
from explorer.services.boundaries import Context
from explorer.services.campaign_view import CampaignView
from explorer.services.explore import Explore
from explorer.services.judge import Judge
from explorer.state import EVERYTHING, ExplorerState, Selection
from explorer.views.components import CSS, Later


class VettingDoor(JSComponent):
    """Opens the sheet, whose script is fetched then; `asked` is called with what is to be selected or looked at."""

    run_id = param.String("")
    map_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    selection_id = param.String("", doc="Id that the server knows; empty where nothing is selected.")
    n_selected = param.Integer(0)
    title = param.String("", doc="What the selection is, in words.")
    region = param.Dict({}, doc="Outline and plane where the selection is what was drawn on the map; else {}.")
    draft = param.String("", doc="Id of the boundary at work; empty where it keeps everything.")
    focus = param.Integer(None, allow_None=True)
    focus_id = param.String("")
    may_make = param.Boolean(True, doc="Whether this person makes campaigns.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "vetting.js"
    _stylesheets: ClassVar[list[str]] = [CSS]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class VettingView(Viewer):
    """Tells the sheet what is selected, drawn and in focus, and selects what a number of it is of.

    Parameters
    ----------
    drawn
        What was drawn on the map last: its selection and its plane and outline; None where it was nothing flat.
    named
        The name of the kept selection that is selected, "" where it is none.
    made
        Called when there is a campaign more: it may have given a region its name.
    """

    def __init__(
        self,
        state: ExplorerState,
        explore: Explore,
        judge: Judge,
        campaigns: CampaignView,
        drawn: Callable[[], tuple[Selection, dict[str, Any]] | None] = lambda: None,
        named: Callable[[], str] = str,
        made: Callable[[], None] = lambda: None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.state, self.explore, self.judge, self.campaigns = state, explore, judge, campaigns
        self._drawn, self._named, self._made = drawn, named, made
        self.door = VettingDoor(width=0, height=0, margin=0, may_make=state.person.may("owner"))
        self.door.asked = self._hear
        follow = Later(self._follow)  # nobody sees it now
        state.param.watch(lambda *_: follow(), ["run_id", "map_id", "lambda_", "lambda_mode"])
        state.param.watch(lambda *_: self.tell_selected(), "selection")
        state.param.watch(lambda *_: self._tell_draft(), ["draft", "run_id", "map_id", "lambda_", "lambda_mode"])
        state.param.watch(lambda *_: self._tell_focus(), "focus")
        self._follow()
        self.tell_selected()
        self._tell_draft()
        self._tell_focus()

    def _follow(self) -> None:
        state = self.state
        self.door.param.update(
            run_id=state.run_id, map_id=state.map_id, lambda_=round(state.lambda_, 3), lambda_mode=state.lambda_mode
        )

    def tell_selected(self) -> None:
        """What is selected, what it is called, and whether it is what was drawn."""
        selection = self.state.selection
        drawn = self._drawn() if selection.count else None
        self.door.param.update(
            selection_id=self.explore.keep(selection) if selection.count else "",
            n_selected=selection.count,
            title=self._named() or selection.title or "",
            region=drawn[1] if drawn is not None and drawn[0] == selection else {},
        )

    def _tell_draft(self) -> None:
        state = self.state
        if state.is_tuning or state.draft.keep == EVERYTHING:
            self.door.draft = "" if state.draft.keep == EVERYTHING else self.door.draft
            return
        context = Context(state.run_id, state.map_id, state.lambda_, state.lambda_mode)
        self.door.draft = self.judge.keep(state.draft, context)

    def _tell_focus(self) -> None:
        row = self.state.focus
        name = "" if row is None else str(self.explore.survey.source_ids([row])[0])
        self.door.param.update(focus=row, focus_id=name)

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"select": str(which), "campaign": str(campaign)}:
                pn.state.execute(partial(self._select, campaign, which))
            case {"focus": int(row)} if 0 <= row < self.explore.survey.n:
                self.state.param.update(focus=row, side="subject")
            case {"made": str()}:
                self._made()

    async def _select(self, campaign: str, which: str) -> None:
        """Let what a number is of replace the selection, in the gallery."""
        try:
            rows, title = await asyncio.to_thread(self.campaigns.rows, campaign, which, self.state.person)
        except VoorwerpError:
            return  # the campaign is another now: the sheet reads it anew
        region = Selection.of_rows(rows, self.explore.survey.n)
        region.title = title

        def select() -> None:
            self.state.select(region, "replace")
            self.state.pane = "gallery"

        pn.state.execute(select, schedule=True)  # with the document's lock

    def __panel__(self) -> pn.viewable.Viewable:
        return self.door
