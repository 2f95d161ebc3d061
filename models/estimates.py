"""Two scores judged by the same graded subjects, for the survey that these were drawn from.

Every subject stands for 1 / π, π the probability with which it was drawn; average precision, AUC and the number found
in the first k are those of the survey's list, and their difference has an interval that draws whole duplicate groups,
the same ones for both scores (science rules 7, 8, 24). Where subjects were chosen, not drawn, nothing about the survey
can be said; then all π are 1, and the figures are of those that were graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.judging import FIRST, Figure, figures, resampled

REPLICATES = 1000


@dataclass(frozen=True, slots=True)
class Compared:
    """Figures of a new score, of an old one, and new less old.

    Attributes
    ----------
    n, n_positive
        Subjects that both scores have, and those of them that are looked for; as counted, not weighted.
    of
        For how many subjects they stand.
    new, old, difference
        By name: "AUC", "average precision", and "found in the first k". `old` and `difference` are empty without one.
    """

    n: int
    n_positive: int
    of: float
    new: dict[str, Figure]
    old: dict[str, Figure]
    difference: dict[str, Figure]


def compare(
    new: np.ndarray,
    old: np.ndarray | None,
    positive: np.ndarray,
    inclusion: np.ndarray,
    groups: np.ndarray,
    first: Sequence[int] = FIRST,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Compared:
    """Judge a score, and beside it an old one, by subjects whose grade is known.

    Parameters
    ----------
    new, old
        float (n,), higher is looked at earlier; who lacks one is left out of both.
    positive
        bool (n,).
    inclusion
        π in (0, 1], float (n,).
    groups
        (n,), equal where two show the same sky.
    first
        How far down the survey's list a person may look; what is beyond its end is left out.
    """
    known = np.isfinite(new) & (np.isfinite(old) if old is not None else True)
    new, positive, weight = new[known].astype(np.float64), positive[known].astype(bool), 1 / inclusion[known]
    scores = [new] if old is None else [new, old[known].astype(np.float64)]
    total = float(weight.sum())
    first = [k for k in first if k < total]
    names = ["AUC", "average precision", *(f"found in the first {k:,}" for k in first)]
    orders = [np.argsort(-score, kind="stable") for score in scores]
    ends = [np.flatnonzero(np.append(np.diff(s[o]) != 0, True)) for s, o in zip(scores, orders, strict=True)]

    def at(weights: np.ndarray) -> np.ndarray:
        """(scores, figures, b)."""
        return np.stack([figures(weights[:, o], positive[o], e, first) for o, e in zip(orders, ends, strict=True)])

    if not len(new):
        return Compared(0, 0, 0.0, {}, {}, {})
    plain = at(weight[None])[..., 0]
    codes = np.unique(groups[known], return_inverse=True)[1]
    random = np.random.default_rng(seed)
    drawn = np.concatenate([at(w * weight) for w in resampled(codes, replicates, random)], axis=2)
    drawn = drawn[:, :, np.isfinite(drawn).all((0, 1))]  # without any positive nothing is judged

    def told(value: np.ndarray, draws: np.ndarray) -> dict[str, Figure]:
        if not draws.shape[1]:
            return {name: Figure(float(v), np.nan, np.nan) for name, v in zip(names, value, strict=True)}
        low, high = np.percentile(draws, [2.5, 97.5], axis=1)
        return {n: Figure(float(v), float(a), float(b)) for n, v, a, b in zip(names, value, low, high, strict=True)}

    found = [told(p, d) for p, d in zip(plain, drawn, strict=True)]
    none: dict[str, Figure] = {}
    both = told(plain[0] - plain[1], drawn[0] - drawn[1]) if old is not None else none
    return Compared(len(new), int(positive.sum()), total, found[0], found[1] if old is not None else none, both)
