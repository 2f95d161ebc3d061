"""`Truth`: what a boundary is judged against, as a person chooses it; which subjects that means a survey says.

A truth is chosen apart from the boundary, and says what kind it is, for that decides which rates there are:

=================  ====================================================  ========================================
kind               means                                                 rates
=================  ====================================================  ========================================
complete           every subject whose truth is known is right or wrong  precision, recall, F1
positives_only     who is not on the list is no negative: tags, known    recall, lift; precision "at least"
                   objects
verified           only those are known that somebody chose to look at   precision; recall only where the looks
                                                                         were drawn with known probability
=================  ====================================================  ========================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

What = Literal["column", "product", "category", "talk", "tag", "grade", "outcome"]
Kind = Literal["", "complete", "positives_only", "verified"]

#: Labels of one truth, characters of a name, and votes of a retirement limit, at most.
MAX_LABELS, MAX_NAME, MAX_LIMIT = 1_000, 400, 1_000_000


class TruthError(ValueError):
    """A truth that cannot be: one sentence."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is right. Hashable: part of the key of whatever is judged by it.

    Attributes
    ----------
    what
        ``column`` (a number is `at_least`), ``product`` (one column times another is `at_least`), ``category`` (it is
        one of `labels`; booleans too), ``talk`` (a tag group of Talk), ``tag`` (one of our own tags), ``grade`` (what
        the experts of a campaign make of it is `at_least`), ``outcome`` (follow-up confirmed it).
    column
        Reference of a column, ``TABLE.NAME``; of tags the group's or the tag's name; of grades the campaign's id; of
        outcomes ``confirmed``.
    by
        Of a product its second column.
    at_least
        Σ, in the column's own unit; None for what has no threshold.
    labels
        Of a category.
    kind
        "" for the kind that such a truth has by default.
    is_soft
        Votes count by how probably the true fraction reaches Σ, instead of by the fraction as it was seen.
    limit
        Only so many first votes of each subject count, as if it had been retired then; None for all.

    Raises
    ------
    TruthError
        At construction, where these do not go together.
    """

    what: What
    column: str = ""
    by: str = ""
    at_least: float | None = None
    labels: tuple[str, ...] = ()
    kind: Kind = ""
    is_soft: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise TruthError(f"what is one of {', '.join(get_args(What))}; found {_short(self.what)}")
        if self.kind not in get_args(Kind):
            kinds = ", ".join(kind for kind in get_args(Kind) if kind)
            raise TruthError(f"kind is one of {kinds}, or nothing for the default; found {_short(self.kind)}")
        for name in ("column", "by"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > MAX_NAME:
                raise TruthError(f"{name} is a text of at most {MAX_NAME} characters; found {_short(value)}")
        if not self.column:
            raise TruthError("column is missing: say what the truth is read from")
        if self.what in ("column", "product", "category"):
            _check_reference("column", self.column)
        if (self.what == "product") != bool(self.by):
            raise TruthError(f"by is the second column of a product; found {_short(self.by)} of a {self.what}")
        if self.by:
            _check_reference("by", self.by)
        if self.what == "outcome" and self.column != "confirmed":
            raise TruthError(f"an outcome that is right is confirmed; found {_short(self.column)}")
        if self.is_of_experts and self.kind not in ("", "verified"):
            raise TruthError(f"a truth of experts is of kind verified: nobody looked at the rest; found {self.kind}")
        of_votes = self.what in ("column", "product")
        has_threshold = of_votes or self.what == "grade"
        if has_threshold and not _is_number(self.at_least):
            raise TruthError(f"at_least is a finite number; found {_short(self.at_least)}")
        if not has_threshold and self.at_least is not None:
            raise TruthError(f"at_least does not belong to a {self.what}; leave it out")
        if self.at_least is not None:
            object.__setattr__(self, "at_least", float(self.at_least))
        if not isinstance(self.labels, tuple) or not all(isinstance(label, str) for label in self.labels):
            raise TruthError(f"labels is a list of texts; found {_short(self.labels)}")
        if (self.what == "category") != bool(self.labels) or len(self.labels) > MAX_LABELS:
            raise TruthError(
                f"labels are what counts of a category, 1 to {MAX_LABELS:,}; a {self.what} has {len(self.labels):,}"
            )
        if not isinstance(self.is_soft, bool):
            raise TruthError(f"is_soft is true or false; found {_short(self.is_soft)}")
        if self.is_soft and not of_votes:
            why = "its votes are no shares" if has_threshold else "it has no threshold"
            raise TruthError(f"is_soft does not belong to a {self.what}: {why}")
        if self.limit is not None:
            if isinstance(self.limit, bool) or not isinstance(self.limit, int) or not 1 <= self.limit <= MAX_LIMIT:
                raise TruthError(f"limit is a number of votes, 1 to {MAX_LIMIT:,}; found {_short(self.limit)}")
            if not of_votes:
                raise TruthError(f"limit does not belong to a {self.what}: no votes are counted")

    @property
    def has_threshold(self) -> bool:
        """Whether there is a Σ to move."""
        return self.at_least is not None

    @property
    def is_of_experts(self) -> bool:
        """Whether it knows only those that somebody chose to look at."""
        return self.what in ("grade", "outcome")

    @property
    def references(self) -> tuple[str, ...]:
        """The columns that it is read from; () for tags, grades and outcomes."""
        return tuple(c for c in (self.column, self.by) if c) if self.what in ("column", "product", "category") else ()

    def to_json(self) -> dict[str, Any]:
        """As JSON; what is not said is the default."""
        told: dict[str, Any] = {"what": self.what, "column": self.column}
        for name in ("by", "at_least", "kind", "is_soft", "limit"):
            if (value := getattr(self, name)) not in ("", None, False):
                told[name] = value
        if self.at_least is not None:
            told["at_least"] = self.at_least
        return told | ({"labels": list(self.labels)} if self.labels else {})

    @classmethod
    def from_json(cls, told: object) -> Self:
        """What `to_json` made.

        Raises
        ------
        TruthError
            It is something else; the sentence names the entry.
        """
        if not isinstance(told, Mapping):
            raise TruthError(f"a truth is an object with what and column; found {_short(told)}")
        strange = sorted(str(name) for name in told.keys() - set(cls.__slots__))
        if strange:
            raise TruthError(f"{_short(strange[0])} is no entry of a truth; there are {', '.join(cls.__slots__)}")
        if "what" not in told:
            raise TruthError("what is missing: say what kind of truth it is")
        labels = told.get("labels", [])
        if not isinstance(labels, list | tuple):
            raise TruthError(f"labels is a list of texts; found {_short(labels)}")
        return cls(**cast(dict[str, Any], dict(told) | {"labels": tuple(labels)}))


def _check_reference(name: str, reference: str) -> None:
    table, dot, column = reference.partition(".")
    if not (table and dot and column):
        raise TruthError(
            f"{name} is a column as TABLE.NAME, such as subjects.chosen_fraction; found {_short(reference)}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
