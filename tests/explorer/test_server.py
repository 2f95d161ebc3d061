"""Who may come in: asked of the real server, with and without its token."""

import http.client
import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.explorer.small_survey import write_survey
from tests.ui.serving import serve

ROUTES = (
    "/",
    "/autoload.js?bokeh-autoload-element=1",
    "/ws",
    "/token",
    "/frame?map=m&x0=0&x1=1&y0=0&y1=1&w=8&h=8",
    "/nearest?map=m&at_x=0&at_y=0&rx=1&ry=1",
    "/thumbs?rows=0",
    "/page?start=0&count=5",
    "/groups",
    "/place?row=0",
    "/thumbnails/0",
    "/pictures/0",
    "/originals/0",
    "/crops/0",
    "/reconstructions/0",
    "/residuals/0",
    "/feature-residuals/0",
    "/subject/0",
    "/training?run=r",
    "/grid?run=r&epoch=1",
    "/runs/kinds",
    "/runs/parents?kind=score",
    "/export",
    "/figure?kind=histograms",
    "/histogram?column=subjects.edge_fraction&scale=linear&low=&high=",
    "/table?columns=subjects.source_id",
    "/complete?text=mag&cursor=3",
    "/apart?score=subjects.edge_fraction",
    "/boundary/curves?draft=d",
    "/boundary/budget?draft=d",
    "/boundary/follows?draft=d",
    "/boundary/lost?draft=d",
    "/runs/compare?a=r&b=s",
    "/campaigns",
    "/campaigns/000000000000",
    "/campaigns/000000000000/adjudication",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with serve(write_survey(folder / "survey"), folder / "log") as url:
        yield url


def ask(url: str, path: str, sent: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body; redirects are not followed. POST where something is `sent`."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET" if sent is None else "POST", path, sent, headers=headers)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def cookie(url: str) -> str:
    """What the printed URL's token is exchanged for."""
    status, headers, _ = ask(url, f"/login?next=%2F%3F{urlsplit(url).query}")
    assert (status, headers["location"]) == (302, "/")  # the token is not in the address any more
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    return headers["set-cookie"].split(";")[0]


def test_the_token_is_taken_out_of_a_link_and_all_else_of_it_stays(url: str) -> None:
    link = {"view": "1.5,2,-3,4", "overlay": "talk:red dot", "subject": "a&b=c\r\nSet-Cookie: x=1"}
    token = parse_qs(urlsplit(url).query)["token"][0]
    asked = urlencode({"next": "/?" + urlencode({"token": token, **link})})
    status, headers, _ = ask(url, f"/login?{asked}")
    assert status == 302
    assert "x=1" not in headers.get("set-cookie", "")
    target = urlsplit(headers["location"])
    assert (target.scheme, target.netloc, target.path) == ("", "", "/")
    assert {key: values for key, (values,) in parse_qs(target.query).items()} == link


WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AA==",
}


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_comes_in_without_the_cookie(url: str, route: str) -> None:
    name = cookie(url).split("=")[0]
    for sent in ({}, {"Cookie": f"{name}=wrong"}):
        status, headers, body = ask(url, route, **sent, **(WEBSOCKET if route == "/ws" else {}))
        assert status == 403 or (status == 302 and "/login?next=" in headers["location"])
        assert b"588848901523702001" not in body


def test_a_wrong_token_gets_no_cookie(url: str) -> None:
    for token in ("", "token=", "token=wrong"):
        status, headers, body = ask(url, f"/login?next=%2F%3F{token}")
        assert (status, headers.get("set-cookie")) == (403, None)
        assert b"Open the URL that `voorwerp serve` printed" in body


@pytest.mark.parametrize("route", ["/", "/subject/0", "/export", "/login"])
def test_another_host_or_origin_is_refused_even_with_the_cookie(url: str, route: str) -> None:
    held = cookie(url)
    for sent in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert ask(url, route, Cookie=held, **sent)[0] == 403


def test_with_the_cookie_rows_come_out_exactly_and_nonsense_is_a_sentence(url: str) -> None:
    held = cookie(url)
    status, headers, body = ask(url, "/export", Cookie=held)
    assert status == 200
    assert b"588848901523702001" in body
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    for route, code, sentence in (
        ("/crops/5", 404, b"there is no subject in row 5"),
        ("/frame?map=../..&x0=0&x1=1&y0=0&y1=1&w=8&h=8", 404, b"there is no such map"),
        ("/subject/0?run=..%2F..", 404, b"there is no such score run"),
        ("/frame?x0=1&x1=0&y0=0&y1=1", 400, b"the view is empty"),
        ("/frame?x0=nan&x1=0&y0=0&y1=1", 400, b"x0 must be a number"),
        ("/figure", 400, b"there is no map yet"),
        ("/figure?kind=pie", 400, b"kind must be one of map, histograms, sheet"),
        ("/figure?kind=histograms", 400, b"there is no column to draw"),
        ("/figure?kind=histograms&columns=subjects.edge_fractio", 400, b"did you mean"),
        ("/figure?kind=sheet", 400, b"nothing is selected"),
        ("/figure?overlay=moon", 400, b"is not in the categories"),
        ("/runs/compare?a=r&b=r", 400, b"is compared with itself; choose two runs"),
        ("/runs/compare?a=r&b=s", 400, b"there is no finished run of scores"),
        ("/runs/compare?a=r&b=s&top=x", 400, b"top must be a number"),
        ("/runs/compare?part=moon", 400, b"part must be one of figures, noise, runs"),
        ("/runs/compare?part=runs", 200, b'{"runs":[]}'),
        ("/apart", 400, b"nothing is selected"),
        ("/apart?score=subjects.edge_fractio", 400, b"did you mean"),
        ("/apart?among=moon", 400, b"among must be one of survey, map"),
        ("/apart?selection=no", 400, b"this selection is not known to the server any more"),
        ("/histogram?column=subjects.ra", 400, b"needs a scale, a low and a high"),
        ("/histogram?column=subjects.ra&scale=log&low=x&high=", 400, b"low and high must be numbers, or empty"),
        ("/histogram?column=subjects.ra&scale=log&low=-1&high=", 200, b"begins above 0, not at -1"),
        ("/histogram?column=subjects.r&scale=linear&low=&high=", 200, b"did you mean"),
        ("/histogram?bins=201", 400, b"bins must be a whole number from 1 to 200"),
        ("/histogram?view=0,1,0", 400, b"view must be four numbers"),
        ("/histogram?selection=abc", 400, b"this selection is not known to the server any more"),
        ("/page?start=-1&count=5", 400, b"start must be a whole number"),
        ("/page?start=0&count=5&sort=subjects.edge_fractio", 400, b"did you mean"),
        ("/page?start=0&count=5&kind=feature", 400, b"kind must be one of original, crop, reconstruction, residual"),
        ("/page?start=0&count=5&kind=residual", 400, b"this run has no model that reconstructs"),
        ("/page?start=0&count=5", 400, b"`voorwerp thumbnails survey` makes them again"),
        ("/page?start=1&count=2&sections=1&kind=crop", 200, b'"sections":[{"title":"","start":0,"k":5}],"note":""'),
        ("/page?start=1&count=2&kind=crop", 200, b'{"rows":[1,2],"names":['),
        ("/thumbs?rows=", 404, b"there is no subject in row "),
        ("/thumbs?rows=0,7", 404, b"there is no subject in row 7"),
        ("/groups?group=halves:subjects.ra", 400, b"there are values, quartiles, deciles, clusters"),
        ("/groups?group=clusters:8", 400, b"no latent vectors"),
        ("/groups", 200, b'{"groups":[{"title":"","start":0,"k":5}],"note":""}'),
        ("/place?row=3", 200, b'{"place":3}'),
        ("/place?row=-1", 404, b"there is no subject in row -1"),
        ("/place", 404, b"there is no subject in row"),
        ("/training?run=..%2F..%2Fruns", 400, b"there is no run '../../runs' in this survey"),
        ("/training?run=", 200, b'{"runs":[],"series":[]}'),
        ("/runs/parents?kind=scor", 400, b"did you mean"),
        ("/runs/parents?kind=score&config=7", 400, b"config must be a JSON object"),
        ("/runs/parents?kind=score&config={%22batch%22:0}", 400, b"it must be between 1 and 8,192"),
        ("/grid?run=..%2F..&epoch=1", 400, b"there is no run"),
        ("/grid?run=r&epoch=..%2F1", 400, b"epoch must be a number"),
        ("/export?selection=abc", 400, b"this selection is not known to the server any more"),
        ("/boundary/curves?draft=abc", 400, b"this boundary is not known to the server any more"),
        ("/boundary/budget", 400, b"this boundary is not known to the server any more"),
        ("/boundary/moon?draft=abc", 404, b""),
    ):
        status, _, body = ask(url, route, Cookie=held)
        assert (status, sentence in body) == (code, True), (route, body)


def test_runs_are_changed_by_a_page_of_ours_alone(url: str) -> None:
    held, origin = cookie(url), f"http://{urlsplit(url).netloc}"
    token = ask(url, "/token", Cookie=held)[2].decode()
    whole = {"Cookie": held, "Origin": origin, "X-Voorwerp-Token": token}
    for what in ("start", "cancel", "resume", "delete"):
        for missing, reason in (
            ("Cookie", b"not logged in"),
            ("Origin", b"our own page"),
            ("X-Voorwerp-Token", b"reload"),
        ):
            sent = {name: value for name, value in whole.items() if name != missing}
            status, _, body = ask(url, f"/runs/{what}", "{}", **sent)
            assert (status, reason in body) == (403, True), (what, missing, body)
        assert ask(url, f"/runs/{what}", "{}", **whole | {"Origin": "http://evil.example"})[0] == 403
        assert ask(url, f"/runs/{what}", "[]", **whole)[0] == 400
        assert ask(url, f"/runs/{what}", "{", **whole)[0] == 400
    asked = {"kind": "train", "config": {"epochs": 0}, "parents": []}
    status, _, body = ask(url, "/runs/start", json.dumps(asked), **whole)
    assert (status, json.loads(body)["field"]) == (400, "epochs")
    assert json.loads(body)["error"] == "epochs is 0; it must be between 1 and 100,000"
    assert ask(url, "/training", Cookie=held)[2] == b'{"runs":[],"series":[]}'


def test_a_comparison_is_kept_by_all_that_goes_into_it(url: str) -> None:
    held = cookie(url)
    scores = ("subjects.ra", "subjects.edge_fraction")
    for _ in range(2):
        for score in scores:
            status, _, body = ask(url, f"/apart?score={score}", Cookie=held)
            assert (status, f'"reference":"{score}"'.encode() in body) == (200, True)


def test_a_figure_comes_as_a_file_with_a_name(url: str) -> None:
    told = "kind=histograms&columns=subjects.edge_fraction&width=single&caption=0"
    for form, kind, begins in (("png", "image/png", b"\x89PNG"), ("pdf", "application/pdf", b"%PDF")):
        status, headers, body = ask(url, f"/figure?{told}&format={form}", Cookie=cookie(url))
        assert (status, headers["content-type"], body.startswith(begins)) == (200, kind, True)
        assert headers["content-disposition"] == f'attachment; filename="Five_histograms.{form}"'
