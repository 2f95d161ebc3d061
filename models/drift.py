"""Drift: whether subjects of another survey are like those that a boundary was tuned on, from a short summary of those.

The summary is a table of quantiles for each score and a sample of latent vectors; the tuning survey itself is not
needed. Scores are compared by the Kolmogorov-Smirnov distance, latent vectors by the mean distance to the nearest of
the sample, kept fractions by Wilson intervals and Newcombe's interval of their difference (1998, method 10).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.embedding import search
from models.rates import Rate, share

#: Values of either side that a permutation test draws at most, and its permutations.
DRAWN, PERMUTATIONS = 1_001, 999
#: Latent vectors that stand for all of a survey.
SAMPLE = 2_000
#: Rows that are searched at once.
BLOCK = 65_536


class DriftError(ValueError):
    """A summary that is not what it should be: one sentence."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How far two distributions of one score are apart.

    Attributes
    ----------
    distance
        Kolmogorov-Smirnov: the greatest difference of the two cumulative shares, 0 … 1; None without values.
    p
        How often values of one distribution, drawn apart at random, are as far apart as those drawn here (see `shift`).
    n_tuned, n
        Finite values there and here.
    n_drawn
        Values there and here that `p` is from.
    """

    distance: float | None
    p: float | None
    n_tuned: int
    n: int
    n_drawn: tuple[int, int] = (0, 0)


def ks(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples without NaN: that of `scipy.stats.ks_2samp`."""
    a, b = np.sort(np.asarray(a, np.float64)), np.sort(np.asarray(b, np.float64))
    both = np.concatenate([a, b])
    below = np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)
    return float(np.abs(below).max())


def sample_of(quantiles: np.ndarray, n: int) -> np.ndarray:
    """The values that evenly spaced quantiles stand for, as a sample of min(n, number of quantiles), in rising order.

    Of so many or fewer values these are the values themselves, but for rounding; the distance of others from them is
    that from all n to ± 1 / (number of quantiles - 1).
    """
    quantiles = np.asarray(quantiles, np.float64)
    m = min(n, len(quantiles))
    return np.asarray(np.interp(np.linspace(0, 1, m), np.linspace(0, 1, len(quantiles)), quantiles))


def shift(quantiles: np.ndarray, n_tuned: int, values: np.ndarray, seed: int = 0) -> Shift:
    """How far values are from a distribution of which evenly spaced quantiles are known, least to greatest.

    The distance is of all `values`. Its p is a permutation test's: `DRAWN` of the values, and as many of the other
    side, are mixed and parted anew; of more than `DRAWN` tuned ones they are drawn from between the quantiles, for the
    quantiles alone scatter less than a sample does. So p does not fall for the mere size of the surveys: a shift that
    no thousand subjects show has a large p, however surely it is there.

    Parameters
    ----------
    n_tuned
        Values that the quantiles are of.
    values
        float (n,); NaN and infinite ones are left out.
    """
    here = np.asarray(values, np.float64)
    here = here[np.isfinite(here)]
    if not n_tuned or not len(here):
        return Shift(None, None, n_tuned, len(here))
    rng = np.random.default_rng(seed)
    there = sample_of(quantiles, n_tuned)
    distance = ks(there, here)
    if n_tuned > DRAWN:
        there = np.interp(rng.random(DRAWN), np.linspace(0, 1, len(quantiles)), np.asarray(quantiles, np.float64))
    drawn = rng.choice(here, DRAWN, replace=False) if len(here) > DRAWN else here
    p = permuted(there, drawn, PERMUTATIONS, rng)
    return Shift(distance, p, n_tuned, len(here), (len(there), len(drawn)))


def permuted(a: np.ndarray, b: np.ndarray, times: int, rng: np.random.Generator) -> float:
    """How often two samples that are mixed and parted anew are as far apart as they are: (1 + k) / (1 + times)."""
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(both[order]) > 0, True))  # of equal values the last
    is_a = (order < len(a)).astype(np.float64)

    def distance(marks: np.ndarray) -> np.ndarray:
        part = np.cumsum(marks, axis=-1)[..., ends]
        return np.asarray(np.abs(part / len(a) - (ends + 1 - part) / len(b)).max(axis=-1))

    seen = float(distance(is_a)) - 1e-12
    k = sum(
        int(np.count_nonzero(distance(rng.permuted(np.tile(is_a, (n, 1)), axis=1)) >= seen))
        for n in (len(part) for part in np.array_split(np.arange(times), math.ceil(times / 250)))
    )
    return (1 + k) / (1 + times)


# ---------------------------------------------------------------------------------------------------------- strangers
def packed(sample: np.ndarray) -> dict[str, Any]:
    """Latent vectors (n, d) as JSON: half-precision numbers over the greatest of them, in base64; see `unpacked`."""
    scale = float(np.abs(sample).max(initial=0.0)) or 1.0
    content = (sample / scale).astype("<f2").tobytes()
    return {"n_sample": len(sample), "scale": scale, "sample": base64.b64encode(content).decode()}


def unpacked(told: Mapping[str, Any]) -> np.ndarray:
    """The vectors of `packed`, float32 (n_sample, size): both surveys are measured from these, not from the originals.

    Raises
    ------
    DriftError
        They are not what `n_sample` and `size` say, or not finite.
    """
    n, size, scale = told.get("n_sample"), told.get("size"), told.get("scale")
    try:
        content = base64.b64decode(told["sample"], validate=True)
    except (ValueError, TypeError, KeyError):
        raise DriftError("the sample of latent vectors is no base64") from None
    if not isinstance(n, int) or not isinstance(size, int) or len(content) != 2 * n * size or n < 3:
        raise DriftError(f"the sample of latent vectors has {len(content):,} bytes, not 2 for each of {n} x {size}")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise DriftError("the scale of the sample of latent vectors is no number above 0")
    sample = np.frombuffer(content, "<f2").reshape(n, size).astype(np.float32) * np.float32(scale)
    if not np.isfinite(sample).all():
        raise DriftError("the sample of latent vectors has numbers that are not finite")
    return np.asarray(sample)


def distances(sample: np.ndarray, latents: np.ndarray, k: int, threads: int = 1) -> np.ndarray:
    """Mean distance of vectors (n, d) to the k nearest of a sample, float32 (n,); NaN for those that are not finite."""
    found = np.full(len(latents), np.nan, np.float32)
    for start in range(0, len(latents), BLOCK):
        block = np.asarray(latents[start : start + BLOCK], np.float32)
        rows = np.flatnonzero(np.isfinite(block).all(axis=1))
        if len(rows):
            found[start + rows] = search(sample, np.ascontiguousarray(block[rows]), k, threads)[1].mean(axis=1)
    return found


def own_distances(sample: np.ndarray, k: int) -> np.ndarray:
    """The same of the sample's own vectors, each among the others."""
    return np.asarray(search(sample, sample, k, own=0)[1].mean(axis=1))


# ------------------------------------------------------------------------------------------------------ kept fractions
def difference(a: Rate, b: Rate) -> tuple[float, float, float] | None:
    """b less a with its 95 % interval by Newcombe's hybrid score method; None where either is not known."""
    if a.value is None or b.value is None or a.low is None or b.low is None or a.high is None or b.high is None:
        return None
    d = b.value - a.value
    low = d - math.hypot(b.value - b.low, a.high - a.value)
    high = d + math.hypot(b.high - b.value, a.value - a.low)
    return d, low, high


def effective(weights: np.ndarray, kept: np.ndarray) -> Rate:
    """Share of the kept by weight; its interval is that of as many equal weights as these are worth, (Σw)² / Σw²."""
    total = float(weights.sum())
    if not total:
        return share(0, 0, empty="nobody was drawn")
    n = total**2 / float(np.square(weights).sum())
    return share(float(weights[kept].sum()) / total * n, n)
