"""Votes that were given in another tool, read from its CSV: columns by name, grades by key, name or value.

Nothing is lost without a word: every line that cannot be taken is set aside with its number and the reason.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from explorer.errors import UsageError
from models.grades import CANNOT_JUDGE, Scheme

#: What a column may be called, the likeliest first; case, blanks and signs do not matter.
NAMES: dict[str, tuple[str, ...]] = {
    "id": ("subject_id", "source_id", "id", "objid", "object_id", "object", "name", "file_name", "filename", "image"),
    "grader": ("grader", "who", "user", "user_name", "username", "classifier", "annotator", "expert", "author"),
    "grade": ("grade", "human_label", "classification", "vote", "label", "rating", "score"),
    "seconds": ("seconds", "duration", "time_spent", "time_s", "time"),
    "date": ("date", "at", "timestamp", "created_at", "datetime", "time"),
    "comment": ("comment", "comments", "note", "notes", "remark"),
    "interesting": ("interesting", "is_interesting"),
}
#: Of tools that write no header over their ids: pandas' index.
INDEX = ("", "unnamed: 0", "index")
MAX_BYTES = 256 * 2**20
MAX_GRADER = 100
#: What others write where a grader could not tell.
UNSURE = ("?", "q", "cannot judge", "can't tell", "cannot tell", "unsure", "unknown", "skip", "skipped")
#: Astronomaly writes it where nobody has said anything yet.
NOT_YET = ("", "-1", "-1.0", "nan", "none", "null")
MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Line:
    """A vote as it was read. `at` is UTC, ISO 8601, or ""; `seconds` is NaN where they were not told."""

    number: int
    subject: str
    grader: str
    grade: str
    seconds: float
    at: str
    comment: str
    is_interesting: bool


@dataclass(slots=True)
class Read:
    """What a file says.

    Attributes
    ----------
    columns
        What is read → the column it is read from.
    aside
        Line number and reason of each line that is no vote.
    n_blank
        Lines without any grade: subjects that nobody has graded in that tool.
    """

    lines: list[Line] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    aside: list[tuple[int, str]] = field(default_factory=list)
    n_blank: int = 0
    n_lines: int = 0


def read_votes(
    content: bytes,
    scheme: Scheme,
    columns: Mapping[str, str] | None = None,
    grader: str = "",
    meant: Mapping[str, str] | None = None,
) -> Read:
    """Read a CSV of votes.

    Parameters
    ----------
    columns
        Names of `NAMES` → the file's own column, where it is called otherwise.
    grader
        Whose votes they are, where no column says so.
    meant
        What the file writes → the key of the scheme that it means.

    Raises
    ------
    UsageError
        The file is no CSV with a header, is too large, lacks a column that is needed, or `meant` names no grade.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(f"the file of votes has {len(content) / 2**20:,.0f} MiB; {MAX_BYTES // 2**20} are the most")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(rows)]
    except (StopIteration, csv.Error):
        raise UsageError("the file of votes is empty; its first line names the columns") from None
    places = _places(header, columns or {}, grader)
    known = _known(scheme, meant or {})
    read = Read(columns={what: header[at] for what, at in places.items()})
    seen: dict[tuple[str, str], int] = {}
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            read.n_lines += 1
            _take(read, rows.line_num, row, places, grader, known, scheme, seen)
    except csv.Error as error:
        raise UsageError(f"line {rows.line_num:,} of the file of votes cannot be read ({error})") from None
    return read


def _take(
    read: Read,
    number: int,
    row: Sequence[str],
    places: Mapping[str, int],
    grader: str,
    known: Mapping[str, str],
    scheme: Scheme,
    seen: dict[tuple[str, str], int],
) -> None:
    told = {what: row[at].strip() if at < len(row) else "" for what, at in places.items()}
    who, subject, said = told.get("grader", "") or grader, told["id"], told["grade"]
    if said.casefold() in NOT_YET and said.casefold() not in known:
        read.n_blank += 1
        return
    if not subject:
        read.aside.append((number, "it names no subject"))
        return
    if not who or len(who) > MAX_GRADER or not who.isprintable():
        read.aside.append((number, "it names no grader"))
        return
    key = known.get(said.casefold()) or _by_value(said, scheme)
    if key is None:
        read.aside.append((number, f'"{said[:40]}" is no grade of {scheme.name}'))
        return
    if (earlier := seen.setdefault((who, subject), number)) != number:
        read.aside.append((number, f"{who} has graded it in line {earlier:,} already"))
        return
    seconds = _number(told.get("seconds", ""))
    if not 0 < seconds <= MAX_SECONDS:
        seconds = math.nan
    is_interesting = told.get("interesting", "").casefold() in ("1", "1.0", "true", "yes", "y", "x")
    comment = told.get("comment", "")
    read.lines.append(Line(number, subject, who, key, seconds, _moment(told.get("date", "")), comment, is_interesting))


def _places(header: Sequence[str], columns: Mapping[str, str], grader: str) -> dict[str, int]:
    """Where each thing stands; see `NAMES`."""
    plain = [_plain(name) for name in header]
    places: dict[str, int] = {}
    for what, names in NAMES.items():
        if asked := columns.get(what):
            if asked not in header:
                raise UsageError(f'the file of votes has no column "{asked}"; it has {", ".join(header)}')
            places[what] = header.index(asked)
        elif found := next((name for name in names if name in plain), None):
            places[what] = plain.index(found)
    if "id" not in places and header and plain[0] in INDEX:
        places["id"] = 0  # pandas' index
    if grader:
        places.pop("grader", None)
    for what, option in (("id", "--id-column"), ("grade", "--grade-column")):
        if what not in places:
            raise UsageError(f"no column of the file of votes is the {what}; name it by {option}: {', '.join(header)}")
    if not grader and "grader" not in places:
        raise UsageError("no column of the file of votes says who graded; give --grader, or name it by --grader-column")
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s.\-]+", "_", name.strip().casefold()) if name.casefold() not in INDEX else name.casefold()


def _known(scheme: Scheme, meant: Mapping[str, str]) -> dict[str, str]:
    """What stands for a grade, in lower case → its key."""
    known = dict.fromkeys(UNSURE, CANNOT_JUDGE)
    for grade in scheme.grades:
        known |= {grade.name.casefold(): grade.key}
    known |= {grade.key.casefold(): grade.key for grade in scheme.grades}
    keys = {grade.key for grade in scheme.grades} | {CANNOT_JUDGE}
    for said, key in meant.items():
        if key.upper() not in keys:
            raise UsageError(f'"{key}" is no grade of {scheme.name}; there are {", ".join(sorted(keys))}')
        known[said.strip().casefold()] = key.upper()
    return known


def _by_value(said: str, scheme: Scheme) -> str | None:
    """``3.0`` as the one grade of value 3."""
    value = _number(said)
    found = [grade.key for grade in scheme.grades if grade.value == value]
    return found[0] if len(found) == 1 else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _moment(text: str) -> str:
    """A date as the ledger writes it; "" where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return ""
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="seconds")
