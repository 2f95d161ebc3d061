"""Two runs of 1.5 million subjects compared from their files, beside the same figures by pandas."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pandas as pd

from explorer.ledger import Ledger
from explorer.services import orders
from explorer.services.compared import Changes, Pair
from explorer.services.explore import Explore
from explorer.services.jobs import JobService
from explorer.survey import Survey
from models.artifacts import RUN_JSON, SCORES, SCORES_SCHEMA, Run, read_columns, write_table
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey

A, B = "20260101-000000-score", "20260101-000002-score"
REPEATS = 5


def add_run(survey: Path) -> None:
    """A second run: the first one's scores, with noise."""
    table = read_columns(survey / "runs" / A / SCORES, SCORES_SCHEMA)
    rng = np.random.default_rng(5)
    for name in ("image_score", "feature_score", "anomaly_score"):
        at = table.column_names.index(name)
        values = table.column(name).to_numpy() + rng.normal(0, 0.02, N).astype(np.float32)
        table = table.set_column(at, name, [values])
    folder = survey / "runs" / B
    folder.mkdir()
    write_table(folder / SCORES, table)
    Run(B, "score", "synthetic", {"feature_weight": 0.2}, state="done", n_rows=N).write(folder / RUN_JSON)


def theirs(survey: Path) -> None:
    """Spearman, who is in the top 1 % of both, figures by split, and the farthest movers."""
    columns = ["subject_id", "split", "image_score", "feature_score"]
    one, other = (pd.read_parquet(survey / "runs" / run_id / SCORES, columns=columns) for run_id in (A, B))
    both = one.merge(other, on="subject_id", suffixes=("_a", "_b"))
    for name in "ab":
        score = 0.8 * both[f"image_score_{name}"] + 0.2 * both[f"feature_score_{name}"]
        both[f"rank_{name}"] = score.rank(ascending=False)
        both[f"top_{name}"] = score.rank(ascending=False, method="min") <= round(0.01 * len(both))
    both["rank_a"].corr(both["rank_b"])
    both.groupby(["split_a", "split_b", "top_a", "top_b"]).size()
    np.histogram2d(np.log10(both["rank_a"]), np.log10(both["rank_b"]), bins=96)
    moved = both[both["top_b"] & ~both["top_a"]]
    (moved["rank_a"] / moved["rank_b"]).nlargest(24)
    (both["rank_a"] - both["rank_b"]).nlargest(24)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def row() -> Row:
    """In turns, so that a busy machine is busy for both; the first of each is not counted."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-compare-") as name:
        path = Path(name) / "synthetic"
        write_survey(path, N)
        add_run(path)
        orders.warm()
        survey = Survey.open(path)
        with Ledger(path, survey.info.survey_id) as ledger:
            explore, jobs = Explore(survey), JobService(survey, ledger)
            mine, other = [], []
            for _ in range(REPEATS + 1):
                mine.append(seconds(lambda: orjson.dumps(Changes(explore, jobs).compare(Pair(A, B)))))  # nothing kept
                other.append(seconds(lambda: theirs(path)))
        survey.close()
    ours, pandas = statistics.median(mine[1:]), statistics.median(other[1:])
    return Row(
        "compare",
        f"{N:,} synthetic subjects: two runs from their files to the figures, density and movers, median of {REPEATS}",
        ours,
        pandas,
        pandas / ours,
        "s",
        "pandas: read, merge, rank, correlate, count",
        limit=1,
        extra={"ours_s": mine, "theirs_s": other},
    )


ROWS = {"compare": row}
