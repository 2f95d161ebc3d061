"""Accounts of a test's survey, and people who log in to it."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from argon2 import PasswordHasher

from explorer.people import Role
from explorer.services.accounts import Accounts
from explorer.survey import Survey

#: Real argon2, at once.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORDS = {
    "owner-1": "orion rises",
    "grader-1": "vega is blue",
    "grader-2": "altair spins",
    "viewer-1": "deneb is far",
}
ROLES: dict[str, Role] = {"owner-1": "owner", "grader-1": "vetter", "grader-2": "vetter", "viewer-1": "viewer"}


def accounts_of(survey: Path) -> Accounts:
    """The accounts of a survey; passwords are hashed quickly."""
    opened = Survey.open(survey)
    opened.close()
    return Accounts(opened.info.survey_id, CHEAP)


def with_accounts(survey: Path, roles: Mapping[str, Role] = ROLES) -> Accounts:
    """Give a survey an owner, two who grade and one who looks."""
    accounts = accounts_of(survey)
    for name, role in roles.items():
        accounts.add(name, role, PASSWORDS[name])
    return accounts


Answer = tuple[int, dict[str, str], bytes]


def ask(url: str, path: str, sent: str | bytes | None = None, **headers: str) -> Answer:
    """Status, headers (lower case) and body; redirects are not followed. POST where something is `sent`."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET" if sent is None else "POST", path, sent, headers=headers)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def origin_of(url: str) -> str:
    """The Origin header of a page of this server."""
    return f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"


def send_login(url: str, name: str, password: str, target: str = "/", **headers: str) -> Answer:
    """What the form of the login page sends."""
    body = urlencode({"name": name, "password": password, "next": target})
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin_of(url)}
    return ask(url, "/login", body, **form | headers)


@dataclass
class Visitor:
    """Somebody who is logged in; `cookie` is what their browser has."""

    url: str
    cookie: str

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for something."""
        return ask(self.url, path, Cookie=self.cookie, **headers)

    def token(self) -> str:
        """What goes with a change."""
        return self.get("/token")[2].decode()

    def post(self, path: str, sent: str | bytes = "{}", **headers: str) -> Answer:
        """Change something, as a page of ours does."""
        common = {"Cookie": self.cookie, "Origin": origin_of(self.url), "X-Voorwerp-Token": self.token()}
        return ask(self.url, path, sent, **common | headers)


def log_in(url: str, name: str, password: str | None = None) -> Visitor:
    """Log in by the form."""
    status, headers, body = send_login(url, name, password or PASSWORDS[name])
    assert (status, headers.get("location")) == (303, "/"), body
    return Visitor(url, headers["set-cookie"].split(";")[0])
