"""What the page of volunteers asks: how votes are spread, who cast them, what fewer would have done, who disagrees.

Everything is made of one `Volunteers`: its counted columns (row-aligned with the subjects), its people, its votes.
Callable from a script; thread-safe. Every rate comes with its k, its n and a 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from explorer.caches import Cache
from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.state import Selection
from explorer.votes import CLASSIFICATIONS, OWN_WORKFLOW
from models.mixing import Mode
from models.rates import wilson
from models.retirement import Rate, Recorded, Replay, cascade, difference, limits, recorded, thresholds
from models.swap import Settings
from models.tagging import median

if TYPE_CHECKING:
    from explorer.services.volunteers import Volunteers

#: Settings that the page shows and changes.
SWITCHED = (
    "weights", "threshold", "experienced_weight", "live_only", "leave_out_gold", "leave_out_repeats",
    "leave_out_anonymous", "leave_out_open_links",
)  # fmt: skip
#: Setting → the reason that `Volunteers.left_out` has for it, and what a person may want to know.
SWITCHES = {
    "live_only": ("cast before the project's launch", "Votes from before the project was live"),
    "leave_out_gold": ("gold-standard answers", "Answers that experts gave on purpose"),
    "leave_out_repeats": ("subject seen before, or workflow finished", "The volunteer had seen the subject already"),
    "leave_out_anonymous": ("anonymous sessions", "Sessions that nobody logged into"),
    "leave_out_open_links": ("came by an open link", "Votes of our own page by a link that anyone may have"),
}
#: Questions offered at most.
MOST_QUESTIONS = 400
#: Bars of a histogram of chosen fractions: (0, .05], … (.95, 1]; those never chosen are a bar of their own.
N_BARS = 20
#: Cells of the picture of weighted − unweighted fractions: fractions, differences.
DIFFERENCE_CELLS = (40, 41)
#: Cells of the picture of machine score and chosen fraction along the score's axis, and subjects it needs at its end.
SCORE_CELLS = 36
#: Fixed limits replayed at most, and subjects of each known answer that can teach.
MOST_LIMITS, FEWEST_GOLD = 40, 5
#: Volunteers drawn at most, and listed at most.
DRAWN, LISTED = 4000, 100
#: Pictures shown of a quadrant.
SHOWN = 8


# ------------------------------------------------------------------------------------------------ pure functions
def rate(k: int, n: int) -> dict[str, Any]:
    """A share as the page shows it: k, n and Wilson's interval."""
    low, high = wilson(k, n)
    return {"k": int(k), "n": int(n), "low": float(low), "high": float(high)}


def bars(fractions: np.ndarray) -> dict[str, Any]:
    """How chosen fractions are spread.

    Parameters
    ----------
    fractions
        float (S,) in 0 … 1; NaN where nobody voted, and left out.

    Returns
    -------
    dict
        ``n``, ``never`` (fraction 0), ``bins`` (int (N_BARS,), right-closed) and ``quartiles`` (None for n = 0).
    """
    known = fractions[np.isfinite(fractions)].astype(np.float64)
    some = known[known > 0]
    # a fraction is k / n in single precision: 0.15 is in (.10, .15] whichever way it was rounded
    at = np.clip(np.ceil(some * N_BARS - 1e-5).astype(np.int64) - 1, 0, N_BARS - 1)
    return {
        "n": len(known),
        "never": len(known) - len(some),
        "bins": np.bincount(at, minlength=N_BARS),
        "quartiles": np.percentile(known, (25, 50, 75)).tolist() if len(known) else None,
    }


def differences(fractions: np.ndarray, weighted: np.ndarray, n_effective: np.ndarray) -> dict[str, Any] | None:
    """Weighted − unweighted chosen fraction over the unweighted: the study's supplementary figure.

    Parameters
    ----------
    fractions, weighted, n_effective
        float (S,); NaN where unknown. n_effective = (Σw)² / Σw².

    Returns
    -------
    dict or None
        None where no subject has both. ``cells`` int (differences, fractions) and ``effective`` (median n_effective of
        each column of fractions), ``reach`` (the picture covers −reach … reach), how many are raised, lowered, same.
    """
    known = np.isfinite(fractions) & np.isfinite(weighted)
    if not known.any():
        return None
    x, apart = fractions[known].astype(np.float64), (weighted[known] - fractions[known]).astype(np.float64)
    apart[np.abs(apart) < 1e-6] = 0  # both are sums of single precision
    furthest = float(np.abs(apart).max())
    reach = max(0.02, math.ceil(furthest * 50) / 50)
    across, up = DIFFERENCE_CELLS
    column = np.clip((x * across).astype(np.int64), 0, across - 1)
    line = np.clip(np.rint((apart / reach + 1) / 2 * (up - 1)).astype(np.int64), 0, up - 1)
    cells = np.bincount(line * across + column, minlength=across * up).reshape(up, across)
    effective = n_effective[known]
    n = len(x)
    return {
        "n": n,
        "cells": cells,
        "reach": reach,
        "furthest": furthest,
        "raised": rate(int((apart > 0).sum()), n),
        "lowered": rate(int((apart < 0).sum()), n),
        "mean": float(apart.mean()),
        "effective": np.nanpercentile(effective, (25, 50, 75)).tolist() if np.isfinite(effective).any() else None,
    }


def cumulative(contribution: np.ndarray, n_points: int = 120) -> list[tuple[float, float]]:
    """Share of a total that the most giving share of people gives: (people, total), each 0 … 1, from (0, 0) to (1, 1).

    [] where nobody gives anything.
    """
    given = np.sort(np.where(np.isfinite(contribution), contribution, 0).clip(0))[::-1].astype(np.float64)
    total = given.sum()
    if not total > 0:
        return []
    shares = np.concatenate([[0.0], np.cumsum(given) / total])
    at = np.unique(np.rint(np.geomspace(1, len(given) + 1, n_points)).astype(np.int64) - 1)
    return [(float(k / len(given)), float(shares[k])) for k in at]


def fewest(contribution: np.ndarray, share: float = 0.5) -> dict[str, Any] | None:
    """The fewest volunteers who together give this share of a total: k of n. None where nobody gives anything."""
    given = np.sort(np.where(np.isfinite(contribution), contribution, 0).clip(0))[::-1].astype(np.float64)
    total = given.sum()
    if not total > 0:
        return None
    return {"k": int(np.searchsorted(np.cumsum(given), share * total - 1e-9 * total)) + 1, "n": len(given)}


def percentiles(score: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of the known scores among some rows that are below each, 0 … 1: float (N,), NaN outside.

    Equal scores share the lowest standing, so that "≥ 99 %" never holds more than 1 % and ties.
    """
    found = np.full(len(score), np.nan)
    known = among & np.isfinite(score)
    values = score[known]
    found[known] = np.searchsorted(np.sort(values), values, side="left") / max(1, len(values))
    return found


@dataclass(frozen=True)
class Cut:
    """Where "high" begins.

    Attributes
    ----------
    percentile
        Of the machine score among subjects with votes and a score, 0 … 100.
    fraction
        Chosen fraction, 0 … 1.
    """

    percentile: float = 90.0
    fraction: float = 0.5


@dataclass(frozen=True)
class Quadrants:
    """Subjects by what machine and crowd say: masks bool (N,) by name, and the order in which they are shown."""

    masks: dict[str, np.ndarray]
    order: dict[str, np.ndarray]
    n: int

    def rows(self, name: str) -> np.ndarray:
        """The rows of a quadrant, the most telling first; of equals the first row first."""
        rows = np.flatnonzero(self.masks[name])
        return rows[np.argsort(-self.order[name][rows], kind="stable")]


#: Name, title and question of each quadrant; "rest" is counted only.
QUADRANTS = {
    "rejected": ("High score, low fraction", "What did the crowd reject?"),
    "missed": ("Low score, high fraction", "What did the machine miss?"),
    "tagged": ("Tagged, low fraction", "What did few see?"),
    "both": ("High score, high fraction", "What do both find?"),
    "rest": ("Low score, low fraction", ""),
}


def quadrants(score: np.ndarray, fraction: np.ndarray, n_tags: np.ndarray, cut: Cut) -> Quadrants:
    """Cut subjects by machine score and chosen fraction.

    Parameters
    ----------
    score, fraction
        float (N,); NaN where unknown. A subject without either is in no quadrant, but one without a score may be
        "tagged".
    n_tags
        Tags of each subject (N,); NaN counts as none.
    """
    voted = np.isfinite(fraction)
    standing = percentiles(score, voted)
    placed = np.isfinite(standing)
    with np.errstate(invalid="ignore"):
        high_score, high = standing >= cut.percentile / 100 - 1e-12, fraction >= cut.fraction - 1e-6
    tags = np.nan_to_num(n_tags)
    masks = {
        "rejected": placed & high_score & ~high,
        "missed": placed & ~high_score & high,
        "tagged": voted & ~high & (tags > 0),
        "both": placed & high_score & high,
        "rest": placed & ~high_score & ~high,
    }
    size = np.nan_to_num(score, nan=-np.inf)
    order = {"rejected": size, "missed": np.nan_to_num(fraction), "tagged": tags, "both": size, "rest": size}
    return Quadrants(masks, order, int(placed.sum()))


@dataclass(frozen=True)
class Replayed:
    """Votes that are few enough to be replayed while a slider moves.

    Attributes
    ----------
    votes
        Of the subjects in `rows` alone: its subject i is row ``rows[i]``.
    rows
        int64 (n_subjects,), ascending.
    gold
        int8 (n_subjects,): 1, 0, −1 unknown.
    trains
        bool (n_subjects,): the random half of gold that teaches SWAP; none where gold is of one kind or rare.
    orders
        Random orders that are taken; None where votes are in the order of time.
    against
        What agreement is measured with, in words.
    n_left_out
        Subjects with votes that are not replayed, drawn at random.
    """

    votes: Recorded
    rows: np.ndarray
    gold: np.ndarray
    trains: np.ndarray
    orders: int | None
    against: str
    n_left_out: int


def replayed(votes: Recorded, gold: np.ndarray, is_timed: bool, most_votes: int = 200_000, seed: int = 0) -> Replayed:
    """Choose what is replayed: whole subjects, at random, of about `most_votes` votes.

    Parameters
    ----------
    gold
        int8 (N,): 1, 0, −1 unknown.
    """
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(votes.n_votes)
    n_all, share = len(rows), most_votes / max(1, len(votes.label))
    if share < 1:
        rows = np.sort(random.choice(rows, max(1, int(share * n_all)), replace=False))
    code = np.full(votes.n_subjects, -1, np.int32)
    code[rows] = np.arange(len(rows))
    is_in = code[votes.subject] >= 0
    few = Recorded(
        code[votes.subject[is_in]], votes.volunteer[is_in], votes.label[is_in], len(rows), votes.n_volunteers, 2
    )
    known = gold[rows]
    trains = np.zeros(len(rows), np.bool_)
    for kind in (0, 1):
        of_kind = np.flatnonzero(known == kind)
        trains[random.permutation(of_kind)[: len(of_kind) // 2]] = True
    if min((known == 1).sum(), (known == 0).sum()) < FEWEST_GOLD:
        trains[:] = False
    has_gold = (known >= 0).sum() >= 2 * FEWEST_GOLD
    orders = None if is_timed else int(np.clip(most_votes // max(1, len(few.label)), 3, 40))
    against = "known answers" if has_gold else "the unused votes"
    return Replayed(few, rows, known, trains, orders, against, n_all - len(rows))


def _base_rate(what: Replayed) -> float:
    """Share of yes among the known answers that teach; without them, among the votes."""
    known = what.gold[what.trains] if what.trains.any() else what.votes.label
    return float(known.mean()) if len(known) else 0.5


def _told(replay: Replay, what: Replayed, plain: Replay | None = None) -> dict[str, Any]:
    """A replay as the page shows it; recorded votes are those of the subjects that it is of.

    ``gain``: its agreement with known answers less that of `plain`, on the subjects that both judge.
    """
    gain = difference(replay, plain) if plain is not None else (math.nan,) * 3
    agreement = replay.gold if what.against == "known answers" else replay.unused
    recorded_votes = int(what.votes.n_votes[~np.isnan(replay.used)].sum())
    return {
        "rule": replay.rule,
        "spent": replay.spent,
        "recorded": recorded_votes,
        "saved": _of(replay.saved),
        "early": _of(replay.early),
        "agreement": _of(agreement),
        "gain": None if math.isnan(gain[0]) else dict(zip(("value", "low", "high"), gain, strict=True)),
        "n_subjects": replay.n_subjects,
        "orders": replay.n_orders,
        "n_cut_short": replay.n_cut_short,
    }


def _of(found: Rate) -> dict[str, float] | None:
    """None where there is nothing to take a share of."""
    if not found.n > 0 or not math.isfinite(found.low):
        return None
    return {"k": found.k, "n": found.n, "share": found.value, "low": found.low, "high": found.high}


# --------------------------------------------------------------------------------------------------- the service
@dataclass(frozen=True)
class Machine:
    """Which machine score is meant: a reference as `Explore.values` takes it, and whose; none without a reference."""

    reference: str = ""
    run_id: str = ""
    lambda_: float = 0.2
    mode: Mode = "raw"
    map_id: str = ""


class Crowd:
    """One per server; what it has made stays until the votes are counted anew."""

    def __init__(self, volunteers: Volunteers, explore: Explore) -> None:
        self.volunteers, self.explore = volunteers, explore
        self._made = Cache(24)
        self._replays = Cache(64)

    def _key(self, *more: object) -> tuple[object, ...]:
        return (self.volunteers.summary().get("key"), self.explore.survey.generation, *more)

    def _column(self, name: str) -> np.ndarray:
        """A counted column, float64 (N,); NaN throughout where it was not counted."""
        survey, ours = self.explore.survey, set(self.explore.survey.columns_of_crowd())
        for known in (f"volunteers_{name}", name):
            if known in ours:
                return survey.column(known)
        return np.full(survey.n, np.nan)

    def _fraction(self) -> np.ndarray:
        if not self.volunteers.summary().get("task"):
            raise UsageError("there are no votes yet; voorwerp ingest SURVEY FILE… reads those that you have")
        return self._column("chosen_fraction")

    def overview(self) -> dict[str, Any]:
        """Which votes are counted, and how: what stands on top of the page."""
        told, settings = self.volunteers.summary(), self.volunteers.settings
        if not told.get("task"):
            return {"state": "none", "is_simulated": False}
        has_votes = told.get("weights") is not None
        chosen = (told["workflow_id"], told["task"], told["answer"])
        return {
            "state": "votes" if has_votes else "totals",
            "is_simulated": bool(told["is_simulated"]),
            "settings": {name: getattr(settings, name) for name in SWITCHED} | {"basis": told["basis"]},
            "questions": self._made.get(self._key("questions"), lambda: self._questions(chosen)),
            "n": {
                "votes": told["n_votes"],
                "volunteers": told["n_volunteers"],
                "subjects": told["n_subjects"],
                "survey": self.explore.survey.n,
                "unknown": told["n_unknown"],
            },
            "left_out": self._left_out(told) if has_votes else [],
            "why_not": self._made.get(self._key("weights"), self._why_not) if has_votes else {},
            "skill_from": told.get("skill_from", ""),
        }

    def _questions(self, chosen: tuple[int, str, str]) -> list[dict[str, Any]]:
        return [
            {
                "workflow_id": q.workflow_id,
                "task": q.task,
                "answer": q.answer,
                "title": q.title,
                "chosen": (q.workflow_id, q.task, q.answer) == chosen,
            }
            for q in self.volunteers.questions()[:MOST_QUESTIONS]
        ]

    def _left_out(self, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Reasons to leave votes out: those that hold some, and those that are switched off and could hold some."""
        settings, left_out, found = self.volunteers.settings, dict(told.get("left_out", {})), []
        could = {
            "leave_out_anonymous": self._made.get(self._key("anonymous"), self._has_anonymous),
            "leave_out_open_links": told["workflow_id"] == OWN_WORKFLOW,
        }
        for name, (reason, title) in SWITCHES.items():
            is_out, n = bool(getattr(settings, name)), left_out.pop(reason, 0)
            if n or (not is_out and could.get(name, True)):
                found.append({"name": name, "reason": reason, "title": title, "n": n if is_out else None})
        return found + [{"name": "", "reason": reason, "title": "", "n": n} for reason, n in left_out.items()]

    def _has_anonymous(self) -> bool:
        return bool(np.asarray(self.volunteers.people().get("is_anonymous", ()), np.bool_).any())

    def _why_not(self) -> dict[str, str]:
        """Weights that mean nothing here, and why."""
        elsewhere = np.asarray(self.volunteers.people().get("n_elsewhere", ()), np.float64)
        if np.isfinite(elsewhere).any():
            return {}
        return dict.fromkeys(("experience", "log"), "experience unknown")

    # ------------------------------------------------------------------------------------------- chosen fraction
    def fractions(self, grouping: str = "tag_group") -> dict[str, Any]:
        """How chosen fractions are spread: over all subjects, and over those of each tag group.

        Parameters
        ----------
        grouping
            ``tag_group`` (the corrected map) or ``tag_group_study``.
        """
        return self._made.get(self._key("fractions", grouping), lambda: self._fractions(grouping))

    def _fractions(self, grouping: str) -> dict[str, Any]:
        fraction = self._fraction()
        weighted, n_effective = self._column("weighted_chosen_fraction"), self._column("n_effective")
        return {
            "all": bars(fraction),
            "groups": self._groups(fraction, grouping == "tag_group_study"),
            "difference": differences(fraction, weighted, n_effective),
        }

    def _groups(self, fraction: np.ndarray, is_study: bool) -> list[dict[str, Any]]:
        """Each tag group: how its subjects' fractions are spread, and the median's interval by resampling taggers."""
        talk, found = self.volunteers.talk, []
        for group in talk.groups(is_study):
            rows, taggers = talk.taggings(group.name, is_study)
            told, figure = bars(fraction[np.unique(rows)]), median(fraction, rows, taggers)
            told |= {"group": group.name, "n_tagged": group.n_subjects, "n_taggers": group.n_taggers}
            told |= {name: _plain(getattr(figure, name)) for name in ("low", "high", "n_by_one")}
            found.append(told)
        return found

    # --------------------------------------------------------------------------------------------------- people
    def people(self) -> dict[str, Any] | None:
        """Who voted: points to draw, the share that the most giving give, the first of the list.

        The list begins with the largest contribution; where nobody's is positive (every subject's answer is known, or
        nobody has a skill), with who saw most subjects. None where single votes are not known. Volunteers are hashes;
        nobody's name is in the survey.
        """
        return self._made.get(self._key("people"), self._people)

    def _people(self) -> dict[str, Any] | None:
        people = self.volunteers.people()
        n = len(people.get("volunteer", ()))
        if not n:
            return None
        numbers = {name: np.asarray(values) for name, values in people.items()}
        skill, contribution = (np.asarray(numbers[name], np.float64) for name in ("skill", "contribution"))
        n_classifications, n_subjects = (
            np.asarray(numbers[name], np.int64) for name in ("n_classifications", "n_subjects")
        )
        n_contributing = int((np.nan_to_num(contribution) > 0).sum())
        given = np.where(np.isfinite(contribution), contribution, -1) if n_contributing else n_subjects
        order = np.lexsort((np.arange(n), -n_classifications, -given))
        drawn = order
        if n > DRAWN:  # the first of the list, and every so many of the rest: the same at every call
            rest = order[DRAWN // 2 :]
            drawn = np.concatenate([order[: DRAWN // 2], rest[:: math.ceil(len(rest) / (DRAWN // 2))]])
        anonymous = np.asarray(numbers["is_anonymous"], bool)
        return {
            "n": n,
            "n_anonymous": int(anonymous.sum()),
            "n_classifications": int(n_classifications.sum()),
            "n_contributing": n_contributing,
            "n_skilled": int(np.isfinite(skill).sum()),
            "n_seen_gold": int((np.asarray(numbers["n_gold"]) > 0).sum()),
            "points": {
                "skill": _brief(skill[drawn]),
                "contribution": _brief(contribution[drawn]),
                "n_classifications": n_classifications[drawn].tolist(),
                "n_subjects": n_subjects[drawn].tolist(),
                "anonymous": anonymous[drawn].tolist(),
            },
            "curves": {"contribution": cumulative(contribution), "classifications": cumulative(n_classifications)},
            "half": {"contribution": fewest(contribution), "classifications": fewest(n_classifications)},
            "list": [
                {
                    name: _plain(numbers[name][i])
                    for name in (
                        "volunteer", "n_classifications", "n_subjects", "n_gold", "n_elsewhere", "p_chosen", "p_passed",
                        "skill", "contribution", "is_anonymous",
                    )
                }
                for i in order[:LISTED]
            ],
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------------ retirement
    def _replayed(self) -> Replayed | None:
        """The votes that what-ifs replay; None where single votes are not known."""

        def make() -> Replayed | None:
            votes = self.volunteers.votes()
            if votes is None or not len(votes.subject):
                return None
            answer = votes.answers.index(self.volunteers.summary()["answer"])
            return replayed(recorded(votes, answer), self.volunteers.gold(), self._is_timed())

        return self._made.get(self._key("replayed"), make)

    def _is_timed(self) -> bool:
        """Whether the time of every vote in the files is known."""
        path = self.explore.survey.path / CLASSIFICATIONS
        return not path.exists() or pq.read_table(path, columns=["created_at"]).column(0).null_count == 0

    def retirement(self) -> dict[str, Any]:
        """What can be replayed, on how many votes, and what every fixed limit would have done."""
        return self._made.get(self._key("retirement"), self._retirement)

    def _retirement(self) -> dict[str, Any]:
        what = self._replayed()
        if what is None:
            return {"why": "Only totals are known, not single votes in their order: no retirement can be replayed."}
        most = int(what.votes.n_votes.max())
        after = np.unique(np.rint(np.linspace(1, most, min(most, MOST_LIMITS))).astype(int)).tolist()
        curve = limits(what.votes, after, what.gold, orders=what.orders)
        curve = [replay for replay in curve if 2 * replay.n_subjects >= len(what.rows)]  # few reach the highest limits
        self.what_if("swap", {})  # compiled here, not under a slider
        order = "in the order they were cast" if what.orders is None else f"over {what.orders} random orders"
        part = "" if what.n_left_out == 0 else f", a random part of {what.n_left_out + len(what.rows):,} subjects"
        taught = (
            f"SWAP is taught by {int(what.trains.sum()):,} of the {int((what.gold >= 0).sum()):,} subjects of known "
            "answer; the figures are of the others."
            if what.trains.any()
            else "No answers are known: SWAP takes the crowd itself for the teacher."
        )
        return {
            "votes": len(what.votes.label),
            "subjects": int((what.votes.n_votes > 0).sum()),
            "most": most,
            "against": what.against,
            "curve": [{"limit": limit} | _told(replay, what) for limit, replay in zip(after, curve, strict=False)],
            "prior": _base_rate(what),
            "note": f"Recorded votes replayed {order}, the first of each volunteer on each subject{part}; nothing is "
            "replayed beyond what was recorded, and the line ends where half of the subjects have no more votes. "
            f"Intervals resample subjects. {taught}",
        }

    def what_if(self, rule: str, asked: Mapping[str, float], machine: Machine = Machine()) -> dict[str, Any]:
        """Replay one rule.

        Parameters
        ----------
        rule
            ``limit`` (asked: ``limit``), ``swap`` (``prior``, ``detect``, ``reject``) or ``cascade`` (``percentile``
            of the machine's score from which it says yes, ``first`` volunteers who must agree, ``limit``).

        Raises
        ------
        UsageError
            No such rule, no single votes, or a number that cannot be replayed.
        """
        what = self._replayed()
        if what is None:
            raise UsageError("only totals are known, not single votes: no retirement can be replayed")
        key = self._key("what if", rule, tuple(sorted(asked.items())), machine)
        try:
            return self._replays.get(key, lambda: self._what_if(what, rule, asked, machine))
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _what_if(self, what: Replayed, rule: str, asked: Mapping[str, float], machine: Machine) -> dict[str, Any]:
        limit = int(asked.get("limit", what.votes.n_votes.max()))
        plain = limits(what.votes, [limit], what.gold, orders=what.orders)[0]
        if rule == "limit":
            return _told(plain, what)
        if rule == "swap":
            settings = Settings(
                prior=asked.get("prior", 0.5),
                detect=asked.get("detect", 0.95),
                reject=asked.get("reject", 0.02),
                p_initial=0.5 if what.trains.any() else 0.75,
                mode="supervised" if what.trains.any() else "unsupervised",
                retires="both",
            )
            orders = what.orders and max(3, what.orders // 4)
            return _told(thresholds(what.votes, settings, what.gold, what.trains, orders=orders), what, plain)
        if rule != "cascade":
            raise UsageError(f'there is no rule "{rule}"; there are limit, swap and cascade')
        standing = percentiles(self._score(machine), np.isfinite(self._fraction()))[what.rows]
        label = np.where(np.isfinite(standing), standing >= asked.get("percentile", 90) / 100 - 1e-12, -1)
        first = int(asked.get("first", 1))
        return _told(cascade(what.votes, label, limit, first, what.gold, orders=what.orders), what, plain)

    # ------------------------------------------------------------------------------------------ machine and crowd
    def scores(self, run_id: str, map_id: str = "") -> list[dict[str, str]]:
        """Columns that can stand for the machine: the run's scores, then numbers of the survey that no vote made."""
        ours = {f"subjects.{name}" for name in self.explore.survey.columns_of_crowd()}
        offered = {
            reference: title
            for reference, title in self.explore.colors(run_id, map_id).items()
            if reference.partition(".")[0] in ("scores", "subjects")
            and reference not in ours
            and not self.explore.is_category(reference)
        }
        order = sorted(offered, key=lambda r: (not r.startswith("scores."), r != "scores.anomaly_score"))
        return [{"reference": r, "title": offered[r]} for r in order]

    def quadrants(self, machine: Machine, cut: Cut) -> Quadrants:
        """The quadrants of a machine score and the chosen fraction."""
        fraction, n_tags, score = self._fraction(), self._column("n_tags"), self._score(machine)
        return self._made.get(self._key("quadrants", machine, cut), lambda: quadrants(score, fraction, n_tags, cut))

    def _score(self, machine: Machine) -> np.ndarray:
        if not machine.reference:
            return np.full(self.explore.survey.n, np.nan)
        told = machine.run_id, machine.lambda_, machine.mode, machine.map_id
        return np.asarray(self.explore.values(machine.reference, *told), np.float64)

    def disagreement(self, machine: Machine, cut: Cut) -> dict[str, Any]:
        """Counts and first pictures of each quadrant, and the picture of both axes.

        How many of a quadrant are so beyond doubt: their fraction's whole 95 % interval is on that side of the cut.
        """
        found, n_tags = self.quadrants(machine, cut), np.nan_to_num(self._column("n_tags"))
        names = ("chosen_fraction", "chosen_low", "chosen_high", "n_chosen", "n_votes")
        fraction, low, high, k, n = (self._column(name) for name in names)
        n_tagged = int((np.isfinite(fraction) & (n_tags > 0)).sum())
        told = {}
        for name, mask in found.masks.items():
            rows = found.rows(name)[:SHOWN] if QUADRANTS[name][1] else np.zeros(0, np.int64)
            sure = low >= cut.fraction if name in ("missed", "both") else high < cut.fraction
            told[name] = rate(int(mask.sum()), n_tagged if name == "tagged" else found.n) | {
                "title": QUADRANTS[name][0],
                "question": QUADRANTS[name][1],
                "n_sure": int((mask & sure).sum()),
                "rows": rows.tolist(),
                "chosen": [[int(k[row]), int(n[row])] for row in rows],
            }
        return {"n": found.n, "quadrants": told, "picture": self._picture(machine)}

    def _picture(self, machine: Machine) -> dict[str, Any]:
        """Subjects by standing of their score (on an axis of log₁₀ 1 / (1 − standing)) and by chosen fraction."""

        def make() -> dict[str, Any]:
            fraction = self._fraction()
            standing = percentiles(self._score(machine), np.isfinite(fraction))
            placed = np.isfinite(standing)
            n = int(placed.sum())
            furthest = max(1.0, math.floor(10 * math.log10(max(n, 2) / 5)) / 10)
            at = np.minimum(-np.log10(1 - standing[placed]) / furthest, 1) * SCORE_CELLS
            f = fraction[placed].astype(np.float64)
            line = np.where(f > 0, np.clip(np.ceil(f * N_BARS - 1e-5), 1, N_BARS), 0).astype(np.int64)
            column = np.clip(at.astype(np.int64), 0, SCORE_CELLS - 1)
            cells = np.bincount(line * SCORE_CELLS + column, minlength=(N_BARS + 1) * SCORE_CELLS)
            return {"cells": cells.reshape(N_BARS + 1, SCORE_CELLS), "furthest": furthest, "n": n}

        return self._made.get(self._key("picture", machine), make)

    def region(self, machine: Machine, cut: Cut, quadrant: str) -> Selection:
        """The subjects of a quadrant.

        Raises
        ------
        UsageError
            No such quadrant.
        """
        if quadrant not in QUADRANTS:
            raise UsageError(f'there is no quadrant "{quadrant}"; there are {", ".join(QUADRANTS)}')
        mask = self.quadrants(machine, cut).masks[quadrant]
        region = Selection.of_rows(np.flatnonzero(mask), self.explore.survey.n)
        region.title = QUADRANTS[quadrant][0].lower()
        return region


def _plain(value: Any) -> Any:
    """A cell for JSON: None where missing."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _brief(values: np.ndarray) -> list[float | None]:
    """Four digits of each; None where missing."""
    return [None if not math.isfinite(v) else float(f"{v:.4g}") for v in np.asarray(values, np.float64)]
