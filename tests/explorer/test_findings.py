"""Findings of a run as the page of runs asks for them and the command line prints them; which column is its color."""

import json
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest

from explorer.cli import main
from explorer.kinds import kinds
from explorer.ledger import Ledger
from explorer.services import explore as exploring
from explorer.services.explore import Explore
from explorer.services.jobs import JobService
from explorer.services.runs import Runs
from explorer.survey import Survey
from tests.explorer.found import FOUND, findings_of, write_found
from tests.explorer.small_survey import write_survey


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    survey = Survey.open(write_survey(tmp_path / "survey", n=12, size=8))
    write_found(survey.path, survey.subject_ids)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield Runs(JobService(survey, ledger))
    survey.close()


def test_findings_are_told_once_and_again_when_they_are_others(runs: Runs) -> None:
    told = runs.detail(FOUND, 0, 0)
    assert told["findings"]["sentences"][0].startswith("Accuracy .9 (12 of 14")
    assert told["findings"]["tables"][0]["rows"][1][2] is None
    assert "findings" not in runs.detail(FOUND, 0, 0, told["found_at"])
    findings_of(40).write(folder := runs.survey.run_folder(FOUND))
    os.utime(folder / "findings.json", ns=(1, 1))
    again = runs.detail(FOUND, 0, 0, told["found_at"])
    assert again["findings"]["matrices"][0]["counts"][0][0] == 40
    json.dumps(again, allow_nan=False)
    (folder / "findings.json").unlink()
    assert runs.detail(FOUND, 0, 0, again["found_at"])["findings"] is None


def test_pictures_have_the_words_of_their_rows_and_labels_say_that_they_are_simulated(runs: Runs) -> None:
    told = runs.detail(FOUND, 0, 0)
    assert told["grids"] == [2, 7]
    assert told["rows"]["2"] == {"rows": ["real", "made again"], "columns": 4}
    assert runs.grid(FOUND, 7).startswith(b"\x89PNG")
    assert told["labels"] == [["amateur", "the simulated votes"], ["expert", "grades of A (simulated)"]]
    assert told["inputs"] == []  # what it learned from is no run to build on again
    assert told["results"] == [["accuracy", 0.9]]
    (runs.survey.run_folder(FOUND) / "grids/00002.json").write_text("{")
    assert "2" not in runs.detail(FOUND, 0, 0)["rows"]


def test_a_map_is_colored_by_what_the_run_or_its_kind_says(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    explore = Explore(runs.survey)
    assert explore.default_color(FOUND) == "scores.predicted"
    assert explore.score_titles(FOUND) == {
        "anomaly_score": "simulated: Odd",
        "predicted": "simulated: predicted",
    }
    path = runs.survey.run_folder(FOUND) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"results": {}}))

    def with_color(color: str) -> str:
        found = kinds()
        found["autoencoder"] = replace(found["autoencoder"], color=color)
        monkeypatch.setattr(exploring, "kinds", lambda: found)
        return Explore(runs.survey).default_color(FOUND)

    assert with_color("") == "scores.anomaly_score"
    assert with_color("predicted") == "scores.predicted"
    assert with_color("of another version") == "scores.anomaly_score"


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main(["findings", *map(str, arguments)])
    told = capsys.readouterr()
    return told.out + told.err


def test_the_command_line_prints_sentences_caveats_and_tables(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, runs.survey.path)
    assert said.splitlines()[:4] == [
        FOUND,
        "  Accuracy .9 (12 of 14, 95 % interval .6 to 1).",
        "  Experts only do worse.",
        "  The labels are simulated.",
    ]
    rows = [line for line in said.splitlines() if "smooth" in line]
    assert "│ 12 │    0.9 │" in rows[0]
    assert "–" in next(line for line in said.splitlines() if "ring" in line)
    assert "tune half" in said


def test_nothing_found_is_a_sentence_and_no_terminal_is_told_what_to_do(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    found = findings_of()
    found.sentences = ["Spirals: \x1b[2J12 of 14."]
    found.write(runs.survey.run_folder(FOUND))
    assert "\x1b" not in printed(capsys, runs.survey.path, FOUND)
    (runs.survey.run_folder(FOUND) / "findings.json").unlink()
    assert f"{FOUND} has found nothing that can be printed" in printed(capsys, runs.survey.path, FOUND)
    assert f"no run of {runs.survey.path} has found anything" in printed(capsys, runs.survey.path)


def test_a_form_says_what_every_field_that_is_empty_comes_to() -> None:
    for kind in kinds().values():
        if not kind.labels:
            continue
        known = {field.name: field for field in fields(kind.config)}
        presets = set(known["preset"].metadata["choices"])
        assert presets >= {"modern", "paper"}, kind.name
        assert get_type_hints(kind.config).keys() >= set(kind.labels)
        for field in known.values():
            assert field.metadata["help"], (kind.name, field.name)
            if field.default is None:
                assert set(field.metadata.get("presets", ())) == presets, (kind.name, field.name)
