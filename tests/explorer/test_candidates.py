"""Candidates as others read them: each format opened by the library of its readers; who graded is not named."""

import csv
import io
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from PIL import Image

from explorer.errors import AccessError, SampError, UsageError
from explorer.people import Person
from explorer.services import candidates
from explorer.services.campaigns import Campaign
from explorer.services.candidate_gallery import Card, gallery_html
from explorer.services.candidates import Asked, export, send, written
from explorer.services.desk import Desk
from explorer.services.vote_import import import_votes, keep_outcome, rows_of
from tests.conftest import FIRST_ID, made_once
from tests.explorer.graded import TRUE, grade, keep, opened, plan, write_survey

PEOPLE = ("grader-1", "grader-2", "grader-3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]) -> Path:
    return made_once(tmp_path_factory, "graded_survey", lambda folder: write_survey(folder, voorwerp)) / "survey"


@pytest.fixture(scope="module")
def desk(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("desk") / "survey")
    with opened(copy) as desk:
        yield desk


@pytest.fixture(scope="module")
def campaign(desk: Desk) -> Campaign:
    """Rows 0 to 19 graded by three, of whom one thinks row 2 an A and nobody can judge row 9; row 1 confirmed."""
    keep(desk, "best", np.arange(20))
    made = desk.campaigns.of_selection(plan("Lenses", graders=3, audit=5), "best", "owner-1")
    for who in PEOPLE:
        told = TRUE | {9: "Q"} | ({2: "A", 4: "X"} if who == "grader-3" else {})
        grade(desk, made, who, told, interesting=(0,) if who == "grader-1" else ())
    keep_outcome(desk, 1, "confirmed", "spectrum of 2026-01-02", "owner-1")
    return made


def rows_of_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


# ------------------------------------------------------------------------------------------------------------ tables
def test_a_csv_has_the_best_first_with_exact_ids_and_k_of_n(desk: Desk, campaign: Campaign) -> None:
    rows = rows_of_csv(written(desk, campaign, "csv"))
    assert [row["source_id"] for row in rows[:5]] == [str(FIRST_ID + i) for i in (0, 1, 2, 3, 5)]
    assert list(rows[0])[:6] == ["subject_id", "source_id", "ra", "dec", "grade", "value"]
    assert [row["grade"] for row in rows[:6]] == ["A", "A", "B", "B", "C", "X"]  # a mean of ⅔ reaches no C
    assert (rows[0]["n_interesting"], rows[0]["n_found_votes"], rows[0]["n_votes"]) == ("1", "3", "3")
    assert float(rows[2]["value"]) == pytest.approx(7 / 3)
    assert {row["outcome"] for row in rows if row["source_id"] == str(FIRST_ID + 1)} == {"confirmed"}
    cannot = next(row for row in rows if row["source_id"] == str(FIRST_ID + 9))
    assert (cannot["grade"], cannot["n_votes"], cannot["n_cannot"], cannot["value"]) == ("Q", "0", "3", "")
    assert sum(row["role"] == "audit" for row in rows) == 5
    assert {(row["campaign_id"], row["scheme"], row["drawn_from"]) for row in rows} == {
        (campaign.id, "A B C X", "the selection “best”")
    }
    assert {row["note"][:2] for row in rows} == {"'="}  # a spreadsheet runs nothing


def test_graders_are_hashes_unless_names_are_asked_for(desk: Desk, campaign: Campaign) -> None:
    for form in ("csv", "votable", "json", "html", "regions", "parquet"):
        content = written(desk, campaign, form)
        assert not any(who.encode() in content for who in (*PEOPLE, "owner-1")), form
    rows = rows_of_csv(written(desk, campaign, "csv"))
    hashes = {vote.partition("=")[0] for row in rows for vote in row["votes"].split(";")}
    assert len(hashes) == 3
    assert all(re.fullmatch(r"person-[0-9a-f]{16}", name) for name in hashes)
    named = rows_of_csv(written(desk, campaign, "csv", Asked(names=True)))
    assert named[2]["votes"] == "grader-1=B;grader-2=B;grader-3=A"


def test_only_those_asked_for_are_written(desk: Desk, campaign: Campaign) -> None:
    def ids(**asked: object) -> list[int]:
        rows = rows_of_csv(written(desk, campaign, "csv", Asked(**asked)))  # type: ignore[arg-type]
        return sorted(int(row["source_id"]) - FIRST_ID for row in rows)

    assert ids(grades=("A",)) == [0, 1]
    assert ids(grades=("A", "B")) == [0, 1, 2, 3]
    assert ids(is_found=True) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match='"Z" is no grade of A B C X; there are A, B, C, X, Q'):
        ids(grades=("Z",))
    with pytest.raises(UsageError, match="no subject of “Lenses” is of grade A and disputed"):
        ids(grades=("A",), is_disputed=True)
    with pytest.raises(UsageError, match='"xls" is no format'):
        written(desk, campaign, "xls")


def test_known_objects_duds_and_repeats_are_in_no_file(desk: Desk) -> None:
    keep(desk, "few", np.arange(20, 40))
    keep(desk, "seen", np.array([41]))
    keep(desk, "nothing", np.array([42]))
    told = plan("With known", known="seen", duds="nothing", repeats=0.2)
    made = desk.campaigns.of_selection(told, "few", "owner-1")
    grade(desk, made, "grader-1", {41: "A", 20: "B"})
    rows = rows_of_csv(written(desk, made, "csv"))
    assert sorted(int(row["source_id"]) - FIRST_ID for row in rows) == list(range(20, 40))
    assert {row["n_votes"] for row in rows} == {"1"}


# ----------------------------------------------------------------------------------------------- formats, read back
def test_astropy_and_pandas_open_every_table(desk: Desk, campaign: Campaign, tmp_path: Path) -> None:
    paths = {}
    for form in ("csv", "parquet", "votable", "fits"):
        paths[form] = tmp_path / f"candidates{candidates.FORMATS[form][1]}"
        paths[form].write_bytes(written(desk, campaign, form, Asked(command="voorwerp vet export")))
    frame = pd.read_csv(paths["csv"])
    parquet = pd.read_parquet(paths["parquet"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.read(paths["votable"], format="votable")
    ascii_ = Table.read(paths["csv"], format="ascii.csv")
    with fits.open(paths["fits"]) as opened_fits:
        records, header = opened_fits[1].data, opened_fits[1].header
        assert records["subject_id"].tolist() == frame["subject_id"].tolist()
        assert any("outcome_rule: the mean of its grades reaches the limit 2" in line for line in header["HISTORY"])
    for told in (frame["subject_id"], parquet["subject_id"], table["subject_id"], ascii_["subject_id"]):
        assert next(iter(told)) == FIRST_ID
    assert parquet["source_id"].tolist()[0] == str(FIRST_ID)
    assert parquet["is_found"].sum() == 4
    about = json.loads(pq.read_schema(paths["parquet"]).metadata[b"voorwerp"])
    assert about["campaign"] == "Lenses"
    assert about["n_votes"] == 75
    assert about["audit"] == "5 random draws of the 40 subjects outside"
    assert about["scheme_grades"].startswith("A certain (3): Clear beyond doubt")
    infos = {info.name: info.value for info in votable.parse(paths["votable"]).resources[0].infos}
    assert infos["command"] == "voorwerp vet export"
    assert infos["outcome_rule"] == "the mean of its grades reaches the limit 2"


def test_regions_have_grade_and_k_of_n_at_their_places(desk: Desk, campaign: Campaign) -> None:
    lines = written(desk, campaign, "regions").decode().splitlines()
    placed = [line for line in lines if line.startswith(("point(", "box("))]
    assert placed[0].startswith("point(150,2)")
    assert f"text={{{FIRST_ID} A 3/3}}" in placed[0]
    assert len(placed) == 24  # one has no place
    assert "# 1 of 25 subjects have no RA and Dec and are left out" in lines
    assert any(line.startswith("# campaign: Lenses") for line in lines)


def test_galleries_hold_pictures_and_say_where_they_are_from(desk: Desk, campaign: Campaign, tmp_path: Path) -> None:
    page = written(desk, campaign, "html", Asked(is_found=True)).decode()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page
    assert f"<b>{FIRST_ID}</b><br><span>A · 3 of 3</span>" in page
    assert "A certain (3)" in page
    pdf = written(desk, campaign, "pdf")
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Subtype /Image") == 25
    assert len(pdf) < 25 * 60_000
    (tmp_path / "gallery.pdf").write_bytes(pdf)


def test_a_gallery_shows_texts_as_texts() -> None:
    card = Card(b"", "<script>alert(1)</script>", "A & B", "", False, False)
    page = gallery_html("“<b>”", [card], "a < b", {"campaign": "<i>"}).decode()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "no picture" in page


def test_a_browser_gets_a_name_a_type_and_the_command_that_makes_it_again(desk: Desk, campaign: Campaign) -> None:
    content, mime, name = export(desk, campaign.id, {"format": "csv", "grade": "a, b", "found": "1"})
    assert (mime, name) == ("text/csv; charset=utf-8", "Lenses.csv")
    assert len(rows_of_csv(content)) == 4
    side = json.loads(export(desk, campaign.id, {"format": "json", "grade": "A,B", "found": "1"})[0])
    where = desk.explore.survey.path.name  # and no path of this machine
    assert side["command"] == f"voorwerp vet export {where} Lenses candidates.json --grade A,B --found"
    assert side["plan"]["scheme"]["grades"][0]["definition"].startswith("Clear beyond doubt")
    with pytest.raises(UsageError, match='"exe" is no format'):
        export(desk, campaign.id, {"format": "exe"})
    with pytest.raises(UsageError, match='there is no campaign "nothing"'):
        export(desk, "nothing", {})


def test_labels_to_train_on_keep_groups_whole(desk: Desk, campaign: Campaign) -> None:
    frame = candidates.labels_of(desk, campaign.id)
    assert len(frame) == 24  # of 25 one could not be judged
    assert frame.set_index("row").loc[2, ["label", "is_found", "n_votes"]].tolist() == ["B", True, 3]
    assert set(frame["split"]) <= {"train", "validation", "test"}
    assert frame.groupby("duplicate_group")["split"].nunique().max() == 1
    codes, words = desk.explore.survey.category("half")
    half = np.array([*words, ""], object)[codes[frame["row"]]]
    assert ((half == "test") == (frame["split"] == "test").to_numpy()).all()
    table = rows_of_csv(export(desk, campaign.id, {"format": "training"})[0])
    assert table[0]["subject_id"] == str(FIRST_ID)


# ---------------------------------------------------------------------------------------------------------- votes in
@pytest.fixture
def other(desk: Desk, request: pytest.FixtureRequest) -> Campaign:
    """A campaign of rows 30 to 39 of its own."""
    name = f"Other {abs(hash(request.node.name)) % 10**9}"
    keep(desk, name, np.arange(30, 40))
    return desk.campaigns.of_selection(plan(name, graders=2), name, "owner-1")


def votes(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def test_votes_of_another_tool_count_as_their_graders_and_come_in_once(desk: Desk, other: Campaign) -> None:
    content = votes(
        "source_id,grader,grade,seconds,date,comment",
        f"{FIRST_ID + 30},grader-4,A,3.5,2026-01-02,an arc",
        f"{FIRST_ID + 31},grader-4,probable,900,,",
        f"{FIRST_ID + 30},grader-5,0,,,",
        f"{FIRST_ID + 32},grader-5,?,,,",
        f"{FIRST_ID + 33},grader-5,,,,",
        f"{FIRST_ID + 34},grader-5,Z,,,",
        f"{FIRST_ID + 31},grader-4,A,,,",
        f"{FIRST_ID + 1},grader-5,A,,,",
        "12345,grader-5,A,,,",
        f"{FIRST_ID + 34},,A,,,",
    )
    made = import_votes(desk, other.id, content, "owner-1", file="/home/somebody/out.csv")
    assert (made.n_lines, made.n_new, made.n_same, made.n_blank, made.n_notes) == (10, 4, 0, 1, 1)
    assert [number for number, _ in made.aside] == [7, 8, 9, 10, 11]
    assert [why for _, why in made.aside] == [
        '"Z" is no grade of A B C X',
        "grader-4 has graded it in line 3 already",
        f'"{FIRST_ID + 1}" is not in the campaign “{other.plan.name}”',
        'there is no subject "12345" in this survey',
        "it names no grader",
    ]
    told = desk.vetting.votes(other.id)
    assert sorted(zip(told["row"], told["who"], told["grade"], strict=True)) == [
        (30, "grader-4", "A"),
        (30, "grader-5", "X"),
        (31, "grader-4", "B"),
        (32, "grader-5", "Q"),
    ]
    assert set(told["via"]) == {"import"}
    assert sorted(told["seconds"].dropna()) == [3.5, 60]  # a pause counts no more than a look
    assert "somebody" not in str(desk.ledger.entries("vote")[-1].payload)
    assert [(n.who, n.text) for n in desk.notes.notes(FIRST_ID + 30)] == [("grader-4", "an arc")]
    last = desk.ledger.entries(include_undone=True)[-1].id
    again = import_votes(desk, other.id, content, "owner-2", file="out.csv")
    assert (again.n_new, again.n_changed, again.n_same, again.n_notes) == (0, 0, 4, 0)
    assert desk.ledger.entries(include_undone=True)[-1].id == last


def test_a_newer_file_changes_imported_votes_but_never_ones_that_were_given_here(desk: Desk, other: Campaign) -> None:
    import_votes(desk, other.id, votes("id,grader,grade", f"{FIRST_ID + 30},grader-4,C"), "owner-1")
    item = next(item for item in desk.vetting.queue(other.id, "grader-5") if item.row == 30)
    desk.vetting.vote(other.id, "grader-5", item.key, "X", seconds=1.0)
    content = votes("id,grader,grade", f"{FIRST_ID + 30},grader-4,A", f"{FIRST_ID + 30},grader-5,A")
    made = import_votes(desk, other.id, content, "owner-1")
    assert (made.n_new, made.n_changed) == (0, 1)
    assert made.aside == ((3, "grader-5 has graded it here, and that stays"),)
    told = desk.vetting.votes(other.id)
    assert dict(zip(told["who"], told["grade"], strict=True)) == {"grader-4": "A", "grader-5": "X"}


def test_layouts_of_known_tools_are_read_as_they_are(desk: Desk, other: Campaign) -> None:
    stamps = votes(
        "file_name,ra,dec,grade,comment,time",
        f"stamps/{FIRST_ID + 30}.fits,150.3,2.1,Sure Lens,,4.25",
        f"{FIRST_ID + 31}.fits,150.3,2.1,Non Lens,a spiral,1.5",
        f"{FIRST_ID + 32}.fits,150.3,2.1,None,,0",
    )
    meant = {"Sure Lens": "A", "Non Lens": "X"}
    made = import_votes(desk, other.id, stamps, "owner-1", grader="grader-6", meant=meant, with_comments=False)
    assert (made.n_new, made.n_blank, made.n_notes, made.aside) == (2, 1, 0, ())
    scores = votes("\ufeff,score,human_label", f"{FIRST_ID + 33},.9,3", f"{FIRST_ID + 34},.8,-1")
    made = import_votes(desk, other.id, scores, "owner-1", grader="grader-7")
    assert (made.n_new, made.n_blank) == (1, 1)
    assert made.columns["grade"] == "human_label"
    told = desk.vetting.votes(other.id).set_index(["who", "row"])["grade"].to_dict()
    assert told == {("grader-6", 30): "A", ("grader-6", 31): "X", ("grader-7", 33): "A"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file of votes is empty"),
        (b"subject,verdict\n1,A\n", "no column of the file of votes is the id"),
        (b"id,verdict\n1,A\n", "no column of the file of votes is the grade; name it by --grade-column: id, verdict"),
        (b"id,grade\n1,A\n", "says who graded; give --grader"),
    ],
)
def test_a_file_that_is_none_says_so_in_a_sentence(
    desk: Desk, campaign: Campaign, content: bytes, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        import_votes(desk, campaign.id, content, "owner-1")


def test_a_closed_campaign_takes_no_votes(desk: Desk, other: Campaign) -> None:
    desk.campaigns.close(other.id, "owner-1")
    with pytest.raises(UsageError, match="is closed; open it again to import votes"):
        import_votes(desk, other.id, votes("id,grader,grade", f"{FIRST_ID + 30},g,A"), "owner-1")


def test_subjects_are_found_by_id_file_name_and_number(desk: Desk) -> None:
    survey = desk.explore.survey
    names = [str(FIRST_ID), f"a/b/{FIRST_ID + 2}.fits", f"{FIRST_ID + 3}.png", "nobody", "", "7"]
    assert rows_of(survey, names).tolist() == [0, 2, 3, -1, -1, -1]


def test_an_outcome_needs_a_source_and_is_kept_once(desk: Desk) -> None:
    assert keep_outcome(desk, 50, "rejected", " a  model ", "owner-1")
    assert not keep_outcome(desk, 50, "rejected", "a model", "owner-1")
    with pytest.raises(UsageError, match="says in 1 to 300 characters what it is known by"):
        keep_outcome(desk, 50, "confirmed", " ", "owner-1")
    with pytest.raises(UsageError, match="'maybe' is no outcome; there are confirmed, rejected, open"):
        keep_outcome(desk, 50, "maybe", "a model", "owner-1")


def test_a_picture_in_print_is_small(desk: Desk) -> None:
    shown = candidates._picture(desk, desk.explore.survey, 0, 100)
    with Image.open(io.BytesIO(shown)) as image:
        assert max(image.size) <= 100


# ------------------------------------------------------------------------------------------------------ who may have it
def test_who_may_still_grade_blind_gets_no_candidates_and_only_owners_get_names(desk: Desk, other: Campaign) -> None:
    grade(desk, other, "grader-1", {30: "A"})
    vetter, owner = Person("grader-2", "vetter"), Person("owner-1", "owner")
    for refused in (vetter, Person("guest", "viewer")):
        with pytest.raises(AccessError, match="is blind and open: its candidates are an owner's"):
            export(desk, other.id, {"format": "csv"}, refused)
    assert export(desk, other.id, {"format": "csv", "names": "1"}, owner)[0].count(b"grader-1=") == 10
    desk.campaigns.close(other.id, "owner-1")
    assert b"grader-1" not in export(desk, other.id, {"format": "csv"}, vetter)[0]
    with pytest.raises(AccessError, match="who graded is named to owners only"):
        export(desk, other.id, {"format": "csv", "names": "1"}, vetter)


def test_candidates_go_to_the_programs_of_the_desktop(desk: Desk, campaign: Campaign) -> None:
    class Hub:
        sent: ClassVar[list[tuple[int, str]]] = []

        def send_table(self, table: pa.Table, name: str) -> list[str]:
            self.sent.append((table.num_rows, name))
            return ["topcat", "Aladin"]

    with pytest.raises(SampError, match="this server reaches no program of your desktop"):
        send(desk, campaign.id, {})
    reached = replace(desk, samp=Hub())  # type: ignore[arg-type]
    assert send(reached, campaign.id, {"found": "1"}) == "4 candidates sent to topcat, Aladin"
    assert Hub.sent == [(4, "Lenses")]
