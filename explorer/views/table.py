"""The table: the selection, or every subject, a line each, in any order and narrowed by a filter."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.errors import VoorwerpError
from explorer.services.explore import Explore
from explorer.services.listing import Listed, Listing
from explorer.state import MODES, ExplorerState
from explorer.views.components import Table, link


class TableView(Viewer):
    """The page reads lines and completions from ``/table`` and ``/complete`` itself."""

    def __init__(self, state: ExplorerState, explore: Explore, listing: Listing, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.listing = state, explore, listing
        self.table = Table(
            sizing_mode="stretch_both",
            margin=0,
            has_images=explore.survey.has_images,
            survey_id=explore.survey.info.survey_id,
            n=explore.survey.n,
        )
        self.table.asked = self._hear
        link(self.table, state, "focus", "mode")
        state.param.watch(lambda *_: self._sort(), ["sort", "descending"])
        state.param.watch(lambda *_: self._show(), ["selection", "lambda_", "lambda_mode"])
        state.param.watch(lambda *_: self.refresh(), ["run_id", "map_id"])
        self._sort()
        self.refresh()

    def refresh(self) -> None:
        """Offer the columns that the survey, the run and the map have now, and read them anew."""
        state = self.state
        self.table.param.update(
            columns=self.listing.columns(state.run_id, state.map_id),
            mixes=self.explore.mixes(state.run_id),
            run_id=state.run_id,
            map_id=state.map_id,
            read=self.table.read + 1,
        )
        self._show()

    def _show(self) -> None:
        state = self.state
        self.table.param.update(
            selection_id=self.explore.keep(state.selection) if state.selection.count else "",
            n_selected=state.selection.count,
            lambda_=round(state.lambda_, 3),
            lambda_mode=state.lambda_mode,
        )

    def _sort(self) -> None:
        self.table.param.update(sort=self.state.sort, descending=self.state.descending)

    def _hear(self, message: dict[str, Any]) -> None:
        if "sort" in message:
            self._sort_by(str(message["sort"]), bool(message.get("descending")))
        elif "select" in message and message.get("mode") in MODES:
            pn.state.execute(
                partial(self._select, str(message["select"]), bool(message.get("within")), message["mode"])
            )

    def _sort_by(self, reference: str, descending: bool) -> None:
        """Order the table; the gallery, too, where it can be ordered so."""
        if reference in self.explore.colors(self.state.run_id, self.state.map_id):
            self.state.param.update(sort=reference, descending=descending)
        elif any(column["reference"] == reference for column in self.table.columns):
            self.table.param.update(sort=reference, descending=descending)

    async def _select(self, where: str, within: bool, mode: str) -> None:
        """Let what the table lists meet the selection."""
        state = self.state
        scope = self.explore.keep(state.selection) if within and state.selection.count else ""
        told = state.run_id, state.lambda_, state.lambda_mode, state.map_id
        try:
            region = await asyncio.to_thread(self.listing.region, Listed(scope, where, "", True, *told))
        except VoorwerpError:
            return  # the page has said so
        region.title = "" if scope else where.strip()[:200]  # of a part of a selection it would say too much
        pn.state.execute(partial(state.select, region, mode), schedule=True)  # with the document's lock

    def __panel__(self) -> pn.viewable.Viewable:
        return self.table
