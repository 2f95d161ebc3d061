"""What a subject's votes would teach a model of votes (BALD in count space), and whether that model is right.

A model says of each subject's fraction ρ what T posterior samples say, ρ_t; of k of n votes, then, the mixture
p(k) = mean_t Binom(k | n, ρ_t). Everything here takes ρ (S, T), whatever model it comes from.

References
----------
Houlsby, Huszár, Ghahramani & Lengyel 2011, arXiv:1112.5745 (BALD).
Walmsley et al. 2020, MNRAS 491, 1554, arXiv:1905.07424, §4 (of votes: mutual information between k and the weights).
Gal & Ghahramani 2016, arXiv:1506.02142 (dropout as samples of a posterior).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, entr, gammaln, kl_div, logsumexp, xlog1py, xlogy

from models.rates import share
from models.votes_truth import fit

#: Levels at which intervals are held against what was counted.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Votes within this of the predicted fraction: Walmsley et al. 2020 state their coverage error at it.
DEVIATION = 0.2
#: Numbers that are held at once while tables of all k are made.
AT_ONCE = 4_000_000
RESAMPLED = 1000
NOTHING = 1e-290


# -------------------------------------------------------------------------------------------------- what k may be
def log_binomial(k: np.ndarray, n: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """ln Binom(k | n, ρ), of any shapes that go together; -inf where ρ is 0 or 1 and k is not."""
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(ways + xlogy(k, rho) + xlog1py(n - k, -np.asarray(rho, np.float64)))


def counts(rho: np.ndarray, n_votes: int) -> np.ndarray:
    """p_t(k) = Binom(k | n, ρ_t) for k = 0 … n: float64 (S, T, n + 1) of ρ (S, T)."""
    k = np.arange(n_votes + 1)
    return np.asarray(np.exp(log_binomial(k, np.asarray(n_votes), np.asarray(rho, np.float64)[..., None])))


def bald(rho: np.ndarray, n_votes: int) -> np.ndarray:
    """How much `n_votes` more votes would tell of the model's weights: float64 (S,) nats, 0 to min(ln T, ln(n + 1)).

    I = H[mean_t p_t] - mean_t H[p_t], p_t(k) = Binom(k | n, ρ_t) (Walmsley et al. 2020, without the 1e-12 and the
    rounding of ρ to three digits that stand in their code). Computed as the mean divergence of the p_t from their
    mean, which is the same and subtracts no large numbers: where the samples agree it is 0 to rounding, never below.

    Parameters
    ----------
    rho
        (S, T) in [0, 1]; a subject with a NaN gets NaN.
    n_votes
        The votes that it would get, 1 or more.
    """
    if n_votes < 1:
        raise ValueError(f"information is of one vote or more, not of {n_votes}")
    found = np.empty(len(rho))
    for here in _blocks(len(rho), rho.shape[1] * (n_votes + 1)):
        p = counts(rho[here], n_votes)
        p[p < NOTHING] = 0  # else their mean could round to 0 where one of them is not
        found[here] = np.maximum(kl_div(p, p.mean(1, keepdims=True)).sum(2).mean(1), 0)
    return found


def entropy(p: np.ndarray) -> np.ndarray:
    """H = -Σ p ln p over the last axis, in nats."""
    return np.asarray(entr(p).sum(-1))


def _blocks(n: int, width: int) -> Iterator[slice]:
    step = max(1, AT_ONCE // max(1, width))
    return (slice(i, i + step) for i in range(0, n, step))


# ------------------------------------------------------------------------------------------------ dropout's samples
def dropped(
    h: np.ndarray, rows: np.ndarray, weight: np.ndarray, bias: float, rate: float, samples: int, seed: int
) -> np.ndarray:
    """ρ of a network whose last layer is logistic, with dropout before it left on: float32 (n, samples).

    A unit of a row's sample is dropped by a hash of seed, row, sample and unit: what is computed beside it, and in what
    order, changes nothing.

    Parameters
    ----------
    h
        float32 (n, D): what the layer gets, before dropout.
    rows
        int64 (n,): which of all rows these are.
    weight, bias
        float (D,) and a number: ρ = 1 / (1 + exp(-(w·h + b))).
    rate
        Share of the units that are dropped, in (0, 1) by steps of 2⁻¹⁶; the others count for 1 / (1 - rate).
    """
    n, units = h.shape
    found = np.empty((n, samples), np.float32)
    quarters = -(-units // 4)  # one hash has four numbers of 16 bits
    limit = round(rate * 2**16)
    counters = np.arange(samples * quarters, dtype=np.uint64)
    for here in _blocks(n, samples * units):
        base = _mixed(rows[here].astype(np.uint64) + _mixed(np.array([seed], np.uint64) + GOLDEN))
        bits = _mixed(base[:, None] + counters * GOLDEN)
        numbers = bits.view("<u2" if bits.dtype.isnative else ">u2").reshape(-1, samples, quarters * 4)[..., :units]
        part = h[here].astype(np.float64) * np.asarray(weight, np.float64) / (1 - rate)
        logit = np.where(numbers >= limit, part[:, None, :], 0.0).sum(2) + bias
        found[here] = 1 / (1 + np.exp(-np.clip(logit, -80, 80)))
    return found


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's finalizer (Steele, Lea & Flood 2014): uint64 → uint64, every bit depends on every other."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


# ------------------------------------------------------------------------------------------------------ is it right
@dataclass(frozen=True, slots=True, eq=False)
class Covered:
    """How often what was counted lies where the model said.

    Attributes
    ----------
    level
        What the interval was asked to hold, or the deviation from the prediction.
    expected
        What the model says that these hold, mean over subjects: a little above `level`, as counts are whole.
    k, n
        Subjects whose count lies in theirs, and all; `low` and `high` are Wilson's 95 % of k / n.
    """

    level: float
    expected: float
    k: int
    n: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A model's prediction of votes that it had not seen, beside a constant rate for every subject.

    Attributes
    ----------
    levels
        Of central intervals, at each of `LEVELS`.
    within
        Counts within `DEVIATION` of the mean of ρ, as a fraction of the votes.
    coverage_error
        Mean over levels of |share that lies within - share that the model says|.
    log_loss, constant_log_loss
        float64 (S,): -ln p(k), of the model and of the constant rate, in nats.
    error, constant_error
        float64 (S,): predicted fraction - k / n.
    """

    levels: tuple[Covered, ...]
    within: Covered
    coverage_error: float
    log_loss: np.ndarray
    constant_log_loss: np.ndarray
    error: np.ndarray
    constant_error: np.ndarray


def calibrate(rho: np.ndarray, k: np.ndarray, n: np.ndarray, baseline: Constant) -> Calibration:
    """Hold predictions against votes that had no part in them.

    Parameters
    ----------
    rho
        (S, T), posterior samples for each subject.
    k, n
        (S,): votes counted, whole numbers, n ≥ 1.
    baseline
        What is known without looking at images, from subjects that are not among these.
    """
    k, n = np.asarray(k, np.int64), np.asarray(n, np.int64)
    center = rho.mean(1, dtype=np.float64)
    inside = np.empty((len(LEVELS) + 1, len(k)), bool)
    mass = np.empty((len(LEVELS) + 1, len(k)))
    for votes in np.unique(n):  # counts of one n share a table
        of_n = np.flatnonzero(n == votes)
        for block in _blocks(len(of_n), rho.shape[1] * (int(votes) + 1)):
            here = of_n[block]
            p = counts(rho[here], int(votes)).mean(1)  # (s, votes + 1)
            below = np.minimum(np.cumsum(p, 1), 1)
            for i, level in enumerate(LEVELS):
                tail = (1 - level) / 2
                low = (below < tail - 1e-12).sum(1)
                high = np.minimum((below < 1 - tail - 1e-12).sum(1), votes)
                inside[i, here] = (k[here] >= low) & (k[here] <= high)
                mass[i, here] = _between(p, low, high)
            near = np.abs(np.arange(votes + 1) / votes - center[here, None]) <= DEVIATION
            inside[-1, here] = near[np.arange(len(here)), k[here]]
            mass[-1, here] = (p * near).sum(1)
    told = [_covered(level, mass[i], inside[i]) for i, level in enumerate((*LEVELS, DEVIATION))]
    return Calibration(
        levels=tuple(told[:-1]),
        within=told[-1],
        coverage_error=float(np.mean([abs(one.k / one.n - one.expected) for one in told[:-1]])),
        log_loss=log_loss(rho, k, n),
        constant_log_loss=baseline.log_loss(k, n),
        error=center - k / n,
        constant_error=baseline.mean - k / n,
    )


def log_loss(rho: np.ndarray, k: np.ndarray, n: np.ndarray) -> np.ndarray:
    """-ln mean_t Binom(k | n, ρ_t), float64 (S,), in nats."""
    # a float32 ρ may be 0 or 1 exactly: as likely as the loss of the fit takes it
    safe = np.clip(np.asarray(rho, np.float64), 1e-8, 1 - 1e-8)
    each = log_binomial(np.asarray(k)[:, None], np.asarray(n)[:, None], safe)
    return np.asarray(np.log(rho.shape[1]) - logsumexp(each, axis=1))


def _between(p: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    k = np.arange(p.shape[1])
    return np.asarray((p * ((k >= low[:, None]) & (k <= high[:, None]))).sum(1))


def _covered(level: float, mass: np.ndarray, inside: np.ndarray) -> Covered:
    rate = share(int(inside.sum()), len(inside))
    return Covered(level, float(mass.mean()), int(inside.sum()), len(inside), rate.low or 0.0, rate.high or 0.0)


@dataclass(frozen=True, slots=True)
class Constant:
    """The votes of a subject of which nothing is known but that it is one of these: a beta-binomial.

    Attributes
    ----------
    mean
        Mean of k / n over subjects.
    parts
        Share, a and b of the Beta distributions that are mixed; none: a binomial of `mean`.
    """

    mean: float
    parts: tuple[tuple[float, float, float], ...]

    def log_loss(self, k: np.ndarray, n: np.ndarray) -> np.ndarray:
        """-ln p(k), float64 (S,), in nats."""
        k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
        if not self.parts:
            return -log_binomial(k, n, np.clip(self.mean, 1e-8, 1 - 1e-8))
        ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        each = [np.log(part) + betaln(a + k, b + n - k) - betaln(a, b) for part, a, b in self.parts]
        return -np.asarray(ways + logsumexp(each, axis=0))


def constant(k: np.ndarray, n: np.ndarray) -> Constant:
    """The constant rate of these votes: a Beta distribution of rates, or two mixed where the votes favor it."""
    mean = float(np.mean(np.asarray(k) / np.asarray(n)))
    if np.max(n) <= 1:
        return Constant(mean, ())
    return Constant(mean, fit(np.asarray(k, np.float64), np.asarray(n, np.float64)).parts)


def bootstrapped(
    groups: np.ndarray, columns: Sequence[np.ndarray], figure: Callable[..., float | np.ndarray], seed: int = 0
) -> tuple[float, float, float]:
    """A figure of means over subjects, and its 95 % interval over draws of whole groups.

    Parameters
    ----------
    groups
        (S,), equal where two subjects show the same sky.
    columns
        Each float (S,).
    figure
        Means of the columns, numbers or arrays (R,) → the figure.

    Returns
    -------
    value, low, high
        NaN for low and high where there is one group alone.
    """
    _, of = np.unique(groups, return_inverse=True)
    n_groups = int(of.max()) + 1
    sums = np.stack([np.bincount(of, column, n_groups) for column in (np.ones(len(of)), *columns)])
    value = float(figure(*(sums[1:].sum(1) / sums[0].sum())))
    if n_groups < 2:
        return value, float("nan"), float("nan")
    random = np.random.default_rng([seed, 11])
    drawn = np.empty((RESAMPLED, len(sums)))
    for here in _blocks(RESAMPLED, n_groups):
        times = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=len(drawn[here]))
        drawn[here] = times @ sums.T
    low, high = np.percentile(figure(*(drawn[:, 1:] / drawn[:, :1]).T), (2.5, 97.5))
    return value, float(low), float(high)


def rmse_difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """√ours - √theirs, of two mean squared errors: a figure for `bootstrapped`."""
    return np.asarray(np.sqrt(ours) - np.sqrt(theirs))
