"""What a run's folder tells while it is at work: the end of its log, its memory over time, its scores by epoch."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from explorer.services import watched


def progress(at: float, attempt: int = 1, **more: Any) -> str:
    minutes, seconds = divmod(at, 60)
    hours, minutes = divmod(int(minutes), 60)
    record = {
        "at": f"2026-01-0{1 + hours // 24}T{hours % 24:02d}:{minutes:02d}:{seconds:06.3f}+00:00",
        "attempt": attempt,
    }
    return (
        json.dumps(record | {"done": 1, "total": 9, "message": "training", "metrics": {}, "rate": None} | more) + "\n"
    )


def on_cpu(at: float, memory: float, attempt: int = 1) -> str:
    return progress(at, attempt, device="cpu", memory_mb=memory, gpu=None)


# ---------------------------------------------------------------------------------------------------------- log
def test_the_log_is_its_last_two_hundred_lines_as_a_terminal_shows_them(tmp_path: Path) -> None:
    lines = [f"line {i}" for i in range(1000)] + [
        "\x1b[31mred\x1b[0m\ttab",
        "10 %\r50 %\r100 %\r",
        "<b>é</b>\x00\x07\u202e",
    ]
    (tmp_path / "log.txt").write_bytes("\n".join(lines).encode() + b"\n")
    told = watched.log_of(tmp_path).split("\n")
    assert len(told) == 200
    assert told[0] == "line 803"
    assert told[-3:] == ["red\ttab", "100 %", "<b>é</b>"]


def test_a_log_that_is_not_there_is_empty_and_one_of_bytes_is_shown_anyway(tmp_path: Path) -> None:
    assert watched.log_of(tmp_path) == ""
    (tmp_path / "log.txt").write_bytes(b"\xff\xfe half a line")
    assert watched.log_of(tmp_path).endswith("half a line")
    (tmp_path / "log.txt").write_bytes(b"x" * 5_000_000 + b"\nlast")
    assert watched.log_of(tmp_path) == "last"
    (tmp_path / "log.txt").write_bytes(b"y" * 90_000)
    assert len(watched.log_of(tmp_path)) <= watched.WIDE


# ------------------------------------------------------------------------------------------------ device, memory
def test_memory_and_device_over_time(tmp_path: Path) -> None:
    gpu = {"use": 93, "memory_mb": 2000.0, "of_mb": 80_000.0}
    (tmp_path / "progress.jsonl").write_text(
        progress(0)  # of an older Voorwerp
        + on_cpu(10, 400.0)
        + progress(12.5, device="cuda:0 Card", memory_mb=900.0, gpu=gpu)
        + progress(14, device="cuda:0 Card", memory_mb=None, gpu=gpu | {"use": None})
        + '{"at": "2026-01-01T00:00'
    )
    assert watched.use_of(tmp_path) == {
        "device": "cuda:0 Card",
        "of_mb": 80_000.0,
        "points": [[0.0, 400.0, None, None], [2.5, 900.0, 93, 2000.0], [4.0, None, None, 2000.0]],
        "attempts": [1, 1, 1],
    }


def test_the_night_between_an_interruption_and_going_on_is_not_counted(tmp_path: Path) -> None:
    lines = [on_cpu(0, 1.0), on_cpu(60, 2.0), on_cpu(36_000, 3.0, attempt=2), on_cpu(36_030, 4.0, attempt=2)]
    (tmp_path / "progress.jsonl").write_text("".join(lines))
    told = watched.use_of(tmp_path)
    assert [point[0] for point in told["points"]] == [0, 60, 60, 90]
    assert told["attempts"] == [1, 1, 2, 2]


def test_a_run_that_told_nothing_has_no_curve(tmp_path: Path) -> None:
    nothing = {"device": None, "of_mb": None, "points": [], "attempts": []}
    assert watched.use_of(tmp_path) == nothing
    (tmp_path / "progress.jsonl").write_text(progress(1) + "[1]\nnull\n" + progress(2, device="cpu"))
    assert watched.use_of(tmp_path) == nothing


@pytest.mark.parametrize("n", [1, 199, 200, 201, 1000, 40_000])
def test_a_file_of_any_length_is_thinned_evenly_and_ends_with_its_last_record(tmp_path: Path, n: int) -> None:
    (tmp_path / "progress.jsonl").write_text("".join(on_cpu(i * 0.5, float(i)) for i in range(n)))
    memory = [point[1] for point in watched.use_of(tmp_path)["points"]]
    assert len(memory) == min(n, 200) or (n == 40_000 and 198 <= len(memory) <= 200)
    assert memory[-1] == n - 1
    assert memory == sorted(set(memory))
    assert memory[0] <= n / 100
    if n > 200:
        gaps = [b - a for a, b in itertools.pairwise(memory)]
        assert max(gaps) < 3 * n / 200


def test_a_day_of_progress_is_read_in_milliseconds(tmp_path: Path) -> None:
    with (tmp_path / "progress.jsonl").open("w") as file:
        for _ in range(100):
            file.write("".join(on_cpu(i * 0.2, float(i)) for i in range(2000)))
    assert (tmp_path / "progress.jsonl").stat().st_size > 30e6
    began = time.process_time()
    watched.use_of(tmp_path)
    assert time.process_time() - began < 0.1


# ------------------------------------------------------------------------------------------------- distributions
def test_score_distributions_by_epoch(tmp_path: Path) -> None:
    scores = {"n": 40, "percent": [5, 50, 95], "image_score": [1.23456, 2.0, None], "feature_score": [3.0, 4.0, 5.0]}
    lines: list[Any] = [
        {"stage": "gan", "epoch": 1, "of": 1, "scores": None},
        {"stage": "encoder", "epoch": 1, "of": 2},
    ]
    lines += [{"stage": "encoder", "epoch": i, "of": 2, "scores": scores, "validation": {}} for i in (1, 2)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert watched.distributions_of(tmp_path) == {
        "n": 40,
        "images": "training",
        "of": 2,
        "percent": [5, 50, 95],
        "epochs": [1, 2],
        "image_score": [[1.235, 2.0, None]] * 2,
        "feature_score": [[3.0, 4.0, 5.0]] * 2,
    }
    (tmp_path / "history.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert watched.distributions_of(tmp_path) is None
