"""What people say of subjects and of maps: own tags, notes, named places; and what became of a subject so far.

All of it is in the ledger, where nothing is ever changed: a tag is taken away, and a note or a place deleted, by
undoing the entry that made it; what a note or a name was before its last change is still to be read, and any date can
be replayed (`at`). Every call that decides returns its entry, which is what `Notes.undo` takes.

=========  =======================================  ==========================================================
kind       payload                                  means
=========  =======================================  ==========================================================
``tag``    tag                                      the subject has this tag
``note``   text                                     a note on the subject
``note``   text, note (the entry of the first)      the note reads so from now on
``place``  name, map_id, run_id, x, y, lambda,      a region of a plane has a name
           lambda_mode, vertices, label, campaign
``place``  name, place (the entry that made it)     it is called so from now on
=========  =======================================  ==========================================================
"""

from __future__ import annotations

import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from explorer.caches import Cache
from explorer.errors import UsageError, VoorwerpError, no_such_column
from explorer.ledger import SELECTIONS, Entry, Ledger, saved_names
from explorer.raster import Overlay, overlay, overlays
from explorer.services import talk
from explorer.services.explore import SCORES, Explore, Plane
from explorer.state import Selection
from models import artifacts
from models.artifacts import Run
from models.mixing import mixed_with

#: Characters.
MAX_TAG, MAX_NOTE, MAX_NAME = 40, 4_000, 40
#: Of a named place's outline.
MAX_VERTICES = 500
#: Characters of a note that its line in the history has.
SHOWN = 120
#: Anomaly scores that are kept in memory for the history, of all runs.
KEPT_SCORES = 64_000_000

KINDS = ("tag", "note", "place", "selection", "undo")
#: Kinds of what experts say of a subject.
GRADED = ("vote", "outcome")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that a subject has. `id` is the entry that gave it."""

    tag: str
    id: int
    who: str
    at: str


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it reads now. `id` is its first entry; `who` and `at` are those of the text."""

    id: int
    text: str
    who: str
    at: str
    is_edited: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A region of a plane that a person named.

    Attributes
    ----------
    id
        The entry that made it.
    vertices, label
        Its outline and where its name stands, in the plane's own units.
    campaign
        Id of the campaign of experts that graded what is in it; empty for none.
    """

    id: int
    name: str
    map_id: str
    run_id: str
    x: str
    y: str
    vertices: tuple[tuple[float, float], ...]
    label: tuple[float, float]
    who: str
    at: str
    campaign: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept selection. `id` is the entry that saved it; undoing this brings back what had the name before."""

    name: str
    n: int
    id: int
    who: str
    at: str


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a subject's history.

    Attributes
    ----------
    kind
        An entry's kind; "score" for a finished run.
    what
        In words.
    who
        Empty for a run.
    is_undone
        Whether it was taken back later.
    standing
        Of a score: run_id, value, below, of, lambda, lambda_mode: k = below of n = of scored subjects have a lower
        score; λ is None where the run mixes nothing.
    """

    at: str
    who: str
    kind: str
    what: str
    entry: int | None = None
    is_undone: bool = False
    standing: Mapping[str, Any] = field(default_factory=dict)


class Notes:
    """Tags, notes and places of one survey. One per server; thread-safe."""

    def __init__(self, ledger: Ledger, explore: Explore) -> None:
        self.ledger, self.explore, self.survey = ledger, explore, explore.survey
        self._book = _Book()
        self._reading = threading.Lock()
        self._tagging = threading.Lock()
        self._scores = Cache(max(8, KEPT_SCORES // max(1, self.survey.n)))

    def _now(self, at: datetime | str | None = None) -> _Book:
        """What stands in the ledger now, from where it was read last; as of `at`, from its beginning."""
        if at is not None:
            book = _Book()
            book.read(self.ledger, at)
            return book
        with self._reading:
            self._book.read(self.ledger)
            return self._book

    @property
    def last(self) -> int:
        """The last entry: as long as it is the same, nothing has changed."""
        return self._now().last

    def _row(self, subject_id: int) -> int:
        row = int(self.survey.rows_of([subject_id])[0])
        if row < 0:
            raise UsageError(f"there is no subject {subject_id} in this survey")
        return row

    def undo(self, entry_id: int, *, who: str, client_id: str | None = None) -> Entry:
        """Take a decision back; undoing an undo brings it back."""
        return self.ledger.undo(entry_id, who=who, client_id=client_id)

    # ------------------------------------------------------------------------------------------------------- tags
    def add_tag(
        self, subject_id: int, tag: str, *, who: str, client_id: str | None = None, **seen: str | None
    ) -> Entry:
        """Give a subject a tag, and return its entry; where it has the tag already, the entry that gave it.

        Parameters
        ----------
        tag
            A lower-case word or phrase of at most 40 characters; see `tag_of`.
        seen
            run_id, map_id: what the person was looking at.

        Raises
        ------
        UsageError
            No such subject, or no tag can be made of the text.
        LedgerError
            It was not kept.
        """
        self._row(subject_id)
        tag = tag_of(tag)
        with self._tagging:  # two at once do not give the same tag twice
            for entry in self._tag_entries(subject_id):
                if entry.payload["tag"] == tag:
                    return entry
            payload = {"tag": tag}
            return self.ledger.append("tag", payload, who=who, client_id=client_id, subject_id=subject_id, **seen)

    def remove_tag(self, subject_id: int, tag: str, *, who: str, client_id: str | None = None) -> Entry:
        """Take a tag away: the entry that gave it is undone.

        Raises
        ------
        UsageError
            The subject does not have it.
        """
        given = [e for e in self._tag_entries(subject_id, include_undone=True) if e.payload["tag"] == tag]
        if not given:
            raise UsageError(f'subject {subject_id} has no tag "{tag}"')
        *others, last = [e for e in given if not e.undone] or given[-1:]
        for entry in others:  # given by two servers at once
            self.ledger.undo(entry.id, who=who)
        return self.ledger.undo(last.id, who=who, client_id=client_id)

    def tags(self, subject_id: int, at: datetime | str | None = None) -> list[Tag]:
        """The tags that a subject has, in the order they were given."""
        found: dict[str, Tag] = {}
        for e in self._tag_entries(subject_id, at):
            found.setdefault(e.payload["tag"], Tag(e.payload["tag"], e.id, e.who, e.at))
        return list(found.values())

    def _tag_entries(
        self, subject_id: int, at: datetime | str | None = None, include_undone: bool = False
    ) -> list[Entry]:
        return self.ledger.entries("tag", at=at, include_undone=include_undone, subject_id=subject_id)

    def counts(self, at: datetime | str | None = None) -> dict[str, int]:
        """How many subjects have each tag, the most common first."""
        book = self._now(at)
        with self._reading:
            counts = {tag: len(subjects) for tag, subjects in book.tagged.items()}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def tagged(self, tag: str, at: datetime | str | None = None) -> np.ndarray:
        """Ids of the subjects that have a tag: int64, in the survey's row order; none for a tag that nobody gave."""
        book = self._now(at)
        with self._reading:
            subjects = np.fromiter(book.tagged.get(tag, ()), np.int64)
        rows = self.survey.rows_of(subjects)
        ids: np.ndarray = self.survey.subject_ids[np.sort(rows[rows >= 0])]
        return ids

    def selection(self, tag: str) -> Selection:
        """The subjects that have a tag."""
        return Selection.of_rows(self.survey.rows_of(self.tagged(tag)), self.survey.n)

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """For a table of `rows`: ``tags``, sorted and joined by "; ", None without; ``n_notes``, int32."""
        book = self._now()
        with self._reading:
            by_subject: dict[int, list[str]] = defaultdict(list)
            for tag in sorted(book.tagged):
                for subject_id in book.tagged[tag]:
                    by_subject[subject_id].append(tag)
            n_notes = {subject_id: len(notes) for subject_id, notes in book.noted.items()}
        place = np.full(self.survey.n + 1, -1)  # the last is of those that are not in the survey
        place[rows] = np.arange(len(rows))
        tags, counts = np.full(len(rows), None, object), np.zeros(len(rows), np.int32)
        for column, found in ((tags, {i: "; ".join(told) for i, told in by_subject.items()}), (counts, n_notes)):
            at = place[self.survey.rows_of(list(found))]
            column[at[at >= 0]] = np.array(list(found.values()), column.dtype)[at >= 0]
        return {"tags": tags, "n_notes": counts}

    # ------------------------------------------------------------------------------------------------------ notes
    def add_note(
        self, subject_id: int, text: str, *, who: str, client_id: str | None = None, **seen: str | None
    ) -> Entry:
        """Keep a note on a subject: plain text of at most 4,000 characters.

        Raises
        ------
        UsageError
            No such subject, an empty text, or one that is too long.
        LedgerError
            It was not kept.
        """
        self._row(subject_id)
        payload = {"text": _text_of(text)}
        return self.ledger.append("note", payload, who=who, client_id=client_id, subject_id=subject_id, **seen)

    def edit_note(
        self, note_id: int, text: str, *, who: str, client_id: str | None = None, **seen: str | None
    ) -> Entry:
        """Let a note read otherwise; undoing this brings back the text before."""
        first = self._first("note", note_id)
        if first.undone:
            raise UsageError("this note was deleted meanwhile; bring it back first, or write a new one")
        payload = {"text": _text_of(text), "note": note_id}
        return self.ledger.append("note", payload, who=who, client_id=client_id, subject_id=first.subject_id, **seen)

    def delete_note(self, note_id: int, *, who: str, client_id: str | None = None) -> Entry:
        """Delete a note with all its edits: its first entry is undone."""
        self._first("note", note_id)
        return self.ledger.undo(note_id, who=who, client_id=client_id)

    def notes(self, subject_id: int, at: datetime | str | None = None) -> list[Note]:
        """The notes on a subject, in the order they were begun."""
        found: dict[int, Note] = {}
        for e in self.ledger.entries("note", at=at, subject_id=subject_id):
            first = e.payload.get("note", e.id)
            if first == e.id or first in found:  # the edits of a deleted note are not shown
                found[first] = Note(first, e.payload["text"], e.who, e.at, first != e.id)
        return list(found.values())

    def _first(self, kind: str, entry_id: int) -> Entry:
        """The entry that made a note or a place."""
        entry = self.ledger.entry(entry_id)
        if entry.kind != kind or kind in entry.payload:
            raise UsageError(f"entry {entry_id} of the ledger is no {kind}")
        return entry

    # ----------------------------------------------------------------------------------------------------- places
    def add_place(
        self,
        name: str,
        plane: Plane,
        vertices: Sequence[Sequence[float]] | np.ndarray,
        label: Sequence[float],
        *,
        who: str,
        client_id: str | None = None,
        campaign: str = "",
    ) -> Entry:
        """Give a region of a plane a name.

        Parameters
        ----------
        name
            At most 40 characters.
        plane
            A flat one: what is seen in a 3-D view has no outline.
        vertices
            (n, 2), 3 ≤ n ≤ 500, in the plane's units: the outline, closed by itself.
        label
            x, y where the name stands.
        campaign
            Id of the campaign that grades what is in it: what it found stands beside the name.

        Raises
        ------
        UsageError
            One of these is not so.
        LedgerError
            It was not kept.
        """
        if plane.turn is not None:
            raise UsageError("a place is named on a flat map; leave the 3-D view first")
        outline, point = _points(vertices), _points([label])
        if not 3 <= len(outline) <= MAX_VERTICES:
            raise UsageError(f"a place has an outline of 3 to {MAX_VERTICES} points, not {len(outline):,}")
        payload: dict[str, Any] = {"name": _name_of(name), "vertices": outline, "label": point[0]}
        payload |= {"run_id": plane.run_id, "lambda": plane.lambda_}
        payload |= {"map_id": plane.map_id, "x": plane.x, "y": plane.y, "lambda_mode": plane.mode}
        payload |= {"campaign": campaign} if campaign else {}
        run_id, map_id = plane.run_id or None, plane.map_id or None
        return self.ledger.append("place", payload, who=who, client_id=client_id, run_id=run_id, map_id=map_id)

    def rename_place(self, place_id: int, name: str, *, who: str, client_id: str | None = None) -> Entry:
        """Give a place another name; undoing this brings back the one before."""
        self._first("place", place_id)
        return self.ledger.append("place", {"place": place_id, "name": _name_of(name)}, who=who, client_id=client_id)

    def remove_place(self, place_id: int, *, who: str, client_id: str | None = None) -> Entry:
        """Take a place away: the entry that made it is undone."""
        self._first("place", place_id)
        return self.ledger.undo(place_id, who=who, client_id=client_id)

    def places(self, plane: Plane, at: datetime | str | None = None) -> list[Place]:
        """The places of a plane, in the order they were named; none in a 3-D view.

        Where an axis is a mixed score, those that were named at the same λ.
        """
        if plane.turn is not None:
            return []
        book, found, mixes = self._now(at), {}, self.explore.mixes(plane.run_id)
        with self._reading:
            for e in book.standing("place"):
                told = e.payload
                if "place" not in told:
                    plane_of = told["map_id"], told["run_id"], told["x"], told["y"]
                    # places from before λ was kept are shown at any
                    mixed = told.get("lambda", plane.lambda_), told.get("lambda_mode", plane.mode)
                    is_mixed_so = not mixes or mixed == (plane.lambda_, plane.mode)
                    if plane_of == (plane.map_id, plane.run_id, plane.x, plane.y) and is_mixed_so:
                        outline = tuple((x, y) for x, y in told["vertices"])
                        of = told.get("campaign", "")
                        found[e.id] = Place(e.id, told["name"], *plane_of, outline, (*told["label"],), e.who, e.at, of)
                elif told["place"] in found:
                    found[told["place"]] = replace(found[told["place"]], name=told["name"])
        return list(found.values())

    def overlays(self, reference: str) -> list[Overlay]:
        """What is drawn as markers: the rarest categories of a column, a kept selection, or groups of Talk's tags.

        Parameters
        ----------
        reference
            ``subjects.NAME``, ``selection:NAME``, ``talk:GROUP``, or ``talk:`` for the commonest groups.

        Raises
        ------
        VoorwerpError
            No such column of categories, selection or group.
        """
        if reference.startswith(talk.PREFIX):
            return self.explore.talk.overlays(reference)
        if self.explore.is_category(reference):
            return overlays(*self.survey.category(reference.partition(".")[2]))
        kept, _, name = reference.partition(":")
        if kept != "selection":
            raise no_such_column(reference, "the categories", [c.name for c in self.survey.columns()])
        rows = self.survey.rows_of(self.ledger.selection(name, self.survey.subject_ids).subject_ids)
        return [overlay(name, rows[rows >= 0])]

    # ------------------------------------------------------------------------------------------------- selections
    def kept(self, at: datetime | str | None = None) -> list[Kept]:
        """The kept selections, in the order they were saved: how many, by whom, when."""
        book = self._now(at)
        with self._reading:
            saved = saved_names(book.standing("selection"))
        return [Kept(name, e.payload["n"], e.id, e.who, e.at) for name, e in saved.items()]

    def kept_with(self, subject_id: int, at: datetime | str | None = None) -> list[Kept]:
        """The kept selections that a subject is in."""
        row, book = self._row(subject_id), self._now(at)
        with self._reading:
            saved = saved_names(book.standing("selection"))
            members = {name: book.members[entry.id] for name, entry in saved.items()}
        return [kept for kept in self.kept(at) if self._is_in(subject_id, row, members.get(kept.name, ""))]

    def _is_in(self, subject_id: int, row: int, members: np.ndarray | str) -> bool:
        if isinstance(members, np.ndarray):
            at = int(np.searchsorted(members, subject_id))
            return at < len(members) and int(members[at]) == subject_id
        try:
            with (self.survey.path / SELECTIONS / members).open("rb") as handle:
                handle.seek(row >> 3)
                byte = handle.read(1)
        except OSError:  # `voorwerp check` names it
            return False
        return bool(byte and byte[0] >> (row & 7) & 1)

    # ---------------------------------------------------------------------------------------------------- history
    def history(self, subject_id: int, at: datetime | str | None = None) -> list[Event]:
        """Everything decided on a subject, the kept selections it is in, and its scores, in the order of time.

        What was taken back is there, marked, and so is who took it back. What experts graded is `Vetting.history`: it
        may be blind.

        Raises
        ------
        UsageError
            No such subject.
        """
        row = self._row(subject_id)
        entries = self.ledger.entries(at=at, include_undone=True, subject_id=subject_id)
        targets = {e.id: e for e in entries}
        ours = [e for e in entries if _taken_back(e, targets).kind not in GRADED]
        events = [Event(e.at, e.who, e.kind, _said(e, targets), e.id, e.undone) for e in ours]
        events += [
            Event(kept.at, kept.who, "selection", f"in the kept selection “{kept.name}”", kept.id)
            for kept in self.kept_with(subject_id, at)
        ]
        until = None if at is None else _moment(at)
        for run in self.explore.runs().values():
            if until is None or _moment(run.created_at) <= until:
                standing = self._standing(run, row)
                if standing is not None:
                    title = self.explore.score_titles(run.run_id).get("anomaly_score", SCORES["anomaly_score"])
                    events.append(Event(run.created_at, "", "score", title, standing=standing))
        return sorted(events, key=lambda event: _moment(event.at))

    def _standing(self, run: Run, row: int) -> dict[str, Any] | None:
        """The anomaly score that a run gave a subject, at the run's own λ; None where it gave none."""

        def make() -> np.ndarray:
            path = self.survey.run_folder(run.run_id) / artifacts.SCORES
            table = pq.read_table(path, columns=["subject_id", "anomaly_score"])
            rows, values = self.survey.rows_of(table.column(0).to_numpy()), np.full(self.survey.n, np.nan, np.float32)
            values[rows[rows >= 0]] = table.column(1).to_numpy()[rows >= 0]
            return values

        try:
            values = self._scores.get(run.run_id, make)
        except (VoorwerpError, OSError, KeyError, ValueError):  # a damaged run: its own screen says how
            return None
        value = values[row]
        if not np.isfinite(value):
            return None
        mixes = self.explore.mixes(run.run_id)
        weight, mode = mixed_with(run.config)
        return {
            "run_id": run.run_id,
            "value": float(value),
            "below": int(np.count_nonzero(values < value)),
            "of": int(np.count_nonzero(np.isfinite(values))),
            "lambda": weight if mixes else None,
            "lambda_mode": mode if mixes else None,
        }


class _Book:
    """What stands in the ledger after an entry, kept by applying each that comes after it."""

    def __init__(self) -> None:
        self.last = 0
        self.tagged: dict[str, dict[int, set[int]]] = {}  # tag → subject → entries that give it
        self.noted: dict[int, set[int]] = {}  # subject → notes
        self.members: dict[int, np.ndarray | str] = {}  # kept selection → sorted ids, or the name of its bitmap
        self._places: dict[str, dict[int, Entry]] = {"place": {}, "selection": {}}
        self._of: dict[int, tuple[str, str, int]] = {}  # a tag's or note's entry → kind, tag, subject
        self._takers: Counter[int] = Counter()  # entry → how many standing entries take it back
        self._target: dict[int, int] = {}  # undo → what it takes back

    def read(self, ledger: Ledger, at: datetime | str | None = None) -> None:
        """Apply what was added since the last call."""
        for entry in ledger.entries(KINDS, since=self.last, at=at, include_undone=True):
            self._apply(entry)
            self.last = entry.id

    def standing(self, kind: str) -> list[Entry]:
        """The places or selections that are not undone, as they were made."""
        return [e for e in self._places[kind].values() if not self._takers[e.id]]

    def _apply(self, entry: Entry) -> None:
        told = entry.payload
        if entry.undoes is not None:
            self._target[entry.id] = entry.undoes
            self._take_back(entry.undoes)
        elif entry.kind in self._places:
            if "subject_ids" in told:  # as numbers they are a tenth of the text
                self.members[entry.id] = np.sort(np.array([int(i) for i in told["subject_ids"]], np.int64))
                entry = replace(entry, payload={k: v for k, v in told.items() if k != "subject_ids"})
            elif "bitmap" in told:
                self.members[entry.id] = told["bitmap"]
            self._places[entry.kind][entry.id] = entry
        elif entry.subject_id is not None and (entry.kind == "tag" or "note" not in told):
            self._of[entry.id] = entry.kind, told.get("tag", ""), entry.subject_id
            self._set(entry.id, True)

    def _take_back(self, at: int) -> None:
        """One more entry takes `at` back; where that is itself an undo, what it took back stands again, and so on."""
        change = 1
        while True:
            was_undone = bool(self._takers[at])
            self._takers[at] += change
            is_undone = bool(self._takers[at])
            if is_undone == was_undone:
                return
            if at not in self._target:
                self._set(at, not is_undone)
                return
            change = -1 if is_undone else 1
            at = self._target[at]

    def _set(self, entry_id: int, stands: bool) -> None:
        if entry_id not in self._of:
            return
        kind, tag, subject_id = self._of[entry_id]
        group = self.noted if kind == "note" else self.tagged.setdefault(tag, {})
        if stands:
            group.setdefault(subject_id, set()).add(entry_id)
        else:
            group[subject_id].discard(entry_id)
            if not group[subject_id]:
                del group[subject_id]
        if kind == "tag" and not group:
            del self.tagged[tag]


# ------------------------------------------------------------------------------------------------------------ texts
def tag_of(text: str) -> str:
    """A text as a tag: lower case, single blanks, without a leading "#".

    Raises
    ------
    UsageError
        Nothing is left, it is longer than 40 characters, or it has a comma, a semicolon or what cannot be printed.
    """
    tag = " ".join(unicodedata.normalize("NFC", text).lower().split()).lstrip("#").strip()
    if not tag:
        raise UsageError("a tag is a word or a short phrase; this one is empty")
    if len(tag) > MAX_TAG:
        raise UsageError(f"a tag has at most {MAX_TAG} characters, this one {len(tag):,}; a note can be longer")
    if not tag.isprintable() or set(tag) & set(",;"):
        raise UsageError("a tag has no comma, no semicolon and nothing that cannot be seen; give two tags instead")
    return tag


def _text_of(text: str) -> str:
    text = text.encode(errors="replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc").strip()
    if not text:
        raise UsageError("the note is empty")
    if len(text) > MAX_NOTE:
        raise UsageError(f"a note has at most {MAX_NOTE:,} characters, this one {len(text):,}; make it two")
    return text


def _name_of(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"a place has a name of 1 to {MAX_NAME} characters that can be seen")
    return name


def _points(points: Sequence[Sequence[float]] | np.ndarray) -> list[list[float]]:
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise UsageError("the points of a place are pairs of numbers") from None
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise UsageError("the points of a place are pairs of finite numbers")
    listed: list[list[float]] = array.tolist()
    return listed


def _taken_back(entry: Entry, known: Mapping[int, Entry]) -> Entry:
    """What an undo is of, or an undo of an undo; any other entry itself."""
    while entry.undoes is not None:
        entry = known[entry.undoes]
    return entry


def _said(entry: Entry, known: Mapping[int, Entry]) -> str:
    """An entry in words; of an undo, what became of what it took back, or of what that had taken back."""
    depth, target = 0, entry
    while target.undoes is not None:
        depth, target = depth + 1, known[target.undoes]
    told = target.payload
    if target.kind == "tag":
        what, verbs = f"“{told['tag']}”", ("tagged", "took away the tag", "gave back the tag")
    elif target.kind == "note":
        text = " ".join(told["text"].split())
        what = f"“{text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}”"
        verbs = ("noted", "deleted the note", "brought back the note")
        if "note" in told:
            verbs = ("changed a note to", "took back the change to", "changed a note again to")
    else:
        what, verbs = target.kind, ("made a", "took back a", "brought back a")
    return f"{verbs[depth and 2 - depth % 2]} {what}"


def _moment(at: datetime | str) -> datetime:
    """A time that can be compared with others."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
