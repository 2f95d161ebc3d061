"""How far a score's limit must go until nothing false is above it, and what is left: `models.purity` on a survey.

The limit is chosen on the tune half and judged out of fold there; the test half, where it is asked for, is looked at
with the limit as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.errors import UsageError, no_such_column
from explorer.services.explore import Explore
from explorer.services.judging import is_circular, truth
from explorer.services.labels import groups as groups_of
from explorer.services.truths import Known
from explorer.survey import Survey, counted
from models import boundary
from models.artifacts import ArtifactError
from models.boundary import Gate, Learned, Path, Term
from models.findings import Findings, Table
from models.labels import about_taught
from models.purity import CONTROLS, Purity, apply, controls, limit_of, pure, sentence, spell, table
from models.rates import share


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be pure of what.

    Attributes
    ----------
    score, run_id
        Which column of which run.
    column, values
        The truth: a column of categories, and those that are looked for.
    votes
        A column of the survey with the share of positive votes; "" for no control.
    is_low
        Low scores are positive: as of P(not a muon).
    """

    score: str
    run_id: str
    column: str
    values: Sequence[str]
    votes: str = ""
    is_low: bool = False


def purest(explore: Explore, asked: Asked, has_test: bool = False) -> Findings:
    """What is pure, in words and tables.

    Raises
    ------
    UsageError
        No such run, score, column or value, or nothing of it in the tune half.
    """
    survey = explore.survey
    titles = explore.score_titles(asked.run_id)
    if asked.score not in titles:
        raise no_such_column(asked.score, f"the scores of {asked.run_id}", titles)
    scores = explore.values(f"scores.{asked.score}", asked.run_id).astype(np.float64) * (-1 if asked.is_low else 1)
    is_wanted = truth(explore, asked.column, asked.values)
    same = groups_of(survey)
    halves, names = survey.category("half")
    told = np.isfinite(is_wanted) & survey.frame()
    of = {name: (halves == names.index(name)) & told for name in ("tune", "test") if name in names}
    tune = np.flatnonzero(of.get("tune", told))
    if not len(tune):
        raise UsageError(f"{asked.column} says nothing of any subject of the tune half; take another truth")
    positive = is_wanted == 1
    votes = explore.values(f"subjects.{asked.votes}")[tune] if asked.votes else None
    try:
        found: list[tuple[float | None, Purity]] = (
            [(None, pure(scores[tune], positive[tune], same[tune]))]
            if votes is None
            else controls(scores[tune], positive[tune], same[tune], votes, CONTROLS)
        )
    except ArtifactError as error:
        raise UsageError(str(error)) from None
    one = found[0][1]
    wanted = f"{asked.column} = {' or '.join(asked.values)}"
    sign = " (low is positive: shown with its sign changed)" if asked.is_low else ""
    title = titles[asked.score] + sign
    simulated = "simulated " if is_simulated(survey, asked.column) else ""
    above = int((scores[survey.frame()] > one.limit).sum())
    made = Findings(
        sentences=[
            sentence(one, simulated),
            f"Of all {counted(int(survey.frame().sum()), 'subject')} {above:,} lie above.",
        ],
        caveats=caveats(explore, asked),
        tables=[table(found, f"{title}: {simulated}{wanted}; tune half")],
    )
    if has_test:
        made.tables.append(on_test(scores, positive, of.get("test"), one.limit, simulated + wanted))
    return made


def cut_pure(
    keep: Term, path: Path, source: boundary.Source, known: Known, tune: np.ndarray, groups: np.ndarray
) -> tuple[float, str]:
    """The lowest lower limit of a term with which the whole keeps nothing false of the tune half, and its worth.

    Parameters
    ----------
    known
        The truth; only where it is known something can be false.
    tune
        bool (N,).
    groups
        int (N,), equal where two show the same sky.

    Raises
    ------
    UsageError
        The term has no lower limit, the truth knows no negative, or others keep false ones whatever this limit is.
    """
    leaf = boundary.at(keep, path)
    if isinstance(leaf, Gate) and not leaf.labels:
        values = source.column(leaf.column)
        within = ~(values > leaf.high) if leaf.high is not None else np.ones(len(values), np.bool_)
    elif isinstance(leaf, Learned):
        values = source.balanced(leaf.model) if leaf.scale == "balanced" else source.probability(leaf.model)
        within = np.ones(len(values), np.bool_)
    else:
        raise UsageError("only the lower limit of a gate or of a learned classifier moves until nothing false is kept")
    if known.kind == "positives_only":
        raise UsageError("this truth knows only what is right, so nothing can be false; choose a truth that knows both")
    yes, no, unsure = boundary.alternatives(keep, path, source)
    asked, has = tune & known.known, ~np.isnan(values)
    false = asked & ~known.positive
    if not false.any():
        raise UsageError("nothing of the tune half is known to be false, so no limit is pure; choose another truth")
    if (false & np.where(has, no, unsure)).any():
        raise UsageError(
            "other terms keep what is false whatever this limit is; narrow them, or put this one beside all"
        )
    rows = np.flatnonzero(asked & has & yes & within)
    is_false = false[rows]
    if not is_false.any():
        raise UsageError("nothing false of the tune half is kept, with any limit of this one: it may be left out")
    limit = limit_of(values[rows][is_false])
    if isinstance(leaf, Learned) and limit >= 1:
        raise UsageError("something false has the classifier's highest score, so no limit is pure")
    number = values.dtype.type if values.dtype.kind == "f" else np.float64  # limits are compared in the column's own
    low = float(np.nextafter(number(limit), number(np.inf)))
    try:
        said = sentence(pure(values[rows], known.positive[rows], groups[rows]))
    except ArtifactError:  # too few for folds
        n = int((~is_false).sum())
        above = int((values[rows][~is_false] > limit).sum())
        said = f"{above:,} of {n:,} right ones lie above {limit:.5g}, nothing false."
    if isinstance(leaf, Learned):
        said += " The classifier was taught on the same half."
    return low, said


def is_simulated(survey: Survey, column: str) -> bool:
    """Whether a column of categories is made of simulated votes or grades; columns of a campaign carry its name."""
    if column in survey.columns_of_crowd():
        return bool(survey.about_crowd().get("is_simulated"))
    return column in survey.columns_of_grades() and "simulated" in column


def caveats(explore: Explore, asked: Asked) -> list[str]:
    """What to know before believing it: a score that learned from the truth, or saw these subjects."""
    found = []
    labels = about_taught(explore.survey.run_folder(asked.run_id))
    if is_circular(explore, asked.run_id, asked.column):
        found.append(
            f"circular: {asked.run_id} learned from {asked.column}, so that even out of fold its scores have seen the "
            "truth; look at the test half (--test), which no run learns from"
        )
    if is_simulated(explore.survey, asked.column):
        found.append(f"{asked.column} is simulated: figures say how it would go, not what is there")
    if any(told.get("is_simulated") for told in labels):
        found.append("the score learned from simulated labels")
    return found


def on_test(scores: np.ndarray, positive: np.ndarray, rows: np.ndarray | None, limit: float, wanted: str) -> Table:
    """The same limit on the test half, which it was not chosen by."""
    if rows is None or not rows.any():
        raise UsageError("there is no test half with a truth to look at; leave --test out")
    recall, false, precision = apply(limit, scores[rows], positive[rows])
    n = int(rows.sum())
    columns = ("subjects", "looked for", "pure", "false", "precision", "kept")
    kept = share(int((scores[rows] > limit).sum()), n)
    row = [n, int(positive[rows].sum()), spell(recall), spell(false), spell(precision), spell(kept)]
    return Table(f"The same limit on the test half: {wanted}", columns, [row])
