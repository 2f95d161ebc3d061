"""Small exports of Zooniverse by the shape that Panoptes gives them, and what `ingest` makes of them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from explorer.ingest.exports import Ingested, IngestOptions, ingest
from explorer.votes import CLASSIFICATIONS, SET_ASIDE

COLUMNS = (
    *("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_name", "workflow_version"),
    *("created_at", "gold_standard", "expert", "metadata", "annotations", "subject_data", "subject_ids"),
)


def row(id_: int, subjects: str = "501", annotations: Any = None, **told: Any) -> dict[str, str]:
    """One classification; `told` are its cells, those of metadata and subject_data as what JSON holds."""
    told.setdefault("metadata", {"live_project": True})
    told.setdefault("subject_data", {s: {"retired": None} for s in subjects.split(";")})
    cells = {
        "user_name": "ada",
        "user_id": "7",
        "user_ip": "an-address",
        "workflow_id": "30",
        "workflow_name": "Odd ones",
        "workflow_version": "1.1",
        "created_at": f"2026-02-01 10:{id_ // 60 % 60:02d}:{id_ % 60:02d} UTC",
        "annotations": [{"task": "T0", "task_label": "Odd?", "value": "Yes"}] if annotations is None else annotations,
        **told,
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in cells.items()}
    return {"classification_id": str(id_), "subject_ids": subjects, **texts}


def write_export(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> Path:
    """A classification export."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def taken_in(survey: Path, *files: Path, **options: Any) -> Ingested:
    """What `ingest` did."""
    steps = ingest(survey, files, IngestOptions(**options))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            done: Ingested = end.value
            return done


def votes(survey: Path) -> list[tuple[Any, ...]]:
    """(classification, subject, task, answer) of a survey's votes, in the order of the file."""
    table = pq.read_table(survey / CLASSIFICATIONS)
    names = ("classification_id", "subject_id", "task", "answer")
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def aside(survey: Path) -> list[tuple[Any, ...]]:
    """(line, id, reason) of what was set aside."""
    table = pq.read_table(survey / SET_ASIDE)
    return list(zip(*(table.column(name).to_pylist() for name in ("line", "id", "reason")), strict=True))
