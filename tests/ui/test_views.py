"""What a person has before them outlives everything that changes around it: a selection, and the link of a view."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browser import eventually, query, wait_until_idle
from tests.ui.serving import serve
from tests.ui.test_journeys import choose, draw_lasso, selected, tool, wait_for_frame


@pytest.fixture
def survey_page(open_survey: Callable[[str], Page], served: str) -> Page:
    page = open_survey(served)
    wait_for_frame(page)
    return page


def some_selected(page: Page) -> int:
    """Draw around a part of the map; returns how many are in it."""
    tool(page, "l", "lasso")
    draw_lasso(page, 0.3)
    expect(page.locator("text=/of 200 selected/").first).to_be_visible()
    k = selected(page)
    assert 0 < k < 200
    return k


def test_a_selection_survives_colors_axes_turning_and_every_pane(survey_page: Page):
    page = survey_page
    k = some_selected(page)
    choose(page, "Color by", "magnitude")
    page.get_by_label("Color by", exact=True).first.focus()
    page.keyboard.press("Escape")  # leaves the menu, and clears nothing
    expect(page.get_by_text(f"{k} of 200 selected").first).to_be_visible()
    choose(page, "Horizontal axis", "Feature score")
    choose(page, "Vertical axis", "Image score")
    expect(page.get_by_text(f"{k} of 200 selected").first).to_be_visible()
    page.keyboard.press("3")
    page.wait_for_function("() => voorwerp.on_screen().told.solid")
    for key in "6785":
        page.keyboard.press(key)
        expect(page.get_by_text(f"{k} of 200 selected").first).to_be_visible()
    page.keyboard.press("v")
    expect(page.get_by_text(f"{200 - k} of 200 selected").first).to_be_visible()
    page.keyboard.press("u")
    page.keyboard.press("u")
    expect(page.get_by_text("Nothing selected").first).to_be_visible()
    page.keyboard.press("Shift+U")
    expect(page.get_by_text(f"{k} of 200 selected").first).to_be_visible()


def test_the_link_of_a_view_opens_it_again_after_a_restart(
    open_survey: Callable[[str], Page], finished_survey: Path, tmp_path: Path, page: Page
):
    with serve(shutil.copytree(finished_survey, tmp_path / "survey"), tmp_path / "log") as url:
        open_survey(url)
        wait_for_frame(page)
        k = some_selected(page)
        choose(page, "Color by", "shape")
        choose(page, "Horizontal axis", "magnitude")
        page.keyboard.press("7")
        told = {"selection=", "x=subjects.magnitude", "color=subjects.shape", "pane=table"}
        page.wait_for_url(lambda found: all(part in found for part in told))
        link = query(page)
        page.goto("about:blank")
    assert link["pane"] == "table"
    with serve(tmp_path / "survey", tmp_path / "log") as url:
        asked = "&".join(f"{key}={value}" for key, value in link.items())
        open_survey(f"{url}&{asked}")
        wait_for_frame(page)
        expect(page.get_by_text(f"{k} of 200 selected").first).to_be_visible()
        expect(page.get_by_label("Color by", exact=True).first).to_have_value("subjects.shape")
        expect(page.get_by_label("Horizontal axis", exact=True).first).to_have_value("subjects.magnitude")
        expect(page.get_by_role("tab", name="Table")).to_have_attribute("aria-selected", "true")
        wait_until_idle(page)
        eventually(lambda: {key: query(page).get(key) for key in link}, lambda found: found == link)
        page.goto("about:blank")


def test_the_pane_below_the_map_is_resized_by_its_edge_and_by_keys(survey_page: Page):
    page = survey_page
    edge = page.get_by_role("separator", name="Height of what stands below the map")
    box = edge.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] - 96, steps=5)
    page.mouse.up()
    eventually(lambda: edge.bounding_box()["y"], lambda y: y == pytest.approx(box["y"] - 100, abs=3))
    edge.focus()
    edge.press("ArrowDown")
    eventually(lambda: edge.bounding_box()["y"], lambda y: y == pytest.approx(box["y"] - 76, abs=3))
