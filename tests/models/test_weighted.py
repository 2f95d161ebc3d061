"""Weighted rates: equal to the plain ones without weights, unbiased and covering with them; paired comparisons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from models import weighted as module
from models.rates import AT_LEAST, NAMES, NO_AUDIT, count, rates, wilson
from models.weighted import MAX_STRATA, WEIGHTED, paired, strata, top, weighted

masks = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40).map(np.array)
SAME = ("precision", "recall", "f1", "kept", "base")


# ---------------------------------------------------------------------------------------------------- without weights
@given(masks, st.sampled_from([None, 1.0, 0.25]), st.sampled_from(["complete", "positives_only"]))
def test_with_one_probability_throughout_the_rates_are_the_plain_ones(drawn, pi, kind):
    kept, positive, known = drawn.T
    plain = rates(count(kept, positive, known), kind)
    found = weighted(kept, positive, known, None if pi is None else np.full(len(kept), pi), kind=kind)
    assert list(found) == list(NAMES)
    below = ~kept & known
    for name in SAME:
        mine, theirs = found[name], plain[name]
        if mine.value is None:
            assert theirs.value is None or (name not in ("precision", "kept") and not below.any() and mine.note)
            continue
        assert (mine.k, mine.n, mine.note) == (theirs.k, theirs.n, theirs.note)
        assert (mine.value, mine.low, mine.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-12)
    if found["lift"].value is not None:
        assert found["lift"].value == pytest.approx(plain["lift"].value)


def test_a_soft_truth_counts_as_much_as_it_is_probable():
    kept, p = np.array([1, 1, 1, 0, 0], bool), np.array([0.9, 0.6, 0.0, 0.5, 0.0])
    found = weighted(kept, p, np.ones(5, bool))
    assert found["precision"].value == pytest.approx(0.5) and found["precision"].n == 3
    assert found["recall"].value == pytest.approx(0.75) and found["recall"].n == pytest.approx(2.0)
    assert found["f1"].value == pytest.approx(2 * 1.5 / (3 + 2))
    assert found["base"].value == pytest.approx(0.4)
    assert (found["recall"].low, found["recall"].high) == pytest.approx(tuple(map(float, wilson(1.5, 2.0))))


@given(masks, st.data())
def test_what_was_seen_twice_counts_once(drawn, data):
    """Every subject twice, in one group: the rates of the first, and intervals as wide."""
    kept, positive, known = drawn.T
    groups = np.arange(len(kept))
    once = weighted(kept, positive, known)
    twice = weighted(*(np.repeat(mask, 2) for mask in (kept, positive, known)), groups=np.repeat(groups, 2))
    for name in (*SAME, "lift"):
        mine, theirs = twice[name], once[name]
        assert (mine.value is None) == (theirs.value is None)
        if mine.value is not None:
            expected = (theirs.value, theirs.low, theirs.high)
            assert (mine.value, mine.low, mine.high) == pytest.approx(expected, abs=1e-9)


def test_a_group_of_many_unlike_subjects_is_not_one_object():
    """450 cut-outs of one field among 2,000 with truths as mixed as elsewhere: nearly as good as apart."""
    random = np.random.default_rng(2)
    positive, groups = random.random(2000) < 0.3, np.arange(2000)
    groups[:450] = 0
    everything = np.ones(2000, bool)
    apart = weighted(everything, positive, everything)["precision"]
    together = weighted(everything, positive, everything, groups=groups)["precision"]
    assert together.high - together.low < 1.5 * (apart.high - apart.low)
    positive[:450] = True  # but where all of it is positive, it may as well be one
    apart = weighted(everything, positive, everything)["precision"]
    together = weighted(everything, positive, everything, groups=groups)["precision"]
    assert together.high - together.low > 5 * (apart.high - apart.low)


# ------------------------------------------------------------------------------------------------------- with weights
def test_a_drawn_subject_stands_for_one_over_its_probability():
    kept = np.array([1, 1, 1, 0, 0, 0], bool)
    positive = np.array([1, 0, 1, 0, 1, 0], bool)
    pi = np.array([1, 1, 0.1, 0.1, 0.1, 0.1])
    found = weighted(kept, positive, np.ones(6, bool), pi)
    assert found["precision"].value == pytest.approx(11 / 12) and found["precision"].note == WEIGHTED
    assert found["recall"].value == pytest.approx(11 / 21)
    assert found["f1"].value == pytest.approx(2 * 11 / (2 * 11 + 1 + 10))
    assert found["kept"].value == pytest.approx(12 / 42)
    assert found["base"].value == pytest.approx(21 / 42)
    assert found["lift"].value == pytest.approx(11 / 12 / 0.5)
    assert (found["precision"].k, found["precision"].n, found["recall"].k, found["recall"].n) == (2, 3, 2, 3)


def threshold(share, base, apart):
    """The score that so much of the sky is above, where the positive ones are `apart` higher."""

    def excess(at):
        return base * stats.norm.sf(at - apart) + (1 - base) * stats.norm.sf(at) - share

    return optimize.brentq(excess, -10, 10)


def survey(random, n, base, apart, cut, audit, best, is_doubled):
    """A survey, drawn as the study's: the best all, the rest by chance; kept, truth, π and group of who was drawn."""
    group = np.repeat(np.arange(n), np.where(np.arange(n) % 5 == 0, 3, 1) if is_doubled else 1)
    positive = (random.random(n) < base)[group]
    scores = random.normal(size=n)[group] + apart * positive
    pi = np.where(scores >= best, 1.0, audit)
    drawn = random.random(n)[group] < pi
    return scores[drawn] >= cut, positive[drawn], pi[drawn], group[drawn]


@pytest.mark.parametrize(
    "n, base, apart, cut, audit, best, is_doubled",
    [
        (20_000, 0.03, 1.0, 0.05, 0.125, 0.01, False),  # the study's design
        (6_000, 0.005, 2.0, 0.05, 0.125, 0.01, False),  # few positives, in some cells none
        (20_000, 0.03, 1.0, 0.05, 0.02, 0.01, False),  # a thin audit
        (3_000, 0.3, 1.0, 0.3, 0.1, 0.3, False),  # all that is kept was looked at
        (12_000, 0.03, 1.0, 0.05, 0.125, 0.01, True),  # a fifth of the sky three times
    ],
)
def test_the_intervals_cover_the_sky_whose_sample_was_drawn(n, base, apart, cut, audit, best, is_doubled):
    random, reps = np.random.default_rng(11), 300
    cut, best = (threshold(share, base, apart) for share in (cut, best))
    caught, wrong = base * stats.norm.sf(cut - apart), (1 - base) * stats.norm.sf(cut)
    true = {"precision": caught / (caught + wrong), "recall": caught / base, "kept": caught + wrong, "base": base}
    true |= {"f1": 2 * caught / (caught + wrong + base), "lift": true["precision"] / base}
    hits, values = dict.fromkeys(NAMES, 0), {name: [] for name in NAMES}
    for _ in range(reps):
        kept, positive, pi, group = survey(random, n, base, apart, cut, audit, best, is_doubled)
        found = weighted(kept, positive, np.ones(len(kept), bool), pi, group)
        for name, rate in found.items():
            hits[name] += rate.value is None or rate.low <= true[name] <= rate.high
            values[name] += [] if rate.value is None else [rate.value]
    for name in NAMES:
        assert hits[name] >= 0.9 * reps, (name, hits)
        assert np.mean(values[name]) == pytest.approx(true[name], rel=0.08), name


def test_the_interval_knows_of_what_was_not_seen():
    """No positive among 100 drawn of 10,000 below the cut: there may well be 300, and the variance seen is 0."""
    kept = np.repeat([True, False], [100, 100])
    positive, pi = np.repeat([True, False], [100, 100]), np.repeat([1.0, 0.01], [100, 100])
    found = weighted(kept, positive, np.ones(200, bool), pi)
    assert found["recall"].value == 1.0 and found["recall"].low < 0.3
    assert found["base"].high > 0.04 and found["precision"].low > 0.95
    assert found["f1"].value == 1.0 and found["f1"].low < 0.5


def test_recall_is_no_number_where_nothing_below_the_cut_was_drawn_or_verified():
    kept, positive = np.repeat([True, False], 5), np.ones(10, bool)
    could_not = weighted(kept, positive, np.ones(10, bool), np.where(kept, 0.5, np.nan))
    assert could_not["precision"].value == 1.0
    for name in ("recall", "f1", "base", "lift"):
        assert could_not[name].value is None
        assert could_not[name].note == "not estimable: 5 subjects below the cut could not be drawn"
    assert could_not["kept"].value is None
    greedy = weighted(kept, positive, kept, np.full(10, 0.5), kind="verified")
    assert greedy["precision"].value == 1.0 and greedy["recall"].note == NO_AUDIT and greedy["kept"].value == 0.5
    audited = weighted(kept, positive, np.arange(10) < 7, np.where(kept, 1.0, 0.4), kind="verified")
    assert audited["recall"].value == pytest.approx(0.5)
    above = weighted(kept, positive, np.ones(10, bool), np.where(kept, 0.0, 0.5))
    assert above["precision"].value is None and "5 subjects that are kept" in above["precision"].note


def test_who_was_not_drawn_does_not_count():
    kept = np.array([1, 1, 0, 0, 0, 0], bool)
    drawn, pi = np.array([1, 1, 1, 0, 1, 0], bool), np.array([1, 1, 0.5, 0.5, 0.5, 0.5])
    positive = np.array([1, 0, 1, 1, 0, 1], bool)
    part = weighted(kept, positive, np.ones(6, bool), pi, drawn=drawn)
    alone = weighted(kept[drawn], positive[drawn], np.ones(4, bool), pi[drawn])
    assert part == alone
    assert part["kept"].value == pytest.approx(2 / 6)


def test_positives_only_keep_their_kind_when_weighted():
    random = np.random.default_rng(0)
    kept, positive, pi = random.random(50) < 0.4, random.random(50) < 0.5, np.where(random.random(50) < 0.5, 1, 0.5)
    found = weighted(kept, positive, np.ones(50, bool), pi, kind="positives_only")
    assert found["f1"].value is None and found["recall"].value is not None and found["lift"].value is not None
    assert found["precision"].note == f"{WEIGHTED}; {AT_LEAST}"


def test_many_probabilities_go_together_with_their_neighbors():
    few = np.array([0.1, 1.0, 0.1, 0.5])
    np.testing.assert_array_equal(strata(few), [0, 2, 0, 1])
    many = np.random.default_rng(0).random(1000)
    found = strata(many)
    assert found.max() < MAX_STRATA and (np.diff(found[np.argsort(many)]) >= 0).all()
    assert np.bincount(found).min() > 1000 / MAX_STRATA / 2
    kept = np.random.default_rng(1).random(1000) < 0.5
    rate = weighted(kept, kept, np.ones(1000, bool), many)["kept"]
    assert rate.value == pytest.approx((kept / many).sum() / (1 / many).sum())


def test_what_cannot_be_is_refused():
    one = np.ones(2, bool)
    with pytest.raises(ValueError, match="0 to 1"):
        weighted(one, one, one, np.array([1.5, 1.0]))
    with pytest.raises(ValueError, match="0 to 1"):
        weighted(one, np.array([0.5, np.nan]), one)
    assert weighted(one, np.array([0.5, np.nan]), np.array([True, False]))["precision"].n == 1
    with pytest.raises(ValueError, match="shapes"):
        weighted(one, one, np.ones(3, bool))
    with pytest.raises(ValueError, match='not "any"'):
        weighted(one, one, one, kind="any")
    assert all(rate.value is None for rate in weighted(*[np.zeros(0, bool)] * 3).values())


# --------------------------------------------------------------------------------------------------------- comparisons
def test_the_top_is_as_large_as_was_asked_and_ties_share():
    np.testing.assert_allclose(top(np.array([1, 1, 1, 0, np.nan]), 0.4), [2 / 3, 2 / 3, 2 / 3, 0, 0])
    np.testing.assert_allclose(top(np.array([3.0, 1, 2, 0]), 0.5), [1, 0, 1, 0])
    np.testing.assert_allclose(top(np.array([3.0, np.nan, np.nan]), 2 / 3), [1, 0.5, 0.5])
    scores = np.round(np.random.default_rng(0).normal(size=997), 1)
    for fraction in (0, 0.013, 0.5, 0.999, 1):
        kept = top(scores, fraction)
        assert kept.sum() == pytest.approx(fraction * 997) and kept.min() >= 0 and kept.max() <= 1
    assert len(top(np.zeros(0), 0.5)) == 0


def test_a_difference_is_that_of_the_two_rates_and_of_seeds_their_mean():
    random, n = np.random.default_rng(1), 2000
    positive = random.random(n) < 0.1
    seeds = [top(random.normal(size=n) + positive, 0.1) for _ in range(3)]
    other = top(random.normal(size=n), 0.1)
    found = paired(np.array(seeds), other, positive, reps=200)
    expected = np.mean([kept[positive].sum() / 200 for kept in seeds])
    assert found["precision"].one == pytest.approx(expected)
    assert found["precision"].other == pytest.approx(other[positive].sum() / 200)
    assert found["recall"].one == pytest.approx(expected * 200 / positive.sum())
    for difference in found.values():
        assert difference.value == pytest.approx(difference.one - difference.other)
        assert 0 < difference.low < difference.value < difference.high
    assert paired(other, other, positive)["recall"] == module.Difference(*[pytest.approx(x) for x in (
        found["recall"].other, found["recall"].other, 0, 0, 0)])  # fmt: skip


def test_the_interval_of_a_difference_covers_and_the_linearised_one_is_much_the_same(monkeypatch):
    """Two scores of one sky that share most of their noise, every fifth subject three times."""
    random, hits, narrower = np.random.default_rng(2), 0, []
    thresholds, true = (1.5, 1.5), stats.norm.sf(1.5 - 1.0) - stats.norm.sf(1.5 - 0.8)
    for _ in range(200):
        group = np.repeat(np.arange(1500), np.where(np.arange(1500) % 5 == 0, 3, 1))
        positive = (random.random(1500) < 0.2)[group]
        shared, own, others = random.normal(size=(3, 1500))
        a = 0.9 * shared[group] + np.sqrt(0.19) * own[group] + 1.0 * positive
        b = 0.9 * shared[group] + np.sqrt(0.19) * others[group] + 0.8 * positive
        kept = [(scores >= limit).astype(float) for scores, limit in zip((a, b), thresholds, strict=True)]
        kept[1] *= kept[0].sum() / kept[1].sum()  # as many, by weight
        found = paired(*kept, positive, group, reps=400)["recall"]
        expected = true + stats.norm.sf(0.7) * (1 - kept[1].max())
        hits += found.low <= expected <= found.high
        monkeypatch.setattr(module, "MOST_KINDS", 0)
        linear = paired(*kept, positive, group)["recall"]
        monkeypatch.undo()
        narrower.append((linear.high - linear.low) / (found.high - found.low))
    assert hits >= 0.9 * 200
    assert np.mean(narrower) == pytest.approx(1, abs=0.05)


def test_groups_are_drawn_whole():
    random, n = np.random.default_rng(4), 400
    positive = random.random(n) < 0.3
    a, b = top(random.normal(size=n) + positive, 0.2), top(random.normal(size=n), 0.2)
    once = paired(a, b, positive)["recall"]
    copies = [np.repeat(column, 4) for column in (a, b, positive, np.arange(n))]
    whole, apart = paired(*copies)["recall"], paired(*copies[:3])["recall"]
    assert whole.high - whole.low == pytest.approx(once.high - once.low, rel=0.05)
    assert apart.high - apart.low == pytest.approx((once.high - once.low) / 2, rel=0.1)


def test_unequal_cuts_are_not_compared_and_nothing_positive_is_no_number():
    random = np.random.default_rng(0)
    a, b = random.random(500) < 0.5, random.random(500) < 0.2
    with pytest.raises(ValueError, match="equal kept fraction"):
        paired(a, b, random.random(500) < 0.5)
    nothing = paired(a, a, np.zeros(500))
    assert nothing["recall"].value is None
    assert nothing["precision"].value in (None, 0.0)
    known = np.arange(500) < 250
    part = paired(a, a, np.where(known, 1.0, np.nan), known=known)["precision"]
    assert part.one == 1.0 and part.value == 0.0
