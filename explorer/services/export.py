"""A selection as a table that others can open, with where it came from."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from explorer import __version__
from explorer.services.explore import SCORES, Explore
from explorer.state import Selection
from models.artifacts import now

#: A cell that begins so is taken for a formula by spreadsheets.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def selection_table(
    explore: Explore, selection: Selection | None, run_id: str, map_id: str, lambda_: float
) -> pa.Table:
    """Every column of the selected subjects (all for None), their scores and map coordinates, in row order.

    Provenance travels with the rows: columns ``survey_id``, ``run_id``, ``map_id``, ``lambda``, ``voorwerp_version``,
    and as JSON under the schema's metadata key ``voorwerp``, which also has the selection's id and the time.
    """
    survey = explore.survey
    rows = np.arange(survey.n) if selection is None else selection.rows()
    table = pq.read_table(survey.path / "subjects.parquet").take(pa.array(rows))

    def add(name: str, values: pa.Array) -> None:
        nonlocal table
        while name in table.column_names:  # a user's own column keeps its name
            name = f"voorwerp_{name}"
        table = table.append_column(name, values)

    if run_id:
        for name in SCORES:
            values = explore.values(f"scores.{name}", run_id, lambda_)[rows]
            add(name, pa.array(values, pa.float32(), from_pandas=True))
        scores = survey.scores(run_id)
        for name in ("split", "quality"):
            if name in scores:
                add(name, pa.array(scores[name][rows], pa.string(), from_pandas=True))
    if map_id:
        coordinates = survey.coordinates(map_id)[rows]
        for i in range(coordinates.shape[1]):
            add(f"umap_{i + 1}", pa.array(coordinates[:, i], pa.float32(), from_pandas=True))
    info = survey.info
    provenance = {
        "survey_id": info.survey_id,
        "run_id": run_id,
        "map_id": map_id,
        "lambda": lambda_,
        "voorwerp_version": __version__,
    }
    for name, value in provenance.items():
        add(name, pa.array([value] * len(rows), pa.float64() if name == "lambda" else pa.string()))
    metadata = provenance | {
        "survey": info.name,
        "selection": selection.id if selection is not None else "every subject",
        "n_selected": len(rows),
        "n_subjects": survey.n,
        "exported_at": now(),
    }
    return table.replace_schema_metadata({**(table.schema.metadata or {}), "voorwerp": json.dumps(metadata)})


def csv_bytes(table: pa.Table) -> bytes:
    """UTF-8 CSV with exact ids. A text or name that a spreadsheet would run as a formula gets a leading apostrophe."""
    for i, column in enumerate(table.schema):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = table.column(i).to_pylist()
            table = table.set_column(i, column.name, pa.array([t and _defused(t) for t in texts], pa.string()))
    table = table.rename_columns([_defused(name) for name in table.column_names])
    out = io.BytesIO()
    pyarrow.csv.write_csv(table, out)
    return out.getvalue()


def _defused(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def parquet_bytes(table: pa.Table) -> bytes:
    """Parquet; provenance under the schema's metadata key ``voorwerp``."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
