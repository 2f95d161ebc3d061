"""The map's renderer: points in cell order, and the pixels, picks and polygons that are read off them.

The only file that knows cell order. Points are sorted once by the cell of a G × G grid; a view then touches only the
cells it covers, so the cost of a frame follows what is on screen and not the size of the survey. Every kernel is
compiled without the GIL: the server runs frames on threads.

A frame is one byte a pixel:

====  ================================================================
byte  meaning
====  ================================================================
0     no subject here
1     subjects, but none has a value (drawn grey: missing is never 0)
2     missing, outside the selection
3…    `LEVELS` steps of the ramp, dimmed: outside the selection
…255  `LEVELS` steps of the ramp, in full: selected, or no selection
====  ================================================================
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
from contourpy import contour_generator
from numba import njit
from scipy.ndimage import distance_transform_edt, gaussian_filter

from explorer.state import Selection

LEVELS = 126
FINE = 252  # levels of a code that is equalised over the view: more than are drawn, for a view holds but some of them
EMPTY, MISSING, MISSING_DIM, DIM, FULL = 0, 1, 2, 3, 3 + LEVELS
NO_VALUE = 255  # code of a subject without a value

Aggregate = Literal["count", "max", "mean", "dominant", "share"]
#: percentile: each level holds as many subjects of the survey; equalised: as many pixels of this view
Norm = Literal["percentile", "equalised", "linear", "log"]
#: x0, x1, y0, y1 in data coordinates
View = tuple[float, float, float, float]

_jit = njit(cache=True, nogil=True)
_fast = njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})


# ------------------------------------------------------------------------------------------------------ the index
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


# ------------------------------------------------------------------------------------------------------ colours
@dataclass(frozen=True, slots=True)
class Scale:
    """Monotone map of a value to a level 0 … `LEVELS` - 1 (equalised: `FINE` - 1), and back for the colour bar.

    Attributes
    ----------
    norm
        linear (between `low` and `high`), log (likewise), percentile (each level holds as many subjects), equalised
        (quantiles, closest at both ends; the frame makes `LEVELS` of those that it holds).
    low, high
        Value at the bottom and the top of the ramp. Linear and log are clipped at the 0.5 and 99.5 percentiles of the
        survey, so that one extreme does not empty the ramp; the bar says so.
    edges
        float64 (levels - 1,): a value's level is the number of edges at or below it.
    clipped
        Whether values lie outside low … high.
    """

    norm: Norm
    low: float
    high: float
    edges: np.ndarray
    clipped: bool = False

    @classmethod
    def of(cls, values: np.ndarray, norm: Norm) -> Scale:
        """The scale of a column. Its ends are of all values; quantiles above 200,000 of an even stride through them."""
        finite = np.asarray(values)
        finite = finite[np.isfinite(finite)].astype(np.float64)
        if not finite.size:
            return cls("linear", 0.0, 1.0, np.linspace(0, 1, LEVELS + 1)[1:-1])
        lowest, highest = float(finite.min()), float(finite.max())
        finite = finite[:: max(1, finite.size // 200_000)]
        if norm in ("percentile", "equalised"):
            shares = np.linspace(0, 1, LEVELS + 1)
            if norm == "equalised":  # a pixel's highest of many lies in the tail: there the levels are finest
                shares = (1 - np.cos(np.pi * np.linspace(0, 1, FINE + 1))) / 2
            return cls(norm, lowest, highest, np.quantile(finite, shares[1:-1]))
        low, high = (float(v) for v in np.quantile(finite, [0.005, 0.995]))
        if norm == "log":
            positive = finite[finite > 0]
            if not positive.size:
                return cls.of(values, "linear")
            low = max(low, float(np.quantile(positive, 0.005)))
            high = max(high, low * 1.000001)
            edges = np.geomspace(low, high, LEVELS + 1)[1:-1]
        else:
            high = high if high > low else low + 1.0
            edges = np.linspace(low, high, LEVELS + 1)[1:-1]
        return cls(norm, low, high, edges, lowest < low or highest > high)

    def ticks(self, n: int = 5) -> list[tuple[float, float]]:
        """(position 0–1 along the ramp, value there) at n even positions."""
        return [(float(p), self.value(p)) for p in np.linspace(0, 1, n)]

    def value(self, position: float) -> float:
        """The value at a position 0–1 through the levels."""
        knots = np.concatenate([[self.low], self.edges, [self.high]])
        return float(np.interp(position * (knots.size - 1), np.arange(knots.size), knots))


@_jit
def _level(v, edges):
    low, high = 0, edges.size
    while low < high:
        middle = (low + high) >> 1
        if edges[middle] <= v:
            low = middle + 1
        else:
            high = middle
    return low


@_jit
def _levels(values, edges, order, out):
    # row by row, and in the index's order only then: what is fetched from all over is one byte a subject, not a number
    levels, n = np.empty(values.size, np.uint8), edges.size
    low, span = edges[0], edges[n - 1] - edges[0]
    bins = 4096
    per = bins / span if span > 0 else 0.0
    guess = np.empty(bins + 1, np.int64)
    level = 0
    for b in range(bins + 1):
        while level < n and edges[level] <= low + b * span / bins:
            level += 1
        guess[b] = level
    for r in range(values.size):
        v = values[r]
        if not np.isfinite(v):
            levels[r] = NO_VALUE
            continue
        b = int(min(bins - 1.0, max(0.0, (v - low) * per)))
        level, above = guess[b], guess[b + 1]
        while level < above:
            middle = (level + above) >> 1
            if edges[middle] <= v:
                level = middle + 1
            else:
                above = middle
        # a bin's ends are rounded
        while level > 0 and edges[level - 1] > v:
            level -= 1
        while level < n and edges[level] <= v:
            level += 1
        levels[r] = level
    for i in range(order.size):
        out[i] = levels[order[i]]


@dataclass(frozen=True, slots=True)
class Paint:
    """What gives the points of an index their colour.

    Attributes
    ----------
    aggregate
        How the subjects of one pixel become one value.
    codes
        uint8 (n,) in cell order (a cloud's own): level of each subject, or `NO_VALUE`; category number for "dominant".
        None for count and share.
    values
        float32 (n,) in cell order, for the mean only.
    scale
        None for count and share (their scale depends on the view) and categories.
    labels
        Category names for "dominant".
    """

    aggregate: Aggregate
    norm: Norm = "percentile"
    codes: np.ndarray | None = None
    values: np.ndarray | None = None
    scale: Scale | None = None
    labels: list[str] = field(default_factory=list)

    @classmethod
    def count(cls, norm: Norm = "percentile") -> Paint:
        """Colour by the number of subjects; over a view, percentile and equalised are the same."""
        return cls("count", norm)

    @classmethod
    def share(cls, norm: Norm = "percentile") -> Paint:
        """Colour by the share of a pixel's subjects that are selected, 0–1; linear, or by rank over the view."""
        return cls("share", norm)

    @classmethod
    def of_values(cls, index: CellIndex | Cloud, values: np.ndarray, aggregate: Aggregate, norm: Norm) -> Paint:
        """Colour by a numeric column, float (N,) in row order, NaN where missing."""
        scale = Scale.of(values, norm)
        codes = np.empty(len(index), np.uint8)
        _levels(values, scale.edges, index.rows, codes)
        kept = np.asarray(values, np.float32)[index.rows] if aggregate == "mean" else None
        return cls(aggregate, norm, codes, kept, scale)

    @classmethod
    def of_categories(cls, index: CellIndex | Cloud, codes: np.ndarray, labels: list[str]) -> Paint:
        """Colour by the commonest category of a pixel; int (N,) codes in row order, -1 where missing.

        The eleven commonest categories keep a colour of their own; the others share the twelfth, "other".
        """
        table, names = commonest(codes, labels)
        return cls("dominant", codes=table[codes[index.rows]], labels=names)


def commonest(codes: np.ndarray, labels: list[str]) -> tuple[np.ndarray, list[str]]:
    """Legend of a category: uint8 table from code (-1: missing) to place in the legend, and the names there."""
    counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    order = np.argsort(-counts, kind="stable")
    kept = [int(c) for c in (order if len(labels) <= 12 else order[:11]) if counts[c]]
    table = np.full(len(labels) + 1, NO_VALUE, np.uint8)  # the last, reached by -1, is missing
    if len(labels) > 12:
        table[:-1] = len(kept)
    table[kept] = np.arange(len(kept))
    return table, [labels[c] for c in kept] + (["other"] if len(labels) > 12 else [])


# ------------------------------------------------------------------------------------------------------ frames
@_fast
def _bit(words, row):
    return np.int64((words[row >> 6] >> np.uint64(row & 63)) & np.uint64(1))


@_fast
def _count(px, py, rows, words, start, grid, cx0, cx1, cy0, cy1, x0, y0, sx, sy, out, some):
    h, w = out.shape[1:]
    seen = 0
    for cy in range(cy0, cy1 + 1):
        for i in range(start[cy * grid + cx0], start[cy * grid + cx1 + 1]):
            fx, fy = (px[i] - x0) * sx, (py[i] - y0) * sy
            if fx >= 0 and fy >= 0 and fx < w and fy < h:
                s = _bit(words, rows[i]) if some else 1
                out[s, int(fy), int(fx)] += 1
                seen += 1
    return seen


@_fast
def _highest(px, py, rows, words, start, grid, cx0, cx1, cy0, cy1, x0, y0, sx, sy, codes, out, some):
    # out: 0 nothing, 1 only missing, 2 + level
    h, w = out.shape[1:]
    seen = 0
    for cy in range(cy0, cy1 + 1):
        for i in range(start[cy * grid + cx0], start[cy * grid + cx1 + 1]):
            fx, fy = (px[i] - x0) * sx, (py[i] - y0) * sy
            if fx >= 0 and fy >= 0 and fx < w and fy < h:
                s = _bit(words, rows[i]) if some else 1
                c = np.uint8(1) if codes[i] == NO_VALUE else np.uint8(codes[i] + 2)
                if c > out[s, int(fy), int(fx)]:
                    out[s, int(fy), int(fx)] = c
                seen += 1
    return seen


@_fast
def _sums(px, py, rows, words, start, grid, cx0, cx1, cy0, cy1, x0, y0, sx, sy, values, total, known, count, some):
    h, w = total.shape[1:]
    seen = 0
    for cy in range(cy0, cy1 + 1):
        for i in range(start[cy * grid + cx0], start[cy * grid + cx1 + 1]):
            fx, fy = (px[i] - x0) * sx, (py[i] - y0) * sy
            if fx >= 0 and fy >= 0 and fx < w and fy < h:
                s = _bit(words, rows[i]) if some else 1
                ix, iy = int(fx), int(fy)
                count[s, iy, ix] += 1
                if values[i] == values[i]:
                    total[s, iy, ix] += values[i]
                    known[s, iy, ix] += 1
                seen += 1
    return seen


@_fast
def _per_category(px, py, rows, words, start, grid, cx0, cx1, cy0, cy1, x0, y0, sx, sy, codes, out, some):
    # out: (2, h, w, categories + 1), the last is missing
    h, w = out.shape[1:3]
    missing = out.shape[3] - 1
    seen = 0
    for cy in range(cy0, cy1 + 1):
        for i in range(start[cy * grid + cx0], start[cy * grid + cx1 + 1]):
            fx, fy = (px[i] - x0) * sx, (py[i] - y0) * sy
            if fx >= 0 and fy >= 0 and fx < w and fy < h:
                s = _bit(words, rows[i]) if some else 1
                c = missing if codes[i] == NO_VALUE else codes[i]
                out[s, int(fy), int(fx), c] += 1
                seen += 1
    return seen


@_jit
def _bytes_of_counts(counts, table, step, out):
    h, w = out.shape
    top = table.size - 1
    for y in range(h):
        for x in range(w):
            if counts[1, y, x]:
                out[y, x] = FULL + table[min(top, counts[1, y, x] // step)]
            elif counts[0, y, x]:
                out[y, x] = DIM + table[min(top, counts[0, y, x] // step)]


@_jit
def _bytes_of_codes(codes, table, out):
    h, w = out.shape
    for y in range(h):
        for x in range(w):
            if codes[1, y, x]:
                out[y, x] = MISSING if codes[1, y, x] == 1 else FULL + table[codes[1, y, x] - 2]
            elif codes[0, y, x]:
                out[y, x] = MISSING_DIM if codes[0, y, x] == 1 else DIM + table[codes[0, y, x] - 2]


@_jit
def _levels_in_view(codes, seen):
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            code = codes[1, y, x] if codes[1, y, x] else codes[0, y, x]
            if code > 1:
                seen[code - 2] += 1


@_jit
def _codes_of_shares(counts, some, out):
    # any selected is above level 0, all selected is the highest
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            selected = counts[1, y, x] if some else np.uint32(0)
            n = counts[0, y, x] + counts[1, y, x]
            if n:
                out[1, y, x] = 2 + math.ceil(selected / n * (FINE - 1))


@_jit
def _codes_of_means(total, known, count, edges, out):
    for s in range(2):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                if not count[s, y, x]:
                    continue
                if not known[s, y, x]:
                    out[s, y, x] = 1
                    continue
                out[s, y, x] = _level(total[s, y, x] / known[s, y, x], edges) + 2


@_jit
def _codes_of_categories(per, out):
    categories = per.shape[3] - 1
    for s in range(2):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                best, most = -1, 0
                for c in range(categories):
                    if per[s, y, x, c] > most:
                        best, most = c, per[s, y, x, c]
                if best >= 0:
                    out[s, y, x] = best + 2
                elif per[s, y, x, categories]:
                    out[s, y, x] = 1


@_jit
def _grow(frame, offsets, out):
    """Draw each pixel as a disc; selected before others, then the higher byte wins: nothing interesting is covered."""
    h, w = frame.shape
    for y in range(h):
        for x in range(w):
            b = frame[y, x]
            if b == EMPTY:
                continue
            for k in range(len(offsets)):
                yy, xx = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= yy < h and 0 <= xx < w:
                    old = out[yy, xx]
                    # order: empty < dim missing < dim ramp < missing < full ramp
                    old_rank = old + 300 if (old == MISSING or old >= FULL) else old
                    rank = b + 300 if (b == MISSING or b >= FULL) else b
                    if rank > old_rank:
                        out[yy, xx] = b


@dataclass(frozen=True, slots=True)
class Frame:
    """One rendered view.

    Attributes
    ----------
    pixels
        uint8 (h, w), row 0 at the bottom (y0); bytes as in the module's table.
    n_in_view
        Subjects inside the view, exactly.
    radius
        Points are drawn as discs of this radius in pixels.
    ticks
        (position 0–1, value) for the colour bar; of this view for counts, shares and "equalised". Under "percentile"
        the position of a value is its percentile among the survey's subjects.
    note
        What must be said beside the bar; empty for nothing.
    is_sample
        Whether an even sample of a cloud was drawn: then `n_in_view` is of the sample.
    """

    pixels: np.ndarray
    n_in_view: int
    radius: int
    ticks: list[tuple[float, float]]
    note: str = ""
    is_sample: bool = False


def _radius(n: int, pixels: int) -> int:
    """Points grow when there is room: in pixels, by how many share the view."""
    share = n / pixels
    for radius, limit in ((4, 0.0015), (3, 0.006), (2, 0.02), (1, 0.06)):
        if share < limit:
            return radius
    return 0


def _disc(radius: int) -> np.ndarray:
    span = np.arange(-radius, radius + 1)
    dy, dx = np.meshgrid(span, span, indexing="ij")
    keep = dy**2 + dx**2 <= (radius + 0.5) ** 2  # of radius 1 a block: without its corners it looks like a plus
    return np.column_stack([dy[keep], dx[keep]])


def render(
    index: CellIndex,
    view: View,
    width: int,
    height: int,
    paint: Paint,
    selection: Selection | None = None,
    density: float = 1.0,
) -> Frame:
    """Render one view.

    Parameters
    ----------
    view
        x0, x1, y0, y1 in data coordinates; x0 < x1, y0 < y1.
    width, height
        Pixels of the frame.
    selection
        Dims the rest; None or empty draws everything in full.
    density
        Device pixels to one pixel of the page: discs grow with it.
    """
    x0, x1, y0, y1 = view
    sx, sy = width / (x1 - x0), height / (y1 - y0)
    some = selection is not None and selection.count > 0
    words = selection.words if selection is not None and some else np.zeros(1, np.uint64)
    place = (index.x, index.y, index.rows, words, index.start, index.grid, *index._box(view), x0, y0, sx, sy)
    shape = (2, height, width)
    out = np.zeros((height, width), np.uint8)
    ticks: list[tuple[float, float]] = []
    if paint.aggregate == "count":
        counts = np.zeros(shape, np.uint32)
        seen = _count(*place, counts, some)
        table, step, ticks = _count_scale(counts, paint.norm)
        _bytes_of_counts(counts, table, step, out)
    elif paint.aggregate == "share":
        counts, codes = np.zeros(shape, np.uint32), np.zeros(shape, np.uint8)
        seen = _count(*place, counts, some)
        _codes_of_shares(counts, some, codes)
        table, ticks = _share_scale(codes, paint.norm)
        _bytes_of_codes(codes, table, out)
    else:
        codes = np.zeros(shape, np.uint8)
        if paint.aggregate == "mean":
            assert paint.values is not None and paint.scale is not None
            total, known = np.zeros(shape, np.float32), np.zeros(shape, np.uint32)
            count = np.zeros(shape, np.uint32)
            seen = _sums(*place, paint.values, total, known, count, some)
            _codes_of_means(total, known, count, paint.scale.edges, codes)
        elif paint.aggregate == "dominant":
            seen = _commonest_codes(index, view, paint, words, some, codes)
        else:
            seen = _highest(*place, paint.codes, codes, some)
        table = np.arange(LEVELS, dtype=np.uint8)
        if paint.scale and paint.scale.edges.size == FINE - 1:
            table, ticks = _equalised(codes, paint.scale)
        elif paint.scale:
            ticks = paint.scale.ticks()
        _bytes_of_codes(codes, table, out)
    radius = round(_radius(seen, int(width * height / density**2)) * density)
    if radius:
        grown = np.zeros_like(out)
        _grow(out, _disc(radius), grown)
        out = grown
    note = "nothing is selected" if paint.aggregate == "share" and not some else ""
    return Frame(out, seen, radius, ticks, note, isinstance(index, Turned) and index.is_sample)


def _commonest_codes(
    index: CellIndex, view: View, paint: Paint, words: np.ndarray, some: bool, codes: np.ndarray
) -> int:
    """Fill `codes` band by band, for one count a pixel and category is much memory; return the subjects in view."""
    x0, x1, y0, y1 = view
    height, width = codes.shape[1:]
    sx, sy = width / (x1 - x0), height / (y1 - y0)
    band = max(1, 2_000_000 // (width * (len(paint.labels) + 1)))
    seen = 0
    for top in range(0, height, band):
        rows = min(band, height - top)
        per = np.zeros((2, rows, width, len(paint.labels) + 1), np.uint32)
        low = y0 + top / sy
        box = index._box((x0, x1, low, low + rows / sy))
        place = (index.x, index.y, index.rows, words, index.start, index.grid, *box, x0, low, sx, sy)
        seen += _per_category(*place, paint.codes, per, some)
        _codes_of_categories(per, codes[:, top : top + rows])
    return seen


def _count_scale(counts: np.ndarray, norm: Norm) -> tuple[np.ndarray, int, list[tuple[float, float]]]:
    """Level of each count in this view: uint8 table over count // step, step, and the ticks of the bar."""
    top = int(counts.max()) if counts.size else 0
    if top == 0:
        return np.zeros(1, np.uint8), 1, []
    step = top // 65_536 + 1
    size = top // step + 1
    if norm in ("percentile", "equalised"):
        share = _ranked(np.bincount(counts[counts > 0] // step, minlength=size))
    elif norm == "log":
        share = np.log1p(np.arange(size) * step) / math.log1p(top)
    else:
        share = np.arange(size) * step / top
    positions = np.linspace(0, 1, 5)
    at = np.searchsorted(share, positions - 1e-9)
    ticks = [(float(p), float(max(1, min(top, int(a) * step)))) for p, a in zip(positions, at, strict=True)]
    return _table(share), step, ticks


def _ranked(seen: np.ndarray) -> np.ndarray:
    """Place of each level on the ramp, 0–1, by how many pixels have it: the lowest present at 0, the highest at 1."""
    present = np.flatnonzero(seen)
    if not present.size:
        return np.zeros(len(seen))
    share = np.cumsum(seen, dtype=np.float64)
    first = seen[present[0]]
    return np.asarray((share - first) / max(1.0, share[-1] - first))


def _table(share: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(share * (LEVELS - 1), 0, LEVELS - 1), np.uint8)


def _equalised(codes: np.ndarray, scale: Scale) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Drawn level of each fine one, so that each holds as many pixels of this view, and the ticks of the bar."""
    seen = np.zeros(FINE, np.int64)
    _levels_in_view(codes, seen)
    present = np.flatnonzero(seen)
    if not present.size:
        return np.zeros(FINE, np.uint8), []
    share, positions = _ranked(seen), np.linspace(0, 1, 5)
    at = np.searchsorted(share[: present[-1] + 1], positions - 1e-9).clip(present[0], present[-1])
    ends = [present[0] / FINE, *((a + 0.5) / FINE for a in at[1:-1]), (present[-1] + 1) / FINE]
    return _table(share), [(float(p), scale.value(e)) for p, e in zip(positions, ends, strict=True)]


def _share_scale(codes: np.ndarray, norm: Norm) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Drawn level of each fine step of a share, and the ticks: 0 is always the bottom of the ramp."""
    steps = np.linspace(0, 1, FINE)
    if norm == "linear":
        place = steps
    elif norm == "log":  # over the three decades below 1; what is less, but not nothing, is just above the bottom
        place = np.where(steps > 0, 1 + np.log10(np.maximum(steps, 1e-3)) / 3, 0)
    else:
        seen = np.zeros(FINE, np.int64)
        _levels_in_view(codes, seen)
        seen[0] = max(1, seen[0])
        place = _ranked(seen)
    positions = np.linspace(0, 1, 5)
    at = np.searchsorted(place, positions - 1e-9).clip(0, FINE - 1)
    table = _table(place)
    table[1:] = np.maximum(table[1:], 1)
    return table, [(float(p), float(steps[a])) for p, a in zip(positions, at, strict=True)]


# ------------------------------------------------------------------------------------------------------ contours
@dataclass(frozen=True, slots=True)
class Contour:
    """A line of equal density.

    Attributes
    ----------
    share
        Of the subjects in view that stand where it is at least as dense.
    lines
        float64 (k, 2) each, data coordinates; a closed one ends where it begins.
    """

    share: float
    lines: list[np.ndarray]


def contours(index: CellIndex, view: View, shares: tuple[float, ...] = (0.5, 0.8, 0.95)) -> list[Contour]:
    """Lines around the densest places of a view that hold the given shares of its subjects; [] for fewer than ten.

    Density is a count on a grid of 240 × 240 cells over where the subjects in view are but for the farthest few,
    smoothed by a Gaussian that narrows as the subjects become more (as n^-1/6, Scott's rule for two dimensions) and
    takes in what lies just outside; it fades out a few cells away from any subject.
    """
    n, (x0, x1, y0, y1) = _held(index, view)
    if n < 10:
        return []
    cells, pad = 240, 64
    dx, dy = (x1 - x0) / cells, (y1 - y0) / cells
    wide = (x0 - pad * dx, x1 + pad * dx, y0 - pad * dy, y1 + pad * dy)
    counts = np.zeros((2, cells + 2 * pad, cells + 2 * pad), np.uint32)
    place = (index.x, index.y, index.rows, np.zeros(1, np.uint64), index.start, index.grid, *index._box(wide))
    _count(*place, wide[0], wide[2], 1 / dx, 1 / dy, counts, False)
    inner = slice(pad, pad + cells)
    density = gaussian_filter(counts[1].astype(np.float32), np.clip(0.14 * cells * n ** (-1 / 6), 1.5, pad / 4))
    away = distance_transform_edt(counts[1] == 0) - max(2.0, cells / math.sqrt(n))  # a mean spacing is near
    density *= np.exp(-(np.maximum(0, away) ** 2) / 4)
    order = np.argsort(-density[inner, inner], axis=None, kind="stable")
    held = np.cumsum(counts[1, inner, inner].ravel()[order])
    edge = slice(pad - 1, pad + cells + 1)  # lines run up to the frame
    at = np.arange(-0.5, cells + 1)
    lines = contour_generator(x0 + at * dx, y0 + at * dy, density[edge, edge])
    found = []
    for share in shares:
        level = density[inner, inner].ravel()[order[min(int(np.searchsorted(held, share * n)), order.size - 1)]]
        found.append(Contour(share, [np.asarray(line) for line in lines.lines(float(level))]))
    return found


def mean_lines(
    index: CellIndex, view: View, values: np.ndarray, levels: tuple[float, ...] = (0.25, 0.5, 0.75)
) -> dict[float, list[np.ndarray]]:
    """Lines where the mean of a cell passes a level: level → float64 (k, 2) each, in data coordinates.

    Cells are squares of a grid over where the subjects in view are but for the farthest few, the more the more subjects
    there are: about four to a cell, 12 to 120 cells a side. A cell's mean is of its own subjects, counted fourfold, of
    those of the four cells beside it, counted twice, and of those at its corners. There is no mean, and no line, where
    these counts are not four: where it has none with a value of its own, and few around it. {} for fewer than ten in
    view.

    Parameters
    ----------
    values
        float (N,) in row order, NaN where missing.
    """
    n, (x0, x1, y0, y1) = _held(index, view)
    if n < 10:
        return {}
    cells = int(np.clip(math.sqrt(n / 4), 12, 120))
    dx, dy = (x1 - x0) / cells, (y1 - y0) / cells
    x0, x1, y0, y1 = x0 - dx, x1 + dx, y0 - dy, y1 + dy  # lines run up to the frame
    shape = (2, cells + 2, cells + 2)
    total, known, count = np.zeros(shape, np.float32), np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
    place = (index.x, index.y, index.rows, np.zeros(1, np.uint64), index.start, index.grid)
    told = np.asarray(values, np.float32)[index.rows]
    _sums(*place, *index._box((x0, x1, y0, y1)), x0, y0, 1 / dx, 1 / dy, told, total, known, count, False)
    sums, weights = (_with_neighbors(grid[1].astype(np.float64)) for grid in (total, known))
    mean = np.ma.masked_invalid(np.divide(sums, weights, out=np.full(shape[1:], np.nan), where=weights >= 4))
    at = np.arange(-0.5, cells + 1)
    lines = contour_generator(x0 + dx * (at + 1), y0 + dy * (at + 1), mean)
    return {level: [np.asarray(line) for line in lines.lines(level)] for level in levels}


def _with_neighbors(grid: np.ndarray) -> np.ndarray:
    """Every cell four times, its neighbors twice, those at its corners once."""
    wide = np.pad(grid, 1)
    tall = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    together: np.ndarray = tall[:, :-2] + 2 * tall[:, 1:-1] + tall[:, 2:]
    return together


def _held(index: CellIndex, view: View) -> tuple[int, View]:
    """How many are in view, and the part of it that holds them: but for one in a thousand on each side."""
    x0, x1, y0, y1 = view
    within = (index.x >= x0) & (index.x <= x1) & (index.y >= y0) & (index.y <= y1)
    n = int(within.sum())
    part: list[float] = []
    for values, low, high in ((index.x, x0, x1), (index.y, y0, y1)):
        known = values[within][:: max(1, n // 100_000)]  # in the order of their cells: an even sample
        a, b = np.quantile(known, (0.001, 0.999)) if known.size else (low, high)
        margin = 0.1 * (b - a) + 1e-3 * (high - low)
        part += [max(low, float(a - margin)), min(high, float(b + margin))]
    return n, (part[0], part[1], part[2], part[3])


# ------------------------------------------------------------------------------------------------------ overlays
@dataclass(frozen=True, slots=True)
class Overlay:
    """Subjects that are drawn above the map as markers of one kind.

    Attributes
    ----------
    label
        What they have in common.
    rows
        int64: those that are drawn, an even sample where there are too many.
    count
        How many there are.
    color
        Place of their color: that of the category in the legend of `commonest`.
    """

    label: str
    rows: np.ndarray
    count: int
    color: int = 0


def overlay(label: str, rows: np.ndarray, limit: int = 5000, color: int = 0) -> Overlay:
    """Rows as markers: all of them, or an even sample of `limit`."""
    at = np.linspace(0, len(rows) - 1, limit).astype(np.int64) if len(rows) > limit else slice(None)
    return Overlay(label, np.asarray(rows, np.int64)[at], len(rows), color)


def overlays(codes: np.ndarray, labels: list[str], limit: int = 5000, kinds: int = 8) -> list[Overlay]:
    """The rarest categories as markers, rarest first: `kinds` of them at most, and `limit` subjects in all.

    Parameters
    ----------
    codes
        int (N,) row order, -1 where missing.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    table, _ = commonest(codes, labels)
    found: list[Overlay] = []
    for code in np.argsort(counts, kind="stable"):
        if not counts[code]:
            continue
        if limit <= 0 or len(found) == kinds:
            break
        found.append(overlay(labels[code], np.flatnonzero(codes == code), limit, int(table[code])))
        limit -= len(found[-1].rows)
    return found


# ------------------------------------------------------------------------------------------------------ caches
T = TypeVar("T")


class Cache:
    """The last few of what is slow to make, by a key of all that went into it. Thread-safe; each is made once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The kept value of `key`, or ``make()``."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]  # type: ignore[return-value]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]  # type: ignore[return-value]
            try:
                value = make()
                with self._lock:
                    self._kept[key] = value
                    while len(self._kept) > self._size:
                        self._kept.popitem(last=False)
                return value
            finally:
                with self._lock:
                    self._making.pop(key, None)


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first frame waits for it."""
    index = CellIndex(np.arange(4.0), np.arange(4.0))
    column = np.array([0.0, 1.0, np.nan, 2.0], np.float32)
    selection = index.inside(np.array([[0.0, 0.0], [2.5, 0.0], [2.5, 2.5], [0.0, 2.5]]))
    paints = [
        Paint.count(),
        Paint.share(),
        Paint.of_values(index, column, "max", "equalised"),
        Paint.of_values(index, column, "mean", "linear"),
        Paint.of_categories(index, np.array([0, 1, -1, 1], np.int32), ["a", "b"]),
    ]
    for paint in paints:
        render(index, index.bounds, 8, 8, paint, selection)
    Paint.of_values(index, column.astype(np.float64), "max", "log")
    index.nearest(1.0, 1.0, 0.5, 0.5)
    index.near_path(np.zeros((2, 2)), 1.0, 1.0)
    turned = Cloud(np.arange(4.0), np.arange(4.0), np.arange(4.0)).turned(0.1, 0.2, 2)
    render(turned, turned.bounds, 8, 8, Paint.count())
    contours(index, index.bounds)
