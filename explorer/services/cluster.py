"""Workers on Dask: several on this machine, or a team's own cluster.

Messages are names and numbers: a run's folder, the number of a part; never arrays. Whoever does the work is a process
of its own, started by the Dask worker that was asked, so that torch, GPU memory and whatever hangs end with it::

    Dask worker ── part     one part of a run, handed to ``python -m explorer.worker --parts``, which is kept for more
                └─ carry    one run: ``python -m explorer.worker SURVEY RUN``, as on this machine alone

On this machine scheduler and workers are threads of the job's own process: no port is opened, and when that process
dies, however it dies, the processes that do the parts end with it. Without several workers there is no scheduler at
all: it would cost a second and some 50 MB for each job, and share nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer import code_version
from explorer.errors import JobError, UsageError, VoorwerpError
from explorer.kinds import kind_at, kinds
from explorer.services.jobs import (
    CANCEL,
    GRACE,
    LOCK,
    TICK,
    clear_lock,
    holder,
    run_file,
    sign_lock,
    signal_worker,
    signature,
    spawn,
    take_lock,
)
from models.artifacts import ArtifactError, Run, now

if TYPE_CHECKING:
    from distributed import Client, Future, Security

#: Seconds to wait for a scheduler's answer.
PATIENCE = 4.0
#: Seconds for which nobody waits for a scheduler that has not answered.
SILENCE = 30.0
#: Seconds after which a process that does parts, and has none to do, is ended.
IDLE = 60.0
#: Processes that may die of one part before its run fails.
TRIES = 3
#: States of a Dask worker that is about to end.
LEAVING = ("closing", "closing_gracefully", "closed", "stopping", "failed")
#: Parts that are sent ahead, for each worker.
AHEAD = 2


# ------------------------------------------------------------------------------------------------------- addresses
@dataclass(frozen=True, slots=True)
class Scheduler:
    """Where a team's scheduler is, and what opens it.

    Attributes
    ----------
    address
        ``tls://HOST:PORT``, or ``tcp://HOST:PORT``.
    ca, cert, key
        PEM files of TLS; None takes those of Dask's own settings (``distributed.comm.tls``).
    """

    address: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        protocol, _, place = self.address.partition("://")
        if protocol not in ("tls", "tcp") or not place.rpartition(":")[0] or not place.rpartition(":")[2].isdigit():
            raise UsageError(f'--scheduler is "{self.address}"; write it as tls://HOST:PORT')
        for flag, path in (("--tls-ca", self.ca), ("--tls-cert", self.cert), ("--tls-key", self.key)):
            if path is not None and not path.is_file():
                raise UsageError(f"{flag} is {path}, and there is no such file")

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches it can use it."""
        return self.address.startswith("tcp://")

    @property
    def flags(self) -> list[str]:
        """What tells `explorer.worker` of it."""
        files = (("--tls-ca", self.ca), ("--tls-cert", self.cert), ("--tls-key", self.key))
        return [f"--scheduler={self.address}", *(f"{flag}={path}" for flag, path in files if path is not None)]

    def security(self) -> Security:
        """What Dask needs to know of TLS.

        Raises
        ------
        UsageError
            TLS without certificates.
        """
        from distributed import Security

        told = {"tls_ca_file": self.ca, "tls_client_cert": self.cert, "tls_client_key": self.key}
        found = Security(**{name: str(path) for name, path in told.items() if path is not None})
        if not self.is_open and not (found.tls_ca_file and found.tls_client_cert):
            raise UsageError(
                f"{self.address} needs certificates: --tls-ca, --tls-cert and --tls-key, or Dask's own settings of them"
            )
        return found

    def connect(self) -> Client:
        """A client of it.

        Raises
        ------
        JobError
            Nobody answers there, or does not let us in.
        """
        from distributed import Client

        security = self.security()
        try:
            return Client(self.address, security=security, timeout=PATIENCE, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise JobError(
                f"there is no scheduler at {self.address} that lets us in ({_reason(error)}); start one with "
                "`dask scheduler`, see to its certificates, or leave out --scheduler to compute on this machine"
            ) from None


def _reason(error: BaseException | None) -> str:
    """What is wrong, of all that an error comes from: ``connection refused``."""
    found = "no answer"
    while error is not None:
        if isinstance(error, ValueError):
            found = str(error)
        elif isinstance(error, OSError) and error.strerror:
            found = error.strerror
        error = error.__cause__ or error.__context__
    return " ".join(found.split())[:200].lower()


# ------------------------------------------------------------------------------------------------ who does the work
class LocalWorkers:
    """`n` workers on this machine, started when first asked. Each has its GPU where there are some.

    Parameters
    ----------
    gpus
        Names of GPUs as of CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, n: int, gpus: Sequence[str] = ()) -> None:
        self.n, self.gpus = n, gpus
        self._hands: list[Hands] = []

    @cached_property
    def client(self) -> Client:
        """The client of a scheduler in this process."""
        import dask
        from distributed import Client, Scheduler, SpecCluster, Worker

        class Shut:
            """Serves no page: a scheduler's and a worker's are open to everybody on the network."""

            def start_http_server(self, *_: Any, **__: Any) -> None:
                pass

        inside = {"protocol": "inproc://"}
        scheduler = {"cls": type("ShutScheduler", (Shut, Scheduler), {}), "options": {**inside, "dashboard": False}}
        worker = {
            "cls": type("ShutWorker", (Shut, Worker), {}),
            "options": {**inside, "nthreads": 1, "memory_limit": None},
        }
        logging.getLogger("distributed").setLevel(logging.ERROR)  # the log is the job's
        settings = {"distributed.worker.profile.enabled": False, "distributed.admin.system-monitor.disk": False}
        with dask.config.set(settings):
            self._cluster = SpecCluster(dict.fromkeys(range(self.n), worker), scheduler, silence_logs=40)
        share = {"OMP_NUM_THREADS": str(threads_of_one(self.n))}
        for i, worker in enumerate(self._cluster.workers.values()):
            gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[i % len(self.gpus)]} if self.gpus else {}
            self._hands.append(Hands(share | gpu))
            worker.voorwerp_hands = self._hands[-1]
        return Client(self._cluster, set_as_default=False)

    def close(self) -> None:
        """End them at once, whatever they do."""
        if "client" in self.__dict__:
            for hands in self._hands:
                hands.end()
            with contextlib.suppress(Exception):  # what does not end in order ends with this process
                self.client.close(timeout=1)
                self._cluster.close(timeout=1)


class TeamWorkers:
    """Those of a team's cluster that are there now."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.client = scheduler.connect()

    @property
    def n(self) -> int:
        """How many there are."""
        threads: dict[str, int] = self.client.nthreads()
        return max(1, sum(threads.values()))

    def close(self) -> None:
        """Ask them for nothing more."""
        with contextlib.suppress(Exception):
            self.client.close(timeout=1)


def threads_of_one(n_workers: int) -> int:
    """CPU threads that each of so many workers on this machine may use."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores // n_workers, int(os.environ.get("OMP_NUM_THREADS") or cores)))


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs that CUDA may use; no torch is imported for it."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name.strip() for name in told.split(",") if name.strip() not in ("", "-1")]
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in answer.splitlines()))]


class DaskPool:
    """The workers that share the parts of one run: a `models.artifacts.Pool`.

    Parameters
    ----------
    folder, attempt
        Of the run.
    kind_path
        Its kind as ``"module:NAME"``, where that is not in `explorer.kinds`.
    version
        Of the code that is to do the parts; None where it cannot be another one.
    """

    def __init__(
        self,
        workers: LocalWorkers | TeamWorkers,
        folder: Path,
        attempt: int,
        kind_path: str | None = None,
        version: str | None = None,
    ) -> None:
        self._workers, self._name = workers, f"{folder.name}-{attempt}"
        self._request = {"folder": str(folder), "attempt": attempt, "kind": kind_path, "code_version": version}
        self._n_maps = 0
        self._taken: dict[str, dict[str, Any]] = {}

    @property
    def n_workers(self) -> int:
        """How many there are now."""
        return self._workers.n

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See `models.artifacts.Pool`.

        Raises
        ------
        JobError
            A part failed; the sentence is its own.
        """
        if not parts:
            return
        from distributed import as_completed

        client, number_of = self._workers.client, dict[str, int]()
        self._n_maps += 1
        waiting = iter(enumerate(parts))

        def send() -> Iterator[Future]:
            for i, one in waiting:
                key = f"{self._name}-{self._n_maps}-{i}"
                number_of[key] = i
                request = {**self._request, "function": function, "part": dict(one)}
                yield client.submit(part, request, key=key, pure=False)

        coming = send()
        first = [future for _, future in zip(range(AHEAD * self.n_workers), coming, strict=False)]
        sent = as_completed(first, loop=client.loop)
        del first  # the scheduler forgets a part once nobody refers to it
        try:
            for future in sent:
                answer = self._answer(future)
                for following in coming:
                    sent.add(following)
                    break
                yield number_of.pop(future.key), answer
        finally:
            if number_of:  # it is given up: what has not begun is not to begin
                with contextlib.suppress(Exception):
                    client.cancel(list(sent.futures), force=True)

    def _answer(self, future: Future) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = future.result()
        except Exception as error:  # of Dask's own: a worker that is lost again and again, or lacks our code
            words = " ".join(str(error).split())
            raise JobError(f"the workers cannot do their part ({type(error).__name__}: {words[:300]})") from None
        if "error" in answer:
            raise JobError(answer["error"])
        if "taken" in answer:
            self._taken[answer["worker"]] = answer["taken"]
        found: dict[str, Any] = answer["answer"]
        return found

    def taken(self) -> list[dict[str, Any]]:
        """What each worker took of its machine when it did its last part; see `models.telemetry.now`."""
        return list(self._taken.values())

    def close(self) -> None:
        """End the workers, or let go of a team's."""
        self._workers.close()


# ---------------------------------------------------------------------------------------------------- on a worker
class Hand:
    """A process that does parts, one after another."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "explorer.worker", "--parts"],
            stdin=subprocess.PIPE,  # its end tells the process that we are gone
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self._process.stdout.fileno()), writable=False)
        self._process.stdin.close()
        self._process.stdout.close()

    def do(self, request: Mapping[str, Any], is_over: Callable[[], bool]) -> dict[str, Any] | None:
        """The answer to a request; None when it `is_over` first.

        Raises
        ------
        EOFError, OSError
            The process died.
        """
        self._requests.send_bytes(json.dumps(request).encode())
        while not self._answers.poll(TICK):
            if is_over():
                return None
        answer: dict[str, Any] = json.loads(self._answers.recv_bytes())
        return answer

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()


class Hands:
    """The processes that do the parts of one Dask worker: one for each of its threads, kept for the next part."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._idle: list[tuple[float, Hand]] = []
        self._busy: set[Hand] = set()
        self._mutex = threading.Lock()
        self._ended = False

    def do(self, request: Mapping[str, Any], is_over: Callable[[], bool]) -> dict[str, Any] | None:
        """As of `Hand`; a process that dies is replaced `TRIES` - 1 times."""
        for _ in range(TRIES):
            with self._mutex:
                if self._ended:
                    return None
                hand = self._idle.pop()[1] if self._idle else Hand(self._environment)
                self._busy.add(hand)
            answer = None
            try:
                answer = hand.do(request, is_over)
            except (EOFError, OSError):
                if not is_over():
                    continue
            finally:
                with self._mutex:
                    self._busy.discard(hand)
                    if answer is None or self._ended:
                        hand.end()
                    else:
                        self._idle.append((time.monotonic(), hand))
                        timer = threading.Timer(IDLE + 1, self._end_idle)
                        timer.daemon = True
                        timer.start()
            return answer
        return {
            "error": f"the process that did a part ended {TRIES} times on {socket.gethostname()}; "
            "if its memory was full, use a smaller batch or fewer workers"
        }

    def _end_idle(self) -> None:
        with self._mutex:
            old = [hand for at, hand in self._idle if time.monotonic() - at > IDLE]
            self._idle = [(at, hand) for at, hand in self._idle if hand not in old]
        for hand in old:
            hand.end()

    def end(self) -> None:
        """Kill them all, whatever they do."""
        with self._mutex:
            self._ended = True
            for hand in self._busy:
                hand._process.kill()  # whoever waits for its answer closes the pipes
            for _, hand in self._idle:
                hand.end()
            self._idle.clear()


_MUTEX = threading.Lock()


def hands_of(worker: Any) -> Hands:
    """The processes of a Dask worker; a team's own has none before its first part."""
    with _MUTEX:
        if not hasattr(worker, "voorwerp_hands"):
            worker.voorwerp_hands = Hands({})
        found: Hands = worker.voorwerp_hands
        return found


def part(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do one part of a run: its ``{"answer"}``, or its ``{"error"}``, one sentence. Called on a worker, by Dask."""
    from distributed import get_worker

    if sentence := other_version(request["code_version"]):
        return {"error": sentence}
    folder, looked = Path(request["folder"]), 0.0

    def is_over() -> bool:
        nonlocal looked
        if (folder / CANCEL).exists():
            return True
        if time.monotonic() - looked < 1:
            return False
        looked = time.monotonic()
        return attempt_at_work(folder) not in (None, request["attempt"])

    worker = get_worker()
    answer = hands_of(worker).do(request, is_over)
    return {"error": f"{folder.name} was stopped"} if answer is None else {**answer, "worker": worker.address}


def attempt_at_work(folder: Path) -> int | None:
    """Which attempt of a run has signed its lock; None for none."""
    try:
        attempt: int = json.loads((folder / LOCK).read_bytes())["attempt"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return attempt


def other_version(wanted: str | None) -> str | None:
    """The sentence for a worker that has another version of the code than was `wanted`; None where it has not."""
    if wanted in (None, code_version()):
        return None
    return (
        f"the worker on {socket.gethostname()} has Voorwerp {code_version()} and the run was asked for with {wanted}; "
        "install the same on both, start the worker again, and resume the run"
    )


def carry(folder: str, ticket: str, version: str, kind_path: str | None) -> None:
    """Do one run from its beginning, or from where a worker that has died left it. Called on a worker, by Dask.

    It does nothing where the run was handed out again meanwhile (another ticket), or is over.

    Raises
    ------
    JobError
        There is no such run on this machine, or it cannot be written.
    """
    from distributed import Reschedule, get_worker, secede

    place, worker = Path(folder), get_worker()
    path = run_file(place)
    if not path.exists():
        raise JobError(
            f"the worker on {socket.gethostname()} does not see {place}; "
            "the survey has to be at the same path on all workers"
        )
    lock = _take_over(place, path, ticket)
    if lock is None:
        return
    try:
        run = Run.read(path)
        if sentence := other_version(version):
            replace(run, state="failed", error=sentence, finished_at=now()).write(path)
            return
        if run.state != "pending":  # who did it before has died
            run = replace(run, state="pending", attempt=run.attempt + 1, error=None, finished_at=None)
        run.resources = {**run.resources, "host": socket.gethostname()}
        run.write(path)
        kind = kind_at(kind_path) if kind_path else kinds()[run.kind]
        flags = [f"--code-version={version}"]
        is_shared = kind.set_to(kind.config(**{**kind.before, **run.config})).is_shared
        if is_shared:
            flags += _as_client(worker).flags
        child = spawn(place, lock, kind_path, flags)
        sign_lock(lock, child.pid, run.attempt)
        if is_shared:
            secede()  # this worker does parts as well
        asked, is_leaving = None, False
        while child.poll() is None:
            time.sleep(TICK)
            is_leaving = worker.status.name in LEAVING
            if asked is None and (is_leaving or (place / CANCEL).exists()):
                asked = time.monotonic()
                signal_worker(child.pid, signal.SIGTERM)
            if asked is not None and time.monotonic() - asked > GRACE - 1:  # hearing of it took its time, too
                signal_worker(child.pid, signal.SIGKILL)
        if child.stdin is not None:
            child.stdin.close()
        run = Run.read(path)
        if (place / CANCEL).exists() and run.state in ("pending", "running") and run.ticket == ticket:  # it was killed
            replace(run, state="cancelled").write(path)
        if (signature(place) or {}).get("pid") == child.pid:  # it was killed; else another may have signed by now
            clear_lock(lock)
        if is_leaving and run.state in ("running", "interrupted"):
            raise Reschedule  # another worker goes on with it
    except (VoorwerpError, ArtifactError) as error:
        replace(Run.read(path), state="failed", error=str(error), finished_at=now()).write(path)
    except OSError as error:
        raise JobError(f"the worker on {socket.gethostname()} cannot write {place} ({error.strerror})") from None
    finally:
        os.close(lock)


def _take_over(folder: Path, path: Path, ticket: str) -> int | None:
    """The lock of a run once nobody works on it; None where there is nothing to do any more."""
    while True:
        run = Run.read(path)
        if run.ticket != ticket or run.state in ("done", "failed", "cancelled") or (folder / CANCEL).exists():
            return None
        if holder(folder) is None:
            with contextlib.suppress(JobError):
                lock = take_lock(folder)
                if Run.read(path).ticket == ticket:
                    return lock
                os.close(lock)
        time.sleep(TICK)


def _as_client(worker: Any) -> Scheduler:
    """The scheduler of a Dask worker, as a client on its machine reaches it."""
    security = worker.security
    files = (security.tls_ca_file, security.tls_worker_cert, security.tls_worker_key)
    return Scheduler(worker.scheduler.address, *(Path(file) if file else None for file in files))


# ------------------------------------------------------------------------------------------------- for the service
class Line:
    """The way to a team's scheduler, for who hands out runs. Opened when first needed.

    Attributes
    ----------
    scheduler
        Where it is.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._client: Client | None = None
        self._futures: dict[str, Future] = {}
        self._known: dict[str, tuple[float, bool]] = {}
        self._asking: set[str] = set()
        self._silent = -math.inf  # when it last did not answer
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="scheduler")
        self._mutex = threading.Lock()
        self._way = threading.RLock()  # the client's: who waits for an answer holds nobody else up

    def open(self) -> Client:
        """See that it answers.

        Raises
        ------
        JobError
            It does not.
        """
        with self._way:
            if self._client is None or self._client.status != "running":
                self._drop()
                self._client = self.scheduler.connect()
            return self._client

    def send(self, folder: Path, ticket: str, kind_path: str | None) -> None:
        """Hand out a run; when this returns, the scheduler has it and keeps it.

        Raises
        ------
        JobError
            It does not take it.
        """
        from distributed import fire_and_forget

        client, key = self.open(), _key(folder.name, ticket)
        message = str(folder.absolute()), ticket, code_version(), kind_path
        future = client.submit(carry, *message, key=key, pure=False, retries=0)
        fire_and_forget(future)  # it outlives us
        end = time.monotonic() + PATIENCE
        while not self._ask(key):
            if time.monotonic() > end:
                raise JobError(f"{self.scheduler.address} does not take {folder.name}; look at its log")
            time.sleep(0.02)
        with self._mutex:
            self._futures[folder.name] = future
            self._known[key] = (time.monotonic(), True)

    def has(self, run_id: str, ticket: str) -> bool:
        """Whether the scheduler has it, in its queue or on a worker, as of a second ago.

        Waits for an answer the first time only; a scheduler that does not answer has nothing.
        """
        key = _key(run_id, ticket)
        with self._mutex:
            found = self._known.get(key)
            if found is None and time.monotonic() - self._silent < SILENCE:
                found = (0.0, False)
            if found is not None:
                at, known = found
                if time.monotonic() - at > 1 and key not in self._asking:
                    self._asking.add(key)
                    with contextlib.suppress(RuntimeError):  # we are closing
                        self._asker.submit(self._learn, key)
                return known
        return self._learn(key)

    def _learn(self, key: str) -> bool:
        try:
            known = self._ask(key)
        except (JobError, OSError, TimeoutError):
            known, self._silent = False, time.monotonic()
        with self._mutex:
            self._asking.discard(key)
            self._known[key] = (time.monotonic(), known)
        return known

    def failed(self) -> dict[str, str]:
        """Runs handed out here that no worker could begin: run_id → why. Each is told once."""
        found = {}
        with self._mutex:
            for run_id, future in tuple(self._futures.items()):
                if future.status in ("error", "finished", "cancelled", "lost"):
                    del self._futures[run_id]
                    if future.status == "error" and (error := future.exception(timeout=PATIENCE)):
                        words = " ".join(str(error).split())[:300]
                        found[run_id] = (
                            words
                            if isinstance(error, JobError)
                            else f"no worker could carry it ({words}); see their logs"
                        )
        return found

    def close(self) -> None:
        """Hang up; what was handed out goes on."""
        self._asker.shutdown(wait=False, cancel_futures=True)
        with self._way:
            self._drop()

    def _ask(self, key: str) -> bool:
        client = self.open()
        found = client.sync(client.scheduler.get_task_status, keys=[key], callback_timeout=PATIENCE)
        return found.get(key) not in (None, "memory", "erred", "released", "forgotten")

    def _drop(self) -> None:
        with self._mutex:
            self._futures.clear()
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close(timeout=2)
            self._client = None


def _key(run_id: str, ticket: str) -> str:
    return f"carry-{run_id}-{ticket}"
