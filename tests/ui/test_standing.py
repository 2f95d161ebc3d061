"""What the page says of a map's worth, of what is off it, and of ranks over several runs, in a real Chromium."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from models.artifacts import COORDINATES, RUN_JSON, SCORES_SCHEMA, Run, write_scores
from tests.conftest import FIRST_ID
from tests.ui.serving import serve
from tests.ui.test_journeys import wait_for_frame

RANKS = "29990101-000000-ranks"
OFF = (7, 4)  # rows off the map, the farthest first


def place_apart(survey: Path) -> None:
    """Say of the map's last 50 subjects that their neighbors placed them, and of `OFF` that they are off the map."""
    path = next((survey / "maps").iterdir()) / COORDINATES
    table = pq.read_table(path).select(["subject_id", "umap_1", "umap_2", "umap_3"])
    row = table.column("subject_id").to_numpy() - FIRST_ID
    percentile = np.where(row == OFF[0], 100, np.where(row == OFF[1], 99.95, row / 4)).astype(np.float32)
    is_off = np.isin(row, OFF)
    own = {"is_placed": (row >= 150) | is_off, "knn_percentile": percentile, "is_off_map": is_off}
    for name, values in own.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


def write_ranks(survey: Path) -> None:
    """A run that combines the ranks of six others: 200 subjects, row r on rank r + 1, rows below 4 fragile."""
    folder = survey / "runs" / RANKS
    folder.mkdir()
    ids, n = FIRST_ID + np.arange(200), 200
    columns = {field.name: pa.nulls(n, field.type) for field in SCORES_SCHEMA}
    columns |= {"subject_id": ids, "anomaly_score": 100 - np.arange(n) / 2, "quality": pa.repeat(pa.scalar("ok"), n)}
    columns |= {"rank_mean": 1.0 + np.arange(n), "rank_spread": np.full(n, 1.5), "top1_share": np.full(n, 0.5)}
    write_scores(folder, None, columns | {"is_fragile": (np.arange(n) < 4).astype(np.float32)})
    settings = [{"setting": f"λ = {weight}"} for weight in (0.2, 0.5) for _ in range(3)]
    results = {"n_runs": 6, "n_subjects": n, "runs": settings}
    Run(RANKS, "ranks", "test", {}, state="done", n_rows=n, provides="score", results=results).write(folder / RUN_JSON)


@pytest.fixture(scope="module")
def judged(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("judged")
    survey = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    place_apart(survey)
    write_ranks(survey)
    with serve(survey, folder / "log") as url:
        yield url


@pytest.fixture
def judged_page(open_survey: Callable[[str], Page], judged: str) -> Page:
    page = open_survey(judged)
    wait_for_frame(page)
    return page


def test_the_map_says_what_it_is_worth_and_who_is_off_it(judged_page: Page):
    legend = judged_page.locator(".legend")
    expect(legend).to_contain_text("200 of 200 on the map, 2 of them far from all others")
    expect(legend).to_contain_text(
        re.compile(r"trustworthiness 0\.\d\d, neighbors kept 0\.\d\d \(k = \d+, 200 subjects\)")
    )
    judged_page.get_by_role("button", name="select the 2 off the map").click()
    expect(judged_page.get_by_text("2 of 200 selected")).to_be_visible()
    panel = judged_page.locator(".subject")
    expect(panel.locator("h2")).to_have_text(str(FIRST_ID + OFF[0]))
    expect(panel.locator(".title")).to_contain_text("off the map")
    expect(panel.locator(".scores")).to_contain_text("percentile 100 of the map’s subjects")
    judged_page.wait_for_function("() => voorwerp.on_screen().marks.strays.length === 2")


def test_ranks_over_several_runs_stand_in_one_line_and_fragile_ones_are_marked(
    open_survey: Callable[[str], Page], judged: str, page: Page
):
    open_survey(judged)  # the token is taken
    base = page.url.split("?")[0]
    for row, line in ((3, "rank 4 ± 3 of 200 over 6 runs · fragile"), (11, "rank 12 ± 3 of 200 over 6 runs")):
        open_survey(f"{base}?{urlencode({'run': RANKS, 'subject': FIRST_ID + row})}")
        expect(page.locator(".subject .rank")).to_have_text(line)
        expect(page.locator(".subject .settings")).to_contain_text("Each run as it was scored: λ = 0.2; λ = 0.5")
    expect(page.locator(".subject .scores")).not_to_contain_text("rank mean")
    # in the gallery as well, where the highest come first
    for place, is_fragile in ((3, True), (4, False)):
        tile = page.locator(f"#tile-{place}")
        expect(tile).to_have_attribute("aria-label", f"{FIRST_ID + place}{', fragile' if is_fragile else ''}")
        assert tile.evaluate("e => getComputedStyle(e, '::before').content") == ('"fragile"' if is_fragile else "none")
    expect(page.locator(".gallery .tile.fragile")).to_have_count(4)
