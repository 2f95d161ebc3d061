"""How long the event loop of a server is held by one callback.

`install` makes asyncio's loop note every callback that takes more than `LIMIT_MS`; ``/watchdog`` of a server that
``tests.benchmarks.census`` runs tells them and forgets them.
"""

import asyncio
import functools
import gc
import time
from asyncio.events import Handle
from collections import Counter
from typing import Any

from tornado.web import RequestHandler

LIMIT_MS = 5.0
#: Callbacks that are kept, the last ones.
KEPT = 20_000


class Watchdog:
    """What the loop did since it was asked last.

    A callback's time on the clock has in it what the machine did meanwhile, and what other threads did while they held
    the interpreter; its processor time has not. Both are told.
    """

    def __init__(self) -> None:
        self.n, self.cpu_ms, self.longest_ms, self.longest_cpu_ms = 0, 0.0, 0.0, 0.0
        self.slow: list[tuple[str, float, float]] = []
        self.collections: dict[int, tuple[int, float]] = {}
        self._began = 0.0

    def note(self, callback: Any, ms: float, cpu_ms: float) -> None:
        self.n, self.cpu_ms = self.n + 1, self.cpu_ms + cpu_ms
        self.longest_ms, self.longest_cpu_ms = max(self.longest_ms, ms), max(self.longest_cpu_ms, cpu_ms)
        if ms > LIMIT_MS and len(self.slow) < KEPT:
            self.slow.append((name_of(callback), ms, cpu_ms))

    def collect(self, phase: str, about: dict[str, int]) -> None:
        """One of ``gc.callbacks``: a collection holds whatever thread it falls on, and the interpreter with it."""
        if phase == "start":
            self._began = time.thread_time()
            return
        n, longest = self.collections.get(about["generation"], (0, 0.0))
        self.collections[about["generation"]] = n + 1, max(longest, 1e3 * (time.thread_time() - self._began))

    def told(self) -> dict[str, Any]:
        """Everything so far, and begin anew.

        ``slow`` has, by name, the longest first: how often one took more than `LIMIT_MS` of the clock, how often of the
        processor, and the most of each, ms. ``gc`` has, by generation, how many collections there were and the longest.
        """
        times, cpu_times, most = Counter[str](), Counter[str](), dict[str, tuple[float, float]]()
        for name, ms, cpu_ms in self.slow:
            times[name] += 1
            cpu_times[name] += cpu_ms > LIMIT_MS
            before = most.get(name, (0.0, 0.0))
            most[name] = max(before[0], round(ms, 1)), max(before[1], round(cpu_ms, 1))
        found = {
            "callbacks": self.n,
            "cpu_ms": round(self.cpu_ms, 1),
            "longest_ms": round(self.longest_ms, 1),
            "longest_cpu_ms": round(self.longest_cpu_ms, 1),
            "gc": {generation: [n, round(ms, 1)] for generation, (n, ms) in sorted(self.collections.items())},
            "slow": {
                name: [times[name], cpu_times[name], *most[name]] for name in sorted(most, key=lambda k: -most[k][1])
            },
        }
        Watchdog.__init__(self)
        return found


def name_of(callback: Any) -> str:
    """What a person looks for in the code: the coroutine of a task, the function of anything else."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return str(task.get_coro().__qualname__)
    while isinstance(callback, functools.partial):
        callback = callback.func
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def install() -> Watchdog:
    """Watch every loop of this process."""
    dog, run = Watchdog(), Handle._run

    def watched(self: Handle) -> None:
        callback = self._callback
        began, cpu_began = time.perf_counter(), time.thread_time()
        run(self)
        dog.note(callback, 1e3 * (time.perf_counter() - began), 1e3 * (time.thread_time() - cpu_began))

    Handle._run = watched
    gc.callbacks.append(dog.collect)
    return dog


class Told(RequestHandler):
    """``/watchdog``: what `Watchdog.told` says."""

    def initialize(self, dog: Watchdog) -> None:
        self.dog = dog

    def get(self) -> None:
        self.finish(self.dog.told())
