"""Graders who vote over HTTP as their browsers do, and the server that they vote on: a real `voorwerp serve`."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explorer.ledger import Ledger
from explorer.services.accounts import Accounts
from explorer.services.campaigns import Plan
from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.vetted import campaigns_of, write_graded
from tests.ui.serving import VOORWERP, command, free_port, wait_for_address

GRADES = ("A", "B", "C", "X")


@dataclass
class Place:
    """A survey with a campaign that all its graders see all of.

    Attributes
    ----------
    cookies
        Grader → the cookie of their login, which outlives the server.
    """

    path: Path
    survey_id: str
    campaign: str
    cookies: dict[str, str]
    port: int = field(default_factory=free_port)

    def graders(self) -> list["Grader"]:
        """A client each."""
        return [Grader(self, name, cookie) for name, cookie in self.cookies.items()]


def make_place(folder: Path, n_graders: int, n: int = 300) -> Place:
    """A small survey with accounts for `n_graders`, and a campaign of its `n` subjects."""
    path = write_graded(folder / "survey", n)
    with contextlib.closing(Survey.open(path)) as survey, Ledger(path, survey.info.survey_id) as ledger:
        accounts = Accounts(survey.info.survey_id)
        made = [accounts.add(f"grader-{k + 1}", "vetter", None) for k in range(n_graders)]
        cookies = {account.name: accounts.log_in(account) for account in made}
        plan = Plan("everything", SCHEMES["abcx"], graders=n_graders)
        rows = np.flatnonzero(survey.frame())
        campaign = campaigns_of(survey, ledger).make(plan, rows, {"selection": None}, "owner")
        return Place(path, survey.info.survey_id, campaign.id, cookies)


@dataclass
class Grader:
    """One browser's connection.

    Attributes
    ----------
    votes
        UUID → (key, grade) of every vote that was acknowledged, in their order.
    """

    place: Place
    name: str
    cookie: str
    keys: list[str] = field(default_factory=list)
    votes: dict[str, tuple[str, str]] = field(default_factory=dict)
    token: str = ""
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """One request on the connection, which is made again if it is gone; status and body of the answer.

        Raises
        ------
        OSError, asyncio.IncompleteReadError
            There is no server, or it ended meanwhile.
        """
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.place.port)
        assert self.reader is not None
        host, name = f"127.0.0.1:{self.place.port}", f"voorwerp-{self.place.port}"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Cookie: {name}={self.cookie}"]
        if method == "POST":
            lines += [f"Origin: http://{host}", f"X-Voorwerp-Token: {self.token}", f"Content-Length: {len(body)}"]
        try:
            self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
            return int(head.split(b" ", 2)[1]), await self.reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self.writer.close()
            self.writer = None
            raise

    async def begin(self) -> None:
        """Ask for what the page asks for when it is opened."""
        self.token = await self._told("/token")
        queue = json.loads(await self._told(f"/vet/{self.place.campaign}/queue?count=500&whole=1"))
        self.keys = [item["key"] for item in queue["items"]]

    async def _told(self, path: str) -> str:
        status, body = await self.ask("GET", path)
        assert status == 200, (status, body)
        return body.decode()

    async def vote(self, key: str, grade: str, client_id: str) -> dict[str, Any]:
        """Send a vote, and return what is answered once it is on the disk."""
        said = {"key": key, "grade": grade, "interesting": False, "seconds": 1.5, "id": client_id, "looked": []}
        status, body = await self.ask("POST", f"/vet/{self.place.campaign}/vote", json.dumps(said).encode())
        if status != 200:
            raise RuntimeError(f"a vote of {self.name} was answered with {status}: {body.decode()}")
        self.votes[client_id] = (key, grade)
        return json.loads(body)

    def close(self) -> None:
        """Hang up."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


@contextlib.contextmanager
def served(place: Place, log: Path) -> Iterator[subprocess.Popen]:
    """`voorwerp serve`, until the end of the block; everything that is left of it is killed."""
    arguments = [VOORWERP, "serve", place.path, "--no-browser", "--port", str(place.port)]
    with command(arguments, log) as process:
        try:
            wait_for_address(process, log, 120)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the server and to what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def new_id() -> str:
    """The UUID of a decision."""
    return str(uuid.uuid4())


def clock() -> float:
    """Seconds that only grow."""
    return time.perf_counter()
