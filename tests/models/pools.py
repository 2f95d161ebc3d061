"""Workers who are not there: pools that do the parts in this process, in an order and a manner of their own."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.artifacts import Workspace


class Died(Exception):
    """The pool is gone."""


class Unruly:
    """A `models.artifacts.Pool` that does its parts out of order, and some twice.

    Parameters
    ----------
    config, workspace
        Those of the run.
    dies_after
        Answers after which it is gone.
    forgets
        Indices of parts that it never does, nor speaks of.
    lies
        Indices of parts that it says are done, and are not.
    threads
        Of each of its workers, in turn.
    """

    def __init__(
        self,
        config: Any,
        workspace: Workspace,
        n_workers: int = 2,
        dies_after: int | None = None,
        forgets: Sequence[int] = (),
        lies: Sequence[int] = (),
        threads: Sequence[int] = (1,),
    ) -> None:
        self.config, self.workspace, self.n_workers = config, workspace, n_workers
        self.dies_after, self.forgets, self.lies, self.threads = dies_after, forgets, lies, threads
        self.done: list[int] = []

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        module, _, name = function.partition(":")
        work = getattr(importlib.import_module(module), name)
        order = np.random.default_rng(5).permutation(len(parts))
        for index in [*order[: len(order) // 2], *order]:
            if index in self.forgets:
                continue
            if len(self.done) == self.dies_after:
                raise Died
            threads = self.threads[len(self.done) % len(self.threads)]
            if index in self.lies:
                yield int(index), {"n": 1, "seconds": 0.1}
                continue
            answer = work(self.config, replace(self.workspace, pool=None, threads=threads), **parts[index])
            self.done.append(int(parts[index]["number"]))
            yield int(index), answer
