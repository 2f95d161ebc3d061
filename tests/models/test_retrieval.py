"""Retrieval: rankings by hand, a slow reference, another library's figures, and intervals that hold."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from models.retrieval import METRICS, chance, mean, mean_of_classes, mean_over_classes, retrieve, unit, vote


def around(degrees: list[float]) -> np.ndarray:
    """Points on the unit circle: the nearer the angle, the nearer."""
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def test_a_ranking_by_hand():
    # the query at 0° ranks those at 1°, 2°, … 5°: its class stands at places 1, 3 and 4
    found = retrieve(
        around([0]),
        np.array([0]),
        np.array([9]),
        2,
        around([1, 2, 3, 4, 5]),
        np.array([0, 1, 0, 0, 1]),
        np.arange(5),
        k=3,
    )
    assert found.values["map"][0] == pytest.approx(float((1 + Fraction(2, 3) + Fraction(3, 4)) / 3))
    assert found.values["map_at_r"][0] == pytest.approx(float((1 + Fraction(2, 3)) / 3))
    assert found.values["r_precision"][0] == pytest.approx(2 / 3)
    assert found.values["precision_at_1"][0] == 1
    assert found.values["accuracy"][0] == 1  # 2 of 3
    assert found.n_relevant[0] == 3
    np.testing.assert_array_equal(found.nearest[0], [0, 1, 2, 3, 4, -1, -1])
    np.testing.assert_allclose(found.shares[0], [2 / 3, 1 / 3], rtol=1e-6)


def test_the_last_place_is_the_worst():
    found = retrieve(
        around([0]), np.array([1]), np.array([9]), 2, around([1, 2, 3, 4]), np.array([0, 0, 0, 1]), np.arange(4)
    )
    assert found.values["map"][0] == 1 / 4
    assert found.values["map_at_r"][0] == found.values["r_precision"][0] == found.values["precision_at_1"][0] == 0


def test_of_as_many_votes_the_nearest_decides():
    near, labels = around([1, 2, 3, 4]), np.array([1, 0, 0, 1])
    found = retrieve(around([0]), np.array([1]), np.array([9]), 2, near, labels, np.arange(4), k=4)
    assert found.predicted[0] == 1
    assert retrieve(around([0]), np.array([1]), np.array([9]), 2, near, labels, np.arange(4), k=3).predicted[0] == 0


def test_lone_queries_are_in_no_figure():
    found = retrieve(around([0, 10, 15]), np.array([0, 0, 1]), np.arange(3), 2)
    assert found.n_lone == 1
    assert np.isnan(found.values["map"][2]) and np.isnan(found.values["accuracy"][2])
    assert found.values["map"][0] == 1
    assert mean(found.values["map"], np.arange(3)).value == pytest.approx((1 + 1 / 2) / 2)


def test_the_same_sky_is_no_reference():
    found = retrieve(around([0, 0.1, 30, 40]), np.array([0, 0, 1, 0]), np.array([5, 5, 6, 7]), 2)
    np.testing.assert_array_equal(found.n_relevant, [1, 1, 0, 2])
    assert found.values["map"][0] == 1 / 2  # the other class is nearer, now that its own twin is out
    np.testing.assert_array_equal(found.nearest[0][:3], [2, 3, -1])


def test_nobody_to_compare_with():
    found = retrieve(around([0]), np.array([0]), np.array([1]), 1)
    assert found.n_lone == 1 and found.predicted[0] == -1 and np.isnan(found.shares).all()
    assert np.isnan(mean(found.values["map"], np.array([1])).value)


def test_the_mean_over_classes_has_an_interval_of_groups():
    y = np.repeat([0, 1], [40, 4])
    right = np.r_[np.ones(40), [1.0, 0.0, 0.0, np.nan]]
    told = mean_of_classes(right, y, np.arange(44))
    assert told.value == pytest.approx((1 + 1 / 3) / 2)
    assert told.low == pytest.approx(0.5) and told.high >= 0.8  # of the rare class none to most may be right
    again = mean_of_classes(np.tile(right, 2), np.tile(y, 2), np.tile(np.arange(44), 2))
    assert again == told  # seen twice is no more
    assert np.isnan(mean_of_classes(np.full(3, np.nan), np.zeros(3), np.arange(3)).value)


def slow(queries, labels, groups, k):
    """Loops as the definitions read, each query left out in turn; float64."""
    q = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    figures = {name: [] for name in METRICS}
    for i in range(len(q)):
        others = [j for j in range(len(q)) if groups[j] != groups[i]]
        others.sort(key=lambda j: float(np.sum((q[i] - q[j]) ** 2)))
        hits = [labels[j] == labels[i] for j in others]
        total = sum(hits)
        if not total:
            for name in METRICS:
                figures[name].append(np.nan)
            continue
        precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
        figures["map"].append(sum(p for p, h in zip(precisions, hits, strict=True) if h) / total)
        figures["map_at_r"].append(sum(p for p, h in zip(precisions[:total], hits[:total], strict=True) if h) / total)
        figures["r_precision"].append(sum(hits[:total]) / total)
        figures["precision_at_1"].append(float(hits[0]))
        votes: dict[int, int] = {}
        for j in others[:k]:
            votes[labels[j]] = votes.get(labels[j], 0) + 1
        most = max(votes.values())
        first = next(labels[j] for j in others[:k] if votes[labels[j]] == most)
        figures["accuracy"].append(float(first == labels[i]))
    return figures


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 12), st.integers(0, 10_000))
def test_it_is_what_the_definitions_say(n, n_classes, k, seed):
    random = np.random.default_rng(seed)
    x, labels, groups = random.normal(size=(n, 3)), random.integers(n_classes, size=n), random.integers(n, size=n)
    found, wanted = retrieve(x, labels, groups, n_classes, k=k), slow(x, labels, groups, k)
    for name in METRICS:
        np.testing.assert_allclose(found.values[name], wanted[name], rtol=1e-9, err_msg=name)


def test_many_are_ranked_in_blocks(monkeypatch):
    random = np.random.default_rng(1)
    x, labels = random.normal(size=(60, 4)), random.integers(3, size=60)
    whole = retrieve(x, labels, np.arange(60), 3)
    monkeypatch.setattr("models.retrieval.BLOCK", 130)
    pieces = retrieve(x, labels, np.arange(60), 3)
    for name in METRICS:
        np.testing.assert_array_equal(whole.values[name], pieces.values[name])
    np.testing.assert_array_equal(whole.nearest, pieces.nearest)


@pytest.mark.parametrize("is_leave_one_out", [True, False])
def test_the_other_library_says_the_same(is_leave_one_out):
    random = np.random.default_rng(2)
    labels = random.integers(4, size=80)
    labels[0] = 4  # lone
    x = random.normal(size=(80, 5)) + np.eye(5)[labels]
    search = CustomKNN(LpDistance(normalize_embeddings=False))
    names = {"precision_at_1": "precision_at_1", "r_precision": "r_precision"}
    names |= {"map": "mean_average_precision", "map_at_r": "mean_average_precision_at_r"}
    calculator = AccuracyCalculator(include=tuple(names.values()), k=None, device=torch.device("cpu"), knn_func=search)
    q = torch.from_numpy(unit(x))
    y = torch.from_numpy(labels)
    if is_leave_one_out:
        theirs = calculator.get_accuracy(q, y)
        ours = retrieve(x, labels, np.arange(80), 5)
        assert ours.n_lone == 1
    else:
        theirs = calculator.get_accuracy(q[:30], y[:30], q[30:], y[30:])
        ours = retrieve(x[:30], labels[:30], np.arange(30), 5, x[30:], labels[30:], np.arange(30, 80))
        assert ours.n_lone == 1
    for name, called in names.items():
        assert mean(ours.values[name], np.arange(len(ours.n_relevant))).value == pytest.approx(theirs[called], rel=1e-5)


def test_a_collapsed_embedding_is_as_good_as_chance():
    labels = np.repeat([0, 1], [50, 150])  # in order: ranked by row, the first class would look good
    found = retrieve(np.ones((200, 3)), labels, np.arange(200), 2)
    chance = (50 * 49 / 199 + 150 * 149 / 199) / 200
    assert mean(found.values["r_precision"], np.arange(200)).value == pytest.approx(chance, abs=0.08)


def test_chance_is_what_random_orders_give():
    random, drawn = np.random.default_rng(8), []
    for _ in range(4000):
        hit = random.permutation([True] * 3 + [False] * 6)
        drawn.append((np.cumsum(hit) / np.arange(1, 10))[hit].mean())
    found = chance(np.array([3, 0, 1, 9]), np.array([9, 5, 1, 9]))
    assert found[0] == pytest.approx(np.mean(drawn), abs=0.012)
    assert np.isnan(found[1])
    np.testing.assert_allclose(found[2:], 1)
    among = retrieve(random.normal(size=(12, 3)), np.repeat([0, 1], 6), np.arange(12), 2)
    np.testing.assert_array_equal(among.n_references, [11] * 12)


def test_shares_of_the_nearest():
    found = vote(around([0, 90]), around([1, 2, 3, 89, 91]), np.array([0, 0, 1, 1, 1]), 2, k=2)
    np.testing.assert_allclose(found, [[1, 0], [0, 1]])
    np.testing.assert_allclose(vote(around([0]), around([1, 2]), np.array([0, 1]), 2, k=10), [[0.5, 0.5]])


def test_the_interval_holds_the_mean_of_all():
    random, inside = np.random.default_rng(3), 0
    for seed in range(200):
        of = random.normal(0.6, 0.1, 40)
        values = np.repeat(of, 3)  # whole groups say the same thing
        figure = mean(values, np.repeat(np.arange(40), 3), seed, 400)
        inside += figure.low <= 0.6 <= figure.high
    assert inside >= 176  # 94 % nominally for 40 groups; three deviations below
    single = mean(values, np.arange(120), 0, 400)
    assert single.high - single.low < 0.75 * (figure.high - figure.low)


def test_the_mean_over_classes_does_not_count_members():
    assert mean_over_classes(np.array([1, 1, 1, 0, np.nan]), np.array([0, 0, 0, 1, 2])) == 0.5
