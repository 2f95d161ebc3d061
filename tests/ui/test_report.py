"""What becomes of a boundary in a real Chromium: applied, frozen, reported, taken to another survey."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.ui.serving import serve


@pytest.fixture(scope="module")
def served(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("report")
    survey = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with serve(survey, folder / "log") as url:
        yield url


def test_a_boundary_is_applied_frozen_taken_along_and_reported(
    open_survey: Callable[[str], Page], served: str, tmp_path: Path
):
    page = open_survey(served)
    page.keyboard.press("Escape")  # the tour
    page.keyboard.press("Shift+B")
    expect(page.get_by_role("region", name="Boundary")).to_be_visible()
    truth = page.get_by_label("What counts as right")
    expect(truth.locator("option", has_text="shape")).to_have_count(1)
    truth.select_option(label="shape")
    page.get_by_label("Add a gate on a column").select_option(label="Feature score")
    box = page.get_by_role("textbox", name="Feature score from percentile")
    box.fill("80")
    box.press("Enter")
    expect(page.locator(".figures .total")).to_have_text("40 of 200 kept")

    page.get_by_role("button", name="Let what is kept become the selection").click()
    expect(page.get_by_text("40 of 200 selected").first).to_be_visible()

    freeze = page.get_by_role("button", name="Freeze this version and reveal its numbers on the test half")
    expect(freeze).to_be_disabled()  # until it is saved
    page.keyboard.press("Shift+S")
    page.get_by_label("Name of the boundary").fill("bright ones")
    page.keyboard.press("Enter")
    expect(page.locator(".boundary .version")).to_have_text("v1")
    freeze.click()
    page.get_by_role("button", name="Freeze and reveal").click()
    expect(page.locator(".boundary .test")).to_contain_text("revealed once for this truth")
    expect(page.locator(".boundary .test")).to_contain_text(re.compile(r"\d+ of \d+"))

    page.get_by_role("button", name="Boundaries, versions, files").click()
    with page.expect_download() as told:
        page.get_by_role("menuitem", name=re.compile("Export")).click()
    file = tmp_path / told.value.suggested_filename
    told.value.save_as(file)
    assert json.loads(file.read_text())["keep"]["and"][0]["gate"]["column"] == "scores.feature_score"

    page.get_by_role("button", name="Write a report of this boundary").click()
    link = page.get_by_role("link", name="the report")
    expect(link).to_be_visible(timeout=180_000)
    with page.context.expect_page() as opened:
        link.click()
    report = opened.value
    expect(report.get_by_role("heading", name=re.compile("bright ones")).first).to_be_visible()
    expect(report.get_by_text("not comparable").first).to_be_visible()
    assert report.locator("script").count() == 0
    report.close()
