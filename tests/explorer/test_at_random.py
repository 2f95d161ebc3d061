"""The chosen fraction of the survey from cells drawn at random, where the others are what a run asked for."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.ledger import Ledger
from explorer.services.at_random import interval, of_survey
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


def test_the_interval_is_wilsons_where_volunteers_are_alike_and_wider_where_they_are_not() -> None:
    alike = interval(np.array([5, 5, 5, 5]), np.array([10, 10, 10, 10]))
    assert alike == pytest.approx([float(bound) for bound in wilson(20, 40)])
    apart = interval(np.array([10, 10, 0, 0]), np.array([10, 10, 10, 10]))
    # Σ (k − n/2)² = 100, times 4/3, over 40²: 13.3 times the variance of single votes
    assert apart == pytest.approx([float(bound) for bound in wilson(1.5, 3.0)])
    assert interval(np.array([0]), np.array([10])) == pytest.approx([float(bound) for bound in wilson(0, 10)])
