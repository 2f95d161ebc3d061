"""The pane "Curves" in a real Chromium: linked both ways with the boundary at work."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.services.drafts import Drafts
from explorer.state import Draft
from models.boundary import And, Gate
from models.truth import Truth
from tests.ui.browser import eventually, query

BRIGHT = Truth("column", "subjects.magnitude", at_least=18.0)


def plot(page: Page, name: str) -> Locator:
    return page.locator(f'.curves [data-plot="{name}"] .plot')


def click(page: Page, name: str, share_x: float, share_y: float = 0.5) -> None:
    """Press and release at a place of a plot, in shares of its canvas."""
    box = page.locator(f'.curves [data-plot="{name}"] canvas').bounding_box()
    page.mouse.click(box["x"] + share_x * box["width"], box["y"] + share_y * box["height"])


def value(page: Page, name: str) -> float:
    """Where the dot of a plot stands."""
    return float(plot(page, name).get_attribute("aria-valuenow"))


def drafted(page: Page, survey: Path) -> Draft | None:
    """The boundary at work, as the page's link has it."""
    return Drafts(survey).get(query(page).get("boundary", ""))


@pytest.fixture
def curves(open_survey: Callable[[str], Page], served: str, finished_survey: Path) -> Page:
    """The pane, of a draft that keeps all and is judged against the magnitude."""
    linked = Drafts(finished_survey).put(Draft(And(()), BRIGHT))
    page = open_survey(f"{served}&boundary={linked}&pane=curves")
    expect(plot(page, "limit")).to_have_attribute("aria-disabled", "false")
    return page


def test_without_a_truth_the_pane_says_what_to_do(open_survey: Callable[[str], Page], served: str):
    page = open_survey(f"{served}&pane=curves")
    expect(page.locator(".curves .empty")).to_contain_text("Choose a truth in the Boundary panel (Shift B)")
    expect(plot(page, "limit")).to_be_hidden()
    page.get_by_role("button", name="Open the Boundary panel").click()
    expect(page.get_by_role("tab", name="Boundary", exact=True)).to_have_attribute("aria-selected", "true")


def test_a_click_on_a_curve_sets_the_gate_and_an_arrow_moves_it(curves: Page, finished_survey: Path):
    expect(plot(curves, "limit")).to_have_attribute("aria-valuetext", "no limit")
    with curves.expect_response("**/boundary/curves?*"):  # read anew once the boundary rests
        click(curves, "limit", 0.5)
    expect(plot(curves, "limit")).to_have_attribute("aria-valuetext", re.compile("^at least .*: precision"))
    low = value(curves, "limit")
    gate = eventually(lambda: drafted(curves, finished_survey), lambda d: d is not None and d.keep != And(())).keep
    assert gate == And((Gate("scores.feature_score", low=low),))
    plot(curves, "limit").focus()
    curves.keyboard.press("ArrowRight")
    eventually(lambda: value(curves, "limit"), lambda v: v > low)
    expect(plot(curves, "pr")).to_have_attribute("aria-valuetext", re.compile("precision"))


def test_a_click_sets_sigma_and_another_the_hours(curves: Page, finished_survey: Path):
    expect(plot(curves, "sigma")).to_have_attribute("aria-valuetext", re.compile("^Σ 18: precision"))
    curves.locator('.curves [data-plot="budget"] .log').click()
    click(curves, "sigma", 0.8)
    click(curves, "budget", 0.45)  # at once: neither is lost
    eventually(lambda: value(curves, "sigma"), lambda v: v > 18.5)
    draft = eventually(
        lambda: drafted(curves, finished_survey),
        lambda d: d is not None and d.truth != BRIGHT and d.keep != And(()) and d.keep.terms[0].low is not None,
    )
    assert draft.truth.at_least == value(curves, "sigma")
    assert draft.keep.terms[0].column == "scores.feature_score"
    text = re.compile(r"^(\d+) images, [\d.]+ h: ")
    expect(plot(curves, "budget")).to_have_attribute("aria-valuetext", text)
    eventually(lambda: value(curves, "budget"), lambda v: 60 < v < 120)  # of 200, at 0.45 of the axis


def test_four_plots_stand_side_by_side_in_a_small_window_and_one_can_have_it_all(curves: Page):
    for width, height in ((1280, 800), (1440, 900)):
        curves.set_viewport_size({"width": width, "height": height})
        boxes = [plot(curves, name).bounding_box() for name in ("limit", "pr", "sigma", "budget")]
        assert all(box["width"] >= 150 and box["height"] >= 140 for box in boxes)
        assert all(a["x"] + a["width"] <= b["x"] and a["y"] == b["y"] for a, b in pairwise(boxes))
        assert boxes[-1]["y"] + boxes[-1]["height"] <= height
    curves.get_by_role("button", name="Enlarge: precision and recall").click()
    expect(plot(curves, "limit")).to_be_hidden()
    assert plot(curves, "pr").bounding_box()["width"] > 600
    curves.get_by_role("button", name="All plots").click()
    curves.get_by_role("button", name="What it follows").click()
    expect(curves.get_by_role("list", name=re.compile("^Rank correlation of")).locator("li.row").first).to_be_visible()
