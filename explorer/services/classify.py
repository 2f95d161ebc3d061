"""Our own volunteers: grids of subjects to look through, and what was chosen in them.

The task is the study's: a grid of 4 × 4 and "Click on any galaxies which are particularly interesting to you". A grid
is drawn at random from the subjects that are not retired: seen by fewer distinct volunteers than
`Settings.retire_after`, not withdrawn, and never seen by this volunteer. Every answer is one entry of the ledger (kind
``classification``), of the grid's own UUID and the page's, so that a retry is no second vote; undo is an entry, too.

**Training.** Subjects whose answer is known are mixed in and tell the volunteer how it went: *known objects*, worth
choosing (column ``is_known``, gold labels of the grid's task with answer ``chosen``, the kept selection "training"),
and *duds*, not worth it (gold labels with answer "", the kept selection "duds"; they win where both say so). A grid has
none, or one of each kind, by `training_share`. They are shown for nothing else, and the entry names their cells: no
consensus counts them.

**Skill** is an agent of SWAP (Marshall et al. 2016): P("chosen" | known object) and P("not chosen" | dud), each
(2 + right) / (4 + seen), from a volunteer's first answer on each; skill is the information that the next vote is
expected to give. **Levels** as in aggregation-for-caesar's reducer: one more when the mean of the two is at least .7
and 10 more of both kinds were seen, so none without duds. From level 2 on half of a grid, at level 3 all, is drawn from
the most disputed subjects (highest entropy of the votes cast so far); who is more skilled draws from the higher
end of them.

**By acquisition**, where there is a run to go by (`explorer.services.next_up`): a share of each grid is drawn at random
from all that are open, as ever; what volunteers disagree about comes by level; of the other cells those that fewer than
`Settings.least` volunteers have seen come first, at random, until there are none; then the run's order, one of each
duplicate group. The entry says by which run, and which way each cell was drawn (`WAYS`); what is drawn comes of the
grid's id, which it has, too. Only those drawn at random speak for the survey
(`explorer.services.at_random`).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
import threading
import time
import uuid
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explorer.caches import Cache
from explorer.errors import AccessError, UsageError, VoorwerpError
from explorer.ledger import Entry, Ledger
from explorer.secret import secret_of
from explorer.services.next_up import NextUp, Order
from explorer.services.notes import tag_of
from explorer.services.originals import Originals, png
from explorer.services.training import training_classes
from explorer.survey import Survey
from explorer.votes import GOLD, GRID_TASK
from models.swap import skill

N_CELLS = 16
KIND = "classification"
#: Names of the kept selections that hold training subjects.
#: Longest side of a picture in the grid, and of one looked at closer, px.
CELL_PX, LARGE_PX = 320, 1024
MAX_TAGS = 5
MAX_SECONDS = 86_400.0
MOST_LEVEL = 3
#: Of each kind of training subject, for one more level; and the mean skill it takes.
PER_LEVEL, ENOUGH = 10, 0.7
#: Views before votes on a subject say that they disagree; disputed subjects that are kept in mind.
LEAST_VIEWS, MOST_DISPUTED = 3, 512
#: Seconds for which the disputed subjects and a count of the whole survey are good.
FRESH = 2.0
#: Pictures kept in memory, of some 10 kB each.
KEPT_PICTURES = 8_192
#: Grids that one volunteer has open at once, in several tabs.
MOST_OPEN = 8
#: Of the first so many open ones of an order by acquisition a grid is drawn, so that not everybody has the same ones;
#: and how many of the order are looked at at once.
AHEAD, CHUNK = 2 * N_CELLS, 1_024
#: Seconds after which an order is looked through from its begin again: what was taken back is open again.
ANEW = 60.0
#: How a cell of a grid was drawn, where there is an order by acquisition: as training; at random from all that are open
#: and new to the volunteer; as disputed; at random from those that too few have seen; by the run's order; or at random
#: from what that leaves.
WAYS = ("training", "random", "disputed", "least", "acquisition", "rest")
_SEAL = 16
#: In the byte of the level: the seal says how each cell was drawn.
_MIXED = 0x80

#: A crop that takes more of the picture's side is not outlined: the subject is the picture.
MOST_OUTLINED = 0.7


@dataclass(frozen=True, slots=True)
class Settings:
    """How grids are made.

    Attributes
    ----------
    retire_after
        Distinct volunteers after whom a subject is not shown any more; the study's is 10.
    most_grids
        One volunteer answers at most so many.
    next_by
        The run whose acquisition says who is shown next, "newest" for the newest that has one; "" for none.
    random_share
        Of the cells that are not training, drawn at random all the same; 0 to 1.
    least
        Volunteers who see every subject before any comes by acquisition.
    """

    retire_after: int = 10
    most_grids: int = 5_000
    next_by: str = ""
    random_share: float = 0.2
    least: int = 3

    def __post_init__(self) -> None:
        if self.retire_after < 1:
            raise UsageError(f"subjects cannot retire after {self.retire_after} volunteers; 1 is the least")
        if not 0 <= self.random_share <= 1:
            raise UsageError(f"a share of {self.random_share:g} cannot be drawn at random; give 0 to 1")
        if self.next_by and not 0 <= self.least <= self.retire_after:
            raise UsageError(
                f"{self.least} volunteers cannot see every subject first where it retires after {self.retire_after}; "
                f"give 0 to {self.retire_after}"
            )


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is at the page: 16 hexadecimal digits for a browser, and the link that let them in (None: the login)."""

    volunteer: str
    link: str | None = None
    most_grids: int | None = None

    @property
    def who(self) -> str:
        """As in the ledger."""
        return f"volunteer:{self.volunteer}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Up to 16 subjects for one volunteer. `rows` is int64 (n,), in reading order.

    `drawn` is how each of them was (`WAYS`), and `run_id` by which run; () and "" where there was none to go by.
    """

    id: uuid.UUID
    volunteer: str
    level: int
    rows: np.ndarray
    drawn: tuple[str, ...] = ()
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What people look at.

    Attributes
    ----------
    content
        A JPEG; a PNG where only the network's crop is there; empty where nothing can be read.
    arcsec
        Of its longer side; None where the scale is not known.
    outline
        Left, top and side of the subject's crop in a square around the picture, as shares of that square's side; None
        where the picture is hardly wider than the crop.
    """

    content: bytes
    arcsec: float | None = None
    outline: tuple[float, float, float] | None = None


class AnsweredError(UsageError):
    """This grid has an answer already."""


# -------------------------------------------------------------------------------------------------- what was said
@dataclass(slots=True)
class _Answer:
    who: str
    grid_id: str
    client_id: str
    rows: np.ndarray
    chosen: frozenset[int]
    training: frozenset[int]
    tags: dict[str, list[str]]
    drawn: tuple[str, ...]
    run_id: str


@dataclass(slots=True)
class Person:
    """One volunteer's answers so far.

    Attributes
    ----------
    seen
        Row → the standing entries that it is in, the first one first.
    grids
        Entries of the standing grids, as they were answered.
    trained
        Row of a training subject → whether it was chosen when it was first answered.
    """

    seen: dict[int, tuple[int, ...]] = field(default_factory=dict)
    grids: list[int] = field(default_factory=list)
    trained: dict[int, bool] = field(default_factory=dict)


class Tally:
    """What the ledger says about grids, kept by applying each entry that is new. Call it under one lock."""

    def __init__(self, survey: Survey, ledger: Ledger) -> None:
        self._survey, self._ledger = survey, ledger
        #: Distinct volunteers who saw, and who chose, each row; training left out.
        self.n_views = np.zeros(survey.n, np.int32)
        self.n_chosen = np.zeros(survey.n, np.int32)
        self.people: defaultdict[str, Person] = defaultdict(Person)
        #: Answers by link, those taken back too: they are rows all the same.
        self.by_link: Counter[str] = Counter()
        #: Standing answers by grid.
        self.standing: dict[str, int] = {}
        self.n_selections = 0
        #: Row → its views when this was last cleared, where an entry has changed them.
        self.before: dict[int, int] = {}
        self.answers: dict[int, _Answer] = {}
        self._last = 0
        self._undoers: defaultdict[int, list[int]] = defaultdict(list)
        self._target: dict[int, int] = {}

    def read(self) -> None:
        """Apply what was added since the last call."""
        kinds = (KIND, "undo", "selection")
        for entry in self._ledger.entries(kinds, since=self._last, include_undone=True):
            self._last = entry.id
            if entry.undoes is not None:
                self._take_back(entry)
            elif entry.kind == KIND:
                self._add(entry)
            else:
                self.n_selections += 1

    def _add(self, entry: Entry) -> None:
        told = entry.payload
        try:
            rows = self._survey.rows_of([int(i) for i in told["subjects"]])
            chosen, training = frozenset(told["chosen"]), frozenset(told["training"])
            grid_id, tags, drawn = told["grid_id"], dict(told.get("tags", {})), tuple(told.get("drawn", ()))
        except (KeyError, TypeError, ValueError):  # of another making
            return
        if told.get("link"):
            self.by_link[told["link"]] += 1
        answer = _Answer(entry.who, grid_id, entry.client_id, rows, chosen, training, tags, drawn, entry.run_id or "")
        self.answers[entry.id] = answer
        person = self.people[entry.who]
        for cell in training & set(np.flatnonzero(rows >= 0).tolist()):
            person.trained.setdefault(int(rows[cell]), cell in chosen)
        self._count(entry.id, 1)

    def _take_back(self, entry: Entry) -> None:
        self.n_selections += 1  # it may have taken one back
        assert entry.undoes is not None
        self._target[entry.id] = entry.undoes
        root = entry.undoes
        while root in self._target:
            root = self._target[root]
        stood = not self._is_undone(root)
        self._undoers[entry.undoes].append(entry.id)
        stands = not self._is_undone(root)
        if root in self.answers and stood != stands:
            self._count(root, 1 if stands else -1)

    def _is_undone(self, entry_id: int) -> bool:
        return any(not self._is_undone(undoer) for undoer in self._undoers.get(entry_id, ()))

    def _count(self, entry_id: int, by: int) -> None:
        answer = self.answers[entry_id]
        person = self.people[answer.who]
        if by > 0:
            person.grids.append(entry_id)
            self.standing[answer.grid_id] = entry_id
        else:
            person.grids.remove(entry_id)
            self.standing.pop(answer.grid_id, None)
        for row in answer.rows[answer.rows >= 0].tolist():
            before = person.seen.get(row, ())
            after = tuple(sorted({*before, entry_id})) if by > 0 else tuple(e for e in before if e != entry_id)
            (seen, chose), (sees, chooses) = self._vote(row, before), self._vote(row, after)
            self.before.setdefault(row, int(self.n_views[row]))
            self.n_views[row] += sees - seen
            self.n_chosen[row] += chooses - chose
            if after:
                person.seen[row] = after
            else:
                del person.seen[row]

    def _vote(self, row: int, entries: tuple[int, ...]) -> tuple[bool, bool]:
        """Whether one volunteer's entries have a vote on a row, and whether the first one chose it."""
        for entry_id in entries:
            answer = self.answers[entry_id]
            cell = answer.rows.tolist().index(row)
            if cell not in answer.training:
                return True, cell in answer.chosen
        return False, False


def training_share(n_grids: int) -> float:
    """The share of grids with training subjects, by how many a volunteer has answered.

    Space Warps' frequencies (Marshall et al. 2016): 2 in 5 of the first 20, then 30, 20 and at last 10 %. There it is a
    share of images, here of grids.
    """
    return (0.4, 0.3, 0.2, 0.1)[min(n_grids // 20, 3)]


def entropy(n_chosen: np.ndarray, n_views: np.ndarray) -> np.ndarray:
    """Of votes in favor and against, bits, float64 (n,) from 0 to 1; 0 where nobody voted."""
    p = n_chosen / np.maximum(n_views, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -np.nan_to_num(p * np.log2(p)) - np.nan_to_num((1 - p) * np.log2(1 - p))
    return np.asarray(each, np.float64)


# ------------------------------------------------------------------------------------------------------ the service
class Classify:
    """Grids for volunteers, and their answers. Callable from a script; thread-safe.

    Parameters
    ----------
    seed
        Of the draws: for tests.
    """

    def __init__(
        self, survey: Survey, ledger: Ledger, settings: Settings | None = None, seed: int | None = None
    ) -> None:
        self.survey, self.ledger = survey, ledger
        self.settings = settings or Settings()
        self._originals = Originals(survey)
        self._key = bytes.fromhex(secret_of(survey.info.survey_id, "classify"))
        self._tally = Tally(survey, ledger)
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._open: defaultdict[str, dict[uuid.UUID, Grid]] = defaultdict(dict)
        self._taking: set[str] = set()
        self._pictures = Cache(KEPT_PICTURES)
        self._training: tuple[Any, np.ndarray, np.ndarray] = (None, np.empty(0, np.int64), np.empty(0, np.int64))
        self._is_training = np.zeros(survey.n, np.int8)
        self._is_out = np.zeros(survey.n, bool)
        self._fresh: tuple[float, np.ndarray, list[float], dict[str, int]] = (-math.inf, np.empty(0, np.int64), [], {})
        self._next_up = NextUp(survey, self.settings.next_by) if self.settings.next_by else None
        self._few: tuple[float, np.ndarray] = (-math.inf, np.empty(0, np.int64))
        self._front: tuple[Order | None, float, int] = (None, -math.inf, 0)

    def close(self) -> None:
        """End the decoding process, if there is one."""
        self._originals.close()
        if self._next_up is not None:
            self._next_up.close()

    # ------------------------------------------------------------------------------------------------------ grids
    def grid(self, visitor: Visitor, held: Iterable[str] = ()) -> Grid | None:
        """The next grid of a volunteer; None where they have seen everything that still needs eyes.

        Parameters
        ----------
        held
            Seals (`seal`) of the grids that the page has already. One that it has lost, by a reload, comes again.

        Raises
        ------
        UsageError
            The survey has no images, or a seal is not ours.
        AccessError
            The volunteer, or the link, has answered as many as it may.
        """
        if not self.survey.has_images or not self.survey.n:
            raise UsageError("this survey has no images to look at")
        theirs = [self.unsealed(seal, visitor) for seal in held]
        with self._lock:
            self._tally.read()
            self._refuse_full(visitor)
            opened = self._open[visitor.volunteer]
            for grid in theirs:  # those of before a restart
                if str(grid.id) not in self._tally.standing:
                    opened.setdefault(grid.id, grid)
            known = {grid.id for grid in theirs}
            for grid in opened.values():
                if grid.id not in known:
                    return grid
            if len(opened) >= MOST_OPEN:
                raise UsageError("too many grids are open at once; answer one first")
            order = self._next_up.order() if self._next_up is not None else None
            grid = self._drawn(visitor) if order is None else self._mixed(visitor, order)
            if not len(grid.rows):
                return None
            opened[grid.id] = grid
            return grid

    def _refuse_full(self, visitor: Visitor) -> None:
        if len(self._tally.people[visitor.who].grids) >= self.settings.most_grids:
            raise AccessError(
                f"you have answered {self.settings.most_grids:,} grids, as many as one person may; thank you"
            )
        if visitor.link and visitor.most_grids and self._tally.by_link[visitor.link] >= visitor.most_grids:
            raise AccessError(f"this link has brought {visitor.most_grids:,} grids, all that it may; thank you")

    def _taken(self, visitor: Visitor) -> set[int]:
        """Rows that a volunteer has seen, or has open."""
        taken = set(self._tally.people[visitor.who].seen)
        for grid in self._open[visitor.volunteer].values():
            taken.update(grid.rows.tolist())
        return taken

    def _trained(self, person: Person, taken: set[int], rng: np.random.Generator) -> list[int]:
        """Training subjects of a grid: one of each kind, or none."""
        rows: list[int] = []
        if rng.random() < training_share(len(person.grids)):
            for kind in self._training[1:]:
                fresh = [row for row in rng.permutation(kind)[:4096].tolist() if row not in taken]
                rows += fresh[:1]
        return rows

    def _disputed(self, person: Person, level: int, n: int, taken: set[int], rng: np.random.Generator) -> list[int]:
        """Of `n` cells those that a volunteer of this level gets from what others disagree about."""
        n_hard = (0, n // 2, n)[level - 1]
        if not n_hard:
            return []
        return [row for row in self._hard(person, rng) if row not in taken and not self._is_closed(row)][:n_hard]

    def _drawn(self, visitor: Visitor) -> Grid:
        """A new grid; without rows where nothing is left."""
        self._refresh_training()
        person, taken, rng = self._tally.people[visitor.who], self._taken(visitor), self._rng
        level = self._level(person)
        rows = self._trained(person, taken, rng)
        rows += self._disputed(person, level, N_CELLS - len(rows), taken, rng)
        rows += self._random(N_CELLS - len(rows), taken.union(rows), rng)
        if all(self._is_training[row] for row in rows):  # what is known alone tells us nothing new
            rows = []
        return Grid(uuid.uuid4(), visitor.volunteer, level, rng.permutation(np.array(rows, np.int64)))

    def _mixed(self, visitor: Visitor, order: Order) -> Grid:
        """A new grid by acquisition; see the module."""
        self._refresh_training()
        grid_id = uuid.UUID(bytes=self._rng.bytes(16), version=4)
        person, taken, rng = self._tally.people[visitor.who], self._taken(visitor), np.random.default_rng(grid_id.int)
        level = self._level(person)
        drawn = dict.fromkeys(self._trained(person, taken, rng), "training")
        n = N_CELLS - len(drawn)
        whole, part = divmod(self.settings.random_share * n, 1)
        n_random = int(whole) + int(rng.random() < part)
        # first, from all that are open: who was chosen in another way must not be less likely
        drawn |= dict.fromkeys(self._random(n_random, taken, rng), "random")
        taken |= drawn.keys()
        hard = self._disputed(person, level, N_CELLS - len(drawn), taken, rng)
        drawn |= dict.fromkeys(hard, "disputed")
        taken |= drawn.keys()
        if self.settings.least:
            few = self._seen_by_few()
            drawn |= dict.fromkeys(self._random(N_CELLS - len(drawn), taken, rng, few), "least")
            taken |= drawn.keys()
        drawn |= dict.fromkeys(self._by(order, N_CELLS - len(drawn), taken, rng), "acquisition")
        taken |= drawn.keys()
        drawn |= dict.fromkeys(self._random(N_CELLS - len(drawn), taken, rng), "rest")
        if all(self._is_training[row] for row in drawn):
            drawn = {}
        rows = rng.permutation(np.array(list(drawn), np.int64))
        ways = tuple(drawn[row] for row in rows.tolist())
        return Grid(grid_id, visitor.volunteer, level, rows, ways, order.run_id)

    def _seen_by_few(self) -> np.ndarray:
        """Open rows that fewer than `Settings.least` volunteers have seen, as of `FRESH` seconds ago at most."""
        if time.monotonic() - self._few[0] > FRESH:
            few = (self._tally.n_views < self.settings.least) & ~self._is_out & (self._is_training == 0)
            self._few = time.monotonic(), np.flatnonzero(few)
        return self._few[1]

    def _by(self, order: Order, n: int, taken: set[int], rng: np.random.Generator) -> list[int]:
        """`n` of the first open rows in an order, any of the first `AHEAD`, one of each duplicate group."""
        if not n:
            return []
        found: list[int] = []
        groups: set[int] = set()
        for rows in self._ahead(order):
            for row in rows:
                group = int(order.group[row])
                members = order.members.get(group, ())
                if row in taken or (members and (group in groups or not taken.isdisjoint(members))):
                    continue
                groups.add(group)
                found.append(row)
                if len(found) == AHEAD:
                    break
            if len(found) == AHEAD:
                break
        return [found[i] for i in rng.permutation(len(found))[:n]]

    def _ahead(self, order: Order) -> Iterator[list[int]]:
        """Open rows in an order, some at a time."""
        before, looked, start = self._front
        if before is not order or time.monotonic() - looked > ANEW:
            looked, start = time.monotonic(), 0
        is_front = True
        for at in range(start, len(order.rows), CHUNK):
            rows = order.rows[at : at + CHUNK]
            is_open = self._tally.n_views[rows] < self.settings.retire_after
            is_open &= ~self._is_out[rows] & (self._is_training[rows] == 0)
            if is_front:
                self._front = order, looked, at
                is_front = not is_open.any()
            if is_open.any():
                yield rows[is_open].tolist()

    def _is_closed(self, row: int) -> bool:
        return bool(
            self._is_out[row] or self._is_training[row] or self._tally.n_views[row] >= self.settings.retire_after
        )

    def _random(
        self, n: int, taken: set[int], rng: np.random.Generator | None = None, among: np.ndarray | None = None
    ) -> list[int]:
        """`n` open rows, or all there are, each as likely: by trial, and by a look at all where few are left.

        `among`: only these.
        """
        rng = rng or self._rng
        found: dict[int, None] = {}
        n_all = self.survey.n if among is None else len(among)
        for _ in range(8 if n_all else 0):
            if len(found) >= n:
                break
            at = rng.integers(0, n_all, 4 * N_CELLS)
            tried = (at if among is None else among[at]).tolist()
            found.update(dict.fromkeys(row for row in tried if row not in taken and not self._is_closed(row)))
        if len(found) < n and n_all:
            is_open = ~self._is_out & (self._is_training == 0) & (self._tally.n_views < self.settings.retire_after)
            is_open[list(taken)] = False
            rows = np.flatnonzero(is_open) if among is None else among[is_open[among]]
            return [int(row) for row in rng.permutation(rows)[:n]]
        return list(found)[:n]

    # ----------------------------------------------------------------------------------------------------- training
    def _refresh_training(self) -> None:
        survey = self.survey
        gold = survey.path / GOLD
        stamp = gold.stat().st_mtime_ns if gold.exists() else 0
        key = (survey.generation, stamp, self._tally.n_selections)
        if key == self._training[0]:
            return
        classes = training_classes(survey, self.ledger)
        known, duds = classes == 1, classes == 0
        self._is_out = _flags(survey, "is_withdrawn")
        self._is_training = np.where(known, 1, np.where(duds, -1, 0)).astype(np.int8)
        known_rows, dud_rows = np.flatnonzero(known & ~self._is_out), np.flatnonzero(duds & ~self._is_out)
        self._training = key, known_rows, dud_rows
        self._fresh = (-math.inf, *self._fresh[1:])

    def _right(self, person: Person) -> tuple[tuple[int, int], tuple[int, int]]:
        """Right and seen, of known objects and of duds."""
        counts = {1: [0, 0], -1: [0, 0]}
        for row, was_chosen in person.trained.items():
            if kind := int(self._is_training[row]):
                counts[kind][0] += was_chosen == (kind == 1)
                counts[kind][1] += 1
        (a, b), (c, d) = counts[1], counts[-1]
        return (a, b), (c, d)

    def _agent(self, person: Person) -> tuple[float, float]:
        """P("chosen" | known object) and P("not chosen" | dud)."""
        known, dud = ((2 + right) / (4 + seen) for right, seen in self._right(person))
        return known, dud

    def _skill(self, person: Person) -> float:
        """Bits that the next vote is expected to tell."""
        p_chosen, p_passed = self._agent(person)
        return float(skill(np.array(p_chosen), np.array(p_passed)))

    def _level(self, person: Person) -> int:
        least = min(seen for _, seen in self._right(person))
        return 1 + min(least // PER_LEVEL, MOST_LEVEL - 1) if sum(self._agent(person)) / 2 >= ENOUGH else 1

    def _hard(self, person: Person, rng: np.random.Generator | None = None) -> list[int]:
        """Disputed rows for this volunteer: a third of them by rank of skill, in any order, then the others."""
        _, hard, skills, _ = self._refreshed()
        if not len(hard):
            return []
        rank = bisect_right(skills, self._skill(person)) / len(skills) if skills else 1.0
        n = max(3 * N_CELLS, len(hard) // 3)
        start = round((1 - rank) * max(0, len(hard) - n))
        window = hard[start : start + n]
        return [*(rng or self._rng).permutation(window).tolist(), *hard[:start].tolist(), *hard[start + n :].tolist()]

    def _refreshed(self) -> tuple[float, np.ndarray, list[float], dict[str, int]]:
        """When this was made; the most disputed open rows, worst first; skills above level 1, sorted; progress."""
        if time.monotonic() - self._fresh[0] > FRESH:
            tally, limit = self._tally, self.settings.retire_after
            counts = ~self._is_out & (self._is_training == 0)
            open_rows = np.flatnonzero(counts & (tally.n_views >= LEAST_VIEWS) & (tally.n_views < limit))
            bits = entropy(tally.n_chosen[open_rows], tally.n_views[open_rows])
            hard = open_rows[np.argsort(-bits, kind="stable")[:MOST_DISPUTED]]
            hard = hard[tally.n_chosen[hard] > 0]
            skills = sorted(self._skill(p) for p in tally.people.values() if self._level(p) > 1)
            progress = {
                "n_subjects": int(np.count_nonzero(counts)),
                "n_retired": int(np.count_nonzero(counts & (tally.n_views >= limit))),
                "n_views": int(np.minimum(tally.n_views[counts], limit).sum()),
                "n_needed": int(np.count_nonzero(counts)) * limit,
                "n_volunteers": sum(1 for p in tally.people.values() if p.grids),
            }
            tally.before.clear()
            self._fresh = time.monotonic(), hard, skills, progress
        return self._fresh

    def _progress(self) -> dict[str, int]:
        """That of the survey, with every answer that is in: the last whole count, and what has changed since."""
        progress, tally, limit = self._refreshed()[3], self._tally, self.settings.retire_after
        rows = np.fromiter(tally.before, np.int64, len(tally.before))
        before = np.fromiter(tally.before.values(), np.int64, len(rows))
        counts = ~self._is_out[rows] & (self._is_training[rows] == 0)
        before, after = (np.minimum(views, limit)[counts] for views in (before, tally.n_views[rows]))
        n_retired = np.count_nonzero(after == limit) - np.count_nonzero(before == limit)
        return progress | {
            "n_views": progress["n_views"] + int(after.sum() - before.sum()),
            "n_retired": progress["n_retired"] + int(n_retired),
        }

    # ------------------------------------------------------------------------------------------------------- answers
    def answer(self, visitor: Visitor, told: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what was chosen in a grid; when this returns, it is on the disk.

        Parameters
        ----------
        told
            ``grid`` (a seal), ``id`` (a UUID made by the page), ``chosen`` (cells from 0), ``tags`` (cell → texts),
            ``seconds``, ``cell_seconds`` (cell → seconds).

        Returns
        -------
        dict
            ``feedback`` on training subjects (cell, kind "known" or "dud", chosen) and what `standing` says.

        Raises
        ------
        UsageError
            Something in it is not what it should be.
        AnsweredError
            The grid has another answer already.
        AccessError
            See `grid`.
        LedgerError
            It could not be kept.
        """
        if not isinstance(told, Mapping):
            raise UsageError("an answer is an object")
        grid = self.unsealed(told.get("grid"), visitor)
        grid_id, client_id = str(grid.id), _uuid(told.get("id"))
        cells = range(len(grid.rows))
        payload = {
            "grid_id": grid_id,
            "task": GRID_TASK,
            "subjects": [str(i) for i in self.survey.subject_ids[grid.rows].tolist()],
            "chosen": sorted(_cells(told.get("chosen"), cells)),
            "tags": _tags(told.get("tags", {}), cells),
            "seconds": _seconds(told.get("seconds")),
            "cell_seconds": _by_cell(told.get("cell_seconds", {}), cells, _seconds),
            "link": visitor.link,
            "open_link": visitor.link is not None,
            "level": grid.level,
            **({"drawn": list(grid.drawn), "retire_after": self.settings.retire_after} if grid.drawn else {}),
        }
        with self._lock:
            self._tally.read()
            level = self._level(self._tally.people[visitor.who])
            at = self._tally.standing.get(grid_id)
            if at is not None and self._tally.answers[at].client_id == client_id:  # the answer to it was lost
                return self._told(visitor, self._tally.answers[at], level)
            if at is not None or grid_id in self._taking:
                raise AnsweredError("this grid has been answered already, maybe in another tab")
            self._refuse_full(visitor)
            self._refresh_training()
            payload["training"] = [cell for cell in cells if self._is_training[grid.rows[cell]]]
            self._taking.add(grid_id)
        try:
            entry = self.ledger.append(KIND, payload, who=visitor.who, client_id=client_id, run_id=grid.run_id or None)
        finally:
            with self._lock:
                self._taking.discard(grid_id)
        with self._lock:
            self._tally.read()
            if self._tally.standing.get(grid_id) != entry.id:
                raise AnsweredError("this answer has been taken back; give it anew")
            self._open[visitor.volunteer].pop(grid.id, None)
            return self._told(visitor, self._tally.answers[entry.id], level)

    def undo(self, visitor: Visitor) -> dict[str, Any]:
        """Take back a volunteer's last answer.

        Returns
        -------
        dict
            ``grid`` (the seal of that grid, to be answered anew), ``chosen`` and ``tags`` as they were, and what
            `standing` says.

        Raises
        ------
        UsageError
            There is none.
        LedgerError
            It could not be kept.
        """
        with self._lock:
            self._tally.read()
            grids = self._tally.people[visitor.who].grids
            if not grids:
                raise UsageError("there is no grid of yours to take back")
            entry_id = grids[-1]
            answer = self._tally.answers[entry_id]
        self.ledger.undo(entry_id, who=visitor.who)
        with self._lock:
            self._tally.read()
            level = self._level(self._tally.people[visitor.who])
            grid = Grid(uuid.UUID(answer.grid_id), visitor.volunteer, level, answer.rows, answer.drawn, answer.run_id)
            opened = self._open[visitor.volunteer]
            self._open[visitor.volunteer] = {grid.id: grid, **opened}
            told = {"grid": self.seal(grid), "chosen": sorted(answer.chosen), "tags": answer.tags}
            return told | self._standing(visitor)

    def standing(self, visitor: Visitor) -> dict[str, Any]:
        """How far a volunteer and the survey are: grids, galaxies, level, right of seen training subjects, progress."""
        with self._lock:
            self._tally.read()
            self._refresh_training()
            return self._standing(visitor)

    def _standing(self, visitor: Visitor) -> dict[str, Any]:
        person = self._tally.people[visitor.who]
        known, duds = self._right(person)
        told = {"n_grids": len(person.grids), "n_galaxies": len(person.seen), "level": self._level(person)}
        return told | {"known": known, "duds": duds, "progress": self._progress()}

    def _told(self, visitor: Visitor, answer: _Answer, level: int) -> dict[str, Any]:
        kinds = {1: "known", -1: "dud"}
        feedback = [
            {"cell": cell, "kind": kinds[kind], "chosen": cell in answer.chosen}
            for cell in sorted(answer.training)
            if (kind := int(self._is_training[answer.rows[cell]]))
        ]
        told = {"feedback": feedback, **self._standing(visitor)}
        return told | {"level_up": told["level"] > level}

    # -------------------------------------------------------------------------------------------------------- seals
    def seal(self, grid: Grid) -> str:
        """A grid as text that the page gives back; nobody else can make one. It is good after a restart, too."""
        rows, level = grid.rows.astype("<u4").tobytes(), grid.level
        if grid.drawn:
            level |= _MIXED
            rows = bytes([len(grid.rows)]) + rows + bytes(map(WAYS.index, grid.drawn)) + grid.run_id.encode()
        body = grid.id.bytes + bytes.fromhex(grid.volunteer) + bytes([level]) + rows
        return (body + self._mac(b"grid", body)).hex()

    def unsealed(self, text: Any, visitor: Visitor) -> Grid:
        """The grid of a seal.

        Raises
        ------
        UsageError
            It is not one that we gave to this volunteer.
        """
        try:
            content = bytes.fromhex(text)
        except (TypeError, ValueError):
            content = b""
        body, mac = content[:-_SEAL], content[-_SEAL:]
        is_ours = hmac.compare_digest(mac, self._mac(b"grid", body)) and len(body) >= 29
        if not is_ours or body[16:24].hex() != visitor.volunteer:
            raise UsageError("this is not a grid that was given to you; reload the page")
        level, told, drawn, run_id = body[24], body[25:], b"", b""
        if level & _MIXED:
            n, told = told[0], told[1:]
            told, drawn, run_id = told[: 4 * n], told[4 * n : 5 * n], told[5 * n :]
        rows = np.array(struct.unpack(f"<{len(told) // 4}I", told), np.int64)
        ways = tuple(WAYS[code] for code in drawn)
        return Grid(uuid.UUID(bytes=body[:16]), visitor.volunteer, level & ~_MIXED, rows, ways, run_id.decode())

    def token(self, purpose: str, text: str) -> str:
        """A text that only we can make of another, for a purpose."""
        return self._mac(purpose.encode(), text.encode()).hex()

    def _mac(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.new(self._key, purpose + b"\0" + content, hashlib.sha256).digest()[:_SEAL]

    # ----------------------------------------------------------------------------------------------------- pictures
    def picture(self, row: int, longest: int = CELL_PX) -> Look:
        """What people look at: the original; where it cannot be shown, its thumbnail; else the crop, or nothing."""
        return self._pictures.get((row, longest), lambda: self._made(row, longest))

    def _made(self, row: int, longest: int) -> Look:
        survey = self.survey
        try:
            content, width, height = self._originals.shown(row, longest)
            scale = self._scales()[row]
            arcsec = float(scale) * max(width, height) if scale > 0 else None
            return Look(content, arcsec, self._outline(row, width, height))
        except VoorwerpError:
            pass
        with suppress(VoorwerpError):
            return Look(survey.thumbnails([row])[0])
        with suppress(VoorwerpError):
            return Look(png(np.asarray(survey.images[row]), survey.info.rgb))
        return Look(b"")

    def _outline(self, row: int, width: int, height: int) -> tuple[float, float, float] | None:
        """Where in a wide original the subject is: its crop."""
        left, top, side = (self.survey.column(f"crop_{name}")[row] for name in ("left", "top", "side"))
        longer = max(width, height)
        if not 0 < side < MOST_OUTLINED * longer:  # unknown, or most of it
            return None
        return (
            float(left + (longer - width) / 2) / longer,
            float(top + (longer - height) / 2) / longer,
            float(side) / longer,
        )

    def _scales(self) -> np.ndarray:
        """Arcsec per px of every original, float64 (N,), NaN where unknown."""
        scales = self.survey.column("pixel_scale_arcsec")
        whole = self.survey.info.pixel_scale_arcsec
        return scales if whole is None else np.where(scales > 0, scales, whole)


def _flags(survey: Survey, name: str) -> np.ndarray:
    """A column of yes and no; missing is no."""
    return np.asarray(survey.arrow(name).fill_null(False).to_numpy(zero_copy_only=False), bool).copy()


def _uuid(text: Any) -> str:
    try:
        return str(uuid.UUID(text))
    except (TypeError, ValueError, AttributeError):
        raise UsageError("an answer needs a UUID of its own") from None


def _cells(told: Any, cells: range) -> set[int]:
    if not isinstance(told, list) or not all(type(cell) is int and cell in cells for cell in told):
        raise UsageError(f"chosen must be a list of cells from 0 to {cells[-1]}")
    return set(told)


def _by_cell(told: Any, cells: range, read: Callable[[Any], Any]) -> dict[str, Any]:
    names = {str(cell) for cell in cells}
    if not isinstance(told, Mapping) or not set(told) <= names:
        raise UsageError(f"cells are named from 0 to {cells[-1]}")
    return {cell: read(told[cell]) for cell in sorted(told, key=int)}


def _tags(told: Any, cells: range) -> dict[str, list[str]]:
    def read(texts: Any) -> list[str]:
        if not isinstance(texts, list) or len(texts) > MAX_TAGS or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"a galaxy gets at most {MAX_TAGS} tags, each a text")
        return list(dict.fromkeys(tag_of(text) for text in texts))

    return {cell: tags for cell, tags in _by_cell(told, cells, read).items() if tags}


def _seconds(told: Any) -> float:
    is_number = isinstance(told, int | float) and not isinstance(told, bool)
    if not is_number or not 0 <= told <= MAX_SECONDS:
        raise UsageError(f"seconds must be a number from 0 to {MAX_SECONDS:,.0f}")
    return round(float(told), 2)
