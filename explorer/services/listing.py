"""The table: what a survey lists, in any order, narrowed by a filter, a page at a time. Callable; thread-safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from explorer.caches import Cache
from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.explore import PLACING, Explore
from explorer.services.filters import Filter, columns_of, complete, parse, reader
from explorer.state import Selection
from explorer.survey import SUBJECTS_SCHEMA
from models.mixing import Mode

#: Rows of one page at most, and columns.
MOST_ROWS, MOST_COLUMNS = 200, 60
#: What a subject is called: always the first column.
NAME = "subjects.source_id"
#: Bytes of what filters found that are kept.
KEPT_BYTES = 200 << 20
#: Columns that are shown until a person chooses others, at most.
SHOWN = 12
# Values looked at to say how many decimals a column needs, and the most that are shown.
_SAMPLE, _DECIMALS = 20_000, 8


@dataclass(frozen=True, slots=True)
class Listed:
    """Which subjects a table has, and in which order. Hashable.

    Attributes
    ----------
    selection_id
        Of `Explore.keep`; empty for every subject.
    where
        A filter (`explorer.services.filters`); empty for none.
    sort
        Reference of a column; empty for the order of the survey.
    run_id, lambda_, mode, map_id
        Whose scores and coordinates are meant, and how the scores are mixed.
    """

    selection_id: str = ""
    where: str = ""
    sort: str = ""
    descending: bool = True
    run_id: str = ""
    lambda_: float = 0.2
    mode: Mode = "raw"
    map_id: str = ""


class Listing:
    """Lists one survey for many sessions.

    Parameters
    ----------
    ledger
        Where the selections are kept that a filter may name; None: none can be named.
    """

    def __init__(self, explore: Explore, ledger: Ledger | None = None) -> None:
        self.explore, self.survey, self.ledger = explore, explore.survey, ledger
        self._regions = Cache(32, KEPT_BYTES)
        self._decimals = Cache(256)

    def columns(self, run_id: str = "", map_id: str = "") -> list[dict[str, Any]]:
        """Every column that a table may have, the subject's name first.

        Returns
        -------
        list of dict
            ``reference``; ``title``, what a person reads; ``kind``: number, category, text or id; ``unit`` or None;
            ``shown``: whether it is on the screen until a person chooses.
        """
        ours = set(SUBJECTS_SCHEMA.names)
        found = [_column(NAME, "Subject", "id", None, likely=True)]
        for name, title in self.explore.score_titles(run_id).items():
            found.append(_column(f"scores.{name}", title, "number", None, likely=True))
        for column in sorted(self.survey.columns(), key=lambda c: c.name in ours):  # the user's own first
            reference, varies = f"subjects.{column.name}", self.survey.varies(column.name)
            if reference != NAME and (varies or column.name not in ours):
                title, likely = column.name.replace("_", " "), varies and column.dtype != "id"
                found.append(_column(reference, title, column.dtype, column.unit, likely=likely))
        colors = self.explore.colors(run_id, map_id)
        for name, title in PLACING.items():
            if f"maps.{name}" in colors:
                found.append(_column(f"maps.{name}", title, "number", None, likely=False))
        for beyond in [told for told in found if told["shown"]][SHOWN:]:
            beyond["shown"] = False
        return found

    def rows(self, listed: Listed) -> np.ndarray:
        """The rows of a table in its order: uint32.

        Raises
        ------
        FilterError
            The filter is not understood.
        UsageError
            No such column, or a selection that the server does not know any more.
        """
        return self.explore.page(self._region(listed), *_by(listed), start=0, count=self.survey.n)

    def region(self, listed: Listed) -> Selection:
        """The subjects of a table; raises as `rows` does."""
        return self._region(listed) or ~Selection.empty(self.survey.n)

    def _region(self, listed: Listed) -> Selection | None:
        """The subjects of a table; None for all."""
        scope = self.explore.selection(listed.selection_id)
        if not listed.where.strip():
            return scope
        found = self._found(self._filter(listed), listed)
        return found if scope is None else found & scope

    def page(
        self, listed: Listed, columns: Sequence[str], start: int, count: int, focus: int | None = None
    ) -> dict[str, Any]:
        """Some lines of a table, ready for JSON.

        Parameters
        ----------
        columns
            References, at most `MOST_COLUMNS`.
        start, count
            The first line, from 0, and how many, at most `MOST_ROWS`; fewer at the end.
        focus
            A row whose place in the table is asked for.

        Returns
        -------
        dict
            ``of``: subjects that the filter was asked of; ``total``: lines of the table; ``rows``: rows of the survey;
            ``cells``: reference → values in their order, numbers as an array or texts, missing NaN or None;
            ``decimals``: reference → digits after the point that tell its values apart, None where only powers of ten
            do; ``place``: line of `focus`, -1 where it is not in the table.

        Raises
        ------
        FilterError
            The filter is not understood.
        UsageError
            No such column, too many at once, or a selection that the server does not know any more.
        """
        if not 0 < count <= MOST_ROWS or start < 0:
            raise UsageError(f"a page has 1 to {MOST_ROWS} lines from 0 on, not {count:,} from {start:,}")
        if len(columns) > MOST_COLUMNS:
            raise UsageError(f"a page has at most {MOST_COLUMNS} columns, not {len(columns):,}")
        region = self._region(listed)
        scope = self.explore.selection(listed.selection_id)
        place = None if focus is None else self.explore.place_in(region, focus, *_by(listed))
        rows = self.explore.page(region, *_by(listed), start=start, count=count)
        cells = {reference: self._cells(reference, rows, listed) for reference in columns}
        numbers = [reference for reference, values in cells.items() if isinstance(values, np.ndarray)]
        return {
            "of": self.survey.n if scope is None else scope.count,
            "total": self.survey.n if region is None else region.count,
            "start": start,
            "rows": rows,
            "cells": cells,
            "decimals": {reference: self._digits(reference, listed) for reference in numbers},
            "place": -1 if place is None else place,
        }

    def complete(self, text: str, cursor: int, run_id: str = "", map_id: str = "") -> list[dict[str, Any]]:
        """What may stand at the cursor of a filter: see `explorer.services.filters.complete`."""
        offered = complete(text, cursor, columns_of(self.explore, run_id, map_id, self.ledger))
        return [{"text": o.text, "start": o.start, "end": o.end, "kind": o.kind, "note": o.note} for o in offered]

    # ------------------------------------------------------------------------------------------------ filters
    def _filter(self, listed: Listed) -> Filter:
        return parse(listed.where, columns_of(self.explore, listed.run_id, listed.map_id, self.ledger))

    def _found(self, where: Filter, listed: Listed) -> Selection:
        told = listed.run_id, listed.map_id, round(listed.lambda_, 4), listed.mode

        def make() -> Selection:
            return Selection.of_mask(where.rows(reader(self.explore, *told, self.ledger)))

        if _is_kept(where):
            return make()
        return self._regions.get((self.survey.generation, where.text, told), make)

    # -------------------------------------------------------------------------------------------------- cells
    def _cells(self, reference: str, rows: np.ndarray, listed: Listed) -> Any:
        """Values of a column: numbers as the file has them, all else as text."""
        table, _, name = reference.partition(".")
        if table != "subjects":
            return self._values(reference, listed)[rows]
        kinds = {column.name: column.dtype for column in self.survey.columns()}
        taken = self.survey.arrow(name).take(pa.array(rows))
        if kinds[name] != "number":
            return taken.cast(pa.string()).to_pylist()
        if not (pa.types.is_integer(taken.type) or pa.types.is_floating(taken.type)):
            taken = taken.cast(pa.float64())
        return taken.to_numpy(zero_copy_only=False)

    def _values(self, reference: str, listed: Listed) -> np.ndarray:
        return self.explore.values(reference, listed.run_id, listed.lambda_, listed.mode, listed.map_id)

    def _digits(self, reference: str, listed: Listed) -> int | None:
        if reference in ("subjects.ra", "subjects.dec"):
            return 5  # a few hundredths of an arcsecond, whatever the spread
        told = listed.run_id, listed.mode, listed.map_id
        key = (self.survey.generation, reference, *(told if not reference.startswith("subjects.") else ()))
        return self._decimals.get(key, lambda: decimals(self._values(reference, listed)))


def decimals(values: np.ndarray) -> int | None:
    """Digits after the point that tell the values of a column apart, to four of its spread: 0 for whole numbers.

    None where fixed digits would not do: a spread beyond a hundred million, or below what eight digits show.
    """
    sample = np.asarray(values[:: max(1, len(values) // _SAMPLE)], np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0
    size = np.abs(sample).max()
    if size >= 1e15 or (size >= 1e8 and (sample != np.rint(sample)).any()):
        return None
    low, high = np.percentile(sample, [0.5, 99.5])
    spread = (high - low) or size
    if not spread:
        return 0
    enough = round(4 - float(np.log10(spread)))
    if enough > _DECIMALS:
        return None
    for digits in range(max(0, enough)):
        # what was written as 17.02 is 17.0200004… as a float32
        if np.allclose(np.round(sample, digits), sample, rtol=2e-7, atol=0):
            return digits
    return max(0, enough)


def _by(listed: Listed) -> tuple[str, str, float, bool, Mode, str]:
    """What `Explore.page` is told of an order."""
    return listed.sort, listed.run_id, listed.lambda_, listed.descending, listed.mode, listed.map_id


def _column(reference: str, title: str, kind: str, unit: str | None, *, likely: bool) -> dict[str, Any]:
    return {"reference": reference, "title": title, "kind": kind, "unit": unit, "shown": likely}


def _is_kept(where: Filter) -> bool:
    """Whether a filter names a selection of the ledger, which may change."""
    return any(reference.startswith("selection:") for reference in where.references)
