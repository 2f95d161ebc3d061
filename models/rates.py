"""How good a cut is: rates as k of n with intervals, for one threshold, for all of them, and while one is moved.

A subject is kept or not, and its truth is positive, negative or unknown. Unknown ones are counted and are in no rate
but the kept fraction. Intervals are of 95 %: Wilson's for precision, recall, kept fraction and base rate; for F1 from
Wilson's of J = TP / (TP + FP + FN), as F1 = 2 J / (1 + J) rises with J. They say how far the rate of other subjects of
the same sky may be from that of these, so they do not shrink because every subject of a survey was counted.

References
----------
Wilson 1927, J. Am. Stat. Assoc. 22, 209 (interval of a share).
Takahashi, Yamamoto, Kuchiba & Koyama 2022, Appl. Intell. 52, 4961 (F1 by way of J).
Donner & Zou 2012, Stat. Methods Med. Res. 21, 347 (interval of a ratio of shares, from Wilson's).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.limits import is_single, nearest

#: Standard deviations of a 95 % interval.
Z95 = 1.959963984540054

#: How a truth knows: every subject; only some positive ones; those that were drawn to be verified.
Kind = Literal["complete", "positives_only", "verified"]
KINDS: tuple[Kind, ...] = ("complete", "positives_only", "verified")

AT_LEAST = "at least: a subject that is not marked is no negative"
NOTHING = "nothing is positive and nothing of known truth is kept"
NO_AUDIT = "not estimable: nothing below the cut was drawn at random and verified"


def wilson(k: Any, n: Any, z: float = Z95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of k of n.

    Parameters
    ----------
    k, n
        Counts, or effective counts, of any shapes that go together; 0 ≤ k ≤ n.
    z
        Standard deviations: 1.96 gives 95 %.

    Returns
    -------
    low, high
        float64: 0 and 1 exactly where k is 0 and n, and where n is 0.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    some = np.where(n > 0, n, 1.0)
    p, zz = k / some, z * z
    center, scale = p + zz / (2 * some), 1 + zz / some
    half = z * np.sqrt(p * (1 - p) / some + zz / (4 * some * some))
    low = np.where((k <= 0) | (n <= 0), 0.0, (center - half) / scale)
    high = np.where((k >= n) | (n <= 0), 1.0, (center + half) / scale)
    return low, high


def group_codes(groups: np.ndarray) -> np.ndarray:
    """Duplicate groups (N,) as codes from 0 on, int (N,); those that are nearly that stay as they are."""
    groups = np.asarray(groups)
    if groups.dtype.kind in "iu" and len(groups) and groups.min() >= 0 and groups.max() < 4 * len(groups):
        return groups
    return np.asarray(np.unique(groups, return_inverse=True)[1])


# -------------------------------------------------------------------------------------------------- counts and rates
@dataclass(frozen=True, slots=True)
class Counts:
    """Subjects by whether they are kept and what is true of them.

    Attributes
    ----------
    tp, fp
        Kept, and positive or not.
    fn, tn
        Not kept, and positive or not.
    kept_unknown
        Kept, of unknown truth.
    unknown
        Of unknown truth, kept or not.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    kept_unknown: int = 0
    unknown: int = 0

    @property
    def kept(self) -> int:
        """Subjects kept, whatever their truth."""
        return self.tp + self.fp + self.kept_unknown

    @property
    def known(self) -> int:
        """Subjects whose truth is known."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def n(self) -> int:
        """All subjects."""
        return self.known + self.unknown


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate and its 95 % interval.

    Attributes
    ----------
    k, n
        What was counted, value = k / n but of lift, whose k and n are those of recall; of F1, 2 TP of 2 TP + FP + FN.
        Whole numbers, or sums of probabilities where the truth is soft.
    value
        None where it cannot be estimated; `low` and `high` are None with it.
    note
        What must be said beside it, or "".
    """

    k: float
    n: float
    value: float | None
    low: float | None
    high: float | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        return {"k": self.k, "n": self.n, "value": self.value, "low": self.low, "high": self.high, "note": self.note}


def count(kept: np.ndarray, positive: np.ndarray, known: np.ndarray) -> Counts:
    """Count bool (N,) masks; `positive` means nothing where the truth is not `known`."""
    kept, positive, known = (np.asarray(mask, np.bool_) for mask in (kept, positive, known))
    if not kept.shape == positive.shape == known.shape:
        raise ValueError(f"kept, positive and known have shapes {kept.shape}, {positive.shape} and {known.shape}")
    positive = positive & known
    n_kept, n_known, n_positive = (int(np.count_nonzero(mask)) for mask in (kept, known, positive))
    n, kept_known, tp = kept.size, int(np.count_nonzero(kept & known)), int(np.count_nonzero(kept & positive))
    fp, fn = kept_known - tp, n_positive - tp
    return Counts(tp, fp, fn, n_known - tp - fp - fn, n_kept - kept_known, n - n_known)


def share(k: float, n: float, note: str = "", empty: str = "") -> Rate:
    """k of n with Wilson's interval; without a value where n is 0, and `empty` says why."""
    if not n > 0:
        return Rate(k, n, None, None, None, empty or note)
    low, high = wilson(k, n)
    return Rate(k, n, k / n, float(low), float(high), note)


def rates(counts: Counts, kind: Kind = "complete") -> dict[str, Rate]:
    """Precision, recall, F1, kept fraction, base rate and lift, as far as a truth of this kind gives them.

    Precision, recall and F1 are the standard ones. Lift is precision over base rate, which is recall over the kept
    fraction of the same subjects. Of *positives only*, everybody else stands for the rest: there is no F1, precision
    and base rate are lower limits. Of *verified* ones recall and what needs it is not estimable; where the verified
    were drawn with known probabilities, `models.weighted` estimates it.

    Raises
    ------
    ValueError
        No such kind.
    """
    if kind not in KINDS:
        raise ValueError(f'a truth is of kind "complete", "positives_only" or "verified", not "{kind}"')
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    kept = share(counts.kept, counts.n, empty="no subject")
    if kind == "verified":
        none = Rate(tp, 0, None, None, None, NO_AUDIT)
        precision = share(tp, tp + fp, "of those verified", "nothing that is kept was verified")
        return dict(zip(NAMES, (precision, none, none, kept, none, none), strict=True))
    at_least = AT_LEAST if kind == "positives_only" else ""
    return {
        "precision": share(tp, tp + fp, at_least, "nothing of known truth is kept"),
        "recall": share(tp, tp + fn, empty="no subject is positive"),
        "f1": Rate(tp, 0, None, None, None, AT_LEAST) if at_least else f1(tp, fp, fn),
        "kept": kept,
        "base": share(tp + fn, counts.known, at_least, "no subject of known truth"),
        "lift": lift(tp, fp, fn, tn),
    }


NAMES = ("precision", "recall", "f1", "kept", "base", "lift")


def f1(tp: float, fp: float, fn: float) -> Rate:
    """2 TP / (2 TP + FP + FN); see the module for its interval."""
    return f1_of_jaccard(share(tp, tp + fp + fn, empty=NOTHING))


def f1_of_jaccard(jaccard: Rate) -> Rate:
    """2 J / (1 + J), and so its limits: it rises with J."""
    if jaccard.value is None or jaccard.low is None or jaccard.high is None:
        return jaccard
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Rate(2 * jaccard.k, jaccard.n + jaccard.k, value, low, high, jaccard.note)


def ratio_interval(top: Sequence[float], bottom: Sequence[float]) -> tuple[float, float]:
    """The interval of a ratio of two independent numbers ≥ 0 (Donner & Zou's, "MOVER-R").

    Parameters
    ----------
    top, bottom
        Value, lower and upper limit of each; not both values are 0.

    Returns
    -------
    low, high
        From 0 to infinity.
    """
    (r, r_low, r_high), (f, f_low, f_high) = (map(float, given) for given in (top, bottom))
    product, above, below = r * f, f_high * (2 * f - f_high), f_low * (2 * f - f_low)
    span_low, span_high = r_low * (2 * r - r_low), r_high * (2 * r - r_high)
    divisor = product + math.sqrt(max(0.0, product**2 - span_low * above))
    low = span_low / divisor if divisor > 0 else 0.0
    high = (product + math.sqrt(max(0.0, product**2 - span_high * below))) / below if below > 0 else math.inf
    return low, high


def lift(tp: float, fp: float, fn: float, tn: float) -> Rate:
    """How many times the base rate the precision is: 1 for a random cut, at most 1 over the base rate.

    With r the kept share of the positive and f that of all others, it is 1 / (b + (1 - b) f / r) at base rate b, which
    rises with r / f; the interval is that of the ratio of two independent shares, for this base rate.
    """
    positives, others = tp + fn, fp + tn
    if not positives or not tp + fp:
        return Rate(tp, positives, None, None, None, "nothing of known truth is kept" if positives else "no positives")
    base = positives / (positives + others)

    def of_ratio(ratio: float) -> float:
        return 0.0 if ratio == 0 else 1 / (base + (1 - base) / ratio)  # infinite where no other one is kept

    value = tp / (tp + fp) / base
    if not others:
        return Rate(tp, positives, value, value, value)
    (r_low, f_low), (r_high, f_high) = wilson([tp, fp], [positives, others])
    low, high = ratio_interval((tp / positives, r_low, r_high), (fp / others, f_low, f_high))
    low, high = of_ratio(low), of_ratio(high)
    return Rate(tp, positives, value, min(low, value), max(high, value))


# ------------------------------------------------------------------------------------------- a threshold that moves
@dataclass(frozen=True, slots=True)
class Curve:
    """Rates against a threshold, float64 (k,) each; NaN where nothing was there to count.

    `tp`, `fp`, `fn`, `tn`, `kept_unknown` are int64 (k,).
    """

    x: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    kept: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray
    kept_unknown: np.ndarray


class Sweep:
    """One threshold of a boundary, or of a truth, ready to be moved: sorted once, two look-ups a move.

    A gate keeps low ≤ value ≤ high. As everything else of the boundary stands still, each subject needs only three
    answers: is it kept where the gate says yes, where it says no, and where it cannot say (`boundary.alternatives`).
    Thresholds are compared as `models.limits` says.

    Parameters
    ----------
    values
        Of the gate's column, float (N,), NaN where there is none.
    if_yes, if_no, if_unknown
        bool (N,): kept, if the gate answers so.
    positive, known
        bool (N,): the truth.
    tracked
        Rows int (k,) of each of m groups of subjects, whose kept members are counted along.
    order
        int (N,): rows in ascending order of value, NaN last, where it is known already.

    Raises
    ------
    ValueError
        Columns of unequal length, an order that is none, or a row that no subject has.
    """

    def __init__(
        self,
        values: np.ndarray,
        if_yes: np.ndarray,
        if_no: np.ndarray,
        if_unknown: np.ndarray,
        positive: np.ndarray,
        known: np.ndarray,
        tracked: Sequence[np.ndarray] | None = None,
        order: np.ndarray | None = None,
    ) -> None:
        values = np.asarray(values)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float64)
        masks = [np.asarray(m, np.bool_) for m in (if_yes, if_no, if_unknown, positive, known)]
        if values.ndim != 1 or any(mask.shape != values.shape for mask in masks):
            raise ValueError(f"the columns have shapes {values.shape}, {', '.join(str(m.shape) for m in masks)}")
        yes, no, unsure, positive, known = masks
        n = len(values)
        if order is None:
            order = np.argsort(values)
        elif order.shape != values.shape:
            raise ValueError(f"the order is of shape {order.shape}, the values of {values.shape}")
        ascending = values[order]
        n_valued = n - int(np.count_nonzero(np.isnan(values)))
        ascending, order = ascending[:n_valued], order[:n_valued]
        if (ascending[1:] < ascending[:-1]).any() or (n_valued and np.isnan(ascending).any()):
            raise ValueError("the order does not sort the values with NaN last")

        #: Values in ascending order, without the missing ones; and whether they are in single precision.
        self.values, self.is_single = ascending, is_single(ascending)
        self._first_finite = int(np.searchsorted(ascending, ascending.dtype.type(-np.inf), "right"))
        self._end_finite = int(np.searchsorted(ascending, ascending.dtype.type(np.inf), "left"))
        self.n = n
        valued = ~np.isnan(values) if n_valued < n else np.ones(n, np.bool_)
        resting = np.where(valued, no, unsure)  # kept, as if no value lay between the limits
        change = yes.astype(np.int8) - no.astype(np.int8)
        self._rest = count(resting, positive, known)
        sorted_change = change[order]
        truth = np.where(known, positive.astype(np.int8), np.int8(2))[order]  # 0 no, 1 yes, 2 unknown
        #: What each value adds to the kept: of those not positive, positive, unknown.
        self._sums = np.zeros((n_valued + 1, 3), np.int32)
        for code in range(3):
            np.cumsum(sorted_change * (truth == code), out=self._sums[1:, code])
        self.tracks = 0 if tracked is None else len(tracked)
        self._track(tracked or (), order, resting, change, valued)

    def _track(
        self,
        tracked: Sequence[np.ndarray],
        order: np.ndarray,
        resting: np.ndarray,
        change: np.ndarray,
        valued: np.ndarray,
    ) -> None:
        """Members of each group by place in the order, so that one search finds all m of them."""
        stride = len(order) + 1
        rows = np.concatenate([np.asarray(r, np.int64).ravel() for r in tracked] or [np.zeros(0, np.int64)])
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.n:
            raise ValueError(f"a tracked row goes up to {rows.max()} (from {rows.min()}); there are {self.n} subjects")
        group = np.repeat(np.arange(len(tracked)), [len(r) for r in tracked])
        self._at_rest = np.bincount(group, weights=resting[rows], minlength=len(tracked)).astype(np.int64)
        moving = valued[rows] & (change[rows] != 0)
        rows, group = rows[moving], group[moving]
        place = np.zeros(self.n, np.int64)
        place[order] = np.arange(len(order))
        # the sign rides in the lowest bit, so that one sort carries it along
        keys = np.sort(((group * stride + place[rows]) << 1) | (change[rows] > 0))
        self._keys = keys >> 1
        self._key_sums = np.zeros(len(keys) + 1, np.int64)
        np.cumsum((keys & 1) * 2 - 1, out=self._key_sums[1:])
        self._firsts = np.arange(len(tracked), dtype=np.int64) * stride

    def places(self, low: Any, high: Any) -> tuple[Any, Any]:
        """Places [first, end) among `values` of those in low … high; None is no limit. Of scalars or arrays."""
        first: Any = 0
        end: Any = len(self.values)
        if low is not None:
            first = np.searchsorted(self.values, self._nearest(low, True), "left")
        if high is not None:
            end = np.searchsorted(self.values, self._nearest(high, False), "right")
        return first, np.maximum(first, end)

    def _nearest(self, limit: Any, is_low: bool) -> np.ndarray:
        return nearest(limit, self.is_single, is_low).astype(self.values.dtype)

    def at(self, low: float | None = None, high: float | None = None) -> Counts:
        """Counts with low ≤ value ≤ high; None is no limit."""
        first, end = self.places(low, high)
        negative, positive, unknown = (self._sums[end] - self._sums[first]).tolist()
        rest = self._rest
        return Counts(
            rest.tp + positive,
            rest.fp + negative,
            rest.fn - positive,
            rest.tn - negative,
            rest.kept_unknown + unknown,
            rest.unknown,
        )

    def tracked_at(self, low: float | None = None, high: float | None = None) -> np.ndarray:
        """Kept members of each tracked group with low ≤ value ≤ high, int64 (m,)."""
        first, end = self.places(low, high)
        begins = np.searchsorted(self._keys, self._firsts + first, "left")
        ends = np.searchsorted(self._keys, self._firsts + end, "left")
        return np.asarray(self._at_rest + self._key_sums[ends] - self._key_sums[begins])

    def grid(self, k: int = 200) -> np.ndarray:
        """At most k thresholds, ascending: half at equal steps of value, half at equal steps of rank."""
        finite = self.values[self._first_finite : self._end_finite]
        if not len(finite):
            return np.zeros(0)
        places = np.linspace(0, len(finite) - 1, max(2, k - k // 2)).round().astype(np.int64)
        steps = np.linspace(float(finite[0]), float(finite[-1]), max(2, k // 2))
        return np.unique(np.concatenate([finite[places].astype(np.float64), steps]))

    def curve(
        self,
        k: int = 200,
        grid: np.ndarray | None = None,
        limit: Literal["low", "high"] = "low",
        other: float | None = None,
    ) -> Curve:
        """Rates against one limit while the other stands still.

        Parameters
        ----------
        k, grid
            How many thresholds (see `grid`), or which ones, float (k,).
        limit, other
            The limit that moves, and the value of the other one; None is none.
        """
        x = self.grid(k) if grid is None else np.asarray(grid, np.float64)
        first, end = self.places(x, other) if limit == "low" else self.places(other, x)
        change = self._sums[end].astype(np.int64) - self._sums[first]
        rest = self._rest
        tp, fp, kept_unknown = rest.tp + change[:, 1], rest.fp + change[:, 0], rest.kept_unknown + change[:, 2]
        fn, tn = rest.fn - change[:, 1], rest.tn - change[:, 0]
        return Curve(
            x,
            ratio(tp, tp + fp),
            ratio(tp, tp + fn),
            ratio(2 * tp, 2 * tp + fp + fn),
            ratio(tp + fp + kept_unknown, np.full(len(x), self.n)),
            *(tp, fp, fn, tn, kept_unknown),
        )


def ratio(k: np.ndarray, n: np.ndarray) -> np.ndarray:
    """k over n, float64; NaN where n is 0."""
    found: np.ndarray = np.divide(k, n, out=np.full(np.shape(n), np.nan), where=np.asarray(n) > 0)
    return found


# --------------------------------------------------------------------------------------------------- a whole ranking
class Ranked:
    """A score against a truth, at all thresholds at once: who has score ≥ threshold is kept.

    Parameters
    ----------
    scores
        float (N,). Who has none (NaN) is never kept: a positive one of them is missed at every threshold.
    positive, known
        bool (N,). Subjects of unknown truth are counted as such, and are in no curve.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray, known: np.ndarray) -> None:
        n = len(scores)
        always, never = np.ones(n, np.bool_), np.zeros(n, np.bool_)
        self._sweep = Sweep(scores, always, never, never, positive, known)
        self.n_positive = self._sweep.at().tp + self._sweep.at().fn

    def at(self, threshold: float) -> Counts:
        """Counts with score ≥ threshold kept."""
        return self._sweep.at(low=threshold)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision and recall at every score that a subject of known truth has, as scikit-learn gives them.

        Returns
        -------
        precision, recall
            float64 (T + 1,): the last entries, 1 and 0, belong to no threshold. Recall is NaN without a positive.
        thresholds
            (T,), ascending.
        """
        sums, values = self._sweep._sums, self._sweep.values
        known = sums[:, :2].sum(axis=1)
        at = np.flatnonzero(known[1:] > known[:-1])  # places of subjects of known truth
        firsts = at[np.append(True, values[at[1:]] != values[at[:-1]])] if len(at) else at
        tp = (sums[-1, 1] - sums[firsts, 1]).astype(np.float64)
        precision = ratio(tp, known[-1] - known[firsts])
        recall = ratio(tp, np.full(len(tp), self.n_positive))
        return np.append(precision, 1.0), np.append(recall, 0.0), values[firsts]

    @property
    def average_precision(self) -> float:
        """Mean precision over the steps of recall, as scikit-learn's; NaN without a positive."""
        precision, recall, _ = self.precision_recall()
        return float(-np.sum(np.diff(recall) * precision[:-1])) if self.n_positive else math.nan
