"""Own tags, notes, named places, histories: against slow obvious answers, at any date, after undo and after a kill."""

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.cli import main
from explorer.errors import LedgerError, UsageError, VoorwerpError
from explorer.ledger import MAX_LISTED, Ledger
from explorer.services.explore import Explore, Plane
from explorer.services.notes import Note, Notes, tag_of
from explorer.state import ExplorerState
from explorer.survey import Survey
from explorer.views.subject import SubjectView
from models.artifacts import RUN_JSON, Run, write_scores
from tests.explorer.small_survey import write_survey

FIRST = 588848901523702001
PLANE = Plane("m")
SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    survey = Survey.open(write_survey(tmp_path / "survey", n=8))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield Notes(ledger, Explore(survey))
    survey.close()


def names(notes: Notes, subject_id: int, at: str | None = None) -> list[str]:
    return [tag.tag for tag in notes.tags(subject_id, at)]


# ------------------------------------------------------------------------------------------------------------- tags
def test_a_tag_is_given_counted_found_and_taken_away(notes: Notes):
    entry = notes.add_tag(FIRST + 5, "  #Tidal   Tail ", who="ada", run_id="r", map_id="m")
    assert (entry.kind, entry.payload, entry.subject_id) == ("tag", {"tag": "tidal tail"}, FIRST + 5)
    assert (entry.run_id, entry.map_id) == ("r", "m")
    notes.add_tag(FIRST + 2, "tidal tail", who="bo")
    notes.add_tag(FIRST + 2, "ring", who="bo")
    assert notes.counts() == {"tidal tail": 2, "ring": 1}
    assert notes.tagged("tidal tail").tolist() == [FIRST + 2, FIRST + 5]  # in row order
    assert notes.selection("tidal tail").rows().tolist() == [2, 5]
    assert [(t.tag, t.who) for t in notes.tags(FIRST + 2)] == [("tidal tail", "bo"), ("ring", "bo")]
    removed = notes.remove_tag(FIRST + 2, "tidal tail", who="ada")
    assert removed.kind == "undo"
    assert notes.counts() == {"ring": 1, "tidal tail": 1}
    assert names(notes, FIRST + 2) == ["ring"]
    notes.undo(removed.id, who="ada")
    assert names(notes, FIRST + 2) == ["tidal tail", "ring"]
    assert notes.tagged("nobody's").tolist() == []


def test_a_tag_given_twice_is_one_entry_also_by_many_at_once_and_after_a_lost_answer(notes: Notes):
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda i: notes.add_tag(FIRST, "ring", who=f"person {i}"), range(16)))
    assert len({e.id for e in entries}) == 1
    client_id = str(uuid.uuid4())
    first = notes.remove_tag(FIRST, "ring", who="ada", client_id=client_id)
    assert notes.remove_tag(FIRST, "ring", who="ada", client_id=client_id) == first
    with pytest.raises(LedgerError, match="is undone already"):
        notes.remove_tag(FIRST, "ring", who="ada")
    assert notes.counts() == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" # ", "this one is empty"),
        ("x" * 41, "at most 40 characters, this one 41"),
        ("a, b", "no comma"),
        ("a;b", "no semicolon"),
        ("a\x00b", "cannot be seen"),
        ("\ud800", "cannot be seen"),
    ],
)
def test_what_is_no_tag_is_refused_and_not_kept(notes: Notes, text: str, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        notes.add_tag(FIRST, text, who="ada")
    assert notes.ledger.entries() == []


def test_tags_are_lower_case_with_single_blanks():
    assert tag_of("  Green\n PEA ") == "green pea"
    assert tag_of("Ö") == tag_of("O\u0308") == "ö"
    assert tag_of("<b>bold</b>") == "<b>bold</b>"  # text, nothing else


def test_a_subject_that_is_not_there_is_refused(notes: Notes):
    with pytest.raises(UsageError, match="there is no subject 7 in this survey"):
        notes.add_tag(7, "ring", who="ada")
    with pytest.raises(UsageError, match="there is no subject 7"):
        notes.add_note(7, "a ring", who="ada")
    with pytest.raises(UsageError, match="there is no subject 7"):
        notes.history(7)
    with pytest.raises(UsageError, match='has no tag "ring"'):
        notes.remove_tag(FIRST, "ring", who="ada")


def test_counts_kept_step_by_step_are_those_of_a_replay_whatever_is_undone(notes: Notes):
    random.seed(3)
    moments: list[tuple[str, dict[str, int]]] = []
    for step in range(150):
        entries = notes.ledger.entries(include_undone=True)
        standing = [e.id for e in entries if not e.undone]
        if standing and random.random() < 0.5:
            notes.undo(random.choice(standing), who="ada")  # an undo, too
        else:
            notes.add_tag(FIRST + random.randrange(8), random.choice("abc"), who="ada")
        slow: dict[str, set[int]] = {}
        for e in notes.ledger.entries("tag"):
            slow.setdefault(e.payload["tag"], set()).add(e.subject_id or 0)
        assert notes.counts() == {tag: len(slow[tag]) for tag in sorted(slow, key=lambda t: (-len(slow[t]), t))}
        for tag in "abc":
            assert set(notes.tagged(tag).tolist()) == slow.get(tag, set())
        if step % 30 == 0:
            moments.append((notes.ledger.entries(include_undone=True)[-1].at, notes.counts()))
    for at, counts in moments:
        assert notes.counts(at) == counts
        assert {t: len(notes.tagged(t, at)) for t in counts} == counts


def test_what_another_process_decides_is_seen(notes: Notes):
    assert notes.counts() == {}
    before = notes.last
    with Ledger(notes.survey.path, notes.survey.info.survey_id) as other:
        Notes(other, notes.explore).add_tag(FIRST, "ring", who="bo")
    assert notes.last > before
    assert notes.counts() == {"ring": 1}


def test_a_table_has_the_tags_and_the_number_of_notes_of_its_rows(notes: Notes):
    for tag in ("ring", "arc"):
        notes.add_tag(FIRST + 1, tag, who="ada")
    note = notes.add_note(FIRST + 3, "a", who="ada")
    notes.add_note(FIRST + 3, "b", who="ada")
    notes.edit_note(note.id, "c", who="ada")
    columns = {name: values.tolist() for name, values in notes.columns(np.array([3, 1])).items()}
    assert columns == {"tags": [None, "arc; ring"], "n_notes": [2, 0]}


def test_the_command_exports_tags_and_notes_under_names_that_are_free(notes: Notes, tmp_path: Path):
    notes.add_tag(FIRST + 1, "ring", who="ada")
    notes.add_note(FIRST + 1, "a", who="ada")
    path = notes.survey.path
    table = pq.read_table(path / "subjects.parquet")
    pq.write_table(table.append_column("tags", pa.array(["theirs"] * 8)), path / "subjects.parquet")
    assert main(["export", str(path), str(tmp_path / "all.parquet")]) == 0
    told = pq.read_table(tmp_path / "all.parquet").to_pydict()
    assert told["tags"] == ["theirs"] * 8
    assert told["voorwerp_tags"] == [None, "ring"] + [None] * 6
    assert told["n_notes"] == [0, 1, 0, 0, 0, 0, 0, 0]


# ------------------------------------------------------------------------------------------------------------ notes
def test_a_note_is_kept_changed_deleted_and_brought_back(notes: Notes):
    entry = notes.add_note(FIRST, " two\r\nlines \x07", who="ada")
    assert notes.notes(FIRST) == [Note(entry.id, "two\nlines", "ada", entry.at, False)]
    other = notes.add_note(FIRST, "another", who="bo")
    edit = notes.edit_note(entry.id, "one line", who="bo")
    assert notes.notes(FIRST) == [
        Note(entry.id, "one line", "bo", edit.at, True),
        Note(other.id, "another", "bo", other.at, False),
    ]
    assert [n.text for n in notes.notes(FIRST, other.at)] == ["two\nlines", "another"]
    notes.undo(edit.id, who="ada")
    assert [n.text for n in notes.notes(FIRST)] == ["two\nlines", "another"]
    notes.edit_note(entry.id, "third", who="ada")
    deleted = notes.delete_note(entry.id, who="ada")
    assert [n.text for n in notes.notes(FIRST)] == ["another"]  # and no older text in its place
    with pytest.raises(UsageError, match="this note was deleted"):
        notes.edit_note(entry.id, "too late", who="ada")
    notes.undo(deleted.id, who="ada")
    assert [n.text for n in notes.notes(FIRST)] == ["third", "another"]
    assert notes.notes(FIRST + 1) == []


def test_a_note_may_hold_any_text_and_not_more_than_4_000_characters(notes: Notes):
    notes.add_note(FIRST, "<script>alert(1)</script> 'quoted' \ud800", who="ada")
    assert notes.notes(FIRST)[0].text == "<script>alert(1)</script> 'quoted' ?"
    with pytest.raises(UsageError, match="at most 4,000 characters, this one 4,001"):
        notes.add_note(FIRST, "x" * 4_001, who="ada")
    with pytest.raises(UsageError, match="the note is empty"):
        notes.add_note(FIRST, " \n", who="ada")
    tag = notes.add_tag(FIRST, "ring", who="ada")
    with pytest.raises(UsageError, match=f"entry {tag.id} of the ledger is no note"):
        notes.edit_note(tag.id, "x", who="ada")
    with pytest.raises(LedgerError, match="there is no entry 99"):
        notes.delete_note(99, who="ada")


def test_only_a_tag_of_ones_own_can_be_undone_in_the_panel(notes: Notes):
    state = ExplorerState(8, focus=2)
    view = SubjectView(state, notes.explore, notes, None)
    theirs = notes.add_tag(FIRST + 2, "merger", who="anna")
    asyncio.run(view.decide({"decide": "tag", "tag": "Merger", "row": 2, "id": str(uuid.uuid4())}))
    assert (view.panel.decided["said"], "undo" in view.panel.decided) == ("it has this tag already", False)
    asyncio.run(view.decide({"decide": "undo", "entry": theirs.id, "row": 2, "id": str(uuid.uuid4())}))
    assert names(notes, FIRST + 2) == ["merger"] and "error" in view.panel.decided
    asyncio.run(view.decide({"decide": "tag", "tag": "ring", "row": 2, "id": str(uuid.uuid4())}))
    undo = {"decide": "undo", "entry": view.panel.decided["undo"], "row": 2, "id": str(uuid.uuid4())}
    asyncio.run(view.decide(undo))
    assert names(notes, FIRST + 2) == ["merger"]


# ----------------------------------------------------------------------------------------------------------- places
def test_a_place_is_named_renamed_removed_and_belongs_to_its_plane(notes: Notes):
    entry = notes.add_place(" Ring  land ", PLANE, np.array(SQUARE), (0.5, 0.25), who="ada")
    (place,) = notes.places(PLANE)
    assert (place.id, place.name, place.vertices[2], place.label) == (entry.id, "Ring land", (1.0, 1.0), (0.5, 0.25))
    scores = Plane("m", "scores.image_score", "scores.feature_score", "r")
    notes.add_place("odd", scores, SQUARE, (0, 0), who="ada")
    assert [p.name for p in notes.places(Plane("", "scores.image_score", "scores.feature_score", "r"))] == ["odd"]
    for other in (Plane("n"), Plane("m", "maps.umap_2", "maps.umap_3"), Plane("m", turn=(0.1, 0.2))):
        assert notes.places(other) == []
    renamed = notes.rename_place(entry.id, "Land of rings", who="bo")
    assert [p.name for p in notes.places(PLANE)] == ["Land of rings"]
    assert [p.name for p in notes.places(PLANE, entry.at)] == ["Ring land"]
    notes.undo(renamed.id, who="bo")
    assert [p.name for p in notes.places(PLANE)] == ["Ring land"]
    removed = notes.remove_place(entry.id, who="ada")
    assert notes.places(PLANE) == []
    notes.undo(removed.id, who="ada")
    assert [p.id for p in notes.places(PLANE)] == [entry.id]


def test_a_place_of_a_mixed_score_is_shown_at_its_lambda(notes: Notes, monkeypatch: pytest.MonkeyPatch):
    def plane(lambda_: float, mode: str = "raw") -> Plane:
        return Plane("m", "scores.anomaly_score", "maps.umap_1", "r", lambda_, mode)

    notes.add_place("here", plane(0.2), SQUARE, (0, 0), who="ada")
    older = notes.ledger.entries("place")[0].payload
    notes.ledger.append("place", {k: v for k, v in older.items() if "lambda" not in k} | {"name": "older"}, who="ada")
    everywhere, both = [plane(0.2), plane(0.8), plane(0.2, "standardised")], ["here", "older"]
    for mixes, shown in ((True, [both, ["older"], ["older"]]), (False, [both] * 3)):
        monkeypatch.setattr(notes.explore, "mixes", lambda run_id, mixes=mixes: mixes)
        assert [[place.name for place in notes.places(p)] for p in everywhere] == shown


@pytest.mark.parametrize(
    ("name", "vertices", "label", "sentence"),
    [
        (" ", SQUARE, (0, 0), "a name of 1 to 40 characters"),
        ("x" * 41, SQUARE, (0, 0), "a name of 1 to 40"),
        ("a\x00", SQUARE, (0, 0), "can be seen"),
        ("a", SQUARE[:2], (0, 0), "3 to 500 points, not 2"),
        ("a", SQUARE * 126, (0, 0), "3 to 500 points, not 504"),
        ("a", [[0, 0], [1, float("nan")], [1, 1]], (0, 0), "pairs of finite numbers"),
        ("a", "nonsense", (0, 0), "pairs of numbers"),
        ("a", SQUARE, (0, 0, 0), "pairs of finite numbers"),
        ("a", [[0, 0], [1], [1, 1]], (0, 0), "pairs of numbers"),
    ],
)
def test_what_is_no_place_is_refused(notes: Notes, name: str, vertices: list, label: tuple, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        notes.add_place(name, PLANE, vertices, label, who="ada")
    with pytest.raises(UsageError, match="leave the 3-D view"):
        notes.add_place("a", Plane("m", turn=(0.1, 0.2)), SQUARE, (0, 0), who="ada")
    assert notes.ledger.entries() == []


# ------------------------------------------------------------------------------------------- kept selections, history
def test_kept_selections_are_listed_renamed_and_found_by_their_members(tmp_path: Path):
    n = MAX_LISTED + 500
    survey = Survey.open(write_survey(tmp_path / "survey", n=n, size=2))
    ids = survey.subject_ids
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        notes = Notes(ledger, Explore(survey))
        ledger.save_selection("few", np.array([9, 3]), ids, who="ada")
        ledger.save_selection("many", np.arange(MAX_LISTED + 1), ids, who="ada")
        assert [(k.name, k.n) for k in notes.kept()] == [("few", 2), ("many", MAX_LISTED + 1)]
        for row in (3, 4, MAX_LISTED, MAX_LISTED + 1, n - 1):
            slow = [k.name for k in notes.kept() if int(ids[row]) in ledger.selection(k.name, ids).subject_ids]
            assert [k.name for k in notes.kept_with(int(ids[row]))] == slow
        again = ledger.save_selection("few", np.array([4]), ids, who="bo")
        ledger.rename_selection("few", "one", who="bo")
        assert [k.name for k in notes.kept_with(int(ids[4]))] == ["many", "one"]
        notes.undo(again.id, who="bo")
        assert [k.name for k in notes.kept_with(int(ids[4]))] == ["many"]
        assert [k.name for k in notes.kept_with(int(ids[3]))] == ["many", "one"]
        for path in (survey.path / "selections").iterdir():
            path.unlink()
        assert [k.name for k in notes.kept_with(int(ids[3]))] == ["one"]
    survey.close()


def write_run(survey: Survey, name: str, values: np.ndarray, created_at: str, **config: object) -> None:
    folder = survey.path / "runs" / name
    folder.mkdir(parents=True)
    n = len(values)
    told = {"subject_id": survey.subject_ids[:n], "split": ["unseen"] * n, "quality": ["ok"] * n}
    write_scores(folder, None, told | dict.fromkeys(("image_score", "feature_score", "anomaly_score"), values))
    run = Run(name, "score", "test", config, state="done", n_rows=n, created_at=created_at)
    run.write(folder / RUN_JSON)


def test_a_history_has_decisions_selections_and_scores_in_their_order(notes: Notes):
    survey = notes.survey
    write_run(survey, "20250101-000000-score", np.arange(8.0), "2025-01-01T00:00:00+00:00", feature_weight=0.4)
    write_run(survey, "29990101-000000-score", np.array([3.0, 1, 2, 3, np.nan]), "2999-01-01T00:00:00+00:00")
    ids = survey.subject_ids
    tag = notes.add_tag(FIRST + 3, "ring", who="ada")
    notes.add_tag(FIRST + 2, "elsewhere", who="ada")
    note = notes.add_note(FIRST + 3, "odd", who="bo")
    notes.ledger.save_selection("few", np.array([3]), ids, who="ada")
    notes.ledger.save_selection("others", np.array([2]), ids, who="ada")
    removed = notes.remove_tag(FIRST + 3, "ring", who="bo")
    notes.undo(removed.id, who="ada")
    notes.edit_note(note.id, "very odd", who="bo")
    events = notes.history(FIRST + 3)
    assert [(e.who, e.what, e.is_undone) for e in events] == [
        ("", "Anomaly score", False),
        ("ada", "tagged “ring”", False),
        ("bo", "noted “odd”", False),
        ("ada", "in the kept selection “few”", False),
        ("bo", "took away the tag “ring”", True),
        ("ada", "gave back the tag “ring”", False),
        ("bo", "changed a note to “very odd”", False),
        ("", "Anomaly score", False),
    ]
    first, last = events[0].standing, events[-1].standing
    assert (first["value"], first["below"], first["of"], first["lambda"], first["lambda_mode"]) == (3, 3, 8, 0.4, "raw")
    assert (last["below"], last["of"], last["lambda"]) == (2, 4, 0.2)  # equal ones are not below
    assert [e.what for e in notes.history(FIRST + 3, tag.at)] == ["Anomaly score", "tagged “ring”"]
    assert [e.kind for e in notes.history(FIRST + 4)] == ["score"]  # it has none in the other run


def test_a_history_of_many_runs_reads_each_once(notes: Notes, monkeypatch: pytest.MonkeyPatch):
    for i in range(9):
        write_run(notes.survey, f"2025010{i + 1}-000000-score", np.arange(8.0), f"2025-01-0{i + 1}T00:00:00+00:00")
    assert len(notes.history(FIRST)) == 9
    monkeypatch.delattr("pyarrow.parquet.read_table")
    assert len(notes.history(FIRST + 1)) == 9


def test_a_history_passes_over_a_damaged_run(notes: Notes):
    write_run(notes.survey, "20250101-000000-score", np.arange(8.0), "2025-01-01T00:00:00+00:00")
    (notes.survey.path / "runs" / "20250101-000000-score" / "scores.parquet").write_bytes(b"no table")
    assert notes.history(FIRST) == []


def test_a_decision_that_was_answered_survives_a_kill(notes: Notes, tmp_path: Path):
    shutil.copytree(notes.survey.path, tmp_path / "copy")
    program = f"""
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.survey import Survey
survey = Survey.open({str(tmp_path / "copy")!r})
notes = Notes(Ledger(survey.path, survey.info.survey_id), Explore(survey))
for i in range(100_000):
    notes.add_tag({FIRST} + i % 8, f"tag {{i}}", who="ada")
    print(i, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20:
                break
        process.send_signal(signal.SIGKILL)
        answered = int((process.stdout.read().split() or [line])[-1])
    survey = Survey.open(tmp_path / "copy")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        counts = Notes(ledger, Explore(survey)).counts()
    survey.close()
    assert {f"tag {i}" for i in range(answered + 1)} <= counts.keys()


# ------------------------------------------------------------------------------------------------------- overlays
def test_an_overlay_is_a_kept_selection_or_a_column_of_categories(notes: Notes) -> None:
    ids = notes.survey.subject_ids
    notes.ledger.save_selection("odd", np.array([5, 1]), ids, who="ada")
    (found,) = notes.overlays("selection:odd")
    assert (found.label, sorted(found.rows), found.count) == ("odd", [1, 5], 2)
    with pytest.raises(VoorwerpError, match='no selection "even"'):
        notes.overlays("selection:even")
    with pytest.raises(UsageError, match=r'"subjects.edge_fraction" is not in the categories'):
        notes.overlays("subjects.edge_fraction")
