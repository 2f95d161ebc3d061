"""Several processes train as one: the same steps, no orphans, and a sentence where one of them is gone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from explorer.kinds.train import TrainConfig
from explorer.ledger import Ledger
from explorer.services.jobs import JobService, holder, last_progress
from explorer.survey import Survey
from models import parallel, train
from models.artifacts import CHECKPOINT, HISTORY, RESUME, ArtifactError
from models.steps import Share
from tests.explorer.small_survey import write_survey
from tests.models.networks import blobs, finish, workspace
from tests.models.test_resume import everything, train_and_stop

SMALL = TrainConfig(epochs=2, encoder_epochs=2, batch=8, encoder_batch=8, width=2, latent_size=4, device="cpu", seed=7)
TWO = replace(SMALL, processes=2)


def others_of(pid: int) -> list[psutil.Process]:
    """The processes that the training in `pid` started."""
    return [p for p in psutil.Process(pid).children(recursive=True) if "models.parallel" in p.cmdline()]


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@contextmanager
def rendezvous_is_swept() -> Iterator[None]:
    yield
    assert others_of(os.getpid()) == []
    assert not torch.distributed.is_initialized()


def test_the_parts_of_a_batch_are_the_batch() -> None:
    for n in (2, 5, 8):
        parts = [np.arange(n)[Share(rank, 2).part(n)] for rank in range(2)]
        assert np.concatenate(parts).tolist() == list(range(n))
        assert all(len(part) for part in parts)


def test_two_processes_make_the_steps_of_one_and_taken_up_again_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, alone = finish(train.run(SMALL, workspace(tmp_path / "one", blobs(24))))
    with rendezvous_is_swept():
        _, together = finish(train.run(TWO, workspace(tmp_path / "two", blobs(24))))
    assert (alone["processes"], together["processes"]) == (1, 2)
    one, two = (load_file(tmp_path / name / CHECKPOINT) for name in ("one", "two"))
    for name, weight in one.items():
        if not name.startswith("latent_"):  # axes of the latent vectors: their signs are anyone's
            torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=2e-5)
    for mine, theirs in zip(*((tmp_path / n / HISTORY).read_text().splitlines() for n in ("one", "two")), strict=True):
        assert json.loads(mine)["train"] == pytest.approx(json.loads(theirs)["train"], rel=1e-3)

    with rendezvous_is_swept():  # within the GAN's second epoch
        train_and_stop(tmp_path / "again", TWO, 4, monkeypatch)
    finish(train.run(TWO, workspace(tmp_path / "again", blobs(24))))
    assert everything(tmp_path / "again") == everything(tmp_path / "two")


def test_one_of_them_killed_is_a_sentence_and_what_was_saved_stays_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.resume.SAVE_EVERY", -1.0)
    job = train.run(TWO, workspace(tmp_path, blobs(24)))
    next(job), next(job)
    (other,) = others_of(os.getpid())
    other.kill()
    with (
        rendezvous_is_swept(),
        pytest.raises(ArtifactError, match=r"process 1 of the training's 2 ended by signal 9; .* voorwerp resume"),
    ):
        finish(job)
    with safe_open(tmp_path / RESUME, framework="pt") as file:
        state = json.loads(file.metadata()["voorwerp"])
    assert (state["stage"], state["epoch"], state["step"]) == ("gan", 1, 0)  # nothing of the step that was cut off


def test_memory_that_runs_out_in_another_is_as_if_it_had_here(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = object.__new__(parallel.Leader)
    ours, theirs = Pipe()
    with ours, theirs, subprocess.Popen([sys.executable, "-c", f"raise SystemExit({parallel.OUT_OF_MEMORY})"]) as other:
        leader.share, leader.others = Share(0, 2), [(other, ours)]
        parameter = torch.zeros(3, requires_grad=True)
        parameter.grad = torch.ones(3)
        monkeypatch.setattr(torch.distributed, "all_reduce", lost)
        with pytest.raises(torch.OutOfMemoryError, match="process 1 of the training ran out of memory"):
            leader.add([parameter], torch.zeros(2))


def lost(_: torch.Tensor) -> None:
    raise RuntimeError("Connection reset by peer")


def test_a_job_killed_takes_its_processes_with_it_goes_on_and_is_cancelled_within_five_seconds(tmp_path: Path) -> None:
    survey = Survey.open(write_survey(tmp_path / "survey", n=24, size=16))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger)
        run_id = service.start("train", asdict(replace(TWO, epochs=100_000)), None, "test")
        folder = survey.run_folder(run_id)

        def at_work() -> tuple[psutil.Process, list[psutil.Process]]:
            def is_training() -> bool:
                held, last = holder(folder), last_progress(folder)
                return bool(held and last and last["attempt"] == held["attempt"] and last["done"] > 2)

            wait_for(is_training)
            leader = psutil.Process((holder(folder) or {})["pid"])
            others = others_of(leader.pid)
            assert len(others) == 1
            return leader, others

        def gone(processes: list[psutil.Process]) -> bool:
            return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)

        leader, others = at_work()
        leader.kill()
        wait_for(lambda: gone(others), 5)
        wait_for(lambda: service.job(run_id).state == "interrupted" and not leader.is_running())
        service.resume(run_id, "test")
        _, others = at_work()
        began = time.monotonic()
        service.cancel(run_id, "test")
        assert time.monotonic() - began < 5
        assert service.job(run_id).state == "cancelled"
        assert gone(others)
        service.stop()
    survey.close()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [parallel.number_of(n, gpu) for n in (None, 1, 2)] == [2, 1, 2]
    assert [parallel.number_of(n, cpu) for n in (None, 1, 3)] == [1, 1, 3]
    with pytest.raises(ArtifactError, match="processes is 3, and this machine offers 2 GPUs"):
        parallel.number_of(3, gpu)
