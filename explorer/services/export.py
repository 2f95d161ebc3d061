"""A selection as a file that others can open, with where it came from: CSV, Parquet, VOTable, FITS, DS9 regions.

Files are written a column at a time, by Arrow and numpy: a million subjects take seconds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from explorer import __version__
from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.state import Selection
from explorer.survey import SUBJECTS
from models.artifacts import now
from models.mixing import Mode

#: A cell that begins so is taken for a formula by spreadsheets.
FORMULA = r"\A([=+\-@\t\r\n])"
#: Rows that are made into text at once.
BATCH = 65_536
#: Bytes of a FITS table; its texts are all as wide as the longest.
MAX_FITS = 4 * 2**30


def selection_table(
    explore: Explore,
    selection: Selection | None,
    run_id: str,
    map_id: str,
    lambda_: float,
    mode: Mode = "raw",
    notes: Notes | None = None,
) -> pa.Table:
    """Every column of the selected subjects (all for None), their scores, map coordinates and the map's own columns.

    In row order. With `notes`, also the tags that people gave (``tags``) and the number of their notes (``n_notes``).

    Provenance travels with the rows: columns ``survey_id``, ``run_id``, ``map_id``, ``lambda``, ``lambda_mode``,
    ``voorwerp_version``, and as JSON under the schema's metadata key ``voorwerp``, which also has the selection's id
    and the time.
    """
    survey = explore.survey
    rows = np.arange(survey.n) if selection is None else selection.rows()
    table = pq.read_table(survey.path / SUBJECTS).take(pa.array(rows))
    for name in ("is_known", "is_withdrawn"):  # null is false
        i = table.schema.get_field_index(name)
        table = table.set_column(i, table.schema.field(i), pc.fill_null(table.column(i), False))

    def add(name: str, values: pa.Array) -> None:
        nonlocal table
        while name in table.column_names:  # a user's own column keeps its name
            name = f"voorwerp_{name}"
        table = table.append_column(name, values)

    if run_id:
        mixed = {"anomaly_score": explore.values("scores.anomaly_score", run_id, lambda_, mode)}
        for name, values in {**survey.scores(run_id), **mixed}.items():
            add(name, pa.array(values[rows], pa.string() if values.dtype == object else pa.float32(), from_pandas=True))
    if map_id:
        coordinates = survey.coordinates(map_id)[rows]
        for i in range(coordinates.shape[1]):
            add(f"umap_{i + 1}", pa.array(coordinates[:, i], pa.float32(), from_pandas=True))
        for name, values in survey.placing(map_id).items():
            column = pa.array(values[rows], pa.float32(), from_pandas=True)
            add(name, column.cast(pa.bool_()) if name.startswith("is_") else column)
    if notes is not None:
        own = notes.columns(rows)
        add("tags", pa.array(own["tags"], pa.string()))
        add("n_notes", pa.array(own["n_notes"]))
    info = survey.info
    provenance = {
        "survey_id": info.survey_id,
        "run_id": run_id,
        "map_id": map_id,
        "lambda": lambda_,
        "lambda_mode": mode,
        "voorwerp_version": __version__,
    }
    for name, value in provenance.items():
        add(name, pa.array([value] * len(rows), pa.float64() if name == "lambda" else pa.string()))
    metadata = provenance | {
        "survey": info.name,
        "selection": selection.id if selection is not None else "every subject",
        "n_selected": len(rows),
        "n_subjects": survey.n,
        "pixel_scale_arcsec": info.pixel_scale_arcsec,
        "exported_at": now(),
    }
    return table.replace_schema_metadata({**(table.schema.metadata or {}), "voorwerp": json.dumps(metadata)})


def csv_bytes(table: pa.Table) -> bytes:
    """UTF-8 CSV with exact ids. A text or name that a spreadsheet would run as a formula gets a leading apostrophe."""
    table = _plain(table)
    for i, field in enumerate(table.schema):
        if field.type == pa.string():
            table = table.set_column(i, field, pc.replace_substring_regex(table.column(i), FORMULA, r"'\1"))
    names = pc.replace_substring_regex(pa.array(table.column_names), FORMULA, r"'\1")
    out = io.BytesIO()
    pyarrow.csv.write_csv(table.rename_columns(names.to_pylist()), out)
    return out.getvalue()


def parquet_bytes(table: pa.Table) -> bytes:
    """Parquet; provenance under the schema's metadata key ``voorwerp``."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _provenance(table: pa.Table) -> dict[str, Any]:
    """What `selection_table` wrote under the key ``voorwerp``, without what is not known."""
    content: dict[str, Any] = json.loads((table.schema.metadata or {}).get(b"voorwerp", b"{}"))
    return {name: value for name, value in content.items() if value not in (None, "")}


#: Types that a column keeps or widens to.
_PLAIN = {t: t for t in (pa.bool_(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())}
_PLAIN |= {pa.int8(): pa.int16(), pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
_PLAIN |= {pa.float16(): pa.float32()}


def _plain(table: pa.Table) -> pa.Table:
    """The same rows in types that every format has: bool, int16 to int64, float32, float64 and text.

    Integers beyond int64 and whatever else there is (dates, decimals, lists) become text.
    """
    columns = [_plain_column(column) for column in table.columns]
    fields = [f.with_type(column.type) for f, column in zip(table.schema, columns, strict=True)]
    return pa.table(columns, pa.schema(fields, table.schema.metadata))


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type in _PLAIN:
        return column.cast(_PLAIN[column.type])
    if column.type == pa.uint64() and (pc.max(column).as_py() or 0) < 2**63:
        return column.cast(pa.int64())
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # nested, or bytes that are no text
        texts = [None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


def _unit(field: pa.Field) -> str:
    """A column's unit as FITS and VOTable spell it."""
    unit: str = (field.metadata or {}).get(b"unit", b"").decode()
    return "pix" if unit == "px" else unit


def _rows_of(columns: list[pa.ChunkedArray], *marks: str) -> bytes:
    """The texts of each row: what stands before, between and after them is `marks`; what is missing is empty."""
    start, between, end, nothing = (pa.scalar(mark, pa.large_string()) for mark in (*marks, ""))
    out = io.BytesIO()
    for batch in pa.table(columns, [str(i) for i in range(len(columns))]).to_batches(BATCH):
        cells = [pc.fill_null(column, "").cast(pa.large_string()) for column in batch.columns]
        rows = pc.binary_join_element_wise(start, pc.binary_join_element_wise(*cells, between), end, nothing)
        offsets = np.frombuffer(rows.buffers()[1], np.int64)
        out.write(memoryview(rows.buffers()[2])[: offsets[len(rows)]])
    return out.getvalue()


# --------------------------------------------------------------------------------------------------------- VOTable
_DATATYPES = {pa.bool_(): "boolean", pa.int16(): "short", pa.int32(): "int", pa.int64(): "long"}
_DATATYPES |= {pa.float32(): "float", pa.float64(): "double"}
#: What the columns that others look for mean, in UCD1+.
_UCDS = {"source_id": "meta.id;meta.main", "subject_id": "meta.id"}
_UCDS |= {"ra": "pos.eq.ra;meta.main", "dec": "pos.eq.dec;meta.main"}
_NOT_XML = r"[^\t\n\r\x{20}-\x{D7FF}\x{E000}-\x{FFFD}\x{10000}-\x{10FFFF}]"


def votable_bytes(table: pa.Table) -> bytes:
    """VOTable 1.4 (TABLEDATA): exact ids, units, provenance as INFO; a missing value is an empty cell.

    Characters that XML does not have become U+FFFD.

    References
    ----------
    Ochsenbein, Taylor, Williams et al. 2019, VOTable Format Definition 1.4 (IVOA Recommendation).
    """
    table = _plain(table)
    cells, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        cell, kind = _cells_of(column)
        attributes = {"name": field.name, "datatype": kind, "arraysize": "*" if kind.lower().endswith("char") else ""}
        attributes |= {"unit": _unit(field), "ucd": _UCDS.get(field.name, "")}
        attributes |= {"ref": "sky" if field.name in ("ra", "dec") else ""}
        cells.append(cell)
        fields.append(f"<FIELD{_attributes(attributes)}/>\n")
    given = _provenance(table)
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n<RESOURCE type="results">\n'
        + "".join(f"<INFO{_attributes({'name': name, 'value': str(value)})}/>\n" for name, value in given.items())
        + '<COOSYS ID="sky" system="ICRS"/>\n'
        + f'<TABLE ID="subjects"{_attributes({"name": given.get("survey", "subjects")})}>\n'
        + "".join(fields)
        + "<DATA><TABLEDATA>\n"
    )
    tail = "</TABLEDATA></DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n"
    return head.encode() + _rows_of(cells, "<TR><TD>", "</TD><TD>", "</TD></TR>\n") + tail.encode()


def _cells_of(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """A column as VOTable writes it, and the name of its type there."""
    kind = _DATATYPES.get(column.type, "char")
    if kind == "boolean":
        return pc.if_else(column, "T", "F"), kind
    if kind == "char":
        column = _in_xml(column)
        return column, kind if pc.all(pc.string_is_ascii(column)).as_py() is not False else "unicodeChar"
    texts = column.cast(pa.string())
    if kind in ("float", "double"):
        for ours, theirs in (("nan", "NaN"), ("inf", "+Inf"), ("-inf", "-Inf")):
            texts = pc.replace_substring_regex(texts, rf"\A{ours}\z", theirs)
    return texts, kind


def _in_xml(column: pa.Array) -> pa.Array:
    column = pc.replace_substring_regex(column, _NOT_XML, "\ufffd")
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")):
        column = pc.replace_substring(column, character, escaped)
    return column


def _attributes(values: dict[str, str]) -> str:
    """XML attributes, without the empty ones."""
    texts = pc.replace_substring_regex(pa.array(values.values(), pa.string()), _NOT_XML, "\ufffd").to_pylist()
    return "".join(f" {name}={quoteattr(text)}" for name, text in zip(values, texts, strict=True) if text)


# ------------------------------------------------------------------------------------------------------------ FITS
_TFORMS = {pa.bool_(): ("L", "S1"), pa.int16(): ("I", ">i2"), pa.int32(): ("J", ">i4"), pa.int64(): ("K", ">i8")}
_TFORMS |= {pa.float32(): ("E", ">f4"), pa.float64(): ("D", ">f8")}
#: What `selection_table` notes → its keyword, and a comment of at most 25 characters.
_CARDS = {
    "survey": ("SURVEY", "name of the survey"),
    "survey_id": ("SURVEYID", "id of the survey"),
    "run_id": ("RUNID", "run of the scores"),
    "map_id": ("MAPID", "map of the coordinates"),
    "lambda": ("LAMBDA", "weight in anomaly_score"),
    "lambda_mode": ("LAMBMODE", "what it weighs"),
    "voorwerp_version": ("VERSION", "of Voorwerp"),
    "selection": ("SELECTED", "id of the selection"),
    "n_selected": ("NSEL", "subjects in this table"),
    "n_subjects": ("NSUBJ", "subjects in the survey"),
    "pixel_scale_arcsec": ("PIXSCALE", "arcsec per px"),
    "exported_at": ("EXPORTED", "when this was written"),
}
_NOT_PRINTABLE = r"[^\x{20}-\x{7E}]"


def fits_bytes(table: pa.Table) -> bytes:
    """A FITS file with one binary table: exact ids, units as TUNIT, provenance in its header.

    Missing: NaN, TNULL, or no text. FITS has only ASCII: what is not becomes Python's escapes (``\\u03bb``).

    Raises
    ------
    UsageError
        More columns than FITS has (999), or more bytes than `MAX_FITS`.

    References
    ----------
    FITS Standard 4.0 (2018), section 7.3.
    """
    from astropy.io import fits  # takes half a second

    table = _plain(table)
    if table.num_columns > 999:
        raise UsageError(f"the table has {table.num_columns:,} columns, FITS takes 999; export Parquet or VOTable")
    header = fits.Header()
    header["XTENSION"] = ("BINTABLE", "binary table")
    for name, value in (("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 0), ("NAXIS2", table.num_rows), ("PCOUNT", 0)):
        header[name] = value
    header["GCOUNT"] = 1
    header["TFIELDS"] = table.num_columns
    columns: list[np.ndarray] = []
    names: set[str] = set()
    for i, (field, column) in enumerate(zip(table.schema, table.columns, strict=True), 1):
        name = _ascii(field.name)
        while name.lower() in names:  # FITS does not tell A from a
            name += "_"
        names.add(name.lower())
        values, tform, null = _fits_column(column)
        columns.append(values)
        header[f"TTYPE{i}"] = name
        header[f"TFORM{i}"] = tform
        if unit := _ascii(_unit(field)):
            header[f"TUNIT{i}"] = unit
        if null is not None:
            header[f"TNULL{i}"] = null
    widths = [column.dtype.itemsize for column in columns]
    header["NAXIS1"] = sum(widths)
    if sum(widths) * table.num_rows > MAX_FITS:
        widest = table.column_names[int(np.argmax(widths))]
        raise UsageError(
            f"the FITS table would have {sum(widths) * table.num_rows / 2**30:,.0f} GiB, because the longest text of "
            f'"{widest}" has {max(widths):,} characters; export Parquet or VOTable'
        )
    header["EXTNAME"] = "SUBJECTS"
    for name, value in _provenance(table).items():
        if name not in _CARDS:  # what candidates have besides
            header.add_history(f"{name}: {_ascii(str(value))}")
            continue
        keyword, comment = _CARDS[name]
        value = _ascii(value) if isinstance(value, str) else value
        header[keyword] = (value, comment) if len(str(value)) < 40 else value  # else they do not fit on one card
    records = np.empty(table.num_rows, [(str(i), column.dtype) for i, column in enumerate(columns)])
    for i, column in enumerate(columns):
        records[str(i)] = column
    primary = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
    padding = bytes(-records.nbytes % 2880)
    head: bytes = (primary.tostring() + header.tostring()).encode()
    return head + records.tobytes() + padding


def _fits_column(column: pa.ChunkedArray) -> tuple[np.ndarray, str, int | None]:
    """A column's big-endian values, its TFORM, and its TNULL where an integer is missing."""
    if column.type == pa.string():
        is_plain = pc.all(pc.invert(pc.match_substring_regex(column, _NOT_PRINTABLE))).as_py() is not False
        column = pc.fill_null(column, "")
        texts = column.to_pylist() if is_plain else [_ascii(text) for text in column.to_pylist()]
        width = max(map(len, texts), default=0) or 1
        return np.array(texts, f"S{width}"), f"{width}A", None
    tform, dtype = _TFORMS[column.type]
    if tform == "L":  # a zero byte is neither T nor F: FITS Standard 4.0, section 7.3.3.1
        return pc.fill_null(pc.if_else(column, "T", "F"), "").to_numpy().astype("S1"), tform, None
    if pa.types.is_floating(column.type):
        return column.to_numpy().astype(dtype), tform, None
    if not column.null_count:
        return column.to_numpy().astype(dtype), tform, None
    null = int(np.iinfo(np.dtype(dtype)).min)
    while pc.index(column, pa.scalar(null, column.type)).as_py() >= 0:
        null += 1
    return column.fill_null(null).to_numpy().astype(dtype), tform, null


def _ascii(text: str) -> str:
    """A text as FITS may hold it."""
    is_plain = text.isascii() and text.isprintable()
    return text if is_plain else text.encode("unicode_escape").decode()


# --------------------------------------------------------------------------------------------------------- regions
def n_placed(table: pa.Table) -> int:
    """Subjects with RA and Dec, which are those that `regions_bytes` writes."""
    return int(pc.sum(_is_placed(table)).as_py() or 0)


def _is_placed(table: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.and_(pc.is_finite(table.column("ra")), pc.is_finite(table.column("dec"))), False)


def regions_bytes(table: pa.Table) -> bytes:
    """DS9 regions labelled with the source_id: the square of the network's crop where its size on the sky is known,
    else a point. Subjects without RA and Dec are left out, and counted in a comment.

    Braces would end a label: they become parentheses, and what is not on one line becomes blanks.

    References
    ----------
    SAOImage DS9 reference manual, "Regions", https://ds9.si.edu/doc/ref/region.html.
    """
    given = _provenance(table)
    n = table.num_rows
    table = table.filter(_is_placed(table))
    scale, side = table.column("pixel_scale_arcsec"), table.column("crop_side").cast(pa.float64())
    if "pixel_scale_arcsec" in given:
        scale = pc.fill_null(scale, float(given["pixel_scale_arcsec"]))
    arcsec = pc.multiply(scale.cast(pa.float64()), side)
    arcsec = pc.if_else(pc.and_(pc.is_finite(arcsec), pc.greater(arcsec, 0)), arcsec, pa.scalar(None, pa.float64()))
    size = pc.round(arcsec, 4).cast(pa.string())
    place = pc.binary_join_element_wise(
        table.column("ra").cast(pa.string()), table.column("dec").cast(pa.string()), ","
    )
    box = pc.binary_join_element_wise("box(", place, ",", size, '",', size, '",0) # text={', "")
    point = pc.binary_join_element_wise("point(", place, ") # point=circle text={", "")
    label = table.column("source_id").cast(pa.string())
    for pattern, harmless in ((r"\{", "("), (r"\}", ")"), (r"[\p{C}\p{Z}]+", " ")):
        label = pc.replace_substring_regex(label, pattern, harmless)
    lines = pc.binary_join_element_wise(pc.coalesce(box, point), label, "}\n", "")
    comments = [f"{name}: {' '.join(str(value).split())}" for name, value in given.items()]
    if left_out := n - table.num_rows:
        comments.append(f"{left_out:,} of {n:,} subjects have no RA and Dec and are left out")
    head = "# Region file format: DS9 version 4.1\n" + "".join(f"# {comment}\n" for comment in comments) + "fk5\n"
    return head.encode() + "".join(lines.to_pylist()).encode()


#: What is offered everywhere: what writes it, its media type and its suffix.
EXPORTS: dict[str, tuple[Callable[[pa.Table], bytes], str, str]] = {
    "csv": (csv_bytes, "text/csv; charset=utf-8", ".csv"),
    "parquet": (parquet_bytes, "application/vnd.apache.parquet", ".parquet"),
    "votable": (votable_bytes, "application/x-votable+xml", ".vot"),
    "fits": (fits_bytes, "application/fits", ".fits"),
    "regions": (regions_bytes, "text/plain; charset=utf-8", ".reg"),
}
