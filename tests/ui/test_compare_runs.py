"""Two runs compared in a real Chromium: from the dialog of runs to the selection of who moved."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from models.ranks import in_top
from tests.conftest import FIRST_ID
from tests.explorer.test_compared import add_run
from tests.ui.browser import query
from tests.ui.serving import serve
from tests.ui.test_journeys import wait_for_frame

N = 200
RUNS = {f"2999010{i}-000000-score": (name, seed) for i, (name, seed) in enumerate((("pca", 1), ("pca", 2), ("knn", 1), ("knn", 2)), 1)}  # noqa: E501  # fmt: skip
A, _, _, B = RUNS
INK = """e => { const {data} = e.getContext("2d").getImageData(0, 0, e.width, e.height);
  return data.reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0); }"""


def scores() -> dict[str, np.ndarray]:
    """Seeds of one method are alike, the methods are not."""
    rng = np.random.default_rng(7)
    base = dict(zip(("pca", "knn"), rng.normal(size=(2, N)), strict=True))
    return {run_id: (base[name] + rng.normal(0, 0.2, N)).astype(np.float32) for run_id, (name, _) in RUNS.items()}


@pytest.fixture(scope="module")
def scored(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("compared")
    survey = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    for day, (run_id, values) in enumerate(scores().items(), 1):
        name, seed = RUNS[run_id]
        split = np.where(np.arange(N) % 4 == 0, "train", "unseen") if name == "pca" else "unseen"
        at = f"2999-01-0{day}T00:00:00+00:00"
        add_run(survey, run_id, values, split, config={"method": name, "seed": seed}, created_at=at)
    with serve(survey, folder / "log") as url:
        yield url


def compare(page: Page) -> Locator:
    """From the page over the dialog of runs to A and B, the top 5 % in sight."""
    page.keyboard.press("r")
    page.locator(f'dialog.runs [data-run="{B}"]').click()
    page.get_by_role("button", name="Compare with").click()
    dialog = page.get_by_role("dialog", name="Compare two runs")
    dialog.get_by_label("Run A").select_option(A)
    dialog.get_by_label("Top", exact=True).select_option("0.05")
    expect(dialog.locator(".answer")).to_contain_text("of the top 5 % stays")
    expect(dialog.locator(".track")).to_be_visible()
    return dialog


@pytest.fixture
def dialog(open_survey: Callable[[str], Page], scored: str) -> Locator:
    page = open_survey(scored)
    wait_for_frame(page)
    return compare(page)


def test_who_moved_is_counted_shown_and_selected(page: Page, dialog: Locator) -> None:
    tops = {run_id: set(np.flatnonzero(in_top(values, 0.05)).tolist()) for run_id, values in scores().items()}
    moved_in, stayed, out = tops[B] - tops[A], tops[A] & tops[B], tops[A] - tops[B]
    assert moved_in
    expect(dialog.get_by_label("Run B")).to_have_value(B)
    expect(dialog.locator(".answer")).to_contain_text(f"{len(stayed)} of 10")
    expect(dialog.locator("td.in")).to_contain_text(f"{len(moved_in)}moved in")
    expect(dialog.locator("td.out")).to_contain_text(f"{len(out)}moved out")
    expect(dialog.locator(".noise .said")).to_contain_text("pairs of seeds more of the top 5 % stays than from A to B")
    expect(dialog.locator(".track .seed")).to_have_count(2)
    expect(dialog.locator(".splits tr")).to_have_count(3)  # trained on by neither, by A only
    expect(dialog.locator(".caveats")).to_contain_text(
        "the top has 10 of 200 subjects: too few to tell much", ignore_case=True
    )
    counted = f"{len(stayed)} stay in the top 5 %, {len(moved_in)} moved in"
    label = f"Rank in B against rank in A of 200 subjects, logarithmic: {counted}"
    canvas = dialog.get_by_role("img", name=label)
    assert canvas.evaluate(INK) > 1000
    gallery = dialog.get_by_role("region", name="Moved in")
    expect(gallery.locator("li img")).to_have_count(len(moved_in))
    first = gallery.locator("li img").first
    first.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=first.element_handle())

    gallery.get_by_role("button", name=f"Select those {len(moved_in)}").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("dialog.runs")).to_be_hidden()
    expect(page.get_by_text(f"{len(moved_in)} of 200 selected")).to_be_visible()
    names = {str(FIRST_ID + row) for row in moved_in}
    tiles = page.locator(".gallery .tile[data-row]:not([data-row=''])")
    expect(tiles).to_have_count(len(names))
    assert {tile.get_attribute("aria-label") for tile in tiles.all()} == names
    page.keyboard.press("u")
    expect(page.get_by_text(f"{len(moved_in)} of 200 selected")).to_be_hidden()


def test_the_plot_turns_and_names_the_subject_under_the_mouse(page: Page, dialog: Locator) -> None:
    drawn = dialog.locator("canvas").evaluate("e => e.toDataURL()")
    dialog.get_by_role("button", name="Change of rank").click()
    expect(dialog.get_by_role("button", name="Change of rank")).to_have_attribute("aria-pressed", "true")
    assert dialog.locator("canvas").evaluate("e => e.toDataURL()") != drawn
    dialog.get_by_role("button", name="Rank in B").click()
    assert dialog.locator("canvas").evaluate("e => e.toDataURL()") == drawn
    values = scores()
    best = int(np.argmax(values[B]))  # stands at the upper edge of the plot
    u = (1 + (values[A] > values[A][best]).sum() - 0.5) / N
    low = np.log10(0.5 / N)
    canvas = dialog.locator("canvas")
    box = canvas.bounding_box()
    assert box
    canvas.hover(position={"x": 58 + np.log10(u) / low * (box["width"] - 70), "y": 10})
    card = dialog.locator(".card")
    rank = 1 + int((values[A] > values[A][best]).sum())
    expect(card).to_contain_text(f"{FIRST_ID + best}rank {rank} → 1")
    expect(card.locator("img")).to_be_visible()
    canvas.click(position={"x": 58 + np.log10(u) / low * (box["width"] - 70), "y": 10})
    expect(dialog).to_be_hidden()
    expect(page.locator(".subject h2")).to_have_text(str(FIRST_ID + best))
    assert query(page)["subject"] == str(FIRST_ID + best)


def test_a_and_b_are_exchanged_and_escape_leaves_the_runs_open(page: Page, dialog: Locator) -> None:
    counts = [int(re.sub(r"\D.*", "", dialog.locator(f"td.{name} b").inner_text())) for name in ("in", "out")]
    runs = page.locator("dialog.runs")
    chosen = runs.locator("[aria-current='true']").get_attribute("data-run")
    dialog.get_by_role("button", name="Exchange A and B").focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Run A")).to_have_value(B)
    expect(dialog.get_by_label("Run B")).to_have_value(A)
    expect(dialog.locator("td.in b")).to_have_text(str(counts[1]))
    expect(dialog.locator("td.out b")).to_have_text(str(counts[0]))
    page.keyboard.press("ArrowDown")  # not of the list of runs beneath
    page.keyboard.press("r")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Run B").select_option(B)  # the same twice: A takes what B was
    expect(dialog.get_by_label("Run A")).to_have_value(A)
    expect(dialog.locator("td.in b")).to_have_text(str(counts[0]))
    expect(dialog.locator("[aria-busy]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(runs).to_be_visible()
    expect(runs.locator("[aria-current='true']")).to_have_attribute("data-run", chosen or "")


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720), (1024, 768)])
def test_everything_has_its_place(page: Page, dialog: Locator, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    wide = "e => [...e.querySelectorAll('.body, .left, .right, td, header')].filter(x => x.scrollWidth > x.clientWidth + 1 && getComputedStyle(x).display !== 'inline').map(x => x.className || x.tagName)"  # noqa: E501
    try:
        assert dialog.evaluate(wide) == []
        box = dialog.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= size[0] and box["height"] <= size[1]
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})


def test_with_one_run_there_is_nothing_to_compare(open_survey: Callable[[str], Page], served: str) -> None:
    page = open_survey(served)
    page.keyboard.press("r")
    page.locator("dialog.runs [data-run$='score']").first.click()
    page.get_by_role("button", name="Compare with").click()
    dialog = page.get_by_role("dialog", name="Compare two runs")
    expect(dialog.get_by_role("alert")).to_have_text(
        "Two finished runs with scores can be compared; this survey has one."
    )
