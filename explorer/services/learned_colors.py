"""What classifiers score as a coloring of the map."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from explorer.services.boundaries import KIND, Boundaries, Context
from explorer.services.learned import Learning
from models.boundary import classifiers


class LearnedColors:
    """The classifiers of the boundaries that are kept, by the boundaries' names (`explore.Classifiers`)."""

    def __init__(self, boundaries: Boundaries, learning: Learning) -> None:
        self._boundaries, self._learning = boundaries, learning
        self._lock = threading.Lock()
        self._named: tuple[int, dict[str, str]] = (-1, {})

    def names(self) -> Mapping[str, str]:
        """sha256 → name of the boundary that was kept with it last; read anew where the ledger has more of them."""
        entries = self._boundaries.ledger.entries((KIND, "undo"))
        newest = entries[-1].id if entries else 0
        with self._lock:
            if self._named[0] != newest:
                found: dict[str, str] = {}
                for name in self._boundaries.names():
                    found |= dict.fromkeys(classifiers(self._boundaries.get(name).keep), name)
                self._named = newest, found
            return dict(self._named[1])

    def knows(self, sha256: str, run_id: str) -> bool:
        """Whether there is such a classifier, and it works on the latent vectors of a run."""
        return bool(run_id) and not self._learning.problem(sha256, Context(run_id))

    def scores(self, sha256: str, run_id: str) -> np.ndarray:
        """Balanced scores, float (N,), NaN without a latent vector.

        Raises
        ------
        UsageError
            There is no such classifier, or it does not work on this run.
        """
        return self._learning.balanced(sha256, Context(run_id))
