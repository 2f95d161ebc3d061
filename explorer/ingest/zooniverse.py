"""Zooniverse's exports of classifications, subjects and workflows, as Panoptes writes them.

What a classification says is read by `explorer.ingest.annotations`. Of who said it a hash is kept, and whether the
session was anonymous; the address and the browser are not even looked at. Every classification is kept with what is
known of it (before launch, a gold-standard answer, seen already, the workflow's version): counting chooses among them.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from explorer.ingest import annotations
from explorer.ingest.aside import Aside
from explorer.ingest.classifications import Parts, Volunteers
from explorer.ingest.matching import LOCATION, Described
from explorer.ingest.recognise import Recognised, column
from explorer.ingest.records import CUT_OFF, Records
from explorer.survey import counted
from explorer.votes import NO_WORKFLOW

#: What a workflow is called, its tasks with their questions and answers, its rule of retirement: by its id as text.
Workflows = dict[str, dict[str, Any]]

#: Names of who took part without an account.
ANONYMOUS = "not-logged-in"
#: The metadata by which a subject is a group of others, and that which names them.
_GROUP, _MEMBERS = "#subject_group_id", "#group_subject_ids"
#: When a classification began to name a grid's members beside the group, and when it ceased to name the group.
_NAMES_BOTH, _NAMES_MEMBERS = "2025-09-22", "2026-01-16"
_NOTHING = ("", "na", "nan", "none", "null")
_BATCH = 4_096

NO_ID = "the classification id is no number"
NO_WORKFLOW_ID = "the workflow id is no number"
NO_SUBJECT = "it names no subject"
NO_ANNOTATION = "it has no annotation"
NO_MEMBERS = "a grid without the ids of its members"
NO_SUBJECT_ID = "the subject id is no number"
NOT_KNOWN = "annotations are of a shape that is not known"

_ID = re.compile(r"[0-9]{1,18}")


def not_json(name: str) -> str:
    """The reason for a cell that should be JSON."""
    return f"{name} is not JSON"


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(text)  # takes NaN, which some writers of JSON write
            json.dumps(value, ensure_ascii=False).encode()  # and halves of characters, which nothing can write
        except RecursionError:
            raise ValueError from None
        return value


def _said_true(text: str) -> bool | None:
    """A cell of a flag; None where it says nothing."""
    word = text.strip().lower()
    return None if word in _NOTHING else word in ("true", "t", "1", "yes")


def _json(name: str, text: str, kind: type) -> Any:
    """A cell of JSON; an empty one is empty.

    Raises
    ------
    ValueError
        It is not JSON, or not of that kind; the message is the reason.
    """
    if not text:
        return kind()
    try:
        value = _loads(text)
    except ValueError:
        raise ValueError(not_json(name)) from None
    if not isinstance(value, kind):
        raise ValueError(f"{name} is JSON of another kind")
    return value


def _is_repeat(metadata: Mapping[str, Any]) -> bool | None:
    """Whether the volunteer had seen the subject, or finished the workflow; None where nothing says so."""
    state = metadata.get("subject_selection_state")
    state = state if isinstance(state, dict) else {}
    seen, again = metadata.get("seen_before"), state.get("already_seen")
    done = state.get("user_has_finished_workflow")
    if seen is None and again is None and done is None:
        return None
    return seen is True or again is True or done is True


def _seconds(metadata: Mapping[str, Any]) -> float | None:
    """How long a classification took, s; None where the clock says what cannot be."""
    try:
        taken = datetime.fromisoformat(metadata["finished_at"]) - datetime.fromisoformat(metadata["started_at"])
    except (KeyError, TypeError, ValueError):
        return None
    seconds = taken.total_seconds()
    return seconds if seconds >= 0 else None


def times_of(texts: list[str]) -> pa.Array:
    """Times as Zooniverse writes them, UTC; null where a text is none."""
    array = pa.array(texts, pa.string())
    times = pc.strptime(array, format="%Y-%m-%d %H:%M:%S UTC", unit="us", error_is_null=True)
    if times.null_count:
        times = pa.array([t if t is not None else _time(x) for t, x in zip(times.to_pylist(), texts, strict=True)])
    return times.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text.strip().replace(" UTC", "+00:00"))
    except ValueError:
        return None
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


class Classifications:
    """A classification export on its way into `Parts`.

    Attributes
    ----------
    workflows
        Names of workflows and questions, as the classifications tell them.
    """

    def __init__(
        self,
        recognised: Recognised,
        parts: Parts,
        volunteers: Volunteers,
        described: Described,
        told: Workflows,
        aside: Aside,
    ) -> None:
        self._parts, self._volunteers, self._described, self._aside = parts, volunteers, described, aside
        self._records = Records(recognised.source, recognised.delimiter)
        self._source = recognised.source
        self._told = {key: workflow.get("tasks", {}) for key, workflow in told.items()}
        self.workflows: Workflows = {}
        self._counts: Counter[str] = Counter()
        columns = self._records.header
        found = {name: column(columns, (name,)) for name in _COLUMNS}
        self._at = {name: columns.index(there) for name, there in found.items() if there is not None}
        # cells in the order of _COLUMNS; of a column that is not there, the one that `_take` puts behind the last
        self._cells = itemgetter(*(self._at.get(name, len(columns)) for name in _COLUMNS))
        self._missing = [name for name in _COLUMNS if found[name] is None and name != "workflow_name"]
        self._seen: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self._class: list[tuple[Any, ...]] = []
        self._rows: tuple[list[int], list[int], list[str], list[str]] = ([], [], [], [])

    def read(self) -> Iterator[int]:
        """Read all of it; gives the characters read so far, now and then."""
        parts, records, at = self._parts, self._records, self._at
        for line, fields in records:
            parts.n_rows += 1
            if isinstance(fields, str):
                self._refuse(line, None, fields)
                continue
            try:
                self._take(line, fields)
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
                reason = str(error) if type(error) is ValueError else NOT_KNOWN
                if records.go_back():
                    reason = "a quotation mark that is not closed"
                self._refuse(line, fields[at["classification_id"]], reason)
            if len(self._class) >= _BATCH:
                self._write()
                yield records.n_read
        self._write()
        parts.notes += self._notes()

    def _refuse(self, line: int, id_: str | None, reason: str) -> None:
        self._parts.n_bad += 1
        shown = id_ if id_ and _ID.fullmatch(id_) else None  # else it may be anything, a name too
        self._aside.add(self._source.name, line, shown, reason, self._source.key)

    def _take(self, line: int, fields: list[str]) -> None:
        """One classification.

        Raises
        ------
        ValueError
            It cannot be taken; the message is the reason.
        """
        fields.append("")
        (
            text,
            user_name,
            user_id,
            workflow,
            workflow_name,
            version,
            created,
            gold,
            metadata_text,
            annotations_text,
            data_text,
            links_text,
        ) = self._cells(fields)
        text, workflow = text.strip(), workflow.strip()
        if not _ID.fullmatch(text):
            raise ValueError(NO_ID)
        id_ = int(text)
        if workflow and not _ID.fullmatch(workflow):
            raise ValueError(NO_WORKFLOW_ID)
        given = _json("annotations", annotations_text, list)
        metadata = _json("metadata", metadata_text, dict)
        data = _json("subject_data", data_text, dict)
        if not given:
            raise ValueError(NO_ANNOTATION)
        links = [link for text in links_text.split(";") if (link := text.strip())]
        links = links or list(data)
        groups = {i: d for i, d in data.items() if isinstance(d, dict) and (_MEMBERS in d or _GROUP in d)}
        said = annotations.read(given, self._told.get(workflow, {}), bool(groups) or _MEMBERS in metadata)
        if said.grid_task is not None:
            subjects = self._members(links, groups, metadata, created)
            subjects += [subject for subject in said.chosen if subject not in subjects]
            self._counts["of groups"] += len(said.answers)
        else:
            subjects = [link for link in links if link not in groups]
        if not subjects:
            raise ValueError(NO_SUBJECT)
        if not all(map(_ID.fullmatch, subjects)):
            raise ValueError(NO_SUBJECT_ID)
        if not self._source.ends_whole and data and not set(links) <= data.keys() and self._records.is_last():
            raise ValueError(CUT_OFF)
        name, user_id = user_name.strip(), user_id.strip()
        is_anonymous = name.startswith(ANONYMOUS) or (
            user_id.lower() in _NOTHING and "user_id" in self._at and ("user_name" not in self._at or not name)
        )
        if not name or name.lower().rstrip("-") == ANONYMOUS:  # without its session, it would make one of them all
            name = user_id if user_id.lower() not in _NOTHING else f"{ANONYMOUS}-{metadata.get('session') or id_}"
        number = len(self._class)
        live = metadata.get("live_project")
        self._class.append(
            (
                line,
                id_,
                int(workflow) if workflow else NO_WORKFLOW,
                version.strip(),
                name,
                created,
                _seconds(metadata),
                is_anonymous,
                live if isinstance(live, bool) else None,
                _said_true(gold) if gold else None,
                _is_repeat(metadata),
            )
        )
        numbers, codes, tasks, answers = self._rows
        code = self._parts.names.code
        for subject, task, answer in annotations.rows(said, subjects):
            numbers.append(number)
            codes.append(code(subject))
            tasks.append(task)
            answers.append(answer)
        counts = self._counts
        if said.n_texts:
            counts["texts"] += said.n_texts
        if said.n_of_marks:
            counts["of marks"] += said.n_of_marks
        self._describe(subjects, data)
        self._name(workflow, workflow_name, given)

    def _members(
        self, links: list[str], groups: Mapping[str, Any], metadata: Mapping[str, Any], created: str
    ) -> list[str]:
        """The subjects that a grid showed, never the group itself."""
        for named in (*groups.values(), metadata):
            if isinstance(members := named.get(_MEMBERS), str) and members:
                return members.split("-")
        members = [link for link in links if link not in groups and not link.startswith("-")]
        before_members_alone = created[:10] < _NAMES_MEMBERS
        if (before_members_alone and not groups) or created[:10] < _NAMES_BOTH or len(members) < 2:
            raise ValueError(NO_MEMBERS)
        return members

    def _describe(self, subjects: list[str], data: Mapping[str, Any]) -> None:
        for subject in subjects:
            if subject not in self._seen:
                self._seen.add(subject)
                metadata = data.get(subject)
                if isinstance(metadata, dict):
                    known = {key: value for key, value in metadata.items() if key != "retired"}
                    self._described.add(self._parts.names.code(subject), known)

    def _name(self, workflow: str, name: str, given: list[Any]) -> None:
        known = self.workflows.get(workflow)
        if known is None:
            if not workflow:
                return
            known = self.workflows[workflow] = {"tasks": {}}
            if name.strip():
                known["name"] = name.strip()
            self._parts.workflows.add(int(workflow))
        tasks = known["tasks"]
        for annotation in given:
            label = annotation.get("task_label")
            if label and annotation["task"] not in tasks and isinstance(label, str):
                tasks[annotation["task"]] = {"question": label.strip()}

    def _write(self) -> None:
        if self._class:
            held: dict[str, Any] = dict(zip(_OF_CLASSIFICATION, zip(*self._class, strict=True), strict=True))
            held["volunteer"] = self._volunteers.hashes(held["volunteer"])
            held["created_at"] = times_of(held["created_at"])
            numbers, codes, tasks, answers = self._rows
            of_row = pa.array(numbers, pa.int32())
            words = ("workflow_version", "volunteer")
            columns: dict[str, Any] = {}
            for name, values in held.items():
                array = pa.array(values, pa.string()).dictionary_encode() if name in words else pa.array(values)
                columns[name] = array.take(of_row)
            columns |= {"subject": np.array(codes, np.int32), "task": tasks, "answer": answers}
            self._parts.write(columns)
        self._clear()

    def _notes(self) -> list[str]:
        notes = self._source.notes()
        if self._missing:
            notes.append(f"it has no column {', '.join(self._missing)}: what would be there is unknown")
        said = {
            "texts": ("written text", "is no answer and was not kept"),
            "of marks": ("answer to a sub-task of a mark or a choice", "was not kept"),
            "of groups": ("answer to a task on a whole grid", "is no subject's and was not kept"),
        }
        for key, (thing, what) in said.items():
            if n := self._counts[key]:
                several = {"written text": "written texts"}.get(thing, thing.replace("answer", "answers", 1))
                verb = what if n == 1 else what.replace("is no", "are no", 1).replace("was", "were")
                notes.append(f"{n:,} {thing if n == 1 else several} {verb}")
        return notes


_COLUMNS = (
    "classification_id",
    "user_name",
    "user_id",
    "workflow_id",
    "workflow_name",
    "workflow_version",
    "created_at",
    "gold_standard",
    "metadata",
    "annotations",
    "subject_data",
    "subject_ids",
)
_OF_CLASSIFICATION = (
    "line",
    "classification_id",
    "workflow_id",
    "workflow_version",
    "volunteer",
    "created_at",
    "seconds",
    "is_anonymous",
    "is_live",
    "is_gold",
    "is_repeat",
)


def read_subjects(recognised: Recognised, parts: Parts, described: Described, aside: Aside) -> Iterator[int]:
    """Ids and metadata of a subject export; gives the characters read so far, now and then.

    A subject that is in several workflows or sets has several rows, of which the first counts.
    """
    source, records = recognised.source, Records(recognised.source, recognised.delimiter)
    at = {name: records.header.index(name) for name in records.header}
    seen: set[str] = set()
    for line, fields in records:
        parts.n_rows += 1
        id_ = None
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            id_ = fields[at["subject_id"]].strip()
            if not id_.isdigit():
                raise ValueError(NO_SUBJECT_ID)
            metadata = _object(fields, at, "metadata")
            locations = _object(fields, at, "locations")
        except ValueError as error:
            records.go_back()
            parts.n_bad += 1
            aside.add(source.name, line, id_ and id_[:40], str(error), source.key)
            continue
        code = parts.names.code(id_)
        parts.rows.append((line, code))
        if id_ not in seen:
            seen.add(id_)
            places = [str(place).rsplit("/", 1)[-1] for place in locations.values() if isinstance(place, str)]
            described.add(code, {**metadata, **({LOCATION: places[0]} if places else {})})
        if not parts.n_rows % _BATCH:
            yield records.n_read
    parts.notes += source.notes()
    if again := parts.n_rows - parts.n_bad - len(seen):
        parts.notes.append(f"{counted(again, 'row')} of subjects that an earlier row has: one per workflow and set")


def _object(fields: list[str], at: Mapping[str, int], name: str) -> dict[str, Any]:
    text = fields[at[name]] if name in at else ""
    try:
        value = _loads(text) if text else {}
    except ValueError:
        raise ValueError(not_json(name)) from None
    if isinstance(value, list):  # locations as the API has them
        value = {str(place): item for place, item in enumerate(value)}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is JSON of another kind")
    return value


def read_workflows(recognised: Recognised, aside: Aside) -> tuple[Workflows, int, int, list[str]]:
    """Names of workflows, tasks and answers, of the latest version of each; rows, rows set aside, and notes."""
    source, records = recognised.source, Records(recognised.source, recognised.delimiter)
    at = {name: records.header.index(name) for name in records.header}
    found: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
    n = n_bad = 0
    for line, fields in records:
        n += 1
        id_ = None
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            cell = {name: fields[place] for name, place in at.items()}
            id_ = cell["workflow_id"].strip()
            if not id_.isdigit():
                raise ValueError(NO_WORKFLOW_ID)
            version = (_whole(cell.get("version", "")), _whole(cell.get("minor_version", "")))
            strings = _object(fields, at, "strings")
            tasks = {key: _task(task, strings) for key, task in _object(fields, at, "tasks").items()}
            known = {
                "name": cell.get("display_name", ""),
                "version": f"{version[0]}.{version[1]}",
                "tasks": tasks,
                "retirement": _object(fields, at, "retirement"),
            }
        except ValueError as error:
            records.go_back()
            n_bad += 1
            aside.add(source.name, line, id_ and id_[:40], str(error), source.key)
            continue
        if id_ not in found or version >= found[id_][0]:
            found[id_] = (version, known)
    return {id_: known for id_, (_, known) in found.items()}, n, n_bad, source.notes()


def _whole(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _task(task: Any, strings: Mapping[str, Any]) -> dict[str, Any]:
    """A task's type, question and answers, in the workflow's own language."""
    if not isinstance(task, dict):
        return {}

    def words(key: Any) -> str:
        return str(strings.get(key, key)) if isinstance(key, str) else ""

    told: dict[str, Any] = {"type": task.get("type", "")}
    if question := words(task.get("question") or task.get("instruction")):
        told["question"] = question.strip()
    for name in ("answers", "tools"):
        if isinstance(items := task.get(name), list):
            told[name] = [words(item.get("label")) if isinstance(item, dict) else "" for item in items]
    if isinstance(details := task.get("details"), list) and details:
        told["details"] = [_task(detail, strings) for detail in details]
    return told


def merged(before: Workflows, new: Workflows) -> Workflows:
    """What is known of workflows, the new where both say something; a task's type and answers are not forgotten."""
    result = {key: {**workflow, "tasks": dict(workflow.get("tasks", {}))} for key, workflow in before.items()}
    for key, workflow in new.items():
        known = result.setdefault(key, {"tasks": {}})
        tasks = known["tasks"]
        for task, told in workflow.get("tasks", {}).items():
            tasks[task] = {**tasks.get(task, {}), **told}
        known.update({name: value for name, value in workflow.items() if name != "tasks"})
    return result
