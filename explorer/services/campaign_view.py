"""Campaigns of experts as the screen has them: how far they are, what was found, disputed and confirmed, and by whom.

Everything is JSON. Whoever grades a blind, open campaign and is not through with it is told how far everybody is, and
none of their grades; an owner is told everything, for somebody must be.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pandas as pd

from explorer.caches import Cache
from explorer.errors import AccessError, UsageError
from explorer.people import Person
from explorer.services import candidates
from explorer.services.boundaries import Context
from explorer.services.campaigns import ORDERS, Campaign, Plan
from explorer.services.clusters import runs_with_clusters
from explorer.services.cost import Costs
from explorer.services.explore import Plane
from explorer.services.vetting import OUTCOME, OUTCOMES, effort_words
from explorer.state import Selection
from explorer.survey import counted
from models.grades import CANNOT_JUDGE, RULES, SCHEMES, GradeError, Scheme
from models.ranking import STRATEGIES
from models.rates import share

if TYPE_CHECKING:
    from explorer.services.desk import Desk

#: Subjects that the table of outcomes lists, those of the adjudication queue, pictures beside a grade, and a sample's.
LISTED, QUEUED, PICTURES, SAMPLE = 2000, 300, 8, 12
#: Kinds of the ledger's entries that change what is said here.
KINDS = ("vote", "campaign", "outcome", "undo")
HIDDEN = (
    "This campaign is blind: what others say is shown here once you have graded all of yours, or when it is closed."
)
#: Roles that count.
COUNTED = ("subject", "audit")
#: How a vote came that was given with others' in sight, or elsewhere.
ADJUDICATION = "adjudication"
#: Subjects that a later outcome is given to at once.
MOST_AT_ONCE = 5000


@dataclass(frozen=True)
class _Read:
    """A campaign's votes as they stood at one moment; `n_votes` that were asked for, of each subject as many as it was
    to have."""

    campaign: Campaign
    votes: pd.DataFrame
    outcomes: pd.DataFrame
    n_votes: int
    mark: str


class CampaignView:
    """What the sheet of campaigns asks for, and what it decides. Thread-safe."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.explore, self.survey = desk, desk.explore, desk.explore.survey
        self.campaigns, self.vetting, self.agreed = desk.campaigns, desk.vetting, desk.agreed
        self.costs = Costs(desk.ledger)
        self._reads, self._purities = Cache(32), Cache(64)
        self._reading, self._last = threading.Lock(), 0

    # ----------------------------------------------------------------------------------------------------- reading
    @property
    def stamp(self) -> int:
        """The last entry that matters here: as long as it is the same, nothing has changed."""
        with self._reading:
            fresh = self.desk.ledger.entries(KINDS, since=self._last, include_undone=True)
            if fresh:
                self._last = fresh[-1].id
            return self._last

    def _far(self, campaign: Campaign) -> tuple[int, str]:
        """Votes that were asked for and are given, and a mark that changes with whatever is said of the campaign."""
        n_votes, mark = self.vetting.progress(campaign.id)
        mark += f"-{len(campaign.batches)}-{campaign.is_open:d}"
        return int(np.minimum(n_votes, campaign.plan.graders).sum()), mark

    def _of(self, campaign: Campaign) -> _Read:
        n_votes, mark = self._far(campaign)

        def read() -> _Read:
            votes = self.vetting.votes(campaign.id)
            rows, keys = self.agreed.grades(campaign.id)
            grades = pd.Series(keys, index=rows)
            outcomes = self.vetting.outcomes(campaign.id)
            outcomes["grade"] = grades.reindex(outcomes.row.to_numpy()).fillna("").to_numpy(object)
            return _Read(campaign, votes, outcomes, n_votes, mark)

        found: _Read = self._reads.get((campaign.id, mark), read)
        return found

    @staticmethod
    def _own(votes: pd.DataFrame) -> pd.DataFrame:
        """Votes given independently on what counts: no repeats, no known objects, no adjudication."""
        return votes[votes.role.isin(COUNTED) & (votes.via != ADJUDICATION)]

    def hidden(self, campaign: Campaign, person: Person) -> str:
        """Why a person is not told what others said; "" where they are."""
        if person.may("owner") or not campaign.plan.is_blind or not campaign.is_open or not person.may("vetter"):
            return ""
        standing = self.vetting.standing(campaign.id, person.name)
        return HIDDEN if standing["n_done"] < standing["n_all"] else ""

    def _must_tell(self, campaign: Campaign, person: Person) -> None:
        if said := self.hidden(campaign, person):
            raise AccessError(said)

    # -------------------------------------------------------------------------------------------------------- list
    def overview(self, person: Person) -> dict[str, Any]:
        """Every campaign in a line, and what a form for a new one is made of."""
        boundaries = self.desk.boundaries
        cost = self.costs.of()
        saved = [boundaries.get(name) for name in boundaries.names()]
        return {
            "person": {"name": person.name, "may_make": person.may("owner"), "may_vote": person.may("vetter")},
            "campaigns": [self._line(campaign, person) for campaign in reversed(self.campaigns.listed())],
            "schemes": {name: scheme.to_json() for name, scheme in SCHEMES.items()},
            "rules": dict(RULES),
            "strategies": dict(STRATEGIES),
            "clusters": self._clusters(),
            "kept": [{"name": kept.name, "n": kept.n} for kept in self.desk.notes.kept()],
            "boundaries": [{"name": b.name, "version": b.version} for b in saved],
            "columns": [
                [c.name, c.name.replace("_", " ")]
                for c in self.survey.columns()
                if c.dtype in ("number", "category") and not c.name.startswith("grade_")
            ],
            "cost": {"seconds": cost.seconds, "measured": cost.measured, "n": cost.n},
            "has_images": self.survey.has_images,
        }

    def _clusters(self) -> list[dict[str, Any]]:
        """Runs whose clusters a campaign can be graded by, newest first."""
        return [{"run": run.run_id, "title": f"{run.run_id}, {run.kind}"} for run in runs_with_clusters(self.survey)]

    def _line(self, campaign: Campaign, person: Person) -> dict[str, Any]:
        n_votes, mark = self._far(campaign)
        mine = self.vetting.standing(campaign.id, person.name) if person.may("vetter") else None
        return {
            "id": campaign.id,
            "name": campaign.plan.name,
            "is_open": campaign.is_open,
            "who": campaign.who,
            "at": campaign.at,
            "of": str(campaign.source.get("region") or "a selection"),
            "n_votes": n_votes,
            "n_wanted": campaign.n_real * campaign.plan.graders,
            "mine": mine and {"n_done": mine["n_done"], "n_all": mine["n_all"]},
            "last": mark,
        }

    # ---------------------------------------------------------------------------------------------------- one of them
    def detail(self, campaign_id: str, person: Person) -> dict[str, Any]:
        """A campaign: what it is of, who has graded how much, purity by grade, and every outcome."""
        campaign = self.campaigns.get(campaign_id)
        read, hidden = self._of(campaign), self.hidden(campaign, person)
        plan, scheme = campaign.plan, campaign.plan.scheme
        told: dict[str, Any] = {
            "id": campaign.id,
            "name": plan.name,
            "is_open": campaign.is_open,
            "about": self._about(campaign),
            "scheme": scheme.to_json(),
            "graders": plan.graders,
            "hidden": hidden,
            "has_images": self.survey.has_images,
            "of": str(campaign.source.get("region") or "a selection"),
            "last": read.mark,
            "counts": {"n": len(campaign.rows), "n_audit": len(campaign.audit), "n_votes": read.n_votes},
            "people": self._people(read, person),
            "mine": None,
            "takes": self._takes(campaign, person),
        }
        if person.may("vetter"):
            standing = self.vetting.standing(campaign.id, person.name)
            told["mine"] = {"n_done": standing["n_done"], "n_all": standing["n_all"]}
        if hidden:
            return told
        self.vetting.tell_all(campaign.id, person.name)
        return told | self._results(read)

    def _takes(self, campaign: Campaign, person: Person) -> dict[str, bool] | None:
        """Whether they may have its candidates as a file, and send them to the programs of this desktop."""
        try:
            candidates.allow(self.desk, campaign, person)
        except AccessError:
            return None
        return {"samp": self.desk.samp is not None and person.may("vetter")}

    def _about(self, campaign: Campaign) -> list[str]:
        plan, source = campaign.plan, campaign.source
        n, of = len(campaign.rows), source.get("region") or "a selection"
        n_source = int(source.get("n_source") or n)
        drawn = f"{counted(n, 'subject')} drawn from {n_source:,} of {of}" if n < n_source else f"{n:,} of {of}"
        words = [drawn, f"graded {plan.scheme.name}, {counted(plan.graders, 'grader')} each"]
        words.append("blind" if plan.is_blind else "not blind")
        order = ORDERS[plan.order].partition(",")[0]
        if campaign.clusters is not None:
            order = f"by the clusters of {campaign.clusters.run_id}, those far from what is labelled first"
            order += " (simulated labels)" if campaign.clusters.is_simulated else ""
        words.append(order)
        if len(campaign.audit):
            words.append(f"{counted(len(campaign.audit), 'audit draw')} from {campaign.n_outside:,} others")
        if mixed := len(campaign.known) + len(campaign.duds):
            words.append(f"{mixed:,} known objects and duds mixed in")
        words.append(f"found where {rule_words(plan)}")
        return words

    def _people(self, read: _Read, person: Person) -> list[dict[str, Any]]:
        own = read.votes[read.votes.via != ADJUDICATION]
        found = []
        for who, given in own.groupby("who", sort=True):
            standing = self.vetting.standing(read.campaign.id, str(who))
            looks = given.seconds.dropna()
            found.append(
                {
                    "who": str(who),
                    "n_done": standing["n_done"],
                    "n_all": standing["n_all"],
                    "seconds": float(looks.median()) if len(looks) else None,
                    "total": float(looks.sum()),
                    "is_me": who == person.name,
                }
            )
        return sorted(found, key=lambda p: -p["n_done"])

    def _results(self, read: _Read) -> dict[str, Any]:
        campaign, outcomes = read.campaign, read.outcomes
        scheme, told = campaign.plan.scheme, self.agreed.purity(campaign.id)
        purity = told["purity"]
        main = outcomes[outcomes.role == "subject"]
        looked = main[(main.n_votes + main.n_cannot) > 0]
        cannot, interesting = looked[looked.n_cannot > 0], looked[looked.n_interesting > 0]
        by_key = {one["grade"]: one["subjects"] for one in purity["grades"]}
        by_grade = [
            asdict(grade) | by_key[grade.key] | {"rows": main.row[main.grade == grade.key].head(PICTURES).tolist()}
            for grade in scheme.grades
        ]
        return {
            "found": purity["found"] | {"words": positive_words(scheme), "by": self._by(read)},
            "grades": by_grade,
            "cannot": share(len(cannot), len(looked)).to_json() | {"rows": cannot.row.head(PICTURES).tolist()},
            "interesting": share(len(interesting), len(looked)).to_json()
            | {"rows": interesting.row.head(PICTURES).tolist()},
            "which": self._which(read),
            "facts": self._facts(read),
            "note": self._note(read, [*self._so_far(read), *purity["notes"], *self._effort(campaign)]),
            "apart": self._apart(read),
            "subjects": self._subjects(read),
            "against": told["against_outcomes"]["precision"],
        }

    def _by(self, read: _Read) -> str:
        return counted(int(self._own(read.votes).who.nunique()), "grader")

    def _which(self, read: _Read) -> dict[str, int]:
        """How many each name of `rows` holds."""
        return {
            name: len(self._named(read, name))
            for name in ("all", "found", "disputed", "interesting", "cannot", "audit", "adjudicated", *OUTCOMES[:2])
        } | {"to_adjudicate": len(self.agreed.disputed(read.campaign.id))}

    def _facts(self, read: _Read) -> list[list[Any]]:
        """Name, value, which subjects these are, a word beside it."""
        campaign, outcomes = read.campaign, read.outcomes
        counting = outcomes[outcomes.role.isin(COUNTED)]
        n, m = campaign.n_real, campaign.plan.graders
        done = int(((counting.n_votes + counting.n_cannot) >= m).sum())
        facts: list[list[Any]] = [[f"with all {m} grades" if m > 1 else "graded", f"{done:,} of {n:,}"]]
        facts.append(["disputed", f"{len(self._named(read, 'disputed')):,}", "disputed"])
        if k := len(self._named(read, "adjudicated")):
            facts.append(["adjudicated", f"{k:,}", "adjudicated"])
        if len(campaign.audit):
            audit = outcomes[(outcomes.role == "audit") & outcomes.value.notna()]
            k = int(audit.is_found.sum())
            facts.append(["found in audit draws", f"{k:,} of {len(audit):,}" if len(audit) else "–", "audit"])
        later = {name: len(self._named(read, name)) for name in OUTCOMES[:2]}
        return facts + [[f"later {name}", f"{k:,}", name] for name, k in later.items() if k]

    @staticmethod
    def _so_far(read: _Read) -> list[str]:
        """How many of those graded have all their grades, as long as some have not."""
        outcomes, m = read.outcomes[read.outcomes.role == "subject"], read.campaign.plan.graders
        looks = outcomes.n_votes + outcomes.n_cannot
        n, k = int((looks > 0).sum()), int((looks >= m).sum())
        return [] if k == n else [f"{k:,} of the {n:,} graded have all {m} grades so far, and the others may change"]

    def _effort(self, campaign: Campaign) -> list[str]:
        """What grids saved, as soon as there are any."""
        told = self.vetting.effort(campaign.id) if campaign.clusters is not None else {"n": 0}
        return [f"grids: {effort_words(told)}"] if told["n"] else []

    def _apart(self, read: _Read) -> str:
        """What is disputed, and what is to be adjudicated: not the same; "" where there is neither."""
        n, k = len(self._named(read, "disputed")), len(self.agreed.disputed(read.campaign.id))
        if not n and not k:
            return ""
        limit = limit_words(read.campaign.plan.scheme)
        return (
            f"Disputed: grades on both sides of the limit ({limit}), {n:,}. Adjudication: all whose grades differ and "
            f"are not decided yet, {k:,}."
        )

    def _note(self, read: _Read, notes: Sequence[str]) -> str:
        source, words = read.campaign.source, list(notes)
        if (source.get("inclusion") or 1.0) < 1 and len(read.votes):
            of = source.get("region") or "the selection"
            words.append(f"drawn at random, so these are shares of all {int(source['n_source']):,} of {of}, too")
        text = "; ".join(words)
        return text[:1].upper() + text[1:] + ("." if text else "")

    def _subjects(self, read: _Read) -> list[dict[str, Any]]:
        """Subjects that somebody graded, those of greatest value first."""
        scheme, outcomes = read.campaign.plan.scheme, read.outcomes
        seen = outcomes[outcomes.role.isin(COUNTED) & ((outcomes.n_votes + outcomes.n_cannot) > 0)]
        seen = seen.sort_values(["value", "n_interesting"], ascending=False, na_position="last").head(LISTED)
        given = self._given(read, seen.row.to_numpy())
        names = self.survey.source_ids(seen.row.to_numpy())
        return [
            {
                "row": s["row"],
                "source_id": str(name),
                "role": s["role"],
                "votes": _sorted([grade for _, grade, _ in given.get(s["row"], [])], scheme),
                "value": None if np.isnan(s["value"]) else s["value"],
                "found": s["is_found"],
                "disputed": s["is_disputed"],
                "n_interesting": s["n_interesting"],
                "n_cannot": s["n_cannot"],
                "n_grades": s["n_votes"] + s["n_cannot"],
                "adjudicated": s["adjudicated"] or None,
                "outcome": s["outcome"],
            }
            for s, name in zip(_records(seen), names, strict=True)
        ]

    def _given(self, read: _Read, rows: np.ndarray) -> dict[int, list[tuple[str, str, bool]]]:
        """Row → who, grade, interesting: of each that graded it independently, of some rows."""
        found: dict[int, list[tuple[str, str, bool]]] = {int(row): [] for row in rows}
        own = self._own(read.votes)
        own = own[np.isin(own["row"].to_numpy(), rows)]
        columns = (own[name].to_numpy(object) for name in ("row", "who", "grade", "interesting"))
        for row, who, grade, star in zip(*columns, strict=True):
            found[row].append((str(who), str(grade), bool(star)))
        return found

    # ---------------------------------------------------------------------------------------------------- selections
    def rows(self, campaign_id: str, which: str, person: Person) -> tuple[np.ndarray, str]:
        """The subjects behind a number of the sheet, and what they are in words.

        Parameters
        ----------
        which
            ``all``, ``found``, ``disputed``, ``interesting``, ``cannot``, ``audit``, ``adjudicated``, ``confirmed``,
            ``rejected``; one of them behind ``region:``, without audit draws; ``grade:KEY``; ``pair:NAME:NAME``, what
            two graders disagree on, their names percent-encoded.

        Raises
        ------
        AccessError
            It is not for this person yet.
        UsageError
            There is no such number.
        """
        campaign = self.campaigns.get(campaign_id)
        self._must_tell(campaign, person)
        self.vetting.tell_all(campaign.id, person.name)
        read, name, words = self._of(campaign), campaign.plan.name, which
        kind, _, rest = which.partition(":")
        if kind == "grade":
            words = self._grade_name(campaign, rest)
            found = read.outcomes.row[(read.outcomes.role == "subject") & (read.outcomes.grade == rest)].to_numpy()
        elif kind == "region":
            found, words = np.intersect1d(self._named(read, rest), campaign.rows), rest
        elif kind == "pair":
            names = [unquote(text) for text in rest.split(":")]
            if len(names) != 2:
                raise UsageError("a pair is of two graders")
            found, words = self.agreed.disagreement(campaign.id, *names), f"{names[0]} and {names[1]} disagree"
        else:
            found = self._named(read, which)
        return found.astype(np.int64), f"{name}: {words}"

    def _named(self, read: _Read, which: str) -> np.ndarray:
        outcomes = read.outcomes
        counting = outcomes.role.isin(COUNTED)
        graded = (outcomes.n_votes + outcomes.n_cannot) > 0
        masks = {
            "all": graded,
            "found": outcomes.is_found,
            "disputed": outcomes.is_disputed,
            "interesting": outcomes.n_interesting > 0,
            "cannot": outcomes.n_cannot > 0,
            "audit": (outcomes.role == "audit") & graded,
            "adjudicated": _has(outcomes.adjudicated),
            "confirmed": outcomes.outcome == "confirmed",
            "rejected": outcomes.outcome == "rejected",
        }
        if which not in masks:
            raise UsageError(f'a campaign has no "{which[:40]}"; there are {", ".join(masks)}')
        return outcomes.row.to_numpy()[(masks[which] & counting).to_numpy()]

    @staticmethod
    def _grade_name(campaign: Campaign, key: str) -> str:
        try:
            return f"{campaign.plan.scheme.grade(key).name} ({key})"
        except GradeError as error:
            raise UsageError(str(error)) from None

    # ----------------------------------------------------------------------------------------------------- agreement
    def agreement(self, campaign_id: str, person: Person) -> dict[str, Any]:
        """What `Agreed.report` says, where the person may know."""
        campaign = self.campaigns.get(campaign_id)
        if said := self.hidden(campaign, person):
            return {"hidden": said, "n_graders": 0, "graders": [], "pairs": []}
        report: dict[str, Any] = self.agreed.report(campaign.id)
        return report

    # -------------------------------------------------------------------------------------------------- adjudication
    def adjudication(self, campaign_id: str, person: Person) -> dict[str, Any]:
        """The most disputed first, with everybody's grades and notes."""
        campaign = self.campaigns.get(campaign_id)
        read, scheme = self._of(campaign), campaign.plan.scheme
        told: dict[str, Any] = {"scheme": scheme.to_json(), "has_images": self.survey.has_images, "items": []}
        told |= {"may_vote": person.may("vetter") and campaign.is_open, "hidden": self.hidden(campaign, person)}
        if told["hidden"]:
            return told
        self.vetting.tell_all(campaign.id, person.name)
        waiting, done = (of(campaign.id)[:QUEUED].tolist() for of in (self.agreed.disputed, self.agreed.adjudicated))
        rows = [*waiting, *done]
        given, decided = self._given(read, np.array(rows, np.int64)), self._decided(read)
        names = self.survey.source_ids(rows) if rows else []
        notes, apart = self.desk.notes, self.agreed.dispersion(campaign.id).to_dict()
        spoken_of = {entry.subject_id for entry in self.desk.ledger.entries(("note", "tag"))}
        for row, name in zip(rows, names, strict=True):
            subject_id = int(self.survey.subject_ids[row])
            said: dict[str, list[str]] = {}
            is_spoken_of = subject_id in spoken_of
            for note in notes.notes(subject_id) if is_spoken_of else ():
                said.setdefault(note.who, []).append(note.text)
            votes = sorted(given.get(row, []), key=lambda v: (-_worth(scheme, v[1]), v[0]))
            told["items"].append(
                {
                    "row": row,
                    "source_id": str(name),
                    "votes": [
                        {"who": who, "grade": grade, "interesting": star, "notes": said.get(who, [])}
                        for who, grade, star in votes
                    ],
                    "tags": [tag.tag for tag in notes.tags(subject_id)] if is_spoken_of else [],
                    "adjudicated": decided.get(row),
                    "dispersion": apart.get(row),
                }
            )
        told["can_undo"] = any(one["who"] == person.name for one in decided.values())
        return told

    @staticmethod
    def _decided(read: _Read) -> dict[int, dict[str, str]]:
        """Row → the adjudication that stands."""
        votes = read.votes[read.votes.via == ADJUDICATION].sort_values("at")
        return {vote["row"]: {"grade": vote["grade"], "who": vote["who"]} for vote in _records(votes)}

    def left(self, campaign_id: str, person: Person) -> dict[str, Any]:
        """How many are left to be found, and how many were found by how many subjects looked at."""
        campaign = self.campaigns.get(campaign_id)
        if said := self.hidden(campaign, person):
            return {"hidden": said, "curve": []}
        read, estimate = self._of(campaign), self.agreed.left(campaign.id)
        own = self._own(read.votes)
        first = own.groupby("row")["at"].min().sort_values(kind="stable")
        found = set(read.outcomes.row[read.outcomes.is_found].tolist())
        random = set(campaign.audit.tolist()).union(*(batch.random_rows.tolist() for batch in campaign.batches))
        curve, k = [], 0
        for i, row in enumerate(first.index.tolist()):
            k += row in found
            curve.append({"looks": i + 1, "found": k, "random": row in random})
        told: dict[str, Any] = {"curve": curve, "notes": self._about_left(campaign), "estimate": None}
        if n_waiting := len(self.vetting.waiting(campaign.id)):
            wait = "one subject waits" if n_waiting == 1 else f"{n_waiting:,} subjects wait"
            told["sentence"] = f"How many are left is not estimable yet: {wait} for a second look."
            told["notes"] = ["What a mosaic leaves for later is not like what it turns down: grade these, one by one."]
        elif campaign.clusters is not None and estimate is not None and estimate["n"] is None:
            told["sentence"] = estimate["sentence"]
            told["notes"] = ["Grade every audit draw, or every subject, and it can."]
        elif estimate is None or estimate["n"] is None:
            told["sentence"] = "How many are left is not estimable: nothing was drawn at random."
            told["notes"] = ["Audit draws, or an order of acquisition, would say it: both draw at random as they go."]
        else:
            told["sentence"] = estimate["sentence"]
            told["estimate"] = {"n": estimate["n"], "low": estimate["low"], "high": estimate["high"], "found": k}
        return told

    @staticmethod
    def _about_left(campaign: Campaign) -> list[str]:
        words = ["By the random draws alone, whatever the order of the others; 95 % interval."]
        if campaign.batches:
            n = len(campaign.batches)
            batches = f"{n:,} batches" if n > 1 else "one batch"
            words.append(f"{batches} so far; the last in the order of {campaign.batches[-1].model}.")
        return words

    # ------------------------------------------------------------------------------------------------------- deciding
    def source(self, asked: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """What a campaign would be of: how many, in words, and a few of them to look at."""
        rows, words, how = self._asked(asked, context)
        frame = self.survey.frame()
        rows = rows[frame[rows]]
        some = np.sort(np.random.default_rng(1234).permutation(rows)[:SAMPLE])
        chosen = how.get("selection", "")
        title = str(how.get("boundary") or (chosen if isinstance(chosen, str) else chosen.title))
        return {"n": len(rows), "words": f"{counted(len(rows), 'subject')} of {words}", "title": title, "sample": some}

    def _asked(self, asked: Mapping[str, Any], context: Context) -> tuple[np.ndarray, str, dict[str, Any]]:
        """Rows of a source, what it is in words, and how `Campaigns` is to be called."""
        if asked.get("selection"):
            selection = self.explore.selection(str(asked["selection"]))
            assert selection is not None
            words = selection.title or "the selection"
            return selection.rows(), words, {"selection": selection}
        if asked.get("kept"):
            name = str(asked["kept"])
            ids = self.desk.ledger.selection(name, self.survey.subject_ids).subject_ids
            rows = self.survey.rows_of(ids)
            return np.sort(rows[rows >= 0]), f"the selection “{name}”", {"selection": name}
        if asked.get("draft"):
            draft, drawn_in = self.desk.judge.known(str(asked["draft"]))
            if draft.name:
                saved = self.desk.boundaries.get(draft.name, draft.version)
                if saved.keep == draft.keep:
                    asked = {"boundary": draft.name, "version": draft.version}
            if "draft" in asked:
                kept = np.flatnonzero(self.desk.boundaries.kept(draft.keep, drawn_in).yes)
                selection = Selection.of_rows(kept, self.survey.n)
                selection.title = "the boundary at work" + (f", changed from “{draft.name}”" if draft.name else "")
                return kept, selection.title, {"selection": selection}
        if asked.get("boundary"):
            name, version = str(asked["boundary"]), int(asked.get("version") or 0) or None
            saved = self.desk.boundaries.get(name, version)
            kept = np.flatnonzero(self.desk.boundaries.kept(saved.keep, saved.context).yes)
            words = f"the boundary “{saved.name}”, version {saved.version}"
            return kept, words, {"boundary": saved.name, "version": saved.version}
        raise UsageError("a campaign is made of a selection or of a boundary; select something first")

    def make(self, told: Mapping[str, Any], context: Context, person: Person) -> Campaign:
        """A campaign of what a person filled in; answered when it is on the disk.

        Raises
        ------
        UsageError
            Something of it cannot be.
        """
        plan = Plan.from_json(told.get("plan") or {})
        asked, n, client_id = told.get("source") or {}, told.get("n"), told.get("client_id")
        _, _, how = self._asked(asked, context)
        if "boundary" in how:
            made = self.campaigns.of_boundary(plan, how["boundary"], how["version"], person.name, n, client_id)
        else:
            made = self.campaigns.of_selection(plan, how["selection"], person.name, n, context, client_id)
        self._pin(made, told.get("region"), person)
        return made

    def quick(self, told: Mapping[str, Any], context: Context, person: Person) -> Campaign:
        """50 random subjects of a selection for 3 graders."""
        rows, words, _ = self._asked({"selection": told.get("selection")}, context)
        made = self.campaigns.quick(rows, str(told.get("what") or words), context, person.name, told.get("client_id"))
        self._pin(made, told.get("region"), person)
        return made

    def _pin(self, campaign: Campaign, region: Any, person: Person) -> None:
        """Give a region that was drawn its name on the map; what the campaign finds stands beside it."""
        if not isinstance(region, Mapping) or self._is_pinned(campaign.id):
            return
        try:
            mode = region.get("lambda_mode", "raw")
            plane = Plane(region["map_id"], region["x"], region["y"], region["run_id"], float(region["lambda"]), mode)
            vertices = np.asarray(region["vertices"], np.float64)
            label = vertices.mean(axis=0)
        except (KeyError, TypeError, ValueError):
            raise UsageError("the region of this campaign is no outline on a map") from None
        name = campaign.plan.name[:40].strip()
        self.desk.notes.add_place(name, plane, vertices, label.tolist(), who=person.name, campaign=campaign.id)

    def _is_pinned(self, campaign_id: str) -> bool:
        return any(
            entry.payload.get("campaign") == campaign_id and not entry.undone
            for entry in self.desk.ledger.entries("place", include_undone=False)
        )

    def pinned(self) -> dict[str, str]:
        """What stands beside what a campaign grades: its id, for the name of a region on a map; ``selection:NAME``, and
        ``boundary:NAME vVERSION``, for where these are open again → words, "" for none.

        K of n that are what is looked for, with its interval; nothing before there are votes, and nothing while a blind
        campaign is not complete.
        """
        places = self.desk.ledger.entries("place")
        ids = dict.fromkeys(entry.payload["campaign"] for entry in places if entry.payload.get("campaign"))
        known = {one.id: one for one in self.campaigns.listed()}
        found = {i: self._purity(known[i]) if i in known else "" for i in ids}
        for campaign in known.values():  # of several on the same source the newest counts
            source = campaign.source
            of = f"selection:{source['selection']}" if source.get("selection") else f"boundary:{campaign.boundary_id}"
            if (source.get("selection") or source.get("boundary")) and (text := self._purity(campaign)):
                found[of] = f"{campaign.plan.name}: {text}"
        return found

    def _purity(self, campaign: Campaign) -> str:
        n_votes, mark = self._far(campaign)
        is_complete = n_votes >= campaign.n_real * campaign.plan.graders
        if not n_votes or (campaign.plan.is_blind and campaign.is_open and not is_complete):
            return ""

        def tell() -> str:
            found = self.agreed.purity(campaign.id)["purity"]["found"]
            if not found["n"]:
                return ""
            value, low, high = (round(100 * found[name]) for name in ("value", "low", "high"))
            of = f"{positive_words(campaign.plan.scheme)} {found['k']:,.0f} of {found['n']:,.0f}"
            return f"{of} ({value} % [{low}, {high}]) by {self._by(self._of(campaign))}"

        text: str = self._purities.get((campaign.id, mark), tell)
        return text

    def turn(self, told: Mapping[str, Any], person: Person) -> dict[str, Any]:
        """Close a campaign, or open it again."""
        act = self.campaigns.reopen if told.get("open") else self.campaigns.close
        made = act(str(told.get("id")), person.name, told.get("client_id"))
        return {"id": made.id, "is_open": made.is_open}

    def adjudicate(self, told: Mapping[str, Any], person: Person) -> dict[str, Any]:
        """Decide a disputed subject, or (``undo``) take this person's last decision back.

        Raises
        ------
        AccessError
            Blind, and the person has not graded their own.
        UsageError
            No such subject or grade; nothing to take back; the campaign is closed.
        """
        campaign = self.campaigns.get(str(told.get("id")))
        self._must_tell(campaign, person)
        client_id = told.get("client_id")
        if told.get("undo"):
            row = self._take_back(campaign, person, client_id)
        else:
            row = _whole(told.get("row"))
            grade, seconds = str(told.get("grade")), told.get("seconds", 0.0)
            decide = partial(self.vetting.adjudicate, campaign.id, row, grade, who=person.name)
            decide(seconds=seconds, client_id=client_id)
        decided = self._decided(self._of(campaign))
        mine = any(one["who"] == person.name for one in decided.values())
        return {"row": row, "adjudicated": decided.get(row), "can_undo": mine}

    def _take_back(self, campaign: Campaign, person: Person, client_id: str | None) -> int:
        if not campaign.is_open:
            raise UsageError(f'the campaign "{campaign.plan.name}" is closed; nothing in it can be changed')
        ledger = self.desk.ledger
        for entry in reversed(ledger.entries("vote")):
            is_it = entry.payload.get("campaign") == campaign.id and entry.payload.get("via") == ADJUDICATION
            if is_it and entry.who == person.name and entry.subject_id is not None:
                ledger.undo(entry.id, who=person.name, client_id=client_id)
                return int(self.survey.rows_of([entry.subject_id])[0])
        raise UsageError("there is no decision of yours to take back here")

    def follow_up(self, told: Mapping[str, Any], person: Person) -> dict[str, Any]:
        """Keep what became of subjects later, an entry each; or (``undo``, entries) take it back.

        Raises
        ------
        UsageError
            No such subject or outcome, or a source that is too long.
        """
        ledger = self.desk.ledger
        client = str(told.get("client_id") or uuid.uuid4())
        if entries := told.get("undo"):
            if not isinstance(entries, list) or len(entries) > MOST_AT_ONCE:
                raise UsageError("what is taken back is a list of outcomes that were kept")
            known = {entry.id: entry for entry in ledger.entries(OUTCOME)}
            for entry_id in entries:
                if entry_id in known:
                    ledger.undo(entry_id, who=person.name, client_id=_derived(client, entry_id))
            return {"n": len(entries)}
        outcome, source, rows = str(told.get("outcome")), str(told.get("source", "")), told.get("rows")
        rows = list(dict.fromkeys(_whole(row) for row in rows)) if isinstance(rows, list) else []
        if not 0 < len(rows) <= MOST_AT_ONCE or min(rows) < 0 or max(rows) >= self.survey.n:
            raise UsageError(f"an outcome is of 1 to {MOST_AT_ONCE:,} subjects of this survey")
        decide = partial(self.vetting.set_outcome, outcome=outcome, source=source, who=person.name)
        return {"n": len(rows), "entries": [decide(row, client_id=_derived(client, row)).id for row in rows]}


# ------------------------------------------------------------------------------------------------------------ figures
def positive_words(scheme: Scheme) -> str:
    """What is looked for: the names of the grades that reach the limit."""
    names = [grade.name for grade in scheme.grades if grade.value >= scheme.positive]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def limit_words(scheme: Scheme) -> str:
    """The limit, and the grade that it is: "2, probable"."""
    at = [grade.name for grade in scheme.grades if grade.value == scheme.positive]
    return ", ".join([f"{scheme.positive:g}", *at[:1]])


def rule_words(plan: Plan) -> str:
    """When a subject counts as found: "the mean of its grades reaches 2, probable"."""
    return RULES[plan.outcome].replace("the limit", limit_words(plan.scheme))


def _whole(value: object) -> int:
    """A row as a page told it; -1 where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _derived(client: str, of: int) -> str:
    """A UUID of each of many decisions that a page sent with one."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{client} {of}"))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in record.items()} for record in table.to_dict("records")]


def _has(column: pd.Series) -> pd.Series:
    return column.fillna("").astype(str) != ""


def _worth(scheme: Scheme, key: str) -> float:
    return -np.inf if key == CANNOT_JUDGE else scheme.value(key)


def _sorted(keys: Sequence[str], scheme: Scheme) -> list[str]:
    return sorted(keys, key=lambda key: -_worth(scheme, key))
