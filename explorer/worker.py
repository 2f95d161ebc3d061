"""The process that imports torch-bearing models and runs kinds. Nothing imports it; it talks through files and pipes.

``python -m explorer.worker SURVEY RUN_ID``      run one job: run.json says which
``python -m explorer.worker --parts``            do parts of jobs, for their processes, until stdin closes
``python -m explorer.worker --inference SURVEY``  answer requests for reconstructions until stdin closes

A job's worker holds a lock on ``<folder>/lock`` as long as it lives (the lock goes with the process, however it dies)
and touches it as a heartbeat. It waits until no other job of the survey computes, writes ``progress.jsonl``, and the
state "done" last of all. SIGTERM stops it: "cancelled" where the folder has a file ``cancel``, else "interrupted".
Where a later attempt has taken over (this machine was taken for dead), it ends and writes nothing more.
"""

import argparse
import contextlib
import errno
import fcntl
import importlib
import json
import math
import os
import queue
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow.parquet as pq

from explorer.errors import JobError, VoorwerpError
from explorer.kinds import Kind, kind_at, kinds
from explorer.services.cluster import DaskPool, LocalWorkers, Scheduler, TeamWorkers, visible_gpus
from explorer.services.jobs import (
    CANCEL,
    LOG,
    TICK,
    check_labels,
    clear_lock,
    find_run,
    holder,
    run_file,
    sign_lock,
    signature,
    take_lock,
)
from explorer.services.selected import Crops, SomeCrops, rows_of
from explorer.survey import Survey
from models import telemetry
from models.artifacts import (
    CHECKPOINT,
    COORDINATES,
    PARTS,
    PROGRESS,
    RESUME,
    RUN_JSON,
    SCORES,
    ArtifactError,
    Run,
    State,
    Workspace,
    now,
    sha256_file,
)
from models.images import ImageError
from models.progress import Progress

QUEUE = "queue.lock"
#: Exit code of an attempt that another one has taken over from.
STALE_EXIT = 4
#: Runs whose workspace a process that does parts keeps.
KEPT = 2

#: Space that is given back when a run ends, so that run.json can say of a full disk that it is full.
RESERVE, RESERVED = "reserve", 1 << 16
#: Seconds between heartbeats.
HEARTBEAT = 5.0
#: Seconds between two looks at device and memory.
LOOK = 2.0
#: Seconds of recent progress that the rate is taken from.
RATE_WINDOW = 30.0


class Stopped(BaseException):
    """SIGTERM came. Not an Exception: no kind may take it for an error of its own."""


# ---------------------------------------------------------------------------------------------------- progress
class Reporter:
    """Writes ``progress.jsonl`` (whole lines, few a second, always the latest) and the heartbeat, in its own thread."""

    def __init__(self, folder: Path, lock: int, attempt: int) -> None:
        self._folder = folder
        self._file = os.open(folder / PROGRESS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._lock_file = lock
        self._attempt = attempt
        self._latest: tuple[float, Progress] | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._total: int | None = None
        self._looked = 0.0
        self._telemetry: dict[str, Any] = {}
        self.taken_by_others: Callable[[], list[dict[str, Any]]] = list
        self._mutex = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def report(self, progress: Progress) -> None:
        """Take note of `progress`; it is written within `TICK` seconds unless a newer one comes first."""
        with self._mutex:
            self._latest = (time.time(), progress)

    def close(self) -> None:
        """Write the last record."""
        self._end.set()
        self._thread.join()
        os.close(self._file)

    def _run(self) -> None:
        beat = 0.0
        while True:
            ended = self._end.wait(TICK)
            with self._mutex:
                latest, self._latest = self._latest, None
            with contextlib.suppress(OSError):  # on a full disk the kind itself must meet the error
                if latest is not None:
                    os.write(self._file, self._line(*latest))
                if time.monotonic() - beat > HEARTBEAT:
                    leave_if_stale(self._folder, self._attempt)
                    os.utime(self._lock_file)
                    beat = time.monotonic()
            if ended:
                return

    def _taken(self, at: float) -> dict[str, Any]:
        """What the job takes of the machine, looked at now and then."""
        if at - self._looked > LOOK:
            self._looked, self._telemetry = at, all_of(telemetry.now(), self.taken_by_others())
        return self._telemetry

    def _line(self, at: float, progress: Progress) -> bytes:
        if self._total != progress.total or (self._recent and progress.done < self._recent[-1][1]):
            self._recent.clear()  # another stage, counted in another unit
            self._total = progress.total
        self._recent.append((at, progress.done))
        while len(self._recent) > 2 and at - self._recent[0][0] > RATE_WINDOW:
            self._recent.popleft()
        first_at, first_done = self._recent[0]
        seconds = at - first_at
        rate = (progress.done - first_done) / seconds if seconds > 0 and progress.done > first_done else None
        record = {
            "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "attempt": self._attempt,
            "done": int(progress.done),
            "total": int(progress.total),
            "message": progress.message,
            "metrics": {name: _finite(value) for name, value in progress.metrics.items()},
            "rate": rate,
            **self._taken(at),
        }
        return (json.dumps(record, allow_nan=False) + "\n").encode()


def all_of(own: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a job's process and those that do its parts take together, as of `models.telemetry.now`.

    Memory is that of all. Where parts are shared, devices and GPUs are those of the parts.
    """
    if not others:
        return own
    gpus = [one["gpu"] for one in others if one["gpu"]]
    used = [gpu["use"] for gpu in gpus if gpu["use"] is not None]
    summed = {name: round(sum(gpu[name] for gpu in gpus), 1) for name in ("memory_mb", "of_mb")}
    return {
        "device": ", ".join(sorted({one["device"] for one in others})),
        "memory_mb": round(sum(one["memory_mb"] or 0 for one in (own, *others)), 1),
        "gpu": {"use": round(sum(used) / len(used)) if used else None, **summed} if gpus else None,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------- job
def leave_if_stale(folder: Path, attempt: int) -> None:
    """End this process where a later attempt has taken over: what it would write is out of date."""
    latest = (signature(folder) or {}).get("attempt", 0)
    with contextlib.suppress(ArtifactError, OSError):
        latest = max(latest, Run.read(run_file(folder)).attempt)
    if latest > attempt:
        print(f"attempt {attempt} ends: attempt {latest} has taken over", file=sys.stderr, flush=True)
        os._exit(STALE_EXIT)


def run_job(
    survey_path: Path,
    run_id: str,
    lock: int | None,
    kind_path: str | None,
    scheduler: Scheduler | None = None,
    workers: int | None = None,
    version: str | None = None,
) -> int:
    """Run one job to its end and return the exit code: 0 done, 1 failed, 3 stopped.

    Parameters
    ----------
    scheduler
        Whose workers share the job's parts; None: those of this machine.
    workers
        How many of this machine; None: one for each GPU, where there are several.
    version
        Of the code, as the scheduler's workers are to have it.
    """
    survey = Survey.open(survey_path)
    path = find_run(survey, run_id)
    folder = path.parent
    if lock is None:
        lock = take_lock(folder)
        sign_lock(lock, os.getpid(), Run.read(path).attempt)
    run = Run.read(path)
    reporter = Reporter(folder, lock, run.attempt)
    pool: DaskPool | None = None
    state: State
    error: str | None = None
    try:
        signal.signal(signal.SIGTERM, _stop)
        (folder / RESERVE).write_bytes(bytes(RESERVED))
        kind = kind_at(kind_path) if kind_path else kinds()[run.kind]
        config = kind.config(**{**kind.before, **run.config})
        run.config = asdict(config)  # resumed, it may be older than a setting: run.json says what it was made with
        kind = kind.set_to(config)
        pool = pool_of(kind, config, run, folder, kind_path, scheduler, workers, version)
        if pool is not None:
            reporter.taken_by_others = pool.taken
        if pool is not None and scheduler is None:
            run.resources = {**run.resources, "workers": pool.n_workers}
        wait_for_turn(survey, path, run)
        workspace = replace(workspace_of(survey, kind, run, folder), pool=pool)
        results = iterate(kind, config, workspace, reporter, folder)
        run.results = results
        run.checkpoint_sha256 = sha256_file(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
        run.n_rows = _n_rows(folder)
        state = "done"
    except (Stopped, KeyboardInterrupt):
        state = "cancelled" if (folder / CANCEL).exists() else "interrupted"
    except Exception as failure:
        state, error = "failed", sentence_of(failure, run.kind, folder / LOG)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is near and must be written whole
    if pool is not None:
        pool.close()
    reporter.close()
    leave_if_stale(folder, run.attempt)
    run.state, run.error = state, error
    run.finished_at = now() if state != "interrupted" else None
    (folder / RESERVE).unlink(missing_ok=True)
    run.write(path)
    if state == "done":
        (folder / RESUME).unlink(missing_ok=True)  # not sooner: killed before "done", a run still needs them
        shutil.rmtree(folder / PARTS, ignore_errors=True)
    survey.close()
    clear_lock(lock)
    fcntl.flock(lock, fcntl.LOCK_UN)  # nothing more is written, and on a busy machine a process takes seconds to end
    return {"done": 0, "failed": 1}.get(state, 3)


def pool_of(
    kind: Kind,
    config: Any,
    run: Run,
    folder: Path,
    kind_path: str | None,
    scheduler: Scheduler | None,
    workers: int | None,
    version: str | None,
) -> DaskPool | None:
    """Who shares the job's parts; None where its kind has none, or there is this process alone."""
    if not kind.is_shared:
        return None
    if scheduler is not None:
        return DaskPool(TeamWorkers(scheduler), folder, run.attempt, kind_path, version)
    gpus = [] if getattr(config, "device", "auto") == "cpu" else visible_gpus()
    n = len(gpus) if workers is None else workers
    return DaskPool(LocalWorkers(n, gpus), folder, run.attempt, kind_path) if n > 1 else None


def _stop(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: cleaning up must not be stopped
    raise Stopped


def wait_for_turn(survey: Survey, path: Path, run: Run) -> None:
    """Wait until no job of this survey computes and none that waits was asked for earlier; then become "running".

    Those of a team's cluster wait there, and for no other.
    """
    if run.ticket:
        run.state = "running"
        leave_if_stale(path.parent, run.attempt)
        run.write(path)
        return
    queue = os.open(survey.path / QUEUE, os.O_RDWR | os.O_CREAT, 0o666)
    while True:
        if (path.parent / CANCEL).exists():
            raise Stopped
        fcntl.flock(queue, fcntl.LOCK_EX)  # looking and starting are one step, or two could start at once
        if not any(_goes_first(survey, other, run) for other in (*survey.runs(state=None), *survey.maps(state=None))):
            run.state = "running"
            run.write(path)
            os.close(queue)
            return
        fcntl.flock(queue, fcntl.LOCK_UN)
        time.sleep(TICK)


def _goes_first(survey: Survey, other: Run, run: Run) -> bool:
    if other.run_id == run.run_id or other.state not in ("pending", "running") or other.ticket:
        return False
    if other.state == "pending" and (other.created_at, other.run_id) > (run.created_at, run.run_id):
        return False
    return holder(find_run(survey, other.run_id).parent) is not None


def workspace_of(survey: Survey, kind: Kind, run: Run, folder: Path) -> Workspace:
    """What the kind's function gets: of the subjects of its selection alone, where it is of one.

    Raises
    ------
    JobError
        The selection's subjects, or the labels, are not as the run was started with.
    """
    check_labels(run, folder)
    parents = {
        name: find_run(survey, run_id).parent
        for name, run_id in run.inputs.items()
        if name.partition(".")[0] in kind.builds_on
    }
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    groups, _ = survey.category("duplicate_group")
    planted, images, subject_ids = survey.planted(), survey.images, survey.subject_ids
    if run.selection is None:
        images = None if images is None else Crops(images)
    else:
        rows = rows_of(survey, run, folder)
        images = None if images is None else SomeCrops(images, rows)
        groups, planted, subject_ids = groups[rows], planted[rows], subject_ids[rows]
    left_out = planted if planted.any() else None
    return Workspace(
        folder, images, subject_ids, parents, run.preprocessing, threads, groups, left_out, survey=survey.path
    )


def iterate(kind: Kind, config: Any, workspace: Workspace, reporter: Reporter, folder: Path) -> dict[str, Any]:
    """Drive the kind's generator to its end; return what it returned."""
    module, _, function = kind.run.partition(":")
    job: Generator[Progress, None, dict[str, Any] | None] = getattr(importlib.import_module(module), function)(
        config, workspace
    )
    while True:
        try:
            reporter.report(next(job))
        except StopIteration as end:
            return dict(end.value or {})
        if (folder / CANCEL).exists():
            job.close()
            raise Stopped


def _n_rows(folder: Path) -> int | None:
    for name in (SCORES, COORDINATES):
        if (folder / name).exists():
            return int(pq.read_metadata(folder / name).num_rows)
    return None


def sentence_of(error: Exception, what: str, log: Path | str) -> str:
    """One sentence for whoever asked. An error nobody foresaw leaves its traceback in `log`, where stderr goes."""
    if isinstance(error, (VoorwerpError, ArtifactError, ImageError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; free some space, then `voorwerp resume` goes on with {what}"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"the survey's disk is mounted read-only; once it can be written, `voorwerp resume` goes on with {what}"
    traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory for {what}; use a smaller batch or a machine with more"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is imported only where a kind needs it
        return f"the GPU has not enough memory for {what}; use a smaller batch, or device cpu"
    words = " ".join(str(error).split())
    return f"{what} failed with {type(error).__name__}{f' ({words[:300]})' if words else ''}; see {log}"


# ------------------------------------------------------------------------------------------------------- parts
def do_parts() -> int:
    """Do parts of runs, as told on stdin, until it closes; then end at once, whatever is being done.

    A request is the JSON of `explorer.services.cluster.DaskPool`; an answer is the JSON ``{"answer"}`` of what the
    function returned, or ``{"error"}``, one sentence, with what this process has ``"taken"`` of the machine. Each is
    one message of a `Connection`; nothing is pickled.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us, and ends us in order
    incoming, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # a library that prints must not garble the answers
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                requests.put(incoming.recv_bytes())
        except EOFError:
            os._exit(0)

    threading.Thread(target=listen, name="requests", daemon=True).start()
    known: OrderedDict[tuple[str, int], tuple[Survey, Any, Workspace]] = OrderedDict()
    while True:
        request = json.loads(requests.get())
        folder = Path(request["folder"])
        answer: dict[str, Any]
        try:
            answer = {"answer": _do_part(request, folder, known)}
        except Exception as error:
            what = folder.name.rpartition("-")[2] or "the run"
            answer = {"error": sentence_of(error, what, f"the log of the worker on {socket.gethostname()}")}
        answer["taken"] = telemetry.now()
        answers.send_bytes(json.dumps(answer).encode())


def _do_part(
    request: dict[str, Any], folder: Path, known: OrderedDict[tuple[str, int], tuple[Survey, Any, Workspace]]
) -> dict[str, Any]:
    key = (request["folder"], request["attempt"])
    if key not in known:
        run, survey = Run.read(run_file(folder)), Survey.open(folder.parents[1])
        kind = kind_at(request["kind"]) if request["kind"] else kinds()[run.kind]
        config = kind.config(**{**kind.before, **run.config})
        known[key] = survey, config, workspace_of(survey, kind.set_to(config), run, folder)
        if len(known) > KEPT:
            known.popitem(last=False)[1][0].close()
    known.move_to_end(key)
    _, config, workspace = known[key]
    module, _, function = request["function"].partition(":")
    return dict(getattr(importlib.import_module(module), function)(config, workspace, **request["part"]))


# --------------------------------------------------------------------------------------------------- inference
def answer_requests(survey_path: Path) -> int:
    """Answer requests on stdin until it closes.

    A request is the JSON ``{"run_id", "what", "rows"}``, of an image that is no subject ``{"run_id", "what", "shape"}``
    and then its uint8 bytes. An answer is the JSON ``{"arrays": [[shape, dtype], …]}`` and then the bytes of all of
    them, or the JSON ``{"error"}`` alone. Each is one message of a `Connection`; nothing is pickled.
    """
    requests, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # a library that prints must not garble the answers
    networks = Networks(Survey.open(survey_path))
    while True:
        try:
            request = json.loads(requests.recv_bytes())
            image = bytearray(requests.recv_bytes() if "shape" in request else b"")
        except EOFError:
            return 0
        try:
            if "shape" in request:
                made = networks.judge(request["run_id"], np.frombuffer(image, np.uint8).reshape(request["shape"]))
            else:
                made = [networks.answer(request["run_id"], request["what"], request["rows"])]
        except Exception as error:
            sentence = sentence_of(error, "reconstruction", "what the server printed")
            answers.send_bytes(json.dumps({"error": sentence}).encode())
            continue
        answers.send_bytes(json.dumps({"arrays": [[one.shape, one.dtype.name] for one in made]}).encode())
        answers.send_bytes(b"".join(one.tobytes() for one in made))


class Networks:
    """The networks of a survey's training runs; the last two stay loaded."""

    def __init__(self, survey: Survey) -> None:
        from models import scoring  # torch: seconds, paid before the first request

        self._scoring = scoring
        self._survey = survey
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._judges: OrderedDict[str, tuple[Any, Any]] = OrderedDict()

    def answer(self, run_id: str, what: str, rows: list[int]) -> np.ndarray:
        """The "reconstruction", uint8 (n, H, W, C), or the "feature_residual", float32 (n, side, side), of crops.

        Of a score run as its scores were taken, of a training run as published.
        """
        survey = self._survey
        if survey.images is None or not all(0 <= row < survey.n for row in rows):
            raise JobError(f"{survey.path} has no image for row {', '.join(map(str, rows))}")
        network = self._network(run_id)
        images = np.stack([survey.images[row] for row in rows])
        make = {"reconstruction": network.reconstruct, "feature_residual": network.feature_residual}[what]
        return np.ascontiguousarray(make(images))

    def judge(self, run_id: str, image: np.ndarray) -> list[np.ndarray]:
        """All that a score run's network makes of a crop (H, W, C) that is no subject's.

        Returns
        -------
        list of arrays
            Latent vector (d,), image score and feature score (2,), reconstruction (H, W, C), feature residual
            (side, side), and whether training saw these very pixels (1,): 0 unseen, 1 train, 2 validation. Scores are
            taken in the run's precision.
        """
        network, images = self._network(run_id), image[None]
        made = [network.reconstruct(images)[0], network.feature_residual(images)[0]]
        if run_id not in self._judges:
            run = Run.read(self._survey.run_folder(run_id) / RUN_JSON)
            precision = run.results.get("precision", "float32")
            split_of = self._scoring.read_split(self._survey.run_folder(run.inputs.get("train", run_id)))
            self._judges[run_id] = self._scoring.prepare(network.scorer, network.device, precision), split_of
            if len(self._judges) > 2:
                self._judges.popitem(last=False)
        scorer, split_of = self._judges[run_id]
        latents, image_score, feature_score = self._scoring.score_images(scorer, images, 1)
        scores = np.array([image_score[0], feature_score[0]], np.float32)
        return [latents[0], scores, *made, split_of(images)]

    def _network(self, run_id: str) -> Any:
        """The network of a run, ready for this survey's crops."""
        if run_id not in self._loaded:
            survey = self._survey
            folder, config = survey.run_folder(run_id), None
            if (run := Run.read(folder / RUN_JSON)).kind != "train":
                folder, config = survey.run_folder(run.inputs["train"]), run.config
            self._loaded[run_id] = self._scoring.load_model(folder, survey.preprocessing, config)
            if len(self._loaded) > 2:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(run_id)
        return self._loaded[run_id]


# -------------------------------------------------------------------------------------------------------- main
def stop_with_parent() -> None:
    """Stop as by SIGTERM when whoever started this process is gone: stdin is a pipe from there."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        signal.alarm(5)  # ends a process whose kind is deep in compiled code and hears nothing

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m explorer.worker")
    parser.add_argument("survey", type=Path, nargs="?")
    parser.add_argument("run_id", nargs="?")
    parser.add_argument("--inference", action="store_true", help="answer requests for reconstructions on stdin")
    parser.add_argument("--lock", type=int, help="file descriptor of the lock, taken already")
    parser.add_argument("--kind", help="module:NAME of the Kind, where it is not one of explorer.kinds")
    parser.add_argument("--parts", action="store_true", help="do parts of runs, as told on stdin")
    parser.add_argument("--workers", type=int, help="processes of this machine that share the parts")
    parser.add_argument("--scheduler", help="whose workers share the parts")
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--tls-{name}", type=Path)
    parser.add_argument("--code-version", help="that the scheduler's workers are to have")
    arguments = parser.parse_args()
    if arguments.parts:
        os.nice(max(0, 5 - os.nice(0)))
        return do_parts()
    if arguments.survey is None:
        parser.error("SURVEY is missing")
    if arguments.inference:
        return answer_requests(arguments.survey)
    if arguments.run_id is None:
        parser.error("RUN_ID is missing")
    files = arguments.tls_ca, arguments.tls_cert, arguments.tls_key
    scheduler = Scheduler(arguments.scheduler, *files) if arguments.scheduler else None
    if arguments.lock is not None:
        os.set_inheritable(arguments.lock, False)
        stop_with_parent()
    os.nice(5)  # the server and its frames go first
    job = arguments.survey, arguments.run_id, arguments.lock, arguments.kind
    code = run_job(*job, scheduler, arguments.workers, arguments.code_version)
    if "distributed" in sys.modules:  # its threads end with the process, which need not wait for them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (VoorwerpError, ArtifactError) as error:
        sys.exit(str(error))
