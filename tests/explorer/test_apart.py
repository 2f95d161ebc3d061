"""What sets a selection apart: against scipy, counting pairs, closed forms and simulated coverage."""

import math
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from explorer.errors import UsageError
from explorer.services import apart
from explorer.services.apart import (
    correlations,
    rank_correlation,
    ranks,
    sets_apart,
    share_difference,
    superiority,
    superiority_interval,
)
from explorer.services.explore import Explore
from explorer.state import ExplorerState, Selection
from explorer.survey import Survey
from explorer.views.apart import ApartView
from tests.explorer.small_survey import write_survey

values = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=30).map(np.array)


@given(values, values)
def test_the_probability_is_that_of_counting_pairs_and_mann_whitneys(inside: np.ndarray, outside: np.ndarray):
    auc, variance = superiority(inside, outside)
    wins = (inside[:, None] > outside).astype(float) + 0.5 * (inside[:, None] == outside)
    assert auc == pytest.approx(wins.mean())
    assert auc == pytest.approx(stats.mannwhitneyu(inside, outside).statistic / wins.size)
    delong = wins.mean(axis=1).var(ddof=1) / len(inside) + wins.mean(axis=0).var(ddof=1) / len(outside)
    assert variance == pytest.approx(delong, abs=1e-12)


@given(values, values)
def test_ranks_and_their_correlation_are_scipys(x: np.ndarray, y: np.ndarray):
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    np.testing.assert_array_equal(ranks(x), stats.rankdata(x))
    rho, low, high = rank_correlation(x, y, 0.95)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(rho) and low is None
    else:
        assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert (low is None) == (high is None) == (n < apart.FEW or abs(rho) > 1 - 1e-12)
        assert low is None or -1 < low < rho < high < 1


def test_intervals_are_those_of_the_papers_worked_examples():
    # Newcombe 1998, table II, method 10: 56/70 − 48/80, and 10/10 − 0/10
    for given_, expected in (((56, 70, 48, 80), (0.0524, 0.3339)), ((10, 10, 0, 10), (0.6075, 1.0))):
        k, m, j, n = given_
        _, low, high = share_difference(np.array([k]), m, np.array([j]), n, 0.95)
        np.testing.assert_allclose([low[0], high[0]], expected, atol=6e-5)
    # Bonett & Wright 2000: z ± 1.96 √((1 + ρ²/2) / (n − 3))
    x = np.arange(40.0)
    rho, low, high = rank_correlation(x, np.random.default_rng(0).permutation(40) + x, 0.95)
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / 37)
    assert (math.atanh(rho) - half, math.atanh(rho) + half) == pytest.approx((math.atanh(low), math.atanh(high)))


@pytest.mark.parametrize(("m", "n", "shift"), [(5, 200, 1.0), (3, 40, 0.0), (40, 300, 0.8), (200, 200, 2.5)])
def test_the_interval_of_the_probability_holds_it_about_as_often_as_it_says(m: int, n: int, shift: float):
    rng = np.random.default_rng(1)
    truth, held = stats.norm.cdf(shift / math.sqrt(2)), 0
    for _ in range(600):
        found = superiority(rng.normal(shift, 1, m), rng.normal(0, 1, n))
        low, high = superiority_interval(*found, m, n, 0.95)
        held += low <= truth <= high
    assert 0.92 < held / 600 <= 1


def test_groups_that_do_not_overlap_have_an_interval_too():
    auc, variance = superiority(np.arange(10, 40.0), np.arange(10.0))
    low, high = superiority_interval(auc, variance, 30, 10, 0.95)
    assert (auc, variance, high) == (1, 0, 1) and 0.8 < low < 0.99
    assert superiority_interval(0.0, 0.0, 30, 10, 0.95) == pytest.approx((0, 1 - low))
    low, high = superiority_interval(*superiority(np.array([3.0]), np.arange(100.0)), 1, 100, 0.95)
    assert low < 0.1 < 0.5 < high  # one subject tells little


@pytest.fixture
def explore(tmp_path: Path):
    """300 subjects: a column that is high in the first 60, its double, its reverse, gaps, categories, noise."""
    n, rng = 300, np.random.default_rng(0)
    path = write_survey(tmp_path / "survey", n)
    table = pq.read_table(path / "subjects.parquet")
    high = np.where(np.arange(n) < 60, 2.0, 0.0) + rng.normal(0, 1, n)
    gaps = np.where(np.arange(n) % 3 == 0, np.nan, rng.normal(0, 1, n))
    only_out = np.where(np.arange(n) < 60, np.nan, rng.normal(0, 1, n))
    known = pa.array([True if i < 30 else None for i in range(n)])
    table = table.set_column(table.schema.get_field_index("is_known"), table.schema.field("is_known"), known)
    for name, column in {
        "high": high,
        "twice": 2 * high,
        "turned": -high,
        "gaps": gaps,
        "only_out": only_out,
        "noise": rng.normal(0, 1, n),
        "constant": np.full(n, 3.0),
    }.items():
        table = table.append_column(name, pa.array(column, from_pandas=True))
    shape = np.where(np.arange(n) < 45, "ring", np.where(np.arange(n) % 2, "spiral", "<b>odd</b>"))
    field = pa.field("shape", pa.string(), metadata={"kind": "category"})
    table = table.append_column(field, pa.array([None if i == 299 else s for i, s in enumerate(shape)]))
    pq.write_table(table, path / "subjects.parquet")
    with closing(Survey.open(path)) as survey:
        yield Explore(survey)


def test_what_differs_most_comes_first_and_twins_are_compared_once(explore: Explore):
    found = sets_apart(explore, Selection.of_rows(np.arange(60), 300))
    assert (found.n_in, found.n_out, found.n_elsewhere) == (60, 240, 0)
    assert [c.title for c in found.columns[:4]] == ["high", "turned", "shape", "known object"]
    assert {c.title for c in found.columns[4:]} == {"noise", "gaps"}
    first, turned, shape, known = found.columns[:4]
    assert first.same == ("twice",) and first.is_marked
    assert turned.auc == pytest.approx(1 - first.auc) and turned.same == ()  # the reverse is no twin
    high = explore.survey.column("high")
    assert first.auc == pytest.approx(stats.mannwhitneyu(high[:60], high[60:]).statistic / 60 / 240)
    assert first.low < first.auc < first.high and first.effect == pytest.approx(2 * first.auc - 1)
    assert (first.median_in, first.median_out) == (np.median(high[:60]), np.median(high[60:]))
    assert f"probability of {first.auc:.3f}" in first.said
    ring = shape.shares[0]
    assert (ring.label, ring.k_in, ring.k_out, shape.n_in, shape.n_out) == ("ring", 45, 0, 60, 239)
    assert ring.difference == 0.75 == shape.effect and ring.is_marked and shape.n_categories == 3
    assert [(s.label, s.k_in, s.k_out) for s in known.shares if s.label == "yes"] == [("yes", 30, 0)]
    assert {c.title: (c.n_in, c.n_out) for c in found.columns}["gaps"] == (40, 160)
    assert found.left_out == (("only out", 0, 240),)
    assert found.n_comparisons == 5 + 3 + 2  # high, turned, gaps, only_out, noise; three shapes; yes and no


def test_noise_is_seldom_marked(explore: Explore):
    rng = np.random.default_rng(5)
    marked = sum(
        any(c.is_marked for c in sets_apart(explore, Selection.of_rows(rng.choice(300, 60, False), 300)).columns)
        for _ in range(60)
    )
    assert marked <= 9  # 5 % over all columns of a selection; beyond 9 of 60 with a probability of 0.1 %


def test_of_many_subjects_a_sample_is_compared_that_keeps_all_of_few(explore: Explore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(apart, "MOST", 100)
    found = sets_apart(explore, Selection.of_rows(np.arange(20), 300))
    assert (found.n_in, found.n_out, found.compared_in, found.compared_out) == (20, 280, 20, 80)
    assert found == sets_apart(explore, Selection.of_rows(np.arange(20), 300))
    found = sets_apart(explore, Selection.of_rows(np.arange(150), 300))
    assert (found.compared_in, found.compared_out) == (50, 50)
    found = sets_apart(explore, Selection.of_rows(np.arange(280), 300))
    assert (found.compared_in, found.compared_out) == (80, 20)
    assert correlations(explore, "subjects.high").n_compared == 100


def test_a_score_is_correlated_with_every_number(explore: Explore):
    found = correlations(explore, "subjects.high")
    by = {c.title: c for c in found.columns}
    assert (found.title, found.n, found.n_compared) == ("high", 300, 300)
    assert (by["twice"].rho, by["turned"].rho) == (1, -1)
    assert all(c.low is None and c.same == () and c.is_marked for c in (by["twice"], by["turned"]))
    column = explore.survey.column("gaps")
    known = np.isfinite(column)
    assert by["gaps"].n == 200 == known.sum()
    high = explore.survey.column("high")
    assert by["gaps"].rho == pytest.approx(stats.spearmanr(high[known], column[known]).statistic)
    assert by["gaps"].low < by["gaps"].rho < by["gaps"].high and not by["gaps"].is_marked
    assert "shape" not in by and "high" not in by and "constant" not in by
    few = correlations(explore, "subjects.high", selection=Selection.of_rows(np.arange(9), 300))
    assert few.n == 9 and all(c.low is None and not c.is_marked for c in few.columns if abs(c.rho) < 1)


def test_a_question_without_an_answer_is_a_sentence(explore: Explore):
    some = Selection.of_rows([1], 300)
    with pytest.raises(UsageError, match="nothing is selected"):
        sets_apart(explore, Selection.empty(300))
    with pytest.raises(UsageError, match="everything in the survey is selected"):
        sets_apart(explore, ~Selection.empty(300))
    with pytest.raises(UsageError, match="there is no map"):
        sets_apart(explore, some, among="map")
    with pytest.raises(UsageError, match='did you mean "high"'):
        correlations(explore, "subjects.hihg")


def test_a_page_colors_and_opens_columns_that_there_are_and_nothing_else(explore: Explore):
    state, opened = ExplorerState(300), []
    view = ApartView(state, explore, opened.append)
    for nonsense in (
        None,
        3,
        {},
        {"color": "subjects.no"},
        {"color": ["subjects.high"]},
        {"histogram": {}},
        {"color": 7},
    ):
        view.pane._handle_msg(nonsense)
    assert (state.color, opened) == ("count", [])
    view.pane._handle_msg({"color": "subjects.high"})
    view.pane._handle_msg({"histogram": "subjects.shape"})
    assert (view.pane.color, opened) == ("subjects.high", ["subjects.shape"])
    state.select(Selection.of_rows([1, 2], 300))
    assert view.pane.n_selected == 2 and explore.selection(view.pane.selection_id) == state.selection


def test_on_the_map_only_what_is_on_it_is_compared(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    with closing(Survey.open(tmp_path / "survey")) as survey:
        explore = Explore(survey)
        run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        path = survey.map_folder(map_id) / "coordinates.parquet"
        pq.write_table(pq.read_table(path).slice(50), path)
        told = {"run_id": run_id, "map_id": map_id}
        found = sets_apart(explore, Selection.of_rows(np.arange(100), survey.n), among="map", **told)
        assert (found.n_in, found.n_out, found.n_elsewhere) == (50, 100, 50)
        assert {"scores.feature_score", "subjects.magnitude"} <= {c.reference for c in found.columns}
        assert correlations(explore, "scores.feature_score", among="map", **told).n == 150
        with pytest.raises(UsageError, match="no selected subject is on the map"):
            sets_apart(explore, Selection.of_rows([3], survey.n), among="map", **told)
