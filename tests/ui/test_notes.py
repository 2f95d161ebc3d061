"""Tags, notes, history, the nearest and links of a subject, in a real Chromium."""

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.survey import Survey
from tests.conftest import FIRST_ID
from tests.ui.browser import eventually, painted
from tests.ui.serving import serve
from tests.ui.test_journeys import wait_for_frame

ROW = 7


@pytest.fixture(scope="module")
def noted(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A survey of its own, served: its URL and folder."""
    folder = tmp_path_factory.mktemp("noted")
    survey = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with serve(survey, folder / "log") as url:
        yield url, survey


@pytest.fixture
def subject(open_survey: Callable[[str], Page], noted: tuple[str, Path]) -> Page:
    """The panel of one subject, the map painted."""
    page = open_survey(f"{noted[0]}&subject={FIRST_ID + ROW}")
    wait_for_frame(page)
    expect(page.locator(".subject h2")).to_have_text(str(FIRST_ID + ROW))
    return page


def body(page: Page) -> None:
    """Take the keys out of any field."""
    page.locator(".subject h2").click()


def chips(page: Page) -> Locator:
    return page.locator(".subject .chip .name")


def test_a_tag_is_kept_completed_selected_taken_away_and_brought_back(subject: Page, noted: tuple[str, Path]):
    body(subject)
    subject.keyboard.press("t")
    subject.keyboard.type("Tidal  Tail")
    subject.keyboard.press("Enter")
    expect(chips(subject)).to_have_text(["tidal tail"])
    status = subject.locator(".tags .decided")
    expect(status).to_contain_text("tag “tidal tail” kept")
    with Ledger(noted[1], Survey.open(noted[1]).info.survey_id) as ledger:  # it is on the disk
        (entry,) = ledger.entries("tag")
    assert (entry.payload, entry.subject_id, entry.who) == ({"tag": "tidal tail"}, FIRST_ID + ROW, "local")
    assert entry.run_id
    expect(subject.get_by_label("Add a tag")).to_have_value("")
    subject.keyboard.press("Escape")
    first = subject.locator(".subject h2").inner_text()
    subject.locator(".neighbours .tile").first.click()
    expect(subject.locator(".subject h2")).not_to_have_text(first)
    expect(chips(subject)).to_have_count(0)
    expect(subject.locator("datalist option")).to_have_attribute("value", "tidal tail")  # offered while one is typed
    subject.get_by_label("Add a tag").fill("tidal tail")
    subject.get_by_label("Add a tag").press("Enter")
    expect(chips(subject)).to_have_text(["tidal tail"])
    chips(subject).click()
    expect(subject.get_by_text("2 of 200 selected").first).to_be_visible()
    subject.get_by_label("Remove the tag “tidal tail”").click()
    expect(chips(subject)).to_have_count(0)
    status.get_by_role("button", name="Take it back").click()
    expect(chips(subject)).to_have_text(["tidal tail"])
    expect(status).to_contain_text("taken back")


def test_what_is_no_tag_is_refused_with_a_sentence_and_stays_in_its_box(subject: Page):
    box = subject.get_by_label("Add a tag")
    box.fill("a, b")
    box.press("Enter")
    expect(subject.locator(".tags .decided")).to_contain_text("a tag has no comma, no semicolon")
    expect(box).to_have_value("a, b")


def test_a_note_is_kept_by_ctrl_enter_edited_deleted_and_shown_as_text_only(subject: Page):
    body(subject)
    subject.keyboard.press("n")
    box = subject.get_by_label("Note", exact=True)
    expect(box).to_be_focused()
    subject.keyboard.type("<img src=x onerror=alert(1)>")
    subject.keyboard.press("Enter")  # another line
    subject.keyboard.type("pbli")  # no key of the page
    expect(subject.locator(".list .note")).to_have_count(0)
    subject.keyboard.press("Control+Enter")
    note = subject.locator(".list .note .text")
    expect(note).to_have_text("<img src=x onerror=alert(1)>\npbli")
    assert subject.locator(".list .note img").count() == 0
    status = subject.locator(".under .decided")
    expect(status).to_contain_text("note kept")
    expect(box).to_have_value("")
    subject.get_by_label("Edit this note").click()
    expect(box).to_have_value(re.compile("pbli"))
    box.fill("a ring")
    subject.get_by_role("button", name="Keep the note").click()
    expect(note).to_have_text("a ring")
    expect(subject.locator(".list .note .line")).to_contain_text("edited")
    subject.get_by_label("Delete this note").click()
    expect(note).to_have_count(0)
    status.get_by_role("button", name="Take it back").click()
    expect(note).to_have_text("a ring")
    subject.get_by_label("Delete this note").click()
    expect(note).to_have_count(0)


def test_what_is_typed_stays_with_its_subject_until_it_is_kept(subject: Page):
    box, heading = subject.get_by_label("Note", exact=True), subject.locator(".subject h2")
    box.fill("half a sen")
    first = heading.inner_text()
    subject.locator(".neighbours .tile").nth(3).click()
    expect(heading).not_to_have_text(first)
    expect(box).to_have_value("")
    subject.get_by_label("The subject before").click()
    expect(heading).to_have_text(first)
    expect(box).to_have_value("half a sen")
    box.fill("")


def test_a_new_subject_is_seen_from_its_top_unless_a_note_is_being_typed(subject: Page):
    panel, heading = subject.locator(".subject"), subject.locator(".subject h2")
    walk = "row => { const v = voorwerp.shell.deep('.gallery').querySelectorAll('.tile')[row]; v.click(); }"
    for row, box, top in ((5, None, True), (6, subject.get_by_label("Note", exact=True), False)):
        before = heading.inner_text()
        if box:
            box.fill("half a sen")
        panel.evaluate("e => { e.scrollTop = 200; }")
        subject.evaluate(walk, row)
        expect(heading).not_to_have_text(before)
        painted(subject)
        assert (panel.evaluate("e => e.scrollTop") == 0) is top


def test_a_note_that_cannot_be_kept_stays_in_its_box_and_the_reason_is_said(
    open_survey: Callable[[str], Page], finished_survey: Path, tmp_path: Path
):
    survey = shutil.copytree(finished_survey, tmp_path / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with serve(survey, tmp_path / "log") as url:
        page = open_survey(f"{url}&subject={FIRST_ID}")
        with sqlite3.connect(survey / "ledger.db") as database:
            full = "SELECT RAISE(ABORT, 'database or disk is full')"
            database.execute(f"CREATE TRIGGER no_room BEFORE INSERT ON entries BEGIN {full}; END")
        database.close()
        box = page.get_by_label("Note", exact=True)
        box.fill("precious")
        box.press("Control+Enter")
        expect(page.locator(".under .decided")).to_contain_text("the disk is full; free some space and repeat it")
        expect(box).to_have_value("precious")
        expect(page.locator(".list .note")).to_have_count(0)
        page.goto("about:blank")  # before its server goes


def test_the_history_tells_decisions_and_scores_in_their_order(subject: Page, noted: tuple[str, Path]):
    survey = Survey.open(noted[1])
    with Ledger(noted[1], survey.info.survey_id) as ledger:  # another process, as a colleague's
        tag = Notes(ledger, Explore(survey)).add_tag(FIRST_ID + ROW, "seen by ada", who="ada")
    expect(chips(subject).filter(has_text="seen by ada")).to_be_visible()  # without a reload
    subject.locator(".section summary", has_text="History").click()
    subject.get_by_label("Remove the tag “seen by ada”").click()
    events = subject.locator(".events li")
    expect(events.last).to_contain_text("took away the tag “seen by ada”")
    expect(events.last).to_contain_text("local")
    expect(events.first).to_have_text(
        re.compile(r"Anomaly score [\d.,]+ · percentile \d+\.\d+ · above \d+ of 200.*-score · λ 0\.2")
    )
    gone = subject.locator(".events li.undone", has_text="tagged “seen by ada”")
    expect(gone).to_contain_text(tag.at[:16].replace("T", " "))
    expect(subject.locator(".section", has_text="History").locator(".count")).to_have_text(str(events.count()))
    subject.reload()
    expect(events.last).to_contain_text("took away")  # the section is still open


def test_scores_say_percentile_and_k_of_n_and_their_values_stay_on_one_line(subject: Page):
    line = subject.locator(".subject .score").first
    expect(line).to_contain_text(re.compile(r"percentile \d+\.\d+ · above \d+ of 200"))
    subject.set_viewport_size({"width": 1280, "height": 800})
    subject.get_by_role("button", name="Standardised").click()
    expect(line.locator(".name")).to_have_text("Anomaly score (λ 0.2, standardised)")
    box = line.locator(".value").bounding_box()
    panel = subject.locator(".subject").bounding_box()
    assert box is not None
    assert panel is not None
    assert box["height"] < 24
    assert box["x"] + box["width"] <= panel["x"] + panel["width"]


def test_the_nearest_by_a_column_are_listed_and_so_many_are_selected(subject: Page, noted: tuple[str, Path]):
    by, tiles = subject.get_by_label("Nearest by"), subject.locator(".neighbours .tile")
    expect(tiles).to_have_count(12)
    by.select_option("subjects.magnitude")
    expect(tiles.first).to_have_attribute("title", re.compile(r"magnitude 17\.1[26]"))  # one on either side
    survey = Survey.open(noted[1])
    rows = [row for row, _ in Explore(survey).alike("subjects.magnitude", ROW)]
    shown = [int(tile.get_attribute("data-row") or -1) for tile in tiles.all()]
    survey.close()
    assert shown == rows
    subject.get_by_label("How many of the nearest").select_option("50")
    subject.get_by_label(re.compile("Put the nearest into the selection")).click()
    expect(subject.get_by_text("50 of 200 selected").first).to_be_visible()
    expect(subject.locator(".section", has_text="Nearest").locator(".decided")).to_contain_text("50 nearest")
    by.select_option("latent")
    subject.get_by_label("How many of the nearest").select_option("1000")
    subject.get_by_label(re.compile("Put the nearest into the selection")).click()
    expect(subject.get_by_text("199 of 200 selected").first).to_be_visible()  # all others


def test_back_and_forth_through_what_was_in_focus_and_a_link_that_shows_it(subject: Page):
    heading = subject.locator(".subject h2")
    seen = [heading.inner_text()]
    for k in (0, 4):
        subject.locator(".neighbours .tile").nth(k).click()
        expect(heading).not_to_have_text(seen[-1])
        seen.append(heading.inner_text())
    for wanted in (seen[1], seen[0]):
        subject.get_by_label("The subject before").click()
        expect(heading).to_have_text(wanted)
    expect(subject.get_by_label("The subject before")).to_be_disabled()
    subject.get_by_label("The subject after it").click()
    expect(heading).to_have_text(seen[1])
    subject.context.grant_permissions(["clipboard-read", "clipboard-write"])
    subject.get_by_label("Copy a link to this view and subject").click()
    expect(subject.locator(".copied")).to_have_text("link copied")
    link = subject.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlsplit(link).query)["subject"] == [seen[1]]
    subject.get_by_label("Copy the id").click()
    expect(subject.locator(".copied")).to_have_text("id copied")
    assert subject.evaluate("navigator.clipboard.readText()") == seen[1]
    subject.goto("about:blank")
    subject.goto(link)
    expect(heading).to_have_text(seen[1])


def test_pictures_keep_their_place_while_the_next_subject_loads(subject: Page):
    figures = subject.locator(".subject .pictures figure")
    expect(figures.last.locator(".sum")).to_be_visible()
    widths = "images => images.map(i => i.naturalWidth)"
    eventually(lambda: figures.locator("img").evaluate_all(widths), all)

    def sizes() -> list[tuple[float, float]]:
        boxes = [figure.bounding_box() for figure in figures.all()]
        return [(box["width"], box["height"]) for box in boxes if box is not None]

    before = sizes()
    held: list = []
    free = False
    pictures = re.compile("/(reconstructions|residuals|feature-residuals|crops)/")
    subject.route(pictures, lambda route: route.continue_() if free else held.append(route))
    first = subject.locator(".subject h2").inner_text()
    subject.locator(".neighbours .tile").nth(2).click()
    expect(subject.locator(".subject h2")).not_to_have_text(first)
    expect(figures.first).to_have_class("waiting")
    assert sizes() == before
    free = True
    for route in held:
        route.continue_()
    expect(figures.first).not_to_have_class("waiting")
