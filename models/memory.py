"""Batches that shrink where the device's memory does not hold them."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from models.artifacts import ArtifactError

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Batch:
    """How many are taken at once: what was asked for, halved each time that CUDA runs out of memory.

    ``batch = Batch(config.batch); answer = batch.fit(lambda n: work(n))`` does the work again with half of n as long as
    it does not fit; `work` must not mind being begun twice. A loop of one's own catches ``torch.OutOfMemoryError``,
    leaves the ``except`` (its traceback holds the tensors), calls `halve` and goes back to where it stood. `words` are
    for the progress message, `results` for run.json.

    Attributes
    ----------
    asked, used
        At first, and now.
    least
        What is not gone below.
    """

    asked: int
    used: int = 0
    least: int = 1

    def __post_init__(self) -> None:
        self.used = self.used or self.asked

    def fit(self, work: Callable[[int], Answer]) -> Answer:
        """What `work(n)` answers, n being the largest of `used`, `used` / 2, … for which memory suffices.

        Raises
        ------
        ArtifactError
            It does not suffice for `least` either.
        """
        while True:
            try:
                return work(self.used)
            except torch.OutOfMemoryError:
                pass
            self.halve()

    def halve(self) -> None:
        """Take half as many from now on, and give back what memory is cached.

        Raises
        ------
        ArtifactError
            There are no more than `least` at once already.
        """
        if self.used <= self.least:
            raise ArtifactError(
                f"the GPU's memory does not hold a batch of {self.used}; take smaller networks, free the GPU, "
                "or take device cpu"
            )
        self.used = max(self.least, self.used // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def words(self) -> str:
        """``"batch 32, 64 did not fit the GPU's memory"``, or "" while all is as asked."""
        return "" if self.used == self.asked else f"batch {self.used}, {self.asked} did not fit the GPU's memory"

    @property
    def results(self) -> dict[str, Any]:
        """``{"batch": 32, "batch_asked": 64}``: what was used at the end, and what was asked for."""
        return {"batch": self.used, "batch_asked": self.asked}
