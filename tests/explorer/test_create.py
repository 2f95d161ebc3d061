"""`voorwerp create` from folders and manifests: what it makes, what it refuses, and that no interruption harms it."""

import csv
import errno
import io
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from explorer.cli import main
from explorer.errors import IngestError, UsageError
from explorer.ingest import build
from explorer.ingest.decoder import Decoders, decode_block
from explorer.ingest.images import CreateOptions, create
from explorer.survey import SUBJECTS_SCHEMA, Survey, check
from models.images import Crop, prepare
from tests.explorer import making
from tests.galaxies import write_galaxies
from tests.interruptions import digest_of

OBJID = 588848901523702001


def make(path: Path, *sources: Path, **options: Any) -> dict[str, Any]:
    """Create with crops of 32 px."""
    return making.make(path, *sources, **{"size": 32, **options})


def write_csv(path: Path, *rows: list[object]) -> Path:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return path


# ------------------------------------------------------------------------------------------------------ what it makes
@pytest.fixture(scope="module")
def galaxies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 galaxies, the manifest that names them (the first by an SDSS id), and a copy of one."""
    folder = tmp_path_factory.mktemp("galaxies")
    paths = write_galaxies(folder / "images", 150)
    shutil.copy(paths[4], folder / "images" / "twin.png")
    rows: list[list[object]] = [["OBJID", "file", "RA", "Dec", "kind", "mag", "code", "z", "half", "parent"]]
    for i, path in enumerate([*paths, folder / "images" / "twin.png"]):
        near = 0.0002 if i == 11 else 0  # 0.7″ from number 10
        ra = 10 + (i - (i == 11)) * 0.01 + near
        kind = "odd" if i % 7 == 0 else "ordinary"
        rows.append(
            [OBJID + i, f"images/{path.name}", ra, -5.0, kind, i / 2, f"{i:03d}", "" if i == 3 else i, i, OBJID]
        )
    write_csv(folder / "manifest.csv", *rows)
    return folder


@pytest.fixture(scope="module")
def survey(galaxies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "survey"
    totals = make(path, galaxies / "manifest.csv", path_column="file", id_column="OBJID", extent=40)
    assert (totals["n_subjects"], totals["n_quarantined"]) == (151, 0)
    return path


def test_a_survey_is_sound_and_leaves_nothing_behind(survey: Path) -> None:
    assert check(survey) == []
    assert sorted(path.name for path in survey.iterdir()) == [
        "contact_sheet.png",
        "digests.npy",
        "images.zarr",
        "originals",
        "quarantine.parquet",
        "subjects.parquet",
        "survey.toml",
        "thumbnails",
    ]


def test_rows_are_aligned_with_their_images(survey: Path, galaxies: Path) -> None:
    opened = Survey.open(survey)
    for row in (0, 63, 64, 150):
        source = galaxies / str(opened.subject(row)["image"])
        content, media_type = opened.original(row)
        assert content == source.read_bytes()
        assert media_type == ("image/png" if source.suffix == ".png" else "image/jpeg")
        made = prepare(source, Crop(32, "center", 40))
        assert np.array_equal(opened.images[row], made.crop)
        assert opened.thumbnails([row]) == [made.thumbnail]
        assert opened.subject(row)["background_rms"] == pytest.approx(made.quality[3])
    opened.close()


def test_ids_beyond_two_to_the_53_are_exact(survey: Path) -> None:
    opened = Survey.open(survey)
    assert opened.subject_ids[1] == OBJID + 1
    assert opened.rows_of([OBJID, OBJID + 2, 5]).tolist() == [0, 2, -1]
    assert opened.row_of_source(str(OBJID)) == 0
    assert opened.source_ids([0]) == [str(OBJID)]
    assert opened.column("parent")[5] == str(OBJID)
    opened.close()


def test_the_users_columns_are_kept_with_their_types(survey: Path) -> None:
    opened = Survey.open(survey)
    own = {column.name: column.dtype for column in opened.columns()[len(SUBJECTS_SCHEMA) :]}
    assert own == {
        "kind": "category",
        "mag": "number",
        "code": "text",
        "z": "number",
        "half_given": "number",
        "parent": "id",
    }
    assert opened.subject(3)["code"] == "003"
    assert opened.subject(3)["z"] is None
    assert opened.subject(5)["mag"] == 2.5
    assert opened.subject(7)["ra"] == pytest.approx(10.07)
    assert {column.name: column.unit for column in opened.columns()}["dec"] == "deg"
    opened.close()


def test_duplicates_share_a_group_and_a_half(survey: Path) -> None:
    opened = Survey.open(survey)
    groups = pq.read_table(survey / "subjects.parquet").column("duplicate_group").to_numpy()
    assert groups[150] == groups[4] == OBJID + 4  # identical pixels
    assert groups[11] == groups[10] == OBJID + 10  # 0.7″ apart
    assert len(np.unique(groups)) == 149
    half = opened.column("half")
    assert half[150] == half[4]
    assert 50 < (half == "tune").sum() < 100
    opened.close()


def test_zarr_itself_writes_the_same_bytes(survey: Path, tmp_path: Path) -> None:
    crops = zarr.open_array(survey / "images.zarr", mode="r")
    assert (crops.shape, crops.chunks, crops.dtype) == ((151, 32, 32, 3), (64, 32, 32, 3), np.uint8)
    theirs = zarr.create_array(
        tmp_path / "theirs.zarr",
        shape=crops.shape,
        dtype=crops.dtype,
        chunks=crops.chunks,
        shards=crops.shards,
        compressors=None,
    )
    theirs[:] = crops[:]
    name = "c/0/0/0/0"
    assert (tmp_path / "theirs.zarr" / name).read_bytes() == (survey / "images.zarr" / name).read_bytes()


def test_the_contact_sheet_shows_25_crops(survey: Path) -> None:
    with Image.open(survey / "contact_sheet.png") as sheet:
        assert sheet.size == (664, 664)


def test_the_number_of_processes_changes_nothing(survey: Path, galaxies: Path, tmp_path: Path) -> None:
    options = {"path_column": "file", "id_column": "OBJID", "extent": 40}
    make(tmp_path / "survey", galaxies / "manifest.csv", workers=3, **options)
    assert digest_of(tmp_path / "survey") == digest_of(survey)


def test_a_folder_is_searched_through_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "3.PNG", ".hidden.png"):
        write_galaxies(tmp_path / "one", 1, seed=ord(name[0]))
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "one" / "000.png", tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    make(tmp_path / "survey", tmp_path / "images")
    opened = Survey.open(tmp_path / "survey")
    assert opened.column("image").tolist() == ["3.PNG", "a/1.png", "b/2.png"]
    assert opened.subject_ids.tolist() == [3, 1, 2]
    assert opened.info.name == "survey"
    opened.close()


def test_file_names_that_are_there_twice_become_paths_and_ids_are_counted(tmp_path: Path) -> None:
    for i, folder in enumerate(("a", "b")):
        write_galaxies(tmp_path / "images" / folder, 1, seed=i)
    make(tmp_path / "survey", tmp_path / "images")
    opened = Survey.open(tmp_path / "survey")
    assert opened.source_ids([0, 1]) == ["a/000", "b/000"]
    assert opened.subject_ids.tolist() == [0, 1]
    opened.close()


@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_tsv_and_parquet_manifests(tmp_path: Path, suffix: str) -> None:
    paths = write_galaxies(tmp_path / "images", 4)
    manifest = tmp_path / f"manifest{suffix}"
    if suffix == ".tsv":
        with manifest.open("w") as handle:
            handle.write("Zooniverse_Subject_ID\tpath\tis_odd\n")
            handle.writelines(f"{100 + i}\timages/{p.name}\t{'true' if i else 'false'}\n" for i, p in enumerate(paths))
    else:
        table = {
            "Zooniverse_Subject_ID": pa.array(range(100, 104), pa.int32()),
            "path": pa.array([str(p) for p in paths]).dictionary_encode(),
            "is_odd": [False, True, True, True],
            "embedding": [[1.0, 2.0]] * 4,
        }
        pq.write_table(pa.table(table), manifest)
    totals = make(tmp_path / "survey", manifest)
    opened = Survey.open(tmp_path / "survey")
    assert opened.subject(2)["zooniverse_subject_id"] == 102
    assert [str(value).lower() for value in opened.column("is_odd")] == ["false", "true", "true", "true"]
    assert opened.source_ids([0]) == ["000"]
    assert [("embedding" in note) for note in totals["notes"]] == ([True] if suffix == ".parquet" else [])
    opened.close()


def test_positions_of_a_manifest_are_brought_to_one_turn_and_others_counted(tmp_path: Path) -> None:
    told = [("-0.5", 0), ("359.5", -90), ("360", 90), ("-360", 91), ("1e-20", -91), ("-1e-20", 5), ("361", 5), ("", 5)]
    rows: list[list[object]] = [["path", "ra", "dec"]]
    for path, place in zip(write_galaxies(tmp_path / "images", len(told)), told, strict=True):
        rows.append([path, *place])
    totals = make(tmp_path / "survey", write_csv(tmp_path / "m.csv", *rows))
    opened = Survey.open(tmp_path / "survey")
    nan = float("nan")
    assert opened.column("ra") == pytest.approx([359.5, 359.5, 0, 0, 1e-20, 0, nan, nan], nan_ok=True, abs=0)
    assert opened.column("dec") == pytest.approx([0, -90, 90, nan, nan, 5, 5, 5], nan_ok=True)
    for sentence in ('1 values of "ra" are not between −360', '2 values of "dec" are not between −90 and 90 deg'):
        assert sum(sentence in note for note in totals["notes"]) == 1
    opened.close()


def test_several_sources_are_joined_in_their_order(tmp_path: Path) -> None:
    write_galaxies(tmp_path / "one", 2)
    loose = write_galaxies(tmp_path / "two", 1, seed=5)[0].rename(tmp_path / "loose.png")
    first = write_csv(tmp_path / "first.csv", ["path", "n", "u"], ["one/000.png", 1, 5])
    second = write_csv(tmp_path / "second.csv", ["path", "U", "n"], ["one/001.jpg", 0.5, "x"])
    make(tmp_path / "survey", first, second, loose)
    opened = Survey.open(tmp_path / "survey")
    assert opened.source_ids(range(3)) == ["000", "001", "loose"]
    assert opened.column("n").tolist() == ["1", "x", None]
    assert np.array_equal(opened.column("U"), [np.nan, 0.5, np.nan], equal_nan=True)
    assert np.array_equal(opened.column("u"), [5, np.nan, np.nan], equal_nan=True)
    opened.close()


def test_grey_images_make_a_survey_of_one_band(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(tmp_path / "images" / f"{i}.png")
    make(tmp_path / "survey", tmp_path / "images")
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.bands == ("grey",)
    assert opened.images.shape == (3, 32, 32, 1)
    opened.close()


# ------------------------------------------------------------------------------------------------------------ bad files
def bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be subjects, and a word of each reason."""
    folder.mkdir(exist_ok=True)
    good = write_galaxies(folder.parent / "spare", 2, size=64)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "header.jpg").write_bytes(good[1].read_bytes()[:400])
    (folder / "truncated.jpg").write_bytes(good[1].read_bytes()[:-60])
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "constant.png")
    Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(folder / "missing.tif")
    huge = bytearray(good[0].read_bytes())
    huge[16:24] = (100_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge)
    os.mkfifo(folder / "pipe.png")
    return {
        "constant.png": "constant",
        "empty.png": "empty",
        "header.jpg": "the header cannot be read (Truncated File Read)",
        "huge.png": "promises",
        "missing.tif": "missing",
        "pipe.png": "regular file",
        "text.jpg": "is not a PNG",
        "truncated.jpg": "cannot be decoded",
    }


def test_bad_files_go_to_quarantine_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_galaxies(tmp_path / "images", 5)
    reasons = bad_files(tmp_path / "images")
    totals = make(tmp_path / "survey", tmp_path / "images")
    assert (totals["n_subjects"], totals["n_quarantined"]) == (5, len(reasons))
    refused = pq.read_table(tmp_path / "survey" / "quarantine.parquet").to_pylist()
    assert [row["source"] for row in refused] == sorted(reasons)
    for row in refused:
        assert reasons[row["source"]] in row["reason"]
    assert check(tmp_path / "survey") == []


def test_a_manifest_may_name_what_is_not_there(tmp_path: Path) -> None:
    write_galaxies(tmp_path / "images", 1)
    rows: list[list[object]] = [["id", "path"], ["a", "images/000.png"], ["b", "images/absent.png"], ["c", ""]]
    totals = make(tmp_path / "survey", write_csv(tmp_path / "m.csv", *rows), id_column="id")
    assert totals["n_quarantined"] == 2
    refused = pq.read_table(tmp_path / "survey" / "quarantine.parquet").to_pydict()
    assert refused["source_id"] == ["b", "c"]
    assert refused["reason"] == ["there is no such file", "the manifest gives no path"]


def test_a_file_that_kills_its_decoder_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOORWERP_TEST", "1")
    paths = [str(path) for path in write_galaxies(tmp_path / "images", 6)]
    with Decoders(Crop(32), 2) as decoders:
        decoded = list(decoders.decode([("first", paths[:3]), ("second", [paths[3], "/dev/null", paths[5]])]))
        assert [key for key, _ in decoded] == ["first", "second"]
        # a limit that no image keeps ends the process by SIGALRM, again and again
        decoders._time_limit_s = 1e-6
        (_, killed), *_ = decoders.decode([("third", paths[:2])])
        assert killed.good == []
        assert killed.bad == [
            (0, "decoding took longer than one image may", None),
            (1, "decoding took longer than one image may", None),
        ]
        decoders._time_limit_s = 30
        (_, after), *_ = decoders.decode([("fourth", paths[:2])])
        assert after.good == [0, 1]
    assert np.array_equal(after.crops, decode_block(paths[:2], Crop(32)).crops)


def test_an_image_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (7000, 7000)).save(tmp_path / "large.png", compress_level=1)
    path = write_galaxies(tmp_path, 1)[0]
    with Decoders(Crop(32), 1, memory_limit=250 << 20) as decoders:
        (_, decoded), *_ = decoders.decode([("block", [str(tmp_path / "large.png"), str(tmp_path / "large.png")])])
        assert "memory" in decoded.bad[0][1]
    assert decode_block([str(path)], Crop(32)).good == [0]


def test_nothing_but_bad_files_is_an_error_and_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / "images" / f"{i}.png").write_text("no")
    with pytest.raises(IngestError, match="none of 3 images can become a subject; of 3 the reason is: is not a PNG"):
        make(tmp_path / "survey", tmp_path / "images")
    assert not (tmp_path / "survey").exists()


# -------------------------------------------------------------------------------------------------- bad manifests
def manifest_error(tmp_path: Path, content: bytes, **options: Any) -> str:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises((IngestError, UsageError)) as caught:
        make(tmp_path / "survey", tmp_path / "m.csv", **options)
    assert not (tmp_path / "survey").exists()  # the corrected command must not meet a folder that another began
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_manifests_without_their_columns(tmp_path: Path) -> None:
    error = manifest_error(tmp_path, b"name,filename\na,b\n", path_column="filname")
    assert 'column "filname" is not in' in error
    assert 'did you mean "filename"?' in error
    assert "has a, b; name" not in manifest_error(tmp_path, b"a,b\n1,2\n")
    assert "name it with --path-column" in manifest_error(tmp_path, b"a,b\n1,2\n")
    assert "columns path and file could be it" in manifest_error(tmp_path, b"path,file\n1,2\n")
    assert 'column "ID" is not in' in manifest_error(tmp_path, b"path,id\na,1\n", id_column="ID")


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (b"id,path\n7,a.png\n8,b.png\n7,c.png\n", {"id_column": "id"}, 'has the id "7" twice (rows 1 and 3)'),
        (b"id,path\n7,a.png\n,b.png\n", {"id_column": "id"}, "has no id in row 2"),
        (b"path\na.png\na.png\n", {}, 'a.png" twice (rows 1 and 2)'),
        (b"", {}, "is empty; its first line must name the columns"),
        (b"path,id\n", {}, "has no rows"),
        (b"path,path\na,b\n", {}, 'has the column "path" twice'),
        (b"path,id\na,b,c\n", {}, "cannot be read"),
        (b"path,id\n\xff\xfe,b\n", {}, "cannot be read"),
        (b"\xff\xfepath\n", {}, "cannot be read as CSV in UTF-8"),
    ],
)
def test_broken_manifests(tmp_path: Path, content: bytes, options: dict[str, Any], sentence: str) -> None:
    assert sentence in manifest_error(tmp_path, content, **options)


def test_a_parquet_manifest_with_float_ids_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [5.88848901523702e17], "path": ["a.png"]}), tmp_path / "m.parquet")
    with pytest.raises(IngestError, match="double, which loses the last digits of long ids"):
        make(tmp_path / "survey", tmp_path / "m.parquet", id_column="id")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(IngestError, match="is not a readable Parquet file"):
        make(tmp_path / "survey", tmp_path / "broken.parquet")


def test_options_and_sources_that_are_not_possible(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    for options, sentence in (
        ({"size": 4}, "a size of 4 px is not possible"),
        ({"extent": 0}, "an extent of 0 px is not possible"),
        ({"crop": "resize", "extent": 5}, "leave it out"),
        ({"crop": "middle"}, 'there is no crop "middle"'),
    ):
        with pytest.raises(UsageError, match=sentence):
            make(tmp_path / "survey", tmp_path / "empty", **options)
    for source, sentence in (
        (tmp_path / "empty", "has no image"),
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "notes.txt", "is neither a folder"),
    ):
        with pytest.raises(IngestError, match=sentence):
            make(tmp_path / "survey", source)
    assert not (tmp_path / "survey").exists()


def test_a_folder_that_is_in_use_is_not_touched(survey: Path, tmp_path: Path) -> None:
    write_galaxies(tmp_path / "images", 2)
    before = digest_of(survey)
    with pytest.raises(IngestError, match=r"is a survey already; `voorwerp add .* SOURCE` puts more into it"):
        make(survey, tmp_path / "images")
    assert digest_of(survey) == before
    with pytest.raises(IngestError, match="is not empty and is no survey"):
        make(tmp_path, tmp_path / "images")
    (tmp_path / "project" / "parts").mkdir(parents=True)
    (tmp_path / "project" / "parts" / "precious").write_text("mine")
    with pytest.raises(IngestError, match="is not empty and is no survey"):
        make(tmp_path / "project", tmp_path / "images")
    assert (tmp_path / "project" / "parts" / "precious").read_text() == "mine"
    with pytest.raises(IngestError, match="is a file"):
        make(tmp_path / "images" / "000.png", tmp_path / "images")


# ------------------------------------------------------------------------------------------------------- interruptions
def stop_after(path: Path, sources: Path, n: int, **options: Any) -> None:
    """Leave a half-made survey behind, as if the process had gone away after `n` records of progress."""
    making = create(path, [sources], CreateOptions(**{"size": 32, "workers": 1, **options}))
    for _ in range(n):
        next(making)
    making.close()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD", 64)


@pytest.mark.usefixtures("small_shards")
def test_a_half_made_survey_is_recognised_and_only_the_same_command_goes_on(galaxies: Path, tmp_path: Path) -> None:
    images, path = galaxies / "images", tmp_path / "survey"
    stop_after(path, images, 3)
    assert not (path / "survey.toml").exists()
    assert check(path) == [f"{path} is half made; the same `voorwerp create` command again finishes it"]
    with pytest.raises(IngestError, match=r"was begun by another command \(different extent\)"):
        make(path, images, extent=20)
    make(path, images)
    make(tmp_path / "at_once", images, name="survey")
    assert digest_of(path) == {**digest_of(tmp_path / "at_once"), "survey.toml": digest_of(path)["survey.toml"]}
    with Image.open(io.BytesIO(Survey.open(path).original(0)[0])) as image:
        assert image.size == (48, 48)


@pytest.mark.usefixtures("small_shards")
def test_two_at_once_on_one_folder_are_refused(galaxies: Path, tmp_path: Path) -> None:
    making = create(tmp_path / "survey", [galaxies / "images"], CreateOptions(size=32, workers=1))
    next(making)
    with pytest.raises(IngestError, match="another `voorwerp create` is at work"):
        make(tmp_path / "survey", galaxies / "images")
    making.close()


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("step", ["_join_subjects", "_join_refused", "remove_parts"])
def test_stopped_in_the_last_step_it_resumes_to_the_same_bytes(
    galaxies: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(build.Build, step, kill)
        with pytest.raises(Killed):
            make(tmp_path / "survey", galaxies / "images", name="survey")
    totals = make(tmp_path / "survey", galaxies / "images", name="survey")
    assert totals["n_subjects"] == 151
    make(tmp_path / "at_once", galaxies / "images", name="survey")
    assert digest_of(tmp_path / "survey") == digest_of(tmp_path / "at_once")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("full_at", ["fsync", "write_table"])
def test_a_full_disk_is_one_sentence_and_the_command_goes_on_later(
    galaxies: Path, tmp_path: Path, full_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(real: Callable[..., Any]) -> Callable[..., Any]:
        left = [3]

        def act(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments)

        return act

    with monkeypatch.context() as patched:
        if full_at == "fsync":
            patched.setattr(build.os, "fsync", full(os.fsync))
        else:
            patched.setattr(build.artifacts, "write_table", full(build.artifacts.write_table))
        with pytest.raises(IngestError, match=r"the disk that holds .* is full; free some space, and the same command"):
            make(tmp_path / "survey", galaxies / "images", name="survey")
    make(tmp_path / "survey", galaxies / "images", name="survey")
    make(tmp_path / "at_once", galaxies / "images", name="survey")
    assert digest_of(tmp_path / "survey") == digest_of(tmp_path / "at_once")


# ----------------------------------------------------------------------------------------------- the command line
def test_the_command_says_how_many_of_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_galaxies(tmp_path / "images", 3)
    (tmp_path / "images" / "bad.png").write_text("no")
    path = tmp_path / "survey"
    assert main(["create", str(path), str(tmp_path / "images"), "--size", "32", "--name", "three"]) == 0
    said = capsys.readouterr().out
    assert f"3 of 4 images are subjects of {path}" in said
    assert f"1 of 4 could not be used: {path / 'quarantine.html'} shows which and why" in said
    assert str(path / "contact_sheet.png") in said
    assert main(["check", str(path)]) == 0
    assert "no problem found: 3 subjects, 0 runs, 0 maps (--deep also reads every pixel)\n" in capsys.readouterr().out
    (path / "thumbnails" / "00000.pack").unlink()
    assert main(["check", str(path)]) == 1
    assert "00000.pack is missing" in capsys.readouterr().err


def test_where_no_file_is_found_one_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\nimages/a.png\nimages/b.png\n")
    said = f"of 2 the reason is: there is no such file (for example {tmp_path}/images/a.png)"
    with pytest.raises(IngestError, match=re.escape(said)):
        make(tmp_path / "survey", tmp_path / "m.csv")


def test_single_files_are_called_by_their_names_and_their_folders_where_these_are_alike(tmp_path: Path) -> None:
    a, b = (write_galaxies(tmp_path / name, 2, seed=seed) for seed, name in enumerate("ab"))
    for sources, names in (
        ([a[0], b[1]], [a[0].name, b[1].name]),
        ([a[0], b[0]], [f"a/{a[0].name}", f"b/{a[0].name}"]),
    ):
        make(tmp_path / names[0].replace("/", "_"), *sources)
        opened = Survey.open(tmp_path / names[0].replace("/", "_"))
        assert opened.column("image").tolist() == names
        assert [opened.original(row)[0] for row in range(2)] == [path.read_bytes() for path in sources]
        opened.close()


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_galaxies(tmp_path / "images", 1)
    survey, images = str(tmp_path / "survey"), str(tmp_path / "images")
    assert main(["create", survey]) == 2
    assert main(["create", survey, images, "--cut-out", images]) == 2
    assert main(["create", survey, images, "--size", "4"]) == 2
    assert main(["create", survey, str(tmp_path / "absent")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert not Path(survey).exists()


def test_the_real_galaxies(shared_data: Path, tmp_path: Path) -> None:
    with (shared_data / "gz1_images" / "labels.csv").open() as handle:
        listed = list(csv.DictReader(handle))
    rows = [row for row in listed if row["OBJID"] == str(OBJID)] + [row for row in listed if row["CLASS"] == "1"][:50]
    for row in rows:
        row["filename"] = str(shared_data / "gz1_images" / row["filename"])
    write_csv(tmp_path / "m.csv", list(rows[0]), *[list(row.values()) for row in rows])
    make(tmp_path / "survey", tmp_path / "m.csv", path_column="filename", id_column="OBJID", size=64, extent=212)
    opened = Survey.open(tmp_path / "survey")
    assert opened.subject_ids[0] == OBJID
    assert opened.source_ids([0]) == [str(OBJID)]
    assert opened.images.shape == (51, 64, 64, 3)
    assert opened.preprocessing == {
        "size": 64,
        "crop": "center",
        "extent": 212,
        "bands": ["r", "g", "b"],
        "range": [0, 1],
    }
    opened.close()
