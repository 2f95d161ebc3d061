"""Sets of subjects that a cut may throw away: Talk's tag groups, and the classes of a column.

The interval of a tag says how many independent looks it is worth: one person who tagged eighty subjects looked for one
thing (science rule 14). It is Wilson's at an effective number of subjects: the one at which k of n scatters as much as
it does when taggers are drawn with replacement, everything that a tagger tagged coming along (`models.tagging`); in
closed form, linearised, so that it follows a slider. A share of 0 or 1 shows no scatter; there it is Kish's number
of taggers by how much each gave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from explorer.caches import Cache
from explorer.errors import UsageError, no_such_column
from explorer.services.explore import Explore
from models.rates import wilson

#: Categories that a column has at most to be told class by class.
MOST_CLASSES = 50
#: Groups that are told, the worst.
TOLD = 120
#: What a reference of a group begins with.
TAG, CLASS = "talk:", "class:"
#: Columns of categories that are no classes of what is in the image.
NO_CLASSES = ("half", "is_known", "is_withdrawn", "tag_group", "tag_group_study")


@dataclass(frozen=True, eq=False)
class Groups:
    """Sets of subjects, one after another; a subject may be in several.

    Attributes
    ----------
    rows
        int64 (M,): the survey's rows, those of group i at ``starts[i]:starts[i + 1]``.
    n_taggers
        Who gave each tag; None for classes.
    part, tagger
        Of every tagging (T,): its place in `rows`, and who gave it, coded anew in every group. Empty for classes.
    of_tagger
        int64: the group of each such code.
    """

    of: Literal["tag", "class"]
    names: list[str]
    references: list[str]
    rows: np.ndarray
    starts: np.ndarray
    n_taggers: list[int | None]
    part: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    tagger: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    of_tagger: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def members(self) -> list[np.ndarray]:
        """Rows of each group."""
        return np.split(self.rows, self.starts[1:-1]) if self.names else []

    @cached_property
    def sizes(self) -> np.ndarray:
        """Members of each group, int64 (m,)."""
        return np.diff(self.starts)

    def counted(self, is_kept: np.ndarray) -> np.ndarray:
        """Kept members of each group, int64 (m,), of bool (M,)."""
        sums = np.concatenate([[0], np.cumsum(is_kept, dtype=np.int64)])
        return np.asarray(sums[self.starts[1:]] - sums[self.starts[:-1]])

    @cached_property
    def _shares(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every tagging 1 / taggers of that subject; of each tagger their sum; Kish's number of each group."""
        share = 1 / np.bincount(self.part, minlength=len(self.rows))[self.part]
        size = np.bincount(self.tagger, share, minlength=len(self.of_tagger))
        squares = np.bincount(self.of_tagger, size**2, minlength=len(self.names))
        return share, size, self.sizes**2 / np.maximum(squares, 1e-12)

    def effective(self, is_kept: np.ndarray, k: np.ndarray) -> np.ndarray:
        """As how many independent subjects each group counts, float64 (m,), from 1 to its size; see the module."""
        n = self.sizes.astype(np.float64)
        if not len(self.part):
            return n
        share, _, kish = self._shares
        p, m = k / np.maximum(n, 1), len(n)
        mine = self.of_tagger[self.tagger]
        residual = np.bincount(self.tagger, share * (is_kept[self.part] - p[mine]), minlength=len(self.of_tagger))
        taggers = np.bincount(self.of_tagger, minlength=m)
        spread = np.bincount(self.of_tagger, residual**2, minlength=m) * taggers / np.maximum(taggers - 1, 1)
        is_seen = (k > 0) & (k < n) & (taggers > 1) & (spread > 0)
        found = np.where(is_seen, p * (1 - p) * n**2 / np.where(is_seen, spread, 1), kish)
        return np.asarray(np.clip(found, np.minimum(1.0, n), n))

    def told(self, k: np.ndarray, n_effective: np.ndarray, half: str) -> list[dict[str, Any]]:
        """The `TOLD` of which the least is kept, ready for JSON; of equal ones the larger first."""
        n = self.sizes
        share = k / np.maximum(n, 1)
        order = np.lexsort((-n, share))
        order = order[n[order] > 0][:TOLD]
        low, high = wilson(share[order] * n_effective[order], n_effective[order])
        return [
            {
                "name": self.names[i],
                "of": self.of,
                "k": int(k[i]),
                "n": int(n[i]),
                "low": float(a),
                "high": float(b),
                "n_taggers": self.n_taggers[i],
                "reference": self.references[i],
                "half": half,
            }
            for i, a, b in zip(order.tolist(), low, high, strict=True)
        ]


NO_GROUPS = Groups("class", [], [], np.empty(0, np.int64), np.zeros(1, np.int64), [])


class Losses:
    """The sets of one survey. Thread-safe."""

    def __init__(self, explore: Explore) -> None:
        self.explore, self.survey, self.talk = explore, explore.survey, explore.talk
        self._groups = Cache(12)

    def offered(self) -> list[str]:
        """References of the columns whose classes can be told, the user's own first."""
        found: list[str] = self._groups.get(("offered", self.survey.generation), self._offered)
        return found

    def _offered(self) -> list[str]:
        crowd = self.survey.columns_of_crowd()
        names = [c.name for c in self.survey.columns() if c.dtype == "category"]
        names = [name for name in names if name.removeprefix("volunteers_") not in NO_CLASSES]
        few = [name for name in names if 2 <= len(self.survey.category(name)[1]) <= MOST_CLASSES]
        return [f"subjects.{name}" for name in sorted(few, key=lambda name: name in crowd)]

    def tags(self, among: np.ndarray | None = None) -> Groups:
        """Talk's tag groups; of the subjects `among`, bool (N,), where they are given."""
        key = ("tags", self.survey.generation, self.talk.stamp, among is not None)
        found: Groups = self._groups.get(key, lambda: self._tags(among))
        return found

    def _tags(self, among: np.ndarray | None) -> Groups:
        names, rows, parts, taggers, of_tagger, n_taggers = [], [], [], [], [], []
        counting = self._counting(among)
        start = n_codes = 0
        starts = [0]
        for group in self.talk.groups():
            given, who = self.talk.taggings(group.name)
            pairs = np.unique(np.column_stack([given, who]).astype(np.int64), axis=0)
            pairs = pairs[counting[pairs[:, 0]]]
            mine, place = np.unique(pairs[:, 0], return_inverse=True)
            people, code = np.unique(pairs[:, 1], return_inverse=True)
            names.append(group.name)
            rows.append(mine)
            parts.append(start + place.reshape(-1))
            taggers.append(n_codes + code.reshape(-1))
            of_tagger.append(np.full(len(people), len(names) - 1))
            n_taggers.append(len(people))
            start, n_codes = start + len(mine), n_codes + len(people)
            starts.append(start)
        if not names:
            return NO_GROUPS
        arrays = [np.concatenate(one).astype(np.int64) for one in (rows, parts, taggers, of_tagger)]
        references = [f"{TAG}{name}" for name in names]
        return Groups("tag", names, references, arrays[0], np.array(starts), list(n_taggers), *arrays[1:])

    def classes(self, column: str, among: np.ndarray | None = None) -> Groups:
        """The classes of a column of categories; of the subjects `among`, bool (N,), where they are given.

        Raises
        ------
        UsageError
            No such column, or it has too many categories.
        """
        if column not in self.offered():
            offered = [reference.partition(".")[2] for reference in self.offered()]
            raise no_such_column(column.partition(".")[2] or column, "the columns of a few classes", offered)
        key = ("classes", self.survey.generation, column, among is not None)
        found: Groups = self._groups.get(key, lambda: self._classes(column, among))
        return found

    def _classes(self, column: str, among: np.ndarray | None) -> Groups:
        name = column.partition(".")[2]
        codes, labels = self.survey.category(name)
        codes = np.where(self._counting(among), codes, -1)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(labels) + 1))
        rows = order[starts[0] :].astype(np.int64)
        title = name.replace("_", " ")
        references = [f"{CLASS}{name}={label}" for label in labels]
        named = [label if label not in ("true", "false", "") else f"{title}: {label}" for label in labels]
        return Groups("class", named, references, rows, starts - starts[0], [None] * len(labels))

    def _counting(self, among: np.ndarray | None) -> np.ndarray:
        """Who counts, bool (N,): nobody can throw away what was planted or withdrawn."""
        frame = self.survey.frame()
        return frame if among is None else frame & among

    def rows(self, reference: str) -> np.ndarray:
        """Members of a group by its reference who count (`Survey.frame`), int64.

        Raises
        ------
        UsageError
            No such group.
        """
        if reference.startswith(TAG):
            rows = self.talk.rows(reference.removeprefix(TAG))
            return np.asarray(rows[self.survey.frame()[rows]])
        name, _, label = reference.removeprefix(CLASS).partition("=")
        if not reference.startswith(CLASS) or f"subjects.{name}" not in self.offered():
            raise UsageError(f'there is no group "{reference[:60]}" to be thrown away')
        codes, labels = self.survey.category(name)
        if label not in labels:
            raise UsageError(f'"{label}" is no value of {name}')
        return np.flatnonzero((codes == labels.index(label)) & self.survey.frame())
