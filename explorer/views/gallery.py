"""The gallery: the selection as pictures, in any order and in groups."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.services.explore import Explore
from explorer.services.groups import FEWEST_CLUSTERS, MOST_CLUSTERS, Group, Groups
from explorer.services.pictures import reconstructs
from explorer.state import MODES, ExplorerState, Selection
from explorer.views.components import GalleryGrid, link

CLUSTERS = (FEWEST_CLUSTERS, 6, 8, 12, 16, MOST_CLUSTERS)


class GalleryView(Viewer):
    """One virtual grid over the selection (over every subject when nothing is selected)."""

    def __init__(self, state: ExplorerState, explore: Explore, groups: Groups, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.groups = state, explore, groups
        self.grid = GalleryGrid(
            sizing_mode="stretch_both", margin=0, has_images=explore.survey.has_images, n=explore.survey.n
        )
        self.grid.chosen = lambda *told: pn.state.execute(partial(self.choose, *told))
        link(self.grid, state, "sort", "descending", "focus")
        state.param.watch(lambda *_: self._show(), ["selection", "lambda_", "lambda_mode"])
        state.param.watch(lambda *_: self._offer(), ["run_id", "map_id"])
        self._offer()

    def refresh(self) -> None:
        """Offer the orders and groups that the survey and the run have now, and read the gallery again."""
        self._offer()
        self.grid.read += 1

    def first(self) -> int | None:
        """Row of the first picture."""
        rows = self.groups.ordered("", *self._told()).page(0, 1)
        return int(rows[0]) if len(rows) else None

    async def choose(self, group: str, title: str, start: int, k: int, mode: str) -> None:
        """Select the subjects of a section; one that is not there any more selects nothing."""
        if mode not in MODES:
            return
        found = await asyncio.to_thread(self.groups.ordered, group, *self._told())
        if Group(title, start, k) in found.groups:
            rows = await asyncio.to_thread(found.page, start, k)
            region = Selection.of_rows(rows, self.explore.survey.n)
            pn.state.execute(partial(self.state.select, region, mode), schedule=True)  # with the document's lock

    def _told(self) -> tuple[Any, ...]:
        state = self.state
        selection_id = self.explore.keep(state.selection) if state.selection.count else ""
        return selection_id, state.sort, state.run_id, state.lambda_, state.descending, state.lambda_mode, state.map_id

    def _offer(self) -> None:
        """Orders and groups of the survey, the run and the map; an order that is gone gives way to the default."""
        state, explore = self.state, self.explore
        orders = {r: t for r, t in explore.colors(state.run_id, state.map_id).items() if "." in r}
        if state.sort not in orders:
            default = explore.default_color(state.run_id)
            state.sort = "" if default == "count" else default
        categories = [(f"values:{r}", t) for r, t in orders.items() if explore.is_category(r)]
        numbers = [(r, t) for r, t in orders.items() if not explore.is_category(r)]
        clusters = (
            [(f"clusters:{k}", f"{k} clusters") for k in CLUSTERS] if self.groups.has_clusters(state.run_id) else []
        )
        quantiles = [
            (f"{how.title()} of", [(f"{how}:{r}", f"{t}, {how}") for r, t in numbers])
            for how in ("quartiles", "deciles")
        ]
        offered = [("Categories", categories), ("Clusters in latent space", clusters), *quantiles]
        groups = [(heading, options) for heading, options in offered if options]
        known = {group for _, options in groups for group, _ in options}
        self.grid.param.update(
            orders=[("", "Order of the survey"), *orders.items()],
            groups=groups,
            group=self.grid.group if self.grid.group in known else "",
            reconstructs=explore.survey.has_images and reconstructs(explore, state.run_id),
        )
        self._show()

    def _show(self) -> None:
        state = self.state
        k, n = state.selection.count, self.explore.survey.n
        self.grid.param.update(
            selection_id=self.explore.keep(state.selection) if k else "",
            total=k or n,
            run_id=state.run_id,
            map_id=state.map_id,
            lambda_=round(state.lambda_, 3),
            lambda_mode=state.lambda_mode,
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return self.grid
