"""Subjects from large images: at the places that a catalogue names, or of the sources that are found.

The network's crop is `extent` px around the place; what people look at is `CONTEXT` times as wide, at the image's
own resolution. Where the crop leaves the image, the median of the part inside is filled in and ``edge_fraction`` is
above 0; the wider cut ends at the image's edge.

Of FITS only the rows that a cut needs are read, so a mosaic may be larger than memory; other files are held whole.
Columns ``x`` and ``y``: see `explorer.ingest.mosaics`.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer.errors import IngestError, UsageError
from explorer.ingest.build import CHUNK, LISTING, LISTING_SCHEMA, Build, full_disk_said, integers_of
from explorer.ingest.calibration import how_read, survey_wide
from explorer.ingest.catalogues import notes_of, read_catalogue, sky_positions
from explorer.ingest.decoder import Decoded, Decoders, Described, Item, Reading, describe, is_fits
from explorer.ingest.detection import COLUMNS, detect
from explorer.ingest.images import CreateOptions
from explorer.ingest.mosaics import Mosaic, locate, look, sky_at
from explorer.ingest.tables import with_ids
from explorer.survey import SUBJECTS_SCHEMA
from models import artifacts
from models.images import CONTEXT, MAX_CONTEXT_PX, ImageError
from models.progress import Progress

#: The default extent of sources found: this many times the median semi-major axis, so that a usual one has sky around.
EXTENT_IN_SEMI_MAJORS = 14
#: Seconds that a whole mosaic, or every position of a catalogue, may take.
TIME_LIMIT_S = 600.0

_OURS = {field.name for field in SUBJECTS_SCHEMA} | {"index", "paths", "member", "digest", "x", "y"}


def create_cut_outs(
    path: Path | str,
    images: Sequence[Path | str],
    options: CreateOptions | None = None,
    catalogue: Path | str | None = None,
) -> Generator[Progress, None, dict[str, Any]]:
    """Make a survey folder from places in large images. Run again after an interruption, it goes on where it was.

    Parameters
    ----------
    path
        The survey folder; absent, empty, or half made by the same call.
    images
        Large images. Where `options` names as many bands, and each image has one, they are the bands of one mosaic;
        else each is a tile of the sky, and a place is cut from the tile whose edge is farthest.
    options
        The extent, where it is not told, is for a catalogue the size, and for sources found `EXTENT_IN_SEMI_MAJORS`
        times their median semi-major axis, rounded to even, at least 16 px. ``path_column`` does not apply.
    catalogue
        A table (see `explorer.ingest.catalogues`) with columns RA and Dec, or, for one mosaic, x and y. Its rows become
        subjects in their order, with all of its columns; rows outside of the images go to quarantine. None: sources
        are found.

    Yields
    ------
    Progress
        In places.

    Returns
    -------
    dict
        See `explorer.ingest.build.Build.totals`.

    Raises
    ------
    UsageError
        An option that is not possible, or a catalogue without positions.
    IngestError
        An image or a catalogue that cannot be read, no source or no place inside, a folder in use, a full disk.
    """
    options = options or CreateOptions()
    crop = options.check()
    path = Path(path)
    files = [Path(image).absolute() for image in images]
    table = None if catalogue is None else Path(catalogue).absolute()
    command = {"cut_outs": [str(p) for p in files], "catalogue": table and str(table), **options.told()}
    with full_disk_said(path), Build(path, command, crop, options.originals) as build:
        if not build.is_finished:
            with Decoders(crop, options.workers) as decoders:
                if build.plan is None:
                    yield Progress(0, 0, "finding sources" if table is None else "finding places")
                    build.write_plan(_planned(build.parts, files, table, options, decoders))
                assert build.plan is not None
                extent, mosaics = build.plan["extent"], build.plan["mosaics"]
                build.crop, decoders.reading = how_read(build.plan, replace(crop, extent=extent), options.originals)
                decoders.crop = build.crop
                blocks = decoders.decode(_blocks(build.parts / LISTING, build.next_index, mosaics))
                explained = ((rows, _with_reasons(rows, decoded)) for rows, decoded in blocks)
                yield from build.take(explained, "cutting out")
            yield from build.end_images()
            build.finish(options.name or path.absolute().name, cut_out_extent=extent)
        build.remove_parts()
    return build.totals()


# --------------------------------------------------------------------------------------------------------------- plan
@dataclass(frozen=True, slots=True)
class _Places:
    """What is to be cut, in the order of the survey.

    Attributes
    ----------
    source_id
        Text (n,).
    mosaic
        Place in the list of mosaics; -1 outside of all.
    x, y, ra, dec
        float64 (n,), px and deg; NaN where unknown.
    own
        Further columns, with ``kind`` and ``unit`` in their fields.
    notes
        What reports must say.
    """

    source_id: pa.Array
    mosaic: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    own: pa.Table
    notes: Sequence[str] = ()


def _planned(
    parts: Path, files: list[Path], catalogue: Path | None, options: CreateOptions, decoders: Decoders
) -> dict[str, Any]:
    """Write the listing of every place; returns the plan: as for images, and extent (px) and mosaics.

    ``mosaics``: first path → height (px) where y goes up, and context (px).
    """
    reading = options.reading()
    mosaics = _mosaics(files, reading, decoders)
    scales = [scale for m in mosaics if (scale := options.pixel_scale_arcsec or m.pixel_scale)]
    if options.extent_arcsec and len(scales) < len(mosaics):
        raise UsageError("an extent in arcsec needs a pixel scale, and the image says none; give it with --pixel-scale")
    extent = round(options.extent_arcsec / float(np.median(scales))) if options.extent_arcsec else options.extent
    if catalogue is None:
        places, usual = _found(mosaics, reading, decoders)
    else:
        places, usual = _listed(catalogue, mosaics, reading, decoders, options.id_column), options.size
    extent = max(1, extent or usual)
    _write_listing(parts / LISTING, places, mosaics, "" if catalogue is None else catalogue.name)
    inside = np.flatnonzero(places.mosaic >= 0)
    if len(inside) == 0:
        where = " or ".join(str(file) for file in files[:3])
        raise IngestError(f"none of {len(places.mosaic):,} positions of {catalogue} lies in {where}; are they degrees?")

    def items(numbers: Sequence[int]) -> list[Item]:
        rows = inside[list(numbers)]
        chosen = [mosaics[k] for k in places.mosaic[rows]]
        where = zip(chosen, places.x[rows].tolist(), places.y[rows].tolist(), strict=True)
        return [Item(mosaic.paths, None, x, mosaic.from_top(y)) for mosaic, x, y in where]

    crop = replace(options.check(), extent=extent)
    bands = reading.bands if len(mosaics[0].paths) > 1 else ()
    plan = survey_wide(decoders, len(inside), items, crop, reading, options.stretch, bands, options.stretch_bands)
    contexts = [_context(extent if not options.extent_arcsec else round(options.extent_arcsec / s)) for s in scales]
    contexts += [_context(extent)] * (len(mosaics) - len(scales))
    return {
        **plan,
        "reading": {**plan["reading"], "is_cut_out": True},
        "n": len(places.mosaic),
        "integer_ids": catalogue is not None and integers_of(places.source_id) is not None,
        "extent": extent,
        "mosaics": {
            m.paths[0]: {"height": m.height if is_fits(m.paths) else None, "context": context}
            for m, context in zip(mosaics, contexts, strict=True)
        },
        "notes": [*places.notes, *plan["notes"]],
    }


def _context(extent: int) -> int:
    """Side of the cut that people look at, px."""
    return max(extent, min(CONTEXT * extent, MAX_CONTEXT_PX))


def _mosaics(files: list[Path], reading: Reading, decoders: Decoders) -> list[Mosaic]:
    """The images as mosaics: one of several bands, or tiles of the sky."""
    paths = [str(file) for file in files]
    if len(files) > 1 and len(reading.bands) == len(files) and not reading.picks:
        first: Described = _asked(decoders, files[0], describe, Item((paths[0],)), replace(reading, bands=()))
        if first.n_bands == 1:
            return [_asked(decoders, files[0], look, tuple(paths), reading)]
    if len({file.stem for file in files}) != len(files):
        raise UsageError("two of the images have the same name; the names of their sources would be the same, too")
    return [_asked(decoders, file, look, (str(file),), reading) for file in files]


def _asked(decoders: Decoders, image: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a child process; its failure as a sentence about the image."""
    try:
        return decoders.call(function, *arguments, seconds=TIME_LIMIT_S)
    except ImageError as error:
        raise IngestError(f"{image} cannot be cut out: {error}") from None


def _found(mosaics: list[Mosaic], reading: Reading, decoders: Decoders) -> tuple[_Places, int]:
    """Every source found in the mosaics, and the extent that suits them, px."""
    found = [_asked(decoders, Path(m.paths[0]), detect, m.paths, reading) for m in mosaics]
    counts = [len(columns["x"]) for columns in found]
    sources = {name: np.concatenate([columns[name] for columns in found]) for name in COLUMNS}
    names = [f"{Path(m.paths[0]).stem}_{i:05d}" for m, count in zip(mosaics, counts, strict=True) for i in range(count)]
    own = [name for name in COLUMNS if name not in ("x", "y", "ra", "dec")]
    fields = [pa.field(name, pa.float64(), metadata=_number(COLUMNS[name])) for name in own]
    table = pa.table([pa.array(sources[name]) for name in own], schema=pa.schema(fields))
    extent = max(16, 2 * round(EXTENT_IN_SEMI_MAJORS * float(np.median(sources["semi_major"])) / 2))
    mosaic = np.repeat(np.arange(len(mosaics)), counts)
    x, y, ra, dec = (sources[name] for name in ("x", "y", "ra", "dec"))
    return _Places(pa.array(names, pa.string()), mosaic, x, y, ra, dec, table), extent


def _listed(
    catalogue: Path, mosaics: list[Mosaic], reading: Reading, decoders: Decoders, id_column: str | None
) -> _Places:
    """Every row of a catalogue, and where it lies in the mosaics."""
    table = read_catalogue(catalogue, as_text=[id_column] if id_column else [])
    notes = notes_of(table)
    if id_column is None:
        digits = max(5, len(str(len(table) - 1)))
        ids = pa.array([f"{catalogue.stem}_{i:0{digits}d}" for i in range(len(table))])
    else:
        ids = table.column(id_column).combine_chunks()
        table = table.drop_columns([id_column])
        if ids.null_count:
            raise IngestError(f'{catalogue} has {ids.null_count:,} rows without an id in its column "{id_column}"')
        if len(pc.unique(ids)) != len(ids):
            counted = ids.value_counts()
            twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))[0]
            raise IngestError(f'{catalogue} has the id "{twice}" twice; ids must be unique')
    in_pixels = _pixel_columns(table)
    try:
        sky_positions(table)
        has_sky = True
    except UsageError:
        if in_pixels is None:
            raise
        has_sky = False
    placed = with_ids(table, ids)
    ra, dec = (np.array(placed.column(name).to_numpy(), np.float64) for name in ("ra", "dec"))
    if in_pixels is not None and len(mosaics) == 1 and not (has_sky and mosaics[0].has_sky):
        x, y = (np.array(table.column(name).cast(pa.float64()).to_numpy(), np.float64) for name in in_pixels)
        placed = placed.drop_columns(list(in_pixels))
        mosaic = np.where(_margin(mosaics[0], x, y) >= 0, 0, -1)
        if not has_sky and mosaics[0].has_sky:
            inside = mosaic >= 0
            paths = mosaics[0].paths
            ra[inside], dec[inside] = _asked(decoders, Path(paths[0]), sky_at, paths, reading, x[inside], y[inside])
    else:
        if not has_sky:
            raise UsageError(f"{catalogue} gives x and y, which name a place in one mosaic, not in {len(mosaics)}")
        x, y, mosaic = _on_sky(mosaics, reading, decoders, ra, dec)
    own = placed.drop_columns(["source_id", "ra", "dec"])
    return _Places(ids, mosaic, x, y, ra, dec, own, notes)


def _pixel_columns(table: pa.Table) -> tuple[str, str] | None:
    """Names of the columns of numbers x and y."""
    lower = {name.lower(): name for name in reversed(table.column_names)}
    names = tuple(lower[name] for name in ("x", "y") if name in lower)
    kinds = [table.schema.field(name).type for name in names]
    are_numbers = all(pa.types.is_floating(kind) or pa.types.is_integer(kind) for kind in kinds)
    return (names[0], names[1]) if len(names) == 2 and are_numbers else None


def _margin(mosaic: Mosaic, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """px from a place to the nearest edge; below 0 outside, -inf where the place is unknown."""
    nearest = np.minimum(np.minimum(x + 0.5, mosaic.width - 0.5 - x), np.minimum(y + 0.5, mosaic.height - 0.5 - y))
    return np.where(np.isfinite(nearest), nearest, -np.inf)


def _on_sky(
    mosaics: list[Mosaic], reading: Reading, decoders: Decoders, ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y (px) of positions, and the mosaic each lies in: the one whose edge is farthest; -1 outside of all."""
    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    mosaic, margin = np.full(len(ra), -1), np.zeros(len(ra))
    for k, tile in enumerate(mosaics):
        if not tile.has_sky:
            raise IngestError(
                f"{tile.paths[0]} has no WCS that solves, so RA and Dec cannot be found in it; give the catalogue "
                "columns x and y (px)"
            )
        here_x, here_y = _asked(decoders, Path(tile.paths[0]), locate, tile.paths, reading, ra, dec)
        here = _margin(tile, here_x, here_y)
        is_better = here >= margin if k == 0 else here > margin
        x[is_better], y[is_better], mosaic[is_better] = here_x[is_better], here_y[is_better], k
        margin[is_better] = here[is_better]
    return x, y, mosaic


def _number(unit: str) -> dict[str, str]:
    """Metadata of a column of numbers."""
    return {"kind": "number", **({"unit": unit} if unit else {})}


def _write_listing(file: Path, places: _Places, mosaics: list[Mosaic], catalogue: str) -> None:
    n = len(places.mosaic)
    files = pa.array([list(m.paths) for m in mosaics] + [[]], pa.list_(pa.string()))
    names = pa.array([Path(m.paths[0]).name for m in mosaics] + [catalogue])
    which = pa.array(np.where(places.mosaic < 0, len(mosaics), places.mosaic))
    known: dict[str, Any] = {
        "index": pa.array(np.arange(n)),
        "source_id": places.source_id,
        "image": names.take(which),
        "paths": files.take(which),
        "ra": pa.array(places.ra, from_pandas=True),
        "dec": pa.array(places.dec, from_pandas=True),
    }
    own = [
        (pa.field(name, pa.float64(), metadata=_number("px")), pa.array(values, from_pandas=True))
        for name, values in (("x", places.x), ("y", places.y))
    ]
    taken = {"x", "y"}
    for field, values in zip(places.own.schema, places.own.columns, strict=True):
        if field.name.lower() == "zooniverse_subject_id" and field.type == pa.int64():
            known["zooniverse_subject_id"] = values
            continue
        name = field.name
        while name.lower() in _OURS or name in taken:
            name += "_given"
        taken.add(name)
        own.append((field.with_name(name), values))
    arrays = [known[f.name] if f.name in known else pa.nulls(n, f.type) for f in LISTING_SCHEMA]
    fields = list(LISTING_SCHEMA)
    for k, (field, values) in enumerate(own):
        fields.append(pa.field(f"c{k}", field.type, metadata={**(field.metadata or {}), "name": field.name}))
        arrays.append(values)
    artifacts.write_table(file, pa.table(arrays, schema=pa.schema(fields)))


# ------------------------------------------------------------------------------------------------------------- images
def _blocks(
    listing: Path, start: int, mosaics: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[list[dict[str, Any]], list[Item]]]:
    """Blocks of listed places from index `start` on; rows with x, y and context as in `Item`."""
    with pq.ParquetFile(listing) as file:
        alias = {f.metadata[b"name"]: f.name for f in file.schema_arrow if f.metadata and b"name" in f.metadata}
        x, y = alias[b"x"], alias[b"y"]
        columns = ["index", "source_id", "image", "paths", "member", "ra", "dec", x, y]
        for batch in file.iter_batches(CHUNK, columns=columns):
            rows = [row for row in batch.to_pylist() if row["index"] >= start]
            for row in rows:
                row["x"], row["y"] = row.pop(x), row.pop(y)
                if row["paths"]:
                    mosaic = mosaics[row["paths"][0]]
                    row["context"] = mosaic["context"]
                    if mosaic["height"] is not None:
                        row["y"] = mosaic["height"] - 1 - row["y"]
            if rows:
                yield rows, [Item(tuple(r["paths"]), None, r["x"], r["y"], r.get("context")) for r in rows]


def _with_reasons(rows: list[dict[str, Any]], decoded: Decoded) -> Decoded:
    """The same with a reason for rows that were in no image."""
    bad = []
    for position, reason, thumbnail in decoded.bad:
        row = rows[position]
        if not row["paths"]:
            has_place = None not in (row["ra"], row["dec"]) or None not in (row["x"], row["y"])
            reason = "lies outside of the images" if has_place else "has no position"
        bad.append((position, reason, thumbnail))
    return replace(decoded, bad=bad)
