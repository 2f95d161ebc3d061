"""From the end of a lasso to its count and the first page of the gallery, beside what finds the points elsewhere."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Outline
from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.latency import open_map
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import cloud, write_survey
from tests.ui.browser import launch
from tests.ui.serving import serve

VERTICES = 100
ROUNDS = 7
# When the pointer was lifted, and when the count, a tile or its picture last changed on the screen.
FOLLOW = """() => {
  window.__up = window.__changed = 0;
  window.addEventListener('pointerup', e => { window.__up = e.timeStamp; }, true);
  let before = '';
  const look = () => {
    const gallery = __deep('.gallery[role=listbox]')[0];
    const now = [__deep('.gallery-pane .count')[0].textContent, gallery.ariaBusy, ...__deep('.gallery .tile').map(t => t.dataset.row)].join();
    if (now !== before) {
      before = now;
      const c = new MessageChannel();
      c.port1.onmessage = () => { window.__changed = performance.now(); };
      c.port2.postMessage(0);
    }
    requestAnimationFrame(look);
  };
  look(); }"""  # noqa: E501


def outline(share: float) -> np.ndarray:
    """(100, 2): an ellipse around the middle, in half-axes of the frame."""
    angle = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    return share * np.column_stack([np.cos(angle), np.sin(angle)])


def ours(page: Page, url: str, rounds: int = ROUNDS) -> tuple[list[float], list[str]]:
    """Milliseconds from lifting the pointer to the last change of count or gallery; and the counts."""
    x, y, width, height = open_map(page, url)
    page.evaluate(FOLLOW)
    page.keyboard.press("l")
    times, counts = [], []
    for k in range(rounds + 2):
        path = outline(0.3 + 0.08 * (k % 5)) * [width / 2, height / 2] + [x, y]
        page.mouse.move(*path[0])
        page.mouse.down()
        for to in path[1:]:
            page.mouse.move(*to)
        page.mouse.up()
        page.wait_for_timeout(2000)
        up, changed = page.evaluate("() => [window.__up, window.__changed]")
        times.append(max(0.0, changed - up))
        counts.append(page.locator(".gallery-pane .count").inner_text())
    return times[2:], counts[2:]


def theirs() -> list[float]:
    """Milliseconds of the computation alone: which of the points are inside."""
    xy = cloud(N)[0][:, :2].astype(np.float64)
    half = np.ptp(xy, axis=0) / 2
    middle = xy.min(axis=0) + half
    times = []
    for k in range(3):
        polygon = outline(0.3 + 0.08 * k) * half + middle
        began = time.perf_counter()
        inside = int(Outline(polygon).contains_points(xy).sum())
        times.append(1000 * (time.perf_counter() - began))
        if not 0 < inside < N:
            raise RuntimeError(f"{inside:,} of {N:,} are inside")
    return times


def rows() -> Row:
    """Ours to the screen, theirs the points only."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-lasso-") as name, sync_playwright() as playwright:
        folder = Path(name)
        write_survey(folder / "synthetic", N, pictures=True)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            browser = launch(playwright)
            mine, counts = ours(browser.new_page(viewport={"width": 1440, "height": 900}), url)
            browser.close()
    other = theirs()
    us, them = statistics.median(mine), statistics.median(other)
    return Row(
        "lasso",
        f"{N:,} synthetic subjects, {VERTICES} vertices: pointer up to count and first page of the gallery",
        us,
        them,
        them / max(us, 1.0),
        "ms",
        "matplotlib's Path.contains_points of the same points, and nothing else",
        limit=150,
        note="ours is all the way to the screen",
        extra={"ours_ms": mine, "theirs_ms": other, "counts": counts},
    )


ROWS = {"lasso": rows}
