"""Candidates of a campaign, taken along from the sheet in a real Chromium."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.services.campaigns import Plan
from explorer.services.desk import Desk
from models.grades import SCHEMES
from tests.ui.serving import serve

READY = "() => window.voorwerp?.commands?.list().some(c => c.id === 'vetting')"


@pytest.fixture
def graded(image_survey: Path, tmp_path: Path) -> Iterator[str]:
    """200 galaxies, and a campaign of twelve, of which a grader found three."""
    path = shutil.copytree(image_survey, tmp_path / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with Desk.open(path) as desk:
        desk.ledger.save_selection("odd", np.arange(12), desk.explore.survey.subject_ids, who="local")
        one = desk.campaigns.of_selection(Plan("Rings", SCHEMES["abcx"], repeats=0.0), "odd", "local")
        grades = {item.key: "AAB"[item.row] if item.row < 3 else "X" for item in desk.vetting.queue(one.id, "grader-1")}
        desk.vetting.bulk(one.id, "grader-1", grades, seconds=30.0)
    with serve(path, tmp_path / "log") as url:
        yield url


@pytest.fixture
def taking(open_survey: Callable[[str], Page], graded: str) -> Locator:
    page = open_survey(graded)
    page.wait_for_function(READY)
    page.keyboard.press("Shift+V")
    sheet = page.locator("dialog.campaigns")
    expect(sheet.locator(".headline .go")).to_contain_text("3 of 12")
    return sheet.locator(".taking")


def downloaded(taking: Locator, name: str) -> tuple[str, bytes]:
    """The file behind a link: its name and content."""
    with taking.page.expect_download() as got:
        taking.get_by_role("link", name=name, exact=True).click()
    return got.value.suggested_filename, Path(got.value.path()).read_bytes()


def test_candidates_are_taken_along_as_files(taking: Locator) -> None:
    expect(taking.get_by_role("link")).to_have_text(
        ["CSV", "JSON", "Parquet", "VOTable", "FITS", "DS9", "PDF", "HTML", "Labels"]
    )
    name, content = downloaded(taking, "CSV")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert (name, len(rows)) == ("Rings.csv", 12)
    taking.get_by_label("Candidates to take along").select_option("found")
    expect(taking.get_by_role("link", name="CSV")).to_have_attribute("href", re.compile(r"format=csv&found=1$"))
    rows = list(csv.DictReader(io.StringIO(downloaded(taking, "CSV")[1].decode())))
    assert [row["grade"] for row in rows] == ["A", "A", "B"]
    assert b"grader-1" not in content
    told = json.loads(downloaded(taking, "JSON")[1])
    assert told["only"] == "what is looked for"
    assert downloaded(taking, "PDF")[1].startswith(b"%PDF")
    expect(taking.get_by_role("button", name="Send (SAMP)")).to_be_visible()  # the server is this desktop's
