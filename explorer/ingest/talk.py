"""Exports of Talk: tags and comments, JSON arrays of flat objects, read one element at a time.

An element that is not JSON is set aside with its number, and reading goes on at the next. Only what is said of a
subject is taken: a comment on a board or in a discussion is about no subject. Names become hashes at the door, in the
text of a comment too where it speaks to somebody (``@name``, or a link to a profile).
"""

import codecs
import contextlib
import json
import re
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explorer.errors import IngestError
from explorer.ingest.aside import Aside, Taken
from explorer.ingest.tags import TagGroups, with_groups
from explorer.survey import Survey, counted
from explorer.votes import TALK_COMMENTS_SCHEMA, TALK_TAGS_SCHEMA, volunteer_hash

#: Characters that are read at once.
CHUNK = 1 << 20
#: Characters of one element; a longer one is no comment.
LONGEST = 1 << 24
NOT_JSON = "is not JSON"
NO_OBJECT = "is no object"
NO_SUBJECT = "is about no subject"
NO_ID = "has no id"
NO_TAG = "has no tag"
NO_TEXT = "has no text"
UNKNOWN = "its subject is not in the survey"
#: Whom ``@…`` means on Talk when it means no one in particular.
_EVERYBODY = frozenset(
    ("someone", "admins", "moderators", "researchers", "scientists", "team", "support", "translators")
)
_NEXT = re.compile(r"\}\s*,?\s*(?=\{\s*\")")  # within a JSON text `"` is escaped, so this stands between two elements
_BLANK = re.compile(r"[\s,]*")
_ADDRESSED = re.compile(r"(?<![\w@./])@([A-Za-z0-9][\w.-]*\w)|(?<=/users/)([\w.-]*\w)")
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


# ------------------------------------------------------------------------------------------------------- elements
def elements(path: Path) -> Iterator[tuple[int, Any, bool]]:
    """The elements of a JSON array, of any size, in flat memory.

    Yields
    ------
    tuple
        Number from 1; the element; whether it could be read (where not, the element is None). Objects one after
        another, a line each, read the same.

    Raises
    ------
    IngestError
        The file begins with neither "[" nor "{".
    """
    with contextlib.closing(_characters(path)) as parts:
        yield from _elements(parts, path.name)


def _elements(parts: Iterator[str], name: str) -> Iterator[tuple[int, Any, bool]]:
    is_over, text, at, n = False, "", 0, 0
    decode = json.JSONDecoder(strict=False).raw_decode

    def more() -> bool:
        nonlocal text, at, is_over
        part = next(parts, "")
        text, at, is_over = text[at:] + part, 0, is_over or not part
        return not is_over

    while not text.strip() and more():
        pass
    at = _BLANK.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
    if text[at : at + 1] not in ("[", "{"):
        raise IngestError(f"{name} is no Talk export: it begins with {text[at : at + 20]!r}, not with a JSON array")
    is_array = text[at] == "["
    at += is_array
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            if not more():
                if is_array:  # it was cut off: "]" is missing
                    yield n + 1, None, False
                return
            continue
        if text[at] == "]":
            return
        try:
            element, end = decode(text, at)
            if end == len(text) and not isinstance(element, dict | list) and more():
                continue  # a number may go on
        except (ValueError, RecursionError):
            after = _NEXT.search(text, at)
            if after is None and len(text) - at < LONGEST and more():
                continue
            n += 1
            yield n, None, False
            if after is None and is_over:
                return
            at = after.end() if after else len(text)
            continue
        n, at = n + 1, end
        yield n, element, True


def _characters(path: Path) -> Generator[str, None, None]:
    """A file's text, a part at a time; bytes that are no UTF-8 become lone surrogates, for `_text` to see."""
    with path.open("rb") as handle:
        is_wide = handle.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        handle.seek(0)
        decoder = codecs.getincrementaldecoder("utf-16" if is_wide else "utf-8-sig")("surrogateescape")
        while part := handle.read(CHUNK):
            if text := decoder.decode(part):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text


# ----------------------------------------------------------------------------------------------------------- tags
def ingest_tags(survey: Survey, path: Path, source: str, aside: Aside, before: pa.Table) -> Taken:
    """Take the tags of a Talk export.

    Parameters
    ----------
    source
        The first 16 digits of the file's sha256.
    aside
        Gets what could not be taken.
    before
        The tags that the survey has, by `TALK_TAGS_SCHEMA`.

    Returns
    -------
    Taken
        With `table`: the tags from before, then those that are new by Talk's own id (without one: by subject, tag,
        volunteer and time); all grouped by the map that the survey has now.

    Raises
    ------
    IngestError
        The file is no JSON array.
    SurveyError
        The survey's ``tag_groups.toml`` is no map of tags.
    """
    groups = TagGroups.of(survey.path)
    reading = _Reading(survey, path, source, aside)
    known = set(before["tag_id"].drop_null().to_pylist())
    for number, element in reading.objects():
        id_ = _whole(element.get("id"))
        tag = _text(element.get("name"))
        subject = reading.subject(number, id_, element.get("taggable_type"), element.get("taggable_id"))
        if subject is None:
            continue
        if tag is None or not tag.strip(" #"):
            reading.set_aside(number, id_, NO_TAG)
        elif id_ in known:
            reading.n_known += 1
        else:
            if id_ is not None:
                known.add(id_)
            reading.keep(number, id_, subject, element, "user", tag.strip().lstrip("#").strip().lower())
    subjects, volunteers, at, fresh = reading.joined()
    columns = {
        "subject_id": subjects,
        "tag": [row[-1] for row in fresh],
        "volunteer": volunteers,
        "created_at": at,
        "tag_id": [row[1] for row in fresh],
        "source": [source] * len(fresh),
    }
    table = pa.table(
        [pa.array(columns.get(f.name, [None] * len(fresh)), f.type) for f in TALK_TAGS_SCHEMA], TALK_TAGS_SCHEMA
    )
    table, n_again = _unlike(before, table)
    reading.n_known += n_again
    return reading.taken("talk_tags", "Talk tags", len(table), with_groups(_both(before, table), groups))


def _unlike(before: pa.Table, table: pa.Table) -> tuple[pa.Table, int]:
    """Of tags without an id those that are not there already, and how many are."""
    keys = ("subject_id", "tag", "volunteer", "created_at")
    if not table["tag_id"].null_count:
        return table, 0
    there = before.filter(pc.is_null(before["tag_id"]))
    seen = set(zip(*(there[key].to_pylist() for key in keys), strict=True))
    keep = []
    for id_, *told in zip(*(table[key].to_pylist() for key in ("tag_id", *keys)), strict=True):
        keep.append(id_ is not None or tuple(told) not in seen)
        if id_ is None:
            seen.add(tuple(told))
    return table.filter(pa.array(keep)), keep.count(False)


# ------------------------------------------------------------------------------------------------------- comments
def ingest_comments(survey: Survey, path: Path, source: str, aside: Aside, before: pa.Table) -> Taken:
    """Take the comments of a Talk export; see `ingest_tags`.

    Returns
    -------
    Taken
        With `table`: the comments from before, then those that are new by Talk's own id.

    Raises
    ------
    IngestError
        The file is no JSON array.
    """
    reading = _Reading(survey, path, source, aside)
    known = set(before["comment_id"].to_pylist())
    for number, element in reading.objects():
        id_ = _whole(element.get("comment_id"))
        text = _text(element.get("comment_body"))
        focus = element.get("comment_focus_type"), element.get("comment_focus_id")
        subject = reading.subject(number, id_, *focus)
        if subject is None:
            continue
        if id_ is None:
            reading.set_aside(number, id_, NO_ID)
        elif text is None or not text.strip():
            reading.set_aside(number, id_, NO_TEXT)
        elif id_ in known:
            reading.n_known += 1
        else:
            known.add(id_)
            about = _text(element.get("board_title")) or "", _text(element.get("discussion_title")) or ""
            reading.keep(number, id_, subject, element, "comment_user", *about, text.strip())
    subjects, volunteers, at, fresh = reading.joined()
    texts = _without_names([row[-1] for row in fresh], survey.info.survey_id)
    columns = {
        "comment_id": [row[1] for row in fresh],
        "subject_id": subjects,
        "volunteer": volunteers,
        "created_at": at,
        "board": [row[-3] for row in fresh],
        "discussion": _without_names([row[-2] for row in fresh], survey.info.survey_id),
        "text": texts,
        "source": [source] * len(fresh),
    }
    table = pa.table([pa.array(columns[f.name], f.type) for f in TALK_COMMENTS_SCHEMA], TALK_COMMENTS_SCHEMA)
    return reading.taken("talk_comments", "Talk comments", len(table), _both(before, table))


def _without_names(texts: list[str], survey_id: str) -> list[str]:
    """Texts in which whoever is addressed is called as everywhere else in the survey."""
    names = {a or b for text in texts for a, b in _ADDRESSED.findall(text) if (a or b).lower() not in _EVERYBODY}
    called = dict(zip(names, volunteer_hash(names, survey_id), strict=True))

    def renamed(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return f"{'@' if match[1] else ''}{called.get(name, name)}"

    return [_ADDRESSED.sub(renamed, text) for text in texts]


# --------------------------------------------------------------------------------------------------- what both have
class _Reading:
    """One file on its way in: what was kept so far, and what was counted."""

    def __init__(self, survey: Survey, path: Path, source: str, aside: Aside) -> None:
        self.survey, self.path, self.source, self.aside = survey, path, source, aside
        self.n_rows = self.n_known = self.n_replaced = 0
        self._rows: list[tuple[Any, ...]] = []

    def objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The elements that are objects, by number."""
        for number, element, is_read in elements(self.path):
            self.n_rows = number
            if isinstance(element, dict):
                yield number, element
            else:
                self.set_aside(number, None, NO_OBJECT if is_read else NOT_JSON)

    def subject(self, number: int, id_: int | None, kind: object, given: object) -> int | None:
        """The Zooniverse's number of the subject that an element is about, or None: it is set aside then."""
        found = _whole(given) if kind == "Subject" else None
        if found is None:
            self.set_aside(number, id_, NO_SUBJECT)
        return found

    def keep(self, number: int, id_: int | None, subject: int, element: dict[str, Any], user: str, *told: str) -> None:
        """One element to take: `user` is what the keys of who and when begin with."""
        who = element.get(f"{user}_login") or element.get(f"{user}_id")
        name = _text(str(who)) if isinstance(who, str | int) else None
        at = element.get("comment_created_at" if user == "comment_user" else "created_at")
        self.n_replaced += any("\ufffd" in text for text in told)
        self._rows.append((number, id_, subject, name, _moment(at), *told))

    def set_aside(self, number: int, id_: int | None, reason: str) -> None:
        self.aside.add(self.path.name, number, None if id_ is None else str(id_), reason, self.source)

    def joined(self) -> tuple[list[int], list[str | None], list[datetime | None], list[tuple[Any, ...]]]:
        """Subjects of the survey, hashes, times and rows of what was kept; other subjects are set aside."""
        subjects = subjects_of(self.survey, [row[2] for row in self._rows])
        fresh = []
        for row, subject in zip(self._rows, subjects, strict=True):
            if subject < 0:
                self.set_aside(row[0], row[1], UNKNOWN)
            else:
                fresh.append(row)
        names = sorted({row[3] for row in fresh if row[3]})
        called = dict(zip(names, volunteer_hash(names, self.survey.info.survey_id), strict=True))
        return subjects[subjects >= 0].tolist(), [called.get(r[3]) for r in fresh], [r[4] for r in fresh], fresh

    def taken(self, kind: str, what: str, n_taken: int, table: pa.Table) -> Taken:
        """What the file gave."""
        notes = []
        if self.n_replaced:
            notes.append(f"{counted(self.n_replaced, 'text')} had characters that are none, now \ufffd")
        return Taken(
            kind=kind,
            file=self.path.name,
            what=what,
            n_rows=self.n_rows,
            n_taken=n_taken,
            n_known=self.n_known,
            n_aside=self.aside.count(self.source),
            notes=tuple(notes),
            table=table,
        )


def subjects_of(survey: Survey, zooniverse_ids: list[int]) -> np.ndarray:
    """The survey's own ids of the Zooniverse's subjects: int64, -1 for those that it does not have.

    They are those of the column ``zooniverse_subject_id``, else the ids that the source itself gave.
    """
    wanted = pa.array(zooniverse_ids, pa.int64())
    found = np.full(len(wanted), -1, np.int64)
    for column in ("source_id", "zooniverse_subject_id"):  # the second counts more
        there = survey.arrow(column).cast(pa.string())
        rows = (
            pc.index_in(wanted.cast(pa.string()), there, skip_nulls=True).fill_null(-1).to_numpy(zero_copy_only=False)
        )
        found = np.where(rows >= 0, survey.subject_ids[np.maximum(rows, 0)], found)
    return found


def _both(before: pa.Table, table: pa.Table) -> pa.Table:
    return pa.concat_tables([before.cast(table.schema), table]).unify_dictionaries()


def _whole(value: object) -> int | None:
    """A whole number of 0 to 2⁶³ − 1, also where it is written as text; else None."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 30:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


def _text(value: object) -> str | None:
    """A text without what cannot be written or shown; None for anything else."""
    if not isinstance(value, str):
        return None
    return _UNFIT.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))


def _moment(value: object) -> datetime | None:
    """A time in UTC, or None."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip().replace(" UTC", "+00:00"))
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
