"""The layer over the map, in a real Chromium; what a gesture selects is counted anew from the survey's own columns."""

import asyncio
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, Response, Route, expect

from explorer.services.desk import Desk
from explorer.services.explore import Explore
from explorer.state import ExplorerState
from explorer.survey import Survey
from explorer.views.map import MapView, setup
from tests.conftest import FIRST_ID
from tests.explorer.test_raster import even_odd
from tests.ui.browser import painted, wait_until_idle
from tests.ui.serving import serve
from tests.ui.test_journeys import bytes_of, wait_for_frame

N = 200
MAP = "voorwerp.on_screen()"
OVAL = [(0.5 + 0.3 * math.cos(k / 15 * math.pi), 0.55 + 0.3 * math.sin(k / 15 * math.pi)) for k in range(31)]
CORNERS = [(0.25, 0.3), (0.7, 0.25), (0.8, 0.8), (0.45, 0.6)]
STROKE = [(0.2, 0.4), (0.5, 0.5), (0.6, 0.8)]
BOX = [(0.3, 0.25), (0.7, 0.8)]
GESTURES = {"lasso": ("l", OVAL), "box": ("b", BOX), "ellipse": ("e", BOX), "brush": ("w", STROKE)}


@pytest.fixture(scope="module")
def survey(finished_survey: Path) -> Survey:
    return Survey.open(finished_survey)


@pytest.fixture(scope="module")
def xyz(survey: Survey) -> np.ndarray:
    """Float32 (N, 3): where every subject stands on the map."""
    return survey.coordinates(survey.maps()[0].run_id)


@pytest.fixture
def screen(open_survey: Callable[[str], Page], served: str) -> Page:
    page = open_survey(served)
    wait_for_frame(page)
    rested(page)
    return page


def told(page: Page, what: str) -> Any:
    """A property of the map that is on screen."""
    return page.evaluate(f"() => {MAP}.{what}")


def rested(page: Page) -> None:
    """Until the view is one to come back to."""
    page.wait_for_function(
        f"() => {{ const m = {MAP}, now = () => JSON.stringify([m.view, m.told.solid ? m.turn : null]);"
        " return m?.shown && m.rested === now(); }"
    )


def until(page: Page, what: str) -> None:
    """Until something is true of the map, `m`."""
    page.wait_for_function(f"() => {{ const m = {MAP}; return {what}; }}")


def spot(page: Page, at: tuple[float, float]) -> tuple[float, float]:
    """Pixels of the page at a share of the map's width and height."""
    x, y, w, h = page.evaluate(
        f"() => {{ const r = {MAP}.surface.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }}"
    )
    return x + at[0] * w, y + at[1] * h


def drag(page: Page, path: list[tuple[float, float]], *held: str) -> None:
    """Draw along a path, with keys held down."""
    page.mouse.move(*spot(page, path[0]))
    for key in held:
        page.keyboard.down(key)
    page.mouse.down()
    for at in path[1:]:
        page.mouse.move(*spot(page, at), steps=3)
        time.sleep(0.005)
    page.mouse.up()
    for key in held:
        page.keyboard.up(key)


def use(page: Page, key: str, name: str) -> None:
    page.keyboard.press(key)
    until(page, f"m.told.tool === '{name}'")


def draw(page: Page, path: list[tuple[float, float]], *held: str) -> dict[str, Any]:
    """Draw a region and wait for its subjects: the region, in data coordinates."""
    before = told(page, "told.paint.selection")
    drag(page, path, *held)
    page.wait_for_function(f"before => {MAP}.told.paint.selection !== before", arg=before)
    return told(page, "last")


def held_by(region: dict[str, Any], xy: np.ndarray) -> np.ndarray:
    """Which points a region holds, point by corner."""
    path = np.column_stack([region["x"], region["y"]])
    if region["shape"] != "brush":
        return even_odd(xy[:, 0], xy[:, 1], path)
    reach, near = np.array([region["rx"], region["ry"]]), np.zeros(len(xy), bool)
    for a, b in zip(path[[0, *range(len(path) - 1)]], path, strict=True):
        u, v = (b - a) / reach, (xy - a) / reach
        t = np.clip(v @ u / max(u @ u, 1e-30), 0, 1)
        near |= ((v - t[:, None] * u) ** 2).sum(axis=1) <= 1
    return near


@pytest.mark.parametrize("name", GESTURES)
def test_a_gesture_selects_exactly_what_it_outlines(screen: Page, xyz: np.ndarray, name: str):
    key, path = GESTURES[name]
    use(screen, key, name)
    region = draw(screen, path)
    within = held_by(region, xyz[:, :2])
    assert region["shape"] == name
    assert told(screen, "told.selected") == within.sum()
    assert 0 < within.sum() < N
    left, top = (min(p[k] for p in path) for k in (0, 1))
    x, y = screen.evaluate(f"r => {MAP}.px(Math.min(...r.x), Math.max(...r.y))", region)
    assert x == pytest.approx(left * told(screen, "w"), abs=3)
    assert y == pytest.approx(top * told(screen, "h"), abs=3)
    expect(screen.get_by_text(f"{within.sum()} of {N} selected").first).to_be_visible()


def test_a_polygon_grows_by_clicks_loses_corners_and_closes_by_enter_or_double_click(screen: Page, xyz: np.ndarray):
    use(screen, "g", "polygon")
    for at in [*CORNERS, (0.1, 0.1)]:
        screen.mouse.click(*spot(screen, at))
    screen.keyboard.press("Backspace")
    assert len(told(screen, "gesture.x")) == 4
    screen.keyboard.press("Enter")
    until(screen, "m.told.selected > 0")
    region = told(screen, "last")
    assert told(screen, "told.selected") == held_by(region, xyz[:, :2]).sum()
    for at in CORNERS[:2]:
        screen.mouse.click(*spot(screen, at))
    screen.mouse.dblclick(*spot(screen, CORNERS[2]))
    until(screen, "!m.gesture && m.last.x.length === 3")
    screen.wait_for_function(
        f"k => {MAP}.told.selected === k", arg=int(held_by(told(screen, "last"), xyz[:, :2]).sum())
    )
    screen.mouse.click(*spot(screen, CORNERS[0]))
    screen.keyboard.press("Escape")
    assert told(screen, "gesture") is None
    assert told(screen, "told.selected") > 0  # only the polygon was given up


def test_shift_adds_alt_takes_away_and_both_intersect(screen: Page, xyz: np.ndarray):
    use(screen, "b", "box")
    xy = xyz[:, :2]
    chosen = held_by(draw(screen, BOX), xy)
    chosen |= held_by(draw(screen, [(0.05, 0.2), (0.4, 0.95)], "Shift"), xy)
    assert told(screen, "told.selected") == chosen.sum()
    chosen &= ~held_by(draw(screen, [(0.35, 0.3), (0.6, 0.6)], "Alt"), xy)
    assert told(screen, "told.selected") == chosen.sum()
    chosen &= held_by(draw(screen, [(0.1, 0.15), (0.5, 0.9)], "Shift", "Alt"), xy)
    assert told(screen, "told.selected") == chosen.sum()
    assert 0 < chosen.sum() < N


def test_the_turned_map_is_outlined_as_it_is_seen_and_turns_back(screen: Page, xyz: np.ndarray):
    screen.keyboard.press("3")
    until(screen, "m.told.solid && m.told.about.includes('three dimensions')")
    rested(screen)
    before = told(screen, "turn")
    drag(screen, [(0.4, 0.4), (0.7, 0.6)])
    rested(screen)
    yaw, pitch = told(screen, "turn")
    assert [yaw, pitch] != before
    assert not told(screen, "moving")
    use(screen, "l", "lasso")
    region = draw(screen, OVAL)
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    a, b, c = ((xyz - (low + high) / 2) / ((high - low) / 2)).T
    x = math.cos(yaw) * a + math.sin(yaw) * c
    y = math.sin(yaw) * math.sin(pitch) * a + math.cos(pitch) * b - math.cos(yaw) * math.sin(pitch) * c
    selected = told(screen, "told.selected")
    assert selected == held_by(region, np.column_stack([x, y])).sum()
    assert 0 < selected < N
    screen.keyboard.press("3")
    until(screen, "!m.told.solid")
    rested(screen)
    assert told(screen, "told.selected") == selected
    expect(screen.get_by_text(f"{N} of {N} subjects on the map in view")).to_be_visible()


#: In one task: on a slow machine the hand's would be so far apart that the view comes to rest between them.
TURNS_OF_THE_WHEEL = f"""([n, clientX, clientY]) => {{
  const about = {{deltaY: -240, clientX, clientY, bubbles: true, cancelable: true}};
  for (let k = 0; k < n; k++) {MAP}.surface.dispatchEvent(new WheelEvent("wheel", about));
}}"""


def test_back_and_forward_go_through_the_views(screen: Page):
    views = [told(screen, "view")]
    for at in ((0.3, 0.4), (0.6, 0.7)):
        screen.evaluate(TURNS_OF_THE_WHEEL, [3, *spot(screen, at)])
        rested(screen)
        views.append(told(screen, "view"))
    assert views[2][1] - views[2][0] < views[1][1] - views[1][0] < views[0][1] - views[0][0]
    for key, expected in (("[", views[1]), ("[", views[0]), ("]", views[1]), ("f", views[0])):
        screen.keyboard.press(key)
        assert told(screen, "view") == pytest.approx(expected)
    rested(screen)
    expect(screen.get_by_role("button", name="Forward", exact=True)).to_be_disabled()


def test_the_wheel_keeps_what_is_under_the_mouse_and_two_fingers_zoom(screen: Page):
    at = spot(screen, (0.3, 0.6))
    under = (
        f"([x, y]) => {{ const m = {MAP}, r = m.surface.getBoundingClientRect(); return m.data(x - r.x, y - r.y); }}"
    )
    screen.mouse.move(*at)
    before = screen.evaluate(under, list(at))
    whole = told(screen, "view")
    screen.mouse.wheel(0, -200)
    screen.wait_for_function(f"x => {MAP}.view[0] > x", arg=whole[0])
    rested(screen)
    wide = told(screen, "view")
    slack = 0.02 * (wide[1] - wide[0])  # the numbers on the axes may have become wider
    assert screen.evaluate(under, list(at)) == pytest.approx(before, abs=slack)
    touch = screen.context.new_cdp_session(screen)
    for kind, far in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": at[0] + sign * far, "y": at[1], "id": k} for k, sign in enumerate((-1, 1))] if far else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    rested(screen)
    narrow = told(screen, "view")
    assert (narrow[1] - narrow[0]) / (wide[1] - wide[0]) == pytest.approx(0.5, rel=0.05)
    assert screen.evaluate(under, list(at)) == pytest.approx(before, abs=2 * slack)


def test_the_minimap_shows_where_one_is_and_takes_one_elsewhere(screen: Page):
    mini = screen.locator(".mini")
    expect(mini).to_be_hidden()  # all of the map is in view
    screen.mouse.move(*spot(screen, (0.5, 0.5)))
    for _ in range(5):
        screen.mouse.wheel(0, -240)
    expect(mini).to_be_visible()
    rested(screen)
    x0, x1 = told(screen, "view")[:2]
    box = mini.bounding_box()
    screen.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    screen.mouse.down()
    screen.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.25)
    screen.mouse.up()
    moved, whole = told(screen, "view"), told(screen, "whole_view")
    assert moved[1] - moved[0] == pytest.approx(x1 - x0)
    assert (moved[0] + moved[1]) / 2 == pytest.approx(
        whole[0] + 0.25 * (whole[1] - whole[0]), abs=0.02 * (whole[1] - whole[0])
    )
    screen.get_by_role("button", name="Minimap").click()
    expect(mini).to_be_hidden()
    screen.reload()
    wait_until_idle(screen)
    wait_for_frame(screen)
    assert told(screen, "mini.hidden")  # remembered
    screen.get_by_role("button", name="Minimap").click()


def is_of_the_map(url: str) -> bool:
    """Whether an address is that of a frame, and not of the minimap's, which comes when the view rests."""
    return "/frame?" in url and "w=150&h=110" not in url


def test_another_palette_or_theme_paints_the_same_bytes_and_asks_for_none(screen: Page):
    asked: list[str] = []
    screen.on("request", lambda request: asked.append(request.url) if is_of_the_map(request.url) else None)
    colors = f"() => {{ const {{canvas, pen}} = {MAP}.pixels; return [...new Set(new Uint32Array("
    colors += "pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer))]; }"
    seen = [sorted(screen.evaluate(colors))]
    for change in (
        lambda: screen.get_by_label("Palette").select_option("cividis"),
        lambda: screen.keyboard.press("h"),
        lambda: screen.keyboard.press("h"),
    ):
        before = told(screen, "pixels.palette")
        change()
        screen.wait_for_function(f"before => {MAP}.pixels.palette !== before", arg=before)
        seen.append(sorted(screen.evaluate(colors)))
    assert seen[0] != seen[1] != seen[2] != seen[3] == seen[1]
    assert len(seen[1]) > 2
    painted(screen)
    assert asked == []
    screen.get_by_label("Palette").select_option("auto")


def test_what_colors_the_map_is_asked_for_before_the_session_says_so_and_only_once(screen: Page):
    asked: list[str] = []
    screen.on("request", lambda request: asked.append(request.url) if is_of_the_map(request.url) else None)
    screen.evaluate(f"() => {{ {MAP}.hear = () => {{}}; }}")  # deaf
    assert told(screen, "told.paint.color") != "count"
    screen.get_by_label("Color by").select_option("count")
    until(screen, "m.pixels.frame.color === 'count' && !m.busy")
    palette = told(screen, "pixels.palette")
    assert palette != told(screen, "session.palette")
    lambda_up(screen)
    until(screen, "m.told.query.lambda !== m.session.query.lambda && !m.busy")
    screen.wait_for_function(
        f"() => {{ const m = {MAP}, s = JSON.parse(m.request.tags[0]); "
        "return s.paint.color === 'count' && s.query.lambda === m.told.query.lambda; }"
    )
    before = len(asked)
    assert [url for url in asked if "ramp=auto" in url and "color=count" in url]
    screen.evaluate(f"() => {{ delete {MAP}.hear; {MAP}.hear(); }}")
    assert told(screen, "foreseen") == {}
    assert told(screen, "session.palette") == palette == told(screen, "pixels.palette")
    painted(screen)
    assert len(asked) == before


def test_a_coloring_that_the_session_does_not_take_goes_again(screen: Page):
    assert screen.evaluate(f"() => {MAP}.foresee({{color: 'scores.image_score'}})")
    until(screen, "m.pixels.frame.color === 'scores.image_score'")
    until(screen, "m.pixels.frame.color === m.session.paint.color")
    assert told(screen, "pixels.palette") == told(screen, "session.palette")
    assert not screen.evaluate(f"() => {MAP}.foresee({{overlay: ''}})")


def test_a_hand_that_moves_again_does_not_wait_for_the_exact_frame_of_what_it_left(screen: Page):
    held: list[Route] = []
    left: list[str] = []

    def answer(route: Route) -> None:
        if not held and "coarse=1" not in route.request.url and is_of_the_map(route.request.url):
            held.append(route)  # the exact frame of very many subjects
        else:
            route.continue_()

    screen.on("requestfailed", lambda request: left.append(request.url))
    screen.route("**/frame?*", answer)
    screen.evaluate(f"() => {{ const m = {MAP}; m.look(m.view.map(v => 0.9 * v)); m.rests(); }}")
    until(screen, "m.busy && !m.sent.coarse")
    screen.evaluate(f"() => {{ const m = {MAP}; m.look(m.view.map(v => 0.8 * v)); }}")
    until(screen, "!m.busy && !m.dirty && String(m.pixels.frame.view) === String(m.view)")
    assert left == [held[0].request.url]


#: The canvas' place in the layer, in pixels, by what its style says.
PLACE = f"() => {{ const m = new DOMMatrix({MAP}.pixels.canvas.style.transform); return [m.e, m.f, m.a]; }}"


def test_while_no_frame_comes_the_last_one_moves_with_the_hand(screen: Page):
    held: list[Route] = []
    is_held = True
    screen.route("**/frame?*", lambda route: held.append(route) if is_held else route.continue_())
    assert screen.evaluate(PLACE) == [0, 0, 1]
    x, y = spot(screen, (0.5, 0.5))
    screen.mouse.move(x, y)
    screen.mouse.down()
    screen.mouse.move(x + 40, y - 24, steps=4)
    screen.wait_for_function(f"() => {{ const [x, y, f] = ({PLACE})(); return x === 40 && y === -24 && f === 1; }}")
    screen.mouse.up()
    scaled = f"() => ({PLACE})()[2] > 1.2"
    screen.evaluate(TURNS_OF_THE_WHEEL, [1, x, y])
    screen.wait_for_function(scaled)
    is_held = False
    for route in held:
        route.continue_()
    screen.wait_for_function(f"() => {{ const [x, y, f] = ({PLACE})(); return x === 0 && y === 0 && f === 1; }}")
    assert told(screen, "pixels.frame.view") == pytest.approx(told(screen, "view"))


def test_a_margin_lies_pixel_on_pixel_beside_the_view_and_goes_when_the_hand_does(screen: Page):
    wide, high = told(screen, "w"), told(screen, "h")
    screen.evaluate(
        f"""() => {{
          const m = {MAP};
          const now = () => performance.now();
          m.press = {{tool: "pan", moved: true, speed: [1, -0.5], get last() {{ return now(); }}}};  // a hand
          m.took = 40;
          m.refresh();
        }}"""
    )
    until(screen, f"m.pixels.frame.w > {wide} && !m.busy")
    padded, place = screen.evaluate(
        f"() => {{ const f = {MAP}.pixels.frame; return [{{...f, bytes: [...f.bytes]}}, ({PLACE})()]; }}"
    )
    left, below = padded["w"] - wide, padded["h"] - high
    assert left > 0 == left % 16
    assert below > 0 == below % 16
    assert place[:2] == [-left, 0]  # beside it and below
    expect(screen.locator(".legend")).to_contain_text("≈ 200 of")
    screen.evaluate(f"() => {{ const m = {MAP}; m.press = null; m.rests(); }}")
    until(screen, f"m.pixels.frame.w === {wide} && !m.busy")
    exact = np.array(screen.evaluate(f"() => [...{MAP}.pixels.frame.bytes]"), np.uint8).reshape(high, wide)
    inner = np.array(padded["bytes"], np.uint8).reshape(high + below, wide + left)[below:, left:]
    edge = 8  # discs of what lies in the margin reach in
    assert (exact[edge:-edge, edge:-edge] == inner[edge:-edge, edge:-edge]).all()
    assert len(np.unique(exact)) > 2
    expect(screen.locator(".legend")).to_contain_text(f"{N} of {N} subjects on the map in view")
    expect(screen.locator(".legend")).not_to_contain_text("≈")


def test_a_coarse_frame_is_followed_by_the_exact_one(screen: Page):
    asked: list[bool] = []

    def answer(route: Route) -> None:
        is_coarse = "coarse=1" in route.request.url
        asked.append(is_coarse)
        given = route.fetch()
        legend = {**json.loads(given.headers["x-legend"]), "coarse": is_coarse}
        route.fulfill(response=given, headers={**given.headers, "x-legend": json.dumps(legend)})

    screen.route("**/frame?*", answer)
    screen.evaluate(TURNS_OF_THE_WHEEL, [1, *spot(screen, (0.5, 0.5))])
    until(screen, "m.is_rough === false && m.pixels.frame.view.join() === m.view.join() && !m.busy")
    assert asked == [True, False]
    screen.unroute("**/frame?*")


def test_a_map_that_is_being_made_says_so_and_is_drawn_then(
    open_survey: Callable[[str], Page], served: str, page: Page, troubles: list[str]
):
    said = {"error": "the map's index is being made: 43 %"}
    is_made = False
    page.route("**/frame?*", lambda route: route.continue_() if is_made else route.fulfill(status=503, json=said))
    open_survey(served)
    expect(page.locator(".layer .waits")).to_have_text("The map's index is being made: 43 % …")
    expect(page.locator(".legend .lost")).to_have_count(0)
    is_made = True
    wait_for_frame(page)
    expect(page.locator(".layer .waits")).to_be_empty()
    troubles[:] = [trouble for trouble in troubles if "status of 503" not in trouble]


def test_frames_are_asked_for_packed_where_the_link_is_slow_and_look_the_same(screen: Page):
    before = bytes_of(screen)
    packed: list[str] = []

    def note(response: Response) -> None:
        if is_of_the_map(response.url):
            packed.append(response.headers.get("content-encoding", ""))

    screen.on("response", note)
    screen.evaluate(
        f"() => {{ const m = {MAP}; for (let k = 0; k < 4; k++) m.weigh(1e5, 100); m.has = null; m.refresh(); }}"
    )
    until(screen, "m.link_is_slow && m.has && !m.busy")
    assert bytes_of(screen) == before
    assert packed == ["gzip"]
    screen.evaluate(
        f"() => {{ const m = {MAP}; for (let k = 0; k < 4; k++) m.weigh(1e5, 2); m.has = null; m.refresh(); }}"
    )
    until(screen, "!m.link_is_slow && m.has && !m.busy")
    assert packed == ["gzip", ""]


def test_two_scores_are_a_plane_like_the_map(screen: Page, survey: Survey):
    screen.get_by_role("button", name="Scores", exact=True).click()
    until(screen, "m.told.query.x.startsWith('scores.')")
    rested(screen)
    explore = Explore(survey)
    axes = [told(screen, f"told.query.{axis}") for axis in "xy"]
    xy = np.column_stack([explore.values(axis, told(screen, "told.query.run")) for axis in axes])
    shown = told(screen, "view")
    assert shown[0] < xy[:, 0].min() < xy[:, 0].max() < shown[1]
    label = "title => Bokeh.documents[0].get_model_by_name('map').below[0].axis_label === title"
    screen.wait_for_function(label, arg=explore.axes(told(screen, "told.query.run"))[axes[0]])
    use(screen, "b", "box")
    region = draw(screen, [(0.02, 0.5), (0.5, 0.98)])
    selected = told(screen, "told.selected")
    assert selected == held_by(region, xy).sum()
    assert 0 < selected < N
    screen.get_by_role("button", name="Map", exact=True).click()
    until(screen, "m.told.query.x === 'maps.umap_1'")
    rested(screen)
    assert told(screen, "told.selected") == selected  # it survives the change of axes


@pytest.fixture
def own(finished_survey: Path, tmp_path: Path) -> Iterator[str]:
    """A survey whose ledger may be written."""
    copy = shutil.copytree(finished_survey, tmp_path / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with serve(copy, tmp_path / "log") as url:
        yield url


def test_a_place_is_named_seen_at_every_zoom_renamed_and_removed(open_survey: Callable[[str], Page], own: str):
    page = open_survey(own)
    wait_for_frame(page)
    rested(page)
    use(page, "b", "box")
    draw(page, [(0.3, 0.3), (0.7, 0.8)])
    page.keyboard.press("y")
    page.get_by_label("Name of this place").fill("Blue <i>hill</i>")
    page.keyboard.press("Enter")
    name = page.locator(".names button")
    expect(name).to_have_text("Blue <i>hill</i>")  # as text
    use(page, "p", "pan")
    for at in ((0.35, 0.35), (0.5, 0.5)):  # its middle is out of view, its corner is in
        page.mouse.move(*spot(page, at))
        for _ in range(4):
            page.mouse.wheel(0, -240)
        rested(page)
        expect(name).to_be_visible()
        box = name.bounding_box()
        left, top = spot(page, (0, 0))
        right, bottom = spot(page, (1, 1))
        assert left <= box["x"] and box["x"] + box["width"] <= right
        assert top <= box["y"] and box["y"] + box["height"] <= bottom
    page.keyboard.press("f")
    rested(page)
    name.click()
    page.get_by_label("Name of this place").fill("Green hill")
    page.keyboard.press("Enter")
    expect(name).to_have_text("Green hill")
    page.reload()
    wait_until_idle(page)
    wait_for_frame(page)
    expect(name).to_have_text("Green hill")
    page.get_by_role("button", name="Places").first.click()
    expect(name).to_have_count(0)
    page.get_by_role("button", name="Places").first.click()
    name.click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(name).to_have_count(0)
    hint = page.locator(".layer .hint")
    expect(hint).to_contain_text("“Green hill” removed")
    hint.get_by_role("button", name="Undo").click()
    expect(name).to_have_text("Green hill")
    expect(hint).to_be_empty()
    page.goto("about:blank")


def test_the_last_click_or_enter_says_how_a_polygon_meets_the_selection(screen: Page, xyz: np.ndarray):
    use(screen, "g", "polygon")
    selected = np.zeros(N, bool)

    def drawn(corners: list[tuple[float, float]], close: Callable[[], None]) -> np.ndarray:
        for at in corners:
            screen.mouse.click(*spot(screen, at))
        screen.evaluate(f"{MAP}.last = null")
        close()
        until(screen, "!m.gesture && m.last")
        return held_by(told(screen, "last"), xyz[:, :2])

    def click_first(corners: list[tuple[float, float]], *keys: str) -> Callable[[], None]:
        def close() -> None:
            for key in keys:
                screen.keyboard.down(key)
            screen.mouse.click(*spot(screen, corners[0]))
            for key in keys:
                screen.keyboard.up(key)

        return close

    wide, narrow = CORNERS, [(x * 0.5 + 0.2, y * 0.5 + 0.2) for x, y in CORNERS]
    for corners, close, meet in (
        (wide, click_first(wide), lambda a, b: b),
        (narrow, lambda: screen.keyboard.press("Alt+Enter"), lambda a, b: a & ~b),
        (narrow, lambda: screen.keyboard.press("Shift+Enter"), lambda a, b: a | b),
        (narrow, click_first(narrow, "Alt", "Shift"), lambda a, b: a & b),
    ):
        selected = meet(selected, drawn(corners, close))
        screen.wait_for_function(f"k => {MAP}.told.selected === k", arg=int(selected.sum()))
        screen.wait_for_timeout(450)  # a click so soon after one that closed belongs to it


def test_contours_and_markers_lie_over_the_map(screen: Page, survey: Survey):
    screen.keyboard.press("d")
    until(screen, "m.lines?.lines.length === 3")
    assert told(screen, "lines.lines.map(c => c.share)") == [0.5, 0.8, 0.95]
    screen.keyboard.press("d")
    until(screen, "!m.lines")
    screen.get_by_label("Overlay", exact=True).select_option(label="shape")
    codes, labels = survey.category("shape")
    counts = {label: int((codes == code).sum()) for code, label in enumerate(labels)}
    until(screen, "m.points.length > 0")
    found = told(screen, "points.map(p => [p.label, p.count, p.points.length])")
    assert {label: count for label, count, _ in found} == {k: v for k, v in counts.items() if v}
    assert [count for _, count, _ in found] == sorted(count for _, count, _ in found)
    assert all(count == drawn for _, count, drawn in found)
    expect(screen.locator(".layer .key")).to_contain_text(found[0][0])
    assert len(set(told(screen, "points.map(p => p.color)"))) == len(found)
    line = screen.locator(".layer .key button").last
    expect(line).to_have_attribute("aria-pressed", "true")
    line.click()
    expect(line).to_have_attribute("aria-pressed", "false")


def test_the_map_can_be_moved_by_keys_and_says_what_it_shows(screen: Page):
    surface = screen.get_by_role("application")
    expect(surface).to_have_attribute(
        "aria-label", f"Map of {N} subjects, UMAP 2 against UMAP 1, colored by Anomaly score; 0 selected"
    )
    screen.keyboard.press("Tab")
    surface.focus()
    before = told(screen, "view")
    screen.keyboard.press("ArrowRight")
    after = told(screen, "view")
    assert after[0] > before[0]
    assert after[2:] == before[2:]
    for button in screen.locator(".layer .bar button").all():
        assert button.get_attribute("aria-label")


def score_axis(page: Page) -> None:
    """Let the mixed score be the horizontal axis."""
    page.get_by_label("Horizontal axis", exact=True).first.select_option("scores.anomaly_score")
    until(page, "m.told.query.x === 'scores.anomaly_score'")
    rested(page)


def lambda_up(page: Page) -> None:
    before = told(page, "told.query.lambda")
    page.get_by_label("λ, weight of feature score").press("ArrowRight")
    page.wait_for_function(f"before => {MAP}.told.query.lambda > before", arg=before)


def test_contours_follow_lambda_where_a_score_is_an_axis(screen: Page):
    score_axis(screen)
    screen.keyboard.press("d")
    until(screen, "m.lines?.lines.length === 3")
    before = told(screen, "lines.lines[2].lines")
    lambda_up(screen)
    until(screen, "m.asked_lines?.includes(`lambda=${m.told.query.lambda}`) && m.lines")
    other = f"before => {MAP}.lines && JSON.stringify({MAP}.lines.lines[2].lines) !== JSON.stringify(before)"
    screen.wait_for_function(other, arg=before)
    screen.keyboard.press("d")


def test_the_card_under_the_mouse_has_the_scores_of_the_new_lambda(screen: Page, xyz: np.ndarray):
    x, y = (float(v) for v in xyz[0, :2])
    at = screen.evaluate(f"p => {MAP}.px(...p)", [x, y])
    screen.mouse.move(*spot(screen, (0.5, 0.02)))
    screen.mouse.move(*spot(screen, (at[0] / told(screen, "w"), at[1] / told(screen, "h"))))
    card = screen.locator(".voorwerp-card")
    expect(card).to_contain_text(str(FIRST_ID))
    before = card.inner_text()
    screen.get_by_label("λ, weight of feature score").press("End")
    until(screen, "m.told.query.lambda === 1")
    expect(card).not_to_have_text(before, use_inner_text=True)  # the mouse rests
    expect(card).to_be_visible()
    expect(card).to_contain_text(str(FIRST_ID))


def test_what_was_half_drawn_as_the_window_lost_the_mouse_is_dropped(screen: Page):
    use(screen, "l", "lasso")
    screen.mouse.move(*spot(screen, OVAL[0]))
    screen.mouse.down()
    for at in OVAL[1:6]:
        screen.mouse.move(*spot(screen, at))
    assert told(screen, "gesture.shape") == "lasso"
    screen.evaluate("() => window.dispatchEvent(new Event('blur'))")
    assert told(screen, "gesture") is None
    screen.mouse.up()
    use(screen, "p", "pan")


def test_a_wide_brush_has_few_corners_and_the_cloud_fills_the_frame(screen: Page, xyz: np.ndarray):
    use(screen, "w", "brush")
    for _ in range(8):
        screen.keyboard.press("+")
    region = draw(screen, STROKE)
    corners = np.array(
        [screen.evaluate(f"p => {MAP}.px(...p)", list(p)) for p in zip(region["x"], region["y"], strict=True)]
    )
    assert np.hypot(*np.diff(corners, axis=0).T).min() >= told(screen, "brush") / 4 - 0.01
    assert told(screen, "told.selected") == held_by(region, xyz[:, :2]).sum()
    use(screen, "p", "pan")
    screen.keyboard.press("3")
    until(screen, "m.told.solid")
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    far = np.linalg.norm((xyz - (low + high) / 2) / ((high - low) / 2), axis=1)
    assert told(screen, "told.home")[1] == pytest.approx(1.08 * np.quantile(far, 0.9), rel=1e-4)
    screen.keyboard.press("3")
    until(screen, "!m.told.solid")


@pytest.fixture
def alone(finished_survey: Path, tmp_path: Path) -> Iterator[tuple[Desk, MapView]]:
    """The map of one session, without a browser."""
    copy = shutil.copytree(finished_survey, tmp_path / "survey", ignore=shutil.ignore_patterns("server.lock"))
    setup()
    with Desk.open(copy) as desk:
        state = ExplorerState(N, map_id=next(iter(desk.explore.maps())))
        yield desk, MapView(state, desk.explore, desk.notes)


def test_regions_are_found_on_threads_and_met_in_the_order_they_were_drawn(alone, monkeypatch: pytest.MonkeyPatch):
    _, view = alone
    x0, x1, y0, y1 = view._home()
    middle, threads, find = (x0 + x1) / 2, [], MapView._region

    def slow(self, message, plane):
        threads.append(threading.current_thread())
        time.sleep(message["wait"])
        return find(self, message, plane)

    monkeypatch.setattr(MapView, "_region", slow)

    async def draw() -> None:
        every = {"kind": "region", "shape": "box", "x": [x0, x1, x1, x0], "y": [y0, y0, y1, y1], "mode": "replace"}
        view._hear(every | {"wait": 0.2})
        view._hear(every | {"wait": 0, "x": [x0, middle, middle, x0], "mode": "subtract"})
        while view.state.selection.count in (0, N):
            await asyncio.sleep(0.01)

    loop = threading.Thread(target=lambda: asyncio.run(asyncio.wait_for(draw(), 20)))  # this one's runs the browser
    loop.start()
    loop.join()
    index = view.explore.index(view.plane)
    assert view.state.selection.count == (index.x > middle).sum()
    assert len(threads) == 2
    assert loop not in threads


def test_places_of_another_tab_are_drawn_and_only_what_was_removed_here_comes_back(alone):
    desk, view = alone
    x0, x1, y0, y1 = view._home()
    entry = desk.notes.add_place("far", view.plane, [[x0, y0], [x1, y0], [x1, y1]], [x1, y0], who="another")

    def named() -> list[str]:
        return [place["name"] for place in json.loads(view._marks.tags[0])["places"]]

    assert named() == []
    view.refresh_places()
    assert named() == ["far"]
    view._hear({"kind": "undo", "id": entry.id})
    assert [p.name for p in desk.notes.places(view.plane)] == ["far"]
    view._hear({"kind": "remove", "id": entry.id})
    assert named() == []
    view._hear({"kind": "undo"})
    assert named() == ["far"]
