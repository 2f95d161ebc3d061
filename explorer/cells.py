"""Subjects in cell order: who is where, and the picks, polygons and views that are read off it.

The only file that knows cell order. Points are sorted once by the cell of a G × G grid; a view, a pick or an outline
then touches only the cells it covers, so that its cost follows what is on screen and not the size of the survey. Every
kernel is compiled without the GIL: the server runs them on threads, and what takes long is shared among the cores.

An index on disk is a folder, opened without being read:

==================  ================================================================================================
index.json          version, n, n_rows, grid, bounds, and ``source``: what it was made of, so that it can be told stale
x.npy, y.npy        float32 (n,), cell order
rows.npy            uint32 (n,): the survey row of each
start.npy           int64 (G·G + 1,): the points of cell ``cy * G + cx`` are ``start[cell]`` to ``start[cell + 1]``
places.npy          uint32 (n_rows,), made when it is asked for: where each row of the survey is; 2³² - 1: nowhere
columns/NAME.npy    further columns in cell order, (n,)
==================  ================================================================================================
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numba import njit

from explorer.errors import VoorwerpError
from explorer.state import Selection
from models.artifacts import replacing, replacing_folder, write_json

#: x0, x1, y0, y1 in data coordinates
View = tuple[float, float, float, float]

#: Told how much of a long piece of work is done, 0–1.
Progress = Callable[[float], None]

VERSION = 1
INDEX_JSON = "index.json"
COLUMNS = "columns"
PLACES = "places"
ARRAYS = {"x": np.float32, "y": np.float32, "rows": np.uint32, "start": np.int64}

#: Points that are sorted together: a band of cell rows that fits the caches.
BANDS = 256
#: Points that a thread reads at once.
CHUNK = 1 << 18

_jit = njit(cache=True, nogil=True)
_fast = njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})


class NoIndexError(VoorwerpError):
    """There is no index in a folder, or it is damaged, or it was made of something else."""


def grid_of(n: int) -> int:
    """Cells to a side for n points: some tens of points a cell where they are dense, and half a pixel beyond 20 M."""
    return 64 if n < 50_000 else 256 if n <= 2_000_000 else 2048 if n <= 20_000_000 else 4096


# ----------------------------------------------------------------------------------------------- work on all cores
def n_threads() -> int:
    """Cores that this process may use, 8 at most."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def in_parallel(work: Callable[[Any], Any], pieces: Iterable[Any], threads: int | None = None) -> None:
    """Call ``work(piece)`` for every piece, on this thread and as many more as there are cores; raise what it raised.

    Threads and not numba's own: its layers bear one caller at a time, and a server has many.
    """
    pieces = list(pieces)
    waiting, lock = iter(pieces), threading.Lock()
    failed: list[BaseException] = []

    def run() -> None:
        while not failed:
            with lock:
                piece = next(waiting, waiting)
            if piece is waiting:
                return
            try:
                work(piece)
            except BaseException as error:
                failed.append(error)

    others = [threading.Thread(target=run, daemon=True) for _ in range(min(threads or n_threads(), len(pieces)) - 1)]
    for other in others:
        other.start()
    run()
    for other in others:
        other.join()
    if failed:
        raise failed[0]


def spans(n: int, size: int = CHUNK) -> list[tuple[int, int]]:
    """0 … n in pieces of `size`: (from, to)."""
    return [(low, min(n, low + size)) for low in range(0, n, size)]


# ------------------------------------------------------------------------------------------------- counting sort
@_jit
def _cell(x, y, x0, y0, per_x, per_y, grid):
    return (
        min(grid - 1, max(0, int((x - x0) * per_x))),
        min(grid - 1, max(0, int((y - y0) * per_y))),
    )


@_jit
def extent(x, y, out):
    # out: x0, x1, y0, y1 of the points that have both
    n = 0
    for i in range(x.size):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            out[0], out[1] = min(out[0], x[i]), max(out[1], x[i])
            out[2], out[3] = min(out[2], y[i]), max(out[3], y[i])
            n += 1
    return n


@_jit
def _tally(x, y, frame, grid, tall, counts):
    # how many points each band of `tall` rows of cells has
    x0, y0, per_x, per_y = frame
    for i in range(x.size):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            counts[_cell(x[i], y[i], x0, y0, per_x, per_y, grid)[1] // tall] += 1


@_jit
def _deal(x, y, first, frame, grid, tall, place, px, py, rows):
    # each point to its band, in the order of rows
    x0, y0, per_x, per_y = frame
    for i in range(x.size):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            band = _cell(x[i], y[i], x0, y0, per_x, per_y, grid)[1] // tall
            at = place[band]
            px[at], py[at], rows[at] = x[i], y[i], first + i
            place[band] = at + 1


@_jit
def _sort_band(px, py, rows, low, high, frame, grid, first_cell, start, sx, sy, sr):
    # the points low … high, all of the cells from first_cell on: `start` (cells + 1,) of these is filled, too
    x0, y0, per_x, per_y = frame
    start[:] = 0
    for i in range(low, high):
        cx, cy = _cell(px[i], py[i], x0, y0, per_x, per_y, grid)
        start[cy * grid + cx - first_cell + 1] += 1
        sx[i - low], sy[i - low], sr[i - low] = px[i], py[i], rows[i]
    start[0] = low
    for c in range(start.size - 1):
        start[c + 1] += start[c]
    place = start[:-1].copy()
    for i in range(high - low):
        cx, cy = _cell(sx[i], sy[i], x0, y0, per_x, per_y, grid)
        at = place[cy * grid + cx - first_cell]
        px[at], py[at], rows[at] = sx[i], sy[i], sr[i]
        place[cy * grid + cx - first_cell] = at + 1


def sort_band(
    px: np.ndarray,
    py: np.ndarray,
    rows: np.ndarray,
    span: tuple[int, int],
    frame: np.ndarray,
    grid: int,
    cy: int,
    tall: int,
) -> np.ndarray:
    """Put the points of a band of cells into cell order, in place; those of a cell keep their order.

    Parameters
    ----------
    px, py, rows
        float32, float32, uint32: the points, those of the band in ``span``.
    frame
        float64 (4,): x0, y0, and cells per unit of x and of y.
    cy, tall
        The band's first row of cells, and how many it has.

    Returns
    -------
    np.ndarray
        int64 (tall · grid + 1,): where the points of each cell start.
    """
    n = span[1] - span[0]
    start = np.empty(tall * grid + 1, np.int64)
    spare = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.uint32)
    _sort_band(px, py, rows, *span, frame, grid, cy * grid, start, *spare)
    return start


@_fast
def _gather(values, rows, out):
    for i in range(rows.size):
        out[i] = values[rows[i]]


@_jit
def _n_unsound(rows, n_rows, start):
    # what would lead a kernel out of its arrays
    n = 0
    for i in range(rows.size):
        n += rows[i] >= n_rows
    for c in range(start.size - 1):
        n += start[c] > start[c + 1]
    return n


def _singles(values: np.ndarray) -> np.ndarray:
    """A chunk as float32 of its own, whatever it was; what float32 cannot hold is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, np.float32)


class CellIndex:
    """The placed subjects of one map (or any two columns) in cell order; within a cell in the order of rows.

    It takes 12 bytes a point and 8 a cell, and while it is made 12 more for each point of the two or so fullest bands:
    beside x and y 1.6 GB at 100 M.

    Parameters
    ----------
    x, y
        float (N,), row order; a subject with a NaN is not placed.
    progress
        Told how much is done.

    Attributes
    ----------
    x, y
        float32 (n,), cell order.
    rows
        uint32 (n,): the survey row of each.
    start
        int64 (G · G + 1,): the points of cell ``cy * G + cx`` are ``start[cell]`` to ``start[cell + 1]``.
    grid
        G.
    n_rows
        N.
    bounds
        x0, x1, y0, y1 of all points, never empty; the grid covers them.
    per_x, per_y
        Cells to a unit of x and of y.
    folder
        Where it lies on disk, memory-mapped; None for one in memory.
    source
        What it was made of, as `write` was told.
    """

    folder: Path | None = None
    _about: tuple[int, int] = (0, 0)
    source: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, x: np.ndarray, y: np.ndarray, progress: Progress | None = None) -> None:
        self.n_rows = len(x)
        chunks = spans(len(x))
        ends = np.tile(np.array([np.inf, -np.inf, np.inf, -np.inf], np.float32), (len(chunks), 1))
        known = np.zeros(len(chunks), np.int64)

        def look(piece: int) -> None:
            low, high = chunks[piece]
            known[piece] = extent(_singles(x[low:high]), _singles(y[low:high]), ends[piece])

        in_parallel(look, range(len(chunks)))
        n = int(known.sum())
        found = ends[known > 0]
        self._lay_out(n, bounds(found[:, :2].ravel(), found[:, 2:].ravel()))
        bands = max(1, min(BANDS, self.grid, 1 << (n // 2048).bit_length()))
        tall = self.grid // bands
        # stretches of rows, one a thread: each has a place of its own in every band, so that rows keep their order
        stretches = np.array_split(np.arange(len(chunks)), min(n_threads(), max(1, len(chunks))))
        counts = np.zeros((len(stretches), bands), np.int64)

        def tally(stretch: int) -> None:
            for piece in stretches[stretch]:
                low, high = chunks[piece]
                of_frame = self._frame, self.grid, tall
                _tally(_singles(x[low:high]), _singles(y[low:high]), *of_frame, counts[stretch])

        in_parallel(tally, range(len(stretches)))
        edges = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
        place = edges[:-1] + np.cumsum(counts, axis=0) - counts
        self.x, self.y, self.rows = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.uint32)
        done = iter(range(1, len(chunks) + 1))

        def deal(stretch: int) -> None:
            for piece in stretches[stretch]:
                low, high = chunks[piece]
                told = low, self._frame, self.grid, tall, place[stretch]
                _deal(_singles(x[low:high]), _singles(y[low:high]), *told, self.x, self.y, self.rows)
                if progress:
                    progress(0.5 * next(done) / len(chunks))

        in_parallel(deal, range(len(stretches)))
        self.start = np.empty(self.grid * self.grid + 1, np.int64)
        sorted_bands = iter(range(1, bands + 1))

        def sort(band: int) -> None:
            span = int(edges[band]), int(edges[band + 1])
            start = sort_band(self.x, self.y, self.rows, span, self._frame, self.grid, band * tall, tall)
            self.start[band * tall * self.grid : (band + 1) * tall * self.grid] = start[:-1]
            if progress:
                progress(0.5 + 0.5 * next(sorted_bands) / bands)

        in_parallel(sort, range(bands))
        self.start[-1] = n

    def _lay_out(self, n: int, bounds: View) -> None:
        """The grid over the bounds of n points."""
        self.grid, self.bounds = grid_of(n), bounds
        x0, x1, y0, y1 = bounds
        self.per_x, self.per_y = self.grid / (x1 - x0), self.grid / (y1 - y0)

    @property
    def _frame(self) -> np.ndarray:
        return np.array([self.bounds[0], self.bounds[2], self.per_x, self.per_y])

    def __len__(self) -> int:
        return int(self.rows.size)

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """A column in cell order: (N,) in row order → (n,) of the same type."""
        if len(values) != self.n_rows:
            raise ValueError(f"{len(values):,} values are not those of {self.n_rows:,} rows")
        values = np.asarray(values)
        out = np.empty(len(self), values.dtype)
        is_compiled = values.dtype in (np.float32, np.float64, np.uint8) and values.flags.c_contiguous

        def gather(span: tuple[int, int]) -> None:
            low, high = span
            if is_compiled:
                _gather(values, self.rows[low:high], out[low:high])
            else:
                np.take(values, self.rows[low:high], out=out[low:high], mode="clip")

        in_parallel(gather, spans(len(self)), None if len(self) > CHUNK else 1)
        return out

    # ------------------------------------------------------------------------------------------------- on disk
    def write(self, folder: Path, source: Mapping[str, Any] | None = None) -> None:
        """Write the index as a folder (see above), whole or not at all; one that is there is replaced.

        Who has the old one open keeps it until they let go of it.

        Raises
        ------
        OSError
            It cannot be written there.
        """
        with writing_index(folder) as made:
            for name, dtype in ARRAYS.items():
                _write_plain(made / f"{name}.npy", np.asarray(getattr(self, name), dtype))
            write_about(made, len(self), self.n_rows, self.grid, self.bounds, source)

    @classmethod
    def open(cls, folder: Path, source: Mapping[str, Any] | None = None, n_rows: int | None = None) -> CellIndex:
        """The index in a folder, memory-mapped: nobody's memory grows by it but the system's cache of files.

        Parameters
        ----------
        source
            What it must, among other things, have been made of; None for whatever it was.
        n_rows
            Rows of the survey by now, where some may have been added at the end since.

        Raises
        ------
        NoIndexError
            There is none, it is damaged, or it was made of something else.
        """
        index = cls.__new__(cls)
        try:
            index._about = _identity(folder)
            about = json.loads((folder / INDEX_JSON).read_text())
            version, n, n_then, grid = (int(about[name]) for name in ("version", "n", "n_rows", "grid"))
            x0, x1, y0, y1 = (float(v) for v in about["bounds"])
            made_of = dict(about["source"])
            arrays = {name: mapped(folder / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoIndexError(f"there is no index that can be read in {folder}: {error}") from None
        if version != VERSION:
            raise NoIndexError(f"the index in {folder} is of version {version}, not {VERSION}")
        if any(made_of.get(name) != value for name, value in (source or {}).items()):
            raise NoIndexError(f"the index in {folder} was made of something else")
        index.n_rows = n_then if n_rows is None else n_rows
        if index.n_rows < n_then:
            raise NoIndexError(f"the index in {folder} is of {n_then:,} rows, and there are {index.n_rows:,}")
        index.__dict__ |= arrays
        sizes = {"x": n, "y": n, "rows": n, "start": grid * grid + 1}
        if any(arrays[name].shape != (size,) for name, size in sizes.items()) or not (grid > 0 and x0 < x1 and y0 < y1):
            raise NoIndexError(f"the index in {folder} is damaged: its parts do not fit together")
        index.grid, index.bounds, index.folder, index.source = grid, (x0, x1, y0, y1), folder, made_of
        index.per_x, index.per_y = grid / (x1 - x0), grid / (y1 - y0)
        index._check(n)
        if not index.is_at_hand:
            raise NoIndexError(f"another index took the place of the one in {folder} while it was opened")
        return index

    @property
    def is_at_hand(self) -> bool:
        """Whether what lies in its folder is still this index: of another one the columns are in another order."""
        try:
            return self.folder is not None and _identity(self.folder) == self._about
        except OSError:
            return False

    def _check(self, n: int) -> None:
        """Raise NoIndexError where the arrays would lead a kernel astray."""
        pieces = spans(max(n, self.start.size), 1 << 22)
        unsound = np.zeros(len(pieces), np.int64)

        def look(piece: int) -> None:
            low, high = pieces[piece]
            unsound[piece] = _n_unsound(self.rows[low:high], self.n_rows, self.start[low : high + 1])

        in_parallel(look, range(len(pieces)))
        if unsound.any() or self.start[0] != 0 or self.start[-1] != n:
            raise NoIndexError(f"the index in {self.folder} is damaged: it names rows or points that there are not")

    def read_column(self, name: str, dtype: Any = np.float32) -> np.ndarray | None:
        """A column that lies beside the index, (n,) in cell order and memory-mapped; None where there is none."""
        if self.folder is None or not self.is_at_hand:
            return None
        try:
            found = mapped(self.folder / COLUMNS / f"{name}.npy", dtype)
        except (OSError, ValueError):
            return None
        return found if found.shape == (len(self),) else None

    def write_column(self, name: str, values: np.ndarray) -> None:
        """Put a column (n,), in cell order, beside the index; whole or not at all.

        Raises
        ------
        OSError
            It cannot be written, or another index has taken the folder.
        """
        assert self.folder is not None and len(values) == len(self)
        if not self.is_at_hand:
            raise FileNotFoundError(f"the index is not in {self.folder} any more")
        folder = self.folder / COLUMNS
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{name}.npy") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)

    # --------------------------------------------------------------------------------------------------- views
    def box(self, view: View) -> tuple[int, int, int, int]:
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

        Distance is measured in units of the reach, that is in pixels when the reach is so many pixels. Of those that
        are as near it is the first row.
        """
        if not (reach_x > 0 and reach_y > 0):
            return None
        box = self.box((x - reach_x, x + reach_x, y - reach_y, y + reach_y))
        found = _nearest(
            self.x, self.y, self.rows, self.start, self.grid, *box, self._frame, *map(float, (x, y, reach_x, reach_y))
        )
        return int(self.rows[found]) if found >= 0 else None

    def inside(self, polygon: np.ndarray) -> Selection:
        """The subjects inside a closed polygon by the even-odd rule, exactly.

        Parameters
        ----------
        polygon
            float (k, 2) vertices in data coordinates, k ≥ 3; the last joins the first.
        """
        polygon = np.ascontiguousarray(polygon, np.float64)
        if len(polygon) < 3 or not len(self) or not np.isfinite(polygon).all():
            return Selection.empty(self.n_rows)
        (x0, y0), (x1, y1) = polygon.min(axis=0), polygon.max(axis=0)
        return self._selected(_inside, (x0, x1, y0, y1), polygon)

    def near_path(self, path: np.ndarray, reach_x: float, reach_y: float) -> Selection:
        """The subjects that a brush touches: within the ellipse of half-axes `reach_x`, `reach_y` of a drawn line.

        Parameters
        ----------
        path
            float (k, 2) in data coordinates, k ≥ 1; one point is a dab.
        """
        path = np.ascontiguousarray(path, np.float64)
        if not (len(path) and reach_x > 0 and reach_y > 0 and len(self) and np.isfinite(path).all()):
            return Selection.empty(self.n_rows)
        (x0, y0), (x1, y1) = path.min(axis=0), path.max(axis=0)
        touched = (x0 - reach_x, x1 + reach_x, y0 - reach_y, y1 + reach_y)
        return self._selected(_near, touched, path, float(reach_x), float(reach_y))

    def _selected(self, kernel: Callable[..., None], view: View, *shape: Any) -> Selection:
        """What a kernel selects in a view, row of cells by row of cells; on all cores where that is much."""
        _, _, cy0, cy1 = self.box(view)
        ends = self.start[cy0 * self.grid : (cy1 + 1) * self.grid + 1 : self.grid]
        n = int(ends[-1] - ends[0]) if cy1 >= cy0 else 0
        # as many points in each piece; a piece is of whole rows of cells
        wanted = 1 + 8 * n // (1 << 20)
        at = np.unique(np.searchsorted(ends, ends[0] + np.arange(wanted + 1) * n // wanted)) if n else np.zeros(0, int)
        at[-1:] = len(ends) - 1
        pieces = iter(list(pairwise((cy0 + at).tolist())))
        found = [np.zeros(Selection.n_words(self.n_rows), np.uint64) for _ in range(n_threads() if wanted > 1 else 1)]
        lock = threading.Lock()

        def work(words: np.ndarray) -> None:  # its own, for bits that share a word would be lost
            while True:
                with lock:
                    piece = next(pieces, None)
                if piece is None:
                    return
                kernel(self.x, self.y, self.rows, self.start, self.grid, *piece, self._frame, *shape, words)

        in_parallel(work, found)
        for other in found[1:]:
            found[0] |= other
        return Selection(found[0], self.n_rows)

    @cached_property
    def _place(self) -> np.ndarray:
        """Where each row of the survey is in cell order; beside an index on disk once it was asked for."""
        if self.folder is None or not self.is_at_hand:
            return _places(self.rows, self.n_rows)
        file = self.folder / f"{PLACES}.npy"
        for _ in range(2):
            with contextlib.suppress(OSError, ValueError):
                found = mapped(file, np.uint32)
                if found.size == self.n_rows:
                    return found
            made = _places(self.rows, self.n_rows)
            try:
                with replacing(file) as handle:
                    np.lib.format.write_array(handle, made, allow_pickle=False)
            except OSError:
                return made
        return made

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the survey stand: float32 (m, 2), NaN for those that are not placed."""
        place = self._place[np.asarray(rows, np.int64)]
        found = np.full((len(place), 2), np.nan, np.float32)
        placed = place < len(self)
        found[placed, 0], found[placed, 1] = self.x[place[placed]], self.y[place[placed]]
        return found


# ------------------------------------------------------------------------------------------------------ on disk
@contextlib.contextmanager
def writing_index(folder: Path) -> Iterator[Path]:
    """A temporary folder for an index; on a clean exit it takes the place of whatever is at `folder`."""
    with replacing_folder(folder) as made:
        yield made
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".old"))
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old / "index")
    shutil.rmtree(old, ignore_errors=True)


def write_about(
    folder: Path, n: int, n_rows: int, grid: int, bounds: View, source: Mapping[str, Any] | None = None
) -> None:
    """Write ``index.json``, the last file of an index."""
    about = {"version": VERSION, "n": n, "n_rows": n_rows, "grid": grid, "bounds": bounds, "source": source or {}}
    write_json(folder / INDEX_JSON, about)


def _identity(folder: Path) -> tuple[int, int]:
    """What tells the index in a folder from one that takes its place."""
    found = (folder / INDEX_JSON).stat()
    return found.st_ino, found.st_mtime_ns


def _write_plain(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, values, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def mapped(path: Path, dtype: Any) -> np.ndarray:
    """A one-dimensional array on disk, memory-mapped.

    It is mapped as a copy of one's own that nobody writes to: a kernel takes it for the type that it was compiled for.

    Raises
    ------
    OSError, ValueError
        There is none, or it is no such array.
    """
    try:
        found = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except EOFError as error:
        raise ValueError(f"{path.name} is cut off") from error
    if found.dtype != dtype or found.ndim != 1:
        raise ValueError(f"{path.name} is {found.dtype} {found.shape}, not {np.dtype(dtype)} (n,)")
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
        axes = [_singles(values) for values in (x, y, z)]
        self.rows = np.flatnonzero(np.isfinite(axes[0]) & np.isfinite(axes[1]) & np.isfinite(axes[2])).astype(np.uint32)
        np.random.default_rng(0).shuffle(self.rows)
        n = len(self.rows)
        self.points = np.empty((3, n), np.float32)
        chunks = spans(n)
        ends, farthest = np.zeros((3, 2, len(chunks))), np.zeros(len(chunks))

        def take(piece: int) -> None:
            low, high = chunks[piece]
            for axis in range(3):
                out = self.points[axis, low:high]
                _gather(axes[axis], self.rows[low:high], out)
                ends[axis, :, piece] = out.min(), out.max()

        in_parallel(take, range(len(chunks)))
        least, most = (ends[:, 0].min(axis=1), ends[:, 1].max(axis=1)) if n else (np.zeros(3), np.zeros(3))
        middle, half = (least + most) / 2, np.where(most > least, (most - least) / 2, 1.0)

        def scale(piece: int) -> None:
            low, high = chunks[piece]
            self.points[:, low:high] = (self.points[:, low:high] - middle[:, None]) / half[:, None]
            farthest[piece] = np.sqrt((self.points[:, low:high] ** 2).sum(axis=0)).max()

        in_parallel(scale, range(len(chunks)))
        some = np.sqrt((self.points[:, :CHUNK] ** 2).sum(axis=0))  # of a shuffled order
        self.radius = float(farthest.max(initial=0.0)) or 1.0
        self.reach = float(np.quantile(some, 0.9)) if n else self.radius
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
        index = CellIndex(whole.x, whole.y)
        index.rows, index.n_rows = whole.rows[index.rows], self.n_rows
        return index

    def inside(self, polygon: np.ndarray) -> Selection:
        return self._sorted.inside(polygon)

    def near_path(self, path: np.ndarray, reach_x: float, reach_y: float) -> Selection:
        return self._sorted.near_path(path, reach_x, reach_y)


def _places(rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Place of each row of the survey among `rows`, uint32 (n_rows,); the largest number for those that have none."""
    place = np.full(n_rows, np.iinfo(np.uint32).max, np.uint32)

    def note(span: tuple[int, int]) -> None:
        _note(rows, span[0], span[1], place)

    in_parallel(note, spans(rows.size))
    return place


@_jit
def _note(rows, low, high, place):
    for i in range(low, high):
        place[rows[i]] = i


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
    # half a unit is nothing to a number of twenty digits
    pad_x, pad_y = (0.0 if high > low else max(0.5, abs(low) * 1e-9) for low, high in ((x0, x1), (y0, y1)))
    return x0 - pad_x, x1 + pad_x, y0 - pad_y, y1 + pad_y


@_jit
def _clamped(v, last):
    return math.floor(max(-1.0, min(last + 1.0, v)))


@_jit
def _nearest(px, py, rows, start, grid, cx0, cx1, cy0, cy1, frame, x, y, reach_x, reach_y):
    x0, y0, per_x, per_y = frame
    best, found = 1.0, -1
    middle_x = max(cx0, min(cx1, _clamped((x - x0) * per_x, grid)))
    middle_y = max(cy0, min(cy1, _clamped((y - y0) * per_y, grid)))
    # its own cell first, then the rows of cells from there on: what is found early spares the rest
    for step in range(-1, 2 * (cy1 - cy0) + 1 if cy1 >= cy0 else -1):
        c0 = c1 = middle_x
        cy = middle_y
        if step >= 0:
            cy += -(step // 2) if step % 2 == 0 else step // 2 + 1
            if cy < cy0 or cy > cy1:
                continue
            # a cell's own float rounding may place a point a hair outside its cell
            dy = max(0.0, y0 + (cy - 0.01) / per_y - y, y - y0 - (cy + 1.01) / per_y) / reach_y
            left = best - dy * dy
            if left < 0:
                continue
            half = math.sqrt(left) * reach_x
            c0 = max(cx0, _clamped((x - half - x0) * per_x - 0.01, grid))
            c1 = min(cx1, _clamped((x + half - x0) * per_x + 0.01, grid))
            if c0 > c1:
                continue
        for i in range(start[cy * grid + c0], start[cy * grid + c1 + 1]):
            dx, dy = (px[i] - x) / reach_x, (py[i] - y) / reach_y
            d = dx * dx + dy * dy
            if d < best or (d == best and (found < 0 or rows[i] < rows[found])):
                best, found = d, i
    return found


@_jit
def _select(rows, low, high, words):
    one = np.uint64(1)
    for i in range(low, high):
        words[rows[i] >> 6] |= one << np.uint64(rows[i] & 63)


@_jit
def _from_stroke(x, y, ax, ay, ux, uy, length, reach_x, reach_y):
    # squared distance of a point from a segment, in units of the reach: there the brush is a circle
    dx, dy = (x - ax) / reach_x, (y - ay) / reach_y
    t = max(0.0, min(1.0, (dx * ux + dy * uy) / length)) if length > 0 else 0.0
    dx, dy = dx - t * ux, dy - t * uy
    return dx * dx + dy * dy


@_jit
def _near(px, py, rows, start, grid, cy0, cy1, frame, path, reach_x, reach_y, words):
    x0, y0, per_x, per_y = frame
    one = np.uint64(1)
    k = len(path)
    is_whole = np.empty(grid, np.bool_)
    strokes, first, last = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    for cy in range(cy0, cy1):
        if start[cy * grid] == start[(cy + 1) * grid]:
            continue
        # a cell's own float rounding may place a point a hair outside its cell: widen the band
        low, high = y0 + (cy - 0.01) / per_y, y0 + (cy + 1.01) / per_y
        n = 0
        is_whole[:] = False
        for e in range(k):
            ax, ay = path[max(0, e - 1), 0], path[max(0, e - 1), 1]
            bx, by = path[e, 0], path[e, 1]
            if max(ay, by) < low - reach_y or min(ay, by) > high + reach_y:
                continue
            # the part of the segment that is near enough to the band
            sx0, sx1 = ax, bx
            if by != ay:
                t0, t1 = (low - reach_y - ay) / (by - ay), (high + reach_y - ay) / (by - ay)
                t0, t1 = max(0.0, min(t0, t1) - 1e-9), min(1.0, max(t0, t1) + 1e-9)
                sx0, sx1 = ax + t0 * (bx - ax), ax + t1 * (bx - ax)
            c0 = max(0, _clamped((min(sx0, sx1) - reach_x - x0) * per_x - 0.01, grid))
            c1 = min(grid - 1, _clamped((max(sx0, sx1) + reach_x - x0) * per_x + 0.01, grid))
            if c0 > c1:
                continue
            strokes[n], first[n], last[n] = e, c0, c1
            n += 1
            # a cell whose corners are all touched is touched all over, for what a stroke touches is convex
            ux, uy = (bx - ax) / reach_x, (by - ay) / reach_y
            length = ux * ux + uy * uy
            for cx in range(c0, c1 + 1):
                cell = cy * grid + cx
                if is_whole[cx] or start[cell + 1] - start[cell] < 8:
                    continue
                left, right = x0 + (cx - 0.01) / per_x, x0 + (cx + 1.01) / per_x
                if (
                    _from_stroke(left, low, ax, ay, ux, uy, length, reach_x, reach_y) < 0.999
                    and _from_stroke(right, low, ax, ay, ux, uy, length, reach_x, reach_y) < 0.999
                    and _from_stroke(left, high, ax, ay, ux, uy, length, reach_x, reach_y) < 0.999
                    and _from_stroke(right, high, ax, ay, ux, uy, length, reach_x, reach_y) < 0.999
                ):
                    is_whole[cx] = True
                    _select(rows, start[cell], start[cell + 1], words)
        for j in range(n):
            e = strokes[j]
            ax, ay = path[max(0, e - 1), 0], path[max(0, e - 1), 1]
            ux, uy = (path[e, 0] - ax) / reach_x, (path[e, 1] - ay) / reach_y
            length = ux * ux + uy * uy
            for cx in range(first[j], last[j] + 1):
                if is_whole[cx]:
                    continue
                for i in range(start[cy * grid + cx], start[cy * grid + cx + 1]):
                    bit = one << np.uint64(rows[i] & 63)
                    if words[rows[i] >> 6] & bit:  # strokes overlap
                        continue
                    if _from_stroke(px[i], py[i], ax, ay, ux, uy, length, reach_x, reach_y) <= 1:
                        words[rows[i] >> 6] |= bit


@_jit
def _crosses(x, y, ax, ay, bx, by):
    return (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax


@_jit
def _inside(px, py, rows, start, grid, cy0, cy1, frame, polygon, words):
    x0, y0, per_x, per_y = frame
    k = len(polygon)
    one = np.uint64(1)
    edges, near = np.empty(k, np.int64), np.empty(k, np.int64)
    first, last, spans = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.bool_)
    boundary = np.empty(grid, np.bool_)
    for cy in range(cy0, cy1):
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
            hair = 1e-15 * (abs(ax) + abs(bx))  # what far vertices cost in digits
            if by != ay:
                t0, t1 = (low - ay) / (by - ay), (high - ay) / (by - ay)
                t0, t1 = max(0.0, min(t0, t1)), min(1.0, max(t0, t1))
                sx0, sx1 = ax + t0 * (bx - ax), ax + t1 * (bx - ax)
                lost = 1e-15 * (abs(ay) + abs(by) + abs(low) + abs(high)) / abs(by - ay)
                hair += abs(bx - ax) * min(1.0, lost)
            c0 = _clamped((min(sx0, sx1) - hair - x0) * per_x - 0.01, grid)
            c1 = _clamped((max(sx0, sx1) + hair - x0) * per_x + 0.01, grid)
            for c in range(max(0, c0), min(grid - 1, c1) + 1):
                boundary[c] = True
            edges[n], first[n], last[n], spans[n] = e, c0, c1, min(ay, by) <= low and max(ay, by) > high
            n += 1
        if n == 0:
            continue
        cx = 0
        while cx < grid:
            cell = cy * grid + cx
            if boundary[cx]:
                # an edge to the left counts for none of the cell's points; one to the right and through the whole band
                # for all; the others are asked point by point
                n_near, is_odd = 0, False
                if start[cell] < start[cell + 1]:
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
                cx += 1
                continue
            # as far as there is no edge, all are inside or none
            after = cx + 1
            while after < grid and not boundary[after]:
                after += 1
            if start[cell] < start[cy * grid + after]:
                center = x0 + (cx + 0.5) / per_x
                odd = False
                for j in range(n):
                    a, b = polygon[edges[j]], polygon[(edges[j] + 1) % k]
                    if _crosses(center, middle, a[0], a[1], b[0], b[1]):
                        odd = not odd
                if odd:
                    _select(rows, start[cell], start[cy * grid + after], words)
            cx = after


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first map waits for it."""
    index = CellIndex(np.arange(4.0), np.arange(4.0))
    fixed = np.arange(4, dtype=np.float32)
    fixed.flags.writeable = False  # another type to a kernel: that of what was read from a table
    CellIndex(fixed, fixed)
    for dtype in (np.float32, np.float64, np.uint8):
        values = np.zeros(4, dtype)
        index.sorted(values)
        values.flags.writeable = False
        index.sorted(values)
    index._check(4)
    index.at(np.zeros(1, np.int64))
    index.inside(np.array([[0.0, 0.0], [2.5, 0.0], [2.5, 2.5], [0.0, 2.5]]))
    index.nearest(1.0, 1.0, 0.5, 0.5)
    index.near_path(np.zeros((2, 2)), 1.0, 1.0)
    Cloud(np.arange(4.0), np.arange(4.0), np.arange(4.0)).turned(0.1, 0.2, 2)
