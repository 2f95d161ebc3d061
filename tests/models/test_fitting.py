"""The loop that all kinds of learning share: what it keeps, where it ends, and that a kill changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.artifacts import ArtifactError
from models.fitting import Recipe, Standing, fit, network_of, outputs, turned
from models.steps import Feed

CPU = torch.device("cpu")


def images(n: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Noise, half of it with a bright left side: uint8 (n, 8, 8, 1), and which, int64 (n,)."""
    random = np.random.default_rng(0)
    is_bright = np.arange(n) % 2
    made = random.integers(0, 100, (n, 8, 8, 1))
    made[is_bright == 1, :, :4] += 120
    return made.astype(np.uint8), is_bright


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def run(folder: Path, recipe: Recipe, stop_after: int = 0, save_all: bool = False, n_validation: int = 16):
    folder.mkdir(exist_ok=True)
    x, y = images()
    network, standing = network_of(3, small, CPU), Standing(folder, {"lr": recipe.learning_rate})
    target = torch.from_numpy(y)

    def loss(batch, rows):
        return nn.functional.cross_entropy(network(batch), target[rows])

    rows = np.arange(len(x))
    made = fit("small", network, loss, Feed(x, CPU), rows[n_validation:], rows[:n_validation], recipe, 1, standing)
    epochs = []
    for epoch in made:
        epochs.append(epoch)
        if stop_after and epoch.number == stop_after:
            made.close()
            break
    return network, epochs, standing


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_keeps_the_weights_of_the_smallest_validation_loss(tmp_path):
    recipe = Recipe(60, 8, 0.01, patience=5, is_turned=False)
    network, epochs, standing = run(tmp_path, recipe)
    losses = [epoch.validation["loss"] for epoch in epochs]
    assert losses[0] > 2 * min(losses)
    best = int(np.argmin(losses))
    assert len(epochs) in (60, best + 1 + 5)
    assert epochs[best].is_best
    x, y = images()
    said = outputs(network, Feed(x, CPU), np.arange(16))
    assert nn.functional.cross_entropy(torch.from_numpy(said), torch.from_numpy(y[:16])).item() == pytest.approx(
        losses[best], rel=1e-5
    )
    assert [line["epoch"] for line in standing.history.records] == list(range(1, len(epochs) + 1))


def test_without_validation_all_epochs_are_made(tmp_path):
    _, epochs, _ = run(tmp_path, Recipe(4, 8, 0.01, patience=2), n_validation=0)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[-1].validation == {}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fit_that_was_stopped_ends_in_the_same_weights(tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr("models.fitting.SAVE_EVERY", 0.0)
    recipe = Recipe(9, 8, 0.01, optimizer, momentum=0.9, is_turned=True, is_annealed=True, patience=9)
    whole, _, _ = run(tmp_path / "whole", recipe)
    run(tmp_path / "stopped", recipe, stop_after=4)
    rest, epochs, standing = run(tmp_path / "stopped", recipe)
    assert epochs[0].number == 5  # an epoch is saved before it is told
    assert same(whole, rest)
    assert [line["epoch"] for line in standing.history.records] == list(range(1, 10))


def test_a_fit_that_is_done_is_not_done_again(tmp_path):
    recipe = Recipe(3, 8, 0.01)
    first, _, _ = run(tmp_path, recipe)
    again, epochs, standing = run(tmp_path, recipe)
    assert epochs == []
    assert same(first, again)
    assert len(standing.history.records) == 3


def test_what_was_kept_of_other_settings_is_refused(tmp_path):
    run(tmp_path, Recipe(2, 8, 0.01))
    with pytest.raises(ArtifactError, match=r"belongs to another run: lr was 0\.01, is 0\.02"):
        run(tmp_path, Recipe(2, 8, 0.02))


def test_arrays_are_kept_by_name(tmp_path):
    standing = Standing(tmp_path, {})
    assert standing.kept("fold 1") is None
    standing.keep("fold 1", {"p": np.arange(3.0)})
    np.testing.assert_array_equal(Standing(tmp_path, {}).kept("fold 1")["p"], [0, 1, 2])


def test_a_loss_that_is_no_number_is_a_sentence(tmp_path):
    with pytest.raises(ArtifactError, match=r"the loss is (nan|inf) after epoch 1; take a smaller --learning-rate"):
        run(tmp_path, Recipe(3, 8, 1e38, "sgd"))


def test_every_image_is_turned_by_its_own_orientation():
    x = torch.arange(2 * 9.0).reshape(2, 1, 3, 3)
    found = turned(x, np.array([0, 1]))
    assert torch.equal(found[0], x[0])
    assert torch.equal(found[1], torch.rot90(x[1], 1, (1, 2)))
