"""A survey to judge boundaries in: scores, a map, halves, votes one by one, tags of Talk, classes, gaps."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.ledger import Ledger
from explorer.services.boundaries import Boundaries, Context
from explorer.services.explore import Explore
from explorer.services.judge import Judge
from explorer.services.learned import Learning
from explorer.services.notes import Notes
from explorer.services.truths import Truths
from explorer.services.volunteers import Volunteers
from explorer.survey import SUBJECTS, Survey
from explorer.votes import (
    CLASSIFICATIONS,
    CLASSIFICATIONS_SCHEMA,
    TALK_TAGS,
    TALK_TAGS_SCHEMA,
)
from models.artifacts import LATENTS, write_array, write_table
from tests.benchmarks.synthetic import write_survey

N, VOTED, VOTES = 600, 500, 9
#: Tag → subjects that have it, and by whom.
TAGS = {"merger": (range(0, 60), "abc"), "arc": (range(60, 75), "a"), "supernova": (range(90, 91), "d")}


@dataclass
class Judged:
    """Everything that judges, open."""

    survey: Survey
    explore: Explore
    ledger: Ledger
    notes: Notes
    volunteers: Volunteers
    boundaries: Boundaries
    truths: Truths
    learning: Learning
    judge: Judge
    context: Context


def write_judged(folder: Path, *, with_votes: bool = True) -> Path:
    """`N` subjects; the first `VOTED` have `VOTES` votes each, more chosen the higher the feature score."""
    write_survey(folder, N)
    rng = np.random.default_rng(3)
    table = pq.read_table(folder / SUBJECTS)
    columns = {
        "magnitude": pa.array(np.where(np.arange(N) % 7 == 0, np.nan, rng.normal(18, 1, N)), from_pandas=True),
        "kind": pa.array([None if i % 50 == 0 else ("ring", "spiral", "elliptical")[i % 3] for i in range(N)]),
        "is_known": pa.array([True if i % 40 == 1 else None for i in range(N)]),
    }
    for name, column in columns.items():
        if name in table.schema.names:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(name), column)
        else:
            metadata = {"kind": "category"} if name == "kind" else None
            table = table.append_column(pa.field(name, column.type, metadata=metadata), column)
    pq.write_table(table, folder / SUBJECTS)
    latents = rng.normal(0, 1, (N, 8))
    latents[:, 0] += 1.5 * (np.arange(N) % 3 == 0)  # rings lie a little apart
    [run] = (folder / "runs").iterdir()
    write_array(run / LATENTS, latents.astype(np.float32))
    if with_votes:
        write_votes(folder, rng)
    return folder


def write_votes(folder: Path, rng: np.random.Generator) -> None:
    """Votes one by one, and tags."""
    [run] = (folder / "runs").iterdir()
    score = pq.read_table(run / "scores.parquet").column("feature_score").to_numpy()
    chance = 0.05 + 0.6 * score**4
    start, rows = datetime(2026, 1, 1, tzinfo=UTC), []
    for i in range(VOTED):
        for j in range(VOTES if i % 10 else 4):
            rows.append(
                {
                    "classification_id": len(rows) + 1,
                    "subject_id": i,
                    "workflow_id": 7,
                    "workflow_version": "1.1",
                    "task": "T0",
                    "answer": "yes" if rng.random() < chance[i] else "",
                    "volunteer": f"v{j}",
                    "created_at": start + timedelta(minutes=len(rows)),
                    "is_live": True,
                    "is_simulated": False,
                    "source": "test",
                }
            )
    fill(folder / CLASSIFICATIONS, rows, CLASSIFICATIONS_SCHEMA)
    tags = [
        {"subject_id": i, "tag": tag, "tag_group": tag, "volunteer": people[i % len(people)], "created_at": start}
        for tag, (subjects, people) in TAGS.items()
        for i in subjects
    ]
    fill(folder / TALK_TAGS, tags, TALK_TAGS_SCHEMA)


def fill(path: Path, rows: list[dict], schema: pa.Schema) -> None:
    """A file of votes."""
    arrays = [pa.array([row.get(f.name) for row in rows], f.type) for f in schema]
    write_table(path, pa.table(arrays, schema=schema))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Judged]:
    """The services of a folder that `write_judged` wrote."""
    with contextlib.closing(Survey.open(folder)) as survey, Ledger(folder, survey.info.survey_id) as ledger:
        explore = Explore(survey)
        volunteers = Volunteers(survey, ledger, explore.talk)
        volunteers.recount()
        survey.refresh()
        notes = Notes(ledger, explore)
        truths = Truths(explore, notes, volunteers)
        learning = Learning(explore, truths)
        boundaries = Boundaries(explore, ledger, learning)
        judge = Judge(explore, boundaries, truths, explore.talk, notes)
        context = Context(next(iter(explore.runs())), next(iter(explore.maps())))
        yield Judged(survey, explore, ledger, notes, volunteers, boundaries, truths, learning, judge, context)
