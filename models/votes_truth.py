"""Votes as truth: how probably the fraction that would choose a subject reaches Σ, when k of n who looked did.

Few votes are a noisy truth: of many subjects whose true fraction is low, some get k / n ≥ Σ by chance, and where low
ones are far more numerous they are a good part of those that do. How the true fractions of all subjects are spread is
fitted to all (k, n) of the survey (empirical Bayes); what is known of one subject is then that, times its own votes.

The spread is a Beta distribution, or two mixed where the votes tell them apart. It matters: one Beta that fits most of
the study's subjects expects 3,744 with half of the votes or more, where there are 5,518, and so calls too many of them
luck; of two mixed it expects 5,380.

References
----------
Skellam 1948, J. R. Stat. Soc. B 10, 257 (beta-binomial). Casella 1985, Am. Stat. 39, 83 (empirical Bayes).
Schwarz 1978, Ann. Stat. 6, 461 (which of two models the data favor).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betainc, betaln, digamma, expit, logsumexp, softmax

#: Fractions between this and one minus this are fitted as means, and spreads between binomial and none at all.
EDGE = 1e-9
MOST = 1e6


@dataclass(frozen=True, slots=True)
class Prior:
    """How the true fractions of a survey's subjects are spread: Beta(a, b), or several mixed.

    Attributes
    ----------
    a, b
        Of the Beta distribution, or the first of those mixed; above 0.
    others
        Share, a and b of each further one; the first has the rest.
    """

    a: float
    b: float
    others: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        for share, a, b in self.parts:
            if not (0 < a < math.inf and 0 < b < math.inf):
                raise ValueError(f"a Beta distribution has a and b above 0, not {a:g} and {b:g}")
            if not 0 < share <= 1:
                raise ValueError(f"a Beta distribution cannot have a share of {share:g}")

    @property
    def parts(self) -> tuple[tuple[float, float, float], ...]:
        """Share, a and b of each; the shares sum to 1."""
        return (1 - sum(other[0] for other in self.others), self.a, self.b), *self.others

    @property
    def mean(self) -> float:
        """The mean true fraction."""
        return sum(share * a / (a + b) for share, a, b in self.parts)


def pairs(k: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Different (k, n), as a million subjects have a few hundred.

    Parameters
    ----------
    k, n
        How many chose, and looked; (N,), 0 ≤ k ≤ n. Weighted votes may be no whole numbers (`n_eff`).

    Returns
    -------
    k, n
        float64 (U,), of the different pairs.
    which
        int (N,): the pair of each subject.
    times
        int (U,): how many subjects have it.

    Raises
    ------
    ValueError
        Columns of unequal length, a k below 0 or above its n, a missing value.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    if k.ndim != 1 or k.shape != n.shape:
        raise ValueError(f"how many chose is of shape {k.shape}, how many looked of {n.shape}")
    wrong = np.flatnonzero(~((k >= 0) & (k <= n) & np.isfinite(n)))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            f"subject {i} was chosen {k[i]:g} times of {n[i]:g}; leave out those whose votes make no sense"
        )
    if not len(k):
        return k, n, np.zeros(0, np.int64), np.zeros(0, np.int64)
    if (stride := n.max() + 1) < 2**20 and np.array_equal(k, np.floor(k)) and np.array_equal(n, np.floor(n)):
        keys = (n * stride + k).astype(np.int64)  # one column sorts ten times as fast as two
        found, which, times = np.unique(keys, return_inverse=True, return_counts=True)
        return (found % int(stride)).astype(np.float64), (found // int(stride)).astype(np.float64), which, times
    both, which, times = np.unique(np.stack([n, k], axis=1), axis=0, return_inverse=True, return_counts=True)
    return both[:, 1], both[:, 0], which.ravel(), times


def fit(k: np.ndarray, n: np.ndarray, parts: int | None = None) -> Prior:
    """The spread of true fractions under which these votes are most probable.

    Parameters
    ----------
    k, n
        As of `pairs`; subjects that nobody looked at say nothing.
    parts
        How many Beta distributions are mixed, 1 or 2; None: two where the votes favor it (Schwarz's criterion).

    Raises
    ------
    ValueError
        As `pairs`; or no subject has two votes or more, so that nothing says how the fractions are spread.
    """
    k, n, _, times = pairs(k, n)
    k, n, times = k[n > 0], n[n > 0], times[n > 0]
    if not len(n) or n.max() <= 1:
        raise ValueError(
            "no subject has two votes or more: how the true fractions are spread cannot be told from these"
        )
    total = int(times.sum())
    mean = min(max(float(times @ k / (times @ n)), EDGE), 1 - EDGE)
    middle = math.log(mean / (1 - mean))
    limits = [(middle - 10, middle + 10), (math.log(1e-3), math.log(MOST)), (-10.0, 10.0)]

    def best(starts: list[list[float]]) -> tuple[float, np.ndarray]:
        found = [
            minimize(_loss, start, args=(k, n, times), jac=True, method="L-BFGS-B", bounds=limits * (len(start) // 3))
            for start in starts
        ]
        least = min(found, key=lambda result: float(result.fun))
        return float(least.fun), np.asarray(least.x)

    loss, x = best([[middle, math.log(s), 0.0] for s in (0.5, 5.0, 50.0)])
    if parts == 2 or (parts is None and len(k) > 5):
        s = x[1]
        loss_2, mixed = best(
            [[middle - 0.7, s + 1, 0.5, middle + 1, s, -0.5], [middle - 0.2, s, 1.0, middle + 2, s, -1.0]]
        )
        if parts == 2 or 2 * total * (loss - loss_2) > 3 * math.log(total):
            x = mixed
    m, s, share = _parts(x)
    first, *others = sorted(zip(share.tolist(), (m * s).tolist(), ((1 - m) * s).tolist(), strict=True), reverse=True)
    return Prior(first[1], first[2], tuple(others))


def _parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, a + b and share of each Beta distribution, of their logit, logarithm and logarithm."""
    middle, size, share = np.asarray(x).reshape(-1, 3).T
    return expit(middle), np.exp(size), softmax(share)


def _loss(x: np.ndarray, k: np.ndarray, n: np.ndarray, times: np.ndarray) -> tuple[float, np.ndarray]:
    """Minus the mean logarithm of the votes' probability, and its slope."""
    m, s, share = (part[:, None] for part in _parts(x))
    a, b = m * s, (1 - m) * s
    likelihood = np.log(share) + betaln(a + k, b + n - k) - betaln(a, b)
    whole = logsumexp(likelihood, axis=0)
    weight = np.exp(likelihood - whole) * times  # whose each subject is
    common = digamma(s) - digamma(s + n)
    by_a = (weight * (digamma(a + k) - digamma(a) + common)).sum(axis=1)
    by_b = (weight * (digamma(b + n - k) - digamma(b) + common)).sum(axis=1)
    a, b, m, s, share = (part[:, 0] for part in (a, b, m, s, share))
    by_share = weight.sum(axis=1) - share * times.sum()
    slope = np.stack([(by_a - by_b) * s * m * (1 - m), by_a * a + by_b * b, by_share], axis=1)
    return -float(times @ whole) / times.sum(), -slope.ravel() / times.sum()


def soft(k: np.ndarray, n: np.ndarray, sigma: float | np.ndarray, prior: Prior) -> np.ndarray:
    """P(true fraction ≥ Σ | k of n), float64 (N,); for n = 0 what the prior says.

    Parameters
    ----------
    k, n
        0 ≤ k ≤ n, (N,).
    sigma
        Σ, one or one of each subject; at most 0 is always reached, above 1 never.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    at = np.clip(sigma, 0, 1)
    reached = [_above(a + k, b + n - k, at) for _, a, b in prior.parts]
    p = reached[0]
    if len(reached) > 1:
        whose = softmax(
            [math.log(share) + betaln(a + k, b + n - k) - betaln(a, b) for share, a, b in prior.parts], axis=0
        )
        p = (whose * reached).sum(axis=0)
    return np.asarray(np.where(np.asarray(sigma) > 1, 0.0, np.clip(p, 0, 1)))


def _above(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The part of Beta(a, b) above x: `scipy.special.betaincc` in a twelfth of its time."""
    found = betainc(b, a, 1 - x)
    if np.any(near := x < 1e-3):  # where 1 - x loses digits of x
        found = np.where(near, 1 - betainc(a, b, x), found)
    return np.asarray(found)


def ceiling(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best that any cut can be expected to reach against a soft truth.

    Who keeps m subjects cannot expect more positives among them than the m highest probabilities sum up to.

    Parameters
    ----------
    p
        Probability of being positive, float (N,), of the subjects whose truth is known.

    Returns
    -------
    precision, recall
        float64 (T,): where the first 1, 2, … of different p are kept; recall rises to 1. Empty without any p above 0.
    """
    p = np.asarray(p, np.float64)
    values, times = np.unique(p, return_counts=True)
    values, times = values[::-1], times[::-1]
    found, kept = np.cumsum(values * times), np.cumsum(times)
    if not len(p) or found[-1] <= 0:
        return np.zeros(0), np.zeros(0)
    return found / kept, found / found[-1]


def ceiling_of_votes(
    k: np.ndarray, n: np.ndarray, sigma: float, prior: Prior, thresholds: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """What a cut by the true fractions themselves is expected to reach when judged by whether k / n ≥ Σ.

    Precision and recall of true fraction ≥ t against the votes, for t from 1 down to 0: a perfect classifier loses to
    the noise of this truth what is missing here, and whoever stays above has learned the noise.

    Parameters
    ----------
    k, n
        As of `pairs`; n > 0.
    sigma
        Σ of the truth, in (0, 1].
    thresholds
        How many t, at most.

    Returns
    -------
    precision, recall
        float64 (T,), by rising recall; empty where no subject is positive.
    """
    k, n, _, times = pairs(k, n)
    positive = (k >= sigma * n) & (n > 0)
    if not positive.any():
        return np.zeros(0), np.zeros(0)
    kept, found = np.zeros(thresholds), np.zeros(thresholds)
    for i, t in enumerate(np.linspace(1, 0, thresholds + 1)[1:]):
        reached = times * soft(k, n, t, prior)
        kept[i], found[i] = reached.sum(), reached[positive].sum()
    some = kept > 1e-6 * times.sum()
    return found[some] / kept[some], found[some] / times[positive].sum()
