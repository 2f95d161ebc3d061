"""What each role may do, asked of the real server by direct requests, and of a session's messages."""

import asyncio
import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import panel as pn
import pytest
from bokeh.document import Document
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from bokeh.util.token import generate_jwt_token, generate_session_id
from panel.io.state import set_curdoc
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.web import RequestHandler
from tornado.websocket import WebSocketClientConnection, websocket_connect

from explorer import classify, login
from explorer.app import Doors, Session, _listen, setup
from explorer.errors import AccessError
from explorer.people import LOCAL, NOBODY, SERVER, Person, Role
from explorer.server import Access, Change, Route
from explorer.services.accounts import Accounts
from explorer.services.classify import Classify
from explorer.services.desk import Desk
from explorer.state import Selection
from tests.explorer.logging_in import PASSWORDS, ROLES, Visitor, ask, log_in, origin_of, send_login, with_accounts
from tests.explorer.small_survey import write_survey
from tests.explorer.test_server import ROUTES, WEBSOCKET
from tests.ui.serving import serve

OTHERS = (
    "/metadata",
    "/contours?map=m&x0=0&x1=1&y0=0&y1=1",
    "/drop/abc",
    "/boundary/empty?draft=d",
    "/boundary/contours?model=m",
    "/report/r",
    "/volunteers",
    "/volunteers/people",
    "/volunteers/whatif?rule=limit&limit=3",
    "/volunteers/quadrants",
    "/volunteers/scores",
    "/classify/grid",
    "/classify/standing",
    "/classify/closer?grid=g&cell=0",
    "/campaigns",
    "/campaigns/source?selection=s",
    "/campaigns/0123456789ab",
    "/campaigns/0123456789ab/agreement",
    "/campaigns/0123456789ab/adjudication",
    "/campaigns/0123456789ab/left",
    "/vet",
    "/vet/campaigns",
    "/vet/0123456789ab",
    "/vet/0123456789ab/queue",
    "/vet/0123456789ab/mosaic?key=0123456789abcdef",
    "/vet/0123456789ab/picture/0123456789abcdef",
    "/vet/0123456789ab/reconstruction/0123456789abcdef",
    "/vet/0123456789ab/context/0123456789abcdef",
    "/vet/0123456789ab/told/0123456789abcdef",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Accounts]]:
    """A server of a survey with accounts, and the accounts."""
    folder, before = tmp_path_factory.mktemp("roles"), os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(folder / "config")  # small surveys share one id
    try:
        survey = write_survey(folder / "survey")
        accounts = with_accounts(survey)
        with serve(survey, folder / "log") as url:
            yield url, accounts
    finally:
        os.environ["VOORWERP_CONFIG"] = before


@pytest.fixture(scope="module")
def people(place: tuple[str, Accounts]) -> dict[str, Visitor]:
    """Everybody, logged in."""
    return {name: log_in(place[0], name) for name in ROLES}


# ----------------------------------------------------------------------------------------------------- who comes in
@pytest.mark.parametrize("route", [*ROUTES, *OTHERS])
def test_an_unknown_person_gets_nothing(place: tuple[str, Accounts], people: dict[str, Visitor], route: str) -> None:
    url, cookie = place[0], people["viewer-1"].cookie
    name, _, secret = cookie.partition("=")
    forged = ("", secret[:-1] + ("A" if secret[-1] != "A" else "B"), "é")
    more = WEBSOCKET if route == "/ws" else {}
    for value in forged:
        status, headers, body = ask(url, route, Cookie=f"{name}={quote(value)}", **more)
        assert status in (401, 403) or (status == 302 and "login?next=" in headers["location"]), (route, value)
        assert b"588848901523702001" not in body
        assert "set-cookie" not in headers or "classify" in headers["set-cookie"]


def test_the_token_of_the_url_and_its_cookie_open_nothing_once_there_are_accounts(tmp_path: Path) -> None:
    old = os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(tmp_path / "config")
    try:
        survey = write_survey(tmp_path / "survey")
        with serve(survey, tmp_path / "log") as url:
            link = f"/login?next=%2F%3F{urlsplit(url).query}"
            status, headers, _ = ask(url, link)
            local = Visitor(url, headers["set-cookie"].split(";")[0])
            assert (status, local.get("/training")[0]) == (302, 200)
            accounts = with_accounts(survey, {"grader-1": "vetter"})
            assert local.get("/training")[0] == 401  # at once
            status, headers, body = ask(url, link)
            assert (status, "set-cookie" in headers, b'name="password"' in body) == (200, False, True)
            assert urlsplit(url).query.encode() not in body
            grader = log_in(url, "grader-1")
            assert grader.get("/training")[0] == 200
            accounts.remove("grader-1")  # the last one: the door stays shut
            assert [each.get("/training")[0] for each in (grader, local)] == [401, 401]
    finally:
        os.environ["VOORWERP_CONFIG"] = old


@pytest.mark.parametrize("route", ["/", "/login", "/crops/0", "/token", "/export"])
def test_another_host_or_origin_is_refused_whoever_asks(people: dict[str, Visitor], route: str) -> None:
    for sent in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert people["owner-1"].get(route, **sent)[0] == 403


def test_what_stands_before_a_login_is_a_page_that_says_what_went_wrong(place: tuple[str, Accounts]) -> None:
    url = place[0]
    status, headers, _ = ask(url, "/?view=1,2,3,4&overlay=talk%3Ared")
    assert status == 302
    status, headers, body = ask(url, "/" + headers["location"].removeprefix("./"))
    assert status == 200
    assert b'value="/?view=1%2C2%2C3%2C4&amp;overlay=talk%3Ared"' in body
    assert b'autocomplete="current-password"' in body
    assert "script" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    told = [send_login(url, name, "not the one") for name in ("viewer-1", "nobody-knows", "<b>")]
    assert [status for status, _, _ in told] == [401] * 3
    assert all(b"This name and password do not go together." in body for _, _, body in told)
    assert b"&lt;b&gt;" in told[2][2]
    assert not any("set-cookie" in headers for _, headers, _ in told)
    assert send_login(url, "viewer-1", PASSWORDS["viewer-1"], Origin="http://evil.example")[0] == 403
    assert send_login(url, "viewer-1", PASSWORDS["viewer-1"], Host="evil.example")[0] == 403
    assert ask(url, "/login", "name=viewer-1&password=deneb+is+far")[0] == 403  # from no page


def test_a_login_goes_on_to_where_it_was_asked_for(place: tuple[str, Accounts]) -> None:
    for target, found in (("/?subject=1&token=x", "/?subject=1"), ("//evil.example/x", "/"), ("/vet/a", "/vet/a")):
        status, headers, _ = send_login(place[0], "owner-1", PASSWORDS["owner-1"], target)
        assert (status, headers["location"]) == (303, found)


def test_the_cookie_of_a_login(place: tuple[str, Accounts]) -> None:
    status, headers, _ = send_login(place[0], "Grader-1", PASSWORDS["grader-1"])  # as people write their names
    assert status == 303
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Lax" in headers["set-cookie"]
    assert "Secure" not in headers["set-cookie"]  # on loopback, in the clear
    visitor = Visitor(place[0], headers["set-cookie"].split(";")[0])
    page = visitor.get("/")[2]
    assert visitor.cookie.partition("=")[2].encode() not in page  # no script may read it, nor what it was sent in
    assert visitor.post("/logout")[0] == 200
    assert visitor.get("/training")[0] == 401
    assert visitor.get("/")[0] == 302


def test_logging_out_takes_a_page_of_ours(people: dict[str, Visitor]) -> None:
    viewer = people["viewer-1"]
    for left_out in ("Origin", "X-Voorwerp-Token"):
        whole = {"Cookie": viewer.cookie, "Origin": origin_of(viewer.url), "X-Voorwerp-Token": viewer.token()}
        whole.pop(left_out)
        assert ask(viewer.url, "/logout", "", **whole)[0] == 403
    assert viewer.get("/logout")[0] == 403  # no GET does it
    assert viewer.get("/training")[0] == 200


def test_nobody_uses_the_token_of_somebody_else(people: dict[str, Visitor]) -> None:
    owner, grader = people["owner-1"], people["grader-1"]
    assert len({visitor.token() for visitor in people.values()}) == len(people)
    status, _, body = owner.post("/runs/start", **{"X-Voorwerp-Token": grader.token()})
    assert (status, b"reload" in body) == (403, True)


# ---------------------------------------------------------------------------------------------- what they may then do
RUNS = ("start", "cancel", "resume", "delete")


def test_runs_are_the_owners(people: dict[str, Visitor]) -> None:
    for what in RUNS:
        for name in ("viewer-1", "grader-1"):
            status, _, body = people[name].post(f"/runs/{what}", "{}")
            assert (status, b"it takes an owner" in body) == (403, True)
        assert people["owner-1"].post(f"/runs/{what}", "[]")[0] == 400
    assert people["viewer-1"].get("/training")[2] == b'{"runs":[],"series":[]}'


def test_campaigns_are_made_by_owners_and_graded_by_vetters(people: dict[str, Visitor]) -> None:
    for what in ("make", "quick", "close"):
        for name in ("viewer-1", "grader-1"):
            status, _, body = people[name].post(f"/campaigns/{what}", "{}")
            assert (status, b"it takes an owner" in body) == (403, True)
        assert people["owner-1"].post(f"/campaigns/{what}", "{}")[0] == 400
    for path in ("campaigns/adjudicate", "campaigns/outcome", *(f"vet/{'0' * 12}/{what}" for what in ("vote", "undo"))):
        status, _, body = people["viewer-1"].post(f"/{path}", "{}")
        assert (status, b"it takes a vetter" in body) == (403, True)
        assert people["grader-1"].post(f"/{path}", "{}")[0] in (400, 404)
    assert people["viewer-1"].get(f"/vet/{'0' * 12}/picture/{'0' * 16}")[0] == 403  # a queue is for who grades
    assert people["viewer-1"].get("/campaigns")[0] == 200


def test_a_viewer_drops_no_image_and_a_vetter_does(people: dict[str, Visitor]) -> None:
    status, _, body = people["viewer-1"].post("/drop", b"\x89PNG")
    assert (status, b"it takes a vetter" in body) == (403, True)
    assert people["grader-1"].post("/drop", b"\x89PNG")[0] == 409  # this survey takes none


def test_who_looks_sees_what_there_is(people: dict[str, Visitor]) -> None:
    assert people["viewer-1"].get("/crops/0")[0] == 200
    assert b"588848901523702001" in people["viewer-1"].get("/export")[2]


def test_a_viewer_votes_not_as_a_volunteer_either(people: dict[str, Visitor]) -> None:
    assert people["viewer-1"].get("/classify")[0] == 403
    assert people["viewer-1"].get("/classify/grid")[0] == 403
    assert people["viewer-1"].post("/classify/answer", "{}")[0] == 403
    assert people["grader-1"].get("/classify")[0] == 200


def test_a_role_changes_at_once(place: tuple[str, Accounts]) -> None:
    url, accounts = place
    accounts.add("changing", "viewer", "mira varies")
    visitor = log_in(url, "changing", "mira varies")
    assert visitor.post("/drop", b"x")[0] == 403
    accounts.set_role("changing", "owner")
    assert visitor.post("/drop", b"x")[0] == 409  # this survey takes none
    assert visitor.post("/runs/cancel", "[]")[0] == 400
    accounts.set_role("changing", "viewer")
    assert visitor.post("/runs/cancel", "[]")[0] == 403
    accounts.remove("changing")
    assert visitor.get("/crops/0")[0] == 401
    accounts.add("changing", "owner", "mira varies")  # of the same name, and somebody else
    assert visitor.get("/crops/0")[0] == 401


# ------------------------------------------------------------------------------------------------------- open pages
async def socket_of(visitor: Visitor, cookie: str | None = None, **headers: str) -> WebSocketClientConnection:
    """The socket of a page that `visitor` opens, as their browser does; with another cookie, as who has that."""
    page = (await asyncio.to_thread(visitor.get, "/"))[2].decode()
    token = json.loads('"' + page.partition('"token":"')[2].partition('"')[0] + '"')
    sent = {"Cookie": visitor.cookie if cookie is None else cookie, "Origin": origin_of(visitor.url)} | headers
    request = HTTPRequest(f"ws://{urlsplit(visitor.url).netloc}/ws", headers=sent)
    return await websocket_connect(request, subprotocols=["bokeh", token])


async def until_closed(socket: WebSocketClientConnection) -> None:
    """Read what comes until there is no more."""
    try:
        async with asyncio.timeout(20):
            while await socket.read_message() is not None:
                pass
    finally:
        socket.close()


def test_a_removed_account_loses_its_open_page_by_itself(place: tuple[str, Accounts]) -> None:
    url, accounts = place

    async def go() -> int | None:
        accounts.add("leaving", "vetter", "algol blinks")
        visitor = await asyncio.to_thread(log_in, url, "leaving", "algol blinks")
        socket = await socket_of(visitor)
        assert await socket.read_message() is not None  # the page is at work
        accounts.remove("leaving")
        await until_closed(socket)
        return socket.close_code

    assert asyncio.run(go()) == login.ENDED


@pytest.mark.parametrize("cookie", ["", "voorwerp=x"])
def test_no_socket_without_a_login(people: dict[str, Visitor], cookie: str) -> None:
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(socket_of(people["owner-1"], cookie))
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(socket_of(people["owner-1"], Origin="http://evil.example"))


def test_nobody_takes_part_in_the_page_of_somebody_else(people: dict[str, Visitor]) -> None:
    async def go() -> int | None:
        socket = await socket_of(people["owner-1"], people["grader-1"].cookie)
        await until_closed(socket)
        return socket.close_code

    assert asyncio.run(go()) == login.ENDED


def test_a_session_that_was_named_beforehand_belongs_to_who_opened_it(people: dict[str, Visitor]) -> None:
    """Whoever lets an owner open a page under a session of their choice does not sit in it."""
    owner, grader, session = people["owner-1"], people["grader-1"], generate_session_id()
    assert owner.get(f"/?bokeh-session-id={session}")[0] == 200

    async def go() -> int | None:
        token = generate_jwt_token(session, extra_payload={"headers": {}, "cookies": {}, "arguments": {}})
        request = HTTPRequest(
            f"ws://{urlsplit(owner.url).netloc}/ws", headers={"Cookie": grader.cookie, "Origin": origin_of(owner.url)}
        )
        socket = await websocket_connect(request, subprotocols=["bokeh", token])
        await until_closed(socket)
        return socket.close_code

    assert asyncio.run(go()) == login.ENDED


# -------------------------------------------------------------------------------------- every route, every message
#: Open to everyone, each with its reason.
OPEN = {
    "LoginPage": "before a login",
    "WithProvider": "before a login",
    "FromProvider": "before a login; a state of ours comes back with the visitor",
    "PageRoute": "checks by `Door.visitor`: a link may let in",
    "FileRoute": "scripts, styles and logo",
    "StaticHandler": "Bokeh's own scripts",
    "MultiRootStaticHandler": "Bokeh's extensions",
    "StaticFileHandler": "our scripts, styles and logo; Panel's",
    "ComponentResourceHandler": "scripts and styles of components",
    "IcoHandler": "Bokeh's icon",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("VOORWERP_CONFIG", str(tmp_path / "config"))
    with Desk.open(write_survey(tmp_path / "survey")) as opened:
        yield opened


def handlers_of(desk: Desk) -> list[tuple[str, type[RequestHandler]]]:
    """Every pattern that the server answers, and by what."""
    setup()
    access = Access(0, frozenset())
    with ThreadPoolExecutor(1) as pool:
        grids = Classify(desk.explore.survey, desk.ledger)
        server = _listen(lambda: pn.Column(), "127.0.0.1", access, desk, pool, Doors(grids))  # type: ignore[arg-type,return-value]
        rules = server.bokeh._tornado.default_router.rules + server.bokeh._tornado.wildcard_router.rules
        server.bokeh.stop()
        grids.close()
    found: list[tuple[str, type[RequestHandler]]] = []
    while rules:
        rule = rules.pop()
        if isinstance(rule.target, type):
            found.append((rule.matcher.regex.pattern, rule.target))
        else:
            rules += rule.target.rules
    return found


def test_every_route_asks_who_is_there_or_is_open_for_a_reason(desk: Desk) -> None:
    found = handlers_of(desk)
    assert len(found) > 50
    for pattern, handler in found:
        asks = issubclass(handler, (Route, classify._Route, AuthRequestHandler)) and handler is not classify.PageRoute
        names = {each.__name__ for each in handler.__mro__}
        assert asks or names & OPEN.keys(), f"{pattern} is open: {handler}"
        if issubclass(handler, Route) and issubclass(handler, Change) and handler is not login.Logout:
            assert handler.needs in ("vetter", "owner"), f"a viewer may send {pattern}"
        if issubclass(handler, Route) and handler.post is not RequestHandler.post:
            assert issubclass(handler, Change), f"{pattern} changes something without a page's token"


def guarded(desk: Desk, role: Role) -> Session:
    """A page of somebody with a role, who is in the accounts."""
    accounts = with_accounts(desk.explore.survey.path)
    desk.ledger.guard = accounts.guard
    name = next(name for name, as_ in ROLES.items() if as_ == role)
    setup()
    with set_curdoc(Document()):
        return Session(desk, None, Person(name, role))


MESSAGES: dict[str, Any] = {
    "keep": lambda s: s.controls._hear({"keep": "mine"}),
    "keep by the bar": lambda s: s._keep("mine"),
    "rename": lambda s: s.controls._hear({"rename": ["kept", "taken"]}),
    "drop": lambda s: s.controls._hear({"drop": "kept"}),
    "tag": lambda s: asyncio.run(s.subject.answer(decision(decide="tag", tag="ring"))),
    "note": lambda s: asyncio.run(s.subject.answer(decision(decide="note", text="look"))),
    "place": lambda s: s.map._decide({"kind": "place", "x": [0, 1, 1], "y": [0, 0, 1], "at": [0, 0], "name": "here"}),
}
OWNERS: dict[str, Any] = {
    "count": lambda s: asyncio.run(s.volunteers._count({"live_only": True})),
    "save a boundary": lambda s: s.boundary._hear({"do": "save", "name": "mine"}),
    "write a report": lambda s: asyncio.run(s._report(s.state.draft, s.boundary.context)),
}


def decision(**told: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "row": 0} | told


@pytest.mark.parametrize("what", [*MESSAGES, *OWNERS])
def test_no_message_of_a_viewers_page_decides_anything(desk: Desk, what: str) -> None:
    survey = desk.explore.survey
    desk.ledger.save_selection("kept", np.array([1]), survey.subject_ids, who="before")
    before = [entry.id for entry in desk.ledger.entries(include_undone=True)]
    files = sorted(path for path in survey.path.rglob("*") if path.parent.name in ("selections", "reports"))
    session = guarded(desk, "viewer")
    with set_curdoc(Document()):
        session.state.select(Selection.of_rows([0, 2], 5))
        try:
            (MESSAGES | OWNERS)[what](session)
        except AccessError as error:
            assert "viewer-1 is a viewer here" in str(error)
    assert [entry.id for entry in desk.ledger.entries(include_undone=True)] == before
    assert files == sorted(path for path in survey.path.rglob("*") if path.parent.name in ("selections", "reports"))


@pytest.mark.parametrize("what", ["keep", "tag", "note"])
def test_a_vetters_messages_are_kept_under_their_name(desk: Desk, what: str) -> None:
    session = guarded(desk, "vetter")
    with set_curdoc(Document()):
        session.state.select(Selection.of_rows([0, 2], 5))
        MESSAGES[what](session)
    assert [entry.who for entry in desk.ledger.entries()] == ["grader-1"]


@pytest.mark.parametrize("what", [*OWNERS])
def test_a_vetter_does_nothing_of_the_owners(desk: Desk, what: str) -> None:
    session = guarded(desk, "vetter")
    with set_curdoc(Document()):
        try:
            OWNERS[what](session)
        except AccessError as error:
            assert "it takes an owner" in str(error)
    assert not desk.ledger.entries(include_undone=True)


def test_a_page_follows_the_role_of_its_account(desk: Desk) -> None:
    accounts = with_accounts(desk.explore.survey.path)
    access = Access(1, frozenset(), accounts=accounts)
    setup()
    with set_curdoc(Document()):
        session = Session(desk, None, Person("grader-1", "vetter"), access.again)
        assert session.shell.bar.person == {
            "name": "grader-1",
            "role": "vetter",
            "may": session.shell.bar.person["may"],
        }
        accounts.set_role("grader-1", "viewer")
        asyncio.run(session.poll())
        assert session.state.person == Person("grader-1", "viewer")
        assert session.shell.bar.person["role"] == "viewer"
    with set_curdoc(Document()):
        assert Session(desk).shell.bar.person == {}  # without accounts there is nobody to name


def test_the_ledger_lets_each_decide_their_own(desk: Desk) -> None:
    ledger, accounts = desk.ledger, with_accounts(desk.explore.survey.path)
    early = ledger.append("vote", {"grade": "B"}, who="grader-1", subject_id=1)
    ledger.guard = accounts.guard
    vote = ledger.append("vote", {"grade": "A"}, who="grader-1", subject_id=1)
    for who, kind, sentence in (
        ("viewer-1", "vote", "viewer-1 is a viewer here and may not do that; it takes a vetter"),
        ("viewer-1", "tag", "it takes a vetter"),
        ("grader-1", "job", "grader-1 is a vetter here and may not do that; it takes an owner"),
        ("grader-1", "campaign", "it takes an owner"),
        ("grader-1", "boundary", "it takes an owner"),
        (LOCAL.name, "vote", "local has no account here any more; this was not kept"),
        (NOBODY.name, "tag", "nobody has no account here any more"),
        ("Grader-1", "vote", "Grader-1 has no account here any more"),  # the ledger knows people by one name
        ("grader-1", "classification", "it takes an owner"),
        ("volunteer:0123456789abcdef", "vote", "has no account here any more"),
    ):
        with pytest.raises(AccessError, match=sentence):
            ledger.append(kind, {}, who=who)
    with pytest.raises(AccessError, match="grader-2 is a vetter here and may not do that"):
        ledger.undo(vote.id, who="grader-2")
    with pytest.raises(AccessError, match="viewer-1"):
        ledger.undo(vote.id, who="viewer-1")
    undone = ledger.undo(vote.id, who="grader-1")
    ledger.undo(undone.id, who="grader-1")
    taken = ledger.undo(early.id, who="owner-1")
    with pytest.raises(AccessError, match="grader-1 is a vetter here"):
        ledger.undo(taken.id, who="grader-1")
    assert ledger.append("classification", {}, who="volunteer:0123456789abcdef").id
    assert ledger.append("campaign", {}, who=SERVER.name).id
    assert ledger.append("campaign", {}, who="owner-1").id
    accounts.remove("grader-1")
    with pytest.raises(AccessError, match="grader-1 has no account here any more"):
        ledger.append("vote", {}, who="grader-1")
    assert [entry.who for entry in ledger.entries("vote")] == ["grader-1"]  # what was decided stays
