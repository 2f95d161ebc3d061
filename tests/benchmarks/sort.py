"""From a click on a column's header to the painted first page, beside pandas and Panel's Tabulator."""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.latency import PROBE, shown_after
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey
from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import command, free_port, serve, wait_for_address

#: The first click on a header sorts one way, the second the other; none of these orders was made before.
CLICKS = ("feature", "feature", "image", "image")
OURS = "() => __deep('.table .floor .line').find(line => line.ariaRowIndex === '2')?.dataset.row ?? ''"
STOCK = "() => __deep('.tabulator-row .tabulator-cell[tabulator-field=source_id]')[0]?.textContent ?? ''"


def times(page: Page, first: str, header: str) -> list[float]:
    """Milliseconds of every one of `CLICKS`, until `first` names another subject than before."""
    found = []
    for score in CLICKS:
        button = page.locator(header.format(score)).first
        holds = f"before => {{ const now = ({first})(); return now !== '' && now !== before; }}"
        page.wait_for_timeout(1500)
        before = page.evaluate(first)
        found.append(shown_after(page, button.click, "click", holds, before, timeout=60))
    return found


@contextlib.contextmanager
def stock(folder: Path) -> Iterator[str]:
    """URL of ``python -m tests.benchmarks.stock_table``."""
    port, log = free_port(), folder / "stock.log"
    with command([sys.executable, "-m", "tests.benchmarks.stock_table", str(N), str(port)], log) as process:
        wait_for_address(process, log, timeout=120)
        yield f"http://127.0.0.1:{port}/"


def visit(url: str, first: str, header: str, *, key: str = "") -> list[float]:
    """Measure a page in a browser of its own; `key` opens the table."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        wait_until_idle(page)
        page.wait_for_timeout(3000)
        if key:
            page.keyboard.press(key)
        page.locator(header.format("feature")).first.wait_for()
        page.evaluate(PROBE)
        found = times(page, first, header)
        browser.close()
    return found


def rows() -> Row:
    """A column never sorted before, to its painted first page."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-sort-") as name:
        folder = Path(name)
        write_survey(folder / "synthetic", N)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            ours = visit(url, OURS, "[data-reference='scores.{}_score'] button", key="7")
        with stock(folder) as url:
            theirs = visit(url, STOCK, ".tabulator-col[tabulator-field={}_score]")
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        "sort",
        f"{N:,} synthetic subjects: click on a header to the painted first page, median of {len(ours)} orders",
        mine,
        other,
        other / mine,
        "ms",
        "pandas sort_values behind Panel's Tabulator with remote pagination",
        note="no order was made before",
        limit=150,
        extra={"ours_ms": ours, "theirs_ms": theirs},
    )


ROWS = {"sort": rows}
