"""The index of a map and what pyramids begin with, made of coordinates and a score: beside numpy's argsort by cell."""

from collections.abc import Callable
from functools import partial

import numpy as np

from explorer import pyramid
from explorer.cells import CellIndex, grid_of
from explorer.raster import warm
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import clouds
from tests.benchmarks.timing import in_turn, timed_row

#: name: subjects, seconds at most
SIZES = {"1500k": (1_500_000, 1.0), "10m": (10_000_000, 6.0), "100m": (100_000_000, 60.0)}
ALTERNATIVE = "numpy: a stable argsort by cell, the columns in that order, bincount and maximum.reduceat over it"


def coordinates(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and a score of n synthetic subjects, float32 (n,) each."""
    found = np.empty((3, n), np.float32)
    at = 0
    for xyz, score in clouds(n):
        found[:2, at : at + len(score)] = xyz[:, :2].T
        found[2, at : at + len(score)] = score
        at += len(score)
    return found[0], found[1], found[2]


def ours(x: np.ndarray, y: np.ndarray, score: np.ndarray) -> None:
    """The index, the score in its order, and count and highest score of each cell at all levels of the pyramid."""
    index = CellIndex(x, y)
    column = pyramid.Column(index.sorted(score))
    top = int(np.log2(index.grid))
    pyramid.counts(index, None, top)
    pyramid.highest(index, column, None, top)


def theirs(x: np.ndarray, y: np.ndarray, score: np.ndarray) -> None:
    """The same of numpy, without the levels above the cells."""
    grid = grid_of(len(x))
    cx = ((x - x.min()) * ((grid - 1) / np.ptp(x))).astype(np.int32)
    cells = ((y - y.min()) * ((grid - 1) / np.ptp(y))).astype(np.int32) * np.int32(grid) + cx
    order = np.argsort(cells, kind="stable")
    values = score[order]
    _ = x[order], y[order], order.astype(np.uint32)
    counts = np.bincount(cells, minlength=grid * grid)
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    np.maximum.reduceat(values, start[counts > 0])


def row(size: str) -> Row:
    """At one size."""
    n, limit = SIZES[size]
    warm()
    small = coordinates(100_000)
    in_turn(partial(ours, *small), partial(theirs, *small), rounds=1)
    points = coordinates(n)
    return timed_row(
        f"index-{size}",
        f"{n:,} synthetic subjects and a score: in cell order, with the levels of a pyramid of counts and highest",
        partial(ours, *points),
        partial(theirs, *points),
        ALTERNATIVE,
        unit="s",
        limit=limit,
        rounds=5 if n < 50_000_000 else 1,
    )


def _row_of(size: str) -> Callable[[], Row]:
    return partial(row, size)


ROWS = {f"index-{size}": _row_of(size) for size in ("1500k", "10m")}
LONG_ROWS = {"index-100m": _row_of("100m")}
