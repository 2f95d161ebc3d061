"""Neighbors, placing and quality against slow obvious versions; the layout against `umap.UMAP`."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from explorer.kinds.map import MapConfig
from models import embedding
from models.artifacts import COORDINATES_SCHEMA, ArtifactError, Workspace, read_columns, read_latents, write_scores


def finish(job: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    """Every record of a job, and what it returns."""
    records = []
    while True:
        try:
            records.append(next(job))
        except StopIteration as end:
            return records, end.value


def clusters(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (4 * random.normal(size=(3, d))[random.integers(0, 3, n)] + random.normal(size=(n, d))).astype(np.float32)


def workspace(tmp_path: Path, latents: np.ndarray, ids: np.ndarray | None = None) -> Workspace:
    """A finished score run with these latents, and an empty map folder."""
    n = len(latents)
    ids = np.arange(n) if ids is None else ids
    scores = {"subject_id": ids, "split": ["unseen"] * n, "quality": ["ok"] * n}
    zeros = np.zeros(n, np.float32)
    (tmp_path / "score").mkdir()
    (tmp_path / "map").mkdir()
    columns = {**scores, "image_score": zeros, "feature_score": zeros, "anomaly_score": zeros}
    write_scores(tmp_path / "score", latents, columns)
    return Workspace(tmp_path / "map", None, ids, {"score": tmp_path / "score"}, {})


# ------------------------------------------------------------------------------------------------- neighbors
@pytest.mark.parametrize("block", [7, 50, 1000])
def test_nearest_is_what_comparing_all_with_all_finds(block: int) -> None:
    latents = np.random.default_rng(1).integers(0, 4, (50, 3)).astype(np.float32)  # many ties
    for i in (0, 13, 49):
        distances = np.sqrt(((latents - latents[i]) ** 2).sum(1))
        order = sorted((d, j) for j, d in enumerate(distances) if j != i)[:10]
        found, found_distances = embedding.nearest(latents, i, 10, block)
        assert found.tolist() == [j for _, j in order]
        np.testing.assert_allclose(found_distances, [d for d, _ in order], rtol=1e-6)


def test_nearest_reads_a_memory_map_and_returns_all_there_are(tmp_path: Path) -> None:
    np.save(tmp_path / "latents.npy", clusters(6))
    latents = np.load(tmp_path / "latents.npy", mmap_mode="r")
    found, distances = embedding.nearest(latents, 2, 20)
    assert sorted(found.tolist()) == [0, 1, 3, 4, 5]
    assert (np.diff(distances) >= 0).all()


def test_nearest_passes_over_rows_without_a_latent_vector() -> None:
    latents = clusters(10)
    latents[4] = np.nan
    assert 4 not in embedding.nearest(latents, 0, 9)[0]
    with pytest.raises(ValueError, match="row 4 has no latent vector"):
        embedding.nearest(latents, 4, 3)
    with pytest.raises(ValueError, match="row 10 is outside"):
        embedding.nearest(latents, 10, 3)


# ---------------------------------------------------------------------------------------------------- placing
def test_a_known_subject_lands_on_itself() -> None:
    latents = clusters(40)
    places = np.random.default_rng(2).normal(size=(40, 3)).astype(np.float32)
    coordinates, _ = embedding.place(latents, places, latents[[3, 30]])
    np.testing.assert_allclose(coordinates, places[[3, 30]], rtol=1e-6)


def test_a_newcomer_lands_at_the_weighted_mean_of_its_neighbors() -> None:
    latents = np.array([[0.0], [3.0], [100.0]], np.float32)
    places = np.array([[0, 0, 0], [3, 6, 9], [50, 50, 50]], np.float32)
    coordinates, distance = embedding.place(latents, places, np.array([[1.0]], np.float32), k=2)
    np.testing.assert_allclose(coordinates, [[1, 2, 3]], rtol=1e-6)  # weights 1/1 and 1/2
    np.testing.assert_allclose(distance, [1.5])


def test_a_newcomer_without_a_latent_vector_is_placed_nowhere() -> None:
    coordinates, distance = embedding.place(clusters(9), np.zeros((9, 3), np.float32), np.full((1, 8), np.nan))
    assert np.isnan(coordinates).all()
    assert np.isnan(distance).all()


def test_latents_of_another_network_are_not_placed() -> None:
    with pytest.raises(ValueError, match="have length 5, those of the map 8"):
        embedding.place(clusters(9), np.zeros((9, 3), np.float32), np.zeros((1, 5), np.float32))


# ---------------------------------------------------------------------------------------------------- quality
def test_quality_agrees_with_scikit_learn_and_with_counting() -> None:
    latents = clusters(60)
    on_map = latents[:, :3] + np.random.default_rng(3).normal(size=(60, 3)).astype(np.float32)
    found = embedding.quality(latents, on_map, k=5)
    assert found["trustworthiness"] == pytest.approx(trustworthiness(latents, on_map, n_neighbors=5), abs=1e-6)

    def near(points: np.ndarray, i: int) -> set[int]:
        return set(np.argsort(((points - points[i]) ** 2).sum(1))[1:6].tolist())

    kept = np.mean([len(near(latents, i) & near(on_map, i)) / 5 for i in range(60)])
    assert found["neighbor_preservation"] == pytest.approx(kept)


def test_a_perfect_map_has_quality_one() -> None:
    points = clusters(30, d=3)
    found = embedding.quality(points, 7 * points)
    assert found["trustworthiness"] == pytest.approx(1)
    assert found["neighbor_preservation"] == pytest.approx(1)


# ------------------------------------------------------------------------------------------------- the layout
@pytest.mark.filterwarnings("ignore")  # umap.UMAP's own, about its arguments
def test_the_layout_is_umaps_own() -> None:
    import umap

    latents = clusters(120)
    indices, distances = embedding.neighbors(latents, 15, seed=0, threads=1)
    theirs = umap.UMAP(
        n_components=3,
        random_state=7,
        n_epochs=30,
        n_jobs=1,
        precomputed_knn=(indices.astype(np.int32), distances),
        force_approximation_algorithm=True,
    ).fit_transform(latents)
    _, ours = finish(embedding.lay_out(latents, indices, distances, embedding.Layout(n_epochs=30), 0.1, 7))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_job_writes_a_map_that_newcomers_can_be_placed_on(tmp_path: Path) -> None:
    latents, ids = clusters(80), np.arange(80) + 588848901523702001
    work = workspace(tmp_path, latents, ids)
    records, results = finish(embedding.run(MapConfig(n_epochs=40), work))
    assert records[-1].message == "measuring the map's quality"
    assert max(r.done for r in records if r.message == "laying out the map") == 40
    table = read_columns(work.directory / "coordinates.parquet", COORDINATES_SCHEMA)
    assert table.column("subject_id").to_pylist() == ids.tolist()
    coordinates = np.column_stack([table.column(f"umap_{i}").to_numpy() for i in (1, 2, 3)])
    assert np.isfinite(coordinates).all()
    assert results["trustworthiness"] > 0.8
    assert results["n_subjects"] == 80
    placing = json.loads((work.directory / "placing.json").read_text())
    placed, distance = embedding.place(read_latents(work.directory), coordinates, latents[:5], placing["k"])
    np.testing.assert_allclose(placed, coordinates[:5], rtol=1e-5)
    assert (distance < placing["knn_distance_quantiles"]["0.999"]).all()


def test_the_same_seed_gives_the_same_map(tmp_path: Path) -> None:
    latents = clusters(50)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        work = workspace(tmp_path / name, latents)
        finish(embedding.run(MapConfig(n_epochs=30, seed=5), work))
        found.append((work.directory / "coordinates.parquet").read_bytes())
    assert found[0] == found[1]


def test_the_paper_preset_computes_five_components_and_keeps_three(tmp_path: Path) -> None:
    work = workspace(tmp_path, clusters(40))
    finish(embedding.run(MapConfig(preset="paper", n_epochs=5), work))
    assert read_columns(work.directory / "coordinates.parquet", COORDINATES_SCHEMA).num_columns == 4


def test_subjects_without_a_latent_vector_are_left_out_and_counted(tmp_path: Path) -> None:
    latents = clusters(30)
    latents[[3, 8]] = np.nan
    work = workspace(tmp_path, latents)
    _, results = finish(embedding.run(MapConfig(n_epochs=10), work))
    assert results["n_left_out"] == 2
    ids = read_columns(work.directory / "coordinates.parquet", COORDINATES_SCHEMA).column("subject_id").to_pylist()
    assert ids == [i for i in range(30) if i not in (3, 8)]
    assert len(read_latents(work.directory)) == 28


@pytest.mark.parametrize("n", [4, 7, 25])
def test_small_surveys_get_a_map(tmp_path: Path, n: int) -> None:
    work = workspace(tmp_path, clusters(n))
    _, results = finish(embedding.run(MapConfig(n_epochs=10), work))
    assert results["n_subjects"] == n


def test_many_equal_subjects_get_a_map(tmp_path: Path) -> None:
    latents = clusters(60)
    latents[:40] = latents[0]
    _, results = finish(embedding.run(MapConfig(n_epochs=10), workspace(tmp_path, latents)))
    assert results["n_subjects"] == 60


def test_what_cannot_become_a_map_is_refused_in_one_sentence(tmp_path: Path) -> None:
    few = clusters(5)
    few[:2] = np.nan
    cases = [
        ("few", few, r"at least 4 scored subjects; .* has 3 \(2 have no latent vector\)"),
        ("equal", np.ones((10, 4), np.float32), "all 10 latent vectors in .* are equal"),
    ]
    for name, latents, message in cases:
        (tmp_path / name).mkdir()
        with pytest.raises(ArtifactError, match=message):
            finish(embedding.run(MapConfig(), workspace(tmp_path / name, latents)))


def test_misaligned_scores_are_refused(tmp_path: Path) -> None:
    work = workspace(tmp_path, clusters(10))
    np.save(tmp_path / "score" / "latents.npy", clusters(9))
    with pytest.raises(ArtifactError, match=r"latents.npy has 9 rows, scores.parquet 10"):
        finish(embedding.run(MapConfig(), work))
