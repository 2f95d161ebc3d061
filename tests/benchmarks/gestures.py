"""From what a hand does to what the eye sees: hovering, another coloring, another λ; beside HoloViews."""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.latency import frame_after, open_map, shown_after
from tests.benchmarks.map import N, stock
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import cloud, write_survey
from tests.ui.browser import launch
from tests.ui.serving import serve

ROUNDS = 9
#: Seconds that the alternative may take for another coloring.
STOCK_WAIT_S = 5
PLOT = (894, 705)
# a picture that was not there before: `seen` are the addresses of those that were
NEW_PICTURE = "seen => __deep('img').some(i => i.complete && i.naturalWidth && i.offsetParent && !seen.includes(i.src))"
PICTURES = "() => __deep('img').map(i => i.src)"


def in_page(url: str, measure: Callable[[Page, tuple[float, float, float, float]], list[float]]) -> list[float]:
    """What `measure` finds on the map at `url`, in a browser of its own."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        found = measure(page, open_map(page, url))
        browser.close()
    return found


def hovers(page: Page, box: tuple[float, float, float, float]) -> list[float]:
    """The pointer rests on one place after another, where subjects are dense: ms to the thumbnail, each time."""
    x, y, width, height = box
    bounds = [(side.min(), side.max() - side.min()) for side in cloud(N)[0][:, :2].T]
    times = []
    for at in cloud(N)[0][:: N // (ROUNDS + 2)][: ROUNDS + 2, :2]:
        share = [float((value - low) / span - 0.5) for value, (low, span) in zip(at, bounds, strict=True)]
        page.mouse.move(x - width / 2 + 6, y + height / 2 - 6)  # a corner without a subject
        page.wait_for_timeout(400)
        seen = page.evaluate(PICTURES)
        place = x + share[0] * width / 1.08, y - share[1] * height / 1.08
        times.append(shown_after(page, lambda place=place: page.mouse.move(*place), "pointermove", NEW_PICTURE, seen))
    return times[2:]


def changes(
    act: Callable[[Page, int], None], event: str, rounds: int = ROUNDS, wait: float = 1.5
) -> Callable[[Page, tuple], list[float]]:
    """Do `act` again and again: ms to the last frame, each time but the first two.

    None is waited for longer than `wait` seconds.
    """

    def measure(page: Page, box: tuple[float, float, float, float]) -> list[float]:
        times = [frame_after(page, lambda i=i: act(page, i), event, wait) for i in range(rounds + 2)]
        return [time for time in times[2:] if time is not None]

    return measure


def our_color(page: Page, i: int) -> None:
    page.get_by_label("Color by").select_option(("count", "scores.feature_score", "scores.image_score")[i % 3])


def stock_color(page: Page, i: int) -> None:
    page.locator("select").select_option(("count", "score")[i % 2])


def our_weight(page: Page, i: int) -> None:
    page.get_by_label("λ, weight of feature score").press("ArrowRight")


def stock_weight(page: Page, i: int) -> None:
    page.locator(".noUi-handle").press("ArrowRight")


def row(name: str, what: str, ours: list[float], theirs: list[float], alternative: str, limit: float) -> Row:
    """Medians, and every time in `extra`."""
    if not ours:
        raise RuntimeError(f"{name}: nothing was painted")
    mine, other = statistics.median(ours), statistics.median(theirs or [1000 * STOCK_WAIT_S])
    return Row(
        name,
        f"{N:,} synthetic points: {what}, median of {len(ours)}",
        mine,
        other,
        other / mine,
        "ms",
        alternative,
        note="" if theirs else f"the alternative painted nothing within {STOCK_WAIT_S} s, which count",
        extra={"ours_ms": ours, "theirs_ms": theirs},
        limit=limit,
    )


def hover() -> Row:
    """From the pointer's rest to the painted thumbnail."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-hover-") as name:
        folder = Path(name)
        write_survey(folder / "synthetic", N, pictures=True)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            ours = in_page(url, hovers)
        with stock(folder, PLOT, "hover") as url:
            theirs = in_page(url, hovers)
    alternative = "HoloViews PointerXY, a KD-tree and a Panel pane with the JPEG"
    return row("hover", "the pointer rests, to the painted thumbnail", ours, theirs, alternative, 60)


def color() -> list[Row]:
    """From another coloring, and another λ, to the painted map."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-color-") as name:
        folder = Path(name)
        write_survey(folder / "synthetic", N)
        with serve(folder / "synthetic", folder / "ours.log", timeout=120) as url:
            colors = in_page(url, changes(our_color, "input"))
            weights = in_page(f"{url}&color=scores.anomaly_score", changes(our_weight, "keydown"))
        with stock(folder, PLOT, "colored") as url:
            stock_colors = in_page(url, changes(stock_color, "input", 2, STOCK_WAIT_S))
            stock_weights = in_page(url, changes(stock_weight, "keydown", 2, STOCK_WAIT_S))
    alternative = "HoloViews rasterize(points) with Panel widgets"
    return [
        row("color", "another coloring chosen, to painted pixels", colors, stock_colors, alternative, 80),
        row("color-lambda", "λ one step on, to painted pixels", weights, stock_weights, alternative, 80),
    ]


ROWS = {"hover": hover, "color": color}
