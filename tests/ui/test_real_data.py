"""Real data of every kind, from the files to the screen. Skipped where the data is not beside the checkout."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browser import eventually
from tests.ui.serving import serve
from tests.ui.test_subjects import pixels

SCORE = "combined_score_normalized"
#: command lines that make the survey (DATA is the folder of real data), number of subjects, bands
CASES = {
    "M51 by its sources": ([["create", "SURVEY", "--cut-out", "DATA/single_images/M51_photutils.fits"]], 81, ["grey"]),
    "HSC, five bands": (
        [["create", "SURVEY", "DATA/single_images/hsc_cosmos_35.npz", "--dataset", "images", "--crop", "resize"]],
        1,
        ["g", "r", "i", "z", "y"],
    ),
    "radio galaxies, one band": (
        [
            ["create", "SURVEY", "DATA/mirabest_png/images", "--extent", "100"],
            ["join", "SURVEY", "DATA/mirabest_png/labels.csv", "--on", "image=filename"],
        ],
        786,
        ["grey"],
    ),
    "HSC anomalies, scores computed elsewhere": (
        [
            [
                "import-run",
                "SURVEY",
                "--scores",
                "HSC",
                "--id-column",
                "HSC_object_id",
                "--score-column",
                "combined_score_normalized",
            ],
            ["join", "SURVEY", "HSC", "--sky", "2arcsec", "--columns", "idx"],
        ],
        13_340,
        [],
    ),
    "Galaxy10, vectors without images": (
        [["import-run", "SURVEY", "--latents", "DATA/galaxy10_embedding/galaxy10_pca20.npz:X"]],
        17_736,
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_real_data_opens_in_the_app(
    name: str,
    page: Page,
    open_survey: Callable[[str], Page],
    tmp_path: Path,
    voorwerp: Callable[..., str],
    shared_data: Path,
):
    commands, n, bands = CASES[name]
    survey = tmp_path / "survey"
    table = shared_data / "hsc_gan_catalog" / "anomaly_catalog_hsc_disc3sigma_without_holdout.csv"
    for command in commands:
        places = {"SURVEY": str(survey), "HSC": str(table)}
        voorwerp(*[places.get(word, word.replace("DATA", str(shared_data))) for word in command])
    assert "no problem found" in voorwerp("check", survey)
    with serve(survey, tmp_path / "log") as url:
        open_survey(url)
        expect(page.get_by_text(f"{n:,} subjects").first).to_be_visible()
        tile = page.locator(".tile").first
        tile.click()
        heading = page.locator(".subject h2")
        expect(heading).to_be_visible()
        if bands:
            expect(page.locator(".viewer .bar")).to_be_visible()
            eventually(lambda: pixels(page), lambda shown: max(shown[2:]) > 0.05)  # not black
            offered = page.get_by_label("Band shown as red").locator("option")
            assert offered.all_inner_texts() == (bands if len(bands) > 1 else [])
        else:
            expect(heading).to_have_text(tile.inner_text())
        page.goto("about:blank")  # before its server goes
