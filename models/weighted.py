"""Rates for a whole survey from a sample of it, drawn with known probabilities; and two cuts compared on the same sky.

Every subject that was drawn stands for 1 / π subjects, π its inclusion probability; a rate is the ratio of two such
sums (Hájek 1971). The subjects are taken apart into cells, by whether they are kept and by π, and each cell's share of
positives gets Wilson's interval at its effective number of subjects; these are put together by the square root of
summed squares (MOVER: Zou & Donner 2008). So a cell where nothing was found still says how much may be there: one
positive among those drawn of a hundred stands for a hundred, seen or not, and an interval from the variance of what
was seen would be far too short. With one π throughout, the intervals are those of `models.rates`.

The effective number is that of Kish, (Σw)² / Σw². Subjects of one duplicate group may all be the same object, so their
weights are summed before they are squared, unless the scatter between groups shows that they differ (linearised
variance by group). Of a soft truth, p (1 - p) of each subject counts into the scatter. Intervals take the survey as one
of many that the sky could have given, as Wilson's do of a survey counted as a whole: for the rates of exactly this
survey they are rather too wide.

References
----------
Hájek 1971, in Foundations of Statistical Inference, 236. Kish 1965, Survey Sampling.
Zou & Donner 2008, Stat. Med. 27, 1693; Donner & Zou 2012, Stat. Methods Med. Res. 21, 347 (ratios).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.rates import (
    AT_LEAST,
    KINDS,
    NAMES,
    NO_AUDIT,
    NOTHING,
    Z95,
    Kind,
    Rate,
    f1_of_jaccard,
    group_codes,
    ratio_interval,
    wilson,
)

#: Cells by π at most; where there are more different π, neighbors go together.
MAX_STRATA = 12

WEIGHTED = "weighted by inclusion probability"


def weighted(
    kept: np.ndarray,
    p_positive: np.ndarray,
    known: np.ndarray,
    inclusion_probability: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    kind: Kind = "complete",
    drawn: np.ndarray | None = None,
) -> dict[str, Rate]:
    """The rates of `models.rates.rates`, for the survey that the subjects were drawn from; and of a soft truth.

    Parameters
    ----------
    kept
        bool (N,).
    p_positive
        Probability in [0, 1] that a subject is positive, float (N,); 0 or 1 (or bool) of a truth that is not soft.
        What it says where the truth is not `known` is not read.
    known
        bool (N,).
    inclusion_probability
        π in (0, 1], float (N,); NaN or 0 of what could not be drawn. None: all count alike.
    groups
        Duplicate group of each, int (N,); None: each its own.
    kind
        Of the truth.
    drawn
        bool (N,): who was drawn, where the subjects that were not are among the N too; None: all that have a π.

    Returns
    -------
    rates
        By the names of `models.rates.NAMES`. Recall and what needs it has no value where subjects below the cut could
        not be drawn, or none of those drawn has a known truth; k and n are those of the subjects that were drawn.

    Raises
    ------
    ValueError
        Columns of unequal length, a probability outside its range, no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f'a truth is of kind "complete", "positives_only" or "verified", not "{kind}"')
    kept, known = np.asarray(kept, np.bool_), np.asarray(known, np.bool_)
    pi = np.ones(kept.shape) if inclusion_probability is None else np.asarray(inclusion_probability, np.float64)
    can = pi > 0  # NaN is not
    drawn = can if drawn is None else np.asarray(drawn, np.bool_) & can
    group = np.arange(len(kept)) if groups is None else np.asarray(groups)
    p = np.asarray(p_positive)
    if any(column.shape != kept.shape for column in (p, known, pi, group, drawn)):
        raise ValueError(f"the columns have shapes {', '.join(str(c.shape) for c in (kept, p, known, pi, group))}")
    p = np.where(known, p.astype(np.float64), 0.0)
    if not (np.all((p >= 0) & (p <= 1)) and np.all(pi[can] <= 1)):
        raise ValueError("a probability, of being positive or of inclusion, lies outside 0 to 1")

    missed = int(np.count_nonzero(~can & kept)), int(np.count_nonzero(~can & ~kept))
    sample = _Sample.of(kept[drawn], p[drawn], known[drawn], pi[drawn], group[drawn])
    note = WEIGHTED if sample.n_strata > 1 else ""
    limit = "; ".join(filter(None, (note, AT_LEAST))) if kind == "positives_only" else note
    found = {
        "precision": sample.precision(limit),
        "recall": sample.recall(note),
        "f1": Rate(sample.tp, 0, None, None, None, AT_LEAST) if kind == "positives_only" else sample.f1(note),
        "kept": sample.kept_fraction(note),
        "base": sample.base(limit),
    }
    found["lift"] = sample.lift(found["recall"], note)
    why = ""
    if any(missed):
        n, where = (missed[1], "below the cut") if missed[1] else (missed[0], "that are kept")
        why = f"not estimable: {n:,} subject{'s' * (n > 1)} {where} could not be drawn"
    elif not sample.is_audited:
        why = NO_AUDIT
    for name in NAMES:
        if (name == "precision" and missed[0]) or (name == "kept" and any(missed)) or (name not in ABOVE and why):
            found[name] = _none(found[name].k, 0, why)
    return {name: found[name] for name in NAMES}


#: What subjects above the cut suffice for, and what needs no truth.
ABOVE = ("precision", "kept")


def _none(k: float, n: float, why: str) -> Rate:
    return Rate(k, n, None, None, None, why)


@dataclass(frozen=True, slots=True)
class _Cell:
    """Drawn subjects of like π: how many they stand for, by how many of effect, and which share with its arms."""

    size: float
    n: float
    share: float
    below: float
    above: float


@dataclass(frozen=True, slots=True)
class _Sample:
    """The drawn subjects; `p` is 0 where the truth is not `known`."""

    kept: np.ndarray
    p: np.ndarray
    known: np.ndarray
    weight: np.ndarray
    stratum: np.ndarray
    n_strata: int
    group: np.ndarray | None  # codes from 0; None where no two share one
    tp: float
    fp: float
    positives: float
    size_in: float  # weights of those of known truth that are kept, and of all
    size: float

    @classmethod
    def of(cls, kept: np.ndarray, p: np.ndarray, known: np.ndarray, pi: np.ndarray, group: np.ndarray) -> _Sample:
        stratum = strata(pi)
        n_strata = int(stratum.max(initial=0)) + 1
        weight = np.ones(len(pi)) if n_strata == 1 else 1 / pi
        codes = _codes(group)
        tp, n_in = _whole(p[kept].sum()), int(np.count_nonzero(kept & known))
        size_in, size = float(weight[kept & known].sum()), float(weight[known].sum())
        positives = _whole(p.sum())
        return cls(kept, p, known, weight, stratum, n_strata, codes, tp, n_in - tp, positives, size_in, size)

    @property
    def is_audited(self) -> bool:
        """Something below the cut has a known truth, or nothing is below it."""
        return bool(np.all(self.kept) or np.any(self.known & ~self.kept))

    def precision(self, note: str) -> Rate:
        chosen = self.kept & self.known
        return self._share(chosen, self.p, self.tp, self.tp + self.fp, note, "nothing of known truth is kept")

    def base(self, note: str) -> Rate:
        n = int(np.count_nonzero(self.known))
        return self._share(self.known, self.p, self.positives, n, note, "no subject of known truth")

    def kept_fraction(self, note: str) -> Rate:
        k, n, share = int(np.count_nonzero(self.kept)), len(self.kept), self.kept.astype(np.float64)
        return self._share(np.ones(n, np.bool_), share, k, n, note, "no subject")

    def recall(self, note: str) -> Rate:
        if not self.positives > 0:
            return _none(self.tp, self.positives, "no subject is positive")
        if self.n_strata == 1:
            value = self.tp / self.positives
            return self._wilson(self.tp, self.positives, self.kept - value, self.p, note)
        found, lost = (self._total(self.known & side, self.p) for side in (self.kept, ~self.kept))
        return Rate(self.tp, self.positives, *_part(found, lost), note)

    def lift(self, recall: Rate, note: str) -> Rate:
        """Recall over the kept fraction of those of known truth: which rise together, so rather too wide."""
        if recall.value is None or recall.low is None or recall.high is None:
            return recall
        if not self.size_in > 0:
            return _none(recall.k, recall.n, "nothing of known truth is kept")
        share, n = (self.kept & self.known).astype(np.float64), int(np.count_nonzero(self.known))
        part = self._share(self.known, share, int(share.sum()), n, note, "")
        assert part.value is not None and part.low is not None and part.high is not None
        limits = ratio_interval((recall.value, recall.low, recall.high), (part.value, part.low, part.high))
        return Rate(recall.k, recall.n, recall.value / part.value, *limits, note)

    def f1(self, note: str) -> Rate:
        union = self.fp + self.positives
        if not union > 0:
            return _none(self.tp, union, NOTHING)
        if self.n_strata == 1:
            # of J: a kept one is in the union, a positive one in the intersection too; a lost one if it is positive
            value = self.tp / union
            residual = np.where(self.kept, np.where(self.known, self.p - value, 0.0), -value * self.p)
            scatter = np.where(self.kept, 1.0, value**2) * self.p * (1 - self.p)
            weight = np.where(self.kept, self.known, self.p)
            return f1_of_jaccard(_effective(self.tp, union, note, self._effect(residual, scatter, weight)))
        found = self._total(self.known & self.kept, self.p)
        wrong = self._total(self.known, np.where(self.kept, 1 - self.p, self.p))
        return f1_of_jaccard(Rate(self.tp, union, *_part(found, wrong), note))

    def _wilson(self, k: float, n: float, deviation: np.ndarray, p: np.ndarray, note: str) -> Rate:
        """k of n, sums of p; of each subject, how far it deviates from k over n where it counts."""
        return _effective(k, n, note, self._effect(p * deviation, p * (1 - p) * deviation**2, p))

    def _cells(self, chosen: np.ndarray, share: np.ndarray) -> Iterator[_Cell]:
        for h in range(self.n_strata):
            rows = np.flatnonzero(chosen & (self.stratum == h))
            if not len(rows):
                continue
            w, x = self.weight[rows], share[rows]
            size = float(w.sum())
            mean = min(1.0, _dot(w, x) / size)
            n = size**2 / _dot(w, w)
            effect, most = 1.0, 1.0
            if self.group is not None:
                effect, most = _effects(self.group[rows], w * (x - mean), w**2 * x * (1 - x), w)
            low, high = wilson(mean * n / effect, n / effect)
            yield _Cell(size, n / most, mean, mean - float(low), float(high) - mean)

    def _share(self, chosen: np.ndarray, share: np.ndarray, k: float, n: float, note: str, empty: str) -> Rate:
        """The mean share of the chosen."""
        if not n:
            return _none(k, n, empty)
        if self.n_strata == 1:
            x = share[chosen]
            effect = self._effect(x - k / n, x * (1 - x), np.ones(len(x)), chosen)
            return _effective(k, n, note, effect)
        cells = list(self._cells(chosen, share))
        size = sum(cell.size for cell in cells)
        value = sum(cell.size * cell.share for cell in cells) / size
        below = above = 0.0
        for cell in cells:
            between = (Z95 * cell.size * (cell.share - value)) ** 2 / cell.n  # as large a cell is not sure
            below += (cell.size * cell.below) ** 2 + between
            above += (cell.size * cell.above) ** 2 + between
        low, high = value - math.sqrt(below) / size, value + math.sqrt(above) / size
        return Rate(k, n, value, max(0.0, low), min(1.0, high), note)

    def _total(self, chosen: np.ndarray, share: np.ndarray) -> tuple[float, float, float]:
        """Σ w x over the chosen and its interval: how large each cell is, and what share of it, are both not sure."""
        value = below = above = 0.0
        for cell in self._cells(chosen, share):
            value += cell.size * cell.share
            center, half = Z95**2 / 2, Z95 * math.sqrt(cell.n + Z95**2 / 4)  # score interval of a Poisson number
            below += cell.size**2 * (cell.below**2 + (cell.share * (half - center) / cell.n) ** 2)
            above += cell.size**2 * (cell.above**2 + (cell.share * (half + center) / cell.n) ** 2)
        return value, max(0.0, value - math.sqrt(below)), value + math.sqrt(above)

    def _effect(
        self, residual: np.ndarray, scatter: np.ndarray, weight: np.ndarray, rows: np.ndarray | None = None
    ) -> float:
        if self.group is None:
            return 1.0
        return _effects(self.group if rows is None else self.group[rows], residual, scatter, weight)[0]


def _effects(group: np.ndarray, residual: np.ndarray, scatter: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """By how much duplicate groups widen a variance, ≥ 1, and by how much if each were one object.

    Parameters
    ----------
    group
        Codes from 0, int (n,).
    residual, scatter
        What each subject adds to the estimate's error, and the variance of that where its truth is soft; (n,).
    weight
        How much each counts, (n,).
    """
    squares = _dot(weight, weight)
    if not squares > 0:
        return 1.0, 1.0
    most = float((np.bincount(group, weight) ** 2).sum()) / squares
    seen = _dot(residual, residual) + float(scatter.sum())
    if not seen > 0:
        return most, most
    grouped = (np.bincount(group, residual) ** 2).sum() + (np.bincount(group, np.sqrt(scatter)) ** 2).sum()
    return min(max(1.0, float(grouped) / seen), most), most


def _dot(x: np.ndarray, y: np.ndarray) -> float:
    """Σ x y without threads: theirs wait for each other on a busy machine."""
    return float(np.einsum("i,i", x, y))


def _effective(k: float, n: float, note: str, effect: float) -> Rate:
    low, high = wilson(k / effect, n / effect)
    return Rate(k, n, k / n, float(low), float(high), note)


def _part(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    """The first's part of both, with its limits: r / (1 + r) rises with their ratio r."""
    low, high = (1.0 if math.isinf(r) else r / (1 + r) for r in ratio_interval(one, other))
    return one[0] / (one[0] + other[0]), low, high


def _whole(total: Any) -> float:
    """Counts stay whole numbers."""
    return int(total) if float(total).is_integer() else float(total)


def _codes(group: np.ndarray) -> np.ndarray | None:
    """Groups from 0 on; None where each has one member."""
    codes = group_codes(group)
    return codes if len(codes) and np.bincount(codes).max() > 1 else None


def strata(inclusion_probability: np.ndarray) -> np.ndarray:
    """Which of at most `MAX_STRATA` strata of like π each subject is in, int (N,): equal ones where there are few."""
    distinct, codes, counts = np.unique(inclusion_probability, return_inverse=True, return_counts=True)
    if len(distinct) <= MAX_STRATA:
        return np.asarray(codes)
    upto = np.cumsum(counts) - counts
    merged = np.minimum(upto * MAX_STRATA // len(inclusion_probability), MAX_STRATA - 1)
    return np.asarray(np.unique(merged, return_inverse=True)[1][codes])


# ------------------------------------------------------------------------------------------------ two cuts compared
#: Different kinds of groups above which the interval is linearised instead of resampled.
MOST_KINDS = 20_000
BLOCK = 4_000_000  # numbers held at once while resampling


@dataclass(frozen=True, slots=True)
class Difference:
    """What one cut has more than another, with its 95 % interval; None throughout where it cannot be estimated."""

    one: float | None
    other: float | None
    value: float | None
    low: float | None
    high: float | None


def top(scores: np.ndarray, fraction: float) -> np.ndarray:
    """How much of each subject is kept when exactly so much of all is: 1 of the highest, 0 of the lowest.

    Subjects with the score at the edge share what is left among them: as if the order of equal ones were drawn, many
    times. Who has no score (NaN) comes last.

    Parameters
    ----------
    scores
        float (N,).
    fraction
        In 0 … 1.

    Returns
    -------
    kept
        float64 (N,); sums up to fraction · N.
    """
    scores = np.asarray(scores, np.float64)
    n = len(scores)
    wanted = min(max(fraction, 0.0), 1.0) * n
    filled = np.where(np.isnan(scores), -np.inf, scores)
    if not n or not wanted:
        return np.zeros(n)
    place = n - min(n, math.ceil(wanted))
    edge = np.partition(filled, place)[place]
    above, equal = filled > edge, filled == edge
    return np.asarray(above + equal * ((wanted - above.sum()) / equal.sum()))


def paired(
    kept_a: np.ndarray,
    kept_b: np.ndarray,
    p_positive: np.ndarray,
    groups: np.ndarray | None = None,
    reps: int = 2000,
    known: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Difference]:
    """Precision and recall of a cut A less those of a cut B of the same subjects, at equal kept fraction.

    Both cuts are judged by the same subjects, so the interval is of the paired difference: duplicate groups are drawn
    with replacement, and its 2.5 % and 97.5 % points taken. Of a truth with more than `MOST_KINDS` different kinds of
    groups the variance is linearised instead, which is nearly the same with so many.

    Parameters
    ----------
    kept_a, kept_b
        bool or float (N,), or (S, N) of S seeds of a training, which are averaged.
    p_positive
        Probability in [0, 1], or truth, (N,).
    groups
        Duplicate group of each, int (N,); None: each its own.
    reps
        Drawings.
    known
        bool (N,): whose truth is known; None: all.

    Returns
    -------
    differences
        Of "precision" and "recall".

    Raises
    ------
    ValueError
        Columns of unequal length; or one cut keeps over 1 % more than the other.
    """
    p = np.asarray(p_positive, np.float64)
    a, b = (np.asarray(kept, np.float64) for kept in (kept_a, kept_b))
    a, b = (kept.mean(axis=0) if kept.ndim == 2 else kept for kept in (a, b))
    group = np.arange(len(p)) if groups is None else group_codes(groups)
    if not p.shape == a.shape == b.shape == group.shape:
        raise ValueError(f"the columns have shapes {a.shape}, {b.shape}, {p.shape} and {group.shape}")
    if abs(a.sum() - b.sum()) > max(1.0, 0.01 * min(a.sum(), b.sum())):
        one, other = 100 * a.mean(), 100 * b.mean()
        raise ValueError(f"the one cut keeps {one:.3g} %, the other {other:.3g} %: they compare at equal kept fraction")
    if known is not None:
        a, b, p, group = a[known], b[known], p[known], group[known]
    # of each group: what A and B keep of the positive, what they keep, and the positive
    sums = np.stack([np.bincount(group, column) for column in (a * p, b * p, a, b, p)], axis=1)
    sums = sums[np.bincount(group, minlength=len(sums)) > 0]
    names = {"precision": (2, 3), "recall": (4, 4)}
    total = sums.sum(axis=0)
    none = Difference(None, None, None, None, None)
    found = {
        name: none if total[i] <= 0 or total[j] <= 0 else (total[0] / total[i], total[1] / total[j])
        for name, (i, j) in names.items()
    }
    # equal rows have equal projections, and one column sorts faster than five
    projected = sums.round(12) @ np.random.default_rng(0).random(sums.shape[1])
    _, first, times = np.unique(projected, return_index=True, return_counts=True)
    kinds = sums[first]
    draws = _drawn(kinds, times, reps, seed) if len(kinds) <= MOST_KINDS else None
    result = {}
    for name, (i, j) in names.items():
        rates = found[name]
        if isinstance(rates, Difference):
            result[name] = rates
            continue
        one, other = (float(rate) for rate in rates)
        if draws is None:
            influence = (sums[:, 0] - one * sums[:, i]) / total[i] - (sums[:, 1] - other * sums[:, j]) / total[j]
            half = Z95 * math.sqrt(float(influence @ influence))
            low, high = one - other - half, one - other + half
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                differences = draws[:, 0] / draws[:, i] - draws[:, 1] / draws[:, j]
            differences = differences[np.isfinite(differences)]
            if len(differences) < 0.95 * reps:  # too few positives to resample
                result[name] = Difference(one, other, one - other, None, None)
                continue
            low, high = (float(q) for q in np.quantile(differences, (0.025, 0.975)))
        result[name] = Difference(one, other, one - other, low, high)
    return result


def _drawn(kinds: np.ndarray, times: np.ndarray, reps: int, seed: int) -> np.ndarray:
    """Sums (reps, 5) over groups drawn with replacement: groups of the same kind need not be told apart."""
    random, share = np.random.default_rng(seed), times / times.sum()
    block = max(1, BLOCK // len(kinds))
    parts = [random.multinomial(times.sum(), share, size=min(block, reps - at)) @ kinds for at in range(0, reps, block)]
    return np.concatenate(parts) if parts else np.zeros((0, kinds.shape[1]))
