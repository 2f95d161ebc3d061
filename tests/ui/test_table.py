"""The table below the map, in a real Chromium."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.benchmarks.synthetic import write_survey
from tests.conftest import FIRST_ID
from tests.ui.browser import eventually
from tests.ui.serving import serve

MANY = 400_000  # lines of 26 px: more than browsers let an element be high


def lines(page: Page) -> Locator:
    return page.locator(".table .floor .line")


def column(page: Page, title: str) -> list[str]:
    """What the lines on screen say under a title, from the top."""
    titles = page.locator(".table .head .cell").all_inner_texts()
    at = next(i for i, text in enumerate(titles) if text.split("\n")[0].startswith(title))
    placed = lines(page).evaluate_all(
        "(lines, at) => lines.map(l => [Number(l.ariaRowIndex), l.querySelectorAll('.cell')[at].innerText])", at
    )
    return [text for _, text in sorted(placed)]


def header(page: Page, title: str) -> Locator:
    return page.get_by_role("columnheader", name=re.compile(f"^{title}"))


def filter_box(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Filter", exact=True)


def show_table(page: Page) -> Page:
    page.wait_for_function("() => window.voorwerp?.commands?.list().some(c => c.id === 'pane-table')")
    page.keyboard.press("7")
    expect(lines(page).first).to_be_visible()
    expect(lines(page).first.locator(".cell.name")).not_to_be_empty()
    expect(page.get_by_role("grid", name="Table of subjects")).not_to_have_attribute("aria-busy", "true")
    return page


@pytest.fixture
def table(open_survey: Callable[[str], Page], served: str) -> Page:
    return show_table(open_survey(served))


def test_a_header_sorts_both_ways_and_says_so_with_what_is_missing_last(table: Page):
    expect(table.locator(".table .told")).to_have_text("200 subjects")
    expect(table.get_by_role("grid", name="Table of subjects")).to_have_attribute("aria-rowcount", "201")
    expect(header(table, "Anomaly score")).to_have_attribute("aria-sort", "descending")
    header(table, "magnitude").get_by_role("button").click()
    expect(header(table, "magnitude")).to_have_attribute("aria-sort", "descending")
    expect(lines(table).first).to_contain_text("20.98")
    assert column(table, "magnitude")[:3] == ["20.98", "20.96", "20.94"]
    assert column(table, "Subject")[:2] == [str(FIRST_ID + 199), str(FIRST_ID + 198)]  # every digit
    table.wait_for_url(re.compile("sort=subjects.magnitude"))  # the gallery, too
    header(table, "magnitude").get_by_role("button").click()
    expect(header(table, "magnitude")).to_have_attribute("aria-sort", "ascending")
    expect(lines(table).first).to_contain_text("17.00")
    assert column(table, "magnitude")[0] == "17.00"
    table.get_by_role("grid", name="Table of subjects").press("End")
    expect(table.locator(".table .line.focus .missing")).to_have_text("–")
    expect(table.locator(".subject h2")).to_have_text(str(FIRST_ID + 3))


def test_texts_sort_and_stand_there_as_text(table: Page):
    table.get_by_role("button", name="Columns of the table").click()
    table.get_by_role("checkbox", name="note").check()
    table.keyboard.press("Escape")
    header(table, "note").get_by_role("button").click()
    expect(header(table, "note")).to_have_attribute("aria-sort", "ascending")
    expect(lines(table).first).to_contain_text("=1+0")
    assert column(table, "note")[:3] == ["=1+0", "=1+1", "=1+10"]


def test_the_arrow_keys_walk_and_a_click_opens_and_only_lines_on_screen_exist(table: Page):
    grid = table.get_by_role("grid", name="Table of subjects")
    before = lines(table).count()
    lines(table).nth(1).click()
    heading = table.locator(".subject h2")
    second = lines(table).nth(1).locator(".cell.name").inner_text()
    expect(heading).to_have_text(second)
    grid.press("ArrowDown")
    third = lines(table).nth(2).locator(".cell.name").inner_text()
    expect(heading).to_have_text(third)
    expect(table.locator(".table .line.focus .name")).to_have_text(third)
    expect(grid).to_have_attribute("aria-activedescendant", "line-2")
    for _ in range(20):
        grid.press("ArrowDown")
    expect(table.locator(".table .line.focus")).to_have_attribute("aria-rowindex", "24")
    expect(table.locator(".table .line.focus")).to_be_in_viewport()
    assert lines(table).count() == before < 30
    table.wait_for_function(
        "grid => [...grid.querySelectorAll('.picture img')].every(i => i.naturalWidth > 0)", arg=grid.element_handle()
    )


@pytest.mark.parametrize("pane", ["5", "6", "8"])
def test_what_is_typed_for_the_filter_reaches_it_before_the_table_stands(open_survey, served: str, pane: str):
    page = open_survey(served)
    page.keyboard.press(pane)
    page.keyboard.press("\\")
    page.keyboard.type("magnitude > 20 and nhs")
    expect(filter_box(page)).to_have_value("magnitude > 20 and nhs")
    expect(filter_box(page)).to_be_focused()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_filter_is_completed_narrows_at_once_and_is_selected_under_its_own_name(table: Page):
    table.keyboard.press("\\")
    box = filter_box(table)
    expect(box).to_be_focused()
    table.keyboard.type("magn", delay=20)
    offers = table.get_by_role("listbox", name="What may stand here")
    expect(offers.get_by_role("option").first).to_contain_text("magnitude")
    expect(box).to_have_attribute("aria-expanded", "true")
    table.keyboard.press("Tab")
    expect(box).to_have_value("magnitude ")
    table.keyboard.type(" > 20 and shape = el", delay=20)
    expect(offers.get_by_role("option", name="elliptical")).to_be_visible()
    table.keyboard.press("Enter")
    expect(box).to_have_value(re.compile(r"^magnitude > 20 and shape = elliptical ?$"))
    expect(table.locator(".table .said")).to_have_text("25 of 200 match")
    header(table, "magnitude").get_by_role("button").click()
    expect(lines(table).first).to_contain_text("20.98")
    assert {float(text) > 20 for text in column(table, "magnitude")} == {True}
    table.get_by_role("button", name="Select these").click()
    expect(table.locator(".table .told")).to_have_text("25 selected")
    expect(table.get_by_label("Name this selection")).to_have_value("magnitude > 20 and shape = elliptical")
    box.fill("")
    expect(table.locator(".table .said")).to_be_empty()
    scopes = table.get_by_role("group", name="What the table lists")
    scopes.get_by_role("button", name="All").click()
    expect(table.locator(".table .told")).to_have_text("200 subjects")
    box.fill("shape = elliptical")
    expect(table.locator(".table .said")).to_have_text("100 of 200 match")
    table.get_by_label("How these meet the selection").select_option("subtract")
    table.get_by_role("button", name="Select these").click()
    expect(scopes.get_by_role("button", name="Selection")).to_be_disabled()


def test_a_filter_that_is_wrong_says_where_and_the_table_stays(table: Page):
    box = filter_box(table)
    box.fill("magnitude >> 3")
    box.press("Escape")
    box.press("Enter")
    expect(table.locator(".table .said")).to_contain_text("character 12")
    expect(table.locator(".table .mirror mark")).to_have_text(">")
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(table.get_by_role("button", name="Select these")).to_be_disabled()
    expect(lines(table).first.locator(".cell.name")).not_to_be_empty()
    box.fill("magnitude > 30")
    expect(table.get_by_text("No subject matches this filter.")).to_be_visible()
    expect(box).to_have_attribute("aria-invalid", "false")


def test_letters_in_the_filter_are_no_commands_and_escape_clears_nothing(table: Page):
    box = filter_box(table)
    box.fill("shape = spiral")
    table.get_by_role("button", name="Select these").click()
    expect(table.locator(".table .told")).to_have_text("100 selected")
    box.focus()
    table.keyboard.type(" and 5 = 5 uvc", delay=10)
    table.keyboard.press("Escape")
    table.keyboard.press("Escape")
    expect(table.locator(".table .told")).to_have_text("100 selected")
    expect(table.get_by_role("tab", name="Table")).to_have_attribute("aria-selected", "true")


def test_the_columns_that_were_chosen_are_there_again(table: Page):
    expect(header(table, "shape")).to_be_visible()
    table.get_by_role("button", name="Columns of the table").click()
    table.get_by_role("checkbox", name="shape").uncheck()
    expect(header(table, "shape")).to_have_count(0)
    table.reload()
    show_table(table)
    expect(header(table, "magnitude")).to_be_visible()
    expect(header(table, "shape")).to_have_count(0)
    table.get_by_role("button", name="Columns of the table").click()
    table.get_by_role("button", name="As at first").click()
    expect(header(table, "shape")).to_be_visible()


def test_lambda_moves_the_scores_in_the_table(table: Page):
    before = column(table, "Anomaly score")
    table.get_by_role("slider", name=re.compile("λ")).first.fill("0.9")
    expect(header(table, "Anomaly score")).to_contain_text("λ 0.9")
    expect(lines(table).first).not_to_contain_text(before[0])
    after = [float(text.replace(",", "")) for text in column(table, "Anomaly score")]
    assert after == sorted(after, reverse=True)
    assert len(after) > 5


def test_the_last_of_very_many_lines_can_be_reached(tmp_path: Path, open_survey: Callable[[str], Page]):
    write_survey(tmp_path / "survey", MANY)
    with serve(tmp_path / "survey", tmp_path / "log", timeout=120) as url:
        page = show_table(open_survey(url))
        grid = page.get_by_role("grid", name="Table of subjects")
        lines(page).first.click()
        grid.press("End")
        last = page.locator(".table .line.focus")
        expect(last).to_have_attribute("aria-rowindex", str(MANY + 1))
        expect(last).to_be_in_viewport()
        grid.press("ArrowUp")
        expect(page.locator(".table .line.focus")).to_have_attribute("aria-rowindex", str(MANY))
        grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight / 2; }")
        top = "grid => Math.min(...[...grid.querySelectorAll('.floor .line[data-row]')].map(l => l.ariaRowIndex))"
        eventually(lambda: grid.evaluate(top), lambda first: first == pytest.approx(MANY / 2, rel=0.01))
        assert lines(page).count() < 40
        page.goto("about:blank")
