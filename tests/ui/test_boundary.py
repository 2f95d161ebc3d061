"""The panel of a boundary in a real Chromium: truth, terms, numbers, names, hours, what is thrown away."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.browser import eventually, query
from tests.ui.serving import serve

KEPT = re.compile(r"^([\d,]+) of 200 kept$")


@pytest.fixture(scope="module")
def copy(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `finished_survey`: boundaries are saved in it."""
    survey = tmp_path_factory.mktemp("boundary") / "survey"
    return Path(shutil.copytree(finished_survey, survey, ignore=shutil.ignore_patterns("server.lock")))


@pytest.fixture(scope="module")
def served(copy: Path) -> Iterator[str]:
    """Its URL."""
    with serve(copy, copy.parent / "log") as url:
        yield url


@pytest.fixture
def panel(open_survey: Callable[[str], Page], served: str) -> Page:
    """The page with the boundary shown."""
    page = open_survey(served)
    page.keyboard.press("Escape")  # the tour
    page.keyboard.press("Shift+B")
    expect(page.get_by_role("tab", name="Boundary")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("region", name="Boundary")).to_be_visible()
    expect(truths(page).locator("option")).not_to_have_count(1)
    says(page, 200)
    return page


def truths(page: Page) -> Locator:
    """What may count as right."""
    return page.get_by_label("What counts as right")


def kept(page: Page) -> int:
    """How many are kept, as the panel says."""
    found = KEPT.match(page.locator(".figures .total").inner_text())
    return int(found[1].replace(",", "")) if found else -1


def says(page: Page, k: int) -> None:
    """The panel counts k kept, sooner or later."""
    expect(page.locator(".figures .total")).to_have_text(f"{k} of 200 kept")


def gate(page: Page, title: str, percentile: float | None = None) -> Locator:
    """A gate on a column, from a percentile on: its lower handle."""
    page.get_by_label("Add a gate on a column").select_option(label=title)
    handle = page.get_by_role("slider", name=f"{title}, at least")
    expect(handle).to_be_focused()  # what was added is at hand
    if percentile is not None:
        box = page.get_by_role("textbox", name=f"{title} from percentile")
        box.fill(str(percentile))
        box.press("Enter")
    return handle


def rate(page: Page, name: str) -> str:
    """A rate as it is read: value, interval, k of n."""
    return " ".join(page.locator(f".figures .rate.{name}").inner_text().split())


def test_truth_is_switched_and_sigma_moves_by_keys_and_by_mouse(panel: Page):
    expect(panel.locator(".figures .about")).to_contain_text("choose")
    truths(panel).select_option(label="magnitude (mag)") if "magnitude (mag)" in truths(panel).inner_text() else truths(
        panel
    ).select_option(label="magnitude")
    base = panel.locator(".figures .rate.base .kn")
    expect(base).to_contain_text(" of ")
    sigma = panel.get_by_role("slider", name="Σ, threshold of the truth")
    before, low = base.inner_text(), float(sigma.get_attribute("aria-valuenow") or 0)
    sigma.focus()
    for _ in range(3):
        panel.keyboard.press("PageDown")
    expect(base).not_to_have_text(before)
    assert float(sigma.get_attribute("aria-valuenow") or 0) < low
    exact = panel.get_by_label("Threshold of the truth", exact=True)
    assert float(exact.input_value()) == pytest.approx(float(sigma.get_attribute("aria-valuenow") or 0))

    before, box = base.inner_text(), panel.locator(".threshold .range").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] - 8
    panel.mouse.move(box["x"] + 0.5 * box["width"], y)
    panel.mouse.down()
    expect(base).not_to_have_text(before)  # the button is still down
    before = base.inner_text()
    panel.mouse.move(box["x"] + 0.2 * box["width"], y, steps=6)
    expect(base).not_to_have_text(before)
    panel.mouse.up()
    dragged = base.inner_text()
    undo = panel.get_by_role("button", name="Undo the last edit of the boundary")
    undo.click()  # the whole gesture is one step
    expect(base).not_to_have_text(dragged)
    exact.fill("20")
    exact.press("Enter")
    expect(sigma).to_have_attribute("aria-valuenow", "20")

    truths(panel).select_option(label="shape")
    expect(sigma).to_be_hidden()
    panel.get_by_role("checkbox", name="spiral").check()
    panel.get_by_role("checkbox", name="elliptical").uncheck()
    expect(panel.locator(".truth .about")).to_contain_text("spiral")


def test_a_gate_moves_the_numbers_and_not_and_any_and_undo_change_what_is_kept(panel: Page):
    truths(panel).select_option(label="shape")
    feature = gate(panel, "Feature score", 75)
    says(panel, 50)
    assert rate(panel, "kept").startswith("Kept")
    panel.get_by_role("slider", name="Feature score, at least").focus()
    panel.keyboard.press("Home")  # its own end is no limit
    says(panel, 200)
    expect(feature).to_have_attribute("aria-valuetext", "no limit")
    panel.keyboard.press("Control+z")
    says(panel, 50)
    gate(panel, "Image score", 90)
    eventually(lambda: kept(panel), lambda k: 0 <= k <= 20)
    both = kept(panel)
    panel.get_by_role("button", name="any of").click()
    says(panel, 70 - both)
    panel.get_by_role("button", name="Keep what is not: Feature score").click()
    says(panel, 150 + both)
    expect(panel.get_by_role("group", name="not Gate: Feature score")).to_be_visible()
    expect(panel.get_by_role("button", name="Keep what is not: Feature score")).to_be_focused()
    panel.get_by_role("button", name="Undo the last edit of the boundary").click()
    says(panel, 70 - both)
    panel.get_by_role("button", name="Remove Image score").click()
    says(panel, 50)
    name = panel.get_by_label("Name of the boundary")
    name.press_sequentially("x")
    name.press("Control+z")  # within a field what was typed there is undone
    expect(name).to_have_value("")
    says(panel, 50)


def linked(page: Page, survey: Path) -> dict:
    """The draft that the page's link names."""
    path = survey / "boundaries" / "recent" / query(page).get("boundary", "none")
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_saved_boundary_is_there_again_after_a_reload(panel: Page, copy: Path):
    gate(panel, "Feature score", 80)
    says(panel, 40)
    panel.keyboard.press("Shift+S")
    expect(panel.get_by_text("Give the boundary a name")).to_be_visible()
    panel.get_by_label("Name of the boundary").fill("bright ones")
    panel.keyboard.press("Enter")
    expect(panel.locator(".boundary .version")).to_have_text("v1")
    panel.locator(".boundary h3", has_text="Keeps").click()
    panel.get_by_role("textbox", name="Feature score from percentile").fill("90")
    panel.keyboard.press("Enter")
    expect(panel.locator(".boundary .version")).to_have_text("v1 · edited")
    panel.keyboard.press("Shift+S")
    expect(panel.locator(".boundary .version")).to_have_text("v2")
    eventually(lambda: linked(panel, copy), lambda draft: draft.get("version") == 2)  # the link follows once a second
    panel.reload()
    expect(panel.get_by_label("Name of the boundary")).to_have_value("bright ones")
    expect(panel.locator(".boundary .version")).to_have_text("v2")
    says(panel, 20)
    panel.get_by_role("button", name="Boundaries, versions, files").click()
    panel.get_by_role("menuitem", name="Open version 1 of bright ones").click()
    says(panel, 40)
    panel.get_by_role("button", name="Boundaries, versions, files").click()
    panel.get_by_role("menuitem", name="Delete").click()
    expect(panel.get_by_text("deleted; what it keeps is still here")).to_be_visible()
    panel.locator(".boundary .said").get_by_role("button", name="Undo").click()
    expect(panel.locator(".boundary .version")).to_have_text("v1")


def test_hours_move_a_cut_and_a_lost_class_becomes_the_selection(panel: Page):
    gate(panel, "Feature score", 50)
    says(panel, 100)
    hours = panel.get_by_label("Hours that experts have", exact=True).and_(panel.get_by_role("textbox"))
    hours.fill(str(40 * 5 / 3600))
    hours.press("Enter")
    says(panel, 40)
    slider = panel.get_by_role("slider", name="Hours that experts have")
    slider.focus()
    panel.keyboard.press("PageUp")
    eventually(lambda: kept(panel), lambda k: k > 40)
    panel.get_by_label("Graders for an image").fill("3")
    panel.keyboard.press("Enter")
    expect(panel.locator(".cost .last")).to_have_text("graders")

    lost = panel.get_by_role("list", name="Groups, worst first").get_by_role("button").first
    found = re.search(r"Select the (\d+) that are thrown away", lost.get_attribute("aria-label") or "")
    assert found is not None
    lost.click()
    expect(panel.get_by_text(f"{found[1]} of 200 selected").first).to_be_visible()
    expect(panel.get_by_role("tab", name="Gallery")).to_have_attribute("aria-selected", "true")
    panel.get_by_role("button", name="Let what is kept become the selection").click()
    expect(panel.get_by_text(f"{kept(panel)} of 200 selected").first).to_be_visible()


def test_a_classifier_is_fitted_and_what_it_is_worth_is_circular(panel: Page):
    truths(panel).select_option(label="shape")
    panel.get_by_role("button", name="Add a learned classifier").click()
    panel.get_by_label("Components of the PCA, or share of variance").fill("6")
    panel.get_by_role("button", name="Fit", exact=True).click()
    term = panel.get_by_role("group", name="Learned: Linear, 6 components")
    expect(term).to_be_visible()
    expect(term.get_by_role("img", name=re.compile("^Reliability"))).to_be_visible()
    expect(panel.get_by_role("button", name=re.compile("^Circular"))).to_be_visible()
    before = kept(panel)
    term.get_by_role("slider", name="Cut of the learned classifier").focus()
    panel.keyboard.press("End")
    eventually(lambda: kept(panel), lambda k: k < before)
    rates = term.locator("dl")
    expect(rates).to_contain_text(re.compile(r"Recall\s*[\d.]+ \[[\d.]+, [\d.]+\]\s*[\d,]+ of [\d,]+"))
    expect(rates).to_contain_text(re.compile(r"Kept\s*[\d.]+ %"))


def test_a_refused_number_gives_way_to_what_holds_and_its_sentence_goes(panel: Page):
    gate(panel, "Feature score", 50)
    said, box = panel.locator(".boundary .said"), panel.get_by_role("textbox", name="Feature score at least")
    expect(box).not_to_have_value("")  # the gate's own limit has arrived
    holds = box.input_value()
    box.fill("abc")
    box.press("Enter")
    expect(said).to_contain_text("“abc” is no number")
    expect(box).to_have_value(holds)
    rank = panel.get_by_role("textbox", name="Feature score from percentile")
    rank.fill("200")
    rank.press("Enter")
    expect(said).to_contain_text("a percentile is 0 to 100, not 200")
    expect(rank).to_have_value("50")
    rank.fill("75")
    rank.press("Enter")
    says(panel, 50)
    expect(said).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (1024, 768)])
def test_nothing_pinned_hides_terms_and_actions_where_it_is_low(panel: Page, width: int, height: int):
    panel.set_viewport_size({"width": width, "height": height})
    truths(panel).select_option(label="shape")
    gate(panel, "Feature score", 30)
    gate(panel, "Image score", 30)
    brief = panel.locator(".brief")
    expect(brief).to_contain_text(re.compile(r"P [≥ ]*[\d.]+ \d+ of \d+"))
    inner, outer = brief.bounding_box(), panel.locator(".boundary .body").bounding_box()
    added = panel.get_by_role("group", name="Gate: Image score").bounding_box()
    assert inner is not None and outer is not None and added is not None
    assert inner["height"] < 70
    assert outer["y"] - 1 <= added["y"] and added["y"] + added["height"] <= inner["y"] + 1  # what was added is in sight
    apply = panel.get_by_role("button", name="Let what is kept become the selection")
    apply.scroll_into_view_if_needed()
    apply.click()
    keys = panel.get_by_role("button", name="Light or dark").bounding_box()
    assert keys is not None and keys["x"] + keys["width"] <= width
    lost = panel.get_by_role("list", name="Groups, worst first").locator("button").last
    lost.scroll_into_view_if_needed()
    name, bar, kn, ci = (lost.locator(part).bounding_box() for part in (".name", ".bar", ".kn", ".ci"))
    assert name and bar and kn and ci
    assert bar["x"] + bar["width"] <= kn["x"] and kn["x"] + kn["width"] <= ci["x"]
    expect(panel.locator(".rows .aim")).to_have_count(1)


def test_edits_can_be_undone_after_a_save(panel: Page):
    gate(panel, "Feature score", 50)
    name = panel.get_by_label("Name of the boundary")
    name.fill("saved and undone")
    name.press("Enter")
    expect(panel.locator(".boundary .said")).to_contain_text("saved as")
    panel.get_by_role("button", name="Undo the last edit of the boundary").click()
    says(panel, 200)
    panel.get_by_role("button", name="Redo the edit that was undone").click()
    says(panel, 100)
