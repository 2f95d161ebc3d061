"""The benchmarks' own frame: names, figures, a failing row, the record."""

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from explorer.survey import SUBJECTS, Survey, check
from models.artifacts import write_table
from tests.benchmarks import synthetic
from tests.benchmarks.__main__ import ROOT, chosen, groups, machine
from tests.benchmarks.dashboard import cells, change, earlier, figure, markdown, records, scale_table, wanted
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import cloud, lend_survey, write_survey
from tests.benchmarks.timing import in_turn, timed_row


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (98.76, "98.8"), (4.0, "4.00"), (0.01234, "0.0123")])
def test_a_figure_has_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


def test_every_module_with_rows_is_a_group() -> None:
    assert {"map", "page"} <= groups(long=False).keys()


def test_only_takes_a_group_or_a_row_and_refuses_other_names() -> None:
    assert chosen("map", long=False) == [("map", "map")]
    with pytest.raises(click.UsageError, match=r'no benchmark row "mpa"; there are .*map'):
        chosen("mpa", long=False)


def test_only_takes_several_with_commas() -> None:
    assert chosen("map,hover", long=False) == [("gestures", "hover"), ("map", "map")]


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
    for name in ("__init__.py", "__main__.py", "row.py", "dashboard.py"):
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


def row_of(name: str, ours: list[float], theirs: list[float], **held: Any) -> Row:
    a, b = float(np.median(ours)), float(np.median(theirs))
    return Row(name, "1,000 things", a, b, b / a, "ms", "another", each=ours, theirs_each=theirs, **held)


@pytest.mark.parametrize(
    ("held", "is_met", "text"),
    [
        ({}, None, ""),
        ({"target": 20}, True, "≥ 20×"),
        ({"target": 30}, False, "≥ 30×"),
        ({"limit": 45}, False, "≤ 45 ms"),
        ({"limit": 50, "target": 20}, True, "≤ 50 ms, ≥ 20×"),
        ({"limit": 45, "target": 20}, False, "≤ 45 ms, ≥ 20×"),
        ({"limit": 45, "better": "higher"}, True, "≥ 45 ms"),
    ],
)
def test_a_row_is_held_to_ratio_and_limit(held: dict[str, Any], is_met: bool | None, text: str) -> None:
    row = row_of("a", [50.0], [1000.0], **held)
    assert (row.is_met, wanted(row)) == (is_met, text)


def test_the_table_of_the_map_has_every_line_at_every_size_and_marks_misses() -> None:
    rows = [
        row_of("map-wheel", [50.0], [1000.0], limit=45, target=20),
        row_of("scale-1500k-wheel", [40.0], [45.0], limit=45),  # the first that the line names counts
        row_of("scale-10m-wheel", [40.0], [50.0], target=1 / 1.3),
    ]
    told = cells(rows)
    assert len(told) == 30
    wheel = {cell["size"]: cell for cell in told[:3]}
    assert wheel["1.5 M"]["row"] == "map-wheel"
    assert wheel["1.5 M"]["is_met"] is False
    assert wheel["10 M"]["is_met"] is True
    assert wheel["100 M"]["row"] is None
    screen = Console(width=200, record=True, file=io.StringIO())
    screen.print(scale_table(rows))
    printed = screen.export_text()
    assert "≤ 45 ms, ≥ 20× missed" in printed
    assert "≥ 0.769× met" in printed
    assert "| 50.0 ms (20.0×) | ≤ 45 ms, ≥ 20×: missed | 40.0 ms (1.25×) |" in markdown(told)
    assert scale_table([row_of("page-idle", [1.0], [2.0])]) is None


def test_a_change_counts_where_it_is_more_than_both_runs_scatter() -> None:
    rng = np.random.default_rng(3)

    def times(median: float, scatter: float) -> list[float]:
        return [float(t) for t in median * np.exp(rng.normal(0, scatter, 15))]

    before = row_of("a", times(100, 0.02), times(1000, 0.02))
    assert change(before, row_of("a", times(80, 0.02), times(1000, 0.02))).verdict == "better"
    assert change(before, row_of("a", times(130, 0.02), times(1000, 0.02))).verdict == "worse"
    assert change(before, row_of("a", times(110, 0.5), times(1000, 0.5))).verdict == "within noise"
    slow = change(before, row_of("a", times(200, 0.02), times(2000, 0.02)))  # the machine was slow, not the code
    assert slow.verdict == "within noise"
    assert slow.theirs == pytest.approx(0.5, rel=0.05)
    busy = change(before, row_of("a", times(150, 0.02), times(4000, 0.02)))  # which slowed the alternative more
    assert (busy.net > 2, busy.verdict) == (True, "within noise")


def test_of_rates_more_is_better_and_without_single_measurements_it_takes_more() -> None:
    def rate(ours: float) -> Row:
        return Row("a", "1,000 things", ours, 10.0, ours / 10, "images/s", "another")

    assert change(rate(100), rate(130)).verdict == "better"
    assert change(rate(100), rate(70)).verdict == "worse"
    assert change(rate(100), rate(90)).verdict == "within noise"


def test_a_row_is_compared_with_the_last_that_measured_the_same(tmp_path: Path) -> None:
    def keep(name: str, *rows: Row) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": [asdict(row) for row in rows]}))

    old = asdict(row_of("map", [50.0, 51, 52], [90.0, 91, 92]))
    for field in ("limit", "better", "each", "theirs_each"):  # as rows were before
        del old[field]
    (tmp_path / "20260101-000000.json").write_text(json.dumps({"rows": [old]}))
    keep("20260102-000000", row_of("other", [1.0], [1.0]))
    keep("20260103-000000", replace(row_of("map", [5.0], [9.0]), what="20 things"))
    keep("20260104-000000", row_of("map", [40.0, 41, 42], [90.0, 91, 92]))
    (tmp_path / "20260105-000000.json").write_text("{")
    kept = records(tmp_path)
    assert [record["name"][7] for record in kept] == ["1", "2", "3", "4"]
    ((record, found),) = earlier(kept[-1], kept)
    assert record["name"] == "20260101-000000"
    assert found.ours == pytest.approx(51 / 41)


def test_kernels_are_timed_in_turn_and_what_compiles_does_not_count() -> None:
    calls: list[str] = []
    mine, other = in_turn(lambda: calls.append("a"), lambda: calls.append("b"), rounds=5, warm=2)
    assert "".join(calls) == "ab" * 7
    assert (len(mine), len(other)) == (5, 5)
    assert [len(found) for found in in_turn(lambda: None, rounds=9, warm=0, at_most_s=0)] == [3]


def test_a_timed_row_keeps_its_single_measurements() -> None:
    row = timed_row("sum", "1,000 numbers", lambda: sum(range(1000)), lambda: sum(range(5000)), "more", unit="µs")
    assert len(row.each) == len(row.theirs_each) == 15
    assert row.ours == np.median(row.each)
    assert row.ratio == row.theirs / row.ours
