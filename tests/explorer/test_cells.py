"""Cell order against slow, obvious references: the sort, its copy on disk, picks and outlines."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import cells
from explorer.cells import CellIndex, NoIndexError, grid_of


def scattered(n: int, seed: int = 0, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Blobs with some that are nowhere."""
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(2, n)) * 3 + rng.integers(0, 4, (2, n)) * 5).astype(dtype)
    x[rng.random(n) < 0.01], y[rng.random(n) < 0.01] = np.nan, np.inf
    return x, y


def plain(index: CellIndex, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in cell order, and where the cells start, by numpy's own stable sort."""
    x, y = (np.asarray(v, np.float32) for v in (x, y))
    placed = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    x0, _, y0, _ = index.bounds
    cx = ((x[placed].astype(np.float64) - x0) * index.per_x).astype(int).clip(0, index.grid - 1)
    cy = ((y[placed].astype(np.float64) - y0) * index.per_y).astype(int).clip(0, index.grid - 1)
    cell = cy * index.grid + cx
    counts = np.bincount(cell, minlength=index.grid**2)
    return placed[np.argsort(cell, kind="stable")], np.concatenate([[0], np.cumsum(counts)])


@pytest.mark.parametrize("n", [0, 1, 2, 700, 60_000, 700_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_is_that_of_a_stable_sort_by_cell(n: int, dtype: type) -> None:
    x, y = scattered(n, n, dtype)
    told: list[float] = []
    index = CellIndex(x, y, told.append)
    rows, start = plain(index, x, y)
    np.testing.assert_array_equal(index.rows, rows)
    np.testing.assert_array_equal(index.start, start)
    np.testing.assert_array_equal(index.x, x[rows].astype(np.float32))
    np.testing.assert_array_equal(index.y, y[rows].astype(np.float32))
    assert (index.rows.dtype, index.start.dtype, index.x.dtype) == (np.uint32, np.int64, np.float32)
    assert all(0 < share <= 1 for share in told) and told[-1:] == [1.0]


def test_the_order_does_not_depend_on_how_many_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = scattered(600_000)
    made = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(cells, "n_threads", lambda threads=threads: threads)
        made.append(CellIndex(x, y))
    for other in made[1:]:
        np.testing.assert_array_equal(made[0].rows, other.rows)
        np.testing.assert_array_equal(made[0].start, other.start)


def test_columns_of_a_larger_array_need_no_copy_of_it() -> None:
    table = np.random.default_rng(3).normal(size=(5000, 3)).astype(np.float32)
    found, expected = CellIndex(table[:, 0], table[:, 2]), CellIndex(table[:, 0].copy(), table[:, 2].copy())
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_what_single_precision_cannot_hold_is_nowhere() -> None:
    index = CellIndex(np.array([0.0, 1e300, 1.0]), np.array([0.0, 0.0, -1.0]))
    assert sorted(index.rows.tolist()) == [0, 2]
    assert index.bounds == (0.0, 1.0, -1.0, 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32, np.bool_, object])
def test_a_column_in_cell_order_has_the_values_of_its_rows(dtype: type) -> None:
    x, y = scattered(300_000)
    index = CellIndex(x, y)
    values = np.random.default_rng(1).integers(0, 200, len(x)).astype(dtype)
    found = index.sorted(values)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[index.rows])
    np.testing.assert_array_equal(index.sorted(np.repeat(values, 2)[::2]), found)  # one that is not contiguous
    with pytest.raises(ValueError, match="rows"):
        index.sorted(values[:-1])


def test_the_grid_grows_with_the_survey() -> None:
    assert [grid_of(n) for n in (0, 49_999, 50_000, 2_000_000, 2_000_001, 20_000_000, 20_000_001)] == [
        *(64, 64, 256, 256, 2048, 2048, 4096),
    ]


# ------------------------------------------------------------------------------------------------------ on disk
@pytest.fixture(scope="module")
def index() -> CellIndex:
    return CellIndex(*scattered(60_000))


def test_an_index_on_disk_is_the_one_that_was_written(index: CellIndex, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index.write(folder, {"size": 7})
    again = CellIndex.open(folder, {"size": 7})
    for name in ("x", "y", "rows", "start"):
        np.testing.assert_array_equal(getattr(again, name), getattr(index, name))
    assert (again.bounds, again.grid, again.per_x, again.n_rows) == (
        *(index.bounds, index.grid, index.per_x, index.n_rows),
    )
    outline = np.array([[0, 0], [9, 1], [4, 8.0]])
    assert again.inside(outline) == index.inside(outline)
    assert [p.name for p in tmp_path.iterdir()] == ["index"]
    CellIndex(*scattered(100, 4)).write(folder, {"size": 8})
    np.testing.assert_array_equal(again.rows, index.rows)  # who has it open keeps it
    assert len(CellIndex.open(folder)) < 101
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_nothing_that_is_read_from_it_can_change_the_files(index: CellIndex, tmp_path: Path) -> None:
    index.write(tmp_path / "index")
    again = CellIndex.open(tmp_path / "index")
    again.x[:] = 0
    np.testing.assert_array_equal(CellIndex.open(tmp_path / "index").x, index.x)


def test_rows_may_have_been_added_since_but_none_taken_away(index: CellIndex, tmp_path: Path) -> None:
    index.write(tmp_path / "index")
    grown = CellIndex.open(tmp_path / "index", n_rows=index.n_rows + 70)
    assert grown.inside(np.array([[0, 0], [9, 1], [4, 8.0]])).n == index.n_rows + 70
    with pytest.raises(NoIndexError, match="rows"):
        CellIndex.open(tmp_path / "index", n_rows=index.n_rows - 1)


def test_a_stale_damaged_or_missing_index_is_refused(index: CellIndex, tmp_path: Path) -> None:
    good = tmp_path / "good"
    index.write(good, {"size": 7})
    with pytest.raises(NoIndexError):
        CellIndex.open(tmp_path / "none")
    with pytest.raises(NoIndexError, match="something else"):
        CellIndex.open(good, {"size": 8})

    def refused(damage) -> bool:
        bad = tmp_path / "bad"
        shutil.copytree(good, bad)
        damage(bad)
        with pytest.raises(NoIndexError):
            CellIndex.open(bad)
        shutil.rmtree(bad)
        return True

    about = json.loads((good / "index.json").read_text())
    for changed in ({"version": 2}, {"n": 5}, {"grid": 64}, {"bounds": [0, 0, 1, 2]}, {"n_rows": 100}):
        assert refused(lambda bad, changed=changed: (bad / "index.json").write_text(json.dumps(about | changed)))
    assert refused(lambda bad: (bad / "index.json").write_text("{"))
    for name in ("x", "y", "rows", "start"):
        file = f"{name}.npy"
        assert refused(lambda bad, file=file: (bad / file).write_bytes((bad / file).read_bytes()[:-9]))
        assert refused(lambda bad, file=file: (bad / file).unlink())
        assert refused(lambda bad, file=file: np.save(bad / file, np.zeros(3)))
        assert refused(lambda bad, file=file: np.save(bad / file, np.array([{}], object), allow_pickle=True))
    astray = index.rows.copy()
    astray[-1] = index.n_rows
    assert refused(lambda bad: np.save(bad / "rows.npy", astray))
    falling = index.start.copy()
    falling[7] = len(index)
    assert refused(lambda bad: np.save(bad / "start.npy", falling))


def test_a_write_that_fails_leaves_the_index_that_was_there(index: CellIndex, tmp_path: Path) -> None:
    index.write(tmp_path / "index")

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(cells, "write_json", full)
        index.write(tmp_path / "index")
    assert len(CellIndex.open(tmp_path / "index")) == len(index)
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_a_column_lies_beside_its_index(index: CellIndex, tmp_path: Path) -> None:
    assert index.read_column("score") is None
    index.write(tmp_path / "index")
    again = CellIndex.open(tmp_path / "index")
    values = np.arange(len(again), dtype=np.float32)
    assert again.read_column("score") is None
    again.write_column("score", values)
    np.testing.assert_array_equal(again.read_column("score"), values)
    assert again.read_column("score", np.uint8) is None
    again.write_column("score", values[::-1])
    np.testing.assert_array_equal(again.read_column("score"), values[::-1])
    file = tmp_path / "index" / "columns" / "score.npy"
    file.write_bytes(file.read_bytes()[:-4])
    assert again.read_column("score") is None


# ---------------------------------------------------------------------------------------------- picks and outlines
#: Scales at which arithmetic goes wrong first: what single precision holds least and most of, and far from 0.
SCALES = [(1.0, 0.0), (1e-38, 0.0), (1e30, 0.0), (1.0, 1e6), (1e-3, 3000.0)]


@st.composite
def maps(draw: st.DrawFn) -> tuple[CellIndex, np.ndarray, np.ndarray, float, float]:
    """An index of points on a lattice, many of them on edges of cells and on each other, and its scale."""
    scale, offset = draw(st.sampled_from(SCALES))
    side = draw(st.sampled_from([2, 16, 64, 200]))
    n = draw(st.sampled_from([1, 3, 50, 3000, 3000, 50_000]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    lattice = rng.integers(0, side + 1, (2, n)) / side
    x, y = (offset + scale * lattice).astype(np.float32)
    return CellIndex(x, y), x.astype(np.float64), y.astype(np.float64), scale, offset


corners = st.floats(-0.25, 1.25)


@settings(max_examples=60, deadline=None)
@given(maps(), st.lists(st.tuples(corners, corners), min_size=3, max_size=12))
def test_an_outline_holds_what_shapely_says(one, vertices) -> None:
    index, x, y, scale, offset = one
    outline = offset + scale * np.array(vertices, np.float64)
    polygon = shapely.Polygon((outline - offset) / scale)
    found = index.inside(outline).mask()
    at = shapely.points((x - offset) / scale, (y - offset) / scale)
    shapely.prepare([polygon, line := polygon.exterior])
    with np.errstate(all="ignore"):  # of edges of 1e-177
        apart = ~shapely.dwithin(line, at, 1e-9)  # on the line itself either answer is right
        contained = shapely.contains(polygon, at)
    np.testing.assert_array_equal(found, even_odd(x, y, outline))
    if polygon.is_valid:
        np.testing.assert_array_equal(found[apart], contained[apart])


def even_odd(x: np.ndarray, y: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """The even-odd rule, point by edge."""
    inside = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return inside


@pytest.mark.parametrize("far", [1e3, 1e9, 1e13])
def test_an_outline_may_reach_far_beyond_the_map(far: float) -> None:
    x, y = scattered(80_000)
    index = CellIndex(x, y)
    rng = np.random.default_rng(5)
    for _ in range(10):
        outline = rng.normal(size=(5, 2)) * np.where(rng.random((5, 1)) < 0.5, far, 5)
        placed = np.isfinite(x) & np.isfinite(y)
        expected = placed & even_odd(x.astype(np.float64), y.astype(np.float64), outline)
        np.testing.assert_array_equal(index.inside(outline).mask(), expected)


@settings(max_examples=60, deadline=None)
@given(maps(), corners, corners, st.floats(2**-9, 2), st.floats(2**-9, 2))
def test_the_nearest_is_the_first_of_the_nearest(one, at_x, at_y, reach_x, reach_y) -> None:
    index, x, y, scale, offset = one
    at_x, at_y, reach_x, reach_y = offset + scale * at_x, offset + scale * at_y, scale * reach_x, scale * reach_y
    dx, dy = (x - at_x) / reach_x, (y - at_y) / reach_y
    apart = dx * dx + dy * dy
    expected = int(np.argmin(apart)) if apart.min() <= 1 else None
    assert index.nearest(at_x, at_y, reach_x, reach_y) == expected


@settings(max_examples=60, deadline=None)
@given(maps(), st.lists(st.tuples(corners, corners), min_size=1, max_size=8), st.floats(2**-9, 1), st.floats(2**-9, 1))
def test_a_brush_takes_what_its_line_comes_near_to(one, drawn, reach_x, reach_y) -> None:
    index, x, y, scale, offset = one
    path, reach_x, reach_y = offset + scale * np.array(drawn, np.float64), scale * reach_x, scale * reach_y
    nearest = np.full(len(x), np.inf)
    for (ax, ay), (bx, by) in zip(path[[0, *range(len(path) - 1)]], path, strict=True):
        ux, uy, px, py = (bx - ax) / reach_x, (by - ay) / reach_y, (x - ax) / reach_x, (y - ay) / reach_y
        t = np.clip((px * ux + py * uy) / max(ux * ux + uy * uy, 1e-300), 0, 1)
        nearest = np.minimum(nearest, (px - t * ux) ** 2 + (py - t * uy) ** 2)
    found = index.near_path(path, reach_x, reach_y).mask()
    sure = abs(nearest - 1) > 1e-9
    np.testing.assert_array_equal(found[sure], (nearest <= 1)[sure])


def test_many_share_the_work_of_a_large_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = scattered(2_100_000)
    index = CellIndex(x, y)
    turn = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    outline = np.column_stack([8 + 7 * np.cos(turn), 8 + 9 * np.sin(turn)])
    made = []
    for threads in (1, 4):
        monkeypatch.setattr(cells, "n_threads", lambda threads=threads: threads)
        made.append((index.inside(outline), index.near_path(outline, 2, 2)))
    assert made[0] == made[1]
    assert made[0][0].count == np.count_nonzero(even_odd(index.x.astype(float), index.y.astype(float), outline))


def test_what_is_no_outline_selects_nothing(index: CellIndex) -> None:
    empty = CellIndex(np.full(9, np.nan), np.zeros(9))
    triangle = np.array([[0, 0], [9, 1], [4, 8.0]])
    for found in (
        index.inside(triangle[:2]),
        index.inside(triangle * np.nan),
        index.inside(triangle + 1e6),
        index.near_path(triangle[:0], 1, 1),
        index.near_path(triangle, 0, 1),
        index.near_path(triangle + np.inf, 1, 1),
        index.near_path(triangle + 1e6, 1, 1),
        empty.inside(triangle),
        empty.near_path(triangle, 1, 1),
    ):
        assert found.count == 0
    assert index.nearest(0, 0, 0, 1) is index.nearest(1e9, 0, 1, 1) is empty.nearest(0, 0, 1, 1) is None
