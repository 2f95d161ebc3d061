"""Who is shown next by a run that learned from votes: by its column ``acquisition``, highest first.

What the column holds is the run's own: what it would learn of each subject (BALD in count space: Walmsley et al. 2020,
MNRAS 491, 1554), in nats. The newest finished run with such a column is followed, or one that was named. Whoever asks
for the order never waits: a new run is read beside them, and taken up when it has been.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from explorer.errors import SurveyError, UsageError, VoorwerpError
from explorer.survey import Survey
from models.artifacts import SCORES, Run

ACQUISITION = "acquisition"
NEWEST = "newest"
#: Seconds between two looks for a newer run.
LOOK = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """An order by acquisition.

    Attributes
    ----------
    rows
        int64 (n,): the survey's rows that the run has a value of, highest first; equal ones by row.
    group
        int64 (N,): duplicate groups by row, -1 of who is in none.
    members
        Of each group that has several: its rows.
    """

    run_id: str
    rows: np.ndarray
    group: np.ndarray
    members: Mapping[int, tuple[int, ...]]


def has_acquisition(survey: Survey, run: Run) -> bool:
    """Whether a finished run has such a column; a file that cannot be read has none."""
    try:
        return ACQUISITION in pq.read_schema(survey.run_folder(run.run_id) / SCORES).names
    except (OSError, ValueError, VoorwerpError):
        return False


def run_of(survey: Survey, by: str = NEWEST) -> str:
    """The run that is gone by: the newest that has an acquisition, or the one of this id.

    Raises
    ------
    UsageError
        There is none, or it has no such column.
    """
    finished = survey.runs()
    if by != NEWEST:
        run = next((run for run in finished if run.run_id == by), None)
        if run is None:
            raise UsageError(f'there is no finished run "{by}" in {survey.path} whose acquisition could be gone by')
        if not has_acquisition(survey, run):
            raise UsageError(f"{by} has no column {ACQUISITION}: a run that learns from votes makes one, such as bayes")
        return by
    found = next((run.run_id for run in finished if has_acquisition(survey, run)), None)
    if found is None:
        raise UsageError(
            f"no run of {survey.path} has a column {ACQUISITION}; `voorwerp run {survey.path} bayes` makes one"
        )
    return found


def acquisition(survey: Survey, run_id: str) -> np.ndarray:
    """A run's column in the survey's row order, float32 (N,), NaN where it has none.

    Raises
    ------
    SurveyError
        It cannot be read, or is of other subjects.
    """
    path = survey.run_folder(run_id) / SCORES
    try:
        table = pq.read_table(path, columns=["subject_id", ACQUISITION])
        values: np.ndarray = table.column(ACQUISITION).to_numpy().astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise SurveyError(f"{path} cannot be read as scores with a column {ACQUISITION} ({error})") from None
    ids = table.column("subject_id").to_numpy()
    if np.array_equal(ids, survey.subject_ids):
        return values
    rows = survey.rows_of(ids)
    if stray := int((rows < 0).sum()):
        raise SurveyError(f"{path} has {stray:,} subjects that are not in the survey; open it again if they were added")
    found = np.full(survey.n, np.nan, np.float32)
    found[rows] = values
    return found


def order_of(survey: Survey, run_id: str) -> Order:
    """The order by a run's acquisition.

    Raises
    ------
    SurveyError
        As `acquisition`.
    """
    values = acquisition(survey, run_id)
    known = np.flatnonzero(np.isfinite(values) & survey.frame())
    rows = known[np.argsort(-values[known], kind="stable")]
    given = survey.arrow("duplicate_group")
    group = np.where(given.is_valid().to_numpy(zero_copy_only=False), given.fill_null(0).to_numpy(), -1)
    by_group = np.argsort(group, kind="stable")
    ids, starts, sizes = np.unique(group[by_group], return_index=True, return_counts=True)
    several = (sizes > 1) & (ids >= 0)
    members = {
        int(one): tuple(by_group[start : start + size].tolist())
        for one, start, size in zip(ids[several], starts[several], sizes[several], strict=True)
    }
    return Order(run_id, rows, group.astype(np.int64), members)


class NextUp:
    """Follows the order of a survey. One per server; thread-safe; nobody who asks waits.

    Parameters
    ----------
    by
        A run, or "newest": then there may be none yet.

    Raises
    ------
    UsageError
        There is no such run, or it has no acquisition.
    """

    def __init__(self, survey: Survey, by: str = NEWEST) -> None:
        self.survey, self.by = survey, by
        self._order: Order | None = None
        self._known: dict[str, bool] = {}  # whether a finished run has the column: a finished one stays as it is
        self._looked = -math.inf
        self._lock = threading.Lock()
        self._at_work: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="next-up")
        self._said = ""
        if by != NEWEST:
            run_of(survey, by)
        self.look()

    def order(self) -> Order | None:
        """The order as it is known now, None where there is no run to go by; has it looked after now and then."""
        if time.monotonic() - self._looked > LOOK:
            with self._lock:
                is_idle = self._at_work is None or self._at_work.done()
                if is_idle and time.monotonic() - self._looked > LOOK:
                    self._looked = time.monotonic()
                    self._at_work = self._pool.submit(self.look)
        return self._order

    def look(self) -> None:
        """Look which run is to be gone by now, and read it where it is another one. Slow: a second for a million."""
        try:
            run_id = self._newest() if self.by == NEWEST else self.by
            if run_id is None:
                self._order = None
            elif self._order is None or self._order.run_id != run_id:
                self._order = order_of(self.survey, run_id)
            self._said = ""
        except Exception as error:  # nobody else would hear of it; the order of before is gone by
            if str(error) != self._said:
                self._said = str(error)
                is_ours = isinstance(error, VoorwerpError | OSError)
                log = logging.getLogger(__name__)
                log.error("the order by acquisition is not refreshed: %s", error, exc_info=not is_ours)
        finally:
            self._looked = time.monotonic()

    def _newest(self) -> str | None:
        for run in self.survey.runs():
            if run.run_id not in self._known:
                self._known[run.run_id] = has_acquisition(self.survey, run)
            if self._known[run.run_id]:
                return run.run_id
        return None

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
