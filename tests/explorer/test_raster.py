"""The renderer against slow, obvious references and against datashader."""

import datashader as ds
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import pixels
from explorer.caches import Cache
from explorer.cells import CellIndex, Cloud
from explorer.contours import contours, mean_lines
from explorer.raster import (
    DIM,
    EMPTY,
    FULL,
    LEVELS,
    MISSING,
    MISSING_DIM,
    Paint,
    Scale,
    commonest,
    overlay,
    overlays,
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
        Paint.of_values(index, values, "max", "percentile"),
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
    frame = render(index, (0, 100, 0, 100), 100, 100, Paint.of_values(index, values, "max", "percentile"))
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


def test_a_percentile_scale_gives_each_level_as_many_subjects_and_its_ticks_are_quantiles():
    values = np.random.default_rng(0).gamma(1.0, size=LEVELS * 100)
    index = CellIndex(np.arange(len(values), dtype=float), np.zeros(len(values)))
    paint = Paint.of_values(index, values, "max", "percentile")
    codes = np.searchsorted(paint.scale.edges, values, side="right")
    assert [value for _, value in paint.scale.ticks()] == pytest.approx(
        np.quantile(values, [0, 0.25, 0.5, 0.75, 1]), rel=1e-2
    )
    assert np.bincount(codes, minlength=LEVELS).min() >= 98


@pytest.mark.parametrize("aggregate", ["max", "mean", "std"])
@pytest.mark.parametrize("norm", ["percentile", "equalised", "linear"])
def test_values_that_single_precision_does_not_tell_apart_are_drawn_as_they_are(aggregate, norm):
    rng = np.random.default_rng(4)
    at, night = rng.uniform(0, 30, (2, 3000)), rng.integers(0, 4096, 3000) / 4096  # days
    night[::50] = np.nan
    index = CellIndex(*at)
    near, far = (
        render(index, (0.0, 30.0, 0.0, 30.0), 30, 30, Paint.of_values(index, first + night, aggregate, norm))
        for first in (0.0, 2_460_000.0)
    )
    np.testing.assert_array_equal(near.pixels, far.pixels)
    assert len(np.unique(far.pixels)) > 40


def test_a_scale_says_when_values_lie_beyond_its_ends():
    assert Scale.of(np.append(np.linspace(0, 1, 1000), 50.0), "linear").clipped
    assert not Scale.of(np.linspace(0, 1, 1000), "percentile").clipped
    assert not Scale.of(np.linspace(0, 1, 1000), "equalised").clipped


def test_a_logarithmic_scale_of_no_positive_value_is_linear():
    assert Scale.of(np.linspace(-2, -1, 50), "log").norm == "linear"


@pytest.mark.parametrize("aggregate", ["max", "mean"])
@pytest.mark.parametrize("some", [False, True])
def test_equalised_gives_each_level_as_many_pixels_of_the_view_and_keeps_their_order(points, index, aggregate, some):
    x, y, values = points
    view, w, h = (-1.0, 1.0, -1.0, 1.0), 20, 25
    selection = Selection.of_rows(np.flatnonzero(x > 0), len(x)) if some else None
    paint = Paint.of_values(index, values, aggregate, "equalised")
    frame = render(index, view, w, h, paint, selection)
    levels = np.where(frame.pixels >= FULL, frame.pixels - FULL, frame.pixels - DIM)
    held = np.bincount(levels.ravel(), minlength=LEVELS)
    assert (frame.radius, frame.pixels.min() >= DIM) == (0, True)
    assert held[:42].sum() == pytest.approx(w * h / 3, rel=0.12)
    assert held[84:].sum() == pytest.approx(w * h / 3, rel=0.12)
    assert (levels.min(), levels.max()) == (0, LEVELS - 1)
    theirs = ds.Canvas(w, h, view[:2], view[2:]).points(
        pd.DataFrame({"x": x, "y": y, "v": values}), "x", "y", getattr(ds, aggregate)("v")
    )
    if not some:  # the same order as the values, and the ticks are values of pixels
        order = np.argsort(theirs.to_numpy().ravel(), kind="stable")
        assert (np.diff(levels.ravel()[order].astype(int)) >= 0).mean() > 0.99
        quantiles = np.quantile(theirs.to_numpy(), [0, 0.25, 0.5, 0.75, 1])
        assert [v for _, v in frame.ticks[:4]] == pytest.approx(quantiles[:4], abs=0.05)
        assert quantiles[4] <= frame.ticks[4][1] <= np.nanmax(values)


def test_equalised_over_a_view_without_values_is_grey(index):
    paint = Paint.of_values(index, np.full(index.n_rows, np.nan), "max", "equalised")
    frame = render(index, (-1, 1, -1, 1), 20, 20, paint)
    assert set(np.unique(frame.pixels)) <= {MISSING, EMPTY}


@pytest.mark.parametrize("norm", ["linear", "log", "percentile", "equalised"])
def test_the_selected_share_of_a_pixel_agrees_with_two_histograms(points, index, norm):
    x, y, _ = points
    view, w, h = (-2.0, 2.0, -1.5, 1.5), 40, 30
    chosen = np.random.default_rng(4).random(len(x)) < np.clip(x / 2, 0, 1)
    chosen[~np.isfinite(x + y)] = False
    frame = render(index, view, w, h, Paint.share(norm), Selection.of_rows(np.flatnonzero(chosen), len(x)))
    canvas = ds.Canvas(w, h, view[:2], view[2:])
    every, ours = (
        canvas.points(pd.DataFrame({"x": x[m], "y": y[m]}), "x", "y").to_numpy() for m in (chosen | True, chosen)
    )
    share = ours / every
    level = frame.pixels.astype(int) - FULL
    assert frame.note == ""
    assert (level[share == 0] == 0).all()
    assert (level[share > 0] > 0).all()
    order = np.argsort(share.ravel(), kind="stable")
    assert (np.diff(level.ravel()[order]) >= 0).mean() > 0.99
    if norm == "linear":
        assert np.abs(level - share * (LEVELS - 1)).max() <= 1.5
        assert frame.ticks == [(p, pytest.approx(p, abs=0.005)) for p in (0, 0.25, 0.5, 0.75, 1)]


def test_the_share_of_nothing_selected_is_zero_and_said(points, index):
    frame = render(index, (-1, 1, -1, 1), 20, 20, Paint.share())
    assert set(np.unique(frame.pixels)) == {FULL}
    assert frame.note == "nothing is selected"
    every = Selection.of_rows(index.rows.astype(np.int64), index.n_rows)
    assert set(np.unique(render(index, (-1, 1, -1, 1), 20, 20, Paint.share(), every).pixels)) == {FULL + LEVELS - 1}


def test_rows_stand_where_they_were_placed(points, index):
    x, y, _ = points
    at = index.at(np.array([3, 5, 700]))
    np.testing.assert_array_equal(at, [[x[3], y[3]], [np.nan, np.nan], [x[700], y[700]]])


PATHS = {
    "a dab": [[0.5, 0.5]],
    "a line": [[-2, -1], [2, 1.5]],
    "a stroke that turns back": [[-2, 0], [1, 0], [1, 0], [-1, 0.3]],
    "off the map": [[50, 50], [60, 60]],
}


@pytest.mark.parametrize("name", PATHS)
def test_a_brush_takes_what_is_within_its_reach_of_the_line(points, index, name):
    x, y = (np.where(np.isfinite(v), v, 1e9) for v in points[:2])
    rx, ry, near = 0.3, 0.2, np.zeros(len(x), bool)
    path = np.array(PATHS[name], float)
    for a, b in zip(path[[0, *range(len(path) - 1)]], path, strict=True):
        u, v = (b - a) / [rx, ry], np.column_stack([(x - a[0]) / rx, (y - a[1]) / ry])
        t = np.clip(v @ u / max(u @ u, 1e-30), 0, 1)
        near |= ((v - t[:, None] * u) ** 2).sum(axis=1) <= 1
    np.testing.assert_array_equal(index.near_path(path, rx, ry).mask(), near)


def test_a_brush_that_goes_over_itself_takes_each_subject_once(index):
    path = np.column_stack([np.sin(np.arange(60) / 3), np.cos(np.arange(60) / 3)])
    once = index.near_path(path, 0.3, 0.2)
    assert once == index.near_path(np.vstack([path, path[::-1]]), 0.3, 0.2)
    assert once.count > 100


def test_a_brush_without_a_size_or_a_path_takes_nothing(index):
    assert index.near_path(np.zeros((1, 2)), 0, 1).count == 0
    assert index.near_path(np.empty((0, 2)), 1, 1).count == 0
    assert index.near_path(np.array([[np.nan, 0]]), 1, 1).count == 0


@pytest.fixture(scope="module")
def cloud(points) -> Cloud:
    x, y, values = points
    return Cloud(x, y, values * 5 + 2)


def by_hand(points, yaw: float, pitch: float) -> np.ndarray:
    """The cloud of the tests, turned by two matrices."""
    placed = np.isfinite(points[0] + points[1])
    xyz = np.column_stack([points[0], points[1], points[2] * 5 + 2]).astype(float)
    xyz[~placed] = np.nan
    low, high = np.nanmin(xyz, axis=0), np.nanmax(xyz, axis=0)
    cube = (xyz - (low + high) / 2) / ((high - low) / 2)
    about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    return (cube @ np.transpose(about_y) @ np.transpose(about_x))[:, :2]


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.6, 0.4), (3.5, -1.2)])
def test_a_turned_cloud_is_where_two_rotations_bring_it(points, cloud, yaw, pitch):
    turned, at = cloud.turned(yaw, pitch), by_hand(points, yaw, pitch)
    np.testing.assert_allclose(turned.at(np.arange(len(at))), at, atol=1e-5)
    np.testing.assert_allclose(cloud.at(np.arange(len(at)))[:, 1], by_hand(points, 0, 0)[:, 1], atol=1e-5)
    x0, x1, y0, y1 = turned.bounds
    assert turned.x.min() >= x0 and turned.x.max() <= x1 and turned.y.min() >= y0 and turned.y.max() <= y1
    assert turned.bounds == cloud.turned(0, 0).bounds


def test_the_kernels_draw_a_turned_cloud_like_any_plane_and_a_paint_holds_for_every_turn(points, cloud):
    values = points[2]
    labels = ["low", "high"]
    categories = (values > 0).astype(np.int32)
    of_values, of_categories = (
        Paint.of_values(cloud, values, "max", "linear"),
        Paint.of_categories(cloud, categories, labels),
    )
    for turn in ((0.6, 0.4), (2.0, -0.3)):
        turned = cloud.turned(*turn)
        at = np.array(turned.at(np.arange(len(values))))
        plane = CellIndex(at[:, 0], at[:, 1])
        for mine, theirs in (
            (Paint.count(), Paint.count()),
            (of_values, Paint.of_values(plane, values, "max", "linear")),
            (of_categories, Paint.of_categories(plane, categories, labels)),
        ):
            view = (-0.4, 0.3, -0.2, 0.5)
            ours, other = render(turned, view, 60, 50, mine), render(plane, view, 60, 50, theirs)
            np.testing.assert_array_equal(ours.pixels, other.pixels)
            assert ours.n_in_view == other.n_in_view
        assert turned.nearest(0.1, 0.1, 0.05, 0.05) == plane.nearest(0.1, 0.1, 0.05, 0.05)


def test_while_it_moves_a_sample_is_drawn_and_what_is_outlined_is_of_all(points, cloud):
    few, every = cloud.turned(0.6, 0.4, limit=5000), cloud.turned(0.6, 0.4)
    frame = render(few, few.bounds, 50, 50, Paint.of_values(cloud, points[2], "max", "linear"))
    assert (len(few), frame.n_in_view, frame.is_sample) == (5000, 5000, True)
    assert not render(every, every.bounds, 50, 50, Paint.count()).is_sample
    polygon = np.array([[-0.3, -0.4], [0.5, -0.1], [0.1, 0.6]])
    at = every.at(np.arange(len(points[0])))
    expected = even_odd(at[:, 0], at[:, 1], polygon)
    np.testing.assert_array_equal(few.inside(polygon).mask(), expected)
    np.testing.assert_array_equal(every.inside(polygon).mask(), expected)
    assert few.near_path(polygon, 0.1, 0.1) == every.near_path(polygon, 0.1, 0.1)


def test_a_cloud_without_a_placed_subject_is_an_empty_frame():
    turned = Cloud(np.full(3, np.nan), np.zeros(3), np.zeros(3)).turned(1, 1)
    assert render(turned, turned.bounds, 10, 10, Paint.count()).n_in_view == 0
    assert turned.inside(np.array([[-9, -9], [9, -9], [0, 9.0]])).count == 0


def test_a_view_of_a_cloud_need_not_reach_the_farthest():
    x, y, z = np.random.default_rng(7).normal(0, 1, (3, 20_000))
    x[:2] = y[:2] = z[:2] = [40, -40]
    cloud = Cloud(x, y, z)
    for turn in ((0, 0), (0.7, -0.4)):
        turned = cloud.turned(*turn)
        assert np.mean(np.hypot(turned.x, turned.y) <= cloud.reach) >= 0.9
    assert cloud.reach < 0.3 * cloud.radius
    assert Cloud(np.ones(3), np.ones(3), np.ones(3)).reach > 0


def test_contours_hold_the_share_that_they_name():
    rng = np.random.default_rng(5)
    x, y = np.concatenate([rng.normal(-2, 0.5, (2, 60_000)), rng.normal(2, 1.0, (2, 60_000))], axis=1)
    index = CellIndex(x, y)
    found = contours(index, (-6, 6, -6, 6))
    assert [c.share for c in found] == [0.5, 0.8, 0.95]
    for contour in found:
        inside = np.zeros(len(x), bool)
        for line in contour.lines:
            np.testing.assert_array_equal(line[0], line[-1])
            inside ^= index.inside(line).mask()
        assert inside.mean() == pytest.approx(contour.share, abs=0.01)


def test_a_normal_distribution_has_contours_of_the_radius_that_theory_says():
    index = CellIndex(*np.random.default_rng(6).normal(size=(2, 400_000)))
    for contour in contours(index, (-5, 5, -5, 5)):
        (line,) = contour.lines
        assert np.hypot(*line.T).mean() == pytest.approx(np.sqrt(-2 * np.log(1 - contour.share)), rel=0.03)


def test_contours_follow_a_narrow_ridge_however_far_the_outliers_are():
    rng = np.random.default_rng(8)
    along = rng.gamma(2.0, 1.0, 4000)
    x, y = np.append(along, 900.0), np.append(along + rng.normal(0, 0.2, 4000), 900.0)
    for contour in contours(CellIndex(x, y), (0, 1000, 0, 1000)):
        assert contour.lines
        for line in contour.lines:
            assert line.max() < 11
            assert np.abs(line[:, 1] - line[:, 0]).max() < 1.2


def test_contours_of_a_close_up_stay_in_it_and_few_subjects_have_none(index):
    view = (0.0, 1.0, 0.0, 0.5)
    for contour in contours(index, view):
        for line in contour.lines:
            assert line[:, 0].min() > -0.01 and line[:, 0].max() < 1.01
    assert contours(CellIndex(np.arange(9.0), np.arange(9.0)), (0, 9, 0, 9)) == []


def test_lines_of_a_cells_mean_follow_what_the_subjects_have():
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 100, (2, 40_000))
    values = np.where(random.random(x.size) < 0.1, np.nan, x / 100 + random.normal(0, 0.1, x.size))
    found = mean_lines(CellIndex(x, y), (0, 100, 0, 100), values)
    assert list(found) == [0.25, 0.5, 0.75]
    for level, lines in found.items():
        drawn = np.concatenate(lines)
        np.testing.assert_allclose(drawn[:, 0], 100 * level, atol=12)  # of 16 values and less each, of spread 10
        assert drawn[:, 0].mean() == pytest.approx(100 * level, abs=1)
        assert np.ptp(drawn[:, 1]) > 95


def test_a_cells_mean_is_of_itself_and_less_so_of_its_neighbors():
    # twelve cells a side of width 1, one subject in the middle of each
    x, y = (axis.ravel() + 0.5 for axis in np.meshgrid(np.arange(12.0), np.arange(12.0)))
    values = ((x == 5.5) & (y == 5.5)).astype(float)  # 4 / 16 there, 2 / 16 beside it, 1 / 16 at its corners
    index = CellIndex(np.append(x, [0.0, 12.0]), np.append(y, [0.0, 12.0]))
    found = mean_lines(index, (0, 12, 0, 12), np.append(values, [np.nan, np.nan]), (0.1875, 0.26))
    assert found[0.26] == []
    (line,) = found[0.1875]  # half-way between 4 / 16 and 2 / 16, along the axes
    np.testing.assert_allclose([line[:, 0].min(), line[:, 0].max()], [5.0, 6.0], atol=0.15)


def test_where_no_subject_has_a_value_there_is_no_line():
    x, y = np.random.default_rng(1).uniform(0, 100, (2, 20_000))
    values = np.where(x < 50, np.nan, y / 100)
    index = CellIndex(x, y)
    for lines in mean_lines(index, (0, 100, 0, 100), values).values():
        assert np.concatenate(lines)[:, 0].min() > 47
    assert mean_lines(index, (0, 100, 0, 100), np.full(x.size, np.nan)) == {0.25: [], 0.5: [], 0.75: []}
    assert mean_lines(CellIndex(x[:9], y[:9]), (0, 100, 0, 100), values[:9]) == {}


def test_an_overlay_draws_the_rarest_categories_and_says_of_how_many():
    codes = np.repeat([0, 1, 2, 3, -1], [7000, 30, 0, 600, 50])
    found = overlays(codes, ["common", "rare", "none", "middling"], limit=1000)
    assert [(o.label, len(o.rows), o.count) for o in found] == [
        ("rare", 30, 30), ("middling", 600, 600), ("common", 370, 7000),
    ]  # fmt: skip
    for drawn in found:
        assert len(np.unique(drawn.rows)) == len(drawn.rows)
        assert (codes[drawn.rows] == ["common", "rare", "none", "middling"].index(drawn.label)).all()
    assert len(overlays(np.arange(50), [str(i) for i in range(50)])) == 8


@pytest.mark.parametrize("n", [4, 30])
def test_an_overlay_has_the_colors_of_the_coloring_by_the_same_column(n):
    codes, labels = np.repeat(np.arange(n), np.arange(1, n + 1)), [str(i) for i in range(n)]
    table, legend = commonest(codes, labels)
    for drawn in overlays(codes, labels):
        assert drawn.color == table[int(drawn.label)]
        assert legend[drawn.color] in (drawn.label, "other")


def test_a_small_point_has_no_gaps_between_its_arms():
    index = CellIndex(np.array([5.0]), np.array([5.0]))
    drawn = render(index, (0, 10, 0, 10), 5, 5, Paint.count()).pixels > 0
    assert drawn[1:4, 1:4].all() and drawn.sum() == 9


def test_an_overlay_of_many_rows_is_an_even_sample():
    drawn = overlay("kept", np.arange(100_000))
    assert (len(drawn.rows), drawn.count) == (5000, 100_000)
    assert np.diff(drawn.rows).max() <= 21


def test_the_cache_makes_each_value_once_and_forgets_the_oldest():
    cache, made = Cache(2), []
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, lambda key=key: made.append(key) or key)
    assert made == ["a", "b", "c", "b"]


def test_the_cache_keeps_nothing_of_what_could_not_be_made():
    cache = Cache(2)
    for key in range(5):
        with pytest.raises(ZeroDivisionError):
            cache.get(key, lambda: 1 // 0)
    assert not cache._making
    assert cache.get(3, lambda: "made") == "made"


@pytest.mark.parametrize("norm", ["percentile", "equalised", "linear", "log"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_subject_s_level_is_the_number_of_edges_at_or_below_its_value(norm, dtype):
    rng = np.random.default_rng(3)
    for values in (
        rng.normal(size=5000),
        rng.lognormal(0, 4, 5000),
        rng.integers(0, 3, 5000),
        np.full(5000, 2.0),
        np.concatenate([rng.random(4998), [1e30, -1e30]]),
    ):
        values = values.astype(dtype)
        values[:7] = np.nan
        values[8] = np.inf
        index = CellIndex(rng.random(5000), rng.random(5000))
        edges = Paint.of_values(index, values, "max", norm).scale.edges
        held = values.astype(np.float32)  # as an index keeps them
        wanted = np.where(np.isfinite(held), 2 + np.searchsorted(edges, held.astype(np.float64), side="right"), 1)
        found = np.where(np.isfinite(held), held, pixels.UNKNOWN)[None, None]
        codes = np.empty(found.shape, np.uint8)
        pixels.codes_of_highest(found, 0, 1, edges, pixels.steps_of(edges, 4096), codes)
        np.testing.assert_array_equal(codes[0, 0], wanted)
