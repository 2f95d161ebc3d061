"""How the benchmark of BALD counts labels, and whom its simulated votes come from."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from models.bayesian import Step
from tests.benchmarks.bald import QUESTIONS, VOTES, apart, compare, falling, needed, simulated_votes


def test_a_falling_curve_is_the_nearest_that_never_rises():
    random = np.random.default_rng(0)
    for _ in range(50):
        y = random.random(9)
        nearest = IsotonicRegression(increasing=False).fit_transform(np.arange(9), y)
        np.testing.assert_allclose(falling(y), nearest)


def test_labels_for_the_error_that_both_reach():
    labels = np.array([10.0, 20, 30, 40])
    assert needed(np.array([4.0, 2, 1, 1]), np.array([4.0, 3, 2, 2]), labels) == (20, 30)
    assert needed(np.array([4.0, 3, 3, 3]), np.array([4.0, 2, 2, 2]), labels) == (20, 15)
    assert needed(np.array([4.0, 5, 6, 7]), np.array([4.0, 5, 6, 7]), labels) == (10, 10)


def test_votes_are_of_the_class_and_nothing_else():
    classes = np.repeat(list(QUESTIONS["featured"]), 400)
    k, n = simulated_votes(classes, "featured", 0)
    assert (n == VOTES).all() and ((k >= 0) & (k <= n)).all()
    for name, p in QUESTIONS["featured"].items():
        assert (k / n)[classes == name].mean() == pytest.approx(p, abs=0.05)
    np.testing.assert_array_equal(simulated_votes(classes.copy(), "featured", 0)[0], k)
    assert (simulated_votes(classes, "featured", 1)[0] != k).any()


def test_nobody_is_asked_who_is_judged():
    pool, evaluation = apart(3966)
    assert len(pool) + len(evaluation) == 3966 and not np.isin(pool, evaluation).any()


def test_one_that_is_twice_as_quick_is_told_from_one_that_is_not():
    random = np.random.default_rng(1)

    def made(speed: float) -> list[list[Step]]:
        labels = [np.arange(20 * (turn + 1)) for turn in range(6)]
        errors = [random.normal(0, 1 / np.sqrt(speed * len(rows)), 400) for rows in labels]
        return [[Step(i, rows, e, e**2) for i, (rows, e) in enumerate(zip(labels, errors, strict=True))] for _ in "abc"]

    told = compare({"bald": made(2), "random": made(1)}, "rmse")
    value, low, high = told["ratio"]
    assert low < value < high and 1 < low < 2.3 and 1.5 < value < 2.5
    assert told["difference"][2] < 0
