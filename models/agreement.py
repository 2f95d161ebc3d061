"""How far several graders agree: Krippendorff's alpha, Fleiss' and Cohen's kappa, and what stands beside them.

All three compare how much graders differ with how much they would if grades were dealt out by chance: 1 is perfect, 0
is chance. Where nearly all grades are the same, chance agrees too, and a kappa near 0 may come of graders who hardly
ever differ; so beside each stand the prevalence (share of positive grades) and the positive agreement (given that one
says positive, how often another one does).

Intervals are of 95 %: subjects are drawn with replacement, whole duplicate groups together, and the limits corrected
for bias and skewness (BCa). Of graders who never differ every drawing says 1; there the lower limit is of graders who
differ, as by chance, in as many subjects as Wilson's upper limit of 0 of n. What cannot be said has no number, and a
sentence.

References
----------
Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, University of Pennsylvania (coincidence matrix).
Fleiss 1971, Psychol. Bull. 76, 378. Cohen 1960, Educ. Psychol. Meas. 20, 37; 1968, Psychol. Bull. 70, 213 (weighted).
Cicchetti & Feinstein 1990, J. Clin. Epidemiol. 43, 551 (positive agreement). Efron 1987, J. Am. Stat. Assoc. 82, 171
(BCa). Gwet 2014, Handbook of Inter-Rater Reliability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import entr, ndtr, ndtri

from models.rates import Z95, Rate, group_codes, wilson

#: Of measurement: what two grades' distance is.
Level = Literal["nominal", "ordinal", "interval", "ratio"]
MOST_CATEGORIES = 100
REPS = 1_000
#: Groups that differ in what they add, above which random blocks of groups are drawn instead, so many of them.
MOST_KINDS = 2_000
#: Groups below which nothing is drawn.
FEWEST_GROUPS = 5
#: Share of drawings in which a number may be undefined.
MOST_UNDEFINED = 0.05

NO_PAIR = "not defined: no subject has grades of two graders"
ONE_GRADER = "not defined: it takes two graders"
ONE_GRADE = "not defined: everybody gave every subject the same grade"
TOO_FEW = "too few subjects for an interval"
ALL_ALIKE = "no interval: every subject has the same grades"
TOO_RARE = "no interval: all grades but one are too rare to draw from"
NEVER_APART = "they never differ: the lower limit is of as many subjects as may, unseen"

#: Of sums (B, c) over subjects: float64 (B,), NaN where it is not defined.
Statistic = Callable[[np.ndarray], np.ndarray]


# ----------------------------------------------------------------------------------------------------------- grades
@dataclass(frozen=True, slots=True)
class Ratings:
    """What each grader said of each subject.

    Attributes
    ----------
    codes
        int8 (N, m), a row a subject, a column a grader: index into `values`, -1 where there is no grade.
    values
        float64 (K,): what each grade is worth; rising, but where the level is nominal.
    positive
        bool (K,): which grades say that it is what one looks for.
    groups
        Duplicate group of each subject, int (N,).
    """

    codes: np.ndarray
    values: np.ndarray
    positive: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        categories: np.ndarray | None = None,
        positive: float = np.inf,
        groups: np.ndarray | None = None,
    ) -> Ratings:
        """Of values of grades.

        Parameters
        ----------
        values
            float (N, m), NaN where there is none.
        categories
            The values that can be given, float (K,); None: those that were. Distances of ordinal kappa count them all.
        positive
            The least value that says yes.
        groups
            Duplicate group of each subject, int (N,); None: each its own.

        Raises
        ------
        ValueError
            Not a table, a value that cannot be given, or more than 100 different ones.
        """
        values = np.asarray(values, np.float64)
        if values.ndim != 2:
            raise ValueError(f"grades are a table of subjects and graders; this has shape {values.shape}")
        known = ~np.isnan(values)
        given = values[known]
        scale = np.unique(given if categories is None else np.asarray(categories, np.float64))
        if len(scale) > MOST_CATEGORIES:
            raise ValueError(f"{len(scale):,} different grades are no scheme; the most are {MOST_CATEGORIES}")
        at = np.searchsorted(scale, given)
        strange = (
            (at == len(scale)) | (scale[np.minimum(at, len(scale) - 1)] != given) if len(scale) else given == given
        )
        if strange.any():
            raise ValueError(
                f"{given[strange][0]:g} is no value of a grade; there are {', '.join(f'{v:g}' for v in scale)}"
            )
        codes = np.full(values.shape, -1, np.int8)
        codes[known] = at
        return cls.coded(codes, scale, scale >= positive, groups)

    @classmethod
    def coded(
        cls, codes: np.ndarray, values: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None
    ) -> Ratings:
        """Of grades by their codes, as the attributes say."""
        groups = np.arange(len(codes)) if groups is None else group_codes(groups)
        if groups.shape != (len(codes),):
            raise ValueError(f"{len(codes)} subjects have {len(groups)} duplicate groups")
        return cls(np.asarray(codes, np.int8), np.asarray(values, np.float64), np.asarray(positive, np.bool_), groups)

    def counts(self) -> np.ndarray:
        """How many gave each subject each grade: int64 (N, K)."""
        counts = np.empty((len(self.codes), len(self.values)), np.int64)
        for k in range(len(self.values)):
            counts[:, k] = np.count_nonzero(self.codes == k, axis=1)
        return counts


@dataclass(frozen=True, slots=True)
class Agreement:
    """One coefficient and what stands beside it.

    Attributes
    ----------
    value, low, high
        None where it is not defined, or has no interval; `note` says why.
    n
        Subjects with two grades at least, which it is of.
    n_votes
        Their grades.
    prevalence
        k of n of those grades are positive.
    positive_agreement
        How often another one's grade of a subject is positive where one is; of two graders 2a of 2a + b + c.
    m
        Graders of each subject, where these are equally many.
    n_left_out
        Subjects with two grades at least that it is not of.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_votes: int
    prevalence: Rate
    positive_agreement: Rate
    note: str = ""
    m: int | None = None
    n_left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        told: dict[str, Any] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "n_votes": self.n_votes,
        }
        told |= {"prevalence": self.prevalence.to_json(), "positive_agreement": self.positive_agreement.to_json()}
        told |= {"note": self.note, "n_left_out": self.n_left_out}
        return told if self.m is None else told | {"m": self.m}


# ----------------------------------------------------------------------------------------------------- coefficients
def alpha(ratings: Ratings, level: Level, reps: int = REPS, seed: int = 0) -> Agreement:
    """Krippendorff's alpha, of all subjects with two grades at least, however many each has.

    With coincidences o_ck = Σ_u n_uc n_uk / (m_u - 1) and their margins n_c, it is 1 less the ratio of the observed
    disagreement Σ o_ck δ_ck / n to the expected Σ n_c n_k δ_ck / (n (n - 1)). The distance δ of two grades is 1
    (nominal), the number of grades given between their middles (ordinal), their difference (interval), or that over
    their sum (ratio), squared.

    Parameters
    ----------
    reps
        Drawings.

    Raises
    ------
    ValueError
        No such level.
    """
    if level not in ("nominal", "ordinal", "interval", "ratio"):
        raise ValueError(f"alpha is nominal, ordinal, interval or ratio, not {level!r}")
    counts = ratings.counts()
    m = counts.sum(axis=1)
    some = m >= 2
    low, high = np.triu_indices(len(ratings.values), 1)
    n_pairs, values, yes = len(low), ratings.values, ratings.positive
    counts, m = counts[some].astype(np.float64), m[some]
    sums = np.concatenate([counts[:, low] * counts[:, high] / (m - 1)[:, None], counts], axis=1)
    apart = yes[low] != yes[high]

    def coefficient(sums: np.ndarray) -> np.ndarray:
        observed, margins = sums[:, :n_pairs], sums[:, n_pairs:]
        if level == "ordinal":
            middle = np.cumsum(margins, axis=1) - margins / 2
            distance = (middle[:, high] - middle[:, low]) ** 2
        elif level == "nominal":
            distance = np.ones((1, n_pairs))
        else:
            distance = (values[high] - values[low])[None] ** 2
            if level == "ratio":
                distance = _over(distance, (values[high] + values[low])[None] ** 2)
        expected = (margins[:, low] * margins[:, high] * distance).sum(axis=1)
        observed = (observed * distance).sum(axis=1)
        return np.asarray(1 - (margins.sum(axis=1) - 1) * _over(observed, expected))

    def beside(sums: np.ndarray) -> Beside:
        margins = sums[:, n_pairs:]
        given = margins[:, yes].sum(axis=1)
        return given - sums[:, :n_pairs][:, apart].sum(axis=1), given, margins

    sample = _Sample.of(sums, ratings.groups[some], beside, seed)
    return _agreements(sample, [coefficient], beside, ratings, reps, seed)[0]


def fleiss(ratings: Ratings, reps: int = REPS, seed: int = 0) -> Agreement:
    """Fleiss' kappa, of the subjects with the commonest number of grades (two at least; the greater of a tie).

    The share of pairs of graders that agree on a subject, averaged, less what is expected of the shares of the grades,
    over 1 less that. Subjects with another number of grades are left out and counted.
    """
    counts = ratings.counts()
    m = counts.sum(axis=1)
    often = np.bincount(m[m >= 2], minlength=3)
    equal = len(often) - 1 - int(np.argmax(often[::-1]))
    some = m == equal
    counts = counts[some].astype(np.float64)
    yes = counts[:, ratings.positive].sum(axis=1)
    alike = (counts * (counts - 1)).sum(axis=1)
    sums = np.column_stack([alike / (equal - 1), yes * (yes - 1) / (equal - 1), yes, counts])

    def coefficient(sums: np.ndarray) -> np.ndarray:
        margins = sums[:, 3:]
        total = margins.sum(axis=1)
        expected = _over((margins**2).sum(axis=1), total**2)
        return _over(_over(sums[:, 0], total) - expected, 1 - expected)

    def beside(sums: np.ndarray) -> Beside:
        return sums[:, 1], sums[:, 2], sums[:, 3:]

    sample = _Sample.of(sums, ratings.groups[some], beside, seed)
    found = _agreements(sample, [coefficient], beside, ratings, reps, seed)[0]
    return replace(found, m=equal, n_left_out=int((m >= 2).sum()) - found.n) if found.n else found


def cohen(
    ratings: Ratings, one: int, other: int, level: Level = "nominal", reps: int = REPS, seed: int = 0
) -> Agreement:
    """Cohen's kappa of two graders, by their columns, of the subjects that both graded.

    κ = 1 - n Σ v_ij n_ij / Σ v_ij n_i. n_.j, with v = 1 for different grades (nominal: the plain kappa), or weighted by
    the square of how many grades it is from the one to the other (ordinal), or of their difference (interval).

    Raises
    ------
    ValueError
        No such level.
    """
    return cohens(ratings, one, other, (level,), reps, seed)[0]


def cohens(
    ratings: Ratings, one: int, other: int, levels: Sequence[Level], reps: int = REPS, seed: int = 0
) -> list[Agreement]:
    """`cohen` for each of several levels, by the same drawings.

    Raises
    ------
    ValueError
        No such level.
    """
    if strange := [level for level in levels if level not in ("nominal", "ordinal", "interval")]:
        raise ValueError(f"kappa is nominal, ordinal or interval, not {strange[0]!r}")
    a, b = ratings.codes[:, one], ratings.codes[:, other]
    some = (a >= 0) & (b >= 0)
    size, yes = len(ratings.values), ratings.positive
    cells = a[some].astype(np.int64) * size + b[some]
    both = np.outer(yes, yes).ravel()

    def margins(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tables = sums.reshape(len(sums), size, size)
        return tables.sum(axis=2), tables.sum(axis=1)

    def at(level: Level) -> Statistic:
        place = np.arange(size, dtype=np.float64) if level == "ordinal" else ratings.values
        distance = 1 - np.eye(size) if level == "nominal" else (place[:, None] - place) ** 2

        def coefficient(sums: np.ndarray) -> np.ndarray:
            rows, columns = margins(sums)
            expected = np.einsum("ni,ij,nj->n", rows, distance, columns)
            return np.asarray(1 - rows.sum(axis=1) * _over(np.einsum("nc,c->n", sums, distance.ravel()), expected))

        return coefficient

    def beside(sums: np.ndarray) -> Beside:
        rows, columns = margins(sums)
        return 2 * sums[:, both].sum(axis=1), (rows + columns)[:, yes].sum(axis=1), rows + columns

    sample = _Sample.of_cells(cells, size**2, ratings.groups[some], beside, seed)
    return _agreements(sample, [at(level) for level in levels], beside, ratings, reps, seed)


# ------------------------------------------------------------------------------------------------------- by subject
@dataclass(frozen=True, slots=True)
class Dispersion:
    """How far the grades of each subject are apart; NaN where it has fewer than two.

    Attributes
    ----------
    n
        Grades, int64 (N,).
    spread
        The greatest value less the least, float64 (N,).
    deviation
        Their standard deviation, of all and not of a sample, float64 (N,).
    entropy
        Of the shares of the grades, in bits, float64 (N,): 0 where all are the same, 1 where two are as frequent.
    """

    n: np.ndarray
    spread: np.ndarray
    deviation: np.ndarray
    entropy: np.ndarray


def dispersion(ratings: Ratings) -> Dispersion:
    """How far the grades of each subject are apart."""
    counts, values = ratings.counts(), ratings.values
    n = counts.sum(axis=1)
    spread, deviation, entropy = np.full((3, len(n)), np.nan)
    some = n >= 2
    if some.any():
        shares = counts[some] / n[some, None]
        given = counts[some] > 0
        spread[some] = np.where(given, values, -np.inf).max(axis=1) - np.where(given, values, np.inf).min(axis=1)
        mean = shares @ values
        deviation[some] = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
        entropy[some] = entr(shares).sum(axis=1) / np.log(2)
    return Dispersion(n, spread, deviation, entropy)


# ------------------------------------------------------------------------------------------------ drawing of subjects
#: Of sums (B, c): pairs of positive grades, and positive grades, (B,); how often each grade was given, (B, K).
Beside = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Groups of subjects, those that add the same put together: `kinds` float64 (k, c), `times` int64 (k,).

    `n` are the subjects, `n_groups` their groups, `n_positive` those with a positive grade.
    """

    kinds: np.ndarray
    times: np.ndarray
    n: int
    n_groups: int
    n_positive: int

    @classmethod
    def of(cls, sums: np.ndarray, groups: np.ndarray, beside: Callable[[np.ndarray], Beside], seed: int) -> _Sample:
        """Of what each subject adds, (n, c)."""
        n, codes = len(sums), np.unique(groups, return_inverse=True)[1]
        n_groups = int(codes.max(initial=-1)) + 1
        if n_groups < n:
            sums = _summed(sums, codes, n_groups)
        # equal rows have equal projections, and one column sorts faster than many
        projected = sums.round(9) @ np.random.default_rng(0).random(sums.shape[1])
        _, first, times = np.unique(projected, return_index=True, return_counts=True)
        kinds = sums[first]
        n_positive = int(times[beside(kinds)[1] > 0].sum())
        if len(kinds) > MOST_KINDS:  # the variance of sums is the same by random blocks of groups
            block = np.random.default_rng(seed).permutation(n_groups) % MOST_KINDS
            kinds, times = _summed(sums, block, MOST_KINDS), np.ones(MOST_KINDS, np.int64)
        return cls(kinds, times, n, n_groups, n_positive)

    @classmethod
    def of_cells(
        cls, cells: np.ndarray, n_cells: int, groups: np.ndarray, beside: Callable[[np.ndarray], Beside], seed: int
    ) -> _Sample:
        """Of one cell of a table for each subject, int (n,)."""
        if len(np.unique(groups)) < len(cells):
            return cls.of(np.eye(n_cells)[cells], groups, beside, seed)
        times = np.bincount(cells, minlength=n_cells)
        there = np.flatnonzero(times)
        kinds, times = np.eye(n_cells)[there], times[there]
        return cls(kinds, times, len(cells), len(cells), int(times[beside(kinds)[1] > 0].sum()))


def _summed(sums: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """Rows of `sums` added by their code, (n, c)."""
    return np.stack([np.bincount(codes, column, minlength=n) for column in sums.T], axis=1)


def _agreements(
    sample: _Sample,
    coefficients: Sequence[Statistic],
    beside: Callable[[np.ndarray], Beside],
    ratings: Ratings,
    reps: int,
    seed: int,
) -> list[Agreement]:
    if not sample.n:
        none, note = Rate(0, 0, None, None, None, NO_PAIR), ONE_GRADER if ratings.codes.shape[1] < 2 else NO_PAIR
        return [Agreement(None, None, None, 0, 0, none, none, note)] * len(coefficients)
    kinds, times = sample.kinds, sample.times
    total = _dot(times[None], kinds)
    blocks = int(times.sum())
    draws = _dot(np.random.default_rng(seed).multinomial(blocks, times / blocks, size=reps), kinds)
    without = total - kinds
    both, given, margins = (part[0] for part in beside(total))
    n_votes = float(margins.sum())
    many, few = beside(draws), beside(without)

    def rate(k: float, n: float, shares: tuple[np.ndarray, np.ndarray], n_groups: int, empty: str = "") -> Rate:
        """k of n with the limits of drawings; with Wilson's of so many groups, where every one would say the same."""
        if not n > 0:
            return Rate(0, 0, None, None, None, empty)
        value = k / n
        if k <= 0 or k >= n:
            low, high = (float(limit) for limit in wilson(value * n_groups, n_groups))
            return Rate(_whole(k), _whole(n), value, low, high)
        return Rate(_whole(k), _whole(n), value, *_limits(value, *shares, times, n_groups))

    prevalences = _over(many[1], many[2].sum(axis=1)), _over(few[1], few[2].sum(axis=1))
    agreeing = _over(many[0], many[1]), _over(few[0], few[1])
    rates = (
        rate(float(given), n_votes, prevalences, sample.n_groups),
        rate(float(both), float(given), agreeing, sample.n_positive, "nobody gave a positive grade"),
    )
    found = []
    for coefficient in coefficients:
        value = float(coefficient(total)[0])
        told: tuple[float | None, float | None, str]
        if np.isnan(value):
            told = None, None, ONE_GRADE
        elif value == 1:
            differ = 1 - float(((margins / n_votes) ** 2).sum())
            told = max(-1.0, 1 - float(wilson(0, sample.n_groups)[1]) / differ), 1.0, NEVER_APART
        else:
            told = _limits(value, coefficient(draws), coefficient(without), times, sample.n_groups)
        low, high, note = told
        known = None if np.isnan(value) else value
        found.append(Agreement(known, low, high, sample.n, round(n_votes), *rates, note))
    return found


def _limits(
    value: float, drawn: np.ndarray, without: np.ndarray, times: np.ndarray, n_groups: int
) -> tuple[float | None, float | None, str]:
    """Limits of 95 %, by BCa; None with a sentence where there are none.

    Parameters
    ----------
    drawn
        What each drawing says, (B,).
    without, times
        What all say but one group of each kind, and how many groups are of it, (k,).
    """
    if n_groups < FEWEST_GROUPS:
        return None, None, TOO_FEW
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(drawn):
        return None, None, TOO_RARE
    below = (np.count_nonzero(defined < value) + np.count_nonzero(defined == value) / 2) / len(defined)
    bias = float(ndtri(np.clip(below, 1 / (len(defined) + 1), 1 - 1 / (len(defined) + 1))))
    is_defined = ~np.isnan(without)
    times, without = times[is_defined], without[is_defined]
    pull = (times * without).sum() / times.sum() - without
    spread = float((times * pull**2).sum())
    if not spread > 1e-18 * len(times):
        return None, None, ALL_ALIKE
    skew = float((times * pull**3).sum()) / (6 * spread**1.5)
    at = bias + np.array([-Z95, Z95])
    shares = ndtr(bias + at / np.maximum(1 - skew * at, 1e-9))
    low, high = (float(limit) for limit in np.quantile(defined, shares))
    return min(low, value), max(high, value), ""


def _dot(weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """(B, k) by (k, c), without threads: theirs wait for each other on a busy machine."""
    return np.asarray(np.einsum("bk,kc->bc", weights.astype(np.float64), sums))


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where there is nothing to divide by."""
    return np.asarray(np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom > 0))


def _whole(total: float) -> float:
    """Counts stay whole numbers."""
    near = round(total)
    return near if abs(total - near) < 1e-6 else total
