"""A batch that does not fit is halved, and says so."""

from collections.abc import Callable

import pytest
import torch

from models.artifacts import ArtifactError
from models.memory import Batch


def holds(most: int, tried: list[int]) -> Callable[[int], int]:
    def work(n: int) -> int:
        tried.append(n)
        if n > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 10 * n

    return work


def test_a_batch_is_halved_until_it_fits_and_stays_so() -> None:
    batch = Batch(64)
    tried: list[int] = []
    assert batch.words == ""
    assert batch.fit(holds(20, tried)) == 160
    assert batch.fit(holds(20, tried)) == 160
    assert tried == [64, 32, 16, 16]
    assert batch.words == "batch 16, 64 did not fit the GPU's memory"
    assert batch.results == {"batch": 16, "batch_asked": 64}


def test_it_goes_down_to_one_and_then_says_what_to_do() -> None:
    batch = Batch(6)
    tried: list[int] = []
    with pytest.raises(ArtifactError, match="memory does not hold a batch of 1; take smaller networks, free the GPU"):
        batch.fit(holds(0, tried))
    assert tried == [6, 3, 1]
    with pytest.raises(ArtifactError, match="a batch of 4"):
        Batch(8, least=4).fit(holds(3, []))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="no such kernel"):
        Batch(8).fit(lambda n: (_ for _ in ()).throw(RuntimeError("no such kernel")))
