"""The page where experts grade, in a real Chromium: blind, by keys alone, saved before it says so, undone, resumed."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, Route, expect

from explorer.ledger import Entry, Ledger
from explorer.services.campaigns import Plan, Reader
from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.logging_in import log_in, with_accounts
from tests.explorer.vetted import campaigns_of
from tests.ui.browser import eventually
from tests.ui.serving import free_port, serve
from tests.ui.test_shell import nothing_serious

# the picture of this subject, and of no other, is on the screen
READY = """() => { const stage = document.querySelector('.stage');
  return stage.getAttribute('aria-busy') === 'false' && stage.dataset.shown === location.hash.slice(1); }"""


@dataclass
class Place:
    """A served survey with accounts."""

    path: Path
    port: int
    folder: Path

    def campaign(self, name: str, n: int, first: int = 0, **told: Any) -> str:
        """A new campaign of `n` subjects, without repeats unless told."""
        survey = Survey.open(self.path)
        with Ledger(self.path, survey.info.survey_id) as ledger:
            plan = Plan(name, **({"scheme": SCHEMES["abcx"], "repeats": 0.0} | told))
            made = campaigns_of(survey, ledger).make(plan, np.arange(first, first + n), {"selection": None}, "owner-1")
        survey.close()
        return made.id

    def votes(self, campaign: str) -> list[Entry]:
        """All entries of a campaign's votes, also those taken back."""
        survey = Survey.open(self.path)
        survey.close()
        with Ledger(self.path, survey.info.survey_id) as ledger:
            return [e for e in ledger.entries("vote", include_undone=True) if e.payload["campaign"] == campaign]

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """The server, on the same port each time."""
        with serve(self.path, self.folder / "log", port=self.port) as url:
            yield url.partition("?")[0].rstrip("/")


@pytest.fixture(scope="module")
def place(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, before = tmp_path_factory.mktemp("vet"), os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(folder / "config")
    try:
        path = Path(shutil.copytree(finished_survey, folder / "survey"))
        with_accounts(path)
        yield Place(path, free_port(), folder)
    finally:
        os.environ["VOORWERP_CONFIG"] = before


@pytest.fixture(scope="module")
def url(place: Place) -> Iterator[str]:
    with place.served() as url:
        yield url


Enter = Callable[..., Page]


def let_in(context: BrowserContext, url: str, who: str) -> None:
    """Give a window the cookie of somebody's login."""
    name, _, value = log_in(url, who).cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": url}])


@pytest.fixture
def enter(page: Page, url: str) -> Enter:
    """``enter(campaign)``: open its page as somebody; a picture is there."""

    def go(campaign: str, who: str = "grader-1", wait: bool = True) -> Page:
        page.context.clear_cookies()
        let_in(page.context, url, who)
        page.goto(f"{url}/vet/{campaign}")
        if wait:
            ready(page)
        return page

    return go


def ready(page: Page, number: int | None = None) -> None:
    """The picture of this subject can be graded."""
    if number is not None:
        expect(page.locator(".jump b")).to_have_text(str(number))
    page.wait_for_function(READY)


def saved(page: Page) -> None:
    """Everything is on the disk."""
    expect(page.locator(".safe")).to_have_text("all saved")


def grade(page: Page, *keys: str, to: int | None = None) -> None:
    """Press grades one after another, each on a picture that is there."""
    for key in keys:
        ready(page)
        before = page.evaluate("() => location.hash")
        page.keyboard.press(key)
        page.wait_for_function("before => location.hash !== before", arg=before)
    if to is not None:
        ready(page, to)


def cells(page: Page, n: int) -> None:
    """A page of the mosaic with `n` pictures that can be judged."""
    expect(page.locator(".cell img")).to_have_count(n)
    expect(page.locator(".stage")).to_have_attribute("aria-busy", "false")


def test_two_graders_at_once_know_nothing_of_each_other_before_their_own_grade(
    browser: Browser, place: Place, url: str
) -> None:
    campaign = place.campaign("Together", 4, graders=2)
    contexts = {who: browser.new_context(viewport={"width": 1440, "height": 900}) for who in ("grader-1", "grader-2")}
    pages, heard = {}, []
    for who, context in contexts.items():
        let_in(context, url, who)
        pages[who] = context.new_page()
        pages[who].goto(f"{url}/vet/{campaign}")
        ready(pages[who], 1)
    one, two = pages.values()

    def hear(answer: Response) -> None:
        if f"/vet/{campaign}/" in answer.url and "json" in answer.headers.get("content-type", ""):
            heard.append(answer.text())

    two.on("response", hear)
    for number in (2, 3, 4):
        grade(one, "a", to=number)
    ready(one)
    one.keyboard.press("a")
    expect(one.locator(".pause h2")).to_contain_text("Thank you")
    expect(one.locator(".pause .counts dd")).to_have_text(["4"])
    saved(one)
    two.reload()
    ready(two, 1)
    expect(two.locator(".told")).to_be_empty()
    assert two.locator(".grade[aria-pressed=true]").count() == 0
    assert heard
    assert not any("grader-1" in text or '"grade":"A"' in text for text in heard)
    grade(two, "c", to=2)
    expect(two.locator(".told")).to_contain_text("The one before, 1")
    expect(two.locator(".told")).to_contain_text("A grader-1")
    two.keyboard.press("u")  # to be graded anew: without the answer to it
    expect(two.locator(".say")).to_have_text("Took back the grade C.")
    ready(two, 1)
    expect(two.locator(".told")).to_be_empty()
    two.keyboard.press("Shift+U")
    ready(two, 2)
    expect(two.locator(".told")).to_contain_text("The one before, 1")
    by = {(e.who, e.payload["grade"]) for e in place.votes(campaign)}
    assert by == {("grader-1", "A"), ("grader-2", "C")}
    assert all(e.payload["seconds"] > 0 for e in place.votes(campaign))
    for context in contexts.values():
        context.close()


def test_undo_is_one_step_back_and_redo_one_forth(enter: Enter, place: Place) -> None:
    campaign = place.campaign("Back and forth", 8)
    page = enter(campaign)
    grade(page, "a", "b", "x", to=4)
    saved(page)
    expect(page.locator(".trail .chip.saved")).to_have_text(["A", "B", "X"])
    page.keyboard.press("u")
    ready(page, 3)
    expect(page.locator(".grade[aria-pressed=true]")).to_have_count(0)
    page.keyboard.press("Shift+U")
    expect(page.locator(".say")).to_have_text("Brought back the grade X.")
    ready(page, 4)  # on, as after a grade: another key does not overwrite it
    expect(page.locator(".trail .chip.saved")).to_have_text(["A", "B", "X"])
    page.keyboard.press("ArrowLeft")
    ready(page, 3)
    expect(page.locator(".grade[aria-pressed=true] kbd")).to_have_text("X")
    page.keyboard.press("c")  # another grade in its place, and on to the first without one
    ready(page, 4)
    saved(page)
    page.keyboard.press("ArrowLeft")
    ready(page, 3)
    expect(page.locator(".grade[aria-pressed=true] kbd")).to_have_text("C")
    assert [e.payload["grade"] for e in place.votes(campaign)] == ["A", "B", "X", "C"]


def test_the_mosaic_turns_a_page_down_at_once_and_undo_takes_all_of_it_back(enter: Enter, place: Place) -> None:
    campaign = place.campaign("Mosaic", 60, 20)
    page = enter(campaign)
    page.keyboard.press("f")
    cells(page, 40)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("b")
    page.locator(".cell").nth(30).click()
    page.locator(".cell").nth(31).click(modifiers=["Shift"])
    expect(page.locator(".page .go span")).to_have_text("Turn down 35 as X")
    expect(page.locator(".besides")).to_have_text("4 for a second look · 1 graded")
    page.keyboard.press("Enter")
    cells(page, 20)
    saved(page)
    (entry,) = place.votes(campaign)
    assert sorted(entry.payload["grades"].values()) == ["B"] + ["X"] * 35
    assert (len(entry.payload["kept"]), len(entry.payload["interesting"])) == (4, 2)
    page.keyboard.press("j")  # a former page shows what was given
    cells(page, 40)
    states = page.locator(".cell").evaluate_all("cells => cells.map(c => c.dataset.state)")
    assert [states.count(state) for state in ("given", "look", "star")] == [36, 2, 2]
    page.keyboard.press("u")
    expect(page.locator(".say")).to_contain_text("40 looks of a mosaic")
    cells(page, 40)
    as_before = {"": 35, "look": 2, "star": 2, "graded": 1}  # as it was before Enter
    for state, n in as_before.items():
        expect(page.locator(f".cell[data-state='{state}']")).to_have_count(n)
    expect(page.locator(".page .go span")).to_have_text("Turn down 35 as X")
    page.keyboard.press("Shift+U")
    expect(page.locator(".jump b")).to_have_text("41 – 60")  # on, as after Enter
    cells(page, 20)
    page.keyboard.press("Enter")
    expect(page.locator(".pause")).to_contain_text("4 subjects wait for a second look")
    expect(page.locator(".go:visible")).to_have_text(["Look at themEnter"])  # one that Enter presses
    saved(page)
    page.keyboard.press("u")
    expect(page.locator(".say")).to_contain_text("Took back 20 looks")
    expect(page.locator(".pause")).to_be_hidden()
    cells(page, 20)
    expect(page.locator(".cell[data-state='']")).to_have_count(20)
    expect(page.locator(".page .go span")).to_have_text("Turn down 20 as X")
    page.keyboard.press("Shift+U")
    expect(page.locator(".say")).to_contain_text("Brought back 20 looks")
    expect(page.locator(".pause")).to_contain_text("4 subjects wait for a second look")
    expect(page.locator(".pause")).to_be_visible()
    page.keyboard.press("Enter")  # one by one: those four
    expect(page.locator(".pause")).to_be_hidden()
    for _ in range(3):
        grade(page, "c")
    ready(page)
    page.keyboard.press("c")
    expect(page.locator(".pause")).to_contain_text("Thank you")
    saved(page)
    assert sorted(e.payload["interesting"] for e in place.votes(campaign)[-4:]) == [False, False, True, True]


def test_the_keyboard_alone_is_enough_and_arrows_are_dead_while_typing(enter: Enter, place: Place) -> None:
    page = enter(place.campaign("Keys", 12, 80))
    page.keyboard.press("ArrowRight")
    ready(page, 2)
    page.keyboard.press("t")
    page.keyboard.type("ring a")  # no grade
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    ready(page, 2)
    page.keyboard.press("Enter")
    expect(page.locator(".tags button")).to_have_text(["ring a ✕"])
    page.keyboard.press("m")
    page.keyboard.type("an odd one")
    page.keyboard.press("Escape")
    saved_notes = lambda: page.locator(".safe").text_content() != "1 not saved yet"  # noqa: E731
    eventually(saved_notes, bool)
    page.keyboard.press("k")
    ready(page, 3)
    expect(page.locator("#note")).to_have_value("")
    page.keyboard.press("j")
    ready(page, 2)
    expect(page.locator("#note")).to_have_value("an odd one")
    page.reload()  # the place is known by its subject
    ready(page, 2)
    expect(page.locator("#note")).to_have_value("an odd one")
    expect(page.locator(".tags button")).to_have_text(["ring a ✕"])
    page.keyboard.press("g")
    page.keyboard.type("9")
    page.keyboard.press("Enter")
    ready(page, 9)
    for key, words in (("s", "linear stretch"), ("v", "inverted"), ("p", "band r"), ("z", "2×")):
        page.keyboard.press(key)
        expect(page.locator(".look .as")).to_contain_text(words)
    page.keyboard.press("i")
    expect(page.locator(".interesting")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("e")
    expect(page.locator(".asked .context img").first).to_be_visible()
    page.keyboard.press("r")
    expect(page.locator(".asked .reconstruction img")).to_have_count(2)
    page.keyboard.press("q")
    ready(page, 10)
    expect(page.locator(".asked")).to_be_empty()
    saved(page)
    page.keyboard.press("?")
    expect(page.locator("dialog.keys")).to_be_visible()
    page.keyboard.press("a")  # a dialog is not graded
    page.keyboard.press("Escape")
    ready(page, 10)
    (entry,) = place.votes(page.evaluate("() => location.pathname.split('/')[2]"))
    assert (entry.payload["grade"], entry.payload["interesting"]) == ("Q", True)
    assert sorted(entry.payload["looked"]) == ["context", "reconstruction"]


def test_a_refused_grade_brings_its_picture_back_with_the_sentence(
    enter: Enter, place: Place, troubles: list[str]
) -> None:
    campaign = place.campaign("Refused", 6)
    page = enter(campaign)
    answer = {"error": "the moon is in the way", "kind": "refused"}

    def refuse(route: Route) -> None:
        route.fulfill(status=400, content_type="application/json", body=json.dumps(answer))

    page.route("**/vote", refuse)
    ready(page, 1)
    page.keyboard.press("a")
    expect(page.locator(".say")).to_have_text("Not saved: the moon is in the way.")
    ready(page, 1)
    expect(page.locator(".grade[aria-pressed=true]")).to_have_count(0)
    expect(page.locator(".chip")).to_have_count(0)
    page.unroute("**/vote")
    grade(page, "b", to=2)
    saved(page)
    assert [e.payload["grade"] for e in place.votes(campaign)] == ["B"]
    troubles[:] = [t for t in troubles if "400" not in t]


def test_votes_are_kept_while_somebody_is_logged_out_or_a_campaign_is_closed(
    enter: Enter, place: Place, url: str, troubles: list[str]
) -> None:
    campaign = place.campaign("Interrupted", 6, 100)
    page = enter(campaign)
    cookies = page.context.cookies()
    page.context.clear_cookies()
    grade(page, "a")
    expect(page.locator("[role=alert]")).to_contain_text("You are logged out. 1 grade of yours is not saved yet")
    expect(page.locator("[role=alert] a")).to_have_attribute("href", f"/login?next=%2Fvet%2F{campaign}")
    expect(page.locator(".safe")).to_have_text("1 not saved yet")
    page.context.add_cookies(cookies)  # as after a login
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    ready(page, 2)
    saved(page)
    assert [e.payload["grade"] for e in place.votes(campaign)] == ["A"]
    survey = Survey.open(place.path)
    with Ledger(place.path, survey.info.survey_id) as ledger:
        campaigns_of(survey, ledger).close(campaign, "owner-1")
    survey.close()
    page.wait_for_timeout(3000 * Reader.SECONDS)  # so long the server need not know what others wrote
    grade(page, "b")
    expect(page.locator("[role=alert]")).to_contain_text("is closed")
    expect(page.locator("[role=alert]")).to_contain_text("1 grade of yours is not saved yet")
    page.evaluate("() => localStorage.clear()")
    troubles[:] = [t for t in troubles if not any(code in t for code in ("401", "403", "409"))]


def test_nothing_is_lost_or_doubled_when_the_server_is_away_and_one_goes_on_where_one_was(
    page: Page, place: Place, tmp_path: Path, troubles: list[str]
) -> None:
    own = Place(place.path, free_port(), tmp_path)
    campaign = place.campaign("Away", 9, 120)
    # one server a survey: on a copy
    own.path = Path(shutil.copytree(place.path, tmp_path / "survey"))
    with own.served() as url:
        let_in(page.context, url, "grader-2")
        page.goto(f"{url}/vet/{campaign}")
        grade(page, "a", "b", "c", to=4)
        saved(page)
    grade(page, "a", "x", to=6)  # the pictures are there already
    expect(page.locator("[role=alert]")).to_contain_text("No connection to the server; trying again.")
    expect(page.locator(".safe")).to_have_text("2 not saved yet")
    expect(page.locator(".chip.saved")).to_have_count(3)
    with own.served() as url:
        saved(page)
        expect(page.locator("[role=alert]")).to_be_hidden()
        expect(page.locator(".chip.saved")).to_have_count(5)
        assert [e.payload["grade"] for e in own.votes(campaign)] == ["A", "B", "C", "A", "X"]
        page.goto(f"{url}/vet")
        expect(page.locator(".campaigns li").filter(has_text="Away")).to_contain_text("5 of 9")
        page.locator(".campaigns a", has_text="Away").click()
        ready(page, 6)  # without a word of where: by the last one that was graded
    troubles.clear()


def test_the_page_is_for_everyone(enter: Enter, place: Place) -> None:
    page = enter(place.campaign("Everyone", 30, 150))
    grade(page, "a", to=2)
    saved(page)
    for _ in range(2):
        page.keyboard.press("h")
        nothing_serious(page)
    page.keyboard.press("f")
    cells(page, 29)  # from the first that waits
    nothing_serious(page)
    page.keyboard.press("?")
    nothing_serious(page)
    page.keyboard.press("Escape")
    page.locator(".home").click()
    expect(page.locator(".campaigns a").first).to_be_focused()
    expect(page.locator(".help")).to_have_count(0)
    page.keyboard.press("?")  # no keys there: no error either
    nothing_serious(page)
    assert urlsplit(page.url).path == "/vet"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/vet/[0-9a-f]{12}"))
    page.locator(".leave").click()
    page.wait_for_url(re.compile(r"/login$"))
    page.goto(f"{urlsplit(page.url).scheme}://{urlsplit(page.url).netloc}/vet")
    page.wait_for_url(re.compile(r"/login\?next="))


def test_what_others_have_finished_meanwhile_is_not_graded_once_more(
    browser: Browser, enter: Enter, place: Place, url: str
) -> None:
    campaign = place.campaign("Enough", 4, 160, graders=1)
    one, context = enter(campaign), browser.new_context(viewport={"width": 1440, "height": 900})
    let_in(context, url, "grader-2")
    two = context.new_page()
    two.goto(f"{url}/vet/{campaign}")
    ready(two)
    for left in (3, 2, 1):
        ready(one)
        one.keyboard.press("a")
        expect(one.locator(".pace b")).to_have_text(str(4 - left))
    saved(one)
    ready(two)
    two.keyboard.press("b")
    eventually(lambda: len(place.votes(campaign)), lambda n: n == 4)
    expect(two.locator(".pace")).not_to_contain_text("of 4")
    context.close()


def test_a_viewer_sees_the_list_and_is_told(page: Page, url: str, place: Place) -> None:
    place.campaign("Not for viewers", 3)
    let_in(page.context, url, "viewer-1")
    page.goto(f"{url}/vet")
    expect(page.locator(".intro")).to_contain_text("viewer-1 is a viewer here")
    expect(page.locator(".campaigns li").first).to_be_visible()
    expect(page.locator(".campaigns a")).to_have_count(0)
