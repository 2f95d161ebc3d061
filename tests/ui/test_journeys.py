"""What a person does, in a real Chromium, on a survey that the real commands made."""

import csv
import io
import json
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import FIRST_ID
from tests.ui.browser import eventually, query
from tests.ui.serving import serve

N = 200
PAINTED = """() => {
  const frame = voorwerp.on_screen?.()?.pixels.frame, counts = {};
  if (!frame) return {counts};
  for (const b of frame.bytes) counts[b] = (counts[b] ?? 0) + 1;
  const {w, h, view: [x0, x1]} = frame;
  return {shape: [h, w], counts, x: x0, dw: x1 - x0};
}"""


FRAME = """() => {
  const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name('map'));
  const box = view.el.getBoundingClientRect(), {left, top, width, height} = view.frame.bbox;
  return {x: box.x + left, y: box.y + top, width, height};
}"""


def figure(page: Page) -> dict[str, float]:
    """The map's place on the page, without its axes."""
    return page.evaluate(FRAME)


def wait_for_frame(page: Page) -> None:
    """Until /frame has painted something."""
    page.wait_for_function(f"() => Object.keys(({PAINTED})().counts).length > 1")


def bytes_of(page: Page) -> dict[int, int]:
    """How often each byte stands in the painted frame."""
    return {int(k): v for k, v in page.evaluate(PAINTED)["counts"].items()}


def wait_for_other(page: Page, before: dict[int, int]) -> dict[int, int]:
    """Until another picture than `before` is painted."""
    old = {str(k): v for k, v in before.items()}
    page.wait_for_function(f"before => JSON.stringify(({PAINTED})().counts) !== JSON.stringify(before)", arg=old)
    return bytes_of(page)


def draw_lasso(page: Page, share: float, modifier: str | None = None, offset: float = 0.0) -> None:
    """An ellipse around the middle of the map, `share` of its half-axes; the lasso must be the tool."""
    box = figure(page)
    cx, cy = box["x"] + box["width"] * (0.5 + offset), box["y"] + box["height"] / 2
    page.mouse.move(cx + box["width"] * share, cy)
    if modifier:
        page.keyboard.down(modifier)
    page.mouse.down()
    for k in range(1, 37):
        angle = k / 36 * 2 * math.pi
        page.mouse.move(cx + box["width"] * share * math.cos(angle), cy + box["height"] * share * math.sin(angle))
        time.sleep(0.01)
    page.mouse.up()
    if modifier:
        page.keyboard.up(modifier)


def selected(page: Page) -> int:
    """The count on screen."""
    text = page.locator("text=/of 200 selected/").first.inner_text()
    return int(re.match(r"([\d,]+) of", text).group(1))


def tool(page: Page, key: str, name: str) -> None:
    """Choose a tool by its key, and wait until the session has it, too."""
    page.keyboard.press(key)
    page.wait_for_function("name => voorwerp.on_screen().told.tool === name", arg=name)


def choose(page: Page, label: str, option: str) -> None:
    """Pick from one of the selects."""
    page.get_by_label(label, exact=True).first.select_option(label=option)


@pytest.fixture
def survey_page(open_survey: Callable[[str], Page], served: str) -> Page:
    page = open_survey(served)
    wait_for_frame(page)
    return page


def test_the_map_opens_with_every_subject_and_a_true_colour_bar(survey_page: Page):
    expect(survey_page.get_by_text("200 subjects").first).to_be_visible()
    expect(survey_page.get_by_text("200 of 200 subjects on the map in view")).to_be_visible()
    expect(survey_page.locator(".legend .ticks span")).to_have_count(5)
    both = (
        "() => { const f = Bokeh.documents[0].get_model_by_name('map');"
        f" return [({PAINTED})().shape, [f.inner_height, f.inner_width]]; }}"
    )
    eventually(lambda: survey_page.evaluate(both), lambda read: read[0] == pytest.approx(read[1], abs=1))


def test_the_token_leaves_the_address_bar(survey_page: Page):
    assert "token" not in query(survey_page)


def test_colouring_by_another_column_paints_another_picture_and_another_bar(survey_page: Page):
    before, ticks = bytes_of(survey_page), survey_page.locator(".legend .ticks").inner_text()
    choose(survey_page, "Color by", "magnitude")
    assert 1 in wait_for_other(survey_page, before)  # the subject without a magnitude is grey
    expect(survey_page.locator(".legend .ticks")).not_to_have_text(ticks, use_inner_text=True)
    choose(survey_page, "Color by", "shape")
    expect(survey_page.locator(".legend .swatches")).to_contain_text("elliptical")
    choose(survey_page, "Color by", "Number of subjects")
    expect(survey_page.locator(".legend .note")).to_contain_text("subjects per pixel, drawn as discs")


def test_lambda_moves_the_colours_the_scores_and_the_link(survey_page: Page):
    survey_page.locator(".tile").first.click()
    expect(survey_page.get_by_text("Anomaly score (λ 0.2)")).to_be_visible()
    before, ticks = bytes_of(survey_page), survey_page.locator(".legend .ticks").inner_text()
    slider = survey_page.get_by_label("λ, weight of feature score")
    slider.focus()
    for _ in range(30):
        slider.press("ArrowRight")
    expect(survey_page.get_by_text("Anomaly score (λ 0.5)")).to_be_visible()
    wait_for_other(survey_page, before)
    expect(survey_page.locator(".legend .ticks")).not_to_have_text(ticks, use_inner_text=True)
    survey_page.wait_for_url(re.compile("lambda=0.5"))


def test_lambda_mixes_standardised_scores_where_asked_and_says_so(survey_page: Page):
    survey_page.locator(".tile").first.click()
    expect(survey_page.locator(".legend .note")).to_contain_text("λ 0.2 of raw sums")
    before = survey_page.locator(".subject .score .value").first.inner_text()
    survey_page.get_by_role("button", name="Standardised").click()
    expect(survey_page.get_by_text("Anomaly score (λ 0.2, standardised)")).to_be_visible()
    expect(survey_page.locator(".legend .note")).to_contain_text("λ 0.2 of standardised")
    expect(survey_page.locator(".subject .score .value").first).not_to_have_text(before)
    survey_page.wait_for_url(re.compile("lambda_mode=standardised"))
    href = survey_page.get_by_role("link", name="CSV").get_attribute("href")
    assert href is not None
    assert "lambda_mode=standardised" in href
    survey_page.reload()
    expect(survey_page.locator(".legend .note")).to_contain_text("λ 0.2 of standardised")


def test_the_map_moves_while_the_mouse_still_moves(survey_page: Page):
    survey_page.evaluate(
        """() => {
          window.__frames = 0;
          window.addEventListener("voorwerp-painted", () => { window.__frames += 1; });
        }"""
    )
    box = figure(survey_page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    survey_page.mouse.move(x, y)
    survey_page.mouse.down()
    side = iter(range(10_000))

    def frames() -> int:
        survey_page.mouse.move(x + 60 * math.sin(next(side) / 20), y)
        return survey_page.evaluate("() => window.__frames")

    eventually(frames, lambda n: n >= 5)  # the button is still down
    survey_page.mouse.up()


def test_the_wheel_zooms_to_fewer_subjects(survey_page: Page):
    before = survey_page.evaluate(PAINTED)["dw"]
    box = figure(survey_page)
    survey_page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(6):
        survey_page.mouse.wheel(0, -240)
        time.sleep(0.05)
    expect(survey_page.get_by_text("200 of 200 subjects on the map in view")).to_be_hidden()
    eventually(lambda: survey_page.evaluate(PAINTED)["dw"], lambda width: width < before / 2)


RING = """() => {
  const map = voorwerp.on_screen(), box = map.surface.getBoundingClientRect();
  if (!map.marks.focus.length) return null;
  const [x, y] = map.spot(map.marks.focus[0]);
  return [box.x + x, box.y + y];
}"""


def to_a_subject(page: Page) -> None:
    """Move the mouse over a subject on the map: the one of the gallery's first picture, which is ringed."""
    page.locator(".tile").first.click()
    place = page.wait_for_function(RING).json_value()
    page.mouse.move(place[0] - 8, place[1])
    page.mouse.move(*place, steps=3)
    expect(page.locator(".voorwerp-card")).to_be_visible()


def test_hovering_shows_the_nearest_subject_and_leaving_hides_it(survey_page: Page):
    to_a_subject(survey_page)
    card = survey_page.locator(".voorwerp-card")
    expect(card).to_be_visible()
    expect(card).to_contain_text(re.compile(r"5888489015237\d{5}"))
    expect(card).to_contain_text(re.compile(r"Feature score.*above \d+ of 200"))
    survey_page.wait_for_function("() => document.querySelector('.voorwerp-card img').naturalWidth > 0")
    survey_page.mouse.move(5, 400)
    expect(card).to_be_hidden()


def test_a_click_on_the_map_opens_the_subject_with_its_reconstruction(survey_page: Page):
    to_a_subject(survey_page)
    wanted = survey_page.locator(".voorwerp-card strong").inner_text()
    survey_page.mouse.down()
    survey_page.mouse.up()
    panel = survey_page.locator(".subject")
    expect(panel.locator("h2")).to_have_text(wanted)
    for title in ("Crop, 32 px", "Reconstruction", "Residual", "Feature residual"):
        expect(panel.get_by_text(title, exact=True)).to_be_visible()
    widths = "images => images.map(i => i.naturalWidth)"
    eventually(lambda: panel.locator("figure img").evaluate_all(widths), lambda found: found and min(found) >= 32)
    caption = panel.locator("figure", has_text="Feature residual").locator(".sum")
    score = panel.locator(".score", has_text="Feature score").locator(".value")
    sums = [float(e.inner_text().removeprefix("sum ").replace(",", "")) for e in (caption, score)]
    assert sums[0] == pytest.approx(sums[1], rel=2e-3)
    outline = panel.locator(".crop")
    eventually(outline.bounding_box, lambda box: box and box["width"] > 20)
    expect(panel.locator(".neighbours .tile")).to_have_count(12)
    expect(panel.locator(".columns")).to_contain_text("magnitude")


def test_a_neighbour_and_the_arrow_keys_walk_from_subject_to_subject(survey_page: Page):
    row = survey_page.locator(".tile").first.get_attribute("data-row")
    tile = survey_page.locator(f".gallery .tile[data-row='{row}']")
    tile.click()
    heading = survey_page.locator(".subject h2")
    expect(heading).to_be_visible()
    first = heading.inner_text()
    survey_page.locator(".neighbours .tile").first.click()
    expect(heading).not_to_have_text(first)
    expect(survey_page.locator(".gallery .tile.focus")).to_have_attribute("title", heading.inner_text())
    survey_page.locator(".gallery").evaluate("gallery => { gallery.scrollTop = 0; }")  # it has gone to the neighbour

    def again() -> str:  # a click while the tiles are laid anew is none
        tile.click()
        return heading.inner_text()

    eventually(again, lambda text: text == first)
    survey_page.keyboard.press("ArrowRight")
    expect(heading).not_to_have_text(first)
    survey_page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text(first)


def test_a_long_id_is_exact_in_the_panel_the_link_and_the_page_that_the_link_opens(
    survey_page: Page, open_survey: Callable[[str], Page]
):
    base = survey_page.url.split("?")[0]
    page = open_survey(f"{base}?subject={FIRST_ID}&color=subjects.magnitude&lambda=0.7")
    expect(page.locator(".subject h2")).to_have_text(str(FIRST_ID))
    assert parse_qs(urlsplit(page.url).query)["subject"] == [str(FIRST_ID)]
    expect(page.get_by_text("λ 0.7")).to_be_visible()
    expect(page.locator(".legend .note")).to_contain_text("no value")


def test_lasso_then_subtract_sort_focus_and_undo(survey_page: Page):
    page = survey_page
    tool(page, "l", "lasso")
    draw_lasso(page, 0.36)
    expect(page.locator("text=/of 200 selected/").first).to_be_visible()
    everything = selected(page)
    assert 0 < everything < N
    expect(page.locator(f"text={everything} selected of 200")).to_be_visible()
    page.wait_for_function(f"() => Object.keys(({PAINTED})().counts).some(b => b >= 2 && b < 129)")  # the rest is dim

    draw_lasso(page, 0.24, "Alt")
    expect(page.locator(f"text={everything} of 200 selected")).to_be_hidden()
    fewer = selected(page)
    assert fewer < everything

    draw_lasso(page, 0.24, "Shift")
    expect(page.locator(f"text={everything} of 200 selected")).to_be_visible()

    page.keyboard.press("u")
    expect(page.locator(f"text={fewer} of 200 selected")).to_be_visible()
    choose(page, "Sort by", "magnitude")
    page.get_by_label("Order: highest first").click()
    page.wait_for_url(lambda url: "sort=subjects.magnitude" in url and "order=lowest" in url)
    expect(page.locator(".gallery")).to_have_attribute("aria-busy", "false")
    magnitudes = []
    for place in range(3):
        tile = page.locator(f"#tile-{place}")
        tile.click()
        expect(page.locator(".subject h2")).to_have_text(str(FIRST_ID + int(tile.get_attribute("data-row"))))
        entry = page.locator(".subject .columns dt", has_text=re.compile("^magnitude$"))
        magnitudes.append(float(entry.locator("xpath=following-sibling::dd[1]").inner_text()))
    assert magnitudes == sorted(magnitudes)
    page.keyboard.press("Escape")
    expect(page.get_by_text("Nothing selected")).to_be_visible()


def test_a_box_selects_too(survey_page: Page):
    tool(survey_page, "b", "box")
    box = figure(survey_page)
    survey_page.mouse.move(box["x"] + 60, box["y"] + 5)
    survey_page.mouse.down()
    survey_page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.9, steps=8)
    survey_page.mouse.up()
    expect(survey_page.locator("text=/of 200 selected/").first).to_be_visible()
    assert 0 < selected(survey_page) < N


def test_the_export_has_exactly_the_selected_subjects_and_runs_nothing(survey_page: Page):
    page = survey_page
    tool(page, "l", "lasso")
    draw_lasso(page, 0.3)
    expect(page.locator("text=/of 200 selected/").first).to_be_visible()
    count = selected(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == count
    assert all(re.fullmatch(r"5888489015237\d{5}", row["subject_id"]) for row in rows)
    assert all(row["note"].startswith("'=1+") for row in rows)
    assert {row["survey_id"] for row in rows} != {""}
    assert all(float(row["feature_score"]) >= 0 for row in rows)
    with page.expect_download() as download:
        page.get_by_role("link", name="Parquet").click()
    table = pq.read_table(download.value.path())
    assert sorted(map(str, table["subject_id"].to_pylist())) == sorted(row["subject_id"] for row in rows)
    provenance = json.loads(table.schema.metadata[b"voorwerp"])
    assert provenance["n_selected"] == count
    assert provenance["run_id"] == rows[0]["run_id"] != ""


def test_a_selection_is_kept_and_found_again_after_a_restart(
    finished_survey: Path, tmp_path: Path, open_survey: Callable[[str], Page]
):
    survey = tmp_path / "survey"
    shutil.copytree(finished_survey, survey, ignore=shutil.ignore_patterns("server.lock"))
    with serve(survey, tmp_path / "log") as url:
        page = open_survey(url)
        wait_for_frame(page)
        tool(page, "l", "lasso")
        draw_lasso(page, 0.3)
        expect(page.locator("text=/of 200 selected/").first).to_be_visible()
        count = selected(page)
        page.get_by_placeholder("Name this selection").fill("odd <b>ones</b>")
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.get_by_text("kept as “odd <b>ones</b>”")).to_be_visible()  # as text, never as markup
        page.goto("about:blank")
    with serve(survey, tmp_path / "log") as url:
        page = open_survey(url)
        wait_for_frame(page)
        page.get_by_role("button", name="odd <b>ones</b>, ").click()
        expect(page.locator(f"text={count} of 200 selected")).to_be_visible()
        page.goto("about:blank")


def test_letters_typed_into_a_field_are_no_commands(survey_page: Page):
    tool(survey_page, "l", "lasso")
    draw_lasso(survey_page, 0.3)
    expect(survey_page.locator("text=/of 200 selected/").first).to_be_visible()
    count = selected(survey_page)
    survey_page.get_by_placeholder("Name this selection").click()
    survey_page.keyboard.type("cup lb")
    survey_page.wait_for_timeout(400)
    assert selected(survey_page) == count


def test_a_survey_without_a_map_says_what_to_do_and_shows_the_map_when_it_comes(
    image_survey: Path, finished_survey: Path, tmp_path: Path, open_survey: Callable[[str], Page]
):
    survey = tmp_path / "survey"
    shutil.copytree(image_survey, survey, ignore=shutil.ignore_patterns("server.lock"))
    with serve(survey, tmp_path / "log") as url:
        page = open_survey(url)
        expect(page.get_by_text("No map yet")).to_be_visible()
        expect(page.locator(".gallery .tile").first).to_be_visible()
        shutil.copytree(finished_survey / "runs", survey / "runs", dirs_exist_ok=True)
        shutil.copytree(finished_survey / "maps", survey / "maps", dirs_exist_ok=True)
        wait_for_frame(page)
        expect(page.get_by_text("200 of 200 subjects on the map in view")).to_be_visible()
        page.goto("about:blank")


def test_nothing_overflows_the_window(survey_page: Page):
    size = "() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    for width, height in ((1440, 900), (1024, 768)):
        survey_page.set_viewport_size({"width": width, "height": height})

        def fits(box: dict[str, float], width: int = width, height: int = height) -> bool:
            return 0.4 * width < box["width"] < width and 0.35 * height < box["height"] < height

        eventually(lambda: figure(survey_page), fits)
        eventually(lambda: survey_page.evaluate(size), [width, height].__eq__)
