"""Subjects that are not the survey's own, as a boundary sees them: planted copies, or those of another survey.

`Foreign` answers what `models.boundary.Source` asks from arrays that were scored and placed elsewhere, by the same
rules as the survey itself: float32 planes, the even-odd rule, NaN for what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from explorer.cells import CellIndex
from explorer.errors import UsageError
from models.boundary import Gate, Region, Term, classifiers, leaves


class Scorer(Protocol):
    """A classifier, as `models.classifier.Classifier` is one."""

    def balanced(self, latents: np.ndarray) -> np.ndarray:
        """Scores of latent vectors (n, d) with classes weighted alike, (n,)."""

    def probability(self, latents: np.ndarray) -> np.ndarray:
        """The same, corrected for the shares of the classes."""


class Foreign:
    """The values of `n` subjects of no survey that is open.

    Parameters
    ----------
    numbers
        Reference ("scores.feature_score", "maps.umap_1", "subjects.NAME") → float (n,), NaN where missing.
    categories
        Reference → int (n,) codes, -1 where missing, and their labels.
    latents
        float32 (n, d) of the run that the boundary's classifiers were fitted on, NaN rows for who has none.
    classifier
        sha256 → the classifier.
    """

    def __init__(
        self,
        n: int,
        numbers: Mapping[str, np.ndarray],
        categories: Mapping[str, tuple[np.ndarray, Sequence[str]]] | None = None,
        latents: np.ndarray | None = None,
        classifier: Callable[[str], Scorer] | None = None,
    ) -> None:
        self._n = n
        self._numbers = dict(numbers)
        self._categories = dict(categories or {})
        self._latents = latents
        self._classifier = classifier
        self._planes: dict[tuple[str, str], CellIndex] = {}
        lengths = {len(values) for values in self._numbers.values()}
        lengths |= {len(codes) for codes, _ in self._categories.values()}
        lengths |= set() if latents is None else {len(latents)}
        if lengths - {n}:
            raise ValueError(f"{n:,} subjects, and columns of {sorted(lengths)}")

    @property
    def n(self) -> int:
        """How many subjects."""
        return self._n

    def missing(self, term: Term) -> list[str]:
        """What a boundary looks at and these subjects do not have: references of columns, "classifier SHA"."""
        lacks: dict[str, None] = {}
        for _, leaf in leaves(term):
            if isinstance(leaf, Region):
                lacks |= {name: None for name in (leaf.x, leaf.y) if name not in self._numbers}
            elif isinstance(leaf, Gate):
                known = self._categories if leaf.labels else self._numbers
                lacks |= {} if leaf.column in known else {leaf.column: None}
        if self._latents is None or self._classifier is None:
            lacks |= {f"classifier {model[:8]}": None for model in classifiers(term)}
        return list(lacks)

    def column(self, reference: str) -> np.ndarray:
        """A numeric column, float (n,), NaN where missing.

        Raises
        ------
        UsageError
            These subjects do not have it.
        """
        if reference not in self._numbers:
            raise UsageError(f"the boundary looks at {reference}, which these subjects do not have")
        return self._numbers[reference]

    def codes(self, reference: str) -> tuple[np.ndarray, Sequence[str]]:
        """A column of categories: int (n,) codes, -1 where missing, and their labels.

        Raises
        ------
        UsageError
            These subjects do not have it.
        """
        if reference not in self._categories:
            raise UsageError(f"the boundary looks at {reference}, which these subjects do not have")
        return self._categories[reference]

    def inside(self, x: str, y: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who is inside a polygon by the even-odd rule, and who has a place on the plane: bool (n,) both."""
        if (x, y) not in self._planes:
            self._planes[x, y] = CellIndex(self.column(x), self.column(y))
        plane = self._planes[x, y]
        placed = np.zeros(self.n, bool)
        placed[plane.rows] = True
        inside = np.zeros(self.n, bool)
        inside[plane.inside(outline).rows()] = True
        return inside, placed

    def balanced(self, model: str) -> np.ndarray:
        """A classifier's balanced scores, float (n,), NaN where there is no latent vector."""
        return self._asked(model, lambda scorer, latents: scorer.balanced(latents))

    def probability(self, model: str) -> np.ndarray:
        """A classifier's probabilities, corrected for the share of positives, float (n,), NaN likewise."""
        return self._asked(model, lambda scorer, latents: scorer.probability(latents))

    def _asked(self, model: str, ask: Callable[[Scorer, np.ndarray], np.ndarray]) -> np.ndarray:
        if self._latents is None or self._classifier is None:
            raise UsageError("the boundary asks a classifier, and these subjects have no latent vectors")
        scores = np.full(self.n, np.nan)
        known = np.isfinite(self._latents).all(axis=1)
        if known.any():
            scores[known] = ask(self._classifier(model), np.asarray(self._latents[known]))
        return scores
