"""Runs of a selection: whom they are of, frozen into the run's folder, and the survey's images as they see them.

A run of a selection is of the subjects that had its name when the run was started; they lie in ``subjects.npy`` beside
run.json, so that the selection may change or go. Without being told, a run is of the subjects of the runs that it
builds on.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import JobError, UsageError
from explorer.kinds import learning
from explorer.survey import Survey
from models.artifacts import MAP_JSON, RUN_JSON, SUBJECTS, ArtifactError, Run, read_subjects, write_array

if TYPE_CHECKING:
    from explorer.ledger import Ledger  # a worker reads what is frozen, and opens no database

#: With fewer subjects there is nothing to learn and nothing to lay out.
FEWEST = 4
#: Says that a name is a boundary's, where a selection has it, too.
BOUNDARY = "boundary:"


# ---------------------------------------------------------------------------------------------- whom a run is of
def members(survey: Survey, ledger: Ledger, name: str) -> np.ndarray:
    """The subjects of a kept selection, or those that a saved boundary's newest version keeps: rows, int64, ascending.

    Raises
    ------
    UsageError
        Neither has that name (the message offers the near miss), or too few subjects are in it.
    VoorwerpError
        The selection's file is damaged, or what the boundary reads is gone.
    """
    rows, what = _members(survey, ledger, name)
    if not len(rows):
        raise UsageError(f'{what} "{name}" has no subjects; choose another one')
    if len(rows) < FEWEST:
        raise UsageError(f'{what} "{name}" has {_subjects(len(rows))}; a run of a selection takes {FEWEST} or more')
    if survey.planted()[rows].all():
        raise UsageError(
            f'in {what} "{name}" are planted subjects only (injected_kind tells), to which nothing is fitted; '
            "choose one with subjects of the sky"
        )
    return rows


def _members(survey: Survey, ledger: Ledger, name: str) -> tuple[np.ndarray, str]:
    if name in (kept := ledger.selection_names()):
        return np.sort(survey.rows_of(ledger.selection(name, survey.subject_ids).subject_ids)), "the selection"
    from explorer.services.boundaries import Boundaries
    from explorer.services.explore import Explore
    from explorer.services.learned import Learning
    from explorer.services.notes import Notes
    from explorer.services.truths import Truths
    from explorer.services.volunteers import Volunteers

    explore = Explore(survey)
    truths = Truths(explore, Notes(ledger, explore), Volunteers(survey, ledger, explore.talk))
    boundaries = Boundaries(explore, ledger, Learning(explore, truths))
    names = boundaries.names()
    plain = name.removeprefix(BOUNDARY)
    if plain in names:
        saved = boundaries.get(plain)
        return np.flatnonzero(boundaries.kept(saved.keep, saved.context).yes), "the boundary"
    near = difflib.get_close_matches(name, [*kept, *names], n=1)
    known = ", ".join(f'"{one}"' for one in [*kept, *names]) or "none; keep one on the screen, or use --top"
    hint = f'did you mean "{near[0]}"?' if near else f"there are: {known}"
    raise UsageError(f'there is no selection or boundary "{name}"; {hint}')


def keep_top(survey: Survey, ledger: Ledger, share: float, run_id: str | None, who: str) -> str:
    """Keep the highest `share` of a run's anomaly scores as a selection, and return its name: "top 5 % of RUN".

    Planted and withdrawn subjects are not in it. Of equal scores those first in the survey come first.

    Parameters
    ----------
    run_id
        A finished score run; None: the newest.

    Raises
    ------
    UsageError
        `share` is not between 0 and 1, or there is no such run.
    """
    if not 0 < share < 1:
        raise UsageError(f"--top is {share:g}; it is a share of the subjects, above 0 and below 1: 0.05 for 5 %")
    runs = {run.run_id: run for run in survey.runs("score")}
    if not runs:
        raise UsageError(f"{survey.path} has no scores to take the top of; `voorwerp run {survey.path} score` first")
    run_id = run_id or next((name for name, run in runs.items() if run.kind not in learning()), next(iter(runs)))
    if run_id not in runs:
        near = difflib.get_close_matches(run_id, runs, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(runs)}"
        raise UsageError(f'there is no finished score run "{run_id}"; {hint}')
    scores = survey.scores(run_id)["anomaly_score"]
    rows = np.flatnonzero(survey.frame() & np.isfinite(scores))
    n = math.ceil(round(share * len(rows), 6))  # .07 · 100 is 7.000000000000001
    top = np.sort(rows[np.argsort(-scores[rows], kind="stable")[:n]])
    name = f"top {100 * share:g} % of {run_id}"
    kept = ledger.selection(name, survey.subject_ids).subject_ids if name in ledger.selection_names() else None
    if kept is None or not np.array_equal(kept, survey.subject_ids[top]):
        ledger.save_selection(name, top, survey.subject_ids, who=who)
    return name


def inherited(survey: Survey, folders: list[Path]) -> tuple[str, np.ndarray] | None:
    """The selection that all runs to build on are of, and its subjects' ids; None where they are not of the same."""
    runs = [(folder, _run_in(folder)) for folder in folders]
    if not runs or any(run.selection is None for _, run in runs):
        return None
    if len({run.inputs.get("subject_ids") for _, run in runs}) > 1:
        return None
    folder, run = runs[0]
    return str(run.selection), survey.subject_ids[rows_of(survey, run, folder)]


def words_of(run: Run, folder: Path, n: int) -> str:
    """``of “top 5 %”, 74 of 1,482 subjects``; "" for a run of the whole survey of `n`."""
    if run.selection is None:
        return ""
    try:
        m = f"{len(np.load(folder / SUBJECTS, mmap_mode='r', allow_pickle=False)):,} of "
    except (OSError, ValueError, EOFError):
        m = ""  # it is said where they are needed
    return f"of “{run.selection}”, {m}{n:,} subjects"


def _run_in(folder: Path) -> Run:
    return Run.read(folder / (MAP_JSON if (folder / MAP_JSON).exists() else RUN_JSON))


# -------------------------------------------------------------------------------------------- what the folder has
def hash_of(subject_ids: np.ndarray) -> str:
    """What run.json has of the subjects that a run is of: hex sha256."""
    return hashlib.sha256(np.ascontiguousarray(subject_ids, np.int64).tobytes()).hexdigest()


def freeze(folder: Path, subject_ids: np.ndarray) -> None:
    """Write ``subjects.npy``, whole or not at all: int64 (n,), in the survey's row order."""
    write_array(folder / SUBJECTS, np.ascontiguousarray(subject_ids, np.int64))


def rows_of(survey: Survey, run: Run, folder: Path) -> np.ndarray:
    """The rows of a run's selection, int64 (n,), ascending.

    Raises
    ------
    JobError
        ``subjects.npy`` is missing, is not what run.json says, or has subjects that are not in the survey.
    """
    try:
        subject_ids = read_subjects(folder)
    except ArtifactError as error:
        raise JobError(str(error)) from None
    path = folder / SUBJECTS
    if hash_of(subject_ids) != run.inputs.get("subject_ids"):
        raise JobError(f"{path} does not have the subjects that {run.run_id} was started with; start a new run")
    rows = survey.rows_of(subject_ids)
    if stray := int((rows < 0).sum()):
        raise JobError(f"{path} has {_subjects(stray)} not in {survey.path}; start a new run")
    return rows


def _subjects(n: int) -> str:
    return f"{n:,} subject{'' if n == 1 else 's'}"


# --------------------------------------------------------------------------------------------------- the images
class Crops:
    """The survey's images as a kind reads them, by slices and by rows: an array of Zarr has no len()."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._array[rows])


class SomeCrops:
    """The images of some rows of the survey, read when they are asked for: row i is that of the i-th of `rows`.

    Whole chunks are read, each once a read, and neighbors together; memory is that of what is asked for and of
    `AT_ONCE` images.

    Parameters
    ----------
    rows
        int64 (n,), ascending.
    """

    AT_ONCE = 1024  # images between the first and the last of one read

    def __init__(self, array: Any, rows: np.ndarray) -> None:
        self._array, self._rows = array, rows
        self._chunk = int((getattr(array, "chunks", None) or (1,))[0])
        self.shape, self.dtype, self.ndim = (len(rows), *array.shape[1:]), array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        wanted = self._rows[key]
        if not np.ndim(wanted):
            return np.asarray(self._array[int(wanted)])
        images = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        order = None if (np.diff(wanted) >= 0).all() else np.argsort(wanted, kind="stable")
        ordered = wanted if order is None else wanted[order]
        for start, stop in self._reads(ordered):
            first, last = int(ordered[start]), int(ordered[stop - 1])
            block = np.asarray(self._array[first : last + 1])[ordered[start:stop] - first]
            if order is None:
                images[start:stop] = block
            else:
                images[order[start:stop]] = block
        return images

    def _reads(self, rows: np.ndarray) -> Iterator[tuple[int, int]]:
        """Parts of ascending `rows` that are read together: of chunks that touch, and not too many."""
        if not len(rows):
            return
        chunks = rows // self._chunk
        edges = [0, *(np.flatnonzero(np.diff(chunks) > 1) + 1).tolist(), len(rows)]
        most = max(self._chunk, self.AT_ONCE // self._chunk * self._chunk)
        for start, stop in itertools.pairwise(edges):
            while start < stop:
                end = (int(rows[start]) // self._chunk * self._chunk) + most
                until = start + int(np.searchsorted(rows[start:stop], end))
                yield start, until
                start = until
