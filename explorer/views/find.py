"""Find: whatever a person has in hand, an id, a coordinate or a list, is marked on the map."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.errors import VoorwerpError
from explorer.services.explore import Explore
from explorer.services.lookup import find
from explorer.state import ExplorerState, Selection
from explorer.views.components import Finder

#: Names of what was not found that the page gets; the count is of all.
NAMED = 500


class FindView(Viewer):
    """One found subject takes the focus; several meet the selection by its mode, the first of them takes the focus."""

    def __init__(self, state: ExplorerState, explore: Explore, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore = state, explore
        self.box = Finder(sizing_mode="stretch_width", margin=(2, 0, 10, 0))
        self.box.asked = self.find

    async def find(self, text: str) -> None:
        """Look `text` up and mark what it names; what is missing is named on screen."""
        try:
            found = await asyncio.to_thread(find, self.explore.survey, text)  # a long list takes a second
        except VoorwerpError as error:
            self._say(str(error), [])
            return
        if len(found.rows):
            region = Selection.of_rows(found.rows, self.explore.survey.n) if len(found.rows) > 1 else None
            pn.state.execute(partial(self._mark, region, int(found.rows[0])), schedule=True)  # with the document's lock
        self._say(found.message, list(found.missing))

    def _mark(self, region: Selection | None, focus: int) -> None:
        if region is not None:
            self.state.select(region)
        self.state.focus = focus

    def _say(self, message: str, missing: list[str]) -> None:
        self.box.param.update(
            message=message, missing=missing[:NAMED], n_missing=len(missing), answered=self.box.answered + 1
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return self.box
