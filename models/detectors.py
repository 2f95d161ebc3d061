"""Anomaly scores that need no training of ours: what the GAN has to be better than.

Each detector is fitted to a random sample of the subjects and then measures every one of them:

- `pca_error`: what the first principal components leave of an image;
- `isolation`: how soon random cuts isolate a subject (Liu, Ting and Zhou 2008);
- `neighbor_distance`: the mean distance to the k nearest of the sample (Ramaswamy, Rastogi and Shim 2000).

A subject is its crop's pixels in [0, 1] or its latent vector. On pixels the last two look at the principal components:
distances among tens of thousands of pixels are mostly noise. Higher is more anomalous. A detector of your own is one
more function like these three, and a line in `DETECTORS`.
"""

import json
import math
import shutil
import time
import zipfile
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import ThreadpoolController

from models.artifacts import (
    PARTS,
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Workspace,
    medians_by_split,
    read_columns,
    read_latents,
    replacing,
    sha256_file,
    write_json,
    write_scores,
)
from models.progress import Progress
from models.reading import (
    BLOCK,
    SHARD,
    center_weights,
    is_constant,
    n_shards,
    part_path,
    read_part,
    score_shards,
    write_part,
)

#: Bytes that the sample may take as float32: fewer subjects are taken where their images are large.
SAMPLE_BYTES = 2**30
#: Vectors that one thread measures at once.
PIECE = 128

LINEAR_ALGEBRA = ThreadpoolController()


class Config(Protocol):
    """See `explorer.kinds.score.ScoreConfig`."""

    @property
    def method(self) -> str: ...
    @property
    def on(self) -> str: ...
    @property
    def center(self) -> float | None: ...
    @property
    def n_components(self) -> int: ...
    @property
    def n_neighbors(self) -> int: ...
    @property
    def fit_on(self) -> int: ...
    @property
    def seed(self) -> int: ...


# ------------------------------------------------------------------------------------------------------ detectors
#: Vectors float32 (b, d), and where in the sample each is (-1: nowhere), int64 (b,) → scores float (b,).
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def principal_components(sample: np.ndarray, n_components: int, seed: int) -> PCA:
    """PCA of the sample (n, d), by a randomized decomposition where that is faster.

    Raises
    ------
    ArtifactError
        So many components leave nothing of the sample.
    """
    most = min(len(sample) - 1, sample.shape[1])
    if n_components >= most:
        raise ArtifactError(
            f"{n_components} principal components leave nothing of {len(sample):,} vectors of length "
            f"{sample.shape[1]:,}; take --n-components below {most}"
        )
    return PCA(n_components, random_state=seed).fit(sample)


def pca_error(pca: PCA, config: Config) -> tuple[Measure, dict[str, Any]]:
    """Σ (x - x')², x' being x projected on the first `n_components` principal components of the sample.

    On pixels it is the image score of a linear autoencoder: a sum over pixels and bands, in units of [0, 1] squared.
    """

    def measure(vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
        residual = vectors - pca.inverse_transform(pca.transform(vectors))
        return np.asarray(np.square(residual).sum(1))

    return measure, {"explained_variance": float(pca.explained_variance_ratio_.sum())}


def isolation(sample: np.ndarray, config: Config) -> tuple[Measure, dict[str, Any]]:
    """Isolation forest of 100 trees on 256 subjects each: 2^(-mean depth / expected depth), in (0, 1)."""
    forest = IsolationForest(random_state=config.seed).fit(sample)

    def measure(vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.asarray(-forest.score_samples(vectors))

    return measure, {}


def neighbor_distance(sample: np.ndarray, config: Config) -> tuple[Measure, dict[str, Any]]:
    """Mean Euclidean distance to the `n_neighbors` nearest of the sample, exactly; a subject is none of its own.

    Raises
    ------
    ArtifactError
        The sample has no more subjects than that.
    """
    k = config.n_neighbors
    if len(sample) <= k:
        raise ArtifactError(f"{k} neighbors need more than {len(sample):,} subjects; take a smaller --n-neighbors")
    nearest = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(sample)

    def measure(vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
        distances, found = nearest.kneighbors(vectors)  # (b, k + 1), nearest first
        is_own = found == places[:, None]
        is_own[~is_own.any(1), k] = True  # not in the sample, or behind its own duplicates: the farthest goes
        return np.asarray(distances[~is_own].reshape(-1, k).mean(1))

    return measure, {}


#: What each is given: the sample (m, d), but pca its principal components.
DETECTORS: dict[str, Callable[[Any, Config], tuple[Measure, dict[str, Any]]]] = {
    "pca": pca_error,
    "iforest": isolation,
    "knn": neighbor_distance,
}


def title(config: Config) -> str:
    """What a person reads where the score is shown: "PCA-32 reconstruction error"."""
    on_latents = config.on == "latents"
    space = "latent vectors" if on_latents else f"{config.n_components} principal components"
    around = " around the center" if config.center and not on_latents else ""
    if config.method == "pca":
        return f"PCA-{config.n_components} reconstruction error" + (f" of {space}" if on_latents else around)
    if config.method == "iforest":
        return f"Isolation forest of {space}{around}"
    return f"Mean distance to {config.n_neighbors} neighbors in {space}{around}"


# -------------------------------------------------------------------------------------------------------- source
@dataclass(frozen=True, slots=True)
class Source:
    """What a detector looks at, one subject a row.

    Attributes
    ----------
    vectors
        Array-like, read by slices and by rows: crops uint8 (n, H, W, C) or latent vectors float32 (n, d).
    subject_ids
        int64 (n,).
    split, quality
        Text (n,): what the network behind the vectors saw of each subject, and why a vector is missing.
    """

    vectors: Any
    subject_ids: np.ndarray
    split: np.ndarray
    quality: np.ndarray

    @classmethod
    def pixels(cls, workspace: Workspace) -> "Source":
        """The survey's crops."""
        if workspace.images is None or len(workspace.images) == 0:
            raise ArtifactError("the survey has no images to score")
        n = len(workspace.images)
        return cls(workspace.images, workspace.subject_ids, np.full(n, "unseen"), np.full(n, "constant image"))

    @classmethod
    def latents(cls, folder: Path, subject_ids: np.ndarray) -> "Source":
        """The latent vectors of the score run in `folder`: of those of `subject_ids` that it has."""
        table, vectors = read_columns(folder / SCORES, SCORES_SCHEMA), read_latents(folder)
        if table.num_rows != len(vectors) or not len(vectors):
            raise ArtifactError(f"{folder} has {len(vectors):,} latent vectors for {table.num_rows:,} subjects")
        split, quality = (np.array(table.column(name).to_pylist(), object) for name in ("split", "quality"))
        quality[quality == "ok"] = "no latent vector"
        ids = table.column("subject_id").to_numpy()
        rows = np.flatnonzero(np.isin(ids, subject_ids))
        if not len(rows):
            raise ArtifactError(f"{folder} has latent vectors of none of the {len(subject_ids):,} subjects to score")
        if len(rows) == len(ids):
            return cls(vectors, ids, split, quality)
        return cls(vectors[rows], ids[rows], split[rows], quality[rows])


def is_missing(block: np.ndarray) -> np.ndarray:
    """bool (b,): subjects in a block of `Source.vectors` that cannot be scored; `Source.quality` says why."""
    return is_constant(block) if block.dtype == np.uint8 else ~np.isfinite(block).all(1)


def as_vectors(block: np.ndarray, center: float) -> np.ndarray:
    """uint8 (b, H, W, C) as float32 (b, H · W · C) in [0, 1], latent vectors as they are.

    Pixels are times the roots of their weights around the center: squared differences then count by these.
    """
    if block.dtype != np.uint8:
        return block
    pixels = block.astype(np.float32) / np.float32(255)
    if center:
        pixels *= np.sqrt(center_weights(block.shape[1], block.shape[1], center))[:, :, None]
    return pixels.reshape(len(block), math.prod(block.shape[1:]))


def draw_sample(
    source: Source, n: int, seed: int, center: float, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A random sample of at most `n` subjects without the missing ones: their rows, ascending, and float32 (m, d).

    `left_out`, bool (N,), are never drawn.
    """
    n_all, length = len(source.vectors), math.prod(source.vectors.shape[1:])
    may = np.arange(n_all) if left_out is None else np.flatnonzero(~left_out)
    n = min(n, len(may), max(2, SAMPLE_BYTES // (4 * length)))
    drawn = np.sort(may[np.random.default_rng(seed).choice(len(may), n, replace=False)])
    sample, rows = np.empty((n, length), np.float32), np.empty(n, np.int64)
    m = 0
    for i in range(0, n, BLOCK):
        block = np.asarray(source.vectors[drawn[i : i + BLOCK]])
        kept = ~is_missing(block)
        count = int(kept.sum())
        sample[m : m + count] = as_vectors(block[kept], center)
        rows[m : m + count] = drawn[i : i + BLOCK][kept]
        m += count
    return rows[:m], sample[:m]


# ------------------------------------------------------------------------------------------------------- fitted
@dataclass(frozen=True, slots=True)
class Fitted:
    """A detector, and what it was fitted to.

    Attributes
    ----------
    rows
        int64 (m,): the sample's, ascending.
    score
        Of a block of vectors (b, …) and the row of its first: float32 (b,), NaN where nothing can be scored.
    about
        Numbers to keep.
    """

    rows: np.ndarray
    score: Callable[[np.ndarray, int], np.ndarray]
    about: dict[str, Any]


def fit(config: Config, source: Source, left_out: np.ndarray | None) -> dict[str, np.ndarray]:
    """What `fitted` makes a detector of: the sample's rows, and its principal components, its vectors, or both.

    Raises
    ------
    ArtifactError
        Too few subjects, or too many components.
    """
    rows, sample = draw_sample(source, config.fit_on, config.seed, config.center or 0.0, left_out)
    if len(rows) < 2:
        n = len(source.vectors)
        raise ArtifactError(f"{len(rows)} of {n:,} subjects have something to score; a detector needs two or more")
    if config.method != "pca" and config.on == "latents":
        return {"rows": rows, "sample": sample}
    pca = principal_components(sample, config.n_components, config.seed)
    found = {name: np.asarray(getattr(pca, name)) for name in PCA_ARRAYS}
    return {"rows": rows, **found} | ({} if config.method == "pca" else {"sample": pca.transform(sample)})


#: What an sklearn PCA is, as far as `transform` and `inverse_transform` go, and how much it explains.
PCA_ARRAYS = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_")


def fitted(config: Config, found: Mapping[str, np.ndarray]) -> Fitted:
    """The detector made of what `fit` found: the same numbers wherever it is made."""
    rows, center = found["rows"], config.center or 0.0
    pca = None
    if "mean_" in found:
        pca = PCA(config.n_components, random_state=config.seed)
        for name in PCA_ARRAYS:
            setattr(pca, name, found[name])
        pca.n_components_, pca.n_features_in_ = found["components_"].shape
    measure, about = DETECTORS[config.method](pca if config.method == "pca" else found["sample"], config)
    reduce = pca.transform if pca is not None and config.method != "pca" else None

    def score(block: np.ndarray, first: int) -> np.ndarray:
        scores, kept = np.full(len(block), np.nan, np.float32), np.flatnonzero(~is_missing(block))
        if kept.size:
            at = np.minimum(np.searchsorted(rows, first + kept), len(rows) - 1)
            places = np.where(rows[at] == first + kept, at, -1)
            vectors = as_vectors(block[kept], center)
            scores[kept] = measure(reduce(vectors) if reduce else vectors, places)
        return scores

    return Fitted(rows, score, about)


# ---------------------------------------------------------------------------------------------------- the kind
PLAN, DETECTOR = "plan.json", "detector.npz"


def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Score every subject by `config.method`; see the module's docstring.

    The detector is fitted to a random sample of at most `config.fit_on` subjects, which count as "train" in the column
    ``split``, and kept in ``parts/detector.npz``; then ``parts/NNNNN.npz`` are made of it, by the workers of
    `workspace.pool` or by this process (`score_shard`), and joined. Memory holds the sample (1 GiB at most, twice while
    the detector is fitted), blocks of images and the scores. A run that was stopped keeps its finished parts.

    Raises
    ------
    ArtifactError
        No images or latent vectors, or too few for the settings.
    """
    source = source_of(config, workspace)
    n, parts = len(source.vectors), workspace.directory / PARTS
    fixed = {"n": n, "shard": SHARD, "config": asdict(cast(Any, config))}
    plan: dict[str, Any] = json.loads((parts / PLAN).read_bytes()) if (parts / PLAN).exists() else {}
    if {name: plan.get(name) for name in fixed} != fixed:
        shutil.rmtree(parts, ignore_errors=True)
        yield Progress(0, n, "fitting to a sample")
        left_out = None
        if workspace.left_out is not None:
            left_out = np.isin(source.subject_ids, workspace.subject_ids[workspace.left_out])
        with replacing(parts / DETECTOR) as handle:
            np.savez(handle, allow_pickle=False, **fit(config, source, left_out))
        write_json(parts / PLAN, fixed | {"detector": sha256_file(parts / DETECTOR)})
    detector = read_detector(config, parts)

    unit = "subjects" if config.on == "latents" else "images"
    rate = yield from score_shards(
        source.vectors,
        parts,
        SHARD,
        lambda: partial(score_block, detector, workspace.threads),
        workspace.pool if config.on == "pixels" else None,
        "models.detectors:score_shard",
        unit=unit,
        block=BLOCK,
    )
    read = [read_part(part_path(parts, number)) for number in range(n_shards(n, SHARD))]
    if None in read:
        raise ArtifactError(f"a part in {parts} cannot be read; resume the run, which makes it anew")
    scores, missing = (np.concatenate([part[name] for part in read if part]) for name in ("score", "missing"))
    quality, split = np.array(source.quality, object), np.array(source.split, object)
    quality[~missing] = "ok"
    split[detector.rows] = "train"
    columns = {
        "subject_id": source.subject_ids,
        "split": split,
        "image_score": scores if (config.method, config.on) == ("pca", "pixels") else np.full(n, np.nan, np.float32),
        "feature_score": np.full(n, np.nan, np.float32),
        "anomaly_score": scores,
        "quality": quality,
    }
    write_scores(workspace.directory, None, columns)
    return {
        "score_title": title(config),
        "splits": medians_by_split(columns),
        "n_not_scored": int((quality != "ok").sum()),
        "n_fit": len(detector.rows),
        f"n_{unit}": n,
        f"{unit}_per_second": round(rate, 1),
        **detector.about,
    }


def source_of(config: Config, workspace: Workspace) -> Source:
    """What the run looks at."""
    if config.on == "latents":
        return Source.latents(workspace.parents["score"], workspace.subject_ids)
    return Source.pixels(workspace)


def read_detector(config: Config, parts: Path) -> Fitted:
    """The detector that the run in progress was begun with.

    Raises
    ------
    ArtifactError
        Its file cannot be read.
    """
    try:
        with np.load(parts / DETECTOR, allow_pickle=False) as file:
            return fitted(config, {name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{parts / DETECTOR} cannot be read ({error}); delete {parts} and resume the run") from None


@lru_cache(maxsize=1)
def _detector(sha256: str, parts: Path, config: Config) -> Fitted:
    """As `read_detector`, kept by the process that scores several parts."""
    return read_detector(config, parts)


def score_shard(config: Config, workspace: Workspace, number: int) -> dict[str, Any]:
    """Write part `number` of a run on pixels, whole or not at all: see `run`, and `Pool.map`, which calls it.

    Returns
    -------
    dict
        ``n``, images of this part; ``seconds`` that they took.

    Raises
    ------
    ArtifactError
        No plan, or it cannot be read.
    """
    started, parts = time.perf_counter(), workspace.directory / PARTS
    try:
        plan = json.loads((parts / PLAN).read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{workspace.directory} has no {PARTS}/{PLAN}; scoring has ended or not begun") from None
    score = partial(score_block, _detector(plan["detector"], parts, cast(Any, config)), workspace.threads)
    n = write_part(workspace.images, parts, number, plan["shard"], score, BLOCK)
    return {"n": n, "seconds": time.perf_counter() - started}


def score_block(detector: Fitted, threads: int, block: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """The columns of a part for vectors (n, …), the first of which is in row `first`: score, and whether it is missing.

    `threads` pieces are measured at once, each by one thread of the linear algebra, so that their number changes
    nothing.
    """
    with LINEAR_ALGEBRA.limit(limits=1), ThreadPoolExecutor(threads, initializer=_one_thread) as pool:
        starts = range(0, len(block), PIECE)
        scores = np.concatenate(list(pool.map(lambda i: detector.score(block[i : i + PIECE], first + i), starts)))
    return {"score": scores, "missing": is_missing(block)}


def _one_thread() -> None:
    LINEAR_ALGEBRA.limit(limits=1)  # OpenMP's is told to each thread
