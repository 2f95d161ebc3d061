"""`models.judging` against scikit-learn, closed forms and counting by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.judging import Figure, judge


def scored(n: int = 400, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    positive = random.random(n) < 0.1
    scores = random.normal(size=n) + positive
    return (np.round(scores * 2) / 2 if ties else scores), positive


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_scikit_learn(ties: bool) -> None:
    scores, positive = scored(ties=ties)
    judged = judge(scores, positive, replicates=10)
    assert judged.auc.value == pytest.approx(roc_auc_score(positive, scores))
    assert judged.average_precision.value == pytest.approx(average_precision_score(positive, scores))
    assert (judged.n, judged.n_positive) == (400, positive.sum())


def test_intervals_are_those_of_a_plain_bootstrap_of_groups() -> None:
    scores, positive = scored()
    groups = np.arange(400) // 2
    judged = judge(scores, positive, groups, replicates=400)
    random, values = np.random.default_rng(9), []
    for _ in range(400):
        rows = (2 * random.integers(200, size=200)[:, None] + [0, 1]).ravel()
        above = scores[rows][positive[rows]][:, None] > scores[rows][~positive[rows]]
        values.append(above.mean())
    low, high = np.percentile(values, [2.5, 97.5])
    assert (judged.auc.low, judged.auc.high) == pytest.approx((low, high), abs=0.02)
    assert judged.auc.low < judged.auc.value < judged.auc.high


def test_every_subject_twice_widens_no_interval_when_its_copies_are_one_group() -> None:
    scores, positive = scored()
    once = judge(scores, positive, replicates=300)
    twice = judge(np.tile(scores, 2), np.tile(positive, 2), np.tile(np.arange(400), 2), replicates=300)
    blind = judge(np.tile(scores, 2), np.tile(positive, 2), replicates=300)
    assert twice.auc.high - twice.auc.low == pytest.approx(once.auc.high - once.auc.low, rel=0.15)
    assert blind.auc.high - blind.auc.low < 0.85 * (once.auc.high - once.auc.low)


def found(scores: list[float], positive: np.ndarray, first: tuple[int, ...]) -> dict[int, float]:
    judged = judge(np.array(scores), positive, first=first, replicates=50)
    return {k: figure.value for k, figure in judged.found.items()}


def test_found_counts_the_first_k_and_shares_a_tie() -> None:
    positive = np.array([1, 0, 1, 1, 0, 0], bool)
    assert found([6, 5, 4, 3, 2, 1], positive, (1, 3, 4, 100)) == {1: 1, 3: 2, 4: 3, 100: 3}
    expected = {1: 1, 2: 1 + 2 / 3, 3: 1 + 4 / 3, 4: 3}
    assert found([6, 5, 5, 5, 2, 1], positive, (1, 2, 3, 4)) == pytest.approx(expected)
    assert found([1] * 6, positive, (0, 2, 6)) == pytest.approx({0: 0, 2: 1, 6: 3})


def test_the_interval_of_what_is_found_is_that_of_a_plain_bootstrap() -> None:
    scores, positive = scored()
    figure = judge(scores, positive, first=(50,)).found[50]
    random, counts = np.random.default_rng(5), []
    for _ in range(1000):
        rows = random.integers(400, size=400)
        counts.append(positive[rows][np.argsort(-scores[rows], kind="stable")[:50]].sum())
    assert (figure.low, figure.high) == pytest.approx(np.percentile(counts, [2.5, 97.5]), abs=1.5)
    assert figure.low < figure.value < figure.high


def test_a_perfect_a_reversed_and_a_constant_score() -> None:
    positive = np.arange(50) < 5
    best = judge(-np.arange(50.0), positive)
    assert (best.auc, best.average_precision) == (Figure(1, 1, 1), Figure(1, 1, 1))
    assert judge(np.arange(50.0), positive).auc.value == 0
    assert judge(np.zeros(50), positive).auc.value == 0.5


def test_missing_scores_are_left_out_and_counted_out() -> None:
    scores, positive = scored()
    gone = np.arange(400) % 3 == 0
    judged = judge(np.where(gone, np.nan, scores), positive)
    assert judged.n == (~gone).sum()
    assert judged.auc.value == pytest.approx(roc_auc_score(positive[~gone], scores[~gone]))


@pytest.mark.parametrize("positive", [np.zeros(9, bool), np.ones(9, bool)])
def test_without_both_classes_there_is_no_figure(positive: np.ndarray) -> None:
    judged = judge(np.arange(9.0), positive)
    assert np.isnan([judged.auc.value, judged.auc.low, judged.average_precision.high]).all()
    assert str(judged.auc) == "–"


def test_nothing_at_all_has_no_figure() -> None:
    judged = judge(np.full(4, np.nan), np.ones(4, bool))
    assert (judged.n, judged.found[100].value, np.isnan(judged.auc.value)) == (0, 0, True)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="3 scores, 2 classes"):
        judge(np.zeros(3), np.zeros(2, bool))
