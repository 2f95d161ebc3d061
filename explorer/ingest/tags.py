"""Which tags of Talk mean the same: spelling, plurals and slips of the finger, then groups by a map that may be edited.

`TagGroups.grouped` asks of each raw tag, in this order:

1. **listed**: the map has it, whatever its case and its separators (``Dust-Lane`` is ``dust_lane``);
2. **plural**: the map, or another tag, is its singular;
3. **typing**: it is seldom used, has six letters or more, and one slip of the finger (two from ten letters on) away
   from words of exactly one group. A slip is a letter left out, put in or exchanged with its neighbor, or hit one key
   beside the right one, or one vowel for another; the first letter is wrong only by a key or an exchange;
4. **own**: else it is a group of its own, down to a single subject.

Words that are both in use are never taken for one another: a tag given `FREQUENT` times or more is no slip.
"""

import hashlib
import re
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

import pyarrow as pa

from explorer.errors import SurveyError
from explorer.votes import TAG_GROUPS, TALK_TAGS_SCHEMA

#: Uses from which on a tag is a word of its own and no slip of the finger.
FREQUENT = 5
#: Letters and digits from which on one slip, and from which on two, are forgiven.
ONE_SLIP, TWO_SLIPS = 6, 10

How = Literal["listed", "plural", "typing", "own"]

_DEFAULT = Path(__file__).with_name("tag_groups.toml")
_STUDY = Path(__file__).with_name("tag_groups_study.toml")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_VOWELS = frozenset("aeiouy")


class Grouped(NamedTuple):
    """The group of a raw tag, and how it came there."""

    group: str
    how: How


@dataclass(frozen=True)
class TagGroups:
    """A map from tags to groups.

    Attributes
    ----------
    groups
        Group → its tags, as they were listed.
    source
        Where it was read, for a person.
    stamp
        16 hexadecimal digits of the file's sha256.
    """

    groups: Mapping[str, tuple[str, ...]]
    source: str
    stamp: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a map: a TOML table ``[groups]`` of lists of tags.

        Raises
        ------
        SurveyError
            It is no such map, or has a tag in two groups.
        """
        try:
            content = path.read_bytes()
            told = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SurveyError(f"{path} is not TOML ({error}); correct it, or remove it for the default") from None
        groups = told.get("groups")
        if not isinstance(groups, dict):
            raise SurveyError(f"{path} has no table [groups]; `voorwerp tags SURVEY --write` writes one to begin with")
        known: dict[str, str] = {}
        for group, tags in groups.items():
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                raise SurveyError(f'{path}: group "{group}" is {tags!r}; write a list of tags in quotes')
            for tag in tags:
                if known.setdefault(key_of(tag), group) != group:
                    other = known[key_of(tag)]
                    raise SurveyError(f'{path}: "{tag}" is in the groups "{other}" and "{group}"; leave it in one')
        listed = {group: tuple(tags) for group, tags in groups.items()}
        return cls(listed, str(path), hashlib.sha256(content).hexdigest()[:16])

    @classmethod
    def default(cls) -> Self:
        """The map that comes with Voorwerp."""
        return cls.read(_DEFAULT)

    @classmethod
    def of(cls, survey: Path) -> Self:
        """The map that a person put into a survey's folder, or the default."""
        path = survey / TAG_GROUPS
        return cls.read(path if path.exists() else _DEFAULT)

    @cached_property
    def _known(self) -> dict[str, str]:
        """Key of a tag → group; a group's own name is one of its tags, where no other group lists it."""
        listed = {key_of(tag): group for group, tags in self.groups.items() for tag in tags}
        return {key_of(group): group for group in self.groups} | listed

    @cached_property
    def _singular(self) -> dict[str, str]:
        """Keys of the map, and what they are the plural of → group."""
        singular = {one: group for key, group in self._known.items() for one in _singulars(key)}
        return singular | self._known

    @cached_property
    def _near(self) -> dict[str, list[str]]:
        """What is left of the map's longer words when letters are left out → those words."""
        found: dict[str, list[str]] = defaultdict(list)
        for key in self._known:
            for left in _shorter(key, _slips(key)):
                found[left].append(key)
        return dict(found)

    def grouped(self, uses: Mapping[str, int]) -> dict[str, Grouped]:
        """The group of every raw tag.

        Parameters
        ----------
        uses
            Raw tag → how often it was given in the whole survey: which plurals and slips there are depends on it.
        """
        spelled: dict[str, Counter[str]] = defaultdict(Counter)
        for raw, n in uses.items():
            spelled[key_of(raw)][_spelling(raw)] += n
        found = {key: self._find(key, spelled) for key in spelled}
        return {raw: found[key_of(raw)] for raw in uses}

    def _find(self, key: str, spelled: Mapping[str, Counter[str]]) -> Grouped:
        if key in self._known:
            return Grouped(self._known[key], "listed")
        if key in self._singular:  # the map has the plural only
            return Grouped(self._singular[key], "plural")
        for one in _singulars(key):
            if one in self._known:
                return Grouped(self._known[one], "plural")
        if sum(spelled[key].values()) < FREQUENT and (group := self._mistyped(key)):
            return Grouped(group, "typing")
        for one in _singulars(key):
            if one in spelled:
                return Grouped(self._find(one, spelled).group, "plural")
        name, _ = min(spelled[key].items(), key=lambda item: (-item[1], item[0]))
        return Grouped(name, "own")

    def _mistyped(self, key: str) -> str | None:
        """The one group whose words are within the slips that are forgiven."""
        if (limit := _slips(key)) == 0:
            return None
        near = {word for left in _shorter(key, limit) for word in self._near.get(left, ())}
        groups = {self._known[word] for word in near if slips(key, word) <= min(limit, _slips(word))}
        return groups.pop() if len(groups) == 1 else None


@cache
def study_groups() -> dict[str, str]:
    """Raw tag in lower case → the study's group: exact, as it was published."""
    with _STUDY.open("rb") as handle:
        groups: dict[str, list[str]] = tomllib.load(handle)["groups"]
    return {tag: group for group, tags in groups.items() for tag in tags}


def default_text() -> str:
    """The map that comes with Voorwerp, as it is written into a survey to be edited."""
    return _DEFAULT.read_text()


def with_groups(table: pa.Table, groups: TagGroups) -> pa.Table:
    """A table of tags with its columns ``tag_group`` and ``tag_group_study`` made anew from ``tag``."""
    counts = table["tag"].combine_chunks().value_counts() if len(table) else []
    uses = {count["values"].as_py(): count["counts"].as_py() for count in counts}
    found, study = groups.grouped(uses), study_groups()
    raw = table["tag"].to_pylist()
    for name, values in (
        ("tag_group", [found[tag].group for tag in raw]),
        ("tag_group_study", [study.get(tag) for tag in raw]),
    ):
        field = TALK_TAGS_SCHEMA.field(name)
        table = table.set_column(TALK_TAGS_SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    return table


# ------------------------------------------------------------------------------------------------------- spelling
def key_of(tag: str) -> str:
    """What a tag is compared by: its letters and digits in lower case; ``Dust-lane`` is ``dustlane``."""
    text = unicodedata.normalize("NFKC", tag).casefold()
    return re.sub(r"[\W_]+", "", text) or text.strip()


def _spelling(tag: str) -> str:
    """A tag as a group of its own is called: lower case, words joined by "_"."""
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", tag).lower()).strip("_") or tag


def _singulars(key: str) -> list[str]:
    """What a word may be the plural of; whether it is, those tell that there are."""
    endings = (("ies", "y"), ("ae", "a"), ("es", ""), ("s", ""))
    return [key[: -len(end)] + one for end, one in endings if key.endswith(end) and len(key) - len(end) >= 2]


def _slips(key: str) -> int:
    return 0 if len(key) < ONE_SLIP else 1 if len(key) < TWO_SLIPS else 2


def _shorter(word: str, n: int) -> set[str]:
    """A word, and what is left of it without up to n of its letters."""
    found = {word}
    for _ in range(n):
        found |= {w[:i] + w[i + 1 :] for w in found for i in range(len(w))}
    return found


@cache
def _beside(a: str, b: str) -> bool:
    """Whether one letter is easily written for another: the key beside it, or a vowel for a vowel."""
    if a in _VOWELS and b in _VOWELS:
        return True
    at = {letter: (row, column + row / 2) for row, keys in enumerate(_ROWS) for column, letter in enumerate(keys)}
    if a not in at or b not in at:
        return False
    (row, column), (other, beside) = at[a], at[b]
    return abs(row - other) <= 1 and abs(column - beside) <= 1


def slips(a: str, b: str) -> int:
    """How many slips of the finger make one word of the other (optimal string alignment).

    A letter left out, put in, or exchanged with its neighbor is one, and so is the key beside the right one or a vowel
    for a vowel; any other letter is two. At the first letter only an exchange and a key count as one, others three.
    """
    width = len(b) + 1
    before: list[int] = []
    row = [0] + [2 + j for j in range(1, width)]
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [2 + i] + [0] * (width - 1)
        for j, y in enumerate(b, 1):
            is_first = i == 1 or j == 1
            if x == y:
                cost = 0
            elif _beside(x, y) and not (is_first and x in _VOWELS and y in _VOWELS):
                cost = 1
            else:
                cost = 3 if is_first else 2
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + cost)
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def regrouped(table: pa.Table, survey: Path) -> tuple[pa.Table, bool]:
    """A survey's table of tags by the map that the survey has now, and whether that changed a group."""
    anew = with_groups(table, TagGroups.of(survey))
    return anew, anew["tag_group"].to_pylist() != table["tag_group"].to_pylist()
