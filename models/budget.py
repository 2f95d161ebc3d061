"""What looking buys: interesting subjects found against subjects looked at, in the order of a score or a boundary.

The band of an order is Wilson's interval of the share found among those looked at so far, times their number: how many
would be found among as many subjects of other sky, put in order by the same score. As subjects of one duplicate group
may be one object, as many look-ups count as they are worth by Kish, (Σ m)² / Σ m² over the groups' m among them. A
bootstrap by group would give nearly the same band, a thousand sorts later. The band of a random order is another thing:
where the number found lies in 95 of 100 random orders of exactly these subjects, hypergeometric and in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from models.rates import Z95, group_codes, wilson

#: Places along a curve that are told, unless others are asked for.
POINTS = 200


@dataclass(frozen=True, slots=True)
class Budget:
    """Found against looked at, along an order.

    Attributes
    ----------
    looked
        Subjects looked at, int64 (T,), ascending.
    found, low, high
        Interesting ones among them, and the band; float64 (T,).
    """

    looked: np.ndarray
    found: np.ndarray
    low: np.ndarray
    high: np.ndarray


def places(n: int, k: int = POINTS) -> np.ndarray:
    """At most k numbers from 0 to n, int64: half at equal steps, half at equal ratios, so that the start is seen."""
    if n <= k:
        return np.arange(n + 1)
    even, ratios = np.linspace(0, n, k // 2), np.geomspace(1, n, k - k // 2)
    return np.unique(np.concatenate([even, ratios]).round().astype(np.int64))


def budget(
    scores: np.ndarray,
    p_positive: np.ndarray,
    known: np.ndarray,
    looked: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Budget:
    """Look at the highest scores first.

    Among equal scores the order is random, and what is found of them the mean over all such orders: so a boundary is a
    score of 1 inside and 0 outside. Who has no score (NaN) comes last.

    Parameters
    ----------
    scores
        float or bool (N,).
    p_positive
        Probability in [0, 1], or truth, of each, (N,).
    known
        bool (N,). Subjects of unknown truth are left out: nobody could say whether one was found.
    looked
        Numbers of subjects of known truth looked at, int (T,), ascending, from 0 to as many as there are; None:
        `places`.
    groups
        Duplicate group of each, int (N,); None: each its own.

    Raises
    ------
    ValueError
        Columns of unequal length, or more looked at than there are.
    """
    scores, known = np.asarray(scores), np.asarray(known, np.bool_)
    if not scores.shape == known.shape == np.shape(p_positive) or (groups is not None and groups.shape != scores.shape):
        raise ValueError(f"scores, truth and known have shapes {scores.shape}, {np.shape(p_positive)}, {known.shape}")
    if scores.dtype != np.float32:
        scores = scores.astype(np.float64)
    rows = np.flatnonzero(known)
    values, p = scores[rows], np.asarray(p_positive)[rows].astype(np.float64)
    n = len(rows)
    at = places(n) if looked is None else np.asarray(looked, np.int64)
    if len(at) and not 0 <= at.min() <= at.max() <= n:
        raise ValueError(f"{at.max():,} subjects (from {at.min():,}) cannot be looked at: the truth of {n:,} is known")
    order = np.argsort(-values)  # NaN last
    ordered = values[order]
    new = np.ones(n, np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]) & ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    starts = np.append(np.flatnonzero(new), n)  # of the blocks of equal scores, and their end
    sums = np.append(0.0, np.cumsum(p[order]))[starts]
    found = np.interp(at, starts, sums)

    effect = np.ones(len(at))
    if groups is not None and n:
        effect = _crowding(group_codes(groups[rows])[order], at)
    number = at / effect
    low, high = wilson(np.minimum(found / effect, number), number)
    return Budget(at, found, low * at, high * at)


def random(p_positive: np.ndarray, known: np.ndarray, looked: np.ndarray | None = None) -> Budget:
    """Look in random order: the mean number found, and where it lies in 95 of 100 orders. Parameters as of `budget`.

    Of a truth that is not soft the limits are quantiles of the hypergeometric distribution; of a soft one normal, with
    the scatter of the truth itself.
    """
    p = np.asarray(p_positive)[np.asarray(known, np.bool_)].astype(np.float64)
    n = len(p)
    at = places(n) if looked is None else np.asarray(looked, np.int64)
    mean = at * (p.mean() if n else 0.0)
    if np.array_equal(p, p.round()):
        low, high = (hypergeom.ppf(q, n, int(p.sum()), at) for q in (0.025, 0.975))
        low, high = (np.clip(np.nan_to_num(limit), 0, at) for limit in (low, high))
        return Budget(at, mean, low, high)
    scatter = at * (n - at) / max(1, n - 1) * p.var() + at / n * (p * (1 - p)).sum()
    half = Z95 * np.sqrt(scatter)
    return Budget(at, mean, np.clip(mean - half, 0, at), np.clip(mean + half, 0, at))


def _crowding(group: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Σ m² / Σ m over the groups' members m among the first `at` in order, ≥ 1; group codes (N,) in that order."""
    counts = np.bincount(group)
    shared = np.flatnonzero(counts[group] > 1)
    by_group = shared[np.argsort(group[shared], kind="stable")]
    several = counts[counts > 1]
    before = np.zeros(len(group), np.int64)  # members of the same group earlier in the order
    before[by_group] = np.arange(len(by_group)) - np.repeat(np.cumsum(several) - several, several)
    squares = np.append(0, np.cumsum(2 * before + 1))[at]  # m² is the sum of the first m odd numbers
    return np.where(at > 0, squares / np.maximum(at, 1), 1.0)
