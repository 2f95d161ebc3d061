"""The gallery: the selection as pictures, in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewer

from explorer.services.explore import Explore
from explorer.state import ExplorerState
from explorer.views.components import Thumbnails


class GalleryView(Viewer):
    """One virtual grid over the selection (over every subject when nothing is selected)."""

    def __init__(self, state: ExplorerState, explore: Explore, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore = state, explore
        self.grid = Thumbnails(
            sizing_mode="stretch_both", margin=0, focus=state.focus, has_images=explore.survey.has_images
        )
        small = {"size": "small", "margin": (0, 10, 0, 0)}
        self._sort = pmui.Select(label="Sort by", width=150, **small)
        self._descending = pmui.Select(
            label="Order",
            options={"highest first": True, "lowest first": False},
            value=state.descending,
            width=122,
            **small,
        )
        self._size = pmui.Select(
            label="Pictures",
            options={"small": 64, "medium": 96, "large": 144, "huge": 224},
            value=96,
            width=96,
            **small,
        )
        self._size.visible = explore.survey.has_images
        self._size.param.watch(lambda event: setattr(self.grid, "size", event.new), "value")
        self._count = pn.pane.HTML("", margin=(6, 0, 0, 0), styles={"white-space": "nowrap"})
        for widget, name in ((self._sort, "sort"), (self._descending, "descending")):
            widget.param.watch(lambda event, name=name: setattr(state, name, event.new), "value")
            state.param.watch(lambda event, widget=widget: setattr(widget, "value", event.new), name)
        self.grid.param.watch(lambda event: setattr(state, "focus", event.new), "focus")
        state.param.watch(lambda event: self._follow(), "focus")
        state.param.watch(lambda event: self._show(), ["selection", "sort", "descending", "lambda_", "lambda_mode"])
        state.param.watch(lambda event: self.refresh(), "run_id")
        self.refresh()

    def refresh(self) -> None:
        """Offer the orders that the survey and the run have now."""
        orders = {t: r for r, t in self.explore.colors(self.state.run_id).items() if r != "count"}
        if self.state.sort not in orders.values():
            default = self.explore.default_color(self.state.run_id)
            self.state.sort = "" if default == "count" else default
        self._sort.options = ({} if self.state.sort else {"Order of the survey": ""}) | orders
        self._sort.value = self.state.sort
        self._show()

    def first(self) -> int | None:
        """Row of the first picture."""
        rows = self._rows()
        return int(rows[0]) if len(rows) else None

    def _rows(self) -> np.ndarray:
        state = self.state
        selection_id = self.explore.keep(state.selection) if state.selection.count else ""
        told = (state.sort, state.run_id, state.lambda_, state.descending, state.lambda_mode)
        return self.explore.ordered(selection_id, *told)

    def _follow(self) -> None:
        """Show the focus, and go to where it stands in the gallery."""
        focus = self.state.focus
        at = np.flatnonzero(self._rows() == (-1 if focus is None else focus))
        self.grid.param.update(focus=focus, place=int(at[0]) if len(at) else -1)

    def _show(self) -> None:
        state = self.state
        k, n = state.selection.count, self.explore.survey.n
        self._count.object = f"<b>{k:,}</b> selected of {n:,}" if k else f"all <b>{n:,}</b> subjects"
        self.grid.param.update(
            selection_id=self.explore.keep(state.selection) if k else "",
            total=k or n,
            sort=state.sort,
            descending=state.descending,
            run_id=state.run_id,
            lambda_=round(state.lambda_, 3),
            lambda_mode=state.lambda_mode,
        )

    def __panel__(self) -> pn.viewable.Viewable:
        bar = pn.Row(
            self._count, pn.Spacer(sizing_mode="stretch_width"), self._size, self._descending, self._sort,
            height=52, sizing_mode="stretch_width", margin=0, styles={"padding": "10px 4px 0 12px"},
        )  # fmt: skip
        return pn.Column(bar, self.grid, sizing_mode="stretch_both", margin=0)
