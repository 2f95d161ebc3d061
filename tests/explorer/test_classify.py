"""Grids for our own volunteers: what is drawn, what is kept, who may come in. The page: tests/ui/test_classify.py."""

import asyncio
import http.client
import io
import json
import math
import struct
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from explorer import cli
from explorer.app import only_server
from explorer.classify import MAX_BODY, Door, Rates, classify_routes
from explorer.errors import AccessError, SurveyError, UsageError
from explorer.ingest.shown import shown
from explorer.ledger import Ledger
from explorer.server import Access, hosts_of
from explorer.services import classify as service
from explorer.services.classify import (
    KIND,
    AnsweredError,
    Classify,
    Grid,
    Settings,
    Tally,
    Visitor,
    entropy,
    training_share,
)
from explorer.services.invitations import Invitations
from explorer.services.originals import Originals
from explorer.survey import Survey
from explorer.votes import CHOSEN, GOLD, GOLD_SCHEMA, GRID_TASK
from models.images import ImageError, Linear, Stretch, shown_image, write_linear
from models.swap import skill
from tests.explorer.making import make
from tests.explorer.small_survey import write_survey
from tests.galaxies import write_fits_galaxies, write_galaxies

ANN, BEN = Visitor("a" * 16), Visitor("b" * 16)
Making = Callable[..., Classify]


def flag(path: Path, **columns: list[int]) -> None:
    """Set yes-or-no columns of a survey true in these rows."""
    table = pq.read_table(path / "subjects.parquet")
    for name, rows in columns.items():
        values = np.isin(np.arange(len(table)), rows)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values))
    pq.write_table(table, path / "subjects.parquet")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Making]:
    """``made(n, settings, is_known=[…], is_withdrawn=[…])``: the service on a survey of `n`; once more: a restart."""
    opened: list[Any] = []

    def make_one(n: int = 40, settings: Settings | None = None, **columns: list[int]) -> Classify:
        path = tmp_path / "survey"
        if not path.exists():
            write_survey(path, n, size=8)
            flag(path, **columns)
        survey = Survey.open(path)
        ledger = Ledger(path, survey.info.survey_id)
        classify = Classify(survey, ledger, settings, seed=1)
        opened.extend([classify, ledger, survey])
        return classify

    yield make_one
    for each in opened:
        each.close()


def said(classify: Classify, grid: Grid, chosen: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """What a page sends."""
    told = {"grid": classify.seal(grid), "id": str(uuid.uuid4()), "chosen": chosen or [], "tags": {}, "seconds": 1.5}
    return told | {"cell_seconds": {}} | more


def next_grid(classify: Classify, visitor: Visitor) -> Grid:
    grid = classify.grid(visitor)
    assert grid is not None
    return grid


# --------------------------------------------------------------------------------------------------------- the draw
def test_nobody_sees_a_subject_twice_and_the_last_grid_is_smaller(made: Making) -> None:
    classify, seen = made(40), []
    for n in (16, 16, 8):
        grid = next_grid(classify, ANN)
        assert len(set(grid.rows.tolist())) == len(grid.rows) == n
        seen += grid.rows.tolist()
        classify.answer(ANN, said(classify, grid))
    assert sorted(seen) == list(range(40))
    assert classify.grid(ANN) is None
    assert len(next_grid(classify, BEN).rows) == 16


def test_a_subject_retires_after_as_many_volunteers_as_the_settings_say(
    made: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FRESH", -1.0)
    classify = made(16, Settings(retire_after=2))
    for visitor in (ANN, BEN):
        classify.answer(visitor, said(classify, next_grid(classify, visitor)))
    assert classify.grid(Visitor("c" * 16)) is None
    progress = {"n_subjects": 16, "n_retired": 16, "n_views": 32, "n_needed": 32, "n_volunteers": 2}
    assert classify.standing(ANN)["progress"] == progress
    with pytest.raises(UsageError, match="cannot retire after 0 volunteers; 1 is the least"):
        Settings(retire_after=0)


def test_withdrawn_subjects_are_not_shown(made: Making) -> None:
    classify = made(20, is_withdrawn=[0, 5, 19], is_known=[5])
    grid = next_grid(classify, ANN)
    classify.answer(ANN, said(classify, grid))
    rest = next_grid(classify, ANN)
    assert sorted([*grid.rows.tolist(), *rest.rows.tolist()]) == [r for r in range(20) if r not in (0, 5, 19)]


def test_every_open_subject_is_as_likely_by_trial_and_by_a_look_at_all(made: Making) -> None:
    classify = made(100, is_withdrawn=list(range(90, 100)))
    classify.standing(ANN)  # who is withdrawn is looked up
    for taken in (set(), set(range(16, 90))):  # by trial; the rest by a look at all
        counts, n_open = np.zeros(100), 90 - len(taken)
        n_each = min(16, n_open // 2)
        for _ in range(600):
            drawn = classify._random(n_each, taken)
            assert len(set(drawn)) == n_each
            counts[drawn] += 1
        hit = counts[counts > 0]
        assert len(hit) == n_open
        expected = 600 * n_each / n_open
        spread = ((hit - expected) ** 2).sum() / (expected * (1 - n_each / n_open))
        assert spread < n_open + 5 * np.sqrt(2 * n_open)  # χ² of n − 1 degrees of freedom


def test_a_reload_brings_the_same_grid_and_two_held_ones_share_nothing(made: Making) -> None:
    classify = made(64)
    first = next_grid(classify, ANN)
    assert next_grid(classify, ANN).id == first.id
    second = classify.grid(ANN, [classify.seal(first)])
    assert second is not None
    assert not set(first.rows.tolist()) & set(second.rows.tolist())
    held = [first, second]
    for _ in range(2):
        found = classify.grid(ANN, [classify.seal(grid) for grid in held])
        assert found is not None
        held.append(found)
    assert sorted(row for grid in held for row in grid.rows.tolist()) == list(range(64))


def test_a_grid_in_flight_outlives_a_restart(made: Making) -> None:
    before = made(48)
    first = next_grid(before, ANN)
    second = before.grid(ANN, [before.seal(first)])
    assert second is not None
    after = made()
    after.answer(ANN, said(after, first, [3]))
    third = after.grid(ANN, [after.seal(second)])
    assert third is not None
    assert sorted([*first.rows.tolist(), *second.rows.tolist(), *third.rows.tolist()]) == list(range(48))


def test_a_survey_without_images_has_nothing_to_show(made: Making, tmp_path: Path) -> None:
    classify = made(4)
    (tmp_path / "survey" / "images.zarr").rename(tmp_path / "gone")
    with pytest.raises(UsageError, match="no images to look at"):
        classify.grid(ANN)


# ---------------------------------------------------------------------------------------------------------- answers
def test_an_answer_is_one_entry_as_the_contract_has_it(made: Making) -> None:
    classify = made(40)
    visitor = Visitor("c" * 16, "feedbeef", 5)
    grid = next_grid(classify, visitor)
    more = {"tags": {"3": [" #Green  Ring ", "green ring", "odd"], "4": []}, "cell_seconds": {"3": 1.234}}
    told = classify.answer(visitor, said(classify, grid, [7, 3], **more))
    (entry,) = classify.ledger.entries(KIND)
    assert entry.who == "volunteer:cccccccccccccccc"
    assert entry.payload == {
        "grid_id": str(grid.id),
        "task": "T0",
        "subjects": [str(588848901523702001 + row) for row in grid.rows.tolist()],
        "chosen": [3, 7],
        "tags": {"3": ["green ring", "odd"]},
        "training": [],
        "seconds": 1.5,
        "cell_seconds": {"3": 1.23},
        "link": "feedbeef",
        "open_link": True,
        "level": 1,
    }
    assert (told["n_grids"], told["n_galaxies"], told["level"], told["level_up"], told["feedback"]) == (
        1,
        16,
        1,
        False,
        [],
    )


def test_a_retry_is_no_second_vote_and_a_second_answer_is_refused(made: Making) -> None:
    classify = made(40)
    told = said(classify, next_grid(classify, ANN), [1])
    first = classify.answer(ANN, told)
    assert classify.answer(ANN, told) == first
    with pytest.raises(AnsweredError, match="answered already"):
        classify.answer(ANN, told | {"id": str(uuid.uuid4()), "chosen": [2]})
    assert len(classify.ledger.entries(KIND)) == 1
    again = made()  # the answer was lost, and the server started anew
    assert again.answer(ANN, told)["n_grids"] == 1
    assert len(again.ledger.entries(KIND)) == 1


def test_of_many_answers_to_one_grid_at_once_one_is_kept(made: Making) -> None:
    classify = made(40)
    grid = next_grid(classify, ANN)

    def one(cell: int) -> bool:
        try:
            classify.answer(ANN, said(classify, grid, [cell]))
        except AnsweredError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1
    assert len(classify.ledger.entries(KIND)) == 1


def test_undo_takes_the_last_grid_back_and_brings_it_again(made: Making) -> None:
    classify = made(40)
    with pytest.raises(UsageError, match="no grid of yours to take back"):
        classify.undo(ANN)
    grid = next_grid(classify, ANN)
    classify.answer(ANN, said(classify, grid, [2], tags={"2": ["ring"]}))
    told = classify.undo(ANN)
    assert (told["chosen"], told["tags"], told["n_grids"]) == ([2], {"2": ["ring"]}, 0)
    assert classify.ledger.entries(KIND) == []
    brought = next_grid(classify, ANN)
    assert (brought.id, brought.rows.tolist()) == (grid.id, grid.rows.tolist())
    classify.answer(ANN, said(classify, classify.unsealed(told["grid"], ANN), [5]))
    assert [entry.payload["chosen"] for entry in classify.ledger.entries(KIND)] == [[5]]


def slow_tally(survey: Survey, ledger: Ledger) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Distinct volunteers per row who saw it, and who chose it at first, and standing grids per volunteer."""
    firsts: dict[tuple[str, int], bool] = {}
    grids: Counter[str] = Counter()
    for entry in ledger.entries(KIND):
        grids[entry.who] += 1
        for cell, row in enumerate(survey.rows_of([int(i) for i in entry.payload["subjects"]]).tolist()):
            if cell not in entry.payload["training"]:
                firsts.setdefault((entry.who, row), cell in entry.payload["chosen"])
    views, chosen = np.zeros(survey.n, int), np.zeros(survey.n, int)
    for (_, row), is_chosen in firsts.items():
        views[row] += 1
        chosen[row] += is_chosen
    return views, chosen, grids


def test_the_tally_is_that_of_a_plain_count_after_undos_of_undos(made: Making) -> None:
    classify = made(60, is_known=[0, 1, 2, 3], is_withdrawn=[9])
    rng = np.random.default_rng(4)
    visitors = [Visitor(f"{i:016x}") for i in range(6)]
    for _ in range(60):
        visitor = visitors[rng.integers(6)]
        if rng.random() < 0.3:
            entries = classify.ledger.entries((KIND, "undo"), include_undone=True)
            standing = [entry for entry in entries if not entry.undone]
            if standing:
                classify.ledger.undo(standing[rng.integers(len(standing))].id, who=visitor.who)
        elif grid := classify.grid(visitor):
            classify.answer(visitor, said(classify, grid, rng.permutation(len(grid.rows))[:3].tolist()))
    views, chosen, grids = slow_tally(classify.survey, classify.ledger)
    for tally in (classify._tally, Tally(classify.survey, classify.ledger)):
        tally.read()
        assert tally.n_views.tolist() == views.tolist()
        assert tally.n_chosen.tolist() == chosen.tolist()
        assert {who: len(p.grids) for who, p in tally.people.items() if p.grids} == dict(grids)
    assert 0 < views.sum() < 16 * 60


def test_progress_has_every_answer_at_once_and_is_that_of_a_plain_count(made: Making) -> None:
    classify = made(60, Settings(retire_after=3), is_known=[3, 9, 20])
    people = [Visitor(f"{i:016x}") for i in range(3)]
    n_counted = classify.standing(people[0])["progress"]["n_subjects"]
    assert n_counted == 57
    for step in range(9):
        visitor = people[step % 3]
        told = classify.answer(visitor, said(classify, next_grid(classify, visitor)))
        if step == 7:
            told = classify.undo(visitor)
        views, *_ = slow_tally(classify.survey, classify.ledger)
        seen = np.minimum(views, 3)
        for progress in (told["progress"], classify.standing(people[0])["progress"]):
            assert (progress["n_views"], progress["n_retired"]) == (seen.sum(), np.count_nonzero(seen == 3))
    classify._fresh = (-math.inf, *classify._fresh[1:])  # counted anew
    assert classify.standing(people[0])["progress"]["n_views"] == seen.sum() > 0


def test_entries_of_another_making_do_no_harm(made: Making) -> None:
    classify = made(40)
    classify.ledger.append(KIND, {"whatever": 1}, who="somebody")
    told = {"grid_id": "g", "subjects": ["x"], "chosen": [], "training": []}
    classify.ledger.append(KIND, told, who="somebody")
    classify.ledger.append(KIND, told | {"subjects": ["1"], "training": [0, 7]}, who="somebody")  # no such subject
    assert classify.standing(ANN)["n_grids"] == 0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"grid": "00"}, "not a grid that was given to you"),
    ({"grid": None}, "not a grid that was given to you"),
    ({"id": "1"}, "a UUID of its own"),
    ({"id": 7}, "a UUID of its own"),
    ({"chosen": [16]}, "a list of cells from 0 to 15"),
    ({"chosen": [True]}, "a list of cells"),
    ({"chosen": "3"}, "a list of cells"),
    ({"tags": {"16": ["ring"]}}, "cells are named from 0 to 15"),
    ({"tags": {"3": "ring"}}, "at most 5 tags, each a text"),
    ({"tags": {"3": [1]}}, "at most 5 tags, each a text"),
    ({"tags": {"3": list("abcdef")}}, "at most 5 tags"),
    ({"tags": {"3": ["x" * 41]}}, "at most 40 characters"),
    ({"tags": {"3": ["a\u202eb"]}}, "nothing that cannot be seen"),
    ({"seconds": -1}, "from 0 to 86,400"),
    ({"seconds": float("nan")}, "from 0 to 86,400"),
    ({"seconds": "3"}, "seconds must be a number"),
    ({"cell_seconds": {"3": 1e9}}, "from 0 to 86,400"),
    ({"cell_seconds": [1]}, "cells are named"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_an_answer_that_is_not_one_is_refused_with_a_sentence(
    made: Making, wrong: dict[str, Any], sentence: str
) -> None:
    classify = made(40)
    told = said(classify, next_grid(classify, ANN))
    with pytest.raises(UsageError, match=sentence):
        classify.answer(ANN, told | wrong)
    with pytest.raises(UsageError, match="an answer is an object"):
        classify.answer(ANN, [told])  # type: ignore[arg-type]
    assert classify.ledger.entries(KIND) == []


def test_a_seal_is_good_for_whom_it_was_made_and_cannot_be_changed(made: Making) -> None:
    classify = made(40)
    seal = classify.seal(next_grid(classify, ANN))
    with pytest.raises(UsageError, match="not a grid that was given to you"):
        classify.unsealed(seal, BEN)
    for at in range(0, len(seal), 7):
        forged = seal[:at] + ("0" if seal[at] != "0" else "1") + seal[at + 1 :]
        with pytest.raises(UsageError, match="not a grid that was given to you"):
            classify.unsealed(forged, ANN)


def test_nobody_and_no_link_answers_more_than_it_may(made: Making) -> None:
    classify = made(80, Settings(most_grids=1))
    classify.answer(ANN, said(classify, next_grid(classify, ANN)))
    with pytest.raises(AccessError, match="1 grids, as many as one person may"):
        classify.grid(ANN)
    linked = [Visitor(f"{i:016x}", "feedbeef", 2) for i in range(3)]
    grids = [next_grid(classify, visitor) for visitor in linked]
    for visitor, grid in zip(linked[:2], grids, strict=False):
        classify.answer(visitor, said(classify, grid))
    classify.undo(linked[0])  # it stays a row of the ledger
    with pytest.raises(AccessError, match="this link has brought 2 grids, all that it may"):
        classify.answer(linked[2], said(classify, grids[2]))


# --------------------------------------------------------------------------------------------------------- training
def test_training_is_as_frequent_as_space_warps_had_it() -> None:
    assert [training_share(n) for n in (0, 19, 20, 39, 40, 59, 60, 5000)] == [0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]


def test_training_subjects_tell_how_it_went_and_are_kept_out_of_the_count(made: Making) -> None:
    known, duds = list(range(12)), list(range(12, 24))
    classify = made(1200, is_known=known)
    survey = classify.survey
    classify.ledger.save_selection("Duds", np.array(duds), survey.subject_ids, who="me")
    with_training, feedback = 0, []
    for _ in range(20):
        grid = next_grid(classify, ANN)
        cells = {row: cell for cell, row in enumerate(grid.rows.tolist())}
        mine, theirs = [r for r in known if r in cells], [r for r in duds if r in cells]
        assert len(mine) == len(theirs) <= 1
        with_training += len(mine)
        told = classify.answer(ANN, said(classify, grid, [cells[r] for r in mine]))
        expected = [{"cell": cells[r], "kind": "known", "chosen": True} for r in mine]
        expected += [{"cell": cells[r], "kind": "dud", "chosen": False} for r in theirs]
        assert told["feedback"] == sorted(expected, key=lambda f: f["cell"])
        feedback += told["feedback"]
        assert classify.ledger.entries(KIND)[-1].payload["training"] == [f["cell"] for f in told["feedback"]]
    assert 3 <= with_training <= 13  # of 20 at 2 in 5
    assert classify._tally.n_views[:24].sum() == 0
    assert classify._tally.n_views.sum() == 20 * 16 - len(feedback)
    n = with_training
    assert (classify.standing(ANN)["known"], classify.standing(ANN)["duds"]) == ((n, n), (n, n))
    agent = (2 + n) / (4 + n)
    assert classify._skill(classify._tally.people[ANN.who]) == pytest.approx(
        float(skill(np.array(agent), np.array(agent)))
    )


def test_gold_labels_of_the_grid_task_are_training_and_what_is_both_is_a_dud(made: Making, tmp_path: Path) -> None:
    classify = made(40, is_known=[0])
    told = [(0, GRID_TASK, ""), (1, GRID_TASK, CHOSEN), (2, GRID_TASK, ""), (3, "T1", "yes"), (9999, GRID_TASK, CHOSEN)]
    columns = {
        "subject_id": [588848901523702001 + row for row, _, _ in told],
        "workflow_id": [0] * 5,
        "task": [task for _, task, _ in told],
        "answer": [answer for _, _, answer in told],
        "source": ["s"] * 5,
    }
    pq.write_table(pa.table(columns).cast(GOLD_SCHEMA), tmp_path / "survey" / GOLD)
    classify.standing(ANN)
    assert {i: v for i, v in enumerate(classify._is_training.tolist()) if v} == {0: -1, 1: 1, 2: -1}


def test_only_the_first_answer_on_a_training_subject_counts(made: Making) -> None:
    classify = made(200, is_known=[0])
    while True:
        grid = next_grid(classify, ANN)
        if 0 in grid.rows:
            break
        classify.answer(ANN, said(classify, grid))
    classify.answer(ANN, said(classify, grid))
    assert classify.standing(ANN)["known"] == (0, 1)
    seal = classify.undo(ANN)["grid"]
    told = classify.answer(ANN, said(classify, classify.unsealed(seal, ANN), np.flatnonzero(grid.rows == 0).tolist()))
    assert told["known"] == (0, 1)


def test_what_is_known_alone_makes_no_grid(made: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "training_share", lambda n: 1.0)
    classify = made(20, is_known=list(range(20)))
    assert classify.grid(ANN) is None


def test_skill_opens_levels_with_what_people_disagree_about(made: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "training_share", lambda n: 1.0)
    monkeypatch.setattr(service, "FRESH", -1.0)
    classify = made(1000, is_known=list(range(30)))
    classify.ledger.save_selection("duds", np.arange(30, 60), classify.survey.subject_ids, who="me")
    disputed = set(range(100, 180))
    ids = [str(i) for i in classify.survey.subject_ids]
    for voter in range(4):  # half of them choose these; nobody the others
        for start in range(60, 260, 20):
            rows = list(range(start, start + 20))
            chosen = [i for i, row in enumerate(rows) if row in disputed and voter % 2]
            payload = {
                "grid_id": f"{voter}-{start}",
                "subjects": [ids[r] for r in rows],
                "chosen": chosen,
                "training": [],
            }
            classify.ledger.append(KIND, payload, who=f"volunteer:{voter:016x}")

    def look(visitor: Visitor, is_good: bool) -> tuple[dict[str, Any], int]:
        grid = next_grid(classify, visitor)
        chosen = [cell for cell, row in enumerate(grid.rows.tolist()) if (row < 30) == is_good and row < 60]
        return classify.answer(visitor, said(classify, grid, chosen)), len(disputed & set(grid.rows.tolist()))

    for n in range(1, 11):
        told, _ = look(ANN, True)
        assert (told["level"], told["level_up"]) == ((2, True) if n == 10 else (1, False))
        assert look(BEN, False)[0]["level"] == 1  # always wrong
    told, n_disputed = look(ANN, True)
    assert n_disputed >= 7  # half of the 14 that are no training
    for _ in range(9):
        told, _ = look(ANN, True)
    assert told["level"] == 3
    assert look(BEN, False)[1] < 7


def test_the_most_disputed_go_to_the_most_skilled(made: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    classify = made(1000)
    hard = np.arange(300)
    monkeypatch.setattr(classify, "_refreshed", lambda: (0.0, hard, [0.1, 0.2, 0.3, 0.4], {}))
    for bits, first in ((0.4, 0), (0.05, 200)):
        monkeypatch.setattr(classify, "_skill", lambda person, bits=bits: bits)
        drawn = classify._hard(classify._tally.people["x"])
        assert sorted(drawn[:100]) == list(range(first, first + 100))
        assert sorted(drawn) == hard.tolist()


def test_entropy_is_one_bit_where_half_choose_and_none_where_all_agree() -> None:
    found = entropy(np.array([0, 0, 5, 10, 1]), np.array([0, 10, 10, 10, 4]))
    assert found == pytest.approx([0, 0, 1, 0, -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))])


# --------------------------------------------------------------------------------------------------------- pictures
def test_a_picture_is_the_original_with_its_scale_and_the_crop_where_there_is_none(
    tmp_path: Path, made: Making
) -> None:
    write_galaxies(tmp_path / "images", 2, size=500)
    make(tmp_path / "pictures", tmp_path / "images", crop="center", pixel_scale_arcsec=0.2)
    survey = Survey.open(tmp_path / "pictures")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        classify = Classify(survey, ledger)
        for longest, side in ((320, 320), (1024, 500)):
            look = classify.picture(0, longest)
            assert Image.open(io.BytesIO(look.content)).size == (side, side)
            assert look.arcsec == pytest.approx(100)
            assert look.outline == pytest.approx((242 / 500, 242 / 500, 16 / 500))
        classify.close()
    survey.close()
    look = made(4).picture(2)  # a survey without originals and thumbnails
    assert (Image.open(io.BytesIO(look.content)).size, look.arcsec, look.outline) == ((8, 8), None, None)


def test_linear_originals_are_shown_by_the_surveys_stretch(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :60]
    linear = Linear(np.stack([x / 6, y / 4, (x + y) / 10], axis=2).astype(np.float32))
    stretch = Stretch("linear", low=(0.0, 1.0, 2.0), high=(10.0, 9.0, 8.0))
    content = write_linear(linear, ("g", "r", "i"))
    jpeg, width, height = shown(content, stretch.to_dict(), (2, 1, 0), 3, 320)
    expected = np.asarray(shown_image(linear, stretch, (2, 1, 0)), int)
    found = np.asarray(Image.open(io.BytesIO(jpeg)), int)
    assert (width, height, found.shape) == (60, 40, expected.shape)
    assert np.abs(found - expected).mean() < 4  # JPEG
    jpeg, *_ = shown(content, Stretch().to_dict(), (0, 0, 0), 1, 16)  # other bands than the survey's
    assert Image.open(io.BytesIO(jpeg)).size == (16, 11)
    with pytest.raises(ImageError, match="not a PNG, JPEG or TIFF"):
        shown(b"no image", Stretch().to_dict(), (0, 1, 2), 3, 320)


def test_fits_cubes_have_a_picture_and_a_scale(tmp_path: Path) -> None:
    write_fits_galaxies(tmp_path / "cubes", 3)
    make(tmp_path / "survey", tmp_path / "cubes")
    survey = Survey.open(tmp_path / "survey")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        classify = Classify(survey, ledger)
        look = classify.picture(1)
        assert Image.open(io.BytesIO(look.content)).mode == "RGB"
        originals = Originals(survey)
        header = originals.picture(1)
        told = json.loads(header[4 : 4 + struct.unpack_from("<I", header)[0]])
        originals.close()
        assert look.arcsec == pytest.approx(told["width"] * 0.2, rel=1e-3)
        classify.close()
    survey.close()


def test_a_grid_of_real_galaxies_is_light(shared_data: Path, tmp_path: Path) -> None:
    names = sorted((shared_data / "gz1_images" / "images").glob("*.jpeg"))[:16]
    sizes = [len(shown(path.read_bytes(), Stretch().to_dict(), (0, 1, 2), 3, 320)[0]) for path in names]
    assert sum(sizes) < 400_000


# ------------------------------------------------------------------------------------------------------------- links
def test_a_links_token_is_not_kept_and_one_taken_back_does_not_hold(tmp_path: Path) -> None:
    links, other = Invitations("links-1"), Invitations("links-1")
    token = links.make(" Open   day ", 7)
    assert token not in links.file.read_text()
    assert links.file.stat().st_mode & 0o777 == 0o600
    held = other.by_token(token)
    assert held is not None
    assert (held.name, held.most_grids, held.revoked_at, other.by_id(held.id)) == ("Open day", 7, None, held)
    assert links.by_token("") is links.by_token(token[:-1]) is None
    with pytest.raises(UsageError, match='there is a link "Open day" already'):
        other.make("Open day")
    other.revoke("Open day")
    assert links.by_token(token) is links.by_id(held.id) is None
    assert links.listed()[0].revoked_at is not None
    with pytest.raises(UsageError, match='no link "Open day" holds; those that do: none'):
        links.revoke("Open day")
    links.make("Open day")
    for name in ("", " ", "x" * 61, "a\nb\x00"):
        with pytest.raises(UsageError, match="a name of 1 to 60 characters"):
            links.make(name)
    with pytest.raises(UsageError, match="1 is the least"):
        links.make("none", 0)
    links.file.chmod(0o644)
    with pytest.raises(SurveyError, match="may be read by others; chmod 600"):
        Invitations("links-1").listed()
    links.file.chmod(0o600)
    links.file.write_text("{")
    with pytest.raises(SurveyError, match="is not a list of links"):
        Invitations("links-1").listed()


def test_links_made_at_once_are_all_kept() -> None:
    links = [Invitations("links-2") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda pair: pair[1].make(f"link {pair[0]}"), enumerate(links)))
    assert len(links[0].listed()) == 8
    assert all(links[0].by_token(token) for token in tokens)


def test_the_command_makes_lists_and_takes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    survey = write_survey(tmp_path / "survey")
    links = Invitations("survey-1")
    links.file.unlink(missing_ok=True)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["invite", str(survey), *arguments])
        return code, *capsys.readouterr()

    assert run()[1] == "no link was made yet; --name makes one\n"
    code, out, _ = run("--name", "Open day", "--most", "50")
    assert code == 0
    link = links.by_token(out.splitlines()[0].removeprefix("/classify?link="))
    assert link is not None
    assert out.splitlines()[1].startswith("Append this to the address that `voorwerp serve SURVEY --open-links` prints")
    with only_server(survey) as note:
        note("http://127.0.0.1:5007 with open links")
        out = run("--name", "Served")[1]
        assert links.by_token(out.splitlines()[0].removeprefix("http://127.0.0.1:5007/classify?link="))
        assert out.splitlines()[1] == "It opens on this machine alone; for others, serve with --address."
    with only_server(survey) as note:
        note("http://192.0.2.7:5006")
        out = run("--name", "Closed")[1]
        assert out.startswith("http://192.0.2.7:5006/classify?link=")
        assert "lets no links in: start it again with --open-links" in out
    assert run("--name", "Stopped")[1].startswith("/classify?link=")  # what the lock says is of before
    assert run("--list")[1].startswith(f"{link.id}  Open day  made ")
    assert "holds, 50 grids at most" in run()[1]
    assert run("--revoke", "Open day")[1] == 'the link "Open day" does not hold any more\n'
    assert "taken back" in run()[1]
    code, _, error = run("--name", "a", "--revoke", "b")
    assert (code, "give one of --name" in error) == (2, True)
    assert run("--most", "5")[0] == 2
    links.file.unlink()


# ------------------------------------------------------------------------------------------------------------ routes
class Web:
    """The routes on a free port, and what a browser sends there."""

    def __init__(self, classify: Classify, open_links: bool = True, protocol: str = "http", **rates: Rates) -> None:
        self.classify = classify
        self.links = Invitations(classify.survey.info.survey_id)
        ready = threading.Event()
        self.cookies: dict[str, str] = {}

        async def main() -> None:
            sockets = bind_sockets(0, "127.0.0.1")
            self.port = sockets[0].getsockname()[1]
            self.host = f"127.0.0.1:{self.port}"
            self.access = Access(self.port, hosts_of("127.0.0.1", self.port))
            self.door = Door(self.access, classify, open_links, **rates)
            server = HTTPServer(Application(classify_routes(self.door)), protocol=protocol)
            server.add_sockets(sockets)
            self.stop = asyncio.Event()
            self.loop = asyncio.get_running_loop()
            ready.set()
            await self.stop.wait()
            server.stop()
            await server.close_all_connections()

        self.thread = threading.Thread(target=asyncio.run, args=(main(),))
        self.thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, body; cookies are kept as a browser does."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        sent = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request("POST" if body is not None else "GET", path, content, sent)
        answer = connection.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.split(";")[0]
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def enter(self, name: str = "Open day") -> tuple[str, dict[str, str]]:
        """Come by a new link; the link's token, and the headers of a change."""
        token = self.links.make(name)
        assert self.ask(f"/classify?link={token}")[0] == 302
        page = self.ask("/classify")[2].decode()
        made = page.split('name="voorwerp-token" content="')[1].split('"')[0]
        return token, {"Origin": f"http://{self.host}", "X-Voorwerp-Token": made, "Content-Type": "application/json"}

    def grid(self, *held: str) -> dict[str, Any]:
        status, _, body = self.ask(f"/classify/grid?{'&'.join(f'held={seal}' for seal in held)}")
        assert status == 200, body
        (length,) = struct.unpack_from("<I", body)
        told: dict[str, Any] = json.loads(body[4 : 4 + length])
        assert len(body) == 4 + length + sum(told["sizes"])
        return told


Serving = Callable[..., Web]


@pytest.fixture
def web(made: Making) -> Iterator[Serving]:
    opened: list[Web] = []

    def serve(n: int = 40, open_links: bool = True, **rates: Rates) -> Web:
        classify = made(n)
        Invitations(classify.survey.info.survey_id).file.unlink(missing_ok=True)
        opened.append(Web(classify, open_links, **rates))
        return opened[-1]

    yield serve
    for each in opened:
        each.close()


def answer_to(told: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"grid": told["grid"], "id": str(uuid.uuid4()), "chosen": [1], "seconds": 2} | more


def test_a_link_is_exchanged_for_a_cookie_and_an_answer_is_kept(web: Serving) -> None:
    served = web()
    assert served.ask("/classify")[0] == served.ask("/classify?link=wrong")[0] == 403
    assert served.cookies == {}
    token = served.links.make("Open day")
    status, headers, _ = served.ask(f"/classify?link={token}")
    assert (status, headers["location"]) == (302, "/classify")  # the token is not in the address any more
    assert all(word in headers["set-cookie"] for word in ("HttpOnly", "SameSite=Lax", "Path=/classify"))
    status, headers, body = served.ask("/classify")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert token.encode() not in body
    for name in ("classify.js", "classify.css", "keys.js", "logo.svg"):
        assert served.ask(f"/classify/{name}")[0] == 200


def test_an_answer_by_a_link_says_so_and_can_be_undone(web: Serving) -> None:
    served = web()
    _, headers = served.enter()
    told = served.grid()
    status, _, body = served.ask("/classify/answer", answer_to(told, tags={"1": ["<b>bold</b>"]}), **headers)
    assert (status, json.loads(body)["n_grids"]) == (200, 1)
    (entry,) = served.classify.ledger.entries(KIND)
    assert (entry.payload["open_link"], entry.payload["link"]) == (True, served.links.listed()[0].id)
    assert entry.payload["tags"] == {"1": ["<b>bold</b>"]}  # a text like any other
    assert served.ask("/classify/answer", answer_to(told), **headers)[0] == 409
    status, _, body = served.ask("/classify/undo", {}, **headers)
    assert (status, json.loads(body)["grid"]) == (200, told["grid"])
    assert served.classify.ledger.entries(KIND) == []
    assert served.ask("/classify/undo", {}, **headers)[0] == 400
    status, kind, body = served.ask(f"/classify/closer?grid={told['grid']}&cell=3")
    assert (status, kind["content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
    assert served.ask(f"/classify/closer?grid={told['grid']}&cell=16")[0] == 404
    assert served.ask("/classify/closer?grid=0&cell=1")[0] == 400


def test_a_change_needs_our_origin_our_host_the_token_and_a_small_body(web: Serving) -> None:
    served = web()
    _, headers = served.enter()
    told = answer_to(served.grid())
    for wrong in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"X-Voorwerp-Token": ""},
        {"X-Voorwerp-Token": "0" * 32},
        {"Host": "evil.example"},
        {"Cookie": ""},
        {"Cookie": f"{served.door.cookie}=aaaaaaaaaaaaaaaa.00000000.{'0' * 32}"},
    ):
        for path in ("/classify/answer", "/classify/undo"):
            assert served.ask(path, told, **headers | wrong)[0] == 403, wrong
    without = {name: value for name, value in headers.items() if name != "Origin"}
    assert served.ask("/classify/answer", told, **without)[0] == 403
    assert served.ask("/classify/answer", b"{", **headers)[:1] == (400,)
    assert served.ask("/classify/answer", b"x" * (MAX_BODY + 1), **headers)[0] in (400, 413)
    assert served.classify.ledger.entries(KIND) == []
    for path in ("/classify", "/classify/grid", "/classify/classify.js"):
        assert served.ask(path, Host="evil.example")[0] == 403


def test_a_link_taken_back_lets_nobody_in_from_that_moment(web: Serving) -> None:
    served = web()
    token, headers = served.enter()
    told = answer_to(served.grid())
    served.links.revoke("Open day")
    for path in ("/classify", "/classify/grid", f"/classify?link={token}"):
        assert served.ask(path)[0] == 403
    over = {"error": "this link is no longer open", "kind": "closed"}
    for path, body in (("/classify/answer", told), ("/classify/standing", None)):
        status, _, said = served.ask(path, body, **headers)
        assert (status, json.loads(said)) == (403, over)
    assert served.ask("/classify")[2] == b"This link is no longer open.\n"
    _, headers = served.enter("Another day")  # the same browser stays the same volunteer
    assert served.ask("/classify/answer", told, **headers)[0] == 200
    served.links.revoke("Another day")
    assert served.ask("/classify")[2] == b"This link is no longer open. Thank you for 1 grid.\n"


def test_the_cookie_is_for_https_alone_where_the_request_came_by_it(made: Making) -> None:
    for protocol, is_secure in (("http", False), ("https", True)):
        served = Web(made(), protocol=protocol)
        token = served.links.make(f"Open day by {protocol}")
        _, headers, _ = served.ask(f"/classify?link={token}", X_Forwarded_Proto="https")
        served.close()
        assert ("secure" in headers["set-cookie"].lower().split("; ")) == is_secure


def test_links_let_nobody_in_where_the_server_does_not_allow_it_but_its_owner_comes_in(web: Serving) -> None:
    served = web(open_links=False)
    token = served.links.make("Open day")
    status, _, body = served.ask(f"/classify?link={token}")
    assert (status, b"--open-links" in body) == (403, True)
    served.cookies[served.access.cookie] = served.access.session
    page = served.ask("/classify")[2].decode()
    headers = {"Origin": f"http://{served.host}"}
    headers["X-Voorwerp-Token"] = page.split('name="voorwerp-token" content="')[1].split('"')[0]
    assert served.ask("/classify/answer", answer_to(served.grid()), **headers)[0] == 200
    (entry,) = served.classify.ledger.entries(KIND)
    assert (entry.payload["open_link"], entry.payload["link"]) == (False, None)
    volunteer = served.cookies[served.door.cookie].split(".")[0]
    assert entry.who == f"volunteer:{volunteer}"
    assert len(volunteer) == 16


def test_a_grid_is_nobody_elses(web: Serving) -> None:
    served = web()
    served.enter()
    told = served.grid()
    served.cookies.clear()
    _, headers = served.enter("Another")
    assert served.ask("/classify/answer", answer_to(told), **headers)[0] == 400
    assert served.ask(f"/classify/closer?grid={told['grid']}&cell=1")[0] == 400
    assert served.ask(f"/classify/grid?held={told['grid']}")[0] == 400


def test_whoever_asks_too_often_is_told_so(web: Serving) -> None:
    clock = [0.0]
    served = web(by_person=Rates(1, 5, clock=lambda: clock[0]), newcomers=Rates(0.1, 2, clock=lambda: clock[0]))
    served.enter()
    found = [served.ask("/classify/grid") for _ in range(5)]
    assert [status for status, _, _ in found] == [200, 200, 200, 200, 429]
    assert found[-1][1]["retry-after"] == "2"
    assert json.loads(found[-1][2])["error"] == "that was faster than this server takes it; it goes on in a moment"
    clock[0] = 1.0
    assert served.ask("/classify/grid")[0] == 200
    served.cookies.clear()
    assert [served.ask("/classify?link=guess")[0] for _ in range(2)] == [403, 429]


def test_a_bucket_holds_its_burst_and_fills_at_its_rate_and_forgets_the_oldest() -> None:
    clock = [0.0]
    rates = Rates(2, 3, most=2, clock=lambda: clock[0])
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
    clock[0] = 0.5
    assert [rates.take("a") for _ in range(2)] == [True, False]
    clock[0] = 100
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
    assert rates.take("b") and rates.take("c")
    assert rates.take("a")  # forgotten meanwhile


def test_many_volunteers_at_once_are_all_counted(made: Making) -> None:
    classify = made(400)
    visitors = [Visitor(f"{i:016x}") for i in range(12)]

    def work(visitor: Visitor) -> list[int]:
        rows: list[int] = []
        for _ in range(4):
            grid = next_grid(classify, visitor)
            rows += grid.rows.tolist()
            classify.answer(visitor, said(classify, grid, [0]))
        return rows

    with ThreadPoolExecutor(12) as pool:
        seen = list(pool.map(work, visitors))
    expected: defaultdict[int, int] = defaultdict(int)
    for rows in seen:
        assert len(set(rows)) == 64
        for row in rows:
            expected[row] += 1
    assert {row: n for row, n in enumerate(classify._tally.n_views.tolist()) if n} == dict(expected)
    assert len(classify.ledger.entries(KIND)) == 48
