"""All of consensus on ten million synthetic votes, beside pandas that computes the same: equal results, or it fails."""

import resource
import statistics
import time

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from models.consensus import Votes, count, entropy, experience_weights, interval, log_weights, warm, weighted
from tests.benchmarks.row import Row

M, SUBJECTS, VOLUNTEERS, ROUNDS = 10_000_000, 1_000_000, 50_000, 3


def synthetic() -> tuple[Votes, np.ndarray]:
    """Votes of a crowd in which few do most, one in fifty a second view; and how much each has done elsewhere."""
    random = np.random.default_rng(0)
    subject = random.integers(SUBJECTS, size=M, dtype=np.int32)
    volunteer = (VOLUNTEERS * random.random(M) ** 3).astype(np.int32)
    again = random.choice(np.arange(1, M), M // 50, replace=False)
    subject[again], volunteer[again] = subject[again - 1], volunteer[again - 1]
    appeal = random.beta(0.5, 4, SUBJECTS)
    answer = np.where(random.random(M) < appeal[subject], 0, -1).astype(np.int16)
    elsewhere = np.floor(np.exp(random.normal(3, 2.5, VOLUNTEERS)))
    votes = Votes(subject, volunteer, np.arange(M), answer, SUBJECTS, VOLUNTEERS, ("chosen",))
    return votes, elsewhere


def ours(votes: Votes, weights: list[np.ndarray], *, intervals: bool) -> dict[str, np.ndarray]:
    """k of n by views and by volunteers, entropy, and the fraction with each of the weights; all with intervals."""
    votes = votes.where(slice(None))  # nothing is left of the round before
    counts, made = count(votes), {}
    for basis in ("views", "volunteers"):
        k, n = counts.of(basis)
        made[f"k_{basis}"], made[f"n_{basis}"] = k[:, 0], n
        if intervals:
            made[f"low_{basis}"], made[f"high_{basis}"] = interval(k[:, 0], n)
    made["entropy"] = entropy(counts.n_chosen_volunteers, counts.n_passed_volunteers)
    if not intervals:
        return made
    for i, weight in enumerate(weights):
        found = weighted(votes, weight)
        made |= {f"fraction_{i}": found.fraction[:, 0], f"effective_{i}": found.n_effective}
        made |= {f"weighted_low_{i}": found.low[:, 0], f"weighted_high_{i}": found.high[:, 0]}
    return made


def limits(k: pd.Series, n: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Jeffreys' interval, row by row."""
    low, high = (betaincinv(k + 0.5, n - k + 0.5, q) for q in (0.025, 0.975))
    return np.where(k == 0, 0, low), np.where(k == n, 1, high)


def theirs(table: pd.DataFrame, weights: list[np.ndarray], *, intervals: bool) -> dict[str, np.ndarray]:
    """The same by ``drop_duplicates`` and ``groupby``."""
    first, made = table.drop_duplicates(["subject", "volunteer"]), {}
    for basis, votes in (("views", table), ("volunteers", first)):
        totals = votes.groupby("subject")["chosen"].agg(["sum", "count"]).reindex(range(SUBJECTS), fill_value=0)
        k, n = totals["sum"], totals["count"]
        made[f"k_{basis}"], made[f"n_{basis}"] = k.to_numpy(), n.to_numpy()
        if intervals:
            made[f"low_{basis}"], made[f"high_{basis}"] = limits(k, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = k / n
        made["entropy"] = -(np.where(p > 0, p * np.log2(p), 0) + np.where(p < 1, (1 - p) * np.log2(1 - p), 0))
    made["entropy"][n == 0] = np.nan
    if not intervals:
        return made
    for i, weight in enumerate(weights):
        w = weight[first["volunteer"]]
        parts = pd.DataFrame({"subject": first["subject"], "w": w, "ww": w * w, "wc": w * first["chosen"]})
        sums = parts.groupby("subject").sum().reindex(range(SUBJECTS))
        fraction, effective = sums["wc"] / sums["w"], sums["w"] ** 2 / sums["ww"]
        made[f"weighted_low_{i}"], made[f"weighted_high_{i}"] = limits(fraction * effective, effective)
        made |= {f"fraction_{i}": fraction.to_numpy(), f"effective_{i}": effective.fillna(0).to_numpy()}
    return made


def compare(mine: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Counts to the last one, the rest to 2e-6."""
    if mine.keys() != other.keys():
        raise RuntimeError(f"not the same columns: {sorted(mine.keys() ^ other.keys())}")
    for name, column in mine.items():
        if name[:2] in ("k_", "n_"):
            same = np.array_equal(column, other[name])
        else:
            # where all chose, rounding decides whether pandas' upper limit is put to 1
            ends = (column == 1) & (other[name] > 0.7) if "weighted_high" in name else np.zeros(len(column), bool)
            same = np.allclose(column[~ends], other[name][~ends], rtol=0, atol=2e-6, equal_nan=True)
        if not same:
            raise RuntimeError(f"{name} differs from pandas' by {np.nanmax(np.abs(column - other[name]))}")


def rows() -> list[Row]:
    """Everything, and the counts and entropy alone."""
    warm()
    votes, elsewhere = synthetic()
    weights = [experience_weights(elsewhere), log_weights(elsewhere)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    mine = {}
    for intervals in took:
        for _ in range(ROUNDS):
            began, worked = time.perf_counter(), time.process_time()
            mine[intervals] = ours(votes, weights, intervals=intervals)
            took[intervals].append((time.perf_counter() - began, time.process_time() - worked))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    chosen = votes.answer == 0
    table = pd.DataFrame({"subject": votes.subject, "volunteer": votes.volunteer, "chosen": chosen})
    made = []
    for intervals, what in ((True, "all of consensus"), (False, "counts and entropy alone")):
        began, worked = time.perf_counter(), time.process_time()
        other = theirs(table, weights, intervals=intervals)
        seconds, processor = time.perf_counter() - began, time.process_time() - worked
        compare(mine[intervals], other)
        median, ours_processor = (statistics.median(column) for column in zip(*took[intervals], strict=True))
        made.append(
            Row(
                name="consensus" if intervals else "consensus-counts",
                what=f"{what} of {M:,} synthetic votes, {SUBJECTS:,} subjects, {VOLUNTEERS:,} volunteers; one core",
                ours=median,
                theirs=seconds,
                ratio=seconds / median,
                unit="s",
                alternative="pandas drop_duplicates and groupby, scipy betaincinv row by row: the same result",
                note=f"processor time {ours_processor:.1f} s beside {processor:.1f} s"
                + (f"; {grown:,.0f} MiB more at its peak" if intervals else ""),
                extra={"seconds": took[intervals], "theirs_processor_s": processor, "peak_mib": grown},
                limit=10 if intervals else None,
            )
        )
    return made


ROWS = {"consensus": rows}
