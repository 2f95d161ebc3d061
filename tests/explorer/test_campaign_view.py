"""The sheet of campaigns: what it says, to whom, and what it decides."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from explorer.errors import AccessError, UsageError, VoorwerpError
from explorer.people import LOCAL, Person
from explorer.services.boundaries import Context
from explorer.services.campaign_view import CampaignView, limit_words, positive_words
from explorer.services.campaigns import Campaign, Plan
from explorer.services.desk import Desk
from explorer.state import Draft, Selection
from models.boundary import Gate
from models.grades import SCHEMES
from models.rates import share
from tests.explorer.vetted import write_graded

#: Of whom every vote is known: the first ten are found by both, the next ten disputed, the others not.
GRADES = {"grader-1": "A" * 10 + "A" * 10 + "X" * 30, "grader-2": "B" * 10 + "X" * 10 + "X" * 30}
ROWS = np.arange(20, 70)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk.open(write_graded(tmp_path / "survey")) as desk:
        desk.ledger.save_selection("odd", ROWS, desk.explore.survey.subject_ids, who="local")
        yield desk


@pytest.fixture
def view(desk: Desk) -> CampaignView:
    return CampaignView(desk)


def campaign(desk: Desk, **more: Any) -> Campaign:
    """50 subjects for two graders, by the mean."""
    told: dict[str, Any] = {"name": "Rings", "scheme": SCHEMES["abcx"], "graders": 2, "repeats": 0.0} | more
    return desk.campaigns.of_selection(Plan(**told), "odd", "local")


def vote(desk: Desk, one: Campaign, who: str, most: int = 10**6) -> None:
    """What `GRADES` says, of the first `most` of a queue."""
    items = list(desk.vetting.queue(one.id, who))[:most]
    grades = {i.key: GRADES[who][i.row - ROWS[0]] if i.row in ROWS else "X" for i in items}
    desk.vetting.bulk(one.id, who, grades, seconds=4.0 * len(grades))


def of_all(desk: Desk) -> Campaign:
    """A campaign of which everybody has graded everything."""
    one = campaign(desk)
    for who in GRADES:
        vote(desk, one, who)
    return one


def client() -> str:
    return str(uuid.uuid4())


def test_purity_is_k_of_n_with_its_interval_and_every_number_opens_its_subjects(desk: Desk, view: CampaignView) -> None:
    one = of_all(desk)
    told = view.detail(one.id, LOCAL)
    found = share(10, 50)  # (3 + 2) / 2 reaches 2, (3 + 0) / 2 does not
    assert (told["found"]["k"], told["found"]["n"]) == (10, 50)
    assert (told["found"]["low"], told["found"]["high"]) == pytest.approx((found.low, found.high))
    assert told["found"]["words"] == "certain or probable"
    assert told["found"]["by"] == "2 graders"
    assert {g["key"]: g["k"] for g in told["grades"]} == {"A": 0, "B": 10, "C": 10, "X": 30}
    assert sum(g["k"] for g in told["grades"]) == told["found"]["n"]
    for which, count in told["which"].items():
        if which != "to_adjudicate":
            assert len(view.rows(one.id, which, LOCAL)[0]) == count, which
    assert view.rows(one.id, "found", LOCAL)[0].tolist() == ROWS[:10].tolist()
    assert view.rows(one.id, "disputed", LOCAL)[0].tolist() == ROWS[10:20].tolist()
    assert view.rows(one.id, "grade:C", LOCAL)[0].tolist() == ROWS[10:20].tolist()
    orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def test_a_pair_opens_what_the_two_disagree_on(desk: Desk, view: CampaignView) -> None:
    one = of_all(desk)
    report = view.agreement(one.id, LOCAL)
    rows, words = view.rows(one.id, "pair:grader-1:grader-2", LOCAL)
    assert sorted(rows) == ROWS[:20].tolist()
    assert report["pairs"][0][1]["n_disagreed"] == len(rows)
    assert words == "Rings: grader-1 and grader-2 disagree"
    for which in ("pair:grader-1:nobody", "pair:grader-1", "grade:Z", "most"):
        with pytest.raises(UsageError):
            view.rows(one.id, which, LOCAL)


def test_a_name_with_a_colon_is_a_pair_all_the_same(desk: Desk, view: CampaignView) -> None:
    one = campaign(desk)
    for who in ("a:b", "c d"):
        for item in list(desk.vetting.queue(one.id, who))[:4]:
            desk.vetting.vote(one.id, who, item.key, "A" if who == "c d" else "X", seconds=1.0)
    rows, _ = view.rows(one.id, "pair:a%3Ab:c%20d", LOCAL)
    both = desk.vetting.votes(one.id).groupby("row").size()
    assert sorted(rows) == sorted(both.index[both == 2])


def test_a_grader_who_is_not_through_is_told_nothing_of_others(desk: Desk, view: CampaignView) -> None:
    one, me, owner = campaign(desk), Person("grader-1", "vetter"), Person("head", "owner")
    vote(desk, one, "grader-2")
    vote(desk, one, "grader-1", 49)
    told = view.detail(one.id, me)
    assert told["hidden"]
    assert not {"grades", "found", "subjects", "which"} & set(told)
    assert [p["who"] for p in told["people"]] == ["grader-2", "grader-1"]  # how far they are is no grade
    for answer in (view.agreement(one.id, me), view.adjudication(one.id, me), view.left(one.id, me)):
        assert answer["hidden"]
        assert not answer.get("items") and not answer.get("curve") and not answer.get("alpha")
    for which in ("found", "pair:grader-1:grader-2", "grade:A"):
        with pytest.raises(AccessError, match="blind"):
            view.rows(one.id, which, me)
    with pytest.raises(AccessError, match="blind"):
        view.adjudicate({"id": one.id, "row": 20, "grade": "A"}, me)
    assert view.detail(one.id, owner)["hidden"] == ""
    vote(desk, one, "grader-1")
    assert view.detail(one.id, me)["hidden"] == ""
    assert view.detail(one.id, me)["found"]["n"] == 50


def test_what_is_closed_or_not_blind_is_told(desk: Desk, view: CampaignView) -> None:
    one, me = campaign(desk), Person("grader-1", "vetter")
    open_one = desk.campaigns.of_selection(Plan("Seen", SCHEMES["abcx"], is_blind=False), "odd", "local")
    assert view.detail(one.id, me)["hidden"]
    assert not view.detail(open_one.id, me)["hidden"]
    assert view.turn({"id": one.id, "open": False, "client_id": client()}, LOCAL) == {"id": one.id, "is_open": False}
    assert not view.detail(one.id, me)["hidden"]
    view.turn({"id": one.id, "open": True, "client_id": client()}, LOCAL)
    assert view.detail(one.id, me)["hidden"]


def test_adjudication_decides_what_is_disputed_and_is_taken_back(desk: Desk, view: CampaignView) -> None:
    one = of_all(desk)
    items = view.adjudication(one.id, LOCAL)["items"]
    assert sorted(item["row"] for item in items) == ROWS[:20].tolist()
    assert {item["row"] for item in items[:10]} == set(ROWS[10:20].tolist())  # A and X are farther apart than A and B
    assert [v["grade"] for v in items[0]["votes"]] == ["A", "X"]
    row = items[0]["row"]
    decided = view.adjudicate({"id": one.id, "row": row, "grade": "A", "seconds": 2.0, "client_id": client()}, LOCAL)
    assert decided == {"row": row, "adjudicated": {"grade": "A", "who": "local"}, "can_undo": True}
    assert view.detail(one.id, LOCAL)["found"]["k"] == 11
    votes = desk.vetting.votes(one.id)
    assert votes[votes["via"] == "adjudication"]["row"].tolist() == [row]
    assert view.agreement(one.id, LOCAL)["n_votes"] == 100  # independent grades only
    after = view.adjudication(one.id, LOCAL)["items"]
    assert after[-1]["row"] == row and after[-1]["adjudicated"]["grade"] == "A"
    back = view.adjudicate({"id": one.id, "undo": True, "client_id": client()}, LOCAL)
    assert back == {"row": row, "adjudicated": None, "can_undo": False}
    assert view.detail(one.id, LOCAL)["found"]["k"] == 10
    with pytest.raises(UsageError, match="no decision of yours"):
        view.adjudicate({"id": one.id, "undo": True, "client_id": client()}, LOCAL)
    for wrong in ({"row": 5, "grade": "A"}, {"row": row, "grade": "Z"}, {"row": "x", "grade": "A"}):
        with pytest.raises(UsageError):
            view.adjudicate({"id": one.id, "client_id": client(), **wrong}, LOCAL)


def test_later_outcomes_are_kept_once_and_precision_follows_them(desk: Desk, view: CampaignView) -> None:
    one = of_all(desk)
    sent = {"rows": ROWS[:6].tolist(), "outcome": "confirmed", "source": "spectrum", "client_id": client()}
    made = view.follow_up(sent, LOCAL)
    assert view.follow_up(sent, LOCAL) == made  # an answer that was lost
    assert made["n"] == 6
    view.follow_up({"rows": [26, 27], "outcome": "rejected", "source": "HST", "client_id": client()}, LOCAL)
    told = view.detail(one.id, LOCAL)
    assert (told["against"]["k"], told["against"]["n"]) == (6, 8)
    assert view.rows(one.id, "confirmed", LOCAL)[0].tolist() == ROWS[:6].tolist()
    view.follow_up({"undo": made["entries"], "client_id": client()}, LOCAL)
    told = view.detail(one.id, LOCAL)
    assert (told["against"]["k"], told["against"]["n"]) == (0, 2)
    wrong: list[dict[str, Any]] = [
        {"rows": [], "outcome": "confirmed", "source": "x"},
        {"rows": [10**9], "outcome": "confirmed", "source": "x"},
        {"rows": [True], "outcome": "confirmed", "source": "x"},
        {"rows": [20], "outcome": "maybe", "source": "x"},
        {"rows": [20], "outcome": "confirmed", "source": ""},
    ]
    for told in wrong:
        with pytest.raises(UsageError):
            view.follow_up({**told, "client_id": client()}, LOCAL)


def test_who_saw_the_results_changes_a_grade_knowing_them(desk: Desk, view: CampaignView) -> None:
    one = campaign(desk)
    vote(desk, one, "grader-1")
    vote(desk, one, "grader-2")
    grader = Person("grader-1", "vetter")
    first, second, third = list(desk.vetting.queue(one.id, "grader-1"))[:3]
    own = GRADES["grader-1"][first.row - ROWS[0]]
    desk.vetting.vote(one.id, "grader-1", third.key, "C", seconds=1.0)  # a slip, seen by themselves
    desk.vetting.history(int(desk.explore.survey.subject_ids[first.row]), grader)
    desk.vetting.vote(one.id, "grader-1", first.key, "C", seconds=1.0)
    view.adjudication(one.id, grader)
    desk.vetting.bulk(one.id, "grader-1", {second.key: "C"}, seconds=1.0)
    votes = desk.vetting.votes(one.id)
    mine = votes[votes["who"] == "grader-1"].set_index("row")
    assert mine.loc[[first.row, second.row, third.row], "is_informed"].tolist() == [True, True, False]
    assert mine.loc[first.row, "independent"] == own
    assert mine.loc[third.row, "independent"] == "C"


def test_what_is_left_is_said_by_the_audit_and_not_without_one(desk: Desk, view: CampaignView) -> None:
    bare = of_all(desk)
    told = view.left(bare.id, LOCAL)
    assert told["estimate"] is None
    assert "not estimable" in told["sentence"]
    assert told["curve"][-1] == {"looks": 50, "found": 10, "random": False}
    audited = campaign(desk, name="Audited", audit=30)
    first, *_ = desk.vetting.queue(audited.id, "grader-1")
    desk.vetting.bulk(audited.id, "grader-1", {}, kept=[first.key], seconds=1.0)
    assert "one subject waits for a second look" in view.left(audited.id, LOCAL)["sentence"]
    for who in GRADES:
        vote(desk, audited, who)
    told = view.left(audited.id, LOCAL)
    assert told["estimate"]["n"] == 0  # none of 30 draws was a find
    assert told["estimate"]["high"] > 0
    assert sum(step["random"] for step in told["curve"]) == len(audited.audit)
    assert view.rows(audited.id, "region:all", LOCAL)[0].tolist() == audited.rows.tolist()  # as purity counts them
    assert len(view.rows(audited.id, "all", LOCAL)[0]) == len(audited.rows) + len(audited.audit)
    looks = [step["looks"] for step in told["curve"]]
    assert looks == list(range(1, len(looks) + 1))


def test_a_campaign_is_made_of_what_is_on_the_screen(desk: Desk, view: CampaignView) -> None:
    survey, context = desk.explore.survey, Context()
    plan = {"name": "Bright", "scheme": SCHEMES["yes-no"].to_json(), "graders": 2}
    selection = Selection.of_rows(np.arange(60), survey.n)
    asked = {"selection": desk.explore.keep(selection)}
    told = view.source(asked, context)
    assert told["n"] == 58  # one of them is withdrawn, one planted
    assert set(told["sample"]) <= set(range(60)) - {7, 8}
    sent = {"plan": plan, "source": asked, "n": 20, "client_id": client()}
    made = view.make(sent, context, LOCAL)
    assert view.make(sent, context, LOCAL).id == made.id
    assert len(made.rows) == 20
    assert set(made.rows) <= set(range(60))
    gate = Gate("subjects.magnitude", None, 18.0)
    draft_id = desk.judge.keep(Draft(gate), context)
    of_draft = view.make({"plan": plan | {"name": "Gated"}, "source": {"draft": draft_id}}, context, LOCAL)
    assert len(of_draft.rows) == view.source({"draft": draft_id}, context)["n"]
    saved = desk.boundaries.save("bright", Draft(gate), context, "local")
    of_saved = view.make(
        {"plan": plan | {"name": "Saved"}, "source": {"boundary": "bright", "version": saved.version}}, context, LOCAL
    )
    assert of_saved.source["boundary"] == "bright"
    assert of_saved.rows.tolist() == of_draft.rows.tolist()
    for wrong in ({}, {"selection": "gone"}, {"kept": "nothing"}, {"boundary": "none"}):
        with pytest.raises(VoorwerpError):
            view.make({"plan": plan | {"name": "Never"}, "source": wrong}, context, LOCAL)
    assert "Never" not in [c["name"] for c in view.overview(LOCAL)["campaigns"]]


def test_one_click_checks_a_region_and_what_it_finds_stands_beside_its_name(desk: Desk, view: CampaignView) -> None:
    selection = desk.explore.keep(Selection.of_rows(np.arange(20, 90), desk.explore.survey.n))
    region = {"map_id": "", "run_id": "", "x": "subjects.magnitude", "y": "subjects.edge_fraction"}
    region |= {"lambda": 0.2, "lambda_mode": "raw", "vertices": [[15.0, 0.0], [20.0, 0.0], [20.0, 1.0]]}
    sent = {"selection": selection, "what": "a region of the map", "region": region, "client_id": client()}
    made = view.quick(sent, Context(), LOCAL)
    assert view.quick(sent, Context(), LOCAL).id == made.id
    assert (len(made.rows), made.plan.graders) == (50, 3)
    places = desk.ledger.entries("place")
    assert [(p.payload["name"], p.payload["campaign"]) for p in places] == [("Purity of a region of the map", made.id)]
    assert view.pinned() == {made.id: ""}
    for who in ("grader-1", "grader-2", "grader-3"):
        assert view.pinned() == {made.id: ""}  # blind, and not complete
        grades = {item.key: "A" if item.row % 2 else "X" for item in desk.vetting.queue(made.id, who)}
        desk.vetting.bulk(made.id, who, grades, seconds=50.0)
    k = int((made.rows % 2).sum())
    assert view.pinned()[made.id].startswith(f"certain or probable {k} of 50 (")
    assert view.pinned()[made.id].endswith("by 3 graders")


def test_the_list_says_how_far_each_campaign_is(desk: Desk, view: CampaignView) -> None:
    one = campaign(desk)
    vote(desk, one, "grader-1", 10)
    told = view.overview(Person("grader-1", "vetter"))
    assert told["person"] == {"name": "grader-1", "may_make": False, "may_vote": True}
    (line,) = told["campaigns"]
    assert (line["n_votes"], line["n_wanted"]) == (10, 100)
    assert line["mine"] == {"n_done": 10, "n_all": 50}
    assert [k["name"] for k in told["kept"]] == ["odd"]
    assert view.overview(Person("guest", "viewer"))["campaigns"][0]["mine"] is None
    people = view.detail(one.id, LOCAL)["people"]
    assert [(p["who"], p["n_done"], p["seconds"], p["total"]) for p in people] == [("grader-1", 10, 4.0, 40.0)]


def test_what_has_only_some_of_its_grades_is_said_to(desk: Desk, view: CampaignView) -> None:
    one = campaign(desk)
    vote(desk, one, "grader-1")
    vote(desk, one, "grader-2", 20)
    told = view.detail(one.id, LOCAL)
    both = {item.row for item in list(desk.vetting.queue(one.id, "grader-2"))[:20]}
    assert {s["row"] for s in told["subjects"] if s["n_grades"] == 2} == both
    assert {s["n_grades"] for s in told["subjects"]} == {1, 2}
    assert told["note"].startswith("20 of the 50 graded have all 2 grades so far")
    vote(desk, one, "grader-2")
    assert "so far" not in view.detail(one.id, LOCAL)["note"]


def test_disputed_and_to_adjudicate_are_told_apart_and_the_limit_is_named(desk: Desk, view: CampaignView) -> None:
    told = view.detail(of_all(desk).id, LOCAL)
    assert "grades on both sides of the limit (2, probable), 10." in told["apart"]
    assert "all whose grades differ and are not decided yet, 20." in told["apart"]
    assert told["about"][-1] == "found where the mean of its grades reaches 2, probable"
    assert limit_words(replace(SCHEMES["abcx"], positive=1.5)) == "1.5"


def test_what_is_looked_for_is_named_by_its_grades() -> None:
    assert positive_words(SCHEMES["abcx"]) == "certain or probable"
    assert positive_words(SCHEMES["yes-no"]) == "yes"
    assert positive_words(SCHEMES["interest"]) == "must be looked at or very interesting"


def test_what_was_found_stands_where_its_source_is_open_again(desk: Desk, view: CampaignView) -> None:
    one = of_all(desk)
    assert view.pinned() == {"selection:odd": view.pinned()["selection:odd"]}
    assert view.pinned()["selection:odd"].startswith("Rings: certain or probable 10 of 50 (20 % [")
    desk.boundaries.save("bright", Draft(Gate("subjects.magnitude", None, 18.0)), Context(), "local")
    plan = Plan("Bright ones", SCHEMES["yes-no"], is_blind=False, repeats=0.0)
    of_boundary = desk.campaigns.of_boundary(plan, "bright", None, "local")
    assert "boundary:bright v1" not in view.pinned()
    item = desk.vetting.queue(of_boundary.id, "grader-1")[0]
    before = view.overview(LOCAL)["campaigns"]
    desk.vetting.vote(of_boundary.id, "grader-1", item.key, "Y", seconds=1.0)
    assert view.pinned()["boundary:bright v1"].startswith("Bright ones: yes 1 of 1 (100 %")
    after = {c["id"]: c["last"] for c in view.overview(LOCAL)["campaigns"]}
    changed = {c["id"] for c in before if after[c["id"]] != c["last"]}
    assert changed == {of_boundary.id}  # nobody reads the others anew
    desk.vetting.undo(of_boundary.id, "grader-1")
    assert "boundary:bright v1" not in view.pinned()
    assert one.id in after
