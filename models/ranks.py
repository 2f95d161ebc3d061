"""Several runs' anomaly scores as one ranking: the mean rank of each subject, its spread, and how alike the runs rank.

A score is in units of one network, so runs with other seeds or another λ are compared by ranks. Whatever is said here
is said of the subjects that have a score in every run; of the others nothing.
"""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import rankdata

from models.artifacts import (
    RUN_JSON,
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Run,
    Workspace,
    read_columns,
    write_scores,
)
from models.progress import Progress

TOP = 0.01
N_HIGHEST = 10

#: What a network saw of a subject, the least first; where it is not known, it may have been trained on it.
SPLITS = pa.array(["unseen", "validation", None, "train"])


# ---------------------------------------------------------------------------------------------------- definitions
def in_top(scores: np.ndarray, share: float = TOP) -> np.ndarray:
    """Which scores (n,), all finite, are among the highest `share` of them, at least one: bool (n,).

    Scores tied with the last one that is in are in too, so that the order of subjects does not matter.
    """
    found: np.ndarray = rankdata(-np.asarray(scores), method="min") <= max(1, round(share * len(scores)))
    return found


def spearman(ranks: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of every two runs: Pearson's of their ranks, ties averaged.

    Parameters
    ----------
    ranks
        (runs, n), all finite.

    Returns
    -------
    float64 (runs, runs), between -1 and 1; NaN for a run that ranks all subjects equal.
    """
    centered = ranks - ranks.mean(1, keepdims=True)
    norm = np.sqrt((centered**2).sum(1, keepdims=True))
    unit = np.divide(centered, norm, out=np.full_like(centered, np.nan), where=norm > 0)
    found: np.ndarray = np.clip(unit @ unit.T, -1, 1)
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """|A ∩ B| / max(|A|, |B|) of two sets, bool (n,), neither empty: 1 where they are the same."""
    return float((a & b).sum() / max(a.sum(), b.sum()))


@dataclass(frozen=True, slots=True)
class Combined:
    """What several runs say of n subjects together. The arrays are float64 (n,), NaN without a score in every run.

    Attributes
    ----------
    percentile
        Mean over runs of the rank percentile 100 (r - ½) / m, between 0 and 100, higher is more anomalous: r = 1 … m is
        the rank from the lowest score up, averaged over ties, and m the number of subjects with a score in every run.
    rank_mean
        Mean over runs of the rank from the highest score down, m + 1 - r: 1 is the most anomalous.
    rank_spread
        Standard deviation over runs (divided by their number) of the rank percentile.
    top1_share
        Share of the runs that have the subject in their top 1 %.
    is_fragile
        1 where it is in the top 1 % of some runs and not of all, else 0.
    spearman, top1_overlap
        float64 (runs, runs): see `spearman` and `overlap` of the top 1 %.
    """

    percentile: np.ndarray
    rank_mean: np.ndarray
    rank_spread: np.ndarray
    top1_share: np.ndarray
    is_fragile: np.ndarray
    spearman: np.ndarray
    top1_overlap: np.ndarray


def combine(scores: np.ndarray) -> Combined:
    """Combine the scores of several runs, float (runs, n).

    A score that is not finite is missing. At least one subject has a score in every run.
    """
    whole = np.isfinite(scores).all(0)
    n = int(whole.sum())
    ranks = rankdata(scores[:, whole], axis=1)  # 1 is the lowest score
    tops = np.stack([in_top(run[whole]) for run in scores])
    mean, share = ranks.mean(0), tops.mean(0)

    def column(values: np.ndarray) -> np.ndarray:
        column = np.full(scores.shape[1], np.nan)
        column[whole] = values
        return column

    return Combined(
        percentile=column(100 * (mean - 0.5) / n),
        rank_mean=column(n + 1 - mean),
        rank_spread=column(100 * ranks.std(0) / n),
        top1_share=column(share),
        is_fragile=column((share > 0) & (share < 1)),
        spearman=spearman(ranks),
        top1_overlap=np.array([[overlap(a, b) for b in tops] for a in tops]),
    )


def highest(combined: Combined, n: int = N_HIGHEST) -> np.ndarray:
    """Positions of the `n` subjects that rank high in every run: the highest mean rank percentile less its spread."""
    sure = combined.percentile - combined.rank_spread
    found: np.ndarray = np.argsort(np.where(np.isnan(sure), np.inf, -sure), kind="stable")
    return found[: min(n, int(np.isfinite(sure).sum()))]


# ---------------------------------------------------------------------------------------------------------- a run
@dataclass(frozen=True, slots=True)
class Member:
    """One of the runs that are combined: what it was set to, and the seed of its network, None without one."""

    run_id: str
    setting: str
    seed: int | None


def member(folder: Path) -> Member:
    """Describe the run in `folder`, and the training that it was made from."""
    run = Run.read(folder / RUN_JSON)
    config = run.config
    if "feature_weight" not in config or config.get("method", "wgan") != "wgan":
        words = [str(config[name]) for name in ("method", "on") if config.get(name)]
        return Member(
            run.run_id, " on ".join(words) or (run.run_id if run.kind == "score" else run.kind), config.get("seed")
        )
    setting = f"λ = {config['feature_weight']:g}"
    if config.get("lambda_mode", "raw") != "raw":
        setting += f" {config['lambda_mode']}"
    seed = None
    training = folder.parent / run.inputs.get("train", "") / RUN_JSON
    if training.exists() and "train" in run.inputs:
        trained = Run.read(training)
        seed = trained.seed
        if trained.config.get("feature_weight") not in (None, config["feature_weight"]):
            setting += f", trained at {trained.config['feature_weight']:g}"
    return Member(run.run_id, setting, seed)


def agreement(members: Sequence[Member], combined: Combined) -> dict[str, Any]:
    """How alike the runs rank: for every pair, on average over the seeds of each setting, and over settings per seed.

    Returns
    -------
    dict
        ``pairs``: {"a", "b", "spearman", "top1_overlap"}; ``over_seeds`` and ``over_settings``: setting or seed →
        {"n_pairs", "spearman", "top1_overlap"}. None where a correlation is undefined.
    """
    pairs: list[dict[str, Any]] = []
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {"over_seeds": {}, "over_settings": {}}
    for (i, a), (j, b) in itertools.combinations(enumerate(members), 2):
        found = float(combined.spearman[i, j]), float(combined.top1_overlap[i, j])
        pairs.append({"a": a.run_id, "b": b.run_id, **_named(found)})
        if a.setting == b.setting and a.seed != b.seed:
            groups["over_seeds"].setdefault(a.setting, []).append(found)
        elif a.setting != b.setting and a.seed is not None and a.seed == b.seed:
            groups["over_settings"].setdefault(str(a.seed), []).append(found)
    means = {
        name: {key: {"n_pairs": len(found), **_named(np.mean(found, 0))} for key, found in group.items()}
        for name, group in groups.items()
    }
    return {"pairs": pairs, **means}


def _named(found: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    rho, share = map(float, found)
    return {"spearman": None if np.isnan(rho) else rho, "top1_overlap": share}


def run(config: Any, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Combine the anomaly scores of several score runs into one ranking; see `explorer.kinds.ranks`.

    Only subjects of all the runs are kept. ``anomaly_score`` is the mean rank percentile; ``rank_mean``,
    ``rank_spread``, ``top1_share`` and ``is_fragile`` are columns of their own. ``split`` is the most that any of the
    networks saw of a subject.

    Raises
    ------
    ArtifactError
        A run's scores cannot be read, or no subject has a score in every run.
    """
    folders = list(workspace.parents.values())
    members = [member(folder) for folder in folders]
    tables, seen_by_any = [], np.zeros(len(workspace.subject_ids), bool)
    in_all = ~seen_by_any
    for i, folder in enumerate(folders):
        yield Progress(i, len(folders) + 1, "reading scores")
        tables.append(read_columns(folder / SCORES, SCORES_SCHEMA))
        is_in = np.isin(workspace.subject_ids, tables[-1].column("subject_id").to_numpy())
        in_all &= is_in
        seen_by_any |= is_in
    subject_ids = workspace.subject_ids[in_all]
    scores = np.empty((len(folders), len(subject_ids)))
    split = np.zeros(len(subject_ids), int)
    for table, row in zip(tables, scores, strict=True):
        ids = table.column("subject_id").to_numpy()
        order = np.argsort(ids)
        at = order[np.searchsorted(ids, subject_ids, sorter=order)]
        row[:] = table.column("anomaly_score").to_numpy(zero_copy_only=False)[at]
        split = np.maximum(split, pc.index_in(table.column("split"), SPLITS).to_numpy()[at])
    n_scores = np.isfinite(scores).sum(0)
    if not (n_scores == len(folders)).any():
        raise ArtifactError(
            f"no subject has a score in all of {', '.join(m.run_id for m in members)}; choose runs of the same subjects"
        )

    yield Progress(len(folders), len(folders) + 1, "comparing ranks")
    combined = combine(scores)
    missing = np.full(len(subject_ids), np.nan)
    is_whole = n_scores == len(folders)
    columns = {
        "subject_id": subject_ids,
        "split": SPLITS.take(pa.array(split)),
        "image_score": missing,
        "feature_score": missing,
        "anomaly_score": combined.percentile,
        "quality": [
            "ok" if k == len(folders) else f"no score in {len(folders) - k} of {len(folders)} runs" for k in n_scores
        ],
    }
    own = {
        name: getattr(combined, name).astype(np.float32)
        for name in ("rank_mean", "rank_spread", "top1_share", "is_fragile")
    }
    write_scores(workspace.directory, None, columns | own)
    n_fragile = int(np.nansum(combined.is_fragile))
    yield Progress(len(folders) + 1, len(folders) + 1, "done", {"n_fragile": n_fragile})
    return {
        "n_runs": len(folders),
        "n_subjects": int(is_whole.sum()),
        "n_without_score": int((~is_whole).sum()),
        "n_not_in_every_run": int((seen_by_any & ~in_all).sum()),
        "n_fragile": n_fragile,
        "runs": [{"run_id": m.run_id, "setting": m.setting, "seed": m.seed} for m in members],
        **agreement(members, combined),
        "highest": [str(subject_ids[i]) for i in highest(combined)],
    }
