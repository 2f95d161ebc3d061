"""The map's renderer: the pixels of a view, read off points in cell order (`explorer.cells`).

Every kernel is compiled without the GIL: the server runs frames on threads.

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
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from explorer import pixels, pyramid
from explorer.cells import CellIndex, Cloud, Turned, View, in_parallel, spans
from explorer.errors import UnwantedError
from explorer.pixels import DIM, EMPTY, FINE, FULL, LEVELS, MISSING, MISSING_DIM, NO_VALUE, read_only
from explorer.pyramid import Column
from explorer.state import Selection

__all__ = [  # the bytes of a frame are those of `explorer.pixels`
    "DIM", "EMPTY", "FINE", "FULL", "LEVELS", "MISSING", "MISSING_DIM", "NO_VALUE", "Aggregate", "Frame", "Norm",
    "Overlay", "Paint", "Scale", "commonest", "counted", "extremes", "in_order", "overlay", "overlays",
    "points_within", "render", "sample", "summed", "warm",
]  # fmt: skip

Aggregate = Literal["count", "max", "mean", "std", "dominant", "share"]
#: percentile: each level holds as many subjects of the survey; equalised: as many pixels of this view
Norm = Literal["percentile", "equalised", "linear", "log"]

#: Points in view that are drawn one by one even where a frame may be coarse.
BUDGET = 2_000_000
#: Points in view from which on an even sample stands for them where a frame may be coarse and there are no cells yet.
MANY = 12_000_000
#: Points in view from which on a frame is shared among the cores.
SHARED = 300_000
#: Subjects that a scale is taken from.
SAMPLE = 100_000


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
    middle
        Median of the values.
    """

    norm: Norm
    low: float
    high: float
    edges: np.ndarray
    clipped: bool = False
    middle: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray, norm: Norm, ends: tuple[float, float] | None = None) -> Scale:
        """The scale of a column.

        Parameters
        ----------
        values
            float (N,). Its ends are of all of them, quantiles above `SAMPLE` of an even stride through them.
        ends
            Lowest and highest where `values` are a sample already.
        """
        finite = np.sort(sample(values))
        if not finite.size:
            return cls("linear", 0.0, 1.0, np.linspace(0, 1, LEVELS + 1)[1:-1])
        lowest, highest = extremes(values) if ends is None else ends
        middle = float(finite[finite.size // 2])
        if norm in ("percentile", "equalised"):
            shares = np.linspace(0, 1, LEVELS + 1)
            if norm == "equalised":  # a pixel's highest of many lies in the tail: there the levels are finest
                shares = (1 - np.cos(np.pi * np.linspace(0, 1, FINE + 1))) / 2
            return cls(norm, lowest, highest, _quantiles(finite, shares[1:-1]), middle=middle)
        low, high = (float(v) for v in _quantiles(finite, np.array([0.005, 0.995])))
        if norm == "log":
            positive = finite[np.searchsorted(finite, 0.0, side="right") :]
            if not positive.size:
                return cls.of(values, "linear", ends)
            low = max(low, float(_quantiles(positive, np.array([0.005]))[0]))
            high = max(high, low * 1.000001)
            edges = np.geomspace(low, high, LEVELS + 1)[1:-1]
        else:
            high = high if high > low else low + 1.0
            edges = np.linspace(low, high, LEVELS + 1)[1:-1]
        return cls(norm, low, high, edges, lowest < low or highest > high, middle)

    @classmethod
    def of_spread(cls, values: np.ndarray, norm: Norm) -> Scale:
        """The scale of a pixel's standard deviation: to that of the survey, above which it is clipped.

        No subject has a standard deviation: "percentile" is over the pixels of a view, as "equalised".
        """
        finite = sample(values)
        whole = float(finite.std()) if finite.size else 0.0
        whole, middle = whole or 1.0, float(np.median(finite)) if finite.size else 0.0
        if norm in ("percentile", "equalised"):  # to twice that, closest at 0
            return cls("equalised", 0.0, 2 * whole, 2 * whole * np.linspace(0, 1, FINE + 1)[1:-1] ** 2, middle=middle)
        if norm == "log":
            return cls(norm, whole / 100, whole, np.geomspace(whole / 100, whole, LEVELS + 1)[1:-1], True, middle)
        return cls(norm, 0.0, whole, np.linspace(0, whole, LEVELS + 1)[1:-1], True, middle)

    @property
    def less(self) -> float:
        """What is taken off the values before they become single: 0 where single precision tells them apart."""
        step = float(np.spacing(np.float32(min(max(map(abs, (self.low, self.middle, self.high))), 1e38))))
        return self.middle if step * 10_000 > self.high - self.low > 0 else 0.0

    def ticks(self, n: int = 5) -> list[tuple[float, float]]:
        """(position 0–1 along the ramp, value there) at n even positions."""
        return [(float(p), self.value(p)) for p in np.linspace(0, 1, n)]

    def value(self, position: float) -> float:
        """The value at a position 0–1 through the levels."""
        knots = np.concatenate([[self.low], self.edges, [self.high]])
        return float(np.interp(position * (knots.size - 1), np.arange(knots.size), knots))


def sample(values: np.ndarray, size: int = SAMPLE) -> np.ndarray:
    """The finite ones of a column, float64; above about `size` an even stride through it."""
    values = np.asarray(values)
    found = values[:: max(1, len(values) // size)]
    found = found[np.isfinite(found)]
    if found.size < size // 10 and len(values) > size:  # few of many have a value
        found = values[np.isfinite(values)]
        found = found[:: max(1, found.size // size)]
    return np.asarray(found, np.float64)


def _quantiles(ordered: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """As `np.quantile`, of what is sorted."""
    return np.asarray(np.interp(shares * (ordered.size - 1), np.arange(ordered.size), ordered))


def extremes(values: np.ndarray, other: np.ndarray | None = None, weight: float = 0.0) -> tuple[float, float]:
    """Lowest and highest finite value of a column, or of two mixed; 0, 0 of none."""
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    values = read_only(np.ascontiguousarray(values))
    second = pyramid.NO_COLUMN if other is None else read_only(np.asarray(other, np.float32))
    pieces = spans(len(values), 1 << 20)
    ends = np.empty((len(pieces), 2))

    def look(piece: int) -> None:
        pixels.extremes(values, second, weight, *pieces[piece], ends[piece])

    in_parallel(look, range(len(pieces)))
    low, high = (ends[:, 0].min(), ends[:, 1].max()) if pieces else (0.0, 0.0)
    return (float(low), float(high)) if low <= high else (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Paint:
    """What gives the points of an index their colour.

    Attributes
    ----------
    aggregate
        How the subjects of one pixel become one value.
    column
        The numbers, for max, mean and std.
    codes
        uint8 (n,) in cell order (a cloud's own): category number, or `NO_VALUE`; for "dominant".
    scale
        None for count and share (their scale depends on the view) and categories.
    labels
        Category names for "dominant".
    key
        What tells the categories from any others.
    """

    aggregate: Aggregate
    norm: Norm = "percentile"
    column: Column | None = None
    codes: np.ndarray | None = None
    scale: Scale | None = None
    labels: list[str] = field(default_factory=list)
    key: Hashable = field(default_factory=object)

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
        scale = Scale.of_spread(values, norm) if aggregate == "std" else Scale.of(values, norm)
        less = scale.less
        column = Column(in_order(index, values - less if less else values), center=scale.middle - less, less=less)
        return cls(aggregate, norm, column, scale=scale)

    @classmethod
    def of_column(cls, column: Column, scale: Scale, aggregate: Aggregate) -> Paint:
        """Colour by numbers that are in cell order already."""
        return cls(aggregate, scale.norm, column, scale=scale)

    @classmethod
    def of_codes(cls, codes: np.ndarray, names: list[str], key: Hashable) -> Paint:
        """Colour by the commonest of categories; uint8 places in the legend, in cell order already."""
        return cls("dominant", codes=codes, labels=names, key=key)

    @classmethod
    def of_categories(cls, index: CellIndex | Cloud, codes: np.ndarray, labels: list[str]) -> Paint:
        """Colour by the commonest category of a pixel; int (N,) codes in row order, -1 where missing.

        The eleven commonest categories keep a colour of their own; the others share the twelfth, "other".
        """
        table, names = commonest(codes, labels)
        return cls("dominant", codes=in_order(index, table[codes]), labels=names)


def in_order(index: CellIndex | Cloud, values: np.ndarray) -> np.ndarray:
    """A column in the order of an index or a cloud: uint8 as it is, else float32."""
    if values.dtype != np.uint8:
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(values, np.float32)
    return index.sorted(values) if isinstance(index, CellIndex) else values[index.rows]


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
    is_coarse
        Whether cells stand for their points, as `coarse` allows; then `n_in_view` is near the number, not it.
    """

    pixels: np.ndarray
    n_in_view: int
    radius: int
    ticks: list[tuple[float, float]]
    note: str = ""
    is_sample: bool = False
    is_coarse: bool = False


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
    coarse: bool = False,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Frame:
    """Render one view: the pixels that datashader's ``Canvas.points`` finds, but for points on the view's upper edges.

    Datashader draws those that stand exactly on the upper or the right edge of the view, too; here these belong to the
    next view, so that views side by side hold every subject once. A point within rounding of a pixel's edge may be
    drawn on either side of it, by either.

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
    coarse
        Where more points are in view than are drawn at once, cells may stand for them, or an even sample: for frames of
        a map that moves.
    is_wanted
        Asked now and then.

    Raises
    ------
    UnwantedError
        The frame is not wanted any more.
    """
    drawing = _Drawing(index, view, width, height, paint, selection, coarse, is_wanted)
    out, seen, ticks = drawing.bytes()
    radius = round(_radius(seen, int(width * height / density**2)) * density)
    if radius:
        grown = np.zeros_like(out)
        pixels.grow(out, _disc(radius), grown)
        out = grown
    note = "nothing is selected" if paint.aggregate == "share" and drawing.selection is None else ""
    is_sample = isinstance(index, Turned) and index.is_sample
    return Frame(out, seen, radius, ticks, note, is_sample, drawing.is_coarse)


class _Drawing:
    """A view while it is drawn: its pixel rows are shared among the cores where the points are many."""

    def __init__(
        self,
        index: CellIndex,
        view: View,
        width: int,
        height: int,
        paint: Paint,
        selection: Selection | None,
        coarse: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        x0, x1, y0, y1 = self.view = view
        self.index, self.paint, self.width, self.height = index, paint, width, height
        self.selection = selection if selection is not None and selection.count > 0 else None
        self.layers = 2 if self.selection is not None else 1
        self.is_wanted = is_wanted
        sx, sy = self.scale = width / (x1 - x0), height / (y1 - y0)
        self.frame = (float(x0), float(y0), float(sx), float(sy))
        self.n = points_within(index, view)
        wide = pyramid.cell_pixels(index, sx, sy)  # wide cells show: then more points are drawn instead
        self.cells: tuple[np.ndarray, ...] | None = None
        self.level = 0
        if coarse and index.grid > 1 and self.n > BUDGET * max(1.0, wide) ** 2:
            self.level = 0 if paint.aggregate == "dominant" else pyramid.level_of(index, sx, sy)
            self.cells = self._find_cells()
        self.step = 1
        if coarse and self.cells is None and self.n > MANY and index.grid > 1:
            self._thin()
        self.is_coarse = self.cells is not None or self.step > 1
        self.least = pixels.LEAST * min(1.0, (wide * 2**self.level) ** -2)
        n_bands = 8 if self.is_coarse or self.n < MANY else 64
        if index.grid == 1 or (self.n < SHARED and not self.is_coarse):
            n_bands = 1
        self.bands = self._bands(n_bands)

    def _find_cells(self) -> tuple[np.ndarray, ...] | None:
        """What is drawn in place of the points; None where it is not there yet."""
        paint, selection = self.paint, self.selection
        is_on_disk = paint.column is not None and paint.column.kept(self.index, selection, "max") is not None
        if is_on_disk or (paint.aggregate in ("count", "share") and selection is None):
            return self.make_cells()
        of_what = paint.column.key if paint.column is not None else paint.key if paint.codes is not None else ""
        key = paint.aggregate, of_what, selection and selection.id
        found: tuple[np.ndarray, ...] | None = pyramid.when_there(self.index, key, self.make_cells)
        return found

    def _thin(self) -> None:
        """Draw an even sample of the points."""
        whole, paint = self.index, self.paint
        thin = pyramid.thinned(whole)
        column = None if paint.column is None else thin.column(whole, paint.column)
        codes = None if paint.codes is None else thin.codes(whole, paint.codes, paint.key)
        self.index, self.step = thin.points, thin.step
        self.paint = replace(paint, column=column, codes=codes)

    def make_cells(self) -> tuple[np.ndarray, ...]:
        """What is drawn in place of the points."""
        index, paint, selection, level = self.index, self.paint, self.selection, self.level
        if paint.codes is not None:
            return pyramid.heaviest(index, paint.codes, paint.key, len(paint.labels), selection)
        if paint.column is None:
            return (pyramid.counts(index, selection, level),)
        if paint.aggregate == "max":
            return (pyramid.highest(index, paint.column, selection, level),)
        powers = 3 if paint.aggregate == "std" else 2
        return pyramid.counts(index, selection, level), pyramid.sums(index, paint.column, powers, selection, level)

    def _bands(self, n: int) -> list[tuple[int, int]]:
        """Stretches of pixel rows that hold about as many points each."""
        if n == 1:
            return [(0, self.height)]
        index, (_, sy) = self.index, self.scale
        cx0, cx1, cy0, cy1 = index.box(self.view)
        rows = np.arange(cy0, cy1 + 1)
        held = np.cumsum(index.start[rows * index.grid + cx1 + 1] - index.start[rows * index.grid + cx0])
        cells = rows[np.searchsorted(held, np.linspace(0, held[-1], n + 1)[1:-1])]
        edges = np.round((index.bounds[2] + cells / index.per_y - self.view[2]) * sy).astype(int)
        ends = sorted({0, self.height, *(int(e) for e in edges if 0 < e < self.height)})
        return list(pairwise(ends))

    def _box(self, r0: int, r1: int) -> tuple[int, int, int, int]:
        x0, x1, y0, _ = self.view
        sy = self.scale[1]
        return self.index.box((x0, x1, y0 + r0 / sy, y0 + r1 / sy))

    def _points(self, r0: int, r1: int) -> tuple[Any, ...]:
        """What a kernel is told of the points of pixel rows r0 … r1."""
        index = self.index
        words, how = pyramid.NO_WORDS, 0
        if self.selection is not None:
            # in their order where most are looked at; one by one where it would take longer to put them into it
            in_order = 4 * self.n > len(index)
            words = pyramid.bits(index, self.selection) if in_order else read_only(self.selection.words)
            how = 2 if in_order else 1
        points = tuple(read_only(a) for a in (index.x, index.y, index.rows, index.start))
        return points, words, how, index.grid, self._box(r0, r1), self.frame, r0, r1

    def _cells(self, r0: int, r1: int) -> tuple[Any, ...]:
        """What a kernel is told of the cells: their box, and where they lie in pixels."""
        index, (x0, y0, sx, sy), level = self.index, self.frame, self.level
        wide, tall = sx / index.per_x * 2**level, sy / index.per_y * 2**level
        box = tuple(c >> level for c in self._box(r0, r1))
        return box, ((index.bounds[0] - x0) * sx, (index.bounds[2] - y0) * sy, wide, tall), r0, r1

    def _each(self, draw: Callable[[int, int], int]) -> int:
        """Draw every band; how many subjects are in view, of a coarse frame about so many."""
        seen: list[int] = []

        def one(band: tuple[int, int]) -> None:
            if not self.is_wanted():
                raise UnwantedError("this frame is not wanted any more")
            seen.append(int(draw(*band)))

        in_parallel(one, self.bands)
        return self.n if self.is_coarse else sum(seen)

    def bytes(self) -> tuple[np.ndarray, int, list[tuple[float, float]]]:
        """The pixels, how many subjects are in view, and the ticks of the bar."""
        paint, ticks = self.paint, list[tuple[float, float]]()
        out = np.empty((self.height, self.width), np.uint8)
        if paint.aggregate == "count":
            counts, seen = self.counts()
            levels, step, ticks = _count_scale(counts, paint.norm)
            pixels.bytes_of_counts(counts, levels, step, out)
            return out, seen, ticks
        if paint.aggregate == "share":
            counts, seen = self.counts()
            codes = np.empty((1, self.height, self.width), np.uint8)
            pixels.codes_of_shares(counts, codes)
            levels, ticks = _share_scale(codes, paint.norm)
        else:
            codes, seen = self.codes()
            levels = np.arange(LEVELS, dtype=np.uint8)
            if paint.scale and paint.scale.edges.size == FINE - 1:
                levels, ticks = _equalised(codes, paint.scale)
            elif paint.scale:
                ticks = paint.scale.ticks()
        pixels.bytes_of_codes(codes, levels, out)
        return out, seen, ticks

    def counts(self) -> tuple[np.ndarray, int]:
        """Subjects of each pixel, uint32 (layers, h, w), and how many are in view."""
        out = np.empty((self.layers, self.height, self.width), np.uint32)
        shares = np.empty(out.shape if self.cells else 0, np.float32)
        self._prepare()

        def draw(r0: int, r1: int) -> int:
            if self.cells is None:
                out[:, r0:r1] = 0
                return int(pixels.count(*self._points(r0, r1), out))
            shares[:, r0:r1] = 0
            pixels.spread_sums(self.cells[0], *self._cells(r0, r1), shares)
            pixels.counts_of(shares, r0, r1, self.least, out)
            return 0

        seen = self._each(draw)
        if self.step > 1:  # each stands for so many
            out *= np.uint32(self.step)
        return out, seen

    def _prepare(self) -> None:
        """Make what all bands need, before there are any."""
        if self.selection is not None and self.cells is None and 4 * self.n > len(self.index):
            pyramid.bits(self.index, self.selection)

    def codes(self) -> tuple[np.ndarray, int]:
        """Level of each pixel: uint8 (layers, h, w) as of `pixels`, and how many subjects are in view."""
        self._prepare()
        out = np.empty((self.layers, self.height, self.width), np.uint8)
        if self.paint.aggregate == "dominant":
            return out, self._commonest(out)
        assert self.paint.scale is not None and self.paint.column is not None
        edges = self.paint.scale.edges
        if self.paint.aggregate != "std":
            edges = edges - self.paint.column.less
        of_scale = edges, pixels.steps_of(edges, 4096)
        if self.paint.aggregate == "max":
            return out, self._highest(of_scale, out)
        return out, self._sums(of_scale, out)

    def _highest(self, of_scale: tuple[np.ndarray, np.ndarray], out: np.ndarray) -> int:
        column = self.paint.column
        assert column is not None
        found = np.empty(out.shape, np.float32)

        def draw(r0: int, r1: int) -> int:
            found[:, r0:r1] = pixels.NOTHING
            seen = 0
            if self.cells is not None:
                pixels.spread_highest(self.cells[0], *self._cells(r0, r1), found)
            else:
                seen = pixels.highest(*self._points(r0, r1), *column.args, found)
            pixels.codes_of_highest(found, r0, r1, *of_scale, out)
            return seen

        return self._each(draw)

    def _sums(self, of_scale: tuple[np.ndarray, np.ndarray], out: np.ndarray) -> int:
        column, powers = self.paint.column, 3 if self.paint.aggregate == "std" else 2
        assert column is not None
        missing = np.zeros(out.shape, np.uint8)
        if self.cells is None:
            found = np.empty((*out.shape, powers))
        else:  # one after the other: a pixel's are apart
            parts = np.zeros((powers, *out.shape), np.float32)
            found, shares = np.moveaxis(parts, 0, -1), np.zeros(out.shape, np.float32)

        def draw(r0: int, r1: int) -> int:
            seen = 0
            if self.cells is None:
                found[:, r0:r1] = 0
                seen = pixels.sums(*self._points(r0, r1), *column.args, column.center, found, missing)
            else:
                pixels.spread_sums(self.cells[0], *self._cells(r0, r1), shares)
                missing[:, r0:r1] = shares[:, r0:r1] >= self.least
                for power in range(powers):
                    pixels.spread_sums(self.cells[1][power], *self._cells(r0, r1), parts[power])
            pixels.codes_of_sums(found, missing, r0, r1, self.least, column.center, *of_scale, out)
            return seen

        return self._each(draw)

    def _commonest(self, out: np.ndarray) -> int:
        """One count a pixel and category is much memory: fewer rows at a time."""
        kinds, codes = len(self.paint.labels), self.paint.codes
        assert codes is not None
        given = read_only(codes)
        rows = max(8, 500_000 // (self.width * (kinds + 1) * self.layers))

        def draw(r0: int, r1: int) -> int:
            seen = 0
            for low, high in ((a, min(r1, a + rows)) for a in range(r0, r1, rows)):
                per = np.zeros((self.layers, high - low, self.width, kinds + 1), np.uint32)
                if self.cells is not None:
                    pixels.spread_heaviest(*self.cells, *self._cells(low, high), per)
                else:
                    seen += pixels.per_category(*self._points(low, high), given, per)
                pixels.codes_of_categories(per, low, out)
            return seen

        return self._each(draw)


def counted(index: CellIndex, view: View, width: int, height: int, coarse: bool = False) -> tuple[np.ndarray, int]:
    """Subjects of each pixel of a view, uint32 (h, w), and how many are in it; `coarse` as in `render`."""
    counts, seen = _Drawing(index, view, width, height, Paint.count(), None, coarse).counts()
    return counts[0], seen


def summed(index: CellIndex, view: View, width: int, height: int, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel of a view: how many have a value, and the sum of their values; float64 (h, w) each."""
    drawing = _Drawing(index, view, width, height, Paint("mean", column=column), None)
    found, missing = np.zeros((1, height, width, 2)), np.zeros((1, height, width), np.uint8)
    pixels.sums(*drawing._points(0, height), *column.args, column.center, found, missing)
    return found[0, ..., 0], found[0, ..., 1] + column.center * found[0, ..., 0]


def points_within(index: CellIndex, view: View) -> int:
    """Points of the cells that a view touches: a few more than are in it."""
    cx0, cx1, cy0, cy1 = index.box(view)
    rows = np.arange(cy0, cy1 + 1) * index.grid
    return int((index.start[rows + cx1 + 1] - index.start[rows + cx0]).sum())


def _count_scale(counts: np.ndarray, norm: Norm) -> tuple[np.ndarray, int, list[tuple[float, float]]]:
    """Level of each count in this view: uint8 table over count // step, step, and the ticks of the bar."""
    top = int(counts.max()) if counts.size else 0
    if top == 0:
        return np.zeros(1, np.uint8), 1, []
    step = top // 65_536 + 1
    size = top // step + 1
    if norm in ("percentile", "equalised"):
        seen = np.zeros(size, np.int64)
        pixels.counts_seen(counts, step, seen)
        share = _ranked(seen)
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
    pixels.levels_seen(codes, seen)
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
        pixels.levels_seen(codes, seen)
        seen[0] = max(1, seen[0])
        place = _ranked(seen)
    positions = np.linspace(0, 1, 5)
    at = np.searchsorted(place, positions - 1e-9).clip(0, FINE - 1)
    table = _table(place)
    table[1:] = np.maximum(table[1:], 1)
    return table, [(float(p), float(steps[a])) for p, a in zip(positions, at, strict=True)]


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


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first frame waits for it."""
    index = CellIndex(np.arange(4.0), np.arange(4.0))
    values = np.array([0.0, 1.0, np.nan, 2.0], np.float32)
    selection = index.inside(np.array([[0.0, 0.0], [2.5, 0.0], [2.5, 2.5], [0.0, 2.5]]))
    paints = [
        Paint.count(),
        Paint.share(),
        Paint.of_values(index, values, "max", "equalised"),
        Paint.of_values(index, values, "mean", "linear"),
        Paint.of_values(index, values, "std", "log"),
        Paint.of_categories(index, np.array([0, 1, -1, 1], np.int32), ["a", "b"]),
    ]
    for paint in paints:
        for some in (selection, None):
            for is_coarse in (False, True):
                drawing = _Drawing(index, index.bounds, 8, 8, paint, some)
                if is_coarse:
                    drawing.level = int(paint.aggregate != "dominant")
                    drawing.cells = drawing.make_cells()
                drawing.bytes()
        render(index, index.bounds, 8, 8, paint)
    extremes(values.astype(np.float64))
