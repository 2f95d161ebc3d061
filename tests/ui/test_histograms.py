"""Histograms and brushes, in a real Chromium, by the counts on screen."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.browser import eventually, painted

#: Of the fixture's subjects 0 … 199; 3 has none.
MAGNITUDES = [round(17 + i / 50, 2) for i in range(200) if i != 3]


@pytest.fixture
def pane(open_survey: Callable[[str], Page], served: str) -> Page:
    """The page with the histograms shown."""
    page = open_survey(served)
    page.keyboard.press("Escape")  # the tour
    page.get_by_role("tab", name="Histograms").click()
    expect(cell(page, "Anomaly score").get_by_role("img")).to_be_visible()
    return page


def cell(page: Page, title: str) -> Locator:
    """One histogram."""
    return page.get_by_label(f"Histogram of {title}", exact=True)


def add(page: Page, title: str) -> Locator:
    """Show a column, and wait for its counts."""
    page.get_by_label("Add a column").select_option(label=title)
    found = cell(page, title)
    found.scroll_into_view_if_needed()
    if found.locator("canvas").count():
        expect(found.get_by_role("img")).to_have_attribute("aria-label", re.compile("have a value"))
    return found


def drag(page: Page, histogram: Locator, start: float, end: float) -> None:
    """Brush from one share of the canvas's width to another."""
    box = histogram.locator("canvas").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=12)
    page.mouse.up()


def says(page: Page, k: int) -> None:
    """The pane and the left column both count `k` selected."""
    said = f"{k} selected of 200" if k else "all 200 subjects"
    expect(page.locator(".histograms .count")).to_have_text(said)
    if k:
        expect(page.get_by_text(f"{k} of 200 selected").first).to_be_visible()


def bounds(page: Page, title: str) -> tuple[float, float]:
    """The typed range of a histogram, open ends at infinity."""
    low, high = (
        cell(page, title).get_by_role("textbox", name=f"{title} {end}").input_value() for end in ("from", "to")
    )
    return float(low or "-inf"), float(high or "inf")


def picture(histogram: Locator) -> str:
    """The pixels of the canvas."""
    return histogram.locator("canvas").evaluate("canvas => canvas.toDataURL()")


def reads(page: Page, histogram: Locator, words: re.Pattern) -> None:
    """The card of a bin under the mouse has these words, sooner or later: the mouse moves until they are counted."""
    box = histogram.locator("canvas").bounding_box()

    def card() -> str:
        for aside in (3, 0):
            page.mouse.move(box["x"] + 0.5 * box["width"] + aside, box["y"] + 0.7 * box["height"])
        return histogram.locator(".card").inner_text()

    eventually(card, words.search)


def changes(histogram: Locator, act: Callable[[], object]) -> None:
    """The canvas is painted otherwise after `act`."""
    before = picture(histogram)
    act()
    handle = histogram.locator("canvas").element_handle()
    histogram.page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[handle, before])


def test_a_drag_selects_exactly_those_in_range_and_is_one_step_of_undo(pane: Page):
    magnitude = add(pane, "magnitude")
    expect(magnitude.locator(".missing")).to_have_text("1 missing")
    drag(pane, magnitude, 0.3, 0.62)
    expect(pane.locator(".histograms .count")).to_contain_text("selected of 200")
    painted(pane)
    low, high = bounds(pane, "magnitude")
    assert low < high
    says(pane, sum(low <= m <= high for m in MAGNITUDES))
    pane.get_by_role("button", name="Undo").click()
    says(pane, 0)
    assert bounds(pane, "magnitude") == (-float("inf"), float("inf"))
    expect(pane.get_by_role("button", name="Undo")).to_be_disabled()
    pane.get_by_role("button", name="Redo").click()  # the brush comes back with what it selected
    says(pane, sum(low <= m <= high for m in MAGNITUDES))
    assert bounds(pane, "magnitude") == (low, high)


def test_the_map_and_the_counts_follow_while_the_button_is_down(pane: Page):
    magnitude = add(pane, "magnitude")
    box = magnitude.locator("canvas").bounding_box()
    y = box["y"] + box["height"] / 2
    pane.mouse.move(box["x"] + 0.5 * box["width"], y)
    pane.mouse.down()
    count = pane.locator(".histograms .count")
    for k in range(1, 6):
        before = count.inner_text()
        pane.mouse.move(box["x"] + (0.5 + 0.07 * k) * box["width"], y)
        expect(count).not_to_have_text(before)  # the button is still down
    pane.mouse.up()


def test_a_typed_range_is_exact_and_brushes_are_anded(pane: Page):
    magnitude = add(pane, "magnitude")
    magnitude.get_by_label("magnitude from").fill("18")
    magnitude.get_by_label("magnitude from").press("Enter")
    says(pane, sum(m >= 18 for m in MAGNITUDES))
    magnitude.get_by_label("magnitude to").fill("18.5")
    magnitude.get_by_label("magnitude to").press("Enter")
    says(pane, sum(18 <= m <= 18.5 for m in MAGNITUDES))
    add(pane, "shape").get_by_role("button", name=re.compile("^spiral")).click()
    says(pane, sum(18 <= m <= 18.5 for m in MAGNITUDES[0:3:2] + [17 + i / 50 for i in range(4, 200, 2)]))
    magnitude.get_by_label("magnitude from").press("Escape")  # that brush goes, the other stays
    says(pane, 100)
    magnitude.get_by_label("magnitude from").fill("bright")
    magnitude.get_by_label("magnitude from").press("Enter")
    expect(magnitude.get_by_label("magnitude from")).to_have_attribute("title", "this is no number")
    says(pane, 100)


def test_a_brush_obeys_how_a_region_meets_the_selection(pane: Page):
    magnitude = add(pane, "magnitude")
    shape = add(pane, "shape")
    shape.get_by_role("button", name=re.compile("^spiral")).click()
    says(pane, 100)
    pane.get_by_role("button", name="Subtract", exact=True).click()
    magnitude.get_by_label("magnitude from").fill("18")
    magnitude.get_by_label("magnitude from").press("Enter")
    says(pane, 25)  # spirals fainter than 18 are gone: 0, 2, … 48 stay
    magnitude.get_by_label("magnitude from").fill("19")  # the same brush, of the same selection
    magnitude.get_by_label("magnitude from").press("Enter")
    says(pane, 50)
    magnitude.get_by_label("magnitude from").press("Escape")
    says(pane, 100)


def test_the_handles_are_sliders(pane: Page):
    magnitude = add(pane, "magnitude")
    low = magnitude.get_by_role("slider", name="magnitude: selected from")
    low.focus()
    for _ in range(3):
        low.press("ArrowRight")
    step = (max(MAGNITUDES) - min(MAGNITUDES)) / 80
    says(pane, sum(m >= min(MAGNITUDES) + 3 * step - 1e-9 for m in MAGNITUDES))
    assert float(low.get_attribute("aria-valuenow")) == pytest.approx(min(MAGNITUDES) + 3 * step)
    low.press("PageUp")  # to the median
    says(pane, 100)
    expect(low).to_have_attribute("aria-valuetext", "19")
    low.press("Escape")
    says(pane, 0)
    expect(low).to_have_attribute("aria-valuetext", "open")


def test_a_selection_from_elsewhere_takes_the_brush_away(pane: Page):
    magnitude = add(pane, "magnitude")
    drag(pane, magnitude, 0.3, 0.62)
    expect(magnitude.locator(".brushed")).to_be_visible()
    painted(pane)
    low, high = bounds(pane, "magnitude")
    says(pane, sum(low <= m <= high for m in MAGNITUDES))  # the brush's last word: what follows is from elsewhere
    pane.get_by_role("button", name="Invert", exact=True).click()
    expect(magnitude.locator(".brushed")).to_have_count(0)


def test_lambda_moves_the_histogram_and_ends_its_brush(pane: Page):
    score = cell(pane, "Anomaly score")
    drag(pane, score, 0.4, 0.9)
    expect(score.locator(".brushed")).to_be_visible()
    slider = pane.get_by_role("slider", name=re.compile("^λ|weight of feature", re.IGNORECASE)).first
    changes(score, lambda: [slider.press("ArrowRight") for _ in range(30)])
    expect(score.locator(".brushed")).to_have_count(0)
    expect(pane.locator(".histograms .count")).to_contain_text("selected of 200")  # the selection is a set, and stays


def test_switches_paint_otherwise_and_are_kept(pane: Page):
    magnitude = add(pane, "magnitude")
    drag(pane, magnitude, 0.3, 0.62)
    pane.mouse.move(5, 5)
    for name in ("Shares", "Log counts", "Percentiles"):
        button = pane.locator(".histograms").get_by_role("button", name=name)
        changes(magnitude, button.click)
    changes(magnitude, magnitude.get_by_role("button", name="Logarithmic values of magnitude").click)
    changes(magnitude, magnitude.get_by_role("button", name="Enlarge the brushed range of magnitude").click)
    cell(pane, "Image score").get_by_role("button", name="Remove the histogram of Image score").click()
    expect(cell(pane, "Image score")).to_have_count(0)
    pane.reload()
    pane.get_by_role("tab", name="Histograms").click()
    expect(cell(pane, "magnitude")).to_be_visible()
    expect(cell(pane, "Image score")).to_have_count(0)
    expect(pane.locator(".histograms").get_by_role("button", name="Shares")).to_have_attribute("aria-pressed", "true")


def test_the_pointer_reads_a_bin(pane: Page):
    magnitude = add(pane, "magnitude")
    drag(pane, magnitude, 0.3, 0.62)
    reads(pane, magnitude, re.compile(r"\d+ of 199 all.*\d+ of \d+ selected", re.DOTALL))


def test_what_is_in_view_is_counted_beside(pane: Page):
    magnitude = add(pane, "magnitude")
    pane.locator(".histograms").get_by_role("button", name="In view").click()
    frame = pane.evaluate(
        """() => {
          const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name('map'));
          const box = view.el.getBoundingClientRect(), {left, top, width, height} = view.frame.bbox;
          return [box.x + left + width / 2, box.y + top + height / 2];
        }"""
    )
    pane.mouse.move(*frame)
    for _ in range(5):
        pane.mouse.wheel(0, -240)
    reads(pane, magnitude, re.compile(r"of \d+ in view"))
