"""Scoring on the CPU, beside the published script's way of doing it: one image at a time.

Both use the paper's network (96 px, three bands, width 64; weights untrained, which costs the same) in the same torch
with the same threads. Ours is the whole run: reading, hashing, scoring, writing the scores.
"""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from explorer import code_version
from explorer.kinds.score import ScoreConfig
from explorer.services.cluster import DaskPool, LocalWorkers
from explorer.services.selected import Crops
from explorer.survey import Survey
from models import scoring
from models.artifacts import CHECKPOINT, RUN_JSON, SCORES, Pool, Run, Workspace
from models.reading import SHARD
from models.wgan import WGAN, Architecture, build
from tests.benchmarks.row import Row
from tests.explorer.small_survey import write_survey
from tests.models.networks import finish

SIZE, BANDS, WIDTH = 96, 3, 64
THEIRS, ROUNDS = 32, 5  # images a round; ours take several batches for each thread
SMALL, SMALL_WIDTH, SHARDS = 32, 4, 6  # of the rows of workers
GPU_SHARDS = 16
PREPROCESSING = {"size": SIZE, "bands": ["r", "g", "b"]}


def one_at_a_time(model: WGAN, images: np.ndarray) -> None:
    """z, x' and the critic's features, image by image, as compute_anomaly_scores.py of Mantha et al. 2024 does it."""
    with torch.inference_mode():
        for image in images:
            x = torch.from_numpy(image).to(torch.float32).div(255).permute(2, 0, 1)[None]
            made = model.generator(model.encoder(x))
            s_image = (x - made).square().mean(0).sum()
            s_feature = (model.critic.features(x) - model.critic.features(made)).square().mean(0).sum()
            (0.8 * s_image + 0.2 * s_feature).item()


def whole_run(folder: Path, images: np.ndarray, precision: str) -> None:
    """Score `images` as ``voorwerp run SURVEY score`` does."""
    (folder / "score").mkdir(exist_ok=True)
    parents = {"train": folder}
    work = Workspace(folder / "score", images, np.arange(len(images)), parents, PREPROCESSING, torch.get_num_threads())
    for _ in scoring.run(ScoreConfig(preset="paper", precision=precision, device="cpu"), work):  # type: ignore[arg-type]
        pass


def rate(work: Callable[[], object], n: int) -> float:
    """Images per second."""
    started = time.perf_counter()
    work()
    return n / (time.perf_counter() - started)


def measure(precision: str) -> tuple[float, float]:
    """Median images/s of our way and of theirs, rounds in turn after one that is not counted."""
    n = 128 * max(2, torch.get_num_threads())
    images = np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, BANDS), np.uint8)
    model = build(Architecture(SIZE, BANDS, WIDTH), seed=0).eval()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-score-") as name:
        scoring.save(Path(name) / CHECKPOINT, model, PREPROCESSING)
        for _ in range(ROUNDS + 1):
            ours.append(rate(lambda: whole_run(Path(name), images, precision), n))
            theirs.append(rate(lambda: one_at_a_time(model, images[:THEIRS]), THEIRS))
    return statistics.median(ours[1:]), statistics.median(theirs[1:])


def row(precision: str, target: float, note: str) -> Row:
    """Our whole run in `precision` beside one image at a time in float32."""
    ours, theirs = measure(precision)
    what = f"score {SIZE} px, width {WIDTH}, {precision}, {torch.get_num_threads()} threads; median of {ROUNDS}"
    return Row(
        name=f"score-{precision}",
        what=what,
        ours=ours,
        theirs=theirs,
        ratio=ours / theirs,
        unit="images/s",
        alternative="published script's way: one image at a time, float32",
        target=target,
        note=note,
    )


def float32() -> Row:
    """Ours in float32."""
    return row("float32", 1.5, "")


def bfloat16() -> Row:
    """Ours in bfloat16: what a long run takes where the CPU has it and ranks agree."""
    note = (
        f"taken by itself from {scoring.AUTO_FROM:,} images on, where faster and, on a sample of the run, "
        "Spearman ≥ .9999 and top 1 % overlap ≥ 99 % beside float32"
    )
    return row("bfloat16", 3.0, note)


# ------------------------------------------------------------------------------------------------------- workers
class Timed:
    """A pool that notes when each part was done, and how long its worker took."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.answers: list[tuple[float, float]] = []  # (when, seconds)

    @property
    def n_workers(self) -> int:
        return self.pool.n_workers

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, answer in self.pool.map(function, parts):
            self.answers.append((time.perf_counter(), answer["seconds"]))
            yield index, answer


def survey_of(folder: Path, n: int, config: ScoreConfig) -> Path:
    """A survey of `n` small images with a network and a score run that has begun; the run's folder."""
    path = write_survey(folder / "survey", n=n, size=SMALL)
    shutil.rmtree(path / "images.zarr")
    stored = zarr.create_array(
        path / "images.zarr", shape=(n, SMALL, SMALL, BANDS), chunks=(64, SMALL, SMALL, BANDS), dtype="uint8"
    )
    stored[:] = np.random.default_rng(0).integers(0, 256, stored.shape, np.uint8)
    with contextlib.closing(Survey.open(path)) as survey:
        about: dict[str, Any] = {"preprocessing": dict(survey.preprocessing), "state": "done"}
        train = survey.run_folder("20260101-000000-train")
        scoring.save(
            train / CHECKPOINT, build(Architecture(SMALL, BANDS, SMALL_WIDTH), seed=0).eval(), survey.preprocessing
        )
        Run(train.name, "train", code_version(), {}, **about).write(train / RUN_JSON)
        run = survey.run_folder("20260101-000001-score")
        about |= {"state": "running", "inputs": {"train": train.name}}
        Run(run.name, "score", code_version(), asdict(config), **about).write(run / RUN_JSON)
    return run


def shared(folder: Path, n_workers: int) -> tuple[float, float, bytes]:
    """Images/s of so many workers of one thread each, the share of a worker's time that is not its parts', the scores.

    From when each has done a part: starting a worker, which is once, is not in it.
    """
    config = ScoreConfig(preset="paper", precision="float32", device="cpu")
    run = survey_of(folder, SHARDS * SHARD, config)
    workers = LocalWorkers(n_workers)
    pool = Timed(DaskPool(workers, run, attempt=1))
    with contextlib.closing(Survey.open(run.parents[1])) as survey:
        parents = {"train": survey.run_folder("20260101-000000-train")}
        work = Workspace(run, Crops(survey.images), survey.subject_ids, parents, survey.preprocessing, 1, pool=pool)
        for _ in scoring.run(config, work):
            pass
    workers.close()
    begun, timed = pool.answers[n_workers - 1][0], pool.answers[n_workers:]
    wall = timed[-1][0] - begun
    at_work = sum(seconds for _, seconds in timed)
    return len(timed) * SHARD / wall, 1 - at_work / (n_workers * wall), (run / SCORES).read_bytes()


def workers() -> list[Row]:
    """Two workers beside one, and what handing out parts costs."""
    os.environ["OMP_NUM_THREADS"] = "1"
    rates: dict[int, list[float]] = {1: [], 2: []}
    lost, scores = [], set()
    for n_workers in (1, 2) * 2:
        with tempfile.TemporaryDirectory(prefix="voorwerp-bench-score-") as name:
            rate, share, made = shared(Path(name), n_workers)
        rates[n_workers].append(rate)
        scores.add(made)
        lost += [share] if n_workers == 1 else []
    ours, theirs = (statistics.median(rates[n]) for n in (2, 1))
    what = f"score {SMALL} px, width {SMALL_WIDTH}, float32, {SHARDS} shards of {SHARD:,}, one thread a worker"
    same = "the same scores, bit for bit" if len(scores) == 1 else "OTHER SCORES"
    handed = min(lost)
    return [
        Row("score-workers", what, ours, theirs, ours / theirs, "images/s", "one worker", 1.4, same),
        Row(
            name="score-handing-out",
            what=f"share of a worker's time beside its parts; {what}",
            ours=100 * handed,
            theirs=3.0,
            ratio=3.0 / max(100 * handed, 0.01),
            unit="% of time",
            alternative="the limit that we set",
            target=1.0,
            note="the less of two runs: this machine has others at work",
        ),
    ]


# ----------------------------------------------------------------------------------------------------------- a GPU
def on_gpu() -> list[Row]:
    """Images/s of whole runs on the GPU in bfloat16: from memory, and from Zarr on the local disk."""
    config = ScoreConfig(preset="paper", precision="bfloat16", device="cuda")
    shape = (GPU_SHARDS * SHARD, SIZE, SIZE, BANDS)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    rates: dict[str, list[float]] = {"memory": [], "Zarr": []}
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-score-") as name:
        folder = Path(name)
        scoring.save(folder / CHECKPOINT, build(Architecture(SIZE, BANDS, WIDTH), seed=0).eval(), PREPROCESSING)
        stored = zarr.create_array(
            folder / "images.zarr",
            shape=shape,
            chunks=(64, *shape[1:]),
            shards=(SHARD, *shape[1:]),
            dtype="uint8",
            compressors=None,
        )
        stored[:] = images
        for number in range(ROUNDS + 1):
            for source, array in (("memory", images), ("Zarr", Crops(stored))):
                (folder / "score").mkdir(exist_ok=True)
                threads = len(os.sched_getaffinity(0))
                ids = np.arange(len(images))
                work = Workspace(folder / "score", array, ids, {"train": folder}, PREPROCESSING, threads)
                found = rate(partial(finish, scoring.run(config, work)), len(images))
                rates[source] += [found] if number else []  # the first builds kernels
    memory, disk = (statistics.median(rates[source]) for source in ("memory", "Zarr"))
    card = torch.cuda.get_device_name()
    what = f"score {SIZE} px, width {WIDTH}, bfloat16, {len(images):,} images on {card}; median of {ROUNDS}"
    note = f"1.5 million in {1.5e6 / disk:,.0f} s from Zarr, extrapolated"
    return [
        Row("score-gpu", what, memory, 50_000, memory / 50_000, "images/s", "what we set ourselves", 1.0, note),
        Row("score-gpu-zarr", what, disk, memory, disk / memory, "images/s", "from memory", 0.7, note),
    ]


ROWS: dict[str, Callable[[], Row | list[Row]]] = {
    "score-float32": float32,
    "score-bfloat16": bfloat16,
    "score-workers": workers,
}
if torch.cuda.is_available():
    ROWS["score-gpu"] = on_gpu
