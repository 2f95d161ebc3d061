"""Cell order against slow, obvious references: the sort, its copy on disk, picks and outlines."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

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
