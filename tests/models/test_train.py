"""Training on tiny galaxies: what is written, what is repeated exactly, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from explorer.kinds.score import ScoreConfig
from explorer.kinds.train import TrainConfig
from models import resume, scoring, train
from models.artifacts import CHECKPOINT, ArtifactError, scratch_array
from models.resume import Bookmark
from models.steps import turn
from tests.models.networks import PREPROCESSING, blobs, finish, tiny, workspace

SMALL = TrainConfig(epochs=1, encoder_epochs=2, batch=8, encoder_batch=8, width=4, latent_size=8, device="cpu", seed=7)


def test_training_writes_a_checkpoint_that_scores(tmp_path: Path) -> None:
    images = blobs(40)
    records, results = finish(train.run(SMALL, workspace(tmp_path / "train", images)))
    assert [r.done for r in records] == [0, 1, 2, 3]
    assert all(r.total == 3 for r in records[1:])
    gan = {"critic_loss", "generator_loss", "gradient_norm", "validation_critic_loss", "validation_gradient_norm"}
    assert set(records[1].metrics) == gan | {"images_per_second"}
    encoder = {"encoder_loss", "image_score", "feature_score"}
    of_validation = {"validation_loss", "validation_image_score", "validation_feature_score"}
    assert set(records[3].metrics) == encoder | of_validation | {"images_per_second"}
    assert results["validation_loss"] == records[3].metrics["validation_loss"]
    assert (results["n_train"], results["n_validation"]) == (36, 4)

    finish(scoring.run(ScoreConfig(preset="paper"), workspace(tmp_path / "score", images, tmp_path / "train")))
    scores = pd.read_parquet(tmp_path / "score" / "scores.parquet")
    assert scores["split"].value_counts().to_dict() == {"train": 36, "validation": 4}
    means = scores[scores["split"] == "validation"].mean(numeric_only=True)
    assert means["anomaly_score"] == pytest.approx(results["validation_loss"], rel=1e-4)
    assert means["image_score"] == pytest.approx(results["validation_image_score"], rel=1e-4)
    assert means["feature_score"] == pytest.approx(results["validation_feature_score"], rel=1e-4)


def test_training_makes_reconstructions_better(tmp_path: Path) -> None:
    images = blobs(64)
    config = replace(SMALL, epochs=6, encoder_epochs=15, learning_rate=1e-3)
    records, _ = finish(train.run(config, workspace(tmp_path / "train", images)))
    losses = [r.metrics["encoder_loss"] for r in records if "encoder_loss" in r.metrics]
    assert losses[-1] < 0.9 * losses[0]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    found = {}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        finish(train.run(replace(SMALL, seed=seed), workspace(tmp_path / name, blobs(24))))
        found[name] = (tmp_path / name / CHECKPOINT).read_bytes()
    assert found["a"] == found["b"]
    assert found["a"] != found["c"]


def test_the_encoders_training_leaves_generator_and_critic_alone(tmp_path: Path) -> None:
    model, images = tiny(), blobs(16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    recipe = train.PRESETS["fast"].resolve(SMALL, 16)
    bookmark = Bookmark(tmp_path, model, PREPROCESSING, {}, torch.device("cpu"))
    list(train.train_encoder(model, images, np.arange(12), np.arange(12, 16), recipe, SMALL, bookmark))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) == (not name.startswith("encoder")), name


@pytest.mark.parametrize(("size", "bands"), [(32, 2), (64, 1), (64, 4), (96, 5), (128, 3)])
def test_every_size_and_number_of_bands_trains_saves_loads_and_scores(tmp_path: Path, size: int, bands: int) -> None:
    images = blobs(6, size, bands)
    config = replace(SMALL, width=1, batch=2, encoder_batch=2, encoder_epochs=1, n_critic=1)
    finish(train.run(config, workspace(tmp_path / "train", images)))
    architecture = scoring.load_checkpoint(tmp_path / "train").architecture
    assert (architecture.size, architecture.bands) == (size, bands)
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "score", images, tmp_path / "train")))
    scores = pd.read_parquet(tmp_path / "score" / "scores.parquet")
    assert scores["anomaly_score"].gt(0).all()


def test_the_paper_preset_is_mantha_et_al_and_what_they_leave_open_storey_fisher_et_al() -> None:
    config = TrainConfig(preset="paper")
    recipe = train.PRESETS["paper"].resolve(config, 250_000)
    assert (recipe.batch, recipe.epochs, recipe.learning_rate) == (1024, 500, 1e-4)
    assert (recipe.encoder_batch, recipe.encoder_epochs, recipe.encoder_learning_rate) == (256, 500, 1e-4)
    assert (recipe.width, config.latent_size, config.feature_weight, config.validation) == (64, 128, 0.2, 0.1)
    assert (config.beta_1, config.beta_2, config.n_critic, config.gradient_penalty) == (0.5, 0.9, 5, 10.0)
    assert not recipe.is_annealed
    assert not recipe.is_turned


def test_images_too_many_for_memory_train_alike_from_a_scratch_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = blobs(24)
    finish(train.run(SMALL, workspace(tmp_path / "memory", images)))
    monkeypatch.setattr(train, "free_memory", lambda: 1000)
    finish(train.run(SMALL, workspace(tmp_path / "file", images)))
    assert (tmp_path / "file" / CHECKPOINT).read_bytes() == (tmp_path / "memory" / CHECKPOINT).read_bytes()
    assert {p.name for p in (tmp_path / "file").iterdir()} == {p.name for p in (tmp_path / "memory").iterdir()}


def test_a_disk_too_full_for_the_scratch_file_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left|File too large"):
        scratch_array(tmp_path, np.uint8, (2**50,))
    scratch = scratch_array(tmp_path, np.float32, (3, 2))
    scratch[2, 1] = 5
    assert scratch.tolist() == [[0, 0], [0, 0], [0, 5]]
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVE_EVERY", -1.0)
    job = train.run(SMALL, workspace(tmp_path / "train", blobs(16)))
    next(job)
    next(job)
    assert scoring.load_checkpoint(tmp_path / "train", PREPROCESSING).architecture.width == 4
    job.close()


def test_a_loss_that_is_no_number_stops_with_a_sentence(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=3, learning_rate=1e30)
    with pytest.raises(ArtifactError, match=r"training the GAN stopped in epoch \d+: .* lower the learning rate"):
        finish(train.run(config, workspace(tmp_path / "train", blobs(16))))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (blobs(0), "the survey has no images to train on"),
        (np.repeat(blobs(1), 9, axis=0), "9 images, 1 of them different, leave 0 to train on; at least 2 are needed"),
        (blobs(9, size=40), "size 40 is not a multiple of 16"),
        (blobs(9)[:, :16], "crops are 16 × 32 pixels; training needs square ones"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, images: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        finish(train.run(SMALL, workspace(tmp_path / "train", images)))


def test_images_that_are_all_the_same_are_refused_also_where_none_are_held_out(tmp_path: Path) -> None:
    same = np.repeat(blobs(1), 9, axis=0)
    with pytest.raises(ArtifactError, match="the 9 images to train on are all the same, so there is nothing to learn"):
        finish(train.run(replace(SMALL, validation=0.0), workspace(tmp_path / "train", same)))


@pytest.mark.parametrize("n_held_out", [0, 30])
def test_what_a_training_is_held_against_is_that_of_all_images_at_once(
    monkeypatch: pytest.MonkeyPatch, n_held_out: int
) -> None:
    monkeypatch.setattr(train, "SAMPLE", 100)
    images = blobs(300, bands=2)
    rows, held_out = np.split(np.random.default_rng(0).permutation(300), [300 - n_held_out])
    yardstick, mean = train.measure(images, rows, held_out, 0.2)
    pixels = images[rows[::3]] / 255
    judged = images[held_out if n_held_out else rows[::3]] / 255
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-6)
    assert mean.dtype == np.float32
    assert yardstick.mean_image_score == pytest.approx(
        np.square(judged - pixels.mean(0)).sum((1, 2, 3)).mean(), rel=1e-9
    )
    assert yardstick.farthest == pytest.approx(np.sqrt(32 * 32 * 2))


def test_the_pixel_distance_is_the_mean_over_all_pairs_also_of_images_that_are_nearly_the_same() -> None:
    for width in (1.0, 1e-5):
        images = 0.5 + width * torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        pairs = [float((images[i] - images[j]).square().sum().sqrt()) for i in range(7) for j in range(i)]
        assert train.pixel_distance(images) == pytest.approx(np.mean(pairs), rel=1e-6)
    assert train.pixel_distance(images[:1].expand(64, -1, -1, -1)) == 0


def test_a_square_has_eight_orientations() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    turned = [turn(x, k) for k in range(8)]
    assert torch.equal(turned[0], x)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    assert all(t[0, 0, 1, 1] == 4 for t in turned)


# ----------------------------------------------------------------------------------------------------- the split
def test_the_split_is_seeded_disjoint_and_of_the_size_asked_for() -> None:
    groups = np.arange(1000)
    rows, validation = train.split_rows(groups, 0.1, None, seed=3)
    assert (len(rows), len(validation)) == (900, 100)
    assert not set(rows) & set(validation)
    assert rows.tolist() == train.split_rows(groups, 0.1, None, seed=3)[0].tolist()
    assert rows.tolist() != train.split_rows(groups, 0.1, None, seed=4)[0].tolist()
    rows, validation = train.split_rows(groups, 0.1, 90, seed=3)
    assert (len(rows), len(validation)) == (90, 10)


def test_a_group_is_never_split() -> None:
    groups = np.random.default_rng(0).integers(0, 60, 500)
    rows, validation = train.split_rows(groups, 0.3, 200, seed=1)
    assert not set(groups[rows]) & set(groups[validation])
    unseen = np.setdiff1d(np.arange(500), np.concatenate([rows, validation]))
    assert not set(groups[unseen]) & set(groups[np.concatenate([rows, validation])])


def test_who_is_left_out_is_in_neither_part_and_moves_nobody() -> None:
    groups, left_out = np.arange(300) // 2, np.zeros(300, bool)
    left_out[200:] = True
    rows, validation = train.split_rows(groups, 0.2, None, 3, left_out)
    assert sorted([*rows, *validation]) == list(range(200))
    alone = train.split_rows(groups[:200], 0.2, None, 3)
    assert (rows.tolist(), validation.tolist()) == (alone[0].tolist(), alone[1].tolist())
    nobody = train.split_rows(groups, 0.2, None, 3, np.zeros(300, bool))
    assert nobody[0].tolist() == train.split_rows(groups, 0.2, None, 3)[0].tolist()


def test_groups_are_the_surveys_and_else_those_of_equal_pixels() -> None:
    hashes = np.array([7, 7, 9, 9, 5], np.uint64)

    def partition(groups: np.ndarray) -> set[frozenset[int]]:
        return {frozenset(np.flatnonzero(groups == g).tolist()) for g in groups}

    assert partition(train.groups_of(hashes, None)) == {frozenset({0, 1}), frozenset({2, 3}), frozenset({4})}
    known = np.array([0, -1, 1, 1, 0])
    assert partition(train.groups_of(hashes, known)) == {frozenset({0, 4}), frozenset({1}), frozenset({2, 3})}


def test_training_keeps_the_surveys_groups_whole(tmp_path: Path) -> None:
    groups = np.repeat(np.arange(8), 5)
    finish(train.run(SMALL, replace(workspace(tmp_path / "train", blobs(40)), duplicate_groups=groups)))
    split = pd.read_parquet(tmp_path / "train" / "split.parquet").set_index("subject_id")["split"]
    assert all(split[groups == g].nunique() == 1 for g in range(8))
    assert split.eq("validation").sum() == 5


def test_scores_say_what_the_network_has_seen_by_pixels_not_by_number(tmp_path: Path) -> None:
    images = blobs(30)
    finish(train.run(replace(SMALL, train_on=9), workspace(tmp_path / "train", images)))
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "same", images, tmp_path / "train")))
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "turned", images[::-1], tmp_path / "train")))
    finish(scoring.run(ScoreConfig(), workspace(tmp_path / "other", blobs(30, seed=5), tmp_path / "train")))
    same, turned, other = (
        pd.read_parquet(tmp_path / n / "scores.parquet")["split"] for n in ("same", "turned", "other")
    )
    assert same.value_counts().to_dict() == {"unseen": 20, "train": 9, "validation": 1}
    assert turned.tolist() == same.tolist()[::-1]
    assert other.eq("unseen").all()


def test_presets_name_steps_or_passes_and_the_config_overrules_both() -> None:
    fast = train.PRESETS["fast"].resolve(TrainConfig(), n_train=160)
    assert fast.epochs * (160 // fast.batch) >= 1000
    assert fast.encoder_epochs * (160 // fast.encoder_batch) >= 1500
    assert train.PRESETS["paper"].resolve(TrainConfig(preset="paper"), 250_000).epochs == 500
    chosen = train.PRESETS["paper"].resolve(TrainConfig(preset="paper", epochs=3, batch=99, width=8), 250_000)
    assert (chosen.epochs, chosen.batch, chosen.width, chosen.encoder_batch) == (3, 99, 8, 256)
    assert train.PRESETS["paper"].resolve(TrainConfig(preset="paper"), 10).batch == 10
