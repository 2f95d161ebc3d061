"""Boundaries of a survey: whom each keeps, their versions in the ledger, and the one file that another can apply.

A version is never changed: saving makes the next one, and a number is not given twice under one name. All that is
decided is in the ledger, kind ``boundary``, and `Boundaries.undo` takes it back by another entry:

==========  ==========================================================  ============================================
action      payload                                                     means
==========  ==========================================================  ============================================
``save``    name, version, boundary, keep, truth, run_id, map_id,       a version; ``boundary`` is the entry of the
            lambda, lambda_mode, note                                   first one, null in that itself
``rename``  boundary, name, to                                          all its versions have another name
``drop``    boundary, name                                              it is gone; its entries stay
``freeze``  entry (of the save), name, version, truth                   nothing of it moves any more: its numbers on
                                                                        the test half are shown
``reveal``  entry (of the save), name, version, truth                   they were shown against another truth too
==========  ==========================================================  ============================================

Where an undo brings back a name that another boundary has by now, the newer one of the two is called "NAME (2)".
What was seen of the test half stays seen: what was revealed is counted whether or not its entry was undone.

Callable from a script; thread-safe.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import wraps
from itertools import pairwise
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import orjson

from explorer import code_version
from explorer.caches import Cache
from explorer.errors import LedgerError, UsageError, VoorwerpError, no_such_column
from explorer.ledger import Entry, Ledger
from explorer.services.explore import OF_CROWD, Explore, Plane
from explorer.services.filters import reader
from explorer.state import Draft
from models import artifacts, boundary, drift
from models.artifacts import Run
from models.boundary import BoundaryError, Gate, Kept, Learned, Term, evaluate, leaves
from models.classifier import Classifier, ClassifierError
from models.embedding import QUALITY_NEIGHBORS
from models.limits import is_single, nearest
from models.mixing import MODE_TITLES, Mode
from models.truth import Truth, TruthError

KIND = "boundary"
SCHEMA_VERSION = 1
#: Of a file; characters of a name and of a note.
MAX_BYTES = 50_000_000
MAX_NAME, MAX_NOTE = 60, 1_000
#: Points of a distribution that a file carries: its KS distance to another is known to ± 1 / (QUANTILES - 1).
QUANTILES = 1_001
#: Subjects whose distances stand for all of a survey, and the percentile beyond which others are strangers.
REFERENCE, BEYOND = 20_000, 99.9
#: In the name of a column of a study's own table they say that people said it.
WORDS_OF_PEOPLE = {
    "vote",
    "votes",
    "voted",
    "voters",
    "tag",
    "tags",
    "taggers",
    "grade",
    "grades",
    "graders",
    "volunteers",
}
#: Among a map's inputs: sha256 of another survey's coordinates, on whose layout its subjects were placed.
PLACED_ON = "placed_on"
#: Columns that hold what people wrote of a subject; those of votes: `OF_CROWD`.
OF_TALK = ("n_comments", "n_tags", "n_taggers", "tag_group", "tag_group_study")


@dataclass(frozen=True, slots=True)
class Context:
    """Whose scores and which map the references of a boundary mean. Hashable.

    Attributes
    ----------
    run_id
        The run of ``scores.NAME`` and of latent vectors; "" for none.
    map_id
        The map of ``maps.NAME``; "" for none.
    lambda_, mode
        How the anomaly score is mixed.
    """

    run_id: str = ""
    map_id: str = ""
    lambda_: float = 0.2
    mode: Mode = "raw"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lambda_", round(self.lambda_, 4))

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ledger."""
        return {"run_id": self.run_id, "map_id": self.map_id, "lambda": self.lambda_, "lambda_mode": self.mode}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Context:
        """What `to_json` made."""
        return cls(told["run_id"], told["map_id"], told["lambda"], told["lambda_mode"])


class Learning(Protocol):
    """The classifiers of a survey."""

    def get(self, sha256: str) -> Classifier:
        """A classifier, which is on the disk from now on.

        Raises
        ------
        VoorwerpError
            There is none, or it is damaged.
        """

    def look(self, sha256: str) -> Classifier:
        """A classifier, on the disk or not yet. Raises as `get`."""

    def add(self, told: object) -> str:
        """Store a classifier that a boundary's file brought along, as JSON; its sha256."""

    def balanced(self, sha256: str, context: Context) -> np.ndarray:
        """Its balanced scores, float (N,) in row order, NaN without a latent vector."""

    def probability(self, sha256: str, context: Context) -> np.ndarray:
        """Its probabilities, float (N,) in row order, NaN without a latent vector."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One version of a boundary. Immutable.

    Attributes
    ----------
    keep, truth, context
        What it keeps, what it was tuned against (None: nothing), and whose scores and map that means.
    at, who, entry_id
        The entry of the ledger that saved it.
    is_frozen
        Whether its numbers on the test half were shown.
    """

    name: str
    version: int
    keep: Term
    truth: Truth | None
    context: Context
    at: str
    who: str
    entry_id: int
    is_frozen: bool = False
    note: str = ""

    @property
    def draft(self) -> Draft:
        """To go on from it."""
        return Draft(self.keep, self.truth, self.name, self.version)


@dataclass(frozen=True, slots=True)
class BoundaryFile:
    """A boundary as another survey wrote it; see `Boundaries.to_file` for what each entry is.

    Attributes
    ----------
    survey_id, survey
        Id and name of the survey that it was tuned in.
    run, map
        What the scores and the map were made with; {} where it uses none.
    classifiers
        sha256 → classifier: every one that `keep` names.
    thresholds, drift, kept
        The raw limits with the percentile that each meant there; what the scores and latent vectors were like; whom it
        kept.
    from_people
        Gates on what people said (votes, tags, grades): with any, the boundary cannot be applied where nobody looked.
    """

    name: str
    version: int
    note: str
    survey_id: str
    survey: str
    context: Context
    keep: Term
    truth: Truth | None
    run: Mapping[str, Any]
    map: Mapping[str, Any]
    classifiers: Mapping[str, Classifier] = field(repr=False)
    thresholds: Sequence[Mapping[str, Any]]
    from_people: tuple[str, ...]
    drift: Mapping[str, Any] = field(repr=False)
    kept: Mapping[str, Any]
    is_frozen: bool
    code_version: str


# ------------------------------------------------------------------------------------------------------------- source
class SurveySource:
    """A survey in one context, as a boundary reads it (`models.boundary.Source`)."""

    def __init__(self, explore: Explore, context: Context, learning: Learning | None, regions: Cache) -> None:
        self._explore, self._survey, self._context, self._learning = explore, explore.survey, context, learning
        self._regions, self._mixed = regions, Cache(1)

    @property
    def n(self) -> int:
        """How many subjects."""
        return self._survey.n

    def column(self, reference: str) -> np.ndarray:
        """A numeric column, float (N,), NaN where missing.

        Raises
        ------
        UsageError
            There is none of this name, or it is one of categories.
        """
        of = self._context
        if reference.startswith(("scores.", "maps.")):
            _must_have(reference, of)
        if self._is_category(reference):
            raise UsageError(f"{reference} is a column of categories: choose some of them instead of limits")

        def read() -> np.ndarray:
            return self._explore.values(reference, of.run_id, of.lambda_, of.mode, of.map_id)

        return self._mixed.get(of, read) if reference == "scores.anomaly_score" else read()

    def _is_category(self, reference: str) -> bool:
        table, _, name = reference.partition(".")
        if table == "scores" and self._context.run_id:
            return self._survey.score_kinds(self._context.run_id).get(name) == "text"
        return self._explore.is_category(reference)

    def codes(self, reference: str) -> tuple[np.ndarray, list[str]]:
        """A column of categories: int (N,) codes, -1 where missing, and labels; booleans are "false" and "true".

        Raises
        ------
        UsageError
            There is none of this name, or it is one of numbers.
        """
        table, _, name = reference.partition(".")
        if table == "scores":
            _must_have(reference, self._context)
        if not self._is_category(reference):
            names = [c.name for c in self._survey.columns() if c.dtype == "category"]
            if table == "subjects" and name not in {c.name for c in self._survey.columns()}:
                raise no_such_column(name, "the categories", names)
            raise UsageError(f"{reference} is no column of categories: give limits instead of labels")
        if table == "scores":
            codes, labels = reader(self._explore, self._context.run_id)(reference)
            return codes, labels
        codes, labels = self._survey.category(name)
        if name not in ("is_known", "is_withdrawn"):
            return codes, labels
        labels = [*labels, *(label for label in ("false",) if label not in labels)]
        return np.where(codes < 0, labels.index("false"), codes), labels  # no entry is a no

    def inside(self, x: str, y: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who is inside an outline on the plane of two columns, and who has a place there: bool (N,) both."""
        of = self._context
        for axis in (x, y):
            self.column(axis)  # says what is not there in the boundary's own words
        plane = Plane(of.map_id, x, y, of.run_id, of.lambda_, of.mode)
        key = self._survey.generation, plane

        def make_placed() -> np.ndarray:
            placed = np.zeros(self.n, np.bool_)
            placed[self._explore.index(plane).rows] = True
            return placed

        def make_inside() -> np.ndarray:
            return self._explore.index(plane).inside(outline).mask()

        placed = self._regions.get((*key, "placed"), make_placed)
        return self._regions.get((*key, outline.tobytes()), make_inside), placed

    def balanced(self, model: str) -> np.ndarray:
        """A classifier's balanced scores, float (N,), NaN where missing."""
        return self._learned().balanced(model, self._context)

    def probability(self, model: str) -> np.ndarray:
        """A classifier's probabilities, float (N,), NaN where missing."""
        return self._learned().probability(model, self._context)

    def _learned(self) -> Learning:
        if self._learning is None:
            raise UsageError("the boundary has a learned classifier, and here are none; take that term out of it")
        return self._learning


def _must_have(reference: str, context: Context) -> None:
    if reference.startswith("scores.") and not context.run_id:
        raise UsageError(f"{reference} is a score, and no run is chosen; score the subjects first, or choose a run")
    if reference.startswith("maps.") and not context.map_id:
        raise UsageError(f"{reference} is a column of a map, and no map is chosen; make a map first, or choose one")


P = ParamSpec("P")
T = TypeVar("T")


def _alone(decide: Callable[Concatenate[Boundaries, P], T]) -> Callable[Concatenate[Boundaries, P], T]:
    """One decision of this process after the other: what it rests on is as it was read."""

    @wraps(decide)
    def one(self: Boundaries, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._deciding:
            return decide(self, *args, **kwargs)

    return one


# --------------------------------------------------------------------------------------------------------- boundaries
class Boundaries:
    """The boundaries of one survey. One per server.

    Parameters
    ----------
    learning
        The classifiers; None where there are none: a boundary with one says so.
    """

    def __init__(self, explore: Explore, ledger: Ledger, learning: Learning | None = None) -> None:
        self.explore, self.survey, self.ledger, self.learning = explore, explore.survey, ledger, learning
        self._regions, self._kept, self._sorted, self._sources = Cache(48), Cache(12), Cache(6), Cache(4)
        self._deciding, self._reading = threading.RLock(), threading.Lock()
        self._last, self._now = 0, _Book(())

    def titles_of(self, keep: Term) -> dict[str, str]:
        """What a person reads for each classifier of a boundary, by sha256: its kind, and the term where many are."""
        learned = [(k, leaf) for k, (_, leaf) in enumerate(boundary.leaves(keep), 1) if isinstance(leaf, Learned)]
        many = len({leaf.model for _, leaf in learned}) > 1
        found: dict[str, str] = {}
        for k, leaf in learned:
            try:
                made = self._learning().get(leaf.model)
                kind = {"linear": "Linear", "nonlinear": "Non-linear"}[made.kind]
                title = f"{kind}, {made.basis.n_components} components"
            except (VoorwerpError, ClassifierError):  # it is said where the boundary is evaluated
                title = "Learned classifier"
            found.setdefault(leaf.model, f"{title} (term {k})" if many else title)
        return found

    # ------------------------------------------------------------------------------------------------ whom it keeps
    def source(self, context: Context) -> SurveySource:
        """The survey as a boundary reads it."""
        return self._sources.get(context, lambda: SurveySource(self.explore, context, self.learning, self._regions))

    def kept(self, term: Term, context: Context) -> Kept:
        """Whom a boundary keeps: bool (N,) each, in row order, not to be written to.

        Raises
        ------
        VoorwerpError
            A column, run, map or classifier is not there.
        """

        def make() -> Kept:
            kept = evaluate(term, self.source(context))
            kept.yes.flags.writeable = kept.no.flags.writeable = False  # it is everyone's
            return kept

        return self._kept.get((self.survey.generation, term, context), make)

    def value_at(self, reference: str, percentile: float, context: Context) -> float:
        """The raw value of a percentile of a column, 0 … 100, of all finite values; linear between two of them.

        Raises
        ------
        UsageError
            As `kept`; or there is no finite value.
        """
        ordered = self._some_in_order(reference, context)
        place = min(100.0, max(0.0, percentile)) / 100 * (len(ordered) - 1)
        below = int(place)
        low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
        return low + (high - low) * (place - below)

    def percentile_of(self, reference: str, value: float, context: Context) -> float:
        """The percentile, 0 … 100, of a raw value of a column: `value_at` the other way; of equal ones the first."""
        ordered = self._some_in_order(reference, context)
        n = len(ordered)
        value = float(nearest(value, is_single(ordered), True))
        above = int(np.searchsorted(ordered, np.float64(value)))
        if above == 0 or n == 1:
            return 0.0 if above == 0 else 100.0
        if above == n:
            return 100.0
        low, high = float(ordered[above - 1]), float(ordered[above])
        return 100 * (above - 1 + (value - low) / (high - low)) / (n - 1)

    def _in_order(self, reference: str, context: Context) -> np.ndarray:
        def make() -> np.ndarray:
            values = self.source(context).column(reference)
            return np.sort(values[np.isfinite(values)])

        return self._sorted.get((self.survey.generation, reference, context), make)

    def _some_in_order(self, reference: str, context: Context) -> np.ndarray:
        ordered = self._in_order(reference, context)
        if not len(ordered):
            raise UsageError(f"{reference} has no value for any subject, so it has no percentiles")
        return ordered

    # ----------------------------------------------------------------------------------------------------- versions
    def names(self, at: datetime | str | None = None) -> list[str]:
        """Names of the boundaries there are; the one saved last is last."""
        return list(self._book(at).names)

    def versions(self, name: str, at: datetime | str | None = None) -> list[Saved]:
        """All versions of a boundary, the first one first.

        Raises
        ------
        UsageError
            There is none of this name.
        """
        return list(self._book(at).must_have(name))

    def get(self, name: str, version: int | None = None, at: datetime | str | None = None) -> Saved:
        """A version of a boundary, the newest unless told.

        Raises
        ------
        UsageError
            There is none.
        """
        saved = self._book(at).must_have(name)
        if version is None:
            return saved[-1]
        found = next((one for one in saved if one.version == version), None)
        if found is None:
            known = ", ".join(str(one.version) for one in saved)
            raise UsageError(f"the boundary “{name}” has no version {version}; it has {known}")
        return found

    @property
    def last(self) -> int:
        """The last entry: as long as it is the same, nothing was saved, renamed, dropped, frozen or taken back."""
        self._book()
        return self._last

    def _book(self, at: datetime | str | None = None) -> _Book:
        kinds = (KIND, "undo")
        if at is not None:
            return _Book(self.ledger.entries(kinds, at=at, include_undone=True))
        with self._reading:  # a list of fifty boundaries asks fifty times
            if self.ledger.entries(kinds, since=self._last, include_undone=True):
                entries = self.ledger.entries(kinds, include_undone=True)
                self._now, self._last = _Book(entries), entries[-1].id
            return self._now

    @_alone
    def save(
        self,
        name: str,
        draft: Draft,
        context: Context,
        who: str,
        client_id: str | None = None,
        note: str = "",
    ) -> Saved:
        """Keep a draft as the next version under a name. One that is equal to the newest version is that version.

        Raises
        ------
        UsageError
            The name or the boundary cannot be, or a classifier of it is not there.
        LedgerError
            It was not kept.
        """
        name, note = _name_of(name), note.strip()
        if len(note) > MAX_NOTE:
            raise UsageError(f"a note on a boundary has at most {MAX_NOTE:,} characters, this one {len(note):,}")
        try:
            boundary.check(draft.keep)
        except BoundaryError as error:
            raise UsageError(f"the boundary cannot be saved: {error}") from None
        for sha256 in boundary.classifiers(draft.keep):
            if self.learning is None:
                raise UsageError("the boundary has a learned classifier, and here are none; take that term out of it")
            self.learning.get(sha256)
        book = self._book()
        first = book.first(client_id)
        of = None if first is not None else book.boundary(name)
        if of is not None and not note:
            newest = book.versions[of][-1]
            if (newest.keep, newest.truth, newest.context) == (draft.keep, draft.truth, context):
                return newest
        payload = {"action": "save", "name": name, "version": book.next_version(name, of), "boundary": of, "note": note}
        if first is not None:
            payload |= {key: first.payload.get(key) for key in ("version", "boundary")}
        payload |= {"keep": boundary.to_json(draft.keep), "truth": draft.truth and draft.truth.to_json()}
        entry = self._append(payload | context.to_json(), who, client_id, context)
        return self._book().saved_by(entry)

    @_alone
    def rename(self, name: str, to: str, who: str, client_id: str | None = None) -> Entry:
        """Give a boundary another name, which must be free."""
        book, to = self._book(), _name_of(to)
        return self._append(
            {"action": "rename", "name": name, "to": to} | book.which(name, client_id, to), who, client_id
        )

    @_alone
    def duplicate(
        self, name: str, to: str, who: str, client_id: str | None = None, version: int | None = None
    ) -> Saved:
        """Save a version, the newest unless told, as the first of another boundary, whose name must be free."""
        book, to = self._book(), _name_of(to)
        first = book.first(client_id)
        if first is not None and (first.payload["action"], first.payload["name"]) == ("save", to):
            return book.saved_by(first)
        book.which(name, None, to)
        saved = self.get(name, version)
        note = f"copy of “{name}”, version {saved.version}"
        return self.save(to, saved.draft, saved.context, who, client_id, note)

    @_alone
    def drop(self, name: str, who: str, client_id: str | None = None) -> Entry:
        """Remove a boundary with all its versions; its entries stay in the ledger."""
        return self._append({"action": "drop", "name": name} | self._book().which(name, client_id), who, client_id)

    def undo(self, entry_id: int, who: str, client_id: str | None = None) -> Entry:
        """Take back an entry on boundaries by adding one; of an undo, bring back what it took.

        Raises
        ------
        UsageError
            It is no entry on a boundary, or one that cannot be taken back: what was seen of the test half is seen.
        LedgerError
            There is no such entry, or it is undone already.
        """
        entry = target = self.ledger.entry(entry_id)
        while target.undoes is not None:
            target = self.ledger.entry(target.undoes)
        if target.kind != KIND:
            raise UsageError(f"entry {entry.id} of the ledger is no decision on a boundary")
        if target.payload["action"] in ("freeze", "reveal"):
            raise UsageError("the numbers on the test half were seen, and that is not taken back; save another version")
        return self.ledger.undo(entry.id, who=who, client_id=client_id)

    def _append(
        self, payload: Mapping[str, Any], who: str, client_id: str | None, context: Context | None = None
    ) -> Entry:
        of = context or Context()
        seen = {"run_id": of.run_id or None, "map_id": of.map_id or None}
        return self.ledger.append(KIND, payload, who=who, client_id=client_id, **seen)  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------- the test half
    @_alone
    def freeze(self, name: str, version: int, who: str, client_id: str | None = None) -> Saved:
        """Settle on a version: its numbers on the test half may be shown, which counts (`revealed`)."""
        saved = self.get(name, version)
        if not saved.is_frozen:
            self._append(self._seen("freeze", saved, saved.truth), who, client_id, saved.context)
        return replace(saved, is_frozen=True)

    @_alone
    def reveal(self, saved: Saved, truth: Truth, who: str, client_id: str | None = None) -> None:
        """Note that the numbers of a frozen version are shown against a truth; once is enough for each.

        Raises
        ------
        UsageError
            The version is not frozen.
        """
        if not self.get(saved.name, saved.version).is_frozen:
            raise UsageError(f"freeze “{saved.name}”, version {saved.version}, before its test numbers are shown")
        if (saved.entry_id, _key(truth)) not in self._book().revealed:
            self._append(self._seen("reveal", saved, truth), who, client_id, saved.context)

    @staticmethod
    def _seen(action: str, saved: Saved, truth: Truth | None) -> dict[str, Any]:
        told = {"action": action, "entry": saved.entry_id, "name": saved.name, "version": saved.version}
        return told | {"truth": truth and truth.to_json()}

    def revealed(self, truth: Truth | None) -> int:
        """How often the test half was shown for this truth: versions whose numbers against it were seen."""
        return 0 if truth is None else sum(key == _key(truth) for _, key in self._book().revealed)

    # ------------------------------------------------------------------------------------------------------- one file
    def from_people(self, term: Term) -> tuple[str, ...]:
        """The columns of a boundary that hold what people said of the subjects of this survey: votes, tags, grades."""
        said = {*self.survey.columns_of_crowd(), *self.survey.columns_of_grades(), *OF_CROWD, *OF_TALK}
        names = [(c, c.removeprefix("subjects.")) for c in boundary.columns(term) if c.startswith("subjects.")]
        return tuple(
            c
            for c, name in names
            if name.removeprefix("volunteers_") in said
            or name.startswith("fraction_")
            or WORDS_OF_PEOPLE & _words(name)
        )

    def to_file(self, saved: Saved) -> bytes:
        """A version as one JSON file, with all that applying it elsewhere takes. Slow: it measures the survey.

        Returns
        -------
        bytes
            ``voorwerp`` ("boundary"), ``schema``, ``name``, ``version``, ``note``, ``is_frozen``, ``survey_id``,
            ``survey``, ``run`` and ``map`` (`{}` where none is used), ``lambda``, ``lambda_mode``, ``keep``, ``truth``,
            ``in_words``, ``thresholds`` (path, column, limit, value, percentile in the whole survey,
            percentile_set by the person), ``from_people``, ``classifiers`` (by sha256), ``kept`` (of the tune half:
            yes, no, unknown, and the share by inclusion probability, which is worth so many equal weights), ``drift``
            (see `drift_reference`), ``code_version``.

        Raises
        ------
        VoorwerpError
            Something that the boundary names is not there.
        """
        keep, context = saved.keep, saved.context
        shas = boundary.classifiers(keep)
        told: dict[str, Any] = {"voorwerp": "boundary", "schema": SCHEMA_VERSION}
        told |= {"name": saved.name, "version": saved.version, "note": saved.note, "is_frozen": saved.is_frozen}
        told |= {"survey_id": self.survey.info.survey_id, "survey": self.survey.info.name}
        told |= {"run": self._about_run(context), "map": self._about_map(context)} | context.to_json()
        told |= {"keep": boundary.to_json(keep), "truth": saved.truth and saved.truth.to_json()}
        titles = dict(self.explore.colors(context.run_id, context.map_id)) | self.titles_of(keep)
        told["in_words"] = boundary.in_words(keep, titles)
        told |= {"thresholds": self._thresholds(keep, context), "from_people": list(self.from_people(keep))}
        told["classifiers"] = {sha: self._learning().get(sha).to_json() for sha in shas}
        told |= {"kept": self._kept_of(saved), "drift": self.drift_reference(saved), "code_version": code_version()}
        content = orjson.dumps(told, option=orjson.OPT_INDENT_2)
        if len(content) > MAX_BYTES:
            raise UsageError(
                f"the boundary “{saved.name}” is a file of {len(content) / 1e6:.0f} MB, and {MAX_BYTES / 1e6:.0f} MB "
                "are the limit; use a linear classifier, or fewer components"
            )
        return content

    def _learning(self) -> Learning:
        if self.learning is None:
            raise UsageError("the boundary has a learned classifier, and here are none; take that term out of it")
        return self.learning

    def _about_run(self, context: Context) -> dict[str, Any]:
        run = self.explore.runs().get(context.run_id)
        if run is None:
            return {}
        told: dict[str, Any] = {"run_id": run.run_id, "kind": run.kind, "checkpoint_sha256": self.checkpoint(run)}
        told |= {"preprocessing": run.preprocessing, "settings": settings_of(run)}
        return told | {"titles": self.explore.score_titles(run.run_id)}

    def checkpoint(self, run: Run) -> str | None:
        """sha256 of the network that made a run's scores: its own, or its training's; None where it has neither."""
        if run.checkpoint_sha256 or "train" not in run.inputs:
            return run.checkpoint_sha256
        trained = {one.run_id: one.checkpoint_sha256 for one in self.survey.runs("train")}
        return trained.get(run.inputs["train"])

    def _about_map(self, context: Context) -> dict[str, Any]:
        run = self.explore.maps().get(context.map_id)
        if run is None:
            return {}
        path = self.survey.map_folder(run.run_id) / artifacts.COORDINATES
        return {"map_id": run.run_id, "kind": run.kind, "coordinates_sha256": artifacts.sha256_file(path)}

    def _thresholds(self, keep: Term, context: Context) -> list[dict[str, Any]]:
        found = []
        for path, leaf in leaves(keep):
            if isinstance(leaf, Learned):
                found.append({"path": list(path), "classifier": leaf.model, "scale": leaf.scale, "value": leaf.low})
            if not isinstance(leaf, Gate):
                continue
            for limit in ("low", "high"):
                if (value := getattr(leaf, limit)) is not None:
                    has_any = len(self._in_order(leaf.column, context))
                    percentile = self.percentile_of(leaf.column, value, context) if has_any else None
                    told = {"path": list(path), "column": leaf.column, "limit": limit, "value": value}
                    told |= {"percentile": percentile, "percentile_set": getattr(leaf, f"{limit}_percentile")}
                    found.append(told)
        return found

    def _tune(self) -> np.ndarray:
        """bool (N,): the tune half; of a survey without halves everyone; of those who count (`Survey.frame`)."""
        codes, labels = self.survey.category("half")
        frame = self.survey.frame()
        return (codes == labels.index("tune")) & frame if "tune" in labels else frame

    def _kept_of(self, saved: Saved) -> dict[str, Any]:
        kept, tune = self.kept(saved.keep, saved.context), self._tune()
        yes, no = kept.yes & tune, kept.no & tune
        n, n_yes, n_no = int(tune.sum()), int(yes.sum()), int(no.sum())
        told: dict[str, Any] = {"half": "tune", "n": n, "yes": n_yes, "no": n_no, "unknown": n - n_yes - n_no}
        told |= {"share": n_yes / n if n else None, "weighted_share": None, "weighted_n": None}
        chance = self.survey.column("inclusion_probability")
        known = tune & (chance > 0)
        if known.any():
            found = drift.effective(1 / chance[known], yes[known])
            told |= {"weighted_share": found.value, "weighted_n": found.n}
        return told

    def drift_reference(self, saved: Saved) -> dict[str, Any]:
        """What the tuning survey's tune half was like, for a comparison without it.

        Returns
        -------
        dict
            ``columns``: reference (or sha256 of a classifier: balanced scores) → for ``all`` and for ``kept`` the
            number n of finite values and their `QUANTILES` quantiles, evenly spaced from the least to the greatest.
            ``latents``: mean distance of `n` subjects to the k nearest of a random sample of them, at some percentiles,
            and the sample (`models.drift.packed`); None where the run has no vectors. ``note``: what these do not tell.
        """
        context, source, tune = saved.context, self.source(saved.context), self._tune()
        yes = self.kept(saved.keep, context).yes
        references = [f"scores.{name}" for name in self.explore.score_titles(context.run_id)]
        named = [c for c in boundary.columns(saved.keep) if not source._is_category(c)]
        columns = {reference: source.column(reference) for reference in dict.fromkeys([*references, *named])}
        columns |= {sha: source.balanced(sha) for sha in boundary.classifiers(saved.keep)}
        return {
            "half": "tune",
            "columns": {
                name: {"all": _distribution(values[tune]), "kept": _distribution(values[tune & yes])}
                for name, values in columns.items()
            },
            "latents": self._strangeness(context),
            "note": f"KS distances from {QUANTILES:,} quantiles are known to ± {1 / (QUANTILES - 1):g}",
        }

    def _strangeness(self, context: Context) -> dict[str, Any] | None:
        """How far the tune half's subjects are from the nearest of a sample of them in latent space; the sample itself.

        Another survey measures its own by the very sample (`models.drift.distances`), so both mean the same. Who is in
        the sample is measured among the others.
        """
        if not context.run_id or not (self.survey.run_folder(context.run_id) / artifacts.LATENTS).exists():
            return None
        latents, of_rows = self.survey.latents(context.run_id)
        random, mine = np.random.default_rng(0), np.flatnonzero(self._tune()[of_rows])
        looked = np.sort(random.choice(mine, min(len(mine), 2 * REFERENCE), replace=False))
        rows = looked[np.isfinite(latents[looked]).all(1)]
        if len(rows) < 3:
            return None
        chosen = random.choice(rows, min(len(rows), REFERENCE), replace=False)
        told = drift.packed(latents[np.sort(chosen[: drift.SAMPLE])]) | {"size": int(latents.shape[1])}
        sample = drift.unpacked(told)
        k = min(QUALITY_NEIGHBORS, len(sample) - 1)
        others = drift.distances(sample, latents[np.sort(chosen[drift.SAMPLE :])], k)
        distance = np.concatenate([drift.own_distances(sample, k), others])
        shares = (50.0, 90.0, 99.0, BEYOND)
        percentiles = {f"{share:g}": float(np.percentile(distance, share)) for share in shares}
        return {"n": len(distance), "of": len(mine), "k": k, "percentiles": percentiles} | told

    # ------------------------------------------------------------------------------------------------- of another one
    @_alone
    def take_in(
        self, file: BoundaryFile, context: Context, who: str, client_id: str | None = None, name: str = ""
    ) -> Saved:
        """Save a file's boundary as a version here, with its classifiers; `context` says what its references mean here.

        Raises
        ------
        UsageError
            There is a boundary of that name already.
        """
        name = _name_of(name or file.name)
        book = self._book()
        if name in book.names and book.first(client_id) is None:
            raise UsageError(f"there is a boundary “{name}” already; give this one another name")
        for classifier in file.classifiers.values():
            self._learning().add(classifier.to_json())  # before the ledger names it
        note = f"“{file.name}”, version {file.version}, of the survey “{file.survey}”"
        return self.save(name, Draft(file.keep, file.truth), context, who, client_id, note[:MAX_NOTE])

    def lacks(self, file: BoundaryFile, context: Context) -> list[str]:
        """What this survey lacks to apply a file in a context, one sentence each; [] when nothing."""
        problems = []
        run, columns = self.explore.runs().get(context.run_id), boundary.columns(file.keep)
        scores = [c for c in columns if c.startswith("scores.")]
        if (scores or file.classifiers) and run is None:
            problems.append("it uses the scores or latent vectors of a run, and no run is chosen here")
        elif (scores or file.classifiers) and not file.run:
            problems.append("it does not say which run its scores or latent vectors are of; export it anew")
        elif run is not None and file.run:
            theirs, ours = file.run.get("checkpoint_sha256"), self.checkpoint(run)
            if theirs is None and file.survey_id != self.survey.info.survey_id:
                problems.append(
                    "its scores are not a network's but of that survey's own making (a detector fitted there, or "
                    "imported), so they mean nothing elsewhere"
                )
            elif theirs is None and ours is None and run.run_id != file.run.get("run_id"):
                problems.append(
                    f"its scores are those of {_short(file.run.get('run_id'))}, a detector fitted anew in every run; "
                    "choose that run"
                )
            elif theirs != ours:
                problems.append(
                    f"its scores are of another network (checkpoint {_start(theirs)}, here {_start(ours)}); score this "
                    "survey with that one"
                )
            if run.preprocessing != file.run.get("preprocessing"):
                problems.append("its network's images were prepared otherwise than those of this survey")
            ours_set, theirs_set = settings_of(run), file.run.get("settings")
            theirs_set = theirs_set if isinstance(theirs_set, dict) else {}
            unlike = [n for n in ours_set.keys() & theirs_set.keys() if ours_set[n] != theirs_set[n]] if scores else []
            problems += [
                f"its scores were made with {name.replace('_', ' ')} {_short(theirs_set[name])}, those of {run.run_id} "
                f"with {ours_set[name]}; score this survey with that"
                for name in sorted(unlike)
            ]
        if any(c.startswith("maps.") for c in columns):
            here = self._about_map(context)
            if not here:
                problems.append("it uses a map, and no map is chosen here")
            elif not self._is_same_map(file, here):
                problems.append("its regions lie on another map; place these subjects on that one first")
        if file.classifiers and run is not None:
            problems += self._unlike(file, context)
        source = self.source(context)
        for path, leaf in leaves(file.keep):
            of = [leaf.column] if isinstance(leaf, Gate) else [leaf.x, leaf.y] if not isinstance(leaf, Learned) else []
            for reference in of:
                try:
                    labels = source.codes(reference)[1] if isinstance(leaf, Gate) and leaf.labels else None
                    if labels is None:
                        source.column(reference)
                    elif missing := [label for label in leaf.labels if label not in labels]:  # type: ignore[union-attr]
                        problems.append(f"no subject here has {', '.join(missing[:5])} in {reference}")
                except VoorwerpError as error:
                    place = boundary.place_of(file.keep, path)
                    problems.append(f"{place + ': ' if place else ''}{error}")
        return list(dict.fromkeys(problems))

    def _is_same_map(self, file: BoundaryFile, here: Mapping[str, Any]) -> bool:
        """Whether places mean the same on both: equal files, or subjects here that were placed on the file's map."""
        onto_theirs = self.explore.maps()[here["map_id"]].inputs.get(PLACED_ON)
        theirs = file.map.get("coordinates_sha256")
        if theirs is not None and theirs in (here["coordinates_sha256"], onto_theirs):
            return True
        maps, onto = self.explore.maps(), here["map_id"]
        while file.survey_id == self.survey.info.survey_id and onto in maps:
            if onto == file.map.get("map_id"):
                return True
            onto = maps[onto].inputs.get("map", "")
        return False

    def _unlike(self, file: BoundaryFile, context: Context) -> list[str]:
        """Why a file's classifiers do not work on the latent vectors of a run."""
        try:
            size = self.survey.latents(context.run_id)[0].shape[1]
        except VoorwerpError as error:
            return [f"its learned classifier needs latent vectors: {error}"]
        wanted = {len(classifier.basis.mean) for classifier in file.classifiers.values()} - {size}
        return [f"its classifier works on latent vectors of {n} numbers, and this run's have {size}" for n in wanted]


# ------------------------------------------------------------------------------------------------- the log, replayed
class _Book:
    """The boundaries after some entries of the ledger; each is called by the entry that saved its first version.

    Attributes
    ----------
    names
        Name → boundary; the one saved last is last.
    versions
        Boundary → versions, the first one first.
    revealed
        (entry of the save, truth as text) of what was shown of the test half, also where that was undone.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.names: dict[str, int] = {}
        self.versions: dict[int, list[Saved]] = {}
        self.revealed: set[tuple[int, str]] = set()
        self._used: dict[str, int] = {}  # name → the highest number that a version of it ever had
        self._highest: dict[int, int] = {}  # boundary → the same
        self._numbers: dict[int, int] = {}  # entry → version
        self._by_client: dict[str | None, Entry] = {}
        called: dict[int, str] = {}
        gone: set[int] = set()
        frozen: set[int] = set()
        for entry in entries:
            if entry.kind != KIND:
                continue
            self._by_client[entry.client_id] = entry
            told = entry.payload
            match told["action"]:
                case "save":
                    of, version = self._number(entry)
                    if not entry.undone:
                        called.setdefault(of, told["name"])
                        saved = self.versions.pop(of, [])
                        self.versions[of] = [*saved, _saved(entry, told["name"], version)]
                case "rename" if not entry.undone:
                    called[told["boundary"]] = told["to"]
                case "drop" if not entry.undone:
                    gone.add(told["boundary"])
                case "freeze" | "reveal":
                    if told["action"] == "freeze":
                        frozen.add(told["entry"])
                    if told["truth"] is not None:
                        self.revealed.add((told["entry"], _key(told["truth"])))
        self.versions = {of: saved for of, saved in self.versions.items() if of not in gone}
        taken: dict[str, int] = {}
        for of in sorted(self.versions):
            name, k = called[of], 1
            while name in taken:  # an undo brought it back
                name, k = f"{called[of]} ({k + 1})", k + 1
            taken[name] = of
            self.versions[of] = [replace(one, name=name, is_frozen=one.entry_id in frozen) for one in self.versions[of]]
        names = {of: name for name, of in taken.items()}
        self.names = {names[of]: of for of in self.versions}

    def _number(self, entry: Entry) -> tuple[int, int]:
        """The boundary that an entry saved, and the version: where two were saved at once, the later is the next."""
        told, name = entry.payload, entry.payload["name"]
        of = entry.id if told["boundary"] is None else int(told["boundary"])
        version = max(int(told["version"]), self._highest.get(of, 0) + 1)
        self._used[name] = max(self._used.get(name, 0), version)
        self._highest[of] = self._numbers[entry.id] = version
        return of, version

    def must_have(self, name: str) -> list[Saved]:
        """The versions under a name."""
        if name not in self.names:
            known = ", ".join(f"“{n}”" for n in self.names) or "none"
            raise UsageError(f"there is no boundary “{name}”; there are: {known}")
        return self.versions[self.names[name]]

    def boundary(self, name: str) -> int | None:
        """The boundary of a name; None where there is none."""
        return self.names.get(name)

    def which(self, name: str, client_id: str | None, to: str = "") -> dict[str, Any]:
        """For the payload of a decision: the boundary of a name. A new name for it must be free.

        Of a decision that is sent again, because its answer was lost, what it was.
        """
        first = self.first(client_id)
        if first is not None:
            return {"boundary": first.payload.get("boundary")}
        self.must_have(name)
        if to in self.names:
            raise UsageError(f"there is a boundary “{to}” already; drop it first or choose another name")
        return {"boundary": self.names[name]}

    def first(self, client_id: str | None) -> Entry | None:
        """The entry of a decision that is sent again; None where it is new."""
        return self._by_client.get(client_id)

    def next_version(self, name: str, of: int | None) -> int:
        """The number of the next version."""
        return max(self._used.get(name, 0), self._highest.get(of or 0, 0)) + 1

    def saved_by(self, entry: Entry) -> Saved:
        """The version that an entry saved, under the name it had then."""
        return _saved(entry, entry.payload["name"], self._numbers.get(entry.id, entry.payload["version"]))


def _saved(entry: Entry, name: str, version: int) -> Saved:
    told = entry.payload
    try:
        keep = boundary.from_json(told["keep"])
        truth = None if told["truth"] is None else Truth.from_json(told["truth"])
    except (BoundaryError, TruthError) as error:
        raise LedgerError(f"entry {entry.id} of the ledger cannot be read as a boundary: {error}") from None
    context, note = Context.from_json(told), told.get("note", "")
    return Saved(name, version, keep, truth, context, entry.at, entry.who, entry.id, note=note)


def _key(truth: Truth | Mapping[str, Any]) -> str:
    told = truth.to_json() if isinstance(truth, Truth) else truth
    return json.dumps(told, sort_keys=True)


def _name_of(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"a boundary has a name of 1 to {MAX_NAME} characters that can be seen")
    return name


def _distribution(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    shares = np.linspace(0, 1, QUANTILES)
    return {"n": len(finite), "quantiles": np.quantile(finite, shares).astype(float).tolist() if len(finite) else []}


def _words(name: str) -> set[str]:
    return set(name.lower().replace("-", "_").split("_"))


def settings_of(run: Run) -> dict[str, Any]:
    """What of a run's settings its image and feature scores depend on, as it took them."""
    names = ("latent_axes", "center", "feature_stage")
    return {name: run.results[name] for name in names if name in run.results}


def _start(sha256: object) -> str:
    return str(sha256)[:8] if sha256 else "none"


# ---------------------------------------------------------------------------------------------------- reading a file
#: What a file has, and of which type each is.
ENTRIES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("voorwerp", "name", "note", "survey_id", "survey", "run_id", "map_id", "lambda_mode"), (str,)),
    **dict.fromkeys(("in_words", "code_version"), (str,)),
    **dict.fromkeys(("schema", "version"), (int,)),
    **dict.fromkeys(("run", "map", "keep", "classifiers", "kept", "drift"), (dict,)),
    **dict.fromkeys(("thresholds", "from_people"), (list,)),
    "lambda": (int, float),
    "is_frozen": (bool,),
    "truth": (dict, type(None)),
}
_CALLED = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    bool: "yes or no",
}


def from_file(content: bytes) -> BoundaryFile:
    """What `Boundaries.to_file` wrote, in this survey or another. Whether it can be applied: `Boundaries.lacks`.

    Raises
    ------
    UsageError
        It is something else, damaged or too large: what is wrong, and where.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"the file has {len(content) / 1e6:,.0f} MB, and a boundary at most {MAX_BYTES / 1e6:.0f} MB; it is another"
        )
    try:
        told = orjson.loads(content)
    except ValueError as error:
        raise UsageError(f"the file is no JSON, so it is no boundary ({error})") from None
    if not isinstance(told, dict) or told.get("voorwerp") != "boundary":
        raise UsageError("the file is JSON, but no boundary that Voorwerp wrote; export one to a file, and give that")
    if told.get("schema") != SCHEMA_VERSION:
        raise UsageError(
            f"the boundary has schema version {_short(told.get('schema'))}; this Voorwerp reads version "
            f"{SCHEMA_VERSION}"
        )
    for name, types in ENTRIES.items():
        if name not in told:
            raise UsageError(f"{name}: it is missing in the boundary's file")
        value = told[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"{name}: it is {_CALLED[types[0]]} in a boundary's file, not {_short(value)}")
    if strange := sorted(told.keys() - ENTRIES.keys()):
        raise UsageError(f"{_short(strange[0])} is no entry of a boundary's file; it has {', '.join(ENTRIES)}")
    try:
        name = _name_of(told["name"])
    except UsageError as error:
        raise UsageError(f"name: {error}") from None
    if told["version"] < 1:
        raise UsageError(f"version: it is 1 or more, not {told['version']}")
    if not 0 <= told["lambda"] <= 1:
        raise UsageError(f"lambda: it is 0 to 1, not {told['lambda']:g}")
    if told["lambda_mode"] not in MODE_TITLES:
        raise UsageError(f"lambda_mode: it is one of {', '.join(MODE_TITLES)}, not {_short(told['lambda_mode'])}")
    try:
        keep = boundary.from_json(told["keep"])
    except BoundaryError as error:
        raise UsageError(f"keep{'.' if error.place else ': '}{error}") from None
    try:
        truth = None if told["truth"] is None else Truth.from_json(told["truth"])
    except TruthError as error:
        raise UsageError(f"truth: {error}") from None
    for place in ("thresholds", "from_people"):
        kind = dict if place == "thresholds" else str
        for k, value in enumerate(told[place]):
            if not isinstance(value, kind):
                raise UsageError(f"{place}[{k}]: it is {_CALLED[kind]}, not {_short(value)}")
    return BoundaryFile(
        name=name,
        version=told["version"],
        note=told["note"],
        survey_id=told["survey_id"],
        survey=told["survey"],
        context=Context.from_json(told),
        keep=keep,
        truth=truth,
        run=told["run"],
        map=told["map"],
        classifiers=_classifiers(told["classifiers"], boundary.classifiers(keep)),
        thresholds=told["thresholds"],
        from_people=tuple(told["from_people"]),
        drift=_drift(told["drift"]),
        kept=told["kept"],
        is_frozen=told["is_frozen"],
        code_version=told["code_version"],
    )


def _classifiers(told: Mapping[str, Any], needed: Sequence[str]) -> dict[str, Classifier]:
    """The classifiers of a file, each under the hash of its content, and none too many or too few."""
    found = {}
    for sha256, one in told.items():
        place = f"classifiers.{_start(sha256)}"
        try:
            found[sha256] = Classifier.from_json(one)
        except ClassifierError as error:
            raise UsageError(f"{place}: {error}") from None
        if found[sha256].sha256 != sha256:
            raise UsageError(f"{place}: its content is not what its sha256 says; the file was changed or is damaged")
    for sha256 in needed:
        if sha256 not in found:
            raise UsageError(f"classifiers: the boundary uses {_start(sha256)}…, and the file does not have it")
    if more := sorted(found.keys() - set(needed)):
        raise UsageError(f"classifiers: the boundary does not use {_start(more[0])}…")
    return found


def _drift(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """A drift reference, checked as far as a comparison relies on it."""
    columns, latents = told.get("columns"), told.get("latents")
    if not isinstance(columns, dict):
        raise UsageError(f"drift.columns: it is an object, not {_short(columns)}")
    for name, both in columns.items():
        for part in ("all", "kept"):
            place = f"drift.columns.{name[:60]}.{part}"
            one = both.get(part) if isinstance(both, dict) else None
            values = one.get("quantiles") if isinstance(one, dict) else None
            if one is None or not isinstance(values, list) or not _is_count(one.get("n")):
                raise UsageError(f"{place}: it has a number n and a list of quantiles, not {_short(one)}")
            if len(values) != (QUANTILES if one["n"] else 0) or not all(map(_is_number, values)):
                raise UsageError(f"{place}.quantiles: they are {QUANTILES:,} finite numbers; found {len(values):,}")
            if any(b < a for a, b in pairwise(values)):
                raise UsageError(f"{place}.quantiles: they are not in order")
    if latents is not None:
        shares = latents.get("percentiles") if isinstance(latents, dict) else None
        if not isinstance(shares, dict) or not all(map(_is_number, shares.values())) or f"{BEYOND:g}" not in shares:
            raise UsageError(f"drift.latents: it has percentiles with {BEYOND:g} among them, not {_short(latents)}")
        if not all(_is_count(latents.get(name)) for name in ("n", "k", "size")):
            raise UsageError(f"drift.latents: it has numbers n, k and size, not {_short(latents)}")
        try:
            sample = drift.unpacked(latents)
        except drift.DriftError as error:
            raise UsageError(f"drift.latents: {error}") from None
        if not 1 <= latents["k"] < len(sample):
            raise UsageError(f"drift.latents.k: {latents['k']} neighbors are to be among {len(sample):,} vectors")
    return told


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
