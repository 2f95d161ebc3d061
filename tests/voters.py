"""A crowd for any survey: votes of known skill on known answers, tags by few people; all of it marked as simulated."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from explorer.survey import Survey
from explorer.votes import (
    CLASSIFICATIONS,
    CLASSIFICATIONS_SCHEMA,
    EXPERIENCE,
    EXPERIENCE_SCHEMA,
    GOLD,
    GOLD_SCHEMA,
    TALK_TAGS,
    TALK_TAGS_SCHEMA,
)
from models.artifacts import write_table

DAY = datetime(2026, 1, 1, tzinfo=UTC)
N_VOLUNTEERS = 30


def write(path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    """A table by schema; what a row does not name is missing."""
    write_table(path, pa.table([pa.array([r.get(f.name) for r in rows], f.type) for f in schema], schema=schema))


def truth(n: int) -> np.ndarray:
    """bool (n,): every fifth subject is worth choosing."""
    return np.arange(n) % 5 == 0


def write_crowd(folder: Path, n_votes: int = 12, seed: int = 0) -> None:
    """Votes of 30 volunteers, each right with a probability from .6 to .95; a third of the answers known; some tags.

    Three volunteers are anonymous; ten have 500 classifications elsewhere. The first 20 votes were cast before launch.
    """
    survey, random = Survey.open(folder), np.random.default_rng(seed)
    n, ids, names = survey.n, survey.subject_ids.tolist(), [f"{v:016x}" for v in range(N_VOLUNTEERS)]
    right, known = np.linspace(0.6, 0.95, N_VOLUNTEERS), np.arange(n) % 3 == 0
    pairs = [(row, int(v)) for row in range(n) for v in random.choice(N_VOLUNTEERS, n_votes, replace=False)]
    votes = [
        {
            "classification_id": i,
            "subject_id": ids[row],
            "workflow_id": 7,
            "workflow_version": "1.1",
            "task": "T0",
            "answer": "chosen" if truth(n)[row] == (random.random() < right[v]) else "",
            "volunteer": names[v],
            "created_at": DAY + timedelta(minutes=i),
            "is_anonymous": v < 3,
            "is_live": i >= 20,
            "is_simulated": True,
            "source": "test",
        }
        for i, (row, v) in enumerate(pairs[at] for at in random.permutation(len(pairs)))
    ]
    write(folder / CLASSIFICATIONS, CLASSIFICATIONS_SCHEMA, votes)
    gold = [
        {"subject_id": ids[row], "workflow_id": 7, "task": "T0", "answer": "chosen" if truth(n)[row] else ""}
        for row in np.flatnonzero(known)
    ]
    write(folder / GOLD, GOLD_SCHEMA, gold)
    write(folder / EXPERIENCE, EXPERIENCE_SCHEMA, [{"volunteer": v, "n_elsewhere": 500} for v in names[-10:]])
    tags = [
        {"subject_id": ids[row], "tag": tag, "tag_group": tag, "volunteer": names[row % 4], "created_at": DAY}
        for row, tag in [*((row, "merger") for row in range(0, n, 5)), (1, "voorwerp"), (2, "merger")]
    ]
    write(folder / TALK_TAGS, TALK_TAGS_SCHEMA, tags)
    survey.close()
