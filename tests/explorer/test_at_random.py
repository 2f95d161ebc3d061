"""The chosen fraction of the survey from cells drawn at random, where the others are what a run asked for."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.ledger import Ledger
from explorer.services.at_random import mean_of_strata, of_all_open, of_survey
from explorer.services.classify import Classify, Settings, Visitor
from explorer.survey import Survey
from models.rates import wilson
from tests.explorer.small_survey import write_survey
from tests.explorer.test_next_up import NEW, write_run

N = 600


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    """One that a run asks for the last rows of."""
    path = write_survey(tmp_path / "survey", N, size=8)
    write_run(path, NEW, np.arange(float(N)))
    opened = Survey.open(path)
    yield opened
    opened.close()


def test_what_a_run_asks_for_is_chosen_more_and_the_estimate_is_of_the_survey(survey: Survey) -> None:
    """Volunteers choose row i with probability i / N, half on average; 20 of them retire the top after three views."""
    rng = np.random.default_rng(8)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        assert of_survey(survey, ledger) is None
        classify = Classify(survey, ledger, Settings(3, next_by="newest", least=0, random_share=0.3), seed=2)
        for k in range(20):
            visitor = Visitor(f"{k:016x}")
            for _ in range(3):
                grid = classify.grid(visitor)
                assert grid is not None
                chosen = np.flatnonzero(rng.random(len(grid.rows)) < grid.rows / N).tolist()
                told = {"grid": classify.seal(grid), "id": str(uuid.uuid4()), "chosen": chosen, "seconds": 1.0}
                classify.answer(visitor, told)
        naive = classify._tally.n_chosen.sum() / classify._tally.n_views.sum()
        found = of_survey(survey, ledger)
        classify.close()
    assert found is not None
    assert found.n_retired > 50 and found.n_open + found.n_retired == N and found.n_volunteers == 20
    assert naive > 0.58 > found.high > 0.5 > found.low > 0.42
    assert found.sentence().startswith("of all subjects our volunteers would choose ")
    assert f"{found.n_chosen:,} of {found.n:,} cells drawn at random for 20 volunteers, and" in found.sentence()


def test_what_a_few_volunteers_have_seen_already_is_not_left_out(tmp_path: Path) -> None:
    """They see the upper half by the run, so that what is drawn at random for them later is of the lower one."""
    path = write_survey(tmp_path / "few", 150, size=8)
    write_run(path, NEW, np.arange(150.0))
    rng, survey = np.random.default_rng(3), Survey.open(path)
    with Ledger(path, survey.info.survey_id) as ledger:
        classify = Classify(survey, ledger, Settings(20, next_by="newest", least=0, random_share=0.3), seed=2)
        for k in range(8):
            visitor = Visitor(f"{k:016x}")
            for _ in range(8):
                grid = classify.grid(visitor)
                assert grid is not None
                chosen = np.flatnonzero(rng.random(len(grid.rows)) < grid.rows / 150).tolist()
                told = {"grid": classify.seal(grid), "id": str(uuid.uuid4()), "chosen": chosen, "seconds": 1.0}
                classify.answer(visitor, told)
        found = of_survey(survey, ledger)
        classify.close()
    survey.close()
    assert found is not None and found.n_retired == 0
    assert found.n_chosen / found.n < found.low < 0.5 < found.high
    assert found.fraction == pytest.approx(0.5, abs=0.04)


def test_a_random_vote_stands_for_those_that_its_volunteer_had_not_seen() -> None:
    who, entry = np.array([1, 0, 0, 0, 1]), np.array([2, 3, 3, 9, 8])
    chose = np.array([1.0, 1, 0, 1, 0])
    # the last of 0 had said 1 and 0 of two, and now 1 for the other 8; that of 1 had said 1 of one, 0 for the other 9
    assert of_all_open(who, entry, chose, 10) == pytest.approx([1, 1, 0, (1 + 8) / 10, (1 + 0) / 10])


def test_open_ones_count_by_random_votes_and_retired_ones_by_their_own() -> None:
    who, chose = np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 0, 0, 0, 1, 0])
    known_by, rows, known = np.array([0, 1, 0, 1, 2]), np.array([5, 5, 9, 9, 9]), np.array([1.0, 1, 1, 0, 0])
    mean, low, high = mean_of_strata(who, chose, 8, known_by, rows, known)
    assert mean == pytest.approx((8 * 2 / 6 + 2 / 2 + 1 / 3) / 10)
    slow = []
    for one in range(3):  # without each volunteer
        a, b = who != one, known_by != one
        told = [known[b & (rows == row)].mean() for row in (5, 9)]
        slow.append((8 * chose[a].mean() + sum(told)) / 10)
    error = np.sqrt(2 / 3 * ((np.array(slow) - np.mean(slow)) ** 2).sum())
    half = 4.302652729911275 * error / (mean * (1 - mean))  # Student's t of 2
    odds = np.log(mean / (1 - mean))
    assert [low, high] == pytest.approx([1 / (1 + np.exp(half - odds)), 1 / (1 + np.exp(-half - odds))])


def test_nobody_chose_and_one_volunteer() -> None:
    none = np.empty(0, np.int64)
    low, high = (float(bound) for bound in wilson(0, 4))
    assert mean_of_strata(np.array([0, 0, 1, 1]), np.zeros(4), 9, none, none, none.astype(float)) == (0, low, high)
    assert mean_of_strata(np.zeros(2, int), np.array([1.0, 0]), 9, none, none, none.astype(float)) == (0.5, 0, 1)
