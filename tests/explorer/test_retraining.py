"""What is trained again, and when: real runs of a kind that is quick, by the votes in a ledger."""

import json
import os
import re
import signal
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

import numpy as np
import pytest

from explorer import ledger as ledger_module
from explorer.errors import UsageError
from explorer.kinds import Kind
from explorer.ledger import Entry, Ledger
from explorer.people import SERVER
from explorer.services.classify import Visitor
from explorer.services.jobs import JobService, run_file
from explorer.services.retraining import KIND, MOST_ATTEMPTS, Retraining, Schedule
from explorer.survey import Survey
from models.artifacts import Run
from tests.explorer.live_jobs import GUESS, PATH, WAIT, arguments
from tests.explorer.small_survey import write_survey
from tests.ui.serving import command, free_port, wait_for_address

ROOT = Path(__file__).parents[2]
ANN = Visitor("a" * 16)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for workers to find the kind
    return write_survey(tmp_path / "survey", 60, size=8)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Runs are over as soon as they are begun, without a process; ``at_once(state, error)`` says how."""
    ends: dict[str, Any] = {}

    def end(state: str, error: str | None) -> None:
        ends.update(state=state, error=error)

    def spawned(self: JobService, run: Run, folder: Path, lock: int) -> None:
        replace(run, **ends).write(run_file(folder))

    end("done", None)
    monkeypatch.setattr(JobService, "_spawn", spawned)
    return end


@pytest.fixture
def jobs(path: Path) -> Iterator[JobService]:
    """The jobs of a survey, with a quick kind."""
    survey = Survey.open(path)
    with Ledger(path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger, [PATH])
        yield service
        service.stop()
    survey.close()


def vote(jobs: JobService, n: int = 1) -> list[int]:
    """So many votes of an expert; their entries."""
    told = {"campaign": "c1", "grade": "A"}
    return [jobs.ledger.append("vote", told, who="grader-1").id for _ in range(n)]


def look_at(a_grid: int, jobs: JobService) -> None:
    """A volunteer's grid of 16, of which two are training."""
    told = {"grid_id": str(a_grid), "subjects": [str(i) for i in range(16)], "chosen": [], "training": [2, 3]}
    jobs.ledger.append("classification", told, who=ANN.who)


def retraining(jobs: JobService, every: int | None = 5, **told: Any) -> Retraining:
    at = told.pop("at", None)
    return Retraining(jobs, Schedule("guess", every, at), **told)


def runs(jobs: JobService) -> list[Run]:
    return jobs.survey.runs(state=None)


def begun(jobs: JobService) -> list[dict[str, Any]]:
    return [entry.payload for entry in jobs.ledger.entries(KIND)]


# ------------------------------------------------------------------------------------------------------------- when
@pytest.mark.usefixtures("at_once")
def test_it_begins_with_the_nth_vote_and_counts_from_there(jobs: JobService) -> None:
    again = retraining(jobs)
    vote(jobs, 4)
    assert again.look() is None
    assert again.about()["sentence"] == "guess is trained again every 5 votes; 4 votes since ever."
    vote(jobs)
    first = again.look()
    assert first is not None and jobs.wait(first).state == "done"
    assert [run.started_by for run in runs(jobs)] == [SERVER.name]
    assert begun(jobs) == [{"action": "begin", "kind": "guess", "why": "5 votes since the last time"}]
    vote(jobs, 4)
    assert again.look() is None
    look_at(1, jobs)  # 14 at once
    second = again.look()
    assert second is not None and jobs.wait(second).state == "done"
    assert again.about()["n_votes"] == 0
    assert again.look() is None


@pytest.mark.usefixtures("at_once")
def test_votes_that_come_while_labels_are_counted_are_new_to_the_next(jobs: JobService) -> None:
    again = retraining(jobs, count=lambda: vote(jobs, 3))
    vote(jobs, 5)
    run_id = again.look()
    assert run_id is not None
    jobs.wait(run_id)
    assert again.about()["n_votes"] == 3
    assert retraining(jobs).about()["n_votes"] == 3  # and after a restart


@pytest.mark.usefixtures("at_once")
def test_a_run_of_somebody_else_counts_and_its_settings_are_taken(jobs: JobService) -> None:
    vote(jobs, 5)
    jobs.wait(jobs.start("guess", {"step": 11, "seed": 5}, None, "ann"))
    again = retraining(jobs)
    assert again.look() is None and again.about()["n_votes"] == 0
    vote(jobs, 5)
    run_id = again.look()
    assert run_id is not None
    jobs.wait(run_id)
    run = next(run for run in runs(jobs) if run.run_id == run_id)
    assert run.config == {"step": 11, "seed": 5}


@pytest.mark.usefixtures("at_once")
def test_it_is_of_the_same_selection_as_the_last_one(jobs: JobService) -> None:
    rows = np.arange(20)
    jobs.ledger.save_selection("Some", rows, jobs.survey.subject_ids, who="ann")
    kind = Kind("guess", "Guess", GUESS.config, GUESS.run, provides="score", needs_images=True)
    jobs._kinds["guess"] = kind
    jobs.wait(jobs.start("guess", {}, None, "ann", selection="Some"))
    again = retraining(jobs, every=1)
    vote(jobs)
    run_id = again.look()
    assert run_id is not None
    run = next(run for run in runs(jobs) if run.run_id == run_id)
    assert run.selection == "Some"


@pytest.mark.usefixtures("at_once")
def test_a_vote_that_was_taken_back_does_not_count(jobs: JobService) -> None:
    again = retraining(jobs)
    entries = vote(jobs, 4)
    assert again.look() is None
    undo = jobs.ledger.undo(entries[0], who="grader-1")
    vote(jobs)
    assert again.look() is None and again.about()["n_votes"] == 4
    jobs.ledger.undo(undo.id, who="grader-1")
    assert again.look() is not None


@pytest.mark.parametrize(
    ("labels", "config", "n"),
    [
        (("votes",), {}, 14),
        (("expert",), {}, 3),
        (("expert",), {"expert": "campaign:Rings"}, 2),
        (("expert", "amateur"), {}, 17),
    ],
)
def test_only_votes_that_the_kind_learns_from_count(
    jobs: JobService, labels: tuple[str, ...], config: dict[str, str], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs._kinds["guess"] = Kind("guess", "Guess", GUESS.config, GUESS.run, provides="score", labels=labels)
    like = Run("20260101-000000-guess", "guess", "0", config, state="done")
    monkeypatch.setattr(Retraining, "_like", lambda self: like)
    again = retraining(jobs, campaign={"Rings": "c1"}.__getitem__)
    look_at(1, jobs)
    vote(jobs, 1)
    jobs.ledger.append("vote", {"campaign": "c2", "grade": "A"}, who="grader-1")
    jobs.ledger.append("vote", {"campaign": "c1", "grades": {"1": "X"}, "kept": []}, who="grader-1")
    assert again.about()["n_votes"] == n


# ------------------------------------------------------------------------------------------------------ one at a time
def test_none_is_begun_while_one_is_at_work(jobs: JobService, path: Path) -> None:
    (path / WAIT).touch()
    again = retraining(jobs)
    vote(jobs, 5)
    first = again.look()
    vote(jobs, 5)
    assert first is not None and again.look() is None and again.look() is None
    (path / WAIT).unlink()
    jobs.wait(first)
    assert again.look() is not None


def test_a_failure_is_said_and_tried_again_only_when_it_is_due(
    jobs: JobService, caplog: pytest.LogCaptureFixture, at_once: Callable[[str, str | None], None]
) -> None:
    at_once("failed", "these votes teach nothing")
    again = retraining(jobs)
    vote(jobs, 5)
    first = again.look()
    assert first is not None and jobs.wait(first).state == "failed"
    assert again.look() is None and again.look() is None
    assert caplog.text.count("was to train guess again: these votes teach nothing; it is tried again when") == 1
    assert again.about()["sentence"].endswith(
        "0 votes since the last one. The last time it failed: these votes teach nothing."
    )
    vote(jobs, 5)
    assert again.look() is not None


@pytest.mark.usefixtures("at_once")
def test_who_deletes_the_run_that_was_begun_does_not_stop_it(jobs: JobService) -> None:
    again = retraining(jobs)
    vote(jobs, 5)
    first = again.look()
    assert first is not None
    jobs.delete(first, "ann")
    assert again.look() is None
    vote(jobs, 5)
    assert again.look() is not None


@pytest.mark.usefixtures("at_once")
def test_what_cannot_be_started_is_said_and_kept(jobs: JobService, caplog: pytest.LogCaptureFixture) -> None:
    jobs._kinds["guess"] = Kind("guess", "Guess", GUESS.config, GUESS.run, needs=("train",))
    again = retraining(jobs)
    vote(jobs, 5)
    assert again.look() is None
    assert "guess was not trained again: guess builds on a finished train run" in caplog.text
    assert [told["action"] for told in begun(jobs)] == ["begin", "failed"]
    assert again.look() is None
    assert "builds on a finished train run" in retraining(jobs).about()["problem"]
    assert retraining(jobs).look() is None  # a restart changes nothing


def test_an_interrupted_one_is_gone_on_with_at_the_next_start(jobs: JobService, path: Path) -> None:
    (path / WAIT).touch()
    vote(jobs, 5)
    run_id = retraining(jobs).look()
    assert run_id is not None
    for _ in range(MOST_ATTEMPTS - 1):
        wait_for(lambda: jobs.job(run_id).state == "running")
        jobs.stop()
        assert jobs.job(run_id).state == "interrupted"
        again = retraining(jobs)
        assert again.look() == run_id
        assert again.look() is None
    wait_for(lambda: jobs.job(run_id).state == "running")
    jobs.stop()
    assert retraining(jobs).look() is None  # it has been begun often enough
    assert "it was interrupted" in retraining(jobs).about()["problem"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------- the clock
class Clock:
    """A clock that is set, the ledger's too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = datetime(2026, 3, 2, 12, 0).astimezone()
        told = type("Told", (datetime,), {"now": lambda zone=None: self()})
        monkeypatch.setattr(ledger_module, "datetime", told)

    def __call__(self) -> datetime:
        return self.time.astimezone(UTC)


@pytest.mark.usefixtures("at_once")
def test_every_night_that_somebody_has_voted_before(jobs: JobService, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    again = retraining(jobs, None, at=clock_time(3), clock=clock)
    vote(jobs)
    assert again.look() is None  # today's three o'clock was before it was asked for
    clock.time += timedelta(hours=14, minutes=59)
    assert again.look() is None
    clock.time += timedelta(minutes=1)
    first = again.look()
    assert first is not None and again.look() is None
    jobs.wait(first)
    assert begun(jobs)[0]["why"] == "it is past 03:00, 1 vote since the last time"
    clock.time += timedelta(days=1, minutes=5)
    assert again.look() is None  # nobody has voted
    vote(jobs)
    assert again.look() is None  # and who does so then is for the next night
    clock.time += timedelta(hours=20)
    later = retraining(jobs, None, at=clock_time(3), clock=clock)
    clock.time += timedelta(hours=6)
    assert later.look() is not None  # the server was not there at three: it is made up for
    assert "at 03:00" in later.about()["sentence"]


@pytest.mark.parametrize(
    ("told", "match"),
    [
        (("bayes", None, None), "say when bayes is to be trained again"),
        (("bayes", 0, None), "every 0 votes; 1 is the least"),
        ((None, 5, None), "say what by --retrain KIND"),
        (("bayes", None, "25:00"), '--retrain-at is "25:00"; write a time of the day as 03:00'),
    ],
)
def test_schedules_that_cannot_be(told: tuple[Any, ...], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Schedule.of(*told)


def test_schedules_in_words_and_a_kind_that_there_is_not(jobs: JobService) -> None:
    assert Schedule.of(None, None, None) is None
    both = Schedule.of("guess", 500, "3:00")
    assert both is not None and both.words() == "every 500 votes and at 03:00"
    with pytest.raises(UsageError, match='there is no run kind "gues"; did you mean "guess"'):
        Retraining(jobs, Schedule("gues", 1))


# ---------------------------------------------------------------------------------------------------- a real server
class Page:
    """A volunteer's page, by HTTP."""

    def __init__(self, url: str) -> None:
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self.opener = build_opener(HTTPCookieProcessor())
        self.opener.open(url).close()
        content = self.opener.open(f"{self.origin}/classify").read().decode()
        self.token = re.search(r'name="voorwerp-token" content="([^"]+)"', content)[1]  # type: ignore[index]

    def answer(self) -> None:
        """Choose nothing in the next grid."""
        content = self.opener.open(f"{self.origin}/classify/grid").read()
        (n,) = struct.unpack("<I", content[:4])
        told = {"grid": json.loads(content[4 : 4 + n])["grid"], "id": str(uuid.uuid4()), "chosen": [], "seconds": 1.0}
        headers = {"Origin": self.origin, "X-Voorwerp-Token": self.token}
        self.opener.open(Request(f"{self.origin}/classify/answer", json.dumps(told).encode(), headers)).close()


def grids_of(path: Path) -> list[Entry]:
    with Ledger(path, "survey-1") as ledger:
        return ledger.entries("classification")


def runs_of(path: Path) -> list[Run]:
    survey = Survey.open(path)
    try:
        return survey.runs(state=None)
    finally:
        survey.close()


def test_a_server_trains_by_its_volunteers_and_shows_them_what_the_run_asks_for(tmp_path: Path, path: Path) -> None:
    """Votes by HTTP bring a run, its order is in the next grids; who starts after a SIGKILL goes on."""
    log = tmp_path / "log"
    told = ["--retrain", "guess", "--retrain-every", "16", "--next-by", "newest", "--least", "0"]
    with command(arguments(path, free_port(), *told), log) as process:
        page = Page(wait_for_address(process, log, 120))
        page.answer()
        assert "drawn" not in grids_of(path)[0].payload
        wait_for(lambda: [run.state for run in runs_of(path)] == ["done"])
        assert "guess is trained again every 16 votes; 0 votes since ever." in log.read_text()
        [first] = runs_of(path)
        assert first.started_by == SERVER.name
        (path / WAIT).touch()
        wait_for(lambda: page.answer() or grids_of(path)[-1].run_id == first.run_id)
        assert set(grids_of(path)[-1].payload["drawn"]) <= {"random", "acquisition", "rest"}
        wait_for(lambda: "running" in [run.state for run in runs_of(path)])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    n = len(runs_of(path))
    survey = Survey.open(path)
    with Ledger(path, survey.info.survey_id) as ledger:  # as the next server does
        jobs = JobService(survey, ledger, [PATH])
        again = retraining(jobs, 16)
        wait_for(lambda: again.look() is not None)
        (path / WAIT).unlink()
        wait_for(lambda: runs_of(path)[0].state == "done")
        jobs.stop()
    survey.close()
    assert len(runs_of(path)) == n == 2 and runs_of(path)[0].attempt == 2
