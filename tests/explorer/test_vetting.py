"""Votes of experts: blind queues, votes with their history, undo, and what they amount to; against a slow book."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.errors import AccessError, LedgerError, UsageError
from explorer.ledger import Ledger
from explorer.people import Person
from explorer.services import tallies
from explorer.services import vetting as service
from explorer.services.campaigns import Campaign, Plan, Reader
from explorer.services.notes import Notes
from explorer.services.queues import Arrangement, Keys
from explorer.services.vetting import Item, Vetting
from explorer.survey import Survey
from models.artifacts import Run, write_scores
from models.grades import SCHEMES
from tests.explorer.vetted import vetting_of, write_graded

ABCX = SCHEMES["abcx"]
GRADES = ["A", "B", "C", "X", "Q"]


@pytest.fixture
def vetting(tmp_path: Path) -> Iterator[Vetting]:
    survey = Survey.open(write_graded(tmp_path / "survey", 200))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield vetting_of(survey, ledger)
    survey.close()


def made(vetting: Vetting, rows: Any = 30, name: str = "Odd ones", **told: Any) -> Campaign:
    """A campaign of the first rows, or of these; without repeats unless told."""
    plan = Plan(name, ABCX, **{"repeats": 0.0, **told})
    rows = np.arange(rows) if isinstance(rows, int) else rows
    return vetting.campaigns.make(plan, rows, {"region": "the first"}, "grader-0")


def kept(vetting: Vetting, name: str, rows: Any) -> str:
    vetting.ledger.save_selection(name, np.asarray(rows), vetting.survey.subject_ids, who="grader-0")
    return name


def key_of(vetting: Vetting, one: Campaign, who: str, row: int, repeat: bool = False) -> str:
    return next(i.key for i in vetting.queue(one.id, who) if i.row == row and (i.role == "repeat") == repeat)


def votes_of(vetting: Vetting, one: Campaign, at: Any = None) -> set[tuple[str, int, str, str]]:
    table = vetting.votes(one.id, at)
    return set(zip(table["who"], table["row"], table["grade"], table["role"], strict=True))


# ---------------------------------------------------------------------------------------------------------- queues
def test_each_grader_has_an_order_of_their_own_which_is_the_same_after_a_restart(vetting: Vetting):
    one = made(vetting, 100, repeats=0.05)
    queues = {who: list(vetting.queue(one.id, who)) for who in ("grader-1", "grader-2", "grader-3")}
    orders = {who: [i.row for i in items if i.role == "subject"] for who, items in queues.items()}
    assert all(sorted(order) == one.rows.tolist() for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3
    again = vetting_of(vetting.survey, vetting.ledger)
    assert all(list(again.queue(one.id, who)) == items for who, items in queues.items())
    other = made(vetting, 100, "Others", repeats=0.05)
    assert [i.row for i in vetting.queue(other.id, "grader-1")] != [i.row for i in queues["grader-1"]]


def test_a_queue_is_a_sequence_of_which_stretches_are_made(vetting: Vetting):
    one = made(vetting, 60, repeats=0.1)
    queue = vetting.queue(one.id, "grader-1")
    items = list(queue)
    assert len(queue) == len(items) == vetting.standing(one.id, "grader-1")["n_all"]
    assert queue.items[3:9] == items[3:9] == queue.window(3, 6) and queue[-1] == items[-1] and queue[::7] == items[::7]
    assert queue.window(len(items), 5) == [] and queue.window(len(items) - 2, 5) == items[-2:]
    with pytest.raises(IndexError, match=f"the queue has {len(items)} looks"):
        queue[len(items)]
    assert queue.after(None, 4) == items[:4] and queue.after(items[5].key, 3) == items[6:9]
    assert queue.before(items[5].key, 3) == items[2:5] and queue.before(items[1].key, 9) == items[:1]
    assert [queue.index_of(i.key) for i in items] == list(range(len(items)))
    assert vetting.item(one.id, "grader-1", items[7].key) == items[7]
    places = [i.place for i in items]
    assert places == sorted(set(places))
    for k in (0, 2):
        vetting.vote(one.id, "grader-1", items[k].key, "X", seconds=1)
    assert queue.after(None, 2, tallies.NOTHING) == [items[1], items[3]]
    assert queue.after(items[0].key, 2, tallies.GRADED) == [items[2]]


def test_a_queue_of_a_million_is_looked_at_in_stretches(vetting: Vetting, monkeypatch: pytest.MonkeyPatch):
    one = made(vetting, 198, repeats=0.05)
    looked: list[int] = []
    places = tallies.Shown.places
    monkeypatch.setattr(Arrangement, "BLOCK", 16)
    monkeypatch.setattr(tallies.Shown, "places", lambda self, block: looked.append(block) or places(self, block))
    queue = vetting.queue(one.id, "grader-1")
    whole = list(queue)
    looked.clear()
    assert queue.after(whole[50].key, 5) == whole[51:56]
    assert queue.window(100, 3) == whole[100:103]
    vetting.vote(one.id, "grader-1", whole[50].key, "X", seconds=1)
    vetting.standing(one.id, "grader-1")
    assert len(looked) <= 20  # of 13 for each of the three, would it look through all


# ------------------------------------------------------------------------------------------------------------- keys
def test_a_key_is_good_for_one_grader_in_one_campaign_and_tells_nothing(vetting: Vetting):
    one, other = made(vetting, 60, repeats=0.2), made(vetting, 60, "Others")
    queue = vetting.queue(one.id, "grader-1")
    items = list(queue)
    keys = [i.key for i in items]
    assert len(set(keys)) == len(keys) and all(len(k) == 16 and set(k) <= set("0123456789abcdef") for k in keys)
    assert keys == [i.key for i in vetting.queue(one.id, "grader-1")]  # stable
    theirs = {i.key for i in vetting.queue(one.id, "grader-2")}
    assert not theirs & set(keys) and not {i.key for i in vetting.queue(other.id, "grader-1")} & set(keys)
    # neighbors differ as much as any two: about half of their bits
    bits = [int(a, 16) ^ int(b, 16) for a, b in zip(sorted(keys), sorted(keys)[1:], strict=False)]
    subject, repeat = (next(i for i in items if i.role == role) for role in ("subject", "repeat"))
    first = next(i for i in items if i.row == repeat.row and i.role == "subject")
    assert 12 < (int(first.key, 16) ^ int(repeat.key, 16)).bit_count() < 52 and max(b.bit_count() for b in bits) > 12
    calls = (
        lambda key: vetting.vote(one.id, "grader-2", key, "A", seconds=1),
        lambda key: vetting.bulk(one.id, "grader-2", {key: "A"}, seconds=1),
        lambda key: vetting.state(one.id, "grader-2", key),
        lambda key: vetting.told(one.id, "grader-2", key),
        lambda key: vetting.item(one.id, "grader-2", key),
        lambda key: vetting.queue(one.id, "grader-2").index_of(key),
        lambda key: vetting.queue(one.id, "grader-2").after(key or "", 1),
    )
    for call in calls:
        for key in (subject.key, "0" * 16, "", "g" * 16, subject.key[:-1], subject.key.upper() + "0", None, 7):
            with pytest.raises(AccessError, match="not a subject that was given to you"):
                call(key)
    assert vetting.ledger.entries("vote") == []


def test_keys_are_read_back_and_depend_on_a_secret():
    ours, others = Keys(b"s" * 32, "campaign", "who"), Keys(b"t" * 32, "campaign", "who")
    slots = [0, 1, 2, 999_999, 2**31, 2**40 - 1]
    assert [ours.slot(ours.key(slot)) for slot in slots] == slots
    assert [others.slot(ours.key(slot)) for slot in slots] == [None] * 6
    assert Keys(b"s" * 32, "campaign", "wh").slot(ours.key(5)) is None
    assert Keys(b"s" * 32, "campaignw", "ho").slot(ours.key(5)) is None


# ---------------------------------------------------------------------------------------------------------- repeats
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_hidden_share_is_repeated_later_in_the_queue_and_kept_apart(vetting: Vetting, share: float):
    kept(vetting, "rings", range(180, 190))
    one = made(vetting, 150, repeats=share, known="rings", audit=20)
    items = list(vetting.queue(one.id, "grader-1"))
    repeats = [(k, i) for k, i in enumerate(items) if i.role == "repeat"]
    n_real = len(one.rows) + len(one.audit)
    assert len(repeats) == pytest.approx(share * n_real, abs=1)
    first = {i.row: k for k, i in enumerate(items) if i.role != "repeat"}
    assert min(k - first[i.row] for k, i in repeats) > 20
    assert {items[first[i.row]].role for _, i in repeats} <= {"subject", "audit"}  # no known objects
    assert len({i.row for _, i in repeats}) == len(repeats)
    assert {i.row for _, i in repeats} != {i.row for i in vetting.queue(one.id, "grader-2") if i.role == "repeat"}
    _, repeat = repeats[0]
    vetting.vote(one.id, "grader-1", items[first[repeat.row]].key, "A", seconds=1)
    vetting.vote(one.id, "grader-1", repeat.key, "C", seconds=1)
    assert vetting.matrix(one.id)[2].tolist() == [[3.0]] and vetting.outcomes(one.id)["value"].tolist() == [3.0]
    table = vetting.votes(one.id).set_index("role")
    assert table.loc["repeat", "grade"] == "C" and table.loc["repeat", "row"] == repeat.row
    assert vetting.state(one.id, "grader-1", items[first[repeat.row]].key)["grade"] == "A"
    assert [e.payload["repeat"] for e in vetting.ledger.entries("vote")] == [False, True]


def test_where_a_queue_is_too_short_repeats_come_last(vetting: Vetting):
    one = made(vetting, 10, repeats=0.5)
    items = list(vetting.queue(one.id, "grader-1"))
    assert [i.role for i in items] == ["subject"] * 8 + ["repeat"] * 4


def test_a_repeat_that_others_moved_too_near_is_not_shown(vetting: Vetting):
    one = made(vetting, 150, repeats=0.1)
    before = list(vetting.queue(one.id, "grader-2"))
    repeat = next(i for i in before if i.role == "repeat")
    first = next(k for k, i in enumerate(before) if i.row == repeat.row)
    between = [i for i in before[first + 1 : before.index(repeat)] if i.role == "subject"]
    for item in between[: len(between) - 19]:
        vetting.vote(one.id, "grader-1", key_of(vetting, one, "grader-1", item.row), "X", seconds=1)
    assert repeat not in list(vetting.queue(one.id, "grader-2"))
    vetting.undo(one.id, "grader-1")
    assert repeat in list(vetting.queue(one.id, "grader-2"))


# ----------------------------------------------------------------------------------------------------------- orders
def test_levels_take_turns_so_that_low_consensus_comes_as_early_as_any(vetting: Vetting):
    survey = vetting.survey
    level = np.minimum((survey.column("chosen_fraction") * 5).astype(int), 4)
    one = made(vetting, np.concatenate([np.arange(40, 140), np.arange(190, 198)]), order="stratified")
    for who in ("grader-1", "grader-2"):
        order = level[[i.row for i in vetting.queue(one.id, who)]]
        counts = np.bincount(level[one.rows], minlength=5)
        present = np.flatnonzero(counts)
        for start in range(0, int(counts[present].min()) * len(present), len(present)):
            assert sorted(order[start : start + len(present)].tolist()) == present.tolist()
    assert [i.row for i in vetting.queue(one.id, "grader-1")] != [i.row for i in vetting.queue(one.id, "grader-2")]


def test_audit_draws_and_known_objects_lie_anywhere_in_a_stratified_order(vetting: Vetting):
    kept(vetting, "rings", range(180, 190))
    one = made(vetting, 100, order="stratified", known="rings", audit=30)
    places = [k for k, i in enumerate(vetting.queue(one.id, "grader-1")) if i.role in ("audit", "known")]
    assert len(places) == len(one.audit) + 10 and places[0] < 20 and places[-1] > 118 and 50 < np.mean(places) < 90


def test_by_acquisition_the_queue_has_the_batches_made_so_far_each_in_a_grader_s_own_order(vetting: Vetting):
    kept(vetting, "rings", [180, 181])
    one = made(vetting, 100, order="acquisition", known="rings", audit=8, repeats=0.1)
    assert list(vetting.queue(one.id, "grader-1")) == [] and vetting.standing(one.id, "grader-1")["n_all"] == 0
    vetting.campaigns.extend(one.id, range(40, 60), range(60, 65), "greedy", "grader-0")
    first = list(vetting.queue(one.id, "grader-1"))
    assert {i.row for i in first if i.role == "subject"} == set(range(40, 65))
    assert [sum(i.role == role for i in first) for role in ("audit", "known")] == [2, 2]  # 1 in 10 looks
    assert [i.row for i in vetting.queue(one.id, "grader-2")] != [i.row for i in first]
    vetting.vote(one.id, "grader-1", first[0].key, "A", seconds=1)
    vetting.campaigns.extend(one.id, range(10, 30), [], "greedy", "grader-0")
    second = list(vetting.queue(one.id, "grader-1"))
    assert second[: len(first)] == first  # places and keys are for ever
    assert {i.row for i in second[len(first) :] if i.role == "subject"} == set(range(10, 30)) - {7, 8}
    again = vetting_of(vetting.survey, vetting.ledger)
    assert list(again.queue(one.id, "grader-1")) == second
    stranger = Keys(vetting._secret, one.id, "grader-1").key(int(one.index_of([90])[0]))
    with pytest.raises(AccessError):  # it is in no batch
        vetting.item(one.id, "grader-1", stranger)


# ------------------------------------------------------------------------------------------------ known, duds, audit
def test_known_objects_and_duds_are_mixed_in_unmarked_and_count_for_nothing(vetting: Vetting):
    kept(vetting, "rings", [8, *range(150, 158)])  # 8 was planted
    kept(vetting, "stars", range(160, 169))
    one = made(vetting, 100, known="rings", duds="stars", graders=2)
    items = list(vetting.queue(one.id, "grader-1"))
    mixed = [k for k, i in enumerate(items) if i.role in ("known", "dud")]
    assert len(mixed) == len(one.rows) // 9 and len(mixed) <= len(items) / 10
    assert mixed != [k for k, i in enumerate(vetting.queue(one.id, "grader-2")) if i.role in ("known", "dud")]
    for item in items:
        vetting.vote(one.id, "grader-1", item.key, "A" if item.role in ("known", "dud") else "X", seconds=1)
    roles = vetting.votes(one.id)["role"].value_counts().to_dict()
    assert roles == {"subject": 98, "known": len(one.known), "dud": len(one.duds)}
    assert len(vetting.matrix(one.id)[0]) == 98 == len(vetting.outcomes(one.id))
    rows, _, values = vetting.matrix(one.id, ("known", "dud"))
    assert set(rows.tolist()) == {*one.known.tolist(), *one.duds.tolist()} and (values == 3).all()
    entry = vetting.ledger.entries("vote")[0]
    assert "role" not in entry.payload


def test_who_comes_late_is_shown_no_more_known_objects_than_there_are_subjects_for(vetting: Vetting):
    kept(vetting, "rings", range(150, 170))
    one = made(vetting, 100, known="rings")
    assert len(one.known) == 10
    first = [i for i in vetting.queue(one.id, "grader-1") if i.role == "subject"]
    for item in first[:89]:
        vetting.vote(one.id, "grader-1", item.key, "X", seconds=1)
    late = list(vetting.queue(one.id, "grader-2"))
    assert sum(i.role == "subject" for i in late) == 9 and sum(i.role == "known" for i in late) == 1
    for item in first[89:]:
        vetting.vote(one.id, "grader-1", item.key, "X", seconds=1)
    assert list(vetting.queue(one.id, "grader-2")) == []  # nothing of theirs is left, so nothing is mixed in


def test_audit_draws_are_graded_like_the_others_and_told_apart_in_the_end(vetting: Vetting):
    one = made(vetting, 50, audit=10)
    items = list(vetting.queue(one.id, "grader-1"))
    assert {i.row for i in items if i.role == "audit"} == set(one.audit.tolist())
    for item in items:
        vetting.vote(one.id, "grader-1", item.key, "B", seconds=1)
    told = vetting.outcomes(one.id).set_index("row")["role"]
    assert set(told[told == "audit"].index) == set(one.audit.tolist()) and len(told) == 48 + len(one.audit)


# ------------------------------------------------------------------------------------------------------------ quota
def test_a_subject_with_its_graders_is_left_out_for_who_has_not_begun_it(vetting: Vetting):
    one = made(vetting, 30, graders=2)
    row = 11
    before = {who: list(vetting.queue(one.id, who)) for who in ("grader-1", "grader-2", "grader-3")}
    for who in ("grader-1", "grader-2"):
        vetting.vote(one.id, who, key_of(vetting, one, who, row), "A", seconds=1)
    assert row not in [i.row for i in vetting.queue(one.id, "grader-3")]
    for who in ("grader-1", "grader-2"):
        assert list(vetting.queue(one.id, who)) == before[who]
    assert [i for i in before["grader-3"] if i.row != row] == list(vetting.queue(one.id, "grader-3"))  # same places
    # who had it on their screen may still give it: it is over by one, and stays theirs
    key = next(i.key for i in before["grader-3"] if i.row == row)
    vetting.vote(one.id, "grader-3", key, "C", seconds=1)
    assert list(vetting.queue(one.id, "grader-3")) == before["grader-3"]
    assert vetting.outcomes(one.id)["n_votes"].tolist() == [3]
    for who in ("grader-1", "grader-2", "grader-3"):
        vetting.undo(one.id, who)
    assert list(vetting.queue(one.id, "grader-4")) != [] and row in [i.row for i in vetting.queue(one.id, "grader-4")]


def test_who_cannot_judge_has_looked_and_is_one_of_the_graders(vetting: Vetting):
    one = made(vetting, 10, graders=1)
    item = vetting.queue(one.id, "grader-1")[0]
    vetting.vote(one.id, "grader-1", item.key, "Q", seconds=1)
    assert item.row not in [i.row for i in vetting.queue(one.id, "grader-2")]
    told = vetting.outcomes(one.id).iloc[0]
    assert (told["n_votes"], told["n_cannot"], told["is_found"]) == (0, 1, False) and np.isnan(told["value"])
    rows, _, values = vetting.matrix(one.id)
    assert rows.tolist() == [item.row] and np.isnan(values).all()


def test_graders_at_once_leave_no_subject_short_and_one_after_the_other_none_over(vetting: Vetting):
    graders = [f"grader-{k}" for k in range(16)]

    def grade(one: Campaign, who: str, at_once: int) -> int:
        n, last = 0, None
        while buffer := vetting.queue(one.id, who).after(last, at_once, tallies.NOTHING):
            for item in buffer:
                vetting.vote(one.id, who, item.key, GRADES[(item.row + len(who)) % 4], seconds=1)
                n, last = n + 1, item.key
        return n

    one = made(vetting, 40, "At once", graders=3)
    with ThreadPoolExecutor(16) as pool:
        n = sum(pool.map(lambda who: grade(one, who, 2), graders))
    counts = np.bincount(vetting.votes(one.id)["row"], minlength=40)[one.rows]
    assert counts.min() >= 3 and counts.sum() == n
    assert all(len(vetting.queue(one.id, who).after(None, 9, tallies.NOTHING)) == 0 for who in graders)
    again = vetting_of(vetting.survey, vetting.ledger)
    assert votes_of(again, one) == votes_of(vetting, one)
    assert [again.standing(one.id, who) for who in graders] == [vetting.standing(one.id, who) for who in graders]
    one = made(vetting, 20, "In turn", graders=3)
    assert [grade(one, who, 9) for who in graders[:5]] == [18, 18, 18, 0, 0]


def shown_slowly(v: Vetting, one: Campaign, who: str) -> list[int]:
    """The places that are shown, by the words of `Shown`, place by place."""
    order = Arrangement(v.survey, one, who)
    items, block = len(one.items), order.BLOCK
    votes = v.votes(one.id)
    votes = votes[votes["via"] != "adjudication"]
    given = {int(r): n for r, n in votes[votes["role"] != "repeat"]["row"].value_counts().items()}
    mine = {i.place for i in v.queue(one.id, who) if v.state(one.id, who, i.key)["grade"] is not None}
    mine |= {i.place for i in v.queue(one.id, who) if v.state(one.id, who, i.key)["kept"]}
    place_of = {int(slot): place for place, slot in enumerate(order.slots)}
    first, real = set(), {p for p, slot in enumerate(order.slots) if slot < one.n_real}
    for place in real:
        if place in mine or given.get(int(one.items[order.slots[place]]), 0) < one.plan.graders:
            first.add(place)
    shown = set(first)
    for start in range(0, len(order.slots), block):
        places = range(start, min(start + block, len(order.slots)))
        probes = [p for p in places if one.n_real <= order.slots[p] < items]
        n_real = sum(p in real for p in places)
        share = sum(p in first for p in places) / n_real if n_real else 1.0
        begun = [p for p in probes if p in mine]
        more = max(int(np.ceil(len(probes) * share)) - len(begun), 0)
        shown |= {*begun, *[p for p in probes if p not in mine][:more]}
    for place, slot in enumerate(order.slots):
        if slot >= items:
            at = place_of[int(slot) - items]
            between = sum(p in first for p in range(at + 1, place))
            is_far = between >= 20 or place - at - 1 < 20
            if place in mine or (at in first and is_far):
                shown.add(place)
    return sorted(shown)


@pytest.mark.parametrize(("order", "seed"), [("seeded", 1), ("acquisition", 2)])
def test_what_is_shown_kept_up_step_by_step_is_what_the_words_say(
    vetting: Vetting, monkeypatch: pytest.MonkeyPatch, order: str, seed: int
):
    monkeypatch.setattr(Arrangement, "BLOCK", 32)
    kept(vetting, "rings", range(180, 195))
    one = made(vetting, 150, graders=1, repeats=0.3, known="rings", audit=10, order=order)
    if order == "acquisition":
        vetting.campaigns.extend(one.id, range(100, 140), [9, 10, 11], "greedy", "grader-0")
        one = vetting.campaigns.extend(one.id, range(20, 90), [], "greedy", "grader-0")
    rng = np.random.default_rng(seed)
    graders = ["grader-1", "grader-2"]
    for step in range(45):
        who = graders[rng.integers(2)]
        queue = vetting.queue(one.id, who)
        todo = queue.after(None, 25, tallies.NOTHING)
        what = rng.choice(["vote", "bulk", "undo", "redo"], p=[0.2, 0.4, 0.25, 0.15])
        try:
            if what == "vote" and todo:
                vetting.vote(one.id, who, todo[int(rng.integers(len(todo)))].key, "X", seconds=1)
            elif what == "bulk" and todo:
                some = {i.key: "X" for i in todo if rng.random() < 0.7}
                left = [i.key for i in todo if i.key not in some][:2]
                vetting.bulk(one.id, who, some, kept=left, seconds=1)
            elif what == "undo":
                vetting.undo(one.id, who)
            elif what == "redo":
                vetting.redo(one.id, who)
        except UsageError as error:
            assert "nothing of yours" in str(error) or "1 to" in str(error)
        if step % 6 == 0 or step > 42:
            for who in graders:
                assert [i.place for i in vetting.queue(one.id, who)] == shown_slowly(vetting, one, who)
    again = vetting_of(vetting.survey, vetting.ledger)
    for who in graders:
        assert list(again.queue(one.id, who)) == list(vetting.queue(one.id, who))
        assert again.marks(one.id, who)[1:] == vetting.marks(one.id, who)[1:]


# ------------------------------------------------------------------------------------------------------- the book
class SlowBook:
    """Every step that was ever taken, and whether it stands; everything else is counted from them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.undone: dict[str, list[dict[str, Any]]] = {}

    def do(self, who: str, looks: dict[str, str | None], seconds: float, via: str = "single") -> None:
        self.steps.append({"who": who, "looks": looks, "stands": True, "seconds": seconds, "via": via})
        if via != "adjudication":
            self.undone[who] = []

    def undo(self, who: str) -> list[str] | None:
        last = [s for s in self.steps if s["who"] == who and s["stands"] and s["via"] != "adjudication"]
        if not last:
            return None
        last[-1]["stands"] = False
        self.undone.setdefault(who, []).append(last[-1])
        return list(last[-1]["looks"])

    def redo(self, who: str) -> list[str] | None:
        if not self.undone.get(who):
            return None
        step = self.undone[who].pop()
        step["stands"] = True
        return list(step["looks"])

    def current(self, who: str, via: tuple[str, ...] = ("single", "mosaic")) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for step in self.steps:
            if step["who"] == who and step["stands"] and step["via"] in via:
                found |= step["looks"]
        return found


@pytest.mark.parametrize("seed", range(2))
def test_votes_kept_step_by_step_are_those_of_a_slow_book_at_any_date_and_after_a_restart(vetting: Vetting, seed: int):
    rng = np.random.default_rng(seed)
    one = made(vetting, 30, graders=9, repeats=0.3, name=f"Book {seed}")
    graders = ["grader-1", "grader-2", "grader-3"]
    items = {who: list(vetting.queue(one.id, who)) for who in graders}
    item_of = {i.key: i for who in graders for i in items[who]}
    slow, moments = SlowBook(), []
    for _ in range(70):
        who = graders[rng.integers(3)]
        what = rng.choice(["vote", "bulk", "undo", "redo", "settle"], p=[0.35, 0.2, 0.25, 0.12, 0.08])
        seconds = round(float(rng.uniform(0, 90)), 2)
        some = [items[who][k].key for k in rng.permutation(len(items[who]))[: rng.integers(2, 6)]]
        if what == "vote":
            grade = str(rng.choice(GRADES))
            vetting.vote(one.id, who, some[0], grade, seconds=seconds)
            slow.do(who, {some[0]: grade}, min(seconds, 60))
        elif what == "bulk":
            grades = {key: str(rng.choice(GRADES)) for key in some[1:]}
            vetting.bulk(one.id, who, grades, kept=some[:1], seconds=seconds)
            slow.do(who, {**grades, some[0]: None}, seconds, "mosaic")
        elif what == "settle":
            key = next(i.key for i in items[who] if i.role == "subject")
            grade = str(rng.choice(GRADES))
            vetting.adjudicate(one.id, item_of[key].row, grade, who=who)
            slow.do(who, {key: grade}, 0, "adjudication")
        else:
            step, expected = getattr(vetting, what), getattr(slow, what)(who)
            if expected is None:
                with pytest.raises(UsageError, match="nothing of yours"):
                    step(one.id, who)
            else:
                assert sorted(step(one.id, who)["keys"]) == sorted(expected)
        expected_votes = {
            (w, item_of[key].row, grade, item_of[key].role)
            for w in graders
            for key, grade in slow.current(w).items()
            if grade is not None
        }
        settled = {(w, item_of[key].row, g) for w in graders for key, g in slow.current(w, ("adjudication",)).items()}
        table = vetting.votes(one.id)
        own, over = table[table["via"] != "adjudication"], table[table["via"] == "adjudication"]
        assert set(zip(own["who"], own["row"], own["grade"], own["role"], strict=True)) == expected_votes
        assert set(zip(over["who"], over["row"], over["grade"], strict=True)) == settled and len(own) == len(
            expected_votes
        )
        last = vetting.ledger.entries(include_undone=True)[-1].at
        if not moments or moments[-1][0] != last:
            moments.append((last, votes_of(vetting, one)))
    for who in graders:
        current = slow.current(who)
        standing = vetting.standing(one.id, who)
        assert standing["n_done"] == sum(g is not None for g in current.values())
        assert standing["n_kept"] == sum(g is None for g in current.values())
        stands = [s for s in slow.steps if s["who"] == who and s["stands"]]
        assert standing["seconds"] == pytest.approx(sum(s["seconds"] for s in stands), abs=0.02)
        for item, state in zip(items[who], vetting.states(one.id, who, [i.key for i in items[who]]), strict=True):
            assert state["grade"] == current.get(item.key)
            assert state["kept"] == any(s["looks"].get(item.key, 0) is None for s in stands)
    again = vetting_of(vetting.survey, vetting.ledger)
    assert votes_of(again, one) == votes_of(vetting, one)
    for who in graders:
        assert again.standing(one.id, who) == vetting.standing(one.id, who)
        keys = [i.key for i in items[who]]
        assert again.states(one.id, who, keys) == vetting.states(one.id, who, keys)
    for at, expected in [moments[k] for k in rng.permutation(len(moments))[:12]]:
        assert votes_of(again, one, at) == expected
    pd.testing.assert_frame_equal(again.votes(one.id), vetting.votes(one.id))
    pd.testing.assert_frame_equal(again.outcomes(one.id), vetting.outcomes(one.id))


def test_a_campaign_s_past_is_replayed_to_a_date_outcomes_and_all(vetting: Vetting):
    one = made(vetting, 10)
    item = vetting.queue(one.id, "grader-1")[0]
    first = vetting.vote(one.id, "grader-1", item.key, "A", seconds=1)
    vetting.set_outcome(item.row, "confirmed", "a spectrum", who="grader-0")
    vetting.vote(one.id, "grader-1", item.key, "X", seconds=1)
    vetting.set_outcome(item.row, "rejected", "another spectrum", who="grader-0")
    assert vetting.outcomes(one.id)["outcome"].tolist() == ["rejected"]
    then = datetime.fromisoformat(first.at)
    assert votes_of(vetting, one, then) == {("grader-1", item.row, "A", "subject")}
    assert vetting.outcomes(one.id, first.at)["outcome"].tolist() == [""]
    assert vetting.matrix(one.id, at=first.at)[2].tolist() == [[3.0]] and len(vetting.votes(one.id, "2020-01-01")) == 0
    with pytest.raises(LedgerError, match="is not a date"):
        vetting.votes(one.id, "yesterday")


def test_what_another_process_votes_is_taken_in(vetting: Vetting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Reader, "SECONDS", 0.0)
    one = made(vetting, 10, graders=2)
    with Ledger(vetting.survey.path, vetting.survey.info.survey_id) as ledger:
        other = vetting_of(vetting.survey, ledger)
        for k, item in enumerate(vetting.queue(one.id, "grader-1")):
            (vetting, other)[k % 2].vote(one.id, "grader-1", item.key, "A", seconds=1)
        assert votes_of(vetting, one) == votes_of(other, one) and len(vetting.votes(one.id)) == 8
        other.undo(one.id, "grader-1")
        assert len(vetting.votes(one.id)) == 7 and vetting.redo(one.id, "grader-1")["keys"] == [item.key]


def test_a_vote_in_a_campaign_that_another_process_has_just_made_is_counted(
    vetting: Vetting, monkeypatch: pytest.MonkeyPatch
):
    assert vetting.campaigns.listed() == [] and vetting.last == 0
    monkeypatch.setattr(Reader, "SECONDS", 1e9)
    with Ledger(vetting.survey.path, vetting.survey.info.survey_id) as ledger:
        other = vetting_of(vetting.survey, ledger)
        one = made(other, 10)
        other.vote(one.id, "grader-1", other.queue(one.id, "grader-1")[0].key, "A", seconds=1)
        vetting._reader._at = float("-inf")  # votes are read, and nobody has asked for campaigns since
        assert vetting.last == other.last and votes_of(vetting, one) == votes_of(other, one) != set()


# ------------------------------------------------------------------------------------------------------------ voting
def test_a_vote_says_what_was_looked_at_for_how_long_and_that_nobody_else_may_know(vetting: Vetting):
    kept(vetting, "odd", range(20))
    plan = Plan("Odd ones", ABCX, idle_s=30)
    source = {"boundary": "bright", "version": 2, "run_id": "r", "map_id": "m"}
    one = vetting.campaigns.make(plan, np.arange(20), source, "grader-0")
    item = vetting.queue(one.id, "grader-1")[0]
    entry = vetting.vote(one.id, "grader-1", item.key, "B", interesting=True, seconds=31.234, looked=["context"])
    assert entry.payload == {
        "campaign": one.id,
        "grade": "B",
        "interesting": True,
        "seconds": 30.0,
        "seconds_raw": 31.23,
        "via": "single",
        "repeat": False,
        "looked": ["context"],
    }
    assert (entry.kind, entry.who, entry.subject_id) == ("vote", "grader-1", vetting.survey.subject_ids[item.row])
    assert (entry.run_id, entry.map_id, entry.boundary_id) == ("r", "m", "bright v2") and entry.code_version
    entry = vetting.vote(one.id, "grader-1", item.key, "B", seconds=1, seen={"run_id": "other", "map_id": None})
    assert (entry.run_id, entry.map_id) == ("other", None)
    table = vetting.votes(one.id)
    assert table["n_revisions"].tolist() == [1] and table["interesting"].tolist() == [False]
    assert (
        table["value"].tolist() == [2.0] and table["seconds"].tolist() == [1.0] and table["via"].tolist() == ["single"]
    )
    assert table["subject_id"].dtype == np.int64 and str(table["at"].dtype).startswith("datetime64")
    assert vetting.standing(one.id, "grader-1")["seconds"] == 31


def test_a_retry_after_a_lost_answer_is_no_second_step(vetting: Vetting):
    one = made(vetting)
    items = vetting.queue(one.id, "grader-1").window(0, 4)
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for _ in range(2):
        vetting.vote(one.id, "grader-1", items[0].key, "A", seconds=1, client_id=ids[0])
        vetting.bulk(one.id, "grader-1", {i.key: "X" for i in items[1:]}, seconds=3, client_id=ids[1])
    assert len(vetting.ledger.entries("vote")) == 2
    told = [vetting.undo(one.id, "grader-1", ids[2].upper()) for _ in range(2)]
    assert told[0] == told[1] and vetting.standing(one.id, "grader-1")["n_done"] == 1
    told = [vetting.redo(one.id, "grader-1", ids[3]) for _ in range(2)]
    assert told[0] == told[1] and vetting.standing(one.id, "grader-1")["n_done"] == 4
    with pytest.raises(LedgerError, match="stands for another decision"):
        vetting.vote(one.id, "grader-1", items[0].key, "C", seconds=1, client_id=ids[0])


def test_what_is_no_vote_is_refused_in_a_sentence_and_not_kept(vetting: Vetting):
    one = made(vetting)
    items = vetting.queue(one.id, "grader-1").window(0, 3)
    key = items[0].key
    vote = lambda **told: vetting.vote(one.id, "grader-1", key, **{"grade": "A", "seconds": 1, **told})  # noqa: E731
    for told, sentence in (
        ({"grade": "Z"}, '"Z" is no grade of A B C X; there are A, B, C, X, and Q'),
        ({"grade": "a"}, '"a" is no grade'),
        ({"grade": None}, "is no grade"),
        ({"seconds": -1}, "seconds must be a number from 0 to 86,400"),
        ({"seconds": float("nan")}, "seconds must be"),
        ({"seconds": True}, "seconds must be"),
        ({"seconds": "9"}, "seconds must be"),
        ({"via": "import"}, "'import' is no way to vote"),
        ({"via": "guess"}, "'guess' is no way to vote; there are single, mosaic"),
        ({"interesting": 1}, "interesting is a flag"),
    ):
        with pytest.raises(UsageError, match=sentence):
            vote(**told)
    for grades, left, sentence in (
        ({}, [], "1 to 1,000 different looks; this one has 0"),
        ({key: "A"}, [key], "different looks"),
        ({key: "Z"}, [], "is no grade"),
        (["A"], [], "gives a grade for each key"),
        ({key: "A"}, "abc", "a list of keys"),
    ):
        with pytest.raises(UsageError, match=sentence):
            vetting.bulk(one.id, "grader-1", grades, kept=left, seconds=1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must have a grade there, or be kept"):
        vetting.bulk(one.id, "grader-1", {key: "A"}, interesting=[items[1].key], seconds=1)
    with pytest.raises(UsageError, match='there is no campaign "none"'):
        vetting.vote("none", "grader-1", key, "A", seconds=1)
    with pytest.raises(LedgerError, match="not a UUID"):
        vote(client_id="7")
    vetting.campaigns.close(one.id, "grader-0")
    closed = "is closed; nothing in it can be changed"
    for call in (vote, lambda: vetting.bulk(one.id, "grader-1", {key: "A"}, seconds=1)):
        with pytest.raises(UsageError, match=closed):
            call()
    for step in (vetting.undo, vetting.redo):
        with pytest.raises(UsageError, match=closed):
            step(one.id, "grader-1")
    assert vetting.ledger.entries("vote") == []


def test_a_mosaic_is_one_entry_and_one_step_to_undo(vetting: Vetting):
    one = made(vetting, 60, repeats=0.2, graders=2)
    items = list(vetting.queue(one.id, "grader-1"))
    repeat = next(i for i in items if i.role == "repeat")
    some = [*items[:10], repeat]
    grades, left = {i.key: "X" for i in some[2:]}, [i.key for i in some[:2]]
    entry = vetting.bulk(one.id, "grader-1", grades, kept=left, interesting=left[:1], seconds=22.0)
    assert entry.subject_id is None and entry.payload["via"] == "mosaic" and entry.payload["seconds"] == 22
    assert len(entry.payload["grades"]) == 8 and len(entry.payload["repeats"]) == 1 and len(entry.payload["kept"]) == 2
    standing = vetting.standing(one.id, "grader-1")
    assert (standing["n_done"], standing["n_kept"], standing["seconds"]) == (9, 2, 22)
    queue = vetting.queue(one.id, "grader-1")
    assert [i.key for i in queue.after(None, 9, tallies.LEFT)] == left  # the second pass
    assert vetting.state(one.id, "grader-1", left[0]) == {
        "grade": None,
        "interesting": True,
        "tags": [],
        "note": "",
        "kept": True,
    }
    table = vetting.votes(one.id)
    assert len(table) == 9 and set(table["via"]) == {"mosaic"} and table["seconds"].sum() == pytest.approx(18)
    assert (vetting.marks(one.id, "grader-1")[2] or "").count("m") == 9
    vetting.vote(one.id, "grader-1", left[0], "B", seconds=4)
    assert vetting.state(one.id, "grader-1", left[0])["kept"] and vetting.marks(one.id, "grader-1")[2][0] == "g"
    assert vetting.undo(one.id, "grader-1")["keys"] == [left[0]]
    told = vetting.undo(one.id, "grader-1")
    assert sorted(told["keys"]) == sorted(i.key for i in some) and told["what"] == "took back 11 looks of a mosaic"
    assert len(vetting.votes(one.id)) == 0 and vetting.standing(one.id, "grader-1")["at"] is None
    assert vetting.standing(one.id, "grader-1") == standing | {"n_done": 0, "n_kept": 0, "seconds": 0, "at": None}
    assert vetting.redo(one.id, "grader-1")["what"] == "brought back 11 looks of a mosaic"
    assert vetting.standing(one.id, "grader-1") == standing
    paused = vetting.bulk(one.id, "grader-1", {items[20].key: "X", items[21].key: "X"}, seconds=500)
    assert paused.payload["seconds"] == 120 and paused.payload["seconds_raw"] == 500


def test_undo_takes_back_one_s_own_last_step_and_nobody_else_s(vetting: Vetting):
    one, other = made(vetting, graders=2), made(vetting, 30, "Others", graders=2)
    mine, theirs = (vetting.queue(one.id, who).window(0, 3) for who in ("grader-1", "grader-2"))
    for item in mine:
        vetting.vote(one.id, "grader-1", item.key, "A", seconds=1)
    vetting.vote(one.id, "grader-2", theirs[0].key, "B", seconds=1)
    vetting.vote(other.id, "grader-1", vetting.queue(other.id, "grader-1")[0].key, "C", seconds=1)
    vetting.adjudicate(one.id, mine[0].row, "X", who="grader-1")
    for item in reversed(mine):
        assert vetting.undo(one.id, "grader-1")["keys"] == [item.key]
    with pytest.raises(UsageError, match="there is nothing of yours to take back here"):
        vetting.undo(one.id, "grader-1")
    assert len(vetting.votes(one.id)) == 2 and len(vetting.votes(other.id)) == 1
    assert vetting.redo(one.id, "grader-1") == {"keys": [mine[0].key], "what": "brought back the grade A"}
    vetting.vote(one.id, "grader-1", mine[2].key, "C", seconds=1)
    with pytest.raises(UsageError, match="there is nothing of yours to bring back here"):
        vetting.redo(one.id, "grader-1")  # they went on
    # an owner takes a vote back: it is not the grader's to bring back
    entry = next(e for e in vetting.ledger.entries("vote") if e.who == "grader-2")
    vetting.ledger.undo(entry.id, who="grader-0")
    assert vetting.standing(one.id, "grader-2")["n_done"] == 0
    with pytest.raises(UsageError, match="bring back"):
        vetting.redo(one.id, "grader-2")


def test_sixteen_threads_of_one_grader_keep_one_vote_a_subject_and_one_undo_a_step(vetting: Vetting):
    one = made(vetting, 60, graders=16)
    items = list(vetting.queue(one.id, "grader-1"))
    barrier = threading.Barrier(16)

    def run(k: int) -> int:
        barrier.wait()
        for item in items[k::4]:  # four threads at each
            vetting.vote(one.id, "grader-1", item.key, GRADES[k % 5], seconds=1)
        n = 0
        for _ in range(5):
            n += len(vetting.undo(one.id, "grader-1")["keys"])
        return n

    with ThreadPoolExecutor(16) as pool:
        n_undone = sum(pool.map(run, range(16)))
    table = vetting.votes(one.id)
    assert n_undone == 80 and not table.duplicated(["who", "row"]).any()
    entries = vetting.ledger.entries("vote", include_undone=True)
    n_votes = sum(len(items[k::4]) for k in range(16))
    assert sum(e.kind == "vote" for e in entries) == n_votes and sum(e.undone for e in entries) == 80
    again = vetting_of(vetting.survey, vetting.ledger)
    assert votes_of(again, one) == votes_of(vetting, one)
    assert again.standing(one.id, "grader-1") == vetting.standing(one.id, "grader-1")


# --------------------------------------------------------------------------------------------------------- blindness
def with_scores(vetting: Vetting) -> str:
    survey, run_id = vetting.survey, "20260101-000000-score"
    values = np.arange(survey.n, dtype=np.float32)
    values[5] = np.nan
    columns: dict[str, Any] = dict.fromkeys(("image_score", "feature_score", "anomaly_score"), values)
    columns |= {"subject_id": survey.subject_ids, "split": ["unseen"] * survey.n, "quality": ["ok"] * survey.n}
    folder = survey.run_folder(run_id)
    folder.mkdir(parents=True)
    write_scores(folder, np.zeros((survey.n, 4), np.float32), columns)
    Run(run_id, "score", "0.1.0", {}, state="done", n_rows=survey.n).write(folder / "run.json")
    vetting.explore.look_again()
    return run_id


def test_two_graders_are_told_nothing_of_each_other_before_their_own_grade(vetting: Vetting):
    run_id = with_scores(vetting)
    one = made(vetting, 30, graders=2)
    row = int(one.rows[9])
    keys = {who: key_of(vetting, one, who, row) for who in ("grader-1", "grader-2")}
    vetting.vote(one.id, "grader-1", keys["grader-1"], "A", interesting=True, seconds=1)
    vetting.ledger.append("tag", {"tag": "ring"}, who="grader-1", subject_id=int(vetting.survey.subject_ids[row]))
    with pytest.raises(AccessError, match="this campaign is blind: grade the subject first"):
        vetting.told(one.id, "grader-2", keys["grader-2"])
    nothing = {"grade": None, "interesting": False, "tags": [], "note": "", "kept": False}
    assert vetting.state(one.id, "grader-2", keys["grader-2"]) == nothing
    vetting.bulk(one.id, "grader-2", {}, kept=[keys["grader-2"]], seconds=1)  # to look is not to grade
    with pytest.raises(AccessError):
        vetting.told(one.id, "grader-2", keys["grader-2"])
    vetting.vote(one.id, "grader-2", keys["grader-2"], "X", seconds=1)
    told = vetting.told(one.id, "grader-2", keys["grader-2"])
    others = {"who": "grader-1", "grade": "A", "interesting": True, "is_adjudication": False}
    assert told["votes"] == [others] and told["scores"]["anomaly_score"] == row
    assert told["volunteers"] is None and run_id in vetting.explore.runs()
    vetting.undo(one.id, "grader-2")
    with pytest.raises(AccessError):
        vetting.told(one.id, "grader-2", keys["grader-2"])
    vetting.campaigns.close(one.id, "grader-0")
    assert vetting.told(one.id, "grader-3", key_of(vetting, one, "grader-1", row) and _key(vetting, one, row))["votes"]


def _key(vetting: Vetting, one: Campaign, row: int) -> str:
    return Keys(vetting._secret, one.id, "grader-3").key(int(one.index_of([row])[0]))


def test_a_hidden_repeat_is_told_no_more_than_a_first_look(vetting: Vetting):
    one = made(vetting, 60, repeats=0.2)
    items = list(vetting.queue(one.id, "grader-1"))
    repeat = next(i for i in items if i.role == "repeat")
    first = next(i for i in items if i.row == repeat.row and i.role == "subject")
    vetting.vote(one.id, "grader-1", first.key, "A", seconds=1)
    assert vetting.told(one.id, "grader-1", first.key)["votes"] == []
    assert vetting.state(one.id, "grader-1", repeat.key)["grade"] is None
    with pytest.raises(AccessError, match="is blind"):
        vetting.told(one.id, "grader-1", repeat.key)


def test_where_a_campaign_is_not_blind_everything_is_told_at_once(vetting: Vetting):
    one = made(vetting, 30, graders=2, is_blind=False)
    row = int(one.rows[0])
    vetting.vote(one.id, "grader-1", key_of(vetting, one, "grader-1", row), "C", seconds=1)
    vetting.adjudicate(one.id, row, "B", who="grader-0")
    told = vetting.told(one.id, "grader-2", key_of(vetting, one, "grader-2", row))
    assert [(v["who"], v["grade"], v["is_adjudication"]) for v in told["votes"]] == [
        ("grader-1", "C", False),
        ("grader-0", "B", True),
    ]
    assert told["scores"] == {} and told["volunteers"] is None


def test_a_grade_changed_after_others_were_told_is_marked_and_the_one_before_is_the_independent_one(vetting: Vetting):
    one = made(vetting, 10, graders=2)
    row = int(one.rows[0])
    keys = {who: key_of(vetting, one, who, row) for who in ("grader-1", "grader-2")}
    for who, grade in (("grader-1", "A"), ("grader-2", "X")):
        vetting.vote(one.id, who, keys[who], grade, seconds=1)
    vetting.told(one.id, "grader-2", keys["grader-2"])
    vetting.vote(one.id, "grader-2", keys["grader-2"], "A", seconds=1)
    table = vetting.votes(one.id).set_index("who")
    assert table["is_informed"].to_dict() == {"grader-1": False, "grader-2": True}
    assert table["independent"].to_dict() == {"grader-1": "A", "grader-2": "X"}
    assert table["grade"].to_dict() == {"grader-1": "A", "grader-2": "A"}


def test_what_is_told_of_a_subject_marks_a_mosaic_too_and_not_its_hidden_repeat(vetting: Vetting):
    one = made(vetting, 60, repeats=0.2)
    items = list(vetting.queue(one.id, "grader-1"))
    repeat = next(i for i in items if i.role == "repeat")
    first = next(i for i in items if i.row == repeat.row and i.role == "subject")
    other = next(i for i in items if i.role == "subject" and i.row != first.row)
    vetting.vote(one.id, "grader-1", first.key, "A", seconds=1)
    vetting.told(one.id, "grader-1", first.key)
    vetting.vote(one.id, "grader-1", repeat.key, "B", seconds=1)  # what they said of it the first time is all they know
    vetting.bulk(one.id, "grader-1", {first.key: "X", other.key: "X"}, seconds=1)
    table = vetting.votes(one.id).set_index(["row", "role"])
    assert table.loc[(repeat.row, "repeat"), "independent"] == "B"
    assert table.loc[(first.row, "subject"), ["grade", "is_informed", "independent"]].tolist() == ["X", True, "A"]
    assert not table.loc[(other.row, "subject"), "is_informed"]
    vetting.told(one.id, "grader-1", repeat.key)
    vetting.vote(one.id, "grader-1", repeat.key, "C", seconds=1)
    assert vetting.votes(one.id).set_index("role").loc["repeat", ["is_informed", "independent"]].tolist() == [True, "B"]


def test_a_history_leaves_out_what_is_blind_for_whoever_asks(vetting: Vetting):
    one = made(vetting, 60, graders=2, repeats=0.2)
    items = list(vetting.queue(one.id, "grader-1"))
    repeat = next(i for i in items if i.role == "repeat")
    subject_id = int(vetting.survey.subject_ids[repeat.row])
    for key, grade in ((key_of(vetting, one, "grader-1", repeat.row), "A"), (repeat.key, "B")):
        vetting.vote(one.id, "grader-1", key, grade, seconds=1, interesting=grade == "A")
    vetting.set_outcome(repeat.row, "confirmed", "a spectrum", who="grader-0")
    vetter = {who: Person(who, "vetter") for who in ("grader-1", "grader-2")}

    def said(person: Person) -> list[str]:
        return [f"{e.who}: {e.what}" for e in vetting.history(subject_id, person)]

    def blind(*people: Person) -> list[bool]:
        return [vetting.is_blind_to(subject_id, person) for person in people]

    others = Person("grader-0", "owner"), Person("grader-3", "viewer")
    assert blind(*vetter.values(), *others) == [False, True, False, False]
    outcome = "grader-0: confirmed by “a spectrum”"
    assert said(vetter["grader-1"]) == ["grader-1: graded it A, interesting in “Odd ones”", outcome]
    assert said(vetter["grader-2"]) == [outcome] == said(Person("grader-0", "owner"))
    vetting.vote(one.id, "grader-2", key_of(vetting, one, "grader-2", repeat.row), "X", seconds=1)
    vetting.undo(one.id, "grader-1")  # the repeat
    vetting.undo(one.id, "grader-1")
    events = vetting.history(subject_id, vetter["grader-2"])
    assert [(e.who, e.kind, e.is_undone) for e in events] == [
        ("grader-1", "vote", True),
        ("grader-0", "outcome", False),
        ("grader-2", "vote", False),
    ]
    assert events[0].at == vetting.ledger.entry(events[0].entry or 0).at
    assert blind(*vetter.values(), *others) == [True, False, False, False]  # grader-1's own was undone
    vetting.campaigns.close(one.id, "grader-0")
    assert blind(*vetter.values(), *others) == [False] * 4
    assert "grader-1: graded it again, unknowing, B in “Odd ones”" in said(vetter["grader-2"])
    assert vetting.history(int(vetting.survey.subject_ids[199]), vetter["grader-2"]) == []


def test_tags_and_notes_in_a_queue_are_one_s_own(vetting: Vetting):
    one, notes = made(vetting, 10, graders=2), Notes(vetting.ledger, vetting.explore)
    row = int(one.rows[0])
    key, subject_id = key_of(vetting, one, "grader-1", row), int(vetting.survey.subject_ids[row])
    notes.add_tag(subject_id, "arc", who="grader-2")
    notes.add_note(subject_id, "theirs", who="grader-2")
    ring = vetting.ledger.append("tag", {"tag": "ring"}, who="grader-1", subject_id=subject_id)
    vetting.ledger.append("tag", {"tag": "arc"}, who="grader-1", subject_id=subject_id)
    note = notes.add_note(subject_id, "a ring", who="grader-1")
    edit = notes.edit_note(note.id, "a blue ring", who="grader-1")
    state = vetting.state(one.id, "grader-1", key)
    assert state["tags"] == ["ring", "arc"] and state["note"] == "a blue ring"
    vetting.ledger.undo(ring.id, who="grader-1")
    notes.undo(edit.id, who="grader-1")
    state = vetting.state(one.id, "grader-1", key)
    assert state["tags"] == ["arc"] and state["note"] == "a ring"
    notes.delete_note(note.id, who="grader-1")
    assert vetting.state(one.id, "grader-1", key)["note"] == ""
    assert vetting_of(vetting.survey, vetting.ledger).state(one.id, "grader-1", key) == vetting.state(
        one.id, "grader-1", key
    )


# ----------------------------------------------------------------------------------------------------------- results
def test_outcomes_count_votes_flags_and_who_could_not_judge_by_the_rule(vetting: Vetting):
    given = {3: "AAB", 4: "AXX", 5: "BCQ", 6: "QQQ", 9: "XXX"}
    expected = {"mean": [3], "median": [3], "any": [3, 4, 5], "majority": [3]}
    for rule, found in expected.items():
        one = made(vetting, 30, rule, graders=3, outcome=rule)
        for row, grades in given.items():
            for k, grade in enumerate(grades):
                who = f"grader-{k}"
                flag = row == 9 and k < 2
                vetting.vote(one.id, who, key_of(vetting, one, who, row), grade, seconds=1, interesting=flag)
        told = vetting.outcomes(one.id).set_index("row")
        assert told.index[told["is_found"]].tolist() == found
        assert told["n_votes"].to_dict() == {3: 3, 4: 3, 5: 2, 6: 0, 9: 3}
        assert told["n_found_votes"].to_dict() == {3: 3, 4: 1, 5: 1, 6: 0, 9: 0}
        assert told["n_cannot"].to_dict() == {3: 0, 4: 0, 5: 1, 6: 3, 9: 0}
        assert told["n_interesting"].to_dict() == {3: 0, 4: 0, 5: 0, 6: 0, 9: 2}
        assert told.index[told["is_disputed"]].tolist() == [4, 5]
        assert told.index[told["value"].isna()].tolist() == [6]
        assert (told["adjudicated"] == "").all() and (told["outcome"] == "").all()


def test_an_adjudication_decides_and_is_in_no_consensus(vetting: Vetting):
    one = made(vetting, 30, graders=2)
    row = int(one.rows[4])
    for who, grade in (("grader-1", "A"), ("grader-2", "X")):
        vetting.vote(one.id, who, key_of(vetting, one, who, row), grade, seconds=1)
    vetting.adjudicate(one.id, row, "C", who="grader-0")
    last = vetting.adjudicate(one.id, row, "B", who="grader-3", seconds=9)
    told = vetting.outcomes(one.id).iloc[0]
    assert (told["adjudicated"], told["is_found"], told["value"], told["n_votes"]) == ("B", True, 1.5, 2)
    assert vetting.matrix(one.id)[2].tolist() == [[3, 0]]
    assert vetting.votes(one.id)["via"].tolist() == ["single", "single", "adjudication", "adjudication"]
    vetting.ledger.undo(last.id, who="grader-3")
    told = vetting.outcomes(one.id).iloc[0]
    assert (told["adjudicated"], told["is_found"]) == ("C", False)
    alone = int(one.rows[5])
    vetting.adjudicate(one.id, alone, "A", who="grader-0")  # nobody graded it
    told = vetting.outcomes(one.id).set_index("row").loc[alone]
    assert (told["is_found"], told["n_votes"], told["adjudicated"]) == (True, 0, "A")
    for bad in (199, 7):
        with pytest.raises(UsageError, match='"Odd ones" grades no such subject'):
            vetting.adjudicate(one.id, bad, "A", who="grader-0")


def test_a_later_outcome_is_the_subject_s_whatever_the_campaign_and_can_be_opened_again(vetting: Vetting):
    ones = [made(vetting, 10, name) for name in ("One", "Two")]
    for one in ones:
        item = vetting.queue(one.id, "grader-1")[0]
        vetting.vote(one.id, "grader-1", key_of(vetting, one, "grader-1", 3), "A", seconds=1)
    vetting.set_outcome(3, "confirmed", "  a   spectrum ", who="grader-0")
    assert [vetting.outcomes(one.id)["outcome"].tolist() for one in ones] == [["confirmed"], ["confirmed"]]
    assert vetting.ledger.entries("outcome")[0].payload == {"outcome": "confirmed", "source": "a spectrum"}
    vetting.set_outcome(3, "rejected", "another", who="grader-0")
    last = vetting.set_outcome(3, "open", "the line was noise", who="grader-0")
    assert vetting.outcomes(ones[0].id)["outcome"].tolist() == [""]
    vetting.ledger.undo(last.id, who="grader-0")
    assert vetting.outcomes(ones[0].id)["outcome"].tolist() == ["rejected"]
    for told, sentence in (
        ((3, "maybe", "x"), "'maybe' is no outcome; there are confirmed, rejected, open"),
        ((3, "open", " "), "1 to 300 characters"),
        ((3, "open", "x" * 301), "1 to 300 characters"),
        ((200, "open", "x"), "outside the survey's rows"),
    ):
        with pytest.raises(UsageError, match=sentence):
            vetting.set_outcome(*told, who="grader-0")
    assert item.row >= 0


def test_who_is_withdrawn_meanwhile_is_shown_and_counted_no_more(vetting: Vetting):
    one, survey = made(vetting, 30, graders=2), vetting.survey
    first, second = vetting.queue(one.id, "grader-1").window(0, 2)
    vetting.vote(one.id, "grader-1", first.key, "A", seconds=1)
    table = pq.read_table(survey.path / "subjects.parquet")
    i = table.schema.get_field_index("is_withdrawn")
    gone = {7, first.row, second.row}
    column = pa.array([k in gone for k in range(survey.n)], pa.bool_())
    pq.write_table(table.set_column(i, table.schema.field(i), column), survey.path / "subjects.parquet")
    assert survey.refresh()
    assert (
        len(vetting.outcomes(one.id)) == 0 and len(vetting.matrix(one.id)[0]) == 0 and len(vetting.votes(one.id)) == 1
    )
    rows = [i.row for i in vetting.queue(one.id, "grader-1")]
    assert second.row not in rows and first.row in rows  # what one has graded stays where it was


def test_votes_of_other_tools_count_as_their_graders_and_are_not_theirs_to_undo(vetting: Vetting):
    one = made(vetting, 10, graders=2)
    for row, grade, more in ((3, "A", {"seconds": 4.0}), (4, "Q", {}), (5, "Z", {}), (100, "A", {})):
        told = {"campaign": one.id, "grade": grade, "via": "import", "grader": "grader-1", "file": "votes.csv", **more}
        subject_id = int(vetting.survey.subject_ids[row])
        vetting.ledger.append("vote", told, who="grader-0", subject_id=subject_id)
    table = vetting.votes(one.id).set_index("row")
    assert table["who"].to_dict() == {3: "grader-1", 4: "grader-1"}  # what is no grade or no subject is passed over
    assert table["seconds"].isna().to_dict() == {3: False, 4: True} and set(table["via"]) == {"import"}
    assert vetting.standing(one.id, "grader-1") == {"n_done": 2, "n_all": 8, "n_kept": 0, "seconds": 4, "at": None}
    with pytest.raises(UsageError, match="nothing of yours"):
        vetting.undo(one.id, "grader-1")
    assert vetting.matrix(one.id)[1] == ["grader-1"]


def test_entries_of_another_making_are_passed_over(vetting: Vetting):
    one = made(vetting, 10)
    subject_id = int(vetting.survey.subject_ids[3])
    for told in (
        {"seconds": 2.0},
        {"campaign": one.id},
        {"campaign": one.id, "via": "dream", "grade": "A"},
        {"campaign": "0" * 12, "via": "single", "grade": "A"},
        {"campaign": one.id, "via": "single", "grade": "A", "seconds": "long"},
    ):
        vetting.ledger.append("vote", told, who="grader-1", subject_id=subject_id)
    vetting.ledger.append("vote", {"campaign": one.id, "via": "mosaic", "kept": 3}, who="grader-1")
    assert len(vetting.votes(one.id)) == 0 and vetting.standing(one.id, "grader-1")["n_done"] == 0


def test_an_empty_campaign_has_results_of_the_same_form(vetting: Vetting):
    one = made(vetting, 10)
    rows, graders, values = vetting.matrix(one.id)
    assert rows.tolist() == [] and graders == [] and values.shape == (0, 0)
    assert len(vetting.votes(one.id)) == 0 and len(vetting.outcomes(one.id)) == 0
    vetting.vote(one.id, "grader-1", vetting.queue(one.id, "grader-1")[0].key, "A", seconds=1)
    names = [vetting.votes(one.id).columns.tolist(), vetting.outcomes(one.id).columns.tolist()]
    vetting.undo(one.id, "grader-1")
    assert names == [vetting.votes(one.id).columns.tolist(), vetting.outcomes(one.id).columns.tolist()]


def test_the_version_of_a_queue_changes_where_other_looks_are_shown(vetting: Vetting):
    one = made(vetting, 30, graders=1)
    version, n, marks = vetting.marks(one.id, "grader-1")
    assert (n, marks) == (28, "." * 28) and vetting.marks(one.id, "grader-1", False) == (version, 28, None)
    item = vetting.queue(one.id, "grader-1")[4]
    vetting.vote(one.id, "grader-1", item.key, "A", seconds=1)
    assert vetting.marks(one.id, "grader-1") == (version, 28, "....g" + "." * 23)
    other = next(i for i in vetting.queue(one.id, "grader-2") if i.row != item.row)
    vetting.vote(one.id, "grader-2", other.key, "A", seconds=1)
    changed, n, _ = vetting.marks(one.id, "grader-1")
    assert n == 27 and changed != version
    last = vetting.last
    assert vetting.last == last
    vetting.undo(one.id, "grader-2")
    assert vetting.last > last and vetting.marks(one.id, "grader-1")[1] == 28


def test_a_long_ledger_is_read_in_parts(vetting: Vetting, monkeypatch: pytest.MonkeyPatch):
    one = made(vetting, 30, graders=2)
    for item in vetting.queue(one.id, "grader-1"):
        vetting.vote(one.id, "grader-1", item.key, "A", seconds=1)
    vetting.undo(one.id, "grader-1")
    monkeypatch.setattr(service, "AT_ONCE", 7)
    again = vetting_of(vetting.survey, vetting.ledger)
    assert votes_of(again, one) == votes_of(vetting, one) and len(again.votes(one.id)) == 27
    assert isinstance(again.queue(one.id, "grader-1")[0], Item)
