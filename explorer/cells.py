"""Subjects in cell order: who is where, and the picks, polygons and views that are read off it.

The only file that knows cell order. Points are sorted once by the cell of a G × G grid; a view, a pick or an outline
then touches only the cells it covers, so that its cost follows what is on screen and not the size of the survey. Every
kernel is compiled without the GIL: the server runs them on threads.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise

import numpy as np
from numba import njit

from explorer.state import Selection

#: x0, x1, y0, y1 in data coordinates
View = tuple[float, float, float, float]

_jit = njit(cache=True, nogil=True)
_fast = njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})


@_jit
def _cells_of(x, y, x0, y0, per_x, per_y, grid):
    cells = np.empty(x.size, np.int64)
    for i in range(x.size):
        cx = min(grid - 1, max(0, int((x[i] - x0) * per_x)))
        cy = min(grid - 1, max(0, int((y[i] - y0) * per_y)))
        cells[i] = cy * grid + cx
    return cells


@_jit
def _counting_sort(cells, n_cells):
    start = np.zeros(n_cells + 1, np.int64)
    for c in cells:
        start[c + 1] += 1
    for c in range(n_cells):
        start[c + 1] += start[c]
    place = start[:-1].copy()
    order = np.empty(cells.size, np.int64)
    for i in range(cells.size):
        order[place[cells[i]]] = i
        place[cells[i]] += 1
    return start, order


class CellIndex:
    """The placed subjects of one map (or any two columns) in cell order.

    Parameters
    ----------
    x, y
        float (N,), row order; a subject with a NaN is not placed.

    Attributes
    ----------
    x, y
        float32 (n,), cell order.
    rows
        uint32 (n,): the survey row of each.
    n_rows
        N.
    bounds
        x0, x1, y0, y1 of all points, never empty.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.n_rows = len(x)
        placed = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        x, y = np.asarray(x, np.float32)[placed], np.asarray(y, np.float32)[placed]
        self.grid = 64 if placed.size < 50_000 else 256 if placed.size <= 2_000_000 else 512
        self.bounds: View = bounds(x, y)
        x0, x1, y0, y1 = self.bounds
        self.per_x, self.per_y = self.grid / (x1 - x0), self.grid / (y1 - y0)
        cells = _cells_of(x, y, x0, y0, self.per_x, self.per_y, self.grid)
        self.start, order = _counting_sort(cells, self.grid * self.grid)
        self.x, self.y = x[order], y[order]
        self.rows = placed[order].astype(np.uint32)

    def __len__(self) -> int:
        return int(self.rows.size)

    def _box(self, view: View) -> tuple[int, int, int, int]:
        """First and last cell of a view in x and in y; last < first where the view misses every point."""
        x0, x1, y0, y1 = view
        bx0, bx1, by0, by1 = self.bounds
        if x1 < bx0 or x0 > bx1 or y1 < by0 or y0 > by1 or not len(self):
            return 1, 0, 1, 0
        # one cell of slack: a point's cell was found in float arithmetic and may lie a hair off
        last = self.grid - 1
        return (
            max(0, min(last, math.floor((x0 - bx0) * self.per_x) - 1)),
            max(0, min(last, math.floor((x1 - bx0) * self.per_x) + 1)),
            max(0, min(last, math.floor((y0 - by0) * self.per_y) - 1)),
            max(0, min(last, math.floor((y1 - by0) * self.per_y) + 1)),
        )

    def nearest(self, x: float, y: float, reach_x: float, reach_y: float) -> int | None:
        """Survey row of the point nearest to (x, y) within the ellipse of half-axes `reach_x`, `reach_y`; None if none.

        Distance is measured in units of the reach, that is in pixels when the reach is so many pixels.
        """
        if not (reach_x > 0 and reach_y > 0):
            return None
        cx0, cx1, cy0, cy1 = self._box((x - reach_x, x + reach_x, y - reach_y, y + reach_y))
        found = _nearest(self.x, self.y, self.start, self.grid, cx0, cx1, cy0, cy1, x, y, reach_x, reach_y)
        return int(self.rows[found]) if found >= 0 else None

    def inside(self, polygon: np.ndarray) -> Selection:
        """The subjects inside a closed polygon by the even-odd rule, exactly.

        Parameters
        ----------
        polygon
            float (k, 2) vertices in data coordinates, k ≥ 3; the last joins the first.
        """
        words = np.zeros(Selection.n_words(self.n_rows), np.uint64)
        polygon = np.ascontiguousarray(polygon, np.float64)
        if len(polygon) >= 3 and len(self) and np.isfinite(polygon).all():
            x0, _, y0, _ = self.bounds
            _inside(self.x, self.y, self.rows, self.start, self.grid, x0, y0, self.per_x, self.per_y, polygon, words)
        return Selection(words, self.n_rows)

    def near_path(self, path: np.ndarray, reach_x: float, reach_y: float) -> Selection:
        """The subjects that a brush touches: within the ellipse of half-axes `reach_x`, `reach_y` of a drawn line.

        Parameters
        ----------
        path
            float (k, 2) in data coordinates, k ≥ 1; one point is a dab.
        """
        words = np.zeros(Selection.n_words(self.n_rows), np.uint64)
        path = np.ascontiguousarray(path, np.float64)
        if len(path) and reach_x > 0 and reach_y > 0 and np.isfinite(path).all():
            ends = path[[0, *range(len(path))]]
            for (ax, ay), (bx, by) in pairwise(ends):
                near = (min(ax, bx) - reach_x, max(ax, bx) + reach_x, min(ay, by) - reach_y, max(ay, by) + reach_y)
                stroke = (ax, ay, bx, by, reach_x, reach_y)
                _near(self.x, self.y, self.rows, self.start, self.grid, *self._box(near), *stroke, words)
        return Selection(words, self.n_rows)

    @cached_property
    def _place(self) -> np.ndarray:
        return _places(self.rows, self.n_rows)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the survey stand: float32 (m, 2), NaN for those that are not placed."""
        place = self._place[np.asarray(rows, np.int64)]
        found = np.full((len(place), 2), np.nan, np.float32)
        placed = place < len(self)
        found[placed, 0], found[placed, 1] = self.x[place[placed]], self.y[place[placed]]
        return found


class Cloud:
    """The subjects that have three coordinates, to be looked at from any side.

    They stand in one shuffled order for good: any first so many are an even sample, and colors once looked up
    (`Paint`, made with the cloud) hold for every turn.

    Parameters
    ----------
    x, y, z
        float (N,), row order; a subject with a NaN in any is not placed. Each axis is scaled to -1 … 1.

    Attributes
    ----------
    points
        float32 (3, n).
    rows
        uint32 (n,): the survey row of each.
    n_rows
        N.
    radius
        Of the farthest point from the middle: no turn leads out of it.
    reach
        Of nine in ten: seen from most sides nearly all are within it, for few are as far as the cube's corners.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
        self.n_rows = len(x)
        placed = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(z))
        placed = placed[np.random.default_rng(0).permutation(placed.size)]
        self.rows = placed.astype(np.uint32)
        self.points = np.empty((3, placed.size), np.float32)
        for axis, values in enumerate((x, y, z)):
            values = np.asarray(values)[placed].astype(np.float64)
            low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
            self.points[axis] = (values - (low + high) / 2) / ((high - low) / 2 or 1.0)
        far = np.sqrt((self.points**2).sum(axis=0))
        self.radius = float(far.max(initial=0.0)) or 1.0
        self.reach = float(np.quantile(far, 0.9)) if far.size else self.radius
        self.reach = self.reach or self.radius

    def __len__(self) -> int:
        return int(self.rows.size)

    @cached_property
    def _place(self) -> np.ndarray:
        return _places(self.rows, self.n_rows)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the survey stand before any turn: float32 (m, 3), NaN for those that are not placed."""
        place = self._place[np.asarray(rows, np.int64)]
        found = np.full((len(place), 3), np.nan, np.float32)
        placed = place < len(self)
        found[placed] = self.points[:, place[placed]].T
        return found

    def turned(self, yaw: float, pitch: float, limit: int | None = None) -> Turned:
        """The cloud as seen after a turn, without perspective.

        Parameters
        ----------
        yaw, pitch
            Radians; about the vertical axis, then about the horizontal one. At 0, 0 the screen shows x and y.
        limit
            Take an even sample of so many at most: for the frames of a cloud that is being turned.
        """
        return Turned(self, yaw, pitch, limit)


class Turned(CellIndex):
    """A `Cloud` from one side: one cell, in the cloud's order. What is drawn on it is counted over all its subjects.

    Attributes
    ----------
    is_sample
        Whether subjects were left out.
    """

    def __init__(self, cloud: Cloud, yaw: float, pitch: float, limit: int | None = None) -> None:
        n = min(len(cloud), limit) if limit else len(cloud)
        self.cloud, self.turn, self.n_rows = cloud, (yaw, pitch), cloud.n_rows
        self.is_sample = n < len(cloud)
        self.rows = cloud.rows[:n]
        self.grid, self.start = 1, np.array([0, n], np.int64)
        r = cloud.radius
        self.bounds = -r, r, -r, r
        self.per_x = self.per_y = 1 / (2 * r)
        self.x, self.y = np.empty(n, np.float32), np.empty(n, np.float32)
        c, s, k, m = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        _project(cloud.points, np.array([[c, 0, s], [s * m, k, -c * m]], np.float32), self.x, self.y)

    @cached_property
    def _place(self) -> np.ndarray:
        return self.cloud._place

    @cached_property
    def _sorted(self) -> CellIndex:
        """All subjects in cell order: what is drawn is tested against few of them."""
        whole = self.cloud.turned(*self.turn) if self.is_sample else self
        x, y = np.full(self.n_rows, np.nan, np.float32), np.full(self.n_rows, np.nan, np.float32)
        x[whole.rows], y[whole.rows] = whole.x, whole.y
        return CellIndex(x, y)

    def inside(self, polygon: np.ndarray) -> Selection:
        return self._sorted.inside(polygon)

    def near_path(self, path: np.ndarray, reach_x: float, reach_y: float) -> Selection:
        return self._sorted.near_path(path, reach_x, reach_y)


def _places(rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Place of each row of the survey among `rows`, uint32 (n_rows,); the largest number for those that have none."""
    place = np.full(n_rows, np.iinfo(np.uint32).max, np.uint32)
    place[rows] = np.arange(rows.size, dtype=np.uint32)
    return place


@_fast
def _project(points, turn, x, y):
    for i in range(x.size):
        a, b, c = points[0, i], points[1, i], points[2, i]
        x[i] = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
        y[i] = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c


def bounds(x: np.ndarray, y: np.ndarray) -> View:
    """x0, x1, y0, y1 of points that are all finite; never empty."""
    if not x.size:
        return -1.0, 1.0, -1.0, 1.0
    x0, x1, y0, y1 = float(x.min()), float(x.max()), float(y.min()), float(y.max())
    pad_x, pad_y = (0.0 if x1 > x0 else 0.5), (0.0 if y1 > y0 else 0.5)
    return x0 - pad_x, x1 + pad_x, y0 - pad_y, y1 + pad_y


@_jit
def _nearest(px, py, start, grid, cx0, cx1, cy0, cy1, x, y, reach_x, reach_y):
    best, found = 1.0, -1
    for cy in range(cy0, cy1 + 1):
        for i in range(start[cy * grid + cx0], start[cy * grid + cx1 + 1]):
            dx, dy = (px[i] - x) / reach_x, (py[i] - y) / reach_y
            d = dx * dx + dy * dy
            if d <= best:
                best, found = d, i
    return found


@_jit
def _near(px, py, rows, start, grid, cx0, cx1, cy0, cy1, ax, ay, bx, by, reach_x, reach_y, words):
    # in units of the reach the brush is a circle
    ux, uy = (bx - ax) / reach_x, (by - ay) / reach_y
    length = ux * ux + uy * uy
    for cy in range(cy0, cy1 + 1):
        for i in range(start[cy * grid + cx0], start[cy * grid + cx1 + 1]):
            bit = np.uint64(1) << np.uint64(rows[i] & 63)
            if words[rows[i] >> 6] & bit:  # segments overlap
                continue
            dx, dy = (px[i] - ax) / reach_x, (py[i] - ay) / reach_y
            t = max(0.0, min(1.0, (dx * ux + dy * uy) / length)) if length > 0 else 0.0
            dx, dy = dx - t * ux, dy - t * uy
            if dx * dx + dy * dy <= 1:
                words[rows[i] >> 6] |= bit


@_jit
def _crosses(x, y, ax, ay, bx, by):
    return (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax


@_jit
def _inside(px, py, rows, start, grid, x0, y0, per_x, per_y, polygon, words):
    k = len(polygon)
    one = np.uint64(1)
    edges, near = np.empty(k, np.int64), np.empty(k, np.int64)
    first, last, spans = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.bool_)
    boundary = np.empty(grid, np.bool_)
    for cy in range(grid):
        if start[cy * grid] == start[(cy + 1) * grid]:
            continue
        # a cell's own float rounding may place a point a hair outside its cell: widen the band
        low, high = y0 + (cy - 0.01) / per_y, y0 + (cy + 1.01) / per_y
        middle = y0 + (cy + 0.5) / per_y
        n = 0
        boundary[:] = False
        for e in range(k):
            ax, ay = polygon[e, 0], polygon[e, 1]
            bx, by = polygon[(e + 1) % k, 0], polygon[(e + 1) % k, 1]
            if max(ay, by) < low or min(ay, by) > high:
                continue
            # the part of the edge within the band touches these cells
            sx0, sx1 = ax, bx
            if by != ay:
                t0, t1 = (low - ay) / (by - ay), (high - ay) / (by - ay)
                t0, t1 = max(0.0, min(t0, t1)), min(1.0, max(t0, t1))
                sx0, sx1 = ax + t0 * (bx - ax), ax + t1 * (bx - ax)
            c0 = math.floor((min(sx0, sx1) - x0) * per_x - 0.01)
            c1 = math.floor((max(sx0, sx1) - x0) * per_x + 0.01)
            for c in range(max(0, c0), min(grid - 1, c1) + 1):
                boundary[c] = True
            edges[n], first[n], last[n], spans[n] = e, c0, c1, min(ay, by) <= low and max(ay, by) > high
            n += 1
        if n == 0:
            continue
        for cx in range(grid):
            cell = cy * grid + cx
            if start[cell] == start[cell + 1]:
                continue
            if boundary[cx]:
                # an edge to the left counts for none of the cell's points; one to the right and through the whole band
                # for all; the others are asked point by point
                n_near, is_odd = 0, False
                for j in range(n):
                    if spans[j] and first[j] > cx:
                        is_odd = not is_odd
                    elif last[j] >= cx:
                        near[n_near] = edges[j]
                        n_near += 1
                for i in range(start[cell], start[cell + 1]):
                    odd = is_odd
                    for j in range(n_near):
                        a, b = polygon[near[j]], polygon[(near[j] + 1) % k]
                        if _crosses(px[i], py[i], a[0], a[1], b[0], b[1]):
                            odd = not odd
                    if odd:
                        words[rows[i] >> 6] |= one << np.uint64(rows[i] & 63)
            else:
                center = x0 + (cx + 0.5) / per_x
                odd = False
                for j in range(n):
                    a, b = polygon[edges[j]], polygon[(edges[j] + 1) % k]
                    if _crosses(center, middle, a[0], a[1], b[0], b[1]):
                        odd = not odd
                if odd:
                    for i in range(start[cell], start[cell + 1]):
                        words[rows[i] >> 6] |= one << np.uint64(rows[i] & 63)


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first map waits for it."""
    index = CellIndex(np.arange(4.0), np.arange(4.0))
    index.inside(np.array([[0.0, 0.0], [2.5, 0.0], [2.5, 2.5], [0.0, 2.5]]))
    index.nearest(1.0, 1.0, 0.5, 0.5)
    index.near_path(np.zeros((2, 2)), 1.0, 1.0)
    Cloud(np.arange(4.0), np.arange(4.0), np.arange(4.0)).turned(0.1, 0.2, 2)
