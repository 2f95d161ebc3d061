"""A file is what is in it, whatever its name; what is nothing known is refused with what was found."""

from pathlib import Path

import pytest

from explorer.errors import IngestError
from explorer.ingest.recognise import Recognised, recognise
from explorer.ingest.records import CUT_OFF, MOST_LINES, WRONG_COLUMNS, Records, Source

KNOWN = {
    "classifications": "classification_id,user_name,workflow_id,annotations,subject_ids",
    "subjects": "subject_id,project_id,metadata,locations",
    "workflows": "workflow_id,display_name,tasks,strings",
    "votes": "item,worker,label",
    "gold": "item,truth",
    "reduced": "subject_id count selected_count unique_user_count",
    "outcomes": "subject_ids,classifications,workflow_id,workflow_version,file-name,advance,flag",
    "experience": "user_name,n",
}


def recognised(folder: Path, content: str | bytes, name: str = "a.txt") -> Recognised:
    """What a file of this content is."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return recognise(Source.examine(folder / name))


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_each_kind_is_known_by_its_columns(kind: str, ends: str, mark: str, tmp_path: Path) -> None:
    found = recognised(tmp_path, mark + KNOWN[kind] + ends + "1,2" + ends, "classifications.json")
    assert found.kind == kind
    assert ",".join(found.columns) == KNOWN[kind].replace(" ", ",")


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ("task,worker,label", "votes"),
        ("Subject_ID,User_Name,Answer", "votes"),
        ("classification_id,user_name,workflow_id,workflow_version,task_answer,subject_ids", "votes"),
        ("subject_id,workflow_id,task,reducer,data.yes,data.no", "reduced"),
        ("subject_id,workflow_id,reducer_key,data", "reduced"),
        ("id,k,n", "reduced"),
        ("volunteer;n_classifications", "experience"),
        ("item\tworker\tlabel", "votes"),
    ],
)
def test_columns_by_other_names_and_separators(columns: str, kind: str, tmp_path: Path) -> None:
    assert recognised(tmp_path, f"{columns}\n1\n").kind == kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('[{"board_id": 1, "comment_id": 2, "comment_body": "a \\"name\\": b"}]', "talk_comments"),
        ('[{"id": 1, "name": "ring", "taggable_id": 2, "user_login": "x"}]', "talk_tags"),
    ],
)
def test_talk_is_known_by_its_keys(content: str, kind: str, tmp_path: Path) -> None:
    assert recognised(tmp_path, content, "export.csv").kind == kind


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "a.txt is empty"),
        ("  \n", "a.txt is empty"),
        ("ra,dec\n1,2\n", "its columns are ra, dec; known are exports of Zooniverse"),
        ("1,2,3\n4,5,6\n", r"its first line \(1, 2, 3\) names no columns"),
        ("subject_id,size\n1,2\n", "a table needs votes"),
        (
            "classification_id,user_name,extractor,data.yes\n1,a,b,1\n",
            "has classification_id, annotations and subj",
        ),
        ("item,worker,label\n", "the columns of: flat votes; and no row"),
        ('[{"a": 1}]', "JSON, its columns are a; Talk's comments have"),
        (b"PK\x03\x04abc\n", "is no text; unpack it"),
        (b"\x1f\x8b\x08abc\n", "is no text; unpack it"),
    ],
)
def test_what_is_not_known_says_what_was_found(content: str | bytes, match: str, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=match):
        recognised(tmp_path, content)


# -------------------------------------------------------------------------------------------------------------- rows
def rows(folder: Path, content: bytes, delimiter: str = ",") -> list[tuple[int, list[str] | str]]:
    """(line, fields or reason) of each row."""
    (folder / "rows.csv").write_bytes(content)
    return list(Records(Source.examine(folder / "rows.csv"), delimiter))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n\n3,4", [(2, ["1", "2"]), (4, ["3", "4"])]),
        (b'a,b\n"x\ny",2\n3,4\n', [(2, ["x\ny", "2"]), (4, ["3", "4"])]),
        (b"a,b\n1,2,3\n4,5\n", [(2, WRONG_COLUMNS), (3, ["4", "5"])]),
        (b"a,b\n1,2\n3", [(2, ["1", "2"]), (3, CUT_OFF)]),
        (b'a,b\n1,2\n3,"4', [(2, ["1", "2"]), (3, ["3", "4"])]),
        (b"a,b\n3\n", [(2, WRONG_COLUMNS)]),
    ],
)
def test_rows_keep_their_lines(content: bytes, expected: list[tuple[int, list[str] | str]], tmp_path: Path) -> None:
    assert rows(tmp_path, content) == expected


def test_a_quotation_mark_that_is_not_closed_takes_only_its_row(tmp_path: Path) -> None:
    n = 3 * MOST_LINES
    content = b'a,b,c\n0,"x,0\n' + b"".join(b"%d,x,%d\n" % (i, i) for i in range(1, n))
    assert rows(tmp_path, content) == [(2, WRONG_COLUMNS), *((i + 2, [str(i), "x", str(i)]) for i in range(1, n))]


def test_lines_of_another_encoding_are_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,b\nHuasaí,1\n".encode() + "Huasaí,2\n".encode("cp1252") + b"x,\x81\n")
    source = Source.examine(tmp_path / "a.csv")
    assert list(Records(source, ",")) == [(2, ["Huasaí", "1"]), (3, ["Huasaí", "2"]), (4, ["x", "\ufffd"])]
    assert source.notes() == ["2 lines are not UTF-8 and were read as Windows-1252 (3, 4)"]
    assert source.as_utf8().read().decode() == "a,b\nHuasaí,1\nHuasaí,2\nx,\ufffd\n"


def test_utf_16_as_spreadsheets_write_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("item,worker,label\nHuasaí,w,1\n".encode("utf-16"))
    source = Source.examine(tmp_path / "a.csv")
    assert recognise(source).kind == "votes"
    assert list(Records(source, ",")) == [(2, ["Huasaí", "w", "1"])]


def test_blanks_in_any_number_part_the_columns_of_the_study_s_table(tmp_path: Path) -> None:
    assert rows(tmp_path, b"a b\n 1   2 \n3 4 5\n", " ") == [(2, ["1", "2"]), (3, WRONG_COLUMNS)]
