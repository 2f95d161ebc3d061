"""The paper's figure 6, remade: precision, recall and kept fraction of learned boundaries as Σ moves, for three scores.

As the paper made it, each boundary is judged against the truth that it was taught: volunteers' chosen fraction, feature
score, or their product, at least Σ. These are three different questions, so the curves say nothing about which score
is best (science rule 4): they carry `NOT_COMPARABLE`. `against` judges all of them by one truth, at equal kept
fraction, with the interval of the paired difference.

Everything is of the tune half, out of fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from explorer.errors import UsageError
from explorer.services.boundaries import Context
from explorer.services.learned import Learning, Part, taught
from explorer.services.truths import CHOSEN, WEIGHTED, Truths
from models.boundary import And
from models.classifier import COMPONENTS, FOLDS, ClassifierError, Kind, fit, out_of_fold
from models.rates import Counts, Rate, count, rates
from models.truth import Truth
from models.weighted import Difference, paired, top

NOT_COMPARABLE = "each against its own truth: not comparable"
FEATURE = "scores.feature_score"
#: Share of positives at which scores are compared if nothing is said: that of the paper's chosen fraction ≥ ½.
BASE = 0.05


@dataclass(frozen=True, slots=True)
class Point:
    """One Σ of a curve.

    Attributes
    ----------
    rates
        precision, recall, f1, kept, base, lift at balanced score ½, out of fold, against the truth of this Σ; {} where
        there is nothing to learn.
    trouble
        Why not, or "".
    scores
        float32 (m,): log odds out of fold of the subjects that were fitted on; NaN unknown. None with `trouble`.
    """

    sigma: float
    n_positive: int
    rates: Mapping[str, Rate]
    trouble: str = ""
    scores: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """A score's boundaries, the least Σ first."""

    name: str
    title: str
    truth: Truth
    points: tuple[Point, ...]

    def nearest(self, base: float = BASE) -> Point | None:
        """The point whose share of positives is nearest to `base`; None where nothing could be learned."""
        learned = [p for p in self.points if p.scores is not None and p.rates["base"].value is not None]
        return min(learned, key=lambda p: abs((p.rates["base"].value or 0) - base), default=None)


@dataclass(frozen=True, slots=True)
class Six:
    """The figure: its curves, what must stand beside it, and whom it is of (survey rows)."""

    curves: tuple[Curve, ...]
    rows: np.ndarray
    note: str = NOT_COMPARABLE

    def to_json(self) -> dict[str, Any]:
        """For a screen or a report."""
        told = [
            {
                "name": curve.name,
                "title": curve.title,
                "truth": curve.truth.to_json(),
                "points": [
                    {
                        "sigma": p.sigma,
                        "n_positive": p.n_positive,
                        "trouble": p.trouble,
                        "rates": {name: rate.to_json() for name, rate in p.rates.items()},
                    }
                    for p in curve.points
                ],
            }
            for curve in self.curves
        ]
        return {"note": self.note, "n": len(self.rows), "curves": told}


def scores_of(truths: Truths, context: Context) -> dict[str, Truth]:
    """The paper's three, as far as this survey and run have them: name → a truth, whose Σ is to be moved."""
    columns = truths.explore.colors(context.run_id, context.map_id)
    chosen = next((c for c in (WEIGHTED, CHOSEN) if c in columns), "")
    found = {}
    if chosen:
        found["chosen"] = Truth("column", chosen, at_least=0.0)
    if FEATURE in columns:
        found["feature"] = Truth("column", FEATURE, at_least=0.0)
    if chosen and FEATURE in columns:
        found["product"] = Truth("product", chosen, FEATURE, 0.0)
    return found


def figure6(
    learning: Learning,
    truths: Truths,
    context: Context,
    sigmas: Mapping[str, Sequence[float]] | int = 30,
    scores: Mapping[str, Truth] | None = None,
    kind: Kind = "linear",
    components: float = COMPONENTS,
) -> Six:
    """Fit and judge a boundary for every Σ of every score, as the paper did.

    Parameters
    ----------
    sigmas
        Name of a score → its Σ; or how many of each, then spread evenly over the values' ranks from the 40 % highest to
        the 1 % highest, in the tune half.
    scores
        Name → truth, whose Σ is replaced; those of `scores_of` if not told.

    Raises
    ------
    UsageError
        No latent vectors, no score, or no subject of the tune half.
    """
    scores = scores_of(truths, context) if scores is None else scores
    if not scores:
        raise UsageError("neither votes nor a feature score are known of this survey: there is nothing to sweep")
    part = learning.part(context, components)
    groups = learning.groups()[part.fits]
    curves = []
    for name, truth in scores.items():
        values = truths.base(truth, context).values
        if values is None:
            raise UsageError(f"{truth.what} has no threshold to move; choose a column of numbers")
        if isinstance(sigmas, int):
            known = values[part.fits]
            known = known[np.isfinite(known)]
            grid = np.unique(np.quantile(known, 1 - np.geomspace(0.4, 0.01, sigmas))) if len(known) else np.empty(0)
        else:
            grid = np.asarray(sigmas.get(name, ()), np.float64)
        points, start = [], None
        for sigma in np.sort(grid):
            point, start = _point(truths, replace(truth, at_least=float(sigma)), context, part, groups, kind, start)
            points.append(point)
        title = truths.of(replace(truth, at_least=0.0), context).title.rpartition(" ≥ ")[0]
        curves.append(Curve(name, title, truth, tuple(points)))
    return Six(tuple(curves), part.fits)


def _point(
    truths: Truths,
    truth: Truth,
    context: Context,
    part: Part,
    groups: np.ndarray,
    kind: Kind,
    start: np.ndarray | None,
) -> tuple[Point, np.ndarray | None]:
    """One Σ, and where the next may start."""
    known = truths.of(truth, context)
    p, weights = taught(known, part.fits)
    positive, is_known = known.positive[part.fits], weights > 0
    sigma, n_positive = float(truth.at_least or 0.0), int((positive & is_known).sum())
    x = part.space.projected[: part.space.n_fit]
    try:
        made = fit(part.space.basis, x, p, weights, kind, start=start)
        scores = out_of_fold(made, x, p, groups, weights, FOLDS, 1)[0]
    except ClassifierError as error:
        return Point(sigma, n_positive, {}, str(error)), start
    told: Any = known.kind
    found = rates(count((scores >= 0)[is_known], positive[is_known], np.ones(int(is_known.sum()), bool)), told)
    return Point(sigma, n_positive, found, "", scores), made.optimum


# ------------------------------------------------------------------------------------------------------- one truth
@dataclass(frozen=True, slots=True)
class Judged:
    """A score's boundary against the common truth, at the common kept fraction."""

    name: str
    sigma: float
    rates: Mapping[str, Rate]


@dataclass(frozen=True, slots=True)
class Claim:
    """Which score's boundary finds more of one and the same truth.

    Attributes
    ----------
    fraction
        Kept of those compared: the subjects that every boundary scores and whose common truth is known.
    differences
        (name, other) → of "precision" and "recall", the first's less the other's, with the interval of the pair.
    circular
        What the common truth shares with the scores (science rule 4); [] where it is fit to judge them.
    """

    truth: str
    fraction: float
    n: int
    n_positive: float
    judged: tuple[Judged, ...]
    differences: Mapping[tuple[str, str], Mapping[str, Difference]]
    circular: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For a screen or a report."""
        pairs = [
            {"name": one, "other": other, **{key: asdict(difference) for key, difference in of.items()}}
            for (one, other), of in self.differences.items()
        ]
        judged = [
            {"name": j.name, "sigma": j.sigma, "rates": {name: rate.to_json() for name, rate in j.rates.items()}}
            for j in self.judged
        ]
        told = {"truth": self.truth, "fraction": self.fraction, "n": self.n, "n_positive": self.n_positive}
        return {**told, "judged": judged, "differences": pairs, "circular": list(self.circular)}


def against(
    six: Six,
    learning: Learning,
    truths: Truths,
    context: Context,
    common: Truth,
    fraction: float = 0.2,
    at: Mapping[str, float] | None = None,
    reps: int = 2000,
) -> Claim:
    """Judge a boundary of each score by one truth, all keeping the same fraction.

    Parameters
    ----------
    common
        Best one that is built from no score: a planted class, tags, grades.
    at
        Name of a score → the Σ of its boundary, one of the figure's; else the one with `BASE` positives, or nearest.

    Raises
    ------
    UsageError
        No boundary at that Σ, or nothing is known of the common truth.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"a kept fraction is between 0 and 1; found {fraction:g}")
    chosen: dict[str, Point] = {}
    for curve in six.curves:
        if at is not None and curve.name in at:
            wanted = at[curve.name]
            point = next((p for p in curve.points if np.isclose(p.sigma, wanted) and p.scores is not None), None)
            if point is None:
                raise UsageError(f"the figure has no boundary of {curve.title} at Σ = {wanted:g}")
        else:
            point = curve.nearest()
        if point is not None:
            chosen[curve.name] = point
    known = truths.of(common, context)
    p, weights = taught(known, six.rows)
    is_in = weights > 0
    for point in chosen.values():
        is_in &= np.isfinite(point.scores if point.scores is not None else np.nan)
    if not chosen or not is_in.any() or not p[is_in].sum():
        raise UsageError(f"{known.title}: no right one among the subjects that every boundary scores; choose another")
    p = p[is_in]
    kept = {name: top(np.asarray(point.scores)[is_in], fraction) for name, point in chosen.items()}
    judged, names = [], list(chosen)
    for name in names:
        tp, n_kept = float(kept[name] @ p), float(kept[name].sum())
        counts: Any = tp, n_kept - tp, float(p.sum()) - tp, len(p) - n_kept - float(p.sum()) + tp
        kind: Any = known.kind
        judged.append(Judged(name, chosen[name].sigma, rates(Counts(*counts), kind)))
    groups = learning.groups()[six.rows][is_in]
    pairs = {
        (one, other): paired(kept[one], kept[other], p, groups, reps)
        for i, other in enumerate(names)
        for one in names[i + 1 :]
    }
    references = [reference for curve in six.curves for reference in curve.truth.references]
    shared = truths.circular(common, And(()), None, context, references)
    return Claim(known.title, fraction, len(p), float(p.sum()), tuple(judged), pairs, tuple(shared))
