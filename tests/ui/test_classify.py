"""The page for volunteers in a real Chromium: two at once, keys, touch, tags, undo, and what a link does not open."""

import json
import re
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from explorer.ledger import Entry, Ledger
from explorer.services.classify import KIND
from explorer.survey import Survey
from explorer.votes import CHOSEN, CONSENSUS, OWN_WORKFLOW
from tests.explorer.test_server import ROUTES, WEBSOCKET, ask
from tests.ui.browser import eventually
from tests.ui.serving import VOORWERP, command, free_port, wait_for_address
from tests.ui.test_shell import nothing_serious

Served = tuple[str, Path]


@pytest.fixture(scope="module")
def volunteering(
    tmp_path_factory: pytest.TempPathFactory, image_survey: Path, voorwerp: Callable[..., str]
) -> Iterator[Served]:
    """URL of the page, by a new link, and the survey's folder; subjects 0 to 9 are duds and 10 to 19 known."""
    folder = tmp_path_factory.mktemp("volunteering")
    path = folder / "survey"
    shutil.copytree(image_survey, path)
    survey = Survey.open(path)
    with Ledger(path, survey.info.survey_id) as ledger:
        ledger.save_selection("duds", np.arange(10), survey.subject_ids, who="me")
        ledger.save_selection("training", np.arange(10, 20), survey.subject_ids, who="me")
    survey.close()
    link = voorwerp("invite", path, "--name", "Open day").splitlines()[0]
    arguments = [VOORWERP, "serve", path, "--no-browser", "--open-links", "--port", str(free_port())]
    with command(arguments, folder / "log") as process:
        address = urlsplit(wait_for_address(process, folder / "log", 60))
        yield f"http://{address.netloc}{link}", path


def entries(path: Path) -> list[Entry]:
    """What stands in the survey's ledger."""
    survey = Survey.open(path)
    survey.close()
    with Ledger(path, survey.info.survey_id) as ledger:
        return ledger.entries(KIND)


def counted_plainly(path: Path) -> dict[int, tuple[int, int]]:
    """Subject → by how many volunteers it was seen and chosen on our own page, training left out."""
    chose: dict[int, dict[str, bool]] = {}
    for entry in entries(path):
        for cell, subject in enumerate(entry.payload["subjects"]):
            if cell not in entry.payload["training"]:
                chose.setdefault(int(subject), {}).setdefault(entry.who, cell in entry.payload["chosen"])
    return {subject: (len(people), sum(people.values())) for subject, people in chose.items()}


def eventually_counted(path: Path) -> dict[int, tuple[int, int]]:
    """The same as the survey's consensus has it, once that has as many subjects; what it had after a minute."""
    n, end = len(counted_plainly(path)), time.monotonic() + 60
    found: dict[int, tuple[int, int]] = {}
    while len(found) != n and time.monotonic() < end:
        time.sleep(0.3)
        if (path / CONSENSUS).exists():
            names = ["workflow_id", "answer", "subject_id", "n_volunteers", "n_chosen_volunteers"]
            rows = pq.read_table(path / CONSENSUS, columns=names).to_pylist()
            ours = [row for row in rows if row["workflow_id"] == OWN_WORKFLOW and row["answer"] == CHOSEN]
            found = {row["subject_id"]: (row["n_volunteers"], row["n_chosen_volunteers"]) for row in ours}
    return found


def cells(page: Page) -> Locator:
    return page.locator(".pick")


def come(page: Page, url: str) -> Page:
    """Open the page; the first grid is there."""
    page.goto(url)
    expect(cells(page)).to_have_count(16)
    return page


def thanked(page: Page, n: int) -> None:
    expect(page.locator(".said")).to_contain_text(f"Thank you. That was grid {n}.")


def test_two_volunteers_at_once(page: Page, browser: Browser, volunteering: Served) -> None:
    url, path = volunteering
    before = len(entries(path))
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    other = context.new_page()
    come(page, url)
    come(other, url)
    for n in (1, 2, 3):
        cells(page).nth(n).click()
        cells(other).nth(15 - n).tap()
        page.locator(".submit").click()
        other.locator(".submit").tap()
        thanked(page, n)
        thanked(other, n)
    context.close()
    made = entries(path)[before:]
    assert len(made) == 6
    by_person = {who: [e.payload for e in made if e.who == who] for who in {e.who for e in made}}
    assert len(by_person) == 2
    assert eventually_counted(path) == counted_plainly(path)  # while the server runs
    for payloads in by_person.values():
        seen = [subject for payload in payloads for subject in payload["subjects"]]
        assert len(set(seen)) == 48
        assert all(payload["open_link"] and payload["seconds"] > 0 for payload in payloads)
    assert sorted(payload["chosen"] for payloads in by_person.values() for payload in payloads) == [
        *([n] for n in (1, 2, 3)),
        *([15 - n] for n in (3, 2, 1)),
    ]


def test_the_keys_move_choose_tag_and_go_on(page: Page, volunteering: Served) -> None:
    url, path = volunteering
    come(page, url)
    page.keyboard.press("ArrowRight")  # to the grid
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="Galaxy F", exact=True)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Galaxy F, chosen")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Galaxy P", exact=True)).to_be_focused()
    page.keyboard.press("t")
    expect(page.locator("#tag")).to_be_focused()
    page.keyboard.type("Green RING, <img src=x onerror=alert(1)>")
    page.keyboard.press("Enter")
    expect(page.locator(".closer .tags li")).to_have_text(["#green ring ✕", "#<img src=x onerror=alert(1)> ✕"])
    page.keyboard.type("one, two, three, four")
    page.keyboard.press("Enter")
    expect(page.locator(".closer .wrong")).to_have_text("A galaxy gets at most 5 tags.")
    page.locator("#tag").fill("")
    page.locator(".closer .step").last.click()  # on to the first
    expect(page.locator(".closer .letter")).to_have_text("A")
    page.keyboard.press("Escape")
    expect(page.locator(".closer")).to_be_hidden()
    expect(page.get_by_role("button", name="Galaxy A", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    thanked(page, 1)
    expect(page.get_by_role("button", name="Galaxy A", exact=True)).to_be_focused()  # of the next grid
    payload = entries(path)[-1].payload
    assert payload["chosen"] == [5]
    assert payload["tags"] == {"15": ["green ring", "<img src=x onerror=alert(1)>"]}
    assert list(payload["cell_seconds"]) == ["5"]


def test_the_last_grid_comes_back_with_what_was_chosen(page: Page, volunteering: Served) -> None:
    url, path = volunteering
    come(page, url)
    before = len(entries(path))
    first = cells(page).locator("img").first.get_attribute("src")
    expect(page.locator(".undo")).to_be_disabled()
    cells(page).nth(7).click()
    page.locator(".submit").click()
    thanked(page, 1)
    assert cells(page).locator("img").first.get_attribute("src") != first
    page.keyboard.press("u")
    expect(cells(page).nth(7)).to_have_attribute("aria-pressed", "true")
    assert cells(page).locator("img").first.get_attribute("src") == first
    assert len(entries(path)) == before
    page.reload()  # it is the one that is open
    expect(cells(page)).to_have_count(16)
    cells(page).nth(2).click()
    page.locator(".submit").click()
    thanked(page, 1)
    assert [e.payload["chosen"] for e in entries(path)[before:]] == [[2]]


def test_an_answer_waits_for_the_server_and_is_counted_once(
    page: Page, volunteering: Served, troubles: list[str]
) -> None:
    url, path = volunteering
    come(page, url)
    before = len(entries(path))
    lost = []

    def lose(route: object) -> None:  # it arrives, and its answer is lost
        if not lost:
            lost.append(route.fetch())  # type: ignore[attr-defined]
            route.abort()  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    page.route("**/classify/answer", lose)
    page.locator(".said").evaluate(  # the next try may be sooner than a look
        "e => { const all = window.__said = []; new MutationObserver(() => all.push(e.textContent))"
        ".observe(e, {childList: true, characterData: true, subtree: true}); }"
    )
    page.locator(".submit").click()
    told = eventually(
        lambda: page.evaluate("() => window.__said"), lambda told: any("No connection" in t for t in told)
    )
    assert any("No connection; trying again … 1 grid not saved yet." in text for text in told)
    expect(cells(page)).to_have_count(16)  # the next one is there already
    thanked(page, 1)
    assert len(entries(path)) == before + 1
    troubles[:] = [trouble for trouble in troubles if "net::ERR_FAILED" not in trouble]


def test_a_refused_answer_comes_back_to_be_put_right(page: Page, volunteering: Served, troubles: list[str]) -> None:
    url, path = volunteering
    come(page, url)
    before = len(entries(path))
    cells(page).nth(11).click()
    refused = {"status": 400, "json": {"error": "a tag has at most 40 characters"}}
    page.route("**/classify/answer", lambda route: route.fulfill(**refused), times=1)
    page.locator(".submit").click()
    expect(page.locator(".said")).to_have_text("That grid was not counted: a tag has at most 40 characters.")
    expect(cells(page).nth(11)).to_have_attribute("aria-pressed", "true")
    page.locator(".submit").click()
    thanked(page, 1)
    assert [e.payload["chosen"] for e in entries(path)[before:]] == [[11]]
    troubles[:] = [trouble for trouble in troubles if "400" not in trouble]


def test_known_objects_tell_how_it_went(page: Page, volunteering: Served) -> None:
    url, path = volunteering
    come(page, url)
    before = len(entries(path))
    for n in range(1, 20):
        for cell in range(16):  # all: what is known is found, and duds are taken for something
            cells(page).nth(cell).click()
        page.locator(".submit").click()
        thanked(page, n)
        if page.locator(".said .card").count():
            break
    (entry,) = entries(path)[before:][-1:]
    known = [cell for cell in entry.payload["training"] if _row(path, entry, cell) >= 10]
    duds = [cell for cell in entry.payload["training"] if _row(path, entry, cell) < 10]
    said = page.locator(".said").inner_text()
    assert [f"Well seen: your {'ABCDEFGHIJKLMNOP'[cell]} is a known object" in said for cell in known] == [True]
    assert [f"Your {'ABCDEFGHIJKLMNOP'[cell]} is known to be nothing new" in said for cell in duds] == [True]
    expect(page.locator("footer .mine")).to_contain_text("1 of 1 known found")


def _row(path: Path, entry: Entry, cell: int) -> int:
    survey = Survey.open(path)
    (row,) = survey.rows_of([int(entry.payload["subjects"][cell])])
    survey.close()
    return int(row)


@pytest.mark.parametrize(
    ("width", "height"), [(1440, 900), (1280, 800), (1280, 720), (390, 844), (360, 640), (844, 390)]
)
def test_the_grid_and_the_button_fit_the_screen(page: Page, volunteering: Served, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    come(page, volunteering[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for part in (".grid", ".submit"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height
    box = cells(page).first.bounding_box()
    assert box is not None
    assert box["width"] >= 44  # a finger


def test_a_finger_chooses_looks_closer_and_tags(browser: Browser, volunteering: Served, page: Page) -> None:
    url, path = volunteering
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone = come(context.new_page(), url)
    cells(phone).nth(4).tap()
    expect(cells(phone).nth(4)).to_have_attribute("aria-pressed", "true")
    phone.get_by_role("button", name="Look closer at galaxy J").tap()
    expect(phone.locator(".closer .letter")).to_have_text("J")
    phone.locator(".closer .choose").tap()
    phone.locator("#tag").fill("tail")
    phone.locator(".closer .add").tap()
    phone.locator(".closer .close").tap()
    zooms = phone.evaluate(
        "matchMedia('(pointer: coarse)').matches && !/user-scalable|maximum-scale/"
        ".test(document.querySelector('meta[name=viewport]').content)"
    )
    assert zooms  # two fingers may
    phone.locator(".submit").tap()
    thanked(phone, 1)
    context.close()
    payload = entries(path)[-1].payload
    assert (payload["chosen"], payload["tags"]) == ([4, 9], {"9": ["tail"]})


def test_a_link_opens_the_page_for_volunteers_and_nothing_else(volunteering: Served) -> None:
    url, _ = volunteering
    status, headers, _ = ask(url, urlsplit(url).path + "?" + urlsplit(url).query)
    assert status == 302
    held = headers["set-cookie"].split(";")[0]
    assert ask(url, "/classify", Cookie=held)[0] == 200
    port = urlsplit(url).port
    value = held.partition("=")[2]
    for route in ROUTES:
        for cookie in (held, f"voorwerp-{port}={value}"):
            status, headers, body = ask(url, route, Cookie=cookie, **(WEBSOCKET if route == "/ws" else {}))
            assert status == 403 or (status == 302 and "/login?next=" in headers["location"]), route
            assert not re.search(rb"5888489015237", body)


def test_a_link_taken_back_ends_the_page_with_a_sentence(
    page: Page, volunteering: Served, voorwerp: Callable[..., str], troubles: list[str]
) -> None:
    url, path = volunteering
    link = voorwerp("invite", path, "--name", "Short").splitlines()[0]
    assert link.startswith(url.partition("?")[0] + "?link=")
    come(page, link)
    page.locator(".submit").click()
    thanked(page, 1)
    before = len(entries(path))
    voorwerp("invite", path, "--revoke", "Short")
    page.locator(".submit").evaluate("submit => submit.click()")  # the page may have heard of it by itself
    expect(page.locator(".end")).to_have_text("This link is no longer open.Thank you for 1 grid.")
    expect(page.locator(".submit")).to_be_hidden()
    assert len(entries(path)) == before
    troubles[:] = [trouble for trouble in troubles if "403" not in trouble]


def test_an_error_of_the_page_says_to_reload_and_no_more(page: Page, volunteering: Served, troubles: list[str]) -> None:
    page.add_init_script("JSON.parse = () => { throw new TypeError('cells of undefined') }")
    page.goto(volunteering[0])
    said = "Something went wrong here.Reload the page; your answers are kept.Reload"
    expect(page.locator(".end")).to_have_text(said)
    with page.expect_navigation():
        page.get_by_role("button", name="Reload").click()
    expect(page.locator(".end")).to_have_text(said)
    troubles[:] = [trouble for trouble in troubles if "cells of undefined" not in trouble]


def _as_told(page: Page, change: Callable[[dict], None]) -> None:
    """Change what the server says of each grid."""

    def changed(route: Route) -> None:
        answer = route.fetch()
        body = answer.body()
        (length,) = struct.unpack_from("<I", body)
        told = json.loads(body[4 : 4 + length])
        change(told)
        head = json.dumps(told).encode()
        route.fulfill(response=answer, body=struct.pack("<I", len(head)) + head + body[4 + length :])

    page.route("**/classify/grid*", changed)


def test_a_square_shows_which_galaxy_is_meant_closer_too(page: Page, volunteering: Served) -> None:
    _as_told(page, lambda told: told.update(outlines=[[0.25, 0.5, 0.125], *[None] * 15]))
    come(page, volunteering[0])
    expect(page.locator(".meant")).to_be_visible()
    page.get_by_role("button", name="Look closer at galaxy A").click()
    frame, square = (page.locator(part).bounding_box() for part in (".closer .picture", ".closer .outline"))
    assert frame is not None
    assert square is not None
    shares = [(square["x"] - frame["x"]), (square["y"] - frame["y"]), square["width"]]
    assert [share / frame["width"] for share in shares] == pytest.approx([0.25, 0.5, 0.125], abs=0.01)
    expect(page.locator(".closer .note")).to_have_text("The square shows which galaxy is meant")
    page.locator(".closer .step").last.click()
    expect(page.locator(".closer .outline")).to_have_count(0)


def test_an_older_server_says_nothing_of_squares(page: Page, volunteering: Served) -> None:
    _as_told(page, lambda told: told.pop("outlines"))
    come(page, volunteering[0])
    expect(page.locator(".meant")).to_be_hidden()
    page.get_by_role("button", name="Look closer at galaxy A").click()
    expect(page.locator(".closer .letter")).to_have_text("A")


def test_the_closer_look_stays_in_its_place_while_tags_come(page: Page, volunteering: Served) -> None:
    come(page, volunteering[0])
    page.get_by_role("button", name="Look closer at galaxy A").click()
    boxes = [page.locator(".closer").bounding_box()]
    for tags in ("ring", "a very long tag indeed, another long one here, merger, odd", "one too many"):
        page.locator("#tag").fill(tags)
        page.keyboard.press("Enter")
        boxes.append(page.locator(".closer").bounding_box())
    expect(page.locator(".closer .wrong")).to_have_text("A galaxy gets at most 5 tags.")
    assert all(box == boxes[0] for box in boxes)


def test_looks_count_ones_own_answer_at_once_and_others_within_seconds(
    page: Page, browser: Browser, volunteering: Served
) -> None:
    def looks(of: Page) -> int:
        return int(of.locator(".ours").inner_text().split()[0].replace(",", ""))

    come(page, volunteering[0])
    context = browser.new_context()
    other = come(context.new_page(), volunteering[0])
    before = looks(other)
    other.locator(".submit").click()
    thanked(other, 1)
    now = looks(other)
    assert before + 14 <= now <= before + 16  # training is not counted
    expect(page.locator(".ours")).to_contain_text(f"{now:,} of ", timeout=15_000)
    context.close()


def test_nothing_serious_stands_in_anyones_way(page: Page, volunteering: Served) -> None:
    come(page, volunteering[0])
    nothing_serious(page)
    page.keyboard.press("z")
    expect(page.locator(".closer")).to_be_visible()
    nothing_serious(page)
