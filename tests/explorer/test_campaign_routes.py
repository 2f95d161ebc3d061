"""The routes of the sheet of campaigns, asked of the real server: who may what, and what is told to whom."""

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from explorer.ledger import Ledger
from explorer.services.campaigns import Plan
from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.logging_in import Answer, Visitor, ask, log_in, with_accounts
from tests.explorer.vetted import vetting_of, write_graded
from tests.ui.serving import serve

PARTS = ("", "/agreement", "/adjudication", "/left")
CHANGES = ("make", "quick", "close", "adjudicate", "outcome")


class Place:
    def __init__(self, url: str, campaign: str) -> None:
        self.url, self.campaign = url, campaign
        self.people: dict[str, Visitor] = {
            name: log_in(url, name) for name in ("owner-1", "grader-1", "grader-2", "viewer-1")
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A survey with accounts, and a blind campaign that grader-2 has gone through."""
    folder, before = tmp_path_factory.mktemp("campaigns"), os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(folder / "config")
    try:
        path = write_graded(folder / "survey")
        with_accounts(path)
        survey = Survey.open(path)
        with Ledger(path, survey.info.survey_id) as ledger:
            ledger.save_selection("odd", np.arange(20, 40), survey.subject_ids, who="owner-1")
            vetting = vetting_of(survey, ledger)
            plan = Plan("Rings", SCHEMES["abcx"], graders=2, repeats=0.0)
            one = vetting.campaigns.of_selection(plan, "odd", "owner-1")
            grades = {item.key: "A" for item in vetting.queue(one.id, "grader-2")}
            vetting.bulk(one.id, "grader-2", grades, seconds=60.0)
        survey.close()
        with serve(path, folder / "log") as url:
            yield Place(url, one.id)
    finally:
        os.environ["VOORWERP_CONFIG"] = before


def told(answer: Answer, status: int = 200) -> Any:
    assert answer[0] == status, answer[2]
    return json.loads(answer[2])


def change(who: Visitor, what: str, **sent: Any) -> Answer:
    return who.post(f"/campaigns/{what}", json.dumps({"client_id": str(uuid.uuid4()), **sent}))


PLAN = {"name": "Arcs", "scheme": "yes-no", "graders": 1}
SCREEN = {"run": "", "map": "", "lambda": 0.2, "lambda_mode": "raw"}


def test_nobody_comes_in_without_a_login(place: Place) -> None:
    for path in ("/campaigns", "/campaigns/source?kept=odd", *(f"/campaigns/{place.campaign}{p}" for p in PARTS)):
        assert ask(place.url, path)[0] == 401, path
    for what in CHANGES:
        assert ask(place.url, f"/campaigns/{what}", "{}")[0] in (401, 403), what


def test_a_viewer_changes_nothing_and_a_grader_makes_nothing(place: Place) -> None:
    viewer, grader = place.people["viewer-1"], place.people["grader-1"]
    for what in CHANGES:
        assert change(viewer, what)[0] == 403, what
    for what in ("make", "quick", "close"):
        assert change(grader, what, id=place.campaign, plan=PLAN, source={"kept": "odd"}, **SCREEN)[0] == 403, what
    assert "Rings" in [c["name"] for c in told(viewer.get("/campaigns"))["campaigns"]]
    assert told(viewer.get("/campaigns"))["person"] == {"name": "viewer-1", "may_make": False, "may_vote": False}


def test_a_change_needs_our_own_page(place: Place) -> None:
    owner = place.people["owner-1"]
    sent = json.dumps({"plan": PLAN, "source": {"kept": "odd"}, **SCREEN})
    assert owner.post("/campaigns/make", sent, **{"X-Voorwerp-Token": "guessed"})[0] == 403
    assert owner.post("/campaigns/make", sent, Origin="http://elsewhere.example")[0] == 403
    assert owner.get("/campaigns/make")[0] in (403, 405)


def test_what_is_blind_is_in_no_answer_before_ones_own_grades(place: Place) -> None:
    grader = place.people["grader-1"]
    for part in PARTS:
        answer = grader.get(f"/campaigns/{place.campaign}{part}")
        found = told(answer)
        assert found["hidden"], part
        for told_of in ("grades", "found", "subjects", "alpha", "estimate"):
            assert told_of not in found, (part, told_of)
        assert not found.get("items")
        assert not found.get("curve")
    assert change(grader, "adjudicate", id=place.campaign, row=20, grade="A")[0] == 403
    assert told(place.people["grader-2"].get(f"/campaigns/{place.campaign}"))["found"]["k"] == 20  # is through
    assert told(place.people["owner-1"].get(f"/campaigns/{place.campaign}"))["found"]["k"] == 20


def test_an_owner_makes_one_and_what_cannot_be_is_one_sentence(place: Place) -> None:
    owner = place.people["owner-1"]
    made = told(change(owner, "make", plan=PLAN, source={"kept": "odd"}, n=5, **SCREEN))
    assert told(owner.get(f"/campaigns/{made['id']}"))["name"] == "Arcs"
    again = told(change(owner, "make", plan=PLAN, source={"kept": "odd"}, **SCREEN), 400)
    assert "there is a campaign" in again["error"]
    for sent in ({"plan": PLAN}, {"plan": {**PLAN, "name": "B", "graders": 0}, "source": {"kept": "odd"}}):
        assert told(change(owner, "make", **sent, **SCREEN), 400)["error"]
    assert change(owner, "make", plan=PLAN, source={"kept": "odd"}, **SCREEN | {"run": "none"})[0] == 404
    assert owner.post("/campaigns/make", "[]")[0] == 400
    assert owner.post("/campaigns/make", "{")[0] == 400
    assert owner.get("/campaigns/000000000000")[0] == 400
    assert told(change(owner, "close", id=made["id"], open=False))["is_open"] is False


def test_a_grader_who_is_through_decides_and_keeps_later_outcomes(place: Place) -> None:
    grader = place.people["grader-2"]
    decided = told(change(grader, "adjudicate", id=place.campaign, row=21, grade="X", seconds=2.5))
    assert decided["adjudicated"] == {"grade": "X", "who": "grader-2"}
    assert told(change(grader, "adjudicate", id=place.campaign, undo=True))["adjudicated"] is None
    kept = told(change(grader, "outcome", rows=[22], outcome="confirmed", source="a spectrum"))
    assert kept["n"] == 1
    assert change(place.people["grader-1"], "outcome", undo=kept["entries"])[0] != 200  # another's
    assert told(change(grader, "outcome", undo=kept["entries"]))["n"] == 1
