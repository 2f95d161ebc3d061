"""The address bar: a view survives being written into a link and read again, on another server, too."""

from pathlib import Path

import numpy as np
import pytest

from explorer.services import address, recent
from explorer.services.address import Remembered
from explorer.services.drafts import Drafts
from explorer.services.explore import Explore
from explorer.state import Draft, ExplorerState, Selection
from explorer.survey import Survey
from models.boundary import Gate
from models.truth import Truth


@pytest.fixture(scope="module")
def explore(finished_survey: Path):
    survey = Survey.open(finished_survey)
    yield Explore(survey)
    survey.close()


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path)


def opened(explore: Explore, remembered: Remembered, search: str = "") -> ExplorerState:
    state = ExplorerState(explore.survey.n)
    drafts = Drafts(remembered._recent.folder.parent)
    assert address.restore(state, explore, remembered, drafts, search) == ""
    return state


def test_a_view_is_read_as_it_was_written(explore: Explore, remembered: Remembered):
    state = opened(explore, remembered)
    state.param.update(
        x="scores.feature_score", y="subjects.magnitude", color="subjects.shape", norm="log", palette="magma",
        sort="subjects.magnitude", lambda_=0.7, descending=False, view=(0.25, 1.5, -3.0, 4.0), pane="table", focus=7,
        contours=True, places=False, overlay="subjects.shape", lambda_mode="standardised", aggregate="mean",
    )  # fmt: skip
    state.select(Selection.of_rows([3, 150], explore.survey.n))
    other = opened(explore, remembered, address.write(state, explore, remembered.put(state.selection)))
    for name in (*address.WATCHED, "selection"):
        assert getattr(other, name) == getattr(state, name), name


def test_a_deep_zoom_is_in_the_link(explore: Explore, remembered: Remembered):
    state = opened(explore, remembered)
    state.view = (180.12341, 180.12349, -0.000012, 0.000034)
    assert opened(explore, remembered, address.write(state, explore)).view == state.view


@pytest.mark.parametrize("weight", ["nan", "inf", "many"])
def test_a_lambda_that_is_no_number_is_the_runs(explore: Explore, remembered: Remembered, weight: str):
    assert opened(explore, remembered, f"?lambda={weight}").lambda_ == 0.2


def test_a_turned_map_is_in_the_link(explore: Explore, remembered: Remembered):
    state = opened(explore, remembered)
    state.param.update(solid=True, turn=(1.25, -0.5))
    other = opened(explore, remembered, address.write(state, explore))
    assert (other.solid, other.turn) == (True, (1.25, -0.5))


def test_a_fresh_view_has_a_short_link(explore: Explore, remembered: Remembered):
    search = address.write(opened(explore, remembered), explore)
    assert {part.split("=")[0] for part in search[1:].split("&")} == {"map", "run", "color", "sort", "lambda", "order"}


def test_a_boundary_at_work_is_in_the_link(explore: Explore, remembered: Remembered):
    state = opened(explore, remembered)
    state.draft = Draft(Gate("scores.feature_score", low=0.25), Truth("talk", "merger"))
    state.side = "boundary"
    name = Drafts(remembered._recent.folder.parent).put(state.draft)
    other = opened(explore, remembered, address.write(state, explore, boundary=name))
    assert (other.draft, other.side) == (state.draft, "boundary")


def test_what_a_link_names_and_the_survey_lacks_is_said(explore: Explore, remembered: Remembered, tmp_path: Path):
    state = ExplorerState(explore.survey.n)
    search = (
        "?subject=nobody&color=subjects.nothing&x=scores.none&selection=0123456789abcdef0123&view=1,0,nan,2&turn=a,b"
        "&boundary=0123456789abcdef0123"
    )
    said = address.restore(state, explore, remembered, Drafts(tmp_path), search)
    for word in ("subject nobody", "coloring subjects.nothing", "axis scores.none", "view 1,0,nan,2"):
        assert word in said
    assert "selection 0123456789abcdef0123, boundary 0123456789abcdef0123" in said
    assert (state.view, state.focus, state.selection.count, state.solid) == (None, None, 0, False)


def test_nonsense_in_a_link_changes_nothing(explore: Explore, remembered: Remembered):
    state = opened(explore, remembered, "?norm=rainbow&lambda=many&pane=../etc&overlay=subjects.magnitude&palette=jet")
    assert (state.norm, state.lambda_, state.pane, state.overlay, state.palette) == (
        "percentile",
        0.2,
        "gallery",
        "",
        "auto",
    )


def test_another_run_gets_what_it_has(explore: Explore, remembered: Remembered):
    state = opened(explore, remembered)
    state.param.update(run_id="", color="scores.feature_score", sort="scores.image_score", x="scores.feature_score")
    address.fit_to_run(state, explore)
    assert (state.color, state.sort, state.x) == ("count", "", "maps.umap_1")


# ------------------------------------------------------------------------------------------ remembered selections
def test_a_selection_comes_back_and_grows_with_the_survey(remembered: Remembered):
    selection = Selection.of_rows(np.arange(0, 1000, 7), 1000)
    name = remembered.put(selection)
    assert remembered.get(name, 1000) == selection
    assert remembered.get(name, 1100).rows().tolist() == selection.rows().tolist()
    assert remembered.get(name, 900) is None  # of another, larger survey


@pytest.mark.parametrize("name", ["", "../../ledger.db", "0123456789abcdef0123", "x" * 64])
def test_an_unknown_selection_is_none(remembered: Remembered, name: str):
    assert remembered.get(name, 1000) is None


def test_a_damaged_selection_is_none(remembered: Remembered, tmp_path: Path):
    name = remembered.put(Selection.of_rows([1, 2], 100))
    (file,) = (tmp_path / "selections" / "recent").iterdir()
    content = bytearray(file.read_bytes())
    content[-3] ^= 0xFF
    file.write_bytes(content)
    assert remembered.get(name, 100) is None


def test_only_the_newest_are_kept(remembered: Remembered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recent, "REMEMBERED", 3)
    names = [remembered.put(Selection.of_rows([k], 100)) for k in range(6)]
    kept = {file.name for file in (tmp_path / "selections" / "recent").iterdir()}
    assert len(kept) == 3
    assert names[-1] in kept
