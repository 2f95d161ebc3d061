"""What the sheet of campaigns asks of the server, and what it decides there.

=====================================  ================================================================
/campaigns                             every campaign in a line, and what a new one is made of
/campaigns/source                      what a campaign would be of: how many, in words, a few of them
/campaigns/ID                          one: who graded how much, purity by grade, every outcome
/campaigns/ID/agreement                coefficients, each two graders, each grader
/campaigns/ID/adjudication             the most disputed first, with everybody's grades and notes
/campaigns/ID/left                     how many are left to be found, and what was found by how many looks
/campaigns/ID/export                   its candidates as a file: ?format=csv|…|pdf|html&grade=A,B&found=1&disputed=1
/campaigns/make, /quick, /close        POST, by an owner: JSON in, JSON out, once it is in the ledger
/campaigns/adjudicate, /outcome        POST, by a vetter: the same
/campaigns/send                        POST, by a vetter: its candidates to the programs of this desktop
=====================================  ================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, get_args

import orjson
from tornado.web import HTTPError

from explorer.errors import AccessError
from explorer.people import Role
from explorer.server import Access, Change, Route
from explorer.services import candidates
from explorer.services.boundaries import Context
from explorer.services.campaign_view import CampaignView
from explorer.services.desk import Desk
from models.mixing import MODE_TITLES, Mode


class CampaignsRoute(Route):
    """The list; what is not for this person yet is left out by the service."""

    def initialize(self, access: Access, desk: Desk, pool: ThreadPoolExecutor, sheet: CampaignView) -> None:  # type: ignore[override]
        super().initialize(access, desk, pool)
        self.sheet = sheet

    async def answer(self, *path: str) -> tuple[bytes, str]:
        return await self.told(partial(self.sheet.overview, self.person))

    async def told(self, ask: Callable[[], Any]) -> tuple[bytes, str]:
        """An answer as JSON, that nobody keeps."""
        self.set_header("Cache-Control", "no-store")
        body = await self.off(lambda: orjson.dumps(ask(), option=orjson.OPT_SERIALIZE_NUMPY))
        return body, "application/json"


class SourceRoute(CampaignsRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        asked: dict[str, Any] = {
            name: self.get_query_argument(name, "") for name in ("selection", "kept", "draft", "boundary")
        }
        asked["version"] = self.integer("version", 0, 10**9, 0)
        context = Context(
            self.run_id(), self.get_query_argument("map", "") and self.map_id(), self.lambda_(), self.mode()
        )
        return await self.told(partial(self.sheet.source, asked, context))


class CampaignRoute(CampaignsRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        campaign_id, part = path[0], path[1] if len(path) > 1 else None
        asks = {
            None: self.sheet.detail,
            "agreement": self.sheet.agreement,
            "adjudication": self.sheet.adjudication,
            "left": self.sheet.left,
        }
        return await self.told(partial(asks[part], campaign_id, self.person))


class ExportRoute(Route):
    """Candidates as a file; who may still grade blind gets none."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        asked = {name: self.get_query_argument(name, "")[:100] for name in ("grade", "found", "disputed", "names")}
        asked["format"] = self.choice("format", tuple(candidates.FORMATS))
        try:
            body, kind, name = await self.off(candidates.export, self.desk, path[0], asked, self.person)
        except AccessError as error:
            raise HTTPError(403, str(error)) from None
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Cache-Control", "no-store")
        return body, kind


class CampaignsChange(Change):
    """A decision by a page of ours."""

    def initialize(self, access: Access, desk: Desk, pool: ThreadPoolExecutor, sheet: CampaignView) -> None:  # type: ignore[override]
        super().initialize(access, desk, pool)
        self.sheet = sheet

    async def answer(self, *path: str) -> tuple[bytes, str]:
        try:
            told = orjson.loads(self.request.body)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise HTTPError(400, "what was sent is not JSON")
        acts: dict[str, Callable[[], Any]] = {
            "make": lambda: {"id": self.sheet.make(told, self.context(told), self.person).id},
            "quick": lambda: {"id": self.sheet.quick(told, self.context(told), self.person).id},
            "close": partial(self.sheet.turn, told, self.person),
            "adjudicate": partial(self.sheet.adjudicate, told, self.person),
            "outcome": partial(self.sheet.follow_up, told, self.person),
            "send": lambda: {"said": candidates.send(self.desk, str(told.get("campaign")), told, self.person)},
        }
        self.set_header("Cache-Control", "no-store")
        try:
            found = await self.off(acts[path[0]])
        except AccessError as error:
            raise HTTPError(403, str(error)) from None
        return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY), "application/json"

    def context(self, told: dict[str, Any]) -> Context:
        """What was on the screen."""
        run_id, map_id = (str(told.get(name, "")) for name in ("run", "map"))
        is_run, is_map = run_id in ("", *self.explore.runs()), map_id in ("", *self.explore.maps())
        if not (is_run and is_map):
            raise HTTPError(404, "the run or the map on this screen is there no more; choose another")
        lambda_, mode = told.get("lambda", 0.2), next((m for m in get_args(Mode) if m == told.get("lambda_mode")), None)
        if not isinstance(lambda_, int | float) or isinstance(lambda_, bool) or mode is None:
            raise HTTPError(400, "lambda must be a number, and lambda_mode one of " + ", ".join(MODE_TITLES))
        return Context(run_id, map_id, min(1.0, max(0.0, float(lambda_))), mode)


class OwnersChange(CampaignsChange):
    needs: Role = "owner"


def campaign_routes(access: Access, desk: Desk, pool: ThreadPoolExecutor, sheet: CampaignView) -> list[tuple[Any, ...]]:
    """The table of handlers, as `explorer.server.routes`; agreement takes seconds, on a thread of its own."""
    given = {"access": access, "desk": desk, "pool": pool, "sheet": sheet}
    return [
        (r"/campaigns", CampaignsRoute, given),
        (r"/campaigns/source", SourceRoute, given),
        (r"/campaigns/(make|quick|close)", OwnersChange, given),
        (r"/campaigns/(adjudicate|outcome|send)", CampaignsChange, given),
        (r"/campaigns/([0-9a-f]{12})/export", ExportRoute, {"access": access, "desk": desk, "pool": desk.slow}),
        (r"/campaigns/([0-9a-f]{12})/(agreement|left)", CampaignRoute, given | {"pool": desk.slow}),
        (r"/campaigns/([0-9a-f]{12})(?:/(adjudication))?", CampaignRoute, given),
    ]
