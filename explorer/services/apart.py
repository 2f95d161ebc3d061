"""What sets a selection apart from the rest, column by column; and what a score goes along with.

Every comparison is of two groups: the selected subjects and the others, of the survey or of what is on the map.

- A number: the probability that a random selected subject has a higher value than a random other one, ties counted
  half. That is the Mann-Whitney U over n·m, the area under the ROC curve; .5 where the groups do not differ so.
- A category: its share among the selected, its share among the others, and the difference.

Intervals are of 95 %. As many columns are compared, each comparison is also judged at 5 % over all (Bonferroni). They
say how sure a difference is for subjects like these; that a region drawn around high scores has high scores is true by
the drawing, and no finding.

References
----------
DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837 (variance of the AUC; here by one sort, as Sun & Xu 2014).
Newcombe 2006, Statistics in Medicine 25, 559, method 5 (score interval of the AUC of few or separated subjects).
Newcombe 1998, Statistics in Medicine 17, 873, method 10 (difference of two shares, from Wilson's intervals).
Bonett & Wright 2000, Psychometrika 65, 23 (Fisher's z of a rank correlation).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.state import Selection
from models.mixing import Mode
from models.rates import wilson

LEVEL = 0.95
#: Subjects that are compared, at most; of more, a random sample with `SEED`.
MOST = 200_000
SEED = 0
#: With fewer subjects on a side, or fewer pairs, the large-sample intervals do not hold.
FEW = 10
#: Categories of a column that are told, those that differ most.
TOLD = 8

#: What every survey has, where no entry is a no.
FLAGS = {"is_known": "known object", "is_withdrawn": "withdrawn"}

#: Whom the selected are compared with.
Among = Literal["survey", "map"]


@dataclass(frozen=True, slots=True)
class Share:
    """One category: `k_in` of the selected and `k_out` of the others have it; the difference of the shares."""

    label: str
    k_in: int
    k_out: int
    difference: float
    low: float
    high: float
    is_marked: bool


@dataclass(frozen=True, slots=True)
class Contrast:
    """One column, the selected against the others.

    Attributes
    ----------
    n_in, n_out
        Compared subjects that have a value.
    effect
        From 0 (no difference) to 1 (complete): |2 AUC - 1|, or the largest difference of a share, which for yes and no
        is the same.
    auc, low, high
        Of a number: see the module; None of categories.
    median_in, median_out
        Of a number.
    shares
        Of categories: the `TOLD` that differ most; `n_categories` there are.
    is_marked
        The interval adjusted for all comparisons leaves out .5 (of a category: one share's leaves out 0).
    same
        Titles of columns that say the same: they put the subjects in the same order, or are equal.
    said
        The comparison in words.
    """

    reference: str
    title: str
    n_in: int
    n_out: int
    effect: float
    said: str
    is_marked: bool
    auc: float | None = None
    low: float | None = None
    high: float | None = None
    median_in: float | None = None
    median_out: float | None = None
    shares: tuple[Share, ...] = ()
    n_categories: int = 0
    same: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Apart:
    """What sets a selection apart.

    Attributes
    ----------
    n_in, n_out
        The selected subjects and the others, of the survey or of what is on the map.
    n_elsewhere
        Selected subjects that are not on the map, where that is asked about.
    compared_in, compared_out
        Of each, how many were compared: fewer where a random sample was drawn.
    n_comparisons
        Over which the marks are adjusted: one of each number, one of each category.
    columns
        Those that differ most first.
    left_out
        Titles of columns that have no value on one of the sides, with a value in and out.
    """

    n_in: int
    n_out: int
    n_elsewhere: int
    compared_in: int
    compared_out: int
    n_comparisons: int
    columns: tuple[Contrast, ...]
    left_out: tuple[tuple[str, int, int], ...] = ()
    level: float = LEVEL


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation of a score with one column, over `n` subjects that have both.

    `low` and `high` are None where there is no interval to give: fewer than `FEW` pairs, or the same order throughout.
    """

    reference: str
    title: str
    n: int
    rho: float
    low: float | None
    high: float | None
    is_marked: bool
    same: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Correlations:
    """A score against every other numeric column, the strongest first; `n_compared` of `n` subjects were looked at."""

    reference: str
    title: str
    n: int
    n_compared: int
    n_comparisons: int
    columns: tuple[Correlation, ...] = field(default_factory=tuple)
    level: float = LEVEL


# ------------------------------------------------------------------------------------------------- statistics
def superiority(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """How probably a random value of `inside` exceeds one of `outside`, ties counted half; and its variance.

    Parameters
    ----------
    inside, outside
        Finite values (m,) and (n,), m and n ≥ 1.

    Returns
    -------
    auc
        From 0 to 1: Mann-Whitney U over m·n.
    variance
        DeLong's; NaN with a single value on a side.
    """
    m, n = len(inside), len(outside)
    both = np.concatenate([inside, outside])
    order = np.argsort(both, kind="stable")
    ordered = both[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    per_in = np.add.reduceat((order < m).astype(np.float64), starts)
    per_out = np.diff(np.append(starts, m + n)) - per_in
    below = (np.cumsum(per_out) - 0.5 * per_out) / n  # the share of the others under each value
    above = (m - np.cumsum(per_in) + 0.5 * per_in) / m  # the share of the selected over each value
    auc = float(per_in @ below / m)
    if m < 2 or n < 2:
        return auc, math.nan
    spread_in = per_in @ (below - auc) ** 2 / (m - 1)
    spread_out = per_out @ (above - auc) ** 2 / (n - 1)
    return auc, float(spread_in / m + spread_out / n)


def superiority_interval(auc: float, variance: float, m: int, n: int, level: float) -> tuple[float, float]:
    """The interval of `superiority`: DeLong's variance on the logit scale, as a probability stays within 0 … 1.

    With fewer than `FEW` values on a side, and where the sides do not overlap, so that no variance is seen, Newcombe's
    score interval.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    if min(m, n) >= FEW and variance > 0 and 0 < auc < 1:
        middle, half = math.log(auc / (1 - auc)), z * math.sqrt(variance) / (auc * (1 - auc))
        low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, middle + side)))) for side in (-half, half))
        return low, high

    def fits(theta: float) -> bool:
        extra = ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - auc) ** 2 <= z * z * theta * (1 - theta) / (m * n) * (1 + extra)

    def edge(end: float) -> float:
        good, bad = auc, end
        for _ in range(60):
            middle = (good + bad) / 2
            good, bad = (middle, bad) if fits(middle) else (good, middle)
        return good

    return (edge(0.0) if auc > 0 else 0.0), (edge(1.0) if auc < 1 else 1.0)


def share_difference(
    k_in: np.ndarray, n_in: int, k_out: np.ndarray, n_out: int, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k_in of n_in minus k_out of n_out, and its interval (Newcombe's, from Wilson's), each (k,)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, q = k_in / n_in, k_out / n_out
    (p_low, p_high), (q_low, q_high) = wilson(k_in, n_in, z), wilson(k_out, n_out, z)
    return p - q, p - q - np.hypot(p - p_low, q_high - q), p - q + np.hypot(p_high - p, q - q_low)


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the lowest, ties get the mean of theirs; float64, of finite values."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])


def rank_correlation(x: np.ndarray, y: np.ndarray, level: float) -> tuple[float, float | None, float | None]:
    """Spearman's ρ of two columns without gaps, and its interval; ρ is NaN where one of them is constant."""
    return correlation_of_ranks(ranks(x), ranks(y), level)


def correlation_of_ranks(x: np.ndarray, y: np.ndarray, level: float) -> tuple[float, float | None, float | None]:
    """`rank_correlation` of columns whose `ranks` are known."""
    n = len(x)
    if n < 2:
        return math.nan, None, None
    a, b = (r - (n + 1) / 2 for r in (x, y))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    if scale == 0:
        return math.nan, None, None
    rho = min(1.0, max(-1.0, float(a @ b) / scale))
    if n < FEW or abs(rho) > 1 - 1e-12:
        return rho, None, None
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


# -------------------------------------------------------------------------------------------------- of a survey
@dataclass(frozen=True, slots=True)
class _Group:
    """Columns that say the same of the sampled subjects: the first, and the titles of the others."""

    reference: str
    title: str
    values: Any  # float (n,), or codes and labels
    same: tuple[str, ...] = ()


def sets_apart(
    explore: Explore,
    selection: Selection,
    *,
    run_id: str = "",
    map_id: str = "",
    lambda_: float = 0.2,
    mode: Mode = "raw",
    among: Among = "survey",
) -> Apart:
    """Compare the selected subjects with the others in every column that can color the map.

    Of more than `MOST` subjects a random sample is compared (`SEED`), of both sides, so that few selected ones are all
    kept.

    Raises
    ------
    UsageError
        Nothing is selected, or everything; or the map is asked about and there is none.
    """
    inside, universe = selection.mask(), _universe(explore, map_id, among)
    rows_in, rows_out = np.flatnonzero(inside & universe), np.flatnonzero(~inside & universe)
    where = "on the map" if among == "map" else "in the survey"
    if not len(rows_in):
        raise UsageError(f"no selected subject is {where}" if selection.count else "nothing is selected")
    if not len(rows_out):
        raise UsageError(f"everything {where} is selected: there is nothing to compare with")
    n_in = min(len(rows_in), max(MOST // 2, MOST - len(rows_out)))
    sampled = _sample(rows_in, n_in), _sample(rows_out, min(len(rows_out), MOST - n_in))
    rows, m = np.concatenate(sampled), len(sampled[0])

    groups = _groups(explore, rows, run_id, map_id, lambda_, mode, categories=True)
    n_comparisons = sum(len(g.values[1]) if isinstance(g.values, tuple) else 1 for g in groups)
    strict = 1 - (1 - LEVEL) / max(1, n_comparisons)
    columns, left_out = [], []
    for group in groups:
        compare = _categories if isinstance(group.values, tuple) else _numbers
        found = compare(group, m, strict)
        if isinstance(found, Contrast):
            columns.append(found)
        else:
            left_out.append((group.title, *found))
    columns.sort(key=lambda c: -round(c.effect, 12))  # a column and its reverse stay in the survey's order
    return Apart(
        len(rows_in),
        len(rows_out),
        selection.count - len(rows_in),
        m,
        len(rows) - m,
        n_comparisons,
        tuple(columns),
        tuple(left_out),
    )


def correlations(
    explore: Explore,
    score: str,
    *,
    selection: Selection | None = None,
    run_id: str = "",
    map_id: str = "",
    lambda_: float = 0.2,
    mode: Mode = "raw",
    among: Among = "survey",
    values: np.ndarray | None = None,
    title: str = "",
) -> Correlations:
    """Spearman's rank correlation of a score with every other numeric column.

    Parameters
    ----------
    score
        Reference of any numeric column.
    values, title
        In place of a column: float (N,) of every subject, NaN where missing, and what a person reads.
    selection
        Only among these; None for all of `among`. Of more than `MOST` a random sample (`SEED`).

    Raises
    ------
    UsageError
        No such column, or the map is asked about and there is none.
    """
    universe = _universe(explore, map_id, among)
    if selection is not None:
        universe = universe & selection.mask()
    all_rows = np.flatnonzero(universe)
    rows = _sample(all_rows, min(MOST, len(all_rows)))
    given = (explore.values(score, run_id, lambda_, mode, map_id) if values is None else values)[rows]
    title = title or explore.colors(run_id, map_id).get(score, score)
    groups = _groups(explore, rows, run_id, map_id, lambda_, mode, categories=False, but=score)
    strict = 1 - (1 - LEVEL) / max(1, len(groups))
    found = []
    for group in groups:
        known = np.isfinite(given) & np.isfinite(group.values)
        x, y = given[known], group.values[known]
        rho, low, high = rank_correlation(x, y, LEVEL)
        if rho == rho:
            half = NormalDist().inv_cdf((1 + strict) / 2)
            is_marked = len(x) >= FEW and (low is None or _is_beyond(rho, len(x), half))
            found.append(Correlation(group.reference, group.title, len(x), rho, low, high, is_marked, group.same))
    found.sort(key=lambda c: -abs(c.rho))
    return Correlations(score, title, len(all_rows), len(rows), len(groups), tuple(found))


def _is_beyond(rho: float, n: int, z: float) -> bool:
    return abs(math.atanh(rho)) > z * math.sqrt((1 + rho * rho / 2) / (n - 3))


def _universe(explore: Explore, map_id: str, among: Among) -> np.ndarray:
    if among == "survey":
        return np.ones(explore.survey.n, np.bool_)
    if not map_id:
        raise UsageError("there is no map; compare with the whole survey")
    return np.asarray(np.isfinite(explore.survey.coordinates(map_id)[:, 0]))


def _sample(rows: np.ndarray, k: int) -> np.ndarray:
    """k of the rows at random, ascending; all of them where k is as many."""
    if k == len(rows):
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, k, replace=False, shuffle=False))


def _groups(
    explore: Explore,
    rows: np.ndarray,
    run_id: str,
    map_id: str,
    lambda_: float,
    mode: Mode,
    categories: bool,
    but: str = "",
) -> list[_Group]:
    """Every column that tells something, read at `rows`; those that say the same as an earlier one are with that."""
    found: dict[bytes, _Group] = {}
    offered = explore.colors(run_id, map_id) | {f"subjects.{name}": title for name, title in FLAGS.items()}
    for reference, title in offered.items():
        values: Any
        if "." not in reference or reference == but:
            continue
        if explore.is_category(reference):
            values = _codes(explore, reference.partition(".")[2], rows)
            key = _hash(values[0]) if categories and len(np.unique(values[0][values[0] >= 0])) > 1 else None
        else:
            values = np.asarray(explore.values(reference, run_id, lambda_, mode, map_id)[rows])
            key = _order(values)
        if key is None:
            continue
        if key in found:
            found[key] = replace(found[key], same=(*found[key].same, title))
        else:
            found[key] = _Group(reference, title, values)
    return list(found.values())


def _codes(explore: Explore, name: str, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    codes, labels = explore.survey.category(name)
    if name not in FLAGS:
        return codes[rows], labels
    yes = labels.index("true") if "true" in labels else -2
    return (codes[rows] == yes).astype(np.int32), ["no", "yes"]


def _hash(values: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()


def _order(values: np.ndarray) -> bytes | None:
    """What is the same for columns that put the same subjects in the same order; None of a constant."""
    known = np.isfinite(values)
    places = np.zeros(len(values), np.int32)
    distinct, places[known] = np.unique(values[known], return_inverse=True)
    if len(distinct) < 2:
        return None
    places[known] += 1
    return _hash(places)


def _numbers(group: _Group, m: int, strict: float) -> Contrast | tuple[int, int]:
    """A number compared; where a side has no value, how many each has."""
    known = np.isfinite(group.values)
    inside, outside = group.values[:m][known[:m]], group.values[m:][known[m:]]
    n_in, n_out = len(inside), len(outside)
    if not n_in or not n_out:
        return n_in, n_out
    auc, variance = superiority(inside, outside)
    low, high = superiority_interval(auc, variance, n_in, n_out, LEVEL)
    strict_low, strict_high = superiority_interval(auc, variance, n_in, n_out, strict)
    said = (
        f"A random selected subject has a higher {group.title} than a random other one with a probability of "
        f"{auc:.3f} (95 % interval {low:.3f} to {high:.3f}; 0.5 is no difference)."
    )
    return Contrast(
        group.reference,
        group.title,
        n_in,
        n_out,
        abs(2 * auc - 1),
        said,
        not strict_low <= 0.5 <= strict_high,
        auc,
        low,
        high,
        float(np.median(inside)),
        float(np.median(outside)),
        same=group.same,
    )


def _categories(group: _Group, m: int, strict: float) -> Contrast | tuple[int, int]:
    """Categories compared; where a side has no value, how many each has."""
    codes, labels = group.values
    k_in, k_out = (np.bincount(part[part >= 0], minlength=len(labels)) for part in (codes[:m], codes[m:]))
    n_in, n_out = int(k_in.sum()), int(k_out.sum())
    if not n_in or not n_out:
        return n_in, n_out
    difference, low, high = share_difference(k_in, n_in, k_out, n_out, LEVEL)
    _, strict_low, strict_high = share_difference(k_in, n_in, k_out, n_out, strict)
    marked = (strict_low > 0) | (strict_high < 0)
    told = tuple(
        Share(
            labels[i], int(k_in[i]), int(k_out[i]), float(difference[i]), float(low[i]), float(high[i]), bool(marked[i])
        )
        for i in np.argsort(-np.abs(difference), kind="stable")[:TOLD]
    )
    most = told[0]
    said = (
        f"{most.label}: {most.k_in:,} of {n_in:,} selected and {most.k_out:,} of {n_out:,} others, a difference of "
        f"{100 * most.difference:+.1f} points (95 % interval {100 * most.low:+.1f} to {100 * most.high:+.1f})."
    )
    return Contrast(
        group.reference,
        group.title,
        n_in,
        n_out,
        abs(most.difference),
        said,
        bool(marked.any()),
        shares=told,
        n_categories=len(labels),
        same=group.same,
    )
