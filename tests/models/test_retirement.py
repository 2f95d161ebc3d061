"""`models.retirement` against plain replays in Python, the hypergeometric distribution and bluebird's gold."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hypergeom

from models.consensus import Votes, interval
from models.retirement import (
    RESAMPLED,
    Recorded,
    Replay,
    cascade,
    difference,
    enough_orders,
    limits,
    out_of_fold,
    recorded,
    thresholds,
)
from models.swap import PRESETS, Settings, swap

LIVE = replace(PRESETS["beck"], prior=0.3, detect=0.9, reject=0.05)


def crowd(seed: int = 0, n_labels: int = 2, n_subjects: int = 40) -> tuple[Recorded, np.ndarray]:
    """Labels right seven times in ten, 3 to 12 a subject, in a random order of time; and the truth, a third unknown."""
    random = np.random.default_rng(seed)
    truth = random.integers(n_labels, size=n_subjects)
    votes = [
        (s, volunteer, truth[s] if random.random() < 0.7 else random.integers(n_labels))
        for s in range(n_subjects)
        for volunteer in random.choice(15, size=random.integers(3, 13), replace=False)
    ]
    subject, volunteer, label = np.array(votes)[random.permutation(len(votes))].T
    gold = np.where(random.random(n_subjects) < 0.33, -1, truth)
    made = Recorded(
        subject.astype(np.int32), volunteer.astype(np.int32), label.astype(np.int16), n_subjects, 15, n_labels
    )
    return made, gold


def tops(labels: list[int], n_labels: int) -> list[int]:
    counts = [labels.count(i) for i in range(n_labels)]
    return [i for i in range(n_labels) if counts[i] == max(counts)]


def alike(mine: list[int], theirs: list[int]) -> float:
    """The probability that two draws, one of each, are the same."""
    return sum(a == b for a in mine for b in theirs) / (len(mine) * len(theirs))


def by_hand(
    votes: Recorded, gold: np.ndarray, stops: list[int], given: list[int | None]
) -> dict[str, tuple[float, float]]:
    """Figures of one order; where votes stop at 0 a subject is left out. `given` None: most of the votes; −2: open."""
    sums = {name: [0.0, 0.0] for name in ("gold", "unused", "everyone")}
    for s in range(votes.n_subjects):
        said = [int(label) for at, label in zip(votes.subject, votes.label, strict=True) if at == s]
        if not stops[s] or given[s] == -2:
            continue
        mine = tops(said[: stops[s]], votes.n_labels) if given[s] is None else [given[s]]
        if gold[s] >= 0:
            sums["gold"][0] += alike(mine, [int(gold[s])])
            sums["gold"][1] += 1
        if said[stops[s] :]:
            sums["unused"][0] += alike(mine, tops(said[stops[s] :], votes.n_labels))
            sums["unused"][1] += 1
        sums["everyone"][0] += alike(mine, tops(said, votes.n_labels))
        sums["everyone"][1] += 1
    return {name: (k, n) for name, (k, n) in sums.items()}


def check(made: Replay, expected: dict[str, tuple[float, float]]) -> None:
    for name, (k, n) in expected.items():
        rate = getattr(made, name)
        assert (rate.k, rate.n) == (pytest.approx(k), n), name
        assert rate.low <= rate.value <= rate.high or n == 0


# -------------------------------------------------------------------------------------------------------------- limits
@pytest.mark.parametrize("n_labels", [2, 4])
def test_limits_in_the_recorded_order_are_those_replayed_by_hand(n_labels: int) -> None:
    votes, gold = crowd(1, n_labels)
    for limit, made in zip((1, 4, 9, 12), limits(votes, (1, 4, 9, 12), gold, orders=None), strict=True):
        stops = [limit if n >= limit else 0 for n in votes.n_votes]
        check(made, by_hand(votes, gold, stops, [None] * votes.n_subjects))
        assert made.spent == sum(stops) and made.n_orders == 0 and made.early.k == 0
        recorded_votes = sum(n for n in votes.n_votes if n >= limit)
        assert (made.saved.k, made.saved.n) == (recorded_votes - sum(stops), recorded_votes)
        assert made.n_cut_short == sum(votes.n_votes < limit) == votes.n_subjects - made.n_subjects
        assert np.array_equal(made.is_cut_short, np.isnan(made.used))


def test_a_limit_beyond_the_recorded_votes_is_refused() -> None:
    votes, gold = crowd()
    most = int(votes.n_votes.max())
    assert limits(votes, [most], gold, orders=None)[0].n_cut_short == (votes.n_votes < most).sum() > 0
    for limit in (most + 1, 0):
        with pytest.raises(
            ValueError, match=f"limit of {limit} votes cannot be replayed: no subject has more than {most}"
        ):
            limits(votes, [1, limit], gold, orders=None)


@pytest.mark.parametrize("limit", [1, 5])
def test_random_orders_agree_as_often_as_the_hypergeometric_distribution_says(limit: int) -> None:
    """Of n votes k say 1; a random few of them, and how often they and the others decide alike."""
    random, n = np.random.default_rng(2), 13
    k = random.integers(0, n + 1, size=60)
    label = np.concatenate([np.arange(n) < ones for ones in k]).astype(np.int16)
    subject = np.repeat(np.arange(60, dtype=np.int32), n)
    votes = Recorded(subject, np.tile(np.arange(n, dtype=np.int32), 60), label, 60, n, 2)
    gold = (k > 4).astype(np.int64)
    made = limits(votes, [limit], gold, orders=4000)[0]
    one = 1 - hypergeom.cdf(limit // 2, n, k, limit)
    assert made.gold.k == pytest.approx(np.where(gold, one, 1 - one).sum(), abs=0.25)
    drawn = np.arange(limit + 1)
    chance = hypergeom.pmf(drawn[:, None], n, k, limit)
    rest = k - drawn[:, None]
    theirs = np.where(2 * rest == n - limit, 0.5, 2 * rest > n - limit)
    agrees = np.where(drawn[:, None] > limit / 2, theirs, 1 - theirs)
    assert made.unused.k == pytest.approx((chance * agrees).sum(), abs=0.25)
    assert made.unused.n == made.gold.n == 60


def test_of_two_votes_either_is_the_first() -> None:
    pair = Recorded(np.zeros(2, np.int32), np.arange(2, dtype=np.int32), np.array([1, 0], np.int16), 1, 2, 2)
    assert limits(pair, [1], np.array([1]), orders=4000)[0].gold.k == pytest.approx(0.5, abs=0.04)


def test_the_same_seed_takes_the_same_orders() -> None:
    votes, gold = crowd(3)
    one, same, other = (limits(votes, [4], gold, orders=7, seed=seed)[0] for seed in (5, 5, 6))
    assert (one.gold, one.unused) == (same.gold, same.unused) and one.unused != other.unused


def test_a_share_moves_what_two_labels_decide() -> None:
    label = np.array([1, 0, 0, 0, 0], np.int16)
    votes = Recorded(np.zeros(5, np.int32), np.arange(5, dtype=np.int32), label, 1, 5, 2)
    gold = np.array([1])
    shares = (0.1, 0.2, 0.3)
    assert [limits(votes, [5], gold, orders=None, share=share)[0].gold.k for share in shares] == [1, 0.5, 0]
    with pytest.raises(ValueError, match=r"at least 0 and below 1, not 1\.5"):
        limits(votes, [5], gold, orders=None, share=1.5)


# ------------------------------------------------------------------------------------------------------------- cascade
@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("n_labels", [2, 4])
def test_a_cascade_is_the_one_replayed_by_hand(first: int, n_labels: int) -> None:
    votes, gold = crowd(4, n_labels)
    machine = np.random.default_rng(0).integers(-1, n_labels, votes.n_subjects)
    made = cascade(votes, machine, 6, first, gold, orders=None)
    stops, given, early = [], [], 0
    for s in range(votes.n_subjects):
        said = [label for at, label in zip(votes.subject, votes.label, strict=True) if at == s]
        is_counted = len(said) >= 6
        is_early = is_counted and all(label == machine[s] for label in said[:first])
        early += is_early
        stops.append(first if is_early else 6 if is_counted else 0)
        given.append(int(machine[s]) if is_early else None)
    check(made, by_hand(votes, gold, stops, given))
    assert (made.early.k, made.early.n, made.spent) == (early, np.count_nonzero(stops), sum(stops))
    assert (made.saved.k, made.saved.n) == (6 * np.count_nonzero(stops) - sum(stops), 6 * np.count_nonzero(stops))


def test_a_machine_without_labels_changes_nothing() -> None:
    votes, gold = crowd(5)
    plain = limits(votes, [5], gold, orders=9)[0]
    made = cascade(votes, np.full(votes.n_subjects, -1), 5, 2, gold, orders=9)
    assert (made.gold, made.unused, made.spent, made.saved.k) == (plain.gold, plain.unused, plain.spent, 0)
    assert difference(made, plain) == (0, 0, 0)


def test_a_machine_that_is_right_gains_and_the_gain_is_paired() -> None:
    votes, gold = crowd(6, n_subjects=300)
    plain, made = limits(votes, [3], gold, orders=20)[0], cascade(votes, gold, 3, 1, gold, orders=20)
    value, low, high = difference(made, plain)
    both = (made.right - plain.right)[gold >= 0]
    assert value == pytest.approx(both.mean()) and 0 < low < value < high
    error = both.std(ddof=1) / np.sqrt(len(both))
    assert (low, high) == (pytest.approx(value - 1.96 * error, abs=0.01), pytest.approx(value + 1.96 * error, abs=0.01))
    assert np.isnan(difference(plain, limits(votes, [3], orders=1)[0])).all()


def test_what_a_cascade_cannot_take_is_refused() -> None:
    votes, gold = crowd()
    with pytest.raises(ValueError, match="at least 1 and at most the limit, 3; found 4"):
        cascade(votes, gold, 3, 4, orders=None)
    with pytest.raises(
        ValueError, match=r"the machine's labels are −1 to 1, one of 40 subjects; found shape .* 0 to 2"
    ):
        cascade(votes, np.arange(40) % 3, 3, 1, orders=None)
    with pytest.raises(ValueError, match="gold labels are −1 to 1"):
        limits(votes, [3], gold[:-1], orders=None)


def test_no_interval_of_a_rate_goes_beyond_0_and_1() -> None:
    n = RESAMPLED + 1000
    who = np.arange(n, dtype=np.int32)
    votes = Recorded(who, np.zeros(n, np.int32), (who == 0).astype(np.int16), n, 1, 2)
    for label in (0, 1):
        agreement = limits(votes, [1], np.full(n, label), orders=None)[0].gold
        assert 0 <= agreement.low < agreement.value < agreement.high <= 1


# ---------------------------------------------------------------------------------------------------------- thresholds
@pytest.mark.parametrize("retires", ["both", "rejected"])
def test_thresholds_are_those_of_swap_replayed_by_hand(retires: str) -> None:
    votes, gold = crowd(7, n_subjects=80)
    trains = (np.arange(80) % 2 == 0) & (gold >= 0)
    settings = replace(LIVE, retires=retires)
    made = thresholds(votes, settings, gold, trains, orders=None)
    taught = np.where(trains, gold, -1).astype(np.int8)
    found = swap(votes.subject, votes.volunteer, votes.label == 1, 80, 15, taught, settings)
    stops, given = [], []
    for s in range(80):
        after, n = int(found.retired_after[s]), int(votes.n_votes[s])
        stops.append(0 if trains[s] else after if after > 0 else n)
        given.append({1: 1, -1: 0, 0: -2}[int(found.state[s])])
    check(made, by_hand(votes, gold, stops, given))
    decided = sum(label != -2 and stop > 0 for label, stop in zip(given, stops, strict=True))
    assert (made.early.k, made.early.n, made.spent) == (decided, (~trains).sum(), sum(stops))
    assert made.saved.n == votes.n_votes[~trains].sum() == made.saved.k + made.spent
    assert np.isnan(made.right[trains]).all() and 0 < decided < made.n_subjects


@pytest.mark.parametrize("mode", ["supervised", "both", "unsupervised"])
def test_votes_cast_after_a_retirement_change_nothing(mode: str) -> None:
    votes, gold = crowd(8, n_subjects=80)
    trains = np.where(np.arange(80) < 40, gold, -1) >= 0
    settings = replace(LIVE, mode=mode, p_initial=0.7)
    made = thresholds(votes, settings, gold, trains, orders=None)
    rank = np.empty(len(votes.label), int)
    for s in range(80):
        rank[votes.subject == s] = np.arange(votes.n_votes[s])
    later = rank >= np.where(np.isnan(made.used), np.inf, made.used)[votes.subject]
    assert later.sum() > 20
    turned = replace(votes, label=np.where(later, 1 - votes.label, votes.label).astype(np.int16))
    again = thresholds(turned, settings, gold, trains, orders=None)
    np.testing.assert_array_equal(again.used, made.used)
    assert again.gold == made.gold and again.unused.k != made.unused.k


def test_who_is_retired_comes_not_back() -> None:
    votes, gold = crowd(11, n_subjects=80)
    trains = (np.arange(80) < 40) & (gold >= 0)
    made, patient = (thresholds(votes, replace(LIVE, hasty=x), gold, trains, orders=None) for x in (True, False))
    np.testing.assert_array_equal(made.used, patient.used)
    assert (made.gold, made.early) == (patient.gold, patient.early)


def test_thresholds_over_random_orders_are_means_of_single_ones() -> None:
    votes, gold = crowd(9)
    trains = (np.arange(40) < 20) & (gold >= 0)
    made = thresholds(votes, LIVE, gold, trains, orders=3, seed=4)
    random, used = np.random.default_rng(4), []
    for _ in range(3):
        order = random.permutation(len(votes.label))
        shuffled = replace(
            votes, subject=votes.subject[order], volunteer=votes.volunteer[order], label=votes.label[order]
        )
        used.append(thresholds(shuffled, LIVE, gold, trains, orders=None).used)
    np.testing.assert_allclose(made.used, np.mean(used, 0))


def test_what_thresholds_cannot_take_is_refused() -> None:
    votes, gold = crowd()
    with pytest.raises(ValueError, match="between two labels, and this question has 4"):
        thresholds(crowd(0, 4)[0], LIVE, orders=None)
    with pytest.raises(ValueError, match="training subjects have no gold label"):
        thresholds(votes, LIVE, gold, np.ones(40, bool), orders=None)
    with pytest.raises(ValueError, match="votes that are cast later"):
        thresholds(votes, PRESETS["swap2"], gold, orders=None)


# ------------------------------------------------------------------------------------------ labels, intervals, machines
def test_labels_are_those_of_first_views() -> None:
    rows = [(0, 0, 1, 0), (0, 0, 1, 2), (0, 1, 2, -1), (0, 0, 3, 1), (1, 1, 4, 1)]  # subject, volunteer, view, answer
    columns = np.array(rows).T
    kinds = (np.int32, np.int32, np.int64, np.int16)
    votes = Votes(*(c.astype(k) for c, k in zip(columns, kinds, strict=True)), 2, 2, ("a", "b", "c"))
    one = recorded(votes, 2)
    assert (one.subject.tolist(), one.volunteer.tolist(), one.label.tolist()) == ([0, 0, 1], [0, 1, 1], [1, 0, 0])
    assert one.n_labels == 2 and one.n_votes.tolist() == [2, 1]
    with pytest.raises(ValueError, match="several answers at once to this question, and 1 times did"):
        recorded(votes)
    with pytest.raises(ValueError, match="answer 3 is none of the 3 answers"):
        recorded(votes, 3)
    single = recorded(votes.where(votes.answer != 2))
    assert (single.label.tolist(), single.n_labels) == ([0, 3, 1], 4)


def test_intervals_shrink_with_subjects_and_resampling_meets_its_limit() -> None:
    few, gold = crowd(10, n_subjects=RESAMPLED)
    many, more_gold = crowd(10, n_subjects=RESAMPLED + 1)
    one = limits(few, [3], np.maximum(gold, 0), orders=None)[0].gold
    other = limits(many, [3], np.maximum(more_gold, 0), orders=None)[0].gold
    error = 1.96 * np.sqrt(one.value * (1 - one.value) / one.n)
    assert (one.low, one.high) == (
        pytest.approx(one.value - error, rel=0.01),
        pytest.approx(one.value + error, rel=0.01),
    )
    assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.15)


def test_where_all_agree_the_interval_is_that_of_k_of_n() -> None:
    votes = Recorded(np.repeat(np.arange(9, dtype=np.int32), 2), np.zeros(18, np.int32), np.ones(18, np.int16), 9, 1, 2)
    made = limits(votes, [1], np.ones(9, int), orders=None)[0]
    low, high = interval(np.array([9]), np.array([9]))
    assert (made.gold.low, made.gold.high, made.gold.value) == (low[0], high[0], 1) and high[0] == 1 > low[0]
    assert np.isnan([limits(votes, [2], orders=None)[0].unused.value, made.gold.low - made.gold.low]).tolist() == [1, 0]


def test_orders_are_fewer_the_more_votes_there_are() -> None:
    sizes = [Recorded(none := np.zeros(n, np.int32), none, none, 1, 1, 2) for n in (0, 100, 4212, 1_000_000)]
    orders = [enough_orders(votes) for votes in sizes]
    assert orders == sorted(orders, reverse=True) and (orders[0], orders[-1]) == (200, 5)


def test_machine_labels_are_not_moved_by_their_own_subject_or_group() -> None:
    random = np.random.default_rng(0)
    label = np.repeat(random.integers(0, 2, 50), 2)
    score = label + random.normal(0, 0.4, 100)
    groups = np.arange(100) // 2
    made = out_of_fold(score, label, groups)
    assert (made == label).mean() > 0.75
    for group in range(0, 50, 7):
        mine = groups == group
        turned = out_of_fold(score, np.where(mine, 1 - label, label), groups)
        assert (turned[mine] == made[mine]).all()
    assert out_of_fold(np.where(groups == 0, np.nan, score), label, groups)[:2].tolist() == [-1, -1]
    # One group between the others: where its own labels teach, they move the cut across it.
    score = np.concatenate([np.linspace(0, 2, 20), np.linspace(8, 10, 20), np.linspace(3, 7, 60)])
    label, groups = np.repeat([0, 1, 1], [20, 20, 60]), np.minimum(np.arange(100), 40)
    turned = np.repeat([0, 1, 0], [20, 20, 60])
    assert (out_of_fold(score, label, groups)[40:] == out_of_fold(score, turned, groups)[40:]).all()
    assert (out_of_fold(score, label)[40:] != out_of_fold(score, turned)[40:]).mean() > 0.9
    with pytest.raises(ValueError, match="0 subjects of label 1"):
        out_of_fold(score, np.zeros(100, int))


def test_a_cut_separates_what_can_be_separated() -> None:
    label = np.arange(40) % 2
    assert (out_of_fold(label * 10.0 + np.arange(40) / 40, label) == label).all()


# ------------------------------------------------------------------------------------------------------------ bluebird
@pytest.fixture(scope="module")
def bluebird(shared_data: Path) -> tuple[Recorded, np.ndarray]:
    folder = shared_data / "crowd_gold" / "bluebird"
    with (folder / "label.csv").open() as handle:
        item, worker, label = np.array([list(map(int, row.values())) for row in csv.DictReader(handle)]).T
    with (folder / "truth.csv").open() as handle:
        truth = {int(row["item"]): int(row["truth"]) for row in csv.DictReader(handle)}
    ids = np.arange(len(item), dtype=np.int64)
    codes = item.astype(np.int32), worker.astype(np.int32), ids, label.astype(np.int16)
    votes = recorded(Votes(*codes, 108, 39, ("no", "yes")), 1)
    return votes, np.array([truth[i] for i in range(108)])


def test_bluebird_gives_the_figures_of_rule_12(bluebird: tuple[Recorded, np.ndarray]) -> None:
    """21 of the 39 votes of each of its 108 subjects, random orders: .943 against all, .869 the unused, .765 gold."""
    votes, gold = bluebird
    assert (votes.n_votes == 39).all()
    made = limits(votes, [21], gold, orders=1000)[0]
    assert (made.n_subjects, made.spent, made.saved.k, made.saved.n, made.n_cut_short) == (108, 2268, 1944, 4212, 0)
    assert made.everyone.value == pytest.approx(0.943, abs=0.003)
    assert made.unused.value == pytest.approx(0.869, abs=0.003)
    assert made.gold.value == pytest.approx(0.765, abs=0.003)
    assert made.gold.low == pytest.approx(0.69, abs=0.015) and made.gold.high == pytest.approx(0.835, abs=0.015)


def test_more_of_bluebirds_votes_agree_better_but_are_no_truer(bluebird: tuple[Recorded, np.ndarray]) -> None:
    votes, gold = bluebird
    made = limits(votes, [1, 5, 21, 39], gold, orders=60)
    assert all(a.everyone.value < b.everyone.value for a, b in pairwise(made))
    assert made[-1].gold.value == pytest.approx(82 / 108) and made[-1].unused.n == 0
    assert abs(made[2].gold.value - made[3].gold.value) < 0.02


def test_swap_spends_fewer_of_bluebirds_votes_and_is_nearer_to_gold(bluebird: tuple[Recorded, np.ndarray]) -> None:
    votes, gold = bluebird
    trains = np.zeros(108, bool)
    trains[np.random.default_rng(0).permutation(108)[:54]] = True
    made = thresholds(votes, Settings(0.5, detect=0.99, reject=0.004, retires="both"), gold, trains, orders=40)
    majority = limits(votes, [39], np.where(trains, -1, gold), orders=None)[0]
    assert made.n_subjects == made.early.n == 54 and made.saved.n == 54 * 39
    assert made.saved.low > 0.25 and made.gold.value > majority.gold.value
    value, low, _ = difference(made, majority)
    assert value > low > 0
