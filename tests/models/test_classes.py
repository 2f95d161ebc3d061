"""How well classes were told, by hand and beside scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from models.classes import auc, differences, figures, g_mean, percent, points, spread

TRUTH = np.array([0, 0, 0, 0, 1, 1])
SAID = np.array([0, 0, 0, 1, 1, 0])


def test_g_mean_by_hand():
    assert g_mean(TRUTH, SAID) == pytest.approx(math.sqrt(3 / 4 * 1 / 2))
    assert g_mean(TRUTH, np.zeros(6, int)) == 0
    assert g_mean(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])) == pytest.approx(0.5 ** (1 / 3))


def test_auc_by_hand_and_of_hard_labels():
    p = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 0.3])
    found = figures(TRUTH, np.stack([1 - p, p], 1))
    # of 4 × 2 pairs: .9 above all, .3 above two, level with one, below one
    assert found["auc"] == pytest.approx((4 + 2.5) / 8)
    assert found["auc_hard"] == pytest.approx((3 / 4 + 1 / 2) / 2)  # mean of the recalls
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert math.isnan(auc(np.zeros(3, int), np.ones((3, 2))))


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 4), st.integers(0, 1000))
def test_as_scikit_learn(n_classes, seed):
    random = np.random.default_rng(seed)
    truth = np.append(np.arange(n_classes), random.integers(n_classes, size=40))
    p = random.dirichlet(np.ones(n_classes), len(truth)).round(1)
    found = figures(truth, p)
    recalls = recall_score(truth, p.argmax(1), average=None)
    assert found["g_mean"] == pytest.approx(float(np.prod(recalls)) ** (1 / n_classes))
    each = [roc_auc_score(truth == one, p[:, one]) for one in range(n_classes)]
    assert found["auc"] == pytest.approx(np.mean(each))
    hard = [roc_auc_score(truth == one, p.argmax(1) == one) for one in range(n_classes)]
    assert found["auc_hard"] == pytest.approx(np.mean(hard))


def test_a_difference_is_paired_and_its_interval_is_that_of_a_share():
    random = np.random.default_rng(1)
    n = 400
    truth = random.integers(2, size=n)
    theirs = np.where(random.random(n) < 0.3, 1 - truth, truth)
    ours = np.where((ours_right := random.random(n) < 0.5), truth, theirs)
    told = differences(truth, ours[None], theirs[None], np.arange(n))["accuracy"]
    gain = ours_right & (theirs != truth)
    assert told.value == pytest.approx(gain.mean())
    half = 1.96 * np.sqrt(gain.mean() * (1 - gain.mean()) / n)
    assert told.low == pytest.approx(gain.mean() - half, abs=0.008)
    assert told.high == pytest.approx(gain.mean() + half, abs=0.008)
    assert told.is_told
    same = differences(truth, theirs[None], theirs[None], np.arange(n))["g_mean"]
    assert (same.value, same.low, same.high, same.is_told) == (0, 0, 0, False)


def test_seeds_are_averaged_and_groups_drawn_whole():
    truth = np.repeat([0, 1], 50)
    right, wrong = truth[None], 1 - truth[None]
    both = np.concatenate([right, wrong])
    assert differences(truth, both, np.repeat(wrong, 2, 0), np.arange(100))["accuracy"].value == pytest.approx(0.5)
    random = np.random.default_rng(0)
    said = np.where(random.random(100) < 0.5, truth, 1 - truth)[None]
    alone = differences(truth, said, wrong, np.arange(100))["accuracy"]
    copied = differences(
        np.repeat(truth, 9), np.repeat(said, 9, 1), np.repeat(wrong, 9, 1), np.repeat(np.arange(100), 9)
    )["accuracy"]
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)  # copies teach nothing


def test_g_mean_of_a_resample_is_that_of_its_rows():
    random = np.random.default_rng(3)
    truth, ours, theirs = random.integers(3, size=(3, 30))
    told = differences(truth, ours[None], theirs[None], np.arange(30))["g_mean"]
    assert told.value == pytest.approx(g_mean(truth, ours) - g_mean(truth, theirs))
    drawn = []
    for _ in range(1500):
        at = random.integers(30, size=30)
        drawn.append(g_mean(truth[at], ours[at]) - g_mean(truth[at], theirs[at]))
    np.testing.assert_allclose([told.low, told.high], np.percentile(drawn, [2.5, 97.5]), atol=0.05)


def test_texts():
    assert percent(412, 480) == "412 of 480 (85.8 %, 82.4–88.7)"
    assert percent(1.5, 3).startswith("1.5 of 3 (50.0 %")
    assert spread([0.5]) == "0.500"
    assert spread([0.4, 0.6, math.nan]) == "0.500 ± 0.141"
    assert spread([math.nan]) == "–"
    told = differences(TRUTH, SAID[None], SAID[None], np.arange(6))["accuracy"]
    assert points(told) == "+0.0 points (95 % interval +0.0 to +0.0)"
