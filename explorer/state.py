"""One browser session: what is colored, selected and in focus. No Panel, no data."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO

import numpy as np
import param

from explorer.people import LOCAL, Person
from models.boundary import And, Term
from models.mixing import MODE_TITLES, Mode
from models.truth import Truth

#: Scales of a colour ramp, the default first; what each means: `explorer.raster`.
NORMS = ("percentile", "equalised", "linear", "log")
#: Colour ramps; "auto" has one for counts, one for scores and one for other columns.
PALETTES = ("auto", "viridis", "inferno", "cividis", "magma")


class Selection:
    """A set of subjects: one bit a row, in row order. Immutable.

    Parameters
    ----------
    words
        uint64 (ceil(n / 64),); row r is bit r % 64 of word r // 64; bits beyond n are 0.
    n
        Rows of the survey.
    """

    def __init__(self, words: np.ndarray, n: int) -> None:
        if words.dtype != np.uint64 or len(words) != self.n_words(n):
            raise ValueError(
                f"a selection of {n:,} rows needs {self.n_words(n):,} uint64 words, not {words.dtype} {len(words):,}"
            )
        words.flags.writeable = False
        self.words = words
        self.n = n
        #: What it is called until a person names it: the filter that made it. No part of what makes selections equal.
        self.title = ""

    @staticmethod
    def n_words(n: int) -> int:
        """Words for n rows."""
        return (n + 63) // 64

    @classmethod
    def empty(cls, n: int) -> Selection:
        """Nothing selected of n rows."""
        return cls(np.zeros(cls.n_words(n), np.uint64), n)

    @classmethod
    def of_rows(cls, rows: Iterable[int] | np.ndarray, n: int) -> Selection:
        """The given rows, each in 0 … n - 1.

        Raises
        ------
        ValueError
            A row outside the survey.
        """
        rows = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= n):
            raise ValueError(f"a selected row is outside 0 … {n - 1:,}")
        mask = np.zeros(cls.n_words(n) * 64, np.bool_)
        mask[rows] = True
        return cls(np.packbits(mask, bitorder="little").view(np.uint64), n)

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Selection:
        """The rows where a mask, bool (n,), is true."""
        found = np.zeros(8 * cls.n_words(len(mask)), np.uint8)
        bits = np.packbits(mask, bitorder="little")
        found[: len(bits)] = bits
        return cls(found.view(np.uint64), len(mask))

    @cached_property
    def count(self) -> int:
        """How many are selected."""
        return int(np.bitwise_count(self.words).sum())

    @cached_property
    def id(self) -> str:
        """sha256 over n and the bits: equal selections have equal ids."""
        return hashlib.sha256(self.n.to_bytes(8, "little") + self.words.tobytes()).hexdigest()

    def mask(self) -> np.ndarray:
        """bool (n,)."""
        return np.unpackbits(self.words.view(np.uint8), count=self.n, bitorder="little").view(np.bool_)

    def rows(self) -> np.ndarray:
        """int64, ascending."""
        return np.flatnonzero(self.mask())

    def rank(self, row: int) -> int:
        """How many selected rows are below a row."""
        beyond = int(self.words[row >> 6]) & ((1 << (row & 63)) - 1) if row < self.n else 0
        return int(np.bitwise_count(self.words[: row >> 6]).sum()) + beyond.bit_count()

    def __contains__(self, row: int) -> bool:
        return bool((int(self.words[row >> 6]) >> (row & 63)) & 1)

    def __or__(self, other: Selection) -> Selection:
        return Selection(self.words | self._same(other).words, self.n)

    def __and__(self, other: Selection) -> Selection:
        return Selection(self.words & self._same(other).words, self.n)

    def __sub__(self, other: Selection) -> Selection:
        return Selection(self.words & ~self._same(other).words, self.n)

    def __invert__(self) -> Selection:
        words = ~self.words
        if self.n % 64:
            words[-1] &= np.uint64((1 << self.n % 64) - 1)
        return Selection(words, self.n)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.n == other.n and bool(np.array_equal(self.words, other.words))

    def __hash__(self) -> int:
        return hash(self.id)

    def _same(self, other: Selection) -> Selection:
        if other.n != self.n:
            raise ValueError(f"selections of {self.n:,} and {other.n:,} rows are not of one survey")
        return other


#: Steps of undo; the bytes of memory and of a file without a name that those of one session may take.
MOST_STEPS, STEP_BYTES, FILE_BYTES = 100, 12 << 20, 400 << 20
#: A selection of so many bytes is worth packing.
_LARGE = 1 << 18


class Steps:
    """Selections to go back to, the last first. Of large surveys few bytes each, and what takes many lies in a file."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._file: BinaryIO | None = None
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._steps)

    def append(self, selection: Selection) -> None:
        """Keep one more; the oldest go where they are too many."""
        self._steps.append(self._packed(selection))
        while len(self._steps) > MOST_STEPS or self.nbytes > STEP_BYTES or self.nbytes_in_file > FILE_BYTES:
            self._drop(self._steps.pop(0))

    def pop(self) -> Selection:
        """Take the last one out."""
        step = self._steps.pop()
        words = step.words
        if step.at is not None and self._file is not None:
            words = np.frombuffer(
                os.pread(self._file.fileno(), 8 * step.n_words, 8 * step.n_words * step.at), np.uint64
            )
        elif step.places is not None:
            words = np.zeros(step.n_words, np.uint64)
            words[step.places] = step.words
        self._drop(step)
        found = Selection(words, step.n)
        found = ~found if step.is_inverted else found
        found.title = step.title
        return found

    def clear(self) -> None:
        """Forget all of them."""
        self._steps.clear()
        self._free.clear()
        if self._file is not None:
            self._close()
            self._file = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory that they take."""
        return sum(step.words.nbytes + (0 if step.places is None else step.places.nbytes) for step in self._steps)

    @property
    def nbytes_in_file(self) -> int:
        """Bytes that they take on disk."""
        return sum(8 * step.n_words for step in self._steps if step.at is not None)

    def _packed(self, selection: Selection) -> _Step:
        words, n = selection.words, selection.n
        if words.nbytes < _LARGE:
            return _Step(n, len(words), words, selection.title)
        for is_inverted in (False, True):
            some = (~selection).words if is_inverted else words
            places = np.flatnonzero(some)
            if 4 * len(places) < len(words):
                return _Step(n, len(words), some[places], selection.title, places.astype(np.uint32), is_inverted)
        try:
            at = self._written(words)
        except OSError:  # no room on disk
            return _Step(n, len(words), words, selection.title)
        return _Step(n, len(words), np.empty(0, np.uint64), selection.title, at=at)

    def _written(self, words: np.ndarray) -> int:
        """The place in the file, in selections, where this one is."""
        if self._file is None:
            self._file, self._free = tempfile.TemporaryFile(), []  # noqa: SIM115  # it lives as long as the session
            self._close = weakref.finalize(self, self._file.close)
        taken = sum(step.at is not None for step in self._steps)
        at = self._free.pop() if self._free else taken
        if os.pwrite(self._file.fileno(), words.tobytes(), words.nbytes * at) != words.nbytes:
            raise OSError("the disk is full")
        return at

    def _drop(self, step: _Step) -> None:
        if step.at is not None:
            self._free.append(step.at)


@dataclass(frozen=True, slots=True)
class _Step:
    """A selection, or its opposite: its words, those at `places` (the others are 0), or its place in a file."""

    n: int
    n_words: int
    words: np.ndarray
    title: str
    places: np.ndarray | None = None
    is_inverted: bool = False
    at: int | None = None


#: how a new region meets what is selected
MODES = ("replace", "add", "subtract", "intersect")
#: what dragging on the map does
TOOLS = ("pan", "lasso", "box", "polygon", "ellipse", "brush")
#: how the subjects that share a pixel become one color
AGGREGATES = ("max", "mean", "std")
#: what stands below the map
PANES = ("gallery", "histograms", "table", "apart", "curves")
#: what the right column shows
SIDES = ("subject", "boundary")
#: references of the map's axes that are its own two components
COMPONENTS = ("maps.umap_1", "maps.umap_2")


#: The boundary that keeps everything.
EVERYTHING = And(())


@dataclass(frozen=True, slots=True)
class Draft:
    """A boundary as it is being drawn and tuned, and what it is judged against. Immutable: an edit is another draft.

    Attributes
    ----------
    keep
        What it keeps; at first everything.
    truth
        None until a person chooses one.
    name, version
        What it was saved as last, or opened from; "" and 0 for one that never was.
    follows
        Whether its learned classifiers are fitted again when the truth changes.
    """

    keep: Term = EVERYTHING
    truth: Truth | None = None
    name: str = ""
    version: int = 0
    follows: bool = True


class ExplorerState(param.Parameterized):
    """What one session sees. Widgets are bound to it and own no second copy."""

    map_id = param.String("", doc="The map on screen; empty when the survey has none.")
    run_id = param.String("", doc="The score run whose scores are shown; empty when there is none.")
    x = param.String(
        COMPONENTS[0], doc='Reference of the horizontal axis: any numeric column ("maps.umap_1", "scores.NAME", …).'
    )
    y = param.String(COMPONENTS[1], doc="Reference of the vertical axis.")
    solid = param.Boolean(False, doc="The map's three components, turned under the mouse.")
    turn = param.Tuple((0.6, 0.4), length=2, doc="Yaw and pitch of the 3-D view, radians.")
    color = param.String(
        "count", doc='"count", "share" (selected of all), "scores.NAME" of the run, "subjects.NAME", "maps.NAME".'
    )
    aggregate: str = param.Selector(default="max", objects=list(AGGREGATES), doc="Of the subjects that share a pixel.")  # type: ignore[assignment]
    norm: str = param.Selector(default=NORMS[0], objects=list(NORMS), doc="Scale of the colour ramp.")  # type: ignore[assignment]
    palette: str = param.Selector(default=PALETTES[0], objects=list(PALETTES), doc="Colours of the ramp.")  # type: ignore[assignment]
    lambda_ = param.Number(0.2, bounds=(0, 1), doc="S_anom = (1 - λ) S_image + λ S_feature.")
    lambda_mode: Mode = param.Selector(default="raw", objects=list(MODE_TITLES), doc="What λ mixes.")  # type: ignore[assignment]
    contours = param.Boolean(False, doc="Lines of equal density over the map.")
    places = param.Boolean(True, doc="Named places on the map.")
    overlay = param.String("", doc='What is drawn as markers: a column, "selection:NAME", "talk:GROUP".')
    mode: str = param.Selector(default="replace", objects=list(MODES), doc="How a new region meets the selection.")  # type: ignore[assignment]
    tool: str = param.Selector(default="pan", objects=list(TOOLS), doc="What dragging on the map does.")  # type: ignore[assignment]
    selection: Selection = param.ClassSelector(class_=Selection, allow_None=False, doc="The selected subjects.")  # type: ignore[assignment]
    focus = param.Integer(None, allow_None=True, doc="Row of the subject in detail.")
    view = param.Tuple(None, length=4, allow_None=True, doc="x0, x1, y0, y1 on screen; None for the whole map.")
    fit = param.Event(doc="Show the whole map again.")  # type: ignore[no-untyped-call]
    sort = param.String("", doc="Reference of the column that orders the gallery; empty for row order.")
    descending = param.Boolean(True, doc="Highest first.")
    pane: str = param.Selector(default="gallery", objects=list(PANES), doc="What stands below the map.")  # type: ignore[assignment]
    side: str = param.Selector(default="subject", objects=list(SIDES), doc="What the right column shows.")  # type: ignore[assignment]
    draft: Draft = param.ClassSelector(class_=Draft, allow_None=False, doc="The boundary at work.")  # type: ignore[assignment]
    person: Person = param.ClassSelector(class_=Person, default=LOCAL, allow_None=False, doc="Whose session it is.")  # type: ignore[assignment]
    draws = param.Boolean(False, doc="Whether what is drawn on the map becomes a region of the boundary.")
    theme: str = param.Selector(default="dark", objects=["dark", "light"], doc="Ground of the page.")  # type: ignore[assignment]

    def __init__(self, n: int, **params: object) -> None:
        params = {"draft": Draft()} | params
        super().__init__(selection=Selection.empty(n), **params)  # type: ignore[no-untyped-call]
        self._before = Steps()
        self._after = Steps()
        self._sketched_from: Selection | None = None
        self._edits: list[Draft] = []
        self._taken_back: list[Draft] = []
        self._tuned_from: Draft | None = None

    def _met(self, base: Selection, region: Selection, mode: str | None) -> Selection:
        """What `base` becomes when a region meets it."""
        mode = mode or self.mode
        if mode == "add":
            return base | region
        if mode == "subtract":
            return base - region
        return base & region if mode == "intersect" else region

    def _record(self, before: Selection) -> None:
        self._before.append(before)
        self._after.clear()

    def select(self, region: Selection, mode: str | None = None) -> None:
        """Let `region` replace, join, leave or narrow the selection (`mode`, else the session's)."""
        self.settle()
        new = self._met(self.selection, region, mode)
        if new != self.selection:
            self._record(self.selection)
            self.selection = new

    def sketch(self, region: Selection, mode: str | None = None) -> None:
        """Show what a gesture would select, against the selection at its start; `settle` ends the gesture."""
        if self._sketched_from is None:
            self._sketched_from = self.selection
        self.selection = self._met(self._sketched_from, region, mode)

    def settle(self) -> None:
        """End a gesture: it is one step of undo."""
        before, self._sketched_from = self._sketched_from, None
        if before is not None and before != self.selection:
            self._record(before)
            self.param.trigger("selection")  # what offers undo looks again

    def invert(self) -> None:
        """Select what is not selected."""
        self.select(~self.selection, "replace")

    def clear(self) -> None:
        """Select nothing."""
        self.select(Selection.empty(self.selection.n), "replace")

    @property
    def can_undo(self) -> bool:
        """Whether there is a selection to go back to."""
        return len(self._before) > 0

    @property
    def can_redo(self) -> bool:
        """Whether an undone selection can be brought back."""
        return len(self._after) > 0

    def undo(self) -> bool:
        """Go back to the selection before; False when there is none."""
        self.settle()
        if not self._before:
            return False
        self._after.append(self.selection)
        self.selection = self._before.pop()
        return True

    def redo(self) -> bool:
        """Bring back what was undone last; False when there is nothing."""
        self.settle()
        if not self._after:
            return False
        self._before.append(self.selection)
        self.selection = self._after.pop()
        return True

    # ------------------------------------------------------------------------------------------------ boundary
    def edit(self, draft: Draft) -> None:
        """Go on with another draft of the boundary: one step of its undo."""
        self.settle_draft()
        if draft != self.draft:
            self._note(self.draft)
            self.draft = draft

    def tune(self, draft: Draft) -> None:
        """Show what a gesture makes of the draft; `settle_draft` ends the gesture."""
        if self._tuned_from is None:
            self._tuned_from = self.draft
        self.draft = draft

    @property
    def is_tuning(self) -> bool:
        """Whether a gesture on the draft is not over."""
        return self._tuned_from is not None

    def settle_draft(self) -> None:
        """End a gesture on the draft: it is one step of undo."""
        before, self._tuned_from = self._tuned_from, None
        if before is not None and before != self.draft:
            self._note(before)
            self.param.trigger("draft")  # what offers undo looks again

    def replace_draft(self, draft: Draft) -> None:
        """Put what a refit or a save made of the draft in its place: no step of undo; its steps are called so, too."""
        was = self.draft.name, self.draft.version
        for steps in (self._edits, self._taken_back):
            for i, step in enumerate(steps):
                if (step.name, step.version) == was:
                    steps[i] = replace(step, name=draft.name, version=draft.version)
        self.draft = draft

    def _note(self, before: Draft) -> None:
        self._edits.append(before)
        del self._edits[:-200]
        self._taken_back.clear()

    @property
    def can_undo_draft(self) -> bool:
        """Whether there is a draft to go back to."""
        return bool(self._edits)

    @property
    def can_redo_draft(self) -> bool:
        """Whether an undone edit can be brought back."""
        return bool(self._taken_back)

    def undo_draft(self) -> bool:
        """Go back to the draft before; False when there is none."""
        self.settle_draft()
        if not self._edits:
            return False
        self._taken_back.append(self.draft)
        self.draft = self._edits.pop()
        return True

    def redo_draft(self) -> bool:
        """Bring back the edit that was undone last; False when there is nothing."""
        self.settle_draft()
        if not self._taken_back:
            return False
        self._edits.append(self.draft)
        self.draft = self._taken_back.pop()
        return True
