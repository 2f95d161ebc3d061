"""Scoring on the CPU, beside the published script's way of doing it: one image at a time.

Both use the paper's network (96 px, three bands, width 64; weights untrained, which costs the same) in the same torch
with the same threads. Ours is the whole run: reading, hashing, scoring, writing the scores.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr

from explorer.kinds.score import ScoreConfig
from explorer.services.selected import Crops
from models import scoring
from models.artifacts import CHECKPOINT, Workspace
from models.reading import SHARD
from models.wgan import WGAN, Architecture, build
from tests.benchmarks.row import Row
from tests.models.networks import finish

SIZE, BANDS, WIDTH = 96, 3, 64
THEIRS, ROUNDS = 32, 5  # images a round; ours take several batches for each thread
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


ROWS: dict[str, Callable[[], Row | list[Row]]] = {}
LONG_ROWS: dict[str, Callable[[], Row | list[Row]]] = {"score-float32": float32, "score-bfloat16": bfloat16}
if torch.cuda.is_available():
    ROWS["score-gpu"] = on_gpu
