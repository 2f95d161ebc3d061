"""`explorer.survey`: reading a survey folder, its runs and maps, and everything that may be wrong with one."""

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.errors import IngestError, SchemaError, SurveyError, UsageError
from explorer.ingest.build import create_table_only
from explorer.ingest.images import CreateOptions, create
from explorer.survey import SUBJECTS_SCHEMA, Link, Pack, Survey, SurveyInfo, check, counted, notices
from models import artifacts
from models.artifacts import Run, write_table
from models.images import Crop, Stretch
from tests.galaxies import write_galaxies

N = 12
FROZEN = Path(__file__).parent / "frozen" / "survey_v1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of twelve galaxies with a score run of ten of them and a map of nine."""
    folder = tmp_path_factory.mktemp("survey")
    paths = write_galaxies(folder / "images", N)
    rows = [f"{100 - i},images/{path.name},{'ab'[i % 2]},{i if i else ''}" for i, path in enumerate(paths)]
    (folder / "m.csv").write_text("id,path,kind,mag\n" + "\n".join(rows) + "\n")
    for _ in create(folder / "survey", [folder / "m.csv"], CreateOptions(size=32, id_column="id", workers=1)):
        pass
    survey = folder / "survey"
    ids = np.arange(100, 100 - N, -1)[2:][::-1]
    write_run(survey / "runs" / "20260101-000000-score", "score", "2026-01-01T00:00:00+00:00", n_rows=len(ids))
    columns = {
        "subject_id": ids,
        "split": ["train"] * 5 + ["unseen"] * 5,
        "image_score": np.linspace(0, 1, 10),
        "feature_score": np.linspace(1, 2, 10),
        "anomaly_score": [*np.linspace(0, 1, 9), np.nan],
        "quality": ["ok"] * 9 + ["edge"],
        "of_our_own": np.arange(10),
    }
    latents = np.arange(40, dtype=np.float32).reshape(10, 4)
    artifacts.write_scores(survey / "runs" / "20260101-000000-score", latents, columns)
    write_run(survey / "runs" / "20260102-000000-train", "train", "2026-01-02T00:00:00+00:00")
    write_run(survey / "runs" / "20260103-000000-train", "train", "2026-01-03T00:00:00+00:00", state="running")
    (survey / "runs" / "20260104-000000-train").mkdir()
    (survey / "runs" / "20260104-000000-train" / "run.json").write_text("{")
    placed = np.arange(27, dtype=np.float32).reshape(9, 3)
    write_run(survey / "maps" / "20260105-000000-map", "map", "2026-01-05T00:00:00+00:00", "map.json", n_rows=9)
    artifacts.write_coordinates(survey / "maps" / "20260105-000000-map", ids[:9], placed)
    return survey


def write_run(folder: Path, kind: str, created_at: str, name: str = "run.json", **more: Any) -> None:
    run = Run(folder.name, kind, "0", {}, created_at=created_at, **{"state": "done", **more})
    run.write(folder / name)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy to break, without the broken run."""
    shutil.copytree(made, tmp_path / "survey")
    shutil.rmtree(tmp_path / "survey" / "runs" / "20260104-000000-train")
    return tmp_path / "survey"


# ------------------------------------------------------------------------------------------------------------ reading
def test_columns_say_what_they_hold(made: Path) -> None:
    survey = Survey.open(made)
    columns = {column.name: (column.dtype, column.unit) for column in survey.columns()}
    assert list(columns)[: len(SUBJECTS_SCHEMA)] == SUBJECTS_SCHEMA.names
    assert columns["subject_id"] == columns["source_id"] == columns["duplicate_group"] == ("id", None)
    assert columns["ra"] == ("number", "deg")
    assert columns["half"] == columns["kind"] == ("category", None)
    assert columns["mag"] == ("number", None)
    survey.close()


def test_whole_columns_and_categories_are_in_row_order(made: Path) -> None:
    survey = Survey.open(made)
    assert np.array_equal(survey.column("mag"), [np.nan, *range(1, N)], equal_nan=True)
    assert survey.column("mag").dtype == np.float64
    assert survey.column("kind").tolist() == ["a", "b"] * 6
    codes, labels = survey.category("kind")
    assert (codes.tolist(), labels, codes.dtype) == ([0, 1] * 6, ["a", "b"], np.int32)
    codes, labels = survey.category("mag")
    assert codes[0] == -1
    assert labels[codes[5]] == "5"
    assert survey.column("mag") is survey.column("mag")
    with pytest.raises(UsageError, match=r'column "knd" is not in subjects.parquet; did you mean "kind"'):
        survey.column("knd")
    survey.close()


def test_rows_and_ids(made: Path) -> None:
    survey = Survey.open(made)
    assert survey.n == N
    assert survey.rows_of([100, 89, 7, 95, -1]).tolist() == [0, 11, -1, 5, -1]
    assert survey.rows_of(survey.subject_ids[::-1]).tolist() == list(range(N))[::-1]
    assert survey.row_of_source("95") == 5
    assert survey.row_of_source("095") is None
    assert survey.source_ids([3, 0]) == ["97", "100"]
    assert survey.subject(0)["mag"] is None
    assert survey.subject(11)["source_id"] == "89"
    for row in (-1, N):
        with pytest.raises(SurveyError, match=f"row {row} is not in"):
            survey.subject(row)
        with pytest.raises(SurveyError, match=f"row {row} is not in"):
            survey.original(row)
    survey.close()


def test_consecutive_ids_are_rows() -> None:
    survey = Survey(Path(), None, SimpleNamespace(stamp=None), np.arange(3))  # type: ignore[arg-type]
    assert survey.rows_of([2, 0, 3, -5]).tolist() == [2, 0, -1, -1]


def test_what_volunteers_said_is_columns_like_any_other(made: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(made, tmp_path / "survey"))
    with contextlib.closing(Survey.open(made)) as survey:
        assert survey.columns_of_crowd() == []
        n, before = survey.n, [column.name for column in survey.columns()]
        ids = survey.column("source_id")

        def say(fractions: Any, **more: Any) -> bool:
            said = {
                "chosen_fraction": pa.array(fractions, pa.float32()),
                "source_id": pa.array(["no"] * len(fractions)),
            }
            write_table(made / "crowd.parquet", pa.table(said | more))
            return survey.refresh()

        assert say([0.25] * n)
        assert survey.generation == 1 and survey.columns_of_crowd() == ["chosen_fraction"]
        assert [column.name for column in survey.columns()] == [*before, "chosen_fraction"]
        assert not survey.varies("chosen_fraction")
        assert survey.column("source_id") is ids  # the survey's own come first, and are not read again
        assert say(np.linspace(0, 1, n), tag_group=pa.array(["ring"] + [None] * (n - 1)))
        assert survey.varies("chosen_fraction") and survey.column("chosen_fraction")[-1] == 1
        codes, labels = survey.category("tag_group")
        assert codes.tolist() == [0] + [-1] * (n - 1) and labels == ["ring"]
        assert survey.subject(0)["tag_group"] == "ring" and survey.subject(0)["source_id"] == ids[0]
        assert not survey.refresh()
        assert say([0.5] * (n + 1))  # made for another survey, or before an `add`: as if it were not there
        assert survey.columns_of_crowd() == []
        (made / "crowd.parquet").write_bytes(b"half")
        assert not survey.refresh()
        with pytest.raises(UsageError, match="chosen_fraction"):
            survey.column("chosen_fraction")


def test_runs_are_newest_first_and_unreadable_ones_left_out(made: Path) -> None:
    survey = Survey.open(made)
    assert [run.run_id for run in survey.runs()] == ["20260102-000000-train", "20260101-000000-score"]
    assert survey.runs(state=None)[0].run_id == "20260103-000000-train"
    assert [run.kind for run in survey.runs("score")] == ["score"]
    assert [run.run_id for run in survey.maps()] == ["20260105-000000-map"]
    assert survey.maps(state="running") == []
    assert survey.run_folder("a") == made / "runs" / "a"
    for name in ("", "..", "a/b", "../../etc"):
        with pytest.raises(SurveyError, match="is not the name of a folder"):
            survey.run_folder(name)
    survey.close()


def test_a_run_in_a_folder_of_another_name_is_left_out(copy: Path) -> None:
    write_run(copy / "runs" / "copied", "score", "2026-01-08T00:00:00+00:00")
    record = copy / "runs" / "copied" / "run.json"
    record.write_text(record.read_text().replace('"copied"', '"../../elsewhere"'))
    survey = Survey.open(copy)
    assert [run.run_id for run in survey.runs("score")] == ["20260101-000000-score"]
    survey.close()


def test_scores_and_coordinates_are_aligned_with_rows(made: Path) -> None:
    survey = Survey.open(made)
    scores = survey.scores("20260101-000000-score")
    assert set(scores) == {"split", "image_score", "feature_score", "anomaly_score", "quality", "of_our_own"}
    assert np.array_equal(scores["of_our_own"], [np.nan, np.nan, *range(9, -1, -1)], equal_nan=True)
    assert scores["image_score"].dtype == np.float32
    assert scores["split"].tolist() == [None, None, *["unseen"] * 5, *["train"] * 5]
    assert np.isnan(scores["anomaly_score"][2])
    latents, rows = survey.latents("20260101-000000-score")
    assert rows.tolist() == list(range(11, 1, -1))
    assert latents[0].tolist() == [0, 1, 2, 3]
    assert isinstance(latents, np.memmap)
    coordinates = survey.coordinates("20260105-000000-map")
    assert coordinates.dtype == np.float32
    assert coordinates[11].tolist() == [0, 1, 2]
    assert np.isnan(coordinates[:3]).all()
    with pytest.raises(SurveyError, match=r"scores.parquet is missing"):
        survey.scores("20260102-000000-train")
    survey.close()


def test_opening_needs_neither_torch_nor_zarr_and_is_quick_at_a_million_rows(made: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from explorer.survey import Survey; Survey.open(sys.argv[1]); "
        "print({'torch', 'zarr'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(made)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
    n = 1_000_000
    columns = {f.name: pa.nulls(n, f.type) for f in SUBJECTS_SCHEMA}
    columns["subject_id"] = pa.array(np.arange(n)[::-1])
    pq.write_table(pa.table(columns, schema=SUBJECTS_SCHEMA), tmp_path / "subjects.parquet")
    shutil.copy(made / "survey.toml", tmp_path)
    times = []
    for _ in range(3):
        start = time.process_time()
        Survey.open(tmp_path).close()
        times.append(time.process_time() - start)
    assert min(times) < 0.2


# ------------------------------------------------------------------------------------------------------- survey.toml
def test_survey_info_round_trips(tmp_path: Path) -> None:
    info = SurveyInfo(
        survey_id="u",
        name='a "b"\\c\nd \x7f é',
        size=64,
        bands=("r", "g"),
        crop="resize",
        extent=None,
        created_at="now",
        default_run="r1",
        notes=("one", "two"),
        stretch=Stretch("percentile", (-1e-12, 0.5), (1e16, 3.0), (0.5, 99.5)),
        originals="link",
        pixel_scale_arcsec=0.396,
        extent_arcsec=30.0,
        reading={"hdu": "SCI", "n": 2},
    )
    info.write(tmp_path / "survey.toml")
    assert SurveyInfo.read(tmp_path / "survey.toml") == info


def test_another_schema_version_is_one_sentence(copy: Path) -> None:
    text = (copy / "survey.toml").read_text()
    (copy / "survey.toml").write_text(text.replace("schema_version = 2", "schema_version = 3"))
    with pytest.raises(
        SchemaError, match="has schema version 3; this Voorwerp reads version 2; a newer one may read it"
    ):
        Survey.open(copy)
    assert len(check(copy)) == 1


def test_an_older_schema_version_says_how_it_is_brought_up_to_date() -> None:
    with pytest.raises(
        SchemaError, match=r"has schema version 1.* `voorwerp migrate .*survey_v1` brings it up to date"
    ):
        Survey.open(FROZEN)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("size = 32", 'size = "32"'), "lacks size, or it is not of type int"),
        (lambda text: text.replace("survey_id", "other"), "lacks survey_id"),
        (lambda text: text + "=", "is not readable TOML"),
        (lambda text: "", "has schema version None"),
    ],
)
def test_a_broken_survey_toml_is_one_sentence(copy: Path, change: Any, sentence: str) -> None:
    (copy / "survey.toml").write_text(change((copy / "survey.toml").read_text()))
    with pytest.raises(SurveyError, match=sentence):
        Survey.open(copy)


def test_what_is_no_survey(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(SurveyError, match="is not a survey: there is no such folder"):
        Survey.open(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    with pytest.raises(SurveyError, match=r"is not a survey: it has no survey.toml"):
        Survey.open(tmp_path / "other")
    (tmp_path / "other" / "parts").mkdir()
    with pytest.raises(SurveyError, match="is half made; the same `voorwerp create` command again finishes it"):
        Survey.open(tmp_path / "other")
    (copy / "subjects.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SurveyError, match="is not a readable Parquet file"):
        Survey.open(copy)
    (copy / "subjects.parquet").unlink()
    with pytest.raises(SurveyError, match=r"subjects.parquet is missing; the survey is incomplete"):
        Survey.open(copy)


# ---------------------------------------------------------------------------------------------------------------- check
def test_a_sound_survey_has_no_problem(copy: Path, made: Path) -> None:
    assert check(copy) == []
    (problem,) = check(made)
    assert "run.json is not readable JSON" in problem


def test_every_problem_is_said_at_once(copy: Path) -> None:
    table = pq.read_table(copy / "subjects.parquet")
    ids = table.column("subject_id").to_pylist()
    table = table.set_column(0, SUBJECTS_SCHEMA.field(0), pa.array([ids[1], *ids[1:]], pa.int64()))
    pq.write_table(table, copy / "subjects.parquet")
    (copy / "images.zarr" / "c" / "0" / "0" / "0" / "0").unlink()
    (copy / "originals" / "00000.pack").write_bytes(b"short")
    offsets = np.load(copy / "thumbnails" / "00000.npy")
    np.save(copy / "thumbnails" / "00000.npy", offsets[:-1])
    np.save(copy / "runs" / "20260101-000000-score" / "latents.npy", np.zeros((3, 4), np.float32))
    (copy / "runs" / "20260106-000000-score").mkdir()
    write_run(copy / "runs" / "20260107-000000-train", "train", "2026-01-07T00:00:00+00:00")
    (copy / "runs" / "20260107-000000-train").rename(copy / "runs" / "another")
    (copy / "maps" / "20260105-000000-map" / "coordinates.parquet").unlink()
    problems = check(copy)
    for sentence in (
        "has 1 rows whose subject_id is there already",
        "images.zarr/c/0/0/0/0 is missing: rows 0 to",
        "00000.pack has 5 bytes, its offsets say",
        "thumbnails has 11 rows, subjects.parquet 12; they must be aligned",
        "latents.npy has 3 rows, scores.parquet 10; they must be aligned",
        "20260106-000000-score is empty: it has no run.json",
        "another says that it is 20260107-000000-train; give the folder that name",
        "coordinates.parquet is missing",
    ):
        assert any(sentence in problem for problem in problems), sentence
    assert all("\n" not in problem for problem in problems)


def test_misaligned_runs_are_refused_when_they_are_read(copy: Path) -> None:
    folder = copy / "runs" / "20260101-000000-score"
    np.save(folder / "latents.npy", np.zeros((3, 4), np.float32))
    survey = Survey.open(copy)
    with pytest.raises(SurveyError, match=r"latents.npy has 3 rows, scores.parquet 10; they must be aligned"):
        survey.latents(folder.name)
    table = pq.read_table(folder / "scores.parquet")
    pq.write_table(table.set_column(0, "subject_id", pa.array(range(10))), folder / "scores.parquet")
    with pytest.raises(SurveyError, match="has 10 subjects that are not in the survey"):
        survey.scores(folder.name)
    survey.close()


def test_a_run_of_subjects_that_were_added_since_is_said_to_be_one(copy: Path) -> None:
    survey = Survey.open(copy)
    subjects = pq.read_table(copy / "subjects.parquet")
    row = subjects.slice(0, 1).set_column(0, subjects.schema.field(0), pa.array([999]))
    pq.write_table(pa.concat_tables([subjects, row]), copy / "subjects.parquet")
    survey.refresh()
    folder = copy / "runs" / "20260101-000000-score"
    table = pq.read_table(folder / "scores.parquet")
    ids = pa.array([*table.column("subject_id").to_pylist()[1:], 999])
    pq.write_table(table.set_column(0, "subject_id", ids), folder / "scores.parquet")
    with pytest.raises(SurveyError, match="has 1 subjects that were added since the survey was opened; open it again"):
        survey.scores(folder.name)
    survey.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape": [11, 32, 32, 3]}, r"holds uint8 \(11, 32, 32, 3\); uint8 \(12, 32, 32, 3\) is expected"),
        ({"zarr_format": 9}, "is not a readable Zarr array"),
    ],
)
def test_images_of_another_shape_are_refused(copy: Path, change: dict[str, Any], sentence: str) -> None:
    path = copy / "images.zarr" / "zarr.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    survey = Survey.open(copy)
    with pytest.raises(SurveyError, match=sentence):
        _ = survey.images
    assert any("images.zarr" in problem for problem in check(copy))
    shutil.rmtree(copy / "images.zarr")
    without = Survey.open(copy)
    assert without.images is None
    survey.close()


def test_a_damaged_shard_is_found(copy: Path) -> None:
    shard = copy / "images.zarr" / "c" / "0" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-7])
    assert any("cannot be read" in problem for problem in check(copy))


def test_packs(tmp_path: Path) -> None:
    pieces = [b"a", b"", b"ccc", b"dd", b"e"]
    for shard, some in enumerate((pieces[:3], pieces[3:])):
        (tmp_path / f"{shard:05d}.pack").write_bytes(b"".join(some))
        np.save(tmp_path / f"{shard:05d}.npy", np.cumsum([0, *map(len, some)]))
    pack = Pack(tmp_path)
    assert len(pack) == 5
    assert [pack.read(i) for i in range(5)] == pieces
    for rows in ([4, 0, 3, 3, 2], [1], [0, 1, 2, 3, 4], []):
        assert pack.read_many(rows) == pack.read_many(np.array(rows, np.uint32)) == [pieces[i] for i in rows]
    for beyond in (-1, 5):
        with pytest.raises(SurveyError, match=f"row {beyond} is not in"):
            pack.read_many([0, beyond])
    (tmp_path / "00001.pack").write_bytes(b"d")
    with pytest.raises(SurveyError, match=r"00001.pack ends before row 3"):
        pack.read(3)
    (tmp_path / "00001.pack").unlink()
    with pytest.raises(SurveyError, match=r"00001.pack cannot be read"):
        pack.read(4)
    np.save(tmp_path / "00001.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(SurveyError, match="is not a readable table of offsets"):
        Pack(tmp_path)
    np.save(tmp_path / "00001.npy", np.zeros(3))
    with pytest.raises(SurveyError, match=r"int64 offsets \(n \+ 1,\) are expected"):
        Pack(tmp_path)
    (tmp_path / "00001.npy").rename(tmp_path / "00002.npy")
    with pytest.raises(SurveyError, match=r"00001.npy is missing"):
        Pack(tmp_path)


def test_scattered_and_neighboring_rows_of_a_pack_are_read_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = [rng.bytes(int(n)) for n in rng.integers(0, 300, 2000)]
    for shard, first in enumerate(range(0, 2000, 512)):
        some = pieces[first : first + 512]
        (tmp_path / f"{shard:05d}.pack").write_bytes(b"".join(some))
        table = np.cumsum([0, *map(len, some)])
        with (tmp_path / f"{shard:05d}.npy").open("wb") as file:  # a later version of the format is longer in front
            np.lib.format.write_array(file, table, version=(2, 0) if shard == 1 else (1, 0))
    pack = Pack(tmp_path)
    assert len(pack) == 2000
    for rows in (rng.permutation(2000), np.arange(500, 530), rng.integers(0, 2000, 40), np.array([511, 512])):
        assert pack.read_many(rows) == [pieces[i] for i in rows]
    cut = tmp_path / "00002.npy"
    cut.write_bytes(cut.read_bytes()[:-8])
    with pytest.raises(SurveyError, match=r"00002\.npy ends before row 1535"):
        pack.read_many(np.array([0, 1535]))
    with pytest.raises(SurveyError, match=r"00002\.npy is not a readable table of offsets"):
        Pack(tmp_path)


# ----------------------------------------------------------------------------------------------------------- schema 2
def rewrite(copy: Path, change: Any) -> None:
    """Put another subjects.parquet in the place of the one that is there, as `join` does."""
    table = change(pq.read_table(copy / "subjects.parquet"))
    artifacts.write_table(copy / "subjects.parquet", table)


def test_columns_that_come_while_a_survey_is_open_are_seen_after_a_refresh(copy: Path) -> None:
    survey = Survey.open(copy)
    scores, before = survey.scores("20260101-000000-score"), survey.column("mag")
    assert survey.refresh() is False
    rewrite(copy, lambda table: table.append_column("z", pa.array(np.arange(N) / 10)))
    with pytest.raises(UsageError, match='column "z" is not in'):
        survey.column("z")
    assert survey.refresh() is True
    assert (survey.refresh(), survey.generation) == (False, 1)
    assert survey.column("z")[3] == 0.3
    assert survey.subject(3)["z"] == 0.3
    assert survey.varies("z")
    assert np.array_equal(survey.column("mag"), before, equal_nan=True)
    assert survey.scores("20260101-000000-score") is scores  # runs do not change with columns
    rewrite(copy, lambda table: table.slice(0, N - 1))
    assert survey.refresh() is False
    assert (survey.n, survey.subject(N - 1)["z"]) == (N, 1.1)
    survey.close()


def test_threads_read_on_while_a_survey_is_refreshed(copy: Path) -> None:
    survey = Survey.open(copy)
    rewrite(copy, lambda table: table.append_column("turn", pa.array([0.0] * N)))
    survey.refresh()
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                turns = survey.column("turn")
                assert len(set(turns.tolist())) == 1  # never half of one file and half of another
                later = survey.subject(5)["turn"]
                assert isinstance(later, float)
                assert later >= turns[5]
                survey.category("kind")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(1, 15):

        def with_turn(table: pa.Table, turn: int = turn) -> pa.Table:
            at = table.schema.names.index("turn")
            return table.set_column(at, "turn", pa.array([float(turn)] * N))

        rewrite(copy, with_turn)
        assert survey.refresh()
        assert survey.column("turn").tolist() == [turn] * N
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    survey.close()


def test_one_command_writes_at_a_time(copy: Path) -> None:
    survey = Survey.open(copy)
    with survey.lock():
        with (
            pytest.raises(SurveyError, match=r"another command is writing to .*; wait for it or stop it"),
            survey.lock(),
        ):
            pass
        assert Survey.open(copy).column("mag")[1] == 1  # reading goes on
    with survey.lock():
        pass
    survey.close()


def test_what_lies_beyond_the_rows_does_not_count(copy: Path) -> None:
    whole = Survey.open(copy)
    crops = whole.images[:]
    rewrite(copy, lambda table: table.slice(0, 9))
    for folder in ("runs", "maps"):
        shutil.rmtree(copy / folder)
    survey = Survey.open(copy)
    images = survey.images
    assert check(copy) == []
    assert (len(images), images.shape, images.dtype) == (9, (9, 32, 32, 3), np.uint8)
    assert np.array_equal(images[:], crops[:9])
    assert np.array_equal(images[...], crops[:9])
    assert np.array_equal(images[-2], crops[7])
    assert np.array_equal(images[6:40:2, 3], crops[6:9:2, 3])
    assert np.array_equal(images[np.array([8, 0])], crops[[8, 0]])
    for row in (9, -10, np.array([0, 9])):
        with pytest.raises(IndexError, match="are not among 9 images"):
            images[row]
    with pytest.raises(SurveyError, match="row 9 is not in"):
        survey.original(9)
    survey.close()
    whole.close()


def test_a_link_says_when_its_file_is_gone_or_another(tmp_path: Path) -> None:
    file = tmp_path / "a.fits"
    file.write_bytes(b"12345")
    link = Link.to([str(file)], member=3, x=1.5, y=2.5, context=30)
    assert Link.from_bytes(link.to_bytes()) == link
    assert link.to_bytes().startswith(b'{"link"')
    assert link.problem() is None
    file.write_bytes(b"123456")
    assert link.problem() == f"{file} has changed"
    file.unlink()
    assert link.problem() == f"{file} is gone (No such file or directory)"
    for content in (b"\x89PNG", b"{}", b"[1]"):
        with pytest.raises(SurveyError, match="a link to an original cannot be read"):
            Link.from_bytes(content)


def test_a_link_of_a_file_per_band_knows_each_of_them(tmp_path: Path) -> None:
    files = [tmp_path / f"{band}.fits" for band in "gri"]
    for file in files:
        file.write_bytes(b"12345")
    link = Link.from_bytes(Link.to(map(str, files)).to_bytes())
    assert link.problem() is None
    files[2].write_bytes(b"123456")
    assert link.problem() == f"{files[2]} has changed"
    old: dict[str, Any] = {"link": list(map(str, files)), "member": None, "x": None, "y": None, "context": None}
    found = files[0].stat()
    old |= {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
    assert Link.from_bytes(json.dumps(old).encode()).problem() is None  # it knows the first alone


def test_one_thing_is_counted_without_an_s() -> None:
    assert [counted(n, "row") for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]


def test_preprocessing_names_the_stretch_and_the_extent_on_the_sky_only_where_they_are_told() -> None:
    info = SurveyInfo("u", "n", 64, ("g", "r", "i", "z", "y"), "center", None, "now", extent_arcsec=30.0)
    survey = Survey.__new__(Survey)
    survey.info = info
    assert survey.preprocessing["extent_arcsec"] == 30.0
    assert "stretch" not in survey.preprocessing
    survey.info = dataclasses.replace(info, extent_arcsec=None, stretch=Stretch("linear", (0.0,), (1.0,)))
    assert survey.preprocessing["stretch"] == {"mode": "linear", "low": [0.0], "high": [1.0]}
    assert "extent_arcsec" not in survey.preprocessing
    assert info.rgb == (2, 1, 0)  # i, r, g
    assert info.cut == Crop(64, "center", None, 5)


# ----------------------------------------------------------------------------------------------- check, of schema 2
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda p: (p / "digests.npy").unlink(), "digests.npy is missing"),
        (lambda p: (p / "digests.npy").write_bytes(b"no"), "digests.npy is not a readable npy array"),
        (lambda p: np.save(p / "digests.npy", np.zeros((3, 2), np.uint64)), r"holds uint64 \(3, 2\); uint64 \(12, 2\)"),
        (lambda p: (p / "quarantine.parquet").unlink(), "quarantine.parquet is missing"),
        (
            lambda p: (p / "quarantine.parquet").write_bytes(b"PAR1"),
            "quarantine.parquet is not a readable Parquet file",
        ),
        (lambda p: pq.write_table(pa.table({"a": [1]}), p / "quarantine.parquet"), "lacks the column 'reason'"),
        (lambda p: shutil.rmtree(p / "images.zarr"), "images.zarr is missing"),
        (lambda p: told(p, 'mode = "percentile"'), "has a percentile stretch without its values"),
        (
            lambda p: told(p, 'mode = "linear", low = [0.0, 1.0], high = [3.0, 4.0]'),
            "has a stretch of 2 bands for 3",
        ),
        (lambda p: told(p, 'mode = "linear", low = [5.0], high = [3.0]'), "has a stretch that is not possible"),
        (lambda p: rewrite(p, torn), "has 1 duplicate groups in both halves, the first is 98"),
    ],
)
def test_every_kind_of_damage_is_said(copy: Path, damage: Any, sentence: str) -> None:
    damage(copy)
    problems = check(copy)
    assert any(re.search(sentence, problem) for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def told(copy: Path, stretch: str) -> None:
    text = (copy / "survey.toml").read_text()
    (copy / "survey.toml").write_text(text.replace('mode = "range"', stretch))


def torn(table: pa.Table) -> pa.Table:
    groups = [98, 98, *table.column("duplicate_group").to_pylist()[2:]]
    halves = ["tune", "test", *table.column("half").to_pylist()[2:]]
    halves[2] = None  # 98 itself: neither
    columns = {"duplicate_group": pa.array(groups, pa.int64()), "half": pa.array(halves, pa.string())}
    for name, values in columns.items():
        at = table.schema.names.index(name)
        table = table.set_column(at, table.schema.field(name), values)
    return table


def test_runs_of_fewer_subjects_are_worth_a_word_and_no_problem(copy: Path) -> None:
    survey = Survey.open(copy)
    assert check(copy) == []
    assert notices(survey) == [
        "20260101-000000-score: 10 of 12 subjects are scored",
        "20260105-000000-map: 9 of 12 subjects are on the map",
    ]
    (copy / "parts").mkdir()
    (copy / "parts" / "command.json").write_text("{}")
    assert "an `add` was stopped, or is at work" in notices(survey)[2]
    survey.close()


# -------------------------------------------------------------------------------------------------------- a table alone
def test_a_survey_without_images_opens_and_is_sound(tmp_path: Path) -> None:
    table = pa.table(
        {
            "source_id": ["588848901523702001", "588848901523702002", "3"],
            "ra": [10.0, 10.0001, None],
            "dec": [1.0, 1.0, None],
            "half": ["left", "right", None],
            "z": [0.1, None, 0.3],
        }
    )
    info = create_table_only(tmp_path / "s", table, "a table", ["from a test"])
    assert check(tmp_path / "s") == []
    survey = Survey.open(tmp_path / "s")
    assert (info.size, info.bands, info.crop, info.originals, info.notes) == (0, (), "none", "none", ("from a test",))
    assert survey.info == info
    assert (survey.has_images, survey.images) == (False, None)
    assert survey.subject_ids.tolist() == [588848901523702001, 588848901523702002, 3]
    assert survey.column("duplicate_group").tolist() == ["588848901523702001", "588848901523702001", "3"]
    assert survey.column("half_given").tolist() == ["left", "right", None]
    assert survey.subject(1)["z"] is None
    with pytest.raises(SurveyError, match="has no originals"):
        survey.original(0)
    survey.close()


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["a", "b", "a"], 'the table has the id "a" twice'),
        (["a", None, "b"], "the table has 1 rows without an id"),
        ([], "the table has no row"),
    ],
)
def test_a_table_whose_ids_do_not_tell_its_rows_apart_is_refused(
    tmp_path: Path, ids: list[str | None], sentence: str
) -> None:
    with pytest.raises(IngestError, match=sentence):
        create_table_only(tmp_path / "s", pa.table({"source_id": pa.array(ids, pa.string())}), "t")
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_not_put_where_something_is(copy: Path) -> None:
    with pytest.raises(IngestError, match="is there already"):
        create_table_only(copy, pa.table({"source_id": ["a"]}), "t")
