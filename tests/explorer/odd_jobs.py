"""Run kinds for the tests of jobs: they count, fail, hang and crash on demand."""

import errno
import os
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal

from explorer.kinds import Kind
from models.artifacts import ArtifactError, Workspace
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
