"""The panel of a boundary without a browser: what a page tells it, sense and nonsense."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from explorer.services.desk import Desk
from explorer.state import Draft, ExplorerState
from explorer.views.boundary import BoundaryView, key_of, scale_of, sketch
from models.boundary import And, Gate, Learned, Not, Or
from models.truth import Truth

FEATURE, MAGNITUDE = "scores.feature_score", "subjects.magnitude"
BRIGHT = Truth("column", MAGNITUDE, at_least=20.0)


@pytest.fixture
def view(finished_survey: Path, tmp_path: Path) -> Iterator[BoundaryView]:
    survey = tmp_path / "survey"
    shutil.copytree(finished_survey, survey, ignore=shutil.ignore_patterns("server.lock"))
    with Desk.open(survey) as desk:
        explore = desk.explore
        state = ExplorerState(explore.survey.n, side="boundary")
        state.run_id, state.map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        services = desk.boundaries, desk.judge, desk.truths, desk.learning
        yield done(lambda: BoundaryView(state, explore, *services))


def done(act: Callable[[], Any]) -> Any:
    """Do something, and all that follows from it on an event loop."""

    async def run() -> Any:
        found = act()
        while len(tasks := asyncio.all_tasks()) > 1:
            await asyncio.wait(tasks - {asyncio.current_task()})
        return found

    return asyncio.run(run())


def tell(view: BoundaryView, message: object) -> None:
    """What the page would send."""
    done(lambda: view.panel._handle_msg(message))


def edit(view: BoundaryView, draft: Draft) -> None:
    """An edit from elsewhere."""
    done(lambda: view.state.edit(draft))


def kept(view: BoundaryView) -> int:
    """How many the draft keeps, counted apart from the panel."""
    return int(view.boundaries.kept(view.state.draft.keep, view.context).yes.sum())


def test_a_gate_that_moves_is_counted_and_is_one_step_of_undo(view: BoundaryView):
    tell(view, {"act": "gate", "column": FEATURE, "number": 1})
    for k, low in enumerate((10.0, 20.0, 30.0)):
        tell(view, {"move": [0], "change": {"low": low}, "settled": False, "number": 2 + k})
        assert view.panel.heard == 2 + k
        assert view.panel.numbers["n_kept"] == kept(view)
    tell(view, {"move": [0], "change": {"low": 30.0}, "settled": True, "number": 5})
    assert view.state.draft.keep == And((Gate(FEATURE, 30.0),))
    tell(view, {"act": "undo", "number": 6})
    assert view.state.draft.keep == And((Gate(FEATURE),))
    assert view.panel.numbers["n_kept"] == 200
    assert view.panel.draft["keep"]["terms"][0]["low"] is None


def test_a_percentile_is_recorded_with_the_value_that_it_means(view: BoundaryView):
    tell(view, {"act": "gate", "column": FEATURE})
    tell(view, {"move": [0], "change": {"low_percentile": 75.0}, "settled": True, "number": 1})
    gate = view.state.draft.keep.terms[0]
    assert gate.low_percentile == 75
    assert gate.low == pytest.approx(view.boundaries.value_at(FEATURE, 75, view.context))
    assert kept(view) == 50
    tell(view, {"move": [0], "change": {"low": gate.low}, "settled": True, "number": 2})  # by its value: no percentile
    assert view.state.draft.keep.terms[0].low_percentile is None
    tell(view, {"move": [0], "change": {"low_percentile": 120}, "settled": True, "number": 3})
    assert "0 to 100, not 120" in view.panel.said
    assert view.panel.is_wrong
    tell(view, {"move": [0], "change": {"low_percentile": None}, "settled": True, "number": 4})
    assert kept(view) == 200


def test_terms_are_negated_joined_grouped_copied_and_removed(view: BoundaryView):
    a, b = Gate(FEATURE, 20.0), Gate(MAGNITUDE, 18.0)
    edit(view, Draft(And((a, b))))
    steps = [
        ({"act": "negate", "path": [1]}, And((a, Not(b)))),
        ({"act": "negate", "path": [1, 0]}, And((a, b))),
        ({"act": "join", "path": [], "as": "or"}, Or((a, b))),
        ({"act": "group", "path": [0]}, Or((And((a,)), b))),
        ({"act": "copy", "path": [0, 0]}, Or((And((a, a)), b))),
        ({"act": "ungroup", "path": [0]}, None),
        ({"act": "remove", "path": [0, 1]}, Or((And((a,)), b))),
        ({"act": "ungroup", "path": [0]}, Or((a, b))),
        ({"act": "remove", "path": [0]}, Or((b,))),
        ({"act": "remove", "path": [0]}, And(())),
    ]
    for message, becomes in steps:
        before = view.state.draft.keep
        tell(view, message)
        assert view.state.draft.keep == (before if becomes is None else becomes), message
        assert view.panel.is_wrong == (becomes is None)
    for _ in range(8):
        tell(view, {"act": "undo"})
    assert view.state.draft.keep == And((a, Not(b)))


def test_a_truth_is_chosen_by_its_key_and_its_threshold_moves(view: BoundaryView):
    tell(view, {"act": "truth", "offered": key_of(BRIGHT)})
    truth = view.state.draft.truth
    assert truth is not None
    assert truth.column == MAGNITUDE
    tell(view, {"move": "truth", "change": {"at_least": 20.0}, "settled": True, "number": 1})
    magnitude = view.explore.survey.column("magnitude")
    base = view.panel.numbers["rates"]["base"]
    tune = view.truths.half("tune")
    assert (base["k"], base["n"]) == (int((magnitude[tune] >= 20).sum()), int(np.isfinite(magnitude[tune]).sum()))
    assert view.panel.scales[key_of(BRIGHT)]["high"] == pytest.approx(np.nanmax(magnitude))
    tell(view, {"act": "truth", "kind": "positives_only"})
    assert view.panel.numbers["kind"] == "positives_only"
    tell(view, {"act": "gate", "column": MAGNITUDE})
    assert view.panel.numbers["circular"] == ["magnitude"]
    tell(view, {"act": "truth", "offered": "column|subjects.nowhere|"})
    assert view.panel.is_wrong
    tell(view, {"act": "truth", "none": True})
    assert view.state.draft.truth is None
    assert "no truth" in view.panel.numbers["trouble"]


def test_a_classifier_is_fitted_follows_the_truth_and_undo_brings_it_back(view: BoundaryView):
    tell(view, {"act": "fit", "path": None, "kind": "linear", "components": 4, "within": False})
    assert "truth" in view.panel.said
    edit(view, Draft(truth=BRIGHT))
    tell(view, {"act": "fit", "path": None, "kind": "linear", "components": 4, "within": False})
    first = view.state.draft.keep.terms[0]
    assert isinstance(first, Learned)
    assert view.panel.learned[first.model]["title"] == "Linear, 4 components"
    tell(view, {"move": "truth", "change": {"at_least": 18.5}, "settled": True, "number": 1})
    second = view.state.draft.keep.terms[0]
    assert second.model != first.model
    assert view.learning.target(second.model).at_least == 18.5
    tell(view, {"act": "undo"})
    assert (view.state.draft.truth, view.state.draft.keep) == (BRIGHT, And((first,)))
    tell(view, {"act": "follows", "on": False})
    tell(view, {"move": "truth", "change": {"at_least": 19.0}, "settled": True, "number": 2})
    assert view.state.draft.keep == And((first,))
    assert not view.panel.fitting


def test_what_is_saved_is_found_again_renamed_dropped_and_taken_back(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE, 20.0),)), BRIGHT))
    tell(view, {"act": "save", "name": "bright"})
    assert (view.state.draft.name, view.state.draft.version, view.is_changed) == ("bright", 1, False)
    edit(view, replace(view.state.draft, keep=And(())))
    assert view.panel.draft["changed"]
    tell(view, {"act": "save", "name": "bright"})
    assert [v["version"] for v in view.panel.versions] == [2, 1]
    tell(view, {"act": "open", "name": "bright", "version": 1})
    assert view.state.draft.keep == And((Gate(FEATURE, 20.0),))
    tell(view, {"act": "rename", "name": "bright", "to": "faint"})
    assert view.state.draft.name == "faint"
    tell(view, {"act": "drop", "name": "faint"})
    assert view.panel.saved == []
    assert view.panel.can_take_back
    tell(view, {"act": "take back"})
    assert [one["name"] for one in view.panel.saved] == ["faint"]
    tell(view, {"act": "duplicate", "name": "faint"})
    assert view.state.draft.name == "faint 2"
    tell(view, {"act": "compare", "name": "faint"})
    assert view.panel.compared["both"] == view.panel.compared["both"] <= 200
    tell(view, {"act": "open", "name": "nowhere"})
    assert "nowhere" in view.panel.said


def test_a_frozen_version_shows_the_test_half_and_says_how_often(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE, 20.0),)), BRIGHT))
    tell(view, {"act": "freeze"})
    assert "save" in view.panel.said
    tell(view, {"act": "save", "name": "bright"})
    assert view.panel.numbers.get("test") is None
    tell(view, {"act": "freeze"})
    assert view.panel.numbers["test"]["rates"]["kept"]["n"] == int(view.truths.half("test").sum())
    assert view.panel.revealed == 1
    assert view.panel.draft["is_frozen"]


def test_a_file_goes_out_and_comes_in_again(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE, 20.0),)), BRIGHT))
    tell(view, {"act": "save", "name": "bright ones"})
    tell(view, {"act": "export"})
    assert view.panel.file["name"] == "bright_ones-v1.boundary.json"
    text = view.panel.file["text"]
    assert json.loads(text)["voorwerp"] == "boundary"
    tell(view, {"act": "new"})
    tell(view, {"act": "import", "text": text})
    assert view.state.draft.keep == And((Gate(FEATURE, 20.0),))
    assert view.state.draft.version == 0
    for wrong in ("{}", "nonsense", text[:-20], "x" * 5_000_001):
        before = view.state.draft
        tell(view, {"act": "import", "text": wrong})
        assert view.panel.is_wrong
        assert view.state.draft is before


def test_what_is_kept_and_what_is_lost_become_the_selection(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE, low=0.0, high=20.0),))))
    tell(view, {"act": "select"})
    assert view.state.selection.count == kept(view)
    tell(view, {"act": "classes", "column": "subjects.shape"})
    lost = [one for one in view.panel.numbers["lost"] if "spiral" in one["name"]]
    tell(view, {"act": "lost", "reference": lost[0]["reference"]})
    assert view.state.selection.count == lost[0]["n"] - lost[0]["k"]
    done(view.state.undo)
    assert view.state.selection.count == kept(view)


def test_hours_move_a_limit_so_that_no_more_is_kept_than_they_allow(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE), Not(Gate(MAGNITUDE, 20.0))))))
    tell(view, {"act": "cost", "seconds": 10, "graders": 3})
    assert view.panel.numbers["cost"]["hours"] == pytest.approx(kept(view) * 30 / 3600)
    hours = 40 * 30 / 3600
    tell(view, {"move": "hours", "change": {"hours": hours, "path": [0]}, "settled": True, "number": 1})
    assert kept(view) == 40
    assert view.panel.heard == 1
    tell(view, {"act": "cost", "seconds": -1})
    assert view.panel.is_wrong
    tell(view, {"move": "hours", "change": {"hours": hours, "path": [7]}, "settled": True, "number": 2})
    assert view.panel.is_wrong
    assert view.panel.heard == 2


@pytest.mark.parametrize(
    "message",
    [
        {"act": "negate", "path": [9]},
        {"act": "negate", "path": ["0"]},
        {"act": "gate", "column": "subjects.nowhere"},
        {"move": [0], "change": {"low": "x"}, "settled": True},
        {"move": "truth", "change": {"at_least": None}, "settled": True},
        {"move": [0], "change": {"low": float("nan")}, "settled": True},
        {"act": "truth", "limit": -1},
    ],
)
def test_nonsense_changes_nothing_and_is_said(view: BoundaryView, message: dict):
    edit(view, Draft(And((Gate(FEATURE, 20.0),))))
    before = view.state.draft
    tell(view, {**message, "number": 7})
    assert view.state.draft == before
    assert view.panel.said
    assert view.panel.heard == 7


def test_what_is_no_message_is_left_alone(view: BoundaryView):
    before, said = view.state.draft, view.panel.said
    for message in (None, 3, "save", {}, {"act": 3}, {"act": "fly"}, {"move": 5}, {"number": "x"}):
        tell(view, message)
    assert (view.state.draft, view.panel.said) == (before, said)


def test_two_hours_at_once_end_with_the_later_one(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE),))))

    def both() -> None:
        for images, settled in ((80, False), (60, False), (20, True)):
            message = {"hours": images * 5 / 3600, "path": [0]}
            view.panel._handle_msg({"move": "hours", "change": message, "settled": settled, "number": images})

    done(both)
    assert kept(view) == 20
    done(view.state.undo_draft)  # one gesture
    assert view.state.draft.keep == And((Gate(FEATURE),))


def test_an_edit_while_hours_are_worked_out_is_not_overwritten(view: BoundaryView):
    edit(view, Draft(And((Gate(FEATURE),))))
    other = Draft(And((Gate(FEATURE), Gate(MAGNITUDE, 20.0))))

    def both() -> None:
        asyncio.get_running_loop().create_task(view.afford(0.01, (0,), settled=True))
        asyncio.get_running_loop().call_soon(view.state.edit, other)

    done(both)
    assert view.state.draft == other


def test_what_another_tab_or_a_script_saves_is_listed(view: BoundaryView):
    view.boundaries.save("by a script", Draft(And((Gate(FEATURE, 20.0),))), view.context, "someone")
    assert view.panel.saved == []
    done(view.poll)
    assert [one["name"] for one in view.panel.saved] == ["by a script"]
    before = view.panel.saved
    view.boundaries.rename("by a script", "renamed", "someone")
    view.state.side = "subject"
    done(view.poll)
    assert view.panel.saved == before  # nobody looks
    done(lambda: setattr(view.state, "side", "boundary"))
    assert [one["name"] for one in view.panel.saved] == ["renamed"]


def test_the_curves_are_counted_for_while_the_subject_is_shown(view: BoundaryView):
    done(lambda: setattr(view.state, "side", "subject"))
    edit(view, Draft(And((Gate(FEATURE, 20.0),))))
    assert view.panel.numbers["n_kept"] == 200 != kept(view)  # nobody looks
    done(lambda: setattr(view.state, "pane", "curves"))
    assert view.panel.numbers["n_kept"] == kept(view)
    edit(view, Draft(And((Gate(FEATURE, 60.0),))))
    assert view.panel.numbers["n_kept"] == kept(view)


def test_numbers_are_marked_until_they_are_of_what_is_shown(view: BoundaryView):
    seen = []
    view.panel.param.watch(lambda event: seen.append((event.new, view.panel.numbers["n_kept"])), "counting")
    edit(view, Draft(And((Gate(FEATURE, 20.0),))))
    assert seen == [(True, 200), (False, kept(view))]


def test_a_classifier_follows_a_truth_that_is_moved_beside_the_panel(view: BoundaryView):
    edit(view, Draft(And(()), BRIGHT))
    tell(view, {"act": "fit", "kind": "linear", "components": 4})
    done(lambda: setattr(view.state, "side", "subject"))

    def taught() -> tuple[str, float]:
        (leaf,) = view.state.draft.keep.terms
        return leaf.model, view.learning.get(leaf.model).about["truth"]["at_least"]

    for sigma in (19.0, 19.5):
        done(lambda s=sigma: view.state.tune(replace(view.state.draft, truth=replace(BRIGHT, at_least=s))))
        assert taught()[1] == sigma
    asked = []
    view.learning.refit = lambda sha, truth, context, is_moving=False: asked.append((truth.at_least, is_moving)) or sha
    done(view.state.settle_draft)
    assert asked == [(19.5, False)]  # once more, at rest


def test_a_fit_that_was_asked_for_is_not_lost_to_one_that_follows(view: BoundaryView):
    edit(view, Draft(And(()), BRIGHT))

    def both() -> None:
        view.fit(None, "linear", 4, within=False)
        view.fit(None, "linear", 5, within=False)
        view._fit_wanted["follows"] = (view.state.draft, None, {"is_moving": False})

    done(both)
    assert any(isinstance(leaf, Learned) for leaf in view.state.draft.keep.terms)


# ------------------------------------------------------------------------------------------------------ pure functions
def test_the_spread_of_a_column_counts_everyone_and_knows_its_percentiles():
    values = np.concatenate([np.random.default_rng(0).lognormal(3, 1.5, 5000), [np.nan, np.inf]]).astype(np.float32)
    told = scale_of(values)
    finite = values[np.isfinite(values)].astype(np.float64)
    assert told["log"]
    assert sum(told["bins"]) == len(finite)
    assert told["quantiles"] == pytest.approx(np.percentile(finite, told["points"]))
    assert (told["low"], told["high"]) == (finite.min(), finite.max())
    assert scale_of(np.arange(20.0))["integral"]
    assert sum(scale_of(np.full(3, 7.0))["bins"]) == 3
    assert scale_of(np.array([np.nan])) == {}


def test_a_sketch_lies_in_a_square_and_has_few_corners():
    angle = np.linspace(0, 2 * np.pi, 900)
    drawn = np.array(sketch(np.column_stack([1e6 + np.cos(angle), 3 * np.sin(angle)])))
    assert len(drawn) <= 64
    assert (drawn.min(), drawn.max()) == (0, 1)
    assert sketch(np.zeros((3, 2))) == [[0, 0], [0, 0], [0, 0]]


def test_a_session_that_looks_at_subjects_counts_nothing(view: BoundaryView):
    done(lambda: setattr(view.state, "side", "subject"))
    view.judge = SimpleNamespace(numbers=lambda *_, **__: pytest.fail("counted"))  # type: ignore[assignment]
    edit(view, Draft(And((Gate(FEATURE, 20.0),))))
    assert not view.panel.shown


def test_a_limit_moves_until_nothing_false_is_kept_and_undo_brings_it_back(view: BoundaryView):
    gate = Gate(FEATURE, 0.5)
    edit(view, Draft(And((gate, Gate(MAGNITUDE))), BRIGHT))
    tell(view, {"act": "pure", "path": [0]})
    values, known = view.boundaries.source(view.context).column(FEATURE), view.truths.of(BRIGHT, view.context)
    false = view.truths.half("tune") & known.known & ~known.positive
    low = view.state.draft.keep.terms[0].low
    assert not view.panel.is_wrong and low == np.nextafter(values[false].max(), np.float32(np.inf))
    yes = view.boundaries.kept(view.state.draft.keep, view.context).yes
    assert not (yes & false).any()
    assert "nothing false" in view.panel.said or "negatives" in view.panel.said
    tell(view, {"act": "undo"})
    assert view.state.draft.keep.terms[0] == gate


@pytest.mark.parametrize(
    ("keep", "truth", "path", "why"),
    [
        (And((Gate(FEATURE),)), None, [0], "choose one first"),
        (Or((Gate(FEATURE), Gate(MAGNITUDE))), BRIGHT, [0], "other terms keep what is false whatever this limit is"),
        (And((Not(Gate(FEATURE)),)), BRIGHT, [0, 0], "other terms keep what is false whatever this limit is"),
        (And((Gate(FEATURE), Gate(MAGNITUDE, 20.0))), BRIGHT, [0], "nothing false of the tune half is kept"),
        (And((Gate(FEATURE),)), BRIGHT, [], "only the lower limit of a gate"),
        (
            And((Gate(FEATURE),)),
            Truth("column", MAGNITUDE, at_least=-1e9),
            [0],
            "nothing of the tune half is known to be",
        ),
    ],
)
def test_a_limit_that_cannot_be_pure_stays_and_says_why(view: BoundaryView, keep, truth, path, why):
    edit(view, Draft(keep, truth))
    tell(view, {"act": "pure", "path": path})
    assert view.state.draft.keep == keep
    assert view.panel.is_wrong and why in view.panel.said
