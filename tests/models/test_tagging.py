import math

import numpy as np
import pytest

from models.tagging import Tagged, auc, median


def _slowly(values, subjects, taggers, statistic, replicates=300, seed=1):
    """The bootstrap as it is described: taggers drawn one by one, subjects weighted by their taggers' draws."""
    people, random, found = sorted(set(taggers)), np.random.default_rng(seed), []
    of = {s: {t for q, t in zip(subjects, taggers, strict=True) if q == s} for s in set(subjects)}
    for _ in range(replicates):
        drawn = [people[i] for i in random.integers(0, len(people), len(people))]
        found.append(statistic({s: sum(drawn.count(t) for t in by) / len(by) for s, by in of.items()}))
    return np.quantile(found, (0.025, 0.975))


def _weighted_median(values, weights):
    half, upto = sum(weights.values()) / 2, 0.0
    order = sorted((s for s in weights if weights[s]), key=lambda s: values[s])
    for i, s in enumerate(order):
        upto += weights[s]
        if math.isclose(upto, half):
            return (values[s] + values[order[i + 1]]) / 2
        if upto > half:
            return values[s]
    raise AssertionError


@pytest.fixture
def tagged():
    random = np.random.default_rng(7)
    values = random.random(400)
    subjects = random.integers(0, 60, 150)
    taggers = random.choice(12, 150, p=np.r_[0.5, np.full(11, 0.5 / 11)])
    return values, subjects, taggers


def test_the_median_counts_each_subject_once_and_its_interval_is_that_of_drawn_taggers(tagged):
    values, subjects, taggers = tagged
    found = median(values, subjects, taggers, replicates=4000)
    assert found.value == pytest.approx(np.median(values[np.unique(subjects)]))
    slow = _slowly(values, subjects, taggers, lambda w: _weighted_median(values, w))
    assert (found.low, found.high) == pytest.approx(slow, abs=0.03)
    assert found.n_subjects == len(set(subjects)) and found.n_taggers == len(set(taggers))
    assert found.n_by_one == max(len(set(subjects[taggers == t])) for t in set(taggers))


def test_the_auc_is_that_of_all_pairs(tagged):
    values, subjects, taggers = np.round(tagged[0], 1), *tagged[1:]  # with ties
    has = np.unique(subjects)
    rest = np.setdiff1d(np.arange(400), has)

    def slow(weights):
        wins = {s: np.mean((values[rest] < values[s]) + (values[rest] == values[s]) / 2) for s in weights}
        return sum(weights[s] * wins[s] for s in weights) / sum(weights.values())

    found = auc(values, subjects, taggers, replicates=4000)
    assert found.value == pytest.approx(slow(dict.fromkeys(has, 1)))
    assert (found.low, found.high) == pytest.approx(_slowly(values, subjects, taggers, slow), abs=0.02)
    few = np.zeros(400, bool)
    few[:100] = True
    compared = auc(values, subjects, taggers, few)
    rest = np.setdiff1d(np.arange(100), has)
    assert compared.value == pytest.approx(slow(dict.fromkeys(has, 1)))


def test_one_who_tags_much_widens_the_interval():
    """A hundred subjects at .2 by one person, ten at .8 by ten others: whether that one is drawn decides."""
    values = np.r_[np.full(100, 0.2), np.full(10, 0.8)]
    by_one = median(values, np.arange(110), np.r_[np.zeros(100, int), np.arange(1, 11)])
    assert (by_one.value, by_one.low, by_one.high, by_one.n_by_one) == (0.2, 0.2, 0.8, 100)
    by_many = median(values, np.arange(110), np.arange(110))
    assert (by_many.low, by_many.high) == (0.2, 0.2)


def test_a_pair_twice_is_one_and_what_has_no_value_is_left_out():
    values = np.array([1.0, 2.0, 9.0, np.nan])
    once = median(values, np.array([0, 1, 2]), np.array([5, 5, 6]))
    again = median(values, np.array([0, 0, 0, 1, 2, 3]), np.array([5, 5, 5, 5, 6, 7]))
    assert once == again
    assert again.n_subjects == 3 and again.n_taggers == 2


def test_with_one_tagger_there_is_no_interval_and_without_subjects_nothing():
    one = median(np.arange(5.0), np.array([1, 2]), np.array([0, 0]))
    assert one.value == 1.5 and math.isnan(one.low) and math.isnan(one.high)
    assert str(one) == "1.500 no interval, 2 by 1"
    none = auc(np.arange(5.0), np.empty(0, int), np.empty(0, int))
    assert math.isnan(none.value) and (none.n_subjects, none.n_taggers, none.n_by_one) == (0, 0, 0) and str(none) == "–"
    assert str(Tagged(0.5442, 0.5, 0.61, 460, 48, 95)) == "0.544 [0.50, 0.61], 460 by 48"
    alone = auc(np.arange(2.0), np.array([0, 1]), np.array([0, 1]))  # nobody is without it
    assert math.isnan(alone.value) and math.isnan(alone.low)


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="subjects are 0 to 2, found 1 to 3"):
        median(np.arange(3.0), np.array([1, 3]), np.array([0, 0]))
    with pytest.raises(ValueError, match="2 subjects have 1 taggers"):
        median(np.arange(3.0), np.array([1, 2]), np.array([0]))
