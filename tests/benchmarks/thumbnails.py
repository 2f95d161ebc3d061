"""From a click to 200 painted thumbnails, beside one Panel pane per image."""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from explorer.survey import THUMBNAILS
from tests.benchmarks.latency import PROBE, shown_after
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey
from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import command, free_port, serve, wait_for_address

SHOWN = 200
ROUNDS = 9
#: A pane high enough for 200 pictures of the smallest size.
KEPT = {"voorwerp-lower": "1080", "voorwerp-gallery": json.dumps({"size": 48}), "voorwerp-toured": "1"}
FIRST = "() => __deep('#tile-0')[0].dataset.row"
# the canvas has every picture in view, and they are others than before
OURS = f"""before => ({FIRST})() !== before && __deep('.gallery[role=listbox]')[0].ariaBusy === 'false'"""
IN_VIEW = """() => { const box = __deep('.gallery[role=listbox]')[0].getBoundingClientRect();
  return __deep('.gallery .tile').filter(t => { const b = t.getBoundingClientRect(); return b.top < box.bottom && b.bottom > box.top; }).length; }"""  # noqa: E501
# What the gallery keeps of pages it has shown is let go, as when the survey changes.
FORGET = """() => { for (const model of Bokeh.documents[0]._all_models.values()) {
  const data = model.data?.attributes; if (data?.orders && 'reconstructs' in data) model.data.read += 1; } }"""
SETTLED = "() => __deep('.gallery[role=listbox]')[0].ariaBusy === 'false'"
NAMES = "() => __deep('img').map(i => i.alt)"
STOCK = f"""before => {{ const images = __deep('img').filter(i => i.complete && i.naturalWidth);
  return images.length >= {SHOWN} && images.every(i => !before.includes(i.alt)); }}"""


def ours(url: str, rounds: int = ROUNDS, seen: list[float] | None = None) -> list[float]:
    """The order is turned around, again and again: to pictures that the browser has not got.

    `seen` takes the times of as many clicks to pictures that it has.
    """
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 1600})
        page.add_init_script(f"for (const [k, v] of Object.entries({json.dumps(KEPT)})) localStorage.setItem(k, v);")
        page.goto(url)
        wait_until_idle(page)
        page.evaluate(PROBE)
        page.wait_for_timeout(3000)
        shown = page.evaluate(IN_VIEW)
        if shown < SHOWN:
            raise RuntimeError(f"{shown} pictures are in view, not {SHOWN}")
        button = page.locator(".gallery-pane .order")
        times = []
        for _ in range(rounds + 2):
            page.evaluate(FORGET)
            page.wait_for_function(SETTLED)
            times.append(_click(page, button.click, FIRST, OURS))
        for _ in range(rounds if seen is not None else 0):
            seen.append(_click(page, button.click, FIRST, OURS))
        browser.close()
    return times[2:]  # the first of each way makes its order


def theirs(folder: Path, thumbnails: Path) -> list[float]:
    """Another 200 panes, again and again; pictures are repeated after 4,096."""
    port, log = free_port(), folder / "stock.log"
    arguments = [sys.executable, "-m", "tests.benchmarks.stock_gallery", thumbnails, str(SHOWN), str(port)]
    with command(arguments, log) as process, sync_playwright() as playwright:
        url = wait_for_address(process, log, timeout=60)
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 1600})
        page.goto(url)
        wait_until_idle(page)
        page.evaluate(PROBE)
        button = page.get_by_role("button", name="Next")
        times = [_click(page, button.click, NAMES, STOCK) for _ in range(5)]
        browser.close()
    return times[1:]


def _click(page: Page, click: object, before: str, holds: str) -> float:
    page.wait_for_timeout(1000)
    return shown_after(page, click, "click", holds, page.evaluate(before), timeout=60)  # type: ignore[arg-type]


def rows() -> Row:
    """Click to painted, of as many pictures."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-thumbnails-") as name:
        folder = Path(name)
        write_survey(folder / "synthetic", N, pictures=True)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            again: list[float] = []
            mine = ours(url, seen=again)
        other = theirs(folder, folder / "synthetic" / THUMBNAILS)
    us, them = statistics.median(mine), statistics.median(other)
    return Row(
        "thumbnails",
        f"{SHOWN} thumbnails in view of {N:,} synthetic subjects, not seen before: click to painted, "
        f"median of {len(mine)}",
        us,
        them,
        them / us,
        "ms",
        "one pn.pane.JPG per image in a FlexBox",
        target=10,
        limit=60,
        note=f"of pictures seen a moment ago {statistics.median(again):.0f} ms",
        each=mine,
        theirs_each=other,
        extra={"seen_ms": again},
    )


ROWS = {"thumbnails": rows}
