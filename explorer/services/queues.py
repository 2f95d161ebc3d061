"""In which order each grader of a campaign sees its subjects, and the keys by which their page knows them.

An order follows from the campaign and the grader's name alone (sha256, and the raw bits of Philox, which are the same
in every version of numpy), so it is the same after a restart. A *place* in it never changes: what is left out for a
grader (see `explorer.services.tallies`) leaves a gap, and a batch of acquisition comes behind all others.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from explorer.services.campaigns import ONE_IN, Campaign, strata_of
from explorer.survey import Survey

#: Looks between a subject and its hidden repeat: at least, and at most where all of them are shown.
LEAST_APART, MOST_APART = 20, 119
#: The same in a campaign by clusters: at least a grid of 6 × 6, so that nobody sees both at once.
GRID_APART = 36
#: Places between both at most, other repeats among them, unless they are of different batches.
REACH = 512
_ROUNDS = 6


class Keys:
    """Opaque keys of one grader in one campaign, 16 hexadecimal digits: a slot's number, enciphered.

    Nothing is to be kept for them: a key is made when it is asked for, and read back. Another grader's key is no key,
    but by a chance of 2⁻⁴⁴ at 2²⁰ slots.

    Parameters
    ----------
    secret
        Kept outside the survey.
    """

    def __init__(self, secret: bytes, campaign_id: str, who: str) -> None:
        told = json.dumps([campaign_id, who]).encode()
        self._key = hashlib.blake2b(told, key=secret, digest_size=32).digest()

    def _round(self, number: int, half: int) -> int:
        content = bytes([number]) + half.to_bytes(4)
        return int.from_bytes(hashlib.blake2b(content, key=self._key, digest_size=4).digest())

    def key(self, slot: int) -> str:
        """The key of a slot, 0 ≤ slot < 2⁴⁰."""
        block = slot << 24
        left, right = block >> 32, block & 0xFFFFFFFF
        for number in range(_ROUNDS):
            left, right = right, left ^ self._round(number, right)
        return f"{left << 32 | right:016x}"

    def slot(self, key: object) -> int | None:
        """The slot of a key; None where it is not one of this grader's in this campaign."""
        if not isinstance(key, str) or len(key) != 16 or set(key) - set("0123456789abcdef"):
            return None
        block = int(key, 16)
        left, right = block >> 32, block & 0xFFFFFFFF
        for number in reversed(range(_ROUNDS)):
            left, right = right ^ self._round(number, left), left
        block = left << 32 | right
        return None if block & 0xFFFFFF else block >> 24


class Arrangement:
    """One grader's order of a campaign.

    Attributes
    ----------
    slots
        int32 (P,): what is at each place: an index of `Campaign.items`, or M more for its hidden repeat.
    repeat_places, first_places
        int64 (R,), ascending in the former: where each repeat is, and where what it repeats.
    least_apart
        Looks between both, at least.
    """

    #: Places that are looked through at once.
    BLOCK = 1024

    def __init__(self, survey: Survey, campaign: Campaign, who: str) -> None:
        self._seed = json.dumps([campaign.id, who]).encode()
        self._n_items = len(campaign.items)
        self.least_apart = LEAST_APART if campaign.clusters is None else GRID_APART
        parts = self._parts(survey, campaign)
        self.slots = self._with_repeats(campaign, parts)
        is_repeat = self.slots >= self._n_items
        self.repeat_places = np.flatnonzero(is_repeat)
        repeated = self.slots[is_repeat] - self._n_items
        sorter = np.argsort(repeated)
        self._repeated, self._places_of_repeated = repeated[sorter], self.repeat_places[sorter]
        self._block_of = np.zeros(self._n_items, np.uint16 if len(self.slots) < self.BLOCK << 16 else np.int32)
        firsts = np.flatnonzero(~is_repeat)
        self._block_of[self.slots[firsts]] = firsts // self.BLOCK
        self.first_places = np.empty(len(repeated), np.int64)
        if len(repeated):
            place_of = np.zeros(self._n_items, np.int32)
            place_of[self.slots[firsts]] = firsts
            self.first_places = place_of[repeated].astype(np.int64)

    @property
    def n_blocks(self) -> int:
        """How many times `BLOCK` places there are, rounded up."""
        return -(-len(self.slots) // self.BLOCK)

    def place(self, slot: int) -> int | None:
        """Where a slot is; None where it is in no batch yet."""
        if slot >= self._n_items:
            at = int(np.searchsorted(self._repeated, slot - self._n_items))
            is_there = at < len(self._repeated) and self._repeated[at] == slot - self._n_items
            return int(self._places_of_repeated[at]) if is_there else None
        low = int(self._block_of[slot]) * self.BLOCK
        found = np.flatnonzero(self.slots[low : low + self.BLOCK] == slot)
        return low + int(found[0]) if len(found) else None

    def blocks(self, slot: int) -> set[int]:
        """The blocks in which something may be shown or not by what becomes of a slot."""
        item = slot % self._n_items
        first = int(self._block_of[item])
        # behind it are repeats of others between which and their first it lies
        touched = set(range(first, min(first + REACH // self.BLOCK + 2, self.n_blocks)))
        if (repeat := self.place(item + self._n_items)) is not None:
            touched.add(repeat // self.BLOCK)
        return touched

    # ---------------------------------------------------------------------------------------------------- making it
    def _raw(self, purpose: str, n: int) -> np.ndarray:
        """uint64 (n,): bits that depend on the grader, the campaign and what they are for."""
        key = int.from_bytes(hashlib.sha256(self._seed + purpose.encode()).digest()[:16])
        return np.asarray(np.random.Philox(key=key).random_raw(n))

    def _shuffled(self, purpose: str, items: np.ndarray, n: int | None = None) -> np.ndarray:
        """All of `items`, or `n` of them, at random."""
        raw = self._raw(purpose, len(items))
        if n is None or n >= len(items):
            return items[np.argsort(raw)]
        first = np.argpartition(raw, n)[:n]
        return items[first[np.argsort(raw[first])]]

    def _parts(self, survey: Survey, campaign: Campaign) -> list[np.ndarray]:
        """Items in their order, without repeats: a part for each batch or cluster, else one."""
        n, n_real, items = len(campaign.rows), campaign.n_real, np.arange(self._n_items)
        if campaign.plan.order == "seeded":
            return [self._shuffled("order", items)]
        if campaign.clusters is not None:
            # whatever it is there for, it lies among its like: in another cluster's grids it would be told at once
            shuffled = self._shuffled("order", items)
            by_cluster = shuffled[np.argsort(campaign.clusters.of[shuffled], kind="stable")]
            ends = np.cumsum(np.bincount(campaign.clusters.of, minlength=len(campaign.clusters.told)))
            return np.split(by_cluster, ends[:-1])
        if campaign.plan.order == "stratified":
            level = strata_of(survey, campaign.plan, campaign.rows)
            shuffled = self._shuffled("order", items[:n])
            by_level = shuffled[np.argsort(level[shuffled], kind="stable")]
            counts = np.bincount(level)
            rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)  # of each in its level
            graded = by_level[np.lexsort((self._raw("turn", n), rank))]
            where = np.concatenate([np.arange(0.5, n), self._raw("mixed", self._n_items - n) / 2.0**64 * n])
            return [np.concatenate([graded, items[n:]])[np.argsort(where, kind="stable")]]
        audit, probes = self._shuffled("audit", items[n:n_real]), self._shuffled("probes", items[n_real:])
        parts, n_looks, n_audit, n_probes = [], 0, 0, 0
        for number, batch in enumerate(campaign.batches):
            fresh = campaign.index_of(np.concatenate([batch.rows, batch.random_rows]))
            n_looks += len(fresh)
            until = min(len(audit), n_looks // ONE_IN)
            probes_until = min(len(probes), (n_looks + until) // (ONE_IN - 1))
            part = np.concatenate([fresh, audit[n_audit:until], probes[n_probes:probes_until]])
            n_audit, n_probes = until, probes_until
            parts.append(self._shuffled(f"batch {number}", part))
        return parts

    def _with_repeats(self, campaign: Campaign, parts: list[np.ndarray]) -> np.ndarray:
        """Mix repeats in, none before `least_apart` other looks; at the end where the queue is too short for that. In a
        campaign by clusters each is in its own cluster, and none in those that are too small."""
        is_real = np.zeros(self._n_items, np.bool_)
        is_real[: campaign.n_real] = True
        sequence, made = np.empty(0, np.int64), []  # of all firsts so far; with repeats
        is_repeated = np.zeros(self._n_items, np.bool_)
        n_made, n_looks = 0, 0
        for number, part in enumerate(parts):
            if campaign.clusters is not None:
                sequence = sequence[:0]
            start, sequence = len(sequence), np.concatenate([sequence, part])
            end = len(sequence)
            n_looks += int(is_real[part].sum())
            wanted = int(campaign.plan.repeats * n_looks + 0.5) - n_made
            places = np.flatnonzero(is_real[sequence] & ~is_repeated[sequence])
            n_real = np.cumsum(is_real[sequence])
            far = places[n_real[places] + self.least_apart <= n_real[-1:]]
            if not len(far) and campaign.clusters is None:
                far = places
            chosen = self._shuffled(f"repeats {number}", far, max(wanted, 0))
            is_repeated[sequence[chosen]] = True
            n_made += len(chosen)
            nearest = np.searchsorted(n_real, n_real[chosen] + self.least_apart)
            low = np.minimum(np.maximum(nearest, start), end - 1)
            high = np.where(chosen + MOST_APART < start, end - 1, np.minimum(chosen + MOST_APART, end - 1))
            raw = self._raw(f"apart {number}", len(chosen))
            after = low + (raw % (np.maximum(high, low) - low + 1).astype(np.uint64)).astype(np.int64)
            in_order = np.argsort(after, kind="stable")
            repeats = sequence[chosen[in_order]] + self._n_items
            made.append(np.insert(part, after[in_order] + 1 - start, repeats))
        return np.concatenate([np.empty(0, np.int64), *made]).astype(np.int32)
