"""Workers on Dask: several on this machine, and a team's cluster on loopback."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from explorer import code_version
from explorer.commands.workers import Where
from explorer.errors import JobError, UsageError
from explorer.ledger import Ledger
from explorer.services.cluster import Scheduler, other_version, part, threads_of_one, visible_gpus
from explorer.services.jobs import JobService, holder
from explorer.survey import Survey
from explorer.worker import all_of
from models.artifacts import Run
from tests.explorer.cluster_at_hand import Cluster, free_port
from tests.explorer.small_survey import write_survey
from tests.explorer.test_jobs import wait_until
from tests.models.networks import tiny, trained

ROOT = Path(__file__).parents[2]
KINDS = tuple(f"tests.explorer.odd_jobs:{name}" for name in ("COUNT", "SHARE", "SCORE"))


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Survey]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the workers to find the kinds above
    survey = Survey.open(write_survey(tmp_path / "survey"))
    yield survey
    survey.close()


@contextlib.contextmanager
def jobs_of(survey: Survey, **told: Any) -> Iterator[JobService]:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger, KINDS, **told)
        yield service
        service.stop()


@pytest.fixture
def service(survey: Survey) -> Iterator[JobService]:
    """Jobs whose parts two workers of this machine share."""
    with jobs_of(survey, workers=2) as service:
        yield service


def sums(survey: Survey, n: int) -> list[int]:
    return [int(np.asarray(survey.images[i % 5]).astype(int).sum()) for i in range(n)]


def begun(folder: Path) -> list[list[int]]:
    """Number and process of every part, each time that it was begun."""
    path = folder / "begun"
    return [[int(word) for word in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


def family(folder: Path) -> list[psutil.Process]:
    """The process that does a run, and all that it started."""
    held = holder(folder)
    assert held is not None
    process = psutil.Process(held["pid"])
    return [process, *process.children(recursive=True)]


def assert_gone(processes: Sequence[psutil.Process], seconds: float = 3) -> None:
    _, alive = psutil.wait_procs(processes, seconds)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


# -------------------------------------------------------------------------------------------------- this machine
def test_parts_are_shared_by_the_workers_of_this_machine(service: JobService) -> None:
    run_id = service.start("share", {"steps": 8, "pause": 0.3}, None, "ada")
    job = service.wait(run_id)
    assert (job.state, job.done, job.error) == ("done", 8, None)
    assert job.results["sums"] == sums(service.survey, 8)
    assert (len(job.results["pids"]), job.results["n_workers"], job.results["threads"]) == (2, 2, [1])
    assert (job.started_by, job.resources) == ("ada", {"workers": 2})
    assert (job.device, job.memory is not None and job.memory > 200) == ("cpu", True)  # of more processes than one
    assert sorted(number for number, _ in begun(service.survey.run_folder(run_id))) == list(range(8))  # each once


def test_without_several_workers_there_is_no_scheduler(survey: Survey) -> None:
    with jobs_of(survey) as service:
        job = service.wait(service.start("share", {"steps": 2}, None, "ada"))
        assert (job.state, job.results["n_workers"], len(job.results["pids"])) == ("done", 0, 1)


def test_a_server_without_a_scheduler_imports_none() -> None:
    look = "import sys, explorer.services.desk, explorer.commands.serving, explorer.worker; "
    look += "print([name for name in ('distributed', 'torch') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-W", "ignore", "-c", look], text=True) == "[]\n"


def test_a_part_whose_process_dies_is_done_again(service: JobService) -> None:
    job = service.wait(service.start("share", {"steps": 4, "end": "crash"}, None, "ada"))
    assert (job.state, job.error, job.results["sums"]) == ("done", None, sums(service.survey, 4))
    numbers = sorted(number for number, _ in begun(service.survey.run_folder(job.run_id)))
    assert numbers == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("refuse", "^this part cannot be done$"),
        ("disk", r"^the disk is full; free some space, then `voorwerp resume` goes on with share$"),
        ("bug", "^the process that did a part ended 3 times on .*; if its memory was full, use a smaller batch or"),
    ],
)
def test_a_part_that_fails_fails_the_run_in_one_sentence(service: JobService, end: str, sentence: str) -> None:
    job = service.wait(service.start("share", {"steps": 3, "end": end}, None, "ada"))
    assert job.state == "failed"
    assert_matches(sentence, job.error)
    parts = service.survey.run_folder(job.run_id) / "parts"
    assert not (parts / "2.json").exists()


def test_killed_at_any_moment_its_workers_go_and_what_is_done_stays(service: JobService) -> None:
    run_id = service.start("share", {"steps": 6, "pause": 0.4}, None, "ada")
    folder = service.survey.run_folder(run_id)
    wait_until(lambda: len(list((folder / "parts").glob("*.json"))) >= 2)
    processes = family(folder)
    assert len(processes) >= 3
    listening = [c for process in processes for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == []  # nobody else on this machine or its network can ask them for anything
    processes[0].kill()
    assert_gone(processes)
    assert service.wait(run_id).state == "interrupted"
    n = len(list((folder / "parts").glob("*.json")))
    assert 2 <= n < 6
    service.resume(run_id, "ada")
    job = service.wait(run_id)
    assert (job.state, job.results["sums"], job.results["n_done"]) == ("done", sums(service.survey, 6), 6 - n)
    assert not (folder / "parts").exists()  # nobody needs them any more


def test_cancel_ends_the_workers_too(service: JobService) -> None:
    run_id = service.start("share", {"steps": 4, "end": "deaf"}, None, "ada")
    folder = service.survey.run_folder(run_id)
    wait_until(lambda: len(begun(folder)) == 2)
    processes = family(folder)
    started = time.monotonic()
    service.cancel(run_id, "ada")
    assert_gone(processes)
    assert time.monotonic() - started < 5
    assert service.job(run_id).state == "cancelled"


def test_a_stale_attempt_writes_nothing_more(survey: Survey) -> None:
    with jobs_of(survey) as service:
        run_id = service.start("count", {"steps": 2, "pause": 0.5}, None, "ada")
        wait_until(lambda: service.job(run_id).done >= 1)
        folder = survey.run_folder(run_id)
        process = family(folder)[0]
        later = Run.read(folder / "run.json")
        later.attempt, later.state = 2, "running"  # elsewhere: this machine was taken for dead
        later.write(folder / "run.json")
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
        assert Run.read(folder / "run.json") == later
        assert "attempt 1 ends: attempt 2 has taken over" in (folder / "log.txt").read_text()


def test_a_part_is_refused_by_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.services.cluster.code_version", lambda: "0.1.0+gold")
    assert (other_version(None), other_version("0.1.0+gold")) == (None, None)
    sentence = (
        "^the worker on .* has Voorwerp 0.1.0.gold and the run was asked for with 0.1.0.gnew; install the same on"
    )
    assert_matches(sentence, part({"code_version": "0.1.0+gnew"})["error"])


def test_threads_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads_of_one(1), threads_of_one(10 * cores)) == (cores, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_of_one(1) == 1
    for told, found in {"": [], "-1": [], "0,2": ["0", "2"], "GPU-8f": ["GPU-8f"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert visible_gpus() == found


# ------------------------------------------------------------------------------------------------ a team's cluster
@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and three workers."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    for name in ("one", "two", "three"):
        cluster.start_worker(name)
    yield cluster
    cluster.stop()


def test_scores_of_three_workers_one_of_them_killed_are_those_of_one_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    survey = Survey.open(write_survey(tmp_path / "survey", n=32 * 12 + 5, size=16))
    preprocessing = dict(survey.preprocessing)
    trained(survey.run_folder("t"), tiny(size=16, width=2, latent_size=16), preprocessing)
    Run("t", "train", "0", {}, state="done", preprocessing=preprocessing).write(survey.run_folder("t") / "run.json")
    settings = {"device": "cpu", "batch": 8}
    with jobs_of(survey) as alone:
        expected = alone.wait(alone.start("score", settings, None, "ada"))
    assert expected.state == "done", expected.error
    with jobs_of(survey, scheduler=cluster.scheduler) as service:
        run_id = service.start("score", settings, None, "ada")
        folder = survey.run_folder(run_id)
        carrier = wait_for(lambda: (held := holder(folder)) and held["pid"] and psutil.Process(held["pid"]).ppid())
        victim, hand = wait_for(lambda: next(hands_of(cluster, but=carrier), None))
        hand.suspend()  # in the middle of its part, or before its first
        wait_until(lambda: len(list((folder / "parts").glob("*.npz"))) >= 4, 60)
        victim.kill()
        hand.kill()
        job = service.wait(run_id)
    assert (job.state, job.error) == ("done", None)
    theirs, ours = survey.run_folder(expected.run_id), folder
    assert (ours / "latents.npy").read_bytes() == (theirs / "latents.npy").read_bytes()
    assert (ours / "scores.parquet").read_bytes() == (theirs / "scores.parquet").read_bytes()
    assert {n: v for n, v in job.results.items() if "second" not in n} == {
        n: v for n, v in expected.results.items() if "second" not in n
    }
    assert not (folder / "parts").exists()
    cluster.start_worker("four")
    survey.close()


def wait_for(look: Any, seconds: float = 60) -> Any:
    """What `look` finds, once it does."""
    found: list[Any] = []

    def is_found() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(look())
        return bool(found and found[-1])

    wait_until(is_found, seconds)
    return found[-1]


def hands_of(cluster: Cluster, but: int) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Workers other than that of this process id that do parts, and the process that does them."""
    for process in cluster.processes:
        if process.pid != but and process.poll() is None:
            for child in psutil.Process(process.pid).children():
                if "--parts" in child.cmdline():
                    yield process, child


def test_a_run_outlives_the_app_and_the_worker_that_carries_it(cluster: Cluster, survey: Survey) -> None:
    with jobs_of(survey, scheduler=cluster.scheduler) as app:
        run_id = app.start("count", {"steps": 8, "pause": 0.5}, None, "ada")
        assert app.job(run_id).state in ("pending", "running")
    folder = survey.run_folder(run_id)
    with jobs_of(survey, scheduler=cluster.scheduler) as other:
        wait_until(lambda: other.job(run_id).done >= 2, 30)
        job = other.job(run_id)
        assert (job.state, job.resources["scheduler"], job.started_by) == ("running", cluster.scheduler.address, "ada")
        with pytest.raises(JobError, match=f"{run_id} is running at tls://.*; wait for it or cancel it"):
            other.resume(run_id, "bo")
        child = family(folder)[0]
        (carrier,) = [process for process in cluster.processes if process.pid == child.ppid()]
        carrier.kill()
        last = other.wait(run_id)
        assert_gone([child])
        assert (last.state, last.done) == ("done", 8)
    run = Run.read(folder / "run.json")
    assert run.attempt == 2
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert next(line["done"] for line in lines if line["attempt"] == 2) > 2  # it went on
    cluster.start_worker("five")


def test_cancel_is_heard_on_the_cluster_within_five_seconds(cluster: Cluster, survey: Survey) -> None:
    with jobs_of(survey, scheduler=cluster.scheduler) as service:
        run_id = service.start("share", {"steps": 6, "end": "deaf"}, None, "ada")
        folder = survey.run_folder(run_id)
        wait_until(lambda: len(begun(folder)) >= 2, 60)
        processes = [*family(folder)[:1], *(psutil.Process(pid) for _, pid in begun(folder))]
        (folder / "cancel").touch()  # as from another machine, which cannot send signals to this one
        started = time.monotonic()
        wait_until(lambda: service.job(run_id).state == "cancelled", 5)
        assert_gone(processes)
        assert time.monotonic() - started < 5


def test_a_run_waits_for_a_worker_of_its_version_and_outlives_the_scheduler(tmp_path: Path, survey: Survey) -> None:
    cluster = Cluster(tmp_path / "empty")
    try:
        with jobs_of(survey, scheduler=cluster.scheduler) as app, jobs_of(survey) as other:
            run_id, cancelled = (app.start("count", {}, None, "ada") for _ in range(2))
            for service in (app, other):
                job = service.job(run_id)
                assert (job.state, job.message) == ("pending", f"waiting at {cluster.scheduler.address}")
            other.cancel(cancelled, "bo")
            assert app.job(cancelled).state == "cancelled"
            cluster.start_worker("old", version="0.0.1")
            job = app.wait(run_id)
            assert job.state == "failed"
            sentence = f"the worker on .* has Voorwerp 0.0.1 and the run was asked for with {code_version()[:5]}.*; "
            assert_matches(sentence + "install the same on both", job.error)
            assert app.job(cancelled).state == "cancelled"
            cluster.processes[-1].kill()
            cluster.start_worker("new")
            at_work = app.start("count", {"steps": 200, "pause": 0.1}, None, "ada")
            wait_until(lambda: app.job(at_work).done >= 2, 30)
            waiting = app.start("count", {}, None, "ada")
            child = family(survey.run_folder(at_work))[0]
            cluster.processes[0].kill()  # the scheduler, and with it what waited there
            wait_until(lambda: {app.job(run_id).state for run_id in (at_work, waiting)} == {"interrupted"}, 40)
            assert_gone([child])
            other.resume(at_work, "bo")
            job = other.wait(at_work)
            assert (job.state, job.resources, Run.read(survey.run_folder(at_work) / "run.json").ticket) == (
                "done",
                {},
                "",
            )
    finally:
        cluster.stop()


def assert_matches(pattern: str, text: str | None) -> None:
    assert re.search(pattern, str(text)), text


def test_a_scheduler_that_is_not_there_is_one_sentence_and_nothing_is_made(
    cluster: Cluster, survey: Survey, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    nobody = Scheduler(f"tcp://127.0.0.1:{free_port()}")
    with jobs_of(survey, scheduler=nobody) as service:
        with pytest.raises(
            JobError,
            match=r"no scheduler at tcp://127.0.0.1:\d+ that lets us in \((connection refused|no answer)\)",
        ):
            service.start("count", {}, None, "ada")
        assert time.monotonic() - started < 6
        assert (service.list(), service.ledger.entries()) == ([], [])
    unencrypted = Scheduler(cluster.scheduler.address.replace("tls", "tcp"))
    bare = Scheduler(cluster.scheduler.address)
    for scheduler, error, sentence in (
        (unencrypted, JobError, "^there is no scheduler at tcp"),
        (bare, UsageError, r"^tls://.* needs certificates: --tls-ca, --tls-cert and --tls-key"),
    ):
        with jobs_of(survey, scheduler=scheduler) as service, pytest.raises(error, match=sentence):
            service.start("count", {}, None, "ada")
    assert Where(nobody.address).check() == nobody
    assert "is not encrypted: whoever reaches it can run code on your cluster; use tls://" in capsys.readouterr().err
    for told, sentence in {
        Where("ada.example:8786"): '--scheduler is "ada.example:8786"; write it as tls://HOST:PORT',
        Where("tls://ada.example:8786", workers=2): "--workers are of this machine, and --scheduler has its own",
        Where("tls://ada.example:8786", Path("ca.pem")): "--tls-ca is ca.pem, and there is no such file",
        Where(tls_key=Path("key.pem")): "--tls-key opens a scheduler; tell --scheduler",
    }.items():
        with pytest.raises(UsageError, match=sentence):
            told.check()
    assert asdict(Where("tls://ada.example:8786").check())["address"] == "tls://ada.example:8786"


def test_what_a_job_takes_is_what_its_processes_take_together() -> None:
    own = {"device": "cpu", "memory_mb": 100.0, "gpu": None}
    assert all_of(own, []) == own
    assert all_of(own, [own, {**own, "memory_mb": None}]) == {**own, "memory_mb": 200.0}
    of_gpu = {"device": "cuda:0 H100", "memory_mb": 50.0, "gpu": {"use": 60, "memory_mb": 7.0, "of_mb": 80.0}}
    unsaid = {**of_gpu, "gpu": {"use": None, "memory_mb": 1.0, "of_mb": 80.0}}
    gpu = {"use": 60, "memory_mb": 8.0, "of_mb": 160.0}
    assert all_of(own, [of_gpu, unsaid]) == {"device": "cuda:0 H100", "memory_mb": 200.0, "gpu": gpu}
