"""Find: whatever a person has in hand, an id, a coordinate or a list, is marked on the map."""

from __future__ import annotations

import asyncio
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
    """One found subject takes the focus; several become the selection, the first of them the focus."""

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
            if len(found.rows) > 1:
                self.state.select(Selection.of_rows(found.rows, self.explore.survey.n), "replace")
            self.state.focus = int(found.rows[0])
        self._say(found.message, list(found.missing))

    def _say(self, message: str, missing: list[str]) -> None:
        self.box.param.update(
            message=message, missing=missing[:NAMED], n_missing=len(missing), answered=self.box.answered + 1
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return self.box
