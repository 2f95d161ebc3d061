"""Votes as truth: how probably the fraction that would choose a subject reaches Σ, when k of n who looked did.

Few votes are a noisy truth: of many subjects whose true fraction is low, some get k / n ≥ Σ by chance, and where low
ones are far more numerous they are most of those that do. The true fractions of all subjects are taken to follow one
Beta distribution, fitted to all (k, n) of the survey (empirical Bayes); a subject's own is then Beta(a + k, b + n - k).

References
----------
Skellam 1948, J. R. Stat. Soc. B 10, 257 (beta-binomial). Casella 1985, Am. Stat. 39, 83 (empirical Bayes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaincc, betaln, digamma

#: Fractions between this and one minus this are fitted as means, and spreads between binomial and none at all.
EDGE = 1e-9
MOST = 1e6


@dataclass(frozen=True, slots=True)
class Prior:
    """Beta(a, b), how the true fractions of a survey's subjects are spread; a, b > 0."""

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (0 < self.a < math.inf and 0 < self.b < math.inf):
            raise ValueError(f"a Beta distribution has a and b above 0, not {self.a:g} and {self.b:g}")

    @property
    def mean(self) -> float:
        """The mean true fraction."""
        return self.a / (self.a + self.b)


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


def fit(k: np.ndarray, n: np.ndarray) -> Prior:
    """The Beta distribution of true fractions under which these votes are most probable.

    Parameters
    ----------
    k, n
        As of `pairs`; subjects that nobody looked at say nothing.

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
    total = times.sum()
    mean = min(max(float(times @ k / (times @ n)), EDGE), 1 - EDGE)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the mean log likelihood, and its slope; at the logit of the mean and the logarithm of a + b."""
        m, s = 1 / (1 + math.exp(-at[0])), math.exp(at[1])
        a, b = m * s, (1 - m) * s
        likelihood = times @ (betaln(a + k, b + n - k) - betaln(a, b))
        common = digamma(s) - digamma(s + n)
        by_a = times @ (digamma(a + k) - digamma(a) + common)
        by_b = times @ (digamma(b + n - k) - digamma(b) + common)
        slope = np.array([(by_a - by_b) * s * m * (1 - m), by_a * a + by_b * b])
        return -float(likelihood) / total, -slope / total

    middle = math.log(mean / (1 - mean))
    limits = [(middle - 10, middle + 10), (math.log(1e-3), math.log(MOST))]
    starts = (np.array([middle, math.log(s)]) for s in (0.5, 5.0, 50.0))
    found = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits) for start in starts]
    x = min(found, key=lambda result: float(result.fun)).x
    m, s = 1 / (1 + math.exp(-x[0])), math.exp(x[1])
    return Prior(m * s, (1 - m) * s)


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
    p = betaincc(prior.a + k, prior.b + n - k, np.clip(sigma, 0, 1))
    return np.asarray(np.where(np.asarray(sigma) > 1, 0.0, p))


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
