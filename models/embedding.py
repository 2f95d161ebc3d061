"""Latent vectors → the map: UMAP to three components, its quality, neighbors, and where newcomers belong.

UMAP: McInnes, Healy and Melville 2018 (arXiv:1802.03426). Its steps are called one by one here, so that progress can be
told; the result is `umap.UMAP`'s own (a test compares them).
"""

import os
import queue
import shutil
import threading
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from models.artifacts import (
    LATENTS,
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Workspace,
    fsync_directory,
    read_columns,
    read_latents,
    write_array,
    write_coordinates,
    write_json,
)
from models.progress import Progress

PLACING = "placing.json"  # with latents.npy and coordinates.parquet, all that placing newcomers needs

EXACT_BELOW = 30_000  # subjects up to which neighbors are found by comparing all with all
MAP_DIMENSIONS = 3
QUALITY_NEIGHBORS = 15


class Config(Protocol):
    """See `explorer.kinds.map.MapConfig`."""

    @property
    def preset(self) -> Literal["fast", "paper"]: ...
    @property
    def n_neighbors(self) -> int: ...
    @property
    def min_dist(self) -> float: ...
    @property
    def n_epochs(self) -> int | None: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """What a preset fixes of UMAP: components computed (the first three are kept), learning rate, rounds."""

    n_components: int = MAP_DIMENSIONS
    learning_rate: float = 1.0
    n_epochs: int | None = None


#: "paper": the notebook of Mantha et al. 2024. Its learning rate leaves the layout near its spectral start.
PRESETS = {"fast": Layout(), "paper": Layout(n_components=5, learning_rate=0.001, n_epochs=1000)}


# ------------------------------------------------------------------------------------------------- neighbors
def nearest(latents: np.ndarray, index: int, k: int, block: int = 65_536) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest others of one subject by Euclidean distance: all are compared, none is missed.

    Parameters
    ----------
    latents
        float32 (n, d), memory-mapped or not; read in blocks of `block` rows. Rows with NaN are nobody's neighbor.
    index
        The row whose neighbors are asked for; it is not among them.

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
    best_distances, best = np.empty(0, np.float32), np.empty(0, np.int64)
    for start in range(0, n, block):
        difference = np.asarray(latents[start : start + block]) - query
        squared = np.einsum("ij,ij->i", difference, difference)
        if start <= index < start + len(squared):
            squared[index - start] = np.nan
        rows = np.flatnonzero(squared == squared)  # not NaN
        if len(rows) > k:
            limit = np.partition(squared[rows], k - 1)[k - 1]
            rows = rows[squared[rows] <= limit]  # ties at the limit stay until row order decides
        best_distances = np.concatenate([best_distances, squared[rows]])
        best = np.concatenate([best, rows + start])
        order = np.lexsort((best, best_distances))[:k]
        best_distances, best = best_distances[order], best[order]
    return best, np.sqrt(best_distances)


def neighbors(points: np.ndarray, k: int, seed: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of every point, itself first: indices (n, k) and distances (n, k) float32.

    Exact up to `EXACT_BELOW` points; above, by nearest-neighbor descent, which finds all but some in a thousand, the
    same ones for the same seed and number of threads.
    """
    if len(points) <= EXACT_BELOW:
        from sklearn.neighbors import NearestNeighbors

        distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors(points)
    else:
        import umap.umap_

        random_state = np.random.RandomState(seed)  # what UMAP takes
        indices, distances, _ = umap.umap_.nearest_neighbors(
            points, k, "euclidean", {}, False, random_state, n_jobs=threads
        )
    return indices, distances.astype(np.float32)


def place(
    reference_latents: np.ndarray,
    reference_coordinates: np.ndarray,
    new_latents: np.ndarray,
    k: int = QUALITY_NEIGHBORS,
) -> tuple[np.ndarray, np.ndarray]:
    """Place newcomers on a finished map: the mean of their k nearest subjects' places, weighted by 1 / distance.

    A newcomer equal to a subject of the map lands on it. UMAP's own transform is not used: it pulls strangers into
    clusters they do not belong to, and would need the fitted object kept as a pickle.

    Parameters
    ----------
    reference_latents, reference_coordinates
        float32 (n, d) and (n, 3): the subjects the map was made of.
    new_latents
        float32 (m, d); a row with NaN is placed nowhere (NaN).

    Returns
    -------
    coordinates
        float32 (m, 3).
    knn_distance
        float32 (m,): mean latent distance to the k nearest. Far beyond the reference's own (``placing.json``), a
        newcomer is off the map.

    Raises
    ------
    ValueError
        Latent vectors of another length.
    """
    from sklearn.neighbors import NearestNeighbors

    if new_latents.shape[1] != reference_latents.shape[1]:
        raise ValueError(
            f"latent vectors have length {new_latents.shape[1]}, those of the map {reference_latents.shape[1]}; "
            "score them with the map's own network"
        )
    m, k = len(new_latents), min(k, len(reference_latents))
    coordinates, knn_distance = np.full((m, 3), np.nan, np.float32), np.full(m, np.nan, np.float32)
    rows = np.flatnonzero(np.isfinite(new_latents).all(1))
    if not len(rows):
        return coordinates, knn_distance
    candidates = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(reference_latents)
    for start in range(0, len(rows), 4096):
        at = rows[start : start + 4096]
        new = np.asarray(new_latents[at])
        found = candidates.kneighbors(new, return_distance=False)
        distances = np.linalg.norm(reference_latents[found] - new[:, None], axis=2)  # (b, k), exact where equal
        is_same = distances == 0
        weights = np.where(is_same.any(1, keepdims=True), is_same, 1 / np.where(is_same, 1, distances))
        weights /= weights.sum(1, keepdims=True)
        coordinates[at] = np.einsum("bk,bkc->bc", weights, reference_coordinates[found])
        knn_distance[at] = distances.mean(1)
    return coordinates, knn_distance


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
    latents: np.ndarray, indices: np.ndarray, distances: np.ndarray, layout: Layout, min_dist: float, seed: int
) -> Generator[Progress, None, np.ndarray]:
    """Lay out float32 (n, d) latent vectors from their nearest neighbors (n, k); progress in rounds.

    Returns
    -------
    coordinates
        float32 (n, n_components). The same for the same seed.
    """
    import umap.umap_ as steps

    n, n_neighbors = indices.shape
    n_epochs = layout.n_epochs or (500 if n <= 10_000 else 200)
    random_state = np.random.RandomState(seed)  # what UMAP takes
    yield Progress(0, n_epochs, "weighing neighbors")
    graph, _, _ = steps.fuzzy_simplicial_set(latents, n_neighbors, random_state, "euclidean", {}, indices, distances)
    graph = graph.tocoo()
    graph.sum_duplicates()
    graph.data[graph.data < graph.data.max() / n_epochs] = 0.0
    graph.eliminate_zeros()
    yield Progress(0, n_epochs, "finding a start")
    start = first_layout(latents, graph, layout.n_components, random_state)
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


def first_layout(latents: np.ndarray, graph: Any, n_components: int, random_state: Any) -> np.ndarray:
    """Where the layout starts, (n, n_components): the graph's spectrum, or principal components where that fails.

    It fails for very few subjects and for many equal ones.
    """
    from umap.spectral import spectral_layout
    from umap.umap_ import noisy_scale_coords

    if len(latents) >= 20:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = spectral_layout(latents, graph, n_components, random_state, metric="euclidean", metric_kwds={})
        if not any("Spectral initialisation failed" in str(w.message) for w in caught):
            return noisy_scale_coords(start, random_state, max_coord=10, noise=0.0001)  # type: ignore[no-any-return]
    left, singular, _ = np.linalg.svd(latents - latents.mean(0), full_matrices=False)
    start = np.zeros((len(latents), n_components), np.float32)
    width = min(n_components, len(singular))
    start[:, :width] = left[:, :width] * singular[:width]
    return noisy_scale_coords(start, random_state, max_coord=10, noise=0.0001)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Map the subjects of a score run; write ``coordinates.parquet``, ``latents.npy`` and ``placing.json``.

    Subjects without a latent vector (see `quality` in the scores) are left out and counted.

    Raises
    ------
    ArtifactError
        Fewer than four subjects with latent vectors, all vectors equal, or a score run that is not whole.
    """
    scored = workspace.parents["score"]
    latents = read_latents(scored)
    subject_ids = read_columns(scored / SCORES, SCORES_SCHEMA).column("subject_id").to_numpy()
    if len(latents) != len(subject_ids):
        raise ArtifactError(
            f"{scored}: {LATENTS} has {len(latents):,} rows, {SCORES} {len(subject_ids):,}; score again"
        )
    finite = np.isfinite(latents).all(1)
    n, n_left_out = int(finite.sum()), int((~finite).sum())
    if n < 4:
        left_out = f" ({n_left_out:,} have no latent vector)" if n_left_out else ""
        raise ArtifactError(f"a map needs at least 4 scored subjects; {scored} has {n}{left_out}")
    points = np.asarray(latents[finite])
    if (points == points[0]).all():
        raise ArtifactError(f"all {n:,} latent vectors in {scored} are equal, so there is no map; train for longer")

    layout = PRESETS[config.preset]
    layout = Layout(layout.n_components, layout.learning_rate, config.n_epochs or layout.n_epochs)
    yield Progress(0, 1, f"finding neighbors of {n:,} subjects")
    k = min(config.n_neighbors, n - 1)
    indices, distances = neighbors(points, k, config.seed, workspace.threads)
    coordinates = yield from lay_out(points, indices, distances, layout, config.min_dist, config.seed)
    coordinates = np.ascontiguousarray(coordinates[:, :MAP_DIMENSIONS])
    if not np.isfinite(coordinates).all():
        raise ArtifactError("the map's layout ran away to infinity; lower n_epochs or raise min_dist")

    yield Progress(1, 1, "measuring the map's quality")
    results = {"n_subjects": n, "n_left_out": n_left_out, "n_neighbors": k, "threads": workspace.threads} | quality(
        points, coordinates
    )
    if n_left_out:
        write_array(workspace.directory / LATENTS, points)
    else:
        share(scored / LATENTS, workspace.directory / LATENTS)
    own = distances[:, 1:].mean(1)
    quantiles = {str(q): float(np.quantile(own, q)) for q in (0.5, 0.9, 0.95, 0.99, 0.999)}
    write_json(workspace.directory / PLACING, {"k": k - 1, "knn_distance_quantiles": quantiles})
    write_coordinates(workspace.directory, subject_ids[finite], coordinates)
    return results


def share(source: Path, target: Path) -> None:
    """Give `source` a second name, or copy it where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    fsync_directory(target.parent)
