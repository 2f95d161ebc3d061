"""The map: 50,000 subjects beside umap-learn, and as many as the study had beside the time and memory it may take.

Latents are synthetic: clusters of unequal size, spread and density, each a curved sheet of six dimensions in 128.
"""

import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from explorer.kinds.map import MapConfig
from models import embedding
from models.artifacts import Workspace, write_scores
from tests.benchmarks.row import Row

N, N_STUDY, D, CLUSTERS = 50_000, 207_589, 128, 40
THREADS = 2
SECONDS_STUDY, GIB_STUDY = 600, 8.0
PEAK_UNIT = 2**30 if sys.platform == "darwin" else 2**20  # of ru_maxrss, in GiB


def latents(n: int, seed: int = 0) -> np.ndarray:
    """Synthetic latent vectors, float32 (n, 128)."""
    random = np.random.default_rng(seed)
    cluster = random.choice(CLUSTERS, n, p=random.dirichlet(np.full(CLUSTERS, 0.7)))
    centers = (2 * random.normal(size=(CLUSTERS, D))).astype(np.float32)
    sheets = random.normal(size=(CLUSTERS, 6, D)).astype(np.float32)
    spread = random.uniform(0.3, 1.5, CLUSTERS).astype(np.float32)
    found = 0.3 * random.standard_normal((n, D), np.float32)
    for c in range(CLUSTERS):
        rows = np.flatnonzero(cluster == c)
        sheet = random.standard_normal((len(rows), 6), np.float32)
        sheet[:, 0] = np.sin(2 * sheet[:, 0])
        found[rows] += centers[c] + spread[c] * (sheet @ sheets[c])
    return found


def seconds() -> tuple[float, float]:
    """Now, and the CPU time that this process has had, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def whole_run(folder: Path, points: np.ndarray) -> tuple[float, float, dict[str, float]]:
    """``voorwerp run SURVEY map`` without its process: seconds, CPU seconds, results."""
    n = len(points)
    (folder / "score").mkdir()
    (folder / "map").mkdir()
    score = np.random.default_rng(1).normal(size=n).astype(np.float32)
    columns = {"subject_id": np.arange(n), "split": ["unseen"] * n, "quality": ["ok"] * n}
    names = ("image_score", "feature_score", "anomaly_score")
    write_scores(folder / "score", points, columns | dict.fromkeys(names, score))
    work = Workspace(folder / "map", None, np.arange(n), {"score": folder / "score"}, {}, THREADS)
    began, cpu = seconds()
    job = embedding.run(MapConfig(), work)
    while True:
        try:
            next(job)
        except StopIteration as end:
            ended, cpu_ended = seconds()
            return ended - began, cpu_ended - cpu, end.value


def umap_map(points: np.ndarray) -> np.ndarray:
    """umap-learn's, with three components and else its defaults; without a seed it uses every core."""
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: np.ndarray = umap.UMAP(n_components=3).fit_transform(points)
        return found


def beside_umap() -> Row:
    """50,000: the preset fast, reading and writing too, beside ``umap.UMAP`` with its defaults but three components."""
    points = latents(N)
    umap_map(points[:5000])
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-map-") as name:
        whole_run(Path(name), points[:5000])
    began, cpu = seconds()
    theirs = umap_map(points)
    ended, cpu_ended = seconds()
    found = embedding.quality(points, theirs)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-map-") as name:
        ours, cpu_ours, results = whole_run(Path(name), points)
    trust, trust_umap = results["trustworthiness"], found["trustworthiness"]
    if trust < trust_umap - 0.01:
        raise RuntimeError(f"the map is less trustworthy ({trust:.4f}) than umap-learn's ({trust_umap:.4f})")
    cpu_theirs = cpu_ended - cpu
    return Row(
        name="map-50k",
        what=f"map of {N:,} × {D} synthetic latents, preset fast, {THREADS} threads; both compiled before",
        ours=ours,
        theirs=ended - began,
        ratio=(ended - began) / ours,
        unit="s",
        alternative="umap.UMAP(n_components=3), else its defaults",
        target=1.0,
        note=f"trustworthiness {trust:.4f} beside {trust_umap:.4f}; CPU {cpu_ours:.0f} s beside {cpu_theirs:.0f} s",
        extra={"cpu_ours": cpu_ours, "cpu_theirs": cpu_theirs, "ours": results, "umap": found},
    )


def study() -> list[Row]:
    """As many subjects as the study had: a sample laid out, the rest placed; seconds and peak memory."""
    points = latents(N_STUDY)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-map-") as name:
        took, cpu, results = whole_run(Path(name), points)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PEAK_UNIT
    what = f"map of {N_STUDY:,} × {D} synthetic latents, preset fast, {THREADS} threads"
    note = f"{results['n_fitted']:,} laid out; trustworthiness {results['trustworthiness']:.4f}; CPU {cpu:.0f} s"
    extra = {"cpu": cpu, "results": results}
    return [
        Row("map-207k", what, took, SECONDS_STUDY, SECONDS_STUDY / took, "s", "what it may take", 1.0, note, extra),
        Row("map-207k-memory", what, peak, GIB_STUDY, GIB_STUDY / peak, "GiB", "what it may take", 1.0),
    ]


LONG_ROWS = {"map-50k": beside_umap, "map-207k": study}
