"""The smallest survey folder there can be."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from explorer.survey import SUBJECTS_SCHEMA, SurveyInfo


def write_survey(path: Path, n: int = 5, size: int = 32) -> Path:
    """`n` subjects of noise, without originals and thumbnails."""
    path.mkdir(parents=True)
    columns = [pa.nulls(n, f.type) for f in SUBJECTS_SCHEMA]
    columns[0] = pa.array(np.arange(n) + 588848901523702001, pa.int64())
    pq.write_table(pa.table(columns, schema=SUBJECTS_SCHEMA), path / "subjects.parquet")
    images = np.random.default_rng(0).integers(0, 255, (n, size, size, 3), np.uint8)
    zarr.create_array(path / "images.zarr", data=images, chunks=(n, size, size, 3), compressors=None)
    SurveyInfo("survey-1", "Five", size, ("r", "g", "b"), "center", None, "2026-01-01T00:00:00+00:00").write(
        path / "survey.toml"
    )
    return path
