"""The page for volunteers, ``/classify``: who may come in, and its routes. Plain HTML and one script: quick on a phone.

==========================  ================================================================================
GET  /classify              the page; with ``?link=TOKEN`` the link's token is exchanged for a cookie first
GET  /classify/FILE         its script, styles and logo: open to everyone
GET  /classify/grid         the next grid: uint32 length of a JSON header, the header, then the pictures
GET  /classify/closer       one cell of a grid, larger
GET  /classify/standing     how far the volunteer and the survey are
POST /classify/answer       what was chosen; answered when it is on the disk
POST /classify/undo         takes the last answer back
==========================  ================================================================================

`Door.visitor` says who somebody is: who is logged in and may grade, or came by a link that `voorwerp invite` made. The
cookie of a link is good for these routes alone. What changes state needs our Origin and the page's token.
"""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import secrets
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson
from tornado.web import HTTPError, RequestHandler, stream_request_body

from explorer import ASSETS
from explorer.errors import AccessError, LedgerError, VoorwerpError
from explorer.server import Access
from explorer.services.classify import LARGE_PX, AnsweredError, Classify, Grid, Look, Visitor
from explorer.services.invitations import Invitations
from explorer.survey import counted

#: Scripts and styles of our own files only, and nothing may frame the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {
    "classify.js": "text/javascript; charset=utf-8",
    "classify.css": "text/css; charset=utf-8",
    "keys.js": "text/javascript; charset=utf-8",
    "logo.svg": "image/svg+xml",
}
#: Of an answer: bytes.
MAX_BODY = 16_384
COOKIE_DAYS = 365
NOT_YOURS = (
    "This page is for volunteers with a link to it.\n"
    "Ask whoever invited you for one that still holds; `voorwerp invite` makes them, and the server must run with "
    "--open-links.\n"
)


# ------------------------------------------------------------------------------------------------------ who, how often
@dataclass
class Rates:
    """Token buckets: each key may do `burst` things at once, and `rate` a second for long.

    Attributes
    ----------
    most
        Keys remembered; who has been away longest is forgotten first.
    clock
        Seconds that only grow.
    """

    rate: float
    burst: float
    most: int = 20_000
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, key: str) -> bool:
        """Whether `key` may do one thing more now."""
        now = self.clock()
        left, before = self._left.pop(key, (self.burst, now))
        left = min(self.burst, left + self.rate * (now - before))
        may = left >= 1
        self._left[key] = (left - 1 if may else left, now)
        while len(self._left) > self.most:
            self._left.popitem(last=False)
        return may


class Door:
    """Who may take part.

    Parameters
    ----------
    open_links
        Whether links are let in at all.
    by_person, by_address, newcomers
        How often one browser, and all browsers of one address, may ask; how often an address may come by a link (a
        class of pupils shares one).
    """

    def __init__(
        self,
        access: Access,
        classify: Classify,
        open_links: bool = False,
        by_person: Rates | None = None,
        by_address: Rates | None = None,
        newcomers: Rates | None = None,
    ) -> None:
        self.access, self.classify, self.open_links = access, classify, open_links
        self.invitations = Invitations(classify.survey.info.survey_id)
        self.by_person = by_person or Rates(3, 30)
        self.by_address = by_address or Rates(200, 600)
        self.newcomers = newcomers or Rates(1, 100)
        self.cookie = f"voorwerp-classify-{access.port}"

    def visitor(self, handler: RequestHandler) -> tuple[Visitor, str] | None:
        """Who asks, and what their cookie says; None for those who may not.

        Raises
        ------
        HTTPError
            Another host or origin (403), or too many requests (429).
        """
        person = self.access.person(handler)
        takes_part = person is not None and person.may("vetter")  # a viewer decides nothing, unless by a link
        handler.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        handler.set_header("Cache-Control", "no-store")
        self._limit(self.by_address, self.access.address(handler))
        given = handler.get_cookie(self.cookie) or ""
        volunteer, link = self._read(given)
        if takes_part:
            if not volunteer:
                volunteer = secrets.token_hex(8)
                given = self.let_in(handler, volunteer, "")
            visitor = Visitor(volunteer)
        else:
            held = self.invitations.by_id(link) if self.open_links and link else None
            if held is None or not volunteer:
                return None
            visitor = Visitor(volunteer, held.id, held.most_grids)
        self._limit(self.by_person, visitor.volunteer)
        return visitor, given

    def come_by(self, handler: RequestHandler, token: str) -> bool:
        """Let in who has a link's token; somebody who was here before stays the same volunteer."""
        self._limit(self.newcomers, self.access.address(handler))
        link = self.invitations.by_token(token) if self.open_links else None
        if link is None:
            return False
        volunteer, _ = self._read(handler.get_cookie(self.cookie) or "")
        self.let_in(handler, volunteer or secrets.token_hex(8), link.id)
        return True

    def let_in(self, handler: RequestHandler, volunteer: str, link_id: str) -> str:
        """Set the cookie; what it says."""
        body = f"{volunteer}.{link_id}"
        value = f"{body}.{self.classify.token('cookie', body)}"
        handler.set_cookie(
            self.cookie,
            value,
            httponly=True,
            samesite="Lax",
            secure=self.access.is_encrypted(handler),
            path="/classify",
            expires_days=COOKIE_DAYS,
        )
        return value

    def left(self, handler: RequestHandler) -> Visitor | None:
        """Who came by a link that lets nobody in any more; None for those who came by none."""
        volunteer, link = self._read(handler.get_cookie(self.cookie) or "")
        is_held = self.open_links and self.invitations.by_id(link) is not None
        return Visitor(volunteer, link) if link and not is_held else None

    def _read(self, given: str) -> tuple[str, str]:
        """Volunteer and link of a cookie that is ours; else two empty texts."""
        body, _, mac = given.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self.classify.token("cookie", body).encode()):
            return "", ""
        volunteer, _, link = body.partition(".")
        return volunteer, link

    def token(self, given: str) -> str:
        """What a page must send to change anything, made of its cookie."""
        return self.classify.token("post", given)

    @staticmethod
    def _limit(rates: Rates, key: str) -> None:
        if not rates.take(key):
            raise HTTPError(429, "that was faster than this server takes it; it goes on in a moment")


# ---------------------------------------------------------------------------------------------------------- routes
class _Over(HTTPError):
    """There is no going on: the link is "closed", or the volunteer is "done"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(403, message)
        self.kind = kind


class _Route(RequestHandler):
    """Checked at the door; errors as one sentence."""

    visitor: Visitor
    given: str

    def initialize(self, door: Door, pool: ThreadPoolExecutor, pictures: ThreadPoolExecutor) -> None:
        self.door, self.classify, self.pool, self.pictures = door, door.classify, pool, pictures

    def prepare(self) -> None:
        found = self.door.visitor(self)
        if found is None and self.door.left(self):
            raise _Over("closed", "this link is no longer open")
        if found is None:
            raise HTTPError(403, "this page needs a link that still holds; ask whoever invited you")
        self.visitor, self.given = found

    async def off(self, pool: ThreadPoolExecutor, function: Callable[..., Any], *args: Any) -> Any:
        """Run on a pool; what goes wrong there becomes a status."""
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
        except AnsweredError as error:
            raise HTTPError(409, str(error)) from None
        except AccessError as error:
            raise _Over("done", str(error)) from None
        except LedgerError as error:
            raise HTTPError(503, str(error)) from None
        except VoorwerpError as error:
            raise HTTPError(400, str(error)) from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        if status_code == 429:
            self.set_header("Retry-After", "2")
        message = error.log_message if isinstance(error, HTTPError) and error.log_message else self._reason
        told = {"error": message.replace("%%", "%")}  # Tornado doubles it for its log
        self.finish(told | ({"kind": error.kind} if isinstance(error, _Over) else {}))


class PageRoute(_Route):
    def prepare(self) -> None:
        pass

    async def get(self) -> None:
        token = self.get_query_argument("link", None)
        found = self.door.visitor(self)  # Host and Origin first
        if token is not None and self.door.come_by(self, token):
            self.redirect("/classify")
            return
        if found is None or token is not None:
            self.set_status(403)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(await self._farewell() or NOT_YOURS)
            return
        page = (ASSETS / "classify.html").read_text(encoding="utf-8")
        told = {"name": self.classify.survey.info.name, "token": self.door.token(found[1])}
        for name, value in told.items():
            page = page.replace(f"{{{{{name}}}}}", html.escape(value))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(page)

    async def _farewell(self) -> str:
        left = self.door.left(self)
        if left is None:
            return ""
        n = (await self.off(self.pool, self.classify.standing, left))["n_grids"]
        thanks = f" Thank you for {counted(n, 'grid')}." if n else ""
        return f"This link is no longer open.{thanks}\n"


class FileRoute(RequestHandler):
    def initialize(self, door: Door) -> None:
        self.door = door

    def get(self, name: str) -> None:
        self.door.access.admit(self)
        self.set_header("Content-Type", FILES[name])
        self.set_header("Cache-Control", "no-cache")
        self.finish((ASSETS / name).read_bytes())


class GridRoute(_Route):
    async def get(self) -> None:
        held = self.get_query_arguments("held")[:16]
        again = self.get_query_argument("grid", "")
        if again:
            grid = await self.off(self.pool, self.classify.unsealed, again, self.visitor)
        else:
            grid = await self.off(self.pool, self.classify.grid, self.visitor, held)
        standing = await self.off(self.pool, self.classify.standing, self.visitor)
        found = [] if grid is None else await self.off(self.pictures, self.of, grid)
        header = {
            "grid": None if grid is None else self.classify.seal(grid),
            "level": None if grid is None else grid.level,
            "sizes": [len(look.content) for look in found],
            "arcsec": [look.arcsec and round(look.arcsec, 3) for look in found],
            "outlines": [look.outline and [round(share, 4) for share in look.outline] for look in found],
            "standing": standing,
        }
        head = json.dumps(header).encode()
        self.set_header("Content-Type", "application/octet-stream")
        self.finish(b"".join([struct.pack("<I", len(head)), head, *(look.content for look in found)]))

    def of(self, grid: Grid) -> list[Look]:
        """Its pictures."""
        return [self.classify.picture(row) for row in grid.rows.tolist()]


class StandingRoute(_Route):
    async def get(self) -> None:
        self.finish(await self.off(self.pool, self.classify.standing, self.visitor))


class CloserRoute(_Route):
    async def get(self) -> None:
        grid = await self.off(self.pool, self.classify.unsealed, self.get_query_argument("grid", ""), self.visitor)
        cell = self.get_query_argument("cell", "")
        if not cell.isascii() or not cell.isdigit() or int(cell) >= len(grid.rows):
            raise HTTPError(404, "there is no such cell")
        look = await self.off(self.pictures, self.classify.picture, int(grid.rows[int(cell)]), LARGE_PX)
        picture = look.content
        self.set_header("Content-Type", "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg")
        self.finish(picture)


@stream_request_body
class _Change(_Route):
    """A POST: with our Origin, the page's token, and a small body."""

    def prepare(self) -> None:
        self.body = bytearray()
        self.request.connection.set_max_body_size(MAX_BODY)  # type: ignore[union-attr]
        super().prepare()
        if self.request.headers.get("Origin") is None:
            raise HTTPError(403, "a change must come from our own page")
        token = self.request.headers.get("X-Voorwerp-Token", "")
        if not hmac.compare_digest(token.encode(), self.door.token(self.given).encode()):
            raise HTTPError(403, "this page is not current any more; reload it")

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def said(self) -> Any:
        """The body as JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise HTTPError(400, "the answer is not JSON") from None


class AnswerRoute(_Change):
    async def post(self) -> None:
        self.finish(orjson.dumps(await self.off(self.pool, self.classify.answer, self.visitor, self.said())))


class UndoRoute(_Change):
    async def post(self) -> None:
        self.finish(orjson.dumps(await self.off(self.pool, self.classify.undo, self.visitor)))


def classify_routes(door: Door) -> list[tuple[Any, ...]]:
    """The table of handlers for `pn.serve(extra_patterns=…)`."""
    given = {
        "door": door,
        # answers that wait together share one commit; pictures wait for one process
        "pool": ThreadPoolExecutor(8, thread_name_prefix="classify"),
        "pictures": ThreadPoolExecutor(2, thread_name_prefix="classify-pictures"),
    }
    names = "|".join(name.replace(".", r"\.") for name in FILES)
    return [
        (r"/classify/?", PageRoute, given),
        (rf"/classify/({names})", FileRoute, {"door": door}),
        (r"/classify/grid", GridRoute, given),
        (r"/classify/standing", StandingRoute, given),
        (r"/classify/closer", CloserRoute, given),
        (r"/classify/answer", AnswerRoute, given),
        (r"/classify/undo", UndoRoute, given),
    ]
