"""Votes as a soft truth: known fractions are recovered, probabilities are honest, ceilings hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import betaincc

from models.votes_truth import Prior, _above, ceiling, ceiling_of_votes, fit, pairs, soft


@pytest.fixture(scope="module")
def crowd():
    """True fractions, k and n of 100,000 subjects."""
    random = np.random.default_rng(0)
    fraction, n = random.beta(0.5, 4.0, 100_000), random.integers(1, 40, 100_000)
    return fraction, random.binomial(n, fraction), n


def test_the_distribution_that_was_drawn_from_is_found(crowd):
    prior = fit(*crowd[1:])
    assert (prior.a, prior.b) == pytest.approx((0.5, 4.0), rel=0.03)


def test_it_is_the_most_probable_one(crowd):
    k, n = (column[:2000] for column in crowd[1:])
    best = fit(k, n)

    def likelihood(a, b):
        return stats.betabinom.logpmf(k, n, a, b).sum()

    assert not best.others
    for a, b in ((1.02, 1), (0.98, 1), (1, 1.02), (1, 0.98), (1.02, 1.02)):
        assert likelihood(best.a, best.b) > likelihood(best.a * a, best.b * b)


def test_equal_fractions_and_none_at_all_are_fitted_too():
    assert fit(np.random.default_rng(0).binomial(20, 0.3, 5000), np.full(5000, 20)).mean == pytest.approx(0.3, abs=0.01)
    assert soft([0], [5], 0.5, fit(np.zeros(10), np.full(10, 5)))[0] < 1e-3
    assert soft([5], [5], 0.5, fit(np.full(10, 5), np.full(10, 5)))[0] > 1 - 1e-3


@given(st.integers(0, 20), st.integers(0, 20), st.floats(0.05, 0.95), st.floats(0.3, 5), st.floats(0.3, 5))
def test_it_is_the_posterior_integrated(k, more, sigma, a, b):
    n = k + more

    def density(x):
        return x ** (a + k - 1) * (1 - x) ** (b + n - k - 1)

    # the end where the density may be infinite is left to the quadrature's weights
    above, _ = integrate.quad(lambda x: x ** (a + k - 1), sigma, 1, weight="alg", wvar=(0, b + n - k - 1))
    below, _ = integrate.quad(lambda x: (1 - x) ** (b + n - k - 1), 0, sigma, weight="alg", wvar=(a + k - 1, 0))
    assert soft([k], [n], sigma, Prior(a, b))[0] == pytest.approx(above / (above + below), abs=1e-6)


def test_what_is_said_to_be_probable_is_as_frequent(crowd):
    fraction, k, n = crowd
    p = soft(k, n, 0.3, fit(k, n))
    for low in np.arange(0, 1, 0.2):
        those = (p >= low) & (p < low + 0.2)
        assert p[those].mean() == pytest.approx((fraction[those] >= 0.3).mean(), abs=0.02)


def test_ends_of_sigma_and_subjects_without_votes():
    prior = Prior(2.0, 2.0)
    np.testing.assert_array_equal(soft([0, 5], [5, 5], 0.0, prior), [1, 1])
    np.testing.assert_array_equal(soft([0, 5], [5, 5], 1.5, prior), [0, 0])
    assert soft([0], [0], 0.5, prior)[0] == pytest.approx(0.5)
    np.testing.assert_allclose(soft([3, 3], [5, 5], np.array([0.2, 0.8]), prior)[0], soft([3], [5], 0.2, prior)[0])


def test_pairs_are_what_there_is(crowd):
    _, k, n = crowd
    for scale in (1, 0.5):  # weighted votes are no whole numbers
        ks, ns, which, times = pairs(k * scale, n * scale)
        np.testing.assert_array_equal(ks[which], k * scale)
        np.testing.assert_array_equal(ns[which], n * scale)
        assert times.sum() == len(k) and len(ks) == len({*zip(k.tolist(), n.tolist(), strict=True)})
    assert len(pairs([], [])[0]) == 0


def test_no_cut_beats_the_ceiling(crowd):
    _, k, n = crowd
    p = soft(k, n, 0.3, fit(k, n))[:3000]
    precision, recall = ceiling(p)
    assert recall[-1] == pytest.approx(1) and precision[-1] == pytest.approx(p.mean())
    assert (np.diff(recall) > 0).all() and (np.diff(precision) <= 1e-12).all()
    random = np.random.default_rng(1)
    for _ in range(50):
        kept = random.random(3000) < (0.1 + random.random() * p)
        reached = p[kept].sum() / p.sum()
        assert p[kept].mean() <= np.interp(reached, recall, precision) + 1e-9
    assert len(ceiling(np.zeros(4))[0]) == 0


def test_a_cut_by_the_true_fractions_reaches_the_ceiling_of_votes(crowd):
    fraction, k, n = crowd
    positive = k >= 0.3 * n
    precision, recall = ceiling_of_votes(k, n, 0.3, Prior(0.5, 4.0))
    for t in (0.1, 0.3, 0.5):
        kept = fraction >= t
        reached = (kept & positive).sum() / positive.sum()
        assert (kept & positive).sum() / kept.sum() == pytest.approx(np.interp(reached, recall, precision), abs=0.015)
    assert len(ceiling_of_votes(np.zeros(5), np.full(5, 9), 0.5, Prior(1, 1))[0]) == 0


def test_votes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="chosen 3 times of 2"):
        fit([1, 3], [2, 2])
    with pytest.raises(ValueError, match="chosen nan times"):
        pairs([np.nan], [2])
    with pytest.raises(ValueError, match="shape"):
        pairs([1, 2], [2])
    with pytest.raises(ValueError, match="two votes"):
        fit([0, 1, 0], [1, 1, 0])
    with pytest.raises(ValueError, match="above 0"):
        Prior(0.0, 1.0)
    with pytest.raises(ValueError, match="share"):
        Prior(1.0, 1.0, ((1.5, 1.0, 1.0),))


def test_two_kinds_of_subjects_are_found_where_there_are_two():
    random = np.random.default_rng(3)
    rare, n = random.random(60_000) < 0.1, random.integers(10, 40, 60_000)
    fraction = np.where(rare, random.beta(6, 3, 60_000), random.beta(2, 30, 60_000))
    k = random.binomial(n, fraction)
    prior = fit(k, n)
    (most, a, b), (share, a2, b2) = prior.parts
    assert (most, share) == pytest.approx((0.9, 0.1), abs=0.01)
    assert (a / (a + b), a2 / (a2 + b2)) == pytest.approx((2 / 32, 6 / 9), rel=0.03)
    assert prior.mean == pytest.approx(fraction.mean(), rel=0.03)
    one, two = (soft(k, n, 0.5, fit(k, n, parts)) for parts in (1, 2))
    np.testing.assert_allclose(two, soft(k, n, 0.5, prior))
    those = (two > 0.3) & (two < 0.9)
    true = (fraction[those] >= 0.5).mean()
    error = np.sqrt(true * (1 - true) / those.sum())
    assert abs(two[those].mean() - true) < 3 * error < abs(one[those].mean() - true)


def test_one_is_taken_where_there_is_one(crowd):
    assert not fit(*crowd[1:]).others
    assert len(fit(*crowd[1:], parts=2).parts) == 2
    few = fit(crowd[1][:200], crowd[2][:200])
    assert not few.others


def test_the_studys_positives_are_not_all_expected_to_be(shared_data: Path):
    """From the counts alone. By one Beta, 43 % of those with more than half of the votes, 38 % of those with half.

    But it expects a third less of them than there are; two mixed expect as many, and say 53 % and 47 %.
    """
    path = shared_data / "weird_wonderful" / "latest_consensus_aggregation_table.dat"
    votes = pd.read_csv(path, sep=r"\s+")
    k, n = votes["selected_count"].to_numpy(), votes["count"].to_numpy()
    half, more = k >= 0.5 * n, k > 0.5 * n
    assert (half.sum(), more.sum()) == (5518, 4430)
    sizes, times = np.unique(n, return_counts=True)
    for parts, of_more, of_half, expected in ((1, 0.434, 0.377, 3744), (None, 0.534, 0.473, 5380)):
        prior = fit(k, n, parts)
        p = soft(k, n, 0.5, prior)
        assert (p[more].mean(), p[half].mean()) == pytest.approx((of_more, of_half), abs=0.003)
        upto = np.ceil(sizes / 2) - 1
        seen = sum(share * times @ stats.betabinom.sf(upto, sizes, a, b) for share, a, b in prior.parts)
        assert seen == pytest.approx(expected, rel=0.01)


def test_the_upper_part_is_scipys_own_at_every_size():
    rng = np.random.default_rng(1)
    a, b = 10 ** rng.uniform(-3, 5, (2, 50_000))
    for low in (-12.0, -4.0, -1.0):
        x = 10 ** rng.uniform(low, 0, 50_000)
        np.testing.assert_allclose(_above(a, b, x), betaincc(a, b, x), rtol=0, atol=1e-11)
    assert _above(np.array([2.0, 3.0]), np.array([3.0, 2.0]), np.float64(0)).tolist() == [1, 1]
    assert _above(np.array([2.0, 3.0]), np.array([3.0, 2.0]), np.float64(1)).tolist() == [0, 0]
