"""What a network makes of subjects, and of images that are none, from a worker process that keeps it loaded.

The caller imports no torch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import queue
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeVar

import numpy as np

from explorer.errors import JobError
from explorer.survey import Survey

#: Seconds for one answer; the first one includes importing torch and reading the checkpoint.
TIMEOUT = 120.0
#: Answers kept in memory.
KEPT = 1024
#: Subjects asked for at once; between two such batches of a page, the one subject that somebody opens comes first.
BATCH = 16

#: Who is served first: one subject that somebody waits for, a page of the gallery; the end of the server comes last.
ONE, MANY, END = range(3)

T = TypeVar("T")
What = Literal["reconstruction", "feature_residual", "judgement"]

#: What training saw of an image, as the worker numbers it.
SPLITS = ("unseen", "train", "validation")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a score run's network makes of an image that is no subject.

    Attributes
    ----------
    latents
        float32 (d,).
    image_score, feature_score
        In the run's own precision; NaN where not finite.
    reconstruction
        uint8 (H, W, C).
    feature_residual
        float32 (side, side); see `Inference.feature_residual`.
    split
        "train" or "validation" where training saw these very pixels, else "unseen".
    """

    latents: np.ndarray
    image_score: float
    feature_score: float
    reconstruction: np.ndarray
    feature_residual: np.ndarray
    split: str


@dataclass(frozen=True, slots=True, order=True)
class _Request:
    urgency: int  # lowest first
    number: int
    run_id: str = field(compare=False)
    what: What = field(compare=False)
    rows: tuple[int, ...] = field(compare=False)
    answer: Future[list[np.ndarray]] = field(compare=False)
    image: np.ndarray | None = field(default=None, compare=False)  # uint8 (H, W, C), in place of rows


class Inference:
    """Asks the network of a training or score run what it makes of one subject. Thread-safe; one per server.

    The worker starts with the first request, or with `warm`, and is started again when it has died.
    """

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self._requests: queue.PriorityQueue[_Request] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._kept: OrderedDict[tuple[str, What, int], np.ndarray] = OrderedDict()
        self._worker: subprocess.Popen[bytes] | None = None
        self._mutex = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="inference", daemon=True)
        self._thread.start()

    def warm(self) -> None:
        """Start the worker now, so that the first subject opens quickly."""
        with self._mutex:
            if not self._closed:
                self._start()

    def reconstruct(self, run_id: str, row: int) -> Future[np.ndarray]:
        """What the network makes of the crop of `row`: a future of uint8 (H, W, C).

        The future fails with a `JobError` when the run has no usable checkpoint, or there is no such row.
        """
        return _first(self._put(run_id, "reconstruction", (row,), ONE))

    def reconstruct_many(self, run_id: str, rows: Sequence[int]) -> list[Future[list[np.ndarray]]]:
        """The same of many rows, in order: a future for each `BATCH` of them. Those not begun can be cancelled."""
        batches = [tuple(map(int, rows[i : i + BATCH])) for i in range(0, len(rows), BATCH)]
        return [self._put(run_id, "reconstruction", batch, MANY) for batch in batches]

    def feature_residual(self, run_id: str, row: int) -> Future[np.ndarray]:
        """Where the critic sees a difference between the crop of `row` and its reconstruction.

        A future of float32 (side, side); it sums to the feature score. Cell (i, j) is centered on pixel
        (i, j) · H / side of the crop. It fails as that of `reconstruct`.
        """
        return _first(self._put(run_id, "feature_residual", (row,), ONE))

    def judge(self, run_id: str, crop: np.ndarray) -> Future[Judgement]:
        """Score a crop, uint8 (H, W, C) as the survey cuts, that is no subject's. Nothing of it is kept here.

        The future fails as that of `reconstruct`.
        """
        image = np.ascontiguousarray(crop, np.uint8)
        return _then(self._put(run_id, "judgement", (), ONE, image), _judged)

    def _put(
        self, run_id: str, what: What, rows: tuple[int, ...], urgency: int, image: np.ndarray | None = None
    ) -> Future[list[np.ndarray]]:
        answer: Future[list[np.ndarray]] = Future()
        if self._closed:
            answer.set_exception(JobError("the server is closing; open the subject again when it is back"))
        else:
            number, of = next(self._numbers), tuple(map(int, rows))
            self._requests.put(_Request(urgency, number, run_id, what, of, answer, image))
        return answer

    def close(self) -> None:
        """End the worker. Requests that wait fail."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._stop()
        self._requests.put(_Request(END, 0, "", "reconstruction", (), Future()))
        self._thread.join()

    # ------------------------------------------------------------------------------------------ in the own thread
    def _serve(self) -> None:
        while (request := self._requests.get()).urgency != END:
            if not request.answer.set_running_or_notify_cancel():
                continue
            try:
                if request.image is None:
                    request.answer.set_result(self._ask(request.run_id, request.what, request.rows))
                else:
                    told = {"run_id": request.run_id, "what": request.what, "shape": request.image.shape}
                    request.answer.set_result(self._ask_twice(told, request.image.tobytes(), "this image"))
            except Exception as error:
                request.answer.set_exception(error)

    def _ask(self, run_id: str, what: What, rows: tuple[int, ...]) -> list[np.ndarray]:
        new = [row for row in dict.fromkeys(rows) if (run_id, what, row) not in self._kept]
        if new:
            (made,) = self._ask_twice({"run_id": run_id, "what": what, "rows": new}, b"", _named(new))
            for row, one in zip(new, made, strict=True):
                self._kept[run_id, what, row] = one
        for row in rows:
            self._kept.move_to_end((run_id, what, row))
        found = [self._kept[run_id, what, row] for row in rows]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _ask_twice(self, told: dict[str, Any], image: bytes, name: str) -> list[np.ndarray]:
        """Ask the worker; where it died, once more with a new one. `name` is what errors call what was asked."""
        for _ in range(2):
            with contextlib.suppress(EOFError, OSError):
                return self._ask_worker(told, image, name)
        raise JobError(f"the process that reconstructs ended twice at {name}; see what the server printed")

    def _ask_worker(self, told: dict[str, Any], image: bytes, name: str) -> list[np.ndarray]:
        with self._mutex:
            if self._closed:
                raise JobError("the server is closing; open the subject again when it is back")
            requests, answers = self._start()
        try:
            requests.send_bytes(json.dumps(told).encode())
            if image:
                requests.send_bytes(image)
            if not answers.poll(TIMEOUT):
                raise JobError(f"the reconstruction of {name} took longer than {TIMEOUT:.0f} s; try again")
            answer = json.loads(answers.recv_bytes())
            body = b"" if "error" in answer else answers.recv_bytes()
        except BaseException:  # its next answer would be to another question
            with self._mutex:
                self._stop()
            raise
        if "error" in answer:
            raise JobError(answer["error"])
        made, at = [], 0
        for shape, dtype in answer["arrays"]:
            n = math.prod(shape)
            made.append(np.frombuffer(body, dtype, n, at).reshape(shape))
            at += n * np.dtype(dtype).itemsize
        return made

    def _start(self) -> tuple[Connection, Connection]:
        """The pipes to a living worker."""
        if self._worker is None or self._worker.poll() is not None:
            self._stop()
            self._worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "explorer.worker", "--inference", str(self.survey.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the server, which closes this in order
            )
            assert self._worker.stdin is not None and self._worker.stdout is not None
            self._requests_pipe = Connection(os.dup(self._worker.stdin.fileno()), readable=False)
            self._answers_pipe = Connection(os.dup(self._worker.stdout.fileno()), writable=False)
            self._worker.stdin.close()
            self._worker.stdout.close()
        return self._requests_pipe, self._answers_pipe

    def _stop(self) -> None:
        if self._worker is None:
            return
        self._requests_pipe.close()
        self._worker.kill()
        self._worker.wait()
        self._answers_pipe.close()
        self._worker = None


def _first(batch: Future[list[np.ndarray]]) -> Future[np.ndarray]:
    """The one answer of a batch of one."""
    return _then(batch, lambda found: found[0])


def _then(batch: Future[list[np.ndarray]], make: Callable[[list[np.ndarray]], T]) -> Future[T]:
    """What `make` makes of the answer, when it is there."""
    one: Future[T] = Future()

    def settle(done: Future[list[np.ndarray]]) -> None:
        if not one.set_running_or_notify_cancel():
            return
        if error := done.exception():
            one.set_exception(error)
        else:
            one.set_result(make(done.result()))

    batch.add_done_callback(settle)
    return one


def _judged(made: list[np.ndarray]) -> Judgement:
    latents, scores, reconstruction, feature_residual, split = made
    image_score, feature_score = (float(v) if np.isfinite(v) else math.nan for v in scores)
    return Judgement(latents, image_score, feature_score, reconstruction, feature_residual, SPLITS[int(split[0])])


def _named(rows: list[int]) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} and {len(rows) - 1} more"
