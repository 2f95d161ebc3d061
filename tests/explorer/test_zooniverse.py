"""What exports of Zooniverse say becomes votes: every kind of task, all three ways of grids, and real exports."""

import contextlib
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from explorer.ingest import annotations
from explorer.survey import Survey
from explorer.votes import CLASSIFICATIONS, GOLD, SOURCES
from tests.explorer.exports import aside, row, taken_in, votes, write_export

MEMBERS = ["502", "503", "504", "505"]


def answers_to(value: Any, **told: Any) -> list[str]:
    """The answers of one annotation to T0."""
    tasks = {"T0": told} if told else {}
    return annotations.read([{"task": "T0", "value": value}], tasks).answers["T0"]


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("Yes", ["Yes"]),
        (["Ring", "Arc", "Ring"], ["Ring", "Arc"]),
        ([], []),
        (None, []),
        ([None], []),
        ("", []),
        (True, ["yes"]),
        (2, ["2"]),
        ([{"choice": "ZEBRA", "answers": {"HWMN": "2"}}, {"choice": "LION", "answers": {}}], ["ZEBRA", "LION"]),
        ([{"x": 1, "y": 2, "tool": 0, "tool_label": "Arc"}, {"x": 3, "tool": 0, "tool_label": "Arc"}], ["Arc"]),
        ([{"pathX": [1, 2], "pathY": [1, 2], "toolIndex": 1, "tool_label": None}], ["tool 1"]),
        ([{"value": "a1b2", "option": True, "label": "Spiral"}], ["Spiral"]),
        ([{"text": "a word", "start": 0, "end": 6, "labelInformation": {"label": "Noun"}}], ["Noun"]),
        ([{"text": "written by hand"}], []),
        ({"x": 1, "y": 2, "width": 3, "height": 4}, ["marked"]),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_every_kind_of_task_has_its_answers(value: Any, answers: list[str]) -> None:
    assert answers_to(value) == answers


def test_numbers_are_the_answers_that_the_workflow_tells() -> None:
    assert answers_to([0, 2], answers=["Ring", "Arc", "Jet"]) == ["Ring", "Jet"]
    assert answers_to(7, answers=["Ring"]) == ["7"]
    assert answers_to([{"x": 1, "tool": 1}], tools=["Ring", "Arc"]) == ["Arc"]


def test_a_combination_is_its_tasks_and_a_text_no_answer() -> None:
    inner = [{"task": "T1", "value": "Yes"}, {"task": "T2", "taskType": "text", "value": "what a thing"}]
    said = annotations.read([{"task": "T9", "task_label": None, "value": inner}], {})
    assert said.answers == {"T1": ["Yes"], "T2": []}
    assert said.n_texts == 1


def test_sub_tasks_of_marks_are_counted_and_not_taken_for_answers() -> None:
    mark = {"x": 1, "toolIndex": 0, "tool_label": "Arc", "details": [{"task": "T0.0.0"}]}
    given = [
        {"task": "T0", "value": [mark]},
        {"task": "T0.0.0", "taskType": "single", "value": "Bright", "markIndex": 0},
    ]
    said = annotations.read(given, {})
    assert said.answers == {"T0": ["Arc"]}
    assert said.n_of_marks == 1


@pytest.mark.parametrize("given", [[1], [{"value": 1}], [{"task": "T0", "value": [[1]]}]])
def test_what_is_no_annotation_has_its_reason(given: list[Any]) -> None:
    with pytest.raises(ValueError, match="annotation"):
        annotations.read(given, {})


# ---------------------------------------------------------------------------------------------------------------- grid
def grid(chosen: list[str], details: bool = False) -> list[dict[str, Any]]:
    """An annotation of the grid."""
    said = {"details": [{"value": ["ring"]}]} if details else {}
    cells = [{"index": i, "subject": subject, **said} for i, subject in enumerate(chosen)]
    return [{"task": "T0", "task_label": "Click on any", "taskType": "subjectGroupComparison", "value": cells}]


GROUP = {"#subject_group_id": 88, "#group_subject_ids": "-".join(MEMBERS)}
REGIMES = {
    "before 2025-09-22: the group alone": row(
        1, "900", grid(["503"]), created_at="2025-03-01 10:00:00 UTC", subject_data={"900": GROUP}
    ),
    "to 2026-01-16: group and members": row(
        1,
        ";".join([*MEMBERS, "900"]),
        grid(["503"]),
        created_at="2025-11-01 10:00:00 UTC",
        subject_data={"900": GROUP, **{m: {} for m in MEMBERS}},
    ),
    "now: members": row(1, ";".join(MEMBERS), grid(["503"]), created_at="2026-02-01 10:00:00 UTC"),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_a_grid_is_a_vote_on_each_member_and_none_on_the_group(regime: str, tmp_path: Path) -> None:
    taken_in(tmp_path / "s", write_export(tmp_path / "grid.csv", [REGIMES[regime]]))
    assert votes(tmp_path / "s") == [
        (1, 502, "T0", ""),
        (1, 503, "T0", "chosen"),
        (1, 504, "T0", ""),
        (1, 505, "T0", ""),
    ]
    assert Survey.open(tmp_path / "s").n == 4, "the group is no subject"


@pytest.mark.parametrize("typed", [True, False], ids=["with its type", "without"])
def test_a_grid_in_which_nothing_was_chosen_was_seen(typed: bool, tmp_path: Path) -> None:
    given = grid([]) if typed else [{"task": "T0", "value": []}]
    rows = [
        row(1, "900", given, created_at="2025-03-01 10:00:00 UTC", subject_data={"900": GROUP}),
        row(2, ";".join(MEMBERS), given),
    ]
    taken_in(tmp_path / "s", write_export(tmp_path / "grid.csv", rows))
    assert votes(tmp_path / "s") == [(i, int(m), "T0", "") for i in (1, 2) for m in MEMBERS]


def test_members_may_be_named_in_the_classification_s_own_metadata(tmp_path: Path) -> None:
    named = {"live_project": True, "#group_subject_ids": "502-503"}
    only = row(1, "900", grid(["502"]), created_at="2025-03-01 10:00:00 UTC", metadata=named, subject_data={})
    taken_in(tmp_path / "s", write_export(tmp_path / "grid.csv", [only]))
    assert votes(tmp_path / "s") == [(1, 502, "T0", "chosen"), (1, 503, "T0", "")]


@pytest.mark.parametrize(
    ("subjects", "created"),
    [("900", "2025-03-01"), (";".join([*MEMBERS, "900"]), "2025-11-01"), ("900", "2026-03-01")],
)
def test_a_grid_whose_members_nobody_names_is_set_aside(subjects: str, created: str, tmp_path: Path) -> None:
    rows = [row(1, subjects, grid([]), created_at=f"{created} 10:00:00 UTC"), row(2, "501")]
    taken_in(tmp_path / "s", write_export(tmp_path / "grid.csv", rows))
    assert aside(tmp_path / "s") == [(2, "1", "a grid without the ids of its members")]
    assert votes(tmp_path / "s") == [(2, 501, "T0", "Yes")]


def test_sub_tasks_of_a_cell_are_answers_on_its_member(tmp_path: Path) -> None:
    cell = {"index": 6, "subject": "503", "details": [{"task": "T0.cell.6.subtask.0"}]}
    given = [
        {"task": "T0", "taskType": "subjectGroupComparison", "value": [cell]},
        {"task": "T0.cell.6.subtask.0", "taskType": "multiple", "value": [1], "cellIndex": 0},
    ]
    rows = [row(1, "502;503", grid(["503"], details=True)), row(2, "502;503", given)]
    taken_in(tmp_path / "s", write_export(tmp_path / "grid.csv", rows))
    assert votes(tmp_path / "s") == [
        (1, 502, "T0", ""),
        (1, 503, "T0", "chosen"),
        (1, 503, "T0.0", "ring"),
        (2, 502, "T0", ""),
        (2, 503, "T0", "chosen"),
        (2, 503, "T0.0", "1"),
    ]


# ----------------------------------------------------------------------------------------------------------- flags
def test_what_is_known_of_a_classification_stays_with_it(tmp_path: Path) -> None:
    state = {"already_seen": False, "user_has_finished_workflow": True}
    times = {"started_at": "2026-02-01T10:00:00.500Z", "finished_at": "2026-02-01T10:00:12.750Z"}
    backwards = {"started_at": "2026-02-01T10:00:12Z", "finished_at": "2026-02-01T10:00:00Z"}
    rows = [
        row(1, metadata={"live_project": False, **times}, gold_standard="true"),
        row(2, metadata={"live_project": True, "subject_selection_state": state, **backwards}, gold_standard="NA"),
        row(3, metadata={"seen_before": True}, user_name="not-logged-in-0abc", user_id="", gold_standard="false"),
        row(4, metadata={}, workflow_version="2.1", created_at="2026-01-31T23:00:00+00:00"),
    ]
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", rows))
    table = pq.read_table(tmp_path / "s" / CLASSIFICATIONS)
    held = {name: table.column(name).to_pylist() for name in table.column_names}
    assert held["classification_id"] == [4, 1, 2, 3], "in the order of time"
    assert held["is_live"] == [None, False, True, None]
    assert held["is_gold"] == [None, True, None, False]
    assert held["is_repeat"] == [None, None, True, True]
    assert held["is_anonymous"] == [False, False, False, True]
    assert held["seconds"] == [None, 12.25, None, None]
    assert held["workflow_version"] == ["2.1", "1.1", "1.1", "1.1"]
    assert len(set(held["volunteer"])) == 2


def test_a_bare_not_logged_in_is_as_many_people_as_sessions(tmp_path: Path) -> None:
    told = {"user_name": "not-logged-in", "user_id": ""}
    sessions = [{"session": "a"}, {"session": "a"}, {"session": "b"}, {"session": None}, {}]
    rows = [row(i, metadata=metadata, **told) for i, metadata in enumerate(sessions, 1)]
    rows.append(row(6, metadata={"session": "a"}, user_name="", user_id=""))
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", rows))
    table = pq.read_table(tmp_path / "s" / CLASSIFICATIONS).sort_by("classification_id")
    a, again, b, fourth, fifth, nameless = table.column("volunteer").to_pylist()
    assert a == again == nameless
    assert len({a, b, fourth, fifth}) == 4
    assert table.column("is_anonymous").to_pylist() == [True] * 6


def test_no_name_address_or_browser_gets_in(tmp_path: Path) -> None:
    told = {"user_name": "Guessable Name", "metadata": {"user_agent": "a browser", "session": "a session"}}
    rows = [row(1, **told), row(2, annotations="broken", **told), row(3, user_name="", user_id="")]
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", rows))
    for file in (tmp_path / "s").rglob("*"):
        if file.suffix == ".parquet":
            content = repr(pq.read_table(file).to_pydict())
        elif file.is_file():
            content = file.read_text()
        for secret in ("Guessable", "guessable", "an-address", "a browser", "a session"):
            assert secret not in content, file


def test_a_workflow_export_names_questions_and_answers(tmp_path: Path) -> None:
    answers = [{"label": "T0.answers.0.label", "next": "T1"}, {"label": "T0.answers.1.label"}]
    tasks = {"T0": {"type": "single", "question": "T0.question", "answers": answers}}
    strings = {"T0.question": "Is it odd?", "T0.answers.0.label": "Odd", "T0.answers.1.label": "Not"}
    with (tmp_path / "w.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["workflow_id", "display_name", "version", "minor_version", "tasks", "strings", "retirement"])
        for minor in (10, 9):
            words = {**strings, "T0.question": "Old?"} if minor == 9 else strings
            writer.writerow([30, "Odd", 2, minor, json.dumps(tasks), json.dumps(words), '{"criteria": "count"}'])
    rows = [row(1, annotations=[{"task": "T0", "value": 1}]), row(2, annotations=[{"task": "T0", "value": "Odd"}])]
    files = write_export(tmp_path / "c.csv", rows), tmp_path / "w.csv"
    taken_in(tmp_path / "s", *files)
    assert [vote[-1] for vote in votes(tmp_path / "s")] == ["Not", "Odd"]
    told = json.loads((tmp_path / "s" / SOURCES).read_text())["workflows"]["30"]
    assert told["tasks"]["T0"] == {"type": "single", "question": "Is it odd?", "answers": ["Odd", "Not"]}
    assert told["version"] == "2.10"


# ------------------------------------------------------------------------------------------------------ real exports
#: file → rows, rows of votes, subjects, volunteers, anonymous, before launch, repeats, versions of workflows
#: Counted with csv and json alone, apart from the product's code.
REAL = {
    "cat-project-classifications.csv": (153, 156, 30, 19, 114, 153, 11, 5),
    "kenya-classifications.csv": (2_000, 3_316, 1_694, 71, 171, 357, 26, 27),
    "pmason_example_classifications.csv": (163, 302, 67, 23, 25, 126, 76, 10),
    "cls_export.csv": (7, 10, 7, 1, 7, 0, 0, 1),
}


@pytest.mark.parametrize("name", REAL)
def test_real_exports_have_their_totals(name: str, shared_data: Path, tmp_path: Path) -> None:
    done = taken_in(tmp_path / "s", shared_data / "zooniverse_exports" / name)
    n, n_votes, n_subjects, n_volunteers, n_anonymous, n_early, n_repeats, n_versions = REAL[name]
    assert [(t.n_rows, t.n_taken, t.n_known, t.n_aside) for t in done.taken] == [(n, n, 0, 0)]
    assert done.n_subjects == n_subjects
    table = pq.read_table(tmp_path / "s" / CLASSIFICATIONS).to_pandas()
    each = table.drop_duplicates("classification_id")
    assert (len(table), len(each)) == (n_votes, n)
    assert table.created_at.is_monotonic_increasing
    assert each.volunteer.nunique() == n_volunteers
    assert each.is_anonymous.sum() == n_anonymous
    assert each.is_live.eq(False).sum() == n_early
    assert each.is_repeat.eq(True).sum() == n_repeats
    assert each.workflow_version.nunique() == n_versions


def test_the_most_frequent_answers_of_kenya(shared_data: Path, tmp_path: Path) -> None:
    taken_in(tmp_path / "s", shared_data / "zooniverse_exports" / "kenya-classifications.csv")
    counted = Counter((task, answer) for _, _, task, answer in votes(tmp_path / "s"))
    assert counted.most_common(4) == [
        (("T5", "Nothing Here"), 985),
        (("T3", ""), 982),
        (("T3", "ZEBRA"), 206),
        (("T3", "GIRAFFE"), 168),
    ]


def test_everything_real_at_once(shared_data: Path, tmp_path: Path) -> None:
    done = taken_in(tmp_path / "s", *sorted((shared_data / "zooniverse_exports").iterdir()))
    taken = {t.file: (t.kind, t.n_rows, t.n_taken, t.n_aside) for t in done.taken}
    assert taken == {
        **{name: ("classifications", n, n, 0) for name, (n, *_) in REAL.items()},
        "cat-project-subjects.csv": ("subjects", 30, 30, 0),
        "sas_aggregated.csv": ("outcomes", 5_999, 5_999, 0),
        "sas_votes.csv": ("votes", 36_131, 36_131, 0),
        "wf_export.csv": ("workflows", 6, 6, 0),
    }
    assert done.n_subjects == 30 + 1_694 - len(both(shared_data)) + 67 + 7 + 5_999
    assert len(votes(tmp_path / "s")) == sum(n for _, n, *_ in REAL.values()) + 36_131
    survey = Survey.open(tmp_path / "s")
    assert {"image_name", "advance", "flag"} <= {column.name for column in survey.columns()}
    told = json.loads((tmp_path / "s" / SOURCES).read_text())["workflows"]["10"]
    assert (told["version"], told["tasks"]["T0"]["answers"]) == ("16.55", ["Yes", "No"])


def both(shared_data: Path) -> set[str]:
    """Subjects that two of the real exports share."""
    found = []
    for name in ("cat-project-classifications.csv", "kenya-classifications.csv"):
        with (shared_data / "zooniverse_exports" / name).open(encoding="utf-8") as file:
            found.append({line.rstrip("\n").rsplit(",", 1)[1] for line in file if line[0].isdigit()})
    return found[0] & found[1]


#: votes, subjects, volunteers, gold labels: by wc and sort
GOLD_SETS = {
    "bluebird": (4_212, 108, 39, 108),
    "dog": (8_070, 807, 109, 807),
    "rte": (8_000, 800, 164, 800),
    "s4_Face_Sentiment_Identification": (5_242, 584, 27, 584),
    "CF": (1_720, 300, 461, 300),
    "CF_amt": (6_030, 300, 110, 300),
}


@pytest.mark.parametrize("name", GOLD_SETS)
def test_votes_with_gold_labels(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "crowd_gold" / name
    done = taken_in(tmp_path / "s", folder / "truth.csv", folder / "label.csv")
    n_votes, n_subjects, n_volunteers, n_gold = GOLD_SETS[name]
    assert [(t.kind, t.n_taken, t.n_aside) for t in done.taken] == [("gold", n_gold, 0), ("votes", n_votes, 0)]
    assert done.n_subjects == n_subjects
    table = pq.read_table(tmp_path / "s" / CLASSIFICATIONS).to_pandas()
    assert (len(table), table.volunteer.nunique(), table.classification_id.is_monotonic_increasing) == (
        n_votes,
        n_volunteers,
        True,
    )
    gold = pq.read_table(tmp_path / "s" / GOLD).to_pandas()
    with (folder / "truth.csv").open() as file:
        truth = {int(r["item"]): r["truth"] for r in csv.DictReader(file)}
    assert dict(zip(gold.subject_id, gold.answer, strict=True)) == truth


@pytest.mark.parametrize(
    "items",
    [
        ["7", "0", "12", "7"],
        ["7", "007", "0", "00", "7"],
        ["9" * 18, "9" * 19, "9" * 30, "8", "8"],
        ["7", " 7 ", "x", "٧"],
        ["-7", "+7", "7", "7.0"],
    ],
)
def test_items_that_look_like_numbers_stay_what_is_written(items: list[str], tmp_path: Path) -> None:
    rows = [f"{item},w{i},yes" for i, item in enumerate(items)]
    (tmp_path / "v.csv").write_text("\n".join(["item,worker,label", *rows, ",w,yes", ",,", "7,,yes", ""]))
    done = taken_in(tmp_path / "s", tmp_path / "v.csv")
    assert (done.taken[0].n_taken, done.taken[0].n_aside) == (len(items), 2)
    assert [line for line, *_ in aside(tmp_path / "s")] == [len(items) + 2, len(items) + 4]
    voted = pq.read_table(tmp_path / "s" / CLASSIFICATIONS).column("subject_id").to_numpy()
    with contextlib.closing(Survey.open(tmp_path / "s")) as survey:
        assert [survey.source_ids([row])[0] for row in survey.rows_of(voted)] == [item.strip() for item in items]
