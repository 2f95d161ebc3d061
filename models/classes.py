"""How well classes were told: accuracy, G-mean and AUC, their spread, and two ways on the same subjects.

For classes of different size accuracy says little: the geometric mean of the recalls is 0 as soon as one class is never
found. CzSL (Jiménez et al. 2023, arXiv:2302.00366) gives it, and an AUC of hard labels; both AUCs are here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from models.rates import share

BOOTSTRAPS = 2000
FIGURES = {"accuracy": "accuracy", "g_mean": "G-mean", "auc": "AUC", "auc_hard": "AUC of hard labels"}


def g_mean(truth: np.ndarray, said: np.ndarray) -> float:
    """Geometric mean of the recalls of the classes that are there, of int (n,) codes."""
    recalls = [float((said[truth == one] == one).mean()) for one in np.unique(truth)]
    return math.prod(recalls) ** (1 / len(recalls)) if recalls else math.nan


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, mean over classes, each against all others; of scores (n, n_classes).

    Of two classes whose scores sum to 1 it is that of either. Ties count half. NaN where nothing can be told apart.
    """
    found = []
    for one in range(scores.shape[1]):
        positive = truth == one
        k, n = int(positive.sum()), len(truth)
        if 0 < k < n:
            found.append((rankdata(scores[:, one])[positive].sum() - k * (k + 1) / 2) / (k * (n - k)))
    return float(np.mean(found)) if found else math.nan


def figures(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, G-mean, AUC on probabilities and AUC of hard labels, of (n,) codes and (n, n_classes)."""
    said = probabilities.argmax(1)
    return {
        "accuracy": float((said == truth).mean()),
        "g_mean": g_mean(truth, said),
        "auc": auc(truth, probabilities),
        "auc_hard": auc(truth, np.eye(probabilities.shape[1])[said]),
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of one way less that of another on the same subjects, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.low <= 0 <= self.high


def differences(
    truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, seed: int = 0
) -> dict[str, Difference]:
    """Accuracy and G-mean of `ours` less `theirs`, seeds averaged, paired over subjects; bootstrap of whole groups.

    Parameters
    ----------
    truth
        int64 (n,).
    ours, theirs
        int64 (seeds, n): what each said.
    groups
        (n,): who is drawn together.
    """
    _, of = np.unique(groups, return_inverse=True)
    n_groups = of.max() + 1
    random = np.random.default_rng([seed, 24])
    right = np.stack([(said == truth).T for said in (ours, theirs)], 1).astype(np.float64)  # (n, 2, seeds)
    classes = np.unique(truth)
    sums = np.zeros((len(classes), n_groups, *right.shape[1:]))  # right ones of each class, by group
    sizes = np.zeros((len(classes), n_groups))
    for i, one in enumerate(classes):
        np.add.at(sizes[i], of[truth == one], 1)
        np.add.at(sums[i], of[truth == one], right[truth == one])

    def both(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Differences of accuracy and G-mean, (B,), where group g counts weights[:, g] times."""
        hits, n = np.einsum("cgws,bg->bcws", sums, weights), np.einsum("cg,bg->bc", sizes, weights)
        accuracy = hits.sum(1) / n.sum(1)[:, None, None]
        recall = hits / np.maximum(n, 1)[:, :, None, None]
        product = np.where(n[:, :, None, None] > 0, recall, 1).prod(1)
        mean = product ** (1 / (n > 0).sum(1))[:, None, None]
        return (accuracy[:, 0] - accuracy[:, 1]).mean(1), (mean[:, 0] - mean[:, 1]).mean(1)

    value = both(np.ones((1, n_groups)))
    drawn = [
        both(random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), 100).astype(np.float64))
        for _ in range(BOOTSTRAPS // 100)
    ]
    found = {}
    for i, name in enumerate(("accuracy", "g_mean")):
        low, high = np.percentile(np.concatenate([one[i] for one in drawn]), [2.5, 97.5])
        found[name] = Difference(float(value[i][0]), float(low), float(high))
    return found


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of those that are numbers: "0.912 ± 0.013"."""
    there = [value for value in values if math.isfinite(value)]
    if not there:
        return "–"
    return f"{np.mean(there):.3f}" + (f" ± {np.std(there, ddof=1):.3f}" if len(there) > 1 else "")


def percent(k: float, n: int) -> str:
    """ "412 of 480 (85.8 %, 82.4–88.7)": with Wilson's interval; k may be a mean over seeds."""
    rate = share(k, n)
    count = f"{k:,.0f}" if float(k).is_integer() else f"{k:,.1f}"
    value, low, high = (100 * (x or 0) for x in (rate.value, rate.low, rate.high))
    return f"{count} of {n:,} ({value:.1f} %, {low:.1f}–{high:.1f})"


def points(difference: Difference) -> str:
    """ "+3.1 points (95 % interval +0.4 to +5.8)"."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
