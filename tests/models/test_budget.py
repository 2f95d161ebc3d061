"""Found against looked at: counted one by one, averaged over the orders of equal scores, drawn at random."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.budget import budget, places, random
from models.rates import wilson


def test_found_are_the_positive_among_the_first():
    generator, n = np.random.default_rng(0), 500
    scores, positive, known = generator.normal(size=n), generator.random(n) < 0.2, generator.random(n) < 0.8
    found = budget(scores, positive, known)
    order = [i for i in np.argsort(-scores) if known[i]]
    assert found.looked[0] == 0 and found.looked[-1] == known.sum()
    for looked, k, low, high in zip(found.looked, found.found, found.low, found.high, strict=True):
        assert k == pytest.approx(positive[order[:looked]].sum())
        ends = wilson(k, looked)
        assert (low, high) == pytest.approx((ends[0] * looked, ends[1] * looked))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.booleans()), min_size=1, max_size=5))
def test_among_equal_scores_it_is_the_mean_over_all_orders_and_no_score_comes_last(drawn):
    scores, positive = np.array([row[0] for row in drawn]), np.array([row[1] for row in drawn])
    found = budget(scores, positive, np.ones(len(drawn), bool), np.arange(len(drawn) + 1))
    key = np.where(np.isnan(scores), -np.inf, scores)
    orders = [o for o in permutations(range(len(drawn))) if all(key[o[i]] >= key[o[i + 1]] for i in range(len(o) - 1))]
    expected = np.mean([np.append(0, np.cumsum(positive[list(o)])) for o in orders], axis=0)
    np.testing.assert_allclose(found.found, expected, atol=1e-12)


def test_a_boundary_is_a_score_of_yes_and_no():
    kept = np.array([True, False, True, False])
    found = budget(kept, np.array([1, 0, 0, 1]), np.ones(4, bool))
    np.testing.assert_allclose(found.found, [0, 0.5, 1, 1.5, 2])


def test_a_soft_truth_is_found_as_much_as_it_is_probable():
    found = budget(np.array([3, 2, 1]), np.array([0.5, 0.25, 0.75]), np.ones(3, bool))
    np.testing.assert_allclose(found.found, [0, 0.5, 0.75, 1.5])


def test_the_band_covers_other_skies_also_where_objects_were_cut_out_twice():
    """300 surveys; the number expected among the first 200 is known from the threshold that they are above."""
    generator, true = np.random.default_rng(1), []
    bands = []
    for _ in range(300):
        group = np.repeat(np.arange(1000), np.where(np.arange(1000) % 4 == 0, 4, 1))
        positive = (generator.random(1000) < 0.2)[group]
        scores = (generator.normal(size=1000))[group] + positive + 1e-9 * generator.normal(size=len(group))
        for groups in (group, None):
            found = budget(scores, positive, np.ones(len(group), bool), np.array([200]), groups)
            bands.append((found.low[0], found.high[0]))
        true.append(found.found[0])
    low, high = np.array(bands).reshape(300, 2, 2).transpose(2, 1, 0)
    inside = ((low <= np.mean(true)) & (np.mean(true) <= high)).mean(axis=1)
    assert inside[0] >= 0.93  # with groups
    assert inside[1] < 0.9  # without: too narrow, so this test can fail


def test_a_random_order_is_hypergeometric():
    n, n_positive, looked = 60, 12, np.array([0, 1, 15, 30, 60])
    positive = np.arange(n) < n_positive
    found = random(positive, np.ones(n, bool), looked)
    np.testing.assert_allclose(found.found, looked * 0.2)
    generator = np.random.default_rng(2)
    drawn = np.array([np.append(0, np.cumsum(positive[generator.permutation(n)]))[looked] for _ in range(20_000)])
    for i in range(len(looked)):
        chances = [math.comb(12, k) * math.comb(48, looked[i] - k) / math.comb(n, looked[i]) for k in range(13)
                   if 0 <= looked[i] - k <= 48]  # fmt: skip
        first = next(k for k in range(13) if 0 <= looked[i] - k <= 48)
        sums = np.cumsum(chances)
        assert found.low[i] == first + np.searchsorted(sums, 0.025)
        assert found.high[i] == first + np.searchsorted(sums, 0.975)
        assert np.mean((drawn[:, i] >= found.low[i]) & (drawn[:, i] <= found.high[i])) >= 0.945


def test_a_random_order_of_a_soft_truth_covers():
    generator, n = np.random.default_rng(3), 400
    p, looked = generator.beta(0.3, 2, n), np.array([100, 250])
    band = random(p, np.ones(n, bool), looked)
    hits = []
    for _ in range(3000):
        true = (generator.random(n) < p)[generator.permutation(n)].cumsum()[looked - 1]
        hits.append((band.low <= true) & (true <= band.high))
    assert np.mean(hits, axis=0) == pytest.approx([0.95, 0.95], abs=0.02)
    assert random(p, np.zeros(n, bool)).found.tolist() == [0]


def test_places_show_the_start_and_the_end():
    assert places(5).tolist() == [0, 1, 2, 3, 4, 5]
    many = places(1_500_000)
    assert many[0] == 0 and many[1] == 1 and many[-1] == 1_500_000 and len(many) <= 200
    assert np.count_nonzero(many < 1000) > 30


def test_more_than_there_are_cannot_be_looked_at():
    one = np.ones(3, bool)
    with pytest.raises(ValueError, match="truth of 3 is known"):
        budget(np.arange(3.0), one, one, np.array([4]))
    with pytest.raises(ValueError, match="shapes"):
        budget(np.arange(3.0), one, np.ones(2, bool))
