"""The boundary on the map, in a real Chromium: drawn, dragged, subtracted; lines of a learned score, and hatching."""

import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from explorer.services.boundaries import Context
from explorer.services.desk import Desk
from explorer.services.drafts import Drafts
from explorer.state import Draft
from explorer.survey import Survey
from models.boundary import And, Gate, Learned
from models.truth import Truth
from tests.explorer.test_raster import even_odd
from tests.ui.browser import eventually
from tests.ui.serving import serve
from tests.ui.test_journeys import wait_for_frame
from tests.ui.test_map import CORNERS, drag, rested, spot, told, until, use

N = 200
CIRCLE = [(0.5 + 0.12 * math.cos(k / 20 * math.pi), 0.5 + 0.14 * math.sin(k / 20 * math.pi)) for k in range(41)]


@pytest.fixture(scope="module")
def xy(finished_survey: Path) -> np.ndarray:
    """Float32 (N, 2): where every subject stands on the map."""
    survey = Survey.open(finished_survey)
    return survey.coordinates(survey.maps()[0].run_id)[:, :2]


@pytest.fixture
def screen(open_survey: Callable[[str], Page], served: str) -> Page:
    """The map with the boundary beside it, and what is drawn goes into that."""
    page = open_survey(f"{served}&side=boundary")
    wait_for_frame(page)
    rested(page)
    page.keyboard.press("j")
    until(page, "m.told.draws && m.outlines.told.on")
    return page


def regions(page: Page) -> list[dict[str, Any]]:
    return told(page, "outlines.told.regions")


def drawn(page: Page, n: int) -> list[dict[str, Any]]:
    """The regions, once there are so many and nothing is on the way."""
    until(page, f"m.outlines.told.regions.length === {n} && !m.outlines.flying && !m.outlines.held")
    return regions(page)


def polygon(page: Page, corners: list[tuple[float, float]]) -> None:
    use(page, "g", "polygon")
    for at in corners:
        page.mouse.click(*spot(page, at))
    page.keyboard.press("Enter")


def inside(region: dict[str, Any], xy: np.ndarray) -> int:
    return int(even_odd(xy[:, 0], xy[:, 1], np.array(region["vertices"])).sum())


def n_kept(page: Page, n: int) -> None:
    """Until the panel says so."""
    expect(page.get_by_text(f"{n} of {N} kept").first).to_be_visible()


def test_a_polygon_drawn_becomes_a_region_of_the_boundary_and_undo_takes_it_out(screen: Page, xy: np.ndarray):
    polygon(screen, CORNERS)
    (region,) = drawn(screen, 1)
    assert (region["path"], region["shape"], region["is_added"]) == ([0], "polygon", True)
    at = [screen.evaluate("v => voorwerp.on_screen().px(...v)", v) for v in region["vertices"]]
    w, h = told(screen, "w"), told(screen, "h")
    np.testing.assert_allclose(np.array(at) / [w, h], CORNERS, atol=0.01)
    expect(screen.get_by_role("button", name="Region 1: polygon of 4 corners")).to_be_visible()
    k = inside(region, xy)
    assert 0 < k < N
    expect(screen.get_by_text(f"{k} of {N} subjects inside")).to_be_visible()
    n_kept(screen, k)
    assert told(screen, "told.selected") == 0  # it is no selection
    expect(screen.get_by_role("button", name="Brush", exact=True)).to_have_attribute("title", re.compile("no region"))
    screen.keyboard.press("Control+z")
    drawn(screen, 0)
    n_kept(screen, N)


def test_a_dragged_corner_moves_alone_by_one_step_of_undo_and_keys_nudge_insert_and_delete(
    screen: Page, xy: np.ndarray
):
    polygon(screen, CORNERS)
    (before,) = drawn(screen, 1)
    use(screen, "p", "pan")
    drag(screen, [CORNERS[2], (0.7, 0.7), (0.6, 0.9)])  # the drawn one is chosen
    (after,) = drawn(screen, 1)
    assert after["vertices"][:2] + after["vertices"][3:] == before["vertices"][:2] + before["vertices"][3:]
    x, y = screen.evaluate("v => voorwerp.on_screen().px(...v)", after["vertices"][2])
    assert (x / told(screen, "w"), y / told(screen, "h")) == pytest.approx((0.6, 0.9), abs=0.01)
    n_kept(screen, inside(after, xy))
    screen.keyboard.press("Control+z")
    eventually(lambda: regions(screen), lambda found: found[0]["vertices"] == before["vertices"])
    screen.mouse.dblclick(*spot(screen, (0.475, 0.275)))
    until(screen, "m.outlines.told.regions[0].vertices.length === 5 && m.outlines.corner === 1")
    handle = screen.get_by_role("button", name="Corner 2 of 5")
    handle.focus()
    screen.keyboard.press("Tab")
    expect(screen.get_by_role("button", name="Corner 3 of 5")).to_be_focused()
    was = regions(screen)[0]["vertices"][2]
    for _ in range(3):
        screen.keyboard.press("Shift+ArrowLeft")
    pixels = "v => voorwerp.on_screen().px(...v)[0]"
    eventually(
        lambda: screen.evaluate(pixels, was) - screen.evaluate(pixels, regions(screen)[0]["vertices"][2]),
        lambda found: found == pytest.approx(30, abs=0.01),
    )
    screen.keyboard.press("Delete")
    until(screen, "m.outlines.told.regions[0].vertices.length === 4")
    screen.keyboard.press("Escape")  # back to the region itself
    expect(screen.get_by_role("button", name="Region 1: polygon of 4 corners")).to_be_focused()
    screen.keyboard.press("Delete")
    drawn(screen, 0)


def test_what_is_drawn_with_alt_is_left_out_and_a_hands_outline_is_simplified(screen: Page, xy: np.ndarray):
    polygon(screen, CORNERS)
    drawn(screen, 1)
    use(screen, "l", "lasso")
    drag(screen, CIRCLE, "Alt")
    added, taken = drawn(screen, 2)
    assert (taken["path"], taken["shape"], taken["is_added"]) == ([1, 0], "freehand", False)
    assert 8 <= len(taken["vertices"]) <= 60
    expect(screen.get_by_text("outline simplified from")).to_be_visible()
    held = [even_odd(xy[:, 0], xy[:, 1], np.array(region["vertices"])) for region in (added, taken)]
    n_kept(screen, int((held[0] & ~held[1]).sum()))
    use(screen, "p", "pan")
    tag = screen.get_by_role("button", name="Region 2: freehand").bounding_box()
    screen.mouse.move(tag["x"] + 10, tag["y"] + 10)
    screen.mouse.down()
    screen.mouse.move(tag["x"] + 60, tag["y"] + 10, steps=5)
    screen.mouse.up()
    _, moved = drawn(screen, 2)
    shift = np.subtract(moved["vertices"], taken["vertices"])
    x0, x1 = told(screen, "view")[:2]
    np.testing.assert_allclose(shift[:, 0], 50 * (x1 - x0) / told(screen, "w"), rtol=1e-6)
    np.testing.assert_allclose(shift[:, 1], 0, atol=1e-9)


def test_who_turns_to_drawing_has_a_tool_that_draws_and_is_told_how(screen: Page):
    hint = screen.locator(".layer .hint")
    until(screen, "m.told.tool === 'polygon'")
    expect(hint).to_have_text(
        "Click corners, double click closes: adds a region · Shift adds, Alt leaves out, both intersect"
    )
    screen.get_by_role("button", name="Subtract", exact=True).click()
    expect(hint).to_contain_text("closes: leaves it out")
    screen.keyboard.press("j")
    until(screen, "m.told.tool === 'pan' && !m.told.draws")
    expect(hint).to_have_text("")
    use(screen, "b", "box")
    screen.keyboard.press("j")
    until(screen, "m.told.draws && m.told.tool === 'box'")
    use(screen, "p", "pan")
    expect(hint).to_contain_text("Polygon (G)")


def test_drawing_replaces_nothing_and_what_is_said_of_a_region_goes_with_it(screen: Page, xy: np.ndarray):
    hint, boxes = screen.locator(".layer .hint"), [[(0.2, 0.3), (0.45, 0.7)], [(0.4, 0.5), (0.8, 0.9)]]
    use(screen, "b", "box")
    inside = np.zeros(N, bool)
    for n, path in enumerate(boxes):
        drag(screen, path)
        region = drawn(screen, n + 1)[-1]
        (x0, y0), (x1, y1) = np.sort(region["vertices"], axis=0)
        within = (x0 <= xy[:, 0]) & (xy[:, 0] <= x1) & (y0 <= xy[:, 1]) & (xy[:, 1] <= y1)
        inside |= within
        expect(hint).to_contain_text(f"{within.sum()} of {N} subjects inside")
        n_kept(screen, int(inside.sum()))
    screen.keyboard.press("Control+z")
    drawn(screen, 1)
    expect(hint).to_contain_text("Drag a box: adds a region")


def test_a_press_near_a_corner_takes_it_though_its_region_is_not_chosen_and_its_number_stands_out_of_reach(
    screen: Page,
):
    use(screen, "b", "box")
    for n, path in enumerate([[(0.2, 0.35), (0.45, 0.7)], [(0.55, 0.35), (0.8, 0.7)]]):
        drag(screen, path)
        drawn(screen, n + 1)
    use(screen, "p", "pan")
    first, second = regions(screen)
    layer = screen.locator(".layer").bounding_box()
    for i, region in enumerate((first, second)):
        number = screen.get_by_role("button", name=f"Region {i + 1}: box").bounding_box()
        corners = [screen.evaluate("v => voorwerp.on_screen().px(...v)", v) for v in region["vertices"]]
        assert number["y"] + number["height"] + 10 < layer["y"] + min(y for _, y in corners)
    x, y = spot(screen, (0.2, 0.35))
    screen.mouse.move(x + 1, y - 6)
    screen.mouse.down()
    screen.mouse.move(x - 30, y + 20, steps=5)
    screen.mouse.up()
    moved, other = drawn(screen, 2)
    assert other == second
    assert (moved["vertices"] == first["vertices"]) is False
    shared = [k for k in range(2) if moved["vertices"][k] == pytest.approx(first["vertices"][k], abs=1e-9)]
    assert shared == [1]  # the opposite corner stays
    # a number above a corner of another region gives way to it
    number = screen.get_by_role("button", name="Region 2: box").bounding_box()
    at = number["x"] + number["width"] / 2, number["y"] + number["height"] / 2
    screen.evaluate(
        "([x, y]) => { const m = voorwerp.on_screen(), r = m.surface.getBoundingClientRect(), o = m.outlines;"
        " o.choose('0,0'); o.reshape([m.data(x - r.x, y - r.y), o.here.vertices[1]], true); }",
        at,
    )
    placed = drawn(screen, 2)
    screen.mouse.move(*at)
    screen.mouse.down()
    screen.mouse.move(at[0] - 40, at[1] + 10, steps=5)
    screen.mouse.up()
    eventually(lambda: regions(screen)[0]["vertices"], lambda found: found[0] != placed[0]["vertices"][0])
    after = drawn(screen, 2)
    assert after[1] == second
    assert after[0]["vertices"][1] == placed[0]["vertices"][1]


@pytest.fixture(scope="module")
def learned(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a boundary at work: a learned classifier, and a gate that leaves the lower half of the map empty."""
    folder = tmp_path_factory.mktemp("learned")
    path = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with Desk.open(path) as desk:
        context = Context(next(iter(desk.explore.runs())), next(iter(desk.explore.maps())))
        truth = Truth("column", column="subjects.magnitude", at_least=19)
        sha = desk.learning.fit(context.run_id, truth, context)
        middle = float(np.nanmedian(desk.explore.values("maps.umap_2", map_id=context.map_id)))
        keep = And((Learned(sha, 0.01), Gate("maps.umap_2", low=middle)))
        draft = Drafts(path).put(Draft(keep, truth, follows=False))
    with serve(path, folder / "log") as url:
        yield f"{url}&boundary={draft}&side=boundary"


def test_a_learned_score_is_a_coloring_and_has_lines_and_where_nothing_is_kept_is_hatched(
    open_survey: Callable[[str], Page], learned: str
):
    page = open_survey(learned)
    wait_for_frame(page)
    until(page, "m.outlines.lines && m.outlines.hatched")
    expect(page.get_by_role("button", name="Learned score of this boundary: mean of the cell")).to_be_visible()
    assert [line["level"] for line in told(page, "outlines.lines[0]")] == [0.25, 0.5, 0.75]
    hatched = told(page, "outlines.hatched[0]")
    view = told(page, "view")
    middle = (view[2] + view[3]) / 2
    assert hatched["cells"]
    assert all((y0 + y1) / 2 < middle for _, _, y0, y1, _ in hatched["cells"])
    painted = (
        "() => { const c = voorwerp.on_screen().outlines.canvas;"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v); }"
    )
    eventually(lambda: page.evaluate(painted), bool)
    for name in ("Nothing is kept of", "Learned score of this boundary"):
        page.get_by_role("button", name=name).click()
    until(page, "m.outlines.lines === null && m.outlines.hatched === null")
    eventually(lambda: page.evaluate(painted), lambda some: not some)
    page.get_by_label("Color by", exact=True).first.select_option(label="Learned score of the boundary at work")
    until(page, "m.told.paint.color.startsWith('learned.')")
    page.wait_for_function("() => voorwerp.legend.settings.color.startsWith('learned.') && !voorwerp.trouble")
