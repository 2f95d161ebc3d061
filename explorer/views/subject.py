"""The subject panel: the focus, in full."""

from __future__ import annotations

from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.services.explore import Explore
from explorer.state import ExplorerState
from explorer.views.components import SubjectCard


class SubjectView(Viewer):
    """Follows `ExplorerState.focus`; the page reads the subject from ``/subject`` itself."""

    def __init__(self, state: ExplorerState, explore: Explore, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore = state, explore
        self.panel = SubjectCard(
            sizing_mode="stretch_both",
            margin=0,
            has_images=explore.survey.images is not None,
            hint="Click a point on the map or a picture in the gallery to see the subject here.",
        )
        self.panel.param.watch(lambda event: setattr(state, "focus", event.new), "row")
        state.param.watch(lambda event: self._show(), ["focus", "run_id", "lambda_"])
        self._show()

    def _show(self) -> None:
        run = self.explore.runs().get(self.state.run_id)
        self.panel.param.update(
            row=self.state.focus,
            run_id=self.state.run_id,
            lambda_=round(self.state.lambda_, 3),
            reconstructs=bool(run and "train" in run.inputs),
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return self.panel
