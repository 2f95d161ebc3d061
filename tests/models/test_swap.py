"""SWAP: against a slow version written from the equations, closed forms, what must not matter, and real crowds."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.swap import PRESETS, Settings, Swap, information, offline, skill, swap, thresholds
from tests.known_answers import SETTINGS, by_offline, by_swap, compared, majority, read_crowd

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, int, int, np.ndarray]


# --------------------------------------------------------------------------------------------------- slow versions
def mutual_information(yes: float, no: float, p: float = 0.5) -> float:
    """Of vote and truth, from the four probabilities of both."""
    joint = {(1, 1): p * yes, (1, 0): p * (1 - yes), (0, 1): (1 - p) * (1 - no), (0, 0): (1 - p) * no}
    truth = {1: p, 0: 1 - p}
    vote = {c: joint[1, c] + joint[0, c] for c in (0, 1)}
    return sum(j * math.log2(j / (truth[t] * vote[c])) for (t, c), j in joint.items() if j > 0)


def beyond(p: float, s: Settings) -> int:
    """1 above `detect`, −1 below `reject`; a rounding error is no step across."""
    if p > s.detect and not math.isclose(p, s.detect, rel_tol=1e-8):
        return 1
    if p < s.reject and not math.isclose(p, s.reject, rel_tol=1e-8):
        return -1
    return 0


class Agent:
    """One volunteer, as Space Warps' agents hold one."""

    def __init__(self, s: Settings) -> None:
        self.p, self.n = {1: s.p_initial, 0: s.p_initial}, {1: 2.0 + s.skepticism, 0: 2.0 + s.skepticism}
        self.clip, self.contribution = s.clip, 0.0

    def says(self, chosen: bool, truth: int, matrix: dict[int, float]) -> float:
        """Pr(what was said | truth)."""
        return matrix[truth] if chosen == bool(truth) else 1 - matrix[truth]

    def drawn(self, random: np.random.Generator) -> dict[int, float]:
        """A matrix as it might be."""
        found = {}
        for truth in (1, 0):
            n = int(self.n[truth])
            found[truth] = min(max(random.binomial(n, self.p[truth]) / n, self.clip), 1 - self.clip)
        return found

    def learn(self, chosen: bool, q: float) -> None:
        for truth, share in ((1, q), (0, 1 - q)):
            if share > 0:
                right = share if chosen == bool(truth) else 0.0
                found = (self.p[truth] * self.n[truth] + right) / (self.n[truth] + share)
                self.p[truth] = min(max(found, self.clip), 1 - self.clip)
                self.n[truth] += share


def swap_slow(votes: Columns, s: Settings) -> Swap:
    """The same as `swap`, one vote and one equation at a time, with probabilities instead of odds."""
    subject, volunteer, said, n_subjects, n_volunteers, gold = votes
    detect, reject = s.detect, s.reject
    if s.errors is not None:
        first = swap_slow(votes, replace(s, errors=None, detect=1.0, reject=0.0)).probability
        reject, detect = thresholds_slow(first, gold, s.prior, *s.errors)
        return swap_slow(votes, replace(s, errors=None, detect=detect, reject=reject))
    if s.mode == "unsupervised":
        gold = np.full(n_subjects, -1)
    agents = [Agent(s) for _ in range(n_volunteers)]
    random = np.random.default_rng(s.seed)
    for learning in [True, False] if s.rescore else [True]:
        p = [[s.prior] * max(1, s.trajectories) for _ in range(n_subjects)]
        state, seen, crossed = [0] * n_subjects, [0] * n_subjects, [0] * n_subjects
        used = []
        for agent in agents:
            agent.contribution = 0.0
        for i, v, chosen in zip(subject.tolist(), volunteer.tolist(), said.tolist(), strict=True):
            agent = agents[v]
            used.append(not (s.hasty and state[i]))
            if used[-1]:
                seen[i] += 1
                for t in range(len(p[i])):
                    matrix = agent.drawn(random) if s.trajectories else agent.p
                    real, dud = p[i][t] * agent.says(chosen, 1, matrix), (1 - p[i][t]) * agent.says(chosen, 0, matrix)
                    p[i][t] = max(real / (real + dud), s.p_min)
                now = beyond(math.prod(p[i]) ** (1 / len(p[i])), s)
                if now != state[i]:
                    state[i], crossed[i] = now, seen[i]
                if gold[i] < 0:
                    agent.contribution += mutual_information(agent.p[1], agent.p[0])
            if learning and gold[i] >= 0:
                agent.learn(chosen, float(gold[i]))
            elif learning and s.mode != "supervised" and used[-1]:
                agent.learn(chosen, math.prod(p[i]) ** (1 / len(p[i])))
    stays_away = {"rejected": (-1,), "both": (-1, 1)}[s.retires]
    retired = [at if x in stays_away and g < 0 else -1 for at, x, g in zip(crossed, state, gold, strict=True)]
    yes, no = np.array([a.p[1] for a in agents]), np.array([a.p[0] for a in agents])
    return Swap(
        probability=np.array([math.prod(x) ** (1 / len(x)) for x in p]),
        state=np.array(state),
        retired_after=np.array(retired),
        p_chosen=yes,
        p_passed=no,
        n_seen=np.array([(volunteer == v).sum() for v in range(n_volunteers)]),
        n_training=np.array([((volunteer == v) & (gold[subject] >= 0)).sum() for v in range(n_volunteers)]),
        skill=np.array([mutual_information(a, b) for a, b in zip(yes, no, strict=True)]),
        contribution=np.array([a.contribution for a in agents]),
        used=np.array(used, bool),
        detect=s.detect,
        reject=s.reject,
    )


def thresholds_slow(p: np.ndarray, gold: np.ndarray, prior: float, false: float, missed: float) -> tuple[float, float]:
    """Every candidate in turn."""
    duds, real = sorted(p[gold == 0]), sorted(p[gold == 1])
    detect = min(t for t in duds if sum(x > t for x in duds) / len(duds) < false)
    reject = max(t for t in real if sum(x < t for x in real) / len(real) < missed)
    return min(reject, prior), max(detect, prior)


def offline_slow(votes: Columns, s: Settings, a: float, start: float, expectation: str, rounds: int) -> Swap:
    """Expectation and maximization, a fixed number of times."""
    subject, volunteer, said, n_subjects, n_volunteers, gold = votes
    p = [s.prior] * n_subjects
    yes, no = [start] * n_volunteers, [start] * n_volunteers
    for _ in range(rounds):
        found = []
        for i in range(n_subjects):
            singles, running = [], s.prior
            for v, c in zip(volunteer[subject == i], said[subject == i], strict=True):
                real, dud = (yes[v], 1 - no[v]) if c else (1 - yes[v], no[v])
                singles.append(p[i] * real / (p[i] * real + (1 - p[i]) * dud))
                running = running * real / (running * real + (1 - running) * dud)
            found.append(running if expectation == "product" else sum(singles) / len(singles) if singles else p[i])
        p = found
        q = [x if s.mode == "unsupervised" or g < 0 else float(g) for x, g in zip(p, gold, strict=True)]
        for v in range(n_volunteers):
            mine = [(q[i], c) for i, c in zip(subject[volunteer == v], said[volunteer == v], strict=True)]
            yes[v] = (a + sum(x for x, c in mine if c)) / (2 * a + sum(x for x, _ in mine))
            no[v] = (a + sum(1 - x for x, c in mine if not c)) / (2 * a + sum(1 - x for x, _ in mine))
    return p, yes, no


def agree(fast: Swap, slow: Swap) -> None:
    for field in dataclasses.fields(Swap):
        ours, theirs = getattr(fast, field.name), getattr(slow, field.name)
        exact = field.name in ("state", "retired_after", "n_seen", "n_training", "used")
        np.testing.assert_allclose(
            ours, theirs, rtol=0 if exact else 1e-7, atol=0 if exact else 1e-9, err_msg=field.name
        )


# -------------------------------------------------------------------------------------------------------- made votes
def crowd(seed: int, n_votes: int, n_subjects: int, n_volunteers: int) -> Columns:
    """Votes of volunteers of every skill, on subjects a third of which are known."""
    random = np.random.default_rng(seed)
    truth = random.random(n_subjects) < 0.4
    gold = np.where(random.random(n_subjects) < 0.35, truth, -1).astype(np.int8)
    gold[:2] = 0, 1
    truth[:2] = False, True
    able = random.uniform(0.3, 0.95, (n_volunteers, 2))
    subject, volunteer = random.integers(0, n_subjects, n_votes), random.integers(0, n_volunteers, n_votes)
    chance = np.where(truth[subject], able[volunteer, 0], 1 - able[volunteer, 1])
    return subject, volunteer, random.random(n_votes) < chance, n_subjects, n_volunteers, gold


@st.composite
def few_votes(draw: st.DrawFn) -> Columns:
    n_subjects, n_volunteers = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, n_subjects - 1), st.integers(0, n_volunteers - 1), st.booleans()), max_size=40
        )
    )
    subject, volunteer, said = np.array(rows, dtype=int).reshape(-1, 3).T
    gold = np.array(draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n_subjects, max_size=n_subjects)), np.int8)
    return subject, volunteer, said.astype(bool), n_subjects, n_volunteers, gold


some_settings = st.builds(
    Settings,
    prior=st.sampled_from([2e-4, 0.12, 0.5, 0.8]),
    p_initial=st.sampled_from([0.6, 0.75]),
    skepticism=st.sampled_from([0.0, 1.5, 2.0]),
    detect=st.sampled_from([0.9, 0.95, 1.0]),
    reject=st.sampled_from([0.0, 1e-4, 0.1]),
    hasty=st.booleans(),
    retires=st.sampled_from(["rejected", "both"]),
    p_min=st.sampled_from([0.0, 1e-5, 1e-3]),
    clip=st.sampled_from([0.0, 0.01, 0.2]),
    mode=st.sampled_from(["supervised", "unsupervised", "both"]),
    rescore=st.booleans(),
)


@settings(max_examples=100)
@given(few_votes(), some_settings)
def test_any_votes_and_settings_give_what_the_equations_give(votes: Columns, chosen: Settings) -> None:
    agree(swap(*votes, chosen), swap_slow(votes, chosen))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("mode", ["supervised", "both"])
def test_presets_give_what_the_equations_give(seed: int, preset: str, mode: str) -> None:
    votes = crowd(seed, 1500, 60, 12)
    chosen = replace(PRESETS[preset], mode=mode)
    fast, slow = swap(*votes, chosen), swap_slow(votes, chosen)
    agree(fast, slow)
    if preset in ("beck", "swap2"):
        assert (fast.state != 0).any() and not fast.used.all()  # the case has something to tell


@pytest.mark.parametrize("rescore", [False, True])
@pytest.mark.parametrize("mode", ["supervised", "both"])
def test_uncertain_trajectories_draw_as_the_equations_say(rescore: bool, mode: str) -> None:
    votes = crowd(5, 300, 20, 6)
    chosen = Settings(prior=0.3, detect=0.97, reject=0.02, trajectories=7, seed=11, rescore=rescore, mode=mode)
    fast = swap(*votes, chosen)
    agree(fast, swap_slow(votes, chosen))
    assert not np.array_equal(fast.probability, swap(*votes, replace(chosen, seed=12)).probability)
    assert not np.array_equal(fast.probability, swap(*votes, replace(chosen, trajectories=0)).probability)


@pytest.mark.parametrize("expectation", ["product", "average"])
@pytest.mark.parametrize("mode", ["supervised", "unsupervised"])
def test_offline_gives_what_the_equations_give(expectation: str, mode: str) -> None:
    votes = crowd(3, 400, 40, 9)
    chosen = Settings(prior=0.3, p_initial=0.75, detect=0.9, reject=0.05, mode=mode)
    for rounds in (1, 2, 6):
        options = {"a": 0.7, "start": 0.8, "expectation": expectation}
        found = offline(*votes, chosen, **options, max_iterations=rounds, tolerance=0)
        p, yes, no = offline_slow(votes, chosen, 0.7, 0.8, expectation, rounds)
        np.testing.assert_allclose(found.probability, p, rtol=1e-9)
        np.testing.assert_allclose(found.p_chosen, yes, rtol=1e-9)
        np.testing.assert_allclose(found.p_passed, no, rtol=1e-9)
    assert found.state.tolist() == [beyond(x, chosen) for x in p]
    assert set(found.state) == {-1, 0, 1} or expectation == "average"
    gold = votes[5] if mode == "supervised" else np.full(40, -1)
    taught = np.bincount(votes[1][gold[votes[0]] >= 0], minlength=9)
    assert found.n_training.tolist() == taught.tolist()
    np.testing.assert_allclose(found.contribution, skill(np.array(yes), np.array(no)) * (found.n_seen - taught))
    assert (found.retired_after == -1).all() and found.used.all()


def test_offline_stops_when_nothing_changes_and_needs_neither_order_nor_answers() -> None:
    subject, volunteer, said, *sizes, gold = crowd(8, 6000, 100, 20)
    nothing = np.full_like(gold, -1)
    chosen = Settings(prior=0.4, detect=0.9, reject=0.1)
    ours = offline(subject, volunteer, said, *sizes, nothing, chosen, tolerance=1e-10, max_iterations=1000)
    order = np.random.default_rng(0).permutation(said.size)
    again = offline(subject[order], volunteer[order], said[order], *sizes, nothing, chosen, tolerance=1e-10)
    np.testing.assert_allclose(ours.probability, again.probability, atol=1e-8)
    further = offline(subject, volunteer, said, *sizes, nothing, chosen, tolerance=0, max_iterations=1500)
    np.testing.assert_allclose(ours.probability, further.probability, atol=1e-6)
    assert ((ours.probability > 0.5) == (gold == 1))[gold >= 0].mean() > 0.9


# ------------------------------------------------------------------------------------------------------ closed forms
def test_skill_of_chance_and_of_certainty() -> None:
    rates = np.linspace(0, 1, 11)
    np.testing.assert_allclose(skill(rates, 1 - rates), 0, atol=1e-12)  # chooses at some rate, whatever is shown
    assert skill(np.array([1.0, 0.0]), np.array([1.0, 0.0])).tolist() == [1, 1]  # always right, and always wrong
    assert skill(np.array(0.99), np.array(0.99)) == pytest.approx(0.919, abs=5e-4)  # Space Warps' cap
    yes, no = np.random.default_rng(1).random((2, 50))
    for p in (0.5, 0.1):
        expected = [mutual_information(a, b, p) for a, b in zip(yes, no, strict=True)]
        np.testing.assert_allclose(skill(yes, no, p), expected, atol=1e-12)
    np.testing.assert_allclose(skill(yes, no), skill(no, yes))
    np.testing.assert_allclose(skill(yes, no), skill(1 - yes, 1 - no), atol=1e-12)


def test_information_of_a_vote() -> None:
    sure = (np.array(1.0), np.array(1.0))
    assert information(np.array(True), np.array(2e-4), *sure) == pytest.approx(12.3, abs=0.02)
    assert information(np.array(False), np.array(2e-4), *sure) == pytest.approx(0.0003, abs=5e-5)
    random = information(np.array([True, False]), np.array(0.3), np.array(0.4), np.array(0.6))
    np.testing.assert_allclose(random, 0, atol=1e-12)
    assert np.isnan(information(np.array(True), np.array(0.0), *sure))
    # what is expected of the next vote is the mean of what either vote would tell
    p, yes, no = np.random.default_rng(2).random((3, 20))
    chosen = p * yes + (1 - p) * (1 - no)
    expected = chosen * information(True, p, yes, no) + (1 - chosen) * information(False, p, yes, no)
    np.testing.assert_allclose(expected, [skill(a, b, x) for a, b, x in zip(yes, no, p, strict=True)], atol=1e-12)


def one_by_one(said: list[bool], gold: list[int], chosen: Settings) -> Swap:
    """One volunteer, one vote on each of so many subjects."""
    n = len(said)
    return swap(np.arange(n), np.zeros(n, int), np.array(said), n, 1, np.array(gold, np.int8), chosen)


def test_training_counts_right_answers_with_some_beforehand() -> None:
    said, gold = [True] * 7 + [False] * 3 + [True] * 4, [1] * 10 + [0] * 4
    learned = one_by_one(said, gold, Settings())
    assert learned.p_chosen == pytest.approx((2 + 7) / (4 + 10)) and learned.p_passed == pytest.approx(2 / (4 + 4))
    laplace = one_by_one(said, gold, replace(PRESETS["swap2"], errors=None))
    assert laplace.p_chosen == pytest.approx((1 + 7) / (2 + 10)) and laplace.p_passed == pytest.approx(1 / (2 + 4))
    assert (learned.n_seen, learned.n_training) == (14, 14) and learned.contribution == 0
    clipped = one_by_one([True] * 1000, [1] * 1000, Settings())
    assert clipped.p_chosen == 0.99 and clipped.p_passed == 0.5


def test_a_volunteer_learns_after_the_vote_and_contributes_with_the_skill_of_that_moment() -> None:
    # subjects: known, unknown, known, unknown; the first is moved by who is still unknown
    learned = one_by_one([True, True, False, True], [1, -1, 0, -1], Settings(prior=0.5))
    assert learned.probability[0] == 0.5
    assert learned.probability[1] == pytest.approx((3 / 5) / (3 / 5 + 1 / 2))
    assert learned.probability[3] == pytest.approx((3 / 5) / (3 / 5 + 2 / 5))
    expected = mutual_information(3 / 5, 1 / 2) + mutual_information(3 / 5, 3 / 5)
    assert learned.contribution == pytest.approx(expected) and learned.n_training == 2


def test_three_votes_of_the_best_detect_and_two_reject_in_space_warps() -> None:
    taught = [True] * 300 + [False] * 300
    for said, votes in ((True, 3), (False, 2)):
        subject = np.r_[np.arange(600), np.full(votes + 1, 600)]
        gold = np.r_[np.ones(300), np.zeros(300), -1].astype(np.int8)
        answers = np.array(taught + [said] * (votes + 1))
        found = swap(subject, np.zeros(subject.size, int), answers, 601, 1, gold)
        factor = 99.0 if said else 1 / 99
        odds = 2e-4 / (1 - 2e-4) * factor**votes
        assert found.probability[600] == pytest.approx(max(odds / (1 + odds), 2e-8))
        assert found.state[600] == (1 if said else -1)
        assert found.retired_after[600] == (-1 if said else 2)  # what is detected is kept live
        assert found.used[600:].tolist() == [True] * votes + [False]
        slower = swap(subject, np.zeros(subject.size, int), answers, 601, 1, gold, Settings(hasty=False))
        assert slower.used.all() and slower.state[600] == found.state[600]


# ------------------------------------------------------------------------------------------------ what must not matter
def test_who_is_unknown_moves_nothing() -> None:
    *votes, gold = crowd(1, 2000, 50, 20)
    for chosen in (Settings(prior=0.3, detect=0.31, reject=0.29), Settings(prior=0.3, rescore=True)):
        found = swap(*votes, np.full_like(gold, -1), chosen)
        np.testing.assert_allclose(found.probability, 0.3, rtol=1e-12)
        assert not found.state.any() and found.used.all() and not found.skill.any()


def test_no_volunteer_learns_from_what_another_did() -> None:
    *votes, gold = crowd(2, 500, 40, 8)
    before = swap(*votes, gold)
    subject, volunteer, said = votes[:3]
    mine = volunteer == 3
    alone = swap(subject[mine], np.zeros(mine.sum(), int), said[mine], 40, 1, gold)
    assert (alone.p_chosen[0], alone.p_passed[0]) == (before.p_chosen[3], before.p_passed[3])
    again = swap(*votes, gold)
    agree(before, again)  # nothing of a run is left behind in the settings
    kept = before.p_chosen.copy()
    again.p_chosen[:] = 0
    assert np.array_equal(before.p_chosen, kept) and swap(*votes, gold).p_chosen.tolist() == kept.tolist()


def test_calling_duds_real_and_passing_choosing_turns_everything_around() -> None:
    subject, volunteer, said, *sizes, gold = crowd(4, 800, 40, 9)
    chosen = Settings(prior=0.2, detect=0.95, reject=0.03, p_min=0, mode="both", retires="both")
    turned = replace(chosen, prior=0.8, detect=0.97, reject=0.05)
    ours = swap(subject, volunteer, said, *sizes, gold, chosen)
    theirs = swap(subject, volunteer, ~said, *sizes, np.where(gold < 0, -1, 1 - gold), turned)
    np.testing.assert_allclose(ours.probability, 1 - theirs.probability, atol=1e-12)
    assert ours.state.any() and np.array_equal(ours.state, -theirs.state)
    assert np.array_equal(ours.retired_after, theirs.retired_after)
    np.testing.assert_allclose(ours.p_chosen, theirs.p_passed)


def test_rescoring_needs_no_order() -> None:
    subject, volunteer, said, *sizes, gold = crowd(6, 900, 40, 9)
    chosen = replace(PRESETS["swap2"], errors=None, detect=1.0, reject=0.0)
    order = np.random.default_rng(0).permutation(said.size)
    ours = swap(subject, volunteer, said, *sizes, gold, chosen)
    theirs = swap(subject[order], volunteer[order], said[order], *sizes, gold, chosen)
    np.testing.assert_allclose(ours.probability, theirs.probability, atol=1e-12)
    np.testing.assert_allclose(ours.contribution, theirs.contribution)


def test_in_haste_what_comes_after_a_threshold_was_never_said() -> None:
    subject, volunteer, said, *sizes, gold = crowd(7, 1500, 40, 9)
    gold[::2] = -1
    gold[:2] = 0, 1
    chosen = Settings(prior=0.3, detect=0.9, reject=0.1, retires="both")
    hasty = swap(subject, volunteer, said, *sizes, gold, chosen)
    kept = hasty.used | (gold[subject] >= 0)  # what is known goes on teaching
    patient = swap(subject[kept], volunteer[kept], said[kept], *sizes, gold, replace(chosen, hasty=False))
    unknown = gold < 0
    np.testing.assert_allclose(hasty.probability[unknown], patient.probability[unknown])
    assert np.array_equal(hasty.state[unknown], patient.state[unknown]) and hasty.state[unknown].any()
    retired = hasty.retired_after >= 0
    votes_used = np.bincount(subject[hasty.used], minlength=40)
    assert np.array_equal(hasty.retired_after[retired], votes_used[retired]) and not retired[gold >= 0].any()


def test_without_haste_a_subject_may_come_back() -> None:
    # taught to .75 and .75, then: chosen, chosen (beyond .85), passed (back), passed, passed (below .15)
    subject = np.r_[np.arange(8), np.full(5, 8)]
    said = np.array([True] * 4 + [False] * 4 + [True, True, False, False, False])
    gold = np.array([1] * 4 + [0] * 4 + [-1], np.int8)
    chosen = Settings(prior=0.5, detect=0.85, reject=0.15, hasty=False, retires="both")
    for n, p, state, after in ((1, 0.75, 0, -1), (2, 0.9, 1, 2), (3, 0.75, 0, -1), (4, 0.5, 0, -1), (5, 0.25, 0, -1)):
        found = swap(subject[: 8 + n], np.zeros(8 + n, int), said[: 8 + n], 9, 1, gold, chosen)
        assert found.probability[8] == pytest.approx(p)
        assert (found.state[8], found.retired_after[8]) == (state, after)


def test_a_probability_that_only_reaches_a_threshold_has_not_crossed_it() -> None:
    subject, said = np.r_[np.arange(8), 8], np.array([True] * 4 + [False] * 4 + [True])
    gold = np.array([1] * 4 + [0] * 4 + [-1], np.int8)
    for detect, state in ((0.75, 0), (0.7499, 1)):
        found = swap(subject, np.zeros(9, int), said, 9, 1, gold, Settings(prior=0.5, detect=detect))
        assert found.state[8] == state


def test_nothing_is_lost_next_to_certainty() -> None:
    """200 votes for and 200 against are no votes: with probabilities instead of odds, 1 would be left."""
    taught, n = 400, 200
    subject = np.r_[np.arange(taught), np.full(2 * n, taught)]
    said = np.array([True] * 200 + [False] * 200 + [True] * n + [False] * n)
    gold = np.r_[np.ones(200), np.zeros(200), -1].astype(np.int8)
    chosen = Settings(prior=0.2, detect=1.0, reject=0.0, p_min=0)
    found = swap(subject, np.zeros(subject.size, int), said, taught + 1, 1, gold, chosen)
    assert found.probability[taught] == pytest.approx(0.2)
    half = swap(subject[:-n], np.zeros(subject.size - n, int), said[:-n], taught + 1, 1, gold, chosen)
    assert half.probability[taught] == 1


def test_no_votes_at_all() -> None:
    nothing = np.zeros(0, int)
    for made in (swap, offline):
        found = made(nothing, nothing, nothing.astype(bool), 3, 2, np.array([-1, 0, 1]))
        np.testing.assert_allclose(found.probability, 2e-4)
        assert not found.skill.any() or made is offline
        assert not found.state.any() and found.used.shape == (0,)
        assert made(nothing, nothing, nothing.astype(bool), 0, 0, nothing).probability.shape == (0,)


# --------------------------------------------------------------------------------------------------------- thresholds
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9, 1.0]), st.sampled_from([-1, 0, 1])), max_size=40),
    st.sampled_from([0.01, 0.1, 0.34, 1.0]),
    st.sampled_from([0.01, 0.1, 0.34, 1.0]),
)
@example([(0.0, 0)] * 9, 0.1, 0.01)
def test_thresholds_are_those_that_every_candidate_in_turn_gives(
    rows: list[tuple[float, int]], false: float, missed: float
) -> None:
    p, gold = np.array([*rows, (0.3, 0), (0.6, 1)]).T
    reject, detect = thresholds(p, gold, 0.12, false, missed)
    assert (reject, detect) == thresholds_slow(p, gold, 0.12, false, missed)
    assert reject <= 0.12 <= detect
    assert (p[gold == 0] > detect).mean() < false and (p[gold == 1] < reject).mean() < missed


def test_swap2_says_which_thresholds_it_found() -> None:
    votes = crowd(9, 4000, 100, 15)
    found = swap(*votes, PRESETS["swap2"])
    free = swap(*votes, replace(PRESETS["swap2"], errors=None, detect=1.0, reject=0.0))
    assert (found.reject, found.detect) == thresholds(free.probability, votes[5], 0.12)
    together = offline(*votes, PRESETS["swap2"])
    assert (together.reject, together.detect) == thresholds(together.probability, votes[5], 0.12)


# ---------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prior": 0.0}, "prior of SWAP lies between 0 and 1"),
        ({"p_initial": 1.0}, "p_initial of SWAP lies between"),
        ({"p_initial": 0.995}, "outside what clip leaves"),
        ({"detect": 0.1, "reject": 0.2}, "0 ≤ reject ≤ detect ≤ 1"),
        ({"p_min": 1.0}, "p_min of SWAP"),
        ({"clip": 0.5}, "clip of SWAP lies from 0"),
        ({"clip": 0.0, "trajectories": 5}, "above 0, with trajectories"),
        ({"skepticism": -1}, "not negative"),
        ({"mode": "supervized"}, 'not "supervized"'),
        ({"retires": "detected"}, 'not "detected"'),
        ({"errors": (0.0, 0.1)}, "shares of errors"),
        ({"mode": "unsupervised"}, "learns nothing from p_initial 0.5: set it above 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**change)


@pytest.mark.parametrize("made", [swap, offline])
def test_votes_that_fit_nothing_are_refused(made: Callable[..., Swap]) -> None:
    one, yes, gold = np.array([1]), np.array([True]), np.array([-1, 1])
    for arguments, words in [
        ((np.array([2]), one, yes, 2, 2, gold), "subject of SWAP's votes goes from 2 to 2; its codes go from 0 to 1"),
        ((one, np.array([-1]), yes, 2, 2, gold), "volunteer of SWAP's votes goes from -1"),
        ((np.array([1.0]), one, yes, 2, 2, gold), "subject of SWAP's votes holds float64"),
        ((one, one, np.array([1]), 2, 2, gold), "said of SWAP's votes holds int64"),
        ((one, np.array([0, 1]), yes, 2, 2, gold), "one per vote"),
        ((one, one, yes, 2, 2, np.array([-1])), "one of -1, 0 and 1 for each of 2 subjects"),
        ((one, one, yes, 2, 2, np.array([-1, 2])), "one of -1, 0 and 1 for each of 2 subjects"),
        ((one, one, yes, 2, 2, gold, PRESETS["swap2"]), "there are 1 and 0: set detect and reject"),
    ]:
        with pytest.raises(ValueError, match=words):
            made(*arguments)


def test_options_of_offline_out_of_range_are_refused() -> None:
    votes = crowd(0, 10, 4, 2)
    with pytest.raises(ValueError, match="a is above 0"):
        offline(*votes, a=0)
    with pytest.raises(ValueError, match='not "mean"'):
        offline(*votes, expectation="mean")


# ---------------------------------------------------------------------------------------------------------- real data
def test_space_warps_settings_are_those_of_its_own_file(shared_data: Path) -> None:
    lines = (shared_data / "spacewarps_stage1" / "CFHTLS_stage1.config").read_text().splitlines()
    written = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))
    preset = PRESETS["spacewarps"]
    assert preset == Settings() and preset.mode == "supervised" and written["supervised"] == "True"
    assert preset.hasty == (written["hasty"] == "True")
    for name, value in {
        "initialPL": preset.p_initial,
        "initialPD": preset.p_initial,
        "skepticism": preset.skepticism,
        "detection_threshold": preset.detect,
        "rejection_threshold": preset.reject,
    }.items():
        assert float(written[name]) == value


def test_no_real_candidate_is_surer_than_so_many_votes_can_make_it(shared_data: Path) -> None:
    """Space Warps' tables: probability and number of votes of 11,646 subjects, by the equations and settings here."""
    folder = shared_data / "spacewarps_stage1"
    names = ("candidate_catalog.txt", "sim_catalog.txt", "dud_catalog.txt")
    tables = {
        name: pd.read_csv(folder / name, sep=r"\s+", names=["id", "p", "n", "image"], comment="#") for name in names
    }
    assert [len(tables[name]) for name in names] == [6309, 5333, 5]
    preset = PRESETS["spacewarps"]
    best = (1 - preset.clip) / preset.clip
    for table in tables.values():
        odds = preset.prior / (1 - preset.prior) * best ** np.minimum(table["n"], 100)
        assert (table["p"] <= odds / (1 + odds) + 1e-7).all()
        detected = table[table["p"] > preset.detect]
        assert len(detected) and detected["n"].min() >= 3


@pytest.mark.parametrize(("name", "better", "least"), [("bluebird", 0.126, 0.04), ("rte", 0.029, 0.01)])
def test_taught_on_half_of_the_known_answers_it_beats_the_majority_on_the_other(
    shared_data: Path, name: str, better: float, least: float
) -> None:
    votes = read_crowd(shared_data / "crowd_gold" / name)
    ways = {
        "majority": majority,
        "in a random order": by_swap(SETTINGS),
        "rescored": by_swap(replace(SETTINGS, rescore=True)),
        "offline": by_offline(SETTINGS),
        "offline, no answers": by_offline(replace(SETTINGS, mode="unsupervised", p_initial=0.75)),
    }
    found = compared(votes, ways, "majority")
    assert found["rescored"].difference == pytest.approx(better, abs=5e-4)
    for way in found.keys() - {"majority"}:
        assert found[way].difference > least and found[way].low > 0, way
