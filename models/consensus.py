"""What a crowd says of each subject: k of n, by views and by volunteers, with intervals, entropy and weights.

A *view* is one classification of one subject. One volunteer may view a subject more than once; counted by volunteers,
the first view alone is taken (science rule 9), with all the answers that it gave. Numerator and denominator of a
fraction always come from the same counting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numba import njit
from scipy.interpolate import RectBivariateSpline
from scipy.special import betaincinv

Basis = Literal["views", "volunteers"]

#: From so many different pairs (k, n) on, the Beta quantiles are read off a spline: within 1e-6 of the exact ones.
MANY_PAIRS = 20_000
SPLINE_STEP = 0.08  # of its knots, in the logarithm of either of Beta's parameters

_jit = njit(cache=True, nogil=True)


@dataclass(frozen=True)
class Votes:
    """The votes of one question (one task of one workflow), coded; rows in the order of time.

    Attributes
    ----------
    subject
        int32 (M,), 0…n_subjects−1.
    volunteer
        int32 (M,), 0…n_volunteers−1.
    classification
        int64 (M,). Rows of the same classification, volunteer and subject are one view with several answers; they
        follow each other among the rows of that volunteer and subject, and none stands twice.
    answer
        int16 (M,): index into `answers`, −1 where nothing was chosen.
    n_subjects, n_volunteers
        How many there are, with those who have no vote here.
    answers
        What may be answered.

    Raises
    ------
    ValueError
        Columns of unequal length, or a code out of its range.
    """

    subject: np.ndarray
    volunteer: np.ndarray
    classification: np.ndarray
    answer: np.ndarray
    n_subjects: int
    n_volunteers: int
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.subject.shape
        for name, low, n in (
            ("subject", 0, self.n_subjects),
            ("volunteer", 0, self.n_volunteers),
            ("answer", -1, len(self.answers)),
            ("classification", None, None),
        ):
            column = getattr(self, name)
            if column.ndim != 1 or column.shape != shape:
                raise ValueError(f"column {name} of the votes has shape {column.shape}, not that of subject, {shape}")
            if not np.issubdtype(column.dtype, np.integer):
                raise ValueError(f"column {name} of the votes holds {column.dtype}, not whole numbers")
            if low is not None and n is not None and len(column) and not low <= column.min() <= column.max() < n:
                found = f"{column.min()} to {column.max()}"
                raise ValueError(f"column {name} of the votes goes from {found}; its codes go from {low} to {n - 1}")

    @cached_property
    def by_subject(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows by subject, in the order of time: subject s has ``rows[starts[s]:starts[s + 1]]``.

        Returns
        -------
        starts
            int64 (n_subjects + 1,).
        rows
            int64 (M,).
        """
        starts, rows = _by_subject(self.subject, self.n_subjects)
        return starts, rows

    @cached_property
    def opens(self) -> np.ndarray:
        """Rows that are the first of a view: bool (M,). There are as many as views."""
        return self._marks[0]

    @cached_property
    def is_first(self) -> np.ndarray:
        """Rows of a volunteer's first view of that subject, all its answers: bool (M,)."""
        return self._marks[1]

    @cached_property
    def _marks(self) -> tuple[np.ndarray, np.ndarray]:
        starts, rows = self.by_subject
        opens, is_first = _marks(starts, rows, self.volunteer, self.classification, self.n_volunteers)
        return opens, is_first

    def where(self, keep: np.ndarray) -> Votes:
        """Only the rows that are kept, bool (M,), of the same subjects and volunteers."""
        return Votes(
            self.subject[keep],
            self.volunteer[keep],
            self.classification[keep],
            self.answer[keep],
            self.n_subjects,
            self.n_volunteers,
            self.answers,
        )


@dataclass(frozen=True)
class Counts:
    """Who saw and who chose, by views and by volunteers.

    Attributes
    ----------
    n_views, n_volunteers
        int64 (n_subjects,): how often, and by how many, each subject was seen.
    n_chosen, n_chosen_volunteers
        int64 (n_subjects, n_answers): those of them that gave each answer. With several answers a view, their sum may
        exceed the views.
    n_passed, n_passed_volunteers
        int64 (n_subjects,): those of them that chose nothing.
    """

    n_views: np.ndarray
    n_volunteers: np.ndarray
    n_chosen: np.ndarray
    n_chosen_volunteers: np.ndarray
    n_passed: np.ndarray
    n_passed_volunteers: np.ndarray

    def of(self, basis: Basis) -> tuple[np.ndarray, np.ndarray]:
        """``(k, n)``: answers (n_subjects, n_answers) and seen (n_subjects,), both by views or both by volunteers."""
        if basis == "views":
            return self.n_chosen, self.n_views
        return self.n_chosen_volunteers, self.n_volunteers


@dataclass(frozen=True)
class Weighted:
    """Votes that do not count alike, one a volunteer.

    Attributes
    ----------
    fraction, low, high
        float64 (n_subjects, n_answers): Σ w c / Σ w with its 95 % interval; NaN where no vote has a weight.
    n_effective
        float64 (n_subjects,): (Σ w)² / Σ w², so many equal votes are worth as much; 0 without votes.
    """

    fraction: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_effective: np.ndarray


@dataclass(frozen=True)
class Totals:
    """k of n subjects' answers as a table gives them, from one counting.

    Attributes
    ----------
    k, n
        int64, of the same shape.
    basis
        What was counted.
    """

    k: np.ndarray
    n: np.ndarray
    basis: Basis


@dataclass(frozen=True)
class Plurality:
    """Which answer most gave.

    Attributes
    ----------
    answer
        int16 (n_subjects,): the answer given most often, the first one of a tie; −1 where none was given.
    n_tied
        int64 (n_subjects,): how many answers were given as often as that one, itself included; 0 without answers.
    n_votes
        int64 (n_subjects,): how often it was given.
    """

    answer: np.ndarray
    n_tied: np.ndarray
    n_votes: np.ndarray


# --------------------------------------------------------------------------------------------------------- counting
def count(votes: Votes) -> Counts:
    """Count the votes of every subject, by views and by volunteers.

    By volunteers, the first classification of each volunteer on each subject counts, with all its answers.

    Raises
    ------
    ValueError
        A view gives the same answer twice.
    """
    n, n_answers = votes.n_subjects, len(votes.answers)
    counts = Counts(
        n_views=np.zeros(n, np.int64),
        n_volunteers=np.zeros(n, np.int64),
        n_chosen=np.zeros((n, n_answers), np.int64),
        n_chosen_volunteers=np.zeros((n, n_answers), np.int64),
        n_passed=np.zeros(n, np.int64),
        n_passed_volunteers=np.zeros(n, np.int64),
    )
    _count(
        votes.subject,
        votes.answer,
        votes.opens,
        votes.is_first,
        counts.n_views,
        counts.n_volunteers,
        counts.n_chosen,
        counts.n_chosen_volunteers,
        counts.n_passed,
        counts.n_passed_volunteers,
    )
    twice = int((counts.n_chosen.max(1, initial=0) > counts.n_views).sum())
    if twice:
        raise ValueError(f"{twice} subjects were chosen more often than seen: rows of the votes stand twice")
    return counts


def weighted(votes: Votes, weights: np.ndarray) -> Weighted:
    """The chosen fraction when volunteers' votes weigh differently: Σ w c / Σ w, one vote per volunteer, the first.

    With w = 2 for experienced volunteers this is the weighted chosen fraction of Mantha et al. 2024 (CSTP 9(1):40). The
    interval is that of as many equal votes as the weights are worth, (Σ w)² / Σ w² (Kish).

    Parameters
    ----------
    weights
        float (n_volunteers,), finite and at least 0.

    Raises
    ------
    ValueError
        Other weights.
    """
    weights = np.ascontiguousarray(weights, np.float64)
    if weights.shape != (votes.n_volunteers,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"weights are finite, not negative and one a volunteer ({votes.n_volunteers}); found an array of shape "
            f"{weights.shape}, {int((~(weights >= 0)).sum())} of it negative or missing"
        )
    total, squared = np.zeros(votes.n_subjects), np.zeros(votes.n_subjects)
    chosen = np.zeros((votes.n_subjects, len(votes.answers)))
    _weigh(votes.subject, votes.volunteer, votes.answer, votes.opens, votes.is_first, weights, total, squared, chosen)
    is_known = total > 0
    safe = np.where(is_known, total, 1)
    fraction = np.minimum(chosen / safe[:, None], 1)  # sums in another order may exceed 1 by their last digit
    n_effective = np.where(is_known, safe**2 / np.where(is_known, squared, 1), 0)
    low, high = interval(fraction * n_effective[:, None], np.broadcast_to(n_effective[:, None], fraction.shape))
    for column in (fraction, low, high):
        column[~is_known] = np.nan
    return Weighted(fraction, low, high, n_effective)


def from_totals(
    n_views: np.ndarray | None,
    n_chosen: np.ndarray | None,
    n_volunteers: np.ndarray | None = None,
    n_chosen_volunteers: np.ndarray | None = None,
    basis: Basis | None = None,
) -> Totals:
    """k of n of a table that others have reduced; columns that it does not have are None.

    Without `basis`, volunteers are taken where the table counts both seeing and choosing by them, else views. The
    study's own table counts only those who saw by volunteers: it uses views (science rule 9).

    Parameters
    ----------
    n_views, n_volunteers
        How often, and by how many, each subject was seen.
    n_chosen, n_chosen_volunteers
        How often, and by how many, it was chosen.
    basis
        What fractions shall be of.

    Raises
    ------
    ValueError
        One of the two columns of that counting is missing, or more chose than saw.
    """
    pairs: dict[Basis, tuple[np.ndarray | None, np.ndarray | None]] = {
        "views": (n_chosen, n_views),
        "volunteers": (n_chosen_volunteers, n_volunteers),
    }
    if basis is None:
        basis = "volunteers" if n_chosen_volunteers is not None and n_volunteers is not None else "views"
    k, n = pairs[basis]
    if k is None or n is None:
        other: Basis = "views" if basis == "volunteers" else "volunteers"
        what = "chose" if k is None else "saw"
        raise ValueError(
            f"this table does not count by {basis} who {what} a subject, and countings are not mixed; count by {other}"
        )
    k, n = np.asarray(k, np.int64), np.asarray(n, np.int64)
    wrong = int(((k > n) | (k < 0)).sum())
    if wrong:
        raise ValueError(
            f"{wrong} of {k.size} rows were chosen more often than seen (or below 0), by {basis}: not one counting"
        )
    return Totals(k, n, basis)


def plurality(n_chosen: np.ndarray) -> Plurality:
    """The answer that most gave; of a tie the first, with how many tied.

    Parameters
    ----------
    n_chosen
        int (n_subjects, n_answers).
    """
    most = n_chosen.max(1, initial=0)
    is_top = (n_chosen == most[:, None]) & (most > 0)[:, None]
    answer = np.where(most > 0, n_chosen.argmax(1) if n_chosen.shape[1] else -1, -1).astype(np.int16)
    return Plurality(answer, is_top.sum(1), most.astype(np.int64))


def agreement(n_chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far the plurality is the true answer, ties broken at random: the expected value, which no seed moves.

    Parameters
    ----------
    n_chosen
        int (n_subjects, n_answers).
    truth
        int (n_subjects,): index of the true answer.

    Returns
    -------
    float64 (n_subjects,): 1, 0, or 1 / n where the truth is one of n tied answers; 0 without votes.
    """
    top = plurality(n_chosen)
    hit = (n_chosen[np.arange(len(truth)), truth] == top.n_votes) & (top.n_votes > 0)
    share: np.ndarray = hit / np.maximum(top.n_tied, 1)
    return share


# -------------------------------------------------------------------------------------------- what the counts tell
def interval(k: np.ndarray, n: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The Beta posterior's interval of a fraction k of n under Jeffreys' prior, equal tails.

    Beta(k + ½, n − k + ½); the lower limit is 0 where k = 0 and the upper 1 where k = n, so that the interval always
    holds k / n (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101). Without votes it is (0, 1). Whole numbers or not: k
    and n may be effective numbers.

    Parameters
    ----------
    k, n
        0 ≤ k ≤ n, of shapes that broadcast.
    level
        Of the posterior, inside.

    Returns
    -------
    low, high
        float64. Above `MANY_PAIRS` different pairs, within 1e-6.

    Raises
    ------
    ValueError
        k above n or below 0, or a level outside (0, 1).
    """
    k, n = np.broadcast_arrays(np.asarray(k), np.asarray(n))
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not at {level}")
    if ((k < 0) | (k > n)).any():
        raise ValueError(f"{int(((k < 0) | (k > n)).sum())} fractions are not k of n: k is negative or above n")
    shape, is_none, is_all = k.shape, k == 0, k == n
    back: np.ndarray | None = None
    if np.issubdtype(k.dtype, np.integer) and np.issubdtype(n.dtype, np.integer):
        n = n.astype(np.int64, copy=False)
        codes, back = np.unique((n * (n + 1) // 2 + k).ravel(), return_inverse=True)
        n = ((np.sqrt(8.0 * codes + 1) - 1) / 2).astype(np.int64)
        n -= n * (n + 1) // 2 > codes
        n += (n + 1) * (n + 2) // 2 <= codes
        k = codes - n * (n + 1) // 2
    else:
        k, n = k.ravel().astype(np.float64), n.ravel().astype(np.float64)
    tail = (1 - level) / 2
    low, high = _quantiles(k + 0.5, n - k + 0.5, tail)
    if back is not None:
        low, high = low[back], high[back]
    low, high = low.reshape(shape), high.reshape(shape)
    low[is_none] = 0
    high[is_all] = 1
    return low, high


def _quantiles(a: np.ndarray, b: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """The points that a Beta(a, b) variable (n,) is below, and above, with probability `tail`."""
    if a.size <= MANY_PAIRS:
        return betaincinv(a, b, tail), betaincinv(a, b, 1 - tail)
    # The upper point of Beta(a, b) is one minus the lower of Beta(b, a): one spline, of the log-odds, does for both.
    largest = math.log(max(a.max(), b.max()))
    knots = np.linspace(math.log(0.5), largest, max(8, math.ceil((largest - math.log(0.5)) / SPLINE_STEP)))
    of = np.exp(knots)
    lower = betaincinv(of[:, None], of[None, :], tail)
    upper = betaincinv(of[None, :], of[:, None], 1 - tail)  # 1 − lower, without the loss of its last digits
    spline = RectBivariateSpline(knots, knots, np.log(lower / upper))
    a, b = np.log(a), np.log(b)
    return _from_odds(spline.ev(a, b)), 1 - _from_odds(spline.ev(b, a))


def _from_odds(log_odds: np.ndarray) -> np.ndarray:
    share: np.ndarray = 1 / (1 + np.exp(-log_odds))
    return share


def entropy(n_chosen: np.ndarray, n_passed: np.ndarray | None = None) -> np.ndarray:
    """How divided the answers are, in bits: −Σ p log₂ p over their shares (Shannon).

    Parameters
    ----------
    n_chosen
        (n_subjects, n_answers).
    n_passed
        (n_subjects,): who chose nothing, as an answer of its own. Needed where there is one answer to choose.

    Returns
    -------
    float64 (n_subjects,): 0 where all agree, log₂ of the number of answers where they are even; NaN without votes.
    """
    n = n_chosen.sum(1, dtype=np.float64)
    sums = np.zeros(len(n))
    columns = [n_chosen[:, i] for i in range(n_chosen.shape[1])]
    if n_passed is not None:
        n = n + n_passed
        columns.append(n_passed)
    for column in columns:
        sums += column * np.log2(np.maximum(column, 1))
    safe = np.where(n > 0, n, 1)
    bits: np.ndarray = np.where(n > 0, np.maximum(np.log2(safe) - sums / safe, 0), np.nan)
    return bits


# ---------------------------------------------------------------------------------------------------------- weights
def experience_weights(n_elsewhere: np.ndarray, threshold: int = 100, weight: float = 2.0) -> np.ndarray:
    """`weight` for who has made at least `threshold` classifications elsewhere, else 1 (Mantha et al. 2024).

    Parameters
    ----------
    n_elsewhere
        (n_volunteers,); NaN or negative where it is not known, which counts as none.

    Returns
    -------
    float64 (n_volunteers,).
    """
    return np.where(np.asarray(n_elsewhere) >= threshold, float(weight), 1.0)


def log_weights(n_elsewhere: np.ndarray, threshold: int = 100) -> np.ndarray:
    """1 + ln(1 + n) / ln(1 + threshold): 1 without experience, 2 at the threshold, 3 at about its square.

    The continuous scheme that the paper leaves open, in our form: `experience_weights` at 0 and at the threshold.

    Parameters
    ----------
    n_elsewhere
        (n_volunteers,); NaN or negative where it is not known, which counts as none.

    Returns
    -------
    float64 (n_volunteers,).
    """
    n = np.nan_to_num(np.asarray(n_elsewhere, np.float64))
    weights: np.ndarray = 1 + np.log1p(np.maximum(n, 0)) / math.log1p(threshold)
    return weights


def skill_weights(skill: np.ndarray, floor: float = 0.05) -> np.ndarray:
    """Skill in bits as weight, at least `floor`: who was never tested, or answers at random, still has a small voice.

    Parameters
    ----------
    skill
        (n_volunteers,), 0 to 1 bit (specs §6.1); NaN where it is not known.

    Returns
    -------
    float64 (n_volunteers,).
    """
    return np.maximum(np.nan_to_num(np.asarray(skill, np.float64)), floor)


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first count waits for it."""
    one = np.zeros(1, np.int32)
    votes = Votes(one, one, np.zeros(1, np.int64), np.zeros(1, np.int16), 1, 1, ("chosen",))
    count(votes)
    weighted(votes, np.ones(1))


# ---------------------------------------------------------------------------------------------------------- kernels
@_jit
def _by_subject(subject: np.ndarray, n_subjects: int) -> tuple[np.ndarray, np.ndarray]:
    starts = np.zeros(n_subjects + 1, np.int64)
    for s in subject:
        starts[s + 1] += 1
    for s in range(n_subjects):
        starts[s + 1] += starts[s]
    to, rows = starts[:-1].copy(), np.empty(len(subject), np.int64)
    for i in range(len(subject)):
        s = subject[i]
        rows[to[s]] = i
        to[s] += 1
    return starts, rows


@_jit
def _marks(
    starts: np.ndarray, rows: np.ndarray, volunteer: np.ndarray, classification: np.ndarray, n_volunteers: int
) -> tuple[np.ndarray, np.ndarray]:
    """`Votes.opens` and `Votes.is_first`, subject by subject."""
    opens, is_first = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    saw = np.full(n_volunteers, -1, np.int64)  # the last subject each volunteer was met at
    first, last = np.empty(n_volunteers, np.int64), np.empty(n_volunteers, np.int64)  # views of it
    for s in range(len(starts) - 1):
        for at in range(starts[s], starts[s + 1]):
            i = rows[at]
            v, c = volunteer[i], classification[i]
            if saw[v] != s:
                saw[v] = s
                first[v] = c
                opens[i] = True
            else:
                opens[i] = c != last[v]
            last[v] = c
            is_first[i] = c == first[v]
    return opens, is_first


@_jit
def _count(
    subject: np.ndarray,
    answer: np.ndarray,
    opens: np.ndarray,
    is_first: np.ndarray,
    n_views: np.ndarray,
    n_volunteers: np.ndarray,
    n_chosen: np.ndarray,
    n_chosen_volunteers: np.ndarray,
    n_passed: np.ndarray,
    n_passed_volunteers: np.ndarray,
) -> None:
    for i in range(len(subject)):
        s, a = subject[i], answer[i]
        n_views[s] += opens[i]
        n_volunteers[s] += opens[i] and is_first[i]
        if a >= 0:
            n_chosen[s, a] += 1
            n_chosen_volunteers[s, a] += is_first[i]
        else:
            n_passed[s] += opens[i]
            n_passed_volunteers[s] += opens[i] and is_first[i]


@_jit
def _weigh(
    subject: np.ndarray,
    volunteer: np.ndarray,
    answer: np.ndarray,
    opens: np.ndarray,
    is_first: np.ndarray,
    weights: np.ndarray,
    total: np.ndarray,
    squared: np.ndarray,
    chosen: np.ndarray,
) -> None:
    for i in range(len(subject)):
        if not is_first[i]:
            continue
        s, a, w = subject[i], answer[i], weights[volunteer[i]]
        if opens[i]:
            total[s] += w
            squared[s] += w * w
        if a >= 0:
            chosen[s, a] += w
