"""Trainings as people stop them: Ctrl-C, the command killed, a disk that is full or takes nothing more.

Through the command line or the job service; `tests.models.test_killed_training` kills at random moments.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.errors import JobError, LedgerError
from explorer.ledger import Ledger
from explorer.services.jobs import JobService
from explorer.survey import Survey
from models.artifacts import Run
from tests import killed_trainings
from tests.explorer.small_survey import write_survey
from tests.killed_trainings import TRAIN, Forked, contents, seed_of_kills

VOORWERP = Path(sys.executable).with_name("voorwerp")
FLAGS = ["--epochs=30", "--encoder-epochs=4", "--batch=8", "--encoder-batch=8", "--width=2", "--latent-size=4"]
#: The same settings, for a service.
CONFIG = {"epochs": 6, "encoder_epochs": 4, "batch": 8, "encoder_batch": 8, "width": 2, "latent_size": 4}


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def n_epochs(survey: Path) -> int:
    """Finished epochs of the one training that there is."""
    return sum(path.read_bytes().count(b"\n") for path in survey.glob("runs/*/history.jsonl"))


def as_it_ended(survey: Path) -> dict[str, object]:
    """What the one training of a survey must share with another one of the same settings."""
    (folder,) = (survey / "runs").iterdir()
    kept = contents(folder, last_state=False)
    return kept | {"split": (folder / "split.parquet").read_bytes()}


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


# ------------------------------------------------------------------------------------------------ command line
def test_a_training_after_ctrl_c_ends_in_the_bytes_of_one_that_nobody_stopped(tmp_path: Path, one_thread: None) -> None:
    at_once, stopped = (write_survey(tmp_path / name, n=40, size=16) for name in ("at_once", "stopped"))
    for path in (at_once, stopped):
        survey = Survey.open(path)
        with Ledger(path, survey.info.survey_id) as ledger:
            ledger.save_selection("some", np.arange(0, 40, 2) + np.arange(20) % 2, survey.subject_ids, who="ada")
        survey.close()
    command = ["--selection", "some", "--device", "cpu", *FLAGS]
    undisturbed = subprocess.Popen([VOORWERP, "run", at_once, "train", *command], stderr=subprocess.DEVNULL)
    with subprocess.Popen(
        [VOORWERP, "run", stopped, "train", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # as at a terminal: what a shell starts with "&" has Ctrl-C ignored, and hands that down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        seed = seed_of_kills()
        moment = random.Random(seed).randrange(1, 20)
        print(f"stopped after epoch {moment}: {killed_trainings.SEED}={seed}")
        wait_until(lambda: n_epochs(stopped) >= moment)
        os.kill(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=180)
    (folder,) = (stopped / "runs").iterdir()
    assert running.returncode == 130
    assert f"{folder.name} is interrupted; `voorwerp resume {stopped} {folder.name}` goes on with it" in said
    assert Run.read(folder / "run.json").state == "interrupted"
    assert 1 <= n_epochs(stopped) < 34
    again = subprocess.run([VOORWERP, "resume", stopped], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert undisturbed.wait(300) == 0
    assert as_it_ended(stopped) == as_it_ended(at_once)
    assert Run.read(folder / "run.json").selection == "some"

    over = subprocess.run([VOORWERP, "resume", stopped, folder.name], capture_output=True, text=True, timeout=60)
    assert (over.returncode, over.stdout) == (0, f"{folder.name} is done; there is nothing to go on with\n")


def test_the_run_is_there_before_torch_is_imported(tmp_path: Path) -> None:
    path = write_survey(tmp_path / "survey", n=8, size=16)
    script = f"""
import sys
from pathlib import Path
from explorer.ledger import Ledger
from explorer.services.jobs import JobService
from explorer.survey import Survey
from models.artifacts import Run
survey = Survey.open(Path({str(path)!r}))
class Looking(JobService):
    def _spawn(self, run, folder, lock):
        print(Run.read(folder / "run.json").state, "torch" in sys.modules)
with Ledger(survey.path, survey.info.survey_id) as ledger:
    Looking(survey, ledger).start("train", {{}}, None, "ada")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert found.stdout == "pending False\n", found.stderr


# ------------------------------------------------------------------------------------------------------- disks
@contextlib.contextmanager
def mounted(*arguments: object, at: Path) -> Iterator[None]:
    """Something mounted at a folder, which takes root."""
    done = subprocess.run(["mount", *map(str, arguments), str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting takes root and its rights ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextlib.contextmanager
def service_of(path: Path, kind: type[JobService] = JobService) -> Iterator[JobService]:
    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = kind(survey, ledger, [f"{killed_trainings.__name__}:TRAIN"])
        yield service
        service.stop()
    survey.close()


def test_a_full_disk_fails_a_training_in_a_sentence_and_resumed_it_ends_the_same(
    tmp_path: Path, one_thread: None
) -> None:
    folders = [tmp_path / name for name in ("at_once", "small")]
    ended = []
    for folder in folders:
        folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=6m", "tmpfs", at=folders[1]):
        for folder in folders:
            is_small = folder.name == "small"
            with service_of(write_survey(folder / "survey", n=40, size=16), Forked) as service:
                run_id = service.start(TRAIN.name, {**CONFIG, "device": "cpu"}, None, "ada")
                run = service.survey.run_folder(run_id)
                if is_small:
                    wait_until(lambda: n_epochs(folder / "survey") >= 2)  # noqa: B023
                    filler = folder / "filler"
                    fill(filler)
                    last = service.wait(run_id)
                    assert last.state == "failed", last
                    assert last.error == (
                        "the disk is full; free some space, then `voorwerp resume` goes on with train"
                    )
                    assert list(run.glob("**/*.tmp")) == []
                    lines = (run / "history.jsonl").read_bytes().split(b"\n")
                    assert lines[-1] == b""  # no epoch is half written
                    filler.unlink()
                    service.resume(run_id, "ada")
                last = service.wait(run_id)
                assert last.state == "done", last
                ended.append(contents(run))
        assert ended[0] == ended[1]


def fill(path: Path) -> None:
    """Write until the disk is full, to the last byte."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_survey_on_a_read_only_disk_is_a_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    path = write_survey(tmp_path / "survey", n=8, size=16)
    before = sorted(p.name for p in path.iterdir())
    with mounted("--bind", path, at=path):
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
        survey = Survey.open(path)
        with pytest.raises(LedgerError, match=r"is on a disk that is mounted read-only; copy the survey to where you"):
            Ledger(path, survey.info.survey_id)
        survey.close()
        command = [VOORWERP, "run", path, "train"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1 and "mounted read-only" in done.stderr
    assert sorted(p.name for p in path.iterdir()) == before


def test_a_disk_that_turns_read_only_lets_nothing_begin(tmp_path: Path) -> None:
    path = write_survey(tmp_path / "survey", n=8, size=16)
    (path / "runs").mkdir()
    with mounted("--bind", path / "runs", at=path / "runs"), service_of(path) as service:
        subprocess.run(["mount", "-o", "remount,ro,bind", path / "runs"], check=True)
        with pytest.raises(JobError, match=r"runs cannot be written: it is on a disk that is mounted read-only; copy"):
            service.start(TRAIN.name, CONFIG, None, "ada")
        assert service.list() == [] and service.ledger.entries("job") == []
