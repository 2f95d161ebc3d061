"""The Chromium of the journeys, the benchmarks and the screenshots.

``python -m tests.ui.browser`` (called by ``make test``) makes sure that there is one: a browser that is installed,
else Debian's where root and apt are, else Playwright's own within 60 seconds. Without any, the journeys skip and say
so; with ``CI`` set that is a failure.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from playwright.sync_api import Browser, Page, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAC = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# No GPU and no talk with the browser maker's servers: the same page paints the same way on every machine.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IDLE = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"
MISSING = "no Chromium was found; install one (Debian: apt-get install chromium) or run `playwright install chromium`"


def runs(program: str) -> bool:
    """Whether `program` answers to ``--version`` (a stub that only points to a shop does not)."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find(playwright: Playwright | None = None) -> str | None:
    """Path of a Chromium that starts, or None; one named in ``PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH`` comes first."""
    named = [os.environ.get("PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH"), *map(shutil.which, NAMES), *MAC]
    for path in named:
        if path and Path(path).exists() and runs(path):
            return path
    if playwright is None:
        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
    else:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() and runs(own) else None


def install() -> None:
    """Try to install a Chromium; `find` tells whether it worked."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Debian's chromium for the journeys …", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL, "env": apt_environment()}
        subprocess.run(["apt-get", "-q", "update"], check=False, **quiet)
        subprocess.run(["apt-get", "-qy", "install", "--no-install-recommends", "chromium"], check=False, **quiet)
        if find():
            return
    print("Installing Playwright's chromium for the journeys (60 s at most) …", flush=True)
    try:
        command = [sys.executable, "-m", "playwright", "install", "chromium"]
        subprocess.run(command, check=False, timeout=60, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        print("Playwright's download did not finish within 60 s", flush=True)


def apt_environment() -> dict[str, str]:
    """The environment in which apt asks no question."""
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def launch(playwright: Playwright) -> Browser:
    """A headless browser of the kind that `find` finds.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    path = find(playwright)
    if path is None:
        raise FileNotFoundError(MISSING)
    return playwright.chromium.launch(executable_path=path, args=FLAGS)


def wait_until_idle(page: Page, timeout: float = 120) -> None:
    """Wait, at most `timeout` seconds, until Bokeh has drawn everything it was sent."""
    page.wait_for_function(IDLE, timeout=timeout * 1000)


def eventually(read: Callable[[], Any], holds: Callable[[Any], Any], timeout: float = 60) -> Any:
    """What `read` tells, as soon as `holds` is true of it; asked again and again, at most `timeout` seconds.

    Raises
    ------
    AssertionError
        It never was; the message has what was read last.
    """
    end = time.monotonic() + timeout
    while True:
        if holds(found := read()):
            return found
        if time.monotonic() > end:
            raise AssertionError(f"after {timeout:.0f} s it still reads: {found!r}")
        time.sleep(0.05)


def query(page: Page) -> dict[str, str]:
    """What the page's own address says now; `page.url` does not move as long as nobody asks the browser anything."""
    search = page.evaluate("() => location.search")
    return {key: values[0] for key, values in parse_qs(search.lstrip("?")).items()}


def painted(page: Page) -> None:
    """Until what was due before the call stands on the screen."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def main() -> int:
    """Find or install a browser; the exit code says whether the run may go on."""
    if find() is None:
        install()
    path = find()
    if path:
        print(f"browser for the journeys: {path}")
        return 0
    print(MISSING if os.environ.get("CI") else f"{MISSING}; the journeys will be skipped", file=sys.stderr)
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
