"""Run kinds for the tests of jobs: they count, fail, hang and crash on demand."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from explorer.kinds import Kind, score
from models.artifacts import ArtifactError, Workspace, write_json
from models.progress import Progress


@dataclass(frozen=True, slots=True)
class CountConfig:
    """How to count, and what to do at the end."""

    steps: int = field(default=3, metadata={"help": "numbers to count", "unit": "steps", "low": 1, "high": 1000})
    pause: float = field(default=0.0, metadata={"help": "wait after each", "unit": "s", "low": 0.0, "high": 60.0})
    end: Literal["done", "refuse", "bug", "disk", "crash", "deaf", "memory"] = field(
        default="done", metadata={"choices": ("done", "refuse", "bug", "disk", "crash", "deaf", "memory")}
    )
    note: str | None = None


def count(config: CountConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Count in the file ``counted``, from where it stands."""
    counted = workspace.directory / "counted"
    start = int(counted.read_text()) if counted.exists() else 0
    for n in range(start, config.steps):
        counted.write_text(str(n + 1))
        yield Progress(n + 1, config.steps, "counting", {"double": 2.0 * n, "nothing": float("nan")})
        time.sleep(config.pause)
    print("a kind may print")
    match config.end:
        case "refuse":
            raise ArtifactError("these numbers cannot be counted")
        case "bug":
            raise ZeroDivisionError("a defect\nin two lines")
        case "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "memory":
            raise MemoryError
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            counted.write_text("deaf")
            time.sleep(60)
    return {
        "n_images": len(workspace.images),
        "n_ids": len(workspace.subject_ids),
        "parents": [str(path.name) for path in workspace.parents.values()],
        "parent_names": list(workspace.parents),
        "threads": workspace.threads,
        "torch": "torch" in sys.modules,
        "nice": os.nice(0),
    }


COUNT = Kind("count", "Count", CountConfig, "tests.explorer.odd_jobs:count")
RECOUNT = Kind("recount", "Count again", CountConfig, "tests.explorer.odd_jobs:count", needs=("count",), folder="maps")
MISSING = Kind("missing", "Not there", CountConfig, "tests.explorer.odd_jobs:no_such_function")
TALLY = Kind(
    "tally", "Count what was counted", CountConfig, "tests.explorer.odd_jobs:count", many=("count",), provides="count"
)


def _after_many(config: CountConfig) -> dict[str, Any]:
    return {"needs": ("count",)} if config.steps > 10 else {}


HASTY = Kind("hasty", "Count on", CountConfig, "tests.explorer.odd_jobs:count", optional=("recount",), at=_after_many)


def share(config: CountConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Hand out as many parts as there are steps, but for those that are there; tell who has done what."""
    parts = workspace.directory / "parts"
    parts.mkdir(exist_ok=True)
    numbers = [n for n in range(config.steps) if not (parts / f"{n}.json").exists()]
    pool = workspace.pool
    told = [{"number": n} for n in numbers]
    done = (
        ((i, share_part(config, workspace, **one)) for i, one in enumerate(told))
        if pool is None
        else pool.map(f"{__name__}:share_part", told)
    )
    found = config.steps - len(numbers)
    for i, answer in done:
        assert answer["number"] == numbers[i]
        found += 1
        yield Progress(found, config.steps, "sharing")
    made = [json.loads((parts / f"{n}.json").read_bytes()) for n in range(config.steps)]
    return {
        "sums": [one["sum"] for one in made],
        "pids": sorted({one["pid"] for one in made}),
        "threads": sorted({one["threads"] for one in made}),
        "n_done": len(numbers),
        "n_workers": pool.n_workers if pool else 0,
    }


def share_part(config: CountConfig, workspace: Workspace, number: int) -> dict[str, Any]:
    """One part: the sum of an image; it notes every time that it is begun, and ends as the config says."""
    with (workspace.directory / "begun").open("a") as handle:
        handle.write(f"{number} {os.getpid()}\n")
    time.sleep(config.pause)
    last = number == config.steps - 1
    if last and config.end == "refuse":
        raise ArtifactError("this part cannot be done")
    if last and config.end == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if last and config.end == "crash" and not (workspace.directory / "crashed").exists():
        (workspace.directory / "crashed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if last and config.end == "bug":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.end == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    image = int(np.asarray(workspace.images[number % 5 : number % 5 + 1], np.int64).sum())
    write_json(
        workspace.directory / "parts" / f"{number}.json",
        {"sum": image, "pid": os.getpid(), "threads": workspace.threads},
    )
    return {"number": number}


SHARE = Kind("share", "Share", CountConfig, "tests.explorer.odd_jobs:share", needs_images=True, is_shared=True)


def score_small_shards(config: Any, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """The kind ``score`` in shards of 32 images."""
    from models import scoring  # torch

    scoring.SHARD = 32
    return (yield from scoring.run(config, workspace))


SCORE = replace(score.KIND, run="tests.explorer.odd_jobs:score_small_shards")
