"""The subject panel: the focus, in full."""

from __future__ import annotations

import asyncio
from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.errors import VoorwerpError
from explorer.services.explore import Explore
from explorer.services.samp import Samp
from explorer.state import ExplorerState
from explorer.views.components import SubjectCard


class SubjectView(Viewer):
    """Follows `ExplorerState.focus`; the page reads the subject from ``/subject`` itself."""

    def __init__(self, state: ExplorerState, explore: Explore, samp: Samp | None, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.samp = state, explore, samp
        self.panel = SubjectCard(
            sizing_mode="stretch_both",
            margin=0,
            has_images=explore.survey.has_images,
            has_samp=samp is not None,
            hint="Click a point on the map or a picture in the gallery to see the subject here.",
        )
        self.panel.asked = self.point
        self.panel.param.watch(lambda event: setattr(state, "focus", event.new), "row")
        state.param.watch(lambda event: self._show(), ["focus", "run_id", "map_id", "lambda_", "lambda_mode"])
        self._show()

    def refresh(self) -> None:
        """Read the focus again: the survey's columns have changed."""
        self.panel.read += 1

    def _show(self) -> None:
        run = self.explore.runs().get(self.state.run_id)
        self.panel.param.update(
            row=self.state.focus,
            run_id=self.state.run_id,
            map_id=self.state.map_id,
            lambda_=round(self.state.lambda_, 3),
            lambda_mode=self.state.lambda_mode,
            reconstructs=bool(run and "train" in run.inputs),
        )

    async def point(self) -> None:
        """Point TOPCAT, Aladin and DS9 at the focus."""
        record = self.explore.survey.subject(self.state.focus) if self.state.focus is not None else {}
        ra, dec = record.get("ra"), record.get("dec")
        if self.samp is None or not isinstance(ra, float) or not isinstance(dec, float):
            return
        try:
            clients = await asyncio.to_thread(self.samp.point_at, ra, dec)
            said = f"{', '.join(clients)} pointed here"
        except VoorwerpError as error:
            said = str(error)
        self.panel.param.update(said=said, answered=self.panel.answered + 1)

    def __panel__(self) -> pn.viewable.Viewable:
        return self.panel
