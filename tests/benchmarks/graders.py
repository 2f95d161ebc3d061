"""Fifty graders at once: from a vote that leaves the page to the answer that it is on the disk."""

import asyncio
import csv
import os
import random
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from explorer.ledger import ADDRESS, Ledger
from tests import postgres_at_hand
from tests.benchmarks.row import Row
from tests.benchmarks.stock_votes import COLUMNS
from tests.graders_at_hand import GRADES, Grader, Place, clock, make_place, new_id, served
from tests.ui.serving import command, free_port, wait_for_address

N_GRADERS, N_BEFORE = 50, 15_000
#: Seconds of a look in the mean (exponential), and those measured; the first ones are not.
LOOK_S, MEASURED_S, WARM_S = 1.0, 20.0, 4.0
WHAT = f"{N_GRADERS} graders, a look of {LOOK_S:g} s in the mean, {N_BEFORE:,} votes before"


async def work(graders: list[Grader], look_s: float, seconds: float, warm_s: float = WARM_S) -> tuple[list[float], int]:
    """All at their looks: milliseconds of each vote, and how many a second there were."""
    draw, took = random.Random(4), []
    begun = clock() + warm_s
    end = begun + seconds

    async def one(grader: Grader) -> None:
        await asyncio.sleep(draw.uniform(0, look_s))
        while clock() < end:
            key, sent = draw.choice(grader.keys), clock()
            await grader.vote(key, draw.choice(GRADES), new_id())
            if sent >= begun:
                took.append(1e3 * (clock() - sent))
            if look_s:
                await asyncio.sleep(draw.expovariate(1 / look_s))

    await asyncio.gather(*(one(grader) for grader in graders))
    return took, round(len(took) / seconds)


def filled(place: Place) -> None:
    """Votes from before: as many as a campaign of so many graders has towards its end."""
    with Ledger(place.path, place.survey_id) as ledger, ThreadPoolExecutor(64) as pool:
        draw = random.Random(1)
        told = {"campaign": place.campaign, "via": "single", "interesting": False, "seconds": 1.5, "seconds_raw": 1.5}
        ids = range(588848901523702010, 588848901523702010 + 280)
        votes = [
            (f"grader-{draw.randrange(N_GRADERS) + 1}", draw.choice(GRADES), draw.choice(ids)) for _ in range(N_BEFORE)
        ]
        list(
            pool.map(
                lambda v: ledger.append("vote", told | {"grade": v[1], "repeat": 0}, who=v[0], subject_id=v[2]), votes
            )
        )


def ours(folder: Path) -> tuple[list[float], int, list[float], int]:
    """Through the page's own route of a real server: at the looks of people, and as fast as it goes."""
    place = make_place(folder, N_GRADERS)
    filled(place)

    async def measure() -> tuple[list[float], int, list[float], int]:
        graders = place.graders()
        for grader in graders:
            await grader.begin()
        at_looks = await work(graders, LOOK_S, MEASURED_S)
        at_once = await work(graders, 0, MEASURED_S / 2, 1)
        for grader in graders:
            grader.close()
        return *at_looks, *at_once

    with served(place, folder / "log"):
        return asyncio.run(measure())


def theirs(folder: Path) -> list[float]:
    """The same graders at the same looks."""
    file, port = folder / "votes.csv", free_port()
    with file.open("w", newline="") as output:
        writer = csv.DictWriter(output, COLUMNS)
        writer.writeheader()
        row = {"key": "0123456789abcdef", "grade": "A", "interesting": False, "seconds": 1.5}
        writer.writerows({**row, "id": new_id()} for _ in range(N_BEFORE))
    place = Place(folder, "", "0" * 12, {f"grader-{k + 1}": "" for k in range(N_GRADERS)}, port)

    async def measure() -> list[float]:
        graders = place.graders()
        for grader in graders:
            grader.keys = ["0123456789abcdef"]
        took, _ = await work(graders, LOOK_S, MEASURED_S)
        for grader in graders:
            grader.close()
        return took

    arguments = [sys.executable, "-m", "tests.benchmarks.stock_votes", file, str(port)]
    with command(arguments, folder / "stock") as process:
        wait_for_address(process, folder / "stock", 30)
        return asyncio.run(measure())


def figures(took: list[float]) -> dict[str, float]:
    """Percentiles, ms."""
    return {f"p{q}": round(float(np.percentile(took, q)), 2) for q in (50, 95, 99)} | {"n": len(took)}


def graders() -> list[Row]:
    """On SQLite, beside a CSV that is written anew; and beside the 100 ms that it may take."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as name:
        os.environ["VOORWERP_CONFIG"] = f"{name}/config"
        at_looks, rate, at_once, most = ours(Path(name) / "sqlite")
        csv_took = theirs(Path(name))
    us, them, crowd = figures(at_looks), figures(csv_took), figures(at_once)
    what = f"{WHAT}: a vote sent to its answer, 95th percentile"
    note = f"{rate} votes a second, median {us['p50']:.1f} ms; without any looks {most} votes a second, "
    note += f"95th percentile {crowd['p95']:.0f} ms"
    extra = {"sqlite": us, "csv": them, "without looks": crowd | {"votes_per_s": most}}
    alternative = "a table in memory, its CSV written anew and synced at every vote (`stock_votes.py`)"
    return [
        Row("graders", what, us["p95"], them["p95"], them["p95"] / us["p95"], "ms", alternative, None, note, extra),
        Row("graders-limit", what, us["p95"], 100, 100 / us["p95"], "ms", "the 100 ms that it may take", 1.0),
    ]


def graders_postgres() -> Row:
    """The same on a PostgreSQL of this machine."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as name, postgres_at_hand.server() as server:
        os.environ["VOORWERP_CONFIG"], os.environ[ADDRESS] = f"{name}/config", server.url()
        at_looks, rate, at_once, most = ours(Path(name) / "postgres")
    us, crowd = figures(at_looks), figures(at_once)
    return Row(
        "graders-postgres",
        f"{WHAT}, in PostgreSQL on the same machine: a vote sent to its answer, 95th percentile",
        us["p95"],
        100,
        100 / us["p95"],
        "ms",
        "the 100 ms that it may take",
        1.0,
        f"{rate} votes a second, median {us['p50']:.1f} ms; without any looks {most} votes a second, 95th percentile "
        f"{crowd['p95']:.0f} ms",
        {"postgres": us, "without looks": crowd | {"votes_per_s": most}},
    )


LONG_ROWS = {"graders": graders, "graders-postgres": graders_postgres}
