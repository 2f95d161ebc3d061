"""How well a ranking finds what is looked for: AUC, average precision, number found in the first k, with intervals.

Higher scores come first. Intervals are percentile bootstraps that draw whole duplicate groups, so that one galaxy seen
twice counts as one (science rule 24).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

FIRST = (100, 200, 400)  # how far down the list a person may look
REPLICATES = 1000
BLOCK = 4_000_000  # counts held at once while resampling


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and the interval that holds it.

    Attributes
    ----------
    value, low, high
        The figure, and the 2.5 % and 97.5 % points of its bootstrap; NaN where it is not defined.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.spell(3, 2)

    def spell(self, digits: int, of_interval: int) -> str:
        """``.763 [.72, .81]`` with so many digits after the point."""
        if np.isnan(self.value):
            return "–"
        return f"{self.value:.{digits}f} [{self.low:.{of_interval}f}, {self.high:.{of_interval}f}]"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one score finds of one class.

    Attributes
    ----------
    n, n_positive
        Subjects with a score, and those of them that are looked for.
    auc
        Probability that a random positive scores above a random other; ties count half.
    average_precision
        Mean over the positives of the precision at their place in the list (the area under the precision–recall steps).
    found
        k → positives among the first k. Where a tie straddles the place k, the expected number.
    """

    n: int
    n_positive: int
    auc: Figure
    average_precision: Figure
    found: dict[int, Figure]


def judge(
    scores: np.ndarray,
    is_positive: np.ndarray,
    groups: np.ndarray | None = None,
    first: Sequence[int] = FIRST,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Judgement:
    """Judge a score by subjects whose class is known.

    Parameters
    ----------
    scores
        float (n,), higher is looked at earlier; NaN is left out, and counted out of `Judgement.n`.
    is_positive
        bool (n,).
    groups
        (n,), equal for images of the same thing; None takes every subject for itself.

    Raises
    ------
    ValueError
        Lengths differ.
    """
    if len(scores) != len(is_positive) or (groups is not None and len(groups) != len(scores)):
        raise ValueError(f"{len(scores)} scores, {len(is_positive)} classes: they must be of one length")
    known = np.isfinite(scores)
    scores, positive = np.asarray(scores, np.float64)[known], np.asarray(is_positive, bool)[known]
    codes = np.arange(len(scores)) if groups is None else np.unique(groups[known], return_inverse=True)[1]
    order = np.argsort(-scores, kind="stable")
    scores, positive, codes = scores[order], positive[order], codes[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.empty(0, int)
    plain = figures(np.ones((1, len(scores))), positive, ends, first)[:, 0]
    if np.isnan(plain[0]):
        drawn = np.full((len(plain), 1), np.nan)
    else:
        weights = resampled(codes, replicates, np.random.default_rng(seed))
        drawn = np.concatenate([figures(w, positive, ends, first) for w in weights], axis=1)
        drawn = drawn[:, ~np.isnan(drawn).any(0)]  # a replicate without any positive judges nothing
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
    auc, precision, *found = (Figure(*map(float, triple)) for triple in zip(plain, low, high, strict=True))
    return Judgement(len(scores), int(positive.sum()), auc, precision, dict(zip(first, found, strict=True)))


def resampled(codes: np.ndarray, replicates: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each subject is drawn when its groups are drawn with replacement, (some replicates, n) at a time."""
    n_groups = int(codes.max()) + 1
    step = max(1, BLOCK // len(codes))
    for start in range(0, replicates, step):
        count = min(step, replicates - start)
        drawn = random.integers(n_groups, size=(count, n_groups))
        flat = drawn + n_groups * np.arange(count)[:, None]
        yield np.bincount(flat.ravel(), minlength=count * n_groups).reshape(count, n_groups)[:, codes].astype(float)


def figures(weights: np.ndarray, positive: np.ndarray, ends: np.ndarray, first: Sequence[int]) -> np.ndarray:
    """AUC, average precision and numbers found of subjects in falling order of score, each counted `weights` times.

    Parameters
    ----------
    weights
        float (b, n), one row a replicate.
    positive
        bool (n,).
    ends
        int (m,): the last place of each run of equal scores.
    first
        How far down the list positives are counted; a tie across that place gives its share.

    Returns
    -------
    float (2 + len(first), b)
        Areas are NaN where a replicate lacks positives or others.
    """
    if not len(ends):
        return np.stack([np.full(len(weights), value) for value in (np.nan, np.nan, *[0.0] * len(first))])
    hits = np.cumsum(weights * positive, axis=1)[:, ends]  # positives down to and with each tie
    misses = np.cumsum(weights * ~positive, axis=1)[:, ends]
    new_hits, new_misses = (np.diff(a, prepend=0, axis=1) for a in (hits, misses))
    seen, new = hits + misses, new_hits + new_misses
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (new_hits * (misses[:, -1:] - misses + new_misses / 2)).sum(1) / (hits[:, -1] * misses[:, -1])
        average = (new_hits * np.where(seen > 0, hits / seen, 0)).sum(1) / hits[:, -1]
        shares = [np.where(new > 0, np.clip((k - (seen - new)) / new, 0, 1), 0) for k in first]
    average = np.where(np.isnan(auc), np.nan, average)
    return np.stack([auc, average, *((new_hits * share).sum(1) for share in shares)])
