"""An image dropped on the map, in a real Chromium: its marker stands where it belongs, and goes when it should."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from explorer.survey import Survey
from tests.ui.browser import painted, query
from tests.ui.test_journeys import wait_for_frame
from tests.ui.test_map import MAP, rested, until
from tests.ui.test_shell import in_both_themes

NAME = "<img src=x onerror=alert(1)> & a very long name of a galaxy.png"
EVENT = f"""([content, name, kind]) => {{
  const data = new DataTransfer(), on = {MAP}.surface, box = on.getBoundingClientRect();
  data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
  const at = {{clientX: box.x + box.width / 2, clientY: box.y + box.height / 2}};
  on.dispatchEvent(new DragEvent(kind, {{dataTransfer: data, bubbles: true, composed: true, cancelable: true, ...at}}));
}}"""
PLACE = f"""() => {{
  const m = {MAP}, [s, l] = [m.layer.querySelector('.dropped svg'), m.layer].map(e => e.getBoundingClientRect());
  return [s.x + s.width / 2 - l.x, s.y + s.height / 2 - l.y];
}}"""


@pytest.fixture(scope="module")
def survey(finished_survey: Path) -> Survey:
    return Survey.open(finished_survey)


@pytest.fixture
def screen(open_survey: Callable[[str], Page], served: str) -> Page:
    page = open_survey(served)
    wait_for_frame(page)
    rested(page)
    return page


def dropped(page: Page, content: bytes, name: str = NAME) -> None:
    """Let go of a file over the map."""
    told = [base64.b64encode(content).decode(), name]
    page.evaluate(EVENT, [*told, "dragover"])
    page.evaluate(EVENT, [*told, "drop"])


def marker_is_at(page: Page, at: Any, within: float = 1.5) -> None:
    """Check that the marker stands on a place of the plane."""
    painted(page)
    wanted = page.evaluate(f"at => {MAP}.spot(at)", list(map(float, at)))
    assert np.hypot(*np.subtract(page.evaluate(PLACE), wanted)) < within


def test_a_file_over_the_map_is_scored_and_placed(screen: Page, survey: Survey) -> None:
    card, marker = screen.locator(".drop-card"), screen.locator(".layer .dropped")
    content = survey.original(7)[0]
    screen.evaluate(EVENT, [base64.b64encode(content).decode(), NAME, "dragover"])
    expect(screen.locator(".drop-zone.over")).to_have_text(
        "Drop an image here: it is scored, and placed among the subjects"
    )
    dropped(screen, content)
    expect(screen.locator(".drop-zone")).to_be_hidden()
    expect(card.locator(".score")).to_have_count(3)
    expect(card.locator("strong")).to_have_text(NAME)  # as text
    expect(marker).to_have_text(NAME)
    assert card.locator("strong *").count() == 0
    for image in card.locator("figure img").all():
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") == survey.info.size

    in_both_themes(screen)

    where = survey.coordinates(survey.maps()[0].run_id)[7]
    marker_is_at(screen, where[:2])
    screen.evaluate(f"() => {MAP}.zoom(40, 60, 0.5)")
    marker_is_at(screen, where[:2])
    screen.evaluate(f"() => {MAP}.home()")

    first = card.locator(".near button").first
    assert first.get_attribute("data-row") == "7"
    first.click()
    on_it = f"x => Math.abs({MAP}.marks.focus[0][0] - x) < 1e-3"
    screen.wait_for_function(on_it, arg=float(where[0]))
    marker_is_at(screen, screen.evaluate(f"() => {MAP}.marks.focus[0]"))

    before = card.locator(".score b").first.text_content()
    slider = screen.get_by_role("slider", name="weight of feature score")
    slider.evaluate("s => { s.value = s.max; s.dispatchEvent(new Event('input', {bubbles: true})); }")
    expect(card.locator(".score b").first).not_to_have_text(before or "")
    expect(card.locator(".score").first).to_contain_text("(λ 1)")

    screen.keyboard.press("3")
    until(screen, "m.told.solid && m.shown")
    rested(screen)
    until(screen, "m.marks.focus[0].length === 3")
    marker_is_at(screen, screen.evaluate(f"() => {MAP}.marks.focus[0]"))
    screen.keyboard.press("3")
    until(screen, "!m.told.solid")

    card.get_by_role("button", name="Fold the card").click()
    expect(card.locator(".score").first).to_be_hidden()
    marker.click()
    expect(card.locator(".score").first).to_be_visible()
    screen.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(marker).to_have_count(0)
    assert "sel" not in query(screen)


def test_by_key_and_from_a_plane_that_it_has_no_value_in(screen: Page, survey: Survey) -> None:
    card, marker = screen.locator(".drop-card"), screen.locator(".layer .dropped")
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)).save(noise, "png")
    picker = screen.get_by_label("Image to place on the map")
    asked = "e => { e.addEventListener('click', c => { c.preventDefault(); e.dataset.asked = 'yes'; }, {once: true}); }"
    picker.evaluate(asked)  # the browser's own dialog is not the page's
    screen.keyboard.press("q")
    expect(picker).to_have_attribute("data-asked", "yes")
    picker.set_input_files({"name": "noise.png", "mimeType": "image/png", "buffer": noise.getvalue()})
    expect(card.locator(".near button")).to_have_count(12)
    expect(card.locator(".place")).to_contain_text("nearest are")
    expect(marker).to_have_text("noise.png")
    screen.get_by_role("button", name="Scores", exact=True).click()
    until(screen, "!m.told.query.x.startsWith('maps.')")
    expect(marker).to_have_count(1)  # its scores are known
    x = screen.get_by_role("combobox", name="Horizontal axis")
    x.select_option("subjects.magnitude")
    expect(card.locator(".place")).to_have_text(
        "It has no place here: an axis is a column that this image has no value of."
    )
    expect(marker).to_have_count(0)
    card.get_by_role("button", name="Remove the image").click()
    expect(card).to_be_hidden()


def test_what_is_no_image_is_said_in_the_card(screen: Page, survey: Survey, troubles: list[str]) -> None:
    card = screen.locator(".drop-card")
    dropped(screen, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "picture.svg")
    expect(card.locator(".status.bad")).to_have_text("this image cannot be placed: it is not a PNG, JPEG or FITS file")
    expect(screen.locator(".layer .dropped")).to_have_count(0)
    troubles[:] = [t for t in troubles if "400" not in t]
    dropped(screen, survey.original(3)[0], "right.jpg")  # and the next one is taken
    expect(card.locator(".near button").first).to_have_attribute("data-row", "3")
    expect(card.locator(".status")).to_be_hidden()
