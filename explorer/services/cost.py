"""What looking costs: seconds an image, measured from the vetting log where there is one, as expert hours."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.errors import UsageError
from explorer.ledger import Ledger
from models import boundary
from models.boundary import Gate, Learned, Path, Term

#: Seconds an image until somebody has vetted some.
SECONDS = 5.0
#: A look that took longer was a pause. Seconds.
PAUSE = 300.0
#: Grades from which on the log says how long a look takes.
ENOUGH = 20
#: Kind of the ledger's entry that a grade is.
VOTE = "vote"
#: What such an entry has of the looks at a mosaic.
OF_MOSAIC = ("grades", "kept", "repeats", "kept_repeats")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one look costs.

    Attributes
    ----------
    seconds
        A grader's, per image.
    graders
        Who look at each image.
    measured
        Whether `seconds` is the mean of the vetting log, over `n` grades; else it was set, or nobody has measured.

    Raises
    ------
    UsageError
        At construction: seconds or graders that cannot be.
    """

    seconds: float = SECONDS
    graders: int = 1
    measured: bool = False
    n: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and 0 < self.seconds <= 86_400):
            raise UsageError(f"a look takes {self.seconds:g} seconds; give more than 0, at most a day")
        if not 1 <= self.graders <= 1_000:
            raise UsageError(f"{self.graders:,} graders look at each image; give 1 to 1,000")

    def hours(self, images: float) -> float:
        """Expert hours, of all graders together, for so many images."""
        return images * self.seconds * self.graders / 3600

    def images(self, hours: float) -> float:
        """How many images so many expert hours reach."""
        return hours * 3600 / (self.seconds * self.graders)


class Costs:
    """How long looks took, by the ledger. One per server; thread-safe."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._lock = threading.Lock()
        self._last, self._n, self._total, self._looked = 0, 0, 0.0, -math.inf

    def of(self, seconds: float | None = None, graders: int = 1) -> Cost:
        """The cost of a look; `seconds` overrules what was measured.

        Raises
        ------
        UsageError
            As `Cost`.
        """
        if seconds is not None:
            return Cost(seconds, graders)
        n, total = self._measured()
        return Cost(total / n, graders, True, n) if n >= ENOUGH else Cost(SECONDS, graders)

    def _measured(self) -> tuple[int, float]:
        """Grades and their seconds in all; the log is read at most once a second, for a mouse asks fifty times."""
        with self._lock:
            if time.monotonic() - self._looked < 1:
                return self._n, self._total
            self._looked = time.monotonic()
            fresh = self.ledger.entries((VOTE, "undo"), since=self._last, include_undone=True)
            if fresh:
                last = fresh[-1].id
                if any(entry.kind == "undo" for entry in fresh):  # one of the votes may have been taken back
                    self._n, self._total = 0, 0.0
                    fresh = [entry for entry in self.ledger.entries(VOTE) if entry.id <= last]
                looks = [_looks(entry.payload) for entry in fresh if entry.kind == VOTE]
                self._n += sum(n for n, _ in looks)
                self._total, self._last = self._total + sum(seconds for _, seconds in looks), last
            return self._n, self._total


def cut_for(keep: Term, path: Path, source: boundary.Source, n: int) -> float:
    """The lower limit of a term with which the whole keeps as many as it can, and at most n.

    Raises
    ------
    UsageError
        The term has no lower limit, no value, or with every limit more than n are kept.
    """
    leaf = boundary.at(keep, path)
    if isinstance(leaf, Gate) and not leaf.labels:
        values = source.column(leaf.column)
        within = ~(values > leaf.high) if leaf.high is not None else np.ones(len(values), np.bool_)
    elif isinstance(leaf, Learned):
        values = source.balanced(leaf.model) if leaf.scale == "balanced" else source.probability(leaf.model)
        within = np.ones(len(values), np.bool_)
    else:
        raise UsageError("hours move the lower limit of a gate or of a learned classifier; choose one")
    yes, no, unsure = boundary.alternatives(keep, path, source)
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    ordered = values[known][order]
    if not len(ordered):
        raise UsageError("the column has no value for any subject, so no limit on it can be set")
    above = (np.where(within, yes, no)[known][order]).astype(np.int64)  # where the limit is at or below the value
    below = no[known][order].astype(np.int64)
    starts = np.flatnonzero(np.diff(ordered, prepend=-math.inf) > 0)  # a limit at each different value
    up = np.concatenate([[0], np.cumsum(below)])[starts]
    down = above.sum() - np.concatenate([[0], np.cumsum(above)])[starts]
    kept = up + down + int(unsure[~known].sum())
    if leaf.__class__ is Gate and leaf.high is not None:
        ok = ordered[starts] <= leaf.high
        starts, kept = starts[ok], kept[ok]
    fits = kept <= n
    if not fits.any():
        raise UsageError(f"with every lower limit of it more than {n:,} images are kept; narrow another term")
    best = int(np.argmax(np.where(fits, kept, -1)))
    return float(ordered[starts[best]])


def _looks(payload: dict[str, Any]) -> tuple[int, float]:
    """How many looks a vote is of, many where it is of a mosaic, and their seconds in all; 0 where the time is not
    known, or was a pause, or where a whole grid was judged, which is no time of a look.
    """
    seconds = payload.get("seconds")
    if payload.get("via") == "grid":
        return 0, 0.0
    n = sum(len(payload.get(name, ())) for name in OF_MOSAIC) if "grades" in payload else 1
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= PAUSE * n:
        return 0, 0.0
    return n, float(seconds)
