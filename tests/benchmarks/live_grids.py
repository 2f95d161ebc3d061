"""How long the server takes for a grid of ``/classify`` on a million subjects: at random, and by acquisition."""

import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from explorer.ledger import Ledger
from explorer.services.classify import Classify, Settings, Visitor
from explorer.services.next_up import ACQUISITION
from explorer.survey import Survey
from models.artifacts import RUN_JSON, Run, write_scores
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey, write_thumbnails

N, N_VOLUNTEERS, N_EACH = 1_000_000, 40, 12
RUN = "20260103-000000-bayes"


def write_acquisition(path: Path) -> None:
    """A finished run with an acquisition of everybody."""
    folder, none = path / "runs" / RUN, np.zeros(N, np.float32)
    folder.mkdir(parents=True)
    columns: dict[str, Any] = {"subject_id": np.arange(N), "split": np.full(N, "unseen"), "quality": np.full(N, "ok")}
    columns |= {f"{name}_score": none for name in ("image", "feature", "anomaly")}
    columns[ACQUISITION] = np.random.default_rng(3).gamma(2.0, 0.1, N).astype(np.float32)
    write_scores(folder, None, columns)
    Run(RUN, "bayes", "0", {}, state="done", n_rows=N, provides="score").write(folder / RUN_JSON)


def times(path: Path, settings: Settings) -> np.ndarray:
    """Seconds of every grid of volunteers who answer `N_EACH` each, the first of each left out."""
    survey = Survey.open(path)
    found = []
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder), survey.info.survey_id) as ledger:
        classify = Classify(survey, ledger, settings, seed=1)
        for k in range(N_EACH):
            for one in range(N_VOLUNTEERS):
                visitor = Visitor(f"{one:016x}")
                began = time.perf_counter()
                grid = classify.grid(visitor)
                found += [time.perf_counter() - began] if k else []
                assert grid is not None
                told = {"grid": classify.seal(grid), "id": str(uuid.uuid4()), "chosen": [3], "seconds": 1.0}
                classify.answer(visitor, told)
        classify.close()
    survey.close()
    return np.array(found)


def row_live_grid() -> Row:
    """The 95th percentile of both ways, and of the first way with everybody to be seen by three before."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "survey"
        write_survey(path, N)
        write_thumbnails(path, N)
        write_acquisition(path)
        random = times(path, Settings())
        least = times(path, Settings(next_by="newest"))
        ordered = times(path, Settings(next_by="newest", least=0))
    p95 = {name: 1000 * float(np.quantile(t, 0.95)) for name, t in (("r", random), ("l", least), ("o", ordered))}
    return Row(
        name="live-grid",
        what=f"95th percentile of one grid by acquisition, {N:,} subjects, {len(ordered):,} grids",
        ours=p95["o"],
        theirs=p95["r"],
        ratio=p95["r"] / p95["o"],
        unit="ms",
        alternative="our grid at random, without a run",
        note=f"while everybody is to be seen by 3 first {p95['l']:.2f} ms; without pictures and network",
        extra={"p50_ms": [1000 * float(np.median(t)) for t in (random, least, ordered)], "p95_ms": p95},
    )


LONG_ROWS = {"live-grid": row_live_grid}
