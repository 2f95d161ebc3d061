"""Kernels and what stands beside them, timed in turn: a machine that is slow for a while is slow for both."""

import gc
import statistics
import time
from collections.abc import Callable

from tests.benchmarks.row import Row

UNITS = {"s": 1.0, "ms": 1e3, "µs": 1e6}


def in_turn(*acts: Callable[[], object], rounds: int = 15, warm: int = 2, at_most_s: float = 30) -> list[list[float]]:
    """Seconds of every call of each of `acts`, called one after the other, `rounds` times.

    Parameters
    ----------
    warm
        Rounds before, which do not count: they compile, and fill caches.
    at_most_s
        No round is begun after so long (but three are made): of what takes seconds, a few are enough.
    """
    for _ in range(warm):
        for act in acts:
            act()
    times: list[list[float]] = [[] for _ in acts]
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    began = time.perf_counter()
    try:
        for k in range(rounds):
            if k >= 3 and time.perf_counter() - began > at_most_s:
                break
            for act, found in zip(acts, times, strict=True):
                start = time.perf_counter()
                act()
                found.append(time.perf_counter() - start)
    finally:
        if was_on:
            gc.enable()
    return times


def timed_row(
    name: str,
    what: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    alternative: str,
    *,
    unit: str = "ms",
    target: float | None = None,
    limit: float | None = None,
    note: str = "",
    rounds: int = 15,
    extra: dict[str, object] | None = None,
) -> Row:
    """A row of two functions timed `in_turn`: medians, and the least of each in `extra`."""
    mine, other = ([seconds * UNITS[unit] for seconds in found] for found in in_turn(ours, theirs, rounds=rounds))
    us, them = statistics.median(mine), statistics.median(other)
    return Row(
        name,
        f"{what}, median of {len(mine)}",
        us,
        them,
        them / us,
        unit,
        alternative,
        target=target,
        note=note,
        extra={"ours_min": min(mine), "theirs_min": min(other), **(extra or {})},
        limit=limit,
        each=mine,
        theirs_each=other,
    )
