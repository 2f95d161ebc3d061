"""Real crowds whose answers are known: votes, and the protocol by which ways to combine them are judged.

A random half of the known answers is given, the other half judges, 20 times. A difference is paired over subjects: of
each, what two ways got right is averaged over the repeats that judged it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.swap import Settings, offline, swap

REPEATS = 20
BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True)
class Crowd:
    """Yes-or-no votes as `models.swap.swap` takes them, and every subject's answer: `truth`, int8 (S,)."""

    name: str
    subject: np.ndarray
    volunteer: np.ndarray
    said: np.ndarray
    truth: np.ndarray
    n_volunteers: int


def read_crowd(folder: Path) -> Crowd:
    """A folder of ``crowd_gold`` with labels 0 and 1 and an answer for every subject."""
    votes, truth = pd.read_csv(folder / "label.csv"), pd.read_csv(folder / "truth.csv").set_index("item")["truth"]
    items, subject = np.unique(votes["item"], return_inverse=True)
    workers, volunteer = np.unique(votes["worker"], return_inverse=True)
    answers = truth.loc[items].to_numpy(np.int8)
    return Crowd(folder.name, subject, volunteer, votes["label"].to_numpy() == 1, answers, len(workers))


def halves(crowd: Crowd) -> Iterator[tuple[int, np.ndarray]]:
    """Seed of each repeat, and bool (S,): whose answer is given."""
    n = crowd.truth.size
    for seed in range(REPEATS):
        given = np.zeros(n, bool)
        given[np.random.default_rng(seed).permutation(n)[: n // 2]] = True
        yield seed, given


# ----------------------------------------------------------------------------------------------------------- ways
SETTINGS = Settings(prior=0.5, detect=1.0, reject=0.0)


def majority(crowd: Crowd, gold: np.ndarray, seed: int) -> np.ndarray:
    """Share of "chosen" of each subject (S,)."""
    n = np.bincount(crowd.subject, minlength=gold.size)
    return np.bincount(crowd.subject, crowd.said, minlength=gold.size) / n


def by_swap(settings: Settings) -> Callable[[Crowd, np.ndarray, int], np.ndarray]:
    """SWAP's p of each subject, of votes in a random order: theirs is not known."""

    def way(crowd: Crowd, gold: np.ndarray, seed: int) -> np.ndarray:
        order = np.random.default_rng((seed, 1)).permutation(crowd.subject.size)
        columns = (crowd.subject[order], crowd.volunteer[order], crowd.said[order])
        return swap(*columns, gold.size, crowd.n_volunteers, gold, settings).probability

    return way


def by_offline(settings: Settings, **options: object) -> Callable[[Crowd, np.ndarray, int], np.ndarray]:
    """Offline SWAP's p of each subject."""

    def way(crowd: Crowd, gold: np.ndarray, seed: int) -> np.ndarray:
        columns = (crowd.subject, crowd.volunteer, crowd.said)
        return offline(*columns, gold.size, crowd.n_volunteers, gold, settings, **options).probability

    return way


# -------------------------------------------------------------------------------------------------------- judgement
@dataclass(frozen=True, slots=True)
class Judged:
    """Accuracy of one way on answers that were not given, and how much better it is than another, 95 % intervals."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    difference: float
    low: float
    high: float


def right(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 where p is on the side of the truth, 0 where it is not, ½ where it is on neither."""
    return np.where(np.abs(p - 0.5) < 1e-9, 0.5, (p > 0.5) == (truth == 1))


def judged(correct: dict[str, np.ndarray], beside: str) -> dict[str, Judged]:
    """Of each way, what was right (repeats, S), NaN where the answer was given; intervals resample subjects."""
    counts = np.isfinite(correct[beside]).sum(0)
    sums = {name: np.nansum(values, 0) for name, values in correct.items()}
    n = counts.size
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), BOOTSTRAPS)
    drawn = weights @ counts

    def rate(values: np.ndarray) -> tuple[float, float, float]:
        low, high = np.quantile(weights @ values / drawn, [0.025, 0.975])
        return float(values.sum() / counts.sum()), float(low), float(high)

    return {name: Judged(*rate(values), *rate(values - sums[beside])) for name, values in sums.items()}


def compared(
    crowd: Crowd, ways: dict[str, Callable[[Crowd, np.ndarray, int], np.ndarray]], beside: str
) -> dict[str, Judged]:
    """The whole protocol."""
    correct = {name: np.full((REPEATS, crowd.truth.size), np.nan) for name in ways}
    for seed, given in halves(crowd):
        gold = np.where(given, crowd.truth, -1).astype(np.int8)
        for name, way in ways.items():
            correct[name][seed, ~given] = right(way(crowd, gold, seed), crowd.truth)[~given]
    return judged(correct, beside)
