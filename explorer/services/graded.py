"""What comes of experts' grades beyond their campaign: truth for boundaries, columns of the survey, labels to learn.

Nobody who may still grade blind is told what others said: the grades of a campaign are truth and columns once it is
closed (an open campaign that is not blind may be a truth before). Labels and exports are made by whoever has the files.

Columns lie in ``grades.parquet``, a cache: row i is subject i. Of a campaign called "Lenses" they are ``grade_lenses``
(a grade's key), ``…_value``, ``…_n_votes``, ``…_n_found``, ``…_n_interesting`` and ``…_is_disputed``; ``follow_up`` is
the last later outcome of a subject, whatever the campaign.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.caches import Cache
from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.agreed import Agreed
from explorer.services.campaigns import Campaign, Campaigns
from explorer.services.explore import Explore
from explorer.services.truths import Given
from explorer.services.vetting import Vetting
from explorer.survey import counted
from explorer.votes import GRADES
from models.artifacts import replacing, sha256_json
from models.grades import CANNOT_JUDGE, RULES
from models.rates import share

if TYPE_CHECKING:
    from explorer.services.boundaries import Boundaries
    from explorer.services.notes import Notes

#: What a person is told where a campaign's grades may not be seen.
BLIND = "is blind and open, so nobody is told its grades; close it first (`voorwerp vet close`, or in the app)"
#: And where they are.
SIMULATED = "the grades are simulated"
#: Campaigns that are columns, the newest.
MOST_CAMPAIGNS = 20
#: Kinds of the ledger's entries that change what is said here.
KINDS = ("vote", "campaign", "outcome", "undo")
OUTCOME = "outcome"
FOLLOW_UP = "follow_up"
#: More than half of the graders, as a limit that is reached: of at most a hundred, and in single precision.
MAJORITY = 0.501
#: Of those that are not for testing, one in so many groups is for validation.
VALIDATION = 5


class Graded:
    """What experts said of one survey's subjects. One per server; thread-safe."""

    def __init__(self, explore: Explore, ledger: Ledger, campaigns: Campaigns, vetting: Vetting) -> None:
        self.explore, self.survey, self.ledger = explore, explore.survey, ledger
        self.campaigns, self.vetting, self.agreed = campaigns, vetting, Agreed(campaigns, vetting, explore)
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._last, self._last_told = 0, 0
        self._written = -1
        self._given = Cache(8)

    # ----------------------------------------------------------------------------------------------------- as truth
    @property
    def stamp(self) -> int:
        """The last entry that matters: as long as it is the same, nothing has changed."""
        return self._read()[0]

    def _read(self) -> tuple[int, int]:
        """The last entry that matters, and the last that may matter to the columns: not a vote in an open campaign."""
        with self._reading:
            fresh = self.ledger.entries(KINDS, since=self._last, include_undone=True)
            if fresh:
                self._last = fresh[-1].id
                open_ = {campaign.id for campaign in self.campaigns.listed() if campaign.is_open}
                told = [e.id for e in fresh if e.kind != "vote" or e.payload.get("campaign") not in open_]
                self._last_told = max([self._last_told, *told])
            return self._last, self._last_told

    def is_told(self, campaign: Campaign) -> bool:
        """Whether everybody may see its grades."""
        return not campaign.is_open or not campaign.plan.is_blind

    def names(self) -> Mapping[str, str]:
        """Campaigns whose grades may be seen: id → name, newest first."""
        found = [campaign for campaign in self.campaigns.listed() if self.is_told(campaign)]
        return {campaign.id: campaign.plan.name for campaign in sorted(found, key=lambda c: c.at, reverse=True)}

    def given(self, campaign_id: str) -> Given:
        """What a campaign says of every subject, and how its subjects were drawn.

        Raises
        ------
        UsageError
            There is none, or its grades may not be seen yet.
        """
        campaign = self.campaigns.get(campaign_id)
        if not self.is_told(campaign):
            raise UsageError(f"the campaign “{campaign.plan.name}” {BLIND}")
        key = (campaign.id, self.stamp, self.survey.generation)
        found: Given = self._given.get(key, lambda: self._make_given(campaign))
        return found

    def _make_given(self, campaign: Campaign) -> Given:
        outcomes = graded_of(self.vetting.outcomes(campaign.id))
        values = np.full(self.survey.n, np.nan)
        values[outcomes["row"].to_numpy(np.int64)] = settled(outcomes, campaign)
        inclusion, drawn, notes = drawn_of(campaign, self.survey.frame())
        notes += [SIMULATED] if campaign.is_simulated else []
        n_drawn, n_graded = int(np.count_nonzero(drawn)), int(np.isfinite(values).sum())
        if n_graded < n_drawn:
            notes.append(f"{n_drawn - n_graded:,} of {counted(n_drawn, 'subject')} drawn have no grade yet")
        if n_waiting := len(self.vetting.waiting(campaign.id)):
            wait = "waits" if n_waiting == 1 else "wait"
            notes.append(
                f"{n_waiting:,} of these {wait} for a second look: until then rates are of what was turned down first"
            )
        rest = np.setdiff1d(campaign.rows, outcomes["row"].to_numpy(np.int64))
        n_rest = int(self.survey.frame()[rest].sum())
        if campaign.clusters is not None and n_rest:
            notes.append(
                f"graded cluster by cluster, novel ones first, and {counted(n_rest, 'subject')} not yet: rates are of "
                "those that came first, which is no random draw"
            )
        return Given(campaign.plan.name, values, limit_of(campaign), inclusion, drawn, tuple(notes))

    def followed_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that follow-up has confirmed, and those that it has rejected: int64, ascending."""
        last = self._later()
        ids = {what: [i for i, told in last.items() if told == what] for what in ("confirmed", "rejected")}
        rows = [self.survey.rows_of(np.array(ids[what], np.int64)) for what in ("confirmed", "rejected")]
        confirmed, rejected = (np.sort(found[found >= 0]) for found in rows)
        return confirmed, rejected

    def said_of(self, boundary: str, version: int) -> list[str]:
        """What experts found among those that a version of a boundary keeps: a sentence for each campaign of it."""
        found = []
        for campaign in self.campaigns.listed():
            told = campaign.source
            if told.get("boundary") != boundary or told.get("version") != version or not self.is_told(campaign):
                continue
            outcomes = self.vetting.outcomes(campaign.id)
            outcomes = outcomes[(outcomes["role"] == "subject") & np.isfinite(settled(outcomes, campaign))]
            rate = share(int(outcomes["is_found"].sum()), len(outcomes), empty="nobody has graded any yet")
            words = rate.note
            if rate.value is not None and rate.low is not None and rate.high is not None:
                value, low, high = (100 * part for part in (rate.value, rate.low, rate.high))
                words = f"{rate.k:,.0f} of {rate.n:,.0f} graded ({value:.0f} % [{low:.0f}, {high:.0f}]) are looked for"
            rule = RULES[campaign.plan.outcome].replace("the limit", f"the limit {campaign.plan.scheme.positive:g}")
            found.append(f"campaign “{campaign.plan.name}” of {campaign.at[:10]}: {words}; {rule}")
        return found

    def _later(self) -> dict[int, str]:
        """subject_id → its last outcome."""
        found: dict[int, str] = {}
        for entry in self.ledger.entries(OUTCOME):  # those that stand
            if entry.subject_id is not None:
                found[entry.subject_id] = str(entry.payload.get("outcome", ""))
        return found

    def grades(self, campaign: Campaign, outcomes: pd.DataFrame) -> np.ndarray:
        """The grade that each outcome amounts to: the highest whose value its graders reach, by the campaign's rule.

        object (n,), keys; that of the adjudication where there is one. "Q" where nobody could judge, None where nobody
        has looked.
        """
        rows, keys = self.agreed.grades(campaign.id)
        of = dict(zip(rows.tolist(), keys.tolist(), strict=True))
        found = np.empty(len(outcomes), object)
        told = zip(outcomes["row"], outcomes["n_cannot"], outcomes["adjudicated"], strict=True)
        found[:] = [of.get(row) or (CANNOT_JUDGE if n or decided else None) for row, n, decided in told]
        return found

    # --------------------------------------------------------------------------------------------------- as columns
    def poll(self) -> bool:
        """Write the columns anew where something is new; whether so. Called by the server, off its loop."""
        _, told = self._read()
        if told == self._written:
            return False
        is_new = self.write()
        self._written = told
        return is_new

    def write(self) -> bool:
        """Make the columns of the closed campaigns, and let the survey see them; whether they have changed.

        Returns
        -------
        bool
            Whether there is anything new.
        """
        with self._writing:
            closed = sorted((c for c in self.campaigns.listed() if not c.is_open), key=lambda c: c.at)[-MOST_CAMPAIGNS:]
            path = self.survey.path / GRADES
            columns, about = self._columns(closed)
            if not columns:
                is_new = path.exists()
                path.unlink(missing_ok=True)
            else:
                about["key"] = sha256_json({name: _digest(array) for name, (array, _) in columns.items()})
                is_new = self.survey.about_grades() != about
                if is_new:
                    fields = [pa.field(name, array.type, metadata=told) for name, (array, told) in columns.items()]
                    table = pa.table([array for array, _ in columns.values()], pa.schema(fields))
                    table = table.replace_schema_metadata({b"voorwerp": json.dumps(about).encode()})
                    with replacing(path) as file:
                        pq.write_table(table, file, compression="zstd")
            return self.survey.refresh() or is_new

    def _columns(self, closed: list[Campaign]) -> tuple[dict[str, tuple[pa.Array, dict[str, str] | None]], Any]:
        """Name → values and metadata; and what each is made of, by `Truths.atoms`."""
        ours = set(self.survey.columns_of_grades())
        taken = {column.name for column in self.survey.columns()} - ours
        columns: dict[str, tuple[pa.Array, dict[str, str] | None]] = {}
        made_of: dict[str, str] = {}

        def add(name: str, values: pa.Array, atom: str) -> None:
            while name in taken or name in columns:
                name += "_"
            kind = {"kind": "category"} if pa.types.is_string(values.type) else None
            columns[name], made_of[name] = (values, kind), atom

        for campaign in closed:
            outcomes = graded_of(self.vetting.outcomes(campaign.id))
            rows, stem = outcomes["row"].to_numpy(np.int64), f"grade_{_slug(campaign.plan.name)}"
            atom = f"grade:{campaign.id}"
            keys = np.full(self.survey.n, None, object)
            keys[rows] = self.grades(campaign, outcomes)
            add(stem, pa.array(keys, pa.string()), atom)
            numbers = {"value": settled(outcomes, campaign), "n_votes": outcomes["n_votes"]}
            numbers |= {"n_found": outcomes["n_found_votes"], "n_interesting": outcomes["n_interesting"]}
            for name, column in numbers.items():
                values = np.full(self.survey.n, np.nan)
                values[rows] = column
                add(f"{stem}_{name}", pa.array(values, pa.float64(), from_pandas=True), atom)
            flags = np.full(self.survey.n, None, object)
            flags[rows] = outcomes["is_disputed"].to_numpy(bool)
            add(f"{stem}_is_disputed", pa.array(flags, pa.bool_()), atom)
        confirmed, rejected = self.followed_up()
        if len(confirmed) or len(rejected):
            words = np.full(self.survey.n, None, object)
            words[confirmed], words[rejected] = "confirmed", "rejected"
            add(FOLLOW_UP, pa.array(words, pa.string()), "follow-up")
        return columns, {"columns": made_of, "campaigns": [campaign.id for campaign in closed]}

    # ---------------------------------------------------------------------------------------------------- as labels
    def labels(self, campaign_id: str) -> pd.DataFrame:
        """What a campaign teaches: a row for each subject that somebody graded; known objects and duds are not in it.

        Returns
        -------
        pd.DataFrame
            row, subject_id (int64), source_id, label (a grade's key), value, is_found, is_interesting, n_votes,
            is_disputed, role, duplicate_group (that of the survey; its own number, negative, where it has none) and
            split: ``test`` for the survey's test half, of the rest ``validation`` for one group in five, ``train``.
            A group is never split.
        """
        campaign = self.campaigns.get(campaign_id)
        outcomes = graded_of(self.vetting.outcomes(campaign.id))
        values = settled(outcomes, campaign)
        outcomes, values = outcomes[np.isfinite(values)], values[np.isfinite(values)]
        rows = outcomes["row"].to_numpy(np.int64)
        given = self.survey.arrow("duplicate_group")
        is_known, ids = given.is_valid().to_numpy(zero_copy_only=False)[rows], given.fill_null(0).to_numpy()[rows]
        groups = np.where(is_known, ids, -1 - self.survey.subject_ids[rows])
        codes, words = self.survey.category("half")
        half = np.array([*words, ""], object)[codes[rows]]
        validation = np.array([int(sha256_json([int(g)])[:8], 16) % VALIDATION == 0 for g in groups], bool)
        split = np.where(half == "test", "test", np.where(validation, "validation", "train"))
        return pd.DataFrame(
            {
                "row": rows,
                "subject_id": self.survey.subject_ids[rows],
                "source_id": self.survey.source_ids(rows),
                "label": self.grades(campaign, outcomes),
                "value": values,
                "is_found": outcomes["is_found"].to_numpy(bool),
                "is_interesting": outcomes["n_interesting"].to_numpy(np.int64) > 0,
                "n_votes": outcomes["n_votes"].to_numpy(np.int64),
                "is_disputed": outcomes["is_disputed"].to_numpy(bool),
                "role": outcomes["role"].to_numpy(object),
                "duplicate_group": groups,
                "split": split,
            }
        )


# -------------------------------------------------------------------------------------------------------- small parts
def experts(explore: Explore, ledger: Ledger, boundaries: Boundaries, notes: Notes) -> Graded:
    """What `Truths` is told of where no server runs."""
    campaigns = Campaigns(explore, ledger, boundaries, notes)
    return Graded(explore, ledger, campaigns, Vetting(explore, ledger, campaigns))


def graded_of(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Those that were to be graded: known objects and duds are for the graders, not for the sky."""
    return outcomes[outcomes["role"].isin(("subject", "audit"))]


def settled(outcomes: pd.DataFrame, campaign: Campaign) -> np.ndarray:
    """What each is worth in the end, float64 (n,): by its adjudication where there is one, else by its votes."""
    plan = campaign.plan
    values = outcomes["value"].to_numpy(np.float64).copy()
    for i, key in enumerate(outcomes["adjudicated"]):
        if isinstance(key, str) and key:
            value = plan.scheme.value(key)
            is_share = plan.outcome == "majority" and np.isfinite(value)
            values[i] = float(value >= plan.scheme.positive) if is_share else value
    return values


def limit_of(campaign: Campaign) -> float:
    """From which value on a subject of it is what is looked for."""
    return MAJORITY if campaign.plan.outcome == "majority" else campaign.plan.scheme.positive


def drawn_of(campaign: Campaign, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """With which probability each subject was, or could have been, drawn for a campaign; who was; and what to say.

    Parameters
    ----------
    frame
        bool (N,): who counts.
    """
    inclusion, drawn = np.full(len(frame), np.nan), np.zeros(len(frame), np.bool_)
    notes = []
    told = campaign.source
    chance = float(told.get("inclusion") or 1.0)
    if campaign.n_outside == 0:
        inclusion[frame] = chance  # a draw of everything
    elif len(campaign.audit):
        inclusion[frame] = float(told.get("audit_inclusion") or len(campaign.audit) / campaign.n_outside)
        drawn[campaign.audit] = True
    else:
        notes.append("nothing outside of the campaign was drawn at random and graded, so recall is not estimable")
    inclusion[campaign.rows] = chance
    if campaign.plan.order != "acquisition":
        drawn[campaign.rows] = True
    else:
        nobody = [np.empty(0, np.int64)]
        best = np.concatenate([batch.rows for batch in campaign.batches] or nobody)
        random = np.concatenate([batch.random_rows for batch in campaign.batches] or nobody)
        rest = np.setdiff1d(campaign.rows, best, assume_unique=True)
        inclusion[rest] = chance * len(random) / len(rest) if len(random) else np.nan
        drawn[best] = drawn[random] = True
        if len(best):
            notes.append(
                "subjects were shown by acquisition: those drawn at random stand for all that were not, as if drawn "
                "after the last batch, so recall is rather too low than too high"
            )
    return inclusion, drawn & frame, notes


def _digest(array: pa.Array) -> str:
    return hashlib.sha256(pa.record_batch([array], ["values"]).serialize()).hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")[:40] or "campaign"
