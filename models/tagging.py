"""What subjects with a tag have in common: medians and AUCs, with intervals that resample who gave the tag.

Tags are given by few people, some of whom look for one thing only: the subjects that one person tagged are no
independent draws, and resampling subjects would promise far too much. So the cluster bootstrap (Field & Welsh 2007,
J. R. Stat. Soc. B 69, 369) draws taggers with replacement, and everything that a tagger tagged comes along. A subject
that several tagged counts as much as the others: once in the figure itself, and in a replicate as the mean number of
times that its taggers were drawn. With one tagger there is no interval; with fewer than ten it is rather too narrow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

REPLICATES = 1000
BLOCK = 4_000_000  # weights held at once while resampling


@dataclass(frozen=True, slots=True)
class Tagged:
    """A figure of the subjects with a tag.

    Attributes
    ----------
    value, low, high
        The figure, and the 2.5 % and 97.5 % points of its bootstrap over taggers; NaN where it is not defined: all of
        it without subjects, the interval with one tagger.
    n_subjects, n_taggers
        Subjects that have the tag and a value, and volunteers who gave it to them.
    n_by_one
        Subjects that the one who tagged the most tagged.
    """

    value: float
    low: float
    high: float
    n_subjects: int
    n_taggers: int
    n_by_one: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        interval = "no interval" if np.isnan(self.low) else f"[{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.3f} {interval}, {self.n_subjects:,} by {self.n_taggers:,}"


def median(
    values: np.ndarray, subjects: np.ndarray, taggers: np.ndarray, replicates: int = REPLICATES, seed: int = 0
) -> Tagged:
    """The median of a quantity over the subjects with a tag, each counted once.

    Parameters
    ----------
    values
        float (S,): of every subject, in any unit; NaN is left out.
    subjects, taggers
        int (M,): who (any codes) gave which subject (0 … S−1) the tag; a pair that comes twice counts once.

    Raises
    ------
    ValueError
        A subject is not among 0 … S−1, or the two are of different length.
    """
    given = _Given.of(values, subjects, taggers)
    order = np.argsort(values[given.subjects], kind="stable")
    ascending = values[given.subjects][order]

    def weighted(weights: np.ndarray) -> np.ndarray:
        upto = np.cumsum(weights[:, order], axis=1)
        half, slack = upto[:, -1:] / 2, upto[:, -1:] * 1e-9  # thirds do not add up to one
        lower, upper = (upto < half - slack).sum(axis=1), (upto <= half + slack).sum(axis=1)
        found: np.ndarray = (ascending[lower] + ascending[np.minimum(upper, len(ascending) - 1)]) / 2
        return found

    return given.figure(weighted, replicates, seed)


def auc(
    values: np.ndarray,
    subjects: np.ndarray,
    taggers: np.ndarray,
    others: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Tagged:
    """The probability that a subject with a tag has a higher value than one without; ties count half.

    A subject without the tag is no negative: nobody may have looked, or said so. The figure is a lift over the rest.

    Parameters
    ----------
    values, subjects, taggers
        As for `median`.
    others
        bool (S,): with whom the tagged ones are compared; by default all that do not have this tag. The tagged ones
        are never among them.

    Raises
    ------
    ValueError
        As for `median`.
    """
    given = _Given.of(values, subjects, taggers)
    rest = np.isfinite(values) if others is None else np.isfinite(values) & others
    rest[given.subjects] = False
    below = np.sort(values[rest])
    found = values[given.subjects]
    places = (np.searchsorted(below, found, "left") + np.searchsorted(below, found, "right")) / 2
    share = places / len(below) if len(below) else np.full(len(found), np.nan)

    def weighted(weights: np.ndarray) -> np.ndarray:
        result: np.ndarray = weights @ share / weights.sum(axis=1)
        return result

    return given.figure(weighted, replicates, seed)


@dataclass(frozen=True)
class _Given:
    """The subjects that have a tag and a value, ascending, and what each tagger gives to each of them."""

    subjects: np.ndarray
    parts: csr_matrix  # (taggers, subjects): 1 / taggers of that subject, where the tagger is one of them
    n_by_one: int

    @classmethod
    def of(cls, values: np.ndarray, subjects: np.ndarray, taggers: np.ndarray) -> "_Given":
        if len(subjects) != len(taggers):
            raise ValueError(f"{len(subjects):,} subjects have {len(taggers):,} taggers; give one for each")
        if len(subjects) and not (subjects.min() >= 0 and subjects.max() < len(values)):
            raise ValueError(f"subjects are 0 to {len(values) - 1:,}, found {subjects.min():,} to {subjects.max():,}")
        has_value = np.isfinite(values[subjects])
        pairs = np.unique(np.column_stack([subjects[has_value], taggers[has_value]]), axis=0)
        tagged, column, n_taggers = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        people, line, n_subjects = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
        parts = csr_matrix((1 / n_taggers[column], (line, column)), shape=(len(people), len(tagged)))
        return cls(tagged, parts, int(n_subjects.max(initial=0)))

    def figure(self, statistic: Callable[[np.ndarray], np.ndarray], replicates: int, seed: int) -> Tagged:
        """A statistic of weights, float (R, subjects) → (R,), at weight one and over the replicates."""
        n_taggers, n_subjects = self.parts.shape
        counts = n_subjects, n_taggers, self.n_by_one
        if not n_subjects:
            return Tagged(np.nan, np.nan, np.nan, *counts)
        value = float(statistic(np.ones((1, n_subjects)))[0])
        if n_taggers < 2 or np.isnan(value):
            return Tagged(value, np.nan, np.nan, *counts)
        random, found = np.random.default_rng(seed), []
        step = max(1, BLOCK // n_subjects)
        for start in range(0, replicates, step):
            drawn = random.multinomial(n_taggers, np.full(n_taggers, 1 / n_taggers), min(step, replicates - start))
            found.append(statistic(np.asarray(drawn @ self.parts, np.float64)))
        low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
        return Tagged(value, float(low), float(high), *counts)
