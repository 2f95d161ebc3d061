"""From a move of a brush on a histogram to the painted map, beside HoloViews' linked selections."""

import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.latency import frame_after, open_map
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey
from tests.ui.browser import launch
from tests.ui.serving import command, free_port, serve, wait_for_address

MOVES = 12
# The center and size of the frame of the histogram, which is the figure that draws no image.
BARS = """() => {
  const figures = [...Bokeh.documents[0]._all_models.values()].filter(m => m.type === 'Figure');
  const view = figures.map(f => Bokeh.index.find_one_by_id(f.id)).find(v => !v.model.renderers.some(r => r.data_source?.data?.image ?? r.data_source?.data?.get?.('image')));
  const box = view.el.getBoundingClientRect(), f = view.frame.bbox;
  return {x: box.left + f.left, y: box.top + f.top, width: f.width, height: f.height}; }"""  # noqa: E501


def ours(page: Page, url: str) -> tuple[list[float], tuple[int, int]]:
    """Milliseconds of every move of a brush while the button is down; and the size of the map's frame."""
    *_, width, height = open_map(page, url)
    page.get_by_role("tab", name="Histograms").click()
    canvas = page.get_by_label("Histogram of Anomaly score", exact=True).locator("canvas")
    canvas.wait_for()
    page.wait_for_timeout(3000)
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], y)
    page.mouse.down()
    moves = [
        frame_after(page, lambda at=at: page.mouse.move(box["x"] + at * box["width"], y), "pointermove", 1.2)
        for at in (0.5 + 0.03 * (k % 7) for k in range(MOVES + 2))
    ]
    page.mouse.up()
    return [ms for ms in moves[2:] if ms is not None], (round(width), round(height))


def theirs(page: Page, url: str) -> list[float]:
    """Milliseconds from the release of a brush, before which a linked map does not move."""
    open_map(page, url)
    box = page.evaluate(BARS)
    y = box["y"] + box["height"] / 2

    def brush(k: int) -> None:
        page.mouse.move(box["x"] + 0.3 * box["width"], y)
        page.mouse.down()
        page.mouse.move(box["x"] + (0.5 + 0.03 * k) * box["width"], y, steps=3)
        page.mouse.up()

    times = [frame_after(page, lambda k=k: brush(k), "pointerup", 6) for k in range(6)]
    return [ms for ms in times[1:] if ms is not None]


def rows() -> Row:
    """Every move of ours, every release of theirs."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-brush-") as name, sync_playwright() as playwright:
        folder = Path(name)
        write_survey(folder / "synthetic", N)
        browser = launch(playwright)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            mine, plot = ours(browser.new_page(viewport={"width": 1440, "height": 900}), url)
        port, log = free_port(), folder / "stock.log"
        stock = [sys.executable, "-m", "tests.benchmarks.stock_brush", *map(str, (N, port, *plot))]
        with command(stock, log) as process:
            wait_for_address(process, log, timeout=120)
            other = theirs(browser.new_page(viewport={"width": 1440, "height": 1100}), f"http://127.0.0.1:{port}/brush")
        browser.close()
    if not mine or not other:
        raise RuntimeError(f"nothing was painted by {'ours' if not mine else 'the alternative'}")
    us, them = statistics.median(mine), statistics.median(other)
    return Row(
        "brush",
        f"{N:,} synthetic subjects: a brush on a histogram moves, to the painted map, median of {len(mine)}",
        us,
        them,
        them / us,
        "ms",
        "HoloViews link_selections of rasterize(points) and a histogram, same pixels, from the release of the brush",
        limit=120,
        note="the alternative does not move while a brush is dragged",
        extra={"ours_ms": mine, "theirs_ms": other, "plot_px": plot},
    )


ROWS = {"brush": rows}
