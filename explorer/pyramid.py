"""What stands for the points of a view where there are too many: sums of each cell, halved again and again.

A level has cells twice as wide as the level below it; level 0 are the cells of the index. A frame takes the level whose
cells are three quarters of a pixel at most, so that what it costs follows the pixels. All of it is kept with the index
that it is of, within a number of bytes, under what it was made of: a new selection makes its own, a new λ shares the
counts. Making one costs as much as a frame of all points: it is made on a thread of its own when it is asked for a
second time, and until it is there the points are drawn, or, of a very large map, an even sample of them. So λ is
dragged without it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer import pixels
from explorer.caches import Cache
from explorer.cells import CellIndex, Cloud, Turned, in_parallel, mapped, spans
from explorer.pixels import read_only
from explorer.state import Selection

#: Bytes of one index's levels that are kept at most; what was made last is kept, however large.
KEPT_BYTES = 800_000_000

#: What may be kept on disk of the values in each cell, and of what type.
KEPT = {"max": np.float32, "sum": np.float64, "squares": np.float64, "known": np.uint32}

#: Points of the even sample that stands for those of a larger index.
THINNED = 2_000_000

#: Rows of cells that a thread sums at once.
_STRIPE = 64

_kept: weakref.WeakKeyDictionary[CellIndex | Cloud, Cache] = weakref.WeakKeyDictionary()
_asked: weakref.WeakKeyDictionary[CellIndex, Cache] = weakref.WeakKeyDictionary()

NO_WORDS = read_only(np.zeros(1, np.uint64))
NO_COLUMN = read_only(np.zeros(0, np.float32))


#: Makes what was asked for twice, one after the other.
_maker = ThreadPoolExecutor(1, "pyramid")


def _get(index: CellIndex, key: Hashable, make: Callable[[], Any]) -> Any:
    holder = index.cloud if isinstance(index, Turned) else index
    return _kept.setdefault(holder, Cache(64, KEPT_BYTES)).get(key, make)


def when_there(index: CellIndex, key: Hashable, make: Callable[[], Any]) -> Any:
    """What ``make()`` returned, once it has been made; None until then. Asked for a second time, it is being made.

    Parameters
    ----------
    key
        Of all that goes into it; what `make` returns is kept by itself.
    """
    asked = _asked.setdefault(index, Cache(256))
    state = asked.kept(key)
    if isinstance(state, Future):
        return make() if state.done() and state.exception() is None else None

    def run() -> None:
        make()

    asked.put(key, True if state is None else _maker.submit(run))
    return None


def bits(index: CellIndex, selection: Selection) -> np.ndarray:
    """A selection in the order of the points: bit i % 64 of word i // 64 is point i's, uint64."""

    def make() -> np.ndarray:
        rows = index.cloud.rows if isinstance(index, Turned) else index.rows
        rows, words = read_only(rows), read_only(selection.words)
        out = np.zeros(max(1, -(-len(rows) // 64)), np.uint64)
        in_parallel(lambda span: pixels.bits_in_order(words, rows, *span, out), spans(len(rows) // 64 + 1, 1 << 14))
        return read_only(out)

    found: np.ndarray = _get(index, ("bits", selection.id), make)
    return found


class Column:
    """A column of an index in cell order, or two that are mixed: (1 - weight) · values + weight · other.

    Parameters
    ----------
    values, other
        float32 (n,); `other` is None for a column by itself.
    center
        Near its middle: of sums of what is far from 0 little would be left.
    key
        What tells the values, and the other ones, from those of any other column; None for none like it.
    beside
        Its file beside the index, less ``.npy``: what is kept of each cell may lie there, too (see `KEPT`).
    less
        What was taken off the values, of which single precision would not hold enough.
    """

    def __init__(
        self,
        values: np.ndarray,
        other: np.ndarray | None = None,
        weight: float = 0.0,
        center: float = 0.0,
        key: Hashable = None,
        beside: Path | None = None,
        less: float = 0.0,
    ) -> None:
        self.values = read_only(values)
        self.other = NO_COLUMN if other is None else read_only(other)
        self.weight, self.center, self.less = float(weight), float(center), less
        self._beside = None if self.other.size else beside
        self.key = (object() if key is None else key, self.weight)

    @property
    def args(self) -> tuple[np.ndarray, np.ndarray, float]:
        """What a kernel takes."""
        return self.values, self.other, self.weight

    def kept(self, index: CellIndex, selection: Selection | None, *what: str) -> list[np.ndarray] | None:
        """What is kept on disk of the values in each cell, (g · g,) each; None where they are to be looked at."""
        if self._beside is None or selection is not None or not index.is_at_hand:
            return None
        try:
            found = [mapped(self._beside.with_name(f"{self._beside.name}.{name}.npy"), KEPT[name]) for name in what]
        except (OSError, ValueError):
            return None
        return found if all(of_cells.size == index.grid**2 for of_cells in found) else None


@dataclass(frozen=True, slots=True)
class Thinned:
    """An even sample of an index, every `step`-th point in cell order.

    Attributes
    ----------
    points
        Their own index; its `rows` are the survey's.
    places
        int64 (m,): where each stands in the whole.
    step
        How many points each stands for.
    """

    points: CellIndex
    places: np.ndarray
    step: int

    def column(self, index: CellIndex, column: Column) -> Column:
        """A column of the whole, of the sample; its values are read once, whatever λ mixes them by."""

        def make() -> tuple[np.ndarray, np.ndarray | None]:
            return column.values[self.places], column.other[self.places] if column.other.size else None

        values, other = _get(index, ("thinned", column.key[0]), make)
        return Column(values, other, column.weight, column.center, ("thinned", column.key[0]), less=column.less)

    def codes(self, index: CellIndex, codes: np.ndarray, key: Hashable) -> np.ndarray:
        """Categories of the whole, of the sample."""
        found: np.ndarray = _get(index, ("thinned", key), lambda: codes[self.places])
        return found


def thinned(index: CellIndex) -> Thinned:
    """An even sample of `THINNED` points of an index, or all of them."""

    def make() -> Thinned:
        step = max(1, len(index) // THINNED)
        points = CellIndex(np.ascontiguousarray(index.x[::step]), np.ascontiguousarray(index.y[::step]))
        places = np.arange(0, len(index), step)[points.rows]
        points.rows, points.n_rows = index.rows[places], index.n_rows
        return Thinned(points, places, step)

    found: Thinned = _get(index, "thinned", make)
    return found


def level_of(index: CellIndex, sx: float, sy: float) -> int:
    """The level whose cells are three quarters of a pixel at most; 0 where even the smallest are wider."""
    widest = max(sx / index.per_x, sy / index.per_y)
    return max(0, min(int(math.log2(index.grid)), math.floor(math.log2(0.75 / widest)))) if widest > 0 else 0


def cell_pixels(index: CellIndex, sx: float, sy: float) -> float:
    """The side of the index's own cells in pixels."""
    return math.sqrt(sx / index.per_x * sy / index.per_y)


def _words(index: CellIndex, selection: Selection | None) -> tuple[np.ndarray, int, int]:
    """Bits in cell order, how they are read, and layers."""
    return (NO_WORDS, 0, 1) if selection is None else (bits(index, selection), 2, 2)


def _stripes(rows: int) -> list[tuple[int, int]]:
    return spans(rows, _STRIPE)


def _halved(
    index: CellIndex, key: tuple[object, ...], level: int, make: Callable[[], np.ndarray], halve: Any
) -> np.ndarray:
    """A level of (…, layers, g, g): made of the points at 0, of the level below above."""

    def smaller() -> np.ndarray:
        fine = _halved(index, key, level - 1, make, halve)
        side = fine.shape[-1] // 2
        out = np.empty((*fine.shape[:-2], side, side), fine.dtype)
        thick, thin = fine.reshape(-1, 2 * side, 2 * side), out.reshape(-1, side, side)
        in_parallel(lambda stripe: halve(thick, *stripe, thin), _stripes(side))
        return read_only(out)

    found: np.ndarray = _get(index, (*key, level), make if level == 0 else smaller)
    return found


def counts(index: CellIndex, selection: Selection | None, level: int) -> np.ndarray:
    """Subjects of each cell: float32 (layers, g, g)."""

    def make() -> np.ndarray:
        words, how, layers = _words(index, selection)
        out = np.empty((layers, index.grid, index.grid), np.float32)
        start = read_only(index.start)
        in_parallel(lambda s: pixels.cells_counted(start, words, how, index.grid, *s, out), _stripes(index.grid))
        return read_only(out)

    return _halved(index, ("counts", selection and selection.id), level, make, pixels.halve_sums)


def highest(index: CellIndex, column: Column, selection: Selection | None, level: int) -> np.ndarray:
    """Highest value of each cell: float32 (layers, g, g); `pixels.NOTHING`, `pixels.UNKNOWN` where there is none."""

    def make() -> np.ndarray:
        if (kept := column.kept(index, selection, "known", "max")) is not None:
            known, most = kept
            without = np.where(np.diff(index.start) > 0, pixels.UNKNOWN, pixels.NOTHING)
            return read_only(np.where(known > 0, most, without).reshape(1, index.grid, index.grid))
        words, how, layers = _words(index, selection)
        out = np.empty((layers, index.grid, index.grid), np.float32)
        start = read_only(index.start)
        in_parallel(
            lambda s: pixels.cells_highest(start, words, how, index.grid, *s, *column.args, out), _stripes(index.grid)
        )
        return read_only(out)

    key = "highest", column.key, selection and selection.id
    return _halved(index, key, level, make, pixels.halve_highest)


def sums(index: CellIndex, column: Column, powers: int, selection: Selection | None, level: int) -> np.ndarray:
    """How many of each cell have a value, the sum of value - center, and (`powers` 3) of its square.

    float32 (powers, layers, g, g).
    """

    def make() -> np.ndarray:
        if (kept := column.kept(index, selection, "known", "sum", "squares")) is not None:
            known, total, squares = kept
            c, shape = column.center, (powers, 1, index.grid, index.grid)
            whole = known, total - c * known, squares - 2 * c * total + c * c * known
            return read_only(np.stack(whole[:powers]).astype(np.float32).reshape(shape))
        words, how, layers = _words(index, selection)
        out = np.empty((powers, layers, index.grid, index.grid), np.float32)
        start, args = read_only(index.start), (*column.args, column.center)
        in_parallel(lambda s: pixels.cells_summed(start, words, how, index.grid, *s, *args, out), _stripes(index.grid))
        return read_only(out)

    key = "sums", column.key, column.center, powers, selection and selection.id
    return _halved(index, key, level, make, pixels.halve_sums)


def heaviest(
    index: CellIndex, codes: np.ndarray, key: Hashable, kinds: int, selection: Selection | None
) -> tuple[np.ndarray, np.ndarray]:
    """Commonest category of each cell, uint8 (layers, g, g), `pixels.NO_VALUE` for none, and how many, uint32."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        words, how, layers = _words(index, selection)
        category = np.empty((layers, index.grid, index.grid), np.uint8)
        number = np.empty(category.shape, np.uint32)
        start, given = read_only(index.start), read_only(codes)
        in_parallel(
            lambda s: pixels.cells_heaviest(start, words, how, index.grid, *s, given, kinds, category, number),
            _stripes(index.grid),
        )
        return read_only(category), read_only(number)

    found: tuple[np.ndarray, np.ndarray] = _get(index, ("heaviest", key, selection and selection.id), make)
    return found
