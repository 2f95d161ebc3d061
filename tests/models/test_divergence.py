"""What goes wrong in a training is said in words: each rule at its threshold, and a collapse that is forced."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from explorer.kinds.score import ScoreConfig
from explorer.kinds.train import TrainConfig
from models import scoring, train
from models.artifacts import CHECKPOINT, HISTORY, ArtifactError
from models.divergence import Yardstick, has_diverged, is_sound, verdict_of, word_of
from models.grids import is_due
from models.resume import Bookmark
from models.scoring import load_checkpoint
from models.sound import BEFORE
from models.wgan import WGAN, build
from tests.models.networks import PREPROCESSING, blobs, finish, tiny, workspace

SMALL = TrainConfig(epochs=2, encoder_epochs=2, batch=8, encoder_batch=8, width=2, latent_size=4, device="cpu", seed=7)
YARDSTICK = Yardstick(farthest=50.0, mean_image_score=100.0, feature_weight=0.2)


def gan(
    epoch: int = 20,
    of: int = 20,
    spread: float | None = 0.9,
    seen: float = -3.0,
    unseen: float = -2.5,
    norms: Any = (1.0, 1.5),
    **train: Any,
) -> Any:
    steps = {"median": norms[0], "highest": norms[1]}
    losses = {"critic_loss": seen, "generator_loss": 1.0, "gradient_norm": 1.0} | train
    validation = {"critic_loss": unseen, "gradient_norm": 1.0}
    record = {"stage": "gan", "epoch": epoch, "of": of, "train": losses, "validation": validation, "spread": spread}
    return record | {"gradient_norm": steps}


def encoder(epoch: int, loss: float, validation: float, score: float = 40.0, of: int = 20) -> Any:
    losses = {"encoder_loss": loss, "image_score": score, "feature_score": 1.0}
    unseen = {"encoder_loss": validation, "image_score": score, "feature_score": 1.0}
    return {"stage": "encoder", "epoch": epoch, "of": of, "train": losses, "validation": unseen, "spread": 0.9}


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (gan(), ""),
        (gan(gradient_norm=0.51), ""),
        (gan(gradient_norm=1.99), ""),
        (gan(gradient_norm=4.1), "the critic's gradient norm is 4.1, far from 1: .* raise gradient_penalty"),
        (gan(gradient_norm=0.49), "the critic's gradient norm is 0.49, far from 1: .* train longer"),
        (gan(norms=[1.0, 100.0]), ""),
        (
            gan(norms=[1.0, 101.0]),
            "gradient norm explodes: 101 in one step, where its running median is 1; lower",
        ),
        (gan(norms=[0.01, 1.9]), ""),  # a fresh critic comes up to 1
        (gan(spread=0.201), ""),
        (
            gan(spread=0.199),
            r"makes one image for every z \(collapse\): its images differ by 19.9 % of what real ones",
        ),
        (gan(seen=-50.0, unseen=-40.0), ""),
        (gan(seen=-51.0, unseen=-40.0), "the critic's loss runs away: -51, where two images are at most 50 apart"),
        (gan(seen=5100.0), "the critic's loss runs away: 5,100"),
        (gan(seen=-3.0, unseen=-1.6), ""),
        (gan(seen=-3.0, unseen=-1.4), "knows its training images by heart .*: its loss is -3 on them and -1.4 on"),
        (gan(generator_loss=None), r"generator loss is no number \(train\): lower the learning rate"),
        (gan(spread=None), "the generated images are no numbers: lower the learning rate"),
        (encoder(20, 60.0, 70.0), ""),
        (encoder(20, 60.0, 70.0, score=99.0), ""),
        (encoder(20, 60.0, 70.0, score=101.0), "no better than the mean image: image score 101 against 100"),
        (encoder(20, 60.0, float("inf")), r"encoder loss is no number \(validation\)"),
    ],
)
def test_each_rule_speaks_beyond_its_threshold_and_not_before(record: Any, word: str) -> None:
    found = word_of([record], YARDSTICK)
    assert (found == "") == (word == "")
    if word:
        with pytest.raises(ArtifactError, match=word):
            raise ArtifactError(found)


def test_the_first_tenth_is_spared_but_for_a_loss_that_is_no_number() -> None:
    assert word_of([gan(epoch=2, spread=0.0, gradient_norm=0.0)], YARDSTICK) == ""
    assert "collapse" in word_of([gan(epoch=3, spread=0.0)], YARDSTICK)
    assert "no number" in word_of([gan(epoch=1, critic_loss=None)], YARDSTICK)
    assert "collapse" in word_of([gan(epoch=1, of=1, spread=0.0)], YARDSTICK)


def test_weights_lost_in_an_epochs_last_step_fail_the_run_where_no_images_are_held_out(tmp_path: Path) -> None:
    bookmark = Bookmark(tmp_path, tiny(), {}, {}, torch.device("cpu"))
    losses = {"critic_loss": -3.0, "generator_loss": 1.0, "gradient_norm": 1.0}  # of the steps before
    with pytest.raises(ArtifactError, match=r"the GAN stopped in epoch 3: the generated images are no numbers"):
        train.keep(bookmark, "gan", 3, train.Epoch(3, losses, {}, 1.0, 1.0), float("nan"), YARDSTICK)


def test_one_odd_epoch_says_nothing_two_of_three_do() -> None:
    sound, odd = gan(epoch=18), gan(epoch=19, gradient_norm=9.0)
    assert word_of([sound, odd, gan(epoch=20)], YARDSTICK) == ""
    assert "gradient norm is 9" in word_of([sound, odd, odd], YARDSTICK)


def test_at_lambda_one_reconstructions_are_not_held_against_the_mean_image() -> None:
    assert word_of([encoder(20, 60.0, 70.0, score=500.0)], replace(YARDSTICK, feature_weight=1.0)) == ""


def test_a_validation_loss_that_left_its_lowest_long_ago_is_said_with_the_epoch() -> None:
    falling = [encoder(i, 100.0 - i, 100.0 - i) for i in range(1, 11)]
    rising = [encoder(i, 100.0 - i, 80.0 + i) for i in range(11, 21)]
    assert word_of(falling, YARDSTICK) == ""
    assert word_of([*falling, *rising[:4]], YARDSTICK) == ""  # four epochs are no trend
    word = word_of([*falling, *rising], YARDSTICK)
    assert word.startswith("validation loss rises since epoch 10 (overfitting): 90 then, 99 now")
    both = [encoder(i, 80.0 + i, 80.0 + i) for i in range(11, 21)]
    assert word_of([*falling, *both], YARDSTICK) == ""  # the training loss rises too: another trouble


def test_the_verdict_is_what_was_said_of_each_stages_last_epochs() -> None:
    def said(record: Any, word: str) -> Any:
        return record | {"word": word}

    sound, wrong = said(gan(), ""), said(gan(), "a")
    good, bad = said(encoder(20, 1.0, 1.0), ""), said(encoder(20, 1.0, 1.0), "b")
    assert verdict_of([*[wrong] * 9, *[sound] * 3, good]) == "trained soundly"
    assert verdict_of([*[sound] * 9, wrong, wrong, sound, good]) == "a"  # one good epoch at the end is not sound
    assert verdict_of([*[sound] * 9, sound, sound, wrong, good]) == "trained soundly"
    assert verdict_of([*[wrong] * 3, *[bad] * 3]) == "a; and b"
    assert verdict_of([*[wrong] * 3, *[said(encoder(20, 1.0, 1.0), "a")] * 3]) == "a"


# ------------------------------------------------------------------------------------------------ forced, for real
def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]


def broken_after(monkeypatch: pytest.MonkeyPatch, epoch: int, what: Any, stage: str = "train_gan") -> None:
    """Let `what` happen to a training, as its bookmark has it, after this epoch of a stage."""
    loop = getattr(train, stage)

    def broken(*arguments: Any) -> Iterator[train.Epoch]:
        for told in loop(*arguments):
            yield told
            if told.number == epoch:
                what(arguments[-1])

    monkeypatch.setattr(train, stage, broken)


def faster(name: str, rate: float) -> Any:
    def set_rate(bookmark: Bookmark) -> None:
        bookmark.optimizers[name].param_groups[0]["lr"] = rate

    return set_rate


def silent(bookmark: Bookmark) -> None:
    """A generator that answers every z by one image, and stays so."""
    bookmark.model.generator.expand.weight.data.zero_()
    bookmark.optimizers["generator"].param_groups[0]["lr"] = 0.0


def usable(folder: Path, name: str, elsewhere: Path) -> WGAN:
    """A kept checkpoint, read as any other; what it generates is made of numbers and differs from z to z."""
    elsewhere.mkdir()
    (elsewhere / CHECKPOINT).write_bytes((folder / name).read_bytes())
    model = load_checkpoint(elsewhere, PREPROCESSING)
    made = train.generate(model, 0)
    assert bool(made.isfinite().all())
    assert train.pixel_distance(made) > 0.01
    return model


def test_a_generator_that_makes_one_image_is_reported_as_collapsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(*arguments: Any) -> WGAN:
        model = build(*arguments)
        model.generator.expand.weight.data.zero_()
        model.generator.expand.bias.data.fill_(0.1)
        return model

    monkeypatch.setattr(train, "build", deaf)
    _, results = finish(train.run(replace(SMALL, learning_rate=1e-7), workspace(tmp_path, blobs(24))))
    assert all(record["spread"] < 0.01 for record in records_of(tmp_path))
    assert "the generator makes one image for every z (collapse)" in results["verdict"]
    assert not (tmp_path / BEFORE).exists()  # it never made anything else
    assert records_of(tmp_path)[0]["kept"] is None


def test_a_generator_that_collapses_is_said_to_and_its_weights_from_before_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_after(monkeypatch, 5, silent)
    _, results = finish(train.run(replace(SMALL, epochs=8, learning_rate=0.01), workspace(tmp_path / "run", blobs(24))))
    records = [record for record in records_of(tmp_path / "run") if record["stage"] == "gan"]
    assert [record["has_diverged"] for record in records[1:]] == [False] * 4 + [True] * 3
    assert all(record["kept"] == {"stage": "gan", "epoch": 5} for record in records[5:])
    assert records[5]["word"].startswith(
        "the generator makes one image for every z (collapse): its images differ by 0.0 %"
    )
    end = "the weights from before, after epoch 5 of generator and critic, are kept in before.safetensors"
    assert results["verdict"].endswith(end)
    kept = usable(tmp_path / "run", BEFORE, tmp_path / "kept")
    assert kept.generator.expand.weight.abs().sum() > 0
    assert load_checkpoint(tmp_path / "run").generator.expand.weight.abs().sum() == 0


def test_a_gradient_norm_that_explodes_is_said_to_and_the_weights_from_before_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From epoch 5 on the critic's steps are large."""
    broken_after(monkeypatch, 4, faster("critic", 0.5))
    config = replace(SMALL, epochs=6, learning_rate=0.01)
    _, results = finish(train.run(config, workspace(tmp_path / "run", blobs(24))))
    records = [record for record in records_of(tmp_path / "run") if record["stage"] == "gan"]
    assert [record["has_diverged"] for record in records[1:]] == [False] * 3 + [True] * 2
    usual = np.median([record["gradient_norm"]["median"] for record in records[:4]])
    assert records[4]["gradient_norm"]["highest"] > 100 * usual
    assert records[4]["word"].startswith("the critic's gradient norm explodes: ")
    assert "after epoch 4 of generator and critic, are kept in before.safetensors" in results["verdict"]
    usable(tmp_path / "run", BEFORE, tmp_path / "kept")


def test_a_loss_that_blows_up_is_in_the_history_and_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"training the GAN stopped in epoch 1: .* is no number .*voorwerp check$"):
        finish(train.run(replace(SMALL, epochs=4, learning_rate=1e30), workspace(tmp_path, blobs(24))))
    last = records_of(tmp_path)[-1]
    assert None in last["train"].values()
    assert "is no number" in last["word"]
    assert last["has_diverged"]
    assert not (tmp_path / CHECKPOINT).exists()  # no epoch was sound


@pytest.mark.parametrize(
    ("stage", "name", "whose"),
    [("train_gan", "generator", "after epoch 2 of generator and critic"), ("train_encoder", "encoder", "the encoder")],
)
def test_a_training_that_stops_keeps_the_checkpoint_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str, whose: str
) -> None:
    def ruin(bookmark: Bookmark) -> None:
        next(iter(getattr(bookmark.model, name).parameters())).data.fill_(math.nan)

    broken_after(monkeypatch, 2, ruin, stage)
    config = replace(SMALL, epochs=4, encoder_epochs=4, learning_rate=0.01)
    with pytest.raises(ArtifactError, match=rf"stopped in epoch 3: .*{whose}, are kept in checkpoint\.safetensors$"):
        finish(train.run(config, workspace(tmp_path / "run", blobs(24))))
    usable(tmp_path / "run", CHECKPOINT, tmp_path / "kept")
    assert not (tmp_path / "run" / BEFORE).exists()


def test_weights_that_are_no_numbers_are_not_saved_as_a_state_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step's losses were taken before it, and are finite."""
    model = tiny(latent_size=SMALL.latent_size)
    bookmark = Bookmark(tmp_path, model, PREPROCESSING, {}, torch.device("cpu"))
    recipe = train.PRESETS["fast"].resolve(SMALL, 24)
    next(train.train_gan(model, blobs(24), np.arange(24), np.arange(0), recipe, SMALL, bookmark))
    model.generator.expand.weight.data[0, 0] = math.inf
    bookmark.save()
    assert not (tmp_path / CHECKPOINT).exists()
    model.generator.expand.weight.data[0, 0] = 0.0
    bookmark.save()
    assert (tmp_path / CHECKPOINT).exists()


def test_taken_up_again_after_it_diverged_what_was_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def stop(bookmark: Bookmark) -> None:
        bookmark.save()
        raise Killed

    config, images = replace(SMALL, epochs=8, learning_rate=0.01), blobs(24)
    with monkeypatch.context() as patch:
        broken_after(patch, 4, silent)
        broken_after(patch, 6, stop)
        with pytest.raises(Killed):
            finish(train.run(config, workspace(tmp_path, images)))
    kept = (tmp_path / BEFORE).read_bytes()
    _, results = finish(train.run(config, workspace(tmp_path, images)))
    assert [record["has_diverged"] for record in records_of(tmp_path)][4:7] == [True] * 3
    assert "after epoch 4 of generator and critic, are kept in before.safetensors" in results["verdict"]
    assert (tmp_path / BEFORE).read_bytes() == kept


def test_of_a_training_that_recovers_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter(["a", "trained soundly"])
    for name in ("a", "b"):
        with monkeypatch.context() as patch:
            broken_after(patch, 2, silent)
            patch.setattr(train, "verdict_of", lambda _: next(verdicts))
            finish(train.run(replace(SMALL, epochs=3, learning_rate=0.01), workspace(tmp_path / name, blobs(24))))
    assert [(tmp_path / name / BEFORE).exists() for name in ("a", "b")] == [True, False]


def test_fresh_weights_are_neither_worth_keeping_nor_called_diverged() -> None:
    fresh = gan(epoch=2, spread=0.0)
    assert not has_diverged([fresh], YARDSTICK)
    assert not is_sound([fresh], YARDSTICK)
    assert is_sound([gan(epoch=1)], YARDSTICK)
    odd = gan(gradient_norm=0.3)  # advice is no divergence
    assert word_of([odd], YARDSTICK)
    assert is_sound([odd], YARDSTICK)
    assert not has_diverged([odd], YARDSTICK)


def test_the_running_median_is_that_of_the_epochs_before() -> None:
    """An explosion that fills its epoch does not hide in its own median."""
    calm = [gan(epoch=i, norms=[1.0, 2.0]) for i in range(1, 19)]
    assert "explodes: 5e+03 in one step" in word_of([*calm, gan(epoch=19, norms=[4e3, 5e3])], YARDSTICK)
    older = [{k: v for k, v in record.items() if k != "gradient_norm"} for record in calm]
    assert word_of(older, YARDSTICK) == ""


# ------------------------------------------------------------------------------------------------- what is written
def test_the_history_has_both_stages_with_training_and_validation(tmp_path: Path) -> None:
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    records = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [(r["stage"], r["epoch"], r["of"]) for r in records] == [
        ("gan", 1, 2),
        ("gan", 2, 2),
        ("encoder", 1, 2),
        ("encoder", 2, 2),
    ]
    names = {"stage", "epoch", "of", "train", "validation", "spread", "images_per_second", "seconds", "word"}
    names |= {"gradient_norm", "scores", "has_diverged"}
    assert all(set(record) - {"kept"} == names for record in records)
    assert all(("kept" in record) == record["has_diverged"] for record in records)
    assert set(records[0]["gradient_norm"]) == {"median", "highest"}
    assert records[2]["gradient_norm"] is records[0]["scores"] is None
    assert set(records[0]["train"]) == {"critic_loss", "generator_loss", "gradient_norm"}
    assert set(records[0]["validation"]) == {"critic_loss", "gradient_norm"}
    assert set(records[2]["train"]) == set(records[2]["validation"]) == {"encoder_loss", "image_score", "feature_score"}
    whole = records[3]["train"]
    assert whole["encoder_loss"] == pytest.approx(0.8 * whole["image_score"] + 0.2 * whole["feature_score"], rel=1e-5)


def test_scores_of_the_watched_images_are_in_the_history_as_percentiles(tmp_path: Path) -> None:
    images = blobs(60)
    finish(train.run(SMALL, workspace(tmp_path / "train", images)))
    finish(scoring.run(ScoreConfig(preset="paper"), workspace(tmp_path / "score", images, tmp_path / "train")))
    scores = pd.read_parquet(tmp_path / "score" / "scores.parquet")
    unseen = scores[scores["split"] == "validation"]
    told = records_of(tmp_path / "train")[-1]["scores"]
    assert told["n"] == len(unseen) == 6
    assert told["percent"] == [1, 5, 25, 50, 75, 95, 99]
    for name in ("image_score", "feature_score"):
        np.testing.assert_allclose(told[name], np.percentile(unseen[name], told["percent"]), rtol=1e-4)


def test_where_no_images_are_held_out_always_the_same_training_images_are_watched(tmp_path: Path) -> None:
    finish(train.run(replace(SMALL, validation=0.0), workspace(tmp_path, blobs(24))))
    assert [record["scores"]["n"] for record in records_of(tmp_path)[2:]] == [24, 24]
    none = np.arange(0)
    for n, watched in ((24, 24), (300, 150), (2000, 250), (30_000, 3000), (10**6, 4082)):
        rows = train.watched_rows(np.arange(n), none)
        assert len(rows) == watched
        assert np.array_equal(rows, train.watched_rows(np.arange(n), none))
    assert np.array_equal(train.watched_rows(np.arange(9), np.arange(9, 12)), [9, 10, 11])


def test_without_validation_images_there_are_no_validation_losses(tmp_path: Path) -> None:
    _, results = finish(train.run(replace(SMALL, validation=0.0), workspace(tmp_path, blobs(24))))
    records = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert all(record["validation"] == {} for record in records)
    assert results["n_validation"] == 0


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_grids_are_three_rows_of_eight_at_their_own_pixels(tmp_path: Path, bands: int) -> None:
    images = blobs(24, bands=bands)
    finish(train.run(SMALL, workspace(tmp_path, images)))
    scale = json.loads((tmp_path / "grids" / "scale.json").read_text())
    assert scale["residual_white"] > 0
    assert {path.name for path in (tmp_path / "grids").glob("*.png")} == {f"0000{i}.png" for i in (1, 2, 3, 4)}
    for name in ("00001.png", "00004.png"):
        with Image.open(tmp_path / "grids" / name) as picture:
            assert picture.size == (8 * 32, 3 * 32)
            pixels = np.asarray(picture)
        first = images[int(scale["subject_ids"][0])]
        rgb = {1: (0, 0, 0), 3: (0, 1, 2), 5: (4, 2, 0)}[bands]
        assert np.array_equal(pixels[:32, :32], first[..., rgb])


def test_a_long_training_has_at_most_sixty_grids_and_one_at_the_end_of_each_stage() -> None:
    for n_gan, n_encoder in ((1, 1), (30, 31), (500, 500), (59, 2), (7, 1000)):
        total = n_gan + n_encoder
        due = [i for i in range(1, total + 1) if is_due(i, total, is_last=i in (n_gan, total))]
        assert len(due) <= 60
        assert {n_gan, total} <= set(due)
