"""Tables that others have reduced already: k of n per subject, and outcomes without counts.

=========================================================================  ==========================================
table                                                                      its totals
=========================================================================  ==========================================
``subject_id count selected_count unique_user_count`` (the study's)        k chosen of n views, by that many people
``subject_id, workflow_id, task, data.yes, data.no`` (question reducer)    votes of each answer, of their sum
``subject_id, …, data.choice, data.choice_count, data.total_vote_count``   votes of each choice, of the total
``subject_id, …, data`` (Caesar, a cell of JSON)                           as the question reducer
``subject_ids, classifications, advance, flag, …`` (an outcome)            none: its columns become the survey's
=========================================================================  ==========================================
"""

import json
import re
from collections.abc import Iterator

import pyarrow as pa

from explorer.ingest.aside import Aside
from explorer.ingest.classifications import Parts
from explorer.ingest.matching import Described
from explorer.ingest.recognise import CHOSEN, CHOSEN_PEOPLE, PEOPLE, SUBJECT, VIEWS, VOLUNTEER, Recognised, column
from explorer.ingest.records import Records
from explorer.ingest.zooniverse import NO_SUBJECT, not_json
from explorer.votes import CHOSEN as CHOSEN_ANSWER
from explorer.votes import GRID_TASK, NO_WORKFLOW, TOTALS_SCHEMA

#: What a reduction says beside its votes.
_NO_ANSWERS = {"aggregation_version", "user_ids", "classification_id", "gold_standard"}
#: How reducers call that nothing was answered.
_NOTHING = ("none", "null", "")

NO_COUNT = "a count is missing or no whole number"
MORE_CHOSEN = "more were chosen than seen"
AGAIN = "a subject, task and answer that an earlier row has"

#: subject (number), workflow, task, answer, views, people, chosen, people who chose
Total = tuple[int, int, str, str, int, int | None, int, int | None]


def read_totals(recognised: Recognised, parts: Parts, aside: Aside) -> pa.Table:
    """The totals of a reduced table: ``line``, ``subject`` (its number) and the columns of totals.parquet."""
    source, records = recognised.source, Records(recognised.source, recognised.delimiter)
    reader = _Counts(records.header) if column(records.header, VIEWS) else _Reduction(records.header)
    place = records.header.index(column(records.header, SUBJECT) or "")
    found: list[tuple[int, str, int, str, str, int, int | None, int, int | None]] = []
    seen: set[tuple[str, int, str, str]] = set()
    for line, fields in records:
        parts.n_rows += 1
        subject = None
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            subject = fields[place].strip()
            if not subject:
                raise ValueError(NO_SUBJECT)
            rows = [(line, subject, *row) for row in reader.read(fields)]
            if any((row[1:5]) in seen for row in rows):
                raise ValueError(AGAIN)
        except ValueError as error:
            records.go_back()
            parts.n_bad += 1
            aside.add(source.name, line, subject and subject[:40], str(error), source.key)
            continue
        seen.update(row[1:5] for row in rows)
        found += rows
    parts.notes += [*source.notes(), *reader.notes]
    names = ["line", "subject", *TOTALS_SCHEMA.names[1:-1]]
    kinds = [pa.int64(), pa.string(), pa.int64(), pa.string(), pa.string(), *[pa.int64()] * 4]
    columns = [list(c) for c in zip(*found, strict=True)] or [[] for _ in names]
    table = pa.table([pa.array(c, kind) for c, kind in zip(columns, kinds, strict=True)], names)
    codes = pa.array(parts.names.codes(columns[1]), pa.int32())
    return table.set_column(1, "subject", codes)


def _whole(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(NO_COUNT) from None
    if not 0 <= number <= 1 << 53 or number != int(number):
        raise ValueError(NO_COUNT)
    return int(number)


def _missing(text: str) -> bool:
    return text.strip().lower() in ("", "na", "nan", "null", "none")


class _Counts:
    """``subject_id count selected_count``: one answer, k of n."""

    def __init__(self, header: list[str]) -> None:
        found = {"views": VIEWS, "chosen": CHOSEN, "people": PEOPLE, "chosen_people": CHOSEN_PEOPLE}
        names = {name: column(header, known) for name, known in found.items()}
        names |= {name: column(header, (name,)) for name in ("workflow_id", "task", "answer")}
        self._at = {name: header.index(there) for name, there in names.items() if there is not None}
        self.notes: list[str] = []

    def read(self, fields: list[str]) -> Iterator[tuple[int, str, str, int, int | None, int, int | None]]:
        """The totals of a row."""
        cell = {name: fields[place].strip() for name, place in self._at.items()}
        views, chosen = _whole(cell["views"]), _whole(cell["chosen"])
        if chosen > views:
            raise ValueError(MORE_CHOSEN)
        people = [None if _missing(cell.get(n, "")) else _whole(cell[n]) for n in ("people", "chosen_people")]
        workflow = _whole(cell["workflow_id"]) if cell.get("workflow_id") else NO_WORKFLOW
        task, answer = cell.get("task") or GRID_TASK, cell.get("answer") or CHOSEN_ANSWER
        yield workflow, task, answer, views, people[0], chosen, people[1]


class _Reduction:
    """Reductions of the aggregation code and of Caesar: votes per answer."""

    def __init__(self, header: list[str]) -> None:
        self._header = header
        self._at = {name: header.index(name) for name in header}
        self._answers = {
            name: name.removeprefix("data.") for name in header
            if name.startswith("data.") and name.removeprefix("data.") not in _NO_ANSWERS
        }  # fmt: skip
        self._is_survey = "data.choice" in self._answers
        self.notes = (
            []
            if self._is_survey
            else ["n is the sum of the votes: right where one answer is given, too high where several may be"]
        )

    def read(self, fields: list[str]) -> Iterator[tuple[int, str, str, int, int | None, int, int | None]]:
        """The totals of a row, one per answer."""
        cell = {name: fields[place].strip() for name, place in self._at.items()}
        workflow = _whole(cell["workflow_id"]) if not _missing(cell.get("workflow_id", "")) else NO_WORKFLOW
        task = cell.get("task") or cell.get("reducer_key") or GRID_TASK
        if self._is_survey:
            n, k = _whole(cell["data.total_vote_count"]), _whole(cell["data.choice_count"])
            if k > n:
                raise ValueError(MORE_CHOSEN)
            yield workflow, task, cell["data.choice"], n, None, k, None
            return
        votes = _counts_of(cell["data"]) if "data" in cell else {
            answer: cell[name] for name, answer in self._answers.items()
        }  # fmt: skip
        given = {answer: 0 if _missing(text) else _whole(text) for answer, text in votes.items()}
        n = sum(given.values())
        for answer, k in given.items():
            yield workflow, task, "" if answer.lower() in _NOTHING else answer, n, None, k, None


def _counts_of(text: str) -> dict[str, str]:
    try:
        data = json.loads(text or "{}")
    except ValueError:
        raise ValueError(not_json("data")) from None
    if not isinstance(data, dict):
        raise ValueError("data is JSON of another kind")
    return {key: str(value) for key, value in data.items() if isinstance(value, int | float)}


def read_outcomes(recognised: Recognised, parts: Parts, described: Described, aside: Aside) -> None:
    """What others concluded of each subject, without counts: columns of the survey, as they stand."""
    source, records = recognised.source, Records(recognised.source, recognised.delimiter)
    key = column(records.header, SUBJECT) or ""
    place = records.header.index(key)
    people = [name for name in records.header if name.lower() in (*VOLUNTEER, "user_ip") and name != key]
    names = {
        i: re.sub(r"\W+", "_", name)
        for i, name in enumerate(records.header)
        if i != place and name and name not in people
    }
    seen: set[str] = set()
    for line, fields in records:
        parts.n_rows += 1
        reason = fields if isinstance(fields, str) else None
        subject = None if isinstance(fields, str) else fields[place].strip()
        if reason is None and not subject:
            reason = NO_SUBJECT
        if subject is not None and subject in seen:
            reason = "a subject that an earlier row has"
        if reason is not None or isinstance(fields, str) or subject is None:
            parts.n_bad += 1
            aside.add(source.name, line, subject and subject[:40], reason or NO_SUBJECT, source.key)
            continue
        seen.add(subject)
        parts.rows.append((line, parts.names.code(subject)))
        described.add(parts.names.code(subject), {name: fields[i].strip() for i, name in names.items()})
    parts.notes += [*source.notes(), "it says what came out, not how many said so: its columns are columns of subjects"]
    parts.notes += [f'column "{name}" says who somebody is, and was not kept' for name in people]
