"""The clusters of a run, which people label by the grid: what is written of them, and how much effort that saves.

``clusters.parquet`` has a row for every subject that has a vector: its cluster, the probability of that, and the
distance to the cluster's center. ``clusters.json`` lists the clusters, novel ones first: those far from every cluster
that has labels. `models.clustering` makes them; whoever shows them reads them here, without torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.metrics import homogeneity_score, normalized_mutual_info_score

from models.artifacts import ArtifactError, read_columns, write_json, write_table
from models.rates import Rate, share

CLUSTERS = "clusters.parquet"
CLUSTERS_JSON = "clusters.json"
CLUSTERS_SCHEMA = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("cluster", pa.int32()),
        ("probability", pa.float32()),  # the largest of q, how surely it belongs there
        ("distance", pa.float32()),  # to the cluster's center, in the units of the code
    ]
)
#: Subjects in a grid: 5 × 5.
GRID = 25


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster of a run.

    Attributes
    ----------
    cluster
        Its number, as in ``clusters.parquet``.
    n
        Subjects in it.
    novelty
        Distance of its center to the nearest center of a labelled cluster, in units of the median distance between two
        centers: 0 of one that is labelled itself; None where no cluster is.
    label
        What most of its labelled subjects are, "" without any.
    n_labelled
        Subjects with a label (those of the survey's test half are not counted).
    purity
        k of n: of its labelled subjects that were not learned from, those that are called `label`.
    """

    cluster: int
    n: int
    novelty: float | None
    label: str
    n_labelled: int
    purity: tuple[int, int]


# ------------------------------------------------------------------------------------------------------ the files
def write_clusters(
    directory: Path,
    subject_ids: np.ndarray,
    cluster: np.ndarray,
    probability: np.ndarray,
    distance: np.ndarray,
    clusters: Sequence[Cluster],
) -> None:
    """Write both files, each whole or not at all.

    Parameters
    ----------
    subject_ids, cluster, probability, distance
        (n,), of the subjects that have a vector.
    clusters
        In the order that people are to see them (see `by_novelty`).
    """
    columns = [subject_ids, cluster, probability, distance]
    write_table(directory / CLUSTERS, pa.table(columns, schema=CLUSTERS_SCHEMA))
    write_json(directory / CLUSTERS_JSON, [asdict(one) for one in clusters])


def read_clusters(directory: Path) -> tuple[pa.Table, list[Cluster]]:
    """The table and the clusters of a finished run, novel ones first.

    Raises
    ------
    ArtifactError
        One of them is missing or cannot be read.
    """
    table = read_columns(directory / CLUSTERS, CLUSTERS_SCHEMA)
    path = directory / CLUSTERS_JSON
    try:
        told = [Cluster(**{**one, "purity": tuple(one["purity"])}) for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; the run is incomplete") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} does not list clusters ({error}); make the run again") from None
    return table, told


def by_novelty(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Novel ones first; of equally novel ones those with the smaller labelled share, then the smaller."""

    def place(one: Cluster) -> tuple[float, float, int, int]:
        return -(one.novelty or 0.0), one.n_labelled / max(one.n, 1), one.n, one.cluster

    return sorted(clusters, key=place)


# --------------------------------------------------------------------------------------------- clusters and labels
def novelty(centers: np.ndarray, is_labelled: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
    """Distance to the nearest center of a labelled cluster, in units of the median distance between two centers.

    Parameters
    ----------
    centers
        float (k, d).
    is_labelled
        bool (k,).
    points
        float (n, d), whose distances are asked for; None: the centers'.

    Returns
    -------
    float64 (k,) or (n,): NaN where no cluster is labelled, or all centers are the same.
    """
    asked = np.asarray(centers if points is None else points, np.float64)
    centers = np.asarray(centers, np.float64)
    if not np.any(is_labelled) or len(centers) < 2:
        return np.full(len(asked), np.nan)
    unit = np.median(distances(centers, centers)[np.triu_indices(len(centers), 1)])
    if unit == 0:
        return np.full(len(asked), np.nan)
    return np.asarray(distances(asked, centers[np.asarray(is_labelled, bool)]).min(1) / unit)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances of float (n, d) and (k, d): float64 (n, k), n · d numbers at a time."""
    found = np.empty((len(a), len(b)))
    for j, center in enumerate(b):
        found[:, j] = np.sqrt(np.square(a - center).sum(1, dtype=np.float64))
    return found


def crosstab(cluster: np.ndarray, label: np.ndarray, n_clusters: int, n_classes: int) -> np.ndarray:
    """How many of each class each cluster has, int64 (k, classes); a label of -1 is none."""
    counts = np.zeros((n_clusters, n_classes), np.int64)
    known = np.asarray(label) >= 0
    np.add.at(counts, (np.asarray(cluster)[known], np.asarray(label)[known]), 1)
    return counts


def label_map(counts: np.ndarray) -> np.ndarray:
    """The class that each cluster stands for: that of most of its labels, and each class has a cluster at least.

    A class that is nowhere in the majority takes the cluster that has most of its labels, as long as that is not
    another class's only one; the rarest class chooses first (Wright et al. 2019, ACM TSC 2(3), whose code does so for
    the one minority class).

    Parameters
    ----------
    counts
        int (k, classes), see `crosstab`.

    Returns
    -------
    int64 (k,): -1 where the cluster has no labels.
    """
    found = np.where(counts.sum(1) > 0, counts.argmax(1), -1)
    for missing in np.argsort(counts.sum(0), kind="stable"):
        if (found == missing).any() or not counts[:, missing].any():
            continue
        for cluster in np.argsort(-counts[:, missing], kind="stable"):
            if counts[cluster, missing] and np.count_nonzero(found == found[cluster]) > 1:
                found[cluster] = missing
                break
    return np.asarray(found, np.int64)


def purity(counts: np.ndarray, meant: np.ndarray | None = None) -> Rate:
    """Of the labelled, those of their cluster's class: that of its majority, or the `meant` one, int (k,), -1 none."""
    if meant is None:
        return share(int(counts.max(1).sum()), int(counts.sum()), empty="no subject has a label")
    k = int(counts[np.arange(len(counts)), np.maximum(meant, 0)][meant >= 0].sum())
    return share(k, int(counts.sum()), empty="no subject has a label")


def homogeneity(cluster: np.ndarray, label: np.ndarray) -> float:
    """1 - H(class | cluster) / H(class): 1 where no cluster mixes classes, 0 where they say nothing of them.

    Rosenberg and Hirschberg 2007. NaN without two classes.
    """
    known = np.asarray(label) >= 0
    if len(np.unique(label[known])) < 2:
        return math.nan
    return float(homogeneity_score(label[known], cluster[known]))


def nmi(cluster: np.ndarray, label: np.ndarray) -> float:
    """2 I(class; cluster) / (H(class) + H(cluster)); NaN without two classes."""
    known = np.asarray(label) >= 0
    if len(np.unique(label[known])) < 2:
        return math.nan
    return float(normalized_mutual_info_score(label[known], cluster[known]))


# --------------------------------------------------------------------------------------------------- effort saved
@dataclass(frozen=True, slots=True)
class Effort:
    """What labelling by the grid would cost; one by one costs a key for each subject.

    Attributes
    ----------
    n
        Subjects that get a label.
    n_grids
        Grids that are shown, the last one of each cluster being smaller.
    pure
        Share of them that hold one class alone, of each trial, float (trials,).
    published
        Clicks of each trial as Wright et al. 2019 count them: those on the exceptions, the last grid of a cluster
        filled up by drawing again; a pure grid costs nothing.
    whole
        All that hands do: one key for each grid, one click on each exception, and, where there are more than two
        classes, one more key for each exception, whose class the click has not said.
    exceptions
        float (n,): share of the trials in which each subject was one.
    """

    n: int
    n_grids: int
    pure: np.ndarray
    published: np.ndarray
    whole: np.ndarray
    exceptions: np.ndarray

    @property
    def saved_published(self) -> np.ndarray:
        """1 - clicks / n of each trial, as published."""
        return 1 - self.published / self.n

    @property
    def saved(self) -> np.ndarray:
        """1 - (keys and clicks) / n of each trial."""
        return 1 - self.whole / self.n


def effort(
    cluster: np.ndarray,
    label: np.ndarray,
    size: int = GRID,
    trials: int = 5,
    seed: int = 0,
    near: np.ndarray | None = None,
) -> Effort:
    """Simulate the labelling of whole grids: the majority's class by a key, exceptions by clicks.

    Every cluster is cut into grids of `size`. In each, a person who knows every class names that of the most and
    clicks on the others: n less the largest count, which with two classes is min(count per class).

    Parameters
    ----------
    cluster
        int (n,).
    label
        int (n,), ≥ 0, the class of each.
    trials
        How often the subjects of a cluster are shuffled.
    near
        float (n,): by what the subjects of a cluster are sorted before they are cut, small ones first; None: shuffled.

    Raises
    ------
    ArtifactError
        Nothing to label, lengths that differ, or a subject without a class.
    """
    cluster, label = np.asarray(cluster), np.asarray(label)
    if not len(label) or len(label) != len(cluster) or label.min() < 0:
        raise ArtifactError(
            f"{len(cluster):,} clusters and {len(label):,} classes: every subject must have one of each"
        )
    members = [np.flatnonzero(cluster == one) for one in np.unique(cluster)]
    is_binary = len(np.unique(label)) <= 2
    pure, published, whole, clicked = np.zeros(trials), np.zeros(trials), np.zeros(trials), np.zeros(len(label))
    n_grids = sum(math.ceil(len(rows) / size) for rows in members)
    for trial in range(trials):
        random = np.random.default_rng([seed, trial])
        for rows in members:
            shuffled = random.permutation(rows)
            if near is not None:
                shuffled = shuffled[np.argsort(near[shuffled], kind="stable")]
            for i in range(0, len(shuffled), size):
                shown = label[shuffled[i : i + size]]
                is_clicked = exceptions_of(shown)
                exceptions = int(is_clicked.sum())
                clicked[shuffled[i : i + size]] += is_clicked
                pure[trial] += exceptions == 0
                whole[trial] += 1 + exceptions * (1 if is_binary else 2)
                again = label[random.choice(rows, size - len(shown))] if len(shown) < size else shown[:0]
                published[trial] += exceptions_of(np.concatenate([shown, again])).sum()
    return Effort(len(label), n_grids, pure / n_grids, published, whole, clicked / trials)


def exceptions_of(label: np.ndarray) -> np.ndarray:
    """Whom of one grid a person clicks on, bool (n,): who is not of its largest class (of equal ones the first)."""
    if not len(label):
        return np.zeros(0, bool)
    classes, counts = np.unique(label, return_counts=True)
    return np.asarray(label != classes[counts.argmax()])
