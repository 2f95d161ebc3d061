"""Indexes of maps made shard by shard, out of core: on this machine's threads, its processes, or a team's cluster.

What `explorer.cells.CellIndex` makes in memory, this makes of any number of rows in a few hundred MB a worker; the
files are the same, byte for byte. Three rounds, each in parts that any worker can do, and do again::

    look    each shard of the source: how many have a place, and where the farthest are
    deal    each shard: its points by rows of cells, and how many each row of cells has
    sort    each band of rows of cells: those of all shards, one after the other, into cell order; straight into the
            place in the finished files that the counts of all shards give them

Start offsets add, points of a cell follow one another shard by shard, and what is kept of each cell of a column (its
highest, sum, …) adds or is the highest: two finished indexes over the same grid are merged by the last round alone.
Parts are told by numbers; what they need beside is in the plan, a file that all of them see.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from explorer.cells import (
    ARRAYS,
    COLUMNS,
    CellIndex,
    Progress,
    View,
    bounds,
    extent,
    grid_of,
    mapped,
    sort_band,
    write_about,
)
from explorer.cells import writing_index as replacing_index
from explorer.errors import SurveyError, UsageError, VoorwerpError
from explorer.kinds import Kind
from explorer.pyramid import KEPT
from explorer.services.indices import Indices, file_name
from explorer.survey import Survey
from models.artifacts import COORDINATES, COORDINATES_SCHEMA, SCORES, Pool, Workspace, write_json

#: Bytes that all workers together may take for their parts, beside what Python and its packages take.
MEMORY = 2 << 30
#: Bytes that a row of a part takes at most, without further columns, and for each of these.
OF_ROW, OF_COLUMN = 56, 12
#: Strips of the map whose points lie in files of their own until they are sorted: then their space is free again.
STRIPS = 64
#: Lines whose subjects are compared at once.
LINES = 1 << 22

PLAN = "plan.json"
PREFIX = ".index.shards."

_jit = njit(cache=True, nogil=True)


# --------------------------------------------------------------------------------------------------------- sources
@dataclass(frozen=True, slots=True)
class Column:
    """Where a column's numbers lie.

    Attributes
    ----------
    path
        A one-dimensional ``.npy``, or a Parquet file.
    name
        The column in a Parquet file.
    is_by_row
        Whether its places are rows of the survey, and not lines of the source.
    """

    path: str
    name: str = ""
    is_by_row: bool = False

    def read(self, first: int, last: int, rows: np.ndarray | None = None) -> np.ndarray:
        """float32: its values on the lines first … last, which are these `rows` (None: the lines themselves).

        Raises
        ------
        SurveyError
            It is shorter than that, or cannot be read.
        """
        if self.name:
            return _read_lines(Path(self.path), self.name, first, last)
        values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        if len(values) < (last if not self.is_by_row or rows is None else int(rows.max(initial=0)) + 1):
            raise SurveyError(f"{self.path} has only {len(values):,} values")
        return np.array(values[first:last] if not self.is_by_row or rows is None else values[rows], np.float32)


@dataclass(frozen=True, slots=True)
class Source:
    """What an index is made of, a line a point; written into the plan.

    Attributes
    ----------
    n
        Lines.
    n_rows
        Rows of the survey.
    x, y
        Coordinates; a line that lacks one is not placed.
    columns
        Further columns, to lie in cell order beside the index: name → where they are.
    rows
        ``.npy`` of uint32 (n,): the row of the survey of each line; None where line i is row i.
    made_of
        What the index is to say it was made of (`CellIndex.open`).
    """

    n: int
    n_rows: int
    x: Column
    y: Column
    columns: Mapping[str, Column] = field(default_factory=dict)
    rows: str | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_arrays(cls, folder: Path, columns: Sequence[str] = ()) -> Source:
        """Of a folder with ``x.npy``, ``y.npy`` and ``NAME.npy`` in row order."""
        n = len(np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False))
        named = {name: Column(str(folder / f"{name}.npy")) for name in ("x", "y", *columns)}
        return cls(n, n, named.pop("x"), named.pop("y"), named)

    @classmethod
    def of_map(
        cls,
        survey: Survey,
        map_id: str,
        scratch: Path,
        columns: Mapping[str, tuple[str, str]] | None = None,
        made_of: Mapping[str, Any] | None = None,
    ) -> Source:
        """Of a finished map and columns of score runs.

        Parameters
        ----------
        scratch
            A folder for what must be put into the order of rows first. Where map and scores have the survey's own
            order, as those that Voorwerp made do, that is nothing.
        columns
            Name beside the index → run and column of its scores.

        Raises
        ------
        SurveyError
            A file is missing or damaged, or it has subjects that are not in the survey.
        """
        path = survey.map_folder(map_id) / COORDINATES
        rows: str | None = _rows_in_order(survey, path, scratch / "rows.npy")
        x, y = (Column(str(path.absolute()), name) for name in COORDINATES_SCHEMA.names[1:3])
        found = dict[str, Column]()
        for name, (run_id, column) in (columns or {}).items():
            scores = survey.run_folder(run_id) / SCORES
            found[name] = _column_of(survey, path, scores, column, scratch / f"{len(found)}.npy")
        return cls(_n_lines(path), survey.n, x, y, found, rows, dict(made_of or {}))

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Source:
        """From the plan."""
        columns = {name: Column(**column) for name, column in told["columns"].items()}
        return cls(**{**told, "x": Column(**told["x"]), "y": Column(**told["y"]), "columns": columns})

    def rows_of(self, first: int, last: int) -> np.ndarray:
        """The rows of the survey on lines first … last, uint32."""
        if self.rows is None:
            return np.arange(first, last, dtype=np.uint32)
        return np.array(np.load(self.rows, mmap_mode="r", allow_pickle=False)[first:last], np.uint32)


def _n_lines(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except FileNotFoundError:
        raise SurveyError(f"{path} is missing; the run is incomplete") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SurveyError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _groups(path: Path) -> Iterator[tuple[int, int, int]]:
    """Row groups of a Parquet file: number, first line, last line."""
    about, first = pq.read_metadata(path), 0
    for number in range(about.num_row_groups):
        last = first + about.row_group(number).num_rows
        yield number, first, last
        first = last


def _read_lines(path: Path, name: str, first: int, last: int, dtype: Any = np.float32) -> np.ndarray:
    """Lines first … last of a column of a Parquet file."""
    out = np.empty(last - first, dtype)
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for number, low, high in _groups(path):
                if high <= first or low >= last:
                    continue
                kind = pa.from_numpy_dtype(dtype)
                column = file.read_row_group(number, [name], use_threads=False).column(0).cast(kind, safe=False)
                begin, end = max(first, low), min(last, high)
                out[begin - first : end - first] = column.slice(begin - low, end - begin).to_numpy()
    except (pa.ArrowInvalid, KeyError, OSError, ValueError) as error:
        raise SurveyError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None
    return out


def _ids(path: Path) -> Iterator[tuple[int, int, np.ndarray]]:
    """The subjects of a table, some million lines at a time: first line, last line, int64."""
    n = _n_lines(path)
    for first in range(0, n, LINES):
        last = min(n, first + LINES)
        yield first, last, _read_lines(path, "subject_id", first, last, np.int64)


def _rows_in_order(survey: Survey, path: Path, to: Path) -> str | None:
    """The survey's row of each line of a table, as npy of uint32; None where they are 0, 1, 2 …"""
    rows = np.lib.format.open_memmap(to, "w+", np.uint32, (_n_lines(path),))
    is_plain = True
    for first, last, ids in _ids(path):
        found = survey.rows_of(ids)
        if stray := int((found < 0).sum()):
            raise SurveyError(f"{path} has {stray:,} subjects that are not in the survey")
        is_plain = is_plain and np.array_equal(found, np.arange(first, last))
        rows[first:last] = found
    rows.flush()
    del rows
    if not is_plain:
        return str(to.absolute())
    to.unlink()
    return None


def _column_of(survey: Survey, lines: Path, path: Path, name: str, to: Path) -> Column:
    """A column of a run's scores: where it lies if that is in the order of `lines`, else a copy in that of rows."""
    n = _n_lines(path)
    if name not in pq.read_schema(path).names:
        raise SurveyError(f"{path} has no column {name!r}")
    if n == _n_lines(lines) and all(
        np.array_equal(a, b) for (*_, a), (*_, b) in zip(_ids(lines), _ids(path), strict=True)
    ):
        return Column(str(path.absolute()), name)
    values = np.lib.format.open_memmap(to, "w+", np.float32, (survey.n,))
    values[:] = np.nan
    for first, last, ids in _ids(path):
        rows = survey.rows_of(ids)
        values[rows[rows >= 0]] = _read_lines(path, name, first, last)[rows >= 0]
    values.flush()
    return Column(str(to.absolute()), is_by_row=True)


# --------------------------------------------------------------------------------------------------------- kernels
@_jit
def _count_rows(
    x: np.ndarray, y: np.ndarray, frame: np.ndarray, grid: int, of_row: np.ndarray, counts: np.ndarray
) -> None:
    # of_row: the row of cells of each point, or grid for one without a place
    y0, per_y = frame[1], frame[3]
    for i in range(x.size):
        if np.isfinite(x[i]) and np.isfinite(y[i]):
            of_row[i] = min(grid - 1, max(0, int((y[i] - y0) * per_y)))  # as explorer.cells has it
            counts[of_row[i]] += 1
        else:
            of_row[i] = grid


@_jit
def _order_of(of_row: np.ndarray, grid: int, place: np.ndarray, order: np.ndarray) -> None:
    for i in range(of_row.size):
        if of_row[i] < grid:
            order[place[of_row[i]]] = i
            place[of_row[i]] += 1


@_jit
def _reduce(
    values: np.ndarray,
    start: np.ndarray,
    high: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    known: np.ndarray,
) -> None:
    for c in range(start.size - 1):
        most, s, q, n = np.float32(np.nan), 0.0, 0.0, 0
        for i in range(start[c], start[c + 1]):
            v = values[i]
            if np.isfinite(v):
                most = v if n == 0 or v > most else most
                s += v
                q += np.float64(v) * v
                n += 1
        high[c], total[c], squares[c], known[c] = most, s, q, n


# --------------------------------------------------------------------------------------------------------- the plan
@dataclass(frozen=True, slots=True, init=False)
class AsItIs:
    """The settings of whatever run has the map: none is of interest here, and none is refused."""

    def __init__(self, **_: Any) -> None:
        pass


#: What workers take a map for whose index they make: `DaskPool` is told it as ``KIND_PATH``.
KIND = Kind("index", "Make the index of a map", AsItIs, "", folder="maps")
KIND_PATH = f"{__name__}:KIND"


@dataclass(frozen=True, slots=True)
class Plan:
    """What every part of a build has to know.

    Attributes
    ----------
    folder
        Of the build: this plan, and what shards leave for bands.
    made
        The folder that the index grows in.
    source
        None where finished indexes are merged.
    shards
        First and last line of each.
    merged
        Finished indexes, and the row that the first row of each becomes.
    n_rows, grid, bounds
        Of the index; `grid` is 0 before the source was looked at.
    columns
        Their names.
    """

    folder: Path
    made: Path
    source: Source | None
    shards: list[tuple[int, int]]
    merged: list[tuple[str, int]]
    columns: list[str]
    n_rows: int
    grid: int = 0
    bounds: View = (0.0, 0.0, 0.0, 0.0)

    @property
    def frame(self) -> np.ndarray:
        """float64 (4,): x0, y0, and cells per unit of x and of y."""
        x0, x1, y0, y1 = self.bounds
        return np.array([x0, y0, self.grid / (x1 - x0), self.grid / (y1 - y0)])

    @property
    def tall(self) -> int:
        """Rows of cells in a strip."""
        return max(1, self.grid // STRIPS)

    def write(self) -> None:
        """Put it where the parts read it."""
        told = {**asdict(self), "folder": None, "made": str(self.made)}
        write_json(self.folder / PLAN, told)

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a build."""
        told = json.loads((folder / PLAN).read_bytes())
        told |= {"folder": folder, "made": Path(told["made"]), "bounds": tuple(told["bounds"])}
        told["source"] = None if told["source"] is None else Source.read(told["source"])
        return cls(**told)

    def dealt(self, shard: int, strip: int) -> Path:
        """What a shard has in a strip: rows of 4-byte words, x, y, rows of the survey and columns."""
        return self.folder / f"strip-{strip:04d}" / f"{shard:06d}"

    def counts(self, shard: int) -> Path:
        """How many points a shard has in each row of cells."""
        return self.folder / f"{shard:06d}.npy"


# ----------------------------------------------------------------------------------------------------------- parts
def look(_: Any, workspace: Workspace, build: str, shard: int) -> dict[str, Any]:
    """Count the placed points of a shard, and find its ends."""
    plan = Plan.read(workspace.directory / build)
    assert plan.source is not None
    first, last = plan.shards[shard]
    rows = plan.source.rows_of(first, last)
    ends = np.array([np.inf, -np.inf, np.inf, -np.inf], np.float32)
    n = extent(plan.source.x.read(first, last, rows), plan.source.y.read(first, last, rows), ends)
    return {"n": int(n), "ends": [float(v) for v in ends] if n else []}


def deal(_: Any, workspace: Workspace, build: str, shard: int) -> dict[str, Any]:
    """Leave the points of a shard in files by strips, in the order of their rows of cells, and tell none of it."""
    plan = Plan.read(workspace.directory / build)
    source, grid = plan.source, plan.grid
    assert source is not None
    first, last = plan.shards[shard]
    rows = source.rows_of(first, last)
    x, y = source.x.read(first, last, rows), source.y.read(first, last, rows)
    of_row, counts = np.empty(len(x), np.int32), np.zeros(grid, np.int64)
    _count_rows(x, y, plan.frame, grid, of_row, counts)
    edges = np.concatenate([[0], np.cumsum(counts)])
    order = np.empty(edges[-1], np.uint32)
    _order_of(of_row, grid, edges[:-1].copy(), order)
    del of_row
    words = np.empty((3 + len(plan.columns), len(order)), np.uint32)
    for k, values in enumerate((x, y, rows)):
        np.take(values.view(np.uint32), order, out=words[k], mode="clip")
    for k, name in enumerate(plan.columns):
        np.take(source.columns[name].read(first, last, rows).view(np.uint32), order, out=words[3 + k], mode="clip")
    for strip in range(0, grid // plan.tall):
        low, high = edges[strip * plan.tall], edges[(strip + 1) * plan.tall]
        if high > low:
            path = plan.dealt(shard, strip)
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                for of_one in words:
                    of_one[low:high].tofile(file)
    np.save(plan.counts(shard), counts)
    return {}


def sort(_: Any, workspace: Workspace, build: str, cy: int, tall: int, first: int, n: int) -> dict[str, Any]:
    """Put a band, the rows of cells cy … cy + tall, into cell order and into its place: n points from `first` on."""
    plan = Plan.read(workspace.directory / build)
    words = np.empty((3 + len(plan.columns), n), np.uint32)
    at = 0
    for piece in _pieces(plan, cy, tall):
        words[:, at : at + piece.shape[1]] = piece
        at += piece.shape[1]
    if at != n:
        raise VoorwerpError(f"a band of the index has {at:,} points and not {n:,}; what it is made of has changed")
    place = np.arange(n, dtype=np.uint32)
    px, py = words[0].view(np.float32), words[1].view(np.float32)
    start = sort_band(px, py, place, (0, n), plan.frame, plan.grid, cy, tall)
    cell = cy * plan.grid
    _put(plan.made / "x.npy", first, px)
    _put(plan.made / "y.npy", first, py)
    _put(plan.made / "rows.npy", first, np.take(words[2], place, mode="clip"))
    _put(plan.made / "start.npy", cell, start[:-1] + first)
    for k, name in enumerate(plan.columns):
        values = np.take(words[3 + k].view(np.float32), place, mode="clip")
        _put(plan.made / COLUMNS / f"{name}.npy", first, values)
        kept = [np.empty(len(start) - 1, dtype) for dtype in KEPT.values()]
        _reduce(values, start, *kept)
        for what, of_cells in zip(KEPT, kept, strict=True):
            _put(plan.made / COLUMNS / f"{name}.{what}.npy", cell, of_cells)
    return {}


def _pieces(plan: Plan, cy: int, tall: int) -> Iterator[np.ndarray]:
    """What each shard, or each merged index, has in a band: uint32 (3 + columns, its points)."""
    for folder, row in plan.merged:
        start = mapped(Path(folder) / "start.npy", np.int64)
        low, high = start[cy * plan.grid], start[(cy + tall) * plan.grid]
        words = np.empty((3 + len(plan.columns), high - low), np.uint32)
        for k, name in enumerate(("x", "y", "rows", *(f"{COLUMNS}/{name}" for name in plan.columns))):
            dtype = np.uint32 if name == "rows" else np.float32
            words[k] = mapped(Path(folder) / f"{name}.npy", dtype)[low:high].view(np.uint32)
        words[2] += np.uint32(row)
        yield words
    strip = cy // plan.tall
    for shard in range(len(plan.shards)):
        counts = np.load(plan.counts(shard), allow_pickle=False)
        n, skip = int(counts[cy : cy + tall].sum()), int(counts[strip * plan.tall : cy].sum())
        if not n:
            continue
        of_strip = int(counts[strip * plan.tall : (strip + 1) * plan.tall].sum())
        words = np.empty((3 + len(plan.columns), n), np.uint32)
        with plan.dealt(shard, strip).open("rb") as file:
            for k in range(len(words)):
                file.seek(4 * (k * of_strip + skip))
                if file.readinto(words[k].view(np.uint8)) != 4 * n:
                    raise VoorwerpError("a part of the index was cut off on the disk; make it again")
        yield words


def _put(path: Path, first: int, values: np.ndarray) -> None:
    """Write a stretch of an array on disk."""
    with path.open("r+b") as file:
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)
        np.lib.format.read_array_header_1_0(file)
        file.seek(file.tell() + first * values.itemsize)
        values.tofile(file)


def _lay(path: Path, dtype: Any, n: int) -> None:
    """An array on disk to be filled by `_put`. It takes space only then, while that of strips becomes free."""
    np.lib.format.open_memmap(path, "w+", dtype, (n,)).flush()


# ------------------------------------------------------------------------------------------------------- the build
class Threads:
    """Threads of this process that share the parts of a build: a `models.artifacts.Pool`.

    Parameters
    ----------
    folder
        What the parts take for the workspace's own.
    n
        How many; None for one a core, 8 at most.
    """

    def __init__(self, folder: Path, n: int | None = None) -> None:
        self._workspace = Workspace(folder, None, np.empty(0, np.int64), {}, {})
        self._n = n or min(8, len(os.sched_getaffinity(0)))

    @property
    def n_workers(self) -> int:
        """How many there are."""
        return self._n

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See `models.artifacts.Pool`; what a part raises is raised here."""
        module, _, name = function.partition(":")
        work = getattr(importlib.import_module(module), name)
        with ThreadPoolExecutor(self._n) as executor:
            number_of = {executor.submit(work, None, self._workspace, **part): i for i, part in enumerate(parts)}
            try:
                for future in as_completed(number_of):
                    yield number_of[future], future.result()
            finally:
                executor.shutdown(wait=True, cancel_futures=True)


def build(
    folder: Path,
    source: Source,
    pool: Pool | None = None,
    *,
    grid: int | None = None,
    within: View | None = None,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> CellIndex:
    """Make the index of a source in a folder, whole or not at all, and open it.

    Beside the finished index the disk holds what shards left for bands, as much again, of which a strip at a time
    becomes free as the index grows.

    Parameters
    ----------
    pool
        Who does the parts; None for threads of this process. The workers of a cluster are to see `folder` at the same
        path.
    grid
        Cells to a side, a power of two; None for what `explorer.cells.grid_of` says.
    within
        x0, x1, y0, y1 that the grid is to cover, where it is to be merged with another; None for where the points are.
    memory
        Bytes that all workers together may take for their parts. A row of cells is sorted at once, and is more where
        it has to be.
    progress
        Told how much is done, 0–1.

    Raises
    ------
    UsageError
        More rows than an index can name, or a point outside `within`.
    SurveyError
        The source cannot be read.
    OSError
        It cannot be written, or the disk is full.
    """
    if source.n_rows > np.iinfo(np.uint32).max:
        raise UsageError(f"an index names at most {np.iinfo(np.uint32).max:,} rows; make several, of parts of the map")
    with _at_work(folder) as made_at:
        work = Work(made_at, pool, memory, progress)
        size = work.rows_a_part(len(source.columns))
        shards = [(low, min(source.n, low + size)) for low in range(0, source.n, size)]
        with replacing_index(folder) as made:
            plan = Plan(made_at, made, source, shards, [], [*source.columns], source.n_rows)
            plan.write()
            told = [{"shard": i} for i in range(len(shards))]
            looked = work.round("look", told, 0.0, 0.15)
            n, ends = sum(one["n"] for one in looked), [one["ends"] for one in looked if one["n"]]
            of_points = bounds(*(np.array([end[k : k + 2] for end in ends], np.float32).ravel() for k in (0, 2)))
            if within and n and not _covers(within, of_points):
                raise UsageError(
                    f"points lie at {_said(of_points)}, outside {_said(within)}; make the index of all anew"
                )
            plan = Plan(
                made_at, made, source, shards, [], plan.columns, source.n_rows, grid or grid_of(n), within or of_points
            )
            if plan.grid & (plan.grid - 1):
                raise UsageError(f"a grid of {plan.grid} is no power of two")
            plan.write()
            work.round("deal", told, 0.15, 0.55)
            counts = sum((np.load(plan.counts(i)) for i in range(len(shards))), np.zeros(plan.grid, np.int64))
            work.sort(plan, counts, 0.55)
            write_about(made, n, source.n_rows, plan.grid, plan.bounds, source.made_of)
    return CellIndex.open(folder)


def merge(
    folder: Path,
    parts: Sequence[tuple[Path, int]],
    n_rows: int,
    pool: Pool | None = None,
    *,
    memory: int = MEMORY,
    progress: Progress | None = None,
    made_of: Mapping[str, Any] | None = None,
) -> CellIndex:
    """Make one index of several over the same grid, whole or not at all, and open it.

    Columns that all of them have are merged, too.

    Parameters
    ----------
    parts
        Folders of indexes, and the row of the survey that row 0 of each is.
    n_rows
        Rows of the survey.

    Raises
    ------
    UsageError
        They are over different grids, or name rows that there are not.
    NoIndexError
        One is missing or damaged.
    """
    opened = [CellIndex.open(path) for path, _ in parts]
    if not opened:
        raise UsageError("nothing is merged of no index")
    like = opened[0]
    if any((index.grid, index.bounds) != (like.grid, like.bounds) for index in opened):
        raise UsageError("only indexes over the same grid are merged; make those of the parts within the same bounds")
    for index, (path, row) in zip(opened, parts, strict=True):
        if row + index.n_rows > n_rows:
            raise UsageError(f"{path} has {index.n_rows:,} rows from {row:,} on, and the survey {n_rows:,}")
    named = [{path.stem for path in (index.folder / COLUMNS).glob("*.npy")} for index in opened if index.folder]
    columns = sorted(name for name in set.intersection(*named) if name.rpartition(".")[2] not in KEPT)
    counts = sum((np.diff(index.start[:: index.grid]) for index in opened), np.zeros(like.grid, np.int64))
    with _at_work(folder) as made_at:
        work = Work(made_at, pool, memory, progress)
        with replacing_index(folder) as made:
            merged = [(str(path.absolute()), row) for path, row in parts]
            plan = Plan(made_at, made, None, [], merged, columns, n_rows, like.grid, like.bounds)
            plan.write()
            work.sort(plan, counts, 0.0)
            write_about(made, int(counts.sum()), n_rows, like.grid, like.bounds, made_of)
    return CellIndex.open(folder)


def of_map(
    indices: Indices,
    map_id: str,
    columns: Sequence[tuple[str, str]] = (),
    pool: Pool | None = None,
    *,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> CellIndex:
    """Make the index of a map where the app looks for it, with columns of score runs in the same order.

    Parameters
    ----------
    columns
        Runs, and names of columns of their scores.

    Raises
    ------
    SurveyError
        Map or scores cannot be read.
    OSError
        Nothing can be written beside the map.
    """
    named = {file_name(indices.lasting(f"scores.{column}", run_id)): (run_id, column) for run_id, column in columns}

    def make(folder: Path, source: dict[str, int], told: Progress) -> CellIndex:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=PREFIX, suffix=".tmp") as scratch:
            of_what = Source.of_map(indices.survey, map_id, Path(scratch), named, source)
            return build(folder, of_what, pool, memory=memory, progress=told)

    return indices.make(map_id, progress, make)


class Work:
    """The rounds of one build, on whoever does its parts."""

    def __init__(self, folder: Path, pool: Pool | None, memory: int, progress: Progress | None) -> None:
        self._folder, self._memory = folder, memory
        self._pool = pool or Threads(folder.parent)
        self._progress = progress or (lambda _: None)

    def rows_a_part(self, n_columns: int) -> int:
        """Rows that a worker may have in hand."""
        return max(1, int(self._memory / self._pool.n_workers / (OF_ROW + OF_COLUMN * n_columns)))

    def round(
        self,
        name: str,
        parts: Sequence[dict[str, Any]],
        begin: float,
        end: float,
        done: Callable[[int], None] = lambda _: None,
    ) -> list[dict[str, Any]]:
        """Have the parts of a round done; their answers, in the order of parts."""
        answers: list[dict[str, Any]] = [{}] * len(parts)
        told = [{"build": self._folder.name, **part} for part in parts]
        for k, (i, answer) in enumerate(self._pool.map(f"{__name__}:{name}", told)):
            answers[i] = answer
            done(i)
            self._progress(begin + (end - begin) * (k + 1) / len(parts))
        return answers

    def sort(self, plan: Plan, counts: np.ndarray, begin: float) -> None:
        """The last round: bands of whole rows of cells, within strips, of as many points as a worker may have."""
        made, n, cells = plan.made, int(counts.sum()), plan.grid * plan.grid
        for name, dtype in ARRAYS.items():
            _lay(made / f"{name}.npy", dtype, cells + 1 if name == "start" else n)
        (made / COLUMNS).mkdir()
        for name in plan.columns:
            _lay(made / COLUMNS / f"{name}.npy", np.float32, n)
            for what, dtype in KEPT.items():
                _lay(made / COLUMNS / f"{name}.{what}.npy", dtype, cells)
        _put(made / "start.npy", cells, np.array([n], np.int64))
        bands = _bands(counts, plan.tall, self.rows_a_part(len(plan.columns)))
        left = np.bincount([cy // plan.tall for cy, *_ in bands], minlength=plan.grid // plan.tall)
        parts = [dict(zip(("cy", "tall", "first", "n"), band, strict=True)) for band in bands]

        def done(i: int) -> None:
            strip = bands[i][0] // plan.tall
            left[strip] -= 1
            if not left[strip]:
                shutil.rmtree(plan.dealt(0, strip).parent, ignore_errors=True)

        self.round("sort", parts, begin, 1.0, done)
        for path in (*made.glob("*.npy"), *(made / COLUMNS).glob("*.npy")):
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _bands(counts: np.ndarray, tall: int, size: int) -> list[tuple[int, int, int, int]]:
    """Rows of cells that are sorted together: first row, how many, first point, points."""
    bands, first = list[tuple[int, int, int, int]](), 0
    for low in range(0, len(counts), tall):
        cy, n = low, 0
        for row in range(low, low + tall):
            if n and n + counts[row] > size:
                bands.append((cy, row - cy, first, n))
                cy, first, n = row, first + n, 0
            n += int(counts[row])
        bands.append((cy, low + tall - cy, first, n))
        first += n
    return bands


@contextlib.contextmanager
def _at_work(folder: Path) -> Iterator[Path]:
    """A folder beside that of the index for what is on its way; it goes in the end, and those of the dead before."""
    for old in folder.parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (old / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PREFIX))
    try:
        with (made / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _covers(outer: View, inner: View) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1] and outer[2] <= inner[2] and inner[3] <= outer[3]


def _said(view: View) -> str:
    return "{:g} … {:g}, {:g} … {:g}".format(*view)


def warm() -> None:
    """Compile every kernel into numba's cache on disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for column in ("x", "y", "z"):
            np.save(folder / f"{column}.npy", np.arange(4, dtype=np.float32))
        build(folder / "index", Source.of_arrays(folder, ["z"]), Threads(folder, 1))
