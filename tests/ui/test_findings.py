"""A run that learned from labels in the dialog of runs, in a real Chromium: stages, pictures, and what it found."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from explorer.services.jobs import sign_lock, take_lock
from explorer.survey import Survey
from models.artifacts import RUN_JSON, Run
from tests.explorer.found import FOUND, NASTY, findings_of, history_of, write_found
from tests.ui.browser import eventually, query
from tests.ui.serving import serve
from tests.ui.test_runs import INK

LIVE = "20270102-000000-live"


@pytest.fixture(scope="module")
def learned(image_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A survey with a run that has found something, and one at work that has not: its URL, and the latter's folder."""
    folder = tmp_path_factory.mktemp("learned")
    survey = shutil.copytree(image_survey, folder / "survey")
    opened = Survey.open(survey)
    write_found(survey, opened.subject_ids)
    live = write_found(survey, opened.subject_ids, LIVE, "running")
    opened.close()
    for path in [*live.glob("findings.json"), *live.glob("grids/*"), live / "scores.parquet"]:
        path.unlink()
    (live / "history.jsonl").write_text(json.dumps(history_of(("network", 1, 4))[0]) + "\n")
    lock = take_lock(live)
    sign_lock(lock, os.getpid(), 1)
    with serve(survey, folder / "log") as url:
        yield url, live
    os.close(lock)


@pytest.fixture
def found(open_survey: Callable[[str], Page], learned: tuple[str, Path]) -> Page:
    """The dialog at the run that has found something."""
    page = open_survey(learned[0])
    page.keyboard.press("r")
    page.locator(f"dialog.runs .run[data-run='{FOUND}']").click()
    expect(page.locator("dialog.runs .lead .said p").first).to_be_visible()
    return page


def test_what_was_found_comes_first_then_what_says_so_as_text_alone(found: Page) -> None:
    dialog = found.locator("dialog.runs")
    expect(dialog.locator(".lead .said p")).to_have_text(
        ["Accuracy .9 (12 of 14, 95 % interval .6 to 1).", "Experts only do worse."]
    )
    expect(dialog.locator(".caveats li")).to_have_text(["The labels are simulated."])
    expect(dialog.locator(".findings + .work")).to_have_count(1)
    expect(dialog.locator(".findings .table tbody tr").nth(1).locator("th, td")).to_have_text([NASTY, "2", "–"])
    cells = dialog.locator(".findings .matrix tbody td")
    expect(cells).to_have_text(["1292 %", "18 %", "0", "2100 %"])
    expect(cells.nth(1)).to_have_class("mistaken")
    expect(dialog.locator(".findings b[onclick]")).to_have_count(0)
    curve = dialog.locator(".findings .curve", has_text="Labels against error (simulated)")
    expect(curve.locator(".key li")).to_have_text(["BALD0.2 (0.16 to 0.24)", "random0.3"])
    eventually(lambda: curve.locator("canvas").evaluate(INK), lambda inked: inked > 3000)
    curve.locator("canvas").hover(position={"x": 60, "y": 60})
    expect(curve.locator(".key li").first).to_have_text("BALD1 (0.8 to 1.2) at 1")
    expect(dialog.locator(".tables")).to_contain_text("grades of A (simulated)")


def test_stages_and_pictures_are_walked_through_together(found: Page) -> None:
    dialog, address = found.locator("dialog.runs"), query(found)
    stages = dialog.get_by_role("radiogroup", name="Stages").get_by_role("radio")
    expect(stages).to_have_text(["network2 epochs1", "classifier, fold 13 epochs0.6667", "classifier, fold 22 epochs1"])
    expect(stages.nth(2)).to_have_attribute("aria-checked", "true")
    expect(dialog.locator(".training .key")).to_contain_text("the other folds")
    expect(dialog.locator(".caption")).to_have_text("classifier, fold 2, epoch 2 of 5")
    expect(dialog.locator(".labels span")).to_have_text(["surest smooth", "most unsure", f"smooth taken for {NASTY}"])
    found.keyboard.press("ArrowLeft")
    expect(dialog.locator(".caption")).to_have_text("network, epoch 2 of 2")
    expect(stages.nth(0)).to_have_attribute("aria-checked", "true")
    expect(dialog.locator(".labels span")).to_have_text(["real", "made again"])
    stages.nth(1).click()  # has no picture of its own
    expect(stages.nth(1)).to_have_attribute("aria-checked", "true")
    expect(dialog.locator(".training figcaption b")).to_have_text(["0.3333", "0.6667"])
    stages.nth(1).press("ArrowDown")
    expect(stages.nth(2)).to_be_focused()
    expect(dialog.locator(".caption")).to_have_text("classifier, fold 2, epoch 2 of 5")
    assert query(found) == address


@pytest.mark.parametrize("width", [1024, 1280])
def test_nothing_is_cut_off_on_a_smaller_screen(found: Page, width: int) -> None:
    found.set_viewport_size({"width": width, "height": 768})
    try:
        eventually(
            lambda: found.evaluate(
                """() => { const part = voorwerp.shell.deep('dialog.runs section');
                const right = e => e.getBoundingClientRect().right;
                return [...part.querySelectorAll('.one *')].filter(e => e.getClientRects().length && !e.closest('.wide')
                  && right(e) > right(part) + 1).map(e => e.className); }"""
            ),
            lambda outside: not outside,
        )
    finally:
        found.set_viewport_size({"width": 1440, "height": 900})


def test_a_run_at_work_is_followed_and_what_it_finds_appears_below(
    open_survey: Callable[[str], Page], learned: tuple[str, Path]
) -> None:
    url, live = learned
    page = open_survey(url)
    page.keyboard.press("r")
    dialog = page.locator("dialog.runs")
    expect(dialog.locator(f".run[data-run='{LIVE}']")).to_have_attribute("aria-current", "true")
    expect(dialog.locator(".training h3.stage")).to_have_text("network")
    expect(dialog.get_by_role("radiogroup", name="Stages")).to_be_hidden()
    expect(dialog.locator(".lead")).to_be_hidden()
    with (live / "history.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in history_of(("classifier, fold 1", 2, 4))))
    stages = dialog.get_by_role("radiogroup", name="Stages").get_by_role("radio")
    expect(stages).to_have_text(["network1 epoch2", "classifier, fold 12 of 4 epochs1"])
    expect(stages.nth(1)).to_have_attribute("aria-checked", "true")
    findings_of(3).write(live)
    expect(dialog.locator(".lead .said p").first).to_contain_text("3 of 5")
    expect(dialog.locator(".work + .findings")).to_have_count(1)
    findings_of(5).write(live)
    expect(dialog.locator(".lead .said p").first).to_contain_text("5 of 7")
    run = Run.read(live / RUN_JSON)
    run.state = "done"
    shutil.copy(live.parent / FOUND / "scores.parquet", live / "scores.parquet")
    run.write(live / RUN_JSON)
    expect(dialog.locator(".one .state")).to_have_text("done")
    expect(dialog.locator(".findings + .work")).to_have_count(1)
    dialog.get_by_role("button", name="Color by this run").click()
    eventually(lambda: query(page), lambda now: now.get("run") == LIVE)
    expect(page.get_by_label("Color by", exact=True).first).to_have_value("scores.predicted")
