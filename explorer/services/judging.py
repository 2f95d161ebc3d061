"""How well the scores of finished runs find a class that is known: rows of a table, run by run, score by score.

The detectors' own evidence: it draws no boundary, and a truth made of a score would praise that score (science rule 4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.errors import UsageError, no_such_column
from explorer.services.explore import SCORES, Explore
from models.artifacts import Run
from models.judging import Judgement, judge
from models.mixing import Mode

SPLITS = ("train", "validation", "unseen")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One score of one run, judged on one part of the survey.

    Attributes
    ----------
    score
        What a person reads: the score's title, with λ and its mode where they matter.
    part
        "all", or the split that the network saw of these subjects: train, validation, unseen.
    """

    run_id: str
    score: str
    part: str
    judgement: Judgement


def truth(explore: Explore, column: str, wanted: Sequence[str]) -> np.ndarray:
    """Which subjects are looked for: 1 and 0, and NaN where the column says nothing.

    Raises
    ------
    UsageError
        No such column of categories, or no such value in it.
    """
    survey = explore.survey
    categories = [c.name for c in survey.columns() if c.dtype == "category"]
    if column not in categories:
        raise no_such_column(column, "the columns of categories", categories)
    codes, labels = survey.category(column)
    for value in wanted:
        if value not in labels:
            raise UsageError(f'"{value}" is no value of {column}; it has {", ".join(map(str, labels))}')
    is_wanted = np.isin(np.asarray(labels, dtype=object)[codes], list(wanted))
    return np.where(codes < 0, np.nan, is_wanted.astype(float))


def is_circular(explore: Explore, run_id: str, column: str) -> bool:
    """Whether a run, or one that it builds on, learned from what a column of categories is made of (rule 4)."""
    survey = explore.survey
    atom = survey.about_grades().get("columns", {}).get(column, f"subjects.{column}")
    if column in survey.columns_of_crowd() and column.removeprefix("volunteers_") == "majority_answer":
        atom = "votes"
    return atom in explore.learned_from(run_id)


def verdicts(
    explore: Explore,
    column: str,
    wanted: Sequence[str],
    run_ids: Sequence[str],
    mixes: Sequence[tuple[float, Mode]],
    half: str = "all",
) -> Iterator[Verdict]:
    """Judge each score of each run: on all subjects of the half, then by split where the run has more than one.

    Parameters
    ----------
    column, wanted
        The truth: a column of categories, and the values that are looked for. Subjects without a value are left out.
    mixes
        λ and its mode, for the anomaly score of a run that has an image and a feature score.
    half
        "tune", "test" or "all".
    """
    survey = explore.survey
    is_wanted = truth(explore, column, wanted)
    use = np.isfinite(is_wanted)
    if half != "all":
        codes, labels = survey.category("half")
        if half not in labels:
            raise UsageError(f"{survey.path} has no {half} half; judge on all of it")
        use &= codes == labels.index(half)
    groups, _ = survey.category("duplicate_group")
    groups = np.where(groups < 0, survey.n + np.arange(survey.n), groups)
    for run_id in run_ids:
        split = survey.scores(run_id)["split"]
        seen = [name for name in SPLITS if (split == name).any()]
        for title, values in scores_of(explore, run_id, mixes):
            for part in ["all", *(seen if len(seen) > 1 else [])]:
                rows = use if part == "all" else use & (split == part)
                yield Verdict(run_id, title, part, judge(values[rows], is_wanted[rows] == 1, groups[rows]))


def scores_of(explore: Explore, run_id: str, mixes: Sequence[tuple[float, Mode]]) -> Iterator[tuple[str, np.ndarray]]:
    """The scores of a run, each with its title; of a run that mixes none only the first, its anomaly score."""
    titles = explore.score_titles(run_id)
    if not explore.mixes(run_id):
        for name in SCORES:
            if name in titles:
                yield titles[name], explore.values(f"scores.{name}", run_id)
                break
        return
    for name in ("image_score", "feature_score"):
        yield titles[name], explore.values(f"scores.{name}", run_id)
    for lambda_, mode in mixes:
        words = f"λ = {lambda_:g}" + ("" if mode == "raw" else f", {mode}")
        yield f"{titles['anomaly_score']} ({words})", explore.values("scores.anomaly_score", run_id, lambda_, mode)


def is_reference(run: Run) -> bool:
    """Whether a run is the PCA-32 reconstruction error that must stand beside every judged network (rule 7)."""
    config = run.config
    return (
        run.selection is None
        and not config.get("center")
        and config.get("method") == "pca"
        and config.get("on") == "pixels"
        and config.get("n_components") == 32
    )
