"""Trainings killed at random moments and taken up again: for the tests, and, with more of them, for the benchmarks.

The moments are of the training, not of the clock: a worker is told how many epochs are to be behind it, and from there
gets SIGKILL within the next two steps or so, wherever it is then: in a step, a save, a picture.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from explorer.kinds import Kind
from explorer.kinds.train import TrainConfig
from explorer.ledger import Ledger
from explorer.services.jobs import JobService, sign_lock
from explorer.survey import Survey
from explorer.worker import run_job
from models.artifacts import CHECKPOINT, GRIDS, HISTORY, RESUME, Run, Workspace
from models.progress import Progress

END = "end.safetensors"  # a copy of the last saved state, which a run that is done does not keep
MOMENT = "kill.json"  # in the survey's folder: when the next worker is killed
SAVE_EVERY = 0.1  # seconds
SEED = "VOORWERP_KILL_SEED"

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "torch._dynamo", "models.train", __name__])


class Forked(JobService):
    """Its workers are forked from a process that has imported torch, which takes a worker seconds."""

    def _spawn(self, run: Run, folder: Path, lock: int) -> None:
        handed = Connection(os.dup(lock))  # the way in which a descriptor gets there
        worker = FORKS.Process(target=_work, args=(self.survey.path, run.run_id, handed, self._outside[run.kind]))
        worker.start()
        handed.close()
        assert worker.pid
        sign_lock(lock, worker.pid, run.attempt)


def _work(survey: Path, run_id: str, lock: Connection, kind: str) -> None:
    run_job(survey, run_id, lock.fileno(), kind)


def train_and_keep(config: TrainConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """The kind ``train`` with many saves, killed where `MOMENT` says so, and its last state kept."""
    from models import resume, train  # torch, which the process that starts the worker need not have

    resume.SAVE_EVERY = SAVE_EVERY
    told = workspace.directory.parents[1] / MOMENT
    if told.exists():
        _kill_at(**json.loads(told.read_text()))
    results = yield from train.run(config, workspace)
    shutil.copyfile(workspace.directory / RESUME, workspace.directory / END)
    return results


def _kill_at(epochs: float, share: float, gan_epochs: int) -> None:
    """Kill this process once so many `epochs` of both stages are behind it, and a `share` of the time of two steps."""
    from models.resume import Bookmark

    note, last, killers = Bookmark.note, time.monotonic(), list[Timer]()

    def note_and_look(bookmark: Bookmark, losses: Any) -> None:
        nonlocal last
        note(bookmark, losses)
        now = time.monotonic()
        n_steps = len(bookmark.order.rows) // bookmark.order.size
        behind = bookmark.epoch + (bookmark.step + 1) / n_steps + (bookmark.stage == "encoder") * gan_epochs
        if behind >= epochs and not killers:
            killers.append(Timer(2 * share * (now - last), os.kill, (os.getpid(), signal.SIGKILL)))
            killers[0].start()
        last = now

    Bookmark.note = note_and_look  # type: ignore[method-assign]


TRAIN = Kind("train", "Train", TrainConfig, f"{__name__}:train_and_keep", needs_images=True)


def contents(folder: Path, last_state: bool = True) -> dict[str, Any]:
    """What two runs of one training must share: weights, last state, grids; the history but for times."""
    names = [
        CHECKPOINT,
        *([END] if last_state else []),
        *sorted(f"{GRIDS}/{path.name}" for path in (folder / GRIDS).iterdir()),
    ]
    history = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    for record in history:
        del record["seconds"], record["images_per_second"]
    return {name: (folder / name).read_bytes() for name in names} | {HISTORY: history}


def seed_of_kills() -> int:
    """What the moments are drawn by: another one each time, or that of ``VOORWERP_KILL_SEED``, to see one again."""
    told = os.environ.get(SEED)
    return int(told) if told else random.SystemRandom().randrange(2**31)


def killed(
    survey: Survey, config: dict[str, Any], n_kills: Sequence[int], rows: np.ndarray | None = None
) -> dict[str, Any]:
    """Train in processes that get SIGKILL at random moments of their work; resume each time.

    The seed of the moments is printed.

    Parameters
    ----------
    n_kills
        Of each training: 0 for one at once, to compare with.
    rows
        Of the survey: the trainings are of a selection of these; None: of all.

    Returns
    -------
    dict
        folders: of each training's run; where: the last finished epoch at each kill, counted over both stages; seed.

    Raises
    ------
    RuntimeError
        A training failed by itself, or was done before it was killed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    seed = seed_of_kills()
    moments = random.Random(seed)
    print(f"moments of the kills: {SEED}={seed}")
    n_epochs = config["epochs"] + config["encoder_epochs"]
    folders, where = [], []
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = Forked(survey, ledger, [f"{__name__}:TRAIN"])
        if rows is not None:
            ledger.save_selection("some", rows, survey.subject_ids, who="test")
        for n in n_kills:
            run_id = ""
            for moment in [*sorted(moments.uniform(0, 0.9 * n_epochs) for _ in range(n)), None]:
                told = {"epochs": moment, "share": moments.random(), "gan_epochs": config["epochs"]}
                (survey.path / MOMENT).unlink(missing_ok=True)
                if moment is not None:
                    (survey.path / MOMENT).write_text(json.dumps(told))
                if run_id:
                    service.resume(run_id, "test")
                else:
                    of = None if rows is None else "some"
                    run_id = service.start("train", config, None, "test", selection=of)
                job = service.wait(run_id)
                if job.state != ("done" if moment is None else "interrupted"):
                    raise RuntimeError(f"{run_id} is {job.state}, to be killed at {moment}: {job.error}")
                folder = survey.run_folder(run_id)
                if moment is not None:
                    where.append((folder / HISTORY).read_text().count("\n"))
            folders.append(folder)
    return {"folders": folders, "where": where, "seed": seed}
