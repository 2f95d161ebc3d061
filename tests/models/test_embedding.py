"""Neighbors, placing and quality against slow obvious versions; the layout against `umap.UMAP`."""

import json
import sys
import types
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from explorer.kinds.map import MapConfig
from models import embedding
from models.artifacts import (
    COORDINATES_SCHEMA,
    MAP_JSON,
    RUN_JSON,
    ArtifactError,
    Run,
    Workspace,
    read_columns,
    read_latents,
    write_scores,
    write_table,
)


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


def workspace(
    tmp_path: Path,
    latents: np.ndarray,
    ids: np.ndarray | None = None,
    *,
    score: str = "score",
    into: str = "map",
    network: str = "one",
) -> Workspace:
    """A finished score run with these latents, by the checkpoint of the training run `network`, and a map's folder."""
    n = len(latents)
    ids = np.arange(n) if ids is None else ids
    for name, kind, inputs in ((network, "train", {}), (score, "score", {"train": network})):
        (tmp_path / name).mkdir(exist_ok=True)
        run = Run(name, kind, "0", {}, inputs=inputs, state="done", checkpoint_sha256=f"sha256 of {network}")
        run.write(tmp_path / name / RUN_JSON)
    (tmp_path / into).mkdir()
    scores = {"subject_id": ids, "split": ["unseen"] * n, "quality": ["ok"] * n}
    zeros = np.zeros(n, np.float32)
    columns = {**scores, "image_score": zeros, "feature_score": zeros, "anomaly_score": np.arange(n, dtype=np.float32)}
    write_scores(tmp_path / score, latents, columns)
    return Workspace(tmp_path / into, None, ids, {"score": tmp_path / score}, {})


def finish_map(config: MapConfig, work: Workspace) -> dict[str, Any]:
    """Run the job to its end and leave map.json as the worker does; return the results."""
    _, results = finish(embedding.run(config, work))
    inputs = {name: folder.name for name, folder in work.parents.items()}
    run = Run(work.directory.name, "map", "0", {}, inputs=inputs, state="done", results=results)
    run.write(work.directory / MAP_JSON)
    return results


def column(folder: Path, name: str) -> np.ndarray:
    return read_columns(folder / "coordinates.parquet", COORDINATES_SCHEMA).column(name).to_numpy()


def coordinates_of(folder: Path) -> np.ndarray:
    return np.column_stack([column(folder, f"umap_{i}") for i in (1, 2, 3)])


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


def test_nearest_to_a_vector_of_nobody_is_what_comparing_it_with_some_finds() -> None:
    random = np.random.default_rng(3)
    latents, query = random.normal(size=(300, 7)).astype(np.float32), random.normal(size=7).astype(np.float32)
    query.flags.writeable = False
    among = random.random(300) < 0.5
    found, distances = embedding.nearest_to(latents, query, 10, among, block=64)
    exact = np.sqrt(np.square(latents.astype(np.float64) - query).sum(1))
    rows = np.flatnonzero(among)
    assert found.tolist() == rows[np.argsort(exact[rows])[:10]].tolist()
    np.testing.assert_allclose(distances, exact[found], rtol=1e-6)
    assert embedding.nearest_to(latents, latents[5], 1)[0].tolist() == [5]  # nobody is left out
    with pytest.raises(ValueError, match=r"has shape \(6,\); those of the subjects have 7 axes"):
        embedding.nearest_to(latents, query[:6], 3)
    with pytest.raises(ValueError, match="not finite"):
        embedding.nearest_to(latents, np.full(7, np.nan, np.float32), 3)


def test_nearest_is_that_of_float64_where_float32_cannot_tell_distances_apart() -> None:
    random = np.random.default_rng(4)
    latents = (random.normal(size=(1, 128)) * np.where(random.random((400, 128)) < 0.5, -1, 1)).astype(np.float32)
    latents *= 1 + np.float32(2e-7) * random.integers(0, 3, (400, 1)).astype(np.float32)
    latents[::7] = latents[0]  # and ties
    for i in (0, 1, 7):
        exact = np.square(latents.astype(np.float64) - latents[i]).sum(1)
        order = [j for j in np.lexsort((np.arange(400), exact)) if j != i]
        assert embedding.nearest(latents, i, 30, 64)[0].tolist() == order[:30]


@pytest.mark.parametrize("own", [None, 0, 130])
def test_a_search_finds_what_comparing_all_with_all_finds(own: int | None) -> None:
    points = np.random.default_rng(5).integers(0, 3, (2500, 12)).astype(np.float32) + 50  # many ties, far from 0
    queries = points[own : own + 300] if own is not None else points[:300] + np.float32(0.25)
    found, distances = embedding.search(points, queries, 6, threads=2, own=own)
    for i in range(0, 300, 37):
        exact = np.sqrt(np.square(points.astype(np.float64) - queries[i]).sum(1))
        if own is not None:
            exact[own + i] = np.inf
        np.testing.assert_allclose(distances[i], np.sort(exact)[:6], rtol=1e-6)
        np.testing.assert_allclose(exact[found[i]], distances[i], rtol=1e-6)
        assert len(set(found[i])) == 6


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


def test_a_percentile_counts_the_fitted_subjects_that_are_nearer_to_theirs() -> None:
    own = np.array([4, 1, 3, 2], np.float32)
    assert embedding.percentiles(own, np.array([0.5, 1, 2.5, 4, 4.1], np.float32)).tolist() == [0, 0, 50, 75, 100]


def test_the_sample_that_is_fitted_has_all_rare_subjects_and_an_equal_share_of_the_others() -> None:
    random = np.random.default_rng(6)
    points = random.normal(size=(5000, 4)).astype(np.float32)
    points[:20] *= 30  # far out, with low scores
    scores = np.arange(5000, dtype=np.float32)
    scores[100:200] = np.nan
    rows = embedding.representative(points, scores, 1000, seed=1, threads=1)
    assert len(np.unique(rows)) == 1000
    assert (np.diff(rows) > 0).all()
    assert set(range(4950, 5000)) <= set(rows)  # the top 1 % by score
    assert set(range(20)) <= set(rows)
    shares = np.histogram(rows, np.arange(0, 5001, 500))[0]
    assert shares[:9].min() > 70
    assert shares[:9].max() < 130
    assert (rows == embedding.representative(points, scores, 1000, seed=1, threads=1)).all()
    assert (rows != embedding.representative(points, scores, 1000, seed=2, threads=1)).any()


def test_a_map_of_a_sample_places_the_others_and_says_which_are_off_it(tmp_path: Path) -> None:
    latents = clusters(300)
    latents[7] = 500  # a stranger, but not to the sample: the sparsest are always in it
    work = workspace(tmp_path, latents)
    results = finish_map(MapConfig(n_epochs=20, fit_on=100), work)
    is_placed, percentile = column(work.directory, "is_placed"), column(work.directory, "knn_percentile")
    assert (results["n_subjects"], results["n_fitted"], results["n_placed"]) == (300, 100, 200)
    assert is_placed.sum() == 200
    assert not is_placed[[7, 297, 298, 299]].any()
    assert column(work.directory, "subject_id").tolist() == list(range(300))
    assert np.isfinite(coordinates_of(work.directory)).all()
    own = np.load(work.directory / "knn_distances.npy")
    nearer = np.array([(own[~is_placed] < d).sum() for d in own])
    np.testing.assert_allclose(percentile, nearer, atol=1e-4)  # of 100 fitted
    assert results["n_off_map"] == column(work.directory, "is_off_map").sum() == (is_placed & (nearer == 100)).sum()
    assert (read_latents(work.directory) == latents).all()
    fitted = ~is_placed
    again, _ = embedding.place(latents[fitted], coordinates_of(work.directory)[fitted], latents, 14)
    assert (again == coordinates_of(work.directory)).all()  # the known ones on themselves


def test_a_map_that_was_stopped_while_placing_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "SHARD", 32)
    config = MapConfig(preset="seeded", n_epochs=20, fit_on=60)
    whole = workspace(tmp_path, clusters(200))
    finish_map(config, whole)
    (tmp_path / "cut").mkdir()
    cut = workspace(tmp_path / "cut", clusters(200))
    job = embedding.run(config, cut)
    while (next(job)).done < 64:
        pass
    job.close()
    assert sorted(p.name for p in (cut.directory / "parts").iterdir()) == ["00000.npz", "00001.npz", "fitted.npz"]
    records, _ = finish(embedding.run(config, cut))
    assert [r.done for r in records if r.message == "placing subjects on the map"] == [64, 96, 128]
    assert not any(r.message == "laying out the map" for r in records)
    found = [(work.directory / "coordinates.parquet").read_bytes() for work in (whole, cut)]
    assert found[0] == found[1]


def test_subjects_placed_on_a_layout_that_is_gone_are_placed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "SHARD", 32)
    config = MapConfig(preset="seeded", n_epochs=20, fit_on=60)
    work = workspace(tmp_path, clusters(200))
    job = embedding.run(config, work)
    while (next(job)).done < 64:
        pass
    job.close()
    (work.directory / "parts" / "fitted.npz").unlink()  # stopped while the parts of the finished map were removed
    records, _ = finish(embedding.run(replace(config, seed=1), work))
    assert [r.done for r in records if r.message == "placing subjects on the map"] == [0, 32, 64, 96, 128]
    (tmp_path / "whole").mkdir()
    whole = workspace(tmp_path / "whole", clusters(200))
    finish_map(replace(config, seed=1), whole)
    assert (coordinates_of(work.directory) == coordinates_of(whole.directory)).all()


def newcomers(tmp_path: Path, **told: Any) -> tuple[Workspace, np.ndarray]:
    """A finished map of 60 subjects, and the workspace of a second that places 10 newcomers, one a stranger, on it."""
    latents = clusters(70)
    latents[69] = 500
    first = workspace(tmp_path, latents[:60])
    finish_map(MapConfig(n_epochs=20), first)
    second = workspace(tmp_path, latents, score="later", into="second", **told)
    return replace(second, parents={**second.parents, "map": first.directory}), latents


def test_newcomers_land_on_a_finished_map_without_moving_anyone(tmp_path: Path) -> None:
    work, latents = newcomers(tmp_path)
    results = finish_map(MapConfig(), work)
    old = tmp_path / "map"
    assert coordinates_of(work.directory)[:60].tobytes() == coordinates_of(old).tobytes()
    assert (column(work.directory, "knn_percentile")[:60] == column(old, "knn_percentile")).all()
    assert (results["n_subjects"], results["n_fitted"], results["n_placed"], results["n_off_map"]) == (70, 60, 10, 1)
    assert np.flatnonzero(column(work.directory, "is_off_map")).tolist() == [69]
    assert (read_latents(work.directory) == latents).all()
    third = workspace(tmp_path, latents[40:], np.arange(40, 70), score="again", into="third")
    third = replace(third, parents={**third.parents, "map": work.directory})
    assert finish_map(MapConfig(), third)["n_subjects"] == 70  # those placed before keep their places too
    assert coordinates_of(third.directory).tobytes() == coordinates_of(work.directory).tobytes()


def test_newcomers_land_on_a_map_made_before_subjects_were_placed(tmp_path: Path) -> None:
    work, _ = newcomers(tmp_path)
    old = tmp_path / "map"
    percentile = column(old, "knn_percentile")
    table = read_columns(old / "coordinates.parquet", COORDINATES_SCHEMA)
    write_table(old / "coordinates.parquet", table.select(COORDINATES_SCHEMA.names))
    (old / "knn_distances.npy").unlink()
    assert finish_map(MapConfig(), work)["n_off_map"] == 1
    assert (column(work.directory, "knn_percentile")[:60] == percentile).all()


def test_newcomers_of_another_network_are_refused_and_so_is_a_map_that_cannot_place(tmp_path: Path) -> None:
    work, _ = newcomers(tmp_path, network="two")
    with pytest.raises(
        ArtifactError, match=r"^map is a map of vectors made by one, and those of later .* by two; score"
    ):
        finish(embedding.run(MapConfig(), work))
    same = workspace(tmp_path, clusters(70), score="last", into="third")
    same = replace(same, parents={**same.parents, "map": tmp_path / "map"})
    (tmp_path / "map" / "placing.json").unlink()
    with pytest.raises(ArtifactError, match=r"placing.json is missing, so nothing can be placed on this map"):
        finish(embedding.run(MapConfig(), same))


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
    _, (indices, distances) = finish(embedding.neighbors(latents, 15, threads=1))
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


def test_fast_maps_of_many_start_from_principal_components_and_are_as_trustworthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MANY", 100)
    work = workspace(tmp_path, clusters(400))
    records, fast = finish(embedding.run(MapConfig(), work))
    assert {r.total for r in records if r.message == "laying out the map"} == {100}
    (tmp_path / "b").mkdir()
    records, seeded = finish(embedding.run(MapConfig(preset="seeded"), workspace(tmp_path / "b", clusters(400))))
    assert {r.total for r in records if r.message == "laying out the map"} == {200}
    assert fast["trustworthiness"] == pytest.approx(seeded["trustworthiness"], abs=0.03)


def test_a_parallel_layout_says_that_it_is_not_reproducible(tmp_path: Path) -> None:
    for preset, expected in (("fast", False), ("seeded", True)):
        (tmp_path / preset).mkdir()
        work = replace(workspace(tmp_path / preset, clusters(50)), threads=embedding.PARALLEL_FROM)
        assert finish_map(MapConfig(preset=preset, n_epochs=5), work)["is_reproducible"] is expected
        assert np.isfinite(coordinates_of(work.directory)).all()


@pytest.mark.filterwarnings("ignore")  # umap.UMAP's own, about its arguments
@pytest.mark.parametrize(("preset", "devices", "taken"), [("fast", 1, True), ("fast", 0, False), ("seeded", 1, False)])
def test_cuml_lays_out_where_it_is_installed_with_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: Any, devices: int, taken: bool
) -> None:
    """cuML itself is not here: a module of its name and arguments has umap-learn underneath."""
    import umap

    made = []

    class Fake:
        def __init__(self, *, precomputed_knn: Any, **options: Any) -> None:
            made.append(options)
            indices, distances = precomputed_knn
            knn = (indices.astype(np.int32), distances)
            self.umap = umap.UMAP(precomputed_knn=knn, force_approximation_algorithm=True, **options)

        def fit_transform(self, points: np.ndarray) -> np.ndarray:
            return self.umap.fit_transform(points)

    runtime = types.SimpleNamespace(getDeviceCount=lambda: devices)
    monkeypatch.setitem(sys.modules, "cuml", types.ModuleType("cuml"))
    monkeypatch.setitem(sys.modules, "cuml.manifold", types.SimpleNamespace(UMAP=Fake))
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime)))
    work = workspace(tmp_path, clusters(60))
    results = finish_map(MapConfig(preset=preset, n_epochs=30), work)
    assert made == ([{"n_components": 3, "n_neighbors": 15, "n_epochs": 30, "min_dist": 0.1}] if taken else [])
    assert results["is_reproducible"] is not taken
    assert results["trustworthiness"] > 0.8
    assert coordinates_of(work.directory).shape == (60, 3)


def test_the_same_seed_gives_the_same_map(tmp_path: Path) -> None:
    latents = clusters(50)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        work = workspace(tmp_path / name, latents)
        finish(embedding.run(MapConfig(preset="seeded", n_epochs=30, seed=5), work))
        found.append((work.directory / "coordinates.parquet").read_bytes())
    assert found[0] == found[1]


def test_the_paper_preset_computes_five_components_and_keeps_three(tmp_path: Path) -> None:
    work = workspace(tmp_path, clusters(40))
    finish(embedding.run(MapConfig(preset="paper", n_epochs=5), work))
    assert coordinates_of(work.directory).shape == (40, 3)


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
