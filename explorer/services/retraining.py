"""A kind is trained again after every so many votes, or once a day: a job like any other, started by the server.

What it goes by stands in the ledger and in the runs, so a restart changes nothing. An entry of kind ``retraining``
says why, before anything is read; a run that a person starts is as good: what was voted since the later of them counts.
Settings are those of the kind's last finished run. While one is at work or waits, no other is begun. One that fails is
said, and tried again when it is due the next time.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import Any

from explorer.errors import UsageError, VoorwerpError
from explorer.ledger import Entry
from explorer.people import SERVER
from explorer.services.cost import OF_MOSAIC, VOTE
from explorer.services.jobs import Job, JobService, checked_config
from explorer.survey import counted
from models.artifacts import ArtifactError, Run

KIND = "retraining"
CLASSIFICATION = "classification"
#: Seconds between two looks.
LOOK = 1.0
#: A run that a stop of the server interrupted is gone on with when it starts again, until it has been begun so often.
MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a kind is trained again.

    Attributes
    ----------
    kind
        Of run.
    every
        After so many votes; None: not by their number.
    at
        Every day at this time of the server's clock, where somebody has voted since; None: not by the clock.
    """

    kind: str
    every: int | None = None
    at: clock_time | None = None

    def __post_init__(self) -> None:
        if self.every is None and self.at is None:
            raise UsageError(
                f"say when {self.kind} is to be trained again: --retrain-every VOTES, --retrain-at HH:MM, or both"
            )
        if self.every is not None and self.every < 1:
            raise UsageError(f"nothing can be trained again every {self.every} votes; 1 is the least")

    @classmethod
    def of(cls, kind: str | None, every: int | None, at: str | None) -> Schedule | None:
        """From what was told on the command line; None for nothing.

        Raises
        ------
        UsageError
            A time that is none, or one without the other.
        """
        if kind is None:
            if every is not None or at is not None:
                raise UsageError("--retrain-every and --retrain-at say when; say what by --retrain KIND")
            return None
        found = None if at is None else re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at.strip())
        if at is not None and found is None:
            raise UsageError(f'--retrain-at is "{at}"; write a time of the day as 03:00')
        return cls(kind, every, None if found is None else clock_time(int(found[1]), int(found[2])))

    def words(self) -> str:
        """``every 500 votes and at 03:00``."""
        often = [] if self.every is None else [f"every {self.every:,} votes" if self.every > 1 else "at every vote"]
        return " and ".join([*often, *([] if self.at is None else [f"at {self.at:%H:%M}"])])

    def last(self, now: datetime) -> datetime | None:
        """The last time that the clock showed `at`; None where it does not matter."""
        if self.at is None:
            return None
        here = now.astimezone()
        day = here.date() if here.time() >= self.at else here.date() - timedelta(days=1)
        return datetime.combine(day, self.at).astimezone().astimezone(UTC)


class Retraining:
    """Trains one kind again by a schedule. One per server; thread-safe.

    Parameters
    ----------
    count
        Called before a run is started: has what was voted up to now counted.
    campaign
        Name of a campaign → its id, so that of experts' votes only those in the one that is learned from count.
    clock
        For tests.

    Raises
    ------
    UsageError
        There is no such kind.
    """

    def __init__(
        self,
        jobs: JobService,
        schedule: Schedule,
        count: Callable[[], object] = lambda: None,
        campaign: Callable[[str], str] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.jobs, self.ledger, self.schedule = jobs, jobs.ledger, schedule
        self.kind = jobs.kind(schedule.kind)
        self._count, self._campaign, self._clock = count, campaign, clock
        self._began = clock()
        self._looking = threading.RLock()
        self._votes: dict[int, tuple[int, str]] = {}  # of entries since the mark: how many, and when
        self._learns = set(self.kind.labels) or {"votes", "amateur", "expert"}
        marks = [entry for entry in self.ledger.entries(("job", KIND)) if self._is_mark(entry)]
        self._mark: Entry | None = marks[-1] if marks else None
        self._last = self._mark.id if self._mark else 0
        self._in_campaign = self._learned_in()
        self._is_first = True
        self._watched: str | None = None
        self._said = ""
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------------------ thread
    def start(self) -> None:
        """Look from now on, every second."""
        self._thread = threading.Thread(target=self._run, name="retraining", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._closed:
            try:
                self.look()
            except Exception as error:  # nobody else would hear of it
                is_ours = isinstance(error, VoorwerpError | ArtifactError | OSError)
                self._say(f"{self.kind.name} cannot be trained again now: {error}", error=None if is_ours else error)
            with self._change:
                self._change.wait_for(lambda: self._closed, LOOK)

    def _say(self, sentence: str, error: Exception | None = None) -> None:
        if sentence != self._said:
            self._said = sentence
            logging.getLogger(__name__).error(sentence, exc_info=error)

    # -------------------------------------------------------------------------------------------------------- look
    def look(self) -> str | None:
        """Begin, or go on, where that is due; the run's id, None where nothing was begun."""
        with self._looking:
            if self._is_first and (run_id := self._gone_on_with()) is not None:
                self._watched = run_id
                return run_id
            self._watch()
            self._read()
            why = self._due()
            if not why or any(job.state in ("pending", "running") for job in self._ours()):
                return None
            self._watched = self._begin(why)
            return self._watched

    def _gone_on_with(self) -> str | None:
        """The run that the server's stop has interrupted, if the newest of the kind is one: it learns from then.

        A worker may be at it still, for it is told by the stop; until then this is asked again.
        """
        job = next(iter(self._ours()), None)
        self._is_first = job is not None and not job.is_over
        if job is None or job.state != "interrupted" or job.started_by != SERVER.name:
            return None
        if self._run_of(job.run_id).attempt >= MOST_ATTEMPTS:
            return None
        self.jobs.resume(job.run_id, SERVER.name)
        return job.run_id

    def _ours(self) -> list[Job]:
        """Runs of the kind, newest first."""
        return [job for job in self.jobs.list() if job.kind == self.kind.name]

    def _run_of(self, run_id: str) -> Run:
        runs = (*self.jobs.survey.runs(state=None), *self.jobs.survey.maps(state=None))
        return next(run for run in runs if run.run_id == run_id)

    def _watch(self) -> None:
        """Say of the run that was begun last that it came to nothing, once."""
        if self._watched is None:
            return
        job = next((job for job in self._ours() if job.run_id == self._watched), None)
        if job is not None and not job.is_over:
            return
        self._watched = None
        if job is None:  # somebody has deleted it
            return
        if job.state in ("failed", "interrupted"):
            reason = job.error or "it was interrupted"
            self._say(f"{job.run_id} was to train {self.kind.name} again: {reason}; it is tried again {self._next()}")

    def _next(self) -> str:
        return f"when it is due next, {self.schedule.words()}"

    # -------------------------------------------------------------------------------------------------------- votes
    def _read(self) -> None:
        """Take in what the ledger has got since the last look."""
        kinds = ("job", KIND, CLASSIFICATION, VOTE, "undo")
        fresh = self.ledger.entries(kinds, since=self._last, include_undone=True)
        if not fresh:
            return
        self._last = fresh[-1].id
        if marks := [entry for entry in fresh if self._is_mark(entry)]:
            self._mark, self._votes, self._in_campaign = marks[-1], {}, self._learned_in()
        since = self._mark.id if self._mark else 0
        if any(entry.kind == "undo" for entry in fresh):  # one of the votes may have been taken back
            self._votes = {}
            fresh = [one for one in self.ledger.entries((CLASSIFICATION, VOTE), since=since) if one.id <= self._last]
        for entry in fresh:
            if entry.id > since and (n := self._n_votes(entry)):
                self._votes[entry.id] = n, entry.at

    def _is_mark(self, entry: Entry) -> bool:
        """Whether what is voted from an entry on is new to the kind's next run."""
        told = entry.payload
        if entry.kind == KIND:
            return bool(told.get("kind") == self.kind.name and told.get("action") == "begin")
        # the server's own came after the mark, and votes may lie between them
        is_start = entry.kind == "job" and told.get("action") == "start" and told.get("kind") == self.kind.name
        return is_start and entry.who != SERVER.name

    def _learned_in(self) -> str:
        """The id of the campaign that the kind learns from; "" for any."""
        like = self._like()
        source = "" if like is None else str(like.config.get("expert", ""))
        if self._campaign is None or not source.startswith("campaign:"):
            return ""
        try:
            return self._campaign(source.removeprefix("campaign:"))
        except VoorwerpError:  # there is none of that name any more: the run will say so
            return ""

    def _n_votes(self, entry: Entry) -> int:
        told = entry.payload
        if entry.kind == CLASSIFICATION and self._learns & {"votes", "amateur"}:
            return len(told.get("subjects", ())) - len(told.get("training", ()))
        if entry.kind == VOTE and "expert" in self._learns:
            if self._in_campaign and told.get("campaign") != self._in_campaign:
                return 0
            return sum(len(told.get(name, ())) for name in OF_MOSAIC) if "grades" in told else 1
        return 0

    # ---------------------------------------------------------------------------------------------------------- due
    def _due(self) -> str:
        """Why it is due, in words; "" where it is not."""
        n = sum(votes for votes, _ in self._votes.values())
        if self.schedule.every is not None and n >= self.schedule.every:
            return f"{counted(n, 'vote')} since the last time"
        last = self.schedule.last(self._clock())
        # of an evening when nobody had voted nothing is made up for when the first vote comes
        if last is None or not any(datetime.fromisoformat(at) <= last for _, at in self._votes.values()):
            return ""
        before = self._began if self._mark is None else datetime.fromisoformat(self._mark.at)
        return f"it is past {self.schedule.at:%H:%M}, {counted(n, 'vote')} since the last time" if before < last else ""

    def _begin(self, why: str) -> str | None:
        told = {"action": "begin", "kind": self.kind.name, "why": why}
        self.ledger.append(KIND, told, who=SERVER.name)
        self._said = ""
        try:
            self._count()
            like = self._like()
            if like is None:
                return self.jobs.start(self.kind.name, {}, None, SERVER.name)
            known = {f.name for f in fields(self.kind.config)}
            config = {name: value for name, value in like.config.items() if name in known}
            parents = self._parents(like, config)
            return self.jobs.start(self.kind.name, config, parents, SERVER.name, **self._whom(like, parents))
        except (VoorwerpError, ArtifactError, OSError) as error:
            told = {"action": "failed", "kind": self.kind.name, "error": str(error)}
            self.ledger.append(KIND, told, who=SERVER.name)
            self._say(f"{self.kind.name} was not trained again: {error}; it is tried again {self._next()}")
            return None

    def _like(self) -> Run | None:
        """The kind's last finished run, whose settings are taken."""
        finished = (*self.jobs.survey.runs(), *self.jobs.survey.maps())
        return max(
            (run for run in finished if run.kind == self.kind.name),
            key=lambda run: (run.created_at, run.run_id),
            default=None,
        )

    def _parents(self, like: Run, config: dict[str, Any]) -> list[str]:
        """What the last one was built on, where all of it is there still; else the newest are taken."""
        builds_on = self.kind.set_to(checked_config(self.kind, config)).builds_on
        told = [run_id for name, run_id in like.inputs.items() if name.partition(".")[0] in builds_on]
        finished = {run.run_id for run in (*self.jobs.survey.runs(), *self.jobs.survey.maps())}
        return told if finished.issuperset(told) else []

    def _whom(self, like: Run, parents: list[str]) -> dict[str, Any]:
        """Of the same subjects as the last one."""
        if like.selection is None:
            return {"everything": bool(parents)}
        if any(self._run_of(run_id).selection == like.selection for run_id in parents):
            return {}  # it comes with them
        return {"selection": like.selection}

    # --------------------------------------------------------------------------------------------------------- tell
    def about(self) -> dict[str, Any]:
        """For the page of runs: ``kind``, ``n_votes`` since the last time, ``every``, ``at``, ``problem`` (of the last
        time, "" where there was none) and ``sentence``.
        """
        with self._looking:
            self._read()
            n = sum(votes for votes, _ in self._votes.values())
            problem = self._problem()
        after = "the last one" if self._mark is not None else "ever"
        sentence = f"{self.kind.name} is trained again {self.schedule.words()}; {counted(n, 'vote')} since {after}."
        at = None if self.schedule.at is None else f"{self.schedule.at:%H:%M}"
        told = {"kind": self.kind.name, "n_votes": n, "every": self.schedule.every, "at": at, "problem": problem}
        return told | {"sentence": f"{sentence} {problem}".strip()}

    def _problem(self) -> str:
        """Why the last try came to nothing."""
        tries = [entry for entry in self.ledger.entries(KIND) if entry.payload.get("kind") == self.kind.name]
        if tries and tries[-1].payload.get("action") == "failed":
            return f"The last time it failed: {tries[-1].payload['error']}."
        job = next(iter(self._ours()), None)
        if tries and job is not None and job.started_by == SERVER.name and job.state in ("failed", "interrupted"):
            return f"The last time it failed: {job.error or 'it was interrupted'}."
        return ""
