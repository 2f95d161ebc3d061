"""Pure samples: move the boundary until no false positive is left, and say what that is worth.

The muon classifiers of VERITAS were used so (Flanagan et al. 2021, ICRC PoS 395:766; arXiv:2108.07771): the decision
boundary is moved until validation holds no false positive; what lies above it are the "pure" ones. A limit that was
chosen so has none by construction, so here it is also judged on subjects that it was not chosen by: each fold of whole
duplicate groups by the limit of the others.

None of n says little where n is small. The highest of n negatives is passed by another one of the same sky with some
probability p, and p > x in (1 - x)ⁿ of all such samples (Wilks 1941). So p ≤ 1 - 0.05^(1/n), about 3 / n, with 95 %
confidence: Clopper and Pearson's one-sided limit for none of n, which holds although the limit was chosen on these.
Images of the same thing count once in n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from models.artifacts import ArtifactError
from models.findings import Table
from models.labels import folds_of
from models.rates import Rate, share

CONFIDENCE = 0.95
N_FOLDS = 5
#: Share of positive votes above which an image is no negative (Flanagan et al.), and others beside it.
VOTES = 0.2
CONTROLS = (0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True, slots=True)
class Purity:
    """What a limit without false positives keeps.

    Attributes
    ----------
    limit
        The highest score of a negative: pure is what lies above.
    pure
        k of n: positives above the limit. In-sample: it was chosen on these.
    n_negative
        Negatives that it was chosen by; none of them is above.
    at_most
        Share of other negatives that may lie above, with 95 % confidence.
    n_contested
        Those that votes kept out of the negatives, and how many of them lie above.
    contested_above
        See `n_contested`.
    held_recall
        k of n: positives above the limit of the other folds.
    held_false
        k of n: negatives above the limit of the other folds, Clopper and Pearson's interval. Contested ones count here.
    held_precision
        k of n: positives among those above the limit of the other folds.
    """

    limit: float
    pure: Rate
    n_negative: int
    at_most: float
    n_contested: int
    contested_above: int
    held_recall: Rate
    held_false: Rate
    held_precision: Rate


def pure(
    scores: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray,
    contested: np.ndarray | None = None,
    n_folds: int = N_FOLDS,
    seed: int = 0,
) -> Purity:
    """Choose the limit, and judge it out of fold.

    Parameters
    ----------
    scores
        float (n,), higher is more positive; NaN is left out.
    positive
        bool (n,), of known truth all.
    groups
        int (n,), equal where two show the same sky: folds keep them whole.
    contested
        bool (n,): negatives that the limit is not chosen by, as too many voted for them; None for none.

    Raises
    ------
    ArtifactError
        Lengths differ, one class only, or too few of them.
    """
    if not len(scores) == len(positive) == len(groups):
        raise ArtifactError(
            f"{len(scores):,} scores, {len(positive):,} truths, {len(groups):,} groups: one each, please"
        )
    contested = np.zeros(len(scores), bool) if contested is None else np.asarray(contested, bool) & ~positive
    there = np.isfinite(scores)
    scores, positive, groups, contested = (np.asarray(a)[there] for a in (scores, positive, groups, contested))
    positive = positive.astype(bool)
    chooses = ~positive & ~contested
    for mask, word in ((positive, "positive"), (chooses, "negative")):
        if not mask.any():
            raise ArtifactError(f"no subject with a score is {word}: there is no boundary to move; take another truth")
    limit = limit_of(scores[chooses])
    fold = folds_of(groups, positive.astype(np.int64), n_folds, seed)
    above = np.zeros(len(scores), bool)
    for number in range(n_folds):
        others = chooses & (fold != number)
        if not others.any():
            raise ArtifactError(
                f"{int(chooses.sum()):,} negatives do not go into {n_folds} folds; take a truth with more of them"
            )
        held = fold == number
        above[held] = scores[held] > limit_of(scores[others])
    n_negative = int(chooses.sum())
    return Purity(
        limit=limit,
        pure=share(int((scores[positive] > limit).sum()), int(positive.sum()), "in-sample"),
        n_negative=n_negative,
        at_most=none_of(len(np.unique(groups[chooses]))),
        n_contested=int(contested.sum()),
        contested_above=int((scores[contested] > limit).sum()),
        held_recall=share(int((above & positive).sum()), int(positive.sum())),
        held_false=clopper(int((above & ~positive).sum()), int((~positive).sum())),
        held_precision=share(int((above & positive).sum()), int(above.sum()), empty="nothing is above the limit"),
    )


def apply(limit: float, scores: np.ndarray, positive: np.ndarray) -> tuple[Rate, Rate, Rate]:
    """Recall, false positives and precision of a limit on subjects that it was not chosen by, of known truth."""
    there = np.isfinite(scores)
    above, positive = np.asarray(scores)[there] > limit, np.asarray(positive, bool)[there]
    tp, fp = int((above & positive).sum()), int((above & ~positive).sum())
    precision = share(tp, tp + fp, empty="nothing is above the limit")
    return share(tp, int(positive.sum()), empty="none is positive"), clopper(fp, int((~positive).sum())), precision


def limit_of(negatives: np.ndarray) -> float:
    """The lowest limit with no negative above it: their highest score, float (n,) with n ≥ 1."""
    return float(np.max(negatives))


def none_of(n: int) -> float:
    """1 - 0.05^(1/n): what share there may be where none of n was found, with 95 % confidence; 1 of nobody."""
    return 1.0 if n == 0 else float(1 - (1 - CONFIDENCE) ** (1 / n))


def clopper(k: int, n: int) -> Rate:
    """k of n with Clopper and Pearson's interval, which holds 95 % at least for small counts, too (1934).

    Of none and of all the interval has one side, with all of the 5 % there: `none_of`.
    """
    if n == 0:
        return Rate(k, n, None, None, None, "nobody")
    tail = 1 - CONFIDENCE if k in (0, n) else (1 - CONFIDENCE) / 2
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return Rate(k, n, k / n, low, high)


def controls(
    scores: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray,
    votes: np.ndarray,
    at: Sequence[float] = CONTROLS,
) -> list[tuple[float | None, Purity]]:
    """The limit with every negative, and without those of which more than each share of votes was positive.

    Parameters
    ----------
    votes
        float (n,): share of positive votes; NaN, nobody voted: such a negative stays one.
    """
    found: list[tuple[float | None, Purity]] = [(None, pure(scores, positive, groups))]
    for threshold in at:
        contested = np.nan_to_num(votes, nan=-1.0) > threshold
        found.append((threshold, pure(scores, positive, groups, contested)))
    return found


# ------------------------------------------------------------------------------------------------------- for people
def table(found: Sequence[tuple[float | None, Purity]], title: str) -> Table:
    """One row for each control."""
    columns = (
        "negatives",
        "limit",
        "pure (in-sample)",
        "at most false",
        "contested above",
        "pure, out of fold",
        "false, out of fold",
        "precision, out of fold",
    )
    rows = [
        [
            f"{one.n_negative:,}" + ("" if votes is None else f", votes ≤ {votes:.0%}"),
            round(one.limit, 5),
            spell(one.pure),
            f"{one.at_most:.2%}",
            f"{one.contested_above:,} of {one.n_contested:,}" if one.n_contested else "",
            spell(one.held_recall),
            spell(one.held_false),
            spell(one.held_precision),
        ]
        for votes, one in found
    ]
    note = (
        "pure: positives above the highest negative. At most false: share of other negatives that may lie above, "
        "all the same, with 95 % confidence. Out of fold: by the limit of the other folds; there contested negatives "
        "count as false"
    )
    return Table(title, columns, rows, note)


def spell(rate: Rate) -> str:
    """``12.5 % [4.3, 31.0] (3 of 24)``."""
    if rate.value is None or rate.low is None or rate.high is None:
        return f"– ({rate.note})" if rate.note else "–"
    return f"{rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}] ({rate.k:,g} of {rate.n:,g})"


def sentence(one: Purity, simulated: str = "") -> str:
    """What the limit is worth, in two sentences for a person; first of all, if so, that nothing pure is left.

    Parameters
    ----------
    simulated
        What stands before "positives" and "negatives" where the truth is: "simulated ".
    """
    held = one.held_false
    others = f"{simulated}negatives"
    out = (
        f"Out of fold {held.k:,g} of {held.n:,g} {others} lie above their limits, and {spell(one.held_recall)} of the "
        f"{simulated}positives."
    )
    if not one.pure.k:
        return (
            f"No pure sample: none of {one.pure.n:,g} {simulated}positives lies above {one.limit:.5g}, the highest of "
            f"{one.n_negative:,} {others}. {out}"
        )
    return (
        f"Above {one.limit:.5g} lie {spell(one.pure)} of the {simulated}positives and none of {one.n_negative:,} "
        f"{others}, by choice: up to {one.at_most:.2%} of others may lie there all the same. {out}"
    )
