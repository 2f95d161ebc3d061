"""A session's state: the selection's algebra and its undo."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.state import ExplorerState, Selection, Steps
from models.boundary import Gate, Not

N = 130
rows = st.sets(st.integers(0, N - 1))


@given(rows, rows)
def test_the_algebra_is_that_of_sets(a: set[int], b: set[int]):
    p, q = Selection.of_rows(a, N), Selection.of_rows(b, N)
    assert set((p | q).rows().tolist()) == a | b
    assert set((p & q).rows().tolist()) == a & b
    assert set((p - q).rows().tolist()) == a - b
    assert p.count == len(a)
    assert all((r in p) == (r in a) for r in range(N))


@given(rows, rows)
def test_equal_selections_have_equal_ids_and_others_not(a: set[int], b: set[int]):
    assert (Selection.of_rows(a, N).id == Selection.of_rows(b, N).id) == (a == b)


def test_the_id_depends_on_the_size_of_the_survey():
    assert Selection.of_rows([1], 10).id != Selection.of_rows([1], 11).id


def test_a_selection_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Selection.empty(10).words[0] = 1


def test_a_row_outside_the_survey_is_refused():
    with pytest.raises(ValueError, match="outside 0 … 9"):
        Selection.of_rows([10], 10)


def test_selections_of_two_surveys_do_not_mix():
    with pytest.raises(ValueError, match="not of one survey"):
        Selection.empty(10) | Selection.empty(11)


def test_regions_replace_add_and_subtract_and_undo_goes_back():
    state = ExplorerState(N)
    a, b = Selection.of_rows(range(10), N), Selection.of_rows(range(5, 20), N)
    state.select(a)
    state.select(b, "add")
    assert state.selection.count == 20
    state.select(b, "subtract")
    np.testing.assert_array_equal(state.selection.rows(), np.arange(5))
    assert state.undo()
    assert state.undo()
    assert state.selection == a
    assert state.undo()
    assert state.selection.count == 0
    assert not state.undo()


def test_the_sessions_mode_is_used_unless_told():
    state = ExplorerState(N, mode="add")
    state.select(Selection.of_rows([1], N))
    state.select(Selection.of_rows([2], N))
    assert state.selection.rows().tolist() == [1, 2]


def test_a_region_that_changes_nothing_is_no_step_of_undo():
    state = ExplorerState(N)
    state.select(Selection.of_rows([1], N))
    state.select(Selection.of_rows([1], N))
    assert state.undo()
    assert state.selection.count == 0


@given(rows)
def test_inverting_is_the_complement(a: set[int]):
    selection = Selection.of_rows(a, N)
    assert set((~selection).rows().tolist()) == set(range(N)) - a
    assert ~~selection == selection
    assert (~Selection.of_rows(range(64), 64)).count == 0  # a last word without spare bits


def test_a_region_can_narrow_the_selection_and_undone_steps_come_back():
    state = ExplorerState(N)
    state.select(Selection.of_rows(range(10), N))
    state.select(Selection.of_rows(range(5, 20), N), "intersect")
    assert state.selection.rows().tolist() == [5, 6, 7, 8, 9]
    assert state.undo()
    assert state.can_redo
    assert state.redo()
    assert state.selection.count == 5
    assert not state.redo()
    state.undo()
    state.select(Selection.of_rows([40], N), "add")  # a new step: what was undone is gone
    assert not state.can_redo


def test_a_gesture_is_one_step_of_undo_however_long_it_is():
    state = ExplorerState(N)
    state.select(Selection.of_rows(range(4), N))
    for last in range(11, 40):
        state.sketch(Selection.of_rows(range(10, last), N), "add")
        assert state.selection.count == 4 + last - 10
    state.settle()
    assert state.selection.count == 33
    assert state.undo()
    assert state.selection.rows().tolist() == [0, 1, 2, 3]


def test_redo_ends_a_gesture_which_leaves_nothing_to_bring_back():
    state = ExplorerState(N)
    one, drawn = Selection.of_rows([1], N), Selection.of_rows([5], N)
    state.select(one)
    state.undo()
    state.sketch(drawn)
    assert not state.redo()
    assert state.selection == drawn
    assert state.undo()
    assert (state.selection.count, state.can_undo) == (0, False)


def test_a_gesture_that_ends_where_it_began_is_no_step_of_undo():
    state = ExplorerState(N)
    state.sketch(Selection.of_rows([5], N))
    state.sketch(Selection.empty(N))
    state.settle()
    assert not state.can_undo


def test_a_boundary_at_work_is_edited_in_steps_that_can_be_taken_back() -> None:
    state = ExplorerState(N)
    first, gate = state.draft, Gate("scores.anomaly_score", low=1.0)
    state.edit(replace(first, keep=gate))
    for low in (2.0, 3.0, 4.0):  # one gesture
        state.tune(replace(state.draft, keep=replace(gate, low=low)))
    state.settle_draft()
    assert state.undo_draft()
    assert state.draft.keep == gate
    state.replace_draft(replace(state.draft, name="arcs", version=1))  # saved: no step
    assert state.undo_draft()
    assert state.draft == replace(first, name="arcs", version=1)
    assert not state.undo_draft()
    assert state.redo_draft()
    assert state.draft.name == "arcs"
    assert state.redo_draft()
    assert state.draft.keep == replace(gate, low=4.0)
    assert not state.redo_draft()
    state.edit(replace(state.draft, keep=Not(gate)))
    assert not state.can_redo_draft


def test_a_gesture_that_ends_where_it_began_is_no_step() -> None:
    state = ExplorerState(N)
    begun = state.draft
    state.tune(replace(begun, keep=Gate("scores.anomaly_score", low=2.0)))
    state.tune(begun)
    state.settle_draft()
    assert not state.can_undo_draft


def test_steps_of_large_selections_come_back_as_they_were_and_take_little_memory():
    n = 64 * 40_000
    rng = np.random.default_rng(0)
    few = Selection.of_rows(rng.integers(0, n, 500), n)
    half = Selection.of_mask(rng.random(n) < 0.5)
    half.title = "half of them"
    most = ~few
    most.title = "nearly all"
    other = Selection.of_mask(rng.random(n) < 0.5)
    steps, kept = Steps(), [few, most, half, Selection.empty(n), other, ~half, few]
    for one in kept:
        steps.append(one)
    assert steps.nbytes < 50_000
    assert steps.nbytes_in_file == 3 * half.words.nbytes
    assert steps.pop() == kept.pop()
    assert steps.pop() == kept.pop()
    steps.append(other)  # where another was
    kept.append(other)
    assert steps.nbytes_in_file == 3 * half.words.nbytes
    while kept:
        found, expected = steps.pop(), kept.pop()
        assert (found, found.title) == (expected, expected.title)
    assert (len(steps), steps.nbytes, steps.nbytes_in_file) == (0, 0, 0)


def test_the_oldest_steps_go_when_they_are_too_many_or_take_too_much(monkeypatch: pytest.MonkeyPatch):
    n = 64 * 40_000
    rng = np.random.default_rng(0)
    drawn = [Selection.of_mask(rng.random(n) < 0.5) for _ in range(6)]
    monkeypatch.setattr("explorer.state.FILE_BYTES", 3 * drawn[0].words.nbytes)
    steps = Steps()
    for one in drawn:
        steps.append(one)
    assert [steps.pop() for _ in range(len(steps))] == drawn[:2:-1]
    for row in range(150):
        steps.append(Selection.of_rows([row], 200))
    assert [steps.pop().rows().tolist() for _ in range(len(steps))] == [[row] for row in range(149, 49, -1)]


def test_without_room_for_a_file_steps_are_in_memory(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError("no room")

    monkeypatch.setattr("explorer.state.os.pwrite", full)
    some = Selection.of_mask(np.random.default_rng(0).random(64 * 40_000) < 0.5)
    steps = Steps()
    steps.append(some)
    assert steps.nbytes == some.words.nbytes
    assert steps.pop() == some
