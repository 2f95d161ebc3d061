"""The page of volunteers in a real Chromium: what it says, how it counts anew, and what it selects."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from explorer.services.volunteers import recount
from tests.ui.serving import serve
from tests.voters import write_crowd

INK = """canvas => { const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0); }"""
# what a machine would complain of first: names of fields, buttons and pictures, roles, tab stops
UNNAMED = """dialog => [...dialog.querySelectorAll(
    "button, input, select, canvas[role], [role=listbox], [role=tabpanel]")]
  .filter(e => e.checkVisibility() && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")
    && !e.textContent.trim() && !e.closest("label")?.textContent.trim()).map(e => e.outerHTML)"""


@pytest.fixture(scope="module")
def crowded(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """200 galaxies with scores and a map, and a simulated crowd."""
    folder = tmp_path_factory.mktemp("crowded")
    survey = Path(shutil.copytree(finished_survey, folder / "survey"))
    write_crowd(survey)
    recount(survey)
    with serve(survey, folder / "log") as url:
        yield url


@pytest.fixture
def sheet(open_survey: Callable[[str], Page], crowded: str) -> Page:
    """The page of volunteers, open."""
    page = open_survey(crowded)
    page.wait_for_function("() => window.voorwerp?.commands?.list().some(c => c.id === 'volunteers')")
    page.keyboard.press("k")
    expect(page.locator("dialog.volunteers .totals")).to_contain_text("of 200 subjects")
    return page


#: Pixels of the accent's color: points and lines, not axes.
SPOTS = """canvas => {
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let i = 0; i < data.length; i += 4)
    n += data[i + 3] > 100 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 20;
  return n;
}"""


def turn(page: Page, name: str) -> Locator:
    page.get_by_role("tab", name=name, exact=True).click()
    return page.locator("dialog.volunteers .body")


#: How many of the open tab's pictures are not as many pixels as they are shown with.
STRETCHED = """body => [...body.querySelectorAll(".plot canvas")].filter(e => e.checkVisibility()
  && (e.width !== Math.round(e.clientWidth * devicePixelRatio)
    || e.height !== Math.round(e.clientHeight * devicePixelRatio))).length"""


def changed(page: Page, path: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Answers of a route as a change makes them."""

    def answer(route: Route) -> None:
        response = route.fetch()
        told = response.json()
        change(told)
        route.fulfill(response=response, json=told)

    page.route(re.compile(rf"/{path}\?"), answer)


def inked(chart: Locator) -> Any:
    return chart.locator("canvas").evaluate(INK)


def test_it_costs_nothing_until_it_is_opened_and_esc_and_its_key_close_it(
    page: Page, open_survey: Callable[[str], Page], crowded: str
):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_survey(crowded)
    assert not [url for url in asked if re.search(r"/volunteers", url)]
    page.get_by_role("button", name="Volunteers").click()
    dialog = page.locator("dialog.volunteers")
    expect(dialog.get_by_role("tab")).to_have_text(["Chosen fraction", "Volunteers", "Retirement", "Machine and crowd"])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("k")
    expect(dialog).to_be_visible()
    page.keyboard.press("k")
    expect(dialog).to_be_hidden()


def test_the_head_says_which_votes_are_counted_and_that_they_are_simulated(sheet: Page):
    dialog = sheet.locator("dialog.volunteers")
    expect(dialog.locator(".badge")).to_have_text("simulated")
    expect(dialog.locator(".totals")).to_have_text("2,380 votes by 30 volunteers on 200 of 200 subjects")
    expect(dialog.get_by_label("Question that is counted")).to_contain_text("workflow 7 · T0 · chosen")
    chips = dialog.locator(".chip")
    expect(chips).to_have_text([re.compile("launch20"), "anonymous sessions"])
    expect(chips.first.get_by_role("checkbox")).to_be_checked()
    expect(chips.last.get_by_role("checkbox")).not_to_be_checked()


def test_fractions_are_drawn_and_a_tag_is_chosen_by_mouse_and_key(sheet: Page):
    body = turn(sheet, "Chosen fraction")
    overall, apart = body.locator(".chart").all()
    expect(overall).to_contain_text("200 of 200 subjects have votes; median")
    expect(apart).to_contain_text(re.compile(r"lowered \d+, raised \d+ of 200; mean"))
    assert body.evaluate(STRETCHED) == 0
    assert min(inked(overall), inked(apart)) > 2000
    rows = body.get_by_role("listbox").get_by_role("option")
    expect(rows.first).to_contain_text(re.compile(r"merger\.\d\d\[\.\d\d, \.\d\d\]414"))  # 41 subjects, 4 taggers
    rows.first.click()
    expect(overall.locator("em")).to_contain_text("merger: 41 subjects, median")
    sheet.get_by_role("listbox", name="Tag groups").press("ArrowDown")
    expect(overall.locator("em")).to_contain_text("voorwerp: 1 subject")
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    expect(rows.nth(1)).to_contain_text("one tagger")


def test_another_count_is_asked_for_and_applied(sheet: Page):
    dialog = sheet.locator("dialog.volunteers")
    again = dialog.get_by_role("button", name="Count again")
    expect(again).to_be_hidden()
    dialog.locator(".chip", has_text="anonymous").get_by_role("checkbox").check()
    dialog.get_by_label("Weights").select_option("none")
    expect(dialog.locator(".pending")).to_have_text(
        "Figures are of workflow 7 · T0 · chosen as counted · Count again for what is chosen here"
    )
    again.click()
    expect(dialog.locator(".totals")).to_contain_text("by 27 volunteers")
    expect(again).to_be_hidden()
    expect(turn(sheet, "Chosen fraction")).to_contain_text("All votes count the same")
    dialog.locator(".chip", has_text="anonymous").get_by_role("checkbox").uncheck()
    dialog.get_by_label("Weights").select_option("experience")
    again.click()
    expect(dialog.locator(".totals")).to_contain_text("by 30 volunteers")


def test_another_question_is_pending_until_it_is_counted(open_survey: Callable[[str], Page], crowded: str):
    page = open_survey(crowded)

    def told(answer: dict[str, Any]) -> None:
        other = answer["questions"][0] | {"task": "T1", "title": "workflow 7 · T1 · chosen", "chosen": False}
        answer["questions"].append(other)
        answer["why_not"] = {"experience": "experience unknown", "log": "experience unknown"}

    changed(page, "volunteers", told)
    page.get_by_role("button", name="Volunteers").click()
    dialog = page.locator("dialog.volunteers")
    question, pending = dialog.get_by_label("Question that is counted"), dialog.locator(".pending")
    expect(pending).to_be_hidden()
    question.select_option("workflow 7 · T1 · chosen")
    expect(pending).to_have_text(
        "Figures are of workflow 7 · T0 · chosen · chosen: Count again for workflow 7 · T1 · chosen"
    )
    expect(dialog.locator(".body")).to_have_css("opacity", "0.45")
    assert question.evaluate("e => e.nextElementSibling.textContent") == "Count again"
    question.select_option("workflow 7 · T0 · chosen")
    expect(pending).to_be_hidden()
    expect(dialog.locator(".body")).to_have_css("opacity", "1")
    weights = dialog.get_by_label("Weights")  # nobody's experience is known: all are alike, and it says why
    assert weights.evaluate("e => e.selectedOptions[0].text") == "every volunteer alike"
    unknown = weights.locator("option:disabled")
    expect(unknown).to_have_text([re.compile("experience unknown")] * 2)
    expect(dialog.locator(".experience")).to_be_hidden()


def test_where_nobody_contributes_skill_is_drawn_against_subjects_seen(sheet: Page):
    def nobody(told: dict[str, Any]) -> None:
        told["n_contributing"] = 0
        told["points"]["contribution"] = [0] * len(told["points"]["contribution"])
        told["curves"]["contribution"], told["half"]["contribution"] = [], None

    changed(sheet, "volunteers/people", nobody)
    body = turn(sheet, "Volunteers")
    cloud, curve = body.locator(".chart").all()
    expect(cloud).to_contain_text("Skill against subjects seen")
    expect(curve).to_contain_text("give half of the classifications")
    expect(curve.locator(".key")).to_have_text(["classifications"])
    assert cloud.locator("canvas").evaluate(SPOTS) > 200


def test_volunteers_are_hashes_and_drawn_by_skill(sheet: Page):
    body = turn(sheet, "Volunteers")
    expect(body.locator("tbody tr")).to_have_count(30)
    names = body.locator("td.volunteer").all_inner_texts()
    assert names.count("anonymous") == 3 and all(re.fullmatch(r"[0-9a-f]{16}|anonymous", name) for name in names)
    cloud, curve = body.locator(".chart").all()
    assert min(inked(cloud), inked(curve)) > 1000
    expect(curve).to_contain_text(re.compile(r"\d+ of 30 give half of the contribution"))


def test_sliders_replay_retirement(sheet: Page):
    body = turn(sheet, "Retirement")
    limit, swap, cascade = body.locator(".rule").all()
    for card in (limit, swap, cascade):
        expect(card).to_contain_text(re.compile(r"agree with known answers\d+ of \d+"))
    expect(limit).to_contain_text("1,000 of 2,380")
    expect(limit.locator("dd", has_text="1,380 of 2,380")).to_have_text("1,380 of 2,38058 %")  # no chance in it
    slider = body.get_by_label("Votes a subject")
    slider.focus()
    sheet.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "6 votes")
    expect(limit).to_contain_text(re.compile(r"1,200 of 2,\d+"))
    body.get_by_label("Detected above").fill("7")
    expect(swap).to_contain_text(re.compile(r"more than the limit’s[+−]\.\d{3}"))
    assert inked(body.locator(".chart")) > 2000


def test_a_quadrant_becomes_the_selection_and_its_picture_the_focus(sheet: Page):
    body = turn(sheet, "Machine and crowd")
    missed = body.locator("section.missed")
    expect(missed.locator(".thumb img").first).to_have_js_property("complete", True)
    expect(missed.locator(".counts")).to_contain_text(re.compile(r"\d+ of 200"))
    level = body.get_by_label("High fraction from")
    before = missed.locator(".counts").inner_text()
    level.fill("14")
    expect(level).to_have_attribute("aria-valuetext", ".70")
    expect(missed.locator(".counts")).not_to_have_text(before)
    k = int(re.match(r"[\d,]+", missed.locator(".counts").inner_text()).group().replace(",", ""))  # type: ignore[union-attr]
    missed.locator(".thumb").first.click()
    expect(sheet.locator("dialog.volunteers")).to_be_hidden()
    expect(sheet.locator(".steering .total")).to_contain_text(re.compile(rf"\b{k}\b"))
    expect(sheet.locator(".gallery-pane .count")).to_contain_text(re.compile(rf"\b{k}\b"))


def test_the_word_select_selects(sheet: Page):
    body = turn(sheet, "Machine and crowd")
    tagged = body.locator("section.tagged")
    expect(tagged.locator(".counts")).to_contain_text("beyond doubt")
    expect(body.locator(".stack .note").last).to_contain_text("Beyond doubt: the whole 95 % interval")
    k = int(re.match(r"[\d,]+", tagged.locator(".counts").inner_text()).group().replace(",", ""))  # type: ignore[union-attr]
    tagged.get_by_text("select ↗").click()
    expect(sheet.locator("dialog.volunteers")).to_be_hidden()
    expect(sheet.locator(".gallery-pane .count")).to_contain_text(re.compile(rf"\b{k}\b"))


def test_every_part_fits_has_names_and_keeps_the_focus_inside(sheet: Page):
    dialog = sheet.locator("dialog.volunteers")
    for width, height in ((1440, 900), (1280, 800)):
        sheet.set_viewport_size({"width": width, "height": height})
        for name in ("Chosen fraction", "Volunteers", "Retirement", "Machine and crowd"):
            body = turn(sheet, name)
            sheet.wait_for_timeout(200)
            assert dialog.evaluate(UNNAMED) == []
            assert body.evaluate(STRETCHED) == 0
            tall, seen, wide, across = body.evaluate(
                "e => [e.scrollHeight, e.clientHeight, e.scrollWidth, e.clientWidth]"
            )
            assert (tall, wide) <= (seen, across), (name, width)
    for _ in range(40):
        sheet.keyboard.press("Tab")
        assert sheet.evaluate(
            "() => document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )
    sheet.get_by_role("tab", name="Machine and crowd").press("ArrowRight")
    expect(sheet.get_by_role("tab", name="Chosen fraction")).to_be_focused()


def test_without_votes_it_says_how_to_get_some(open_survey: Callable[[str], Page], served: str):
    page = open_survey(served)
    page.get_by_role("button", name="Volunteers").click()
    dialog = page.locator("dialog.volunteers")
    expect(dialog.locator(".empty").last).to_have_text(
        "No votes yet. Read what you have with voorwerp ingest SURVEY FILE…, or invite volunteers to /classify."
    )
    expect(dialog.locator(".tabs")).to_be_hidden()
