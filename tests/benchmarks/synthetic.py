"""A survey of synthetic subjects: a cloud on the map, a score, thumbnails if asked. Its name says what it is.

Made chunk by chunk, so that 100 million fit in the memory of a laptop; `lend_survey` keeps them between runs.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from PIL import Image

from explorer.ingest.build import QUARANTINE_SCHEMA
from explorer.survey import (
    IMAGES,
    QUARANTINE,
    ROW_GROUP,
    SUBJECTS,
    SUBJECTS_SCHEMA,
    SURVEY_TOML,
    THUMBNAILS,
    SurveyInfo,
)
from models.artifacts import (
    COORDINATES,
    COORDINATES_SCHEMA,
    MAP_JSON,
    RUN_JSON,
    SCORES,
    SCORES_SCHEMA,
    Run,
    now,
    write_table,
)
from models.images import thumbnail
from tests.galaxies import galaxy

N_BLOBS = 60
#: Of the generator: surveys that another version made are not lent again.
VERSION = 1
KEPT = Path(os.environ.get("VOORWERP_BENCH_SURVEYS", Path(__file__).parents[2] / ".bench" / "surveys"))
SIDE = 32  # of the network's crop, px
#: Subjects made at once: a multiple of `ROW_GROUP`. What is smaller has the same random numbers at any size of it.
CHUNK = 1 << 21


def clouds(n: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`cloud` in chunks of `CHUNK` subjects, the last one shorter."""
    rng = np.random.default_rng(seed)
    center, width = rng.uniform(-10, 10, (N_BLOBS, 2)), rng.gamma(2.0, 0.25, N_BLOBS) + 0.05
    weight: np.ndarray | None = None
    for start in range(0, n, CHUNK):
        m = min(CHUNK, n - start)
        weight = rng.dirichlet(np.full(N_BLOBS, 1.5)) if weight is None else weight
        blob = rng.choice(N_BLOBS, m, p=weight)
        xy = center[blob] + rng.standard_normal((m, 2)) * width[blob, None]
        score = 1 / (1 + np.exp(-(xy[:, 0] * 0.2 + xy[:, 1] * 0.1 + rng.standard_normal(m) * 0.7)))
        yield np.column_stack([xy, rng.standard_normal(m)]).astype(np.float32), score.astype(np.float32)


def cloud(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points that look like a UMAP map: 60 Gaussian blobs of differing weight and width.

    Returns
    -------
    xyz
        float32 (n, 3), |x| and |y| mostly below 12.
    score
        float32 (n,), in (0, 1), higher to the upper right.
    """
    xyz, score = np.empty((n, 3), np.float32), np.empty(n, np.float32)
    for i, (places, values) in enumerate(clouds(n, seed)):
        part = slice(i * CHUNK, i * CHUNK + len(values))
        xyz[part], score[part] = places, values
    return xyz, score


def write_thumbnails(path: Path, n: int, *, shard: int = 4096) -> None:
    """Give the survey in `path` a thumbnail a subject: 256 pictures of 128 px in a file of 4,096, linked often.

    Its images are there in name only: an array without a chunk.
    """
    folder = path / THUMBNAILS
    folder.mkdir()
    rng = np.random.default_rng(2)
    packs = [thumbnail(Image.fromarray(galaxy(rng, 128))) for _ in range(256)]
    chosen = [packs[i] for i in rng.integers(0, len(packs), shard)]
    (folder / "00000.pack").write_bytes(b"".join(chosen))
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in chosen])]).astype(np.int64)
    for number in range(-(-n // shard)):
        if number and n - number * shard >= shard:
            (folder / f"{number:05d}.npy").hardlink_to(folder / "00000.npy")
        else:
            np.save(folder / f"{number:05d}.npy", offsets[: min(shard, n - number * shard) + 1])
        if number:
            (folder / f"{number:05d}.pack").hardlink_to(folder / "00000.pack")
    shape = (n, SIDE, SIDE, 3)
    zarr.create_array(path / IMAGES, shape=shape, chunks=(64, SIDE, SIDE, 3), dtype=np.uint8, compressors=None)


def write_survey(path: Path, n: int, *, pictures: bool = False) -> None:
    """Write a survey folder of `n` subjects with a finished score run and a finished map.

    Written straight by the folder's contract: neither 1.5 million images nor a network are needed to time a map.
    Without `pictures` there is nothing to look at; with them every subject has a thumbnail (`write_thumbnails`).
    """
    folders = {"runs": "20260101-000000-score", "maps": "20260101-000001-map"}
    for parent, name in folders.items():
        (path / parent / name).mkdir(parents=True)
    run, placed = path / "runs" / folders["runs"], path / "maps" / folders["maps"]
    rng = np.random.default_rng(1)
    with contextlib.ExitStack() as stack:

        def writer(file: Path, schema: pa.Schema, **options: object) -> pq.ParquetWriter:
            return stack.enter_context(pq.ParquetWriter(file, schema, **options))

        subjects = writer(path / SUBJECTS, SUBJECTS_SCHEMA)
        scores = writer(run / SCORES, SCORES_SCHEMA, compression="zstd", use_dictionary=["split", "quality"])
        coordinates = writer(placed / COORDINATES, COORDINATES_SCHEMA, compression="zstd", use_dictionary=False)
        start = 0
        for xyz, score in clouds(n):
            m = len(score)
            ids = np.arange(start, start + m)
            start += m
            feature = np.clip(score + rng.normal(0, 0.1, m), 0, 1).astype(np.float32)
            columns = {field.name: pa.nulls(m, field.type) for field in SUBJECTS_SCHEMA}
            columns |= {"subject_id": pa.array(ids), "source_id": pa.array(ids).cast(pa.string())}
            columns["half"] = pa.array(["tune", "test"]).take(pa.array((rng.random(m) >= 0.5).astype(np.int8)))
            subjects.write_table(pa.table(columns, schema=SUBJECTS_SCHEMA), row_group_size=ROW_GROUP)
            told = {
                "subject_id": ids,
                "split": pa.repeat(pa.scalar("unseen"), m),
                "image_score": score,
                "feature_score": feature,
                "anomaly_score": 0.8 * score + 0.2 * feature,
                "quality": pa.repeat(pa.scalar("ok"), m),
            }
            scores.write_table(pa.table(told, schema=SCORES_SCHEMA))
            axes = dict(zip(COORDINATES_SCHEMA.names[1:], xyz.T, strict=True))
            coordinates.write_table(pa.table({"subject_id": ids, **axes}, schema=COORDINATES_SCHEMA))
    made = {"code_version": "synthetic", "config": {"feature_weight": 0.2}, "state": "done", "n_rows": n}
    Run(folders["runs"], "score", **made).write(run / RUN_JSON)
    inputs = {"score": folders["runs"]}
    Run(folders["maps"], "map", inputs=inputs, **made).write(placed / MAP_JSON)
    write_table(path / QUARANTINE, QUARANTINE_SCHEMA.empty_table())
    SurveyInfo(
        survey_id=str(uuid.uuid4()),
        name=f"synthetic: {n:,} random points",
        size=SIDE if pictures else 0,
        bands=("r", "g", "b") if pictures else (),
        crop="center" if pictures else "none",
        extent=None,
        originals="none",
        created_at=now(),
        default_run=folders["runs"],
        default_map=folders["maps"],
        notes=("Subjects, scores and map are random numbers.",),
    ).write(path / SURVEY_TOML)
    if pictures:
        write_thumbnails(path, n)


def lend_survey(path: Path, n: int, *, pictures: bool = False) -> None:
    """`write_survey`, but made once and kept in `KEPT`: `path` gets hard links to its tables.

    A row that counts votes, trains or builds an index in `path` leaves the kept one as it was: whatever changes a file
    of a survey puts another one in its place. Where `path` is on another disk, it gets copies. The pictures, which
    are tens of thousands of links already, are one symbolic link.
    """
    kept = KEPT / f"v{VERSION}-{n}{'-pictures' if pictures else ''}"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}.part")
        write_survey(part, n, pictures=pictures)
        try:
            part.rename(kept)
        except OSError:  # another row was faster
            shutil.rmtree(part)
    path.mkdir(parents=True)
    linked = (THUMBNAILS, IMAGES)
    for name in linked:
        if (kept / name).exists():
            (path / name).symlink_to(kept / name)
    shutil.copytree(kept, path, dirs_exist_ok=True, ignore=_all_of(kept, linked), copy_function=_link)


def _all_of(folder: Path, names: tuple[str, ...]) -> Callable[[str, list[str]], list[str]]:
    return lambda at, _: [*names] if Path(at) == folder else []


def _link(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)
