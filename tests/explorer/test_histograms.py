"""Counts against numpy.histogram, gates against plain comparisons."""

import math
import threading
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from explorer.errors import UsageError
from explorer.services.explore import Explore, Plane
from explorer.services.histograms import (
    MOST_CATEGORIES,
    PERCENTILES,
    Gate,
    Histogram,
    Histograms,
    Scale,
    Source,
    edges_of,
)
from explorer.state import ExplorerState, Selection
from explorer.survey import Survey
from explorer.views.histograms import HistogramsView
from tests.explorer.small_survey import write_survey

any_float = st.floats(width=32) | st.sampled_from(
    [0.0, -0.0, 0.3, 1.0, 2.0, 1e-40, -1e30, math.inf, -math.inf, math.nan]
)
columns = hnp.arrays(st.sampled_from([np.float32, np.float64]), st.integers(1, 200), elements=any_float)


class Column:
    """An `Explore` of one numeric column."""

    def __init__(self, values: np.ndarray, labels: list[str] | None = None) -> None:
        self._values, self._labels = values, labels
        self.survey = self
        self.n, self.generation = len(values), 0

    def is_category(self, reference: str) -> bool:
        return self._labels is not None

    def values(self, *told: object) -> np.ndarray:
        return self._values

    def category(self, name: str) -> tuple[np.ndarray, list[str]]:
        return self._values, self._labels


def histogram(values: np.ndarray, *of: Selection, **scale: object) -> Histogram:
    """The histogram of one column."""
    return Histograms(Column(values)).histogram("a column", Scale(**scale), of=of)


def check(found: Histogram, values: np.ndarray, rows: np.ndarray, which: int | None = None, log: bool = False) -> None:
    """Every count of a histogram against the obvious."""
    counts, values = found.full if which is None else found.of[which], values[rows].astype(np.float64)
    known = values[~np.isnan(values)]
    inside = known[np.isfinite(known)]
    if len(found.edges):
        assert counts.bins.tolist() == np.histogram(inside, bins=found.edges)[0].tolist()
    assert counts.n == len(values)
    assert counts.missing == np.isnan(values).sum()
    assert counts.not_positive == ((known <= 0).sum() if log else 0)
    assert counts.bins.sum() + counts.missing + counts.below + counts.above + counts.not_positive == counts.n
    if len(found.edges):
        assert counts.above == (known > found.edges[-1]).sum()
        assert counts.below == ((known < found.edges[0]) & ((known > 0) if log else True)).sum()


@given(columns, st.integers(1, 200), st.booleans(), st.data())
def test_counts_are_those_of_numpy(values: np.ndarray, bins: int, log: bool, data: st.DataObject):
    rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), unique=True)), int)
    found = histogram(values, Selection.of_rows(rows, len(values)), bins=bins, log=log)
    check(found, values, np.arange(len(values)), log=log)
    check(found, values, rows, 0, log=log)
    assert (np.diff(found.edges) >= 0).all()


@given(columns, st.floats(-100, 100), st.floats(0.01, 100), st.integers(1, 200))
def test_counts_within_a_range_are_those_of_numpy(values: np.ndarray, low: float, span: float, bins: int):
    found = histogram(values, bins=bins, low=low, high=low + span)
    assert (found.edges[0], found.edges[-1]) == (low, low + span)
    check(found, values, np.arange(len(values)))


@given(columns)
def test_every_finite_value_is_in_a_bin_of_the_columns_own_range(values: np.ndarray):
    assert histogram(values).full.bins.sum() == np.isfinite(values).sum()
    assert histogram(values, log=True).full.bins.sum() == (np.isfinite(values) & (values > 0)).sum()


@given(columns)
def test_percentile_lines_are_those_of_numpy(values: np.ndarray):
    finite = values[np.isfinite(values)].astype(np.float64)
    lines = histogram(values).lines
    assert [line.percentile for line in lines] == (list(PERCENTILES) if len(finite) else [])
    for line in lines:
        expected = np.percentile(finite, line.percentile)
        assert line.value == pytest.approx(expected, rel=1e-6, abs=1e-30)
        assert (line.above, line.of) == ((finite > line.value).sum(), len(finite))


def test_percentile_lines_of_a_thousand_say_how_many_are_above():
    lines = histogram(np.arange(1001.0)).lines
    assert [(line.value, line.above, line.of) for line in lines] == [
        (500, 500, 1001), (900, 100, 1001), (950, 50, 1001), (990, 10, 1001), (999, 1, 1001)
    ]  # fmt: skip


def test_whole_numbers_are_cut_between_them_and_every_bin_has_as_many():
    assert edges_of(np.array([0.0, 3, 1, np.nan]), Scale()).tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert histogram(np.array([0.0, 3, 1, 3])).full.bins.tolist() == [1, 1, 0, 2]
    edges = edges_of(np.arange(1000.0), Scale(96))
    assert set(np.diff(edges)) == {11}
    assert edges[0] == -0.5
    assert edges[-1] > 999
    assert len(edges_of(np.array([0.0, 3, 1.5]), Scale(96))) == 97


def test_a_column_of_one_value_has_a_range_and_one_of_none_has_not():
    assert histogram(np.array([2.5, 2.5])).full.bins.sum() == 2
    assert histogram(np.full(2, 1e300)).full.bins.sum() == 2
    assert histogram(np.full(2, 2.5), log=True).full.bins.sum() == 2
    nothing = histogram(np.array([np.nan, np.inf, -np.inf, -np.inf]))
    assert (len(nothing.edges), len(nothing.full.bins), nothing.lines) == (0, 0, [])
    assert (nothing.full.missing, nothing.full.above, nothing.full.below) == (1, 1, 2)
    nothing = histogram(np.array([0.0, -1, np.nan]), log=True)
    assert (len(nothing.edges), nothing.full.not_positive, nothing.full.missing) == (0, 2, 1)


def test_a_marker_at_the_end_of_double_precision_does_no_harm():
    values = np.array([-1.7976931348623157e308, 1.5, 1.7976931348623157e308])
    assert histogram(values, bins=2).full.bins.tolist() == [1, 2]


def test_values_wholly_beyond_a_bound_are_below_or_above():
    assert histogram(np.array([1.5, 2]), low=10).full.below == 2
    assert histogram(np.array([1.5, 2]), high=1).full.above == 2


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ({"bins": 0}, "1 to 200 bins, not 0"),
        ({"bins": 201}, "1 to 200 bins, not 201"),
        ({"low": math.nan}, "is finite, not nan"),
        ({"high": math.inf}, "is finite, not inf"),
        ({"low": 2, "high": 2}, "upwards, not from 2 to 2"),
        ({"low": 0, "log": True}, "begins above 0, not at 0"),
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(scale: dict, said: str):
    with pytest.raises(UsageError, match=said):
        Scale(**scale)


# ------------------------------------------------------------------------------------------------------ categories
def test_categories_are_counted_commonest_first_and_the_missing_apart():
    codes = np.array([2, 0, 2, -1, 1, 2, 0], np.int32)
    found = Histograms(Column(codes, ["a", "b", "c"])).histogram("x", of=[Selection.of_rows([0, 1, 3], 7)])
    assert found.labels == ["c", "a", "b"]
    assert found.full.bins.tolist() == [3, 2, 1]
    assert (found.full.missing, found.full.n) == (1, 7)
    assert found.of[0].bins.tolist() == [1, 1, 0]
    assert (found.of[0].missing, found.of[0].n) == (1, 3)


def test_rare_categories_share_a_bar():
    codes = np.repeat(np.arange(40, dtype=np.int32), np.arange(40, 0, -1))
    found = Histograms(Column(codes, [f"k{i}" for i in range(40)])).histogram("x")
    assert found.labels == [f"k{i}" for i in range(MOST_CATEGORIES)] + ["16 others"]
    assert found.full.bins.tolist() == [*range(40, 16, -1), 16 * 17 // 2]


# ----------------------------------------------------------------------------------------------------------- gates
@given(columns, any_float.filter(lambda v: not math.isnan(v)), any_float.filter(lambda v: not math.isnan(v)))
def test_a_gate_has_both_of_its_ends(values: np.ndarray, low: float, high: float):
    found = Histograms(Column(values)).within("x", low, high)
    low, high = values.dtype.type(low), values.dtype.type(high)
    assert found.rows().tolist() == np.flatnonzero((values >= low) & (values <= high)).tolist()


def test_a_bound_is_read_in_the_columns_precision():
    gates = Histograms(Column(np.array([0.1, 0.3, 0.5], np.float32)))
    assert gates.within("x", high=0.3).rows().tolist() == [0, 1]
    assert gates.within("x", 0.3, 1e300).rows().tolist() == [1, 2]


def test_a_bound_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match="a bound of x is no number"):
        Histograms(Column(np.zeros(3))).within("x", math.nan)


@given(st.integers(0, 2**32), st.sampled_from([1, 63, 64, 65, 200]))
def test_gates_are_anded(seed: int, n: int):
    rng = np.random.default_rng(seed)
    table = {"a": rng.random(n), "b": rng.integers(0, 5, n).astype(float)}
    explore = Column(table["a"])
    explore.values = lambda reference, *told: table[reference]
    found = Histograms(explore).gated([Gate("a", 0.2, 0.8), Gate("b", 1, 3)])
    expected = (table["a"] >= 0.2) & (table["a"] <= 0.8) & (table["b"] >= 1) & (table["b"] <= 3)
    assert found.rows().tolist() == np.flatnonzero(expected).tolist()


def test_no_gate_lets_everyone_through():
    assert Histograms(Column(np.zeros(70))).gated([]).count == 70


def test_a_gate_of_categories_has_those_of_any_and_never_the_missing():
    gates = Histograms(Column(np.array([0, 1, -1, 2, 1], np.int32), ["a", "b", "c"]))
    assert gates.gated([Gate("x", labels=("b", "c"))]).rows().tolist() == [1, 3, 4]
    assert gates.gated([Gate("x")]).count == 0
    with pytest.raises(UsageError, match='x has no category "d"'):
        gates.gated([Gate("x", labels=("a", "d"))])


# ------------------------------------------------------------------------------------------------------ on a survey
@pytest.fixture
def explore(finished_survey: Path):
    survey = Survey.open(finished_survey)
    yield Explore(survey)
    survey.close()


def test_the_anomaly_score_follows_lambda(explore: Explore):
    run_id = next(iter(explore.runs()))
    histograms = Histograms(explore)
    for lambda_ in (0.2, 1.0):
        values = explore.values("scores.anomaly_score", run_id, lambda_)
        found = histograms.histogram("scores.anomaly_score", source=Source(run_id, lambda_))
        check(found, values, np.arange(len(values)))
        low, high = np.percentile(values, [20, 80])
        inside = histograms.within("scores.anomaly_score", float(low), float(high), Source(run_id, lambda_))
        assert inside.rows().tolist() == np.flatnonzero((values >= low) & (values <= high)).tolist()


def test_what_is_in_view_is_counted_by_the_maps_own_coordinates(explore: Explore):
    map_id = next(iter(explore.maps()))
    x, y = explore.survey.coordinates(map_id)[:, :2].T
    view = tuple(float(v) for v in (*np.percentile(x, [10, 70]), *np.percentile(y, [20, 90])))
    seen = Histograms(explore).seen(Plane(map_id), view)
    inside = (x > view[0]) & (x < view[1]) & (y > view[2]) & (y < view[3])
    assert set(np.flatnonzero(inside)) <= set(seen.rows())
    assert seen.count - inside.sum() <= 4  # on an edge
    with pytest.raises(UsageError, match="the view is empty"):
        Histograms(explore).seen(Plane(map_id), (1.0, 0.0, 0.0, 1.0))


def test_unknown_columns_are_refused_with_the_near_miss(explore: Explore):
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        Histograms(explore).histogram("subjects.magnitud")
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        Histograms(explore).within("subjects.magnitud", 0, 1)


def test_a_column_that_changes_is_counted_anew(tmp_path: Path):
    survey = Survey.open(write_survey(tmp_path / "five"))
    explore = Explore(survey)
    histograms = Histograms(explore)
    table = pq.read_table(survey.path / "subjects.parquet")
    assert histograms.histogram("subjects.ra").full.missing == 5
    at = table.schema.get_field_index("ra")
    filled = table.set_column(at, table.schema.field(at), pa.array([1.5, 2, 3, 4, 5], table.schema.field(at).type))
    pq.write_table(filled, survey.path / "subjects.parquet")
    survey.refresh()
    assert histograms.histogram("subjects.ra").full.missing == 0
    survey.close()


def test_many_threads_count_the_same():
    values = np.random.default_rng(0).random(10_000)
    histograms, found = Histograms(Column(values)), []
    threads = [threading.Thread(target=lambda: found.append(histograms.histogram("x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({h.full.bins.tobytes() for h in found}) == 1


def test_a_histogram_is_json():
    told = orjson.loads(orjson.dumps(histogram(np.arange(3.0)), option=orjson.OPT_SERIALIZE_NUMPY))
    assert told["full"]["bins"] == [1, 1, 1]
    assert told["lines"][0]["percentile"] == 50


# --------------------------------------------------------------------------------------------------------- brushes
@pytest.fixture
def view(explore: Explore):
    state = ExplorerState(explore.survey.n)
    state.run_id, state.map_id = next(iter(explore.runs())), next(iter(explore.maps()))
    return HistogramsView(state, explore, Histograms(explore))


def rows_within(view: HistogramsView, low: float, high: float) -> list[int]:
    values = view.explore.values("subjects.magnitude")
    return np.flatnonzero((values >= low) & (values <= high)).tolist()


def bright(low: float, high: float = math.inf) -> Gate:
    return Gate("subjects.magnitude", low, high)


def test_a_brush_is_one_step_of_undo_and_comes_back_with_its_selection(view: HistogramsView):
    state = view.state
    for high in (17.5, 18, 18.5):
        view.brush([bright(17.2, high)], settled=False)
        assert state.selection.rows().tolist() == rows_within(view, 17.2, high)
    view.brush([bright(17.2, 18.5)], settled=True)
    assert [g["high"] for g in view.pane.gates] == [18.5]
    view.brush([bright(17.2, 19)], settled=True)
    state.undo()
    assert state.selection.rows().tolist() == rows_within(view, 17.2, 18.5)
    assert [g["high"] for g in view.pane.gates] == [18.5]
    state.undo()
    assert (state.selection.count, view.pane.gates, state.can_undo) == (0, [], False)
    state.redo()
    assert [g["high"] for g in view.pane.gates] == [18.5]


@pytest.mark.parametrize("mode", ["replace", "add", "subtract", "intersect"])
def test_a_moved_brush_meets_what_was_selected_before_it(view: HistogramsView, mode: str):
    state, before = view.state, set(range(0, 200, 3))
    state.select(Selection.of_rows(sorted(before), 200))
    state.mode = mode
    for low in (18, 19):  # the second is the first one moved, not another region
        view.brush([bright(low)], settled=True)
        inside = set(rows_within(view, low, math.inf))
        met = {"replace": inside, "add": before | inside, "subtract": before - inside, "intersect": before & inside}
        assert set(state.selection.rows()) == met[mode]
    view.brush([], settled=True)
    assert set(state.selection.rows()) == (set() if mode == "replace" else before)
    assert view.pane.gates == []


def test_another_mode_takes_what_the_brushes_selected_as_given(view: HistogramsView):
    view.brush([bright(18)], settled=True)
    view.state.mode = "subtract"
    view.brush([bright(18), Gate("subjects.shape", labels=("spiral",))], settled=True)
    codes, labels = view.explore.survey.category("shape")
    expected = [r for r in rows_within(view, 18, math.inf) if labels[codes[r]] != "spiral"]
    assert view.state.selection.rows().tolist() == expected
    assert [g["reference"] for g in view.pane.gates] == ["subjects.shape"]


@pytest.mark.parametrize("settled", [True, False])
def test_the_same_brush_let_go_again_in_another_mode_changes_nothing(view: HistogramsView, settled: bool):
    state, selected = view.state, rows_within(view, 18, 19)
    state.mode = "add"
    view.brush([bright(18, 19)], settled=settled)
    state.mode = "replace"
    view.brush([bright(18, 19)], settled=True)
    assert state.selection.rows().tolist() == selected
    assert [g["high"] for g in view.pane.gates] == [19]
    assert state.undo()
    assert (state.selection.count, state.can_undo) == (0, False)


def test_brushes_go_when_the_selection_is_another_or_their_column_is(view: HistogramsView):
    state = view.state
    view.brush([bright(18)], settled=True)
    state.lambda_ = 0.5
    assert len(view.pane.gates) == 1
    state.invert()
    assert view.pane.gates == []
    score = Gate("scores.anomaly_score", 0.0)
    view.brush([score], settled=True)
    count = state.selection.count
    state.lambda_ = 0.6
    assert (view.pane.gates, state.selection.count) == ([], count)


@pytest.mark.parametrize(
    "gate",
    [
        None,
        {},
        {"reference": 3},
        {"reference": "subjects.magnitude", "low": "<b>"},
        {"reference": "subjects.magnitude", "low": True},
        {"reference": "subjects.shape", "labels": [1]},
        {"reference": "subjects.magnitude", "low": math.nan},
        {"reference": "subjects.nothing", "low": 1},
    ],
)
def test_a_message_that_is_no_brush_selects_nothing_and_is_answered(view: HistogramsView, gate: object):
    view.pane._handle_msg({"gates": [gate], "settled": True, "number": 7})
    assert (view.state.selection.count, view.pane.answered) == (0, 7)
    assert view.pane.said


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_long_column_is_counted_by_several_threads_as_a_short_one_is(dtype, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    values = np.round(rng.standard_normal(700_001), 3).astype(dtype)
    values[::11] = np.nan
    some = Selection.of_rows(np.flatnonzero(rng.random(len(values)) < 0.3), len(values))
    found = histogram(values, some, bins=50)
    for counts, of in ((found.full, values), (found.of[0], values[some.mask()])):
        assert counts.bins.tolist() == np.histogram(of[np.isfinite(of)], found.edges)[0].tolist()
        assert (counts.n, counts.missing) == (len(of), np.isnan(of).sum())
    gated = Histograms(Column(values)).within("a column", -0.5, 0.25)
    assert gated.rows().tolist() == np.flatnonzero((values >= dtype(-0.5)) & (values <= dtype(0.25))).tolist()
    monkeypatch.setattr("explorer.services.histograms.LARGE", 1000)
    assert histogram(values, bins=50).lines == found.lines
