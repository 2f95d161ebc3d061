"""`models.consensus` against counting by hand, scipy, the paper's bound and real crowds."""

import csv
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from scipy.special import betaincinv
from scipy.stats import beta

from models.consensus import (
    MANY_PAIRS,
    Counts,
    Votes,
    agreement,
    count,
    entropy,
    experience_weights,
    from_totals,
    interval,
    log_weights,
    plurality,
    skill_weights,
    weighted,
)

Row = tuple[int, int, int, int]  # subject, volunteer, classification, answer


def coded(rows: list[Row], n_subjects: int, n_volunteers: int, answers: tuple[str, ...] = ("chosen",)) -> Votes:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    kinds = (np.int32, np.int32, np.int64, np.int16)
    return Votes(
        *(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)), n_subjects, n_volunteers, answers
    )


def crowd(seed: int, n_answers: int = 3, several: bool = True) -> tuple[list[Row], Votes]:
    """A crowd that comes back to subjects, passes some over and gives several answers at once."""
    random, rows = np.random.default_rng(seed), []
    for classification in range(600):
        subject, volunteer = int(random.integers(20)), int(random.integers(9))
        most = n_answers if several else 1
        given = random.choice(n_answers, size=random.integers(most + 1), replace=False).tolist() or [-1]
        rows += [(subject, volunteer, 7 * classification, answer) for answer in given]
    return rows, coded(rows, 21, 10, tuple("abc"[:n_answers]))


def by_hand(rows: list[Row], subject: int) -> dict[str, list[set[int]]]:
    """Answers of every view of a subject, and of every volunteer's first view of it."""
    views: dict[tuple[int, int], set[int]] = {}
    for at, volunteer, classification, answer in rows:
        if at == subject:
            views.setdefault((volunteer, classification), set()).add(answer)
    firsts: dict[int, set[int]] = {}
    for (volunteer, _), answers in views.items():
        firsts.setdefault(volunteer, answers)
    return {"views": list(views.values()), "volunteers": list(firsts.values())}


@pytest.mark.parametrize("several", [True, False])
def test_counts_are_those_made_by_hand(several: bool) -> None:
    rows, votes = crowd(1, several=several)
    counts = count(votes)
    for subject in range(21):
        for basis, said in by_hand(rows, subject).items():
            k, n = counts.of(basis)
            passed = counts.n_passed if basis == "views" else counts.n_passed_volunteers
            assert n[subject] == len(said)
            assert k[subject].tolist() == [sum(a in answers for answers in said) for a in range(3)]
            assert passed[subject] == sum(answers == {-1} for answers in said)
    assert counts.n_views[20] == counts.n_volunteers[20] == 0
    assert (counts.n_views > counts.n_volunteers).any()


def test_a_volunteers_first_answer_counts_and_a_later_one_does_not() -> None:
    votes = coded([(0, 0, 10, -1), (0, 1, 11, 0), (0, 0, 12, 0), (0, 0, 13, 0)], 1, 2)
    counts = count(votes)
    assert (counts.n_chosen[0, 0], counts.n_views[0]) == (3, 4)
    assert (counts.n_chosen_volunteers[0, 0], counts.n_volunteers[0]) == (1, 2)


def test_the_answers_of_one_grid_are_views_of_several_subjects() -> None:
    votes = coded([(0, 0, 5, 0), (1, 0, 5, -1), (2, 0, 5, 0)], 3, 1)
    assert count(votes).n_views.tolist() == [1, 1, 1]


def test_no_votes_and_no_answers_count_nothing() -> None:
    none = count(coded([], 2, 0))
    assert none.n_views.tolist() == [0, 0] and none.n_chosen.shape == (2, 1)
    assert count(coded([(0, 0, 1, -1)], 1, 1, ())).n_passed.tolist() == [1]


def test_rows_that_stand_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="1 subjects were chosen more often than seen"):
        count(coded([(0, 0, 1, 0), (0, 0, 1, 0)], 1, 1))


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="column subject of the votes goes from 0 to 3; its codes go from 0 to 1"):
        coded([(0, 0, 1, 0), (3, 0, 2, 0)], 2, 1)
    with pytest.raises(ValueError, match=r"column answer .* from -2 to -2; its codes go from -1 to 0"):
        coded([(0, 0, 1, -2)], 2, 1)
    good = coded([(0, 0, 1, 0)], 1, 1)
    with pytest.raises(ValueError, match=r"column volunteer .* has shape \(2,\), not that of subject, \(1,\)"):
        Votes(good.subject, np.zeros(2, np.int32), good.classification, good.answer, 1, 1, ("chosen",))
    with pytest.raises(ValueError, match="column subject of the votes holds float64"):
        Votes(np.zeros(1), good.volunteer, good.classification, good.answer, 1, 1, ("chosen",))


def test_votes_that_are_kept_are_counted_as_if_the_others_were_not_there() -> None:
    rows, votes = crowd(2)
    keep = votes.volunteer % 2 == 0
    kept = count(votes.where(keep))
    again = count(coded([row for row in rows if row[1] % 2 == 0], 21, 10, ("a", "b", "c")))
    assert all(np.array_equal(getattr(kept, name), getattr(again, name)) for name in Counts.__dataclass_fields__)


# ----------------------------------------------------------------------------------------------------------- weights
def test_weighted_fractions_are_those_of_the_formula() -> None:
    rows, votes = crowd(3)
    weights = np.random.default_rng(0).uniform(0.2, 3, 10)
    made = weighted(votes, weights)
    for subject in range(20):
        firsts: dict[int, tuple[int, set[int]]] = {}
        for at, volunteer, classification, answer in rows:
            if at == subject:
                first, answers = firsts.setdefault(volunteer, (classification, set()))
                if classification == first:
                    answers.add(answer)
        w = np.array([weights[v] for v in firsts])
        n_effective = w.sum() ** 2 / (w**2).sum()
        assert made.n_effective[subject] == pytest.approx(n_effective)
        for answer in range(3):
            c = np.array([answer in answers for _, answers in firsts.values()])
            f = (w * c).sum() / w.sum()
            assert made.fraction[subject, answer] == pytest.approx(f)
            limits = beta.ppf([0.025, 0.975], f * n_effective + 0.5, (1 - f) * n_effective + 0.5)
            got = [made.low[subject, answer], made.high[subject, answer]]
            assert got == pytest.approx([limits[0] if c.any() else 0, limits[1] if not c.all() else 1], abs=1e-9)
    assert np.isnan(made.fraction[20]).all() and np.isnan(made.low[20]).all() and made.n_effective[20] == 0


def test_equal_weights_of_any_size_change_nothing() -> None:
    _, votes = crowd(4)
    counts, made = count(votes), weighted(votes, np.full(10, 0.37))
    k, n = counts.of("volunteers")
    low, high = interval(k[:20], n[:20, None])
    np.testing.assert_allclose(made.fraction[:20], k[:20] / n[:20, None])
    np.testing.assert_allclose(made.n_effective, n)
    np.testing.assert_allclose(made.low[:20], low, atol=1e-12)
    np.testing.assert_allclose(made.high[:20], high, atol=1e-12)


def test_the_papers_weights_lower_a_fraction_by_at_most_its_bound() -> None:
    """Mantha et al. 2024, w = 2: c / (2 − c) − c, least at c = 2 − √2, where it is −0.1716 (specs §2)."""
    n, c = 250, np.arange(251) / 250
    votes = coded([(s, v, s * n + v, 0 if v < s else -1) for s in range(n + 1) for v in range(n)], n + 1, n)
    drops, rises = [], []
    for k in range(n + 1):  # subject k was chosen by volunteers 0…k−1
        elsewhere = np.where(np.arange(n) < k, 99, 100)
        drops.append(weighted(votes, experience_weights(elsewhere)).fraction[k, 0] - c[k])
        rises.append(weighted(votes, experience_weights(199 - elsewhere)).fraction[k, 0] - c[k])
    np.testing.assert_allclose(drops, c / (2 - c) - c, atol=1e-12)
    np.testing.assert_allclose(rises, 2 * c / (1 + c) - c, atol=1e-12)
    assert min(drops) == pytest.approx(-0.1716, abs=5e-5) and c[np.argmin(drops)] == pytest.approx(2 - 2**0.5, abs=3e-3)


def test_effective_numbers_of_known_weights() -> None:
    votes = coded([(0, v, v, 0 if v else -1) for v in range(4)], 1, 4)
    made = weighted(votes, np.array([3.0, 1, 1, 1]))
    assert made.fraction[0, 0] == 0.5 and made.n_effective[0] == pytest.approx(36 / 12)
    silent = weighted(votes, np.array([0.0, 0, 0, 0]))
    assert np.isnan(silent.fraction[0, 0]) and silent.n_effective[0] == 0


@pytest.mark.parametrize("weights", [np.ones(3), np.array([1, -1.0]), np.array([1, np.nan]), np.array([1, np.inf])])
def test_weights_that_are_none_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"weights are finite, not negative and one a volunteer \(2\)"):
        weighted(coded([(0, 0, 1, 0)], 1, 2), weights)


def test_schemes_of_weights() -> None:
    elsewhere = np.array([0, 99, 100, 1e4, np.nan, -1])
    assert experience_weights(elsewhere).tolist() == [1, 1, 2, 2, 1, 1]
    assert experience_weights(elsewhere, threshold=50, weight=3).tolist() == [1, 3, 3, 3, 1, 1]
    logs = log_weights(elsewhere)
    assert logs[[0, 2, 4, 5]].tolist() == [1, 2, 1, 1] and logs[3] == pytest.approx(1 + np.log(10001) / np.log(101))
    assert skill_weights(np.array([0, 0.5, np.nan, 0.919])).tolist() == [0.05, 0.5, 0.05, 0.919]


# --------------------------------------------------------------------------------------------- intervals and entropy
def test_intervals_are_jeffreys() -> None:
    n = np.repeat(np.arange(1, 41), 41)
    k = np.tile(np.arange(41), 40)
    k, n = k[k <= n], n[k <= n]
    low, high = interval(k, n)
    inside = (k > 0) & (k < n)
    np.testing.assert_allclose(low[inside], beta.ppf(0.025, k + 0.5, n - k + 0.5)[inside])
    np.testing.assert_allclose(high[inside], beta.ppf(0.975, k + 0.5, n - k + 0.5)[inside])
    assert (low[k == 0] == 0).all() and (high[k == n] == 1).all()
    assert ((low <= k / n) & (k / n <= high)).all()
    np.testing.assert_allclose(low, 1 - interval(n - k, n)[1], atol=1e-12)  # mirrored
    assert [float(side) for side in interval(np.array(0), np.array(0))] == [0, 1]


def test_an_intervals_level_is_the_posteriors_inside() -> None:
    low, high = interval(np.array([3]), np.array([10]), 0.68)
    assert beta.cdf(high, 3.5, 7.5) - beta.cdf(low, 3.5, 7.5) == pytest.approx(0.68)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_many_different_pairs_are_read_off_a_spline_without_loss(level: float) -> None:
    random = np.random.default_rng(5)
    n = np.exp(random.uniform(-3, 12, 2 * MANY_PAIRS))
    share = random.random(len(n)) ** 3
    k = n * np.where(random.random(len(n)) < 0.5, share, 1 - share)
    some = random.choice(len(n), 1500, replace=False)
    low, high = (side[some] for side in interval(k, n, level))
    k, n, tail = k[some], n[some], (1 - level) / 2
    np.testing.assert_allclose(low, betaincinv(k + 0.5, n - k + 0.5, tail), atol=1e-6)
    np.testing.assert_allclose(high, betaincinv(k + 0.5, n - k + 0.5, 1 - tail), atol=1e-6)


def test_intervals_of_what_is_no_fraction_are_refused() -> None:
    with pytest.raises(ValueError, match="2 fractions are not k of n"):
        interval(np.array([3, -1, 1]), np.array([2, 4, 1]))
    with pytest.raises(ValueError, match="level of an interval lies between 0 and 1, not at 95"):
        interval(np.array([1]), np.array([2]), 95)


def test_entropies_of_known_shares() -> None:
    n_chosen = np.array([[4, 0, 0, 0], [2, 2, 2, 2], [1, 1, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0]])
    known = [0, 2, 1, 2 - 0.75 * np.log2(3), np.nan]
    np.testing.assert_allclose(entropy(n_chosen), known, atol=1e-12)
    # One answer to choose: who passed is the other one.
    np.testing.assert_allclose(entropy(np.array([[5], [5], [0]]), np.array([5, 0, 7])), [1, 0, 0], atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- totals
def test_countings_are_not_mixed() -> None:
    views, chosen, saw = np.array([20, 10]), np.array([9, 1]), np.array([8, 7])
    alone = from_totals(views, chosen, saw)
    assert (alone.k.tolist(), alone.n.tolist(), alone.basis) == ([9, 1], [20, 10], "views")
    both = from_totals(views, chosen, saw, np.array([6, 1]))
    assert (both.k.tolist(), both.n.tolist(), both.basis) == ([6, 1], [8, 7], "volunteers")
    assert from_totals(views, chosen, saw, np.array([6, 1]), "views").n.tolist() == [20, 10]
    with pytest.raises(ValueError, match=r"does not count by volunteers who chose .* not mixed; count by views"):
        from_totals(views, chosen, saw, basis="volunteers")
    with pytest.raises(ValueError, match="does not count by views who saw"):
        from_totals(None, chosen, saw)
    with pytest.raises(ValueError, match=r"1 of 2 rows were chosen more often than seen .* by views"):
        from_totals(saw, chosen)


@pytest.fixture(scope="module")
def study(shared_data: Path) -> np.ndarray:
    """The study's table: subject_id, count, selected_count, unique_user_count."""
    path = shared_data / "weird_wonderful" / "latest_consensus_aggregation_table.dat"
    return np.loadtxt(path, np.int64, skiprows=1)


def test_the_studys_table_counts_by_views(study: np.ndarray) -> None:
    views, chosen, unique = study[:, 1:].T
    assert len(study) == 207_589 and int((chosen > unique).sum()) == 446
    with pytest.raises(ValueError, match="does not count by volunteers who chose"):
        from_totals(views, chosen, unique, basis="volunteers")
    with pytest.raises(ValueError, match="446 of 207589 rows were chosen more often than seen"):
        from_totals(unique, chosen)
    totals = from_totals(views, chosen, unique)
    assert totals.basis == "views" and (totals.n.sum(), totals.k.sum()) == (4_055_680, 387_518)
    fraction = totals.k / totals.n
    quantiles = np.quantile(fraction, [0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
    np.testing.assert_allclose(quantiles, [0.05, 0.125, 0.267, 0.387, 0.60, 0.818], atol=6e-4)
    above = [(fraction > cut).mean() for cut in np.arange(1, 8) / 10]
    np.testing.assert_allclose(above, [0.291, 0.142, 0.081, 0.045, 0.0213, 0.0095, 0.0036], atol=6e-4)
    assert (fraction == 0).mean() == pytest.approx(0.415, abs=6e-4)
    low, high = interval(totals.k, totals.n)
    assert ((low <= fraction) & (fraction <= high)).all()
    assert totals.n.min() == 10 and (high - low).max() == pytest.approx(1 - 2 * beta.ppf(0.025, 5.5, 5.5))


# ------------------------------------------------------------------------------------------------------- most of them
def test_ties_are_told_and_count_by_chance() -> None:
    n_chosen = np.array([[3, 1, 0], [2, 0, 2], [0, 0, 0], [1, 1, 1]])
    made = plurality(n_chosen)
    assert made.answer.tolist() == [0, 0, -1, 0]
    assert made.n_tied.tolist() == [1, 2, 0, 3] and made.n_votes.tolist() == [3, 2, 0, 1]
    assert agreement(n_chosen, np.array([0, 2, 1, 1])).tolist() == [1, 0.5, 0, pytest.approx(1 / 3)]
    assert agreement(n_chosen, np.array([1, 1, 0, 2])).tolist() == [0, 0, 0, pytest.approx(1 / 3)]
    assert plurality(np.zeros((2, 0), np.int64)).answer.tolist() == [-1, -1]


def real_crowd(folder: Path) -> tuple[Votes, np.ndarray]:
    """Votes and gold label of one of the crowds of `crowd_gold`."""
    with (folder / "label.csv").open() as handle:
        rows = [(row["item"], row["worker"], int(row["label"])) for row in csv.DictReader(handle)]
    with (folder / "truth.csv").open() as handle:
        truth = {row["item"]: int(row["truth"]) for row in csv.DictReader(handle)}
    items, workers = list(truth), list({row[1]: None for row in rows})
    item_code, worker_code = ({name: i for i, name in enumerate(names)} for names in (items, workers))
    coded_rows = [(item_code[item], worker_code[worker], i, label) for i, (item, worker, label) in enumerate(rows)]
    labels = tuple(str(i) for i in range(1 + max(row[2] for row in rows)))
    return coded(coded_rows, len(items), len(workers), labels), np.array([truth[item] for item in items])


@pytest.mark.parametrize(
    ("name", "n", "n_tied", "expected", "reference"),
    [
        # subjects, subjects with a tie, and right with ties by chance; data/README.md, which broke ties in some way
        ("bluebird", 108, 0, 0.7593, 0.759),
        ("dog", 807, 50, 0.8222, 0.815),
        ("rte", 800, 65, 0.8969, 0.907),
        ("s4_Face_Sentiment_Identification", 584, 28, 0.6367, 0.635),
        ("CF", 300, 27, 0.8822, None),
        ("CF_amt", 300, 8, 0.8533, None),
    ],
)
def test_most_of_real_crowds_against_gold(
    shared_data: Path, name: str, n: int, n_tied: int, expected: float, reference: float | None
) -> None:
    votes, truth = real_crowd(shared_data / "crowd_gold" / name)
    k, seen = count(votes).of("volunteers")
    right = agreement(k, truth)
    assert (len(right), seen.min() > 0) == (n, True)
    assert int((plurality(k).n_tied > 1).sum()) == n_tied
    assert right.mean() == pytest.approx(expected, abs=5e-5)
    if reference is not None:  # ties all lost, or all won
        assert (right == 1).mean() - 5e-4 <= reference <= (right > 0).mean() + 5e-4
        assert reference == pytest.approx(expected, abs=0.0105)
    divided = entropy(k)
    assert divided[right == 1].mean() < divided[right == 0].mean()  # who is wrong was less sure


def test_the_second_label_of_a_volunteer_is_left_out_of_a_real_crowd(shared_data: Path) -> None:
    votes, _ = real_crowd(shared_data / "crowd_gold" / "CF_amt")
    counts = count(votes)
    assert int((counts.n_views - counts.n_volunteers).sum()) == 5
    pairs = sorted(zip(votes.subject.tolist(), votes.volunteer.tolist(), strict=True))
    assert counts.n_volunteers.sum() == sum(1 for _ in groupby(pairs))
