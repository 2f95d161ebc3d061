"""What to look at next, and what is left: finds come early, draws are honest, and the interval covers the truth."""

import time

import numpy as np
import pytest
from scipy.stats import hypergeom, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from models import ranking
from models.ranking import (
    STRATEGIES,
    Left,
    RankingError,
    Step,
    Strategy,
    Votes,
    average_precision,
    before_votes,
    choose,
    disagreement,
    fit,
    isolation,
    next_find,
    normal_scores,
    novelty,
    of_columns,
    of_vectors,
    order,
    remaining,
    remaining_of_groups,
)


def planted(n: int = 3000, n_positive: int = 60, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Feature spaces of which "scores" tells and "noise" does not, an order before votes, and who is a find."""
    rng = np.random.default_rng(seed)
    positive = np.zeros(n, bool)
    positive[rng.choice(n, n_positive, replace=False)] = True
    columns = rng.normal(size=(4, n)) + 1.5 * positive
    spaces = {"scores": of_columns(columns), "noise": of_vectors(rng.normal(size=(n, 20)).astype(np.float32))}
    return spaces, before_votes([columns[0]]), positive


def votes_of(looked: np.ndarray, positive: np.ndarray) -> Votes:
    return Votes(looked, positive[looked], looked, looked)


def campaign(
    strategy: Strategy, share_random: float = 0.0, n: int = 300, seed: int = 0, learned_on: tuple[str, ...] = ()
) -> tuple[int, list[Step], int]:
    """Finds after n looks, the random draws, and how many are left."""
    spaces, cold, positive = planted(seed=seed)
    spaces = {name: spaces[name] for name in learned_on or spaces}
    looked, steps = np.empty(0, np.int64), []
    for number in range(n // 25):
        batch = order(spaces, cold, votes_of(looked, positive), strategy, 25, share_random, 1000 * seed + number)
        assert not np.isin(batch.rows, looked).any()
        assert len(np.unique(batch.rows)) == 25
        assert batch.n_unseen == len(positive) - len(looked)
        assert np.isin(batch.random, batch.rows).all()
        drawn = positive[batch.random]
        steps.append(Step(batch.n_unseen, int(positive[looked].sum()), len(drawn), int(drawn.sum())))
        looked = np.concatenate([looked, batch.rows])
    found = int(positive[looked].sum())
    return found, steps, int(positive.sum()) - found


@pytest.mark.parametrize("strategy", ["mix", "greedy", "uncertain", "bald"])
def test_every_strategy_that_learns_finds_far_more_than_chance(strategy: Strategy) -> None:
    by_chance = 60 * 300 / 3000
    assert campaign(strategy)[0] > 4 * by_chance
    assert campaign("random")[0] < 3 * by_chance


def test_all_strategies_offer_whoever_is_left_and_then_nobody() -> None:
    spaces, cold, positive = planted(60, 6)
    for strategy in STRATEGIES:
        looked = np.arange(50)
        batch = order(spaces, cold, votes_of(looked, positive), strategy, by=cold)
        assert sorted(batch.rows) == list(range(50, 60))
        assert not len(order(spaces, cold, votes_of(np.arange(60), positive), strategy, by=cold).rows)
    some = order(spaces, cold, votes_of(np.arange(10), positive), "mix", 5, among=np.array([3, 20, 30]))
    assert sorted(some.rows) == [20, 30]
    assert some.n_unseen == 2


def test_a_run_is_gone_by_whatever_was_voted_and_who_it_does_not_know_comes_last() -> None:
    _, cold, positive = planted(60, 6)
    by = np.arange(60.0)
    by[[50, 59]] = np.nan, np.inf
    for looked in (np.empty(0, np.int64), np.array([58, 57])):
        batch = order({}, cold, votes_of(looked, positive), "run", 10, 0.2, 3, by=by)
        chosen = [row for row in batch.rows.tolist() if row not in batch.random]
        left = [row for row in range(58, -1, -1) if row not in (50, *looked.tolist(), *batch.random.tolist())]
        assert sorted(chosen, reverse=True) == left[:8]
        assert batch.chosen is None and "the newest run with an acquisition would learn most" in batch.sentence
    everybody = order({}, cold, votes_of(np.arange(45), positive), "run", 20, 0.0, by=by)
    assert sorted(everybody.rows) == list(range(45, 60))
    with pytest.raises(RankingError, match="no run with an acquisition to go by"):
        order({}, cold, votes_of(np.empty(0, np.int64), positive), "run")


def test_random_draws_are_uniform_over_all_unseen_and_are_not_told_by_their_place() -> None:
    spaces, cold, positive = planted(40, 8)
    spaces = {"scores": spaces["scores"]}
    looked = np.arange(20)
    drawn, places = np.zeros(40), np.zeros(10)
    for seed in range(400):
        batch = order(spaces, cold, votes_of(looked, positive), "greedy", 10, 0.2, seed)
        assert len(batch.random) == 2
        drawn[batch.random] += 1
        places[np.flatnonzero(np.isin(batch.rows, batch.random))] += 1
    assert not drawn[:20].any()
    expected = 400 * 2 / 20
    assert ((drawn[20:] - expected) ** 2 / expected).sum() < 43.8  # chi², 19 degrees of freedom, p = .001
    expected = 400 * 2 / 10
    assert ((places - expected) ** 2 / expected).sum() < 27.9  # 9 degrees


def test_before_votes_of_both_kinds_the_unusual_come_first() -> None:
    spaces, cold, positive = planted()
    none = order(spaces, cold, votes_of(np.empty(0, np.int64), positive), "mix", 25, 0)
    assert set(none.rows) == set(np.argsort(-cold, kind="stable")[:25])
    assert none.chosen is None
    assert "nothing was found yet" in none.sentence
    only = np.flatnonzero(positive)[:5]
    assert "everything so far is a find" in order(spaces, cold, votes_of(only, positive), "bald").sentence


def test_what_tells_is_chosen_by_cross_validation_and_said() -> None:
    spaces, _, positive = planted()
    looked = np.concatenate([np.flatnonzero(positive)[:30], np.flatnonzero(~positive)[:200]])
    chosen = choose(spaces, votes_of(looked, positive))
    assert chosen.names == ("scores",)
    assert chosen.precision["scores"] > 2 * chosen.precision["noise"]
    assert chosen.sentence().startswith("Learned on scores: average precision 0.")
    assert "230 subjects with votes, 30 of them finds" in chosen.sentence()
    few = choose(spaces, votes_of(looked[28:60], positive))
    assert few.names == ("scores", "noise")
    assert "too few to compare" in few.sentence()


def test_duplicates_are_never_on_both_sides_of_a_fold() -> None:
    """A space that knows each subject by heart is worthless where its twin is held back with it."""
    rng = np.random.default_rng(4)
    n = 200
    positive = np.repeat(rng.random(n // 2) < 0.3, 2)
    heart = np.repeat(rng.normal(size=(n // 2, 100)), 2, axis=0).astype(np.float32)
    weak = of_columns([rng.normal(size=n) + 0.8 * positive])
    rows = np.arange(n)
    whole = choose({"weak": weak, "heart": heart}, Votes(rows, positive, rows // 2, rows))
    torn = choose({"weak": weak, "heart": heart}, Votes(rows, positive, rows, rows))
    assert whole.names == ("weak",)
    assert torn.precision["heart"] > whole.precision["heart"] + 0.2


def test_the_model_is_balanced_logistic_regression() -> None:
    spaces, _, positive = planted(800, 50)
    x = spaces["scores"]
    theirs = LogisticRegression(C=ranking.PENALTY, class_weight="balanced", tol=1e-10, max_iter=1000)
    theirs.fit(x.astype(np.float64), positive)
    found = fit(x, positive)
    assert np.allclose(found[:-1], theirs.coef_[0], atol=1e-4)
    assert found[-1] == pytest.approx(theirs.intercept_[0], abs=1e-4)
    score = x @ found[:-1]
    assert average_precision(score, positive) == pytest.approx(average_precision_score(positive, score), abs=1e-12)
    with pytest.raises(RankingError, match="both kinds"):
        fit(x[~positive], positive[~positive])


def test_models_disagree_where_nothing_was_voted_on() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(200, 2)) * [1, 0.05]
    positive = known[:, 0] + 0.7 * rng.normal(size=200) > 0
    x = np.vstack([known, [[0, 30], [0, -30], [0, 0]]]).astype(np.float32) * 5
    rows = np.arange(200)
    told = disagreement([x[:, :1], x[:, 1:]], Votes(rows, positive, rows, rows), rng)
    assert told[200] > 5 * told[202]
    assert told[201] > 5 * told[202]
    assert (told >= -1e-6).all() and (told <= np.log(2)).all()


def test_normal_scores_keep_the_order_and_leave_what_is_missing_in_the_middle() -> None:
    values = np.array([5.0, np.nan, 1e9, 5.0, -3.0, np.inf])
    found = normal_scores(values)
    assert found[0] == found[3]
    assert found[4] < found[0] < found[2]
    assert found[1] == found[5] == 0
    many = normal_scores(np.random.default_rng(0).lognormal(sigma=3, size=5000))
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - 1) < 0.01
    with pytest.raises(RankingError, match="no column differs"):
        of_columns([np.ones(5), np.full(5, np.nan)])


def test_every_space_counts_alike_however_many_columns_it_has() -> None:
    rng = np.random.default_rng(0)
    for x in (of_columns(rng.normal(size=(3, 4000))), of_vectors(rng.normal(size=(4000, 90)) * np.arange(1, 91))):
        assert x.var(axis=0).sum() == pytest.approx(ranking.VARIANCE, rel=0.01)
        assert x.dtype == np.float32
    assert not of_vectors(np.vstack([rng.normal(size=(5, 3)), [[np.nan, 1, 1]]]))[-1].any()


def test_distances_are_those_of_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    ours = isolation(x)
    theirs = NearestNeighbors(n_neighbors=ranking.NEIGHBORS).fit(x).kneighbors()[0].mean(1)
    assert np.allclose(ours, theirs, atol=1e-3)
    assert np.allclose(
        novelty(x[:100], x[100:]),
        NearestNeighbors(n_neighbors=1).fit(x[100:]).kneighbors(x[:100])[0][:, 0],
        atol=1e-3,
    )


def test_before_votes_a_mean_of_percentiles_or_how_far_others_are() -> None:
    a, b = np.array([1.0, 2, 3, np.nan]), np.array([10.0, 30, 20, 40])
    assert before_votes([a, b, np.full(4, np.nan)]).tolist() == pytest.approx(
        [(1 / 6 + 1 / 8) / 2, (3 / 6 + 5 / 8) / 2, (5 / 6 + 3 / 8) / 2, (0.5 + 7 / 8) / 2]
    )
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    assert spearmanr(before_votes([], x), np.linalg.norm(x, axis=1)).statistic > 0.8
    with pytest.raises(RankingError, match="start a score run"):
        before_votes([])


def test_a_million_and_a_half_are_ranked_in_seconds() -> None:
    """Here a tenth of it, in seconds of processor time, which do not grow where others use the machine, too."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(150_000, 128)).astype(np.float32)
    positive = latents[:, 0] > 2.5
    looked = np.concatenate([np.flatnonzero(positive)[:40], np.arange(500)])
    started = time.process_time()
    spaces = {"scores": of_columns(latents[:, :4].T), "latents": of_vectors(latents)}
    batch = order(spaces, before_votes([latents[:, 0]]), votes_of(np.unique(looked), positive))
    assert len(batch.rows) == 25
    assert time.process_time() - started < 10


# ------------------------------------------------------------------------------------------------------- what is left
def test_one_draw_has_the_likelihood_of_the_hypergeometric_distribution() -> None:
    n, r, k = 120, 30, 4
    left = remaining([Step(n, 0, r, k)], k, n - r)
    total = np.arange(k, n - r + k + 1)
    density = hypergeom.pmf(k, n, total, r)
    density /= density.sum()
    best = np.sort(density)[::-1]
    inside = density >= best[np.searchsorted(np.cumsum(best), 0.95)]
    assert left.n == total[density.argmax()] - k
    assert (left.low, left.high) == (total[inside].min() - k, total[inside].max() - k)
    assert (left.n_drawn, left.n_positive) == (30, 4)


def test_what_is_left_covers_the_truth() -> None:
    """The full measure is the benchmark `left`; here 40 campaigns of the default strategy."""
    covered, least = 0, []
    for seed in range(40):
        _, steps, truth = campaign("mix", 0.2, 200, seed, ("scores",))
        found = 60 - truth
        left = remaining(steps, found, 2800)
        assert left.n is not None and left.low is not None and left.high is not None
        assert 0 <= left.low <= left.n <= left.high <= 2800
        covered += left.low <= truth <= left.high
        least.append(left.high)
    assert covered >= 35  # of 95 %, 34 and less has p < .02
    assert np.median(least) < 400  # and it says something: a seventh of all


def test_greedy_looks_would_mislead_where_draws_do_not() -> None:
    """All finds were made before the draws: what is drawn from holds none, and the estimate says so."""
    steps = [Step(1000, 50, 200, 0), Step(780, 50, 200, 0)]
    left = remaining(steps, 50, 580)
    assert left.n == left.low == 0
    assert left.high is not None and left.high < 10
    assert left.sentence() == f"At most {left.high} finds are left below this point (95 %); " + (
        "0 of 400 random draws were finds."
    )


def test_nothing_drawn_nothing_said() -> None:
    left = remaining([Step(100, 0, 0, 0)], 5, 100)
    assert (left.n, left.low, left.high) == (None, None, None)
    assert "cannot be said" in left.sentence()
    assert remaining([Step(10, 0, 10, 3)], 3, 0) == Left(0, 0, 0, 0, 10, 3)
    assert left.to_json()["n"] is None
    with pytest.raises(RankingError, match="cannot be"):
        remaining([Step(10, 0, 5, 6)], 6, 5)


def test_a_million_unseen_are_estimated_on_a_grid() -> None:
    left = remaining([Step(1_500_000, 0, 2000, 20)], 20, 1_498_000)
    assert left.n == pytest.approx(15_000, rel=0.01)
    assert left.low is not None and left.high is not None
    assert 8_500 < left.low < 10_500
    assert 21_500 < left.high < 24_000
    assert left.sentence().startswith(f"About {left.n:,} ({left.low:,}–{left.high:,}) finds are left")


def test_how_long_the_next_find_takes() -> None:
    told = next_find(5, 50, 6.0)
    assert told["hours"] == pytest.approx(60 / 3600)
    assert told["low"] < told["hours"] < told["high"]
    assert told["sentence"].startswith("The last 50 looks found 5: one each 1 min (")
    none = next_find(0, 50, 6.0)
    assert none["hours"] is None and none["high"] is None
    assert none["sentence"] == "The last 50 looks found 0: the next one takes 1 min or more at 6 s a look."
    assert next_find(0, 0, 6.0)["sentence"] == ""


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_what_is_left_is_covered_where_whole_groups_are_drawn(size: int) -> None:
    rng, n, covered = np.random.default_rng(size), 1200, 0
    groups = np.arange(n) // size
    for _ in range(200):
        truth = (rng.random(n // size) < 0.1)[groups]
        drawn = np.isin(groups, rng.choice(n // size, 200 // size, replace=False))
        left = remaining_of_groups(groups[drawn], truth[drawn], n)
        assert left.low is not None and left.high is not None
        covered += left.low <= truth[~drawn].sum() <= left.high
    assert covered >= 180


def test_what_is_left_of_groups_is_what_is_left_where_all_are_alone() -> None:
    found = np.arange(60) < 7
    assert remaining_of_groups(np.arange(60), found, 400) == remaining([Step(400, 0, 60, 7)], 7, 340)
    assert remaining_of_groups(np.empty(0, np.int64), np.empty(0, np.bool_), 50).n is None
