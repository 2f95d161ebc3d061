"""Rates against scikit-learn, intervals against the equations they solve, a moving threshold against counting."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from models.rates import (
    AT_LEAST,
    NAMES,
    NO_AUDIT,
    Z95,
    Counts,
    Ranked,
    Rate,
    Sweep,
    count,
    group_codes,
    rates,
    ratio_interval,
    wilson,
)

EXACT = 1e-12


# ------------------------------------------------------------------------------------------------------- intervals
def test_wilsons_interval_is_that_of_the_closed_form():
    ks, ns = np.array([0, 1, 15, 81, 263, 3]), np.array([263, 263, 263, 263, 263, 10])
    low, high = wilson(ks, ns)
    found = [stats.binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in zip(ks, ns, strict=True)]
    np.testing.assert_allclose(low, [f.low for f in found], atol=EXACT)
    np.testing.assert_allclose(high, [f.high for f in found], atol=EXACT)
    for limit in (low, high):  # its limits solve (p̂ − p)² = z² p (1 − p) / n
        np.testing.assert_allclose((ks / ns - limit) ** 2, Z95**2 * limit * (1 - limit) / ns, atol=EXACT)
    assert stats.norm.ppf(0.975) == pytest.approx(Z95, abs=EXACT)


def test_an_interval_of_nothing_is_everything_and_ends_are_closed():
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 9)[0] == 0 and wilson(9, 9)[1] == 1
    assert 0 < wilson(0, 9)[1] < 1 and 0 < wilson(9, 9)[0] < 1


def test_f1s_interval_is_wilsons_of_the_jaccard_index_carried_over():
    tp, fp, fn = 30, 20, 12
    found = rates(Counts(tp, fp, fn, 500))["f1"]
    ends = stats.binomtest(tp, tp + fp + fn).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx([2 * j / (1 + j) for j in (ends.low, ends.high)], abs=EXACT)
    assert found.value == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=EXACT)
    assert (found.k, found.n) == (2 * tp, 2 * tp + fp + fn)


def test_f1s_interval_covers():
    """Multinomial counts of a survey whose F1 is known."""
    random, shares = np.random.default_rng(3), np.array([0.02, 0.03, 0.01, 0.94])
    true = 2 * 0.02 / (2 * 0.02 + 0.03 + 0.01)
    drawn = (rates(Counts(*row))["f1"] for row in random.multinomial(2000, shares, size=1000).tolist())
    assert 0.935 <= np.mean([f.low <= true <= f.high for f in drawn]) <= 0.97


@pytest.mark.parametrize("p, q", [(0.5, 0.05), (0.1, 0.02), (0.9, 0.001)])
def test_lifts_interval_covers(p: float, q: float):
    """200 positives kept with probability p, 3,000 others with q."""
    random, hits = np.random.default_rng(4), 0
    b = 200 / 3200
    true = 1 / (b + (1 - b) * q / p)
    for tp, fp in zip(random.binomial(200, p, 1000), random.binomial(3000, q, 1000), strict=True):
        found = rates(Counts(int(tp), int(fp), int(200 - tp), int(3000 - fp)))["lift"]
        hits += found.value is not None and found.low <= true <= found.high
    assert hits >= 935


def test_a_ratio_of_nothing_has_its_limits():
    assert ratio_interval((0.5, 0.4, 0.6), (0.0, 0.0, 0.1))[1] == math.inf
    assert ratio_interval((0.0, 0.0, 0.1), (0.5, 0.4, 0.6))[0] == 0.0
    low, high = ratio_interval((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert low == pytest.approx(2) and high == pytest.approx(2)


# ----------------------------------------------------------------------------------------------------------- rates
masks = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40).map(np.array)


@given(masks)
def test_rates_are_scikit_learns_and_unknown_truth_is_in_none_but_the_kept_fraction(drawn: np.ndarray):
    kept, positive, known = drawn.T
    counts = count(kept, positive, known)
    found = rates(counts)
    assert list(found) == list(NAMES)
    assert counts.n == len(drawn) and counts.kept == kept.sum() and counts.unknown == (~known).sum()
    y, said = positive[known], kept[known]
    for name, score in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        expected = score(y, said, zero_division=np.nan) if known.any() else np.nan
        value = found[name].value
        assert (value is None) == math.isnan(expected)
        assert value is None or value == pytest.approx(expected, abs=EXACT)
        assert value is not None or found[name].note
    assert found["kept"].value == pytest.approx(kept.mean(), abs=EXACT)
    for rate in found.values():
        assert (rate.value is None) == (rate.low is None) == (rate.high is None)
        assert rate.value is None or rate.low <= rate.value <= rate.high
        if rate.value is not None and rate is not found["lift"]:
            assert 0 <= rate.low <= rate.high <= 1
    lift, precision, base = found["lift"].value, found["precision"].value, found["base"].value
    assert lift is None or lift == pytest.approx(precision / base, abs=EXACT)


def test_positives_only_give_a_lift_and_a_precision_of_at_least():
    found = rates(Counts(8, 92, 2, 898), "positives_only")
    assert found["precision"].note == found["base"].note == AT_LEAST
    assert found["f1"].value is None and found["f1"].note == AT_LEAST
    assert found["recall"].value == 0.8 and not found["recall"].note
    assert found["lift"].value == pytest.approx(8.0)


def test_of_verified_subjects_recall_is_never_a_number():
    found = rates(Counts(8, 2, 5, 5, kept_unknown=90, unknown=980), "verified")
    assert found["precision"].value == 0.8 and found["kept"].value == 0.1
    for name in ("recall", "f1", "base", "lift"):
        assert found[name].value is None and found[name].note == NO_AUDIT


def test_nothing_kept_and_nothing_positive_are_sentences():
    nothing_kept = rates(Counts(0, 0, 5, 5))
    assert nothing_kept["precision"].value is None and nothing_kept["precision"].note
    assert nothing_kept["recall"].value == nothing_kept["f1"].value == 0.0 and nothing_kept["lift"].value is None
    no_positive = rates(Counts(0, 5, 0, 5))
    assert no_positive["recall"].value is None and "positive" in no_positive["recall"].note
    assert no_positive["precision"].value == 0.0
    assert rates(Counts(0, 0, 0, 0))["kept"].to_json() == {
        "k": 0, "n": 0, "value": None, "low": None, "high": None, "note": "no subject",
    }  # fmt: skip


def test_bad_kinds_and_shapes_are_refused():
    with pytest.raises(ValueError, match='not "some"'):
        rates(Counts(1, 1, 1, 1), "some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shapes"):
        count(np.ones(3, bool), np.ones(2, bool), np.ones(3, bool))


def test_groups_become_codes():
    np.testing.assert_array_equal(group_codes(np.array([7, 10**12, 7])), [0, 1, 0])
    np.testing.assert_array_equal(group_codes(np.array(["b", "a", "b"])), [1, 0, 1])
    same = np.array([2, 0, 2])
    assert group_codes(same) is same


# ----------------------------------------------------------------------------------------------------------- sweeps
NUMBERS = [math.nan, -math.inf, -1.0, -0.0, 0.0, 0.1, float(np.float32(0.1)), 1.0, 2.0, math.inf]
subjects = st.lists(
    st.tuples(st.sampled_from(NUMBERS), *[st.booleans()] * 5, st.booleans(), st.booleans()), min_size=0, max_size=25
)
limits = st.none() | st.sampled_from([v for v in NUMBERS if v == v]) | st.floats(-3, 3)


@given(subjects, limits, limits, st.sampled_from([np.float32, np.float64]), st.booleans())
def test_a_moved_threshold_counts_as_one_by_one_would(drawn, low, high, dtype, is_ordered):
    values = np.array([row[0] for row in drawn], dtype)
    yes, no, unsure, positive, known, one, other = np.array([row[1:] for row in drawn], bool).reshape(-1, 7).T
    tracked = [np.flatnonzero(one), np.flatnonzero(other), np.zeros(0, int), np.flatnonzero(one)]
    order = np.argsort(values, kind="stable").astype(np.uint32) if is_ordered else None
    sweep = Sweep(values, yes, no, unsure, positive, known, tracked, order)
    exact = values.astype(np.float64)
    is_single = all(math.isnan(v) or float(np.float32(v)) == v for v in exact.tolist())
    at_low, at_high = (v if v is None or not is_single else float(np.float32(v)) for v in (low, high))
    inside = np.ones(len(values), bool)
    inside &= True if low is None else exact >= at_low
    inside &= True if high is None else exact <= at_high
    kept = np.where(np.isnan(exact), unsure, np.where(inside, yes, no))
    assert sweep.at(low, high) == count(kept, positive, known)
    np.testing.assert_array_equal(sweep.tracked_at(low, high), [kept[rows].sum() for rows in tracked])
    assert sweep.tracks == 4


def test_a_curve_is_the_threshold_moved_along():
    random, n = np.random.default_rng(5), 3000
    values = random.normal(size=n).astype(np.float32)
    values[::7] = np.nan
    values[0], values[1] = np.inf, -np.inf
    yes, no, unsure, positive, known = random.random((5, n)) < np.array([[0.8], [0.2], [0.5], [0.1], [0.9]])
    sweep = Sweep(values, yes, no, unsure, positive, known)
    for limit, other in (("low", None), ("low", 1.0), ("high", -0.5)):
        curve = sweep.curve(40, limit=limit, other=other)
        assert 20 < len(curve.x) <= 40 and np.isfinite(curve.x).all() and (np.diff(curve.x) > 0).all()
        for i, x in enumerate(curve.x):
            counts = sweep.at(x, other) if limit == "low" else sweep.at(other, x)
            assert counts == Counts(
                *(int(part[i]) for part in (curve.tp, curve.fp, curve.fn, curve.tn, curve.kept_unknown)), counts.unknown
            )
            for name, rate in rates(counts).items():
                if name in ("precision", "recall", "f1", "kept"):
                    np.testing.assert_allclose(getattr(curve, name)[i], rate.value, atol=EXACT)
    np.testing.assert_array_equal(sweep.curve(grid=np.array([0.3])).x, [0.3])


def test_a_curve_without_a_value_or_with_one_is_no_error():
    no, yes = np.zeros(3, bool), np.ones(3, bool)
    assert len(Sweep(np.full(3, np.nan), yes, no, no, yes, yes).curve().x) == 0
    assert len(Sweep(np.full(3, 2.5), yes, no, no, yes, yes).curve().x) == 1
    nothing = Sweep(np.zeros(0), *[np.zeros(0, bool)] * 5)
    assert nothing.at(0.0, 1.0) == Counts(0, 0, 0, 0) and len(nothing.curve().x) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_in_single_precision_is_at_the_limit_that_was_meant(dtype):
    values = np.array([0.1, 0.7], np.float32).astype(dtype)  # a little above .1, a little below .7
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    sweep = Sweep(values, yes, no, no, yes, yes)
    assert sweep.at(low=0.1).tp == 2 and sweep.at(high=0.1).tp == 1
    assert sweep.at(low=0.7).tp == 1 and sweep.at(high=0.7).tp == 2 and sweep.at(high=0.2).tp == 1
    assert sweep.at(low=float(np.float32(0.7))).tp == 1
    assert sweep.curve(grid=np.array([0.1, 0.7, 0.7001])).tp.tolist() == [2, 1, 0]


def test_wrong_columns_orders_and_rows_are_refused():
    yes = np.ones(3, bool)
    with pytest.raises(ValueError, match="shapes"):
        Sweep(np.zeros(3), yes, yes, yes, yes, np.ones(2, bool))
    with pytest.raises(ValueError, match="does not sort"):
        Sweep(np.array([1.0, 0.0, 2.0]), *[yes] * 5, order=np.arange(3))
    with pytest.raises(ValueError, match="does not sort"):
        Sweep(np.array([np.nan, 0.0, 2.0]), *[yes] * 5, order=np.arange(3))
    with pytest.raises(ValueError, match="order is of shape"):
        Sweep(np.zeros(3), *[yes] * 5, order=np.arange(2))
    with pytest.raises(ValueError, match="tracked row"):
        Sweep(np.zeros(3), *[yes] * 5, tracked=[np.array([3])])


def test_a_million_and_a_half_move_in_well_below_a_millisecond():
    random, n = np.random.default_rng(6), 1_500_000
    values = random.random(n, dtype=np.float32)
    masks = [random.random(n, dtype=np.float32) < share for share in (0.9, 0.1, 0.5, 0.03, 0.9)]
    tracked = [random.integers(0, n, 1000) for _ in range(150)]
    sweep = Sweep(values, *masks, tracked, order=np.argsort(values))
    began = time.perf_counter()
    for low in np.linspace(0, 1, 200):
        sweep.at(float(low), 0.9)
        sweep.tracked_at(float(low), 0.9)
    assert (time.perf_counter() - began) / 200 < 1e-3  # some 0.1 ms on a quiet machine


# ---------------------------------------------------------------------------------------------------------- ranking
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), st.booleans(), st.booleans()), min_size=2))
def test_a_ranking_is_scikit_learns(drawn):
    scores = np.array([row[0] for row in drawn])
    positive, known = np.array([row[1:] for row in drawn], bool).T
    ranked = Ranked(scores, positive, known)
    if not (positive & known).any():
        assert math.isnan(ranked.average_precision)
        return
    precision, recall, thresholds = ranked.precision_recall()
    expected = metrics.precision_recall_curve(positive[known], scores[known])
    for mine, theirs in zip((precision, recall, thresholds), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=EXACT, rtol=0)
    theirs = metrics.average_precision_score(positive[known], scores[known])
    assert ranked.average_precision == pytest.approx(theirs, abs=EXACT)
    for i, threshold in enumerate(thresholds):
        found = rates(ranked.at(threshold))
        assert (found["precision"].value, found["recall"].value) == pytest.approx((precision[i], recall[i]), abs=EXACT)


def test_a_positive_without_a_score_is_missed_at_every_threshold():
    ranked = Ranked(np.array([3.0, 2.0, 1.0, np.nan]), np.array([1, 0, 1, 1], bool), np.ones(4, bool))
    precision, recall, thresholds = ranked.precision_recall()
    np.testing.assert_allclose(recall, [2 / 3, 1 / 3, 1 / 3, 0])
    np.testing.assert_allclose(thresholds, [1, 2, 3])
    np.testing.assert_allclose(precision, [2 / 3, 1 / 2, 1, 1])
    assert ranked.average_precision == pytest.approx(1 / 3 * 2 / 3 + 1 / 3)


def test_a_large_ranking_is_scikit_learns_too():
    random, n = np.random.default_rng(8), 20_000
    positive = random.random(n) < 0.05
    scores = np.round(random.normal(size=n) + positive, 2).astype(np.float32)
    ranked = Ranked(scores, positive, np.ones(n, bool))
    for mine, theirs in zip(ranked.precision_recall(), metrics.precision_recall_curve(positive, scores), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=EXACT, rtol=0)
    theirs = metrics.average_precision_score(positive, scores)
    assert ranked.average_precision == pytest.approx(theirs, abs=EXACT)


def test_a_rate_is_what_the_page_reads():
    assert Rate(1, 2, 0.5, 0.1, 0.9, "x").to_json() == {
        "k": 1, "n": 2, "value": 0.5, "low": 0.1, "high": 0.9, "note": "x",
    }  # fmt: skip
