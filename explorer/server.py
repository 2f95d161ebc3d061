"""The web server: who may come in, and the handlers that answer with pixels and rows.

Panel's page and socket are one half; the other half are the GET routes below, which the page calls itself:

=================================  ====================================================================
/token                             what a page of ours sends with a POST
/frame                             one view of the map, one byte a pixel (`explorer.raster`)
/nearest                           the subject under the mouse
/contours                          lines of equal density of a view
/thumbs                            a pack of small pictures of rows
/page                              a page of the gallery: a stretch of a sorted, grouped selection, as pictures
/groups, /place                    the sections of that order, and where a row stands in it
/thumbnails/ROW                    one thumbnail
/pictures/ROW                      the original for the page's viewer: its pixels, and what they mean
/originals/ROW                     the original to save: the source's bytes, or the linear cut as FITS
/crops/ROW                         the network's crop
/reconstructions/ROW /residuals/ROW  what the model made of it, and what is left
/feature-residuals/ROW             where its critic sees a difference between the two
/drop, /drop/ID                    takes an image in (POST); what became of it: scores, place, neighbors
/subject/ROW                       everything known of a subject
/histogram                         how columns are spread: all subjects, the selected ones, those in view
/training                          every run in a line, and one of them in full
/grid                              a training's pictures after an epoch
/runs/kinds, /runs/parents         what a form for a new run is made of, and what it may build on
/runs/start, /cancel, /resume, /delete  POST: of a run, or of a series; answered when it is in the ledger
/runs/compare                      how two runs rank the same subjects, and who moved
/export                            the selection as a table, or as regions
/figure                            what is on the screen as a figure for a paper
/apart                             what sets a selection apart, or what a score goes along with
/boundary/PART                     curves of the boundary at work, what it costs, follows and throws away
/boundary/empty                    where on the map it keeps nothing
/boundary/contours                 lines of what one of its classifiers scores, over a view
/table                             a page of the table: a sorted selection, narrowed by a filter
/complete                          what may stand at the cursor of a filter
/volunteers, /volunteers/PART      which votes are counted, and a part of the page of volunteers
=================================  ====================================================================

Every one checks the login itself (Panel leaves extra routes open) and that the request was meant for this host.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import importlib
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
from bokeh.palettes import Inferno256
from tornado.web import HTTPError, RequestHandler, stream_request_body

from explorer.cells import View
from explorer.contours import contours, mean_lines
from explorer.errors import AccessError, NotReadyError, SurveyError, UsageError, VoorwerpError
from explorer.people import LOCAL, Person, Role
from explorer.services.accounts import LOGIN_DAYS, Accounts
from explorer.services.apart import correlations, sets_apart
from explorer.services.boundaries import Context
from explorer.services.colors import THEMES, packed, palette
from explorer.services.compared import Pair
from explorer.services.crowd import Cut, Machine
from explorer.services.desk import Desk
from explorer.services.dropped import MAX_BYTES, Intake, too_large
from explorer.services.explore import Color, Plane
from explorer.services.export import EXPORTS, selection_table
from explorer.services.films import films
from explorer.services.filters import MAX_LENGTH, FilterError
from explorer.services.groups import Grouped
from explorer.services.histograms import Scale, Source
from explorer.services.listing import MOST_ROWS, Listed
from explorer.services.originals import SUFFIXES, png
from explorer.services.pictures import KINDS, Kind, asked, crop_films, model_films, pack, page
from explorer.services.runs import SettingError
from explorer.state import AGGREGATES, COMPONENTS, NORMS, PALETTES, Selection
from models.artifacts import ArtifactError
from models.boundary import BoundaryError
from models.mixing import MODE_TITLES, Mode
from models.truth import TruthError

#: Panel and Bokeh compile templates and callbacks in the page, hence 'unsafe-inline' and 'unsafe-eval'; nothing may
#: come from, or go to, another host.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' blob:; font-src 'self' data:; worker-src blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
INFERNO = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in Inferno256], np.uint8)
MAX_PIXELS = 4096
WIDEST_PACK = 512
MOST_HISTOGRAMS = 32
#: Seconds that an upload may take: few are read at once.
UPLOAD_S = 300.0


# ------------------------------------------------------------------------------------------------------ access
@dataclass
class Access:
    """Who may come in: whoever has an account, or, where there are none, the printed token: new at every start.

    Both are exchanged for a cookie.

    Attributes
    ----------
    session
        What the cookie says; the same after a restart where the server keeps it (`explorer.secret`).
    hosts
        Values of the Host header that are ours (``127.0.0.1:5006``): another name that resolves here is refused, so no
        page elsewhere can speak to this server through the visitor's browser.
    accounts
        As soon as there is one, the token lets nobody in any more.
    is_local
        Whether only this machine can reach the port.
    behind_proxy
        Whether every request comes by a proxy that says from where, and whether by TLS.
    """

    port: int
    hosts: frozenset[str]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    accounts: Accounts | None = None
    is_local: bool = True
    behind_proxy: bool = False

    @property
    def asks(self) -> bool:
        """Whether one must log in.

        Raises
        ------
        HTTPError
            The accounts cannot be read: nobody comes in.
        """
        try:
            return self.accounts is not None and self.accounts.are_there
        except VoorwerpError as error:
            raise HTTPError(503, str(error)) from None

    @property
    def cookie(self) -> str:
        """Cookies are shared by all ports of a host, so the name carries the port."""
        return f"voorwerp-{self.port}"

    def admit(self, handler: RequestHandler) -> str | None:
        """The visitor's name, or None."""
        person = self.person(handler)
        return None if person is None else person.name

    def person(self, handler: RequestHandler) -> Person | None:
        """The visitor, or None; called for every page, socket and route.

        Raises
        ------
        HTTPError
            Another host or origin.
        """
        handler.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        handler.set_header("X-Content-Type-Options", "nosniff")
        handler.set_header("Referrer-Policy", "no-referrer")
        handler.set_header("X-Frame-Options", "DENY")
        if handler.request.host.lower() not in self.hosts:
            raise HTTPError(403, "this host name is not ours")
        origin = handler.request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() not in self.hosts:
            raise HTTPError(403, "this origin is not ours")
        person = self._person(handler.get_cookie(self.cookie) or "")
        handler.request.person = person  # type: ignore[attr-defined]  # a session of Panel is made with the request
        return person

    def _person(self, given: str) -> Person | None:
        if self.asks and self.accounts is not None:
            try:
                return self.accounts.visitor(given)
            except VoorwerpError as error:
                raise HTTPError(503, str(error)) from None
        return LOCAL if hmac.compare_digest(given.encode(), self.session.encode()) else None

    def holder(self, handler: RequestHandler) -> Person | None:
        """Whose cookie came with a request, now; for a socket that has been open since."""
        return self._person(handler.get_cookie(self.cookie) or "")

    def again(self, person: Person) -> Person | None:
        """Who was let in, as they are now; None for who would not be any more."""
        if not self.asks or self.accounts is None:
            return person
        account = self.accounts.of(person.name)
        return None if account is None else account.person

    def change_token(self, handler: RequestHandler) -> str:
        """What a page of ours sends with whatever changes something: it can read ``/token``, and no other page can."""
        held = handler.get_cookie(self.cookie) or ""
        return hmac.new(self.session.encode(), b"change" + held.encode(), "sha256").hexdigest()

    def let_in(self, handler: RequestHandler, value: str) -> None:
        """Set the cookie; that of a login goes with a link from elsewhere (a mail's), too."""
        is_login, is_safe = self.asks, self.is_encrypted(handler)
        same, days = ("Lax", LOGIN_DAYS) if is_login else ("Strict", None)
        handler.set_cookie(
            self.cookie, value, httponly=True, samesite=same, secure=is_safe, path="/", expires_days=days
        )

    def is_encrypted(self, handler: RequestHandler) -> bool:
        """Whether nobody between the browser and us can read along, as far as we are told."""
        if self.behind_proxy:
            return handler.request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip() == "https"
        return handler.request.protocol == "https"

    def address(self, handler: RequestHandler) -> str:
        """Where a request comes from: an IPv4 address, or the network of an IPv6 address, of which one has millions."""
        found = handler.request.remote_ip or ""
        if self.behind_proxy:  # the last one is the proxy's own word; what stands before it, anybody may have written
            found = handler.request.headers.get("X-Forwarded-For", found).rpartition(",")[2].strip()
        if _is_ipv6(found):
            mapped = ipaddress.IPv6Address(found).ipv4_mapped
            return str(mapped or ipaddress.ip_network(f"{found.partition('%')[0]}/64", strict=False))
        return found[:80]

    def open_to(self, token: str) -> bool:
        """Whether a token is the one printed at the start."""
        return hmac.compare_digest(token.encode(), self.token.encode())


def hosts_of(address: str, port: int, others: Sequence[str] = ()) -> frozenset[str]:
    """Host headers that mean a server listening on `address`, or that is known by `others`, too."""
    names = {address}
    if address in ("127.0.0.1", "localhost", "::1"):
        names |= {"127.0.0.1", "localhost", "::1"}
    elif address in ("0.0.0.0", "::", ""):
        names |= {"127.0.0.1", "localhost", "::1", socket.gethostname(), socket.getfqdn()}
        names |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    shown = [f"[{n}]" if _is_ipv6(n) else n.lower() for n in names if n]
    named = [other.lower() for other in others]
    found = [f"{n}:{port}" for n in shown] + (shown if port in (80, 443) else [])
    return frozenset(found + named + [f"{name}:{port}" for name in named if not re.search(r":\d+$", name)])


def _is_ipv6(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


# ---------------------------------------------------------------------------------------------------- handlers
class Route(RequestHandler):
    """A GET route: checked at the door, answered off the event loop, errors as one sentence.

    Attributes
    ----------
    needs
        The role that it takes.
    person
        Who asks; set before anything else.
    """

    needs: Role = "viewer"
    person: Person

    def initialize(self, access: Access, desk: Desk, pool: ThreadPoolExecutor) -> None:
        self.access, self.desk, self.pool = access, desk, pool
        self.explore = desk.explore

    def prepare(self) -> None:
        person = self.access.person(self)
        if person is None:
            raise HTTPError(401, "you are logged out") if self.access.asks else HTTPError(403, "not logged in")
        try:
            person.must(self.needs)
        except AccessError as error:
            raise HTTPError(403, str(error)) from None
        self.person = person

    async def get(self, *path: str) -> None:
        try:
            body, kind = await self.answer(*path)
        except NotReadyError as error:  # the page says it, and asks again
            self.set_status(503)
            self.set_header("Retry-After", "1")
            self.finish({"error": str(error)})
            return
        except VoorwerpError as error:
            self.set_status(400)
            self.finish({"error": str(error)})
            return
        self.set_header("Content-Type", kind)
        self.finish(body)

    async def answer(self, *path: str) -> tuple[bytes, str]:
        """Body and content type; overridden by each route."""
        raise HTTPError(405)

    def compute_etag(self) -> str | None:
        """None where nobody keeps the answer: to hash a frame takes as long as to send it."""
        return None if self._headers.get("Cache-Control") == "no-store" else super().compute_etag()

    async def off(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run on the pool: the event loop stays free for the sockets."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *args)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        message = error.log_message if isinstance(error, HTTPError) and error.log_message else self._reason
        self.finish({"error": message})

    # every argument is read through one of these, so that nonsense is a 400 and not a traceback
    def number(self, name: str, default: float | None = None) -> float:
        """A finite number from the query."""
        text = self.get_query_argument(name, None)
        if text is None and default is not None:
            return default
        try:
            value = float(text or "")
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise HTTPError(400, f"{name} must be a number")
        return value

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from the query within low … high."""
        value = self.number(name, default)
        if value != int(value) or not low <= value <= high:
            raise HTTPError(400, f"{name} must be a whole number from {low} to {high}")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> Any:
        """One of a few words; the first by default."""
        value = self.get_query_argument(name, choices[0])
        if value not in choices:
            raise HTTPError(400, f"{name} must be one of {', '.join(choices)}")
        return value

    def row(self, text: str) -> int:
        """A row of the survey."""
        if not text.isascii() or not text.isdigit() or int(text) >= self.explore.survey.n:
            raise HTTPError(404, f"there is no subject in row {text[:20]}")
        return int(text)

    def run_id(self) -> str:
        """The score run, by an id that exists, or none."""
        run_id = self.get_query_argument("run", "")
        if run_id and run_id not in self.explore.runs():
            raise HTTPError(404, "there is no such score run")
        return run_id

    def map_id(self) -> str:
        """The map, by an id that exists."""
        map_id = self.get_query_argument("map", "")
        if map_id not in self.explore.maps():
            raise HTTPError(404, "there is no such map")
        return map_id

    def plane(self) -> Plane:
        """The two columns that the map lies in, or its turned components; whether they exist is `Explore`'s to say."""
        map_id = self.get_query_argument("map", "") and self.map_id()
        turn = None
        if text := self.get_query_argument("turn", ""):
            try:
                yaw, pitch = (float(v) for v in text.split(","))
            except ValueError:
                raise HTTPError(400, "turn must be two numbers, yaw and pitch in radians") from None
            if not np.isfinite([yaw, pitch]).all():
                raise HTTPError(400, "turn must be two finite numbers")
            turn = (yaw, pitch)
        x, y = (self.get_query_argument(name, default) for name, default in zip("xy", COMPONENTS, strict=True))
        return Plane(map_id, x, y, self.run_id(), self.lambda_(), self.mode(), turn)

    def view(self) -> View:
        """x0, x1, y0, y1 in data coordinates."""
        x0, x1, y0, y1 = (self.number(name) for name in ("x0", "x1", "y0", "y1"))
        if not (x0 < x1 and y0 < y1):
            raise HTTPError(400, "the view is empty: x0 < x1 and y0 < y1 are needed")
        return x0, x1, y0, y1

    def color(self) -> Color:
        """What the map is coloured by."""
        return Color(
            self.get_query_argument("color", "count"),
            self.run_id(),
            self.lambda_(),
            self.choice("aggregate", AGGREGATES),
            self.choice("norm", NORMS),
            self.mode(),
        )

    def lambda_(self) -> float:
        """λ from 0 to 1."""
        return min(1.0, max(0.0, self.number("lambda", 0.2)))

    def mode(self) -> Mode:
        """What λ mixes."""
        mode: Mode = self.choice("lambda_mode", tuple(MODE_TITLES))
        return mode


class TokenRoute(Route):
    """What goes along with a POST, as its header X-Voorwerp-Token; see `Access.change_token`."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        self.set_header("Cache-Control", "no-store")
        return self.access.change_token(self).encode(), "text/plain"


class Change(Route):
    """A POST route: by a page of ours, which knows the token. `answer` is called for it; there is no GET."""

    needs: Role = "vetter"

    def prepare(self) -> None:
        super().prepare()
        if self.request.headers.get("Origin") is None:
            raise HTTPError(403, "a change must come from our own page")
        given = self.request.headers.get("X-Voorwerp-Token", "")
        if not hmac.compare_digest(given.encode(), self.access.change_token(self).encode()):
            raise HTTPError(403, "this page is not current any more; reload it")

    async def get(self, *path: str) -> None:
        raise HTTPError(405)

    async def post(self, *path: str) -> None:
        await super().get(*path)


@stream_request_body
class DropRoute(Change):
    """An image to be placed among the subjects: the body is the file. The answer has the id to ask ``/drop/ID`` for.

    What is refused is read to its end and passed over: who still sends would not hear an answer.
    """

    intake: Intake | None = None
    refusal: HTTPError | None = None

    def prepare(self) -> None:
        super().prepare()
        self.request.connection.set_max_body_size(4 * MAX_BYTES)  # type: ignore[union-attr]
        self.request.connection.set_body_timeout(UPLOAD_S)  # type: ignore[union-attr]
        if int(self.request.headers.get("Content-Length") or 0) > MAX_BYTES:
            self.refusal = HTTPError(413, too_large())
            return
        try:
            self.intake = self.desk.drops.folder(self.request.headers.get("X-Voorwerp-Page", "")[:64])
        except VoorwerpError as error:
            self.refusal = HTTPError(409, str(error))

    def data_received(self, chunk: bytes) -> None:
        if self.intake is not None:
            self.intake.write(chunk)

    async def answer(self, *path: str) -> tuple[bytes, str]:
        try:
            if self.refusal is not None or self.intake is None:
                raise self.refusal or HTTPError(500)
            if self.intake.is_too_large:
                raise HTTPError(413, too_large())
            drops = self.desk.drops
            found = await asyncio.get_running_loop().run_in_executor(drops.thread, drops.take, self.intake.done())
        finally:
            self._forget()  # before it is answered
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps({"id": found.id}), "application/json"

    def on_finish(self) -> None:
        self._forget()

    def on_connection_close(self) -> None:
        if not self._finished and self.intake is not None and not self.intake.is_whole:
            self._forget()  # who sent it is gone before the end of it

    def _forget(self) -> None:
        if self.intake is not None:
            self.intake.close()


class DroppedRoute(Route):
    """What the network of a run makes of an image that was dropped, and where it stands among the subjects."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        drops, explore = self.desk.drops, self.explore
        dropped = drops.held(path[0])
        run_id, map_id = self.run_id(), self.get_query_argument("map", "") and self.map_id()
        judgement = await asyncio.wrap_future(drops.judge(dropped, run_id))
        tell = partial(drops.tell, dropped, judgement, run_id, map_id, self.lambda_(), self.mode())
        told: dict[str, Any] = await asyncio.get_running_loop().run_in_executor(drops.thread, tell)
        crop, made, rgb = dropped.single.crop, judgement.reconstruction, explore.survey.info.rgb
        residual = np.abs(crop.astype(np.int16) - made).astype(np.uint8)
        pictures = {"crop": png(crop, rgb), "reconstruction": png(made, rgb), "residual": png(residual, rgb)}
        pictures["feature"] = heat(judgement.feature_residual, explore.survey.info.size)
        told["pictures"] = {name: base64.b64encode(picture).decode() for name, picture in pictures.items()}
        told["thumbnail"] = base64.b64encode(dropped.single.thumbnail).decode()
        told["feature_sum"] = float(judgement.feature_residual.sum())
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(told), "application/json"


class FrameRoute(Route):
    _is_left = False

    def on_connection_close(self) -> None:
        """Whoever asked moves the map again: a frame of very many subjects is not drawn to its end."""
        self._is_left = True

    async def answer(self, *path: str) -> tuple[bytes, str]:
        view, color = self.view(), self.color()
        frame, paint = await self.off(
            self.explore.frame,
            self.plane(),
            view,
            self.integer("w", 1, MAX_PIXELS),
            self.integer("h", 1, MAX_PIXELS),
            color,
            self.get_query_argument("selection", ""),
            min(4.0, max(0.5, self.number("density", 1.0))),
            self.get_query_argument("map", "") and self.map_id(),
            self.get_query_argument("moving", "") == "1",
            self.get_query_argument("coarse", "") == "1",
            lambda: not self._is_left,
        )
        legend = {
            "in_view": frame.n_in_view,
            "radius": frame.radius,
            "ticks": frame.ticks,
            "labels": [label[:40] for label in paint.labels],
            "mixed": MODE_TITLES[color.mode] if self.explore.is_mixed(color) else "",
            "clipped": bool(paint.scale and paint.scale.clipped),
            "note": frame.note,
            "sample": frame.is_sample,
            "coarse": frame.is_coarse,
        }
        self.set_header("X-Legend", json.dumps(legend))  # pure ASCII, as a header must be
        if self.get_query_argument("ramp", ""):  # the page asked before the session told it the colors
            ramp, theme = self.choice("ramp", PALETTES), self.choice("theme", THEMES)
            self.set_header("X-Palette", packed(palette(color.by, len(paint.labels), ramp, theme)))
        self.set_header("Cache-Control", "no-store")
        body = frame.pixels.tobytes()
        # the page says so once it measured it; nearer by, packing takes longer than sending
        if self.request.headers.get("X-Voorwerp-Link") == "slow" and "gzip" in self.request.headers.get(
            "Accept-Encoding", ""
        ):
            self.set_header("Content-Encoding", "gzip")
            body = await self.off(partial(gzip.compress, compresslevel=1, mtime=0), body)
        return body, "application/octet-stream"


class FigureRoute(Route):
    """Takes what /frame takes. Without a view it is of everything; `w` and `h` are of the map on the screen."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        # matplotlib takes half a second to import, and few sessions draw a figure
        figures = await self.off(importlib.import_module, "explorer.services.figures")
        kind, form = self.choice("kind", ("map", "histograms", "sheet")), self.choice("format", ("png", "svg", "pdf"))
        columns = [name for name in self.get_query_argument("columns", "").split(",") if name]
        plane, overlay = self.plane(), self.get_query_argument("overlay", "")
        screen = figures.Screen(
            plane=plane,
            color=self.color(),
            map_id=self.get_query_argument("map", "") and self.map_id(),
            view=self.view() if self.get_query_argument("x0", "") else None,
            selection=self.explore.selection(self.get_query_argument("selection", "")),
            selected_by=self.get_query_argument("selected_by", "")[:200],
            palette=self.choice("palette", PALETTES),
            size=(self.integer("w", 1, MAX_PIXELS, 880), self.integer("h", 1, MAX_PIXELS, 660)),
            sort=self.get_query_argument("sort", ""),
            descending=self.choice("descending", ("1", "0")) == "1",
            columns=tuple(columns),
            contours=self.get_query_argument("contours", "") == "1",
            overlays=await self.off(self.desk.notes.overlays, overlay) if overlay else (),
            places=await self.off(self.desk.notes.places, plane)
            if self.get_query_argument("places", "") == "1"
            else (),
        )
        width, with_caption = self.choice("width", ("double", "single")), self.choice("caption", ("1", "0")) == "1"
        draw = partial(figures.figure, with_caption=with_caption, histograms=self.desk.histograms)
        body = await self.off(draw, self.explore, kind, screen, form, width)
        name = f"{file_name(self.explore.survey.info.name)}_{kind}.{form}"
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Cache-Control", "no-store")
        return body, figures.FORMS[form]


class NearestRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        told = self.run_id(), self.lambda_(), self.mode()
        index = await self.off(self.explore.index, self.plane())
        row = await self.off(index.nearest, *(self.number(name) for name in ("at_x", "at_y", "rx", "ry")))
        found = None if row is None else await self.off(self.subject, row, *told)
        return orjson.dumps(found), "application/json"

    def subject(self, row: int, run_id: str, lambda_: float, mode: Mode) -> dict[str, Any]:
        """What the card says, with the thumbnail in it: one answer is sooner there than two."""
        found = self.explore.hover(row, run_id, lambda_, mode)
        if found["has_image"]:
            found["image"] = base64.b64encode(self.explore.survey.thumbnails(np.array([row]))[0]).decode()
        return found


class ContoursRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        index = await self.off(self.explore.index, self.plane())
        found = await self.off(contours, index, self.view())
        lines = [{"share": c.share, "lines": [np.float32(line).tolist() for line in c.lines]} for c in found]
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(lines), "application/json"


class ThumbsRoute(Route):
    """Thumbnails of rows that are named, a picture each."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        listed = self.get_query_argument("rows", "").split(",")[:WIDEST_PACK]
        rows = np.array([self.row(text) for text in listed], np.uint32)
        self.set_header("Cache-Control", "no-store")
        return await self.off(self.packed, rows), "application/octet-stream"

    def packed(self, rows: np.ndarray) -> bytes:
        survey = self.explore.survey
        return pack(survey, rows, survey.thumbnails(rows) if survey.has_images else [])


class OrderRoute(Route):
    """What the gallery shows: a selection in an order, cut into groups."""

    def grouped(self) -> Callable[[], Grouped]:
        """What makes it; called off the loop."""
        return partial(
            self.desk.groups.ordered,
            self.get_query_argument("group", ""),
            self.get_query_argument("selection", ""),
            self.get_query_argument("sort", ""),
            self.run_id(),
            self.lambda_(),
            self.choice("descending", ("1", "0")) == "1",
            self.mode(),
            self.get_query_argument("map", "") and self.map_id(),
        )


class PageRoute(OrderRoute):
    """A page of the gallery: see `explorer.services.pictures.page`; the first says the sections, too."""

    _waiting: Sequence[Future[list[np.ndarray]]] = ()

    async def answer(self, *path: str) -> tuple[bytes, str]:
        kind: Kind = self.choice("kind", KINDS)
        start, count = self.integer("start", 0, 2**40), self.integer("count", 1, WIDEST_PACK)
        run_id = self.run_id()
        ordered, with_sections = self.grouped(), self.choice("sections", ("0", "1")) == "1"
        survey, has_images = self.explore.survey, self.explore.survey.has_images

        def look() -> tuple[np.ndarray, dict[str, Any]]:
            found = ordered()
            rows = found.page(start, count)
            more: dict[str, Any] = {"fragile": self.explore.fragile(rows, run_id)}
            return rows, more | ({"sections": found.groups, "note": found.note} if with_sections else {})

        def thumbs() -> bytes:
            rows, more = look()
            try:
                return page(survey, rows, films(survey.thumbnails(rows)) if has_images else [], more)
            except SurveyError as error:
                raise UsageError(f"{error}; `voorwerp thumbnails {survey.path.name}` makes them again") from None

        def cut() -> bytes:
            rows, more = look()
            return page(survey, rows, crop_films(survey, rows), more)

        self.set_header("Cache-Control", "no-store")
        if kind in ("original", "crop"):
            return await self.off(thumbs if kind == "original" else cut), "application/octet-stream"
        rows, more = await self.off(look)
        self._waiting = asked(self.desk.inference, self.explore, rows, run_id)
        try:
            made = [picture for batch in self._waiting for picture in await asyncio.wrap_future(batch)]
        except asyncio.CancelledError:  # by `on_connection_close`
            return b"", "application/octet-stream"

        def shown() -> bytes:
            return page(survey, rows, model_films(survey, rows, made, kind == "residual"), more)

        return await self.off(shown), "application/octet-stream"

    def on_connection_close(self) -> None:
        """Whoever asked has scrolled on: what is not begun is not made."""
        for batch in self._waiting:
            batch.cancel()


class GroupsRoute(OrderRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        found = await self.off(self.grouped())
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps({"groups": found.groups, "note": found.note}), "application/json"


class PlaceRoute(OrderRoute):
    """Where a row stands in the gallery; null where it is not there."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        row = self.row(self.get_query_argument("row", ""))
        ordered = self.grouped()
        at = await self.off(lambda: ordered().place(row))
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps({"place": at}), "application/json"


class ThumbnailRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        rows = np.array([self.row(path[0])])
        self.set_header("Cache-Control", "private, no-cache")
        return (await self.off(self.explore.survey.thumbnails, rows))[0], "image/jpeg"


class PictureRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        self.set_header("Cache-Control", "private, no-cache")
        return await self.off(self.desk.originals.picture, self.row(path[0])), "application/octet-stream"


class OriginalRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        row = self.row(path[0])
        body, kind = await self.off(self.desk.originals.source, row)
        name = file_name(self.explore.survey.source_ids([row])[0])
        self.set_header("Content-Disposition", f'attachment; filename="{name}{SUFFIXES.get(kind, "")}"')
        self.set_header("Cache-Control", "private, no-cache")
        return body, kind


class CropRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        row = self.row(path[0])
        self.set_header("Cache-Control", "private, no-cache")
        return await self.off(self.crop, row), "image/png"

    def crop(self, row: int) -> bytes:
        """The PNG of a crop."""
        survey = self.explore.survey
        if survey.images is None:
            raise HTTPError(404, "this survey has no images")
        return png(survey.images[row], survey.info.rgb)


class ReconstructionRoute(Route):
    """`/reconstructions` and `/residuals`: the model is asked, in its own process."""

    residual = False

    def model(self) -> str:
        """The score run, which a training stands behind."""
        run = self.explore.runs().get(self.run_id())
        if run is None or "train" not in run.inputs:
            raise HTTPError(404, "this run has no model that reconstructs")
        return run.run_id

    async def answer(self, *path: str) -> tuple[bytes, str]:
        row = self.row(path[0])
        future = self.desk.inference.reconstruct(self.model(), row)
        made = np.asarray(await asyncio.wrap_future(future))
        if self.residual:
            crop = np.asarray(self.explore.survey.images[row])
            made = np.abs(crop.astype(np.int16) - made).clip(0, 255).astype(np.uint8)
        self.set_header("Cache-Control", "private, no-cache")
        return png(made, self.explore.survey.info.rgb), "image/png"


class ResidualRoute(ReconstructionRoute):
    residual = True


class FeatureResidualRoute(ReconstructionRoute):
    """The map as a picture of the crop's size, from black (0) to its own highest; header X-Sum has its sum."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        row = self.row(path[0])
        cells = np.asarray(await asyncio.wrap_future(self.desk.inference.feature_residual(self.model(), row)))
        self.set_header("X-Sum", f"{cells.sum():.6g}")
        self.set_header("Cache-Control", "private, no-cache")
        return heat(cells, self.explore.survey.info.size), "image/png"


def heat(cells: np.ndarray, size: int) -> bytes:
    """A feature-residual map (side, side) as a PNG of `size` px, from black (0) to its own highest."""
    at = np.minimum(np.rint(np.arange(size) * len(cells) / size).astype(int), len(cells) - 1)
    shade = np.rint(255 * cells / max(float(cells.max()), 1e-30)).astype(np.uint8)
    return png(INFERNO[shade[np.ix_(at, at)]], (0, 1, 2))


class SubjectRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        row, map_id = self.row(path[0]), self.get_query_argument("map", "") and self.map_id()
        subject = await self.off(self.explore.subject, row, self.run_id(), self.lambda_(), self.mode())
        place = await self.off(self.explore.place, row, map_id)
        talk = await self.off(self.explore.talk.of, row)
        return orjson.dumps(subject | {"place": place, "talk": talk}), "application/json"


class HistogramRoute(Route):
    """Several columns in one answer, each ``column`` with a ``scale``, and ``low`` and ``high`` that may be empty."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        columns = self.get_query_arguments("column")
        scales, *bounds = (self.get_query_arguments(name) for name in ("scale", "low", "high"))
        if len(columns) > MOST_HISTOGRAMS or any(len(given) != len(columns) for given in (scales, *bounds)):
            raise HTTPError(400, f"each of at most {MOST_HISTOGRAMS} columns needs a scale, a low and a high")
        bins, source = self.integer("bins", 1, 200, 96), self.source()
        selection = self.explore.selection(self.get_query_argument("selection", ""))
        sets = {"selected": selection, "seen": await self.off(self.seen)}
        sets = {name: some for name, some in sets.items() if some is not None}
        found: list[dict[str, Any]] = []
        for column, scale, low, high in zip(columns, scales, *bounds, strict=True):
            try:
                asked = Scale(bins, scale == "log", _bound(low), _bound(high))
                counts = await self.off(self.desk.histograms.histogram, column, asked, source, list(sets.values()))
            except VoorwerpError as error:  # the other columns can be shown
                found.append({"reference": column, "error": str(error)})
                continue
            told = {name: getattr(counts, name) for name in ("reference", "edges", "labels", "full", "lines")}
            found.append(told | dict(zip(sets, counts.of, strict=True)))
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps({"columns": found}, option=orjson.OPT_SERIALIZE_NUMPY), "application/json"

    def source(self) -> Source:
        """Where the columns come from."""
        map_id = self.get_query_argument("map", "") and self.map_id()
        return Source(self.run_id(), self.lambda_(), self.mode(), map_id)

    def seen(self) -> Selection | None:
        """The subjects in the ``view`` of the map's plane, if one is given."""
        text = self.get_query_argument("view", "")
        if not text:
            return None
        try:
            x0, x1, y0, y1 = (float(v) for v in text.split(","))
        except ValueError:
            raise HTTPError(400, "view must be four numbers: x0, x1, y0, y1") from None
        return self.desk.histograms.seen(self.plane(), (x0, x1, y0, y1))


def _bound(text: str) -> float | None:
    """A bound of a range; None where it is open."""
    try:
        return float(text) if text else None
    except ValueError:
        raise HTTPError(400, "low and high must be numbers, or empty") from None


class ApartRoute(Route):
    """What sets a ``selection`` apart from the rest; with a ``score``, the rank correlations of that over it."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        told = {
            "run_id": self.run_id(),
            "map_id": self.get_query_argument("map", "") and self.map_id(),
            "lambda_": self.lambda_(),
            "mode": self.mode(),
            "among": self.choice("among", ("survey", "map")),
        }
        selection = self.explore.selection(self.get_query_argument("selection", ""))
        compare: Callable[[], Any]
        if score := self.get_query_argument("score", ""):
            compare = partial(correlations, self.explore, score, selection=selection, **told)
        else:
            compare = partial(sets_apart, self.explore, selection or Selection.empty(self.explore.survey.n), **told)
        key = (self.explore.survey.generation, score, selection and selection.id, *told.values())
        found: bytes = await self.off(self.desk.compared.get, key, lambda: orjson.dumps(compare()))
        self.set_header("Cache-Control", "no-store")
        return found, "application/json"


class TrainingRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        lines = await self.off(self.desk.runs.listed)
        told: dict[str, Any] = {"runs": lines, "series": await self.off(self.desk.runs.series, lines)}
        if self.desk.retraining is not None:
            told["retraining"] = await self.off(self.desk.retraining.about)
        if run_id := self.get_query_argument("run", ""):
            known = self.integer("from", 0, 2**40, 0), self.integer("attempt", 0, 2**31, 0)
            found = self.get_query_argument("found", "")
            told["detail"] = await self.off(self.desk.runs.detail, run_id, *known, found)
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(told), "application/json"


class GridRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        epoch = self.integer("epoch", 0, 10**9)
        self.set_header("Cache-Control", "private, no-cache")
        return await self.off(self.desk.runs.grid, self.get_query_argument("run", ""), epoch), "image/png"


class KindsRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(await self.off(self.desk.runs.kinds)), "application/json"


class ParentsRoute(Route):
    """What a run of a ``kind`` with these settings (``config``, JSON) may build on."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        try:
            config = orjson.loads(self.get_query_argument("config", "{}"))
        except orjson.JSONDecodeError:
            config = None
        if not isinstance(config, dict):
            raise HTTPError(400, "config must be a JSON object")
        found = await self.off(self.desk.runs.builds_on, self.get_query_argument("kind", ""), config)
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps({"builds_on": found}), "application/json"


class RunsChange(Change):
    """Start, cancel, resume or delete: JSON in, JSON out, once the decision is in the ledger."""

    needs: Role = "owner"

    async def answer(self, *path: str) -> tuple[bytes, str]:
        try:
            asked = orjson.loads(self.request.body)
        except orjson.JSONDecodeError:
            raise HTTPError(400, "what was sent is not JSON") from None
        self.set_header("Cache-Control", "no-store")
        try:
            return orjson.dumps(
                await self.off(self.desk.runs.decide, path[0], asked, self.person.name)
            ), "application/json"
        except SettingError as error:
            self.set_status(400)
            return orjson.dumps({"error": str(error), "field": error.field}), "application/json"


class CompareRoute(Route):
    """Runs ``a`` and ``b``; as ``part`` "noise", what other seeds change beside them; "runs": which there are."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        changes, part, pair = self.desk.changes, self.choice("part", ("figures", "noise", "runs")), self.pair()
        asks: dict[str, Callable[[], Any]] = {
            "figures": partial(changes.compare, pair),
            "noise": partial(changes.noise, pair),
            "runs": lambda: {"runs": [run for run in self.desk.runs.listed() if run["run_id"] in self.explore.runs()]},
        }
        self.set_header("Cache-Control", "no-store")
        return await self.off(lambda: orjson.dumps(asks[part]())), "application/json"

    def pair(self) -> Pair:
        """Which runs, and how; what is not told is as each run was scored."""
        weights = {
            name: self.number(name) for name in ("lambda_a", "lambda_b") if self.get_query_argument(name, "") != ""
        }
        mode: Mode | None = self.choice("lambda_mode", ("", *MODE_TITLES)) or None
        a, b = (self.get_query_argument(name, "") for name in "ab")
        score = self.get_query_argument("score", "anomaly_score")
        return Pair(a, b, score, **weights, mode=mode, top=self.number("top", 0.01))


class ExportRoute(Route):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        form = self.choice("format", tuple(EXPORTS))
        write, kind, suffix = EXPORTS[form]
        selection = self.explore.selection(self.get_query_argument("selection", ""))
        map_id = self.get_query_argument("map", "") and self.map_id()
        told = self.run_id(), map_id, self.lambda_(), self.mode()
        table = await self.off(selection_table, self.explore, selection, *told, self.desk.notes)
        name = f"{file_name(self.explore.survey.info.name)}_{table.num_rows}_subjects{suffix}"
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Cache-Control", "no-store")
        return await self.off(write, table), kind


class TableRoute(Route):
    """A filter that is not understood is an answer, too: the page asks while a person types it."""

    def listed(self) -> Listed:
        """What the table has, and in which order."""
        where = self.get_query_argument("q", "", strip=False)
        if len(where) > MAX_LENGTH:
            raise HTTPError(400, f"a filter has at most {MAX_LENGTH:,} characters")
        return Listed(
            self.get_query_argument("selection", ""),
            where,
            self.get_query_argument("sort", ""),
            self.choice("descending", ("1", "0")) == "1",
            self.run_id(),
            self.lambda_(),
            self.mode(),
            self.get_query_argument("map", "") and self.map_id(),
        )

    async def answer(self, *path: str) -> tuple[bytes, str]:
        columns = [name for name in self.get_query_argument("columns", "").split(",") if name]
        start, count = self.integer("start", 0, 2**40, 0), self.integer("count", 1, MOST_ROWS, MOST_ROWS)
        focus = self.integer("focus", -1, self.explore.survey.n, -1)
        try:
            page = await self.off(self.desk.listing.page, self.listed(), columns, start, count, focus)
        except FilterError as error:
            page = {"error": str(error), "at": [error.start, error.end]}
        self.set_header("Cache-Control", "no-store")
        return await self.off(partial(orjson.dumps, page, option=orjson.OPT_SERIALIZE_NUMPY)), "application/json"


class CompleteRoute(TableRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        text = self.get_query_argument("text", "", strip=False)
        told = self.run_id(), self.get_query_argument("map", "") and self.map_id()
        cursor = self.integer("cursor", 0, MAX_LENGTH, 0)
        offered = await self.off(self.desk.listing.complete, text[:MAX_LENGTH], cursor, *told)
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(offered), "application/json"


class VolunteersRoute(Route):
    """The page of volunteers: on the slow thread, but for what follows a slider."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        crowd = self.desk.crowd
        asks: dict[str, Callable[[], Any]] = {
            "": crowd.overview,
            "fractions": partial(crowd.fractions, self.choice("grouping", ("tag_group", "tag_group_study"))),
            "people": lambda: crowd.people() or {"n": 0},
            "retirement": crowd.retirement,
        }
        part = path[0] or ""
        if part not in asks:
            raise HTTPError(404, "the page of volunteers has no such part")
        found = await self.off(lambda: orjson.dumps(asks[part](), option=orjson.OPT_SERIALIZE_NUMPY))
        self.set_header("Cache-Control", "no-store")
        return found, "application/json"

    def machine(self) -> Machine:
        """The score that stands for the machine, if one is named."""
        score, map_id = self.get_query_argument("score", ""), self.get_query_argument("map", "") and self.map_id()
        return Machine(score, self.run_id(), self.lambda_(), self.mode(), map_id)


class WhatIfRoute(VolunteersRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        rule = self.choice("rule", ("limit", "swap", "cascade"))
        names = {
            "limit": ("limit",),
            "swap": ("prior", "detect", "reject", "limit"),
            "cascade": ("percentile", "first", "limit"),
        }
        asked = {name: self.number(name) for name in names[rule]}
        found = await self.off(self.desk.crowd.what_if, rule, asked, self.machine())
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(found), "application/json"


class QuadrantsRoute(VolunteersRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        cut = Cut(self.number("percentile", 90), self.number("fraction", 0.5))
        found = await self.off(self.desk.crowd.disagreement, self.machine(), cut)
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY), "application/json"


class MachineScoresRoute(VolunteersRoute):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        map_id = self.get_query_argument("map", "") and self.map_id()
        self.set_header("Cache-Control", "no-store")
        return orjson.dumps(await self.off(self.desk.crowd.scores, self.run_id(), map_id)), "application/json"


class BoundaryRoute(Route):
    """Curves of a draft that a session made known; whoever asked and is gone by the time gets none."""

    is_gone = False

    def on_connection_close(self) -> None:
        self.is_gone = True

    async def answer(self, *path: str) -> tuple[bytes, str]:
        judge = self.desk.judge
        draft, context = judge.known(self.get_query_argument("draft", ""))
        asks: dict[str, Callable[[], Any]] = {
            "curves": partial(judge.curves, draft, context, self.get_query_argument("limit", "") or None),
            "budget": partial(judge.budget, draft, context, *self.cost()),
            "follows": partial(judge.follows, draft, context),
            "lost": partial(judge.lost, draft, context),
        }

        def tell() -> bytes:
            if self.is_gone:  # the page has asked anew since
                return b""
            try:
                return orjson.dumps(asks[path[0]](), option=orjson.OPT_SERIALIZE_NUMPY)
            except (BoundaryError, TruthError, ArtifactError) as error:
                raise UsageError(str(error)) from None

        self.set_header("Cache-Control", "no-store")
        return await self.off(tell), "application/json"

    def cost(self) -> tuple[float | None, int]:
        """Seconds of a look, where a person has set them, and how many look at each image."""
        seconds = self.number("seconds") if self.get_query_argument("seconds", "") else None
        return seconds, self.integer("graders", 1, 1000, 1)


class EmptyRoute(BoundaryRoute):
    """The cells of the map's plane where a draft keeps nobody."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        plane = self.plane()
        draft, context = self.desk.judge.known(self.get_query_argument("draft", ""))

        def find() -> bytes:
            if self.is_gone:
                return b""
            try:
                return orjson.dumps(self.desk.judge.empty(draft, context, x=plane.x, y=plane.y))
            except (BoundaryError, ArtifactError) as error:
                raise UsageError(str(error)) from None

        self.set_header("Cache-Control", "no-store")
        return await self.off(find), "application/json"


class LearnedContoursRoute(BoundaryRoute):
    """Lines where the mean of a cell of the view passes ¼, ½ and ¾ of what a ``model`` scores on a ``scale``."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        learning, sha256 = self.desk.learning, self.get_query_argument("model", "")
        scores = {"balanced": learning.balanced, "probability": learning.probability}
        score = scores[self.choice("scale", tuple(scores))]
        plane, view = self.plane(), self.view()
        context = Context(self.run_id(), plane.map_id, self.lambda_(), self.mode())

        def find() -> bytes:
            if self.is_gone:
                return b""
            lines = mean_lines(self.explore.index(plane), view, score(sha256, context))
            told = [
                {"level": level, "lines": [np.float32(line).tolist() for line in found]}
                for level, found in lines.items()
            ]
            return orjson.dumps(told)

        self.set_header("Cache-Control", "no-store")
        return await self.off(find), "application/json"


class ReportRoute(Route):
    """A report of this survey, by its name: a page that may load nothing and run nothing."""

    async def answer(self, *path: str) -> tuple[bytes, str]:
        # matplotlib takes half a second to import, and few sessions open a report
        reports = await self.off(importlib.import_module, "explorer.services.report")
        body = await self.off(reports.page_of, self.explore.survey, path[0])
        self.set_header("Content-Security-Policy", reports.POLICY + "; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-store")
        return body, "text/html; charset=utf-8"


def file_name(text: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_.")[:80] or "survey"


def routes(access: Access, desk: Desk, pool: ThreadPoolExecutor) -> list[tuple[Any, ...]]:
    """The table of handlers for `pn.serve(extra_patterns=…)`; `pool` is for all but frames and what takes seconds."""
    given = {"access": access, "desk": desk, "pool": pool}
    slow, frames = given | {"pool": desk.slow}, given | {"pool": desk.frames}
    return [
        (r"/token", TokenRoute, given),
        (r"/frame", FrameRoute, frames),
        (r"/nearest", NearestRoute, frames),
        (r"/contours", ContoursRoute, given),
        (r"/thumbs", ThumbsRoute, given),
        (r"/page", PageRoute, given),
        (r"/groups", GroupsRoute, given),
        (r"/place", PlaceRoute, given),
        (r"/thumbnails/(\d+)", ThumbnailRoute, given),
        (r"/pictures/(\d+)", PictureRoute, given),
        (r"/originals/(\d+)", OriginalRoute, given),
        (r"/crops/(\d+)", CropRoute, given),
        (r"/reconstructions/(\d+)", ReconstructionRoute, given),
        (r"/residuals/(\d+)", ResidualRoute, given),
        (r"/feature-residuals/(\d+)", FeatureResidualRoute, given),
        (r"/subject/(\d+)", SubjectRoute, given),
        (r"/drop", DropRoute, given),
        (r"/drop/([A-Za-z0-9_-]+)", DroppedRoute, given),
        (r"/histogram", HistogramRoute, given),
        (r"/apart", ApartRoute, slow),
        (r"/boundary/(curves|budget|follows|lost)", BoundaryRoute, slow),
        (r"/boundary/empty", EmptyRoute, given),
        (r"/boundary/contours", LearnedContoursRoute, given),
        (r"/training", TrainingRoute, given),
        (r"/grid", GridRoute, given),
        (r"/runs/kinds", KindsRoute, given),
        (r"/runs/parents", ParentsRoute, given),
        # a cancelled run has seconds to stop: nothing else waits for that
        (r"/runs/(start|cancel|resume|delete)", RunsChange, given | {"pool": desk.deciding}),
        (r"/runs/compare", CompareRoute, slow),
        (r"/export", ExportRoute, slow),
        (r"/figure", FigureRoute, slow),
        (r"/report/([A-Za-z0-9._-]+)", ReportRoute, given),
        (r"/table", TableRoute, given),
        (r"/complete", CompleteRoute, given),
        (r"/volunteers/whatif", WhatIfRoute, given),
        (r"/volunteers/quadrants", QuadrantsRoute, given),
        (r"/volunteers/scores", MachineScoresRoute, given),
        (r"/volunteers(?:/(\w+))?", VolunteersRoute, slow),
    ]
