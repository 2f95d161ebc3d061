"""Frames pixel for pixel as datashader draws them, whatever they are read from; and coarse ones beside exact ones."""

from collections.abc import Callable
from dataclasses import replace

import datashader as ds
import numpy as np
import pandas as pd
import pytest

from explorer import pixels, pyramid, raster
from explorer.cells import CellIndex, Cloud
from explorer.errors import UnwantedError
from explorer.pyramid import Column
from explorer.raster import (
    EMPTY,
    FULL,
    LEVELS,
    MISSING,
    SAMPLE,
    Frame,
    Paint,
    Scale,
    counted,
    extremes,
    render,
    sample,
    summed,
)
from explorer.state import Selection

N, W, H = 300_000, 61, 47
#: of powers of two, so that neither datashader nor we round where a point stands: its pixels' edges are ours
VIEW = (-4.0, 4.0, -4.0, 4.0)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Points, a third of them in a heap; values with some missing; a category."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, N)).astype(np.float32) * 2
    x[: N // 3], y[: N // 3] = x[: N // 3] / 20 + 1, y[: N // 3] / 20 - 1
    value = (rng.gamma(1.0, size=N) + 1000).astype(np.float32)  # far from 0: squares alone would lose what differs
    value[(x > 2) & (y > 0)] = np.nan
    kind = pd.Categorical.from_codes(rng.integers(0, 5, N) * (x > -1), list("abcde"))
    return pd.DataFrame({"x": x, "y": y, "value": value, "kind": kind})


@pytest.fixture(scope="module")
def index(table: pd.DataFrame) -> CellIndex:
    return CellIndex(table.x.to_numpy(), table.y.to_numpy())


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are many from one on."""
    monkeypatch.setattr(raster, "BUDGET", 0)
    monkeypatch.setattr(raster, "SHARED", 0)


def theirs(table: pd.DataFrame, view: tuple[float, ...], w: int, h: int, reduction: object) -> np.ndarray:
    canvas = ds.Canvas(w, h, view[:2], view[2:])
    found: np.ndarray = canvas.points(table, "x", "y", reduction).to_numpy()
    return found


def within(table: pd.DataFrame, view: tuple[float, ...]) -> pd.DataFrame:
    """The points of the half-open view: datashader also draws those on its upper and right edges."""
    x, y = table.x, table.y
    return table[(x >= view[0]) & (x < view[1]) & (y >= view[2]) & (y < view[3])]


VIEWS = [
    (VIEW, 64, 64),
    ((0.5, 1.5, -1.5, -0.5), 32, 64),
    ((-0.25, 7.75, -8.0, 8.0), 256, 128),
    ((1, 1.125, -1, 0), 64, 32),
]


@pytest.mark.parametrize(("view", "w", "h"), VIEWS)
@pytest.mark.parametrize("shared", [0, 1 << 40])
def test_counts_are_those_of_datashader_pixel_for_pixel(table, index, view, w, h, shared, monkeypatch):
    monkeypatch.setattr(raster, "SHARED", shared)
    counts, seen = counted(index, view, w, h)
    np.testing.assert_array_equal(counts, theirs(within(table, view), view, w, h, ds.count()))
    assert seen == len(within(table, view)) == counts.sum()


@pytest.mark.parametrize(("view", "w", "h"), VIEWS)
@pytest.mark.parametrize("aggregate", ["max", "mean", "std"])
@pytest.mark.parametrize("norm", ["linear", "log"])
def test_highest_mean_and_spread_are_those_of_datashader_pixel_for_pixel(table, index, view, w, h, aggregate, norm):
    paint = Paint.of_values(index, table.value.to_numpy(), aggregate, norm)
    found = raster._Drawing(index, view, w, h, paint, None).codes()[0][0]
    here = within(table, view)
    values, counts = theirs(here, view, w, h, getattr(ds, aggregate)("value")), theirs(here, view, w, h, ds.count())
    if aggregate == "std":  # of one subject theirs is 0 or a rounding of it, too
        values = np.where(counts > 0, values, np.nan)
    level = 2 + np.searchsorted(paint.scale.edges, values, side="right")
    wanted = np.where(np.isnan(values), np.where(counts > 0, 1, 0), level)
    # a value within rounding of a level's edge may fall on either side
    assert (found == wanted).mean() > 0.995
    assert np.abs(found.astype(int) - wanted).max() <= (0 if aggregate == "max" else 1)


@pytest.mark.parametrize(("view", "w", "h"), VIEWS)
def test_the_commonest_category_is_that_of_datashader(table, index, view, w, h, monkeypatch):
    codes = table.kind.cat.codes.to_numpy().astype(np.int32)
    paint = Paint.of_categories(index, codes, list("abcde"))
    found = raster._Drawing(index, view, w, h, paint, None).codes()[0][0]
    per = theirs(within(table, view), view, w, h, ds.by("kind", ds.count()))
    per = per[:, :, [list("abcde").index(label) for label in paint.labels]]  # ties go to what is first in the legend
    np.testing.assert_array_equal(found, np.where(per.sum(axis=2) > 0, 2 + per.argmax(axis=2), 0))


def test_mixed_columns_are_drawn_as_their_mixture_is(table, index):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, N)).astype(np.float32)
    a[:100], b[50:150] = np.nan, np.inf
    mixed = (0.7 * a + 0.3 * b).astype(np.float32)
    scale = Scale.of(mixed, "percentile")
    pair = Paint.of_column(Column(index.sorted(a), index.sorted(b), 0.3), scale, "max")
    one = Paint.of_column(Column(index.sorted(mixed)), scale, "max")
    ours, wanted = (render(index, VIEW, W, H, paint).pixels.astype(int) for paint in (pair, one))
    assert (np.abs(ours - wanted) <= 1).all()
    assert (ours == wanted).mean() > 0.99
    finite = mixed[np.isfinite(mixed)]
    assert extremes(a, b, 0.3) == pytest.approx((finite.min(), finite.max()), rel=1e-6)


def test_the_ends_of_a_column_are_of_all_of_it_and_a_sample_is_even():
    values = np.full(1_000_003, np.nan)
    values[[3, 700_001]] = -5, 9
    assert extremes(values) == (-5, 9)
    assert sorted(sample(values)) == [-5, 9]  # few have a value: they are looked for
    assert extremes(np.full(10, np.nan)) == (0, 0)
    assert extremes(np.zeros(0)) == (0, 0)
    assert len(sample(np.arange(1_000_003.0))) == pytest.approx(SAMPLE, rel=0.01)


def some(table: pd.DataFrame) -> Selection:
    return Selection.of_rows(np.flatnonzero(table.x.to_numpy() * 1.7 > table.y.to_numpy()), N)


def paints(index: CellIndex, table: pd.DataFrame) -> dict[str, Paint]:
    value, codes = table.value.to_numpy(), table.kind.cat.codes.to_numpy().astype(np.int32)
    made: dict[str, Callable[[], Paint]] = {
        "count": Paint.count,
        "share": lambda: Paint.share("linear"),
        "max": lambda: Paint.of_values(index, value, "max", "linear"),
        "mean": lambda: Paint.of_values(index, value, "mean", "linear"),
        "std": lambda: Paint.of_values(index, value, "std", "linear"),
        "equalised": lambda: Paint.of_values(index, value, "max", "equalised"),
        "dominant": lambda: Paint.of_categories(index, codes, list("abcde")),
    }
    return {name: make() for name, make in made.items()}


PAINTS = ["count", "share", "max", "mean", "std", "equalised", "dominant"]


@pytest.mark.parametrize("name", PAINTS)
@pytest.mark.parametrize("selected", [False, True])
def test_a_frame_is_the_same_from_bits_by_row_and_in_order_on_one_core_and_on_all(
    table, index, name, selected, monkeypatch
):
    paint, selection = paints(index, table)[name], some(table) if selected else None
    monkeypatch.setattr(raster, "SHARED", 1 << 40)
    alone = render(index, VIEW, W, H, paint, selection)
    monkeypatch.setattr(raster, "SHARED", 0)
    together = render(index, VIEW, W, H, paint, selection)
    np.testing.assert_array_equal(alone.pixels, together.pixels)
    assert (alone.ticks, alone.n_in_view) == (together.ticks, together.n_in_view)
    if selected:  # few in view: then bits are read by row
        few = (-4.0, -3.0, -4.0, 4.0)
        drawing = raster._Drawing(index, few, W, H, paint, selection)
        assert drawing._points(0, H)[2] == 1
        by_row = drawing.bytes()[0]
        monkeypatch.setattr(raster, "points_within", lambda *_: N)
        in_order = raster._Drawing(index, few, W, H, paint, selection)
        assert in_order._points(0, H)[2] == 2
        np.testing.assert_array_equal(by_row, in_order.bytes()[0])


def coarse(index: CellIndex, view: tuple[float, ...], w: int, h: int, paint: Paint, selection=None) -> Frame:
    """A coarse frame, when what it is drawn of has been made."""
    for _ in range(2):
        frame = render(index, view, w, h, paint, selection, coarse=True)
    pyramid._maker.submit(lambda: None).result()  # one after the other: what was asked for is there
    frame = render(index, view, w, h, paint, selection, coarse=True)
    assert frame.is_coarse
    return frame


def test_a_frame_is_exact_until_its_cells_are_there_and_where_few_points_are(table, index, tight, monkeypatch):
    paint = paints(index, table)["max"]
    exact = render(index, VIEW, W, H, paint)
    first = render(index, VIEW, W, H, paint, coarse=True)
    np.testing.assert_array_equal(first.pixels, exact.pixels)
    assert (exact.is_coarse, first.is_coarse, first.n_in_view) == (False, False, exact.n_in_view)
    assert coarse(index, VIEW, W, H, paint).is_coarse
    assert not render(index, VIEW, W, H, paint).is_coarse
    monkeypatch.setattr(raster, "BUDGET", 2_000_000)
    assert not render(index, VIEW, W, H, paint, coarse=True).is_coarse


@pytest.mark.parametrize("name", ["count", "share", "max", "mean", "std", "dominant"])
def test_until_its_cells_are_there_an_even_sample_stands_for_very_many(table, tight, monkeypatch, name):
    index = CellIndex(table.x.to_numpy(), table.y.to_numpy())
    monkeypatch.setattr(raster, "MANY", 0)
    monkeypatch.setattr(pyramid, "THINNED", N // 5)
    paint, selection = paints(index, table)[name], some(table)
    frame = render(index, VIEW, W, H, paint, selection, coarse=True)
    exact = render(index, VIEW, W, H, paint, selection)
    assert frame.is_coarse and frame.n_in_view == raster.points_within(index, VIEW)
    thin = pyramid.thinned(index)
    assert (thin.step, len(thin.points)) == (5, N // 5)
    np.testing.assert_array_equal(thin.points.rows, index.rows[thin.places])
    np.testing.assert_array_equal(thin.points.x, index.x[thin.places])
    drawn = frame.pixels > EMPTY
    assert not (drawn & (exact.pixels == EMPTY)).any()
    if name in ("count", "share"):
        ours, wanted = (
            raster._Drawing(index, VIEW, W, H, paint, selection, rough).counts()[0].astype(float)
            for rough in (True, False)
        )
        assert ours.sum(axis=(1, 2)) == pytest.approx(wanted.sum(axis=(1, 2)), rel=0.02)
    elif name == "max":
        selected = (frame.pixels >= FULL) & (exact.pixels >= FULL)
        assert selected.any() and (frame.pixels[selected] <= exact.pixels[selected]).all()
    else:
        alone = {k: v[thin.places] for k, v in (("codes", paint.codes),) if v is not None}
        column = None if paint.column is None else Column(paint.column.values[thin.places], center=paint.column.center)
        same = replace(paint, column=column, **alone)
        np.testing.assert_array_equal(frame.pixels, render(thin.points, VIEW, W, H, same, selection).pixels)


def test_a_frame_that_nobody_waits_for_is_not_drawn_to_its_end(index, monkeypatch):
    monkeypatch.setattr(raster, "SHARED", 0)
    monkeypatch.setattr(raster, "MANY", 0)
    asked: list[bool] = []

    def is_wanted() -> bool:
        asked.append(len(asked) < 5)
        return asked[-1]

    with pytest.raises(UnwantedError):
        render(index, VIEW, W, H, Paint.count(), is_wanted=is_wanted)
    assert asked.count(True) == 5 < len(raster._Drawing(index, VIEW, W, H, Paint.count(), None).bands)


def test_a_sample_mixes_its_columns_as_the_whole_does(table, tight, monkeypatch):
    index = CellIndex(table.x.to_numpy(), table.y.to_numpy())
    monkeypatch.setattr(raster, "MANY", 0)
    monkeypatch.setattr(pyramid, "THINNED", N // 5)
    one, other = index.sorted(table.value.to_numpy()), index.sorted(table.y.to_numpy())
    scale = Scale.of(table.value.to_numpy(), "linear")
    for weight in (0.2, 0.7):
        mixed = Paint.of_column(Column(one, other, weight, key="pair"), scale, "max")
        whole = Paint.of_column(Column(((1 - weight) * one + weight * other).astype(np.float32)), scale, "max")
        ours, wanted = (render(index, VIEW, W, H, paint, coarse=True).pixels for paint in (mixed, whole))
        assert np.abs(ours.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(("w", "h"), [(61, 47), (256, 200), (301, 511), (20, 900)])
@pytest.mark.parametrize("view", [None, VIEW, (0.3, 2.1, -2.05, -0.4)])
def test_coarse_counts_keep_the_total_and_stand_where_they_are(index, w, h, view, tight):
    view = view or index.bounds
    drawing = raster._Drawing(index, view, w, h, Paint.count(), None, coarse=True)
    assert drawing.is_coarse
    shares = np.zeros((1, h, w), np.float32)
    for r0, r1 in drawing.bands:
        pixels.spread_sums(drawing.cells[0], *drawing._cells(r0, r1), shares)
    exact, seen = counted(index, view, w, h)
    # a cell at the view's edge is in it by its area
    assert shares.sum(dtype=np.float64) == pytest.approx(seen, rel=0.02)
    for axis in (0, 1):
        ours, wanted = np.cumsum(shares[0].sum(axis=axis)), np.cumsum(exact.sum(axis=axis))
        assert np.abs(ours - wanted).max() < 0.02 * seen


def test_a_level_has_the_sum_and_the_highest_of_the_four_cells_below(table, index):
    column, selection = Column(index.sorted(table.value.to_numpy()), center=1000.0), some(table)
    for level in (1, 3):
        side = index.grid >> level
        shape = (2, side, 1 << level, side, 1 << level)
        for find in (
            lambda k: pyramid.counts(index, selection, k),
            lambda k: pyramid.sums(index, column, 3, selection, k)[0],
            lambda k: pyramid.sums(index, column, 3, selection, k)[2],
        ):
            np.testing.assert_allclose(find(level), find(0).reshape(shape).sum(axis=(2, 4)), rtol=1e-4, atol=1e-3)
        highest = pyramid.highest(index, column, selection, 0).reshape(shape).max(axis=(2, 4))
        np.testing.assert_array_equal(pyramid.highest(index, column, selection, level), highest)


def test_cells_hold_what_their_points_say(table, index):
    values, mask = index.sorted(table.value.to_numpy()), some(table).mask()[index.rows]
    cell = np.repeat(np.arange(index.grid**2), np.diff(index.start))
    layers = ~mask, mask
    column, selection = Column(values, center=1000.0), some(table)
    counts = pyramid.counts(index, selection, 0).reshape(2, -1)
    known, sums, squares = pyramid.sums(index, column, 3, selection, 0).reshape(3, 2, -1)
    highest = pyramid.highest(index, column, selection, 0).reshape(2, -1)
    for s, layer in enumerate(layers):
        has = layer & np.isfinite(values)
        np.testing.assert_array_equal(counts[s], np.bincount(cell[layer], minlength=index.grid**2))
        np.testing.assert_array_equal(known[s], np.bincount(cell[has], minlength=index.grid**2))
        apart = values[has].astype(np.float64) - 1000
        np.testing.assert_allclose(sums[s], np.bincount(cell[has], apart, index.grid**2), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(squares[s], np.bincount(cell[has], apart**2, index.grid**2), rtol=1e-5, atol=1e-5)
        best = np.full(index.grid**2, -np.inf, np.float32)
        np.maximum.at(best, cell[layer], pixels.UNKNOWN)
        np.maximum.at(best, cell[has], values[has])
        np.testing.assert_array_equal(highest[s], best)


@pytest.mark.parametrize("name", PAINTS)
@pytest.mark.parametrize("selected", [False, True])
def test_a_coarse_frame_looks_like_the_exact_one(table, index, name, selected, tight):
    paint, selection = paints(index, table)[name], some(table) if selected else None
    view, w, h = (-4.0, 4.0, -4.0, 4.0), 60, 60
    exact, drawn = render(index, view, w, h, paint, selection), coarse(index, view, w, h, paint, selection)
    assert drawn.n_in_view == pytest.approx(exact.n_in_view, rel=0.03)
    assert ((drawn.pixels == EMPTY) == (exact.pixels == EMPTY)).mean() > 0.97
    both = (drawn.pixels >= FULL) & (exact.pixels >= FULL)
    assert both.sum() > 0.2 * w * h
    apart = np.abs(drawn.pixels[both].astype(int) - exact.pixels[both])
    if name == "dominant":
        assert (apart == 0).mean() > 0.45  # of five kinds, mixed evenly: chance is a fifth
    else:
        assert np.median(apart) < 0.12 * LEVELS
    if name in ("max", "mean", "std"):
        assert ((drawn.pixels == MISSING) == (exact.pixels == MISSING)).mean() > 0.97
    if name == "max":  # the highest of all is not lost
        assert drawn.pixels.max() == exact.pixels.max()


def test_wide_cells_are_drawn_as_wide_as_they_are(tight):
    rng = np.random.default_rng(0)
    index = CellIndex(*rng.random((2, 20_000)))
    value = rng.random(20_000).astype(np.float32)
    view = (0.25, 0.375, 0.25, 0.375)  # eight cells on 80 px
    for paint in (Paint.count(), Paint.of_values(index, value, "max", "linear")):
        drawn = coarse(index, view, 80, 80, paint).pixels
        assert (drawn[1:-1, 1:-1] > EMPTY).mean() > 0.9
    shares = np.zeros((1, 80, 80), np.float32)
    drawing = raster._Drawing(index, view, 80, 80, Paint.count(), None, coarse=True)
    pixels.spread_sums(drawing.cells[0], *drawing._cells(0, 80), shares)
    assert shares.sum() == pytest.approx(counted(index, view, 80, 80)[1], rel=0.3)


def test_sums_of_a_view_are_those_of_its_points(table, index):
    known, total = summed(index, VIEW, 64, 64, Column(index.sorted(table.value.to_numpy())))
    here = within(table, VIEW)
    np.testing.assert_array_equal(known, theirs(here, VIEW, 64, 64, ds.count("value")))
    np.testing.assert_allclose(total[known > 0], theirs(here, VIEW, 64, 64, ds.sum("value"))[known > 0], rtol=1e-6)


@pytest.mark.parametrize("name", ["count", "max", "mean", "std", "dominant"])
def test_a_turned_cloud_is_drawn_as_its_points_are_and_keeps_its_bits_for_every_turn(table, name):
    rng = np.random.default_rng(3)
    xyz = rng.normal(size=(3, N)).astype(np.float32)
    cloud = Cloud(*xyz)
    value, codes = table.value.to_numpy(), table.kind.cat.codes.to_numpy().astype(np.int32)
    selection = some(table)
    for turn in ((0.0, 0.0), (0.7, -0.3)):
        turned = cloud.turned(*turn)
        x, y = np.full(N, np.nan, np.float32), np.full(N, np.nan, np.float32)
        x[turned.rows], y[turned.rows] = turned.x, turned.y
        flat = CellIndex(x, y)
        ours, wanted = (
            render(
                on,
                (-0.5, 0.5, -0.5, 0.5),
                40,
                40,
                {
                    "count": Paint.count,
                    "dominant": lambda of=of: Paint.of_categories(of, codes, list("abcde")),
                }.get(name, lambda of=of: Paint.of_values(of, value, name, "linear"))(),
                selection,
            )
            for on, of in ((turned, cloud), (flat, flat))
        )
        np.testing.assert_array_equal(ours.pixels, wanted.pixels)
        assert ours.n_in_view == wanted.n_in_view
        assert pyramid.bits(turned, selection) is pyramid.bits(cloud.turned(0.1, 0.1), selection)
