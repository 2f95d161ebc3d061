"""`explorer.services.pack`: what a copy for others has, and what it must not have."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer import secret, votes
from explorer.cli import main
from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest.add import Addition, AddOptions, add
from explorer.ingest.images import CreateOptions, create
from explorer.ledger import Ledger
from explorer.ledger import check as check_ledger
from explorer.services.address import Remembered
from explorer.services.explore import Explore, Plane
from explorer.services.notes import Notes
from explorer.services.pack import hashed, pack, salt, without_paths
from explorer.state import Selection
from explorer.survey import Survey, check
from models import artifacts
from models.artifacts import Run
from tests.explorer.killed import tree
from tests.explorer.making import finished
from tests.galaxies import write_galaxies

SECRET = "Hanny van Arkel"
NOTE = "as Bill said at lunch"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOORWERP_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six galaxies by absolute paths, one refused; a finished run, one at work, decisions of a person."""
    folder = tmp_path_factory.mktemp("packed")
    paths = write_galaxies(folder / "images", 6)
    (folder / "images" / "bad.png").write_text("no image")
    rows = [f"{10 + i},{p},seen at {p} by night" for i, p in enumerate([*paths, folder / "images" / "bad.png"])]
    (folder / "m.csv").write_text("\n".join(["id,path,remark", *rows]) + "\n")
    survey = folder / "survey"
    finished(create(survey, [folder / "m.csv"], CreateOptions(size=32, id_column="id", workers=1)))
    opened = Survey.open(survey)
    done = survey / "runs" / "20260101-000000-score"
    scores = {name: np.arange(6) for name in ("image_score", "feature_score", "anomaly_score")}
    told = {"subject_id": opened.subject_ids, "split": ["unseen"] * 6, **scores, "quality": ["ok"] * 6}
    artifacts.write_scores(done, None, told)
    run = Run(done.name, "score", "0", {"from": f"{folder}/vectors.npy"}, state="done", n_rows=6, started_by=SECRET)
    run.resources = {"scheduler": "tls://gpu.secret.example:8786", "workers": 2}
    run.write(done / "run.json")
    (done / "log.txt").write_text(str(folder))
    (done / "lock").write_text('{"host": "observatory", "pid": 7}')
    (done / "progress.jsonl").write_text(json.dumps({"done": 1, "message": f"reading {folder}/vectors.npy"}) + "\n{\n")
    (survey / "runs" / "20260102-000000-train").mkdir()
    Run("20260102-000000-train", "train", "0", {}, state="running").write(
        survey / "runs" / "20260102-000000-train" / "run.json"
    )
    with Ledger(survey, opened.info.survey_id) as ledger:
        first = ledger.save_selection("odd ones", np.array([1, 2]), opened.subject_ids, who=SECRET)
        ledger.append("job", {"from": f"{folder}/vectors.npy", "by": {"who": SECRET}}, who="another")
        ledger.undo(first.id, who=SECRET)
        ledger.save_selection("kept", np.array([3]), opened.subject_ids, who=SECRET)
        notes = Notes(ledger, Explore(opened))
        notes.add_tag(11, "ring", who=SECRET)
        note = notes.add_note(11, NOTE, who=SECRET)
        edit = notes.edit_note(note.id, f"{NOTE}!", who=SECRET)
        ledger.undo(ledger.undo(edit.id, who=SECRET).id, who=SECRET)
        notes.delete_note(notes.add_note(12, NOTE, who=SECRET).id, who=SECRET)
        notes.add_place("land of rings", Plane("m"), [[0, 0], [1, 0], [1, 1]], (0.5, 0.5), who=SECRET)
    (survey / "notes.txt").write_text("the password is …")
    (survey / ".hidden").write_text("")
    (survey / "server.lock").write_text("")
    (survey / "queue.lock").write_text("")
    opened.close()
    return survey


def everything_in(folder: Path) -> bytes:
    """Every byte of every file, and those of Parquet tables decoded."""
    found = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    for table in folder.rglob("*.parquet"):
        found += json.dumps(pq.read_table(table).to_pylist(), default=str).encode()
    return found


def test_a_copy_is_sound_and_tells_nothing_of_machine_and_people(made: Path, tmp_path: Path) -> None:
    totals = finished(pack(made, tmp_path / "copy"))
    assert check(tmp_path / "copy") == []
    opened, before = Survey.open(tmp_path / "copy"), Survey.open(made)
    assert check_ledger(tmp_path / "copy", opened.info.survey_id, opened.subject_ids) == []
    content = everything_in(tmp_path / "copy")
    assert str(made.parent).encode() in everything_in(made)
    assert str(made.parent).encode() not in content
    assert SECRET.encode() in everything_in(made)
    assert SECRET.encode() not in content
    assert b"password" not in content
    assert NOTE.encode() in everything_in(made)
    assert NOTE.encode() not in content
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "contact_sheet.png",
        "digests.npy",
        "images.zarr",
        "ledger.db",
        "originals",
        "quarantine.html",
        "quarantine.parquet",
        "runs",
        "subjects.parquet",
        "survey.toml",
        "thumbnails",
    ]
    assert totals["left_out"] == ["notes.txt", "runs/20260102-000000-train"]
    assert sorted(p.name for p in (tmp_path / "copy" / "runs" / "20260101-000000-score").iterdir()) == [
        "progress.jsonl",
        "run.json",
        "scores.parquet",
    ]
    assert opened.source_ids(range(6)) == before.source_ids(range(6))
    assert np.array_equal(opened.images[:], before.images[:])
    assert opened.original(3) == before.original(3)
    assert opened.subject(0)["image"] == "…/000.png"
    assert opened.subject(0)["remark"] == "seen at …/000.png by night"
    assert opened.scores("20260101-000000-score")["image_score"].tolist() == list(range(6))
    run = opened.runs("score")[0]
    assert run.config == {"from": "…/vectors.npy"}
    assert run.started_by.startswith("person-") and run.resources == {"workers": 2}
    opened.close()
    before.close()


def test_the_ledger_is_whole_and_still_append_only(made: Path, tmp_path: Path, config: Path) -> None:
    totals = finished(pack(made, tmp_path / "copy"))
    assert totals["n_names"] == 2
    survey_id = Survey.open(made).info.survey_id
    secret = salt(survey_id)
    with Ledger(tmp_path / "copy", survey_id) as copy, Ledger(made, survey_id) as before:
        ours, theirs = copy.entries(include_undone=True), before.entries(include_undone=True)
        theirs = [e for e in theirs if e.kind != "note" and (e.undoes is None or e.undoes < 6)]
        assert [(e.id, e.client_id, e.at, e.kind, e.undone) for e in ours] == [
            (e.id, e.client_id, e.at, e.kind, e.undone) for e in theirs
        ]
        assert [e.who for e in ours] == [hashed(e.who, secret) for e in theirs]
        assert ours[1].payload == {"from": "…/vectors.npy", "by": {"who": hashed(SECRET, secret)}}
        assert copy.selection_names() == ["kept"]
    with sqlite3.connect(tmp_path / "copy" / "ledger.db") as database:
        for change in ("UPDATE entries SET who = 'me'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
                database.execute(change)
    database.close()
    finished(pack(made, tmp_path / "again"))
    with Ledger(tmp_path / "again", survey_id) as again:
        assert [e.who for e in again.entries(include_undone=True)] == [e.who for e in ours]
    assert (config / survey_id / "salt").stat().st_mode & 0o777 == 0o600


def test_tags_and_places_go_along_and_notes_only_when_they_are_asked_for(made: Path, tmp_path: Path) -> None:
    assert finished(pack(made, tmp_path / "without"))["n_notes"] == 2
    assert finished(pack(made, tmp_path / "with", keep_notes=True))["n_notes"] == 0
    for name, texts in (("without", []), ("with", [f"{NOTE}!"])):
        survey = Survey.open(tmp_path / name)
        with Ledger(survey.path, survey.info.survey_id) as ledger:
            notes = Notes(ledger, Explore(survey))
            assert [note.text for note in notes.notes(11)] == texts
            assert notes.notes(12) == []
            assert notes.counts() == {"ring": 1}
            assert [place.name for place in notes.places(Plane("m"))] == ["land of rings"]
            last = ledger.append("tag", {"tag": "arc"}, who="me", subject_id=11)
            assert last.id == 13  # as in the original: no number is given twice
        survey.close()


def test_names_stay_when_they_are_asked_for(made: Path, tmp_path: Path, config: Path) -> None:
    finished(pack(made, tmp_path / "copy", names=True))
    with Ledger(tmp_path / "copy", Survey.open(made).info.survey_id) as ledger:
        assert ledger.entries("selection")[0].who == SECRET
    assert not config.exists()


def test_a_salt_that_others_may_read_is_refused(made: Path, tmp_path: Path, config: Path) -> None:
    survey_id = Survey.open(made).info.survey_id
    salt(survey_id)
    (config / survey_id / "salt").chmod(0o644)
    with pytest.raises(SurveyError, match="may be read by others"):
        finished(pack(made, tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("reading /home/jane/data/a.npy now", "reading …/a.npy now"),
        ('"/srv/x y"', '"/srv/x y"'.replace("/srv/x", "…/x")),
        ("~/sky/field.fits", "…/field.fits"),
        (r"C:\Users\jane\a.fits", "…/a.fits"),
        ("https://archive.org/a/b", "https://archive.org/a/b"),
        ("images/001.png", "images/001.png"),
        ("flux in erg/s/cm2, 1/2, g/r/i", "flux in erg/s/cm2, 1/2, g/r/i"),
        ("/images", "/images"),
        ("file:///home/ann/x.fits and a:/home/ann/a.fits", "…/x.fits and a:…/a.fits"),
    ],
)
def test_absolute_paths_are_cut_down_and_nothing_else(text: str, left: str) -> None:
    assert without_paths(text) == left


def test_folders_with_blanks_are_cut_too_where_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann smith")
    paths = write_galaxies(tmp_path / "ann's sky" / "images", 3)
    paths[2].write_text("no image")
    rows = "".join(f"{i},{p},seen in {p} (/home/ann smith/a/b.txt)\n" for i, p in enumerate(paths))
    (tmp_path / "m.csv").write_text(f"id,path,remark\n{rows}")
    finished(create(tmp_path / "s", [tmp_path / "m.csv"], CreateOptions(32, id_column="id", workers=1)))
    finished(pack(tmp_path / "s", tmp_path / "copy"))
    opened = Survey.open(tmp_path / "copy")
    assert opened.subject(0)["remark"] == "seen in …/000.png (…/b.txt)"
    assert b"ann" not in everything_in(tmp_path / "copy")
    opened.close()


def test_linked_originals_stay_behind_unless_they_are_asked_for(tmp_path: Path) -> None:
    paths = write_galaxies(tmp_path / "images", 3)
    np.save(tmp_path / "images" / "linear.npy", np.random.default_rng(1).random((40, 40, 3), np.float32))
    finished(create(tmp_path / "s", [tmp_path / "images"], CreateOptions(32, originals="link", workers=1)))
    totals = finished(pack(tmp_path / "s", tmp_path / "without"))
    assert totals["n_links"] == 4
    assert check(tmp_path / "without") == []
    opened = Survey.open(tmp_path / "without")
    assert opened.info.originals == "none"
    assert len(opened.thumbnails([0])[0]) > 100
    assert str(tmp_path).encode() not in everything_in(tmp_path / "without")
    with pytest.raises(SurveyError, match="has no originals: they stayed behind when it was packed"):
        opened.original(0)
    with pytest.raises(UsageError, match="is a copy without originals; add to the survey that it was packed from"):
        finished(add(tmp_path / "without", [tmp_path / "images"]))
    finished(pack(tmp_path / "s", tmp_path / "whole", keep_originals=True))
    assert check(tmp_path / "whole") == []
    whole = Survey.open(tmp_path / "whole")
    assert whole.info.originals == "keep"
    assert [whole.original(row)[0] for row in range(3)] == [path.read_bytes() for path in paths]
    assert whole.original(3)[1] == "application/gzip"
    paths[1].write_bytes(b"changed")
    with pytest.raises(SurveyError, match=r"001.jpg has changed, and cannot be brought in"):
        finished(pack(tmp_path / "s", tmp_path / "third", keep_originals=True))
    assert not (tmp_path / "third").exists()


def test_nothing_is_left_where_a_copy_cannot_be_made(made: Path, tmp_path: Path) -> None:
    survey = tmp_path / "survey"
    shutil.copytree(made, survey)
    before = tree(survey)
    with pytest.raises(IngestError, match="lies inside"):
        finished(pack(survey, survey / "copy"))
    with pytest.raises(IngestError, match="is there already"):
        finished(pack(survey, made))
    with Survey.open(survey).lock(), pytest.raises(SurveyError, match="another command is writing to"):
        finished(pack(survey, tmp_path / "copy"))
    assert tree(survey) == before
    (survey / "originals" / "00000.pack").write_bytes(b"short")
    with pytest.raises(SurveyError, match=r"nothing was packed, the copy would not be sound: .*00000.pack has 5 bytes"):
        finished(pack(survey, tmp_path / "copy"))
    (survey / "parts").mkdir()
    (survey / "parts" / "command.json").write_text("{}")
    with pytest.raises(SurveyError, match=r"an `add` to .* was stopped, or is at work"):
        finished(pack(survey, tmp_path / "copy"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "config") == ["survey"]


def test_what_an_add_that_was_given_up_has_left_is_in_no_copy(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = tmp_path / "survey"
    shutil.copytree(made, survey)
    rows = [f"{20 + i},{path}" for i, path in enumerate(write_galaxies(tmp_path / "more", 3, seed=7))]
    (tmp_path / "m.csv").write_text("\n".join(["id,path", *rows]) + "\n")
    options = AddOptions(id_column="id", workers=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Addition, "finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        finished(add(survey, [tmp_path / "m.csv"], options))
    shutil.rmtree(survey / "parts")
    assert check(survey) == []
    with pytest.raises(SurveyError, match=r"holds images beyond its 6 subjects, .*the same `add` again finishes it"):
        finished(pack(survey, tmp_path / "copy"))
    finished(add(survey, [tmp_path / "m.csv"], options))
    finished(pack(survey, tmp_path / "copy"))
    assert check(tmp_path / "copy") == []


def test_selections_of_links_stay_behind(made: Path, tmp_path: Path) -> None:
    Remembered(made).put(Selection.of_rows([1, 2], 6))
    finished(pack(made, tmp_path / "copy"))
    assert not (tmp_path / "copy" / "selections" / "recent").exists()


def test_ids_that_are_paths_are_said(made: Path, tmp_path: Path) -> None:
    survey = tmp_path / "survey"
    shutil.copytree(made, survey)
    table = pq.read_table(survey / "subjects.parquet")
    ids = pa.array([f"/data/sky/{i}" for i in range(6)])
    table = table.set_column(1, table.schema.field("source_id"), ids)
    pq.write_table(table, survey / "subjects.parquet")
    assert finished(pack(survey, tmp_path / "copy"))["ids_are_paths"]
    assert Survey.open(tmp_path / "copy").source_ids([0]) == ["/data/sky/0"]


def test_the_command_says_what_stays_behind(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(made), str(tmp_path / "copy")]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'copy'} is a sound copy of {made}" in said
    assert "2 people are named by a hash" in said
    assert "2 notes left behind; --notes lets them go along" in said
    assert "left out: notes.txt, runs/20260102-000000-train" in said
    assert secret.CONFIG == "VOORWERP_CONFIG"


def test_votes_go_along_and_comments_when_notes_do(made: Path, tmp_path: Path) -> None:
    survey = shutil.copytree(made, tmp_path / "survey")
    for name, schema in votes.SCHEMAS.items():
        artifacts.write_table(survey / name, schema.empty_table())
    assert check(survey) == []
    totals = finished(pack(survey, tmp_path / "copy"))
    assert {name for name in votes.SCHEMAS if not (tmp_path / "copy" / name).exists()} == {votes.TALK_COMMENTS}
    assert votes.TALK_COMMENTS in totals["left_out"]
    assert votes.TALK_COMMENTS not in finished(pack(survey, tmp_path / "all", keep_notes=True))["left_out"]
    assert (tmp_path / "all" / votes.TALK_COMMENTS).exists()
    artifacts.write_table(survey / votes.TOTALS, votes.TOTALS_SCHEMA.empty_table().drop_columns("n_chosen"))
    (survey / votes.GOLD).write_text("half")
    problems = check(survey)
    assert [problem.rpartition("/")[2].split(" ")[0] for problem in problems] == [votes.TOTALS, votes.GOLD]
    assert "lacks the column 'n_chosen'; ingest its sources again" in problems[0]
