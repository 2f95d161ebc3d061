"""Several runs' anomaly scores as one ranking: the mean rank of each subject, its spread, and how alike the runs rank.

A score is in units of one network, so runs with other seeds or another λ are compared by ranks. Whatever is said here
is said of the subjects that have a score in every run; of the others nothing.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
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
MOST_SETTINGS = 4  # that are named one by one

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
    """What several runs say of n subjects together: float64 (n,), if not told; NaN without a score in every run.

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
    is_top
        bool (runs, n): whether it is in the run's top 1 % of the subjects with a score in every run.
    spearman, top1_overlap
        float64 (runs, runs): see `spearman` and `overlap` of the top 1 %.
    """

    percentile: np.ndarray
    rank_mean: np.ndarray
    rank_spread: np.ndarray
    top1_share: np.ndarray
    is_fragile: np.ndarray
    is_top: np.ndarray
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
    is_top = np.zeros(scores.shape, bool)
    is_top[:, whole] = tops

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
        is_top=is_top,
        spearman=spearman(ranks),
        top1_overlap=np.array([[overlap(a, b) for b in tops] for a in tops]),
    )


def highest(combined: Combined, n: int = N_HIGHEST) -> np.ndarray:
    """Positions of the `n` subjects with the highest mean rank percentile less its spread over the runs."""
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


def members(folders: Sequence[Path]) -> list[Member]:
    """Describe the runs in `folders`, and the trainings that they were made from.

    Runs are of one setting if they differ in nothing but their seeds and `NO_SETTING`. A setting is called by its λ, or
    its method, and by what else is not the same in all these runs of that method. What an older run does not tell sets
    it apart from none.
    """
    told = [_told(folder) for folder in folders]
    found = []
    for run in told:
        others = [other.settings for other in told if other.method == run.method]
        differing = [
            f"{name} {value}"
            for name, value in run.settings.items()
            if value is not None and any(other.get(name, value) != value for other in others)
        ]
        found.append(Member(run.run_id, ", ".join([run.name, *differing]), run.seed))
    return found


#: What a run may do otherwise and still be one of the same setting.
NO_SETTING = {"device", "precision"}


@dataclass(frozen=True, slots=True)
class _Told:
    """What a run is called, its seed, and all else that it was set to, in words → value; None is left to a preset."""

    run_id: str
    method: str
    name: str
    seed: int | None
    settings: Mapping[str, Any]


def _told(folder: Path) -> _Told:
    run = Run.read(folder / RUN_JSON)
    config = run.config
    unsaid = NO_SETTING | {"seed", "method", "on", "feature_weight", "lambda_mode"}
    unsaid |= {"batch"} if run.kind == "score" else set()  # scores are the same, a training is not
    settings = {name.replace("_", " "): value for name, value in config.items() if name not in unsaid}
    if "feature_weight" not in config or config.get("method", "wgan") != "wgan":
        words = [str(config[name]) for name in ("method", "on") if config.get(name)]
        method = " on ".join(words) or (run.run_id if run.kind == "score" else run.kind)
        return _Told(run.run_id, method, method, config.get("seed"), settings)
    settings.setdefault("preset", "paper")  # there was no other
    name = f"λ = {config['feature_weight']:g}"
    if config.get("lambda_mode", "raw") != "raw":
        name += f" {config['lambda_mode']}"
    seed = None
    training = folder.parent / run.inputs.get("train", "") / RUN_JSON
    if training.exists() and "train" in run.inputs:
        trained = Run.read(training)
        seed = trained.seed
        if trained.config.get("feature_weight") not in (None, config["feature_weight"]):
            name += f", trained at {trained.config['feature_weight']:g}"
        settings |= {
            f"trained with {key.replace('_', ' ')}": value
            for key, value in trained.config.items()
            if key not in NO_SETTING | {"seed", "feature_weight"}
        }
    return _Told(run.run_id, "wgan", name, seed, settings)


def named(members: Sequence[Member]) -> str:
    """What the runs are, in words: "2 runs of λ = 0.2", "6 runs of λ = 0, λ = 0.2 and λ = 0.5"."""
    settings = list(dict.fromkeys(member.setting for member in members))
    if len(settings) > MOST_SETTINGS:
        return f"{len(members)} runs of {len(settings)} settings"
    *first, last = settings
    return f"{len(members)} runs of {' and '.join(filter(None, (', '.join(first), last)))}"


def agreement(members: Sequence[Member], combined: Combined) -> dict[str, Any]:
    """How alike the runs rank: for every pair, on average over the seeds of each setting, and over settings per seed.

    Returns
    -------
    dict
        ``pairs``: {"a", "b", "spearman", "top1_overlap"}; ``over_seeds`` and ``over_settings``: setting or seed →
        {"n_pairs", "spearman", "top1_overlap", "n_fragile"}. None where a correlation is undefined. Fragile there is
        who is in the top 1 % of some of the setting's, or the seed's, runs and not of all of them.
    """
    pairs: list[dict[str, Any]] = []
    groups: dict[str, dict[str, list[tuple[int, int]]]] = {"over_seeds": {}, "over_settings": {}}
    for (i, a), (j, b) in itertools.combinations(enumerate(members), 2):
        found = float(combined.spearman[i, j]), float(combined.top1_overlap[i, j])
        pairs.append({"a": a.run_id, "b": b.run_id, **_named(found)})
        if a.setting == b.setting and a.seed != b.seed:
            groups["over_seeds"].setdefault(a.setting, []).append((i, j))
        elif a.setting != b.setting and a.seed is not None and a.seed == b.seed:
            groups["over_settings"].setdefault(str(a.seed), []).append((i, j))

    def mean(of: Sequence[tuple[int, int]]) -> dict[str, Any]:
        tops = combined.is_top[sorted(set(itertools.chain(*of)))]
        figures = [(combined.spearman[pair], combined.top1_overlap[pair]) for pair in of]
        n_fragile = int((tops.any(0) & ~tops.all(0)).sum())
        return {"n_pairs": len(of), **_named(np.mean(figures, 0)), "n_fragile": n_fragile}

    return {
        "pairs": pairs,
        **{name: {key: mean(of) for key, of in group.items()} for name, group in groups.items()},
    }


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
    runs = members(folders)
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
            f"no subject has a score in all of {', '.join(m.run_id for m in runs)}; choose runs of the same subjects"
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
    n_fragile, best = int(np.nansum(combined.is_fragile)), highest(combined)
    yield Progress(len(folders) + 1, len(folders) + 1, "done", {"n_fragile": n_fragile})
    return {
        "score_title": f"Mean rank percentile over {named(runs)}",
        "n_runs": len(folders),
        "n_subjects": int(is_whole.sum()),
        "n_without_score": int((~is_whole).sum()),
        "n_not_in_every_run": int((seen_by_any & ~in_all).sum()),
        "n_fragile": n_fragile,
        "runs": [{"run_id": m.run_id, "setting": m.setting, "seed": m.seed} for m in runs],
        **agreement(runs, combined),
        "n_in_every_top": int((combined.top1_share == 1).sum()),
        "highest": [str(subject_ids[i]) for i in best],
        "highest_in_every_top": [str(subject_ids[i]) for i in best if combined.top1_share[i] == 1],
    }
