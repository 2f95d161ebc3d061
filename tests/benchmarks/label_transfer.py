"""Label transfer of CzSL on the votes and experts of Galaxy Zoo 1 (`gz1_votes_expert`): what experts make of votes.

As the paper: five folds, the first 5 % of each training fold have experts' labels, on which scikit-learn's
MLPClassifier (8, 7, 5, 3) learns from vote fractions; it is judged on the test fold, beside the amateurs' own majority
(elliptical or spiral) or vote > 0.5 (merger). The published folds are of 40,902 and 43,779 galaxies; ours are 60 % of
these, and not the folds: once contiguous, in the order of the file, and shuffled again and again, which says how far
a five-fold mean lies from another for the draw alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from models.classes import differences, g_mean, points
from models.czsl import transfer
from tests.benchmarks.row import Row

DATA = Path(__file__).parents[3] / "shared" / "data" / "gz1_votes_expert" / "gz1_votes_expert.csv"
SEVEN = ["EL", "CS", "CW", "ACW", "EDGE", "DK", "MG"]
NINE = [*SEVEN, "EL_DEB[123]", "CS_DEB[123]"]
#: Five-fold means that we computed of the published folds: amateurs, transferred (specs §4.5).
PUBLISHED = {"es-7": (0.9209, 0.9512), "es-9": (0.9209, 0.9654), "merger": (0.788, 0.982)}
EXPERTS = 0.05


def folds(n: int, shuffle: int | None) -> list[np.ndarray]:
    """Five parts of n rows, contiguous or of the permutation that the seed gives."""
    order = np.arange(n) if shuffle is None else np.random.default_rng(shuffle).permutation(n)
    return np.array_split(order, 5)


def judge(
    x: np.ndarray, truth: np.ndarray, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    """What label transfer says of every row when that is in the test fold.

    Returns
    -------
    int64 (n,), the fold of each row, and per fold how many experts it learned from and how many of the rarer class.
    """
    said, fold, n_experts, n_rare = np.empty(len(truth), np.int64), np.empty(len(truth), np.int64), [], []
    for number, test in enumerate(parts):
        training = np.concatenate([part for other, part in enumerate(parts) if other != number])
        known = training[: int(EXPERTS * len(training))]
        said[test] = transfer(x[known], truth[known], 2, x[test], is_paper=True).argmax(1)
        fold[test] = number
        n_experts.append(len(known))
        n_rare.append(int(min(truth[known].sum(), len(known) - truth[known].sum())))
    return said, fold, n_experts, n_rare


def row(name: str, table: pd.DataFrame, features: list[str], truth: np.ndarray, amateur: np.ndarray, n: int) -> Row:
    """One task: the contiguous folds, and `n` shuffles of five."""
    is_merger = name == "merger"
    figure, unit = ("g_mean", "G-mean") if is_merger else ("accuracy", "accuracy")

    def of(said: np.ndarray, at: np.ndarray) -> float:
        return g_mean(truth[at], said[at]) if is_merger else float((said[at] == truth[at]).mean())

    x = table[features].to_numpy(np.float64)
    parts = folds(len(table), None)
    contiguous, _, _, rare = judge(x, truth, parts)
    each = [of(contiguous, part) for part in parts]
    found, theirs, first = np.empty((n, 5)), [], None
    is_dead = np.zeros((n, 5), bool)  # the fit named one class only: its units have died
    for seed in range(n):
        shuffled = folds(len(table), seed)
        said, _, n_experts, _ = judge(x, truth, shuffled)
        first = said if first is None else first
        found[seed] = [of(said, part) for part in shuffled]
        is_dead[seed] = [len(np.unique(said[part])) == 1 for part in shuffled]
        theirs.append(float(np.mean([of(amateur, part) for part in shuffled])))
    means = found.mean(1)
    alive = np.array([each[~dead].mean() for each, dead in zip(found, is_dead, strict=True)])
    center = float(alive.mean())
    half = float(t.ppf(0.975, n - 1) * alive.std(ddof=1) * np.sqrt(1 + 1 / n))  # of one more five-fold mean
    wanted = PUBLISHED[name][1]
    within = bool(abs(wanted - center) <= half)
    deaths = f", {is_dead.sum()} of {5 * n} fits left out that named one class only" if is_dead.any() else ""
    of_contiguous = ", ".join(f"{one:.4f}" for one in each)
    assert first is not None
    told = differences(truth, first[None], amateur[None], np.arange(len(truth)))[figure]
    ours, base = float(means.mean()), float(np.mean(theirs))
    return Row(
        name=f"transfer-{name}",
        what=f"{unit} of labels transferred from {len(features)} vote features, {len(truth):,} galaxies "
        f"({int(truth.sum()):,} {'mergers' if is_merger else 'spirals'}), five-fold mean of {n} shuffles, "
        f"{n_experts[0]} experts each",
        ours=ours,
        theirs=base,
        ratio=(1 - base) / (1 - ours),
        unit=unit,
        alternative="what the amateurs said",
        note=f"another shuffle would lie in [{center - half:.4f}, {center + half:.4f}] (95 %{deaths}); published "
        f"{wanted}: {'within' if within else 'outside'}; first shuffle minus amateurs {points(told)}; contiguous folds "
        f"{of_contiguous}, mean {np.mean(each):.4f}; published amateurs {PUBLISHED[name][0]}",
        extra={
            "folds": found.tolist(),
            "amateurs": theirs,
            "contiguous": each,
            "rare_of_contiguous": rare,
            "within": within,
        },
    )


def rows(n: int) -> list[Row]:
    """All three tasks."""
    if not DATA.exists():
        raise SystemExit(f"{DATA} is not there: it is test data that is handed out apart")
    table = pd.read_csv(DATA, dtype={"OBJID": str})
    galaxies = table[table.ES_EXPERT.isin(["L", "M"]) & table.AMATEUR_MAJOR.notna()]
    spiral, majority = (galaxies.ES_EXPERT == "L").to_numpy(int), galaxies.AMATEUR_MAJOR.to_numpy(int)
    merger, voted = table.MG_EXPERT.to_numpy(int), table.MG_AMATEUR.to_numpy(int)
    return [
        row("es-7", galaxies, SEVEN, spiral, majority, n),
        row("es-9", galaxies, NINE, spiral, majority, n),
        row("merger", table, SEVEN, merger, voted, n),
    ]


def few() -> list[Row]:
    """Five shuffles."""
    return rows(int(os.environ.get("VOORWERP_SHUFFLES", "5")))


def many() -> list[Row]:
    """Twenty shuffles."""
    return rows(20)


LONG_ROWS = {"transfer": few, "transfer-many": many}
