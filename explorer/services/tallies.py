"""The votes of one campaign as they stand, kept up entry by entry: columns that grow, not an object a vote.

A *slot* is what one grader has one vote on: an index of `Campaign.items`, M more for its hidden repeat, 2 M more for
its adjudication. Of several votes on a slot the last that is not taken back stands; those before it are its history.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np

from explorer.ledger import Entry
from explorer.services.campaigns import Campaign
from explorer.services.queues import REACH, Arrangement
from explorer.survey import Survey
from models.grades import CANNOT_JUDGE

#: How a vote was given; "import" came from elsewhere, "grid" is one on a whole grid of a cluster.
VIAS = ("single", "mosaic", "adjudication", "import", "grid")
SINGLE, GRID = VIAS.index("single"), VIAS.index("grid")
#: Many at once, where what was not marked is what the page says.
AT_A_GLANCE = ("mosaic", "grid")
#: In the column of grades: looked at in the mosaic and left for the second pass. Others are indices of the keys.
KEPT = -1
#: Types of the columns.
_KINDS = {"entry": "i8", "slot": "i4", "before": "i4", "grader": "u2", "grade": "i1", "via": "u1"}
_KINDS |= {"interesting": "?", "informed": "?", "stands": "?", "seconds": "f8", "at": "i8"}
#: What a slot is to a grader.
NOTHING, LEFT, GRADED, TURNED = 0, 1, 2, 3  # the last: graded in the mosaic or in a grid

#: Item, layer (0 a first, 1 a repeat), grade (None: left for the second pass), whether interesting, whether informed.
_Look = tuple[int, int, str | None, bool, bool]


class Grader:
    """What one person has done in a campaign."""

    def __init__(self, number: int, name: str, n_slots: int) -> None:
        self.number, self.name = number, name
        self.head: dict[int, int] = {}  # slot → the last vote on it, taken back or not
        self.state = np.zeros(n_slots, np.uint8)  # pages of it that nobody writes to take no memory
        self.entries = array("q")  # their own, of which the last is undone first
        self.redo: list[tuple[int, int]] = []  # entry and the undo that took it back, the last one last
        self.touched = array("i")  # slots whose state has changed, for what is made of it
        self.n_graded = self.n_left = 0
        self.graded_by = np.zeros(n_slots, np.uint8)  # of what is graded: by which of `VIAS`
        self.n_by = [0] * len(VIAS)  # how many looks are graded by each of these
        self.n_keys = self.n_clicks = 0  # in grids, and a key for each vote one by one: also of what was taken back
        self.seconds = 0.0
        self.last: int | None = None  # slot that was graded or left last

    def has(self, entry_id: int) -> bool:
        """Whether an entry is one of `entries`."""
        at = bisect_left(self.entries, entry_id)
        return at < len(self.entries) and self.entries[at] == entry_id


class Tally:
    """See the module. Not thread-safe: whoever has it has a lock."""

    def __init__(self, survey: Survey, campaign: Campaign) -> None:
        self.survey, self.campaign = survey, campaign
        self.n_items = len(campaign.items)
        self.keys = [*(grade.key for grade in campaign.plan.scheme.grades), CANNOT_JUDGE]
        self._code = {key: code for code, key in enumerate(self.keys)}
        self.graders: dict[str, Grader] = {}
        self.names: list[str] = []
        self.n_votes = np.zeros(self.n_items, np.int16)  # of how many graders each item has a vote
        self.filled = array("i")  # items that got their last vote, or lost it, one by one
        self.generation = -1
        self.is_frame = np.empty(0, np.bool_)
        self.look_at_survey()
        self.entry, self.slot, self.before = array("q"), array("i"), array("i")
        self.grader, self.grade, self.via = array("H"), array("b"), array("B")
        self.interesting, self.informed, self.stands = bytearray(), bytearray(), bytearray()
        self.seconds, self.at = array("d"), array("q")

    def look_at_survey(self) -> None:
        """Who is withdrawn may have changed: those are not shown to who has not begun them."""
        if self.generation != self.survey.generation:
            self.generation = self.survey.generation
            self.is_frame = self.survey.frame()[self.campaign.items]
            self.is_frame[self.campaign.n_real :] = True  # a planted subject may be a known object

    def must_have(self, who: str) -> Grader:
        """A person as a grader of this campaign, from now on."""
        if who not in self.graders:
            self.graders[who] = Grader(len(self.names), who, 3 * self.n_items)
            self.names.append(who)
        return self.graders[who]

    # -------------------------------------------------------------------------------------------------------- apply
    def items_of(self, subject_ids: Sequence[int]) -> list[int]:
        """Indices of `Campaign.items`; -1 for who is not in it. Many at once cost hardly more than one."""
        found: list[int] = self.campaign.index_of(self.survey.rows_of(subject_ids)).tolist()
        return found

    def add(self, entry: Entry, item: int | None = None) -> None:
        """Take in a vote, or a bulk of them; what cannot be one of this campaign is passed over.

        Parameters
        ----------
        item
            Of the entry's subject, where that is known.
        """
        told = entry.payload
        try:
            via = VIAS.index(told["via"])
            looks = self._looks(entry) if entry.subject_id is None else [self._look(entry, item)]
            seconds = float(told.get("seconds", math.nan)) / max(len(looks), 1)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):  # of another making
            return
        is_settled = told["via"] == "adjudication"
        grader = self.must_have(str(told.get("grader") or entry.who))
        is_own, at, n_before = entry.who == grader.name, _microseconds(entry.at), len(self.entry)
        for index, layer, key, is_interesting, is_informed in looks:
            if index < 0 or (key is not None and key not in self._code):
                continue
            slot = index + self.n_items * (2 if is_settled else layer)
            self.entry.append(entry.id)
            self.slot.append(slot)
            self.before.append(grader.head.get(slot, -1))
            self.grader.append(grader.number)
            self.grade.append(KEPT if key is None else self._code[key])
            self.via.append(via)
            self.interesting.append(is_interesting)
            self.informed.append(is_informed)
            self.stands.append(1)
            self.seconds.append(seconds)
            self.at.append(at)
            grader.head[slot] = len(self.entry) - 1
            grader.seconds += seconds if seconds == seconds else 0.0
            if not is_settled:
                grader.last = slot if is_own else grader.last
                self._settle(grader, slot)
        if not is_settled and len(self.entry) > n_before:
            grader.n_keys += _count(told.get("n_keys")) if via == GRID else via == SINGLE
            grader.n_clicks += _count(told.get("n_clicks")) if via == GRID else 0
        if is_own and not is_settled and len(self.entry) > n_before:
            grader.entries.append(entry.id)
            grader.redo.clear()

    def _look(self, entry: Entry, item: int | None) -> _Look:
        told = entry.payload
        if item is None:
            (item,) = self.items_of([entry.subject_id or 0])
        is_interesting, is_informed = bool(told.get("interesting")), bool(told.get("informed"))
        return item, int(bool(told.get("repeat"))), str(told["grade"]), is_interesting, is_informed

    def _looks(self, entry: Entry) -> list[_Look]:
        """Of a mosaic: item, layer, grade (None: left for the second pass), whether interesting, and informed."""
        told, found = entry.payload, []
        informed = set(told.get("informed", ()))
        for layer, suffix in enumerate(("", "_repeats")):
            given = {**told.get("repeats" if layer else "grades", {}), **dict.fromkeys(told.get(f"kept{suffix}", ()))}
            flagged = set(told.get(f"interesting{suffix}", ()))
            for item, (subject, key) in zip(self.items_of([int(i) for i in given]), given.items(), strict=True):
                found.append((item, layer, key, subject in flagged, subject in informed))
        return found

    def rows_of(self, entry_id: int) -> range:
        """The votes of an entry; none where it is not of this campaign."""
        return range(bisect_left(self.entry, entry_id), bisect_right(self.entry, entry_id))

    def turn(self, entry_id: int, stands: bool) -> None:
        """Take an entry back, or bring it back."""
        for row in self.rows_of(entry_id):
            self.stands[row] = stands
            grader = self.graders[self.names[self.grader[row]]]
            seconds = self.seconds[row] if self.seconds[row] == self.seconds[row] else 0.0
            grader.seconds += seconds if stands else -seconds
            if self.slot[row] < 2 * self.n_items:
                self._settle(grader, self.slot[row])
        rows = self.rows_of(entry_id)
        if len(rows):
            grader = self.graders[self.names[self.grader[rows[0]]]]
            grader.last = self._last_of(grader)

    def _last_of(self, grader: Grader) -> int | None:
        for entry_id in reversed(grader.entries):
            rows = self.rows_of(entry_id)
            if len(rows) and self.stands[rows[-1]]:
                return self.slot[rows[-1]]
        return None

    def current(self, grader: Grader, slot: int) -> int:
        """The vote that stands on a slot; -1 for none."""
        row = grader.head.get(slot, -1)
        while row >= 0 and not self.stands[row]:
            row = self.before[row]
        return row

    def history(self, row: int) -> Iterator[int]:
        """A vote and those before it on its slot, also those taken back, the last one first."""
        while row >= 0:
            yield row
            row = self.before[row]

    def _settle(self, grader: Grader, slot: int) -> None:
        row = self.current(grader, slot)
        state = NOTHING if row < 0 else LEFT if self.grade[row] == KEPT else GRADED
        if state == GRADED and VIAS[self.via[row]] in AT_A_GLANCE:
            state = TURNED
        before = int(grader.state[slot])
        if before >= GRADED:
            grader.n_by[grader.graded_by[slot]] -= 1
        if state >= GRADED:
            grader.graded_by[slot] = self.via[row]
            grader.n_by[self.via[row]] += 1
        if state == before:
            return
        grader.state[slot] = state
        grader.touched.append(slot)
        change = (state >= GRADED) - (before >= GRADED)
        grader.n_graded += change
        grader.n_left += (state == LEFT) - (before == LEFT)
        if change and slot < self.n_items:
            limit = self.campaign.plan.graders
            was_full = self.n_votes[slot] >= limit
            self.n_votes[slot] += change
            if was_full != (self.n_votes[slot] >= limit):
                self.filled.append(slot)

    # --------------------------------------------------------------------------------------------------------- look
    def standing(self, layers: Iterable[int] = (0,)) -> np.ndarray:
        """Votes that stand and have a grade, of firsts (0), repeats (1) and adjudications (2): rows, int64, in order.

        One for each grader and slot.
        """
        if not len(self.entry):
            return np.empty(0, np.int64)
        stands, before, grade = (self.column(name) for name in ("stands", "before", "grade"))
        is_current, earlier = stands.copy(), before[stands]
        while len(earlier := earlier[earlier >= 0]):  # those before one that stands are its history
            is_current[earlier] = False
            earlier = before[earlier]
        is_current &= (grade != KEPT) & np.isin(self.column("slot") // self.n_items, list(layers))
        return np.flatnonzero(is_current)

    def n_revisions(self, rows: np.ndarray) -> np.ndarray:
        """int64 (n,): grades on the same slot before each vote that were not taken back."""
        found = np.zeros(len(rows), np.int64)
        for i in np.flatnonzero(self.column("before")[rows] >= 0).tolist():
            earlier = self.history(self.before[rows[i]])
            found[i] = sum(1 for row in earlier if self.stands[row] and self.grade[row] != KEPT)
        return found

    def column(self, name: str) -> np.ndarray:
        """A copy of a column, a value a vote."""
        kind = _KINDS[name]
        return np.frombuffer(getattr(self, name), kind).copy() if len(self.entry) else np.empty(0, kind)

    def values(self) -> np.ndarray:
        """float64: the value of each code of a grade; NaN for who cannot judge."""
        return np.array([self.campaign.plan.scheme.value(key) for key in self.keys])


class Shown:
    """Which places of a grader's order are shown to them, kept up block by block.

    What they have graded or left is always shown. Else: a subject until it has its graders' votes; known objects and
    duds in the share in which the subjects around them are; a repeat where what it repeats is, and at least 20 shown
    subjects lie between (36 in a campaign by clusters), unless the queue was too short for that.
    """

    def __init__(self, tally: Tally, grader: Grader, order: Arrangement) -> None:
        self.tally, self.grader, self.order = tally, grader, order
        self._n_filled, self._n_touched = len(tally.filled), len(grader.touched)
        self.generation = tally.generation
        self._shape = [b""] * order.n_blocks
        self._n_shapes, self._name = 0, secrets.token_hex(4)
        self._dirty = set(range(order.n_blocks))
        self.n_shown = np.zeros(order.n_blocks, np.int64)

    def _look_again(self) -> None:
        filled, touched = self.tally.filled, self.grader.touched
        changed = {*filled[self._n_filled :], *filter(self._may_matter, touched[self._n_touched :])}
        self._n_filled, self._n_touched = len(filled), len(touched)
        if len(changed) > 4 * self.order.n_blocks:
            self._dirty = set(range(self.order.n_blocks))
            return
        for slot in changed:
            self._dirty |= self.order.blocks(slot)

    def _may_matter(self, slot: int) -> bool:
        """Whether what the grader did to a slot may change what is shown: not where it is open to everybody."""
        if slot >= self.tally.campaign.n_real or not self.tally.is_frame[slot]:
            return True
        return bool(self.tally.n_votes[slot] - (self.grader.state[slot] >= GRADED) >= self.tally.campaign.plan.graders)

    def count(self) -> int:
        """How many are shown."""
        self._count()
        return int(self.n_shown.sum())

    def _count(self) -> None:
        self._look_again()
        for block in self._dirty:
            places = self.places(block)
            self.n_shown[block] = len(places)
            shape = hashlib.blake2b(places.tobytes(), digest_size=8).digest()
            if shape != self._shape[block]:
                self._shape[block], self._n_shapes = shape, self._n_shapes + 1
        self._dirty.clear()

    @property
    def version(self) -> str:
        """Another text where other looks are shown, or at another index."""
        self._count()
        return f"{self._name}-{self._n_shapes}"

    def states(self) -> np.ndarray:
        """uint8, of all that are shown, in order."""
        return np.asarray(self.grader.state[self.slots()])

    def slots(self) -> np.ndarray:
        """int32, of all that are shown, in order."""
        blocks = [self.order.slots[self.places(block)] for block in range(self.order.n_blocks)]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int32)

    def place_of(self, index: int) -> int | None:
        """The place of the index-th that is shown, from 0; None beyond the last."""
        self._count()
        ends = np.cumsum(self.n_shown)
        if not 0 <= index < (int(ends[-1]) if len(ends) else 0):
            return None
        block = int(np.searchsorted(ends, index, side="right"))
        return int(self.places(block)[index - (int(ends[block - 1]) if block else 0)])

    def index_of(self, place: int) -> int:
        """How many places are shown before one."""
        self._count()
        block = place // self.order.BLOCK
        return int(self.n_shown[:block].sum()) + int(np.searchsorted(self.places(block), place))

    def walk(self, start: int, step: int) -> Iterator[int]:
        """Places that are shown, from one on (`step` 1) or back (-1)."""
        block = start // self.order.BLOCK
        while 0 <= block < self.order.n_blocks:
            places = self.places(block)
            yield from (p for p in places[::step].tolist() if (p >= start if step > 0 else p <= start))
            block += step

    def places(self, block: int) -> np.ndarray:
        """Places of a block that are shown, int64, ascending."""
        tally, state, n_items = self.tally, self.grader.state, self.tally.n_items
        low = block * self.order.BLOCK
        reach = max(0, low - REACH)  # for what lies between a repeat and its first
        slots = self.order.slots[reach : low + self.order.BLOCK]
        is_repeat = slots >= n_items
        items = slots - n_items * is_repeat
        begun = state[slots] > NOTHING
        is_open = (tally.n_votes[items] < tally.campaign.plan.graders) & tally.is_frame[items]
        is_real = ~is_repeat & (items < tally.campaign.n_real)
        shown = begun | (is_real & is_open)
        own = low - reach
        self._show_probes(shown[own:], begun[own:], is_real[own:], ~is_real[own:] & ~is_repeat[own:])
        self._show_repeats(shown, begun, is_real, items, is_open, reach, own)
        return low + np.flatnonzero(shown[own:])

    @staticmethod
    def _show_probes(shown: np.ndarray, begun: np.ndarray, is_real: np.ndarray, is_probe: np.ndarray) -> None:
        n_probes, n_real = int(is_probe.sum()), int(is_real.sum())
        if not n_probes:
            return
        share = float((shown & is_real).sum()) / n_real if n_real else 1.0
        n_more = int(np.ceil(n_probes * share)) - int((is_probe & begun).sum())
        shown[np.flatnonzero(is_probe & ~begun)[: max(n_more, 0)]] = True

    def _show_repeats(
        self,
        shown: np.ndarray,
        begun: np.ndarray,
        is_real: np.ndarray,
        items: np.ndarray,
        is_open: np.ndarray,
        reach: int,
        own: int,
    ) -> None:
        places, low, high = self.order.repeat_places, reach + own, reach + len(shown)
        a, b = np.searchsorted(places, [low, high])
        at, first = places[a:b] - reach, self.order.first_places[a:b] - reach
        has_first = (self.grader.state[items[at]] > NOTHING) | is_open[at]
        between = np.cumsum(shown & is_real)  # up to and with each
        known, least = first >= 0, self.order.least_apart  # of those from long ago it is not asked
        n_between = np.where(known, between[at - 1] - between[np.maximum(first, 0)], least)
        n_at_most = np.where(known, at - first - 1, least)
        enough = (n_between >= least) | (n_at_most < least)
        shown[at] |= has_first & enough & ~begun[at]


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _microseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1_000_000)


class Undos:
    """Which entries are taken back, by applying each undo as it comes."""

    def __init__(self) -> None:
        self._takers: Counter[int] = Counter()  # entry → how many standing entries take it back
        self._target: dict[int, int] = {}  # undo → what it takes back
        self.by_client: dict[str, int] = {}  # UUID → undo

    def apply(self, entry: Entry) -> Mapping[int, bool]:
        """What is not an undo and stands now (True), or does not (False), by this undo; {} where nothing changed."""
        assert entry.undoes is not None
        self._target[entry.id] = at = entry.undoes
        self.by_client[entry.client_id] = entry.id
        change = 1
        while True:
            was_undone = self._takers[at] > 0
            self._takers[at] += change
            is_undone = self._takers[at] > 0
            if is_undone == was_undone:
                return {}
            if at not in self._target:
                return {at: not is_undone}
            change = -1 if is_undone else 1
            at = self._target[at]

    def root(self, entry_id: int) -> int:
        """What an undo, or the undo of an undo, is about in the end."""
        while entry_id in self._target:
            entry_id = self._target[entry_id]
        return entry_id

    def target(self, undo_id: int) -> int:
        """What an undo takes back."""
        return self._target[undo_id]

    def is_undone(self, entry_id: int) -> bool:
        """Whether an entry is taken back."""
        return self._takers[entry_id] > 0
