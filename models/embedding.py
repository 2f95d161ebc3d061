"""Latent vectors → the map: UMAP to three components, its quality, neighbors, and where newcomers belong.

UMAP: McInnes, Healy and Melville 2018 (arXiv:1802.03426). Its steps are called one by one here, so that progress can be
told; with the preset "seeded" the result is `umap.UMAP`'s own (a test compares them).
"""

import importlib
import json
import os
import queue
import shutil
import threading
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numba import njit
from threadpoolctl import threadpool_limits

from models.artifacts import (
    COORDINATES,
    COORDINATES_SCHEMA,
    LATENTS,
    MAP_JSON,
    PARTS,
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Run,
    Workspace,
    check_network,
    fsync_directory,
    read_columns,
    read_latents,
    replacing,
    write_array,
    write_json,
    write_table,
)
from models.progress import Progress

PLACING = "placing.json"  # with the next, latents.npy and coordinates.parquet, all that placing newcomers needs
KNN_DISTANCES = "knn_distances.npy"  # float32 (n,): of each subject of the map, to its k nearest fitted ones, the mean
FITTED = "fitted.npz"

FIT_ALL_UP_TO = 200_000  # subjects; of more, a sample of `FIT_ON` is fitted and the rest placed
FIT_ON = 100_000
MANY = 10_000  # subjects from which UMAP takes fewer rounds
PARALLEL_FROM = 4  # threads; with fewer, measured, the parallel rounds take longer than the plain ones
SHARD = 8192  # subjects in one of parts/NNNNN.npz
LANDMARKS = 2048
OFF_MAP = 99.9  # percentile of the fitted subjects' own k-NN distances beyond which a newcomer is off the map
MAP_DIMENSIONS = 3
QUALITY_NEIGHBORS = 15


class Config(Protocol):
    """See `explorer.kinds.map.MapConfig`."""

    @property
    def preset(self) -> Literal["fast", "seeded", "paper"]: ...
    @property
    def n_neighbors(self) -> int: ...
    @property
    def min_dist(self) -> float: ...
    @property
    def n_epochs(self) -> int | None: ...
    @property
    def fit_on(self) -> int | None: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """What a preset fixes of UMAP.

    Attributes
    ----------
    n_components
        Components computed; the first three are kept.
    n_epochs
        Rounds; None: 500 up to `MANY` subjects, `n_epochs_of_many` above, as UMAP does.
    is_reproducible
        Whether the same seed must give the same bytes: one thread, no GPU.
    pca_of_many
        Whether more than `MANY` subjects start from principal components, not from the graph's spectrum.
    """

    n_components: int = MAP_DIMENSIONS
    learning_rate: float = 1.0
    n_epochs: int | None = None
    n_epochs_of_many: int = 200
    is_reproducible: bool = True
    pca_of_many: bool = False

    def rounds(self, n: int) -> int:
        """Rounds for `n` subjects."""
        return self.n_epochs or (500 if n <= MANY else self.n_epochs_of_many)


#: "seeded": UMAP's defaults with a seed. "fast": of many subjects half the rounds, from principal components, are as
#: trustworthy. "paper": the notebook of Mantha et al. 2024; its learning rate leaves the layout near its start.
PRESETS = {
    "fast": Layout(n_epochs_of_many=100, is_reproducible=False, pca_of_many=True),
    "seeded": Layout(),
    "paper": Layout(n_components=5, learning_rate=0.001, n_epochs=1000),
}


# ------------------------------------------------------------------------------------------------- neighbors
def _square(block: np.ndarray, query: np.ndarray, squared: np.ndarray) -> None:
    """Squared distances of the rows of `block` to `query`."""
    for i in range(block.shape[0]):
        total = np.float32(0)
        for j in range(block.shape[1]):
            difference = block[i, j] - query[j]
            total += difference * difference
        squared[i] = total


def _offer(products: np.ndarray, norms: np.ndarray, start: int, best: np.ndarray, best_at: np.ndarray) -> None:
    """Take the nearest of a tile into each row's list of the best, which is in rising order.

    `products` (q, r) are scalar products of queries and points, `norms` the points' squared lengths: what is compared,
    norm - 2 product, is the squared distance less the query's own squared length.
    """
    last = best.shape[1] - 1
    for i in range(products.shape[0]):
        for j in range(products.shape[1]):
            squared = norms[j] - np.float32(2) * products[i, j]
            if squared < best[i, last]:
                at = last
                while at > 0 and best[i, at - 1] > squared:
                    best[i, at], best_at[i, at] = best[i, at - 1], best_at[i, at - 1]
                    at -= 1
                best[i, at], best_at[i, at] = squared, start + j


# NaN must stay NaN, so not all of fastmath; sums may be taken in any order, for SIMD.
_square_compiled: Callable[..., None] = njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(_square)
_offer_compiled: Callable[..., None] = njit(cache=True, nogil=True)(_offer)


def nearest(
    latents: np.ndarray, index: int, k: int, block: int = 65_536, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest others of one subject by Euclidean distance: all are compared, none is missed.

    All distances are taken in float32; those that its rounding could have kept from the k nearest are taken again in
    float64, so the answer is that of float64 throughout. The interpreter's lock is not held meanwhile.

    Parameters
    ----------
    latents
        float32 (n, d), memory-mapped or not; read in blocks of `block` rows. Rows with NaN are nobody's neighbor.
    index
        The row whose neighbors are asked for; it is not among them.
    threads
        Of the CPU; None: all that there are, four at most, as memory is then the limit.

    Returns
    -------
    indices, distances
        int64 and float32, of min(k, number of comparable others) rows, nearest first; equal distances in row order.

    Raises
    ------
    ValueError
        The row itself has NaN, or is outside the table.
    """
    n = len(latents)
    if not 0 <= index < n:
        raise ValueError(f"row {index} is outside the {n:,} latent vectors")
    query = np.array(latents[index])
    if not np.isfinite(query).all():
        raise ValueError(f"row {index} has no latent vector (it was not scored)")
    others = np.ones(n, bool)
    others[index] = False
    return nearest_to(latents, query, k, others, block, threads)


def nearest_to(
    latents: np.ndarray,
    query: np.ndarray,
    k: int,
    among: np.ndarray | None = None,
    block: int = 65_536,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` subjects nearest to a latent vector (d,), which need not be one of theirs; else as `nearest`.

    Parameters
    ----------
    among
        bool (n,): the rows that count; None: all.

    Raises
    ------
    ValueError
        The vector has NaN, or another length.
    """
    n, d = latents.shape
    if query.shape != (d,):
        raise ValueError(f"the latent vector has shape {query.shape}; those of the subjects have {d} axes")
    if not np.isfinite(query).all():
        raise ValueError("the latent vector is not finite")
    query = np.array(query, np.float32)  # a copy: of an array that cannot be written, all would be compiled anew
    squared = np.empty(n, np.float32)

    def compare(start: int) -> None:
        _square_compiled(np.asarray(latents[start : start + block]), query, squared[start : start + block])

    with ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(compare, range(0, n, block)))
    if among is not None:
        squared[~among] = np.nan
    k = min(k, int(np.isfinite(squared).sum()))
    if k < 1:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    limit = np.partition(squared, k - 1)[k - 1]  # NaN comes last
    single = np.finfo(np.float32)
    slack = 2 * (d + 4) * float(single.eps)  # more than twice the bound on a sum of d rounded squares
    rows = np.flatnonzero(squared <= float(limit) * (1 + slack) + d * float(single.tiny))
    exact = np.square(np.asarray(latents[rows], np.float64) - query).sum(1)
    order = np.lexsort((rows, exact))[:k]
    return rows[order], np.sqrt(exact[order]).astype(np.float32)


def search(
    points: np.ndarray, queries: np.ndarray, k: int, threads: int = 1, own: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest points of every query by Euclidean distance: all are compared, as tiles of matrix products.

    The products are float32, about the mean, and the best k + 8 of each query are compared again in float64:
    what may be missed is one so near a tie with the k-th that float32 does not tell them apart.

    Parameters
    ----------
    points, queries
        float32 (n, d) and (m, d), finite.
    own
        Where the queries are points: the row of the first one. A point is not its own neighbor then.

    Returns
    -------
    indices, distances
        int64 and float32 (m, min(k, number of others)), nearest first; equal distances in row order.
    """
    others = len(points) - (own is not None)
    k, wanted, mean = min(k, others), min(k + 8, others), points.mean(0)
    centered = points - mean
    norms = np.einsum("ij,ij->i", centered, centered)
    indices, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    rows, columns = 256, 2048  # a tile of products stays in a core's cache

    def compare(start: int) -> None:
        at = queries[start : start + rows]
        best, best_at = np.full((len(at), wanted), np.inf, np.float32), np.zeros((len(at), wanted), np.int64)
        moved = at - mean
        for first in range(0, len(points), columns):
            products = moved @ centered[first : first + columns].T
            if own is not None:
                here = np.arange(len(at))
                there = own + start + here - first
                inside = (there >= 0) & (there < products.shape[1])
                products[here[inside], there[inside]] = -np.inf
            _offer_compiled(products, norms[first : first + columns], first, best, best_at)
        exact = np.square(points[best_at] - at[:, None].astype(np.float64)).sum(2)
        order = np.lexsort((best_at, exact), axis=1)[:, :k]
        indices[start : start + rows] = np.take_along_axis(best_at, order, 1)
        distances[start : start + rows] = np.sqrt(np.take_along_axis(exact, order, 1))

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(compare, range(0, len(queries), rows)))
    return indices, distances


def neighbors(points: np.ndarray, k: int, threads: int) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """The k nearest of every point, itself first: indices int64 (n, k) and distances float32 (n, k). See `search`."""
    n = len(points)
    indices, distances = np.empty((n, k), np.int64), np.zeros((n, k), np.float32)
    indices[:, 0] = np.arange(n)
    for start in range(0, n, SHARD):
        yield Progress(start, n, "finding neighbors")
        stop = min(start + SHARD, n)
        found = search(points, points[start:stop], k - 1, threads, own=start)
        indices[start:stop, 1:], distances[start:stop, 1:] = found
    return indices, distances


# ---------------------------------------------------------------------------------------------------- placing
def place(
    reference_latents: np.ndarray,
    reference_coordinates: np.ndarray,
    new_latents: np.ndarray,
    k: int = QUALITY_NEIGHBORS,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Place newcomers on a finished map: the mean of their k nearest subjects' places, weighted by 1 / distance.

    A newcomer equal to a subject of the map lands on it. UMAP's own transform is not used: it pulls strangers into
    clusters they do not belong to, and would need the fitted object kept as a pickle.

    Parameters
    ----------
    reference_latents, reference_coordinates
        float32 (n, d) and (n, 3): the subjects the map was fitted on.
    new_latents
        float32 (m, d); a row with NaN is placed nowhere (NaN).

    Returns
    -------
    coordinates
        float32 (m, 3).
    knn_distance
        float32 (m,): mean latent distance to the k nearest. Far beyond the reference's own (see `percentiles`), a
        newcomer is off the map.

    Raises
    ------
    ValueError
        Latent vectors of another length.
    """
    if new_latents.shape[1] != reference_latents.shape[1]:
        raise ValueError(
            f"latent vectors have length {new_latents.shape[1]}, those of the map {reference_latents.shape[1]}; "
            "score them with the map's own network"
        )
    m = len(new_latents)
    coordinates, knn_distance = np.full((m, 3), np.nan, np.float32), np.full(m, np.nan, np.float32)
    rows = np.flatnonzero(np.isfinite(new_latents).all(1))
    if not len(rows):
        return coordinates, knn_distance
    found, distances = search(reference_latents, np.asarray(new_latents[rows]), k, threads)
    is_same = distances == 0
    weights = np.where(is_same.any(1, keepdims=True), is_same, 1 / np.where(is_same, 1, distances))
    weights /= weights.sum(1, keepdims=True)
    coordinates[rows] = np.einsum("bk,bkc->bc", weights, reference_coordinates[found])
    knn_distance[rows] = distances.mean(1)
    return coordinates, knn_distance


def percentiles(own: np.ndarray, knn_distance: np.ndarray) -> np.ndarray:
    """Percent (float32, 0 to 100) of the fitted subjects whose `own` k-NN distance is below each of `knn_distance`."""
    return (100 / len(own) * np.searchsorted(np.sort(own), knn_distance)).astype(np.float32)


def representative(points: np.ndarray, scores: np.ndarray, n: int, seed: int, threads: int) -> np.ndarray:
    """Choose which subjects a map of very many is fitted on, so that rare regions are among them: rows, rising.

    All of the top 1 % by anomaly score, all of the sparsest 1 % of latent space, and of the others an equal share of
    each of 100 strata: deciles of anomaly score × deciles of density. Density goes by the mean distance to the eight
    nearest of `LANDMARKS` random subjects. If the two 1 % are more than half of `n`, half of `n` is drawn from them.

    Parameters
    ----------
    points
        float32 (N, d), finite.
    scores
        (N,) anomaly scores; subjects without one (NaN) count as lowest.
    """
    random = np.random.default_rng(seed)
    landmarks = points[np.sort(random.choice(len(points), min(LANDMARKS, len(points)), replace=False))]
    sparseness = np.concatenate(
        [
            search(landmarks, np.asarray(points[start : start + SHARD]), 8, threads)[1].mean(1)
            for start in range(0, len(points), SHARD)
        ]
    )
    ranks = [
        np.argsort(np.argsort(values, kind="stable")) for values in (np.nan_to_num(scores, nan=-np.inf), sparseness)
    ]
    is_rare = np.maximum(*ranks) >= 0.99 * len(points)
    rare = random.permutation(np.flatnonzero(is_rare))[: n // 2]
    others = np.flatnonzero(~is_rare)
    strata = np.add(*(weight * (10 * rank[others] // len(points)) for weight, rank in zip((10, 1), ranks, strict=True)))
    within = np.lexsort((random.random(len(others)), strata))  # shuffled in each stratum, strata one after another
    step = np.linspace(0, len(others), n - len(rare), endpoint=False).astype(np.int64)
    return np.sort(np.concatenate([rare, others[within[step]]]))


# ----------------------------------------------------------------------------------------------------- quality
def quality(
    latents: np.ndarray, coordinates: np.ndarray, k: int = QUALITY_NEIGHBORS, seed: int = 0
) -> dict[str, float]:
    """How faithful a map is, over all subjects or, of many, a random sample of them (each compared with all others).

    Trustworthiness (Venna and Kaski 2001, equation 1): 1 where the k nearest on the map are also nearest in latent
    space, lower by how far down the latent ranking the false ones are. Neighbor preservation: the share of the k
    nearest in latent space that are also among the k nearest on the map. k is kept below half the number of subjects.

    Returns
    -------
    dict
        ``trustworthiness``, ``neighbor_preservation`` (0 to 1), ``quality_k``, ``quality_n`` (subjects in the sample).
    """
    n = len(latents)
    k = max(1, min(k, (n - 1) // 2))
    m = min(n, max(500, 20_000_000 // n))
    sample = np.sort(np.random.default_rng(seed).choice(n, m, replace=False))
    latents, coordinates = latents - latents.mean(0), coordinates - coordinates.mean(0)  # small norms lose no digits
    norms, map_norms = np.einsum("ij,ij->i", latents, latents), np.einsum("ij,ij->i", coordinates, coordinates)
    penalty, kept = 0.0, 0
    step = max(1, 4_000_000 // n)
    for start in range(0, m, step):
        rows = sample[start : start + step]
        here = np.arange(len(rows))
        in_latents = norms[rows, None] - 2 * latents[rows] @ latents.T + norms  # squared distances (rows, n)
        on_map = map_norms[rows, None] - 2 * coordinates[rows] @ coordinates.T + map_norms
        in_latents[here, rows] = on_map[here, rows] = np.inf
        near_latents = np.argpartition(in_latents, k - 1, axis=1)[:, :k]
        near_map = np.argpartition(on_map, k - 1, axis=1)[:, :k]
        for column in near_map.T:  # rank of this map neighbor in latent space, 1 the nearest
            rank = 1 + (in_latents < in_latents[here, column][:, None]).sum(1)
            penalty += np.maximum(rank - k, 0).sum()
        kept += (near_latents[:, :, None] == near_map[:, None, :]).sum()
    return {
        "trustworthiness": float(1 - 2 * penalty / (m * k * (2 * n - 3 * k - 1))),
        "neighbor_preservation": float(kept / (m * k)),
        "quality_k": k,
        "quality_n": m,
    }


# -------------------------------------------------------------------------------------------------- the layout
def lay_out(
    latents: np.ndarray,
    indices: np.ndarray,
    distances: np.ndarray,
    layout: Layout,
    min_dist: float,
    seed: int,
    threads: int = 1,
) -> Generator[Progress, None, np.ndarray]:
    """Lay out float32 (n, d) latent vectors from their nearest neighbors (n, k); progress in rounds.

    Returns
    -------
    coordinates
        float32 (n, n_components). The same for the same seed, unless the rounds are parallel (see `is_parallel`).
    """
    import umap.umap_ as steps

    n, n_neighbors = indices.shape
    n_epochs = layout.rounds(n)
    random_state = np.random.RandomState(seed)  # what UMAP takes
    yield Progress(0, n_epochs, "weighing neighbors")
    graph, _, _ = steps.fuzzy_simplicial_set(latents, n_neighbors, random_state, "euclidean", {}, indices, distances)
    graph = graph.tocoo()
    graph.sum_duplicates()
    graph.data[graph.data < graph.data.max() / n_epochs] = 0.0
    graph.eliminate_zeros()
    yield Progress(0, n_epochs, "finding a start")
    start = first_layout(latents, graph, layout, random_state)
    a, b = steps.find_ab_params(1.0, min_dist)

    ticks: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(
                steps.simplicial_set_embedding(
                    latents,
                    graph,
                    layout.n_components,
                    layout.learning_rate,
                    a,
                    b,
                    1.0,  # weight of repulsion
                    5,  # repelling samples for each attracting one
                    n_epochs,
                    start,
                    random_state,
                    "euclidean",
                    {},
                    False,
                    {},
                    False,
                    parallel=is_parallel(layout, threads),
                    tqdm_kwds={"disable": False, "file": _Ticks(ticks), "bar_format": "{n}", "mininterval": 0.25},
                )[0]
            )
        except Exception as error:
            outcome.append(error)
        ticks.put(None)

    # The rounds run in one call; in a thread of its own, its progress bar becomes our progress.
    threading.Thread(target=work, name="umap", daemon=True).start()
    while (tick := ticks.get()) is not None:
        yield Progress(tick, n_epochs, "laying out the map")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return np.asarray(outcome[0], np.float32)


class _Ticks:
    """A file for tqdm to write to; it passes on the number of rounds done."""

    def __init__(self, ticks: "queue.SimpleQueue[int | None]") -> None:
        self.ticks = ticks

    def write(self, text: str) -> None:
        if text.strip().isdigit():
            self.ticks.put(int(text))

    def flush(self) -> None:
        pass


def is_parallel(layout: Layout, threads: int) -> bool:
    """Whether the rounds run on several threads at once, which write over each other: no two maps are then equal."""
    return not layout.is_reproducible and threads >= PARALLEL_FROM


def first_layout(latents: np.ndarray, graph: Any, layout: Layout, random_state: Any) -> np.ndarray:
    """Where the layout starts, (n, n_components): the graph's spectrum, or principal components.

    The latter where the preset wants them, and where the spectrum fails: for very few subjects and for many equal ones.
    """
    from umap.spectral import spectral_layout
    from umap.umap_ import noisy_scale_coords

    n, n_components = len(latents), layout.n_components
    start = None
    if n >= 20 and not (layout.pca_of_many and n > MANY):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = spectral_layout(latents, graph, n_components, random_state, metric="euclidean", metric_kwds={})
        if any("Spectral initialisation failed" in str(w.message) for w in caught):
            start = None
    if start is None:
        centered = latents - latents.mean(0)
        axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :n_components]
        start = np.zeros((n, n_components), np.float32)
        start[:, : axes.shape[1]] = centered @ axes
    return noisy_scale_coords(start, random_state, max_coord=10, noise=0.0001)  # type: ignore[no-any-return]


def gpu_umap(layout: Layout) -> Any:
    """``cuml.manifold.UMAP`` where the preset may use it and it is installed with a CUDA device; else None."""
    if layout.is_reproducible:
        return None
    try:
        umap, cupy = importlib.import_module("cuml.manifold").UMAP, importlib.import_module("cupy")
        return umap if cupy.cuda.runtime.getDeviceCount() else None
    except (ImportError, RuntimeError):  # not installed; no driver
        return None


# ---------------------------------------------------------------------------------------------------- the kind
@dataclass(frozen=True, slots=True)
class Base:
    """What newcomers are placed on, row by row: the subjects laid out, and of a finished map those placed before too.

    Attributes
    ----------
    subject_ids, latents, coordinates
        int64 (n,), float32 (n, d), float32 (n, 3).
    knn_distance
        float32 (n,): mean latent distance to the `k` nearest of the fitted.
    is_placed
        bool (n,): False where the layout made the place ("fitted").
    is_reproducible
        Whether the same seed and threads give the same map, bit by bit.
    """

    subject_ids: np.ndarray
    latents: np.ndarray
    coordinates: np.ndarray
    knn_distance: np.ndarray
    is_placed: np.ndarray
    k: int
    is_reproducible: bool


def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Map the subjects of a score run; write ``coordinates.parquet``, ``latents.npy`` and what placing newcomers takes.

    Of more than `FIT_ALL_UP_TO` subjects (or where ``fit_on`` says so) a sample is laid out (see `representative`) and
    the others are placed on it (see `place`). With a finished map among the parents nothing is laid out: its subjects
    keep their places, bit by bit, and those that it does not have are placed on it.

    Subjects without a latent vector (see `quality` in the scores) are left out and counted. Those of the score run that
    are not the workspace's are neither laid out nor placed. Resumes: the layout, once
    done, and finished shards of placed subjects stay in ``parts/``.

    Raises
    ------
    ArtifactError
        Fewer than four subjects with latent vectors, all vectors equal, a score run that is not whole, or a map whose
        vectors another network made.
    """
    scored, onto = workspace.parents["score"], workspace.parents.get("map")
    latents = read_latents(scored)
    table = read_columns(scored / SCORES, SCORES_SCHEMA)
    subject_ids = table.column("subject_id").to_numpy()
    if len(latents) != len(subject_ids):
        raise ArtifactError(
            f"{scored}: {LATENTS} has {len(latents):,} rows, {SCORES} {len(subject_ids):,}; score again"
        )
    is_asked = np.isin(subject_ids, workspace.subject_ids)  # of a selection not all that are scored
    rows = np.flatnonzero(is_asked & np.isfinite(latents).all(1))
    n_left_out = int(is_asked.sum()) - len(rows)
    if onto is not None:
        base = yield from finished(onto, scored, workspace.threads)
    else:
        if len(rows) < 4:
            left_out = f" ({n_left_out:,} have no latent vector)" if n_left_out else ""
            raise ArtifactError(f"a map needs at least 4 scored subjects; {scored} has {len(rows)}{left_out}")
        if (latents[rows] == latents[rows[0]]).all():
            raise ArtifactError(
                f"all {len(rows):,} latent vectors in {scored} are equal, so there is no map; train for longer"
            )
        scores = table.column("anomaly_score").to_numpy()[rows]
        points = latents if len(rows) == len(latents) else latents[rows]
        base = yield from fit(config, workspace, subject_ids[rows], points, scores)
    new = rows[~np.isin(subject_ids[rows], base.subject_ids)]
    coordinates, knn_distance = yield from place_shards(base, latents, new, workspace)

    ids = np.concatenate([base.subject_ids, subject_ids[new]])
    coordinates = np.concatenate([base.coordinates, coordinates])
    knn_distance = np.concatenate([base.knn_distance, knn_distance])
    is_placed = np.concatenate([base.is_placed, np.ones(len(new), bool)])
    if onto is None:  # in the scores' order
        order = np.argsort(np.concatenate([np.flatnonzero(np.isin(subject_ids, base.subject_ids)), new]))
        ids, coordinates, knn_distance, is_placed = (a[order] for a in (ids, coordinates, knn_distance, is_placed))
    if onto is None and len(rows) == len(latents):
        share(scored / LATENTS, workspace.directory / LATENTS)
    else:
        joined = latents[rows] if onto is None else np.concatenate([base.latents, latents[new]])
        write_array(workspace.directory / LATENTS, joined)
    own = base.knn_distance[~base.is_placed]
    percentile = percentiles(own, knn_distance)
    is_off_map = is_placed & (percentile > OFF_MAP)
    yield Progress(1, 1, "measuring the map's quality")
    results = {
        "n_subjects": len(ids),
        "n_left_out": n_left_out,
        "n_neighbors": base.k + 1,
        "threads": workspace.threads,
        "is_reproducible": base.is_reproducible,
        "n_fitted": len(own),
        "n_placed": int(is_placed.sum()),
        "n_off_map": int(is_off_map.sum()),
    } | quality(read_latents(workspace.directory), coordinates)
    quantiles = {str(q): float(np.quantile(own, q)) for q in (0.5, 0.9, 0.95, 0.99, 0.999)}
    write_json(workspace.directory / PLACING, {"k": base.k, "knn_distance_quantiles": quantiles})
    write_array(workspace.directory / KNN_DISTANCES, knn_distance)
    columns = [ids, *coordinates.T, is_placed, percentile, is_off_map]
    names = [*COORDINATES_SCHEMA.names, "is_placed", "knn_percentile", "is_off_map"]
    write_table(workspace.directory / COORDINATES, pa.table(columns, names))
    return results


def fit(
    config: Config, workspace: Workspace, subject_ids: np.ndarray, points: np.ndarray, scores: np.ndarray
) -> Generator[Progress, None, Base]:
    """Lay out all subjects or a sample of them; what ``parts/fitted.npz`` has from before is taken as it is."""
    n, threads, path = len(points), workspace.threads, workspace.directory / PARTS / FITTED
    if not path.exists():
        shutil.rmtree(path.parent, ignore_errors=True)  # subjects placed on a layout that is gone
        path.parent.mkdir()
        n_fitted = min(n, max(4, config.fit_on or (n if n <= FIT_ALL_UP_TO else FIT_ON)))
        rows = np.arange(n)
        if n_fitted < n:
            yield Progress(0, 1, f"choosing {n_fitted:,} of {n:,} subjects to lay out")
            rows = representative(points, scores, n_fitted, config.seed, threads)
        chosen = np.asarray(points[rows])
        k = min(config.n_neighbors, n_fitted - 1)
        layout = PRESETS[config.preset]
        layout = replace(layout, n_epochs=config.n_epochs or layout.n_epochs)
        indices, distances = yield from neighbors(chosen, k, threads)
        if (gpu := gpu_umap(layout)) is not None:
            yield Progress(0, 1, "laying out the map on the GPU")
            coordinates = gpu(
                n_components=layout.n_components,
                n_neighbors=k,
                n_epochs=layout.rounds(n_fitted),
                min_dist=config.min_dist,
                precomputed_knn=(indices, distances),
            ).fit_transform(chosen)
        else:
            coordinates = yield from lay_out(chosen, indices, distances, layout, config.min_dist, config.seed, threads)
        if not np.isfinite(coordinates).all():
            raise ArtifactError("the map's layout ran away to infinity; lower n_epochs or raise min_dist")
        arrays = {
            "rows": rows,
            "coordinates": np.asarray(coordinates, np.float32)[:, :MAP_DIMENSIONS],
            "knn_distance": distances[:, 1:].mean(1),
            "k": np.int64(k - 1),
            "is_reproducible": np.bool_(gpu is None and not is_parallel(layout, threads)),
        }
        with replacing(path) as handle:
            np.savez(handle, **arrays)
    with np.load(path, allow_pickle=False) as found:
        rows = found["rows"]
        return Base(
            subject_ids[rows],
            points[rows],
            found["coordinates"],
            found["knn_distance"],
            np.zeros(len(rows), bool),
            int(found["k"]),
            bool(found["is_reproducible"]),
        )


def finished(folder: Path, scored: Path, threads: int) -> Generator[Progress, None, Base]:
    """A finished map to place the subjects of the score run `scored` on; older maps are fitted ones throughout.

    Raises
    ------
    ArtifactError
        Another network made its vectors, or it lacks what placing takes.
    """
    about = Run.read(folder / MAP_JSON)
    check_network(folder, scored)
    table, latents = read_columns(folder / COORDINATES, COORDINATES_SCHEMA), read_latents(folder)
    if not (folder / PLACING).exists():
        raise ArtifactError(f"{folder / PLACING} is missing, so nothing can be placed on this map; make a map anew")
    k = json.loads((folder / PLACING).read_text())["k"]
    is_old = "is_placed" not in table.column_names
    if not is_old and table.column("is_placed").to_numpy().all():
        raise ArtifactError(
            f"{about.run_id} has no layout of its own: its subjects were placed on the map of another survey, and so "
            "are more of them; apply the boundary again"
        )
    if is_old:
        _, distances = yield from neighbors(latents, k + 1, threads)
    return Base(
        table.column("subject_id").to_numpy(),
        latents,
        np.column_stack([table.column(name).to_numpy() for name in COORDINATES_SCHEMA.names[1:]]),
        distances[:, 1:].mean(1) if is_old else np.load(folder / KNN_DISTANCES, allow_pickle=False),
        np.zeros(len(table), bool) if is_old else table.column("is_placed").to_numpy(),
        k,
        bool(about.results.get("is_reproducible", True)),
    )


def place_shards(
    base: Base, latents: np.ndarray, rows: np.ndarray, workspace: Workspace
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """Place `rows` of `latents`: coordinates float32 (m, 3) and k-NN distances (m,), shard by shard in ``parts/``."""
    parts = workspace.directory / PARTS
    parts.mkdir(exist_ok=True)
    is_fitted = ~base.is_placed
    reference, places = np.asarray(base.latents[is_fitted]), base.coordinates[is_fitted]
    coordinates, knn_distance = np.empty((len(rows), 3), np.float32), np.empty(len(rows), np.float32)
    for number, start in enumerate(range(0, len(rows), SHARD)):
        here, path = slice(start, start + SHARD), parts / f"{number:05d}.npz"
        if not path.exists():
            yield Progress(start, len(rows), "placing subjects on the map")
            placed, distance = place(reference, places, latents[rows[here]], base.k, workspace.threads)
            with replacing(path) as handle:
                np.savez(handle, coordinates=placed, knn_distance=distance)
        with np.load(path, allow_pickle=False) as found:
            coordinates[here], knn_distance[here] = found["coordinates"], found["knn_distance"]
    return coordinates, knn_distance


def share(source: Path, target: Path) -> None:
    """Give `source` a second name, or copy it where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    fsync_directory(target.parent)
