"""The left column without a browser: what a page tells it, sense and nonsense."""

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from panel.io.state import set_curdoc

from explorer.app import Session, setup
from explorer.services.desk import Desk
from explorer.services.notes import Notes
from explorer.state import COMPONENTS, ExplorerState, Selection
from explorer.views.controls import TWO_SCORES, ControlsView, grouped


@pytest.fixture
def view(finished_survey: Path, tmp_path: Path):
    survey = tmp_path / "survey"
    shutil.copytree(finished_survey, survey, ignore=shutil.ignore_patterns("server.lock"))
    with Desk.open(survey) as desk:
        explore = desk.explore
        state = ExplorerState(explore.survey.n)
        state.run_id, state.map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        yield ControlsView(state, explore, desk.notes, None)


def tell(view: ControlsView, message: object) -> None:
    """What the page would send."""
    view.column._handle_msg(message)


def test_the_table_that_is_sent_has_the_tags_of_the_one_that_is_downloaded(view: ControlsView):
    sent = []
    view.samp = SimpleNamespace(send_table=lambda table, name: sent.append(table) or ["TOPCAT"])
    survey = view.explore.survey
    Notes(view.ledger, view.explore).add_tag(int(survey.subject_ids[4]), "ring", who="ada")
    view.state.select(Selection.of_rows([4, 5], survey.n))
    asyncio.run(view.send())
    assert sent[0].column("tags").to_pylist() == ["ring", None]


def test_columns_are_offered_in_groups_and_what_is_in_none_first():
    titles = {"count": "Number", "scores.a": "A", "subjects.b": "B", "subjects.c": "C", "maps.d": "D"}
    assert grouped(titles) == [
        ["", [["count", "Number"]]],
        ["Scores", [["scores.a", "A"]]],
        ["Columns", [["subjects.b", "B"], ["subjects.c", "C"]]],
        ["Map", [["maps.d", "D"]]],
    ]


def test_a_setting_reaches_the_state_and_comes_back(view: ControlsView):
    tell(view, {"set": {"color": "subjects.magnitude", "norm": "log", "palette": "magma", "lambda_": 0.5}})
    state = view.state
    assert (state.color, state.norm, state.palette, state.lambda_) == ("subjects.magnitude", "log", "magma", 0.5)
    assert view.column.view["color"] == "subjects.magnitude"
    assert view.column.can["number"]
    assert view.column.heard == 1


@pytest.mark.parametrize(
    "message",
    [
        "text",
        {"set": {"color": "subjects.nothing"}},
        {"set": {"x": "count"}},
        {"set": {"x": ["maps.umap_1"]}},
        {"set": {"lambda_": 7}},
        {"set": {"norm": "cubic"}},
        {"set": {"selection": "all"}},
        {"set": {"lambda_mode": "cubic"}},
        {"do": "explode"},
        {"do": "take back"},
        {"keep": ""},
        {"open": "nothing"},
        {"rename": ["nothing"]},
        {"drop": "nothing"},
    ],
)
def test_nonsense_from_a_page_changes_nothing(view: ControlsView, message: object):
    state = view.state
    before = {name: getattr(state, name) for name in state.param if name != "name"}
    tell(view, message)
    assert {name: getattr(state, name) for name in state.param if name != "name"} == before
    assert view.column.kept == []


def test_the_two_scores_and_the_map_are_one_click_away(view: ControlsView):
    tell(view, {"do": "plane scores"})
    assert (view.state.x, view.state.y) == TWO_SCORES
    assert view.column.view["x"] == TWO_SCORES[0]
    tell(view, {"do": "plane map"})
    assert (view.state.x, view.state.y) == COMPONENTS


def test_selections_are_kept_renamed_removed_and_brought_back(view: ControlsView):
    state = view.state
    state.select(Selection.of_rows([1, 5, 7], state.selection.n))
    tell(view, {"keep": " odd ones "})
    assert view.column.kept == [["odd ones", 3]]
    assert view.column.opened == "odd ones"
    tell(view, {"keep": "odd ones"})
    assert "already" in view.column.said
    tell(view, {"rename": ["odd ones", "rings"]})
    assert view.column.kept == [["rings", 3]]
    assert view.column.opened == "rings"
    tell(view, {"drop": "rings"})
    assert view.column.kept == []
    assert view.column.can_take_back
    tell(view, {"do": "take back"})
    assert view.column.kept == [["rings", 3]]
    assert not view.column.can_take_back
    assert ["Kept selections", [["selection:rings", "rings"]]] in view.column.can["overlays"]


def test_a_kept_selection_meets_what_is_selected_by_the_mode(view: ControlsView):
    state = view.state
    state.select(Selection.of_rows([1, 5], state.selection.n))
    tell(view, {"keep": "two"})
    state.select(Selection.of_rows([5, 9], state.selection.n), "replace")
    tell(view, {"set": {"mode": "intersect"}})
    tell(view, {"open": "two"})
    assert state.selection.rows().tolist() == [5]
    tell(view, {"do": "undo"})
    assert state.selection.rows().tolist() == [5, 9]
    assert view.column.selected["redo"]
    tell(view, {"do": "invert"})
    assert view.column.selected["k"] == state.selection.n - 2


def test_every_view_takes_settings_that_change_at_once(finished_survey: Path):
    setup()
    with Desk.open(finished_survey) as desk, set_curdoc(Document()):
        session = Session(desk)
        tell(session.controls, {"do": "plane scores"})
        assert (session.state.x, session.state.y) == TWO_SCORES
        tell(session.controls, {"set": {"x": TWO_SCORES[1], "y": TWO_SCORES[0], "color": "count", "contours": True}})
        assert (session.state.x, session.state.color, session.state.contours) == (TWO_SCORES[1], "count", True)
