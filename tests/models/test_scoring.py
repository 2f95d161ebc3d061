"""Scores against the published formula one image at a time; checkpoints; resuming; precision."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from explorer.kinds.score import ScoreConfig
from models import reading, scoring
from models.artifacts import CHECKPOINT, ArtifactError, Workspace, read_latents
from models.scorer import PRESETS, Scorer
from models.wgan import WGAN
from tests.models.networks import PREPROCESSING, blobs, finish, tiny, trained, workspace
from tests.models.pools import Died, Unruly

COMPACT = PRESETS["compact"]
PAPER = ScoreConfig(preset="paper", batch=3)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")


def published(model: WGAN, image: np.ndarray) -> tuple[np.ndarray, float, float]:
    """z, S_image and S_feature of one image, written as in compute_anomaly_scores.py of Mantha et al. 2024."""
    with torch.no_grad():
        x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
        z = model.encoder(x)
        made = model.generator(z)
        s_image = ((x - made) ** 2).mean(0).sum()
        s_feature = ((model.critic.features(x) - model.critic.features(made)) ** 2).mean(0).sum()
    return z[0].numpy(), s_image.item(), s_feature.item()


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "scores.parquet")


def test_scores_are_the_published_ones(tmp_path: Path) -> None:
    model, images = tiny(), blobs(9)
    train = trained(tmp_path / "train", model)
    finish(scoring.run(ScoreConfig(preset="paper", batch=4), workspace(tmp_path / "score", images, train, first_id=40)))
    found, latents = table(tmp_path / "score"), read_latents(tmp_path / "score")
    assert found["subject_id"].tolist() == list(range(40, 49))
    for i, image in enumerate(images):
        z, s_image, s_feature = published(model, image)
        np.testing.assert_allclose(latents[i], z, rtol=1e-3, atol=1e-5)
        assert found["image_score"][i] == pytest.approx(s_image, rel=1e-4)
        assert found["feature_score"][i] == pytest.approx(s_feature, rel=1e-4)
        assert found["anomaly_score"][i] == pytest.approx(0.8 * s_image + 0.2 * s_feature, rel=1e-4)
    assert found["quality"].eq("ok").all()
    assert found["split"].eq("unseen").all()


def compact(model: WGAN, image: np.ndarray) -> tuple[float, float]:
    """S_image and S_feature of preset "compact" of one image, summed pixel by pixel and cell by cell."""
    k, sigma, stage = COMPACT
    with torch.no_grad():
        x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
        z = model.encoder(x)[0] - model.latent_mean
        kept = sum((z @ axis) * axis for axis in model.latent_axes[:k])
        made = model.generator((model.latent_mean + kept)[None])
        pixels = (x - made)[0].numpy()
        shape = (1, -1, len(image) >> stage, len(image) >> stage)
        features = (model.critic.features(x, stage) - model.critic.features(made, stage)).view(shape)[0].numpy()
    sums = []
    for residual in (pixels, features):
        total, side = 0.0, residual.shape[1]
        for i in range(side):
            for j in range(side):
                r = np.hypot(*(np.array([i, j]) * len(image) / side - (len(image) - 1) / 2)) / len(image)
                total += math.exp(-(r**2) / (2 * sigma**2)) * (residual[:, i, j] ** 2).sum()
        sums.append(total)
    return sums[0], sums[1]


def test_compact_scores_are_of_few_axes_and_around_the_center(tmp_path: Path) -> None:
    model, images = tiny(latent_size=12), blobs(5)
    train = trained(tmp_path / "train", model)
    _, results = finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", images, train)))
    assert (results["latent_axes"], results["center"], results["feature_stage"]) == COMPACT
    found = table(tmp_path / "score")
    for i, image in enumerate(images):
        s_image, s_feature = compact(model, image)
        assert found["image_score"][i] == pytest.approx(s_image, rel=1e-3)
        assert found["feature_score"][i] == pytest.approx(s_feature, rel=1e-3)
        assert published(model, image)[1] > 1.2 * s_image
    loaded = scoring.load_model(train, PREPROCESSING, {"preset": "compact"}, "cpu")
    np.testing.assert_allclose(loaded.feature_residual(images).sum((1, 2)), found["feature_score"], rtol=1e-3)
    assert (loaded.reconstruct(images) != scoring.load_model(train, PREPROCESSING).reconstruct(images)).any()


def test_settings_of_ones_own_go_before_the_presets(tmp_path: Path) -> None:
    train = trained(tmp_path / "train", tiny())
    config = ScoreConfig(preset="paper", center=0.5, latent_axes=2)
    _, results = finish(scoring.run(config, workspace(tmp_path / "score", blobs(3), train)))
    assert (results["latent_axes"], results["center"], results["feature_stage"]) == (2, 0.5, 4)


def test_more_axes_than_there_are_and_settings_of_other_methods_are_refused(tmp_path: Path) -> None:
    train = trained(tmp_path / "train", tiny())
    with pytest.raises(ArtifactError, match="latent_axes is 9; the network's latent vectors have 8 axes"):
        finish(scoring.run(ScoreConfig(latent_axes=9), workspace(tmp_path / "score", blobs(3), train)))
    with pytest.raises(ValueError, match="latent_axes is of the trained model's scores; pca has none"):
        ScoreConfig(method="pca", latent_axes=3)


def test_a_network_without_axes_is_scored_as_published_only(tmp_path: Path) -> None:
    model = tiny(latent_size=12)
    model.latent_axes.zero_()
    train = trained(tmp_path / "train", model)
    with pytest.raises(ArtifactError, match="no principal axes of its latent vectors; train again"):
        finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", blobs(3), train)))
    finish(scoring.run(ScoreConfig(preset="paper"), workspace(tmp_path / "score", blobs(3), train)))


def test_the_feature_weight_is_the_users(tmp_path: Path) -> None:
    train = trained(tmp_path / "train", tiny())
    finish(scoring.run(ScoreConfig(feature_weight=1.0), workspace(tmp_path / "score", blobs(3), train)))
    found = table(tmp_path / "score")
    np.testing.assert_array_equal(found["anomaly_score"], found["feature_score"])


def test_standardised_scores_are_mixed_and_what_they_were_standardised_by_is_kept(tmp_path: Path) -> None:
    train = trained(tmp_path / "train", tiny())
    config = ScoreConfig(feature_weight=0.3, lambda_mode="standardised")
    _, results = finish(scoring.run(config, workspace(tmp_path / "score", blobs(12), train)))
    found = table(tmp_path / "score")
    mixed = np.zeros(12)
    for name, share in (("image_score", 0.7), ("feature_score", 0.3)):
        median = np.median(found[name])
        mad = np.median(np.abs(found[name] - median))
        assert results[f"{name}_median"] == pytest.approx(median) and results[f"{name}_mad"] == pytest.approx(mad)
        mixed += share * (found[name] - median) / (1.4826 * mad)
    np.testing.assert_allclose(found["anomaly_score"], mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_score_does_not_depend_on_its_batch(batch: int) -> None:
    model, images = tiny(), blobs(10)
    scorer = scoring.prepare(Scorer(model, COMPACT), torch.device("cpu"), "float32")
    together = scoring.score_images(scorer, images, 10)
    apart = scoring.score_images(scorer, images, batch)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_constant_image_has_no_score_and_says_why(tmp_path: Path) -> None:
    images = blobs(4)
    images[2] = 7
    train = trained(tmp_path / "train", tiny())
    _, results = finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", images, train)))
    found = table(tmp_path / "score")
    assert found["quality"].tolist() == ["ok", "ok", "constant image", "ok"]
    assert found[["image_score", "feature_score", "anomaly_score"]].isna().all(axis=1).tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert np.isnan(read_latents(tmp_path / "score")[2]).all()
    assert results["n_not_scored"] == 1


def test_a_score_that_is_no_number_is_missing(tmp_path: Path) -> None:
    model = tiny()
    model.critic.stages[0].weight.data[:] = torch.inf
    train = trained(tmp_path / "train", model)
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", blobs(2), train)))
    assert table(tmp_path / "score")["quality"].tolist() == ["score not finite"] * 2
    assert table(tmp_path / "score")["image_score"].isna().all()


# ----------------------------------------------------------------------------------------------------- resuming
class Counting:
    """Images that count how many were read, and may break off."""

    def __init__(self, images: np.ndarray, stop_after: int | None = None) -> None:
        self.images, self.read, self.stop_after = images, 0, stop_after
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> np.ndarray:
        block = self.images[index]
        self.read += len(block)
        if self.stop_after is not None and self.read > self.stop_after:
            raise KeyboardInterrupt
        return block


def test_a_killed_run_keeps_its_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD", 8)
    train, images = trained(tmp_path / "train", tiny()), blobs(30)
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "whole", images, train)))
    with pytest.raises(KeyboardInterrupt):
        finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", Counting(images, stop_after=20), train)))
    assert not (tmp_path / "score" / "scores.parquet").exists()
    assert sorted(p.name for p in (tmp_path / "score" / "parts").glob("*.npz")) == ["00000.npz", "00001.npz"]
    rest = Counting(images)
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", rest, train)))
    assert rest.read == 14
    pd.testing.assert_frame_equal(table(tmp_path / "score"), table(tmp_path / "whole"))
    np.testing.assert_array_equal(read_latents(tmp_path / "score"), read_latents(tmp_path / "whole"))


def test_parts_of_another_checkpoint_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD", 8)
    images = blobs(20)
    first = trained(tmp_path / "first", tiny(seed=1))
    with pytest.raises(KeyboardInterrupt):
        finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", Counting(images, stop_after=12), first)))
    second, rest = trained(tmp_path / "second", tiny(seed=2)), Counting(images)
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", rest, second)))
    assert rest.read == 20


# ------------------------------------------------------------------------------------------------------- workers
def files(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "scores.parquet").read_bytes(), (folder / "latents.npy").read_bytes()


def begun(folder: Path, images: Any, train: Path, config: ScoreConfig = PAPER) -> Workspace:
    """A run whose plan is written, and nothing else."""
    work = workspace(folder, images, train)
    job = scoring.run(config, replace(work, images=Counting(images, stop_after=0)))
    with pytest.raises(KeyboardInterrupt):
        finish(job)
    return work


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD", 8)


@pytest.fixture
def alone(tmp_path: Path, small_shards: None) -> tuple[Path, np.ndarray, tuple[bytes, bytes]]:
    """A network, images, and their scores as one process with one thread makes them."""
    train, images = trained(tmp_path / "train", tiny()), blobs(45)
    images[13] = 5
    _, results = finish(scoring.run(PAPER, workspace(tmp_path / "alone", images, train)))
    assert (results["batch"], results["batch_asked"]) == (3, 3)
    return train, images, files(tmp_path / "alone")


@pytest.mark.parametrize(("n_workers", "threads"), [(1, (1,)), (2, (1, 2)), (5, (3, 1, 2))])
def test_workers_and_their_threads_change_not_a_bit(
    tmp_path: Path, alone: tuple[Path, np.ndarray, tuple[bytes, bytes]], n_workers: int, threads: tuple[int, ...]
) -> None:
    train, images, expected = alone
    work = workspace(tmp_path / "score", images, train)
    pool = Unruly(PAPER, work, n_workers, threads=threads)
    records, results = finish(scoring.run(PAPER, replace(work, pool=pool)))
    assert files(tmp_path / "score") == expected
    assert len(pool.done) > len(set(pool.done)) == 6  # some parts twice
    done = [record.done for record in records]
    assert done == sorted(done) and done[-1] == 45
    spoken = [record for record in records if record.message.startswith(f"scoring on {n_workers} worker")]
    assert len(spoken) > 6 and spoken[-1].metrics["images_per_second"] > 0
    assert results["n_images"] == 45


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_of_one_process_change_not_a_bit(
    tmp_path: Path, alone: tuple[Path, np.ndarray, tuple[bytes, bytes]], threads: int
) -> None:
    train, images, expected = alone
    before = torch.get_num_threads()
    work = replace(workspace(tmp_path / "score", images, train), threads=threads)
    finish(scoring.run(PAPER, work))
    torch.set_num_threads(before)
    assert files(tmp_path / "score") == expected


def test_a_pool_that_dies_leaves_its_parts_to_the_next_attempt(
    tmp_path: Path, alone: tuple[Path, np.ndarray, tuple[bytes, bytes]]
) -> None:
    train, images, expected = alone
    work = workspace(tmp_path / "score", images, train)
    first = Unruly(PAPER, work, dies_after=3)
    with pytest.raises(Died):
        finish(scoring.run(PAPER, replace(work, pool=first)))
    assert not (tmp_path / "score" / "scores.parquet").exists()
    rest = Counting(images)
    finish(scoring.run(PAPER, replace(work, images=rest)))
    assert rest.read == 45 - sum(min(8, 45 - 8 * number) for number in first.done)
    assert files(tmp_path / "score") == expected


def test_what_a_pool_forgets_is_done_here(tmp_path: Path, alone: tuple[Path, np.ndarray, tuple[bytes, bytes]]) -> None:
    train, images, expected = alone
    work = workspace(tmp_path / "score", images, train)
    pool = Unruly(PAPER, work, forgets=(1, 4), lies=(0,))
    records, _ = finish(scoring.run(PAPER, replace(work, pool=pool)))
    assert records[-1].done == 45 and max(record.done for record in records) == 45
    assert files(tmp_path / "score") == expected


def test_a_pool_without_workers_is_none(tmp_path: Path, alone: tuple[Path, np.ndarray, tuple[bytes, bytes]]) -> None:
    train, images, expected = alone
    work = workspace(tmp_path / "score", images, train)
    pool = Unruly(PAPER, work, n_workers=0)
    finish(scoring.run(PAPER, replace(work, pool=pool)))
    assert not pool.done and files(tmp_path / "score") == expected


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("spoil", ["cut short", "empty", "another length", "no zip"])
def test_a_part_that_cannot_be_read_is_made_anew(tmp_path: Path, spoil: str) -> None:
    train, images = trained(tmp_path / "train", tiny()), blobs(20)
    work = begun(tmp_path / "score", images, train)
    for number in range(3):
        assert scoring.score_shard(PAPER, work, number)["n"] == (8, 8, 4)[number]
    path = tmp_path / "score" / "parts" / "00001.npz"
    whole = path.read_bytes()
    if spoil == "another length":
        np.savez(path, latents=np.zeros((3, 8), np.float32))
    else:
        path.write_bytes({"cut short": whole[: len(whole) // 2], "empty": b"", "no zip": b"scores"}[spoil])
    read = Counting(images)
    finish(scoring.run(PAPER, replace(work, images=read)))
    assert read.read == 8
    finish(scoring.run(PAPER, workspace(tmp_path / "other", images, train)))
    assert files(tmp_path / "score") == files(tmp_path / "other")


@pytest.mark.usefixtures("small_shards")
def test_a_part_that_is_there_is_answered_at_once_and_left(tmp_path: Path) -> None:
    train, images = trained(tmp_path / "train", tiny()), blobs(20)
    work = begun(tmp_path / "score", images, train)
    first = scoring.score_shard(PAPER, work, 2)
    path = tmp_path / "score" / "parts" / "00002.npz"
    before = path.stat()
    read = Counting(images)
    again = scoring.score_shard(PAPER, replace(work, images=read), number=2)
    assert (first["n"], again["n"], read.read) == (4, 4, 0)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(p.name for p in path.parent.iterdir()) == ["00002.npz", "plan.json"]


@pytest.mark.usefixtures("small_shards")
def test_a_part_is_whole_or_not_there(tmp_path: Path) -> None:
    train, images = trained(tmp_path / "train", tiny()), blobs(20)
    work = begun(tmp_path / "score", images, train)
    with pytest.raises(KeyboardInterrupt):
        scoring.score_shard(PAPER, replace(work, images=Counting(images, stop_after=0)), 0)
    assert [p.name for p in (tmp_path / "score" / "parts").iterdir()] == ["plan.json"]


@pytest.mark.usefixtures("small_shards")
def test_a_process_prepares_a_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = scoring.load_checkpoint
    monkeypatch.setattr(scoring, "load_checkpoint", lambda *told: loaded.append(told) or load(*told))
    images = blobs(20)
    works = [begun(tmp_path / f"score{i}", images, trained(tmp_path / f"train{i}", tiny(seed=9 + i))) for i in range(3)]
    loaded.clear()
    for work in works[1:]:  # kept since their runs were begun
        for number in range(3):
            scoring.score_shard(PAPER, work, number)
    assert not loaded
    scoring.score_shard(PAPER, works[0], 0)
    assert len(loaded) == 1 and len(scoring._PREPARED) == 2


@pytest.mark.usefixtures("small_shards")
def test_a_worker_refuses_what_is_not_the_plans(tmp_path: Path) -> None:
    train, images = trained(tmp_path / "train", tiny(seed=20)), blobs(20)
    with pytest.raises(ArtifactError, match=r"has no parts/plan\.json; scoring has ended or not begun"):
        scoring.score_shard(PAPER, workspace(tmp_path / "none", images, train), 0)
    work = begun(tmp_path / "score", images, train)
    with pytest.raises(ArtifactError, match="part 3 of 20 images is asked for; the survey has 20"):
        scoring.score_shard(PAPER, work, 3)
    with pytest.raises(ArtifactError, match="part 0 of 20 images is asked for; the survey has 19"):
        scoring.score_shard(PAPER, replace(work, images=images[:19]), 0)
    trained(train, tiny(seed=21))
    scoring._PREPARED.clear()
    with pytest.raises(ArtifactError, match="checkpoint of train is not the one that scoring began with; score anew"):
        scoring.score_shard(PAPER, work, 0)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_worker_without_the_plans_gpu_says_so(tmp_path: Path) -> None:
    work = begun(tmp_path / "score", blobs(9), trained(tmp_path / "train", tiny()))
    path = tmp_path / "score" / "parts" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda"}))
    with pytest.raises(ArtifactError, match="scores of score are made on a GPU and this worker has none"):
        scoring.score_shard(PAPER, work, 0)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("has_pool", [False, True])
def test_a_batch_that_does_not_fit_is_halved_said_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pool: bool
) -> None:
    score_batch, tried = scoring.score_batch, []

    def small_memory(scorer: Scorer, images: np.ndarray) -> tuple[np.ndarray, ...]:
        tried.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return score_batch(scorer, images)

    monkeypatch.setattr(scoring, "score_batch", small_memory)
    config = ScoreConfig(preset="paper", batch=8)
    work = workspace(tmp_path / "score", blobs(20), trained(tmp_path / "train", tiny()))
    pool = Unruly(config, work) if has_pool else None
    records, results = finish(scoring.run(config, replace(work, pool=pool)))
    assert (results["batch"], results["batch_asked"]) == (2, 8)
    assert any("batch 2, 8 did not fit the GPU's memory" in record.message for record in records)
    assert tried[:3] == [8, 4, 2] or has_pool
    assert table(tmp_path / "score")["quality"].eq("ok").all()
    monkeypatch.setattr(scoring, "score_batch", score_batch)
    finish(
        scoring.run(ScoreConfig(preset="paper", batch=2), workspace(tmp_path / "two", blobs(20), tmp_path / "train"))
    )
    assert files(tmp_path / "score") == files(tmp_path / "two")


def test_a_gpu_that_holds_not_one_image_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(scorer: Scorer, images: np.ndarray) -> tuple[np.ndarray, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scoring, "score_batch", none)
    with pytest.raises(ArtifactError, match="the GPU's memory does not hold a batch of 1; take smaller networks"):
        finish(scoring.run(PAPER, workspace(tmp_path / "score", blobs(4), trained(tmp_path / "train", tiny()))))
    assert not (tmp_path / "score" / "scores.parquet").exists()


def test_which_images_share_a_batch_does_not_depend_on_the_threads() -> None:
    for batch, device in ((3, "cpu"), (64, "cpu"), (100, "cpu"), (1024, "cuda")):
        blocks = [scoring.block_of({"batch": batch, "device": device}, threads) for threads in (1, 2, 64)]
        assert all(block % batch == 0 and block >= 512 for block in blocks)
        assert blocks[2] >= (64 * batch if device == "cpu" else batch)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
@pytest.mark.parametrize("batch", [1, 4, 7, 30])
def test_batches_arrive_in_order_and_whole(device: str, batch: int) -> None:
    images = blobs(21)
    found = [x.cpu().numpy() for x in scoring.on_device(images[::1], batch, torch.device(device))]
    assert [len(x) for x in found] == [batch] * (21 // batch) + ([21 % batch] if 21 % batch else [])
    np.testing.assert_array_equal(np.concatenate(found), images)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def test_streamed_scores_are_those_of_batches(device: str) -> None:
    images = blobs(21)
    network = scoring.prepare(Scorer(tiny(), COMPACT), torch.device(device), "float32")
    for a, b in zip(scoring.score_streamed(network, images, 4), scoring.score_images(network, images, 4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_images_come_from_zarr_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD", 64)
    monkeypatch.setattr(scoring, "BLOCK", 16)
    images = blobs(150)
    stored = zarr.create_array(tmp_path / "images.zarr", shape=images.shape, chunks=(16, 32, 32, 3), dtype="uint8")
    stored[:] = images
    asked: list[int] = []

    class Watched(Counting):
        def __getitem__(self, index: slice) -> np.ndarray:
            block = np.asarray(stored[index])
            asked.append(len(block))
            return block

    train, config = trained(tmp_path / "train", tiny()), ScoreConfig(preset="paper", batch=8)
    finish(scoring.run(config, workspace(tmp_path / "score", Watched(images), train)))
    assert sum(asked) == 150 and max(asked) == 16
    finish(scoring.run(config, workspace(tmp_path / "memory", images, train)))
    assert files(tmp_path / "score") == files(tmp_path / "memory")


# -------------------------------------------------------------------------------------------------- checkpoints
def test_a_checkpoint_comes_back_as_it_was_and_in_the_same_bytes(tmp_path: Path) -> None:
    model = tiny(bands=5)
    one, two = trained(tmp_path / "a", model), trained(tmp_path / "b", model)
    assert (one / CHECKPOINT).read_bytes() == (two / CHECKPOINT).read_bytes()
    again = scoring.load_checkpoint(one, PREPROCESSING)
    assert again.architecture == model.architecture
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 64}, "was trained on images with size 32, this survey has 64"),
        ({"bands": ["g"]}, "was trained on images with bands r, g, b, this survey has g"),
        ({"extent": 212}, "was trained on images with extent not stated, this survey has 212"),
        ({"crop": "resize"}, "was trained on images with crop center, this survey has resize"),
    ],
)
def test_a_checkpoint_of_other_images_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = trained(tmp_path / "train", tiny())
    with pytest.raises(ArtifactError, match=message):
        scoring.load_checkpoint(folder, PREPROCESSING | change)


def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    with pytest.raises(ArtifactError, match=r"has no checkpoint\.safetensors; train first"):
        scoring.load_checkpoint(folder)
    whole = (trained(tmp_path / "whole", tiny()) / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(whole[:1000])
    with pytest.raises(ArtifactError, match="is not a whole safetensors file"):
        scoring.load_checkpoint(folder)
    from safetensors.torch import save

    (folder / CHECKPOINT).write_bytes(save({"weight": torch.zeros(2)}))
    with pytest.raises(ArtifactError, match="does not hold a network this Voorwerp can build"):
        scoring.load_checkpoint(folder)


def test_reconstructions_are_images_like_those_given(tmp_path: Path) -> None:
    model, images = tiny(), blobs(3)
    loaded = scoring.load_model(trained(tmp_path / "train", model), PREPROCESSING)
    made = loaded.reconstruct(images)
    assert made.shape == images.shape
    assert made.dtype == np.uint8
    with torch.no_grad():
        expected = model.reconstruct(torch.from_numpy(images / 255).float().permute(0, 3, 1, 2))
    np.testing.assert_allclose(made / 255, expected.permute(0, 2, 3, 1), atol=0.5 / 255 + 1e-6)
    with pytest.raises(ArtifactError, match=r"images are uint8 \(3, 32, 32, 1\)"):
        loaded.reconstruct(images[..., :1])


def test_the_map_of_the_feature_residual_sums_to_the_feature_score() -> None:
    model, images = tiny(), blobs(5)
    residual = scoring.Reconstructor(Scorer(model), "cpu").feature_residual(images)
    assert (residual.shape, residual.dtype) == ((5, 2, 2), np.float32)
    expected = [published(model, image)[2] for image in images]
    np.testing.assert_allclose(residual.sum((1, 2)), expected, rtol=1e-4)


def test_the_feature_residual_is_where_the_difference_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(x: torch.Tensor) -> torch.Tensor:
        made = x.clone()
        made[:, :, 4, 60] = 1
        return made

    model, images = tiny(size=64), blobs(1, 64)
    scorer = Scorer(model)
    monkeypatch.setattr(scorer, "reconstruct", spoilt)
    (residual,) = scoring.Reconstructor(scorer, "cpu").feature_residual(images)
    assert residual.shape == (4, 4)
    centers = 16 * np.arange(4)
    sees_it = (abs(centers - 4) <= 30)[:, None] & (abs(centers - 60) <= 30)
    np.testing.assert_array_equal(residual > 0, sees_it)


def test_a_survey_without_images_cannot_be_scored(tmp_path: Path) -> None:
    train = trained(tmp_path / "train", tiny())
    with pytest.raises(ArtifactError, match="the survey has no images to score"):
        finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", blobs(0), train)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused() -> None:
    with pytest.raises(ArtifactError, match="there is no CUDA device on this machine"):
        scoring.pick_device("cuda")


# ---------------------------------------------------------------------------------------------------- precision
def test_agreement_of_rankings() -> None:
    a = np.arange(1000.0)
    assert scoring.agreement(a, a**3) == pytest.approx((1, 1))
    swapped = a.copy()
    swapped[[985, 995]] = swapped[[995, 985]]  # one leaves the top ten, one enters
    spearman, overlap = scoring.agreement(a, swapped)
    assert overlap == pytest.approx(0.9)
    assert spearman == pytest.approx(1 - 6 * 200 / (1000 * (1000**2 - 1)))


def test_agreement_does_not_depend_on_the_order_of_ties() -> None:
    tied, other = np.array([0.0] * 97 + [1, 1, 1]), np.arange(100.0)
    assert scoring.agreement(tied, other) == pytest.approx(scoring.agreement(tied[::-1], other[::-1]))
    assert scoring.agreement(tied, other)[1] == pytest.approx(1 / 3)  # three share the first place, one has it
    equal = np.zeros(100)
    assert scoring.agreement(equal, equal) == (1, 1)
    assert scoring.agreement(equal, other) == (0, 0.01)


def choice(monkeypatch: pytest.MonkeyPatch, error: float, seconds: dict[str, float]) -> dict[str, Any]:
    """What is chosen if bfloat16 scores are off by `error` (relative) and calls take `seconds`."""
    clock = [0.0]
    true = np.random.default_rng(0).lognormal(size=1000).astype(np.float32)
    wrong = np.random.default_rng(1).normal(size=1000).astype(np.float32)

    def fake(model: str, images: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        clock[0] += seconds[model]
        scores = true[: len(images)] * (1 + (model == "bfloat16") * error * wrong[: len(images)])
        return np.zeros((len(images), 2)), scores, 3 * scores

    monkeypatch.setattr(scoring, "score_images", fake)
    monkeypatch.setattr(scoring, "prepare", lambda model, device, precision: precision)
    monkeypatch.setattr(scoring.time, "perf_counter", lambda: clock[0])
    return scoring.choose_precision(Scorer(tiny()), torch.device("cpu"), [np.zeros((500, 32, 32, 3), np.uint8)] * 2, 64)


def test_bfloat16_is_taken_where_it_is_faster_and_ranks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choice(monkeypatch, 1e-7, {"float32": 2.0, "bfloat16": 1.0})
    assert found["precision"] == "bfloat16"
    assert found["speed_ratio"] == 2
    assert found["spearman"] >= 0.9999
    assert found["top_overlap"] >= 0.99


def test_bfloat16_is_left_where_it_ranks_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choice(monkeypatch, 0.1, {"float32": 2.0, "bfloat16": 1.0})
    assert found["precision"] == "float32"
    assert found["reason"] == "bfloat16 ranks differently"


def test_bfloat16_is_left_where_it_is_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choice(monkeypatch, 0.0, {"float32": 1.0, "bfloat16": 1.0})
    assert found["precision"] == "float32"
    assert found["reason"] == "bfloat16 is no faster on this machine"


def test_the_choice_is_made_once_and_kept_for_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD", 8)
    monkeypatch.setattr(scoring, "AUTO_FROM", 10)
    calls = []

    def choose(*arguments: object) -> dict[str, Any]:
        calls.append(arguments)
        return {"precision": "bfloat16", "reason": "bfloat16 ranks as float32 does"}

    monkeypatch.setattr(scoring, "choose_precision", choose)
    train, images = trained(tmp_path / "train", tiny()), blobs(20)
    with pytest.raises(KeyboardInterrupt):
        finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", Counting(images, stop_after=12), train)))
    assert json.loads((tmp_path / "score" / "parts" / "plan.json").read_text())["choice"]["precision"] == "bfloat16"
    _, results = finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", images, train)))
    assert results["precision"] == "bfloat16"
    assert len(calls) == 1


def test_a_sample_comes_from_all_over_the_survey() -> None:
    images = np.arange(50_000).reshape(-1, 1, 1, 1)
    sample = np.concatenate(list(reading.sample_of(images, 5000))).ravel()
    assert len(sample) == len(set(sample.tolist())) == 9 * reading.BLOCK
    assert sample.min() == 0
    assert sample.max() == 49_999


def test_scoring_leaves_cudnn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def batch(scorer: Scorer, images: np.ndarray) -> tuple[np.ndarray, ...]:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return (np.zeros((len(images), 1), np.float32),) * 3

    monkeypatch.setattr(scoring, "score_batch", batch)
    scoring.score_images(Scorer(tiny()), blobs(2), batch=2)
    assert seen == [(True, False)]
