"""Drift: distances against SciPy's, p under the null, strangers, kept fractions."""

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest

from models.drift import (
    DRAWN,
    DriftError,
    difference,
    distances,
    effective,
    ks,
    own_distances,
    packed,
    permuted,
    sample_of,
    shift,
    unpacked,
)
from models.rates import share

M = 1_001


def quantiles(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, M))


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_the_distance_is_scipys(decimals: int | None) -> None:
    """With ties and without."""
    rng = np.random.default_rng(1)
    for n, m in ((1, 1), (7, 400), (1000, 30), (500, 500)):
        a, b = rng.normal(size=n), rng.normal(0.2, 1.3, m)
        if decimals is not None:
            a, b = a.round(decimals), b.round(decimals)
        assert ks(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("n", [5, 100, 1_001])
def test_few_values_come_back_from_their_quantiles(n: int) -> None:
    values = np.random.default_rng(n).gamma(2, size=n)
    there = sample_of(quantiles(values), n)
    assert len(there) == n
    if n in (5, 1_001):  # quantiles fall on the values
        np.testing.assert_allclose(there, np.sort(values))
    others = np.random.default_rng(0).gamma(3, size=400)
    assert ks(there, others) == pytest.approx(ks_2samp(values, others).statistic, abs=2 / n if n == 100 else 1e-9)


@pytest.mark.parametrize("round_to", [None, 1])
def test_the_distance_from_quantiles_is_that_of_all(round_to: int | None) -> None:
    rng = np.random.default_rng(2)
    there, here = rng.normal(size=40_000), rng.normal(0.3, 1, 9_000)
    if round_to is not None:
        there, here = there.round(round_to), here.round(round_to)
    found = shift(quantiles(there), len(there), np.append(here, [np.nan, np.inf]))
    assert found.distance == pytest.approx(ks_2samp(there, here).statistic, abs=1.5 / (M - 1))
    assert (found.n_tuned, found.n, found.n_drawn) == (40_000, 9_000, (DRAWN, DRAWN))
    assert found.p == pytest.approx(0.001)  # 999 permutations say no less


def test_p_is_uniform_where_nothing_shifted() -> None:
    """Of few values and of many: a test of 5 % finds a shift in 5 %."""
    rng = np.random.default_rng(3)
    for n in (60, 5_000):
        found = [shift(quantiles(rng.normal(size=n)), n, rng.normal(size=80), seed).p for seed in range(120)]
        p = np.array([one for one in found if one is not None])
        assert len(p) == 120
        assert kstest(p, "uniform").pvalue > 0.01
        assert (p <= 0.05).mean() < 0.12


def test_p_of_ties_and_of_constants() -> None:
    rng = np.random.default_rng(4)
    assert permuted(np.ones(20), np.ones(30), 99, rng) == 1.0
    assert permuted(np.zeros(20), np.ones(30), 99, rng) == 0.01
    p = [
        permuted(rng.integers(0, 3, 40).astype(float), rng.integers(0, 3, 40).astype(float), 99, rng) for _ in range(80)
    ]
    assert (np.array(p) <= 0.05).mean() < 0.13  # ties make it careful, never bold


def test_a_small_shift_is_found_and_none_without_values() -> None:
    rng = np.random.default_rng(5)
    there = quantiles(rng.normal(size=3_000))
    assert (shift(there, 3_000, rng.normal(0.25, 1, 3_000)).p or 1) < 0.01
    for nothing in (shift(there, 3_000, np.array([np.nan])), shift(np.array([]), 0, np.ones(3))):
        assert nothing.distance is None and nothing.p is None


def test_a_sample_of_latents_goes_through_a_file() -> None:
    rng = np.random.default_rng(6)
    latents = rng.normal(0, 1e6, (50, 8)).astype(np.float32)  # beyond what half precision holds
    told = packed(latents) | {"size": 8}
    np.testing.assert_allclose(unpacked(told), latents, rtol=1e-3, atol=200)
    assert unpacked(packed(np.zeros((4, 2))) | {"size": 2}).shape == (4, 2)
    wrongs = ({"size": 9}, {"sample": "!"}, {"scale": math.inf}, {"n_sample": None}, {"sample": None}, {"scale": True})
    for wrong in wrongs:
        with pytest.raises(DriftError, match="sample of latent vectors"):
            unpacked(told | wrong)


def test_strangers_are_far_from_the_sample() -> None:
    """Those of the same kind are beyond the 99.9 % point as often as it says, others always."""
    rng = np.random.default_rng(7)
    sample = rng.normal(size=(1_000, 6)).astype(np.float32)
    tune = rng.normal(size=(20_000, 6)).astype(np.float32)
    limit = np.percentile(distances(sample, tune, 10), 99.9)
    new = rng.normal(size=(20_000, 6)).astype(np.float32)
    new[:3] += 20
    new[3] = np.nan
    far = distances(sample, new, 10)
    assert (far[:3] > limit).all() and np.isnan(far[3])
    assert 5 <= (far[4:] > limit).sum() <= 40  # 20 expected
    brute = np.sort(np.linalg.norm(sample - new[9], axis=1))[:10].mean()
    assert far[9] == pytest.approx(brute, rel=1e-5)
    own = np.sort(np.linalg.norm(sample - sample[4], axis=1))[1:11].mean()
    assert own_distances(sample, 10)[4] == pytest.approx(own, rel=1e-5)


def test_differences_of_kept_fractions() -> None:
    """Newcombe 1998, table II, method 10: 56 of 70 less 48 of 80 is .2, .0524 to .3339."""
    found = difference(share(48, 80), share(56, 70))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert difference(share(0, 0), share(1, 2)) is None


def test_a_weighted_share() -> None:
    kept = np.array([True, False, True, False])
    assert effective(np.ones(4), kept).to_json() == share(2, 4).to_json()
    uneven = effective(np.array([1.0, 1.0, 1.0, 97.0]), kept)
    assert uneven.value == pytest.approx(0.02) and uneven.n == pytest.approx(100**2 / (3 + 97**2))
    assert effective(np.zeros(0), np.zeros(0, bool)).value is None
