"""Grade schemes of experts, and what becomes of a subject that several of them graded.

A scheme is a few grades, each with a key and a written definition. The flag "interesting" and "cannot judge" are part
of every scheme and are no grades: the flag is counted by itself, and who cannot judge has given no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

Level = Literal["ordinal", "interval", "nominal"]
Rule = Literal["mean", "median", "any", "majority"]

#: How a subject's value comes of its votes, and in words.
RULES: dict[Rule, str] = {
    "mean": "the mean of its grades reaches the limit",
    "median": "the median of its grades reaches the limit",
    "any": "any of its graders reaches the limit",
    "majority": "more than half of its graders reach the limit",
}
#: What a scheme may have as keys; the other letters move, mark and look.
KEYS = "0123456789ABCDXYN"
#: In every scheme: no value, but a look.
CANNOT_JUDGE = "Q"
#: In every scheme, beside the grade.
INTERESTING = "I"
MOST_GRADES = 10
MAX_NAME = 40
MAX_DEFINITION = 300


class GradeError(ValueError):
    """A scheme, grade or rule that cannot be."""


@dataclass(frozen=True, slots=True)
class Grade:
    """One grade.

    Attributes
    ----------
    key
        One of `KEYS`: what is pressed, and how the vote is kept.
    value
        What means and medians are made of; greater is better. Of nominal schemes 1 where it is what is looked for.
    definition
        When it is given: stands beside the key while people grade.
    """

    key: str
    name: str
    value: float
    definition: str


@dataclass(frozen=True, slots=True)
class Scheme:
    """Grades by falling value, and from which value on a subject is what one looks for.

    Attributes
    ----------
    level
        Of measurement: what agreement is computed for.
    positive
        The least value that counts as found.

    Raises
    ------
    GradeError
        At construction: no two grades, a key twice or not of `KEYS`, texts that are empty or too long, values that are
        no numbers, or none on one side of `positive`.
    """

    name: str
    grades: tuple[Grade, ...]
    level: Level
    positive: float

    def __post_init__(self) -> None:
        if not 2 <= len(self.grades) <= MOST_GRADES:
            raise GradeError(f"a scheme has 2 to {MOST_GRADES} grades, not {len(self.grades)}")
        if self.level not in ("ordinal", "interval", "nominal"):
            raise GradeError(f"a scheme is ordinal, interval or nominal, not {self.level!r}")
        for grade in self.grades:
            if len(grade.key) != 1 or grade.key not in KEYS:
                raise GradeError(f"{grade.key!r} cannot be the key of a grade; take one of {' '.join(KEYS)}")
            for text, most, what in ((grade.name, MAX_NAME, "name"), (grade.definition, MAX_DEFINITION, "definition")):
                if not text.strip() or len(text) > most or not text.isprintable():
                    raise GradeError(f'the {what} of grade "{grade.key}" needs 1 to {most} characters that can be seen')
            if not np.isfinite(grade.value):
                raise GradeError(f'grade "{grade.key}" needs a number as value')
        if len({grade.key for grade in self.grades}) < len(self.grades):
            raise GradeError("two grades of a scheme have the same key")
        if not self.name.strip() or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise GradeError(f"a scheme needs a name of 1 to {MAX_NAME} characters that can be seen")
        reached = [grade.value >= self.positive for grade in self.grades]
        if all(reached) or not any(reached):
            raise GradeError(f"some grades must reach the limit {self.positive:g}, and some not")

    @property
    def reject(self) -> Grade:
        """The grade of what is turned down at a glance: the one of least value."""
        return min(self.grades, key=lambda grade: grade.value)

    def grade(self, key: str) -> Grade:
        """The grade of a key.

        Raises
        ------
        GradeError
            The scheme has none of it.
        """
        for grade in self.grades:
            if grade.key == key:
                return grade
        raise GradeError(f'"{key}" is no grade of {self.name}; there are {", ".join(g.key for g in self.grades)}')

    def value(self, key: str) -> float:
        """The value of a vote: NaN where its grader could not judge."""
        return float("nan") if key == CANNOT_JUDGE else self.grade(key).value

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ledger."""
        return asdict(self) | {"grades": [asdict(grade) for grade in self.grades]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Scheme:
        """A scheme as `to_json` wrote it, or as a person did.

        Raises
        ------
        GradeError
            Something is missing, or is none.
        """
        try:
            grades = tuple(
                Grade(str(g["key"]).upper(), str(g["name"]), float(g["value"]), str(g["definition"]))
                for g in told["grades"]
            )
            return cls(str(told["name"]), grades, told.get("level", "ordinal"), float(told["positive"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, GradeError):
                raise
            raise GradeError(f"this is no scheme of grades ({error!r})") from None


SCHEMES: dict[str, Scheme] = {
    "abcx": Scheme(
        "A B C X",
        (
            Grade("A", "certain", 3, "Clear beyond doubt: every feature it should have is there."),
            Grade("B", "probable", 2, "Most features are there; another explanation is possible, but less likely."),
            Grade("C", "possible", 1, "Something is there that could be it; other explanations are as likely."),
            Grade("X", "no", 0, "Not what is looked for, or an artifact."),
        ),
        "ordinal",
        2,
    ),
    "0-3": Scheme(
        "0 to 3",
        (
            Grade("3", "almost certain", 3, "Features are clear and need no follow-up to be believed."),
            Grade("2", "probable", 2, "Features are there, and worth follow-up."),
            Grade("1", "possible", 1, "A hint, as well explained by something common."),
            Grade("0", "no", 0, "Nothing of what is looked for."),
        ),
        "ordinal",
        2,
    ),
    "interest": Scheme(
        "Interest 0 to 5",
        (
            Grade("5", "must be looked at", 5, "Unlike anything you know: you would ask for telescope time."),
            Grade("4", "very interesting", 4, "Rare or puzzling; you would show it to a colleague."),
            Grade("3", "interesting", 3, "Uncommon, and worth keeping in a list."),
            Grade("2", "somewhat", 2, "A common kind with a peculiarity."),
            Grade("1", "hardly", 1, "A common kind."),
            Grade("0", "not at all", 0, "Ordinary, or an artifact."),
        ),
        "ordinal",
        4,
    ),
    "yes-no": Scheme(
        "Yes or no",
        (
            Grade("Y", "yes", 1, "It is what is looked for."),
            Grade("N", "no", 0, "It is not."),
        ),
        "nominal",
        1,
    ),
}


def values_of(votes: np.ndarray, rule: Rule, scheme: Scheme) -> np.ndarray:
    """What each subject is worth by its votes.

    Parameters
    ----------
    votes
        float (n, m), a row a subject and a column a grader: values of grades, NaN where there is none.
    rule
        One of `RULES`.

    Returns
    -------
    np.ndarray
        float64 (n,): the mean, the median, the greatest value, or (majority) the share of graders who reach
        `scheme.positive`. NaN where nobody gave a value.
    """
    votes = np.asarray(votes, np.float64)
    if rule not in RULES:
        raise GradeError(f"{rule!r} is no rule for outcomes; there are {', '.join(RULES)}")
    found = np.full(len(votes), np.nan)
    known = ~np.isnan(votes)
    some = known.any(axis=1)
    if not some.any():
        return found
    given = votes[some]
    if rule == "mean":
        found[some] = np.nanmean(given, axis=1)
    elif rule == "median":
        found[some] = np.nanmedian(given, axis=1)
    elif rule == "any":
        found[some] = np.nanmax(given, axis=1)
    else:
        found[some] = (given >= scheme.positive).sum(axis=1) / known[some].sum(axis=1)
    return found


def is_found(values: np.ndarray, rule: Rule, scheme: Scheme) -> np.ndarray:
    """bool (n,): which subjects are what one looks for, by `values_of`; those without a value are not."""
    return values > 0.5 if rule == "majority" else values >= scheme.positive


def with_limit(scheme: Scheme, positive: float) -> Scheme:
    """The same grades with another limit."""
    return replace(scheme, positive=positive)
