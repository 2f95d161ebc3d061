"""Pure samples: the limit, what none of n allows, folds that are judged by others' limits, votes as a control."""

import numpy as np
import pytest
from scipy.stats import binom

from models.artifacts import ArtifactError
from models.labels import folds_of
from models.purity import apply, clopper, controls, limit_of, none_of, pure, sentence, spell, table


def sample(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, truth and groups: a tenth positive, two deviations above the others; two of each group."""
    random = np.random.default_rng(seed)
    positive = np.arange(n) % 20 < 2
    return random.normal(size=n) + 2 * positive, positive, np.arange(n) // 2


def test_pure_is_what_lies_above_the_highest_negative():
    scores = np.array([0.1, 0.5, 0.7, 0.7, 0.8, 0.9, np.nan, 0.2, 0.3, 0.4])
    positive = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], bool)
    made = pure(scores, positive, np.arange(10), n_folds=3)
    assert made.limit == 0.7
    assert (made.pure.k, made.pure.n) == (2, 3)  # a tie with a negative is not pure; who has no score is not counted
    assert made.n_negative == 6
    assert made.at_most == pytest.approx(1 - 0.05 ** (1 / 6))


def test_a_limit_is_judged_by_the_other_folds_as_a_slow_loop_does():
    scores, positive, groups = sample()
    made = pure(scores, positive, groups, n_folds=4, seed=3)
    fold = folds_of(groups, positive.astype(np.int64), 4, 3)
    tp = fp = 0
    for i in range(len(scores)):
        limit = max(s for s, p, f in zip(scores, positive, fold, strict=True) if not p and f != fold[i])
        tp += scores[i] > limit and positive[i]
        fp += scores[i] > limit and not positive[i]
    assert (made.held_recall.k, made.held_recall.n) == (tp, 40)
    assert (made.held_false.k, made.held_false.n) == (fp, 360)
    assert (made.held_precision.k, made.held_precision.n) == (tp, tp + fp)
    assert fp >= 1  # the highest negative of all lies above the limit of the other folds


def test_what_none_of_n_allows_is_about_three_of_n():
    assert none_of(1) == pytest.approx(0.95)
    assert none_of(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert none_of(0) == 1


def test_the_bound_holds_for_the_highest_of_n_in_so_many_of_all_samples():
    random = np.random.default_rng(0)
    highest = random.random((4000, 30)).max(1)  # of uniform scores the share above is 1 - the limit
    assert (1 - highest <= none_of(30)).mean() == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (7, 20), (19, 20), (20, 20)])
def test_the_interval_of_few_is_where_the_binomial_leaves_its_tails(k, n):
    made = clopper(k, n)
    tail = 0.05 if k in (0, n) else 0.025
    if k:
        assert binom.sf(k - 1, n, made.low) == pytest.approx(tail)
    if k < n:
        assert binom.cdf(k, n, made.high) == pytest.approx(tail)
    assert (made.low == 0) == (k == 0) and (made.high == 1) == (k == n)
    assert clopper(0, n).high == pytest.approx(none_of(n))


def test_images_of_the_same_thing_count_once():
    scores, positive, _ = sample()
    groups = np.where(positive, 1000 + np.arange(400), np.arange(400) // 40)
    assert pure(scores, positive, groups).at_most == pytest.approx(none_of(10))


def test_negatives_that_many_voted_for_do_not_choose_the_limit():
    scores, positive, groups = sample()
    votes = np.where(positive, 0.9, 0.05)
    top = np.flatnonzero(~positive)[scores[~positive].argmax()]
    votes[top] = 0.4  # a positive that the truth missed
    plain, *some = controls(scores, positive, groups, votes, (0.2, 0.5))
    assert plain[0] is None and plain[1].n_contested == 0
    assert [at for at, _ in some] == [0.2, 0.5]
    control, loose = some[0][1], some[1][1]
    assert control.limit < plain[1].limit and control.pure.k >= plain[1].pure.k
    assert (control.n_contested, control.contested_above, control.n_negative) == (1, 1, 359)
    assert loose.limit == plain[1].limit and loose.n_contested == 0
    assert control.held_false.n == 360  # the contested one counts where it is judged
    no_votes = controls(scores, positive, groups, np.full(400, np.nan), (0.2,))
    assert no_votes[1][1].n_contested == 0


def test_a_limit_on_others():
    recall, false, precision = apply(0.5, np.array([0.6, 0.4, 0.7, 0.1, np.nan]), np.array([1, 1, 0, 0, 1], bool))
    assert (recall.k, recall.n, false.k, false.n, precision.k, precision.n) == (1, 2, 1, 2, 1, 2)


def test_words():
    scores, positive, groups = sample()
    made = pure(scores, positive, groups)
    words = sentence(made)
    assert "none of 360 negatives, by choice" in words and f"up to {made.at_most:.2%}" in words
    assert "lie above their limits" in words
    none = sentence(pure(-scores, positive, groups), "simulated ")
    assert none.startswith("No pure sample: none of 40 simulated positives lies above")
    assert "the highest of 360 simulated negatives. Out of fold" in none
    shown = table(controls(scores, positive, groups, np.zeros(400), (0.2,)), "score")
    assert [row[0] for row in shown.rows] == ["360", "360, votes ≤ 20%"]
    assert len({len(row) for row in shown.rows} | {len(shown.columns)}) == 1
    assert spell(clopper(1, 8)) == "12.5% [0.3, 52.7] (1 of 8)"
    assert spell(clopper(0, 0)) == "– (nobody)"


def test_bad_input():
    scores, positive, groups = sample()
    with pytest.raises(ArtifactError, match="no subject with a score is positive"):
        pure(scores, np.zeros(400, bool), groups)
    with pytest.raises(ArtifactError, match="no subject with a score is negative"):
        pure(scores, np.ones(400, bool), groups)
    with pytest.raises(ArtifactError, match="400 scores, 399 truths, 400 groups"):
        pure(scores, positive[1:], groups)
    with pytest.raises(ArtifactError, match="do not make 5 folds"):
        pure(scores, positive, groups // 100)
    with pytest.raises(ArtifactError, match="1 negatives do not go into 5 folds"):
        pure(scores[:30], np.arange(30) > 0, np.arange(30))
    assert limit_of(np.array([1.0, 3.0, 2.0])) == 3
