"""Orders of columns: a page of an order without the order, and the order of a hundred million numbers in seconds.

Floats are compared as unsigned integers (`_key`): a radix sort makes an order and needs no particular processor. What
is missing comes last either way, ties go by row. Passes over long columns are shared out to `THREADS` threads; kernels
run without the GIL.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numba import njit

from explorer.caches import Cache
from explorer.state import Selection

T = TypeVar("T")

_jit = njit(cache=True, nogil=True)
_BITS = 11
_BUCKETS = 1 << _BITS

#: Threads of one pass over a column; shorter columns are done by the one that asks.
THREADS = max(1, min(4, os.cpu_count() or 1))
LONG = 1 << 19
#: Bits of the digit that long columns are dealt by.
_DIGIT = 16
#: Rows of the sample that says where a page lies, at least and at most.
_LEAST_SAMPLE, _MOST_SAMPLE = 1 << 14, 1 << 18
#: So few rows are sorted at once.
_FEW = 1 << 17
#: Rows of an order that running counts are kept of.
_BLOCK = 1 << 16
#: A background sort begins when nobody has asked for another for so long, s.
_SETTLED = 0.3
#: Bytes of whole orders that are kept.
KEPT_BYTES = 900 << 20

_NOTHING = np.empty(0, np.uint64)
_NOTHING.flags.writeable = False  # as a selection's words: to numba that is a type


def argsort(values: np.ndarray, *, descending: bool = False) -> np.ndarray:
    """The rows of a column in order: NaN last either way, ties by row.

    Parameters
    ----------
    values
        Real numbers (N,), N < 2³²; float32 and float64 as they are, others as float64. -0.0 equals 0.0.

    Returns
    -------
    order
        uint32 (N,).

    Raises
    ------
    ValueError
        Not one column.
    """
    bits, sign, infinity = _bits(values)
    if len(bits) < LONG or THREADS == 1:
        rows = np.arange(len(bits), dtype=np.uint32)
        _sort_part(_keys(bits, sign, infinity, descending), rows, 0, len(rows))
        return rows
    return _sorted_by_many(bits, sign, infinity, descending)


def page(
    values: np.ndarray, start: int, count: int, *, descending: bool = False, within: Selection | None = None
) -> np.ndarray:
    """Places `start` … `start + count` - 1 of the order of a column, or of some of its rows: uint32, fewer at the end.

    A sample says between which values the page lies, one pass finds who is there, and only these are sorted. Exact; a
    sample that misleads costs a whole sort.

    Parameters
    ----------
    values
        As for `argsort`.
    within
        The rows that are ordered; None for all.
    """
    values = np.asarray(values)
    bits, sign, infinity = _bits(values)
    n, words = len(bits), _NOTHING if within is None else within.words
    total = n if within is None else within.count
    stop = min(start + count, total)
    if start < 0 or start >= stop:
        return np.empty(0, np.uint32)
    told = bits, sign, infinity, descending, words
    sample = min(_MOST_SAMPLE, max(_LEAST_SAMPLE, n // 256))
    low, high = _ends(start, stop, total, sample, *told)
    cap = 4 * (stop - start) + 16 * (total // sample + 1) * int(sample**0.5)
    parts = shared(_bracket, n, *told, low, high, cap)
    below, n_low, n_high = (sum(int(counts[i]) for counts, _ in parts) for i in range(3))
    inner = np.concatenate([rows for _, rows in parts])
    if not (below <= start and stop <= below + n_low + len(inner) + n_high) or len(inner) > cap:
        order = argsort(values, descending=descending)
        return (order if within is None else narrowed(order, within))[start:stop]
    inner = inner[argsort(values[inner], descending=descending)]
    found, at = [], below  # those of the lowest value by row, those between by value, those of the highest by row
    for k, rows in ((n_low, low), (len(inner), inner), (n_high, high)):
        first, last = max(start, at) - at, min(stop, at + k) - at
        if first < last:
            found.append(rows[first:last] if rows is inner else _equal(*told, rows, first, last - first))
        at += k
    return np.concatenate(found)


def _ends(start: int, stop: int, total: int, sample: int, *told: Any) -> tuple[Any, Any]:
    """Two keys that places start … stop - 1 are most probably between, by an even sample of the rows."""
    bits, words = told[0], told[4]
    rows = np.arange(0, len(bits), max(1, total // sample))
    if len(words):
        rows = rows[(words[rows >> 6] >> (rows & 63).astype(np.uint64)) & np.uint64(1) == 1]
    keys = np.sort(_keys(bits[rows], *told[1:4]))
    m, ends = len(keys), []
    for at, way in ((start / total, -1), (stop / total, 1)):
        place = int(m * at + way * (5 * (m * at * (1 - at)) ** 0.5 + 8))
        ends.append(int(keys[place]) if 0 <= place < m else (0 if way < 0 else (1 << 8 * bits.itemsize) - 1))
    return bits.dtype.type(ends[0]), bits.dtype.type(ends[1])


def place(values: np.ndarray, row: int, *, descending: bool = False, within: Selection | None = None) -> int:
    """The place of a row in the order of a column, or of some of its rows: how many come before it. One pass."""
    bits, sign, infinity = _bits(values)
    words = _NOTHING if within is None else within.words
    return int(_added(_before, len(bits), bits, sign, infinity, descending, words, row))


def below(values: np.ndarray, value: float) -> tuple[int, int]:
    """How many finite values of a column are below a finite one, and how many there are: one pass.

    Parameters
    ----------
    values
        float32 or float64 (N,).
    """
    counts = _added(_below, len(values), values, values.dtype.type(value))
    return int(counts[0]), int(counts[1])


def percentile(values: np.ndarray, percent: float) -> float | None:
    """A percentile of the finite values of a long column, between two of them by their distance, without sorting.

    NaN where nothing is finite, None where a value is infinite.

    Parameters
    ----------
    values
        float32 or float64 (N,).
    """
    n = below(values, np.inf)[1]
    if not n:
        return float("nan")
    at = percent * (n - 1) / 100
    ends = values[np.concatenate([page(values, 0, 1), page(values, n - 1, 1), page(values, int(at), 2)])]
    if not np.isfinite(ends[:3]).all():
        return None
    left, right = float(ends[2]), float(ends[-1]) if np.isfinite(ends[-1]) else float(ends[2])
    return left + (right - left) * (at - int(at))


def mixed(image: np.ndarray, feature: np.ndarray, weight: float) -> np.ndarray:
    """(1 - `weight`) `image` + `weight` `feature`, float32 (N,), to the bit as `models.mixing.mix` of raw scores."""
    found = np.empty(len(image), np.float32)
    w = np.float32(weight)
    shared(_mix, len(image), image, feature, np.float32(1) - w, w, found)
    return found


def narrowed(order: np.ndarray, within: Selection) -> np.ndarray:
    """The rows of an order (uint32) that are in a selection, in their order."""
    found = np.empty(min(within.count, len(order)), np.uint32)
    return found[: _narrowed(order, within.words, found)]


def rows_at(within: Selection, start: int, count: int) -> np.ndarray:
    """Rows `start` … of a selection in row order: uint32, fewer at the end; what is skipped is counted by words."""
    found = np.empty(max(0, min(count, within.count - start)), np.uint32)
    if len(found):
        _set_bits(within.words, start, found)
    return found


class Orders:
    """Orders of the columns of `n` rows, kept for many sessions. Thread-safe.

    A column is named by a key of all that it depends on, and read only where the answer is not there. A page of a
    column that has no order yet is found without one, which is then made in the background.
    """

    def __init__(self, n: int, nbytes: int = KEPT_BYTES) -> None:
        self.n = n
        self._whole = Cache(8, nbytes)
        self._some = Cache(24, nbytes // 4)
        self._scans = Cache(64, nbytes // 16)
        self._background = Background()

    def whole(self, key: Hashable, values: Callable[[], np.ndarray], descending: bool) -> np.ndarray:
        """Every row in the order of a column: uint32 (n,)."""
        return self._whole.get((key, descending), lambda: argsort(values(), descending=descending))

    def put(self, key: Hashable, descending: bool, order: np.ndarray) -> np.ndarray:
        """Keep an order that was made in another way, as of texts."""
        self._whole.put((key, descending), order)
        return order

    def is_whole(self, key: Hashable, descending: bool) -> bool:
        """Whether the whole order of a column is there."""
        return self._whole.kept((key, descending)) is not None

    def of(
        self, key: Hashable, values: Callable[[], np.ndarray], descending: bool, within: Selection | None
    ) -> np.ndarray:
        """The rows of a selection, or all, in the order of a column: uint32."""
        if within is None:
            return self.whole(key, values, descending)

        def make() -> np.ndarray:
            if not self.is_whole(key, descending) and within.count < self.n // 4:
                rows = rows_at(within, 0, within.count)
                order: np.ndarray = argsort(np.asarray(values())[rows], descending=descending)
                return np.asarray(rows[order])
            return narrowed(self.whole(key, values, descending), within)

        found: np.ndarray = self._some.get((key, descending, within.id), make)
        return found

    def page(
        self,
        key: Hashable,
        values: Callable[[], np.ndarray],
        descending: bool,
        within: Selection | None,
        start: int,
        count: int,
    ) -> np.ndarray:
        """Places `start` … of the order of a selection, or of all rows: uint32, fewer at the end."""
        if (whole := self._whole.kept((key, descending))) is not None:
            if within is None:
                return np.asarray(whole[start : start + count])
            scan: Scan = self._scans.get((key, descending, within.id), partial(Scan, whole, within))
            return scan.page(start, count)
        if (of := self._some.kept((key, descending, None if within is None else within.id))) is not None:
            return np.asarray(of[start : start + count])
        if (self.n if within is None else within.count) <= _FEW:
            return self.of(key, values, descending, within)[start : start + count]
        column = values()
        self.prepare(key, lambda: column, descending)
        return page(column, start, count, descending=descending, within=within)

    def n_below(self, key: Hashable, values: np.ndarray, value: float, n: int) -> int | None:
        """How many of the `n` finite values of a column are below a finite one, by its whole order; None without it."""
        for descending in (False, True):
            order = self._whole.kept((key, descending))
            if order is not None and np.isfinite(values[order[[0, n - 1]]] if n else values[:0]).all():
                wanted = values.dtype.type(value)
                if descending:
                    return n - bisect_right(range(n), -wanted, key=lambda at: -values[order[at]])
                return bisect_left(range(n), wanted, key=lambda at: values[order[at]])
        return None

    def prepare(self, key: Hashable, values: Callable[[], np.ndarray], descending: bool) -> None:
        """Make the whole order of a column in the background, unless somebody wants that of another meanwhile."""
        self._background.settle((key, descending), lambda: self.whole(key, values, descending))

    def wait(self) -> None:
        """Wait until what is asked for in the background is there: for tests and benchmarks."""
        self._background.wait()


class Background:
    """One thread for what takes seconds and nobody waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: set[Hashable] = set()
        self._settling: Hashable = None
        self._newer = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sorting")

    def ask(self, key: Hashable, make: Callable[[], object]) -> None:
        """Have it made, unless it is asked for already."""
        with self._lock:
            if key in self._asked:
                return
            self._asked.add(key)

        def run() -> None:
            try:
                make()
            finally:
                with self._lock:
                    self._asked.discard(key)

        self._thread.submit(run)

    def settle(self, key: Hashable, make: Callable[[], object]) -> None:
        """Have it made, unless something else is to be settled within `_SETTLED` s, as while λ is dragged."""
        with self._lock:
            if self._settling == key:
                return
            self._settling = key
            self._newer.set()
            self._newer = newer = threading.Event()

        def run() -> None:
            if newer.wait(_SETTLED):
                return
            try:
                make()
            finally:
                with self._lock:
                    if self._settling == key:
                        self._settling = None  # it may be dropped, and asked for again

        self._thread.submit(run)

    def wait(self) -> None:
        """Wait until all is made."""
        self._thread.submit(lambda: None).result()


class Scan:
    """The rows of a selection in a whole order, found by looking along it; how many lie in each part is kept."""

    def __init__(self, order: np.ndarray, within: Selection) -> None:
        self._order, self._within = order, within
        self._sums = [0]
        self._lock = threading.Lock()

    def page(self, start: int, count: int) -> np.ndarray:
        """Places `start` … of them: uint32, fewer at the end."""
        found = np.empty(max(0, min(count, self._within.count - start)), np.uint32)
        if not len(found):
            return found
        words, order = self._within.words, self._order
        with self._lock:
            while self._sums[-1] <= start:
                at = _BLOCK * (len(self._sums) - 1)
                self._sums.append(self._sums[-1] + int(_n_within(order[at : at + _BLOCK], words)))
            block = int(np.searchsorted(self._sums, start, side="right")) - 1
            skip = start - self._sums[block]
        _along(order, words, block * _BLOCK, skip, found)
        return found


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first sort waits for it."""
    some = ~Selection.empty(2)
    for dtype in (np.float32, np.float64):
        for writeable in (True, False):  # another type to numba
            column = np.zeros(2, dtype)
            column.flags.writeable = writeable
            argsort(column)
            below(column, 0.0)
            bits, sign, infinity = _bits(column)
            _sorted_by_many(bits, sign, infinity, False)
            told = bits, sign, infinity, False, some.words
            _bracket(0, 2, *told, bits[0], bits[0], 0)
            _before(0, 2, *told, 0)
            _equal(*told, bits[0], 0, 1)
    for a in (True, False):
        for b in (True, False):
            image, feature = np.zeros(2, np.float32), np.zeros(2, np.float32)
            image.flags.writeable, feature.flags.writeable = a, b
            mixed(image, feature, 0.5)
    for writeable in (True, False):
        order = np.arange(2, dtype=np.uint32)
        order.flags.writeable = writeable
        narrowed(order, some)
        Scan(order, some).page(0, 1)
    rows_at(some, 0, 2)


# ------------------------------------------------------------------------------------------------------------- threads
@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="columns")


def _parts(n: int) -> list[tuple[int, int]]:
    """0 … n in parts for the threads: each but the last a multiple of 64 long, so that parts share no word of bits."""
    parts = THREADS if n >= LONG else 1
    edges = [n * i // parts // 64 * 64 for i in range(parts)] + [n]
    return [(a, b) for a, b in pairwise(edges) if a < b] or [(0, n)]


def shared(kernel: Callable[..., T], n: int, *told: Any) -> list[T]:
    """``kernel(first, last, *told)`` of every part of n rows, in the order of the parts."""
    parts = _parts(n)
    if len(parts) == 1:
        return [kernel(*parts[0], *told)]
    asked: list[Future[T]] = [_pool().submit(kernel, *part, *told) for part in parts]
    return [one.result() for one in asked]


def _added(kernel: Callable[..., Any], n: int, *told: Any) -> Any:
    return sum(shared(kernel, n, *told))


# --------------------------------------------------------------------------------------------------------------- keys
def _bits(values: np.ndarray) -> tuple[np.ndarray, np.unsignedinteger, np.unsignedinteger]:
    """A column's bits, and which of them are its sign and those of infinity."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"one column is sorted, not an array of shape {values.shape}")
    if values.dtype == np.float32:
        return np.ascontiguousarray(values).view(np.uint32), np.uint32(1 << 31), np.uint32(0x7F800000)
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    return bits, np.uint64(1 << 63), np.uint64(0x7FF0000000000000)


@_jit
def _key(b: np.unsignedinteger, sign: np.unsignedinteger, infinity: np.unsignedinteger, descending: bool) -> Any:
    """An unsigned integer in the order of the float of these bits, NaN last; `sign`, `infinity`: bits of theirs."""
    kind = type(sign)  # numba widens what it computes to 64 bits, ~ among it
    size = kind(b & ~sign)
    b = kind(0) if size == 0 else b
    key = kind(~b) if b & sign else kind(b | sign)
    key = kind(~key) if descending else key
    return kind(sign | ~sign) if size > infinity else key


@_jit
def _keys(bits: np.ndarray, sign: np.unsignedinteger, infinity: np.unsignedinteger, descending: bool) -> np.ndarray:
    keys = np.empty_like(bits)
    for i in range(len(bits)):
        keys[i] = _key(bits[i], sign, infinity, descending)
    return keys


@_jit
def _counts(keys: np.ndarray) -> np.ndarray:
    """How often each value of each digit stands in the keys: uint32 (digits, buckets), all in one pass."""
    n_digits = (8 * keys.itemsize + _BITS - 1) // _BITS
    counts = np.zeros((n_digits, _BUCKETS), np.uint32)
    for i in range(len(keys)):
        key = np.uint64(keys[i])
        for digit in range(n_digits):
            counts[digit, (key >> np.uint64(_BITS * digit)) & np.uint64(_BUCKETS - 1)] += 1
    return counts


# ------------------------------------------------------------------------------------------------------ long columns
def _sorted_by_many(
    bits: np.ndarray, sign: np.unsignedinteger, infinity: np.unsignedinteger, descending: bool
) -> np.ndarray:
    """`argsort` of a long column: dealt by the first digit into parts that fit the processor's cache."""
    n, told = len(bits), (bits, sign, infinity, descending)
    parts = _parts(n)
    counts = np.stack(shared(_firsts, n, *told))
    sums = np.cumsum(counts.sum(axis=0))
    # a digit's part by where its rows begin: as many parts as hold 2¹⁸ rows each, 256 at most for the processor's sake
    n_parts = int(min(256, max(1, n >> 18)))
    part_of = np.minimum(n_parts - 1, (sums - counts.sum(axis=0)) * n_parts // n).astype(np.uint8)
    per_part = np.zeros((len(parts), n_parts), np.int64)
    for i, found in enumerate(counts):
        per_part[i] = np.bincount(part_of, found, minlength=n_parts)
    edges = np.concatenate([[0], np.cumsum(per_part.sum(axis=0))])
    starts = edges[:-1] + np.cumsum(per_part, axis=0) - per_part
    keys, rows = np.empty_like(bits), np.empty(n, np.uint32)
    asked: list[Future[Any]] = [
        _pool().submit(_deal, *part, *told, part_of, start, keys, rows)
        for part, start in zip(parts, starts, strict=True)
    ]
    for one in asked:
        one.result()
    largest_first = np.argsort(-np.diff(edges), kind="stable")
    asked = [_pool().submit(_sort_part, keys, rows, edges[i], edges[i + 1]) for i in largest_first]
    for one in asked:
        one.result()
    return rows


@_jit
def _firsts(first, last, bits, sign, infinity, descending):
    """How often each first digit stands in the keys: int64 (digits,)."""
    counts = np.zeros((2, 1 << _DIGIT), np.int64)  # two: a count that was just written is slow to read
    shift = np.uint64(8 * bits.itemsize - _DIGIT)
    for i in range(first, last):
        counts[i & 1, np.uint64(_key(bits[i], sign, infinity, descending)) >> shift] += 1
    return counts[0] + counts[1]


@_jit
def _deal(first, last, bits, sign, infinity, descending, part_of, starts, keys, rows):
    """Put rows first … last - 1 and their keys where their part begins; `starts` (parts,) is moved on."""
    shift = np.uint64(8 * bits.itemsize - _DIGIT)
    for i in range(first, last):
        key = _key(bits[i], sign, infinity, descending)
        part = part_of[np.uint64(key) >> shift]
        to = starts[part]
        starts[part] = to + 1
        keys[to] = key
        rows[to] = i


@_jit
def _sort_part(keys, rows, first, last):
    """Sort a part of keys, and its rows with them, lowest digit first; digits that are one in all are passed over."""
    n = last - first
    a, b = keys[first:last], np.empty(n, keys.dtype)
    rows_a, rows_b = rows[first:last], np.empty(n, np.uint32)
    counts = _counts(a)
    starts = np.empty(_BUCKETS, np.int64)
    is_swapped = False
    for digit in range(len(counts)):
        if counts[digit].max() == n:
            continue
        at = 0
        for bucket in range(_BUCKETS):
            starts[bucket] = at
            at += int(counts[digit, bucket])
        shift = np.uint64(_BITS * digit)
        for i in range(n):
            mine = np.int64((np.uint64(a[i]) >> shift) & np.uint64(_BUCKETS - 1))
            to = starts[mine]
            starts[mine] = to + 1
            b[to] = a[i]
            rows_b[to] = rows_a[i]
        a, b = b, a
        rows_a, rows_b = rows_b, rows_a
        is_swapped = not is_swapped
    if is_swapped:
        rows[first:last] = rows_a


# --------------------------------------------------------------------------------------------------------------- pages
@_jit
def _bracket(first, last, bits, sign, infinity, descending, words, low, high, cap):
    """Rows whose keys are below `low`, `low` itself and `high` itself, counted; and those between, uint32, ascending.

    `first` is a multiple of 64. More than `cap` of those between are not looked for.
    """
    found = np.empty(1024, np.uint32)
    counts = np.zeros(3, np.int64)
    n, below, at_low, at_high = 0, np.int64(0), 0, 0
    everyone = ~np.uint64(0)
    for block in range(first, last, 64):
        word = words[block >> 6] if words.size else everyone
        if not word:
            continue
        end, near = min(block + 64, last), np.uint64(0)
        for i in range(block, end):  # without a branch: this loop is all that most rows cost
            key = _key(bits[i], sign, infinity, descending)
            bit = (word >> np.uint64(i - block)) & np.uint64(1)
            below += np.int64(bit & np.uint64(key < low))
            near += bit & np.uint64(low <= key <= high)
        if not near:
            continue
        for i in range(block, end):
            key = _key(bits[i], sign, infinity, descending)
            if low <= key <= high and (word >> np.uint64(i - block)) & np.uint64(1):
                if key == low:
                    at_low += 1
                elif key == high:
                    at_high += 1
                else:
                    if n == found.size:
                        more = np.empty(2 * n, np.uint32)
                        more[:n] = found
                        found = more
                    found[n] = i
                    n += 1
        if n > cap:
            break
    counts[0], counts[1], counts[2] = below, at_low, at_high
    return counts, found[:n].copy()


@_jit
def _equal(bits, sign, infinity, descending, words, value, skip, count):
    """Rows of one key, from the one after `skip` of them on, `count` at most: uint32, ascending."""
    found = np.empty(count, np.uint32)
    n = 0
    for i in range(bits.size):
        if n == count:
            break
        if words.size and not (words[i >> 6] >> np.uint64(i & 63)) & np.uint64(1):
            continue
        if _key(bits[i], sign, infinity, descending) == value:
            if skip > 0:
                skip -= 1
            else:
                found[n] = i
                n += 1
    return found[:n].copy()


@_jit
def _before(first, last, bits, sign, infinity, descending, words, row):
    mine = _key(bits[row], sign, infinity, descending)
    n = 0
    for i in range(first, last):
        if words.size and not (words[i >> 6] >> np.uint64(i & 63)) & np.uint64(1):
            continue
        key = _key(bits[i], sign, infinity, descending)
        n += (key < mine) | ((key == mine) & (i < row))
    return n


@_jit
def _below(first, last, values, value):
    counts = np.zeros(2, np.int64)
    n, known = 0, 0
    for i in range(first, last):
        v = values[i]
        is_known = np.isfinite(v)
        n += is_known & (v < value)
        known += is_known
    counts[0], counts[1] = n, known
    return counts


@_jit
def _mix(first, last, image, feature, of_image, of_feature, found):
    for i in range(first, last):
        found[i] = of_image * image[i] + of_feature * feature[i]


# ------------------------------------------------------------------------------------------------ bits of a selection
@_jit
def _narrowed(order, words, found):
    n = 0
    for row in order:
        if (words[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
            found[n] = row
            n += 1
    return n


@_jit
def _n_within(order, words):
    n = np.uint64(0)
    for row in order:
        n += (words[row >> 6] >> np.uint64(row & 63)) & np.uint64(1)
    return n


@_jit
def _along(order, words, first, skip, found):
    """Fill `found` with the selected rows of an order from place `first` on, but the first `skip` of them."""
    n = 0
    for i in range(first, order.size):
        row = order[i]
        if (words[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
            if skip > 0:
                skip -= 1
            else:
                found[n] = row
                n += 1
                if n == found.size:
                    return


@_jit
def _popcount(word):
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_jit
def _set_bits(words, skip, found):
    """Fill `found` with the rows of set bits, but the first `skip` of them."""
    n = 0
    for w in range(words.size):
        word = words[w]
        if not word:
            continue
        here = _popcount(word)
        if skip >= here:
            skip -= here
            continue
        for bit in range(64):
            if (word >> np.uint64(bit)) & np.uint64(1):
                if skip > 0:
                    skip -= 1
                else:
                    found[n] = (w << 6) + bit
                    n += 1
                    if n == found.size:
                        return
