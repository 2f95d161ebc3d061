"""Long work: started here, done by `explorer.worker` in a process of its own, followed through the run's folder.

Nothing of a job's state lives in memory: a second server, the command line and every open browser read the same files.
With a scheduler (see `explorer.services.cluster`) a job is handed out to a team's workers, and does not end with us.

::

    runs/<run_id>/run.json          kind, config, state
                  progress.jsonl    one record a line, the last whole line counts
                  lock              held by the worker as long as it lives; without a holder, pending and running
                                    read as "interrupted"
                  cancel            asks the worker to stop
                  log.txt           what the worker printed
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explorer import code_version
from explorer.errors import JobError, UsageError
from explorer.kinds import Kind, kind_at, kinds, learning
from explorer.services import selected
from explorer.survey import Survey
from models.artifacts import LATENTS, MAP_JSON, PROGRESS, RUN_JSON, Run, State, fsync_directory, now, sha256_file
from models.divergence import SOUND
from models.labels import LABELS

if TYPE_CHECKING:
    from explorer.ledger import Ledger  # a worker needs the locks below, not a database
    from explorer.services.cluster import Scheduler
    from explorer.services.graded import Graded

LOCK = "lock"
CANCEL = "cancel"
LOG = "log.txt"
#: Among a run's inputs: sha256 of its labels.
INPUT = "labels"
#: What the folder of a run that is being deleted begins with.
DELETED = ".deleted-"

#: A lock of another machine counts as left behind when its heartbeat is older than this, in seconds.
STALE = 60.0
#: Seconds a worker has to stop by itself before it is killed.
GRACE = 3.0
#: Seconds between two looks at a folder.
TICK = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """A run as a person follows it.

    Attributes
    ----------
    done, total
        In the job's own unit; 0 of 0 before its first record.
    rate
        Units a second over the last half minute; None while unknown.
    seconds_left
        None while unknown, and when the job is over.
    error
        One sentence when `state` is "failed".
    selection, started_by, resources
        Of what, by whom and where; see `models.artifacts.Run`.
    device
        "cpu" or "cuda:0 NAME"; "" while unknown.
    memory
        Memory of its process in MB; None while unknown.
    """

    run_id: str
    kind: str
    title: str
    state: State
    done: int
    total: int
    message: str
    metrics: Mapping[str, float | None]
    rate: float | None
    seconds_left: float | None
    started_at: str
    error: str | None
    results: Mapping[str, Any]
    selection: str | None = None
    started_by: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    memory: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state not in ("pending", "running")

    @property
    def time_left(self) -> str:
        """``1 min 30 s left``, above an hour without seconds; "" while unknown, and when the job is over."""
        if self.seconds_left is None:
            return ""
        minutes, s = divmod(round(self.seconds_left), 60)
        h, m = divmod(minutes, 60)
        return f"{h} h {m} min left" if h else f"{m} min {s} s left" if m else f"{s} s left"


# --------------------------------------------------------------------------------------------------- run folders
def find_run(survey: Survey, run_id: str) -> Path:
    """The ``run.json`` or ``map.json`` of a run.

    Raises
    ------
    JobError
        No such run; the message offers the near miss.
    """
    for path in (survey.run_folder(run_id) / RUN_JSON, survey.map_folder(run_id) / MAP_JSON):
        if path.exists():
            return path
    found = (*survey.runs(state=None), *survey.maps(state=None))
    known = [*(run.run_id for run in found), *{run.series for run in found if run.series}]
    near = difflib.get_close_matches(run_id, known, n=1)
    raise JobError(f'there is no run "{run_id}" in {survey.path}' + (f'; did you mean "{near[0]}"?' if near else ""))


def run_file(folder: Path) -> Path:
    """The ``run.json`` of a run's folder, or the ``map.json`` of a map's."""
    return folder / (MAP_JSON if folder.parent.name == "maps" else RUN_JSON)


def not_written(path: Path, error: OSError) -> str:
    """The sentence for a disk that does not take what a run writes."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path} cannot be written: the disk is full; free some space and repeat it"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        why = "it is on a disk that is mounted read-only" if error.errno == errno.EROFS else "you may not write there"
        return f"{path} cannot be written: {why}; copy the survey to where you may, and run it there"
    return f"{path} cannot be written: {error.strerror or error}"


def check_labels(run: Run, folder: Path) -> None:
    """Whether the labels of a run are those that it was started with.

    Raises
    ------
    JobError
        They are not, or are gone.
    """
    if INPUT not in run.inputs:
        return
    path = folder / LABELS
    if not path.exists():
        raise JobError(f"{path} is gone, from which {run.run_id} learns; put it back, or start a new run")
    if sha256_file(path) != run.inputs[INPUT]:
        raise JobError(
            f"{path} is not what {run.run_id} was started with (sha256 differs); put the first one back, or start a "
            "new run"
        )


def take_lock(folder: Path) -> int:
    """Lock a run's folder and return the lock's file descriptor, which may be handed to a child.

    Raises
    ------
    JobError
        Another process holds it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    for _ in range(40):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:  # a look by `holder`, a worker that is about to end, or one at work
            time.sleep(0.05)
    os.close(descriptor)
    raise JobError(f"{folder} is being worked on by another process; wait for it or cancel it")


def sign_lock(descriptor: int, pid: int, attempt: int) -> None:
    """Write into a lock who holds it."""
    content = json.dumps({"host": socket.gethostname(), "pid": pid, "attempt": attempt}).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)


def clear_lock(descriptor: int) -> None:
    """Take the signature off a lock: whoever looks from another machine sees at once that nobody holds it."""
    os.ftruncate(descriptor, 0)


def signature(folder: Path) -> dict[str, Any] | None:
    """Who has signed a run's lock last; None for nobody."""
    try:
        signed = json.loads((folder / LOCK).read_bytes())
    except (OSError, ValueError):
        return None
    return signed if isinstance(signed, dict) else None


def holder(folder: Path) -> dict[str, Any] | None:
    """Who works on a run: host, pid (0 while not known yet) and attempt; None when nobody does."""
    here = socket.gethostname()
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        try:
            signed: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
        except ValueError:  # taken, not signed yet
            signed = {"host": here, "pid": 0, "attempt": 0}
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return signed
        # The locks of other machines may be invisible here: then the heartbeat counts.
        age = time.time() - os.fstat(descriptor).st_mtime
        return signed if signed["host"] != here and age < STALE else None
    finally:
        os.close(descriptor)


def last_progress(folder: Path) -> dict[str, Any] | None:
    """The last whole record of ``progress.jsonl``."""
    try:
        with (folder / PROGRESS).open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - 16_384))
            lines = handle.read().split(b"\n")[:-1]  # what follows the last line end is not written yet
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            record: dict[str, Any] = json.loads(line)
            return record
    return None


# --------------------------------------------------------------------------------------------------------- config
def checked_config(kind: Kind, given: Mapping[str, Any]) -> Any:
    """The kind's config from `given` values, defaults for the rest.

    Raises
    ------
    UsageError
        A field that does not exist (the message offers the near miss), of the wrong type, out of range, or missing.
    """
    known = {f.name: f for f in fields(kind.config)}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
            raise UsageError(f'{kind.name} has no setting "{name}"; {hint}')
    hints = typing.get_type_hints(kind.config)
    values = {}
    for name, f in known.items():
        if name in given:
            values[name] = _checked(f"{kind.name}: {name}", given[name], hints[name], f.metadata)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise UsageError(f'{kind.name} needs the setting "{name}"')
    try:
        return kind.config(**values)
    except ValueError as error:
        raise UsageError(f"{kind.name}: {error}") from None


def plain_type(hint: Any) -> tuple[type, bool]:
    """A field's type, and whether it may be None: ``int | None`` → (int, True), ``Literal["a"]`` → (str, False)."""
    is_optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        is_optional = type(None) in typing.get_args(hint)
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    if typing.get_origin(hint) is Literal:
        hint = type(typing.get_args(hint)[0])
    return hint, is_optional


def _checked(name: str, value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    kind, is_optional = plain_type(hint)
    if value is None and is_optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        word = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(kind, kind.__name__)
        raise UsageError(f"{name} is {value!r}; it must be {word}")
    choices = metadata.get("choices")
    if choices and value not in choices:
        near = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"choose from {', '.join(map(str, choices))}"
        raise UsageError(f"{name} is {value!r}; {hint}")
    low, high = metadata.get("low"), metadata.get("high")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name} is {value}; it must be a finite number")
    if (low is not None and value < low) or (high is not None and value > high):
        unit = f" {metadata['unit']}" if "unit" in metadata else ""
        bounds = f"at least {_number(low)}" if high is None else f"between {_number(low)} and {_number(high)}"
        raise UsageError(f"{name} is {_number(value)}; it must be {bounds}{unit}")
    return value


def _number(value: Any) -> str:
    return "-∞" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


# -------------------------------------------------------------------------------------------------------- service
class JobService:
    """Starts, follows and stops the jobs of one survey. One job computes at a time; others wait in order.

    Parameters
    ----------
    survey, ledger
        Starting and cancelling are decisions, and are written there.
    more_kinds
        Kinds that do not live in `explorer.kinds`, each as ``"module:NAME"``.
    scheduler
        Where a team's cluster takes jobs; None computes on this machine.
    workers
        Processes of this machine that share a job's parts; None: one for each GPU, where there are several.
    """

    def __init__(
        self,
        survey: Survey,
        ledger: Ledger,
        more_kinds: Sequence[str] = (),
        scheduler: Scheduler | None = None,
        workers: int | None = None,
    ) -> None:
        self.survey = survey
        self.ledger = ledger
        self.workers = workers
        #: Who knows what campaigns say, where a server has one; else it is made when labels are asked for.
        self.graded: Graded | None = None
        self._line = None
        if scheduler is not None:
            from explorer.services.cluster import Line  # Dask: only where it is asked for

            self._line = Line(scheduler)
        self._outside = {kind_at(path).name: path for path in more_kinds}
        self._recent: tuple[float, Sequence[Job]] = (-math.inf, [])
        self._kinds = {**kinds(), **{name: kind_at(path) for name, path in self._outside.items()}}
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._mutex = threading.Lock()

    # --------------------------------------------------------------------------------------------------- start
    def start(
        self,
        kind_name: str,
        config: Mapping[str, Any],
        parents: Mapping[str, str] | Sequence[str] | None,
        who: str,
        series: str | None = None,
        selection: str | None = None,
        everything: bool = False,
    ) -> str:
        """Start a run and return its run_id at once.

        Parameters
        ----------
        config
            Settings that differ from the kind's defaults.
        parents
            Finished runs to build on, kind → run_id or the run_ids alone; the newest of each kind where it is not
            told.
        series
            The id of the linked runs that it is one of (see `explorer.services.series`).
        selection
            The name of a kept selection, or of a boundary for those that it keeps: the run is of these subjects. None:
            of those that the runs to build on are of (see `explorer.services.selected`).
        everything
            Of the whole survey, whatever it builds on.

        Raises
        ------
        UsageError
            No such kind or setting, a value out of range, settings that do not go with the runs to build on, or labels
            that there are not (see `explorer.services.labels.freeze`).
        ArtifactError
            The runs to build on do not go together.
        JobError
            A run to build on is missing or not finished, or the kind needs images or vectors and there are
            none.
        """
        settings = checked_config(self.kind(kind_name), config)
        kind = self._kinds[kind_name].set_to(settings)
        if kind.needs_images and not self.survey.has_images:
            raise JobError(
                f"this survey has no images, so there is nothing to {kind.name}; "
                "`voorwerp import-run` takes vectors and scores that were made elsewhere"
            )
        values = asdict(settings)
        inputs = self._parents(kind, self._named(kind, parents or ()))
        if kind.check:
            kind.check(config, {name: find_run(self.survey, parent).parent for name, parent in inputs.items()})
        if selection is not None and not self._kinds[kind_name].is_of_subjects:
            raise UsageError(f"{kind_name} reads what the survey knows of all its subjects; leave out the selection")
        of = self._whom(selection, everything, inputs, series)
        subject_ids = self.survey.subject_ids if of is None else of[1]
        learned = None
        if kind.labels:
            from explorer.services.labels import freeze  # a worker needs neither campaigns nor a database

            learned = freeze(self.survey, self.ledger, kind, settings, subject_ids, self.graded)
            values |= learned.settings
        if self._line is not None:
            self._line.open()  # nothing is made where nobody would take it
        folder, run_id = self._new_folder(kind)
        run = Run(
            run_id=run_id,
            kind=kind.name,
            code_version=code_version(),
            config=values,
            seed=values.get("seed", 0),
            preprocessing=dict(self.survey.preprocessing),
            inputs={**inputs, "subject_ids": selected.hash_of(subject_ids)},
            provides=kind.provides,
            series=series,
            started_by=who,
            **self._handed(),
            selection=None if of is None else of[0],
        )
        lock = None
        try:
            try:
                lock = take_lock(folder)
                if of is not None:
                    selected.freeze(folder, subject_ids)
                if learned is not None:
                    run.inputs |= {INPUT: learned.write(folder)}
                run.write(folder / (MAP_JSON if kind.folder == "maps" else RUN_JSON))
                payload: dict[str, Any] = {"action": "start", "kind": kind.name, "config": values, "parents": inputs}
                payload |= {} if of is None else {"selection": of[0], "n": len(subject_ids)}
                payload |= {} if learned is None else {INPUT: run.inputs[INPUT]}
                self.ledger.append("job", payload, who=who, run_id=run_id)
            except BaseException as error:  # what was not begun leaves nothing
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, OSError):
                    raise JobError(not_written(folder, error)) from None
                raise
            self._begin(run, folder, lock)
        finally:
            if lock is not None:
                os.close(lock)  # the worker holds it now
        return run_id

    def kind(self, name: str) -> Kind:
        """A kind of run that can be started here.

        Raises
        ------
        UsageError
            There is none of that name.
        """
        if name not in self._kinds:
            near = difflib.get_close_matches(name, self._kinds, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(sorted(self._kinds))}"
            raise UsageError(f'there is no run kind "{name}"; {hint}')
        return self._kinds[name]

    def resume(self, run_id: str, who: str) -> None:
        """Go on with a run that was interrupted, cancelled or failed, from its finished shards or last saved state.

        Raises
        ------
        JobError
            No such run, it is at work, it is done, or its labels are not those that it was started with.
        """
        path = find_run(self.survey, run_id)
        if (job := self.job(run_id)).resources.get("scheduler") and not job.is_over:
            raise JobError(f"{run_id} is {job.state} at {job.resources['scheduler']}; wait for it or cancel it")
        if self._line is not None:
            self._line.open()
        try:
            lock = take_lock(path.parent)
        except OSError as error:
            raise JobError(not_written(path.parent, error)) from None
        try:
            run = Run.read(path)
            if run.state == "done":  # while we waited for its worker to let go
                raise JobError(f"{run_id} is done; start a new run instead")
            if run.kind not in self._kinds:
                raise JobError(f'{run_id} is of the kind "{run.kind}", which this Voorwerp does not have')
            check_labels(run, path.parent)
            (path.parent / CANCEL).unlink(missing_ok=True)
            begun: dict[str, Any] = {"state": "pending", "attempt": run.attempt + 1, "error": None, "finished_at": None}
            run = replace(run, **begun, **self._handed())
            run.write(path)
            self.ledger.append("job", {"action": "resume", "attempt": run.attempt}, who=who, run_id=run_id)
            self._begin(run, path.parent, lock)
        except OSError as error:
            raise JobError(not_written(path.parent, error)) from None
        finally:
            os.close(lock)

    def _handed(self) -> dict[str, Any]:
        """What a run says of where it is going to be done."""
        if self._line is None:
            return {"resources": {} if self.workers is None else {"workers": self.workers}, "ticket": ""}
        return {"resources": {"scheduler": self._line.scheduler.address}, "ticket": uuid.uuid4().hex}

    def _begin(self, run: Run, folder: Path, lock: int) -> None:
        """Have a run that is written as pending done."""
        if self._line is None:
            self._spawn(run, folder, lock)
            return
        try:
            self._line.send(folder, run.ticket, self._outside.get(run.kind))
        except Exception as error:
            sentence = str(error)
            if not isinstance(error, JobError):
                where = run.resources["scheduler"]
                sentence = f"{where} did not take {run.run_id} ({type(error).__name__}); look at its log and try again"
            replace(run, state="failed", error=sentence, finished_at=now()).write(run_file(folder))
            raise JobError(sentence) from None

    def _whom(
        self, selection: str | None, everything: bool, inputs: Mapping[str, str], series: str | None = None
    ) -> tuple[str, np.ndarray] | None:
        """The name of the selection that a run is of, and the ids of its subjects; None for the whole survey."""
        if selection is not None and everything:
            raise UsageError(f'a run is of the selection "{selection}" or of everything; leave out one or the other')
        if everything:
            return None
        if selection is not None:
            for run in self.survey.runs(state=None) if series else ():  # linked runs are of the same subjects
                if run.series == series and run.selection == selection:
                    rows = selected.rows_of(self.survey, run, self.survey.run_folder(run.run_id))
                    return selection, self.survey.subject_ids[rows]
            rows = selected.members(self.survey, self.ledger, selection)
            return selection, self.survey.subject_ids[rows]
        return selected.inherited(self.survey, [find_run(self.survey, parent).parent for parent in inputs.values()])

    def _named(self, kind: Kind, told: Mapping[str, str] | Sequence[str]) -> list[tuple[str, str]]:
        """The runs that were told, each under the kind that it is to stand for."""
        if isinstance(told, Mapping):
            return list(told.items())
        named = []
        for run_id in told:
            run = Run.read(find_run(self.survey, run_id))
            named.append((next((name for name in kind.builds_on if run.counts_as(name)), run.kind), run_id))
        return named

    def _parents(self, kind: Kind, told: Sequence[tuple[str, str]]) -> dict[str, str]:
        runs: dict[str, list[str]] = {}
        for name, run_id in told:
            if name not in kind.builds_on:
                builds = f"only on {' and '.join(kind.builds_on)}" if kind.builds_on else "on no other run"
                raise UsageError(f"{kind.name} does not build on a {name} run; it builds {builds}")
            self._check_parent(kind, name, run_id)
            if run_id in runs.setdefault(name, []):
                raise UsageError(f"{run_id} is told twice; {kind.name} builds on it once")
            runs[name].append(run_id)
        parents = {}
        for name in (*kind.needs, *kind.optional):
            if len(runs.get(name, ())) > 1:
                raise UsageError(f"{kind.name} builds on one {name} run and {' and '.join(runs[name])} are told")
            if name in runs:
                parents[name] = runs[name][0]
            elif name in kind.needs:
                parents[name] = self._newest(kind, name)
        for name in kind.many:
            if len(runs.get(name, ())) < 2:
                raise UsageError(f"{kind.name} builds on two {name} runs or more; name each with --parent")
            parents |= {f"{name}.{i}": run_id for i, run_id in enumerate(runs[name], 1)}
        return parents

    def _check_parent(self, kind: Kind, name: str, run_id: str) -> None:
        run = Run.read(find_run(self.survey, run_id))
        if not run.counts_as(name):
            raise JobError(f"{run_id} is a {run.kind} run; {kind.name} builds on a {name} run")
        if run.state != "done":
            raise JobError(f"{run_id} is {self._job(run).state}; {kind.name} builds on a finished run")
        if kind.needs_latents and not self._has_latents(run):
            raise JobError(f"{run_id} has no latent vectors, which {kind.name} is made from")

    def _newest(self, kind: Kind, name: str) -> str:
        in_maps = name in self._kinds and self._kinds[name].folder == "maps"
        finished = [r for r in self.survey.maps() if r.kind == name] if in_maps else self.survey.runs(name)
        if not finished:
            raise JobError(
                f"{kind.name} builds on a finished {name} run and {self.survey.path} has none; run {name} first"
            )
        if kind.needs_latents:
            finished = [run for run in finished if self._has_latents(run)]
        if not finished:
            raise JobError(
                f"no {name} run of {self.survey.path} has latent vectors, which {kind.name} is made from; "
                "`voorwerp import-run --latents` brings some"
            )
        if name == "score":  # what learned from labels, only where it is told to or there is nothing else
            finished = [run for run in finished if run.kind not in learning()] or finished
        return finished[0].run_id

    def _has_latents(self, run: Run) -> bool:
        return (find_run(self.survey, run.run_id).parent / LATENTS).exists()

    def _new_folder(self, kind: Kind) -> tuple[Path, str]:
        parent = self.survey.path / kind.folder
        try:
            return self._made(parent, kind)
        except OSError as error:
            raise JobError(not_written(parent, error)) from None

    @staticmethod
    def _made(parent: Path, kind: Kind) -> tuple[Path, str]:
        parent.mkdir(exist_ok=True)
        first = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind.name}"
        for n in range(1, 1000):
            run_id = first if n == 1 else f"{first}-{n}"
            with contextlib.suppress(FileExistsError):
                (parent / run_id).mkdir()
                fsync_directory(parent)
                return parent / run_id, run_id
        raise JobError(f"{parent} has a thousand runs called {first}; wait a second and start again")

    def _spawn(self, run: Run, folder: Path, lock: int) -> None:
        flags = [] if self.workers is None else [f"--workers={self.workers}"]
        with self._mutex:
            worker = spawn(folder, lock, self._outside.get(run.kind), flags)
            self._workers[run.run_id] = worker
        sign_lock(lock, worker.pid, run.attempt)

    # -------------------------------------------------------------------------------------------------- follow
    def recent(self, max_age_s: float = 1.0) -> Sequence[Job]:
        """`list`, read at most once in `max_age_s`: for the many sessions of a server that all watch."""
        at, found = self._recent
        if time.monotonic() - at > max_age_s:
            found = self.list()
            self._recent = (time.monotonic(), found)
        return found

    def list(self) -> Sequence[Job]:
        """Every run and map of the survey, newest first."""
        self._reap()
        runs = [*self.survey.runs(state=None), *self.survey.maps(state=None)]
        runs.sort(key=lambda run: (run.created_at, run.run_id), reverse=True)
        return [self._job(run) for run in runs]

    def job(self, run_id: str) -> Job:
        """One run as it stands.

        Raises
        ------
        JobError
            No such run.
        """
        self._reap()
        return self._job(Run.read(find_run(self.survey, run_id)))

    def unsound(self, run_id: str) -> dict[str, str]:
        """The verdict on every training that did not train soundly: run_id → what was said of it.

        Told of are the run itself and all that it builds on, directly or through others.
        """
        known = {run.run_id: run for run in (*self.survey.runs(state=None), *self.survey.maps(state=None))}
        found, seen, waiting = {}, set(), [run_id]
        while waiting:
            run = known.get(waiting.pop())  # None: an input that is no run, or is gone
            if run is None or run.run_id in seen:
                continue
            seen.add(run.run_id)
            waiting += reversed(run.inputs.values())
            if (verdict := run.results.get("verdict", SOUND)) != SOUND:
                found[run.run_id] = verdict
        return found

    def follow(self, run_id: str) -> Iterator[Job]:
        """The job each time it changes, until it is over; its last state comes last."""
        last = None
        while last is None or not last.is_over:
            job = self.job(run_id)
            if job != last:
                yield job
                last = job
            if not job.is_over:
                time.sleep(TICK)

    def wait(self, run_id: str) -> Job:
        """Wait until a run is over; return its last state."""
        *_, last = self.follow(run_id)
        return last

    def _job(self, run: Run) -> Job:
        kind = self._kinds.get(run.kind)
        folder = (self.survey.map_folder if kind and kind.folder == "maps" else self.survey.run_folder)(run.run_id)
        state, where = run.state, run.resources.get("scheduler") if run.ticket else None
        may_go_on = bool(where) and state == "interrupted"  # its worker has died, and the scheduler has another do it
        if may_go_on or (state in ("pending", "running") and holder(folder) is None):
            # it may have ended between reading run.json and looking at its lock
            run = Run.read(find_run(self.survey, run.run_id))
            if (state := run.state) in ("pending", "running", "interrupted"):
                state = "pending" if where and self._is_waiting(run) else "interrupted"
        record = last_progress(folder) or {}
        done, total, rate = record.get("done", 0), record.get("total", 0), record.get("rate")
        unsaid = "starting" if state == "running" else ""
        if state == "pending":
            unsaid = f"waiting at {where}" if where else "waiting for its turn"
        return Job(
            run_id=run.run_id,
            kind=run.kind,
            title=kind.title if kind else run.kind,
            state=state,
            done=done,
            total=total,
            message=unsaid if state == "pending" else record.get("message", unsaid),
            metrics=record.get("metrics", {}),
            rate=rate,
            seconds_left=(total - done) / rate if rate and state == "running" else None,
            started_at=run.created_at,
            error=run.error,
            results=run.results,
            selection=run.selection,
            started_by=run.started_by,
            resources=run.resources,
            device=record.get("device") or "",
            memory=record.get("memory_mb"),
        )

    def _is_waiting(self, run: Run) -> bool:
        """Whether the scheduler that has a run's ticket will have it done; without a line to it, what run.json says."""
        if self._line is None or self._line.scheduler.address != run.resources.get("scheduler"):
            return run.state == "pending"
        return self._line.has(run.run_id, run.ticket)

    def _reap(self) -> None:
        with self._mutex:
            for run_id, worker in tuple(self._workers.items()):
                if worker.poll() is not None:
                    _close(worker)
                    del self._workers[run_id]
        for run_id, sentence in self._line.failed().items() if self._line else ():
            path = find_run(self.survey, run_id)
            if (run := Run.read(path)).state == "pending":
                replace(run, state="failed", error=sentence, finished_at=now()).write(path)

    # ---------------------------------------------------------------------------------------------------- stop
    def cancel(self, run_id: str, who: str) -> None:
        """Stop a run for good, within five seconds.

        Raises
        ------
        JobError
            No such run, or it is over.
        """
        path = find_run(self.survey, run_id)
        folder = path.parent
        state = self.job(run_id).state
        if state not in ("pending", "running", "interrupted"):
            raise JobError(f"{run_id} is {state}; there is nothing to cancel")
        self.ledger.append("job", {"action": "cancel"}, who=who, run_id=run_id)
        (folder / CANCEL).touch()
        held = holder(folder)
        if held is not None and held["host"] != socket.gethostname():
            self._wait_over(run_id, GRACE + 2)  # who carries it there looks for the file
            return
        _stop_holder(folder)
        lock = take_lock(folder)
        try:
            run = Run.read(path)
            if run.state not in ("done", "failed", "cancelled"):
                replace(run, state="cancelled").write(path)
        finally:
            os.close(lock)
        self._reap()

    def _wait_over(self, run_id: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.job(run_id).is_over and time.monotonic() < end:
            time.sleep(TICK)

    def delete(self, run_id: str, who: str) -> None:
        """Remove a run or a map with all its files, for good.

        The ledger keeps that it was there. Stopped at any moment, the run is whole or gone.

        Raises
        ------
        JobError
            No such run, it is at work, or other runs build on it.
        """
        path = find_run(self.survey, run_id)
        folder = path.parent
        job = self.job(run_id)
        if not job.is_over:
            raise JobError(f"{run_id} is {job.state}; cancel it before it is deleted")
        everything = (*self.survey.runs(state=None), *self.survey.maps(state=None))
        if built := sorted(run.run_id for run in everything if run_id in run.inputs.values()):
            names = ", ".join(built[:5]) + (f" and {len(built) - 5} more" if len(built) > 5 else "")
            verb = "builds" if len(built) == 1 else "build"
            raise JobError(f"{names} {verb} on {run_id}; delete what builds on it first")
        lock = take_lock(folder)
        try:
            self.ledger.append("job", {"action": "delete", "kind": job.kind}, who=who, run_id=run_id)
            folder.rename(folder.with_name(DELETED + run_id))  # hidden: no run, whatever is left of it
            fsync_directory(folder.parent)
        finally:
            os.close(lock)
        for left in folder.parent.glob(f"{DELETED}*"):  # of this one, or of one that was stopped in between
            shutil.rmtree(left, ignore_errors=True)

    def stop(self) -> None:
        """Interrupt every job that this service started; they can be resumed. Those of a scheduler go on."""
        if self._line is not None:
            self._line.close()
        with self._mutex:
            workers = tuple(self._workers.items())
            for _, worker in workers:
                signal_worker(worker.pid, signal.SIGTERM)
            for _, worker in workers:
                try:
                    worker.wait(GRACE)
                except subprocess.TimeoutExpired:
                    signal_worker(worker.pid, signal.SIGKILL)
                    worker.wait()
                _close(worker)
            self._workers.clear()


def spawn(folder: Path, lock: int, kind_path: str | None, flags: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the process that does a run; it holds the lock, and stops when we are gone."""
    # -P: a folder called models where we were started must not shadow ours
    command = [sys.executable, "-P", "-m", "explorer.worker", str(folder.parents[1]), folder.name, f"--lock={lock}"]
    command += ([] if kind_path is None else [f"--kind={kind_path}"]) + list(flags)
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end tells the worker that we are gone
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
        )


def _close(worker: subprocess.Popen[bytes]) -> None:
    if worker.stdin is not None:
        worker.stdin.close()


def signal_worker(pid: int, number: signal.Signals) -> None:
    """SIGTERM to a worker; SIGKILL to it and all its children (it leads a session)."""
    with contextlib.suppress(ProcessLookupError):  # ended by itself meanwhile
        if number == signal.SIGKILL:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _stop_holder(folder: Path) -> None:
    """SIGTERM to whoever works on a run, SIGKILL after `GRACE` seconds; return when nobody does."""
    started, asked = time.monotonic(), False
    while (held := holder(folder)) is not None:
        waited = time.monotonic() - started
        if held["pid"] and not asked:
            signal_worker(held["pid"], signal.SIGTERM)
            asked = True
        if held["pid"] and waited > GRACE:
            signal_worker(held["pid"], signal.SIGKILL)
        if waited > GRACE + 1.5:
            raise JobError(f"process {held['pid']} does not let go of {folder}; end it by hand")
        time.sleep(0.05)
