"""The map at 1.5, 10 and 100 million subjects: every line of its table of targets, in a real Chromium.

The rows `map`, `color`, `hover`, `lasso` and `thumbnails` have the same gestures at 1.5 million beside what stock tools
take; here the larger ones stand beside 1.5 million of the same run, or beside what they may take.
"""

import contextlib
import re
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from playwright.sync_api import Browser, Page, sync_playwright

from models.artifacts import COORDINATES
from tests.benchmarks import lasso, thumbnails
from tests.benchmarks.gestures import NEW_PICTURE, PICTURES, changes, our_color, our_weight
from tests.benchmarks.latency import Latency, measure, open_map, shown_after
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import lend_survey
from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import VOORWERP, command, free_port, wait_for_address

SIZES = {"1500k": 1_500_000, "10m": 10_000_000, "100m": 100_000_000}
SCREEN = {"width": 1440, "height": 900}
#: Of gestures other than the moves; at 1.5 million rows of their own have more.
ROUNDS = {"1500k": 3, "10m": 5, "100m": 5}
#: Times as long as at 1.5 million is waited for what is painted, where the machine is slow or busy.
PATIENCE = {"1500k": 1.0, "10m": 1.0, "100m": 2.5}
#: Seconds that the first page of a survey may take: its index and its columns are made.
FIRST_S = 300


@dataclass(frozen=True, slots=True)
class Held:
    """What a line is held to at a size: a figure, or how many times its figure at 1.5 million."""

    limit: float | None = None
    times: float | None = None


#: line: unit, what is measured, what it is held to at each size.
LINES: dict[str, tuple[str, str, dict[str, Held]]] = {
    "wheel": (
        "ms",
        "last range change of a wheel step to pixels of all of that view",
        {"1500k": Held(45), "10m": Held(times=1.3), "100m": Held(times=2)},
    ),
    "pan": (
        "ms",
        "last range change of a short drag to pixels of all of that view",
        {"1500k": Held(50), "10m": Held(times=1.3), "100m": Held(times=2)},
    ),
    "drag": ("frames", "frames painted during a 3 s drag", {"1500k": Held(60), "10m": Held(50), "100m": Held(40)}),
    "color": (
        "ms",
        "another coloring chosen, to painted pixels",
        {"1500k": Held(80), "10m": Held(120), "100m": Held(400)},
    ),
    "lambda": ("ms", "λ one step on, to painted pixels", {"1500k": Held(80), "10m": Held(120), "100m": Held(400)}),
    "lasso": (
        "ms",
        f"lasso of {lasso.VERTICES} vertices, pointer up to count and first page of the gallery",
        {"1500k": Held(150), "10m": Held(200), "100m": Held(600)},
    ),
    "hover": ("ms", "the pointer rests, to the painted thumbnail", dict.fromkeys(SIZES, Held(60))),
    "thumbnails": (
        "ms",
        f"{thumbnails.SHOWN} thumbnails in view, click to painted",
        dict.fromkeys(SIZES, Held(60)),
    ),
    "memory": (
        "GB",
        "RssAnon of the server after all of these",
        {"1500k": Held(0.6), "10m": Held(1.2), "100m": Held(6)},
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one size: each line's single measurements, and the frame's width and height, px."""

    each: dict[str, list[float]]
    plot: tuple[int, int]
    extra: dict[str, dict[str, Any]]


@contextlib.contextmanager
def served(survey: Path, log: Path) -> Iterator[tuple[str, int]]:
    """``voorwerp serve``: its address and the id of its process."""
    arguments = [VOORWERP, "serve", survey, "--no-browser", "--port", str(free_port())]
    with command(arguments, log) as process:
        yield wait_for_address(process, log, timeout=FIRST_S), process.pid


def rss_anon_gb(pid: int) -> float:
    """RssAnon of a process, GB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError(f"/proc/{pid}/status has no RssAnon")
    return int(found[1]) * 1024 / 1e9


def places(survey: Path, n: int) -> list[tuple[float, float]]:
    """Where `n` subjects are, as shares (-.5 to .5) of the map's extent: rightward, upward."""
    (path,) = survey.glob(f"maps/*/{COORDINATES}")
    file = pq.ParquetFile(path)
    groups = range(file.metadata.num_row_groups)
    axes = []
    for column in (1, 2):
        spans = [file.metadata.row_group(i).column(column).statistics for i in groups]
        low, high = min(s.min for s in spans), max(s.max for s in spans)
        values = file.read_row_group(0, columns=[f"umap_{column}"]).column(0).to_numpy()
        axes.append((values[:: len(values) // n][:n] - low) / (high - low) - 0.5)
    return [(float(x), float(y)) for x, y in zip(*axes, strict=True)]


def hovers(page: Page, box: tuple[float, float, float, float], at: list[tuple[float, float]]) -> list[float]:
    """The pointer rests on one place after another: ms to the thumbnail, each time but the first two."""
    x, y, width, height = box
    times = []
    for right, up in at:
        page.mouse.move(x - width / 2 + 6, y + height / 2 - 6)  # a corner without a subject
        page.wait_for_timeout(400)
        seen = page.evaluate(PICTURES)
        place = x + right * width / 1.08, y - up * height / 1.08
        times.append(shown_after(page, lambda place=place: page.mouse.move(*place), "pointermove", NEW_PICTURE, seen))
    return times[2:]


@contextlib.contextmanager
def paged(browser: Browser) -> Iterator[Page]:
    """A page in a context of its own."""
    context = browser.new_context(viewport=SCREEN)
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        yield page
    finally:
        context.close()


def gestures(url: str, pid: int, survey: Path, patience: float, rounds: int) -> Figures:
    """Every line, one page after another."""
    each: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = launch(playwright)
        with paged(browser) as page:  # whoever comes first waits for the index
            page.set_default_timeout(1000 * FIRST_S)
            page.goto(url)
            wait_until_idle(page)
            page.wait_for_timeout(1000)
        at_first = rss_anon_gb(pid)
        with paged(browser) as page:
            latency = measure(page, url, patience=patience)
        each |= moves(latency)
        with paged(browser) as page:
            box = open_map(page, url)
            each["hover"] = hovers(page, box, places(survey, rounds + 2))
            each["color"] = changes(our_color, "input", rounds, 1.5 * patience)(page, box)
        with paged(browser) as page:
            box = open_map(page, f"{url}&color=scores.anomaly_score")
            each["lambda"] = changes(our_weight, "keydown", rounds, 1.5 * patience)(page, box)
        with paged(browser) as page:
            each["lasso"], _ = lasso.ours(page, url, rounds)
        browser.close()
    each["thumbnails"] = thumbnails.ours(url, rounds)
    each["memory"] = [rss_anon_gb(pid)]
    exact = {"wheel": {"exact_ms": latency.wheel_exact_ms}, "pan": {"exact_ms": latency.pan_exact_ms}}
    return Figures(each, latency.plot, {**exact, "memory": {"first_page_gb": at_first}})


def moves(latency: Latency) -> dict[str, list[float]]:
    """The lines of the wheel, the pan and the drag."""
    return {"wheel": latency.wheel_ms, "pan": latency.pan_ms, "drag": [latency.drag_frames]}


def figures(size: str, folder: Path, *, only_moves: bool = False) -> Figures:
    """Serve a synthetic survey of `size` and measure it."""
    survey = folder / size
    lend_survey(survey, SIZES[size], pictures=True)
    with served(survey, folder / f"{size}.log") as (url, pid):
        if not only_moves:
            return gestures(url, pid, survey, PATIENCE[size], ROUNDS[size])
        with sync_playwright() as playwright:
            browser = launch(playwright)
            with paged(browser) as page:
                latency = measure(page, url)
            browser.close()
        return Figures(moves(latency), latency.plot, {})


def rows_of(size: str, found: Figures, reference: Figures | None) -> list[Row]:
    """The rows of one size; `reference` is that of 1.5 million."""
    rows = []
    for line, (unit, what, held_at) in LINES.items():
        each = found.each[line]
        if not each:
            raise RuntimeError(f"{size}: nothing was painted by {line}")
        held, ours = held_at[size], statistics.median(each)
        better = "higher" if line == "drag" else "lower"
        if held.times is not None and reference is not None:
            theirs_each = reference.each[line]
            theirs, target, alternative = statistics.median(theirs_each), 1 / held.times, "ours at 1.5 M, the same run"
        else:
            assert held.limit is not None
            theirs_each, theirs, target = [], held.limit, None
            alternative = f"the {held.limit:g} {unit} that it may take"
            if line == "drag":
                alternative = f"the {held.limit:g} {unit} that are wanted"
        rounds = f", median of {len(each)}" if len(each) > 1 else ""
        rows.append(
            Row(
                f"scale-{size}-{line}",
                f"{SIZES[size]:,} synthetic subjects: {what}{rounds}",
                ours,
                theirs,
                ours / theirs if better == "higher" else theirs / max(ours, 1e-9),
                unit,
                alternative,
                target=target,
                limit=held.limit,
                better=better,
                each=list(map(float, each)),
                theirs_each=list(map(float, theirs_each)),
                extra={"plot_px": found.plot, **found.extra.get(line, {})},
            )
        )
    return rows


def rows() -> list[Row]:
    """1.5 and 10 million."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-scale-") as name:
        least, more = (figures(size, Path(name)) for size in ("1500k", "10m"))
    return [*rows_of("1500k", least, None), *rows_of("10m", more, least)]


def rows_of_most() -> list[Row]:
    """100 million, beside the moves of 1.5 million."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-scale-") as name:
        least = figures("1500k", Path(name), only_moves=True)
        most = figures("100m", Path(name))
    return rows_of("100m", most, least)


ROWS = {"scale": rows}
LONG_ROWS = {"scale-100m": rows_of_most}
