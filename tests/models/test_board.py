"""TensorBoard events of a training, read back by TensorBoard: also after kills, and where they cannot be written."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from explorer.kinds.train import TrainConfig
from models import resume, train
from models.artifacts import HISTORY
from models.board import FOLDER, SAYS_HOW, Board, scalars_of
from tests.models.networks import blobs, finish, workspace

SMALL = TrainConfig(epochs=2, encoder_epochs=2, batch=8, encoder_batch=8, width=2, latent_size=4, device="cpu", seed=7)
RECORD = {
    "train": {"critic_loss": -1.5},
    "validation": {"critic_loss": None},
    "spread": 0.9,
    "images_per_second": 100.0,
    "gradient_norm": {"median": 1.0, "highest": 2.0},
    "scores": None,
    "word": "",
}


class Killed(Exception):
    """Stands for SIGKILL: nothing of the training runs after it."""


def read(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder / FOLDER), everything).Reload()


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]


def as_told(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars by tag and step; a step that is there twice fails."""
    events = read(folder)
    found = {}
    for tag in events.Tags()["scalars"]:
        points = events.Scalars(tag)
        found[tag] = {point.step: point.value for point in points}
        assert len(found[tag]) == len(points), tag
    return found


def as_expected(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for step, record in enumerate(records_of(folder), 1):
        for tag, value in scalars_of(record).items():
            found.setdefault(tag, {})[step] = pytest.approx(value, rel=1e-6)
    return found


def test_a_training_is_read_back_as_its_history_has_it(tmp_path: Path) -> None:
    images = blobs(40)
    finish(train.run(SMALL, workspace(tmp_path, images)))
    told = as_told(tmp_path)
    assert told == as_expected(tmp_path)
    both = {f"{name}/{part}" for name in ("critic_loss", "gradient_norm") for part in ("train", "validation")}
    both |= {"generator_loss/train", "spread", "images_per_second", "gradient_norm/highest_step"}
    scores = {f"{name}/{of}" for name in ("image_score", "feature_score") for of in ("validation", "p1", "p50", "p99")}
    assert both | scores <= told.keys()
    assert set(told["critic_loss/train"]) == {1, 2}
    assert set(told["image_score/p50"]) == {3, 4}
    assert set(told["spread"]) == {1, 2, 3, 4}

    events = read(tmp_path)
    grids = {step: (tmp_path / "grids" / f"{step:05d}.png").read_bytes() for step in (1, 2, 3, 4)}
    for event in events.Images("grid"):
        (tmp_path / "told.png").write_bytes(event.encoded_image_string)
        (tmp_path / "kept.png").write_bytes(grids.pop(event.step))
        with Image.open(tmp_path / "told.png") as ours, Image.open(tmp_path / "kept.png") as theirs:
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert not grids
    for name in ("image_score", "feature_score"):
        histograms = events.Histograms(name)
        assert [event.step for event in histograms] == [3, 4]
        assert histograms[0].histogram_value.num == records_of(tmp_path)[2]["scores"]["n"] == 4
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| latent_size | 4 |" in text
    assert "| seed | 7 |" in text


def test_resumed_no_step_is_there_twice_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed once epoch 3 was written, with a state from before: epoch 3 is void, and comes again."""
    config, images, loop = replace(SMALL, epochs=4), blobs(24), train.train_gan

    def stopped(*arguments: Any) -> Iterator[train.Epoch]:
        for epoch in loop(*arguments):
            yield epoch
            if epoch.number == 3:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(resume, "SAVE_EVERY", -1.0)
        patch.setattr(train, "train_gan", stopped)
        with pytest.raises(Killed):
            finish(train.run(config, workspace(tmp_path, images)))
    assert set(as_told(tmp_path)["spread"]) == {1, 2, 3}
    finish(train.run(config, workspace(tmp_path, images)))
    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    assert as_told(tmp_path) == as_expected(tmp_path)
    assert [event.step for event in read(tmp_path).Images("grid")] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_gets_sigkill_leaves_events_that_are_read(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from models import board
board.FLUSH_EVERY = 0.0
told = board.Board(Path(sys.argv[1]), 1, {{}})
for epoch in range(1, 6):
    told.add(epoch, {RECORD!r}, {{}}, None)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=120, check=False)
    assert killed.returncode == -9
    (events,) = (tmp_path / FOLDER).iterdir()
    assert [point.step for point in read(tmp_path).Scalars("spread")] == [1, 2, 3, 4, 5]
    events.write_bytes(events.read_bytes()[:-7])  # cut off within the last event
    assert [point.step for point in read(tmp_path).Scalars("critic_loss/train")] == [1, 2, 3, 4, 5]


# ------------------------------------------------------------------------------------------ where it cannot be written
def test_where_it_is_not_installed_the_log_says_how_to_get_it_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    _, results = finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    assert results["verdict"]
    assert capsys.readouterr().out.count(SAYS_HOW) == 1
    assert "pip install 'voorwerp[tensorboard]'" in SAYS_HOW
    assert not (tmp_path / FOLDER).exists()


def test_a_folder_that_cannot_be_made_is_a_line_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    finish(train.run(SMALL, workspace(tmp_path, blobs(24))))
    assert capsys.readouterr().out.count("TensorBoard events end here, and the training goes on without them: ") == 1
    assert len(records_of(tmp_path)) == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fills_up_is_a_line_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    board = Board(tmp_path, 1, {})
    board.add(1, RECORD, {}, None)
    events = board.writer.file_writer.event_writer
    events._general_file_writer.write = full
    for epoch in range(2, 50):
        board.flushed_at = 0.0
        board.add(epoch, RECORD, {}, None)
    board.close()
    events._async_writer._worker.join(30)  # it ends by the error, which is of this test
    assert board.writer is None
    told = capsys.readouterr().out.splitlines()
    end = "TensorBoard events end here, and the training goes on without them: [Errno 28] No space left on device"
    assert [line for line in told if "TensorBoard" in line] == [end]
    assert [point.step for point in read(tmp_path).Scalars("spread")] == [1]


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    board = Board(tmp_path, 1, {})
    board.add(1, RECORD | {"spread": None, "word": "a collapse"}, {"image_score": np.array([1.0, np.nan, 3.0])}, None)
    board.add(2, RECORD, {}, None)
    board.close()
    events = read(tmp_path)
    assert [point.step for point in events.Scalars("spread")] == [2]
    assert events.Histograms("image_score")[0].histogram_value.num == 2
    said = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("word/text_summary")]
    assert said == ["a collapse", "nothing is wrong any more"]
