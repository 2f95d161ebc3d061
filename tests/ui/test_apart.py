"""The pane "Sets apart" in a real Chromium."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import FIRST_ID

BRIGHT = 40  # the first subjects are the brightest; one of them has no magnitude


def half(page: Page, name: str) -> Locator:
    return page.get_by_role("list", name=re.compile(f"^{name}"))


def row(page: Page, name: str, title: str) -> Locator:
    """The row of a column in one of the two lists."""
    button = page.get_by_role("button", name=title, exact=True)
    return half(page, name).locator("li.row").filter(has=button)


@pytest.fixture
def apart(open_survey: Callable[[str], Page], served: str) -> Page:
    page = open_survey(served)
    page.wait_for_function("() => window.voorwerp?.commands?.list().some(c => c.id === 'pane-apart')")
    page.keyboard.press("8")
    expect(half(page, "Rank correlation").locator("li.row").first).to_be_visible()
    return page


def select_the_bright(page: Page) -> None:
    box = page.locator(".finder textarea")
    box.fill("\n".join(str(FIRST_ID + i) for i in range(BRIGHT)))
    box.press("Enter")
    expect(page.locator(".apart .count")).to_contain_text("40 selected against 160 others")


def test_without_a_selection_the_pane_says_what_to_do_and_correlates_all(apart: Page):
    expect(apart.locator(".apart .count")).to_have_text("nothing selected")
    expect(apart.locator(".apart section").first).to_contain_text("Select subjects on the map")
    expect(half(apart, "What differs most").locator("li")).to_have_count(0)
    found = row(apart, "Rank correlation of Anomaly score", "magnitude")
    expect(found).to_contain_text("199 of 200 have both")
    expect(found.locator(".value")).to_contain_text(re.compile(r"[+−]?0\.\d{3}−?0\.\d{3} to −?0\.\d{3}"))
    apart.get_by_label("Score whose rank correlations are shown").select_option("magnitude")
    expect(row(apart, "Rank correlation of magnitude", "Anomaly score")).to_be_visible()
    expect(row(apart, "Rank correlation of magnitude", "magnitude")).to_have_count(0)


def test_what_differs_most_comes_first_and_colors_the_map_or_becomes_a_histogram(apart: Page):
    select_the_bright(apart)
    first = half(apart, "What differs most").locator("li.row").first
    expect(first.get_by_role("button").first).to_have_text("magnitude")
    expect(first).to_contain_text("with a value: 39 of 40, 160 of 160")
    expect(first.locator(".value strong")).to_have_text("0.000")  # none of them is fainter than any other
    expect(first.locator(".value")).to_contain_text(re.compile(r"0\.000 to 0\.0\d\d"))
    expect(first).to_have_class(re.compile("marked"))
    expect(first).to_have_attribute("title", re.compile("with a probability of 0.000"))
    shape = row(apart, "What differs most", "shape")
    expect(shape.locator(".share").first).to_contain_text("50 % against 50 %")
    expect(shape.locator(".share").first).to_contain_text("0.0")
    expect(shape).not_to_have_class(re.compile("marked"))
    expect(half(apart, "What differs most").locator(".foot").last).to_contain_text("comparisons of")

    first.click()
    expect(first.get_by_role("button").first).to_have_attribute("aria-pressed", "true")
    apart.wait_for_function("() => new URLSearchParams(location.search).get('color') === 'subjects.magnitude'")
    shape.get_by_role("button", name="Histogram of shape").click()
    expect(apart.get_by_role("tab", name="Histograms")).to_have_attribute("aria-selected", "true")
    expect(apart.locator(".histograms .cell h3").first).to_have_text("shape")
    apart.keyboard.press("8")
    row(apart, "What differs most", "background rms").get_by_role("button", name="Histogram of background rms").click()
    expect(apart.locator(".histograms .cell h3").first).to_have_text("background rms")


def test_the_pane_follows_the_selection_and_only_while_it_is_in_sight(apart: Page):
    asked: list[str] = []
    apart.on("request", lambda request: asked.append(request.url) if "/apart?" in request.url else None)
    select_the_bright(apart)
    assert len(asked) == 1  # the correlations are those of all subjects, as before
    apart.get_by_label("Subjects of the rank correlations").select_option("the selected")
    expect(row(apart, "Rank correlation", "magnitude")).to_contain_text("39 of 40 have both")
    apart.get_by_role("tab", name="Gallery").click()
    asked.clear()
    apart.keyboard.press("v")
    expect(apart.locator(".gallery-pane .count")).to_contain_text("160")
    apart.wait_for_timeout(600)
    assert asked == []
    apart.keyboard.press("8")
    expect(apart.locator(".apart .count")).to_contain_text("160 selected against 40 others")
    apart.keyboard.press("Escape")
    expect(apart.locator(".apart .count")).to_have_text("nothing selected")
