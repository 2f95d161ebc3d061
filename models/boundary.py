"""A decision boundary as an object: regions, gates and classifiers, combined by and, or, not.

Every term answers yes, no or unknown for each subject (Kleene's logic): a missing value, no place on the plane or no
latent vector is unknown, and `Not` leaves it so. Only "yes" is kept; the unknown are counted, never dropped in silence.

Terms are immutable and hashable: an edit makes another term. A term inside another is named by its path, the tuple of
indices that lead to it from the root: () is the root, and a `Not` has its term at 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np

from models.limits import between

Shape = Literal["polygon", "freehand", "box", "ellipse"]
Scale = Literal["balanced", "probability"]
Path = tuple[int, ...]

#: Shapes that are told by two opposite corners of the box around them.
OF_CORNERS = ("box", "ellipse")
#: Corners of the polygon that stands for an ellipse.
ELLIPSE_CORNERS = 128
#: Where columns are: the survey's own, those of a score run, those of a map.
TABLES = ("subjects", "scores", "maps")

MAX_DEPTH = 20
MAX_TERMS = 200
MAX_VERTICES = 10_000
MAX_LABELS = 1_000
MAX_TEXT = 500
#: Of edges, while an outline is searched for where it crosses itself.
PAIRS_AT_ONCE = 500_000


class BoundaryError(ValueError):
    """What is wrong with a boundary, and where in it.

    Attributes
    ----------
    place
        Such as ``and[2].gate.low``; "" for the whole.
    """

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(f"{place}: {sentence}" if place else sentence)
        self.sentence = sentence
        self.place = place

    def within(self, place: str) -> BoundaryError:
        """The same, of a part that stands at `place`."""
        return BoundaryError(self.sentence, ".".join(part for part in (place, self.place) if part))


# ------------------------------------------------------------------------------------------------------------- terms
@dataclass(frozen=True, slots=True)
class Region:
    """What is inside an outline drawn on the plane of two columns; by the even-odd rule where it crosses itself.

    Attributes
    ----------
    x, y
        References of numeric columns: "maps.umap_1", "scores.feature_score", "subjects.NAME".
    vertices
        In the units of the columns; the last joins the first. Of a box or an ellipse two opposite corners of its box.
    """

    x: str
    y: str
    vertices: tuple[tuple[float, float], ...]
    shape: Shape = "polygon"

    def __post_init__(self) -> None:
        _set(self, x=_reference(self.x, "x"), y=_reference(self.y, "y"), vertices=_vertices(self.vertices))
        if self.shape not in get_args(Shape):
            raise BoundaryError(f"a region is one of {', '.join(get_args(Shape))}, not {_short(self.shape)}", "shape")
        n = len(self.vertices)
        if self.shape in OF_CORNERS and n != 2:
            raise BoundaryError(f"a {self.shape} is told by 2 opposite corners, not {n:,}", "vertices")
        if self.shape not in OF_CORNERS and not 3 <= n <= MAX_VERTICES:
            raise BoundaryError(f"a {self.shape} has 3 to {MAX_VERTICES:,} vertices, not {n:,}", "vertices")

    def outline(self) -> np.ndarray:
        """The polygon, float64 (k, 2), k ≥ 3; an ellipse as one of `ELLIPSE_CORNERS` on its line."""
        if self.shape not in OF_CORNERS:
            return np.array(self.vertices, np.float64)
        (x0, y0), (x1, y1) = self.vertices
        if self.shape == "box":
            return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)
        turn = np.arange(ELLIPSE_CORNERS) * (2 * np.pi / ELLIPSE_CORNERS)
        half_x, half_y = x1 / 2 - x0 / 2, y1 / 2 - y0 / 2
        return np.column_stack((x0 + half_x + half_x * np.cos(turn), y0 + half_y + half_y * np.sin(turn)))


@dataclass(frozen=True, slots=True)
class Gate:
    """Limits on a column, or some of its categories.

    Attributes
    ----------
    low, high
        low ≤ value ≤ high, raw values compared exactly; None for no limit. Without any limit: whoever has a value.
    labels
        Of a column of categories: those that are kept.
    low_percentile, high_percentile
        What the person set in the survey where the boundary was tuned, 0 … 100: a record. The raw values hold.
    """

    column: str
    low: float | None = None
    high: float | None = None
    labels: tuple[str, ...] = ()
    low_percentile: float | None = None
    high_percentile: float | None = None

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in ("low", "high", "low_percentile", "high_percentile")}
        numbers = {name: None if value is None else _number(value, name) for name, value in numbers.items()}
        _set(self, column=_reference(self.column, "column"), labels=_labels(self.labels), **numbers)
        for limit in ("low", "high"):
            percentile = numbers[name := f"{limit}_percentile"]
            if percentile is not None and numbers[limit] is None:
                raise BoundaryError(f"it records how {limit} was set, and there is no {limit}", name)
            if percentile is not None and not 0 <= percentile <= 100:
                raise BoundaryError(f"a percentile is 0 to 100, not {percentile:g}", name)
        if self.labels and (self.low is not None or self.high is not None):
            raise BoundaryError("a gate has limits or categories, not both", "labels")


@dataclass(frozen=True, slots=True)
class Learned:
    """What a classifier scores at least so high.

    Attributes
    ----------
    model
        sha256 of the stored classifier, 64 hexadecimal digits.
    low
        0 … 1.
    scale
        "balanced": classes weighted alike, as the paper cuts at .5; "probability": corrected for their shares.
    """

    model: str
    low: float = 0.5
    scale: Scale = "balanced"

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or len(self.model) != 64 or not set(self.model) <= set("0123456789abcdef"):
            raise BoundaryError(f"a classifier is named by its sha256, not by {_short(self.model)}", "model")
        _set(self, low=_number(self.low, "low"))
        if not 0 <= self.low <= 1:
            raise BoundaryError(f"a classifier's limit is 0 to 1, not {self.low:g}", "low")
        if self.scale not in get_args(Scale):
            raise BoundaryError(f"the scale is one of {', '.join(get_args(Scale))}, not {_short(self.scale)}", "scale")


@dataclass(frozen=True, slots=True)
class Not:
    """What a term does not keep."""

    term: Term

    def __post_init__(self) -> None:
        _terms((self.term,))


@dataclass(frozen=True, slots=True)
class And:
    """What every term keeps; without any term, all."""

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        _set(self, terms=_terms(self.terms))


@dataclass(frozen=True, slots=True)
class Or:
    """What any of the terms keeps; without any term, none."""

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        _set(self, terms=_terms(self.terms))


Leaf = Region | Gate | Learned
Term = Leaf | Not | And | Or


def _set(term: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(term, name, value)


def _terms(terms: Sequence[Term]) -> tuple[Term, ...]:
    for term in terms:
        if not isinstance(term, Region | Gate | Learned | Not | And | Or):
            raise BoundaryError(f"{_short(term)} is no term of a boundary")
    return tuple(terms)


def _reference(value: object, place: str) -> str:
    """The reference of a column, checked."""
    if not isinstance(value, str):
        raise BoundaryError(f"a column is named by a text such as scores.feature_score, not by {_short(value)}", place)
    table, _, name = value.partition(".")
    if table not in TABLES or not name or len(value) > MAX_TEXT or not value.isprintable():
        tables = ", ".join(TABLES)
        raise BoundaryError(f"a column is named TABLE.NAME, the table one of {tables}, not {_short(value)}", place)
    return value


def _number(value: object, place: str) -> float:
    """A finite number, as a float."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise BoundaryError(f"{_short(value)} is not a number", place)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BoundaryError(f"{_short(value)} is not a finite number", place)
    return number


def _vertices(vertices: object) -> tuple[tuple[float, float], ...]:
    if isinstance(vertices, np.ndarray):
        vertices = vertices.tolist()
    if not isinstance(vertices, list | tuple):
        raise BoundaryError(f"the vertices are a list of pairs of numbers, not {_short(vertices)}", "vertices")
    if len(vertices) > MAX_VERTICES:
        raise BoundaryError(f"an outline has {MAX_VERTICES:,} vertices at most, not {len(vertices):,}", "vertices")
    found = []
    for k, pair in enumerate(vertices):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BoundaryError(f"a vertex is a pair of numbers, not {_short(pair)}", f"vertices[{k}]")
        found.append((_number(pair[0], f"vertices[{k}]"), _number(pair[1], f"vertices[{k}]")))
    return tuple(found)


def _labels(labels: object) -> tuple[str, ...]:
    if not isinstance(labels, list | tuple):
        raise BoundaryError(f"the categories are a list of texts, not {_short(labels)}", "labels")
    if len(labels) > MAX_LABELS:
        raise BoundaryError(f"a gate has {MAX_LABELS:,} categories at most, not {len(labels):,}", "labels")
    for k, label in enumerate(labels):
        if not isinstance(label, str) or len(label) > MAX_TEXT:
            raise BoundaryError(f"a category is a text, not {_short(label)}", f"labels[{k}]")
        if label in labels[:k]:
            raise BoundaryError(f"the category {_short(label)} is there twice", f"labels[{k}]")
    return tuple(labels)


def _short(value: object) -> str:
    """Anything, so that it fits in a sentence."""
    text = str(value) if isinstance(value, int | float | np.number) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


# ------------------------------------------------------------------------------------------------------ what is kept
@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The answers of a term.

    Attributes
    ----------
    yes, no
        bool (N,); never both.
    """

    yes: np.ndarray
    no: np.ndarray

    @property
    def unknown(self) -> np.ndarray:
        """bool (N,): neither yes nor no."""
        unknown: np.ndarray = ~(self.yes | self.no)
        return unknown


class Source(Protocol):
    """Where a boundary finds the values of n subjects; all arrays are in row order, and only read."""

    @property
    def n(self) -> int:
        """How many subjects."""

    def column(self, reference: str) -> np.ndarray:
        """A numeric column, float (N,), NaN where missing."""

    def codes(self, reference: str) -> tuple[np.ndarray, Sequence[str]]:
        """A column of categories: int (N,) codes into its labels, -1 where missing, and the labels."""

    def inside(self, x: str, y: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who is inside a polygon by the even-odd rule, and who has a place on the plane at all: bool (N,) both."""

    def balanced(self, model: str) -> np.ndarray:
        """A classifier's balanced scores, float (N,), NaN where missing."""

    def probability(self, model: str) -> np.ndarray:
        """A classifier's probabilities, corrected for the share of positives, float (N,), NaN where missing."""


def evaluate(term: Term, source: Source) -> Kept:
    """What a boundary keeps of a source's subjects."""
    match term:
        case Region():
            inside, placed = source.inside(term.x, term.y, term.outline())
            return Kept(inside & placed, placed & ~inside)
        case Gate() if term.labels:
            codes, labels = source.codes(term.column)
            wanted = np.array([label in term.labels for label in labels] + [False])  # the last: missing
            return _answers(wanted[codes], codes < 0)
        case Gate():
            values = source.column(term.column)
            return _answers(between(values, term.low, term.high), np.isnan(values))
        case Learned():
            values = source.balanced(term.model) if term.scale == "balanced" else source.probability(term.model)
            return _answers(between(values, term.low), np.isnan(values))
        case Not():
            kept = evaluate(term.term, source)
            return Kept(kept.no, kept.yes)
        case And() | Or():
            return _together(term, [evaluate(one, source) for one in term.terms], source.n)


def _answers(yes: np.ndarray, missing: np.ndarray) -> Kept:
    return Kept(yes & ~missing, ~yes & ~missing)


def _together(group: And | Or, parts: Sequence[Kept], n: int) -> Kept:
    is_and = isinstance(group, And)
    yes, no = np.full(n, is_and), np.full(n, not is_and)
    for part in parts:
        if is_and:
            yes &= part.yes
            no |= part.no
        else:
            yes |= part.yes
            no &= part.no
    return Kept(yes, no)


def alternatives(term: Term, path: Path, source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who the whole keeps if the term at `path` answers yes, no, or unknown to everyone: bool (N,) each.

    With them a sweep of one limit needs no other term again: a subject is kept by the first mask where its value is
    within the limit, by the second where it is not, by the third where it has none.
    """
    n = source.n
    answers = [Kept(np.full(n, yes), np.full(n, no)) for yes, no in ((True, False), (False, True), (False, False))]
    for depth in reversed(range(len(path))):
        parent = at(term, path[:depth])
        if isinstance(parent, Not):
            answers = [Kept(answer.no, answer.yes) for answer in answers]
        elif isinstance(parent, And | Or):
            rest = [evaluate(one, source) for k, one in enumerate(parent.terms) if k != path[depth]]
            answers = [_together(parent, [answer, *rest], n) for answer in answers]
    at(term, path)  # a path that leads nowhere is refused, at the end of it too
    yes, no, unknown = (answer.yes for answer in answers)
    return yes, no, unknown


# ------------------------------------------------------------------------------------------------- parts of a whole
def _parts(term: Term) -> tuple[Term, ...]:
    match term:
        case Not():
            return (term.term,)
        case And() | Or():
            return term.terms
    return ()


def at(term: Term, path: Path) -> Term:
    """The term at a path.

    Raises
    ------
    BoundaryError
        There is none.
    """
    for depth, k in enumerate(path):
        parts = _parts(term)
        if not 0 <= k < len(parts):
            raise BoundaryError(f"the boundary has no term at {list(path[: depth + 1])}")
        term = parts[k]
    return term


def replaced(term: Term, path: Path, new: Term | None) -> Term:
    """The whole with another term at a path, or with None there; a group or `Not` left empty goes with what it had."""
    at(term, path)
    found = _replaced(term, path, new)
    return And(()) if found is None else found


def _replaced(term: Term, path: Path, new: Term | None) -> Term | None:
    if not path:
        return new
    parts, k = list(_parts(term)), path[0]
    part = _replaced(parts[k], path[1:], new)
    parts[k : k + 1] = [] if part is None else [part]
    if not parts:
        return None
    return Not(parts[0]) if isinstance(term, Not) else cast("And | Or", type(term)(tuple(parts)))  # type: ignore[call-arg,arg-type]


def with_term(term: Term, path: Path, new: Term) -> Term:
    """The whole with one more term at the end of the group at a path; what is no group there becomes "both"."""
    there = at(term, path)
    group = type(there)((*there.terms, new)) if isinstance(there, And | Or) else And((there, new))
    return replaced(term, path, group)


def walk(term: Term, path: Path = ()) -> Iterator[tuple[Path, Term]]:
    """Every term with its path, the whole first, then in the order they are written."""
    yield path, term
    for k, part in enumerate(_parts(term)):
        yield from walk(part, (*path, k))


def leaves(term: Term) -> list[tuple[Path, Leaf]]:
    """The regions, gates and classifiers with their paths, in the order they are written."""
    return [(path, one) for path, one in walk(term) if isinstance(one, Region | Gate | Learned)]


def columns(term: Term) -> tuple[str, ...]:
    """References of the columns that regions and gates look at, each once, in the order they are written."""
    found: dict[str, None] = {}
    for _, leaf in leaves(term):
        if isinstance(leaf, Region):
            found |= {leaf.x: None, leaf.y: None}
        elif isinstance(leaf, Gate):
            found[leaf.column] = None
    return tuple(found)


def classifiers(term: Term) -> tuple[str, ...]:
    """sha256 of the classifiers, each once, in the order they are written."""
    return tuple(dict.fromkeys(leaf.model for _, leaf in leaves(term) if isinstance(leaf, Learned)))


def place_of(term: Term, path: Path) -> str:
    """A path as errors name it: ``and[2].not``; "" for the root."""
    places = []
    for depth, k in enumerate(path):
        parent = at(term, path[:depth])
        places.append("not" if isinstance(parent, Not) else f"{_word(parent)}[{k}]")
    return ".".join(places)


def _word(term: Term) -> str:
    return type(term).__name__.lower()


def check(term: Term) -> Term:
    """The term, if it is within the limits of depth, terms and vertices.

    Raises
    ------
    BoundaryError
        It is beyond one of them, and which.
    """
    n_vertices = 0
    for n_terms, (path, one) in enumerate(walk(term), 1):
        n_vertices += len(one.vertices) if isinstance(one, Region) else 0
        if len(path) > MAX_DEPTH:
            raise BoundaryError(f"terms are nested deeper than {MAX_DEPTH}", place_of(term, path))
        if n_terms > MAX_TERMS:
            raise BoundaryError(f"a boundary has {MAX_TERMS} terms at most", place_of(term, path))
        if n_vertices > MAX_VERTICES:
            raise BoundaryError(
                f"its regions have {MAX_VERTICES:,} vertices at most, all together", place_of(term, path)
            )
    return term


# -------------------------------------------------------------------------------------------------------------- JSON
LEAVES: dict[str, type[Leaf]] = {"region": Region, "gate": Gate, "learned": Learned}
NEEDED = {"region": ("x", "y", "vertices"), "gate": ("column",), "learned": ("model",)}


@dataclass(slots=True)
class _Reader:
    """Reads one boundary, counting as it goes: what is too large is refused before it is made."""

    n_terms: int = 0

    def read(self, told: object, place: str, depth: int) -> Term:
        self.n_terms += 1
        if depth > MAX_DEPTH:
            raise BoundaryError(f"terms are nested deeper than {MAX_DEPTH}", place)
        if self.n_terms > MAX_TERMS:
            raise BoundaryError(f"a boundary has {MAX_TERMS} terms at most", place)
        if not isinstance(told, Mapping) or len(told) != 1:
            raise BoundaryError(
                f"a term is one of and, or, not, region, gate, learned with what it has, not {_short(told)}", place
            )
        ((word, inner),) = told.items()
        if word in ("and", "or"):
            if not isinstance(inner, list | tuple):
                raise BoundaryError(f"“{word}” has a list of terms, not {_short(inner)}", _join(place, word))
            made = tuple(self.read(one, _join(place, f"{word}[{k}]"), depth + 1) for k, one in enumerate(inner))
            return And(made) if word == "and" else Or(made)
        if word == "not":
            return Not(self.read(inner, _join(place, "not"), depth + 1))
        if word not in LEAVES:
            raise BoundaryError(
                f"there is no term {_short(word)}; there are and, or, not, region, gate, learned", place
            )
        return self._leaf(word, inner, _join(place, word))

    def _leaf(self, word: str, told: object, place: str) -> Leaf:
        if not isinstance(told, Mapping):
            raise BoundaryError(f"a {word} term is told by names and values, not by {_short(told)}", place)
        known = [one.name for one in fields(LEAVES[word])]
        for name in told:
            if name not in known:
                raise BoundaryError(f"a {word} term has no {_short(name)}; it has {', '.join(known)}", place)
        for name in NEEDED[word]:
            if name not in told:
                raise BoundaryError(f"it is missing, and a {word} term needs it", f"{place}.{name}")
        try:
            return LEAVES[word](**told)
        except BoundaryError as error:
            raise error.within(place) from None


def _join(place: str, part: str) -> str:
    return f"{place}.{part}" if place else part


def from_json(told: object) -> Term:
    """A boundary as `to_json` wrote it.

    Raises
    ------
    BoundaryError
        Anything else: which place of it, and what it should be.
    """
    return check(_Reader().read(told, "", 0))


def to_json(term: Term) -> dict[str, Any]:
    """A boundary as a JSON object; `from_json` makes the same of it, to the last bit."""
    match term:
        case Region():
            vertices = [list(vertex) for vertex in term.vertices]
            return {"region": {"x": term.x, "y": term.y, "shape": term.shape, "vertices": vertices}}
        case Gate():
            limits = {name: getattr(term, name) for name in ("low", "high", "low_percentile", "high_percentile")}
            told: dict[str, Any] = {"column": term.column}
            told |= {name: value for name, value in limits.items() if value is not None}
            return {"gate": told | ({"labels": list(term.labels)} if term.labels else {})}
        case Learned():
            return {"learned": {"model": term.model, "low": term.low, "scale": term.scale}}
        case Not():
            return {"not": to_json(term.term)}
        case And() | Or():
            return {_word(term): [to_json(one) for one in term.terms]}


# ------------------------------------------------------------------------------------------------------------- words
def in_words(term: Term, titles: Mapping[str, str] | None = None) -> str:
    """A boundary in one sentence without a full stop.

    Parameters
    ----------
    titles
        Reference of a column (or sha256 of a classifier) → what a person reads.
    """
    return _words(term, titles or {}, False)


def _words(term: Term, titles: Mapping[str, str], is_inner: bool) -> str:
    match term:
        case Region():
            of = f"a {term.shape}" if term.shape in ("polygon", "box") else f"an {term.shape}"
            of = "a freehand outline" if term.shape == "freehand" else of
            crossing = " (which crosses itself: even-odd rule)" if _is_crossing(term) else ""
            return f"inside {of} on {_title(term.x, titles)} and {_title(term.y, titles)}{crossing}"
        case Gate():
            return _gate_in_words(term, titles)
        case Learned():
            name = titles.get(term.model, "")
            what = "learned score" if term.scale == "balanced" else "learned probability"
            return f"{what}{f' ({name[0].lower()}{name[1:]})' if name else ''} at least {term.low:.6g}"
        case Not():
            return f"not ({_words(term.term, titles, False)})"
        case And() | Or():
            if not term.terms:
                return "everything" if isinstance(term, And) else "nothing"
            if len(term.terms) == 1:
                return _words(term.terms[0], titles, is_inner)
            text = f" {_word(term)} ".join(_words(one, titles, True) for one in term.terms)
            return f"({text})" if is_inner else text


def _gate_in_words(gate: Gate, titles: Mapping[str, str]) -> str:
    title = _title(gate.column, titles)
    if gate.labels:
        shown = ", ".join(gate.labels[:5]) + (f" and {len(gate.labels) - 5:,} more" if len(gate.labels) > 5 else "")
        return f"{title} is {shown}" if len(gate.labels) == 1 else f"{title} is one of {shown}"
    if gate.low is None and gate.high is None:
        return f"{title} is known"
    if gate.low is not None and gate.high is not None and gate.low > gate.high:
        return f"{title} ≥ {gate.low:.6g} and ≤ {gate.high:.6g}, which nothing is"
    limits = [
        f"{sign} {limit:.6g}" + (f" (percentile {percentile:.6g} where it was set)" if percentile is not None else "")
        for sign, limit, percentile in (("≥", gate.low, gate.low_percentile), ("≤", gate.high, gate.high_percentile))
        if limit is not None
    ]
    return f"{title} {' and '.join(limits)}"


def _title(reference: str, titles: Mapping[str, str]) -> str:
    return titles.get(reference) or reference.partition(".")[2].replace("_", " ")


# ---------------------------------------------------------------------------------------------------------- geometry
def _is_crossing(region: Region) -> bool:
    return region.shape not in OF_CORNERS and crosses_itself(region.vertices)


def crosses_itself(vertices: Sequence[Sequence[float]] | np.ndarray) -> bool:
    """Whether a closed outline meets itself anywhere but where one edge ends and the next begins.

    Parameters
    ----------
    vertices
        (k, 2), finite; the last joins the first. Equal ones in a row count as one.
    """
    points = np.asarray(vertices, np.float64).reshape(-1, 2)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    if len(points) < 3:
        return False
    a, b = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.argsort(low[:, 0], kind="stable")
    # from left to right: each edge against those that begin before it ends
    after = np.arange(1, len(points) + 1)
    n_others = np.searchsorted(low[order, 0], high[order, 0], side="right") - after
    first = 0
    while first < len(points):
        within = int(np.searchsorted(np.cumsum(n_others[first:]), PAIRS_AT_ONCE))
        until = min(first + within + 1, len(points))
        n = n_others[first:until]
        edges = np.repeat(np.arange(first, until), n)
        others = order[np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + edges + 1]
        edges = order[edges]
        beside = (low[others, 1] <= high[edges, 1]) & (high[others, 1] >= low[edges, 1])
        if beside.any() and _meet(points, edges[beside], others[beside]).any():
            return True
        first = until
    return False


def _meet(points: np.ndarray, edges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether pairs of edges, whose boxes meet, meet themselves; neighbors: whether one folds back on the other."""
    k = len(points)
    a, b, c, d = points[edges], points[(edges + 1) % k], points[others], points[(others + 1) % k]
    follows, leads = others == (edges + 1) % k, edges == (others + 1) % k
    sides = [np.sign(_cross(p, q, r)) for p, q, r in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))]
    meets = (sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0)
    # neighbors share a point; on one line, they fold back where the far ends lie on the same side of it
    forth, back = ((b - a) * (d - c)).sum(axis=-1) < 0, (sides[0] == 0) & (sides[1] == 0)
    found: np.ndarray = np.where(follows | leads, forth & back, meets)
    return found


def _cross(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Twice the signed area of the triangles p, q, r."""
    return np.asarray((q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0])
