"""Indexes made shard by shard are those made at once, whoever did the parts and however small they were."""

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer import pyramid, raster
from explorer.cells import ARRAYS, CellIndex, NoIndexError
from explorer.cli import main
from explorer.errors import SurveyError, UsageError
from explorer.pyramid import KEPT, Column
from explorer.raster import Aggregate, Paint, Scale, render
from explorer.services import shards
from explorer.services.cluster import DaskPool, LocalWorkers
from explorer.services.explore import Color, Explore, Plane
from explorer.services.indices import Indices
from explorer.services.shards import KIND_PATH, PREFIX, Source, Threads, build, merge
from explorer.survey import Survey
from models.artifacts import write_coordinates, write_scores
from tests.benchmarks.synthetic import write_survey

N = 60_000
#: A part has a few thousand rows, and a grid of 256 cells its strips and bands.
SMALL = 1_500_000


@pytest.fixture
def columns(tmp_path: Path) -> dict[str, np.ndarray]:
    """Points in heaps, some in one place, some without a place; a value that some lack."""
    rng = np.random.default_rng(3)
    x = (rng.integers(0, 5, N) * 3 + rng.normal(0, 0.5, N)).astype(np.float32)
    y = rng.normal(0, 4, N).astype(np.float32)
    x[1000:9000], y[1000:9000] = x[1000], y[1000]
    x[::13], y[5::29] = np.nan, np.inf
    value = rng.normal(0, 1, N).astype(np.float32)
    value[::7], value[3::700] = np.nan, np.inf
    found = {"x": x, "y": y, "value": value}
    for name, values in found.items():
        np.save(tmp_path / f"{name}.npy", values)
    return found


def assert_same(got: CellIndex, wanted: CellIndex) -> None:
    assert (got.grid, got.bounds, got.n_rows, len(got)) == (wanted.grid, wanted.bounds, wanted.n_rows, len(wanted))
    for name in ARRAYS:
        assert np.asarray(getattr(got, name)).tobytes() == np.asarray(getattr(wanted, name)).tobytes(), name


def assert_kept(index: CellIndex, name: str) -> None:
    """What is kept of each cell is that of the column's values in it."""
    assert index.folder is not None
    values = index.read_column(name)
    assert values is not None
    cell = np.repeat(np.arange(index.grid**2), np.diff(index.start))
    has = np.isfinite(values)
    known = np.bincount(cell[has], minlength=index.grid**2)
    total = np.bincount(cell[has], values[has].astype(np.float64), minlength=index.grid**2)
    squares = np.bincount(cell[has], values[has].astype(np.float64) ** 2, minlength=index.grid**2)
    high = np.full(index.grid**2, -np.inf, np.float32)
    np.maximum.at(high, cell[has], values[has])
    kept = {what: np.load(index.folder / "columns" / f"{name}.{what}.npy", allow_pickle=False) for what in KEPT}
    np.testing.assert_array_equal(kept["known"], known)
    np.testing.assert_array_equal(kept["max"], np.where(known > 0, high, np.nan))
    np.testing.assert_allclose(kept["sum"], total, atol=1e-9)
    np.testing.assert_allclose(kept["squares"], squares, atol=1e-9)


@pytest.mark.parametrize("memory", [SMALL, shards.MEMORY])
def test_an_index_out_of_core_has_the_bytes_of_one_in_memory(
    tmp_path: Path, columns: Mapping[str, np.ndarray], memory: int
) -> None:
    told: list[float] = []
    got = build(
        tmp_path / "index",
        Source.of_arrays(tmp_path, ["value"]),
        Threads(tmp_path, 2),
        memory=memory,
        progress=told.append,
    )
    wanted = CellIndex(columns["x"], columns["y"])
    assert_same(got, wanted)
    np.testing.assert_array_equal(got.read_column("value"), wanted.sorted(columns["value"]))
    assert_kept(got, "value")
    assert told == sorted(told) and told[-1] == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("aggregate", ["max", "mean", "std"])
def test_a_coarse_frame_of_what_is_kept_is_that_of_the_points(
    tmp_path: Path, columns: Mapping[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, aggregate: Aggregate
) -> None:
    monkeypatch.setattr(raster, "BUDGET", 100)
    index = build(tmp_path / "index", Source.of_arrays(tmp_path, ["value"]), Threads(tmp_path, 2))
    values = index.read_column("value")
    assert values is not None
    scale = Scale.of_spread(columns["value"], "linear") if aggregate == "std" else Scale.of(columns["value"], "linear")
    beside = tmp_path / "index" / "columns" / "value"
    of_points, of_cells = (Column(values, center=0.25, beside=where) for where in (None, beside))
    monkeypatch.setattr(pyramid, "when_there", lambda index, key, make: make())
    frames = [
        render(index, index.bounds, 60, 50, Paint.of_column(column, scale, aggregate), coarse=True)
        for column in (of_points, of_cells)
    ]
    assert frames[0].is_coarse and frames[1].is_coarse and len(np.unique(frames[0].pixels)) > 20
    np.testing.assert_allclose(frames[0].pixels.astype(int), frames[1].pixels, atol=1)  # sums are rounded elsewhere
    assert (frames[0].pixels == frames[1].pixels).mean() > 0.99
    # values are looked at where that is not what is wanted, or damaged
    words = index.inside(np.array([[-1, -9], [4, -9], [4, 9]]))
    assert of_cells.kept(index, None, "max") and not of_cells.kept(index, words, "max")
    assert not Column(values, values, 0.5, beside=beside).kept(index, None, "max")
    (tmp_path / "index" / "columns" / "value.max.npy").write_bytes(b"")
    assert not of_cells.kept(index, None, "max")


def test_a_finer_grid_and_a_wider_frame(tmp_path: Path, columns: Mapping[str, np.ndarray]) -> None:
    source = Source.of_arrays(tmp_path)
    got = build(tmp_path / "index", source, Threads(tmp_path, 2), grid=512, within=(-10, 30, -40, 40), memory=SMALL)
    assert (got.grid, got.bounds) == (512, (-10.0, 30.0, -40.0, 40.0))
    placed = np.flatnonzero(np.isfinite(columns["x"]) & np.isfinite(columns["y"]))
    assert np.array_equal(np.sort(got.rows), placed)
    np.testing.assert_array_equal(columns["x"][got.rows], got.x)
    cx = ((got.x.astype(np.float64) + 10) * (512 / 40)).astype(int)
    cy = ((got.y.astype(np.float64) + 40) * (512 / 80)).astype(int)
    assert np.array_equal(cy * 512 + cx, np.repeat(np.arange(512**2), np.diff(got.start)))


def test_nobody_has_a_place(tmp_path: Path) -> None:
    for name in ("x", "y"):
        np.save(tmp_path / f"{name}.npy", np.full(10, np.nan, np.float32))
    got = build(tmp_path / "index", Source.of_arrays(tmp_path), Threads(tmp_path, 1))
    assert_same(got, CellIndex(np.full(10, np.nan), np.full(10, np.nan)))


def test_indexes_of_parts_are_merged(tmp_path: Path, columns: Mapping[str, np.ndarray]) -> None:
    wanted = build(tmp_path / "whole", Source.of_arrays(tmp_path, ["value"]), Threads(tmp_path, 2))
    parts = []
    for k, (low, high) in enumerate([(0, 25_000), (25_000, 25_000), (25_000, N)]):
        folder = tmp_path / str(k)
        folder.mkdir()
        for name, values in columns.items():
            np.save(folder / f"{name}.npy", values[low:high])
        source = Source.of_arrays(folder, ["value"])
        build(folder / "index", source, Threads(folder, 1), grid=wanted.grid, within=wanted.bounds)
        parts.append((folder / "index", low))
    got = merge(tmp_path / "merged", parts, N, Threads(tmp_path, 2), memory=SMALL)
    assert_same(got, wanted)
    for name in ("value", *(f"value.{what}" for what in KEPT)):
        ours, theirs = (tmp_path / which / "columns" / f"{name}.npy" for which in ("merged", "whole"))
        np.testing.assert_array_equal(np.load(ours), np.load(theirs))
    # what is kept of cells adds, or is the highest
    kept = {what: [np.load(path / "columns" / f"value.{what}.npy") for path, _ in parts] for what in KEPT}
    whole = {what: np.load(tmp_path / "whole" / "columns" / f"value.{what}.npy") for what in KEPT}
    for what in ("known", "sum", "squares"):
        np.testing.assert_allclose(sum(kept[what]), whole[what], atol=1e-9)
    np.testing.assert_array_equal(np.fmax.reduce(kept["max"]), whole["max"])


def test_what_does_not_go_together_is_not_merged(tmp_path: Path, columns: Mapping[str, np.ndarray]) -> None:
    source = Source.of_arrays(tmp_path)
    build(tmp_path / "one", source, Threads(tmp_path, 1))
    build(tmp_path / "two", source, Threads(tmp_path, 1), grid=512)
    with pytest.raises(UsageError, match="over the same grid"):
        merge(tmp_path / "merged", [(tmp_path / "one", 0), (tmp_path / "two", N)], 2 * N)
    with pytest.raises(UsageError, match=r"60,000 rows from 60,000 on, and the survey 60,001"):
        merge(tmp_path / "merged", [(tmp_path / "one", 0), (tmp_path / "one", N)], N + 1)
    with pytest.raises(NoIndexError):
        merge(tmp_path / "merged", [(tmp_path / "nothing", 0)], N)
    with pytest.raises(UsageError, match="of no index"):
        merge(tmp_path / "merged", [], N)
    assert not (tmp_path / "merged").exists()


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, columns: Mapping[str, np.ndarray]) -> None:
    source = Source.of_arrays(tmp_path, ["value"])
    with pytest.raises(UsageError, match="outside 0 … 1, 0 … 1; make the index of all anew"):
        build(tmp_path / "index", source, Threads(tmp_path, 2), within=(0, 1, 0, 1))
    with pytest.raises(UsageError, match="100 is no power of two"):
        build(tmp_path / "index", source, Threads(tmp_path, 2), grid=100)
    too_many = Source(2**32, 2**32, source.x, source.y)
    with pytest.raises(UsageError, match="at most 4,294,967,295 rows"):
        build(tmp_path / "index", too_many, Threads(tmp_path, 2))
    np.save(tmp_path / "value.npy", columns["value"][:-1])  # too short: the last shard fails
    with pytest.raises(SurveyError, match="has only 59,999 values"):
        build(tmp_path / "index", source, Threads(tmp_path, 2), memory=SMALL)
    assert not (tmp_path / "index").exists() and not list(tmp_path.glob(".*"))


def test_what_the_dead_left_is_cleared_away(tmp_path: Path, columns: Mapping[str, np.ndarray]) -> None:
    dead, alive = tmp_path / f"{PREFIX}dead", tmp_path / f"{PREFIX}alive"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "lock").touch()
    with (alive / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(tmp_path / "index", Source.of_arrays(tmp_path), Threads(tmp_path, 1))
    assert alive.exists() and not dead.exists()


class Clumsy(Threads):
    """Has every part done twice, as when a worker dies after its part and before its answer."""

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        answers = list(super().map(function, parts))
        assert sorted(answers, key=lambda a: a[0]) == sorted(super().map(function, parts), key=lambda a: a[0])
        yield from answers


def test_a_part_may_be_done_again(tmp_path: Path, columns: Mapping[str, np.ndarray]) -> None:
    got = build(tmp_path / "index", Source.of_arrays(tmp_path, ["value"]), Clumsy(tmp_path, 2), memory=SMALL)
    assert_same(got, CellIndex(columns["x"], columns["y"]))


# ------------------------------------------------------------------------------------------------------- of surveys
@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey") / "survey"
    write_survey(path, N)
    return path


def first_of(survey: Survey) -> tuple[str, str]:
    return survey.maps()[0].run_id, survey.runs("score")[0].run_id


def test_workers_of_this_machine_make_the_index_that_the_app_opens(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "survey"
    shutil.copytree(made, path)
    survey = Survey.open(path)
    map_id, run_id = first_of(survey)
    folder, indices = survey.map_folder(map_id), Indices(survey)
    workers = LocalWorkers(2)
    try:
        pool = DaskPool(workers, folder, 1, KIND_PATH)
        got = shards.of_map(indices, map_id, [(run_id, "anomaly_score")], pool, memory=4_000_000)
    finally:
        workers.close()
    place, scores = survey.coordinates(map_id), survey.scores(run_id)
    wanted = CellIndex(place[:, 0], place[:, 1])
    assert_same(got, wanted)
    assert {p.name for p in folder.iterdir()} == {"coordinates.parquet", "map.json", "index", ".index.lock"}
    # the app finds both, and makes neither
    opened = Indices(survey).open(map_id)
    key = indices.lasting("scores.anomaly_score", run_id)

    def nobody() -> np.ndarray:
        raise AssertionError("it is there")

    np.testing.assert_array_equal(indices.column(opened, key, nobody), wanted.sorted(scores["anomaly_score"]))
    survey.close()


def test_the_command_makes_it_in_parts(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "survey"
    shutil.copytree(made, path)
    assert main(["index", str(path), "--out-of-core", "--memory", ".1"]) == 0
    said = capsys.readouterr().out
    assert "60,000 subjects in 256 × 256 cells" in said
    assert "with image_score, feature_score, anomaly_score of 20260101-000000-score" in said
    survey = Survey.open(path)
    map_id, run_id = first_of(survey)
    got, place = Indices(survey).open(map_id), survey.coordinates(map_id)
    assert_same(got, CellIndex(place[:, 0], place[:, 1]))
    named = {file.name.partition("-")[0] for file in (survey.map_folder(map_id) / "index" / "columns").iterdir()}
    assert named == {f"scores.{name}" for name in ("image_score", "feature_score", "anomaly_score")}
    # and colors of the app are drawn of what is kept of cells
    explore = Explore(survey)
    index = explore.indices.of_map(map_id, keep=True)
    assert index is not None
    for name, is_kept in (("feature_score", True), ("anomaly_score", False)):  # mixed of two with every λ
        paint = explore.paint(Plane(map_id), Color(f"scores.{name}", run_id))
        assert paint.column is not None and (paint.column.kept(index, None, "max") is not None) == is_kept
    survey.close()
    assert main(["index", str(path), "--workers", "2", "--scheduler", "tls://127.0.0.1:1"]) == 2
    assert "leave out one or the other" in capsys.readouterr().err


def test_a_map_and_scores_in_another_order(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "survey"
    shutil.copytree(made, path)
    survey = Survey.open(path)
    map_id, run_id = first_of(survey)
    rng = np.random.default_rng(5)
    place, scores = survey.coordinates(map_id), survey.scores(run_id)
    some, others = rng.permutation(N)[: N - 5000], rng.permutation(N)[: N - 3000]
    write_coordinates(survey.map_folder(map_id), survey.subject_ids[some], place[some])
    write_scores(
        survey.run_folder(run_id),
        None,
        {"subject_id": survey.subject_ids[others], **{name: values[others] for name, values in scores.items()}},
    )
    survey.close()
    survey = Survey.open(path)
    source = Source.of_map(survey, map_id, tmp_path, {"score": (run_id, "anomaly_score")})
    got = build(tmp_path / "index", source, Threads(tmp_path, 2), memory=SMALL)
    place = survey.coordinates(map_id)
    wanted = CellIndex(place[:, 0], place[:, 1])
    # up to the order within a cell, which is that of the file
    assert got.start.tobytes() == wanted.start.tobytes()
    cell = np.repeat(np.arange(wanted.grid**2), np.diff(wanted.start))
    order = np.lexsort((got.rows, cell))
    for name in ("x", "y", "rows"):
        assert getattr(got, name)[order].tobytes() == getattr(wanted, name).tobytes()
    column = got.read_column("score")
    assert column is not None
    np.testing.assert_array_equal(column[order], wanted.sorted(survey.scores(run_id)["anomaly_score"]))
    survey.close()


def test_a_map_of_strangers_is_refused(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "survey"
    shutil.copytree(made, path)
    survey = Survey.open(path)
    map_id, run_id = first_of(survey)
    with pytest.raises(SurveyError, match="has no column 'nonsense'"):
        Source.of_map(survey, map_id, tmp_path, {"score": (run_id, "nonsense")})
    write_coordinates(survey.map_folder(map_id), np.arange(N) + 2, np.zeros((N, 3), np.float32))
    with pytest.raises(SurveyError, match="has 2 subjects that are not in the survey"):
        Source.of_map(survey, map_id, tmp_path)
    (survey.map_folder(map_id) / "coordinates.parquet").write_bytes(b"nothing")
    with pytest.raises(SurveyError, match="is not a readable Parquet file"):
        Source.of_map(survey, map_id, tmp_path)
    survey.close()
