"""Anomaly scores that need no training of ours: what the GAN has to be better than.

Each detector is fitted to a random sample of the subjects and then measures every one of them:

- `pca_error`: what the first principal components leave of an image;
- `isolation`: how soon random cuts isolate a subject (Liu, Ting and Zhou 2008);
- `neighbor_distance`: the mean distance to the k nearest of the sample (Ramaswamy, Rastogi and Shim 2000).

A subject is its crop's pixels in [0, 1] or its latent vector. On pixels the last two look at the principal components:
distances among tens of thousands of pixels are mostly noise. Higher is more anomalous. A detector of your own is one
more function like these three, and a line in `DETECTORS`.
"""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from models.artifacts import (
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Workspace,
    medians_by_split,
    read_columns,
    read_latents,
    write_scores,
)
from models.progress import Progress
from models.reading import BLOCK, center_weights, is_constant, read_ahead

#: Bytes that the sample may take as float32: fewer subjects are taken where their images are large.
SAMPLE_BYTES = 2**30


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


def pca_error(sample: np.ndarray, config: Config) -> tuple[Measure, dict[str, Any]]:
    """Σ (x - x')², x' being x projected on the first `n_components` principal components of the sample.

    On pixels it is the image score of a linear autoencoder: a sum over pixels and bands, in units of [0, 1] squared.
    """
    pca = principal_components(sample, config.n_components, config.seed)

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


DETECTORS: dict[str, Callable[[np.ndarray, Config], tuple[Measure, dict[str, Any]]]] = {
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

    def is_missing(self, block: np.ndarray) -> np.ndarray:
        """bool (b,): subjects in a block of `vectors` that cannot be scored; `quality` says why."""
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
        kept = ~source.is_missing(block)
        count = int(kept.sum())
        sample[m : m + count] = as_vectors(block[kept], center)
        rows[m : m + count] = drawn[i : i + BLOCK][kept]
        m += count
    return rows[:m], sample[:m]


# ---------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Score every subject by `config.method`; see the module's docstring.

    The detector is fitted to a random sample of at most `config.fit_on` subjects, which count as "train" in the column
    ``split``. Memory holds that sample (1 GiB at most, twice while it is fitted), blocks of images and the scores. A
    run that was stopped starts anew.

    Raises
    ------
    ArtifactError
        No images or latent vectors, or too few for the settings.
    """
    source = (
        Source.latents(workspace.parents["score"], workspace.subject_ids)
        if config.on == "latents"
        else Source.pixels(workspace)
    )
    n, center = len(source.vectors), config.center or 0.0
    yield Progress(0, n, "fitting to a sample")
    left_out = None
    if workspace.left_out is not None:
        left_out = np.isin(source.subject_ids, workspace.subject_ids[workspace.left_out])
    rows, sample = draw_sample(source, config.fit_on, config.seed, center, left_out)
    if len(rows) < 2:
        raise ArtifactError(f"{len(rows)} of {n:,} subjects have something to score; a detector needs two or more")
    reduce = None
    if config.method != "pca" and config.on == "pixels":
        components = principal_components(sample, config.n_components, config.seed)
        reduce, sample = components.transform, components.transform(sample)
    measure, about = DETECTORS[config.method](sample, config)

    scores, quality = np.full(n, np.nan, np.float32), np.array(source.quality, object)
    places = np.full(n, -1)
    places[rows] = np.arange(len(rows))
    unit = "subjects" if config.on == "latents" else "images"
    started, done, rate = time.perf_counter(), 0, 0.0
    for block in read_ahead(source.vectors, 0, n):
        kept = done + np.flatnonzero(~source.is_missing(block))
        if kept.size:
            vectors = as_vectors(block[kept - done], center)
            scores[kept] = measure(reduce(vectors) if reduce else vectors, places[kept])
        quality[kept] = "ok"
        done += len(block)
        rate = done / (time.perf_counter() - started)
        yield Progress(done, n, "scoring", {f"{unit}_per_second": rate})

    split = np.array(source.split, object)
    split[rows] = "train"
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
        "n_fit": len(rows),
        f"n_{unit}": n,
        f"{unit}_per_second": round(rate, 1),
        **about,
    }
