"""The autoencoder: what it learns, scores and keeps when it is stopped."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from explorer.kinds.autoencoder import AutoencoderConfig
from models import autoencoder
from models.artifacts import CHECKPOINT, ArtifactError, Workspace, read_latents
from tests.models.networks import blobs, finish, workspace
from tests.models.pools import Unruly

TINY = AutoencoderConfig(epochs=3, batch=8, width=4, code_channels=2, learning_rate=1e-2)


def scored(folder: Path, images: Any, config: AutoencoderConfig = TINY) -> tuple[pd.DataFrame, dict[str, Any]]:
    _, results = finish(autoencoder.run(config, workspace(folder, images)))
    return pd.read_parquet(folder / "scores.parquet"), results


def test_the_shapes_are_those_of_czsl() -> None:
    model = autoencoder.Autoencoder(3, 16, 8)
    assert [tuple(w.shape) for name, w in model.encoder.named_parameters() if name.endswith("weight")] == [
        (16, 3, 3, 3),
        (8, 16, 3, 3),
        (8, 8, 3, 3),
    ]
    assert model.encoder(torch.zeros(2, 3, 64, 64)).shape == (2, 8, 8, 8)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_scores_are_sums_of_squares_and_latents_the_code(tmp_path: Path) -> None:
    images = blobs(30, size=16)
    images[5] = 7
    found, results = scored(tmp_path, images)
    model = autoencoder.build(3, TINY)
    assert autoencoder.resume(model, tmp_path / CHECKPOINT, 30) is not None
    with torch.no_grad():
        x = torch.from_numpy(images / 255).float().permute(0, 3, 1, 2)
        code = model.encoder(x)
        expected = ((x - model.decoder(code)) ** 2).sum((1, 2, 3))
    kept = np.arange(30) != 5
    np.testing.assert_allclose(found["anomaly_score"][kept], expected[kept], rtol=1e-4)
    np.testing.assert_array_equal(found["image_score"], found["anomaly_score"])
    np.testing.assert_allclose(read_latents(tmp_path)[kept], code.flatten(1)[kept], rtol=1e-4, atol=1e-5)
    assert np.isnan(read_latents(tmp_path)[5]).all() and np.isnan(found["anomaly_score"][5])
    assert found["quality"][5] == "constant image"
    assert found["split"].value_counts().to_dict() == {"train": 27, "validation": 3}
    assert results["n_train"] == 27 and results["score_title"] == "Autoencoder reconstruction error"


def test_training_makes_the_error_smaller_and_an_odd_image_stands_out(tmp_path: Path) -> None:
    images = blobs(60, size=16)
    images[9] = 255 - images[9]
    config = AutoencoderConfig(epochs=25, batch=8, width=8, code_channels=4, learning_rate=1e-2)
    records, _ = finish(autoencoder.run(config, workspace(tmp_path, images)))
    losses = [r.metrics["train_loss"] for r in records if r.message == "training"]
    assert len(losses) == 25
    assert losses[-1] < losses[0] / 3
    assert pd.read_parquet(tmp_path / "scores.parquet")["anomaly_score"].idxmax() == 9


def test_the_seed_fixes_every_number(tmp_path: Path) -> None:
    images = blobs(20, size=16)
    (first, _), (again, _) = (scored(tmp_path / name, images) for name in "ab")
    pd.testing.assert_frame_equal(first, again)
    assert (tmp_path / "a" / CHECKPOINT).read_bytes() == (tmp_path / "b" / CHECKPOINT).read_bytes()


def test_a_run_stopped_while_scoring_keeps_its_training_and_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "SHARD", 8)
    images = blobs(30, size=16)
    whole, results = scored(tmp_path / "whole", images)
    job = autoencoder.run(TINY, workspace(tmp_path / "cut", images))
    while next(job).done != 24:
        pass
    job.close()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "parts").iterdir()}
    assert sorted(kept) == ["00000.npz", "00001.npz", "plan.json"]
    monkeypatch.setattr(autoencoder, "train", None)  # it is not trained again
    found, after = scored(tmp_path / "cut", images)
    pd.testing.assert_frame_equal(found, whole)
    assert after == results
    np.testing.assert_array_equal(read_latents(tmp_path / "cut"), read_latents(tmp_path / "whole"))


def test_workers_and_their_threads_change_not_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "SHARD", 8)
    images = blobs(30, size=16)
    scored(tmp_path / "alone", images)
    work = workspace(tmp_path / "shared", images)
    pool = Unruly(TINY, work, threads=(2, 1, 3))
    finish(autoencoder.run(TINY, replace(work, pool=pool)))
    assert set(pool.done) == {0, 1, 2, 3}
    for name in ("scores.parquet", "latents.npy"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    shutil.rmtree(tmp_path / "shared" / "parts")  # as of a run that is done
    with pytest.raises(ArtifactError, match="scoring has ended or not begun"):
        autoencoder.score_shard(TINY, work, 0)


def test_images_added_since_it_was_stopped_mean_training_anew(tmp_path: Path) -> None:
    scored(tmp_path, blobs(20, size=16))
    assert autoencoder.resume(autoencoder.build(3, TINY), tmp_path / CHECKPOINT, 21) is None


def test_it_trains_on_so_many_at_most_and_duplicates_stay_together(tmp_path: Path) -> None:
    images, groups = blobs(40, size=16), np.repeat(np.arange(20), 2)
    tmp_path.joinpath("run").mkdir()
    work = Workspace(tmp_path / "run", images, np.arange(40), {}, {}, 1, groups)
    config = AutoencoderConfig(epochs=1, width=2, code_channels=1, train_on=16, validation=0.2)
    _, results = finish(autoencoder.run(config, work))
    split = pd.read_parquet(tmp_path / "run" / "scores.parquet")["split"].to_numpy()
    assert results["n_train"] == (split == "train").sum() <= 16
    assert (split[::2] == split[1::2]).all()
    assert set(split) == {"train", "validation", "unseen"}


def test_what_cannot_be_trained_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="size 20 is not a multiple of 8"):
        scored(tmp_path / "a", blobs(4, size=20))
    with pytest.raises(ArtifactError, match="the survey has no images to train on"):
        scored(tmp_path / "b", blobs(1, size=16))
    with pytest.raises(ArtifactError, match="the loss is nan after epoch 1; take a smaller --learning-rate"):
        wild = AutoencoderConfig(epochs=2, width=2, code_channels=1, learning_rate=1.0)
        images = blobs(9, size=16)
        job = autoencoder.run(wild, workspace(tmp_path / "c", images))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(autoencoder, "image_score", lambda x, y: (x - y).flatten(1).sum(1) * float("nan"))
            finish(job)
