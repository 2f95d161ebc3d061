"""Grids of clusters on the page where experts grade: a whole grid at a key, what was marked apart, effort counted."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.clustered import write_run
from tests.explorer.logging_in import with_accounts
from tests.ui.serving import free_port
from tests.ui.test_shell import nothing_serious
from tests.ui.test_vet import Place, cells, grade, let_in, ready, saved


@pytest.fixture(scope="module")
def place(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Cluster 0 has the rows to 39, 1 those to 69, 2 the others; 1 is newest, 0 labelled."""
    folder, before = tmp_path_factory.mktemp("grids"), os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(folder / "config")
    try:
        path = Path(shutil.copytree(finished_survey, folder / "survey"))
        with_accounts(path)
        survey = Survey.open(path)
        write_run(survey, np.searchsorted([40, 70], np.arange(survey.n), side="right"), [0.0, 1.5, 0.6])
        survey.close()
        yield Place(path, free_port(), folder)
    finally:
        os.environ["VOORWERP_CONFIG"] = before


@pytest.fixture(scope="module")
def url(place: Place) -> Iterator[str]:
    with place.served() as url:
        yield url


def enter(page: Page, url: str, campaign: str, n: int) -> None:
    """Open a campaign as somebody; a grid of `n` pictures is there."""
    page.context.clear_cookies()
    let_in(page.context, url, "grader-1")
    page.goto(f"{url}/vet/{campaign}")
    cells(page, n)


def grid(page: Page, said: str, n: int) -> None:
    """This grid, of `n` pictures, can be judged."""
    expect(page.locator(".of-grid")).to_have_attribute("data-said", said)
    cells(page, n)


def mark(page: Page, i: int) -> None:
    """Click on a picture, and it is marked."""
    page.locator(".cell").nth(i).click()
    expect(page.locator(".cell").nth(i)).to_have_attribute("data-state", "look")


FAR, NEAR, AMONG = (
    "far from everything labelled so far",
    "at some distance from what is labelled",
    "labelled ones are among them",
)


def test_whole_grids_at_a_key_exceptions_apart_and_one_step_back(page: Page, place: Place, url: str) -> None:
    campaign = place.campaign("Grids", 80, order="clusters")
    enter(page, url, campaign, 25)
    grid(page, f"Cluster 1 of 3 · {FAR} · 30 subjects · grid 1 of 2", 25)
    expect(page.locator("button[data-pass]:visible")).to_have_text(["Grids", "One by one"])
    expect(page.locator(".effort")).to_be_hidden()
    expect(page.locator(".page .go span")).to_have_text("Turn down 25 as X")
    mark(page, 7)
    page.locator(".cell").nth(8).click(modifiers=["Shift"])
    expect(page.locator(".cell").nth(8)).to_have_attribute("data-state", "star")
    expect(page.locator(".besides")).to_have_text("2 for one by one")
    page.keyboard.press("x")
    expect(page.locator(".say")).to_have_text("23 no (X), 2 for one by one.")
    grid(page, f"Cluster 1 of 3 · {FAR} · 30 subjects · grid 2 of 2", 5)
    saved(page)
    (entry,) = place.votes(campaign)
    told = entry.payload
    assert (told["via"], told["cluster"], told["n_keys"], told["n_clicks"]) == ("grid", 1, 1, 2)
    assert Counter(told["grades"].values()) == {"X": 23} and (len(told["kept"]), len(told["interesting"])) == (2, 1)
    expect(page.locator(".effort")).to_have_text("23 subjects in 1 key press and 2 clicks: 87 % fewer than one by one")
    # keys alone: a mark by Space, all others an A
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.locator(".cell[data-state=look]")).to_have_count(1)
    page.keyboard.press("a")
    grid(page, f"Cluster 2 of 3 · {NEAR} · 10 subjects · grid 1 of 1", 10)
    saved(page)
    assert Counter(place.votes(campaign)[-1].payload["grades"].values()) == {"A": 4}
    assert place.votes(campaign)[-1].payload["n_keys"] == 3
    page.keyboard.press("u")  # all of it, and as it was before
    expect(page.locator(".say")).to_have_text("Took back 5 looks of a grid.")
    grid(page, f"Cluster 1 of 3 · {FAR} · 30 subjects · grid 2 of 2", 5)
    expect(page.locator(".cell[data-state=look]")).to_have_count(1)
    expect(page.locator(".cell[data-state='']")).to_have_count(4)
    page.keyboard.press("Shift+U")
    expect(page.locator(".say")).to_have_text("Brought back 5 looks of a grid.")
    grid(page, f"Cluster 2 of 3 · {NEAR} · 10 subjects · grid 1 of 1", 10)
    page.reload()  # where one was
    grid(page, f"Cluster 2 of 3 · {NEAR} · 10 subjects · grid 1 of 1", 10)
    page.keyboard.press("Enter")
    grid(page, f"Cluster 3 of 3 · {AMONG} · 40 subjects · grid 1 of 2", 25)
    page.keyboard.press("[")
    grid(page, f"Cluster 2 of 3 · {NEAR} · 10 subjects · grid 1 of 1", 10)
    expect(page.locator(".besides")).to_have_text("This grid has its grades; mark what is to change.")
    page.keyboard.press("b")
    expect(page.locator(".say")).to_have_text("This grid has its grades: mark what is to change.")
    page.locator(".rail button").nth(2).click()
    grid(page, f"Cluster 3 of 3 · {AMONG} · 40 subjects · grid 1 of 2", 25)
    page.keyboard.press("-")  # 6 × 6
    grid(page, f"Cluster 3 of 3 · {AMONG} · 40 subjects · grid 1 of 2", 36)
    page.locator(".page .go").click()
    grid(page, f"Cluster 3 of 3 · {AMONG} · 40 subjects · grid 2 of 2", 4)
    page.keyboard.press("Enter")
    expect(page.locator(".pause h2")).to_have_text("That was the last grid")
    expect(page.locator(".pause")).to_contain_text("3 subjects wait for a second look")
    saved(page)
    page.keyboard.press("Enter")
    for _ in range(2):
        grade(page, "c")
    ready(page)
    page.keyboard.press("c")
    expect(page.locator(".pause h2")).to_contain_text("Thank you")
    expect(page.locator(".pause")).to_contain_text("80 subjects in ")
    expect(page.locator(".pause")).to_contain_text("fewer than one by one")
    saved(page)
    assert len(place.votes(campaign)) == 8  # five grids, three one by one


def test_of_two_grades_the_marked_get_the_other_one_and_a_lost_answer_counts_once(
    page: Page, place: Place, url: str, troubles: list[str]
) -> None:
    campaign = place.campaign("Two", 30, 40, scheme=SCHEMES["yes-no"], order="clusters")
    enter(page, url, campaign, 25)
    mark(page, 0)
    mark(page, 3)
    expect(page.locator(".besides")).to_have_text("2 marked: the other grade")
    lost: list[str | None] = []

    def lose(route: Route) -> None:
        lost.append(route.request.post_data)
        if len(lost) == 1:
            route.fetch()  # it is on the disk, and the page is not told
            route.abort()
        else:
            route.continue_()

    page.route("**/bulk", lose)
    page.keyboard.press("x")  # no grade of this scheme: turns down
    grid(page, f"Cluster 1 of 1 · {FAR} · 30 subjects · grid 2 of 2", 5)
    saved(page)
    assert len(lost) == 2 and lost[0] == lost[1]
    (entry,) = place.votes(campaign)
    assert Counter(entry.payload["grades"].values()) == {"N": 23, "Y": 2}
    expect(page.locator(".effort")).to_have_text("25 subjects in 1 key press and 2 clicks: 88 % fewer than one by one")
    troubles.clear()


def test_grids_are_for_everyone(page: Page, place: Place, url: str) -> None:
    enter(page, url, place.campaign("Everyone", 80, order="clusters"), 25)
    mark(page, 2)
    for _ in range(2):
        page.keyboard.press("h")
        nothing_serious(page)
    page.keyboard.press("?")
    expect(page.locator("dialog.keys")).to_contain_text("The grade of the whole grid but the marked")
    nothing_serious(page)
