"""Agreement: published worked examples, slow obvious counting, closed forms, intervals that cover, and words."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import agreement as module
from models.agreement import (
    ALL_ALIKE,
    NEVER_APART,
    NO_PAIR,
    ONE_GRADE,
    ONE_GRADER,
    TOO_FEW,
    TOO_RARE,
    Ratings,
    alpha,
    cohen,
    dispersion,
    fleiss,
)
from models.rates import f1, wilson

GAP = math.nan
#: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, C: four observers, twelve units, a row an observer.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
).T
#: The same, A: two observers and ten units, two grades.
BINARY = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], float).T
#: Wikipedia, "Fleiss' kappa": 14 graders, ten subjects, five grades; how many gave each.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
#: R package irr, data set anxiety: three graders, twenty persons, 1 to 6; kappa2 of its manual, and of 2 and 3.
ANXIETY = np.array(
    [
        [3, 3, 3, 4, 5, 5, 2, 3, 5, 2, 2, 6, 1, 5, 2, 2, 1, 2, 4, 3],
        [3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4],
        [2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2],
    ],
    float,
).T


def of_counts(counts):
    """Grades of which so many were given to each subject."""
    most = max(map(sum, counts))
    rows = [[k for k, n in enumerate(row) for _ in range(n)] for row in counts]
    return np.array([row + [GAP] * (most - len(row)) for row in rows], float)


def of_table(table):
    """Two graders whose grades make this table."""
    return np.array([pair for pair in np.ndindex(np.shape(table)) for _ in range(np.asarray(table)[pair])], float)


# ------------------------------------------------------------------------------------------------ published examples
@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_of_krippendorffs_own_example(level, published):
    found = alpha(Ratings.of(KRIPPENDORFF), level)
    assert found.value == pytest.approx(published, abs=5e-4)
    assert (found.n, found.n_votes) == (11, 40)  # the twelfth unit has one grade, and is in no pair
    assert found.low < found.value < found.high


def test_alpha_of_krippendorffs_two_observers():
    assert alpha(Ratings.of(BINARY), "nominal").value == pytest.approx(0.095, abs=5e-4)


def test_kappa_of_fleiss_as_wikipedia_works_it_out():
    found = fleiss(Ratings.of(of_counts(FLEISS)))
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert (found.m, found.n, found.n_votes, found.n_left_out) == (14, 10, 140, 0)


def test_kappa_of_cohen_as_textbooks_work_it_out():
    """Wikipedia, "Cohen's kappa": 50 grant proposals, .4; and the two tables that agree on 60 % and differ in kappa."""
    assert cohen(Ratings.of(of_table([[20, 5], [10, 15]])), 0, 1).value == pytest.approx(0.40)
    assert cohen(Ratings.of(of_table([[45, 15], [25, 15]])), 0, 1).value == pytest.approx(0.1304, abs=5e-5)
    assert cohen(Ratings.of(of_table([[25, 35], [5, 35]])), 0, 1).value == pytest.approx(0.2593, abs=5e-5)


def test_weighted_kappa_of_irrs_example():
    ratings = Ratings.of(ANXIETY)
    assert cohen(ratings, 0, 1, "ordinal").value == pytest.approx(0.297, abs=5e-4)
    assert cohen(ratings, 1, 2).value == pytest.approx(-0.006289308, abs=1e-9)
    # irr drops the grade that neither gave; of its ranks, the published number
    dropped = Ratings.of(np.unique(ANXIETY[:, 1:], return_inverse=True)[1].reshape(-1, 2).astype(float))
    assert cohen(dropped, 0, 1, "ordinal").value == pytest.approx(0.2520325, abs=1e-7)


def test_kappa_of_a_printout_of_sas():
    table = of_table([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
    found = cohen(Ratings.of(table), 0, 1)
    assert found.value == pytest.approx(0.4842, abs=5e-5)
    assert found.low == pytest.approx(0.2137, abs=0.12) and found.high == pytest.approx(0.7547, abs=0.12)


def test_positive_agreement_and_prevalence_of_two_graders():
    """Cicchetti & Feinstein 1990: 2a of 2a + b + c. Two pairs of graders agree on 85 of 100; where hardly anything is
    positive kappa falls from .70 to .32, and what they agree on among the positive with it (Feinstein & Cicchetti)."""
    for table, kappa, both in (([[40, 9], [6, 45]], 0.70, 80 / 95), ([[80, 10], [5, 5]], 0.32, 160 / 175)):
        found = cohen(Ratings.of(1 - of_table(table), positive=1), 0, 1)
        a, b, c = table[0][0], table[0][1], table[1][0]
        assert found.value == pytest.approx(kappa, abs=5e-3)
        assert found.positive_agreement.value == pytest.approx(both)
        assert (found.positive_agreement.k, found.positive_agreement.n) == (2 * a, 2 * a + b + c)
        assert (found.prevalence.k, found.prevalence.n) == (2 * a + b + c, 200)
        expected = f1(a, b, c)  # another interval of the same number
        assert found.positive_agreement.low == pytest.approx(expected.low, abs=0.03)
        assert found.positive_agreement.high == pytest.approx(expected.high, abs=0.03)


# -------------------------------------------------------------------------------------------- slow, obvious counting
def slow_alpha(values, level):
    """By the definition: every pair of grades, within subjects against all."""
    units = [[v for v in row if not math.isnan(v)] for row in values]
    units = [unit for unit in units if len(unit) > 1]
    everything = [v for unit in units for v in unit]

    def distance(c, k):
        if level == "nominal":
            return float(c != k)
        if level == "interval":
            return (c - k) ** 2
        c, k = min(c, k), max(c, k)
        between = sum(c <= v <= k for v in everything)
        return 0.0 if c == k else (between - (everything.count(c) + everything.count(k)) / 2) ** 2

    n = len(everything)
    seen = sum(sum(distance(c, k) for c, k in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units) / n
    chance = sum(distance(c, k) for c, k in itertools.permutations(everything, 2)) / (n * (n - 1))
    return 1 - seen / chance if chance else None


def slow_positive(values, positive):
    """Given a positive grade, how often another one of the subject is."""
    k = n = 0.0
    for row in values:
        unit = [v >= positive for v in row if not math.isnan(v)]
        if len(unit) > 1:
            k += sum(a and b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1)
            n += sum(unit)
    return k, n


def slow_fleiss(values, m):
    units = [[v for v in row if not math.isnan(v)] for row in values]
    units = [unit for unit in units if len(unit) == m]
    alike = np.mean([np.mean([a == b for a, b in itertools.permutations(unit, 2)]) for unit in units])
    everything = [v for unit in units for v in unit]
    chance = sum((everything.count(v) / len(everything)) ** 2 for v in set(everything))
    return (alike - chance) / (1 - chance) if chance < 1 else None


def slow_cohen(a, b, scale, level):
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if not math.isnan(x + y)]

    def distance(x, y):
        if level == "nominal":
            return float(x != y)
        return float(scale.index(x) - scale.index(y)) ** 2 if level == "ordinal" else (x - y) ** 2

    seen = np.mean([distance(x, y) for x, y in pairs]) if pairs else 0
    chance = np.mean([distance(x, y) for (x, _), (_, y) in itertools.product(pairs, pairs)]) if pairs else 0
    return 1 - seen / chance if chance else None


tables = (
    st.integers(2, 5)
    .flatmap(
        lambda m: st.lists(
            st.lists(st.sampled_from([0.0, 1.0, 2.0, 4.0, GAP]), min_size=m, max_size=m), min_size=1, max_size=12
        )
    )
    .map(np.array)
)


def is_equal(found, expected):
    if expected is None:
        return found is None
    return found == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(tables, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_what_its_definition_says(values, level):
    found = alpha(Ratings.of(values, positive=2), level, reps=20)
    if (np.sum(~np.isnan(values), axis=1) >= 2).any():
        assert is_equal(found.value, slow_alpha(values, level))
        k, n = slow_positive(values, 2)
        assert (found.positive_agreement.k, found.positive_agreement.n) == pytest.approx((k, n))
        assert found.prevalence.k == n and found.prevalence.n == found.n_votes
    else:
        assert found.value is None and found.note == NO_PAIR


@settings(deadline=None)
@given(tables)
def test_fleiss_is_what_its_definition_says_of_the_commonest_number_of_grades(values):
    found = fleiss(Ratings.of(values, positive=2), reps=20)
    m = [int(n) for n in np.sum(~np.isnan(values), axis=1) if n > 1]
    if m:
        assert found.m == max(m, key=lambda n: (m.count(n), n))
        assert found.n == m.count(found.m) and found.n_left_out == len(m) - found.n
        assert is_equal(found.value, slow_fleiss(values, found.m))
    else:
        assert found.value is None and found.m is None and found.note == NO_PAIR


@settings(deadline=None)
@given(tables, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_cohen_is_what_its_definition_says(values, level):
    scale = [0.0, 1.0, 2.0, 4.0]
    found = cohen(Ratings.of(values, categories=scale, positive=2), 0, 1, level, reps=20)
    assert is_equal(found.value, slow_cohen(values[:, 0], values[:, 1], scale, level))
    assert found.n == np.sum(~np.isnan(values[:, 0] + values[:, 1])) and found.n_votes == 2 * found.n


@given(tables)
def test_dispersion_is_what_its_words_say(values):
    found = dispersion(Ratings.of(values))
    for i, row in enumerate(values):
        grades = row[~np.isnan(row)]
        assert found.n[i] == len(grades)
        if len(grades) < 2:
            assert np.isnan([found.spread[i], found.deviation[i], found.entropy[i]]).all()
            continue
        assert found.spread[i] == np.ptp(grades) and found.deviation[i] == pytest.approx(np.std(grades))
        shares = [np.mean(grades == v) for v in set(grades.tolist())]
        assert found.entropy[i] == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)


# ------------------------------------------------------------------------------------------------------ closed forms
def test_graders_who_never_differ_agree_perfectly_and_how_surely_depends_on_how_many_subjects():
    lows = []
    for n in (10, 1000):
        values = np.repeat(np.arange(n) % 2, 3).reshape(n, 3).astype(float)
        ratings = Ratings.of(values, positive=1)
        for found in (alpha(ratings, "ordinal"), fleiss(ratings), cohen(ratings, 0, 1)):
            assert (found.value, found.high, found.note) == (1, 1, NEVER_APART)
            assert found.low == pytest.approx(1 - float(wilson(0, n)[1]) / 0.5)
            assert found.positive_agreement.value == 1 and found.positive_agreement.high == 1
            assert found.positive_agreement.low == pytest.approx(float(wilson(n / 2, n / 2)[0]))
        lows.append(found.low)
    assert lows[0] < 0.5 and lows[1] > 0.99


def test_grades_dealt_out_by_chance_agree_as_chance_does():
    values = np.random.default_rng(3).choice([0.0, 1, 2, 3], (400, 4), p=[0.6, 0.2, 0.1, 0.1])
    ratings = Ratings.of(values)
    for found in (*(alpha(ratings, level) for level in ("nominal", "ordinal")), fleiss(ratings), cohen(ratings, 0, 1)):
        assert abs(found.value) < 0.06 and found.low < 0 < found.high


def test_graders_who_always_differ_are_below_chance():
    values = np.array([[0.0, 1.0], [1.0, 0.0]] * 20)
    assert cohen(Ratings.of(values), 0, 1).value == -1
    assert fleiss(Ratings.of(values)).value == -1


def test_alpha_of_two_full_graders_is_nearly_scotts_pi_which_is_fleiss():
    values = np.random.default_rng(1).integers(0, 3, (300, 2)).astype(float)
    values[:150, 1] = values[:150, 0]
    n = values.size
    expected = 1 - (1 - fleiss(Ratings.of(values)).value) * (n - 1) / n
    assert alpha(Ratings.of(values), "nominal").value == pytest.approx(expected)


# --------------------------------------------------------------------------------------------------------- intervals
def graders(random, n, m=3, skill=0.7, prevalence=0.3):
    """Each gives the true grade with probability `skill`, else one by chance: kappa is skill²."""
    truth = random.random(n) < prevalence
    guess = random.random((n, m)) < prevalence
    return np.where(random.random((n, m)) < skill, truth[:, None], guess).astype(float)


@pytest.mark.parametrize("n", [40, 150])
def test_intervals_of_95_percent_cover_in_95_percent_or_nearly(n):
    random, hits, times = np.random.default_rng(7), np.zeros(3), 150
    for _ in range(times):
        ratings = Ratings.of(graders(random, n), categories=[0, 1], positive=1)
        for i, found in enumerate(
            (alpha(ratings, "ordinal", 400), fleiss(ratings, 400), cohen(ratings, 0, 1, reps=400))
        ):
            hits[i] += found.low <= 0.49 <= found.high
    assert (hits / times >= 0.9).all() and (hits / times < 1).all()


def test_what_was_seen_twice_makes_nothing_surer():
    """Every subject twice, in one duplicate group: the interval of once; taken for different ones it is shorter."""
    values = graders(np.random.default_rng(2), 80)
    groups = np.repeat(np.arange(80), 2)
    once = Ratings.of(values, positive=1)
    twice = Ratings.of(np.repeat(values, 2, axis=0), positive=1, groups=groups)
    blind = Ratings.of(np.repeat(values, 2, axis=0), positive=1)
    for of in (fleiss, lambda ratings: cohen(ratings, 0, 1), lambda ratings: alpha(ratings, "nominal")):
        a, b, c = of(once), of(twice), of(blind)
        assert b.value == pytest.approx(a.value, abs=0.01)
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.06)
        assert c.high - c.low < 0.8 * (a.high - a.low)
        span, spans = (x.positive_agreement.high - x.positive_agreement.low for x in (a, b))
        assert spans == pytest.approx(span, rel=0.08)


def test_random_blocks_of_many_different_subjects_give_the_interval_of_the_subjects(monkeypatch):
    values = graders(np.random.default_rng(4), 1500, m=9)
    ratings = Ratings.of(values, positive=1, groups=np.arange(1500) // 2)
    exact = alpha(ratings, "ordinal")
    monkeypatch.setattr(module, "MOST_KINDS", 200)
    assert len(np.unique(ratings.groups)) > 200
    blocks = alpha(ratings, "ordinal")
    assert blocks.value == pytest.approx(exact.value)
    assert blocks.high - blocks.low == pytest.approx(exact.high - exact.low, rel=0.25)


def test_the_same_grades_have_the_same_interval_every_time():
    ratings = Ratings.of(graders(np.random.default_rng(2), 80), positive=1)
    assert alpha(ratings, "ordinal") == alpha(ratings, "ordinal")
    assert alpha(ratings, "ordinal", seed=1) != alpha(ratings, "ordinal")


# ------------------------------------------------------------------------------------------------- words, not numbers
def test_one_grade_only_is_not_defined():
    ratings = Ratings.of(np.ones((20, 3)), categories=[0, 1], positive=1)
    for found in (alpha(ratings, "ordinal"), fleiss(ratings), cohen(ratings, 0, 1), cohen(ratings, 0, 1, "ordinal")):
        assert (found.value, found.low, found.high, found.note) == (None, None, None, ONE_GRADE)
        assert found.n == 20 and found.prevalence.value == 1
        assert found.prevalence.low == pytest.approx(float(wilson(20, 20)[0]))  # of subjects, not of 60 votes


def test_one_grader_or_no_pair_is_not_defined():
    alone = alpha(Ratings.of(np.ones((5, 1))), "nominal")
    assert (alone.value, alone.n, alone.note) == (None, 0, ONE_GRADER)
    apart = Ratings.of(np.array([[1.0, GAP], [GAP, 0.0]]))
    for found in (alpha(apart, "nominal"), fleiss(apart), cohen(apart, 0, 1)):
        assert (found.value, found.n, found.note) == (None, 0, NO_PAIR)
        assert found.positive_agreement.value is None
    nobody = Ratings.of(np.full((0, 0), GAP))
    assert alpha(nobody, "ordinal").note == ONE_GRADER and fleiss(nobody).note == ONE_GRADER


def test_few_subjects_or_rare_grades_have_no_interval():
    few = alpha(Ratings.of(np.array([[0.0, 1], [1, 1], [0, 0]])), "nominal")
    assert few.value is not None and few.low is None and few.note == TOO_FEW
    values = np.zeros((100, 2))
    values[0] = 0, 1  # a third of all drawings have no other grade
    rare = alpha(Ratings.of(values, positive=1), "nominal")
    assert rare.value is not None and rare.low is None and rare.note == TOO_RARE
    assert rare.positive_agreement.value == 0 and rare.positive_agreement.note == ""


def test_subjects_that_are_all_graded_alike_have_no_interval():
    """Each of 20 has one A and one X: drawing from them says the same every time, which is no certainty."""
    ratings = Ratings.of(np.tile([3.0, 0.0], (20, 1)), categories=[0, 1, 2, 3], positive=2)
    for found in (alpha(ratings, "ordinal"), fleiss(ratings)):
        assert found.value < 0 and (found.low, found.high, found.note) == (None, None, ALL_ALIKE)
        assert found.prevalence.value == 0.5 and found.prevalence.note == ALL_ALIKE
    both = cohen(ratings, 0, 1)  # the one always A, the other always X: chance does not agree either
    assert (both.value, both.low, both.note) == (0, None, ALL_ALIKE)


def test_nothing_positive_has_no_positive_agreement():
    found = fleiss(Ratings.of(BINARY, positive=2))
    assert found.positive_agreement.value is None and "nobody" in found.positive_agreement.note
    assert found.prevalence.value == 0 and found.prevalence.high == pytest.approx(float(wilson(0, 10)[1]))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"2\.5 is no value of a grade; there are 1, 2"):
        Ratings.of(np.array([[1.0, 2.5]]), categories=[1, 2])
    with pytest.raises(ValueError, match="a table of subjects and graders"):
        Ratings.of(np.ones(3))
    with pytest.raises(ValueError, match="101 different grades are no scheme"):
        Ratings.of(np.arange(101.0)[:, None])
    with pytest.raises(ValueError, match="2 subjects have 3 duplicate groups"):
        Ratings.of(np.ones((2, 2)), groups=np.arange(3))
    with pytest.raises(ValueError, match="not 'cardinal'"):
        alpha(Ratings.of(BINARY), "cardinal")
    with pytest.raises(ValueError, match="not 'ratio'"):
        cohen(Ratings.of(BINARY), 0, 1, "ratio")


def test_the_page_reads_whole_numbers_and_nothing_that_json_lacks():
    told = fleiss(Ratings.of(BINARY, positive=1)).to_json()
    assert told["m"] == 2 and told["prevalence"]["k"] == 6 and isinstance(told["prevalence"]["k"], int)
    assert "m" not in alpha(Ratings.of(BINARY), "nominal").to_json()


# ------------------------------------------------------------------------------------------------------------- speed
def test_a_hundred_thousand_subjects_and_fifty_graders_take_seconds():
    random = np.random.default_rng(1)
    values = random.integers(0, 4, (100_000, 50)).astype(np.float32)
    values[random.random(values.shape) < 0.3] = np.nan
    start = time.perf_counter()
    ratings = Ratings.of(values, positive=2)
    assert abs(alpha(ratings, "ordinal").value) < 0.01 and abs(fleiss(ratings).value) < 0.01
    assert abs(cohen(ratings, 0, 1, "ordinal").value) < 0.05
    assert time.perf_counter() - start < 15  # 1 s on a quiet machine
