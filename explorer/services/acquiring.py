"""Campaigns by acquisition: the next batch is chosen from all votes so far, in a thread of its own.

A batch is due when somebody who grades has no more than half of one left, so that nobody waits for it. What is learned
on are the subjects' scores of all score runs, latent vectors and image features, but for those of runs that learned
from the campaign's own grades, chosen by cross-validation (`models.ranking`); the strategy "run" goes by another model
instead, that of the newest run with an acquisition (`explorer.services.next_up`), and takes up a newer one with its
next batch. Each batch stands in the ledger: its subjects, which of them were drawn at random and out of how many, and
by what the others were chosen, in a sentence. All that a batch depends on is there, so a server that starts anew goes
on from where the last one stopped.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from explorer.caches import Cache
from explorer.errors import VoorwerpError
from explorer.people import SERVER
from explorer.services.campaigns import Campaign, Campaigns, groups_of
from explorer.services.explore import Explore
from explorer.services.next_up import acquisition, run_of
from explorer.services.vetting import Vetting
from explorer.survey import counted
from models.artifacts import LATENTS
from models.grades import CANNOT_JUDGE
from models.images import QUALITY_COLUMNS
from models.ranking import (
    BATCH,
    RANDOM,
    STRATEGIES,
    Batch,
    Left,
    RankingError,
    Step,
    Strategy,
    Votes,
    before_votes,
    next_find,
    of_columns,
    of_vectors,
    order,
    remaining,
    remaining_of_groups,
)

#: Seconds between two looks at one campaign, however often somebody votes.
PAUSE = 0.5
#: Runs whose scores are learned on, and whose vectors are, the newest: at most.
MOST_RUNS, MOST_VECTORS = 8, 2
#: The latest looks that the time to the next find is taken from; points of the curve.
LATEST, POINTS = 50, 200


@dataclass(frozen=True)
class _Known:
    """What a campaign's subjects are known by; local rows are those of `Campaign.rows`, then of its audit.

    Attributes
    ----------
    spaces
        Empty where the survey has neither scores nor vectors.
    cold
        The order before any votes; zeros where nothing says one.
    groups
        Duplicate groups.
    """

    spaces: Mapping[str, np.ndarray]
    cold: np.ndarray
    groups: np.ndarray


class Acquiring:
    """Keeps campaigns by acquisition supplied. One per server; thread-safe; only `wait` waits for a model."""

    def __init__(self, campaigns: Campaigns, vetting: Vetting, explore: Explore) -> None:
        self.campaigns, self.vetting, self.explore, self.survey = campaigns, vetting, explore, explore.survey
        self._known = Cache(2)
        self._change = threading.Condition()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._looked: dict[str, float] = {}
        self._at_work = ""
        self._problems: dict[str, str] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------------------ thread
    def refresh(self, campaign_id: str) -> None:
        """Have a look at a campaign soon, and give it its next batch where that is due. Returns at once.

        To be called when a campaign was made, opened or graded in; of any campaign and as often as one likes.
        """
        with self._change:
            if self._closed:
                return
            self._wanted[campaign_id] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="acquiring", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until nothing is to be done; whether that came to be in `timeout` seconds."""
        with self._change:
            return self._change.wait_for(lambda: not self._wanted and not self._at_work, timeout)

    def close(self) -> None:
        """End the thread: after the batch that it is at, if any."""
        with self._change:
            self._closed = True
            self._wanted.clear()
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while (campaign_id := self._next()) is not None:
            problem = ""
            try:
                self._look(campaign_id)
            except (VoorwerpError, RankingError) as error:
                problem = str(error)
            except Exception as error:  # whatever it is, the next vote tries again, and the screen says it
                problem = f"choosing the next batch failed ({type(error).__name__}: {error}); the next vote tries again"
            with self._change:
                self._at_work = ""
                self._problems[campaign_id] = problem
                self._change.notify_all()

    def _next(self) -> str | None:
        """The campaign that waits longest and is not to be left alone yet; None at the end."""
        with self._change:
            while not self._closed:
                now = time.monotonic()
                rest = {one: self._looked.get(one, -PAUSE) + PAUSE - now for one in self._wanted}
                ready = next((one for one, seconds in rest.items() if seconds <= 0), None)
                if ready is not None:
                    del self._wanted[ready]
                    self._looked[ready], self._at_work = now, ready
                    return ready
                self._change.wait(min(rest.values(), default=None))
            return None

    def _look(self, campaign_id: str) -> None:
        campaign = self.campaigns.get(campaign_id)
        if campaign.plan.order != "acquisition" or not campaign.is_open:
            return
        n_wanted = self._due(campaign)
        if not n_wanted:
            return
        batch = self.batch(campaign, n_wanted)
        chosen = batch.rows[~np.isin(batch.rows, batch.random)]
        key = uuid.uuid5(uuid.NAMESPACE_OID, f"{campaign.id} batch {len(campaign.batches)}")
        self.campaigns.extend(campaign.id, chosen, batch.random, batch.sentence, SERVER.name, str(key))

    def _due(self, campaign: Campaign) -> int:
        """How many are to be chosen now; 0 where nobody will soon be without."""
        queued = _queued(campaign)
        if len(queued) >= len(campaign.rows):
            return 0
        votes = self.vetting.votes(campaign.id)
        votes = votes[(votes["role"] == "subject") & (votes["via"] != "adjudication")]
        by_row = votes.groupby("row")["who"].nunique()
        full = by_row.index[by_row >= campaign.plan.graders].to_numpy(np.int64)
        open_rows = np.setdiff1d(queued, full)
        seen = votes[votes["row"].isin(open_rows)].groupby("who")["row"].nunique()
        latest = _rows_of(campaign.batches[-1]) if campaign.batches else queued
        active = votes.loc[votes["row"].isin(latest), "who"].nunique()
        n_batch = BATCH * max(1, -(-int(active) // campaign.plan.graders))
        rest = len(open_rows) - int(seen.max() if len(seen) else 0)  # of whoever is farthest
        return n_batch if rest <= n_batch // 2 else 0

    # ------------------------------------------------------------------------------------------------------- choose
    def batch(self, campaign: Campaign, n: int = BATCH) -> Batch:
        """The next `n` of a campaign by the votes so far; rows are the survey's. Slow: seconds in a large campaign.

        Raises
        ------
        VoorwerpError
            Scores or vectors cannot be read.
        """
        known = self._known_of(campaign)
        local = np.concatenate([campaign.rows, campaign.audit])
        places = _places(local)
        outcomes = self.vetting.outcomes(campaign.id)
        decided = outcomes["adjudicated"]
        is_said = np.isfinite(outcomes["value"].to_numpy(np.float64)) | (decided != "")
        outcomes = outcomes[is_said & (decided != CANNOT_JUDGE)]  # which teaches neither
        rows = places(outcomes["row"].to_numpy(np.int64))
        votes = Votes(
            rows=rows,
            positive=outcomes["is_found"].to_numpy(np.bool_),
            groups=known.groups[rows],
            looked=places(_queued(campaign)),
        )
        seed = campaign.plan.seed * 100_003 + len(campaign.batches)
        strategy = cast(Strategy, campaign.plan.strategy)
        among = np.arange(len(campaign.rows))
        note, by = "", None
        if strategy == "run":
            try:
                run_id = run_of(self.survey)
                by = once_a_group(acquisition(self.survey, run_id)[local], known.groups, votes.looked)
                note = f" It is {run_id}."
            except VoorwerpError as error:
                strategy, note = "mix", f" By all votes so far: {error}."
        if not known.spaces and strategy not in ("random", "run"):
            strategy = "random"
            note = " The survey has no scores or vectors to learn on: start a score run or a features run."
        made = order(known.spaces, known.cold, votes, strategy, n, RANDOM, seed, among, by)
        return Batch(
            local[made.rows], local[made.random], made.n_unseen, made.strategy, made.sentence + note, made.chosen
        )

    def _known_of(self, campaign: Campaign) -> _Known:
        own = f"grade:{campaign.id}"  # what learned from these very grades would only say them again
        runs = tuple(run_id for run_id in self.explore.runs() if own not in self.explore.learned_from(run_id))
        key = (campaign.id, self.survey.generation, runs)
        found: _Known = self._known.get(key, lambda: self._read(campaign, runs))
        return found

    def _read(self, campaign: Campaign, runs: tuple[str, ...]) -> _Known:
        local = np.concatenate([campaign.rows, campaign.audit])
        groups = groups_of(self.survey)[local]
        spaces: dict[str, np.ndarray] = {}
        columns, anomaly = [], []
        for run_id in runs[:MOST_RUNS]:
            for name, values in self.survey.scores(run_id).items():
                if values.dtype != object and np.isfinite(own := values[local].astype(np.float64)).any():
                    columns.append(own)
                    if name == "anomaly_score":
                        anomaly.append(own)
        if columns:
            there = {column.name for column in self.survey.columns()}
            columns += [self.survey.column(name)[local] for name in QUALITY_COLUMNS if name in there]
            words = f"the scores of {counted(min(len(runs), MOST_RUNS), 'run')}"
            with contextlib.suppress(RankingError):  # scores that are all alike
                spaces[words] = of_columns(columns)
        for run_id, title in self._with_vectors(campaign, runs):
            latents, rows = self.survey.latents(run_id)
            place = np.full(self.survey.n, -1, np.int64)
            place[rows] = np.arange(len(rows))
            at = place[local]
            vectors = np.asarray(latents[np.maximum(at, 0)], np.float32)
            vectors[at < 0] = np.nan
            with contextlib.suppress(RankingError):  # vectors that are all alike, or none of these subjects has one
                spaces[title] = of_vectors(vectors)
        try:
            cold = before_votes(anomaly, next(iter(spaces.values()), None))
        except RankingError:
            cold = np.zeros(len(local), np.float32)
        return _Known(spaces, cold, groups)

    def _with_vectors(self, campaign: Campaign, runs: tuple[str, ...]) -> list[tuple[str, str]]:
        """Runs whose vectors are learned on, and what a person calls them: one that the campaign was made by, else the
        newest; and the newest of image features.
        """
        about = self.explore.runs()
        has = [run_id for run_id in runs if (self.survey.run_folder(run_id) / LATENTS).exists()]
        features = [run_id for run_id in has if about[run_id].kind == "features"][:1]
        others = [run_id for run_id in has if about[run_id].kind != "features"]
        others.sort(key=lambda run_id: run_id != campaign.source.get("run_id"))
        found = [(run_id, f"latent vectors of {run_id}") for run_id in others[:1]]
        return [*found, *((run_id, "image features") for run_id in features)][:MOST_VECTORS]

    # -------------------------------------------------------------------------------------------------------- tell
    def about(self, campaign_id: str) -> dict[str, Any]:
        """What a screen says of a campaign's order, ready for JSON.

        Returns
        -------
        dict
            ``sentence``: by what the last batch was chosen. ``strategy`` and ``strategy_title``; None where the order
            is another. ``n_batches``, ``n_queued`` of ``n``. ``is_busy``: the next batch is being chosen. ``problem``:
            why there is none, "" mostly. ``left``: see `left`; ``curve``, that of it.

        Raises
        ------
        UsageError
            There is no such campaign.
        """
        campaign = self.campaigns.get(campaign_id)
        with self._change:
            busy = campaign.id == self._at_work or campaign.id in self._wanted
            problem = self._problems.get(campaign.id, "")
        is_ours = campaign.plan.order == "acquisition"
        sentence = ""
        if campaign.batches:
            sentence = campaign.batches[-1].model
        elif is_ours:
            sentence = "The first batch is being chosen." if busy else "Nothing was chosen yet."
        left = self.left(campaign.id)
        return {
            "sentence": sentence,
            "strategy": campaign.plan.strategy if is_ours else None,
            "strategy_title": STRATEGIES[cast(Strategy, campaign.plan.strategy)] if is_ours else None,
            "n_batches": len(campaign.batches),
            "n_queued": len(_queued(campaign)),
            "n": len(campaign.rows),
            "is_busy": busy,
            "problem": problem,
            "left": left,
            "curve": left["curve"],
        }

    def left(self, campaign_id: str) -> dict[str, Any]:
        """How many finds are left in a campaign, and what finding them takes, ready for JSON.

        Returns
        -------
        dict
            ``n``, ``low``, ``high`` (95 %; None where nothing can be said), ``n_unseen``, ``n_drawn``, ``n_positive``
            (of random draws) and ``sentence``; ``curve``, [looks, finds] by time, from [0, 0]; ``next``: hours to the
            next find at the present pace, with ``low``, ``high`` and ``sentence``; ``outside``: the same of what the
            source does not keep, by the audit, None without one.

        Raises
        ------
        UsageError
            There is no such campaign.
        """
        campaign = self.campaigns.get(campaign_id)
        votes = self.vetting.votes(campaign.id)
        votes = votes[votes["via"] != "adjudication"]
        outcomes = self.vetting.outcomes(campaign.id)
        is_said = np.isfinite(outcomes["value"].to_numpy(np.float64)) | (outcomes["adjudicated"] != "")
        looked = outcomes[is_said | (outcomes["n_cannot"] > 0)]
        found = set(looked.loc[looked["is_found"], "row"].tolist())
        mine = looked.loc[looked["role"] == "subject", "row"].to_numpy(np.int64)
        waiting = self.vetting.waiting(campaign.id)
        told = left_of(campaign, mine, np.array(sorted(found), np.int64), waiting)
        first = votes[votes["role"] == "subject"].sort_values("at", kind="stable").drop_duplicates("row")
        is_found = first["row"].isin(found).to_numpy(np.bool_)
        latest = is_found[-LATEST:]
        seconds = float(votes["seconds"].median()) if len(votes) else 0.0
        where = "below this point" if campaign.plan.order == "acquisition" else "among those not graded"
        return told.to_json() | {
            "sentence": left_words(campaign, told, where),
            "curve": _curve(is_found),
            "next": next_find(int(latest.sum()), len(latest), seconds * campaign.plan.graders),
            "outside": self._outside(campaign, looked, waiting),
        }

    def _outside(self, campaign: Campaign, looked: pd.DataFrame, waiting: np.ndarray) -> dict[str, Any] | None:
        if not campaign.n_outside or not len(campaign.audit):
            return None
        audit = looked[looked["role"] == "audit"]
        groups = groups_of(self.survey)[audit["row"].to_numpy(np.int64)]
        told = outside_of(campaign, groups, audit["is_found"].to_numpy(np.bool_), waiting)
        return told.to_json() | {"sentence": outside_words(campaign, told, "outside of what was chosen")}


# --------------------------------------------------------------------------------------------------------------- parts
def _rows_of(batch: Any) -> np.ndarray:
    return np.concatenate([batch.rows, batch.random_rows])


def once_a_group(by: np.ndarray, groups: np.ndarray, looked: np.ndarray) -> np.ndarray:
    """Values (n,) of the highest of each duplicate group that nobody has looked at a member of; the others NaN."""
    found = np.full(len(by), np.nan, np.float32)
    falling = np.argsort(np.where(np.isfinite(by), -by, np.inf), kind="stable")
    first = falling[np.unique(groups[falling], return_index=True)[1]]
    first = first[~np.isin(groups[first], groups[looked])]
    found[first] = by[first]
    return found


def _queued(campaign: Campaign) -> np.ndarray:
    """int64: the survey's rows in any batch of a campaign."""
    return np.concatenate([np.empty(0, np.int64), *(_rows_of(batch) for batch in campaign.batches)])


def _places(local: np.ndarray) -> Any:
    """A function from survey rows to their places in `local`; all are there."""
    sorter = np.argsort(local, kind="stable")

    def places(rows: np.ndarray) -> np.ndarray:
        return np.asarray(sorter[np.searchsorted(local, rows, sorter=sorter)], np.int64)

    return places


def left_of(campaign: Campaign, graded: np.ndarray, found: np.ndarray, waiting: np.ndarray) -> Left:
    """What is left among a campaign's own subjects, by the survey's rows of those graded, of those found, and of those
    that wait for the second pass (`Vetting.waiting`): a mosaic turns down what is not looked for first, so until these
    have their grade, the graded ones are no random draw.
    """
    n = len(campaign.rows)
    n_found, n_unseen = int(np.isin(graded, found).sum()), n - len(graded)
    if n_waiting := int(np.isin(waiting, campaign.rows).sum()):
        return Left(None, None, None, n_unseen, len(graded), n_found, n_waiting)
    # a campaign by clusters has no batches: what was graded of it, a grid at a time, is no random draw
    if campaign.plan.order == "seeded":  # graded in a random order: all of them are one random draw
        return remaining([Step(n, 0, len(graded), n_found)], n_found, n_unseen)
    steps, before = [], np.empty(0, np.int64)
    for batch in campaign.batches:
        drawn = graded[np.isin(graded, batch.random_rows)]
        earlier = graded[np.isin(graded, before)]
        # what was chosen before and has no outcome yet counts as not looked at
        steps.append(
            Step(n - len(earlier), int(np.isin(earlier, found).sum()), len(drawn), int(np.isin(drawn, found).sum()))
        )
        before = np.concatenate([before, _rows_of(batch)])
    return remaining(steps, n_found, n_unseen)


def outside_of(campaign: Campaign, groups: np.ndarray, is_found: np.ndarray, waiting: np.ndarray) -> Left:
    """What is left of what the source does not keep, by the duplicate groups of the audit draws that were graded, and
    which of these were found; `waiting` as in `left_of`."""
    n, k = len(groups), int(is_found.sum())
    if n_waiting := int(np.isin(waiting, campaign.audit).sum()):
        return Left(None, None, None, campaign.n_outside - n, n, k, n_waiting)
    if campaign.clusters is not None and n < len(campaign.audit):  # those of the first clusters come first, too
        return Left(None, None, None, campaign.n_outside - n, n, k)
    return remaining_of_groups(groups, is_found, campaign.n_outside)


def left_words(campaign: Campaign, told: Left, where: str) -> str:
    """What is left of `left_of`, in a sentence; where nothing can be said because of the campaign's order, that."""
    why = {
        "stratified": "levels are graded in turn, which is no random draw",
        "clusters": "whole grids are graded cluster by cluster, novel ones first, which is no random draw",
    }.get(campaign.plan.order)
    if why is None or told.n is not None or told.n_waiting:
        return told.sentence(where)
    return f"How many are left cannot be said: {why}."


def outside_words(campaign: Campaign, told: Left, where: str) -> str:
    """The same of `outside_of`."""
    if told.n is not None or told.n_waiting or not told.n_drawn:
        return told.sentence(where)
    drawn = f"{told.n_drawn:,} of {len(campaign.audit):,} are graded so far"
    return f"How many are left cannot be said: audit draws lie in their clusters, and {drawn}."


def _curve(is_found: np.ndarray) -> list[list[int]]:
    """[looks, finds] after at most `POINTS` of the looks, by time; from [0, 0] to the last one."""
    total = np.concatenate([[0], np.cumsum(is_found)])
    at = np.unique(np.linspace(0, len(is_found), min(len(is_found) + 1, POINTS)).round().astype(np.int64))
    return [[int(i), int(total[i])] for i in at]
