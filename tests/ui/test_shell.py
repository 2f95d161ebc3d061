"""The shell in a real Chromium: by keys, for a screen reader, on small screens, and when the server is gone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browser import eventually, painted, query, wait_until_idle
from tests.ui.conftest import PATIENCE
from tests.ui.serving import free_port, serve
from tests.ui.test_journeys import wait_for_frame

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
#: By its key: the name of a pane, and something of what it shows.
PANES = {
    "5": ("Gallery", ".gallery .tile:not(.waiting)"),
    "6": ("Histograms", ".histograms canvas[aria-label*='have a value']"),
    "7": ("Table", ".table .line[data-row]"),
    "8": ("Sets apart", ".apart li.row"),
    "9": ("Curves", ".curves .empty"),
}


def findings(page: Page) -> list[str]:
    """What axe-core calls serious or critical, a line each."""
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']} ({v['impact']}): {json.dumps(node['target'])} {node['html'][:160]} {node['failureSummary'][:200]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def nothing_serious(page: Page) -> None:
    """The page has no serious finding, as soon as its colors have come to rest."""
    painted(page)
    eventually(lambda: findings(page), lambda found: not found)


@pytest.fixture
def survey_page(open_survey: Callable[[str], Page], served: str) -> Page:
    page = open_survey(served)
    wait_for_frame(page)
    return page


# ------------------------------------------------------------------------------------------------ for everyone
def in_both_themes(page: Page) -> None:
    """Nothing serious in dark, and nothing in light; dark again after."""
    for theme in ("light", "dark"):
        page.evaluate("() => voorwerp.shell.turn()")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        nothing_serious(page)


def test_the_page_with_a_subject_has_no_serious_finding(survey_page: Page):
    survey_page.locator(".gallery .tile").first.click()
    expect(survey_page.locator(".subject h2")).to_be_visible()
    expect(survey_page.locator(".neighbours .tile")).to_have_count(12)
    in_both_themes(survey_page)


def test_every_pane_has_no_serious_finding(survey_page: Page):
    for key, (name, part) in PANES.items():
        survey_page.keyboard.press(key)
        expect(survey_page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
        expect(survey_page.locator(part).first).to_be_visible()
        nothing_serious(survey_page)


def test_the_boundary_has_no_serious_finding(survey_page: Page):
    survey_page.keyboard.press("Shift+B")
    panel = survey_page.get_by_role("region", name="Boundary")
    expect(panel.get_by_role("status").filter(has_text="kept")).to_be_visible()
    in_both_themes(survey_page)
    survey_page.get_by_label("Add a gate on a column").select_option(label="Feature score")
    expect(survey_page.get_by_role("slider", name="Feature score, at least")).to_be_visible()
    survey_page.get_by_role("button", name="Boundaries, versions, files").click()
    expect(survey_page.get_by_role("menuitem", name="New, empty")).to_be_visible()
    in_both_themes(survey_page)


def test_the_dialogs_have_no_serious_finding(survey_page: Page):
    for key, name in (("Control+k", "Commands"), ("?", "Keys"), ("r", "Runs and training")):
        survey_page.keyboard.press(key)
        expect(survey_page.locator("dialog[open]")).to_have_attribute("aria-label", name)
        in_both_themes(survey_page)
        survey_page.keyboard.press("Escape")
        expect(survey_page.locator("dialog[open]")).to_have_count(0)


def test_the_first_tab_stop_leads_past_the_panels_to_the_map(survey_page: Page):
    survey_page.keyboard.press("Tab")
    skip = survey_page.get_by_role("link", name="Skip to the map")
    expect(skip).to_be_focused()
    skip.press("Enter")
    survey_page.wait_for_function(
        """() => { let e = document.activeElement; while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
          return e !== document.body && !e.matches(".skip"); }"""
    )


# ---------------------------------------------------------------------------------------- commands and the keys
def test_the_palette_finds_a_coloring_by_a_few_letters_and_takes_it(survey_page: Page):
    survey_page.keyboard.press("Control+k")
    field = survey_page.get_by_role("combobox", name="Find a command")
    expect(field).to_be_focused()
    field.press_sequentially("colmag")
    expect(survey_page.get_by_role("option").first).to_contain_text("Color by: magnitude")
    field.press("Enter")
    expect(survey_page.locator("dialog.palette")).to_be_hidden()
    expect(survey_page.get_by_label("Color by", exact=True)).to_have_value("subjects.magnitude")
    survey_page.keyboard.press("Control+k")
    field.press_sequentially("qqqq")
    expect(survey_page.get_by_text("Nothing is called so.")).to_be_visible()
    survey_page.keyboard.press("Escape")
    expect(survey_page.locator("dialog.palette")).to_be_hidden()


def test_the_palette_offers_overlays_and_groups_and_no_scattered_letters_beside_words(survey_page: Page):
    survey_page.keyboard.press("Control+k")
    survey_page.get_by_role("combobox", name="Find a command").press_sequentially("shape")
    titles = survey_page.locator(".palette li .title").all_inner_texts()
    assert {"Color by: shape", "Overlay: shape", "Group by: shape"} <= set(titles)
    assert all("shape" in title for title in titles)


def test_the_palette_walks_by_arrow_keys_and_opens_a_kept_pane(survey_page: Page):
    survey_page.keyboard.press("Control+k")
    field = survey_page.get_by_role("combobox", name="Find a command")
    options = survey_page.locator(".palette").get_by_role("option")
    expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    field.press("ArrowDown")
    field.press("ArrowDown")
    expect(options.nth(2)).to_have_attribute("aria-selected", "true")
    expect(field).to_have_attribute("aria-activedescendant", "voorwerp-command-2")
    field.fill("show table")
    field.press("Enter")
    expect(survey_page.get_by_role("tab", name="Table")).to_have_attribute("aria-selected", "true")


def test_the_sheet_lists_every_key_that_there_is(survey_page: Page):
    survey_page.keyboard.press("?")
    sheet = survey_page.locator("dialog.sheet")
    expect(sheet).to_be_visible()
    commands = survey_page.evaluate("() => voorwerp.commands.all().filter(c => c.key && c.title).map(c => c.title)")
    assert len(commands) > 20
    shown = sheet.locator("dd").all_inner_texts()
    assert set(commands) <= set(shown)
    survey_page.keyboard.press("?")
    expect(sheet).to_be_hidden()


def test_no_key_is_a_command_while_a_person_types_or_a_dialog_is_open(survey_page: Page):
    box = survey_page.get_by_label("Find an id, a coordinate or a list of ids")
    survey_page.keyboard.press("/")
    expect(box).to_be_focused()
    box.press_sequentially("vhs?568")
    expect(box).to_have_value("vhs?568")
    box.press("Escape")
    expect(survey_page.get_by_text("Nothing selected")).to_be_visible()
    expect(survey_page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(survey_page.locator("dialog[open]")).to_have_count(0)
    survey_page.keyboard.press("?")
    for key in "vhs6":
        survey_page.keyboard.press(key)
    expect(survey_page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(survey_page.get_by_role("tab", name="Gallery")).to_have_attribute("aria-selected", "true")
    expect(survey_page.get_by_text("Nothing selected")).to_be_visible()


def test_the_tour_is_shown_once_to_a_person_and_again_when_asked(browser: Browser, served: str, troubles: list[str]):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    context.add_init_script("Object.defineProperty(navigator, 'webdriver', {get: () => false})")
    page = context.new_page()
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(served)
    wait_until_idle(page)
    tour = page.locator("dialog.tour")
    expect(tour).to_be_visible()
    cards = page.locator(".tour .callout")
    expect(cards).to_have_count(6)
    boxes = [card.bounding_box() for card in cards.all()]
    for k, a in enumerate(boxes):
        assert a["x"] >= 0
        assert a["x"] + a["width"] <= 1440
        assert a["y"] >= 0
        assert a["y"] + a["height"] <= 900
        left = page.locator(".steering").bounding_box()
        assert a["x"] >= left["x"] + left["width"]  # nor the controls that it names
        for b in boxes[:k]:  # no callout hides another
            apart = a["x"] >= b["x"] + b["width"] or b["x"] >= a["x"] + a["width"]
            assert apart or a["y"] >= b["y"] + b["height"] or b["y"] >= a["y"] + a["height"]
    page.keyboard.press("Escape")
    expect(tour).to_be_hidden()
    page.reload()
    wait_until_idle(page)
    page.wait_for_timeout(2000)
    expect(tour).to_be_hidden()
    page.keyboard.press("Control+k")
    page.keyboard.type("tour")
    page.keyboard.press("Enter")
    expect(tour).to_be_visible()
    page.get_by_role("button", name="Begin").click()
    expect(tour).to_be_hidden()
    context.close()
    assert not troubles


# ------------------------------------------------------------------------------------------- light, small, alone
def test_light_is_remembered_and_the_map_follows(survey_page: Page):
    survey_page.get_by_role("button", name="Light or dark").click()
    expect(survey_page.locator("html")).to_have_attribute("data-theme", "light")
    expect(survey_page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    survey_page.reload()
    wait_until_idle(survey_page)
    expect(survey_page.locator("html")).to_have_attribute("data-theme", "light")
    assert "theme" not in query(survey_page)
    wait_for_frame(survey_page)
    ends = """() => { const c = voorwerp.shell.deep(".ramp");
      const d = c.getContext("2d").getImageData(0, 0, c.width, 1).data;
      return [d.slice(0, 3), d.slice(-4, -1)].map(p => p.reduce((a, b) => a + b)); }"""
    survey_page.wait_for_function(f"() => {{ const [low, high] = ({ends})(); return low > high; }}")  # dark is high


def test_no_control_is_cut_off_and_the_panels_can_go(survey_page: Page):
    beyond = """(parts, root) => parts.filter(part => {
      const box = part.closest(root).getBoundingClientRect(), inside = part.getBoundingClientRect();
      return inside.left < box.left - 0.5 || inside.right > box.right + 0.5;
    }).map(part => part.getAttribute("aria-label") || part.innerText)"""
    size = "() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    for width, height in ((1440, 900), (1280, 720), (1024, 768)):
        survey_page.set_viewport_size({"width": width, "height": height})
        eventually(lambda: survey_page.evaluate(size), [width, height].__eq__)
        for root in (".steering", ".topbar"):
            parts = survey_page.locator(f"{root} :is(select, button, input):visible")
            assert parts.count() > 3
            eventually(lambda parts=parts, root=root: parts.evaluate_all(beyond, root), lambda found: not found, 10)
        survey_page.keyboard.press("s")
        expect(survey_page.locator(".steering")).to_be_hidden()
        expect(survey_page.locator(".subject")).to_be_hidden()
        eventually(lambda: survey_page.evaluate(size), [width, height].__eq__)
        survey_page.keyboard.press("s")
        expect(survey_page.locator(".steering")).to_be_visible()


def test_a_server_that_is_gone_is_said_and_the_page_returns_with_it(
    finished_survey: Path, tmp_path: Path, page: Page, troubles: list[str], monkeypatch: pytest.MonkeyPatch
):
    survey, port = tmp_path / "survey", free_port()
    shutil.copytree(finished_survey, survey, ignore=shutil.ignore_patterns("server.lock"))
    banner = page.locator(".away")
    with serve(survey, tmp_path / "log", port=port) as url:
        page.goto(url)
        wait_until_idle(page)
        page.evaluate("() => { window.marked = true; voorwerp.shell.lost(); }")  # the line was cut, the server is there
        page.wait_for_function("() => !window.marked && document.documentElement.dataset.ready")
        expect(banner).to_have_count(0)
    expect(banner).to_contain_text("The connection to the server is lost. Your decisions are kept in the survey.")
    with serve(survey, tmp_path / "log", port=port):  # whoever was let in is known again
        expect(banner).to_have_count(0)
        wait_until_idle(page)
    monkeypatch.setenv("VOORWERP_CONFIG", str(tmp_path / "config"))  # as on another machine
    with serve(survey, tmp_path / "log", port=port) as url:
        expect(banner).to_contain_text("has a new address")
        page.goto(url)
        wait_until_idle(page)
        expect(banner).to_have_count(0)
        page.goto("about:blank")
    troubles.clear()  # that nobody answered is what this test is about
