"""A survey folder while it is being made: its state, its shards, its last step. Whole files or none, at any moment.

::

    parts/command.json    what is being made, and under which survey_id: the same command goes on, another is refused
    parts/listing.parquet every image in order: index, source_id, image, path, the user's columns
    parts/plan.json       what the listing holds; written when the listing is whole
    parts/NNNNN.parquet   one row per accepted image of shard NNNNN; written last, when its other files are in place
    parts/NNNNN.refused   likewise, the refused ones (Parquet)

Everything else in parts/ is work in progress and is thrown away when the work is taken up again.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from explorer import survey as layout
from explorer.errors import IngestError
from explorer.ingest import groups
from explorer.ingest.decoder import Decoded
from explorer.survey import ROW_GROUP, SUBJECTS_SCHEMA, SurveyInfo
from models import artifacts
from models.images import QUALITY_COLUMNS, Crop

CHUNK = 64  # images that are read from disk at once
SHARD = 4096
SHARD_BYTES = 64 << 20

COMMAND_JSON = "command.json"
PLAN_JSON = "plan.json"
LISTING = "listing.parquet"

#: The listing's first columns; the user's own follow as c0, c1, … with their name in the field's metadata.
LISTING_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("source_id", pa.string()),
        ("image", pa.string()),
        ("path", pa.string()),
        ("ra", pa.float64()),
        ("dec", pa.float64()),
        ("zooniverse_subject_id", pa.int64()),
    ]
)

_PART_SCHEMA = pa.schema(
    [("index", pa.int64()), ("digest", pa.binary(16)), *((name, pa.float32()) for name in QUALITY_COLUMNS)]
)
_REFUSED_SCHEMA = pa.schema([("source", pa.string()), ("source_id", pa.string()), ("reason", pa.string())])


# -------------------------------------------------------------------------------------------------------- one shard
def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli), bit by bit: only for the few bytes of a shard's index."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def images_per_shard(crop: Crop) -> int:
    """At most 4,096 images and 64 MiB, in whole chunks."""
    chunk_bytes = CHUNK * crop.size**2 * crop.n_bands
    return CHUNK * max(1, min(SHARD // CHUNK, SHARD_BYTES // chunk_bytes))


def zarr_metadata(n: int, crop: Crop) -> dict[str, Any]:
    """``zarr.json`` of images.zarr: Zarr v3, sharded, no compressor."""
    image = [crop.size, crop.size, crop.n_bands]
    sharding = {
        "chunk_shape": [CHUNK, *image],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [images_per_shard(crop), *image]}}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n, *image],
        "data_type": "uint8",
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["subject", "y", "x", "band"],
        "attributes": {},
    }


class _Shard:
    """Files of one shard while they grow under parts/: crops, originals, thumbnails, rows."""

    def __init__(self, build: "Build", number: int) -> None:
        self._build = build
        self.number = number
        self.n = 0
        self.next_index = 0
        self._working: dict[str, Path] = {
            name: build.parts / f"{number:05d}.{name}.working" for name in ("images", "originals", "thumbnails")
        }
        self._files: dict[str, BinaryIO] = {name: path.open("wb") for name, path in self._working.items()}
        self._offsets: dict[str, list[int]] = {"originals": [0], "thumbnails": [0]}
        self._rows: dict[str, list[Any]] = {name: [] for name in _PART_SCHEMA.names}
        self._refused: dict[str, list[str]] = {name: [] for name in _REFUSED_SCHEMA.names}

    def accept(self, index: int, path: str, decoded: Decoded, k: int) -> str | None:
        """Append a block's k-th good image; where its file is not what was decoded, nothing: the reason comes back."""
        content = decoded.originals[k]
        if isinstance(content, int):
            n_bytes = content
            try:
                with open(path, "rb", buffering=0) as source:  # noqa: PTH123 - pathlib takes longer than the read
                    content = source.read(n_bytes + 1)
            except OSError as error:
                return f"cannot be read ({error.strerror or error})"
            if len(content) != n_bytes:
                return "the file changed while it was read"
        thumbnail = decoded.thumbnails[k]
        self._files["images"].write(np.ascontiguousarray(decoded.crops[k]).data)
        for name, piece in (("originals", content), ("thumbnails", thumbnail)):
            self._files[name].write(piece)
            self._offsets[name].append(self._offsets[name][-1] + len(piece))
        for name, value in zip(_PART_SCHEMA.names, (index, decoded.digests[k], *decoded.quality[k]), strict=True):
            self._rows[name].append(value)
        self.n += 1
        return None

    def refuse(self, source: str, source_id: str, reason: str) -> None:
        """Note an image that cannot become a subject."""
        for name, value in zip(_REFUSED_SCHEMA.names, (source, source_id, reason), strict=True):
            self._refused[name].append(value)

    def finish(self) -> None:
        """Put the shard's files in their places, its part last."""
        build, number = self._build, self.number
        if self.n:
            self._end_images()
            places = {
                "images": build.path / layout.IMAGES / "c" / str(number) / "0" / "0" / "0",
                "originals": build.path / layout.ORIGINALS / f"{number:05d}.pack",
                "thumbnails": build.path / layout.THUMBNAILS / f"{number:05d}.pack",
            }
            for name, file in self._files.items():
                file.flush()
                os.fsync(file.fileno())
                file.close()
                places[name].parent.mkdir(parents=True, exist_ok=True)
                self._working[name].replace(places[name])
                artifacts.fsync_directory(places[name].parent)
            for name in ("originals", "thumbnails"):
                working = build.parts / f"{number:05d}.{name}.offsets.working"
                with working.open("wb") as file:
                    np.save(file, np.array(self._offsets[name], np.int64), allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())
                working.replace(places[name].with_suffix(".npy"))
                artifacts.fsync_directory(places[name].parent)
        else:
            self.discard()
        refused = pa.table(self._refused, schema=_REFUSED_SCHEMA)
        artifacts.write_table(build.parts / f"{number:05d}.refused", refused)
        part = pa.table(self._rows, schema=_PART_SCHEMA.with_metadata({"next_index": str(self.next_index)}))
        artifacts.write_table(build.parts / f"{number:05d}.parquet", part)

    def _end_images(self) -> None:
        """Fill the last chunk and append the index: offset and length of each chunk, then its checksum."""
        crop = self._build.crop
        file = self._files["images"]
        n_chunks = -(-self.n // CHUNK)
        image_bytes = crop.size**2 * crop.n_bands
        file.write(bytes((n_chunks * CHUNK - self.n) * image_bytes))
        index = np.full((images_per_shard(crop) // CHUNK, 2), 2**64 - 1, "<u8")  # "no such chunk"
        index[:n_chunks, 0] = np.arange(n_chunks) * (CHUNK * image_bytes)
        index[:n_chunks, 1] = CHUNK * image_bytes
        file.write(index.tobytes() + crc32c(index.tobytes()).to_bytes(4, "little"))

    def discard(self) -> None:
        """Close and remove the working files."""
        for name, file in self._files.items():
            with contextlib.suppress(OSError):  # closing flushes, which a full disk refuses
                file.close()
            self._working[name].unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------- the folder
class Build:
    """The half-made survey at a path: one command, resumable, one writer. Use as a context manager.

    Parameters
    ----------
    path
        The survey folder: absent, empty, or half made by an equal `command`.
    command
        JSON that identifies what is being made (sources, options).
    crop
        How the network's input is cut; its bands may still be changed by the plan.

    Raises
    ------
    IngestError
        There is a survey already, the folder holds other things, another command began it, or a process is at work.
    """

    def __init__(self, path: Path, command: Mapping[str, Any], crop: Crop) -> None:
        self.path = path
        self.parts = path / layout.PARTS
        self.crop = crop
        self._lock: int | None = None
        if path.exists() and not path.is_dir():
            raise IngestError(f"{path} is a file; a survey needs a folder of its own")
        if (path / layout.SURVEY_TOML).exists() and not (self.parts / COMMAND_JSON).exists():
            raise IngestError(f"{path} is a survey already; create the new one in another folder")
        if path.exists() and not (self.parts / COMMAND_JSON).exists() and not _is_untouched(path, self.parts):
            raise IngestError(f"{path} is not empty and is no survey; create the survey in a folder of its own")
        self.parts.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.parts / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(dict(command))
        except BaseException:
            os.close(self._lock)
            raise

    def _take(self, command: dict[str, Any]) -> None:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise IngestError(f"another `voorwerp create` is at work on {self.path}; wait for it or stop it") from None
        begun, planned = self.parts / COMMAND_JSON, self.parts / PLAN_JSON
        found = json.loads(begun.read_bytes()) if begun.exists() else None
        if found and found["command"] != command:
            if self.is_finished:
                raise IngestError(f"{self.path} is a survey already; create the new one in another folder")
            if planned.exists():
                before = found["command"]
                differing = sorted(k for k in before.keys() | command.keys() if before.get(k) != command.get(k))
                raise IngestError(
                    f"{self.path} was begun by another command (different {' and '.join(differing)}); "
                    "finish that one, or remove the folder"
                )
            found = None  # it was stopped before any image: nothing is lost
        if found is None:
            found = {"command": command, "survey_id": str(uuid.uuid4()), "created_at": artifacts.now()}
            artifacts.write_json(begun, found)
        self.survey_id: str = found["survey_id"]
        self.created_at: str = found["created_at"]
        self.plan: dict[str, Any] | None = json.loads(planned.read_bytes()) if planned.exists() else None
        self.n_shards = self.next_index = self.n_accepted = self.n_refused = 0
        if not self.is_finished:
            self._read_shards()
            self._remove_strays()
        self._pool = pa.default_memory_pool()
        self._shard: _Shard | None = None
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def _read_shards(self) -> None:
        """Shards 0 … n−1 that are whole; later ones cannot be, the writer goes in order."""
        while (part := self.parts / f"{self.n_shards:05d}.parquet").exists():
            file = pq.ParquetFile(part)
            self.next_index = int(file.schema_arrow.metadata[b"next_index"])
            self.n_accepted += file.metadata.num_rows
            self.n_refused += pq.ParquetFile(part.with_suffix(".refused")).metadata.num_rows
            file.close()
            self.n_shards += 1

    def _remove_strays(self) -> None:
        keep = {COMMAND_JSON, "lock"} | ({PLAN_JSON, LISTING} if self.plan else set())
        keep |= {f"{i:05d}.{suffix}" for i in range(self.n_shards) for suffix in ("parquet", "refused")}
        for stray in self.parts.iterdir():
            if stray.name not in keep:
                shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
        for stray in self.path.glob(".*.tmp"):
            stray.unlink()

    def __enter__(self) -> Self:
        self._pool = pa.default_memory_pool()
        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool keeps what was freed, and memory would grow
        return self

    def __exit__(self, *_: object) -> None:
        pa.set_memory_pool(self._pool)
        self._writer.shutdown(wait=True)
        if self._shard is not None:
            self._shard.discard()
        if self.plan is None and not self.is_finished:  # nothing that could be taken up again
            shutil.rmtree(self.parts)
            with contextlib.suppress(OSError):  # not ours alone
                self.path.rmdir()
        assert self._lock is not None
        os.close(self._lock)

    @property
    def is_finished(self) -> bool:
        """Only the removal of parts/ is left to do."""
        return (self.path / layout.SURVEY_TOML).exists()

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Note that the listing is whole. `plan` must hold ``n`` (rows) and ``bands``."""
        artifacts.write_json(self.parts / PLAN_JSON, plan)
        self.plan = plan

    # ----------------------------------------------------------------------------------------------------- images
    def keep(self, rows: Sequence[Mapping[str, Any]], decoded: Decoded) -> None:
        """Append a decoded block in the listing's order: accepted images as the next rows, the others to quarantine.

        Parameters
        ----------
        rows
            The block's rows of the listing: index, source_id, image, path.
        """
        reasons = dict(decoded.bad)
        place = {position: k for k, position in enumerate(decoded.good)}
        for position, row in enumerate(rows):
            if self._shard is None:
                self._shard = _Shard(self, self.n_shards)
            reason = reasons.get(position) or self._shard.accept(row["index"], row["path"], decoded, place[position])
            if reason:
                self._shard.refuse(row["image"], row["source_id"], reason)
                self.n_refused += 1
            else:
                self.n_accepted += 1
            self._shard.next_index = self.next_index = row["index"] + 1
            if self._shard.n == images_per_shard(self.crop):
                self._finish_shard()

    def _finish_shard(self) -> None:
        """Hand the shard to the writing thread: syncing to disk must not keep the decoders waiting."""
        self._await_writing()
        assert self._shard is not None
        self._writing = self._writer.submit(self._shard.finish)
        self._shard = None
        self.n_shards += 1

    def _await_writing(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def end_images(self) -> None:
        """Every image of the listing is decided: finish the last shard."""
        if self._shard is not None:
            self._finish_shard()
        self._await_writing()

    # ---------------------------------------------------------------------------------------------------- last step
    def finish(self, name: str, cut_out_extent: int | None = None) -> None:
        """Join the parts into a survey; ``survey.toml`` is written last.

        Parameters
        ----------
        cut_out_extent
            For cut-outs: side of the cut, px; the listing then has x and y.
        """
        assert self.plan is not None
        n = self.n_accepted
        sheet = self._writer.submit(write_contact_sheet, self.path, n, self.crop)
        subject_ids, grouped = self._group(cut_out_extent)
        self._join_subjects(subject_ids, grouped)
        self._join_refused()
        image_folder = self.path / layout.IMAGES
        artifacts.write_json(image_folder / "zarr.json", zarr_metadata(n, self.crop))
        info = SurveyInfo(
            survey_id=self.survey_id,
            name=name,
            size=self.crop.size,
            bands=tuple(self.plan["bands"]),
            crop=self.crop.mode,
            extent=None if self.crop.mode == "resize" else (self.crop.extent or self.crop.size),
            created_at=self.created_at,
            notes=(*self.plan.get("notes", ()), *grouped.notes),
        )
        sheet.result()
        info.write(self.path / layout.SURVEY_TOML)

    def totals(self) -> dict[str, Any]:
        """What the finished survey holds: n_subjects, n_quarantined, n_groups, n_tune, n_test, contact_sheet, notes."""
        table = pq.read_table(self.path / layout.SUBJECTS, columns=["half", "duplicate_group"])
        counts = {item["values"]: item["counts"] for item in table.column("half").value_counts().to_pylist()}
        return {
            "n_subjects": len(table),
            "n_quarantined": pq.ParquetFile(self.path / layout.QUARANTINE).metadata.num_rows,
            "n_groups": len(table.column("duplicate_group").unique()),
            "n_tune": counts.get("tune", 0),
            "n_test": counts.get("test", 0),
            "contact_sheet": str(self.path / layout.CONTACT_SHEET),
            "notes": list(SurveyInfo.read(self.path / layout.SURVEY_TOML).notes),
        }

    def remove_parts(self) -> None:
        """The survey is whole: the state of its making goes, what says so last."""
        for file in self.parts.iterdir():
            if file.name != COMMAND_JSON:
                file.unlink()
        shutil.rmtree(self.parts)

    def _rows(self) -> Iterator[pa.Table]:
        """Accepted images in row order, with the listing's columns and the part's; some thousands at a time."""
        parts = (pq.read_table(self.parts / f"{number:05d}.parquet") for number in range(self.n_shards))
        waiting = _PART_SCHEMA.empty_table()
        start = 0
        with pq.ParquetFile(self.parts / LISTING) as listing:
            for batch in listing.iter_batches(SHARD):
                stop = start + len(batch)
                while len(waiting) == 0 or waiting.column("index")[-1].as_py() < stop:
                    part = next(parts, None)
                    if part is None:
                        break
                    waiting = pa.concat_tables([waiting, part.replace_schema_metadata()])
                index = waiting.column("index").to_numpy()
                n = int(np.searchsorted(index, stop))
                rows = pa.Table.from_batches([batch]).take(pa.array(index[:n] - start))
                for name in _PART_SCHEMA.names[1:]:
                    rows = rows.append_column(name, waiting.column(name).slice(0, n))
                yield rows
                waiting = waiting.slice(n)
                start = stop

    def _group(self, cut_out_extent: int | None) -> tuple[np.ndarray, groups.Groups]:
        """The subject ids, int64 (n,), and their groups."""
        assert self.plan is not None
        aliases = {field.name: alias for alias, field in self._own_columns().items()}
        first, second = ("ra", "dec") if cut_out_extent is None else (aliases["x"], aliases["y"])
        ids, digests, at, images = [], [], [], []
        for rows in self._rows():
            if self.plan["integer_ids"]:
                ids.append(rows.column("source_id").cast(pa.int64()).to_numpy())
            digest = rows.column("digest").combine_chunks()
            digests.append(
                np.frombuffer(digest.buffers()[1], np.uint64).reshape(-1, 2)[digest.offset :][: len(rows)].copy()
            )
            at.append(np.stack([rows.column(name).to_numpy() for name in (first, second)]))
            if cut_out_extent is not None:
                images.append(rows.column("image"))
        pixels, places = np.concatenate(digests), np.concatenate(at, axis=1)
        subject_ids = np.concatenate(ids) if ids else np.arange(len(pixels))
        if cut_out_extent is None:
            return subject_ids, groups.group(pixels, places[0], places[1])
        names = pa.chunked_array([chunk for column in images for chunk in column.chunks])
        image = names.combine_chunks().dictionary_encode().indices.to_numpy()
        return subject_ids, groups.group_cut_outs(pixels, places[0], places[1], image, cut_out_extent)

    def _join_subjects(self, subject_ids: np.ndarray, grouped: groups.Groups) -> None:
        """Write subjects.parquet in row order, a row group at a time."""
        own = self._own_columns()
        full = pa.schema([*SUBJECTS_SCHEMA, *own.values()])
        group_ids = subject_ids[grouped.first]
        half = groups.half_of(group_ids)
        half[~grouped.is_in_a_half] = None
        made = {"subject_id": subject_ids, "duplicate_group": group_ids, "half": half}
        batches = (batch for rows in self._rows() for batch in rows.to_batches())
        with (
            artifacts.replacing(self.path / layout.SUBJECTS) as file,
            pq.ParquetWriter(file, full, compression="zstd") as writer,
        ):
            start = 0
            for table in regrouped(batches, ROW_GROUP):
                known = {name: table.column(name) for name in table.column_names if name not in own}
                known |= {field.name: table.column(alias) for alias, field in own.items()}
                known |= {name: pa.array(values[start : start + len(table)]) for name, values in made.items()}
                known["inclusion_probability"] = pa.nulls(len(table))  # there is no drawn sample yet
                writer.write_table(pa.table([known[f.name].cast(f.type) for f in full], schema=full))
                start += len(table)

    def _own_columns(self) -> dict[str, pa.Field]:
        """The user's columns: name in the listing (c0, c1, …: any name may be theirs) → field of subjects.parquet."""
        own = {}
        for field in pq.read_schema(self.parts / LISTING):
            if field.name not in LISTING_SCHEMA.names:
                metadata = dict(field.metadata)
                name = metadata.pop(b"name").decode()
                own[field.name] = pa.field(name, field.type, metadata=metadata)
        return own

    def _join_refused(self) -> None:
        with (
            artifacts.replacing(self.path / layout.QUARANTINE) as file,
            pq.ParquetWriter(file, _REFUSED_SCHEMA, compression="zstd") as writer,
        ):
            for number in range(self.n_shards):
                writer.write_table(pq.read_table(self.parts / f"{number:05d}.refused"))

    def nothing_left(self) -> IngestError:
        """The error for a listing of which no image could be used; what was begun is removed."""
        counts: dict[str, int] = {}
        for number in range(self.n_shards):
            for reason in pq.read_table(self.parts / f"{number:05d}.refused").column("reason").to_pylist():
                counts[reason] = counts.get(reason, 0) + 1
        reason, n = max(counts.items(), key=lambda item: item[1])
        self.plan = None
        return IngestError(f"none of {self.n_refused:,} images can become a subject; of {n:,} the reason is: {reason}")


def _is_untouched(path: Path, parts: Path) -> bool:
    """Whether the folder holds nothing but, at most, what a `Build` that was stopped at once has left."""
    left = [file.name for file in parts.iterdir()] if parts.is_dir() else []
    started = all(name == "lock" or name.startswith(f".{COMMAND_JSON}.") for name in left)
    return started and all(file == parts for file in path.iterdir())


def sql_path(path: Path) -> str:
    """A path as an SQL literal that names this one file, whatever characters are in it."""
    return "'" + glob.escape(str(path)).replace("'", "''") + "'"


@contextlib.contextmanager
def full_disk_said(path: Path) -> Iterator[None]:
    """Turn "no space left" from any library into the sentence for a person."""
    full = f"the disk that holds {path} is full; free some space, and the same command goes on where it was"
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise IngestError(full) from None
        raise
    except duckdb.Error as error:
        if "No space left" in str(error):
            raise IngestError(full) from None
        raise


@contextlib.contextmanager
def connect(parts: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills into `parts`; one thread, so that the order of rows is the order of files."""
    spill = parts / "spill"
    settings: dict[str, Any] = {"threads": 1, "memory_limit": "128MB", "temp_directory": str(spill)}
    with duckdb.connect(":memory:", config=settings) as database:
        yield database
    shutil.rmtree(spill, ignore_errors=True)


def regrouped(batches: Any, n: int) -> Iterator[pa.Table]:
    """Tables of exactly `n` rows (the last: the rest), whatever the sizes of the record batches."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        held.append(batch)
        n_held += len(batch)
        while n_held >= n:
            table = pa.Table.from_batches(held)
            yield table.slice(0, n)
            rest = table.slice(n)
            held, n_held = rest.to_batches(), len(rest)
    if n_held:
        yield pa.Table.from_batches(held)


def write_contact_sheet(path: Path, n: int, crop: Crop) -> None:
    """Write ``contact_sheet.png``: 25 crops at even distances through the survey, as the network sees them."""
    rows = np.unique(np.linspace(0, n - 1, 25).round().astype(int))
    side, gap = 128, 4
    columns = min(5, len(rows))
    height = -(-len(rows) // columns)
    sheet = Image.new("RGB", (gap + columns * (side + gap), gap + height * (side + gap)), (40, 40, 40))
    image_bytes = crop.size**2 * crop.n_bands
    for place, row in enumerate(rows):
        shard, within = divmod(int(row), images_per_shard(crop))
        with (path / layout.IMAGES / "c" / str(shard) / "0" / "0" / "0").open("rb") as file:
            file.seek(within * image_bytes)
            pixels = np.frombuffer(file.read(image_bytes), np.uint8).reshape(crop.size, crop.size, crop.n_bands)
        tile = Image.fromarray(pixels[:, :, 0] if crop.n_bands == 1 else pixels).convert("RGB")
        tile = tile.resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(tile, (gap + place % columns * (side + gap), gap + place // columns * (side + gap)))
    with artifacts.replacing(path / layout.CONTACT_SHEET) as handle:
        sheet.save(handle, "PNG", compress_level=1)
