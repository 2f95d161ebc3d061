"""The pane "Curves": what a click on a curve makes of the boundary, without a browser."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import UsageError
from explorer.services.boundaries import Context
from explorer.state import Draft, ExplorerState
from explorer.views.curves import LEARNED, CurvesView, in_words, limits, with_limit
from models.boundary import And, BoundaryError, Gate, Learned, Not, Or, Region
from models.truth import Truth

FEATURE, IMAGE, SHA = "scores.feature_score", "scores.image_score", "ab" * 32
TITLES = {FEATURE: "Feature score", IMAGE: "Image score", "subjects.votes": "votes", "subjects.shape": "shape"}
TRUTH = Truth("column", "subjects.votes", at_least=0.5)
DRAWN = Region("maps.umap_1", "maps.umap_2", ((0, 0), (1, 0), (1, 1)))


class Standing:
    """In place of the services: knows nothing, remembers what it was asked."""

    def __init__(self) -> None:
        self.kept: list[tuple[Draft, Context]] = []
        self.n_circular = 0

    def keep(self, draft: Draft, context: Context) -> str:
        self.kept.append((draft, context))
        return f"draft {len(self.kept)}"

    def circular(self, *_: Any) -> list[str]:
        self.n_circular += 1
        return ["votes"]

    def colors(self, *_: Any) -> dict[str, str]:
        return TITLES

    def is_category(self, reference: str) -> bool:
        return reference == "subjects.shape"

    def mixes(self, _: str) -> bool:
        return True


@pytest.fixture
def view() -> CurvesView:
    services = Standing()
    view = CurvesView(ExplorerState(10, run_id="r"), services, services, services)
    view.pane.shown = True
    return view


def hear(view: CurvesView, **message: Any) -> str:
    """What the pane says to a message of the page."""
    before = view.pane.answered
    view.pane._handle_msg(message)
    assert view.pane.answered == before + 1
    return view.pane.said


def test_a_limit_becomes_a_gate_and_then_moves_it():
    one = with_limit(And(()), FEATURE, 300)
    assert one == And((Gate(FEATURE, low=300),))
    assert with_limit(one, FEATURE, 400) == And((Gate(FEATURE, low=400),))
    assert with_limit(one, IMAGE, 7) == And((Gate(FEATURE, low=300), Gate(IMAGE, low=7)))
    either = Or((DRAWN, Gate(IMAGE, low=1)))
    assert with_limit(either, FEATURE, 300) == And((either, Gate(FEATURE, low=300)))  # never a wider boundary
    assert with_limit(either, IMAGE, 2) == Or((DRAWN, Gate(IMAGE, low=2)))


def test_a_limit_leaves_alone_what_is_taken_away_and_what_a_person_set_otherwise():
    without = And((Not(Gate(FEATURE, low=900)),))
    assert with_limit(without, FEATURE, 300) == And((*without.terms, Gate(FEATURE, low=300)))
    assert limits(without) == {}
    tuned = And((Gate(FEATURE, low=1, high=5, low_percentile=90, high_percentile=99),))
    assert with_limit(tuned, FEATURE, 2) == And((Gate(FEATURE, low=2, high=5, high_percentile=99),))
    assert with_limit(tuned, FEATURE, 6) == And((Gate(FEATURE, low=6),))  # above what was the upper limit


def test_a_classifier_is_cut_between_0_and_1():
    keep = And((Learned(SHA), Gate(FEATURE, low=2)))
    assert limits(keep) == {LEARNED + SHA: 0.5, FEATURE: 2}
    assert with_limit(keep, LEARNED + SHA, 0.7) == And((Learned(SHA, 0.7), Gate(FEATURE, low=2)))
    assert with_limit(And(()), LEARNED + SHA, 3) == And((Learned(SHA, 1.0),))
    with pytest.raises(BoundaryError, match=r"a column is named TABLE\.NAME"):
        with_limit(And(()), "nothing", 1)


@given(
    st.lists(st.sampled_from([Gate(FEATURE, low=1.0), Gate(IMAGE, high=3.0), DRAWN, Learned(SHA)]), max_size=5),
    st.floats(-1e6, 1e6),
)
def test_what_was_set_is_where_the_dot_stands(terms, value):
    for keep in (And(tuple(terms)), Or(tuple(terms)), Not(And(tuple(terms)))):
        assert limits(with_limit(keep, FEATURE, value))[FEATURE] == value


def test_the_dot_follows_the_draft_at_once_and_the_page_gets_its_id(view: CurvesView):
    assert (view.pane.draft_id, view.pane.at["sigma"]) == ("", None)
    view.state.edit(Draft(And((Gate(FEATURE, low=2),)), TRUTH))
    assert view.pane.draft_id == "draft 1"
    assert view.pane.at == {"limits": {FEATURE: 2}, "sigma": 0.5}
    assert view.pane.truth["words"] == "votes ≥ 0.5"
    view.follow_numbers({"cost": {"images": 40, "hours": 2.0, "seconds": 5, "graders": 1, "measured": False}})
    assert (view.pane.at["images"], view.pane.at["seconds"]) == (40, 5)
    view.follow_numbers({"cost": None})
    assert "images" not in view.pane.at
    for low in (3, 4, 5):
        view.state.tune(Draft(And((Gate(FEATURE, low=low),)), TRUTH))
    assert view.pane.at["limits"] == {FEATURE: 5}
    assert view.judge.n_circular == 1  # a threshold changes nothing about it
    view.pane.shown = False
    asked = len(view.judge.kept)
    view.state.edit(Draft(And(()), TRUTH))
    assert len(view.judge.kept) == asked  # nobody looks
    view.pane.shown = True
    assert view.pane.at["limits"] == {}


def test_a_gesture_on_a_curve_is_one_step_of_undo(view: CurvesView):
    before = Draft(And(()), TRUTH)
    view.state.edit(before)
    for value in (1.0, 2.0, 3.0):
        assert hear(view, limit={"reference": FEATURE, "value": value}, settled=False) == ""
    hear(view, limit={"reference": FEATURE, "value": 3.5}, settled=True)
    assert view.state.draft.keep == And((Gate(FEATURE, low=3.5),))
    hear(view, sigma=0.3, settled=True)
    assert view.state.draft.truth == replace(TRUTH, at_least=0.3)
    view.state.undo_draft()
    view.state.undo_draft()
    assert view.state.draft == before


def test_nonsense_is_a_sentence_and_changes_nothing(view: CurvesView):
    draft = Draft(And(()), TRUTH)
    view.state.edit(draft)
    for value in ("x", None, True, float("nan")):
        assert "no number" in hear(view, sigma=value, settled=True)
        assert "no number" in hear(view, limit={"reference": FEATURE, "value": value}, settled=True)
    assert "TABLE.NAME" in hear(view, limit={"reference": "x", "value": 1}, settled=True)
    assert hear(view, color="subjects.nothing") == ""
    assert (view.state.draft, view.state.color, view.state.can_undo_draft) == (draft, "count", True)
    view.state.edit(Draft(And(()), Truth("talk", "lens")))
    assert hear(view, sigma=0.5, settled=True) == ""  # this truth has none
    assert view.state.draft.truth == Truth("talk", "lens")


def test_what_is_done_there_reaches_the_session(view: CurvesView):
    hear(view, act="boundary")
    assert view.state.side == "boundary"
    hear(view, color=IMAGE)
    assert view.state.color == IMAGE
    told: list[tuple[float, tuple[int, ...], bool]] = []
    view.state.edit(Draft(And((DRAWN,)), TRUTH))
    hear(view, hours=4, reference=FEATURE, settled=True)  # nobody can afford anything
    assert view.state.draft.keep == And((DRAWN,))
    view.set_hours = lambda *given: told.append(given)
    hear(view, hours=4, reference=FEATURE, settled=True)
    assert view.state.draft.keep == And((DRAWN, Gate(FEATURE)))  # a gate for the hours to move
    hear(view, hours=5, reference=FEATURE, settled=False)
    assert told == [(4.0, (1,), True), (5.0, (1,), False)]


def test_truths_in_words():
    assert in_words(Truth("product", "subjects.votes", FEATURE, 2.0), TITLES) == "votes × Feature score"
    assert in_words(Truth("category", "subjects.shape", labels=("a", "b", "c", "d")), TITLES) == "shape is a, b, c, …"
    assert in_words(Truth("talk", "lens"), TITLES) == "Talk tag lens"


def test_a_classifier_is_fitted_again_within_what_is_kept(view: CurvesView):
    class Learning:
        def fit(self, run_id: str, truth: Truth, context: Context, *, within: object) -> str:
            if within == And(()):
                raise UsageError("no subject of the truth is kept")
            assert (run_id, truth, context.run_id) == ("r", TRUTH, "r")
            return SHA

    view.learning = Learning()
    view.state.edit(Draft(And((DRAWN,)), TRUTH))
    asyncio.run(view._refit())
    assert view.state.draft.keep == And((DRAWN, Learned(SHA)))
    assert (view.pane.busy, view.pane.said) == (False, "")
    assert view.pane.at["limits"] == {LEARNED + SHA: 0.5}
    view.state.edit(Draft(And(()), TRUTH))
    asyncio.run(view._refit())
    assert (view.pane.busy, view.pane.said) == (False, "no subject of the truth is kept")
    assert view.state.draft.keep == And(())
