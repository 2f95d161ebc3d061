"""The page of volunteers: a sheet over the window, which reads ``/volunteers`` itself while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import panel as pn
import param
from panel.custom import JSComponent
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.errors import VoorwerpError
from explorer.services.counting import Counting
from explorer.services.crowd import Crowd, Cut, Machine
from explorer.services.explore import Explore
from explorer.state import ExplorerState
from explorer.views.components import CSS, Later


class CrowdDoor(JSComponent):
    """Opens the sheet, whose script is fetched then; `asked` is called with what a person wants counted or selected."""

    run_id = param.String("")
    map_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    counting = param.Dict({}, doc="Whether votes are being counted anew, and why that did not work.")
    read = param.Integer(0, doc="Grows when the same votes are to be read anew.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "crowd.js"
    _stylesheets: ClassVar[list[str]] = [CSS]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class VolunteersView(Viewer):
    """Counts in another way where a person asks for it, and selects what machine and crowd disagree on."""

    def __init__(self, state: ExplorerState, explore: Explore, crowd: Crowd, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.crowd = state, explore, crowd
        self.door = CrowdDoor(width=0, height=0, margin=0)
        self.door.asked = self._hear
        follow = Later(self._follow)  # nobody sees it now
        state.param.watch(lambda *_: follow(), ["run_id", "map_id", "lambda_", "lambda_mode"])
        self._follow()

    def refresh(self) -> None:
        """The votes were counted anew: read them."""
        self.door.read += 1

    def _follow(self) -> None:
        state = self.state
        self.door.param.update(
            run_id=state.run_id, map_id=state.map_id, lambda_=round(state.lambda_, 3), lambda_mode=state.lambda_mode
        )

    def _hear(self, message: dict[str, Any]) -> None:
        if isinstance(message.get("count"), dict):
            pn.state.execute(partial(self._count, message["count"]))
        elif "select" in message:
            pn.state.execute(partial(self._select, message))

    async def _count(self, wanted: dict[str, Any]) -> None:
        """Count by other settings from now on; whatever is not named stays."""
        if self.door.counting.get("going"):
            return
        self.door.counting = {"going": True}
        error = ""
        try:
            settings = Counting.of(asdict(self.crowd.volunteers.settings) | wanted)
            await asyncio.to_thread(self.crowd.volunteers.decide, settings, who=self.state.person.name)
        except VoorwerpError as trouble:
            error = str(trouble)
        pn.state.execute(partial(self._counted, error), schedule=True)  # with the document's lock

    def _counted(self, error: str) -> None:
        self.door.counting = {"error": error} if error else {}
        if not error:
            self.refresh()

    async def _select(self, message: dict[str, Any]) -> None:
        """Let a quadrant replace the selection; a subject of it takes the focus."""
        state, told = self.state, message.get("machine") or {}
        try:
            machine = Machine(str(told.get("score", "")), state.run_id, state.lambda_, state.lambda_mode, state.map_id)
            cut = Cut(float(message["cut"]["percentile"]), float(message["cut"]["fraction"]))
            region = await asyncio.to_thread(self.crowd.region, machine, cut, str(message["select"]))
        except (VoorwerpError, KeyError, TypeError, ValueError):
            return  # votes or scores are others now: the sheet reads them anew
        row = message.get("row")
        focus = row if isinstance(row, int) and 0 <= row < self.explore.survey.n else None

        def select() -> None:
            state.select(region, "replace")
            if focus is not None:
                state.focus = focus
            state.pane = "gallery"

        pn.state.execute(select, schedule=True)  # with the document's lock

    def __panel__(self) -> pn.viewable.Viewable:
        return self.door
