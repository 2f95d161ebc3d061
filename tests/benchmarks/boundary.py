"""A limit, and Σ, moved at 1.5 million subjects: from the event to the numbers on the server, beside recomputing them.

Everything that the panel shows is counted: precision, recall, F1, kept fraction and base rate with their intervals,
what is thrown away by tag and class, cost. Recomputing is what a notebook would do at every move: masks with numpy,
precision, recall and F1 by scikit-learn, kept of total per tag and class; no interval.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import precision_recall_fscore_support

from explorer.ledger import Ledger
from explorer.services.boundaries import Boundaries, Context
from explorer.services.explore import Explore
from explorer.services.judge import Judge
from explorer.services.notes import Notes
from explorer.services.truths import Truths
from explorer.services.volunteers import Volunteers
from explorer.state import Draft
from explorer.survey import ROW_GROUP, SUBJECTS, Survey
from explorer.votes import TALK_TAGS, TALK_TAGS_SCHEMA
from models.artifacts import write_table
from models.boundary import And, Gate, Region
from models.truth import Truth
from tests.benchmarks.map import N
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import write_survey

ROUNDS = 60
#: Tags: groups, taggings of each, people.
TAGS, TAGGINGS, PEOPLE = 40, 120, 50
FEATURE, TRUTH = "scores.feature_score", "subjects.chosen"
REGION = Region("maps.umap_1", "maps.umap_2", tuple((6 * np.cos(a), 6 * np.sin(a)) for a in np.arange(0, 6.28, 0.2)))


def write(folder: Path, n: int) -> None:
    """A synthetic survey with a column to be judged against, known of four in five, eight classes, and tags."""
    write_survey(folder, n)
    rng, table = np.random.default_rng(4), pq.read_table(folder / SUBJECTS)
    [run] = (folder / "runs").iterdir()
    feature = pq.read_table(run / "scores.parquet").column("feature_score").to_numpy()
    chosen = rng.binomial(20, 0.02 + 0.5 * feature**6) / 20
    chosen[rng.random(n) < 0.2] = np.nan
    table = table.append_column("chosen", pa.array(chosen, from_pandas=True))
    classes = pa.array(np.array(list("abcdefgh"), object)[rng.integers(0, 8, n)])
    table = table.append_column(pa.field("class", pa.string(), metadata={"kind": "category"}), classes)
    pq.write_table(table, folder / SUBJECTS, row_group_size=ROW_GROUP)
    rows = rng.integers(0, n, TAGS * TAGGINGS)
    told = [
        {"subject_id": int(row), "tag": f"tag{i % TAGS}", "tag_group": f"tag{i % TAGS}", "volunteer": f"v{i % PEOPLE}"}
        for i, row in enumerate(rows)
    ]
    arrays = [pa.array([one.get(f.name) for one in told], f.type) for f in TALK_TAGS_SCHEMA]
    write_table(folder / TALK_TAGS, pa.table(arrays, schema=TALK_TAGS_SCHEMA))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Judge, Context]]:
    with contextlib.closing(Survey.open(folder)) as survey, Ledger(folder, survey.info.survey_id) as ledger:
        explore = Explore(survey)
        notes = Notes(ledger, explore)
        boundaries = Boundaries(explore, ledger)
        truths = Truths(explore, notes, Volunteers(survey, ledger, explore.talk))
        judge = Judge(explore, boundaries, truths, explore.talk, notes)
        yield judge, Context(next(iter(explore.runs())), next(iter(explore.maps())))


def again(judge: Judge, context: Context, keep: And, sigma: float) -> dict[str, Any]:
    """The numbers of a boundary of a gate and the region, everything anew but who is inside the region."""
    source, survey = judge.boundaries.source(context), judge.survey
    gate = keep.terms[0]
    assert isinstance(gate, Gate) and gate.low is not None
    inside, _ = source.inside(REGION.x, REGION.y, REGION.outline())  # kept from the first time
    kept = (source.column(FEATURE) >= gate.low) & inside
    truth, (halves, labels) = source.column(TRUTH), survey.category("half")
    mine = (halves == labels.index("tune")) & ~np.isnan(truth)
    rates = precision_recall_fscore_support(truth[mine] >= sigma, kept[mine], average="binary", zero_division=0)
    codes, _ = survey.category("class")
    lost = pd.Series(kept).groupby(codes).agg(["sum", "size"])
    tags = [(kept[rows].sum(), len(rows)) for group in judge.talk.groups() for rows in [judge.talk.rows(group.name)]]
    return {"precision": rates[0], "recall": rates[1], "n_kept": int(kept.sum()), "lost": lost, "tags": tags}


def moves(judge: Judge, context: Context, which: str) -> tuple[list[float], list[float], float]:
    """Milliseconds of each move, ours and anew; and of the first one, which sorts."""
    truth, rng = Truth("column", TRUTH, at_least=0.4), np.random.default_rng(0)
    judge.numbers(Draft(And((Gate(FEATURE, low=0.5), REGION)), truth), context)
    ours, theirs = [], []
    for i in range(ROUNDS + 1):
        low = float(rng.uniform(0.2, 0.9)) if which == "limit" else 0.5
        sigma = 0.4 if which == "limit" else float(rng.uniform(0.05, 0.8))
        keep = And((Gate(FEATURE, low=low), REGION))
        draft = Draft(keep, replace(truth, at_least=sigma))
        start = time.perf_counter()
        found = judge.numbers(draft, context, (0,) if which == "limit" else "truth")
        ours.append(1000 * (time.perf_counter() - start))
        if i % 10 == 1:
            start = time.perf_counter()
            anew = again(judge, context, keep, sigma)
            theirs.append(1000 * (time.perf_counter() - start))
            assert not found["trouble"] and found["n_kept"] == anew["n_kept"], found["trouble"]
            assert abs(found["rates"]["precision"]["value"] - anew["precision"]) < 1e-12
            assert abs(found["rates"]["recall"]["value"] - anew["recall"]) < 1e-12
    return ours[1:], theirs, ours[0]


def row(which: str) -> Row:
    words = {"limit": "a gate's limit beside a region", "sigma": "Σ of the truth"}[which]
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-boundary-") as name:
        folder = Path(name) / "synthetic"
        write(folder, N)
        with opened(folder) as (judge, context):
            ours, theirs, first = moves(judge, context, which)
    mine, other = statistics.median(ours), statistics.median(theirs)
    slow = float(np.percentile(ours, 95))
    return Row(
        f"threshold-{which}",
        f"{N:,} synthetic subjects, {TAGS} tags, 8 classes: {words} moved, event to all numbers on the server, median",
        mine,
        other,
        other / mine,
        "ms",
        "numpy, pandas and scikit-learn at every move, without intervals",
        note=f"95th percentile {slow:.1f} ms; the first move, which sorts, {first:.0f} ms",
        extra={"first": first, "p95": slow},
        limit=16,
        each=ours,
        theirs_each=theirs,
    )


def limit() -> Row:
    """A gate's limit."""
    return row("limit")


def sigma() -> Row:
    """Σ of the truth."""
    return row("sigma")


ROWS = {"threshold-limit": limit, "threshold-sigma": sigma}
