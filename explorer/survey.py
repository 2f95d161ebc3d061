"""`Survey`: opens a survey folder and reads its tables, images and runs. Shared by all sessions.

It writes nothing but ``kept/``, columns of large surveys that are mapped into memory (`explorer.kept`).

::

    survey.toml               what the survey is; `create` writes it last, so a folder without it is no survey
    subjects.parquet          one row per subject, in row order; `add` writes it last: its rows are those that count
    images.zarr               the network's crops, (N, H, W, C) uint8
    originals/NNNNN.pack      source bytes one after another, with NNNNN.npy: int64 offsets, one more than subjects;
                              of a survey whose originals are linked, a `Link` as JSON in place of the bytes
    thumbnails/NNNNN.pack     JPEGs of the whole originals, likewise
    digests.npy               uint64 (N, 2): equal where two crops' pixels are
    quarantine.parquet        what was refused on the way in; quarantine.html shows it
    runs/, maps/              see `models.artifacts`
    kept/                     columns of a large survey as arrays; may be deleted: see `explorer.kept`
    parts/                    only while `voorwerp create` or `add` is at work
    write.lock                held by the one command that writes

A survey without images has neither images.zarr, nor originals, thumbnails and digests. After an `add` that was stopped,
all but subjects.parquet may be longer than the survey; what is beyond its rows does not count.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer import votes
from explorer.errors import SchemaError, SurveyError, no_such_column
from explorer.kept import KEPT as KEPT
from explorer.kept import Kept
from models import artifacts
from models.artifacts import ArtifactError, Run
from models.images import Crop, Stretch, media_type, rgb_of

SCHEMA_VERSION = 2

SURVEY_TOML = "survey.toml"
SUBJECTS = "subjects.parquet"
IMAGES = "images.zarr"
ORIGINALS = "originals"
THUMBNAILS = "thumbnails"
DIGESTS = "digests.npy"
QUARANTINE = "quarantine.parquet"
REPORT = "quarantine.html"
RUNS = "runs"
MAPS = "maps"
PARTS = "parts"
CONTACT_SHEET = "contact_sheet.png"
WRITE_LOCK = "write.lock"

#: The column that tells what was planted into a copy of a subject; null for the sky's own.
PLANTED = "injected_kind"

#: Columns that every subjects.parquet has, in this order; the user's own come after them.
SUBJECTS_SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.int64(), metadata={"kind": "id"}),
        pa.field("source_id", pa.string(), metadata={"kind": "id"}),
        pa.field("zooniverse_subject_id", pa.int64(), metadata={"kind": "id"}),
        pa.field("image", pa.string(), metadata={"kind": "text"}),
        pa.field("ra", pa.float64(), metadata={"unit": "deg"}),
        pa.field("dec", pa.float64(), metadata={"unit": "deg"}),
        pa.field("duplicate_group", pa.int64(), metadata={"kind": "id"}),
        pa.field("half", pa.string(), metadata={"kind": "category"}),
        pa.field("inclusion_probability", pa.float64()),
        pa.field("edge_fraction", pa.float32()),
        pa.field("saturated_fraction", pa.float32()),
        pa.field("nan_fraction", pa.float32()),
        pa.field("background_rms", pa.float32()),
        pa.field("pixel_scale_arcsec", pa.float32(), metadata={"unit": "arcsec"}),
        # the network's square in pixels of the original; null: unknown, or the whole image
        pa.field("crop_left", pa.int32(), metadata={"unit": "px"}),
        pa.field("crop_top", pa.int32(), metadata={"unit": "px"}),
        pa.field("crop_side", pa.int32(), metadata={"unit": "px"}),
        pa.field("is_known", pa.bool_(), metadata={"kind": "category"}),  # null: no
        pa.field("is_withdrawn", pa.bool_(), metadata={"kind": "category"}),  # null: no
    ]
)

#: Rows read at once to show one subject.
ROW_GROUP = 16_384

#: Rows beyond which columns are mapped from files instead of held in memory, and rows read at once to make them.
LARGE = 1_000_000
_BLOCK = 1 << 20
#: So few rows of a column of texts are read by themselves.
_FEW = 16

#: Linked originals that are gone and named.
_NAMED = 3
#: What is kept of runs and maps: it does not change with the columns.
_OF_RUNS = ("scores", "latents", "coordinates")


@dataclass(frozen=True, slots=True)
class SurveyInfo:
    """The content of ``survey.toml``.

    Attributes
    ----------
    survey_id
        A uuid; the ledger's rows carry it.
    size
        Side of the network's crop, px; 0 in a survey without images.
    bands
        Names in channel order: ("r", "g", "b"), ("grey",), up to five; () in a survey without images.
    crop, extent
        How the crop is cut: see `models.images.Crop`; "none" in a survey without images. `extent` is in source px, None
        for the whole image and where `extent_arcsec` says it.
    notes
        Sentences about how the survey was made that reports must repeat.
    stretch
        How values become 0–1, for every image and at every later `add`.
    originals
        "keep": what people look at lies in the survey. "link": it stays where it was, and may go. "none": there are
        none (a table, or the copy of a survey that links).
    pixel_scale_arcsec
        Arcsec per px of every original; None where it is unknown or differs from image to image.
    extent_arcsec
        Side of the crop on the sky, arcsec, where it was asked for in arcsec.
    reading
        What `create` was told about where in a file the image is (HDU, dataset); `add` reads likewise. ``is_cut_out``
        is true where the subjects were cut from large images.
    """

    survey_id: str
    name: str
    size: int
    bands: tuple[str, ...]
    crop: Literal["center", "resize", "none"]
    extent: int | None
    created_at: str
    default_run: str | None = None
    default_map: str | None = None
    notes: tuple[str, ...] = ()
    stretch: Stretch = field(default_factory=Stretch)
    originals: Literal["keep", "link", "none"] = "keep"
    pixel_scale_arcsec: float | None = None
    extent_arcsec: float | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The bands shown as red, green and blue."""
        return rgb_of(self.bands)

    @property
    def cut(self) -> Crop:
        """How the network's input is cut; of a survey with images."""
        mode: Any = self.crop
        return Crop(self.size, mode, self.extent, len(self.bands))

    def write(self, path: Path) -> None:
        """Write to `path` (``…/survey.toml``), whole or not at all."""
        told = {name: getattr(self, name) for name in self.__slots__}
        lines = [f"{name} = {_toml(value)}" for name, value in told.items() if value is not None and value != {}]
        artifacts.write_bytes(path, ("\n".join(lines) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check `path`.

        Raises
        ------
        SchemaError
            Another schema version.
        SurveyError
            Missing, not TOML, or fields missing or of the wrong type.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SurveyError(f"{path} cannot be read ({error.strerror})") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SurveyError(f"{path} is not readable TOML ({error}); the survey cannot be opened") from None
        found = content.get("schema_version")
        if found != SCHEMA_VERSION:
            older = isinstance(found, int) and 0 < found < SCHEMA_VERSION
            cure = f"`voorwerp migrate {path.parent}` brings it up to date" if older else "a newer one may read it"
            raise SchemaError(
                f"{path} has schema version {found}; this Voorwerp reads version {SCHEMA_VERSION}; {cure}"
            )
        needed = {"survey_id": str, "name": str, "size": int, "bands": list, "crop": str, "created_at": str}
        needed |= {"stretch": dict, "originals": str}
        for name, kind in needed.items():
            if not isinstance(content.get(name), kind):
                raise SurveyError(f"{path} lacks {name}, or it is not of type {kind.__name__}")
        known = {name: content[name] for name in cls.__slots__ if name in content}
        known["bands"] = tuple(known["bands"])
        known["notes"] = tuple(known.get("notes", ()))
        try:
            known["stretch"] = Stretch.from_dict(known["stretch"])
        except (TypeError, ValueError) as error:
            raise SurveyError(f"{path} has a stretch that is not possible ({error})") from None
        return cls(**{"extent": None, **known})


def _toml(value: Any) -> str:
    """A str, number, list or table as TOML: JSON's strings and numbers are TOML's, but for DEL."""
    if isinstance(value, Stretch):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{k} = {_toml(v)}' for k, v in value.items() if v is not None)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007F")


@dataclass(frozen=True, slots=True)
class Link:
    """Where the original of a subject lies outside of the survey.

    Attributes
    ----------
    paths
        The file, or one per band.
    sizes, mtimes_ns
        Bytes and time of change of each, as they were when it became a subject.
    member
        Its place in a stack; None where a file is one image.
    x, y, context
        For a cut-out its center and the side of what people look at, px; None for the whole image.
    """

    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    mtimes_ns: tuple[int, ...]
    member: int | None = None
    x: float | None = None
    y: float | None = None
    context: int | None = None

    @classmethod
    def to(cls, paths: Iterable[str], **where: Any) -> Self:
        """A link to files as they are now.

        Raises
        ------
        OSError
            One cannot be looked at.
        """
        paths = tuple(paths)
        found = [Path(path).stat() for path in paths]
        return cls(paths, tuple(f.st_size for f in found), tuple(f.st_mtime_ns for f in found), **where)

    def to_bytes(self) -> bytes:
        """What stands in the pack: JSON."""
        record = {"link": self.paths, "member": self.member, "x": self.x, "y": self.y, "context": self.context}
        return json.dumps({**record, "sizes": self.sizes, "mtimes_ns": self.mtimes_ns}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` made.

        Raises
        ------
        SurveyError
            It is something else.
        """
        try:
            record = json.loads(content)
            where = {name: record[name] for name in ("member", "x", "y", "context")}
            if "size" in record:  # the first's alone, as surveys had it at first
                record |= {"sizes": [record["size"]], "mtimes_ns": [record["mtime_ns"]]}
            return cls(tuple(record["link"]), tuple(record["sizes"]), tuple(record["mtimes_ns"]), **where)
        except (ValueError, KeyError, TypeError) as error:
            raise SurveyError(f"a link to an original cannot be read ({type(error).__name__}: {error})") from None

    def problem(self) -> str | None:
        """Why the original is not there any more as it was, in one sentence; None where it is."""
        for path, size, mtime_ns in itertools.zip_longest(self.paths, self.sizes, self.mtimes_ns):
            try:
                found = Path(path).stat()
            except OSError as error:
                return f"{path} is gone ({error.strerror})"
            if size is not None and (found.st_size, found.st_mtime_ns) != (size, mtime_ns):
                return f"{path} has changed"
        return None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of subjects.parquet: its name, what it holds, and its unit if it has one.

    dtype is "number", "category" (few distinct texts), "text", or "id" (exact: shown as text, never as a float).
    """

    name: str
    dtype: Literal["number", "category", "text", "id"]
    unit: str | None = None


class Pack:
    """Byte strings in row order, in files of many: ``NNNNN.pack`` with offsets in ``NNNNN.npy``.

    Reads are positional and open the file anew, so that any number of threads may read. Nothing is mapped: of 100
    million rows there are 25,000 files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        counts, begins = [], []
        for i, name in enumerate(sorted(path.name for path in folder.glob("*.npy"))):
            if name != f"{i:05d}.npy":
                raise SurveyError(f"{folder / f'{i:05d}.npy'} is missing; the survey is incomplete")
            n, begin = self._header(folder / name)
            counts.append(n - 1)
            begins.append(begin)
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        self._begins = begins  # bytes before the first offset of each table

    def __len__(self) -> int:
        return int(self._starts[-1])

    @staticmethod
    def offsets(path: Path) -> np.ndarray:
        """The offsets of one file of the pack, int64 (n + 1,); `path` is that of its table."""
        try:
            offsets: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise SurveyError(f"{path} is not a readable table of offsets ({error})") from None
        if offsets.ndim != 1 or offsets.dtype != np.int64 or len(offsets) < 1:
            raise SurveyError(f"{path} holds {offsets.dtype} {offsets.shape}; int64 offsets (n + 1,) are expected")
        return offsets

    @classmethod
    def _header(cls, path: Path) -> tuple[int, int]:
        """How many offsets a table has and where they begin; as numpy writes it, in a thirtieth of the time."""
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            head = file.read(128)
            found = _OFFSETS.match(head)
            if found is not None and os.fstat(file.fileno()).st_size == 128 + 8 * int(found[1]):
                return int(found[1]), 128
        offsets = cls.offsets(path)  # another writer's, or it says what is wrong
        return len(offsets), path.stat().st_size - offsets.nbytes

    def read(self, row: int) -> bytes:
        """The bytes of `row`; see `read_many`."""
        return self.read_many([row])[0]

    def read_many(self, rows: Iterable[int] | np.ndarray) -> list[bytes]:
        """The bytes of each of `rows`, in their order; every file is opened once.

        Raises
        ------
        SurveyError
            A row is beyond the pack, or a file is missing or shorter than its offsets say.
        """
        wanted = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            beyond = wanted[(wanted < 0) | (wanted >= len(self))][0]
            raise SurveyError(f"row {beyond} is not in {self.folder}, which has {len(self):,} rows")
        shards = (np.searchsorted(self._starts, wanted, side="right") - 1).tolist()
        found = [b""] * len(wanted)
        within: dict[int, list[tuple[int, int]]] = {}
        for place, (shard, row) in enumerate(zip(shards, wanted.tolist(), strict=True)):
            within.setdefault(shard, []).append((row, place))
        for shard, some in within.items():
            self._read_shard(shard, some, found)
        return found

    def _read_shard(self, shard: int, some: list[tuple[int, int]], found: list[bytes]) -> None:
        """Put the bytes of rows of one file into `found`, each (row, place)."""
        path, before = f"{self.folder}/{shard:05d}", int(self._starts[shard])
        first, last = min(some)[0], max(some)[0] + 1
        table = _opened(f"{path}.npy")
        try:
            content = os.pread(table, 8 * (last - first + 1), self._begins[shard] + 8 * (first - before))
        finally:
            os.close(table)
        if len(content) != 8 * (last - first + 1):
            raise SurveyError(f"{path}.npy ends before row {last - 1}")
        offsets = memoryview(content).cast("q")
        ends = [(offsets[row - first], offsets[row - first + 1]) for row, _ in some]
        handle = _opened(f"{path}.pack")
        try:
            whole, base = b"", 0
            if len(some) > 1 and offsets[-1] - offsets[0] <= 2 * sum(stop - start for start, stop in ends):  # neighbors
                whole, base = os.pread(handle, offsets[-1] - offsets[0], offsets[0]), offsets[0]
            for (row, place), (start, stop) in zip(some, ends, strict=True):
                piece = whole[start - base : stop - base] if whole else os.pread(handle, stop - start, start)
                if len(piece) != stop - start:
                    raise SurveyError(f"{path}.pack ends before row {row}: {stop:,} bytes are expected")
                found[place] = piece
        finally:
            os.close(handle)


#: The head of an array of int64 (n,) as numpy writes it.
_OFFSETS = re.compile(rb"\x93NUMPY\x01\x00v\x00\{'descr': '<i8', 'fortran_order': False, 'shape': \((\d+),\), \} +\n")


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise SurveyError(f"{path} cannot be read ({error.strerror})") from None


class _First:
    """The first `n` images of an array that is longer: what an `add` that was stopped has left beyond is not there."""

    def __init__(self, array: Any, n: int) -> None:
        self._array = array
        self.shape = (n, *array.shape[1:])
        self.dtype, self.chunks, self.shards, self.ndim = array.dtype, array.chunks, array.shards, array.ndim

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> Any:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        if isinstance(first, slice):
            first = slice(*first.indices(len(self)))
        else:
            rows = np.asarray(first)
            if rows.dtype == np.bool_ or ((rows < -len(self)) | (rows >= len(self))).any():
                raise IndexError(f"rows {first!r} are not among {len(self):,} images")
            rows = np.where(rows < 0, rows + len(self), rows)
            first = rows if rows.ndim else int(rows)
        return self._array[(first, *rest)]


def counted(n: int, thing: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def take_write_lock(path: Path) -> int:
    """The lock of whoever writes into a survey folder, held; closing the file descriptor gives it back.

    Raises
    ------
    SurveyError
        Another command is at work.
    """
    handle = os.open(path / WRITE_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise SurveyError(f"another command is writing to {path}; wait for it or stop it") from None
    return handle


@contextlib.contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """See `Survey.lock`; for a folder that cannot be opened yet."""
    handle = take_write_lock(path)
    try:
        yield
    finally:
        os.close(handle)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from the one that took its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class _Columns:
    """A Parquet file whose row i is subject i, open; thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path, self.stamp = path, _stamp(path)
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise SurveyError(f"{path} is missing; the survey is incomplete") from None
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        self.schema: pa.Schema = self._file.schema_arrow
        self.n: int = self._file.metadata.num_rows
        self._lock = Lock()  # one ParquetFile is not to be read by two threads at once

    def _unreadable(self, error: Exception) -> SurveyError:
        return SurveyError(f"{self.path} is not a readable Parquet file ({str(error).splitlines()[0]})")

    def read(self, name: str) -> pa.ChunkedArray:
        try:
            with self._lock:
                return self._file.read([name]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def batches(self, *names: str) -> Iterator[tuple[slice, list[pa.Array]]]:
        """Columns in parts: the rows of each part, and its values. Nobody else reads meanwhile."""
        first = 0
        try:
            with self._lock:
                for batch in self._file.iter_batches(_BLOCK, columns=list(names)):
                    yield slice(first, first + len(batch)), [batch.column(name) for name in names]
                    first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def varies(self, name: str) -> bool:
        """Whether a column has two values or more, by the file's own statistics."""
        metadata, at = self._file.metadata, self.schema.names.index(name)
        columns = [metadata.row_group(i).column(at) for i in range(metadata.num_row_groups)]
        known = [c.statistics for c in columns if c.statistics is not None and c.statistics.has_min_max]
        if len(known) < sum(1 for c in columns if c.statistics is None or c.statistics.null_count != c.num_values):
            return True  # some part has values and does not say which
        return len({known_value for part in known for known_value in (part.min, part.max)}) > 1

    def has_any(self, name: str) -> bool | None:
        """Whether a column has a finite value, by the file's own statistics; None where they do not say."""
        metadata, at = self._file.metadata, self.schema.names.index(name)
        for i in range(metadata.num_row_groups):
            known = metadata.row_group(i).column(at).statistics
            if known is not None and known.has_min_max and np.isfinite([known.min, known.max]).any():
                return True
        return None

    def take(self, name: str, rows: np.ndarray) -> pa.Array:
        """A column of some rows, read by the parts of the file that they are in."""
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        try:
            for group in np.unique(groups).tolist():
                here = np.flatnonzero(groups == group)
                with self._lock:
                    part = self._file.read_row_group(group, columns=[name]).column(0)
                for place, value in zip(
                    here.tolist(), part.take(pa.array(rows[here] - self._starts[group])).to_pylist(), strict=True
                ):
                    found[place] = value
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        return pa.array(found, self.schema.field(name).type)

    def row(self, row: int) -> dict[str, object]:
        """Every column of one row."""
        with self._lock:
            group = int(np.searchsorted(self._starts, row, side="right")) - 1
            table = self._file.read_row_group(group).slice(row - int(self._starts[group]), 1)
        values: dict[str, object] = table.to_pylist()[0]
        return values

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each row group."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes[:-1]])

    def close(self) -> None:
        with self._lock:  # a thread may be reading
            self._file.close()


def _open_subjects(path: Path) -> tuple[_Columns, np.ndarray]:
    """subjects.parquet, open, and its subject_ids."""
    subjects = _Columns(path)
    for column in SUBJECTS_SCHEMA:
        if column.name not in subjects.schema.names:
            raise SurveyError(f"{path} lacks the column {column.name!r}")
    if subjects.n <= LARGE:
        return subjects, np.ascontiguousarray(subjects.read("subject_id").to_numpy(), np.int64)
    fill = partial(_fill, subjects, "subject_id", np.int64)
    return subjects, Kept(path.parent / KEPT).array("subject_id", subjects.stamp, np.int64, (subjects.n,), fill)


def _fill(columns: _Columns, name: str, dtype: Any, to: np.ndarray) -> None:
    """Write a numeric column into an array, part by part; null becomes NaN."""
    kind = pa.from_numpy_dtype(dtype)
    for rows, (part,) in columns.batches(name):
        to[rows] = (part if part.type == kind else part.cast(kind, safe=False)).to_numpy(zero_copy_only=False)


def _fill_codes(columns: _Columns, name: str, labels: list[str], to: np.ndarray) -> None:
    """Write codes of a column of texts into an array, -1 where missing; `labels`, empty, gets the labels, sorted."""
    codes: dict[str, int] = {}
    for rows, (part,) in columns.batches(name):
        encoded = part.cast(pa.string()).dictionary_encode()
        here = [codes.setdefault(label, len(codes)) for label in encoded.dictionary.to_pylist()]
        to[rows] = np.array([*here, -1], np.int32)[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    labels += sorted(codes)
    rank = np.full(len(labels) + 1, -1, np.int32)
    rank[[codes[label] for label in labels]] = np.arange(len(labels), dtype=np.int32)
    for first in range(0, len(to), _BLOCK):
        to[first : first + _BLOCK] = rank[to[first : first + _BLOCK]]


def _are_counted(ids: np.ndarray) -> bool:
    """Whether ids are 0, 1, 2 …."""
    blocks = range(0, len(ids), _BLOCK)
    return all(np.array_equal(part := ids[k : k + _BLOCK], np.arange(k, k + len(part))) for k in blocks)


class Scores(Mapping[str, np.ndarray]):
    """A large run's scores, read column by column when they are asked for; see `Survey.scores`."""

    def __init__(self, survey: "Survey", run_id: str, columns: _Columns) -> None:
        self._survey, self._run_id, self._columns = survey, run_id, columns
        self._names = [name for name in columns.schema.names if name != "subject_id"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def is_text(self, name: str) -> bool:
        """Whether a column is one of texts."""
        return _is_string(self._columns.schema.field(name).type)

    def has_any(self, name: str) -> bool:
        """Whether a column of numbers has a finite value."""
        values = self if self._columns.has_any(name) is None else None
        return values is None or bool(np.isfinite(values[name]).any())

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        if self.is_text(name):  # nobody who knows of `Survey.score_category` asks for these
            codes, labels = self.category(name)
            return np.asarray(np.array([*labels, None], object)[codes])
        found: np.ndarray = self._survey._cached("scores", f"{self._run_id}/{name}", partial(self._numbers, name))
        return found

    def text(self, name: str, row: int) -> str | None:
        """A text of one subject; it is read by itself while nobody has asked for the column."""
        if self.has_read(name):
            codes, labels = self.category(name)
            return labels[codes[row]] if codes[row] >= 0 else None
        rows = self._rows
        at = row if rows is None else next(iter(np.flatnonzero(rows == row).tolist()), -1)
        return None if at < 0 else self._columns.take(name, np.array([at])).to_pylist()[0]

    def has_read(self, name: str) -> bool:
        """Whether a column is there already."""
        return ("scores", f"{self._run_id}/{name}") in self._survey._cache

    def category(self, name: str) -> tuple[np.ndarray, list[str]]:
        """Codes and labels of a column of texts."""

        def make() -> tuple[np.ndarray, list[str]]:
            found: tuple[np.ndarray, list[str]] = self._survey._codes(
                f"{self._run_id}.{name}", self._stamp(name), self._columns, name, self._rows
            )
            return found

        found: tuple[np.ndarray, list[str]] = self._survey._cached("scores", f"{self._run_id}/{name}", make)
        return found

    def _stamp(self, name: str) -> tuple[object, ...]:
        return name, self._columns.stamp, self._survey._stamps[0]

    @property
    def _rows(self) -> np.ndarray | None:
        return self._survey._rows_of_file(self._columns, self._run_id)

    def _numbers(self, name: str) -> np.ndarray:
        survey = self._survey
        return survey._spread_kept(f"{self._run_id}.{name}", self._stamp(name), self._columns, name, self._rows)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _open_cache(path: Path, n: int) -> _Columns | None:
    """crowd.parquet or grades.parquet, open; None where there is none, or none of these subjects: it is made again."""
    try:
        found = _Columns(path)
    except SurveyError:
        return None
    if found.n != n:
        found.close()
        return None
    return found


class Survey:
    """A survey folder, open for reading.

    Arrays are in row order and belong to the survey: do not write into them.
    """

    def __init__(self, path: Path, info: SurveyInfo, subjects: _Columns, subject_ids: np.ndarray) -> None:
        self.path = path
        self.info = info
        self.subject_ids = subject_ids
        self.n = len(subject_ids)
        #: Grows at every `refresh` that found something new: part of the key of whatever is made from columns.
        self.generation = 0
        #: Subjects that an `add` has put behind those that were there when the survey was opened.
        self.n_added = 0
        self._subjects = subjects
        self._crowd = _open_cache(path / votes.CROWD, self.n)
        self._grades = _open_cache(path / votes.GRADES, self.n)
        self._refreshing = Lock()
        self._cache: dict[tuple[str, str], Any] = {}
        self._making: dict[tuple[str, str], Lock] = {}
        self.is_large = self.n > LARGE
        self.kept = Kept(path / KEPT)
        self._stamps = [subjects.stamp, _stamp(path / votes.CROWD), _stamp(path / votes.GRADES)]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the survey folder at `path`.

        Raises
        ------
        SchemaError
            Another schema version.
        SurveyError
            No such folder, not a survey, a half-made one, or files missing.
        """
        path = Path(path)
        if not path.is_dir():
            raise SurveyError(f"{path} is not a survey: there is no such folder")
        if not (path / SURVEY_TOML).exists():
            if (path / PARTS).is_dir():
                raise SurveyError(f"{path} is half made; the same `voorwerp create` command again finishes it")
            raise SurveyError(f"{path} is not a survey: it has no {SURVEY_TOML}")
        info = SurveyInfo.read(path / SURVEY_TOML)
        return cls(path, info, *_open_subjects(path / SUBJECTS))

    @property
    def stamp(self) -> object:
        """What tells the table of subjects from the one that takes its place."""
        return self._stamps[0]

    def stamp_of(self, name: str) -> tuple[int, int] | None:
        """What tells the file that a column is read from from others, in a copy of the survey, too.

        Of the file as it was when it was last looked at (`refresh`): on disk another may have taken its place since.
        """
        with self._refreshing:  # until then the file is a new one, and the columns may be the old ones
            stamp = self._holder(name).stamp
        return None if stamp is None else stamp[1:]

    def close(self) -> None:
        """Give file handles and caches back."""
        self._subjects.close()
        for columns in (self._crowd, self._grades):
            if columns is not None:
                columns.close()
        self._cache.clear()

    def refresh(self) -> bool:
        """Read subjects, crowd and grades anew where a file was replaced by one of the same subjects; whether so.

        Thread-safe. Where subjects were added, the survey stays as it was opened: open it again to see them.

        Raises
        ------
        SurveyError
            The new file cannot be read.
        """
        with self._refreshing:
            stamps = [_stamp(self.path / name) for name in (SUBJECTS, votes.CROWD, votes.GRADES)]
            if stamps == self._stamps:
                return False
            before, self._stamps = self._stamps, stamps
            stale: set[str] = set()
            if stamps[0] != before[0]:
                subjects, ids = _open_subjects(self.path / SUBJECTS)
                if np.array_equal(ids, self.subject_ids):
                    stale |= {*self._subjects.schema.names, *subjects.schema.names}
                    self._subjects = subjects
                else:
                    self.n_added = max(0, len(ids) - self.n)
                    subjects.close()
            if stamps[1] != before[1]:
                crowd = _open_cache(self.path / votes.CROWD, self.n)
                for columns in (self._crowd, crowd):
                    stale |= set(columns.schema.names if columns else ()) - set(self._subjects.schema.names)
                self._crowd = crowd
            if stamps[2] != before[2]:
                grades = _open_cache(self.path / votes.GRADES, self.n)
                for columns in (self._grades, grades):
                    stale |= set(columns.schema.names if columns else ()) - set(self._subjects.schema.names)
                self._grades = grades
            if not stale:
                return False
            # the file first, its cache second: whoever finds the new cache reads the new file
            self._cache = {k: v for k, v in self._cache.copy().items() if k[0] in _OF_RUNS or k[1] not in stale}
            self.generation += 1
            return True  # who still reads a file that was replaced holds it open

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one command that writes into the survey folder; a server that reads does not mind.

        Raises
        ------
        SurveyError
            Another command is at work.
        """
        with write_lock(self.path):
            yield

    # --------------------------------------------------------------------------------------------------- subjects
    @cached_property
    def _order(self) -> np.ndarray | None:
        """Rows in the order of subject_ids, or None where row and subject_id are the same."""
        if self.n == 0 or (self.subject_ids[0] == 0 and _are_counted(self.subject_ids)):
            return None
        return np.argsort(self.subject_ids, kind="stable")

    def rows_of(self, subject_ids: Any) -> np.ndarray:
        """Rows of subjects, int64 in the order given, -1 where unknown."""
        wanted = np.asarray(subject_ids, np.int64)
        if self._order is None:
            return np.where((wanted >= 0) & (wanted < self.n), wanted, -1)
        place = np.searchsorted(self.subject_ids, wanted, sorter=self._order)
        rows = self._order[np.minimum(place, self.n - 1)]
        return np.where(self.subject_ids[rows] == wanted, rows, -1)

    def row_of_source(self, source_id: str) -> int | None:
        """The row whose source_id is exactly this text, or None."""
        row = pc.index(self._arrow("source_id"), pa.scalar(source_id, pa.string())).as_py()
        return None if row < 0 else int(row)

    def ids_as_text(self) -> pa.Array:
        """Every source_id in row order, as one Arrow array."""
        return self._arrow("source_id")

    def source_ids(self, rows: Any) -> list[str]:
        """The ids of rows as their source wrote them."""
        rows = np.asarray(rows, np.int64)
        if self.is_large and len(rows) <= _FEW and ("arrow", "source_id") not in self._cache:
            few: list[str] = self._subjects.take("source_id", rows).to_pylist()
            return few
        taken: list[str] = self._arrow("source_id").take(pa.array(rows)).to_pylist()
        return taken

    def arrow(self, name: str) -> Any:
        """A whole column in row order and of the file's own type: an Arrow array, null where missing.

        Raises
        ------
        UsageError
            No such column; the message offers the near miss.
        """
        return self._arrow(name)

    def columns(self) -> list[Column]:
        """Every column of subjects.parquet, the user's own included, of crowd and of grades; in file order."""
        fields: dict[str, pa.Field] = {}
        for columns in (self._subjects, self._crowd, self._grades):
            for one in columns.schema if columns is not None else ():
                fields.setdefault(one.name, one)
        return [self._column_of(field) for field in fields.values()]

    def columns_of_crowd(self) -> list[str]:
        """Names of the columns made of what volunteers said; [] where nobody has said anything."""
        ours = set(self._subjects.schema.names)
        return [name for name in self._crowd.schema.names if name not in ours] if self._crowd is not None else []

    def columns_of_grades(self) -> list[str]:
        """Names of the columns made of what experts graded; [] where no campaign is told."""
        taken = {*self._subjects.schema.names, *(self._crowd.schema.names if self._crowd is not None else ())}
        return [name for name in self._grades.schema.names if name not in taken] if self._grades is not None else []

    def about_grades(self) -> dict[str, Any]:
        """What `columns_of_grades` was made of (`explorer.services.graded.Graded.write`); {} for nothing."""
        metadata = (self._grades.schema.metadata if self._grades is not None else None) or {}
        about: dict[str, Any] = json.loads(metadata.get(b"voorwerp", b"{}"))
        return about

    def about_crowd(self) -> dict[str, Any]:
        """What `columns_of_crowd` was made of (`explorer.services.volunteers.Volunteers.recount`); {} for nothing."""
        metadata = (self._crowd.schema.metadata if self._crowd is not None else None) or {}
        about: dict[str, Any] = json.loads(metadata.get(b"voorwerp", b"{}"))
        return about

    def varies(self, name: str) -> bool:
        """Whether a column has two values or more to tell subjects apart, by the file's own statistics."""
        self._field(name)
        holder = self._holder(name)
        if self.is_large:  # its file has many parts
            find = partial(self.kept.note, f"varies.{name}", holder.stamp, partial(holder.varies, name))
        else:
            find = partial(holder.varies, name)
        return bool(self._cached("varies", name, find))

    def _column_of(self, field: pa.Field) -> Column:
        metadata = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        kind: Any = metadata.get("kind")
        if kind not in ("number", "category", "text", "id"):
            numeric = (
                pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
            )
            kind = "number" if numeric else "category" if pa.types.is_boolean(field.type) else "text"
        return Column(field.name, kind, metadata.get("unit"))

    def _arrow(self, name: str) -> pa.ChunkedArray:
        def make() -> Any:
            read = partial(_combined, self, name)
            if not self.is_large:
                return read()
            return self.kept.texts(f"subjects.{name}", self._holder(name).stamp, read)

        return self._cached("arrow", name, make)

    def _holder(self, name: str) -> _Columns:
        """The file that has a column; subjects.parquet comes first, then the crowd's."""
        for columns in (self._subjects, self._crowd, self._grades):
            if columns is not None and name in columns.schema.names:
                return columns
        return self._subjects

    def _read(self, name: str) -> pa.ChunkedArray:
        self._field(name)  # a refresh may have come between
        return self._holder(name).read(name)

    def _cached(self, kind: str, name: str, make: Any) -> Any:
        key, cache = (kind, name), self._cache
        if key in cache:
            return cache[key]
        making = self._making.setdefault(key, Lock())  # what is read for seconds is not read twice
        with making:
            if key not in cache:
                cache[key] = make()
                pa.default_memory_pool().release_unused()  # what this thread read for it stays else
            return cache[key]

    def _field(self, name: str) -> pa.Field:
        schema = self._holder(name).schema
        if name not in schema.names:
            raise no_such_column(name, SUBJECTS, [column.name for column in self.columns()])
        return schema.field(name)

    def column(self, name: str) -> np.ndarray:
        """A whole column in row order: float64 for numbers (NaN: missing), else text as object (None: missing).

        Ids come as text, so that no digit is lost; a column of integers beyond 2⁵³ is one of ids by its field's
        ``kind``, which whoever writes it sets.

        Raises
        ------
        UsageError
            No such column; the message offers the near miss.
        """
        dtype = self._column_of(self._field(name)).dtype

        def make() -> np.ndarray:
            if self.is_large and dtype == "number":
                holder = self._holder(name)
                fill = partial(_fill, holder, name, np.float64)
                return self.kept.array(f"subjects.{name}", holder.stamp, np.float64, (self.n,), fill)
            array = self._read(name)
            if dtype == "number":
                values = array.cast(pa.float64(), safe=False).to_numpy()
                return np.asarray(values, np.float64)
            return np.asarray(array.cast(pa.string()).to_pylist(), object)

        result: np.ndarray = self._cached("column", name, make)
        return result

    def category(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column as int32 codes in row order (-1 where missing) and their labels, sorted.

        Raises
        ------
        UsageError
            No such column; the message offers the near miss.
        """
        self._field(name)

        def make() -> tuple[np.ndarray, list[str]]:
            if self.is_large:
                holder = self._holder(name)
                return self._codes(f"codes.{name}", holder.stamp, holder, name, None)
            encoded = self._read(name).cast(pa.string()).combine_chunks().dictionary_encode()
            labels: list[str] = encoded.dictionary.to_pylist()
            codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int32)
            order = sorted(range(len(labels)), key=labels.__getitem__)
            rank = np.empty(len(labels) + 1, np.int32)
            rank[order] = np.arange(len(labels), dtype=np.int32)
            rank[-1] = -1
            return rank[codes], [labels[i] for i in order]

        result: tuple[np.ndarray, list[str]] = self._cached("category", name, make)
        return result

    def planted(self) -> np.ndarray:
        """Who is a copy with a source planted into it and so none of the sky's (`voorwerp inject --add`): bool (N,)."""
        if PLANTED not in self._subjects.schema.names:
            return np.zeros(self.n, np.bool_)
        return np.asarray(self._arrow(PLANTED).is_valid().to_numpy(zero_copy_only=False))

    def frame(self) -> np.ndarray:
        """Who is to be looked for and counted, bool (N,): neither planted nor withdrawn. Samples are drawn of these."""

        def make() -> np.ndarray:
            withdrawn = self._arrow("is_withdrawn").fill_null(False).to_numpy(zero_copy_only=False)
            found = np.asarray(~(self.planted() | withdrawn))
            found.flags.writeable = False  # it is everyone's
            return found

        result: np.ndarray = self._cached("frame", "is_withdrawn", make)
        return result

    def subject(self, row: int) -> dict[str, object]:
        """Every column of one subject, as Python values; None where missing."""
        self._check_row(row)
        values: dict[str, object] = {}
        for columns in (self._grades, self._crowd, self._subjects):
            values |= columns.row(row) if columns is not None else {}
        return {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.n:
            raise SurveyError(f"row {row} is not in {self.path}, which has {self.n:,} subjects")

    # ----------------------------------------------------------------------------------------------------- images
    @property
    def has_images(self) -> bool:
        """Whether there are images at all; else the survey is a table."""
        return (self.path / IMAGES).exists()

    @cached_property
    def images(self) -> Any:
        """The network's crops: zarr array (N, H, W, C) uint8, read by slices; None for a survey without images."""
        path = self.path / IMAGES
        if not self.has_images:
            return None
        import zarr  # takes half a second, and many commands need no image

        try:
            array = zarr.open_array(path, mode="r")
        except Exception as error:  # zarr raises many kinds on broken metadata
            raise SurveyError(f"{path} is not a readable Zarr array ({str(error).splitlines()[0]})") from None
        expected = (self.n, self.info.size, self.info.size, len(self.info.bands))
        longer = array.shape[:1] > expected[:1] and array.shape[1:] == expected[1:]
        if not (array.shape == expected or longer) or array.dtype != np.uint8:
            raise SurveyError(f"{path} holds {array.dtype} {array.shape}; uint8 {expected} is expected")
        return _First(array, self.n) if longer else array

    @cached_property
    def _originals(self) -> Pack:
        return Pack(self.path / ORIGINALS)

    @cached_property
    def _thumbnails(self) -> Pack:
        return Pack(self.path / THUMBNAILS)

    def original(self, row: int) -> tuple[bytes, str]:
        """What people look at, and its media type: a file's bytes as they were, or a linear cut.

        Where originals are linked, it is the bytes of a `Link`: see `link`.
        """
        self._check_row(row)
        if self.info.originals == "none":
            raise SurveyError(f"{self.path} has no originals: they stayed behind when it was packed, or it is a table")
        content = self._originals.read(row)
        return content, media_type(content)

    def link(self, row: int) -> Link | None:
        """Where the original of a subject lies outside; None where its bytes are in the survey: see `original`."""
        self._check_row(row)
        return Link.from_bytes(self._originals.read(row)) if self.info.originals == "link" else None

    def thumbnails(self, rows: Any) -> list[bytes]:
        """JPEG bytes of each row's whole original, longest side at most 128 px."""
        return self._thumbnails.read_many(rows)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How the network's input was cut from the image; a checkpoint applies only to equal preprocessing."""
        found: dict[str, Any] = {
            "size": self.info.size,
            "crop": self.info.crop,
            "extent": self.info.extent,
            "bands": list(self.info.bands),
            "range": [0, 1],
        }
        if self.info.stretch.mode != "range":
            found["stretch"] = self.info.stretch.to_dict()
        if self.info.extent_arcsec is not None:
            found["extent_arcsec"] = self.info.extent_arcsec
        return found

    # ------------------------------------------------------------------------------------------------ runs and maps
    def run_folder(self, run_id: str) -> Path:
        """``runs/<run_id>``."""
        return self._inside(RUNS, run_id)

    def map_folder(self, map_id: str) -> Path:
        """``maps/<map_id>``."""
        return self._inside(MAPS, map_id)

    def _inside(self, folder: str, name: str) -> Path:
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            raise SurveyError(f'"{name}" is not the name of a folder in {self.path / folder}')
        return self.path / folder / name

    def runs(self, kind: str | None = None, state: str | None = "done") -> list[Run]:
        """Runs that count as this kind, of this state (None: any), newest first. `check` looks at unreadable ones."""
        return [r for r in self._listed(RUNS, artifacts.RUN_JSON, state) if kind is None or r.counts_as(kind)]

    def maps(self, state: str | None = "done") -> list[Run]:
        """Maps of this state (None: any), newest first. Unreadable folders are left to `check`."""
        return self._listed(MAPS, artifacts.MAP_JSON, state)

    def _listed(self, folder: str, name: str, state: str | None) -> list[Run]:
        found = []
        for directory in (self.path / folder).glob("*/"):
            try:
                run = Run.read(directory / name)
            except (ArtifactError, OSError):
                continue
            if run.run_id == directory.name and state in (None, run.state):
                found.append(run)
        return sorted(found, key=lambda run: (run.created_at, run.run_id), reverse=True)

    def scores(self, run_id: str) -> Mapping[str, np.ndarray]:
        """A finished run's scores, aligned to the survey's rows.

        Returns
        -------
        mapping
            Column name → float32 (N,), NaN where the run has no such subject; text (split, quality) → object (N,), None
            there. ``subject_id`` is left out. Of a large survey each column is read when it is asked for: whoever needs
            no values asks `score_kinds`, and `score_category` for texts.

        Raises
        ------
        SurveyError
            The run's files are missing or not what they should be.
        """

        def make() -> Mapping[str, np.ndarray]:
            path = self.run_folder(run_id) / artifacts.SCORES
            if self.is_large:
                return Scores(self, run_id, self._open_aligned(path, artifacts.SCORES_SCHEMA))
            table, rows = self._aligned(path, artifacts.SCORES_SCHEMA)
            return {name: self._spread(table.column(name), rows) for name in table.column_names if name != "subject_id"}

        result: Mapping[str, np.ndarray] = self._cached("scores", run_id, make)
        return result

    def score_kinds(self, run_id: str) -> dict[str, Literal["number", "text"]]:
        """The columns of a finished run's scores and what they hold; raises as `scores`."""
        scores = self.scores(run_id)
        if isinstance(scores, Scores):
            return {name: "text" if scores.is_text(name) else "number" for name in scores}
        return {name: "text" if values.dtype == object else "number" for name, values in scores.items()}

    def score_category(self, run_id: str, name: str) -> tuple[np.ndarray, list[str]]:
        """A run's column of texts as int32 codes in row order, -1 where missing, and their labels; as `scores`."""
        scores = self.scores(run_id)
        if isinstance(scores, Scores):
            return scores.category(name)

        def make() -> tuple[np.ndarray, list[str]]:
            encoded = pa.array(scores[name], pa.string()).dictionary_encode()
            return encoded.indices.fill_null(-1).to_numpy().astype(np.int32), encoded.dictionary.to_pylist()

        found: tuple[np.ndarray, list[str]] = self._cached("score categories", f"{run_id}/{name}", make)
        return found

    def latents(self, run_id: str) -> tuple[np.ndarray, np.ndarray]:
        """A finished run's latent vectors, memory-mapped float32 (n, d), and their rows in the survey, int64 (n,).

        Raises
        ------
        SurveyError
            The run's files are missing, or latents and scores are not aligned.
        """

        def make() -> tuple[np.ndarray, np.ndarray]:
            folder = self.run_folder(run_id)
            _, rows = self._aligned(folder / artifacts.SCORES, artifacts.SCORES_SCHEMA)
            try:
                latents = artifacts.read_latents(folder)
            except ArtifactError as error:
                raise SurveyError(str(error)) from None
            if len(latents) != len(rows):
                raise SurveyError(
                    f"{folder}: {artifacts.LATENTS} has {len(latents):,} rows, {artifacts.SCORES} {len(rows):,}; "
                    "they must be aligned"
                )
            return latents, rows

        result: tuple[np.ndarray, np.ndarray] = self._cached("latents", run_id, make)
        return result

    def coordinates(self, map_id: str) -> np.ndarray:
        """A finished map's coordinates in the survey's row order: float32 (N, 3), NaN where a subject is not placed."""

        def make() -> np.ndarray:
            path = self.map_folder(map_id) / artifacts.COORDINATES
            if self.is_large:
                columns = self._open_aligned(path, artifacts.COORDINATES_SCHEMA)
                at = self._rows_of_file(columns, map_id)

                def fill(to: np.ndarray) -> None:
                    for axis, name in zip(to, artifacts.COORDINATES_SCHEMA.names[1:], strict=True):
                        _fill_at(columns, name, at, axis)

                stamp = columns.stamp, self._stamps[0]
                return self.kept.array(f"{map_id}.coordinates", stamp, np.float32, (3, self.n), fill).T
            table, rows = self._aligned(path, artifacts.COORDINATES_SCHEMA)
            axes = [self._spread(table.column(name), rows) for name in artifacts.COORDINATES_SCHEMA.names[1:]]
            return np.stack(axes, axis=1)

        result: np.ndarray = self._cached("coordinates", map_id, make)
        return result

    def placing(self, map_id: str) -> dict[str, np.ndarray]:
        """A finished map's own columns beside the coordinates, in row order: float32 (N,), NaN where missing.

        ``is_placed`` and ``is_off_map`` (0 or 1) and ``knn_percentile``; {} for a map that was made without them.
        """

        def make() -> dict[str, np.ndarray]:
            path = self.map_folder(map_id) / artifacts.COORDINATES
            if self.is_large:
                columns = self._open_aligned(path, artifacts.COORDINATES_SCHEMA)
                at, kept = self._rows_of_file(columns, map_id), (columns.stamp, self._stamps[0])
                names = [n for n in columns.schema.names if n not in artifacts.COORDINATES_SCHEMA.names]
                return {n: self._spread_kept(f"{map_id}.{n}", (n, *kept), columns, n, at) for n in names}
            table, rows = self._aligned(path, artifacts.COORDINATES_SCHEMA)
            own = [name for name in table.column_names if name not in artifacts.COORDINATES_SCHEMA.names]
            return {name: self._spread(table.column(name), rows) for name in own}

        result: dict[str, np.ndarray] = self._cached("placing", map_id, make)
        return result

    def _open_aligned(self, path: Path, schema: pa.Schema) -> _Columns:
        """The open table of a large run or map; a column that is missing is an error."""
        columns = _Columns(path)
        for name in schema.names:
            if name not in columns.schema.names:
                raise SurveyError(f"{path} lacks the column {name!r}; it has {', '.join(columns.schema.names)}")
        return columns

    def _rows_of_file(self, columns: _Columns, name: str) -> np.ndarray | None:
        """Where the rows of an open table stand in the survey, int64 (n,); None where they are the survey's own."""

        def is_own() -> bool:
            if columns.n != self.n:
                return False
            return all(np.array_equal(part, self.subject_ids[rows]) for rows, (part,) in columns.batches("subject_id"))

        def fill(to: np.ndarray) -> None:
            for rows, (part,) in columns.batches("subject_id"):
                to[rows] = self.rows_of(part.to_numpy())
            if stray := int((to < 0).sum()):
                since = " added since the survey was opened; open it again" if self.n_added else " not in the survey"
                raise SurveyError(
                    f"{columns.path} has {stray:,} subjects that {'were' if self.n_added else 'are'}{since}"
                )

        def make() -> np.ndarray | None:
            stamp = columns.stamp, self._stamps[0]
            if self.kept.note(f"{name}.is_own", stamp, is_own):
                return None
            return self.kept.array(f"{name}.rows", stamp, np.int64, (columns.n,), fill)

        rows: np.ndarray | None = self._cached("rows", f"{columns.path}/{columns.stamp}", make)
        return rows

    def _spread_kept(
        self, kept: str, stamp: object, columns: _Columns, name: str, rows: np.ndarray | None
    ) -> np.ndarray:
        """A number's column of a run or map in the survey's rows, float32 (N,), mapped."""
        return self.kept.array(kept, stamp, np.float32, (self.n,), lambda to: _fill_at(columns, name, rows, to))

    def _codes(
        self, kept: str, stamp: object, columns: _Columns, name: str, rows: np.ndarray | None
    ) -> tuple[np.ndarray, list[str]]:
        """Codes of a column of texts in the survey's rows, int32 (N,), mapped; and their labels."""
        labels: list[str] = []

        def fill(to: np.ndarray) -> None:
            labels.clear()
            if rows is None:
                _fill_codes(columns, name, labels, to)
                return
            codes = np.empty(columns.n, np.int32)
            _fill_codes(columns, name, labels, codes)
            to[:] = -1
            to[rows] = codes

        def find() -> list[str]:
            if labels:
                return labels
            of_all: set[str] = set()
            for _, (part,) in columns.batches(name):
                of_all |= set(pc.unique(part.cast(pa.string())).drop_null().to_pylist())
            return sorted(of_all)

        codes = self.kept.array(kept, stamp, np.int32, (self.n,), fill)
        found: list[str] = self.kept.note(kept, stamp, find)
        return codes, found

    def _aligned(self, path: Path, schema: pa.Schema) -> tuple[pa.Table, np.ndarray]:
        try:
            table = artifacts.read_columns(path, schema)
        except ArtifactError as error:
            raise SurveyError(str(error)) from None
        rows = self.rows_of(table.column("subject_id").to_numpy())
        if stray := int((rows < 0).sum()):
            if self.n_added:
                raise SurveyError(
                    f"{path} has {stray:,} subjects that were added since the survey was opened; open it again"
                )
            raise SurveyError(f"{path} has {stray:,} subjects that are not in the survey")
        return table, rows

    def _spread(self, column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
        if _is_string(column.type):
            texts = np.full(self.n, None, object)
            coded = pa.chunked_array([column.combine_chunks()]).dictionary_encode().chunk(0)
            words = np.array([*coded.dictionary.to_pylist(), None], object)  # few, of many rows
            texts[rows] = words[coded.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)]
            return texts
        values = np.full(self.n, np.nan, np.float32)
        values[rows] = column.cast(pa.float32(), safe=False).to_numpy()
        return values


def _combined(survey: Survey, name: str) -> Any:
    return survey._read(name).combine_chunks()


def _fill_at(columns: _Columns, name: str, at: np.ndarray | None, to: np.ndarray) -> None:
    """Write a numeric column into an array of the survey's rows; `at`: which rows these are, None for all in order."""
    if at is None:
        _fill(columns, name, to.dtype, to)
        return
    to[:] = np.nan
    for rows, (part,) in columns.batches(name):
        to[at[rows]] = part.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)


# ----------------------------------------------------------------------------------------------------------- check
def check(path: Path | str) -> list[str]:
    """Every problem of a survey folder at once, one sentence each; [] when sound.

    Looks at: survey.toml (stretch), subjects.parquet (columns, unique ids, groups in one half), images.zarr (shape,
    every shard there), digests, the packs of originals and thumbnails (offsets, lengths), linked originals, quarantine,
    and every run and map. For the ledger see `explorer.ledger.check`; for what is no problem, `notices`.
    """
    path = Path(path)
    try:
        survey = Survey.open(path)
    except SurveyError as error:
        return [str(error)]
    problems: list[str] = []
    try:
        for name in ("subject_id", "source_id"):
            column = survey._arrow(name)
            if column.null_count:
                problems.append(f"{path / SUBJECTS} has {column.null_count:,} rows without {name}")
            if doubled := survey.n - len(pc.unique(column)):
                problems.append(f"{path / SUBJECTS} has {doubled:,} rows whose {name} is there already")
        halves = set(survey.category("half")[1]) - {"tune", "test"}
        if halves:
            problems.append(f"{path / SUBJECTS} has a half called {sorted(halves)[0]!r}; it is tune, test or nothing")
        problems += _check_halves(survey)
        problems += _check_quarantine(path / QUARANTINE)
        problems += _check_votes(path)
        if survey.has_images:
            problems += _check_images(survey)
            problems += _check_stretch(survey)
            problems += _check_digests(survey)
            for folder in (ORIGINALS, THUMBNAILS) if survey.info.originals != "none" else (THUMBNAILS,):
                problems += _check_pack(path / folder, survey.n)
            if survey.info.originals == "link":
                problems += _check_links(survey)
        elif survey.info.crop != "none":
            problems.append(f"{path / IMAGES} is missing; put back a copy")
        for run_folder, record in ((RUNS, artifacts.RUN_JSON), (MAPS, artifacts.MAP_JSON)):
            for directory in sorted((path / run_folder).glob("[!.]*/")):
                if any(directory.iterdir()):
                    problems += artifacts.check_run(directory, survey.subject_ids)
                else:
                    problems.append(f"{directory} is empty: it has no {record}")
    except SurveyError as error:
        problems.append(str(error))
    finally:
        survey.close()
    return problems


def notices(survey: Survey) -> list[str]:
    """What is worth knowing and no problem, one sentence each: runs and maps of fewer subjects, an `add` that waits."""
    said = []
    for runs, done in ((survey.runs("score"), "scored"), (survey.maps(), "on the map")):
        fewer = [run for run in reversed(runs) if run.n_rows is not None and run.n_rows < survey.n]
        said += [f"{run.run_id}: {run.n_rows:,} of {survey.n:,} subjects are {done}" for run in fewer]
    if (survey.path / PARTS).is_dir() and any((survey.path / PARTS).iterdir()):
        said.append(
            f"an `add` was stopped, or is at work: the same command goes on, and without {survey.path / PARTS} it is "
            "given up"
        )
    return said


def _check_halves(survey: Survey) -> list[str]:
    table = pa.table({name: survey._read(name) for name in ("duplicate_group", "half")})
    known = table.filter(pc.and_(pc.is_valid(table.column(0)), pc.is_valid(table.column(1))))
    counted = known.group_by("duplicate_group").aggregate([("half", "count_distinct")])
    torn = counted.filter(pc.greater(counted.column("half_count_distinct"), 1)).column("duplicate_group")
    if not len(torn):
        return []
    return [
        f"{survey.path / SUBJECTS} has {len(torn):,} duplicate groups in both halves, the first is {torn[0].as_py()}; "
        "what shows the same thing must be in one"
    ]


def _check_quarantine(path: Path) -> list[str]:
    try:
        found = pq.read_schema(path).names
    except FileNotFoundError:
        return [f"{path} is missing; put back a copy"]
    except (pa.ArrowException, OSError) as error:
        return [f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})"]
    return [f"{path} lacks the column {name!r}" for name in ("source", "source_id", "reason") if name not in found]


def _check_votes(path: Path) -> list[str]:
    problems = []
    for name, schema in votes.SCHEMAS.items():
        if not (path / name).exists():
            continue
        try:
            found = pq.read_schema(path / name)
        except (pa.ArrowException, OSError) as error:
            problems.append(f"{path / name} is not a readable Parquet file ({str(error).splitlines()[0]})")
            continue
        missing = [column for column in schema.names if column not in found.names]
        problems += [f"{path / name} lacks the column {column!r}; ingest its sources again" for column in missing]
    return problems


def _check_stretch(survey: Survey) -> list[str]:
    stretch, n = survey.info.stretch, len(survey.info.bands)
    problems = []
    if not stretch.is_derived:
        problems.append(f"{survey.path / SURVEY_TOML} has a {stretch.mode} stretch without its values; put back a copy")
    if len(stretch.low) not in (0, 1, n):
        problems.append(
            f"{survey.path / SURVEY_TOML} has a stretch of {len(stretch.low)} bands for {n}; put back a copy"
        )
    return problems


def _check_digests(survey: Survey) -> list[str]:
    path = survey.path / DIGESTS
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return [f"{path} is missing; put back a copy, or nothing can be added"]
    except (OSError, ValueError, EOFError) as error:
        return [f"{path} is not a readable npy array ({error})"]
    if found.dtype != np.uint64 or found.ndim != 2 or found.shape[1] != 2 or len(found) < survey.n:
        return [f"{path} holds {found.dtype} {found.shape}; uint64 ({survey.n}, 2) is expected"]
    return []


def _check_links(survey: Survey) -> list[str]:
    """Originals that are not there any more as they were: how many, and the first of them."""
    n, first = 0, []
    for row in range(survey.n):
        try:
            link = survey.link(row)
        except SurveyError as error:
            return [str(error)]
        if link is not None and (problem := link.problem()):
            n += 1
            first += [problem] if n <= _NAMED else []
    more = f", and {n - len(first):,} more" if n > len(first) else ""
    return [f"{n:,} of {survey.n:,} linked originals are not as they were: {'; '.join(first)}{more}"] if n else []


def _check_images(survey: Survey) -> list[str]:
    try:
        images = survey.images
    except SurveyError as error:
        return [str(error)]
    per_shard = (images.shards or images.chunks)[0]
    problems = []
    for shard in range(-(-survey.n // per_shard)):
        name = survey.path / IMAGES / "c" / str(shard) / "0" / "0" / "0"
        if not name.is_file():
            problems.append(
                f"{name} is missing: rows {shard * per_shard:,} to {(shard + 1) * per_shard - 1:,} have no crop"
            )
            continue
        try:
            images[min((shard + 1) * per_shard, survey.n) - 1]  # the index stands at the shard's end
        except Exception as error:  # zarr's codecs raise many kinds on broken bytes
            problems.append(f"{name} cannot be read ({str(error).splitlines()[0]})")
    return problems


def _check_pack(folder: Path, n: int) -> list[str]:
    try:
        pack = Pack(folder)
    except SurveyError as error:
        return [str(error)]
    problems = []
    if len(pack) < n:  # beyond may be what an `add` that was stopped has left
        problems.append(f"{folder} has {len(pack):,} rows, {SUBJECTS} {n:,}; they must be aligned")
    for path in sorted(folder.glob("*.npy")):
        offsets = Pack.offsets(path)
        content = path.with_suffix(".pack")
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            problems.append(f"{path} is not in rising order from 0")
        if not content.is_file():
            problems.append(f"{content} is missing")
        elif content.stat().st_size != offsets[-1]:
            problems.append(f"{content} has {content.stat().st_size:,} bytes, its offsets say {offsets[-1]:,}")
    return problems
