"""What is kept, by number and by bytes."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from explorer import caches
from explorer.caches import Cache, is_mapped, size_of


@dataclass(frozen=True, slots=True)
class Cut:
    codes: np.ndarray
    labels: list[str]


class Held:
    def __init__(self) -> None:
        self.parts = [np.zeros(10, np.uint8), {"more": np.zeros(5, np.uint8)}]


def test_the_bytes_of_a_value_are_those_of_its_arrays(tmp_path: Path):
    assert size_of(np.zeros(4)) == 32
    assert size_of((np.zeros(4), [np.zeros(1)], "text", None, 7)) == 40
    assert size_of(Cut(np.zeros(3, np.uint8), ["a"])) == 3
    assert size_of(Held()) == 15
    np.save(tmp_path / "column.npy", np.zeros(1000))
    mapped = np.load(tmp_path / "column.npy", mmap_mode="r")
    assert size_of(mapped) == 0
    assert is_mapped(mapped[3:, None].T)
    assert is_mapped(np.asarray(mapped).view(np.uint64))
    assert not is_mapped(np.array(mapped))


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_large():
    kept = Cache(3, nbytes=100)
    for name, size in (("a", 40), ("b", 40), ("c", 0)):
        kept.get(name, lambda size=size: np.zeros(size, np.uint8))
    assert kept.kept("a") is not None  # and is the newest now
    kept.put("d", np.zeros(60, np.uint8))
    assert [kept.kept(name) is not None for name in "abcd"] == [True, False, True, True]
    assert kept.nbytes == 100
    kept.put("e", np.zeros(500, np.uint8))  # larger than all that may be kept: it is, alone
    assert [kept.kept(name) is not None for name in "ade"] == [False, False, True]


def test_a_value_that_grows_while_it_is_kept_counts_as_it_is(monkeypatch):
    monkeypatch.setattr(caches, "MEASURED_S", -1.0)
    kept, grows = Cache(9, nbytes=100), Held()
    kept.put("grows", grows)
    kept.put("other", np.zeros(50, np.uint8))
    assert kept.kept("grows") is grows
    grows.parts.append(np.zeros(90, np.uint8))
    kept.put("third", np.zeros(1, np.uint8))
    assert kept.kept("other") is None
    kept.put("fourth", np.zeros(1, np.uint8))
    assert kept.kept("grows") is None


LEFT = """
import sys
import numpy as np
from explorer.caches import COLUMN_BYTES, give_back_columns

def anonymous():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) * 1024

if sys.argv[1] == "told":
    give_back_columns()
large = np.ones(24 << 20, np.uint8)
del large  # from here on glibc takes such arrays from what it keeps
before = anonymous()
columns = [np.ones(COLUMN_BYTES + 4096, np.uint8) for _ in range(8)]
del columns[:7]  # the last one stands above them
print((anonymous() - before) / COLUMN_BYTES)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own way")
def test_columns_that_are_let_go_are_the_systems_again():
    def left(word: str) -> float:
        return float(subprocess.run([sys.executable, "-c", LEFT, word], check=True, capture_output=True).stdout)

    assert left("told") < 2 < 7 < left("not told")
