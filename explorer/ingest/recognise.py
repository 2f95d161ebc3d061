"""What a file of volunteers' work is, told by what is in it and never by its name."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from explorer.errors import IngestError
from explorer.ingest.records import Source, first_lines

Kind = Literal[
    "classifications",
    "subjects",
    "workflows",
    "votes",
    "gold",
    "reduced",
    "outcomes",
    "experience",
    "talk_comments",
    "talk_tags",
]

#: Each kind for a person.
WORDS: dict[Kind, str] = {
    "classifications": "classification export",
    "subjects": "subject export",
    "workflows": "workflow export",
    "votes": "flat votes",
    "gold": "gold labels",
    "reduced": "reduced consensus table",
    "outcomes": "table of outcomes",
    "experience": "table of experience",
    "talk_comments": "Talk comments",
    "talk_tags": "Talk tags",
}

#: Names by which columns are known, the usual first.
SUBJECT = ("subject_id", "subject_ids", "item", "subject", "task_id", "question", "object", "id")
ITEM = (*SUBJECT, "task")  # of single votes
VOLUNTEER = ("user_name", "worker", "volunteer", "user", "annotator", "worker_id", "user_id", "performer")
ANSWER = ("label", "task_answer", "answer", "response", "vote")
TRUTH = ("truth", "true_label", "gold", "gold_label")
VIEWS = ("count", "n_classifications", "classifications_count", "classifications", "n_views", "n", "total")
CHOSEN = ("selected_count", "n_chosen", "selected", "chosen", "k", "n_selected", "yes")
PEOPLE = ("unique_user_count", "n_volunteers", "n_users", "unique_users")
CHOSEN_PEOPLE = ("n_chosen_volunteers",)
ELSEWHERE = ("n", "n_elsewhere", "n_classifications", "classifications", "classification_count", "count")

#: A table whose first cells these are has no header.
_NUMBERS = re.compile(r"^-?[0-9.]+$")


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file is.

    Attributes
    ----------
    columns
        Names of the columns; of JSON, the keys of the first element.
    delimiter
        "," "\\t" ";" or " " (any number of blanks); "" of JSON.
    """

    source: Source
    kind: Kind
    columns: tuple[str, ...]
    delimiter: str

    @property
    def what(self) -> str:
        """The kind in words."""
        return WORDS[self.kind]


def column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `names` that is a column, in any case; None where none is."""
    lower = {name.lower(): name for name in reversed(columns)}
    return next((lower[name] for name in names if name in lower), None)


def recognise(source: Source) -> Recognised:
    """What a file is.

    Raises
    ------
    IngestError
        Nothing that is known: the message says what was found in it.
    """
    lines = first_lines(source, 4)
    start = "".join(lines)[:_LONGEST].lstrip()
    if not start:
        raise IngestError(f"{source.path} is empty")
    if start[0] in "[{":
        return _json(source, start)
    if "\0" in start or lines[0].startswith(("PK\x03\x04", "\x1f")):
        raise IngestError(f"{source.path} is no text; unpack it, or export it as CSV or JSON")
    delimiter, columns = _header(lines[0])
    lower = {name.lower() for name in columns}
    kind = _kind_of(lower, columns)
    if kind is None:
        raise IngestError(f"{source.path} is not recognised: {_found(columns)}; {_known(lower)}")
    if len(lines) == 1:
        raise IngestError(f"{source.path} has the columns of: {WORDS[kind]}; and no row")
    return Recognised(source, kind, columns, delimiter)


_LONGEST = 1 << 20


def _header(line: str) -> tuple[str, tuple[str, ...]]:
    """How columns are told apart, and their names."""
    line = line.rstrip("\r\n")
    for delimiter in (",", "\t", ";"):
        if delimiter in line:
            return delimiter, tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter)))
    return " ", tuple(line.split())


def _kind_of(lower: set[str], columns: Sequence[str]) -> Kind | None:
    """The kind of a table with these columns; what is most particular first."""
    has_subject = bool(lower & set(SUBJECT))
    if {"classification_id", "annotations"} <= lower and lower & {"subject_ids", "subject_data"}:
        return "classifications"
    if {"subject_id", "metadata"} <= lower and lower & {"locations", "subject_set_id"}:
        return "subjects"
    if {"workflow_id", "tasks"} <= lower:
        return "workflows"
    if "classification_id" in lower and not lower & set(ANSWER):
        return None  # an extraction: one row per classification, and none of what it says is known here
    if lower & set(ITEM) and lower & set(VOLUNTEER) and lower & set(ANSWER):
        return "votes"
    if lower & set(ITEM) and lower & set(TRUTH):
        return "gold"
    if has_subject and ("data" in lower or any(name.startswith("data.") for name in lower)):
        return "reduced"
    if has_subject and lower & set(VIEWS) and lower & set(CHOSEN):
        return "reduced"
    if has_subject and lower & set(VIEWS) and len(lower) > 2:
        return "outcomes"
    if lower & set(VOLUNTEER) and lower & set(ELSEWHERE) and not has_subject and len(columns) <= 4:
        return "experience"
    return None


def _json(source: Source, start: str) -> Recognised:
    """Talk: the keys of the first element, taken from the text, for the whole may be longer than memory."""
    keys = tuple(dict.fromkeys(re.findall(r'"([A-Za-z_]+)"\s*:', start[:20_000])))
    if {"comment_body", "comment_id"} <= set(keys):
        return Recognised(source, "talk_comments", keys, "")
    if {"name", "taggable_id"} <= set(keys):
        return Recognised(source, "talk_tags", keys, "")
    raise IngestError(
        f"{source.path} is not recognised: JSON, {_found(keys)}; Talk's comments have comment_id and comment_body, its "
        "tags have name and taggable_id"
    )


def _found(columns: Sequence[str]) -> str:
    """What the columns are, in words."""
    names = [name if len(name) <= 40 else f"{name[:40]}…" for name in columns[:12]]
    if not names:
        return "it names no columns"
    if all(_NUMBERS.match(name) for name in names):
        return f"its first line ({', '.join(names)}) names no columns"
    return f"its columns are {', '.join(names)}{', …' if len(columns) > 12 else ''}"


def _known(lower: set[str]) -> str:
    """What a file must have, that which it comes nearest to first."""
    if "classification_id" in lower:
        return "a classification export has classification_id, annotations and subject_ids too"
    if lower & set(SUBJECT):
        return (
            "beside its subjects a table needs votes (item,worker,label), the truth (item,truth), or counts "
            "(subject_id,count,selected_count)"
        )
    return (
        "known are exports of Zooniverse (classifications, subjects, workflows; comments and tags of Talk), reduced "
        "tables (subject_id,count,selected_count), votes (item,worker,label), gold labels (item,truth) and experience "
        "(user_name,n)"
    )
