"""Campaigns of experts in the explorer, in a real Chromium: made, checked, adjudicated, followed up."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.services.campaigns import Plan
from explorer.services.desk import Desk
from models.grades import SCHEMES
from tests.ui.serving import serve
from tests.ui.test_map import drag, until, use
from tests.ui.test_volunteers import UNNAMED

#: Graded by two: the first ten are found by both, the next six are disputed, the others are nothing.
ROWS = np.arange(20, 60)
GRADES = {"grader-1": "A" * 10 + "A" * 6 + "X" * 24, "grader-2": "B" * 10 + "X" * 6 + "X" * 24}
READY = "() => window.voorwerp?.commands?.list().some(c => c.id === 'vetting')"


@pytest.fixture(scope="module")
def graded(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """200 galaxies with a map, and a campaign that two have gone through: what is decided of it is taken back."""
    folder = tmp_path_factory.mktemp("vetting")
    path = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with Desk.open(path) as desk:
        desk.ledger.save_selection("odd", ROWS, desk.explore.survey.subject_ids, who="local")
        one = desk.campaigns.of_selection(Plan("Rings", SCHEMES["abcx"], 2, repeats=0.0), "odd", "local")
        for who, given in GRADES.items():
            grades = {item.key: given[item.row - ROWS[0]] for item in desk.vetting.queue(one.id, who)}
            desk.vetting.bulk(one.id, who, grades, seconds=160.0)
        note_on = int(desk.explore.survey.subject_ids[ROWS[10]])
        desk.notes.add_note(note_on, "A faint arc.", who="grader-1")
    with serve(path, folder / "log") as url:
        yield url


@pytest.fixture
def page_of(open_survey: Callable[[str], Page], graded: str) -> Page:
    page = open_survey(graded)
    page.wait_for_function(READY)
    return page


@pytest.fixture
def sheet(page_of: Page) -> Locator:
    """The sheet, with the campaign in it."""
    page_of.keyboard.press("Shift+V")
    sheet = page_of.locator("dialog.campaigns")
    choose(sheet, "Rings")
    expect(sheet.locator(".headline .go")).to_contain_text("10 of 40")
    return sheet


def choose(sheet: Locator, name: str) -> None:
    sheet.locator(".campaign", has=sheet.page.get_by_text(name, exact=True)).click()
    expect(sheet.locator(".one > header h2")).to_have_text(name)


def turn(sheet: Locator, name: str) -> None:
    sheet.get_by_role("tab", name=re.compile(f"^{name}")).click()
    expect(sheet.get_by_role("tab", name=re.compile(f"^{name}"))).to_have_attribute("aria-selected", "true")


def selected(page: Page, k: int) -> None:
    """Until so many are selected, and the gallery shows them."""
    expect(page.locator("dialog.campaigns")).to_be_hidden()
    expect(page.locator(".steering .total")).to_contain_text(f"{k} of 200 selected")
    expect(page.get_by_role("tab", name="Gallery")).to_have_attribute("aria-selected", "true")


def select_all(page: Page) -> None:
    """Nothing is selected, so the others are all."""
    page.keyboard.press("v")
    expect(page.locator(".steering .total")).to_contain_text("200 of 200 selected")


def test_a_cell_of_the_matrix_opens_what_two_disagree_on(sheet: Locator, page: Page) -> None:
    turn(sheet, "Agreement")
    expect(sheet.locator(".figures .value b")).to_have_count(2)
    cell = sheet.locator(".matrix button.cell").first
    cell.hover()
    card = sheet.locator(".pairs .beside")
    expect(card).to_contain_text("grader-1 and grader-2")
    expect(card).to_contain_text("prevalence")
    expect(card).to_contain_text("positive agreement")
    expect(card).to_contain_text("16 subjects")
    expect(sheet.locator(".graders .row")).to_have_count(3)
    cell.click()
    selected(page, 16)


def test_a_later_outcome_is_kept_recounted_and_taken_back(sheet: Locator, page: Page) -> None:
    turn(sheet, "Outcomes")
    expect(sheet.locator(".outcomes > .note")).to_contain_text("Adjudication: all whose grades differ")
    sheet.locator(".chip", has_text="Found").click()
    rows = sheet.locator(".outcomes .table .row")
    expect(rows).to_have_count(10)
    rows.nth(0).click()
    rows.nth(2).click(modifiers=["Shift"])
    expect(sheet.locator(".follow .target")).to_have_text("of 3 subjects marked here")
    confirm = sheet.get_by_role("button", name="Confirmed", exact=True)
    expect(confirm).to_be_disabled()  # nothing says so yet
    sheet.get_by_label("Source of the outcome").fill("spectrum of May")
    confirm.click()
    expect(rows.nth(1).locator(".outcome")).to_have_text("✓ confirmed")
    expect(sheet.locator(".against")).to_contain_text("3 of 3 confirmed")
    expect(sheet.locator(".chip", has_text="Confirmed")).to_contain_text("3")
    expect(sheet.locator(".outcomes .table .row[aria-selected='true']")).to_have_count(0)  # kept, and done with
    expect(sheet.get_by_label("Source of the outcome")).to_have_value("")
    rows.nth(4).click()
    expect(sheet.locator(".follow .target")).to_have_text("of 1 subject marked here")
    expect(sheet.get_by_role("button", name="Rejected", exact=True)).to_be_disabled()
    rows.nth(4).click()
    sheet.locator(".status").get_by_role("button", name="Undo").click()
    expect(rows.nth(1).locator(".outcome")).to_have_text("")
    expect(sheet.locator(".chip", has_text="Confirmed")).to_have_count(0)
    sheet.get_by_role("button", name="select these").click()
    selected(page, 10)


def test_the_history_of_a_subject_tells_nothing_of_a_blind_campaign(sheet: Locator, page: Page) -> None:
    turn(sheet, "Outcomes")
    row = sheet.locator(".outcomes .table .row").first
    row.dblclick()
    expect(sheet).to_be_hidden()
    history = page.locator(".subject details", has_text="History")
    history.locator("summary").click()
    expect(history.locator(".events")).to_contain_text("in the kept selection “odd”")
    expect(history.locator(".events")).not_to_contain_text("graded it")  # who looks has not graded it yet


def test_without_random_draws_nobody_says_what_is_left(sheet: Locator, page: Page) -> None:
    turn(sheet, "What is left")
    expect(sheet.locator(".left .big")).to_contain_text("not estimable")
    expect(sheet.get_by_label("Found by subjects graded")).to_be_visible()
    page.keyboard.press("]")
    expect(sheet.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")


def test_a_campaign_is_closed_and_opened_again(sheet: Locator, page: Page) -> None:
    sheet.get_by_role("button", name="Close", exact=True).first.click()
    expect(sheet.locator(".state")).to_have_text("closed")
    expect(sheet.get_by_role("link", name="Grade")).to_be_hidden()
    sheet.locator(".status").get_by_role("button", name="Undo").click()
    expect(sheet.locator(".state")).to_have_text("open")


def test_a_campaign_is_made_by_keys_alone_and_what_cannot_be_is_said(page_of: Page, troubles: list[str]) -> None:
    select_all(page_of)
    page_of.keyboard.press("Shift+V")
    sheet = page_of.locator("dialog.campaigns")
    choose(sheet, "Rings")
    page_of.keyboard.press("m")
    name = sheet.get_by_label("Name of the campaign")
    expect(name).to_be_focused()
    expect(sheet.locator(".of")).to_have_text("200 subjects of the selection")
    page_of.keyboard.type("Rings")
    expect(name).to_have_value("Rings")
    page_of.keyboard.press("Control+Enter")
    expect(sheet.locator(".refused")).to_contain_text("There is a campaign")
    page_of.keyboard.type(" again")
    expect(name).to_have_value("Rings again")
    page_of.keyboard.press("Control+Enter")
    expect(sheet.locator(".one > header h2")).to_have_text("Rings again")
    current = sheet.locator(".campaign[aria-current]")
    page_of.keyboard.press("ArrowDown")
    expect(current).not_to_contain_text("Rings again")
    page_of.keyboard.press("ArrowUp")
    expect(current).to_contain_text("Rings again")
    page_of.keyboard.press("Shift+V")
    expect(sheet).to_be_hidden()
    troubles[:] = [trouble for trouble in troubles if "status of 400" not in trouble]  # the name that was taken


def test_what_is_disputed_is_decided_by_keys_and_taken_back(sheet: Locator, page: Page) -> None:
    turn(sheet, "Adjudication")
    items = sheet.locator(".queue .item")
    expect(items).to_have_count(16)
    first = sheet.locator(".queue .item[aria-selected='true']")
    expect(items.first).to_have_attribute("aria-selected", "true")
    expect(sheet.locator(".given .vote")).to_have_count(2)  # nothing of it is blind
    expect(sheet.locator(".given")).to_contain_text("A faint arc.")
    expect(sheet.locator(".stage canvas")).to_be_visible()
    expect(sheet.get_by_role("tab", name="Adjudication").locator("i")).to_have_text("16")
    page.keyboard.press("a")
    expect(sheet.locator(".adjudication .said")).to_contain_text("certain, kept")
    expect(items.first.locator(".verdict")).to_contain_text("A")
    expect(items.nth(1)).to_have_attribute("aria-selected", "true")
    expect(sheet.get_by_role("tab", name="Adjudication").locator("i")).to_have_text("15")
    page.keyboard.press("q")
    expect(items.nth(2)).to_have_attribute("aria-selected", "true")
    expect(sheet.locator(".adjudication .said")).to_contain_text("cannot be judged, kept")
    for left, at in ((15, 1), (16, 0)):
        page.keyboard.press("u")
        expect(sheet.locator(".adjudication .said")).to_contain_text("taken back")
        expect(items.nth(at)).to_have_attribute("aria-selected", "true")
        expect(items.nth(at).locator(".verdict")).to_have_text("")
        expect(sheet.get_by_role("tab", name="Adjudication").locator("i")).to_have_text(str(left))
    expect(first).to_have_count(1)


def test_results_say_k_of_n_and_each_opens_its_subjects(sheet: Locator, page: Page) -> None:
    expect(sheet.locator(".headline .go")).to_contain_text("25 %")
    expect(sheet.locator(".headline .go")).to_contain_text("Certain or probable")
    rows = sheet.locator(".grades > .row")
    expect(rows.nth(1)).to_contain_text("10 of 40")  # (3 + 2) / 2 reaches B
    expect(rows.nth(2)).to_contain_text("6 of 40")  # (3 + 0) / 2 reaches C
    expect(sheet.locator(".person")).to_have_count(2)
    assert sheet.evaluate(UNNAMED) == []
    rows.nth(2).click()
    selected(page, 6)


def test_a_campaign_is_made_of_the_selection_by_mouse(page_of: Page) -> None:
    select_all(page_of)
    page_of.get_by_role("button", name="Vetting").click()
    sheet = page_of.locator("dialog.campaigns")
    sheet.get_by_role("button", name="New", exact=True).click()
    expect(sheet.locator(".of")).to_have_text("200 subjects of the selection")
    expect(sheet.locator(".total")).to_have_text("200 images × 3 graders")
    expect(sheet.locator(".planning small.warm")).to_contain_text("recall is not estimable")
    expect(sheet.locator(".sample img")).to_have_count(12)
    assert sheet.evaluate(UNNAMED) == []
    make = sheet.get_by_role("button", name="Make campaign")
    sheet.get_by_label("Name of the campaign").fill("")
    expect(make).to_be_disabled()
    expect(make).to_have_attribute("title", "Missing: a name")
    expect(sheet.get_by_label("When a subject counts as found")).to_contain_text(
        "mean of its grades reaches 2, probable"
    )
    sheet.get_by_label("Name of the campaign").fill("Arcs")
    sheet.get_by_label("How many of them, at random").fill("30")
    expect(sheet.locator(".total")).to_have_text("30 images × 3 graders")
    sheet.get_by_role("button", name="Yes or no").click()
    sheet.get_by_label("Definition of grade Y").fill("An arc that is bluer than its galaxy.")
    expect(sheet.get_by_role("button", name="Own", exact=True)).to_have_attribute("aria-pressed", "true")
    sheet.get_by_role("button", name="Fewer: Graders of each subject").click()
    expect(sheet.locator(".total")).to_have_text("30 images × 2 graders")
    make.click()
    expect(sheet.locator(".one > header h2")).to_have_text("Arcs")
    expect(sheet.locator(".campaign[aria-current]")).to_contain_text("0 of 60")
    expect(sheet.locator(".about")).to_contain_text("drawn from 200 of")
    expect(sheet.locator(".grades > .row").first).to_contain_text("An arc that is bluer than its galaxy.")
    expect(sheet.get_by_role("link", name="Grade")).to_have_attribute("href", re.compile(r"/vet/[0-9a-f]{12}$"))


def test_a_region_is_checked_in_one_press_and_has_its_name_on_the_map(page_of: Page) -> None:
    use(page_of, "b", "box")
    drag(page_of, [(0.005, 0.005), (0.995, 0.995)])  # all of them, wherever they lie
    expect(page_of.locator(".steering .total")).to_contain_text("200 of 200 selected")
    page_of.keyboard.press("Shift+V")
    sheet = page_of.locator("dialog.campaigns")
    expect(sheet.locator(".quick")).to_contain_text("50 random of 200")
    page_of.keyboard.press("s")
    expect(sheet.locator(".one > header h2")).to_have_text("Purity of a region of the map")
    expect(sheet.locator(".campaign[aria-current]")).to_contain_text("0 of 150")
    page_of.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    until(page_of, "m.marks.places?.some(p => p.name === 'Purity of a region of the map')")
