"""Scoring shared by workers of this machine, beside one such worker; and what sharing costs.

Each worker has one torch thread, as where there are as many workers as cores. What is timed begins when every worker
has done its first shard, so that starting processes and importing torch, seconds once a run, are not in the rates.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from explorer.kinds.score import ScoreConfig
from explorer.services.cluster import DaskPool, LocalWorkers
from explorer.services.selected import Crops
from explorer.survey import SUBJECTS_SCHEMA, Survey, SurveyInfo
from models import scoring
from models.artifacts import CHECKPOINT, Run, Workspace
from models.reading import SHARD
from models.wgan import Architecture, build
from tests.benchmarks.row import Row

SIZE, BANDS, WIDTH = 32, 3, 16
SHARDS, ROUNDS = 6, 3
N = SHARDS * SHARD


class Timed:
    """A pool that notes when each part was answered, and how long it took where it was done."""

    def __init__(self, pool: DaskPool) -> None:
        self._pool = pool
        self.answers: list[tuple[float, int, float]] = []

    @property
    def n_workers(self) -> int:
        return self._pool.n_workers

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, answer in self._pool.map(function, parts):
            self.answers.append((time.perf_counter(), answer["n"], answer["seconds"]))
            yield i, answer


def write(folder: Path) -> Survey:
    """A survey of noise with an untrained network, whose scores cost the same."""
    path = folder / "survey"
    path.mkdir()
    ids = pa.array(np.arange(N), pa.int64())
    pq.write_table(
        pa.table([ids, *(pa.nulls(N, f.type) for f in list(SUBJECTS_SCHEMA)[1:])], schema=SUBJECTS_SCHEMA),
        path / "subjects.parquet",
    )
    shape, chunks = (N, SIZE, SIZE, BANDS), (64, SIZE, SIZE, BANDS)
    array = zarr.create_array(path / "images.zarr", shape=shape, dtype="uint8", chunks=chunks, compressors=None)
    random = np.random.default_rng(0)
    for start in range(0, N, SHARD):
        array[start : start + SHARD] = random.integers(0, 256, (SHARD, *shape[1:]), np.uint8)
    made = "2026-01-01T00:00:00+00:00"
    SurveyInfo("shards", "Noise", SIZE, ("r", "g", "b"), "center", None, made).write(path / "survey.toml")
    survey = Survey.open(path)
    train = survey.run_folder("train")
    train.mkdir(parents=True)
    scoring.save(train / CHECKPOINT, build(Architecture(SIZE, BANDS, WIDTH), seed=0).eval(), survey.preprocessing)
    Run("train", "train", "0", {}, state="done").write(train / "run.json")
    return survey


def score(survey: Survey, workers: LocalWorkers) -> tuple[float, float]:
    """Images a second, and the share of the workers' time in which no shard was scored."""
    config = ScoreConfig(preset="paper", precision="float32", device="cpu")
    folder = survey.run_folder(f"of-{workers.n}-{time.monotonic_ns()}")
    folder.mkdir()
    run = Run(folder.name, "score", "0", asdict(config), inputs={"train": "train"}, state="running")
    run.preprocessing = dict(survey.preprocessing)
    run.write(folder / "run.json")
    pool = Timed(DaskPool(workers, folder, 1))
    parents = {"train": survey.run_folder("train")}
    workspace = Workspace(folder, Crops(survey.images), survey.subject_ids, parents, run.preprocessing, 1, pool=pool)
    for _ in scoring.run(config, workspace):
        pass
    begin, end = pool.answers[workers.n - 1][0], pool.answers[-1][0]
    after = pool.answers[workers.n :]
    overhead = 1 - sum(seconds for *_, seconds in after) / (workers.n * (end - begin))
    return sum(n for _, n, _ in after) / (end - begin), overhead


def rows() -> list[Row]:
    """Two workers beside one, rounds in turn; and the overhead of one."""
    os.environ["OMP_NUM_THREADS"] = "1"
    one, two = LocalWorkers(1), LocalWorkers(2)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-shards-") as name:
        survey = write(Path(name))
        try:
            rounds = [(score(survey, one), score(survey, two)) for _ in range(ROUNDS)]
        finally:
            one.close()
            two.close()
            survey.close()
    theirs, ours = (statistics.median(found[i][0] for found in rounds) for i in (0, 1))
    overhead = statistics.median(found[0][1] for found in rounds)
    what = (
        f"score {N:,} images of {SIZE} px, width {WIDTH}, float32, in shards of {SHARD:,}, one torch thread a worker; "
    )
    what += f"median of {ROUNDS}"
    return [
        Row(
            name="shards-workers",
            what=what,
            ours=ours,
            theirs=theirs,
            ratio=ours / theirs,
            unit="images/s",
            alternative="one such worker; ours: two",
            target=1.4,
            note=f"of {len(os.sched_getaffinity(0))} cores; from every worker's first shard on",
            extra={"rounds": rounds},
        ),
        Row(
            name="shards-overhead",
            what=f"time in which one worker scores nothing, from its first shard on; {what}",
            ours=100 * overhead,
            theirs=3,
            ratio=3 / max(100 * overhead, 1e-3),
            unit="% of the time",
            alternative="what is allowed",
            target=1,
            note="scheduler, messages, and the gap between two shards",
        ),
    ]


LONG_ROWS = {"shards": rows}
