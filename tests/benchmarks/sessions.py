"""What twenty sessions leave in the server once they are closed, beside those of a stock HoloViews map."""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey
from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import command, free_port, wait_for_address

SESSIONS = 20
FIRST = 5  # of which none is counted: they fill the server's caches


@contextlib.contextmanager
def census_of(log: Path, what: str, *arguments: object) -> Iterator[str]:
    """URL of a server with ``/census``."""
    with command([sys.executable, "-m", "tests.benchmarks.census", what, *map(str, arguments)], log) as process:
        yield wait_for_address(process, log, timeout=120)


def census(url: str) -> dict[str, Any]:
    """What the server at `url` tells, once it has no session any more."""
    told: dict[str, Any] = {}
    for _ in range(60):
        with urlopen(f"http://{urlsplit(url).netloc}/census") as answer:
            told = json.loads(answer.read())
        if not told["sessions"]:
            return told
        time.sleep(0.5)
    return told


def visit(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The census before and after the sessions."""
    with sync_playwright() as playwright:
        browser = launch(playwright)

        def sessions(n: int) -> dict[str, Any]:
            for _ in range(n):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                page = context.new_page()
                page.goto(url)
                wait_until_idle(page)
                context.close()
            return census(url)

        found = sessions(FIRST), sessions(SESSIONS)
        browser.close()
    return found


def rows() -> list[Row]:
    """Growth of RssAnon over the sessions."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-sessions-") as name:
        folder = Path(name)
        write_survey(folder / "synthetic", N)
        with census_of(folder / "ours.log", "ours", folder / "synthetic", free_port()) as url:
            mine = visit(url)
        with census_of(folder / "stock.log", "stock", N, free_port(), 894, 705) as url:
            theirs = visit(f"http://{urlsplit(url).netloc}/count")
    ours, stock = (max(0.1, after["rss_anon_mib"] - before["rss_anon_mib"]) for before, after in (mine, theirs))
    left = mine[1]["sessions"], mine[1]["watchers"] - mine[0]["watchers"]
    return [
        Row(
            "sessions",
            f"{N:,} synthetic points: growth of the server's RssAnon by {SESSIONS} pages opened and closed",
            ours,
            stock,
            stock / ours,
            "MiB",
            "a page with nothing but HoloViews rasterize(points)",
            note=f"left: {left[0]} sessions, {left[1]} watchers of Panel's global state; below 0.1 MiB counts as 0.1",
            extra={"ours": mine, "theirs": theirs},
        )
    ]


LONG_ROWS = {"sessions": rows}
