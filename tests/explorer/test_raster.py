"""The renderer against slow, obvious references and against datashader."""

import datashader as ds
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.raster import (
    DIM,
    EMPTY,
    FULL,
    LEVELS,
    MISSING,
    MISSING_DIM,
    Cache,
    CellIndex,
    Paint,
    Scale,
    render,
)
from explorer.state import Selection


@pytest.fixture(scope="module")
def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    n = 120_000
    x, y = rng.normal(size=(2, n)).astype(np.float32) * 3
    x[5], y[9] = np.nan, np.inf
    return x, y, rng.normal(size=n).astype(np.float32)


@pytest.fixture(scope="module")
def index(points: tuple[np.ndarray, ...]) -> CellIndex:
    return CellIndex(points[0], points[1])


def even_odd(x: np.ndarray, y: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """The even-odd rule, point by edge."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    inside = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return inside


def test_every_finite_point_is_placed_once_and_no_other(points, index):
    x, y, _ = points
    assert sorted(index.rows.tolist()) == np.flatnonzero(np.isfinite(x) & np.isfinite(y)).tolist()
    np.testing.assert_array_equal(index.x, x[index.rows])
    np.testing.assert_array_equal(index.y, y[index.rows])


@pytest.mark.parametrize("view", [(-15, 15, -15, 15), (-1, 2, -0.5, 0.25), (0.1, 0.1001, 0, 0.001), (50, 60, 50, 60)])
def test_a_frame_holds_exactly_the_pixels_and_subjects_that_a_histogram_finds(points, index, view):
    x, y, _ = points
    w, h = 90, 70
    counts, _, _ = np.histogram2d(
        y[np.isfinite(x + y)], x[np.isfinite(x + y)], (h, w), ((view[2], view[3]), (view[0], view[1]))
    )
    frame = render(index, view, w, h, Paint.count("linear"))
    inside = (x >= view[0]) & (x < view[1]) & (y >= view[2]) & (y < view[3])
    assert frame.n_in_view == inside.sum()
    if frame.radius == 0:
        # numpy closes the last bin on the right, and rounds in float64
        assert ((frame.pixels > 0) != (counts > 0)).mean() < 1e-3


def test_the_count_agrees_with_datashader(points, index):
    x, y, _ = points
    view, w, h = (-2.0, 2.0, -1.5, 1.5), 40, 30
    theirs = ds.Canvas(w, h, view[:2], view[2:]).points(pd.DataFrame({"x": x, "y": y}), "x", "y").to_numpy()
    frame = render(index, view, w, h, Paint.count("linear"))
    assert frame.radius == 0
    top = theirs.max()
    expected = np.where(theirs > 0, FULL + (theirs / top * (LEVELS - 1)).astype(int), EMPTY)
    assert np.abs(frame.pixels.astype(int) - expected).max() <= 1
    assert frame.ticks[-1] == (1.0, top)


def test_the_maximum_agrees_with_datashader_and_missing_is_grey_not_zero(points, index):
    x, y, values = points
    values = values.copy()
    values[x > 1] = np.nan
    view, w, h = (-2.0, 2.0, -1.5, 1.5), 40, 30
    frame_of = pd.DataFrame({"x": x, "y": y, "v": values})
    theirs = ds.Canvas(w, h, view[:2], view[2:]).points(frame_of, "x", "y", ds.max("v")).to_numpy()
    count = ds.Canvas(w, h, view[:2], view[2:]).points(frame_of, "x", "y").to_numpy()
    paint = Paint.of_values(index, values, "max", "linear")
    frame = render(index, view, w, h, paint)
    level = np.searchsorted(paint.scale.edges, theirs, side="right")
    expected = np.where(np.isnan(theirs), np.where(count > 0, MISSING, EMPTY), FULL + level)
    np.testing.assert_array_equal(frame.pixels, expected)
    assert (frame.pixels == MISSING).any()


def test_the_mean_agrees_with_datashader(points, index):
    x, y, values = points
    view, w, h = (-2.0, 2.0, -1.5, 1.5), 40, 30
    theirs = (
        ds.Canvas(w, h, view[:2], view[2:])
        .points(pd.DataFrame({"x": x, "y": y, "v": values}), "x", "y", ds.mean("v"))
        .to_numpy()
    )
    paint = Paint.of_values(index, values, "mean", "linear")
    frame = render(index, view, w, h, paint)
    level = np.searchsorted(paint.scale.edges, theirs, side="right")
    assert np.abs(frame.pixels.astype(int) - (FULL + level)).max() <= 1


def test_the_commonest_category_gives_the_colour():
    x = np.array([0.5, 0.5, 0.5, 1.5, 1.5])
    index = CellIndex(np.append(x, 9.0), np.append(np.full(5, 0.5), 9.0))
    paint = Paint.of_categories(index, np.array([0, 1, 1, 0, -1, -1], np.int32), ["rare", "common"])
    assert paint.labels == ["rare", "common"]
    frame = render(index, (0, 10, 0, 10), 10_0, 10_0, paint)
    assert frame.pixels[5, 5] == FULL + 1
    assert frame.pixels[5, 15] == FULL + 0
    assert frame.pixels[90, 90] == MISSING


def test_beyond_twelve_categories_the_rest_share_one_colour():
    codes = np.repeat(np.arange(20), np.arange(20, 0, -1)).astype(np.int32)
    index = CellIndex(np.arange(len(codes), dtype=float), np.zeros(len(codes)))
    paint = Paint.of_categories(index, codes, [f"c{i}" for i in range(20)])
    assert paint.labels == [f"c{i}" for i in range(11)] + ["other"]
    assert set(paint.codes.tolist()) == set(range(12))


def test_a_selection_dims_the_rest_and_keeps_the_selected_in_full(points, index):
    x, _, values = points
    selection = Selection.of_rows(np.flatnonzero(x > 0), len(x))
    for paint in (
        Paint.count(),
        Paint.of_values(index, values, "max", "equalised"),
        Paint.of_values(index, values, "mean", "log"),
    ):
        frame = render(index, (-3, 3, -3, 3), 60, 60, paint, selection)
        left, right = frame.pixels[:, :30], frame.pixels[:, 30:]
        assert ((left == EMPTY) | ((left >= DIM) & (left < FULL)) | (left == MISSING_DIM)).all()
        assert ((right == EMPTY) | (right >= FULL) | (right == MISSING)).all()


def test_an_empty_selection_dims_nothing(points, index):
    plain = render(index, (-3, 3, -3, 3), 60, 60, Paint.count())
    empty = render(index, (-3, 3, -3, 3), 60, 60, Paint.count(), Selection.empty(index.n_rows))
    np.testing.assert_array_equal(plain.pixels, empty.pixels)


def test_points_grow_when_there_is_room_and_the_highest_is_never_covered():
    index = CellIndex(np.array([5.0, 6.0]), np.array([5.0, 5.0]))
    values = np.array([1.0, 0.0])
    frame = render(index, (0, 100, 0, 100), 100, 100, Paint.of_values(index, values, "max", "equalised"))
    assert frame.radius == 4
    top = frame.pixels.max()
    assert frame.pixels[5, 5] == top
    assert frame.pixels[5, 6] == top  # within the disc of the higher one
    assert (frame.pixels > 0).sum() > 60


def test_discs_grow_with_the_density_of_the_screen():
    index = CellIndex(np.array([5.0]), np.array([5.0]))
    assert render(index, (0, 10, 0, 10), 200, 200, Paint.count(), density=2.0).radius == 8


def test_a_map_without_a_placed_subject_is_an_empty_frame():
    index = CellIndex(np.full(3, np.nan), np.zeros(3))
    frame = render(index, (-1, 1, -1, 1), 10, 10, Paint.count())
    assert frame.n_in_view == 0
    assert not frame.pixels.any()
    assert index.nearest(0, 0, 1, 1) is None
    assert index.inside(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])).count == 0


POLYGONS = {
    "triangle": [[-3, -2], [4, -1], [0, 5]],
    "self-crossing": [[-3, -3], [3, 3], [3, -3], [-3, 3]],
    "beyond the data": [[-90, -90], [90, -90], [90, 90], [-90, 90]],
    "sliver": [[-3, 0], [3, 1e-5], [3, 2e-5]],
    "a drawn line": [[-1, -1], [1, 1], [1, 1]],
}


@pytest.mark.parametrize("name", POLYGONS)
def test_membership_is_exact_by_the_even_odd_rule(points, index, name):
    x, y, _ = points
    polygon = np.array(POLYGONS[name], float)
    np.testing.assert_array_equal(index.inside(polygon).mask(), even_odd(x, y, polygon) & np.isfinite(x + y))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=40))
def test_membership_is_exact_for_any_polygon(vertices):
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-8, 8, (2, 3000)).astype(np.float32)
    polygon = np.array(vertices)
    np.testing.assert_array_equal(CellIndex(x, y).inside(polygon).mask(), even_odd(x, y, polygon))


def test_nearest_is_the_nearest_in_pixels_and_none_beyond_reach(points, index):
    x, y, _ = points
    rng = np.random.default_rng(3)
    for cx, cy in rng.uniform(-6, 6, (50, 2)):
        d = ((x - cx) / 0.2) ** 2 + ((y - cy) / 0.1) ** 2
        d[~np.isfinite(d)] = np.inf
        found = index.nearest(cx, cy, 0.2, 0.1)
        if d.min() > 1:
            assert found is None
        else:
            assert found is not None
            assert d[found] == pytest.approx(d.min(), rel=1e-3)


def test_count_near_is_an_upper_bound(points, index):
    view = (-0.5, 0.5, -0.5, 0.5)
    n = render(index, view, 10, 10, Paint.count()).n_in_view
    assert n <= index.count_near(view) < len(index)


def test_an_equalised_scale_gives_each_level_as_many_subjects():
    values = np.random.default_rng(0).gamma(1.0, size=LEVELS * 100)
    index = CellIndex(np.arange(len(values), dtype=float), np.zeros(len(values)))
    codes = Paint.of_values(index, values, "max", "equalised").codes
    assert np.bincount(codes, minlength=LEVELS).min() >= 98


def test_a_scale_says_when_values_lie_beyond_its_ends():
    assert Scale.of(np.append(np.linspace(0, 1, 1000), 50.0), "linear").clipped
    assert not Scale.of(np.linspace(0, 1, 1000), "equalised").clipped


def test_a_logarithmic_scale_of_no_positive_value_is_linear():
    assert Scale.of(np.linspace(-2, -1, 50), "log").norm == "linear"


def test_the_cache_makes_each_value_once_and_forgets_the_oldest():
    cache, made = Cache(2), []
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, lambda key=key: made.append(key) or key)
    assert made == ["a", "b", "c", "b"]
