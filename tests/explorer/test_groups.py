"""The gallery's sections: every subject in one of them, each where counting by hand puts it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.services.groups import MOST, Group, Grouped, Groups, by_count, by_value
from explorer.state import ExplorerState, Selection
from explorer.survey import Survey
from explorer.views.gallery import GalleryView


@pytest.fixture(scope="module")
def groups(finished_survey: Path):
    survey = Survey.open(finished_survey)
    yield Groups(Explore(survey))
    survey.close()


@pytest.fixture(scope="module")
def run_id(groups: Groups) -> str:
    return next(iter(groups.explore.runs()))


def test_without_a_grouping_there_is_one_section_in_the_order_itself(groups: Groups, run_id: str):
    found = groups.ordered("", "", "subjects.magnitude", run_id, 0.2, True)
    assert found.rows.tolist() == groups.explore.order("subjects.magnitude", run_id, 0.2, True).tolist()
    assert [(g.title, g.start, g.k) for g in found.groups] == [("", 0, 200)]


def test_categories_hold_their_subjects_in_the_order_of_the_gallery(groups: Groups, run_id: str):
    rows = np.arange(0, 200, 3)
    selection_id = groups.explore.keep(Selection.of_rows(np.append(rows, 5), 200))
    found = groups.ordered("values:subjects.shape", selection_id, "subjects.magnitude", run_id, 0.2, False)
    order = groups.explore.ordered(selection_id, "subjects.magnitude", run_id, 0.2, False)
    codes, labels = groups.explore.survey.category("shape")
    assert sorted(found.rows.tolist()) == sorted(order.tolist())
    for group in found.groups:
        here = found.rows[group.start : group.start + group.k]
        assert here.tolist() == [row for row in order.tolist() if labels[codes[row]] == group.title]
    sizes = [g.k for g in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 68


def test_quartiles_are_equal_in_number_and_say_their_bounds(groups: Groups, run_id: str):
    magnitude = groups.explore.survey.column("magnitude")
    found = groups.ordered("quartiles:subjects.magnitude", "", "", run_id, 0.2, False)
    *bins, missing = found.groups
    assert [g.k for g in bins] == [50, 50, 50, 49]
    assert (missing.title, missing.k, found.rows[missing.start]) == ("no value", 1, 3)
    last = -np.inf
    for group in bins:
        values = magnitude[found.rows[group.start : group.start + group.k]]
        assert group.title == f"{values.min():.5g} – {values.max():.5g}"
        assert values.min() > last
        last = values.max()
    upside = groups.ordered("quartiles:subjects.magnitude", "", "", run_id, 0.2, True)
    assert [g.title for g in upside.groups[:4]] == [g.title for g in bins][::-1]
    assert "lowest and highest value" in found.note


def test_equal_values_share_a_bin_and_empty_bins_are_not_there():
    values = np.array([1, 1, 1, 1, 1, 1, 2, 3, np.nan])
    codes, titles = by_count(values, 4)
    assert titles == ["1", "2 – 3"]
    assert codes.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, -1]
    assert by_count(np.full(3, np.nan), 4)[1] == []
    assert by_count(np.ones(5), 10)[1] == ["1"]
    rng = np.random.default_rng(0)
    for n in (1, 7, 100):
        values = rng.integers(0, 9, n).astype(float)
        codes, titles = by_count(values, 10)
        for value in np.unique(values):
            assert len(set(codes[values == value])) == 1
        assert [np.diff(np.sort(codes)).max(initial=0) <= 1, codes.max() + 1] == [True, len(titles)]


def test_titles_of_bins_have_the_digits_that_tell_them_apart():
    rng = np.random.default_rng(0)
    for values in (58000 + rng.random(1000), np.float32(180) + np.float32(1e-3) * rng.random(400).astype(np.float32)):
        codes, titles = by_count(values, 4)
        assert len(set(titles)) == 4
        assert codes.max() == 3
        for title in titles:
            low, high = (float(text) for text in title.split(" – "))
            assert values.min() - 0.1 < low < high < values.max() + 0.1
    assert by_count(np.array([12.0, 12.0]), 4)[1] == ["12"]


def test_a_section_is_selected_by_where_it_begins_not_only_by_its_title(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
):
    """A category may be called "no value"."""
    state = ExplorerState(200)
    view = GalleryView(state, groups.explore, groups)
    found = Grouped(np.arange(200, dtype=np.uint32), (Group("no value", 0, 150), Group("no value", 150, 50)))
    monkeypatch.setattr(groups, "ordered", lambda *_: found)
    for start, k, rows in (
        (150, 50, range(150, 200)),
        (0, 150, range(150)),
        (150, 20, range(150)),
        (7, 50, range(150)),
    ):
        asyncio.run(view.choose("values:subjects.shape", "no value", start, k, "replace"))
        assert state.selection.rows().tolist() == list(rows)
    view.grid._handle_msg({"group": "", "title": "no value", "start": "7", "k": None, "mode": "replace"})
    assert state.selection.count == 150


def test_the_rarest_of_very_many_categories_are_one_section():
    labels = [f"c{i:03d}" for i in range(300)]
    codes = np.repeat(np.arange(300), np.arange(300, 0, -1)).astype(np.int32)
    rows = np.arange(len(codes))
    found, titles = by_value(rows, codes, labels)
    assert titles[:2] == ["c000", "c001"]
    assert (len(titles), titles[-1]) == (MOST, "101 other values")
    assert (found == MOST - 1).sum() == (codes >= MOST - 1).sum()


def test_clusters_are_the_same_each_time_numbered_by_size_and_of_their_own_center(groups: Groups, run_id: str):
    codes, note = groups.clusters(run_id, 5)
    again, _ = Groups(groups.explore).clusters(run_id, 5)
    assert codes.tolist() == again.tolist()
    sizes = np.bincount(codes, minlength=5)
    assert (np.diff(sizes) <= 0).all()
    assert sizes.sum() == 200
    assert "fitted on 200 of 200" in note
    assert "no classes" in note
    latents, rows = groups.explore.survey.latents(run_id)
    centers = np.stack([latents[codes[rows] == k].mean(axis=0) for k in range(5)])
    nearest = np.argmin(((latents[:, None] - centers) ** 2).sum(axis=2), axis=1)
    assert (nearest == codes[rows]).mean() > 0.9  # mini-batches stop near the means, not at them
    found = groups.ordered("clusters:5", "", "scores.anomaly_score", run_id, 0.2, True)
    assert [g.title for g in found.groups] == [f"cluster {i}" for i in range(1, 6)]
    score = groups.explore.values("scores.anomaly_score", run_id)
    for group in found.groups:
        here = found.rows[group.start : group.start + group.k]
        assert (codes[here] == int(group.title.split()[1]) - 1).all()
        assert (np.diff(score[here]) <= 0).all()


def test_sections_are_made_once(groups: Groups, run_id: str):
    told = ("deciles:scores.anomaly_score", "", "", run_id, 0.2, True)
    assert groups.ordered(*told) is groups.ordered(*told)
    assert groups.ordered(*told[:4], 0.4, True) is not groups.ordered(*told)


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ("values:subjects.shap", 'did you mean "subjects.shape"'),
        ("values:subjects.magnitude", "is not in the columns of categories"),
        ("quartiles:subjects.magnitud", 'did you mean "magnitude"'),
        ("clusters:3", "4 to 24 clusters"),
        ("clusters:²", "4 to 24 clusters"),
        ("clusters:many", "4 to 24 clusters"),
        ("halves:subjects.magnitude", "there are values, quartiles, deciles, clusters"),
    ],
)
def test_nonsense_is_a_sentence(groups: Groups, run_id: str, group: str, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        groups.ordered(group, "", "", run_id, 0.2, True)


def test_a_run_without_latent_vectors_has_no_clusters(groups: Groups):
    assert not groups.has_clusters("")
    with pytest.raises(UsageError, match="no latent vectors"):
        groups.clusters("", 4)
