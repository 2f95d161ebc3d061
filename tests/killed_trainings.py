"""Trainings killed at random moments and taken up again: for the tests, and, with more of them, for the benchmarks."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Generator
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from explorer.kinds import Kind
from explorer.kinds.train import TrainConfig
from explorer.ledger import Ledger
from explorer.services.jobs import TICK, JobService, holder, last_progress
from explorer.survey import Survey
from models.artifacts import CHECKPOINT, GRIDS, HISTORY, RESUME, Workspace
from models.progress import Progress

END = "end.safetensors"  # a copy of the last saved state, which a run that is done does not keep
ROOT = Path(__file__).parents[1]


def train_and_keep(config: TrainConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """The kind ``train`` with a save five times a second, and its last state kept."""
    from models import resume, train  # torch, which the process that starts the worker need not have

    resume.SAVE_EVERY = 0.2
    results = yield from train.run(config, workspace)
    shutil.copyfile(workspace.directory / RESUME, workspace.directory / END)
    return results


TRAIN = Kind("train", "Train", TrainConfig, "tests.killed_trainings:train_and_keep", needs_images=True)


def contents(folder: Path) -> dict[str, Any]:
    """What two runs of one training must share: weights, last state, grids; the history but for times."""
    names = [CHECKPOINT, END, *sorted(f"{GRIDS}/{path.name}" for path in (folder / GRIDS).iterdir())]
    history = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    for record in history:
        del record["seconds"], record["images_per_second"]
    return {name: (folder / name).read_bytes() for name in names} | {HISTORY: history}


def at_once(survey: Survey, folder: Path, config: dict[str, Any]) -> float:
    """Train in this process, on one thread, uninterrupted; the seconds that it took."""
    images = np.asarray(survey.images[:])
    folder.mkdir()
    workspace = Workspace(folder, images, survey.subject_ids, {}, survey.preprocessing, threads=1)
    started = time.monotonic()
    for _ in train_and_keep(TrainConfig(**config), workspace):
        pass
    return time.monotonic() - started


def killed(survey: Survey, config: dict[str, Any], n_kills: int, seconds: float, seed: int = 7) -> dict[str, Any]:
    """Train in worker processes that get SIGKILL `n_kills` times at random moments of their work; resume each time.

    A training that is done before all kills have come is followed by another.

    Parameters
    ----------
    seconds
        What it takes at once: the moments are spread over it.

    Returns
    -------
    dict
        folders: of every finished run; n_landed: kills that came while a training was at work; where: the last finished
        epoch at each of them, counted over both stages.

    Raises
    ------
    RuntimeError
        A training failed by itself.
    """
    os.environ["PYTHONPATH"] = str(ROOT)  # for the worker to find the kind above
    os.environ["OMP_NUM_THREADS"] = "1"
    moments, longest = random.Random(seed), seconds * max(0.3, 1.6 / n_kills)
    folders, where = [], []
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger, [f"{__name__}:TRAIN"])
        try:
            run_id = service.start("train", config, None, "test")
            for _ in range(n_kills):
                folder = survey.run_folder(run_id)
                if _kill_after(service, run_id, moments.uniform(0, longest)) == "done":
                    folders.append(folder)
                    run_id = service.start("train", config, None, "test")
                else:
                    where.append((folder / HISTORY).read_text().count("\n") if (folder / HISTORY).exists() else 0)
                    service.resume(run_id, "test")
            job = service.wait(run_id)
        finally:
            service.stop()
    if job.state != "done":
        raise RuntimeError(f"{run_id} is {job.state}: {job.error}")
    return {"folders": [*folders, survey.run_folder(run_id)], "n_landed": len(where), "where": where}


def _kill_after(service: JobService, run_id: str, seconds: float) -> str:
    """Kill the worker this long after it began to read the images; the state that is left."""
    folder = service.survey.run_folder(run_id)
    attempt = (held := holder(folder)) and held["attempt"]
    while (last_progress(folder) or {}).get("attempt") != attempt and not service.job(run_id).is_over:
        time.sleep(TICK / 10)
    killer = Timer(seconds, _kill, [folder])
    killer.start()
    job = service.wait(run_id)
    killer.cancel()
    killer.join()
    if job.state not in ("done", "interrupted"):
        raise RuntimeError(f"{run_id} is {job.state}: {job.error}")
    return job.state


def _kill(folder: Path) -> None:
    held = holder(folder)
    if held is not None and held["pid"]:
        os.kill(held["pid"], signal.SIGKILL)
