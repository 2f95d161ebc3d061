"""Maps in cell order, kept on disk beside the map where they are large, and columns in the same order.

The index of a map of more than `LARGE` subjects is made once and memory-mapped (``maps/ID/index``, see
`explorer.cells`): the process holds none of it, and the next start has it at once. A map that changed, or a survey
whose rows did, has it made anew. Where nothing can be written, everything is kept in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.caches import Cache
from explorer.cells import COLUMNS, CellIndex, NoIndexError, Progress, View, bounds, write_about
from explorer.errors import NotReadyError
from explorer.kept import drop_left
from explorer.survey import Survey
from models.artifacts import COORDINATES, SCORES

#: Subjects of a map beyond which its index is kept on disk.
LARGE = 1_000_000
INDEX = "index"
#: Bytes of columns in cell order, of a map: on disk, and in memory where there is no index on disk.
ON_DISK, IN_MEMORY = 12 << 30, 1 << 30

#: Makes an index in a folder, of a source (`Indices.source`): see `explorer.services.shards`.
Maker = Callable[[Path, dict[str, int], Progress], CellIndex]

_SAMPLE = 1024
_READ = 1 << 20  # rows of a map's file at once


class Indices:
    """The indices of one survey's maps. Thread-safe; each is made once.

    Attributes
    ----------
    patience
        Seconds that whoever asks for an index waits while it is made; `NotReadyError` then. None: until it is made.
    """

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.patience: float | None = None
        self._lock = threading.Lock()
        self._opened: dict[str, CellIndex] = {}
        self._being_made: dict[str, _Making] = {}
        self._about = Cache(64)
        self._columns: WeakKeyDictionary[CellIndex, Cache] = WeakKeyDictionary()

    # ---------------------------------------------------------------------------------------------------- indices
    def of_map(self, map_id: str, *, keep: bool = False) -> CellIndex | None:
        """The memory-mapped index of a map's first two components; None for a map that is small enough for memory.

        Parameters
        ----------
        keep
            Keep it on disk, however small it is.

        Raises
        ------
        NotReadyError
            It is being made, and `patience` is over. The message says how far it is.
        SurveyError
            The map cannot be read.
        """
        with self._lock:
            if (found := self._opened.get(map_id)) is not None:
                return found
            making = self._being_made.get(map_id)
            if making is None:
                if not keep and not self.is_large(map_id):
                    return None
                making = self._being_made[map_id] = _Making(self, map_id)
        if not making.done.wait(self.patience):
            raise NotReadyError(f"the map's index is being made: {making.percent} %")
        if making.error is not None:
            raise making.error
        return making.index

    def begin(self, map_id: str) -> None:
        """Open or make the index of a large map, and do not wait for it."""
        with self._lock:
            if map_id and map_id not in self._opened and map_id not in self._being_made and self.is_large(map_id):
                self._being_made[map_id] = _Making(self, map_id)

    def is_large(self, map_id: str) -> bool:
        """Whether a map has more subjects than are sorted anew each time."""
        found = self._metadata(map_id)
        return found is not None and found.num_rows > LARGE

    def _metadata(self, map_id: str) -> pq.FileMetaData | None:
        def read() -> pq.FileMetaData | None:
            try:
                return pq.read_metadata(self.survey.map_folder(map_id) / COORDINATES)
            except (OSError, pa.ArrowException):
                return None  # the map's reader says what is wrong with it

        return self._about.get(map_id, read)

    def extent(self, map_id: str) -> tuple[View, int] | None:
        """The rectangle of a large map and how many subjects are on it; None for a small one.

        Until there is an index it is what the file of coordinates says of itself.
        """
        if not self.is_large(map_id):
            return None
        if (index := self._opened.get(map_id)) is not None:
            return index.bounds, len(index)
        about = self._metadata(map_id)
        known = [_ends(about, name) for name in ("umap_1", "umap_2")]
        if about is None or not all(known):
            index = self.of_map(map_id)
            return None if index is None else (index.bounds, len(index))
        (x0, x1), (y0, y1) = (ends or (0.0, 0.0) for ends in known)
        return bounds(np.array([x0, x1]), np.array([y0, y1])), about.num_rows

    def components(self, map_id: str) -> list[bool] | None:
        """Which of its three components a large map has; None for a small one, and where its file does not say."""
        if not self.is_large(map_id):
            return None
        found = [_ends(self._metadata(map_id), f"umap_{k}") is not None for k in (1, 2, 3)]
        return found if found[0] else None

    def progress(self, map_id: str) -> int | None:
        """Percent of an index that is being made; None where none is."""
        making = self._being_made.get(map_id)
        return None if making is None else making.percent

    def source(self, map_id: str) -> dict[str, int]:
        """What tells a map's coordinates from those that take their place."""
        found = (self.survey.map_folder(map_id) / COORDINATES).stat()
        return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}

    def open(self, map_id: str) -> CellIndex:
        """The index that lies beside a map.

        Raises
        ------
        NoIndexError
            There is none, it is damaged, or the map or the survey's rows are not what it was made of.
        """
        folder = self.survey.map_folder(map_id) / INDEX
        try:
            index = CellIndex.open(folder, self.source(map_id), self.survey.n)
        except OSError as error:
            raise NoIndexError(f"the map has no {COORDINATES}: {error}") from None
        if index.source.get("subjects", _of_rows(self.survey, index)) != _of_rows(self.survey, index):
            raise NoIndexError(f"the index in {folder} is of other rows of the survey")
        return index

    def make(self, map_id: str, progress: Progress | None = None, maker: Maker | None = None) -> CellIndex:
        """Make a map's index and put it beside the map; where that cannot be, it is in memory.

        Parameters
        ----------
        maker
            Makes it in its folder, anew whatever is there, and tells how far it is; None makes it in memory first.

        Raises
        ------
        SurveyError
            The map cannot be read.
        """
        told = progress or (lambda _: None)
        folder = self.survey.map_folder(map_id) / INDEX
        with _alone(folder):
            source = self.source(map_id)
            if maker is not None:
                index = maker(folder, source, told)
                place = index.grid, index.bounds, source | {"subjects": _of_rows(self.survey, index)}
                write_about(folder, len(index), index.n_rows, *place)
                return self.open(map_id)
            with contextlib.suppress(NoIndexError):  # another process made it while this one waited
                return self.open(map_id)
            x, y = self.coordinates(map_id, 2, lambda share: told(0.4 * share))
            index = CellIndex(x, y, lambda share: told(0.4 + 0.4 * share))
            del x, y
            try:
                index.write(folder, source | {"subjects": _of_rows(self.survey, index)})
                told(1.0)
                return self.open(map_id)
            except (OSError, NoIndexError):
                return index

    def coordinates(self, map_id: str, n: int = 3, progress: Progress | None = None) -> Sequence[np.ndarray]:
        """A map's first components in row order, each float32 (N,); those of a large map are not kept.

        Raises
        ------
        SurveyError
            The map cannot be read.
        """
        names, told = [f"umap_{k}" for k in range(1, n + 1)], progress or (lambda _: None)
        file = self.survey.map_folder(map_id) / COORDINATES
        found = self._read(file, names, told) if self.is_large(map_id) else None
        return list(self.survey.coordinates(map_id).T[:n]) if found is None else found  # that says what is wrong

    def _read(self, path: Path, names: Sequence[str], progress: Progress) -> list[np.ndarray] | None:
        """Columns of a table of subjects in row order, float32 (N,), NaN where missing; read in pieces, for the file is
        as large again. None where it cannot be read, or has subjects that are not in the survey.
        """
        n, survey = 0, self.survey
        columns = [np.full(survey.n, np.nan, np.float32) for _ in names]
        try:
            with pq.ParquetFile(path) as file, np.errstate(over="ignore"):
                for batch in file.iter_batches(_READ, columns=["subject_id", *names]):
                    ids, rows = batch.column("subject_id").to_numpy(), slice(n, n + batch.num_rows)
                    # most have their subjects as the survey has them; a search of each takes long
                    at: Any = rows if np.array_equal(ids, survey.subject_ids[rows]) else survey.rows_of(ids)
                    if at is not rows and np.any(at < 0):
                        return None
                    for name, column in zip(names, columns, strict=True):
                        column[at] = batch.column(name).to_numpy(zero_copy_only=False)
                    n += batch.num_rows
                    progress(n / file.metadata.num_rows)
        except (OSError, pa.ArrowException, ValueError, KeyError):
            return None
        pa.default_memory_pool().release_unused()  # hundreds of MB would stay
        return columns

    # ---------------------------------------------------------------------------------------------------- columns
    def lasting(self, reference: str, run_id: str = "", map_id: str = "", mode: str = "raw") -> tuple[object, ...]:
        """The key of a column by reference (`Explore.values`), which holds beyond this process.

        Of a mixed score there is none, for λ is dragged: ask for what it is mixed of.
        """
        table, _, name = reference.partition(".")
        if table == "maps":
            return reference, map_id, *sorted(self.source(map_id).items())
        if table == "subjects":
            return reference, *(self.survey.stamp_of(name) or ())
        return reference, run_id, *([mode] if mode != "raw" else [])

    def score_names(self, run_id: str) -> list[str]:
        """Numeric columns of a run's scores, by the word of their file; [] where it cannot be read."""
        try:
            schema = pq.read_schema(self.survey.run_folder(run_id) / SCORES)
        except (OSError, pa.ArrowException):
            return []
        return [column.name for column in schema if pa.types.is_floating(column.type)]

    def score(self, index: CellIndex, run_id: str, name: str) -> np.ndarray:
        """A score of a finished run in cell order, as it is in its file; see `column`.

        Raises
        ------
        SurveyError
            The run's scores cannot be read.
        """

        def read() -> np.ndarray:
            found = self._read(self.survey.run_folder(run_id) / SCORES, (name,), lambda _: None)
            return self.survey.scores(run_id)[name] if found is None else found[0]

        return self.column(index, self.lasting(f"scores.{name}", run_id), read)

    def column(
        self, index: CellIndex, key: tuple[object, ...], make_values: Callable[[], np.ndarray], dtype: Any = np.float32
    ) -> np.ndarray:
        """A column in cell order: (n,), in memory for an index in memory, else memory-mapped.

        Parameters
        ----------
        key
            Everything that the values depend on, in words and numbers that mean the same tomorrow (`lasting`).
        make_values
            Makes them in row order, (N,), when they are not there.
        dtype
            float32 for numbers; uint8 for codes.
        """
        with self._lock:
            kept = self._columns.setdefault(index, Cache(64, IN_MEMORY))

        def make() -> np.ndarray:
            name = file_name(key)
            if (found := index.read_column(name, dtype)) is not None:
                with contextlib.suppress(OSError):
                    os.utime(index.folder / COLUMNS / f"{name}.npy")  # type: ignore[operator]  # it was read from there
                return found
            values = index.sorted(np.asarray(make_values(), dtype))
            if index.folder is not None:
                with contextlib.suppress(OSError):
                    index.write_column(name, values)
                    _drop_oldest(index.folder / COLUMNS, ON_DISK)
                    found = index.read_column(name, dtype)
            return values if found is None else found

        return kept.get((key, np.dtype(dtype).str), make)

    def beside(self, index: CellIndex, key: tuple[object, ...]) -> Path | None:
        """Where `column` puts a column, less ``.npy``; None for an index in memory."""
        return None if index.folder is None else index.folder / COLUMNS / file_name(key)


class _Making:
    """An index that is being opened or made, on a thread of its own."""

    def __init__(self, indices: Indices, map_id: str) -> None:
        self.done = threading.Event()
        self.index: CellIndex | None = None
        self.error: Exception | None = None
        self.percent = 0
        self._indices, self._map_id = indices, map_id
        threading.Thread(target=self._run, name="index", daemon=True).start()

    def _run(self) -> None:
        indices, map_id = self._indices, self._map_id
        try:
            try:
                self.index = indices.open(map_id)
            except NoIndexError:
                self.index = indices.make(map_id, self._tell)
        except Exception as error:  # for those who wait
            self.error = error
        with indices._lock:
            if self.index is not None:
                indices._opened[map_id] = self.index
            del indices._being_made[map_id]
        self.done.set()
        if self.index is not None and self.index.folder is not None:
            with contextlib.suppress(Exception):
                self.index.at(np.zeros(0, np.int64))  # what it needs is there before somebody asks

    def _tell(self, share: float) -> None:
        self.percent = max(self.percent, min(99, int(100 * share)))


def _ends(about: pq.FileMetaData | None, name: str) -> tuple[float, float] | None:
    """Least and greatest value of a column, by its file's own word; None where it has none or does not say."""
    if about is None or name not in about.schema.names:
        return None
    column = about.schema.names.index(name)
    found = [about.row_group(k).column(column).statistics for k in range(about.num_row_groups)]
    ends = [(s.min, s.max) for s in found if s is not None and s.has_min_max]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def _of_rows(survey: Survey, index: CellIndex) -> str:
    """What tells the survey's rows from others: the subjects of some rows, all over the map."""
    rows = index.rows[np.linspace(0, len(index) - 1, min(len(index), _SAMPLE)).astype(np.int64)]
    ids = np.asarray(survey.subject_ids[np.sort(rows).astype(np.int64)], np.int64)
    return hashlib.sha256(ids.tobytes()).hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only process that makes an index; clear what one that was stopped has left. Nothing where it cannot be."""
    try:
        lock = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.parent.glob(f".{folder.name}.*"):
            if left.suffix in (".tmp", ".old"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(lock)


def file_name(key: Hashable) -> str:
    """Name of a column's file: what a person reads, and a digest of all of the key."""
    words = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(p for p in key if isinstance(p, str)))  # type: ignore[attr-defined]
    return f"{words.strip('._')[:80]}~{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"


def _drop_oldest(folder: Path, limit: int) -> None:
    """Delete columns that were not used for longest until the rest takes no more than so many bytes."""
    drop_left(folder)
    files = sorted(((f.stat().st_mtime_ns, f.stat().st_size, f) for f in folder.glob("*~*.npy")), reverse=True)
    total = 0
    for k, (_, size, file) in enumerate(files):
        total += size
        if total > limit and k:
            file.unlink(missing_ok=True)
