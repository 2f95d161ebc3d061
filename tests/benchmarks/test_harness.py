"""The benchmarks' own frame: names, figures, a failing row, the record."""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import pytest

from explorer.survey import SUBJECTS, Survey, check
from models.artifacts import write_table
from tests.benchmarks import synthetic
from tests.benchmarks.__main__ import ROOT, chosen, figure, groups, machine
from tests.benchmarks.synthetic import cloud, lend_survey, write_survey


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (98.76, "98.8"), (4.0, "4.00"), (0.01234, "0.0123")])
def test_a_figure_has_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


def test_every_module_with_rows_is_a_group() -> None:
    assert {"map", "page"} <= groups(long=False).keys()


def test_only_takes_a_group_or_a_row_and_refuses_other_names() -> None:
    assert chosen("map", long=False) == [("map", "map")]
    with pytest.raises(click.UsageError, match=r'no benchmark row "mpa"; there are .*map'):
        chosen("mpa", long=False)


def test_the_machine_is_named() -> None:
    seen = machine()
    assert seen["cores"] >= 1
    assert seen["memory_gib"] > 0
    assert seen["cpu"]


def test_a_failing_row_is_said_and_fails_the_run(tmp_path: Path) -> None:
    failing = "def fail():\n    raise RuntimeError('no such thing')\nROWS = {'failing': fail}\n"
    passing = (
        "from tests.benchmarks.row import Row\n"
        "def good():\n    return Row('good', 'a thing', 1.0, 2.0, 2.0, 's', 'another', target=3)\n"
        "ROWS = {'good': good}\n"
    )
    package = tmp_path / "tests" / "benchmarks"
    package.mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    for name in ("__init__.py", "__main__.py", "row.py"):
        (package / name).write_bytes((ROOT / "tests" / "benchmarks" / name).read_bytes())
    (package / "a.py").write_text(failing)
    (package / "b.py").write_text(passing)
    answer = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "failed: exit code 1" in answer.stdout
    assert "missed" in answer.stdout
    record = json.loads(next((tmp_path / ".bench").glob("*.json")).read_text())
    assert record["failures"] == {"failing": "exit code 1"}
    assert [row["ratio"] for row in record["rows"]] == [2.0]
    assert {"machine", "versions", "commit"} <= record.keys()


def test_the_synthetic_survey_is_sound_and_says_what_it_is(tmp_path: Path) -> None:
    write_survey(tmp_path / "synthetic", 500)
    assert check(tmp_path / "synthetic") == []
    survey = Survey.open(tmp_path / "synthetic")
    assert "synthetic" in survey.info.name
    assert (survey.coordinates(survey.maps()[0].run_id) == cloud(500)[0]).all()
    assert survey.images is None
    survey.close()


def test_a_synthetic_survey_with_pictures_has_one_a_subject(tmp_path: Path) -> None:
    write_survey(tmp_path / "synthetic", 5000, pictures=True)  # more than one file of 4,096
    survey = Survey.open(tmp_path / "synthetic")
    assert survey.has_images
    first, last = survey.thumbnails([0, 4999])
    assert first.startswith(b"\xff\xd8")
    assert last == survey.thumbnails([4999 - 4096])[0]


def test_a_large_cloud_is_made_of_chunks_and_any_smaller_one_is_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cloud(500)[0]
    monkeypatch.setattr(synthetic, "CHUNK", 200)
    chunked, score = cloud(500)
    assert (chunked[:200] == cloud(200)[0]).all()
    assert len(np.unique(chunked[:, 0])) == 500
    assert ((score > 0) & (score < 1)).all()
    spread = np.abs(chunked.mean(axis=0) - whole.mean(axis=0)) / (whole.std(axis=0) / np.sqrt(250))
    assert (spread < 5).all()  # the same blobs, as heavy


def test_a_survey_in_chunks_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CHUNK", 200)
    write_survey(tmp_path / "synthetic", 500)
    assert check(tmp_path / "synthetic") == []
    survey = Survey.open(tmp_path / "synthetic")
    assert (survey.coordinates(survey.maps()[0].run_id) == cloud(500)[0]).all()
    assert (survey.scores(survey.runs()[0].run_id)["image_score"] == cloud(500)[1]).all()
    survey.close()


def test_a_lent_survey_is_made_once_and_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "KEPT", tmp_path / "kept")
    for name in ("a", "b"):
        lend_survey(tmp_path / name, 300, pictures=True)
        survey = Survey.open(tmp_path / name)
        assert (survey.n, survey.has_images) == (300, True)
        assert survey.thumbnails([299])[0].startswith(b"\xff\xd8")
        survey.close()
    (kept,) = (tmp_path / "kept").iterdir()
    assert (tmp_path / "a" / SUBJECTS).samefile(tmp_path / "b" / SUBJECTS)
    (tmp_path / "a" / "maps" / "index").mkdir()
    write_table(tmp_path / "a" / SUBJECTS, pq.read_table(tmp_path / "a" / SUBJECTS).slice(0, 10))
    assert pq.read_metadata(kept / SUBJECTS).num_rows == 300
    assert not (kept / "maps" / "index").exists()
