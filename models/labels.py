"""The labels that a run learns from, as they were when it was started: ``labels.parquet`` in its folder.

They are frozen by who starts the run (`explorer.services.labels`), so that a run that is taken up again learns from the
same ones. Here they are put into the order of the run's images. The survey's test half (by hash of the duplicate group)
is never trained on and never counted: its labels are there so that a kind can say how many it left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.artifacts import RUN_JSON, ArtifactError, Run, Workspace, read_columns, write_table

LABELS = "labels.parquet"
#: What every file has; columns called ``fraction_…`` (float32) come beside: shares of the votes, one for each answer.
LABELS_SCHEMA = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("expert", pa.string()),  # class by experts, null where none
        ("amateur", pa.string()),  # class by amateurs, of the same names
        ("is_found", pa.bool_()),  # whether experts found what is looked for, null where they did not say
        ("n_chosen", pa.float64()),  # k of n votes for the answer that is counted
        ("n_votes", pa.float64()),
        ("inclusion_probability", pa.float64()),  # of having been drawn for the experts at random, null: chosen
        ("is_test", pa.bool_()),  # of the survey's test half
        ("duplicate_group", pa.int64()),  # its own number, negative, where it has none
    ]
)
FRACTION = "fraction_"
#: Ends a sentence that misses labels.
LISTED = "`voorwerp labels SURVEY` lists what there is"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is said of each of a run's N subjects, in the order of its images.

    Attributes
    ----------
    classes
        Names of the classes; `expert` and `amateur` count in them.
    expert, amateur
        int64 (N,), -1 where nobody said.
    is_found
        float64 (N,): 1 found, 0 not, NaN unknown.
    n_chosen, n_votes
        float64 (N,): k of n; 0 of 0 without votes.
    inclusion
        float64 (N,): probability with which it was drawn for the experts at random; NaN where it was chosen.
    fractions
        float32 (N, F): shares of the votes, NaN without; `fraction_names` are theirs.
    is_test
        bool (N,): of the survey's test half; never to be trained on or counted.
    groups
        int64 (N,): equal where two show the same sky.
    n_strangers
        Labels of subjects that are not among the run's.
    about
        By setting ("expert", "amateur", "votes"): ``source``, ``words`` for a person, ``is_simulated``, ``n`` subjects,
        ``notes`` (sentences to be told beside figures), and ``atoms``: what they are made of.
    """

    classes: tuple[str, ...]
    expert: np.ndarray
    amateur: np.ndarray
    is_found: np.ndarray
    n_chosen: np.ndarray
    n_votes: np.ndarray
    inclusion: np.ndarray
    fractions: np.ndarray
    fraction_names: tuple[str, ...]
    is_test: np.ndarray
    groups: np.ndarray
    n_strangers: int
    about: Mapping[str, Mapping[str, Any]]

    @property
    def is_simulated(self) -> bool:
        """Whether anything of it is simulated: then every figure says so."""
        return any(told.get("is_simulated") for told in self.about.values())

    def words(self, setting: str) -> str:
        """Where the labels of a setting come from, for a person."""
        return str(self.about.get(setting, {}).get("words", ""))


def write_labels(directory: Path, columns: Mapping[str, Any], classes: list[str], about: Mapping[str, Any]) -> None:
    """Write ``labels.parquet``: one row for each subject of which something is said.

    Parameters
    ----------
    columns
        Those of `LABELS_SCHEMA` and any of fractions, each of length n; what is missing is null.
    classes
        All names of classes, in the order that people read them in.
    about
        See `Labels.about`.
    """
    n = len(columns["subject_id"])
    arrays = [pa.array(columns.get(f.name, [None] * n), f.type, from_pandas=True) for f in LABELS_SCHEMA]
    extra = [name for name in columns if name.startswith(FRACTION)]
    arrays += [pa.array(columns[name], pa.float32(), from_pandas=True) for name in extra]
    told = json.dumps({"classes": classes, "about": dict(about)}, sort_keys=True)
    table = pa.table(arrays, names=[*LABELS_SCHEMA.names, *extra]).replace_schema_metadata({b"voorwerp": told.encode()})
    write_table(directory / LABELS, table)


def about_labels(directory: Path) -> dict[str, dict[str, Any]]:
    """`Labels.about` of a run's folder alone; {} for a run that has no labels, or none that can be read."""
    try:
        told = json.loads((pq.read_schema(directory / LABELS).metadata or {}).get(b"voorwerp", b"{}"))
        return {str(setting): dict(about) for setting, about in dict(told.get("about", {})).items()}
    except (OSError, pa.ArrowException, AttributeError, TypeError, ValueError):
        return {}


def about_taught(folder: Path) -> list[dict[str, Any]]:
    """What `Labels.about` says of each setting of a run, and of all runs that it builds on."""
    found = list(about_labels(folder).values())
    try:
        inputs = Run.read(folder / RUN_JSON).inputs
    except (OSError, ArtifactError):
        return found
    for value in inputs.values():
        if (folder.parent / value / RUN_JSON).exists():  # others are hashes
            found += about_taught(folder.parent / value)
    return found


def read_labels(workspace: Workspace) -> Labels:
    """The frozen labels of a run, in the order of its images.

    Raises
    ------
    ArtifactError
        There are none, they cannot be read, or none is of the run's subjects.
    """
    path = workspace.directory / LABELS
    table = read_columns(path, LABELS_SCHEMA)
    told = json.loads((pq.read_schema(path).metadata or {}).get(b"voorwerp", b"{}"))
    classes = tuple(told.get("classes", ()))
    order = np.argsort(workspace.subject_ids, kind="stable")
    ids = table.column("subject_id").to_numpy()
    at = np.searchsorted(workspace.subject_ids, ids, sorter=order)
    places = order[np.minimum(at, len(order) - 1)]
    is_ours = workspace.subject_ids[places] == ids
    if len(ids) and not is_ours.any():
        raise ArtifactError(f"none of the {len(ids):,} labelled subjects is among those that the run is of")
    n, rows = len(workspace.subject_ids), places[is_ours]
    table = table.filter(pa.array(is_ours))

    def numbers(name: str, missing: float = np.nan, dtype: Any = np.float64) -> np.ndarray:
        found = np.full(n, missing, dtype)
        values = table.column(name).cast(pa.float64()).to_numpy()
        found[rows] = np.where(np.isnan(values), missing, values)
        return found

    def codes(name: str) -> np.ndarray:
        of = {text: code for code, text in enumerate(classes)}
        found = np.full(n, -1, np.int64)
        found[rows] = [-1 if text is None else of[text] for text in table.column(name).to_pylist()]
        return found

    names = tuple(name for name in table.column_names if name.startswith(FRACTION))
    groups = -1 - workspace.subject_ids.astype(np.int64)
    groups[rows] = table.column("duplicate_group").to_numpy()
    shares = [numbers(name, dtype=np.float32) for name in names]
    return Labels(
        classes=classes,
        expert=codes("expert"),
        amateur=codes("amateur"),
        is_found=numbers("is_found"),
        n_chosen=numbers("n_chosen", 0),
        n_votes=numbers("n_votes", 0),
        inclusion=numbers("inclusion_probability"),
        fractions=np.stack(shares, 1) if shares else np.empty((n, 0), np.float32),
        fraction_names=tuple(name.removeprefix(FRACTION) for name in names),
        is_test=numbers("is_test", 0).astype(bool),
        groups=groups,
        n_strangers=int((~is_ours).sum()),
        about=told.get("about", {}),
    )


def folds_of(groups: np.ndarray, classes: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Which of `n_folds` each row is held out in, int64 (n,): whole groups, classes spread as evenly as these allow.

    Groups come by turns, shuffled, those of the rarest class first: each goes to the fold that has least of its class.

    Raises
    ------
    ArtifactError
        There are fewer groups than folds.
    """
    random = np.random.default_rng([seed, 7])
    ids, of = np.unique(groups, return_inverse=True)
    if len(ids) < n_folds:
        raise ArtifactError(f"{len(ids):,} labelled groups of subjects do not make {n_folds} folds; label more")
    names, code = np.unique(classes, return_inverse=True)
    counts = np.zeros((len(ids), len(names)), np.int64)
    np.add.at(counts, (of, code), 1)
    rarest = np.argsort(counts.sum(0), kind="stable")
    rank = np.empty(len(names), np.int64)
    rank[rarest] = np.arange(len(names))
    kind = np.where(counts > 0, rank, len(names)).min(1)  # of a mixed group, its rarest class
    shuffled = random.permutation(len(ids))
    total, size = np.zeros((n_folds, len(names)), np.int64), np.zeros(n_folds, np.int64)
    fold = np.empty(len(ids), np.int64)
    for group in shuffled[np.argsort(kind[shuffled], kind="stable")]:
        main = rarest[kind[group]]
        least = np.lexsort((random.random(n_folds), size, total[:, main]))[0]
        fold[group] = least
        total[least] += counts[group]
        size[least] += counts[group].sum()
    return np.asarray(fold[of])
