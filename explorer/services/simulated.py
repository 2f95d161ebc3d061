"""Simulated volunteers for a survey: for a demo, for tests, to see what a campaign would give. They can be removed.

What is worth choosing comes from a class that is known, a column of the survey's own, or from morphology measured on
pixels; never from a score, a latent vector or anybody's votes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer.errors import SurveyError, UsageError, no_such_column
from explorer.ledger import Ledger, is_there
from explorer.survey import SUBJECTS, Survey, counted
from explorer.votes import CHOSEN, CLASSIFICATIONS, CLASSIFICATIONS_SCHEMA, GRID_TASK, NO_WORKFLOW, TOTALS
from models.artifacts import fsync_directory, write_table
from models.morphology import shapes
from models.progress import Progress
from models.simulate import Crowd, Simulated, votes

SOURCE = "simulated"
#: Which share of a survey each measure makes worth choosing, its highest, and how well that can be seen.
MEASURES = {"asymmetry": (0.05, 1.0), "n_peaks": (0.03, 0.85), "ellipticity": (0.03, 0.6)}
#: Crops that are measured at once.
BATCH = 512
#: When simulated campaigns begin: no clock is read, so that the same seed gives the same file.
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Worth:
    """What is worth choosing.

    Attributes
    ----------
    is_worth
        bool (N,).
    visibility
        float32 (N,), 0 to 1.
    words
        Where it comes from.
    """

    is_worth: np.ndarray
    visibility: np.ndarray
    words: str


def worth_by_column(survey: Survey, column: str, values: Sequence[str], visibility: float = 1.0) -> Worth:
    """Subjects whose `column` of ``subjects.parquet`` has one of `values`.

    Raises
    ------
    UsageError
        No such column of the survey's own, one of numbers, or values that nobody has.
    """
    schema = pq.read_schema(survey.path / SUBJECTS)
    if column not in schema.names:
        raise no_such_column(column, SUBJECTS, schema.names)
    if pa.types.is_floating(schema.field(column).type):
        raise UsageError(f'"{column}" holds numbers, which are no known classes; name a column of categories')
    texts = pq.read_table(survey.path / SUBJECTS, columns=[column]).column(0).cast(pa.string())
    there = set(pc.unique(texts).to_pylist())
    for value in values:
        if value not in there:
            raise UsageError(f'no subject of {survey.path} has {column} = "{value}"')
    is_worth = pc.fill_null(pc.is_in(texts, value_set=pa.array(list(values), pa.string())), False)
    found = is_worth.to_numpy().astype(np.bool_)
    words = f"{column} = {' or '.join(values)}"
    return Worth(found, np.full(survey.n, visibility, np.float32), words)


def worth_by_morphology(survey: Survey) -> Generator[Progress, None, Worth]:
    """The most asymmetric, the most lumpy and the most elongated subjects, as the pixels of their crops say.

    Raises
    ------
    UsageError
        The survey has no images.
    """
    if survey.images is None:
        raise UsageError(f"{survey.path} has no images to measure; --class COLUMN --worth VALUE names a known class")
    measured: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    for first in range(0, survey.n, BATCH):
        yield Progress(first, survey.n, "measuring shapes")
        crops = np.asarray(survey.images[first : min(first + BATCH, survey.n)], np.float32).mean(axis=3)
        for name, values in shapes(crops)._asdict().items():
            measured[name].append(values)
    visibility = np.zeros(survey.n, np.float32)
    for name, (share, seen) in MEASURES.items():
        values = np.concatenate(measured[name]).astype(np.float64)
        if np.isfinite(values).any():
            highest = values > np.nanquantile(values, 1 - share)
            visibility[highest] = np.maximum(visibility[highest], seen)
    words = "morphology measured on pixels: asymmetry, number of peaks, ellipticity"
    return Worth(visibility > 0, visibility, words)


def table_of(said: Simulated, subject_ids: np.ndarray) -> pa.Table:
    """Votes as ``classifications.parquet`` has them, every one marked as simulated.

    Parameters
    ----------
    subject_ids
        int64 (S,), in the order of ``said.subject``.
    """
    n = len(said.subject)
    names = pa.array([f"simulated-{i + 1:04d}" for i in range(len(said.people.activity))], pa.string())
    microseconds = np.rint(said.at_s * 1e6).astype(np.int64) + int(BEGINS.timestamp() * 1e6)

    def same(value: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([value], pa.string()))

    columns: dict[str, Any] = {
        "classification_id": said.classification + 1,
        "subject_id": np.asarray(subject_ids, np.int64)[said.subject],
        "workflow_id": np.full(n, NO_WORKFLOW, np.int64),
        "workflow_version": same(""),
        "task": same(GRID_TASK),
        "answer": pa.DictionaryArray.from_arrays(pa.array(said.chosen.astype(np.int32)), pa.array(["", CHOSEN])),
        "volunteer": pa.DictionaryArray.from_arrays(pa.array(said.volunteer), names),
        "created_at": pa.array(microseconds).cast(pa.timestamp("us", "UTC")),
        "seconds": said.seconds,
        "is_anonymous": np.zeros(n, np.bool_),
        "is_live": np.ones(n, np.bool_),
        "is_gold": np.zeros(n, np.bool_),
        "is_repeat": np.zeros(n, np.bool_),
        "is_simulated": np.ones(n, np.bool_),
        "source": same(SOURCE),
    }
    return pa.table([columns[name] for name in CLASSIFICATIONS_SCHEMA.names], schema=CLASSIFICATIONS_SCHEMA)


def simulate(
    survey: Survey,
    worth: Worth,
    n_views: int = 12,
    seed: int = 0,
    crowd: Crowd | None = None,
    mix: bool = False,
    replace: bool = False,
) -> dict[str, Any]:
    """Let simulated volunteers vote on every subject of a survey, and write what they say.

    Parameters
    ----------
    mix
        Write them beside votes of real volunteers.
    replace
        Write them in place of simulated votes that are there.

    Returns
    -------
    dict
        ``n_votes``, ``n_subjects``, ``n_worth``, ``n_chosen``, ``n_volunteers`` who voted.

    Raises
    ------
    UsageError
        Votes are there already, or settings that are not possible.
    SurveyError
        Another command writes into the survey.
    """
    crowd = crowd or Crowd()
    with survey.lock():
        real, before = _there(survey)
        if before.num_rows and not replace:
            raise UsageError(
                f"{survey.path} has {counted(before.num_rows, 'simulated vote')} already; --replace makes them anew, "
                "--remove takes them away"
            )
        has_real = real.num_rows or (survey.path / TOTALS).exists() or _has_own_votes(survey)
        if has_real and not mix:
            raise UsageError(
                f"{survey.path} has votes of real volunteers, and simulated ones would be counted beside them; "
                "--mix adds them nevertheless, --remove takes them away again"
            )
        try:
            said = votes(worth.is_worth, n_views, seed, worth.visibility, crowd)
        except ValueError as error:
            raise UsageError(str(error)) from None
        made = table_of(said, survey.subject_ids)
        if real.num_rows:
            made = made.set_column(
                0, CLASSIFICATIONS_SCHEMA.field(0), pc.add(made.column(0), (pc.max(real.column(0)).as_py() or 0))
            )
            made = pa.concat_tables([real, made]).unify_dictionaries()
            made = made.sort_by([("created_at", "ascending"), ("classification_id", "ascending")])
        write_table(survey.path / CLASSIFICATIONS, made)
    return {
        "n_votes": len(said.subject),
        "n_subjects": survey.n,
        "n_worth": int(worth.is_worth.sum()),
        "n_chosen": int(said.chosen.sum()),
        "n_volunteers": len(np.unique(said.volunteer)),
    }


def remove(survey: Survey) -> int:
    """Take simulated votes away; how many there were.

    Raises
    ------
    SurveyError
        Another command writes into the survey.
    """
    with survey.lock():
        real, simulated = _there(survey)
        path = survey.path / CLASSIFICATIONS
        if not simulated.num_rows:
            return 0
        if real.num_rows:
            write_table(path, real)
        else:
            path.unlink()
            fsync_directory(survey.path)
    return int(simulated.num_rows)


def n_simulated(path: Path) -> int:
    """How many simulated votes a survey folder has."""
    if not (path / CLASSIFICATIONS).exists():
        return 0
    flags = pq.read_table(path / CLASSIFICATIONS, columns=["is_simulated"]).column(0)
    return int(pc.sum(flags).as_py() or 0)


def _there(survey: Survey) -> tuple[pa.Table, pa.Table]:
    """Real and simulated votes that a survey has."""
    path = survey.path / CLASSIFICATIONS
    if not path.exists():
        empty = CLASSIFICATIONS_SCHEMA.empty_table()
        return empty, empty
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SurveyError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None
    is_simulated = pc.fill_null(table.column("is_simulated"), False)
    return table.filter(pc.invert(is_simulated)), table.filter(is_simulated)


def _has_own_votes(survey: Survey) -> bool:
    """Whether somebody has voted on our own page."""
    if not is_there(survey.path):
        return False
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        return bool(ledger.entries("classification"))
