"""Jobs: states, progress, locks, cancel, resume; what is left when a worker dies."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer import code_version
from explorer.errors import JobError, UsageError
from explorer.kinds import kind, kinds
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.inference import Inference
from explorer.services.jobs import Job, JobService, checked_config, find_run, holder, last_progress, take_lock
from explorer.survey import Survey
from models.artifacts import ArtifactError, Run, State, check_run
from tests.explorer.small_survey import write_survey

KINDS = tuple(f"tests.explorer.odd_jobs:{name}" for name in ("COUNT", "RECOUNT", "MISSING", "TALLY", "HASTY"))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the worker to find the kinds above
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    survey = Survey.open(write_survey(tmp_path / "survey"))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger, KINDS)
        yield service
        service.stop()
    survey.close()


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def start_slow(service: JobService, pause: float = 30, **config: object) -> str:
    """A run that has counted to one and now sleeps."""
    run_id = service.start("count", {"pause": pause, **config}, None, "ada")
    wait_until(lambda: service.job(run_id).done >= 1)
    return run_id


# ------------------------------------------------------------------------------------------------------ to the end
def test_a_job_runs_to_its_end_in_another_process(service: JobService) -> None:
    run_id = service.start("count", {"steps": 4, "pause": 0.02}, None, "ada")
    states = [job.state for job in service.follow(run_id)]
    assert states[-1] == "done"
    assert set(states) <= {"pending", "running", "done"}
    job = service.job(run_id)
    assert (job.kind, job.title, job.done, job.total, job.message) == ("count", "Count", 4, 4, "counting")
    assert job.metrics == {"double": 6.0, "nothing": None}
    assert job.is_over
    assert job.results["n_images"] == job.results["n_ids"] == 5
    assert (job.results["threads"], job.results["torch"]) == (3, False)
    assert job.results["nice"] > os.nice(0)

    run = Run.read(service.survey.run_folder(run_id) / "run.json")
    assert run.config == {"steps": 4, "pause": 0.02, "end": "done", "note": None}
    assert run.preprocessing == service.survey.preprocessing
    assert (run.code_version, run.attempt, run.error) == (code_version(), 1, None)
    assert run.finished_at is not None
    assert service.survey.runs("count")[0].run_id == run_id  # without opening the survey anew
    log = (service.survey.run_folder(run_id) / "log.txt").read_text()
    assert log == "a kind may print\n"
    (entry,) = service.ledger.entries("job")
    assert (entry.who, entry.run_id, entry.payload["action"]) == ("ada", run_id, "start")


def test_progress_lines_are_whole_few_and_end_with_the_last(service: JobService) -> None:
    run_id = service.start("count", {"steps": 200, "pause": 0.004}, None, "ada")
    service.wait(run_id)
    lines = (service.survey.run_folder(run_id) / "progress.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert 3 <= len(records) < 20  # 0.8 s or more at five a second
    assert records[-1]["done"] == records[-1]["total"] == 200
    assert 20 < records[-1]["rate"] < 250
    assert all(record["attempt"] == 1 and record["at"] for record in records)


def test_a_half_written_last_line_is_not_read(tmp_path: Path) -> None:
    assert last_progress(tmp_path) is None
    (tmp_path / "progress.jsonl").write_text('{"done": 1}\n{"done": 2}\n{"done": 3')
    assert last_progress(tmp_path) == {"done": 2}


def write_run(service: JobService, run_id: str, state: State) -> str:
    """A run of the kind "count" that has ended."""
    folder = service.survey.run_folder(run_id)
    folder.mkdir(parents=True)
    Run(run_id, "count", "0", {}, state=state, created_at=f"2026-01-01T00:00:{run_id[-2:]}").write(folder / "run.json")
    return run_id


def test_a_run_builds_on_the_newest_finished_one_unless_told(service: JobService) -> None:
    with pytest.raises(JobError, match=r"recount builds on a finished count run and .* has none; run count first"):
        service.start("recount", {}, None, "ada")
    first, second = write_run(service, "count-01", "done"), write_run(service, "count-02", "done")
    failed = write_run(service, "count-03", "failed")
    newest = service.start("recount", {}, None, "ada")
    told = service.start("recount", {}, {"count": first}, "ada")
    assert service.wait(newest).results["parents"] == [second]
    assert service.wait(told).results["parents"] == [first]
    assert {run.run_id: run.inputs["count"] for run in service.survey.maps()} == {newest: second, told: first}
    with pytest.raises(JobError, match=f"{failed} is failed; recount builds on a finished run"):
        service.start("recount", {}, {"count": failed}, "ada")
    with pytest.raises(JobError, match=f"{newest} is a recount run; recount builds on a count run"):
        service.start("recount", {}, {"count": newest}, "ada")
    with pytest.raises(JobError, match=f'there is no run "{first}x" in .*; did you mean "{first}"'):
        service.start("recount", {}, {"count": first + "x"}, "ada")
    with pytest.raises(UsageError, match="count does not build on a train run; it builds on no other run"):
        service.start("count", {}, {"train": first}, "ada")


def test_clusters_are_not_made_of_clusters_unless_told(service: JobService) -> None:
    for run_id, name in (("one-01", "features"), ("two-02", "cluster")):
        folder = service.survey.run_folder(run_id)
        folder.mkdir(parents=True)
        np.save(folder / "latents.npy", np.zeros((5, 2), np.float32))
        made = Run(run_id, name, "0", {}, state="done", created_at=f"2026-01-01T00:00:{run_id[-2:]}", provides="score")
        made.write(folder / "run.json")
    assert service._newest(kind("cluster"), "score") == "one-01"
    assert service._newest(kind("map"), "score") == "one-01"  # what learned from labels is taken where it is told


def test_several_runs_are_told_one_by_one_and_are_numbered(service: JobService) -> None:
    first, second = write_run(service, "count-01", "done"), write_run(service, "count-02", "done")
    for told in ([], [second]):
        with pytest.raises(UsageError, match="tally builds on two count runs or more; name each with --parent"):
            service.start("tally", {}, told, "ada")
    with pytest.raises(UsageError, match=f"{first} is told twice"):
        service.start("tally", {}, [first, first], "ada")
    run_id = service.start("tally", {}, [second, first], "ada")
    results = service.wait(run_id).results
    assert (results["parent_names"], results["parents"]) == (["count.1", "count.2"], [second, first])
    inputs = Run.read(find_run(service.survey, run_id)).inputs
    assert (inputs["count.1"], inputs["count.2"]) == (second, first)


def test_a_run_counts_as_what_its_kind_provides(service: JobService) -> None:
    first, second = write_run(service, "count-01", "done"), write_run(service, "count-02", "done")
    tally = service.start("tally", {}, [first, second], "ada")
    assert service.wait(tally).state == "done"
    assert [run.run_id for run in service.survey.runs("count")] == [tally, second, first]
    assert [run.run_id for run in service.survey.runs("tally")] == [tally]
    newest = service.start("recount", {}, None, "ada")
    assert service.wait(newest).results["parents"] == [tally]
    told = service.start("recount", {}, [tally], "ada")
    assert Run.read(find_run(service.survey, told)).inputs["count"] == tally
    with pytest.raises(UsageError, match=f"recount builds on one count run and {first} and {second} are told"):
        service.start("recount", {}, [first, second], "ada")


def test_the_time_left_is_said_in_words() -> None:
    job = Job("a-train", "train", "Train", "running", 1, 9, "", {}, 1.0, None, "2026-01-01", None, {})
    told = {None: "", 0.4: "0 s left", 59.6: "1 min 0 s left", 90: "1 min 30 s left", 7290: "2 h 1 min left"}
    assert {seconds: replace(job, seconds_left=seconds).time_left for seconds in told} == told


def test_a_detector_is_a_score_run_that_builds_on_nothing_and_imports_no_torch(service: JobService) -> None:
    settings = {"method": "pca", "n_components": 2}
    job = service.wait(service.start("score", settings, None, "ada"))
    assert (job.state, job.done, job.total, job.error) == ("done", 5, 5, None)
    explore = Explore(service.survey)
    assert list(explore.runs()) == [job.run_id]
    assert explore.score_titles(job.run_id) == {
        "anomaly_score": "PCA-2 reconstruction error",
        "image_score": "Image score",
    }
    assert not explore.mixes(job.run_id)
    assert check_run(service.survey.run_folder(job.run_id), service.survey.subject_ids) == []
    assert set(Run.read(find_run(service.survey, job.run_id)).inputs) == {"subject_ids"}
    with pytest.raises(JobError, match=r"no score run of .* has latent vectors, which score is made from"):
        service.start("score", {"method": "knn", "on": "latents"}, None, "ada")
    imported = "import sys, models.detectors; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", imported], text=True) == "False\n"


def test_an_optional_run_is_used_only_where_it_is_told(service: JobService) -> None:
    write_run(service, "count-01", "done")
    recount = service.start("recount", {}, None, "ada")
    service.wait(recount)
    alone, told = (service.start("hasty", {}, parents, "ada") for parents in (None, [recount]))
    assert service.wait(alone).results["parent_names"] == []
    assert service.wait(told).results["parent_names"] == ["recount"]
    assert "recount" not in Run.read(find_run(service.survey, alone)).inputs


def test_a_map_to_place_subjects_on_takes_no_settings_and_only_vectors_of_its_own_network(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_spawn", lambda *told: None)
    built = {"one": {}, "two": {}, "a": {"train": "one"}, "b": {"train": "one"}, "c": {"train": "two"}, "d": {}}
    for name, inputs in built.items():
        (folder := service.survey.run_folder(name)).mkdir(parents=True)
        kind_name, sha256 = ("score", None) if name in "abcd" else ("train", f"sha256 of {name}")
        run = Run(name, kind_name, "0", {}, state="done", inputs=inputs, checkpoint_sha256=sha256)
        run.write(folder / "run.json")
        (folder / "latents.npy").touch()
    (folder := service.survey.map_folder("mapped")).mkdir(parents=True)
    Run("mapped", "map", "0", {}, state="done", inputs={"score": "a"}).write(folder / "map.json")
    (folder / "latents.npy").touch()
    with pytest.raises(UsageError, match=r"^map: min_dist, seed would lay out a new map, .* on mapped as it is"):
        service.start("map", {"min_dist": 0.1, "seed": 1}, ["b", "mapped"], "ada")
    sentence = "^mapped is a map of vectors made by one, and those of {} are made by {}; score with the map's own"
    for told, made_by in {"c": "two", "d": "d"}.items():
        with pytest.raises(ArtifactError, match=sentence.format(told, made_by)):
            service.start("map", {}, [told, "mapped"], "ada")
    assert len(service.survey.maps(state=None)) == 1  # nothing is queued
    placed = service.start("map", {}, ["b", "mapped"], "ada")
    laid_out = service.start("map", {"min_dist": 0.1, "seed": 1}, ["c"], "ada")
    assert {run.run_id for run in service.survey.maps(state=None)} == {"mapped", placed, laid_out}


def test_settings_change_what_a_kind_needs(service: JobService) -> None:
    with pytest.raises(JobError, match=r"hasty builds on a finished count run and .* has none"):
        service.start("hasty", {"steps": 11}, None, "ada")
    count = write_run(service, "count-01", "done")
    assert service.wait(service.start("hasty", {"steps": 11}, None, "ada")).results["parents"] == [count]
    with pytest.raises(UsageError, match="hasty does not build on a count run; it builds only on recount"):
        service.start("hasty", {"steps": 10}, [count], "ada")


def test_jobs_run_one_at_a_time_in_order_across_services(service: JobService) -> None:
    ids = [service.start("count", {"steps": 4, "pause": 0.05}, None, "ada") for _ in range(2)]
    with Ledger(service.survey.path, "survey-1") as ledger:
        other = JobService(service.survey, ledger, KINDS)
        ids.append(other.start("count", {"steps": 4, "pause": 0.05}, None, "bo"))
        spans = []
        for run_id in ids:
            assert other.wait(run_id).state == "done"  # a service follows what another one started
            lines = (service.survey.run_folder(run_id) / "progress.jsonl").read_text().splitlines()
            spans.append((json.loads(lines[0])["at"], json.loads(lines[-1])["at"]))
        other.stop()
    assert spans == sorted(spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert {job.run_id for job in service.list()} == set(ids)


# ----------------------------------------------------------------------------------------------------- bad endings
@pytest.mark.parametrize(
    ("end", "sentence", "logged"),
    [
        ("refuse", "^these numbers cannot be counted$", ""),
        ("disk", "^the disk is full; free some space, then `voorwerp resume` goes on with count$", ""),
        ("memory", "^there is not enough memory for count; use a smaller batch", "MemoryError"),
        ("bug", r"^count failed with ZeroDivisionError \(a defect in two lines\); see .*/log\.txt$", "in count"),
    ],
)
def test_a_failure_is_one_sentence(service: JobService, end: str, sentence: str, logged: str) -> None:
    run_id = service.start("count", {"end": end}, None, "ada")
    job = service.wait(run_id)
    assert job.state == "failed"
    assert re.search(sentence, str(job.error))
    log = (service.survey.run_folder(run_id) / "log.txt").read_text()
    assert logged in log
    assert ("Traceback" in log) == bool(logged)


def test_a_kind_whose_function_is_not_there_fails_with_a_sentence(service: JobService) -> None:
    job = service.wait(service.start("missing", {}, None, "ada"))
    assert job.state == "failed"
    assert "AttributeError" in str(job.error)


def test_a_worker_killed_in_the_middle_reads_as_interrupted_and_can_be_resumed(service: JobService) -> None:
    run_id = start_slow(service, steps=3, pause=0.5)
    folder = service.survey.run_folder(run_id)
    held = holder(folder)
    assert held is not None
    os.kill(held["pid"], signal.SIGKILL)
    assert service.wait(run_id).state == "interrupted"
    assert Run.read(folder / "run.json").state == "running"  # nobody could write it: it is derived
    assert service.survey.runs("count") == []
    service.resume(run_id, "bo")
    job = service.wait(run_id)
    assert (job.state, job.done) == ("done", 3)
    run = Run.read(folder / "run.json")
    assert run.attempt == 2
    with pytest.raises(JobError, match=f"{run_id} is done; start a new run instead"):
        service.resume(run_id, "bo")
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert next(line["done"] for line in lines if line["attempt"] == 2) == 2  # it went on, not from the beginning
    assert [e.payload["action"] for e in service.ledger.entries("job")] == ["start", "resume"]


def test_a_run_that_ends_while_resume_waits_for_it_stays_done(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start_slow(service, steps=2, pause=0.2)

    def wait_and_take(folder: Path) -> int:
        service.wait(run_id)
        return take_lock(folder)

    monkeypatch.setattr("explorer.services.jobs.take_lock", wait_and_take)
    with pytest.raises(JobError, match=f"{run_id} is done; start a new run instead"):
        service.resume(run_id, "bo")
    assert service.job(run_id).state == "done"


def test_a_worker_that_kills_itself_is_never_done(service: JobService) -> None:
    assert service.wait(service.start("count", {"end": "crash"}, None, "ada")).state == "interrupted"


def test_stopping_the_service_interrupts_its_jobs(service: JobService) -> None:
    run_id = start_slow(service)
    waiting = service.start("count", {}, None, "ada")
    assert service.job(waiting).message == "waiting for its turn"
    with pytest.raises(JobError, match="is being worked on by another process"):
        take_lock(service.survey.run_folder(run_id))
    started = time.monotonic()
    service.stop()
    assert time.monotonic() - started < 4
    assert {service.job(run_id).state, service.job(waiting).state} == {"interrupted"}
    assert holder(service.survey.run_folder(run_id)) is None


STARTER = """
import sys, time
from explorer.ledger import Ledger
from explorer.services.jobs import JobService
from explorer.survey import Survey
survey = Survey.open(sys.argv[1])
service = JobService(survey, Ledger(survey.path, survey.info.survey_id), sys.argv[2:])
print(service.start("count", {"pause": 30}, None, "ada"), flush=True)
time.sleep(60)
"""


def test_a_job_is_interrupted_when_its_server_is_killed(service: JobService) -> None:
    arguments = [sys.executable, "-c", STARTER, str(service.survey.path), *KINDS]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        run_id = server.stdout.readline().strip()
        wait_until(lambda: service.job(run_id).done >= 1)
        server.kill()
    wait_until(lambda: service.job(run_id).is_over, 5)
    assert service.job(run_id).state == "interrupted"


# --------------------------------------------------------------------------------------------------------- cancel
def test_cancel_stops_a_running_job(service: JobService) -> None:
    run_id = start_slow(service)
    started = time.monotonic()
    service.cancel(run_id, "bo")
    assert time.monotonic() - started < 5
    assert service.job(run_id).state == "cancelled"
    assert [e.payload["action"] for e in service.ledger.entries("job")] == ["start", "cancel"]
    with pytest.raises(JobError, match=f"{run_id} is cancelled; there is nothing to cancel"):
        service.cancel(run_id, "bo")
    after = service.start("count", {}, None, "ada")
    assert service.wait(after).state == "done"


def test_cancel_kills_a_worker_that_does_not_listen(service: JobService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.services.jobs.GRACE", 0.5)
    run_id = service.start("count", {"end": "deaf"}, None, "ada")
    counted = service.survey.run_folder(run_id) / "counted"
    wait_until(lambda: counted.exists() and counted.read_text() == "deaf")
    started = time.monotonic()
    service.cancel(run_id, "ada")
    assert time.monotonic() - started < 5
    assert service.job(run_id).state == "cancelled"


def test_cancel_by_the_file_alone_is_heard_at_the_next_step(service: JobService) -> None:
    run_id = start_slow(service, pause=0.2, steps=100)
    (service.survey.run_folder(run_id) / "cancel").touch()
    assert service.wait(run_id).state == "cancelled"


def test_cancel_of_a_waiting_job_leaves_the_running_one(service: JobService) -> None:
    running = start_slow(service, pause=0.6, steps=2)
    waiting = service.start("count", {}, None, "ada")
    service.cancel(waiting, "ada")
    assert service.job(waiting).state == "cancelled"
    assert service.wait(running).state == "done"


def test_an_unknown_run_is_a_sentence(service: JobService) -> None:
    with pytest.raises(JobError, match='there is no run "x" in'):
        service.cancel("x", "ada")
    with pytest.raises(JobError, match='there is no run "x" in'):
        find_run(service.survey, "x")


# --------------------------------------------------------------------------------------------------------- delete
def test_a_run_is_deleted_whole_and_the_ledger_says_so(service: JobService) -> None:
    kept, run_id = write_run(service, "count-01", "done"), write_run(service, "count-02", "failed")
    folder = service.survey.run_folder(run_id)
    left = folder.with_name(".deleted-count-00")  # of one that was killed in between
    left.mkdir()
    (left / "run.json").write_bytes((folder / "run.json").read_bytes())
    assert [job.run_id for job in service.list()] == [run_id, kept]
    service.delete(run_id, "ada")
    assert [path.name for path in folder.parent.iterdir()] == [kept]
    assert [job.run_id for job in service.list()] == [kept]
    (entry,) = service.ledger.entries("job")
    assert (entry.who, entry.run_id, entry.payload) == ("ada", run_id, {"action": "delete", "kind": "count"})
    with pytest.raises(JobError, match=f'there is no run "{run_id}"'):
        service.delete(run_id, "ada")


def test_a_run_at_work_or_that_others_build_on_is_not_deleted(service: JobService) -> None:
    first, second = write_run(service, "count-01", "done"), write_run(service, "count-02", "done")
    recount, tally = service.start("recount", {}, [first], "ada"), service.start("tally", {}, [first, second], "ada")
    for run_id in (recount, tally):
        service.wait(run_id)
    n_entries = len(service.ledger.entries())
    with pytest.raises(JobError, match=f"^{recount}, {tally} build on {first}; delete what builds on it first$"):
        service.delete(first, "ada")
    service.delete(recount, "ada")  # a map
    with pytest.raises(JobError, match=f"^{tally} builds on {second}; delete"):
        service.delete(second, "ada")
    slow = start_slow(service)
    with pytest.raises(JobError, match=f"^{slow} is running; cancel it before it is deleted$"):
        service.delete(slow, "ada")
    assert len(service.ledger.entries()) == n_entries + 2
    service.cancel(slow, "ada")
    service.delete(slow, "ada")
    assert not service.survey.run_folder(slow).exists()


def test_killed_while_it_deletes_a_run_is_whole_or_gone(service: JobService, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = write_run(service, "count-01", "done")
    folder = service.survey.run_folder(run_id)
    (folder / "scores").write_text("all")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        service.delete(run_id, "ada")
    assert (service.job(run_id).state, (folder / "scores").read_text()) == ("done", "all")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        service.delete(run_id, "ada")
    assert service.list() == []
    assert not folder.exists()
    other = write_run(service, "count-02", "done")
    service.delete(other, "ada")
    assert list(folder.parent.iterdir()) == []


# --------------------------------------------------------------------------------------------------------- config
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"stebs": 3}, 'count has no setting "stebs"; did you mean "steps"?'),
        ({"zzz": 3}, 'count has no setting "zzz"; there are steps, pause, end, note'),
        ({"steps": 0}, "count: steps is 0; it must be between 1 and 1,000 steps"),
        ({"steps": 2.5}, "count: steps is 2.5; it must be a whole number"),
        ({"steps": True}, "count: steps is True; it must be a whole number"),
        ({"pause": "1"}, "count: pause is '1'; it must be a number"),
        ({"pause": float("nan")}, "count: pause is nan; it must be a finite number"),
        ({"end": "dome"}, "count: end is 'dome'; did you mean \"done\"?"),
        ({"note": 3}, "count: note is 3; it must be text"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_before_anything_is_made(
    service: JobService, config: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        service.start("count", config, None, "ada")
    assert str(caught.value) == sentence
    assert service.list() == []
    assert service.ledger.entries() == []


def test_an_unknown_kind_offers_the_near_miss(service: JobService) -> None:
    with pytest.raises(UsageError, match='there is no run kind "coumt"; did you mean "count"'):
        service.start("coumt", {}, None, "ada")
    with pytest.raises(UsageError, match='there is no run kind "skore"; did you mean "score"'):
        kind("skore")


def test_whole_numbers_are_numbers_too(service: JobService) -> None:
    assert checked_config(service._kinds["count"], {"pause": 2}).pause == 2.0


@pytest.mark.parametrize("name", sorted(kinds()))
def test_every_kinds_defaults_lie_in_their_own_bounds(name: str) -> None:
    config = kinds()[name].config
    given = {field: getattr(config(), field) for field in config.__dataclass_fields__}
    assert checked_config(kinds()[name], given) == config()


# ------------------------------------------------------------------------------------------------------ inference
def test_what_the_network_made_comes_back_as_pixels(finished_survey: Path) -> None:
    survey = Survey.open(finished_survey)
    inference = Inference(survey)
    try:
        inference.warm()
        run_id = survey.runs("train")[0].run_id
        made = [inference.reconstruct(run_id, row) for row in (0, 7, 0)]
        first, seventh, again = (future.result(60) for future in made)
        assert (first.shape, first.dtype) == ((32, 32, 3), np.uint8)
        assert first is again  # kept
        assert not np.array_equal(first, seventh)

        scored = survey.runs("score")[0].run_id  # by few axes of the latent vectors
        assert not np.array_equal(inference.reconstruct(scored, 0).result(60), first)
        residual = inference.feature_residual(scored, 0).result(60)
        assert residual.sum() == pytest.approx(survey.scores(scored)["feature_score"][0], rel=1e-3)

        batches = inference.reconstruct_many(run_id, [*range(20), 0])
        pictures = [picture for batch in batches for picture in batch.result(60)]
        assert [len(batches), len(pictures)] == [2, 21]
        assert pictures[0] is pictures[20] is first
        alone = inference.reconstruct(run_id, 19).result(60)
        assert alone is pictures[19]
        apart = inference.reconstruct_many(scored, range(180))
        assert apart[-1].cancel()  # somebody has scrolled on
        urgent = inference.reconstruct(scored, 199).result(60)
        assert not apart[-2].done()  # the one that somebody waits for came before the page
        assert urgent.shape == (32, 32, 3)

        with pytest.raises(JobError, match="20260101-000000-train"):
            inference.reconstruct("20260101-000000-train", 0).result(60)
        with pytest.raises(JobError, match="has no image for row 999"):
            inference.reconstruct(run_id, 999).result(60)

        assert inference._worker is not None
        dead = inference._worker.pid
        os.kill(dead, signal.SIGKILL)
        inference._kept.clear()
        assert np.array_equal(inference.reconstruct(run_id, 0).result(60), first)  # by a new worker
        assert inference._worker.pid != dead
    finally:
        inference.close()
        survey.close()
    with pytest.raises(JobError, match="the server is closing"):
        inference.reconstruct(run_id, 0).result(1)
