"""Votes of experts: queues, votes and their history, undo, and what they amount to.

Every vote is in the ledger before a call returns, where nothing is changed: another vote on the same subject is another
entry, and so is undo. A mosaic of many grades is one entry, and one step to undo; so is a grid of a cluster. What
graders know each subject by is a key of their own, which tells neither row nor role nor whether it is a repeat. What is
blind is kept here: before a grader's own grade nothing of others is told.

===========  ===============================================  ==================================================
kind         payload                                          means
===========  ===============================================  ==================================================
``vote``     campaign, grade, interesting, seconds,           a grade of the entry's subject
             seconds_raw, via, repeat
``vote``     campaign, via, grades, kept, repeats,            grades of many (id → grade), who was left for the second
             kept_repeats, interesting, interesting_repeats,  pass, and which of these are interesting, in one step;
             seconds, seconds_raw; cluster, n_keys, n_clicks  of a grid its cluster, and what hands did for it
``outcome``  outcome (confirmed, rejected, open), source      what became of a subject later
===========  ===============================================  ==================================================
"""

from __future__ import annotations

import math
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, get_args, overload

import numpy as np
import pandas as pd

from explorer.caches import Cache
from explorer.errors import AccessError, UsageError
from explorer.ledger import Entry, Ledger
from explorer.people import Person
from explorer.secret import secret_of
from explorer.services.campaigns import Campaign, Campaigns, Reader, uuid_of
from explorer.services.explore import Explore, newest
from explorer.services.notes import Event
from explorer.services.queues import Arrangement, Keys
from explorer.services.tallies import GRADED, GRID, KEPT, LEFT, SINGLE, VIAS, Grader, Shown, Tally, Undos
from explorer.survey import counted
from models.grades import CANNOT_JUDGE, GradeError, is_found, values_of

KIND, OUTCOME = "vote", "outcome"
#: What the book is made of.
KINDS = (KIND, OUTCOME, "campaign", "tag", "note", "undo")
#: Later outcomes of a subject; "open" takes one back.
OUTCOMES = ("confirmed", "rejected", "open")
#: Characters of an outcome's source; seconds of a look that are taken for a number at all.
MAX_SOURCE, MAX_SECONDS = 300, 86_400.0
#: Entries of the ledger that are read at once.
AT_ONCE = 20_000
#: Subjects of one bulk; of a grid; key presses and clicks for one.
MOST_AT_ONCE, MOST_IN_GRID, MOST_PRESSES = 1_000, 36, 10_000
#: Orders of graders that are kept in memory, of 4 bytes a subject.
KEPT_ORDERS = 64

Via = Literal["single", "mosaic", "adjudication"]
#: Of many at once.
Glance = Literal["mosaic", "grid"]


@dataclass(frozen=True, slots=True)
class Item:
    """One look of a grader.

    Attributes
    ----------
    key
        16 hexadecimal digits: what the grader's page knows it by.
    role
        "subject", "audit", "known", "dud" or "repeat": never to be shown before the grade.
    place
        In this grader's order: never changes, and grows along the queue, with gaps.
    """

    key: str
    row: int
    role: str
    place: int


class Queue(Sequence[Item]):
    """One grader's own looks in their own order; made as they are asked for.

    What they graded or left stays where it is; a subject that has its graders' votes is left out for those who have
    not begun it. An index counts what is shown now; `Item.place`, and a key, are for ever.
    """

    def __init__(self, vetting: Vetting, campaign: Campaign, who: str) -> None:
        self._vetting, self._campaign, self._who = vetting, campaign, who

    @property
    def items(self) -> Sequence[Item]:
        """Itself: to be indexed and sliced."""
        return self

    def __len__(self) -> int:
        with self._vetting._at(self._campaign, self._who) as at:
            return at.shown.count()

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return [self[i] for i in range(start, stop, step)]
            return self.window(start, stop - start)
        found = self.window(index if index >= 0 else len(self) + index, 1)
        if not found:
            raise IndexError(f"the queue has {len(self):,} looks")
        return found[0]

    def __iter__(self) -> Iterator[Item]:
        start = 0
        while found := self.window(start, 500):
            yield from found
            start += len(found)

    def window(self, start: int, count: int) -> list[Item]:
        """Up to `count` looks from index `start` on."""
        with self._vetting._at(self._campaign, self._who) as at:
            place = at.shown.place_of(start)
            return [] if place is None else at.items(place, 1, count)

    def after(self, key: str | None, count: int, state: int | None = None) -> list[Item]:
        """Up to `count` looks behind that of a key, or from the first on.

        Parameters
        ----------
        state
            Only those that are `NOTHING`, `LEFT` (for the second pass) or `GRADED`.
        """
        with self._vetting._at(self._campaign, self._who) as at:
            return at.items(0 if key is None else at.place(key) + 1, 1, count, state)

    def before(self, key: str, count: int, state: int | None = None) -> list[Item]:
        """Up to `count` looks before that of a key, in the order of the queue."""
        with self._vetting._at(self._campaign, self._who) as at:
            return at.items(at.place(key) - 1, -1, count, state)[::-1]

    def index_of(self, key: str) -> int:
        """Where the look of a key is now.

        Raises
        ------
        AccessError
            It is not one of this grader's.
        """
        with self._vetting._at(self._campaign, self._who) as at:
            return at.shown.index_of(at.place(key))


class _At:
    """A campaign's tally as one grader sees it, while the lock is held."""

    def __init__(self, tally: Tally, grader: Grader, keys: Keys, shown: Shown) -> None:
        self.tally, self.grader, self.keys, self.shown = tally, grader, keys, shown

    def slot(self, key: object) -> int:
        slot = self.keys.slot(key)
        if slot is None or slot >= 2 * self.tally.n_items:
            raise AccessError("this is not a subject that was given to you in this campaign; reload the page")
        return slot

    def place(self, key: object) -> int:
        place = self.shown.order.place(self.slot(key))
        if place is None:
            raise AccessError("this is not a subject that was given to you in this campaign; reload the page")
        return place

    def item(self, place: int) -> Item:
        slot = int(self.shown.order.slots[place])
        index, campaign = slot % self.tally.n_items, self.tally.campaign
        role = "repeat" if slot >= self.tally.n_items else campaign.role(index)
        return Item(self.keys.key(slot), int(campaign.items[index]), role, place)

    def items(self, start: int, step: int, count: int, state: int | None = None) -> list[Item]:
        found: list[Item] = []
        if start < 0 or count <= 0:
            return found
        for place in self.shown.walk(start, step):
            if state is None or self.grader.state[self.shown.order.slots[place]] == state:
                found.append(self.item(place))
                if len(found) == count:
                    break
        return found


class _Book:
    """Every campaign's votes, later outcomes, and what each person tagged and noted, as the ledger has them."""

    def __init__(self, vetting: Vetting) -> None:
        self._vetting = vetting
        self.last = 0
        self.tallies: dict[str, Tally] = {}
        self.undos = Undos()
        self.outcomes: dict[int, list[Entry]] = defaultdict(list)  # subject → entries, also those taken back
        self._tags: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)  # who, subject → entry, tag
        self._notes: dict[int, dict[int, list[tuple[int, str, str]]]] = defaultdict(dict)  # subject → first → edits

    def tally(self, campaign: Campaign) -> Tally:
        """The votes of a campaign."""
        found = self.tallies.get(campaign.id)
        if found is None:
            found = self.tallies[campaign.id] = Tally(self._vetting.survey, campaign)
        found.campaign = campaign  # it may have been closed or extended
        return found

    def apply(self, entry: Entry, item: int | None = None) -> None:
        """Take in the next entry; `item` as in `Tally.add`."""
        self.last = entry.id
        if entry.undoes is not None:
            self._turn(entry)
        elif entry.kind == KIND:
            campaign = self._vetting.campaigns.any_of(str(entry.payload.get("campaign")))
            if campaign is not None:
                self.tally(campaign).add(entry, item)
        elif entry.subject_id is None:
            return
        elif entry.kind == OUTCOME:
            self.outcomes[entry.subject_id].append(entry)
        elif entry.kind == "tag":
            self._tags[entry.who, entry.subject_id].append((entry.id, entry.payload["tag"]))
        elif entry.kind == "note":
            first = entry.payload.get("note", entry.id)
            said = entry.id, entry.who, entry.payload["text"]
            self._notes[entry.subject_id].setdefault(first, []).append(said)

    def _turn(self, entry: Entry) -> None:
        for target, stands in self.undos.apply(entry).items():
            for tally in self.tallies.values():
                rows = tally.rows_of(target)
                if not rows:
                    continue
                tally.turn(target, stands)
                grader = tally.graders[tally.names[tally.grader[rows[0]]]]
                if stands:
                    grader.redo = [one for one in grader.redo if one[0] != target]
                elif entry.who == grader.name and grader.has(target):
                    grader.redo.append((target, entry.id))

    def outcome(self, subject_id: int) -> Entry | None:
        """The outcome of a subject that stands; None where there is none, or it is open."""
        for entry in reversed(self.outcomes.get(subject_id, [])):
            if not self.undos.is_undone(entry.id):
                return None if entry.payload["outcome"] == "open" else entry
        return None

    def tags(self, who: str, subject_id: int) -> list[str]:
        """The tags that a person gave a subject, in their order."""
        given = self._tags.get((who, subject_id), ())
        return list(dict.fromkeys(tag for entry_id, tag in given if not self.undos.is_undone(entry_id)))

    def note(self, who: str, subject_id: int) -> str:
        """A person's note on a subject, the last one; "" without."""
        found = ""
        for first, edits in self._notes.get(subject_id, {}).items():
            if not self.undos.is_undone(first):
                _, by, text = next(edit for edit in reversed(edits) if not self.undos.is_undone(edit[0]))
                found = text if by == who else found
        return found


class Vetting:
    """Votes of one survey's experts. One per server; thread-safe, for 50 graders at once."""

    def __init__(self, explore: Explore, ledger: Ledger, campaigns: Campaigns) -> None:
        self.explore, self.survey, self.ledger, self.campaigns = explore, explore.survey, ledger, campaigns
        self._lock = threading.RLock()
        self._book, self._reader = _Book(self), Reader(ledger)
        self._replayed = Cache(2)
        self._orders = Cache(KEPT_ORDERS)
        self._shown: dict[tuple[str, str], Shown] = {}
        self._deciding: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._told: set[tuple[str, str, int]] = set()  # campaign, who, slot: they know what others said
        self._told_of: dict[tuple[str, str], np.ndarray] = {}  # campaign, who → items of which they know, bool
        self._wrote: dict[tuple[str, str, int], tuple[tuple[str, ...], str]] = {}  # of repeats: tags and note

    @cached_property
    def _secret(self) -> bytes:
        return bytes.fromhex(secret_of(self.survey.info.survey_id, "vetting"))

    @property
    def last(self) -> int:
        """The last entry that was read: while it is the same, nobody voted, tagged, noted or took anything back."""
        return self._read().last

    # -------------------------------------------------------------------------------------------------------- book
    def _read(self, until: int = 0) -> _Book:
        """The book, up to what the ledger has; up to an entry of ours, where it may have been read by now."""
        with self._lock:
            book, reader = self._book, self._reader
            if reader.seen < until if until else reader.is_behind():
                with reader:
                    self._catch_up(book)
                reader.seen = max(reader.seen, book.last)
            return book

    def _catch_up(self, book: _Book, at: datetime | str | None = None) -> None:
        while part := self.ledger.entries(KINDS, since=book.last, at=at, include_undone=True, limit=AT_ONCE):
            items = self._items_of(book, part)
            for entry in part:
                book.apply(entry, items.get(entry.id))

    def _items_of(self, book: _Book, part: Sequence[Entry]) -> dict[int, int]:
        """Entry → item, of votes on one subject: looked up together, for one by one is slow."""
        by_campaign: dict[str, list[Entry]] = defaultdict(list)
        if len(part) > 1:
            for entry in part:
                if entry.kind == KIND and entry.subject_id is not None:
                    by_campaign[str(entry.payload.get("campaign"))].append(entry)
        found: dict[int, int] = {}
        for campaign_id, entries in by_campaign.items():
            if (campaign := self.campaigns.any_of(campaign_id)) is not None:
                items = book.tally(campaign).items_of([entry.subject_id or 0 for entry in entries])
                found |= zip((entry.id for entry in entries), items, strict=True)
        return found

    def _take_in(self, entry: Entry) -> None:
        """What we have just written: without asking for it, where nothing else was written in between."""
        with self._lock:
            if entry.id == self._reader.seen + 1:
                self._book.apply(entry)
                self._reader.seen = entry.id
            else:
                self._read(entry.id)

    def _as_of(self, at: datetime | str | None) -> _Book:
        if at is None:
            return self._read()

        def replay() -> _Book:
            book = _Book(self)
            self._catch_up(book, at)
            return book

        try:
            moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        except ValueError:
            return replay()  # the ledger says what is wrong with it
        is_past = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) < datetime.now(UTC)
        return self._replayed.get(str(at), replay) if is_past else replay()

    def _order(self, campaign: Campaign, who: str) -> Arrangement:
        key = campaign.id, len(campaign.batches), who
        return self._orders.get(key, lambda: Arrangement(self.survey, campaign, who))

    @contextmanager
    def _at(self, campaign: Campaign, who: str) -> Iterator[_At]:
        """A campaign as one grader sees it, under the book's lock for the length of the block."""
        order = self._order(campaign, who)  # slow the first time: nobody waits for it
        with self._lock:
            yield self._seen_by(campaign, who, order)

    def _seen_by(self, campaign: Campaign, who: str, order: Arrangement) -> _At:
        tally = self._read().tally(campaign)
        tally.look_at_survey()
        grader = tally.must_have(who)
        shown = self._shown.get((campaign.id, who))
        if shown is None or shown.order is not order or shown.generation != tally.generation:
            if len(self._shown) >= KEPT_ORDERS:
                self._shown.pop(next(iter(self._shown)))
            shown = self._shown[campaign.id, who] = Shown(tally, grader, order)
        return _At(tally, grader, Keys(self._secret, campaign.id, who), shown)

    # ------------------------------------------------------------------------------------------------------- queue
    def queue(self, campaign_id: str, who: str) -> Queue:
        """One grader's looks in a campaign.

        Raises
        ------
        UsageError
            There is no such campaign.
        """
        return Queue(self, self.campaigns.get(campaign_id), who)

    def item(self, campaign_id: str, who: str, key: str) -> Item:
        """What a key stands for.

        Raises
        ------
        AccessError
            It is not one of this grader's.
        """
        with self._at(self.campaigns.get(campaign_id), who) as at:
            return at.item(at.place(key))

    def state(self, campaign_id: str, who: str, key: str) -> dict[str, Any]:
        """What a grader has said of one of their looks: ``grade`` (None without), ``interesting``, ``tags``, ``note``
        and ``kept``, for the second pass. Nothing of others is in it.
        """
        return self.states(campaign_id, who, [key])[0]

    def states(self, campaign_id: str, who: str, keys: Sequence[str]) -> list[dict[str, Any]]:
        """`state` of many."""
        with self._at(self.campaigns.get(campaign_id), who) as at:
            return [self._state(at, at.slot(key)) for key in keys]

    def _state(self, at: _At, slot: int) -> dict[str, Any]:
        tally, row = at.tally, at.tally.current(at.grader, slot)
        is_graded = row >= 0 and tally.grade[row] != KEPT
        subject_id = int(self.survey.subject_ids[tally.campaign.items[slot % tally.n_items]])
        # what they wrote beside the first would tell them a repeat; so would it, were what they write here not shown
        is_own = slot < tally.n_items or is_graded
        tags, note = self._wrote.get((tally.campaign.id, at.grader.name, slot), ((), ""))
        return {
            "grade": tally.keys[tally.grade[row]] if is_graded else None,
            "interesting": bool(row >= 0 and tally.interesting[row]),
            "tags": self._book.tags(at.grader.name, subject_id) if is_own else list(tags),
            "note": self._book.note(at.grader.name, subject_id) if is_own else note,
            "kept": any(tally.stands[r] and tally.grade[r] == KEPT for r in tally.history(row)),
        }

    def wrote(
        self, campaign_id: str, who: str, key: str, *, tag: str = "", on: bool = True, note: str | None = None
    ) -> None:
        """Remember what a grader wrote beside a look, as it is kept elsewhere: a repeat shows this and no more until it
        is graded.
        """
        with self._at(self.campaigns.get(campaign_id), who) as at:
            slot = at.slot(key)
            if slot >= at.tally.n_items:
                tags, text = self._wrote.get((campaign_id, who, slot), ((), ""))
                if tag:
                    tags = (*(one for one in tags if one != tag), *((tag,) if on else ()))
                self._wrote[campaign_id, who, slot] = tags, text if note is None else note

    def marks(self, campaign_id: str, who: str, all_of_them: bool = True) -> tuple[str, int, str | None]:
        """A grader's whole queue at a glance.

        Returns
        -------
        version
            Another one where other looks are shown, or at another index.
        n
            How many there are.
        marks
            A letter each: "." not seen, "k" left for the second pass, "m" graded in a mosaic, "g" one by one; None
            unless asked for.
        """
        with self._at(self.campaigns.get(campaign_id), who) as at:
            n = at.shown.count()
            marks = None
            if all_of_them:
                marks = np.frombuffer(b".kgm", np.uint8)[at.shown.states()].tobytes().decode()
            return at.shown.version, n, marks

    def spans(self, campaign_id: str, who: str) -> tuple[str, list[int]]:
        """How many looks of each of a campaign's clusters are in a grader's queue, one cluster behind the other.

        Returns
        -------
        version
            Of the queue, as `marks` tells it.
        spans
            Of every one of `Campaign.clusters`, in order; [] where the order is another.
        """
        campaign = self.campaigns.get(campaign_id)
        with self._at(campaign, who) as at:
            version = at.shown.version
            if campaign.clusters is None:
                return version, []
            items = at.shown.slots() % at.tally.n_items
            counts = np.bincount(campaign.clusters.of[items], minlength=len(campaign.clusters.told))
            return version, [int(n) for n in counts]

    def given(self, campaign_id: str, who: str) -> dict[str, int]:
        """How often a grader gave each grade of the scheme, and how many they could not judge."""
        with self._at(self.campaigns.get(campaign_id), who) as at:
            tally, counts = at.tally, dict.fromkeys(at.tally.keys, 0)
            for slot in np.flatnonzero(at.grader.state[: 2 * tally.n_items] >= GRADED).tolist():
                counts[tally.keys[tally.grade[tally.current(at.grader, slot)]]] += 1
            return counts

    def standing(self, campaign_id: str, who: str) -> dict[str, Any]:
        """How far a grader is: ``n_done`` of ``n_all`` looks, ``n_kept`` for the second pass, ``seconds`` in all, and
        the key of the last one (``at``; None before the first). In a campaign by clusters also their ``effort``, see
        `effort`.
        """
        with self._at(self.campaigns.get(campaign_id), who) as at:
            grader = at.grader
            n_all = at.shown.count()
            return {
                "n_done": grader.n_graded,
                "n_all": n_all,
                "n_kept": grader.n_left,
                "seconds": round(max(grader.seconds, 0.0), 2),
                "at": None if grader.last is None else at.keys.key(grader.last),
                **({"effort": effort_of([grader])} if at.tally.campaign.clusters is not None else {}),
            }

    def effort(self, campaign_id: str) -> dict[str, Any]:
        """What all graders' hands did in a campaign by clusters: ``n`` looks that have a grade of a grid or one by one,
        ``n_grid`` of them by the grid, ``n_keys`` and ``n_clicks`` for them, also for what was taken back, and
        ``saved``, 1 - (keys and clicks) / n: one by one takes a key each. None where n is 0.
        """
        campaign = self.campaigns.get(campaign_id)
        with self._lock:
            return effort_of(list(self._read().tally(campaign).graders.values()))

    # ------------------------------------------------------------------------------------------------------- decide
    def vote(
        self,
        campaign_id: str,
        who: str,
        key: str,
        grade: str,
        *,
        interesting: bool = False,
        seconds: float,
        via: Via = "single",
        client_id: str | None = None,
        seen: Mapping[str, str | None] | None = None,
        looked: Sequence[str] = (),
    ) -> Entry:
        """Keep a grade; when this returns, it is on the disk. A retry with the same UUID is no second vote.

        Parameters
        ----------
        seconds
            Of the look; what is more than the campaign's `Plan.idle_s` does not count.
        seen
            run_id, map_id: what the grader was looking at; unless told, those of the campaign's source.
        looked
            What was asked for beside the picture: "reconstruction", "context".

        Raises
        ------
        AccessError
            The key is not one of this grader's.
        UsageError
            No such campaign or grade, a closed campaign, or seconds that cannot be.
        LedgerError
            It was not kept.
        """
        campaign = self._open(campaign_id)
        if via not in get_args(Via):
            raise UsageError(f"{via!r} is no way to vote; there are {', '.join(get_args(Via))}")
        if not isinstance(interesting, bool):
            raise UsageError("interesting is a flag: true or false")
        slot = self._slot_of(campaign, who, key)
        item = slot % len(campaign.items)
        payload = {
            "campaign": campaign.id,
            "grade": self._grade(campaign, grade),
            "interesting": interesting,
            "via": via,
            "repeat": slot >= len(campaign.items),
            **_capped(seconds, campaign.plan.idle_s),
        }
        if looked:
            payload["looked"] = list(looked)
        if self._knows(campaign, who, slot):
            payload["informed"] = True
        subject_id = int(self.survey.subject_ids[campaign.items[item]])
        return self._append(campaign, who, payload, client_id, seen, subject_id)

    def bulk(
        self,
        campaign_id: str,
        who: str,
        grades: Mapping[str, str],
        *,
        kept: Sequence[str] = (),
        interesting: Sequence[str] = (),
        seconds: float,
        client_id: str | None = None,
        seen: Mapping[str, str | None] | None = None,
        via: Glance = "mosaic",
        n_keys: int = 0,
        n_clicks: int = 0,
    ) -> Entry:
        """Keep what was done in a mosaic, or in a grid of a cluster: one entry, and one step to undo.

        Parameters
        ----------
        grades
            Key → grade.
        kept
            Keys that were looked at and left for the second pass.
        interesting
            Keys of either that are interesting.
        seconds
            Of all looks together.
        via
            "grid": grades of one cluster, whose subjects were judged as a whole. Such a vote says less of each of them
            than one by one, and was given in the order of clusters, which is no random draw.
        n_keys, n_clicks
            Of a grid: what hands did since the one before.

        Raises
        ------
        AccessError, UsageError, LedgerError
            As `vote`; or nothing is in it, or a key twice; or it is a grid of no cluster, of several, or too large.
        """
        campaign = self._open(campaign_id)
        if via not in get_args(Glance):
            raise UsageError(f"{via!r} is no way to grade many at once; there are {', '.join(get_args(Glance))}")
        if not isinstance(grades, Mapping) or isinstance(kept, str) or isinstance(interesting, str):
            raise UsageError("a mosaic gives a grade for each key, and a list of keys that are kept")
        if set(interesting) - {*grades, *kept}:
            raise UsageError("what is interesting in a mosaic must have a grade there, or be kept")
        n = len(grades) + len(kept)
        if not 1 <= n <= MOST_AT_ONCE or len({*grades, *kept}) < n:
            raise UsageError(f"a mosaic is of 1 to {MOST_AT_ONCE:,} different looks; this one has {n:,}")
        n_items = len(campaign.items)
        told: dict[str, Any] = {"grades": {}, "kept": [], "repeats": {}, "kept_repeats": []}
        for key, grade in grades.items():
            slot = self._slot_of(campaign, who, key)
            subject = str(self.survey.subject_ids[campaign.items[slot % n_items]])
            told["repeats" if slot >= n_items else "grades"][subject] = self._grade(campaign, grade)
        for key in kept:
            slot = self._slot_of(campaign, who, key)
            subject = str(self.survey.subject_ids[campaign.items[slot % n_items]])
            told["kept_repeats" if slot >= n_items else "kept"].append(subject)
        flagged = [self._slot_of(campaign, who, key) for key in interesting]
        for name, is_repeat in (("interesting", False), ("interesting_repeats", True)):
            items = [campaign.items[slot % n_items] for slot in flagged if (slot >= n_items) == is_repeat]
            told |= {name: [str(self.survey.subject_ids[item]) for item in items]} if items else {}
        slots = {key: self._slot_of(campaign, who, key) for key in (*grades, *kept)}
        if knows := [slot % n_items for slot in slots.values() if self._knows(campaign, who, slot)]:
            told["informed"] = [str(self.survey.subject_ids[campaign.items[item]]) for item in knows]
        payload = {"campaign": campaign.id, "via": via, **told, **_capped(seconds, n * campaign.plan.idle_s)}
        if via == "grid":
            cluster = _cluster_of(campaign, [slot % n_items for slot in slots.values()])
            payload |= {"cluster": cluster, "n_keys": _presses(n_keys), "n_clicks": _presses(n_clicks)}
        return self._append(campaign, who, payload, client_id, seen)

    def undo(self, campaign_id: str, who: str, client_id: str | None = None) -> dict[str, Any]:
        """Take back the last step that this grader did in a campaign: a vote, or a whole mosaic.

        Returns
        -------
        dict
            ``keys`` that it was about, and ``what`` it was, in words.

        Raises
        ------
        UsageError
            There is nothing of theirs to take back, or the campaign is closed.
        """
        return self._step(campaign_id, who, client_id, False)

    def redo(self, campaign_id: str, who: str, client_id: str | None = None) -> dict[str, Any]:
        """Bring back what this grader took back last; nothing is left for it once they voted again. See `undo`."""
        return self._step(campaign_id, who, client_id, True)

    def _step(self, campaign_id: str, who: str, client_id: str | None, is_redo: bool) -> dict[str, Any]:
        campaign, client_id = self._open(campaign_id), uuid_of(client_id)
        with self._deciding[campaign.id, who]:
            with self._lock:
                book = self._read()
                tally = book.tally(campaign)
                grader = tally.must_have(who)
                before = book.undos.by_client.get(client_id)
                if before is not None:  # the answer to it was lost
                    target = before
                elif is_redo:
                    target = grader.redo[-1][1] if grader.redo else 0
                else:
                    target = next((e for e in reversed(grader.entries) if not book.undos.is_undone(e)), 0)
                if not target:
                    raise UsageError(f"there is nothing of yours to {'bring' if is_redo else 'take'} back here")
            if before is None:
                self._take_in(self.ledger.undo(target, who=who, client_id=client_id))
            with self._lock:
                rows = tally.rows_of(book.undos.root(target))
                keys = Keys(self._secret, campaign.id, who)
                is_grid = len(rows) > 0 and VIAS[tally.via[rows[0]]] == "grid"
                what = f"{len(rows):,} looks of a {'grid' if is_grid else 'mosaic'}"
                if len(rows) == 1:
                    code = tally.grade[rows[0]]
                    what = "the look" if code == KEPT else f"the grade {tally.keys[code]}"
                verb = "brought back" if is_redo else "took back"
                return {"keys": [keys.key(tally.slot[row]) for row in rows], "what": f"{verb} {what}"}

    def adjudicate(
        self,
        campaign_id: str,
        row: int,
        grade: str,
        *,
        who: str,
        interesting: bool = False,
        seconds: float = 0.0,
        client_id: str | None = None,
        seen: Mapping[str, str | None] | None = None,
    ) -> Entry:
        """Decide on a subject that graders dispute, with everybody's grades in sight: a vote of its own kind, which is
        in no consensus and no agreement. Of several the last one stands; `Ledger.undo` takes it back.

        Raises
        ------
        UsageError
            No such campaign or grade, a closed campaign, or a subject that is not graded in it.
        LedgerError
            It was not kept.
        """
        campaign = self._open(campaign_id)
        item = int(campaign.index_of([row])[0])
        if not 0 <= item < campaign.n_real:
            raise UsageError(f'"{campaign.plan.name}" grades no such subject, so nothing of it is to be settled')
        payload = {
            "campaign": campaign.id,
            "grade": self._grade(campaign, grade),
            "interesting": bool(interesting),
            "via": "adjudication",
            "repeat": False,
            **_capped(seconds, campaign.plan.idle_s),
        }
        return self._append(campaign, who, payload, client_id, seen, int(self.survey.subject_ids[row]))

    def set_outcome(self, row: int, outcome: str, source: str, *, who: str, client_id: str | None = None) -> Entry:
        """Keep what became of a subject later, whatever the campaign.

        Parameters
        ----------
        outcome
            "confirmed", "rejected", or "open", which takes either back.
        source
            What says so: 1 to 300 characters.

        Raises
        ------
        UsageError
            One of these is not so.
        LedgerError
            It was not kept.
        """
        if outcome not in OUTCOMES:
            raise UsageError(f"{outcome!r} is no outcome; there are {', '.join(OUTCOMES)}")
        source = " ".join(str(source).split())
        if not source or len(source) > MAX_SOURCE or not source.isprintable():
            raise UsageError(f"an outcome says in 1 to {MAX_SOURCE} characters what it is known by")
        if not 0 <= row < self.survey.n:
            raise UsageError(f"a subject with an outcome is outside the survey's rows 0 … {self.survey.n - 1:,}")
        told = {"outcome": outcome, "source": source}
        subject_id = int(self.survey.subject_ids[row])
        entry = self.ledger.append(OUTCOME, told, who=who, client_id=client_id, subject_id=subject_id)
        self._take_in(entry)
        return entry

    def _open(self, campaign_id: str) -> Campaign:
        campaign = self.campaigns.get(campaign_id)
        if not campaign.is_open:
            raise UsageError(f'the campaign "{campaign.plan.name}" is closed; nothing in it can be changed')
        return campaign

    def _slot_of(self, campaign: Campaign, who: str, key: object) -> int:
        slot = Keys(self._secret, campaign.id, who).slot(key)
        if slot is None or slot >= 2 * len(campaign.items):
            raise AccessError("this is not a subject that was given to you in this campaign; reload the page")
        return slot

    @staticmethod
    def _grade(campaign: Campaign, grade: object) -> str:
        text = str(grade)
        if text != CANNOT_JUDGE:
            try:
                campaign.plan.scheme.grade(text)
            except GradeError as error:
                raise UsageError(f"{error}, and {CANNOT_JUDGE} for who cannot judge") from None
        return text

    def _append(
        self,
        campaign: Campaign,
        who: str,
        payload: Mapping[str, Any],
        client_id: str | None,
        seen: Mapping[str, str | None] | None,
        subject_id: int | None = None,
    ) -> Entry:
        looked = {name: campaign.source.get(name) or None for name in ("run_id", "map_id")} | dict(seen or {})
        with self._deciding[campaign.id, who]:
            entry = self.ledger.append(
                KIND,
                payload,
                who=who,
                client_id=client_id,
                subject_id=subject_id,
                boundary_id=campaign.boundary_id,
                run_id=looked["run_id"],
                map_id=looked["map_id"],
            )
            self._take_in(entry)
        return entry

    # --------------------------------------------------------------------------------------------------------- told
    def told(self, campaign_id: str, who: str, key: str) -> dict[str, Any]:
        """What machine, volunteers and others say of one of a grader's looks.

        Returns
        -------
        dict
            ``scores`` (name → value, of the run that the campaign was made with, else of the newest), ``volunteers``
            (n_chosen, n_votes, chosen_fraction; None where nobody was asked) and ``votes`` of others (who, grade,
            interesting), adjudications marked ``is_adjudication``.

        Raises
        ------
        AccessError
            The campaign is blind and open, and this grader has not given their grade; or the key is not theirs.
        """
        campaign = self.campaigns.get(campaign_id)
        with self._at(campaign, who) as at:
            slot, tally = at.slot(key), at.tally
            if self._is_hidden(tally, at.grader, slot):
                raise AccessError("this campaign is blind: grade the subject first, then you are told what others say")
            item = slot % tally.n_items
            # of a repeat they know by it what they know of the first, and not the other way: it stays hidden
            self._told |= {(campaign.id, who, slot), (campaign.id, who, item)}
            votes = []
            for layer in (0, 2):
                for grader in tally.graders.values():
                    row = tally.current(grader, item + layer * tally.n_items)
                    if row >= 0 and tally.grade[row] != KEPT and (grader is not at.grader or layer):
                        vote: dict[str, Any] = {"who": grader.name, "grade": tally.keys[tally.grade[row]]}
                        vote |= {"interesting": bool(tally.interesting[row]), "is_adjudication": bool(layer)}
                        votes.append(vote)
        row = int(campaign.items[item])
        run_id = str(campaign.source.get("run_id") or "")
        runs = self.explore.runs()
        run_id = run_id if run_id in runs else newest(runs)
        scores = self.survey.scores(run_id) if run_id else {}
        record = self.survey.subject(row)
        asked = {name: record.get(name) for name in ("n_chosen", "n_votes", "chosen_fraction")}
        return {
            "scores": {
                name: float(scores[name][row]) if np.isfinite(scores[name][row]) else None
                for name in (self.explore.score_titles(run_id) if run_id else ())
                if name in scores
            },
            "volunteers": asked if asked["n_votes"] else None,
            "votes": votes,
        }

    def tell_all(self, campaign_id: str, who: str) -> None:
        """Note that a person is shown what everybody said in a campaign: what they say of these subjects from now on is
        not independent.
        """
        campaign = self.campaigns.get(campaign_id)
        with self._lock:
            tally = self._read().tally(campaign)
            told = self._told_of.setdefault((campaign.id, who), np.zeros(tally.n_items, np.bool_))
            for grader in tally.graders.values():
                if grader.name != who:
                    told |= grader.state[: tally.n_items] >= GRADED

    def _knows(self, campaign: Campaign, who: str, slot: int) -> bool:
        """Whether a grader was told what others said of one of their looks."""
        told = self._told_of.get((campaign.id, who))
        item = slot % len(campaign.items)
        return (campaign.id, who, slot) in self._told or (told is not None and bool(told[item]))

    @staticmethod
    def _is_hidden(tally: Tally, grader: Grader | None, slot: int) -> bool:
        campaign = tally.campaign
        if not campaign.plan.is_blind or not campaign.is_open:
            return False
        return grader is None or bool(grader.state[slot] < GRADED)

    def history(self, subject_id: int, person: Person) -> list[Event]:
        """Votes on a subject in every campaign, and its later outcomes, in the order of time.

        What was taken back is there, marked. Left out are votes of others in a campaign that is blind and open, for
        whoever may grade and has not graded it there; one's own hidden repeats, until the campaign is closed; and what
        a mosaic left for the second pass.
        """
        with self._lock:
            book = self._read()
            row = int(self.survey.rows_of([subject_id])[0])
            events = [
                Event(
                    entry.at,
                    entry.who,
                    OUTCOME,
                    f"{entry.payload['outcome']} by “{entry.payload['source']}”",
                    entry.id,
                    book.undos.is_undone(entry.id),
                )
                for entry in book.outcomes.get(subject_id, ())
            ]
            for campaign in self.campaigns.listed():
                item = int(campaign.index_of([row])[0]) if row >= 0 else -1
                if item >= 0 and campaign.id in book.tallies:
                    said = list(self._events(book.tally(campaign), item, person))
                    if any(event.who != person.name for event in said):
                        self._told.add((campaign.id, person.name, item))
                    events += said
        return sorted(events, key=lambda event: (event.at, event.entry or 0))

    def is_blind_to(self, subject_id: int, person: Person) -> bool:
        """Whether somebody has yet to grade a subject in a campaign that is blind and open: until then what others
        wrote of it is not for them either. An owner who grades nothing there is no grader."""
        if not person.may("vetter"):
            return False
        with self._lock:
            book = self._read()
            row = int(self.survey.rows_of([subject_id])[0])
            for campaign in self.campaigns.listed():
                item = int(campaign.index_of([row])[0]) if row >= 0 else -1
                if item < 0:
                    continue
                tally = book.tally(campaign)
                grader = tally.graders.get(person.name)
                if (grader is not None or not person.may("owner")) and self._is_hidden(tally, grader, item):
                    return True
        return False

    def _events(self, tally: Tally, item: int, person: Person) -> Iterator[Event]:
        campaign = tally.campaign
        is_hidden = person.may("vetter") and self._is_hidden(tally, tally.graders.get(person.name), item)
        verbs = {0: "graded it", 1: "graded it again, unknowing,", 2: "settled it as"}
        for grader in tally.graders.values():
            for layer, verb in verbs.items():
                if (is_hidden and grader.name != person.name) or (layer == 1 and campaign.is_open):
                    continue
                for row in tally.history(grader.head.get(item + layer * tally.n_items, -1)):
                    if tally.grade[row] != KEPT:
                        star = ", interesting" if tally.interesting[row] else ""
                        what = f"{verb} {tally.keys[tally.grade[row]]}{star} in “{campaign.plan.name}”"
                        at = datetime.fromtimestamp(tally.at[row] / 1_000_000, UTC).isoformat(timespec="microseconds")
                        yield Event(at, grader.name, KIND, what, tally.entry[row], not tally.stands[row])

    # ------------------------------------------------------------------------------------------------------- results
    def progress(self, campaign_id: str) -> tuple[np.ndarray, str]:
        """How far a campaign is, without a table of its votes.

        Returns
        -------
        n_votes
            int64 (`Campaign.n_real`,): of how many graders each subject and audit draw has a vote.
        mark
            Another one whenever a vote on this campaign, or a later outcome, has come or was taken back.
        """
        campaign = self.campaigns.get(campaign_id)
        with self._lock:
            book = self._read()
            tally = book.tally(campaign)
            known = [entry.id for i in book.outcomes if (entry := book.outcome(i)) is not None]
            mark = f"{len(tally.entry)}-{zlib.crc32(tally.stands):x}-{zlib.crc32(repr(known).encode()):x}"
            return tally.n_votes[: campaign.n_real].astype(np.int64), mark

    def votes(self, campaign_id: str, at: datetime | str | None = None) -> pd.DataFrame:
        """The votes that stand, now or as of a date: a row a grader and look, by time.

        Columns: row, subject_id, who, grade, value (NaN for who cannot judge), interesting, seconds (NaN where they
        are not known), at (UTC), role ("subject", "audit", "known", "dud" or "repeat"), via, n_revisions (votes on it
        before that were not taken back), is_informed (given after its grader was told what others said), independent
        (the last grade before that: the same as `grade` where nobody was told; "" where there was none).
        """
        campaign = self.campaigns.get(campaign_id)
        book = self._as_of(at)
        with self._lock:
            tally = book.tally(campaign)
            rows = tally.standing((0, 1, 2))
            columns = {name: tally.column(name)[rows] for name in ("slot", "grader", "grade", "via", "interesting")}
            columns |= {name: tally.column(name)[rows] for name in ("seconds", "at", "informed")}
            n_revisions = tally.n_revisions(rows)
            names = np.array(tally.names, object)
            own = columns["grade"].copy()
            for i in np.flatnonzero(columns["informed"]).tolist():
                before = (r for r in tally.history(tally.before[rows[i]]) if tally.stands[r] and not tally.informed[r])
                own[i] = next((tally.grade[r] for r in before if tally.grade[r] != KEPT), -1)
        slot = columns["slot"]
        index = slot % tally.n_items
        survey_rows = campaign.items[index]
        roles = np.array([*("subject", "audit", "known", "dud")], object)
        edges = np.cumsum([len(campaign.rows), len(campaign.audit), len(campaign.known)])
        role = roles[np.searchsorted(edges, index, side="right")]
        role = np.where(slot // tally.n_items == 1, "repeat", role)
        keys = np.array(tally.keys, object)
        return pd.DataFrame(
            {
                "row": survey_rows,
                "subject_id": self.survey.subject_ids[survey_rows],
                "who": names[columns["grader"]] if len(names) else np.empty(0, object),
                "grade": keys[columns["grade"]],
                "value": tally.values()[columns["grade"]],
                "interesting": columns["interesting"],
                "seconds": columns["seconds"],
                "at": pd.to_datetime(columns["at"], unit="us", utc=True),
                "role": role,
                "via": np.array(VIAS, object)[columns["via"]],
                "n_revisions": n_revisions,
                "is_informed": columns["informed"],
                "independent": np.where(own >= 0, keys[own], ""),
            }
        )

    def waiting(self, campaign_id: str, at: datetime | str | None = None) -> np.ndarray:
        """Subjects and audit draws that a mosaic left for the second pass and that nobody has graded or settled yet:
        the survey's rows, int64, ascending.
        """
        campaign = self.campaigns.get(campaign_id)
        book = self._as_of(at)
        with self._lock:
            tally, n = book.tally(campaign), campaign.n_real
            is_left = np.zeros(n, np.bool_)
            for grader in tally.graders.values():
                is_left |= grader.state[:n] == LEFT
            settled = tally.column("slot")[tally.standing((2,))] - 2 * tally.n_items
            is_left &= tally.n_votes[:n] == 0
            is_left[settled[settled < n]] = False
            rows = campaign.items[:n][is_left]
        return np.sort(rows[self.survey.frame()[rows]])

    def matrix(
        self, campaign_id: str, roles: Sequence[str] = ("subject", "audit"), at: datetime | str | None = None
    ) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Independent votes only: no repeats, no adjudications.

        Returns
        -------
        rows
            int64 (n,), ascending: the survey's rows of those with any vote.
        graders
            (m,), by name.
        values
            float64 (n, m): NaN where a grader has no vote, or could not judge.
        """
        votes = self.votes(campaign_id, at)
        votes = votes[votes["role"].isin(list(roles)) & (votes["via"] != "adjudication")]
        out = ~self.survey.frame() & ~self.survey.planted()  # withdrawn since: it counts no more
        votes = votes[~out[votes["row"]]]
        rows, at_row = np.unique(votes["row"].to_numpy(np.int64), return_inverse=True)
        graders, at_grader = np.unique(votes["who"].to_numpy(str), return_inverse=True)
        values = np.full((len(rows), len(graders)), np.nan)
        values[at_row, at_grader] = votes["value"].to_numpy(np.float64)
        return rows, [str(name) for name in graders], values

    def outcomes(self, campaign_id: str, at: datetime | str | None = None) -> pd.DataFrame:
        """What became of each graded subject and audit draw, by row; known objects and duds are not in it.

        Columns: row, subject_id, role; value (by the campaign's rule, of independent votes; NaN without); is_found (by
        the adjudication where there is one, else by the value); n_votes (of those who gave a grade) and
        n_found_votes, how many of them reach the limit; n_cannot (who could not judge); n_interesting; is_disputed
        (some reach the limit and some do not); adjudicated (the grade, "" without); outcome ("confirmed", "rejected",
        or ""), what was found out later.
        """
        campaign = self.campaigns.get(campaign_id)
        votes, book = self.votes(campaign.id, at), self._as_of(at)
        with self._lock:
            known = {i: entry.payload["outcome"] for i in book.outcomes if (entry := book.outcome(i)) is not None}
        is_counted = votes["role"].isin(["subject", "audit"]) & self.survey.frame()[votes["row"]]
        votes = votes[is_counted]
        is_adjudication = votes["via"] == "adjudication"
        adjudicated = votes[is_adjudication].sort_values("at").drop_duplicates("row", keep="last").set_index("row")
        given = votes[~is_adjudication]
        rows = np.unique(votes["row"].to_numpy(np.int64))
        where = np.searchsorted(rows, given["row"].to_numpy(np.int64))
        graders, at_grader = np.unique(given["who"].to_numpy(str), return_inverse=True)
        values = np.full((len(rows), max(len(graders), 1)), np.nan)
        values[where, at_grader] = given["value"].to_numpy(np.float64)
        scheme, rule = campaign.plan.scheme, campaign.plan.outcome
        value = values_of(values, rule, scheme)
        n_votes = (~np.isnan(values)).sum(axis=1)
        n_found_votes = (values >= scheme.positive).sum(axis=1)
        found = is_found(value, rule, scheme)
        text = adjudicated["grade"].reindex(rows).to_numpy(object)
        has = np.array([isinstance(one, str) for one in text], np.bool_)
        found[has] = [scheme.value(one) >= scheme.positive for one in text[has]]
        count = len(rows)
        return pd.DataFrame(
            {
                "row": rows,
                "subject_id": self.survey.subject_ids[rows],
                "role": np.where(np.isin(rows, campaign.audit), "audit", "subject"),
                "value": value,
                "is_found": found,
                "n_votes": n_votes,
                "n_found_votes": n_found_votes,
                "n_cannot": np.bincount(where, (given["grade"] == CANNOT_JUDGE).to_numpy(), count).astype(np.int64),
                "n_interesting": np.bincount(where, given["interesting"].to_numpy(), count).astype(np.int64),
                "is_disputed": (n_found_votes > 0) & (n_found_votes < n_votes),
                "adjudicated": np.where(has, text, ""),
                "outcome": np.array([known.get(i, "") for i in self.survey.subject_ids[rows].tolist()], object),
            }
        )


def effort_of(graders: Sequence[Grader]) -> dict[str, Any]:
    """See `Vetting.effort`."""
    n_grid = sum(grader.n_by[GRID] for grader in graders)
    n = n_grid + sum(grader.n_by[SINGLE] for grader in graders)
    n_keys, n_clicks = sum(grader.n_keys for grader in graders), sum(grader.n_clicks for grader in graders)
    saved = 1 - (n_keys + n_clicks) / n if n else None
    return {"n": n, "n_grid": n_grid, "n_keys": n_keys, "n_clicks": n_clicks, "saved": saved}


def effort_words(told: Mapping[str, Any]) -> str:
    """What `Vetting.effort` comes to, in words; "" before the first grade."""
    if not told["n"]:
        return ""
    n_keys = told["n_keys"]
    work = f"{n_keys:,} key press{'' if n_keys == 1 else 'es'} and {counted(told['n_clicks'], 'click')}"
    share = round(100 * abs(told["saved"]))
    than = f"{share} % {'fewer' if told['saved'] > 0 else 'more'} than" if share else "as many as"
    return f"{counted(told['n'], 'subject')} in {work}: {than} one by one"


def _cluster_of(campaign: Campaign, items: Sequence[int]) -> int:
    """The number of the one cluster that a grid is of."""
    if campaign.clusters is None:
        raise UsageError(f'"{campaign.plan.name}" is not graded by clusters, so it has no grids')
    if len(items) > MOST_IN_GRID:
        raise UsageError(f"a grid has {MOST_IN_GRID} subjects at most; this one has {len(items):,}")
    numbers = {int(campaign.clusters.of[item]) for item in items}
    if len(numbers) > 1:
        raise UsageError("a grid is of one cluster; reload the page")
    return campaign.clusters.told[numbers.pop()].cluster


def _presses(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MOST_PRESSES:
        raise UsageError(f"key presses and clicks are whole numbers from 0 to {MOST_PRESSES:,}")
    return n


def _capped(seconds: object, most: float) -> dict[str, float]:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        raise UsageError(f"seconds must be a number from 0 to {MAX_SECONDS:,.0f}")
    if not math.isfinite(seconds):
        raise UsageError(f"seconds must be a number from 0 to {MAX_SECONDS:,.0f}")
    return {"seconds": round(min(float(seconds), most), 2), "seconds_raw": round(float(seconds), 2)}
