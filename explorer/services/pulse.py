"""What is new on the disk, looked up once for everybody: every page asks each second, and the ledger is asked once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explorer.services.desk import Desk

#: Seconds that an answer stands for all who ask.
FRESH_S = 0.4


@dataclass(frozen=True, slots=True)
class Marks:
    """As long as a number is the same, what it stands for has not changed."""

    notes: int
    boundaries: int
    graded: int


class Pulse:
    """The marks of a server's survey. Thread-safe; to be asked off the event loop, for a look takes milliseconds."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._looking = threading.Lock()
        self._found: tuple[float, Marks] | None = None

    def look(self) -> Marks:
        """The marks as they are, or were a moment ago; with them, jobs and the survey's columns are read anew.

        Raises
        ------
        SurveyError
            A column's new file cannot be read.
        """
        with self._looking:
            if self._found is None or time.monotonic() - self._found[0] > FRESH_S:
                desk = self._desk
                desk.jobs.recent(FRESH_S)
                desk.explore.survey.refresh()
                marks = Marks(desk.notes.last, desk.boundaries.last, desk.campaign_view.stamp)
                self._found = time.monotonic(), marks
            return self._found[1]
