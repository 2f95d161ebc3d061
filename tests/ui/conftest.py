"""Fixtures of the journeys: a browser, a page that tolerates no error and no request to elsewhere, a served survey."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    WebError,
    WebSocket,
    expect,
    sync_playwright,
)

from tests.ui.browser import MISSING, find, launch, wait_until_idle
from tests.ui.serving import serve

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PATIENCE = 60_000  # ms: so slow may a machine be that does several things at once
expect.set_options(timeout=PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for a page or a browser: ``-m "not browser"`` leaves the journeys out."""
    for item in items:
        if {"page", "browser"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all journeys; without one they skip, with ``CI`` set they fail."""
    with sync_playwright() as playwright:
        if find(playwright) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def troubles() -> list[str]:
    """What went wrong in the test's pages so far; a test that provokes an error removes it after a look."""
    return []


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One window for all pages: opening one, and fetching every script into it, takes longer than most journeys."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, troubles: list[str]) -> Iterator[Page]:
    """A page, 1440 × 900, of whom no server and no browser knows anything from before.

    At the end, any error in it or request beyond loopback fails the test.
    """
    origins = set()

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            troubles.append(f"console: {message.text} ({message.location.get('url', '')})")

    def on_request(request: Request | WebSocket) -> None:
        address = urlsplit(request.url)
        origins.add(f"{address.scheme}://{address.netloc}")
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in LOOPBACK:
            troubles.append(f"request to elsewhere: {request.url}")

    def on_error(error: WebError) -> None:
        troubles.append(f"page error: {error.error}")

    heard = {"request": on_request, "console": on_console, "weberror": on_error}
    for event, listener in heard.items():
        context.on(event, listener)
    page = context.new_page()
    page.on("websocket", on_request)
    yield page
    for event, listener in heard.items():
        context.remove_listener(event, listener)
    page.goto("about:blank")
    session = context.new_cdp_session(page)
    for origin in origins:
        session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "cookies,local_storage"})
    page.close()
    context.clear_permissions()
    assert not troubles, "the page reported:\n" + "\n".join(troubles)


@pytest.fixture(scope="session")
def served(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of `finished_survey`, served for all journeys that leave nothing behind."""
    with serve(finished_survey, tmp_path_factory.mktemp("serve") / "log") as url:
        yield url


@pytest.fixture
def open_survey(page: Page) -> Callable[[str], Page]:
    """``open_survey(url)``: go there and wait until the page is idle."""

    def go(url: str) -> Page:
        page.goto(url)
        wait_until_idle(page)
        return page

    return go
