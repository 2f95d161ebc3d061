"""Files of votes get into a survey whole, once, and with an account of every row."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest.build import create_table_only
from explorer.services.simulated import Worth, simulate
from explorer.services.volunteers import recount
from explorer.survey import Survey, check
from explorer.votes import CLASSIFICATIONS, EXPERIENCE, GOLD, SET_ASIDE, SOURCES, TOTALS, volunteer_hash
from tests.conftest import FIRST_ID
from tests.explorer.exports import COLUMNS, aside, row, taken_in, votes, write_export
from tests.explorer.making import make


def text(path: Path, content: str) -> Path:
    """A file of this content."""
    path.write_text(content, encoding="utf-8")
    return path


def account(done: Any) -> list[tuple[int, int, int, int]]:
    """(rows, taken, known, aside) of each file."""
    assert all(t.n_rows == t.n_taken + t.n_known + t.n_aside for t in done.taken)
    return [(t.n_rows, t.n_taken, t.n_known, t.n_aside) for t in done.taken]


def content(survey: Path) -> dict[str, bytes]:
    """Every file of a survey."""
    return {str(f.relative_to(survey)): f.read_bytes() for f in survey.rglob("*") if f.is_file()}


# ------------------------------------------------------------------------------------------------------- set aside
def test_every_row_that_cannot_be_taken_is_kept_aside_with_its_line(tmp_path: Path) -> None:
    rows = [
        row(1),
        row(2, annotations="[{broken"),
        row(3, metadata="{broken"),
        row(4, subject_data="{broken"),
        row(5, annotations=[]),
        row(6, annotations='{"task": 1}'),
        row(7, annotations=[{"value": 1}]),
        row(8, "x1"),
        row(9, "", subject_data={}),
        row(10, workflow_id="thirty"),
        {**row(11), "classification_id": "eleven"},
        row(1, annotations=[{"task": "T0", "value": "No"}]),
        row(13),
    ]
    file = write_export(tmp_path / "c.csv", rows)
    with file.open("a") as more:
        more.write("14,too,few\n15,cut,off")
    done = taken_in(tmp_path / "s", file)
    assert account(done) == [(15, 2, 0, 13)]
    assert votes(tmp_path / "s") == [(1, 501, "T0", "Yes"), (13, 501, "T0", "Yes")]
    assert sorted(aside(tmp_path / "s")) == [
        (3, "2", "annotations is not JSON"),
        (4, "3", "metadata is not JSON"),
        (5, "4", "subject_data is not JSON"),
        (6, "5", "it has no annotation"),
        (7, "6", "annotations is JSON of another kind"),
        (8, "7", "annotations are not of the shape [{task, value}]"),
        (9, "8", "the subject id is no number"),
        (10, "9", "it names no subject"),
        (11, "10", "the workflow id is no number"),
        (12, None, "the classification id is no number"),
        (13, "1", "a classification id that an earlier row of the file has"),
        (15, None, "another number of columns than the header"),
        (16, None, "the file ends within the row"),
    ]
    assert done.reasons["c.csv"]["it names no subject"] == 1
    assert set(pq.read_table(tmp_path / "s" / SET_ASIDE).column("file").to_pylist()) == {"c.csv"}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"classification_id": "9" * 30}, "the classification id is no number"),
        ({"classification_id": "Ada Byron"}, "the classification id is no number"),
        ({"workflow_id": "9" * 30}, "the workflow id is no number"),
        ({"subject_ids": "²"}, "the subject id is no number"),
        ({"annotations": "[" * 100_000 + "]" * 100_000}, "annotations is not JSON"),
        ({"annotations": r'[{"task": "T0", "value": "\ud800"}]'}, "annotations is not JSON"),
        (
            {"annotations": '[{"task": "T0", "value": [{"tool": 0, "details": 5}]}]'},
            "annotations are of a shape that is not known",
        ),
        ({"annotations": '[{"task": "T0", "value": ' + '[{"task": "T0", "value": ' * 400 + "1" + "}]" * 401}, None),
    ],
)
def test_no_cell_is_so_odd_that_it_stops_the_others(told: dict[str, str], reason: str | None, tmp_path: Path) -> None:
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", [row(1), {**row(2), **told}, row(3)]))
    found = aside(tmp_path / "s") if (tmp_path / "s" / SET_ASIDE).exists() else []
    is_id = "classification_id" in told  # it may be anything, a name too
    assert found == ([] if reason is None else [(3, None if is_id else "2", reason)])
    assert len(votes(tmp_path / "s")) == 3 - len(found)
    assert recount(tmp_path / "s")


def test_a_version_of_a_workflow_that_is_none_is_unknown(tmp_path: Path) -> None:
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", [row(1, workflow_version="v2"), row(2)]))
    assert "workflow 30 · T0 · Yes: 2 classifications" in recount(tmp_path / "s")[0]


def test_files_of_one_name_in_two_folders_each_have_their_account(tmp_path: Path) -> None:
    for name, rows in (("a", [row(1)]), ("b", [row(2), row(3, annotations="{"), row(4)])):
        (tmp_path / name).mkdir()
        write_export(tmp_path / name / "c.csv", rows)
    taken_in(tmp_path / "s", tmp_path / "a" / "c.csv", tmp_path / "b" / "c.csv")
    told = json.loads((tmp_path / "s" / SOURCES).read_text())["files"].values()
    assert [(t["n_rows"], t["n_taken"], t["n_aside"]) for t in told] == [(1, 1, 0), (3, 2, 1)]


def test_flat_votes_of_another_workflow_are_other_votes(tmp_path: Path) -> None:
    files = [text(tmp_path / f"{w}.csv", f"item,worker,label,workflow_id\na,w1,yes,{w}\n") for w in (10, 11)]
    assert account(taken_in(tmp_path / "s", *files)) == [(1, 1, 0, 0), (1, 1, 0, 0)]


def test_ids_of_simulated_votes_stand_in_nobody_s_way(tmp_path: Path) -> None:
    create_table_only(tmp_path / "survey", pa.table({"source_id": ["501", "502"]}), "a survey")
    with contextlib.closing(Survey.open(tmp_path / "survey")) as survey:
        simulate(survey, Worth(np.array([True, False]), np.ones(2, np.float32), "planted"), n_views=2)
    done = taken_in(tmp_path / "survey", write_export(tmp_path / "c.csv", [row(1), row(2, "502")]))
    assert account(done) == [(2, 2, 0, 0)]


def test_a_file_gives_more_once_the_survey_has_more_subjects(tmp_path: Path) -> None:
    create_table_only(tmp_path / "s", pa.table({"source_id": ["501"]}), "a survey")
    told = [{"id": i, "name": "ring", "taggable_type": "Subject", "taggable_id": 500 + i} for i in (1, 2)]
    tags = text(tmp_path / "tags.json", json.dumps(told))
    assert account(taken_in(tmp_path / "s", tags)) == [(2, 1, 0, 1)]
    assert account(taken_in(tmp_path / "s", tags)) == [(2, 0, 2, 0)]  # nothing has changed
    taken_in(tmp_path / "s", text(tmp_path / "v.csv", "item,worker,label\n502,w1,1\n"))
    assert account(taken_in(tmp_path / "s", tags)) == [(2, 1, 1, 0)]
    assert aside(tmp_path / "s") == []


def test_outcomes_keep_nobody_s_name(tmp_path: Path) -> None:
    done = taken_in(tmp_path / "s", text(tmp_path / "o.csv", "subject_id,user_name,count\n1,Ada,3\n2,Bob,4\n"))
    assert 'column "user_name" says who somebody is, and was not kept' in done.taken[0].notes
    with contextlib.closing(Survey.open(tmp_path / "s")) as survey:
        names = [column.name for column in survey.columns()]
    assert "count" in names and "user_name" not in names


def test_a_file_cut_off_within_its_last_id_is_noticed(tmp_path: Path) -> None:
    file = write_export(tmp_path / "c.csv", [row(1, "50123"), row(2, "50124")])
    file.write_text(file.read_text()[:-3])  # …,501
    assert account(taken_in(tmp_path / "s", file)) == [(2, 1, 0, 1)]
    assert aside(tmp_path / "s") == [(3, "2", "the file ends within the row")]


def test_columns_that_are_missing_leave_unknown_what_they_would_say(tmp_path: Path) -> None:
    columns = [c for c in COLUMNS if c not in ("metadata", "gold_standard", "subject_data", "user_id", "created_at")]
    done = taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", [row(1), row(2, "502")], columns))
    assert account(done) == [(2, 2, 0, 0)]
    assert done.taken[0].notes == (
        "it has no column user_id, created_at, gold_standard, metadata, subject_data: what would be there is unknown",
    )
    table = pq.read_table(tmp_path / "s" / CLASSIFICATIONS)
    for name in ("is_live", "is_gold", "created_at", "seconds"):
        assert table.column(name).null_count == 2
    assert table.column("is_anonymous").to_pylist() == [False, False]


def test_rows_of_another_encoding_are_taken_and_named(tmp_path: Path) -> None:
    rows = [row(1), row(2, annotations='[{"task": "T0", "value": "Huasaí"}]')]
    file = write_export(tmp_path / "c.csv", rows)
    file.write_bytes(file.read_text(encoding="utf-8").encode("cp1252"))
    done = taken_in(tmp_path / "s", file)
    assert [vote[-1] for vote in votes(tmp_path / "s")] == ["Yes", "Huasaí"]
    assert done.taken[0].notes == ("line 3 is not UTF-8 and was read as Windows-1252",)


def test_flat_votes_that_cannot_be_taken(tmp_path: Path) -> None:
    flat = "item,worker,label\na,w1,1\n,w1,1\nb,,1\nb,w2\n\nb,NA,0\nb,w2,NA\na,w1,1,1\na,w2,0\nb"
    done = taken_in(tmp_path / "s", text(tmp_path / "v.csv", flat))
    assert account(done) == [(9, 3, 0, 6)]
    assert [(item, answer) for _, item, _, answer in votes(tmp_path / "s")] == [(0, "1"), (1, ""), (0, "0")]
    assert sorted(aside(tmp_path / "s")) == [
        (3, None, "it names no subject"),
        (4, "b", "it names no volunteer"),
        (5, None, "another number of columns than the header"),
        (7, "b", "it names no volunteer"),
        (9, None, "another number of columns than the header"),
        (11, None, "the file ends within the row"),
    ]


@pytest.mark.parametrize("how", ["plain", "quoted", "utf-16"])
def test_flat_votes_are_the_same_however_they_are_written(how: str, tmp_path: Path) -> None:
    lines = [("item", "worker", "label"), *((f"g{i % 7}", f"w{i % 5}", str(i % 2)) for i in range(200))]
    mark = '"' if how == "quoted" else ""
    written = "".join(",".join(f"{mark}{cell}{mark}" for cell in line) + "\n" for line in lines)
    (tmp_path / "v.csv").write_bytes(written.encode("utf-16" if how == "utf-16" else "utf-8"))
    taken_in(tmp_path / "s", tmp_path / "v.csv")
    survey = Survey.open(tmp_path / "s")
    found = [(survey.source_ids([s])[0], answer) for _, s, _, answer in votes(tmp_path / "s")]
    assert found == [(item, label) for item, _, label in lines[1:]], "and in the order of the file"


def test_totals_that_cannot_be(tmp_path: Path) -> None:
    table = "subject_id count selected_count unique_user_count\n1 10 4 9\n2 3 4 3\n3 x 1 1\n1 10 4 9\n4 5 5\n5 8 0 NA\n"
    done = taken_in(tmp_path / "s", text(tmp_path / "t.dat", table))
    assert account(done) == [(6, 2, 0, 4)]
    names = ("subject_id", "answer", "n_classifications", "n_volunteers", "n_chosen", "n_chosen_volunteers")
    totals = pq.read_table(tmp_path / "s" / TOTALS).select(names).to_pylist()
    assert [tuple(total.values()) for total in totals] == [
        (1, "chosen", 10, 9, 4, None),
        (5, "chosen", 8, None, 0, None),
    ]
    assert [reason for _, _, reason in aside(tmp_path / "s")] == [
        "more were chosen than seen",
        "a count is missing or no whole number",
        "a subject, task and answer that an earlier row has",
        "another number of columns than the header",
    ]


@pytest.mark.parametrize(
    "table",
    [
        "subject_id,workflow_id,task,reducer,data.No,data.Yes,data.None,data.aggregation_version\n7,30,T0,q,3,5,,4.1\n",
        'subject_id,workflow_id,reducer_key,data\n7,30,T0,"{""No"": 3, ""Yes"": 5}"\n',
        "subject_id,workflow_id,task,data.choice,data.choice_count,data.total_vote_count\n7,30,T0,No,3,8\n7,30,T0,Yes,5,8\n",
    ],
    ids=["question reducer", "Caesar", "survey reducer"],
)
def test_reductions_are_totals_of_each_answer(table: str, tmp_path: Path) -> None:
    taken_in(tmp_path / "s", text(tmp_path / "r.csv", table))
    totals = pq.read_table(tmp_path / "s" / TOTALS).to_pylist()
    found = {(t["workflow_id"], t["task"], t["answer"]): (t["n_chosen"], t["n_classifications"]) for t in totals}
    assert {k: v for k, v in found.items() if k[2]} == {(30, "T0", "No"): (3, 8), (30, "T0", "Yes"): (5, 8)}


# ------------------------------------------------------------------------------------------------------------- again
def test_the_same_file_again_changes_nothing_and_says_so(tmp_path: Path) -> None:
    file = write_export(tmp_path / "c.csv", [row(1), row(2, annotations="broken")])
    taken_in(tmp_path / "s", file)
    before = content(tmp_path / "s")
    file.rename(tmp_path / "by another name.csv")
    done = taken_in(tmp_path / "s", tmp_path / "by another name.csv")
    assert done.sentences() == ["by another name.csv: classification export; it was taken before, and nothing changes"]
    after = content(tmp_path / "s")
    after.pop("write.lock")
    assert after == before


def test_a_newer_export_adds_what_is_new(tmp_path: Path) -> None:
    rows = [row(i, str(500 + i % 3)) for i in range(1, 21)]
    taken_in(tmp_path / "s", write_export(tmp_path / "old.csv", rows[5:15]))
    done = taken_in(tmp_path / "s", write_export(tmp_path / "new.csv", rows))
    assert account(done) == [(20, 10, 10, 0)]
    taken_in(tmp_path / "at once", tmp_path / "new.csv")
    assert votes(tmp_path / "s") == votes(tmp_path / "at once")


def test_an_older_and_a_newer_export_in_one_call(tmp_path: Path) -> None:
    rows = [row(i) for i in range(1, 7)]
    files = write_export(tmp_path / "new.csv", rows[::-1]), write_export(tmp_path / "old.csv", rows[:3])
    assert account(taken_in(tmp_path / "s", *files)) == [(6, 6, 0, 0), (3, 0, 3, 0)]
    assert [id_ for id_, *_ in votes(tmp_path / "s")] == [1, 2, 3, 4, 5, 6]


def test_longer_flat_votes_add_what_is_new_though_they_have_no_ids(tmp_path: Path) -> None:
    lines = ["a,w1,1", "a,w1,1", "b,w1,0", "a,w2,1", "a,w1,1", "b,w2,1"]
    head = "item,worker,label\n"
    taken_in(tmp_path / "s", text(tmp_path / "v.csv", head + "\n".join(lines[:3]) + "\n"))
    done = taken_in(tmp_path / "s", text(tmp_path / "w.csv", head + "\n".join(lines) + "\n"))
    assert account(done) == [(6, 3, 3, 0)]
    ids, *_ = zip(*votes(tmp_path / "s"), strict=True)
    assert len(votes(tmp_path / "s")) == 6
    assert list(ids) == sorted(set(ids))
    assert max(ids) < 0, "no id of Zooniverse's is taken"


def test_newer_totals_and_gold_labels_take_the_place_of_the_older(tmp_path: Path) -> None:
    head = "subject_id,count,selected_count\n"
    old = text(tmp_path / "t.csv", head + "1,10,4\n2,10,5\n"), text(tmp_path / "g.csv", "item,truth\n1,a\n2,b\n")
    taken_in(tmp_path / "s", *old)
    new = text(tmp_path / "t2.csv", head + "2,12,5\n1,10,4\n"), text(tmp_path / "g2.csv", "item,truth\n2,c\n1,a\n")
    assert account(taken_in(tmp_path / "s", *new)) == [(2, 1, 1, 0), (2, 1, 1, 0)]
    totals = pq.read_table(tmp_path / "s" / TOTALS).to_pylist()
    assert {t["subject_id"]: t["n_classifications"] for t in totals} == {1: 10, 2: 12}
    assert {g["subject_id"]: g["answer"] for g in pq.read_table(tmp_path / "s" / GOLD).to_pylist()} == {1: "a", 2: "c"}


def test_votes_in_many_parts_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(i * 7 % 100, f"{500 + i % 5};{600 + i % 3}") for i in range(1, 100)]
    file = write_export(tmp_path / "c.csv", [*rows, row(50), row(3)])
    done = taken_in(tmp_path / "one", file)
    monkeypatch.setattr("explorer.ingest.zooniverse._BATCH", 8)
    monkeypatch.setattr("explorer.ingest.classifications.BATCH", 16)
    monkeypatch.setattr("explorer.ingest.matching._BLOCK", 4)
    assert account(taken_in(tmp_path / "many", file)) == account(done) == [(101, 99, 0, 2)]
    assert votes(tmp_path / "many") == votes(tmp_path / "one")


# -------------------------------------------------------------------------------------------------------- subjects
def subject_export(path: Path, subjects: dict[int, dict[str, Any]]) -> Path:
    """A subject export."""
    lines = ["subject_id,project_id,workflow_id,subject_set_id,metadata,locations"]
    for id_, metadata in subjects.items():
        cell, place = (json.dumps(x).replace('"', '""') for x in (metadata, {"0": "https://example.org/3f.jpeg"}))
        lines += [f'{id_},1,{workflow},1,"{cell}","{place}"' for workflow in (30, 31)]
    return text(path, "\n".join(lines) + "\n")


def test_a_new_survey_has_the_metadata_of_its_subjects(tmp_path: Path) -> None:
    known = {
        501: {
            "ra": "150.5",
            "dec": -2,
            "!magnitude": "17.5",
            "#file": "a.png",
            "//note": "x",
            "list": [1],
            "name": "N1",
        },
        502: {"ra": "151.5", "dec": 2, "!magnitude": "18", "#file": "b.png", "source_id": "own", "name": "007"},
    }
    done = taken_in(tmp_path / "s", subject_export(tmp_path / "s.csv", known))
    assert account(done) == [(4, 2, 2, 0)]
    survey = Survey.open(tmp_path / "s")
    told = {"ra": 150.5, "dec": -2.0, "magnitude": 17.5, "name": "N1", "zooniverse_subject_id": 501}
    assert {name: survey.subject(0)[name] for name in told} == told
    assert survey.subject(1)["source_id"] == "502"
    assert survey.subject(1)["source_id_given"] == "own"
    assert not {"#file", "//note", "l", "!magnitude"} & {column.name for column in survey.columns()}
    assert check(tmp_path / "s") == []


@pytest.fixture
def with_images(tmp_path: Path, tiny_images: list[Path]) -> Path:
    """A survey of twelve images, whose names are the subjects' ids."""
    make(tmp_path / "s", tmp_path / "images")
    return tmp_path / "s"


@pytest.mark.parametrize("how", ["subject export", "the classifications' own metadata"])
def test_zooniverse_s_subjects_meet_the_survey_s_images(
    how: str, with_images: Path, tiny_images: list[Path], tmp_path: Path
) -> None:
    images = {900 + i: {"n": str(i), "Filename": f"folder/{image.name}"} for i, image in enumerate(tiny_images)}
    images[999] = {"n": "99", "Filename": "elsewhere.png"}
    export = how == "subject export"
    rows = [row(i, str(id_), subject_data={} if export else {str(id_): images[id_]}) for i, id_ in enumerate(images)]
    files = [write_export(tmp_path / "c.csv", rows)]
    done = taken_in(with_images, *([subject_export(tmp_path / "s.csv", images)] if export else []), *files)
    assert account(done)[-1] == (13, 12, 0, 1)
    assert (14, "999", "no such subject in the survey") in aside(with_images)
    survey = Survey.open(with_images)
    found = dict(zip(survey.arrow("zooniverse_subject_id").to_pylist(), survey.ids_as_text().to_pylist(), strict=True))
    assert found == {900 + i: image.stem for i, image in enumerate(tiny_images)}
    by_id = {id_: subject for id_, subject, *_ in votes(with_images)}
    assert by_id == {i: int(survey.subject_ids[survey.row_of_source(tiny_images[i].stem) or 0]) for i in range(12)}
    again = taken_in(with_images, write_export(tmp_path / "d.csv", [row(50, "903", subject_data={})]))
    assert account(again) == [(1, 1, 0, 0)], "the ids are known from now on"
    assert check(with_images) == []


def test_votes_on_images_by_their_names(with_images: Path, tiny_images: list[Path], tmp_path: Path) -> None:
    lines = [f"{tiny_images[0].name},w,1", f"{tiny_images[1].stem},w,0", "nothing,w,1"]
    done = taken_in(with_images, text(tmp_path / "v.csv", "item,worker,label\n" + "\n".join(lines) + "\n"))
    assert account(done) == [(3, 2, 0, 1)]


def test_votes_on_other_subjects_altogether_are_refused(with_images: Path, tmp_path: Path) -> None:
    before = content(with_images)
    with pytest.raises(
        IngestError, match=r"no subject of the files is in .*theirs is called 501.*give the subject export"
    ):
        taken_in(with_images, write_export(tmp_path / "c.csv", [row(1)]))
    after = content(with_images)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"write.lock"}


def test_a_survey_without_images_grows(tmp_path: Path) -> None:
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", [row(1, "501", subject_data={"501": {"size": "3"}})]))
    more = [row(2, "502", subject_data={"502": {"size": 4, "shape": "ring"}}), row(3, "501")]
    flat = text(tmp_path / "v.csv", "item,worker,label\n501,w,1\nodd,w,1\n")
    done = taken_in(tmp_path / "s", write_export(tmp_path / "d.csv", more), flat)
    assert account(done) == [(2, 2, 0, 0), (2, 1, 0, 1)], "an id that is no number does not fit beside numbers"
    survey = Survey.open(tmp_path / "s")
    assert survey.ids_as_text().to_pylist() == ["501", "502"]
    assert survey.arrow("size").to_pylist() == [3, 4]
    assert survey.arrow("shape").to_pylist() == [None, "ring"]
    assert (done.n_new, done.n_subjects) == (1, 2)
    assert check(tmp_path / "s") == []


def test_ids_beyond_two_to_the_53rd_stay_exact(tmp_path: Path) -> None:
    lines = [f"{FIRST_ID + i},w,{i}" for i in range(3)]
    taken_in(tmp_path / "s", text(tmp_path / "v.csv", "item,worker,label\n" + "\n".join(lines) + "\n"))
    assert [subject for _, subject, *_ in votes(tmp_path / "s")] == [FIRST_ID + i for i in range(3)]
    create_table_only(tmp_path / "t", pa.table({"source_id": [f"{FIRST_ID + i}" for i in range(3)]}), "T")
    taken_in(tmp_path / "t", tmp_path / "v.csv")
    assert votes(tmp_path / "t") == votes(tmp_path / "s")


def test_outcomes_become_columns_beside_what_is_there(tmp_path: Path) -> None:
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", [row(1, "501"), row(2, "502")]))
    table = "subject_ids,classifications,advance\n502,5,retire\n501,6,advance\n502,9,advance\n"
    done = taken_in(tmp_path / "s", text(tmp_path / "o.csv", table))
    assert account(done) == [(3, 2, 0, 1)]
    survey = Survey.open(tmp_path / "s")
    assert survey.arrow("advance").to_pylist() == ["advance", "retire"]
    assert survey.arrow("classifications").to_pylist() == [6, 5]


# ------------------------------------------------------------------------------------------------------ experience
def test_experience_is_counted_by_volunteer_and_never_twice(tmp_path: Path) -> None:
    taken_in(tmp_path / "s", write_export(tmp_path / "c.csv", [row(1)]))
    elsewhere = [row(i, user_name=name, user_id=name, workflow_id="99") for i, name in enumerate(["Ada", "ada", "bo"])]
    anonymous = row(9, user_name="not-logged-in-1", user_id="", workflow_id="99")
    first = write_export(tmp_path / "other.csv", [*elsewhere, anonymous])
    table = text(tmp_path / "n.csv", "user_name,n\nada,120\ncy,3\ncy,x\n")
    done = taken_in(tmp_path / "s", experience=[first, table])
    assert account(done) == [(4, 3, 0, 1), (3, 2, 0, 1)]
    assert len(votes(tmp_path / "s")) == 1, "they are no votes"

    def counts() -> dict[str, list[int]]:
        held = pq.read_table(tmp_path / "s" / EXPERIENCE).to_pylist()
        survey_id = Survey.open(tmp_path / "s").info.survey_id
        names = dict(zip(volunteer_hash(["ada", "bo", "cy"], survey_id), ["ada", "bo", "cy"], strict=True))
        found: dict[str, list[int]] = {}
        for line in held:
            found.setdefault(names[line["volunteer"]], []).append(line["n_elsewhere"])
        return {name: sorted(n) for name, n in found.items()}

    assert counts() == {"ada": [2, 120], "bo": [1], "cy": [3]}
    newer = write_export(tmp_path / "newer.csv", [*elsewhere, row(5, user_name="bo", workflow_id="99")])
    taken_in(tmp_path / "s", experience=[newer])
    assert counts() == {"ada": [2, 120], "bo": [2], "cy": [3]}


# --------------------------------------------------------------------------------------------------------- refusals
def test_what_is_not_recognised_does_not_stop_the_others(tmp_path: Path) -> None:
    odd = text(tmp_path / "odd.csv", "ra,dec\n1,2\n")
    done = taken_in(tmp_path / "s", odd, write_export(tmp_path / "c.csv", [row(1)]))
    assert account(done) == [(1, 1, 0, 0)]
    assert len(done.refused) == 1
    assert "odd.csv is not recognised: its columns are ra, dec" in done.refused[0]


def test_what_cannot_be_ingested_at_all(tmp_path: Path) -> None:
    odd = text(tmp_path / "odd.csv", "ra,dec\n1,2\n")
    n = text(tmp_path / "n.csv", "user_name,n\nada,1\n")
    for files, options, error, match in [
        ([], {}, UsageError, "there is nothing to ingest"),
        ([tmp_path / "no.csv"], {}, UsageError, "no.csv does not exist"),
        ([tmp_path], {}, UsageError, "is a folder; name its files"),
        ([odd], {}, IngestError, "is not recognised"),
        ([n], {}, IngestError, "the survey .*s does not exist yet, and table of experience alone does not say which"),
        ([], {"experience": [odd]}, IngestError, "is not recognised"),
        (
            [write_export(tmp_path / "c.csv", [row(1, "x")])],
            {},
            IngestError,
            r"the only row of c.csv was set aside: 1 × .*\(line 2\)",
        ),
    ]:
        with pytest.raises(error, match=match):
            taken_in(tmp_path / "s", *files, **options)
        assert not (tmp_path / "s").exists()
        assert not list(tmp_path.glob(".s.*"))
    (tmp_path / "s").mkdir()
    text(tmp_path / "s" / "something", "else")
    with pytest.raises(SurveyError, match="is not a survey"):
        taken_in(tmp_path / "s", n)


def test_where_every_row_is_set_aside_each_reason_has_its_count_and_first_lines(tmp_path: Path) -> None:
    bad = "".join(f"{i},x,1\n" for i in range(3, 8))
    file = text(tmp_path / "counts.csv", f"subject_id,count,selected_count\n1,5,9\n2,-3,1\n{bad}")
    with pytest.raises(IngestError) as error:
        taken_in(tmp_path / "s", file)
    assert str(error.value).endswith(
        "was not made: all 7 rows of counts.csv were set aside: 6 × a count is missing or no whole number "
        "(lines 3, 4, 5, …), 1 × more were chosen than seen (line 2)"
    )
    create_table_only(tmp_path / "there", pa.table({"source_id": ["1", "2"]}), "there")
    said = taken_in(tmp_path / "there", file).sentences()
    assert "  6 × a count is missing or no whole number" in said, "no error where the survey is there"


def test_talk_alone_makes_no_survey_and_damage_is_said_besides(tmp_path: Path) -> None:
    tags = [{"name": "ring", "taggable_id": i, "taggable_type": "Subject", "user_id": 1} for i in range(40)]
    whole = text(tmp_path / "tags.json", json.dumps(tags))
    cut = text(tmp_path / "cut.json", whole.read_text()[:-30])
    for file, end in (
        (whole, "a reduced table too$"),
        (cut, r"\(cut.json is damaged besides: its element 40 cannot be"),
    ):
        with pytest.raises(IngestError, match=f"the survey .*s does not exist yet, and Talk tags alone do not.*{end}"):
            taken_in(tmp_path / "s", file)


def test_a_survey_that_another_command_writes_to_is_left_alone(tmp_path: Path) -> None:
    file = write_export(tmp_path / "c.csv", [row(1)])
    taken_in(tmp_path / "s", file)
    with Survey.open(tmp_path / "s").lock(), pytest.raises(SurveyError, match="another command is writing"):
        taken_in(tmp_path / "s", write_export(tmp_path / "d.csv", [row(2)]))


# ------------------------------------------------------------------------------------------------------------ kills
_KILLED = """
import os, signal, sys
from pathlib import Path
at, count = int(sys.argv[1]), 0
def hook(event, arguments):
    global count
    is_change = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
    if is_change or (event == "open" and "r" not in str(arguments[1])):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
from tests.explorer.exports import taken_in
files = [Path(f) for f in sys.argv[3:]]
sys.addaudithook(hook)
taken_in(Path(sys.argv[2]), *files)
print(count)
"""


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there"])
def test_killed_at_any_moment_the_survey_is_as_it_was_or_the_same_call_finishes_it(
    is_new: bool, tmp_path: Path
) -> None:
    first = write_export(tmp_path / "a.csv", [row(1), row(2, "502")])
    more = write_export(tmp_path / "b.csv", [row(3, "503"), row(4, "502", annotations="broken")])
    gold = text(tmp_path / "g.csv", "item,truth\n501,Yes\n")

    def begin(name: str) -> Path:
        if not is_new:
            taken_in(tmp_path / name, first)
        return tmp_path / name

    def run(at: int, survey: Path) -> subprocess.CompletedProcess[str]:
        files = [first, more, gold] if is_new else [more, gold]
        command = [sys.executable, "-c", _KILLED, str(at), str(survey), *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    whole = begin("whole")
    n_moments = int(run(0, whole).stdout)
    expected, n_aside = votes(whole), aside(whole)
    moments = [n_moments // 2, n_moments - 3, n_moments - 1]  # while it reads, while files take their places
    for at in moments:
        survey = begin(f"killed{at}")
        before = votes(survey) if not is_new else []
        assert run(at, survey).returncode == -signal.SIGKILL
        if survey.exists():
            assert check(survey) == []
            assert votes(survey) in (before, expected)
        taken_in(survey, *([first] if is_new else []), more, gold)
        assert votes(survey) == expected
        assert aside(survey) == n_aside
        assert not list(survey.glob(".ingest.*")), "and nothing is left lying about"


# ---------------------------------------------------------------------------------------------------------- command
def test_the_command_says_what_it_took_each_file_for(
    voorwerp: Callable[..., str], shared_data: Path, tmp_path: Path
) -> None:
    exports = shared_data / "zooniverse_exports"
    files = [exports / f"cat-project-{kind}.csv" for kind in ("classifications", "subjects")]
    said = voorwerp("ingest", tmp_path / "s", *files)
    assert "cat-project-classifications.csv: classification export; 153 of 153 rows taken" in said
    assert "cat-project-subjects.csv: subject export; 30 of 30 rows taken" in said
    assert "30 subjects, without images: a new survey" in said
    assert check(tmp_path / "s") == []
    again = voorwerp("ingest", tmp_path / "s", exports / "cat-project-subjects.csv")
    assert "subject export; it was taken before, and nothing changes" in again


def test_a_refused_file_makes_the_command_fail_after_the_others(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from explorer.commands.ingesting import ingest

    odd, good = (
        text(tmp_path / "odd.csv", "ra,dec\n1,2\n"),
        text(tmp_path / "v.csv", "item,worker,label\na,w,1\n,w,1\n"),
    )
    answer = CliRunner().invoke(ingest, [str(tmp_path / "s"), str(odd), str(good)])
    assert answer.exit_code == 1
    assert "v.csv: flat votes; 1 of 2 rows taken, 1 set aside\n  1 × it names no subject" in answer.output
    assert "odd.csv is not recognised" in answer.output
    assert "what was set aside is in" in answer.output
    assert len(votes(tmp_path / "s")) == 1


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twelve times the votes on the same subjects: a quarter at most of what the file grows by."""
    code = (
        "import sys; from pathlib import Path; from tests.explorer.exports import taken_in;"
        "taken_in(Path(sys.argv[1]), Path(sys.argv[2]));"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    metadata = {"live_project": True, "filler": "x" * 8_000}
    peaks, sizes = [], []
    for name, n in (("small", 500), ("large", 6_000)):
        file = write_export(tmp_path / f"{name}.csv", [row(i, str(500 + i % 50), metadata=metadata) for i in range(n)])
        command = [sys.executable, "-c", code, str(tmp_path / name), str(file)]
        peaks.append(1_024 * int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        sizes.append(file.stat().st_size)
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 4
