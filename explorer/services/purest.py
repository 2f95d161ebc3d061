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
from explorer.services.judging import truth
from explorer.survey import counted
from models.artifacts import ArtifactError
from models.findings import Findings, Table
from models.labels import about_labels
from models.purity import CONTROLS, Purity, apply, controls, pure, sentence, spell, table
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
    groups, _ = survey.category("duplicate_group")
    groups = np.where(groups < 0, survey.n + np.arange(survey.n), groups)
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
            [(None, pure(scores[tune], positive[tune], groups[tune]))]
            if votes is None
            else controls(scores[tune], positive[tune], groups[tune], votes, CONTROLS)
        )
    except ArtifactError as error:
        raise UsageError(str(error)) from None
    one = found[0][1]
    wanted = f"{asked.column} = {' or '.join(asked.values)}"
    sign = " (low is positive: shown with its sign changed)" if asked.is_low else ""
    title = titles[asked.score] + sign
    above = int((scores[survey.frame()] > one.limit).sum())
    made = Findings(
        sentences=[sentence(one), f"Of all {counted(int(survey.frame().sum()), 'subject')} {above:,} lie above."],
        caveats=caveats(explore, asked),
        tables=[table(found, f"{title}: {wanted}; tune half")],
    )
    if has_test:
        made.tables.append(on_test(scores, positive, of.get("test"), one.limit, wanted))
    return made


def caveats(explore: Explore, asked: Asked) -> list[str]:
    """What to know before believing it: a score that learned from the truth, or saw these subjects."""
    found = []
    labels = about_labels(explore.survey.run_folder(asked.run_id)).values()
    if any(f"subjects.{asked.column}" in told.get("atoms", ()) for told in labels):
        found.append(
            f"circular: {asked.run_id} learned from {asked.column}, so that even out of fold its scores have seen the "
            "truth; look at the test half (--test), which no run learns from"
        )
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
