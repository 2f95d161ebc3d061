"""A small safe language for "which subjects": ``feature_score > 99% and not is_known``. Nothing is ever evaluated.

::

    condition   = both {"or" both}
    both        = negation {"and" negation}
    negation    = "not" negation | predicate
    predicate   = sum ("=" | "!=" | "<" | "<=" | ">" | ">=") sum
                | sum ["not"] "between" sum "and" sum
                | sum ["not"] "in" "(" value {"," value} ")"
                | column ["not"] "~" text                    contains, whatever the case
                | sum "is" ["not"] "missing"
                | yes-or-no column | "(" condition ")"
                | "selection" "(" text ")"                  kept under this name
                | "talk" "(" text ")"                       has a tag of this group on Talk
    sum         = product {("+" | "-") product}
    product     = factor {("*" | "/") factor}
    factor      = "-" factor | number | number "%" | column | "(" sum ")"
    column      = name | "quoted name" | ("scores" | "subjects" | "maps") "." name

A bare name is looked for among the scores of the run that is shown, then among the survey's own columns, then among
the map's. ``99%`` beside a comparison is the percentile of the other side over the subjects that have a value there
(linear interpolation between the two nearest). Texts need quotes unless they are one word; a quote within is doubled.

What is missing is neither above nor below anything: as in SQL, a condition is yes, no, or not known, where ``not`` of
not known is not known, and only subjects with a yes are kept. So ``magnitude > 18`` and ``not magnitude > 18`` both
leave out whoever has no magnitude; ``magnitude is missing`` finds them. A quotient by zero is missing. ``is_known`` and
``is_withdrawn`` are never missing: no entry is a no.
"""

from __future__ import annotations

import contextlib
import difflib
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from typing import Any, Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.orders import percentile
from explorer.state import Selection
from explorer.survey import LARGE
from models.limits import is_single, nearest
from models.mixing import Mode

_Of = Literal["selection", "talk"]
MAX_LENGTH = 2_000
MAX_NESTING = 50
#: Completions that are offered at once.
MOST = 50
#: What a condition may call by name, and how that is called in a sentence.
_NAMED: dict[_Of, str] = {"selection": "selection", "talk": "group of tags"}

#: number: float; truth: yes or no; category: few distinct texts; text: any; id: exact, compared as text.
Kind = Literal["number", "truth", "category", "text", "id"]
#: A column by reference: number and truth float (N,), NaN missing; category (codes int (N,), -1 missing, labels); text
#: and id an Arrow array of strings; ``selection:NAME`` and ``talk:GROUP`` bool (N,).
Read = Callable[[str], Any]

_TABLES = ("scores", "subjects", "maps")
_RESERVED = {"and", "or", "not", "in", "between", "is", "missing", "null", "true", "false"}
#: What other languages call it.
_MEANT = {"&": "and", "|": "or", "!": "not", "==": "=", "^": "and", ";": "and", "like": "~", "contains": "~"}
_TOKEN = re.compile(
    r"""(?P<blank>\s+)
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<quoted>(?:(?:scores|subjects|maps)\.)?"(?:[^"]|"")*" | '(?:[^']|'')*')
      | (?P<name>[^\W\d]\w*(?:\.\w+)*)
      | (?P<sign><=|>=|!=|<>|==|[<>=~+\-*/(),%])
      | (?P<open>(?:(?:scores|subjects|maps)\.)?"(?:[^"]|"")* | '(?:[^']|'')*)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[^\W\d]\w*")


class FilterError(UsageError):
    """A text that is no filter; characters `start` to `end` (from 0, exclusive) are what is wrong with it."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start, self.end = start, end


@dataclass(frozen=True)
class Columns:
    """What the names of a filter may mean.

    Attributes
    ----------
    kinds
        Reference (``scores.feature_score``) → kind, in the order in which completions are offered.
    notes
        Reference → a few words beside a completion.
    labels
        The categories of a reference.
    selections
        Names of the selections that are kept.
    talk
        The groups of Talk's tags.
    """

    kinds: Mapping[str, Kind]
    notes: Mapping[str, str] = field(default_factory=dict)
    labels: Callable[[str], Sequence[str]] = lambda reference: ()
    selections: Sequence[str] = ()
    talk: Sequence[str] = ()

    @cached_property
    def _called(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Bare name → references, the first table first: as it is written, and whatever its case."""
        exact: dict[str, list[str]] = {}
        folded: dict[str, list[str]] = {}
        for reference in sorted(self.kinds, key=lambda r: _TABLES.index(r.partition(".")[0])):
            name = reference.partition(".")[2]
            exact.setdefault(name, []).append(reference)
            folded.setdefault(name.casefold(), []).append(reference)
        return exact, folded

    def find(self, name: str) -> str | None:
        """The reference that a bare name means: as it is written, else whatever its case, else without its ``is_``."""
        exact, folded = self._called
        if name in exact:
            return exact[name][0]
        same, flags = (folded.get(n.casefold(), []) for n in (name, f"is_{name}"))
        for found in (same, [reference for reference in flags if self.kinds[reference] == "truth"]):
            tables = [reference.partition(".")[0] for reference in found]
            if found and tables.count(tables[0]) == 1:
                return found[0]
        return None

    def shown(self, reference: str) -> str:
        """A reference as a person writes it: the bare name where that means the same."""
        table, _, name = reference.partition(".")
        return _quoted(name) if self.find(name) == reference else f"{table}.{_quoted(name)}"


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand at the cursor: `text` takes the place of characters `start` to `end` (from 0, exclusive)."""

    text: str
    start: int
    end: int
    kind: Literal["column", "operator", "category", "selection", "talk"]
    note: str = ""


# ----------------------------------------------------------------------------------------------------- numbers
class _Number(ABC):
    """Something that has a number for every subject, or one for all."""

    @abstractmethod
    def values(self, read: Read) -> Any:
        """float (N,) with NaN where missing, or a float."""


@dataclass(frozen=True, slots=True)
class _Constant(_Number):
    value: float

    def values(self, read: Read) -> float:
        return self.value

    def __str__(self) -> str:
        whole = self.value.is_integer() and abs(self.value) < 1e15
        return str(int(self.value)) if whole else repr(self.value)


@dataclass(frozen=True, slots=True)
class _Percent(_Number):
    """A percentile of what it is compared with: see `_against`."""

    percent: float

    def values(self, read: Read) -> NoReturn:
        raise AssertionError("a percentile has no value of its own")

    def __str__(self) -> str:
        return f"{_Constant(self.percent)}%"


@dataclass(frozen=True, slots=True)
class _Column(_Number):
    reference: str
    kind: Kind
    shown: str

    def values(self, read: Read) -> Any:
        return read(self.reference)

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True, slots=True)
class _Minus(_Number):
    of: _Number

    def values(self, read: Read) -> Any:
        return -self.of.values(read)

    def __str__(self) -> str:
        return f"-({self.of})" if isinstance(self.of, _Chain) else f"-{self.of}"


@dataclass(frozen=True, slots=True)
class _Chain(_Number):
    """A sum or a product, from left to right, float64."""

    first: _Number
    rest: tuple[tuple[str, _Number], ...]

    def values(self, read: Read) -> Any:
        total = _wide(self.first.values(read))
        with np.errstate(all="ignore"):
            for sign, number in self.rest:
                other = _wide(number.values(read))
                if sign == "/":
                    total = np.divide(total, np.where(np.equal(other, 0), np.nan, other))
                else:
                    total = {"+": np.add, "-": np.subtract, "*": np.multiply}[sign](total, other)
        return total if np.ndim(total) else float(total)

    @property
    def is_sum(self) -> bool:
        return self.rest[0][0] in "+-"

    def __str__(self) -> str:
        def shown(number: _Number) -> str:
            loose = isinstance(number, _Chain) and (number.is_sum or not self.is_sum)
            return f"({number})" if loose else str(number)

        return shown(self.first) + "".join(f" {sign} {shown(number)}" for sign, number in self.rest)


def _wide(values: Any) -> Any:
    return values.astype(np.float64) if isinstance(values, np.ndarray) else values


# -------------------------------------------------------------------------------------------------- conditions
class _Condition(ABC):
    """Yes, no, or not known of every subject; whatever is asked for is computed, and nothing else."""

    level = 3  # how tightly its text binds

    @abstractmethod
    def yes(self, read: Read) -> np.ndarray:
        """bool (N,): where it certainly holds."""

    @abstractmethod
    def no(self, read: Read) -> np.ndarray:
        """bool (N,): where it certainly does not."""

    def negated(self) -> str:
        """The text of its opposite."""
        return f"not {self.within(2)}"

    def within(self, level: int) -> str:
        """Its text as a part of one that binds so tightly."""
        return str(self) if self.level >= level else f"({self})"


_COMPARE = {
    "=": (operator.eq, operator.ne),
    "!=": (operator.ne, operator.eq),
    "<": (operator.lt, operator.ge),
    "<=": (operator.le, operator.gt),
    ">": (operator.gt, operator.le),
    ">=": (operator.ge, operator.lt),
}
_TURNED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _against(number: _Number, values: Any, read: Read) -> Any:
    """What `values` are compared with: their own percentile, or the values of another number."""
    if not isinstance(number, _Percent):
        return number.values(read)
    if len(values) > LARGE and (found := percentile(values, number.percent)) is not None:
        return values.dtype.type(found)
    known = values[np.isfinite(values)]
    return np.percentile(known, number.percent) if known.size else np.nan


@dataclass(frozen=True, slots=True)
class _Compare(_Condition):
    left: _Number
    sign: str
    right: _Number

    def _is(self, holds: bool, read: Read) -> np.ndarray:
        if isinstance(self.left, _Percent) or (isinstance(self.left, _Constant) and isinstance(self.right, _Column)):
            return _Compare(self.right, _TURNED[self.sign], self.left)._is(holds, read)
        left = self.left.values(read)
        right = _against(self.right, left, read)
        if isinstance(right, float) and isinstance(self.left, _Column):  # as a gate compares: 7 of 10 is .7
            right = nearest(right, is_single(left), self.sign in (">", ">=")).astype(left.dtype)[()]
        compare = _COMPARE[self.sign][0 if holds else 1]
        with np.errstate(all="ignore"):  # a bound beyond float32
            found: np.ndarray = compare(left, right)
        return found & ~(np.isnan(left) | np.isnan(right)) if compare is operator.ne else found

    def yes(self, read: Read) -> np.ndarray:
        return self._is(True, read)

    def no(self, read: Read) -> np.ndarray:
        return self._is(False, read)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class _Between(_Condition):
    of: _Number
    low: _Number
    high: _Number

    @property
    def both(self) -> _And:
        return _And((_Compare(self.of, ">=", self.low), _Compare(self.of, "<=", self.high)))

    def yes(self, read: Read) -> np.ndarray:
        return self.both.yes(read)

    def no(self, read: Read) -> np.ndarray:
        return self.both.no(read)

    def __str__(self) -> str:
        return f"{self.of} between {self.low} and {self.high}"

    def negated(self) -> str:
        return f"{self.of} not between {self.low} and {self.high}"


@dataclass(frozen=True, slots=True)
class _OneOf(_Condition):
    of: _Number
    among: tuple[_Constant, ...]

    def yes(self, read: Read) -> np.ndarray:
        values = self.of.values(read)
        with np.errstate(all="ignore"):
            return np.asarray(np.isin(values, np.array([c.value for c in self.among]).astype(values.dtype)))

    def no(self, read: Read) -> np.ndarray:
        return np.asarray(~self.yes(read) & ~np.isnan(self.of.values(read)))

    def __str__(self) -> str:
        return f"{self.of} in ({', '.join(map(str, self.among))})"

    def negated(self) -> str:
        return f"{self.of} not in ({', '.join(map(str, self.among))})"


class _OfTexts(_Condition):
    """A condition on the text of a column: asked once of every category, or of every subject by Arrow."""

    column: _Column

    @abstractmethod
    def of_label(self, label: str) -> bool:
        """Whether it holds of one text."""

    @abstractmethod
    def of_texts(self, texts: pa.Array) -> pa.Array:
        """Whether it holds of each; null of null."""

    def _is(self, holds: bool, read: Read) -> np.ndarray:
        if self.column.kind != "category":
            found = self.of_texts(read(self.column.reference))
            return np.asarray(pc.fill_null(found if holds else pc.invert(found), False))
        codes, labels = read(self.column.reference)
        answers = np.array([self.of_label(label) == holds for label in labels] + [False])
        return np.asarray(answers[codes])

    def yes(self, read: Read) -> np.ndarray:
        return self._is(True, read)

    def no(self, read: Read) -> np.ndarray:
        return self._is(False, read)


@dataclass(frozen=True, slots=True)
class _Member(_OfTexts):
    column: _Column
    among: tuple[str, ...]

    def of_label(self, label: str) -> bool:
        return label in self.among

    def of_texts(self, texts: pa.Array) -> pa.Array:
        found = pc.is_in(texts, value_set=pa.array(self.among, texts.type))
        return pc.if_else(pc.is_valid(texts), found, None)

    def _said(self, one: str, several: str) -> str:
        listed = ", ".join(map(_quoted, self.among))
        return f"{self.column} {one} {listed}" if len(self.among) == 1 else f"{self.column} {several} ({listed})"

    def negated(self) -> str:
        return self._said("!=", "not in")

    def __str__(self) -> str:
        return self._said("=", "in")


@dataclass(frozen=True, slots=True)
class _Contains(_OfTexts):
    column: _Column
    part: str

    def of_label(self, label: str) -> bool:
        return self.part.casefold() in label.casefold()

    def of_texts(self, texts: pa.Array) -> pa.Array:
        return pc.match_substring(texts, self.part, ignore_case=True)

    def __str__(self) -> str:
        return f"{self.column} ~ {_quoted(self.part, always=True)}"

    def negated(self) -> str:
        return f"{self.column} not ~ {_quoted(self.part, always=True)}"


@dataclass(frozen=True, slots=True)
class _Missing(_Condition):
    of: _Number

    def yes(self, read: Read) -> np.ndarray:
        values = self.of.values(read)
        if isinstance(values, tuple):
            return np.asarray(values[0] < 0)
        return np.isnan(values) if isinstance(values, np.ndarray) else np.asarray(pc.is_null(values))

    def no(self, read: Read) -> np.ndarray:
        return ~self.yes(read)

    def __str__(self) -> str:
        return f"{self.of} is missing"

    def negated(self) -> str:
        return f"{self.of} is not missing"


@dataclass(frozen=True, slots=True)
class _Truth(_Condition):
    column: _Column

    def yes(self, read: Read) -> np.ndarray:
        return np.asarray(read(self.column.reference) == 1)

    def no(self, read: Read) -> np.ndarray:
        return np.asarray(read(self.column.reference) == 0)

    def __str__(self) -> str:
        return str(self.column)


@dataclass(frozen=True, slots=True)
class _Named(_Condition):
    of: _Of
    name: str

    def yes(self, read: Read) -> np.ndarray:
        return np.asarray(read(f"{self.of}:{self.name}"))

    def no(self, read: Read) -> np.ndarray:
        return ~self.yes(read)

    def __str__(self) -> str:
        return f"{self.of}({_quoted(self.name, always=True)})"


@dataclass(frozen=True, slots=True)
class _Not(_Condition):
    of: _Condition
    level = 2

    def yes(self, read: Read) -> np.ndarray:
        return self.of.no(read)

    def no(self, read: Read) -> np.ndarray:
        return self.of.yes(read)

    def __str__(self) -> str:
        return self.of.negated()


@dataclass(frozen=True, slots=True)
class _Joined(_Condition):
    parts: tuple[_Condition, ...]
    word = ""

    @classmethod
    def of(cls, parts: Iterable[_Condition]) -> _Joined:
        """Flat: what joins by the same word is one."""
        return cls(tuple(p for part in parts for p in (part.parts if isinstance(part, cls) else (part,))))

    def __str__(self) -> str:
        return f" {self.word} ".join(part.within(self.level + 1) for part in self.parts)


class _And(_Joined):
    word, level = "and", 1

    def yes(self, read: Read) -> np.ndarray:
        return reduce(operator.and_, (part.yes(read) for part in self.parts))

    def no(self, read: Read) -> np.ndarray:
        return reduce(operator.or_, (part.no(read) for part in self.parts))


class _Or(_Joined):
    word, level = "or", 0

    def yes(self, read: Read) -> np.ndarray:
        return reduce(operator.or_, (part.yes(read) for part in self.parts))

    def no(self, read: Read) -> np.ndarray:
        return reduce(operator.and_, (part.no(read) for part in self.parts))


# ------------------------------------------------------------------------------------------------------ filter
@dataclass(frozen=True)
class Filter:
    """A condition that was understood; `parse` makes it.

    Attributes
    ----------
    text
        Its canonical form: among the same columns it parses to an equal filter.
    references
        The columns that it reads, each once, ``selection:NAME`` and ``talk:GROUP``.
    """

    text: str
    references: tuple[str, ...]
    _condition: _Condition

    def rows(self, read: Read) -> np.ndarray:
        """bool (N,) in row order: the subjects of which the condition certainly holds.

        Parameters
        ----------
        read
            Gives a column by reference: see `Read` and `reader`. It is called once for each.
        """
        known: dict[str, Any] = {}

        def once(reference: str) -> Any:
            if reference not in known:
                known[reference] = read(reference)
            return known[reference]

        return self._condition.yes(once)

    def __str__(self) -> str:
        return self.text


def parse(text: str, columns: Columns) -> Filter:
    """Understand a filter.

    Raises
    ------
    FilterError
        One sentence: the character (from 1) where it goes wrong, what was found there, and the near miss.
    """
    return _Parser(text, columns).filter()


def complete(text: str, cursor: int, columns: Columns) -> list[Completion]:
    """What may stand at the cursor, the likeliest first, at most `MOST`; [] where the text before it makes no sense.

    Parameters
    ----------
    text
        As typed so far.
    cursor
        Characters (code points) before the cursor.
    """
    text = text[:MAX_LENGTH]
    cursor = min(max(cursor, 0), len(text))
    before = _tokens(text[:cursor])
    start, sought = cursor, ""
    if before and before[-1].end == cursor and before[-1].kind not in ("sign", "other"):
        start, sought = before[-1].start, before[-1].word.casefold()
    rest = re.match(r"[\w.]*", text[cursor:]) if start < cursor else None
    end = cursor + (rest.end() if rest else 0)
    parser = _Parser(text[:start], columns)
    with contextlib.suppress(FilterError):  # where it goes wrong before its end, nothing was wanted there
        parser.filter()
    first: list[Completion] = []
    second: list[Completion] = []
    for what, column in dict.fromkeys(parser.wanted):
        for shown, kind, note in _offers(what, column, columns):
            plain = shown.strip('"').casefold()
            if sought in plain and shown != text[start:end]:
                likely = first if plain.startswith(sought) else second
                likely.append(Completion(shown, start, end, kind, note))
    return list(dict.fromkeys(first + second))[:MOST]


_Offer = tuple[str, Literal["column", "operator", "category", "selection", "talk"], str]
_OPERATORS: dict[Kind, tuple[str, ...]] = {
    "number": (">", ">=", "<", "<=", "=", "!=", "between", "in (", "is missing", "is not missing"),
    "truth": ("is missing", "is not missing"),
    "category": ("=", "!=", "in (", "not in (", "~", "is missing", "is not missing"),
    "text": ("~", "=", "!=", "in (", "is missing", "is not missing"),
}
_OPERATORS["id"] = _OPERATORS["text"]


def _offers(what: str, column: _Column | None, columns: Columns) -> Iterable[_Offer]:
    """The words that may stand where the parser wanted `what`."""
    if what in ("condition", "number"):
        for reference, kind in columns.kinds.items():
            if what == "condition" or kind == "number":
                yield columns.shown(reference), "column", columns.notes.get(reference, "")
    if what == "condition":
        yield "not", "operator", ""
        if columns.selections:
            yield "selection(", "operator", "a selection that is kept"
        if columns.talk:
            yield "talk(", "operator", "a group of tags on Talk"
    elif what == "operator":
        for word in _OPERATORS[column.kind if column else "number"]:
            yield word, "operator", ""
    elif what == "value" and column is not None and column.kind == "category":
        for label in columns.labels(column.reference):
            yield _quoted(label), "category", ""
    elif what == "selection":
        for name in columns.selections:
            yield _quoted(name, always=True), "selection", ""
    elif what == "talk":
        for name in columns.talk:
            yield _quoted(name, always=True), "talk", ""
    elif what not in ("number", "value"):
        for word in what.split():
            yield word, "operator", ""


# ------------------------------------------------------------------------------------------------------ parser
@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """What it says, without quotes and table."""
        if self.kind not in ("quoted", "open"):
            return self.text
        quote = min((q for q in "\"'" if q in self.text), key=self.text.index)
        inside = self.text.partition(quote)[2]
        return (inside[:-1] if self.kind == "quoted" else inside).replace(quote * 2, quote)


def _tokens(text: str) -> list[_Token]:
    found = (_Token(m.lastgroup or "", m.group(), m.start()) for m in _TOKEN.finditer(text))
    return [token for token in found if token.kind != "blank"]


def _quoted(text: str, always: bool = False) -> str:
    if not always and _WORD.fullmatch(text) and text.casefold() not in _RESERVED:
        return text
    return '"' + text.replace('"', '""') + '"'


def _shorter(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _near(name: str, there: Iterable[str]) -> str:
    """The near miss, as a question; else what there is, as far as a sentence takes it."""
    there = list(dict.fromkeys(there))
    folded = {n.casefold(): n for n in reversed(there)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    if near:
        return f'did you mean "{_shorter(folded[near[0]])}"?'
    listed = ", ".join(_shorter(n) for n in there[:8])
    return (
        f"there are {listed}{f' and {len(there) - 8:,} more' if len(there) > 8 else ''}" if there else "there is none"
    )


class _Parser:
    """Recursive descent, one method for each line of the grammar."""

    def __init__(self, text: str, columns: Columns) -> None:
        self._text = text.encode(errors="replace").decode()  # half a character (a lone surrogate) is no text
        self._columns = columns
        self._tokens = [*_tokens(self._text[: MAX_LENGTH + 1]), _Token("end", "", len(self._text.rstrip()))]
        self._at = 0
        self._depth = 0
        self._read: dict[str, None] = {}
        #: What could have stood where the text ends, and the column before it.
        self.wanted: list[tuple[str, _Column | None]] = []

    def filter(self) -> Filter:
        """The whole text."""
        if len(self._text) > MAX_LENGTH:
            raise FilterError(
                f"the filter has {len(self._text):,} characters, {MAX_LENGTH:,} are the most; "
                "keep a part of it as a selection and name that",
                MAX_LENGTH,
                len(self._text),
            )
        node = self._condition()
        if self._token.kind != "end":
            raise self._expected('"and", "or" or the end')
        return Filter(str(node), tuple(self._read), node)

    # ------------------------------------------------------------------------------------------------- tokens
    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _want(self, what: str, column: _Column | None = None) -> None:
        if self._token.kind == "end":
            self.wanted.append((what, column))

    def _next(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._at += 1
        return token

    def _is_word(self, word: str, ahead: int = 0) -> bool:
        token = self._tokens[min(self._at + ahead, len(self._tokens) - 1)]
        return token.kind in ("name", "sign") and token.text.casefold() == word

    def _take(self, *words: str) -> str:
        """The next token where it is one of these, else ""."""
        for word in words:
            if self._is_word(word):
                self._next()
                return word
        return ""

    def _need(self, word: str) -> None:
        self._want(word)
        if not self._take(word):
            raise self._expected(f'"{word}"')

    def _wrong(self, what: str, token: _Token) -> FilterError:
        return FilterError(f"character {token.start + 1:,}: {what}", token.start, max(token.end, token.start + 1))

    def _expected(self, what: str) -> FilterError:
        token = self._token
        if token.kind == "open":
            return self._wrong(f"the quote {_shorter(token.text)} has no end", token)
        found = "the filter ends" if token.kind == "end" else f'found "{_shorter(token.text)}"'
        meant = _MEANT.get(token.text.casefold())
        hint = f'; did you mean "{meant}"?' if meant else ""
        return self._wrong(f"{found} where {what} is expected{hint}", token)

    def _deeper(self, token: _Token) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._wrong(f"more than {MAX_NESTING} conditions stand within each other; write it flatter", token)

    # --------------------------------------------------------------------------------------------- conditions
    def _condition(self) -> _Condition:
        return self._truth(self._either())

    def _either(self) -> _Condition | _Number:
        return self._joined("or", _Or, partial(self._joined, "and", _And, self._negation))

    def _joined(self, word: str, kind: type[_Joined], part: Callable[[], _Condition | _Number]) -> _Condition | _Number:
        first = self._token
        node = part()
        if isinstance(node, _Condition) or (isinstance(node, _Column) and node.kind == "truth"):
            self._want(word)
        if not self._is_word(word):
            return node
        parts = [self._truth(node, first)]
        while self._take(word):
            first = self._token
            parts.append(self._truth(part(), first))
            self._want(word)
        return kind.of(parts)

    def _truth(self, node: _Condition | _Number, first: _Token | None = None) -> _Condition:
        """A condition; a column of yes and no is one."""
        if isinstance(node, _Condition):
            return node
        token = first or self._tokens[0]
        if not isinstance(node, _Column):
            raise self._wrong(f"{_shorter(str(node))} is a number and no condition; compare it with something", token)
        if node.kind == "truth":
            return _Truth(node)
        is_number = node.kind == "number"
        said = "a number" if is_number else "a category" if node.kind == "category" else "a text"
        example = f"{node} > 99%" if is_number else f"{node} = {self._example(node)}"
        raise self._wrong(f"{_shorter(str(node))} is {said} and no condition; compare it, as in {example}", token)

    def _example(self, column: _Column) -> str:
        labels = self._columns.labels(column.reference) if column.kind == "category" else ()
        return _quoted(labels[0] if labels else "text")

    def _negation(self) -> _Condition | _Number:
        self._want("condition")
        first = self._token
        if not self._take("not"):
            return self._predicate()
        self._deeper(first)
        start = self._token
        node = _Not(self._truth(self._negation(), start))
        self._depth -= 1
        return node

    def _predicate(self) -> _Condition | _Number:
        first = self._token
        left = self._sum("condition")
        if isinstance(left, _Condition):
            return left
        column = left if isinstance(left, _Column) else None
        self._want("operator", column)
        if self._take("is"):
            self._want("missing not")
            negated = bool(self._take("not"))
            self._want("missing")
            if not self._take("missing", "null"):
                raise self._expected('"missing" or "not missing"')
            return self._checked(_Not(_Missing(left)) if negated else _Missing(left), (left,), first)
        if column is not None and column.kind == "truth":
            return self._yes_or_no(column)
        negated = any(self._is_word(word, 1) for word in ("between", "in", "~")) and bool(self._take("not"))
        if column is not None and column.kind != "number":
            found = self._on_texts(column)
        else:
            found = self._on_numbers(left, first)
        return _Not(self._truth(found, first)) if negated else found

    def _checked(self, node: _Condition, numbers: Iterable[_Number], first: _Token) -> _Condition:
        if not any(map(_has_column, numbers)):
            raise self._wrong("nothing here is a column, so it says the same of every subject; name a column", first)
        return node

    def _yes_or_no(self, column: _Column) -> _Condition | _Number:
        sign = self._take("=", "==", "!=", "<>")
        if not sign and self._token.text in _COMPARE:
            raise self._wrong(f"{_shorter(str(column))} is yes or no: it stands alone, or takes = and !=", self._token)
        if not sign:
            return column
        self._want("true false")
        word = self._take("true", "false", "yes", "no")
        if not word and self._token.text in ("0", "1"):
            word = self._next().text
        if not word:
            raise self._expected("true or false")
        is_yes = (word in ("true", "yes", "1")) == (sign in ("=", "=="))
        return _Truth(column) if is_yes else _Not(_Truth(column))

    def _on_numbers(self, left: _Number, first: _Token) -> _Condition | _Number:
        if sign := self._take(*_COMPARE, "==", "<>"):
            sign = {"==": "=", "<>": "!="}.get(sign, sign)
            second = self._token
            right = self._number("number")
            if isinstance(left, _Percent) and isinstance(right, _Percent):
                raise self._wrong("both sides are percentiles, of nothing; name a column", second)
            if self._token.text in _COMPARE:
                raise self._wrong(
                    f'found a second "{self._token.text}"; write "between 1 and 2" for a range', self._token
                )
            return self._checked(_Compare(left, sign, right), (left, right), first)
        if isinstance(left, _Percent) and (self._is_word("between") or self._is_word("in")):
            raise self._wrong("a percentile stands right of what it is the percentile of", first)
        if self._take("between"):
            low = self._number("number")
            self._need("and")
            high = self._number("number")
            return self._checked(_Between(left, low, high), (left,), first)
        if self._take("in"):
            return self._checked(_OneOf(left, tuple(self._listed(self._constant))), (left,), first)
        if self._is_word("~"):
            raise self._wrong(
                '"~" looks into texts, and this is a number; compare it with =, <, > or between', self._token
            )
        return left

    def _on_texts(self, column: _Column) -> _Condition | _Number:
        value = partial(self._value, column)
        if sign := self._take("=", "==", "!=", "<>"):
            found = _Member(column, (value(),))
            return found if sign in ("=", "==") else _Not(found)
        if self._take("in"):
            return _Member(column, tuple(dict.fromkeys(self._listed(value))))
        if self._take("~"):
            return _Contains(column, self._value(column, exact=False))
        if self._token.text in {*_COMPARE, "between", "+", "-", "*", "/"}:
            said = "a category" if column.kind == "category" else "a text"
            what = f'"{self._token.text}" needs numbers, and {_shorter(str(column))} is {said}'
            raise self._wrong(f'{what}: it takes =, !=, "in" and ~', self._token)
        return column

    def _listed(self, one: Callable[[], Any]) -> list[Any]:
        self._need("(")
        found = [one()]
        self._want(", )")
        while self._take(","):
            found.append(one())
            self._want(", )")
        self._need(")")
        return found

    def _value(self, column: _Column, exact: bool = True) -> str:
        """A text; of a column of categories one that it has, whatever its case."""
        self._want("value", column)
        token = self._token
        minus = "-" if self._take("-") else ""
        token, start = self._token, token
        if token.kind == "name" and token.text.casefold() in ("missing", "null"):
            raise self._wrong(f'write "{_shorter(str(column))} is missing", or quote the word', token)
        is_text = token.kind in ("name", "quoted") and token.text.casefold() not in _RESERVED - {"true", "false"}
        if not (token.kind == "number" or (is_text and not minus)):
            raise self._expected("a text (in quotes if it is more than a word)")
        text = minus + self._next().word
        if column.kind != "category" or not exact:
            return text
        labels = self._columns.labels(column.reference)
        same = [text] if text in labels else [label for label in labels if label.casefold() == text.casefold()]
        if len(same) != 1:
            raise self._wrong(
                f'no subject has "{_shorter(text)}" as its {_shorter(str(column))}; {_near(text, labels)}', start
            )
        return same[0]

    def _constant(self) -> _Constant:
        minus = bool(self._take("-"))
        if self._token.kind != "number":
            raise self._expected("a number")
        value = self._float(self._next())
        return _Constant(-value if minus else value)

    # ------------------------------------------------------------------------------------------------ numbers
    def _number(self, wanted: str) -> _Number:
        """A sum that is a number, and neither a condition nor a text."""
        first = self._token
        return self._as_number(self._sum(wanted), first, alone=True)

    def _as_number(self, node: _Condition | _Number, first: _Token, alone: bool = False) -> _Number:
        if isinstance(node, _Condition):
            raise self._wrong("found a condition where a number is expected", first)
        if isinstance(node, _Column) and node.kind != "number":
            said = {"truth": "yes or no", "category": "a category"}.get(node.kind, "a text")
            raise self._wrong(f"{_shorter(str(node))} is {said}, a number is expected", first)
        if isinstance(node, _Percent) and not alone:
            raise self._wrong("a percentile stands alone beside the sign, as in feature_score > 99%", first)
        return node

    def _sum(self, wanted: str) -> _Condition | _Number:
        return self._chain("+-", partial(self._chain, "*/", self._factor), wanted)

    def _chain(self, signs: str, part: Callable[[str], _Condition | _Number], wanted: str) -> _Condition | _Number:
        first = self._token
        node = part(wanted)
        if not (self._token.kind == "sign" and self._token.text in signs) or _is_text(node):
            return node
        start, rest = self._as_number(node, first), []
        while self._token.kind == "sign" and self._token.text in signs:
            sign, first = self._next().text, self._token
            rest.append((sign, self._as_number(part("number"), first)))
        return _Chain(start, tuple(rest))

    def _factor(self, wanted: str) -> _Condition | _Number:
        self._want(wanted)
        token = self._token
        if token.kind == "number":
            value = self._float(self._next())
            if not self._take("%"):
                return _Constant(value)
            if value > 100:
                raise self._wrong(f"a percentile is from 0% to 100%, not {token.text}%", token)
            return _Percent(value)
        if self._take("-"):
            self._deeper(token)
            first = self._token
            node = self._as_number(self._factor("number"), first)
            self._depth -= 1
            return _Constant(-node.value) if isinstance(node, _Constant) and first.kind == "number" else _Minus(node)
        if self._take("("):
            self._deeper(token)
            inside = self._either()
            self._need(")")
            self._depth -= 1
            return inside
        for of in _NAMED:
            if self._is_word(of) and self._is_word("(", 1):
                return self._named(of)
        if token.kind == "quoted" or (token.kind == "name" and token.text.casefold() not in _RESERVED):
            return self._column(self._next())
        raise self._expected(
            "a column or a number" if wanted == "number" else "a condition, such as feature_score > 99%,"
        )

    def _float(self, token: _Token) -> float:
        value = float(token.text)
        if not np.isfinite(value):
            raise self._wrong(f"{_shorter(token.text)} is more than a number can hold", token)
        return value

    def _column(self, token: _Token) -> _Column:
        reference = self._reference(token)
        if reference is None:
            names = [r.partition(".")[2] for r in self._columns.kinds]
            name = token.word.rpartition(".")[2] if token.kind == "name" else token.word
            raise self._wrong(
                f'no column is called "{_shorter(token.text.strip(chr(34)))}"; {_near(name, names)}', token
            )
        self._read.setdefault(reference)
        return _Column(reference, self._columns.kinds[reference], self._columns.shown(reference))

    def _reference(self, token: _Token) -> str | None:
        """The column that is meant: the whole as a bare name, else a name of the table before the dot."""
        table, dot, name = token.text.partition(".")
        explicit = dot and table in _TABLES
        if token.kind == "quoted":
            return _known(f"{table}.{token.word}", self._columns) if explicit else self._columns.find(token.word)
        return self._columns.find(token.text) or (_known(f"{table}.{name}", self._columns) if explicit else None)

    def _named(self, of: _Of) -> _Named:
        self._next()
        self._need("(")
        self._want(of)
        token, what = self._token, _NAMED[of]
        if token.kind not in ("quoted", "name"):
            raise self._expected(f"the name of a {what} in quotes")
        name, known = self._next().word, self._columns.selections if of == "selection" else self._columns.talk
        if name not in known:
            raise self._wrong(f'no {what} is called "{_shorter(name)}"; {_near(name, known)}', token)
        self._need(")")
        self._read.setdefault(f"{of}:{name}")
        return _Named(of, name)


def _known(reference: str, columns: Columns) -> str | None:
    return reference if reference in columns.kinds else None


def _is_text(node: _Condition | _Number) -> bool:
    return isinstance(node, _Column) and node.kind not in ("number", "truth")


def _has_column(number: _Number) -> bool:
    if isinstance(number, _Chain):
        return any(map(_has_column, (number.first, *(part for _, part in number.rest))))
    return _has_column(number.of) if isinstance(number, _Minus) else isinstance(number, _Column)


# ------------------------------------------------------------------------------------------------- of a survey
def columns_of(explore: Explore, run_id: str = "", map_id: str = "", ledger: Ledger | None = None) -> Columns:
    """What a filter may name: a run's scores, the survey's columns, a map's own, kept selections, Talk's tags."""
    survey = explore.survey
    kinds: dict[str, Kind] = {}
    notes: dict[str, str] = {}
    for name, kind in survey.score_kinds(run_id).items() if run_id else ():
        kinds[f"scores.{name}"] = "category" if kind == "text" else _number_or_truth(name)
        notes[f"scores.{name}"] = "of the scores"
    for column in survey.columns():
        reference = f"subjects.{column.name}"
        is_truth = pa.types.is_boolean(survey._field(column.name).type)
        kinds[reference] = "truth" if is_truth else column.dtype
        notes[reference] = column.unit or {"category": "category", "text": "text", "id": "id"}.get(column.dtype, "")
    if map_id:
        own = {f"umap_{i}": "of the map" for i in (1, 2, 3)} | dict.fromkeys(survey.placing(map_id), "of the map")
        kinds |= {f"maps.{name}": _number_or_truth(name) for name in own}
        notes |= {f"maps.{name}": note for name, note in own.items()}

    def labels(reference: str) -> Sequence[str]:
        found: Sequence[str] = _category(explore, reference, run_id)[1]
        return found

    kept = ledger.selection_names() if ledger is not None else ()
    return Columns(kinds, notes, labels, kept, [group.name for group in explore.talk.groups()])


def reader(
    explore: Explore,
    run_id: str = "",
    map_id: str = "",
    lambda_: float = 0.2,
    mode: Mode = "raw",
    ledger: Ledger | None = None,
) -> Read:
    """Reads the columns of `columns_of` for `Filter.rows`, the anomaly score mixed as asked."""
    survey = explore.survey

    def read(reference: str) -> Any:
        if reference.startswith("selection:") and ledger is not None:
            members = ledger.selection(reference.partition(":")[2], survey.subject_ids).subject_ids
            return Selection.of_rows(survey.rows_of(members), survey.n).mask()
        if reference.startswith("talk:"):
            return explore.talk.selection(reference.partition(":")[2]).mask()
        table, _, name = reference.partition(".")
        if table == "maps" and name.startswith("umap_"):
            return survey.coordinates(map_id)[:, int(name[-1]) - 1]
        if table == "scores" and survey.score_kinds(run_id).get(name) == "text":
            return _category(explore, reference, run_id)
        if table != "subjects":
            return explore.values(reference, run_id, lambda_, mode, map_id)
        column = next(c for c in survey.columns() if c.name == name)
        if pa.types.is_boolean(survey._field(name).type):
            return survey._cached("truth", name, partial(_truth, survey._arrow(name), name))
        if column.dtype == "number":
            return survey.column(name)
        if column.dtype == "category":
            return survey.category(name)
        return survey._cached("texts", name, lambda: survey._arrow(name).cast(pa.string()))

    return read


def _number_or_truth(name: str) -> Kind:
    return "truth" if name.startswith("is_") else "number"


def _truth(array: pa.Array, name: str) -> np.ndarray:
    """0, 1 and NaN; of what every survey has, null is a no."""
    if name in ("is_known", "is_withdrawn"):
        array = pc.fill_null(array, False)
    return np.asarray(array.cast(pa.uint8()).cast(pa.float32()).to_numpy(zero_copy_only=False))


def _category(explore: Explore, reference: str, run_id: str) -> tuple[np.ndarray, list[str]]:
    """Codes and labels of a column of categories, of a run's texts too."""
    survey = explore.survey
    table, _, name = reference.partition(".")
    return survey.category(name) if table == "subjects" else survey.score_category(run_id, name)
