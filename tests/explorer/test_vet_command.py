"""``voorwerp vet``: from the subjects to the candidates on the command line, and the sentence of every error."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from explorer.cli import main
from explorer.ledger import Ledger
from explorer.survey import Survey
from tests.conftest import FIRST_ID, made_once
from tests.explorer.clustered import write_run
from tests.explorer.graded import keep, opened, write_survey

Run = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]) -> Path:
    return made_once(tmp_path_factory, "graded_survey", lambda folder: write_survey(folder, voorwerp)) / "survey"


@pytest.fixture
def survey(made: Path, tmp_path: Path) -> Path:
    """A survey with the selections "best" (0 to 9), "seen" (20) and "nothing" (21)."""
    path = shutil.copytree(made, tmp_path / "survey")
    with opened(path) as desk:
        for name, rows in (("best", np.arange(10)), ("seen", np.array([20])), ("nothing", np.array([21]))):
            keep(desk, name, rows)
    return path


@pytest.fixture
def vet(survey: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``vet("make", "Lenses", …)``: what the command printed; with ``code=2`` its error."""

    def run(what: str, *arguments: object, code: int = 0) -> str:
        assert main(["vet", what, str(survey), *map(str, arguments)]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


def test_a_campaign_from_its_subjects_to_its_candidates(vet: Run, survey: Path, tmp_path: Path) -> None:
    assert "has no campaign" in vet("list")
    told = ["--scheme", "0-3", "--graders", 2, "--known", "seen", "--duds", "nothing", "--audit", 6]
    said = vet("make", "Lenses", "--selection", "best", *told)
    campaign_id = re.search(r"\(([0-9a-f]{12})\)", said)[1]  # type: ignore[index]
    assert (
        "10 subjects of the selection “best”, 2 graders each; mixed in: 6 random draws, 1 known object, 1 dud" in said
    )
    assert f"shows it at /vet/{campaign_id}" in said
    votes = tmp_path / "votes.csv"
    lines = [f"{FIRST_ID + i},{who},{3 if i < 2 else 0}" for i in range(10) for who in ("grader-1", "grader-2")]
    votes.write_text("\n".join(["objid,expert,rating", *lines, f"{FIRST_ID + 50},grader-1,3"]) + "\n")
    said = vet("import", "Lenses", votes)
    assert "read: id from “objid”, grader from “expert”, grade from “rating”" in said
    assert "20 new, 0 changed, 0 there already, of 2 graders" in said
    assert "0 new, 0 changed, 20 there already" in vet("import", campaign_id, votes)
    assert "10" in vet("list")
    shown = vet("show", "Lenses")
    assert "3  almost certain (3): Features are clear and need no follow-up to be believed." in shown
    assert "20 votes of 2 graders: 10 subjects have one, 10 all of theirs; 2 found, 0 disputed" in shown
    assert "2 of 10" in shown  # purity
    assert "is closed: its grades are columns and a truth" in vet("close", "Lenses")
    opened_again = Survey.open(survey)
    assert opened_again.column("grade_lenses_value")[:3].tolist() == [3, 3, 0]
    opened_again.close()
    file = tmp_path / "candidates.csv"
    assert f"written: {file}, {file}.json" in vet("export", "Lenses", file, "--found")
    assert pd.read_csv(file)["source_id"].tolist() == [FIRST_ID, FIRST_ID + 1]
    assert json.loads(Path(f"{file}.json").read_text())["scheme"] == "0 to 3"
    for suffix in (".parquet", ".vot", ".fits", ".reg", ".pdf", ".html", ".json"):
        assert "written" in vet("export", "Lenses", tmp_path / f"candidates{suffix}")
    vet("export", "Lenses", tmp_path / "labels.parquet", "--for", "training")
    assert len(pd.read_parquet(tmp_path / "labels.parquet")) == 10
    assert "is open again" in vet("reopen", "Lenses")


def test_later_outcomes_come_one_by_one_or_as_a_file(vet: Run, survey: Path, tmp_path: Path) -> None:
    assert "1 outcome kept" in vet("outcome", FIRST_ID, "confirmed", "--source", "a spectrum")
    file = tmp_path / "later.csv"
    file.write_text(f"id,outcome,source\n{FIRST_ID},confirmed,a spectrum\n{FIRST_ID + 1},Rejected,a model\n")
    assert "1 outcome kept; 1 said so already" in vet("outcome", file)
    with Ledger(survey, Survey.open(survey).info.survey_id) as ledger:
        told = [(entry.subject_id, entry.payload["outcome"]) for entry in ledger.entries("outcome")]
    assert told == [(FIRST_ID, "confirmed"), (FIRST_ID + 1, "rejected")]


def test_a_scheme_of_ones_own_is_a_file(vet: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    grades = [{"key": "1", "name": "arc", "value": 1, "definition": "An arc is seen."}]
    grades.append({"key": "0", "name": "none", "value": 0, "definition": "No arc is seen."})
    file.write_text(json.dumps({"name": "Arcs", "grades": grades, "positive": 1}))
    vet("make", "Arcs", "--selection", "best", "--scheme", file)
    assert "1  arc (1): An arc is seen." in vet("show", "Arcs")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["make", "A"], "say what is graded, by one of --selection, --boundary and --top"),
        (["make", "A", "--selection", "best", "--top", ".1"], "by one of --selection, --boundary and --top"),
        (["make", "A", "--selection", "bets"], 'there is no selection "bets"; did you mean "best"?'),
        (["make", "A", "--selection", "best", "--scheme", "abc"], 'there is no scheme "abc"; there are abcx, 0-3'),
        (["make", "A", "--selection", "best", "--scheme", "no.json"], "there is no file no.json with a scheme"),
        (["make", "A", "--selection", "best", "--limit", "9"], "some grades must reach the limit 9, and some not"),
        (["make", "A", "--selection", "best", "--audit", "500"], "500 audit draws cannot come from the 50 subjects"),
        (["make", "A", "--selection", "best", "--graders", "0"], "each subject has 1 to 100 graders, not 0"),
        (["make", "A", "--selection", "best", "--version", "1"], "--version is a boundary's"),
        (["show", "A"], 'there is no campaign "A"; there are: none'),
        (["export", "A", "out.xls"], "out.xls has none of the suffixes .csv, .parquet"),
        (["export", "A", "out.pdf", "--for", "training"], "labels to train on are written as .csv or .parquet, not as"),
        (["import", "A", "none.csv"], "there is no file none.csv of votes"),
        (["import", "A", "none.csv", "--means", "A"], "--means is TEXT=GRADE"),
        (["outcome", "588848901523702001"], "say what became of it: confirmed, rejected or open; "),
        (["outcome", "588848901523702001", "maybe", "--source", "x"], "'maybe' is no outcome"),
        (["outcome", "588848901523702001", "confirmed"], "says in 1 to 300 characters what it is known by"),
        (["outcome", "nobody", "confirmed", "--source", "x"], 'there is no subject "nobody" in'),
    ],
)
def test_an_error_is_one_sentence(vet: Run, arguments: list[str], sentence: str) -> None:
    said = vet(arguments[0], *arguments[1:], code=2)
    assert sentence in said
    assert said.count("\n") == 1


# ------------------------------------------------------------------------------------------------------- check, pack
def test_adjudications_and_repeats_are_no_votes_of_graders(vet: Run, survey: Path, tmp_path: Path) -> None:
    vet("make", "Lenses", "--selection", "best", "--scheme", "0-3", "--graders", 2, "--repeats", 0.2)
    with opened(survey) as desk:
        campaign_id = desk.campaigns.get("Lenses").id
        for who in ("grader-1", "grader-2"):
            keys = [item.key for item in desk.vetting.queue(campaign_id, who)]
            desk.vetting.bulk(campaign_id, who, dict.fromkeys(keys, "3" if who == "grader-1" else "0"), seconds=1.0)
        row = int(desk.agreed.disputed(campaign_id)[0])
        desk.vetting.adjudicate(campaign_id, row, "3", who="decider", seconds=1.0)
    assert "20 votes of 2 graders (beside them 1 adjudication, 4 repeats): 10 subjects" in vet("show", "Lenses")
    assert "2, 2 each" in vet("list")
    vet("export", "Lenses", tmp_path / "candidates.html")
    assert "20 votes of 2 graders, 1 adjudication, 4 repeats, " in (tmp_path / "candidates.html").read_text()


def test_check_says_which_votes_nothing_counts(vet: Run, survey: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = vet("make", "Lenses", "--selection", "best")
    campaign_id = re.search(r"\(([0-9a-f]{12})\)", said)[1]  # type: ignore[index]
    with opened(survey) as desk:
        for item in list(desk.vetting.queue(campaign_id, "grader-1"))[:3]:
            desk.vetting.vote(campaign_id, "grader-1", item.key, "A", seconds=1.0)
    assert main(["check", str(survey)]) == 0
    capsys.readouterr()
    with opened(survey) as desk:
        for told, subject in (({"grade": "Z"}, FIRST_ID), ({"grade": "A"}, 7), ({"campaign": "gone"}, FIRST_ID)):
            payload = {"campaign": campaign_id, "grade": "A", "via": "single"} | told
            desk.ledger.append("vote", payload, who="grader-1", subject_id=subject)
        undone = desk.ledger.append("vote", {"campaign": "gone", "via": "single"}, who="grader-1", subject_id=FIRST_ID)
        desk.ledger.undo(undone.id, who="grader-1")
    assert main(["check", str(survey)]) == 1
    out, err = capsys.readouterr()
    said = out + err
    assert "1 vote is with the grade 'Z', which the campaign \"Lenses\" does not have, and not counted" in said
    assert '1 vote is in the campaign "Lenses" on subjects that the survey does not have, and not counted' in said
    assert "1 vote is of the campaign gone, which the ledger does not have, and not counted" in said


def test_a_packed_survey_names_no_grader(vet: Run, survey: Path, tmp_path: Path) -> None:
    vet("make", "Lenses", "--selection", "best")
    votes = tmp_path / "votes.csv"
    votes.write_text(f"id,grader,grade\n{FIRST_ID},grader-of-old,A\n{FIRST_ID + 1},grader-of-old,B\n")
    vet("import", "Lenses", votes)
    vet("close", "Lenses")
    assert main(["pack", str(survey), str(tmp_path / "copy")]) == 0
    for file in (tmp_path / "copy").rglob("*"):
        assert not file.is_file() or b"grader-of-old" not in file.read_bytes(), file
    with opened(tmp_path / "copy") as desk:
        told = desk.vetting.votes(desk.campaigns.get("Lenses").id)
        assert sorted(told["grade"]) == ["A", "B"]
        assert re.fullmatch(r"person-[0-9a-f]{16}", told["who"][0])
        assert desk.explore.survey.column("grade_lenses")[:2].tolist() == ["A", "B"]


def test_a_campaign_by_clusters_tells_what_its_grids_saved(vet: Run, survey: Path) -> None:
    assert "no run of this survey has clusters" in vet(
        "make", "Grids", "--selection", "best", "--order", "clusters", code=2
    )
    with opened(survey) as desk:
        n = desk.explore.survey.n
        write_run(desk.explore.survey, np.arange(n) % 2, [0.0, 2.0])
    assert "has no clusters to grade by; there are cluster-1" in vet(
        "make", "Grids", "--selection", "best", "--order", "clusters", "--clusters", "other", code=2
    )
    said = vet("make", "Grids", "--selection", "best", "--order", "clusters", "--scheme", "yes-no", "--repeats", 0)
    assert "in grids, by 2 clusters of cluster-1, kept as they are now" in said
    assert "by 2 clusters of cluster-1, in grids: nothing graded yet" in vet("show", "Grids")
    for name, told in (("Whole", []), ("All", ["--selection", "all"])):
        said = vet("make", name, *told, "--order", "clusters")
        assert f"{n} subjects of the whole survey" in said
        assert "recall is not estimable" not in said  # nobody is missed
    with opened(survey) as desk:
        one = desk.campaigns.get("Grids")
        grades = {i.key: "N" for i in desk.vetting.queue(one.id, "grader-1").window(0, 5)}
        desk.vetting.bulk(one.id, "grader-1", grades, seconds=5, via="grid", n_keys=1, n_clicks=1)
    shown = vet("show", "Grids")
    assert "5 subjects in 1 key press and 1 click: 60 % fewer than one by one" in shown
    assert "5 of 5 grades were given to whole grids of a cluster" in shown
    assert "whole grids are graded cluster by cluster, novel ones first, which is no random draw" in shown
