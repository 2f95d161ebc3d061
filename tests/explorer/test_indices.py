"""Indices of large maps on disk: made once, told stale when they are, and done without where nothing can be written."""

import os
import threading
from collections import deque
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.cells import CellIndex
from explorer.cli import main
from explorer.errors import NotReadyError, SurveyError
from explorer.services import indices as module
from explorer.services.explore import Color, Explore, Plane
from explorer.services.indices import Indices
from explorer.services.pack import pack
from explorer.survey import Survey, check
from tests.benchmarks.synthetic import write_survey

N = 3000
MAP, RUN = "20260101-000001-map", "20260101-000000-score"


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_survey(tmp_path / "survey", N)
    return tmp_path / "survey"


def opened(path: Path) -> Indices:
    return Indices(Survey.open(path))


def is_mapped(index: CellIndex | None) -> bool:
    return index is not None and index.folder is not None


def test_the_index_of_a_large_map_is_made_once_and_is_that_of_its_coordinates(path: Path, monkeypatch) -> None:
    indices = opened(path)
    found = indices.of_map(MAP)
    assert is_mapped(found) and found is indices.of_map(MAP)
    expected = CellIndex(*indices.survey.coordinates(MAP).T[:2])
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.x, expected.x)
    monkeypatch.setattr(Indices, "make", None)  # the next start finds it
    again = opened(path).of_map(MAP)
    assert is_mapped(again)
    np.testing.assert_array_equal(again.rows, expected.rows)
    assert not [p.name for p in (path / "maps" / MAP).glob(".index.*") if p.name != ".index.lock"]


def test_a_small_map_is_left_to_memory_unless_it_is_to_be_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", N)
    indices = opened(path)
    assert indices.of_map(MAP) is None and indices.extent(MAP) is None and indices.components(MAP) is None
    assert not (path / "maps" / MAP / "index").exists()
    assert is_mapped(indices.of_map(MAP, keep=True))


def test_it_is_made_anew_when_the_map_or_the_rows_of_the_survey_are_others(path: Path, tmp_path: Path) -> None:
    first = opened(path).of_map(MAP)
    coordinates = path / "maps" / MAP / "coordinates.parquet"
    os.utime(coordinates, ns=(1, 1))
    second = opened(path).of_map(MAP)
    assert second.source["mtime_ns"] == 1 != first.source["mtime_ns"]
    # the same map beside subjects in another order: each index says which rows it is of
    table = pq.read_table(path / "subjects.parquet")
    pq.write_table(table.take(np.arange(N)[::-1]), path / "subjects.parquet")
    survey = Survey.open(path)
    third = Indices(survey).of_map(MAP)
    np.testing.assert_array_equal(np.sort(third.rows), np.arange(N))
    np.testing.assert_array_equal(third.x, survey.coordinates(MAP)[third.rows, 0])
    assert third.source["subjects"] != second.source["subjects"]


def test_what_a_stopped_process_left_and_what_is_damaged_does_not_matter(path: Path) -> None:
    folder = path / "maps" / MAP
    opened(path).of_map(MAP)
    (folder / "index" / "rows.npy").unlink()  # not cut off: who has it mapped would fall
    (folder / "index" / "rows.npy").write_bytes(b"")
    (folder / ".index.abc.tmp").mkdir()
    (folder / ".index.abc.tmp" / "x.npy").write_bytes(b"half")
    assert is_mapped(opened(path).of_map(MAP))
    assert sorted(p.name for p in folder.iterdir() if "index" in p.name) == [".index.lock", "index"]


def test_where_nothing_can_be_written_it_is_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(CellIndex, "write", refuse)
    indices = opened(path)
    found = indices.of_map(MAP)
    assert found.folder is None and len(found) == N and found is indices.of_map(MAP)
    values = indices.column(found, ("scores.x", RUN), lambda: np.arange(N, dtype=np.float32))
    np.testing.assert_array_equal(values, found.rows)


def test_who_waits_too_long_is_told_how_far_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices, go_on = opened(path), threading.Event()
    make, told = Indices.make, threading.Event()

    def slow(self: Indices, map_id: str, progress) -> CellIndex:
        progress(0.43)
        told.set()
        assert go_on.wait(20)
        return make(self, map_id, progress)

    monkeypatch.setattr(Indices, "make", slow)
    indices.patience = 0.0
    explore = Explore(indices.survey)
    explore.indices = indices
    with pytest.raises(NotReadyError):
        explore.index(Plane(MAP))
    assert told.wait(20)
    with pytest.raises(NotReadyError, match="the map's index is being made: 43 %"):
        explore.frame(Plane(MAP), (-1, 1, -1, 1), 8, 8, Color(), "")
    assert indices.progress(MAP) == 43
    # what the page starts with does not wait for it
    (x0, x1, _, _), n = explore.extent(Plane(MAP))
    assert (n, x0 < x1) == (N, True)
    indices.patience = None
    go_on.set()
    assert is_mapped(explore.index(Plane(MAP)))
    assert indices.progress(MAP) is None


def test_it_is_begun_before_anybody_asks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices, go_on = opened(path), threading.Event()
    make, made = Indices.make, []

    def slow(self: Indices, map_id: str, progress) -> CellIndex:
        assert go_on.wait(20)
        made.append(make(self, map_id, progress))
        return made[-1]

    monkeypatch.setattr(Indices, "make", slow)
    indices.begin(MAP)
    indices.begin(MAP)
    indices.begin("no such map")
    assert indices.progress(MAP) == 0
    go_on.set()
    assert indices.of_map(MAP) is made[0] and len(made) == 1
    indices.begin(MAP)
    assert indices.progress(MAP) is None


def test_a_map_that_cannot_be_read_says_so_each_time(path: Path) -> None:
    indices = opened(path)
    file = path / "maps" / MAP / "coordinates.parquet"
    whole = file.read_bytes()
    indices.is_large(MAP)
    file.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(SurveyError, match="coordinates"):
            indices.of_map(MAP)
    file.write_bytes(whole)
    assert is_mapped(indices.of_map(MAP))


def test_explore_tells_the_same_of_a_map_on_disk_as_of_one_in_memory(path: Path, monkeypatch) -> None:
    on_disk = Explore(Survey.open(path))
    plane, rows = Plane(MAP), np.array([0, 5, 17])
    mapped = on_disk.index(plane)
    monkeypatch.setattr(module, "LARGE", N)
    in_memory = Explore(Survey.open(path))
    assert is_mapped(mapped) and in_memory.index(plane).folder is None
    assert on_disk.extent(plane) == in_memory.extent(plane)
    assert on_disk.n_on_map(MAP) == N
    for _ in range(2):  # the second time from the file
        np.testing.assert_array_equal(on_disk.at(plane, rows), in_memory.at(plane, rows))
        on_disk.indices._opened.clear()
    assert (path / "maps" / MAP / "index" / "places.npy").exists()
    assert on_disk.axes(RUN, MAP) == in_memory.axes(RUN, MAP)
    frames = [e.frame(plane, (-9, 9, -9, 9), 40, 30, Color(), "")[0].pixels for e in (on_disk, in_memory)]
    np.testing.assert_array_equal(*frames)


def test_columns_lie_beside_the_index_and_the_oldest_go_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices = opened(path)
    index, made = indices.of_map(MAP), []

    def values(k: int) -> np.ndarray:
        made.append(k)
        return np.arange(N, dtype=np.float32) + k

    def column(of: Indices, k: int) -> np.ndarray:
        return of.column(of.of_map(MAP), ("scores.x", f"run-{k}"), lambda: values(k))

    np.testing.assert_array_equal(column(indices, 1), index.rows + np.float32(1))
    column(indices, 1)
    np.testing.assert_array_equal(column(opened(path), 1), index.rows + np.float32(1))
    assert made == [1]
    # room for two: the one that was used last stays
    monkeypatch.setattr(module, "ON_DISK", 2 * (4 * N + 200))
    folder = path / "maps" / MAP / "index" / "columns"
    column(indices, 2)
    for k, file in enumerate(sorted(folder.iterdir())):
        os.utime(file, ns=(k + 1, k + 1))
    column(opened(path), 1)
    column(opened(path), 3)
    assert sorted(f.name.split("~")[0] for f in folder.iterdir()) == ["scores.x-run-1", "scores.x-run-3"]
    np.testing.assert_array_equal(column(indices, 2), index.rows + np.float32(2))  # who has it, keeps it


def test_a_key_that_lasts_changes_with_what_the_column_is_read_from(path: Path) -> None:
    indices = opened(path)
    before = (
        indices.lasting("subjects.ra"),
        indices.lasting("scores.image_score", RUN),
        indices.lasting("maps.x", "", MAP),
    )
    os.utime(path / "subjects.parquet", ns=(7, 7))
    os.utime(path / "maps" / MAP / "coordinates.parquet", ns=(7, 7))
    assert indices.lasting("subjects.ra") == before[0]  # what is read is still the old file
    assert indices.survey.refresh()
    after = (
        indices.lasting("subjects.ra"),
        indices.lasting("scores.image_score", RUN),
        indices.lasting("maps.x", "", MAP),
    )
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, False]
    assert indices.lasting("scores.image_score", RUN, mode="standardised") != before[1]


def test_who_has_the_index_of_a_map_that_was_made_anew_leaves_the_new_one_alone(path: Path) -> None:
    before = opened(path)
    old = before.of_map(MAP)
    coordinates = path / "maps" / MAP / "coordinates.parquet"
    table = pq.read_table(coordinates)
    pq.write_table(table.set_column(1, "umap_1", pa.array(-table.column("umap_1").to_numpy())), coordinates)
    after = opened(path)
    new = after.of_map(MAP)
    assert not np.array_equal(old.rows, new.rows)
    rows = np.arange(N)
    np.testing.assert_array_equal(old.at(rows)[:, 0], -new.at(rows)[:, 0])
    values = before.survey.scores(RUN)["image_score"]
    np.testing.assert_array_equal(before.score(old, RUN, "image_score"), values[old.rows])
    np.testing.assert_array_equal(after.score(new, RUN, "image_score"), values[new.rows])
    np.testing.assert_array_equal(before.score(old, RUN, "feature_score")[np.argsort(old.rows)],
                                  after.score(new, RUN, "feature_score")[np.argsort(new.rows)])  # fmt: skip


@pytest.mark.parametrize("large", [1000, 10 * N])
def test_a_crowd_that_is_counted_while_it_is_drawn_leaves_no_old_numbers(path: Path, monkeypatch, large: int) -> None:
    monkeypatch.setattr(module, "LARGE", large)

    def count(votes: np.ndarray) -> None:
        pq.write_table(pa.table({"n_votes": votes}), path / "counted")
        (path / "counted").replace(path / "crowd.parquet")

    def drawn(explore: Explore) -> np.ndarray:
        explore.frame(Plane(MAP), explore.index(Plane(MAP)).bounds, 9, 9, Color("subjects.n_votes"), "")
        found = np.empty(N)
        column = explore.paint(Plane(MAP), Color("subjects.n_votes")).column
        found[explore.index(Plane(MAP)).rows] = column.values
        return found

    count(np.arange(N) * 1.0)
    survey = Survey.open(path)
    explore = Explore(survey)
    survey.column("n_votes")
    count(np.arange(N) * 2.0)
    np.testing.assert_array_equal(drawn(explore), np.arange(N))  # nobody has looked for a new file
    assert survey.refresh()
    np.testing.assert_array_equal(drawn(explore), np.arange(N) * 2)
    np.testing.assert_array_equal(drawn(Explore(Survey.open(path))), np.arange(N) * 2)


def test_a_score_is_read_without_the_rest_of_its_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = Survey.open(path)
    expected = survey.scores(RUN)["feature_score"]
    monkeypatch.setattr(Survey, "scores", None)
    indices = Indices(survey)
    index = indices.of_map(MAP)
    np.testing.assert_array_equal(indices.score(index, RUN, "feature_score"), expected[index.rows])
    # subjects in another order than the survey's, some of them missing
    table = pq.read_table(path / "runs" / RUN / "scores.parquet")
    pq.write_table(table.take(np.arange(N)[:9:-1]), path / "runs" / RUN / "scores.parquet")
    (found,) = indices._read(path / "runs" / RUN / "scores.parquet", ["feature_score"], lambda _: None)
    np.testing.assert_array_equal(found[10:], expected[10:])
    assert np.isnan(found[:10]).all()


def test_the_command_makes_the_index_beforehand(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(path), "--map", MAP]) == 0
    said = capsys.readouterr().out
    assert f"{MAP}: 3,000 subjects in 64 × 64 cells" in said
    assert f"with image_score, feature_score, anomaly_score of {RUN}" in said
    survey = Survey.open(path)
    indices = Indices(survey)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("make", "_read"):
            patch.setattr(Indices, name, None)
        index = indices.of_map(MAP)
        found = indices.score(index, RUN, "anomaly_score")
    np.testing.assert_array_equal(found, survey.scores(RUN)["anomaly_score"][index.rows])
    before = (path / "maps" / MAP / "index" / "x.npy").stat().st_ino
    assert main(["index", str(path)]) == 0  # nothing is made twice
    assert (path / "maps" / MAP / "index" / "x.npy").stat().st_ino == before
    assert main(["index", str(path), "--map", "none"]) == 2
    assert 'there is no finished map "none"' in capsys.readouterr().err


def test_an_index_is_no_part_of_a_copy_for_others(path: Path, tmp_path: Path) -> None:
    opened(path).of_map(MAP)
    before = check(path)
    deque(pack(path, tmp_path / "copy"), maxlen=0)
    assert check(path) == before
    files = {file.name for file in (tmp_path / "copy" / "maps" / MAP).rglob("*")}
    assert files == {"coordinates.parquet", "map.json"}
    assert is_mapped(opened(tmp_path / "copy").of_map(MAP))
