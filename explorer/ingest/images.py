"""Subjects from image files: folders, manifests (CSV, TSV, Parquet) that name them, stacks of many images in a file.

The work is done in three steps, each resumable: every image is listed (streamed, sorted, ids checked) and bands and
stretch of the survey are chosen, the images are decoded in blocks by `explorer.ingest.decoder` while one writer fills
shards, and the parts are joined into a survey by `explorer.ingest.build`.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer.errors import IngestError, UsageError, no_such_column
from explorer.ingest.build import LISTING, LISTING_SCHEMA, Build, connect, full_disk_said, regrouped, sql_path
from explorer.ingest.calibration import bands_and_picks, how_read, survey_wide
from explorer.ingest.catalogues import one, read_parquet, read_text, type_of
from explorer.ingest.decoder import ARRAY_SUFFIXES, FITS_SUFFIXES, Decoders, Item, Reading
from explorer.ingest.stacks import Stack, look
from explorer.survey import ROW_GROUP, SUBJECTS_SCHEMA
from models import artifacts
from models.images import MAX_BANDS, SUFFIXES, Crop, ImageError, Stretch
from models.progress import Progress

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
#: What a folder is searched for. Files of many images are named one by one.
IMAGE_SUFFIXES = (*SUFFIXES, *FITS_SUFFIXES, ".npy")
#: Names by which a manifest's column of paths is known when it is not told; with a band (path_g) for one file per band.
PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")
BLOCK = 32  # images handed to a process at once


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What `create` may be told.

    Attributes
    ----------
    size
        Side of the network's crop, px.
    crop, extent
        See `models.images.Crop`.
    extent_arcsec
        The extent on the sky, in place of `extent`; each image's pixel scale makes px of it.
    name
        The survey's name; None takes the folder's.
    path_column, id_column
        Columns of the manifest; None looks for a usual name, and takes file names as ids. With one file per band, the
        name of the path columns without the band (path: path_g, path_r).
    workers
        Decoding processes; None takes one per core. The survey is the same for any number.
    bands
        Names in channel order; ``name=PICK`` takes a plane (from 0) of a cube, or an HDU, by its name. () leaves it to
        the files.
    hdu, dataset
        See `explorer.ingest.decoder.Reading`.
    stretch
        How values become 0–1; what it leaves open is derived from a sample. None: see `explorer.ingest.calibration`.
    stretch_bands
        Bands that the values of `stretch` are of, where it is another survey's; () takes them in channel order.
    pixel_scale_arcsec
        arcsec per px of every image, whatever the files say.
    originals
        "keep" copies what people look at into the survey, "link" leaves it where it is.
    """

    size: int = 64
    crop: Literal["center", "resize"] = "center"
    extent: int | None = None
    name: str | None = None
    path_column: str | None = None
    id_column: str | None = None
    workers: int | None = None
    extent_arcsec: float | None = None
    bands: tuple[str, ...] = ()
    hdu: str | None = None
    dataset: str | None = None
    stretch: Stretch | None = None
    stretch_bands: tuple[str, ...] = ()
    pixel_scale_arcsec: float | None = None
    originals: Literal["keep", "link"] = "keep"

    def check(self) -> Crop:
        """The crop these options ask for (three bands, until the images are known).

        Raises
        ------
        UsageError
            A value outside what is possible, or an extent where the whole image is taken.
        """
        if not 8 <= self.size <= 1024:
            raise UsageError(f"a size of {self.size} px is not possible; choose 8 to 1,024")
        if self.crop not in ("center", "resize"):
            raise UsageError(f'there is no crop "{self.crop}"; there are center, resize')
        if (self.extent is not None or self.extent_arcsec is not None) and self.crop == "resize":
            raise UsageError("an extent is cut around the center; leave it out, or use the crop center")
        if self.extent is not None and self.extent_arcsec is not None:
            raise UsageError("an extent is in px or in arcsec; leave one of them out")
        if self.extent is not None and not 1 <= self.extent <= 65_535:
            raise UsageError(f"an extent of {self.extent} px is not possible; choose 1 to 65,535")
        for value, what in ((self.extent_arcsec, "an extent"), (self.pixel_scale_arcsec, "a pixel scale")):
            if value is not None and not 0 < value < 360_000:
                raise UsageError(f"{what} of {value:g} arcsec is not possible; it is above 0")
        if self.extent_arcsec and self.pixel_scale_arcsec and self.extent_arcsec > 65_535 * self.pixel_scale_arcsec:
            raise UsageError(f"an extent of {self.extent_arcsec:g} arcsec is more than 65,535 px; choose less")
        bands_and_picks(self.bands)
        return Crop(self.size, self.crop, self.extent)

    def reading(self) -> Reading:
        """How the files are read, as far as these options say it."""
        names, picks = bands_and_picks(self.bands)
        return Reading(self.hdu, self.dataset, names, picks, self.pixel_scale_arcsec, self.extent_arcsec)

    def told(self) -> dict[str, Any]:
        """JSON that tells one command from another."""
        told = {k: v for k, v in asdict(self).items() if k not in ("workers", "stretch_bands")}
        if self.stretch_bands:
            told["stretch_bands"] = list(self.stretch_bands)
        return {**told, "bands": list(self.bands), "stretch": self.stretch and self.stretch.to_dict()}


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
    command = {"sources": [str(p) for p in places], **options.told()}
    with full_disk_said(path), Build(path, command, crop, options.originals) as build:
        if not build.is_finished:
            with Decoders(crop, options.workers) as decoders:
                if build.plan is None:
                    yield Progress(0, 0, "listing images")
                    plan = list_images(build.parts, places, options, decoders)
                    listing, n, reading = build.parts / LISTING, plan["n"], options.reading()
                    yield Progress(0, 0, "looking at some of the images")
                    found = survey_wide(
                        decoders,
                        n,
                        lambda rows: listed_items(listing, rows),
                        crop,
                        reading,
                        options.stretch,
                        plan.pop("bands"),
                        options.stretch_bands,
                    )
                    build.write_plan({**plan, **found, "notes": [*plan["notes"], *found["notes"]]})
                assert build.plan is not None
                roots = [str(p) for p in places if p.is_dir()]
                build.crop, decoders.reading = how_read(build.plan, crop, options.originals, roots)
                decoders.crop = build.crop
                yield from build.take(decoders.decode(blocks(build.parts / LISTING, build.next_index)), "decoding")
            yield from build.end_images()
            build.finish(options.name or path.absolute().name)
        build.remove_parts()
    return build.totals()


def blocks(listing: Path, start: int) -> Iterator[tuple[list[dict[str, Any]], list[str | Item]]]:
    """Blocks of listed images from index `start` on: (rows, items)."""
    with pq.ParquetFile(listing) as file:
        first = 0
        for group in range(file.num_row_groups):
            n = file.metadata.row_group(group).num_rows
            if first + n > start:
                table = file.read_row_group(group, ["index", "source_id", "image", "paths", "member"])
                for offset in range(max(start - first, 0), n, BLOCK):
                    rows = table.slice(offset, BLOCK).to_pylist()
                    yield rows, [_item(row["paths"], row["member"]) for row in rows]
            first += n


def _item(paths: list[str], member: int | None) -> str | Item:
    return paths[0] if len(paths) == 1 and member is None else Item(tuple(paths), member)


def listed_items(listing: Path, rows: Sequence[int]) -> list[Item]:
    """The images at some places of the listing, rising."""
    items: list[Item] = []
    with pq.ParquetFile(listing) as file:
        first = 0
        for batch in file.iter_batches(ROW_GROUP, columns=["paths", "member"]):
            here = [i - first for i in rows if first <= i < first + len(batch)]
            items += [Item(tuple(row["paths"]), row["member"]) for row in batch.take(pa.array(here)).to_pylist()]
            first += len(batch)
    return items


# ---------------------------------------------------------------------------------------------------------- listing
@dataclass(frozen=True, slots=True)
class _Raw:
    """A source as listed: Parquet of `_RAW_SCHEMA` (a null id: none given), and the user's columns as c0, c1, …"""

    file: Path
    source: Path
    names: list[str]
    types: list[pa.DataType]
    is_text: bool  # CSV: types are still to be found
    has_ids: bool
    bands: tuple[str, ...] = ()  # one file for each; (): one file for all


def list_images(parts: Path, sources: list[Path], options: CreateOptions, decoders: Decoders) -> dict[str, Any]:
    """Write the listing of every image; returns the plan: n, integer_ids, notes, bands (where each has its own file).

    Raises
    ------
    UsageError, IngestError
        See `create`.
    """
    raws: list[_Raw] = []
    notes: list[str] = []
    loose: list[Path] = []
    for source in sources:
        file = parts / f"raw_{len(raws):05d}"
        if source.suffix.lower() in ARRAY_SUFFIXES and source.exists():
            stack = _list_stack(file, source, options, decoders, notes)
            if stack is None:
                loose.append(source)
            else:
                raws.append(stack)
        elif source.is_dir():
            raws.append(_list_files(file, source, ((str(source), name) for name in _images_below(source))))
        elif not source.exists():
            raise IngestError(f"{source} does not exist; name a folder, a manifest or images")
        elif source.name.lower().endswith(IMAGE_SUFFIXES):
            loose.append(source)
        elif source.suffix.lower() in MANIFEST_SUFFIXES:
            raws.append(_list_manifest(file, source, options, notes))
        else:
            raise IngestError(
                f"{source} is neither a folder, nor a manifest ({', '.join(MANIFEST_SUFFIXES)}), "
                f"nor an image ({', '.join(SUFFIXES)}, .fits …), nor a stack ({', '.join(ARRAY_SUFFIXES)})"
            )
    if loose:
        raws.append(_list_files(parts / f"raw_{len(raws):05d}", Path("/"), _told_apart(loose)))
    with connect(parts) as database:
        plan = _combine(database, parts, raws, notes)
    for raw in raws:
        raw.file.unlink()
    named = {raw.bands for raw in raws}
    if len(named) > 1:
        said = " and ".join(", ".join(bands) or "one file for all bands" for bands in sorted(named))
        raise IngestError(f"the sources have unlike bands: {said}; make a survey of each")
    return {**plan, "notes": notes, "bands": named.pop()}


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
                        if not entry.name.lower().endswith(ARRAY_SUFFIXES):
                            waiting.append(name)
                    elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                        yield name.encode("utf-8", "replace").decode()
        except OSError as error:
            raise IngestError(f"{folder / below} cannot be searched ({error.strerror})") from None


_RAW_SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("given", pa.string()),  # what the source calls the image
        ("folder", pa.string()),  # what paths are relative to
        ("id", pa.string()),
        ("paths", pa.list_(pa.string())),  # null: given is the path
        ("member", pa.int64()),
    ]
)


def _told_apart(files: list[Path]) -> Iterator[tuple[str, str]]:
    """Folder and name below it of each file: its own name, with its folder's or all where others have the same."""
    for depth in (1, 2):
        folders = [file.parents[min(depth, len(file.parents)) - 1] for file in files]
        names = [str(file.relative_to(folder)) for file, folder in zip(files, folders, strict=True)]
        if len(set(names)) == len(names):
            return zip(map(str, folders), names, strict=True)
    return ((str(file.parent), str(file)) for file in files)


def _list_files(file: Path, source: Path, places: Iterator[tuple[str, str]]) -> _Raw:
    """List single files, given as folder and name below it."""
    with pq.ParquetWriter(file, _RAW_SCHEMA) as writer:
        held: list[tuple[str, str]] = []

        def write() -> None:
            n = len(held)
            folders, names = zip(*held, strict=True)
            known = {"given": pa.array(names), "folder": pa.array(folders)}
            columns = [known.get(field.name, pa.nulls(n, field.type)) for field in _RAW_SCHEMA]
            writer.write_table(pa.table(columns, schema=_RAW_SCHEMA))
            held.clear()

        for place in places:
            held.append(place)
            if len(held) == 4096:
                write()
        if held:
            write()
    return _Raw(file, source, [], [], False, False)


def _list_manifest(file: Path, manifest: Path, options: CreateOptions, notes: list[str]) -> _Raw:
    is_text = manifest.suffix.lower() != ".parquet"
    names, batches = read_text(manifest) if is_text else read_parquet(manifest, notes)
    paths = _path_columns(manifest, names, options)
    if options.id_column is not None and options.id_column not in names:
        raise no_such_column(options.id_column, str(manifest), names)
    own = [name for name in names if name not in (*paths.values(), options.id_column)]
    writer: pq.ParquetWriter | None = None
    types: list[pa.DataType] = []
    n = 0
    try:
        for batch in batches:
            ids = pa.nulls(len(batch), pa.string())
            if options.id_column is not None:
                ids = batch.column(options.id_column)
                if pa.types.is_floating(ids.type):
                    raise IngestError(_loses_digits(options.id_column, manifest, ids.type))
                ids = ids.cast(pa.string())
            files = [batch.column(column).cast(pa.string()) for column in paths.values()]
            columns = [pa.array(np.arange(n, n + len(batch))), pc.coalesce(*files)]
            columns += [pa.array([str(manifest.parent)] * len(batch), pa.string()), ids]
            columns += [pa.nulls(len(batch), pa.list_(pa.string())) if len(files) == 1 else _in_rows(files)]
            columns += [pa.nulls(len(batch), pa.int64()), *(batch.column(name) for name in own)]
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
    bands = tuple(paths) if len(paths) > 1 else ()
    return _Raw(file, manifest, own, types, is_text, options.id_column is not None, bands)


def _in_rows(columns: list[pa.Array]) -> pa.ListArray:
    """Several columns of text as one of lists."""
    n, k = len(columns[0]), len(columns)
    flat = pa.concat_arrays(columns).take(pa.array(np.arange(n * k).reshape(k, n).T.ravel()))
    return pa.ListArray.from_arrays(pa.array(np.arange(0, n * k + 1, k), pa.int32()), flat)


def _list_stack(file: Path, source: Path, options: CreateOptions, decoders: Decoders, notes: list[str]) -> _Raw | None:
    """List the images of a file of arrays; None where it is one image."""
    names, picks = bands_and_picks(options.bands)
    try:
        stack: Stack = decoders.call(look, str(source), options.dataset, names, picks)
    except ImageError as error:
        raise IngestError(f"{source} {error}") from None
    except OSError as error:
        raise IngestError(f"{source} cannot be read ({error.strerror or error})") from None
    notes.append(stack.note)
    if stack.n is None:
        return None
    columns = {name: pa.array(values) for name, values in stack.columns.items()}
    ids: pa.Array | None = None
    if options.id_column is not None:
        if options.id_column not in columns:
            raise no_such_column(options.id_column, str(source), columns)
        ids = columns.pop(options.id_column)
        if pa.types.is_floating(ids.type):
            raise IngestError(_loses_digits(options.id_column, source, ids.type))
    schema = pa.schema([*_RAW_SCHEMA, *((f"c{i}", column.type) for i, column in enumerate(columns.values()))])
    digits = len(str(stack.n - 1))
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, stack.n, ROW_GROUP):
            here = np.arange(start, min(start + ROW_GROUP, stack.n))
            n = len(here)
            given = pa.array([f"{source.name}[{i}]" for i in here])
            named = pa.array([f"{source.stem}_{i:0{digits}d}" for i in here])
            known = [pa.array(here), given, pa.array([str(source.parent)] * n)]
            known += [named if ids is None else ids.slice(start, n).cast(pa.string())]
            known += [pa.array([[source.name]] * n), pa.array(here)]
            writer.write_table(pa.table([*known, *(c.slice(start, n) for c in columns.values())], schema=schema))
    types = [column.type for column in columns.values()]
    return _Raw(file, source, list(columns), types, False, True)


def _loses_digits(column: str, source: Path, kind: pa.DataType) -> str:
    said = f'column "{column}" of {source} holds {kind}'
    return f"{said}, which loses the last digits of long ids; write it as integer or text"


def _path_columns(manifest: Path, names: list[str], options: CreateOptions) -> dict[str, str]:
    """The columns of paths: band → column, in channel order; one without a band where a file has them all."""
    told = options.path_column
    if told is not None and told in names:
        return {"": told}
    bands, picks = bands_and_picks(options.bands)
    bases = (told,) if told is not None else PATH_COLUMNS
    found = [columns for base in bases if (columns := _band_columns(names, base, bands))]
    single = [] if told is not None else [name for name in names if name.lower() in PATH_COLUMNS]
    if len(found) == 1 and not single:
        if picks:
            raise UsageError(f"{manifest} has a file for each band; --bands then takes names only, without =")
        if len(found[0]) > MAX_BANDS:
            raise UsageError(f"{manifest} has paths of {len(found[0])} bands; choose up to {MAX_BANDS} with --bands")
        return found[0]
    if told is not None:
        raise no_such_column(told, str(manifest), names)
    if len(single) == 1 and not found:
        return {"": single[0]}
    likely = [*single, *(column for columns in found for column in columns.values())]
    said = f"columns {' and '.join(likely)} could be it" if likely else f"it has {', '.join(names)}"
    raise UsageError(f"{manifest} does not say which column holds the paths ({said}); name it with --path-column")


def _band_columns(names: list[str], base: str, bands: Sequence[str]) -> dict[str, str]:
    """Band → column of its paths, for columns named ``base_band``."""
    start = f"{base.lower()}_"
    found = {name[len(start) :]: name for name in names if name.lower().startswith(start) and len(name) > len(start)}
    found = {band: name for band, name in found.items() if name.lower() not in PATH_COLUMNS}
    if not bands:
        return found
    exact = {band.lower(): name for band, name in found.items()}
    return {band: exact[band.lower()] for band in bands} if all(band.lower() in exact for band in bands) else {}


def _combine(database: duckdb.DuckDBPyConnection, parts: Path, raws: list[_Raw], notes: list[str]) -> dict[str, Any]:
    """Join the sources' listings into one, in order, with unique ids and final types."""
    own = list(dict.fromkeys(name for raw in raws for name in raw.names))
    selects = []
    for i, raw in enumerate(raws):
        columns = []
        for k, name in enumerate(own):
            types = {str(r.types[r.names.index(name)]) for r in raws if name in r.names}
            have = f"c{raw.names.index(name)}" if name in raw.names else "NULL"
            columns.append(f"{have}{'::VARCHAR' if len(types) > 1 else ''} AS c{k}")
        listed = ", ".join([f"{i} AS source", *_RAW_SCHEMA.names, *columns])
        selects.append(f"SELECT {listed} FROM read_parquet({sql_path(raw.file)})")
    database.execute(f"CREATE TABLE listed AS {' UNION ALL '.join(selects)}")
    n = one(database, "SELECT count(*) FROM listed")
    if n == 0:
        where = " and ".join(str(raw.source) for raw in raws)
        said = f"{where} has no image ({', '.join(IMAGE_SUFFIXES)})"
        raise IngestError(f"{said}; stacks (.npz, .h5, .zarr) are named one by one")
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
        kind, sql, metadata = type_of(database, column, name, notes)
        lower = name.lower()
        if lower in ("ra", "dec") and lower not in seen and kind in (pa.int64(), pa.float64(), pa.float32()):
            seen.add(lower)
            known[lower] = _degrees(database, name, f"({sql})::DOUBLE", 360 if lower == "ra" else 90, notes)
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
    path = "CASE WHEN p LIKE '/%' THEN p WHEN p IS NULL THEN '' ELSE folder || '/' || p END"
    files = f"[{path} FOR p IN coalesce(paths, [given])] AS paths, member"
    query = f"SELECT id, coalesce(given, '') AS given, {files}, {select} FROM {listed} ORDER BY source, n, given"
    schema = pa.schema([*LISTING_SCHEMA, *fields])
    with artifacts.replacing(parts / LISTING) as file, pq.ParquetWriter(file, schema) as writer:
        start = 0
        for table in regrouped(database.sql(query).to_arrow_reader(ROW_GROUP), ROW_GROUP):
            arrays = [pa.array(np.arange(start, start + len(table))), *table.columns]
            writer.write_table(pa.table([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema))
            start += len(table)
    return {"n": n, "integer_ids": integer_ids}


def _degrees(database: duckdb.DuckDBPyConnection, name: str, angle: str, most: int, notes: list[str]) -> str:
    """SQL for RA (0 ≤ ra < 360) or Dec, deg, of the SQL `angle`; null, and counted in a note, beyond ±`most`."""
    inside = f"{angle} BETWEEN -{most} AND {most}"
    if n := one(database, f"SELECT count(*) FROM listed WHERE NOT isnan({angle}) AND NOT {inside}"):
        notes.append(f'{n:,} values of "{name}" are not between −{most} and {most} deg and were left out')
    if most == 360:
        angle = f"CASE WHEN {angle} >= 0 AND {angle} < 360 THEN {angle} ELSE ({angle} + 360) % 360 END"
    return f"CASE WHEN {inside} THEN {angle} END"


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
    suffix = "([.](fits|fit|fts)[.](gz|fz)|[.][^./]*)$"
    candidates = [f"regexp_replace({text}, '{suffix}', '', 'i')" for text in (name, "given")] + ["given"]
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
