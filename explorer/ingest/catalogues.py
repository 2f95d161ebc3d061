"""Tables that others made: CSV, TSV, Parquet, FITS, VOTable, ECSV, npz, as one Arrow table with units.

Every format comes out alike: integers as int64, floats, booleans, text; ``kind`` and ``unit`` in each field's metadata.
Text becomes numbers where all of it reads so, and integers beyond 2⁵³ are ids, which no step turns into floats.

FITS, VOTable, ECSV and npz are parsed in a child process with limits on memory and time, which fetches nothing from
elsewhere. CSV and Parquet stream through DuckDB, which spills to disk, and FITS is memory-mapped; VOTable and ECSV are
held whole while they are parsed.
"""

import contextlib
import csv
import difflib
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from explorer.errors import IngestError, UsageError, no_such_column
from explorer.ingest.build import connect
from explorer.ingest.decoder import Decoders
from explorer.survey import ROW_GROUP
from models.images import Crop, ImageError

#: Suffix of a table → how it is read: here, or by which of astropy's formats in the child.
FORMATS = {
    ".csv": "text",
    ".tsv": "text",
    ".parquet": "parquet",
    ".fits": "fits",
    ".fit": "fits",
    ".fits.gz": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".ecsv": "ascii.ecsv",
    ".npz": "npz",
}
#: A text column with at most this many values, each there twice on average, is a category.
CATEGORIES = 100
#: Seconds that the parsing of one table may take.
TIME_LIMIT_S = 600.0

#: Names of right ascension and declination, in lower case, the likeliest first.
SKY_COLUMNS = (
    ("ra", "dec"),
    ("ra_deg", "dec_deg"),
    ("radeg", "decdeg"),
    ("raj2000", "dej2000"),
    ("_raj2000", "_dej2000"),
    ("ra_icrs", "de_icrs"),
    ("ra_icrs", "dec_icrs"),
    ("alpha_j2000", "delta_j2000"),
    ("alphawin_j2000", "deltawin_j2000"),
    ("right_ascension", "declination"),
    ("ra", "de"),
)

_EXACT = 2**53
#: What tables have in the place of a number that is missing, in lower case.
MISSING = ("na", "n/a", "nan", "null", "none", "-", "--")


def read_catalogue(path: Path | str, as_text: Sequence[str] = (), needed: bool = True) -> pa.Table:
    """A table from a file, its format told by the suffix.

    Parameters
    ----------
    as_text
        Columns that stay text as they are written, whatever they look like: ids that something is matched by.
    needed
        Whether the columns of `as_text` must be there.

    Returns
    -------
    pyarrow.Table
        Columns int64, float32, float64, bool or string. Field metadata: ``kind`` ("number", "category", "text" or
        "id") and ``unit`` where the file has one. `notes_of` has a sentence for each column that was left out.

    Raises
    ------
    UsageError
        A column of `as_text` that is not there; the message offers the near miss.
    IngestError
        No such file, an unknown suffix, a file that cannot be read, no rows, or floats where exact ids are needed.
    """
    path = Path(path)
    name = path.name.lower()
    how = next((how for suffix, how in FORMATS.items() if name.endswith(suffix)), None)
    if not path.is_file():
        raise IngestError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, not a table")
    if how is None:
        raise IngestError(f"{path} is no table that can be read; write it as {', '.join(FORMATS)}")
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="voorwerp-") as scratch:
        folder = Path(scratch)
        if how == "text":
            names, batches = read_text(path)
        elif how == "parquet":
            names, batches = read_parquet(path, notes)
        else:
            names, batches = _read_in_child(path, how, folder / "parsed.arrow", notes)
        if "" in names:  # most often row numbers, which pandas writes so
            notes.append(f"column {names.index('') + 1} of {path.name} has no name and was left out")
            names = [name for name in names if name]
            batches = (batch.select(names) for batch in batches)
        if not names:
            raise IngestError(f"{path} has no column that can be kept{_because(notes)}")
        for wanted in as_text:
            if needed and wanted not in names:
                raise no_such_column(wanted, str(path), names)
        try:
            with connect(folder) as database:
                table = _typed(database, path, names, batches, as_text, notes)
        except (pa.ArrowException, duckdb.Error, UnicodeDecodeError) as error:
            raise IngestError(f"{path} cannot be read ({' '.join(str(error).split())[:300]})") from None
    return table.replace_schema_metadata({"notes": json.dumps(notes)})


def notes_of(table: pa.Table) -> list[str]:
    """Sentences about what `read_catalogue` left out."""
    notes: list[str] = json.loads((table.schema.metadata or {}).get(b"notes", b"[]"))
    return notes


def unit_of(field: pa.Field) -> str | None:
    """The unit in a field's metadata."""
    unit = (field.metadata or {}).get(b"unit")
    return None if unit is None else unit.decode()


def _because(notes: list[str]) -> str:
    return f" ({notes[0]})" if notes else ""


def _typed(
    database: duckdb.DuckDBPyConnection,
    path: Path,
    names: list[str],
    batches: Iterator[pa.RecordBatch],
    as_text: Sequence[str],
    notes: list[str],
) -> pa.Table:
    """The rows with final types, found from every value."""
    first = next(batches, None)
    if first is None:
        raise IngestError(f"{path} has no rows")
    aliases = [f"c{i}" for i in range(len(names))]  # any name may be theirs, and SQL takes u and U for one
    given = first.schema

    def renamed() -> Iterator[pa.RecordBatch]:
        yield first.rename_columns(aliases)
        for batch in batches:
            yield batch.rename_columns(aliases)

    schema = pa.schema([pa.field(alias, field.type) for alias, field in zip(aliases, given, strict=True)])
    database.register("given", pa.RecordBatchReader.from_batches(schema, renamed()))
    database.execute("CREATE TABLE listed AS SELECT * FROM given")
    if not one(database, "SELECT count(*) FROM listed"):
        raise IngestError(f"{path} has no rows")
    fields, values = [], []
    for name, alias, held in zip(names, aliases, given, strict=True):
        kind: pa.DataType
        if name in as_text:
            if pa.types.is_floating(held.type):
                raise IngestError(
                    f'column "{name}" of {path} holds {held.type}, which loses the last digits of long ids; '
                    "write it as integer or text"
                )
            kind, sql, metadata = pa.string(), f"{alias}::VARCHAR", {"kind": "id"}
        else:
            kind, sql, metadata = type_of(database, alias, name, notes)
        if (unit := unit_of(held)) is not None:
            metadata["unit"] = unit
        fields.append(pa.field(name, kind, metadata=metadata))
        values.append(f"{sql} AS {alias}")
    found = database.sql(f"SELECT {', '.join(values)} FROM listed").to_arrow_reader(ROW_GROUP).read_all()
    return pa.table([column.cast(f.type) for column, f in zip(found.columns, fields, strict=True)], pa.schema(fields))


# ---------------------------------------------------------------------------------------------------- sky positions
def sky_columns(table: pa.Table) -> tuple[str, str]:
    """Names of the columns of right ascension and declination.

    Raises
    ------
    UsageError
        There are none; the message offers what looks alike.
    """
    lower = {name.lower(): name for name in reversed(table.column_names)}
    for ra, dec in SKY_COLUMNS:
        if ra in lower and dec in lower:
            return lower[ra], lower[dec]
    near = [lower[n] for known in ("ra", "dec") for n in difflib.get_close_matches(known, lower, n=1, cutoff=0.5)]
    found = " and ".join(f'"{name}"' for name in dict.fromkeys(near))
    hint = f"are they {found}?" if near else f"it has {', '.join(table.column_names)}"
    raise UsageError(f"the table has no columns ra and dec ({hint}); give the two that are positions these names")


def sky_positions(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension (0 ≤ ra < 360) and declination (-90 to 90) of every row, float64 degrees; NaN where unknown.

    Degrees are taken where the table names no unit; radians and hours are converted. Outside the sky is unknown.

    Raises
    ------
    UsageError
        No such columns, or they hold no numbers or another unit.
    """
    degrees = []
    for name, low, high in zip(sky_columns(table), (-360, -90), (360, 90), strict=True):
        field = table.schema.field(name)
        if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
            raise UsageError(f'column "{name}" holds text; give positions as decimal degrees')
        unit = (unit_of(field) or "deg").lower()
        factor = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi, "h": 15.0, "hourangle": 15.0}.get(unit)
        if factor is None:
            raise UsageError(f'column "{name}" is in {unit}; give positions in deg, rad or hourangle')
        values = np.array(table.column(name).cast(pa.float64()).to_numpy(), np.float64) * factor
        values[~((values >= low) & (values <= high))] = np.nan
        degrees.append(values)
    ra, dec = degrees
    unknown = np.isnan(ra) | np.isnan(dec)
    ra, dec = np.where(unknown, np.nan, ra % 360), np.where(unknown, np.nan, dec)
    return ra, dec


# ------------------------------------------------------------------------------------------------- text and Parquet
def read_text(manifest: Path) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Column names, and the rows with every value as text (empty: null)."""
    delimiter = "\t" if manifest.suffix.lower() == ".tsv" else ","
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as handle:
            names = next(csv.reader(handle, delimiter=delimiter), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IngestError(f"{manifest} cannot be read as {manifest.suffix[1:].upper()} in UTF-8 ({error})") from None
    if not names:
        raise IngestError(f"{manifest} is empty; its first line must name the columns")
    _check_unique(manifest, names)

    def batches() -> Iterator[pa.RecordBatch]:
        convert = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=True,
        )
        parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        read = pyarrow.csv.ReadOptions(use_threads=False, block_size=1 << 20)
        with pyarrow.csv.open_csv(manifest, read, parse, convert) as reader:
            for batch in reader:
                yield batch.rename_columns(names)  # a byte order mark is not part of the first name

    return names, batches()


def _check_unique(path: Path, names: list[str]) -> None:
    if doubled := [name for name, n in Counter(names).items() if n > 1]:
        raise IngestError(f'{path} has the column "{doubled[0]}" twice')


@contextlib.contextmanager
def broken_parquet_said(path: Path) -> Iterator[None]:
    """Turn what Arrow raises on a damaged Parquet file into the sentence for a person."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise IngestError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None


def read_parquet(manifest: Path, notes: list[str]) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Column names, and the rows with numbers, booleans and text as they are and dates as text."""
    with broken_parquet_said(manifest):
        file = pq.ParquetFile(manifest)
    _check_unique(manifest, file.schema_arrow.names)
    names = []
    told = {field.name: field.metadata for field in file.schema_arrow}
    for field in file.schema_arrow:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            notes.append(f'column "{field.name}" of {manifest.name} holds {field.type} and was left out')
        else:
            names.append(field.name)

    def plain(array: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_decimal(array.type):
            return array.cast(pa.float64())
        if pa.types.is_integer(array.type):
            return array.cast(pa.int64()) if array.type != pa.uint64() else array
        if pa.types.is_float32(array.type) or pa.types.is_float64(array.type) or pa.types.is_boolean(array.type):
            return array
        return array.cast(pa.float32()) if pa.types.is_floating(array.type) else array.cast(pa.string())

    def batches() -> Iterator[pa.RecordBatch]:
        with file, broken_parquet_said(manifest):
            for batch in file.iter_batches(4096, columns=names):
                arrays = [plain(batch.column(name)) for name in names]
                fields = [pa.field(name, a.type, metadata=told[name]) for name, a in zip(names, arrays, strict=True)]
                yield pa.record_batch(arrays, schema=pa.schema(fields))

    return names, batches()


def one(database: duckdb.DuckDBPyConnection, query: str) -> Any:
    """The one value that a query gives."""
    return database.execute(query).fetchall()[0][0]


def type_of(
    database: duckdb.DuckDBPyConnection, column: str, name: str, notes: list[str]
) -> tuple[pa.DataType, str, dict[str, str]]:
    """Type of a user's column, the SQL that gives its values, and its metadata, found from every value.

    Text becomes integers or floats where all of it reads so; a leading zero keeps it text. Among numbers `MISSING` are
    none, and are counted in a note, which calls the column `name`.
    """
    held = one(database, f"SELECT typeof({column}) FROM listed LIMIT 1")
    if held == "VARCHAR":
        is_missing = f"lower(trim({column})) IN ({', '.join(map(repr, MISSING))})"
        given, missing, integers, floats, long = database.execute(
            f"""SELECT count({column}), count(*) FILTER ({is_missing}),
                count(*) FILTER (TRY_CAST({column} AS BIGINT) IS NOT NULL
                                 AND regexp_full_match({column}, '[+-]?(0|[1-9][0-9]*)')),
                count(*) FILTER (TRY_CAST({column} AS DOUBLE) IS NOT NULL AND NOT {is_missing}
                                 AND NOT regexp_matches({column}, '_|^[+-]?0[0-9]|^[+-]?[0-9]{{17,}}$')),
                max(abs(TRY_CAST({column} AS HUGEINT)))
            FROM listed"""
        ).fetchall()[0]
        if given > missing and given - missing in (integers, floats):
            value = column
            if missing:
                notes.append(f'{missing:,} of {given:,} values of "{name}" are no numbers but NA, null, -- or alike')
                value = f"CASE WHEN NOT {is_missing} THEN {column} END"
            if integers == given - missing:
                return pa.int64(), f"({value})::BIGINT", {"kind": "id" if long > _EXACT else "number"}
            return pa.float64(), f"({value})::DOUBLE", {"kind": "number"}
        distinct = one(database, f"SELECT count(DISTINCT {column}) FROM listed")
        return pa.string(), column, {"kind": "category" if distinct <= CATEGORIES and 2 * distinct <= given else "text"}
    if held in ("BIGINT", "UBIGINT"):
        long = one(database, f"SELECT max(abs({column}::HUGEINT)) FROM listed") or 0
        if long >= 2**63:
            return pa.string(), f"{column}::VARCHAR", {"kind": "id"}
        return pa.int64(), f"{column}::BIGINT", {"kind": "id" if long > _EXACT else "number"}
    if held == "BOOLEAN":
        return pa.bool_(), column, {"kind": "category"}
    return (pa.float32() if held == "FLOAT" else pa.float64()), column, {"kind": "number"}


# --------------------------------------------------------------------------------------------------------- the child
def _read_in_child(path: Path, how: str, parsed: Path, notes: list[str]) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """As `read_parquet`, of a file that another process parses."""
    with Decoders(Crop(8), 1) as decoders:
        try:
            notes += decoders.call(parse, str(path.absolute()), how, str(parsed), seconds=TIME_LIMIT_S)
        except ImageError as error:
            raise IngestError(f"{path} cannot be read ({str(error).replace('one image', 'one table')})") from None
    reader = pa.ipc.open_file(pa.memory_map(str(parsed)))
    return reader.schema.names, (reader.get_batch(i) for i in range(reader.num_record_batches))


def parse(path: str, how: str, parsed: str) -> list[str]:
    """Write a table's columns to the Arrow file `parsed`; return a sentence for each column left out.

    Only for a process that may die: from then on it fetches nothing by URL.

    Raises
    ------
    ImageError
        The file cannot be read: one sentence.
    """
    sys.addaudithook(_fetch_nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy warns of every deviation from a standard
            columns, notes = _npz_columns(path) if how == "npz" else _astropy_columns(path, how)
            fields = []
            for name, (values, unit) in list(columns.items()):
                example = _arrow(values[:0])
                if example is None:
                    notes.append(f'column "{name}" holds {_described(values)} and was left out')
                    del columns[name]
                else:
                    fields.append(pa.field(name, example.type, metadata={"unit": unit} if unit else None))
            schema = pa.schema(fields)
            n = len(next(iter(columns.values()))[0]) if columns else 0
            with pa.OSFile(parsed, "wb") as file, pa.ipc.new_file(file, schema) as writer:
                for start in range(0, n, ROW_GROUP):
                    blocks = [_arrow(values[start : start + ROW_GROUP]) for values, _ in columns.values()]
                    writer.write_batch(pa.record_batch(blocks, schema=schema))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # each format's reader raises many kinds on broken bytes
        raise ImageError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    return notes


def _fetch_nothing(event: str, _: tuple[Any, ...]) -> None:
    if event in ("urllib.Request", "socket.connect", "socket.getaddrinfo"):
        raise ImageError("it refers to data that lies elsewhere, which is not fetched")


def _astropy_columns(path: str, how: str) -> tuple[dict[str, tuple[Any, str | None]], list[str]]:
    """Columns of the first table in a file: name → (masked array or array, unit); and notes."""
    notes: list[str] = []
    if how == "votable":
        from astropy.io.votable import parse as parse_votable

        document = parse_votable(path, verify="ignore")
        n_tables = len(list(document.iter_tables()))
        table = document.get_first_table().to_table(use_names_over_ids=True)
    elif how == "fits":
        from astropy.io import fits
        from astropy.table import Table

        with fits.open(path, memmap=True) as hdus:
            places = [i for i, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not places:
            raise ImageError("it holds no table, only images")
        n_tables = len(places)
        table = Table.read(path, hdu=places[0], format="fits", memmap=True, unit_parse_strict="silent")
    else:
        from astropy.table import Table

        n_tables, table = 1, Table.read(path, format=how)
    if n_tables > 1:
        notes.append(f"{Path(path).name} holds {n_tables} tables; the first was read")
    columns: dict[str, tuple[Any, str | None]] = {}
    for name in table.colnames:
        column = table[name]
        unit = str(column.unit) if getattr(column, "unit", None) is not None else None
        columns[str(name)] = (getattr(column, "data", column), unit or None)
    return columns, notes


def _npz_columns(path: str) -> tuple[dict[str, tuple[Any, str | None]], list[str]]:
    """The arrays of an npz that are as long as the most: name → (array, None); and notes."""
    with np.load(path, allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    lengths = [len(values) for values in held.values() if values.ndim == 1]
    n = max(set(lengths), key=lengths.count) if lengths else 0
    kept = {name: (values, None) for name, values in held.items() if values.ndim and len(values) == n}
    notes = [f'array "{name}" has another length and was left out' for name in held if name not in kept]
    return dict(kept), notes


def _arrow(values: Any) -> pa.Array | None:
    """A column as int64, uint64, float, bool or text (masked and empty: null); None where it is none of them."""
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    plain = np.ma.getdata(values) if mask is not None else values
    if not isinstance(plain, np.ndarray) or plain.ndim != 1:
        return None
    kind, size = plain.dtype.kind, plain.dtype.itemsize
    if kind in "SUO":
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in plain.tolist()]
        if not all(text is None or isinstance(text, str) for text in texts):
            return None
        stripped = (None if text is None else text.replace("\0", "").rstrip() or None for text in texts)
        hidden = mask.tolist() if mask is not None else [False] * len(texts)
        return pa.array([None if h else t for t, h in zip(stripped, hidden, strict=True)], pa.string())
    target: Any
    if kind == "b":
        target = np.bool_
    elif kind in "iu":
        target = np.uint64 if kind == "u" and size == 8 else np.int64
    elif kind == "f":
        target = np.float32 if size <= 4 else np.float64
    else:
        return None
    return pa.array(np.ascontiguousarray(plain, target), mask=mask)  # native byte order


def _described(values: Any) -> str:
    shape = getattr(values, "shape", ())
    each = f" of shape {' × '.join(map(str, shape[1:]))} each" if len(shape) > 1 else ""
    return f"{getattr(values, 'dtype', type(values).__name__)}{each}"
