"""Subjects from PNG, JPEG and TIFF files: folders, or manifests (CSV, TSV, Parquet) that name them.

The work is done in three steps, each resumable: every image is listed (streamed, sorted, ids checked), decoded in
blocks by `explorer.ingest.decoder` while one writer fills shards, and the parts are joined into a survey by
`explorer.ingest.build`.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.errors import IngestError, UsageError, no_such_column
from explorer.ingest.build import LISTING, LISTING_SCHEMA, Build, connect, full_disk_said, regrouped, sql_path
from explorer.ingest.catalogues import one, read_parquet, read_text, type_of
from explorer.ingest.decoder import Decoders
from explorer.survey import ROW_GROUP, SUBJECTS_SCHEMA
from models import artifacts
from models.images import SUFFIXES, Crop
from models.progress import Progress

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
#: Names by which a manifest's column of paths is known when it is not told.
PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")
BLOCK = 32  # images handed to a process at once
_PROBED = 64


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What `create` may be told.

    Attributes
    ----------
    size
        Side of the network's crop, px.
    crop, extent
        See `models.images.Crop`.
    name
        The survey's name; None takes the folder's.
    path_column, id_column
        Columns of the manifest; None looks for a usual name, and takes file names as ids.
    workers
        Decoding processes; None takes one per core. The survey is the same for any number.
    """

    size: int = 64
    crop: Literal["center", "resize"] = "center"
    extent: int | None = None
    name: str | None = None
    path_column: str | None = None
    id_column: str | None = None
    workers: int | None = None

    def check(self) -> Crop:
        """The crop these options ask for (three bands, until the images are known).

        Raises
        ------
        UsageError
            A size or extent outside what is possible, or an extent where the whole image is taken.
        """
        if not 8 <= self.size <= 1024:
            raise UsageError(f"a size of {self.size} px is not possible; choose 8 to 1,024")
        if self.crop not in ("center", "resize"):
            raise UsageError(f'there is no crop "{self.crop}"; there are center, resize')
        if self.extent is not None and self.crop == "resize":
            raise UsageError("an extent is cut around the center; leave it out, or use the crop center")
        if self.extent is not None and not 1 <= self.extent <= 65_535:
            raise UsageError(f"an extent of {self.extent} px is not possible; choose 1 to 65,535")
        return Crop(self.size, self.crop, self.extent)


def create(
    path: Path | str, sources: Sequence[Path | str], options: CreateOptions | None = None
) -> Generator[Progress, None, dict[str, Any]]:
    """Make a survey folder from image files. Run again after an interruption, it goes on where it was.

    Parameters
    ----------
    path
        The survey folder; absent, empty, or half made by the same call.
    sources
        Folders (searched through, sorted by path), manifests, or image files. Paths in a manifest are relative to it.

    Yields
    ------
    Progress
        In images.

    Returns
    -------
    dict
        See `explorer.ingest.build.Build.totals`.

    Raises
    ------
    UsageError
        An option that is not possible, or a manifest without the columns asked for.
    IngestError
        No image, ids that are there twice, a folder that is in use, a full disk.
    """
    options = options or CreateOptions()
    crop = options.check()
    path = Path(path)
    places = [Path(source).absolute() for source in sources]
    if not places:
        raise UsageError("there is nothing to create a survey from; name a folder, a manifest or images")
    told = {k: v for k, v in asdict(options).items() if k != "workers"}
    with full_disk_said(path), Build(path, {"sources": [str(p) for p in places], **told}, crop) as build:
        if not build.is_finished:
            with Decoders(crop, options.workers) as decoders:
                if build.plan is None:
                    yield Progress(0, 0, "listing images")
                    plan = _list(build.parts, places, options)
                    color = decoders.any_color(_probed(build.parts / LISTING, plan["n"]))
                    build.write_plan({**plan, "bands": ["r", "g", "b"] if color else ["grey"]})
                assert build.plan is not None
                n = build.plan["n"]
                build.crop = decoders.crop = replace(crop, n_bands=len(build.plan["bands"]))
                for block, decoded in decoders.decode(_blocks(build.parts / LISTING, build.next_index)):
                    build.keep(block, decoded)
                    metrics = {"accepted": float(build.n_accepted), "quarantined": float(build.n_refused)}
                    yield Progress(build.next_index, n, "decoding", metrics)
            build.end_images()
            if build.n_accepted == 0:
                raise build.nothing_left()
            yield Progress(n, n, "joining")
            build.finish(options.name or path.absolute().name)
        build.remove_parts()
    return build.totals()


def _blocks(listing: Path, start: int) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    """Blocks of listed images from index `start` on: (rows, paths)."""
    with pq.ParquetFile(listing) as file:
        first = 0
        for group in range(file.num_row_groups):
            n = file.metadata.row_group(group).num_rows
            if first + n > start:
                table = file.read_row_group(group, ["index", "source_id", "image", "paths", "member"])
                for offset in range(max(start - first, 0), n, BLOCK):
                    rows = table.slice(offset, BLOCK).to_pylist()
                    yield rows, [row["paths"][0] for row in rows]
            first += n


def _probed(listing: Path, n: int) -> list[str]:
    """Paths of up to 64 images at even distances: they tell whether the survey is in color."""
    wanted = set(np.linspace(0, n - 1, min(n, _PROBED)).round().astype(int).tolist())
    paths: list[str] = []
    with pq.ParquetFile(listing) as file:
        first = 0
        for batch in file.iter_batches(ROW_GROUP, columns=["paths"]):
            here = [i - first for i in sorted(wanted) if first <= i < first + len(batch)]
            paths += [found[0] for found in batch.column(0).take(pa.array(here, pa.int64())).to_pylist()]
            first += len(batch)
    return paths


# ---------------------------------------------------------------------------------------------------------- listing
@dataclass(frozen=True, slots=True)
class _Raw:
    """A source as listed: Parquet with n, given, folder, id (null: none given), and the user's columns as c0, c1, …"""

    file: Path
    source: Path
    names: list[str]
    types: list[pa.DataType]
    is_text: bool  # CSV: types are still to be found
    has_ids: bool


def _list(parts: Path, sources: list[Path], options: CreateOptions) -> dict[str, Any]:
    """Write the listing of every image; returns the plan: n, integer_ids, notes."""
    raws: list[_Raw] = []
    notes: list[str] = []
    loose: list[Path] = []
    for source in sources:
        file = parts / f"raw_{len(raws):05d}"
        if source.is_dir():
            raws.append(_list_files(file, source, _images_below(source)))
        elif not source.exists():
            raise IngestError(f"{source} does not exist; name a folder, a manifest or images")
        elif source.suffix.lower() in SUFFIXES:
            loose.append(source)
        elif source.suffix.lower() in MANIFEST_SUFFIXES:
            raws.append(_list_manifest(file, source, options, notes))
        else:
            raise IngestError(
                f"{source} is neither a folder, nor a manifest ({', '.join(MANIFEST_SUFFIXES)}), "
                f"nor an image ({', '.join(SUFFIXES)})"
            )
    if loose:
        raws.append(_list_files(parts / f"raw_{len(raws):05d}", Path("/"), (str(p)[1:] for p in loose)))
    with connect(parts) as database:
        plan = _combine(database, parts, raws)
    for raw in raws:
        raw.file.unlink()
    return {**plan, "notes": notes}


def _images_below(folder: Path) -> Iterator[str]:
    """Relative paths of the images below a folder, unsorted; hidden names and links to folders are left out."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    elif entry.name.lower().endswith(SUFFIXES):
                        yield name.encode("utf-8", "replace").decode()
        except OSError as error:
            raise IngestError(f"{folder / below} cannot be searched ({error.strerror})") from None


_RAW_SCHEMA = pa.schema([("n", pa.int64()), ("given", pa.string()), ("folder", pa.string()), ("id", pa.string())])


def _list_files(file: Path, folder: Path, names: Iterator[str]) -> _Raw:
    with pq.ParquetWriter(file, _RAW_SCHEMA) as writer:
        held: list[str] = []

        def write() -> None:
            n = len(held)
            columns = [pa.nulls(n, pa.int64()), pa.array(held), pa.array([str(folder)] * n), pa.nulls(n, pa.string())]
            writer.write_table(pa.table(columns, schema=_RAW_SCHEMA))
            held.clear()

        for name in names:
            held.append(name)
            if len(held) == 4096:
                write()
        if held:
            write()
    return _Raw(file, folder, [], [], False, False)


def _list_manifest(file: Path, manifest: Path, options: CreateOptions, notes: list[str]) -> _Raw:
    is_text = manifest.suffix.lower() != ".parquet"
    names, batches = read_text(manifest) if is_text else read_parquet(manifest, notes)
    path_column = _path_column(manifest, names, options.path_column)
    if options.id_column is not None and options.id_column not in names:
        raise no_such_column(options.id_column, str(manifest), names)
    own = [name for name in names if name not in (path_column, options.id_column)]
    writer: pq.ParquetWriter | None = None
    types: list[pa.DataType] = []
    n = 0
    try:
        for batch in batches:
            ids = pa.nulls(len(batch), pa.string())
            if options.id_column is not None:
                ids = batch.column(options.id_column)
                if pa.types.is_floating(ids.type):
                    raise IngestError(
                        f'column "{options.id_column}" of {manifest} holds {ids.type}, which loses the last digits '
                        "of long ids; write it as integer or text"
                    )
                ids = ids.cast(pa.string())
            columns = [pa.array(np.arange(n, n + len(batch))), batch.column(path_column).cast(pa.string())]
            columns += [pa.array([str(manifest.parent)] * len(batch), pa.string()), ids]
            columns += [batch.column(name) for name in own]
            table = pa.table(columns, names=[*_RAW_SCHEMA.names, *(f"c{i}" for i in range(len(own)))])
            if writer is None:
                types = [table.schema.field(f"c{i}").type for i in range(len(own))]
                writer = pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
            n += len(batch)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise IngestError(f"{manifest} cannot be read ({' '.join(str(error).split())})") from None
    finally:
        if writer is not None:
            writer.close()
    if n == 0:
        raise IngestError(f"{manifest} has no rows")
    return _Raw(file, manifest, own, types, is_text, options.id_column is not None)


def _path_column(manifest: Path, names: list[str], told: str | None) -> str:
    if told is not None:
        if told not in names:
            raise no_such_column(told, str(manifest), names)
        return told
    likely = [name for name in names if name.lower() in PATH_COLUMNS]
    if len(likely) != 1:
        found = f"columns {' and '.join(likely)} could be it" if likely else f"it has {', '.join(names)}"
        raise UsageError(f"{manifest} does not say which column holds the paths ({found}); name it with --path-column")
    return likely[0]


def _combine(database: duckdb.DuckDBPyConnection, parts: Path, raws: list[_Raw]) -> dict[str, Any]:
    """Join the sources' listings into one, in order, with unique ids and final types."""
    own = list(dict.fromkeys(name for raw in raws for name in raw.names))
    selects = []
    for i, raw in enumerate(raws):
        columns = []
        for k, name in enumerate(own):
            types = {str(r.types[r.names.index(name)]) for r in raws if name in r.names}
            have = f"c{raw.names.index(name)}" if name in raw.names else "NULL"
            columns.append(f"{have}{'::VARCHAR' if len(types) > 1 else ''} AS c{k}")
        listed = ", ".join([f"{i} AS source", "n", "given", "folder", "id", *columns])
        selects.append(f"SELECT {listed} FROM read_parquet({sql_path(raw.file)})")
    database.execute(f"CREATE TABLE listed AS {' UNION ALL '.join(selects)}")
    n = one(database, "SELECT count(*) FROM listed")
    if n == 0:
        raise IngestError(f"{' and '.join(str(r.source) for r in raws)} has no image ({', '.join(SUFFIXES)})")
    identifier = _identifier(database, raws)
    integers = "regexp_full_match(id, '0|[1-9][0-9]{0,18}') AND TRY_CAST(id AS BIGINT) IS NOT NULL"
    listed = f"(SELECT * REPLACE ({identifier} AS id) FROM listed)"
    integer_ids = bool(one(database, f"SELECT bool_and({integers}) FROM {listed}"))
    ours = {field.name for field in SUBJECTS_SCHEMA} | {"index", "paths", "member", "digest"}
    taken: set[str] = set()
    fields: list[pa.Field] = []
    values: dict[str, str] = {}
    known = {"ra": "NULL::DOUBLE", "dec": "NULL::DOUBLE", "zooniverse_subject_id": "NULL::BIGINT"}
    seen: set[str] = set()
    for k, name in enumerate(own):
        column = f"c{k}"
        kind, sql, metadata = type_of(database, column)
        lower = name.lower()
        if lower in ("ra", "dec") and lower not in seen and kind in (pa.int64(), pa.float64(), pa.float32()):
            low, high = (0, 360) if lower == "ra" else (-90, 90)
            seen.add(lower)
            known[lower] = f"CASE WHEN ({sql})::DOUBLE BETWEEN {low} AND {high} THEN ({sql})::DOUBLE END"
            continue
        if lower == "zooniverse_subject_id" and lower not in seen and kind == pa.int64():
            seen.add(lower)
            known[lower] = sql
            continue
        while name.lower() in ours or name in taken:  # u and U are two magnitudes, but half and Half one name to SQL
            name += "_given"
        taken.add(name)
        fields.append(pa.field(column, kind, metadata={**metadata, "name": name}))
        values[column] = sql
    select = ", ".join([f"{sql} AS {column}" for column, sql in {**known, **values}.items()])
    path = "CASE WHEN given LIKE '/%' THEN given WHEN given IS NULL THEN '' ELSE folder || '/' || given END"
    files = f"[{path}] AS paths, NULL::BIGINT AS member"
    query = f"SELECT id, coalesce(given, '') AS given, {files}, {select} FROM {listed} ORDER BY source, n, given"
    schema = pa.schema([*LISTING_SCHEMA, *fields])
    with artifacts.replacing(parts / LISTING) as file, pq.ParquetWriter(file, schema) as writer:
        start = 0
        for table in regrouped(database.sql(query).to_arrow_reader(ROW_GROUP), ROW_GROUP):
            arrays = [pa.array(np.arange(start, start + len(table))), *table.columns]
            writer.write_table(pa.table([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema))
            start += len(table)
    return {"n": n, "integer_ids": integer_ids}


def _identifier(database: duckdb.DuckDBPyConnection, raws: list[_Raw]) -> str:
    """SQL for the id: as given, else the shortest form of the path that tells all images apart.

    Raises
    ------
    IngestError
        An id is missing, or is there twice.
    """
    for i, raw in enumerate(raws):
        if (
            raw.has_ids
            and (missing := one(database, f"SELECT min(n) FROM listed WHERE source = {i} AND id IS NULL")) is not None
        ):
            raise IngestError(f"{raw.source} has no id in row {missing + 1:,}; every image needs one")
    name = "regexp_replace(given, '^.*/', '')"
    candidates = [f"regexp_replace({name}, '[.][^.]*$', '')", "regexp_replace(given, '[.][^./]*$', '')", "given"]
    candidates.append("folder || '/' || given")
    for candidate in ["NULL"] if all(raw.has_ids for raw in raws) else candidates:
        identifier = f"coalesce(id, {candidate}, '')"
        doubled = f"SELECT {identifier} AS name, min(n) AS a, max(n) AS b FROM listed GROUP BY 1 HAVING count(*) > 1"
        found = database.execute(f"{doubled} ORDER BY 2, 1 LIMIT 1").fetchall()
        if not found:
            return identifier
    twice, first, second = found[0]
    rows = f" (rows {first + 1:,} and {second + 1:,})" if first is not None and first != second else ""
    where = " and ".join(str(raw.source) for raw in raws)
    raise IngestError(f'{where} has the id "{twice}" twice{rows}; ids must be unique, so make them so and start again')
