"""Campaigns: of whom they are, what is mixed in and drawn beside, and what of it the ledger has."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.ledger import Ledger
from explorer.services.campaigns import Campaigns, Plan
from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.vetted import campaigns_of, write_graded

ABCX = SCHEMES["abcx"]


@pytest.fixture
def campaigns(tmp_path: Path) -> Iterator[Campaigns]:
    survey = Survey.open(write_graded(tmp_path / "survey", 200))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield campaigns_of(survey, ledger)
    survey.close()


def test_a_campaign_of_a_selection_has_its_subjects_of_the_frame_and_stays_as_it_was(campaigns: Campaigns):
    ids = campaigns.survey.subject_ids
    campaigns.ledger.save_selection("odd", np.arange(40), ids, who="grader-1")
    made = campaigns.of_selection(Plan("Odd ones", ABCX), "odd", "grader-1")
    assert made.rows.tolist() == [r for r in range(40) if r not in (7, 8)]
    assert made.source["selection"] == "odd" and made.source["n_source"] == 38 and made.source["inclusion"] == 1
    campaigns.ledger.save_selection("odd", np.arange(50, 60), ids, who="grader-1")
    assert campaigns.get("Odd ones") is campaigns.get(made.id)
    assert campaigns.get(made.id).rows.tolist() == made.rows.tolist()
    again = campaigns_of(campaigns.survey, campaigns.ledger).get(made.id)
    assert again.plan == made.plan and again.rows.tolist() == made.rows.tolist() and dict(again.source) == made.source
