"""BALD of votes and calibration: against slow loops, closed forms, and votes drawn from the model itself."""

import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from models.acquisition import (
    LEVELS,
    Constant,
    bald,
    bootstrapped,
    calibrate,
    constant,
    counts,
    dropped,
    entropy,
    log_binomial,
    log_loss,
    rmse_difference,
)


def slow_bald(rho, n: int) -> float:
    """The definition, term by term, for one subject."""

    def h(p):
        return -sum(x * math.log(x) for x in p if x > 0)

    each = [[math.comb(n, k) * r**k * (1 - r) ** (n - k) for k in range(n + 1)] for r in rho]
    mean = [sum(p[k] for p in each) / len(each) for k in range(n + 1)]
    return h(mean) - sum(h(p) for p in each) / len(each)


def test_what_k_may_be_sums_to_1():
    rho = np.array([[0.0, 1e-9, 0.3, 0.999999, 1.0]])
    for n in (1, 40, 700):
        p = counts(rho, n)
        assert p.shape == (1, 5, n + 1)
        np.testing.assert_allclose(p.sum(2), 1, rtol=1e-10)
    np.testing.assert_allclose(counts(rho, 40)[0, 2], binom.pmf(np.arange(41), 40, 0.3), rtol=1e-9)
    assert log_binomial(np.array(3), np.array(4), np.array(0.0)) == -np.inf


def test_bald_is_its_definition():
    rho = np.random.default_rng(0).beta(0.5, 0.5, (20, 7))
    rho[0, :3] = 0, 1, 0.5
    for n in (1, 3, 40):
        np.testing.assert_allclose(bald(rho, n), [slow_bald(one, n) for one in rho], rtol=1e-9, atol=1e-12)


def test_bald_of_samples_that_agree_is_0_and_never_below():
    rho = np.repeat(np.array([0.0, 0.1, 1 / 3, 0.5, 1.0])[:, None], 15, 1)
    told = bald(rho, 40)
    assert (told >= 0).all()
    np.testing.assert_allclose(told, 0, atol=1e-14)
    assert (bald(rho + np.random.default_rng(1).normal(0, 1e-9, rho.shape).clip(0) * (rho < 1), 40) >= 0).all()


def test_bald_of_one_vote_is_the_mutual_information_of_a_coin():
    rho = np.random.default_rng(2).random((50, 15))

    def coin(p):
        return entropy(np.stack([p, 1 - p], -1))

    np.testing.assert_allclose(bald(rho, 1), coin(rho.mean(1)) - coin(rho).mean(1), rtol=1e-9, atol=1e-12)


def test_bald_of_samples_that_share_no_count_is_the_logarithm_of_their_number():
    assert bald(np.array([[0.0, 1.0]]), 5)[0] == pytest.approx(math.log(2))
    more = bald(np.array([[0.1, 0.5, 0.9]]), 100_000)[0]
    assert more == pytest.approx(math.log(3), abs=1e-6)


def test_more_votes_tell_more_and_a_missing_sample_is_missing():
    rho = np.array([[0.2, 0.4, 0.6], [np.nan, 0.1, 0.2]])
    told = np.array([bald(rho, n) for n in (1, 2, 10, 40)])
    assert (np.diff(told[:, 0]) > 0).all()
    assert np.isnan(told[:, 1]).all()
    with pytest.raises(ValueError, match="one vote or more, not of 0"):
        bald(rho, 0)


def test_blocks_change_nothing(monkeypatch):
    rho = np.random.default_rng(3).random((33, 4))
    whole = bald(rho, 9)
    monkeypatch.setattr("models.acquisition.AT_ONCE", 100)
    np.testing.assert_array_equal(bald(rho, 9), whole)


# ------------------------------------------------------------------------------------------------ dropout's samples
def test_a_sample_depends_on_seed_row_and_unit_alone():
    random = np.random.default_rng(4)
    h, w = random.normal(size=(300, 13)).astype(np.float32), random.normal(size=13)
    rows = np.arange(300) + 5_000_000
    whole = dropped(h, rows, w, 0.3, 0.5, 6, 1)
    parts = [dropped(h[i : i + 7], rows[i : i + 7], w, 0.3, 0.5, 6, 1) for i in range(0, 300, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    turned = dropped(h[::-1], rows[::-1], w, 0.3, 0.5, 6, 1)
    np.testing.assert_array_equal(turned[::-1], whole)
    assert (dropped(h, rows, w, 0.3, 0.5, 6, 2) != whole).mean() > 0.9
    # the same image in other rows is sampled anew
    alike = dropped(np.repeat(h[:1], 300, 0), rows, w, 0.3, 0.5, 6, 1)
    assert len(np.unique(alike)) > 1000


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_units_are_dropped_at_the_rate_and_the_rest_count_for_more(rate):
    h = np.ones((4000, 1), np.float32)
    rho = dropped(h, np.arange(4000), np.array([1.0]), 0.0, rate, 5, 7)
    kept = rho > 0.5
    np.testing.assert_allclose(rho[kept], 1 / (1 + np.exp(-1 / (1 - rate))), rtol=1e-6)
    assert (rho[~kept] == 0.5).all()
    sd = math.sqrt(rate * (1 - rate) / kept.size)
    assert abs((~kept).mean() - rate) < 4 * sd
    # units, samples and rows each have turns of their own: six units (two hashes) are read back from the logit
    w = 0.1 * (1 - rate) * 2.0 ** np.arange(6)
    rho = dropped(np.ones((4000, 6), np.float32), np.arange(4000), w, 0.0, rate, 2, 7).astype(np.float64)
    told = np.rint(np.log(rho / (1 - rho)) / 0.1).astype(int)
    bits = (told[..., None] >> np.arange(6)) & 1  # (rows, samples, units)
    flat = np.concatenate([bits.reshape(4000, 12)[:-1], bits.reshape(4000, 12)[1:]], 1)
    assert np.abs(np.corrcoef(flat.T) - np.eye(24)).max() < 5 / math.sqrt(4000)


# ------------------------------------------------------------------------------------------------------ is it right
def simulated(n_subjects=3000, seed=0, samples=50):
    """Posteriors, and votes that are drawn from them: ρ of a subject is one of its samples."""
    random = np.random.default_rng(seed)
    center = random.beta(1.5, 3, (n_subjects, 1))
    rho = random.beta(center * 30, (1 - center) * 30, (n_subjects, samples))
    n = random.integers(5, 41, n_subjects)
    return rho, random.binomial(n, rho[:, 0]), n


def test_intervals_cover_votes_of_the_model_itself():
    rho, k, n = simulated()
    found = calibrate(rho, k, n, constant(k, n))
    for level, one in zip(LEVELS, found.levels, strict=True):
        assert one.level == level
        assert one.expected >= level - 1e-9
        sd = math.sqrt(one.expected * (1 - one.expected) / one.n)
        assert abs(one.k / one.n - one.expected) < 4 * sd
    assert found.coverage_error < 0.02
    near = found.within
    assert abs(near.k / near.n - near.expected) < 4 * math.sqrt(near.expected * (1 - near.expected) / near.n)
    assert found.log_loss.mean() < found.constant_log_loss.mean()
    assert (found.error**2).mean() < (found.constant_error**2).mean()


def test_one_that_is_too_sure_is_found_out():
    rho, k, n = simulated()
    found = calibrate(rho.mean(1, keepdims=True) ** 1.5, k, n, constant(k, n))
    ninety = found.levels[LEVELS.index(0.9)]
    assert ninety.high < ninety.expected
    assert found.coverage_error > 0.1


def test_intervals_are_those_of_a_slow_loop():
    rho, k, n = simulated(60, seed=5, samples=4)
    found = calibrate(rho, k, n, constant(k, n))
    for level, one in zip(LEVELS, found.levels, strict=True):
        inside, mass = 0, 0.0
        for i in range(60):
            p = np.mean([binom.pmf(np.arange(n[i] + 1), n[i], r) for r in rho[i]], 0)
            below = np.cumsum(p)
            low = next(j for j in range(n[i] + 1) if below[j] >= (1 - level) / 2)
            high = next((j for j in range(n[i] + 1) if below[j] >= 1 - (1 - level) / 2), n[i])
            inside += low <= k[i] <= high
            mass += p[low : high + 1].sum()
        assert one.k == inside
        assert one.expected == pytest.approx(mass / 60)


def test_the_loss_of_counts_is_that_of_the_mixture():
    rho, k, n = simulated(40, samples=3)
    expected = [-math.log(np.mean(binom.pmf(k[i], n[i], rho[i]))) for i in range(40)]
    np.testing.assert_allclose(log_loss(rho, k, n), expected, rtol=1e-9)
    assert np.isfinite(log_loss(np.array([[0.0, 0.0]]), np.array([3]), np.array([4]))).all()


def test_the_constant_rate_is_a_beta_binomial():
    random = np.random.default_rng(6)
    n = np.full(2000, 30)
    k = random.binomial(n, random.beta(2, 6, 2000))
    found = constant(k, n)
    assert found.mean == pytest.approx((k / n).mean())
    best = -betabinom.logpmf(k, n, 2, 6).mean()
    assert found.log_loss(k, n).mean() == pytest.approx(best, abs=0.01)
    one = Constant(0.3, ((1.0, 2.0, 6.0),))
    np.testing.assert_allclose(one.log_loss(k[:50], n[:50]), -betabinom.logpmf(k[:50], n[:50], 2, 6), rtol=1e-9)


def test_of_single_votes_the_constant_rate_is_a_coin():
    k, n = np.array([0, 1, 1, 1]), np.ones(4)
    found = constant(k, n)
    np.testing.assert_allclose(found.log_loss(k, n), -np.log([0.25, 0.75, 0.75, 0.75]))


def test_intervals_of_figures_are_over_groups():
    random = np.random.default_rng(8)
    x = random.normal(2, 1, 400)
    value, low, high = bootstrapped(np.arange(400), [x], lambda mean: mean)
    assert value == pytest.approx(x.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.15)
    twice = bootstrapped(np.repeat(np.arange(400), 4), [np.repeat(x, 4)], lambda mean: mean)
    assert twice[2] - twice[1] == pytest.approx(high - low, rel=0.15)
    assert np.isnan(bootstrapped(np.zeros(400), [x], lambda mean: mean)[1])
    assert rmse_difference(np.array(4.0), np.array(9.0)) == -1
