"""The map beside the one that a user writes with plain HoloViews: wheel, pan, and frames while the mouse drags."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.benchmarks.latency import Latency, measure
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey
from tests.ui.browser import launch
from tests.ui.serving import command, free_port, serve, wait_for_address

N = int(os.environ.get("VOORWERP_BENCH_POINTS", 1_500_000))


@contextlib.contextmanager
def stock(folder: Path, plot: tuple[int, int], page: str = "count") -> Iterator[str]:
    """URL of a page of `stock_map`, with a frame of `plot` pixels: the count in histogram-equalised colors."""
    port, log = free_port(), folder / "stock.log"
    numbers = map(str, (N, port, *plot))
    with command([sys.executable, "-m", "tests.benchmarks.stock_map", *numbers], log) as process:
        wait_for_address(process, log, timeout=120)
        yield f"http://127.0.0.1:{port}/{page}"


def ours(folder: Path) -> Latency:
    """Latencies of ``voorwerp serve`` on the same points."""
    write_survey(folder / "synthetic", N)
    with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
        return visit(url)


def visit(url: str) -> Latency:
    """Measure the page in a browser of its own."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        latency = measure(page, url)
        browser.close()
    return latency


def rows() -> list[Row]:
    """Wheel, pan and drag."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-map-") as folder:
        mine = ours(Path(folder))
        with stock(Path(folder), mine.plot) as url:
            theirs = visit(url)
    what = f"{N:,} synthetic points on {mine.plot[0]} × {mine.plot[1]} px"
    alternative = "HoloViews rasterize(points), eq_hist, the same pixels"
    plot = {"plot_px": mine.plot, "stock_plot_px": theirs.plot}
    return [
        Row(
            "map-wheel",
            f"{what}: last range change of a wheel step to pixels of all of that view, median of {len(mine.wheel_ms)}",
            mine.wheel,
            theirs.wheel,
            theirs.wheel / mine.wheel,
            "ms",
            alternative,
            target=20,
            limit=45,
            extra={"ours_ms": mine.wheel_ms, "exact_ms": mine.wheel_exact_ms, "theirs_ms": theirs.wheel_ms, **plot},
        ),
        Row(
            "map-pan",
            f"{what}: last range change of a short drag to pixels of all of that view, median of {len(mine.pan_ms)}",
            mine.pan,
            theirs.pan,
            theirs.pan / mine.pan,
            "ms",
            alternative,
            target=7,
            limit=50,
            extra={"ours_ms": mine.pan_ms, "exact_ms": mine.pan_exact_ms, "theirs_ms": theirs.pan_ms, **plot},
        ),
        Row(
            "map-drag",
            f"{what}: new images painted during a 3 s drag",
            mine.drag_frames,
            theirs.drag_frames,
            mine.drag_frames / max(theirs.drag_frames, 1),
            "frames",
            alternative,
            note="a stock map without any frame counts as 1 in the ratio",
            extra=plot,
            limit=60,
            better="higher",
        ),
    ]


ROWS = {"map": rows}
