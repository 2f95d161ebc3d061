"""Simulated volunteers: the rates that were asked for come out, and everything follows from the seed."""

from dataclasses import replace

import numpy as np
import pytest

from models.simulate import Crowd, Simulated, people, votes

EVEN = Crowd(n_volunteers=200, concentration=1e6, stamina=1e9)  # all alike, never tired


def rate(said: Simulated, of: np.ndarray) -> tuple[float, float]:
    """Share of "chosen" among the votes `of`, and five standard deviations of it."""
    k, n = said.chosen[of].sum(), of.sum()
    return k / n, 5 * np.sqrt(k / n * (1 - k / n) / n)


def test_each_subject_is_seen_by_that_many_different_volunteers() -> None:
    said = votes(np.arange(300) < 30, 12, seed=1)
    assert len(said.subject) == 300 * 12
    assert (np.bincount(said.subject, minlength=300) == 12).all()
    pairs = said.subject.astype(np.int64) * 60 + said.volunteer
    assert len(np.unique(pairs)) == len(pairs)


def test_the_same_seed_gives_the_same_votes_and_another_one_does_not() -> None:
    worth = np.arange(100) % 7 == 0
    one, same, other = votes(worth, 8, seed=4), votes(worth, 8, seed=4), votes(worth, 8, seed=5)
    for name in ("subject", "volunteer", "classification", "chosen", "at_s", "seconds", "position"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_volunteers_choose_as_often_as_their_skill_says() -> None:
    worth = np.arange(4000) % 4 == 0
    said = votes(worth, 20, seed=2, crowd=EVEN)
    is_worth = worth[said.subject]
    assert rate(said, is_worth)[0] == pytest.approx(EVEN.p_chosen, abs=rate(said, is_worth)[1])
    assert 1 - rate(said, ~is_worth)[0] == pytest.approx(EVEN.p_passed, abs=rate(said, ~is_worth)[1])


def test_a_class_that_is_hard_to_see_is_chosen_less_and_at_zero_like_the_rest() -> None:
    worth = np.ones(6000, bool)
    visibility = np.repeat([1.0, 0.5, 0.0], 2000)
    said = votes(worth, 20, seed=3, visibility=visibility, crowd=EVEN)
    for k, expected in enumerate([0.75, 0.1 + 0.65 * 0.5, 0.1]):
        found, within = rate(said, said.subject // 2000 == k)
        assert found == pytest.approx(expected, abs=within)


def test_skill_falls_over_a_session_and_never_below_none() -> None:
    crowd = replace(EVEN, stamina=30.0, session=300.0)
    worth = np.arange(20_000) % 2 == 0
    said = votes(worth, 20, seed=6, crowd=crowd)
    is_worth = worth[said.subject]
    fresh, tired = said.position < 5, said.position > 300
    assert rate(said, is_worth & fresh)[0] > 0.65
    found, within = rate(said, is_worth & tired)
    assert 0.1 - within < found < 0.25  # τ is drawn: the toughest still see a little
    found, within = rate(said, ~is_worth & tired)
    assert found == pytest.approx(0.1, abs=within)
    by_position = [rate(said, is_worth & (said.position // 30 == k))[0] for k in range(4)]
    assert by_position == sorted(by_position, reverse=True)


def test_few_volunteers_do_most_of_the_work() -> None:
    said = votes(np.zeros(5000, bool), 10, seed=7, crowd=Crowd(n_volunteers=1000, activity_sigma=2.0))
    n = np.sort(np.bincount(said.volunteer, minlength=1000))[::-1]
    assert n[:100].sum() > 0.5 * n.sum()
    even = votes(np.zeros(5000, bool), 10, seed=7, crowd=Crowd(n_volunteers=1000, activity_sigma=0))
    assert np.sort(np.bincount(even.volunteer, minlength=1000))[::-1][:100].sum() < 0.15 * n.sum()


def test_views_fall_to_volunteers_as_if_each_was_drawn_one_by_one() -> None:
    crowd = Crowd(n_volunteers=4, activity_sigma=1.0)
    n = 40_000
    said = votes(np.zeros(n, bool), 2, seed=8, crowd=crowd)
    a = said.people.activity
    # P(i among the first two) = aᵢ + Σⱼ≠ᵢ aⱼ aᵢ / (1 − aⱼ)
    expected = [a[i] + sum(a[j] * a[i] / (1 - a[j]) for j in range(4) if j != i) for i in range(4)]
    assert np.bincount(said.volunteer, minlength=4) / n == pytest.approx(expected, abs=0.012)


def test_votes_are_in_order_of_time_and_a_grid_is_one_volunteer_s() -> None:
    crowd = Crowd(grid=9)
    said = votes(np.arange(2000) < 100, 10, seed=9, crowd=crowd)
    assert (np.diff(said.at_s) >= 0).all()
    assert said.at_s.min() > 0
    assert said.at_s.max() < (crowd.days + 1) * 86_400
    assert set(np.diff(said.classification).tolist()) == {0, 1}
    sizes = np.bincount(said.classification)
    assert sizes.max() == 9
    same = np.diff(said.classification) == 0
    for column in (said.volunteer, said.at_s, said.seconds):
        assert (np.diff(column)[same] == 0).all()
    assert (said.seconds > 0).all()


def test_a_volunteer_s_session_runs_from_zero_without_a_gap() -> None:
    said = votes(np.arange(3000) < 100, 10, seed=10)
    for who in range(60):
        mine = said.volunteer == who
        length = int(said.people.session[who])
        expected = np.sort(np.arange(mine.sum()) % length)
        assert np.array_equal(np.sort(said.position[mine]), expected)


def test_people_are_scattered_around_the_means() -> None:
    crew = people(Crowd(n_volunteers=20_000), np.random.default_rng(0))
    assert crew.p_chosen.mean() == pytest.approx(0.75, abs=0.005)
    assert crew.p_passed.mean() == pytest.approx(0.9, abs=0.005)
    assert crew.p_chosen.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 13), rel=0.03)
    assert np.median(crew.stamina) == pytest.approx(200, rel=0.03)
    assert crew.activity.sum() == pytest.approx(1)


def test_what_cannot_be_simulated_is_refused() -> None:
    worth = np.ones(10, bool)
    with pytest.raises(ValueError, match="31 views of each subject by different volunteers need 2 volunteers or more"):
        votes(worth, 31, seed=0)
    with pytest.raises(ValueError, match="there is no subject to look at"):
        votes(worth[:0], 1, seed=0)
    for visibility in (np.full(10, 1.1), np.full(10, np.nan), np.ones(9)):
        with pytest.raises(ValueError, match="visibility must be a number between 0 and 1 for each subject"):
            votes(worth, 1, seed=0, visibility=visibility)
    with pytest.raises(ValueError, match=r"p_chosen is 1\.0; it must lie between 0 and 1"):
        Crowd(p_chosen=1.0)
    with pytest.raises(ValueError, match="stamina is 0; it must be above 0"):
        Crowd(stamina=0)
    with pytest.raises(ValueError, match="activity_sigma is -1; it must not be below 0"):
        Crowd(activity_sigma=-1)
