"""Columns of a large survey that are mapped from files: the same as those of a small one, made once."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import explorer.survey
from explorer.caches import is_mapped
from explorer.errors import SurveyError
from explorer.kept import KEPT, Kept
from explorer.services.explore import Explore
from explorer.services.filters import columns_of
from explorer.survey import SUBJECTS, Survey, check
from models.artifacts import SCORES


@pytest.fixture
def folder(finished_survey: Path, tmp_path: Path) -> Path:
    """A copy, so that nothing is left in the one that all tests share."""
    copy = tmp_path / "survey"
    shutil.copytree(finished_survey, copy, ignore=shutil.ignore_patterns("originals", "thumbnails", "images.zarr"))
    (copy / "images.zarr").mkdir()
    return copy


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, large: int = 50) -> Survey:
    monkeypatch.setattr(explorer.survey, "LARGE", large)
    monkeypatch.setattr(explorer.survey, "_BLOCK", 64)
    return Survey.open(folder)


def told(survey: Survey) -> dict[str, object]:
    """Everything that a survey says of its columns, runs and maps, as lists."""
    explore = Explore(survey)
    run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
    found: dict[str, object] = {"ids": survey.subject_ids.tolist(), "rows": survey.rows_of([3, -1]).tolist()}
    for column in survey.columns():
        found[f"varies {column.name}"] = survey.varies(column.name)
        found[f"arrow {column.name}"] = survey.arrow(column.name).to_pylist()
        if column.dtype == "number":
            found[column.name] = [repr(v) for v in survey.column(column.name).tolist()]
        if column.dtype == "category":
            codes, labels = survey.category(column.name)
            found[column.name] = codes.tolist(), labels
    for name, values in survey.scores(run_id).items():
        found[f"score {name}"] = [repr(v) for v in values.tolist()]
    found["kinds"] = survey.score_kinds(run_id)
    codes, labels = survey.score_category(run_id, "split")
    found["split"] = [labels[c] if c >= 0 else None for c in codes]
    found["coordinates"] = [repr(v) for v in survey.coordinates(map_id).ravel().tolist()]
    found["placing"] = {name: [repr(v) for v in values.tolist()] for name, values in survey.placing(map_id).items()}
    found["subjects"] = [explore.subject(row, run_id, 0.3) for row in (0, 3, 77, 199)]
    found["titles"] = explore.colors(run_id, map_id)
    found["filters"] = columns_of(explore, run_id, map_id).kinds
    order = "scores.anomaly_score", run_id, 0.3, True
    found["order"] = explore.order(*order).tolist()
    found["page"] = explore.page(None, *order, start=20, count=9).tolist()
    return found


def test_a_large_survey_says_what_a_small_one_says(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(opened(folder, monkeypatch, 10**9)) as survey:
        expected = told(survey)
    assert not (folder / KEPT).exists()
    with closing(opened(folder, monkeypatch)) as survey:
        assert told(survey) == expected
        run_id = next(iter(Explore(survey).runs()))
        made = [survey.subject_ids, survey.column("magnitude"), survey.scores(run_id)["image_score"]]
        made += [survey.category("shape")[0], survey.coordinates(next(iter(Explore(survey).maps())))]
        for array in made:
            assert is_mapped(array)
            assert not array.flags.writeable
    assert not [problem for problem in check(folder) if KEPT in problem]

    def never(*_: object) -> None:
        raise AssertionError("it is there already")

    with monkeypatch.context() as patched:  # the next start makes nothing
        for name in ("_fill", "_fill_codes", "_fill_at", "_combined"):
            patched.setattr(explorer.survey, name, never)
        patched.setattr(explorer.survey._Columns, "varies", never)
        with closing(opened(folder, monkeypatch)) as survey:
            assert told(survey) == expected


def test_a_run_of_some_subjects_in_another_order_is_put_into_the_surveys_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    path = next((folder / "runs").glob("*/" + SCORES))
    table = pq.read_table(path)
    some = np.random.default_rng(0).permutation(len(table))[:150]
    pq.write_table(table.take(pa.array(some)), path)
    with closing(opened(folder, monkeypatch, 10**9)) as survey:
        expected = told(survey)
    with closing(opened(folder, monkeypatch)) as survey:
        assert told(survey) == expected
    ids = table.column("subject_id").to_numpy().copy()
    ids[7] = 10**6
    pq.write_table(table.set_column(0, "subject_id", pa.array(ids)), path)
    with closing(opened(folder, monkeypatch)) as survey, pytest.raises(SurveyError, match="1 subjects that are not in"):
        survey.scores(path.parent.name)["image_score"]


def test_what_was_made_of_another_file_is_made_anew_and_the_old_one_goes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(opened(folder, monkeypatch)) as survey:
        before = survey.column("magnitude").copy()
    table = pq.read_table(folder / SUBJECTS)
    at = table.schema.names.index("magnitude")
    pq.write_table(table.set_column(at, table.field(at), pa.array(before + 1, table.field(at).type)), folder / SUBJECTS)
    with closing(opened(folder, monkeypatch)) as survey:
        np.testing.assert_allclose(survey.column("magnitude"), before + 1, rtol=1e-6)
    assert len(list((folder / KEPT).glob("subjects.magnitude-*"))) == 1


def test_a_damaged_file_is_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(opened(folder, monkeypatch)) as survey:
        expected = told(survey)
    found = [path for path in (folder / KEPT).iterdir() if not path.name.startswith(".")]
    assert found
    for path in found:
        half = folder / "half"  # beside: what is mapped somewhere may not become shorter
        half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        half.replace(path)
    with closing(opened(folder, monkeypatch)) as survey:
        assert told(survey) == expected


def test_where_nothing_can_be_written_columns_are_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(opened(folder, monkeypatch, 10**9)) as survey:
        expected = told(survey)
    (folder / KEPT).write_text("no folder")
    with closing(opened(folder, monkeypatch)) as survey:
        assert told(survey) == expected
        assert not is_mapped(survey.column("magnitude"))


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path: Path):
    kept = Kept(tmp_path / KEPT)

    def half(to: np.ndarray) -> None:
        to[:2] = 1
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        kept.array("column", 1, np.float32, (4,), half)
    assert list((tmp_path / KEPT).iterdir()) == []
    assert kept.array("column", 1, np.float32, (4,), lambda to: to.fill(2)).tolist() == [2, 2, 2, 2]


def test_where_a_subject_stands_is_found_by_bisection_once_there_is_an_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with closing(opened(folder, monkeypatch)) as survey:
        explore = Explore(survey)
        run_id = next(iter(explore.runs()))
        for reference, lambda_ in (("scores.feature_score", 0.2), ("scores.anomaly_score", 0.4)):
            values = explore.values(reference, run_id, lambda_)
            finite = values[np.isfinite(values)]
            expected = [(int((finite < v).sum()), len(finite)) for v in finite[:20]]
            assert [explore.n_below(float(v), reference, run_id, lambda_) for v in finite[:20]] == expected
            explore.wait()
            with monkeypatch.context() as patched:
                patched.setattr("explorer.services.explore.below", None)  # nobody counts
                assert [explore.n_below(float(v), reference, run_id, lambda_) for v in finite[:20]] == expected


def test_infinite_scores_and_empty_texts_of_a_large_survey_are_those_of_a_small_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    path = next((folder / "runs").glob("*/" + SCORES))
    table = pq.read_table(path)
    scores, texts = table.column("feature_score").to_numpy().copy(), table.column("quality").to_pylist()
    scores[:3], scores[3:5], texts[7] = -np.inf, np.inf, ""
    columns = {name: table.column(name) for name in table.column_names} | {"feature_score": scores, "quality": texts}
    pq.write_table(pa.table(columns, schema=table.schema), path)

    def told(explore: Explore) -> list[object]:
        return [explore.subject(row, path.parent.name, 0.3) for row in range(20)]

    with closing(opened(folder, monkeypatch, 10**9)) as survey:
        expected = told(Explore(survey))
    with closing(opened(folder, monkeypatch)) as survey:
        explore = Explore(survey)
        assert told(explore) == expected
        explore.wait()  # from here on by bisection
        assert told(explore) == expected


def test_what_a_killed_process_was_writing_is_removed_and_what_another_writes_is_not(tmp_path: Path):
    kept = Kept(tmp_path / KEPT)
    kept.folder.mkdir()
    left, written = kept.folder / ".left.tmp", kept.folder / ".written.tmp"
    left.write_bytes(b"a part")
    written.write_bytes(b"a part")
    os.utime(left, (0, 0))
    kept.array("numbers", 1, np.int64, (3,), lambda to: to.fill(7))
    assert not left.exists() and written.exists()
