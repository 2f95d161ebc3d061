"""A run kind that learns from votes at once, and a server with it: for the tests of what is trained again."""

import functools
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explorer.kinds import Kind
from models.artifacts import Workspace, write_scores
from models.progress import Progress

#: While it exists in the survey's folder, a run of the kind does not end.
WAIT = "wait-here"


@dataclass(frozen=True, slots=True)
class GuessConfig:
    """What to guess, and what to do at the end."""

    step: int = field(default=7, metadata={"help": "acquisition of row i is i × step modulo n", "low": 1, "high": 99})
    seed: int = 1234


def guess(config: GuessConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Give everybody an acquisition, when it may."""
    assert workspace.survey is not None
    yield Progress(0, 2, "guessing")
    while (workspace.survey / WAIT).exists():
        yield Progress(1, 2, "waiting")
        time.sleep(0.02)
    ids = np.asarray(workspace.subject_ids)
    n = len(ids)
    columns: dict[str, Any] = {"subject_id": ids, "split": np.full(n, "unseen"), "quality": np.full(n, "ok")}
    columns |= {f"{name}_score": np.zeros(n, np.float32) for name in ("image", "feature", "anomaly")}
    columns["acquisition"] = (np.arange(n) * config.step % n).astype(np.float32)
    write_scores(workspace.directory, None, columns)
    return {"score_title": "Guess"}


GUESS = Kind("guess", "Guess", GuessConfig, "tests.explorer.live_jobs:guess", provides="score")
PATH = "tests.explorer.live_jobs:GUESS"


def main() -> None:
    """``python -m tests.explorer.live_jobs SURVEY …``: `voorwerp serve` that knows the kind, too."""
    from explorer import cli
    from explorer.services import desk

    desk.JobService = functools.partial(desk.JobService, more_kinds=[PATH])  # type: ignore
    sys.exit(cli.main(["serve", *sys.argv[1:]]))


def arguments(survey: Path, port: int, *more: str) -> list[str | Path]:
    """The command of such a server."""
    told = ["--no-browser", "--port", str(port), *more]
    return [sys.executable, "-m", "tests.explorer.live_jobs", survey, *told]


if __name__ == "__main__":
    main()
