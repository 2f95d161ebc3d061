"""How well an embedding brings like to like: for each query, how early those of its class come among all others.

Metrics are those of Musgrave et al. 2020 (arXiv:2003.08505), averaged over queries. Of R references of a query's class:
*R-precision* is the share of its class among the R nearest, *MAP* the mean of the precisions at the places where one of
its class stands, *MAP@R* the same of the first R places divided by R, *P@1* whether the nearest is of its class, and
*accuracy* whether most of the k nearest are.

A query is never its own reference, nor is who shows the same sky (science rule 2). A query without any other of its
class is lone: in no figure, and counted. Equally far references stand in an order drawn once, so that an embedding that
has collapsed is as good as chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.judging import Figure, resampled

#: Figures by name → what a person reads.
METRICS = {
    "accuracy": "k-NN accuracy",
    "r_precision": "R-precision",
    "map": "MAP",
    "map_at_r": "MAP@R",
    "precision_at_1": "P@1",
}
NEAREST = 7  # references kept for each query, to be looked at
BLOCK = 4_000_000  # similarities held at once
REPLICATES = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """What became of Q queries.

    Attributes
    ----------
    values
        By the names of `METRICS`: float64 (Q,), NaN of lone ones.
    n_relevant
        int64 (Q,): references of its class; 0: lone.
    n_references
        int64 (Q,): of whatever class.
    shares
        float32 (Q, C): each class's share of the k nearest; NaN without any reference.
    predicted
        int64 (Q,): the class of most of the k nearest (of as many, that of the nearest); -1 without any.
    nearest
        int64 (Q, `NEAREST`): rows of references, nearest first; -1 where there are no more.
    """

    values: dict[str, np.ndarray]
    n_relevant: np.ndarray
    n_references: np.ndarray
    shares: np.ndarray
    predicted: np.ndarray
    nearest: np.ndarray

    @property
    def n_lone(self) -> int:
        """Queries without another of their class."""
        return int((self.n_relevant == 0).sum())


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of float (n, d) at length 1, float32; a row of zeros stays one."""
    x = np.asarray(x, np.float32)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1), np.float32)


def retrieve(
    queries: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    n_classes: int,
    references: np.ndarray | None = None,
    reference_labels: np.ndarray | None = None,
    reference_groups: np.ndarray | None = None,
    k: int = 10,
    seed: int = 0,
) -> Retrieval:
    """Rank all references of each query by cosine similarity.

    Parameters
    ----------
    queries
        float (Q, d), finite.
    labels, groups
        int (Q,): class, from 0 to `n_classes` - 1, and duplicate group.
    references, reference_labels, reference_groups
        (R, d), (R,) and (R,); None: the queries are each other's, each left out in turn.
    k
        How many of the nearest vote for the class.
    seed
        Of the order among equally far ones.
    """
    if references is None or reference_labels is None or reference_groups is None:
        references, reference_labels, reference_groups = queries, labels, groups
    order = np.random.default_rng([seed, 11]).permutation(len(references))
    x, theirs, their_groups = unit(references)[order], np.asarray(reference_labels)[order], reference_groups[order]
    n, m = len(queries), len(order)
    values = {name: np.full(n, np.nan) for name in METRICS}
    n_relevant, n_references = np.zeros(n, np.int64), np.zeros(n, np.int64)
    shares = np.full((n, n_classes), np.nan, np.float32)
    predicted, nearest = np.full(n, -1, np.int64), np.full((n, NEAREST), -1, np.int64)
    places = np.arange(1, m + 1)
    step, q = max(1, BLOCK // max(m, 1)), unit(queries)
    for start in range(0, n if m else 0, step):
        part = slice(start, min(start + step, n))
        distance = -(q[part] @ x.T)
        is_out = groups[part, None] == their_groups
        distance[is_out] = np.inf
        ranks = np.argsort(distance, axis=1, kind="stable")
        n_in = m - is_out.sum(1)
        found = theirs[ranks]
        is_there = places <= n_in[:, None]  # who is left out stands at the end
        hit = (found == np.asarray(labels)[part, None]) & is_there
        total = hit.sum(1)
        has = total > 0
        precision = np.cumsum(hit, axis=1) / places
        within = places <= total[:, None]
        safe = np.where(has, total, 1)
        for name, value in (
            ("r_precision", (hit & within).sum(1) / safe),
            ("map", (precision * hit).sum(1) / safe),
            ("map_at_r", (precision * (hit & within)).sum(1) / safe),
            ("precision_at_1", hit[:, 0].astype(float)),
        ):
            values[name][part] = np.where(has, value, np.nan)
        n_relevant[part], n_references[part] = total, n_in
        share, best = _voted(found[:, :k], is_there[:, :k], n_classes)
        shares[part], predicted[part] = share, best
        values["accuracy"][part] = np.where(has, best == np.asarray(labels)[part], np.nan)
        shown = min(NEAREST, m)
        nearest[part, :shown] = np.where(is_there[:, :shown], order[ranks[:, :shown]], -1)
    return Retrieval(values, n_relevant, n_references, shares, predicted, nearest)


def chance(n_relevant: np.ndarray, n_references: np.ndarray) -> np.ndarray:
    """Average precision that a random order has in the mean, float64 (Q,); NaN of lone queries.

    Of N places in a random order, place k holds one of R with probability R / N, and is preceded by (k - 1) (R - 1) /
    (N - 1) others of them: (H + (R - 1) (N - H) / (N - 1)) / N, where H is the sum of 1 / k up to N.
    """
    r, n = np.asarray(n_relevant, np.float64), np.asarray(n_references, np.float64)
    harmonic = np.cumsum(1 / np.arange(1, int(n.max(initial=1)) + 1))[np.maximum(n, 1).astype(np.int64) - 1]
    others = (r - 1) / np.maximum(n - 1, 1)
    return np.where(r > 0, (harmonic + others * (n - harmonic)) / np.maximum(n, 1), np.nan)


def vote(x: np.ndarray, references: np.ndarray, labels: np.ndarray, n_classes: int, k: int = 10) -> np.ndarray:
    """Each class's share of the k nearest references by cosine similarity, float32 (n, C).

    Parameters
    ----------
    x, references
        float (n, d) and (R, d), R > 0, finite.
    labels
        int (R,).
    """
    k, theirs = min(k, len(references)), unit(references)
    found = np.empty((len(x), n_classes), np.float32)
    step = max(1, BLOCK // len(references))
    for start in range(0, len(x), step):
        part = slice(start, min(start + step, len(x)))
        distance = -(unit(x[part]) @ theirs.T)
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        found[part] = _voted(labels[near], np.ones(near.shape, bool), n_classes)[0]
    return found


def _voted(found: np.ndarray, is_there: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the classes among those found, nearest first, (n, C); and which wins, -1 where nobody is."""
    counts = np.stack([((found == c) & is_there).sum(1) for c in range(n_classes)], 1).astype(np.float64)
    early = 0.5 ** (2.0 + np.arange(found.shape[1]))  # one nearer counts more than all behind it, and less than a vote
    first = np.stack([(((found == c) & is_there) * early).sum(1) for c in range(n_classes)], 1)
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return shares.astype(np.float32), np.where(total[:, 0] > 0, (counts + first).argmax(1), -1)


# ------------------------------------------------------------------------------------------------------ intervals
def mean(values: np.ndarray, groups: np.ndarray, seed: int = 0, replicates: int = REPLICATES) -> Figure:
    """Mean over queries with its 95 % interval: a percentile bootstrap that draws whole groups.

    The embedding and the references stay as they are: it says what other queries would give.

    Parameters
    ----------
    values
        float (Q,); NaN ones are in no mean. For a paired comparison: differences.
    groups
        int (Q,).
    """
    is_there = np.isfinite(values)
    if not is_there.any():
        return Figure(float("nan"), float("nan"), float("nan"))
    ids, of = np.unique(np.asarray(groups)[is_there], return_inverse=True)
    sums, counts = np.bincount(of, values[is_there]), np.bincount(of)
    weights = resampled(np.arange(len(ids)), replicates, np.random.default_rng([seed, 13]))
    drawn = np.concatenate([w @ sums / (w @ counts) for w in weights])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(float(sums.sum() / counts.sum()), float(low), float(high))


def mean_over_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the classes' means: rare ones count as much as common ones; NaN without any."""
    is_there = np.isfinite(values)
    own = [float(values[is_there & (labels == c)].mean()) for c in np.unique(labels[is_there])]
    return float(np.mean(own)) if own else float("nan")


def mean_of_classes(
    values: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0, replicates: int = REPLICATES
) -> Figure:
    """`mean_over_classes` with its 95 % interval, drawn as that of `mean`; classes that were not drawn are in none."""
    is_there = np.isfinite(values)
    if not is_there.any():
        return Figure(float("nan"), float("nan"), float("nan"))
    ids, of = np.unique(np.asarray(groups)[is_there], return_inverse=True)
    codes, code = np.unique(labels[is_there], return_inverse=True)
    sums, counts = np.zeros((2, len(ids), len(codes)))
    np.add.at(sums, (of, code), values[is_there])
    np.add.at(counts, (of, code), 1)
    drawn = []
    for w in resampled(np.arange(len(ids)), replicates, np.random.default_rng([seed, 13])):
        n = w @ counts
        drawn.append((np.divide(w @ sums, n, out=np.zeros_like(n, np.float64), where=n > 0)).sum(-1) / (n > 0).sum(-1))
    low, high = np.percentile(np.concatenate([np.atleast_1d(one) for one in drawn]), [2.5, 97.5])
    return Figure(mean_over_classes(values, labels), float(low), float(high))


def average(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Values of the same queries over several seeds, (Q,): their mean."""
    return np.asarray(np.mean(np.stack(runs), axis=0))
