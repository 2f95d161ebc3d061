"""Talk: exports as they come and as they should not, what is said of a subject, groups on the map, the study."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median as middle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.cli import main
from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest import talk as ingest
from explorer.ingest.aside import Aside, Taken
from explorer.ingest.talk import elements, ingest_comments, ingest_tags, subjects_of
from explorer.ledger import Ledger
from explorer.raster import Overlay
from explorer.services.explore import Explore
from explorer.services.filters import FilterError, columns_of, complete, parse, reader
from explorer.services.notes import Notes
from explorer.services.talk import Talk
from explorer.survey import SUBJECTS, Survey
from explorer.votes import (
    TAG_GROUPS,
    TALK_COMMENTS,
    TALK_COMMENTS_SCHEMA,
    TALK_TAGS,
    TALK_TAGS_SCHEMA,
    volunteer_hash,
)
from models import tagging
from models.artifacts import write_table
from tests.explorer.small_survey import write_survey

SOURCE = "0123456789abcdef"
#: The Zooniverse's number of the survey's first subject.
ZOO = 86_400_000


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    """Eight subjects, all but the last of which the Zooniverse knows."""
    path = write_survey(tmp_path / "survey", n=8)
    table = pq.read_table(path / SUBJECTS)
    numbers = pa.array([*range(ZOO, ZOO + 7), None], pa.int64())
    at = table.schema.get_field_index("zooniverse_subject_id")
    pq.write_table(table.set_column(at, table.schema.field(at), numbers), path / SUBJECTS)
    opened = Survey.open(path)
    yield opened
    opened.close()


def tag(id_: int | None, name: object, subject: int | None = ZOO, who: str | None = "ada", **other: object) -> dict:
    at = {"created_at": f"2023-04-12T14:24:{(id_ or 0) % 60:02}.018Z", "user_login": who, "user_id": 7}
    return {"id": id_, "name": name, "taggable_id": subject, "taggable_type": "Subject", **at, **other}


def comment(id_: int | None, body: object, subject: int = ZOO, who: str = "ada", **other: object) -> dict:
    about = {"board_title": "Notes", "discussion_title": "Subject 1", "comment_focus_type": "Subject"}
    when = {"comment_created_at": f"2023-04-12T15:{(id_ or 0) % 60:02}:00.000Z", "comment_user_login": who}
    return {"comment_id": id_, "comment_body": body, "comment_focus_id": subject, **about, **when, **other}


def take(survey: Survey, told: object, kind: str = "tags", aside: Aside | None = None) -> Taken:
    """Ingest elements, or a text that should be some, and put them into the survey."""
    path = survey.path.parent / f"{kind}.json"
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    function, name, schema = {
        "tags": (ingest_tags, TALK_TAGS, TALK_TAGS_SCHEMA),
        "comments": (ingest_comments, TALK_COMMENTS, TALK_COMMENTS_SCHEMA),
    }[kind]
    before = pq.read_table(survey.path / name) if (survey.path / name).exists() else schema.empty_table()
    taken = function(survey, path, SOURCE, Aside() if aside is None else aside, before)
    assert taken.table is not None and taken.table.schema.equals(schema)
    assert taken.n_rows == taken.n_taken + taken.n_known + taken.n_aside
    write_table(survey.path / name, taken.table)
    return taken


# -------------------------------------------------------------------------------------------------------- elements
def read(path: Path, text: str | bytes) -> list[object]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [element if is_read else "MALFORMED" for _, element, is_read in elements(path)]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_elements_are_those_of_json_at_any_size_of_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
):
    monkeypatch.setattr(ingest, "CHUNK", chunk)
    told = [{"a": 'x}, {"y": [', "b": [1, {"c": 'ä🌠\\"'}]}, 12345, {}, None, "text", [], {"z": 1.5e3}, -7]
    for indent in (None, 2):
        assert read(tmp_path / "x.json", json.dumps(told, indent=indent)) == told
        assert read(tmp_path / "x.json", "\ufeff" + json.dumps(told, ensure_ascii=False)) == told
    assert read(tmp_path / "x.json", json.dumps(told).encode("utf-16")) == told
    assert read(tmp_path / "x.json", "\n".join(map(json.dumps, [{"a": 1}, {"b": 2}]))) == [{"a": 1}, {"b": 2}]
    assert read(tmp_path / "x.json", "[]") == []


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_what_is_not_json_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int):
    monkeypatch.setattr(ingest, "CHUNK", chunk)
    for bad in ('{"a": "say "hi" twice"}', '{"a": 1,}', '{"a": tru}', "{'a': 1}", '{"a" 1}', '{"a": "\\x"}'):
        assert read(tmp_path / "x.json", f'[{{"n": 1}}, {bad}, {{"n": 3}}]') == [{"n": 1}, "MALFORMED", {"n": 3}], bad
    assert read(tmp_path / "x.json", '[{"n": 1}, {"n": "unfin') == [{"n": 1}, "MALFORMED"]
    assert read(tmp_path / "x.json", '[{"n": 1}, {"n": 2}') == [{"n": 1}, {"n": 2}, "MALFORMED"]  # cut off
    assert read(tmp_path / "x.json", '[{"n": 1} {"n": 2}]') == [{"n": 1}, {"n": 2}]
    assert read(tmp_path / "x.json", '[{"n": "a\tb\nc"}]') == [{"n": "a\tb\nc"}]  # as some write it


@pytest.mark.parametrize("long", ["[" * 100_000, "1" * 10_000])
def test_an_element_made_to_break_a_reader_costs_itself_alone(tmp_path: Path, long: str):
    assert read(tmp_path / "x.json", f'[{{"n": {long}}}, {{"n": 2}}]') == ["MALFORMED", {"n": 2}]


def test_any_damage_is_survived(tmp_path: Path):
    text = json.dumps([tag(i, f"ring {i}") for i in range(12)]).encode()
    random.seed(3)
    for _ in range(300):
        damaged = bytearray(text)
        for _ in range(random.choice([1, 3])):
            at = random.randrange(1, len(damaged))
            damaged[at : at + random.choice([0, 1, 40])] = random.choice([b"", b'"', b"}", b"\xff", b"[", b"\\"])
        assert len(read(tmp_path / "x.json", bytes(damaged))) >= 8


def test_memory_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Never more than a few parts are held, however long the file, also where every element is malformed."""
    monkeypatch.setattr(ingest, "CHUNK", 1000)
    monkeypatch.setattr(ingest, "LONGEST", 5000)
    held = []
    characters = ingest._characters
    monkeypatch.setattr(
        ingest, "_characters", lambda path: (held.append(len(part)) or part for part in characters(path))
    )
    assert read(tmp_path / "x.json", "[" + ", ".join(['{"a": nope}'] * 2000) + "]") == ["MALFORMED"] * 2000
    assert max(held) <= 1000
    assert read(tmp_path / "x.json", '[{"a": "' + "x" * 50_000).count("MALFORMED") >= 1


def test_a_file_that_is_no_array_is_refused(tmp_path: Path):
    for text in ("subject_id,tag\n1,ring\n", ""):
        with pytest.raises(IngestError, match=r"x.json is no Talk export: it begins with .*not with a JSON array"):
            read(tmp_path / "x.json", text)


# ------------------------------------------------------------------------------------------------------------ tags
def test_tags_are_taken_grouped_and_whoever_gave_them_is_a_hash(survey: Survey):
    told = [
        tag(1, "Merging"),
        tag(2, "rings", ZOO + 3, "Bo"),
        tag(3, " #ring ", ZOO + 3, "ADA"),
        tag(4, "zzz", who=None),
    ]
    told[2]["user_login"] = " ADA "
    taken = take(survey, told)
    assert (taken.kind, taken.what, taken.n_rows, taken.n_taken, taken.n_aside) == ("talk_tags", "Talk tags", 4, 4, 0)
    ada, bo, seven = volunteer_hash(["ada", "bo", "7"], survey.info.survey_id)
    first = int(survey.subject_ids[0])
    rows = taken.table.to_pylist()
    assert [(r["subject_id"], r["tag"], r["tag_group"], r["tag_group_study"], r["volunteer"]) for r in rows] == [
        (first, "merging", "merger", "merger", ada),
        (first + 3, "rings", "ring", "rings", bo),
        (first + 3, "ring", "ring", "rings", ada),
        (first, "zzz", "zzz", None, seven),  # an export without login names
    ]
    assert [r["tag_id"] for r in rows] == [1, 2, 3, 4] and {r["source"] for r in rows} == {SOURCE}
    assert rows[0]["created_at"].isoformat() == "2023-04-12T14:24:01.018000+00:00"


def test_what_is_of_no_subject_here_is_set_aside_with_number_and_reason(survey: Survey):
    aside = Aside()
    told = [
        tag(1, "ring"),
        tag(2, "ring", None, taggable_type=None),
        tag(3, "ring", 5, taggable_type="Discussion"),
        tag(4, "ring", 999),
        tag(5, ""),
        tag(6, 7),
        tag(7, "ring", "86400001"),
        tag(8, "ring", 2.5),
        [1],
        "x",
    ]
    text = json.dumps(told)[:-1] + ', {"id": 9, "name": }, ' + json.dumps(tag(10, "ring", ZOO + 2)) + "]"
    taken = take(survey, text, aside=aside)
    assert (taken.n_rows, taken.n_taken, taken.n_aside) == (12, 3, 9)
    assert sorted((r["line"], r["id"], r["reason"]) for r in aside.table().to_pylist()) == [
        (2, "2", "is about no subject"),
        (3, "3", "is about no subject"),
        (4, "4", "its subject is not in the survey"),
        (5, "5", "has no tag"),
        (6, "6", "has no tag"),
        (8, "8", "is about no subject"),
        (9, None, "is no object"),
        (10, None, "is no object"),
        (11, None, "is not JSON"),
    ]
    assert set(aside.table().column("file").to_pylist()) == {"tags.json"}


def test_the_same_export_again_changes_nothing_and_a_newer_one_adds_what_is_new(survey: Survey):
    told = [tag(1, "ring"), tag(2, "arc"), tag(2, "arc")]
    assert (take(survey, told).n_taken, take(survey, told).n_known) == (2, 3)
    before = pq.read_table(survey.path / TALK_TAGS)
    take(survey, told)
    assert pq.read_table(survey.path / TALK_TAGS).equals(before)
    again = take(survey, [tag(3, "jet"), *told])
    assert (again.n_taken, again.n_known) == (1, 3)
    assert again.table["tag"].to_pylist() == ["ring", "arc", "jet"]
    nameless = [tag(None, "ring"), tag(None, "ring"), tag(None, "ring", who="bo")]  # an export without ids
    assert [(t.n_taken, t.n_known) for t in (take(survey, nameless), take(survey, nameless))] == [(2, 1), (0, 3)]


def test_what_was_taken_before_is_grouped_with_what_is_new(survey: Survey):
    assert take(survey, [tag(1, "green_blobs")]).table["tag_group"].to_pylist() == ["green_blobs"]
    both = take(survey, [tag(2, "green_blob")]).table["tag_group"].to_pylist()
    assert both == ["green_blob", "green_blob"]


def test_subjects_are_found_by_the_zooniverses_number_before_the_sources(survey: Survey):
    table = pq.read_table(survey.path / SUBJECTS)
    ids = pa.array([None, str(ZOO), "5", *[None] * 4, "86499999"])
    at = table.schema.get_field_index("source_id")
    pq.write_table(table.set_column(at, table.schema.field(at), ids), survey.path / SUBJECTS)
    survey.refresh()
    first = int(survey.subject_ids[0])
    assert subjects_of(survey, [ZOO, ZOO + 6, 86499999, 5, 4]).tolist() == [first, first + 6, first + 7, first + 2, -1]
    assert subjects_of(survey, []).tolist() == []


def test_a_map_that_cannot_be_read_stops_the_ingest_with_a_sentence(survey: Survey):
    (survey.path / TAG_GROUPS).write_text("[groups")
    with pytest.raises(SurveyError, match="is not TOML"):
        take(survey, [tag(1, "ring")])


# -------------------------------------------------------------------------------------------------------- comments
def test_comments_are_text_and_nobody_is_named_in_them(survey: Survey):
    body = (
        "<script>alert(1)</script> agree with @Zoe_9! and @zoe_9, see mail me@x.org\r\n@team https://x.org/users/Bo-b "
        "[link](https://a.b) \x00\x1b nul"
    )
    taken = take(
        survey, [comment(1, body), comment(2, "  ok  ", ZOO + 1, "Zoe_9", discussion_title="@Zoe_9, look")], "comments"
    )
    zoe, bob = volunteer_hash(["zoe_9", "bo-b"], survey.info.survey_id)
    first, second = taken.table.to_pylist()
    assert first["text"] == (
        f"<script>alert(1)</script> agree with @{zoe}! and @{zoe}, see mail me@x.org\n@team https://x.org/users/{bob} "
        "[link](https://a.b) \ufffd\ufffd nul"
    )
    assert second["text"] == "ok" and second["volunteer"] == zoe and second["discussion"] == f"@{zoe}, look"
    assert (first["comment_id"], first["board"], first["discussion"]) == (1, "Notes", "Subject 1")
    assert taken.notes == ("1 text had characters that are none, now \ufffd",)
    assert "zoe" not in str(taken.table.to_pylist()).lower()


def test_comments_without_what_they_need_are_set_aside(survey: Survey):
    aside = Aside()
    told = [
        comment(1, "on a board", comment_focus_id=None, comment_focus_type=None),
        comment(2, "   "),
        comment(3, None),
        comment(None, "no id"),
        comment(4, "elsewhere", 12),
        comment(5, "here", comment_created_at="yesterday", board_title=3),
        comment(5, "here again"),
        comment(6, "\ud800 lone"),
    ]
    taken = take(survey, told, "comments", aside)
    assert (taken.n_rows, taken.n_taken, taken.n_known, taken.n_aside) == (8, 2, 1, 5)
    assert aside.counts(SOURCE) == {
        "has no text": 2,
        "is about no subject": 1,
        "has no id": 1,
        "its subject is not in the survey": 1,
    }
    kept, lone = taken.table.to_pylist()
    assert kept["created_at"] is None and kept["board"] == "" and lone["text"] == "\ufffd lone"
    assert take(survey, told, "comments").n_taken == 0


def test_bytes_that_are_no_utf8_are_told(survey: Survey):
    path = survey.path.parent / "latin.json"
    path.write_bytes(json.dumps([comment(1, "caf?")]).replace("?", "é").encode("latin-1"))
    taken = ingest_comments(survey, path, SOURCE, Aside(), TALK_COMMENTS_SCHEMA.empty_table())
    assert taken.table["text"].to_pylist() == ["caf\ufffd"] and len(taken.notes) == 1


# --------------------------------------------------------------------------------------------------------- service
def some_talk(survey: Survey) -> Talk:
    """Subject 0: merger by two, ring; 1: merging twice by ada; 2: supernova; 3 is commented only."""
    tags = [("merger", 0, "ada"), ("merge", 0, "bo"), ("rings", 0, "bo"), ("merging", 1, "ada"), ("merger", 1, "ada")]
    tags += [("Supernova", 2, "cy"), ("galaxies", 4, "cy")]
    take(survey, [tag(i, name, ZOO + s, who) for i, (name, s, who) in enumerate(tags)])
    take(survey, [comment(2, "later", ZOO + 3), comment(1, "sooner", ZOO + 3, "bo"), comment(3, "x")], "comments")
    return Talk(survey)


def test_groups_have_subjects_taggers_and_members(survey: Survey):
    talk = some_talk(survey)
    found = {g.name: (g.n_subjects, g.n_taggers, g.n_tags, g.n_by_one) for g in talk.groups()}
    assert found == {"merger": (2, 2, 4, 3), "galaxies": (1, 1, 1, 1), "ring": (1, 1, 1, 1), "supernova": (1, 1, 1, 1)}
    assert talk.groups()[0].members == {"merger": (2, "listed"), "merge": (1, "listed"), "merging": (1, "listed")}
    assert talk.rows("merger").tolist() == [0, 1] and talk.selection("ring").rows().tolist() == [0]
    rows, taggers = talk.taggings("merger")
    assert rows.tolist() == [0, 0, 1, 1] and len(set(taggers.tolist())) == 2
    assert {g.name: g.n_subjects for g in talk.groups(is_study=True)} == {"merger": 2, "rings": 1, "spiral": 1}
    assert talk.rows("spiral", is_study=True).tolist() == [4]
    assert talk.taggings_raw("merge")[0].tolist() == [0]
    with pytest.raises(UsageError, match=r'no subject has the tag "mergers"; did you mean "merger"\?'):
        talk.rows("mergers")


def test_columns_are_row_aligned_and_the_rarest_group_is_a_subjects_own(survey: Survey):
    columns = some_talk(survey).columns()
    assert columns["n_tags"].tolist() == [3, 2, 1, 0, 1, 0, 0, 0]
    assert columns["n_taggers"].tolist() == [2, 1, 1, 0, 1, 0, 0, 0]
    assert columns["n_comments"].tolist() == [1, 0, 0, 2, 0, 0, 0, 0]
    assert columns["tag_group"].tolist() == ["ring", "merger", "supernova", None, "galaxies", None, None, None]


def test_one_subject_in_full(survey: Survey):
    talk = some_talk(survey)
    ada, bo = volunteer_hash(["ada", "bo"], survey.info.survey_id)
    told = talk.of(0)
    assert [(t["group"], t["tag"], t["who"], t["n_subjects"]) for t in told["tags"]] == [
        ("merger", "merger", ada, 2),
        ("merger", "merge", bo, 2),
        ("ring", "rings", bo, 1),
    ]
    assert told["n_taggers"] == 2 and told["trouble"] == ""
    assert [(c["text"], c["who"]) for c in talk.of(3)["comments"]] == [("sooner", bo), ("later", ada)]
    assert talk.of(7) == {"tags": [], "comments": [], "n_taggers": 0, "trouble": ""}
    json.dumps(told)


def test_without_talk_there_is_nothing(survey: Survey):
    talk = Talk(survey)
    assert talk.of(0) is None and talk.groups() == [] and talk.titles() == {} and talk.overlays("talk:") == []
    columns = talk.columns()
    assert not columns["n_tags"].any() and columns["tag_group"].tolist() == [None] * 8


def test_editing_the_map_regroups_at_once_and_a_bad_one_is_told(survey: Survey):
    talk = some_talk(survey)
    before = talk.stamp
    (survey.path / TAG_GROUPS).write_text('[groups]\nexciting = ["merger", "supernova"]\n')
    assert talk.stamp != before
    assert talk.rows("exciting").tolist() == [0, 1, 2]
    assert "merging" in {g.name for g in talk.groups()} and talk.trouble == ""
    (survey.path / TAG_GROUPS).write_text("[groups")
    assert "is not TOML" in talk.trouble and "until then the default groups are used" in talk.trouble
    assert talk.rows("merger").tolist() == [0, 1] and talk.of(0)["trouble"] == talk.trouble


def test_a_newer_ingest_is_seen(survey: Survey):
    talk = some_talk(survey)
    take(survey, [tag(90, "voorwerp", ZOO + 6)])
    assert talk.rows("voorwerp").tolist() == [6]


# ------------------------------------------------------------------------------------------------ map, filters, CLI
def test_groups_are_drawn_above_the_map(survey: Survey):
    talk = some_talk(survey)
    assert talk.titles() == {
        "talk:": "all tags",
        "talk:merger": "merger (2 by 2)",
        "talk:galaxies": "galaxies (1 by 1)",
        "talk:ring": "ring (1 by 1)",
        "talk:supernova": "supernova (1 by 1)",
    }
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        notes = Notes(ledger, Explore(survey))
        drawn = notes.overlays("talk:")
        assert [(o.label, o.count, o.color) for o in drawn] == [
            ("supernova · 1 tagger", 1, 3),
            ("ring · 1 tagger", 1, 2),
            ("galaxies · 1 tagger", 1, 1),
            ("merger · 2 taggers", 2, 0),  # the rarest is drawn first, for it must not be lost
        ]
        (only,) = notes.overlays("talk:ring")
        assert isinstance(only, Overlay) and only.rows.tolist() == [0]
        with pytest.raises(UsageError, match='no subject has the tag "rung"'):
            notes.overlays("talk:rung")


def test_many_groups_are_drawn_up_to_eight_and_a_limit(survey: Survey, monkeypatch: pytest.MonkeyPatch):
    take(survey, [tag(i, f"kind{i % 20:02}", ZOO + i % 7) for i in range(70)])
    talk = Talk(survey)
    assert len(talk.overlays("talk:")) == 8 and talk.titles()["talk:"] == "the 8 commonest tags"
    monkeypatch.setattr("explorer.services.talk.MARKERS", 5)
    assert sum(len(o.rows) for o in talk.overlays("talk:")) == 5


def test_a_filter_asks_for_a_tag(survey: Survey):
    some_talk(survey)
    explore = Explore(survey)
    columns = columns_of(explore)
    for text, rows in {
        'talk("merger")': [0, 1],
        "talk(merger) and not talk('ring')": [1],
        'not talk("merger")': [2, 3, 4, 5, 6, 7],
    }.items():
        found = parse(text, columns)
        assert found.rows(reader(explore)).nonzero()[0].tolist() == rows
        assert str(parse(str(found), columns)) == str(found)
    with pytest.raises(FilterError, match=r'no group of tags is called "meger".*did you mean'):
        parse('talk("meger")', columns)
    assert "talk(" in [c.text for c in complete("ta", 2, columns)]
    assert [c.text for c in complete('talk("su', 8, columns)] == ['"supernova"']


def test_the_command_tells_the_groups_writes_the_map_and_brings_the_file_up_to_it(
    survey: Survey, capsys: pytest.CaptureFixture[str]
):
    path = str(survey.path)
    assert main(["tags", path]) == 0
    assert "no subject of" in capsys.readouterr().out
    some_talk(survey)
    assert main(["tags", path]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "merging" in line)
    assert line.replace("│", " ").split()[:5] == ["merger", "2", "2", "4", "3"]
    assert main(["tags", path, "--write"]) == 0
    assert main(["tags", path, "--write"]) == 2
    assert "is there already; edit it, or remove it" in capsys.readouterr().err
    mine = survey.path / TAG_GROUPS
    mine.write_text('[groups]\nboth = ["merger", "rings"]\n')
    assert main(["tags", path]) == 0
    groups = pq.read_table(survey.path / TALK_TAGS)["tag_group"].to_pylist()
    assert groups == ["both", "merge", "both", "merging", "both", "supernova", "galaxies"]
    mine.write_text("nonsense")
    assert main(["tags", path]) == 1
    assert "is not TOML" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- the real data
@pytest.fixture(scope="module")
def studied(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Talk, np.ndarray, dict]]:
    """The study's 207,589 subjects with its Talk; chosen fraction by views; what was taken."""
    folder = shared_data / "weird_wonderful"
    table = np.loadtxt(folder / "latest_consensus_aggregation_table.dat", np.int64, skiprows=1)
    path = write_survey(tmp_path_factory.mktemp("study") / "survey", n=1)
    old = pq.read_table(path / SUBJECTS)
    columns = {f.name: pa.nulls(len(table), f.type) for f in old.schema}
    columns["subject_id"] = pa.array(table[:, 0])
    columns["source_id"] = pa.array(table[:, 0]).cast(pa.string())
    pq.write_table(pa.table(list(columns.values()), schema=old.schema), path / SUBJECTS)
    survey = Survey.open(path)
    taken = {}
    for kind, function, name, schema in (
        ("tags", ingest_tags, TALK_TAGS, TALK_TAGS_SCHEMA),
        ("comments", ingest_comments, TALK_COMMENTS, TALK_COMMENTS_SCHEMA),
    ):
        aside = Aside()
        (file,) = folder.glob(f"project-14993-{kind}_*.json")
        taken[kind] = function(survey, file, SOURCE, aside, schema.empty_table()), aside.counts(SOURCE)
        write_table(path / name, taken[kind][0].table)
    yield Talk(survey), table[:, 2] / table[:, 1], taken
    survey.close()


def test_the_studys_talk_is_taken_by_hand_checked_totals(studied: tuple[Talk, np.ndarray, dict]):
    talk, _, taken = studied
    tags, tags_aside = taken["tags"]
    assert (tags.n_rows, tags.n_taken) == (3193, 3099)
    assert tags_aside == {"its subject is not in the survey": 84, "is about no subject": 10}
    comments, comments_aside = taken["comments"]
    assert (comments.n_rows, comments.n_taken) == (4915, 4544)
    assert comments_aside == {"its subject is not in the survey": 231, "is about no subject": 140}
    columns = talk.columns()
    assert np.count_nonzero(columns["n_comments"]) == 3043  # discussed
    assert np.count_nonzero(columns["n_tags"]) == 1926
    assert np.count_nonzero(columns["n_comments"] + columns["n_tags"]) == 3043  # who is tagged is commented on


@pytest.mark.parametrize(
    ("group", "n", "value"),
    [("merger", 460, 0.544), ("gravitational_lensing", 327, 0.286), ("rings", 163, 0.484), ("arc", 82, 0.308)],
)
def test_the_studys_medians_of_chosen_fraction(
    studied: tuple[Talk, np.ndarray, dict], group: str, n: int, value: float
):
    """By views, by the study's grouping (specs §2); arcs were tagged by four people, one of whom gave most."""
    talk, fraction, _ = studied
    rows, taggers = talk.taggings(group, is_study=True)
    found = tagging.median(fraction, rows, taggers)
    assert (found.n_subjects, round(found.value, 3)) == (n, value)
    assert found.low <= found.value <= found.high
    assert found.n_taggers == {"merger": 45, "gravitational_lensing": 29, "rings": 28, "arc": 4}[group]


@pytest.mark.parametrize(
    ("tag", "value"), [("merger", 0.96), ("ring", 0.94), ("gravitational_lens", 0.87), ("asteroid", 0.78)]
)
def test_the_aucs_of_chosen_fraction(studied: tuple[Talk, np.ndarray, dict], tag: str, value: float):
    """Of subjects with the raw tag against all without it, as in the README of the data."""
    talk, fraction, _ = studied
    found = tagging.auc(fraction, *talk.taggings_raw(tag))
    assert found.value == pytest.approx(value, abs=0.01)
    assert found.low < value + 0.01 and found.high > value - 0.01


def test_one_person_gave_most_tags_of_an_asteroid(studied: tuple[Talk, np.ndarray, dict], shared_data: Path):
    talk, _, _ = studied
    (file,) = (shared_data / "weird_wonderful").glob("project-14993-tags_*.json")
    here = set(talk.survey.subject_ids.tolist())
    by = defaultdict(int)
    for element in json.loads(file.read_text()):
        by[element["user_login"]] += element["name"] == "asteroid" and element["taggable_id"] in here
    _, taggers = talk.taggings_raw("asteroid")
    assert sorted(np.bincount(taggers)[np.bincount(taggers) > 0]) == sorted(n for n in by.values() if n)
    assert max(by.values()) > sum(by.values()) / 2


def test_nothing_rare_is_lost_on_the_studys_talk(studied: tuple[Talk, np.ndarray, dict]):
    talk, fraction, _ = studied
    groups = {g.name: g for g in talk.groups()}
    assert {name: groups[name].n_subjects for name in ("supernova", "white_dwarf", "green_pea", "voorwerp")} == {
        "supernova": 7,
        "white_dwarf": 5,
        "green_pea": 3,
        "voorwerp": 1,
    }
    assert {"quasar", "red_dot", "green_dot", "no_lens"} <= groups.keys()
    kept = np.unique(np.concatenate([talk.rows(name) for name in groups]))
    assert len(kept) == 1926
    rows, taggers = talk.taggings("voorwerp")
    alone = tagging.median(fraction, rows, taggers)
    assert alone.value == middle(fraction[rows]) and np.isnan(alone.low)  # one person: no interval
