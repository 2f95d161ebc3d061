"""A survey without images of synthetic subjects: a cloud on the map, and a score. Its name says what it is."""

import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.ingest.build import QUARANTINE_SCHEMA
from explorer.survey import QUARANTINE, ROW_GROUP, SUBJECTS, SUBJECTS_SCHEMA, SURVEY_TOML, SurveyInfo
from models.artifacts import MAP_JSON, RUN_JSON, Run, now, write_coordinates, write_scores, write_table

N_BLOBS = 60


def cloud(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points that look like a UMAP map: 60 Gaussian blobs of differing weight and width.

    Returns
    -------
    xyz
        float32 (n, 3), |x| and |y| mostly below 12.
    score
        float32 (n,), in (0, 1), higher to the upper right.
    """
    rng = np.random.default_rng(seed)
    center, width = rng.uniform(-10, 10, (N_BLOBS, 2)), rng.gamma(2.0, 0.25, N_BLOBS) + 0.05
    blob = rng.choice(N_BLOBS, n, p=rng.dirichlet(np.full(N_BLOBS, 1.5)))
    xy = center[blob] + rng.standard_normal((n, 2)) * width[blob, None]
    score = 1 / (1 + np.exp(-(xy[:, 0] * 0.2 + xy[:, 1] * 0.1 + rng.standard_normal(n) * 0.7)))
    return np.column_stack([xy, rng.standard_normal(n)]).astype(np.float32), score.astype(np.float32)


def write_survey(path: Path, n: int) -> None:
    """Write a survey folder of `n` subjects with a finished score run and a finished map, and nothing to look at.

    Written straight by the folder's contract: neither 1.5 million images nor a network are needed to time a map.
    """
    xyz, score = cloud(n)
    ids = np.arange(n)
    rng = np.random.default_rng(1)
    feature = np.clip(score + rng.normal(0, 0.1, n), 0, 1).astype(np.float32)
    columns = {field.name: pa.nulls(n, field.type) for field in SUBJECTS_SCHEMA}
    columns |= {"subject_id": pa.array(ids), "source_id": pa.array(ids).cast(pa.string())}
    columns["half"] = pa.array(np.where(rng.random(n) < 0.5, "tune", "test"))
    path.mkdir(parents=True)
    pq.write_table(pa.table(columns, schema=SUBJECTS_SCHEMA), path / SUBJECTS, row_group_size=ROW_GROUP)

    folders = {"runs": "20260101-000000-score", "maps": "20260101-000001-map"}
    for parent, name in folders.items():
        (path / parent / name).mkdir(parents=True)
    quality = pa.repeat(pa.scalar("ok"), n)
    scores = {
        "subject_id": ids,
        "split": pa.repeat(pa.scalar("unseen"), n),
        "image_score": score,
        "feature_score": feature,
        "anomaly_score": 0.8 * score + 0.2 * feature,
        "quality": quality,
    }
    write_scores(path / "runs" / folders["runs"], None, scores)
    write_coordinates(path / "maps" / folders["maps"], ids, xyz)
    made = {"code_version": "synthetic", "config": {"feature_weight": 0.2}, "state": "done", "n_rows": n}
    Run(folders["runs"], "score", **made).write(path / "runs" / folders["runs"] / RUN_JSON)
    inputs = {"score": folders["runs"]}
    Run(folders["maps"], "map", inputs=inputs, **made).write(path / "maps" / folders["maps"] / MAP_JSON)
    write_table(path / QUARANTINE, QUARANTINE_SCHEMA.empty_table())
    SurveyInfo(
        survey_id=str(uuid.uuid4()),
        name=f"synthetic: {n:,} random points",
        size=0,
        bands=(),
        crop="none",
        extent=None,
        originals="none",
        created_at=now(),
        default_run=folders["runs"],
        default_map=folders["maps"],
        notes=("Subjects, scores and map are random numbers.",),
    ).write(path / SURVEY_TOML)
