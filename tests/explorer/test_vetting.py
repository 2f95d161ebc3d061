"""Votes of experts: blind queues, votes with their history, undo, and what they amount to."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.errors import AccessError, UsageError
from explorer.ledger import Ledger
from explorer.services.campaigns import Campaign, Plan
from explorer.services.vetting import Vetting
from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.vetted import vetting_of, write_graded

ABCX = SCHEMES["abcx"]


@pytest.fixture
def vetting(tmp_path: Path) -> Iterator[Vetting]:
    survey = Survey.open(write_graded(tmp_path / "survey", 200))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield vetting_of(survey, ledger)
    survey.close()


def made(vetting: Vetting, n: int = 30, **told: object) -> Campaign:
    plan = Plan("Odd ones", ABCX, **{"repeats": 0.0, **told})  # type: ignore[arg-type]
    return vetting.campaigns.make(plan, np.arange(n), {"region": "the first"}, "grader-0")


def test_a_grader_votes_through_their_own_queue_and_everything_is_told(vetting: Vetting):
    one = made(vetting, graders=2, repeats=0.1)
    queue = vetting.queue(one.id, "grader-1")
    items = list(queue)
    assert len(items) == len(queue) == 28 + 3  # 7 is withdrawn, 8 planted
    assert sorted(i.row for i in items if i.role == "subject") == one.rows.tolist()
    assert len({i.key for i in items}) == 31
    other = list(vetting.queue(one.id, "grader-2"))
    assert [i.row for i in other] != [i.row for i in items]
    entry = vetting.vote(one.id, "grader-1", items[0].key, "A", interesting=True, seconds=100)
    assert entry.payload["seconds"] == 60 and entry.payload["seconds_raw"] == 100
    assert vetting.state(one.id, "grader-1", items[0].key)["grade"] == "A"
    with pytest.raises(AccessError):
        vetting.vote(one.id, "grader-2", items[0].key, "A", seconds=1)
    standing = vetting.standing(one.id, "grader-1")
    assert standing == {"n_done": 1, "n_all": 31, "n_kept": 0, "seconds": 60, "at": items[0].key}
    mate = next(i for i in other if i.row == items[0].row and i.role == "subject")
    vetting.vote(one.id, "grader-2", mate.key, "X", seconds=1)
    rows, graders, values = vetting.matrix(one.id)
    assert rows.tolist() == [items[0].row] and graders == ["grader-1", "grader-2"] and values.tolist() == [[3, 0]]
    assert items[0].row not in [i.row for i in vetting.queue(one.id, "grader-3")]  # it has its graders
    told = vetting.outcomes(one.id)
    assert told["is_disputed"].tolist() == [True] and told["value"].tolist() == [1.5]
    assert vetting.undo(one.id, "grader-1") == {"keys": [items[0].key], "what": "took back the grade A"}
    assert vetting.standing(one.id, "grader-1")["n_done"] == 0
    assert vetting.redo(one.id, "grader-1")["keys"] == [items[0].key]
    with pytest.raises(UsageError, match="nothing of yours to bring back"):
        vetting.redo(one.id, "grader-1")
    again = vetting_of(vetting.survey, vetting.ledger)
    assert list(again.queue(one.id, "grader-1")) == items
    assert again.standing(one.id, "grader-1") == standing
