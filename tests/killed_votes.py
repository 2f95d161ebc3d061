"""SIGKILL of a server at random moments while graders vote as fast as they can: is every acknowledged vote kept once?

The server is `voorwerp serve` with all its arguments, in a process forked from one that has imported everything: a kill
costs a second instead of five.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.ledger import Ledger
from tests.graders_at_hand import GRADES, Grader, Place, make_place, new_id
from tests.ui.serving import wait_for_address

#: Reads "LOG ARGUMENT …" a line, forks, and says the pid; each child is a `voorwerp` in a session of its own.
FORKING = """
import os, signal, sys
import explorer.app, explorer.cli, explorer.services.desk, explorer.vet
import holoviews.plotting.bokeh, markdown_it, matplotlib.pyplot, panel, panel_material_ui.template
explorer.app.setup()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # killed ones are buried at once
print("ready", flush=True)
for line in sys.stdin:
    log, *arguments = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["voorwerp", *arguments]
        explorer.cli.main()
        os._exit(0)
    print(pid, flush=True)
"""


class Forked:
    """A served survey, as `subprocess.Popen` is to those who wait for it."""

    returncode = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """None while it is there."""
        return None if Path(f"/proc/{self.pid}").exists() else -1

    def kill(self) -> None:
        """SIGKILL to it and to what it started; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        while self.poll() is None:
            os.sched_yield()


@contextlib.contextmanager
def forking() -> Iterator[subprocess.Popen[str]]:
    """The process that forks servers."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def start(parent: subprocess.Popen[str], place: Place, log: Path) -> Forked:
    """A server on a place, ready."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    log.unlink(missing_ok=True)
    arguments = ["serve", str(place.path), "--no-browser", "--port", str(place.port)]
    print("\t".join([str(log), *arguments]), file=parent.stdin, flush=True)
    server = Forked(int(parent.stdout.readline()))
    while not log.exists():
        os.sched_yield()
    wait_for_address(server, log, 120)  # type: ignore[arg-type]
    return server


@dataclass
class Voter:
    """A grader who repeats what was not answered, with the same UUID, until it is."""

    grader: Grader
    random: random.Random
    pending: tuple[str, str, str] | None = None
    n_sent: int = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Vote until told to stop, or until the server is gone."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.grader.begin()
            while self.pending or not stop.is_set():
                if self.pending is None:
                    self.pending = self.random.choice(self.grader.keys), self.random.choice(GRADES), new_id()
                self.n_sent += 1
                await self.grader.vote(*self.pending)
                self.pending = None


@dataclass
class Report:
    """What was seen.

    Attributes
    ----------
    n_votes
        Acknowledged, all in all.
    n_unanswered, n_unanswered_kept
        At the kills: votes on their way, and how many of them were in the ledger already.
    lost, doubled
        UUIDs, or what else shows it; must be [].
    """

    seed: int
    n_kills: int = 0
    n_votes: int = 0
    n_sent: int = 0
    n_unanswered: int = 0
    n_unanswered_kept: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def votes_of(place: Place) -> list[Any]:
    """The votes that are in the ledger."""
    with Ledger(place.path, place.survey_id) as ledger:
        return ledger.entries("vote", include_undone=True)


def killed(folder: Path, n_kills: int, n_graders: int = 8, seed: int | None = None) -> Report:
    """Serve a small survey, kill it `n_kills` times within half a second of voting, and look at what was kept."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    draw, report = random.Random(seed), Report(seed)
    place = make_place(folder, n_graders)
    voters = [Voter(grader, random.Random(seed + k)) for k, grader in enumerate(place.graders(), 1)]
    with forking() as parent:
        for n in range(n_kills + 1):
            server = start(parent, place, folder / "log")
            try:
                asyncio.run(_round(voters, server, draw.uniform(0, 0.5) if n < n_kills else None))
            finally:
                server.kill()
            kept = {entry.client_id for entry in votes_of(place)}
            report.lost += [i for v in voters for i in v.grader.votes if i not in kept]
            unanswered = [v.pending[2] for v in voters if v.pending is not None]
            report.n_unanswered += len(unanswered)
            report.n_unanswered_kept += len(kept & set(unanswered))
            report.n_kills += n < n_kills
    _compare(place, voters, report)
    return report


async def _round(voters: list[Voter], server: Forked, seconds: float | None) -> None:
    stop = asyncio.Event()
    n_before = sum(len(v.grader.votes) for v in voters)
    working = [asyncio.create_task(v.work(stop)) for v in voters]
    while sum(len(v.grader.votes) for v in voters) == n_before:  # it is at work
        await asyncio.sleep(0.001)
        for task in working:
            if task.done():
                task.result()
        if all(task.done() for task in working):
            raise RuntimeError("the server ended before anybody killed it")
    if seconds is None:
        stop.set()
    else:
        await asyncio.sleep(seconds)
        server.kill()
    await asyncio.gather(*working)
    for voter in voters:
        voter.grader.close()


def _compare(place: Place, voters: list[Voter], report: Report) -> None:
    """Every acknowledged vote is there, as it was sent, and no other one."""
    entries = votes_of(place)
    acknowledged = {i: (v.grader.name, grade) for v in voters for i, (_, grade) in v.grader.votes.items()}
    report.n_votes, report.n_sent = len(acknowledged), sum(v.n_sent for v in voters)
    seen: set[str] = set()
    for entry in entries:
        if entry.client_id in seen or entry.client_id not in acknowledged:
            report.doubled.append(entry.client_id)
        elif acknowledged[entry.client_id] != (entry.who, entry.payload["grade"]):
            report.problems.append(f"{entry.client_id} is not what was sent")
        seen.add(entry.client_id)
    report.lost += [i for i in acknowledged if i not in seen]
    if [e.id for e in entries] != sorted(e.id for e in entries) or [e.at for e in entries] != sorted(
        e.at for e in entries
    ):
        report.problems.append("the order of the log is not that of time")
