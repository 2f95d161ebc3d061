"""Logging in and out in a real browser, by hand and by keyboard, and what becomes of a page whose login ends."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from explorer.services.accounts import Accounts
from tests.explorer.logging_in import PASSWORDS, with_accounts
from tests.ui.browser import painted, query, wait_until_idle
from tests.ui.serving import serve
from tests.ui.test_shell import findings, nothing_serious


@pytest.fixture(scope="module")
def place(image_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Accounts]]:
    """A server of a survey with accounts, and the accounts."""
    folder, before = tmp_path_factory.mktemp("accounts"), os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(folder / "config")
    try:
        survey = shutil.copytree(image_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
        accounts = with_accounts(survey)
        with serve(survey, folder / "log") as url:
            yield url, accounts
    finally:
        os.environ["VOORWERP_CONFIG"] = before


def log_in(page: Page, name: str, password: str | None = None) -> None:
    """Fill in the page of logins by keyboard."""
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(password or PASSWORDS[name])
    page.keyboard.press("Enter")


def forgive(troubles: list[str], status: int) -> None:
    """A refusal that the test is about is no trouble."""
    troubles[:] = [trouble for trouble in troubles if f"status of {status}" not in trouble]


def test_who_logs_in_comes_to_what_was_asked_for_and_out_again(
    place: tuple[str, Accounts], page: Page, troubles: list[str]
) -> None:
    page.goto(place[0] + "?subject=588848901523702006")
    nothing_serious(page)
    log_in(page, "grader-1", "not the one")
    expect(page.locator("#wrong")).to_have_text("This name and password do not go together.")
    expect(page.get_by_label("Name", exact=True)).to_have_value("grader-1")
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    nothing_serious(page)
    forgive(troubles, 401)
    page.keyboard.type(PASSWORDS["grader-1"])
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.Bokeh")
    wait_until_idle(page)
    assert query(page)["subject"] == "588848901523702006"
    who = page.locator(".topbar .who")
    expect(who.locator("summary")).to_have_text("grader-1")
    who.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(who).to_contain_text("A vetter grades, tags, notes, keeps selections and places, too.")
    painted(page)
    assert not [found for found in findings(page) if "grader-1" in found or "Log out" in found]
    page.keyboard.press("Escape")
    expect(who.get_by_role("button", name="Log out")).to_be_hidden()
    who.locator("summary").click()
    who.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.goto(place[0])
    expect(page.get_by_role("button", name="Log in", exact=True)).to_be_visible()  # no cookie lets anybody in


def test_a_page_of_a_removed_account_says_so_by_itself(
    place: tuple[str, Accounts], page: Page, troubles: list[str]
) -> None:
    url, accounts = place
    accounts.add("leaving", "vetter", "algol blinks")
    page.goto(url)
    log_in(page, "leaving", "algol blinks")
    page.wait_for_function("() => window.Bokeh")
    wait_until_idle(page)
    accounts.remove("leaving")
    banner = page.locator(".away")
    expect(banner).to_contain_text("You are logged out. Your decisions are kept in the survey.")
    banner.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    log_in(page, "leaving", "algol blinks")
    expect(page.locator("#wrong")).to_have_text("This name and password do not go together.")
    troubles.clear()  # that the server says no is what this test is about


def test_who_looks_is_offered_no_runs_and_keeps_nothing(place: tuple[str, Accounts], page: Page) -> None:
    page.goto(place[0])
    log_in(page, "viewer-1")
    page.wait_for_function("() => window.Bokeh")
    wait_until_idle(page)
    expect(page.locator(".topbar .who summary")).to_have_text("viewer-1")
    page.get_by_role("button", name="Runs", exact=True).click()
    dialog = page.get_by_role("dialog", name="Runs and training")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="New run")).to_be_hidden()
    page.keyboard.press("Escape")
    field = page.get_by_label("Add a tag")
    field.fill("ring")
    field.press("Enter")
    expect(page.locator(".subject")).to_contain_text("viewer-1 is a viewer here and may not do that; it takes a vetter")
