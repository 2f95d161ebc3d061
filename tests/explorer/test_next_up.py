"""Who is shown next by a run's acquisition: which run is gone by, in which order, and what a grid is made of then."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.errors import SurveyError, UsageError
from explorer.ledger import Ledger
from explorer.services import classify as service
from explorer.services import next_up
from explorer.services.classify import KIND, N_CELLS, Classify, Grid, Settings, Visitor
from explorer.services.next_up import ACQUISITION, NextUp, acquisition, order_of, run_of
from explorer.survey import Survey
from models.artifacts import RUN_JSON, Run, write_scores
from tests.explorer.small_survey import write_survey

FIRST = 588848901523702001
ANN = Visitor("a" * 16)
NEW = "20260103-000000-bayes"


def write_run(path: Path, run_id: str, values: np.ndarray | None, rows: np.ndarray | None = None) -> None:
    """A finished run of `rows` (all unless told) with that acquisition; None: without such a column."""
    table = pq.read_table(path / "subjects.parquet")
    ids = table.column("subject_id").to_numpy()
    ids = ids if rows is None else ids[rows]
    folder, n = path / "runs" / run_id, len(ids)
    folder.mkdir(parents=True)
    columns: dict[str, Any] = {"subject_id": ids, "split": np.full(n, "unseen"), "quality": np.full(n, "ok")}
    columns |= {f"{name}_score": np.zeros(n, np.float32) for name in ("image", "feature", "anomaly")}
    columns |= {} if values is None else {ACQUISITION: np.asarray(values, np.float32)}
    write_scores(folder, None, columns)
    stamp = f"2026-01-{run_id[6:8]}T00:00:00+00:00"
    run = Run(run_id, "bayes", "0", {}, created_at=stamp, state="done", n_rows=n, provides="score")
    run.write(folder / RUN_JSON)


def put(path: Path, name: str, values: list[Any]) -> None:
    """Set a column of the survey's subjects."""
    table = pq.read_table(path / "subjects.parquet")
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    pq.write_table(table.set_column(at, field, pa.array(values, field.type)), path / "subjects.parquet")


Making = Callable[..., Classify]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A survey of 200."""
    return write_survey(tmp_path / "survey", 200, size=8)


@pytest.fixture
def opened(path: Path) -> Iterator[Making]:
    """``opened(settings)``: the service on the survey; once more: a restart."""
    made: list[Any] = []

    def open_one(**told: Any) -> Classify:
        survey = Survey.open(path)
        ledger = Ledger(path, survey.info.survey_id)
        classify = Classify(survey, ledger, Settings(**{"next_by": "newest", **told}), seed=1)
        made.extend([classify, ledger, survey])
        return classify

    yield open_one
    for each in made:
        each.close()


def grid_of(classify: Classify, visitor: Visitor = ANN) -> Grid:
    grid = classify.grid(visitor)
    assert grid is not None
    return grid


def answer(classify: Classify, visitor: Visitor, grid: Grid, chosen: list[int] | None = None) -> None:
    told = {"grid": classify.seal(grid), "id": str(uuid.uuid4()), "chosen": chosen or [], "seconds": 1.0}
    classify.answer(visitor, told)


def by_way(grid: Grid) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for row, way in zip(grid.rows.tolist(), grid.drawn, strict=True):
        found.setdefault(way, set()).add(row)
    return found


# -------------------------------------------------------------------------------------------------------- the order
def test_the_order_is_by_acquisition_with_what_has_none_left_out(path: Path) -> None:
    rows = np.array([9, 3, 7, 50, 60])
    write_run(path, NEW, np.array([0.5, np.nan, 2.0, 0.5, 1.0]), rows)
    put(path, "is_withdrawn", [k == 60 for k in range(200)])
    put(path, "duplicate_group", [4 if k in (7, 50, 51) else 6 if k == 9 else None for k in range(200)])
    survey = Survey.open(path)
    order = order_of(survey, NEW)
    assert order.rows.tolist() == [7, 9, 50]
    assert order.members == {4: (7, 50, 51)}
    assert order.group[[7, 9, 3]].tolist() == [4, 6, -1]
    values = acquisition(survey, NEW)
    assert values.dtype == np.float32 and np.isfinite(values).sum() == 4 and values[60] == 1
    survey.close()


def test_the_newest_run_with_the_column_is_gone_by_or_the_named_one(path: Path) -> None:
    survey = Survey.open(path)
    with pytest.raises(UsageError, match="has a column acquisition; `voorwerp run"):
        run_of(survey)
    write_run(path, "20260101-000000-bayes", np.arange(200.0))
    write_run(path, "20260102-000000-bayes", np.arange(200.0))
    write_run(path, "20260103-000000-score", None)
    assert run_of(survey) == "20260102-000000-bayes"
    assert run_of(survey, "20260101-000000-bayes") == "20260101-000000-bayes"
    with pytest.raises(UsageError, match='no finished run "20260101-000001-bayes"'):
        run_of(survey, "20260101-000001-bayes")
    with pytest.raises(UsageError, match="20260103-000000-score has no column acquisition"):
        NextUp(survey, "20260103-000000-score")
    survey.close()


def test_a_newer_run_is_taken_up_and_a_broken_one_is_said_and_left(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(next_up, "LOOK", -1.0)
    survey = Survey.open(path)
    follows = NextUp(survey)
    assert follows.order() is None
    write_run(path, "20260101-000000-bayes", np.arange(200.0))
    follows.look()
    first = follows.order()
    assert first is not None and first.run_id == "20260101-000000-bayes" and first.rows[0] == 199
    write_run(path, NEW, np.arange(200.0)[::-1])
    while (order := follows.order()) is first:  # asked again and again, as by volunteers: another thread reads it
        pass
    assert order is not None and order.run_id == NEW and order.rows[0] == 0
    table = pq.read_table(path / "runs" / NEW / "scores.parquet")
    folder = path / "runs" / "20260104-000000-bayes"
    write_run(path, folder.name, np.arange(200.0))
    strangers = table.set_column(0, "subject_id", pa.array(np.arange(200)))
    pq.write_table(strangers, folder / "scores.parquet")
    follows.look()
    still = follows.order()
    assert still is order
    assert "200 subjects that are not in the survey" in caplog.text
    with pytest.raises(SurveyError, match="cannot be read as scores with a column acquisition"):
        acquisition(survey, "20260105-000000-bayes")
    follows.close()
    survey.close()


# ---------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"random_share": 1.5}, "a share of 1.5 cannot be drawn at random; give 0 to 1"),
        ({"least": 11}, "11 volunteers cannot see every subject first where it retires after 10; give 0 to 10"),
        ({"least": -1}, "-1 volunteers cannot see"),
    ],
)
def test_settings_that_cannot_be(told: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Settings(next_by="newest", **told)


# ------------------------------------------------------------------------------------------------------------- grids
def test_without_a_run_grids_are_as_before_and_entries_too(path: Path, opened: Making) -> None:
    plain, waiting = opened(next_by=""), opened()
    for visitor in (ANN, Visitor("b" * 16)):
        one, other = grid_of(plain, visitor), grid_of(waiting, visitor)
        assert one.rows.tolist() == other.rows.tolist()
        assert one.drawn == other.drawn == () and one.run_id == ""
        assert len(plain.seal(one)) == 2 * (25 + 4 * N_CELLS + 16)
    answer(waiting, ANN, grid_of(waiting))
    (entry,) = waiting.ledger.entries(KIND)
    assert "drawn" not in entry.payload and entry.run_id is None


def test_those_that_few_have_seen_come_first_then_the_order_with_a_random_share(path: Path, opened: Making) -> None:
    values = np.random.default_rng(3).permutation(200.0 * np.arange(200))
    write_run(path, NEW, values)
    classify = opened(least=1, retire_after=3)
    ways: Counter[str] = Counter()
    seen: set[int] = set()
    visitors = [Visitor(f"{k:016x}") for k in range(14)]
    for visitor in visitors:
        classify._few = (-1e9, classify._few[1])
        grid = grid_of(classify, visitor)
        found = by_way(grid)
        assert not found.get("least", set()) & seen
        assert len(found.get("random", ())) in (3, 4)  # 3.2 of 16
        if len(seen) < 180:
            assert len(found["least"]) >= 12 and "acquisition" not in found
        assert grid.run_id == NEW
        answer(classify, visitor, grid)
        seen |= set(grid.rows.tolist())
        ways.update(grid.drawn)
    classify._few = (-1e9, classify._few[1])
    for k in range(14, 24):  # all have been seen by one
        if len(seen) == 200:
            break
        grid = grid_of(classify, Visitor(f"{k:016x}"))
        answer(classify, Visitor(f"{k:016x}"), grid)
        seen |= set(grid.rows.tolist())
        classify._few = (-1e9, classify._few[1])
    assert len(seen) == 200
    grid = grid_of(classify, ANN)
    found = by_way(grid)
    is_open = classify._tally.n_views < 3
    ranked = [row for row in np.argsort(-values, kind="stable").tolist() if is_open[row] and row not in found["random"]]
    assert set(found) == {"random", "acquisition"}
    assert found["acquisition"] <= set(ranked[: service.AHEAD])
    (entry,) = classify.ledger.entries(KIND)[-1:]
    assert entry.run_id == NEW and Counter(entry.payload["drawn"])["random"] in (3, 4)


def test_the_order_goes_by_groups_once_and_leaves_out_what_is_retired_or_training(path: Path, opened: Making) -> None:
    """Twenty at the top show five skies; the next ones are a known object and one that has been seen by enough."""
    write_run(path, NEW, np.arange(200.0)[::-1])
    put(path, "duplicate_group", [k // 4 if k < 20 else 1000 + k for k in range(200)])
    put(path, "is_known", [k == 20 for k in range(200)])
    put(path, "is_withdrawn", [k == 21 for k in range(200)])
    classify = opened(least=0, random_share=0.0, retire_after=1)
    classify._tally.n_views[22] = 1
    seen: list[int] = []
    for _ in range(7):
        grid = grid_of(classify)
        rows = [row for row in grid.rows.tolist() if row != 20]
        assert all(way == "acquisition" for row, way in zip(grid.rows.tolist(), grid.drawn, strict=True) if row != 20)
        assert max(rows) < len(seen) + 15 + 3 + service.AHEAD
        groups = [row // 4 for row in seen + rows if row < 20]
        assert len(set(groups)) == len(groups)
        seen += rows
        answer(classify, ANN, grid)
    assert {row // 4 for row in seen if row < 20} == set(range(5))
    assert not {20, 21, 22} & set(seen)


def test_random_cells_are_of_all_that_is_open_whatever_else_is_in_the_grid(path: Path, opened: Making) -> None:
    """Each open row is as likely to be drawn at random as any other, those at the top of the order too."""
    write_run(path, NEW, np.arange(200.0))
    classify = opened(least=0, random_share=0.5)
    drawn = np.zeros(200)
    for k in range(500):
        found = by_way(grid_of(classify, Visitor(f"{k:016x}")))
        assert len(found["random"]) == 8
        drawn[list(found["random"])] += 1
    expected = 500 * 8 / 200
    assert ((drawn - expected) ** 2).sum() / (expected * (1 - 8 / 200)) < 200 + 5 * np.sqrt(2 * 200)  # χ²


def test_what_is_drawn_comes_of_the_grids_id(path: Path, opened: Making) -> None:
    write_run(path, NEW, np.arange(200.0))
    one, other = (grid_of(opened()) for _ in range(2))
    assert one.id == other.id and one.rows.tolist() == other.rows.tolist() and one.drawn == other.drawn
    rows = np.random.default_rng(one.id.int)
    assert rows.random() is not None  # its id is all that it takes


def test_how_a_grid_was_drawn_outlives_a_restart_and_an_undo(path: Path, opened: Making) -> None:
    write_run(path, NEW, np.arange(200.0))
    classify = opened(least=0)
    grid = grid_of(classify)
    again = opened(next_by="")  # the order may be gone by then
    found = again.unsealed(classify.seal(grid), ANN)
    assert (found.id, found.level, found.drawn, found.run_id) == (grid.id, grid.level, grid.drawn, NEW)
    assert found.rows.tolist() == grid.rows.tolist()
    answer(again, ANN, found)
    seal = again.undo(ANN)["grid"]
    answer(again, ANN, again.unsealed(seal, ANN))
    (entry,) = again.ledger.entries(KIND)
    assert entry.payload["drawn"] == list(grid.drawn) and entry.run_id == NEW
    with pytest.raises(UsageError, match="not a grid that was given to you"):
        again.unsealed(seal[:-2] + "00", ANN)


def test_training_and_levels_keep_their_cells(path: Path, opened: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(path, NEW, np.arange(200.0))
    put(path, "is_known", [k in (3, 4) for k in range(200)])
    classify = opened(least=0)
    monkeypatch.setattr(service, "training_share", lambda n: 1.0)
    found = by_way(grid_of(classify))
    assert len(found["training"]) == 1 and found["training"] <= {3, 4}
    monkeypatch.setattr(classify, "_level", lambda person: 2)
    monkeypatch.setattr(classify, "_hard", lambda person, rng: list(range(50, 90)))
    found = by_way(grid_of(classify, Visitor("c" * 16)))
    n_left = N_CELLS - 1 - len(found["random"])
    assert len(found["disputed"]) == n_left // 2 and found["disputed"] <= set(range(50, 90))
    assert len(found["acquisition"]) == n_left - n_left // 2
    monkeypatch.setattr(classify, "_level", lambda person: 3)
    found = by_way(grid_of(classify, Visitor("d" * 16)))
    assert set(found) == {"training", "random", "disputed"}


def test_what_the_order_does_not_know_comes_last_at_random(path: Path, opened: Making) -> None:
    write_run(path, NEW, np.arange(4.0), np.arange(4))
    classify = opened(least=0, random_share=0.0)
    found = by_way(grid_of(classify))
    assert found["acquisition"] == {0, 1, 2, 3} and len(found["rest"]) == N_CELLS - 4
