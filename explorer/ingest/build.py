"""A survey folder while it is being made: its state, its shards, its last step. Whole files or none, at any moment.

::

    parts/command.json    what is being made, and under which survey_id: the same command goes on, another is refused
    parts/listing.parquet every image in order: index, source_id, image, its files, the user's columns
    parts/plan.json       what the listing holds; written when the listing is whole
    parts/NNNNN.parquet   one row per accepted image of shard NNNNN; written last, when its other files are in place
    parts/NNNNN.refused   likewise, the refused ones (Parquet)

Everything else in parts/ is work in progress and is thrown away when the work is taken up again.
"""

import contextlib
import errno
import fcntl
import glob
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from explorer import survey as layout
from explorer.errors import IngestError
from explorer.ingest import groups
from explorer.ingest.decoder import Decoded
from explorer.ingest.report import write_report
from explorer.survey import ROW_GROUP, SUBJECTS_SCHEMA, Link, SurveyInfo
from models import artifacts
from models.images import PLACE_COLUMNS, QUALITY_COLUMNS, Crop, Stretch, rgb_of
from models.progress import Progress

CHUNK = 64  # images that are read from disk at once
SHARD = 4096
SHARD_BYTES = 64 << 20

COMMAND_JSON = "command.json"
PLAN_JSON = "plan.json"
#: Columns of a block's rows that a `Link` has, too.
_LINKED = ("member", "x", "y", "context")
LISTING = "listing.parquet"

#: The listing's first columns; the user's own follow as c0, c1, … with their name in the field's metadata.
LISTING_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("source_id", pa.string()),
        ("image", pa.string()),
        ("paths", pa.list_(pa.string())),  # the file, or one per band
        ("member", pa.int64()),  # its place in a stack; null: the file itself
        ("ra", pa.float64()),
        ("dec", pa.float64()),
        ("zooniverse_subject_id", pa.int64()),
    ]
)

#: What the image itself says of its place: `models.images.PLACE_COLUMNS`, which the listing may know better.
_PLACES = [f"image_{name}" for name in PLACE_COLUMNS]
_PART_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("digest", pa.binary(16)),
        *((name, pa.float32()) for name in QUALITY_COLUMNS),
        *((name, pa.float64()) for name in _PLACES),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("reason", pa.string()),
        ("thumbnail", pa.binary()),  # JPEG; null where it could not be decoded at all
    ]
)
#: Pixel scales that differ by less, relatively, are one.
_SAME_SCALE = 1e-4


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
        #: Images of the survey before that the shard's file holds, too: they go first.
        self.n_before = build.base.n % build.per_shard if number == 0 else 0
        self.capacity = build.per_shard - self.n_before
        self._working: dict[str, Path] = {
            name: build.parts / f"{number:05d}.{name}.working" for name in ("images", "originals", "thumbnails")
        }
        self._files: dict[str, BinaryIO] = {name: path.open("wb") for name, path in self._working.items()}
        if self.n_before:
            self._files["images"].write(build.images_before(build.base.n - self.n_before))
        self._offsets: dict[str, list[int]] = {"originals": [0], "thumbnails": [0]}
        self._rows: dict[str, list[Any]] = {name: [] for name in _PART_SCHEMA.names}
        self._refused: dict[str, list[Any]] = {name: [] for name in QUARANTINE_SCHEMA.names}

    def accept(self, row: Mapping[str, Any], decoded: Decoded, k: int) -> str | None:
        """Append a block's k-th good image; where its file is not what was decoded, nothing: the reason comes back."""
        content = decoded.originals[k]
        try:
            if self._build.originals == "link":
                content = Link.to(row["paths"], **{name: row.get(name) for name in _LINKED}).to_bytes()
            elif isinstance(content, int):
                n_bytes = content
                # pathlib would take longer than the read
                with open(row["paths"][0], "rb", buffering=0) as source:  # noqa: PTH123
                    content = source.read(n_bytes + 1)
                if len(content) != n_bytes:
                    return "the file changed while it was read"
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        thumbnail = decoded.thumbnails[k]
        self._files["images"].write(np.ascontiguousarray(decoded.crops[k]).data)
        for name, piece in (("originals", content), ("thumbnails", thumbnail)):
            self._files[name].write(piece)
            self._offsets[name].append(self._offsets[name][-1] + len(piece))
        values = (row["index"], decoded.digests[k], *decoded.quality[k], *decoded.places[k])
        for name, value in zip(_PART_SCHEMA.names, values, strict=True):
            self._rows[name].append(value)
        self.n += 1
        return None

    def refuse(self, row: Mapping[str, Any], reason: str, thumbnail: bytes | None) -> None:
        """Note an image that cannot become a subject."""
        values = (row["image"], row["source_id"], reason, thumbnail)
        for name, value in zip(QUARANTINE_SCHEMA.names, values, strict=True):
            self._refused[name].append(value)

    def finish(self) -> None:
        """Put the shard's files in their places, its part last."""
        build, number = self._build, self.number
        if self.n:
            self._end_images()
            shard = build.base.n // build.per_shard + number
            places = {
                "images": build.path / layout.IMAGES / "c" / str(shard) / "0" / "0" / "0",
                "originals": build.path / layout.ORIGINALS / f"{build.base.n_packs + number:05d}.pack",
                "thumbnails": build.path / layout.THUMBNAILS / f"{build.base.n_packs + number:05d}.pack",
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
        refused = pa.table(self._refused, schema=QUARANTINE_SCHEMA)
        artifacts.write_table(build.parts / f"{number:05d}.refused", refused)
        part = pa.table(self._rows, schema=_PART_SCHEMA.with_metadata({"next_index": str(self.next_index)}))
        artifacts.write_table(build.parts / f"{number:05d}.parquet", part)

    def _end_images(self) -> None:
        """Fill the last chunk and append the index: offset and length of each chunk, then its checksum."""
        crop = self._build.crop
        file = self._files["images"]
        n = self.n_before + self.n
        n_chunks = -(-n // CHUNK)
        image_bytes = crop.size**2 * crop.n_bands
        file.write(bytes((n_chunks * CHUNK - n) * image_bytes))
        index = np.full((self._build.per_shard // CHUNK, 2), 2**64 - 1, "<u8")  # "no such chunk"
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
@dataclass(frozen=True, slots=True)
class Base:
    """What is there already: nothing, or the survey that is added to.

    Attributes
    ----------
    n
        Subjects.
    n_packs
        Files of originals, and of thumbnails, that hold them.
    """

    n: int = 0
    n_packs: int = 0


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
    originals
        Whether what people look at is kept in the survey, or linked.

    Raises
    ------
    IngestError
        There is a survey already, the folder holds other things, another command began it, or a process is at work.
    """

    def __init__(
        self, path: Path, command: Mapping[str, Any], crop: Crop, originals: Literal["keep", "link"] = "keep"
    ) -> None:
        self.path = path
        self.parts = path / layout.PARTS
        self.crop = crop
        self.originals = originals
        self.base = Base()
        #: command.json: the command, and what else must be known to take it up again.
        self.begun: dict[str, Any] = {}
        self.plan: dict[str, Any] | None = None
        self.n_shards = self.next_index = self.n_accepted = self.n_refused = 0
        self._lock = self._locked()
        try:
            self._take(dict(command))
        except BaseException:
            os.close(self._lock)
            raise
        self._pool = pa.default_memory_pool()
        self._shard: _Shard | None = None
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    @property
    def temporary(self) -> tuple[str, ...]:
        """How the names of temporary files begin that only this can have left."""
        return ("", f"{layout.IMAGES}/")

    def _locked(self) -> int:
        """The file that says that this process is at work, held."""
        path, parts = self.path, self.parts
        if path.exists() and not path.is_dir():
            raise IngestError(f"{path} is a file; a survey needs a folder of its own")
        if (path / layout.SURVEY_TOML).exists() and not (parts / COMMAND_JSON).exists():
            raise _finished(path)
        if path.exists() and not (parts / COMMAND_JSON).exists() and not _is_untouched(path, parts):
            raise IngestError(f"{path} is not empty and is no survey; create the survey in a folder of its own")
        parts.mkdir(parents=True, exist_ok=True)
        lock = os.open(parts / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise IngestError(f"another `voorwerp create` is at work on {path}; wait for it or stop it") from None
        return lock

    def _take(self, command: dict[str, Any]) -> None:
        """Begin, or take up again what an equal command began."""
        begun, planned = self.parts / COMMAND_JSON, self.parts / PLAN_JSON
        found = json.loads(begun.read_bytes()) if begun.exists() else None
        if found and found["command"] != command:
            if self.is_finished:
                raise _finished(self.path)
            if planned.exists():
                raise IngestError(
                    f"{self.path} was begun by another command ({differing(found['command'], command)}); "
                    "finish that one, or remove the folder"
                )
            found = None  # it was stopped before any image: nothing is lost
        self._begin(found or {"command": command, "survey_id": str(uuid.uuid4()), "created_at": artifacts.now()})

    def _begin(self, state: dict[str, Any]) -> None:
        """Note the state where it is new; find what of it is done."""
        begun, planned = self.parts / COMMAND_JSON, self.parts / PLAN_JSON
        if not begun.exists() or json.loads(begun.read_bytes()) != state:
            artifacts.write_json(begun, state)
        self.begun = state
        self.plan = json.loads(planned.read_bytes()) if planned.exists() else None
        if not self.is_finished:
            self._read_shards()
            self._remove_strays()

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
        for stray in itertools.chain(*(self.path.glob(f"{below}.*.tmp") for below in self.temporary)):
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
        os.close(self._lock)

    @property
    def per_shard(self) -> int:
        """Images in one file of images.zarr."""
        return images_per_shard(self.crop)

    @property
    def is_finished(self) -> bool:
        """Only the removal of parts/ is left to do."""
        return (self.path / layout.SURVEY_TOML).exists()

    def images_before(self, start: int) -> bytes:
        """The network's crops of the survey that is added to, from row `start` on; none before one that is created."""
        return b""

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Note that the listing is whole.

        Parameters
        ----------
        plan
            ``n`` (rows of the listing), ``integer_ids``, ``bands``; where they apply ``notes``, ``stretch``,
            ``pixel_scale_arcsec``, ``extent_arcsec`` and ``reading``, as in `SurveyInfo`.
        """
        artifacts.write_json(self.parts / PLAN_JSON, plan)
        self.plan = plan

    # ----------------------------------------------------------------------------------------------------- images
    def keep(self, rows: Sequence[Mapping[str, Any]], decoded: Decoded) -> None:
        """Append a decoded block in the listing's order: accepted images as the next rows, the others to quarantine.

        Parameters
        ----------
        rows
            The block's rows of the listing: index, source_id, image, paths; where originals are linked also member, x,
            y and context as in `Link`.
        """
        refused = {position: (reason, thumbnail) for position, reason, thumbnail in decoded.bad}
        place = {position: k for k, position in enumerate(decoded.good)}
        for position, row in enumerate(rows):
            if self._shard is None:
                self._shard = _Shard(self, self.n_shards)
            reason, thumbnail = refused.get(position, (None, None))
            reason = reason or self._shard.accept(row, decoded, place[position])
            if reason:
                self._shard.refuse(row, reason, thumbnail)
                self.n_refused += 1
            else:
                self.n_accepted += 1
            self._shard.next_index = self.next_index = row["index"] + 1
            if self._shard.n == self._shard.capacity:
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

    def take(self, blocks: Iterable[tuple[Sequence[Mapping[str, Any]], Decoded]], doing: str) -> Iterator[Progress]:
        """`keep` decoded blocks, one after another."""
        assert self.plan is not None
        for rows, decoded in blocks:
            self.keep(rows, decoded)
            metrics = {"accepted": float(self.n_accepted), "quarantined": float(self.n_refused)}
            yield Progress(self.next_index, self.plan["n"], doing, metrics)

    def end_images(self) -> Iterator[Progress]:
        """Every image of the listing is decided: finish the last shard.

        Raises
        ------
        IngestError
            None could be used.
        """
        if self._shard is not None:
            self._finish_shard()
        self._await_writing()
        if self.n_accepted == 0:
            raise self.nothing_left()
        assert self.plan is not None
        yield Progress(self.plan["n"], self.plan["n"], "joining")

    # ---------------------------------------------------------------------------------------------------- last step
    def finish(self, name: str, cut_out_extent: int | None = None) -> None:
        """Join the parts into a survey; ``survey.toml`` is written last.

        Parameters
        ----------
        cut_out_extent
            For cut-outs: side of the cut, px; the listing then has x and y.
        """
        assert self.plan is not None
        n, plan = self.n_accepted, self.plan
        sheet = self._writer.submit(write_contact_sheet, self.path, n, self.crop, plan["bands"], self.per_shard)
        joined = self._gather(cut_out_extent)
        grouped = joined.grouped(cut_out_extent)
        group_ids = joined.subject_ids[grouped.first]
        half = groups.half_of(group_ids)
        half[~grouped.is_in_a_half] = None
        self._join_subjects(joined.subject_ids, group_ids, half)
        self._join_refused()
        artifacts.write_array(self.path / layout.DIGESTS, joined.digests)
        image_folder = self.path / layout.IMAGES
        artifacts.write_json(image_folder / "zarr.json", zarr_metadata(n, self.crop))
        whole = self.crop.mode == "resize"
        info = SurveyInfo(
            survey_id=self.begun["survey_id"],
            name=name,
            size=self.crop.size,
            bands=tuple(plan["bands"]),
            crop=self.crop.mode,
            extent=None if whole or "extent_arcsec" in plan else (self.crop.extent or self.crop.size),
            created_at=self.begun["created_at"],
            notes=(*plan.get("notes", ()), *grouped.notes),
            stretch=Stretch.from_dict(plan.get("stretch") or {}),
            originals=self.originals,
            pixel_scale_arcsec=plan.get("pixel_scale_arcsec") or joined.pixel_scale,
            extent_arcsec=plan.get("extent_arcsec"),
            reading=_reading_of(plan),
        )
        write_report(self.path, name, n)
        sheet.result()
        info.write(self.path / layout.SURVEY_TOML)

    def totals(self) -> dict[str, Any]:
        """n_subjects, n_quarantined, n_groups, n_tune, n_test, contact_sheet, report, notes, info.

        Of the pixel scale, n_scaled (subjects that have one) and is_one_scale (whether theirs agree).
        """
        info = SurveyInfo.read(self.path / layout.SURVEY_TOML)
        columns = ["half", "duplicate_group", "pixel_scale_arcsec"]
        table = pq.read_table(self.path / layout.SUBJECTS, columns=columns)
        scales = table.column("pixel_scale_arcsec").drop_null().to_numpy()
        counts = {item["values"]: item["counts"] for item in table.column("half").value_counts().to_pylist()}
        return {
            "n_subjects": len(table),
            "n_quarantined": pq.ParquetFile(self.path / layout.QUARANTINE).metadata.num_rows,
            "n_groups": len(table.column("duplicate_group").unique()),
            "n_scaled": len(scales),
            "is_one_scale": not len(scales) or bool(np.ptp(scales) <= _SAME_SCALE * scales.min()),
            "n_tune": counts.get("tune", 0),
            "n_test": counts.get("test", 0),
            "contact_sheet": str(self.path / layout.CONTACT_SHEET),
            "report": str(self.path / layout.REPORT),
            "notes": list(info.notes),
            "info": info,
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

    def _gather(self, cut_out_extent: int | None) -> "_Joined":
        """What must be known of all accepted images at once."""
        assert self.plan is not None
        aliases = {field.name: alias for alias, field in self._own_columns().items()}
        ids, digests, at, images, scales = [], [], [], [], [(np.inf, -np.inf)]
        for rows in self._rows():
            if self.plan["integer_ids"]:
                ids.append(rows.column("source_id").cast(pa.int64()).to_numpy())
            digest = rows.column("digest").combine_chunks()
            digests.append(
                np.frombuffer(digest.buffers()[1], np.uint64).reshape(-1, 2)[digest.offset :][: len(rows)].copy()
            )
            scale = rows.column("image_pixel_scale_arcsec").to_numpy()
            scales.append((scale.min(), scale.max()) if len(scale) else scales[0])  # NaN stays NaN
            sky = [_coordinate(rows, name).to_numpy() for name in ("ra", "dec")]
            if cut_out_extent is not None:
                sky += [rows.column(aliases[name]).to_numpy() for name in ("x", "y")]
                images.append(rows.column("image"))
            at.append(np.stack(sky))
        pixels = np.concatenate(digests)
        image = None
        if images:
            names = pa.chunked_array([chunk for column in images for chunk in column.chunks])
            image = names.combine_chunks().dictionary_encode().indices.to_numpy()
        low, high = (float(function([s[i] for s in scales])) for i, function in enumerate((np.min, np.max)))
        return _Joined(
            subject_ids=np.concatenate(ids) if ids else np.arange(len(pixels)),
            digests=pixels,
            places=np.concatenate(at, axis=1),
            image=image,
            pixel_scale=(low + high) / 2 if high - low <= _SAME_SCALE * low else None,
        )

    def _join_subjects(self, subject_ids: np.ndarray, group_ids: np.ndarray, half: np.ndarray) -> None:
        """Write subjects.parquet in row order."""
        schema = pa.schema([*SUBJECTS_SCHEMA, *self._own_columns().values()])
        made = {"subject_id": subject_ids, "duplicate_group": group_ids, "half": half}
        write_subjects(self.path, schema, self._subjects(schema, made))

    def _subjects(self, schema: pa.Schema, made: Mapping[str, np.ndarray]) -> Iterator[pa.RecordBatch]:
        """Rows of subjects.parquet for the accepted images; a column that is not known yet is null."""
        assert self.plan is not None
        own = self._own_columns()
        start = 0
        for table in self._rows():
            n = len(table)
            known = {name: table.column(name) for name in table.column_names if name not in own}
            known |= {name: _coordinate(table, name) for name in ("ra", "dec")}
            known |= {name: _present(table.column(f"image_{name}")) for name in PLACE_COLUMNS[2:]}
            if scale := self.plan.get("pixel_scale_arcsec"):
                known["pixel_scale_arcsec"] = known["pixel_scale_arcsec"].fill_null(scale)
            known |= {field.name: table.column(alias) for alias, field in own.items()}
            known |= {name: pa.array(values[start : start + n]) for name, values in made.items()}
            columns = [known[f.name].cast(f.type) if f.name in known else pa.nulls(n, f.type) for f in schema]
            yield from pa.table(columns, schema=schema).to_batches()
            start += n

    def _own_columns(self) -> dict[str, pa.Field]:
        """The user's columns: name in the listing (c0, c1, …: any name may be theirs) → field of subjects.parquet."""
        own = {}
        for field in pq.read_schema(self.parts / LISTING):
            if field.name not in LISTING_SCHEMA.names:
                metadata = dict(field.metadata)
                name = metadata.pop(b"name").decode()
                own[field.name] = pa.field(name, field.type, metadata=metadata)
        return own

    def _join_refused(self, n_before: int = 0) -> None:
        """Write quarantine.parquet: its first rows that are there already, then what is refused here."""
        before = _first_rows(self.path / layout.QUARANTINE, n_before)
        with (
            artifacts.replacing(self.path / layout.QUARANTINE) as file,
            pq.ParquetWriter(file, QUARANTINE_SCHEMA, compression="zstd") as writer,
        ):
            for table in before:
                writer.write_table(table)
            for number in range(self.n_shards):
                writer.write_table(pq.read_table(self.parts / f"{number:05d}.refused"))

    def nothing_left(self) -> IngestError:
        """The error for a listing of which no image could be used; what was begun is removed."""
        counts: dict[str, int] = {}
        first: dict[str, str] = {}
        for number in range(self.n_shards):
            refused = pq.read_table(self.parts / f"{number:05d}.refused", columns=["reason", "source_id"])
            for reason, source_id in zip(*(column.to_pylist() for column in refused.columns), strict=True):
                counts[reason] = counts.get(reason, 0) + 1
                first.setdefault(reason, source_id)
        reason, n = max(counts.items(), key=lambda item: item[1])
        listed = pq.read_table(self.parts / LISTING, columns=["paths"], filters=[("source_id", "==", first[reason])])
        paths = [path for path in listed.column(0)[0].as_py() if path]
        # of several bands the one that is not there, if one is not
        example = next((path for path in paths if not os.path.exists(path)), paths[0]) if paths else None  # noqa: PTH110
        self.plan = None
        said = f"none of {self.n_refused:,} images can become a subject; of {n:,} the reason is: {reason}"
        return IngestError(f"{said} (for example {' '.join(example.split())})" if example else said)  # one sentence


@dataclass(frozen=True, slots=True)
class _Joined:
    """What is known of all accepted images, in row order.

    Attributes
    ----------
    subject_ids
        int64 (n,).
    digests
        uint64 (n, 2).
    places
        float64 (2, n): RA and Dec, deg; for cut-outs (4, n): x and y, px, too.
    image
        Code of the image that each cut-out is from; None where they are no cut-outs.
    pixel_scale
        Arcsec per px where all agree, else None.
    """

    subject_ids: np.ndarray
    digests: np.ndarray
    places: np.ndarray
    image: np.ndarray | None
    pixel_scale: float | None

    def grouped(self, extent: int | None) -> groups.Groups:
        """Their duplicate groups; `extent` is that of cut-outs, px."""
        if self.image is None or extent is None:
            return groups.group(self.digests, self.places[0], self.places[1])
        ra, dec, x, y = self.places
        return groups.group_cut_outs(self.digests, x, y, self.image, extent, ra, dec, self.pixel_scale)


def _present(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Null where a float is missing."""
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))


def _coordinate(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """RA or Dec, deg, as the table gave it, else as the image's WCS has it."""
    return pc.coalesce(rows.column(name), _present(rows.column(f"image_{name}")))


def write_subjects(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """Write subjects.parquet of the survey folder `path`, a row group at a time, whole or not at all."""
    with (
        artifacts.replacing(path / layout.SUBJECTS) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for table in regrouped(batches, ROW_GROUP):
            writer.write_table(table)


#: Columns of a table that are the survey's own; all others are the user's.
TABLE_COLUMNS = ("source_id", "ra", "dec", "zooniverse_subject_id")


def create_table_only(
    path: Path, table: pa.Table, name: str, notes: Sequence[str] = (), survey_id: str | None = None
) -> SurveyInfo:
    """Make a survey without images, whole or not at all.

    Parameters
    ----------
    path
        The survey folder: absent or empty.
    table
        A row per subject: ``source_id`` (text, unique), ``ra``, ``dec`` (deg) and ``zooniverse_subject_id`` where they
        are known; every other column is the user's own, with `kind` and `unit` in its field's metadata.
    survey_id
        Where it is known already; None makes one.

    Raises
    ------
    IngestError
        The folder is in use; no row; an id that is missing or there twice.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise IngestError(f"{path} is there already; create the survey in a folder of its own")
    ids = table.column("source_id").cast(pa.string()).combine_chunks()
    if len(ids) == 0:
        raise IngestError("the table has no row; a survey needs one subject at least")
    if ids.null_count:
        raise IngestError(f"the table has {ids.null_count:,} rows without an id; every subject needs one")
    if len(pc.unique(ids)) != len(ids):
        counted = ids.value_counts()
        twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))[0].as_py()
        raise IngestError(f'the table has the id "{twice}" twice; ids must be unique')
    n = len(ids)
    subject_ids = integers_of(ids)
    subject_ids = np.arange(n) if subject_ids is None else subject_ids
    known: dict[str, Any] = {"source_id": ids, "subject_id": pa.array(subject_ids)}
    known |= {name: table.column(name) for name in TABLE_COLUMNS[1:] if name in table.column_names}
    ra, dec = (known[k].cast(pa.float64()).to_numpy() if k in known else np.full(n, np.nan) for k in ("ra", "dec"))
    group_ids = subject_ids[groups.connected(n, groups.sky_pairs(ra, dec))]
    known |= {"duplicate_group": pa.array(group_ids), "half": pa.array(groups.half_of(group_ids), pa.string())}
    ours, taken = {field.name for field in SUBJECTS_SCHEMA}, set(known)
    fields = list(SUBJECTS_SCHEMA)
    arrays = [known[f.name].cast(f.type) if f.name in known else pa.nulls(n, f.type) for f in fields]
    for field in table.schema:
        if field.name not in TABLE_COLUMNS:
            own = field.name
            while own.lower() in ours or own in taken:
                own += "_given"
            taken.add(own)
            fields.append(field.with_name(own))
            arrays.append(table.column(field.name))
    info = SurveyInfo(
        survey_id=survey_id or str(uuid.uuid4()),
        name=name,
        size=0,
        bands=(),
        crop="none",
        extent=None,
        created_at=artifacts.now(),
        notes=tuple(notes),
        originals="none",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with artifacts.replacing_folder(path) as working:
        with artifacts.replacing(working / layout.SUBJECTS) as file:
            pq.write_table(pa.table(arrays, pa.schema(fields)), file, compression="zstd", row_group_size=ROW_GROUP)
        artifacts.write_table(working / layout.QUARANTINE, QUARANTINE_SCHEMA.empty_table())
        info.write(working / layout.SURVEY_TOML)
    return info


def integers_of(ids: pa.Array) -> np.ndarray | None:
    """Ids as the integers they are, int64; None where one is not an integer from 0 to 2⁶³ − 1 as usually written."""
    if not pc.all(pc.match_substring_regex(ids, "^(0|[1-9][0-9]{0,18})$")).as_py():
        return None
    try:
        return np.asarray(ids.cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid:  # 2⁶³ and more
        return None


def _first_rows(path: Path, n: int) -> Iterator[pa.Table]:
    """The first `n` rows of a Parquet file, some at a time; the file is read while another takes its name."""
    if n:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                yield pa.Table.from_batches([batch.slice(0, n)])
                n -= min(n, len(batch))


def _reading_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What `create` was told of how files are read: a pixel scale that was told and not found is part of it."""
    told = {"pixel_scale": plan["pixel_scale_arcsec"]} if plan.get("pixel_scale_arcsec") else {}
    return {**(plan.get("reading") or {}), **told}


def kept(path: Path) -> tuple[int, int] | None:
    """Images that a `Build` of the folder need not read again, and of how many; None where it is not begun."""
    parts = path / layout.PARTS
    try:
        n: int = json.loads((parts / PLAN_JSON).read_bytes())["n"]
    except FileNotFoundError:
        return None
    whole = sorted(parts.glob("[0-9]*.parquet"))
    return (int(pq.read_schema(whole[-1]).metadata[b"next_index"]) if whole else 0), n


def _finished(path: Path) -> IngestError:
    """The error for `create` where there is a survey."""
    return IngestError(
        f"{path} is a survey already; `voorwerp add {path} SOURCE` puts more into it, and a new one goes into another "
        "folder"
    )


def differing(before: Mapping[str, Any], command: Mapping[str, Any]) -> str:
    """What tells two commands apart, in words."""
    names = sorted(k for k in before.keys() | command.keys() if before.get(k) != command.get(k))
    return f"different {' and '.join(names)}"


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


def write_contact_sheet(path: Path, n: int, crop: Crop, bands: Sequence[str], per_shard: int) -> None:
    """Write ``contact_sheet.png``: 25 crops at even distances through the survey, as the network sees them."""
    shown = list(rgb_of(bands))
    rows = np.unique(np.linspace(0, n - 1, 25).round().astype(int))
    side, gap = 128, 4
    columns = min(5, len(rows))
    height = -(-len(rows) // columns)
    sheet = Image.new("RGB", (gap + columns * (side + gap), gap + height * (side + gap)), (40, 40, 40))
    image_bytes = crop.size**2 * crop.n_bands
    for place, row in enumerate(rows):
        shard, within = divmod(int(row), per_shard)
        with (path / layout.IMAGES / "c" / str(shard) / "0" / "0" / "0").open("rb") as file:
            file.seek(within * image_bytes)
            pixels = np.frombuffer(file.read(image_bytes), np.uint8).reshape(crop.size, crop.size, crop.n_bands)
        tile = Image.fromarray(np.ascontiguousarray(pixels[:, :, shown]))
        tile = tile.resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(tile, (gap + place % columns * (side + gap), gap + place // columns * (side + gap)))
    with artifacts.replacing(path / layout.CONTACT_SHEET) as handle:
        sheet.save(handle, "PNG", compress_level=1)
