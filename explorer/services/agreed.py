"""What the experts of a campaign agree on: coefficients, each grader, the region's purity, and later outcomes.

Agreement is of independent grades of real subjects: hidden repeats, known objects, duds and adjudications are each kept
apart, and of a grade that was changed after its grader was told others', the one before counts. Who could not judge has
given no grade, and is counted apart everywhere. A subject's outcome is that of its adjudication, where there is one,
else that of the campaign's rule, of the grades as they stand.

What is told here tells a grader what others said: who may see it is decided by whoever asks. Callable from a script;
thread-safe. It takes seconds where there are many votes, so that a server asks on a thread of its own.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from explorer.caches import Cache
from explorer.errors import UsageError
from explorer.services.acquiring import left_of, left_words, outside_of, outside_words
from explorer.services.campaigns import Campaign, Campaigns, groups_of
from explorer.services.explore import Explore
from explorer.survey import counted
from models.agreement import Agreement, Dispersion, Level, Ratings, alpha, cohens, dispersion, fleiss
from models.grades import CANNOT_JUDGE, Grade, Rule, Scheme, is_found, values_of, with_limit
from models.rates import Rate, share
from models.weighted import weighted

if TYPE_CHECKING:
    from explorer.services.vetting import Vetting

#: Kinds of the ledger's entries that change what is said here.
KINDS = ("vote", "campaign", "outcome", "undo")
#: Drawings for each of the intervals; for those of pairs, of which there may be a thousand.
REPS, PAIR_REPS = 1_000, 500
#: Rows that a pair's cell has of what the two disagree on; all of them are `Agreed.disagreement`.
MOST_ROWS = 24
#: Reports kept.
KEPT = 16

REAL = ("subject", "audit")
ADJUDICATION, GRID = "adjudication", "grid"
WEIGHTS = {
    "nominal": "unweighted",
    "ordinal": "unweighted; at a cell also weighted by the squared number of steps between grades",
    "interval": "unweighted; at a cell also weighted by the squared difference of grades",
}
BY_ACQUISITION = "shown in the order of a model: shares of those looked at are not those of the region"
BY_CLUSTERS = "graded cluster by cluster, novel ones first: shares of those looked at are not those of the region"


class Agreed:
    """What graders agree on in the campaigns of one survey. One per server; thread-safe."""

    def __init__(self, campaigns: Campaigns, vetting: Vetting, explore: Explore) -> None:
        self.campaigns, self.vetting, self.explore, self.survey = campaigns, vetting, explore, explore.survey
        self._reading = threading.Lock()
        self._last = 0
        self._reports, self._votes = Cache(KEPT), Cache(4)

    @property
    def stamp(self) -> int:
        """The last entry that matters: as long as it is the same, nothing has changed."""
        with self._reading:
            fresh = self.campaigns.ledger.entries(KINDS, since=self._last, include_undone=True)
            if fresh:
                self._last = fresh[-1].id
            return self._last

    def report(self, campaign_id: str, at: datetime | str | None = None) -> dict[str, Any]:
        """Everything about one campaign that this module is about, now or as of a date: a JSON object.

        Returns
        -------
        dict
            ``campaign``, ``name``, ``region``, ``level``, ``positive``, ``rule``; ``n_graders``, ``n_subjects`` (with a
            grade), ``n_all`` (to be graded), ``n_votes``, ``n_cannot``, ``n_interesting`` (subjects), ``n_informed``
            (grades given with others' in sight from the start), ``n_changed`` (after that), ``grades`` (how often each
            was given), ``n_grid`` (of ``n_votes``: given to whole grids); ``alpha``, ``fleiss``, ``pairs``,
            ``weights``, ``graders``, ``dispersion``, ``purity``, ``left``, ``against_outcomes``. Of rates: k, n, value,
            low, high (95 %), note.

        Raises
        ------
        UsageError
            There is no such campaign.
        """
        campaign = self.campaigns.get(campaign_id)
        key = (campaign.id, None if at is None else str(at), self.stamp, self.survey.generation)
        found: dict[str, Any] = self._reports.get(key, lambda: _report(self._book(campaign, at)))
        return found

    def report_lines(self, campaign_id: str, at: datetime | str | None = None) -> list[str]:
        """The report for a terminal: a line for each thing it says."""
        return report_lines(self.report(campaign_id, at))

    def disputed(self, campaign_id: str) -> np.ndarray:
        """Rows that wait for adjudication: those whose graders differ, by falling dispersion, then fewest grades.

        Returns
        -------
        np.ndarray
            int64 (n,). Who has been adjudicated is in `adjudicated` instead.
        """
        book = self._book(self.campaigns.get(campaign_id))
        order = book.by_dispersion
        return np.asarray(book.rows[order[~book.is_adjudicated[order]]])

    def adjudicated(self, campaign_id: str) -> np.ndarray:
        """Rows that have been adjudicated: int64, the most disputed first."""
        book = self._book(self.campaigns.get(campaign_id))
        order = np.concatenate([book.by_dispersion, np.setdiff1d(np.arange(len(book.rows)), book.by_dispersion)])
        return np.asarray(book.rows[order[book.is_adjudicated[order]]])

    def disagreement(self, campaign_id: str, who_a: str, who_b: str) -> np.ndarray:
        """Rows that two graders gave different grades: int64, the farthest apart first.

        Raises
        ------
        UsageError
            One of them has graded nothing in it.
        """
        book = self._book(self.campaigns.get(campaign_id))
        for who in (who_a, who_b):
            if who not in book.graders:
                raise UsageError(f'"{who}" has graded nothing in the campaign “{book.campaign.plan.name}”')
        return book.apart(book.graders.index(who_a), book.graders.index(who_b))

    def dispersion(self, campaign_id: str) -> pd.Series:
        """How far the grades of each subject are apart, as they stand: row → their standard deviation, of nominal ones
        their entropy in bits; those with two grades at least, ascending."""
        book = self._book(self.campaigns.get(campaign_id))
        some = book.dispersion.n >= 2
        return pd.Series(book.how_far[some], book.rows[some], name="dispersion")

    def left(self, campaign_id: str) -> dict[str, Any] | None:
        """The report's ``left`` alone."""
        return _left(self._book(self.campaigns.get(campaign_id)))

    def purity(self, campaign_id: str) -> dict[str, Any]:
        """The report's ``purity`` and ``against_outcomes`` alone, which draw no intervals: quick enough for a page."""
        book = self._book(self.campaigns.get(campaign_id))
        return {"purity": _purity(book), "against_outcomes": _against(book)}

    def grades(self, campaign_id: str) -> tuple[np.ndarray, np.ndarray]:
        """What each subject's outcome amounts to.

        Returns
        -------
        rows
            int64 (n,), ascending: those that somebody voted on or decided.
        keys
            object (n,): of the scheme's grades; "" where it amounts to none.
        """
        book = self._book(self.campaigns.get(campaign_id))
        keys = np.array([*(grade.key for grade in book.scheme.grades), ""], object)
        return book.rows, keys[_levels(book)]

    def _book(self, campaign: Campaign, at: datetime | str | None = None) -> _Book:
        def make() -> _Book:
            votes = self.vetting.votes(campaign.id) if at is None else self.vetting.votes(campaign.id, at)
            inclusion = np.asarray(self.survey.column("inclusion_probability"), np.float64)
            waiting = self.vetting.waiting(campaign.id, at)
            return _Book(campaign, votes, groups_of(self.survey), inclusion, self._outcomes(at), waiting)

        key = (campaign.id, None if at is None else str(at), self.stamp, self.survey.generation)
        found: _Book = self._votes.get(key, make)
        return found

    def _outcomes(self, at: datetime | str | None) -> dict[int, str]:
        """Row → the last thing that follow-up said of it, "confirmed" or "rejected"; of the whole survey."""
        told: dict[int, str] = {}
        for entry in self.campaigns.ledger.entries("outcome", at=at):
            if entry.subject_id is not None:
                told[entry.subject_id] = str(entry.payload.get("outcome"))
        rows = self.survey.rows_of(list(told))
        return {int(row): what for row, what in zip(rows, told.values(), strict=True) if row >= 0 and what != "open"}


# ----------------------------------------------------------------------------------------------------- who said what
@dataclass(frozen=True)
class _Book:
    """The votes of one campaign as of one moment.

    Attributes
    ----------
    votes
        As `Vetting.votes` has them.
    groups, inclusion
        Duplicate group, int64 (N,), and inclusion probability, float64 (N,), of every subject of the survey.
    later
        What follow-up said, by row.
    waiting
        Rows that were left for the second pass and have no grade yet.
    """

    campaign: Campaign
    votes: pd.DataFrame
    groups: np.ndarray
    inclusion: np.ndarray
    later: dict[int, str]
    waiting: np.ndarray

    @property
    def scheme(self) -> Scheme:
        return self.campaign.plan.scheme

    @property
    def rule(self) -> Rule:
        return self.campaign.plan.outcome

    @cached_property
    def falling(self) -> list[Grade]:
        """The scheme's grades, the greatest value first."""
        return sorted(self.scheme.grades, key=lambda grade: -grade.value)

    @cached_property
    def looks(self) -> pd.DataFrame:
        """All votes but adjudications."""
        return self.votes[self.votes["via"] != ADJUDICATION]

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """The last adjudication of each subject that has one."""
        last = self.votes[self.votes["via"] == ADJUDICATION].sort_values("at", kind="stable")
        return last.drop_duplicates("row", keep="last")

    @cached_property
    def independent(self) -> pd.DataFrame:
        """One vote for each grader and real subject."""
        return self.looks[self.looks["role"].isin(REAL)].drop_duplicates(["row", "who"], keep="last")

    @cached_property
    def rows(self) -> np.ndarray:
        """Subjects that somebody voted on or decided, int64 (n,), ascending."""
        rows = [votes["row"].to_numpy(np.int64) for votes in (self.independent, self.decisions)]
        return np.unique(np.concatenate(rows))

    @cached_property
    def graders(self) -> list[str]:
        """Who graded real subjects, by name as in `Vetting.matrix`; then who has only looked at others."""
        real = sorted(set(self.independent["who"]))
        return [*real, *sorted(set(self.looks["who"]) - set(real))]

    def _keys(self, grades: pd.Series) -> np.ndarray:
        """int8 (n, m), of a grade for each of `independent`: index into the scheme's; -1 without, -2 cannot judge."""
        places = {grade.key: i for i, grade in enumerate(self.scheme.grades)} | {CANNOT_JUDGE: -2}
        found = np.full((len(self.rows), len(self.graders)), -1, np.int8)
        at = np.searchsorted(self.rows, self.independent["row"].to_numpy(np.int64))
        who = self.independent["who"].map({who: j for j, who in enumerate(self.graders)}).to_numpy(np.int64)
        found[at, who] = grades.map(places).to_numpy(np.int8)
        return found

    @cached_property
    def keys(self) -> np.ndarray:
        """Of the grades as they stand; see `_keys`."""
        return self._keys(self.independent["grade"])

    @cached_property
    def own(self) -> np.ndarray:
        """Of the grades before their graders were told others'; as they stand where that was before any."""
        told = self.independent
        return self._keys(told["independent"].where(told["independent"] != "", told["grade"]))

    @cached_property
    def values(self) -> np.ndarray:
        """float64 (n, m), of the grades as they stand: NaN without a value."""
        return np.asarray(self._worth[self.keys])

    @cached_property
    def _worth(self) -> np.ndarray:
        return np.array([*(grade.value for grade in self.scheme.grades), np.nan, np.nan])

    def _ratings(self, keys: np.ndarray) -> Ratings:
        """By value; of nominal grades, which may be worth the same, by key."""
        groups, worth = self.groups[self.rows], self._worth[:-2]
        if self.scheme.level != "nominal":
            return Ratings.of(self._worth[keys], worth, self.scheme.positive, groups)
        return Ratings.coded(np.maximum(keys, -1), worth, worth >= self.scheme.positive, groups)

    @cached_property
    def ratings(self) -> Ratings:
        """Of independent grades."""
        return self._ratings(self.own)

    @cached_property
    def is_adjudicated(self) -> np.ndarray:
        """bool (n,)."""
        return np.asarray(np.isin(self.rows, self.decisions["row"].to_numpy(np.int64)))

    @cached_property
    def decided(self) -> np.ndarray:
        """float64 (n,): the value of the last adjudication; NaN where there is none, or nobody can judge by it."""
        values = np.full(len(self.rows), np.nan)
        at = np.searchsorted(self.rows, self.decisions["row"].to_numpy(np.int64))
        values[at] = self.decisions["value"].to_numpy(np.float64)
        return values

    @cached_property
    def is_region(self) -> np.ndarray:
        """bool (n,): of the campaign's source, not an audit draw."""
        return np.asarray(np.isin(self.rows, self.campaign.rows))

    def reached(self, limit: float) -> tuple[np.ndarray, np.ndarray]:
        """Whose outcome is at a value or above, and whose outcome is known; bool (n,) each."""
        if limit <= min(grade.value for grade in self.scheme.grades):
            found = known = ~np.isnan(self.values).all(axis=1)
        else:
            scheme = with_limit(self.scheme, limit)
            values = values_of(self.values, self.rule, scheme)
            found, known = is_found(values, self.rule, scheme), ~np.isnan(values)
        found = np.where(self.is_adjudicated, self.decided >= limit, found)
        return found, np.where(self.is_adjudicated, ~np.isnan(self.decided), known)

    @cached_property
    def dispersion(self) -> Dispersion:
        """Of the grades as they stand."""
        return dispersion(self._ratings(self.keys))

    @property
    def how_far(self) -> np.ndarray:
        """float64 (n,): by what disputed subjects are ordered."""
        return self.dispersion.entropy if self.scheme.level == "nominal" else self.dispersion.deviation

    @cached_property
    def by_dispersion(self) -> np.ndarray:
        """Indices of `rows` whose grades still differ: int64, by falling dispersion, then fewest grades, then row."""
        order = np.lexsort((self.rows, self.dispersion.n, -np.nan_to_num(self.how_far).round(9)))
        return np.asarray(order[self.dispersion.entropy[order] > 0])

    def apart(self, a: int, b: int) -> np.ndarray:
        """Rows that two graders gave different grades, the farthest apart first."""
        one, other = self.own[:, a], self.own[:, b]
        differ = np.flatnonzero((one >= 0) & (other >= 0) & (one != other))
        far = np.abs(self._worth[one[differ]] - self._worth[other[differ]])
        return np.asarray(self.rows[differ[np.argsort(-far, kind="stable")]])


# -------------------------------------------------------------------------------------------------------- the report
def _report(book: _Book) -> dict[str, Any]:
    campaign, independent = book.campaign, book.independent
    level = book.scheme.level
    grades = {grade.key: int((independent["grade"] == grade.key).sum()) for grade in book.falling}
    is_graded = (book.keys >= 0).any(axis=1)
    return {
        "campaign": campaign.id,
        "name": campaign.plan.name,
        "region": campaign.source.get("region", ""),
        "level": level,
        "positive": book.scheme.positive,
        "rule": book.rule,
        "n_graders": int(independent["who"].nunique()),
        "n_subjects": int(is_graded.sum()),
        "n_all": campaign.n_real,
        "n_votes": sum(grades.values()),
        "n_grid": int(((independent["via"] == GRID) & (independent["grade"] != CANNOT_JUDGE)).sum()),
        "n_cannot": int((independent["grade"] == CANNOT_JUDGE).sum()),
        "n_interesting": int(independent.loc[independent["interesting"].astype(bool), "row"].nunique()),
        "n_adjudicated": int(book.is_adjudicated.sum()),
        "n_informed": int((independent["is_informed"].astype(bool) & (independent["independent"] == "")).sum()),
        "n_changed": int(((book.own != book.keys) & (book.keys != -1)).sum()),
        "grades": grades,
        "alpha": alpha(book.ratings, level, REPS).to_json() | {"level": level},
        "fleiss": _fleiss(fleiss(book.ratings, REPS)),
        "pairs": _pairs(book),
        "weights": WEIGHTS[level],
        "graders": _graders(book),
        "dispersion": _dispersion(book),
        "purity": _purity(book),
        "left": _left(book),
        "against_outcomes": _against(book),
    }


def _fleiss(found: Agreement) -> dict[str, Any]:
    return found.to_json() | {"m": found.m, "n_equal_m": found.n}


def _pairs(book: _Book) -> list[list[dict[str, Any] | None]]:
    n, level = len(book.graders), book.scheme.level
    levels: list[Level] = ["nominal"] if level == "nominal" else ["nominal", level]
    table: list[list[dict[str, Any] | None]] = [[None] * n for _ in range(n)]
    for a in range(n):
        for b in range(a + 1, n):
            found, *by_distance = cohens(book.ratings, a, b, levels, PAIR_REPS)
            if not found.n:
                continue
            rows = book.apart(a, b)
            told = found.to_json()
            told |= {"kappa": told.pop("value"), "n_disagreed": len(rows), "disagreed": rows[:MOST_ROWS].tolist()}
            for other in by_distance:
                told["weighted"] = {name: getattr(other, name) for name in ("value", "low", "high", "note")}
            table[a][b] = table[b][a] = told
    return table


def _graders(book: _Book) -> list[dict[str, Any]]:
    scheme, looked, found = book.scheme, book.looks.groupby("who", sort=False), []
    for who in book.graders:
        mine = looked.get_group(who)
        real = mine[mine["role"].isin(REAL)].drop_duplicates("row", keep="last")
        judged = real[real["grade"] != CANNOT_JUDGE]
        seconds = mine["seconds"].to_numpy(np.float64)
        seconds = seconds[np.isfinite(seconds) & (seconds > 0)]
        known, duds = (_answers(mine[mine["role"] == role], scheme) for role in ("known", "dud"))
        n_yes = int((judged["value"] >= scheme.positive).sum())
        found.append(
            {
                "who": who,
                "n": len(judged),
                "n_cannot": len(real) - len(judged),
                "n_interesting": int(real["interesting"].sum()),
                "grades": {grade.key: int((judged["grade"] == grade.key).sum()) for grade in book.falling},
                "positive": share(n_yes, len(judged), empty="nothing graded").to_json(),
                "seconds_median": float(np.median(seconds)) if len(seconds) else None,
                "seconds": float(seconds.sum()),
                "self_agreement": _self_agreement(mine),
                "known": known["positive"],
                "duds": duds["negative"],
                "false_alarms": duds["positive"],
                "confusion": {"known": known["grades"], "duds": duds["grades"]},
            }
        )
    return found


def _answers(votes: pd.DataFrame, scheme: Scheme) -> dict[str, Any]:
    """What a grader said of subjects whose answer is known: k of n positive, and negative; how often each grade."""
    votes = votes.drop_duplicates("row", keep="last")
    judged = votes[votes["grade"] != CANNOT_JUDGE]
    n, k = len(judged), int((judged["value"] >= scheme.positive).sum())
    note = "" if len(judged) == len(votes) else f"{len(votes) - n} of {len(votes)} could not be judged"
    empty = "none was graded"
    counts = {key: int((votes["grade"] == key).sum()) for key in [*(g.key for g in scheme.grades), CANNOT_JUDGE]}
    positive, negative = (share(x, n, note, empty).to_json() for x in (k, n - k))
    return {"positive": positive, "negative": negative, "grades": counts}


def _self_agreement(mine: pd.DataFrame) -> dict[str, Any]:
    """k of n hidden repeats have the grade of the first look, both before others' were told; those that could not be
    judged once are counted apart."""
    again = mine[mine["role"] == "repeat"].drop_duplicates("row", keep="last").set_index("row")["independent"]
    first = mine[mine["role"] != "repeat"].drop_duplicates("row", keep="last").set_index("row")["independent"]
    both = pd.concat([first, again], axis=1, join="inner", keys=["first", "again"])
    both = both[(both != "").all(axis=1)]
    judged = both[(both != CANNOT_JUDGE).all(axis=1)]
    k, n = int((judged["first"] == judged["again"]).sum()), len(judged)
    return share(k, n, empty="nothing was shown twice").to_json() | {"n_cannot": len(both) - n}


def _dispersion(book: _Book) -> dict[str, Any]:
    """How far grades of a subject are apart: of how many subjects by how much."""
    told = dispersion(book.ratings)
    some = told.n >= 2
    measure = told.entropy if book.scheme.level == "nominal" else told.spread
    values, counts = np.unique(measure[some].round(9), return_counts=True)
    return {
        "measure": "entropy in bits" if book.scheme.level == "nominal" else "greatest value less the least",
        "n": int(some.sum()),
        "differ": _share(told.entropy[some] > 0, book.groups[book.rows[some]], None).to_json(),
        "mean_deviation": float(told.deviation[some].mean()) if some.any() else None,
        "levels": [{"value": float(v), "n": int(n)} for v, n in zip(values, counts, strict=True)],
        "n_waiting": int((~book.is_adjudicated[book.by_dispersion]).sum()),
    }


def _purity(book: _Book) -> dict[str, Any]:
    """Which share of the region's subjects has each grade, by outcome and by single votes; audit draws are outside."""
    region, groups = book.is_region, book.groups[book.rows]
    pi = book.inclusion[book.rows]
    is_sampled = bool(np.isfinite(pi[region]).any()) and len(np.unique(pi[region & np.isfinite(pi)])) > 1

    def rate(chosen: np.ndarray, known: np.ndarray, of: np.ndarray | None = None) -> dict[str, Any]:
        """Subjects, or (with `of`) the subject of each vote."""
        rows = np.flatnonzero(known) if of is None else of[known]
        told: dict[str, Any] = _share(chosen[known], groups[rows], None).to_json()
        told["weighted"] = _share(chosen[known], groups[rows], pi[rows]).to_json() if is_sampled else None
        return told

    subject, grader = np.nonzero((book.keys >= 0) & region[:, None])
    cast = book.keys[subject, grader]
    everyone = np.ones(len(cast), np.bool_)
    places = {grade.key: i for i, grade in enumerate(book.scheme.grades)}
    known = book.reached(min(g.value for g in book.scheme.grades))[1] & region
    levels = _levels(book)
    grades = []
    for grade in book.falling:
        told = {"grade": grade.key, "name": grade.name, "subjects": rate(levels == places[grade.key], known)}
        if book.scheme.level != "nominal":
            told["at_least"] = rate(book.reached(grade.value)[0], known)
        grades.append(told | {"votes": rate(cast == places[grade.key], everyone, subject)})
    graded = np.isin(book.campaign.rows, book.rows[region])
    notes = ["the grades are simulated"] if book.campaign.is_simulated else []
    notes += [BY_ACQUISITION] if book.campaign.plan.order == "acquisition" else []
    if book.campaign.plan.order == "clusters" and not graded.all():
        notes.append(BY_CLUSTERS)
    if missing := int((~graded).sum()):
        notes.append(f"{missing:,} of {counted(len(graded), 'subject')} have no vote yet")
    if waiting := int(np.isin(book.waiting, book.campaign.rows).sum()):
        notes.append(
            f"{waiting:,} of these {'waits' if waiting == 1 else 'wait'} for a second look: until then shares are "
            "mostly of what was turned down, and too low"
        )
    if is_sampled:
        notes.append("weighted by inclusion probability beside it, for the survey that this one was drawn from")
    return {
        "region": book.campaign.source.get("region", ""),
        "n_source": book.campaign.source.get("n_source"),
        "n": int(known.sum()),
        "n_cannot": int((region & ~known).sum()),
        "n_without_level": int((known & (levels < 0)).sum()),
        "found": rate(book.reached(book.scheme.positive)[0], known),
        "grades": grades,
        "notes": notes,
    }


def _levels(book: _Book) -> np.ndarray:
    """The grade that each outcome amounts to, int (n,), index into the scheme's; -1 where it amounts to none.

    Of ordered grades, the greatest whose value the outcome reaches; of nominal ones the commonest, if it is one.
    """
    levels = np.full(len(book.rows), -1)
    places = {grade.key: i for i, grade in enumerate(book.scheme.grades)}
    if book.scheme.level != "nominal":
        for grade in reversed(book.falling):
            found, known = book.reached(grade.value)
            levels[found & known] = places[grade.key]
        return levels
    counts = np.stack([(book.keys == i).sum(axis=1) for i in places.values()], axis=1)
    most = counts.max(axis=1, initial=0)
    alone = (most > 0) & ((counts == most[:, None]).sum(axis=1) == 1)
    levels[alone] = counts[alone].argmax(axis=1)
    at = np.searchsorted(book.rows, book.decisions["row"].to_numpy(np.int64))
    levels[at] = [places.get(key, -1) for key in book.decisions["grade"]]
    return levels


def _share(chosen: np.ndarray, groups: np.ndarray, pi: np.ndarray | None) -> Rate:
    """k of n, whole duplicate groups (and all votes of a subject) as worth as they are; weighted where π is told."""
    all_of_them = np.ones(len(chosen), np.bool_)
    found = weighted(all_of_them, chosen, all_of_them, pi, groups)["precision"]
    return found if found.n else share(0, 0, empty="nothing graded")


def _left(book: _Book) -> dict[str, Any] | None:
    """How many finds are outside of the source, by the audit; of acquisition, or without an audit, how many of those to
    be graded are not looked at. None where everything was."""
    campaign, region = book.campaign, book.is_region
    found = book.rows[book.reached(book.scheme.positive)[0]]
    is_asked = campaign.plan.order == "acquisition" or not len(campaign.audit)
    if is_asked:
        mine = book.rows[region]
        if len(mine) == len(campaign.rows):
            return None
        told, where, say = left_of(campaign, mine, found, book.waiting), "among those not looked at", left_words
    else:
        audit = book.rows[~region]
        told = outside_of(campaign, book.groups[audit], np.isin(audit, found), book.waiting)
        where, say = "in what the source does not keep", outside_words
    return told.to_json() | {"where": where, "sentence": say(campaign, told, where)}


def _against(book: _Book) -> dict[str, Any]:
    """What follow-up said of those graded: which share of those found is confirmed, and what grades had said."""
    said = np.array([book.later.get(int(row), "") for row in book.rows], object)
    found, known = book.reached(book.scheme.positive)
    followed, confirmed = (said != "") & known, said == "confirmed"
    groups, levels = book.groups[book.rows], _levels(book)

    def rate(chosen: np.ndarray, among: np.ndarray) -> dict[str, Any]:
        return _share(chosen[among], groups[among], None).to_json()

    grades = []
    for i, grade in sorted(enumerate(book.scheme.grades), key=lambda item: -item[1].value):
        grades.append({"grade": grade.key, "name": grade.name, **rate(confirmed, followed & (levels == i))})
    return {
        "precision": rate(confirmed, followed & found),
        "missed": rate(confirmed, followed & ~found),
        "by_grades": rate(found, followed),
        "grades": grades,
        "n_found": int((found & known).sum()),
        "n_followed": int(followed.sum()),
        "n_not_judged": int(((said != "") & ~known).sum()),
    }


# ----------------------------------------------------------------------------------------------------------- as text
def report_lines(report: dict[str, Any]) -> list[str]:
    """A report for a terminal: a line for each thing it says."""
    lines = [
        f"{counted(report['n_subjects'], 'subject')} of {report['n_all']:,} graded by "
        f"{counted(report['n_graders'], 'grader')}, {counted(report['n_votes'], 'grade')}; “cannot judge” "
        f"{report['n_cannot']:,}, flagged interesting {report['n_interesting']:,}"
    ]
    if report["n_grid"]:
        lines.append(
            f"{report['n_grid']:,} of {counted(report['n_votes'], 'grade')} were given to whole grids of a cluster: "
            "they are not independent of each other, and intervals that take them so are too narrow"
        )
    if report["n_informed"]:
        lines.append(f"{counted(report['n_informed'], 'grade')} of these given with those of others in sight")
    lines.append(f"Krippendorff's alpha ({report['level']}): {_coefficient(report['alpha'])}")
    told = report["fleiss"]
    if told["m"] is None:
        lines.append(f"Fleiss' kappa: {_coefficient(told)}")
    else:
        rest = f"; {counted(told['n_left_out'], 'subject')} with other numbers left out" if told["n_left_out"] else ""
        lines.append(f"Fleiss' kappa, of those with just {told['m']} grades{rest}: {_coefficient(told)}")
    names = [grader["who"] for grader in report["graders"]]
    for a, row in enumerate(report["pairs"]):
        for b in range(a + 1, len(row)):
            if (pair := row[b]) is not None:
                both = _coefficient({**pair, "value": pair["kappa"]})
                more = f"; weighted {_number(pair['weighted'])}" if "weighted" in pair else ""
                lines.append(f"Cohen's kappa, {names[a]} and {names[b]}: {both}{more}")
    for grader in report["graders"]:
        parts = [f"{counted(grader['n'], 'grade')}, {grader['n_cannot']:,} cannot judge"]
        if grader["seconds_median"] is not None:
            parts.append(f"{grader['seconds_median']:.3g} s a look")
        for name, what in (
            ("self_agreement", "of repeats as before"),
            ("known", "of known objects found"),
            ("false_alarms", "of duds taken for one"),
        ):
            if grader[name]["n"]:
                parts.append(f"{_rate(grader[name])} {what}")
        lines.append(f"{grader['who']}: " + "; ".join(parts))
    told = report["dispersion"]
    lines.append(f"grades differ on {_rate(told['differ'])}; {counted(told['n_waiting'], 'subject')} to adjudicate")
    lines.extend(_purity_lines(report["purity"]))
    if (left := report["left"]) is not None:
        lines.append(left["sentence"])
    told = report["against_outcomes"]
    if told["n_followed"]:
        lines.append(
            f"of {counted(told['n_followed'], 'subject')} followed up, grades found {_rate(told['by_grades'])}; of "
            f"these {_rate(told['precision'])} are confirmed, of the others {_rate(told['missed'])}"
        )
    return lines


def _purity_lines(purity: dict[str, Any]) -> list[str]:
    where = f" of {purity['region']}" if purity["region"] else ""
    lines = [f"purity{where}: {_rate(purity['found'])} found"]
    for grade in purity["grades"]:
        line = f"  {grade['grade']} ({grade['name']}): {_rate(grade['subjects'])} of subjects"
        if "at_least" in grade and grade is not purity["grades"][-1]:
            line += f", {_rate(grade['at_least'])} at least"
        line += f", {_rate(grade['votes'])} of votes"
        if (told := grade["subjects"]["weighted"]) is not None:
            line += f"; weighted {_percent(told)}"
        lines.append(line)
    return lines + [f"  {note}" for note in purity["notes"]]


def _number(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return str(told["note"])
    span = "" if told["low"] is None else f" [{told['low']:.2f}, {told['high']:.2f}]"
    return f"{told['value']:.2f}{span}" + (f" ({told['note']})" if told["note"] else "")


def _coefficient(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return str(told["note"])
    beside = f"prevalence {_rate(told['prevalence'])}, positive agreement {_rate(told['positive_agreement'])}"
    return f"{_number(told)} of {counted(told['n'], 'subject')}; {beside}"


def _rate(told: dict[str, Any]) -> str:
    if not told["n"]:
        return str(told["note"]) or "0 of 0"
    return f"{round(told['k'], 1):,} of {round(told['n'], 1):,} ({_percent(told)})"


def _percent(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return str(told["note"])
    span = "" if told["low"] is None else f" [{100 * told['low']:.0f}, {100 * told['high']:.0f}]"
    return f"{100 * told['value']:.0f} %{span}"
