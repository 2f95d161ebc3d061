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
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numba import njit

from explorer.cells import CellIndex, Cloud, Turned, View
from explorer.state import Selection

LEVELS = 126
FINE = 252  # levels of a code that is equalised over the view: more than are drawn, for a view holds but some of them
EMPTY, MISSING, MISSING_DIM, DIM, FULL = 0, 1, 2, 3, 3 + LEVELS
NO_VALUE = 255  # code of a subject without a value

Aggregate = Literal["count", "max", "mean", "dominant", "share"]
#: percentile: each level holds as many subjects of the survey; equalised: as many pixels of this view
Norm = Literal["percentile", "equalised", "linear", "log"]

_jit = njit(cache=True, nogil=True)
_fast = njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})


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
    coarse
        Where more points are in view than are drawn at once, cells may stand for them: for frames of a map that moves.
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
    turned = Cloud(np.arange(4.0), np.arange(4.0), np.arange(4.0)).turned(0.1, 0.2, 2)
    render(turned, turned.bounds, 8, 8, Paint.count())
