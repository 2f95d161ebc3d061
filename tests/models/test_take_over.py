"""A training that takes generator and critic over from another gives what it would have given from the beginning."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from explorer.kinds.train import TrainConfig
from models import train
from models.artifacts import CHECKPOINT, HISTORY, RESUME, RUN_JSON, ArtifactError, Run, Workspace
from tests.models.networks import blobs, finish, workspace

SMALL = TrainConfig(epochs=2, encoder_epochs=2, batch=8, encoder_batch=8, width=2, latent_size=4, device="cpu", seed=7)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training with λ = .2, as its worker leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "20260101-000000-train"
    finish(train.run(SMALL, workspace(folder, blobs(24))))
    (folder / RESUME).unlink()
    Run(folder.name, "train", "0", asdict(SMALL), state="done").write(folder / RUN_JSON)
    return folder


def child(folder: Path, parent: Path, seed: int = 0) -> Workspace:
    return workspace(folder, blobs(24, seed=seed), parent)


def test_another_lambda_trained_from_the_same_gan_has_the_bytes_of_one_from_scratch(
    tmp_path: Path, parent: Path
) -> None:
    half = replace(SMALL, feature_weight=0.5)
    records, results = finish(train.run(half, child(tmp_path / "taken", parent)))
    finish(train.run(half, workspace(tmp_path / "scratch", blobs(24))))
    taken, scratch = (tmp_path / name / CHECKPOINT for name in ("taken", "scratch"))
    assert taken.read_bytes() == scratch.read_bytes()
    assert taken.read_bytes() != (parent / CHECKPOINT).read_bytes()
    assert [record.done for record in records] == [0, 1, 2]
    history = [json.loads(line) for line in (tmp_path / "taken" / HISTORY).read_text().splitlines()]
    assert {record["stage"] for record in history} == {"encoder"}
    assert "validation_loss" in results
    assert "critic_loss" not in results


def test_what_concerns_the_encoder_alone_may_differ(tmp_path: Path, parent: Path) -> None:
    other = replace(SMALL, encoder_epochs=1, encoder_batch=4, encoder_activation="tanh3", encoder_learning_rate=1e-4)
    finish(train.run(other, child(tmp_path, parent)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 8}, "20260101-000000-train was trained with seed 7, this run has 8; give it the same seed, or train"),
        ({"epochs": 3}, "was trained with epochs 2, this run has 3"),
        ({"width": 4}, "was trained with width 2, this run has 4"),
        ({"latent_size": 5}, "was trained with latent_size 4, this run has 5"),
        ({"learning_rate": 0.5}, "was trained with learning_rate 0.0003, this run has 0.5"),
        ({"gradient_penalty": 1.0}, "was trained with gradient_penalty 10.0, this run has 1.0"),
        ({"precision": "bfloat16"}, "was trained with precision float32, this run has bfloat16"),
        ({"validation": 0.2}, "was trained with validation 0.1, this run has 0.2"),
    ],
)
def test_what_made_the_gan_must_agree(tmp_path: Path, parent: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        finish(train.run(replace(SMALL, **change), child(tmp_path, parent)))


def test_the_images_must_be_those_the_gan_saw(tmp_path: Path, parent: Path) -> None:
    with pytest.raises(ArtifactError, match="was trained on other images of this survey; train without --parent"):
        finish(train.run(SMALL, child(tmp_path, parent, seed=3)))


def test_a_value_told_and_the_same_value_from_the_preset_agree(tmp_path: Path, parent: Path) -> None:
    finish(train.run(replace(SMALL, learning_rate=3e-4), child(tmp_path, parent)))
