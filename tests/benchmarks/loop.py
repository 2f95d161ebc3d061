"""What holds the server's event loop while a person pans, hovers, mixes, moves a threshold, and while others vote."""

import asyncio
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.boundary import write
from tests.benchmarks.gestures import our_weight
from tests.benchmarks.graders import work
from tests.benchmarks.latency import open_map
from tests.benchmarks.map import N
from tests.benchmarks.people import asked
from tests.benchmarks.row import Row
from tests.benchmarks.sessions import census_of
from tests.benchmarks.watchdog import LIMIT_MS
from tests.graders_at_hand import make_place
from tests.ui.browser import launch
from tests.ui.serving import free_port

#: Seconds of each gesture, and graders at once.
GESTURE_S, GRADERS = 5.0, 8


def pan(page: Page, box: tuple[float, float, float, float]) -> None:
    """Drag to and fro, and turn the wheel."""
    x, y, _, _ = box
    page.mouse.move(x, y)
    page.mouse.down()
    end, k = time.monotonic() + GESTURE_S, 0
    while time.monotonic() < end:
        k += 1
        page.mouse.move(x + 120 * math.sin(k / 15), y + 60 * math.cos(k / 11))
        page.wait_for_timeout(16)
    page.mouse.up()
    for k in range(10):
        page.mouse.wheel(0, 120 if k % 2 else -120)
        page.wait_for_timeout(200)


def hover(page: Page, box: tuple[float, float, float, float]) -> None:
    """Rest in one place after another."""
    x, y, width, height = box
    for k in range(20):
        page.mouse.move(x + 0.3 * width * math.sin(k), y + 0.3 * height * math.cos(2 * k))
        page.wait_for_timeout(300)


def mix(page: Page, box: tuple[float, float, float, float]) -> None:
    """λ, step by step."""
    for k in range(20):
        our_weight(page, k)
        page.wait_for_timeout(250)


def threshold(page: Page, box: tuple[float, float, float, float]) -> None:
    """A gate's limit, key by key; the sheet is opened and its first numbers are there (`judged`)."""
    for _ in range(20):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(250)


def judged(page: Page) -> None:
    """Open the boundary, with a gate on a score and a truth."""
    page.evaluate("() => localStorage.clear()")
    page.keyboard.press("Escape")  # the tour
    page.keyboard.press("Shift+B")
    page.get_by_label("What counts as right").select_option(label="chosen")
    page.get_by_label("Add a gate on a column").select_option(label="Feature score")
    page.get_by_role("slider", name="Feature score, at least").focus()
    page.wait_for_timeout(5000)


GESTURES: dict[str, Callable[[Page, tuple[float, float, float, float]], None]] = {
    "pan": pan,
    "hover": hover,
    "lambda": mix,
    "threshold": threshold,
}


def row(name: str, told: dict[str, Any], what: str) -> Row:
    """The longest callback by its own work, beside what it may be; what the clock says of it is in the note."""
    slow = ", ".join(f"{who} {ms:g} ms ({cpu:g})" for who, (_, _, ms, cpu) in list(told["slow"].items())[:3])
    note = f"of {told['callbacks']:,}; on the clock, with what else the machine and other threads did, "
    note += f"{told['longest_ms']:g} ms" + (f"; above {LIMIT_MS:g} ms: {slow}" if slow else "")
    ours = max(0.1, told["longest_cpu_ms"])
    alternative = f"the {LIMIT_MS:g} ms that it may take"
    return Row(
        f"loop-{name}",
        f"{what}: the longest callback of the server's event loop, processor time",
        ours,
        LIMIT_MS,
        LIMIT_MS / ours,
        "ms",
        alternative,
        1.0,
        note,
        {"loop": told},
        limit=LIMIT_MS,
    )


def gestures() -> list[Row]:
    """On one page in a real Chromium."""
    found = []
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-loop-") as name, sync_playwright() as playwright:
        folder = Path(name)
        write(folder / "synthetic", N)
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        with census_of(folder / "ours.log", "ours", folder / "synthetic", free_port()) as url:
            box = open_map(page, f"{url}&color=scores.anomaly_score")
            for gesture, act in GESTURES.items():
                if gesture == "threshold":
                    judged(page)
                asked(url, "watchdog")
                act(page, box)
                found.append(row(gesture, asked(url, "watchdog"), f"{N:,} synthetic points, {gesture}"))
        browser.close()
    return found


def votes() -> Row:
    """Over HTTP, as the page of graders sends them."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-loop-") as name:
        os.environ["VOORWERP_CONFIG"] = f"{name}/config"
        place = make_place(Path(name), GRADERS)

        async def grade(url: str) -> None:
            graders = place.graders()
            for grader in graders:
                await grader.begin()
            await work(graders, 0.2, 1, 1)  # the first of everything costs once
            asked(url, "watchdog")
            await work(graders, 0.2, 10, 0)
            for grader in graders:
                grader.close()

        with census_of(Path(name) / "ours.log", "ours", place.path, place.port) as url:
            asyncio.run(grade(url))
            return row("vote", asked(url, "watchdog"), f"{GRADERS} graders, a vote each every 0.2 s in the mean")


ROWS = {"loop": gestures, "loop-vote": votes}
