"""Campaigns: of whom they are, what is drawn beside and mixed in, and what of it the ledger has."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from explorer import ledger as ledgers
from explorer.errors import LedgerError, UsageError
from explorer.ledger import Ledger
from explorer.services.boundaries import Context
from explorer.services.campaigns import Campaign, Campaigns, Plan, Reader, groups_of, strata_of
from explorer.state import Draft, Selection
from explorer.survey import Survey
from models.boundary import Gate
from models.grades import SCHEMES
from tests.explorer.vetted import campaigns_of, write_graded

ABCX = SCHEMES["abcx"]


@pytest.fixture
def campaigns(tmp_path: Path) -> Iterator[Campaigns]:
    survey = Survey.open(write_graded(tmp_path / "survey", 200))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield campaigns_of(survey, ledger)
    survey.close()


def keep(campaigns: Campaigns, name: str, rows: np.ndarray) -> str:
    campaigns.ledger.save_selection(name, rows, campaigns.survey.subject_ids, who="grader-0")
    return name


def is_same(one: Campaign, other: Campaign) -> bool:
    arrays = all(
        getattr(one, name).tolist() == getattr(other, name).tolist() for name in ("rows", "audit", "known", "duds")
    )
    told = ("id", "plan", "n_outside", "source", "who", "at", "is_open")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in told)


# --------------------------------------------------------------------------------------------------------- sources
def test_a_campaign_of_a_selection_has_its_subjects_of_the_frame_and_stays_as_it_was(campaigns: Campaigns):
    keep(campaigns, "odd", np.arange(40))
    made = campaigns.of_selection(Plan("Odd ones", ABCX), "odd", "grader-1", context=Context("", "m", 0.5))
    assert made.rows.tolist() == [r for r in range(40) if r not in (7, 8)]  # withdrawn, planted
    assert len(made.id) == 12 and set(made.id) <= set("0123456789abcdef")
    told = {"selection": "odd", "boundary": None, "version": None, "map_id": "m", "lambda": 0.5, "n_source": 38}
    assert told | {"inclusion": 1.0, "run_id": "", "region": "the selection “odd”"} == {
        k: v for k, v in made.source.items() if k not in ("lambda_mode", "audit_inclusion")
    }
    assert made.boundary_id is None
    keep(campaigns, "odd", np.arange(50, 60))
    again = campaigns_of(campaigns.survey, campaigns.ledger)
    assert is_same(again.get("Odd ones"), made) and is_same(campaigns.get(made.id), made)
    entry = campaigns.ledger.entries("campaign")[0]
    assert (entry.who, entry.map_id, entry.run_id) == ("grader-1", "m", None)


def test_a_campaign_of_a_set_that_nobody_kept_is_called_what_it_is(campaigns: Campaigns):
    some = Selection.of_rows(np.array([3, 5, 8]), 200)
    some.title = "magnitude below 16"
    made = campaigns.of_selection(Plan("Bright", ABCX), some, "grader-1")
    assert made.rows.tolist() == [3, 5] and made.source["selection"] is None
    assert made.source["region"] == "magnitude below 16"


def test_a_campaign_of_a_boundary_has_only_those_that_it_keeps_and_says_which_version(campaigns: Campaigns):
    for high in (16.0, 17.0):
        campaigns.boundaries.save("bright", Draft(Gate("subjects.magnitude", None, high)), Context(), "grader-0")
    made = campaigns.of_boundary(Plan("Bright", ABCX), "bright", 1, "grader-1")
    magnitude = campaigns.survey.column("magnitude")
    assert made.rows.tolist() == [r for r in range(200) if magnitude[r] <= 16 and r not in (7, 8)]
    assert (made.source["boundary"], made.source["version"], made.boundary_id) == ("bright", 1, "bright v1")
    newest = campaigns.of_boundary(Plan("Newest", ABCX), "bright", None, "grader-1")
    assert newest.source["version"] == 2 and len(newest.rows) > len(made.rows)
    with pytest.raises(UsageError, match="no version 3"):
        campaigns.of_boundary(Plan("None", ABCX), "bright", 3, "grader-1")


def test_a_draw_takes_whole_groups_with_a_known_probability_and_audits_lie_outside_the_whole_source(
    campaigns: Campaigns,
):
    groups = groups_of(campaigns.survey)
    keep(campaigns, "pairs", np.arange(95, 141))  # the pairs are in it as a whole
    made = campaigns.of_selection(Plan("Some", ABCX, audit=20), "pairs", "grader-1", n=15)
    inside = set(range(95, 141))
    assert set(made.rows.tolist()) <= inside and 10 <= len(made.rows) <= 20
    rest = np.array(sorted(inside - set(made.rows.tolist())))
    assert not np.isin(groups[made.rows], groups[rest]).any()
    n_groups, n_drawn = len(np.unique(groups[sorted(inside)])), len(np.unique(groups[made.rows]))
    assert made.source["inclusion"] == pytest.approx(n_drawn / n_groups) and made.source["n_source"] == 46
    assert not set(made.audit.tolist()) & (inside | {7, 8}) and len(made.audit) == 20
    assert made.n_outside == 200 - 46 - 2 and made.source["audit_inclusion"] == pytest.approx(20 / made.n_outside)


def test_audit_draws_are_no_other_picture_of_what_the_source_has(campaigns: Campaigns):
    made = campaigns.make(Plan("Halves", ABCX, audit=10), np.arange(100, 120, 2), {"region": "halves"}, "grader-1")
    assert made.n_outside == 200 - 2 - 20
    with pytest.raises(UsageError, match="179 audit draws cannot come from the 178 subjects"):
        campaigns.make(Plan("More", ABCX, audit=179), np.arange(100, 120, 2), {}, "grader-1")
    every = campaigns.make(Plan("Every", ABCX, audit=178), np.arange(100, 120, 2), {}, "grader-1")
    assert every.source["audit_inclusion"] == 1 and len(every.audit) == 178
    again = campaigns.make(Plan("Halves again", ABCX, audit=10), np.arange(100, 120, 2), {}, "grader-1")
    assert again.audit.tolist() == made.audit.tolist()  # by the seed
    other = campaigns.make(Plan("Other", ABCX, audit=10, seed=9), np.arange(100, 120, 2), {}, "grader-1")
    assert other.audit.tolist() != made.audit.tolist()


def test_known_objects_and_duds_are_at_most_one_in_ten_looks_and_none_of_those_to_be_graded(campaigns: Campaigns):
    keep(campaigns, "rings", np.array([8, 20, 21, 22, 23, 24, 25, 26, 27, 28]))  # 8 was planted
    keep(campaigns, "stars", np.array([7, 30, 31, 150]))  # 7 was withdrawn
    made = campaigns.make(Plan("Mixed", ABCX, known="rings", duds="stars"), np.arange(100), {}, "grader-1")
    assert not set(made.rows.tolist()) & {7, 8, *range(20, 29), 30, 31}
    assert set(made.duds.tolist()) <= {30, 31, 150} and set(made.known.tolist()) <= {8, *range(20, 29)}
    n_mixed = len(made.known) + len(made.duds)
    assert n_mixed == len(made.rows) // 9 and n_mixed / (n_mixed + len(made.rows)) <= 0.1
    assert len(made.duds) == 3  # few of a kind are all there
    few = campaigns.make(Plan("Few", ABCX, known="rings", duds="stars"), np.arange(40, 44), {}, "grader-1")
    assert (len(few.known), len(few.duds)) == (1, 1)
    keep(campaigns, "both", np.array([20, 30]))
    with pytest.raises(UsageError, match='1 subject of "both" is in "stars", too'):
        campaigns.make(Plan("Both", ABCX, known="both", duds="stars"), np.arange(100), {}, "grader-1")
    with pytest.raises(UsageError, match='there is no selection "ring"; did you mean "rings"'):
        campaigns.make(Plan("Ring", ABCX, known="ring"), np.arange(100), {}, "grader-1")
    with pytest.raises(UsageError, match="nobody is left to grade"):
        campaigns.make(Plan("Only known", ABCX, known="rings"), np.arange(20, 25), {}, "grader-1")


def test_one_click_makes_fifty_random_subjects_for_three_graders(campaigns: Campaigns):
    client_id = str(uuid.uuid4())
    one = campaigns.quick(np.arange(200), "the\tlower left", Context("", "m"), "grader-1", client_id)
    assert one.plan.graders == 3 and one.plan.scheme == ABCX and one.plan.is_blind
    assert 45 <= len(one.rows) <= 55 and one.plan.name == "Purity of the lower left"
    assert one.source["n_source"] == 198 and 0.2 < one.source["inclusion"] < 0.3
    groups = groups_of(campaigns.survey)
    rest = np.setdiff1d(np.arange(200), one.rows)
    assert not np.isin(groups[one.rows], groups[rest]).any()
    assert campaigns.quick(np.arange(200), "the lower left", None, "grader-1", client_id) is one  # a retry
    two = campaigns.quick(np.arange(200), "the lower left", None, "grader-1")
    assert two.plan.name == "Purity of the lower left (2)" and two.rows.tolist() != one.rows.tolist()
    few = campaigns.quick(np.arange(30), "x" * 200, None, "grader-1")
    assert len(few.rows) == 28 and few.source["inclusion"] == 1 and len(few.plan.name) <= 80
    with pytest.raises(UsageError, match="a few has nobody to grade"):
        campaigns.quick([7, 8], "a few", None, "grader-1")


def test_many_subjects_are_kept_as_a_bitmap_and_come_back(campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledgers, "MAX_LISTED", 20)
    keep(campaigns, "rings", np.arange(150, 160))
    plan = Plan("Many", ABCX, known="rings", audit=30)
    made = campaigns.make(plan, np.arange(100), {}, "grader-1")
    (told,) = [e.payload["sets"] for e in campaigns.ledger.entries("campaign")]
    assert "bitmap" in told["rows"] and "bitmap" in told["audit"] and "subject_ids" in told["known"]
    assert is_same(campaigns_of(campaigns.survey, campaigns.ledger).get(made.id), made)
    ids = campaigns.survey.subject_ids
    assert ledgers.check(campaigns.survey.path, "survey-1", ids) == []
    (problem,) = ledgers.check(campaigns.survey.path, "survey-1", ids[:195])
    n_left = (made.audit < 195).sum()
    assert problem == f'the campaign "Many" has {len(made.audit)} subjects of which {n_left} are in the survey'
    (campaigns.survey.path / "selections" / told["rows"]["bitmap"]).unlink()
    with pytest.raises(LedgerError, match="is missing"):
        campaigns_of(campaigns.survey, campaigns.ledger).listed()
    (problem,) = ledgers.check(campaigns.survey.path, "survey-1", ids)
    assert 'is missing; the campaign "Many" cannot be read' in problem


# ------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"name": "  "}, "a name of 1 to 80 characters"),
        ({"name": "x" * 81}, "a name of 1 to 80 characters"),
        ({"name": "a\nb"}, "that can be seen"),
        ({"scheme": "abcx"}, "needs a scheme of grades"),
        ({"graders": 0}, "1 to 100 graders, not 0"),
        ({"graders": 2.5}, "1 to 100 graders, not 2.5"),
        ({"graders": True}, "1 to 100 graders"),
        ({"order": "best"}, "'best' is no order of a campaign; there are seeded, acquisition, stratified"),
        ({"strata": "kind"}, 'by the order "stratified"'),
        ({"audit": -1}, "a whole number, 0 for none, not -1"),
        ({"repeats": 0.6}, "from 0 to 0.5, not 0.6"),
        ({"repeats": float("nan")}, "from 0 to 0.5, not nan"),
        ({"outcome": "best"}, "'best' is no rule for outcomes"),
        ({"idle_s": 0.5}, "1 to 3,600 seconds, not 0.5"),
        ({"idle_s": "60"}, "1 to 3,600 seconds"),
        ({"seed": -2}, "a seed is a whole number from 0, not -2"),
        ({"is_blind": "yes"}, "blind or not: true or false"),
        ({"known": None}, "given by a name each"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(told: dict, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        Plan(**{"name": "Odd ones", "scheme": ABCX, **told})


def test_a_plan_is_read_as_it_was_written_and_as_a_form_fills_it_in():
    plan = Plan(" Odd   ones ", ABCX, 3, order="stratified", strata="kind", repeats=0.1)
    assert plan.name == "Odd ones" and Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json({"name": "Few", "scheme": "yes-no", "graders": 2}) == Plan("Few", SCHEMES["yes-no"], 2)
    for told, sentence in (
        ({"name": "a", "scheme": "abc"}, 'there is no scheme "abc"; there are abcx, 0-3'),
        ({"name": "a"}, "this is no scheme of grades"),
        ({"scheme": "abcx"}, "needs a name"),
        ({"name": "a", "scheme": "abcx", "color": 1}, "a campaign has no 'color'; it has name, scheme"),
    ):
        with pytest.raises(UsageError, match=sentence):
            Plan.from_json(told)


def test_two_campaigns_do_not_share_a_name_and_a_retry_is_the_first(campaigns: Campaigns):
    client_id = str(uuid.uuid4())
    one = campaigns.make(Plan("Odd ones", ABCX), np.arange(9), {}, "grader-1", client_id)
    assert campaigns.make(Plan("Odd ones", ABCX), np.arange(9), {}, "grader-1", client_id.upper()) is one
    with pytest.raises(UsageError, match='there is a campaign "Odd ones" already, made by grader-1 on 2'):
        campaigns.make(Plan("Odd ones", ABCX), np.arange(9), {}, "grader-2")
    with pytest.raises(UsageError, match='no campaign "Odd one"; did you mean "Odd ones"'):
        campaigns.get("Odd one")
    with pytest.raises(UsageError, match="outside the survey's rows"):
        campaigns.make(Plan("Far", ABCX), [200], {}, "grader-1")
    with pytest.raises(UsageError, match="not a UUID"):
        campaigns.make(Plan("Far", ABCX), [1], {}, "grader-1", "7")

    def make(_: int) -> str:
        try:
            return campaigns.make(Plan("At once", ABCX), np.arange(9), {}, "grader-1").id
        except UsageError:
            return ""

    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(make, range(8))} - {""}) == 1
    assert [c.plan.name for c in campaigns.listed()] == ["Odd ones", "At once"]


# --------------------------------------------------------------------------------------------------- what is decided
def test_a_campaign_is_closed_and_opened_again_and_what_is_taken_back_is_as_before(campaigns: Campaigns):
    one = campaigns.make(Plan("Odd ones", ABCX), np.arange(9), {}, "grader-1")
    client_id = str(uuid.uuid4())
    assert not campaigns.close(one.id, "grader-1", client_id).is_open
    assert not campaigns.close(one.id, "grader-1", client_id).is_open  # the answer was lost
    with pytest.raises(UsageError, match="is closed already"):
        campaigns.close(one.id, "grader-1")
    assert campaigns.reopen("Odd ones", "grader-1").is_open
    with pytest.raises(UsageError, match="is open already"):
        campaigns.reopen(one.id, "grader-1")
    campaigns.close(one.id, "grader-1")
    opened, *_, closed = campaigns.ledger.entries("campaign")
    undo = campaigns.ledger.undo(closed.id, who="grader-1")
    assert campaigns.get(one.id).is_open
    campaigns.ledger.undo(undo.id, who="grader-1")
    assert not campaigns.get(one.id).is_open
    undo = campaigns.ledger.undo(opened.id, who="grader-1")
    with pytest.raises(UsageError, match="there is no campaign"):
        campaigns.get(one.id)
    assert campaigns.any_of(one.id) is not None and campaigns.listed() == []
    campaigns.ledger.undo(undo.id, who="grader-1")
    assert is_same(campaigns.get(one.id), campaigns_of(campaigns.survey, campaigns.ledger).get(one.id))


def test_batches_come_in_the_order_of_acquisition_and_no_subject_twice(campaigns: Campaigns):
    plan = Plan("Learning", ABCX, order="acquisition")
    one = campaigns.make(plan, np.arange(50), {}, "grader-1")
    client_id = str(uuid.uuid4())
    for _ in range(2):  # and a retry
        campaigns.extend(one.id, [30, 4, 12], [9, 1], "greedy, 0 votes", "grader-1", client_id)
    campaigns.extend(one.id, [31], [], "greedy, 5 votes", "grader-1")
    for here in (campaigns, campaigns_of(campaigns.survey, campaigns.ledger)):
        first, second = here.get(one.id).batches
        assert first.rows.tolist() == [30, 4, 12] and first.random_rows.tolist() == [9, 1]
        assert (first.n_unseen, second.n_unseen, second.model) == (48, 43, "greedy, 5 votes")
    for rows, sentence in (
        ([12], "in the queue already"),
        ([2, 2], "twice in it"),
        ([60], 'not among those that "Learning" grades'),
        ([7], "not among those"),
        ([], "at least one subject"),
    ):
        with pytest.raises(UsageError, match=sentence):
            campaigns.extend(one.id, rows, [], "greedy", "grader-1")
    campaigns.close(one.id, "grader-1")
    with pytest.raises(UsageError, match="is closed"):
        campaigns.extend(one.id, [2], [], "greedy", "grader-1")
    seeded = campaigns.make(Plan("Seeded", ABCX), np.arange(50), {}, "grader-1")
    with pytest.raises(UsageError, match="not in order of acquisition"):
        campaigns.extend(seeded.id, [2], [], "greedy", "grader-1")


def test_what_another_process_decides_is_seen(campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Reader, "SECONDS", 0.0)
    assert campaigns.listed() == []
    with Ledger(campaigns.survey.path, campaigns.survey.info.survey_id) as other:
        made = campaigns_of(campaigns.survey, other).make(Plan("Odd ones", ABCX), np.arange(9), {}, "grader-1")
        assert is_same(campaigns.get("Odd ones"), made)
        campaigns_of(campaigns.survey, other).close(made.id, "grader-1")
        assert not campaigns.get("Odd ones").is_open


def test_levels_are_fifths_of_the_chosen_fraction_or_a_column_s_own(campaigns: Campaigns):
    survey, rows = campaigns.survey, np.arange(200)
    fraction = survey.column("chosen_fraction")
    found = strata_of(survey, Plan("a", ABCX, order="stratified"), rows)
    assert found.tolist() == np.minimum((fraction * 5).astype(int), 4).tolist()
    kinds = strata_of(survey, Plan("a", ABCX, order="stratified", strata="kind"), rows)
    assert len(set(kinds.tolist())) == 3 and len({*kinds[::3].tolist()}) == 1
    fifths = strata_of(survey, Plan("a", ABCX, order="stratified", strata="magnitude"), rows)
    assert np.bincount(fifths).tolist() == [40] * 5
    with pytest.raises(UsageError, match='"ra" has no value for any subject'):
        strata_of(survey, Plan("a", ABCX, order="stratified", strata="ra"), rows)
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        campaigns.make(Plan("a", ABCX, order="stratified", strata="magnitud"), rows, {}, "grader-1")
    with pytest.raises(UsageError, match="make no levels"):
        campaigns.make(Plan("a", ABCX, order="stratified", strata="source_id"), rows, {}, "grader-1")
