"""Detectors without training, against what they are by definition, computed on everything at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from explorer.kinds.score import KIND, ScoreConfig
from models import detectors
from models.artifacts import ArtifactError, Workspace, write_scores
from tests.models.networks import blobs, finish, workspace
from tests.models.pools import Unruly


def scored(folder: Path, images: np.ndarray, **config: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The scores and results of a detector on pixels."""
    _, results = finish(detectors.run(ScoreConfig(**config), workspace(folder, images, first_id=7)))
    return pd.read_parquet(folder / "scores.parquet"), results


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "BLOCK", 16)
    monkeypatch.setattr(detectors, "PIECE", 5)


@pytest.mark.usefixtures("small_blocks")
def test_pca_error_is_the_sum_of_squares_that_the_components_leave(tmp_path: Path) -> None:
    images = blobs(70, size=16)
    found, results = scored(tmp_path, images, method="pca", n_components=5)
    x = images.reshape(70, -1) / 255
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    left = (x - x.mean(0)) - (x - x.mean(0)) @ axes[:5].T @ axes[:5]
    np.testing.assert_allclose(found["anomaly_score"], (left**2).sum(1), rtol=1e-3)
    np.testing.assert_array_equal(found["image_score"], found["anomaly_score"])
    assert found["feature_score"].isna().all()
    assert found["subject_id"].tolist() == list(range(7, 77))
    assert set(found["split"]) == {"train"} and set(found["quality"]) == {"ok"}
    assert results["score_title"] == "PCA-5 reconstruction error"
    assert results["n_fit"] == results["splits"]["train"]["n"] == 70
    assert 0 < results["explained_variance"] < 1


@pytest.mark.usefixtures("small_blocks")
def test_knn_is_the_mean_distance_to_the_nearest_others(tmp_path: Path) -> None:
    images = blobs(60, size=16)
    images[31] = images[8]  # a duplicate is a neighbor, the subject itself is none
    found, results = scored(tmp_path, images, method="knn", n_neighbors=3, n_components=4)
    x = (images.reshape(60, -1) / 255).astype(np.float32)
    z = PCA(4, random_state=1234).fit_transform(x)
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(found["anomaly_score"], np.sort(distances, 1)[:, :3].mean(1), rtol=1e-3, atol=1e-4)
    assert found["image_score"].isna().all()
    assert results["score_title"] == "Mean distance to 3 neighbors in 4 principal components"


def test_a_subject_is_not_its_own_neighbor_among_many_duplicates(tmp_path: Path) -> None:
    images = blobs(20, size=16)
    images[:6] = images[0]
    found, _ = scored(tmp_path, images, method="knn", n_neighbors=2, n_components=3)
    np.testing.assert_allclose(found["anomaly_score"][:6], 0, atol=1e-3)


@pytest.mark.usefixtures("small_blocks")
def test_an_isolation_forest_is_that_of_scikit_learn_on_all_at_once(tmp_path: Path) -> None:
    images = blobs(50, size=16)
    images[20, 2:6, 2:6] = 255
    found, results = scored(tmp_path, images, method="iforest", n_components=6, seed=3)
    x = images.reshape(50, -1).astype(np.float32) / np.float32(255)
    z = PCA(6, random_state=3).fit(x).transform(x)
    expected = -IsolationForest(random_state=3).fit(z).score_samples(z)
    np.testing.assert_allclose(found["anomaly_score"], expected, rtol=1e-5)
    assert results["score_title"] == "Isolation forest of 6 principal components"


@pytest.mark.parametrize("method", ["pca", "iforest", "knn"])
def test_an_odd_image_comes_first_and_the_seed_fixes_every_number(tmp_path: Path, method: str) -> None:
    images = blobs(80, size=16)
    images[33, :, 11:13] = 150  # a satellite's trail
    first, _ = scored(tmp_path / "a", images, method=method, n_components=2)
    again, _ = scored(tmp_path / "b", images, method=method, n_components=2)
    assert first["anomaly_score"].idxmax() == 33
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.usefixtures("small_blocks")
def test_a_detector_is_fitted_to_a_random_sample_and_measures_all(tmp_path: Path) -> None:
    images = blobs(90, size=16)
    found, results = scored(tmp_path, images, method="pca", n_components=3, fit_on=40)
    in_sample = (found["split"] == "train").to_numpy()
    assert in_sample.sum() == results["n_fit"] == 40
    assert found["anomaly_score"].notna().all()
    assert 0 < in_sample[:45].sum() < 40  # from all over the survey
    x = (images.reshape(90, -1) / 255).astype(np.float32)
    pca = PCA(3, random_state=0).fit(x[in_sample])
    left = x - pca.inverse_transform(pca.transform(x))
    np.testing.assert_allclose(found["anomaly_score"], (left**2).sum(1), rtol=1e-3)


def test_a_sample_is_of_the_sky_alone() -> None:
    vectors, n = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), np.full(50, "ok")
    source = detectors.Source(vectors, np.arange(50), n, n)
    left_out = np.arange(50) >= 30
    rows, sample = detectors.draw_sample(source, 40, 0, 0.0, left_out)
    assert rows.tolist() == list(range(30)) and sample.shape == (30, 3)
    assert detectors.draw_sample(source, 40, 0, 0.0)[0].max() >= 30


def test_the_sample_is_smaller_where_images_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "SAMPLE_BYTES", 25 * 4 * 16 * 16 * 3)
    _, results = scored(tmp_path, blobs(60, size=16), method="pca", n_components=3)
    assert results["n_fit"] == 25


def test_a_constant_image_has_no_score_and_is_in_no_sample(tmp_path: Path) -> None:
    images = blobs(30, size=16)
    images[4] = 99
    found, results = scored(tmp_path, images, method="knn", n_components=3)
    assert np.flatnonzero(found["anomaly_score"].isna()).tolist() == [4]
    assert (found["quality"][4], found["split"][4]) == ("constant image", "unseen")
    assert (results["n_not_scored"], results["n_fit"]) == (1, 29)


# ------------------------------------------------------------------------------------------------- latent vectors
def on_latents(folder: Path, latents: np.ndarray, quality: list[str] | None = None) -> Workspace:
    """A run folder that builds on a score run with these vectors."""
    n = len(latents)
    for name in ("parent", "run"):
        (folder / name).mkdir()
    columns = {
        "subject_id": np.arange(n) * 2,
        "split": np.where(np.arange(n) % 2, "validation", "unseen"),
        **{name: np.zeros(n, np.float32) for name in ("image_score", "feature_score", "anomaly_score")},
        "quality": quality or ["ok"] * n,
    }
    write_scores(folder / "parent", latents, columns)
    return Workspace(folder / "run", None, np.arange(3 * n), {"score": folder / "parent"}, {})


def test_latent_vectors_are_measured_as_they_are(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    latents[7] += 100
    latents[9] = np.nan
    quality = ["ok"] * 40
    quality[9] = "score not finite"
    work = on_latents(tmp_path, latents, quality)
    config = ScoreConfig(method="knn", on="latents", n_neighbors=2, fit_on=30)
    _, results = finish(detectors.run(config, work))
    found = pd.read_parquet(work.directory / "scores.parquet")
    assert found["subject_id"].tolist() == list(range(0, 80, 2))  # its parent's subjects, not the survey's
    assert found["anomaly_score"].idxmax() == 7
    assert np.isnan(found["anomaly_score"][9]) and found["quality"][9] == "score not finite"
    assert set(found["split"]) == {"train", "validation", "unseen"}
    assert results["score_title"] == "Mean distance to 2 neighbors in latent vectors"
    assert not (work.directory / "latents.npy").exists()


def test_pca_on_latent_vectors_is_no_image_score(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    work = on_latents(tmp_path, latents)
    _, results = finish(detectors.run(ScoreConfig(method="pca", on="latents", n_components=2), work))
    found = pd.read_parquet(work.directory / "scores.parquet")
    _, values, _ = np.linalg.svd(latents - latents.mean(0))
    assert found["anomaly_score"].sum() == pytest.approx((values[2:] ** 2).sum(), rel=1e-3)
    assert found["image_score"].isna().all()
    assert results["score_title"] == "PCA-2 reconstruction error of latent vectors"


# ------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"method": "pca"}, "32 principal components leave nothing of 12 vectors of length 768; take --n-components"),
        ({"method": "knn", "n_components": 3, "n_neighbors": 12}, "12 neighbors need more than 12 subjects; take a"),
    ],
)
def test_too_few_subjects_for_the_settings_are_a_sentence(
    tmp_path: Path, config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        scored(tmp_path, blobs(12, size=16), **config)


def test_images_without_anything_to_score_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="0 of 5 subjects have something to score"):
        scored(tmp_path / "a", np.zeros((5, 16, 16, 3), np.uint8), method="pca")
    with pytest.raises(ArtifactError, match="the survey has no images to score"):
        scored(tmp_path / "b", blobs(0, size=16), method="pca")


def test_what_a_score_needs_depends_on_its_method() -> None:
    def needs(**config: Any) -> tuple[tuple[str, ...], bool, bool]:
        kind = KIND.set_to(ScoreConfig(**config))
        return kind.needs, kind.needs_images, kind.needs_latents

    assert needs() == (("train",), True, False)
    assert needs(method="pca") == ((), True, False)
    assert needs(method="iforest", on="latents") == (("score",), False, True)
    with pytest.raises(ValueError, match="wgan scores pixels; on latents there are pca, iforest and knn"):
        ScoreConfig(on="latents")


def test_around_the_center_pixels_count_by_their_weights(tmp_path: Path) -> None:
    images = blobs(40)
    found, results = scored(tmp_path, images, method="pca", n_components=3, center=0.2)
    offset = (np.arange(32) - 15.5) / 32
    weights = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 0.2**2))[:, :, None]
    pixels = (images / 255 * np.sqrt(weights)).reshape(40, -1)
    pca = PCA(3, svd_solver="full").fit(pixels)
    expected = ((pixels - pca.inverse_transform(pca.transform(pixels))) ** 2).sum(1)
    np.testing.assert_allclose(found["anomaly_score"], expected, rtol=1e-3)
    assert results["score_title"] == "PCA-3 reconstruction error around the center"


# ------------------------------------------------------------------------------------------------------- workers
@pytest.mark.parametrize("method", ["pca", "iforest", "knn"])
def test_workers_and_their_threads_change_not_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(detectors, "SHARD", 16)
    monkeypatch.setattr(detectors, "PIECE", 5)
    images = blobs(70, size=16)
    images[33] = 9
    config = ScoreConfig(method=method, n_components=4, n_neighbors=3, fit_on=40)  # type: ignore[arg-type]
    _, results = finish(detectors.run(config, workspace(tmp_path / "alone", images)))
    work = workspace(tmp_path / "shared", images)
    pool = Unruly(config, work, threads=(2, 1, 3))
    _, shared = finish(detectors.run(config, replace(work, pool=pool)))
    assert len(pool.done) > len(set(pool.done)) == 5
    whole = (tmp_path / "alone" / "scores.parquet").read_bytes()
    assert (tmp_path / "shared" / "scores.parquet").read_bytes() == whole
    assert {k: v for k, v in shared.items() if "second" not in k} == {
        k: v for k, v in results.items() if "second" not in k
    }


def test_a_run_that_was_stopped_keeps_its_detector_and_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "SHARD", 16)
    images, config = blobs(70, size=16), ScoreConfig(method="pca", n_components=4, fit_on=40)
    finish(detectors.run(config, workspace(tmp_path / "whole", images)))
    job = detectors.run(config, workspace(tmp_path / "cut", images))
    while next(job).done < 48:
        pass
    job.close()
    kept = {path.name for path in (tmp_path / "cut" / "parts").iterdir()}
    assert kept == {"detector.npz", "plan.json", "00000.npz", "00001.npz"}
    monkeypatch.setattr(detectors, "fit", None)  # it is not fitted again
    finish(detectors.run(config, workspace(tmp_path / "cut", images)))
    whole = (tmp_path / "whole" / "scores.parquet").read_bytes()
    assert (tmp_path / "cut" / "scores.parquet").read_bytes() == whole


def test_vectors_of_a_score_run_are_measured_without_workers(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    folder = tmp_path / "score"
    folder.mkdir()
    number = np.ones(50, np.float32)
    named = {"image_score": number, "feature_score": number, "anomaly_score": number}
    about = {"split": np.full(50, "unseen"), "quality": np.full(50, "ok")}
    write_scores(folder, vectors, {"subject_id": np.arange(50), **named, **about})
    config = ScoreConfig(method="knn", on="latents", n_neighbors=2)
    work = Workspace(tmp_path / "run", None, np.arange(50), {"score": folder}, {})
    work.directory.mkdir()
    pool = Unruly(config, work)
    finish(detectors.run(config, replace(work, pool=pool)))
    assert not pool.done
    assert not KIND.set_to(config).is_shared and KIND.set_to(ScoreConfig(method="knn")).is_shared
