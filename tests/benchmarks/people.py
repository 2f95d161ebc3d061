"""Sixteen people at one server: their frames, what they cost in memory, and what a slow line does to the others."""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from explorer.state import COMPONENTS
from tests.benchmarks.crowd_at_hand import Person, enter
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.sessions import census_of
from tests.benchmarks.synthetic import write_survey
from tests.ui.serving import free_port

PEOPLE = 16
DRAG_S = 20.0
SOAK_S, LONG_SOAK_S = 60.0, 600.0
VISITS = 200
#: Bytes a second of a slow line.
SLOW = 10_000
PAINT = {
    "map": "20260101-000001-map",
    "run": "20260101-000000-score",
    "x": COMPONENTS[0],
    "y": COMPONENTS[1],
    "lambda": 0.2,
    "lambda_mode": "raw",
    "color": "scores.anomaly_score",
    "aggregate": "max",
    "norm": "percentile",
    "selection": "",
}


def asked(url: str, what: str) -> dict[str, Any]:
    """``/census`` or ``/watchdog`` of the server at `url`."""
    with urlopen(f"http://{urlsplit(url).netloc}/{what}") as answer:
        return dict(json.loads(answer.read()))


def settled(url: str) -> dict[str, Any]:
    """The census once no session is left."""
    for _ in range(120):
        told = asked(url, "census")
        if not told["sessions"]:
            break
        time.sleep(0.5)
    return told


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def people(url: str, n: int = PEOPLE) -> list[Person]:
    """So many with a page open each, one after the other."""
    netloc, cookie = await enter(url)
    found = [Person(netloc, cookie, PAINT) for _ in range(n)]
    for person in found:
        await person.open()
    return found


async def dragging(crowd: list[Person], seconds: float) -> list[float]:
    """All drag at once, from the second frame of each: ms of every frame."""
    for person in crowd:
        person.frames_ms.clear()
    await asyncio.gather(*(person.drag(seconds, phase=k) for k, person in enumerate(crowd)))
    return [ms for person in crowd for ms in person.frames_ms[1:]]


async def leave(crowd: list[Person]) -> None:
    await asyncio.gather(*(person.close() for person in crowd))


def on_server(act: Callable[[str], Coroutine[Any, Any, Any]]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Do `act` with the address of a server of synthetic subjects; its answer, and the censuses before and after it."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-people-") as name:
        folder = Path(name)
        write_survey(folder / "synthetic", N)
        with census_of(folder / "ours.log", "ours", folder / "synthetic", free_port()) as url:

            async def warm() -> None:
                crowd = await people(url, 2)
                await dragging(crowd, 5)
                await leave(crowd)

            asyncio.run(warm())
            before = settled(url)
            asked(url, "watchdog")
            found = asyncio.run(act(url))
            return found, before, settled(url)


def drag() -> list[Row]:
    """Sixteen drag at once; then the same with one more who reads slowly."""

    async def act(url: str) -> dict[str, Any]:
        alone = asked(url, "census")["rss_anon_mib"]
        crowd = await people(url)
        opened = asked(url, "census")["rss_anon_mib"]
        frames = await dragging(crowd, DRAG_S)
        dragged, loop = asked(url, "census")["rss_anon_mib"], asked(url, "watchdog")
        netloc, cookie = crowd[0].netloc, crowd[0].cookie
        slow = Person(netloc, cookie, PAINT)
        reads = asyncio.ensure_future(slow.drag(DRAG_S, pace=SLOW))
        await asyncio.sleep(0.5)
        beside = await dragging(crowd, DRAG_S)
        is_reading = not reads.done()
        reads.cancel()
        await asyncio.gather(reads, return_exceptions=True)
        await leave(crowd)
        found = {"frames_ms": frames, "beside_ms": beside, "loop": loop, "was_reading": is_reading}
        return found | {"session_mib": (opened - alone) / PEOPLE, "dragging_mib": (dragged - alone) / PEOPLE}

    found, _, _ = on_server(act)
    frames, beside, loop = found["frames_ms"], found["beside_ms"], found["loop"]
    p50, p95, p95_beside = statistics.median(frames), percentile(frames, 0.95), percentile(beside, 0.95)
    what = f"{N:,} synthetic points, {PEOPLE} people dragging at once for {DRAG_S:g} s on this machine"
    rate = len(frames) / DRAG_S
    note = f"median {p50:.0f} ms, {rate:.0f} frames a second in all; longest callback of the event loop "
    note += f"{loop['longest_ms']:g} ms ({loop['longest_cpu_ms']:g} ms of the processor)"
    mib = max(found["session_mib"], found["dragging_mib"], 0.1)
    return [
        Row(
            "people-drag",
            f"{what}: a frame from its request to its last byte, 95th percentile",
            p95,
            150.0,
            150 / p95,
            "ms",
            "the 150 ms that it may take",
            1.0,
            note,
            {"loop": loop},
            limit=150,
            each=frames[:: max(1, len(frames) // 500)],
        ),
        Row(
            "people-slow-line",
            f"{what}, beside one who reads {SLOW // 1000} kB a second: 95th percentile of the others' frames",
            p95_beside,
            p95,
            p95 / p95_beside,
            "ms",
            "the same without that one",
            0.8,
            "" if found["was_reading"] else "the slow one was done before the others",
        ),
        Row(
            "people-memory",
            f"{what}: what each adds to the server's RssAnon",
            mib,
            40.0,
            40 / mib,
            "MiB",
            "the 40 MiB that a session may cost",
            1.0,
            f"{found['session_mib']:.1f} MiB with the page open, {found['dragging_mib']:.1f} MiB after the drag",
            limit=40,
        ),
    ]


def soaked(name: str, what: str, found: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> Row:
    """Memory before and after; 20 MiB may come and go with the allocator's mood."""
    grown = max(0.1, after["rss_anon_mib"] - before["rss_anon_mib"])
    left = after["sessions"], after["watchers"] - before["watchers"]
    note = f"RssAnon {before['rss_anon_mib']:.0f} MiB before, {after['rss_anon_mib']:.0f} after; "
    note += f"left: {left[0]} sessions, {left[1]} watchers of Panel's global state; below 0.1 MiB counts as 0.1"
    extra = found | {"before": before, "after": after}
    alternative = "the 20 MiB that count as no growth"
    return Row(name, what, grown, 20.0, 20 / grown, "MiB", alternative, 1.0, note, extra, limit=20)


def visits() -> Row:
    """Two hundred pages opened and closed, eight at a time."""

    async def act(url: str) -> dict[str, Any]:
        netloc, cookie = await enter(url)
        took: list[float] = []
        for _ in range(VISITS // 8):
            crowd = [Person(netloc, cookie, PAINT) for _ in range(8)]
            took += await asyncio.gather(*(person.open() for person in crowd))
            await asyncio.gather(*(person.drag(0.5, phase=k) for k, person in enumerate(crowd)))
            await leave(crowd)
        return {"page_s": took}

    found, before, after = on_server(act)
    what = f"{N:,} synthetic points: growth of the server's RssAnon by {VISITS} sessions opened, dragged and closed"
    return soaked("soak-sessions", what, found, before, after)


def soak(seconds: float, name: str) -> Row:
    """Sixteen drag for long; the memory is that after they left."""

    async def act(url: str) -> dict[str, Any]:
        crowd = await people(url)
        frames = await dragging(crowd, seconds)
        await leave(crowd)
        return {"n_frames": len(frames), "p95_ms": percentile(frames, 0.95), "loop": asked(url, "watchdog")}

    found, before, after = on_server(act)
    what = f"{N:,} synthetic points: growth of the server's RssAnon by {PEOPLE} people who drag for {seconds:g} s"
    return soaked(name, what, found, before, after)


def sessions() -> list[Row]:
    """The making of a page: its processor time, and its slices."""

    async def act(url: str) -> dict[str, Any]:
        netloc, cookie = await enter(url)
        asked(url, "watchdog")
        took = []
        for _ in range(12):
            person = Person(netloc, cookie, PAINT)
            took.append(1e3 * await person.open())
            await person.close()
        return {"page_ms": took, "loop": asked(url, "watchdog")}

    found, _, _ = on_server(act)
    page, loop = statistics.median(found["page_ms"][2:]), found["loop"]
    slow = ", ".join(f"{name} {n}×, ≤ {ms:g} ms" for name, (n, _, ms, _) in list(loop["slow"].items())[:3])
    return [
        Row(
            "people-page",
            f"{N:,} synthetic points: a session made and its page sent, median of {len(found['page_ms']) - 2}",
            page,
            250.0,
            250 / page,
            "ms",
            "the 250 ms that it may take",
            1.0,
            f"in slices, the longest {loop['longest_cpu_ms']:g} ms of the processor; above 5 ms: {slow}",
            {"loop": loop},
            limit=250,
            each=found["page_ms"][2:],
        )
    ]


ROWS = {
    "people": drag,
    "people-page": sessions,
}
LONG_ROWS = {
    "soak-sessions": visits,
    "soak-drag": lambda: soak(SOAK_S, "soak-drag"),
    "soak-drag-long": lambda: soak(LONG_SOAK_S, "soak-drag-long"),
}
