"""What one classification says: its annotations as answers, whatever kind of task they answer.

==================================  =========================================================================
task                                answers
==================================  =========================================================================
question, one answer or several     the labels
survey                              the choices; what was said of each choice is not kept
drawing                             the tools that were used, each once: "was anything marked as a …?"
dropdown, slider                    what was chosen
grid (subjectGroupComparison)       of each member: "chosen", or nothing; a cell's sub-tasks, of that member
combination, shortcut               those of the tasks in them
text, transcription                 nothing: what was written is no answer that two people could share
==================================  =========================================================================

Of sub-tasks of single marks nothing is kept. No answer at all is one, too: the subject was seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from explorer.votes import CHOSEN

#: task → its workflow's answers by number, and its type, where a workflow export told them.
Tasks = Mapping[str, Mapping[str, Any]]

_GRID = "subjectGroupComparison"
_TEXTS = ("text", "transcription", "textFromSubject")


@dataclass(slots=True)
class Said:
    """What one classification says.

    Attributes
    ----------
    answers
        Task → the answers to it, each once, in the order given; [] where nothing was answered.
    grid_task
        The task of the grid; None where there is none.
    chosen
        Of a grid: the members that were chosen → sub-task → its answers.
    n_texts
        Texts that were written, which are no answers.
    n_of_marks
        Answers to sub-tasks of marks, and of survey choices, which are not kept.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    grid_task: str | None = None
    chosen: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    n_texts: int = 0
    n_of_marks: int = 0


def read(annotations: Iterable[Any], tasks: Tasks, is_grid: bool = False) -> Said:
    """What annotations say.

    Parameters
    ----------
    annotations
        A classification's, as JSON gives them: ``[{"task": "T0", "value": …}]``.
    tasks
        Of the workflow, as far as they are known.
    is_grid
        Whether the subject is a group of subjects: a task without choices is the grid's then.

    Raises
    ------
    ValueError
        They are no annotations; the message is the reason.
    """
    said = Said()
    of_cells: list[Mapping[str, Any]] = []
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("task"), str):
            raise ValueError("annotations are not of the shape [{task, value}]")
        if "cellIndex" in annotation or ".cell." in annotation["task"]:
            of_cells.append(annotation)
        elif "markIndex" in annotation:
            said.n_of_marks += 1
        else:
            _read_one(annotation, tasks, is_grid, said)
    for annotation in of_cells:
        _read_cell(annotation, annotations, tasks, said)
    return said


def _read_one(annotation: Mapping[str, Any], tasks: Tasks, is_grid: bool, said: Said) -> None:
    task, value = annotation["task"], annotation.get("value")
    told = tasks.get(task, {})
    kind = annotation.get("taskType") or told.get("type")
    if kind == _GRID or (is_grid and value == [] and kind is None) or _is_cells(value):
        _read_grid(task, value, told, said)
        return
    answers = said.answers.setdefault(task, [])
    if kind in _TEXTS:
        said.n_texts += bool(value)
        return
    if isinstance(value, str):  # by far the most frequent
        if value and value not in answers:
            answers.append(value)
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and isinstance(item.get("task"), str):
            if not answers:
                said.answers.pop(task, None)  # a combination is no question itself
            _read_one(item, tasks, is_grid, said)
            continue
        answer = _answer(item, told, said)
        if answer and answer not in answers:
            answers.append(answer)


def _answer(item: Any, told: Mapping[str, Any], said: Said) -> str | None:
    """One value as an answer; None where it is none."""
    if item is None:
        return None
    if isinstance(item, str):
        return item
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int | float):
        known = told.get("answers") or ()
        return str(known[item]) if isinstance(item, int) and 0 <= item < len(known) else str(item)
    if not isinstance(item, dict):
        raise ValueError("an annotation's value is a list within a list")
    if "choice" in item:
        said.n_of_marks += bool(item.get("answers"))
        return str(item["choice"])
    if "option" in item or ("value" in item and len(item) <= 2):  # of a dropdown
        chosen = item.get("label", item.get("value"))
        return None if chosen is None or isinstance(chosen, dict | list) else str(chosen)
    label = item.get("labelInformation")
    if isinstance(label, dict) and label.get("label"):
        return str(label["label"])
    if "text" in item and "tool" not in item and "toolIndex" not in item:
        said.n_texts += 1
        return None
    said.n_of_marks += any(_is_said(detail) for detail in item.get("details") or ())
    if item.get("tool_label"):
        return str(item["tool_label"])
    number, tools = item.get("tool", item.get("toolIndex")), told.get("tools") or ()
    if isinstance(number, int) and 0 <= number < len(tools):
        return str(tools[number])
    return "marked" if number is None else f"tool {number}"


def _is_said(detail: Any) -> bool:
    return isinstance(detail, dict) and detail.get("value") not in (None, "", [])


def _is_cells(value: Any) -> bool:
    """Whether a value names cells of a grid."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(cell, dict) and "subject" in cell and "index" in cell for cell in value)
    )


def _read_grid(task: str, value: Any, told: Mapping[str, Any], said: Said) -> None:
    said.grid_task = task
    if value is None:
        return
    if not isinstance(value, list) or (value and not _is_cells(value)):
        raise ValueError("a grid's value is not of the shape [{index, subject}]")
    for cell in value:
        details = said.chosen.setdefault(str(cell["subject"]), {})
        for place, detail in enumerate(cell.get("details") or ()):
            if _is_said(detail):
                _add(details, place, detail["value"], _sub_task(told, place), said)


def _read_cell(annotation: Mapping[str, Any], annotations: Iterable[Any], tasks: Tasks, said: Said) -> None:
    """A sub-task of a cell that stands as an annotation of its own, which the cell names."""
    for grid in annotations:
        for cell in (grid.get("value") if grid["task"] == said.grid_task else None) or ():
            for place, detail in enumerate(cell.get("details") or ()):
                if detail.get("task") == annotation["task"]:
                    told = _sub_task(tasks.get(grid["task"], {}), place)
                    _add(said.chosen[str(cell["subject"])], place, annotation.get("value"), told, said)
                    return
    said.n_of_marks += 1


def _sub_task(told: Mapping[str, Any], place: int) -> Mapping[str, Any]:
    known = told.get("details") or ()
    found: Mapping[str, Any] = known[place] if place < len(known) else {}
    return found


def _add(details: dict[str, list[str]], place: int, value: Any, told: Mapping[str, Any], said: Said) -> None:
    """Answers to sub-task number `place` of a cell."""
    for item in value if isinstance(value, list) else [value]:
        answer = _answer(item, told, said)
        if answer:
            details.setdefault(f".{place}", []).append(answer)


def rows(said: Said, subjects: list[str]) -> list[tuple[str, str, str]]:
    """(subject, task, answer) of a classification; answer "" where nothing was chosen.

    Parameters
    ----------
    subjects
        Those that were seen; of a grid its members. An answer to another task than the grid's is the group's, and no
        member's.
    """
    if said.grid_task is not None:
        task = said.grid_task
        found = []
        for subject in subjects:
            details = said.chosen.get(subject)
            found.append((subject, task, "" if details is None else CHOSEN))
            for place, answers in (details or {}).items():
                found += [(subject, task + place, answer) for answer in dict.fromkeys(answers)]
        return found
    return [
        (subject, task, answer)
        for subject in subjects
        for task, answers in said.answers.items()
        for answer in answers or ("",)
    ]
