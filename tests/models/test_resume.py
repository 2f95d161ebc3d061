"""A training that stopped goes on to the same bytes; a saved state that does not fit is refused with a sentence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.kinds.train import TrainConfig
from models import resume, train
from models.artifacts import CHECKPOINT, GRIDS, HISTORY, RESUME, ArtifactError
from models.resume import History, Order
from models.steps import EncoderSteps, GanSteps
from tests.models.networks import blobs, finish, workspace

SMALL = TrainConfig(epochs=2, encoder_epochs=2, batch=8, encoder_batch=8, width=2, latent_size=4, device="cpu", seed=7)


class Killed(Exception):
    """Stands for SIGKILL: nothing of the training runs after it."""


def train_and_stop(folder: Path, config: TrainConfig, n_saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train with a save after every step, and stop right after the save with this number."""
    saves = 0

    def counted(path: Path, content: bytes) -> None:
        nonlocal saves
        write(path, content)
        saves += path.name == RESUME
        if saves == n_saves:
            raise Killed

    write = resume.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(resume, "SAVE_EVERY", -1.0)
        patch.setattr(resume, "write_bytes", counted)
        with pytest.raises(Killed):
            finish(train.run(config, workspace(folder, blobs(24))))


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The history's lines but for times."""
    records = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record in records]


def everything(folder: Path) -> dict[str, Any]:
    """What two runs of one training must have in common: bytes of weights, of the last state, and of pictures."""
    grids = {path.name: path.read_bytes() for path in sorted((folder / GRIDS).iterdir())}
    return {name: (folder / name).read_bytes() for name in (CHECKPOINT, RESUME)} | grids | {"h": history_of(folder)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TrainConfig], dict[str, Any]]:
    """What a training comes to that nothing interrupts."""
    known: dict[TrainConfig, dict[str, Any]] = {}

    def of(config: TrainConfig) -> dict[str, Any]:
        if config not in known:
            folder = tmp_path_factory.mktemp("uninterrupted")
            finish(train.run(config, workspace(folder, blobs(24))))
            known[config] = everything(folder)
        return known[config]

    return of


# an epoch has two steps: saves 1, 2 within the first, 3 after it; 7 after the GAN, 8 in the encoder's first epoch
@pytest.mark.parametrize("n_saves", [1, 2, 3, 4, 7, 8, 10, 13, 14])
def test_stopped_after_any_save_it_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Callable[..., dict[str, Any]], n_saves: int
) -> None:
    train_and_stop(tmp_path, SMALL, n_saves, monkeypatch)
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    assert everything(tmp_path) == uninterrupted(SMALL)


@pytest.mark.parametrize("n_saves", [4, 9])
def test_in_bfloat16_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Callable[..., dict[str, Any]], n_saves: int
) -> None:
    lower = replace(SMALL, precision="bfloat16")
    train_and_stop(tmp_path, lower, n_saves, monkeypatch)
    finish(train.run(lower, workspace(tmp_path, blobs(24))))
    found = everything(tmp_path)
    assert found == uninterrupted(lower)
    assert found[CHECKPOINT] != uninterrupted(SMALL)[CHECKPOINT]


def test_a_training_stopped_before_its_first_save_starts_anew(
    tmp_path: Path, uninterrupted: Callable[..., dict[str, Any]]
) -> None:
    job = train.run(SMALL, workspace(tmp_path, blobs(24)))
    assert [next(job).done for _ in range(3)] == [0, 1, 2]
    job.close()
    assert len(history_of(tmp_path)) == 2
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    assert everything(tmp_path) == uninterrupted(SMALL)


def test_the_state_is_saved_at_the_end_of_each_stage(tmp_path: Path) -> None:
    job = train.run(SMALL, workspace(tmp_path, blobs(24)))
    assert [next(job).done for _ in range(4)] == [0, 1, 2, 3]
    with safe_open(tmp_path / RESUME, framework="pt") as file:
        state = json.loads(file.metadata()["voorwerp"])
    assert (state["stage"], state["epoch"], state["step"], state["n_history"]) == ("gan", 2, 0, 2)
    job.close()


def test_what_a_killed_save_left_behind_is_swept_away(tmp_path: Path) -> None:
    for name in (CHECKPOINT, RESUME):
        (tmp_path / f".{name}.abc123.tmp").write_bytes(b"half")
    (tmp_path / GRIDS).mkdir()
    (tmp_path / GRIDS / ".00004.png.abc123.tmp").write_bytes(b"half")
    next(job := train.run(SMALL, workspace(tmp_path, blobs(24))))
    next(job)
    job.close()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_the_state_holds_weights_moments_and_random_states_of_the_stage(tmp_path: Path) -> None:
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    tensors = load_file(tmp_path / RESUME)
    weights = load_file(tmp_path / CHECKPOINT)
    for name, weight in weights.items():
        assert torch.equal(tensors[f"model.{name}"], weight)
    n_encoder = sum(name.startswith("encoder.") for name in weights)
    for what in ("exp_avg", "exp_avg_sq", "step"):
        assert sum(name.startswith("adam.encoder.") and name.endswith(f".{what}") for name in tensors) == n_encoder
    assert tensors["adam.encoder.0.step"].item() == 4  # two epochs of two steps
    assert tensors["random.cpu"].dtype == torch.uint8
    assert sorted(tensors["order"].tolist()) == sorted(set(tensors["order"].tolist()))


# ----------------------------------------------------------------------------------------------- what does not fit
def spoil(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    """Write the saved state again with a change to its JSON or its tensors."""
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["voorwerp"])
    tensors = load_file(path)
    change(state, tensors)
    save_file(tensors, path, metadata={"voorwerp": json.dumps(state)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"resume.safetensors is not a whole safetensors file \(.*\); remove it to train from the beginning"),
        (b"no safetensors at all", "is not a whole safetensors file"),
        (None, "is not a whole safetensors file"),
    ],
)
def test_a_broken_state_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    path = tmp_path / RESUME
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ArtifactError, match=message):
        finish(train.run(SMALL, workspace(tmp_path, blobs(24))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, tensors: state.pop("stage"), r"is not the state of a training \('stage'\)"),
        (lambda state, tensors: state.update(about=3), "is not the state of a training"),
        (lambda state, tensors: state.update(stage="third"), "is not the state of a training"),
        (lambda state, tensors: state.pop("epoch"), r"is not the state of a training \(something is missing\)"),
        (lambda state, tensors: tensors.pop("random.cpu"), r"is not the state of a training \(something is missing\)"),
        (lambda state, tensors: tensors.pop("adam.encoder.3.exp_avg"), "something is missing"),
        (lambda state, tensors: tensors.update({"model.critic.judge.bias": torch.zeros(2)}), "does not fit this"),
        (lambda state, tensors: state["order"].update(random={"state": 1}), "does not fit this training"),
    ],
)
def test_a_state_that_lacks_something_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None], message: str
) -> None:
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    spoil(tmp_path / RESUME, change)
    with pytest.raises(ArtifactError, match=message):
        finish(train.run(SMALL, workspace(tmp_path, blobs(24))))


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    with pytest.raises(ArtifactError, match=r"belongs to another training: seed was 7, is 8; remove it to train from"):
        finish(train.run(replace(SMALL, seed=8), workspace(tmp_path, blobs(24))))
    with pytest.raises(ArtifactError, match="belongs to another training: images was"):
        finish(train.run(SMALL, workspace(tmp_path, blobs(24, seed=1))))
    changed = replace(workspace(tmp_path, blobs(24)), preprocessing={"size": 32, "bands": ["i", "r", "g"]})
    with pytest.raises(ArtifactError, match="belongs to another training: preprocessing was"):
        finish(train.run(SMALL, changed))


def test_the_state_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    """Its steps compute the same in another order: to go on would end in bytes of neither version."""
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    spoil(tmp_path / RESUME, lambda state, tensors: state.pop("version"))
    with pytest.raises(
        ArtifactError, match=r"saved by another version of this program, .*; go on with that version, re"
    ):
        finish(train.run(SMALL, workspace(tmp_path, blobs(24))))


def test_a_history_shorter_than_the_state_is_refused(tmp_path: Path) -> None:
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    (tmp_path / HISTORY).write_text("")
    with pytest.raises(ArtifactError, match=r"history.jsonl has 0 epochs where resume.safetensors was saved after 4"):
        finish(train.run(SMALL, workspace(tmp_path, blobs(24))))


# ------------------------------------------------------------------------------------------- memory that runs out
def memory_for(
    monkeypatch: pytest.MonkeyPatch, n_images: int, after: int = 0, steps: type[GanSteps | EncoderSteps] = GanSteps
) -> None:
    """From the step after this many on, a GPU's memory holds batches of at most `n_images`."""
    take, n_taken = steps.take, 0

    def held(self: Any, batches: Any, *more: Any) -> torch.Tensor:
        nonlocal n_taken
        n_taken += 1
        n = len(batches[0]) if steps is GanSteps else len(batches)
        if n > n_images and n_taken > after:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return take(self, batches, *more)

    monkeypatch.setattr(steps, "take", held)


def test_a_batch_that_memory_does_not_hold_is_halved_said_so_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(monkeypatch, 3)
    records, results = finish(train.run(SMALL, workspace(tmp_path / "halved", blobs(24))))
    assert (results["batch"], results["batch_asked"]) == (2, 8)
    assert (results["encoder_batch"], results["encoder_batch_asked"]) == (8, 8)
    said = [record.message for record in records]
    assert said[1].startswith("batch 4, 8 did not fit the GPU's memory; going on from")
    assert said[3] == "training generator and critic; batch 2, 8 did not fit the GPU's memory"
    assert said[-1] == "training the encoder"
    asked = replace(SMALL, batch=2)
    finish(train.run(asked, workspace(tmp_path / "asked", blobs(24))))
    assert (tmp_path / "halved" / CHECKPOINT).read_bytes() == (tmp_path / "asked" / CHECKPOINT).read_bytes()


@pytest.mark.parametrize(("steps", "stage"), [(GanSteps, "gan"), (EncoderSteps, "encoder")])
def test_memory_that_runs_out_later_costs_what_was_not_saved_and_taken_up_again_the_batch_stays_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: type[GanSteps | EncoderSteps], stage: str
) -> None:
    class Interrupted(Exception):
        pass

    def stop(path: Path, content: bytes) -> None:
        write(path, content)
        if path.name == RESUME and json.loads(safe_open(path, "pt").metadata()["voorwerp"])["batches"][stage] == 4:
            raise Interrupted

    write = resume.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(resume, "SAVE_EVERY", -1.0)
        memory_for(patch, 4, after=1, steps=steps)  # it is saved after the first step
        patch.setattr(resume, "write_bytes", stop)
        with pytest.raises(Interrupted):
            finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    with safe_open(tmp_path / RESUME, framework="pt") as file:
        state = json.loads(file.metadata()["voorwerp"])
    # one step of eight images was behind it: two of four
    assert (state["stage"], state["epoch"], state["step"], state["order"]["size"]) == (stage, 0, 2, 4)
    _, results = finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    name = "batch" if stage == "gan" else "encoder_batch"
    assert (results[name], results[f"{name}_asked"]) == (4, 8)
    assert [record["epoch"] for record in history_of(tmp_path)] == [1, 2, 1, 2]


def test_memory_that_does_not_even_hold_the_smallest_batch_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(monkeypatch, 1)
    with pytest.raises(ArtifactError, match="the GPU's memory does not hold a batch of 2; take smaller networks"):
        finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    assert not (tmp_path / CHECKPOINT).exists() or (tmp_path / RESUME).exists()


# ------------------------------------------------------------------------------------------------------- the parts
def test_a_history_is_cut_back_and_a_half_written_line_goes(tmp_path: Path) -> None:
    path = tmp_path / HISTORY
    history = History(path, 0)
    for epoch in range(3):
        history.add({"epoch": epoch})
    with path.open("a") as file:
        file.write('{"epoch"')
    again = History(path, 2)
    again.add({"epoch": 7})
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 1, 7]
    assert again.records == [{"epoch": 0}, {"epoch": 1}, {"epoch": 7}]


def test_every_pass_of_an_order_has_each_row_once_but_for_the_remainder() -> None:
    order = Order(np.arange(10, 21), 3, seed=5)
    passes = [[next(order) for _ in range(3)] for _ in range(40)]
    for batches in passes:
        assert all(batch.tolist() == sorted(batch) for batch in batches)
        rows = np.concatenate(batches)
        assert len(set(rows)) == 9
        assert set(rows) <= set(range(10, 21))
    assert {row for batches in passes for row in np.concatenate(batches)} == set(range(10, 21))
    assert not np.array_equal(passes[0][0], passes[1][0])
