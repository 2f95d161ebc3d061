"""Reconstructions and feature residuals on demand, from a worker process that keeps the network loaded.

The caller imports no torch.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Literal

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

What = Literal["reconstruction", "feature_residual"]


@dataclass(frozen=True, slots=True, order=True)
class _Request:
    urgency: int  # lowest first
    number: int
    run_id: str = field(compare=False)
    what: What = field(compare=False)
    rows: tuple[int, ...] = field(compare=False)
    answer: Future[list[np.ndarray]] = field(compare=False)


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

    def _put(self, run_id: str, what: What, rows: tuple[int, ...], urgency: int) -> Future[list[np.ndarray]]:
        answer: Future[list[np.ndarray]] = Future()
        if self._closed:
            answer.set_exception(JobError("the server is closing; open the subject again when it is back"))
        else:
            self._requests.put(_Request(urgency, next(self._numbers), run_id, what, tuple(map(int, rows)), answer))
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
                request.answer.set_result(self._ask(request.run_id, request.what, request.rows))
            except Exception as error:
                request.answer.set_exception(error)

    def _ask(self, run_id: str, what: What, rows: tuple[int, ...]) -> list[np.ndarray]:
        new = [row for row in dict.fromkeys(rows) if (run_id, what, row) not in self._kept]
        if new:
            try:
                made = self._ask_worker(run_id, what, new)
            except (EOFError, OSError):  # it died: once more with a new one
                try:
                    made = self._ask_worker(run_id, what, new)
                except (EOFError, OSError):
                    raise JobError(
                        f"the process that reconstructs ended twice at {_named(new)}; see what the server printed"
                    ) from None
            for row, one in zip(new, made, strict=True):
                self._kept[run_id, what, row] = one
        for row in rows:
            self._kept.move_to_end((run_id, what, row))
        found = [self._kept[run_id, what, row] for row in rows]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _ask_worker(self, run_id: str, what: What, rows: list[int]) -> np.ndarray:
        with self._mutex:
            if self._closed:
                raise JobError("the server is closing; open the subject again when it is back")
            requests, answers = self._start()
        try:
            requests.send_bytes(json.dumps({"run_id": run_id, "what": what, "rows": rows}).encode())
            if not answers.poll(TIMEOUT):
                raise JobError(f"the reconstruction of {_named(rows)} took longer than {TIMEOUT:.0f} s; try again")
            answer = json.loads(answers.recv_bytes())
            body = b"" if "error" in answer else answers.recv_bytes()
        except BaseException:  # its next answer would be to another question
            with self._mutex:
                self._stop()
            raise
        if "error" in answer:
            raise JobError(answer["error"])
        return np.frombuffer(body, answer["dtype"]).reshape(answer["shape"])

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
    one: Future[np.ndarray] = Future()

    def settle(done: Future[list[np.ndarray]]) -> None:
        if not one.set_running_or_notify_cancel():
            return
        if error := done.exception():
            one.set_exception(error)
        else:
            one.set_result(done.result()[0])

    batch.add_done_callback(settle)
    return one


def _named(rows: list[int]) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} and {len(rows) - 1} more"
