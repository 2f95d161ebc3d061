"""Subjects from a table alone: a survey without images opens, too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from explorer.errors import IngestError, UsageError
from explorer.ingest.build import create_table_only
from explorer.ingest.catalogues import notes_of, read_catalogue, sky_columns, sky_positions
from explorer.survey import SurveyInfo

#: Names by which a table's column of ids is known when it is not told.
ID_COLUMNS = ("source_id", "id", "objid", "object_id", "subject_id")


def create_from_table(
    path: Path | str, sources: Sequence[Path | str], name: str | None = None, id_column: str | None = None
) -> SurveyInfo:
    """Make a survey folder whose subjects are the rows of one table; whole or not at all.

    Parameters
    ----------
    sources
        One table, as `explorer.ingest.catalogues.read_catalogue` reads it.
    id_column
        The column of ids; None looks for a usual name, and takes row numbers where there is none.

    Raises
    ------
    UsageError
        None or several tables, or no such column.
    IngestError
        A table that cannot be read, ids that are missing or there twice, a folder that is in use.
    """
    path = Path(path)
    table = subjects_of(sources, id_column)
    return create_table_only(path, table, name or path.absolute().name, notes_of(table))


def subjects_of(sources: Sequence[Path | str], id_column: str | None) -> pa.Table:
    """One table with its ids as ``source_id`` and its positions as ``ra`` and ``dec`` (deg), where it has any.

    Raises
    ------
    UsageError, IngestError
        As `create_from_table`.
    """
    if len(sources) != 1:
        raise UsageError("a survey without images is made from one table; name it as SOURCE")
    source = Path(sources[0])
    table = read_catalogue(source, as_text=[id_column] if id_column else [])
    if id_column is None:
        lower = {name.lower(): name for name in reversed(table.column_names)}
        id_column = next((lower[name] for name in ID_COLUMNS if name in lower), None)
        if id_column is not None:
            table = read_catalogue(source, as_text=[id_column])
    if id_column is None:
        return with_ids(table, pa.array([str(i) for i in range(len(table))]))
    ids = table.column(id_column)
    if ids.null_count:
        raise IngestError(f'{source} has {ids.null_count:,} rows without an id in its column "{id_column}"')
    return with_ids(table.drop_columns([id_column]), ids)


def with_ids(table: pa.Table, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """A table with `ids` as ``source_id`` and its positions, where it has any, as ``ra`` and ``dec`` (deg)."""
    try:
        ra, dec = sky_positions(table)
        replaced = {name for name in sky_columns(table) if name.lower() in ("ra", "dec")}
    except UsageError:  # no positions
        ra = dec = np.full(len(ids), np.nan)
        replaced = set()
    columns = {"source_id": ids, "ra": pa.array(ra, from_pandas=True), "dec": pa.array(dec, from_pandas=True)}
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    arrays = list(columns.values())
    for field in table.schema:
        if field.name not in replaced:
            fields.append(field.with_name(field.name + "_given") if field.name in columns else field)
            arrays.append(table.column(field.name))
    return pa.table(arrays, pa.schema(fields, metadata=table.schema.metadata))
