"""How the benchmark of BALD counts labels, and whom its simulated votes come from."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from models.bayesian import Step
from tests.benchmarks.bald import (
    QUESTIONS,
    THIN,
    VOTES,
    apart,
    compare,
    falling,
    needed,
    probabilities,
    simulated_votes,
)


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


def test_votes_are_of_the_class_or_of_the_shape_and_nothing_else():
    classes, noise = np.repeat(list(QUESTIONS["featured"]), 400), np.random.default_rng(0)
    crops = noise.integers(0, 255, (len(classes), 16, 16, 3), np.uint8)
    p = probabilities("featured", classes, crops)
    k, n = simulated_votes(p, "featured", 0)
    assert (n == VOTES).all() and ((k >= 0) & (k <= n)).all()
    for name, asked in QUESTIONS["featured"].items():
        assert (k / n)[classes == name].mean() == pytest.approx(asked, abs=0.05)
    np.testing.assert_array_equal(simulated_votes(probabilities("featured", classes, crops[::-1]), "featured", 0)[0], k)
    assert (simulated_votes(p, "featured", 1)[0] != k).any()
    x, y = np.meshgrid(np.arange(32) - 16, np.arange(32) - 16)
    drawn = [200 * np.exp(-(x**2 + (y / flat) ** 2) / 40) for flat in (1.0, 0.5, 0.3)]
    thin = probabilities(THIN, classes[:3], np.repeat(np.array(drawn)[..., None], 3, -1).astype(np.uint8))
    assert thin[0] < thin[1] < 0.4 and thin[2] > 0.5


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
