"""From the request of the HTML to an idle page, beside the page of a stock HoloViews map."""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.benchmarks.map import N, stock
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey
from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import serve

ROUNDS = 5
# Times of the page's own clock, which starts with the navigation; the request is counted from after any redirect.
TIMING = """() => { const t = performance.getEntriesByType('navigation')[0];
  return [performance.now() - t.fetchStart, t.responseEnd - t.requestStart]; }"""


@dataclass(frozen=True, slots=True)
class Loads:
    """Seconds of each load but the first, which also warms the server: to an idle page, and the server's share."""

    idle_s: list[float]
    server_s: list[float]
    first_idle_s: float
    first_server_s: float


def visit(url: str) -> Loads:
    """Load the page at `url` in fresh contexts: nothing is cached, no session is taken over."""
    loads = []
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for _ in range(ROUNDS + 1):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(url)
            wait_until_idle(page)
            loads.append([ms / 1000 for ms in page.evaluate(TIMING)])
            context.close()
        browser.close()
    idle_s, server_s = (list(times) for times in zip(*loads, strict=True))
    return Loads(idle_s[1:], server_s[1:], idle_s[0], server_s[0])


def rows() -> list[Row]:
    """Time to an idle page, and the server's share of it."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-page-") as name:
        folder = Path(name)
        with stock(folder, (894, 705)) as url:
            theirs = visit(url)
        write_survey(folder / "synthetic", N)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            mine = visit(url)
    loads = f"{N:,} synthetic points, median of {ROUNDS} loads in fresh browser contexts"
    first = f"{N:,} synthetic points, the first load after the server's start"
    return [
        row("page-idle", f"HTML request to idle page; {loads}", mine.idle_s, theirs.idle_s, limit=4),
        row("page-server", f"HTML request to its last byte; {loads}", mine.server_s, theirs.server_s, limit=0.3),
        row("page-first", f"HTML request to idle page; {first}", [mine.first_idle_s], [theirs.first_idle_s], limit=4),
    ]


def row(name: str, what: str, ours: list[float], theirs: list[float], *, limit: float) -> Row:
    """One row of seconds. Ours has the whole application around the map, so a ratio below 1 is no surprise."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    alternative = "a page with nothing but HoloViews rasterize(points)"
    note = "ours is the whole application"
    extra = {"ours_s": ours, "theirs_s": theirs}
    return Row(name, what, mine, other, other / mine, "s", alternative, note=note, extra=extra, limit=limit)


ROWS = {"page": rows}
