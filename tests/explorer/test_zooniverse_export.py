"""Subjects for Zooniverse: the folder, what it must not tell, the way there and back, and uploads that are stopped."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explorer import cli
from explorer.errors import AccessError, SurveyError, UsageError, ZooniverseError
from explorer.ingest.exports import ingest
from explorer.ingest.matching import Described, match
from explorer.ledger import Ledger
from explorer.services import panoptes, zooniverse
from explorer.services.zooniverse import MANIFEST, MAX_BYTES, export_subjects, read_manifests
from explorer.survey import Survey
from explorer.votes import CLASSIFICATIONS
from tests.explorer.making import finished, make
from tests.explorer.standing_in import CLIENT, PASSWORD, SECRET, TOKEN, USER, Panoptes
from tests.explorer.standing_in import panoptes as standing_in

N = 7


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures of 80 × 60 px, one with what a camera writes into it. Copy it to change it."""
    folder = tmp_path_factory.mktemp("zooniverse")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for k in range(N):
        image = Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8))
        exif = Image.Exif()
        exif[0x013B] = "a person"
        image.save(folder / "images" / f"ngc {k}.jpg", quality=95, exif=exif, comment=b"a person")
    make(folder / "survey", folder / "images")
    return folder / "survey"


@pytest.fixture
def survey(made: Path, tmp_path: Path) -> Iterator[Survey]:
    opened = Survey.open(shutil.copytree(made, tmp_path / "survey"))
    yield opened
    opened.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Panoptes]:
    pytest.importorskip(
        "panoptes_client", reason="panoptes-client is not installed: pip install 'voorwerp[zooniverse]'"
    )
    for name in [name for name in os.environ if name.startswith("PANOPTES_")]:
        monkeypatch.delenv(name)
    with standing_in() as server:
        monkeypatch.setenv("PANOPTES_ENDPOINT", server.url)
        monkeypatch.setenv("PANOPTES_USERNAME", USER)
        monkeypatch.setenv("PANOPTES_PASSWORD", PASSWORD)
        yield server


def every(survey: Survey) -> np.ndarray:
    return np.arange(survey.n)


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / MANIFEST).open(newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------------ the folder
def test_every_image_is_there_at_its_own_resolution_and_named_once(survey: Survey, tmp_path: Path) -> None:
    record = finished(export_subjects(survey, every(survey), tmp_path / "out"))
    lines = manifest(tmp_path / "out")
    assert record["n_subjects"] == len(lines) == N
    assert [line["#voorwerp_subject_id"] for line in lines] == [str(i) for i in survey.subject_ids]
    assert [line["#source_id"] for line in lines] == survey.source_ids(every(survey))
    for line in lines:
        content = (tmp_path / "out" / line["#image"]).read_bytes()
        assert len(content) <= MAX_BYTES
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size) == ("JPEG", (80, 60))
    assert not (tmp_path / "out" / "left_out.csv").exists()


def test_volunteers_see_nothing_but_the_image(survey: Survey, tmp_path: Path) -> None:
    table = pq.read_table(survey.path / "subjects.parquet")
    table = table.append_column("anomaly_score", pa.array(np.linspace(0, 0.987654, N)))
    pq.write_table(table, survey.path / "subjects.parquet")
    survey.refresh()
    finished(export_subjects(survey, every(survey), tmp_path / "out"))
    assert set(manifest(tmp_path / "out")[0]) == {"#image", "#voorwerp_subject_id", "#voorwerp_survey_id", "#source_id"}
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert b"a person" not in content
        assert b"score" not in content
        assert b"0.987654" not in content


def test_images_are_averaged_down_when_asked_and_never_enlarged(survey: Survey, tmp_path: Path) -> None:
    for size, expected in ((64, (64, 48)), (400, (80, 60))):
        finished(export_subjects(survey, every(survey)[:1], tmp_path / str(size), size))
        (line,) = manifest(tmp_path / str(size))
        with Image.open(tmp_path / str(size) / line["#image"]) as image:
            assert image.size == expected


def test_what_would_be_too_large_becomes_smaller(
    survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(export_subjects(survey, every(survey)[:1], tmp_path / "whole"))
    whole = (tmp_path / "whole" / manifest(tmp_path / "whole")[0]["#image"]).stat().st_size
    monkeypatch.setattr(zooniverse, "MAX_BYTES", int(0.8 * whole))
    finished(export_subjects(survey, every(survey)[:1], tmp_path / "out"))
    image = tmp_path / "out" / manifest(tmp_path / "out")[0]["#image"]
    assert image.stat().st_size <= 0.8 * whole
    with Image.open(image) as opened:
        assert 64 <= opened.width < 80
    monkeypatch.setattr(zooniverse, "MAX_BYTES", 100)
    with pytest.raises(
        SurveyError, match="none of 1 images can be exported; the first: its image has more than 100 bytes"
    ):
        finished(export_subjects(survey, every(survey)[:1], tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_many_subjects_become_parts(survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zooniverse, "MAX_SUBJECTS", 3)
    record = finished(export_subjects(survey, every(survey), tmp_path / "out"))
    assert record["parts"] == ["part-1", "part-2", "part-3"]
    assert [len(manifest(tmp_path / "out" / part)) for part in record["parts"]] == [3, 3, 1]
    for part in record["parts"]:
        for line in manifest(tmp_path / "out" / part):
            assert (tmp_path / "out" / part / line["#image"]).is_file()
    assert [m["#voorwerp_subject_id"] for _, m in read_manifests(tmp_path / "out")] == [
        str(i) for i in survey.subject_ids
    ]


def test_an_image_that_cannot_be_shown_is_named_and_the_others_go(
    survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Survey.original
    monkeypatch.setattr(
        Survey, "original", lambda self, row: whole(self, row) if row != 6 else (b"\xff\xd8no", "image/jpeg")
    )
    monkeypatch.setattr(zooniverse, "MAX_SUBJECTS", 3)  # the last part would have nobody else
    record = finished(export_subjects(survey, every(survey), tmp_path / "out"))
    assert (record["n_subjects"], record["n_left_out"], record["parts"]) == (6, 1, ["part-1", "part-2"])
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["source_id"] == "ngc 6"
    assert "cannot be shown" in line["reason"]


@pytest.mark.parametrize("source", ["m51.JPG", "a.txt", "=1+1", "-cmd"])
def test_ids_that_would_be_taken_for_files_or_formulas_stay_behind(survey: Survey, tmp_path: Path, source: str) -> None:
    table = pq.read_table(survey.path / "subjects.parquet")
    i = table.schema.get_field_index("source_id")
    ids = pa.array([source, *table.column(i).to_pylist()[1:]])
    pq.write_table(table.set_column(i, table.schema.field(i), ids), survey.path / "subjects.parquet")
    survey.refresh()
    assert not finished(export_subjects(survey, every(survey), tmp_path / "out"))["has_source_ids"]
    assert "#source_id" not in manifest(tmp_path / "out")[0]


def test_a_folder_is_written_whole_or_not_at_all(survey: Survey, tmp_path: Path) -> None:
    steps = export_subjects(survey, every(survey), tmp_path / "out")
    for _ in range(4):
        next(steps)
    steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]


def test_the_same_export_is_there_already_and_another_one_is_refused(survey: Survey, tmp_path: Path) -> None:
    first = finished(export_subjects(survey, every(survey), tmp_path / "out"))
    again = finished(export_subjects(survey, every(survey), tmp_path / "out"))
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert again["exported_at"] == first["exported_at"]
    with pytest.raises(UsageError, match="out holds another export; name a new folder"):
        finished(export_subjects(survey, every(survey)[:3], tmp_path / "out"))
    with pytest.raises(UsageError, match="survey is there already, and is no export for Zooniverse"):
        finished(export_subjects(survey, every(survey), survey.path))


def test_what_cannot_be_exported_is_refused(survey: Survey, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is selected"):
        finished(export_subjects(survey, every(survey)[:0], tmp_path / "out"))
    with pytest.raises(UsageError, match="images of 10 px show nothing; --size 64 is the least"):
        finished(export_subjects(survey, every(survey), tmp_path / "out", 10))
    assert not (tmp_path / "out").exists()


def test_the_command_exports_a_selection(survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.save_selection("Mine", np.array([1, 3]), survey.subject_ids, who="ada")
    out = str(tmp_path / "out")
    asked = ["export", str(survey.path), out, "--for", "zooniverse", "--selection", "Mine"]
    assert cli.main(asked) == 0
    assert f"2 of 7 subjects are in {out}/manifest.csv, with an image each and no score" in capsys.readouterr().out
    assert len(manifest(tmp_path / "out")) == 2
    assert cli.main(asked) == 0
    assert "holds these 2 subjects already" in capsys.readouterr().out
    assert cli.main([*asked, "--upload", "5"]) == 2
    assert "--upload and --subject-set go together" in capsys.readouterr().err
    assert cli.main(["export", str(survey.path), str(tmp_path / "x.csv"), "--size", "64"]) == 2
    assert "--size, --upload and --subject-set go with --for zooniverse" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ the upload
@pytest.fixture(scope="module")
def exported(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of all. Copy it to change it."""
    survey = Survey.open(made)
    folder = tmp_path_factory.mktemp("exported") / "out"
    finished(export_subjects(survey, every(survey), folder))
    survey.close()
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "out")


def uploaded(folder: Path, project: int = 12, name: str = "First") -> dict[str, object]:
    with panoptes.Zooniverse() as api:
        return finished(panoptes.upload(api, folder, project, name))


def is_whole(server: Panoptes, folder: Path) -> None:
    """Every image of the folder is on the server once, in one set, with its metadata."""
    wanted = read_manifests(folder)
    assert len(server.subjects) == len(wanted)
    by_id = {s["metadata"]["#voorwerp_subject_id"]: (i, s) for i, s in server.subjects.items()}
    for path, metadata in wanted:
        subject, found = by_id[metadata["#voorwerp_subject_id"]]
        assert found["metadata"] == metadata
        assert server.media[subject] == path.read_bytes()
        assert found["links"]["subject_sets"] == [str(next(iter(server.sets)))]
        assert found["links"]["project"] == "12"
    assert len(server.sets) == 1


def test_a_folder_is_uploaded_once(server: Panoptes, folder: Path) -> None:
    done = uploaded(folder)
    is_whole(server, folder)
    assert done["n_new"] == N
    n_asked = sum(method == "POST" and path == "/api/subjects" for method, path in server.asked)
    assert n_asked == N
    again = uploaded(folder)
    assert (again["n_new"], again["ids"]) == (0, done["ids"])
    is_whole(server, folder)


def test_the_survey_learns_the_ids_and_keeps_those_it_has(server: Panoptes, survey: Survey, folder: Path) -> None:
    done = uploaded(folder)
    ids: dict[int, int] = done["ids"]  # type: ignore[assignment]
    assert panoptes.remember(survey, ids) == 0
    known = survey.arrow("zooniverse_subject_id").to_pylist()
    assert dict(zip(survey.subject_ids.tolist(), known, strict=True)) == ids
    assert panoptes.remember(survey, ids) == 0
    assert panoptes.remember(survey, {int(survey.subject_ids[0]): 5, int(survey.subject_ids[1]): known[1]}) == 1
    assert survey.arrow("zooniverse_subject_id").to_pylist() == known


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/subjects", 503),  # not made
        ("POST", "/api/subjects", -1),  # made, and the answer lost
        ("PUT", r"/media/\d+", 500),  # made, without its image
        ("POST", "/api/subject_sets", -1),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
def test_an_upload_goes_on_where_it_was_stopped_and_makes_nothing_twice(
    server: Panoptes, folder: Path, method: str, path: str, status: int, after: int
) -> None:
    after = 0 if "sets" in path else after
    server.trouble[method, path] = [200] * after + [status]
    with pytest.raises(ZooniverseError):
        uploaded(folder)
    assert uploaded(folder)["n_new"]
    is_whole(server, folder)


def test_a_journal_cut_off_in_a_line_is_read_to_the_line_before(server: Panoptes, folder: Path) -> None:
    uploaded(folder)
    journal = folder / panoptes.JOURNAL
    steps = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(steps[:-1]) + steps[-1][:7])  # its image is there, and nobody knows
    uploaded(folder)
    is_whole(server, folder)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_another_project_or_set_needs_another_folder(server: Panoptes, folder: Path) -> None:
    uploaded(folder)
    for project, name in ((13, "First"), (12, "Second")):
        with pytest.raises(UsageError, match='is being uploaded as "First" to project 12 of http'):
            uploaded(folder, project, name)
    is_whole(server, folder)


def test_a_set_that_is_there_is_used(server: Panoptes, folder: Path) -> None:
    for name in ("A", "B", "C", "First"):  # on the second page
        subject_set = server.new_id()
        server.sets[subject_set] = {"id": str(subject_set), "display_name": name, "links": {"project": "12"}}
    assert uploaded(folder)["subject_set"] == subject_set
    assert len(server.sets) == 4


def test_credentials_are_sent_and_neither_kept_nor_printed(
    server: Panoptes,
    survey: Survey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ways: list[dict[str, str]] = [
        {"PANOPTES_USERNAME": USER, "PANOPTES_PASSWORD": PASSWORD},
        {"PANOPTES_CLIENT_ID": CLIENT, "PANOPTES_CLIENT_SECRET": SECRET},
        {"PANOPTES_TOKEN": TOKEN},
    ]
    for k, way in enumerate(ways):
        for name in [name for told in ways for name in told]:
            monkeypatch.delenv(name, raising=False)
        for name, value in way.items():
            monkeypatch.setenv(name, value)
        out = tmp_path / f"out{k}"
        asked = [
            "export",
            str(survey.path),
            str(out),
            "--for",
            "zooniverse",
            "--upload",
            "12",
            "--subject-set",
            f"S{k}",
        ]
        assert cli.main(asked) == 0
        assert "7 of 7 uploaded now" in capsys.readouterr().out
    assert server.headers[-1].get("Authorization", f"Bearer {TOKEN}") == f"Bearer {TOKEN}"
    said = caplog.text + "".join(capsys.readouterr())
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        said += path.read_bytes().decode("latin-1")
    for secret in (PASSWORD, SECRET, TOKEN):
        assert secret not in said


def test_who_is_not_let_in_hears_why_in_one_sentence(
    server: Panoptes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANOPTES_PASSWORD", "another")
    with pytest.raises(ZooniverseError, match=r"refused to log in: Invalid email or password\.$"):
        uploaded(folder)
    monkeypatch.delenv("PANOPTES_PASSWORD")
    with pytest.raises(AccessError, match="the environment does not say who asks Zooniverse; set PANOPTES_TOKEN"):
        uploaded(folder)
    monkeypatch.setenv("PANOPTES_TOKEN", "wrong")
    with pytest.raises(ZooniverseError, match="refused to look for the subject set: You must be logged in"):
        uploaded(folder)
    monkeypatch.setenv("PANOPTES_ENDPOINT", "http://panoptes.example")
    with pytest.raises(AccessError, match="passwords and tokens go to https:// only"):
        uploaded(folder)
    server.server_close()
    monkeypatch.setenv("PANOPTES_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("PANOPTES_PASSWORD", PASSWORD)
    with pytest.raises(ZooniverseError, match=r"http://127\.0\.0\.1:1 cannot be reached to log in \(ConnectionError\)"):
        uploaded(folder)


def test_without_the_extra_a_sentence_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "panoptes_client", None)
    with pytest.raises(UsageError, match=r"pip install 'voorwerp\[zooniverse\]'"):
        panoptes.Zooniverse()


# --------------------------------------------------------------------------------------------------------- retiring
def test_subjects_are_retired_in_batches_and_the_ledger_knows(
    server: Panoptes, survey: Survey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {int(i): 5000 + k for k, i in enumerate(survey.subject_ids[:5])}
    panoptes.remember(survey, ids)
    monkeypatch.setattr(panoptes, "BATCH", 2)
    asked = ["retire", str(survey.path), "--workflow", "77", "--where", 'source_id ~ "ngc"', "--reason", "consensus"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert cli.main(asked) == 130
    assert server.retired == []
    assert cli.main([*asked, "--yes"]) == 0
    assert server.retired == [
        (77, ("5000", "5001"), "consensus"),
        (77, ("5002", "5003"), "consensus"),
        (77, ("5004",), "consensus"),
    ]
    said = capsys.readouterr().out
    assert "2 of 7 have no id on Zooniverse and are passed over" in said
    assert "5 subjects retired in workflow 77 (consensus)" in said
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        (entry,) = ledger.entries("retirement")
    assert (entry.payload["workflow"], entry.payload["n"]) == (77, 5)


def test_nothing_is_retired_by_mistake(server: Panoptes, survey: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["retire", str(survey.path), "--workflow", "77", "--yes"]) == 2
    assert "name the subjects to retire" in capsys.readouterr().err
    assert cli.main(["retire", str(survey.path), "--workflow", "77", "--yes", "--where", 'source_id ~ "ngc"']) == 2
    assert "has an id on Zooniverse" in capsys.readouterr().err
    assert server.asked == []


# --------------------------------------------------------------------------------------------------- and back again
def panoptes_exports(folder: Path, lines: list[dict[str, str]]) -> list[Path]:
    """What Zooniverse would export after two volunteers saw every subject of a manifest: classifications, subjects."""
    subjects, said = folder / "project-subjects.csv", folder / "project-classifications.csv"
    common = {"project_id": 12, "workflow_id": 34, "subject_set_id": 56, "classifications_count": 2}
    with subjects.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["subject_id", *common, "metadata", "locations", "created_at"])
        writer.writeheader()
        for k, line in enumerate(lines):
            told = {"metadata": json.dumps(line), "locations": json.dumps({"0": f"https://example.org/{k}.jpeg"})}
            writer.writerow({"subject_id": 9000 + k, **common, **told, "created_at": "2026-03-01 10:00:00 UTC"})
    names = ["classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_name", "workflow_version"]
    names += ["created_at", "gold_standard", "expert", "metadata", "annotations", "subject_data", "subject_ids"]
    with said.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for k, line in enumerate(lines):
            for v, (user, answer) in enumerate((("ann", "Yes"), ("bob", "No"))):
                writer.writerow(
                    {
                        "classification_id": 100 + 2 * k + v,
                        "user_name": user,
                        "user_id": v + 1,
                        "workflow_id": 34,
                        "workflow_name": "Look",
                        "workflow_version": "3.1",
                        "created_at": f"2026-03-02 10:{k:02d}:{v:02d} UTC",
                        "metadata": json.dumps({"live_project": True}),
                        "annotations": json.dumps([{"task": "T0", "task_label": "Odd?", "value": answer}]),
                        "subject_data": json.dumps({str(9000 + k): {"retired": None, **line}}),
                        "subject_ids": 9000 + k,
                    }
                )
    return [subjects, said]


def votes_of(path: Path) -> dict[int, list[str]]:
    """subject_id → the answers, in order."""
    table = pq.read_table(path / CLASSIFICATIONS).select(["subject_id", "answer"])
    found: dict[int, list[str]] = {}
    for subject, answer in zip(*(column.to_pylist() for column in table.columns), strict=True):
        found.setdefault(subject, []).append(answer.lower())
    return found


@pytest.mark.parametrize("with_subjects", [True, False])
def test_what_comes_back_joins_every_subject(survey: Survey, folder: Path, tmp_path: Path, with_subjects: bool) -> None:
    subjects, said = panoptes_exports(tmp_path, manifest(folder))
    taken = finished(ingest(survey.path, [subjects, said] if with_subjects else [said]))
    assert (taken.n_subjects, taken.n_new) == (N, 0)
    assert votes_of(survey.path) == {int(i): ["yes", "no"] for i in survey.subject_ids}
    if with_subjects:
        survey.refresh()
        assert survey.arrow("zooniverse_subject_id").to_pylist() == [9000 + k for k in range(N)]


def test_ids_that_look_like_those_of_others_do_not_mislead(survey: Survey, tmp_path: Path) -> None:
    """Source ids that are other subjects' ids, in the other order, and named like files of other folders."""
    table = pq.read_table(survey.path / "subjects.parquet")
    for name, values in (
        ("source_id", [str(i) for i in survey.subject_ids[::-1].tolist()]),
        ("image", [f"a/voorwerp-{i}.jpg" for i in np.roll(survey.subject_ids, 1).tolist()]),
    ):
        i = table.schema.get_field_index(name)
        table = table.set_column(i, table.schema.field(i), pa.array(values))
    pq.write_table(table, survey.path / "subjects.parquet")
    survey.refresh()
    finished(export_subjects(survey, every(survey), tmp_path / "out"))
    files = panoptes_exports(tmp_path, manifest(tmp_path / "out"))
    finished(ingest(survey.path, files))
    survey.refresh()
    assert survey.arrow("zooniverse_subject_id").to_pylist() == [9000 + k for k in range(N)]
    assert votes_of(survey.path) == {int(i): ["yes", "no"] for i in survey.subject_ids}


def test_ids_of_another_survey_join_nothing_by_number(survey: Survey, folder: Path, tmp_path: Path) -> None:
    lines = [{k: v for k, v in line.items() if k != "#source_id"} for line in manifest(folder)]
    described = Described()
    for k, line in enumerate(lines):
        described.add(k, line | {"#voorwerp_survey_id": "another survey", "#image": "x"})
    found = match(survey, pa.array([str(9000 + k) for k in range(N)]), True, described.table(N))
    assert found.subject_ids.tolist() == [-1] * N
