"""What a job takes of the machine: measured against the system's own figures, and against a pretended GPU."""

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from models import telemetry


class Cards:
    """Two GPUs as `torch.cuda` shows them; the second holds what the process computes with."""

    def __init__(self, use: Any) -> None:
        self.use = use

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def memory_reserved(self, number: int) -> int:
        return [0, 3_000_000_000][number]

    def get_device_properties(self, number: int) -> Any:
        return SimpleNamespace(name=f"Card {number}", total_memory=80_000_000_000)

    def utilization(self, _: int) -> int:
        if isinstance(self.use, Exception):
            raise self.use
        return int(self.use)


def test_on_a_cpu_it_is_the_resident_memory_and_nothing_else() -> None:
    found = telemetry.now()
    assert (found["device"], found["gpu"]) == ("cpu", None)
    assert found["memory_mb"] == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.02)
    assert json.loads(json.dumps(found)) == found


def test_memory_that_is_taken_is_seen() -> None:
    before = telemetry.now()["memory_mb"]
    taken = np.ones(25_000_000)  # 200 MB
    assert telemetry.now()["memory_mb"] - before == pytest.approx(200, abs=20)
    assert taken.sum() == 25_000_000


def test_of_several_gpus_it_is_the_one_that_holds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cards(87)))
    found = telemetry.now()
    assert found["device"] == "cuda:1 Card 1"
    assert found["gpu"] == {"use": 87, "memory_mb": 3000.0, "of_mb": 80_000.0}


def test_without_the_drivers_library_the_use_is_not_told_and_the_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cards(ModuleNotFoundError("pynvml"))))
    assert telemetry.now()["gpu"] == {"use": None, "memory_mb": 3000.0, "of_mb": 80_000.0}


def test_a_driver_that_falters_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards(1)
    monkeypatch.setattr(cards, "device_count", lambda: 1 / 0)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cards))
    assert telemetry.now()["device"] == "cpu"


def test_where_the_system_does_not_say_memory_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def read_bytes(self) -> bytes:
            raise FileNotFoundError

    monkeypatch.setattr(telemetry, "Path", lambda _: Absent())
    assert telemetry.now() == {"device": "cpu", "memory_mb": None, "gpu": None}


def test_looking_costs_less_than_a_millisecond() -> None:
    telemetry.now()
    began = time.process_time()
    for _ in range(200):
        telemetry.now()
    assert (time.process_time() - began) / 200 < 1e-3
