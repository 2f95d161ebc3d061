"""How the values of a column are spread: counts of all subjects and of some of them; and gates, ranges that select.

All counts are exact. Which bin a subject is in is kept by column, so that another selection costs one pass over bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from explorer.caches import Cache
from explorer.cells import View
from explorer.errors import UsageError
from explorer.services.explore import Explore, Plane
from explorer.services.orders import below, percentile, shared
from explorer.state import Selection
from explorer.survey import LARGE
from models.mixing import Mode

MOST_BINS = 200
#: Bytes of columns cut into bins that are kept.
KEPT_BYTES = 500 << 20
#: Categories with a bar of their own; the others share one.
MOST_CATEGORIES = 24
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
# What stands for a subject that is in no bin; bins count from 0.
_BELOW, _ABOVE, _NOT_POSITIVE, _MISSING = 252, 253, 254, 255

_jit = njit(cache=True, nogil=True)


@_jit
def _extent(first, last, values):
    low, high, least, whole = np.inf, -np.inf, np.inf, True
    for i in range(first, last):
        v = values[i]
        if np.isfinite(v):
            low, high = min(low, v), max(high, v)
            if v > 0:
                least = min(least, v)
            whole = whole and v == np.floor(v)
    return low, high, least, whole


@_jit
def _bins_of(first, last, values, edges, log, codes):
    """The bin of every value, into `codes`: a guess by arithmetic, mended against the edges, which decide."""
    n = edges.size - 1
    low = math.log10(edges[0]) if log else edges[0]
    span = (math.log10(edges[n]) if log else edges[n]) - low
    per = n / span if span > 0 else 0.0
    for r in range(first, last):
        v = values[r]
        if np.isnan(v):
            codes[r] = _MISSING
        elif log and v <= 0:
            codes[r] = _NOT_POSITIVE
        elif v < edges[0]:
            codes[r] = _BELOW
        elif v > edges[n] or v == np.inf:
            codes[r] = _ABOVE
        else:
            i = min(n - 1, max(0, int(((math.log10(v) if log else v) - low) * per)))
            while i > 0 and v < edges[i]:
                i -= 1
            while i < n - 1 and v >= edges[i + 1]:
                i += 1
            codes[r] = i


@_jit
def _counted(first, last, codes, words, n):
    """How many selected rows have each code 0 … n - 1; a code of -1 is counted as the last. `first`: 64 divides it."""
    counts = np.zeros((2, n), np.int64)  # two: a count that was just written is slow to read
    for w in range(first >> 6, (last + 63) >> 6):
        word = words[w]
        if word:
            for r in range(w << 6, min((w + 1) << 6, last)):
                counts[r & 1, codes[r]] += np.int64((word >> np.uint64(r & 63)) & np.uint64(1))
    return counts[0] + counts[1]


@_jit
def _narrow(first, last, values, low, high, words):
    """Leave of a selection those in low … high. `first`: 64 divides it."""
    for w in range(first >> 6, (last + 63) >> 6):
        if words[w]:
            found = np.uint64(0)
            for r in range(w << 6, min((w + 1) << 6, last)):
                found |= np.uint64(low <= values[r] <= high) << np.uint64(r & 63)
            words[w] &= found


@dataclass(frozen=True, slots=True)
class Source:
    """Where the columns come from: whose scores, mixed how (`Explore.values`), and which map's own columns."""

    run_id: str = ""
    lambda_: float = 0.2
    mode: Mode = "raw"
    map_id: str = ""

    def of(self, reference: str) -> Source:
        """What of this a column depends on; the rest is at its default, so that equal columns have equal sources."""
        is_score, is_mixed = reference.startswith("scores."), reference == "scores.anomaly_score"
        return Source(
            self.run_id if is_score else "",
            round(self.lambda_, 4) if is_mixed else 0.2,
            self.mode if is_mixed else "raw",
            self.map_id if reference.startswith("maps.") else "",
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """How a numeric column is cut into bins.

    Attributes
    ----------
    bins
        How many, 1 to 200. A column of whole numbers gets bins of whole width, and so fewer.
    log
        Bins of equal width in log10; values of 0 and below are in none, and counted apart.
    low, high
        First and last edge; None for the column's own least and highest finite value.
    """

    bins: int = 96
    log: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= MOST_BINS:
            raise UsageError(f"a histogram has 1 to {MOST_BINS} bins, not {self.bins:,}")
        for edge in (self.low, self.high):
            if edge is not None and not math.isfinite(edge):
                raise UsageError(f"the range of a histogram is finite, not {edge}")
            if edge is not None and self.log and edge <= 0:
                raise UsageError(f"a logarithmic histogram begins above 0, not at {edge:g}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise UsageError(f"the range of a histogram goes upwards, not from {self.low:g} to {self.high:g}")


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one set of subjects: how many in each bin, and how many in none.

    Attributes
    ----------
    bins
        int64, one a bin or a category; of categories the last is "other" where there are more than `MOST_CATEGORIES`.
    n
        All of the set, missing or not.
    below, above
        Outside the edges; infinite values are always here.
    not_positive
        0 and below, on a logarithmic scale; not in `below`.
    """

    bins: np.ndarray
    n: int
    missing: int
    below: int = 0
    above: int = 0
    not_positive: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A percentile of all finite values, linearly interpolated: `above` of `of` are higher than `value`."""

    percentile: float
    value: float
    above: int
    of: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """A column's counts.

    Attributes
    ----------
    edges
        float64, one more than bins, ascending; a bin has its left edge and not its right one, the last has both. Empty
        for categories, and for a column without any value that the scale can show.
    labels
        Names of the categories, commonest first; empty for numbers.
    full
        Of the whole survey.
    of
        Of each of the selections asked for.
    lines
        `PERCENTILES` of a numeric column.
    """

    reference: str
    edges: np.ndarray
    labels: list[str]
    full: Counts
    of: list[Counts]
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Gate:
    """A range of a numeric column, both ends within, or some of the categories of another.

    Bounds are compared in the column's own precision, so that 0.3 is the 0.3 of a column of single precision. A
    subject without a value is in no gate.
    """

    reference: str
    low: float = -math.inf
    high: float = math.inf
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cut:
    """A column cut into bins: what all of its histograms share."""

    codes: np.ndarray
    edges: np.ndarray
    labels: list[str]
    full: np.ndarray


class Histograms:
    """Counts and gates over the columns of one `Explore`. Thread-safe."""

    def __init__(self, explore: Explore) -> None:
        self.explore = explore
        self._cuts = Cache(24, KEPT_BYTES)
        self._lines = Cache(24)
        self._seen = Cache(4)

    # ---------------------------------------------------------------------------------------------------- counts
    def histogram(
        self,
        reference: str,
        scale: Scale | None = None,
        source: Source | None = None,
        of: Sequence[Selection] = (),
    ) -> Histogram:
        """Counts of a column: of every subject, and of each of some selections.

        Raises
        ------
        UsageError
            No such column, a column of text, or a score that cannot be mixed as asked.
        """
        source = (source or Source()).of(reference)
        key = (self.explore.survey.generation, reference, source)
        if self.explore.is_category(reference):
            cut = self._cuts.get(key, lambda: self._categories(reference))
            return Histogram(
                reference,
                cut.edges,
                cut.labels,
                _of_categories(cut.full),
                [_of_categories(_count(cut.codes, some.words, len(cut.full))) for some in of],
                [],
            )
        scale = scale or Scale()
        cut = self._cuts.get((*key, scale), lambda: self._numbers(reference, scale, source))
        n = max(0, len(cut.edges) - 1)
        return Histogram(
            reference,
            cut.edges,
            [],
            _of_numbers(cut.full, n),
            [_of_numbers(_count(cut.codes, some.words, 256), n) for some in of],
            self._lines.get(key, lambda: _lines(self._values(reference, source))),
        )

    def _values(self, reference: str, source: Source) -> np.ndarray:
        told = source.run_id, source.lambda_, source.mode, source.map_id
        values = self.explore.values(reference, *told)
        return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)

    def _numbers(self, reference: str, scale: Scale, source: Source) -> _Cut:
        values = self._values(reference, source)
        edges = edges_of(values, scale)
        # without edges nothing is in a bin: one pair beyond every value says so
        codes = np.empty(len(values), np.uint8)
        shared(_bins_of, len(values), values, edges if len(edges) else np.array([np.inf, np.inf]), scale.log, codes)
        return _Cut(codes, edges, [], _count(codes, _all(self.explore.survey.n).words, 256))

    def _categories(self, reference: str) -> _Cut:
        codes, labels = self.explore.survey.category(reference.partition(".")[2])
        counts = np.bincount(codes + 1, minlength=len(labels) + 1)[1:]
        order = np.argsort(-counts, kind="stable")
        shown, others = order[:MOST_CATEGORIES], order[MOST_CATEGORIES:]
        names = [labels[i] for i in shown]
        rank = np.empty(len(labels) + 1, np.int32)
        rank[shown] = np.arange(len(shown))
        if len(others):
            rank[others] = len(shown)
            names.append(f"{len(others):,} others")
        rank[-1] = len(names)
        ranked = rank[codes]
        return _Cut(ranked, np.empty(0), names, _count(ranked, _all(len(codes)).words, len(names) + 1))

    def seen(self, plane: Plane, view: View) -> Selection:
        """The subjects of a plane that are in a view of it.

        Raises
        ------
        UsageError
            The view is empty, or an axis is no numeric column.
        """
        x0, x1, y0, y1 = view
        if not (x0 < x1 and y0 < y1):
            raise UsageError("the view is empty: x0 < x1 and y0 < y1 are needed")
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        return self._seen.get(
            (self.explore.survey.generation, plane, view), lambda: self.explore.index(plane).inside(corners)
        )

    # ----------------------------------------------------------------------------------------------------- gates
    def within(
        self, reference: str, low: float = -math.inf, high: float = math.inf, source: Source | None = None
    ) -> Selection:
        """The subjects whose value is in low … high, both ends within.

        Raises
        ------
        UsageError
            No such numeric column, or a bound that is no number.
        """
        return self.gated([Gate(reference, low, high)], source)

    def gated(self, gates: Iterable[Gate], source: Source | None = None) -> Selection:
        """The subjects that are in every gate; all of them for no gate.

        Raises
        ------
        UsageError
            No such column, a label that it does not have, or a bound that is no number.
        """
        source = source or Source()
        words = _all(self.explore.survey.n).words.copy()
        for gate in gates:
            if self.explore.is_category(gate.reference):
                words &= self._among(gate).words
                continue
            if math.isnan(gate.low) or math.isnan(gate.high):
                raise UsageError(f"a bound of {gate.reference} is no number")
            values = self._values(gate.reference, source)
            with np.errstate(over="ignore"):  # beyond single precision is beyond every value
                ends = values.dtype.type(gate.low), values.dtype.type(gate.high)
                shared(_narrow, len(values), values, *ends, words)
        return Selection(words, self.explore.survey.n)

    def _among(self, gate: Gate) -> Selection:
        codes, labels = self.explore.survey.category(gate.reference.partition(".")[2])
        at = {label: code for code, label in enumerate(labels)}
        if unknown := [label for label in gate.labels if label not in at]:
            raise UsageError(f'{gate.reference} has no category "{unknown[0]}"')
        chosen = np.zeros(len(labels) + 1, np.bool_)
        chosen[[at[label] for label in gate.labels]] = True
        return Selection.of_rows(np.flatnonzero(chosen[codes]), self.explore.survey.n)


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first histogram waits for it."""
    everything = _all(2)
    for dtype in (np.float32, np.float64):
        for writeable in (True, False):  # another type to numba
            column = np.arange(2, dtype=dtype)
            column.flags.writeable = writeable
            _extent(0, 2, column)
            _narrow(0, 2, column, dtype(0), dtype(1), everything.words.copy())
            for log in (True, False):
                codes = np.zeros(2, np.uint8)
                _bins_of(0, 2, column, np.array([0.5, 1.0, 2.0]), log, codes)
                _count(codes, everything.words, 256)
    for kind in (np.int32, np.int64):
        _count(np.zeros(2, kind), everything.words, 3)


def edges_of(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Edges of the bins of a column: float64, ascending; empty where it has no value that the scale can show.

    Whole numbers on a linear scale over their own range are cut between them, a bin of the same count of numbers each.
    """
    parts = np.array(shared(_extent, len(values), values), np.float64)
    low, high, least, whole = (float(end(parts[:, i])) for i, end in enumerate((np.min, np.max, np.min, np.min)))
    if scale.log:
        low = least
    own = scale.low is None and scale.high is None
    low = low if scale.low is None else scale.low
    high = high if scale.high is None else scale.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return np.empty(0)
    if low > high:  # every value is outside the bound that was given
        low = high = high if scale.low is None else low
    if own and whole and not scale.log and high - low < 2**52:
        step = max(1, math.ceil((high - low + 1) / scale.bins))
        n = max(1, math.ceil((high - low + 1) / step))
        return low - 0.5 + step * np.arange(n + 1, dtype=np.float64)
    if low == high:
        margin = max(0.5, abs(low) / 10)
        low, high = (low / 1.1, high * 1.1) if scale.log else (low - margin, high + margin)
        low, high = low if scale.low is None else scale.low, high if scale.high is None else scale.high
    if scale.log:
        edges = np.logspace(math.log10(low), math.log10(high), scale.bins + 1)
    else:
        edges = np.linspace(low / 4, high / 4, scale.bins + 1) * 4  # the span of two doubles may be no double
    edges[0], edges[-1] = low, high
    return np.maximum.accumulate(edges)


def _all(n: int) -> Selection:
    return ~Selection.empty(n)


def _count(codes: np.ndarray, words: np.ndarray, n: int) -> np.ndarray:
    """See `_counted`."""
    found: np.ndarray = sum(shared(_counted, len(codes), codes, words, n), np.zeros(n, np.int64))
    return found


def _of_numbers(counts: np.ndarray, n: int) -> Counts:
    """Counts by code → by name; what is in no bin of `n`."""
    below, above, not_positive, missing = (int(c) for c in counts[_BELOW:])
    return Counts(counts[:n], int(counts.sum()), missing, below, above, not_positive)


def _of_categories(counts: np.ndarray) -> Counts:
    return Counts(counts[:-1], int(counts.sum()), int(counts[-1]))


def _lines(values: np.ndarray) -> list[Line]:
    """`PERCENTILES` of the finite values; [] where there is none."""
    if len(values) > LARGE and (lines := _lines_of_many(values)) is not None:
        return lines
    ordered = np.sort(values[np.isfinite(values)])
    n = len(ordered)
    found = []
    for percent in PERCENTILES if n else ():
        at = percent * (n - 1) / 100
        left, right = float(ordered[int(at)]), float(ordered[min(n - 1, int(at) + 1)])
        value = left + (right - left) * (at - int(at))
        found.append(Line(percent, value, n - int(np.searchsorted(ordered, value, side="right")), n))
    return found


def _lines_of_many(values: np.ndarray) -> list[Line] | None:
    """As `_lines`, without sorting; None where a value is infinite."""
    found = []
    for percent in PERCENTILES:
        value = percentile(values, percent)
        if value is None:
            return None
        if np.isnan(value):
            return []
        last = values.dtype.type(value)
        if float(last) <= value:
            last = np.nextafter(last, values.dtype.type(np.inf))
        n_up_to, n = below(values, float(last))
        found.append(Line(percent, value, n - n_up_to, n))
    return found
