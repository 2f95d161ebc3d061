"""Campaigns: which subjects experts grade, by which scheme, in which order, and how many of them each.

A campaign is made of a kept selection or of a boundary, and what it is of stays as it was then. What is graded is of
the survey's frame: planted and withdrawn subjects never count. What shows the same sky is drawn together or not at all.
Mixed in, unmarked: *audit* draws, at random from what the source does not keep, so that what it misses is known with a
known inclusion probability; *known objects* and *duds*, whose answer is known and which count for no consensus. All of
it is one entry of the ledger, of kind ``campaign``; so is each batch of acquisition, and that it is closed or open.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from explorer.errors import LedgerError, UsageError
from explorer.ledger import Entry, Ledger
from explorer.services.boundaries import Boundaries, Context
from explorer.services.clusters import Frozen, freeze, thaw
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.services.sampling import draw
from explorer.state import Selection
from explorer.survey import Survey, counted
from models.grades import RULES, SCHEMES, GradeError, Rule, Scheme
from models.ranking import STRATEGIES

KIND = "campaign"
#: Of a campaign; characters.
MAX_NAME = 80
#: Graders for one subject, share of hidden repeats, and seconds until a look is a pause: at most.
MOST_GRADERS, MOST_REPEATS, MOST_IDLE = 100, 0.5, 3600.0
#: Of known objects and duds together there is at most one in so many looks.
ONE_IN = 10
#: What one click makes a campaign of: subjects, and graders of each.
QUICK, QUICK_GRADERS = 50, 3
#: Column that strata are made of unless told.
FRACTION = "chosen_fraction"
#: Strata of a column of numbers; and the different values up to which each is a stratum of its own.
N_STRATA, MOST_STRATA = 5, 100

Order = Literal["seeded", "acquisition", "stratified", "clusters"]
ORDERS: dict[Order, str] = {
    "seeded": "at random, another order for each grader",
    "acquisition": "by batches, refreshed from all votes so far",
    "stratified": "the levels of a column in turn, so that none comes last",
    "clusters": "cluster by cluster in grids, those far from what is labelled first",
}
SETS = ("rows", "audit", "known", "duds")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person fills in.

    Attributes
    ----------
    name
        1 to 80 characters.
    graders
        Per subject.
    known, duds
        Names of kept selections that are mixed in, "" for none: all of them, where that is at most 1 in 10 looks.
    is_blind
        Whether scores, volunteers' votes and others' grades are shown only once one's own grade is given.
    strata
        The column whose levels an order "stratified" interleaves: categories, or numbers in fifths; "" for the chosen
        fraction, from 0 to 1 in fifths.
    audit
        Random draws from what the source does not keep.
    repeats
        The share of their looks that each grader is shown again, unmarked, at least 20 looks later.
    outcome
        How a subject's value comes of its votes.
    idle_s
        Seconds of one look that count at most.
    seed
        Of the draws.
    strategy
        By what an order "acquisition" chooses its batches: one of `models.ranking.STRATEGIES`.
    clusters
        The run whose clusters an order "clusters" goes through, "" for the newest; kept as they are then.

    Raises
    ------
    UsageError
        At construction: one of these cannot be.
    """

    name: str
    scheme: Scheme
    graders: int = 1
    known: str = ""
    duds: str = ""
    is_blind: bool = True
    order: Order = "seeded"
    strata: str = ""
    audit: int = 0
    repeats: float = 0.05
    outcome: Rule = "mean"
    idle_s: float = 60.0
    seed: int = 1234
    strategy: str = "mix"
    clusters: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.scheme, Scheme):
            raise UsageError(f"a campaign needs a scheme of grades; take one of {', '.join(SCHEMES)}, or make one")
        name = self.name
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise UsageError(f"a campaign needs a name of 1 to {MAX_NAME} characters that can be seen")
        if name != " ".join(name.split()):
            object.__setattr__(self, "name", " ".join(name.split()))
        if not _is_count(self.graders) or not 1 <= self.graders <= MOST_GRADERS:
            raise UsageError(f"each subject has 1 to {MOST_GRADERS} graders, not {self.graders}")
        if self.order not in ORDERS:
            raise UsageError(f"{self.order!r} is no order of a campaign; there are {', '.join(get_args(Order))}")
        if self.strata and self.order != "stratified":
            raise UsageError('levels are interleaved by the order "stratified"; choose it, or name no column')
        if self.clusters and self.order != "clusters":
            raise UsageError('clusters are gone through by the order "clusters"; choose it, or name no run of clusters')
        if not _is_count(self.audit) or self.audit < 0:
            raise UsageError(f"audit draws are a whole number, 0 for none, not {self.audit}")
        if not _is_number(self.repeats) or not 0 <= self.repeats <= MOST_REPEATS:
            raise UsageError(f"repeats are a share of the looks from 0 to {MOST_REPEATS:g}, not {self.repeats}")
        if self.outcome not in RULES:
            raise UsageError(f"{self.outcome!r} is no rule for outcomes; there are {', '.join(RULES)}")
        if not _is_number(self.idle_s) or not 1 <= self.idle_s <= MOST_IDLE:
            raise UsageError(f"a look counts up to 1 to {MOST_IDLE:,.0f} seconds, not {self.idle_s}")
        if not _is_count(self.seed) or self.seed < 0:
            raise UsageError(f"a seed is a whole number from 0, not {self.seed}")
        if self.strategy not in STRATEGIES:
            raise UsageError(f"{self.strategy!r} is no strategy of acquisition; there are {', '.join(STRATEGIES)}")
        if not isinstance(self.is_blind, bool):
            raise UsageError("a campaign is blind or not: true or false")
        for text in (self.known, self.duds, self.strata, self.clusters):
            if not isinstance(text, str):
                raise UsageError("known objects, duds, strata and clusters are given by a name each")

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ledger."""
        return {name: getattr(self, name) for name in self.__slots__} | {"scheme": self.scheme.to_json()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Plan:
        """What `to_json` made, or what a person filled in: missing fields are as they are unless told.

        Raises
        ------
        UsageError
            As at construction; a scheme that is none; fields that there are not.
        """
        try:
            scheme = told.get("scheme")
            scheme = SCHEMES[scheme] if isinstance(scheme, str) else Scheme.from_json(scheme or {})
        except KeyError:
            raise UsageError(f'there is no scheme "{told["scheme"]}"; there are {", ".join(SCHEMES)}') from None
        except GradeError as error:
            raise UsageError(str(error)) from None
        if strange := set(told) - set(cls.__slots__):
            raise UsageError(f"a campaign has no {sorted(strange)[0]!r}; it has {', '.join(cls.__slots__)}")
        if "name" not in told:
            raise UsageError(f"a campaign needs a name of 1 to {MAX_NAME} characters that can be seen")
        return cls(**{**told, "scheme": scheme})


@dataclass(frozen=True, slots=True)
class Batch:
    """What acquisition adds to the queue at once.

    Attributes
    ----------
    rows
        int64, in the order that the model gave.
    random_rows
        int64: drawn at random from all that were in no batch before.
    n_unseen
        How many these were.
    model
        What gave the order, in words.
    """

    rows: np.ndarray
    random_rows: np.ndarray
    n_unseen: int
    model: str
    who: str
    at: str


@dataclass(frozen=True)
class Campaign:
    """A campaign as it stands. Immutable: an extended or closed one is another object.

    Attributes
    ----------
    id
        12 hexadecimal digits.
    rows
        Survey rows to be graded, int64, ascending; `audit`, `known` and `duds` are not among them.
    n_outside
        What the audit was drawn from.
    source
        ``selection``, ``boundary`` (names, or None), ``version``, ``run_id``, ``map_id``, ``lambda``, ``lambda_mode``
        (what was looked at), ``region`` (in words), ``n_source``, ``inclusion`` (probability with which each row was
        drawn from it) and ``audit_inclusion`` (with which each audit draw was drawn from outside).
    batches
        Of acquisition, in their order.
    clusters
        Of the order "clusters".
    """

    id: str
    plan: Plan
    rows: np.ndarray = field(repr=False)
    audit: np.ndarray = field(repr=False)
    n_outside: int
    known: np.ndarray = field(repr=False)
    duds: np.ndarray = field(repr=False)
    source: Mapping[str, Any]
    who: str
    at: str
    is_open: bool = True
    batches: tuple[Batch, ...] = field(default=(), repr=False)
    clusters: Frozen | None = field(default=None, repr=False)

    @cached_property
    def items(self) -> np.ndarray:
        """int64 (M,): survey rows of `rows`, `audit`, `known` and `duds`, one behind the other: never changes."""
        return np.concatenate([self.rows, self.audit, self.known, self.duds])

    @property
    def n_real(self) -> int:
        """Of `items`, those that are graded and count: subjects and audit draws."""
        return len(self.rows) + len(self.audit)

    @property
    def is_simulated(self) -> bool:
        """Whether its grades are simulated (`explorer.services.simulated_grades`): then all that shows them says so."""
        return bool(self.source.get("is_simulated"))

    @property
    def boundary_id(self) -> str | None:
        """What its votes have as the boundary that was looked at; None where it was made of none."""
        name = self.source.get("boundary")
        return None if name is None else f"{name} v{self.source.get('version')}"

    def index_of(self, rows: np.ndarray | Iterable[int]) -> np.ndarray:
        """Where survey rows are in `items`: int64, -1 where they are not."""
        rows = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows, np.int64)
        found = np.full(len(rows), -1, np.int64)
        start = 0
        for name in SETS:
            members: np.ndarray = getattr(self, name)
            if len(members):
                at = np.minimum(np.searchsorted(members, rows), len(members) - 1)
                found = np.where(members[at] == rows, at + start, found)
            start += len(members)
        return found

    def role(self, index: int) -> str:
        """Of an index of `items`: "subject", "audit", "known" or "dud"."""
        for role, name in zip(("subject", "audit", "known"), SETS, strict=False):
            index -= len(getattr(self, name))
            if index < 0:
                return role
        return "dud"


class Reader:
    """Whether there can be something new in the ledger: at once where we wrote it, in `SECONDS` where others did.

    While it is a context, the ledger is read to its end.
    """

    #: For which nobody asks what other processes wrote.
    SECONDS = 0.1

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.seen, self._at, self._newest = 0, -math.inf, 0

    def is_behind(self) -> bool:
        """Whether to read."""
        return self._ledger.newest > self.seen or time.monotonic() - self._at > self.SECONDS

    def __enter__(self) -> None:
        self._newest, self._at = self._ledger.newest, time.monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.seen = max(self.seen, self._newest)


class Campaigns:
    """The campaigns of one survey. One per server; thread-safe."""

    def __init__(self, explore: Explore, ledger: Ledger, boundaries: Boundaries, notes: Notes) -> None:
        self.explore, self.survey, self.ledger = explore, explore.survey, ledger
        self.boundaries, self.notes = boundaries, notes
        self._making, self._reading = threading.RLock(), threading.Lock()
        self._last, self._reader = 0, Reader(ledger)
        self._entries: dict[int, Entry] = {}  # of the kind, also those that were taken back
        self._all: dict[str, Campaign] = {}
        self._standing: set[str] = set()

    # ------------------------------------------------------------------------------------------------------- make
    def make(
        self,
        plan: Plan,
        rows: np.ndarray | Iterable[int],
        source: Mapping[str, Any],
        who: str,
        client_id: str | None = None,
        kept: np.ndarray | None = None,
    ) -> Campaign:
        """Make a campaign, and return it once it is on the disk; a retry with the same UUID returns the first one.

        Parameters
        ----------
        rows
            Who is to be graded. Planted and withdrawn subjects are left out, and so are the known objects and duds.
        source
            What it was made of; see `Campaign.source`. What is not told is None, or follows from `rows`.
        kept
            Rows of the whole source, where `rows` are a draw of it: audit draws are from the rest of the survey.

        Raises
        ------
        UsageError
            Another campaign has that name; nobody is left to grade; a selection, column or audit draw that there is
            not; a subject is both known object and dud.
        LedgerError
            It was not kept.
        """
        client_id = uuid_of(client_id)
        campaign_id = hashlib.sha256(client_id.encode()).hexdigest()[:12]
        with self._making:
            self._read()
            if campaign_id in self._all:
                return self.get(campaign_id)
            if taken := [one for one in self.listed() if one.plan.name == plan.name]:
                raise UsageError(
                    f'there is a campaign "{plan.name}" already, made by {taken[0].who} on {taken[0].at[:10]}; '
                    "give this one another name"
                )
            payload = self._payload(plan, rows, source, kept)
            self.ledger.append(
                KIND,
                {"action": "open", "campaign": campaign_id, **payload},
                who=who,
                client_id=client_id,
                run_id=payload["source"]["run_id"] or None,
                map_id=payload["source"]["map_id"] or None,
            )
            return self.get(campaign_id)

    def _payload(
        self, plan: Plan, rows: np.ndarray | Iterable[int], source: Mapping[str, Any], kept: np.ndarray | None
    ) -> dict[str, Any]:
        survey, frame = self.survey, self.survey.frame()
        asked = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows, np.int64)
        if len(asked) and (asked.min() < 0 or asked.max() >= survey.n):
            raise UsageError(f"a subject to be graded is outside the survey's rows 0 … {survey.n - 1:,}")
        is_graded = np.zeros(survey.n, np.bool_)
        is_graded[asked] = True
        is_kept = is_graded.copy()
        known, duds = (self._selected(name) for name in (plan.known, plan.duds))
        if len(both := np.intersect1d(known, duds)):
            raise UsageError(
                f'{counted(len(both), "subject")} of "{plan.known}" {"is" if len(both) == 1 else "are"} in '
                f'"{plan.duds}", too; what is a known object cannot be a dud'
            )
        is_graded &= frame
        is_graded[known] = is_graded[duds] = False
        graded = np.flatnonzero(is_graded)
        if not len(graded):
            raise UsageError("nobody is left to grade: every subject is planted, withdrawn, a known object or a dud")
        if kept is not None:
            is_kept[kept] = True
        audit, n_outside, audit_inclusion = self._audit(plan, np.flatnonzero(is_kept), np.concatenate([known, duds]))
        known, duds = self._mixed(plan, len(graded) + len(audit), known, duds)
        if plan.order == "stratified":
            strata_of(self.survey, plan, graded[:1])  # that it can be read is known before it is kept
        told: dict[str, Any] = {
            "selection": None,
            "boundary": None,
            "version": None,
            "run_id": "",
            "map_id": "",
            "region": "",
        }
        told |= {"lambda": None, "lambda_mode": "raw", "n_source": int(is_kept.sum()), "inclusion": 1.0, **source}
        sets = dict(zip(SETS, (graded, audit, known, duds), strict=True))
        clusters: dict[str, Any] = {}
        if plan.order == "clusters":
            clusters = freeze(survey, self.ledger, plan.clusters, np.concatenate(list(sets.values())))
            plan = replace(plan, clusters=clusters["run_id"])
        return {
            "plan": plan.to_json(),
            "source": told | {"audit_inclusion": audit_inclusion},
            "n_outside": n_outside,
            "sets": {name: self.ledger.written(members, survey.subject_ids) for name, members in sets.items()},
            **({"clusters": clusters} if clusters else {}),
        }

    def _selected(self, name: str) -> np.ndarray:
        """Rows of a kept selection that is mixed in, those that are withdrawn left out; planted ones may be known."""
        if not name:
            return np.empty(0, np.int64)
        rows = self._rows_of(name)
        withdrawn = self.survey.arrow("is_withdrawn").fill_null(False).to_numpy(zero_copy_only=False)
        found = np.asarray(rows[~withdrawn[rows]])
        if not len(found):
            raise UsageError(f'the selection "{name}" has no subjects that could be mixed in')
        return found

    def _rows_of(self, name: str) -> np.ndarray:
        names = self.ledger.selection_names()
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            known = ", ".join(f'"{one}"' for one in names) or "none; keep one on the screen"
            raise UsageError(
                f'there is no selection "{name}"; ' + (f'did you mean "{near[0]}"?' if near else f"there are: {known}")
            )
        rows: np.ndarray = self.survey.rows_of(self.ledger.selection(name, self.survey.subject_ids).subject_ids)
        return np.sort(rows[rows >= 0])

    def _audit(self, plan: Plan, kept: np.ndarray, mixed: np.ndarray) -> tuple[np.ndarray, int, float | None]:
        """Rows drawn from what is outside, how many are there, and the probability of each to be drawn."""
        outside, groups = self.survey.frame().copy(), groups_of(self.survey)
        outside[kept] = outside[mixed] = False
        if outside.any():
            rest = np.flatnonzero(outside)
            same = np.isin(groups[rest], groups[np.concatenate([kept, mixed])])  # this sky is looked at already
            outside[rest[same]] = False
        n_outside = int(outside.sum())
        if not plan.audit:
            return np.empty(0, np.int64), n_outside, None
        if plan.audit > n_outside:
            raise UsageError(
                f"{counted(plan.audit, 'audit draw')} cannot come from the {n_outside:,} subjects that the source does "
                "not keep; draw fewer"
            )
        drawn = draw(outside, groups, 0.0, None, plan.audit, None, "proportional", plan.seed)
        return drawn.rows, n_outside, float(drawn.probability[drawn.rows[0]])

    @staticmethod
    def _mixed(plan: Plan, n_looks: int, known: np.ndarray, duds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """So many known objects and duds that they are at most 1 in 10 looks, but one of each; by half where both."""
        most = max(n_looks // (ONE_IN - 1), (len(known) > 0) + (len(duds) > 0))
        n_known = min(len(known), max(most - len(duds), (most + 1) // 2))
        n_duds = min(len(duds), most - n_known)
        rng = np.random.default_rng(plan.seed)
        return np.sort(rng.permutation(known)[:n_known]), np.sort(rng.permutation(duds)[:n_duds])

    def of_selection(
        self,
        plan: Plan,
        selection: str | Selection,
        who: str,
        n: int | None = None,
        context: Context | None = None,
        client_id: str | None = None,
    ) -> Campaign:
        """A campaign of a kept selection, by its name, or of a selected set; of `n` of its subjects drawn at random.

        Parameters
        ----------
        n
            On average, where duplicate groups differ in size: they are drawn as a whole.
        context
            What was looked at.

        Raises
        ------
        UsageError
            As `make`; or there is no selection of that name.
        """
        if isinstance(selection, str):
            rows, name, region = self._rows_of(selection), selection, f"the selection “{selection}”"
        else:
            rows, name, region = selection.rows(), None, selection.title or "a selection"
        source = {"selection": name, "region": region, **_seen(context)}
        return self._drawn(plan, rows, source, who, n, client_id)

    def of_all(
        self, plan: Plan, who: str, n: int | None = None, context: Context | None = None, client_id: str | None = None
    ) -> Campaign:
        """A campaign of the whole survey; see `of_selection`.

        Raises
        ------
        UsageError
            As `make`.
        """
        source = {"selection": None, "region": "the whole survey", **_seen(context)}
        return self._drawn(plan, np.arange(self.survey.n), source, who, n, client_id)

    def of_boundary(
        self,
        plan: Plan,
        name: str,
        version: int | None,
        who: str,
        n: int | None = None,
        client_id: str | None = None,
    ) -> Campaign:
        """A campaign of those that a version of a boundary keeps, the newest where it is None; see `of_selection`.

        Raises
        ------
        UsageError
            As `make`; or there is no such boundary or version.
        VoorwerpError
            What the boundary reads is not there.
        """
        saved = self.boundaries.get(name, version)
        rows = np.flatnonzero(self.boundaries.kept(saved.keep, saved.context).yes)
        source = {"boundary": saved.name, "version": saved.version, **_seen(saved.context)}
        source["region"] = f"the boundary “{saved.name}”, version {saved.version}"
        return self._drawn(plan, rows, source, who, n, client_id)

    def quick(
        self,
        rows: np.ndarray | Iterable[int],
        what: str,
        context: Context | None,
        who: str,
        client_id: str | None = None,
    ) -> Campaign:
        """What purity takes: 50 random subjects of `rows` for 3 graders each.

        Parameters
        ----------
        what
            What the rows are, in words: the campaign is pinned to it, and named after it.
        """
        client_id = uuid_of(client_id)
        with self._making:
            self._read()
            campaign_id = hashlib.sha256(client_id.encode()).hexdigest()[:12]
            if campaign_id in self._all:  # its name is its own
                return self.get(campaign_id)
            taken = {one.plan.name for one in self.listed()}
            clean = " ".join("".join(c if c.isprintable() else " " for c in what).split()) or "a selection"
            base = f"Purity of {clean}"[: MAX_NAME - 6].strip()
            name = next(n for k in range(1, len(taken) + 2) if (n := base if k == 1 else f"{base} ({k})") not in taken)
            seed = int.from_bytes(hashlib.sha256(campaign_id.encode()).digest()[:4])
            plan = Plan(name, SCHEMES["abcx"], QUICK_GRADERS, seed=seed)
            rows = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows, np.int64)
            return self._drawn(plan, rows, {"region": clean, **_seen(context)}, who, QUICK, client_id)

    def _drawn(
        self, plan: Plan, rows: np.ndarray, source: dict[str, Any], who: str, n: int | None, client_id: str | None
    ) -> Campaign:
        frame = np.zeros(self.survey.n, np.bool_)
        frame[rows] = True
        frame &= self.survey.frame()
        kept = np.flatnonzero(frame)
        if not len(kept):
            raise UsageError(f"{source['region']} has nobody to grade: no subject that is not planted or withdrawn")
        if n is not None and (not _is_count(n) or n < 1):
            raise UsageError(f"draw at least 1 subject to be graded, not {n}")
        source |= {"n_source": len(kept), "inclusion": 1.0}
        if n is None or n >= len(kept):
            return self.make(plan, kept, source, who, client_id)
        for name in (plan.known, plan.duds):
            frame[self._selected(name)] = False
        if not frame.any():
            raise UsageError(f"{source['region']} has nobody to grade: all are known objects or duds")
        drawn = draw(frame, groups_of(self.survey), 0.0, None, n, None, "proportional", plan.seed)
        source["inclusion"] = float(drawn.probability[drawn.rows[0]])
        return self.make(plan, drawn.rows, source, who, client_id, kept)

    # ------------------------------------------------------------------------------------------------------- read
    def listed(self) -> list[Campaign]:
        """The campaigns there are, in the order they were made."""
        with self._reading:
            self._catch_up()
            return [one for one in self._all.values() if one.id in self._standing]

    def get(self, id_or_name: str) -> Campaign:
        """A campaign.

        Raises
        ------
        UsageError
            There is none of that id or name.
        """
        listed = self.listed()
        for one in listed:
            if one.id == id_or_name:
                return one
        for one in listed:
            if one.plan.name == id_or_name:
                return one
        if (found := self._just_made(id_or_name)) is not None:
            return found
        near = difflib.get_close_matches(str(id_or_name), [one.plan.name for one in listed], n=1)
        known = ", ".join(f'"{one.plan.name}"' for one in listed) or "none"
        hint = f'did you mean "{near[0]}"?' if near else f"there are: {known}"
        raise UsageError(f'there is no campaign "{id_or_name}"; {hint}')

    def _just_made(self, id_or_name: str) -> Campaign | None:
        """A campaign that another process has made since the ledger was read last."""
        with self._reading:
            self._catch_up(at_once=True)
            standing = [one for one in self._all.values() if one.id in self._standing]
        for names in ([one.id for one in standing], [one.plan.name for one in standing]):
            if id_or_name in names:
                return standing[names.index(id_or_name)]
        return None

    def any_of(self, campaign_id: str) -> Campaign | None:
        """A campaign by its id, also one whose making was taken back; None where it is not one of this survey's."""
        with self._reading:
            if campaign_id not in self._all:
                self._catch_up(at_once=True)  # a vote in it has been read, so it is there
            return self._all.get(campaign_id)

    def _read(self) -> None:
        with self._reading:
            self._catch_up()

    def _catch_up(self, at_once: bool = False) -> None:
        if not at_once and not self._reader.is_behind():
            return
        with self._reader:
            fresh = self.ledger.entries((KIND, "undo"), since=self._last, include_undone=True)
        if not fresh:
            return
        self._last = fresh[-1].id
        ours = [entry for entry in fresh if entry.kind == KIND]
        if any(entry.undoes is not None for entry in fresh) and (ours or self._entries):
            # one of them may have been taken back, or brought back
            ours = self.ledger.entries(KIND, include_undone=True)
            ours = [entry for entry in ours if entry.id <= self._last and entry.kind == KIND]
            undone = {entry.id for entry in ours if entry.undone}
            if undone == {i for i, entry in self._entries.items() if entry.undone}:
                ours = [entry for entry in ours if entry.id not in self._entries]
            else:
                self._entries, self._standing = {}, set()
                self._all = {}
        for entry in ours:
            self._entries[entry.id] = replace(entry, payload={})  # a million subjects are in the campaign
            self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        told = entry.payload
        campaign_id = told["campaign"]
        if told["action"] == "open":
            ids = self.survey.subject_ids
            sets = {name: self.ledger.read_back(told["sets"][name], ids) for name in SETS}
            for name, rows in sets.items():
                if len(rows) != told["sets"][name]["n"]:
                    raise LedgerError(
                        f'the campaign "{told["plan"]["name"]}" has {told["sets"][name]["n"]:,} subjects to be mixed '
                        f"or graded, of which only {len(rows):,} are in the survey; put back its subjects"
                    )
            clusters = told.get("clusters")
            items = np.concatenate([sets[name] for name in SETS])
            self._all[campaign_id] = Campaign(
                campaign_id,
                Plan.from_json(told["plan"]),
                sets["rows"],
                sets["audit"],
                told["n_outside"],
                sets["known"],
                sets["duds"],
                told["source"],
                entry.who,
                entry.at,
                clusters=thaw(self.survey, self.ledger, clusters, items) if clusters else None,
            )
            if not entry.undone:
                self._standing.add(campaign_id)
        elif not entry.undone and campaign_id in self._all:
            one = self._all[campaign_id]
            if told["action"] == "batch":
                rows, random = (self.survey.rows_of([int(i) for i in told[name]]) for name in ("subjects", "random"))
                batch = Batch(rows, random, told["n_unseen"], told["model"], entry.who, entry.at)
                self._all[campaign_id] = replace(one, batches=(*one.batches, batch))
            else:
                self._all[campaign_id] = replace(one, is_open=told["action"] == "reopen")

    # ----------------------------------------------------------------------------------------------------- decide
    def close(self, campaign_id: str, who: str, client_id: str | None = None) -> Campaign:
        """End a campaign: no votes are taken any more, and nothing in it is blind.

        Raises
        ------
        UsageError
            There is none, or it is closed already.
        """
        return self._turn(campaign_id, "close", who, client_id)

    def reopen(self, campaign_id: str, who: str, client_id: str | None = None) -> Campaign:
        """Go on with a campaign that was closed.

        Raises
        ------
        UsageError
            There is none, or it is open.
        """
        return self._turn(campaign_id, "reopen", who, client_id)

    def _turn(self, campaign_id: str, action: str, who: str, client_id: str | None) -> Campaign:
        client_id = uuid_of(client_id)
        with self._making:
            one = self.get(campaign_id)
            if one.is_open == (action == "reopen"):
                if self._has(client_id):
                    return one  # the answer to it was lost
                state = "open" if one.is_open else "closed"
                raise UsageError(f'the campaign "{one.plan.name}" is {state} already')
            self.ledger.append(KIND, {"action": action, "campaign": one.id}, who=who, client_id=client_id)
            return self.get(one.id)

    def _has(self, client_id: str) -> bool:
        return any(entry.client_id == client_id for entry in self._entries.values())

    def extend(
        self,
        campaign_id: str,
        rows: np.ndarray | Iterable[int],
        random_rows: np.ndarray | Iterable[int],
        model: str,
        who: str,
        client_id: str | None = None,
    ) -> Campaign:
        """Add a batch to the queue of a campaign by acquisition.

        Parameters
        ----------
        rows
            In the order that the model gives: who is graded next.
        random_rows
            Drawn at random from all that are in no batch yet, for an estimate of what is left.
        model
            In words.

        Raises
        ------
        UsageError
            The campaign is closed or has another order; a row is not in it, or in the queue already; none are given.
        """
        client_id = uuid_of(client_id)
        with self._making:
            one = self.get(campaign_id)
            if one.plan.order != "acquisition":
                raise UsageError(f'the campaign "{one.plan.name}" is not in order of acquisition and has no batches')
            chosen, random = (np.asarray(list(r), np.int64) for r in (rows, random_rows))
            both = np.concatenate([chosen, random])
            if self._has(client_id):
                return one  # the answer to it was lost
            if not one.is_open:
                raise UsageError(f'the campaign "{one.plan.name}" is closed; open it again to go on')
            if not len(both):
                raise UsageError("a batch needs at least one subject")
            at = one.index_of(both)
            if ((at < 0) | (at >= len(one.rows))).any():
                raise UsageError(f'a subject of the batch is not among those that "{one.plan.name}" grades')
            before = [np.concatenate([batch.rows, batch.random_rows]) for batch in one.batches]
            seen = np.concatenate([np.empty(0, np.int64), *before])
            if len(np.unique(both)) < len(both) or np.isin(both, seen).any():
                raise UsageError("a subject of the batch is in the queue already, or twice in it")
            ids = self.survey.subject_ids
            payload: dict[str, Any] = {"action": "batch", "campaign": one.id, "model": model}
            payload |= {"n_unseen": len(one.rows) - len(seen)}
            payload |= {
                name: [str(i) for i in ids[r].tolist()] for name, r in (("subjects", chosen), ("random", random))
            }
            self.ledger.append(KIND, payload, who=who, client_id=client_id)
            return self.get(one.id)


# ------------------------------------------------------------------------------------------------------- the survey
def groups_of(survey: Survey) -> np.ndarray:
    """int64 (N,): the same number for what shows the same sky; who is in no group is one alone."""
    given = survey.arrow("duplicate_group")
    known, ids = given.is_valid().to_numpy(zero_copy_only=False), given.fill_null(0).to_numpy()
    alone = int(ids.max(initial=0)) + 1 + np.arange(survey.n)
    return np.asarray(np.where(known, ids, alone), np.int64)


def strata_of(survey: Survey, plan: Plan, rows: np.ndarray) -> np.ndarray:
    """int64 (n,): the level of each row in the column that the plan interleaves, from 0; who has no value is in one
    of its own.

    Raises
    ------
    UsageError
        There is no such column, or it makes no levels.
    """
    name = plan.strata or FRACTION
    if not plan.strata and name not in {*survey.columns_of_crowd(), *(c.name for c in survey.columns())}:
        raise UsageError("nobody has chosen anything here, so there is no chosen fraction to interleave; name a column")
    dtype = {column.name: column.dtype for column in survey.columns()}.get(name, "number")
    if dtype == "category":
        codes, labels = survey.category(name)
        if len(labels) > MOST_STRATA:
            raise UsageError(f'"{name}" has {len(labels):,} categories; levels can be {MOST_STRATA} at most')
        return np.where(codes[rows] < 0, len(labels), codes[rows]).astype(np.int64)
    values = survey.column(name)
    if values.dtype == object:
        raise UsageError(f'"{name}" holds {dtype}s, which make no levels; name a column of categories or numbers')
    known = values[np.isfinite(values)]
    if not plan.strata or name == FRACTION:
        edges = np.arange(1, N_STRATA) / N_STRATA
    elif len(known):
        edges = np.unique(np.quantile(known, np.arange(1, N_STRATA) / N_STRATA))
    else:
        raise UsageError(f'"{name}" has no value for any subject, so it makes no levels')
    found = np.searchsorted(edges, values[rows], side="right")
    return np.where(np.isfinite(values[rows]), found, N_STRATA).astype(np.int64)


def _seen(context: Context | None) -> dict[str, Any]:
    return {} if context is None else context.to_json()


def uuid_of(text: str | None) -> str:
    """A UUID as the ledger writes it; a new one for None.

    Raises
    ------
    UsageError
        It is none.
    """
    try:
        return str(uuid.UUID(text)) if text else str(uuid.uuid4())
    except (ValueError, AttributeError, TypeError):
        raise UsageError(f"{text!r} is not a UUID; every decision needs one of its own") from None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
