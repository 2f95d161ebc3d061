"""From a key on a gate's slider to painted numbers, beside a slider of Panel's and scikit-learn."""

import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.boundary import write
from tests.benchmarks.latency import PROBE, open_map, shown_after
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import command, free_port, serve, wait_for_address

KEYS = 20
CHANGED = "({of, was}) => { const e = __deep(of)[0]; return e && e.textContent !== was; }"
TEXT = "of => __deep(of)[0].textContent"


def keys(page: Page, of: str) -> list[float]:
    """Milliseconds of each key to the paint in which the text of `of` is another, but for the first two, which sort."""
    page.evaluate(PROBE)
    found = []
    for _ in range(KEYS + 2):
        was = page.evaluate(TEXT, of)
        found.append(
            shown_after(page, lambda: page.keyboard.press("ArrowRight"), "keydown", CHANGED, {"of": of, "was": was})
        )
        page.wait_for_timeout(300)
    return found[2:]


def ours(page: Page, url: str) -> list[float]:
    """A gate on the feature score, judged against a column of 1.5 million."""
    open_map(page, url)
    page.evaluate("() => localStorage.clear()")
    page.keyboard.press("Escape")  # the tour
    page.keyboard.press("Shift+B")
    page.get_by_label("What counts as right").select_option(label="chosen")
    page.get_by_label("Add a gate on a column").select_option(label="Feature score")
    page.get_by_role("slider", name="Feature score, at least").focus()
    for _ in range(5):  # the lowest limits keep everybody
        page.keyboard.press("PageUp")
    page.wait_for_timeout(5000)
    return keys(page, ".figures .total")


def theirs(page: Page, url: str) -> list[float]:
    """The same with Panel's own slider."""
    page.goto(url)
    wait_until_idle(page)
    page.locator(".noUi-handle").first.focus()
    return keys(page, "p")


def row() -> Row:
    """Each key of ours, each of theirs."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-key-") as name, sync_playwright() as playwright:
        folder = Path(name)
        write(folder / "synthetic", N)
        browser = launch(playwright)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            mine = ours(browser.new_page(viewport={"width": 1440, "height": 900}), url)
        port, log = free_port(), folder / "stock.log"
        with command([sys.executable, "-m", "tests.benchmarks.stock_threshold", str(N), str(port)], log) as process:
            wait_for_address(process, log, timeout=120)
            other = theirs(
                browser.new_page(viewport={"width": 1440, "height": 900}), f"http://127.0.0.1:{port}/threshold"
            )
        browser.close()
    us, them = statistics.median(mine), statistics.median(other)
    return Row(
        "threshold-key",
        f"{N:,} synthetic subjects: a key on a gate's slider to the painted numbers, median of {len(mine)}",
        us,
        them,
        them / us,
        "ms",
        "FloatSlider of Panel, numpy and scikit-learn: no intervals, nothing on what is lost",
        limit=60,
        note=f"95th percentile {sorted(mine)[int(0.95 * len(mine))]:.0f} ms",
        extra={"ours_ms": mine, "theirs_ms": other},
    )


ROWS = {"threshold-key": row}
